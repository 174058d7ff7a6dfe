"""Images with real file systems, mounted as removable drives are. They need root."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from serving import is_mounted, until

from encvault.usb.devices import Device, FileSystem

if TYPE_CHECKING:
    from pathlib import Path

STICK = Device(
    name="sdb1",
    node="/dev/sdb1",
    number=(8, 17),
    disk="sdb",
    size=1000,
    is_removable=True,
    is_read_only=False,
    vendor_id="0781",
    product_id="5581",
    serial="4C53",
    model="Ultra",
    content=FileSystem("exfat", "12-AB", "SALES"),
)
KINDS = ("exfat", "ntfs", "ntfs-windows", "fat", "ext4")


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class DriveImage:
    """A file system in a file, mounted at a folder; use it as a context manager.

    Attributes:
        kind: one of `KINDS`.
        top: folder for the image and the mount point.
        size: MiB.
    """

    kind: str
    top: Path
    size: int = 64
    loop: str = ""

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return self.top / "drive"

    @property
    def image(self) -> Path:
        """The file."""
        return self.top / "drive.img"

    def __enter__(self) -> Self:
        self.top.mkdir(exist_ok=True)
        self.path.mkdir()
        self.format()
        return self

    def format(self) -> None:
        """Make it anew, with nothing on it, and mount it."""
        with self.image.open("wb") as file:
            file.truncate(self.size << 20)
        make = {
            "exfat": ["mkfs.exfat"],
            "ntfs": ["mkntfs", "-F", "-Q", "-q"],
            "ntfs-windows": ["mkntfs", "-F", "-Q", "-q"],
            "fat": ["mkfs.vfat", "-F", "32"],
            "ext4": ["mkfs.ext4", "-q"],
        }
        run(*make[self.kind], self.image)
        self.mount()

    def mount(self, *options: str) -> None:
        """Mount it.

        Args:
            options: such as ``ro``.
        """
        if self.kind in ("exfat", "ext4"):
            self.loop = run("losetup", "-f", "--show", self.image).strip()
        mode = ",".join(options or ("rw",))
        mount: dict[str, list[object]] = {
            "exfat": ["mount.exfat-fuse", "-o", mode, self.loop, self.path],
            "ntfs": ["ntfs-3g", "-o", mode, self.image, self.path],
            "ntfs-windows": ["ntfs-3g", "-o", f"windows_names,{mode}", self.image, self.path],
            "fat": ["fusefat", "-o", "rw+" if mode == "rw" else mode, self.image, self.path],
            "ext4": ["mount", "-o", mode, self.loop, self.path],
        }
        run(*mount[self.kind])
        until(lambda: is_mounted(self.path), "the mount")
        # else everything would be written to the host, and every test pass
        assert os.stat(self.path).st_dev != os.stat(self.top).st_dev

    def unmount(self) -> None:
        """Unmount it."""
        run("umount", self.path)
        self._free()

    def kill(self) -> None:
        """Let the driver die, as if the drive were pulled out."""
        for pid in self._drivers():
            os.kill(pid, signal.SIGKILL)

    def damage(self) -> set[str]:
        """Paths of the files that cannot be read.

        A driver that is killed while it makes a file may leave a name with nothing behind it.
        """
        found = set()
        for folder, _folders, names in os.walk(self.path):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    with open(path, "rb") as file:
                        file.read()
                except OSError as error:
                    assert error.errno == errno.EIO  # noqa: PT017 - any other is no damage
                    found.add(path)
        return found

    def clear(self) -> None:
        """Take away what a dead driver left."""
        run("umount", "-l", self.path)
        for _attempt in range(1000):
            if not self._drivers():
                break
            time.sleep(0.01)
        self._free()

    def _drivers(self) -> list[int]:
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
                if os.fsencode(self.path) in words and b"python" not in words[0]:
                    found.append(int(name))
        return found

    def _free(self) -> None:
        if self.loop:
            run("losetup", "-d", self.loop)
            self.loop = ""

    def __exit__(self, *_exc: object) -> None:
        if is_mounted(self.path):
            run("umount", "-l", self.path)
        self._free()
