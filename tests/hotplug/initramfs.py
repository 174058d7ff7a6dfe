"""What the guest starts from: busybox, a script, and those modules of the kernel that it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = (
    *("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay"),  # for the guest itself
    *("xhci_pci", "usb_storage", "sd_mod"),
    *("vfat", "nls_cp437", "nls_ascii", "nls_utf8", "exfat"),
    "fuse",
)


def build(unpacked: Path, to: Path) -> None:
    """Make the archive.

    Args:
        unpacked: where Debian's packages were unpacked.
        to: a new folder; the archive is ``initrd`` in it.
    """
    top = to / "top"
    (top / "bin").mkdir(parents=True)
    shutil.copy(unpacked / "busybox" / "bin" / "busybox", top / "bin")
    shutil.copy(HERE / "init.sh", top / "init")
    (top / "init").chmod(0o755)
    (top / "modules").mkdir()
    udev = top / "udev"
    shutil.copytree(unpacked / "udev" / "etc", udev / "etc", symlinks=True)
    for name in ("bin", "lib"):  # which on the host, as on every Debian today, lead to /usr
        shutil.copytree(unpacked / "udev" / name, udev / "usr" / name, symlinks=True)
    shutil.rmtree(udev / "usr" / "lib" / "udev" / "hwdb.d")  # megabytes of names of devices
    order = in_order({_name(path): path for path in unpacked.glob("kernel/lib/modules/**/*.ko")})
    for path in order:
        shutil.copy(path, top / "modules")
    (top / "modules" / "order").write_text("".join(f"{path.name}\n" for path in order))
    names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
    with (to / "initrd").open("wb") as archive:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"],
            cwd=top,
            input=names.encode(),
            stdout=archive,
            check=True,
        )


def in_order(files: dict[str, Path]) -> list[Path]:
    """The modules and what they depend on, each after what it depends on."""
    found: dict[str, Path] = {}

    def add(name: str) -> None:
        if name not in found:
            needed = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
            assert needed is not None, files[name]
            for other in filter(None, needed[1].decode().split(",")):
                add(_plain(other))
            found[name] = files[name]

    for name in MODULES:
        add(name)
    return list(found.values())


def _name(path: Path) -> str:
    return _plain(path.stem)


def _plain(name: str) -> str:
    return name.replace("-", "_")
