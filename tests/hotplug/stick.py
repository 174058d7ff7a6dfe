"""A memory stick: a file on the host, plugged into the guest and pulled out at any moment."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hotplug.guest import Guest

KINDS = {  # the program that makes it, and the type of its partition
    "vfat": (["mkfs.vfat", "-F", "32", "-n"], 0x0C),
    "exfat": (["mkfs.exfat", "-L"], 0x07),
}
_SECTOR = 512
_START = 2048  # sectors, where every partition begins today


@dataclass
class Stick:
    """One partition that fills it.

    Attributes:
        kind: one of `KINDS`.
        image: the file.
        label: of its file system.
        serial: what it tells of itself.
        size: of the partition, MiB.
        is_plugged: whether it is in the guest.
    """

    kind: str
    image: Path
    label: str
    serial: str
    size: int = 96
    is_plugged: bool = False

    @property
    def node(self) -> str:
        """What udev calls it, whichever letter it got."""
        return f"/dev/disk/by-label/{self.label}"

    def make(self) -> None:
        """Make it anew."""
        command, number = KINDS[self.kind]
        part = self.image.with_suffix(".part")
        with part.open("wb") as file:
            file.truncate(self.size << 20)
        subprocess.run([*command, self.label, str(part)], check=True, capture_output=True)
        sectors = (self.size << 20) // _SECTOR
        entry = struct.pack("<B3xB3xII", 0, number, _START, sectors)
        head = bytearray(_START * _SECTOR)
        head[446 : 446 + len(entry)] = entry
        head[510:512] = b"\x55\xaa"
        self.image.write_bytes(head + part.read_bytes())
        part.unlink()

    def plug(self, guest: Guest) -> None:
        """Put it in, and wait until the guest knows it."""
        file = {"driver": "file", "filename": str(self.image)}
        guest.qmp("blockdev-add", driver="raw", node_name=self._name, file=file)
        guest.qmp(
            "device_add",
            driver="usb-storage",
            id=self._name,
            bus="usb.0",
            drive=self._name,
            serial=self.serial,
            removable=True,
        )
        self.is_plugged = True
        guest.sh(f"udevadm wait --timeout=60 {self.node}")
        guest.note(f"{self.serial} is plugged in, {self.kind}")

    def pull(self, guest: Guest) -> None:
        """Pull it out, whatever is going on."""
        guest.qmp("device_del", id=self._name)
        guest.qmp.wait_for("DEVICE_DELETED", device=self._name)
        guest.qmp("blockdev-del", node_name=self._name)
        self.is_plugged = False
        guest.note(f"{self.serial} is pulled out")

    def writes(self, guest: Guest) -> int:
        """How often something was written to it since it was plugged in."""
        for one in guest.qmp("query-blockstats"):
            if one.get("node-name") == self._name:
                return int(one["stats"]["wr_operations"])
        raise AssertionError(self._name)

    @property
    def _name(self) -> str:
        return f"stick-{self.kind}"
