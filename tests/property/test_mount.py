"""Whatever programs do in a mount has the same result as in a folder of an ordinary disk.

Every rule does one thing in both places and compares what came of it; after each rule everything
that can be seen is compared, also through the files that are open. Both trees stay, and are
compared once more after the last remount.
"""

from __future__ import annotations

import itertools
import mmap
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mount_trees import (
    FILES,
    KINDS,
    NOW,
    RENAME_NOREPLACE,
    Side,
    difference,
    open_facts,
    outcome,
    pattern,
    renameat2,
    seen,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mounting import MountedVault

# for each layout; raise them to look harder
EXAMPLES = 40
STEPS = 30

CHUNK = 16_384
BORDERS = [0, 1, 4096, CHUNK, 65_536, 131_072, 1_048_576, 1_200_000]
MAX_OPEN = 6

NAMES = [
    "a",
    "b",
    "c.sealed",  # not beside a file "c": in the visible layout no folder may be called so then
    "报价单 2026.xlsx",
    "n" * 254 + "1",
    "n" * 254 + "2",
    "中" * 85,
    "n" * 256,  # one too long
    "\udcff.bin",
]
FOLDERS = ["", "d", "d/e", "文件夹.sealed"]
TARGETS = ["a", "d", "./报价单 2026.xlsx", "../a", "nowhere/at all", "l" * 1000]
SESSION = ["write_at", "write_at", "write_on", "read_at", "truncate", "fsync"]
XATTRS = ["user.comment", "user.备注", "user.a"]

# a number is one of the paths that are there, so that most calls find something
there = st.integers(0, 30)
new_files = st.builds(os.path.join, st.sampled_from(FOLDERS), st.sampled_from(NAMES))
files = st.one_of(there, there, new_files)
new_paths = st.one_of(new_files, st.sampled_from(FOLDERS[1:]))
paths = st.one_of(there, there, new_paths)
which = st.integers(0, MAX_OPEN - 1)
offsets = st.builds(
    lambda border, by: max(0, border + by), st.sampled_from(BORDERS), st.integers(-2, 2)
)
sizes = st.one_of(st.integers(1, 100), offsets.filter(bool))
times = st.integers(10**18, NOW - 1)
open_flags = st.builds(
    lambda access, *more: access | sum(more),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]),
    *(
        st.sampled_from([0, flag] if flag != os.O_CREAT else [0, flag, flag, flag])
        for flag in (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_SYNC, os.O_NOFOLLOW)
    ),
)


class Machine(RuleBasedStateMachine):
    """The two places, and what may be done in them."""

    def __init__(self, vault: MountedVault, plain: Path, numbers: Iterator[int]) -> None:
        super().__init__()
        self.vault = vault
        self.mount = Side(vault.folder)
        self.plain = Side(plain)
        self.seeds = itertools.count(1)
        example = f"e{next(numbers):05}"
        for side in (self.mount, self.plain):
            # one folder between: a link to ../a stays in the example
            side.root = str(side.base / example / "t")
            os.makedirs(side.root)
            for folder in FOLDERS[1:]:
                os.mkdir(side.at(folder))
            os.symlink("a", side.at("link"))
            for file in ("b", "d/b"):
                with open(side.at(file), "wb") as stream:
                    stream.write(pattern(CHUNK + 1, 0))

    def both(self, act: Callable[[Side], object]) -> object:
        expected = outcome(act, self.plain)
        assert outcome(act, self.mount) == expected
        return expected

    def name(self, path: str | int, *, kinds: tuple[int, ...] = KINDS) -> str:
        """The path that a rule is about."""
        if isinstance(path, str):
            return path
        top = self.plain.root + "/"
        found = [name.removeprefix(top) for name, kind in walk(self.plain.root) if kind in kinds]
        return found[path % len(found)] if found else "a"

    def open_file(self, index: int) -> int:
        return index % len(self.plain.fds)

    is_open = precondition(lambda self: self.plain.fds)

    # -- files --------------------------------------------------------------------------

    @precondition(lambda self: len(self.plain.fds) < MAX_OPEN)
    @rule(path=files, flags=open_flags, mode=st.sampled_from([0o644, 0o600, 0o755, 0o444]))
    def open_one(self, path: str | int, flags: int, mode: int) -> None:
        path = self.name(path, kinds=FILES)

        def act(side: Side) -> str:
            side.fds.append(os.open(side.at(path), flags | os.O_CLOEXEC, mode))
            return "open"

        self.both(act)

    @rule(path=files, size=sizes, mode=st.sampled_from([0o644, 0o640]))
    def write_whole(self, path: str | int, size: int, mode: int) -> None:
        path = self.name(path, kinds=FILES)
        data = pattern(size, next(self.seeds))

        def act(side: Side) -> int:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fd = os.open(side.at(path), flags, mode)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)

        self.both(act)

    @precondition(lambda self: len(self.plain.fds) < MAX_OPEN)
    @rule(
        path=files,
        flags=st.sampled_from([0, os.O_TRUNC, os.O_APPEND]),
        steps=st.lists(st.tuples(st.sampled_from(SESSION), offsets, sizes), min_size=2, max_size=8),
    )
    def work_on(self, path: str | int, flags: int, steps: list[tuple[str, int, int]]) -> None:
        """What a program does to one file, with nobody looking on."""
        before = len(self.plain.fds)
        self.open_one(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        if len(self.plain.fds) == before:
            return
        for step, offset, size in steps:
            if step == "write_at":
                self.write_at(before, offset, size)
            elif step == "write_on":
                self.write_on(before, size)
            elif step == "read_at":
                self.read_at(before, offset, size)
            elif step == "truncate":
                self.truncate_open(before, offset)
            else:
                self.fsync(before)

    @is_open
    @rule(index=which, offset=offsets, size=sizes)
    def write_at(self, index: int, offset: int, size: int) -> None:
        index, data = self.open_file(index), pattern(size, next(self.seeds))
        self.both(lambda side: os.pwrite(side.fds[index], data, offset))

    @is_open
    @rule(index=which, size=sizes)
    def write_on(self, index: int, size: int) -> None:
        index, data = self.open_file(index), pattern(size, next(self.seeds))
        self.both(lambda side: os.write(side.fds[index], data))
        self.both(lambda side: os.lseek(side.fds[index], 0, os.SEEK_CUR))

    @is_open
    @rule(index=which, offset=offsets, size=sizes)
    def read_at(self, index: int, offset: int, size: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: os.pread(side.fds[index], size, offset))

    @is_open
    @rule(index=which, offset=offsets, whence=st.sampled_from([os.SEEK_SET, os.SEEK_END]))
    def seek_and_read(self, index: int, offset: int, whence: int) -> None:
        index = self.open_file(index)
        by = -offset if whence == os.SEEK_END else offset
        self.both(lambda side: os.lseek(side.fds[index], by, whence))
        self.both(lambda side: os.read(side.fds[index], CHUNK + 1))

    @is_open
    @rule(index=which, size=offsets)
    def truncate_open(self, index: int, size: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: os.ftruncate(side.fds[index], size))

    @rule(path=paths, size=offsets, when=times)
    def truncate(self, path: str | int, size: int, when: int) -> None:
        path = self.name(path, kinds=FILES)
        if self.both(lambda side: os.truncate(side.at(path), size)) is None:
            # whether a cut to the same size counts as a change, file systems differ in
            self.both(lambda side: os.utime(side.at(path), ns=(when, when)))

    @is_open
    @rule(index=which, offset=offsets, size=sizes, when=times)
    def allocate(self, index: int, offset: int, size: int, when: int) -> None:
        index = self.open_file(index)
        if self.both(lambda side: os.posix_fallocate(side.fds[index], offset, size)) is None:
            self.both(lambda side: os.utime(side.fds[index], ns=(when, when)))

    @rule(path=files, offset=offsets, size=st.integers(1, 5000))
    def write_mapped(self, path: str | int, offset: int, size: int) -> None:
        path = self.name(path, kinds=FILES)
        data = pattern(size, next(self.seeds))

        def act(side: Side) -> int:
            fd = os.open(side.at(path), os.O_RDWR | os.O_CLOEXEC)
            try:
                length = os.fstat(fd).st_size
                piece = data[: max(0, length - offset)]
                if piece:
                    with mmap.mmap(fd, length) as mapped:
                        mapped[offset : offset + len(piece)] = piece
                        mapped.flush()
                return len(piece)
            finally:
                os.close(fd)

        self.both(act)

    @is_open
    @rule(index=which)
    def fsync(self, index: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: os.fsync(side.fds[index]))

    @rule(path=st.sampled_from(FOLDERS))
    def fsync_folder(self, path: str) -> None:
        def act(side: Side) -> None:
            fd = os.open(side.at(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

        self.both(act)

    @precondition(lambda self: 0 < len(self.plain.fds) < MAX_OPEN)
    @rule(index=which)
    def dup(self, index: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: side.fds.append(os.dup(side.fds[index])))

    @is_open
    @rule(index=which)
    def close(self, index: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: os.close(side.fds.pop(index)))

    # -- names --------------------------------------------------------------------------

    @rule(old=paths, new=paths)
    def rename(self, old: str | int, new: str | int) -> None:
        old, new = self.name(old), self.name(new)
        self.both(lambda side: os.rename(side.at(old), side.at(new)))

    @rule(old=paths, new=paths, flags=st.just(RENAME_NOREPLACE))
    def rename_with(self, old: str | int, new: str | int, flags: int) -> None:
        old, new = self.name(old), self.name(new)
        self.both(lambda side: renameat2(side.at(old), side.at(new), flags))

    @rule(path=paths)
    def unlink(self, path: str | int) -> None:
        path = self.name(path)
        self.both(lambda side: os.unlink(side.at(path)))

    @rule(path=new_paths)
    def make_folder(self, path: str) -> None:
        self.both(lambda side: os.mkdir(side.at(path), 0o750))

    @rule(path=paths)
    def remove_folder(self, path: str | int) -> None:
        path = self.name(path)
        self.both(lambda side: os.rmdir(side.at(path)))

    @rule(path=new_paths, to=st.sampled_from(TARGETS))
    def symlink(self, path: str, to: str) -> None:
        self.both(lambda side: os.symlink(to, side.at(path)))

    # -- attributes ---------------------------------------------------------------------

    @rule(path=paths, mode=st.sampled_from([0o700, 0o755, 0o777, 0o1777]))
    def chmod(self, path: str | int, mode: int) -> None:
        path = self.name(path)
        self.both(lambda side: os.chmod(side.at(path), mode))

    @is_open
    @rule(index=which, mode=st.sampled_from([0o600, 0o644, 0o777]))
    def chmod_open(self, index: int, mode: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: os.fchmod(side.fds[index], mode))

    @rule(path=paths, when=times, follow=st.booleans())
    def utime(self, path: str | int, when: int, *, follow: bool) -> None:
        path = self.name(path)
        self.both(lambda side: os.utime(side.at(path), ns=(when, when), follow_symlinks=follow))

    @is_open
    @rule(index=which, when=times)
    def utime_open(self, index: int, when: int) -> None:
        index = self.open_file(index)
        self.both(lambda side: os.utime(side.fds[index], ns=(when, when)))

    @rule(
        path=paths,
        name=st.sampled_from(XATTRS),
        value=st.binary(max_size=200),
        flags=st.sampled_from([0, os.XATTR_CREATE, os.XATTR_REPLACE]),
    )
    def set_xattr(self, path: str | int, name: str, value: bytes, flags: int) -> None:
        path = self.name(path)
        self.both(lambda side: os.setxattr(side.at(path), name, value, flags))

    @rule(path=paths, name=st.sampled_from(XATTRS))
    def remove_xattr(self, path: str | int, name: str) -> None:
        path = self.name(path)
        self.both(lambda side: os.removexattr(side.at(path), name))

    @rule(path=paths, name=st.sampled_from(XATTRS))
    def look(self, path: str | int, name: str) -> None:
        path = self.name(path)
        self.both(lambda side: os.getxattr(side.at(path), name))
        self.both(lambda side: os.readlink(side.at(path)))
        self.both(lambda side: stat.S_IFMT(os.stat(side.at(path)).st_mode))  # through links

    # -- the mount ----------------------------------------------------------------------

    @rule(lot=st.integers(0, 24))
    def remount(self, lot: int) -> None:
        if lot == 13:
            self.close_all()
            self.vault.unmount()
            self.vault.serve()

    def close_all(self) -> None:
        while self.plain.fds:
            self.both(lambda side: os.close(side.fds.pop()))

    @invariant()
    def everything_is_the_same(self) -> None:
        mount, plain = (seen(os.path.dirname(side.root)) for side in (self.mount, self.plain))
        assert not difference(mount, plain)
        for index, fds in enumerate(zip(self.mount.fds, self.plain.fds, strict=True)):
            mount, plain = ({f"open file {index}": open_facts(fd)} for fd in fds)
            assert not difference(mount, plain)

    def teardown(self) -> None:
        # also after a failure, where perhaps only one side has a file open
        for fd in self.mount.fds + self.plain.fds:
            os.close(fd)


@pytest.mark.timeout(900)  # a failure is made smaller before it is shown
def test_a_mount_does_what_a_folder_does(mounted: MountedVault, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    mounted.serve()
    numbers = itertools.count()
    run_state_machine_as_test(
        lambda: Machine(mounted, plain, numbers),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=set(Phase) - {Phase.explain},  # which takes minutes and says little here
            suppress_health_check=list(HealthCheck),
        ),
    )
    expected = seen(str(plain))
    del expected[""]  # the top is the mountpoint, which has a mode of its own
    mounted.unmount()
    mounted.serve()
    assert not difference(_below(mounted.folder), expected)
    mounted.unmount()
    mounted.check()
    opened = _below(mounted.opened(tmp_path / "opened"))
    if mounted.layout == "visible":  # there a folder has no record that could bring them along
        for facts in (*expected.values(), *opened.values()):
            if stat.S_ISDIR(facts["mode"]):
                facts["xattrs"] = {}
    assert not difference(opened, expected)


def _below(top: Path) -> dict[str, Any]:
    found = seen(str(top))
    del found[""]
    return found
