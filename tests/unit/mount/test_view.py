from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, get_args

import pytest
from helpers import RECIPIENT, keys
from hypothesis import HealthCheck, given, settings, strategies as st
from mounts import CALLER, Mounted

from encvault import operations
from encvault.crypto.suite import Suite
from encvault.errors import (
    ChunkCorrupt,
    KeysMissing,
    MalformedHeader,
    MalformedRecord,
    SavedAside,
    SealedAlone,
    SourceMissing,
)
from encvault.fs import calls
from encvault.mount import cache, content, hidden, sealing
from encvault.mount.nodes import Access, Caller
from encvault.mount.openfiles import OpenFiles
from encvault.vault.index import IndexWriter, read_index
from encvault.vault.manifest import VaultLayout
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from encvault.mount.nodes import Attributes
    from encvault.mount.view import View

LAYOUTS = get_args(VaultLayout)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> VaultLayout:
    chosen: VaultLayout = request.param
    return chosen


@pytest.fixture
def mounted(tmp_path: Path, layout: VaultLayout) -> Iterator[Mounted]:
    with Mounted(tmp_path / "vault", layout) as one:
        yield one


def fails(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        call()
    assert caught.value.errno == number


def leftovers(vault: Path) -> list[str]:
    return [str(path) for path in vault.rglob(".encvault-*")]


def opened(vault: Path, to: Path) -> dict[str, bytes]:
    """What `encvault open --to` makes of a vault."""
    copy = to.with_name(f"{to.name}-vault")  # the mount has the vault's lock
    shutil.copytree(vault, copy, symlinks=True)
    request = operations.OpenRequest(paths=(str(copy),), to=str(to))
    report = operations.open_paths(request, keys())
    assert not report.problems
    return {
        str(path.relative_to(to)): path.read_bytes()
        for path in to.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


# -- random sequences -------------------------------------------------------------------------

NAMES = ["a", "b", "c", "报价", "d.sealed", "xy" * 127]
SIZES = [0, 1, 100, 16_127, 16_128, 16_384, 131_071, 131_073, 300_000, 1_100_000]
VERBS = [
    *("create", "create", "open", "write", "write", "append", "read", "truncate", "cut"),
    *("close", "close", "flush", "fsync", "rename", "rename", "rename", "unlink", "mkdir"),
    *("rmdir", "symlink", "chmod", "xattr", "times", "sync", "remount", "compare"),
]


class Twins:
    """The same done to a mount and to a plain folder."""

    def __init__(self, mounted: Mounted, plain: Path, chance: random.Random) -> None:
        self.mounted = mounted
        self.plain = plain
        self.chance = chance
        self.handles: list[tuple[int, int]] = []

    def path(self) -> str:
        count = self.chance.choice([1, 1, 1, 2, 2, 3])
        return "/" + "/".join(self.chance.choice(NAMES) for _name in range(count))

    def both(self, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[object, ...]:
        """The kernel finds some errors before others; that one is found is what counts here."""
        results: list[object] = []
        for call in (ours, theirs):
            try:
                results.append(call())
            except OSError as error:
                results.append(error)
        assert isinstance(results[0], OSError) == isinstance(results[1], OSError), results
        return tuple(results)

    def step(self, verb: str) -> None:
        path = self.path()
        real = f"{self.plain}{path}"
        if verb in ("write", "append", "read", "cut", "close", "flush", "fsync"):
            if self.handles:
                self.step_open(verb)
        elif verb in ("create", "open"):
            self.step_opening(verb, path, real)
        elif verb == "sync":
            self.mounted.view.sync()
        elif verb == "remount":
            if self.chance.random() < 0.3:
                self.remount()
        elif verb == "compare":
            self.compare()
        elif verb in ("chmod", "times", "xattr", "truncate"):
            if not os.path.islink(real):
                self.step_attributes(verb, path, real)
        else:
            self.step_name(verb, path, real)

    def step_opening(self, verb: str, path: str, real: str) -> None:
        view, chance = self.mounted.view, self.chance
        flags = os.O_RDWR | chance.choice([0, os.O_TRUNC])
        if verb == "create":
            flags |= os.O_CREAT | chance.choice([0, os.O_EXCL])
        mode = chance.choice([0o644, 0o600, 0o755])
        pair = self.both(
            lambda: (
                view.create(path, mode, flags, CALLER)
                if verb == "create"
                else view.open(path, flags, CALLER)
            ),
            lambda: os.open(real, flags | os.O_NOFOLLOW, mode),
        )
        if isinstance(pair[0], int) and isinstance(pair[1], int):
            self.handles.append((pair[0], pair[1]))

    def step_name(self, verb: str, path: str, real: str) -> None:
        view, other = self.mounted.view, self.path()
        ours, theirs = {
            "rename": (
                lambda: view.rename(path, other, 0),
                lambda: os.rename(real, f"{self.plain}{other}"),
            ),
            "unlink": (lambda: view.unlink(path), lambda: os.unlink(real)),
            "mkdir": (
                lambda: view.make_folder(path, 0o755, CALLER),
                lambda: os.mkdir(real, 0o755),
            ),
            "rmdir": (lambda: view.remove_folder(path), lambda: os.rmdir(real)),
            "symlink": (
                lambda: view.symlink(path, "to/x", CALLER),
                lambda: os.symlink("to/x", real),
            ),
        }[verb]
        self.both(ours, theirs)

    def step_open(self, verb: str) -> None:
        view, chance = self.mounted.view, self.chance
        ours, theirs = chance.choice(self.handles)
        at, size = chance.choice(SIZES), chance.choice(SIZES)
        if verb == "append":
            at = os.fstat(theirs).st_size
        if verb in ("write", "append") and size:
            data = chance.randbytes(size)
            for start in range(0, size, 131_072):
                view.write(ours, data[start : start + 131_072], at + start)
            os.pwrite(theirs, data, at)
        elif verb == "read":
            assert bytes(view.read(ours, size, at)) == os.pread(theirs, size, at)
        elif verb == "cut":
            view.truncate_open(ours, at)
            os.ftruncate(theirs, at)
        elif verb == "flush":
            view.flush(ours)
        elif verb == "fsync":
            view.fsync(ours)
        elif verb == "close":
            self.handles.remove((ours, theirs))
            view.flush(ours)
            view.release(ours)
            os.close(theirs)

    def step_attributes(self, verb: str, path: str, real: str) -> None:
        view, chance = self.mounted.view, self.chance
        if verb == "chmod":
            mode = chance.choice([0o644, 0o700, 0o755])
            self.both(lambda: view.set_mode(path, mode), lambda: os.chmod(real, mode))
        elif verb == "times":
            at = chance.randrange(10**18)
            self.both(lambda: view.set_times(path, at), lambda: os.utime(real, ns=(at, at)))
        elif verb == "xattr":
            value = chance.randbytes(9)
            self.both(
                lambda: view.set_xattr(path, "user.k", value, 0),
                lambda: os.setxattr(real, "user.k", value),
            )
        elif verb == "truncate":
            size = chance.choice(SIZES)
            self.both(lambda: view.truncate(path, size), lambda: os.truncate(real, size))

    def remount(self) -> None:
        for ours, theirs in self.handles:
            self.mounted.view.flush(ours)
            self.mounted.view.release(ours)
            os.close(theirs)
        self.handles.clear()
        self.mounted.again()
        self.compare()

    def compare(self) -> None:
        assert self.ours("/") == self.theirs()

    def ours(self, folder: str) -> dict[str, tuple[object, ...]]:
        view = self.mounted.view
        found: dict[str, tuple[object, ...]] = {}
        for name, kind in view.listing(folder):
            path = f"{folder.rstrip('/')}/{name}"
            known = view.attributes(path)
            types = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "symlink": stat.S_IFLNK}
            assert kind in (0, types[known.kind])
            xattrs = {key: view.get_xattr(path, key) for key in view.list_xattrs(path)}
            if known.kind == "dir":
                found[path] = ("dir", known.mode, xattrs)
                found |= self.ours(path)
            elif known.kind == "symlink":
                found[path] = ("symlink", view.readlink(path))
            else:
                content = self.mounted.read(path)
                assert len(content) == known.size
                found[path] = ("file", known.mode, content, xattrs)
        return found

    def theirs(self) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        for real in self.plain.rglob("*"):
            path = f"/{real.relative_to(self.plain)}"
            status = real.lstat()
            if stat.S_ISLNK(status.st_mode):
                found[path] = ("symlink", str(real.readlink()))
                continue
            xattrs = {key: os.getxattr(real, key) for key in os.listxattr(real)}
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                found[path] = ("dir", mode, xattrs)
            else:
                found[path] = ("file", mode, real.read_bytes(), xattrs)
        return found


@pytest.mark.parametrize("budget", [1 << 26, 300_000])
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 1 << 32))
def test_it_does_what_a_folder_does(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    layout: VaultLayout,
    budget: int,
    seed: int,
) -> None:
    monkeypatch.setattr(cache.Budget.__init__, "__defaults__", (budget,))
    before = os.umask(0)
    folder = tmp_path_factory.mktemp("twins")
    plain = folder / "plain"
    plain.mkdir()
    chance = random.Random(seed)
    try:
        with Mounted(folder / "vault", layout) as mounted:
            twins = Twins(mounted, plain, chance)
            try:
                for _step in range(80):
                    twins.step(chance.choice(VERBS))
                twins.remount()
            finally:
                for _ours, theirs in twins.handles:
                    os.close(theirs)
            assert not mounted.watcher.problems
    finally:
        os.umask(before)
    assert not leftovers(folder / "vault")
    files = {path[1:]: known[2] for path, known in twins.theirs().items() if known[0] == "file"}
    assert opened(folder / "vault", folder / "out") == files


# -- one by one -------------------------------------------------------------------------------


def test_what_is_saved_is_a_vault_like_any_other(mounted: Mounted, tmp_path: Path) -> None:
    mounted.view.make_folder("/表", 0o750, CALLER)
    mounted.write("/表/q.xlsx", b"price list")
    mounted.view.set_xattr("/表/q.xlsx", "user.tag", b"secret", 0)
    mounted.view.set_times("/表/q.xlsx", 1_234_567_890_123_456_789)
    mounted.view.symlink("/link", "表/q.xlsx", CALLER)
    mounted.end()
    try:
        assert opened(mounted.path, tmp_path / "out") == {"表/q.xlsx": b"price list"}
        out = tmp_path / "out"
        assert os.getxattr(out / "表" / "q.xlsx", "user.tag") == b"secret"
        assert (out / "表" / "q.xlsx").stat().st_mtime_ns == 1_234_567_890_123_456_789
        assert str((out / "link").readlink()) == "表/q.xlsx"
        assert stat.S_IMODE((out / "表").stat().st_mode) == 0o750
    finally:
        mounted.begin()


@pytest.mark.parametrize("suite", list(Suite))
def test_either_suite(tmp_path: Path, layout: VaultLayout, suite: Suite) -> None:
    data = os.urandom(700_000)
    with Mounted(tmp_path / "v", layout, suite=suite) as mounted:
        mounted.write("/f", data)
        mounted.again()
        assert mounted.read("/f") == data


def test_nothing_is_changed_through_a_read_only_mount(tmp_path: Path, layout: VaultLayout) -> None:
    path = tmp_path / "v"
    with Mounted(path, layout) as mounted:
        mounted.write("/f", b"x")
        mounted.view.make_folder("/d", 0o755, CALLER)
    before = sorted((str(one), one.stat().st_mtime_ns) for one in path.rglob("*"))
    with Mounted(path, layout, read_only=True) as mounted:
        view = mounted.view
        assert view.is_read_only
        assert mounted.read("/f") == b"x"
        for change in (
            lambda: view.open("/f", os.O_WRONLY, CALLER),
            lambda: view.open("/f", os.O_RDONLY | os.O_TRUNC, CALLER),
            lambda: view.create("/g", 0o644, os.O_WRONLY | os.O_CREAT, CALLER),
            lambda: view.truncate("/f", 0),
            lambda: view.make_folder("/e", 0o755, CALLER),
            lambda: view.remove_folder("/d"),
            lambda: view.unlink("/f"),
            lambda: view.rename("/f", "/g", 0),
            lambda: view.symlink("/s", "x", CALLER),
            lambda: view.set_mode("/f", 0o600),
            lambda: view.set_owner("/f", 1, 1),
            lambda: view.set_times("/f", None),
            lambda: view.set_xattr("/f", "user.a", b"", 0),
            lambda: view.remove_xattr("/f", "user.a"),
        ):
            fails(errno.EROFS, change)
    assert sorted((str(one), one.stat().st_mtime_ns) for one in path.rglob("*")) == before


def test_reading_is_told_before_it_is_done_and_can_be_refused(mounted: Mounted) -> None:
    mounted.write("/f", b"secret")
    mounted.view.sync()
    handle = mounted.view.open("/f", os.O_WRONLY, CALLER)
    mounted.view.release(handle)
    assert not mounted.watcher.opens  # nothing is given out
    assert mounted.read("/f") == b"secret"
    ((access, caller),) = mounted.watcher.opens
    assert (access.path, access.size, caller) == ("f", 6, CALLER)
    assert len(access.file) == 26

    def refuse(*_told: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    mounted.watcher.opened = refuse  # type: ignore[method-assign]
    fails(errno.EACCES, lambda: mounted.view.open("/f", os.O_RDONLY, CALLER))
    assert mounted.view.idle_seconds() is not None  # no handle is left


def test_what_is_saved_removed_and_renamed_is_told(mounted: Mounted) -> None:
    mounted.write("/f", b"one")
    mounted.view.sync()
    other = Caller(1, 2, 3)
    mounted.view.rename("/f", "/g", 0, other)
    mounted.view.sync()
    mounted.view.unlink("/g", other)
    mounted.view.sync()
    told = [(op, access.path, to) for op, access, _caller, to in mounted.watcher.saves]
    assert told == [("write", "f", ""), ("rename", "f", "g"), ("remove", "g", "")]
    # not who wrote the file, but who renamed and removed it
    assert [who for _op, _access, who, _to in mounted.watcher.saves] == [CALLER, other, other]


def test_changes_by_path_are_told_as_well(mounted: Mounted) -> None:
    mounted.write("/f", b"one")
    mounted.view.sync()
    other = Caller(1, 2, 3)
    for change in (
        lambda: mounted.view.truncate("/f", 1, other),
        lambda: mounted.view.set_mode("/f", 0o600, other),
        lambda: mounted.view.set_owner("/f", 5, 5, other),
        lambda: mounted.view.set_times("/f", 5, other),
        lambda: mounted.view.set_xattr("/f", "user.a", b"", 0, other),
        lambda: mounted.view.remove_xattr("/f", "user.a", other),
    ):
        mounted.watcher.saves.clear()
        change()
        mounted.view.sync()
        (told,) = mounted.watcher.saves
        assert (told[0], told[1].path, told[2]) == ("write", "f", other)


def test_a_time_of_another_age_is_kept_as_near_as_a_record_can(mounted: Mounted) -> None:
    mounted.write("/f", b"x")
    mounted.view.set_times("/f", 9_300_000_000 * 10**9)
    mounted.again()
    assert mounted.read("/f") == b"x"
    assert mounted.view.attributes("/f").mtime_ns == (1 << 63) - 1


def test_a_file_that_cannot_be_sealed_keeps_no_other_from_it(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/f", b"")
    fails(errno.EILSEQ, lambda: mounted.view.set_xattr("/f", "user.\udcff", b"v", 0))
    mounted.write("/bad", b"bad")
    record = sealing.Sealer._record

    def odd(self: sealing.Sealer, node: object, *rest: object) -> object:
        if getattr(node, "name", "") == "bad":
            raise ValueError("a bug")
        return record(self, node, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sealing.Sealer, "_record", odd)
        handle = mounted.view.open("/bad", os.O_RDWR, CALLER)
        mounted.view.write(handle, b"B", 0)
        mounted.view.release(handle)
        for name in "abc":
            mounted.write(f"/{name}", b"x")
        until(lambda: mounted.view.unsaved() == ["bad"])
    mounted.view.sync()
    assert mounted.view.unsaved() == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_what_is_being_written_is_not_saved_because_somebody_reads_it(mounted: Mounted) -> None:
    mounted.write("/f", b"old content")
    mounted.view.sync()
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    mounted.view.write(handle, b"NEW", 0)
    assert mounted.read("/f") == b"NEW content"  # opened, flushed and closed by a reader
    mounted.view.flush(handle)  # as when a copy of the descriptor is closed in a child
    mounted.view.sync()
    assert mounted.view.unsaved() == ["f"]
    with Mounted(copied(mounted)) as other:
        assert other.read("/f") == b"old content"
    mounted.view.release(handle)
    mounted.view.sync()
    assert mounted.view.unsaved() == []


def test_what_was_closed_and_is_written_again_is_not_saved_half(mounted: Mounted) -> None:
    mounted.write("/f", b"old content")  # waits to be saved
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    mounted.view.write(handle, b"NEW", 0)
    mounted.view.flush(handle)
    mounted.view.sync()
    with Mounted(copied(mounted)) as other:
        assert other.names() == []
    mounted.view.release(handle)
    mounted.view.sync()
    assert mounted.read("/f") == b"NEW content"


def copied(mounted: Mounted) -> Path:
    """The vault as a crash would leave it now."""
    copy = mounted.path.with_name("copy")
    shutil.copytree(mounted.path, copy)
    return copy


def test_what_is_cut_off_does_not_come_back(mounted: Mounted) -> None:
    data = b"OLDSECRET" * 100_000
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    for start in range(0, len(data), 131_072):
        mounted.view.write(handle, data[start : start + 131_072], start)
    mounted.view.truncate_open(handle, 100)
    mounted.view.truncate_open(handle, len(data))
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == data[:100] + bytes(len(data) - 100)


def test_a_folder_whose_files_were_moved_out_goes_after_them(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v", "hidden") as mounted:
        for name in "ab":
            mounted.view.make_folder(f"/{name}", 0o755, CALLER)
        mounted.view.make_folder("/a/sub", 0o755, CALLER)
        mounted.write("/a/f", b"x")
        mounted.view.sync()
        mounted.view.rename("/a/f", "/b/f", 0)
        mounted.view.rename("/a/sub", "/b/sub", 0)
        mounted.view.remove_folder("/a")
        with Mounted(copied(mounted)) as other:
            assert other.names() == ["b"]
            assert other.names("/b") == ["f", "sub"]


def test_an_open_file_outlives_its_name(mounted: Mounted) -> None:
    mounted.write("/f", b"content")
    mounted.view.sync()
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    mounted.view.unlink("/f")
    assert bytes(mounted.view.read(handle, 100, 0)) == b"content"
    mounted.view.write(handle, b"C", 0)
    mounted.view.set_mode_of(handle, 0o600)
    mounted.view.set_times_of(handle, 5)
    mounted.view.set_owner_of(handle, -1, -1)
    mounted.view.fsync(handle)
    assert bytes(mounted.view.read(handle, 100, 0)) == b"Content"
    assert mounted.view.attributes_of(handle).nlink == 0
    mounted.write("/f", b"another")
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == b"another"


def test_a_replaced_file_stays_open(mounted: Mounted) -> None:
    mounted.write("/old", b"old")
    mounted.view.sync()
    handle = mounted.view.open("/old", os.O_RDONLY, CALLER)
    mounted.write("/new", b"new")
    mounted.view.rename("/new", "/old", 0)
    assert bytes(mounted.view.read(handle, 9, 0)) == b"old"
    mounted.view.release(handle)
    mounted.again()
    assert mounted.names() == ["old"]
    assert mounted.read("/old") == b"new"


def test_two_renames_in_a_row_lose_nothing_on_the_way(mounted: Mounted) -> None:
    mounted.write("/a", b"old")
    mounted.view.sync()
    mounted.write("/t", b"new")
    mounted.view.rename("/t", "/a", 0)
    mounted.view.rename("/a", "/b", 0)
    assert mounted.names() == ["b"]
    mounted.again()
    assert mounted.names() == ["b"]
    assert mounted.read("/b") == b"new"


def test_names_that_are_exchanged_by_way_of_a_third(mounted: Mounted) -> None:
    mounted.write("/a", b"A")
    mounted.write("/b", b"B")
    mounted.view.sync()
    for old, new in (("/a", "/t"), ("/b", "/a"), ("/t", "/b")):
        mounted.view.rename(old, new, 0)
    mounted.again()
    assert (mounted.read("/a"), mounted.read("/b")) == (b"B", b"A")


def test_errors_have_their_numbers(mounted: Mounted) -> None:
    view = mounted.view
    view.make_folder("/d", 0o755, CALLER)
    mounted.write("/d/f", b"x")
    view.symlink("/s", "d", CALLER)
    for number, call in (
        (errno.ENOENT, lambda: view.attributes("/none")),
        (errno.ENOTDIR, lambda: view.attributes("/d/f/g")),
        (errno.EISDIR, lambda: view.open("/d", os.O_RDONLY, CALLER)),
        (errno.ELOOP, lambda: view.open("/s", os.O_RDONLY, CALLER)),
        (errno.EBADF, lambda: view.read(999, 1, 0)),
        (errno.EINVAL, lambda: view.readlink("/d/f")),
        (errno.EEXIST, lambda: view.make_folder("/d", 0o755, CALLER)),
        (errno.EEXIST, lambda: view.symlink("/d/f", "x", CALLER)),
        (errno.ENOENT, lambda: view.symlink("/x", "", CALLER)),
        (errno.ENAMETOOLONG, lambda: view.symlink("/x", "y" * 4096, CALLER)),
        (errno.EEXIST, lambda: view.create("/d/f", 0o644, os.O_CREAT | os.O_EXCL, CALLER)),
        (errno.ENAMETOOLONG, lambda: view.make_folder("/" + "n" * 256, 0o755, CALLER)),
        (errno.EPERM, lambda: view.make_folder("/.encvault", 0o755, CALLER)),
        (errno.EPERM, lambda: view.make_folder("/.EncVault", 0o755, CALLER)),
        (errno.EPERM, lambda: view.symlink(f"/.encvault-{'a' * 26}.tmp", "x", CALLER)),
        (errno.ENOTEMPTY, lambda: view.remove_folder("/d")),
        (errno.ENOTDIR, lambda: view.remove_folder("/d/f")),
        (errno.EBUSY, lambda: view.remove_folder("/")),
        (errno.EBUSY, lambda: view.rename("/", "/e", 0)),
        (errno.EISDIR, lambda: view.unlink("/d")),
        (errno.EINVAL, lambda: view.rename("/d", "/d/e", 0)),
        (errno.EINVAL, lambda: view.rename("/d", "/e", 2)),  # RENAME_EXCHANGE
        (errno.EEXIST, lambda: view.rename("/d/f", "/s", 1)),  # RENAME_NOREPLACE
        (errno.ENOTDIR, lambda: view.rename("/d", "/s", 0)),
        (errno.EISDIR, lambda: view.rename("/s", "/d", 0)),
        (errno.ENODATA, lambda: view.get_xattr("/d/f", "user.none")),
        (errno.ENODATA, lambda: view.get_xattr("/d/f", "security.capability")),
        (errno.ENODATA, lambda: view.remove_xattr("/d/f", "user.none")),
        (errno.ENODATA, lambda: view.set_xattr("/d/f", "user.none", b"", 2)),
        (errno.EOPNOTSUPP, lambda: view.set_xattr("/d/f", "trusted.x", b"", 0)),
        (errno.ERANGE, lambda: view.set_xattr("/d/f", "user." + "n" * 255, b"", 0)),
        (errno.ENOSPC, lambda: view.set_xattr("/d/f", "user.big", bytes(65_537), 0)),
    ):
        fails(number, call)
    view.set_xattr("/d/f", "user.one", b"1", 1)
    fails(errno.EEXIST, lambda: view.set_xattr("/d/f", "user.one", b"2", 1))
    handle = view.open("/d/f", os.O_RDWR, CALLER)
    fails(errno.EFBIG, lambda: view.write(handle, b"x", (1 << 63) - 1))
    fails(errno.EOPNOTSUPP, lambda: view.allocate(handle, 64, 0, 1))
    fails(errno.ENOSPC, lambda: view.truncate_open(handle, 1 << 50))  # holes are no holes here
    fails(errno.ENOSPC, lambda: view.write(handle, b"x", 1 << 50))
    view.release(handle)


def test_room_for_a_file_is_checked_and_holes_are_punched(mounted: Mounted) -> None:
    mounted.write("/f", b"x" * 1000)
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    mounted.view.allocate(handle, 0, 0, 2000)
    assert mounted.view.attributes("/f").size == 2000
    mounted.view.allocate(handle, 1, 0, 5000)  # KEEP_SIZE
    assert mounted.view.attributes("/f").size == 2000
    mounted.view.allocate(handle, 3, 10, 10)  # KEEP_SIZE | PUNCH_HOLE
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == b"x" * 10 + bytes(10) + b"x" * 980 + bytes(1000)


def test_a_set_uid_bit_does_not_outlive_a_write(mounted: Mounted) -> None:
    mounted.write("/f", b"x", 0o4755)
    # as Linux has it: root keeps them, and set-gid without the group's right to run means locking
    for caller, mode, left in (
        (Caller(1234, 1234, 1), 0o6755, 0o755),
        (Caller(1234, 1234, 1), 0o6745, 0o2745),
        (Caller(0, 0, 1), 0o6755, 0o6755),
    ):
        handle = mounted.view.open("/f", os.O_RDWR, caller)
        mounted.view.set_mode("/f", mode)
        mounted.view.write(handle, b"y", 0)
        mounted.view.release(handle)
        assert mounted.view.attributes("/f").mode == left


def test_a_folder_with_set_gid_hands_its_group_down(mounted: Mounted) -> None:
    mounted.view.make_folder("/d", 0o755, CALLER)
    mounted.view.set_owner("/d", -1, 4321)
    mounted.view.set_mode("/d", 0o2755)
    mounted.view.make_folder("/d/e", 0o755, CALLER)
    mounted.write("/d/f", b"")
    assert mounted.view.attributes("/d/f").gid == 4321
    assert mounted.view.attributes("/d/e").gid == 4321
    assert mounted.view.attributes("/d/e").mode == 0o2755


def test_the_kernel_keeps_its_pages_until_somebody_else_changes_the_file(
    mounted: Mounted,
) -> None:
    mounted.write("/f", b"one")
    mounted.view.sync()
    handle = mounted.view.open("/f", os.O_RDONLY, CALLER)
    mounted.view.keeps_cache(handle)
    assert mounted.view.keeps_cache(handle)
    mounted.view.release(handle)


def test_nothing_is_open_after_a_while(mounted: Mounted) -> None:
    mounted.write("/f", b"one")
    handle = mounted.view.open("/f", os.O_RDONLY, CALLER)
    assert mounted.view.idle_seconds() is None
    mounted.view.release(handle)
    idle = mounted.view.idle_seconds()
    assert idle is not None
    assert 0 <= idle < 60


# -- saving -----------------------------------------------------------------------------------


def test_fsync_has_the_file_in_its_place(mounted: Mounted, tmp_path: Path) -> None:
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.write(handle, b"durable", 0)
    mounted.view.fsync(handle)
    assert mounted.view.unsaved() == []
    assert opened(mounted.path, tmp_path / "out") == {"f": b"durable"}
    mounted.view.write(handle, b"D", 0)
    assert mounted.view.unsaved() == ["f"]
    mounted.view.fsync(handle)
    assert opened(mounted.path, tmp_path / "again") == {"f": b"Durable"}
    mounted.view.release(handle)


def test_content_is_durable_before_its_name_and_both_before_fsync_returns(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/first", b"")  # makes the data key
    mounted.view.sync()
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.write(handle, b"durable", 0)
    seen: list[str] = []
    monkeypatch.setattr(calls, "probe", lambda name, _fd, _target: seen.append(name))
    mounted.view.fsync(handle)
    monkeypatch.setattr(calls, "probe", None)
    mounted.view.release(handle)
    order = [name for name in seen if name in ("write", "fsync", "rename_new", "sync_filesystem")]
    assert order[:3] == ["write", "fsync", "rename_new"]
    assert order[-1] in ("fsync", "sync_filesystem")
    assert order.index("rename_new") < len(order) - 1


def test_a_full_disk_shows_in_close_and_costs_nothing(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/f", b"old")
    mounted.view.sync()

    def full(name: str, _fd: int, _target: str) -> None:
        if name in ("write", "write_at"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    mounted.view.write(handle, b"new", 0)
    monkeypatch.setattr(calls, "probe", full)
    fails(errno.ENOSPC, lambda: mounted.view.flush(handle))
    fails(errno.ENOSPC, lambda: mounted.view.fsync(handle))
    mounted.view.release(handle)
    fails(errno.ENOSPC, mounted.view.sync)
    assert mounted.view.unsaved() == ["f"]
    assert mounted.read("/f") == b"new"
    fails(errno.ENOSPC, mounted.view.close)
    monkeypatch.setattr(calls, "probe", None)
    mounted.view.close()  # there is room again
    mounted.vault.close()
    mounted.begin()
    assert mounted.read("/f") == b"new"


@pytest.mark.parametrize("taken", ["keys", ""])
def test_nothing_counts_as_saved_that_nothing_would_open(mounted: Mounted, taken: str) -> None:
    mounted.write("/f", b"old")
    mounted.view.sync()
    place = mounted.path / ".encvault" / taken
    mounted.write("/f", b"new")
    place.rename(mounted.path.parent / "tidied")
    with pytest.raises(KeysMissing):
        mounted.view.sync()
    assert mounted.view.unsaved() == ["f"]
    with pytest.raises(KeysMissing):
        mounted.view.close()
    (mounted.path.parent / "tidied").rename(place)
    mounted.view.close()
    mounted.vault.close()
    mounted.begin()
    assert mounted.read("/f") == b"new"


def test_a_large_file_takes_its_room_when_it_is_closed(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _at: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    data = os.urandom(content.GROWING_SIZE + 1000)
    mounted.view.write(handle, data, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        fails(errno.ENOSPC, lambda: mounted.view.flush(handle))
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == data


def test_a_large_file_needs_no_more_room_than_it_took(mounted: Mounted) -> None:
    """Its first chunk is written last: the room for that is taken with the rest."""
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.write(handle, os.urandom(content.GROWING_SIZE + 1000), 0)
    mounted.view.flush(handle)
    growing = max((mounted.path / ".encvault").glob("*.tmp"), key=lambda path: path.stat().st_size)
    status = growing.stat()
    assert status.st_blocks * 512 >= status.st_size > content.GROWING_SIZE
    mounted.view.release(handle)


def test_a_large_file_that_could_not_be_finished_is_sealed_anew(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    data = os.urandom(content.GROWING_SIZE + 1000)
    mounted.view.write(handle, data, 0)

    def full(name: str, _fd: int, _target: str) -> None:
        if name == "write_at":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(calls, "probe", full)
    fails(errno.ENOSPC, lambda: mounted.view.fsync(handle))
    monkeypatch.setattr(calls, "probe", None)
    mounted.view.write(handle, b"tail", len(data))
    mounted.view.fsync(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == data + b"tail"
    assert not leftovers(mounted.path)


def test_a_large_file_whose_record_grew_is_sealed_anew(mounted: Mounted) -> None:
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    data = os.urandom(content.GROWING_SIZE + 1000)
    mounted.view.write(handle, data, 0)
    mounted.view.set_xattr("/f", "user.big", bytes(3000), 0)
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == data
    assert mounted.view.get_xattr("/f", "user.big") == bytes(3000)
    assert not leftovers(mounted.path)


def test_a_record_of_a_chunk_or_more_is_no_obstacle(mounted: Mounted) -> None:
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.set_xattr("/f", "user.big", bytes(60_000), 0)
    data = os.urandom(content.GROWING_SIZE + 1000)
    mounted.view.write(handle, data, 0)
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.again()
    assert mounted.read("/f") == data
    assert mounted.view.get_xattr("/f", "user.big") == bytes(60_000)


def test_a_failed_sync_is_told_and_tried_again(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/first", b"")
    mounted.view.sync()
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.write(handle, b"x", 0)

    def broken(name: str, _fd: int, _target: str) -> None:
        if name in ("fsync", "sync_filesystem"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(calls, "probe", broken)
    fails(errno.EIO, lambda: mounted.view.fsync(handle))
    monkeypatch.setattr(calls, "probe", None)
    assert mounted.view.unsaved() == ["f"]
    mounted.view.fsync(handle)
    assert mounted.view.unsaved() == []
    mounted.view.release(handle)


def test_who_closes_one_too_many_helps_to_save_them(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encvault.mount.saving._MAX_WAITING", 2)
    monkeypatch.setattr("encvault.mount.saving.SOON", 60.0)
    for name in "abcd":
        mounted.write(f"/{name}", b"x")
    assert len(mounted.view.unsaved()) < 3


def test_files_that_are_closed_are_saved_unasked(mounted: Mounted, tmp_path: Path) -> None:
    mounted.write("/f", b"x")
    for _attempt in range(2_000):
        if not mounted.view.unsaved():
            break
        time.sleep(0.01)
    assert opened(mounted.path, tmp_path / "out") == {"f": b"x"}


def test_a_file_in_parts(mounted: Mounted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sealing, "PART_SIZE", 700_000)
    data = os.urandom(2_000_003)
    mounted.write("/f", data)
    mounted.again()
    assert mounted.read("/f") == data
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    mounted.view.write(handle, b"abc", 1_400_000 - 1)
    mounted.view.flush(handle)
    mounted.view.release(handle)
    data = data[: 1_400_000 - 1] + b"abc" + data[1_400_002:]
    mounted.view.rename("/f", "/g", 0)
    mounted.again()
    assert opened(mounted.path, tmp_path / "out") == {"g": data}
    mounted.view.unlink("/g")
    mounted.view.sync()
    assert not list(mounted.path.glob(".encvault/objects/*/*"))
    assert mounted.names() == []


# -- other programs ---------------------------------------------------------------------------


def other_version(mounted: Mounted, path: str, data: bytes) -> bytes:
    """The sealed file that another machine would make."""
    mounted.end()
    with Mounted(mounted.path) as other:
        other.write(path, data)
    sealed = (mounted.path / f"{path[1:]}.sealed").read_bytes()
    mounted.begin()
    return sealed


def test_a_change_from_outside_is_noticed(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"old")
        mounted.view.sync()
        kept = (mounted.path / "f.sealed").read_bytes()
        theirs = other_version(mounted, "/f", b"theirs, and longer")
        (mounted.path / "f.sealed").write_bytes(kept)
        handle = mounted.view.open("/f", os.O_RDONLY, CALLER)
        assert bytes(mounted.view.read(handle, 9, 0)) == b"old"
        fresh = mounted.path / "f.new"
        fresh.write_bytes(theirs)
        fresh.rename(mounted.path / "f.sealed")
        assert mounted.view.attributes("/f").size == 18
        assert mounted.read("/f") == b"theirs, and longer"
        assert bytes(mounted.view.read(handle, 9, 0)) == b"old"  # as it was opened
        again = mounted.view.open("/f", os.O_RDONLY, CALLER)
        assert not mounted.view.keeps_cache(again)
        mounted.view.release(again)
        mounted.view.release(handle)
        (mounted.path / "f.sealed").unlink()
        fails(errno.ENOENT, lambda: mounted.view.attributes("/f"))
        assert mounted.names() == []


def test_attributes_that_come_with_a_listing_are_those_of_the_file(
    tmp_path: Path, layout: VaultLayout
) -> None:
    with Mounted(tmp_path / "v", layout) as mounted:
        mounted.write("/f", b"old")
        mounted.view.make_folder("/d", 0o755, CALLER)
        names = ["f", "none", "d"]

        def told(view: View) -> list[Attributes | None]:
            return [view.attributes("/f"), None, view.attributes("/d")]

        assert [*mounted.view.attributes_in("/", names)] == told(mounted.view)
        mounted.view.sync()
        assert [*mounted.view.attributes_in("/", names)] == told(mounted.view)
    with Mounted(tmp_path / "v", layout) as again:
        found = [*again.view.attributes_in("/", names)]
        assert found == told(again.view)
        assert found[0] is not None
        assert (found[0].kind, found[0].size) == ("file", 3)


def test_a_listing_tells_what_changed_underneath_and_nothing_of_what_is_broken(
    tmp_path: Path,
) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"old")
        mounted.view.sync()
        kept = (mounted.path / "f.sealed").read_bytes()

        def size() -> int | None:
            (found,) = mounted.view.attributes_in("/", ["f"])
            return found and found.size

        other_version(mounted, "/f", b"theirs, and longer")
        assert size() == 18
        (mounted.path / "f.new").write_bytes(kept)
        (mounted.path / "f.new").rename(mounted.path / "f.sealed")
        assert size() == 3
        (mounted.path / "f.sealed").write_bytes(bytes(len(kept)))
        assert size() is None
        (mounted.path / "f.sealed").unlink()
        assert size() is None


def test_a_folder_that_becomes_a_vault_of_its_own_is_shown_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is saved in it must not end up inside the other vault."""
    monkeypatch.setattr("encvault.mount.ondisk._PATIENCE", -1.0)  # looked for each time
    with Mounted(tmp_path / "v") as mounted:
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.view.sync()
        assert mounted.names() == ["d"]
        inner = str(mounted.path / "d")
        Vault.create(inner, [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible").close()
        assert mounted.names() == []
        fails(errno.ENOENT, lambda: mounted.view.attributes("/d"))
        fails(errno.ENOENT, lambda: mounted.view.create("/d/f", 0o644, os.O_WRONLY, CALLER))
        assert os.listdir(mounted.path / "d") == [".encvault"]


def test_attributes_are_looked_up_one_by_one(tmp_path: Path) -> None:
    """A listing ends where the kernel's page does; and others are served meanwhile."""
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"old")
        mounted.write("/g", b"old")
        mounted.view.sync()
        found = mounted.view.attributes_in("/", ["f", "g"])
        assert next(found) == mounted.view.attributes("/f")
        mounted.view.unlink("/g")
        assert next(found) is None


def test_two_versions_of_a_file_are_never_merged(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f.txt", b"old")
        mounted.view.sync()
        kept = (mounted.path / "f.txt.sealed").read_bytes()
        theirs = other_version(mounted, "/f.txt", b"theirs")
        (mounted.path / "f.txt.sealed").write_bytes(kept)
        handle = mounted.view.open("/f.txt", os.O_RDWR, CALLER)
        mounted.view.write(handle, b"ours", 0)
        (mounted.path / "f.new").write_bytes(theirs)
        (mounted.path / "f.new").rename(mounted.path / "f.txt.sealed")
        mounted.view.flush(handle)
        mounted.view.release(handle)
        mounted.again()
        names = mounted.names()
        assert len(names) == 2
        assert "f.txt" in names
        (conflict,) = set(names) - {"f.txt"}
        assert conflict.startswith("f (conflict ")
        assert conflict.endswith(").txt")
        assert mounted.read("/f.txt") == b"theirs"
        assert mounted.read(f"/{conflict}") == b"ours"
        assert mounted.watcher.problems


def test_files_that_are_not_of_the_vault_are_in_nobodys_way(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        (mounted.path / "plain").write_bytes(b"never sealed")
        (mounted.path / "notes.sealed").write_bytes(b"no sealed file at all")
        assert mounted.names() == ["notes"]  # only opening would tell
        fails(errno.ENOENT, lambda: mounted.view.attributes("/plain"))
        fails(errno.EEXIST, lambda: mounted.write("/plain", b"x"))
        mounted.write("/f", b"x")
        mounted.view.sync()
        fails(errno.EEXIST, lambda: mounted.view.rename("/f", "/plain", 0))
        fails(errno.EEXIST, lambda: mounted.view.make_folder("/plain", 0o755, CALLER))
        assert (mounted.path / "plain").read_bytes() == b"never sealed"


def test_a_folder_and_a_sealed_file_do_not_share_a_name(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        view = mounted.view
        handle = view.create("/f", 0o644, os.O_WRONLY | os.O_CREAT, CALLER)  # not saved yet
        view.make_folder("/d", 0o755, CALLER)
        fails(errno.EEXIST, lambda: view.make_folder("/f.sealed", 0o755, CALLER))
        fails(errno.EEXIST, lambda: view.rename("/d", "/f.sealed", 0))
        view.release(handle)
        view.sync()
        fails(errno.EEXIST, lambda: view.make_folder("/f.sealed", 0o755, CALLER))
        view.make_folder("/g.sealed", 0o755, CALLER)
        fails(errno.EEXIST, lambda: mounted.write("/g", b""))
        assert mounted.names() == ["d", "f", "g.sealed"]


def test_a_vault_in_the_vault_is_not_entered(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        (mounted.path / "inner" / ".encvault").mkdir(parents=True)
        assert mounted.names() == []
        fails(errno.ENOENT, lambda: mounted.view.attributes("/inner"))
        fails(errno.EEXIST, lambda: mounted.view.make_folder("/inner", 0o755, CALLER))


def test_damage_is_an_error_and_no_content(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", os.urandom(100_000))
        mounted.write("/g", b"small")
        mounted.view.sync()
        mounted.again()
        for name, at in (("f", -10), ("g", 20)):
            path = mounted.path / f"{name}.sealed"
            data = bytearray(path.read_bytes())
            data[at] ^= 1
            path.write_bytes(data)
        with pytest.raises(ChunkCorrupt):
            mounted.view.open("/f", os.O_RDONLY, CALLER)
        with pytest.raises(MalformedHeader):
            mounted.view.attributes("/g")
        path = mounted.path / "f.sealed"
        path.write_bytes(path.read_bytes()[:-16])
        with pytest.raises(ChunkCorrupt):
            mounted.view.open("/f", os.O_RDONLY, CALLER)


def test_a_small_file_that_is_known_is_not_opened_again(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_files: list[str] = []

    def note(name: str, _fd: int, target: str) -> None:
        if name == "open_read":
            opened_files.append(target)

    mounted.write("/f", b"small")
    mounted.write("/empty", b"")
    mounted.write("/large", bytes(16_385))
    mounted.view.sync()
    monkeypatch.setattr(calls, "probe", note)
    assert (mounted.read("/f"), mounted.read("/empty")) == (b"small", b"")
    assert opened_files == []
    assert mounted.read("/large") == bytes(16_385)
    assert opened_files
    monkeypatch.setattr(calls, "probe", None)
    mounted.again()
    assert mounted.read("/f") == b"small"
    monkeypatch.setattr(calls, "probe", note)
    opened_files.clear()
    assert mounted.read("/f") == b"small"
    assert opened_files == []
    monkeypatch.setattr(calls, "probe", None)


def test_damage_to_a_file_that_is_in_memory_is_noticed(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"small")
        mounted.view.sync()
        assert mounted.read("/f") == b"small"
        path = mounted.path / "f.sealed"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        os.utime(path, (1, 1))  # within the same tick of the clock nobody would see it
        with pytest.raises(ChunkCorrupt):
            mounted.view.open("/f", os.O_RDONLY, CALLER)


def test_a_folder_that_was_just_looked_at_is_not_found_after_it_was_moved(mounted: Mounted) -> None:
    mounted.view.make_folder("/d", 0o755, CALLER)
    mounted.view.make_folder("/d/e", 0o755, CALLER)
    mounted.write("/d/e/f", b"x")
    mounted.view.rename("/d", "/c", 0)
    fails(errno.ENOENT, lambda: mounted.view.attributes("/d/e/f"))
    assert mounted.read("/c/e/f") == b"x"
    mounted.view.unlink("/c/e/f")
    mounted.view.remove_folder("/c/e")
    fails(errno.ENOENT, lambda: mounted.write("/c/e/f", b"y"))
    mounted.write("/c/e", b"z")
    fails(errno.ENOTDIR, lambda: mounted.view.attributes("/c/e/f"))


def test_a_file_that_comes_from_outside_is_seen_soon_after_it_was_missed(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"x")
        mounted.view.sync()
        fails(errno.ENOENT, lambda: mounted.view.attributes("/g"))
        (mounted.path / "f.sealed").rename(mounted.path / "g.sealed")
        time.sleep(0.1)
        assert mounted.view.attributes("/g").size == 1


def test_who_makes_a_file_where_another_just_came_keeps_both(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"from outside")
        mounted.view.sync()
        fails(errno.ENOENT, lambda: mounted.view.attributes("/g"))
        (mounted.path / "f.sealed").rename(mounted.path / "g.sealed")
        mounted.write("/g", b"from here")
        mounted.view.sync()
        mounted.again()
        assert {mounted.read(f"/{name}") for name in mounted.names()} == {
            b"from outside",
            b"from here",
        }


def test_names_show_in_the_time_of_a_folder_and_saving_does_not(mounted: Mounted) -> None:
    view = mounted.view
    view.make_folder("/d", 0o755, CALLER)
    view.make_folder("/d/gone", 0o755, CALLER)
    view.make_folder("/d/sub", 0o755, CALLER)
    mounted.write("/d/f", b"x")
    view.sync()
    old = 1_000_000_000 * 10**9
    changes: list[Callable[[], None]] = [
        lambda: view.make_folder("/d/new", 0o755, CALLER),
        lambda: view.remove_folder("/d/gone"),
        lambda: view.rename("/d/sub", "/d/sub2", 0),
        lambda: mounted.write("/d/g", b"y"),
        lambda: view.rename("/d/g", "/d/h", 0),
        lambda: view.unlink("/d/h"),
    ]
    for change in changes:
        view.set_times("/d", old, CALLER)
        mounted.write("/d/f", os.urandom(5))
        view.sync()
        assert view.attributes("/d").mtime_ns == old
        mounted.write("/d/f", os.urandom(5))
        change()
        assert view.attributes("/d").mtime_ns > old
        view.sync()
        assert view.attributes("/d").mtime_ns > old
    mounted.again()
    assert mounted.view.attributes("/d").mtime_ns > old


# -- what a second reader broke -----------------------------------------------------------------


def broken(*names: str) -> Callable[[str, int, str], None]:
    def probe(name: str, _fd: int, _target: str) -> None:
        if name in names:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    return probe


def test_a_copy_that_cannot_take_its_place_is_told_to_whoever_waits(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/kept", b"")
    mounted.view.sync()
    monkeypatch.setattr(calls, "probe", broken("rename_new", "replace"))
    mounted.write("/f", b"precious")
    fails(errno.EACCES, mounted.view.sync)
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    fails(errno.EACCES, lambda: mounted.view.fsync(handle))
    mounted.view.release(handle)
    fails(errno.EACCES, mounted.view.close)
    assert mounted.view.unsaved() == ["f"]
    monkeypatch.setattr(calls, "probe", None)
    mounted.view.sync()
    assert mounted.view.unsaved() == []
    mounted.again()
    assert mounted.read("/f") == b"precious"


def test_a_file_that_is_written_on_and_on_can_be_synced(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = mounted.view.create("/f", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.write(handle, b"begun", 0)
    more: list[int] = []

    def write_on(name: str, _fd: int, _target: str) -> None:
        if name in ("fsync", "sync_filesystem"):
            more.append(mounted.view.write(handle, b"on", 5 + 2 * len(more)))

    monkeypatch.setattr(calls, "probe", write_on)
    mounted.view.fsync(handle)
    monkeypatch.setattr(calls, "probe", None)
    assert more
    with Mounted(copied(mounted)) as other:
        assert other.read("/f").startswith(b"begun")
    mounted.view.release(handle)


def test_a_name_that_the_disk_cannot_have_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Mounted(tmp_path / "v") as mounted:

        def like_fat(name: str, _fd: int, target: str) -> None:
            if name == "create" and ":" in target:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(calls, "probe", like_fat)
        fails(errno.EINVAL, lambda: mounted.write("/a:b?", b"x"))
        monkeypatch.setattr(calls, "probe", None)
        assert mounted.names() == []
        mounted.write("/a:b?", b"x")
        mounted.write("/" + "long " * 20, b"y")
        mounted.view.sync()
        assert mounted.names() == ["a:b?", "long " * 20]


@pytest.mark.parametrize("name", ["长" * 85, "x" * 251 + ".txt", "a." + "长" * 84, "." + "y" * 254])
def test_a_conflict_of_a_long_name_has_a_name_that_can_be_read(mounted: Mounted, name: str) -> None:
    mounted.write(f"/{name}", b"old")
    mounted.view.sync()
    for turn in (b"mine", b"mine too"):
        handle = mounted.view.open(f"/{name}", os.O_RDWR, CALLER)
        mounted.view.write(handle, turn, 0)
        node = mounted.view._find_file(f"/{name}")
        mounted.view._saver.displaced(node)
        told = mounted.watcher.problems.pop()
        assert isinstance(told, SavedAside)
        assert (told.path, told.name) == (f"{mounted.path}/{name}", node.name)
        mounted.view.release(handle)
        mounted.view.sync()
        mounted.again()
        mounted.write(f"/{name}", b"old")
        mounted.view.sync()
    contents = {mounted.read(f"/{one}") for one in mounted.names()}
    assert contents == {b"old", b"mine", b"mine too"}


def test_a_folder_that_was_replaced_outside_is_the_new_one(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.write("/d/a", b"hello")
        mounted.view.sync()
        shutil.copy(mounted.path / "d" / "a.sealed", tmp_path)
        (mounted.path / "d").rename(mounted.path / "d.old")
        (mounted.path / "d").mkdir()
        time.sleep(1.2)
        assert mounted.names("/d") == []
        mounted.write("/d/b", b"new")
        mounted.view.sync()
        assert os.listdir(mounted.path / "d") == ["b.sealed"]
        assert os.listdir(mounted.path / "d.old") == ["a.sealed"]


def test_a_folder_that_was_removed_outside_is_made_anew_for_what_is_saved(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.write("/d/a", b"hello")
        mounted.view.sync()
        handle = mounted.view.open("/d/a", os.O_RDWR, CALLER)
        mounted.view.write(handle, b"H", 0)
        mounted.view.flush(handle)
        shutil.rmtree(mounted.path / "d")
        time.sleep(1.2)
        mounted.view.release(handle)
        mounted.view.sync()
        mounted.again()
        assert mounted.read("/d/a") == b"Hello"


def test_a_folder_of_objects_that_comes_back_is_read(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v", "hidden") as mounted:
        mounted.write("/f", bytes(20_000))
        mounted.view.sync()
        [folder] = (mounted.path / ".encvault" / "objects").iterdir()
        shutil.copytree(folder, tmp_path / "away")
        shutil.rmtree(folder)
        time.sleep(1.2)
        assert mounted.names() == []
        shutil.copytree(tmp_path / "away", folder)
        time.sleep(1.2)
        assert mounted.read("/f") == bytes(20_000)


@pytest.mark.parametrize("what", ["attribute", "link", "copy"])
def test_a_sealed_file_that_is_the_same_one_is_no_conflict(tmp_path: Path, what: str) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.write("/f", b"old")
        mounted.view.sync()
        handle = mounted.view.open("/f", os.O_RDWR, CALLER)
        sealed = mounted.path / "f.sealed"
        if what == "attribute":
            os.setxattr(sealed, "user.sync", b"1")
        elif what == "link":
            (tmp_path / "backup").hardlink_to(sealed)
        else:
            shutil.copy(sealed, tmp_path / "copy")
            (tmp_path / "copy").replace(sealed)
        assert mounted.view.attributes("/f").ino == mounted.view.attributes_of(handle).ino
        mounted.view.write(handle, b"new", 0)
        mounted.view.release(handle)
        mounted.view.sync()
        assert mounted.names() == ["f"]
        assert mounted.read("/f") == b"new"


def test_what_is_refused_does_not_empty_a_file(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/f", b"kept")
    mounted.view.sync()

    def refuse(_access: object, _caller: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(mounted.watcher, "opened", refuse)
        fails(errno.EIO, lambda: mounted.view.open("/f", os.O_RDWR | os.O_TRUNC, CALLER))
        flags = os.O_RDWR | os.O_CREAT
        fails(errno.EIO, lambda: mounted.view.create("/new", 0o644, flags, CALLER))
    assert mounted.read("/f") == b"kept"
    assert mounted.names() == ["f"]


def test_who_makes_a_file_to_read_and_write_may_read_what_others_write(mounted: Mounted) -> None:
    mounted.view.create("/box", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.create("/other", 0o644, os.O_RDWR | os.O_CREAT, CALLER)
    mounted.view.create("/written", 0o644, os.O_WRONLY | os.O_CREAT, CALLER)
    opens = [access for access, _caller in mounted.watcher.opens]
    assert [access.path for access in opens] == ["box", "other"]
    assert len({access.ino for access in opens}) == 2


def test_the_new_name_of_a_folder_is_told(mounted: Mounted) -> None:
    mounted.view.make_folder("/d", 0o755, CALLER)
    mounted.write("/d/f", b"x")
    mounted.view.sync()
    mounted.watcher.saves.clear()
    mounted.view.rename("/d", "/e", 0, CALLER)
    mounted.view.sync()
    event = ("rename", Access("d", "", None), CALLER, "e")
    assert event in mounted.watcher.saves


def test_a_file_that_is_being_sealed_keeps_nobody_from_the_others(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/large", bytes(100_000))
    mounted.write("/other", b"x")
    mounted.view.sync()
    is_sealing, go_on = threading.Event(), threading.Event()

    def slow(name: str, _fd: int, _target: str) -> None:
        if name == "write" and threading.current_thread() is sealing_thread:
            is_sealing.set()
            assert go_on.wait(10)

    handle = mounted.view.open("/large", os.O_RDWR, CALLER)
    mounted.view.write(handle, b"y", 5)
    sealing_thread = threading.Thread(target=mounted.view.flush, args=(handle,))
    monkeypatch.setattr(calls, "probe", slow)
    sealing_thread.start()
    assert is_sealing.wait(10)
    changes = [
        threading.Thread(target=mounted.view.set_mode, args=("/large", 0o600, CALLER)),
        threading.Thread(target=mounted.view.rename, args=("/large", "/renamed", 0, CALLER)),
    ]
    for thread in changes:
        thread.start()
    time.sleep(0.1)
    looked = threading.Thread(target=mounted.view.attributes, args=("/other",))
    looked.start()
    looked.join(5)
    assert not looked.is_alive()
    go_on.set()
    for thread in (*changes, sealing_thread):
        thread.join(10)
        assert not thread.is_alive()
    monkeypatch.setattr(calls, "probe", None)
    mounted.view.release(handle)
    assert mounted.read("/renamed")[:6] == b"\0\0\0\0\0y"


def test_another_group_leaves_a_folder_its_set_gid(mounted: Mounted) -> None:
    mounted.view.make_folder("/d", 0o755, CALLER)
    mounted.view.set_mode("/d", 0o2775, CALLER)
    mounted.view.set_owner("/d", -1, 4321, CALLER)
    assert mounted.view.attributes("/d").mode == 0o2775


def test_an_open_folder_stays_what_it_is_under_another_name(mounted: Mounted) -> None:
    view = mounted.view
    view.make_folder("/d", 0o755, CALLER)
    folder = view.open_folder("/d")
    view.rename("/d", "/e", 0)
    view.make_folder("/d", 0o755, CALLER)
    assert view.path_of(folder) == "/e"
    view.remove_folder("/e")
    fails(errno.ENOENT, lambda: view.path_of(folder))
    view.close_folder(folder)


def test_a_file_with_its_own_keyslots_is_not_opened(tmp_path: Path) -> None:
    alone = tmp_path / "alone.txt"
    alone.write_bytes(b"x")
    operations.seal(operations.SealRequest(paths=(str(alone),)), keys())
    with Mounted(tmp_path / "v") as mounted:
        (tmp_path / "alone.txt.sealed").rename(mounted.path / "alone.txt.sealed")
        with pytest.raises(SealedAlone):
            mounted.view.attributes("/alone.txt")
        with pytest.raises(SealedAlone):
            mounted.write("/alone.txt", b"y")


def test_what_has_another_name_is_sealed_anew_before_its_own_is_taken(mounted: Mounted) -> None:
    mounted.write("/a", b"first")
    mounted.view.sync()
    mounted.view.rename("/a", "/b", 0)
    handle = mounted.view.create("/a", 0o644, os.O_WRONLY | os.O_CREAT, CALLER)
    mounted.view.write(handle, b"second", 0)
    mounted.view.fsync(handle)
    with Mounted(copied(mounted)) as other:
        assert (other.read("/a"), other.read("/b")) == (b"second", b"first")
    mounted.view.release(handle)


def test_files_that_a_killed_mount_left_astray_are_sealed_anew(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v") as mounted:
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.write("/d/f", b"x")
        mounted.view.sync()
    (tmp_path / "v" / "d").rename(tmp_path / "v" / "e")
    (tmp_path / "v" / ".encvault" / "lock").write_text("pid 1 on host\n")  # as a kill leaves it
    with Mounted(tmp_path / "v") as mounted:
        # had it kept its old path in its record, this file would now stand where another belongs
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.write("/d/f", b"another")
        mounted.again()
        assert mounted.read("/e/f") == b"x"
        assert mounted.read("/d/f") == b"another"


def test_a_folder_that_got_another_name_leaves_its_own_to_others(mounted: Mounted) -> None:
    mounted.view.make_folder("/d", 0o755, CALLER)
    for name in "abc":
        mounted.write(f"/d/{name}", name.encode())
    mounted.view.sync()
    mounted.again()
    mounted.view.rename("/d", "/old", 0)
    mounted.view.make_folder("/d", 0o755, CALLER)
    for name in "abc":
        mounted.write(f"/d/{name}", b"new " + name.encode())
    mounted.again()
    for name in "abc":
        assert mounted.read(f"/old/{name}") == name.encode()
        assert mounted.read(f"/d/{name}") == b"new " + name.encode()


def object_at(mounted: Mounted, path: str) -> Path:
    source = mounted.view._find(path).source
    assert source is not None
    return mounted.path / source.folder / source.name


def test_objects_that_come_and_go_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden, "_PATIENCE", 0.0)
    with Mounted(tmp_path / "v", "hidden") as mounted:
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.write("/d/f", b"one")
        mounted.view.sync()
        mounted.write("/d/g", b"two")
        mounted.view.sync()
        new, ours = object_at(mounted, "/d/g"), object_at(mounted, "/d/f")
        data = new.read_bytes()
        new.unlink()
        assert mounted.names("/d") == ["f"]
        new.write_bytes(data)
        assert mounted.names("/d") == ["f", "g"]
        assert mounted.read("/d/g") == b"two"
        (new.parent / ("b" * 25 + "a")).write_bytes(b"no object")
        mounted.names()
        ours.unlink()
        assert mounted.names("/d") == ["g"]
        object_at(mounted, "/d").unlink()  # the folder is still needed
        assert mounted.names("/d") == ["g"]
        mounted.again()
        assert mounted.watcher.problems


def test_two_versions_of_a_hidden_file_stay_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden, "_PATIENCE", 0.0)
    with Mounted(tmp_path / "v", "hidden") as mounted:
        mounted.write("/f.txt", b"old")
        mounted.view.sync()
        old = object_at(mounted, "/f.txt")
        there = mounted.path.with_name("there")
        shutil.copytree(mounted.path, there)
        with Mounted(there) as other:
            other.write("/f.txt", b"theirs")
            other.view.sync()
            theirs = object_at(other, "/f.txt")
        reader = mounted.view.open("/f.txt", os.O_RDONLY, CALLER)
        handle = mounted.view.open("/f.txt", os.O_RDWR, CALLER)
        mounted.view.write(handle, b"ours", 0)
        old.unlink()
        for part in (".encvault/keys", str(theirs.relative_to(there))):
            source, target = there / part, mounted.path / part
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        names = mounted.names()
        (conflict,) = set(names) - {"f.txt"}
        assert conflict.startswith("f (conflict ")
        assert mounted.read("/f.txt") == b"theirs"
        assert bytes(mounted.view.read(reader, 9, 0)) == b"ours"  # as it was opened
        mounted.view.release(reader)
        mounted.view.release(handle)
        mounted.again()
        assert mounted.read("/f.txt") == b"theirs"
        assert mounted.read(f"/{conflict}") == b"ours"


def test_an_object_that_comes_before_its_key_is_taken_when_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden, "_PATIENCE", 0.0)
    with Mounted(tmp_path / "v", "hidden") as mounted:
        mounted.write("/f", b"one")
        mounted.view.sync()
        there = mounted.path.with_name("there")
        shutil.copytree(mounted.path, there)
        with Mounted(there) as other:
            other.write("/g", b"two")
            other.view.sync()
            new = object_at(other, "/g")
        target = mounted.path / new.relative_to(there)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(new, target)
        assert mounted.names() == ["f"]
        shutil.copytree(
            there / ".encvault/keys", mounted.path / ".encvault/keys", dirs_exist_ok=True
        )
        assert mounted.names() == ["f", "g"]
        assert mounted.read("/g") == b"two"


def test_an_older_object_of_the_same_path_does_not_come_back(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v", "hidden") as mounted:
        mounted.write("/f", b"old")
        mounted.view.sync()
        (object_,) = mounted.path.glob(".encvault/objects/*/*")
        data = object_.read_bytes()
        mounted.write("/f", b"new")
        mounted.view.sync()
        object_.write_bytes(data)  # as a program that syncs might
        mounted.again()
        assert mounted.read("/f") == b"new"
        mounted.view.unlink("/f")
        mounted.again()
        assert mounted.names() == []


def test_a_lost_folder_object_costs_no_file(tmp_path: Path) -> None:
    with Mounted(tmp_path / "v", "hidden") as mounted:
        mounted.view.make_folder("/d", 0o755, CALLER)
        mounted.view.sync()
        mounted.write("/d/f", b"x")
        mounted.view.sync()
        object_at(mounted, "/d").unlink()
        mounted.again()
        (lost,) = mounted.names("/lost+found")
        assert mounted.read(f"/lost+found/{lost}/f") == b"x"
        mounted.view.rename(f"/lost+found/{lost}/f", "/f", 0)
        mounted.again()
        assert mounted.read("/f") == b"x"


def test_who_asks_has_his_content_saved_however_fast_others_write(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/f", b"0")
    handle = mounted.view.open("/f", os.O_RDWR, CALLER)
    other = mounted.view.open("/f", os.O_RDWR, CALLER)
    sync, count = sealing.Sealer.sync, itertools.count(1)

    def written_meanwhile(
        sealer: sealing.Sealer, copies: list[sealing.Prepared]
    ) -> list[OSError | None]:
        told = sync(sealer, copies)
        mounted.view.write(other, b"%d" % next(count), 0)
        mounted.view.flush(other)
        return told

    with monkeypatch.context() as patch:
        patch.setattr(sealing.Sealer, "sync", written_meanwhile)
        mounted.view.write(handle, b"asked", 0)
        mounted.view.fsync(handle)
        assert next(count) == 2  # the first attempt was enough
    assert opened(mounted.path, mounted.path.with_name("durable"))["f"] == b"asked"
    for one in (handle, other):
        mounted.view.release(one)
    mounted.again()
    assert mounted.read("/f") == b"1sked"
    assert not leftovers(mounted.path)


def test_a_file_that_goes_while_it_is_opened_is_not_there(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write("/f", b"never saved")
    open_node = OpenFiles._open

    def late(view: OpenFiles, *arguments: Any) -> int:
        mounted.view.unlink("/f")
        return open_node(view, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(OpenFiles, "_open", late)
        fails(errno.ENOENT, lambda: mounted.view.open("/f", os.O_RDONLY, CALLER))
    assert mounted.names("/") == []


# -- many at once -----------------------------------------------------------------------------

EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
BUSY_VERBS = [
    *("write", "write", "fsync", "rename", "rename", "unlink", "list", "read"),
    *("swap", "chmod", "sync"),
]


class Busy:
    """One of several threads that do what they like in the same two folders."""

    def __init__(self, mounted: Mounted, number: int) -> None:
        self.mounted = mounted
        self.number = number
        self.chance = random.Random(number)
        self.errors: list[Exception] = []

    def run(self) -> None:
        for step in range(60):
            try:
                self.step(step)
            except SourceMissing:
                pass  # renamed between two looks
            except OSError as error:
                if error.errno not in EXPECTED:
                    self.errors.append(error)
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.errors.append(error)

    def step(self, step: int) -> None:
        view, chance = self.mounted.view, self.chance
        path, other = (f"/{chance.choice('de')}/{chance.choice('abcd')}" for _one in "12")
        verb = chance.choice(BUSY_VERBS)
        if verb in ("write", "fsync"):
            self.write(path, b"%d-%d|" % (self.number, step), durable=verb == "fsync")
        elif verb == "rename":
            view.rename(path, other, 0)
        elif verb == "unlink":
            view.unlink(path)
        elif verb == "list":
            for name, _kind in view.listing("/d"):
                view.attributes(f"/d/{name}")
        elif verb == "read":
            self.mounted.read(path)
        elif verb == "chmod":
            view.set_mode(path, 0o600)
        elif verb == "sync":
            view.sync()
        else:
            for old, new in (("/d", "/t"), ("/e", "/d"), ("/t", "/e")):
                view.rename(old, new, 0)

    def write(self, path: str, mark: bytes, *, durable: bool) -> None:
        view = self.mounted.view
        data = mark * self.chance.choice([1, 1000, 40_000, 150_000])
        handle = view.create(path, 0o644, os.O_RDWR | os.O_CREAT, CALLER)
        try:
            view.truncate_open(handle, 0)
            for start in range(0, len(data), 131_072):
                view.write(handle, data[start : start + 131_072], start)
            if durable:
                view.fsync(handle)
            view.flush(handle)
        finally:
            view.release(handle)


def test_threads_get_in_nobodys_way(mounted: Mounted) -> None:
    for name in "de":
        mounted.view.make_folder(f"/{name}", 0o755, CALLER)
    busy = [Busy(mounted, number) for number in range(4)]
    threads = [threading.Thread(target=one.run) for one in busy]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error for one in busy for error in one.errors] == []
    assert mounted.watcher.problems == []
    mounted.end()
    try:
        report = operations.verify(str(mounted.path), keys())
        assert report.problems == []
        assert not leftovers(mounted.path)
    finally:
        mounted.begin()


# -- the index of the hidden layout -----------------------------------------------------------


def indexed(path: Path) -> list[Path]:
    return list((path / ".encvault" / "index").glob("*"))


def test_what_was_saved_is_in_the_index_of_the_next_mount(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "hidden") as mounted:
        mounted.view.make_folder("/folder", 0o755, CALLER)
        for name in ("/a", "/folder/b", "/gone"):
            mounted.write(name, b"content")
        mounted.view.unlink("/gone")
        mounted.again()
        [part] = indexed(mounted.path)
        assert set(read_index(mounted.vault)) == {
            file.name for file in (mounted.path / ".encvault" / "objects").glob("*/*")
        }
        mounted.again()
        assert indexed(mounted.path) == [part]  # nothing was saved
        part.unlink()
        mounted.read_only = True
        mounted.again()
        mounted.again()
        assert indexed(mounted.path) == []
        mounted.read_only = False
        mounted.again()
        mounted.again()
        assert len(indexed(mounted.path)) == 1  # of what was there already


def test_an_index_that_lies_gives_nobody_anothers_content(tmp_path: Path) -> None:
    with Mounted(tmp_path / "vault", "hidden") as mounted:
        mounted.write("/prices", b"secret prices")
        mounted.write("/public", b"for everybody")
        mounted.again()
        known = {one.path: (file, one) for file, one in read_index(mounted.vault).items()}
        [part] = indexed(mounted.path)
        part.unlink()
        key = mounted.vault.new_data_key()
        writer = IndexWriter(mounted.vault, lambda: key)
        for mine, other in (("prices", "public"), ("public", "prices")):
            writer.add(known[mine][0], known[other][1].encode())
        writer.flush()
        mounted.again()
        for name in ("/prices", "/public"):
            with pytest.raises(MalformedRecord, match="another than the index says"):
                mounted.read(name)


# -- a drive that is pulled out ---------------------------------------------------------------


def test_files_of_a_drive_that_was_pulled_out_are_not_gone(
    mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's driver for FAT says then that nothing is there."""
    monkeypatch.setattr(hidden, "_PATIENCE", 0.0)
    device = tmp_path / "device"
    device.touch()
    mounted.view.make_folder("/folder", 0o755, CALLER)
    for name in ("/a", "/folder/b"):
        mounted.write(name, b"content")
    mounted.again()
    mounted.vault.tree._drives = [str(device)]
    assert mounted.names() == ["a", "folder"]
    for path in [*mounted.path.rglob("*.sealed"), *mounted.path.glob(".encvault/objects/*/*")]:
        path.unlink()
    for path in mounted.path.glob("folder"):
        path.rmdir()
    device.unlink()
    monkeypatch.setattr(hidden, "_PATIENCE", 60.0)  # it is opened as it was known
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        mounted.read("/a")
    monkeypatch.setattr(hidden, "_PATIENCE", 0.0)
    for call in (
        mounted.names,
        lambda: mounted.read("/a"),
        lambda: mounted.names("/folder"),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
            call()
    device.touch()
    assert "a" not in mounted.names()
