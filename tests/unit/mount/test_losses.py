"""A disk beneath a mount that loses what is written to it, and tells of that only once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
import time
from typing import TYPE_CHECKING, get_args

import pytest
from helpers import unseal
from mounts import CALLER, Mounted

from encvault.fs import calls
from encvault.mount import content, due, saving, sealing
from encvault.vault.manifest import VaultLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MANY = 12  # more than are synced one by one
LARGE = content.GROWING_SIZE + 3 * content.BLOCK_SIZE + 77
PART_SIZE = 600_000
COUNTS = pytest.mark.parametrize("count", [1, MANY])
ERRORS = pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])


class Disk:
    """It loses all temporary files that are not durable, at the first sync after `lose`.

    As the kernel, it tells of that once to who syncs the file, and once to who syncs the file
    system. Until `evict` the page cache still has what was written.
    """

    def __init__(self, vault: Path) -> None:
        self.vault = vault
        self.meanwhile: Callable[[], object] | None = None  # what happens during the next loss
        self.folders = 0  # syncs of folders that are still to fail
        self.asked: list[str] = []  # folders
        self._number = 0
        self._is_next = False
        self._chosen: Callable[[int], bool] = bool
        self._durable: set[int] = set()
        self._lost: dict[int, int] = {}  # a descriptor of each, by inode: so no other gets that
        self._untold: set[int] = set()
        self._is_untold = False  # by the file system

    def lose(
        self, number: int = errno.EIO, chosen: Callable[[int], bool] = lambda _at: True
    ) -> None:
        """Fail at the next sync, with this error; choose by the place in the order of names."""
        self._number, self._chosen, self._is_next = number, chosen, True

    @property
    def lost(self) -> int:
        """How many files were lost by now."""
        return len(self._lost)

    def probe(self, name: str, fd: int, _target: str) -> None:
        """See `encvault.fs.calls`."""
        if name not in ("fsync", "sync_filesystem"):
            return
        status = os.fstat(fd)
        if name == "fsync" and stat.S_ISDIR(status.st_mode):
            self._sync_folder(fd)
            return
        if self._is_next:
            self._lose_now()
        if name == "fsync":
            if status.st_ino in self._untold:
                self._untold.discard(status.st_ino)
                self._fail()
            if status.st_ino not in self._lost:
                self._durable.add(status.st_ino)
            return
        if self._is_untold:
            self._is_untold = False
            self._fail()
        self._durable |= {path.stat().st_ino for path in self._temporaries()} - self._lost.keys()

    def _sync_folder(self, fd: int) -> None:
        self.asked.append(os.readlink(f"/proc/self/fd/{fd}"))
        if self.folders:
            self.folders -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _temporaries(self) -> list[Path]:
        return sorted(self.vault.rglob(".encvault-*.tmp"))

    def _lose_now(self) -> None:
        self._is_next = False
        found = [path for path in self._temporaries() if path.stat().st_ino not in self._durable]
        for at, path in enumerate(found):
            if self._chosen(at):
                fd = os.open(path, os.O_RDWR)
                self._lost[os.fstat(fd).st_ino] = fd
        self._untold, self._is_untold = set(self._lost), True
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            meanwhile()

    def _fail(self) -> None:
        raise OSError(self._number, os.strerror(self._number))

    def evict(self) -> None:
        """Have all see what is on the disk."""
        for fd in self._lost.values():
            size = os.fstat(fd).st_size
            os.pwrite(fd, bytes(64), max(0, size // 2 - 32))

    def close(self) -> None:
        """Let go of what was lost."""
        for fd in self._lost.values():
            os.close(fd)
        self._lost.clear()


@pytest.fixture(params=get_args(VaultLayout))
def mounted(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mounted]:
    monkeypatch.setattr(due, "_RETRY", 0.3)
    with Mounted(tmp_path / "vault", request.param) as one:
        one.write("/first", b"")  # makes the data key
        one.view.sync()
        yield one


@pytest.fixture
def disk(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    one = Disk(mounted.path)
    monkeypatch.setattr(calls, "probe", one.probe)
    yield one
    monkeypatch.setattr(calls, "probe", None)
    one.close()


def in_vault(mounted: Mounted) -> dict[str, bytes]:
    """What anybody finds in the vault who opens it as it is on the disk now."""
    top = mounted.path.parent
    copy, out = top / "copy", top / "out"
    for path in (copy, out):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(mounted.path, copy)
    probe, calls.probe = calls.probe, None  # that is another disk
    try:
        report = unseal(copy, to=str(out))
    finally:
        calls.probe = probe
    assert report.problems == []
    files = [path for path in out.rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.name != "first"}


def leftovers(mounted: Mounted) -> list[Path]:
    return list(mounted.path.rglob(".encvault-*.tmp"))


def fails(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        call()
    assert caught.value.errno == number


def names(count: int) -> list[str]:
    return [f"f{number:02}" for number in range(count)]


def write_old(mounted: Mounted, count: int) -> dict[str, bytes]:
    old = {name: f"the old {name}".encode() for name in names(count)}
    for name, data in old.items():
        mounted.write(f"/{name}", data)
    mounted.view.sync()
    return old


def write_new(mounted: Mounted, count: int) -> dict[str, bytes]:
    new = {name: f"the new {name}, longer".encode() for name in names(count)}
    for name, data in new.items():
        mounted.write(f"/{name}", data)
    return new


def stream(mounted: Mounted, handle: int, data: bytes) -> None:
    for start in range(0, len(data), content.BLOCK_SIZE):
        mounted.view.write(handle, data[start : start + content.BLOCK_SIZE], start)


def until(condition: Callable[[], object]) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 20
        time.sleep(0.02)


@COUNTS
@ERRORS
def test_what_was_lost_is_sealed_anew_and_the_old_stays_until_then(
    mounted: Mounted, disk: Disk, count: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old = write_old(mounted, count)
    new = write_new(mounted, count)
    disk.lose(number)
    fails(number, mounted.view.sync)
    assert disk.lost == count
    disk.evict()
    assert mounted.view.unsaved() == names(count)
    assert in_vault(mounted) == old
    assert leftovers(mounted) == []
    mounted.view.sync()
    assert mounted.view.unsaved() == []
    mounted.again()
    disk.evict()
    assert in_vault(mounted) == new
    assert {name: mounted.read(f"/{name}") for name in new} == new


@COUNTS
def test_nobody_waits_and_it_is_saved_all_the_same(
    mounted: Mounted, disk: Disk, count: int
) -> None:
    write_old(mounted, count)
    disk.lose()
    new = write_new(mounted, count)
    until(lambda: mounted.watcher.problems and not mounted.view.unsaved())
    (problem, *_more) = mounted.watcher.problems
    assert isinstance(problem, OSError)
    assert problem.errno == errno.EIO
    assert str(problem.filename).startswith(f"{mounted.path}/f")
    mounted.again()
    disk.evict()
    assert in_vault(mounted) == new


def test_fsync_tells_of_it_and_the_next_one_is_true(mounted: Mounted, disk: Disk) -> None:
    old = write_old(mounted, 1)
    handle = mounted.view.open("/f00", os.O_RDWR | os.O_TRUNC, CALLER)
    mounted.view.write(handle, b"new", 0)
    disk.lose()
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    disk.evict()
    assert in_vault(mounted) == old
    assert bytes(mounted.view.read(handle, 10, 0)) == b"new"
    mounted.view.fsync(handle)
    disk.evict()
    assert in_vault(mounted) == {"f00": b"new"}
    mounted.view.flush(handle)
    mounted.view.release(handle)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_costs_those_only_that_found_no_room(
    mounted: Mounted, disk: Disk, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "_RETRY", 60.0)
    monkeypatch.setattr(saving, "SOON", 60.0)
    old = write_old(mounted, MANY)
    new = write_new(mounted, MANY)
    disk.lose(number, lambda at: at % 4 == 1)
    fails(number, mounted.view.sync)
    disk.evict()
    unsaved = mounted.view.unsaved()
    assert len(unsaved) == MANY // 4
    assert in_vault(mounted) == {name: (old if name in unsaved else new)[name] for name in new}
    mounted.view.sync()
    disk.evict()
    assert in_vault(mounted) == new


def test_a_loss_that_was_told_with_another_batch_is_not_missed(
    mounted: Mounted, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BATCH_NODES", MANY)
    monkeypatch.setattr(saving, "SOON", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old = write_old(mounted, 3 * MANY)
    new = write_new(mounted, 3 * MANY)
    disk.lose()
    fails(errno.EIO, mounted.view.sync)  # all are lost with the first batch, and told once
    disk.evict()
    assert mounted.view.unsaved() == names(3 * MANY)
    assert in_vault(mounted) == old
    mounted.view.sync()
    disk.evict()
    assert in_vault(mounted) == new


@ERRORS
@pytest.mark.parametrize("first", ["a batch", "names"])
def test_nor_is_that_of_a_file_that_was_being_streamed_in(
    mounted: Mounted, disk: Disk, first: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    monkeypatch.setattr(saving, "LARGE", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    data = os.urandom(LARGE)
    handles = []
    for name in names(MANY):
        handle = mounted.view.create(f"/{name}", 0o644, os.O_WRONLY | os.O_CREAT, CALLER)
        mounted.view.write(handle, data[: content.GROWING_SIZE], 0)
        handles.append(handle)
    if first == "a batch":
        for name in names(MANY):
            mounted.write(f"/small-{name}", b"new")
    else:
        for name in names(MANY):
            mounted.view.make_folder(f"/d-{name}", 0o755, CALLER)
            mounted.view.make_folder(f"/d-{name}/e", 0o755, CALLER)
    disk.lose(number)
    with contextlib.suppress(OSError):  # names may be durable all the same
        mounted.view.sync()
    for handle in handles:
        mounted.view.write(handle, data[content.GROWING_SIZE :], content.GROWING_SIZE)
        mounted.view.flush(handle)
        mounted.view.release(handle)
    fails(number, mounted.view.sync)
    assert mounted.view.unsaved()[: len(handles)] == names(MANY)
    mounted.view.sync()
    disk.evict()
    found = in_vault(mounted)
    assert {name: found[name] for name in names(MANY)} == dict.fromkeys(names(MANY), data)


def test_two_who_ask_at_once_are_both_told(mounted: Mounted, disk: Disk) -> None:
    old = write_old(mounted, 1)
    handle = mounted.view.open("/f00", os.O_RDWR | os.O_TRUNC, CALLER)
    mounted.view.write(handle, b"new", 0)
    told: list[OSError] = []

    def ask() -> None:
        try:
            mounted.view.fsync(handle)
        except OSError as error:
            told.append(error)

    other = threading.Thread(target=ask)
    disk.lose()
    disk.meanwhile = lambda: (other.start(), time.sleep(0.2))
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    other.join()
    disk.evict()
    assert in_vault(mounted) == (old if told else {"f00": b"new"})
    mounted.view.release(handle)


@pytest.mark.parametrize("mounted", ["visible"], indirect=True)
def test_a_rename_that_needs_the_file_saved_does_not_go_on_without(
    mounted: Mounted, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old = write_old(mounted, 1)
    mounted.write("/new", b"new")
    mounted.view.rename("/new", "/f00", 0)
    told: list[OSError] = []

    def rename() -> None:
        try:
            mounted.view.rename("/f00", "/g", 0)
        except OSError as error:
            told.append(error)

    other = threading.Thread(target=rename)
    disk.lose()
    disk.meanwhile = lambda: (other.start(), time.sleep(0.2))
    fails(errno.EIO, mounted.view.sync)
    other.join()
    assert [error.errno for error in told] == [errno.EIO]
    disk.evict()
    assert in_vault(mounted) == old
    mounted.view.rename("/f00", "/g", 0)
    mounted.again()
    assert in_vault(mounted) == {"g": b"new"}


# -- files that were sealed as they came ------------------------------------------------------


@COUNTS
def test_what_was_sealed_as_it_came_is_written_anew(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "LARGE", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old = write_old(mounted, count)
    new = {name: os.urandom(LARGE) for name in names(count)}
    for name, data in new.items():
        mounted.write(f"/{name}", data)
    disk.lose()
    fails(errno.EIO, mounted.view.sync)
    assert disk.lost == count
    assert in_vault(mounted) == old
    assert leftovers(mounted) == []
    mounted.view.sync()
    disk.evict()
    assert in_vault(mounted) == new


def test_who_has_it_open_goes_on_with_what_was_written_anew(mounted: Mounted, disk: Disk) -> None:
    data = os.urandom(LARGE)
    handle = mounted.view.create("/f00", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.write(handle, data, 0)
    disk.lose()
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    mounted.view.fsync(handle)
    disk.evict()
    assert in_vault(mounted) == {"f00": data}
    read = b"".join(bytes(mounted.view.read(handle, 1, at)) for at in range(0, LARGE, 7_777))
    assert read == data[::7_777]
    mounted.view.write(handle, b"more", LARGE)
    mounted.view.write(handle, b"other", LARGE // 2)
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    data = data[: LARGE // 2] + b"other" + data[LARGE // 2 + 5 :] + b"more"
    assert in_vault(mounted) == {"f00": data}


def test_what_can_be_read_nowhere_any_more_is_told_until_the_end(
    mounted: Mounted, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "LARGE", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old = write_old(mounted, 1)
    mounted.write("/f00", os.urandom(LARGE))
    disk.lose()
    fails(errno.EIO, mounted.view.sync)
    disk.evict()
    for _attempt in range(2):
        fails(errno.EIO, mounted.view.sync)
        assert mounted.view.unsaved() == ["f00"]
    handle = mounted.view.open("/f00", os.O_RDWR, CALLER)
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    fails(errno.EIO, lambda: mounted.view.read(handle, 131_072, LARGE // 2 - 65_536))
    fails(errno.EIO, lambda: mounted.view.flush(handle))
    mounted.view.release(handle)
    fails(errno.EIO, mounted.view.close)
    assert mounted.view.unsaved() == ["f00"]
    assert in_vault(mounted) == old
    assert leftovers(mounted) == []
    mounted.view.unlink("/f00")


# -- what happens meanwhile -------------------------------------------------------------------


@COUNTS
def test_what_is_changed_during_the_loss_is_saved_as_it_is_then(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    old = write_old(mounted, count)
    new = write_new(mounted, count)
    disk.lose()
    disk.meanwhile = lambda: mounted.write("/f00", b"newer")
    fails(errno.EIO, mounted.view.sync)
    disk.evict()
    assert in_vault(mounted) == old
    mounted.view.sync()
    disk.evict()
    assert in_vault(mounted) == {**new, "f00": b"newer"}
    assert leftovers(mounted) == []


@COUNTS
def test_what_is_removed_during_the_loss_does_not_come_back(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    old = write_old(mounted, count)
    new = write_new(mounted, count)
    disk.lose()
    disk.meanwhile = lambda: mounted.view.unlink("/f00")
    fails(errno.EIO, mounted.view.sync)
    disk.evict()
    del old["f00"], new["f00"]
    assert in_vault(mounted) == old
    mounted.view.sync()
    mounted.again()
    disk.evict()
    assert in_vault(mounted) == new
    assert leftovers(mounted) == []


@COUNTS
def test_what_gets_another_name_during_the_loss_is_saved_by_that(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    write_old(mounted, count)
    new = write_new(mounted, count)
    disk.lose()
    disk.meanwhile = lambda: mounted.view.rename("/f00", "/g", 0)
    fails(errno.EIO, mounted.view.sync)
    disk.evict()
    mounted.view.sync()
    mounted.again()
    disk.evict()
    new["g"] = new.pop("f00")
    assert in_vault(mounted) == new
    assert leftovers(mounted) == []


@COUNTS
def test_what_was_closed_and_lost_is_saved_when_it_is_closed_again(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old = write_old(mounted, count)
    new = write_new(mounted, count)
    handle = mounted.view.open("/f00", os.O_WRONLY, CALLER)
    mounted.view.write(handle, b"THE NEW f00, half", 0)
    disk.lose()
    fails(errno.EIO, mounted.view.sync)
    disk.evict()
    mounted.view.sync()  # never in the midst of a write
    assert in_vault(mounted) == {**new, "f00": old["f00"]}
    mounted.view.write(handle, b"THE NEW f00, whole!", 0)
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.view.sync()
    disk.evict()
    assert in_vault(mounted) == {**new, "f00": b"THE NEW f00, whole!"}


@COUNTS
def test_folders_come_before_what_is_in_them(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    path = ""
    for number in range(count):
        path += f"/d{number}"
        mounted.view.make_folder(path, 0o755, CALLER)
    number = count // 2 if mounted.vault.hidden else 0
    disk.lose(errno.ENOSPC, lambda at: at == number)
    handle = mounted.view.create(f"{path}/f", 0o644, os.O_WRONLY | os.O_CREAT, CALLER)
    mounted.view.write(handle, b"deep", 0)
    fails(errno.ENOSPC, lambda: mounted.view.fsync(handle))
    disk.evict()
    assert in_vault(mounted) == {}
    assert not list(mounted.path.parent.glob("out/lost+found*"))
    mounted.view.fsync(handle)
    disk.evict()
    assert in_vault(mounted) == {f"{path[1:]}/f": b"deep"}
    mounted.view.release(handle)
    mounted.again()
    assert leftovers(mounted) == []
    assert mounted.read(f"{path}/f") == b"deep"


@pytest.mark.parametrize("parts", [3, 12])
@pytest.mark.parametrize("mounted", ["hidden"], indirect=True)
def test_a_file_in_parts_is_made_anew_with_all_of_them(
    mounted: Mounted, disk: Disk, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PART_SIZE", PART_SIZE)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old, data = write_old(mounted, 1), os.urandom(parts * PART_SIZE - 1)
    handle = mounted.view.open("/f00", os.O_RDWR | os.O_TRUNC, CALLER)
    stream(mounted, handle, data)
    disk.lose()
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    assert disk.lost >= parts
    assert in_vault(mounted) == old
    mounted.view.fsync(handle)
    mounted.view.release(handle)
    disk.evict()
    mounted.again()
    assert in_vault(mounted) == {"f00": data}


@pytest.mark.parametrize("mounted", ["hidden"], indirect=True)
def test_parts_that_were_begun_before_another_loss_are_asked_one_by_one(
    mounted: Mounted, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PART_SIZE", PART_SIZE)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    monkeypatch.setattr(saving, "SOON", 60.0)
    old, data = write_old(mounted, 1), os.urandom(MANY * PART_SIZE - 1)
    new = write_new(mounted, MANY)
    monkeypatch.setattr(saving, "BATCH_NODES", MANY)
    mounted.write("/large", data)
    disk.lose()
    fails(errno.EIO, mounted.view.sync)
    disk.evict()
    assert mounted.view.unsaved() == [*names(MANY), "large"]
    assert in_vault(mounted) == old
    mounted.view.sync()
    disk.evict()
    assert in_vault(mounted) == {**new, "large": data}


# -- the end ----------------------------------------------------------------------------------


@COUNTS
def test_what_is_lost_when_it_is_unmounted_is_made_anew(
    mounted: Mounted, disk: Disk, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", 60.0)
    write_old(mounted, count)
    new = write_new(mounted, count)
    disk.lose()
    mounted.end()
    disk.evict()
    assert disk.lost == count
    (problem,) = mounted.watcher.problems
    assert isinstance(problem, OSError)
    assert in_vault(mounted) == new
    mounted.begin()


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_folder_whose_sync_failed_stays_to_be_synced(
    mounted: Mounted, disk: Disk, *, is_moved: bool
) -> None:
    mounted.view.make_folder("/d", 0o755, CALLER)
    mounted.write("/d/old", b"")
    mounted.view.sync()
    objects = list(mounted.path.glob(".encvault/objects/*/*"))
    mounted.view.unlink("/d/old")
    disk.asked.clear()
    disk.folders = 1
    fails(errno.EIO, mounted.view.sync)
    folders = {str(path.parent) for path in objects if not path.exists()}
    if is_moved:
        mounted.view.rename("/d", "/e", 0)
    mounted.view.sync()
    if not mounted.vault.hidden:
        folders = {str(mounted.path / ("e" if is_moved else "d"))}
    assert folders
    assert folders <= set(disk.asked[1:])  # the first has failed


@pytest.mark.parametrize("mounted", ["visible"], indirect=True)
def test_and_so_do_many(mounted: Mounted, disk: Disk) -> None:
    for number in range(MANY):
        mounted.view.make_folder(f"/d{number}", 0o755, CALLER)
        mounted.write(f"/d{number}/old", b"")
    mounted.view.sync()
    for number in range(MANY):
        mounted.view.unlink(f"/d{number}/old")
    disk.lose()
    fails(errno.EIO, mounted.view.sync)
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "probe", lambda name, _fd, _target: seen.append(name))
        mounted.view.sync()
    assert seen.count("fsync") > MANY, "each folder: all of them together tell no more"


def test_names_that_failed_in_the_background_are_told_to_who_asks_for_all(
    mounted: Mounted, disk: Disk
) -> None:
    disk.folders = 1
    mounted.write("/f00", b"new")
    until(lambda: mounted.watcher.problems and not mounted.view.unsaved())
    fails(errno.EIO, mounted.view.sync)
    mounted.view.sync()
    assert in_vault(mounted) == {"f00": b"new"}
    disk.folders = 1
    mounted.write("/f01", b"new")
    until(lambda: len(mounted.watcher.problems) > 1 and not mounted.view.unsaved())
    fails(errno.EIO, mounted.view.close)
    mounted.view.close()
    assert in_vault(mounted) == {"f00": b"new", "f01": b"new"}


@pytest.mark.parametrize("mounted", ["hidden"], indirect=True)
def test_parts_whose_names_may_be_lost_are_not_left_lying(
    mounted: Mounted, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PART_SIZE", PART_SIZE)
    monkeypatch.setattr(due, "_RETRY", 60.0)
    old, data = write_old(mounted, 1), os.urandom(3 * PART_SIZE - 1)
    count = len(list(mounted.path.glob(".encvault/objects/*/*")))
    disk.folders = 1
    handle = mounted.view.open("/f00", os.O_RDWR | os.O_TRUNC, CALLER)
    stream(mounted, handle, data)
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    assert in_vault(mounted) == old
    assert len(list(mounted.path.glob(".encvault/objects/*/*"))) == count
    mounted.view.fsync(handle)
    mounted.view.release(handle)
    mounted.again()
    assert in_vault(mounted) == {"f00": data}
    assert len(list(mounted.path.glob(".encvault/objects/*/*"))) == count + 2
