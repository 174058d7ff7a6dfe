"""The seam: whole reads and writes over short ones, and a rename that never overwrites."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from encvault.fs import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def drip(fd: int, data: bytes) -> None:
    """Give bytes a few at a time, as a slow pipe does."""
    for start in range(0, len(data), 7):
        os.write(fd, data[start : start + 7])
    os.close(fd)


@pytest.mark.parametrize(
    "reader",
    [
        calls.read,
        lambda fd, size: (buffer := bytearray(size))[: calls.read_into(fd, memoryview(buffer))],
    ],
    ids=["read", "read_into"],
)
@pytest.mark.parametrize(("asked", "given"), [(100, 100), (50, 100), (100, 40), (10, 0)])
def test_a_pipe_that_gives_little_is_read_until_enough_or_its_end(
    reader: Callable[[int, int], bytes], asked: int, given: int
) -> None:
    data = bytes(range(given))
    read, write = os.pipe()
    writer = threading.Thread(target=drip, args=(write, data), daemon=True)
    writer.start()
    assert bytes(reader(read, asked)) == data[:asked]
    writer.join()
    os.close(read)


def test_a_write_that_the_system_cuts_short_is_completed() -> None:
    one, two = socket.socketpair()
    data = os.urandom(3_000_000)  # more than the socket's buffer: write(2) takes a part
    received = bytearray()

    def drain() -> None:
        while part := two.recv(1 << 16):
            received.extend(part)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    one.settimeout(None)
    calls.write(one.fileno(), data)
    one.close()
    reader.join()
    two.close()
    assert received == data


def test_every_short_write_continues_where_the_last_one_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = bytearray()

    def stingy(_fd: int, data: bytes) -> int:
        written.extend(bytes(data)[:3])
        return min(3, len(data))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", stingy)
        calls.write(1, bytearray(b"ten bytes!"))
    assert written == b"ten bytes!"


def test_a_link_is_never_followed(folder: int, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder-link").symlink_to("real")
    (tmp_path / "file-link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(OSError, match=r"."):
        calls.open_folder("folder-link", folder)
    for name in ("file-link", "dangling"):
        with pytest.raises(OSError, match=r".") as caught:
            calls.open_read(folder, name)
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(FileExistsError):
            calls.create(folder, name)
    assert not (tmp_path / "nowhere").exists()
    assert calls.exists(folder, "dangling")
    assert not calls.exists(folder, "nothing")


def test_a_fifo_without_a_writer_does_not_hang(folder: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fd = calls.open_read(folder, "fifo")
    assert calls.read(fd, 10) == b""
    os.close(fd)


def test_a_new_file_can_be_read_back_and_is_private(folder: int, tmp_path: Path) -> None:
    fd = calls.create(folder, "new")
    calls.write(fd, b"content")
    os.lseek(fd, 0, os.SEEK_SET)
    assert calls.read(fd, 100) == b"content"
    calls.truncate(fd, 100)
    os.close(fd)
    status = (tmp_path / "new").stat()
    assert (status.st_size, status.st_mode & 0o777) == (100, 0o600)


# -- syncing --------------------------------------------------------------------------------


def failing(number: int) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_a_folder_is_forgiven(
    folder: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    calls.fsync_folder(folder)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_all_is_synced_where_one_file_cannot_be(
    folder: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    done = []
    monkeypatch.setattr(os, "fsync", failing(number))
    monkeypatch.setattr(calls, "sync_filesystem", done.append)
    calls.fsync(folder)
    assert done == [folder]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", [calls.fsync, calls.fsync_folder])
def test_a_lost_write_is_told(
    folder: int, monkeypatch: pytest.MonkeyPatch, number: int, call: Callable[[int], None]
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(OSError, match=r".") as caught:
        call(folder)
    assert caught.value.errno == number


def test_a_file_system_is_synced_as_a_whole(folder: int) -> None:
    assert calls.sync_filesystem(folder)
    with pytest.raises(OSError, match=r".") as caught:
        calls.sync_filesystem(1_000_000)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("is_filtered", [False, True])
def test_all_file_systems_are_synced_where_one_cannot_be(
    folder: int, monkeypatch: pytest.MonkeyPatch, *, is_filtered: bool
) -> None:
    done = []

    def filtered(_fd: int) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    monkeypatch.setattr(calls, "_libc", lambda _name: filtered if is_filtered else None)
    monkeypatch.setattr(os, "sync", lambda: done.append("sync"))
    assert not calls.sync_filesystem(folder)
    assert done == ["sync"]


# -- renaming -------------------------------------------------------------------------------


def by_renameat2(_monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls._libc("renameat2") is not None


def by_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_libc", lambda _name: None)


def by_link_after_einval(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_arguments: object) -> int:
        calls.ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(calls, "_libc", lambda _name: unsupported)


def as_on_fat(monkeypatch: pytest.MonkeyPatch) -> None:
    by_link(monkeypatch)
    monkeypatch.setattr(os, "link", failing_link)


def failing_link(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EPERM, "no links here")


WAYS = pytest.mark.parametrize("way", [by_renameat2, by_link, by_link_after_einval, as_on_fat])


@WAYS
def test_a_rename_moves_and_never_overwrites(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    way(monkeypatch)
    (tmp_path / "old").write_text("content")
    calls.rename_new(folder, "old", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new").read_text() == "content"
    (tmp_path / "old").write_text("second")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "taken-folder").mkdir()
    for taken in ("new", "dangling", "taken-folder"):
        with pytest.raises(FileExistsError):
            calls.rename_new(folder, "old", taken)
    assert (tmp_path / "new").read_text() == "content"
    assert (tmp_path / "old").read_text() == "second"
    assert (tmp_path / "dangling").is_symlink()
    with pytest.raises(FileNotFoundError):
        calls.rename_new(folder, "missing", "fresh")
    assert not (tmp_path / "fresh").exists()


@WAYS
def test_a_rename_moves_links_and_folders_and_between_folders(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    way(monkeypatch)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    other = os.open(tmp_path / "other", os.O_RDONLY | os.O_DIRECTORY)
    calls.rename_new(folder, "link", "link", other)
    calls.rename_new(folder, "tree", "tree", other)
    os.close(other)
    assert os.readlink(tmp_path / "other" / "link") == "nowhere"
    assert (tmp_path / "other" / "tree" / "deep").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_an_error_of_the_link_itself_is_told(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_link(monkeypatch)
    (tmp_path / "old").write_text("content")

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="full"):
        calls.rename_new(folder, "old", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_other_systems_have_no_linux_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls.sys, "platform", "darwin")
    assert calls._libc.__wrapped__("renameat2") is None
    assert calls._libc.__wrapped__("syncfs") is None


def test_the_probe_sees_each_call_before_it_happens(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, bool]] = []
    target = tmp_path / "a"
    monkeypatch.setattr(
        calls, "probe", lambda name, _fd, what: seen.append((name, what, target.exists()))
    )
    os.close(calls.create(folder, "a"))
    calls.replace(folder, "a", "b")
    calls.unlink(folder, "b")
    calls.mkdir(folder, "d")
    calls.rmdir(folder, "d")
    calls.symlink(b"to", folder, "l")
    assert seen == [
        ("create", "a", False),
        ("replace", "a\0b", True),
        ("unlink", "b", False),
        ("mkdir", "d", False),
        ("rmdir", "d", False),
        ("symlink", "l", False),
    ]
    assert os.readlink(tmp_path / "l") == "to"
