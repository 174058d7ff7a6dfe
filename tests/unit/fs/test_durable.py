"""Whole small files, locks, what a killed run left, and the names of errors."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child

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
    from collections.abc import Callable, Iterator
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


def test_a_claim_ends_with_the_folder(tmp_path: Path) -> None:
    with Tree(str(tmp_path)) as first, Tree(str(tmp_path)) as second:
        assert durable.claim(first)
        assert not durable.claim(second)
    with Tree(str(tmp_path)) as third:
        assert durable.claim(third)


def test_a_claim_meets_the_lock_of_another_program(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with Tree(str(tmp_path)) as tree:
        assert not durable.claim(tree)  # and does not wait
    os.close(other)


# -- locks ----------------------------------------------------------------------------------


def test_writers_exclude_everyone_and_readers_only_writers(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    one = durable.Lock(tree, "lock", reading=True)
    two = durable.Lock(tree, "lock", reading=True)
    with pytest.raises(VaultBusy):
        durable.Lock(tree, "lock", reading=False)
    one.release()
    with pytest.raises(VaultBusy):
        durable.Lock(tree, "lock", reading=False)
    two.release()
    writer = durable.Lock(tree, "lock", reading=False)
    for reading in (True, False):
        with pytest.raises(VaultBusy) as caught:
            durable.Lock(tree, "lock", reading=reading)
        assert caught.value.holder.startswith(f"pid {os.getpid()} on ")
        assert caught.value.path == str(tmp_path)
    writer.release()
    durable.Lock(tree, "lock", reading=False).release()


def test_a_lock_tells_whether_the_run_before_was_killed(tree: Tree, tmp_path: Path) -> None:
    first = durable.Lock(tree, "lock", reading=False)
    assert not first.was_interrupted
    first.release()
    assert (tmp_path / "lock").read_bytes() == b""
    pid = os.fork()
    if pid == 0:
        durable.Lock(tree, "lock", reading=False)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    reader = durable.Lock(tree, "lock", reading=True)
    assert not reader.was_interrupted
    reader.release()
    assert (tmp_path / "lock").read_bytes() != b""  # a reader leaves the news to the next writer
    second = durable.Lock(tree, "lock", reading=False)
    assert second.was_interrupted
    second.release()


def test_a_reader_needs_no_lock_where_none_can_be_made(public_path: Path) -> None:
    public_path.chmod(0o555)

    def look() -> list[str]:
        with Tree(str(public_path)) as tree:
            durable.Lock(tree, "lock", reading=True).release()
            with pytest.raises(PermissionError):
                durable.Lock(tree, "lock", reading=False)
            return os.listdir(public_path)

    assert in_child(look, uid=NOBODY) == []


def test_reading_makes_no_lock_file(tree: Tree, tmp_path: Path) -> None:
    durable.Lock(tree, "lock", reading=True).release()
    assert list(tmp_path.iterdir()) == []


def test_an_unnamed_holder_is_still_an_error(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    other = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(VaultBusy) as caught:
        durable.Lock(tree, "lock", reading=False)
    os.close(other)
    assert caught.value.holder == "?"


def test_a_lock_file_that_is_a_link_is_refused(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to("victim")
    with pytest.raises(OSError, match=r".") as caught:
        durable.Lock(tree, "lock", reading=False)
    assert caught.value.errno == errno.ELOOP
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_still_usable(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    durable.Lock(tree, "lock", reading=False).release()
    assert not durable.claim(tree)  # nobody can be sure of being alone


def test_a_lock_that_fails_otherwise_is_an_error(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        durable.Lock(tree, "lock", reading=False)


def test_windows_has_no_flock(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.sys, "platform", "win32")
    assert not durable.claim(tree)


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
    discards: list[Callable[[int, str], None]] = [durable.discard, durable.discard_tree]
    for discard in discards:
        discard(tree.fd, "missing")
    (tmp_path / "folder").mkdir()
    durable.discard(tree.fd, "folder")
    assert (tmp_path / "folder").is_dir()


# -- reading undisturbed --------------------------------------------------------------------


def test_a_reader_keeps_writers_away_and_other_readers_not(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with (
        durable.undisturbed(tree, "lock", 1.0),
        durable.undisturbed(tree, "lock", 1.0),
        pytest.raises(TimeoutError),
        durable.alone(tree, "lock", 0.01),
    ):
        pytest.fail("it was not alone")
    with durable.alone(tree, "lock", 1.0):
        pass


def test_a_reader_goes_on_without_a_lock(tree: Tree, tmp_path: Path) -> None:
    with durable.undisturbed(tree, "none", 1.0):
        assert list(tmp_path.iterdir()) == []
    with durable.alone(tree, "lock", 1.0), durable.undisturbed(tree, "lock", 0.01):
        pass  # the writer took too long
