"""What real file systems are found to take."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from drivefs import DriveImage

from encvault.fs import calls, rules
from encvault.fs.names import MAX_SIZE, Rules
from encvault.fs.rules import TargetNames, rules_of
from encvault.fs.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("loop devices")  # who detaches one wants it again

SPECIAL = frozenset('"*:<>?\\|\x01')


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "exfat",
            Rules(SPECIAL | {"\udcff"}, size=MAX_SIZE, windows=True, folds=True),
        ),
        ("ntfs", Rules(frozenset({"\udcff"}), size=MAX_SIZE)),
        (
            "ntfs-windows",
            Rules(SPECIAL | {"\udcff"}, size=MAX_SIZE, windows=True, folds=True),
        ),
        (
            "fat",
            Rules(SPECIAL | {"\x7f", "\udcff", "é", "中", "😀"}, windows=True, folds=True),
        ),
        ("ext4", Rules()),
    ],
)
def test_what_a_drive_takes(kind: str, expected: Rules, tmp_path: Path) -> None:
    with DriveImage(kind, tmp_path) as drive:
        with Tree(str(drive.path)) as tree:
            assert rules_of(tree, "") == expected
        assert set(os.listdir(drive.path)) <= {"lost+found"}


def test_an_unknown_file_system_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "kind_of", lambda _device: "")
    with Tree(str(tmp_path)) as tree:
        assert rules_of(tree, "") == Rules()
        assert os.listdir(tmp_path) == []

        limit = 143  # as eCryptfs has it

        def refuse(call: str, _fd: int, name: str) -> None:
            if call == "create" and len(os.fsencode(name)) > limit:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

        monkeypatch.setattr(calls, "probe", refuse)
        assert rules_of(tree, "") == Rules(size=limit)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.ENOENT])
@pytest.mark.parametrize("call", ["mkdir", "create"])
def test_what_fails_for_another_reason_refuses_nothing(
    code: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "kind_of", lambda _device: "fuse")

    def fail(name: str, _fd: int, _target: str) -> None:
        if name == call:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(calls, "probe", fail)
    with Tree(str(tmp_path)) as tree:
        assert rules_of(tree, "") == Rules()
    monkeypatch.setattr(calls, "probe", None)
    assert os.listdir(tmp_path) == []


def test_names_without_doubt_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> Rules:
        raise AssertionError

    monkeypatch.setattr(rules, "rules_of", fail)
    with Tree(str(tmp_path)) as tree:
        names = TargetNames(tree)
        assert names.fitted({"offer 2026 (final).txt", "README.md", "a"}) == {}
        assert names.fit("notes") == "notes"
        for doubtful in ("a:b", "报价单", "con", "dot.", "x" * 101):
            with pytest.raises(AssertionError):
                names.fit(doubtful)
        with pytest.raises(AssertionError):
            names.fitted({"a", "A"})
