"""``encvault usb allow`` and ``forget``: the register of a company's drives."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import click

from encvault.cli import ui
from encvault.cli.options import json_option, keyless_prompter, quiet_option, state_dir
from encvault.errors import InvalidRequest
from encvault.i18n import _
from encvault.operations import drives

if TYPE_CHECKING:
    from encvault.operations.drives import Registration


def _day(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            _("not a day such as 2027-06-30: {text}").format(text=value)
        ) from None


@click.command(
    "allow",
    help=_(
        "Enter a drive into the register of the company's drives; without DRIVE, list it.\n\n"
        "The drive must have been locked or prepared. A note signed with the register's key is "
        "written to it. The register only tells whose a drive is: no drive is kept out by it. "
        "--export prints rules for programs of the system that can do that."
    ),
)
@click.argument("drive", required=False)
@click.option("--owner", default="", metavar="NAME", help=_("Who has the drive."))
@click.option("--label", default="", metavar="TEXT", help=_("What the company calls it."))
@click.option(
    "--expires",
    metavar="DAY",
    callback=_day,
    help=_("The last day on which it counts, such as 2027-06-30."),
)
@click.option(
    "--export",
    type=click.Choice(drives.EXPORTS),
    help=_("Print rules for the registered drives."),
)
@quiet_option
@json_option
def allow_command(
    *,
    drive: str | None,
    owner: str,
    label: str,
    expires: date | None,
    export: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """See the command's help."""
    prompter = keyless_prompter(quiet=quiet)
    register_path = prompter.defaults.register(state_dir())
    if drive is None:
        if owner or label or expires is not None:
            raise InvalidRequest(reason=_("say which drive"))
        return _show_register(register_path, export, as_json=as_json)
    if export is not None:
        raise InvalidRequest(reason=_("--export prints the whole register: name no drive"))
    request = drives.AllowRequest(drive, register_path, label, owner, expires)
    made = drives.allow(request, prompter, ui.Screen("", quiet=quiet))
    if as_json:
        ui.show_json(_registration_json(made))
    elif not quiet:
        ui.message(_("registered: {drive}").format(drive=_line(made)))
        ui.hint(_("no drive is kept out by the register; for rules that do: --export"))
    return 0


def _show_register(register_path: str, export: str | None, *, as_json: bool) -> int:
    found = drives.registered_drives(register_path)
    if export is not None:
        for line in drives.EXPORTS[export](found).splitlines():
            ui.result(line)
        ui.message(_("read the rules before you use them: too strict ones lock out keyboards"))
    elif as_json:
        ui.show_json({"register": register_path, "drives": [*map(_registration_json, found)]})
    else:
        for one in found:
            ui.result(_line(one))
        if not found:
            ui.message(_("no drive is registered in {path}").format(path=register_path))
    return 0


def _line(one: Registration) -> str:
    expires = one.expires_at
    words = (
        one.label,
        one.id,
        one.owner,
        _("until {day}").format(day=expires) if expires is not None else "",
    )
    return "  ".join(filter(None, words))


def _registration_json(one: Registration) -> dict[str, Any]:
    return {
        "id": one.id,
        "label": one.label,
        "owner": one.owner or None,
        "issued_at": one.issued_at.isoformat(),
        "expires_at": one.expires_at.isoformat() if one.expires_at is not None else None,
        "vendor_id": one.vendor_id,
        "product_id": one.product_id,
        "serial": one.serial,
        "size": one.size,
    }


@click.command(
    "forget",
    help=_(
        "Take a drive out of the register of the company's drives.\n\n"
        "DRIVE is its id or label in the register, or any of its names while it is plugged in. It "
        "need not be there."
    ),
)
@click.argument("drive")
@quiet_option
@json_option
def forget_command(*, drive: str, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    prompter = keyless_prompter(quiet=quiet)
    register_path = prompter.defaults.register(state_dir())
    gone = drives.forget(drive, register_path, prompter, ui.Screen("", quiet=quiet))
    if as_json:
        ui.show_json(_registration_json(gone))
    elif not quiet:
        ui.message(_("not registered any more: {drive}").format(drive=_line(gone)))
    return 0
