"""Verified entries as other systems want them: OCSF, CEF, RFC 5424 and CSV.

Every record has the log's origin, the entry's index and the size of the tree, so that a hit in
another system leads to a proof: ``encvault log prove INDEX``. What is exported is derived and
proves nothing by itself. docs/log-export.md shows one record of each form.

Records are in English whatever the language, for they are searched by machines.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

from encvault.about import __version__
from encvault.accesslog import ocsf
from encvault.accesslog.ocsf import NAME
from encvault.accesslog.words import action_text, outcome_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from encvault.accesslog.events import Entry

FORMS = ("ocsf", "cef", "rfc5424", "csv")

MEMBERS = (
    *("v", "ts", "op", "outcome", "user", "uid", "login", "host", "boot", "up_ms", "pid", "run"),
    *("tool", "path", "path_key", "to", "vault", "file", "slot", "size", "count", "error"),
    *("exit_code", "detail", "wall", "step_ms", "epoch", "policy", "name", "label"),
    *("recipients", "program"),
)
"""The members of docs/log-format.md section 4; others are those of a later version, and ignored."""

SD_ID = f"{NAME}@32473"
"""RFC 5424 section 7.2.2 wants a private enterprise number; this one is for examples (RFC 5612)."""

# what would end a line for one reader or another, or cannot be UTF-8
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# the first characters that make a spreadsheet compute, in both widths (OWASP, CSV Injection); of
# those named there, tab and carriage return are unfit for any form
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 - full width is meant
_FACILITY = 13  # log audit (RFC 5424 section 6.2.1)
# severity of CEF (0 to 10) and of syslog (7 to 0)
_SEVERITY = {"ok": (1, 6), "failed": (3, 5), "refused": (6, 4)}
_UNKNOWN_SEVERITY = (3, 5)

Members = dict[str, str | int]


def export(entries: Iterable[Entry], form: str, *, origin: str, size: int) -> Iterator[str]:
    r"""Records of verified entries, one line each, without the line end.

    The line end is CR LF for ``csv`` (RFC 4180 section 2) and LF for the others. No line has one
    inside: control characters are written as ``\u000a`` is here.

    Args:
        entries: in the log's order.
        form: one of `FORMS`. ``csv`` begins with a line of names, after a byte order mark.
        origin: of the log.
        size: entries of the tree that was verified.

    Yields:
        Text that can be written in UTF-8.
    """
    if form == "csv":
        yield from _csv(entries, origin, size)
        return
    record: Callable[[Entry, Members, str, int], str] = {
        "ocsf": _ocsf,
        "cef": _cef,
        "rfc5424": _rfc5424,
    }[form]
    for entry in entries:
        yield record(entry, _members(entry), origin, size)


def _members(entry: Entry) -> Members:
    found = entry.members
    return {name: _fit(found[name]) for name in MEMBERS if name in found}


def _fit(value: str | int) -> str | int:
    return _UNFIT.sub(_written, value) if isinstance(value, str) else value


def _written(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _sentence(members: Mapping[str, str | int]) -> str:
    op, outcome = str(members["op"]), str(members["outcome"])
    told = action_text(op).english + (f": {members['path']}" if "path" in members else "")
    error = f", {members['error']}" if "error" in members else ""
    return f"{told} ({outcome_text(outcome).english}{error}), by {members['user']}"


# -- OCSF -----------------------------------------------------------------------------------

_encode_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def _ocsf(entry: Entry, members: Members, origin: str, size: int) -> str:
    sentence = _sentence(members)
    return _encode_json(ocsf.event(entry, members, origin=origin, size=size, sentence=sentence))


# -- CEF (Common Event Format, version 0) ---------------------------------------------------

# extension keys of the standard's dictionary; the others are named as it wants names of vendors
_CEF_KEYS = {
    "op": "act",
    "outcome": "outcome",
    "user": "suser",
    "uid": "suid",
    "host": "dvchost",
    "pid": "dvcpid",
    "program": "sproc",
    "file": "fileId",
    "error": "reason",
}
_CEF_CUSTOM = {"vault": "cs2", "slot": "cs3", "run": "cs4", "to": "cs5", "detail": "cs6"}
_CEF_LEFT_OUT = frozenset({"v", "ts", "tool", "path", "size"})


def _cef(entry: Entry, members: Members, origin: str, size: int) -> str:
    op = str(members["op"])
    fields: Members = {"rt": ocsf.milliseconds(str(members["ts"])), "msg": _sentence(members)}
    fields |= {"cn1Label": "logIndex", "cn1": entry.index, "cn2Label": "logSize", "cn2": size}
    fields |= {"cs1Label": "logOrigin", "cs1": origin}
    if "path" in members:
        path = str(members["path"])
        fields["fname"] = path.rstrip("/").rpartition("/")[2] or path
        if "path_key" not in members:  # a digest is a name, but not the path of anything
            fields["filePath"] = path
    if "size" in members:
        fields["fsize"] = members["size"]
    for name, value in members.items():
        if name in _CEF_CUSTOM:
            key = _CEF_CUSTOM[name]
            fields |= {f"{key}Label": name, key: value}
        elif name not in _CEF_LEFT_OUT:
            # such as encvaultUpMs
            own = NAME + "".join(word.capitalize() for word in name.split("_"))
            fields[_CEF_KEYS.get(name, own)] = value
    severity = _severity(members)[0]
    heads = (NAME, NAME, _version(members), op, action_text(op).english)
    prefix = "|".join(_cef_header(head) for head in heads)
    extension = " ".join(f"{key}={_cef_value(value)}" for key, value in fields.items())
    return f"CEF:0|{prefix}|{severity}|{extension}"


def _cef_header(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _cef_value(value: str | int) -> str:
    return str(value).replace("\\", "\\\\").replace("=", "\\=")


# -- RFC 5424 -------------------------------------------------------------------------------


def _rfc5424(entry: Entry, members: Members, origin: str, size: int) -> str:
    priority = _FACILITY * 8 + _severity(members)[1]
    header = " ".join(
        (
            f"<{priority}>1",
            str(members["ts"]),
            _ascii(members["host"], 255),
            NAME,
            _ascii(members["pid"], 128),
            _ascii(members["op"], 32),
        )
    )
    fields: Members = {"origin": origin, "index": entry.index, "treeSize": size}
    fields |= members
    data = " ".join(f'{name}="{_sd_value(value)}"' for name, value in fields.items())
    software = f'[origin software="{NAME}" swVersion="{_sd_value(_version(members)[:32])}"]'
    return f"{header} {software}[{SD_ID} {data}] \ufeff{_sentence(members)}"


def _ascii(value: str | int, longest: int) -> str:
    """A field of the header: printable US-ASCII without spaces, or the nil value."""
    kept = "".join(char if "!" <= char <= "~" else "?" for char in str(value))
    return kept[:longest] or "-"


def _sd_value(value: str | int) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", str(value))


# -- CSV (RFC 4180) -------------------------------------------------------------------------


def _csv(entries: Iterable[Entry], origin: str, size: int) -> Iterator[str]:
    # the mark makes spreadsheets read UTF-8, which in a Chinese Windows they would take for GBK
    yield "\ufeff" + _row(["log_origin", "log_index", "log_size", *MEMBERS])
    for entry in entries:
        members = _members(entry)
        row = [origin, entry.index, size, *(members.get(name, "") for name in MEMBERS)]
        yield _row([_harmless(value) for value in row])


def _row(values: list[str | int]) -> str:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="").writerow(values)
    return line.getvalue()


def _harmless(value: str | int) -> str | int:
    """A cell that no spreadsheet computes; numbers are numbers, whatever their sign."""
    if isinstance(value, str) and value.lstrip().startswith(_FORMULA):
        return f"'{value}"
    return value


def _severity(members: Mapping[str, str | int]) -> tuple[int, int]:
    return _SEVERITY.get(str(members["outcome"]), _UNKNOWN_SEVERITY)


def _version(members: Mapping[str, str | int]) -> str:
    return str(members["tool"]).partition(" ")[2] or __version__
