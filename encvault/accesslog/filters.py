"""Which entries somebody wants to see."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from encvault.accesslog.events import as_recorded, text_member
from encvault.accesslog.redaction import path_code
from encvault.errors import InvalidRequest
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from encvault.accesslog.events import Entry, Facts

_TS = "%Y-%m-%dT%H:%M:%S.%fZ"
_AGO = re.compile(r"([1-9]\d{0,4})([dh])")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


def since(text: str, now: datetime) -> str:
    """The time text from which on entries are wanted.

    Args:
        text: ``YYYY-MM-DD`` or ``YYYY-MM-DDTHH:MM`` in the machine's time zone, or how long ago:
            ``7d``, ``24h``.
        now: aware.

    Raises:
        InvalidRequest: it is something else.
    """
    if found := _AGO.fullmatch(text):
        unit = timedelta(days=1) if found[2] == "d" else timedelta(hours=1)
        return _as_ts(now - int(found[1]) * unit)
    return _as_ts(_moment(text))


def until(text: str, now: datetime) -> str:
    """The time text from which on entries are not wanted any more; see `since`.

    A day is wanted to its end, a minute likewise.
    """
    if _DAY.fullmatch(text):
        return _as_ts(_moment(text, timedelta(days=1)))
    if _MINUTE.fullmatch(text):
        return _as_ts(_moment(text, timedelta(minutes=1)))
    return since(text, now)


def _moment(text: str, later: timedelta = timedelta()) -> datetime:
    try:
        if _DAY.fullmatch(text) or _MINUTE.fullmatch(text):
            return (datetime.fromisoformat(text) + later).astimezone()
    except (ValueError, OverflowError):
        pass
    reason = _("{text}: not a time such as 2026-11-30, 2026-11-30T08:00, 7d or 24h")
    raise InvalidRequest(reason=reason.format(text=text))


def _as_ts(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_TS)


@dataclass(frozen=True, slots=True)
class Filter:
    """What an entry must be to be shown; what is empty asks for nothing.

    Attributes:
        since: time text of the first moment.
        until: time text of the first moment after.
        user: who recorded it.
        path: the plain file, or a folder above it; absolute. A file that was sealed under this
            name and opened under another is found as well. Of a path that was recorded as HMAC
            only the file itself is found, and only while the key of its month is there; of one
            that was recorded by name, all of that name.
        op: what was done.
        outcome: how it ended.
        id: of a vault, a sealed file or a keyslot.
        keys: for paths recorded as HMAC, by month.
    """

    since: str = ""
    until: str = ""
    user: str = ""
    path: str = ""
    op: str = ""
    outcome: str = ""
    id: str = ""
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    _needles: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _of_path: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _paths: frozenset[str] = field(init=False, repr=False, compare=False)
    _codes: dict[str, str] = field(init=False, repr=False, compare=False)
    _names: frozenset[str] = field(init=False, repr=False, compare=False)
    _name_codes: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wanted = (("user", self.user), ("op", self.op), ("outcome", self.outcome))
        needles = tuple(text_member(name, value) for name, value in wanted if value)
        codes = {month: path_code(key, self.path) for month, key in self.keys.items()}
        forms = {unicodedata.normalize(form, self.path) for form in ("NFC", "NFD")} | {self.path}
        paths = frozenset(as_recorded(path).rstrip("/") for path in forms)
        of_path = {text_member("path", path)[:-1] for path in paths}
        names = {os.path.basename(path) for path in paths}
        of_path |= {text_member(member, name) for member in ("path", "name") for name in names}
        name_codes = {
            month: path_code(key, os.path.basename(self.path)) for month, key in self.keys.items()
        }
        of_path |= {text_member("name", code) for code in name_codes.values()}
        of_path |= {text_member("path", code) for code in codes.values()}
        object.__setattr__(self, "_needles", needles)
        object.__setattr__(self, "_of_path", tuple(of_path))
        object.__setattr__(self, "_paths", paths)
        object.__setattr__(self, "_codes", codes)
        object.__setattr__(self, "_names", frozenset(names))
        object.__setattr__(self, "_name_codes", name_codes)

    def may_match(self, line: bytes, facts: Facts) -> bool:
        """Whether an entry may be wanted, as far as that shows without decoding it.

        Members are written in one way only, so an entry that has none of these bytes has no such
        member. That an entry is written so is part of what `facts` being there says.
        """
        if facts.ts < self.since or (self.until and facts.ts >= self.until):
            return False
        if self.path and not any(needle in line for needle in self._of_path):
            return False
        if self.id and self.id.encode() not in line:
            return False
        return all(needle in line for needle in self._needles)

    def matches(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        members = entry.members
        return (
            members["ts"] >= self.since
            and (not self.until or members["ts"] < self.until)
            and self.user in ("", members["user"])
            and self.op in ("", members["op"])
            and self.outcome in ("", members["outcome"])
            and (not self.id or self.id in map(members.get, ("vault", "file", "slot")))
            and (not self.path or self._is_about(members))
        )

    def _is_about(self, members: Mapping[str, str | int]) -> bool:
        recorded, name = str(members.get("path", "")), members.get("name")
        if "path_key" in members:
            month = str(members["path_key"])
            by_name = name is not None and name == self._name_codes.get(month)
            return by_name or recorded == self._codes.get(month)
        if name in self._names:
            return True
        if not recorded.startswith("/"):
            return recorded in {os.path.basename(path) for path in self._paths}
        return any(recorded == path or recorded.startswith(f"{path}/") for path in self._paths)
