"""What the programs work on, written before any clock starts."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
_IN_A_FOLDER = 50
_FOLDERS_TOGETHER = 20


def write_random(path: Path, mib: int) -> None:
    """One large file that nothing compresses."""
    with path.open("wb") as file:
        for _piece in range(mib):
            file.write(os.urandom(MIB))


def write_tree(root: Path, files: int) -> None:
    """A tree like a company's share: many small files, some of a few megabytes."""
    generator = random.Random(1)
    pool = os.urandom(8 * MIB)
    for index in range(files):
        folder = _folder(root, index)
        if index % _IN_A_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        size = min(int(generator.lognormvariate(8.6, 1.5)), 4 * MIB)
        at = generator.randrange(len(pool) - size)
        path = folder / f"文件 {index}.dat"
        path.write_bytes(pool[at : at + size])
        when = 1_500_000_000 * 10**9 + index
        os.utime(path, ns=(when, when))


def write_tiny(root: Path, files: int) -> None:
    """Many files of a kilobyte, for what grows with their number."""
    for index in range(files):
        folder = _folder(root, index)
        if index % _IN_A_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"文件 {index}.dat").write_bytes(b"%7d" % index * 146)


def _folder(root: Path, index: int) -> Path:
    together = _IN_A_FOLDER * _FOLDERS_TOGETHER
    inner = index // _IN_A_FOLDER % _FOLDERS_TOGETHER
    return root / f"d{index // together:03}" / f"e{inner:02}"


def write_source(root: Path, files: int) -> None:
    """A folder like one of source code: 0.2 to 40 kB a file, some folders deep."""
    generator = random.Random(1)
    for number in range(files):
        depth = generator.choice([1, 2, 2, 3, 3, 4, 8])
        folder = root.joinpath(*(f"part{generator.randrange(4)}" for _level in range(depth)))
        folder.mkdir(parents=True, exist_ok=True)
        size = min(max(int(generator.lognormvariate(8.2, 1.2)), 200), 40_000)
        line = f"value_{number} = compute(value_{number - 1}, {generator.random()})\n"
        (folder / f"module{number}.py").write_text((line * (size // len(line) + 1))[:size])
