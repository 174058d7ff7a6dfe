"""Time encvault beside its peers on the same work, in the same run.

    make bench                                   everything but growth, and the pages
    python bench/compare.py                      everything but growth, in memory
    python bench/compare.py large --runs 5       one part, five alternating rounds
    python bench/compare.py --small              a quick look at everything, some minutes
    python bench/compare.py --folder /mnt/disk   on another file system than /dev/shm
    python bench/compare.py growth --runs 1      up to a million files and 16 GiB
    python bench/compare.py --install            first install the peers that are missing (Debian)

Input is written before the clock starts. Peers that are not installed are left out and named.
Figures and their aims go to bench/results/latest.json as well, from which ``python bench/page.py``
makes docs/performance.md and its picture. Timings are no tests: nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contest import OF_A_CASE, ROOT, Bench, described, table
from files import again, large, start, tree
from growth import growth
from mounts import mount
from records import drives, log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contest import Case

RESULTS = Path(__file__).parent / "results" / "latest.json"
PEERS = {
    "age": "age",
    "gocryptfs": "gocryptfs",
    "gpg": "gnupg",
    "openssl": "openssl",
    "rclone": "rclone",
    "restic": "restic",
    "7zz": "7zip",
    "time": "time",
}


@dataclass(frozen=True)
class Scale:
    """How much work.

    Attributes:
        large_mib: size of the large file.
        files: in the tree.
        mounted_mib, source_files: what goes through a mount.
        entries: in the log that is verified.
        drive_mib, drive_files: what a drive holds.
        growing_files, growing_gib: what growth is measured on.
    """

    large_mib: int = 2048
    files: int = 50_000
    mounted_mib: int = 1024
    source_files: int = 5000
    entries: int = 1_000_000
    drive_mib: int = 512
    drive_files: int = 20_000
    growing_files: tuple[int, ...] = (1000, 10_000, 100_000, 1_000_000)
    growing_gib: tuple[int, ...] = (1, 4, 16)


SMALL = Scale(128, 1000, 64, 300, 100_000, 64, 500, (100, 1000), (1,))

PARTS: dict[str, Callable[[Path, Scale], Iterator[Case]]] = {
    "start": start,
    "large": large,
    "tree": tree,
    "again": again,
    "mount": mount,
    "log": log,
    "drives": drives,
    "growth": growth,
}


def install() -> None:
    """Install the peers that are missing, one by one: who is not to be had keeps no other out."""
    for program, package in PEERS.items():
        if shutil.which(program) is not None:
            continue
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            print(f"cannot install {program}; as root on Debian: {' '.join(command)}")
        elif subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            print(f"could not install {program} (package {package})")


def machine() -> dict[str, str]:
    """What the figures were taken on, without its name."""
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.+)", facts)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "processor": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "encvault": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "peers": ", ".join(_versions()),
    }


def _commit() -> str:
    """What is measured: figures of two states of the program do not go into one table."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    if found.endswith("-dirty"):
        found += f" at {datetime.now(UTC):%H:%M}"  # it may be another an hour later
    return found


def _versions() -> Iterator[str]:
    for program in PEERS:
        if shutil.which(program) is None or program == "time":
            continue
        option = {"7zz": "i", "openssl": "version", "restic": "version", "gocryptfs": "-version"}
        done = subprocess.run(
            [program, option.get(program, "--version")], check=False, capture_output=True, text=True
        )
        number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
        yield f"{program} {number[0]}" if number else program


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all but growth if none")
    parser.add_argument("--runs", type=int, default=3, help="counted rounds")
    parser.add_argument("--small", action="store_true", help="little work, one round")
    parser.add_argument("--files", type=int, help="in the tree and, in part, elsewhere")
    parser.add_argument("--large-mib", type=int, help="of the large files")
    parser.add_argument("--folder", default="/dev/shm", help="where to work")  # noqa: S108 - memory
    parser.add_argument("--only", default="", help="contenders whose name has this, and the first")
    parser.add_argument("--install", action="store_true", help="install missing peers (Debian)")
    options = parser.parse_args()
    chosen = options.parts or [part for part in PARTS if part != "growth"]
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"no such part: {', '.join(unknown)}")
    if options.install:
        install()
    scale = SMALL if options.small else Scale()
    if options.files:
        count = options.files
        scale = replace(scale, files=count, source_files=count // 10, drive_files=count // 10)
    if options.large_mib:
        size = options.large_mib
        scale = replace(scale, large_mib=size, mounted_mib=size, drive_mib=size // 4)
    runs = 1 if options.small else options.runs
    about = machine()
    print("\n".join(f"{name}: {text}" for name, text in about.items()))
    os.environ["PYTHONPATH"] = str(ROOT)  # the programs start in a folder of their own
    results = _known()
    with tempfile.TemporaryDirectory(
        prefix="encvault-bench-", dir=options.folder, ignore_cleanup_errors=True
    ) as name:
        bench = Bench(Path(name), runs)
        for part in chosen:
            for case in PARTS[part](bench.work, scale):
                case.title = f"{case.title}; {bench.file_system}"
                case.contenders = bench.available(case.contenders, options.only)
                if not case.contenders:
                    continue
                bench.measure(case)
                print(table(case), flush=True)
                results[case.name, case.title] = described(case, runs, about)
                if options.small:
                    continue  # which measures little but start-up
                RESULTS.parent.mkdir(exist_ok=True)
                whole = {"machine": about, "cases": list(results.values())}
                RESULTS.write_text(json.dumps(whole, indent=1, ensure_ascii=False))


def _known() -> dict[tuple[str, str], dict[str, object]]:
    """What was measured before, which a run of some parts adds to.

    Each case is of one state of the program and one machine, and has both by its side; all
    contenders of a case are of one run.
    """
    if not RESULTS.exists():
        return {}
    before = json.loads(RESULTS.read_text())
    then = {name: before["machine"][name] for name in OF_A_CASE}
    return {(case["name"], case["title"]): then | case for case in before["cases"]}


if __name__ == "__main__":
    main()
