"""The system's mount table. proc(5), ``/proc/pid/mountinfo``."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from typing import NamedTuple

_TABLE = "/proc/self/mountinfo"
_RELEASE = re.compile(r"([0-9]+)\.([0-9]+)")
_TELLS_SINCE = (5, 8)  # Linux, of what syncfs(2) could not write
_SYNCED_WHOLE = frozenset(
    {
        *("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "msdos"),
        *("nilfs2", "ntfs3", "ramfs", "tmpfs", "vfat", "xfs"),
    }
)
_USER = re.compile(rb"\buser_id=([0-9]+)")


class Mount(NamedTuple):
    """A line of the mount table.

    Attributes:
        path: where.
        kind: the file system's name.
        source: what is mounted.
        number: major and minor of the device, which `os.stat` gives for what is on it.
        top: the folder of the file system that is shown; ``/`` unless it is a bind mount.
        user: who mounted it, where the file system is one of a user's (FUSE); else None.
    """

    path: str
    kind: str
    source: str
    number: tuple[int, int]
    top: str
    user: int | None = None


def mounts() -> list[Mount]:
    """What this process sees mounted, the topmost last; nothing on other systems than Linux."""
    found = []
    with contextlib.suppress(OSError), open(_TABLE, "rb") as file:
        for line in file:
            mine, _dash, rest = line.partition(b" - ")
            _id, _parent, number, top, path = mine.split()[:5]
            kind, source, options = rest.split(b" ", 2)
            user = _USER.search(options)
            major, minor = number.split(b":")
            found.append(
                Mount(
                    _plain(path),
                    _plain(kind),
                    _plain(source),
                    (int(major), int(minor)),
                    _plain(top),
                    int(user[1]) if user is not None else None,
                )
            )
    return found


def mount_at(path: str) -> Mount | None:
    """What is mounted at an absolute path, or None."""
    return next((one for one in reversed(mounts()) if one.path == path), None)


def kind_of(device: int) -> str:
    """The file system's name of what has this number, as `os.stat` gives it, or ""."""
    number = (os.major(device), os.minor(device))
    return next((one.kind for one in reversed(mounts()) if one.number == number), "")


def is_synced_whole(device: int) -> bool:
    """Whether syncfs(2) makes all of a file system durable, and tells if it could not.

    A server of FUSE does not hear of it, on a block device only since lately; overlayfs keeps for
    itself what the layer below tells; what others do is not known.
    """
    return _can_tell() and kind_of(device) in _SYNCED_WHOLE


@functools.cache
def _can_tell() -> bool:
    found = _RELEASE.match(os.uname().release) if sys.platform.startswith("linux") else None
    return found is not None and (int(found[1]), int(found[2])) >= _TELLS_SINCE


def _plain(escaped: bytes) -> str:
    """A word of the table, in which spaces and line feeds are octal."""
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes((int(match[1], 8),)), escaped)
    return os.fsdecode(plain)
