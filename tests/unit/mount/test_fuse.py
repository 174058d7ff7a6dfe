"""The adapter, on a view in memory, through real mounts."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child
from memory_view import RENAME_EXCHANGE, RENAME_NOREPLACE, MemoryView
from serving import served

from encvault.errors import (
    ChunkCorrupt,
    FuseUnavailable,
    LogUnavailable,
    MountFailed,
    NoMatchingKeyslot,
    OthersMount,
    OutOfSpace,
    SourceMissing,
    VaultBusy,
)
from encvault.fs.mounts import mount_at
from encvault.mount import fuse, unlinked
from encvault.mount.nodes import Caller
from encvault.operations import mounting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from encvault.mount.nodes import Attributes

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD = -100


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def mounted(view: MemoryView, tmp_path: Path) -> Iterator[Path]:
    with served(view, tmp_path / "mnt") as mount:
        yield mount.path


def rename(old: Path, new: Path, flags: int) -> int:
    """The errno of renameat2(2), 0 if it succeeded."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)
    return ctypes.get_errno() if done else 0


def error_of(function: object, *arguments: object) -> int | None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what is wanted
        function(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_what_is_written_is_read(mounted: Path) -> None:
    data = os.urandom(300_000)
    (mounted / "报价.bin").write_bytes(data)
    assert (mounted / "报价.bin").read_bytes() == data
    with (mounted / "报价.bin").open("rb") as file:
        file.seek(299_990)
        assert file.read(100) == data[-10:]


def test_a_view_may_give_views_of_memory(tmp_path: Path) -> None:
    class Viewing(MemoryView):
        def read(self, handle: int, size: int, offset: int) -> memoryview:
            return memoryview(bytes(super().read(handle, size, offset)))

    view = Viewing()
    view.put("/a", b"abc" * 50_000)
    with served(view, tmp_path / "mnt") as mount:
        assert (mount.path / "a").read_bytes() == b"abc" * 50_000


def test_attributes_are_the_views_own(view: MemoryView, tmp_path: Path) -> None:
    view.put("/a", b"12345", mode=0o641)
    node = view._nodes["/a"]
    node.ino, node.uid, node.gid, node.nlink = 4711, 1234, 5678, 1
    node.mtime_ns, node.ctime_ns = -1_500_000_000, 1_700_000_000_123_456_789
    view.put("/d", kind="dir", mode=0o2750)
    with served(view, tmp_path / "mnt") as mount:
        status = (mount.path / "a").stat()
        assert stat.S_ISREG(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o641
        assert (status.st_ino, status.st_uid, status.st_gid) == (4711, 1234, 5678)
        assert (status.st_size, status.st_blocks, status.st_nlink) == (5, 1, 1)
        assert (status.st_mtime_ns, status.st_ctime_ns) == (
            -1_500_000_000,
            1_700_000_000_123_456_789,
        )
        folder = (mount.path / "d").stat()
        assert (stat.S_ISDIR(folder.st_mode), stat.S_IMODE(folder.st_mode)) == (True, 0o2750)


def test_attributes_come_with_a_listing(tmp_path: Path) -> None:
    class Asked(MemoryView):
        def attributes(self, path: str) -> Attributes:
            self.calls.append(f"asked for {path}")
            return super().attributes(path)

        def attributes_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
            for name in names:
                yield super().attributes(f"{path}{name}") if name.startswith("f") else None

    view = Asked()
    for index in range(10):
        view.put(f"/f{index}", b"x" * index, mode=0o644)
    view.put("/unknown")
    with served(view, tmp_path / "mnt") as mount:
        with os.scandir(mount.path) as entries:
            found = {entry.name: entry.stat().st_size for entry in entries}
        assert found == {f"f{index}": index for index in range(10)} | {"unknown": 0}
    asked = {call for call in mount.calls if call.startswith("asked for ")}
    assert asked - {"asked for /"} == {"asked for /unknown"}


def test_who_looks_at_names_only_has_no_sealed_file_opened(tmp_path: Path) -> None:
    class Asked(MemoryView):
        def attributes_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
            self.calls.append(f"opened {path}")
            return super().attributes_in(path, names)

        def known_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
            self.calls.append(f"known {path}")
            return iter(())

    view = Asked()
    for folder in "abc":
        view.put(f"/{folder}", kind="dir", mode=0o755)
        view.put(f"/{folder}/f")
    with served(view, tmp_path / "mnt") as mount:
        assert os.listdir(mount.path / "a") == ["f"]
        assert os.listdir(mount.path / "b") == ["f"]
        assert (mount.path / "b" / "f").stat().st_size == 0
        assert os.listdir(mount.path / "c") == ["f"]
    told = [call for call in mount.calls if call.startswith(("opened", "known"))]
    assert told == ["known /a", "known /b", "opened /c"]


def test_what_is_unlinked_while_it_is_open_does_not_come_back_with_a_listing(
    mounted: Path,
) -> None:
    names = [f"f{index:03}" for index in range(60)]
    for name in names:
        (mounted / name).write_bytes(b"x")
    time.sleep(1.1)  # the kernel forgets what it was told
    getdents, buffer = ctypes.CDLL(None).getdents64, ctypes.create_string_buffer(1024)
    came_back = []
    for turn in range(8):
        fd = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY)
        getdents(fd, buffer, len(buffer))
        late = mounted / next(name for name in names[turn:] if name.encode() not in buffer.raw)
        os.listdir(mounted)
        with late.open("rb"):
            late.unlink()
            getdents(fd, buffer, len(buffer))  # goes on behind the first names
            came_back += [late.name] if os.path.lexists(late) else []
        os.close(fd)
        late.write_bytes(b"x")
    assert came_back == []


def test_a_folder_that_is_emptied_while_it_is_read_is_read_to_its_end(mounted: Path) -> None:
    names = {f"a rather long name, so that few fit into a page {index}" for index in range(900)}
    (mounted / "d").mkdir()
    for name in names:
        (mounted / "d" / name).write_bytes(b"x")
    with os.scandir(mounted / "d") as entries:
        seen = {next(entries).name}
        for name in names:
            (mounted / "d" / name).unlink()
        (mounted / "d").rename(mounted / "e")
        seen |= {entry.name for entry in entries}
    assert seen == names
    for name in names:
        (mounted / "e" / name).touch(exist_ok=False)  # the kernel took none for one that is there


def test_folders_are_listed(view: MemoryView, tmp_path: Path) -> None:
    odd = os.fsdecode(b"not utf-8: \xff\xfe")
    view.put("/d", kind="dir", mode=0o755)
    view.put(f"/d/{odd}")
    view.put("/d/sub", kind="dir", mode=0o755)
    view.put(f"/{'中' * 85}")
    with served(view, tmp_path / "mnt") as mount:
        assert sorted(os.listdir(mount.path)) == ["d", "中" * 85]
        entries = {entry.name: entry.is_dir() for entry in os.scandir(mount.path / "d")}
        assert entries == {odd: False, "sub": True}
        assert sorted(os.listdir(os.fsencode(mount.path / "d"))) == [b"not utf-8: \xff\xfe", b"sub"]
    assert mount.calls.count("attributes") < 10  # scandir knew the types


def test_a_folder_that_is_listed_again_shows_what_is_new(mounted: Path) -> None:
    libc = ctypes.CDLL(None)
    libc.rewinddir.argtypes = (ctypes.c_void_p,)
    fd = os.open(mounted, os.O_RDONLY)
    try:
        assert os.listdir(fd) == []
        (mounted / "new").touch()
        assert os.listdir(fd) == ["new"]
    finally:
        os.close(fd)


def test_names_are_made_moved_and_removed(mounted: Path) -> None:
    (mounted / "d").mkdir(mode=0o700)
    (mounted / "d" / "f").touch()
    assert error_of(os.rmdir, mounted / "d") == errno.ENOTEMPTY
    (mounted / "d").rename(mounted / "e")
    assert [str(path.relative_to(mounted)) for path in sorted(mounted.rglob("*"))] == ["e", "e/f"]
    (mounted / "e" / "f").unlink()
    (mounted / "e").rmdir()
    assert os.listdir(mounted) == []
    os.mknod(mounted / "plain", 0o600 | stat.S_IFREG)
    assert (mounted / "plain").read_bytes() == b""
    assert error_of(os.mkfifo, mounted / "pipe") == errno.EPERM
    assert error_of(os.link, mounted / "plain", mounted / "other") == errno.EPERM


def test_flags_of_renames_reach_the_view(mounted: Path) -> None:
    (mounted / "a").write_text("A")
    (mounted / "b").write_text("B")
    assert rename(mounted / "a", mounted / "b", RENAME_NOREPLACE) == errno.EEXIST
    assert rename(mounted / "a", mounted / "b", RENAME_EXCHANGE) == 0
    assert ((mounted / "a").read_text(), (mounted / "b").read_text()) == ("B", "A")


def test_links_lead_where_they_should(mounted: Path) -> None:
    long = "x/" * 1000 + "报价"
    (mounted / "link").symlink_to(long)
    assert os.readlink(mounted / "link") == long
    assert (mounted / "link").lstat().st_size == len(os.fsencode(long))


def test_times_of_change_are_set_and_times_of_access_ignored(mounted: Path) -> None:
    path = mounted / "f"
    path.touch()
    os.utime(path, ns=(5_000_000_001, 7_000_000_003))
    assert path.stat().st_mtime_ns == 7_000_000_003

    def utimens(atime: int, mtime: int) -> int:
        times = (ctypes.c_long * 4)(1, atime, 1, mtime)
        return int(ctypes.CDLL(None).utimensat(AT_FDCWD, os.fsencode(path), times, 0))

    assert utimens(0, UTIME_OMIT) == 0
    assert path.stat().st_mtime_ns == 7_000_000_003
    assert utimens(UTIME_OMIT, UTIME_NOW) == 0
    assert path.stat().st_mtime > 1_700_000_000
    with path.open("rb") as file:
        os.utime(file.fileno(), ns=(0, 11_000_000_000))
    assert path.stat().st_mtime_ns == 11_000_000_000


def test_modes_owners_and_sizes_are_set_by_path_and_by_handle(mounted: Path) -> None:
    path = mounted / "f"
    path.write_bytes(b"0123456789")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1000, -1)
        os.chown(path, -1, 2000)
        assert (path.stat().st_uid, path.stat().st_gid) == (1000, 2000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    with path.open("r+b") as file:
        file.truncate(6)
        os.fchmod(file.fileno(), 0o600)
        os.posix_fallocate(file.fileno(), 0, 8)
        assert os.fstat(file.fileno()).st_size == 8
    assert path.read_bytes() == b"0123\0\0\0\0"
    path.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_extended_attributes(mounted: Path) -> None:
    path = mounted / "f"
    path.touch()
    os.setxattr(path, "user.comment", b"\0binary\xff")
    os.setxattr(path, "user.other", b"")
    assert os.getxattr(path, "user.comment") == b"\0binary\xff"
    assert sorted(os.listxattr(path)) == ["user.comment", "user.other"]
    os.removexattr(path, "user.comment")
    assert error_of(os.getxattr, path, "user.comment") == errno.ENODATA
    assert os.getxattr(path, "user.other") == b""


def test_writing_does_not_ask_the_view_for_capabilities(view: MemoryView, tmp_path: Path) -> None:
    with served(view, tmp_path / "mnt") as mount:
        (mount.path / "f").write_bytes(b"x")
        assert error_of(os.getxattr, mount.path / "f", "security.capability") == errno.ENODATA
    assert not [call for call in mount.calls if call.startswith("get_xattr")]


def test_the_disk_beneath_is_measured(mounted: Path) -> None:
    assert os.statvfs(mounted).f_blocks == os.statvfs("/").f_blocks
    assert os.statvfs(mounted).f_namemax == os.statvfs("/").f_namemax


def test_memory_may_be_mapped(mounted: Path) -> None:
    path = mounted / "f"
    path.write_bytes(bytes(10_000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 10_000) as mapped:
        mapped[5000:5003] = b"abc"
        mapped.flush()
    assert path.read_bytes()[4999:5004] == b"\0abc\0"


def test_every_call_of_a_file_reaches_the_view(view: MemoryView, tmp_path: Path) -> None:
    with served(view, tmp_path / "mnt") as mount:
        fd = os.open(mount.path / "f", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, b"1")
        os.fsync(fd)
        os.close(fd)
        folder = os.open(mount.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    wanted = ["create", "write", "fsync", "flush", "release", "sync"]
    assert [call for call in mount.calls if call in wanted] == wanted
    assert mount.callers[0] == (os.getuid(), os.getgid(), os.getpid())


def test_what_the_kernel_keeps_of_a_file_is_the_views_choice(tmp_path: Path) -> None:
    for cached, reads in ((True, 1), (False, 2)):
        view = MemoryView()
        view.cached = cached
        view.put("/a", b"x" * 1000)
        with served(view, tmp_path / f"mnt-{cached}") as mount:
            (mount.path / "a").read_bytes()
            (mount.path / "a").read_bytes()
        assert mount.calls.count("read") == reads


# -- files without a name -------------------------------------------------------------------


def test_an_open_file_lives_on_without_its_name(view: MemoryView, tmp_path: Path) -> None:
    with served(view, tmp_path / "mnt") as mount:
        with (mount.path / "f").open("w+b") as file:
            file.write(b"secret")
            file.flush()
            (mount.path / "f").unlink()
            assert os.listdir(mount.path) == []
            assert not (mount.path / "f").exists()
            status = os.fstat(file.fileno())
            assert (status.st_size, status.st_nlink) == (6, 0)
            os.fchmod(file.fileno(), 0o600)
            file.truncate(3)
            file.seek(0)
            assert file.read() == b"sec"
            (mount.path / "f").write_bytes(b"another")
        assert os.listdir(mount.path) == ["f"]
        assert (mount.path / "f").read_bytes() == b"another"
    assert "rename" not in mount.calls
    assert mount.contents == {"/": b"", "/f": b"another"}
    assert not mount.failures


def test_an_open_file_is_replaced_in_one_step(view: MemoryView, tmp_path: Path) -> None:
    view.put("/f", b"old")
    with served(view, tmp_path / "mnt") as mount:
        (mount.path / "new").write_bytes(b"new!")
        with (mount.path / "f").open("rb") as file:
            (mount.path / "new").rename(mount.path / "f")
            assert (mount.path / "f").read_bytes() == b"new!"
            assert os.fstat(file.fileno()).st_size == 3
            assert file.read() == b"old"
        assert os.listdir(mount.path) == ["f"]
    assert "unlink" not in mount.calls  # or a crash could leave neither of the two
    assert mount.calls.count("rename") == 1
    assert mount.contents == {"/": b"", "/f": b"new!"}


def test_a_file_that_is_removed_as_it_is_closed_leaves_nothing(
    view: MemoryView, tmp_path: Path
) -> None:
    with served(view, tmp_path / "mnt") as mount:
        for number in range(300):
            path = mount.path / f"f{number}"
            path.write_bytes(b"x")  # libfuse may hear of the end of this after what follows
            path.unlink()
            if number % 3 == 0:
                (mount.path / "same").write_bytes(b"old")
                path.write_bytes(b"new")
                path.rename(mount.path / "same")
    assert mount.contents == {"/": b"", "/same": b"new"}
    assert not mount.failures


def test_a_name_that_looks_like_a_hidden_one_is_a_name(mounted: Path) -> None:
    odd = mounted / ".fuse_hidden0000001a00000002"  # of another file system, perhaps
    (mounted / "f").write_bytes(b"kept")
    (mounted / "f").rename(mounted / ".fuse_hidden-my-own")
    (mounted / ".fuse_hidden-my-own").rename(odd)
    assert odd.read_bytes() == b"kept"
    assert os.listdir(mounted) == [odd.name]


def test_files_without_names_under_load(view: MemoryView, tmp_path: Path) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(10):
            path = mount.path / f"f{number}"
            with path.open("w+b") as file:
                file.write(b"%d" % turn)
                file.flush()
                if turn % 2:
                    path.unlink()
                else:
                    (mount.path / f"n{number}").write_bytes(b"new")
                    (mount.path / f"n{number}").rename(path)
                file.seek(0)
                if file.read() != b"%d" % turn or path.exists() == bool(turn % 2):
                    wrong.append(f"{number} {turn}")
                os.fstat(file.fileno())

    with served(view, tmp_path / "mnt") as mount:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert mount.contents.keys() == {"/"}
    assert not mount.failures


def test_files_that_are_replaced_as_they_are_closed_leave_nothing(
    view: MemoryView, tmp_path: Path
) -> None:
    """What editors do: read a file, write a new one beside it, and give it the name of the old."""

    def work(path: Path) -> None:
        for turn in range(150):
            path.read_bytes()
            new = path.with_name(f"{path.name}~")
            new.write_bytes(b"%d" % turn * 50_000)
            path.read_bytes()
            new.rename(path)

    with served(view, tmp_path / "mnt") as mount:
        paths = [mount.path / f"f{number}" for number in range(6)]
        for path in paths:
            path.write_bytes(b"")
        threads = [threading.Thread(target=work, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(os.listdir(mount.path)) == sorted(path.name for path in paths)
    assert mount.contents.keys() == {"/", *(f"/{path.name}" for path in paths)}
    assert not mount.failures


def test_a_hidden_name_of_what_was_just_closed_is_known_by_what_follows(
    view: MemoryView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinked, "_GRACE", 0.0)  # as on a busy machine
    me, hidden = Caller(0, 0, 1), "/.fuse_hidden0000000500000003"
    known = unlinked.Unlinked(view)
    known.release(known.opened(view.create("/f", 0o644, os.O_WRONLY, me)))
    assert not known.hide("/f", hidden, me)
    assert known.left_behind(hidden) is None  # that renaming itself
    assert known.left_behind("/f") == hidden
    assert known.left_behind("/f") is None
    assert not known.hide("/f", hidden, me)
    assert known.left_behind("/other") is None  # whoever does this likes such names
    assert known.left_behind("/f") is None


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EDQUOT, "x"), errno.EDQUOT),
        (OSError("without a number"), errno.EIO),
        (ChunkCorrupt(path="x", index=1, offset=2), errno.EIO),
        (SourceMissing(path="x"), errno.ENOENT),
        (OutOfSpace(path="x"), errno.ENOSPC),
        (NoMatchingKeyslot(path="x"), errno.EACCES),
        (VaultBusy(path="x", holder="y"), errno.EBUSY),
        (LogUnavailable(path="x", reason="y"), errno.EIO),
        (ValueError("a bug"), errno.EIO),
        (KeyboardInterrupt(), errno.EIO),
    ],
    ids=repr,
)
def test_errors_become_numbers_and_the_mount_lives_on(
    error: Exception, number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    view = MemoryView(errors={"open": error})
    view.put("/a", b"x")
    with served(view, tmp_path / "mnt") as mount:
        assert error_of(os.open, mount.path / "a", os.O_RDONLY) == number
        assert os.listdir(mount.path) == ["a"]
    is_bug = isinstance(error, (ValueError, KeyboardInterrupt))
    assert mount.failures == ([repr(error)] if is_bug else [])
    assert capfd.readouterr() == ("", "")


def test_a_read_only_view_refuses_changes(tmp_path: Path) -> None:
    view = MemoryView(read_only=True)
    view.put("/a", b"x")
    with served(view, tmp_path / "mnt") as mount:
        assert (mount.path / "a").read_bytes() == b"x"
        assert error_of(os.open, mount.path / "a", os.O_WRONLY) == errno.EROFS
        assert error_of(os.mkdir, mount.path / "d") == errno.EROFS


def test_the_source_of_a_mount_is_named_whatever_it_is_called(
    view: MemoryView, tmp_path: Path
) -> None:
    with served(view, tmp_path / "mnt", source="/odd, name\\with 报价") as mount:
        found = mount_at(str(mount.path))
        assert found is not None
        assert (found.kind, found.source) == ("fuse.encvault", "encvault:/odd, name\\with 报价")


def test_a_folder_that_is_not_there_is_named(
    view: MemoryView, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        fuse.serve(
            view,
            str(tmp_path / "missing"),
            source="x",
            allow_other=False,
            ready=lambda _stop: None,
            failed=lambda _error: None,
        )

    with pytest.raises(MountFailed, match=r"missing.*No such file or directory"):
        in_child(refused)
    assert capfd.readouterr().err == ""


def test_another_user_sees_nothing(view: MemoryView, public_path: Path) -> None:
    view.put("/a", b"x", mode=0o666)
    with served(view, public_path / "mnt") as mount:
        if os.geteuid() == 0:
            with pytest.raises(PermissionError):
                in_child(lambda: os.listdir(mount.path), uid=NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_user_cannot_unmount_it_and_is_told_whose_it_is(
    view: MemoryView, public_path: Path
) -> None:
    state = str(public_path / "state")
    with served(view, public_path / "mnt") as mount:
        with pytest.raises(OthersMount, match="mounted by root") as caught:
            in_child(lambda: mounting.unmount(str(mount.path), state), uid=NOBODY)
        assert "cannot be mounted" not in str(caught.value)
        assert os.path.ismount(mount.path)


# -- what is missing ------------------------------------------------------------------------


def test_without_libfuse_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "LIBRARIES", ("libnothing.so.9",))
    with pytest.raises(FuseUnavailable) as caught:
        fuse.load()
    assert caught.value.hint is not None
    assert "sudo apt install fuse3" in caught.value.hint


def test_without_mfusepy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/theirs")
    with pytest.raises(FuseUnavailable) as caught:
        fuse.load()
    assert caught.value.hint is not None
    assert "pip install 'encvault[mount]'" in caught.value.hint
    assert os.environ["FUSE_LIBRARY_PATH"] == "/theirs"


def test_libfuse_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse.load(), "fuse_version_major", 2)
    with pytest.raises(FuseUnavailable, match="libfuse 2"):
        fuse.load()


def test_the_library_is_libfuse_3_whatever_else_is_there() -> None:
    assert "libfuse3" in fuse.load()._libfuse._name
