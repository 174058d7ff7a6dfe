"""The folder that a vault is mounted at.

What lies beneath a mount shows when it is gone, and then a program that still saves there would
save in the clear. So the folder is either made for the mount and removed with it, or it stays
without the right to write: for root, whom that does not stop, also with the attribute
"immutable", where the file system has it (chattr(1)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import sys
from typing import TYPE_CHECKING, Self

from encvault.errors import MountpointUnusable
from encvault.fs.mounts import mount_at
from encvault.i18n import _, system_reason
from encvault.vault.vault import canonical

if TYPE_CHECKING:
    from types import TracebackType

if sys.platform != "win32":
    import fcntl

_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS: ioctl_iflags(2)
_IMMUTABLE = 0x10  # FS_IMMUTABLE_FL
_WRITE_BITS = 0o222


class Mountpoint:
    """A folder that is ready to be mounted over, and is what it was before if that fails.

    Use it as a context manager around the time from here until it is unmounted.

    Attributes:
        path: absolute, links resolved.
        made: whether it was made for the mount, and is removed after it.
        becomes_locked: whether it was an ordinary folder and `cover` makes it one that cannot be
            written to.

    Args:
        path: the folder, which may be missing; its parent must exist.
        vault: the vault's folder.

    Raises:
        MountpointUnusable: it is something else, or in use.
    """

    def __init__(self, path: str, vault: str) -> None:
        self.path = canonical(path)
        self.made = False
        self.becomes_locked = False
        self._is_covered = False
        self._fd = -1
        self._mode = 0
        self._check_place(canonical(vault))
        try:
            self._prepare()
        except OSError as error:
            self._give_back()
            raise self._unusable(system_reason(error)) from None
        except BaseException:
            self._give_back()
            raise

    def _unusable(self, reason: str) -> MountpointUnusable:
        return MountpointUnusable(path=self.path, reason=reason)

    def _check_place(self, vault: str) -> None:
        if mount_at(self.path) is not None:
            raise self._unusable(_("something is mounted here already"))
        own, other = os.path.join(self.path, ""), os.path.join(vault, "")
        if own.startswith(other):
            raise self._unusable(_("it lies in the vault"))
        if other.startswith(own):
            raise self._unusable(_("the vault lies in it"))

    def _prepare(self) -> None:
        try:
            os.mkdir(self.path, 0o700)
            self.made = True
        except FileExistsError:
            if not os.path.isdir(self.path):
                raise self._unusable(_("it is no folder")) from None
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.path, flags)
        if os.listdir(self._fd):
            raise self._unusable(_("it is not empty"))
        status = os.fstat(self._fd)
        self._mode = stat.S_IMODE(status.st_mode)
        is_ours = status.st_uid == os.geteuid()
        if is_ours and os.geteuid() != 0 and not self._mode & stat.S_IWUSR:
            # of ordinary users, fusermount3 takes only what they may write to
            os.fchmod(self._fd, self._mode | stat.S_IWUSR)
            self._mode &= ~_WRITE_BITS
        self.becomes_locked = is_ours and not self.made and bool(self._mode & _WRITE_BITS)

    def cover(self) -> None:
        """Take away the right to write into the folder beneath, which is mounted over now."""
        self._is_covered = True
        with contextlib.suppress(OSError):  # another user's, or a file system without rights
            os.fchmod(self._fd, self._mode & ~_WRITE_BITS)
        if os.geteuid() == 0:
            _set_immutable(self._fd, wanted=True)

    def leave(self) -> None:
        """Remove the folder if it was made for the mount, which is gone now."""
        if self._fd >= 0:
            if self.made:
                _set_immutable(self._fd, wanted=False)
            elif not self._is_covered:
                with contextlib.suppress(OSError):
                    os.fchmod(self._fd, self._mode)
            self._give_back()

    def hand_over(self) -> None:
        """Another process has the folder now, which was forked after this was made."""
        self.made = False
        self._give_back()

    def _give_back(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.made:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
            self.made = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()


def remove_made(path: str) -> None:
    """Remove a folder that was made for a mount which has died and was cleared away."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _set_immutable(fd, wanted=False)
        finally:
            os.close(fd)
        os.rmdir(path)


def _set_immutable(fd: int, *, wanted: bool) -> None:
    """Set or clear the attribute; only root may, and not every file system has it."""
    with contextlib.suppress(OSError):
        now = struct.unpack("l", fcntl.ioctl(fd, _GETFLAGS, bytes(struct.calcsize("l"))))[0]
        flags = now | _IMMUTABLE if wanted else now & ~_IMMUTABLE
        if flags != now:
            fcntl.ioctl(fd, _SETFLAGS, struct.pack("l", flags))


def is_dead(path: str) -> bool:
    """Whether a mount is there that nobody serves."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False
