"""The seam: every system call that reads or changes user data passes through here.

Each function is the call it is named after, with short writes completed and the flags that
encvault always wants. A test sets `probe` to record the calls, to fail one of them, or to kill
the process before one; in use it is None and costs one comparison.

Names are relative to a folder's descriptor; nothing here takes a path from the root.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.secret import Buffer

probe: Callable[[str, int, str], None] | None = None
"""Called before each call with its name, the descriptor and the name concerned ("" if none)."""

_CLOEXEC = os.O_CLOEXEC if hasattr(os, "O_CLOEXEC") else 0
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_RENAME_NOREPLACE = 1
_CODEC, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()  # os.fsencode's
_PR_SET_PDEATHSIG = 1
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def _probe(name: str, fd: int, target: str = "") -> None:
    if probe is not None:
        probe(name, fd, target)


def open_folder(name: str, folder: int | None = None) -> int:
    """Descriptor of a folder; a symbolic link is refused when `folder` is given."""
    follow = 0 if folder is None else _NOFOLLOW
    return os.open(name, os.O_RDONLY | _DIRECTORY | _CLOEXEC | follow, dir_fd=folder)


def open_read(folder: int, name: str) -> int:
    """Descriptor of a file for reading; never follows a link, never waits for a FIFO's writer."""
    _probe("open_read", folder, name)
    return os.open(name, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _CLOEXEC | _BINARY, dir_fd=folder)


def open_unreadable(folder: int, name: str) -> int:
    """Descriptor of a file that its owner, this user, may not read; its mode stays as it is.

    Raises:
        OSError: it is another one's, or the system has no proc(5).
    """
    found = os.open(name, getattr(os, "O_PATH", 0) | _NOFOLLOW | _CLOEXEC, dir_fd=folder)
    try:
        path, mode = f"/proc/self/fd/{found}", stat.S_IMODE(os.fstat(found).st_mode)
        os.chmod(path, mode | stat.S_IRUSR)
        try:
            return os.open(path, os.O_RDONLY | _CLOEXEC)
        finally:
            os.chmod(path, mode)
    finally:
        os.close(found)


def create(folder: int, name: str, mode: int = 0o600) -> int:
    """Descriptor of a new file for writing and reading back; FileExistsError if it exists."""
    _probe("create", folder, name)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
    return os.open(name, flags, mode, dir_fd=folder)


def open_update(folder: int, name: str, mode: int = 0o600) -> int:
    """Descriptor of a file for reading and writing, made if it is missing; follows no link."""
    _probe("open_update", folder, name)
    flags = os.O_RDWR | os.O_CREAT | _NOFOLLOW | _NONBLOCK | _CLOEXEC | _BINARY
    return os.open(name, flags, mode, dir_fd=folder)


def read_into(fd: int, buffer: memoryview) -> int:
    """Fill `buffer` as far as the file goes; return the count."""
    _probe("read", fd)
    done = 0
    while done < len(buffer):
        count = os.readv(fd, [buffer[done:]])
        if not count:
            break
        done += count
    return done


def read(fd: int, size: int) -> bytes:
    """Up to `size` bytes, fewer only at the end of the file."""
    _probe("read", fd)
    data = os.read(fd, size)
    if not data or len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := os.read(fd, missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` from a place in the file as far as the file goes; return the count."""
    _probe("read_at", fd)
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def write_at(fd: int, data: Buffer, offset: int) -> None:
    """Write all of `data` at a place in the file."""
    _probe("write_at", fd)
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def write(fd: int, data: Buffer) -> None:
    """Write all of `data`."""
    _probe("write", fd)
    size = len(data)
    done = os.write(fd, data)
    while done < size:
        done += os.write(fd, memoryview(data)[done:])


def truncate(fd: int, size: int) -> None:
    """Set a file's size; the new end is a hole."""
    _probe("truncate", fd)
    os.ftruncate(fd, size)


def fsync(fd: int) -> None:
    """Make a file durable; where a file system cannot sync one file, all of it is synced."""
    _probe("fsync", fd)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:  # restic#4016
            raise
        sync_filesystem(fd)


def fsync_folder(fd: int) -> None:
    """Make the names in a folder durable. File systems that cannot sync a folder are forgiven."""
    _probe("fsync", fd)
    try:
        os.fsync(fd)
    except OSError as error:
        # network file systems: gocryptfs#390
        if error.errno not in _NOT_SUPPORTED:
            raise


def sync_filesystem(fd: int) -> bool:
    """Make everything on the file system of `fd` durable, in one call instead of one per file.

    Returns:
        False where only all file systems can be asked together, which then tell of no failure.
    """
    _probe("sync_filesystem", fd)
    if (syncfs := _libc("syncfs")) is not None:
        if syncfs(fd) == 0:
            return True
        code = ctypes.get_errno()
        if code != errno.ENOSYS:  # as a filter of system calls may say
            raise OSError(code, os.strerror(code))
    os.sync()
    return False


def die_with(parent: int) -> None:
    """Have this process, a child, killed when its parent ends; only Linux can.

    Args:
        parent: its number, as the parent knew it before the fork.
    """
    if (prctl := _libc("prctl")) is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL.value)
        if os.getppid() != parent:  # it ended before that
            os._exit(0)


def rename_new(folder: int, old: str, new: str, into: int | None = None) -> None:
    """Rename; FileExistsError if `new` exists.

    Args:
        folder: where `old` is.
        old: its name.
        new: its new name.
        into: where `new` shall be, if elsewhere on the same file system.
    """
    _probe("rename_new", folder, f"{old}\0{new}")
    target = folder if into is None else into
    renameat2 = _libc("renameat2")
    if renameat2 is not None:
        names = old.encode(_CODEC, _ERRORS), new.encode(_CODEC, _ERRORS)
        code = renameat2(folder, names[0], target, names[1], _RENAME_NOREPLACE)
        if code == 0:
            return
        number = ctypes.get_errno()
        if number not in _NOT_SUPPORTED:
            raise OSError(number, os.strerror(number), new)
    try:
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED | {errno.EPERM, errno.EMLINK, errno.EISDIR}:
            raise
    else:
        os.unlink(old, dir_fd=folder)
        return
    # FAT has neither: the vault's lock keeps other runs out between these two calls
    if exists(target, new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=target)


def link(folder: int, old: str, new: str) -> bool:
    """Give a file a second name; FileExistsError if `new` exists.

    Returns:
        False where files have one name only.
    """
    _probe("link", folder, f"{old}\0{new}")
    try:
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED | {errno.EPERM, errno.EMLINK}:
            raise
        return False
    return True


def replace(folder: int, old: str, new: str, into: int | None = None) -> None:
    """Rename; an existing `new` is replaced at once. `into` is as in `rename_new`."""
    _probe("replace", folder, f"{old}\0{new}")
    os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder if into is None else into)


def unlink(folder: int, name: str) -> None:
    """Remove a file's name."""
    _probe("unlink", folder, name)
    os.unlink(name, dir_fd=folder)


def mkdir(folder: int, name: str, mode: int = 0o777) -> None:
    """Make a folder."""
    _probe("mkdir", folder, name)
    os.mkdir(name, mode, dir_fd=folder)


def rmdir(folder: int, name: str) -> None:
    """Remove an empty folder."""
    _probe("rmdir", folder, name)
    os.rmdir(name, dir_fd=folder)


def symlink(target: bytes, folder: int, name: str) -> None:
    """Make a symbolic link."""
    _probe("symlink", folder, name)
    os.symlink(target, os.fsencode(name), dir_fd=folder)


def exists(folder: int, name: str) -> bool:
    """Whether the name is taken, by anything, a dangling link included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@functools.cache
def _libc(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if name == "renameat2" and function is not None:
        function.argtypes = [
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_uint,
        ]
    return function
