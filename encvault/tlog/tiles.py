"""The hashes of a tree as files, so that a proof needs a few reads and not the whole log.

They are the tiles of c2sp.org/tlog-tiles: 256 hashes, those of level 0 of entries, those of each
further level the roots of full tiles below. Here all tiles of a level follow each other in one
file, since a file for each costs more than its hashes. They are derived from the entries and never
trusted: whoever reads one checks what comes of it against a signed root.
"""

from __future__ import annotations

import os
from itertools import accumulate
from typing import TYPE_CHECKING

from encvault.fs import calls
from encvault.tlog.merkle import HASH_SIZE, subtree_roots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.fs.tree import Tree
    from encvault.tlog.merkle import Node

WIDTH = 256  # hashes of a tile
HEIGHT = 8  # levels of the tree that a tile spans
FOLDER = "tile"
OFFSETS = "offsets"

_OFFSET_SIZE = 8


class Tiles:
    """The tiles of a log, and where every 256th entry begins.

    Args:
        tree: the log's folder.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def extend(self, size: int, leaves: Sequence[bytes]) -> None:
        """Add leaves to the tiles of the first `size` entries.

        Raises:
            OSError: they cannot be written, or hashes before them are missing.
        """
        folder = self._tree.make_folders(FOLDER, 0o700)
        level, start, hashes = 0, size, leaves
        while hashes:
            first, width = divmod(start, WIDTH)
            fd = calls.open_update(folder, str(level))
            try:
                run = [*_read(fd, first * WIDTH, width), *hashes]
                calls.write_at(fd, b"".join(hashes), start * HASH_SIZE)
            finally:
                os.close(fd)
            level, start, hashes = level + 1, first, subtree_roots(run, HEIGHT)

    def note_offsets(self, size: int, start: int, lengths: Sequence[int]) -> None:
        """Note where every 256th of some further entries begins.

        Args:
            size: entries before them.
            start: where the first of them begins.
            lengths: bytes of each, with its line feed.

        Raises:
            OSError: that cannot be written.
        """
        numbers = range(-(-size // WIDTH), -(-(size + len(lengths)) // WIDTH))
        if not numbers:
            return
        begins = list(accumulate(lengths, initial=start))
        data = b"".join(begins[number * WIDTH - size].to_bytes(_OFFSET_SIZE) for number in numbers)
        fd = calls.open_update(self._tree.fd, OFFSETS)
        try:
            calls.write_at(fd, data, numbers[0] * _OFFSET_SIZE)
        finally:
            os.close(fd)

    def offset(self, index: int) -> tuple[int, int]:
        """An entry not after `index`, and where it begins.

        Raises:
            OSError: that is not known.
        """
        number = index // WIDTH
        fd = calls.open_read(self._tree.fd, OFFSETS)
        try:
            buffer = bytearray(_OFFSET_SIZE)
            if calls.read_at(fd, memoryview(buffer), number * _OFFSET_SIZE) < _OFFSET_SIZE:
                raise FileNotFoundError(OFFSETS)
        finally:
            os.close(fd)
        return number * WIDTH, int.from_bytes(buffer)

    def nodes(self, wanted: Sequence[Node]) -> list[bytes]:
        """The hashes of full subtrees of the tree.

        Raises:
            OSError: hashes are missing.
        """
        folder = self._tree.folder(FOLDER)
        found = []
        for level, index in wanted:
            tile_level, height = divmod(level, HEIGHT)
            fd = calls.open_read(folder, str(tile_level))
            try:
                hashes = _read(fd, index << height, 1 << height)
            finally:
                os.close(fd)
            found += subtree_roots(hashes, height)
        return found


def _read(fd: int, start: int, count: int) -> list[bytes]:
    """Some hashes of a level."""
    data = bytearray(count * HASH_SIZE)
    if calls.read_at(fd, memoryview(data), start * HASH_SIZE) < len(data):
        raise FileNotFoundError(FOLDER)
    return [bytes(data[at : at + HASH_SIZE]) for at in range(0, len(data), HASH_SIZE)]
