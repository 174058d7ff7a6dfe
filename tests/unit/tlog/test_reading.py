"""Lines and notes, whatever else is in the files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from encvault.fs.tree import Tree
from encvault.tlog import reading
from encvault.tlog.reading import iter_all_notes, iter_blocks, last_note, read_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Opened = Callable[[bytes], int]

NOTE = b"text\n\n\xe2\x80\x94 name c2ln\n"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Descriptor of a file of these bytes."""
    fds = []

    def write(data: bytes) -> int:
        (tmp_path / "file").write_bytes(data)
        fds.append(os.open(tmp_path / "file", os.O_RDONLY))
        return fds[-1]

    yield write
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("data", "start", "end", "lines"),
    [
        (b"a\nbb\n\nc\n", 0, 8, [b"a", b"bb", b"", b"c"]),
        (b"a\nbb\n\nc\n", 2, 8, [b"bb", b"", b"c"]),
        (b"a\nbb\ncc", 0, 7, [b"a", b"bb"]),
        (b"a\nbb\ncc\n", 0, 6, [b"a", b"bb"]),
        (b"a\nbb\n", 0, 100, [b"a", b"bb"]),  # the file is shorter by now
        (b"", 0, 0, []),
    ],
)
def test_blocks(
    opened: Opened, monkeypatch: pytest.MonkeyPatch,
    size: int, data: bytes, start: int, end: int, lines: list[bytes],
) -> None:  # fmt: skip
    monkeypatch.setattr(reading, "BLOCK_SIZE", size)
    if size >= 2:  # no line is longer than a block
        assert [line for block in iter_blocks(opened(data), start, end) for line in block] == lines


def test_line_without_an_end(opened: Opened) -> None:
    """A gibibyte of it must not be in memory at once; here three mebibytes."""
    blocks = list(iter_blocks(opened(b"x" * (3 << 20) + b"\n{}\n"), 0, 4 << 20))
    lines = [line for block in blocks for line in block]
    assert b"".join(lines) == b"x" * (3 << 20) + b"{}"
    assert [len(line) > 65_535 for line in lines[:-2]] == [True] * (len(lines) - 2)
    assert lines[-1] == b"{}"


@pytest.mark.parametrize("size", [1 << 5, 1 << 20])
def test_notes(opened: Opened, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(reading, "BLOCK_SIZE", size)
    data = (NOTE + b"\n") * 3 + NOTE[:-1]
    fd = opened(data)
    step = len(NOTE) + 1
    places = [(0, NOTE), (step, NOTE), (2 * step, NOTE)]
    assert list(iter_all_notes(fd, 0, len(data))) == places
    assert list(iter_all_notes(fd, step, len(data))) == places[1:]
    assert list(iter_all_notes(fd, 0, 2 * step)) == places[:2]
    assert list(iter_all_notes(fd, 0, 2 * step - 1)) == places[:1]
    assert last_note(fd, 0) == places[2]
    assert last_note(fd, 3 * step) is None


def test_bytes_without_a_note(opened: Opened) -> None:
    data = bytes(3 << 20)
    pieces = list(iter_all_notes(opened(data), 0, len(data)))
    assert pieces
    assert all(len(piece) > 65_536 for _start, piece in pieces)
    assert [start for start, _piece in pieces] == [0]


def test_small_file(opened: Opened, tmp_path: Path) -> None:
    opened(b"12345")
    with Tree(str(tmp_path)) as tree:
        assert read_small(tree.fd, "file", 5) == b"12345"
        assert read_small(tree.fd, "file", 3) == b"1234"  # one more shows that it is longer
        with pytest.raises(FileNotFoundError):
            read_small(tree.fd, "none", 3)
