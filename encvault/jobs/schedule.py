"""When a job runs: for people, for systemd, for cron, and the next time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from encvault.jobs.values import DAYS

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Schedule

_WEEK = len(DAYS)


def next_run(schedule: Schedule, now: datetime) -> datetime:
    """The next moment at which it is due, by the clock of the machine; without its spread.

    Args:
        schedule: when.
        now: aware, in the zone of the machine.
    """
    hour, minute = map(int, schedule.at.split(":"))
    wall = now.replace(tzinfo=None)
    for ahead in range(_WEEK + 1):
        day = wall + timedelta(days=ahead)
        due = day.replace(hour=hour, minute=minute, second=0, microsecond=0)
        named = not schedule.days or DAYS[due.weekday()] in schedule.days
        if named and due > wall:
            return due.astimezone()  # the zone that the machine has on that day
    raise AssertionError("schedule: a week without its days")


def calendar(schedule: Schedule) -> str:
    """For ``OnCalendar=`` (systemd.time(7))."""
    chosen = ",".join(day.title() for day in schedule.days)
    return f"{chosen} *-*-* {schedule.at}:00".strip()


def cron(schedule: Schedule) -> str:
    """The five fields of crontab(5)."""
    hour, minute = map(int, schedule.at.split(":"))
    numbers = [(DAYS.index(day) + 1) % _WEEK for day in schedule.days]  # Sunday is 0
    return f"{minute} {hour} * * {','.join(map(str, sorted(numbers))) or '*'}"
