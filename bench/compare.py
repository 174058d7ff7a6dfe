"""Time encvault beside its peers on the same work, in the same run.

    python bench/compare.py                     everything, about 15 minutes
    python bench/compare.py large --runs 5      one part, five alternating runs
    python bench/compare.py --folder /mnt/disk  on another file system than /dev/shm

Every round runs each program once, so that a slow minute of the machine hits all of them; what is
printed are medians and ratios to the first row of a part. Input is written before the clock
starts. Peers that are not installed are left out and named. Timings are no tests: nothing here
fails for being slow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
ENCVAULT = f"{shlex.quote(sys.executable)} -m encvault"


@dataclass
class Contender:
    """One program on one job.

    Attributes:
        name: for the table.
        command: for a shell, in the work folder.
        needs: programs that must be on PATH.
        before, after: commands outside the clock.
    """

    name: str
    command: str
    needs: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_kib: int = 0


@dataclass(frozen=True)
class Scale:
    """How much work."""

    large_mib: int
    files: int


def large(work: Path, scale: Scale) -> list[Contender]:
    """One large file."""
    _write_random(work / "big", scale.large_mib * MIB)
    clean = "rm -rf out* in in.* big.* copy c p s.*"
    again = f"{clean}; cp big in"
    return [
        Contender("cp", "cp big copy", after=clean),
        Contender("encvault seal, in place", f"{ENCVAULT} seal -q in -r me.pub", before=again),
        Contender("encvault seal -o", f"{ENCVAULT} seal -q big -o s.sealed -r me.pub", after=clean),
        Contender(
            "encvault seal -o, sm4-gcm",
            f"{ENCVAULT} seal -q big -o s.sealed --suite sm4-gcm -r me.pub",
            after=clean,
        ),
        Contender(
            "encvault open -o",
            f"{ENCVAULT} open -q s.sealed -o out -i me.key",
            before=f"{ENCVAULT} seal -q big -o s.sealed --force -r me.pub",
            after=clean,
        ),
        Contender("age", "age -R age.pub -o big.age big", ("age", "age-keygen"), after=clean),
        Contender(
            "gpg",
            "gpg --batch --quiet --passphrase x --compress-level 0 --cipher-algo AES256 "
            "-c -o big.gpg big",
            ("gpg",),
            after=clean,
        ),
        Contender("7zz", "7zz a -bd -y -mx0 -px big.7z big >/dev/null", ("7zz",), after=clean),
        *_mounted("cp big p/big", clean),
        Contender("rclone crypt", "rclone copy big crypt:", ("rclone",), after=clean),
    ]


def tree(work: Path, scale: Scale) -> list[Contender]:
    """Many small files."""
    _write_tree(work / "tree", scale.files)
    clean = "rm -rf out* in copy c p mirror* t.*"
    again = f"{clean}; cp -a tree in"
    return [
        Contender("cp -r, then rm -r", "cp -r in copy && rm -r in", before=again),
        Contender(
            "encvault seal, in place", f"{ENCVAULT} seal -q in --yes -r me.pub", before=again
        ),
        Contender(
            "encvault seal --hide-names, in place",
            f"{ENCVAULT} seal -q in --yes --hide-names -r me.pub",
            before=again,
        ),
        Contender(
            "encvault open, in place",
            f"{ENCVAULT} open -q in -i me.key",
            before=f"{again}; {ENCVAULT} seal -q in --yes -r me.pub",
        ),
        Contender(
            "encvault seal --to", f"{ENCVAULT} seal -q tree --to mirror -r me.pub", after=clean
        ),
        Contender(
            "encvault seal --archive",
            f"{ENCVAULT} seal -q tree --archive t.sealed -r me.pub",
            after=clean,
        ),
        Contender("tar | age", "tar c tree | age -R age.pub -o t.age", ("age",), after=clean),
        Contender("7zz", "7zz a -bd -y -mx0 -px t.7z tree >/dev/null", ("7zz",), after=clean),
        *_mounted("cp -r tree p/tree", clean),
        Contender("rclone crypt", "rclone copy tree crypt:", ("rclone",), after=clean),
    ]


def unchanged(work: Path, scale: Scale) -> list[Contender]:
    """The second night: nothing has changed."""
    if not (work / "tree").exists():
        _write_tree(work / "tree", scale.files)
    return [
        Contender(
            "encvault seal --to",
            f"{ENCVAULT} seal -q tree --to mirror -r me.pub",
            before=f"test -d mirror || {ENCVAULT} seal -q tree --to mirror -r me.pub",
        ),
        Contender(
            "encvault seal --to, hidden",
            f"{ENCVAULT} seal -q tree --to mirror2 --hide-names -r me.pub",
            before=f"test -d mirror2 || "
            f"{ENCVAULT} seal -q tree --to mirror2 --hide-names -r me.pub",
        ),
        Contender(
            "rclone sync crypt",
            "rclone sync tree crypt:",
            ("rclone",),
            before="test -d c || rclone sync tree crypt:",
        ),
    ]


def start(_work: Path, _scale: Scale) -> list[Contender]:
    """Starting and doing nothing."""
    return [
        Contender("python -c pass", f"{shlex.quote(sys.executable)} -c pass"),
        Contender("encvault --version", f"{ENCVAULT} --version >/dev/null"),
        Contender("encvault --help", f"{ENCVAULT} --help >/dev/null"),
        Contender("age --version", "age --version >/dev/null", ("age",)),
    ]


PARTS: dict[str, Callable[[Path, Scale], list[Contender]]] = {
    "start": start,
    "large": large,
    "tree": tree,
    "unchanged": unchanged,
}


def _mounted(command: str, clean: str) -> list[Contender]:
    if not os.path.exists("/dev/fuse"):
        return []
    return [
        Contender(
            "gocryptfs",
            f"{command} && sync -f p",
            ("gocryptfs", "fusermount"),
            before="mkdir -p c p && gocryptfs -q -init -extpass 'echo x' -scryptn 10 c"
            " && gocryptfs -q -extpass 'echo x' c p",
            after=f"fusermount3 -u p || fusermount -u p || umount p; {clean}",
        )
    ]


# -- input ----------------------------------------------------------------------------------


def _write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _piece in range(size // MIB):
            file.write(os.urandom(MIB))


def _write_tree(root: Path, files: int) -> None:
    """A tree like a company's share: many small files, some of a few megabytes."""
    generator = random.Random(1)
    pool = os.urandom(8 * MIB)
    for index in range(files):
        folder = root / f"d{index // 1000:03}" / f"e{index // 50 % 20:02}"
        if index % 50 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        size = min(int(generator.lognormvariate(8.6, 1.5)), 4 * MIB)
        at = generator.randrange(len(pool) - size)
        (folder / f"文件 {index}.dat").write_bytes(pool[at : at + size])
        when = 1_500_000_000 * 10**9 + index
        os.utime(folder / f"文件 {index}.dat", ns=(when, when))


def _prepare_keys(work: Path) -> None:
    _shell(f"{ENCVAULT} key new --no-password -o me.key >me.pub 2>/dev/null", work)
    if shutil.which("age-keygen"):
        _shell("age-keygen -o age.key 2>/dev/null; age-keygen -y age.key >age.pub", work)
    (work / "gnupg").mkdir(mode=0o700)
    if shutil.which("rclone"):
        secret = _output(["rclone", "obscure", "x"])
        (work / "rclone.conf").write_text(
            f"[crypt]\ntype = crypt\nremote = {work}/c\npassword = {secret}\n"
        )


def _size(work: Path) -> int:
    return sum(path.stat().st_size for path in work.rglob("*") if path.is_file())


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# -- measuring ------------------------------------------------------------------------------


def _shell(command: str, work: Path) -> tuple[float, float, int]:
    """Seconds on the clock, seconds of CPU, and peak memory of the largest process in KiB."""
    environment = os.environ | {
        "RCLONE_CONFIG": str(work / "rclone.conf"),
        "XDG_STATE_HOME": str(work / "state"),
        "GNUPGHOME": str(work / "gnupg"),
    }
    began = time.perf_counter()
    process = subprocess.Popen(["sh", "-c", command], cwd=work, env=environment)
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {command}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def _available(contenders: list[Contender]) -> Iterator[Contender]:
    for contender in contenders:
        missing = [name for name in contender.needs if shutil.which(name) is None]
        if missing:
            print(f"  left out: {contender.name} ({', '.join(missing)} not installed)")
        else:
            yield contender


def _touch_memory(work: Path, size: int) -> None:
    """Have free pages backed by the host again.

    A virtual machine may have given back what the last contender freed; whoever comes next would
    pay for it, several times what copying costs.
    """
    _shell(f"head -c {size} /dev/zero > touched; rm touched", work)


def _measure(contenders: list[Contender], work: Path, runs: int, *, size: int) -> None:
    for round_ in range(runs + 1):
        for contender in contenders:
            if contender.before:
                _shell(contender.before, work)
            if size:
                _touch_memory(work, size)
            seconds, cpu, peak = _shell(contender.command, work)
            if contender.after:
                _shell(contender.after, work)
            if round_:  # the first warms caches
                contender.seconds.append(seconds)
                contender.cpu.append(cpu)
                contender.peak_kib = max(contender.peak_kib, peak)


def _report(title: str, contenders: list[Contender]) -> list[dict[str, object]]:
    base = statistics.median(contenders[0].seconds)
    print(
        f"\n{title}\n{'':40}{'median s':>10}{'min':>9}{'max':>9}{'ratio':>8}{'cpu s':>9}{'MB':>7}"
    )
    rows: list[dict[str, object]] = []
    for one in contenders:
        median = statistics.median(one.seconds)
        print(
            f"{one.name:40}{median:10.3f}{min(one.seconds):9.3f}{max(one.seconds):9.3f}"
            f"{median / base:8.2f}{statistics.median(one.cpu):9.3f}{one.peak_kib / 1024:7.0f}"
        )
        rows.append({"name": one.name, "seconds": one.seconds, "peak_kib": one.peak_kib})
    return rows


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description="time encvault beside its peers")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--runs", type=int, default=3, help="counted rounds")
    parser.add_argument("--large-mib", type=int, default=2048, help="size of the large file")
    parser.add_argument("--files", type=int, default=50_000, help="files in the tree")
    parser.add_argument("--folder", default="/dev/shm", help="where to work")  # noqa: S108 - memory
    parser.add_argument("--only", default="", help="contenders whose name has this, and the first")
    options = parser.parse_args()
    chosen = options.parts or list(PARTS)
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"no such part: {', '.join(unknown)}")
    scale = Scale(options.large_mib, options.files)
    print(f"{platform.machine()}, {os.cpu_count()} processors, {options.folder}", end="")
    print(f", {scale.large_mib} MiB, {scale.files} files, {options.runs} rounds")
    results = {}
    with tempfile.TemporaryDirectory(
        prefix="encvault-bench-", dir=options.folder, ignore_cleanup_errors=True
    ) as name:
        work = Path(name)
        in_memory = _output(["stat", "-f", "-c", "%T", name]) == "tmpfs"
        _prepare_keys(work)
        for part in chosen:
            contenders = list(_available(PARTS[part](work, scale)))
            contenders = [
                one for one in contenders if one is contenders[0] or options.only in one.name
            ]
            _measure(contenders, work, options.runs, size=2 * _size(work) if in_memory else 0)
            title = f"{part}: {(PARTS[part].__doc__ or '').rstrip('.')}"
            results[part] = _report(title, contenders)
    target = Path(__file__).parent / "results" / "latest.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
