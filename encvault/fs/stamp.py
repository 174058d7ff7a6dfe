"""Telling a file that has not changed without reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os

_SECOND_NS = 1_000_000_000
RACY_NS = 20_000_000  # twice the tick of a slow kernel
COARSE_RACY_NS = 2_000_000_000  # FAT keeps two seconds


class Stamp(NamedTuple):
    """What tells an unchanged file: if any of these differ, it is read again.

    Attributes:
        device, inode: the file itself.
        size: bytes.
        mtime_ns, ctime_ns: times of the last change of content and of anything.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a stat result."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @property
    def granule_ns(self) -> int:
        """For how long after a change of the file another one may get the same times."""
        coarse = self.mtime_ns % _SECOND_NS == 0 and self.ctime_ns % _SECOND_NS == 0
        return COARSE_RACY_NS if coarse else RACY_NS

    def settles_in_ns(self, now_ns: int) -> int:
        """How long until a change would show in a new stamp; 0 if it would by now.

        A change within the clock's granularity after this stamp was taken leaves no trace, as with
        git's "racy" entries. Waiting does not help with a file of the future.

        Args:
            now_ns: by the clock that gave the file its times. With another clock nothing can be
                said but that `granule_ns` after the stamp was taken a change would show.
        """
        settled = self.changed_at_ns + self.granule_ns
        return settled - now_ns if self.changed_at_ns <= now_ns < settled else 0

    @property
    def changed_at_ns(self) -> int:
        """When anything of the file changed last, as far as its times tell."""
        return max(self.mtime_ns, self.ctime_ns)
