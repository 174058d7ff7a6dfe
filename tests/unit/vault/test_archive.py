"""Sealed archives: what GNU tar makes of ours, and what we make of a hostile one."""

from __future__ import annotations

import errno
import gc
import inspect
import io
import mmap
import os
import socket
import stat
import subprocess
import sys
import tarfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, SEED, in_child, keys, make_deep, seal, snapshot, unseal, write_tree
from hypothesis import given, strategies as st

from encvault import operations
from encvault.errors import (
    CannotCreate,
    ChangedInArchive,
    DestinationExists,
    EncvaultError,
    InputOutputError,
    InvalidRequest,
    MalformedRecord,
    NestedVault,
    OutOfSpace,
    SpecialFile,
    Unreadable,
    UnsafePath,
    VaultBusy,
)
from encvault.fs import calls
from encvault.fs.tree import Tree
from encvault.keyslots import KeyIdentity
from encvault.secret import Secret
from encvault.vault import archive, extract as extraction, pax
from encvault.vault.report import Event, Observer, Report

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root, big=1_500_000)
    os.setxattr(root / "empty", "user.note", b"\0\xff=\n")
    with open(os.fsencode(root) + b"/latin-\xe9", "wb") as file:
        file.write(b"content")
    deep = root / "a-folder-name-of-forty-characters-exactly" / ("d" * 90)
    deep.mkdir(parents=True)
    (deep / ("f" * 120)).write_text("a path of more than 256 bytes")
    (deep / "link").symlink_to("t" * 150)
    for path in (*deep.iterdir(), deep, deep.parent, root / "empty"):
        os.utime(path, ns=(10**18 + 7, 10**18 + 7), follow_symlinks=False)
    return root


def pack(output: Path, *sources: Path, observer: Observer | None = None, **options: Any) -> Report:
    request = operations.SealRequest(paths=tuple(map(str, sources)), archive=str(output), **options)
    return operations.seal(request, keys(), observer)


def tar_of(path: Path) -> bytes:
    return b"".join(map(bytes, operations.cat(str(path), keys())))


def gnu_tar(*arguments: str, data: bytes) -> bytes:
    done = subprocess.run(["tar", *arguments], input=data, capture_output=True, check=True)
    return done.stdout


# -- what others make of it -----------------------------------------------------------------


def test_gnu_tar_extracts_the_same_tree(tree: Path, tmp_path: Path) -> None:
    assert pack(tmp_path / "a.sealed", tree).problems == []
    out = tmp_path / "out"
    out.mkdir()
    data = tar_of(tmp_path / "a.sealed")
    gnu_tar("-x", "-p", "--xattrs", "-C", str(out), "-f", "-", data=data)
    assert snapshot(out) == snapshot(tree)
    assert os.getxattr(out / "empty", "user.note") == b"\0\xff=\n"


def test_python_reads_the_same_members(tree: Path, tmp_path: Path) -> None:
    pack(tmp_path / "a.sealed", tree)
    with tarfile.open(
        fileobj=io.BytesIO(tar_of(tmp_path / "a.sealed")), errors="surrogateescape"
    ) as tar:
        members = {member.name: member for member in tar}
        assert set(members) == set(snapshot(tree))
        big = tar.extractfile("big")
        assert big is not None
        assert big.read() == (tree / "big").read_bytes()
    assert members["src/link"].linkname == "../nowhere/at all"
    assert members["src/run.sh"].mode == 0o755
    assert members["hollow"].isdir()
    assert not any(name.startswith(("/", ".")) for name in members)


@pytest.mark.parametrize("size", [1, 2000, 70_000, 1_600_000])
@pytest.mark.parametrize("jobs", [1, 2])
def test_members_that_do_not_fit_into_a_slot_are_added_all_the_same(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, jobs: int
) -> None:
    for number in range(1200):  # some batches, of which each slot is used again
        (tree / f"{number:04}").write_bytes(b"%d" % number * 100)
    pack(tmp_path / "whole.sealed", tree, jobs=1)
    monkeypatch.setattr(archive, "_SLOT_SIZE", size)
    done = pack(tmp_path / "slots.sealed", tree, jobs=jobs)
    assert (done.problems, done.files) == ([], 1200 + 12)
    assert tar_of(tmp_path / "slots.sealed") == tar_of(tmp_path / "whole.sealed")


def test_the_slots_of_one_source_are_gone_before_the_next(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    made: list[weakref.ref[mmap.mmap]] = []

    class Watched(mmap.mmap):
        pass

    def new(fd: int, size: int) -> mmap.mmap:
        alive.append(sum(one() is not None for one in made))
        found = Watched(fd, size)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(archive.mmap, "mmap", new)
    others = [tmp_path / f"other{number}" for number in range(3)]
    for other in others:
        write_tree(other)
    gc.disable()
    try:
        pack(tmp_path / "a.sealed", tree, *others)
    finally:
        gc.enable()
    assert alive == [0, 0, 0, 0]


def test_an_opened_archive_is_a_tar_file(tree: Path, tmp_path: Path) -> None:
    pack(tmp_path / "a.tar.sealed", tree)
    unseal(tmp_path / "a.tar.sealed")
    assert tarfile.is_tarfile(tmp_path / "a.tar")
    listed = gnu_tar("-t", "-f", "-", data=(tmp_path / "a.tar").read_bytes())
    assert b"src/run.sh\n" in listed


def test_we_read_what_gnu_tar_made(tree: Path, tmp_path: Path) -> None:
    made = subprocess.run(
        ["tar", "-c", "--format=posix", "--xattrs", "-C", str(tree), *sorted(os.listdir(tree))],
        capture_output=True,
        check=True,
    ).stdout
    report = extract(tmp_path / "out", made)
    assert report.problems == []
    assert snapshot(tmp_path / "out") == snapshot(tree)


def read_member(header: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(header + pax.END), errors="surrogateescape") as listing:
        found = listing.next()
    assert found is not None
    return found


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=120
) | st.binary(min_size=1, max_size=120).filter(lambda data: not {0, 47} & set(data)).map(
    os.fsdecode
)
ids = st.integers(0, 9) | st.integers(0, (1 << 32) - 1)


@given(
    name=st.lists(names.filter(lambda name: name.strip(".")), min_size=1, max_size=4).map("/".join),
    kind=st.sampled_from([pax.FILE, pax.LINK, pax.FOLDER]),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(ids, ids),
    mtime_ns=st.integers(-(1 << 63), (1 << 63) - 1),
    size=st.sampled_from([0, 1, 511, 8**11 - 1, 8**11, 9 << 40]),
    target=names,
    xattrs=st.dictionaries(
        st.sampled_from(["user.a", "user.说明", "user.a=b", "user.%3D"]), st.binary(max_size=60)
    ),
)
def test_tarfile_reads_every_member_as_it_was_written(
    name: str,
    kind: bytes,
    mode: int,
    owner: tuple[int, int],
    mtime_ns: int,
    size: int,
    target: str,
    xattrs: dict[str, bytes],
) -> None:
    link = target if kind == pax.LINK else ""
    length = size if kind == pax.FILE else 0
    header = pax.member(
        name,
        kind,
        mode=mode,
        owner=owner,
        mtime_ns=mtime_ns,
        size=length,
        target=link,
        xattrs=xattrs.items(),
    )
    assert len(header) % 512 == 0
    found = read_member(header)
    assert (found.name, found.type, found.mode) == (name, kind, mode)
    assert (found.uid, found.gid, found.size, found.linkname) == (*owner, length, link)
    assert pax.decode_time(found.pax_headers["mtime"]) == mtime_ns
    read = {
        name: value.encode("utf-8", "surrogateescape")
        for key, value in found.pax_headers.items()
        if (name := pax.xattr_name(key)) is not None
    }
    assert read == xattrs


def test_an_attribute_with_an_equals_sign_is_spelt_as_gnu_tar_does(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    path = tmp_path / "t" / "f"
    path.touch()
    os.setxattr(path, "user.a=b", b"v")
    pack(tmp_path / "a.sealed", tmp_path / "t")
    listed = gnu_tar("--xattrs", "-tvv", "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert b"x: 1 user.a=b\n" in listed
    theirs = gnu_tar("--xattrs", "-c", "-C", tmp_path / "t", "-f", "-", "f", data=b"")
    assert b"SCHILY.xattr.user.a%3Db=v\n" in theirs
    assert b"SCHILY.xattr.user.a%3Db=v\n" in tar_of(tmp_path / "a.sealed")


@pytest.mark.parametrize("size", [100, 1_500_000])
def test_a_file_that_is_shorter_than_it_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(b"x" * size)
    read, given = calls.read, []

    def short(fd: int, wanted: int) -> bytes:
        given.append(wanted)
        return read(fd, wanted)[:5]

    with monkeypatch.context() as patch:
        patch.setattr(calls, "read", short)
        report = pack(tmp_path / "a.sealed", tmp_path / "t")
    assert [type(problem) for problem in report.problems] == [ChangedInArchive]
    assert len(given) == 1  # what comes after its end is not its content
    with tarfile.open(fileobj=io.BytesIO(tar_of(tmp_path / "a.sealed"))) as tar:
        file = tar.extractfile("f")
        assert file is not None
        assert file.read() == b"xxxxx" + bytes(size - 5)


def test_names_that_are_no_utf8_are_announced() -> None:
    plain, odd = (
        pax.member(name, pax.FILE, mode=0o644, owner=(0, 0), mtime_ns=0) for name in ("é", "\udcff")
    )
    assert b"hdrcharset" not in plain
    assert odd[512:].startswith(b"21 hdrcharset=BINARY\n")  # before what it is about


# -- there and back -------------------------------------------------------------------------


def test_there_and_back(tree: Path, tmp_path: Path) -> None:
    before = snapshot(tree)
    report = pack(tmp_path / "a.tar.sealed", tree)
    assert (report.files, report.problems) == (12, [])
    assert snapshot(tree) == before
    report = unseal(tmp_path / "a.tar.sealed", to=str(tmp_path / "out"))
    assert (report.files, report.problems) == (12, [])
    assert snapshot(tmp_path / "out") == before
    assert os.getxattr(tmp_path / "out" / "empty", "user.note") == b"\0\xff=\n"
    assert (tmp_path / "a.tar.sealed").exists()


def test_two_sources_keep_their_names(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "more"
    write_tree(other)
    pack(tmp_path / "a.sealed", tree, other)
    unseal(tmp_path / "a.sealed", to=str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["docs", "more"]
    for source in (tree, other):
        assert snapshot(tmp_path / "out" / source.name) == snapshot(source)


def test_two_folders_of_one_name_do_not_fit(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "x" / "docs").mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="two folders of one name"):
        pack(tmp_path / "a.sealed", tree, tmp_path / "x" / "docs")
    assert not (tmp_path / "a.sealed").exists()


def test_patterns_leave_names_out(tree: Path, tmp_path: Path) -> None:
    pack(tmp_path / "a.sealed", tree, exclude=("*.py", "src/run.sh", "hollow", "a-folder*"))
    unseal(tmp_path / "a.sealed", to=str(tmp_path / "out"))
    left_out = set(snapshot(tree)) - set(snapshot(tmp_path / "out"))
    below = {path for path in snapshot(tree) if path.startswith("a-folder")}
    assert left_out == {"src/deep/er/main.py", "src/run.sh", "hollow"} | below


class Counter(Observer):
    wants_total = True

    def __init__(self) -> None:
        self.totals: list[tuple[int, int]] = []
        self.done = [0, 0]
        self.released: list[Event] = []
        self.problems: list[EncvaultError] = []

    def total(self, files: int, size: int) -> None:
        self.totals.append((files, size))

    def progress(self, files: int, size: int) -> None:
        self.done[0] += files
        self.done[1] += size

    def problem(self, error: EncvaultError) -> None:
        self.problems.append(error)

    def before_release(self, events: Sequence[Event]) -> None:
        self.released += events


def test_progress_adds_up_to_the_total(tree: Path, tmp_path: Path) -> None:
    watcher = Counter()
    report = pack(tmp_path / "a.sealed", tree, observer=watcher, exclude=("big",))
    assert watcher.totals == [tuple(watcher.done)] == [(report.files, report.size)]
    (event,) = watcher.released
    assert (event.action, event.path) == ("seal", str(tree))
    assert event.size == len(tar_of(tmp_path / "a.sealed"))
    watcher = Counter()
    report = unseal(tmp_path / "a.sealed", watcher, to=str(tmp_path / "out"))
    assert watcher.done[0] == report.files
    assert [event.action for event in watcher.released] == ["open"]


def test_special_files_are_told_and_left_out(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
    report = pack(tmp_path / "a.sealed", tree)
    assert {problem.fields()["kind"] for problem in report.problems} == {"fifo", "socket"}
    assert all(isinstance(problem, SpecialFile) for problem in report.problems)
    assert report.outcome().exit_code == 3  # type: ignore[union-attr]
    names = gnu_tar("-t", "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert b"fifo" not in names


def test_what_cannot_be_read_is_told_and_the_rest_is_archived(public_path: Path) -> None:
    def work() -> tuple[list[str], list[str]]:
        root = public_path / "docs"
        (root / "closed").mkdir(parents=True)
        (root / "closed" / "inside").touch()
        (root / "secret").touch()
        (root / "open").write_text("x")
        (root / "secret").chmod(0)
        (root / "closed").chmod(0)
        report = pack(public_path / "a.sealed", root)
        (root / "closed").chmod(0o700)
        with tarfile.open(fileobj=io.BytesIO(tar_of(public_path / "a.sealed"))) as tar:
            return [type(problem).__name__ for problem in report.problems], tar.getnames()

    problems, names = in_child(work, uid=NOBODY)
    assert problems == [Unreadable.__name__] * 2
    assert names == ["open"]


def test_names_that_vanish_meanwhile_are_told(tree: Path, tmp_path: Path) -> None:
    class Remover(Observer):
        def progress(self, files: int, size: int) -> None:
            (tree / "src" / "run.sh").unlink(missing_ok=True)
            (tree / "src" / "link").unlink(missing_ok=True)

    report = pack(tmp_path / "a.sealed", tree, observer=Remover())
    # they were seen when their folder was listed, or not at all
    assert all(problem.exit_code in (3, 66) for problem in report.problems)
    names = gnu_tar("-t", "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert b"main.py" in names


def test_names_that_vanish_after_the_listing_are_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Tree.walk

    def late(self: Tree, *arguments: Any, **options: Any) -> Any:
        for folder in real(self, *arguments, **options):
            if folder.path == "src":
                (tree / "src" / "run.sh").unlink()
                (tree / "src" / "link").unlink()
            yield folder

    monkeypatch.setattr(Tree, "walk", late)
    report = pack(tmp_path / "a.sealed", tree)
    assert [problem.exit_code for problem in report.problems] == [66, 66]
    assert b"big" in gnu_tar("-t", "-f", "-", data=tar_of(tmp_path / "a.sealed"))


@pytest.mark.parametrize("size", [0, 10, 700_000, 2_000_000])
def test_a_file_that_changes_its_size_meanwhile_shifts_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    real = calls.read
    changed = []

    def meddle(fd: int, wanted: int) -> bytes:
        data = real(fd, wanted)
        if not changed and os.fstat(fd).st_ino == (tree / "big").stat().st_ino:
            changed.append(size)
            os.truncate(tree / "big", size)
        return data

    with monkeypatch.context() as patch:
        patch.setattr(calls, "read", meddle)
        report = pack(tmp_path / "a.sealed", tree)
    assert [type(problem) for problem in report.problems] == [ChangedInArchive]
    assert str(tree / "big") in str(report.problems[0])
    out = tmp_path / "out"
    out.mkdir()
    gnu_tar("-x", "-p", "-C", str(out), "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert (out / "big").stat().st_size == 1_500_000
    changed_tree, original = snapshot(out), snapshot(tree)
    del changed_tree["big"], original["big"]
    assert changed_tree == original


def test_a_file_touched_meanwhile_is_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.read

    def meddle(fd: int, wanted: int) -> bytes:
        if os.fstat(fd).st_ino == (tree / "big").stat().st_ino:
            os.utime(tree / "big", ns=(5, 5))
        return real(fd, wanted)

    monkeypatch.setattr(calls, "read", meddle)
    report = pack(tmp_path / "a.sealed", tree)
    assert [type(problem) for problem in report.problems] == [ChangedInArchive]


# -- vaults in what is archived --------------------------------------------------------------


def test_a_vault_below_is_left_out_and_told(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    inner = tmp_path / "docs" / "src"
    seal(inner)
    watcher = Counter()
    report = pack(tmp_path / "a.sealed", tmp_path / "docs", observer=watcher)
    assert [type(problem) for problem in report.problems] == [NestedVault]
    assert watcher.problems == report.problems
    assert watcher.totals == [tuple(watcher.done)]
    names = gnu_tar("-t", "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert b"src" not in names
    assert unseal(tmp_path / "a.sealed", to=str(tmp_path / "out")).problems == []


def test_a_vault_that_holds_sealed_files_is_no_folder_to_archive(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    seal(tmp_path / "docs")
    for path in (tmp_path / "docs", tmp_path / "docs" / ".encvault"):
        with pytest.raises(InvalidRequest):
            pack(tmp_path / "a.sealed", path)
    assert not (tmp_path / "a.sealed").exists()


def test_an_opened_vault_is_archived_without_its_own_folder(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    before = snapshot(tmp_path / "docs")
    seal(tmp_path / "docs")
    unseal(tmp_path / "docs")
    assert pack(tmp_path / "a.sealed", tmp_path / "docs").problems == []
    unseal(tmp_path / "a.sealed", to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out") == before
    assert not (tmp_path / "out" / ".encvault").exists()


# -- the output -----------------------------------------------------------------------------


def test_an_output_that_exists_is_replaced_only_by_force(tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.sealed"
    output.write_text("precious")
    with pytest.raises(DestinationExists):
        pack(output, tree)
    assert output.read_text() == "precious"
    pack(output, tree, force=True)
    assert tarfile.is_tarfile(io.BytesIO(tar_of(output)))


def test_a_full_disk_leaves_no_archive(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fill(name: str, _fd: int, _target: str) -> None:
        if name == "write":
            written.append(name)
            if len(written) > 1:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "probe", fill)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutOfSpace):
        pack(tmp_path / "a.sealed", tree)
    assert sorted(tmp_path.iterdir()) == before


class Refuser(Observer):
    def before_release(self, events: Sequence[Event]) -> None:
        raise VaultBusy(path="log", holder="test")


def test_nothing_appears_before_the_log(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(VaultBusy):
        pack(tmp_path / "a.sealed", tree, observer=Refuser())
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    pack(tmp_path / "a.sealed", tree)
    with pytest.raises(VaultBusy):
        unseal(tmp_path / "a.sealed", Refuser(), to=str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_archive_leaves_nothing(tree: Path, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.sealed"
    pack(path, tree)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(EncvaultError) as caught:
        unseal(path, to=str(tmp_path / "out"))
    assert caught.value.exit_code == 65
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_cut_after_the_last_byte_of_tar_is_not_genuine(
    tree: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.sealed"
    pack(path, tree)
    # tar ends with zeros that no reader needs: only the seal shows that the end is missing
    os.truncate(path, path.stat().st_size - 16_400)
    with pytest.raises(EncvaultError) as caught:
        unseal(path, to=str(tmp_path / "out"))
    assert caught.value.exit_code == 65
    assert list((tmp_path / "out").iterdir()) == []


# -- hostile and odd archives ---------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **more: Any) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar(*members: Any) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return held.getvalue()


def extract(target: Path, data: bytes, **options: Any) -> Report:
    target.mkdir(exist_ok=True)
    pieces = (memoryview(data)[at : at + 1000] for at in range(0, len(data), 1000))
    with Tree(str(target)) as pinned:
        return extraction.extract_archive(pieces, pinned, "a.tar.sealed", **options)


@pytest.fixture
def arena(tmp_path: Path) -> Path:
    """A place with a target and something precious beside it."""
    (tmp_path / "arena").mkdir()
    (tmp_path / "arena" / "victim").write_text("precious")
    (tmp_path / "arena" / "out").mkdir()
    return tmp_path / "arena"


def assert_untouched(arena: Path) -> None:
    assert sorted(path.name for path in arena.iterdir()) == ["out", "victim"]
    assert (arena / "victim").read_text() == "precious"
    assert list((arena / "out").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../victim", "/victim", "a/../../victim", "..", "a/..", "./a", "a//b", ".", "", "x" * 1024],
)
def test_names_that_would_leave_the_target(arena: Path, name: str) -> None:
    data = tar(member("first", content=b"x"), member(name, content=b"evil"))
    with pytest.raises(UnsafePath):
        extract(arena / "out", data)
    assert_untouched(arena)


@pytest.mark.parametrize("target", ["..", "../victim", "/", "/etc", "."])
@pytest.mark.parametrize("name", ["link/victim", "link/new", "link/a/b"])
def test_a_member_through_a_link_of_an_earlier_one_writes_nothing(
    arena: Path, target: str, name: str
) -> None:
    data = tar(member("link", tarfile.SYMTYPE, linkname=target), member(name, content=b"evil"))
    with pytest.raises(EncvaultError):
        extract(arena / "out", data)
    assert_untouched(arena)


def test_a_file_through_a_link_to_a_file_writes_nothing(arena: Path) -> None:
    data = tar(
        member("link", tarfile.SYMTYPE, linkname="../../victim"), member("link", content=b"evil")
    )
    with pytest.raises(EncvaultError):
        extract(arena / "out", data)
    assert_untouched(arena)


def test_a_folder_through_a_link_changes_no_mode_outside(arena: Path) -> None:
    mode = arena.stat().st_mode
    data = tar(
        member("link", tarfile.SYMTYPE, linkname="../.."),
        member("link", tarfile.DIRTYPE, mode=0o777),
    )
    with pytest.raises(EncvaultError):
        extract(arena / "out", data)
    assert_untouched(arena)
    assert arena.stat().st_mode == mode


def test_links_are_kept_as_links_wherever_they_point(arena: Path) -> None:
    data = tar(member("link", tarfile.SYMTYPE, linkname="../victim", mtime=7))
    extract(arena / "out", data)
    assert os.readlink(arena / "out" / "link") == "../victim"
    assert (arena / "out" / "link").lstat().st_mtime == 7
    assert (arena / "victim").read_text() == "precious"


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_hard_links_and_devices_are_told_and_left_out(arena: Path, kind: bytes) -> None:
    watcher = Counter()
    data = tar(
        member("bad", kind, linkname="../victim", devmajor=1, devminor=3),
        member("good", content=b"x"),
    )
    report = extract(arena / "out", data, observer=watcher)
    assert [type(problem) for problem in report.problems] == [SpecialFile]
    assert watcher.problems == report.problems
    assert [path.name for path in (arena / "out").iterdir()] == ["good"]
    assert report.files == 1


def test_a_name_twice_is_refused_and_leaves_nothing(arena: Path) -> None:
    data = tar(member("a", content=b"one"), member("a", content=b"two"))
    with pytest.raises(EncvaultError):
        extract(arena / "out", data)
    assert_untouched(arena)


@pytest.mark.parametrize("first", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("second", [tarfile.REGTYPE, tarfile.SYMTYPE])
def test_the_error_of_a_name_twice_is_the_archives(
    arena: Path, first: bytes, second: bytes
) -> None:
    data = tar(member("a", first, linkname="x"), member("a", second, linkname="x"))
    with pytest.raises(MalformedRecord, match="two members of one name"):
        extract(arena / "out", data)
    assert_untouched(arena)


def test_a_name_that_the_drive_takes_for_another_is_not_the_archives_fault(
    arena: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.create

    def fold(folder: int, name: str, mode: int = 0o600) -> int:
        return real(folder, name.lower(), mode)

    monkeypatch.setattr(calls, "create", fold)
    with pytest.raises(DestinationExists):
        extract(arena / "out", tar(member("a", content=b"one"), member("A", content=b"two")))
    assert_untouched(arena)


@pytest.mark.parametrize(
    "name", [".encvault", ".encvault/vault.json", "a/.encvault/keys", "a/.encvault", ".EncVault/x"]
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_an_archive_makes_no_folder_a_vault_of_its_sender(
    arena: Path, name: str, kind: bytes
) -> None:
    with pytest.raises(UnsafePath):
        extract(arena / "out", tar(member("first", content=b"x"), member(name, kind, linkname="x")))
    assert_untouched(arena)


def test_a_name_that_only_begins_like_a_vault_is_unpacked(arena: Path) -> None:
    extract(arena / "out", tar(member(".encvault-notes", content=b"x")))
    assert (arena / "out" / ".encvault-notes").read_text() == "x"


SPARSE = [
    {"GNU.sparse.map": "0,4", "GNU.sparse.size": "8589934592"},
    {"GNU.sparse.size": "8589934592", "GNU.sparse.numblocks": "1"},
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "8589934592"},
    {"GNU.sparse.realsize": "8589934592"},
]


@pytest.mark.parametrize("headers", SPARSE)
def test_a_hole_that_would_fill_the_disk_is_refused(
    arena: Path, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _data: object) -> None:
        raise AssertionError("something was written")

    monkeypatch.setattr(calls, "write", refuse)
    content = b"1\n0\n4\n".ljust(512, b"\0") + b"evil"
    with pytest.raises(MalformedRecord, match="sparse"):
        extract(arena / "out", tar(member("big", content=content, pax_headers=headers)))
    assert_untouched(arena)


def test_a_chain_of_headers_is_refused(arena: Path) -> None:
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, 12
    one = head.tobuf(tarfile.USTAR_FORMAT) + b"12 comment=\n".ljust(512, b"\0")
    with pytest.raises(MalformedRecord, match="too many headers"):
        extract(arena / "out", one * 3000 + tar(member("a", content=b"x")))
    assert_untouched(arena)


def test_a_file_called_as_a_vaults_folder_is_told_and_makes_no_vault(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "inner"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        (place / ".EncVault").write_text("a file")
        (place / "other").write_text("another")
    report = pack(tmp_path / "a.sealed", tmp_path / "docs")
    assert [type(problem) for problem in report.problems] == [SpecialFile] * 2
    names = gnu_tar("-t", "-f", "-", data=tar_of(tmp_path / "a.sealed")).decode().split()
    assert sorted(names) == ["inner/", "inner/other", "other"]
    report = seal(tmp_path / "docs", to=str(tmp_path / "mirror"))
    assert [type(problem) for problem in report.problems] == [SpecialFile] * 2
    assert report.files == 2


def test_a_dry_run_refuses_what_the_run_would(tree: Path) -> None:
    with pytest.raises(CannotCreate):
        pack(Path("/dev/null"), tree, dry_run=True)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_that_would_fill_the_memory_is_refused(arena: Path, kind: bytes) -> None:
    head = tarfile.TarInfo("x")
    head.type, head.size = kind, (1 << 20) + 1
    text = b"30 comment=".ljust(head.size + 511 & ~511, b"x")
    data = head.tobuf(tarfile.GNU_FORMAT) + text + tar(member("a", content=b"x"))
    with pytest.raises(MalformedRecord, match="too long"):
        extract(arena / "out", data)
    assert_untouched(arena)


def test_a_tree_that_is_deeper_than_python_calls_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    make_deep(folder, 400)
    pack(tmp_path / "a.sealed", folder)
    (tmp_path / "out").mkdir()
    with Tree(str(tmp_path / "out")) as other:
        # as a killed run left it: what is the same already is passed over
        unseal(tmp_path / "a.sealed", to=str(tmp_path / "out"))
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack()) + 250)
        try:
            report = unseal(tmp_path / "a.sealed", to=str(tmp_path / "out"))
        finally:
            sys.setrecursionlimit(limit)
        assert report.problems == []
        assert sorted(os.listdir(other.fd)) == ["d"]


def test_folders_keep_their_extended_attributes(tmp_path: Path) -> None:
    (tmp_path / "docs" / "inner").mkdir(parents=True)
    os.setxattr(tmp_path / "docs" / "inner", "user.note", b"\0\xff")
    pack(tmp_path / "a.sealed", tmp_path / "docs")
    unseal(tmp_path / "a.sealed", to=str(tmp_path / "out"))
    assert os.getxattr(tmp_path / "out" / "inner", "user.note") == b"\0\xff"
    names = gnu_tar("--xattrs", "-tvv", "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert b"user.note" in names


@pytest.mark.parametrize("name", ["src", "src/run.sh"])
def test_what_has_more_attributes_than_fit_is_left_out_and_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    inode = (tree / name).stat().st_ino
    monkeypatch.setattr(os, "getxattr", lambda _fd, _name: bytes(70_000))
    monkeypatch.setattr(
        os, "listxattr", lambda fd: ["user.a"] if os.fstat(fd).st_ino == inode else []
    )
    report = pack(tmp_path / "a.sealed", tree)
    (problem,) = report.problems
    assert isinstance(problem, Unreadable)
    assert problem.path == str(tree / name)
    names = gnu_tar("-t", "-f", "-", data=tar_of(tmp_path / "a.sealed")).decode().splitlines()
    assert name not in [one.rstrip("/") for one in names]
    assert "src/main.py" in names or "src/deep/er/main.py" in names


class Census(Observer):
    """Counts the members that are in memory when the last one is done."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.held = count

    def progress(self, files: int, size: int) -> None:
        self._left -= files
        if not self._left:
            gc.collect()
            self.held = sum(isinstance(one, tarfile.TarInfo) for one in gc.get_objects())


def test_memory_does_not_grow_with_the_members(arena: Path, tmp_path: Path) -> None:
    count = 300
    data = tar(*(member(f"f{index}", content=b"x") for index in range(count)))
    unpacking, packing = Census(count), Census(count)
    extract(arena / "out", data, observer=unpacking)
    pack(tmp_path / "a.sealed", arena / "out", observer=packing)
    assert unpacking.held < 10
    assert packing.held < 10


def test_a_folder_twice_is_one_folder(arena: Path) -> None:
    data = tar(
        member("a", tarfile.DIRTYPE, mode=0o755),
        member("a/b", content=b"x"),
        member("a/", tarfile.DIRTYPE, mode=0o755),
        member("a/c", content=b"y"),
    )
    extract(arena / "out", data)
    assert sorted(path.name for path in (arena / "out" / "a").iterdir()) == ["b", "c"]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, bytes(511), b"\xff" * 1024])
def test_what_is_no_tar_is_named(arena: Path, data: bytes) -> None:
    with pytest.raises(MalformedRecord) as caught:
        extract(arena / "out", data)
    assert caught.value.path == "a.tar.sealed"
    assert_untouched(arena)


def test_a_member_cut_off_is_named(arena: Path) -> None:
    data = tar(member("a", content=bytes(5000)))
    with pytest.raises(MalformedRecord):
        extract(arena / "out", data[:2048])
    assert_untouched(arena)


def test_existing_names_are_kept_without_force(arena: Path) -> None:
    (arena / "out" / "b").write_text("mine")
    data = tar(member("a", content=b"x"), member("b", content=b"theirs"))
    with pytest.raises(DestinationExists) as caught:
        extract(arena / "out", data)
    assert caught.value.path == str(arena / "out" / "b")
    assert [path.name for path in (arena / "out").iterdir()] == ["b"]
    assert (arena / "out" / "b").read_text() == "mine"
    extract(arena / "out", data, force=True)
    assert (arena / "out" / "a").read_text() == "x"
    assert (arena / "out" / "b").read_text() == "theirs"


def test_what_force_cannot_replace_stays(arena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name in ("replace", "rename_new"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    (arena / "out" / "a").write_text("mine")
    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(InputOutputError):
        extract(arena / "out", tar(member("a", content=b"theirs")), force=True)
    assert [path.name for path in (arena / "out").iterdir()] == ["a"]
    assert (arena / "out" / "a").read_text() == "mine"


def test_by_force_a_folder_takes_the_place_of_a_file(arena: Path) -> None:
    (arena / "out" / "a").write_text("mine")
    extract(arena / "out", tar(member("a/b", content=b"theirs")), force=True)
    assert (arena / "out" / "a" / "b").read_text() == "theirs"


def test_a_member_that_is_longer_than_the_archive_ends_it(arena: Path) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = b"Z", 1 << 62  # of no type that is known: it is skipped
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)
    with pytest.raises(MalformedRecord, match="longer than the archive"):
        extract(arena / "out", data)
    assert_untouched(arena)


def test_a_link_in_the_target_is_replaced_and_not_followed_by_force(arena: Path) -> None:
    (arena / "out" / "a").symlink_to("../victim")
    data = tar(member("a", content=b"theirs"))
    with pytest.raises(DestinationExists):
        extract(arena / "out", data)
    extract(arena / "out", data, force=True)
    assert (arena / "out" / "a").read_text() == "theirs"
    assert not (arena / "out" / "a").is_symlink()
    assert (arena / "victim").read_text() == "precious"


def test_a_target_that_cannot_be_written_is_named(public_path: Path) -> None:
    (public_path / "out").mkdir(mode=0o555)

    def work() -> str:
        with pytest.raises(CannotCreate) as caught:
            extract(public_path / "out", tar(member("a", content=b"x")))
        return caught.value.path

    assert in_child(work, uid=NOBODY) == str(public_path / "out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7_000_000_000), ("7.5", 7_500_000_000), ("7.123456789012", 7_123_456_789)],
)
def test_times_are_read_with_all_their_digits(arena: Path, text: str, expected: int) -> None:
    data = tar(member("a", content=b"x", pax_headers={"mtime": text}))
    extract(arena / "out", data)
    assert (arena / "out" / "a").stat().st_mtime_ns == expected


def test_an_old_ustar_archive_without_pax_headers_is_read(arena: Path) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as made:
        info, content = member("a/b", content=b"x", mtime=1234, mode=0o640)
        made.addfile(info, io.BytesIO(content))
    extract(arena / "out", held.getvalue())
    status = (arena / "out" / "a" / "b").stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1234, 0o640)


def test_padding_after_the_end_of_the_archive_is_read_and_ignored(arena: Path) -> None:
    extract(arena / "out", tar(member("a", content=b"x")) + bytes(300_000))
    assert (arena / "out" / "a").read_text() == "x"


def test_a_target_that_fails_is_named(arena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name == "mkdir":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(OutOfSpace) as caught:
        extract(arena / "out", tar(member("a", content=b"x")))
    assert caught.value.path == str(arena / "out")
    assert_untouched(arena)


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(
    arena: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, _fd: int, target: str) -> None:
        if name == "mkdir" and target == "deep":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(OutOfSpace):
        extract(arena / "out", tar(member("a", content=b"x"), member("b/deep/c", content=b"x")))
    assert_untouched(arena)


def test_a_left_folder_of_a_killed_run_is_taken_away(arena: Path) -> None:
    with Tree(str(arena / "out")) as pinned:
        name = extraction.durable.temporary_name(
            extraction.durable.own_temporary(pinned, "a.tar.sealed")
        )
    (arena / "out" / name / "half").mkdir(parents=True)
    extract(arena / "out", tar(member("a", content=b"x")))
    assert [path.name for path in (arena / "out").iterdir()] == ["a"]


def test_read_only_folders_are_unpacked_by_an_ordinary_user(public_path: Path) -> None:
    def work() -> list[tuple[str, int]]:
        root = public_path / "out"
        data = tar(
            member("top", tarfile.DIRTYPE, mode=0o755),
            member("top/locked", tarfile.DIRTYPE, mode=0o555),
            member("top/locked/in", tarfile.DIRTYPE, mode=0o500),
            member("top/locked/in/file", content=b"x", mode=0o400),
        )
        extract(root, data)
        found = [
            (str(path.relative_to(root)), stat.S_IMODE(path.lstat().st_mode))
            for path in sorted(root.rglob("*"))
        ]
        for path in (root / "top/locked", root / "top/locked/in"):
            path.chmod(0o700)
        return found

    assert in_child(work, uid=NOBODY) == [
        ("top", 0o755),
        ("top/locked", 0o555),
        ("top/locked/in", 0o500),
        ("top/locked/in/file", 0o400),
    ]


def test_another_key_unpacks_nothing(tree: Path, tmp_path: Path) -> None:
    pack(tmp_path / "a.sealed", tree)
    stranger = operations.Answers(identities_given=(KeyIdentity(Secret(SEED[::-1])),))
    request = operations.OpenRequest(paths=(str(tmp_path / "a.sealed"),), to=str(tmp_path / "out"))
    with pytest.raises(EncvaultError) as caught:
        operations.open_paths(request, stranger)
    assert caught.value.exit_code == 77
    assert list((tmp_path / "out").iterdir()) == []


# -- values that no tar should hold ---------------------------------------------------------


@pytest.mark.parametrize("text", ["abc", "1e5", "nan", "inf", "9" * 30, "-" + "9" * 30, "1.x"])
def test_a_time_that_is_none_is_named_and_leaves_nothing(arena: Path, text: str) -> None:
    data = tar(member("a", content=b"x", pax_headers={"mtime": text}))
    with pytest.raises(EncvaultError) as caught:
        extract(arena / "out", data)
    assert caught.value.exit_code == 65
    assert_untouched(arena)


@pytest.mark.parametrize("mtime_ns", [-1, -500_000_000, -1_500_000_000, -2_000_000_000])
def test_times_before_1970_are_read_alike_by_gnu_tar(tmp_path: Path, mtime_ns: int) -> None:
    # POSIX pax: a decimal number of seconds, so half a second before 1970 is "-0.5"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "old").touch()
    os.utime(tmp_path / "docs" / "old", ns=(mtime_ns, mtime_ns))
    pack(tmp_path / "a.sealed", tmp_path / "docs")
    out = tmp_path / "out"
    out.mkdir()
    gnu_tar("-x", "-C", str(out), "-f", "-", data=tar_of(tmp_path / "a.sealed"))
    assert (out / "old").stat().st_mtime_ns == mtime_ns
    unseal(tmp_path / "a.sealed", to=str(tmp_path / "ours"))
    assert (tmp_path / "ours" / "old").stat().st_mtime_ns == mtime_ns


def test_what_could_not_be_restored_is_told(arena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(1, "no attributes here")

    monkeypatch.setattr(os, "setxattr", refuse)
    headers = {"SCHILY.xattr.user.note": "x"}
    report = extract(arena / "out", tar(member("a", content=b"x", pax_headers=headers)))
    assert any("user.note" in note for note in report.notes)


# -- whole or not at all --------------------------------------------------------------------


def test_force_on_a_folder_that_is_in_the_way_changes_nothing_by_halves(arena: Path) -> None:
    (arena / "out" / "a").write_text("mine")
    (arena / "out" / "b").mkdir()
    (arena / "out" / "b" / "inside").write_text("mine")
    data = tar(member("a", content=b"theirs"), member("b", content=b"theirs"))
    with pytest.raises(EncvaultError):
        extract(arena / "out", data, force=True)
    assert (arena / "out" / "a").read_text() == "mine"
    assert (arena / "out" / "b" / "inside").read_text() == "mine"
    assert sorted(path.name for path in (arena / "out").iterdir()) == ["a", "b"]


def test_a_read_only_folder_at_the_top_is_unpacked_by_an_ordinary_user(public_path: Path) -> None:
    out = public_path / "out"

    def work() -> tuple[list[str], int]:
        try:
            extract(
                out,
                tar(
                    member("top", tarfile.DIRTYPE, mode=0o555),
                    member("top/file", content=b"x", mode=0o444),
                ),
            )
            return sorted(os.listdir(out)), stat.S_IMODE((out / "top").stat().st_mode)
        finally:
            unlock_folders(out)

    assert in_child(work, uid=NOBODY) == (["top"], 0o555)


def unlock_folders(root: Path) -> None:
    for folder, _below, _files in os.walk(root):
        os.chmod(folder, 0o700)


def test_read_only_folders_of_a_refused_archive_leave_nothing(public_path: Path) -> None:
    out = public_path / "out"

    def work() -> list[str]:
        out.mkdir()
        (out / "taken").write_text("mine")
        with pytest.raises(DestinationExists):
            extract(
                out,
                tar(
                    member("sub", tarfile.DIRTYPE, mode=0o755),
                    member("sub/locked", tarfile.DIRTYPE, mode=0o555),
                    member("sub/locked/file", content=b"x"),
                    member("taken", content=b"x"),
                ),
            )
        left = sorted(os.listdir(out))
        unlock_folders(out)
        return left

    assert in_child(work, uid=NOBODY) == ["taken"]


def test_a_temporary_folder_exchanged_for_a_link_redirects_nothing(
    arena: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target may be a folder that others can write to, such as /tmp."""
    (arena / "theirs").mkdir()
    real = calls.mkdir
    real_create = calls.create
    seen: list[str] = []

    def exchange(folder: int, name: str, mode: int = 0o777) -> None:
        real(folder, name, mode)
        if name.startswith(".encvault-"):
            os.rmdir(name, dir_fd=folder)
            os.symlink(arena / "theirs", name, dir_fd=folder)

    def note(folder: int, name: str, mode: int = 0o600) -> int:
        seen.append(os.readlink(f"/proc/self/fd/{folder}"))
        return real_create(folder, name, mode)

    monkeypatch.setattr(calls, "mkdir", exchange)
    monkeypatch.setattr(calls, "create", note)
    with pytest.raises(EncvaultError):
        extract(arena / "out", tar(member("a", content=b"secret")))
    assert str(arena / "theirs") not in seen
    assert list((arena / "theirs").iterdir()) == []
