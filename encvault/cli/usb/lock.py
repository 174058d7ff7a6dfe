"""``encvault usb init``, ``lock`` and ``unlock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.mount import duration
from encvault.cli.options import (
    jobs_option,
    json_option,
    mounts_dir,
    quiet_option,
    secret_options,
    state_dir,
    suite_option,
    yes_option,
)
from encvault.cli.seal import show_plan
from encvault.cli.usb.group import drive_options
from encvault.errors import InvalidRequest
from encvault.i18n import _, size_text
from encvault.operations import drives

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter
    from encvault.crypto.suite import Suite
    from encvault.errors import EncvaultError
    from encvault.operations.drives import Which
    from encvault.vault.report import Report


@click.command(
    "init",
    help=_(
        "Prepare an empty drive, so that no file ever lies on it in the clear.\n\n"
        "Then unlock it and put your files into it. Memory sticks keep traces of what was on "
        "them, whatever is written over it."
    ),
)
@drive_options
@suite_option
@click.option(
    "--keep-existing", is_flag=True, help=_("Let files that are there stay until they are locked.")
)
@yes_option
@json_option
@secret_options(recipients=True, identities=False)
def init_command(
    *,
    which: Which,
    suite: Suite | None,
    keep_existing: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    record = drives.init(
        which,
        prompter,
        ui.Screen(""),
        suite=suite or prompter.defaults.suite,
        keep_existing=keep_existing,
    )
    if as_json:
        ui.show_json({"id": record.id, "fingerprint": record.fingerprint})
        return 0
    ui.message(_("the drive is ready; its id is {drive}").format(drive=record.id))
    ui.hint(_("unlock it with: encvault usb unlock {drive}").format(drive=which.words))
    return 0


@click.command(
    "lock",
    help=_(
        "Seal everything on a drive, names and all.\n\n"
        "Each file is sealed, written, read back and proved before the original is removed. What "
        "an interruption leaves is finished by running it again. The first time, a password is "
        "asked for twice."
    ),
)
@drive_options
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help=_("Leave out names or paths that match. Repeatable."),
)
@click.option("--keep", is_flag=True, help=_("Leave the originals beside the sealed files."))
@click.option("--purge-trash", is_flag=True, help=_("Remove for good what lies in trash folders."))
@click.option("--eject", is_flag=True, help=_("Unmount the drive when it is locked."))
@click.option("-n", "--dry-run", is_flag=True, help=_("Print the plan and change nothing."))
@jobs_option
@yes_option
@quiet_option
@json_option
@secret_options(recipients=True, identities=False)
def lock_command(
    *,
    which: Which,
    exclude: tuple[str, ...],
    keep: bool,
    purge_trash: bool,
    eject: bool,
    dry_run: bool,
    jobs: int,
    quiet: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    request = drives.LockRequest(
        which,
        state_dir(),
        exclude=exclude,
        keep=keep,
        jobs=jobs,
        dry_run=dry_run,
        default_suite=prompter.defaults.suite or operations.DEFAULT_SUITE,
        purge_trash=purge_trash,
    )
    with ui.Screen(_("locking"), quiet=quiet or dry_run) as screen:
        report = drives.lock(request, prompter, screen)
    if dry_run:
        return show_plan(screen, report, as_json=as_json)
    outcome = report.outcome()
    code = ui.finish(report, _lock_summary(report, outcome), as_json=as_json, quiet=quiet)
    if eject and outcome is None:
        path = drives.eject(which, state_dir(), screen)
        if not quiet:
            ui.message(_("{path} is unmounted; pull the drive out").format(path=path))
    return code


def _lock_summary(report: Report, outcome: EncvaultError | None) -> str:
    counted = {
        "files": ui.count_text(report.files),
        "size": size_text(report.size),
    }
    if outcome is not None:
        return _("not all of the drive is locked: {files} sealed, {size}").format(**counted)
    return _("the drive is locked and everything is written: {files} sealed, {size}").format(
        **counted
    )


@click.command(
    "unlock",
    help=_(
        "Make the files on a drive readable.\n\n"
        "It is mounted: programs see plain files, and nothing in the clear is written to the "
        "drive. With --to everything is copied elsewhere in the clear, and with --in-place it is "
        "in the clear on the drive itself, which keeps traces of it for ever."
    ),
)
@drive_options
@click.option("--at", "mountpoint", metavar="DIR", help=_("Mount it at this folder."))
@click.option("--to", metavar="DIR", help=_("Copy everything to this folder, in the clear."))
@click.option("--in-place", is_flag=True, help=_("Let everything be in the clear on the drive."))
@click.option("--read-only", is_flag=True, help=_("Refuse all changes."))
@click.option(
    "--idle",
    metavar="TIME",
    callback=duration,
    help=_("Lock it when nobody has used it for so long, such as 90s, 30m or 1h."),
)
@click.option("--force", is_flag=True, help=_("Replace what is in the way."))
@jobs_option
@yes_option
@quiet_option
@json_option
@secret_options(recipients=False, identities=True)
def unlock_command(
    *,
    which: Which,
    mountpoint: str | None,
    to: str | None,
    in_place: bool,
    read_only: bool,
    idle: int | None,
    force: bool,
    jobs: int,
    quiet: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    if sum((mountpoint is not None, to is not None, in_place)) > 1:
        raise InvalidRequest(reason=_("--at, --to and --in-place exclude each other"))
    request = drives.UnlockRequest(
        which,
        state_dir(),
        mounts_dir(),
        to=to,
        in_place=in_place,
        mountpoint=mountpoint,
        read_only=read_only,
        idle_s=idle,
        force=force,
        jobs=jobs,
    )
    with ui.Screen(_("unlocking"), quiet=quiet) as screen:
        unlocked = drives.unlock(request, prompter, screen)
    if unlocked.report is not None:
        summary = _("{files} in the clear in {path}").format(
            files=ui.count_text(unlocked.report.files), path=unlocked.path
        )
        return ui.finish(unlocked.report, summary, as_json=as_json, quiet=quiet)
    if as_json:
        ui.show_json({"path": unlocked.path})
    elif not quiet:
        ui.message(_("the drive is unlocked at {path}").format(path=unlocked.path))
        ui.hint(_("lock it with: encvault usb lock {drive}").format(drive=which.words))
    return 0
