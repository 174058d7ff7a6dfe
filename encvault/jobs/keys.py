"""The keys of a job file: what they may be, what they are for, and how a new file shows them.

They stand here once: reading, the commented file that ``job new`` writes, the JSON Schema and the
table in docs/jobs.md all come from `KEYS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from encvault import config
from encvault.i18n import N_, _
from encvault.jobs import values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from encvault.jobs.values import Kind

PAGE = "docs/jobs.md"
VERSION = 1


class Key(NamedTuple):
    """One key of a job file.

    Attributes:
        table: it is in, or "".
        name: its own.
        kind: what its value may be.
        text: what it is for.
        shown: the value that the commented file shows where none is given.
    """

    table: str
    name: str
    kind: Kind
    text: str
    shown: Any

    @property
    def keys(self) -> tuple[str, ...]:
        """For `encvault.config.TomlFile`."""
        return (self.table, self.name) if self.table else (self.name,)


_V = values
KEYS = (
    Key("", "sources", _V.FOLDERS, N_("the folders that are sealed"), ["/srv/finance"]),
    Key("", "exclude", _V.TEXTS, N_("names or paths that are left out"), ["*.tmp", "~$*"]),
    Key(
        "",
        "mode",
        _V.words("in-place", "mirror", "archive"),
        N_("in-place, mirror (a sealed copy that is kept up to date), or archive (one file a run)"),
        "mirror",
    ),
    Key(
        "",
        "destination",
        _V.PLACE,
        N_("where mirrors and archives go: a folder, sftp://USER@HOST/PATH or s3://BUCKET/PATH"),
        "/mnt/nas/vaults",
    ),
    Key("", "drive", _V.TEXT, N_("or the id of a removable drive"), "drive-id"),
    Key(
        "",
        "recipients",
        _V.TEXTS,
        N_("for whom a new vault, and each archive, is sealed: files or lines; no secret"),
        ["/etc/encvault/company.pub"],
    ),
    Key(
        "",
        "fingerprint",
        _V.FINGERPRINT,
        N_("the only vault that may be sealed into; encvault info shows it"),
        "",
    ),
    Key("", "suite", _V.words(*config.SUITES), N_("cipher suite of what is new"), "aes-256-gcm"),
    Key("", "hide_names", _V.TRUTH, N_("hide names and the folder tree as well"), shown=False),
    Key("", "delete", _V.TRUTH, N_("mirror: remove what is gone from the source"), shown=False),
    Key("", "keep", _V.number(1, 10_000), N_("archive: how many complete ones are kept"), 14),
    Key(
        "",
        "verify",
        _V.words("none", "sample", "full"),
        N_("how much of what lies there is read back after a run"),
        "sample",
    ),
    Key(
        "",
        "remove_sources",
        _V.TRUTH,
        N_("mirror and archive: remove the originals; needs verify = full"),
        shown=False,
    ),
    Key("", "timeout", _V.DURATION, N_("a run that takes longer is ended (124)"), "5h"),
    Key("", "lock_wait", _V.DURATION, N_("how long to wait for another run of the job"), "15m"),
    Key("", "retries", _V.number(0, 100), N_("how often what may pass is tried again"), 2),
    Key("", "retry_wait", _V.DURATION, N_("after how long, longer each time"), "5m"),
    Key(
        "",
        "if_absent",
        _V.words("skip", "fail"),
        N_("the destination is not there: skip (75), or fail (66)"),
        "skip",
    ),
    Key(
        "",
        "on_partial",
        _V.words("fail", "warn"),
        N_("some files were left: fail (3), or warn (0)"),
        "fail",
    ),
    Key(
        "",
        "trigger",
        _V.words("schedule", "on-change"),
        N_("on-change: encvault job watch seals what comes to lie in the source"),
        "schedule",
    ),
    Key("", "settle", _V.DURATION, N_("on-change: how long a file must be still"), "10s"),
    Key("schedule", "at", _V.CLOCK, N_("when it runs"), "02:30"),
    Key("schedule", "days", _V.WEEKDAYS, N_("on which days; all, if it is left out"), ["mon"]),
    Key("schedule", "spread", _V.DURATION, N_("by how much it may begin later"), "30m"),
    Key("secret", "password_file", _V.PATH, N_("whose first line is the password"), "/root/pw"),
    Key(
        "secret",
        "password_command",
        _V.COMMAND,
        N_("a program that prints the password; no shell reads it"),
        ["/usr/bin/pass", "show", "nightly"],
    ),
    Key("secret", "credential", _V.CREDENTIAL, N_("a credential of systemd"), "nightly"),
    Key("secret", "keyring", _V.TRUTH, N_("ask the desktop's keychain"), shown=True),
    Key(
        "secret",
        "identity_file",
        _V.PATH,
        N_("an identity without a password"),
        "/etc/encvault/verify.key",
    ),
    Key(
        "notify",
        "ping_url",
        _V.ADDRESS,
        N_("is asked for at the start and the end of a run"),
        "https://hc.example.com/ping/UUID",
    ),
    Key(
        "notify",
        "send_details",
        _V.TRUTH,
        N_("whether messages and names are sent there"),
        shown=False,
    ),
    Key(
        "notify",
        "metrics",
        _V.PATH,
        N_("a file for the textfile collector of Prometheus"),
        "/var/lib/prometheus/node-exporter/encvault.prom",
    ),
)
HOOK_KEYS = (
    Key(
        "hooks",
        "when",
        _V.words("before", "success", "failure", "after"),
        N_("when it runs; before: 75 skips the run, any other code but 0 fails it"),
        "before",
    ),
    Key(
        "hooks",
        "run",
        _V.COMMAND,
        N_("a program and its arguments; no shell reads them"),
        ["/usr/bin/findmnt", "/mnt/nas"],
    ),
    Key("hooks", "timeout", _V.DURATION, N_("how long it may take"), "10m"),
)
REQUIRED = ("version", "sources", "mode")


def job_text(given: Mapping[str, Mapping[str, Any]]) -> str:
    """A commented file with these values; every other key is shown in a comment.

    Args:
        given: values by table, as they are in TOML, and by name; the top is "".
    """
    lines = [f"# {_('a job of encvault; the keys are described in {page}').format(page=PAGE)}"]
    lines += [f"version = {VERSION}"]
    table = ""
    for key in (*KEYS, *HOOK_KEYS):
        if key.table != table:
            table = key.table
            header = f"[[{table}]]" if table == "hooks" else f"[{table}]"
            is_used = bool(given.get(table)) and table != "hooks"
            lines += ["", header if is_used else f"# {header}"]
        value = given.get(key.table, {}).get(key.name)
        lines += ["", f"# {_(key.text)}"] if not key.table else [f"# {_(key.text)}"]
        if value is None:
            lines.append(f"# {key.name} = {values.toml_text(key.shown)}")
        else:
            lines.append(f"{key.name} = {values.toml_text(value)}")
    return "\n".join(lines) + "\n"


def job_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors."""
    top: dict[str, Any] = {"version": {"const": VERSION}}
    tables: dict[str, dict[str, Any]] = {}
    for key in (*KEYS, *HOOK_KEYS):
        place = tables.setdefault(key.table, {}) if key.table else top
        place[key.name] = {"description": key.text, **key.kind.schema}
    for name, properties in tables.items():
        one: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
        }
        if name == "hooks":
            one["required"] = ["when", "run"]
        if name == "secret":
            one["maxProperties"] = 1
        top[name] = {"type": "array", "items": one} if name == "hooks" else one
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a job of encvault",
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED),
        "properties": top,
    }
