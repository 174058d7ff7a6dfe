"""Transparency-log machinery: Merkle trees, signed notes, checkpoints, proofs, policies."""
