"""What killed runs, other programs and poor file systems leave in the way of a run."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, in_child, keys, make_deep, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.crypto.suite import Suite
from encvault.envelope import Header, Record, VaultKeyInfo
from encvault.errors import (
    ChunkCorrupt,
    Conflict,
    LostVault,
    MalformedRecord,
    MissingPart,
    NestedVault,
    SealedElsewhere,
    SourceChanged,
    Truncated,
    Unreadable,
)
from encvault.fs import calls, locks
from encvault.fs.stamp import Stamp
from encvault.fs.tree import Tree
from encvault.vault import plan, seal as sealing_run, sealing
from encvault.vault.catalog import read_catalog
from encvault.vault.opening import OpenContext, OpenTask, open_batch
from encvault.vault.report import Observer
from encvault.vault.sealed import encode_sealed
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from encvault.secret import Secret
    from encvault.vault.report import Event, Report

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
LEFT = f".encvault-{'a' * 26}.tmp"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root)
    return root


def names(report: Report) -> list[str]:
    return sorted(type(problem).__name__ for problem in report.problems)


class Doing(Observer):
    """Does something once, when the first batch is about to be released."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def before_release(self, events: Sequence[Event]) -> None:
        if self._action is not None:
            action, self._action = self._action, None
            action()


# -- temporary files ------------------------------------------------------------------------


@LAYOUTS
def test_temporary_files_of_a_killed_run_are_removed_and_never_sealed(
    tree: Path, *, hidden: bool
) -> None:
    operations.init_vault(str(tree), keys(), hide_names=hidden)
    places = [tree / LEFT, tree / "src" / LEFT]
    if hidden:
        (tree / ".encvault" / "objects" / "aa").mkdir(parents=True)
        places.append(tree / ".encvault" / "objects" / "aa" / LEFT)
    places.append(tree / ".encvault" / "keys" / LEFT)
    for place in places:
        place.write_text("half a sealed file")
    (tree / ".encvault" / "lock").write_text("pid 1 on nowhere\n")  # as a killed run leaves it
    assert len(operations.status(str(tree)).leftovers) == len(places)
    report = seal(tree)
    assert (report.files, report.problems) == (8, [])
    assert operations.status(str(tree)).leftovers == []
    assert not any(place.exists() for place in places)


def test_opening_in_place_removes_them_too(tree: Path) -> None:
    before = snapshot(tree)
    seal(tree)
    (tree / "src" / LEFT).write_text("half an opened file")
    os.utime(tree / "src", ns=(before["src"].mtime_ns,) * 2)
    assert unseal(tree).problems == []
    assert not (tree / "src" / LEFT).exists()


@LAYOUTS
def test_a_target_is_cleaned_where_this_run_wrote_unless_another_is_at_work(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(tree, hide_names=hidden)
    out = tmp_path / "out"
    for folder in (out / "src", out / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / LEFT).write_text("half")
    with Tree(str(out)) as other:
        locks.claim(other)
        unseal(tree, to=str(out))
        assert (out / "src" / LEFT).exists()
    with Tree(str(out / "src")) as other:
        locks.claim(other)
        unseal(tree, to=str(out), force=True)
        assert (out / "src" / LEFT).exists()
    unseal(tree, to=str(out))
    assert not (out / "src" / LEFT).exists()
    assert (out / "elsewhere" / LEFT).exists()  # no business of this run


@LAYOUTS
def test_a_run_that_began_meanwhile_keeps_its_temporary_files(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(tree, hide_names=hidden)
    out = tmp_path / "out"
    out.mkdir()
    other = Tree(str(out))

    class Second(Observer):
        def before_release(self, _events: object) -> None:
            locks.claim(other)
            (out / LEFT).write_text("half")

    with other:
        unseal(tree, Second(), to=str(out))
        assert (out / LEFT).exists()
    unseal(tree, to=str(out))
    assert not (out / LEFT).exists()


# -- folders that cannot be read, vaults inside ---------------------------------------------


@LAYOUTS
def test_a_folder_that_cannot_be_listed_stops_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    real = calls.open_folder

    def refuse(name: str, folder: int | None = None) -> int:
        if name == "deep":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, folder)

    monkeypatch.setattr(calls, "open_folder", refuse)
    request = operations.SealRequest(paths=(str(tree),), archive=str(tmp_path / "a.sealed"))
    assert names(operations.seal(request, keys())) == ["Unreadable"]
    report = seal(tree, hide_names=hidden, jobs=1)
    (problem,) = report.problems
    assert isinstance(problem, Unreadable)
    assert problem.path == str(tree / "src" / "deep")
    assert report.files == 7
    assert (tree / "src" / "deep" / "er" / "main.py").exists()
    assert operations.status(str(tree)).unreadable == ["src/deep"]
    problems = operations.verify(str(tree), keys(), jobs=1).problems
    assert [type(error) for error in problems] == ([] if hidden else [Unreadable])
    counting = Doing(None)
    counting.wants_total = True
    report = unseal(tree, counting, jobs=1)
    # told once, though the tree was walked twice
    assert names(report) == ([] if hidden else ["Unreadable"])
    assert (tree / "src" / "run.sh").exists()


def test_a_vault_inside_is_not_opened_with_the_outer_key(tree: Path) -> None:
    seal(tree / "src")
    report = seal(tree)
    assert [type(problem) for problem in report.problems] == [NestedVault]
    unseal(tree)
    assert (tree / "src" / "run.sh.sealed").exists()
    assert (tree / "empty").exists()


# -- names taken at the last moment ---------------------------------------------------------


@LAYOUTS
def test_a_file_that_appears_while_opening_is_kept(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    report = unseal(tree, Doing(lambda: (tree / "empty").write_text("mine")))
    assert [type(problem) for problem in report.problems] == [Conflict]
    assert (tree / "empty").read_text() == "mine"
    assert list(tree.rglob(".encvault-*.tmp")) == []
    (tree / "empty").unlink()
    assert unseal(tree).problems == []
    assert (tree / "empty").read_text() == ""


@pytest.mark.parametrize("what", ["folder", "link", "dangling link", "other content"])
def test_what_stands_at_the_name_of_an_opened_file_is_kept(
    tree: Path, tmp_path: Path, what: str
) -> None:
    seal(tree)
    out = tmp_path / "out"
    out.mkdir()
    if what == "folder":
        (out / "empty").mkdir()
    elif what == "other content":
        (out / "empty").write_text("mine")
    else:
        (out / "other").write_text("") if what == "link" else None
        (out / "empty").symlink_to("other")
    report = unseal(tree, to=str(out))
    assert [type(problem) for problem in report.problems] == [Conflict]
    assert report.files == 7
    if what == "folder":
        assert list((out / "empty").iterdir()) == []
    elif what == "other content":
        assert (out / "empty").read_text() == "mine"
    else:
        assert os.readlink(out / "empty") == "other"
        assert (out / "other").exists() is (what == "link")


def test_a_large_file_in_parts_that_is_there_already_is_no_conflict(tmp_path: Path) -> None:
    root = tmp_path / "v"
    parted(root, [400_000, 400_000, 50], size=800_050, part_size=400_000)
    for _time in range(2):
        report = unseal(root, to=str(tmp_path / "out"))
        assert (report.files, report.size, report.problems) == (1, 800_050, [])
    (tmp_path / "out" / "big").write_bytes(bytes(800_049) + b"x")
    assert names(unseal(root, to=str(tmp_path / "out"))) == ["Conflict"]


def test_a_small_file_with_holes_gets_them_back(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    root.mkdir()
    with (root / "holes").open("wb") as file:
        file.seek(200_000)
        file.write(b"middle")
        file.truncate(400_000)
    content = (root / "holes").read_bytes()
    seal(root)
    unseal(root)
    assert (root / "holes").read_bytes() == content
    assert (root / "holes").stat().st_blocks * 512 <= 2 * 65_536


def test_a_sealed_name_that_is_taken_while_sealing_is_kept(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sealing_run._SealRun._name
    taken = tree / "empty.sealed"

    def late(self: Any, task: Any) -> bool:
        if task.source_path == "empty":
            taken.write_text("mine")
        return real(self, task)

    monkeypatch.setattr(sealing_run._SealRun, "_name", late)
    report = seal(tree)
    assert [type(problem) for problem in report.problems] == [Conflict]
    assert taken.read_text() == "mine"
    assert (tree / "empty").exists()
    assert list(tree.rglob(".encvault-*.tmp")) == []


def test_a_sealed_file_that_changes_while_it_is_opened_is_kept(tree: Path) -> None:
    seal(tree)
    sealed = tree / "empty.sealed"
    report = unseal(tree, Doing(lambda: sealed.write_text("newer")))
    assert [type(problem) for problem in report.problems] == [SourceChanged]
    assert sealed.read_text() == "newer"
    assert (tree / "empty").exists()


def test_files_of_another_vault_called_sealed_are_sealed_as_plain_files(
    tree: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_tree(other)
    seal(other)
    foreign = (other / "empty.sealed").read_bytes()
    (tree / "foreign.sealed").write_bytes(foreign)
    with pytest.raises(LostVault, match=r"foreign\.sealed"):
        seal(tree)  # more often it is the tree's own vault that is lost
    seal(tree, force=True)
    assert (tree / "foreign.sealed.sealed").exists()
    unseal(tree)
    assert (tree / "foreign.sealed").read_bytes() == foreign


def test_a_file_of_another_vault_in_a_vault_is_left_and_told(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_tree(other)
    seal(other)
    seal(tree)
    foreign = (other / "empty.sealed").read_bytes()
    (tree / "src" / "foreign.sealed").write_bytes(foreign)
    (tree / "new").write_text("new")
    report = seal(tree)
    assert [type(problem) for problem in report.problems] == [SealedElsewhere]
    outcome = report.outcome()
    assert outcome is not None
    assert outcome.exit_code == 3
    assert report.files == 1
    assert (tree / "src" / "foreign.sealed").read_bytes() == foreign
    assert seal(tree, force=True).problems == []
    assert (tree / "src" / "foreign.sealed.sealed").exists()


# -- what a target cannot keep --------------------------------------------------------------


def test_what_could_not_be_restored_is_counted_and_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "no modes here")

    monkeypatch.setattr(os, "fchmod", refuse)
    report = unseal(tree, to=str(tmp_path / "out"), jobs=1)
    # seven files, for a link has none, and four folders
    assert report.notes == ["the mode of 11 files could not be restored here"]
    assert report.problems == []


@LAYOUTS
def test_a_folder_that_cannot_be_made_in_the_target_is_told(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(tree, hide_names=hidden)
    out = tmp_path / "out"
    out.mkdir()
    (out / "hollow").write_text("a file where a folder should be")
    (out / "src").symlink_to(tmp_path)
    report = unseal(tree, to=str(out))
    assert (out / "hollow").read_text() == "a file where a folder should be"
    told = {problem.fields()["path"] for problem in report.problems}
    assert str(out / "hollow") in told
    assert any(str(out / "src") in path for path in told)
    assert report.files == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "out"]


def test_folder_times_that_cannot_be_set_are_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "utime", fail)
    report = seal(tree, to=str(tmp_path / "mirror"), jobs=1)
    assert report.files == 8
    assert {problem.exit_code for problem in report.problems} == {74}


def test_other_files_in_a_folder_that_is_gone_from_the_source_are_kept(
    tree: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    seal(tree, to=str(mirror))
    (mirror / "src" / "notes.txt").write_text("mine")
    (mirror / "src" / "deep" / "note.sealed").write_text("mine, and only called so")
    shutil.rmtree(tree / "src")
    report = seal(tree, to=str(mirror), delete=True)
    assert (report.removed, report.problems) == (3, [])
    left = sorted(str(path.relative_to(mirror)) for path in (mirror / "src").rglob("*"))
    assert left == ["src/deep", "src/deep/note.sealed", "src/notes.txt"]


def test_an_object_lost_from_a_hidden_mirror_is_sealed_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, state = tmp_path / "mirror", str(tmp_path / "state")
    seal(tree, to=str(mirror), hide_names=True, state_dir=state)
    assert seal(tree, to=str(mirror), state_dir=state).files == 0
    with Vault.load(str(mirror)) as vault:
        vault.unlock(keys().identities(""))
        lost = read_catalog(vault, 1).files["src/run.sh"].file
    (mirror / ".encvault" / "objects" / lost[:2] / lost).unlink()
    assert seal(tree, to=str(mirror), state_dir=state).files == 1
    assert unseal(mirror, to=str(tmp_path / "out")).problems == []
    assert snapshot(tmp_path / "out") == snapshot(tree)


def test_a_damaged_object_is_told_when_opening(tree: Path) -> None:
    seal(tree, hide_names=True)
    path = next(path for path in (tree / ".encvault/objects").rglob("*") if path.is_file())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = unseal(tree)
    assert [type(problem) for problem in report.problems] == [ChunkCorrupt]
    assert path.read_bytes() == data


# -- records that do not belong where they are ----------------------------------------------


def put(vault: Vault, key_id: str, key: Secret, record: Record, content: bytes, name: str) -> None:
    """Seal a file by hand, as someone with the vault's public key may."""
    from pathlib import Path  # noqa: PLC0415 - only here at run time

    info = VaultKeyInfo(name, key_id, vault.record.id)
    encoded = record.encode()
    header = Header(Suite.AES_256_GCM, len(encoded), info).encode()
    folder = Path(vault.path)
    place = folder / f"{name}.sealed"
    if vault.hidden:
        place = folder / ".encvault" / "objects" / name[:2] / name
        place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(encode_sealed(Suite.AES_256_GCM, key, header, encoded, content))


def ident(letter: str) -> str:
    return letter * 25 + "a"


@pytest.mark.parametrize(
    "record",
    [
        Record("dir", "x", 1, parent="", folder=ident("f"), size=0),
        Record("file", "x", 1, parent="", size=0),
        Record("part", "", 1, size=0, part_of=(ident("b"), 1)),
    ],
    ids=["folder", "hidden file", "part"],
)
def test_a_record_of_the_other_layout_is_refused(tree: Path, record: Record) -> None:
    operations.init_vault(str(tree), keys())
    with Vault.load(str(tree)) as vault:
        key_id, key = vault.new_data_key()
        put(vault, key_id, key, record, b"", ident("z"))
    report = unseal(tree)
    assert [type(problem) for problem in report.problems] == [MalformedRecord]
    assert (tree / f"{ident('z')}.sealed").exists()


def parted(root: Path, sizes: list[int], *, size: int | None, part_size: int) -> list[str]:
    """A hidden vault with one file whose parts have these sizes, whatever its record says."""
    operations.init_vault(str(root), keys(), hide_names=True)
    file_ids = [ident(letter) for letter in "bcdefg"[: len(sizes)]]
    with Vault.load(str(root)) as vault:
        key_id, key = vault.new_data_key()
        first = Record(
            "file", "big", 1, parent="", size=size, part_size=part_size, parts=tuple(file_ids[1:])
        )
        put(vault, key_id, key, first, bytes(sizes[0]), file_ids[0])
        for index, part in enumerate(sizes[1:], start=1):
            record = Record("part", "", 1, size=part, part_of=(file_ids[0], index))
            put(vault, key_id, key, record, bytes(part), file_ids[index])
    return file_ids


def test_parts_made_by_hand_open(tmp_path: Path) -> None:
    parted(tmp_path / "v", [400_000, 400_000, 50], size=800_050, part_size=400_000)
    assert operations.verify(str(tmp_path / "v"), keys()).problems == []
    assert unseal(tmp_path / "v").problems == []
    assert (tmp_path / "v" / "big").read_bytes() == bytes(800_050)


@pytest.mark.parametrize(
    ("sizes", "size", "part_size"),
    [
        ([100, 100, 50], 251, 100),
        ([100, 100, 50], 249, 100),
        ([100, 90, 60], 250, 100),
        ([100, 100, 100, 50], 250, 100),
        ([100, 100], 100, 100),
        ([90, 100], 190, 100),
        ([600_000, 500_000], 1_200_000, 600_000),
        ([500_000, 600_000], 1_100_000, 600_000),
    ],
)
def test_parts_that_do_not_add_up_are_refused(
    tmp_path: Path, sizes: list[int], size: int, part_size: int
) -> None:
    root = tmp_path / "v"
    file_ids = parted(root, sizes, size=size, part_size=part_size)
    for look in (lambda: operations.verify(str(root), keys()), lambda: unseal(root)):
        (problem,) = look().problems
        assert isinstance(problem, (MissingPart, MalformedRecord))
    assert not (root / "big").exists()
    for file_id in file_ids:
        assert (root / ".encvault" / "objects" / file_id[:2] / file_id).exists()


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "late", "of another position"])
def test_a_damaged_part_is_named(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "v"
    file_ids = parted(root, [600_000, 600_000, 600_000], size=1_800_000, part_size=600_000)
    paths = [root / ".encvault" / "objects" / file_id[:2] / file_id for file_id in file_ids]
    data = bytearray(paths[1].read_bytes())
    if damage == "cut":
        del data[-1000:]
    elif damage == "longer":
        data += bytes(16)
    elif damage == "flipped":
        data[300_000] ^= 1
    elif damage == "late":
        data[590_000] ^= 1
    else:
        data = bytearray(paths[2].read_bytes())
    paths[1].write_bytes(data)
    report = unseal(root)
    assert {problem.exit_code for problem in report.problems} == {65}
    assert not (root / "big").exists()
    assert list(root.glob(".encvault-*")) == []
    assert paths[0].exists()


def test_a_large_file_cut_or_lengthened_is_named(tree: Path) -> None:
    (tree / "big").write_bytes(os.urandom(1_200_000))
    seal(tree)
    whole = (tree / "big.sealed").read_bytes()
    for data in (whole[:-1], whole[:-17_000], whole + b"x", whole + bytes(20_000)):
        (tree / "big.sealed").write_bytes(data)
        (problem,) = unseal(tree / "big").problems
        assert problem.exit_code == 65
        assert not (tree / "big").exists()
    (tree / "big.sealed").write_bytes(whole)
    assert unseal(tree).problems == []


@pytest.mark.parametrize("at", [-20, 900_000])
def test_damage_late_in_a_large_file_is_located(tree: Path, at: int) -> None:
    (tree / "big").write_bytes(os.urandom(1_200_000))
    seal(tree)
    data = bytearray((tree / "big.sealed").read_bytes())
    data[at] ^= 1
    (tree / "big.sealed").write_bytes(data)
    (problem,) = unseal(tree).problems
    assert isinstance(problem, ChunkCorrupt)
    chunk = (at % len(data) - 129 - 56) // 16_400
    assert (problem.index, problem.offset) == (chunk, 129 + 56 + chunk * 16_400)
    assert not (tree / "big").exists()


def test_a_sealed_file_cut_while_it_is_opened_is_named(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "big").write_bytes(os.urandom(1_200_000))
    seal(tree)
    real = calls.read_at

    def cut(fd: int, buffer: memoryview, offset: int) -> int:
        os.truncate(tree / "big.sealed", 600_000)
        return real(fd, buffer, offset)

    monkeypatch.setattr(calls, "read_at", cut)
    (problem,) = unseal(tree / "big", jobs=1).problems
    assert isinstance(problem, Truncated)
    assert not (tree / "big").exists()


def test_a_moved_file_whose_home_may_not_be_looked_at_is_only_moved(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree)
    (tree / "src" / "run.sh.sealed").rename(tree / "run.sh.sealed")
    real = calls.open_folder

    def refuse(name: str, folder: int | None = None) -> int:
        if name == "src":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, folder)

    monkeypatch.setattr(calls, "open_folder", refuse)
    assert unseal(tree / "run.sh", jobs=1).problems == []
    assert (tree / "run.sh").read_text() == "#!/bin/sh\n"


def test_a_folder_or_a_part_is_not_opened_as_a_file(tmp_path: Path) -> None:
    root = tmp_path / "v"
    _first, part, _rest = parted(root, [100, 100, 50], size=250, part_size=100)
    with Vault.load(str(root)) as vault:
        vault.unlock(keys().identities(""))
        context = OpenContext(tree=vault.tree, keyring=vault, target=vault.tree)
        folder = f".encvault/objects/{part[:2]}"
        stamp = Stamp.of(vault.tree.status(f"{folder}/{part}"))
        (outcome,) = open_batch(context, [OpenTask(folder, part, stamp, "", "x", ident("t"))])
    assert isinstance(outcome.error, MalformedRecord)
    assert [path.name for path in root.iterdir()] == [".encvault"]


def test_a_moved_file_whose_home_cannot_be_reached_is_only_moved(tree: Path) -> None:
    seal(tree)
    (tree / "src" / "run.sh.sealed").rename(tree / "run.sh.sealed")
    (tree / "src").rename(tree / "elsewhere")
    (tree / "src").symlink_to("elsewhere")
    report = operations.verify(str(tree), keys())
    assert report.problems == []
    assert unseal(tree / "run.sh").problems == []
    assert (tree / "run.sh").read_text() == "#!/bin/sh\n"


def test_a_disk_that_fails_for_a_link_leaves_the_link(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, _fd: int, target: str) -> None:
        if name == "write" and not target and arming:
            raise OSError(errno.ENOSPC, "full")

    arming: list[str] = []
    real = sealing._write_small

    def armed(context: Any, task: Any, *rest: Any) -> Any:
        arming[:] = ["yes"] if task.type == "symlink" else []
        return real(context, task, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_write_small", armed)
        patch.setattr(calls, "probe", fail)
        report = seal(tree / "src", jobs=1)
        assert [problem.exit_code for problem in report.problems] == [73]
    assert os.readlink(tree / "src" / "link") == "../nowhere/at all"
    assert list(tree.rglob(".encvault-*.tmp")) == []


def test_part_size_is_the_formats() -> None:
    assert plan.PART_SIZE == sealing.PART_SIZE == 1_073_741_824


# -- parts by another writer ----------------------------------------------------------------


def test_small_parts_open_in_place(tmp_path: Path) -> None:
    # docs/format.md section 3: part_size is at least 1
    root = tmp_path / "v"
    parted(root, [100, 100, 50], size=250, part_size=100)
    assert unseal(root).problems == []
    assert (root / "big").read_bytes() == bytes(250)


@pytest.mark.parametrize(
    ("sizes", "size", "part_size"),
    [
        ([600_000, 600_000], 1_200_001, 600_000),
        ([700_000, 100], 600_000, 700_000),
        ([700_000, 100], None, 700_000),
        ([100, 100], None, 100),
    ],
)
def test_a_size_that_the_parts_cannot_have_is_refused(
    tmp_path: Path, sizes: list[int], size: int | None, part_size: int
) -> None:
    # docs/format.md section 3: the contents of all objects together have `size` bytes
    root = tmp_path / "v"
    parted(root, sizes, size=size, part_size=part_size)
    for look in (lambda: operations.verify(str(root), keys()), lambda: unseal(root)):
        assert {problem.exit_code for problem in look().problems} == {65}
    assert not (root / "big").exists()


# -- names in the way -----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_name_in_the_way_of_a_mirrored_folder_stops_nothing_else(
    tree: Path, tmp_path: Path, what: str
) -> None:
    mirror, outside = tmp_path / "mirror", tmp_path / "outside"
    mirror.mkdir()
    outside.mkdir()
    if what == "file":
        (mirror / "src").write_text("mine")
    else:
        (mirror / "src").symlink_to(outside)
    report = seal(tree, to=str(mirror))
    assert report.files == 5  # all but the three in src
    assert all(str(mirror) in problem.fields()["path"] for problem in report.problems)
    assert report.problems != []
    assert list(outside.iterdir()) == []


def test_a_tree_deeper_than_python_recurses_is_sealed(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    root.mkdir()
    make_deep(root, 1200)
    try:
        report = seal(root, jobs=1)
        assert (report.files, report.problems) == (2, [])
    finally:
        subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what its owner may not")
def test_a_file_that_its_owner_may_not_read_is_opened(public_path: Path) -> None:
    """Sealed by root or by another member of the group, opened by an ordinary user."""
    root = public_path / "docs"
    root.mkdir()
    (root / "file").write_text("content")
    (root / "file").chmod(0o044)
    seal(root)
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700)

    def work() -> list[str]:
        return [type(problem).__name__ for problem in unseal(root).problems]

    assert in_child(work, uid=NOBODY) == []
    assert (root / "file").stat().st_mode & 0o777 == 0o044
