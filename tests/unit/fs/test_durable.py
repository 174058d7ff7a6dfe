"""Whole small files, what a killed run left, and the names of errors."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child, make_deep

from encvault.errors import (
    CannotCreate,
    DestinationExists,
    EncvaultError,
    InputOutputError,
    OutOfSpace,
    SourceMissing,
    Unreadable,
    VaultBusy,
)
from encvault.fs import calls, durable
from encvault.fs.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = "a" * 26


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(str(tmp_path)) as pinned:
        yield pinned


def write(tree: Tree, data: bytes, *, replace: bool = False, name: str = "file") -> None:
    durable.write_file(tree, "", name, data, file_id=ID, mode=0o640, replace=replace)


# -- small files ----------------------------------------------------------------------------


def test_a_file_is_written_with_its_mode_and_read_with_a_limit(tree: Tree, tmp_path: Path) -> None:
    write(tree, b"0123456789")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert durable.read_file(tree, "file", 100) == b"0123456789"
    assert durable.read_file(tree, "file", 4) == b"01234"  # one more shows that it is too large
    with pytest.raises(FileExistsError):
        write(tree, b"other")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    write(tree, b"other", replace=True)
    assert (tmp_path / "file").read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename_new"])
def test_a_failed_write_changes_nothing_and_leaves_nothing(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name == call:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(OSError, match="full"):
        write(tree, b"content")
    assert list(tmp_path.iterdir()) == []


def test_content_is_durable_before_its_name(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(calls, "probe", lambda name, _fd, _target: seen.append(name))
    write(tree, b"content", replace=True)
    assert seen == ["create", "write", "fsync", "replace", "fsync"]


# -- temporary files ------------------------------------------------------------------------


def test_a_temporary_file_is_known_by_its_name() -> None:
    assert durable.is_temporary(durable.temporary_name(ID))
    for name in (".encvault-x.tmp", f".encvault-{ID}", f"x.encvault-{ID}.tmp", ".encvault"):
        assert not durable.is_temporary(name)


def test_the_next_run_finds_and_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    def killed() -> None:
        with Tree(str(tmp_path)) as tree:
            name = durable.temporary_name(durable.own_temporary(tree, "quote.xlsx"))
            (tmp_path / name).write_text("half a file")
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        killed()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert durable.is_temporary(left.name)
    with Tree(str(tmp_path)) as tree:
        again = durable.own_temporary(tree, "quote.xlsx")
        other = durable.own_temporary(tree, "other.xlsx")
    assert durable.temporary_name(again) == left.name
    assert other != again
    assert list(tmp_path.iterdir()) == []


def test_a_left_folder_is_removed_with_all_that_is_in_it(tree: Tree, tmp_path: Path) -> None:
    file_id = durable.own_temporary(tree, "a.tar.sealed")
    left = tmp_path / durable.temporary_name(file_id)
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "file").write_text("x")
    assert durable.own_temporary(tree, "a.tar.sealed") == file_id
    assert not left.exists()


def test_the_temporary_file_of_a_living_run_is_not_touched(tmp_path: Path) -> None:
    with Tree(str(tmp_path)) as first, Tree(str(tmp_path)) as second:
        file_id = durable.own_temporary(first, "name")
        left = tmp_path / durable.temporary_name(file_id)
        left.write_text("being written")
        with pytest.raises(VaultBusy) as caught:
            durable.own_temporary(second, "name")
        assert caught.value.path == str(tmp_path / "name")
        assert left.read_text() == "being written"
        assert durable.own_temporary(second, "another name") != file_id


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "writing", "reading"),
    [
        (errno.ENOSPC, OutOfSpace, OutOfSpace),
        (errno.EDQUOT, OutOfSpace, OutOfSpace),
        (errno.EFBIG, OutOfSpace, OutOfSpace),
        (errno.EEXIST, DestinationExists, DestinationExists),
        (errno.ENOENT, SourceMissing, SourceMissing),
        (errno.EACCES, CannotCreate, Unreadable),
        (errno.EPERM, CannotCreate, Unreadable),
        (errno.EROFS, CannotCreate, Unreadable),
        (errno.ELOOP, CannotCreate, Unreadable),
        (errno.ENAMETOOLONG, CannotCreate, Unreadable),
        (errno.EIO, InputOutputError, InputOutputError),
        (errno.ENODEV, InputOutputError, InputOutputError),
        (errno.ESTALE, InputOutputError, InputOutputError),
        (errno.EISDIR, InputOutputError, InputOutputError),
        (errno.EMFILE, InputOutputError, InputOutputError),
    ],
)
def test_each_error_number_has_a_name(
    number: int, writing: type[EncvaultError], reading: type[EncvaultError]
) -> None:
    error = OSError(number, os.strerror(number))
    for how, expected in ((False, writing), (True, reading)):
        named = durable.storage_error(error, "where", reading=how)
        assert type(named) is expected
        assert "where" in str(named)
        reason = named.fields().get("reason")
        assert reason in (None, os.strerror(number))


def test_an_error_without_a_number_keeps_its_words() -> None:
    assert str(durable.storage_error(OSError("odd"), "x")) == "x: odd"


def test_discarding_is_silent_about_what_is_not_there(tree: Tree, tmp_path: Path) -> None:
    durable.discard(tree.fd, "missing")
    assert durable.discard_tree(tree, "missing") is None
    (tmp_path / "folder").mkdir()
    durable.discard(tree.fd, "folder")
    assert (tmp_path / "folder").is_dir()


def test_a_folder_is_removed_however_deep_it_is(tree: Tree, tmp_path: Path) -> None:
    """A recursion would end at a thousand, and leave what was unpacked in plain text."""
    make_deep(tmp_path, 1_200)
    assert durable.discard_tree(tree, "d") is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_told_and_the_rest_goes(public_path: Path) -> None:
    kept = public_path / "d" / "kept"
    kept.mkdir(parents=True)
    (kept / "f").touch()
    (public_path / "d" / "g").touch()
    kept.chmod(0o555)
    for path in (public_path, public_path / "d", kept, kept / "f", public_path / "d" / "g"):
        os.chown(path, NOBODY, NOBODY)

    def remove() -> tuple[int | None, list[str]]:
        with Tree(str(public_path)) as tree:
            error = durable.discard_tree(tree, "d")
            left = [*os.listdir(public_path / "d"), *os.listdir(kept)]
            return error and error.errno, left

    assert in_child(remove, uid=NOBODY) == (errno.EACCES, ["kept", "f"])
