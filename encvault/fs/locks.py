"""Advisory locks, which end with their process: on folders that are written to, and on vaults.

All are flock(2), so a crash leaves none (restic#2736). Where a file system has no locks, one run at
a time is up to the user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import time
from typing import TYPE_CHECKING

from encvault.errors import VaultBusy, VaultNotWritable
from encvault.fs import calls
from encvault.fs.sharing import share_as
from encvault.i18n import system_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.fs.tree import Tree

if sys.platform != "win32":
    import fcntl

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def claim(tree: Tree) -> bool:
    """Mark a folder as being written to, until it is closed.

    Returns:
        Whether nobody else has marked it. Only then may a temporary file in it be taken for one
        that a killed run left behind, and be removed.
    """
    try:
        alone = lock(tree.fd, shared=False)
    except BlockingIOError:
        alone = False
    with contextlib.suppress(BlockingIOError):  # between two locks of others
        lock(tree.fd, shared=True)
    return alone


def is_claimed(tree: Tree, folder: str) -> bool:
    """Whether another run has marked a folder in the tree; not if it cannot be looked at."""
    try:
        fd = calls.open_folder(".", tree.folder(folder))
    except OSError:
        return False
    try:
        lock(fd, shared=False)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def lock(fd: int, *, shared: bool) -> bool:
    """Take a lock that ends with the descriptor, at once or not at all.

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
        lock(fd, shared=True)
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
                    lock(fd, shared=True)
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


def _open(folder: int, name: str, *, reading: bool) -> int:
    """Descriptor of a lock file; who wants to write makes it, as open as the folder it is in."""
    # whoever planted a FIFO there must not make us wait for its other end
    flags = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if reading:
        return os.open(name, flags | os.O_RDONLY, dir_fd=folder)
    with contextlib.suppress(FileExistsError):
        fd = os.open(name, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
        share_as(fd, folder, is_written=True)  # one that is there may be a hard link of anything
        return fd
    return os.open(name, flags | os.O_RDWR, dir_fd=folder)


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
        VaultNotWritable: this user may not write to it.
    """

    def __init__(self, tree: Tree, path: str, *, reading: bool, keeps_news: bool = False) -> None:
        folder, _slash, name = path.rpartition("/")
        self._reading = reading
        self._keeps_news = keeps_news
        self.was_interrupted = False
        self._is_written = False
        try:
            self._fd = _open(tree.folder(folder), name, reading=reading)
        except OSError as error:
            if not reading and error.errno in _REFUSED:
                raise VaultNotWritable(path=tree.path, reason=system_reason(error)) from None
            if not reading:
                raise
            self._fd = -1
            return
        try:
            lock(self._fd, shared=reading)
        except BlockingIOError:
            holder = b""
            with contextlib.suppress(OSError):  # what is no file has no words at a place
                holder = os.pread(self._fd, 200, 0)
            os.close(self._fd)
            shown = holder.decode(errors="replace").strip() or "?"
            raise VaultBusy(path=tree.path, holder=shown) from None
        except BaseException:
            os.close(self._fd)
            raise
        if not reading:
            status = os.fstat(self._fd)
            self.was_interrupted = status.st_size > 0
            self._is_written = status.st_nlink == 1  # whoever planted a hard link gains nothing
        if self._is_written:
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
            if self._is_written and not (self._keeps_news and self.was_interrupted):
                os.ftruncate(self._fd, 0)
        except OSError:
            pass  # the drive is gone; the next run cleans up for nothing
        finally:
            os.close(self._fd)
            self._fd = -1
