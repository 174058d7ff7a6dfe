"""What sysfs and udev tell of disks, cards and sticks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from encvault.errors import DriveAbsent, DriveAmbiguous, DriveNotMounted, NoDrive
from encvault.fs.mounts import Mount
from encvault.usb import devices as module, drives, litter
from encvault.usb.devices import FileSystem, devices

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

USB = "devices/pci0000:00/usb1/1-2"
STICK = f"{USB}/1-2:1.0/host2/target2:0:0/2:0:0:0/block/sdb"
DISK = "devices/pci0000:00/ata1/host0/block/sda"
READER = "devices/pci0000:00/usb1/1-3/host3/block/sdc"
CARD = "devices/platform/mmc0/mmc0:0001/block/mmcblk0"
SOLDERED = "devices/platform/mmc1/mmc1:0001/block/mmcblk1"

Properties = dict[tuple[int, int], "Mapping[str, str]"]


class Sysfs:
    """A folder like /sys."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "class/block").mkdir(parents=True)
        (top / "dev/block").mkdir(parents=True)

    def add(self, folder: str, **attributes: str) -> None:
        path = self.top / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in attributes.items():
            target = path / name.replace("__", "/")
            target.parent.mkdir(exist_ok=True)
            target.write_text(text + "\n")
        if "dev" in attributes:
            for link in (f"class/block/{path.name}", f"dev/block/{attributes['dev']}"):
                (self.top / link).symlink_to(path)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    found = Sysfs(tmp_path / "sys")
    found.add(USB, idVendor="0781", idProduct="5581", serial="4C53", product="Ultra")
    found.add(STICK, dev="8:16", size="1000", removable="1", ro="0")
    found.add(f"{STICK}/sdb1", dev="8:17", size="900", ro="0", partition="1")
    found.add(DISK, dev="8:0", size="5000", removable="0", ro="0", device__model="INTERNAL")
    found.add(READER, dev="8:32", size="0", removable="1", ro="0")
    found.add(CARD, dev="179:0", size="700", removable="0", ro="1", device__type="SD")
    found.add(CARD, device__name="SU08G", device__serial="0x1234")
    found.add(SOLDERED, dev="179:8", size="800", removable="0", ro="0", device__type="MMC")
    found.add("devices/virtual/block/loop0", dev="7:0", size="10", removable="0", ro="0")
    return found


def found_in(sysfs: Sysfs, properties: Properties) -> dict[str, module.Device]:
    return {one.name: one for one in devices(lambda: properties, str(sysfs.top))}


def test_what_the_kernel_tells(sysfs: Sysfs) -> None:
    found = found_in(sysfs, {})
    assert set(found) == {"sdb1", "sda", "mmcblk0", "mmcblk1"}  # no whole disk that has parts
    stick = found["sdb1"]
    assert (stick.node, stick.number, stick.disk, stick.size) == (
        "/dev/sdb1",
        (8, 17),
        "sdb",
        460_800,
    )
    assert (stick.vendor_id, stick.product_id, stick.serial) == ("0781", "5581", "4C53")
    assert stick.model == "Ultra"
    assert {name for name, one in found.items() if one.is_removable} == {"sdb1", "mmcblk0"}
    assert {name for name, one in found.items() if one.is_read_only} == {"mmcblk0"}
    assert (found["mmcblk0"].model, found["mmcblk0"].serial) == ("SU08G", "0x1234")
    assert (found["sda"].model, found["sda"].serial) == ("INTERNAL", "")


def test_a_device_that_went_away_meanwhile(sysfs: Sysfs) -> None:
    (sysfs.top / "class/block/sdd").symlink_to(sysfs.top / "devices/gone")
    assert "sdd" not in found_in(sysfs, {})
    assert devices(dict, str(sysfs.top / "nowhere")) == []


@pytest.mark.parametrize(
    ("encoded", "label"),
    [
        ("SALES", "SALES"),
        (r"SALES\x202026", "SALES 2026"),
        (r"\xe5\x90\x88", "合"),
        (r"a\xzz", r"a\xzz"),
    ],
)
def test_what_udev_tells(sysfs: Sysfs, encoded: str, label: str) -> None:
    known = {
        "ID_FS_TYPE": "exfat",
        "ID_FS_UUID": "12-AB",
        "ID_FS_LABEL": "?",
        "ID_FS_LABEL_ENC": encoded,
    }
    found = found_in(sysfs, {(8, 17): known})
    assert found["sdb1"].content == FileSystem("exfat", "12-AB", label)


def test_without_udev_blkid_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(40 << 20)
    assert (
        os.spawnlp(os.P_WAIT, "mkfs.vfat", "mkfs.vfat", "-i", "1234ABCD", "-n", "STICK", str(image))
        == 0
    )
    assert module._content(str(image), {}) == FileSystem("vfat", "1234-ABCD", "STICK")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._content(str(image), {}) == FileSystem()
    assert module._content(str(tmp_path / "missing"), {}) == FileSystem()


# -- names ----------------------------------------------------------------------------------


@pytest.fixture
def plugged(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> list[Mount]:
    """The mount table of a machine with these."""
    table: list[Mount] = []
    labels: Properties = {
        (8, 17): {"ID_FS_TYPE": "exfat", "ID_FS_UUID": "12-AB", "ID_FS_LABEL": "SALES"},
        (179, 0): {"ID_FS_TYPE": "vfat", "ID_FS_UUID": "34-CD", "ID_FS_LABEL": "sales"},
        (8, 0): {"ID_FS_TYPE": "ext4", "ID_FS_UUID": "56-EF", "ID_FS_LABEL": "root"},
    }
    known = devices(lambda: labels, str(sysfs.top))
    monkeypatch.setattr(module, "devices", lambda _properties: known)
    monkeypatch.setattr(drives, "mounts", lambda: table)
    return table


def mount(path: str, number: tuple[int, int], source: str = "", top: str = "/") -> Mount:
    return Mount(path, "exfat", source, number, top)


def test_a_drive_answers_to_its_names(plugged: list[Mount], tmp_path: Path) -> None:
    plugged += [mount("/elsewhere", (8, 17), top="/folder"), mount(str(tmp_path), (8, 17))]
    for name in (str(tmp_path), "/dev/sdb1", "12-ab"):
        found = drives.find_drive(name)
        assert (found.device.name, found.folder, found.id, found.name) == (
            "sdb1",
            str(tmp_path),
            "",
            "SALES",
        )
    assert drives.find_drive("34-CD").device.name == "mmcblk0"
    with pytest.raises(DriveNotMounted):
        drives.find_drive("34-CD").folder  # noqa: B018 - it raises
    with pytest.raises(DriveAmbiguous, match="/dev/mmcblk0, /dev/sdb1"):
        drives.find_drive("sales")
    for name in ("root", "56-EF", "nothing", "/dev/nothing"):
        with pytest.raises(DriveAbsent):
            drives.find_drive(name)


def test_a_driver_of_fuse_has_a_number_of_its_own(plugged: list[Mount], tmp_path: Path) -> None:
    plugged.append(mount(str(tmp_path), (0, 55), source="/dev/sdb1"))
    assert drives.find_drive("/dev/sdb1").folder == str(tmp_path)


def test_what_the_system_runs_from_is_no_drive(plugged: list[Mount]) -> None:
    assert [one.device.name for one in drives.drives()] == ["mmcblk0", "sdb1"]
    plugged.append(mount("/", (8, 17)))
    assert [one.device.name for one in drives.drives()] == ["mmcblk0"]


def test_what_is_no_drive_is_told_apart(plugged: list[Mount], tmp_path: Path) -> None:
    plugged.append(mount(str(tmp_path), (8, 17)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(NoDrive, match="it is a folder on the drive"):
        drives.find_drive(str(tmp_path / "folder"))
    with pytest.raises(NoDrive, match="nothing is mounted there"):
        drives.find_drive("/usr/lib")
    with pytest.raises(NoDrive, match="cannot be pulled out"):
        drives.find_drive("/proc")


@pytest.mark.parametrize(
    ("path", "is_litter"),
    [
        ("System Volume Information/tracking.log", True),
        (".Trash-1000/files/a.xlsx", True),
        ("docs/.DS_Store", True),
        ("._.Trashes", True),
        ("docs/RECYCLER/a.xlsx", False),
        ("._customers.xlsx", False),
        ("lost+found/x", True),
        ("lost+found", False),  # a file of that name
        (".Trash-customers.xlsx", False),
        ("docs/lost+found/a", False),
    ],
)
def test_what_systems_leave(path: str, *, is_litter: bool) -> None:
    assert litter.is_litter(path) is is_litter


def test_a_device_that_was_pulled_out_is_not_there(sysfs: Sysfs) -> None:
    part = os.makedev(8, 17)
    assert module.is_there(part, str(sysfs.top))
    (sysfs.top / "dev/block/8:17").unlink()
    assert not module.is_there(part, str(sysfs.top))
