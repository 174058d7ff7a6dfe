"""A job that runs night after night: its sources, which change, its copies, and what is told of it.

The runs are the real command line in processes that are forked from this one, as an ordinary user
where the tests are root: root would read every file. After each of them `Nightly.look` holds what
``job status`` tells against what happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fault.processes import PATIENCE, Countdown, fork, wait
from helpers import NOBODY, Node, snapshot

from encvault import cli
from encvault.accesslog import log as access_log
from encvault.fs import calls, durable
from encvault.jobs import archives, records
from encvault.vault import attributes, rows
from encvault.vault.layout import SUFFIX
from encvault.vault.manifest import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from helpers import Command

KEEP = 3  # archives
KILLED = -signal.SIGKILL
_MATCHES = rows.Known.matches  # what the other tests of faults replace
_NAMES = (
    "报价单",
    "客户 名单",
    "2026 年度总结（最终版）",
    "notes",
    "main.py",
    "a b c",
    "Straße",
    "-rf",
    "'quote'",
    "emoji🔒",
)

Tree = dict[str, Node]
Probe = Callable[[str, int, str], None]


# -- the tree -------------------------------------------------------------------------------


class Changes:
    """What people do to a folder by day.

    Args:
        root: the folder.
        chance: decides.
    """

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self._chance = chance
        self._count = 0

    def some(self, count: int) -> None:
        """Do some things."""
        for _each in range(count):
            self._chance.choice(
                (self.add, self.add, self.edit, self.remove, self.rename, self.link, self.mode)
            )()

    def add(self, size: int | None = None) -> Path:
        """A new file, somewhere."""
        path = self._new()
        self._write(path, self._chance.randrange(20_000) if size is None else size)
        return path

    def edit(self) -> None:
        """Another content for a file."""
        if (path := self._any(stat.S_ISREG)) is not None:
            self._write(path, self._chance.randrange(20_000))

    def remove(self) -> None:
        """A file goes, or now and then a folder."""
        if (path := self._any(lambda mode: not stat.S_ISDIR(mode))) is not None:
            path.unlink()
        if self._chance.random() < 0.1 and (folder := self._any(stat.S_ISDIR)) is not None:
            shutil.rmtree(folder)

    def rename(self) -> None:
        """A file or folder gets another name in another folder."""
        if (path := self._any(lambda _mode: True)) is not None:
            new = self._new()
            if path not in new.parents:
                path.rename(new)

    def link(self) -> None:
        """A symbolic link, which may lead nowhere."""
        path = self._new()
        path.symlink_to(self._chance.choice(("../报价单", "nowhere at all", "/etc/hostname")))
        _give(path)

    def mode(self) -> None:
        """Other permissions."""
        if (path := self._any(stat.S_ISREG)) is not None:
            path.chmod(self._chance.choice((0o644, 0o600, 0o755, 0o440)))

    def _new(self) -> Path:
        self._count += 1
        folders = [path for path in self._all() if _is_folder(path)]
        above = self._chance.choice([self.root, *folders])
        if self._chance.random() < 0.2:
            above /= f"文件夹 {self._count}"
            above.mkdir()
            _give(above)
        return above / f"{self._chance.choice(_NAMES)} {self._count}"

    def _any(self, fits: Callable[[int], bool]) -> Path | None:
        found = [path for path in self._all() if fits(path.lstat().st_mode)]
        return self._chance.choice(found) if found else None

    def _all(self) -> list[Path]:
        """Everything, but what is the vault's own."""
        return [path for path in sorted(self.root.rglob("*")) if FOLDER not in path.parts]

    def _write(self, path: Path, size: int) -> None:
        path.write_bytes(self._chance.randbytes(size))
        _give(path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _give(path: Path) -> None:
    """Make it the user's who runs the job."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


# -- a run ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Night:
    """A run that was seen from outside.

    Attributes:
        code: its exit code, negative if a signal ended it.
        told: what it printed, or None.
        err: what it said.
        trees: its sources at its start, each by its path.
    """

    code: int
    told: dict[str, Any] | None
    err: str
    trees: dict[str, Tree]

    def __str__(self) -> str:
        return f"code {self.code}, told {self.told}, said {self.err[-2000:]}"


@dataclass
class Running:
    """A run that has begun."""

    pid: int
    out: Path
    err: Path
    trees: dict[str, Tree]

    def ended(self) -> Night:
        """Wait for it."""
        code = wait(self.pid)
        text = self.out.read_text()
        return Night(code, json.loads(text) if text else None, self.err.read_text(), self.trees)


@dataclass
class Wanted:
    """Keys of the job file that a night has in its own way."""

    timeout: str = "5m"
    lock_wait: str = "1m"
    on_partial: str = "fail"
    if_absent: str = "skip"
    verify: str = "sample"
    retries: int = 0
    hooks: str = ""
    more: dict[str, object] = field(default_factory=dict)


class Nightly:
    """A job and everything around it.

    Args:
        run: the command line, in this process.
        top: a folder that every user may enter.
        mode: of the job.
        hidden: whether names are hidden.
        sources: how many.
        disk: where the copies lie; None to have them beside the sources.
        seed: of what happens.
    """

    def __init__(
        self,
        run: Command,
        top: Path,
        mode: str,
        *,
        hidden: bool = False,
        sources: int = 1,
        disk: Path | None = None,
        seed: str = "",
    ) -> None:
        self.chance = random.Random(seed or f"{mode} {hidden}")
        self.mode, self.hidden = mode, hidden
        self.top = top
        self.file = top / "jobs" / "nightly.toml"
        self.key = top / "me.key"
        self.room = top / "room"
        self.copies = (disk or self.room) / "copies"
        beside = disk if disk is not None and mode == "in-place" else top
        self.sources = [beside / name for name in ("docs", "pläne")[:sources]]
        self.offset = timedelta(0)  # how wrong the clock is
        self.seen: dict[str, str] = {}  # what `look` saw of each run
        self.archived: dict[str, dict[str, Tree]] = {}  # what is in each complete archive
        self._versions: dict[tuple[str, str], list[Node]] = {}  # of each file, as runs met it
        self.sealed: dict[tuple[str, str], Node] = {}  # in place: every file that there must be
        self._is_away = False  # where the copies lie
        self._lay_about: list[str] = []  # before the last run
        self._mirrored: dict[str, Tree] = {}  # by the last run that did its work
        self._number = 0
        top.chmod(0o755)  # a job file is not used where others may put another in its place
        _warm_up(run, top)
        self.file.parent.mkdir()
        done = run("key", "new", "--no-password", "-o", self.key)
        assert done.code == 0, done.err
        self.recipient = done.out.strip()
        for folder in (self.room, top / "state", top / "reader", *self.sources):
            folder.mkdir(exist_ok=True)
            _give(folder)
        if disk is not None:
            _give(disk)
        _give(self.key)
        if mode == "archive":
            self.copies.mkdir()
            _give(self.copies)
        self.changes = [Changes(source, self.chance) for source in self.sources]
        for one in self.changes:
            for _each in range(8):
                one.add()
        self.want(Wanted())

    # -- the job ----------------------------------------------------------------------------

    def want(self, wanted: Wanted) -> None:
        """Write the job file."""
        lines: dict[str, object] = {
            "version": 1,
            "sources": [str(source) for source in self.sources],
            "mode": self.mode,
            "recipients": [self.recipient],
            "timeout": wanted.timeout,
            "lock_wait": wanted.lock_wait,
            "on_partial": wanted.on_partial,
            "if_absent": wanted.if_absent,
            "verify": wanted.verify,
            "retries": wanted.retries,
            "retry_wait": "1s",
        }
        if self.mode != "in-place":
            lines["destination"] = str(self.copies)
        if self.mode == "archive":
            lines["keep"] = KEEP
        elif self.hidden:
            lines["hide_names"] = True
        if self.mode == "mirror":
            lines["delete"] = True
        lines |= wanted.more
        lines = {key: value for key, value in lines.items() if value is not None}
        # of these values JSON is TOML
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        self.file.write_text(text + wanted.hooks)

    def begin(
        self, probe: Callable[[], Probe] | None = None, at_end: Callable[[], None] | None = None
    ) -> Running:
        """Begin a run; `probe` is set in its process."""
        trees = self.met()
        self._lay_about = self._temporary()
        out, err = self._outputs()
        typed = ["job", "run", str(self.file), "--json"]
        pid = fork(lambda: self._child(typed, out, err, probe, at_end))
        return Running(pid, out, err, trees)

    def met(self) -> dict[str, Tree]:
        """The sources, as a run meets them now."""
        trees = {str(source): files_of(source) for source in self.sources}
        for source, tree in trees.items():
            for name, node in _files(tree).items():
                self.sealed[source, name] = node
                self._versions.setdefault((source, name), []).append(node)
        return trees

    def _outputs(self) -> tuple[Path, Path]:
        self._number += 1
        out, err = (self.room / f"{name}-{self._number}" for name in ("out", "err"))
        for path in (out, err):
            path.touch()
            _give(path)
        return out, err

    def night(self, probe: Callable[[], Probe] | None = None, **wanted: object) -> Night:
        """A run, from its beginning to its end, and whether the truth was told of it."""
        self.want(Wanted(**wanted))  # type: ignore[arg-type]  # of a test
        before = self.status()
        night = self.begin(probe).ended()
        self.look(before, night)
        return night

    def counted(self) -> int:
        """A run without a fault; how many calls at the seam its own process made."""
        counting = Countdown(0, lambda _name: None)
        count = self.room / "count"

        def note() -> None:
            count.write_text(str(counting.count))

        self.want(Wanted())
        before = self.status()
        night = self.begin(lambda: _own(counting), note).ended()
        assert night.code == 0, str(night)
        self.look(before, night)
        return int(count.read_text())

    def ask(self, *typed: object, state: str = "state") -> tuple[int, str]:
        """Another command, as the same user; its exit code, and what it printed."""
        out, err = self._outputs()
        code = wait(fork(lambda: self._child([str(one) for one in typed], out, err, state=state)))
        text = out.read_text()
        assert "Traceback" not in err.read_text(), err.read_text()
        out.unlink()
        self.said = err.read_text()
        err.unlink()
        return code, text

    def _child(
        self,
        typed: list[str],
        out: Path,
        err: Path,
        probe: Callable[[], Probe] | None = None,
        at_end: Callable[[], None] | None = None,
        state: str = "state",
    ) -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR), target)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - they end with the process
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        home = str(self.top / state)
        os.environ |= {"HOME": home, "XDG_STATE_HOME": home, "XDG_CONFIG_HOME": home}
        del os.environ["XDG_RUNTIME_DIR"]
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            attributes.IS_PRIVILEGED = False
        _shift_clock(self.offset)
        if probe is not None:
            calls.probe = probe()
        try:
            return cli.main(typed)
        finally:
            sys.stdout.flush()
            calls.probe = None
            if at_end is not None:
                at_end()

    # -- the truth --------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What ``job status --json`` tells of the job."""
        code, text = self.ask("job", "status", self.file, "--json")
        found: dict[str, Any] = json.loads(text)["jobs"][0]
        last = found["last"]
        is_well = last is None or last["state"] == "running" or _is_good(last)
        if found["success"] is not None and "in the future" in str(found["problem"]):
            is_well = False  # the clock was set back
        assert code == (0 if is_well else 3), text
        return found

    def _settled(self) -> dict[str, Any]:
        """The status once the workers of a run that was killed have noticed, and are gone."""
        deadline = time.monotonic() + PATIENCE
        while (after := self.status())["last"] and after["last"]["state"] == "running":
            assert time.monotonic() < deadline, "it runs for ever"
        return after

    def look(self, before: dict[str, Any], night: Night) -> dict[str, Any]:
        """Hold what is told of a run against what happened; what is told.

        Args:
            before: `status` before it.
            night: the run, which is over.
        """
        after = self._settled()
        last, first = after["last"], before["last"]
        is_new = last != first
        assert "Traceback" not in night.err, str(night)
        if night.told is not None:
            # a signal may come when all is said, and Python only ends
            assert night.code in (night.told["exit_code"], KILLED, 143), str(night)
            if _is_elsewhere(night.told):
                return after  # it is the other run of which something is known
            assert last == night.told, f"{last}\n{night}"
        elif night.code == KILLED:
            # before it began, while it ran, or when it was over
            assert not is_new or last["state"] in ("interrupted", *_OVER), last
        else:
            # a signal before the run had begun, perhaps before Python had, or after it was over
            assert night.code in (143, -signal.SIGTERM), str(night)
            assert not is_new or last["state"] in _OVER, last
        if is_new:
            assert last["run"] not in self.seen or self.seen[last["run"]] == "interrupted"
            self.seen[last["run"]] = last["state"]
        if is_new and _is_good(last):
            assert after["success"] == last
        else:
            assert after["success"] == before["success"]
        if self.mode == "archive" and not self._is_away:
            self._look_at_shelf(night)
        if is_new and last["state"] == "ok":
            self.check(night.trees, last)
            assert night.code == KILLED or not self.rests(), self.rests()
        return after

    def look_at_both(self, before: dict[str, Any], first: Night, second: Night) -> None:
        """The same of two runs, of which one waited for the other."""
        assert first.told is not None
        self.seen[first.told["run"]] = first.told["state"]
        if self.mode == "in-place":  # nothing was left to do
            second = replace(second, trees={source: {} for source in second.trees})
        self.look({"last": first.told, "success": first.told}, second)

    def history(self) -> None:
        """Every run of which something was known is in the history, once, in order."""
        _code, text = self.ask("job", "logs", self.file, "--json", "-n", 1000)
        told = {one["run"]: one["state"] for one in map(json.loads, text.splitlines())}
        assert list(told.items()) == list(self.seen.items())
        assert len(text.splitlines()) == len(told)

    # -- the work ---------------------------------------------------------------------------

    def check(self, trees: dict[str, Tree], told: Mapping[str, Any]) -> None:
        """A run that says it did its work did it: what can be opened is what was there."""
        count = sum(map(len, map(_files, trees.values())))
        assert told["failed"] == 0
        assert told["errors"] == []
        if self.mode == "in-place":
            assert told["files"] == count, told
            assert [tree for tree in map(files_of, self.sources) if _files(tree)] == []
            return
        assert told["files"] + told["unchanged"] == count, told
        if self.mode == "archive":
            names = self.complete()
            assert told["archive"] == str(self.copies / names[-1])
            assert names == [*self.archived][-KEEP:]
        else:
            self._mirrored = trees
        found = self.opened(told["archive"])
        for source, tree in trees.items():
            assert found[source] == tree, _difference(found[source], tree)

    def check_what_is_there(self) -> None:
        """Whatever became of the runs, what they have left opens, and nothing in it is wrong."""
        if self.mode == "archive":
            if names := self.complete():
                assert self.opened(str(self.copies / names[-1])) == self.archived[names[-1]]
            return
        if self.mode == "in-place":
            self._check_in_place()
            return
        for source, found in self.opened(codes=(0, 3)).items():  # 3: an older copy is there as well
            for name, node in _files(found).items():
                assert node in self._versions[source, name], f"{name}: {node!r:.200}"
            now, mirrored = files_of(Path(source)), self._mirrored.get(source, {})
            lost = [
                name
                for name, node in _files(now).items()
                if mirrored.get(name) == node and found.get(name) != node
            ]
            assert lost == []

    def _check_in_place(self) -> None:
        """Each file is plain as it was, or sealed and opens to that, or both."""
        found = self.opened(codes=(0, 3))
        there: dict[tuple[str, str], list[Node]] = {}
        for source in self.sources:
            for tree in (files_of(source), found[str(source)]):
                for name, node in _files(tree).items():
                    there.setdefault((str(source), name), []).append(node)
        assert not (wrong := there.keys() ^ self.sealed.keys()), wrong
        for key, nodes in there.items():
            assert all(node == self.sealed[key] for node in nodes), key

    def _look_at_shelf(self, night: Night) -> None:
        """No run has dropped an archive that is to be kept."""
        names = self.complete()
        ever = archives.archives_in("nightly", [*{*names, *self.archived}])
        assert names[-KEEP:] == ever[-KEEP:]
        for name in names:
            self.archived.setdefault(name, night.trees)

    def opened(self, archive: str = "", codes: tuple[int, ...] = (0,)) -> dict[str, Tree]:
        """What the copies open to, by source, on another machine, with the key."""
        found = {}
        for source in self.sources:
            name = source.name if len(self.sources) > 1 else ""
            place = source if self.mode == "in-place" else self.copies / name
            to = self.room / "opened"
            if archive or place.exists():
                typed = ("open", archive or place, "--to", to, "-i", self.key)
                code, _text = self.ask(*typed, state="reader")
                assert code in codes, self.said
            found[str(source)] = files_of(to / name if archive else to)
            shutil.rmtree(to, ignore_errors=True)
        return found

    def complete(self) -> list[str]:
        """Names of the complete archives, the oldest first."""
        return archives.archives_in("nightly", os.listdir(self.copies))

    def rests(self) -> list[str]:
        """What killed runs have left behind at the destination and in the records."""
        found = self._temporary()
        return found + [str(path) for path in self.copies.glob(archives.INCOMPLETE)]

    def left(self) -> list[str]:
        """Temporary files that the last run has left."""
        return sorted(set(self._temporary()) - set(self._lay_about))

    def _temporary(self) -> list[str]:
        places = [self.copies, self.top / "state" / "encvault" / "jobs"]
        if self.mode == "in-place":
            places += self.sources
        found = [path for folder in places for path in folder.rglob(".encvault-*")]
        return [str(path) for path in found if _is_rest(path.name)]

    # -- what befalls it --------------------------------------------------------------------

    @contextlib.contextmanager
    def away(self, place: Path, *, leaves: bool) -> Iterator[None]:
        """A folder is somewhere else meanwhile.

        Args:
            place: the folder.
            leaves: an empty one in its place, as a share that is not mounted.
        """
        elsewhere = place.with_name(place.name + ".away")
        self._is_away = place == self.copies
        place.rename(elsewhere)
        if leaves:
            place.mkdir()
            _give(place)
        try:
            yield
        finally:
            if place.exists():
                place.rmdir()  # and it is empty still
            elsewhere.rename(place)
            self._is_away = False

    def step_clock(self) -> None:
        """The clock is put forward or back."""
        hours = self.chance.choice((-30, -25, -2, -0.01, 0.01, 1, 26, 49))
        moved = self.offset + timedelta(hours=hours)
        # keys of the log are made for some days ahead, and it takes a wild clock for a wrong one
        self.offset = max(timedelta(days=-3), min(moved, timedelta(days=6)))


def _own(probe: Countdown) -> Countdown:
    """Have a probe count the calls of this process only."""
    me = os.getpid()
    probe._where = lambda pid: pid == me
    return probe


def at_call(number: int, act: Callable[[str], None]) -> Callable[[], Countdown]:
    """A probe for the process of a run that acts before the n-th of its own calls."""
    return lambda: _own(Countdown(number, act))


def kill_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def fall_asleep(_name: str) -> None:
    time.sleep(1.5)


def _warm_up(run: Command, top: Path) -> None:
    """Load what a run may load: an ordinary user may not be able to read what root has installed.

    It also makes the processes that are forked cheap.
    """
    folder = top / "warm"
    (folder / "docs").mkdir(parents=True)
    for number in range(8):  # more than a batch, so that there are workers
        (folder / "docs" / f"{number}").write_text("a")
    file, copies, key = folder / "warm.toml", folder / "copies", folder / "me.key"
    recipient = run("key", "new", "--no-password", "-o", key).out.strip()
    copies.mkdir()
    for mode, code in (("archive", 0), ("mirror", 0), ("in-place", 0), ("in-place", 66)):
        source = folder / ("docs" if not code else "nowhere")
        where = "" if mode == "in-place" else f'destination = "{copies / mode}"\n'
        (copies / mode).mkdir(exist_ok=True)
        file.write_text(
            f'version = 1\nmode = "{mode}"\nsources = ["{source}"]\n{where}'
            f'recipients = ["{recipient}"]\nretries = 0\n'
            '[[hooks]]\nwhen = "after"\nrun = ["true"]\n'
        )
        done = run("job", "run", file, "--json")
        assert done.code == code, done.err
    for typed in (
        ("job", "status", file, "--json"),
        ("job", "logs", file, "--json"),
        ("open", folder / "docs", "--to", folder / "one", "-i", key),
        ("open", *(copies / "archive").glob("*"), "--to", folder / "two", "-i", key),
        ("verify", copies / "mirror", "-i", key),
        ("log", "verify"),
    ):
        run(*typed)
    shutil.rmtree(folder)


_OVER = ("ok", "partial", "skipped", "failed", "timeout", "stopped")


def _is_good(told: Mapping[str, Any]) -> bool:
    return told["exit_code"] == 0 and told["state"] in ("ok", "partial")


def _is_elsewhere(told: Mapping[str, Any]) -> bool:
    return any(error["error"] == "JobRunning" for error in told["errors"])


def _is_rest(name: str) -> bool:
    return durable.is_temporary(name) or durable.is_tombstone(name)


def files_of(root: Path) -> Tree:
    """What is in a folder and not sealed; nothing, if there is none."""
    found = snapshot(root, times=False) if root.is_dir() else {}
    return {
        name: node
        for name, node in found.items()
        if not (name.endswith(SUFFIX) or _is_rest(Path(name).name))
    }


def _files(tree: Tree) -> Tree:
    return {name: node for name, node in tree.items() if node.kind != "dir"}


def _difference(found: Tree, expected: Tree) -> str:
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    shown = [f"{name}: {found.get(name)!r:.150} for {expected.get(name)!r:.150}" for name in names]
    return "\n".join(shown)


def _shift_clock(offset: timedelta) -> None:
    """Have this process read another time of day; that of files stays the kernel's."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + offset

    for module in (records, archives, access_log):
        module.datetime = Shifted  # type: ignore[attr-defined]  # and no test sees this process
    real = time.time_ns
    time.time_ns = lambda: real() + offset // timedelta(microseconds=1) * 1000
    rows.Known.matches = _MATCHES  # type: ignore[method-assign]
