"""Files of one folder that are sealed together, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import keys, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.vault.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("hide_names", [False, True])
def test_only_what_is_named_is_sealed(tmp_path: Path, hide_names: bool) -> None:  # noqa: FBT001
    root = tmp_path / "docs"
    write_tree(root)
    before = snapshot(root)
    report = seal(root, only=("src/deep", "empty", "missing"), hide_names=hide_names)
    assert report.files == 2
    assert not report.problems
    gone = {"src/deep/er/main.py", "empty"}
    left = {name for name in snapshot(root) if not name.endswith(".sealed")}
    assert {name for name in before if before[name].kind == "file"} - left == gone
    unseal(root)
    assert snapshot(root) == before


def test_the_same_within_a_vault(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    write_tree(root)
    operations.init_vault(str(root), keys())
    assert seal(root / "src", only=("run.sh", "empty")).files == 1
    assert (root / "src" / "run.sh.sealed").exists()
    assert (root / "empty").exists()


def test_a_selection_asks_few_questions() -> None:
    """With a question for each pair of paths this would take minutes."""
    names = [f"folder {number % 100}/{number}" for number in range(50_000)]
    chosen = Selection(only=tuple(names))
    assert all(map(chosen.covers, names))
    assert all(chosen.leads_to(f"folder {number}") for number in range(100))
    assert not any(chosen.covers(f"folder {number}") for number in range(100))


@pytest.mark.parametrize(
    ("path", "covers", "leads"),
    [
        ("a", False, True),
        ("a/b", True, True),
        ("a/b/c/d", True, True),
        ("a/bc", False, False),
        ("c", False, False),
    ],
)
def test_a_selection_is_of_paths_and_what_is_in_them(
    path: str,
    covers: bool,  # noqa: FBT001
    leads: bool,  # noqa: FBT001
) -> None:
    chosen = Selection(only=("a/b", "x"))
    assert chosen.covers(path) == covers
    assert chosen.leads_to(path) == leads


def test_an_empty_selection_is_everything() -> None:
    for chosen in (Selection(), Selection(only=("",))):
        assert chosen.covers("any/path")
        assert chosen.covers("")
        assert chosen.leads_to("any")
