"""A file and a folder of one name: a mirror that removes nothing has both after such a change."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import keys, seal, unseal
from mounts import CALLER, Mounted

from encvault import operations
from encvault.errors import (
    FileBehindFolder,
    NamesEscaped,
    NameShared,
    OtherVersions,
    SharedNameTaken,
)
from encvault.mount import hidden as hidden_layout
from encvault.vault.catalog import read_catalog
from encvault.vault.layout import object_path
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.vault.report import Report

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
CHANGES = pytest.mark.parametrize("now", ["file", "folder"])


def mirrored(top: Path, *, hidden: bool, now: str) -> Path:
    """A mirror whose source had a folder ``plan`` with a file ``old``, or a file; now the other."""
    source, mirror = top / "source", top / "mirror"
    source.mkdir()
    plan = source / "plan"

    def make(kind: str) -> None:
        if kind == "folder":
            plan.mkdir()
            (plan / "old").write_text("in the folder")
        else:
            plan.write_text("the file")

    make("folder" if now == "file" else "file")
    (source / "other").write_text("another")
    options = {"hide_names": True} if hidden else {}
    assert seal(source, to=str(mirror), **options).problems == []
    shutil.rmtree(plan) if plan.is_dir() else plan.unlink()
    make(now)
    assert seal(source, to=str(mirror)).problems == []
    return mirror


def check_told(report: Report, path: Path) -> None:
    (problem,) = report.problems
    assert isinstance(problem, NameShared)
    assert problem.fields() == {"path": str(path), "saved_as": "plan (2)"}
    assert isinstance(report.outcome(), NamesEscaped)  # code 3, and nothing was left out


def check_both(top: Path) -> None:
    assert (top / "plan" / "old").read_text() == "in the folder"
    assert (top / "plan (2)").read_text() == "the file"
    assert (top / "other").read_text() == "another"


@LAYOUTS
@CHANGES
def test_both_are_opened_elsewhere_and_again(tmp_path: Path, now: str, *, hidden: bool) -> None:
    mirror, out = mirrored(tmp_path, hidden=hidden, now=now), tmp_path / "out"
    for _time in range(2):
        check_told(unseal(mirror, to=str(out)), out / "plan")
        check_both(out)


@LAYOUTS
@CHANGES
def test_both_are_opened_in_place_and_nothing_stays_sealed(
    tmp_path: Path, now: str, *, hidden: bool
) -> None:
    mirror = mirrored(tmp_path, hidden=hidden, now=now)
    check_told(unseal(mirror), mirror / "plan")
    check_both(mirror)
    assert sorted(path.name for path in mirror.iterdir() if path.name != ".encvault") == [
        "other",
        "plan",
        "plan (2)",
    ]
    objects = mirror / ".encvault" / "objects"
    assert not [path for path in objects.rglob("*") if path.is_file()]


@LAYOUTS
def test_the_file_gets_a_name_that_nothing_else_has(tmp_path: Path, *, hidden: bool) -> None:
    mirror = mirrored(tmp_path, hidden=hidden, now="file")
    (tmp_path / "source" / "plan (2)").write_text("its own")
    assert seal(tmp_path / "source", to=str(mirror)).problems == []
    out = tmp_path / "out"
    (problem,) = unseal(mirror, to=str(out)).problems
    assert problem.fields() == {"path": str(out / "plan"), "saved_as": "plan (3)"}
    assert (out / "plan (2)").read_text() == "its own"
    assert (out / "plan (3)").read_text() == "the file"


@LAYOUTS
def test_who_chooses_the_name_gets_both(tmp_path: Path, *, hidden: bool) -> None:
    mirror, out = mirrored(tmp_path, hidden=hidden, now="file"), tmp_path / "out"
    unseal(mirror / "plan", to=str(out))
    found = {path.name: path.read_text() for path in out.rglob("*") if path.is_file()}
    assert found["old"] == "in the folder"
    if hidden:  # in the visible layout the file is the one called plan.sealed
        assert "other" not in found


@LAYOUTS
@CHANGES
def test_both_are_listed(tmp_path: Path, now: str, *, hidden: bool) -> None:
    mirror = mirrored(tmp_path, hidden=hidden, now=now)
    listed, problems = operations.list_files(str(mirror), keys())
    sizes = {item.path: item.size for item in listed if item.type == "file"}
    file = "plan (2)" if hidden else "plan"
    assert sizes == {"plan/old": len("in the folder"), file: len("the file"), "other": 7}
    assert [type(problem) for problem in problems] == ([NameShared] if hidden else [])


@LAYOUTS
def test_both_are_whole(tmp_path: Path, *, hidden: bool) -> None:
    mirror = mirrored(tmp_path, hidden=hidden, now="file")
    assert operations.verify(str(mirror), keys()).problems == []


def test_an_older_version_of_such_a_file_is_of_the_same_path(tmp_path: Path) -> None:
    mirror = mirrored(tmp_path, hidden=True, now="file")
    (tmp_path / "source" / "plan").write_text("the newer file")
    state = tmp_path / "state"
    assert not state.exists()
    seal(tmp_path / "source", to=str(mirror))  # without the memory of what it replaces
    told = unseal(mirror).problems
    assert [type(one) for one in told] == [OtherVersions, NameShared]
    assert told[0].fields()["path"] == str(mirror / "plan (2)")
    assert (mirror / "plan (2)").read_text() == "the newer file"


def test_a_hidden_vault_shows_both_in_a_mount(tmp_path: Path) -> None:
    mirror = mirrored(tmp_path, hidden=True, now="file")
    with Mounted(mirror) as one:
        assert one.names() == ["other", "plan", "plan (2)"]
        assert one.read("/plan (2)") == b"the file"
        assert one.read("/plan/old") == b"in the folder"
        assert [type(problem) for problem in one.watcher.problems] == [NameShared]


def test_what_comes_to_the_place_of_such_a_file_does_not_supersede_it(tmp_path: Path) -> None:
    mirror = mirrored(tmp_path, hidden=True, now="file")
    with Mounted(mirror) as one:
        one.view.unlink("/plan/old")
        one.view.remove_folder("/plan")
        one.write("/plan", b"a new one")
        one.again()
        assert one.names() == ["other", "plan", "plan (2)"]
        assert one.read("/plan") == b"a new one"
        assert one.read("/plan (2)") == b"the file"
    assert unseal(mirror).problems == []


def test_such_a_file_can_be_changed_and_renamed_and_removed(tmp_path: Path) -> None:
    mirror = mirrored(tmp_path, hidden=True, now="file")
    with Mounted(mirror) as one:
        one.write("/plan (2)", b"changed")
        one.again()
        assert one.read("/plan (2)") == b"changed"
        one.view.rename("/plan (2)", "/new", 0)
        one.again()
        assert one.names() == ["new", "other", "plan"]
        one.view.unlink("/new")
        one.again()
        assert one.names() == ["other", "plan"]


def test_a_folder_that_comes_waits_while_a_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program that syncs the vault brings it before it takes the file away."""
    monkeypatch.setattr(hidden_layout, "_PATIENCE", 0.0)
    first = mirrored(tmp_path, hidden=True, now="folder")
    held = tmp_path / "held"
    shutil.copytree(first / ".encvault/objects", held)
    with Vault.load(str(first)) as vault:
        vault.unlock(keys().identities(""))
        found = read_catalog(vault, 1)
    file, folder = found.files["plan (2)"].file, found.folders["plan"].file
    inside = found.files["plan/old"].file

    def put(*ids: str) -> None:
        for one in ids:
            (first / object_path(one)).parent.mkdir(exist_ok=True)
            shutil.copy(held / one[:2] / one, first / object_path(one))

    for gone in (folder, inside):
        (first / object_path(gone)).unlink()
    with Mounted(first) as mounted:
        assert mounted.read("/plan") == b"the file"
        put(folder, inside)
        assert mounted.names() == ["other", "plan"]
        assert mounted.read("/plan") == b"the file"
        (first / object_path(file)).unlink()
        mounted.names()
        assert mounted.names("/plan") == ["old"]
        put(file)
        assert mounted.names() == ["other", "plan"]
        mounted.again()
        assert mounted.names() == ["other", "plan", "plan (2)"]


@CHANGES
def test_a_visible_vault_shows_the_folder_in_a_mount_and_tells(tmp_path: Path, now: str) -> None:
    mirror = mirrored(tmp_path, hidden=False, now=now)
    with Mounted(mirror) as one:
        assert one.read("/plan/old") == b"in the folder"  # before anything is listed
        assert one.names() == ["other", "plan"]
        (problem,) = one.watcher.problems
        assert isinstance(problem, FileBehindFolder)
        assert problem.fields() == {
            "path": str(mirror / "plan"),
            "object": str(mirror / "plan.sealed"),
        }
        one.view.rename("/plan", "/moved", 0)
        assert one.names() == ["moved", "other", "plan"]
        assert one.read("/plan") == b"the file"


def test_a_folder_that_comes_is_shown_before_a_file_of_its_name(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "visible") as one:
        one.write("/plan", b"the file")
        one.view.sync()
        assert one.read("/plan") == b"the file"
        (one.path / "plan").mkdir()
        shutil.copy(one.path / "plan.sealed", one.path / "plan" / "copy.sealed")
        assert one.names() == ["plan"]
        assert one.names("/plan") == ["copy"]
        assert [type(problem) for problem in one.watcher.problems] == [FileBehindFolder]


def with_a_file_behind(one: Mounted) -> None:
    """Let ``d`` have a file ``plan`` that is not shown, since ``d`` has such a folder as well."""
    one.view.make_folder("/d", 0o755, CALLER)
    one.write("/d/plan", b"the file")
    one.view.sync()
    (one.path / "d" / "plan").mkdir()
    assert one.names("/d") == ["plan"]


def check_moved(top: Path, vault: Path) -> None:
    """The file is in ``e``, where it belongs, and another one is in its old place."""
    verified = operations.verify(str(vault), keys())
    assert (verified.problems, verified.notes) == ([], [])
    (problem,) = unseal(vault, to=str(top / "out")).problems
    assert isinstance(problem, NameShared)
    assert (top / "out/d/plan").read_bytes() == b"another"
    assert (top / "out/e/plan (2)").read_bytes() == b"the file"


def test_a_file_that_is_not_shown_moves_with_the_folder_that_it_is_in(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "visible") as one:
        with_a_file_behind(one)
        one.view.rename("/d", "/e", 0)
        one.view.make_folder("/d", 0o755, CALLER)
        one.write("/d/plan", b"another")
    check_moved(tmp_path, one.path)


def test_a_file_that_is_not_shown_moves_with_its_folder_as_often_as_that(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "visible") as one:
        with_a_file_behind(one)
        for old, new in (("/d", "/a"), ("/a", "/b"), ("/b", "/e")):
            one.view.rename(old, new, 0)
        one.view.make_folder("/d", 0o755, CALLER)
        one.write("/d/plan", b"another")
        one.view.sync()
        assert one.names("/e") == ["plan"]
        assert {type(problem) for problem in one.watcher.problems} == {FileBehindFolder}
    check_moved(tmp_path, one.path)


def test_a_file_that_is_not_shown_is_found_astray_after_a_kill(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "visible") as one:
        with_a_file_behind(one)
    (one.path / "d").rename(one.path / "e")
    (one.path / ".encvault" / "lock").write_text("pid 1 on host\n")  # as a kill leaves it
    with Mounted(one.path):
        pass
    assert operations.verify(str(one.path), keys()).notes == []
    with Mounted(one.path) as again:
        again.view.make_folder("/d", 0o755, CALLER)
        again.write("/d/plan", b"another")
    check_moved(tmp_path, one.path)


def test_a_file_is_shown_before_it_was_sealed_anew(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "visible") as one:
        with_a_file_behind(one)
        one.view.rename("/d", "/e", 0)
        one.view.remove_folder("/e/plan")
        assert one.names("/e") == ["plan"]
        assert one.read("/e/plan") == b"the file"
        one.write("/e/plan", b"the file, and more")
        one.again()
        assert one.names("/e") == ["plan"]
        assert one.read("/e/plan") == b"the file, and more"
    assert [type(problem) for problem in one.watcher.problems] == [FileBehindFolder]
    verified = operations.verify(str(one.path), keys())
    assert (verified.problems, verified.notes) == ([], [])


def test_a_folder_may_come_in_the_place_of_one_that_a_file_is_behind(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "visible") as one:
        with_a_file_behind(one)
        one.view.make_folder("/d/new", 0o755, CALLER)
        one.write("/d/new/f", b"inside")
        one.view.rename("/d/new", "/d/plan", 0)
        assert one.names("/d") == ["plan"]
        assert one.read("/d/plan/f") == b"inside"
        one.view.rename("/d/plan", "/d/new", 0)
        assert one.read("/d/plan") == b"the file"


@LAYOUTS
@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "elsewhere"])
def test_force_replaces_no_other_file_that_is_called_as_the_stand_in(
    tmp_path: Path, *, hidden: bool, in_place: bool
) -> None:
    mirror = mirrored(tmp_path, hidden=hidden, now="file")
    out = mirror if in_place else tmp_path / "out"
    out.mkdir(exist_ok=True)
    (out / "plan (2)").write_text("my notes")
    (out / "other").write_text("an older one")
    (problem,) = unseal(mirror, to=None if in_place else str(out), keep=True, force=True).problems
    assert isinstance(problem, SharedNameTaken)
    assert problem.fields() == {"path": str(out / "plan"), "taken": "plan (2)"}
    assert (out / "plan (2)").read_text() == "my notes"
    assert (out / "other").read_text() == "another", "what has the name of its own is replaced"
    (out / "plan (2)").unlink()
    unseal(mirror, to=None if in_place else str(out), keep=True, force=True)
    check_both(out)
