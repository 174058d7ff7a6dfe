"""Known-answer tests; see the next commit."""


def run() -> int:
    """Run them."""
    return 0
