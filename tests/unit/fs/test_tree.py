"""The pinned folder: nothing is reached through a link, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, in_child

from encvault.fs import calls
from encvault.fs.entries import file_kind
from encvault.fs.stamp import Stamp
from encvault.fs.syncing import sync_each, sync_files, sync_tree
from encvault.fs.tree import Tree, join, split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "victim").write_text("precious")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a" / "b" / "c").mkdir(parents=True)
    (folder / "a" / "b" / "c" / "file").write_text("x")
    return folder


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    with Tree(str(root)) as pinned:
        yield pinned


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- links ----------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", ["a", "a/b", "a/b/c"])
def test_no_component_of_a_path_may_be_a_link(
    root: Path, tree: Tree, outside: Path, linked: str
) -> None:
    real = root / linked
    real.rename(root / "moved")
    real.symlink_to(outside)
    with pytest.raises(OSError, match=r"."):
        tree.folder("a/b/c")
    with pytest.raises(OSError, match=r"."):
        tree.make_folders("a/b/c/new")
    with pytest.raises(OSError, match=r"."):
        tree.status("a/b/c/victim")
    assert [path.name for path in outside.iterdir()] == ["victim"]


def test_a_folder_swapped_for_a_link_never_redirects_a_write(
    root: Path, tree: Tree, outside: Path
) -> None:
    fd = tree.folder("a/b")
    (root / "a" / "b").rename(root / "moved")
    (root / "a" / "b").symlink_to(outside)
    os.close(calls.create(tree.folder("a/b"), "new"))
    assert tree.folder("a/b") == fd
    assert (root / "moved" / "new").exists()
    tree.forget("a/b")
    with pytest.raises(OSError, match=r"."):
        tree.folder("a/b")
    tree.forget("a/b")
    assert [path.name for path in outside.iterdir()] == ["victim"]


def test_the_top_stays_pinned_when_its_path_is_exchanged(
    root: Path, tree: Tree, outside: Path
) -> None:
    root.rename(root.parent / "moved")
    root.symlink_to(outside)
    assert not tree.exists("victim")
    os.close(calls.create(tree.fd, "new"))
    assert (root.parent / "moved" / "new").exists()
    assert not (outside / "new").exists()


def test_the_callers_own_path_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    with Tree(str(tmp_path / "link")) as tree:
        assert tree.exists("a/b/c/file")
        assert tree.show("") == str(tmp_path / "link")
        assert tree.show("a/b") == str(tmp_path / "link" / "a" / "b")


def test_a_link_itself_has_a_status(root: Path, tree: Tree, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to("nowhere")
    assert stat.S_ISLNK(tree.status("link").st_mode)
    assert tree.exists("dangling")
    assert not tree.exists("missing")
    assert not tree.exists("missing/below")
    assert not tree.exists("a/b/c/file/below")
    assert tree.status("").st_ino == root.stat().st_ino


@pytest.mark.parametrize("path", ["missing", "file"])
def test_what_is_no_folder_cannot_be_pinned(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        Tree(str(tmp_path / path))


# -- descriptors ----------------------------------------------------------------------------


def test_no_more_than_64_folders_stay_open(root: Path, tree: Tree) -> None:
    for index in range(200):
        (root / f"f{index:03}").mkdir()
    before = open_descriptors()
    for _round in range(2):
        for index in range(200):
            fd = tree.folder(f"f{index:03}")
            assert os.fstat(fd).st_ino == (root / f"f{index:03}").stat().st_ino
    assert open_descriptors() - before == 64
    recent = tree.folder("f199")
    tree.folder("f198")
    assert tree.folder("f199") == recent


def test_folders_deeper_than_the_cache_are_reached(root: Path, tree: Tree) -> None:
    deep = "/".join(["d"] * 150)
    tree.make_folders(deep)
    assert (root / deep).is_dir()
    tree.folder("a")
    for depth in (150, 10, 149, 1):
        path = "/".join(["d"] * depth)
        assert os.fstat(tree.folder(path)).st_ino == (root / path).stat().st_ino


def test_making_folders_keeps_those_that_exist(root: Path, tree: Tree) -> None:
    inode = (root / "a" / "b").stat().st_ino
    fd = tree.make_folders("a/b/new/deeper", 0o700)
    assert os.fstat(fd).st_ino == (root / "a/b/new/deeper").stat().st_ino
    assert (root / "a/b/new").stat().st_mode & 0o777 == 0o700
    assert (root / "a" / "b").stat().st_ino == inode
    with pytest.raises(NotADirectoryError):
        tree.make_folders("a/b/c/file/below")


def test_a_folder_made_by_someone_else_meanwhile_is_taken(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.mkdir

    def late(folder: int, name: str, mode: int = 0o777) -> None:
        os.mkdir(root / "new")
        real(folder, name, mode)

    monkeypatch.setattr(calls, "mkdir", late)
    assert os.fstat(tree.make_folders("new")).st_ino == (root / "new").stat().st_ino


def test_closing_gives_every_descriptor_back(root: Path) -> None:
    before = open_descriptors()
    tree = Tree(str(root))
    tree.folder("a/b/c")
    tree.close()
    assert open_descriptors() == before
    with pytest.raises(OSError, match=r"."):
        tree.folder("a")


def test_a_worker_pins_the_same_folder_with_a_descriptor_of_its_own(
    root: Path, tree: Tree, tmp_path: Path
) -> None:
    os.lseek(tree.fd, 0, os.SEEK_SET)
    root.rename(tmp_path / "renamed")  # the path means nothing: the folder is pinned

    def work() -> tuple[int, int, bool]:
        tree.folder("a")
        inherited = tree.fd
        tree.reopen()
        try:
            os.fstat(inherited)
            closed = inherited == tree.fd
        except OSError:
            closed = True
        return os.fstat(tree.fd).st_ino, os.fstat(tree.folder("a/b")).st_ino, closed

    top, below, closed = in_child(work)
    assert top == (tmp_path / "renamed").stat().st_ino
    assert below == (tmp_path / "renamed" / "a" / "b").stat().st_ino
    assert closed
    assert tree.exists("a/b/c/file")


# -- walking --------------------------------------------------------------------------------


def test_a_walk_meets_each_folder_before_what_is_in_it(root: Path, tree: Tree) -> None:
    (root / "z").mkdir()
    (root / "B").mkdir()
    (root / "a-link").symlink_to("a")
    folders = list(tree.walk())
    assert [folder.path for folder in folders] == ["", "B", "a", "a/b", "a/b/c", "z"]
    assert [entry.name for entry in folders[0].entries] == ["B", "a", "a-link", "z"]
    assert {entry.name: entry.kind for entry in folders[0].entries}["a-link"] == "symlink"
    assert [folder.path for folder in tree.walk("a/b")] == ["a/b", "a/b/c"]
    entered = [folder.path for folder in tree.walk(enter=lambda path: path != "a/b")]
    assert entered == ["", "B", "a", "z"]


def test_the_receiver_may_leave_folders_out(tree: Tree) -> None:
    seen = []
    for folder in tree.walk():
        seen.append(folder.path)
        if folder.path == "a":
            folder.entries.clear()
    assert seen == ["", "a"]


def test_folders_removed_during_a_walk_are_passed_over(root: Path, tree: Tree) -> None:
    (root / "z").mkdir()
    seen = []
    for folder in tree.walk():
        seen.append(folder.path)
        if folder.path == "":
            (root / "z").rmdir()
    assert seen == ["", "a", "a/b", "a/b/c"]
    assert list(tree.walk("missing")) == []


def test_names_removed_while_a_folder_is_listed_are_passed_over(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "gone").touch()
    real = os.scandir

    class Late:
        """A listing whose names vanish before they are looked at."""

        def __init__(self, fd: int) -> None:
            self._inner = real(fd)

        def __enter__(self) -> list[Any]:
            names = list(self._inner)
            (root / "gone").unlink(missing_ok=True)
            return names

        def __exit__(self, *_exc: object) -> None:
            self._inner.close()

    monkeypatch.setattr(os, "scandir", Late)
    top = next(iter(tree.walk()))
    assert [entry.name for entry in top.entries] == ["a"]
    assert top.error is None


def test_a_folder_exchanged_for_a_link_during_a_walk_is_told_and_not_entered(
    root: Path, tree: Tree, outside: Path
) -> None:
    walk = tree.walk()
    assert next(walk).path == ""
    (root / "a").rename(root.parent / "moved")
    (root / "a").symlink_to(outside)
    (folder,) = walk
    assert (folder.path, folder.entries) == ("a", [])
    assert isinstance(folder.error, OSError)


def test_unreadable_folders_are_told_and_the_others_are_met(public_path: Path) -> None:
    def work() -> list[tuple[str, int, int]]:
        for name in ("listless", "closed", "open"):
            (public_path / name).mkdir()
        (public_path / "open" / "file").touch()
        (public_path / "listless").chmod(0o300)
        (public_path / "closed").chmod(0o000)
        with Tree(str(public_path)) as tree:
            return [
                (folder.path, len(folder.entries), folder.error.errno if folder.error else 0)
                for folder in tree.walk()
            ]

    found = in_child(work, uid=NOBODY)
    denied = 13
    assert found == [("", 3, 0), ("closed", 0, denied), ("listless", 0, denied), ("open", 1, 0)]


def test_an_error_while_listing_is_told(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(5, "bad disk")

    monkeypatch.setattr(os, "scandir", fail)
    (folder,) = tree.walk()
    assert folder.error is not None
    assert folder.error.errno == 5


def test_each_kind_of_file_has_a_word() -> None:
    words = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "dir",
        stat.S_IFLNK: "symlink",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
        stat.S_IFBLK: "block device",
        stat.S_IFCHR: "character device",
        0: "special file",
    }
    assert {mode: file_kind(mode | 0o644) for mode in words} == words


def test_paths_are_joined_and_split() -> None:
    assert (join("", "a"), join("a/b", "c")) == ("a", "a/b/c")
    assert (split("a"), split("a/b/c")) == (("", "a"), ("a/b", "c"))


def test_a_stamp_tells_any_change(root: Path) -> None:
    file = root / "a" / "b" / "c" / "file"
    before = Stamp.of(file.stat())
    assert Stamp.of(file.stat()) == before
    os.utime(file, ns=(before.mtime_ns, before.mtime_ns + 1))
    assert Stamp.of(file.stat()) != before
    copy = root / "copy"
    copy.write_text("x")
    assert Stamp.of(copy.stat()).inode != before.inode


# -- syncing --------------------------------------------------------------------------------


class Recorder:
    """Which descriptors were synced, as inodes; and how often whole file systems."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[int] = []
        self.devices: list[int] = []
        monkeypatch.setattr(os, "fsync", lambda fd: self.synced.append(os.fstat(fd).st_ino))
        monkeypatch.setattr(
            calls, "sync_filesystem", lambda fd: not self.devices.append(os.fstat(fd).st_dev)
        )
        monkeypatch.setattr("encvault.fs.tree.is_synced_whole", lambda _device: True)


@pytest.mark.parametrize("count", [1, 8])
def test_few_files_are_synced_one_by_one(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    names = [f"n{index}" for index in range(count)]
    for name in names:
        (root / "a" / name).touch()
    (root / "a" / "link").symlink_to("nowhere")
    record = Recorder(monkeypatch)
    sync_files(tree, [("a", name) for name in names[1:]] + [("a", "link"), ("a", names[0])][-1:])
    assert sorted(record.synced) == sorted((root / "a" / name).stat().st_ino for name in names)
    assert record.devices == []
    record.synced.clear()
    sync_files(tree, [("a", "link")])
    assert record.synced == []


def test_many_files_are_synced_by_their_file_system(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [("a", f"n{index}") for index in range(9)]
    record = Recorder(monkeypatch)
    sync_files(tree, files)
    assert (record.synced, record.devices) == ([], [root.stat().st_dev])


@pytest.mark.parametrize(
    ("number", "lost"),
    [(errno.ENOSPC, {3}), (errno.EDQUOT, {3}), (errno.EIO, set(range(9)))],
    ids=["full", "quota", "damage"],
)
def test_what_a_file_system_finds_out_late_concerns_the_files_that_have_no_room(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int, lost: set[int]
) -> None:
    for index in range(9):
        (root / "a" / f"n{index}").touch()
    without = (root / "a" / "n3").stat().st_ino
    record = Recorder(monkeypatch)

    def fail(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    def fail_for_one(fd: int) -> None:
        record.synced.append(os.fstat(fd).st_ino)
        if os.fstat(fd).st_ino == without:
            fail(fd)

    monkeypatch.setattr(calls, "sync_filesystem", fail)
    monkeypatch.setattr(os, "fsync", fail_for_one)
    found = sync_each(tree, [[("a", f"n{index}")] for index in range(9)])
    assert {index for index, error in enumerate(found) if error is not None} == lost
    assert {error.errno for error in found if error is not None} == {number}
    assert len(record.synced) == (9 if number != errno.EIO else 0), "each is durable by itself"


class ToldOnce:
    """A kernel that tells of a failed write once for a file and once for a file system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lost: set[int], number: int) -> None:
        self._lost, self._number, self._is_told = set(lost), number, False
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(calls, "sync_filesystem", self._sync_filesystem)
        monkeypatch.setattr("encvault.fs.tree.is_synced_whole", lambda _device: True)

    def _fsync(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        if inode in self._lost:
            self._lost.remove(inode)
            raise OSError(self._number, os.strerror(self._number))

    def _sync_filesystem(self, _fd: int) -> bool:
        if self._lost and not self._is_told:
            self._is_told = True
            raise OSError(self._number, os.strerror(self._number))
        return True


@pytest.mark.parametrize("count", [1, 4, 8, 9, 20])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_is_told_once_is_not_taken_for_durable(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, count: int, number: int
) -> None:
    paths = [root / "a" / f"n{index}" for index in range(count)]
    for path in paths:
        path.touch()
    lost = {0, count - 1}
    ToldOnce(monkeypatch, {paths[index].stat().st_ino for index in lost}, number)
    found = sync_each(tree, [[("a", path.name)] for path in paths])
    expected = lost if number == errno.ENOSPC else set(range(count))
    assert {index for index, error in enumerate(found) if error is not None} == expected


@pytest.mark.parametrize("count", [2, 9])
def test_a_file_that_may_not_be_read_is_lost_if_its_file_system_told_of_a_loss(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    paths = [root / "a" / f"n{index}" for index in range(count)]
    for path in paths:
        path.touch()
    ToldOnce(monkeypatch, {paths[0].stat().st_ino}, errno.ENOSPC)
    opened = calls.open_read

    def refuse(folder: int, name: str) -> int:
        if name == paths[-1].name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(folder, name)

    monkeypatch.setattr(calls, "open_read", refuse)
    monkeypatch.setattr(calls, "open_unreadable", refuse)
    found = sync_each(tree, [[("a", path.name)] for path in paths])
    assert {index for index, error in enumerate(found) if error is not None} == {0, count - 1}


def test_names_are_synced_with_the_folders_above_and_gone_ones_passed_over(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Recorder(monkeypatch)
    tree.sync_names(["a/b", "a/gone"])
    expected = {path.stat().st_ino for path in (root, root / "a", root / "a" / "b")}
    assert set(record.synced) == expected
    assert record.devices == []
    for index in range(9):
        (root / f"f{index}").mkdir()
    record.synced.clear()
    tree.sync_names([f"f{index}" for index in range(9)])
    assert (record.synced, record.devices) == ([], [root.stat().st_dev])


def test_a_file_that_vanished_before_its_sync_is_an_error(tree: Tree) -> None:
    with pytest.raises(FileNotFoundError):
        sync_files(tree, [("a", "gone")])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_file_system_mounted_inside_is_synced_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = root / "a" / "b" / "c"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "none", str(inside)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mount is not permitted here, not even for root")
    try:
        (inside / "file").touch()
        devices = {root.stat().st_dev, inside.stat().st_dev}
        assert len(devices) == 2
        record = Recorder(monkeypatch)
        with Tree(str(root)) as tree:
            sync_files(tree, [("a/b/c", f"n{index}") for index in range(9)])
            assert set(record.devices) == devices
            record.devices.clear()
            tree.sync_all(["not/there"])
            assert set(record.devices) == devices
            # a worker forgets what it inherited and notices again
            tree.reopen()
            record.devices.clear()
            tree.sync_all()
            assert record.devices == [root.stat().st_dev]
            tree.sync_names([f"a/b/c/x{index}" for index in range(9)])
            assert set(record.devices) == devices
    finally:
        subprocess.run(["umount", str(inside)], check=True)


def test_a_stamp_settles_when_the_clock_has_moved_on() -> None:
    second, tick = 1_000_000_000, 20_000_000
    fine = Stamp(1, 1, 1, 100 * second + 5, 100 * second)
    assert fine.settles_in_ns(100 * second + 5) == tick
    assert fine.settles_in_ns(100 * second + tick) == 5
    assert fine.settles_in_ns(100 * second + 5 + tick) == 0
    changed = Stamp(1, 1, 1, 5, 100 * second + 1)  # an old time set just now
    assert changed.settles_in_ns(100 * second + 1) == tick
    whole = Stamp(1, 1, 1, 100 * second, 0)  # as FAT keeps times
    assert whole.settles_in_ns(101 * second) == second
    assert whole.settles_in_ns(102 * second) == 0
    assert fine.settles_in_ns(99 * second) == 0  # of the future: waiting does not help


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A file system that does not hear of a sync of all of it, as those of FUSE."""
    record = Recorder(monkeypatch)
    monkeypatch.setattr("encvault.fs.tree.is_synced_whole", lambda _device: False)
    return record


def test_each_of_many_files_is_asked_where_a_file_system_does_not_hear(
    root: Path, tree: Tree, deaf: Recorder
) -> None:
    paths = [root / "a" / f"n{index}" for index in range(20)]
    for path in paths:
        path.touch()
    sync_files(tree, [("a", path.name) for path in paths])
    assert sorted(deaf.synced) == sorted(path.stat().st_ino for path in paths)


def test_each_of_many_folders_is_asked_where_a_file_system_does_not_hear(
    root: Path, tree: Tree, deaf: Recorder
) -> None:
    folders = [root / "a" / f"n{index}" for index in range(20)]
    for path in folders:
        path.mkdir()
    tree.sync_names({f"a/{path.name}" for path in folders})
    concerned = [root, root / "a", *folders]
    assert sorted(deaf.synced) == sorted(path.stat().st_ino for path in concerned)


def test_everything_beneath_is_asked_where_a_file_system_does_not_hear(
    root: Path, tree: Tree, deaf: Recorder
) -> None:
    sync_tree(tree)
    everything = [path for path in (root, *root.rglob("*")) if not path.is_symlink()]
    assert sorted(deaf.synced) == sorted(path.stat().st_ino for path in everything)


def test_everything_beneath_is_synced_as_a_whole(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Recorder(monkeypatch)
    sync_tree(tree)
    assert (record.synced, record.devices) == ([], [root.stat().st_dev])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_names_are_durable_though_some_file_had_no_room(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folders = [root / "a" / f"n{index}" for index in range(9)]
    for path in folders:
        path.mkdir()
    record = Recorder(monkeypatch)

    def fail(_fd: int) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(calls, "sync_filesystem", fail)
    wanted = {f"a/{path.name}" for path in folders}
    if number == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(number)):
            tree.sync_names(wanted)
        return
    tree.sync_names(wanted)
    concerned = [root, root / "a", *folders]
    assert sorted(record.synced) == sorted(path.stat().st_ino for path in concerned)


@pytest.mark.parametrize("count", [3, 20])
def test_a_file_that_somebody_removed_concerns_no_other(
    root: Path, tree: Tree, deaf: Recorder, count: int
) -> None:
    paths = [root / "a" / f"n{index}" for index in range(count)]
    for path in paths:
        path.touch()
    paths[1].unlink()
    found = sync_each(tree, [[("a", path.name)] for path in paths])
    assert [index for index, error in enumerate(found) if error is not None] == [1]
    assert len(deaf.synced) == count - 1


def test_the_lock_is_free_while_the_disk_is_waited_for(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    (root / "a" / "n").touch()
    held: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _fd: held.append(lock.locked()))
    monkeypatch.setattr(calls, "sync_filesystem", lambda _fd: not held.append(lock.locked()))
    assert list(sync_each(tree, [[("a", "n")]], lock)) == [None]
    tree.sync_names({"a"}, lock)
    tree.sync_all({"a"}, lock)
    assert held == [False] * 4


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_was_told_with_the_batch_before_is_not_taken_for_durable(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file system tells once, of all that was written by then."""
    paths = [root / "a" / f"n{index:02}" for index in range(30)]
    for path in paths:
        path.touch()
    lost = {2, 17, 29}
    ToldOnce(monkeypatch, {paths[index].stat().st_ino for index in lost}, number)
    batches = [[[("a", path.name)] for path in paths[at : at + 10]] for at in (0, 10, 20)]
    told = [error is not None for batch in batches for error in sync_each(tree, batch)]
    assert all(told[index] for index in lost)
    assert told.count(True) == (3 if number == errno.ENOSPC else 10 + 10 + 10)


def test_a_sync_of_all_file_systems_together_is_not_enough(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorder(monkeypatch)
    assert tree.sync_all()
    monkeypatch.setattr(calls, "sync_filesystem", lambda _fd: False)
    assert not tree.sync_all()


@pytest.mark.parametrize("kind", ["file", "link", "gone"])
def test_a_folder_that_was_replaced_is_not_asked_for_its_names(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "file":
        (root / "a" / "new").touch()
    elif kind == "link":
        (root / "a" / "new").symlink_to(root)
    record = Recorder(monkeypatch)
    tree.sync_names({"a/new"})
    assert sorted(record.synced) == sorted(path.stat().st_ino for path in (root, root / "a"))


def test_a_folder_that_its_owner_may_not_read_is_synced_with_all(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a" / "new").mkdir()
    opened = calls.open_folder

    def refuse(name: str, folder: int | None = None) -> int:
        if name == "new":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(name, folder)

    monkeypatch.setattr(calls, "open_folder", refuse)
    record = Recorder(monkeypatch)
    tree.sync_names({"a/new"})
    assert sorted(record.synced) == sorted(path.stat().st_ino for path in (root, root / "a"))
    assert record.devices == [root.stat().st_dev]


def test_a_file_that_may_not_be_read_is_asked_all_the_same(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "a" / "n"
    path.write_bytes(b"x")
    path.chmod(0o200)
    before = path.stat()
    record = Recorder(monkeypatch)

    def refuse(_folder: int, _name: str) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(calls, "open_read", refuse)
    assert list(sync_each(tree, [[("a", "n")]])) == [None]
    assert (record.synced, record.devices) == ([before.st_ino], [])
    assert path.stat().st_mode == before.st_mode
    os.close(fd := calls.open_unreadable(tree.folder("a"), "n"))
    assert fd > 2
    with pytest.raises(OSError, match="not supported"):
        (root / "a" / "link").symlink_to(path)
        calls.open_unreadable(tree.folder("a"), "link")


def test_a_file_that_may_not_be_read_is_not_believed_after_a_failure(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync of all may have told of it, and tells of it no more."""
    paths = [root / "a" / f"n{index:02}" for index in range(20)]
    for path in paths:
        path.touch()
    opened = calls.open_read

    def refuse(folder: int, name: str) -> int:
        if name == "n15":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(folder, name)

    monkeypatch.setattr(calls, "open_read", refuse)
    monkeypatch.setattr(calls, "open_unreadable", refuse)
    ToldOnce(monkeypatch, {paths[3].stat().st_ino, paths[15].stat().st_ino}, errno.ENOSPC)
    sync_each(tree, [[("a", path.name)] for path in paths[:10]])
    found = sync_each(tree, [[("a", path.name)] for path in paths[10:]])
    assert [index for index, error in enumerate(found) if error is not None] == [5]


def test_names_are_asked_for_one_by_one_after_a_failure(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [root / "a" / f"n{index}" for index in range(9)]
    for path in folders:
        path.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(calls, "sync_filesystem", lambda _fd: os.close(1 << 20))
        with pytest.raises(OSError, match="Bad file descriptor"):
            tree.sync_all()
    record = Recorder(monkeypatch)
    tree.sync_names({f"a/{path.name}" for path in folders})
    concerned = [root, root / "a", *folders]
    assert sorted(record.synced) == sorted(path.stat().st_ino for path in concerned)
    record.synced.clear()
    sync_tree(tree)
    assert record.devices == []
    assert len(record.synced) > len(concerned)
