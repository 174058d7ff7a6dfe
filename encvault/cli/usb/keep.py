"""``encvault usb passwd``, ``verify``, ``repair`` and ``eject``."""

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
    state_dir,
    yes_option,
)
from encvault.cli.usb.group import drive_options
from encvault.i18n import _, size_text
from encvault.operations import drives
from encvault.operations.drives import Which

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter
    from encvault.vault.report import Report


@click.command(
    "passwd",
    help=_("Change the password of a drive; its files stay as they are."),
)
@drive_options
@yes_option
@json_option
@secret_options(recipients=False, identities=True, new_password=True)
def passwd_command(*, which: Which, as_json: bool, prompter: CommandLinePrompter) -> int:
    """See the command's help."""
    path = drives.locked_place_of(which, prompter)
    slot = operations.change_password(path, prompter, observer=ui.Screen(""))
    if as_json:
        ui.show_json({"slot": slot})
    else:
        ui.message(_("the drive has a new password; the old one opens nothing any more"))
    return 0


@click.command(
    "verify",
    help=_(
        "Read and authenticate everything on a drive.\n\n"
        "The exit code is 65 if anything is damaged."
    ),
)
@drive_options
@jobs_option
@yes_option
@quiet_option
@json_option
@secret_options(recipients=False, identities=True)
def verify_command(
    *, which: Which, jobs: int, quiet: bool, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    path = drives.locked_place_of(which, prompter)
    with ui.Screen(_("verifying"), quiet=quiet) as screen:
        report = operations.verify(path, prompter, jobs=jobs, observer=screen)
    return ui.finish(report, _authentic(report), as_json=as_json, quiet=quiet)


@click.command(
    "repair",
    help=_(
        "Put in order what an interruption left on a drive.\n\n"
        "Its records are mended, a lock that was not finished is finished, and everything is read "
        "and authenticated. An unlock with --in-place that was interrupted is taken back. Nothing "
        "is removed that is not there a second time. The exit code is 65 if anything is damaged."
    ),
)
@drive_options
@jobs_option
@yes_option
@quiet_option
@json_option
@secret_options(recipients=False, identities=True)
def repair_command(
    *, which: Which, jobs: int, quiet: bool, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    request = drives.LockRequest(which, state_dir(), jobs=jobs)
    with ui.Screen(_("repairing"), quiet=quiet) as screen:
        report = drives.repair(request, prompter, screen)
    return ui.finish(report, _authentic(report), as_json=as_json, quiet=quiet)


def _authentic(report: Report) -> str:
    return _("{files} authentic, {size}").format(
        files=ui.count_text(report.files), size=size_text(report.size)
    )


@click.command(
    "eject",
    help=_(
        "Write everything, unmount a drive, and switch it off where that can be done.\n\n"
        "A drive with files in the clear stays, with exit code 3, unless --force is given."
    ),
)
@click.argument("drive")
@click.option("--force", is_flag=True, help=_("Let it go with files in the clear."))
@quiet_option
@json_option
def eject_command(drive: str, *, force: bool, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    path = drives.eject(Which(drive), state_dir(), ui.Screen("", quiet=quiet), force=force)
    if as_json:
        ui.show_json({"path": path})
    elif not quiet:
        ui.message(_("{path} is unmounted; pull the drive out").format(path=path))
    return 0
