"""Folders that are remembered until the end of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.vault.visited import Visited, VisitedFolders

if TYPE_CHECKING:
    from pathlib import Path

_SECOND_NS = 10**9


def _met(paths: list[str], status: os.stat_result) -> VisitedFolders:
    folders = VisitedFolders()
    for path in paths:
        folders.add(path, status)
    return folders


def test_folders_come_back_inner_ones_first(tmp_path: Path) -> None:
    folders = _met(["", "a", "a/文件", "a b", os.fsdecode(b"a b/\xff\n")], tmp_path.stat())
    paths = [folder.path for folder in folders]
    assert paths == [os.fsdecode(b"a b/\xff\n"), "a b", "a/文件", "a", ""]
    assert [folder.path for folder in folders] == paths, "more than once"


def test_each_comes_back_with_what_it_was(tmp_path: Path) -> None:
    folders = VisitedFolders()
    expected = []
    times = (0, -1, 1_500_000_000 * _SECOND_NS + 123_456_789, 10**11 * _SECOND_NS + 1)
    for number, mtime_ns in enumerate(times):
        # a file system may have times that do not fit into 64 bits as nanoseconds
        fields = (0o42751, 1, 1, 1, 4_294_967_294, 1000 + number, 0, 0, 0, 0)
        names = {"st_mtime_ns": mtime_ns, "st_atime_ns": 0, "st_ctime_ns": 0}
        folders.add(f"f{number}", os.stat_result(fields, names))
        expected.insert(0, Visited(f"f{number}", 0o2751, mtime_ns, (4_294_967_294, 1000 + number)))
    assert list(folders) == expected


def test_what_was_not_met_is_told(tmp_path: Path) -> None:
    folders = _met(["", "a", "a/b"], tmp_path.stat())
    assert folders.unvisited(["a", "a/b/c", "b", ""]) == {"a/b/c", "b"}


def test_no_folder_was_met() -> None:
    folders = VisitedFolders()
    assert list(folders) == []
    assert folders.unvisited([""]) == {""}
