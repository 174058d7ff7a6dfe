"""Where sealed files lie: docs/format.md sections 6.1 and 6.2."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from helpers import seal, unseal

from encvault.errors import UnsafePath
from encvault.fs.tree import Tree
from encvault.vault import layout

if TYPE_CHECKING:
    from pathlib import Path

ID = "ab" + "c" * 23 + "a"


def short(name: bytes, prefix: bytes) -> bytes:
    digest = base64.b32encode(hashlib.sha256(name).digest()).decode().lower()[:20]
    return prefix + b"~" + digest.encode() + b".sealed"


@pytest.mark.parametrize(
    ("name", "sealed"),
    [
        (b"quote.xlsx", b"quote.xlsx.sealed"),
        ("报价单.xlsx".encode(), "报价单.xlsx.sealed".encode()),
        (b"latin-\xe9", b"latin-\xe9.sealed"),
        (b"n" * 248, b"n" * 248 + b".sealed"),
        (b"n" * 249, short(b"n" * 249, b"n" * 200)),
        (b"n" * 255, short(b"n" * 255, b"n" * 200)),
        ("中".encode() * 85, short("中".encode() * 85, "中".encode() * 66)),
        (b"x" + "中".encode() * 84, short(b"x" + "中".encode() * 84, b"x" + "中".encode() * 66)),
    ],
)
def test_the_sealed_name_of_the_format_page(name: bytes, sealed: bytes) -> None:
    made = layout.sealed_name(os.fsdecode(name))
    assert os.fsencode(made) == sealed
    assert len(sealed) <= 255


def test_different_long_names_stay_different() -> None:
    names = ["n" * 254 + last for last in "abc"]
    assert len({layout.sealed_name(name) for name in names}) == 3


@pytest.mark.parametrize(
    ("now", "sealed_as", "opened"),
    [
        ("a.txt.sealed", "a.txt", "a.txt"),
        ("renamed.txt.sealed", "a.txt", "renamed.txt"),
        ("no suffix", "a.txt", "a.txt"),
        (layout.sealed_name("n" * 255), "n" * 255, "n" * 255),
        ("b.sealed.sealed", "a", "b.sealed"),
    ],
)
def test_a_renamed_sealed_file_opens_under_its_new_name(
    now: str, sealed_as: str, opened: str
) -> None:
    assert layout.opened_name(now, sealed_as) == opened


@pytest.mark.parametrize("name", ["...sealed", "..sealed", ".sealed", ".Encvault.sealed"])
def test_a_sealed_files_own_name_does_not_lead_elsewhere(tmp_path: Path, name: str) -> None:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a").write_text("x")
    seal(root)
    (root / "a.sealed").rename(root / name)
    assert [type(problem) for problem in unseal(root).problems] == [UnsafePath]
    assert (root / name).exists()


def test_objects_lie_under_their_first_two_characters() -> None:
    assert layout.object_path(ID) == f".encvault/objects/ab/{ID}"
    assert layout.object_folder(ID) == ".encvault/objects/ab"
    assert layout.is_object(ID)
    assert not layout.is_object(ID + ".tmp")


def test_peeking_tells_sealed_files_from_all_others(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a").write_text("x")
    seal(root)
    (root / "text.sealed").write_text("not sealed at all")
    (root / "empty.sealed").touch()
    (root / "folder.sealed").mkdir()
    (root / "link.sealed").symlink_to("a.sealed")
    with Tree(str(root)) as tree:
        header = layout.peek(tree, "", "a.sealed")
        assert header is not None
        vault = header.key_info.vault  # type: ignore[union-attr]
        assert layout.belongs_to(header, vault)
        assert not layout.belongs_to(header, ID)
        for name in ("text.sealed", "empty.sealed", "folder.sealed", "link.sealed", "missing"):
            assert layout.peek(tree, "", name) is None
        assert layout.peek(tree, "missing", "a.sealed") is None
    assert not layout.belongs_to(None, ID)
    single = tmp_path / "single"
    single.write_text("x")
    seal(single)
    with Tree(str(tmp_path)) as tree:
        assert not layout.belongs_to(layout.peek(tree, "", "single.sealed"), vault)
