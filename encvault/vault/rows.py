"""The rows of the ledger: what is remembered of one file or folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from encvault.fs.stamp import Stamp

UNPROVEN = -1  # for a mode
_HALF = 1 << 63


class FileRow(NamedTuple):
    """One remembered file.

    Attributes:
        dir, name: where the plain file is, relative to its root.
        stamp: the plain file when it was read.
        ids: file id of the sealed file, and those of its further parts.
        older: ids of what that one replaces, which may still be there.
        is_proven: whether the sealed file has its name, and it is sure of what it was made.
    """

    dir: str
    name: str
    stamp: Stamp
    ids: tuple[str, ...]
    older: tuple[str, ...] = ()
    is_proven: bool = True

    def unproven(self) -> FileRow:
        """The row before the sealed file has its name: such that the file is sealed again."""
        # `_replace` takes three times as long, and each file has one
        return FileRow(self.dir, self.name, self.stamp, self.ids, self.older, is_proven=False)


class Known(NamedTuple):
    """What is remembered of one name: a row as it is stored, for there may be a million of them.

    Attributes:
        size, mtime_ns, ctime_ns, inode: of the plain file. There is no `mtime_ns` if a run has
            removed it, and no `ctime_ns` if the row is not proven: a number that stood for that
            could be some file's, and with none no file is like the row.
        ids_text: ids of the sealed file and its parts, with blanks between.
        older_text: of what that one replaced, likewise.
    """

    size: int
    mtime_ns: int | None
    ctime_ns: int | None
    inode: int
    ids_text: str
    older_text: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the sealed file and its parts."""
        return tuple(self.ids_text.split())

    @property
    def older(self) -> tuple[str, ...]:
        """Of what that one replaced."""
        return tuple(self.older_text.split())

    @property
    def all(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The ids of the sealed file and of what it replaced, each first object first."""
        return self.ids, self.older

    @property
    def is_proven(self) -> bool:
        """Whether it is sure that the sealed file got its name, and of what it was made."""
        return self.ctime_ns is not None

    def matches(self, stamp: Stamp) -> bool:
        """Whether the plain file is unchanged. Device numbers change at reboot and do not count."""
        return self[:4] == numbers_of(stamp)


def stored(number: int) -> int:
    """A number as SQLite keeps it, in 64 bits with a sign.

    Some file systems have inodes above that, and a time can be after 2262. Numbers are compared
    and not ordered here, so one that wraps around does as well.
    """
    return (number + _HALF) % (2 * _HALF) - _HALF


def numbers_of(stamp: Stamp) -> tuple[int, int, int, int]:
    """What is kept of a stamp, as it is `stored`: size, times and inode."""
    _device, inode, size, mtime_ns, ctime_ns = stamp
    if min(stamp) >= -_HALF and max(stamp) < _HALF:  # nearly always
        return size, mtime_ns, ctime_ns, inode
    return stored(size), stored(mtime_ns), stored(ctime_ns), stored(inode)


def columns_of(row: FileRow) -> tuple[int, int, int | None, int]:
    """The same of a row, as `Known` has it."""
    size, mtime_ns, ctime_ns, inode = numbers_of(row.stamp)
    return size, mtime_ns, ctime_ns if row.is_proven else None, inode


class FolderRow(NamedTuple):
    """One remembered folder of the hidden layout.

    Attributes:
        folder: folder id.
        objects: file id of its sealed object, then of older ones that may still be there.
        mode, mtime_ns: the plain folder when it was sealed; the time as it is `stored`.
    """

    folder: str
    objects: tuple[str, ...]
    mode: int
    mtime_ns: int

    @property
    def is_proven(self) -> bool:
        """Whether it is sure that its object got its name."""
        return self.mode != UNPROVEN

    def unproven(self) -> FolderRow:
        """The row before its object has its name: such that the folder is sealed again."""
        return self._replace(mode=UNPROVEN)
