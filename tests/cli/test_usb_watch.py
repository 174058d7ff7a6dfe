"""Drives that come and go, and the company's register, on a machine with a mocked udev."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from drivefs import STICK, DriveImage
from helpers import Ran, seal, unseal
from serving import until
from testbed import Testbed

from encvault.cli import ui
from encvault.cli.usb import watch
from encvault.errors import DrivePulledUnlocked, HookFailed
from encvault.fs.mounts import Mount
from encvault.operations.drives import DriveEvent, glance
from encvault.operations.drives.glance import Seen, state_at_a_glance
from encvault.operations.drives.watching import _Watcher
from encvault.usb.arrivals import Look
from encvault.usb.drives import Drive
from encvault.usb.register import Standing
from encvault.vault import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command

pytestmark = pytest.mark.xdist_group("loop devices")  # who detaches one wants it again

PATIENCE = 30.0  # seconds


class Watching:
    """``usb watch --json``, running; killed at the end of the test if it was not ended."""

    all: ClassVar[list[Watching]] = []

    def __init__(self, bed: Testbed, *options: object) -> None:
        self.process = bed.encvault("usb", "watch", "--json", *options)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.all.append(self)
        self.until_told("drives are watched from now on")

    def until_told(self, what: str) -> None:
        """Wait until people are told something."""
        assert self.process.stderr is not None
        told: list[str] = []
        while what not in (line := self.process.stderr.readline()):
            told.append(line)
            assert line, (self.process.wait(PATIENCE), told)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def event(self) -> dict[str, Any]:
        """The next one."""
        found: dict[str, Any] = json.loads(self._lines.get(timeout=PATIENCE))
        return found

    def says_nothing(self, seconds: float) -> bool:
        try:
            self._lines.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def end(self) -> str:
        """End it as a service is ended; what it told people."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 143
        return self.close()

    def close(self) -> str:
        self.all.remove(self)
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        told = self.process.stderr.read()
        self.process.stderr.close()
        return told


@pytest.fixture
def key(run: Command, tmp_path: Path) -> str:
    """An identity file; a password would cost a second each time."""
    path = tmp_path / "key"
    recipient = run("key", "new", "--no-password", "-o", path).out
    (tmp_path / "key.pub").write_text(recipient)
    return str(path)


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[DriveImage]:
    with DriveImage("exfat", tmp_path) as found:
        yield found


@pytest.fixture
def bed(stick: DriveImage) -> Iterator[Testbed]:
    with Testbed(stick.loop.removeprefix("/dev/loop")) as found:
        yield found


@pytest.fixture(autouse=True)
def _unlocked_drives(run: Command) -> Iterator[None]:
    yield
    for watching in list(Watching.all):
        watching.close()
    run("unmount", "--all")


def on(bed: Testbed, *arguments: object) -> Ran:
    """Run a command to its end where the stick may be plugged in."""
    process = bed.encvault(*arguments)
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


def prepared(bed: Testbed, key: str) -> str:
    """Lock the stick; its id."""
    bed.tell("plug")
    done = on(bed, "usb", "lock", "SALES 2026", "-r", f"{key}.pub")
    assert done.code == 0, done.err
    found: str = json.loads(on(bed, "usb", "status", "SALES 2026", "--json").out)["id"]
    return found


def recorded(run: Command, *ops: str) -> list[dict[str, Any]]:
    lines = run("log", "show", "--json").out.splitlines()
    return [entry for entry in map(json.loads, lines) if entry["op"] in ops]


# -- come and go ----------------------------------------------------------------------------


def test_a_drive_that_comes_and_goes_is_told_and_recorded(
    run: Command, bed: Testbed, stick: DriveImage, key: str
) -> None:
    drive = prepared(bed, key)
    bed.tell("pull")
    watching = Watching(bed)
    bed.tell("plug")
    came = watching.event()
    assert (came["event"], came["drive"], came["state"]) == ("in", drive, "locked")
    assert (came["node"], came["path"], came["serial"]) == (
        "/dev/sdb1",
        str(stick.path),
        "4C530001230101119382",
    )
    assert (came["standing"], came["warning"]["error"]) == ("unregistered", "DriveUnregistered")
    bed.tell("pull")
    went = watching.event()
    assert (went["event"], went["drive"], went["warning"]) == ("out", drive, None)
    watching.end()
    entries = recorded(run, "usb.in", "usb.out")
    assert [(one["op"], one["vault"]) for one in entries] == [("usb.in", drive), ("usb.out", drive)]
    assert entries[0]["detail"] == "in locked unregistered 0781:5581:4C530001230101119382"
    assert "OK-UNANCHORED" in run("log", "verify").out


def test_a_removal_that_names_nothing_is_heard(bed: Testbed, key: str) -> None:
    drive = prepared(bed, key)
    watching = Watching(bed)
    assert watching.event()["event"] == "present"
    bed.tell("pull-nameless")
    went = watching.event()
    assert (went["event"], went["drive"], went["serial"]) == ("out", drive, "4C530001230101119382")
    watching.end()


def test_a_drive_that_is_plugged_in_again_at_once_went_and_came(bed: Testbed, key: str) -> None:
    prepared(bed, key)
    watching = Watching(bed)
    assert watching.event()["event"] == "present"
    bed.tell("swap")
    assert [watching.event()["event"] for _each in range(2)] == ["out", "in"]
    watching.end()


def test_a_drive_comes_amid_hundreds_of_events(bed: Testbed, key: str) -> None:
    prepared(bed, key)
    bed.tell("pull")
    watching = Watching(bed)
    bed.tell("burst")
    assert watching.event()["event"] == "in"
    assert watching.says_nothing(3)
    bed.tell("pull")
    assert watching.event()["event"] == "out"
    watching.end()


def test_a_drive_that_is_mounted_later_is_told_again(
    bed: Testbed, stick: DriveImage, key: str
) -> None:
    drive = prepared(bed, key)
    stick.unmount()
    minor = bed.minor
    bed.tell("pull")
    watching = Watching(bed)
    bed.tell("plug")
    came = watching.event()
    assert (came["event"], came["state"], came["drive"]) == ("in", "unmounted", None), came
    assert came["warning"] is None
    stick.mount()
    assert stick.loop == f"/dev/loop{minor}"
    seen = watching.event()
    assert (seen["event"], seen["state"], seen["drive"]) == ("in", "locked", drive)
    watching.end()


@pytest.mark.parametrize("how", [(), ("--in-place",)], ids=["mounted", "in place"])
def test_a_drive_that_is_pulled_out_unlocked_is_an_alert(
    bed: Testbed, stick: DriveImage, key: str, tmp_path: Path, how: tuple[str, ...]
) -> None:
    (stick.path / "offer.txt").write_bytes(b"x")
    drive = prepared(bed, key)
    told = tmp_path / "told"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$ENCVAULT_EVENT $ENCVAULT_DRIVE $1" >> "{told}"\n')
    hook.chmod(0o755)
    watching = Watching(bed, "--on-alert", f"'{hook}' 'one word'")
    assert watching.event()["state"] == "locked"
    done = on(bed, "usb", "unlock", "SALES 2026", "-i", key, *how)
    assert done.code == 0, done.err
    assert watching.says_nothing(3)
    bed.tell("pull")
    went = watching.event()
    assert (went["state"], went["warning"]["error"]) == ("unlocked", "DrivePulledUnlocked")
    until(lambda: "out" in told.read_text(), "the command")
    watching.end()
    lines = told.read_text().splitlines()
    assert lines == [f"present {drive} one word", f"out {drive} one word"]  # it is unregistered


def test_a_command_that_fails_ends_nothing(bed: Testbed, key: str) -> None:
    prepared(bed, key)
    for command, told in (
        ("/nonexistent/command", "/nonexistent/command: No such file or directory"),
        ("false", "false: it ended with code 1"),
    ):
        bed.tell("pull")
        watching = Watching(bed, "--on-alert", command)
        bed.tell("plug")
        assert watching.event()["event"] == "in"
        bed.tell("pull")
        assert watching.event()["event"] == "out"
        watching.until_told(told)
        watching.end()


def test_people_read_what_happened(bed: Testbed, key: str) -> None:
    drive = prepared(bed, key)
    process = bed.encvault("usb", "watch")
    assert process.stdout is not None
    assert f"/dev/sdb1  is there  SALES 2026  {drive}  locked  not reg" in process.stdout.readline()
    assert process.stderr is not None
    assert "SALES 2026: not a registered drive: not registered" in process.stderr.readline()
    assert "encvault usb allow 'SALES 2026'" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130


def test_without_udev_nothing_is_watched(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encvault.usb.udev._CONTROL", "/nonexistent/control")
    done = run("usb", "watch")
    assert (done.code, "watching drives needs udev" in done.err) == (69, True)


# -- the register ---------------------------------------------------------------------------


def test_the_companys_drives_are_known(
    run: Command, bed: Testbed, stick: DriveImage, key: str
) -> None:
    assert on(bed, "usb", "allow", "SALES 2026").code == 75
    bed.tell("plug")
    done = on(bed, "usb", "allow", "SALES 2026")
    assert (done.code, "was never locked" in done.err) == (2, True)
    bed.tell("pull")
    drive = prepared(bed, key)
    done = on(bed, "usb", "allow", "SALES 2026", "--owner", "李伟", "--expires", "2099-12-31")
    assert (done.code, "李伟" in done.err, "no drive is kept out" in done.err) == (0, True, True)
    [listed] = json.loads(on(bed, "usb", "list", "--json").out)["drives"]
    assert (listed["standing"], listed["owner"], listed["state"]) == (
        "registered",
        "李伟",
        "locked",
    )
    shown = on(bed, "usb", "list").out
    assert "registered  李伟" in shown
    assert "not registered" not in shown

    watching = Watching(bed)
    there = watching.event()
    assert (there["standing"], there["owner"], there["warning"]) == ("registered", "李伟", None)
    watching.end()

    [entry] = json.loads(run("usb", "allow", "--json").out)["drives"]
    assert (entry["id"], entry["owner"], entry["expires_at"]) == (drive, "李伟", "2099-12-31")
    rules = run("usb", "allow", "--export", "usbguard").out.splitlines()
    assert len(rules) == 6
    assert rules[2] == (
        'allow id 0781:5581 serial "4C530001230101119382" with-interface equals { 08:06:50 }'
    )
    assert (
        'ENV{ID_SERIAL_SHORT}=="4C530001230101119382"'
        in run("usb", "allow", "--export", "udev").out
    )

    (stick.path / "new.txt").write_bytes(b"x")
    assert on(bed, "usb", "lock", "SALES 2026", "-r", f"{key}.pub").code == 0
    assert (stick.path / ".encvault" / "drive.id").exists()  # it stays when the drive is locked
    assert on(bed, "usb", "verify", drive, "-i", key).code == 0

    assert on(bed, "usb", "forget", "sales 2026").code == 0
    assert not (stick.path / ".encvault" / "drive.id").exists()
    assert run("usb", "allow").out == ""
    done = run("usb", "forget", drive)
    assert (done.code, "no such drive is registered" in done.err) == (66, True)
    entries = recorded(run, "usb.add", "usb.remove")
    assert [(one["op"], one["vault"], one["outcome"]) for one in entries] == [
        ("usb.add", drive, "ok"),
        ("usb.remove", drive, "ok"),
    ]


def test_a_note_that_was_copied_to_another_drive_is_doubted(
    bed: Testbed, stick: DriveImage, key: str, tmp_path: Path
) -> None:
    prepared(bed, key)
    assert on(bed, "usb", "allow", "SALES 2026").code == 0
    note = stick.path / ".encvault" / "drive.id"
    genuine = note.read_bytes()

    def standing() -> Any:
        [listed] = json.loads(on(bed, "usb", "list", "--json").out)["drives"]
        return listed["standing"]

    assert standing() == "registered"
    note.write_bytes(genuine.replace(b'"owner":""', b'"owner":"x"'))
    assert standing() == "doubtful"
    note.write_bytes(b"\0" * 100_000)
    assert standing() == "doubtful"
    note.unlink()
    assert standing() == "doubtful"
    note.write_bytes(genuine)
    assert standing() == "registered"
    register = Path(os.environ["XDG_STATE_HOME"], "encvault", "drives.json")
    register.rename(tmp_path / "elsewhere")
    assert standing() == "unregistered"
    register.write_bytes(b"{}")
    assert standing() == "doubtful"
    register.chmod(0o666)  # anybody could write it
    assert standing() == "doubtful"
    assert on(bed, "usb", "forget", "SALES 2026").code == 78


def test_a_register_is_changed_only_where_its_key_is(
    run: Command, bed: Testbed, key: str, tmp_path: Path
) -> None:
    drive = prepared(bed, key)
    assert on(bed, "usb", "allow", "SALES 2026").code == 0
    home = Path(os.environ["XDG_STATE_HOME"], "encvault")
    assert (home / "drives.json.key").stat().st_mode & 0o777 == 0o600
    shared = tmp_path / "company.json"
    shared.write_bytes((home / "drives.json").read_bytes())
    config = Path(os.environ["XDG_CONFIG_HOME"], "encvault", "config.toml")
    config.parent.mkdir(parents=True)
    config.write_text(f'[usb]\nregister = "{shared}"\n')
    assert json.loads(run("usb", "allow", "--json").out)["drives"][0]["id"] == drive
    for done in (on(bed, "usb", "allow", "SALES 2026"), run("usb", "forget", drive)):
        assert (done.code, "the secret key of the register" in done.err) == (78, True)
    (tmp_path / "company.json.key").write_text("nonsense\n")
    assert "not a register of drives" in run("usb", "forget", drive).err
    (tmp_path / "company.json.key").write_bytes(b"A" * 43 + b"=\n")
    assert "the secret key of the register" in run("usb", "forget", drive).err
    shared.write_bytes(shared.read_bytes().replace(drive.encode(), b"a" * 26, 1))
    assert run("usb", "allow").code == 78
    assert run("config", "show").out.count(f"usb.register           {shared}") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--owner", "x"),
        ("SALES 2026", "--export", "udev"),
        ("SALES 2026", "--expires", "tomorrow"),
        ("SALES 2026", "--expires", "2001-01-01"),
        ("SALES 2026", "--owner", "two\nlines"),
        ("SALES 2026", "--label", "x" * 201),
    ],
)
def test_what_cannot_be_registered(bed: Testbed, key: str, arguments: tuple[str, ...]) -> None:
    bed.tell("plug")
    assert on(bed, "usb", "allow", *arguments).code == 2


def test_a_label_writes_no_rules(bed: Testbed, key: str) -> None:
    prepared(bed, key)
    bed.tell("pull")
    bed.tell("plug-hostile")
    done = on(bed, "usb", "allow", "/dev/sdb1", "--json")
    assert (done.code, json.loads(done.out)["label"]) == (0, "x\\u000aSUBSYSTEM==\\u000a")
    for program in ("udev", "usbguard"):
        rules = on(bed, "usb", "allow", "--export", program).out.splitlines()
        assert "SUBSYSTEM==" not in rules


def test_a_vault_of_somebody_else_with_the_same_id_is_doubted(
    run: Command, bed: Testbed, stick: DriveImage, key: str, tmp_path: Path
) -> None:
    drive = prepared(bed, key)
    assert on(bed, "usb", "allow", "SALES 2026").code == 0
    recipient = run("key", "new", "--no-password", "-o", tmp_path / "other").out.strip()
    (tmp_path / "made").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("encvault.vault.vault.new_id", lambda: drive)
        assert run("init", "--hide-names", tmp_path / "made", "-r", recipient).code == 0
    for name in ("vault.a.json", "vault.b.json"):
        forged = (tmp_path / "made" / ".encvault" / name).read_bytes()
        (stick.path / ".encvault" / name).write_bytes(forged)
    found = json.loads(on(bed, "usb", "list", "--json").out)["drives"][0]
    assert (found["id"], found["standing"]) == (drive, "doubtful")


def test_a_stick_of_which_something_else_is_mounted_is_not_let_go(
    bed: Testbed, stick: DriveImage, key: str, tmp_path: Path
) -> None:
    prepared(bed, key)
    (stick.path / ".Trash-1000").mkdir()
    (stick.path / ".Trash-1000" / "old").write_bytes(b"x")
    done = on(bed, "usb", "eject", "SALES 2026")
    assert (done.code, "1 files in the clear in its trash" in done.err) == (3, True)
    (stick.path / ".Trash-1000" / "old").unlink()
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", stick.path, other], check=True)
    try:
        done = on(bed, "usb", "eject", "SALES 2026")
    finally:
        subprocess.run(["umount", other], check=True)
    assert done.code == 75
    assert f"{stick.path} is unmounted, and the same stick is still used at {other}" in done.err
    assert "pull the drive out" not in done.err


def test_what_a_drive_is_called_that_went_away_or_has_partitions(
    bed: Testbed, stick: DriveImage, key: str
) -> None:
    prepared(bed, key)
    done = on(bed, "usb", "status", "/dev/sdb")
    assert (done.code, "it has partitions: /dev/sdb1" in done.err) == (2, True)


# -- the service ----------------------------------------------------------------------------


def test_a_service_is_shown_written_and_removed(run: Command, tmp_path: Path) -> None:
    units = Path(os.environ["XDG_CONFIG_HOME"], "systemd", "user")
    shown = run("usb", "watch", "--print", "--on-alert", 'sh -c "echo 100% $HOME"')
    assert shown.code == 0
    assert "100%% $$HOME" in shown.out
    assert not units.exists()
    unit = tmp_path / "encvault-usb-watch.service"
    unit.write_text(shown.out)
    checked = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    done = run("usb", "watch", "--install", "--on-alert", 'sh -c "echo 100% $HOME"')
    written = units / "encvault-usb-watch.service"
    assert written.read_text() == shown.out
    assert done.code == 69
    assert f"{written} is written, and not begun" in done.err  # no systemd of the user here
    assert run("usb", "watch", "--uninstall").code == 0
    assert not written.exists()
    assert "there is no service" in run("usb", "watch", "--uninstall").err
    assert run("usb", "watch", "--print", "--on-insert", "'x").code == 2
    assert run("usb", "watch", "--print", "--on-insert", "").code == 2


def test_a_command_must_not_break_the_service(run: Command) -> None:
    for word in ("'two\nlines'", "\udcff"):
        for task in ("--print", "--install"):
            done = run("usb", "watch", task, "--on-insert", word)
            assert (done.code, "only UTF-8" in done.err) == (2, True)


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_HOOK_PATIENCE_S", 0.2)
    drive = Drive(STICK, None, "")
    event = DriveEvent("in", datetime.now(UTC), drive, "unmounted", Standing("unregistered"))
    screen = ui.Screen("")
    watch._run_hook(["sleep", "1000"], event, screen)
    [problem] = screen.problems
    assert isinstance(problem, HookFailed)
    assert "not done in 0 seconds" in str(problem)


@pytest.fixture
def visible(tmp_path: Path) -> Drive:
    """A drive that was sealed with its names, folders and all."""
    folder = tmp_path / "drive"
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("a", "b", "d/a", "d/b", "d/e/a"):
        (folder / name).write_bytes(b"secret")
    seal(folder)
    return Drive(STICK, Mount(str(folder), "exfat", "/dev/sdz1", (8, 1), "/"), "a" * 26)


def top_of(drive: Drive) -> Path:
    assert drive.mount is not None
    return Path(drive.mount.path)


def age(folder: Path) -> None:
    """Let its folders be of yesterday, as those of a drive that is plugged in."""
    then = time.time() - 86_400
    for path, _folders, _files in os.walk(folder):
        os.utime(path, (then, then))


def test_a_glance_knows_a_vault_that_shows_names(visible: Drive, tmp_path: Path) -> None:
    assert state_at_a_glance(visible, str(tmp_path / "state")) == "locked"
    (top_of(visible) / "new.sealed").write_bytes(b"in the clear, whatever it is called")
    assert state_at_a_glance(visible, str(tmp_path / "state")) == "unlocked"


@pytest.mark.parametrize("name", ["d/e/new", "d/new.sealed", "d/.DS_Store/new", "empty/new"])
def test_a_glance_finds_what_lies_in_the_clear_in_folders(
    visible: Drive, tmp_path: Path, name: str
) -> None:
    seen = Seen()
    top = top_of(visible)
    new = top / name
    for _time in range(2):  # the second one remembers the first
        assert state_at_a_glance(visible, str(tmp_path), seen) == "locked"
        new.parent.mkdir(exist_ok=True)
        new.write_bytes(b"in the clear")
        for known in (seen, Seen()):
            assert state_at_a_glance(visible, str(tmp_path), known) == "unlocked"
        new.unlink()
        age(top)
    (top / "d" / ".DS_Store").mkdir(exist_ok=True)
    (top / "d" / "e" / ".DS_Store").write_bytes(b"of a system")
    assert state_at_a_glance(visible, str(tmp_path), seen) == "locked"


def test_a_drive_that_was_opened_is_told_when_it_is_pulled_out(
    visible: Drive, tmp_path: Path
) -> None:
    top = top_of(visible)
    for name in ("a", "b"):
        (top / f"{name}.sealed").unlink()  # nothing but folders at the top
    assert state_at_a_glance(visible, str(tmp_path)) == "locked"
    unseal(top)
    assert state_at_a_glance(visible, str(tmp_path)) == "unlocked"
    watcher = _Watcher(str(tmp_path / "register"), str(tmp_path / "state"))
    watcher.events(Look([], [], [visible], [visible]), is_first=False)
    [gone] = watcher.events(Look([visible], [], [], []), is_first=False)
    assert (gone.state, type(gone.warning)) == ("unlocked", DrivePulledUnlocked)


def test_a_glance_looks_at_so_many_names_and_goes_on_the_next_time(
    visible: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(glance, "_MOST_NAMES", 6)

    def peek(*place: Any) -> Any:
        read.append(place[2])
        return layout.peek(*place)

    monkeypatch.setattr(glance, "peek", peek)
    age(top_of(visible))
    seen = Seen()
    states = []
    for _time in range(4):
        read.clear()
        states.append(state_at_a_glance(visible, str(tmp_path), seen))
        assert len(read) <= 6
    # 4 folders and 8 names in them; until all are seen, there may be some in the clear
    assert (states[0], states[-1], read) == ("unlocked", "locked", [])
    assert states == sorted(states, reverse=True)


def test_glances_go_round_a_drive_of_more_folders_than_one_looks_at(
    visible: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = top_of(visible)
    for number in range(20):
        (top / "d" / f"folder {number}").mkdir()
    age(top)
    monkeypatch.setattr(glance, "_MOST_NAMES", 10)
    seen = Seen()

    def states(count: int = 8) -> list[str]:
        return [state_at_a_glance(visible, str(tmp_path), seen) for _time in range(count)]

    first = states()
    assert (first[0], first[-1]) == ("unlocked", "locked"), "24 folders and 30 names in them"
    assert first == sorted(first, reverse=True)
    assert set(states()) == {"locked"}
    new = top / "d" / "folder 7" / "new"
    new.write_bytes(b"in the clear")
    found = states(4)  # three of them are a round
    assert found[-1] == "unlocked"
    assert found == sorted(found)
    assert set(states()) == {"unlocked"}
    new.unlink()
    age(top)
    assert states()[-1] == "locked", "all were read again, since all have new stamps"
    (top / "d" / "e" / "f").mkdir()
    (top / "d" / "e" / "f" / "new").write_bytes(b"in a folder that nobody has seen")
    assert "unlocked" in states(4)
    assert states(1) == ["unlocked"]


# -- jobs -----------------------------------------------------------------------------------


def test_a_job_goes_to_a_registered_drive_and_waits_for_it(
    bed: Testbed, stick: DriveImage, key: str, tmp_path: Path
) -> None:
    drive = prepared(bed, key)
    source = tmp_path / "source"
    source.mkdir()
    (source / "offer.txt").write_bytes(b"secret offer")
    file = tmp_path / "night.toml"
    file.write_text(
        f'version = 1\nmode = "mirror"\nsources = ["{source}"]\ndrive = "{drive}"\n'
        'retries = 0\nverify = "full"\n'
    )

    def run_job() -> dict[str, Any]:
        done = on(bed, "job", "run", file, "--json")
        found: dict[str, Any] = json.loads(done.out)
        assert done.code == found["exit_code"]
        return found

    assert run_job()["errors"][0]["error"] == "DestinationAway"  # it is not registered
    assert on(bed, "usb", "allow", "SALES 2026").code == 0
    assert (run_job()["state"], run_job()["unchanged"]) == ("ok", 1)
    opened = tmp_path / "opened"
    assert on(bed, "open", "--to", opened, "-i", key, stick.path).code == 0
    assert (opened / "offer.txt").read_bytes() == b"secret offer"
    bed.tell("pull")
    away = run_job()
    assert (away["state"], away["errors"][0]["error"]) == ("skipped", "DestinationAway")
    bed.tell("plug")
    assert run_job()["state"] == "ok"
