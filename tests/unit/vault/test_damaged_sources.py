"""One name that cannot be looked at keeps nothing else from being sealed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child, seal, unseal
from memory_view import MemoryView, refuse
from serving import served

from encvault.errors import Unreadable
from encvault.fs.tree import Tree
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from encvault.fs.entries import Folder
    from encvault.mount.nodes import Attributes


class Damaged(MemoryView):
    """A file system that has lost what one of its names stands for."""

    def __init__(self, bad: str = "bad") -> None:
        super().__init__()
        self.bad = bad

    def attributes(self, path: str) -> Attributes:
        if path.endswith(f"/{self.bad}"):
            raise refuse(errno.EIO)
        return super().attributes(path)

    def attributes_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
        for name in names:
            yield None if name == self.bad else super().attributes(f"{path.rstrip('/')}/{name}")


def filled(view: MemoryView) -> MemoryView:
    view.put("/d", kind="dir", mode=0o755)
    for name in ("a", "bad", "c"):
        view.put(f"/d/{name}", name.encode() * 1000)
    return view


def test_it_is_met_as_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with served(filled(Damaged()), tmp_path / "drive") as drive, Tree(str(drive.path)) as tree:
        found = {folder.path: folder for folder in tree.walk()}
    assert [(one.name, one.kind) for one in found["d"].entries] == [
        ("a", "file"),
        ("bad", "dir"),
        ("c", "file"),
    ]
    assert [one.is_unknown for one in found["d"].entries] == [False, True, False]
    error = found["d/bad"].error
    assert error is not None
    assert (error.errno, found["d"].error) == (errno.EIO, None)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_others_are_sealed_and_what_a_mirror_has_of_it_stays(
    tmp_path: Path, *, hidden: bool
) -> None:
    source, mirror, state = tmp_path / "drive", tmp_path / "mirror", str(tmp_path / "state")
    with served(filled(MemoryView()), source):
        seal(source, to=str(mirror), hide_names=hidden, state_dir=state)
    source.rmdir()
    damaged = filled(Damaged())
    damaged.put("/d/new", b"new")
    del damaged._nodes["/d/c"]
    with served(damaged, source):
        report = seal(source, to=str(mirror), delete=True, state_dir=state)
    (problem,) = report.problems
    assert isinstance(problem, Unreadable)
    assert problem.path == str(source / "d" / "bad")
    unseal(mirror, to=str(tmp_path / "opened"))
    opened = {path.name: path.read_bytes() for path in (tmp_path / "opened" / "d").iterdir()}
    assert opened == {"a": b"a" * 1000, "bad": b"bad" * 1000, "new": b"new"}


def test_the_others_are_sealed_where_they_lie(tmp_path: Path) -> None:
    view = filled(Damaged())
    with served(view, tmp_path / "drive") as drive:
        report = seal(drive.path)
        names = sorted(path.name for path in (drive.path / "d").iterdir())
    assert [problem.exit_code for problem in report.problems] == [Unreadable.exit_code]
    assert names == ["a.sealed", "bad", "c.sealed"]


def test_the_others_are_in_an_archive(tmp_path: Path) -> None:
    with served(filled(Damaged()), tmp_path / "drive") as drive:
        report = seal(drive.path, archive=str(tmp_path / "drive.tar.sealed"))
    assert [problem.exit_code for problem in report.problems] == [Unreadable.exit_code]
    assert report.files == 2


def test_an_object_of_which_only_the_name_is_left_keeps_no_other_from_being_opened(
    tmp_path: Path,
) -> None:
    """What a drive may have that was pulled out while it was sealed."""
    vault, opened = tmp_path / "docs", tmp_path / "opened"
    vault.mkdir()
    (vault / "a").write_text("content")
    seal(vault, hide_names=True)
    path = next((vault / ".encvault" / "objects").glob("*/*"))
    damaged = Damaged(path.with_name(path.name[:2] + "a" * 24).name)
    for folder, folders, files in os.walk(vault):
        at = "/" + os.path.relpath(folder, vault) if folder != str(vault) else ""
        for name in folders:
            damaged.put(f"{at}/{name}", kind="dir", mode=0o755)
        for name in files:
            damaged.put(f"{at}/{name}", (Path(folder) / name).read_bytes())
    damaged.put("/" + str(path.relative_to(vault).with_name(damaged.bad)))
    with served(damaged, tmp_path / "drive") as drive:
        report = unseal(drive.path, to=str(opened))
        assert [problem.exit_code for problem in report.problems] == [74]
        (drive.path / "b").write_text("new")
        seal(drive.path)
        assert not (drive.path / "b").exists()
    assert (opened / "a").read_text() == "content"


def test_a_folder_that_lets_nobody_in_is_told_once(public_path: Path) -> None:
    def work() -> list[tuple[str, int, int]]:
        (public_path / "closed").mkdir()
        for name in "abc":
            (public_path / "closed" / name).touch()
        (public_path / "closed").chmod(0o400)
        with Tree(str(public_path)) as tree:
            return [
                (folder.path, len(folder.entries), folder.error.errno if folder.error else 0)
                for folder in tree.walk()
            ]

    assert in_child(work, uid=NOBODY) == [("", 1, 0), ("closed", 0, errno.EACCES)]


def test_who_excludes_it_hears_nothing_of_it(public_path: Path) -> None:
    """Another user's mount that is alone in its folder."""

    def work() -> list[tuple[str, bool]]:
        (public_path / "closed").mkdir()
        (public_path / "closed" / "mount").touch()
        (public_path / "closed").chmod(0o400)
        with Tree(str(public_path)) as tree:
            walk = tree.walk(enter=lambda path: not path.endswith("mount"))
            return [(folder.path, folder.error is not None) for folder in walk]

    assert in_child(work, uid=NOBODY) == [("", False), ("closed", False)]


def test_a_folder_that_fails_once_is_told_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "docs"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "x").write_text("x")
    (source / "y").write_text("y")
    real, failures = Tree._list, [OSError(errno.EIO, os.strerror(errno.EIO))]

    def fails_once(self: Tree, path: str) -> Folder | None:
        found = real(self, path)
        if found is not None and path == "sub" and failures:
            return found._replace(entries=[], error=failures.pop())
        return found

    monkeypatch.setattr(Tree, "_list", fails_once)
    report = seal(source, to=str(tmp_path / "mirror"), hide_names=True)
    assert [problem.exit_code for problem in report.problems] == [74]
    assert seal(source, to=str(tmp_path / "mirror")).problems == []


def test_a_folder_that_goes_while_its_mirror_is_made_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "docs"
    for number in range(70):  # more than are kept open
        (source / f"{number:02}").mkdir(parents=True)
        (source / f"{number:02}" / "file").write_text("x")

    class Removing(Observer):
        def before_release(self, _events: object) -> None:
            shutil.rmtree(source / "03", ignore_errors=True)

    report = seal(source, Removing(), to=str(tmp_path / "mirror"))
    assert report.problems == []
    assert report.files == 70
