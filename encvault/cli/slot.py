"""``encvault slot``, ``passwd`` and ``recovery``: who can open a vault."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.options import json_option, secret_options
from encvault.cli.sheet import recovery_sheet
from encvault.errors.base import quoted
from encvault.i18n import _
from encvault.vault.output import OutputFile

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter
    from encvault.keyslots import SlotInfo
    from encvault.operations import RecoveryCode


@click.group("slot", help=_("List, add and remove the keyslots of a vault: who can open it."))
def slot_command() -> None:
    """See the command's help."""


@slot_command.command("list", help=_("List a vault's keyslots. Needs no key."))
@click.argument("vault", default=".")
@json_option
def list_command(vault: str, *, as_json: bool) -> int:
    """See the command's help."""
    return _show_slots(operations.list_slots(vault), as_json=as_json)


@slot_command.command(
    "add",
    help=_(
        "Let one more password, or the owners of more recipients, open a vault.\n\n"
        "Needs a key that opens it now. Without -r a new password is asked for."
    ),
    short_help=_("Let somebody else open a vault."),
)
@click.argument("vault", default=".")
@click.option("--label", metavar="TEXT", help=_("Words by which people know the new keyslot."))
@json_option
@secret_options(recipients=True, identities=True, new_password=True)
def add_command(
    vault: str, *, label: str | None, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    prompter.for_others()
    added = operations.add_slots(vault, prompter, label=label, observer=ui.Screen(""))
    return _show_slots(added, as_json=as_json)


@slot_command.command(
    "remove",
    help=_(
        "Take a keyslot away from a vault.\n\n"
        "Needs a key that opens it. Old copies of the vault still open with what was removed, and "
        "whoever kept the vault's secret can still open this one."
    ),
    short_help=_("Take a keyslot away."),
)
@click.argument("vault")
@click.argument("slot")
@click.option(
    "--force", is_flag=True, help=_("Even the last one that is a password or a recovery code.")
)
@json_option
@secret_options(recipients=False, identities=True)
def remove_command(
    vault: str, slot: str, *, force: bool, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    removed = operations.remove_slot(vault, prompter, slot, force=force, observer=ui.Screen(""))
    prompter.tell_of_old_entry()
    if as_json:
        ui.show_json({"removed": removed})
    else:
        ui.message(_("removed the keyslot {slot}").format(slot=slot))
        ui.message(_("copies of the vault made before still open with it"))
    return 0


@click.command(
    "passwd",
    help=_(
        "Change a password of a vault. The sealed files stay as they are.\n\n"
        "The password that opens the vault is the one that is changed, unless --slot names another."
    ),
)
@click.argument("vault", default=".")
@click.option("--slot", metavar="SLOT", help=_("Change the password of this keyslot."))
@json_option
@secret_options(recipients=False, identities=True, new_password=True)
def passwd_command(
    vault: str, *, slot: str | None, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    if slot is not None:
        prompter.for_others()
    changed = operations.change_password(vault, prompter, slot, observer=ui.Screen(""))
    prompter.tell_of_old_entry()
    if as_json:
        ui.show_json({"slots": [changed]})
    else:
        ui.message(_("the password was changed"))
        ui.message(_("copies of the vault made before still open with the old one"))
    return 0


@click.group(
    "recovery", help=_("Make and test recovery codes: a key on paper for the day of need.")
)
def recovery_command() -> None:
    """See the command's help."""


@recovery_command.command(
    "new",
    help=_(
        "Make a recovery code for a vault and print it, once.\n\n"
        "Whoever holds the code can open the vault. Write it down or print the sheet, keep it "
        "where the company keeps its contracts, and test it."
    ),
    short_help=_("Make a recovery code."),
)
@click.argument("vault", default=".")
@click.option("--label", default="", metavar="TEXT", help=_("Words for whose or where it is."))
@click.option("--sheet", metavar="FILE", help=_("Write a page to print (HTML) instead."))
@secret_options(recipients=False, identities=True)
def recovery_new_command(
    vault: str, *, label: str, sheet: str | None, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    if sheet is None:
        made = operations.add_recovery(
            vault, prompter, label=label, deliver=_print_code, observer=ui.Screen("")
        )
    else:
        with OutputFile(sheet, force=False, mode=0o600) as file:
            file.open()  # a place that cannot be written to shows before there is a code

            def write(code: RecoveryCode) -> None:
                file.write(recovery_sheet(code))
                file.publish()

            made = operations.add_recovery(
                vault, prompter, label=label, deliver=write, observer=ui.Screen("")
            )
        ui.message(_("wrote the recovery code to {path}").format(path=sheet))
        ui.hint(_("print it, then delete the file"))
    ui.message(
        _("this code is not kept anywhere else; keyslot {slot}").format(slot=made.slot["id"])
    )
    ui.hint(_("test it: encvault recovery test {path}").format(path=quoted(vault)))
    return 0


def _print_code(made: RecoveryCode) -> None:
    for line in ui.code_lines(made.code):
        ui.result(line)
    sys.stdout.flush()


@recovery_command.command(
    "test",
    help=_("Check that a recovery code opens a vault, without opening anything."),
)
@click.argument("vault", default=".")
@json_option
@secret_options(recipients=False, identities=True)
def recovery_test_command(vault: str, *, as_json: bool, prompter: CommandLinePrompter) -> int:
    """See the command's help."""
    slot = operations.check_recovery(
        vault, prompter.recovery(vault), log=prompter.access_log(), observer=ui.Screen("")
    )
    return _show_slots([slot], as_json=as_json)


def _show_slots(slots: list[SlotInfo], *, as_json: bool) -> int:
    if as_json:
        ui.show_json({"slots": slots})
    else:
        for slot in slots:
            ui.result(ui.slot_line(slot))
    return 0
