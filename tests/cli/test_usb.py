"""Locking and unlocking drives with real file systems."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from drivefs import KINDS, DriveImage
from helpers import Ran, make_deep
from serving import is_mounted

from encvault.fs import calls
from encvault.mount import places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command

pytestmark = pytest.mark.xdist_group("loop devices")  # who detaches one wants it again

STICK = (Path(__file__).parent.parent / "stick.umockdev").read_text()


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("correct horse battery staple\n")
    return str(path)


@pytest.fixture(params=KINDS)
def drive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DriveImage]:
    with DriveImage(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[DriveImage]:
    with DriveImage("exfat", tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def _unlocked_drives(run: Command) -> Iterator[None]:
    yield
    run("unmount", "--all")


def fill(drive: DriveImage) -> dict[str, str]:
    """Put files on a drive; digests by path."""
    # fusefat refuses some names, and to write beyond a file's end, as two workers do
    letters, size = ("", 300_000) if drive.kind == "fat" else ("合同", 1_500_000)
    for path, data in {
        f"docs/{letters}offer.txt": b"secret offer",
        "docs/large.bin": os.urandom(size),
        "docs/empty": b"",
        "a name with spaces.txt": b"x" * 70_000,
        **{f"many/f{number}": b"%d" % number for number in range(40)},
    }.items():
        target = drive.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (drive.path / "System Volume Information").mkdir()
    (drive.path / "System Volume Information" / "IndexerVolumeGuid").write_bytes(b"g")
    return digests(drive.path)


def digests(folder: Path) -> dict[str, str]:
    """Of what is in the clear in a folder."""
    own = (".encvault", "System Volume Information", "HOW-TO-OPEN.txt")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in own
    }


def status(run: Command, drive: DriveImage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("usb", "status", "--path", drive.path, "--json").out)
    return found


def lock(run: Command, drive: DriveImage, password: str, *options: str) -> Ran:
    where = ("--path", drive.path, "--yes", "--password-file", password)
    return run("usb", "lock", *where, *options)


def unlock(run: Command, drive: DriveImage, password: str, *options: object) -> Ran:
    where = ("--path", drive.path, "--yes", "--password-file", password)
    return run("usb", "unlock", *where, *options)


# -- what every file system must do ---------------------------------------------------------


def test_a_drive_is_locked_and_unlocked(
    run: Command, drive: DriveImage, password: str, tmp_path: Path
) -> None:
    before = fill(drive)
    assert status(run, drive)["state"] == "plain"
    done = lock(run, drive, password)
    assert (done.code, done.out) == (0, ""), done.err
    assert "the drive is locked and everything is written" in done.err
    found = status(run, drive)
    assert (found["state"], found["plain"], found["leftovers"]) == ("locked", [], [])
    assert sorted(set(os.listdir(drive.path)) - {"lost+found"}) == [
        ".encvault",
        "HOW-TO-OPEN.txt",
        "System Volume Information",
    ]
    seen = b"".join(path.read_bytes() for path in drive.path.rglob("*") if path.is_file())
    assert b"secret offer" not in seen
    assert b"offer.txt" not in seen

    assert lock(run, drive, password).code == 0  # nothing to do

    done = unlock(run, drive, password)
    assert done.code == 0
    found = status(run, drive)
    assert found["state"] == "unlocked"
    opened = Path(found["mountpoint"])
    assert digests(opened) == before
    (opened / "new.txt").write_bytes(b"new")
    (opened / "docs" / "empty").write_bytes(b"changed")
    assert lock(run, drive, password).code == 0
    assert not is_mounted(opened)

    drive.unmount()
    drive.mount()
    copy = tmp_path / "copy"
    assert unlock(run, drive, password, "--to", copy).code == 0
    # where all may do all to everything, a copy elsewhere is not so
    assert (drive.kind == "exfat") == (
        (copy / "docs" / "large.bin").stat().st_mode & 0o777 == 0o755
    )
    changed = hashlib.sha256(b"changed").hexdigest()
    new = {"new.txt": hashlib.sha256(b"new").hexdigest(), "docs/empty": changed}
    assert digests(copy) == before | new
    assert status(run, drive)["state"] == "locked"

    assert unlock(run, drive, password, "--in-place").code == 0
    assert digests(drive.path) == before | new
    found = status(run, drive)
    assert (found["state"], found["sealed"]) == ("unlocked", 0)
    assert not (drive.path / "HOW-TO-OPEN.txt").exists()
    assert lock(run, drive, password).code == 0
    assert status(run, drive)["state"] == "locked"


def test_what_is_on_a_locked_drive_is_proved(
    run: Command, drive: DriveImage, password: str
) -> None:
    fill(drive)
    assert lock(run, drive, password).code == 0
    where = ("usb", "verify", "--path", drive.path, "--yes", "--password-file", password)
    assert run(*where).code == 0
    sealed = max(
        (drive.path / ".encvault" / "objects").rglob("*"), key=lambda one: one.stat().st_size
    )
    with sealed.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    assert run(*where).code == 65


def test_what_was_left_is_put_in_order(run: Command, drive: DriveImage, password: str) -> None:
    fill(drive)
    where = ("--path", drive.path, "--yes", "--password-file", password)
    done = run("usb", "repair", *where)
    assert (done.code, "was never locked" in done.err) == (2, True)
    assert lock(run, drive, password).code == 0
    own = drive.path / ".encvault"
    (own / "vault.a.json").write_bytes(b"torn")
    for folder in (own, own / "keys", *(own / "objects").iterdir()):
        (folder / ".encvault-aaaaaaaaaaaaaaaaaaaaaaaaaa.tmp").write_bytes(b"half")
    (drive.path / "HOW-TO-OPEN.txt").unlink()
    (drive.path / "new.txt").write_bytes(b"new")
    assert status(run, drive)["state"] == "interrupted"
    done = run("usb", "repair", *where)
    assert done.code == 0, done.err
    assert "files authentic" in done.err
    found = status(run, drive)
    assert (found["state"], found["plain"], found["leftovers"]) == ("locked", [], [])
    assert (own / "vault.a.json").read_bytes() == (own / "vault.b.json").read_bytes()
    (drive.path / "HOW-TO-OPEN.txt").unlink()
    assert run("usb", "repair", *where, "-q").code == 0
    assert (drive.path / "HOW-TO-OPEN.txt").exists()


def test_a_lock_that_had_only_begun_is_finished(
    run: Command, stick: DriveImage, password: str
) -> None:
    before = fill(stick)
    where = ("--path", stick.path, "--yes", "--password-file", password)
    assert lock(run, stick, password).code == 0
    assert unlock(run, stick, password, "--in-place").code == 0
    assert run("usb", "repair", *where).code == 0
    assert digests(stick.path) == before  # it is unlocked, and nothing was interrupted
    (stick.path / ".encvault" / "lock").write_text("pid 4242 on workshop\n")
    assert run("usb", "repair", *where).code == 0
    assert status(run, stick)["state"] == "locked"


def test_fat_that_was_pulled_out_is_written_only_when_it_was_checked(
    run: Command, stick: DriveImage, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to an inconsistent FAT destroys what was written and proved before."""
    fill(stick)
    assert lock(run, stick, password).code == 0
    where = ("--path", stick.path, "--password-file", password)
    mark = stick.path / ".encvault" / "lock"
    asked: list[str] = []

    def decline(_prompter: object, question: str) -> bool:
        asked.append(question)
        return "no removable drive" in question

    # not `undo`, which would take `run` its home as well
    with monkeypatch.context() as patched:
        patched.setattr("encvault.operations.drives.locking.kind_of", lambda _device: "vfat")
        assert lock(run, stick, password).code == 0
        patched.setattr("encvault.cli.secrets.CommandLinePrompter.confirm", decline)
        for command in ("repair", "lock", "unlock"):
            mark.write_text("pid 4242 on workshop\n")
            assert run("usb", command, *where).code != 0, command
            assert "fsck.vfat -a" in asked[-1]
            assert mark.read_text()
    assert run("usb", "repair", *where, "--yes").code == 0


# -- a vault that shows names -----------------------------------------------------------------


def test_a_drive_sealed_with_names_is_locked(run: Command, password: str, tmp_path: Path) -> None:
    folder = tmp_path / "vis"
    (folder / "d").mkdir(parents=True)
    (folder / "a").write_bytes(b"first")
    (folder / "d" / "b").write_bytes(b"second")
    where = ("--path", folder, "--yes", "--password-file", password)
    assert run("seal", folder, "--password-file", password).code == 0
    for _time in range(2):
        done = run("usb", "lock", *where)
        assert done.code == 0, done.err
        assert "in the clear" not in done.err
        assert "are to be sealed" not in done.err
        assert done.err.count("can read the names") == 1
    assert run("usb", "status", "--path", folder).code == 0
    (folder / "d" / "new").write_bytes(b"third")
    (folder / "own.sealed").write_bytes(b"not sealed, whatever it is called")
    done = run("usb", "lock", *where)
    assert (done.code, "2 files are to be sealed" in done.err) == (0, True)
    sealed = sorted(str(one.relative_to(folder)) for one in folder.rglob("*.sealed"))
    assert sealed == ["a.sealed", "d/b.sealed", "d/new.sealed", "own.sealed.sealed"]


@pytest.mark.parametrize("names", [(), ("--hide-names",)])
def test_the_page_is_no_file_to_seal(
    run: Command, password: str, tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder, page = tmp_path / "drive", tmp_path / "drive" / "HOW-TO-OPEN.txt"
    folder.mkdir()
    (folder / "a").write_bytes(b"first")
    assert run("seal", folder, "--password-file", password, *names).code == 0
    assert run("usb", "lock", "--path", folder, "--yes", "--password-file", password).code == 0
    text = page.read_bytes()
    done = run("status", folder)
    assert (done.code, "HOW-TO-OPEN" in done.out) == (0, False)
    (folder / "b").write_bytes(b"second")
    assert run("seal", folder).code == 0
    assert page.read_bytes() == text
    assert not (folder / "b").exists()
    page.write_bytes(b"a file of the user's")
    done = run("status", folder)
    assert (done.code, "HOW-TO-OPEN.txt" in done.out) == (3, True)
    assert run("seal", folder).code == 0
    assert not page.exists()


# -- hints as they are typed -----------------------------------------------------------------


def typed(run: Command, done: Ran, begins: str, *options: str) -> Ran:
    """Type the command of a hint as it was printed; what needs a terminal is told by options."""
    [hint] = [line for line in done.err.splitlines() if line.startswith("hint: ")]
    [command] = re.findall(rf"encvault ({begins}[^;]*)", hint)
    return run(*shlex.split(command), *options)


def test_hints_for_a_folder_name_it_as_a_folder(
    run: Command, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my drive"
    (folder / ".Trashes").mkdir(parents=True)
    (folder / "a").write_bytes(b"secret")
    keys = ("--yes", "--password-file", password)

    done = run("usb", "init", "--path", "my drive", *keys)
    assert done.code == 73
    done = typed(run, done, "usb lock", *keys)
    assert done.code == 0, done.err
    (folder / "kept").write_bytes(b"in the clear")
    done = run("usb", "lock", "--path", "my drive", "--exclude", "kept", *keys)
    assert done.code == 3
    seen = typed(run, done, "usb status")
    assert (seen.code, "kept" in seen.out) == (3, True)
    assert typed(run, seen, "usb lock", *keys).code == 0
    (folder / ".Trashes" / "deleted").write_bytes(b"in the clear")
    seen = run("usb", "status", "--path", "my drive")
    assert seen.code == 3
    assert typed(run, seen, "usb lock", *keys).code == 0
    assert not (folder / ".Trashes" / "deleted").exists()
    done = run("usb", "unlock", "--path", "my drive", *keys)
    assert done.code == 0, done.err
    assert typed(run, done, "usb lock", *keys).code == 0
    assert run("usb", "status", "--path", "my drive", "-q").code == 0

    empty = tmp_path / "empty"
    empty.mkdir()
    done = run("usb", "verify", "--path", "empty", *keys)
    assert (done.code, "was never locked" in done.err) == (2, True)
    done = typed(run, done, "usb init", *keys)
    assert done.code == 0, done.err
    done = typed(run, done, "usb unlock", *keys)
    assert done.code == 0, done.err
    assert typed(run, done, "usb lock", *keys).code == 0


# -- before anything is begun ---------------------------------------------------------------


def test_what_is_no_drive_is_refused(run: Command, tmp_path: Path, stick: DriveImage) -> None:
    done = run("usb", "lock", tmp_path)
    assert done.code == 2
    assert "no removable drive: nothing is mounted there" in done.err
    done = run("usb", "lock", stick.path)
    assert done.code == 2
    assert "it cannot be pulled out of this machine" in done.err
    assert run("usb", "lock", "NO-SUCH-LABEL").code == 75
    assert run("usb", "lock", "/dev/nothing").code == 75
    assert run("usb", "lock").code == 2
    assert run("usb", "status", "--path", tmp_path / "missing").code == 66


def test_a_folder_that_is_no_drive_needs_consent(
    run: Command, tmp_path: Path, password: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "f").write_bytes(b"x")
    done = run("usb", "lock", "--path", folder, "--password-file", password, "--no-input")
    assert done.code == 2
    assert (folder / "f").read_bytes() == b"x"
    assert sorted(os.listdir(folder)) == ["f"]


def test_a_drive_that_cannot_be_written_is_left(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    before = fill(stick)
    stick.unmount()
    stick.mount("ro")
    done = lock(run, stick, password)
    assert (done.code, "mounted read-only" in done.err) == (73, True)
    stick.unmount()
    stick.mount()
    assert lock(run, stick, password).code == 0
    stick.unmount()
    stick.mount("ro")
    assert lock(run, stick, password).code == 0  # it is locked
    done = unlock(run, stick, password, "--in-place")
    assert (done.code, "mounted read-only" in done.err) == (73, True)
    assert unlock(run, stick, password, "--to", tmp_path / "copy").code == 0
    assert digests(tmp_path / "copy") == before
    assert unlock(run, stick, password).code == 0
    assert digests(Path(status(run, stick)["mountpoint"])) == before


def test_a_drive_without_room_is_left(run: Command, stick: DriveImage, password: str) -> None:
    (stick.path / "large").write_bytes(bytes(45 << 20))
    done = lock(run, stick, password)
    assert done.code == 73
    assert re.search(r": [0-9.]+ MB must be free to begin, and [0-9.]+ MB are", done.err)
    assert os.listdir(stick.path) == ["large"]


def test_a_drive_in_use_is_left(run: Command, stick: DriveImage, password: str) -> None:
    (stick.path / "f").write_bytes(b"x")
    with subprocess.Popen(
        ["tail", "-f", str(stick.path / "f")], stdout=subprocess.DEVNULL
    ) as other:
        done = lock(run, stick, password)
        other.kill()
    assert done.code == 75
    assert f"tail ({other.pid})" in done.err
    assert os.listdir(stick.path) == ["f"]
    with subprocess.Popen(["sleep", "100"], cwd=stick.path) as other:
        assert lock(run, stick, password).code == 0  # who only stands there writes nothing
        other.kill()


def test_what_would_be_done_is_shown_first(run: Command, stick: DriveImage, password: str) -> None:
    before = fill(stick)
    done = lock(run, stick, password, "--dry-run")
    assert done.code == 0
    assert "docs/large.bin" in done.out
    assert digests(stick.path) == before
    assert not (stick.path / ".encvault").exists()


def test_a_wrong_password_leaves_a_locked_drive_as_it_was(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    fill(stick)
    assert lock(run, stick, password).code == 0
    before = sorted(path for path in stick.path.rglob("*"))
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password at all\n")
    assert unlock(run, stick, str(wrong), "--in-place").code == 77
    assert sorted(path for path in stick.path.rglob("*")) == before
    entries = map(json.loads, run("log", "show", "--json").out.splitlines())
    refused = [entry for entry in entries if entry["op"] == "usb.unlock"]
    assert [(entry["outcome"], entry["vault"]) for entry in refused] == [
        ("refused", status(run, stick)["id"])
    ]


def test_nothing_is_written_below_a_drive_that_was_unmounted_meanwhile(
    run: Command, stick: DriveImage, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stick)
    gone: list[str] = []

    def pull_out(name: str, _fd: int, target: str) -> None:
        if name == "unlink" and not gone:
            gone.append(target)
            subprocess.run(["umount", "-l", str(stick.path)], check=True)

    monkeypatch.setattr(calls, "probe", pull_out)
    done = lock(run, stick, password, "--jobs", "1")
    monkeypatch.setattr(calls, "probe", None)
    assert gone
    assert done.code == 74
    assert "the drive went away: something else is in its place" in done.err
    assert os.listdir(stick.path) == []


@pytest.mark.parametrize("word", ["correct horse battery staple", "wrong"])
def test_a_drive_that_went_away_is_told_whatever_its_file_system_answers(
    run: Command, stick: DriveImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    fill(stick)
    password = tmp_path / "password"
    password.write_text("correct horse battery staple\n")
    assert lock(run, stick, str(password)).code == 0
    password.write_text(f"{word}\n")
    there = [True, False]
    monkeypatch.setattr("encvault.usb.devices.is_there", lambda _number: there.pop(0))
    done = unlock(run, stick, str(password), "--to", tmp_path / "copy")
    assert (done.code, "the drive went away" in done.err) == (74, True)


def test_a_drive_that_turned_read_only_says_what_to_do(
    run: Command, stick: DriveImage, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stick)
    turned: list[str] = []

    def refuse(name: str, _fd: int, target: str = "") -> None:
        if turned or name == "unlink":  # the kernel does so when it sees that FAT is damaged
            turned.append(target)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("encvault.operations.drives.found.is_read_only", lambda _path: bool(turned))
    monkeypatch.setattr(calls, "probe", refuse)
    done = lock(run, stick, password, "--jobs", "1")
    monkeypatch.setattr(calls, "probe", None)
    assert (done.code, "mounted read-only" in done.err) == (73, True)
    assert digests(stick.path)  # the originals are there


def test_a_drive_that_turned_read_only_cannot_be_put_in_order(
    run: Command, stick: DriveImage, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stick)
    assert lock(run, stick, password).code == 0
    objects = [one for one in (stick.path / ".encvault/objects").rglob("*") if one.is_file()]
    max(objects, key=lambda one: one.stat().st_size).write_bytes(b"")
    turned: list[str] = []
    mount = os.statvfs(stick.path)

    def look(name: str, _fd: int, target: str = "") -> None:
        turned.extend([name] if name == "read_at" else [])

    def status(_path: str) -> os.statvfs_result:
        values = list(mount)
        values[8] |= os.ST_RDONLY if turned else 0
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", status)
    monkeypatch.setattr(calls, "probe", look)
    where = ("--path", stick.path, "--yes", "--password-file", password)
    done = run("usb", "repair", *where, "--jobs", "1")
    monkeypatch.setattr(calls, "probe", None)
    assert turned
    assert (done.code, "mounted read-only" in done.err) == (73, True)


@pytest.mark.parametrize("command", ["lock", "init"])
def test_nothing_is_sealed_below_a_drive_that_goes_while_the_password_is_asked(
    run: Command, stick: DriveImage, password: str, command: str
) -> None:
    subprocess.run(["umount", stick.path], check=True)
    (stick.path / "of the host").write_bytes(b"x")
    subprocess.run(["mount.exfat-fuse", "-o", "nonempty", stick.loop, stick.path], check=True)
    script = f"umount -l {stick.path}; cat {password}"
    done = run(
        *("usb", command, "--path", stick.path, "--yes"), "--password-command", f"sh -c '{script}'"
    )
    assert (done.code, "the drive went away" in done.err) == (74, True)
    assert os.listdir(stick.path) == ["of the host"]
    assert (stick.path / "of the host").read_bytes() == b"x"


def test_a_drive_whose_records_are_lost_gets_no_other_vault(
    run: Command, stick: DriveImage, password: str
) -> None:
    fill(stick)
    assert lock(run, stick, password).code == 0
    for name in ("vault.a.json", "vault.b.json"):
        (stick.path / ".encvault" / name).unlink()
    for command in ("lock", "init"):
        where = ("--path", stick.path, "--yes", "--password-file", password)
        done = run("usb", command, *where)
        assert (done.code, "both records of their vault are lost" in done.err) == (65, True)


def test_options_that_cannot_be_kept_are_refused(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    fill(stick)
    for arguments in (["--to", ""], ["--to", "x", "--idle", "5s"], ["--in-place", "--read-only"]):
        assert unlock(run, stick, password, *arguments).code == 2
    done = unlock(run, stick, password)
    assert (done.code, "was never locked" in done.err) == (2, True)
    assert run("usb", "verify", "--path", stick.path, "--yes").code == 2
    assert lock(run, stick, password).code == 0
    assert unlock(run, stick, password).code == 0
    for arguments in (["--at", str(tmp_path / "x")], ["--read-only"], ["--idle", "5s"]):
        done = unlock(run, stick, password, *arguments)
        assert (done.code, "in another way: lock it first" in done.err) == (2, True)
    assert unlock(run, stick, password).code == 0


def test_a_view_of_a_drive_that_is_read_only_is_locked_again(
    run: Command, stick: DriveImage, password: str
) -> None:
    fill(stick)
    assert lock(run, stick, password).code == 0
    stick.unmount()
    stick.mount("ro")
    assert unlock(run, stick, password).code == 0
    opened = status(run, stick)["mountpoint"]
    assert lock(run, stick, password).code == 0
    assert not is_mounted(opened)


def test_what_is_mounted_inside_a_drive_is_left(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "f").write_bytes(b"of the host")
    for name in ("inner", ".Trash-0"):
        (stick.path / name).mkdir()
        subprocess.run(["mount", "--bind", host, stick.path / name], check=True)
    try:
        done = lock(run, stick, password, "--purge-trash")
    finally:
        for name in ("inner", ".Trash-0"):
            subprocess.run(["umount", stick.path / name], check=True)
    assert "something else is mounted there; it is left" in done.err
    assert (host / "f").read_bytes() == b"of the host"


# -- what others left -----------------------------------------------------------------------


def test_trash_is_told_and_removed_when_asked(
    run: Command, stick: DriveImage, password: str
) -> None:
    for name in (".Trash-1000/files", "$RECYCLE.BIN/S-1-5", ".Trashes"):
        (stick.path / name).mkdir(parents=True)
        (stick.path / name / "old.xlsx").write_bytes(b"deleted")
    for number in range(70):  # more folders than are kept open
        (stick.path / ".Trash-1000" / "files" / "a" / str(number)).mkdir(parents=True)
    for number in range(5):
        (stick.path / ".Trash-1000" / f"x{number}").write_bytes(b"deleted")
    (stick.path / "docs" / "RECYCLER").mkdir(parents=True)
    (stick.path / "docs" / "RECYCLER" / "f").write_bytes(b"the user's own")
    done = lock(run, stick, password)
    assert done.code == 3
    assert "8 files in the clear in its trash folders" in done.err
    assert (status(run, stick)["state"], status(run, stick)["trash"]) == ("locked", 8)
    assert not (stick.path / "docs").exists()
    done = lock(run, stick, password, "--purge-trash")
    assert done.code == 0
    assert status(run, stick)["trash"] == 0
    assert (stick.path / "$RECYCLE.BIN").is_dir()


def test_what_a_system_leaves_later_makes_no_drive_unlocked(
    run: Command, stick: DriveImage, password: str
) -> None:
    fill(stick)
    (stick.path / ".DS_Store").write_bytes(b"names of everything")
    assert lock(run, stick, password).code == 0
    assert not (stick.path / ".DS_Store").exists()
    (stick.path / ".DS_Store").write_bytes(b"new")
    assert status(run, stick)["state"] == "locked"
    (stick.path / "new.xlsx").write_bytes(b"new")
    found = status(run, stick)
    assert (found["state"], found["plain"]) == ("interrupted", ["new.xlsx"])
    assert run("usb", "status", "--path", stick.path).code == 3


def test_a_page_of_the_users_own_is_sealed_like_any_file(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    (stick.path / "HOW-TO-OPEN.txt").write_bytes(b"the user's own")
    assert lock(run, stick, password).code == 0
    page = (stick.path / "HOW-TO-OPEN.txt").read_bytes().decode("utf-8-sig")
    assert status(run, stick)["id"] in page
    assert "本盘已由 encvault" in page
    assert unlock(run, stick, password, "--in-place").code == 0
    assert (stick.path / "HOW-TO-OPEN.txt").read_bytes() == b"the user's own"
    done = lock(run, stick, password, "--exclude", "HOW-TO-OPEN.txt")
    assert (done.code, "1 files are still in the clear" in done.err) == (3, True)
    assert "not all of the drive is locked" in done.err
    assert (stick.path / "HOW-TO-OPEN.txt").read_bytes() == b"the user's own"


def test_a_file_with_the_name_of_a_systems_folder_is_the_users(
    run: Command, stick: DriveImage, password: str
) -> None:
    for name in (".Trash-customers.xlsx", "RECYCLER", "lost+found", ".fseventsd"):
        (stick.path / name).write_bytes(b"the user's own")
    assert lock(run, stick, password).code == 0
    assert sorted(os.listdir(stick.path)) == [".encvault", "HOW-TO-OPEN.txt"]


def test_what_lies_in_folders_of_systems_is_told(
    run: Command, stick: DriveImage, password: str
) -> None:
    for path in ("lost+found/x/secret.docx", "System Volume Information/salaries.xlsx"):
        (stick.path / path).parent.mkdir(parents=True)
        (stick.path / path).write_bytes(b"x")
    (stick.path / "System Volume Information" / "IndexerVolumeGuid").write_bytes(b"g")
    done = lock(run, stick, password)
    assert (done.code, "2 files in the clear in its trash folders" in done.err) == (3, True)
    done = run("usb", "status", "--path", stick.path)
    assert (done.code, "2 files in the clear in its trash folders" in done.err) == (3, True)


def test_trash_that_leads_elsewhere_or_is_deep(run: Command, password: str, tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    (folder / ".Trash-1000").symlink_to("/usr")
    where = ("--path", folder, "--yes", "--password-file", password)
    assert run("usb", "lock", *where).code == 0  # a link is the user's, and sealed
    (folder / ".Trash-0").mkdir()
    make_deep(folder / ".Trash-0", 1200)
    done = run("usb", "lock", *where)
    assert (done.code, "2 files in the clear in its trash folders" in done.err) == (3, True)
    done = run("usb", "lock", *where, "--purge-trash")
    assert (done.code, "in its trash folders" in done.err) == (0, False)
    assert list((folder / ".Trash-0").iterdir()) == []


def test_a_page_that_somebody_wrote_on_is_his(
    run: Command, stick: DriveImage, password: str
) -> None:
    assert lock(run, stick, password).code == 0
    page = stick.path / "HOW-TO-OPEN.txt"
    with page.open("ab") as file:
        file.write(b"Owner: Li Wei, 12345")
    written = page.read_bytes()
    assert status(run, stick)["plain"] == ["HOW-TO-OPEN.txt"]
    assert lock(run, stick, password).code == 0
    assert page.read_bytes() != written
    assert unlock(run, stick, password, "--in-place").code == 0
    assert page.read_bytes() == written


# -- init, passwd ---------------------------------------------------------------------------


def test_an_empty_drive_is_prepared(run: Command, stick: DriveImage, password: str) -> None:
    where = ("usb", "init", "--path", stick.path, "--yes", "--password-file", password)
    (stick.path / "f").write_bytes(b"x")
    done = run(*where)
    assert (done.code, "1 files that are not sealed" in done.err) == (73, True)
    (stick.path / "f").unlink()
    done = run(*where, "--json")
    assert done.code == 0
    found = status(run, stick)
    assert (found["state"], found["id"]) == ("locked", json.loads(done.out)["id"])
    assert run(*where).code == 2  # it is one
    assert unlock(run, stick, password).code == 0
    opened = Path(status(run, stick)["mountpoint"])
    (opened / "offer.txt").write_bytes(b"never in the clear on the drive")
    assert run("unmount", opened).code == 0
    drive = stick.image.read_bytes()
    assert b"never in the clear on the drive" not in drive


def test_the_company_can_open_every_drive(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    company = tmp_path / "company.key"
    recipient = run("key", "new", "--no-password", "-o", company).out
    config = Path(os.environ["XDG_CONFIG_HOME"], "encvault", "config.toml")
    config.parent.mkdir(parents=True)
    (config.parent / "company.pub").write_text(recipient)
    config.write_text('recipients = ["company.pub"]\n')
    before = fill(stick)
    assert lock(run, stick, password).code == 0
    where = ("--path", stick.path, "--yes", "--to", tmp_path / "copy")
    assert run("usb", "unlock", *where, "-i", company).code == 0
    assert digests(tmp_path / "copy") == before


def test_the_password_of_a_drive_is_changed(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    fill(stick)
    assert lock(run, stick, password).code == 0
    new = tmp_path / "new"
    new.write_text("another long and good password\n")
    where = ("usb", "passwd", "--path", stick.path, "--yes", "--password-file", password)
    assert run(*where, "--new-password-file", new).code == 0
    assert unlock(run, stick, password).code == 77
    assert unlock(run, stick, str(new)).code == 0


def test_where_a_drive_is_mounted(
    run: Command, stick: DriveImage, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(stick)
    assert lock(run, stick, password).code == 0
    assert unlock(run, stick, password, "--at", tmp_path / "here", "--to", "x").code == 2
    here = tmp_path / "here"
    done = unlock(run, stick, password, "--at", here, "--json")
    assert json.loads(done.out) == {"path": str(here)}
    assert digests(here) == before
    assert json.loads(unlock(run, stick, password, "--json").out) == {"path": str(here)}
    assert run("unmount", here).code == 0
    runtime = tmp_path / "runtime"
    (runtime / "encvault" / "drive").mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    done = unlock(run, stick, password, "--read-only", "--json")
    opened = Path(json.loads(done.out)["path"])
    assert opened == runtime / "encvault" / "drive-2"
    with pytest.raises(OSError, match="Read-only"):
        (opened / "f").write_bytes(b"x")
    assert run("unmount", opened).code == 0
    places.remove_made(str(opened))


# -- which drive is meant -------------------------------------------------------------------


def with_stick(stick: DriveImage, *arguments: object) -> Ran:
    """Run a command where the system has a USB stick; its partition is the loop device."""
    minor = stick.loop.removeprefix("/dev/loop") or "99"
    description = stick.top / "stick.umockdev"
    description.write_text(STICK.replace("{minor}", minor))
    command = ["umockdev-run", "-d", str(description), "--", sys.executable, "-m", "encvault"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_stick_is_found_by_each_of_its_names(stick: DriveImage, password: str) -> None:
    fill(stick)
    [listed] = json.loads(with_stick(stick, "usb", "list", "--json").out)["drives"]
    assert listed["path"] == str(stick.path)
    assert listed["state"] == "plain"
    assert listed["device"] == {
        "node": "/dev/sdb1",
        "filesystem": "exfat",
        "uuid": "1234-ABCD",
        "label": "SALES 2026",
        "size": 30_029_824 * 512,
        "vendor_id": "0781",
        "product_id": "5581",
        "serial": "4C530001230101119382",
        "model": "Ultra",
    }
    locked = with_stick(stick, "usb", "lock", "sales 2026", "--password-file", password)
    assert locked.code == 0, locked.err
    shown = json.loads(with_stick(stick, "usb", "status", stick.path, "--json").out)
    for name in ("1234-abcd", "/dev/sdb1", "SALES 2026", shown["id"]):
        assert with_stick(stick, "usb", "status", name).code == 0, name
    (stick.path / "folder").mkdir()
    done = with_stick(stick, "usb", "status", stick.path / "folder")
    assert (done.code, f"it is a folder on the drive {stick.path}" in done.err) == (2, True)
    done = with_stick(stick, "usb", "status", "/dev/sda")
    assert (done.code, "it cannot be pulled out" in done.err) == (2, True)
    assert with_stick(stick, "usb", "list").out.startswith("/dev/sdb1  SALES 2026  exfat")


def test_a_stick_is_let_go_when_it_is_locked(stick: DriveImage, password: str) -> None:
    fill(stick)
    done = with_stick(stick, "usb", "eject", "SALES 2026")
    assert (done.code, is_mounted(stick.path)) == (3, True)
    done = with_stick(stick, "usb", "lock", "SALES 2026", "--eject", "--password-file", password)
    assert done.code == 0, done.err
    assert f"{stick.path} is unmounted; pull the drive out" in done.err
    assert not is_mounted(stick.path)
    done = with_stick(stick, "usb", "status", "SALES 2026")
    assert (done.code, "plugged in, and not mounted" in done.err) == (75, True)
    assert with_stick(stick, "usb", "lock", "SALES 2026").code == 75


def test_a_stick_that_somebody_stands_in_stays(stick: DriveImage, password: str) -> None:
    fill(stick)
    with subprocess.Popen(["sleep", "100"], cwd=stick.path) as other:
        done = with_stick(stick, "usb", "eject", "SALES 2026", "--force")
        other.kill()
    assert (done.code, f"sleep ({other.pid})" in done.err) == (75, True)
    assert is_mounted(stick.path)


def test_two_drives_of_one_name_are_not_guessed(tmp_path: Path) -> None:
    one = STICK.replace("{minor}", "98")
    other = STICK.replace("{minor}", "99").replace("1-2", "1-3").replace("sdb", "sdc")
    other = other.replace("8:16", "8:32").replace("MINOR=16", "MINOR=32")
    description = tmp_path / "two.umockdev"
    description.write_text(one + "\n" + other[: other.index("P: /devices/pci0000:00/0000:00:17")])
    command = ["umockdev-run", "-d", str(description), "--", sys.executable, "-m", "encvault"]
    done = subprocess.run(
        [*command, "usb", "status", "SALES 2026"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "several drives are called so: /dev/sdb1, /dev/sdc1" in done.stderr


def test_two_drives_take_turns_at_one_folder(
    run: Command, stick: DriveImage, password: str, tmp_path: Path
) -> None:
    first = fill(stick)
    where = ("--password-file", password, stick.path)
    assert with_stick(stick, "usb", "lock", *where).code == 0
    stick.unmount()
    stick.image.rename(tmp_path / "first")
    with DriveImage("exfat", tmp_path / "other") as other:
        (other.path / "f").write_bytes(b"of another drive")
        other.unmount()
        other.image.rename(stick.image)
        stick.mount()
        done = with_stick(stick, "usb", "lock", *where)
        assert done.code == 0, done.err
        stick.unmount()
    (tmp_path / "first").rename(stick.image)
    stick.mount()
    assert with_stick(stick, "usb", "lock", *where).code == 0
    done = with_stick(stick, "usb", "unlock", *where, "--to", tmp_path / "copy")
    assert done.code == 0, done.err
    assert digests(tmp_path / "copy") == first


def test_a_drive_from_another_machine_is_asked_about_once(
    stick: DriveImage, password: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(stick)
    where = ("--password-file", password, stick.path)
    assert with_stick(stick, "usb", "lock", *where).code == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    (stick.path / "new").write_bytes(b"new")
    done = with_stick(stick, "usb", "lock", *where)
    assert done.code == 2
    assert "the drive was prepared on another machine" in done.err
    assert (stick.path / "new").exists()
    assert with_stick(stick, "usb", "lock", *where, "--yes").code == 0
    (stick.path / "more").write_bytes(b"new")
    assert with_stick(stick, "usb", "lock", *where).code == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a third"))
    assert with_stick(stick, "usb", "unlock", *where, "--to", tmp_path / "copy").code == 0
    (stick.path / "again").write_bytes(b"new")
    assert with_stick(stick, "usb", "lock", *where).code == 0  # whoever opens it knows it
