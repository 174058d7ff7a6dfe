"""This machine's memory: what it keeps, forgets and survives."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from encvault.errors import StateUnavailable
from encvault.fs.stamp import Stamp
from encvault.vault.ledger import FileRow, FolderRow, Ledger

if TYPE_CHECKING:
    from pathlib import Path

VAULT = "a" * 26
STAMP = Stamp(1, 2, 3, 4, 5)
ODD = "latin-\udce9"  # a name whose bytes are not UTF-8


def row(folder: str, name: str, *ids: str, stamp: Stamp = STAMP) -> FileRow:
    return FileRow(folder, name, stamp, ids)


def test_what_was_remembered_is_known_after_a_restart(tmp_path: Path) -> None:
    folder = FolderRow("f" * 26, ("o" * 26, "p" * 26), 0o755, 9)
    with Ledger(str(tmp_path), VAULT, "/home/me") as ledger:
        ledger.remember(
            [row("", "a", "x"), row("", ODD, "y", "z"), row("sub", "a", "w")], {ODD: folder}
        )
    with Ledger(str(tmp_path), VAULT, "/home/me") as ledger:
        known = ledger.files("")
        assert {name: item.ids for name, item in known.items()} == {"a": ("x",), ODD: ("y", "z")}
        assert known["a"].matches(STAMP)
        assert ledger.files("sub")["a"].ids == ("w",)
        assert ledger.files("nowhere") == {}
        assert ledger.folder(ODD) == folder
        assert ledger.folder("nowhere") is None
        assert ledger.all_folders() == {ODD: folder}


def test_a_newer_row_takes_the_place_of_the_older(tmp_path: Path) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.remember([row("", "a", "old")], {})
        ledger.remember([row("", "a", "new", stamp=STAMP._replace(size=9))], {})
        assert ledger.files("")["a"].ids == ("new",)
        assert not ledger.files("")["a"].matches(STAMP)


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_any_change_of_a_file_is_noticed_but_not_of_the_device(tmp_path: Path, field: str) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.remember([row("", "a", "x")], {})
        known = ledger.files("")["a"]
    assert known.matches(STAMP._replace(device=77))
    assert not known.matches(STAMP._replace(**{field: 77}))


@pytest.mark.parametrize(
    "changes",
    [
        {"inode": (1 << 64) - 1},
        {"inode": 1 << 63},
        {"mtime_ns": 1 << 63},  # 2262-04-11
        {"mtime_ns": -(1 << 63) - 1},
        {"ctime_ns": (1 << 70) + 5},
    ],
)
def test_numbers_that_sqlite_does_not_have_are_kept_all_the_same(
    tmp_path: Path, changes: dict[str, int]
) -> None:
    stamp = STAMP._replace(**changes)
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.remember([row("", "a", "x", stamp=stamp)], {})
        known = ledger.files("")["a"]
    assert known.matches(stamp)
    for name, value in changes.items():
        assert not known.matches(stamp._replace(**{name: value - 1}))


def test_roots_and_vaults_do_not_mix(tmp_path: Path) -> None:
    with Ledger(str(tmp_path), VAULT, "/one") as one, Ledger(str(tmp_path), VAULT, "/two") as two:
        one.remember([row("", "a", "x")], {"d": FolderRow("f", ("o",), 1, 2)})
        assert two.files("") == {}
        assert two.all_folders() == {}
        two.forget([("", "a")])
        two.forget_folders(["d", ""])
        assert set(one.files("")) == {"a"}
        assert set(one.all_folders()) == {"d"}
    with Ledger(str(tmp_path), "b" * 26, "/one") as other:
        assert other.files("") == {}


def test_forgetting_drops_exactly_what_was_named(tmp_path: Path) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        folders = {name: FolderRow("f", ("o",), 1, 2) for name in ("d", "d/e", "de")}
        ledger.remember(
            [row("", "a", "x"), row("d", "a", "x"), row("d/e", "a", "x"), row("", ODD, "y")],
            folders,
        )
        ledger.forget([("", "a"), ("", "never known")])
        assert set(ledger.files("")) == {ODD}
        assert set(ledger.files("d")) == {"a"}
        ledger.forget_folders(["d"])
        assert ledger.files("d") == {}
        assert set(ledger.files("d/e")) == {"a"}
        assert set(ledger.all_folders()) == {"d/e", "de"}


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateUnavailable) as caught:
        Ledger(str(tmp_path / "file"), VAULT, "")
    assert caught.value.exit_code == 78
    assert str(tmp_path / "file") in caught.value.path


def test_a_damaged_database_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / "vaults").mkdir()
    path = tmp_path / "vaults" / f"{VAULT}.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateUnavailable):
        Ledger(str(tmp_path), VAULT, "")
    assert path.read_bytes() == b"this is no database" * 100


def test_the_database_is_for_its_owner_only_and_plain_sqlite(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Ledger(str(state), VAULT, "/root-folder") as ledger:
        ledger.remember([row("d", "a", "x", "y")], {})
    assert (state / "vaults").stat().st_mode & 0o077 == 0
    database = sqlite3.connect(state / "vaults" / f"{VAULT}.sqlite")
    rows = database.execute("SELECT root, dir, name, size, ids FROM files").fetchall()
    database.close()
    assert rows == [(b"/root-folder", b"d", b"a", 3, "x y")]
