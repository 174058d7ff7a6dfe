"""Two folders with the same content: what can be seen of them, and in what they differ."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_600_000_000 * 10**9  # what tests set is before, what the clock says is after
KINDS = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)
FILES = KINDS[:2]

# what Linux file systems say differently of one thing
SAME = {errno.EEXIST: errno.ENOTEMPTY, errno.EPERM: errno.EACCES}

_libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE = 1


def renameat2(old: str, new: str, flags: int) -> None:
    done = _libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)
    if done:
        raise OSError(ctypes.get_errno(), "renameat2")


def pattern(size: int, seed: int) -> bytes:
    """Bytes that differ from place to place and from write to write."""
    unit = b"".join((seed * 1_000_003 + index).to_bytes(7, "big") for index in range(53))
    return (unit * (size // len(unit) + 1))[:size]


@dataclass
class Side:
    """One of the two places.

    Attributes:
        base: of all examples.
        root: of this example.
        fds: the files that are open, in the same order on both sides.
    """

    base: Path
    root: str = ""
    fds: list[int] = field(default_factory=list)

    def at(self, path: str) -> str:
        return os.path.join(self.root, path)


def seen(top: str) -> dict[str, Any]:
    """Everything below a folder that a program can find out and that has to be the same."""
    found: dict[str, Any] = {"": _facts(top)}
    for path, kind in walk(top):
        facts = _facts(path)
        assert kind == stat.S_IFMT(facts["mode"]), "the listing knows another type"
        found[path.removeprefix(top)] = facts
    return found


def walk(top: str) -> Iterator[tuple[str, int]]:
    with os.scandir(top) as entries:
        found = list(entries)
    assert len({entry.name for entry in found}) == len(found), "a name is listed twice"
    for entry in sorted(found, key=lambda entry: entry.name):
        if entry.is_symlink():
            yield entry.path, stat.S_IFLNK
        elif entry.is_dir(follow_symlinks=False):
            yield entry.path, stat.S_IFDIR
            yield from walk(entry.path)
        else:
            yield entry.path, stat.S_IFREG


def _facts(path: str) -> dict[str, Any]:
    status = os.lstat(path)
    facts: dict[str, Any] = {
        "mode": status.st_mode,
        "owner": (status.st_uid, status.st_gid),
        "mtime": _set_time(status),
    }
    if stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(path)
        return facts
    facts["xattrs"] = {
        name: os.getxattr(path, name)
        for name in os.listxattr(path)
        if name.startswith("user.")  # others are the system's
    }
    if stat.S_ISREG(status.st_mode):
        facts["links"] = status.st_nlink
        facts["size"] = status.st_size
        with open(path, "rb", buffering=0) as file:
            facts["content"] = file.readall()
    return facts


def _set_time(status: os.stat_result) -> int | str:
    return status.st_mtime_ns if status.st_mtime_ns < NOW else "the clock's"


def difference(mount: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """What is not the same, one line each, content shortened."""
    found = []
    for path in sorted(mount.keys() | plain.keys()):
        one, other = mount.get(path), plain.get(path)
        if one is None or other is None:
            found.append(f"{path!r} is only in {'the mount' if one else 'the folder'}")
            continue
        found += [
            f"{path!r}: {name} is {one.get(name)!r:.80}, should be {other.get(name)!r:.80}"
            for name in sorted(one.keys() | other.keys())
            if one.get(name) != other.get(name)
        ]
    return found


def outcome(act: Callable[[Side], object], side: Side) -> object:
    try:
        return act(side)
    except OSError as error:
        number = error.errno or 0
        return f"error {errno.errorcode[SAME.get(number, number)]}"


def open_facts(fd: int) -> dict[str, Any]:
    status = os.fstat(fd)
    can_read = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY
    can_read = can_read and stat.S_ISREG(status.st_mode)
    return {
        "mode": status.st_mode,
        "mtime": _set_time(status),
        "removed": status.st_nlink == 0,
        "size": status.st_size,
        "content": os.pread(fd, status.st_size + 1, 0) if can_read else None,
    }
