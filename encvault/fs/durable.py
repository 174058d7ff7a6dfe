"""Durable operations: new files under a temporary name, locks, and what an OSError means.

The order is always the same: temporary file in the same folder, written, synced, checked, renamed,
folder synced. A crash leaves the old state or the new one; a temporary file that stays behind is
known by its name (`is_temporary`) and is removed by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import stat
import sys
import time
from typing import TYPE_CHECKING

from encvault.encoding import encode_base32
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
    from collections.abc import Iterable, Iterator

    from encvault.fs.tree import Tree
    from encvault.secret import Buffer

if sys.platform != "win32":
    import fcntl

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
            discard_tree(tree.fd, temporary)
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


def discard_tree(folder: int, name: str) -> None:
    """Remove a temporary folder with all that is in it, if it is there."""
    import shutil  # noqa: PLC0415 - it brings compressors, and a folder is seldom removed

    shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


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
                share_as(handle, os.fstat(fd))
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


def share_as(fd: int, folder: os.stat_result) -> None:
    """Let who may look into a folder read a new file or folder in it, whoever made that.

    A vault's own files are wrapped, signed or public. If the umask of a nightly job decided, or
    root made them, people could not open what is theirs. Where there are no modes, nothing is lost.
    """
    status = os.fstat(fd)
    bits = 0o2777 if stat.S_ISDIR(status.st_mode) else 0o666
    with contextlib.suppress(OSError):
        os.fchmod(fd, folder.st_mode & bits)
    if (status.st_uid, status.st_gid) != (folder.st_uid, folder.st_gid):
        with contextlib.suppress(OSError):  # only root may, and a job's unit may forbid even that
            os.fchown(fd, folder.st_uid, folder.st_gid)


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
    try:
        fd = tree.folder(folder)
        names = os.listdir(fd)
    except OSError:
        return
    for name in filter(is_temporary, names):
        discard(fd, name)
        discard_tree(fd, name)


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
        _lock(own, shared=False)
        try:
            calls.unlink(own, name)
        except (IsADirectoryError, PermissionError):  # POSIX allows either for a folder
            if not stat.S_ISDIR(os.stat(name, dir_fd=own, follow_symlinks=False).st_mode):
                raise
            import shutil  # noqa: PLC0415 - see `discard_tree`

            shutil.rmtree(name, dir_fd=own)
    except (BlockingIOError, FileNotFoundError):
        pass  # someone is writing here, who may own it; or it is gone
    finally:
        os.close(own)


def claim(tree: Tree) -> bool:
    """Mark a folder as being written to, until it is closed.

    Returns:
        Whether nobody else has marked it. Only then may a temporary file in it be taken for one
        that a killed run left behind, and be removed.
    """
    try:
        alone = _lock(tree.fd, shared=False)
    except BlockingIOError:
        alone = False
    with contextlib.suppress(BlockingIOError):  # between two locks of others
        _lock(tree.fd, shared=True)
    return alone


def _lock(fd: int, *, shared: bool) -> bool:
    """Take a lock that ends with the descriptor.

    Returns:
        False where there are no locks; that must not make files unusable.

    Raises:
        BlockingIOError: someone else has it.
    """
    if sys.platform == "win32":
        return False  # one run at a time is up to the user there
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
        return False
    return True


@contextlib.contextmanager
def waiting(tree: Tree, name: str) -> Iterator[None]:
    """Keep other processes out of what a file stands for; wait until they are out.

    Args:
        tree: where.
        name: an empty file at its top, which is made if it is missing.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(name, flags, 0o600, dir_fd=tree.fd)
    try:
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # no locks here: two at once may lose one's change
                fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def alone(tree: Tree, name: str, patience: float) -> Iterator[None]:
    """Be the only process that does what a file stands for.

    Unlike `waiting`, it goes on without a lock nowhere, and waits for nobody for ever.

    Args:
        tree: where.
        name: an empty file at its top, which is made if it is missing.
        patience: seconds to wait for others.

    Raises:
        TimeoutError: another process had it all the time.
        OSError: the file cannot be made, or there are no locks here.
    """
    deadline = time.monotonic() + patience
    while True:
        fd = calls.open_update(tree.fd, name)
        try:
            pause = 0.0002
            while not _try_lock(fd):
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), name)
                time.sleep(pause)
                pause = min(pause * 1.5, 0.01)
            if not _is_there(tree, name, fd):
                continue  # somebody removed the file meanwhile, and others lock a new one
            yield
            return
        finally:
            if sys.platform != "win32":
                with contextlib.suppress(OSError):  # a child that was forked meanwhile shares it
                    fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


def is_held(tree: Tree, name: str) -> bool:
    """Whether a process is `alone`. To ask is in the way of who wants to be, for a moment.

    Args:
        tree: where.
        name: of the file.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    fd = calls.open_read(tree.fd, name)
    try:
        _lock(fd, shared=True)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _is_there(tree: Tree, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(tree.status(name), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def undisturbed(tree: Tree, name: str, patience: float) -> Iterator[None]:
    """Keep away who wants to be `alone`, as far as that is possible; go on without, if not.

    For who only reads, perhaps without the right to write, and gets by either way.

    Args:
        tree: where.
        name: the file; it is not made.
        patience: seconds to wait for others.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            fd = calls.open_read(tree.fd, name)
            stack.callback(os.close, fd)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                try:
                    _lock(fd, shared=True)
                    break
                except BlockingIOError:
                    time.sleep(0.001)
        yield


def _try_lock(fd: int) -> bool:
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Lock:
    """An advisory lock on a vault; it ends with the process, however that ends.

    The lock is flock(2), so a crash leaves none (restic#2736). The file's content tells people
    who holds it.

    Attributes:
        was_interrupted: whether a run that changed the vault was killed, and nobody has cleaned up
            behind it (`cleaned_up`).

    Args:
        tree: the vault.
        path: the lock file within it.
        reading: share the vault with others who only read it. A vault on a medium that cannot be
            written needs no lock then, and gets none.
        keeps_news: whether the next holder must hear of a killed run as well if this one has not
            cleaned up behind it. Where every run sees what was left, it need not.

    Raises:
        VaultBusy: another process holds it.
    """

    def __init__(self, tree: Tree, path: str, *, reading: bool, keeps_news: bool = False) -> None:
        folder, _slash, name = path.rpartition("/")
        self._reading = reading
        self._keeps_news = keeps_news
        self.was_interrupted = False
        access = os.O_RDONLY if reading else os.O_RDWR | os.O_CREAT
        # whoever planted a FIFO there must not make us wait for its other end
        flags = access | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self._fd = os.open(name, flags, 0o666, dir_fd=tree.folder(folder))
        except OSError:
            if not reading:
                raise
            self._fd = -1
            return
        try:
            _lock(self._fd, shared=reading)
        except BlockingIOError:
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "?"
            os.close(self._fd)
            raise VaultBusy(path=tree.path, holder=holder) from None
        except BaseException:
            os.close(self._fd)
            raise
        if not reading:
            self.was_interrupted = os.fstat(self._fd).st_size > 0
            # no room for these words is no reason not to work
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"pid {os.getpid()} on {platform.node()}\n".encode(), 0)
                os.fsync(self._fd)  # or after a power failure nothing would say that it was killed

    @property
    def is_shared(self) -> bool:
        """Whether it is only held to read."""
        return self._reading

    def cleaned_up(self) -> None:
        """What the killed run has left is gone."""
        self.was_interrupted = False

    def release(self) -> None:
        """Let the next run in; the emptied file says that there is nothing to clean up."""
        if self._fd < 0:
            return
        try:
            if not (self._reading or (self._keeps_news and self.was_interrupted)):
                os.ftruncate(self._fd, 0)
        except OSError:
            pass  # the drive is gone; the next run cleans up for nothing
        finally:
            os.close(self._fd)
            self._fd = -1


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
