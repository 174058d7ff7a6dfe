"""Locks on folders and vaults: who keeps out whom, and what is left when there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child

from encvault.errors import VaultBusy, VaultNotWritable
from encvault.fs import locks
from encvault.fs.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(str(tmp_path)) as pinned:
        yield pinned


def test_a_claim_ends_with_the_folder(tmp_path: Path) -> None:
    with Tree(str(tmp_path)) as first, Tree(str(tmp_path)) as second:
        assert locks.claim(first)
        assert not locks.claim(second)
    with Tree(str(tmp_path)) as third:
        assert locks.claim(third)


def test_a_claim_meets_the_lock_of_another_program(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with Tree(str(tmp_path)) as tree:
        assert not locks.claim(tree)  # and does not wait
    os.close(other)


def test_who_is_asked_about_a_claim_does_not_make_one(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with Tree(str(tmp_path)) as tree:
        assert not locks.is_claimed(tree, "inner")
        assert not locks.is_claimed(tree, "missing")
        with Tree("inner", within=tree) as inner:
            assert locks.claim(inner)
            assert locks.is_claimed(tree, "inner")
            assert not locks.is_claimed(tree, "")
        assert not locks.is_claimed(tree, "inner")


# -- locks ----------------------------------------------------------------------------------


def test_writers_exclude_everyone_and_readers_only_writers(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    one = locks.Lock(tree, "lock", reading=True)
    two = locks.Lock(tree, "lock", reading=True)
    with pytest.raises(VaultBusy):
        locks.Lock(tree, "lock", reading=False)
    one.release()
    with pytest.raises(VaultBusy):
        locks.Lock(tree, "lock", reading=False)
    two.release()
    writer = locks.Lock(tree, "lock", reading=False)
    for reading in (True, False):
        with pytest.raises(VaultBusy) as caught:
            locks.Lock(tree, "lock", reading=reading)
        assert caught.value.holder.startswith(f"pid {os.getpid()} on ")
        assert caught.value.path == str(tmp_path)
    writer.release()
    locks.Lock(tree, "lock", reading=False).release()


def test_a_lock_tells_whether_the_run_before_was_killed(tree: Tree, tmp_path: Path) -> None:
    first = locks.Lock(tree, "lock", reading=False)
    assert not first.was_interrupted
    first.release()
    assert (tmp_path / "lock").read_bytes() == b""
    pid = os.fork()
    if pid == 0:
        locks.Lock(tree, "lock", reading=False)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    reader = locks.Lock(tree, "lock", reading=True)
    assert not reader.was_interrupted
    reader.release()
    assert (tmp_path / "lock").read_bytes() != b""  # a reader leaves the news to the next writer
    second = locks.Lock(tree, "lock", reading=False)
    assert second.was_interrupted
    second.release()


def test_a_reader_needs_no_lock_where_none_can_be_made(public_path: Path) -> None:
    public_path.chmod(0o555)

    def look() -> list[str]:
        with Tree(str(public_path)) as tree:
            locks.Lock(tree, "lock", reading=True).release()
            with pytest.raises(VaultNotWritable) as caught:
                locks.Lock(tree, "lock", reading=False)
            assert caught.value.fields()["path"] == str(public_path)
            return os.listdir(public_path)

    assert in_child(look, uid=NOBODY) == []


def test_reading_makes_no_lock_file(tree: Tree, tmp_path: Path) -> None:
    locks.Lock(tree, "lock", reading=True).release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_an_unnamed_holder_is_still_an_error(
    tree: Tree, tmp_path: Path, make: Callable[[Path], None], *, reading: bool
) -> None:
    make(tmp_path / "lock")
    other = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(VaultBusy) as caught:
        locks.Lock(tree, "lock", reading=reading)
    os.close(other)
    assert caught.value.holder == "?"
    locks.Lock(tree, "lock", reading=reading).release()


def test_a_lock_file_that_is_a_link_is_refused(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to("victim")
    with pytest.raises(OSError, match=r".") as caught:
        locks.Lock(tree, "lock", reading=False)
    assert caught.value.errno == errno.ELOOP
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_lock_file_that_is_another_name_of_a_file_changes_nothing_of_it(
    tree: Tree, tmp_path: Path
) -> None:
    """Who may write to a vault's folder could have root change a file that way."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    os.link(victim, tmp_path / "lock")
    tmp_path.chmod(0o777)
    for _run in range(2):
        found = locks.Lock(tree, "lock", reading=False)
        found.cleaned_up()
        found.release()
    assert victim.read_text() == "precious"
    assert victim.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_still_usable(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    locks.Lock(tree, "lock", reading=False).release()
    assert not locks.claim(tree)  # nobody can be sure of being alone


def test_a_lock_that_fails_otherwise_is_an_error(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        locks.Lock(tree, "lock", reading=False)


def test_windows_has_no_flock(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks.sys, "platform", "win32")
    assert not locks.claim(tree)


# -- reading undisturbed --------------------------------------------------------------------


def test_a_reader_keeps_writers_away_and_other_readers_not(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with (
        locks.undisturbed(tree, "lock", 1.0),
        locks.undisturbed(tree, "lock", 1.0),
        pytest.raises(TimeoutError),
        locks.alone(tree, "lock", 0.01),
    ):
        pytest.fail("it was not alone")
    with locks.alone(tree, "lock", 1.0):
        pass


def test_a_reader_goes_on_without_a_lock(tree: Tree, tmp_path: Path) -> None:
    with locks.undisturbed(tree, "none", 1.0):
        assert list(tmp_path.iterdir()) == []
    with locks.alone(tree, "lock", 1.0), locks.undisturbed(tree, "lock", 0.01):
        pass  # the writer took too long
