"""Time locking a drive beside copying the same files to it, and unlocking it by mount.

    python bench/usb.py                  ext4 and exFAT, three alternating rounds; some minutes
    python bench/usb.py --small          a quick look
    python bench/usb.py --kind exfat     one file system
    python bench/usb.py --files 20000    how many small files there are beside the large ones

Needs root: the drive is an image with a real file system, mounted by a loop device. ext4 is the
kernel's; exFAT goes through FUSE here (exfat-fuse), as the kernel of a build machine may have none.
Each round makes a fresh file system, and caches are dropped before each side is timed, but for
those of the programs.
What is written counts as done when it is durable: ``cp -r`` and ``sync -f``, and for the lock when
it says so. The lock reads, seals, writes, reads back, authenticates and removes what the copy only
writes. Timings are no tests: nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[1]
ENCVAULT = (sys.executable, "-m", "encvault")
PROGRAM = (
    "encvault.cli.run",
    "encvault.cli.usb",
    "encvault.operations.mounting",
    "encvault.accesslog.log",
    "encvault.mount.fuse",
    "encvault.mount.view",
)
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
MAKE = {"ext4": ["mkfs.ext4", "-q"], "exfat": ["mkfs.exfat"]}
MOUNT = {"ext4": ["mount"], "exfat": ["mount.exfat-fuse"]}
SMALL_SIZE = 8192  # bytes of a small file, about that of source code
SECONDS = 1e-9


def run(*command: object) -> str:
    """Run a command that must end well; what it printed."""
    done = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def drive(kind: str, work: Path, mib: int) -> Iterator[Path]:
    """A fresh file system, mounted."""
    image, path = work / "drive.img", work / "drive"
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    run(*MAKE[kind], image)
    path.mkdir(exist_ok=True)
    loop = run("losetup", "-f", "--show", image).strip()
    try:
        run(*MOUNT[kind], loop, path)
        try:
            yield path
        finally:
            run("umount", path)
    finally:
        run("losetup", "-d", loop)


def cool() -> None:
    """Have nothing of what is on the drive in memory, and the programs as in daily use."""
    os.sync()
    DROP_CACHES.write_text("3", encoding="ascii")
    run(sys.executable, "-c", f"import {', '.join(PROGRAM)}")


def timed(*command: object) -> float:
    """Seconds that a command takes."""
    began = time.monotonic_ns()
    run(*command)
    return (time.monotonic_ns() - began) * SECONDS


def fill(folder: Path, files: int, large_mib: int) -> None:
    """Files as a salesperson or developer has them: many small ones, and a few large ones."""
    chance = random.Random(7)
    for number in range(files):
        path = folder / f"folder{number % 100}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(SMALL_SIZE))
    for number in range(4):
        with (folder / f"large{number}.bin").open("wb") as file:
            for _part in range(large_mib // 4):
                file.write(chance.randbytes(MIB))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kind", choices=sorted(MAKE), action="append")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--large-mib", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", help="where the image lies; the temporary folder else")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.small:
        asked.files, asked.large_mib, asked.runs = 1000, 64, 1
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        work = Path(name)
        os.environ["XDG_STATE_HOME"] = str(work / "state")
        os.environ["XDG_RUNTIME_DIR"] = name
        source = work / "source"
        fill(source, asked.files, asked.large_mib)
        key = work / "key"
        recipient = run(*ENCVAULT, "key", "new", "--no-password", "-o", key).strip()
        for kind in asked.kind or sorted(MAKE):
            found[kind] = measured(kind, work, source, (str(key), recipient), asked)
    if asked.json:
        sys.stdout.write(json.dumps(found, sort_keys=True) + "\n")
        return
    for kind, medians in found.items():
        ratio = medians["lock"] / medians["cp"]
        sys.stdout.write(
            f"{kind:6}  cp -r and sync {medians['cp']:6.2f} s   lock {medians['lock']:6.2f} s "
            f"({ratio:.2f} times)   unlock by mount {medians['unlock']:5.2f} s\n"
        )


def measured(
    kind: str, work: Path, source: Path, key: tuple[str, str], asked: argparse.Namespace
) -> dict[str, float]:
    """Median seconds of each piece of work on one file system."""
    mib = 4 * asked.large_mib + asked.files * SMALL_SIZE // MIB * 8 + 256
    times: defaultdict[str, list[float]] = defaultdict(list)
    for _round in range(asked.runs):
        with drive(kind, work, mib) as path:
            cool()
            times["cp"].append(timed("sh", "-c", f"cp -r {source}/. {path} && sync -f {path}"))
            cool()
            where = ("--path", path, "--yes", "-q")
            times["lock"].append(timed(*ENCVAULT, "usb", "lock", *where, "-r", key[1]))
            cool()
            times["unlock"].append(timed(*ENCVAULT, "usb", "unlock", *where, "-i", key[0]))
            run(*ENCVAULT, "usb", "lock", *where)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
