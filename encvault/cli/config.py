"""``encvault config``: what is configured, and where."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from encvault import config, operations
from encvault.cli import ui
from encvault.cli.options import config_files, json_option
from encvault.i18n import _

if TYPE_CHECKING:
    from encvault.config import Config, Given


@click.group("config", help=_("Show what the company and you have configured."))
def config_command() -> None:
    """See the command's help."""


@config_command.command(
    "show",
    help=_(
        "Show each setting, its value and the file that it is from, and which files were looked "
        "for.\n\n"
        "Whether the files can be used is checked as well; the exit code is 78 if not."
    ),
    short_help=_("Show the settings and where they are from."),
)
@json_option
def show_command(*, as_json: bool) -> int:
    """See the command's help."""
    found = config.load(config_files())
    recipients = operations.company_recipients(found)
    rows = [
        *(
            _Row("recipients", one.given.value, one.given.source, one.fingerprint)
            for one in recipients
        ),
        *_rows(found),
    ]
    if as_json:
        files = [{"path": path, "found": there} for path, there in found.files.items()]
        ui.show_json({"files": files, "settings": [dataclasses.asdict(row) for row in rows]})
        return 0
    if not recipients:
        rows.insert(0, _Row("recipients", None, found.recipients_from))
    width = max(ui.cells(row.key) for row in rows) + 2
    for row in rows:
        source = row.source or _("default")
        ui.result(f"{ui.column(row.key, width)}{_shown(row)}  ({source})")
    for path, there in found.files.items():
        told = _("{path} was read") if there else _("{path} is not there")
        ui.message(told.format(path=path))
    return 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    key: str
    value: str | int | None  # a truth value is an int as well
    source: str | None
    fingerprint: str | None = None


def _rows(found: Config) -> list[_Row]:
    single: dict[str, Given[Any]] = {
        "suite": found.suite,
        "password.min_length": found.min_length,
        "password.min_strength": found.min_strength,
        "log.dir": found.log.dir,
        "log.paths": found.log.paths,
        "log.required": found.log.required,
        "usb.register": found.register,
    }
    single |= {f'vaults."{path}".fingerprint': pin for path, pin in found.pins.items()}
    rows = [_Row(key, given.value, given.source) for key, given in single.items()]
    if rows[0].value is None:
        rows[0] = dataclasses.replace(rows[0], value=operations.DEFAULT_SUITE.label)
    return rows


def _shown(row: _Row) -> str:
    if row.value is None:
        return _("none")
    if isinstance(row.value, bool):
        return str(row.value).lower()  # as the file has it
    if row.fingerprint is None:
        return str(row.value)
    if str(row.value).startswith("encvault1-"):  # 1638 characters that nobody reads
        return row.fingerprint
    return f"{row.fingerprint} {row.value}"
