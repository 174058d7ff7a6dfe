"""The plan: what is sealed, what is left, and that telling it changes nothing."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from drivefs import DriveImage
from helpers import NOBODY, everything, in_child, keys, seal, snapshot, unseal, write_tree
from passthrough import Passthrough

from encvault import operations
from encvault.errors import Conflict, NameTaken, NestedVault, SpecialFile, Unreadable
from encvault.fs.rules import Keeping
from encvault.vault.report import Observer
from encvault.vault.selection import SealOptions

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.vault.report import Report

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root)
    return root


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A state folder that is no part of what is compared: SQLite touches it to read."""
    return str(tmp_path_factory.mktemp("state"))


class Plan(Observer):
    wants_total = True

    def __init__(self) -> None:
        self.actions: list[tuple[str, str]] = []
        self.totals: list[tuple[int, int]] = []

    def action(self, verb: str, path: str) -> None:
        self.actions.append((verb, path))

    def total(self, files: int, size: int) -> None:
        self.totals.append((files, size))


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        (("*.py",), "src/main.py", True),
        (("*.py",), "src/main.pyc", False),
        (("*.PY",), "src/main.py", False),
        (("src/*",), "src/deep/main.py", True),
        (("src/main.py",), "src/main.py", True),
        (("main.py",), "src/main.py", True),
        (("src",), "src", True),
        (("src",), "other/src", True),
        (("s[rv]c", "x"), "src", True),
        ((), "src", False),
    ],
)
def test_patterns_match_a_name_or_a_whole_path(
    patterns: tuple[str, ...], path: str, *, excluded: bool
) -> None:
    assert SealOptions(exclude=patterns).excludes(path) is excluded


@pytest.mark.parametrize(
    ("only", "path", "covers", "leads"),
    [
        ((), "a/b", True, True),
        (("",), "a/b", True, True),
        (("a",), "a", True, True),
        (("a",), "a/b", True, True),
        (("a",), "ab", False, False),
        (("a/b",), "a", False, True),
        (("a/b",), "a/c", False, False),
        (("x", "a/b"), "a/b/c", True, True),
    ],
)
def test_a_restricted_run_enters_what_leads_to_its_goal(
    only: tuple[str, ...], path: str, *, covers: bool, leads: bool
) -> None:
    options = SealOptions(only=only)
    assert (options.covers(path), options.leads_to(path)) == (covers, leads)


# -- dry runs -------------------------------------------------------------------------------


def dry(tree: Path, **options: Any) -> tuple[Report, list[tuple[str, str]]]:
    watcher = Plan()
    before = everything(tree.parent)
    report = seal(tree, watcher, dry_run=True, **options)
    assert everything(tree.parent) == before
    return report, sorted(watcher.actions)


@LAYOUTS
def test_a_dry_run_of_a_new_vault_names_every_file_and_changes_nothing(
    tree: Path, *, hidden: bool
) -> None:
    expected = sorted(
        ("seal", str(path.relative_to(tree)))
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    report, actions = dry(tree, hide_names=hidden)
    assert actions == expected
    assert (report.files, report.folders) == (8, 4 if hidden else 0)
    assert dry(tree, hide_names=hidden, to=str(tree.parent / "mirror"))[1] == expected
    assert not (tree.parent / "mirror").exists()


def test_a_dry_run_into_a_folder_that_is_no_vault_yet(tree: Path) -> None:
    (tree.parent / "mirror").mkdir()
    (tree.parent / "mirror" / "empty.sealed").write_text("something else")
    report, actions = dry(tree, to=str(tree.parent / "mirror"))
    assert len(actions) == 7
    assert [type(problem) for problem in report.problems] == [NameTaken]


def test_a_dry_run_asks_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    request = operations.SealRequest(paths=(str(tree),), dry_run=True)
    assert operations.seal(request, operations.Answers()).files == 8


@LAYOUTS
@pytest.mark.parametrize("where", ["in place", "mirror"])
def test_a_dry_run_of_an_existing_vault_changes_nothing(
    tree: Path, state: str, monkeypatch: pytest.MonkeyPatch, where: str, *, hidden: bool
) -> None:
    to = {"to": str(tree.parent / "mirror")} if where == "mirror" else {"keep": True}
    seal(tree, hide_names=hidden, state_dir=state, **to)
    (tree / "empty").write_text("changed")
    (tree / "src" / "new").touch()
    report, actions = dry(tree, state_dir=state, **to)
    known = ("reseal", "empty")
    assert actions == [known, ("seal", "src/new")]
    assert report.unchanged == (14 if where == "in place" and not hidden else 7)


def test_a_dry_run_with_delete_names_what_would_go(tree: Path, state: str) -> None:
    mirror = str(tree.parent / "mirror")
    seal(tree, to=mirror, state_dir=state)
    (tree / "empty").unlink()
    (tree / "src" / "run.sh").unlink()
    report, actions = dry(tree, to=mirror, state_dir=state, delete=True)
    removed = [path for verb, path in actions if verb == "remove"]
    assert removed == ["empty.sealed", "src/run.sh.sealed"]
    assert report.removed == 2


def test_dry_runs_of_files_and_archives_change_nothing(tree: Path) -> None:
    assert dry(tree / "empty")[1] == [("seal", str(tree / "empty"))]
    assert dry(tree / "empty", output=str(tree / "x"))[1] == [("seal", str(tree / "empty"))]
    archive = str(tree.parent / "a.sealed")
    assert dry(tree, archive=archive)[1] == [("seal", archive)]
    seal(tree / "src", to=str(tree.parent / "vault"))
    new = tree.parent / "vault" / "new"
    new.touch()
    watcher = Plan()
    before = everything(tree.parent)
    request = operations.SealRequest(paths=(str(new),), dry_run=True)
    operations.seal(request, operations.Answers(), watcher)
    assert everything(tree.parent) == before
    assert watcher.actions == [("seal", "new")]


# -- what is left out -----------------------------------------------------------------------


def test_the_total_is_counted_beforehand(tree: Path) -> None:
    watcher = Plan()
    report = seal(tree, watcher, exclude=("*.py",))
    link = 1  # a link is sealed and has next to no bytes: it is not counted
    assert watcher.totals[0][0] == report.files - link


@LAYOUTS
def test_excluded_folders_stay_in_the_clear(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden, exclude=("deep", "src/run.sh", "空*"))
    assert (tree / "src" / "deep" / "er" / "main.py").exists()
    assert (tree / "src" / "run.sh").exists()
    assert not (tree / "src" / "link").is_symlink()
    assert not (tree / "empty").exists()


def test_nested_vaults_special_files_and_what_cannot_be_read(public_path: Path) -> None:
    def work() -> set[tuple[str, str]]:
        root = public_path / "docs"
        write_tree(root)
        seal(root / "src")
        os.mkfifo(root / "fifo")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "socket"))
        (root / "closed").mkdir()
        (root / "closed").chmod(0)
        (root / "secret").touch()
        (root / "secret").chmod(0)
        report = seal(root)
        (root / "closed").chmod(0o700)
        return {(type(error).__name__, error.fields()["path"]) for error in report.problems}

    root = public_path / "docs"
    assert in_child(work, uid=NOBODY) == {
        (NestedVault.__name__, str(root / "src")),
        (SpecialFile.__name__, str(root / "fifo")),
        (SpecialFile.__name__, str(root / "socket")),
        (Unreadable.__name__, str(root / "closed")),
        (Unreadable.__name__, str(root / "secret")),
    }
    assert (root / "empty.sealed").exists()
    assert (root / "secret").exists()


# -- hard links -----------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("batch", [512, 1])
@pytest.mark.parametrize("jobs", [1, 3])
def test_two_names_of_one_file_are_both_sealed_in_one_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch, batch: int, jobs: int, *, hidden: bool
) -> None:
    monkeypatch.setattr("encvault.vault.pool.BATCH_FILES", batch)
    (tree / "one").write_text("content")
    for other in ("two", "hollow/three", "src/deep/four"):
        os.link(tree / "one", tree / other)
    before = snapshot(tree, times=False)
    report = seal(tree, hide_names=hidden, jobs=jobs)
    assert report.problems == []
    assert report.files == 12
    assert operations.status(str(tree)).plain == []
    unseal(tree)
    assert snapshot(tree, times=False) == before
    assert (tree / "one").stat().st_nlink == 1


def test_a_linked_file_that_is_written_meanwhile_is_kept(tree: Path) -> None:
    (tree / "one").write_text("content")
    os.link(tree / "one", tree / "two")

    class Writer(Observer):
        def before_release(self, events: Any) -> None:
            (tree / "one").write_text("changed")

    report = seal(tree, Writer())
    assert {problem.fields()["path"] for problem in report.problems} == {
        str(tree / "one"),
        str(tree / "two"),
    }
    assert (tree / "two").read_text() == "changed"


# -- conflicts ------------------------------------------------------------------------------


def test_in_place_only_the_known_predecessor_gives_way(tree: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    seal(tree, keep=True, state_dir=state)
    (tree / "empty").write_text("edited")
    # another machine, or a lost state folder: nobody knows which is newer
    report = seal(tree, keep=True, state_dir=str(tmp_path / "elsewhere"))
    assert {type(problem) for problem in report.problems} == {Conflict}
    assert len(report.problems) == 8
    report = seal(tree, keep=True, state_dir=state)
    assert report.problems == []
    assert b"".join(map(bytes, operations.cat(str(tree / "empty"), keys()))) == b"edited"


@pytest.mark.parametrize("force", [False, True])
def test_what_stands_at_a_sealed_name_and_is_none_of_ours_is_kept(
    tree: Path, tmp_path: Path, *, force: bool
) -> None:
    mirror = tmp_path / "mirror"
    seal(tree / "src", to=str(mirror))
    (mirror / "run.sh.sealed").write_text("a file of someone else")
    report = seal(tree / "src", to=str(mirror), force=force)
    if force:
        assert report.problems == []
    else:
        assert [type(problem) for problem in report.problems] == [NameTaken]
        assert (mirror / "run.sh.sealed").read_text() == "a file of someone else"


def test_a_sealed_file_on_its_own_is_not_taken_for_the_vaults(tree: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    seal(tree / "src", to=str(mirror))
    (tmp_path / "run.sh").write_text("for a partner")
    seal(tmp_path / "run.sh")
    alone = (tmp_path / "run.sh.sealed").read_bytes()
    (mirror / "run.sh.sealed").write_bytes(alone)
    report = seal(tree / "src", to=str(mirror), delete=True)
    assert [type(problem) for problem in report.problems] == [NameTaken]
    (tree / "src" / "run.sh").unlink()
    report = seal(tree / "src", to=str(mirror), delete=True)
    assert (mirror / "run.sh.sealed").read_bytes() == alone


@pytest.mark.xdist_group("loop devices")
@pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
@pytest.mark.parametrize("kind", ["exfat", "ext4"])
def test_a_drive_that_is_mounted_anew_is_not_sealed_anew(
    tmp_path: Path, kind: str, *, hidden: bool
) -> None:
    """FAT has no inodes: the numbers are made up at each mount."""
    vault, state = tmp_path / "vault", tmp_path / "state"
    with DriveImage(kind, tmp_path / "top") as drive:
        docs = drive.path / "docs"
        docs.mkdir()
        for name in ("a", "b", "c"):
            (docs / name).write_text(f"of {name:>{ord(name)}}")  # each of another size
            os.utime(docs / name, (1_700_000_000, 1_700_000_000))
        options = {"to": str(vault), "state_dir": str(state)}
        assert seal(docs, hide_names=hidden, **options).files == 3
        drive.unmount()
        drive.mount()
        for name in ("c", "b", "a"):  # the numbers are given as files are looked at
            (docs / name).stat()
        report = seal(docs, **options)
        assert (report.files, report.unchanged) == (0, 3)
        (docs / "b").write_text("another")
        report = seal(docs, **options)
        assert (report.files, report.unchanged) == (1, 2)


@pytest.mark.xdist_group("loop devices")
@pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
@pytest.mark.parametrize("kind", ["exfat", "fat"])
def test_a_file_that_took_the_name_of_one_of_its_size_and_time_is_noticed(
    tmp_path: Path, kind: str, *, hidden: bool
) -> None:
    """As with pictures of one burst: where a rename leaves no trace in a file's times."""
    vault, state = tmp_path / "vault", tmp_path / "state"
    with DriveImage(kind, tmp_path / "top") as drive:
        docs = drive.path / "docs"
        docs.mkdir()
        for name, content in (("1", "AAAA"), ("2", "BBBB"), ("3", "other")):
            (docs / name).write_text(content)
            os.utime(docs / name, (1_700_000_000, 1_700_000_000))
        options = {"to": str(vault), "state_dir": str(state), "delete": True}
        assert seal(docs, hide_names=hidden, **options).files == 3
        (docs / "2").replace(docs / "1")
        report = seal(docs, **options)
        assert report.problems == []
        assert (report.files, report.unchanged) == (1, 1)
    assert unseal(vault, to=str(tmp_path / "out")).problems == []
    assert (tmp_path / "out" / "1").read_text() == "BBBB"
    assert not (tmp_path / "out" / "2").exists()


@LAYOUTS
@pytest.mark.parametrize("mounted", [True, False])
def test_a_file_that_took_a_name_before_its_server_was_mounted_anew_is_noticed(
    tmp_path: Path, *, hidden: bool, mounted: bool
) -> None:
    """libfuse numbers nodes as they are looked up: the name gets the number that it had."""
    vault, state = tmp_path / "vault", tmp_path / "state"
    with Passthrough(tmp_path / "server") as server:
        docs = server.path / "docs"
        docs.mkdir()
        for name, content in (("A", "AAAA"), ("B", "BBBB"), ("C", "other"), ("D", ""), ("E", "")):
            (docs / name).write_text(content)
            os.utime(docs / name, (1_700_000_000, 1_700_000_000))
        options = {"to": str(vault), "state_dir": str(state), "delete": True}
        assert seal(docs, hide_names=hidden, **options).files == 5
        number = (docs / "A").stat().st_ino
        server.unmount()
        if not mounted:
            (server.behind / "docs" / "B").replace(server.behind / "docs" / "A")
        server.mount()
        if mounted:
            (docs / "B").replace(docs / "A")
            server.again()
        report = seal(docs, **options)
        assert (docs / "A").stat().st_ino == number
        assert report.problems == []
        # an empty file is like any other
        assert (report.files, report.unchanged) == (1, 3)
        # the only one of its size now
        report = seal(docs, **options)
        assert (report.files, report.unchanged) == (0, 4)
    assert unseal(vault, to=str(tmp_path / "out")).problems == []
    assert (tmp_path / "out" / "A").read_text() == "BBBB"
    assert not (tmp_path / "out" / "B").exists()


@pytest.mark.xdist_group("loop devices")
@pytest.mark.parametrize(("kind", "counts"), [("exfat", False), ("fat", False), ("ext4", True)])
def test_the_numbers_of_which_file_systems_count(
    tmp_path: Path, kind: str, *, counts: bool
) -> None:
    with DriveImage(kind, tmp_path / "top") as drive:
        assert Keeping().inodes(drive.path.stat().st_dev) == counts


@pytest.mark.xdist_group("loop devices")
@pytest.mark.parametrize("kind", ["exfat", "ext4"])
def test_drives_have_our_clock(tmp_path: Path, kind: str) -> None:
    """Their drivers run on this machine, whatever it says when the drive goes to another."""
    with DriveImage(kind, tmp_path / "top") as drive:
        assert Keeping().our_clock(drive.path.stat().st_dev)


def test_a_server_has_its_own_clock(tmp_path: Path) -> None:
    with Passthrough(tmp_path / "server") as server:
        assert not Keeping().our_clock(server.path.stat().st_dev)
