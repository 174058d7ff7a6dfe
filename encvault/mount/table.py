"""Who uses a mount, and how it is unmounted."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess

from encvault.errors import FuseUnavailable, MountBusy, MountFailed
from encvault.i18n import _, system_reason

FILE_SYSTEM = "fuse.encvault"
_HELPER = "fusermount3"
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount2(2)
_MAX_NAMED = 5


def unmount(path: str) -> None:
    """Unmount what is served by a living process.

    Raises:
        MountBusy: programs use it.
        MountFailed: it is not ours, or the system refuses for another reason.
        FuseUnavailable: the program that unmounts is missing.
    """
    _unmount(path, lazily=False)


def unmount_dead(path: str) -> None:
    """Take away a mount that nobody serves, whoever has files open there.

    Raises:
        MountFailed, FuseUnavailable: as `unmount`.
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
        raise MountFailed(path=path, reason=system_reason(error))
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
    raise MountFailed(path=path, reason=text)


def users_text(path: str) -> str:
    """The programs that have files or their working directory below a mount, for people."""
    found = users(path)
    named = ", ".join(found[:_MAX_NAMED])
    if not found:
        return _("programs that cannot be seen from here")
    if len(found) > _MAX_NAMED:
        return _("{programs} and {count} more").format(
            programs=named, count=len(found) - _MAX_NAMED
        )
    return named


def users(path: str) -> list[str]:
    """Name and number of each program that uses what is mounted at `path`.

    Who serves it is none of them: it has the folder beneath open. Nor is who asks, unless nobody
    else uses it.
    """
    try:
        device = os.stat(path).st_dev
    except OSError:
        return []
    found = {}
    for number in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        if _uses(f"/proc/{number}", path, device):
            name = "?"
            with contextlib.suppress(OSError), open(f"/proc/{number}/comm", "rb") as file:
                name = os.fsdecode(file.read()).strip()
            found[int(number)] = f"{name} ({number})"
    if len(found) > 1:
        found.pop(os.getpid(), None)
    return list(found.values())


def _uses(process: str, path: str, device: int) -> bool:
    links = [f"{process}/cwd", f"{process}/root", f"{process}/exe"]
    with contextlib.suppress(OSError):
        links += [f"{process}/fd/{name}" for name in os.listdir(f"{process}/fd")]
    for link in links:
        with contextlib.suppress(OSError):
            target = os.readlink(link)
            is_below = target == path or target.startswith(os.path.join(path, ""))
            if is_below and os.stat(link).st_dev == device:
                return True
    return False
