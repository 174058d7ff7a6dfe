"""The folders that a run has been in, kept until its end, when they get their times back."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NUMBERS = struct.Struct("=HqIII")  # a time in ns alone would not fit after 2262
_SECOND_NS = 1_000_000_000


class Visited(NamedTuple):
    """One folder as it was when it was met.

    Attributes:
        path: relative to the walk's top.
        mode: permission bits.
        mtime_ns: time of its last change.
        owner: user and group id.
    """

    path: str
    mode: int
    mtime_ns: int
    owner: tuple[int, int]


class VisitedFolders:
    """Folders that were met each before those inside it; given in the opposite order.

    A tree may have a million of them, and a stat result takes half a kilobyte. Here each takes the
    bytes of its path and twenty more, and nothing among what is made and dropped for each file,
    whose memory could not be given back then.
    """

    def __init__(self) -> None:
        self._paths = bytearray()  # with a zero after each
        self._numbers = bytearray()

    def add(self, path: str, status: os.stat_result) -> None:
        """Remember one more, with its status when it was met."""
        self._paths += os.fsencode(path) + b"\0"
        seconds, ns = divmod(status.st_mtime_ns, _SECOND_NS)
        mode = stat.S_IMODE(status.st_mode)
        self._numbers += _NUMBERS.pack(mode, seconds, ns, status.st_uid, status.st_gid)

    def __iter__(self) -> Iterator[Visited]:
        """Each folder after those inside it."""
        end = len(self._paths) - 1
        for at in range(len(self._numbers) - _NUMBERS.size, -1, -_NUMBERS.size):
            begin = self._paths.rfind(b"\0", 0, end) + 1
            mode, seconds, ns, user, group = _NUMBERS.unpack_from(self._numbers, at)
            path = os.fsdecode(bytes(self._paths[begin:end]))
            yield Visited(path, mode, seconds * _SECOND_NS + ns, (user, group))
            end = begin - 1

    def unvisited(self, paths: Iterable[str]) -> set[str]:
        """Those of the paths that the run was not in."""
        found = set(paths)
        found.difference_update(folder.path for folder in self)
        return found
