"""What was signed is never touched; what a crash left is moved away, whole; the rest is derived."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from logs import lines_of, notes_of, root_of, size_of, write_log

from encvault.errors import LogDamaged
from encvault.fs import calls
from encvault.fs.tree import Tree
from encvault.tlog.notes import Note, sign_note
from encvault.tlog.store import Batch, Memo, Store
from encvault.tlog.tiles import Tiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORIGIN = "example.com/log"


def sign(text: str) -> Note:
    return sign_note(text, ORIGIN, bytes(32))


def fold(memo: Memo, line: bytes) -> None:
    """Count the entries; one is refused."""
    if line == b"none":
        raise ValueError(line)
    memo["count"] = memo.get("count", 0) + 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name in ("entries", "checkpoints"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def tree(path: Path) -> Iterator[Tree]:
    with Tree(str(path)) as pinned:
        yield pinned


def new(tree: Tree, origin: str = ORIGIN) -> Store:
    """A store that knows only what is in the folder."""
    return Store(tree, origin, fold)


def add(tree: Tree, *lines: bytes) -> Store:
    store = new(tree)
    assert store.catch_up() == []
    memo = store.memo
    for line in lines:
        fold(memo, line)
    store.append([Batch(lines, sign)], memo)
    return store


def test_appended(tree: Tree, path: Path) -> None:
    add(tree, b"a", b"b")
    store = add(tree, b"c")
    assert lines_of(path) == [b"a", b"b", b"c"]
    assert [size_of(note) for note in notes_of(path)] == [2, 3]
    assert store.checkpoint == notes_of(path)[-1] == (path / "checkpoint").read_bytes()
    assert (store.size, store.memo) == (3, {"count": 3})
    assert store.notes_end == (path / "checkpoints").stat().st_size
    assert Tiles(tree).nodes([(1, 0)]) == [root_of([b"a", b"b"])]


def test_several_batches_at_once(tree: Tree, path: Path) -> None:
    store = new(tree)
    store.catch_up()
    starts = store.append([Batch([b"a"], sign), Batch([b"b", b"c"], sign)], {})
    notes = notes_of(path)
    assert [size_of(note) for note in notes] == [1, 3]
    assert starts == [0, len(notes[0]) + 1]


def test_nothing_yet(tree: Tree) -> None:
    store = new(tree)
    assert store.catch_up() == []
    assert (store.size, store.memo) == (0, {})


# -- what is derived ------------------------------------------------------------------------


def test_lost_state_is_rebuilt(tree: Tree, path: Path) -> None:
    add(tree, b"a", b"b")
    (path / "state").unlink()
    shutil.rmtree(path / "tile")
    with Tree(str(path)) as other:
        store = new(other)
        assert store.catch_up() == []
        assert (store.size, store.memo, store.checkpoint) == (2, {"count": 2}, notes_of(path)[0])
        assert Tiles(other).nodes([(1, 0)]) == [root_of([b"a", b"b"])]


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"size": 1},
        {"frontier": []},
        {"frontier": ["AAAA"]},
        {"notes_end": 10**6},
        {"entries_end": 10**6},
        {"entries_end": 0},
        {"entries_end": 2},
        {"size": 2.0},
        {"note_start": 1},
        {"note_start": -1},
        {"note_start": 10**5, "notes_end": 3},
        {"memo": None},
        {"size": None},
    ],
)
def test_lying_state_is_ignored(tree: Tree, path: Path, change: dict[str, object]) -> None:
    add(tree, b"a", b"b")
    state = json.loads((path / "state").read_bytes())
    (path / "state").write_text(json.dumps(state | change))
    store = add(tree, b"c")
    assert (store.size, store.memo) == (3, {"count": 3})
    assert lines_of(path) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\xff", "[" * 10**5])
def test_state_that_is_none_is_ignored(tree: Tree, path: Path, text: str) -> None:
    add(tree, b"a")
    (path / "state").write_text(text)
    assert add(tree, b"b").size == 2


def test_older_state_is_brought_up_to_date(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    state = (path / "state").read_bytes()
    add(tree, b"b", b"c")
    (path / "state").write_bytes(state)
    store = new(tree)
    assert store.catch_up() == []
    assert (store.size, store.memo) == (3, {"count": 3})


@pytest.mark.parametrize("name", ["checkpoint", "state", "offsets", "tile"])
def test_derived_files_that_cannot_be_written(tree: Tree, path: Path, name: str) -> None:
    if name == "tile":
        (path / name).touch()
    else:
        (path / name).mkdir()
    store = add(tree, b"a")
    assert store.size == 1
    assert notes_of(path) == [store.checkpoint]


def test_fsck_makes_it_anew(tree: Tree, path: Path) -> None:
    add(tree, *(b"%d" % number for number in range(300)))
    (path / "offsets").write_bytes(b"nonsense")
    (path / "tile" / "0").write_bytes(b"nonsense")
    new(tree).fsck()
    assert Tiles(tree).nodes([(8, 0)]) == [root_of([b"%d" % number for number in range(256)])]
    assert Tiles(tree).offset(299) == (256, 2 * 10 + 3 * 90 + 4 * 156)
    lines = lines_of(path)
    write_log(path, [b"x", *lines[1:]], notes_of(path))
    with pytest.raises(LogDamaged, match="changed after they were signed"):
        new(tree).fsck()


# -- what a crash left ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "count"), [(b"half", 0), (b"whole\n", 1), (b"whole\nhalf", 1), (b"\n\xff\0\n", 2)]
)
def test_torn_entries(tree: Tree, path: Path, tail: bytes, count: int) -> None:
    add(tree, b"a")
    with (path / "entries").open("ab") as file:
        file.write(tail)
    (torn,) = new(tree).catch_up()
    assert (torn.file, torn.size, torn.count) == (torn_name("entries", tail), len(tail), count)
    assert (path / torn.file).read_bytes() == tail
    assert lines_of(path) == [b"a"]
    assert add(tree, b"b").size == 2


def test_torn_checkpoint(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    note = notes_of(path)[0]
    with (path / "checkpoints").open("ab") as file:
        file.write(note[:-5])
    with (path / "entries").open("ab") as file:
        file.write(b"b\n")
    entries, checkpoints = new(tree).catch_up()
    assert entries.file == torn_name("entries", b"b\n")
    assert checkpoints.file == torn_name("checkpoints", note[:-5])
    assert checkpoints.size == len(note) - 5
    assert (path / checkpoints.file).read_bytes() == note[:-5]
    assert notes_of(path) == [note]


def test_torn_before_anything_was_signed(tree: Tree, path: Path) -> None:
    (path / "entries").write_bytes(b"a\n")
    (torn,) = new(tree).catch_up()
    assert (torn.size, torn.count) == (2, 1)
    assert (path / "entries").read_bytes() == b""


def test_torn_twice(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    for number in (1, 2):
        with (path / "entries").open("ab") as file:
            file.write(b"tail %d" % number)
        (torn,) = new(tree).catch_up()
        assert (path / torn.file).read_bytes() == b"tail %d" % number


def test_moving_that_was_stopped_gives_one_file(
    tree: Tree, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tree, b"a")
    with (path / "entries").open("ab") as file:
        file.write(b"whole\nhalf")

    def stop(name: str, _fd: int, _target: str) -> None:
        if name == "truncate":
            raise OSError(errno.EIO, "stopped")

    with monkeypatch.context() as at_the_cut:
        at_the_cut.setattr(calls, "probe", stop)
        with pytest.raises(OSError, match="stopped"):
            new(tree).catch_up()
    (torn,) = new(tree).catch_up()
    assert [found.name for found in path.glob("torn-*")] == [torn.file]
    store = new(tree)
    store.catch_up()
    assert store.torn(()) == [torn]
    assert store.torn((torn.file,)) == []


def test_last_entry(tree: Tree) -> None:
    store = add(tree, b"a", b"bc")
    assert store.ends_with(b"bc\n")
    assert not store.ends_with(b"bd\n")
    assert not store.ends_with(b"a\nbc\nxxxx\n")


def torn_name(name: str, data: bytes) -> str:
    return f"torn-{name}-{hashlib.sha256(data).hexdigest()[:16]}.bin"


def test_torn_latest_checkpoint_is_no_damage(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    for data in (b"", b"torn", notes_of(path)[0][:-3]):
        (path / "checkpoint").write_bytes(data)
        assert new(tree).catch_up() == []


@pytest.mark.parametrize("call", ["write_at", "fsync"])
@pytest.mark.parametrize("number", [1, 2])
def test_full_disk_leaves_nothing(
    tree: Tree, path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    add(tree, b"a")
    before = {name: (path / name).read_bytes() for name in ("entries", "checkpoints")}
    store = new(tree)
    store.catch_up()
    seen = []

    def full(name: str, _fd: int, _target: str) -> None:
        seen.append(name)
        if seen.count(call) == number and name == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(calls, "probe", full)
    with pytest.raises(OSError, match="No space"):
        store.append([Batch([b"b"], sign)], {})
    monkeypatch.setattr(calls, "probe", None)
    assert {name: (path / name).read_bytes() for name in before} == before
    assert add(tree, b"c").size == 2


def test_disk_that_fails_for_good(tree: Tree, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even cutting off works; the next run moves away what is left."""
    store = new(tree)
    store.catch_up()

    def broken(name: str, _fd: int, _target: str) -> None:
        if name in ("fsync", "truncate"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(calls, "probe", broken)
    with pytest.raises(OSError, match="Input"):
        store.append([Batch([b"a"], sign)], {})
    monkeypatch.setattr(calls, "probe", None)
    assert [torn.count for torn in new(tree).catch_up()] == [1]


# -- damage ---------------------------------------------------------------------------------


def refused(tree: Tree, origin: str = ORIGIN) -> str:
    with pytest.raises(LogDamaged) as raised:
        new(tree, origin).catch_up()
    return raised.value.reason


def test_entries_missing(tree: Tree, path: Path) -> None:
    add(tree, b"a", b"b")
    write_log(path, [b"a"], notes_of(path))
    assert refused(tree) == "entries that were signed are missing"


def test_entries_changed(tree: Tree, path: Path) -> None:
    add(tree, b"a", b"b")
    write_log(path, [b"a", b"c"], notes_of(path))
    assert refused(tree) == "entries were changed after they were signed"


def test_entry_that_is_none(tree: Tree, path: Path) -> None:
    add(tree, b"a", b"b")
    write_log(path, [b"a", b"none"], notes_of(path))
    assert refused(tree) == "an entry that was signed is none"


def test_checkpoint_of_another_log(tree: Tree) -> None:
    add(tree, b"a")
    assert refused(tree, "example.com/other") == "a checkpoint is of another log"


def test_checkpoint_that_is_none(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    (path / "checkpoints").write_bytes(b"no\n\nnote\n\n")
    (path / "state").unlink()
    assert "not a well-formed signed note" in refused(tree)


def test_checkpoints_go_back(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    first = notes_of(path)[0]
    add(tree, b"b")
    with (path / "checkpoints").open("ab") as file:
        file.write(first + b"\n")
    assert refused(tree) == "a checkpoint is smaller than the one before it"


def test_latest_checkpoint_is_ahead(tree: Tree, path: Path) -> None:
    add(tree, b"a")
    copies = {name: (path / name).read_bytes() for name in ("entries", "checkpoints", "state")}
    add(tree, b"b")
    for name, data in copies.items():
        (path / name).write_bytes(data)
    assert refused(tree) == "the latest checkpoint has more entries than there are"
