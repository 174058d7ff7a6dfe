"""Block devices as the kernel tells of them in sysfs(5), with or without udev.

What file system is on one is not the kernel's business. udev knows it if it runs; else blkid(8)
looks, for who may read the device.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Number = tuple[int, int]

_SECTOR_SIZE = 512  # bytes, whatever the device's own are: Documentation/ABI/stable/sysfs-block
_PATIENCE_S = 10.0
_NOT_DRIVES = ("loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd")


class FileSystem(NamedTuple):
    """What is on a device.

    Attributes:
        kind: as blkid(8) names it, such as ``exfat``, ``crypto_LUKS`` or ``BitLocker``; "" if
            nobody can tell.
        uuid, label: "" if there is none.
    """

    kind: str = ""
    uuid: str = ""
    label: str = ""


class Device(NamedTuple):
    """A partition, or a whole disk that has none.

    Attributes:
        name: the kernel's, such as ``sdb1``.
        node: ``/dev/sdb1``.
        number: major and minor.
        disk: the kernel's name of the whole, such as ``sdb``.
        size: bytes.
        is_removable: whether it can be pulled out.
        is_read_only: whether the device itself refuses writes.
        vendor_id, product_id: of USB, four hexadecimal digits each, or "".
        serial: as the device says. Many say the same, or none.
        model: what it calls itself.
        content: what is on it.
    """

    name: str
    node: str
    number: Number
    disk: str
    size: int
    is_removable: bool
    is_read_only: bool
    vendor_id: str
    product_id: str
    serial: str
    model: str
    content: FileSystem


def devices(
    properties: Callable[[], Mapping[Number, Mapping[str, str]]], sysfs: str = "/sys"
) -> list[Device]:
    """Every disk and partition that can hold a file system, in the order of their names.

    Args:
        properties: what udev knows of each; see `encvault.usb.udev`.
        sysfs: where it is mounted.
    """
    folder = f"{sysfs}/class/block"
    names = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(folder))
    known = properties()
    found = (_device(sysfs, name, known) for name in names if not name.startswith(_NOT_DRIVES))
    return [device for device in found if device is not None]


def is_removable(number: Number, sysfs: str = "/sys") -> bool:
    """Whether the device of this number, or the disk that it is a part of, can be pulled out."""
    path = os.path.realpath(f"{sysfs}/dev/block/{number[0]}:{number[1]}")
    return os.path.exists(f"{path}/dev") and _can_be_pulled_out(sysfs, _disk_of(path))


def is_there(number: int, sysfs: str = "/sys") -> bool:
    """Whether the kernel has a block device of this number, `os.stat`'s ``st_dev``, now."""
    return os.path.exists(f"{sysfs}/dev/block/{os.major(number)}:{os.minor(number)}")


def _disk_of(path: str) -> str:
    return os.path.dirname(path) if os.path.exists(f"{path}/partition") else path


def _can_be_pulled_out(sysfs: str, disk: str) -> bool:
    is_card = os.path.basename(disk).startswith("mmcblk") and _text(disk, "device/type") == "SD"
    return is_card or _text(disk, "removable") == "1" or bool(_usb(sysfs, disk))


def _device(sysfs: str, name: str, known: Mapping[Number, Mapping[str, str]]) -> Device | None:
    path = os.path.realpath(f"{sysfs}/class/block/{name}")
    try:
        major, minor = map(int, _text(path, "dev").split(":"))
        size = int(_text(path, "size")) * _SECTOR_SIZE
    except ValueError:  # it went away
        return None
    disk = _disk_of(path)
    has_parts = disk == path and any(map(os.path.exists, _partitions(path)))
    if size == 0 or has_parts:  # a reader without a card; its partitions are what is used
        return None
    usb = _usb(sysfs, disk)
    facts = known.get((major, minor), {})
    return Device(
        name=name,
        node=f"/dev/{name}",
        number=(major, minor),
        disk=os.path.basename(disk),
        size=size,
        is_removable=_can_be_pulled_out(sysfs, disk),
        is_read_only=_text(path, "ro") == "1" or _text(disk, "ro") == "1",
        vendor_id=_text(usb, "idVendor"),
        product_id=_text(usb, "idProduct"),
        serial=_text(usb, "serial") or _text(disk, "device/serial"),
        model=_text(usb, "product") or _text(disk, "device/model") or _text(disk, "device/name"),
        content=_content(f"/dev/{name}", facts),
    )


def _partitions(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return [f"{path}/{name}/partition" for name in os.listdir(path)]
    return []


def _usb(sysfs: str, disk: str) -> str:
    """The folder of the USB device that a disk is, or ""."""
    path, top = disk, os.path.realpath(sysfs)
    while len(path) > len(top):
        if os.path.exists(f"{path}/idVendor"):
            return path
        path = os.path.dirname(path)
    return ""


def _text(folder: str, name: str) -> str:
    """An attribute, or "" if there is none."""
    if not folder:
        return ""
    try:
        with open(f"{folder}/{name}", "rb") as file:
            return file.read(4096).decode(errors="replace").strip()
    except OSError:
        return ""


def _content(node: str, facts: Mapping[str, str]) -> FileSystem:
    if "ID_FS_TYPE" not in facts and os.access(node, os.R_OK):
        facts = _looked_at(node)
    label = facts.get("ID_FS_LABEL_ENC") or facts.get("ID_FS_LABEL", "")
    return FileSystem(facts.get("ID_FS_TYPE", ""), facts.get("ID_FS_UUID", ""), _plain(label))


def _looked_at(node: str) -> dict[str, str]:
    """What blkid(8) finds, under udev's names; nothing if it is not there."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            ["blkid", "-p", "-o", "udev", "--", node],  # noqa: S607 - wherever the system has it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = done.stdout.decode(errors="replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _plain(encoded: str) -> str:
    r"""A label in which udev writes odd bytes as ``\x20``."""
    head, *rest = encoded.split("\\x")
    data = os.fsencode(head)
    for part in rest:
        try:
            data += bytes.fromhex(part[:2]) + os.fsencode(part[2:])
        except ValueError:
            data += os.fsencode("\\x" + part)
    return data.decode(errors="replace")
