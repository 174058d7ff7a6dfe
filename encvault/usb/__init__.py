"""Removable drives: which are plugged in, what lies on them, and how each is told from the others.

Nothing here locks or unlocks; that is `encvault.operations.drives`, with vaults and mounts.
"""
