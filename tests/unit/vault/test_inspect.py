"""Looking at a vault: nothing is changed, and one bad file hides no other."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, everything, in_child, keys, seal, unseal, write_tree

from encvault import operations
from encvault.errors import (
    ChunkCorrupt,
    HeaderTampered,
    InvalidRequest,
    MalformedVault,
    NestedVault,
    NotSealed,
    Truncated,
    Unreadable,
)
from encvault.vault import listing, verify
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.errors import EncvaultError

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root, big=900_000)
    return root


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encvault.vault.pool.BATCH_FILES", 2)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


class Watcher(Observer):
    wants_total = True

    def __init__(self) -> None:
        self.totals: list[tuple[int, int]] = []
        self.done = [0, 0]
        self.problems: list[EncvaultError] = []
        self.notes: list[str] = []

    def total(self, files: int, size: int) -> None:
        self.totals.append((files, size))

    def progress(self, files: int, size: int) -> None:
        self.done[0] += files
        self.done[1] += size

    def problem(self, error: EncvaultError) -> None:
        self.problems.append(error)

    def note(self, message: str) -> None:
        self.notes.append(message)


# -- verify ---------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("jobs", [1, 3])
def test_verify_reads_everything_and_changes_nothing(
    tree: Path, jobs: int, *, hidden: bool
) -> None:
    size = sum(path.lstat().st_size for path in tree.rglob("*") if not path.is_dir())
    seal(tree, hide_names=hidden)
    before = everything(tree)
    watcher = Watcher()
    report = operations.verify(str(tree), keys(), jobs=jobs, observer=watcher)
    folders = 4 if hidden else 0
    assert (report.files, report.size, report.problems) == (9 + folders, size, [])
    assert watcher.totals == [tuple(watcher.done)]
    assert everything(tree) == before


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("jobs", [1, 3])
def test_every_bad_file_is_named_with_its_place_and_the_rest_is_read(tree: Path, jobs: int) -> None:
    seal(tree)
    flip(tree / "big.sealed", 129 + 56 + 20 * 16_400 + 7)
    flip(tree / "src/run.sh.sealed", -1)
    flip(tree / "empty.sealed", 129)
    os.truncate(tree / "sparse.sealed", 129 + 56 + 3 * 16_400)
    (tree / "text.sealed").write_text("not sealed at all, but called so")
    (tree / "dangling.sealed").symlink_to("nowhere")
    watcher = Watcher()
    report = operations.verify(str(tree), keys(), jobs=jobs, observer=watcher)
    found = {problem.fields()["path"]: problem for problem in report.problems}
    assert {path.removeprefix(f"{tree}/"): type(problem) for path, problem in found.items()} == {
        "big.sealed": ChunkCorrupt,
        "src/run.sh.sealed": ChunkCorrupt,
        "empty.sealed": HeaderTampered,
        "sparse.sealed": Truncated,
        "text.sealed": NotSealed,
    }
    big = found[str(tree / "big.sealed")].fields()
    assert (big["index"], big["offset"]) == (20, 129 + 56 + 20 * 16_400)
    assert report.files == 5
    assert watcher.problems == report.problems
    assert watcher.done[0] == 10
    assert report.outcome().exit_code == 65  # type: ignore[union-attr]


def test_a_torn_copy_of_the_record_is_told(tree: Path) -> None:
    seal(tree)
    record = tree / ".encvault" / "vault.b.json"
    whole = record.read_bytes()
    os.truncate(record, 100)
    (problem,) = operations.verify(str(tree), keys()).problems
    assert isinstance(problem, MalformedVault)
    assert problem.path == str(record)
    record.unlink()
    (problem,) = operations.verify(str(tree), keys()).problems
    assert isinstance(problem, MalformedVault)
    assert "missing" in str(problem)
    record.symlink_to("vault.a.json")  # the system refuses to follow it
    (problem,) = operations.verify(str(tree), keys()).problems
    assert problem.fields()["path"] == str(record)
    record.unlink()
    record.write_bytes(whole)
    assert operations.verify(str(tree), keys()).problems == []


def test_copies_of_the_record_that_differ_are_told(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    other = tmp_path / "other"
    write_tree(other)
    seal(other)
    source = (other / ".encvault" / "vault.a.json").read_bytes()
    (tree / ".encvault" / "vault.b.json").write_bytes(source)
    problems = operations.verify(str(tree), keys()).problems
    assert [type(problem) for problem in problems] == [MalformedVault]
    assert "differs from its other copy" in str(problems[0])


@LAYOUTS
def test_a_sample_reads_a_share_and_at_least_one(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    count = 13 if hidden else 9
    for share, files in ((100, count), (50, round(count / 2)), (0.01, 1)):
        watcher = Watcher()
        report = operations.verify(str(tree), keys(), sample=share, observer=watcher)
        assert report.files == files
        assert watcher.totals[0][0] == files


@pytest.mark.parametrize("share", [0, -1, 100.1, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(tree: Path, share: float) -> None:
    seal(tree)
    with pytest.raises(InvalidRequest):
        operations.verify(str(tree), keys(), sample=share)


def test_a_sample_of_an_empty_vault_is_nothing(tmp_path: Path) -> None:
    operations.init_vault(str(tmp_path / "new"), keys())
    assert operations.verify(str(tmp_path / "new"), keys(), sample=1).files == 0


def test_moved_files_are_noted_and_are_no_problem(tree: Path) -> None:
    seal(tree)
    (tree / "empty.sealed").rename(tree / "hollow" / "other.sealed")
    watcher = Watcher()
    report = operations.verify(str(tree), keys(), observer=watcher)
    assert (report.files, report.problems) == (9, [])
    assert report.notes == watcher.notes == ["1 file was moved or renamed since it was sealed"]


def test_superseded_objects_are_noted_and_verified(tree: Path) -> None:
    seal(tree, hide_names=True)
    (tree / "empty").write_text("newer")
    seal(tree)  # without a ledger nobody knows that there is an older one
    report = operations.verify(str(tree), keys())
    assert report.problems == []
    assert report.files == 14
    assert report.notes == ["1 object is superseded by a newer one"]


def test_a_vault_inside_is_not_verified_with_the_outer_key(tree: Path) -> None:
    seal(tree / "src")
    seal(tree)
    report = operations.verify(str(tree), keys())
    assert report.files == 6
    assert [type(problem) for problem in report.problems] == [NestedVault]


def test_unreadable_files_and_folders_are_told(public_path: Path) -> None:
    def work() -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
        root = public_path / "docs"
        write_tree(root)
        seal(root)
        (root / "src").chmod(0)
        (root / "empty.sealed").chmod(0)
        report = operations.verify(str(root), keys())
        _listed, problems = operations.list_files(str(root), keys())
        (root / "src").chmod(0o700)
        return (
            report.files,
            [(type(error).__name__, error.fields()["path"]) for error in report.problems],
            [(type(error).__name__, error.fields()["path"]) for error in problems],
        )

    files, verified, listed = in_child(work, uid=NOBODY)
    root = public_path / "docs"
    expected = {("Unreadable", str(root / "src")), ("Unreadable", str(root / "empty.sealed"))}
    assert set(verified) == set(listed) == expected
    assert files == 4
    assert Unreadable.exit_code == 3


def test_one_sealed_file_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(50_000))
    seal(path)
    sealed = tmp_path / "file.sealed"
    report = operations.verify(str(sealed), keys())
    assert (report.files, report.size, report.problems) == (1, 50_000, [])
    flip(sealed, -1)
    watcher = Watcher()
    report = operations.verify(str(sealed), keys(), observer=watcher)
    assert report.files == 0
    assert [type(problem) for problem in report.problems] == [ChunkCorrupt]
    assert watcher.problems == report.problems


# -- status ---------------------------------------------------------------------------------


@LAYOUTS
def test_status_tells_each_kind_apart_without_a_key(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(tree / "src")
    other = tmp_path / "other"
    write_tree(other)
    seal(other)
    seal(tree, hide_names=hidden)
    (tree / "plain").write_bytes(bytes(77))
    (tree / "link").symlink_to("plain")
    (tree / "foreign.sealed").write_bytes((other / "empty.sealed").read_bytes())
    (tree / "text.sealed").write_text("text")
    left = f".encvault-{'a' * 26}.tmp"
    (tree / "hollow").mkdir(exist_ok=True)
    for folder in ("hollow", ".encvault/keys"):
        (tree / folder / left).touch()
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
    before = everything(tree)
    status = operations.status(str(tree))
    assert everything(tree) == before
    own = [path for path in tree.rglob("*.sealed") if path.parent.name != "src"]
    own = [path for path in own if path.name not in ("foreign.sealed", "text.sealed")]
    if hidden:
        own = [path for path in (tree / ".encvault" / "objects").rglob("*") if path.is_file()]
    own = [path for path in own if "src" not in path.parts]
    assert status.sealed == len(own) == (7 if hidden else 6)
    assert status.sealed_size == sum(path.stat().st_size for path in own)
    unknown = ["foreign.sealed", "text.sealed"]
    # the hidden layout has no files called sealed: there they are plain files like any other
    assert status.unknown == ([] if hidden else unknown)
    assert status.plain == sorted(["link", "plain"] + (unknown if hidden else []))
    assert status.plain_size == sum((tree / name).lstat().st_size for name in status.plain)
    assert sorted(status.leftovers) == sorted([f".encvault/keys/{left}", f"hollow/{left}"])
    assert status.special == ["fifo", "socket"]
    assert status.nested == ["src"]
    assert status.unreadable == []


def test_status_tells_what_could_not_be_looked_at(public_path: Path) -> None:
    def work() -> list[str]:
        root = public_path / "docs"
        write_tree(root)
        seal(root)
        (root / "hollow").chmod(0)
        found = operations.status(str(root)).unreadable
        (root / "hollow").chmod(0o700)
        return found

    assert in_child(work, uid=NOBODY) == ["hollow"]


# -- list -----------------------------------------------------------------------------------


@LAYOUTS
def test_a_listing_tells_names_sizes_and_times(tree: Path, *, hidden: bool) -> None:
    expected = {
        str(path.relative_to(tree)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    seal(tree, hide_names=hidden)
    listed, problems = operations.list_files(str(tree), keys())
    assert problems == []
    files = {item.path: (item.size, item.mtime_ns) for item in listed if item.type != "dir"}
    assert files == expected
    for item in listed:
        assert item.sealed_size == (tree / item.sealed_path).stat().st_size
    folders = sorted(item.path for item in listed if item.type == "dir")
    assert folders == (["hollow", "src", "src/deep", "src/deep/er"] if hidden else [])


def test_without_a_key_a_visible_vault_still_lists_names_and_sizes(tree: Path) -> None:
    sizes = {
        str(path.relative_to(tree)): path.lstat().st_size
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    seal(tree)
    os.truncate(tree / "big.sealed", 129 + 56 + 3)
    listed, problems = operations.list_files(str(tree), operations.Answers())
    assert problems == []
    found = {item.path: item.size for item in listed}
    assert found.pop("big") is None  # no body has this size
    for path, size in found.items():
        assert sizes.get(path, 9 if path.startswith("n") else 34) == size
    assert {item.type for item in listed} == {"sealed"}
    assert {item.mtime_ns for item in listed} == {None}


def test_what_cannot_be_listed_is_told(tree: Path) -> None:
    seal(tree)
    flip(tree / "empty.sealed", -1)
    listed, problems = operations.list_files(str(tree), keys())
    assert len(listed) == 8
    assert [type(problem) for problem in problems] == [ChunkCorrupt]


def test_a_disk_that_fails_while_listing_or_verifying_is_told(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree)

    def fail(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(listing, "read_record", fail)
    listed, problems = operations.list_files(str(tree), keys())
    assert (listed, len(problems)) == ([], 9)
    assert {problem.exit_code for problem in problems} == {74}
    monkeypatch.setattr(verify.SealedReader, "open", fail)
    report = operations.verify(str(tree), keys(), jobs=1)
    assert report.files == 0
    assert {problem.exit_code for problem in report.problems} == {74}


def test_a_listing_without_a_key_tells_no_impossible_size(tree: Path) -> None:
    seal(tree)
    os.truncate(tree / "big.sealed", 129 + 56 + 16)  # room for a body, but not for a record
    listed, _problems = operations.list_files(str(tree), operations.Answers())
    assert {item.size for item in listed if item.path == "big"} == {None}


def test_a_listing_without_a_key_leaves_out_what_is_not_sealed(tree: Path) -> None:
    seal(tree)
    (tree / "text.sealed").write_text("only called so " * 100)
    listed, problems = operations.list_files(str(tree), operations.Answers())
    assert "text" not in {item.path for item in listed}
    assert [type(problem) for problem in problems] == [NotSealed]


def test_a_folder_of_objects_that_cannot_be_listed_is_told_and_nothing_is_dropped(
    public_path: Path,
) -> None:
    """What is in it is not gone: the tree above it must stay."""

    def work() -> tuple[list[str], int, list[str], list[str], int]:
        root = public_path / "docs"
        write_tree(root)
        seal(root, hide_names=True)
        folders = sorted((root / ".encvault" / "objects").iterdir())
        before = sum(len(list(folder.iterdir())) for folder in folders)
        folders[0].chmod(0)
        verified = operations.verify(str(root), keys())
        _listed, problems = operations.list_files(str(root), keys())
        status = operations.status(str(root))
        opened = unseal(root)
        left = sum(len(list(folder.iterdir())) for folder in folders[1:] if folder.exists())
        folders[0].chmod(0o700)
        again = unseal(root)
        return (
            [type(error).__name__ for error in verified.problems],
            len(status.unreadable),
            [type(error).__name__ for error in problems],
            [type(error).__name__ for error in opened.problems],
            len(again.problems) if before > left else -1,
        )

    verified, unreadable, listed, opened, again = in_child(work, uid=NOBODY)
    assert "Unreadable" in verified
    assert unreadable == 1
    assert "Unreadable" in listed
    assert "Unreadable" in opened
    assert again == 0
