"""Read a log's files, whoever else is writing to them."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from encvault.fs import calls
from encvault.tlog.checkpoints import iter_notes

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES = "entries"
CHECKPOINTS = "checkpoints"
CHECKPOINT = "checkpoint"
BLOCK_SIZE = 1 << 20


def iter_blocks(fd: int, start: int, end: int) -> Iterator[list[bytes]]:
    """The whole lines of a file between two places, about a mebibyte of them at a time.

    Args:
        fd: its descriptor; where it stands does not matter.
        start: where a line begins.
        end: bytes from here on are not read, and a line that ends behind it is not given.

    Yields:
        lines without their ends. What is longer than a mebibyte comes in pieces, each too long to
        be an entry.
    """
    rest = b""
    while start < end:
        data = os.pread(fd, min(BLOCK_SIZE, end - start), start)
        if not data:
            return
        start += len(data)
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        if len(rest) > BLOCK_SIZE:
            lines.append(rest)
            rest = b""
        if lines:
            yield lines


def iter_all_notes(fd: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The whole notes of a file of checkpoints between two places, and where each begins.

    Args:
        fd: its descriptor; where it stands does not matter.
        start: where a note begins.
        end: bytes from here on are not read.

    Yields:
        as `iter_notes`; and what is longer than a mebibyte in pieces, of which none is a note.
    """
    rest = b""
    while data := os.pread(fd, min(BLOCK_SIZE, end - start - len(rest)), start + len(rest)):
        rest += data
        read = 0
        for offset, note in iter_notes(rest):
            read = offset + len(note) + 1
            yield start + offset, note
        start, rest = start + read, rest[read:]
        if len(rest) > BLOCK_SIZE:
            yield start, rest
            start, rest = start + len(rest), b""


def last_note(fd: int, start: int) -> tuple[int, bytes] | None:
    """The last whole note from a place on, and where it begins; None if there is none."""
    found = deque(iter_all_notes(fd, start, os.fstat(fd).st_size), maxlen=1)
    return found[0] if found else None


def read_small(folder: int, name: str, limit: int) -> bytes:
    """A small file, and one byte more if it is longer than `limit`."""
    fd = calls.open_read(folder, name)
    try:
        return calls.read(fd, limit + 1)
    finally:
        os.close(fd)
