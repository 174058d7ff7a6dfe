"""Durable operations: new files under a temporary name, and what an OSError means.

The order is always the same: temporary file in the same folder, written, synced, checked, renamed,
folder synced. A crash leaves the old state or the new one; a temporary file that stays behind is
known by its name (`is_temporary`) and is removed by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING

from encvault.encoding import encode_base32
from encvault.errors import (
    CannotCreate,
    CannotRemove,
    DestinationExists,
    EncvaultError,
    InputOutputError,
    OutOfSpace,
    SourceMissing,
    Unreadable,
    VaultBusy,
)
from encvault.fs import calls
from encvault.fs.locks import claim, lock
from encvault.fs.sharing import share_as
from encvault.i18n import system_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from encvault.fs.tree import Tree
    from encvault.secret import Buffer

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}
_OURS = ".encvault-"
_TOMBSTONE = re.compile(r"\.encvault-[a-z2-7]{26}\.gone")
_TEMPORARY = re.compile(r"\.encvault-[a-z2-7]{26}\.tmp")


def temporary_name(file_id: str) -> str:
    """The temporary name of the file with this id (26 characters)."""
    return f".encvault-{file_id}.tmp"


def stable_id(name: str) -> str:
    """An id that is the same at every run, for a temporary name or to tell names apart."""
    return encode_base32(hashlib.sha256(os.fsencode(name)).digest()[:16])


def own_temporary(tree: Tree, name: str) -> str:
    """The id of the temporary file for the one file `name` of a folder, which is free on return.

    It is the same at every run, so that the next run of a killed command removes what that one
    left.

    Raises:
        VaultBusy: the name is in use by another run.
        OSError: the left file cannot be removed.
    """
    file_id = stable_id(name)
    temporary = temporary_name(file_id)
    alone = claim(tree)
    if calls.exists(tree.fd, temporary):
        if not alone:
            raise VaultBusy(path=os.path.join(tree.path, name), holder=temporary)
        if stat.S_ISDIR(os.stat(temporary, dir_fd=tree.fd, follow_symlinks=False).st_mode):
            discard_tree(tree, temporary)
        else:
            calls.unlink(tree.fd, temporary)
    return file_id


def is_temporary(name: str) -> bool:
    """Whether a run that was killed may have left this file."""
    return name.startswith(_OURS) and _TEMPORARY.fullmatch(name) is not None


def tombstone_name(file_id: str) -> str:
    """What the first object of a file in parts is called while the others are removed."""
    return f".encvault-{file_id}.gone"


def is_tombstone(name: str) -> bool:
    """Whether a run was killed while it removed the parts that this object names."""
    return _TOMBSTONE.fullmatch(name) is not None


def discard(folder: int, name: str) -> None:
    """Remove a temporary file if it is there; used on the way out of an error."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def discard_tree(tree: Tree, path: str) -> OSError | None:
    """Remove a folder with all that is in it, however deep, or as much of it as can be.

    Returns:
        Why the first thing that stays does, or None. That it is not there is no reason.
    """
    failures: list[OSError] = []
    folders = []
    for folder in tree.walk(path):
        folders.append(folder.path)
        failures += filter(None, [folder.error])
        for entry in folder.entries:
            if entry.kind != "dir":
                _try(failures, calls.unlink, tree, folder.path, entry.name)
    for at in reversed(folders):
        above, _slash, name = at.rpartition("/")
        tree.forget(at)
        _try(failures, calls.rmdir, tree, above, name)
    return failures[0] if failures else None


def _try(
    failures: list[OSError], remove: Callable[[int, str], None], tree: Tree, folder: str, name: str
) -> None:
    try:
        remove(tree.folder(folder), name)
    except FileNotFoundError:
        pass
    except OSError as error:
        failures.append(error)


def write_file(
    tree: Tree,
    folder: str,
    name: str,
    data: Buffer,
    *,
    file_id: str,
    mode: int | None,
    replace: bool,
) -> None:
    """Write a small file so that it exists whole or not at all, and is durable on return.

    Args:
        tree: where.
        folder: path of the folder within the tree.
        name: the file's name.
        data: its content.
        file_id: 26 characters for the temporary name.
        mode: permission bits; None for those of the folder, and its owner.
        replace: whether a file of that name may be replaced.

    Raises:
        OSError: nothing was changed.
    """
    fd = tree.folder(folder)
    temporary = temporary_name(file_id)
    handle = calls.create(fd, temporary, 0o600 if mode is None else mode)
    try:
        try:
            if mode is None:
                share_as(handle, fd)
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
    calls.fsync_folder(fd)


def read_file(tree: Tree, path: str, limit: int) -> bytes:
    """A small file's content, at most `limit` bytes and one more to show that it is too large."""
    folder, _slash, name = path.rpartition("/")
    handle = calls.open_read(tree.folder(folder), name)
    try:
        return calls.read(handle, limit + 1)
    finally:
        os.close(handle)


def clean(tree: Tree, folder: str) -> None:
    """Remove temporary files and folders in one folder. Only for who holds a lock on it."""
    with contextlib.suppress(OSError):
        for name in filter(is_temporary, os.listdir(tree.folder(folder))):
            discard(tree.folder(folder), name)
            discard_tree(tree, f"{folder}/{name}" if folder else name)


def discard_leftovers(tree: Tree, places: Iterable[tuple[str, str]]) -> Iterator[EncvaultError]:
    """Remove what killed runs left, files and folders, unless the folder it is in is in use.

    Args:
        tree: where.
        places: folder and name of each.

    Yields:
        Why one could not be removed; the others are.
    """
    for folder, name in places:
        try:
            _discard_leftover(tree, folder, name)
        except OSError as error:
            yield storage_error(error, os.path.join(tree.show(folder), name))


def _discard_leftover(tree: Tree, folder: str, name: str) -> None:
    own = calls.open_folder(".", tree.folder(folder))
    try:
        lock(own, shared=False)
        try:
            calls.unlink(own, name)
        except (IsADirectoryError, PermissionError):  # POSIX allows either for a folder
            if not stat.S_ISDIR(os.stat(name, dir_fd=own, follow_symlinks=False).st_mode):
                raise
            if (error := discard_tree(tree, f"{folder}/{name}" if folder else name)) is not None:
                raise error from None
    except (BlockingIOError, FileNotFoundError):
        pass  # someone is writing here, who may own it; or it is gone
    finally:
        os.close(own)


def removal_error(error: OSError, path: str) -> EncvaultError:
    """The named error where a file that something was made of cannot be removed."""
    if isinstance(error, PermissionError):
        return CannotRemove(path=path, reason=system_reason(error))
    return storage_error(error, path)


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
    if error.errno in _REFUSED:
        if reading:
            return Unreadable(path=path, reason=reason)
        return CannotCreate(path=path, reason=reason)
    return InputOutputError(path=path, reason=reason)


def copy_error(error: OSError, path: str) -> EncvaultError:
    """The named error for a new file that could not be made durable.

    Args:
        error: as raised.
        path: for the message.
    """
    if error.errno == errno.ENOENT:  # somebody has removed it; what it was made from is there
        return InputOutputError(path=path, reason=system_reason(error))
    return storage_error(error, path)
