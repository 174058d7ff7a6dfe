"""Times of the visible layout's folders, which are folders of the disk.

To save a file makes another there and renames it. Programs that look at a folder's time must not
see that: to them it changed when a name in it was made, removed or given. So the time of such a
folder is remembered, shown, and put back once for each batch.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from encvault.fs.tree import moved

if TYPE_CHECKING:
    from encvault.fs.tree import Tree


class FolderTimes:
    """See the module. Its methods are called with the tree's lock held.

    Args:
        tree: the vault's.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._times: dict[str, int] = {}

    def shown(self, folder: str, mtime_ns: int) -> int:
        """What to show of a folder that has this time on the disk."""
        return self._times.get(folder, mtime_ns)

    def keep(self, folder: str) -> None:
        """What is done next to a folder is not to be seen."""
        if folder not in self._times:
            with contextlib.suppress(OSError):
                self._times[folder] = os.fstat(self._tree.folder(folder)).st_mtime_ns

    def promise(self, folder: str) -> None:
        """A name was made that the disk will have with the next batch."""
        self._times[folder] = time.time_ns()

    def touch(self, folder: str) -> None:
        """A name was made or removed; if the disk never had it, it has to be told."""
        self._times.pop(folder, None)
        with contextlib.suppress(OSError):
            os.utime(self._tree.folder(folder))

    def forget(self, folder: str) -> None:
        """A folder is gone, or the disk has its right time."""
        self._times.pop(folder, None)

    def move(self, old: str, new: str) -> None:
        """A folder has another path, and so has what is in it."""
        self._times = {moved(path, old, new): at for path, at in self._times.items()}

    def put_back(self) -> None:
        """Let all of them look as they are to."""
        for folder, mtime_ns in self._times.items():
            with contextlib.suppress(OSError):
                os.utime(self._tree.folder(folder), ns=(mtime_ns, mtime_ns))
        self._times.clear()
