"""Durable operations: new files under a temporary name, locks, and what an OSError means.

The order is always the same: temporary file in the same folder, written, synced, checked, renamed,
folder synced. A crash leaves the old state or the new one; a temporary file that stays behind is
known by its name (`is_temporary`) and is removed by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from typing import TYPE_CHECKING

from encvault.errors import (
    CannotCreate,
    DestinationExists,
    EncvaultError,
    InputOutputError,
    OutOfSpace,
    SourceMissing,
    Unreadable,
    VaultBusy,
)
from encvault.fs import calls
from encvault.i18n import system_reason

if TYPE_CHECKING:
    from encvault.fs.tree import Tree
    from encvault.secret import Buffer

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; one run at a time is up to the user
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.encvault-[a-z2-7]{26}\.tmp")


def temporary_name(file_id: str) -> str:
    """The temporary name of the file with this id (26 characters)."""
    return f".encvault-{file_id}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a run that was killed may have left this file."""
    return _TEMPORARY.fullmatch(name) is not None


def discard(folder: int, name: str) -> None:
    """Remove a temporary file if it is there; used on the way out of an error."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def discard_tree(folder: int, name: str) -> None:
    """Remove a temporary folder with all that is in it, if it is there."""
    shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def write_file(
    tree: Tree, folder: str, name: str, data: Buffer, *, file_id: str, mode: int, replace: bool
) -> None:
    """Write a small file so that it exists whole or not at all, and is durable on return.

    Args:
        tree: where.
        folder: path of the folder within the tree.
        name: the file's name.
        data: its content.
        file_id: 26 characters for the temporary name.
        mode: permission bits.
        replace: whether a file of that name may be replaced.

    Raises:
        OSError: nothing was changed.
    """
    fd = tree.folder(folder)
    temporary = temporary_name(file_id)
    handle = calls.create(fd, temporary, mode)
    try:
        try:
            calls.write(handle, data)
            calls.fsync(handle)
        finally:
            os.close(handle)
        if replace:
            calls.replace(fd, temporary, name)
        else:
            calls.rename_new(fd, temporary, name)
    except BaseException:
        discard(fd, temporary)
        raise
    calls.fsync(fd)


def read_file(tree: Tree, path: str, limit: int) -> bytes:
    """A small file's content, at most `limit` bytes and one more to show that it is too large."""
    folder, _slash, name = path.rpartition("/")
    handle = calls.open_read(tree.folder(folder), name)
    try:
        return calls.read(handle, limit + 1)
    finally:
        os.close(handle)


class Lock:
    """An exclusive advisory lock on a vault; it ends with the process, however that ends.

    The lock is flock(2), so a crash leaves none (restic#2736). The file's content tells people
    who holds it.

    Attributes:
        was_interrupted: whether the run before this one was killed.

    Args:
        tree: the vault.
        path: the lock file within it.

    Raises:
        VaultBusy: another process holds it.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        folder, _slash, name = path.rpartition("/")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._fd = os.open(name, flags, 0o666, dir_fd=tree.folder(folder))
        try:
            if fcntl is not None:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "?"
            os.close(self._fd)
            raise VaultBusy(path=tree.path, holder=holder) from None
        except OSError as error:
            # a file system without locks must not make its files unusable
            if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:
                os.close(self._fd)
                raise
        self.was_interrupted = os.fstat(self._fd).st_size > 0
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next run in; the emptied file says that this one ended in order."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def storage_error(error: OSError, path: str, *, reading: bool = False) -> EncvaultError:
    """The named error for what the operating system reported.

    Args:
        error: as raised.
        path: for the message.
        reading: whether the file was being read, so that a refused permission means that this
            one file is left out.
    """
    reason = system_reason(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return OutOfSpace(path=path)
    if error.errno == errno.EEXIST:
        return DestinationExists(path=path)
    if error.errno == errno.ENOENT:
        return SourceMissing(path=path)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}:
        if reading:
            return Unreadable(path=path, reason=reason)
        return CannotCreate(path=path, reason=reason)
    return InputOutputError(path=path, reason=reason)
