"""Drives as people name them: a device, what is mounted of it, and what all of that is called."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import (
    DriveAbsent,
    DriveAmbiguous,
    DriveNotMounted,
    EncvaultError,
    NoDrive,
)
from encvault.fs.mounts import Mount, mount_at, mounts
from encvault.i18n import _
from encvault.usb import devices as kernel, udev
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.usb.devices import Device

_SYSTEM = ("/", "/boot", "/boot/efi", "/efi", "/home", "/usr", "/var", "/nix")


class Drive(NamedTuple):
    """A drive that is plugged in.

    Attributes:
        device: see `encvault.usb.devices.Device`.
        mount: where it is mounted, or None.
        id: of the vault on it, 26 characters, which is the drive's as well; "" if there is none,
            or it cannot be seen.
    """

    device: Device
    mount: Mount | None
    id: str

    @property
    def name(self) -> str:
        """What to call it."""
        return self.device.content.label or self.device.node

    @property
    def folder(self) -> str:
        """Where it is mounted.

        Raises:
            DriveNotMounted: it is not.
        """
        if self.mount is None:
            raise DriveNotMounted(drive=self.name, node=self.device.node)
        return self.mount.path


def drives() -> list[Drive]:
    """The removable drives that are plugged in, but for what this system runs from."""
    table = mounts()
    found = kernel.devices(udev.properties)
    system = {one.disk for one in found if any(_is_system(line, one) for line in table)}
    return [
        Drive(one, mount, _id_at(mount))
        for one in found
        if one.is_removable and one.disk not in system
        for mount in [_mount_of(one, table)]
    ]


def is_drive(mount: Mount) -> bool:
    """Whether what is mounted is a removable drive; asks no more than it must."""
    if mount.source.startswith("/dev/"):
        with contextlib.suppress(OSError):  # a driver of FUSE has a number of its own
            number = os.stat(mount.source).st_rdev
            return kernel.is_removable((os.major(number), os.minor(number)))
    return kernel.is_removable(mount.number)


def _is_system(line: Mount, device: Device) -> bool:
    return line.number == device.number and line.path in _SYSTEM


def _mount_of(device: Device, table: Sequence[Mount]) -> Mount | None:
    """Where a device is mounted as a whole; FUSE may have a number of its own, but says of what."""
    for line in table:
        if line.top == "/" and (line.number == device.number or line.source == device.node):
            return line
    return None


def _id_at(mount: Mount | None) -> str:
    if mount is not None:
        with contextlib.suppress(EncvaultError, OSError), Vault.load(mount.path) as vault:
            return vault.record.id
    return ""


def find_drive(text: str) -> Drive:
    """The removable drive that somebody means.

    Args:
        text: its mount point, device node, the UUID or label of its file system, or its id.

    Raises:
        DriveAbsent: there is none that is called so.
        DriveAmbiguous: there are several.
        NoDrive: it is a folder or a device, and no removable drive.
    """
    everything = drives()
    if os.path.isdir(text) or text.startswith("/dev/"):
        place = os.path.realpath(text)
        found = [one for one in everything if place in (_folder(one), one.device.node)]
        if not found:
            raise _no_drive(text, place, everything)
    else:
        wanted = text.casefold()
        found = [one for one in everything if wanted in _words(one)]
    if not found:
        raise DriveAbsent(drive=text)
    if len(found) > 1:
        nodes = ", ".join(one.device.node for one in found)
        raise DriveAmbiguous(drive=text, found=nodes)
    return found[0]


def _folder(drive: Drive) -> str:
    return drive.mount.path if drive.mount is not None else ""


def _words(drive: Drive) -> list[str]:
    content = drive.device.content
    return [word.casefold() for word in (content.uuid, content.label, drive.id) if word]


def _no_drive(text: str, place: str, everything: Sequence[Drive]) -> EncvaultError:
    for one in everything:
        if _folder(one) and place.startswith(os.path.join(_folder(one), "")):
            reason = _("it is a folder on the drive {drive}").format(drive=_folder(one))
            return NoDrive(path=text, reason=reason)
    if not os.path.lexists(text):
        return DriveAbsent(drive=text)
    mount = mount_at(place)
    if os.path.isdir(text) and mount is None:
        return NoDrive(path=text, reason=_("nothing is mounted there"))
    if mount is not None and mount.source.startswith("/dev/") and not os.path.exists(mount.source):
        return DriveAbsent(drive=text)  # pulled out, and its mount is left
    if parts := [one.device.node for one in everything if f"/dev/{one.device.disk}" == place]:
        reason = _("it has partitions: {parts}").format(parts=", ".join(parts))
        return NoDrive(path=text, reason=reason)
    return NoDrive(path=text, reason=_("it cannot be pulled out of this machine"))
