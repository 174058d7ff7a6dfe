"""Names that a drive, or the folder that it is opened to, cannot hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from drivefs import DriveImage

if TYPE_CHECKING:
    from helpers import Command, Ran

pytestmark = pytest.mark.xdist_group("loop devices")  # who detaches one wants it again

WINDOWS = ("exfat", "ntfs-windows", "fat")

# what is sealed on a file system that takes everything, and where it goes on one of Windows
PLACES = {
    "a:b.txt": "a%3Ab.txt",
    "a%3Ac.txt": "a%3Ac.txt",
    "a:c.txt": "a%3Ac (2).txt",
    "CON": "%43ON",
    "aux.txt": "%61ux.txt",
    "dot.": "dot%2E",
    "docs:/space /f": "docs%3A/space%20/f",
    "docs:/plain.txt": "docs%3A/plain.txt",
    "empty?/": "empty%3F/",
    "Report.TXT": "Report.TXT",
    "report.txt": "report (2).txt",
    "x" * 250 + "?.txt": None,
    "large*.bin": "large%2A.bin",
}
LONG = "😀" * 100 + ".txt"  # 204 UTF-16 units, 404 bytes


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("correct horse battery staple\n")
    return str(path)


def content(path: str) -> bytes:
    return path.encode() * (20_000 if path == "large*.bin" else 1)


def fill(folder: Path) -> None:
    for path in PLACES:
        place = folder / path
        if path.endswith("/"):
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content(path))


def tree(folder: Path) -> dict[str, bytes | None]:
    """What is in the clear in a folder; None for a folder."""
    own = (".encvault", "lost+found", "HOW-TO-OPEN.txt")
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] not in own
    }


def problems(done: Ran) -> dict[str, str]:
    """What was saved under which name."""
    told = json.loads(done.out)["problems"]
    assert {problem["error"] for problem in told} == {"NameEscaped"}, told
    assert {problem["exit_code"] for problem in told} == {3}
    return {Path(problem["path"]).name: problem["saved_as"] for problem in told}


def check(folder: Path, done: Ran) -> None:
    """Everything is there under a name that Windows can open, and was told once."""
    assert done.code == 3, done.err
    saved = problems(done)
    found = tree(folder)
    expected = {}
    for path, known in PLACES.items():
        place = saved[path] if known is None else known
        expected[place.rstrip("/")] = None if path.endswith("/") else content(path)
        for above in Path(place).parents[:-1]:
            expected[str(above)] = None
    assert found == expected
    names = {path: known for path, known in PLACES.items() if known not in (path, None)}
    told = {Path(path).name: Path(place).name for path, place in names.items()}
    del told["f"], told["plain.txt"]
    told |= {"docs:": "docs%3A", "space ": "space%20"}
    [long] = saved.keys() - told.keys()
    assert long == "x" * 250 + "?.txt"
    assert len(saved.pop(long)) <= 255
    assert saved == told


def sealed(run: Command, folder: Path, password: str, *options: str) -> Path:
    """A vault with names of every kind."""
    folder.mkdir()
    fill(folder)
    done = run("init", *options, folder, "--password-file", password)
    assert done.code == 0, done.err
    done = run("seal", folder)
    assert done.code == 0, done.err
    return folder


def drive_of(run: Command, drive: DriveImage, tmp_path: Path, password: str) -> tuple[Any, ...]:
    """Bring a vault with hidden names to a drive; the options that mean it."""
    vault = sealed(run, tmp_path / "vault", password, "--hide-names")
    copy_tree(vault / ".encvault", drive.path / ".encvault")
    return ("--path", drive.path, "--yes", "--password-file", password, "--json")


def copy_tree(source: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            place.write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("kind", "options"),
    # fusefat has no modes, which a folder of a visible vault is given
    [*((kind, ("--hide-names",)) for kind in WINDOWS), ("exfat", ()), ("ntfs-windows", ())],
)
def test_what_is_opened_to_a_drive_gets_names_that_it_takes(
    kind: str, options: tuple[str, ...], run: Command, tmp_path: Path, password: str
) -> None:
    vault = sealed(run, tmp_path / "vault", password, *options)
    with DriveImage(kind, tmp_path / "image") as drive:
        to_open = ("open", vault, "--to", drive.path / "out", "--password-file", password)
        done = run(*to_open, "--json")
        check(drive.path / "out", done)

        before = tree(drive.path / "out")
        again = run(*to_open, "--json")
        check(drive.path / "out", again)
        assert tree(drive.path / "out") == before

        # a name that is taken by something else is a conflict, as any
        (drive.path / "out" / "a%3Ab.txt").write_bytes(b"another")
        done = run(*to_open, "--json")
        conflicts = [
            problem["path"]
            for problem in json.loads(done.out)["problems"]
            if problem["error"] == "Conflict"
        ]
        assert done.code == 3
        assert conflicts == [str(drive.path / "out" / "a%3Ab.txt")]
        assert (drive.path / "out" / "a%3Ab.txt").read_bytes() == b"another"
        assert run(*to_open, "--force").code == 3
        assert (drive.path / "out" / "a%3Ab.txt").read_bytes() == content("a:b.txt")
        assert not [name for name in os.listdir(drive.path) if name.startswith(".encvault")]


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_drive_is_unlocked_in_place_with_names_that_it_takes(
    kind: str, run: Command, tmp_path: Path, password: str
) -> None:
    with DriveImage(kind, tmp_path / "image") as drive:
        where = drive_of(run, drive, tmp_path, password)
        done = run("usb", "unlock", *where, "--in-place")
        check(drive.path, done)
        found = json.loads(run("usb", "status", "--path", drive.path, "--json").out)
        assert (found["state"], found["sealed"]) == ("unlocked", 0)

        before = tree(drive.path)
        done = run("usb", "lock", *where[:-1])
        assert done.code == 0, done.err
        assert tree(drive.path) == {}
        done = run("usb", "unlock", *where, "--to", tmp_path / "copy")
        assert done.code == 0, done.err  # by now they are called so
        assert tree(tmp_path / "copy") == before


def test_a_link_and_the_log(run: Command, tmp_path: Path, password: str) -> None:
    vault = tmp_path / "vault"
    (vault / "d:").mkdir(parents=True)
    (vault / "d:" / "l?").symlink_to("nowhere")
    assert run("init", "--hide-names", vault, "--password-file", password).code == 0
    assert run("seal", vault).code == 0
    with DriveImage("ntfs-windows", tmp_path / "image") as drive:
        done = run("open", vault, "--to", drive.path, "--password-file", password, "--json")
        assert problems(done) == {"d:": "d%3A", "l?": "l%3F"}
        assert os.readlink(drive.path / "d%3A" / "l%3F") == "nowhere"
    entries = [json.loads(line) for line in run("log", "show", "--json").out.splitlines()]
    [opened] = [entry for entry in entries if entry["op"] == "open" and entry.get("file")]
    assert opened["path"].endswith("d:/l?")  # what was opened, not what it is called there


def test_force_replaces_no_file_that_only_looks_alike(
    run: Command, tmp_path: Path, password: str
) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "readme").write_bytes(b"sealed")
    (vault / "same").write_bytes(b"sealed")
    assert run("init", "--hide-names", vault, "--password-file", password).code == 0
    assert run("seal", vault).code == 0
    with DriveImage("exfat", tmp_path / "image") as drive:
        (drive.path / "README").write_bytes(b"another")
        (drive.path / "same").write_bytes(b"older")
        to_open = ("open", vault, "--to", drive.path, "--password-file", password, "--force")
        done = run(*to_open, "--json")
        assert done.code == 3
        assert [one["error"] for one in json.loads(done.out)["problems"]] == ["Conflict"]
        assert tree(drive.path) == {"README": b"another", "same": b"sealed"}


def test_on_the_host_every_name_stays(run: Command, tmp_path: Path, password: str) -> None:
    with DriveImage("exfat", tmp_path / "image") as drive:
        where = drive_of(run, drive, tmp_path, password)
        done = run("usb", "unlock", *where, "--to", tmp_path / "copy")
        assert done.code == 0, done.err
        assert json.loads(done.out)["problems"] == []
    fill(tmp_path / "expected")
    assert tree(tmp_path / "copy") == tree(tmp_path / "expected")


@pytest.mark.parametrize("kind", ["ntfs", "ext4"])
def test_a_drive_that_takes_every_name_has_them_all(
    kind: str, run: Command, tmp_path: Path, password: str
) -> None:
    vault = sealed(run, tmp_path / "vault", password, "--hide-names")
    with DriveImage(kind, tmp_path / "image") as drive:
        to = drive.path / "out"
        done = run("open", vault, "--to", to, "--password-file", password)
        assert done.code == 0, done.err
        fill(tmp_path / "expected")
        assert tree(to) == tree(tmp_path / "expected")


@pytest.mark.parametrize("kind", ["exfat", "ntfs"])
def test_names_longer_than_the_host_has(
    kind: str, run: Command, tmp_path: Path, password: str
) -> None:
    folder = "中" * 120
    with DriveImage(kind, tmp_path / "image") as drive:
        (drive.path / LONG).write_bytes(b"of a long name")
        (drive.path / folder).mkdir()
        (drive.path / folder / "f").write_bytes(b"f")
        (drive.path / "报价单.xlsx").write_bytes(b"plain")
        before = tree(drive.path)
        where = ("--path", drive.path, "--yes", "--password-file", password)
        assert run("usb", "lock", *where).code == 0
        assert run("usb", "verify", *where).code == 0

        for _attempt in range(2):
            done = run("usb", "unlock", *where, "--json", "--to", tmp_path / "copy")
            assert done.code == 3, done.err
            saved = problems(done)
            assert saved.keys() == {LONG, folder}
            assert saved[LONG].startswith("😀" * 50)
            assert saved[LONG].endswith(".txt")
            assert tree(tmp_path / "copy") == {
                saved[LONG]: b"of a long name",
                saved[folder]: None,
                f"{saved[folder]}/f": b"f",
                "报价单.xlsx": b"plain",
            }

        done = run("usb", "unlock", *where, "--in-place")
        assert done.code == 0, done.err
        assert tree(drive.path) == before


def test_the_run_tells_what_it_did(run: Command, tmp_path: Path, password: str) -> None:
    vault = sealed(run, tmp_path / "vault", password)
    with DriveImage("exfat", tmp_path / "image") as drive:
        done = run("open", vault, "--to", drive.path / "out", "--password-file", password)
    assert done.code == 3
    where = drive.path / "out"
    assert f"{where}/a:b.txt: this name cannot be used here; it was saved as a%3Ab.txt" in done.err
    assert "files and folders saved under another name: 11" in done.err
    assert "hint: open it on a drive with another file system" in done.err


def test_a_part_of_a_vault_is_named_as_the_whole(
    run: Command, tmp_path: Path, password: str
) -> None:
    vault = sealed(run, tmp_path / "vault", password, "--hide-names")
    with DriveImage("exfat", tmp_path / "image") as drive:
        for path, place, told in (
            ("report.txt", "report (2).txt", {"report.txt": "report (2).txt"}),
            ("docs:", "space%20/f", {"space ": "space%20"}),
            ("docs:/space ", "f", {}),
        ):
            to = drive.path / path.replace(":", "-").replace("/", "-").strip()
            done = run("open", vault / path, "--to", to, "--password-file", password, "--json")
            assert done.code == (3 if told else 0), done.err
            assert {p["saved_as"] for p in json.loads(done.out)["problems"]} == set(told.values())
            assert (to / place).is_file()


def test_a_file_on_its_own_gets_a_name_that_the_drive_takes(
    run: Command, tmp_path: Path, password: str
) -> None:
    (tmp_path / "a:b.txt").write_bytes(b"alone")
    done = run("seal", tmp_path / "a:b.txt", "--password-file", password)
    assert done.code == 0, done.err
    with DriveImage("exfat", tmp_path / "image") as drive:
        to = drive.path / "out"
        sealed_file = tmp_path / "a:b.txt.sealed"
        for _attempt in range(2):
            done = run("open", sealed_file, "--to", to, "--password-file", password, "--json")
            assert done.code == 3, done.err
            assert problems(done) == {"a:b.txt": "a%3Ab.txt"}
            assert tree(to) == {"a%3Ab.txt": b"alone"}


def test_an_archive_is_unpacked_with_names_that_the_drive_takes(
    run: Command, tmp_path: Path, password: str
) -> None:
    folder = tmp_path / "folder"
    fill(folder)
    archive = tmp_path / "a.sealed"
    done = run("seal", folder, "--archive", archive, "--password-file", password)
    assert done.code == 0, done.err
    with DriveImage("exfat", tmp_path / "image") as drive:
        to = drive.path / "out"
        for _attempt in range(2):
            done = run("open", archive, "--to", to, "--password-file", password, "--json")
            check(to, done)
            assert not [name for name in os.listdir(to) if name.startswith(".encvault")]


def test_where_a_killed_run_tried_names_is_cleaned(
    run: Command, tmp_path: Path, password: str
) -> None:
    with DriveImage("exfat", tmp_path / "image") as drive:
        where = drive_of(run, drive, tmp_path, password)
        left = f".encvault-{'a' * 26}.tmp"
        for above in (drive.path / ".encvault", tmp_path / "copy", drive.path / "out"):
            (above / left).mkdir(parents=True)
            (above / left / "x").touch()
        assert run("usb", "unlock", *where, "--to", tmp_path / "copy").code == 0
        assert not (tmp_path / "copy" / left).exists()
        assert run("usb", "unlock", *where, "--to", drive.path / "out").code == 2
        done = run("open", tmp_path / "vault", "--to", drive.path / "out", *where[3:])
        assert done.code == 3, done.err
        assert not (drive.path / "out" / left).exists()
        assert run("usb", "unlock", *where, "--in-place").code == 3
        assert left not in os.listdir(drive.path / ".encvault")
