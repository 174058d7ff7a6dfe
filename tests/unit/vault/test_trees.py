"""Sealing and opening trees: both layouts, both suites, in place and to another folder."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, keys, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.crypto.suite import Suite
from encvault.errors import (
    ChunkCorrupt,
    Conflict,
    EncvaultError,
    ForeignFile,
    HeaderTampered,
    InvalidRequest,
    LayoutMismatch,
    MissingPart,
    NestedVault,
    NotAVault,
    NotSealed,
    SourceChanged,
    SourceMissing,
    SpecialFile,
    SuiteMismatch,
    SwappedFile,
    Truncated,
    UnknownDataKey,
    Unreadable,
    VaultBusy,
)
from encvault.fs.tree import Tree
from encvault.vault import plan, sealing
from encvault.vault.catalog import read_catalog
from encvault.vault.report import Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from encvault.vault.report import Event, Report

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root, big=1_500_000)
    return root


def names(report: Report) -> list[str]:
    return sorted(type(problem).__name__ for problem in report.problems)


def sealed_files(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and (path.suffix == ".sealed" or "objects" in path.parts)
    )


@LAYOUTS
@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("jobs", [1, 3])
def test_in_place_and_back_bit_for_bit(
    tree: Path, tmp_path: Path, suite: Suite, jobs: int, *, hidden: bool
) -> None:
    before = snapshot(tree)
    state = str(tmp_path / "state")
    report = seal(tree, suite=suite, hide_names=hidden, jobs=jobs, state_dir=state)
    assert (report.files, report.problems) == (9, [])
    status = operations.status(str(tree))
    assert status.plain == status.leftovers == status.unknown == []
    if hidden:
        assert sorted(path.name for path in tree.iterdir()) == [".encvault"]
    report = unseal(tree, jobs=jobs, state_dir=state)
    assert (report.files, report.problems, report.notes) == (9, [], [])
    assert snapshot(tree) == before
    assert sealed_files(tree) == []


@LAYOUTS
def test_opening_elsewhere_leaves_the_vault(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    before = snapshot(tree)
    seal(tree, hide_names=hidden)
    sealed = {path: path.read_bytes() for path in sealed_files(tree)}
    unseal(tree, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out") == before
    assert {path: path.read_bytes() for path in sealed_files(tree)} == sealed
    # again: everything is there already, nothing is overwritten, nothing is wrong
    report = unseal(tree, to=str(tmp_path / "out"))
    assert report.problems == []
    assert snapshot(tmp_path / "out") == before


def test_no_plaintext_and_in_the_hidden_layout_no_name_remains(tree: Path) -> None:
    (tree / "secret-customer-name.txt").write_text("secret-price-list " * 1000)
    seal(tree, hide_names=True)
    for path in tree.rglob("*"):
        assert "secret" not in path.name
        if path.is_file():
            assert b"secret-" not in path.read_bytes()
        assert len(path.name) < 60


@LAYOUTS
def test_sparse_files_become_sparse_again(tree: Path, *, hidden: bool) -> None:
    blocks = (tree / "sparse").stat().st_blocks
    if blocks * 512 >= 3 << 20:
        pytest.fail("the test folder's file system keeps no holes")
    seal(tree, hide_names=hidden)
    unseal(tree)
    assert (tree / "sparse").stat().st_blocks * 512 < 1 << 20


def test_extended_attributes_survive(tree: Path) -> None:
    os.setxattr(tree / "empty", "user.note", b"\0\xff")
    seal(tree)
    unseal(tree)
    assert os.getxattr(tree / "empty", "user.note") == b"\0\xff"


def test_extended_attributes_of_folders_survive(tree: Path, tmp_path: Path) -> None:
    """Only the hidden layout has to keep them: in the other the folder is still there."""
    os.setxattr(tree / "src", "user.note", b"\0\xff")
    seal(tree, hide_names=True)
    unseal(tree, to=str(tmp_path / "out"))
    assert os.getxattr(tmp_path / "out" / "src", "user.note") == b"\0\xff"


@LAYOUTS
def test_a_file_whose_attributes_do_not_fit_is_left_and_told(
    tree: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    inode = (tree / "src" / "run.sh").stat().st_ino
    real = os.listxattr
    monkeypatch.setattr(
        os,
        "listxattr",
        lambda fd: ["user.a", "user.b"] if os.fstat(fd).st_ino == inode else real(fd),
    )
    monkeypatch.setattr(os, "getxattr", lambda _fd, _name: bytes(40_000))
    report = seal(tree, hide_names=hidden, jobs=1)
    (problem,) = report.problems
    assert isinstance(problem, Unreadable)
    assert problem.path == str(tree / "src" / "run.sh")
    assert (tree / "src" / "run.sh").exists()
    assert list(tree.rglob(".encvault-*.tmp")) == []


def test_names_that_are_no_utf8_survive(tree: Path, tmp_path: Path) -> None:
    name = os.fsencode(tree) + b"/latin-\xe9"
    with open(name, "wb") as file:
        file.write(b"content")
    for hidden in (False, True):
        seal(tree, hide_names=hidden, state_dir=str(tmp_path / "state"))
        unseal(tree)
        with open(name, "rb") as file:
            assert file.read() == b"content"
        (tree / ".encvault").rename(tmp_path / f"old-{hidden}")


def test_hard_links_become_files_and_are_told(tree: Path, tmp_path: Path) -> None:
    os.link(tree / "empty", tmp_path / "outside")
    report = seal(tree)
    assert any("hard links" in note for note in report.notes)


def test_special_files_are_reported_and_left(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
    report = seal(tree)
    assert names(report) == ["SpecialFile", "SpecialFile"]
    assert {problem.kind for problem in report.problems if isinstance(problem, SpecialFile)} == {
        "fifo",
        "socket",
    }
    assert report.outcome().exit_code == 3
    assert (tree / "pipe").exists()


@LAYOUTS
def test_large_files_of_the_hidden_layout_are_cut_into_parts(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 600_000)
    before = snapshot(tree)
    seal(tree, hide_names=hidden, state_dir=str(tmp_path / "state"))
    largest = max(path.stat().st_size for path in sealed_files(tree))
    assert (largest < 602_000) is hidden
    assert operations.verify(str(tree), keys()).problems == []
    assert b"".join(map(bytes, operations.cat(f"{tree}/big", keys()))) == before["big"].content
    unseal(tree)
    assert snapshot(tree) == before
    assert sealed_files(tree) == []


def test_a_missing_exchanged_or_repeated_part_is_noticed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 600_000)
    (tree / "sparse").unlink()
    (tree / "second").write_bytes(os.urandom(1_500_000))
    seal(tree, hide_names=True)
    parts = sorted(path for path in sealed_files(tree) if 600_000 <= path.stat().st_size < 602_000)
    assert len(parts) == 4  # of two files: the first and the second part; the third is smaller
    contents = [path.read_bytes() for path in parts]
    parts[0].unlink()
    # of the file whose first object went, the other parts are left over
    assert set(names(operations.verify(str(tree), keys()))) in ({"MissingPart"}, {"OrphanPart"})
    parts[0].write_bytes(contents[1])
    assert set(names(operations.verify(str(tree), keys()))) & {"SwappedFile", "MissingPart"}


# -- incremental ----------------------------------------------------------------------------


def old(path: Path) -> None:
    """Make a file older than the clock's granularity."""
    for item in path.rglob("*"):
        os.utime(item, ns=(10**18, 10**18), follow_symlinks=False)


@LAYOUTS
def test_a_mirror_follows_its_source(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    mirror, state = tmp_path / "mirror", str(tmp_path / "state")

    def sync(**options: Any) -> Report:
        report = seal(tree, to=str(mirror), hide_names=hidden, state_dir=state, **options)
        assert report.problems == []
        return report

    def check(name: str) -> None:
        unseal(mirror, to=str(tmp_path / name))
        assert snapshot(tmp_path / name) == snapshot(tree)

    before = snapshot(tree)
    assert sync().files == 9
    assert snapshot(tree) == before
    check("first")
    report = sync()
    assert (report.files, report.unchanged) == (0, 9)
    (tree / "empty").write_text("no more")
    (tree / "src" / "new").write_text("new")
    assert sync().files == 2
    check("second")
    (tree / "empty").unlink()
    (tree / "src" / "deep" / "er" / "main.py").unlink()
    (tree / "src" / "deep" / "er").rmdir()
    assert sync().removed == 0
    assert sync(delete=True).removed >= 2
    check("third")
    assert operations.verify(str(mirror), keys()).problems == []


@LAYOUTS
def test_a_mirror_survives_the_loss_of_its_ledger(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    mirror = tmp_path / "mirror"
    seal(tree, to=str(mirror), hide_names=hidden, state_dir=str(tmp_path / "one"))
    (tree / "empty").write_text("newer")
    report = seal(tree, to=str(mirror), hide_names=hidden, state_dir=str(tmp_path / "two"))
    assert (report.files, report.problems) == (9, [])
    unseal(mirror, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out") == snapshot(tree)


def test_a_sealed_file_lost_from_the_mirror_is_sealed_again(tree: Path, tmp_path: Path) -> None:
    mirror, state = tmp_path / "mirror", str(tmp_path / "state")
    seal(tree, to=str(mirror), state_dir=state)
    (mirror / "empty.sealed").unlink()
    assert seal(tree, to=str(mirror), state_dir=state).files == 1


def test_excluded_names_stay_out_and_are_not_deleted(tree: Path, tmp_path: Path) -> None:
    mirror, state = tmp_path / "mirror", str(tmp_path / "state")
    seal(tree, to=str(mirror), state_dir=state)
    seal(tree, to=str(mirror), state_dir=state, delete=True, exclude=("*.py", "src/run.sh"))
    assert (mirror / "src/run.sh.sealed").exists()
    other = tmp_path / "other"
    report = seal(tree, to=str(other), exclude=("*.py", "src/run.sh"))
    assert report.files == 7
    assert not (other / "src/run.sh.sealed").exists()


@LAYOUTS
def test_keep_then_edit_then_seal_again(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    state = str(tmp_path / "state")
    seal(tree, keep=True, hide_names=hidden, state_dir=state)
    report = seal(tree, keep=True, state_dir=state)
    assert (report.files, report.unchanged) == (0, 9 if hidden else 18)
    (tree / "empty").write_text("edited")
    assert seal(tree, keep=True, state_dir=state).files == 1
    assert b"".join(map(bytes, operations.cat(f"{tree}/empty", keys()))) == b"edited"
    assert seal(tree, state_dir=state).problems == []
    before = snapshot(tree)
    unseal(tree, keep=True, state_dir=state)
    (tree / "empty").write_text("edited again")
    assert seal(tree, state_dir=state).problems == []
    unseal(tree, state_dir=state)
    assert (tree / "empty").read_text() == "edited again"
    assert before.keys() - {"empty"} <= snapshot(tree).keys() | before.keys()


# -- conflicts ------------------------------------------------------------------------------


def test_a_plain_and_a_different_sealed_copy_are_both_kept(tree: Path, tmp_path: Path) -> None:
    seal(tree, state_dir=str(tmp_path / "state"))
    (tree / "empty").write_text("another file of that name")
    report = seal(tree, state_dir=str(tmp_path / "state"))
    assert names(report) == ["Conflict"]
    assert report.outcome().exit_code == 3
    report = unseal(tree)
    assert names(report) == ["Conflict"]
    assert (tree / "empty").read_text() == "another file of that name"
    assert (tree / "empty.sealed").exists()
    unseal(tree, force=True)
    assert (tree / "empty").read_text() == ""
    assert not (tree / "empty.sealed").exists()


def test_force_lets_the_plain_file_win(tree: Path) -> None:
    seal(tree)
    (tree / "empty").write_text("newer")
    assert seal(tree, force=True).problems == []
    unseal(tree)
    assert (tree / "empty").read_text() == "newer"


def test_nothing_at_the_target_is_overwritten(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    out = tmp_path / "out"
    (out / "src").mkdir(parents=True)
    (out / "src" / "run.sh").write_text("precious")
    (out / "src" / "link").write_text("precious")
    report = unseal(tree, to=str(out))
    assert names(report) == ["Conflict", "Conflict"]
    assert (out / "src" / "run.sh").read_text() == (out / "src" / "link").read_text() == "precious"


def test_a_link_in_the_target_is_never_followed(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "src").symlink_to(outside)
    report = unseal(tree, to=str(out))
    assert report.outcome() is not None
    assert list(outside.iterdir()) == []


class Meddler(Observer):
    """Changes a file while it is sealed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def before_release(self, events: Sequence[Event]) -> None:
        self._path.write_text("changed while it was sealed")


def test_a_file_that_changes_meanwhile_is_kept(tree: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    report = seal(tree, observer=Meddler(tree / "empty"), state_dir=state)
    assert names(report) == ["SourceChanged"]
    assert (tree / "empty").read_text() == "changed while it was sealed"
    assert seal(tree, state_dir=state).problems == []
    unseal(tree)
    assert (tree / "empty").read_text() == "changed while it was sealed"


def test_a_file_that_changed_since_the_walk_is_left(tree: Path) -> None:
    status = os.stat(tree / "empty")
    (tree / "empty").write_text("x")
    task = sealing.SealTask(
        "file",
        "",
        "empty",
        plan.Stamp.of(status),
        0o644,
        (0, 0),
        ("a" * 26,),
        (("", "empty.sealed"),),
        "empty",
    )
    with Tree(str(tree)) as pinned:
        context = sealing.SealContext(
            pinned, pinned, Suite.AES_256_GCM, operations_key(), vault="a" * 26, key_id="a" * 26
        )
        (error,) = sealing.seal_batch(context, [task])
    assert isinstance(error, SourceChanged)
    assert not list(tree.glob(".encvault-*"))


def operations_key() -> Any:
    from encvault.secret import Secret  # noqa: PLC0415 - one use

    return Secret(bytes(32))


class Refuser(Observer):
    """A log that cannot be written."""

    def before_release(self, events: Sequence[Event]) -> None:
        raise VaultBusy(path="log", holder="test")


@LAYOUTS
def test_nothing_is_released_before_the_log(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    before = snapshot(tree, times=False)
    with pytest.raises(VaultBusy):
        seal(tree, observer=Refuser(), hide_names=hidden)
    after = snapshot(tree, times=False)
    assert {name: node for name, node in after.items() if name in before} == before
    seal(tree, force=True)
    with pytest.raises(VaultBusy):
        unseal(tree, observer=Refuser(), to=str(tmp_path / "out"))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# -- damage ---------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: flip(path, 0), NotSealed),
        (lambda path: flip(path, 45), HeaderTampered),
        (lambda path: flip(path, 130), HeaderTampered),
        (lambda path: flip(path, 160), HeaderTampered),
        (lambda path: flip(path, -1), ChunkCorrupt),
        (lambda path: os.truncate(path, 129 + 56), Truncated),
        (lambda path: os.truncate(path, 129 + 50), Truncated),
        (lambda path: os.truncate(path, 129 + 56 + 16_400), Truncated),
        (lambda path: os.truncate(path, 0), NotSealed),
        (lambda path: path.write_bytes(path.read_bytes() + bytes(20)), ChunkCorrupt),
        (lambda path: path.write_bytes(path.read_bytes() + bytes(20_000)), ChunkCorrupt),
    ],
)
def test_a_damaged_file_is_named_and_the_others_open(
    tree: Path, tmp_path: Path, damage: Any, error: type[EncvaultError]
) -> None:
    seal(tree)
    target = tree / "src/deep/er/main.py.sealed"
    damage(target)
    report = operations.verify(str(tree), keys())
    (problem,) = report.problems
    assert report.files == 8
    assert isinstance(problem, error) or error is HeaderTampered
    assert str(target) in str(problem)
    assert report.outcome().exit_code == 65
    damaged = target.read_bytes()
    report = unseal(tree)
    assert report.files == 8
    assert len(report.problems) == 1
    assert target.read_bytes() == damaged
    assert not (tree / "src/deep/er/main.py").exists()
    assert not list(tree.rglob(".encvault-*"))


def test_the_damaged_chunk_is_named_with_its_offset(tree: Path) -> None:
    seal(tree)
    path = tree / "big.sealed"
    offset = 129 + 56 + 7 * 16_400
    flip(path, offset + 3)
    (problem,) = operations.verify(str(tree), keys()).problems
    assert isinstance(problem, ChunkCorrupt)
    assert (problem.index, problem.offset) == (7, offset)


def test_swapped_files_are_refused_and_moved_ones_are_not(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    one, two = tree / "empty.sealed", tree / "sparse.sealed"
    one.rename(tmp_path / "held")
    two.rename(one)
    (tmp_path / "held").rename(two)
    report = operations.verify(str(tree), keys())
    assert names(report) == ["SwappedFile", "SwappedFile"]
    report = unseal(tree, to=str(tmp_path / "out"))
    assert report.files == 7
    assert all(isinstance(problem, SwappedFile) for problem in report.problems)
    assert not (tmp_path / "out" / "empty").exists()
    one.rename(tree / "hollow" / "moved.sealed")
    two.rename(tree / "empty.sealed")
    report = unseal(tree)
    assert report.problems == []
    assert len(report.notes) == 1
    assert (tree / "hollow" / "moved").stat().st_size == (3 << 20) + 3


def test_a_copy_within_the_vault_opens_twice(tree: Path) -> None:
    seal(tree)
    source = tree / "src/run.sh.sealed"
    (tree / "hollow" / "run.sh.sealed").write_bytes(source.read_bytes())
    assert operations.verify(str(tree), keys()).problems == []
    assert unseal(tree).problems == []
    assert (tree / "hollow" / "run.sh").read_text() == (tree / "src/run.sh").read_text()


def test_a_foreign_file_is_refused(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_tree(other)
    seal(tree)
    seal(other)
    (tree / "empty.sealed").write_bytes((other / "empty.sealed").read_bytes())
    report = unseal(tree)
    assert [type(problem) for problem in report.problems] == [ForeignFile]
    assert report.files == 8


def test_objects_exchanged_in_a_hidden_vault_are_refused(tree: Path) -> None:
    seal(tree, hide_names=True)
    one, two = sealed_files(tree)[:2]
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert names(operations.verify(str(tree), keys())) == ["SwappedFile", "SwappedFile"]


@LAYOUTS
def test_a_lost_data_key_is_named(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    (key,) = (tree / ".encvault/keys").iterdir()
    key.write_bytes(b"{}\n")
    report = operations.verify(str(tree), keys())
    assert {type(problem) for problem in report.problems} == {UnknownDataKey}
    key.unlink()
    report = operations.verify(str(tree), keys())
    assert {type(problem) for problem in report.problems} == {UnknownDataKey}


def test_missing_part_is_its_own_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 1_400_000)
    for path in list(tree.rglob("*")):
        if path.is_file() and path.name != "big":
            path.unlink()
    seal(tree, hide_names=True)
    smallest = sorted(sealed_files(tree), key=lambda path: path.stat().st_size)
    part = next(path for path in smallest if path.stat().st_size > 90_000)
    part.unlink()
    (problem,) = operations.verify(str(tree), keys()).problems
    assert isinstance(problem, MissingPart)


# -- whole requests -------------------------------------------------------------------------


def test_an_unreadable_file_stops_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from encvault.fs import calls  # noqa: PLC0415 - one use

    real = calls.open_read

    def refuse(folder: int, name: str) -> int:
        if name == "empty":
            raise PermissionError(13, "denied")
        return real(folder, name)

    monkeypatch.setattr(calls, "open_read", refuse)
    report = seal(tree, jobs=1)
    assert [type(problem) for problem in report.problems] == [Unreadable]
    assert report.outcome().exit_code == 3
    assert report.files == 8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"to": "x", "archive": "y"}, InvalidRequest),
        ({"to": "x", "output": "y"}, InvalidRequest),
        ({"output": "y"}, InvalidRequest),
        ({"delete": True}, InvalidRequest),
        ({"to": "TREE/inside"}, InvalidRequest),
        ({"to": "TREE/.."}, InvalidRequest),
        ({"to": "OTHER", "keep": True}, InvalidRequest),
        ({"archive": "TREE/a.sealed"}, InvalidRequest),
    ],
)
def test_requests_that_make_no_sense(
    tree: Path, tmp_path: Path, options: dict[str, Any], error: type[EncvaultError]
) -> None:
    before = snapshot(tree)
    made = {
        key: value.replace("TREE", str(tree)).replace("OTHER", str(tmp_path / "other"))
        if isinstance(value, str)
        else value
        for key, value in options.items()
    }
    with pytest.raises(error):
        seal(tree, **made)
    assert snapshot(tree) == before


def test_what_is_not_there(tmp_path: Path) -> None:
    for operate in (seal, unseal):
        with pytest.raises(SourceMissing):
            operate(tmp_path / "missing")
    for look in (operations.status, operations.info):
        with pytest.raises(SourceMissing):
            look(str(tmp_path / "missing"))
        with pytest.raises(NotAVault):
            look(str(tmp_path))
    with pytest.raises(NotAVault):
        unseal(tmp_path)


def test_a_vault_keeps_its_suite_and_layout(tree: Path) -> None:
    seal(tree)
    with pytest.raises(SuiteMismatch):
        seal(tree, suite=Suite.SM4_GCM)
    with pytest.raises(LayoutMismatch):
        seal(tree, hide_names=True)


def test_two_runs_do_not_meet(tree: Path) -> None:
    seal(tree)
    with Vault.load(str(tree)) as vault:
        vault.hold()
        for operate in (seal, unseal):
            with pytest.raises(VaultBusy):
                operate(tree)


def test_a_vault_inside_is_left(tree: Path) -> None:
    seal(tree / "src")
    before = snapshot(tree / "src")
    report = seal(tree)
    assert [type(problem) for problem in report.problems] == [NestedVault]
    assert snapshot(tree / "src") == before
    assert operations.status(str(tree)).nested == ["src"]


def test_one_folder_and_one_file_of_a_vault(tree: Path, tmp_path: Path) -> None:
    before = snapshot(tree)
    for hidden in (False, True):
        mirror = tmp_path / f"mirror-{hidden}"
        seal(tree, to=str(mirror), hide_names=hidden)
        out = tmp_path / f"out-{hidden}"
        unseal(mirror / "src", to=str(out))
        assert sorted(snapshot(out)) == ["deep", "deep/er", "deep/er/main.py", "link", "run.sh"]
        unseal(mirror / "src" / "run.sh", to=str(out / "one"))
        assert (out / "one" / "run.sh").read_bytes() == before["src/run.sh"].content
        unseal(mirror / "src" / "run.sh", output=str(out / "named"))
        assert (out / "named").read_bytes() == before["src/run.sh"].content
        with pytest.raises(SourceMissing):
            unseal(mirror / "src" / "nothing")


def test_a_new_file_in_a_vault_is_sealed_into_it(tree: Path) -> None:
    seal(tree)
    (tree / "src" / "new").write_text("new")
    request = operations.SealRequest(paths=(str(tree / "src" / "new"),))
    locked = operations.Answers(consent=True)
    assert operations.seal(request, locked).files == 1
    assert (tree / "src" / "new.sealed").exists()
    assert b"".join(map(bytes, operations.cat(f"{tree}/src/new", keys()))) == b"new"


@LAYOUTS
def test_status_and_listing(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    (tree / "plain.txt").write_text("plain")
    status = operations.status(str(tree))
    assert status.plain == ["plain.txt"]
    listed, problems = operations.list_files(str(tree), keys())
    assert problems == []
    files = {item.path: item for item in listed if item.type != "dir"}
    assert len(files) == 9
    assert files["n" * 255].size == 9
    assert files["src/link"].type == "symlink"
    assert files["sparse"].size == (3 << 20) + 3
    below, _problems = operations.list_files(f"{tree}/src", keys())
    assert all(item.path.startswith("src") for item in below)


def test_a_visible_vault_lists_without_a_key(tree: Path) -> None:
    seal(tree)
    listed, _problems = operations.list_files(str(tree), operations.Answers())
    assert {item.path for item in listed} >= {"empty", "src/run.sh"}
    sizes = {item.path: item.size for item in listed}
    assert (sizes["sparse"], sizes["empty"]) == ((3 << 20) + 3, 0)


def test_a_sample_reads_some_and_at_least_one(tree: Path) -> None:
    seal(tree)
    assert operations.verify(str(tree), keys(), sample=50).files in (4, 5)
    assert operations.verify(str(tree), keys(), sample=0.001).files == 1
    for share in (0, -1, 101):
        with pytest.raises(InvalidRequest):
            operations.verify(str(tree), keys(), sample=share)


def test_conflicts_are_the_class_that_scripts_know() -> None:
    assert Conflict.exit_code == 3


@pytest.mark.parametrize("options", [{}, {"hide_names": True}])
def test_a_time_that_no_record_can_have_costs_no_file(
    tmp_path: Path, options: dict[str, bool]
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "f").write_bytes(b"of the far future")
    far = 9_300_000_000  # in the year 2264; 2^63 ns after 1970 are over in 2262
    os.utime(top / "f", (far, far))
    assert (top / "f").stat().st_mtime_ns > 1 << 63
    assert not seal(top, **options).problems
    assert not unseal(top).problems
    assert (top / "f").read_bytes() == b"of the far future"
    assert (top / "f").stat().st_mtime_ns == (1 << 63) - 1


# -- folders --------------------------------------------------------------------------------


class Peeping(Observer):
    """Looks at what others may look into when the first files have their names."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.modes: dict[str, set[int]] = {}

    def progress(self, files: int, size: int) -> None:
        del files, size
        for path in self._top.rglob("*"):
            if path.is_dir() and ".encvault" not in path.parts:
                mode = stat.S_IMODE(path.stat().st_mode)
                self.modes.setdefault(str(path.relative_to(self._top)), set()).add(mode)


@LAYOUTS
@pytest.mark.parametrize("where", ["to", "in place"])
def test_nobody_else_looks_into_a_folder_before_it_is_as_it_was(
    tree: Path, tmp_path: Path, where: str, *, hidden: bool
) -> None:
    (tree / "src").chmod(0o700)
    seal(tree, hide_names=hidden)
    out = tmp_path / "out" if where == "to" else tree
    watcher = Peeping(out)
    unseal(tree, watcher, to=None if where == "in place" else str(out), jobs=1)
    if where == "to" or hidden:
        assert watcher.modes["src"] <= {0o700}
        assert watcher.modes["src/deep"] <= {0o700, 0o755}
    assert stat.S_IMODE((out / "src").stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "src" / "deep").stat().st_mode) == 0o755


def test_folders_of_which_nothing_is_known_are_as_any_new_folder(
    tree: Path, tmp_path: Path
) -> None:
    seal(tree, hide_names=True)
    with Vault.load(str(tree)) as vault:
        vault.unlock(keys().identities(""))
        lost = read_catalog(vault, 1).folders["src"].file
    (tree / ".encvault" / "objects" / lost[:2] / lost).unlink()
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2755)  # which new folders inherit
    unseal(tree, to=str(out))
    assert stat.S_IMODE((out / "lost+found").stat().st_mode) == 0o2755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")
def test_folders_keep_their_owner_and_their_attributes(tree: Path, tmp_path: Path) -> None:
    os.chown(tree / "src", NOBODY, NOBODY)
    (tree / "src").chmod(0o2750)
    os.setxattr(tree / "src", "user.note", b"x")
    mirror, out = tmp_path / "mirror", tmp_path / "out"
    seal(tree, to=str(mirror))
    seal(tree)
    unseal(tree, to=str(out))
    for copy, mode in ((mirror, 0o2750), (out, 0o2750)):
        status = (copy / "src").stat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
        assert stat.S_IMODE(status.st_mode) == mode
        assert os.getxattr(copy / "src", "user.note") == b"x"
        assert status.st_mtime_ns == (tree / "src").stat().st_mtime_ns
