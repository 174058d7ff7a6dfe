"""The page of a report: what was counted, in words, tables and pictures."""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import segno
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from encvault.accesslog.report import plots
from encvault.accesslog.report.tally import OTHERS, Activity, Pair, Person, Tally, person_of, ranked
from encvault.accesslog.report.verdicts import explain
from encvault.accesslog.words import action_text, outcome_text, visible
from encvault.i18n import N_, _, language

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import tzinfo

    from encvault.accesslog.audit import Audit, Finding
    from encvault.accesslog.events import Entry

TOP_FILES = 25
TOP_USERS = 50
BARS_OF_USERS = 12
MAX_FINDINGS = 100
MAX_SHOWN = 240  # characters of a path or another text from outside
MAX_NAME = 80  # of a user's name or a word
MAX_FINDING = 1_000
_DAILY = 124  # days that have a bar each; more are put together to weeks, then months
_WEEKLY = 730

_WEEKDAYS = (N_("Mon"), N_("Tue"), N_("Wed"), N_("Thu"), N_("Fri"), N_("Sat"), N_("Sun"))

# every fixed text of the page.html beside this file, by the name it has there
_TEXTS = {
    "title": N_("Access log report"),
    "wrong": N_("What is wrong"),
    "means": N_("What this means"),
    "means_not": N_("What it does not mean"),
    "overview": N_("At a glance"),
    "when": N_("When"),
    "hours": N_("By hour of day"),
    "weekdays": N_("By day of the week"),
    "days": N_("Over the whole time"),
    "by_user": N_("By user"),
    "who": N_("Who"),
    "what": N_("What was done"),
    "files": N_("Files with the most accesses"),
    "troubles": N_("Failed and refused"),
    "key_changes": N_("Changes of keyslots and keys"),
    "notes": N_("Gaps, clock steps and recoveries"),
    "check": N_("Check it yourself"),
    "user": N_("user"),
    "accesses": N_("accesses"),
    "opened": N_("of them opened"),
    "different": N_("different files"),
    "failed": N_("failed"),
    "refused": N_("refused"),
    "done": N_("done"),
    "first": N_("first"),
    "last": N_("last"),
    "action": N_("action"),
    "path": N_("file or folder"),
    "time": N_("time"),
    "number": N_("entry"),
    "reason": N_("reason"),
    "detail": N_("detail"),
    "outcome": N_("outcome"),
    "rule": N_("rule"),
    "finding": N_("finding"),
    "bad": N_("failed or refused"),
    "nothing": N_("none"),
    "no_entries": N_("There are no entries to show."),
    "accesses_are": N_(
        "An access is an entry about a file that ended well: sealed, opened, shown, shared, or read"
        " or changed through a mount. Opened is what was opened, shown, shared or read: somebody"
        " got the content."
    ),
    "pruned": N_("There were too many files to count each: numbers of accesses may be too small."),
    "crowded": N_("There were too many files to tell each apart: so many or more."),
    "digests": N_("Names of 43 letters and digits stand for paths that were recorded as digests."),
    "check_how": N_(
        "On a machine that you trust, with an anchor and the list of keys (the policy) that were"
        " kept away from the log:"
    ),
    "check_compare": N_(
        "The result must name the origin and the digest of the policy that stand here, and at"
        " least as many entries."
    ),
    "origin": N_("origin"),
    "size": N_("entries proved"),
    "anchored": N_("of them confirmed by an anchor"),
    "policy": N_("digest of the policy"),
    "checkpoint": N_("Checkpoint"),
    "checkpoint_use": N_(
        "This is the log's signed state. Keep this page elsewhere, on paper as well: the text, or"
        " the picture that holds the same text, is an anchor for later checks."
    ),
    "no_checkpoint": N_("There is no checkpoint."),
    "no_picture": N_("The checkpoint is too long for a picture."),
    "picture": N_("The checkpoint as a QR code"),
    "footer": N_("Made by encvault. This page loads nothing and runs no program."),
}


def make_page(tally: Tally, audit: Audit, *, made_at: datetime, zone: tzinfo) -> str:
    """The page, in the active language; arguments as those of `report.render`."""
    clock = _Clock(zone)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        text=SimpleNamespace(**{name: _(text) for name, text in _TEXTS.items()}),
        language=language(),
        verdict=audit.verdict.value,
        explained=explain(audit),
        audit=audit,
        origin=visible(audit.origin),
        period=clock.period(audit),
        made=_("made {time}, times in {zone}").format(
            time=clock.minute(made_at), zone=clock.zone_name(made_at)
        ),
        wrong=_findings(audit.wrong),
        notes=_findings(audit.notes),
        overview=_overview(tally),
        users=_user_rows(tally, clock),
        users_more=_more(len(tally.users), TOP_USERS, N_("{shown} of {count} users are shown.")),
        actions=_action_rows(tally),
        files=_file_rows(tally, clock),
        troubles=_entry_rows(tally.troubles, clock),
        troubles_more=_latest(tally.trouble_count, len(tally.troubles)),
        key_changes=_entry_rows(tally.key_changes, clock),
        key_changes_more=_latest(tally.key_change_count, len(tally.key_changes)),
        wrong_more=_more(len(audit.wrong), MAX_FINDINGS, N_("{shown} of {count} are shown.")),
        notes_more=_more(len(audit.notes), MAX_FINDINGS, N_("{shown} of {count} are shown.")),
        pictures=_pictures(tally),
        qr=_qr(audit.checkpoint),
        tally=tally,
    )


class _Clock:
    """Shows times in one zone."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def second(self, ts: str) -> str:
        """A ``ts`` of an entry."""
        at = datetime.fromisoformat(ts).astimezone(self._zone)
        return at.strftime("%Y-%m-%d %H:%M:%S")

    def minute(self, at: datetime) -> str:
        return at.astimezone(self._zone).strftime("%Y-%m-%d %H:%M")

    def zone_name(self, at: datetime) -> str:
        """Such as ``Asia/Shanghai (UTC+08:00)``."""
        offset = at.astimezone(self._zone).strftime("%z")
        shown = f"UTC{offset[:3]}:{offset[3:5]}"
        name = getattr(self._zone, "key", None)
        return f"{name} ({shown})" if name else shown

    def period(self, audit: Audit) -> str:
        if not audit.first_at:
            return ""
        first, last = (
            self.minute(datetime.fromisoformat(ts)) for ts in (audit.first_at, audit.last_at)
        )
        return _("{first} to {last}").format(first=first, last=last)


# -- tables ---------------------------------------------------------------------------------


def _person(person: Person) -> str:
    name, login = person
    if person == OTHERS:
        return _("others")
    shown = _clipped(name, MAX_NAME)
    return (
        _("{user} (logged in as {login})").format(user=shown, login=_clipped(login, MAX_NAME))
        if login
        else shown
    )


def _clipped(text: str, limit: int = MAX_SHOWN) -> str:
    """Text with nothing hidden in it, its middle left out if it is longer than `limit`."""
    shown = visible(text)
    if len(shown) <= limit:
        return shown
    half = limit // 2
    return f"{shown[:half]} … {shown[-half:]}"


def _overview(tally: Tally) -> list[tuple[str, str]]:
    users = tally.users.values()
    numbers = (
        (N_("entries"), tally.entries),
        (N_("users"), len(users)),
        (N_("accesses"), sum(user.accesses for user in users)),
        (N_("of them opened"), sum(user.opened for user in users)),
        (N_("failed"), sum(user.failed for user in users)),
        (N_("refused"), sum(user.refused for user in users)),
    )
    return [(_(name), f"{number:,}") for name, number in numbers]


def _user_rows(tally: Tally, clock: _Clock) -> list[dict[str, str]]:
    return [
        {
            "user": _person(person),
            "accesses": f"{user.accesses:,}",
            "opened": f"{user.opened:,}",
            "different": f"{len(tally.distinct[person]):,}",
            "failed": f"{user.failed:,}",
            "refused": f"{user.refused:,}",
            "first": clock.second(user.first_at),
            "last": clock.second(user.last_at),
        }
        for person, user in ranked(tally.users)[:TOP_USERS]
    ]


def _action_rows(tally: Tally) -> list[dict[str, str]]:
    table: dict[str, dict[str, int]] = {}
    for (op, outcome), count in sorted(tally.actions.items()):
        row = table.setdefault(op, {"ok": 0, "failed": 0, "refused": 0})
        # what a later version calls an outcome is no success that this one knows
        row[outcome if outcome in row else "failed"] += count
    return [
        {
            "action": _clipped(action_text(op)) if op else _("others"),
            "done": f"{row['ok']:,}",
            "failed": f"{row['failed']:,}",
            "refused": f"{row['refused']:,}",
        }
        for op, row in sorted(table.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    ]


def _file_rows(tally: Tally, clock: _Clock) -> list[dict[str, str]]:
    return [
        {
            "path": _clipped(path),
            "accesses": f"{file.accesses:,}",
            "opened": f"{file.opened:,}",
            "bad": f"{file.failed + file.refused:,}",
            "last": clock.second(file.last_at),
        }
        for path, file in ranked(tally.files)[:TOP_FILES]
    ]


def _entry_rows(entries: Iterable[Entry], clock: _Clock) -> list[dict[str, str]]:
    """Single entries, the latest first."""
    rows = []
    for entry in reversed(list(entries)):
        members: Mapping[str, Any] = entry.members
        rows.append(
            {
                "number": str(entry.index),
                "time": clock.second(members["ts"]),
                "user": _person(person_of(members)),
                "action": _clipped(action_text(members["op"])),
                "outcome": _clipped(outcome_text(members["outcome"])),
                "path": _clipped(str(members.get("path") or members.get("vault", ""))),
                "reason": _clipped(str(members.get("error", "")), MAX_NAME),
                "detail": _clipped(str(members.get("detail") or members.get("slot", ""))),
            }
        )
    return rows


def _findings(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [
        {
            "rule": _clipped(finding.rule, MAX_NAME),
            "number": "" if finding.index is None else str(finding.index),
            "text": _clipped(finding.text, MAX_FINDING),
        }
        for finding in findings[:MAX_FINDINGS]
    ]


def _more(count: int, limit: int, message: str) -> str:
    """What to say of rows that are left out, or ""."""
    return _(message).format(shown=limit, count=f"{count:,}") if count > limit else ""


def _latest(count: int, shown: int) -> str:
    message = N_("The latest {shown} of {count} are shown.")
    return _(message).format(shown=shown, count=f"{count:,}") if count > shown else ""


# -- pictures -------------------------------------------------------------------------------


def _pictures(tally: Tally) -> dict[str, Markup]:
    """The plots by name; their only text from outside is escaped by what draws them."""
    if not tally.days:
        return {}
    labels, pairs = _along_time(tally.days)
    hours = [str(hour) if hour % 3 == 0 else "" for hour in range(24)]
    users = [(_person(person), _pair_of(user)) for person, user in _busiest(tally)]
    drawn = {
        "days": plots.columns("days", labels, pairs, width=9),
        "hours": plots.columns("hours", hours, tally.hours, width=5.3),
        "weekdays": plots.columns(
            "weekdays", [_(day) for day in _WEEKDAYS], tally.weekdays, width=3.6
        ),
        "users": plots.rows(
            "users", [name for name, _pair in users], [pair for _name, pair in users], width=7
        ),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 - see above


def _busiest(tally: Tally) -> list[tuple[Person, Activity]]:
    found = ranked(tally.users)
    shown, rest = found[:BARS_OF_USERS], found[BARS_OF_USERS:]
    if rest:
        sums = Activity(
            accesses=sum(user.accesses for _person, user in rest),
            failed=sum(user.failed for _person, user in rest),
            refused=sum(user.refused for _person, user in rest),
        )
        shown.append((OTHERS, sums))
    return shown


def _pair_of(user: Activity) -> Pair:
    return Pair(user.accesses, user.failed + user.refused)


def _along_time(days: Mapping[date, Pair]) -> tuple[list[str], list[Pair]]:
    """One bar for each day, week or month from the first to the last, and at most nine labels."""
    first, last = min(days), max(days)
    length = (last - first).days + 1
    starts: dict[date, Pair] = {}
    for number in range(length):
        day = first + timedelta(number)
        if length > _WEEKLY:
            start = day.replace(day=1)
        elif length > _DAILY:
            start = day - timedelta(day.weekday())
        else:
            start = day
        pair = starts.setdefault(start, Pair())
        if day in days:
            pair.good += days[day].good
            pair.bad += days[day].bad
    step = -(-len(starts) // 9)
    form = "%Y-%m" if length > _WEEKLY else "%m-%d"
    labels = [
        start.strftime(form) if number % step == 0 else "" for number, start in enumerate(starts)
    ]
    return labels, list(starts.values())


def _qr(checkpoint: str) -> Markup | None:
    """The checkpoint as a picture, or None if there is none or it is too long for one."""
    if not checkpoint:
        return None
    try:
        code = segno.make(checkpoint.encode(), micro=False, error="l")
    except segno.DataOverflowError:
        return None
    drawn = io.BytesIO()
    code.save(drawn, kind="svg", xmldecl=False, svgns=True, omitsize=True, border=4, light="#fff")
    return Markup(drawn.getvalue().decode().strip())  # noqa: S704 - made of squares
