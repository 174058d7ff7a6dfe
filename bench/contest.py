"""Programs side by side on the same work: what they are, and how they are measured.

Every round runs each program once, so that a slow minute of the machine hits all of them; what
counts are medians, and ratios to others of the same rounds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
ENCVAULT = f"{shlex.quote(sys.executable)} -m encvault"
ROOT = Path(__file__).resolve().parents[1]
_TIME = shutil.which("time")
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_EVERY_S = 0.05  # how often memory is looked at


@dataclass(frozen=True)
class Aim:
    """What a program shall reach.

    Attributes:
        figure: which one.
        factor: at most so many times that of `against`; alone, at most so much: seconds or KiB.
        against: the name of another program of the same case.
    """

    figure: Literal["seconds", "cpu", "peak_kib"]
    factor: float
    against: str = ""

    def text(self) -> str:
        """For the table."""
        if self.against:
            return f"≤ {self.factor:.3g} times {self.against}"
        if self.figure == "peak_kib":
            return f"≤ {self.factor / 1024:g} MB"
        return (
            f"≤ {self.factor * 1000:g} ms CPU" if self.figure == "cpu" else f"≤ {self.factor:g} s"
        )


@dataclass
class Contender:
    """One program on one job.

    Attributes:
        name: for the table.
        command: for a shell, in the work folder.
        needs: programs that must be on PATH.
        before, after: commands outside the clock.
        serves: a part of the command line of a process that works for it in the background, whose
            memory counts.
        is_cold: begin with nothing of the file system in memory, which only root can do.
        aims: what it shall reach.
        seconds, cpu: of each counted round.
        peak_kib: of the largest process.
    """

    name: str
    command: str
    needs: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    serves: str = ""
    is_cold: bool = False
    aims: tuple[Aim, ...] = ()
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_kib: int = 0

    def figure(self, name: str) -> float:
        """The median of a figure, or the peak."""
        value = getattr(self, name)
        return statistics.median(value) if isinstance(value, list) else float(value)


@dataclass
class Case:
    """One job, and who does it.

    Attributes:
        name, title: for the table.
        contenders: the first is what the others are compared with.
        each_round: a command before every round.
        leaves_pages: whether to have free memory backed by the host again before each program.
        is_warmed: whether a first round is not counted, as it fills caches.
    """

    name: str
    title: str
    contenders: list[Contender]
    each_round: str = ""
    leaves_pages: bool = True
    is_warmed: bool = True

    def named(self, name: str) -> Contender | None:
        """A contender that took part."""
        found = (one for one in self.contenders if one.name == name and one.seconds)
        return next(found, None)

    def judged(self, one: Contender) -> list[tuple[str, float, bool]]:
        """Each aim of a contender: in words, what it came to, and whether that is reached."""
        found = []
        for aim in one.aims:
            other = self.named(aim.against) if aim.against else None
            if aim.against and other is None:
                continue  # not installed
            base = other.figure(aim.figure) if other is not None else 1.0
            reached = one.figure(aim.figure) / base
            found.append((aim.text(), reached, reached <= aim.factor))
        return found


class Bench:
    """A folder in which programs run.

    Args:
        work: an empty folder.
        runs: counted rounds.

    Attributes:
        file_system: its kind.
        can_be_cold: whether what is in memory of it can be dropped.
    """

    def __init__(self, work: Path, runs: int) -> None:
        self.work = work
        self.runs = runs
        # one may be mounted over another
        self.file_system = _output("findmnt", "-n", "-o", "FSTYPE", "-T", work).split("\n")[-1]
        self.can_be_cold = os.access(_DROP_CACHES, os.W_OK) and self.file_system != "tmpfs"
        self._environment = os.environ | {
            "RCLONE_CONFIG": str(work / "rclone.conf"),
            "XDG_STATE_HOME": str(work / "state"),
            "XDG_CONFIG_HOME": str(work / "config"),
            "GNUPGHOME": str(work / "gnupg"),
            "RESTIC_REPOSITORY": str(work / "restic"),
            "RESTIC_CACHE_DIR": str(work / "cache"),
            "RESTIC_PASSWORD": "as long as one that a person makes up",
        }
        # whoever installs encvault has it compiled
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._prepare_keys()

    def _prepare_keys(self) -> None:
        self.shell(f"{ENCVAULT} key new --no-password -o me.key >me.pub 2>/dev/null")
        self.shell(f"{ENCVAULT} log init -o log.pub >/dev/null 2>&1")
        if shutil.which("age-keygen"):
            self.shell("age-keygen -o age.key 2>/dev/null; age-keygen -y age.key >age.pub")
        (self.work / "gnupg").mkdir(mode=0o700)
        if shutil.which("rclone"):
            secret = _output("rclone", "obscure", "x")
            (self.work / "rclone.conf").write_text(
                f"[crypt]\ntype = crypt\nremote = {self.work}/c\npassword = {secret}\n"
            )

    def shell(self, command: str) -> tuple[float, float, int]:
        """Run a command that must end well.

        Returns:
            Seconds on the clock, seconds of CPU, and peak memory of the largest process in KiB; 0
            without GNU time.
        """
        began = time.perf_counter()
        # a process begins with the peak of who started it, so a small one has to come between
        peak = self.work / "peak"
        watched = [_TIME, "-q", "-f", "%M", "-o", str(peak)] if _TIME else []
        process = subprocess.Popen(
            [*watched, "sh", "-c", command], cwd=self.work, env=self._environment
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"failed with {process.returncode}: {command}")
        peak_kib = int(peak.read_text()) if _TIME else 0
        return seconds, usage.ru_utime + usage.ru_stime, peak_kib

    def available(self, contenders: list[Contender], only: str) -> list[Contender]:
        """Those whose programs are there; the others are named."""
        found = []
        for one in contenders:
            missing = [name for name in one.needs if shutil.which(name) is None]
            if one.is_cold and not self.can_be_cold:
                print(f"  left out: {one.name}, cold (needs root, and a disk)")
            elif missing:
                print(f"  left out: {one.name} ({', '.join(missing)} not installed)")
            elif one is contenders[0] or only in one.name:
                found.append(one)
        return found

    def measure(self, case: Case) -> None:
        """Run every program of a case, round after round."""
        touched = 2 * _size(self.work) if self.file_system == "tmpfs" and case.leaves_pages else 0
        for round_ in range(0 if case.is_warmed else 1, self.runs + 1):
            if case.each_round:
                self.shell(case.each_round)
            for one in case.contenders:
                self._run(one, touched, is_counted=round_ > 0)
        print(f"  {case.name}: done", file=sys.stderr)

    def _run(self, one: Contender, touched: int, *, is_counted: bool) -> None:
        if one.before:
            self.shell(one.before)
        if touched:
            # a virtual machine may have given back what the last program freed; whoever comes next
            # would pay for it, several times what copying costs
            self.shell(f"head -c {touched} /dev/zero > touched; rm touched")
        if one.is_cold:
            os.sync()
            _DROP_CACHES.write_text("3", encoding="ascii")
            # the programs themselves are in memory, as in daily use
            self.shell(f"{ENCVAULT} usb list >/dev/null 2>&1; {ENCVAULT} mount >/dev/null")
            self.shell("for one in cp dd find grep sync; do $one --version; done >/dev/null")
        with _watched(one.serves) as peaks:
            seconds, cpu, peak = self.shell(one.command)
        if one.after:
            self.shell(one.after)
        if is_counted:
            one.seconds.append(seconds)
            one.cpu.append(cpu)
            one.peak_kib = max(one.peak_kib, peak, *peaks)


@contextlib.contextmanager
def _watched(serves: str) -> Iterator[list[int]]:
    """Look at the memory of processes that work in the background."""
    peaks = [0]
    if not serves:
        yield peaks
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY_S):
            peaks.extend(_peaks_of(serves))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _peaks_of(serves: str) -> Iterator[int]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if serves in command:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                yield int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
        except (OSError, UnicodeDecodeError, IndexError):
            continue  # it has just ended


def _size(work: Path) -> int:
    return sum(path.lstat().st_size for path in work.rglob("*") if path.is_file())


def _output(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout.strip()


OF_A_CASE = ("encvault", "date", "processor")  # of what is told of the machine


def described(case: Case, runs: int, about: dict[str, str]) -> dict[str, Any]:
    """A case for machines, with the state of the program that it was measured at."""
    return {
        "name": case.name,
        "title": case.title,
        "runs": runs,
        **{name: about[name] for name in OF_A_CASE},
        "contenders": [
            {
                "name": one.name,
                "seconds": one.seconds,
                "cpu_seconds": one.cpu,
                "peak_kib": one.peak_kib,
                "aims": [
                    {"aim": text, "reached": reached, "is_met": is_met}
                    for text, reached, is_met in case.judged(one)
                ],
            }
            for one in case.contenders
            if one.seconds
        ],
    }


def table(case: Case) -> str:
    """A case for people."""
    base = case.contenders[0].figure("seconds")
    head = f"{'':38}{'median s':>9}{'min':>8}{'max':>8}{'ratio':>7}{'cpu s':>8}{'MB':>6}  aims"
    rows = [f"\n{case.name}: {case.title}", head]
    for one in case.contenders:
        aims = ", ".join(
            f"{text}: {_short(text, reached)}{'' if is_met else ' MISSED'}"
            for text, reached, is_met in case.judged(one)
        )
        median = one.figure("seconds")
        rows.append(
            f"{one.name:38}{median:9.3f}{min(one.seconds):8.3f}{max(one.seconds):8.3f}"
            f"{median / base:7.2f}{one.figure('cpu'):8.3f}{one.peak_kib / 1024:6.0f}  {aims}"
        )
    return "\n".join(rows)


def _short(aim: str, reached: float) -> str:
    return f"{reached / 1024:.0f}" if "MB" in aim else f"{reached:.2f}"
