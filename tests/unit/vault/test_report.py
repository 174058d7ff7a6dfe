"""The one error a run ends with: the worst of what it met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from encvault.errors import (
    CannotCreate,
    ChunkCorrupt,
    Conflict,
    DamagedFiles,
    Incomplete,
    InputOutputError,
    NoMatchingKeyslot,
    OutOfSpace,
    SourceMissing,
)
from encvault.vault.report import Event, Observer, Report

if TYPE_CHECKING:
    from encvault.errors import EncvaultError

DAMAGE = ChunkCorrupt(path="a", index=0, offset=0)
LEFT = Conflict(path="b")
DISK = InputOutputError(path="c", reason="bad disk")
FULL = OutOfSpace(path="d")
REFUSED = CannotCreate(path="e", reason="denied")


@pytest.mark.parametrize(
    ("problems", "code"),
    [
        ([], None),
        ([LEFT], 3),
        ([LEFT, SourceMissing(path="x")], 66),
        ([SourceMissing(path="x"), NoMatchingKeyslot(path="x"), LEFT], 77),
        ([NoMatchingKeyslot(path="x"), FULL], 73),
        ([LEFT, FULL], 73),
        ([REFUSED, FULL, LEFT], 73),
        ([LEFT, FULL, DISK], 74),
        ([DISK, FULL, DAMAGE, LEFT], 65),
    ],
)
def test_damage_outranks_storage_which_outranks_keys_which_outrank_what_was_left(
    problems: list[EncvaultError], code: int | None
) -> None:
    outcome = Report(problems=problems).outcome()
    assert (outcome.exit_code if outcome else None) == code


def test_sums_count_everything_and_single_errors_are_kept() -> None:
    damaged = Report(problems=[DAMAGE, LEFT, DAMAGE]).outcome()
    assert isinstance(damaged, DamagedFiles)
    assert damaged.fields() == {"count": 2}  # what was left is not damaged
    left = Report(problems=[LEFT, LEFT, LEFT]).outcome()
    assert isinstance(left, Incomplete)
    assert left.fields() == {"count": 3}
    assert Report(problems=[LEFT, REFUSED, FULL]).outcome() is REFUSED


def test_reports_add_up() -> None:
    total = Report(1, 10, 2, 3, 4, [LEFT], ["one"])
    total.add(Report(5, 50, 6, 7, 8, [DISK], ["two"]))
    assert total == Report(6, 60, 8, 10, 12, [LEFT, DISK], ["one", "two"])


def test_an_observer_that_overrides_nothing_stops_nothing() -> None:
    watcher = Observer()
    assert not watcher.wants_total
    watcher.total(1, 2)
    watcher.progress(1, 2)
    watcher.action("seal", "a")
    watcher.problem(LEFT)
    watcher.note("x")
    watcher.before_release([Event("seal", "a", "b", 1)])
