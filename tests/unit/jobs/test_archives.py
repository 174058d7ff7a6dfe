"""Dated archives: their order, what is kept, what is not whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from encvault.jobs.archives import Shelf, archive_number, archives_in, next_name

PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)


def test_a_name_has_the_date_and_the_next_number() -> None:
    assert next_name("x", [], PAST) == "x-20200101T000000Z-1.tar.sealed"
    made = [next_name("x", [], FUTURE)]
    made.append(next_name("x", made, PAST))  # the clock was set back
    assert [archive_number("x", name) for name in made] == [1, 2]
    assert archives_in("x", [*reversed(made), "other.txt"]) == made


@pytest.mark.parametrize(
    "name",
    [
        "x-b-20200101T000000Z-1.tar.sealed",
        "y-20200101T000000Z-1.tar.sealed",
        "x-20200101T000000Z-1.tar",
        "x-20200101T000000Z-.tar.sealed",
        "x-20200101T000000Z-１.tar.sealed",  # noqa: RUF001 - a digit that is none here
        ".x-20200101T000000Z-1.tar.sealed",
    ],
)
def test_files_of_others_are_none_of_a_jobs_archives(name: str) -> None:
    assert archive_number("x", name) == 0


@given(st.lists(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2090, 1, 1))))  # noqa: DTZ001 - made aware below
def test_the_order_is_that_of_the_runs_whatever_the_clock_says(moments: list[datetime]) -> None:
    made: list[str] = []
    for moment in moments:
        made.append(next_name("x", made, moment.replace(tzinfo=UTC)))
    assert archives_in("x", sorted(made)) == made


def make(shelf: Shelf) -> str:
    path = shelf.new_path()
    Path(path).write_text(path)
    return path


def test_only_complete_archives_are_counted_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not ours")
    with Shelf("x", str(tmp_path)) as shelf:
        done = [shelf.complete_one(make(shelf)) for _one in range(3)]
        left = [make(shelf) for _one in range(2)]
        assert [str(tmp_path / name) for name in shelf.complete()] == done
        assert [Path(path).name for path in left] == shelf.incomplete()
        assert [archive_number("x", Path(path).name) for path in left] == [4, 5]
        done.append(shelf.complete_one(make(shelf)))
        ours = {*shelf.complete(), *shelf.incomplete()}
        assert list(shelf.drop_old(2, set())) == []  # another job's
        dropped = list(shelf.drop_old(2, ours))
        assert len(dropped) == 4
        assert [str(tmp_path / name) for name in shelf.complete()] == done[-2:]
        assert shelf.incomplete() == []
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["notes.txt", *(Path(path).name for path in done[-2:])]
        )
        assert list(shelf.drop_old(2, ours)) == []


def test_what_somebody_keeps_beside_incomplete_ones_stays(tmp_path: Path) -> None:
    with Shelf("x", str(tmp_path)) as shelf:
        make(shelf)
        (tmp_path / "incomplete" / "note").write_text("x")
        shelf.complete_one(make(shelf))
        list(shelf.drop_old(1, [*shelf.complete(), *shelf.incomplete()]))
    assert [path.name for path in (tmp_path / "incomplete").iterdir()] == ["note"]


def test_of_archives_that_lack_files_the_latest_stay(tmp_path: Path) -> None:
    with Shelf("x", str(tmp_path)) as shelf:
        made = [Path(make(shelf)).name for _one in range(4)]
        assert list(shelf.drop_incomplete(ours=made)) == made[:2]
        assert list(shelf.drop_incomplete(ours=made)) == []
        assert shelf.incomplete() == made[2:]


def test_a_number_that_somebody_made_up_is_passed_over() -> None:
    names = ["x-20991231T000000Z-999999999.tar.sealed"]
    for expected in (1, 2):
        names.append(next_name("x", names))
        assert archive_number("x", names[-1]) == expected
    names = ["x-20991231T000000Z-99999999.tar.sealed"]
    for expected in (100_000_000, 100_000_001):
        names.append(next_name("x", names))
        assert archive_number("x", names[-1]) == expected
