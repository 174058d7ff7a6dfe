"""Time a mount beside gocryptfs and a plain folder, on the same work, in the same run.

    python bench/mount.py                      everything, about 20 minutes
    python bench/mount.py --small              a quick look, about a minute
    python bench/mount.py tree --runs 5        one part, five alternating runs
    python bench/mount.py --folder /mnt/disk   on another file system than the temporary one

Every round does the work once in each place, so that a slow minute of the machine hits all of
them; what is printed are medians, and their ratios to the plain folder and to gocryptfs. "Cold" is
after a new mount, for root with empty caches of the disk as well. What is written counts as done
when it is durable. Without gocryptfs its rows are left out. Timings are no tests: nothing here
fails for being slow.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
PATIENCE = 30.0  # seconds for a mount to appear
DROP_CACHES = "/proc/sys/vm/drop_caches"
ENCVAULT = (sys.executable, "-m", "encvault")
ROOT = Path(__file__).resolve().parents[1]
GIT = "git -c user.name=A -c user.email=a@example.com -c gc.auto=0 -c maintenance.auto=false"


@dataclass(frozen=True)
class Scale:
    """How much work.

    Attributes:
        large_mib: size of the large file.
        files: in the source tree.
        listed: files for ``ls -R``.
    """

    large_mib: int
    files: int
    listed: int


SCALE = Scale(1024, 5000, 50_000)
SMALL = Scale(64, 300, 2000)


class Place(ABC):
    """Where the work is done.

    Attributes:
        name: for the table.
        path: the folder that programs see.
        backing: the folder on the disk.
        peak_kib: the most memory that a serving process had.
    """

    name: str

    def __init__(self, work: Path) -> None:
        self.path = work / f"{type(self).__name__.lower()}-mount"
        self.backing = work / f"{type(self).__name__.lower()}-disk"
        self.peak_kib = 0
        self._server: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> list[str] | None:
        """The command that serves in the foreground, or None if nothing has to."""

    def stop(self) -> list[str]:
        """The command that unmounts."""
        return ["fusermount3", "-u", str(self.path)]

    def mount(self) -> None:
        """Return when programs can work there."""
        command = self.start()
        if command is None:
            return
        self._server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT
        )
        deadline = time.monotonic() + PATIENCE
        while not os.path.ismount(self.path):
            if self._server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"cannot mount: {shlex.join(command)}")
            time.sleep(0.005)

    def unmount(self) -> None:
        """Return when nothing serves any more."""
        if self._server is None:
            return
        with open(f"/proc/{self._server.pid}/status", encoding="utf-8") as file:
            # a process that has died has no such line
            peak = next((line for line in file if line.startswith("VmHWM:")), "VmHWM: 0 kB")
        self.peak_kib = max(self.peak_kib, int(peak.split()[1]))
        subprocess.run(self.stop(), check=True, capture_output=True, cwd=ROOT)
        self._server.wait()
        self._server = None

    def cool(self) -> None:
        """Have nothing of what is there in memory."""
        self.unmount()
        os.sync()
        if os.geteuid() == 0 and os.access(DROP_CACHES, os.W_OK):
            Path(DROP_CACHES).write_text("3", encoding="ascii")
        self.mount()


class Folder(Place):
    """A plain folder."""

    name = "plain folder"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.path.mkdir()
        self.backing = self.path

    def start(self) -> None:
        """See `Place`."""


class Gocryptfs(Place):
    """The peer."""

    name = "gocryptfs"
    _password = ("-q", "-extpass", "echo x")

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.path.mkdir()
        self.backing.mkdir()
        subprocess.run(
            ["gocryptfs", *self._password, "-init", "-scryptn", "10", str(self.backing)], check=True
        )

    def start(self) -> list[str]:
        """See `Place`."""
        return ["gocryptfs", *self._password, "-fg", str(self.backing), str(self.path)]


class Visible(Place):
    """A vault whose names show."""

    name = "encvault"
    options: tuple[str, ...] = ()

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._key = work / f"{type(self).__name__}.key"
        made = subprocess.run(
            [*ENCVAULT, "key", "new", "--no-password", "-o", str(self._key)],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        subprocess.run(
            [*ENCVAULT, "init", str(self.backing), *self.options, "-r", made.stdout.strip()],
            check=True,
            capture_output=True,
            cwd=ROOT,
        )

    def start(self) -> list[str]:
        """See `Place`."""
        vault, where = str(self.backing), str(self.path)
        return [*ENCVAULT, "mount", vault, where, "-i", str(self._key), "-f"]

    def stop(self) -> list[str]:
        """See `Place`."""
        return [*ENCVAULT, "unmount", str(self.path)]


class Hidden(Visible):
    """A vault whose names are sealed as well."""

    name = "encvault, hidden"
    options = ("--hide-names",)


class Clock:
    """Takes and keeps times."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def time(self, what: str, place: Place, command: str) -> None:
        """Time a command of the shell."""
        began = time.perf_counter()
        shell(command)
        self.seconds[what][place.name].append(time.perf_counter() - began)

    def report(self, places: list[Place]) -> None:
        """Medians and ratios."""
        print(f"{'':28}{'':20}{'median s':>10}{'min':>9}{'max':>9}{'folder':>8}{'gocryptfs':>11}")
        for what, taken in self.seconds.items():
            for place in places:
                seconds = taken[place.name]
                median = statistics.median(seconds)
                ratios = [
                    f"{median / statistics.median(taken[other.name]):.2f}" if other else "-"
                    for other in (_named(places, Folder), _named(places, Gocryptfs))
                ]
                print(
                    f"{what if place is places[0] else '':28}{place.name:20}{median:10.3f}"
                    f"{min(seconds):9.3f}{max(seconds):9.3f}{ratios[0]:>8}{ratios[1]:>11}"
                )


def _named(places: list[Place], kind: type[Place]) -> Place | None:
    return next((place for place in places if type(place) is kind), None)


def shell(command: str) -> None:
    """Run it; it has to end well."""
    code = subprocess.run(["sh", "-c", command], check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        sys.exit(f"failed with {code}: {command}")


def durable(place: Place) -> str:
    """What makes everything that was written there durable."""
    return f"sync {quoted(place.path)} && sync -f {quoted(place.backing)}"


def quoted(path: Path) -> str:
    """A path for the shell."""
    return shlex.quote(str(path))


# -- the work -------------------------------------------------------------------------------


def large(clock: Clock, place: Place, _source: Path, scale: Scale) -> None:
    """One large file, in blocks of 128 KiB."""
    big = quoted(place.path / "big")
    size, blocks = f"{scale.large_mib} MiB", scale.large_mib * 8
    write = f"dd if=/dev/zero of={big} bs=128k count={blocks} conv=fsync status=none"
    read = f"dd if={big} of=/dev/null bs=128k status=none"
    clock.time(f"write {size}, fsync", place, write)
    place.cool()
    clock.time(f"read {size}, cold", place, read)
    clock.time(f"read {size}, warm", place, read)
    shell(f"rm {big}")


def tree(clock: Clock, place: Place, source: Path, scale: Scale) -> None:
    """A tree of source code: copied in, looked through, removed."""
    copy = quoted(place.path / "tree")
    clock.time(
        f"copy {scale.files} files in", place, f"cp -r {quoted(source)} {copy} && {durable(place)}"
    )
    shell(f"git -C {copy} status")  # which learns the new times
    looks = {
        "find": f"find {copy}",
        "find -newer": f"find {copy} -newer {quoted(source)}",
        "grep -r": f"grep -r 'nothing is like this' {copy}; test $? = 1",
        "git status": f"git -C {copy} status --porcelain",
    }
    for what, command in looks.items():
        place.cool()
        clock.time(f"{what}, cold", place, command)
        clock.time(f"{what}, warm", place, command)
    clock.time(f"remove {scale.files} files", place, f"rm -rf {copy} && {durable(place)}")


def listing(clock: Clock, place: Place, _source: Path, scale: Scale) -> None:
    """Many small files: made, and listed."""
    top = place.path / "many"
    if not top.exists():
        began = time.perf_counter()
        for number in range(scale.listed):
            folder = top / f"d{number % 100:02}"
            if number < 100:  # noqa: PLR2004 - the folders
                folder.mkdir(parents=True)
            (folder / f"文件 {number}.txt").write_bytes(b"x" * (number % 100))
        shell(durable(place))
        made = f"make {scale.listed} files, once"
        clock.seconds[made][place.name].append(time.perf_counter() - began)
    place.cool()
    clock.time(f"ls -R of {scale.listed}, cold", place, f"ls -R {quoted(top)}")
    clock.time(f"ls -R of {scale.listed}, warm", place, f"ls -R {quoted(top)}")


PARTS: dict[str, Callable[[Clock, Place, Path, Scale], None]] = {
    "large": large,
    "tree": tree,
    "listing": listing,
}


def write_source(root: Path, files: int) -> None:
    """A repository like one of source code: 0.2 to 40 kB a file, some folders deep."""
    generator = random.Random(1)
    for number in range(files):
        depth = generator.choice([1, 2, 2, 3, 3, 4, 8])
        folder = root.joinpath(*(f"part{generator.randrange(4)}" for _level in range(depth)))
        folder.mkdir(parents=True, exist_ok=True)
        size = min(max(int(generator.lognormvariate(8.2, 1.2)), 200), 40_000)
        line = f"value_{number} = compute(value_{number - 1}, {generator.random()})\n"
        (folder / f"module{number}.py").write_text((line * (size // len(line) + 1))[:size])
    quiet = f"cd {quoted(root)} && {GIT}"
    shell(f"{quiet} init -q && {GIT} add . && {GIT} commit -q -m all && {GIT} gc -q")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--runs", type=int, default=3, help="counted rounds")
    parser.add_argument("--small", action="store_true", help="little work, one round")
    parser.add_argument("--folder", default=None, help="where to work")
    options = parser.parse_args()
    chosen = options.parts or list(PARTS)
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"no such part: {', '.join(unknown)}")
    scale, runs = (SMALL, 1) if options.small else (SCALE, options.runs)
    kinds: list[type[Place]] = [Folder, Gocryptfs, Visible, Hidden]
    if shutil.which("gocryptfs") is None:
        print("left out: gocryptfs is not installed")
        kinds.remove(Gocryptfs)
    with tempfile.TemporaryDirectory(prefix="encvault-bench-", dir=options.folder) as name:
        work = Path(name)
        os.environ |= {
            "XDG_STATE_HOME": str(work / "state"),
            "XDG_CONFIG_HOME": str(work / "config"),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        source = work / "source"
        write_source(source, scale.files)
        places = [kind(work) for kind in kinds]
        try:
            for part in chosen:
                clock = Clock()
                for _round in range(runs):
                    for place in places:
                        place.mount()
                        PARTS[part](clock, place, source, scale)
                        place.unmount()
                print(f"\n{part}: {(PARTS[part].__doc__ or '').rstrip('.')}")
                clock.report(places)
        finally:
            for place in places:
                place.unmount()
        print("\nmost memory of the serving process")
        for place in places[1:]:
            print(f"{place.name:28}{place.peak_kib / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
