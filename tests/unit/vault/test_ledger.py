"""This machine's memory: what it keeps, forgets and survives."""

from __future__ import annotations

import random
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from encvault.errors import StateUnavailable
from encvault.fs.stamp import Stamp
from encvault.vault.ledger import Ledger
from encvault.vault.rows import FileRow, FolderRow

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


def test_no_file_is_like_a_row_whose_sealed_file_may_have_no_name(tmp_path: Path) -> None:
    """Some servers of FUSE give 0 as the time of each file's last change."""
    stamps = {"a": STAMP, "timeless": STAMP._replace(ctime_ns=0), "epoch": Stamp(1, 2, 3, 0, 0)}
    # as a damaged inode has it: any number that SQLite keeps can be a time
    stamps |= {str(time): STAMP._replace(ctime_ns=time) for time in (-1 << 63, (1 << 63) - 1, -1)}
    rows = [row("", name, "x", stamp=stamp) for name, stamp in stamps.items()]
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.remember([one.unproven() for one in rows], {})
        for name, known in ledger.files("").items():
            assert not known.is_proven
            # the loop over nearly all files compares the members themselves
            assert known.ctime_ns != stamps[name].ctime_ns
            assert not known.matches(stamps[name])
            assert known.ids == ("x",)
        ledger.remember(rows, {})
        for name, known in ledger.files("").items():
            assert known.is_proven
            assert known.matches(stamps[name])


def test_no_file_is_like_one_that_a_run_has_removed(tmp_path: Path) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.remember([row("a", "gone", "x"), row("a", "there", "y"), row("b", "gone", "z")], {})
        assert ledger.files("a")["gone"].matches(STAMP)
        ledger.note_removed([("a", "gone"), ("c", "gone")])
        known = ledger.files("a")
        assert known["gone"].is_proven  # its copy is to be missed
        assert (known["gone"].ids, known["gone"].size) == (("x",), STAMP.size)
        assert not any(known["gone"].matches(STAMP._replace(mtime_ns=time)) for time in (0, 4, -1))
        assert known["there"].matches(STAMP)
        assert ledger.files("b")["gone"].matches(STAMP)
        assert ledger.files("c") == {}
        ledger.remember([row("a", "gone", "x")], {})
        assert ledger.files("a")["gone"].matches(STAMP)


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


def kept(ledger: Ledger) -> dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]]:
    return {(folder, name): known.all for folder, name, known in ledger.rows()}


def test_what_a_killed_run_had_begun_is_known_to_the_next(tmp_path: Path) -> None:
    large = STAMP._replace(inode=(1 << 64) - 1, mtime_ns=-(1 << 63))
    with Ledger(str(tmp_path), VAULT, "/one") as ledger:
        ledger.remember([row("", "a", "old")], {})
        ledger.begin([FileRow("", "a", STAMP, ("new", "part"), ("old",)), row(ODD, ODD, "x")])
        ledger.begin([row("d", "b", "y", stamp=large), row("d", "", "z")])
    with Ledger(str(tmp_path), VAULT, "/two") as other:
        assert kept(other) == {}
    for _open in range(2):
        with Ledger(str(tmp_path), VAULT, "/one") as ledger:
            assert ledger.knows_root()
            assert kept(ledger) == {
                ("", "a"): (("new", "part"), ("old",)),
                (ODD, ODD): (("x",), ()),
                ("d", "b"): (("y",), ()),
                ("d", ""): (("z",), ()),
            }
            assert not any(known.is_proven for _folder, _name, known in ledger.rows())
            assert ledger.files("d")["b"].mtime_ns == -(1 << 63)
            assert sorted(ledger.folders_with_rows()) == ["", "d", ODD]


@pytest.mark.parametrize("damaged", ["[", "[1]", '[["", "a", [1], ["x"], [], true]]', "null"])
def test_what_a_killed_run_had_begun_and_is_damaged_stops_nothing(
    tmp_path: Path, damaged: str
) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.begin([row("", "a", "x")])
        ledger.begin([row("", "b", "y")])
        with ledger._transaction():
            ledger._db.execute("UPDATE passing SET rows=? WHERE id=1", (damaged,))
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        assert kept(ledger) == {("", "b"): (("y",), ())}


def test_what_is_gone_is_forgotten_and_what_stays_is_kept(tmp_path: Path) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        first, second = [row("d", "a", "x"), row("d", "b", "y")], [row("d", "c", "z")]
        begun = {ledger.begin(first): first, ledger.begin(second): second}
        assert ledger.files("d") == {}
        ledger.end(begun, {("d", "a"), ("d", "c"), ("d", "other")})
        assert kept(ledger) == {("d", "b"): (("y",), ())}
        assert not ledger.files("d")["b"].is_proven
        ledger.end({ledger.begin([]): []}, set())
        assert kept(ledger) == {("d", "b"): (("y",), ())}
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        assert kept(ledger) == {("d", "b"): (("y",), ())}


def test_a_file_that_is_gone_has_no_older_row_either(tmp_path: Path) -> None:
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        ledger.remember([row("d", "a", "old"), row("d", "b", "old-b")], {})
        rows = [row("d", "a", "new"), row("d", "b", "new-b")]
        ledger.end({ledger.begin(rows): rows}, {("d", "a")})
        assert kept(ledger) == {("d", "b"): (("new-b",), ())}


def test_who_looks_meanwhile_brings_nothing_back(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with Ledger(str(tmp_path), VAULT, ""):
                pass

    rows = [row("d", f"{number}", "x") for number in range(20)]
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        looks = threading.Thread(target=look)
        looks.start()
        try:
            for _round in range(1000):
                ledger.end({ledger.begin(rows): rows}, {one[:2] for one in rows})
                assert kept(ledger) == {}
        finally:
            done.set()
            looks.join()
        assert kept(ledger) == {}


def test_no_name_stays_in_the_file_of_what_was_begun(tmp_path: Path) -> None:
    rows = [row("d", f"private {number}", "x") for number in range(500)]
    with Ledger(str(tmp_path), VAULT, "") as ledger:
        begun = {ledger.begin(rows): rows}
        assert b"private" in (tmp_path / "vaults" / f"{VAULT}.sqlite").read_bytes()
        ledger.end(begun, {one[:2] for one in rows})
    assert b"private" not in (tmp_path / "vaults" / f"{VAULT}.sqlite").read_bytes()


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


def _kept(tmp_path: Path, sizes: dict[str, int]) -> tuple[Ledger, dict[str, set[str]]]:
    """A ledger with so many files in each folder, and their names."""
    ledger = Ledger(str(tmp_path), VAULT, "/root")
    names = {path: {f"{number}.txt" for number in range(count)} for path, count in sizes.items()}
    rows = [row(path, name, f"{path!a}:{name}") for path in names for name in names[path]]
    ledger.remember(rows, {path: FolderRow(f"{path!a}", ("o",), 0o755, 1) for path in names})
    return ledger, names


def test_folders_are_known_in_whatever_order_they_are_asked_for(tmp_path: Path) -> None:
    sizes = {f"d{number:03}/e{inner}": inner for number in range(300) for inner in range(5)}
    # before the first and after the last one, as bytes and as people sort them
    sizes |= {"": 70, "d100": 3, "d100-b": 200, "d100/large": 5000, "z": 1, "\udcff": 2, "文件": 64}
    ledger, names = _kept(tmp_path, sizes)
    missing = ["a", "d100/large/none", "d299/e9", "\udcff\udcff", "d100\n"]
    generator = random.Random(1)
    asked = [*names, *missing]
    with ledger:
        for order in (sorted(asked), sorted(asked, reverse=True), generator.choices(asked, k=2000)):
            for path in order:
                found = ledger.files(path)
                assert found.keys() == names.get(path, set()), path
                assert {known.ids for known in found.values()} == {
                    (f"{path!a}:{name}",) for name in found
                }
                folder = ledger.folder(path)
                assert (folder.folder if folder else None) == (
                    f"{path!a}" if path in names else None
                )


def test_what_is_changed_meanwhile_is_known_at_once(tmp_path: Path) -> None:
    ledger, _names = _kept(tmp_path, {f"f{number:02}": 2 for number in range(50)})
    with ledger:
        assert len(ledger.files("f00")) == 2
        ledger.remember([row("f01", "new", "id")], {"f02": FolderRow("other", ("o",), 0o700, 2)})
        ledger.forget([("f03", "0.txt")])
        ledger.forget_folders(["f04"])
        assert "new" in ledger.files("f01")
        assert ledger.folder("f02") == FolderRow("other", ("o",), 0o700, 2)
        assert ledger.files("f03").keys() == {"1.txt"}
        assert ledger.files("f04") == {}
        assert ledger.folder("f04") is None
        assert ledger.files("f00").keys() == {"0.txt", "1.txt"}


@pytest.mark.parametrize("each", [3, 50, 100])
def test_one_query_serves_many_folders(tmp_path: Path, each: int) -> None:
    ledger, names = _kept(tmp_path, {f"f{number:04}": each for number in range(6000 // each)})
    queries: list[str] = []
    with ledger:
        ledger._db.set_trace_callback(queries.append)
        for path in names:
            assert len(ledger.files(path)) == each
    assert len([text for text in queries if text.startswith("SELECT")]) < 20
