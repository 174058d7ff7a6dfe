"""Whether a file of a source is the one that is remembered, where inodes may tell nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from encvault.fs.stamp import Stamp
from encvault.vault.ledger import stored

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from encvault.fs.rules import Keeping
    from encvault.vault.ledger import Known


class Sameness:
    """Compares the files of one folder at a time with what is remembered of them.

    FAT and most servers of FUSE make inodes up anew at each mount. There they count only where
    size and time leave a doubt: of two files in a folder that have both in common, one may have
    taken the other's name. One that comes from another folder so is not told from the former.

    Args:
        keeping: of the file systems that are met.
        counts_always: for a run after which originals may be removed.
    """

    def __init__(self, keeping: Keeping, *, counts_always: bool) -> None:
        self._keeping = keeping
        self._counts_always = counts_always
        self._rows: Collection[Known] = ()
        self._twins: set[tuple[int, ...]] | None = None

    def enter(self, rows: Collection[Known]) -> None:
        """Go on with another folder, of whose files this is remembered."""
        self._rows, self._twins = rows, None

    def inode_counts(self, known: Known, device: int) -> bool:
        """Whether a file that has another inode than is remembered is another file."""
        if self._counts_always or self._keeping.inodes(device):
            return True
        if self._twins is None:
            seen = Counter(row[:2] for row in self._rows)
            self._twins = {both for both, count in seen.items() if count > 1}
        return known[:2] in self._twins

    def matches(self, known: Known, status: os.stat_result) -> bool:
        """Whether a file is as it is remembered."""
        stamp = Stamp.of(status)
        if known.inode != stored(stamp.inode) and not self.inode_counts(known, stamp.device):
            stamp = stamp._replace(inode=known.inode)
        return known.matches(stamp)
