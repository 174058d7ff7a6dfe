"""``encvault rekey``, ``revoke`` and ``reseal``: change a vault's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.options import (
    jobs_option,
    json_option,
    quiet_option,
    secret_options,
    yes_option,
)
from encvault.errors.base import quoted
from encvault.i18n import _, size_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from encvault.cli.secrets import CommandLinePrompter
    from encvault.operations import Rekeyed


def _reseal_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--reseal",
        is_flag=True,
        help=_("Also seal every file anew, so that the former keys open none of them."),
    )(function)


@click.command(
    "rekey",
    help=_(
        "Give a vault new keys. Everyone who has a keyslot keeps it.\n\n"
        "Recipients and recovery codes stay good without being asked. Passwords that are not at "
        "hand must be set again: they are listed."
    ),
)
@click.argument("vault", default=".")
@_reseal_option
@yes_option
@jobs_option
@json_option
@quiet_option
@secret_options(recipients=False, identities=True)
def rekey_command(
    vault: str,
    *,
    reseal: bool,
    jobs: int,
    as_json: bool,
    quiet: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    with ui.Screen(_("sealing"), quiet=quiet) as screen:
        done = operations.rekey(vault, prompter, reseal=reseal, jobs=jobs, observer=screen)
    return _show(done, as_json=as_json, quiet=quiet)


@click.command(
    "revoke",
    help=_(
        "Give a vault new keys that one keyslot does not open, as when somebody leaves.\n\n"
        "Everyone else keeps the keyslot; see rekey. Needs a key that stays. Run the same command "
        "again if it was interrupted."
    ),
)
@click.argument("vault")
@click.argument("slot")
@_reseal_option
@click.option(
    "--force", is_flag=True, help=_("Even the last one that is a password or a recovery code.")
)
@yes_option
@jobs_option
@json_option
@quiet_option
@secret_options(recipients=False, identities=True)
def revoke_command(
    vault: str,
    slot: str,
    *,
    reseal: bool,
    force: bool,
    jobs: int,
    as_json: bool,
    quiet: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    with ui.Screen(_("sealing"), quiet=quiet) as screen:
        done = operations.revoke(
            vault, prompter, slot, force=force, reseal=reseal, jobs=jobs, observer=screen
        )
    prompter.tell_of_old_entry()
    return _show(done, as_json=as_json, quiet=quiet)


@click.command(
    "reseal",
    help=_(
        "Seal anew every file of a vault that its former keys open.\n\n"
        "It is what --reseal of rekey and revoke does; run it again if it was interrupted."
    ),
)
@click.argument("vault", default=".")
@jobs_option
@json_option
@quiet_option
@secret_options(recipients=False, identities=True)
def reseal_command(
    vault: str, *, jobs: int, as_json: bool, quiet: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    with ui.Screen(_("sealing"), quiet=quiet) as screen:
        done = operations.reseal_exposed(vault, prompter, jobs=jobs, observer=screen)
    return _show(done, as_json=as_json, quiet=quiet)


def _show(done: Rekeyed, *, as_json: bool, quiet: bool) -> int:
    outcome = done.report.outcome()
    if as_json:
        ui.show_json(
            {
                "vault": done.vault,
                "fingerprint": done.fingerprint,
                "former_fingerprint": done.former_fingerprint,
                "revoked": done.revoked,
                "pending": done.pending,
                "exposed": {
                    "files": done.exposed_files,
                    "size": done.exposed_size,
                    "unknown": done.unknown_files,
                },
                "resealed": ui.report_json(done.report),
            }
        )
        return outcome.exit_code if outcome else 0
    if not quiet:
        _tell(done)
    for slot in done.pending:  # nobody may find that out at the door
        label = slot["label"] or slot["id"]
        ui.message(_("the password of {label} must be set again").format(label=label))
        ui.hint(
            _("encvault passwd {path} --slot {slot}").format(
                path=quoted(done.vault), slot=slot["id"]
            )
        )
    if not quiet and done.former_fingerprint:
        _tell_exposed(done)
    return ui.fail(outcome) if outcome else 0


def _tell(done: Rekeyed) -> None:
    ui.message(
        _("{path} has the fingerprint {fingerprint}").format(
            path=done.vault, fingerprint=done.fingerprint
        )
    )
    if done.former_fingerprint:
        ui.hint(_("put it in the place of the former one in scripts and configurations"))
    for slot in done.revoked:
        ui.message(
            _("shut out: {label}, keyslot {slot}").format(label=slot["label"], slot=slot["id"])
        )
    if done.report.files:
        ui.message(
            _("sealed {files} anew, {size}").format(
                files=ui.count_text(done.report.files), size=size_text(done.report.size)
            )
        )


def _tell_exposed(done: Rekeyed) -> None:
    ui.message(_("copies of the vault made before still open with the former keys"))
    if done.exposed_files:
        ui.message(
            _("here they still open {files}, {size}, for who kept them").format(
                files=ui.count_text(done.exposed_files), size=size_text(done.exposed_size)
            )
        )
        ui.hint(_("seal them anew: encvault reseal {path}").format(path=quoted(done.vault)))
    if done.unknown_files:
        ui.message(
            _("of {files} here it is not known, since they could not be read").format(
                files=ui.count_text(done.unknown_files)
            )
        )
    elif not done.exposed_files:
        ui.message(_("here they open nothing any more"))
