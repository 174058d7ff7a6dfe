"""The access log and removable drives."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

from contest import ENCVAULT, ROOT, Case, Contender
from files import PYTHON
from inputs import write_random, write_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compare import Scale

_ENTRIES = f"{PYTHON} {shlex.quote(str(ROOT / 'bench' / 'entries.py'))}"
_SINGLES = 1000
_TOGETHER = 100_000


def log(_work: Path, scale: Scale) -> Iterator[Case]:
    """The access log: entries one by one and many at once, and verifying them all."""
    fresh = "rm -rf one many"
    yield Case(
        "log: append one by one",
        f"{_SINGLES} entries, each durable",
        [
            Contender(
                "two synced writes of that size", f"{_ENTRIES} bare {_SINGLES} one", before=fresh
            ),
            Contender("encvault's log", f"{_ENTRIES} single {_SINGLES} one", before=fresh),
        ],
        leaves_pages=False,
    )
    filled = f"test -d large || {_ENTRIES} together {scale.entries} large"
    sha = "find large -type f -exec sha256sum {} + >/dev/null"
    yield Case(
        "log: verify",
        f"{scale.entries} entries",
        [
            Contender("sha256sum of its files", sha, before=filled),
            Contender(
                "encvault log verify",
                f"{ENCVAULT} log verify --log large >/dev/null || test $? = 3",
                before=filled,
            ),
        ],
        leaves_pages=False,
    )
    yield Case(
        "log: append together",
        f"{_TOGETHER} entries",
        [
            Contender("writing them as JSON", f"{_ENTRIES} json {_TOGETHER} many", before=fresh),
            Contender("encvault's log", f"{_ENTRIES} together {_TOGETHER} many", before=fresh),
        ],
        leaves_pages=False,
    )


def drives(work: Path, scale: Scale) -> Iterator[Case]:
    """A drive, which is a file system of its own in a loop device: locked, beside a copy to it."""
    kinds = {
        "ext4": ("mkfs.ext4 -q drive.img", "mount -o loop drive.img d"),
        "exfat": (
            "mkfs.exfat drive.img >/dev/null",
            "mount.exfat-fuse $(losetup -f --show drive.img) d",
        ),
    }
    if os.name != "posix" or os.geteuid() != 0:
        print("  left out: drives, for only root makes file systems")
        return
    write_tree(work / "stick", scale.drive_files)
    write_random(work / "stick" / "large.bin", scale.drive_mib)
    image = scale.drive_mib * 3 + scale.drive_files // 10 + 512
    detach = "for l in $(losetup -n -O NAME -j drive.img); do losetup -d $l; done"
    unmounted = f"umount d; {detach}; rm drive.img"
    options = "--path d --yes -q"
    lock = f"{ENCVAULT} usb lock {options}"
    for kind, (make, attach) in kinds.items():
        if shutil.which(make.split()[0]) is None or shutil.which(attach.split()[0]) is None:
            print(f"  left out: {kind} ({make.split()[0]} or {attach.split()[0]} not installed)")
            continue
        there = f"truncate -s {image}M drive.img && {make} && mkdir -p d && {attach}"
        filled = f"{there} && cp -r stick/. d && sync -f d"
        yield Case(
            f"drive: {kind}",
            f"{scale.drive_files} files, and one of {scale.drive_mib} MiB",
            [
                Contender(
                    "cp -r and sync",
                    "cp -r stick/. d && sync -f d",
                    before=there,
                    after=unmounted,
                    is_cold=True,
                ),
                Contender(
                    "encvault usb lock",
                    f"{lock} -r me.pub",
                    before=filled,
                    after=unmounted,
                    is_cold=True,
                ),
                Contender(
                    "encvault usb unlock, by mount",
                    f"{ENCVAULT} usb unlock {options} -i me.key",
                    before=f"{filled} && {lock} -r me.pub",
                    after=f"{lock}; {unmounted}",
                    is_cold=True,
                ),
            ],
            leaves_pages=False,
        )
