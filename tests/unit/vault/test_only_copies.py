"""A sealed file may be the only copy: nothing takes its place that is not its successor."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, RECIPIENT, in_child, keys, seal, snapshot, unseal

from encvault import operations
from encvault.errors import (
    ConfirmationNeeded,
    Conflict,
    DestinationExists,
    InputOutputError,
    MalformedHeader,
    NameTaken,
    SourceChanged,
    SpecialFile,
    Unreadable,
)
from encvault.fs import calls, locks
from encvault.fs.tree import Tree
from encvault.operations import Answers, SealRequest
from encvault.vault import plan, sealing
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from encvault.vault.report import Report

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def content(path: Path) -> bytes:
    return b"".join(map(bytes, operations.cat(str(path), keys())))


def classes(report: Report) -> list[type]:
    return [type(problem) for problem in report.problems]


def unasked(path: Path, **options: object) -> Report:
    """Seal, with nobody to ask."""
    request = SealRequest(paths=(str(path),), **options)  # type: ignore[arg-type]
    return operations.seal(request, Answers(recipients_given=(RECIPIENT,)))


class Steps(Observer):
    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def action(self, verb: str, path: str) -> None:
        self.steps.append((verb, path))


# -- in place -------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_has_the_name_of_another_ones_sealed_copy(
    tmp_path: Path, *, force: bool
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a").write_text("small")
    large = os.urandom(17 << 20)  # a batch of its own, after that of the small one
    (folder / "a.sealed").write_bytes(large)
    report = seal(folder, force=force)
    assert classes(report) == [NameTaken]
    assert (folder / "a").read_text() == "small"
    assert content(folder / "a.sealed") == large


@LAYOUTS
@pytest.mark.parametrize("first", ["sealed and kept", "opened and kept"])
def test_what_was_sealed_and_removed_has_no_successor(
    tmp_path: Path, state: str, first: str, *, hidden: bool
) -> None:
    folder = tmp_path / "docs"
    (folder / "in").mkdir(parents=True)
    for name in ("a", "in/b"):
        (folder / name).write_text("contract 2023")
    seal(folder, hide_names=hidden, keep=first == "sealed and kept", state_dir=state)
    if first == "opened and kept":
        unseal(folder, keep=True, state_dir=state)
    for name in ("a", "in/b"):
        (folder / name).unlink()
    if hidden:  # else the sealed file is in it
        (folder / "in").rmdir()
    seal(folder, state_dir=state)
    (folder / "in").mkdir(exist_ok=True)
    for name in ("a", "in/b"):
        (folder / name).write_text("holiday plan")
    report = seal(folder, state_dir=state)
    opened = tmp_path / "opened"
    if hidden:  # two objects of one name are told apart
        assert report.problems == []
        report = unseal(folder, to=str(opened))
        assert {type(problem).__name__ for problem in report.problems} == {"OtherVersions"}
        assert len(report.problems) == 2
    else:
        assert classes(report) == [Conflict, Conflict]
        assert content(folder / "a") == b"contract 2023"


def test_a_damaged_sealed_file_is_not_sealed_once_more(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_text("content")
    seal(folder)
    damaged = folder / "one.sealed"
    os.truncate(damaged, 100)
    report = seal(folder)
    assert classes(report) == [MalformedHeader]
    assert report.problems[0].exit_code == 65
    assert damaged.stat().st_size == 100
    assert sorted(path.name for path in folder.glob("*.sealed")) == ["one.sealed", "two.sealed"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_opening_by_force_leaves_what_is_sealed(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_bytes(b"a" * 100_000)
    (tmp_path / "src" / "a.sealed").write_text("another file")
    vault = tmp_path / "vault"
    seal(tmp_path / "src", to=str(vault))
    report = unseal(vault / "a.sealed.sealed", force=True, jobs=jobs)  # and not the first
    assert Conflict in classes(report)
    assert content(vault / "a.sealed") == b"a" * 100_000
    assert content(vault / "a.sealed.sealed") == b"another file"


# -- a file on its own ----------------------------------------------------------------------


def killed_before(call: str, name: str, work: Callable[[], object]) -> None:
    """Run `work` in a child that dies before the first such call."""

    def stop(called: str, _fd: int, target: str) -> None:
        if called == call and name in target.split("\0"):
            os._exit(9)

    pid = os.fork()
    if pid == 0:
        calls.probe = stop
        work()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def test_a_new_original_is_no_reason_to_make_an_unfinished_copy_again(tmp_path: Path) -> None:
    original = tmp_path / "a"
    original.write_text("OLD")
    killed_before("unlink", "a", lambda: seal(original))
    assert sorted(path.name for path in tmp_path.iterdir())[1:] == ["a", "a.sealed"]
    original.unlink()
    original.write_text("NEW")
    with pytest.raises(DestinationExists):
        seal(original)
    assert original.read_text() == "NEW"
    assert content(tmp_path / "a.sealed") == b"OLD"
    seal(original, force=True)
    assert content(tmp_path / "a.sealed") == b"NEW"
    assert [path.name for path in tmp_path.iterdir()] == ["a.sealed"]


def test_a_killed_run_that_replaces_leaves_nothing_behind_for_ever(tmp_path: Path) -> None:
    original = tmp_path / "a"
    original.write_text("NEW")
    (tmp_path / "a.sealed").write_text("something else")
    killed_before("replace", "a.sealed", lambda: seal(original, force=True))
    assert (tmp_path / "a.sealed").read_text() == "something else"
    seal(original, force=True)
    assert content(tmp_path / "a.sealed") == b"NEW"
    assert [path.name for path in tmp_path.iterdir()] == ["a.sealed"]


# -- mirrors --------------------------------------------------------------------------------


@pytest.fixture
def in_place(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a").write_text("only copy")
    (folder / "b").write_text("only copy, too")
    seal(folder)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "a").write_text("OTHER")
    return folder


@pytest.mark.parametrize("delete", [False, True])
def test_a_vault_that_was_not_filled_from_the_source_is_asked_about(
    in_place: Path, other: Path, state: str, *, delete: bool
) -> None:
    before = snapshot(in_place)
    with pytest.raises(ConfirmationNeeded, match="not known here to come from"):
        unasked(other, to=str(in_place), delete=delete, state_dir=state)
    assert snapshot(in_place) == before
    seal(other, to=str(in_place), delete=delete, state_dir=state)
    assert content(in_place / "a") == b"OTHER"
    assert (in_place / "b.sealed").exists() != delete
    # from now on it is known
    (other / "a").write_text("OTHER, edited")
    assert unasked(other, to=str(in_place), state_dir=state).problems == []
    assert content(in_place / "a") == b"OTHER, edited"


@LAYOUTS
def test_adopting_goes_on_where_it_was_stopped(
    tmp_path: Path, other: Path, state: str, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    """A part of what was adopted is known then, and the rest must not become conflicts."""
    mirror = tmp_path / "mirror"
    for name in ("b", "c", "d"):
        (other / name).write_text(name)
    seal(other, to=str(mirror), hide_names=hidden, state_dir=str(tmp_path / "another machine"))
    for name in ("a", "b", "c", "d"):
        (other / name).write_text(f"{name}, edited")

    class Stopping(Observer):
        def before_release(self, events: object) -> None:
            raise InterruptedError

    monkeypatch.setattr("encvault.vault.pool.BATCH_FILES", 1)
    with pytest.raises(InputOutputError):
        operations.seal(
            SealRequest((str(other),), to=str(mirror), state_dir=state),
            Answers(recipients_given=(RECIPIENT,), consent=True),
            Stopping(),
        )
    with pytest.raises(ConfirmationNeeded):  # it is asked about as before
        unasked(other, to=str(mirror), state_dir=state)
    assert seal(other, to=str(mirror), state_dir=state).problems == []
    assert unasked(other, to=str(mirror), state_dir=state).problems == []


@LAYOUTS
def test_two_sources_of_one_mirror_keep_off_each_other(
    tmp_path: Path, other: Path, state: str, *, hidden: bool
) -> None:
    mirror, first = tmp_path / "mirror", tmp_path / "first"
    first.mkdir()
    for name in ("a", "b"):
        (first / name).write_text("FIRST")
    unasked(first, to=str(mirror), hide_names=hidden, state_dir=state)
    (other / "c").write_text("OTHER")
    seal(other, to=str(mirror), state_dir=state)  # adopts what it finds, since it may
    (first / "a").write_text("FIRST, edited")
    report = unasked(first, to=str(mirror), delete=True, state_dir=state)
    opened = tmp_path / "opened"
    if hidden:
        assert report.problems == []
        report = unseal(mirror, to=str(opened))
        assert {type(problem).__name__ for problem in report.problems} == {"OtherVersions"}
    else:
        assert classes(report) == [Conflict]
        assert report.notes == ["1 sealed file that did not come from this source stays"]
        unseal(mirror, to=str(opened))
        assert (opened / "a").read_text() == "OTHER"
    assert (opened / "c").read_text() == "OTHER"


def test_an_empty_source_is_asked_about_before_its_mirror_is_emptied(
    tmp_path: Path, other: Path, state: str
) -> None:
    mirror = tmp_path / "mirror"
    unasked(other, to=str(mirror), state_dir=state)
    (other / "a").rename(tmp_path / "a")  # the drive is not mounted
    with pytest.raises(ConfirmationNeeded, match="is empty"):
        unasked(other, to=str(mirror), delete=True, state_dir=state)
    assert content(mirror / "a") == b"OTHER"
    assert unasked(other, to=str(mirror), state_dir=state).removed == 0
    assert seal(other, to=str(mirror), delete=True, state_dir=state).removed == 1


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    for path in ("dir/f", "dir/sub/f", "dir/sub/keep.log", "file", "stays"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def remove(source: Path, *names: str) -> None:
    for name in names:
        (source / name).unlink()


def mirrored(source: Path, mirror: Path, state: str, hidden: bool) -> Callable[..., Report]:  # noqa: FBT001 - a test's own
    def run(**options: object) -> Report:
        request = SealRequest(
            paths=(str(source),),
            to=str(mirror),
            hide_names=hidden,
            state_dir=state,
            delete=True,
            **options,  # type: ignore[arg-type]
        )
        return operations.seal(request, keys())

    return run


def left_in(mirror: Path, into: Path) -> list[str]:
    report = unseal(mirror, to=str(into))
    assert report.problems == []
    return sorted(str(path.relative_to(into)) for path in into.rglob("*"))


def give_away(folder: Path) -> None:
    """To whom `in_child` is, if root may."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


@LAYOUTS
def test_a_dry_run_tells_every_removal(
    tmp_path: Path, source: Path, state: str, *, hidden: bool
) -> None:
    mirror = tmp_path / "mirror"
    run = mirrored(source, mirror, state, hidden)
    run()
    shutil.rmtree(source / "dir")
    remove(source, "file")

    def told(*, dry: bool) -> tuple[list[tuple[str, str]], int]:
        steps = Steps()
        request = SealRequest(
            paths=(str(source),), to=str(mirror), state_dir=state, delete=True, dry_run=dry
        )
        report = operations.seal(request, keys(), steps)
        assert report.problems == []
        return [step for step in steps.steps if step[0] == "remove"], report.removed

    planned = told(dry=True)
    assert planned[1] == len(planned[0]) == (6 if hidden else 4)
    assert told(dry=False) == planned
    assert told(dry=False) == ([], 0)
    assert left_in(mirror, tmp_path / "out") == ["stays"]


@LAYOUTS
def test_what_is_excluded_is_not_deleted_in_folders_that_are_gone(
    tmp_path: Path, source: Path, state: str, *, hidden: bool
) -> None:
    mirror = tmp_path / "mirror"
    run = mirrored(source, mirror, state, hidden)
    run()
    remove(source, "dir/f", "dir/sub/f", "dir/sub/keep.log", "file")
    (source / "dir" / "sub").rmdir()
    assert run(exclude=("dir",)).removed == 1  # `file`
    expected = ["dir", "dir/f", "dir/sub", "dir/sub/f", "dir/sub/keep.log", "stays"]
    assert left_in(mirror, tmp_path / "out 1") == expected
    (source / "dir").rmdir()
    assert run(exclude=("*.log",)).removed == 2
    expected = ["dir", "dir/sub", "dir/sub/keep.log", "stays"]
    assert left_in(mirror, tmp_path / "out 2") == expected
    run()
    assert left_in(mirror, tmp_path / "out 3") == ["stays"]


@LAYOUTS
def test_a_folder_that_became_a_file(
    tmp_path: Path, source: Path, state: str, *, hidden: bool
) -> None:
    mirror = tmp_path / "mirror"
    run = mirrored(source, mirror, state, hidden)
    run()
    shutil.rmtree(source / "dir")
    (source / "dir").write_text("a file now")
    assert run().problems == []
    assert left_in(mirror, tmp_path / "out") == ["dir", "file", "stays"]
    assert (tmp_path / "out" / "dir").read_text() == "a file now"


def test_a_folder_that_cannot_be_read_is_not_gone(public_path: Path) -> None:
    source, mirror = public_path / "src", public_path / "mirror"
    (source / "un" / "sub").mkdir(parents=True)
    (source / "un" / "sub" / "f").write_text("f")
    (source / "old").mkdir()
    (source / "old" / "g").write_text("g")
    run = mirrored(source, mirror, str(public_path / "state"), hidden=False)

    def as_somebody() -> list[type]:
        run()
        (source / "old" / "g").unlink()
        (source / "old").rmdir()
        (source / "un").chmod(0)
        report = run()
        (source / "un").chmod(0o755)
        assert report.removed == 1
        return classes(report)

    give_away(public_path)
    assert in_child(as_somebody, uid=NOBODY) == [Unreadable]
    assert (mirror / "un" / "sub" / "f.sealed").exists()
    assert not (mirror / "old").exists()


def test_what_cannot_be_removed_is_not_counted(public_path: Path) -> None:
    source, mirror = public_path / "src", public_path / "mirror"
    (source / "d").mkdir(parents=True)
    for name in ("a", "b"):
        (source / "d" / name).write_text(name)
    run = mirrored(source, mirror, str(public_path / "state"), hidden=False)

    def as_somebody() -> tuple[int, list[int]]:
        run()
        (source / "d" / "a").unlink()
        (mirror / "d").chmod(0o555)
        report = run()
        (mirror / "d").chmod(0o755)
        return report.removed, [problem.exit_code for problem in report.problems]

    give_away(public_path)
    assert in_child(as_somebody, uid=NOBODY) == (0, [73])
    assert (mirror / "d" / "a.sealed").exists()


def test_a_mirror_whose_memory_is_lost_says_that_it_deletes_nothing(
    tmp_path: Path, source: Path, state: str
) -> None:
    mirror = tmp_path / "mirror"
    mirrored(source, mirror, state, hidden=True)()
    remove(source, "file")
    report = mirrored(source, mirror, str(tmp_path / "elsewhere"), hidden=True)()
    assert (report.problems, report.removed) == ([], 0)
    assert report.notes == [
        "what was sealed before and is gone from the source is not known here and stays"
    ]


def test_a_file_in_parts_stays_whole_if_it_cannot_be_removed(
    tmp_path: Path, source: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 1000)
    mirror = tmp_path / "mirror"
    (source / "large").write_bytes(os.urandom(3500))
    run = mirrored(source, mirror, state, hidden=True)
    run()
    remove(source, "large")
    real, refused = calls.unlink, []

    def refuse_first(folder: int, name: str) -> None:
        if not refused:
            refused.append(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(calls, "unlink", refuse_first)
        report = run()
    assert (classes(report), report.removed) == ([InputOutputError], 0)
    assert operations.verify(str(mirror), keys()).problems == []
    assert run().removed == 4
    assert "large" not in left_in(mirror, tmp_path / "out")


# -- vaults of others -----------------------------------------------------------------------


def test_somebody_elses_vault_above_a_file_is_asked_about(public_path: Path) -> None:
    operations.init_vault(str(public_path), Answers(recipients_given=(RECIPIENT,)))
    (public_path / "mine").mkdir()
    secret = public_path / "mine" / "pay.txt"
    secret.write_text("salaries")
    for path in (public_path, *public_path.rglob("*")):
        path.chmod(0o777)

    def as_somebody() -> None:
        request = SealRequest(paths=(str(secret),))
        operations.seal(request, Answers())

    with pytest.raises(ConfirmationNeeded, match="belongs to another user"):
        in_child(as_somebody, uid=NOBODY)
    assert secret.read_text() == "salaries"
    report = seal(secret)
    assert report.files == 1
    assert report.notes == [f"{secret} belongs to the vault {public_path}"]


# -- what killed runs leave -----------------------------------------------------------------


@pytest.mark.parametrize("verb", ["seal", "open"])
def test_a_half_unpacked_archive_is_taken_away_and_not_sealed(in_place: Path, verb: str) -> None:
    half = in_place / f".encvault-{'a' * 26}.tmp"
    (half / "sub").mkdir(parents=True)
    (half / "sub" / "x").write_text("half a fi")
    assert operations.status(str(in_place)).leftovers == [half.name]
    assert operations.status(str(in_place)).plain == []
    report = seal(in_place) if verb == "seal" else unseal(in_place)
    assert report.problems == []
    assert not half.exists()


def test_what_somebody_is_writing_is_left(in_place: Path) -> None:
    from encvault.fs.tree import Tree  # noqa: PLC0415 - likewise

    half = in_place / f".encvault-{'a' * 26}.tmp"
    half.mkdir()
    with Tree(str(in_place)) as writing:
        locks.claim(writing)
        assert seal(in_place).problems == []
        assert half.is_dir()
    assert seal(in_place).problems == []
    assert not half.exists()


@pytest.mark.parametrize("where", ["in place", "mirror", "alone"])
def test_what_no_reader_would_open_is_not_sealed(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "one").write_text("content")
    (folder / ".Encvault").write_text("mine")
    if where == "alone":
        with pytest.raises(SpecialFile):
            seal(folder / ".Encvault")
    else:
        report = seal(folder, to=str(tmp_path / "mirror") if where == "mirror" else None)
        assert classes(report) == [SpecialFile]
        assert report.files == 1
    assert (folder / ".Encvault").read_text() == "mine"


# -- opening in place -----------------------------------------------------------------------


class Remover(Observer):
    """Removes, or changes, the plain file that was found to be the same."""

    def __init__(self, path: Path, *, changes: bool) -> None:
        self._path = path
        self._changes = changes

    def before_release(self, _events: object) -> None:
        if self._changes:
            self._path.write_text("another")
        else:
            self._path.unlink()


@pytest.mark.parametrize("changes", [False, True])
def test_a_sealed_file_stays_if_its_plain_one_went_meanwhile(
    tmp_path: Path, *, changes: bool
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "one").write_text("content")
    seal(folder, keep=True)
    report = unseal(folder, Remover(folder / "one", changes=changes))
    assert classes(report) == [SourceChanged]
    assert content(folder / "one.sealed") == b"content"


@pytest.mark.parametrize("changes", [False, True])
def test_a_file_on_its_own_stays_if_its_plain_one_went_meanwhile(
    tmp_path: Path, *, changes: bool
) -> None:
    path = tmp_path / "one"
    path.write_text("content")
    seal(path, keep=True)
    with pytest.raises(SourceChanged):
        unseal(tmp_path / "one.sealed", Remover(path, changes=changes))
    assert (tmp_path / "one.sealed").exists()


def test_a_mirror_stays_as_it_is_if_the_drive_of_its_source_went(
    tmp_path: Path, state: str
) -> None:
    source, mirror = tmp_path / "docs", tmp_path / "mirror"
    source.mkdir()
    (source / "one").write_text("content")
    seal(source, to=str(mirror), state_dir=state)
    (source / "one").unlink()  # as the kernel's driver for FAT says

    real = Tree.__init__

    def on_a_drive(self: Tree, *arguments: object, **options: object) -> None:
        real(self, *arguments, **options)  # type: ignore[arg-type]
        self._drives = ["/sys/dev/block/pulled-out"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tree, "__init__", on_a_drive)
        report = seal(source, to=str(mirror), delete=True, state_dir=state)
    assert [problem.exit_code for problem in report.problems] == [74]
    assert content(mirror / "one.sealed") == b"content"
    assert seal(source, to=str(mirror), delete=True, state_dir=state).removed == 1
