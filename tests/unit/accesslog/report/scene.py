"""A log that looks like that of a small company, the same at every run."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from encvault.accesslog.audit import Audit, Finding, Verdict
from encvault.accesslog.events import Entry
from encvault.accesslog.report import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ORIGIN = "encvault-log/mfrggzdfmztwq2lknnwg23tpoa/2026-09-01"
CHECKPOINT = f"""{ORIGIN}
5183
qINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=

— {ORIGIN} {"zYGmWZ4Tk5Hn" * 7}zxQhw==
"""
PEOPLE = (
    *("li.wei", "zhang", "王芳", "anna", "bob", "chen.jie", "m.schneider", "nightly", "root"),
    *("liu", "sun", "zhao", "欧阳建国", "qian", "o'neill", "x" * 60),
)
FOLDERS = ("/srv/sales/客户/报价", "/srv/finance/2026", "/srv/hr/contracts", "/srv/design/cad")
NAMES = ("报价单", "customers", "Q3 合同", "prices", "drawing", "工资表", "minutes")


ZONE = ZoneInfo("Asia/Shanghai")
MADE_AT = datetime(2026, 10, 31, 1, 5, tzinfo=UTC)
OFFICE_HOURS = (1, *[0] * 7, 9, 12, 10, 6, 4, 9, 11, 10, 8, 4, 2, *[1] * 5)


def page(entries: Iterable[Entry], found: Audit | None = None) -> str:
    """The page of these entries."""
    return render(entries, found or audit(), made_at=MADE_AT, zone=ZONE)


def entry(index: int, **members: Any) -> Entry:
    """An opened file, or what `members` say."""
    plain = {
        "v": 1,
        "ts": f"2026-09-01T08:00:{index % 60:02}.000000Z",
        "op": "open",
        "outcome": "ok",
        "user": "li",
        "uid": 1000,
        "host": "workshop",
        "boot": "3f0c9a58",
        "up_ms": index * 1000,
        "pid": 4242,
        "run": "k3mz7q2a",
        "tool": "encvault 0.2.0",
        "path": "/srv/报价.xlsx",
    }
    return Entry(index, plain | members)


def entries(count: int = 5_000, *, days: int = 60) -> Iterator[Entry]:
    """About `count` entries over `days` days, most of them in working hours."""
    dice = random.Random(2026)
    at = datetime(2026, 9, 1, tzinfo=UTC)
    times = sorted(_moment(dice, at, days) for _number in range(count))
    for index, when in enumerate(times):
        user = PEOPLE[min(int(dice.expovariate(0.45)), len(PEOPLE) - 1)]
        members: dict[str, Any] = {
            "ts": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "op": dice.choices(
                ("open", "seal", "cat", "read", "share", "verify", "slot.add", "slot.passwd"),
                (45, 30, 6, 15, 2, 1, 0.3, 0.2),
            )[0],
            "outcome": dice.choices(("ok", "failed", "refused"), (97, 1, 2))[0],
            "user": user,
            "uid": 0 if user == "root" else 1000 + PEOPLE.index(user),
        }
        if user == "root":
            members["login"] = 1000
        if "." in members["op"] or members["op"] == "verify":
            members |= {"path": "/srv/sales", "vault": "a" * 26, "detail": "password"}
        else:
            number = min(int(dice.expovariate(0.02)), 400)
            name = f"{dice.choice(NAMES)} {number:03}"
            members["path"] = f"{FOLDERS[number % 4]}/{name}.xlsx"
        if members["outcome"] != "ok":
            refused = members["outcome"] == "refused"
            members["error"] = "NoMatchingKeyslot" if refused else "ChunkCorrupt"
        yield entry(index, **members)


def _moment(dice: random.Random, start: datetime, days: int) -> datetime:
    while True:
        day = start + timedelta(days=dice.randrange(days))
        hour = dice.choices(range(24), OFFICE_HOURS)[0]
        if day.weekday() < 5 or dice.random() < 0.08:
            seconds = dice.randrange(3600)
            return day + timedelta(hours=hour - 8, seconds=seconds, microseconds=seconds)


def audit(verdict: Verdict = Verdict.ANCHORED_OK, **changes: Any) -> Audit:
    """What a check of that log found."""
    found: dict[str, Any] = {
        "verdict": verdict,
        "origin": ORIGIN,
        "size": 5183,
        "checkpoint": CHECKPOINT,
        "anchored_size": 4100,
        "open_from": 5100,
        "first_at": "2026-09-01T00:00:12.000012Z",
        "last_at": "2026-10-30T13:12:00.000000Z",
        "own_policy": False,
        "policy_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "wrong": (),
        "notes": (Finding("clock", 812, "the clock was moved back by 3600 s"),),
    }
    return Audit(**found | changes)
