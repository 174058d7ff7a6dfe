"""Files that survive: pinned folders, walks, durable writes and locks.

`calls` is the seam: the only place that changes anything on a disk. `tree` pins a folder and
resolves names beneath it without following links. `durable` combines both into the few operations
the rest of encvault may use; nothing else renames or unlinks.
"""
