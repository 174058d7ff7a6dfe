"""Tiles hold the hashes that the specification says, however the entries came."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest
from logs import root_of

from encvault.fs.tree import Tree
from encvault.tlog.merkle import subtree_roots
from encvault.tlog.tiles import Tiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 256 * 3 + 70
LINES = [b"%d" % number for number in range(COUNT)]
LEAVES = [hashlib.sha256(b"\0" + line).digest() for line in LINES]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(str(tmp_path)) as pinned:
        yield pinned


def grow(tree: Tree, count: int, seed: int) -> Tiles:
    """Tiles of entries that came in batches of any size."""
    tiles, order, size = Tiles(tree), random.Random(seed), 0
    while size < count:
        step = min(order.choice([1, 2, 100, 255, 256, 257, 600]), count - size)
        tiles.extend(size, LEAVES[size : size + step])
        tiles.note_offsets(size, size * 10, [10] * step)
        size += step
    return tiles


@pytest.mark.parametrize("seed", range(4))
def test_files(tree: Tree, tmp_path: Path, seed: int) -> None:
    grow(tree, COUNT, seed)
    found = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / "tile").rglob("*")
        if path.is_file()
    }
    # cut into pieces of 8,192 bytes, these are the tiles of tlog-tiles
    assert found == {
        "tile/0": b"".join(LEAVES),
        "tile/1": b"".join(root_of(LINES[at : at + 256]) for at in (0, 256, 512)),
    }
    offsets = (tmp_path / "offsets").read_bytes()
    assert offsets == b"".join((2560 * number).to_bytes(8) for number in range(4))


@pytest.mark.parametrize("seed", range(4))
def test_nodes(tree: Tree, seed: int) -> None:
    tiles = grow(tree, COUNT, seed)
    wanted = [(0, 5), (0, COUNT - 1), (3, 7), (7, 2), (8, 0), (8, 2), (9, 0), (6, 12)]
    expected = [root_of(LINES[index << level : index + 1 << level]) for level, index in wanted]
    assert tiles.nodes(wanted) == expected


def test_growing_to_the_end_of_a_tile(tree: Tree, tmp_path: Path) -> None:
    tiles = grow(tree, 200, 0)
    assert not (tmp_path / "tile" / "1").exists()
    tiles.extend(200, LEAVES[200:256])
    assert (tmp_path / "tile" / "1").read_bytes() == root_of(LINES[:256])


def test_hashes_missing(tree: Tree, tmp_path: Path) -> None:
    tiles = grow(tree, 300, 0)
    os.truncate(tmp_path / "tile" / "0", 32 * 299 + 31)
    assert tiles.nodes([(0, 298)]) == [LEAVES[298]]
    with pytest.raises(FileNotFoundError):
        tiles.nodes([(0, 299)])
    with pytest.raises(FileNotFoundError):
        tiles.extend(300, LEAVES[:1])
    with pytest.raises(FileNotFoundError):
        tiles.nodes([(8, 1)])


def test_what_a_killed_run_left_is_overwritten(tree: Tree, tmp_path: Path) -> None:
    tiles = grow(tree, 200, 0)
    with (tmp_path / "tile" / "0").open("ab") as file:
        file.write(b"x" * 1000)
    tiles.extend(200, LEAVES[200:300])
    assert (tmp_path / "tile" / "0").read_bytes()[: 32 * 300] == b"".join(LEAVES[:300])
    assert tiles.nodes([(8, 0)]) == [root_of(LINES[:256])]


@pytest.mark.parametrize("height", range(4))
def test_subtree_roots(height: int) -> None:
    whole = range(0, 19 - 19 % (1 << height), 1 << height)
    expected = [root_of(LINES[at : at + (1 << height)]) for at in whole]
    assert subtree_roots(LEAVES[:19], height) == expected


def test_offset(tree: Tree, tmp_path: Path) -> None:
    tiles = grow(tree, COUNT, 1)
    assert tiles.offset(0) == (0, 0)
    assert tiles.offset(255) == (0, 0)
    assert tiles.offset(600) == (512, 5120)
    with pytest.raises(FileNotFoundError):
        tiles.offset(1024)
