"""A file and a folder of one name: a mirror that removes nothing has both after such a change."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import keys, seal, unseal
from mounts import Mounted

from encvault import operations
from encvault.errors import NamesEscaped, NameShared, OtherVersions

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
