"""Others at work meanwhile: editors, a second run, a clock set back, a drive that goes away."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from fault.mounts import mounted, needs_root, remount
from fault.processes import FINISHED, NAMED_ERROR, Countdown, fork, wait, wait_for_lock
from fault.scenes import (
    EDITED,
    LETTER,
    ORIGINALS,
    SCENES,
    STATE,
    Item,
    Scene,
    arguments,
    read_item,
    run_again,
    summary,
    survey,
    violations,
    write,
    write_identity,
)
from helpers import seal, unseal

from encvault.errors import EncvaultError
from encvault.fs import calls
from encvault.fs.stamp import Stamp
from encvault.vault.manifest import RECORD_FILES
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fault.scenes import World
    from helpers import Command

    from encvault.vault.report import Event

LAYOUTS = pytest.mark.parametrize("layout", ["visible", "hidden"])


@contextlib.contextmanager
def probing(probe: Callable[[str, int, str], None]) -> Iterator[None]:
    """Set the seam's probe for a while."""
    calls.probe = probe
    try:
        yield
    finally:
        calls.probe = None


# -- files that change while they are sealed --------------------------------------------------


def _grow(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"grown")


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"REWRITTEN")


def _replace(path: Path) -> None:
    if path.exists():
        other = path.with_name(".encvault-" + "a" * 26 + ".tmp")  # no file of its own to seal
        other.write_bytes(b"a whole new file")
        other.replace(path)


def _become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


CHANGES = {
    "grow": _grow,
    "shrink": _shrink,
    "rewrite": _rewrite,
    "replace": _replace,
    "link": _become_a_link,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["big.bin", "a.txt"])
@LAYOUTS
def test_a_file_that_changes_meanwhile_is_never_lost(
    world: World, layout: str, name: str, change: Callable[[Path], None]
) -> None:
    scene = SCENES[f"seal-{layout}"]
    wrong: list[tuple[str, list[str]]] = []
    moments = 0
    left = True
    while left:
        moments += 5
        top = world.reset(scene)
        path = top / "docs" / name
        seen: list[Item] = []

        def meddle(_call: str, path: Path = path, seen: list[Item] = seen) -> None:
            with contextlib.suppress(FileNotFoundError):
                change(path)
                seen.append(read_item(path))  # unless it was gone already

        probe = Unraced(moments, meddle)
        with probing(probe):
            report = scene.command(top, None)
        left = probe.left <= 0
        found = survey(top)
        told = {type(problem).__name__ for problem in report.problems}
        copies = [found.plain.get(("docs", name)), *found.sealed.get(("docs", name), [])]
        if any(item not in copies for item in seen):
            wrong.append((f"call {moments}", [f"the changed file is lost; told: {told}"]))
        others = ORIGINALS.keys() - {name} - {path for _root, path in found.sealed}
        if others or found.temporary or found.damaged or told - {"SourceChanged", "Unreadable"}:
            wrong.append(
                (f"call {moments}", [f"{others} {found.temporary} {found.damaged} {told}"])
            )
        assert scene.command(top, None).problems == []
        wanted = seen[0] if seen else ORIGINALS[name]
        if survey(top).sealed.get(("docs", name), []) != [wanted]:
            wrong.append((f"call {moments}", ["the second run did not seal what was there"]))
    assert moments > 30
    assert not wrong, summary(wrong)


class Unraced(Countdown):
    """Acts before the n-th call, but not in the one gap that no program can close.

    Between the last look at a file and its unlink there is a moment; what is written in it is
    lost, as it is with mv(1).
    """

    def __call__(self, name: str, fd: int, target: str) -> None:
        if name != "unlink":
            super().__call__(name, fd, target)


class Editor(Observer):
    """Writes a file at the last moment before its original goes."""

    def __init__(self, edit: Callable[[], None]) -> None:
        self._edit = edit
        self._done = False

    def before_release(self, events: Sequence[Event]) -> None:
        if not self._done:
            self._done = True
            self._edit()


def test_a_coarse_clock_hides_no_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT keeps two seconds: a file written within them, to the same size, has the same stamp."""
    real = Stamp.of

    def coarse(status: os.stat_result) -> Stamp:
        return real(status)._replace(ctime_ns=0, mtime_ns=status.st_mtime_ns // 2 * 10**9 * 2)

    monkeypatch.setattr(Stamp, "of", coarse)
    top = world.clear()
    write(top / "docs", LETTER)
    path = top / "docs" / "letter.txt"
    # just after the clock of such a file system has moved on
    time.sleep(2 - time.time() % 2)
    path.touch()
    edited = LETTER["letter.txt"].content[::-1]

    def edit() -> None:
        path.write_bytes(edited)

    seal(top / "docs", Editor(edit), jobs=1)
    found = survey(top)
    assert Item("file", edited) in [
        *found.plain_in("docs").values(),
        *found.sealed_in("docs").get("letter.txt", []),
    ]


@pytest.mark.parametrize("number", range(5, 60, 6))
def test_a_sealed_file_that_changes_while_it_is_opened_stays(world: World, number: int) -> None:
    scene = SCENES["open-visible"]
    top = world.reset(scene)
    changed: dict[Path, bytes] = {}

    def meddle(_call: str) -> None:
        for path in sorted((top / "docs").glob("*.sealed"))[:1]:
            path.write_bytes(b"something else")
            changed[path] = b"something else"

    with probing(Unraced(number, meddle)):
        report = scene.command(top, None)
    # what somebody wrote is not ours to remove, and nothing plain was made of it
    for path, content in changed.items():
        assert path.read_bytes() == content
    assert report.problems
    for item in survey(top).plain.values():
        assert item in ORIGINALS.values()


# -- folders exchanged for links --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("seal-visible", "docs/src"),
        ("seal-hidden", "docs/src"),
        ("seal-hidden", "docs/.encvault/objects"),
        ("open-visible", "docs/src"),
        ("open-hidden", "docs/src"),
        ("open-to-visible", "out/src"),
        ("open-to-hidden", "out"),
        ("mirror-update-visible", "mirror/src"),
        ("extract", "out"),
    ],
)
def test_a_folder_exchanged_for_a_link_redirects_nothing(
    world: World, name: str, folder: str
) -> None:
    scene = SCENES[name]
    swapped = 0
    for number in range(2, 110, 2):
        top = world.reset(scene)
        outside = top.parent / "outside"
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        aside: list[Path] = []

        def swap(
            _call: str, top: Path = top, outside: Path = outside, aside: list[Path] = aside
        ) -> None:
            path = top / folder
            if path.is_dir():
                aside.append(top / "aside")
                path.rename(aside[0])
                path.symlink_to(outside)

        with probing(Countdown(number, swap)), contextlib.suppress(EncvaultError):
            scene.command(top, None)
        swapped += len(aside)
        assert list(outside.iterdir()) == [], f"written outside, call {number}"
        for path in aside:
            (top / folder).unlink(missing_ok=True)  # sealed as the link it was, perhaps
            path.rename(top / folder)
        lost = [text for text in violations(top, scene) if text.startswith(("lost", "damaged"))]
        assert lost == [], f"call {number}"
    assert swapped >= 2


def test_the_folder_an_archive_is_unpacked_in_is_pinned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = SCENES["extract"]
    top = world.reset(scene)
    outside = top.parent / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    real = calls.mkdir

    def mkdir(folder: int, name: str, mode: int = 0o777) -> None:
        real(folder, name, mode)
        if name.endswith(".tmp"):
            os.rename(name, "aside", src_dir_fd=folder, dst_dir_fd=folder)
            os.symlink(outside, name, dir_fd=folder)

    monkeypatch.setattr(calls, "mkdir", mkdir)
    with contextlib.suppress(EncvaultError):
        scene.command(top, None)
    assert list(outside.iterdir()) == []


# -- clocks -----------------------------------------------------------------------------------


def clock(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Let the clock that goes into sealed files be wrong by that much."""
    real = time.time_ns
    monkeypatch.setattr(
        "encvault.vault.sealing.time.time_ns", lambda: real() + seconds * 1_000_000_000
    )


HOUR = 3600


@LAYOUTS
def test_a_mirror_from_another_machine_whose_clock_is_behind(
    world: World, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = world.clear()
    mirror = str(top / "mirror")
    options: dict[str, Any] = {"to": mirror, "hide_names": layout == "hidden", "jobs": 1}
    write(top / "docs", ORIGINALS)
    seal(top / "docs", state_dir=str(top / STATE / "one"), **options)
    write(top / "docs", EDITED)
    with monkeypatch.context() as patch:
        clock(patch, -HOUR)
        told = seal(top / "docs", state_dir=str(top / STATE / "two"), **options).problems
    told += unseal(top / "mirror", to=str(top / "out"), jobs=1).problems
    # a hidden vault does not say which is newer but by the clock; then a conflict is an answer
    assert told or survey(top).plain_in("out") == EDITED


@LAYOUTS
def test_an_edit_sealed_where_the_clock_is_behind_is_not_lost(
    world: World, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = world.clear()
    write(top / "docs", ORIGINALS)
    hidden = layout == "hidden"
    seal(top / "docs", keep=True, hide_names=hidden, jobs=1, state_dir=str(top / STATE / "one"))
    write(top / "docs", EDITED)
    with monkeypatch.context() as patch:
        clock(patch, -HOUR)
        seal(top / "docs", jobs=1, state_dir=str(top / STATE / "two"))
    unseal(top / "docs", jobs=1)
    # a conflict is an answer, too: then both are there
    found = survey(top)
    for name, item in EDITED.items():
        copies = [found.plain.get(("docs", name)), *found.sealed.get(("docs", name), [])]
        assert item in copies, name


@LAYOUTS
def test_a_new_file_of_a_sealed_name_replaces_nothing_unasked(world: World, layout: str) -> None:
    top = world.clear()
    write(top / "docs", LETTER)
    options: dict[str, Any] = {"jobs": 1, "state_dir": str(top / STATE)}
    seal(top / "docs", hide_names=layout == "hidden", **options)
    (top / "docs" / "letter.txt").write_bytes(b"another letter of that name")
    told = seal(top / "docs", **options).problems
    told += unseal(top / "docs", **options).problems
    found = survey(top)
    items = [item for (_root, path), item in found.plain.items() if "letter" in path]
    items += [item for copies in found.sealed.values() for item in copies]
    assert LETTER["letter.txt"] in items, f"the first letter is lost; told: {told}"
    assert Item("file", b"another letter of that name") in items
    assert told


def test_times_in_the_future_prove_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    top = world.clear()
    write(top / "docs", LETTER)
    path = top / "docs" / "letter.txt"
    future = time.time_ns() + 24 * HOUR * 10**9
    os.utime(path, ns=(future, future))
    options: dict[str, Any] = {"to": str(top / "mirror"), "jobs": 1, "state_dir": str(top / STATE)}
    seal(top / "docs", **options)
    path.write_bytes(LETTER["letter.txt"].content[::-1])
    os.utime(path, ns=(future, future))
    assert seal(top / "docs", **options).files == 1
    (copy,) = survey(top).sealed_in("mirror")["letter.txt"]
    assert copy == read_item(path)


# -- two runs ---------------------------------------------------------------------------------


class Paused:
    """A child that stops before its n-th call until it is told to go on."""

    def __init__(self, number: int, work: Callable[[], object]) -> None:
        self._finished = False
        stopped, stop = os.pipe()
        resumed, self._resume = os.pipe()

        def pause(_name: str) -> None:
            os.write(stop, b".")
            os.read(resumed, 1)

        def run() -> object:
            calls.probe = Countdown(number, pause)
            return work()

        self.pid = fork(run)
        os.close(stop)
        os.close(resumed)
        self.is_paused = os.read(stopped, 1) == b"."  # the end of the file: it ran through
        os.close(stopped)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._finished:
            # a test that fails leaves no process waiting for ever
            os.kill(self.pid, signal.SIGKILL)
            wait(self.pid)
            os.close(self._resume)

    def finish(self) -> int:
        """Let it go on; its exit code."""
        self._finished = True
        with contextlib.suppress(BrokenPipeError):
            os.write(self._resume, b".")
        os.close(self._resume)
        return wait(self.pid)


@pytest.mark.parametrize("name", ["seal-edited-visible", "open-hidden", "mirror-update-visible"])
def test_a_second_run_is_told_to_wait(world: World, name: str, run: Command) -> None:
    scene = SCENES[name]
    top = world.reset(scene)
    with (
        pytest.MonkeyPatch.context() as patch,
        Paused(30, lambda: scene.command(top, None)) as first,
    ):
        patch.setenv("XDG_STATE_HOME", str(top / STATE))
        assert first.is_paused
        second = run(*arguments(scene, top))
        assert second.code == 75, second.err
        assert f"pid {first.pid}" in second.err
        assert first.finish() == FINISHED
    assert violations(top, scene, finished=True) == []


@pytest.mark.parametrize("name", ["seal-visible", "seal-hidden", "mirror-visible", "init-visible"])
def test_two_runs_that_make_the_same_vault(world: World, name: str) -> None:
    scene = SCENES[name]
    wrong: list[tuple[str, list[str]]] = []
    for number in range(1, 16):
        top = world.reset(scene)
        with Paused(number, lambda top=top: scene.command(top, None)) as first:
            with contextlib.suppress(EncvaultError):
                scene.command(top, None)
            assert first.finish() in (FINISHED, NAMED_ERROR)
        wait_for_lock(top)
        if found := violations(top, scene) or run_again(top, scene):
            wrong.append((f"the first stopped at call {number}", found))
    assert not wrong, summary(wrong)


# -- vault records ----------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"", b'{"encvault":1', b"\0" * 4096, None], ids=repr)
@pytest.mark.parametrize("record", RECORD_FILES)
@pytest.mark.parametrize("name", ["seal-edited-visible", "open-hidden"])
def test_one_torn_vault_record_costs_nothing(
    world: World, name: str, record: str, torn: bytes | None
) -> None:
    scene = SCENES[name]
    top = world.reset(scene)
    path = top / "docs" / record
    if torn is None:
        path.unlink()
    else:
        path.write_bytes(torn)
    assert scene.command(top, None).problems == []
    # and it is whole again afterwards: the next mishap may hit the other one
    assert violations(top, scene, finished=True) == []
    first, second = ((top / "docs" / name).read_bytes() for name in RECORD_FILES)
    assert first == second


# -- drives -----------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize(
    "name", ["seal-visible", "seal-edited-hidden", "open-visible", "open-hidden", "archive"]
)
def test_a_read_only_disk_is_left_as_it_is(
    tmp_path: Path, kind: str, name: str, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = SCENES[name]
    with mounted(tmp_path / "disk", kind, 8 << 20) as disk:
        write_identity(disk)
        top = disk / "world"
        top.mkdir()
        scene.prepare(top)
        if (top / STATE).exists():
            shutil.move(top / STATE, tmp_path / STATE)  # a user's state is on the system's disk
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / STATE))
        remount(disk, "ro")
        ran = run(*arguments(scene, top))
        assert ran.code == 73, ran.err
        assert "Read-only file system" in ran.err
        assert "Traceback" not in ran.err
        assert violations(top, scene) == []
        remount(disk, "rw")
        again = run(*arguments(scene, top))
        assert again.code == 0, again.err
        assert violations(top, scene, finished=True) == []


@needs_root
@LAYOUTS
def test_a_read_only_vault_opens_elsewhere(tmp_path: Path, layout: str, run: Command) -> None:
    with mounted(tmp_path / "disk", "ext4", 8 << 20) as disk:
        write_identity(disk)
        top = disk / "world"
        top.mkdir()
        SCENES[f"open-to-{layout}"].prepare(top)
        remount(disk, "ro")
        ran = run("open", top / "docs", "--to", tmp_path / "out", "-i", disk / "identity")
        assert ran.code == 0, ran.err
    assert survey(tmp_path).plain_in("out") == ORIGINALS


# from the kernel's fs/ext4/ext4.h: stop at once, and do not even write the journal out
_EXT4_SHUTDOWN = 0x8004587D
_WITHOUT_LOG_FLUSH = 2
NEVER_PULLED = 99  # an exit code: the run had fewer calls


def pull_out(disk: Path) -> None:
    """What the file system sees when its drive goes away: from now on every call fails."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _EXT4_SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
    finally:
        os.close(fd)


def settle(folder: Path) -> None:
    """Make what is there durable: the crash comes after."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        calls.sync_filesystem(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def journaled(image: Path, where: Path) -> Iterator[Path]:
    """Mount an image for a while."""
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where / "world"
    finally:
        subprocess.run(["umount", str(where)], check=True)


@needs_root
@pytest.mark.parametrize(
    "name", ["seal-visible", "seal-hidden", "open-visible", "open-hidden", "mirror-visible"]
)
def test_a_drive_that_is_pulled_out(tmp_path: Path, name: str) -> None:
    """The one crash test that asks a real file system what it kept."""
    scene = SCENES[name]
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    wrong: list[tuple[str, list[str]]] = []
    for number in range(12, 90, 13):
        with journaled(image, disk) as top:
            top.mkdir()
            scene.prepare(top)
            settle(top)
            probe = Countdown(number, lambda _name: pull_out(disk))
            code = wait(fork(lambda top=top, probe=probe: _ends_with(scene, top, probe)))
            # 65: what was written is not what is read back
            if code not in (65, 73, 74, 78, NEVER_PULLED):
                wrong.append((f"call {number}", [f"not told: exit code {code}"]))
        with journaled(image, disk) as top:
            if found := violations(top, scene) or run_again(top, scene, power_cut=True):
                wrong.append((f"call {number}", found))
            shutil.rmtree(top)
    assert not wrong, summary(wrong)


def _ends_with(scene: Scene, top: Path, probe: Countdown) -> int:
    calls.probe = probe
    try:
        outcome = scene.command(top, None).outcome()
    except EncvaultError as error:
        outcome = error
    if probe.left > 0:
        return NEVER_PULLED
    return outcome.exit_code if outcome else FINISHED


def test_a_lock_that_cannot_be_released_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drive is gone: the next run of this process must not find itself at work."""
    scene = SCENES["open-visible"]
    top = world.reset(scene)

    def refuse(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with contextlib.suppress(EncvaultError):
            scene.command(top, None)
    assert run_again(top, scene) == []
