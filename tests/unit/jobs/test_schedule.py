"""When jobs run: the next time, and what systemd and cron are told."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime

import pytest

from encvault.jobs.jobfile import Schedule
from encvault.jobs.schedule import calendar, cron, next_run

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)  # a Friday


def due(at: str, *days: str) -> str:
    found = next_run(Schedule(at, days), NOW.astimezone())
    return found.strftime("%a %Y-%m-%d %H:%M")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_next_run_is_the_first_that_has_not_been() -> None:
    assert due("12:01") == "Fri 2026-11-27 12:01"
    assert due("12:00") == "Sat 2026-11-28 12:00"
    assert due("02:30") == "Sat 2026-11-28 02:30"
    assert due("02:30", "fri") == "Fri 2026-12-04 02:30"
    assert due("13:00", "fri") == "Fri 2026-11-27 13:00"
    assert due("02:30", "thu", "mon") == "Mon 2026-11-30 02:30"


@pytest.mark.parametrize("days", [(), ("mon",), ("mon", "wed", "sun"), ("sat", "sun")])
def test_systemd_comes_to_the_same_next_run(days: tuple[str, ...]) -> None:
    schedule = Schedule("02:30", days)
    told = subprocess.run(
        ["systemd-analyze", "calendar", "--base-time=2026-11-27 12:00:00 UTC", calendar(schedule)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"},
    ).stdout
    (line,) = [line for line in told.splitlines() if "Next elapse" in line]
    assert due("02:30", *days) + ":00 UTC" == line.partition(": ")[2].strip()


def test_cron_has_the_same_days() -> None:
    assert cron(Schedule("02:30")) == "30 2 * * *"
    assert cron(Schedule("00:05", ("mon", "fri", "sun"))) == "5 0 * * 0,1,5"
