"""``encvault usb list`` and ``status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from encvault.cli import ui
from encvault.cli.defaults import Defaults
from encvault.cli.look import show_groups
from encvault.cli.options import config_files, json_option, quiet_option, state_dir
from encvault.cli.usb.group import drive_options
from encvault.errors import DriveNotMounted, DriveUnlocked, PlainTrash
from encvault.i18n import N_, _, size_text
from encvault.operations import drives

if TYPE_CHECKING:
    from encvault.errors import EncvaultError
    from encvault.operations.drives import DriveStatus, Which

STATES = {
    "plain": N_("never locked"),
    "locked": N_("locked"),
    "unlocked": N_("unlocked"),
    "interrupted": N_("partly locked"),
    "unmounted": N_("not mounted"),
    "luks": N_("encrypted with LUKS"),
    "bitlocker": N_("encrypted with BitLocker"),
    "unreadable": N_("cannot be read"),
}


@click.command("list", help=_("List the removable drives that are plugged in."))
@json_option
def list_command(*, as_json: bool) -> int:
    """See the command's help."""
    found = drives.list_drives(state_dir(), _register())
    if as_json:
        ui.show_json({"drives": [_status_json(one) for one in found]})
        return 0
    if not found:
        ui.message(_("no removable drive is plugged in"))
    for one in found:
        ui.result(_line(one))
    return 0


def _register() -> str:
    return Defaults(config_files()).register(state_dir())


def _line(found: DriveStatus) -> str:
    device = found.drive.device if found.drive is not None else None
    words = [_(STATES[found.state]), found.path]
    if device is not None:
        content = device.content
        words = [device.node, content.label, content.kind, size_text(found.size), *words]
    if found.standing is not None and found.id:
        words.append(found.standing.text)
        if found.standing.registration is not None:
            words.append(found.standing.registration.owner)
    return "  ".join(filter(None, words))


def _status_json(found: DriveStatus) -> dict[str, Any]:
    device = found.drive.device if found.drive is not None else None
    shown: dict[str, Any] = {
        "path": found.path or None,
        "state": found.state,
        "id": found.id or None,
        "read_only": found.is_read_only,
        "size": found.size,
        "free": found.free,
        "sealed": found.sealed,
        "sealed_size": found.sealed_size,
        "plain": found.plain,
        "leftovers": found.leftovers,
        "trash": found.trash,
        "mountpoint": found.mountpoint or None,
        "generation": found.generation,
    }
    if found.standing is not None:
        registration = found.standing.registration
        shown["standing"] = found.standing.state
        shown["owner"] = registration.owner or None if registration is not None else None
    if device is not None:
        shown["device"] = {
            "node": device.node,
            "filesystem": device.content.kind,
            "uuid": device.content.uuid,
            "label": device.content.label,
            "size": device.size,
            "vendor_id": device.vendor_id,
            "product_id": device.product_id,
            "serial": device.serial,
            "model": device.model,
        }
    return shown


@click.command(
    "status",
    help=_(
        "Show what is locked on a drive and what is not. Needs no key.\n\n"
        "The exit code is 0 if it is locked, 3 if files are in the clear, 75 if it is not there."
    ),
)
@drive_options
@quiet_option
@json_option
def status_command(*, which: Which, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    found = drives.drive_status(which, state_dir(), _register())
    if as_json:
        ui.show_json(_status_json(found))
    elif not quiet:
        _show(found)
    if found.state in ("locked", "luks", "bitlocker") and not found.trash:
        return 0
    error: EncvaultError = DriveUnlocked(path=found.path, which=which.words)
    if found.state == "locked":
        error = PlainTrash(path=found.path, which=which.words, count=found.trash)
    if found.state == "unmounted" and found.drive is not None:
        error = DriveNotMounted(drive=found.drive.name, node=found.drive.device.node)
    return error.exit_code if as_json or quiet else ui.fail(error)


def _show(found: DriveStatus) -> None:
    ui.result(_line(found))
    if found.id:
        ui.result(
            # without a key nobody can tell which of them is a file
            _("{count} objects sealed, folders among them, {size}").format(
                count=found.sealed, size=size_text(found.sealed_size)
            )
        )
    if found.mountpoint:
        ui.result(_("unlocked at {path}").format(path=found.mountpoint))
    if found.trash:
        ui.result(_("in trash folders: {count}").format(count=found.trash))
    show_groups(
        [
            (_("in the clear"), found.plain),
            (_("left by an interrupted run"), found.leftovers),
        ]
    )
