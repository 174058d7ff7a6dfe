"""Time nightly runs of a mirror beside restic's backup of the same tree, in the same run.

    python bench/jobs.py                     50,000 files, in memory and on disk; some minutes
    python bench/jobs.py --files 5000        a quick look
    python bench/jobs.py --folder /mnt/nas   where to work; may be given more than once
    python bench/jobs.py --verify full       read back every copy that lies there already
    python bench/jobs.py --cold              with nothing of the file system in memory (as root)

Each round changes nothing, or one file in a hundred, and then both programs do their night's work,
in turns as to which comes first. What is printed are medians, and the share of restic's time. Both
know the tree from the night before. encvault reads back what it seals and, as jobs do, looks at a
sample of what it sealed before; restic does neither. Timings are no tests: nothing here fails for
being slow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL_SIZE = 8192  # bytes of a file, about that of source code
FOLDER_FILES = 100
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
SHARES = {"nothing changed": 0, "1 % changed": 100}  # one file in so many; 0 for none
PLACES = ("/dev/shm", tempfile.gettempdir())  # noqa: S108 - in memory, and on disk


class Nights:
    """A tree, and both programs that keep copies of it.

    Args:
        work: an empty folder.
        asked: the options.
    """

    def __init__(self, work: Path, asked: argparse.Namespace) -> None:
        self._chance = random.Random(7)
        self._tree = work / "tree"
        self._count = asked.files
        self._is_cold = asked.cold
        self._environment = os.environ | {
            "XDG_STATE_HOME": str(work / "state"),
            "XDG_CONFIG_HOME": str(work / "config"),
            "RESTIC_REPOSITORY": str(work / "restic"),
            "RESTIC_CACHE_DIR": str(work / "cache"),
            "RESTIC_PASSWORD": "as long as one that a person makes up",
        }
        for number in range(self._count):
            self._write(number)
        key = work / "key"
        encvault = (sys.executable, "-m", "encvault")
        recipient = self._run(*encvault, "key", "new", "--no-password", "-o", key).strip()
        job = work / "bench.toml"
        job.write_text(
            f'version = 1\nmode = "mirror"\nsources = ["{self._tree}"]\ndelete = true\n'
            f'destination = "{work / "mirror"}"\nrecipients = ["{recipient}"]\n'
            f'verify = "{asked.verify}"\n'
        )
        self._run("restic", "init")
        self.programs: dict[str, Callable[[], object]] = {
            "encvault": lambda: self._run(*encvault, "job", "run", job, "--quiet"),
            "restic": lambda: self._run("restic", "backup", "--quiet", self._tree),
        }

    def _run(self, *command: object) -> str:
        done = subprocess.run(
            list(map(str, command)),
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{command}: {done.stderr}")
        return done.stdout

    def _write(self, number: int) -> None:
        path = self._tree / f"folder{number // FOLDER_FILES}" / f"file{number}.txt"
        if number % FOLDER_FILES == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._chance.randbytes(SMALL_SIZE))

    def change(self, share: int) -> None:
        """Give one file in so many another content."""
        if share:
            for number in self._chance.sample(range(self._count), self._count // share):
                self._write(number)

    def timed(self, program: str) -> float:
        """Seconds that a program takes for its night's work."""
        if self._is_cold:
            os.sync()
            DROP_CACHES.write_text("3", encoding="ascii")
        began = time.monotonic()
        self.programs[program]()
        return time.monotonic() - began


def measured(work: Path, asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds of each program, by what has changed."""
    nights = Nights(work, asked)
    times: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    order = list(nights.programs)
    for program in order:
        times["the first night"][program].append(nights.timed(program))
    for _round in range(asked.runs):
        order.reverse()
        for what, share in SHARES.items():
            nights.change(share)
            for program in order:
                times[what][program].append(nights.timed(program))
    return {
        what: {program: statistics.median(found) for program, found in each.items()}
        for what, each in times.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--folder", action="append", help="where to work; memory and disk else")
    parser.add_argument("--verify", choices=["none", "sample", "full"], default="sample")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if shutil.which("restic") is None:
        sys.exit("restic is not installed; on Debian: sudo apt install restic")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for folder in asked.folder or PLACES:
        with tempfile.TemporaryDirectory(prefix="encvault-bench-", dir=folder) as name:
            found[folder] = measured(Path(name), asked)
    if asked.json:
        print(json.dumps(found, sort_keys=True))
        return
    print(f"{platform.machine()}, {os.cpu_count()} processors, {asked.files} files", end="")
    print(f", {asked.runs} rounds, verify = {asked.verify}{', cold' if asked.cold else ''}")
    for folder, each in found.items():
        print(f"\n{folder:24}{'encvault s':>12}{'restic s':>12}{'ratio':>8}")
        for what, seconds in each.items():
            ratio = seconds["encvault"] / seconds["restic"]
            row = f"{seconds['encvault']:12.2f}{seconds['restic']:12.2f}{ratio:8.2f}"
            print(f"{what:24}{row}")


if __name__ == "__main__":
    main()
