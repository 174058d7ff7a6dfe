"""``encvault doctor``: what works here, what is missing, the command that mends it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from encvault.cli import ui
from encvault.cli.options import (
    config_dir,
    config_files,
    default_identity,
    json_option,
    state_dir,
)
from encvault.i18n import N_, _, english
from encvault.operations import doctor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from encvault.operations.doctor import Check, Finding

_STATES = {
    "ok": N_("ok"),
    "warn": N_("warning"),
    "missing": N_("missing"),
    "failed": N_("failed"),
}
_COLOURS = {"ok": "green", "warn": "yellow", "missing": "yellow", "failed": "red"}


@click.command(
    "doctor",
    help=_(
        "Look what works on this machine, what is missing, and what would mend it. Changes nothing "
        "and needs no rights.\n\n"
        "The exit code is 3 if something that encvault as a whole needs does not work. What only "
        "one feature needs, such as FUSE, is named and does not change the code."
    ),
)
@json_option
def doctor_command(*, as_json: bool) -> int:
    """See the command's help."""
    found = list(doctor.diagnose(_surroundings(os.environ)))
    error = doctor.outcome(found)
    if as_json:
        ui.show_json({"checks": [_as_json(check, finding) for check, finding in found]})
        return error.exit_code if error else 0
    if sys.stdout.isatty() and sys.stdout.encoding.lower().replace("-", "") == "utf8":
        _show_table(found)
    else:
        _show_plainly(found)
    return ui.fail(error) if error else 0


def _surroundings(environ: Mapping[str, str]) -> doctor.Surroundings:
    return doctor.Surroundings(
        state_dir=state_dir(),
        config_dir=config_dir(),
        config_files=config_files(),
        identity=default_identity(),
        search_path=environ.get("PATH", os.defpath),
        locale=_locale(environ),
        now=time.time(),
        session=environ,
    )


def _locale(environ: Mapping[str, str]) -> str:
    """The locale that was asked for, as POSIX finds it (XBD 8.2)."""
    name = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "C"
    if sys.flags.utf8_mode and not environ.get("LC_ALL") and name.startswith("C."):
        # Python found a locale without UTF-8 and set this one for its children (PEP 538)
        return environ.get("LANG") or "C"
    return name


def _as_json(check: Check, finding: Finding) -> dict[str, Any]:
    return {
        "name": check.name,
        "needed": check.needed,
        "state": finding.state,
        "detail": english(finding.detail),
        "fix": english(finding.fix) or None,
    }


def _show_plainly(found: Sequence[tuple[Check, Finding]]) -> None:
    first = max(ui.cells(_(state)) for state in _STATES.values()) + 2
    second = max(ui.cells(_(check.title)) for check, _finding in found) + 2
    for check, finding in found:
        state, title = _(_STATES[finding.state]), _(check.title)
        ui.result(f"{ui.column(state, first)}{ui.column(title, second)}{finding.detail}")
        if finding.fix:
            ui.result(" " * (first + second) + _("fix: {fix}").format(fix=finding.fix))


def _show_table(found: Sequence[tuple[Check, Finding]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms that only a terminal is worth
    from rich.table import Table  # noqa: PLC0415 - likewise
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check, finding in found:
        state = Text(_(_STATES[finding.state]), style=_COLOURS[finding.state])
        detail = Text(ui.harmless(finding.detail))
        if finding.fix:
            detail.append("\n" + _("fix: {fix}").format(fix=ui.harmless(finding.fix)), "bold")
        table.add_row(state, Text(_(check.title)), detail)
    Console(file=sys.stdout, highlight=False).print(table)
