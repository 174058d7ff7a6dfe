"""What every fault test gets: a world in memory, small parts and batches, a settled clock."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault.scenes import BATCH_FILES, PART_SIZE, World

from encvault.fs import stamp as stamps
from encvault.vault import plan, pool, rows, sealing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.fs.stamp import Stamp


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of worlds are made in it."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own there
    where = tempfile.mkdtemp(prefix="encvault-fault-", dir=memory if memory.is_dir() else None)
    yield Path(where)
    shutil.rmtree(where)


@pytest.fixture(scope="session")
def _world(base: Path) -> World:
    return World(base)


@pytest.fixture
def world(_world: World, _small: None) -> World:
    """The one world; its templates are made under the same settings as everything else."""
    return _world


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", PART_SIZE)
    monkeypatch.setattr(pool, "BATCH_FILES", BATCH_FILES)
    monkeypatch.setattr(stamps, "RACY_NS", 0)
    monkeypatch.setattr(rows.Known, "matches", _matches_a_copy)


def _matches_a_copy(known: rows.Known, stamp: Stamp) -> bool:
    # a world is a copy of a template, so its files have other inodes and changed just now
    return known.is_proven and known[:2] == (stamp.size, stamp.mtime_ns)
