"""Who opened what: the signed access log."""
