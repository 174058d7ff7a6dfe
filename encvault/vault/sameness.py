"""Whether a file of a source is the one that is remembered, where inodes may tell nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from encvault.fs.stamp import Stamp
from encvault.vault.rows import stored

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from encvault.fs.rules import Keeping
    from encvault.vault.rows import Known


class Sameness:
    """Compares the files of one folder at a time with what is remembered of them.

    FAT and most servers of FUSE make inodes up anew at each mount, often the same number for the
    same name, whatever file has it by then. In a run after which originals may be removed, a file
    from there never counts as unchanged: what has its name, size and time may be another that was
    never sealed. Neither does it in other runs if another remembered file of its folder has its
    size and time: one of the two may have taken the other's name.

    What is not told there, if a rename leaves no trace in the times: that the name of a file was
    taken by one of its size and time that is not remembered in this folder, be it from another
    folder or new since the last run.

    Args:
        keeping: of the file systems that are met.
        may_remove: for a run after which originals may be removed.

    Attributes:
        lasting_device: number of the folder's file system, if a file on it has its inode for good;
            else -1. For the loop that meets nearly all files: there a file with the inode that is
            remembered is no other, and needs no call.
    """

    def __init__(self, keeping: Keeping, *, may_remove: bool) -> None:
        self.lasting_device = -1
        self._keeping = keeping
        self._may_remove = may_remove
        self._rows: Collection[Known] = ()
        self._twins: set[tuple[object, ...]] | None = None

    def enter(self, rows: Collection[Known], device: int) -> None:
        """Go on with another folder.

        Args:
            rows: what is remembered of its files.
            device: number of the file system that it is on.
        """
        self.lasting_device = device if self._keeping.inodes(device) else -1
        self._rows, self._twins = rows, None

    def is_another(self, known: Known, status: os.stat_result) -> bool:
        """Whether a file of the size and the times that are remembered counts as another one."""
        if self._keeping.inodes(status.st_dev):
            return known.inode != stored(status.st_ino)
        return self._may_remove or (known.size > 0 and self._has_twin(known))

    def _has_twin(self, known: Known) -> bool:
        if self._twins is None:
            seen = Counter(row[:2] for row in self._rows)
            self._twins = {both for both, count in seen.items() if count > 1}
        return known[:2] in self._twins

    def matches(self, known: Known, status: os.stat_result) -> bool:
        """Whether a file is as it is remembered."""
        stamp = Stamp.of(status)
        if not self._keeping.inodes(stamp.device):
            if self.is_another(known, status):
                return False
            stamp = stamp._replace(inode=known.inode)
        return known.matches(stamp)
