"""What a report counts, in one pass and in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from encvault.accesslog.events import BULK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from encvault.accesslog.events import Entry

OPENED = frozenset({"open", "cat", "share", "read"})
"""The actions that give somebody the content of a file."""
FILE_ACTIONS = OPENED | {"seal", "reseal", "write", "remove", "rename"}
"""The actions with an entry for each file."""
KEY_ACTIONS = frozenset(
    {
        *("rekey", "revoke", "slot.add", "slot.remove", "slot.passwd", "recovery.add"),
        *("key.new", "key.passwd", "log.erase"),
    }
)
"""The actions that change who can open what, or what can be told of it later."""

MAX_LISTED = 100  # entries that a table shows: the latest
MAX_USERS = 1_000
MAX_ACTIONS = 100
MAX_FILES = 20_000  # counted at once
MAX_DISTINCT = 200_000  # pairs of user and file that are told apart

Person = tuple[str, str]
"""A user's name, and the login id behind it where that is another than the user's own, or ""."""
OTHERS: Person = ("", "")


@dataclass(slots=True)
class Activity:
    """What was done by one user, or to one file.

    Attributes:
        accesses: entries about files that ended well.
        opened: those of them that gave the content to somebody.
        failed, refused: entries that ended so, about files or not.
        first_at, last_at: ``ts`` of the first and last entry.
    """

    accesses: int = 0
    opened: int = 0
    failed: int = 0
    refused: int = 0
    first_at: str = ""
    last_at: str = ""

    def add(self, ts: str, op: str, outcome: str) -> None:
        """Count one entry."""
        if outcome == "ok":
            if op in FILE_ACTIONS:
                self.accesses += 1
                self.opened += op in OPENED
        elif outcome == "refused":
            self.refused += 1
        else:
            self.failed += 1
        if not self.first_at:
            self.first_at = ts
        self.last_at = ts

    @property
    def total(self) -> int:
        """Accesses, failures and refusals."""
        return self.accesses + self.failed + self.refused


@dataclass(slots=True)
class Pair:
    """How often it went well, and how often not."""

    good: int = 0
    bad: int = 0


class Tally:
    """Counts entries.

    Attributes:
        entries: how many there were.
        users: activity of each, `OTHERS` for those beyond `MAX_USERS`.
        distinct: for each of them hashes of the paths, as far as they are told apart.
        actions: how often each pair of ``op`` and ``outcome`` occurred.
        files: activity at each path that is among the frequent ones.
        hours, weekdays, days: accesses, and failures and refusals, in the zone given. Weekday 0 is
            Monday.
        troubles, key_changes: the latest `MAX_LISTED` entries that failed or were refused, and
            that changed keys.
        trouble_count, key_change_count: how many there were.
        pruned: whether rare files were forgotten, so that counts of files are too small.
        crowded: whether users and files were more than are told apart.
    """

    def __init__(self, zone: tzinfo) -> None:
        self.entries = 0
        self.users: dict[Person, Activity] = {}
        self.distinct: dict[Person, set[int]] = {}
        self.actions: Counter[tuple[str, str]] = Counter()
        self.files: dict[str, Activity] = {}
        self.hours = [Pair() for _hour in range(24)]
        self.weekdays = [Pair() for _day in range(7)]
        self.days: dict[date, Pair] = {}
        self.troubles: deque[Entry] = deque(maxlen=MAX_LISTED)
        self.key_changes: deque[Entry] = deque(maxlen=MAX_LISTED)
        self.trouble_count = 0
        self.key_change_count = 0
        self.pruned = False
        self.crowded = False
        self._zone = zone
        self._distinct = 0
        self._minute = ""
        self._pairs: tuple[Pair, Pair, Pair] = (Pair(), Pair(), Pair())

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        members = entry.members
        ts, op, outcome = members["ts"], members["op"], members["outcome"]
        self.entries += 1
        known = (op, outcome) in self.actions or len(self.actions) < MAX_ACTIONS
        self.actions[(op, outcome) if known else ("", outcome)] += 1
        person = self._person(members)
        if members.get("detail") == BULK:
            op = ""  # of no file; each that is read has an entry of its own
        self.users[person].add(ts, op, outcome)
        if op in FILE_ACTIONS and "path" in members:
            path = members["path"]
            self._distinguish(person, hash(path))
            file = self.files.get(path)
            if file is None:
                file = self._new_file(path)
            file.add(ts, op, outcome)
        if outcome != "ok":
            self.troubles.append(entry)
            self.trouble_count += 1
            for pair in self._when(ts):
                pair.bad += 1
        elif op in FILE_ACTIONS:
            for pair in self._when(ts):
                pair.good += 1
        if op in KEY_ACTIONS:
            self.key_changes.append(entry)
            self.key_change_count += 1

    def _person(self, members: Mapping[str, Any]) -> Person:
        person = person_of(members)
        if person not in self.users:
            if len(self.users) >= MAX_USERS:
                person = OTHERS
            self.users.setdefault(person, Activity())
            self.distinct.setdefault(person, set())
        return person

    def _distinguish(self, person: Person, path: int) -> None:
        seen = self.distinct[person]
        if path in seen:
            return
        if self._distinct < MAX_DISTINCT:
            seen.add(path)
            self._distinct += 1
        else:
            self.crowded = True

    def _new_file(self, path: str) -> Activity:
        if len(self.files) >= MAX_FILES:
            # the more frequent half stays, so that pruning costs little for each entry
            kept = ranked(self.files)[: MAX_FILES // 2]
            self.files = dict(kept)
            self.pruned = True
        return self.files.setdefault(path, Activity())

    def _when(self, ts: str) -> tuple[Pair, Pair, Pair]:
        minute = ts[:16]
        if minute != self._minute:  # offsets of zones are whole minutes
            at = datetime.fromisoformat(f"{minute}:00+00:00").astimezone(self._zone)
            day = self.days.setdefault(at.date(), Pair())
            self._pairs = (self.hours[at.hour], self.weekdays[at.weekday()], day)
            self._minute = minute
        return self._pairs


def person_of(members: Mapping[str, Any]) -> Person:
    """Who an entry is of."""
    login = members.get("login", "")
    return (members["user"], "" if login == members["uid"] else str(login))


def ranked(found: dict[Any, Activity]) -> list[tuple[Any, Activity]]:
    """Keys and activities, those with most accesses first; equal ones by all else, then by key."""
    return sorted(found.items(), key=lambda item: (-item[1].accesses, -item[1].total, item[0]))
