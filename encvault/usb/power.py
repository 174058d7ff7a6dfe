"""Unmount a drive and switch it off, by what the system has for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from encvault.errors import DriveInUse, EjectFailed
from encvault.fs.mounts import mount_at, mounts
from encvault.fs.users import users, users_text
from encvault.i18n import _

if TYPE_CHECKING:
    from encvault.usb.devices import Device

_UDISKS = "udisksctl"
_PATIENCE_S = 120.0  # a slow drive has megabytes to write


def unmount(path: str, node: str) -> None:
    """Unmount a drive.

    Args:
        path: where it is mounted.
        node: of its device.

    Raises:
        DriveInUse: programs use it; it stays.
        EjectFailed: the system refuses for another reason.
    """
    if os.geteuid() == 0 or shutil.which(_UDISKS) is None:
        reason = _run(["umount", "--", path])
    else:
        reason = _run([_UDISKS, "unmount", "--no-user-interaction", "-b", node])
    if reason is None:
        return
    if mount_at(path) is not None and users(path):
        raise DriveInUse(path=path, programs=users_text(path))
    raise EjectFailed(path=path, reason=reason)


def still_mounted(device: Device, sysfs: str = "/sys") -> list[str]:
    """Where anything of the same disk is mounted."""
    try:
        names = [device.disk, *os.listdir(f"{sysfs}/class/block/{device.disk}")]
    except OSError:  # it was pulled out
        return []
    nodes = {f"/dev/{name}" for name in names}
    numbers = set()
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # not all in that folder are partitions
            with open(f"{sysfs}/class/block/{name}/dev", encoding="ascii") as file:
                major, minor = map(int, file.read().split(":"))
            numbers.add((major, minor))
    return [line.path for line in mounts() if line.source in nodes or line.number in numbers]


def switch_off(device: Device) -> bool:
    """Switch off the disk of a device; whether it is off now."""
    if shutil.which(_UDISKS) is None:
        return False
    return (
        _run([_UDISKS, "power-off", "--no-user-interaction", "-b", f"/dev/{device.disk}"]) is None
    )


def _run(command: list[str]) -> str | None:
    """Run it; why it failed, or None."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_PATIENCE_S
        )
    except OSError:
        return _("the program {name} is missing").format(name=command[0])
    except subprocess.TimeoutExpired:
        return _("no answer in {seconds} seconds").format(seconds=int(_PATIENCE_S))
    if done.returncode == 0:
        return None
    return done.stderr.decode(errors="replace").strip() or f"{command[0]}: {done.returncode}"
