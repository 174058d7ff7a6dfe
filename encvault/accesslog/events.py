"""Entries of the access log: canonical JSON lines. docs/log-format.md section 4.

What an entry may say is the one table `MEMBERS`. From it comes the encoder, which writes what the
entries of a batch share only once, and the grammar by which a check reads a million lines without
building an object for each.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from dataclasses import dataclass
from datetime import date
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.i18n import N_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_SIZE = 65_535  # bytes of an entry, as in an entry bundle of C2SP tlog-tiles
MAX_TEXT_SIZE = 16_384  # bytes of one value as it is written; a longer one loses its front
VERSION = 1

_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_CUT = "…"
_MAX_SPELLING = 7  # bytes of one character in a line: a byte that is not UTF-8
_SURELY_SHORT = MAX_TEXT_SIZE // _MAX_SPELLING  # characters
_ALWAYS = frozenset(
    {"boot", "host", "op", "outcome", "pid", "run", "tool", "ts", "uid", "up_ms", "user", "v"}
)
_NUMBERS = frozenset(
    {"count", "epoch", "exit_code", "login", "pid", "size", "step_ms", "uid", "up_ms", "v"}
)
_TEXTS = frozenset(
    {
        *("boot", "detail", "error", "file", "host", "label", "name", "op", "outcome", "path"),
        *(
            "path_key",
            "policy",
            "program",
            "recipients",
            "run",
            "slot",
            "to",
            "tool",
            "ts",
            "user",
            "vault",
            "wall",
        ),
    }
)
MEMBERS = tuple(sorted(_NUMBERS | _TEXTS))
"""Every member that this version writes, in the order of a line."""

OUTCOMES = ("ok", "failed", "refused")

BULK = "bulk"
"""The ``detail`` of a ``read`` of all that is in a vault, not of a file."""

_TIME = (
    rb"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    rb"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z"
)
_FORMS = {
    "op": rb'"[a-z]+(?:\.[a-z]+)?"',
    "outcome": rb'"(?:' + "|".join(OUTCOMES).encode() + rb')"',
    "ts": rb'"' + _TIME + rb'"',
    "wall": rb'"' + _TIME + rb'"',
    "v": str(VERSION).encode(),
}
_NUMBER = rb"(?:0|-?[1-9]\d{0,18}+)"
# RFC 8259 section 7 in its one shortest form; possessive, so that no line makes it try twice
_TEXT = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f])))*+"'
_SURROGATE = re.compile("[\ud800-\udfff]")
_READ = ("op", "ts", "wall", "epoch")  # what a check needs of every line
_FEW = 100  # lines; compiling their form takes longer than reading so many without
_lines = itertools.count()


@functools.cache
def _line() -> re.Pattern[bytes]:
    """The form of an entry; compiled when one is read, which takes milliseconds."""
    parts = []
    for name in MEMBERS:
        form = _FORMS.get(name, _NUMBER if name in _NUMBERS else _TEXT)
        if name in _READ:
            form = rb"(?P<" + name.encode() + rb">" + form + rb")"
        # "v" is always there, so every other member knows on which side its comma is
        quoted = b'"' + name.encode() + b'":' + form
        member = quoted if name == "v" else b"," + quoted if name > "v" else quoted + b","
        parts.append(member if name in _ALWAYS else rb"(?:" + member + rb")?+")
    return re.compile(rb"\{" + b"".join(parts) + rb"\}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as it stands in the log.

    Attributes:
        index: its place, from 0.
        members: what it says.
    """

    index: int
    members: Mapping[str, Any]


class NewerEntry(ValueError):
    """An entry of a version that is not known here."""


class Facts(NamedTuple):
    """What a check of the log needs of an entry.

    Attributes:
        op: what was done.
        ts: when, as text.
        behind: whether the clock was behind the entry above.
        epoch: the number of a ``log.epoch`` entry, else None.
    """

    op: str
    ts: str
    behind: bool
    epoch: int | None


def encode_all(
    shared: Mapping[str, str | int], each: Iterable[Mapping[str, str | int]]
) -> list[bytes]:
    """The lines of entries, without line feeds.

    Args:
        shared: members of all of them.
        each: the further members of each.
    """
    lines = []
    templates: dict[tuple[str, ...], tuple[list[str], str]] = {}
    for members in each:
        names = tuple(members)
        if names not in templates:
            templates[names] = _template(shared, names)
        order, text = templates[names]
        # written out, for it runs once for every file that is sealed
        values = [
            encode_basestring(value) if isinstance(value := members[name], str) else str(value)
            for name in order
        ]
        line = text % tuple(values)
        if len(line) > _SURELY_SHORT:
            line = text % tuple([_encoded(members[name]) for name in order])
        try:
            lines.append(line.encode())
        except UnicodeEncodeError:  # a name on disk need not be UTF-8
            lines.append(_SURROGATE.sub(_spelled, line).encode())
    return lines


def _template(shared: Mapping[str, str | int], names: tuple[str, ...]) -> tuple[list[str], str]:
    """The order of the members that vary, and the line with a place for each."""
    order = sorted(names)
    fixed = {name: _encoded(value).replace("%", "%%") for name, value in shared.items()}
    if "pid" in names:  # what another process did, which has a login of its own or none
        fixed.pop("login", None)
    members = sorted(fixed | dict.fromkeys(names, "%s"))
    if not _ALWAYS <= set(members) <= set(MEMBERS):
        raise AssertionError(f"access log: members are {members}")
    places = fixed | dict.fromkeys(names, "%s")
    return order, "{" + ",".join(f'"{name}":{places[name]}' for name in members) + "}"


def _encoded(value: str | int) -> str:
    if type(value) is int:
        return str(value)
    text = str(value)
    return encode_basestring(text if len(text) < _SURELY_SHORT else _shortened(text))


def text_member(name: str, value: str) -> bytes:
    """The bytes that an entry has if, and only if, it has this text member."""
    return f'"{name}":{_SURROGATE.sub(_spelled, _encoded(value))}'.encode()


def as_recorded(text: str) -> str:
    """A text as it will be read from an entry."""
    recorded: str = json.loads(_SURROGATE.sub(_spelled, _encoded(text)))
    return recorded


def _shortened(text: str) -> str:
    """The end of a text, if the whole would take more than `MAX_TEXT_SIZE` in a line."""
    text = _SURROGATE.sub(_named, text)
    left = MAX_TEXT_SIZE - _size(text)
    if left >= 0:
        return text
    left -= _size(_CUT)
    cut = 0
    while left < 0:
        left += _size(text[cut])
        cut += 1
    return _CUT + text[cut:]


def _size(text: str) -> int:
    """Bytes that a text takes between its quotation marks."""
    return len(encode_basestring(text).encode()) - len('""')


def _named(found: re.Match[str]) -> str:
    """A byte that is not UTF-8, as it stands in a text."""
    return rf"\u{ord(found[0]):04x}"


def _spelled(found: re.Match[str]) -> str:
    """The same, as it is written."""
    return rf"\\u{ord(found[0]):04x}"


def decode(line: bytes) -> Mapping[str, Any]:
    """The members of an entry.

    Raises:
        ValueError: it is none; the reason is a message.
    """
    facts_of(line)
    members: Mapping[str, Any] = json.loads(line)
    return members


@functools.lru_cache(maxsize=64)
def _check_day(day: bytes) -> None:
    """Refuse a day that is in no calendar, or that not every time zone can show."""
    try:
        year = date.fromisoformat(day.decode()).year
    except ValueError:
        raise ValueError(N_("a day that does not exist")) from None
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise ValueError(N_("a day that does not exist"))


def facts_of(line: bytes) -> Facts:
    """What a check needs of an entry, which is checked to be one.

    Raises:
        ValueError: it is none; the reason is a message.
    """
    if next(_lines) < _FEW:  # most commands read what they have just written, and that is all
        return _facts_of_any(line)
    found = _line().fullmatch(line)
    if found is None or len(line) > MAX_SIZE:
        return _facts_of_any(line)
    if not line.isascii():
        line.decode()  # a UnicodeDecodeError is a ValueError
    op, ts, wall, epoch = found.group("op", "ts", "wall", "epoch")
    _check_day(ts[1:11])
    if wall is not None:
        _check_day(wall[1:11])
    return Facts(
        op[1:-1].decode(),
        ts[1:-1].decode(),
        wall is not None,
        None if epoch is None else int(epoch),
    )


_CHECKS: dict[str, Callable[[Any], object]] = {
    "op": re.compile(r"[a-z]+(?:\.[a-z]+)?").fullmatch,
    "outcome": OUTCOMES.__contains__,
    "ts": re.compile(_TIME.decode(), re.ASCII).fullmatch,
    "wall": re.compile(_TIME.decode(), re.ASCII).fullmatch,
    "v": VERSION.__eq__,
}


def _facts_of_any(line: bytes) -> Facts:
    """The same, also of an entry with members that this version does not know; slower."""
    if len(line) > MAX_SIZE:
        raise ValueError(N_("an entry is too long"))
    try:
        members = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise ValueError(N_("not JSON")) from None
    if not isinstance(members, dict) or not members.keys() >= _ALWAYS:
        raise ValueError(N_("members are missing"))
    if type(members["v"]) is int and members["v"] > VERSION:
        raise NewerEntry(N_("made by a later version of encvault"))
    _check_members(members)
    ordered = ",".join(f'"{name}":{_plain(members[name])}' for name in sorted(members))
    if ("{" + ordered + "}").encode(errors="replace") != line:
        raise ValueError(N_("not canonical"))
    return Facts(members["op"], members["ts"], "wall" in members, members.get("epoch"))


def _check_members(members: Mapping[str, Any]) -> None:
    """Refuse values that the members that are known cannot have."""
    for name, value in members.items():
        wanted = int if name in _NUMBERS else str if name in _TEXTS else (int, str)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(N_("a member is of the wrong type"))  # noqa: TRY004 - one for bad input
        if name in _CHECKS and not _CHECKS[name](value):
            raise ValueError(N_("a member has no meaning"))
    for name in ("ts", "wall"):
        if name in members:
            _check_day(members[name][:10].encode())


def _plain(value: str | int) -> str:
    return str(value) if type(value) is int else encode_basestring(str(value))
