"""A name in a visible vault that cannot be looked at, under a mount of it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child, keys, unseal
from memory_view import MemoryView
from mounts import CALLER, Mounted
from serving import served

from encvault import operations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def dead_mount(path: Path, later: Path) -> Iterator[None]:
    """A mount at a new folder whose server was killed.

    Args:
        path: of the folder.
        later: what it may be called at the end.
    """
    living = served(MemoryView(), path)
    mount = living.__enter__()
    os.kill(mount.pid, signal.SIGKILL)
    os.waitpid(mount.pid, 0)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(path)
        yield
    finally:
        for place in (path, later):
            subprocess.run(
                ["fusermount3", "-u", "-z", str(place)], capture_output=True, check=False
            )
        with contextlib.suppress(EOFError):  # a dead one does not tell what it was asked
            living.__exit__(None, None, None)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path / "vault", "visible") as one:
        one.view.make_folder("/d", 0o755, CALLER)
        one.view.make_folder("/d/in", 0o755, CALLER)
        for path in ("/d/a", "/d/b", "/d/in/c"):
            one.write(path, f"first {path}".encode())
        one.view.sync()
        yield one


def test_it_does_not_hide_the_others(mounted: Mounted) -> None:
    place = mounted.path / "d" / "dead"
    with dead_mount(place, place):
        assert dict(mounted.view.listing("/d")) | {"a": 0, "b": 0} == {
            "a": 0,
            "b": 0,
            "in": stat.S_IFDIR,
            "dead": stat.S_IFDIR,
        }
        assert mounted.read("/d/a") == b"first /d/a"
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            mounted.view.attributes("/d/dead")
        found = list(mounted.view.attributes_in("/d", ["a", "dead", "b"]))
        assert [one is None for one in found] == [False, True, False]
        with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
            mounted.view.remove_folder("/d")


def test_the_others_know_that_they_were_moved(mounted: Mounted, tmp_path: Path) -> None:
    place, later = mounted.path / "d" / "dead", mounted.path / "e" / "dead"
    with dead_mount(place, later):
        mounted.view.rename("/d", "/e", 0)
        assert mounted.names() == ["e"]
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.write("/d/b", b"another")
        mounted.end()
    assert operations.verify(str(mounted.path), keys()).problems == []
    assert unseal(mounted.path, to=str(tmp_path / "out")).problems == []
    opened = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert opened == {
        "d/b": b"another",
        "e/a": b"first /d/a",
        "e/b": b"first /d/b",
        "e/in/c": b"first /d/in/c",
    }
    mounted.begin()


def test_a_folder_with_one_that_may_not_be_read_stays_where_it_is(public_path: Path) -> None:
    """What is in that would look swapped afterwards."""

    def work() -> tuple[int, list[str], bytes]:
        with Mounted(public_path / "vault", "visible") as one:
            one.view.make_folder("/d", 0o755, CALLER)
            one.view.make_folder("/d/in", 0o755, CALLER)
            one.write("/d/in/c", b"content")
            one.view.sync()
            (one.path / "d" / "in").chmod(0)
            one.again()
            number = 0
            try:
                one.view.rename("/d", "/e", 0)
            except OSError as error:
                number = error.errno or 0
            (one.path / "d" / "in").chmod(0o700)
            return number, one.names(), one.read("/d/in/c")

    assert in_child(work, uid=NOBODY) == (errno.EACCES, ["d"], b"content")
