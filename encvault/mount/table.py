"""What of ours the system has mounted, and how it is taken away again."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import subprocess

from encvault.errors import FuseUnavailable, MountBusy, OthersMount, UnmountFailed
from encvault.fs.mounts import mount_at, mounts
from encvault.fs.users import users_text
from encvault.i18n import _, system_reason

FILE_SYSTEM = "fuse.encvault"
SOURCE = "encvault:"  # and the vault's folder: what mount tables show as the device
_HELPER = "fusermount3"
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount2(2)


def vault_at(path: str) -> str | None:
    """The vault whose plain files are at an absolute path, if one is mounted there."""
    for mount in mounts():
        is_within = os.path.join(path, "").startswith(os.path.join(mount.path, ""))
        if mount.kind == FILE_SYSTEM and is_within:
            return mount.source.removeprefix(SOURCE)
    return None


def unmount(path: str) -> None:
    """Unmount what is served by a living process.

    Raises:
        MountBusy: programs use it.
        OthersMount: another user mounted it.
        UnmountFailed: it is not ours, or the system refuses for another reason.
        FuseUnavailable: the program that unmounts is missing.
    """
    _unmount(path, lazily=False)


def unmount_dead(path: str) -> None:
    """Take away a mount that nobody serves, whoever has files open there.

    Raises:
        OthersMount, UnmountFailed, FuseUnavailable: as `unmount`.
    """
    _unmount(path, lazily=True)


def _unmount(path: str, *, lazily: bool) -> None:
    if os.geteuid() == 0:
        # what fusermount3 would do as well, and it may be missing
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0)
        if libc.umount2(os.fsencode(path), flags) == 0:
            return
        error = OSError(ctypes.get_errno(), "")
        if error.errno == errno.EBUSY:
            raise MountBusy(path=path, programs=users_text(path))
        raise UnmountFailed(path=path, reason=system_reason(error))
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            [_HELPER, "-u", *(["-z"] if lazily else []), "--", path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        reason = _("the program fusermount3 is missing")
        raise FuseUnavailable(reason=reason, fix="sudo apt install fuse3") from None
    if done.returncode == 0:
        return
    text = done.stderr.decode(errors="replace").strip()
    if os.strerror(errno.EBUSY) in text:  # it has no other way to say so, and one language
        raise MountBusy(path=path, programs=users_text(path))
    there = mount_at(path)
    if there is not None and there.user is not None and there.user != os.getuid():
        raise OthersMount(path=path, user=_user_name(there.user))
    raise UnmountFailed(path=path, reason=text)


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
