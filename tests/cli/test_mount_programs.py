"""Programs save, copy, unpack and commit in a mount, and all of it is in the vault afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from helpers import snapshot, write_tree
from mount_dances import DANCES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mount_dances import Dance
    from mounting import MountedVault

NAME = "quote.txt"


def text(size: int, word: str) -> bytes:
    """Lines of text, each with its number: what is shifted or missing shows."""
    lines = (b"%s %07d\n" % (word.encode(), number) for number in itertools.count())
    content = b""
    for line in lines:
        content += line
        if len(content) >= size:
            return content[: size - 1] + b"\n"
    raise AssertionError


# shorter and longer than before, at and beside the borders of chunks
SIZES = [(50_000, 70_001), (70_001, 16_384), (10, 131_073), (131_072, 5000)]


def held(folder: Path) -> dict[str, bytes]:
    """What a folder holds, by path: the content of files and the targets of links."""
    return {
        str(path.relative_to(folder)): os.readlink(path).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def danced(dance: Dance, folder: Path) -> tuple[dict[str, bytes], str]:
    """Dance with each size in a folder of its own; what must be there, and what went wrong."""
    expected: dict[str, bytes] = {}
    for number, (before, after) in enumerate(SIZES):
        place = folder / f"{dance.__name__}-{number}"
        place.mkdir()
        (place / NAME).write_bytes(text(before, "old"))
        try:
            found = dance(place, NAME, text(after, "new"))
        except (OSError, AssertionError):
            return expected, traceback.format_exc()
        if held(place) != found:
            return expected, f"{place.name} holds {sorted(held(place))}, or another content"
        expected |= {f"{place.name}/{name}": content for name, content in found.items()}
    return expected, ""


def test_what_programs_save_is_there_and_in_the_vault(
    mounted: MountedVault, tmp_path: Path
) -> None:
    mounted.mount()
    expected: dict[str, bytes] = {}
    wrong = {}
    for dance in DANCES:
        found, error = danced(dance, mounted.folder)
        expected |= found
        if error:
            wrong[dance.__name__] = error
    assert not wrong, "\n".join(f"{name}: {error}" for name, error in wrong.items())
    mounted.unmount()
    mounted.check()
    assert not [path for path in mounted.vault.rglob("*") if path.name.startswith(".encvault-")]
    opened = held(mounted.opened(tmp_path / "opened"))
    assert sorted(opened) == sorted(expected)
    assert not [name for name, content in expected.items() if opened[name] != content]


def test_cat_prints_what_a_program_saved(mounted: MountedVault) -> None:
    mounted.mount()
    new = text(70_001, "new")
    for dance in DANCES[:4]:
        (mounted.folder / dance.__name__).mkdir()
        (mounted.folder / dance.__name__ / NAME).write_bytes(b"old")
        dance(mounted.folder / dance.__name__, NAME, new)
    mounted.unmount()
    for dance in DANCES[:4]:
        assert mounted.cat(f"{dance.__name__}/{NAME}") == new


def test_who_opens_a_file_that_was_exchanged_sees_nothing_of_the_old_one(
    mounted: MountedVault, tmp_path: Path
) -> None:
    """The kernel keeps pages by path, and would show those of the file that was there before."""
    if mounted.layout == "hidden":  # there another object is another file: tests/unit/mount
        return
    size = 1 << 20
    mounted.mount()
    sealed = mounted.vault / "f.sealed"
    versions = []
    for letter in (b"1", b"2"):
        with (mounted.folder / "f").open("wb") as file:
            file.write(letter * size)
            file.flush()
            os.fsync(file.fileno())
        versions.append(shutil.copy(sealed, tmp_path / letter.decode()))

    def exchange(version: Path) -> None:
        shutil.copy(version, mounted.vault / "new")
        (mounted.vault / "new").rename(sealed)

    def first_byte() -> bytes:
        with (mounted.folder / "f").open("rb", buffering=0) as file:
            return file.read(1)

    exchange(versions[0])
    until(lambda: first_byte() == b"1")
    with (mounted.folder / "f").open("rb", buffering=0) as old:
        assert old.read(4096) == b"1" * 4096
        exchange(versions[1])
        until(lambda: first_byte() == b"2")
        with (mounted.folder / "f").open("rb", buffering=0) as new:
            assert os.pread(old.fileno(), 4096, 500_000) == b"1" * 4096
            assert new.read() == b"2" * size
            assert os.pread(old.fileno(), size, 0) == b"1" * size
    assert (mounted.folder / "f").read_bytes() == b"2" * size
    mounted.unmount()
    mounted.check()


def until(condition: Callable[[], bool]) -> None:
    """The kernel believes for a second what it was told of a file."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- real programs --------------------------------------------------------------------------


def program(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must end well; what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")


def test_a_repository_is_cloned_packed_and_committed_to(
    mounted: MountedVault, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    program("git", "init", "-q", "-b", "main", origin)
    for number in range(12):
        (origin / f"文件 {number % 5}.txt").write_bytes(text(2000 * number + 1, str(number)))
        program(*GIT, "add", ".", cwd=origin)
        program(*GIT, "commit", "-q", "-m", f"change {number}", cwd=origin)
    mounted.mount()
    clone = mounted.folder / "clone"
    program("git", "clone", "-q", "--no-local", origin, clone)
    assert program("git", "status", "--porcelain", cwd=clone) == ""
    (clone / "new.txt").write_bytes(text(40_000, "new"))
    program(*GIT, "add", ".", cwd=clone)
    program(*GIT, "commit", "-q", "-m", "from the mount", cwd=clone)
    program("git", "gc", "-q", "--prune=now", cwd=clone)
    program("git", "checkout", "-q", "HEAD~3", cwd=clone)
    program("git", "checkout", "-q", "main", cwd=clone)
    head = program("git", "rev-parse", "HEAD", cwd=clone)
    mounted.unmount()
    mounted.check()
    mounted.mount()
    assert program("git", "status", "--porcelain", cwd=clone) == ""
    program("git", "fsck", "--strict", "--full", cwd=clone)
    assert program("git", "rev-parse", "HEAD", cwd=clone) == head
    program("git", "pull", "-q", clone, cwd=origin)
    assert (origin / "new.txt").read_bytes() == text(40_000, "new")
    mounted.unmount()


READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], timeout=30)
print("ready", flush=True)
seen = 0
while seen < int(sys.argv[2]):
    rows, total = reader.execute("SELECT count(*), sum(amount) FROM bookings").fetchone()
    # each change books an amount and takes it away again: none of them is seen by half
    assert rows % 2 == 0 and not total, (rows, total)
    assert rows >= seen, (rows, seen)
    seen = rows
reader.close()
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_is_written_while_another_process_reads(
    mounted: MountedVault, mode: str
) -> None:
    mounted.mount()
    path = mounted.folder / "books.db"
    changes = 40
    with closing(sqlite3.connect(path, timeout=30)) as books:
        assert books.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
        books.execute("CREATE TABLE bookings (amount INTEGER, note TEXT)")
        reading = subprocess.Popen(
            [sys.executable, "-c", READER, path, str(2 * changes)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert reading.stdout is not None
        assert reading.stdout.readline() == "ready\n"
        for number in range(changes):
            with books:
                rows = [(number, "n" * 3000), (-number, "m" * 3000)]
                books.executemany("INSERT INTO bookings VALUES (?, ?)", rows)
        _out, error = reading.communicate(timeout=60)
        assert reading.returncode == 0, error
    mounted.unmount()
    mounted.check()
    mounted.mount()
    with closing(sqlite3.connect(path)) as books:
        assert books.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert books.execute("SELECT count(*) FROM bookings").fetchone() == (2 * changes,)
    mounted.unmount()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    write_tree(root, big=300_000)
    os.utime(root, ns=(10**18, 10**18))
    return root


def put_into(mounted: MountedVault, *commands: Sequence[str | Path]) -> None:
    mounted.mount()
    for command in commands:
        program(*command)


def same_as(mounted: MountedVault, tree: Path, to: Path) -> None:
    """The mount holds the tree, with times; so does the vault."""
    expected = snapshot(tree)
    assert snapshot(mounted.folder / "tree") == expected
    mounted.unmount()
    mounted.mount()
    assert snapshot(mounted.folder / "tree") == expected
    mounted.unmount()
    mounted.check()
    assert snapshot(mounted.opened(to) / "tree") == expected


def test_tar_unpacks_and_finds_no_difference(
    mounted: MountedVault, tree: Path, tmp_path: Path
) -> None:
    (tree / "src" / "run.sh").chmod(0o4750)
    archive = tmp_path / "tree.tar"
    program("tar", "--format=pax", "-cf", archive, "-C", tmp_path, "tree")
    put_into(mounted, ("tar", "-xpf", archive, "-C", mounted.folder))
    assert program("tar", "-df", archive, "-C", mounted.folder) == ""
    same_as(mounted, tree, tmp_path / "opened")


def test_cp_copies_all_there_is(mounted: MountedVault, tree: Path, tmp_path: Path) -> None:
    os.setxattr(tree / "empty", "user.备注", b"value")
    put_into(mounted, ("cp", "-a", tree, mounted.folder))
    assert os.getxattr(mounted.folder / "tree" / "empty", "user.备注") == b"value"
    assert program("diff", "-r", "--no-dereference", tree, mounted.folder / "tree") == ""
    same_as(mounted, tree, tmp_path / "opened")


def test_rsync_copies_and_has_nothing_to_do_the_second_time(
    mounted: MountedVault, tree: Path, tmp_path: Path
) -> None:
    copy = ("rsync", "-ai", tree, mounted.folder)
    put_into(mounted, copy)
    assert program(*copy) == ""
    (tree / "报价单 2026.xlsx").write_bytes(text(90_000, "new"))
    (tree / "empty").unlink()
    assert len(program(*copy, "--delete").splitlines()) == 3  # and the folder that it was in
    same_as(mounted, tree, tmp_path / "opened")


def test_sed_changes_files_in_place(mounted: MountedVault, tree: Path, tmp_path: Path) -> None:
    files = ("src/deep/er/main.py", "src/run.sh")
    put_into(
        mounted,
        ("cp", "-a", tree, mounted.folder),
        ("sed", "-i", "s/i/ii/g", *(mounted.folder / "tree" / file for file in files)),
    )
    for file in files:
        assert (mounted.folder / "tree" / file).read_text() == (tree / file).read_text().replace(
            "i", "ii"
        )
    assert (mounted.folder / "tree" / "src/run.sh").stat().st_mode & 0o777 == 0o755
    mounted.unmount()
    mounted.check()
    assert (mounted.opened(tmp_path / "opened") / "tree/src/run.sh").read_text() == "#!/biin/sh\n"


def test_python_compiles_and_imports_modules(mounted: MountedVault, tmp_path: Path) -> None:
    mounted.mount()
    package = mounted.folder / "package"
    package.mkdir()
    for number in range(5):
        (package / f"m{number}.py").write_text(f"VALUE = {number}\n" * 500)
    (package / "__init__.py").touch()
    program(sys.executable, "-m", "compileall", "-q", package)
    mounted.unmount()
    mounted.check()
    mounted.mount()
    cached = package / "__pycache__" / f"m3.{sys.implementation.cache_tag}.pyc"
    before = cached.stat().st_mtime_ns
    out = program(
        sys.executable, "-c", "import package.m3 as m; print(m.VALUE)", cwd=mounted.folder
    )
    assert out == "3\n"
    assert cached.stat().st_mtime_ns == before  # the time of the source was what is compiled in it
    mounted.unmount()


def test_a_package_is_unpacked(mounted: MountedVault, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN" / "control").write_text(
        "Package: quote\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.com>\n"
        "Description: a quotation\n"
    )
    content = source / "usr" / "share"
    content.mkdir(parents=True)
    (content / "quote.txt").write_bytes(text(100_000, "quote"))
    (content / "run").write_text("#!/bin/sh\n")
    (content / "run").chmod(0o755)
    (content / "link").symlink_to("quote.txt")
    package = tmp_path / "quote.deb"
    program("dpkg-deb", "--root-owner-group", "-b", source, package)
    put_into(mounted, ("dpkg-deb", "-x", package, mounted.folder / "tree"))
    expected = snapshot(source, times=False)
    expected = {name: node for name, node in expected.items() if "DEBIAN" not in name}
    assert snapshot(mounted.folder / "tree", times=False) == expected
    mounted.unmount()
    mounted.check()
    assert snapshot(mounted.opened(tmp_path / "opened") / "tree", times=False) == expected
