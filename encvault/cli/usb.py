"""``encvault usb``: removable drives."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.look import show_groups
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
from encvault.errors import DriveNotMounted, DriveUnlocked, InvalidRequest
from encvault.errors.base import quoted
from encvault.i18n import N_, _
from encvault.operations import drives
from encvault.operations.drives import Which

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.cli.secrets import CommandLinePrompter
    from encvault.crypto.suite import Suite
    from encvault.errors import EncvaultError
    from encvault.operations.drives import DriveStatus
    from encvault.vault.report import Report

Function = TypeVar("Function", bound="Callable[..., Any]")

_STATES = {
    "plain": N_("never locked"),
    "locked": N_("locked"),
    "unlocked": N_("unlocked"),
    "interrupted": N_("partly locked"),
    "unmounted": N_("not mounted"),
    "luks": N_("encrypted with LUKS"),
    "bitlocker": N_("encrypted with BitLocker"),
    "unreadable": N_("cannot be read"),
}


@click.group(
    "usb",
    help=_(
        "Lock removable drives behind a password, and unlock them.\n\n"
        "DRIVE is the folder where a drive is mounted, its device such as /dev/sdb1, the label or "
        "UUID of its file system, or the id that it got when it was locked."
    ),
    short_help=_("Lock and unlock removable drives."),
)
def usb_command() -> None:
    """See the command's help."""


def _drive_options(function: Function) -> Function:
    """``DRIVE`` or ``--path DIR``; the command gets a ``which``."""

    @functools.wraps(function)
    def command(**kwargs: Any) -> Any:
        drive, folder = kwargs.pop("drive"), kwargs.pop("folder")
        if (drive is None) == (folder is None):
            raise InvalidRequest(reason=_("say which drive, or --path DIR"))
        which = Which(folder, is_folder=True) if drive is None else Which(drive)
        return function(**kwargs, which=which)

    wrapped: Any = command
    wrapped = click.option(
        "--path",
        "folder",
        metavar="DIR",
        help=_("A folder in the place of a drive, whatever it is on."),
    )(wrapped)
    return click.argument("drive", required=False)(wrapped)  # type: ignore[no-any-return]  # as above


# -- look -----------------------------------------------------------------------------------


@usb_command.command("list", help=_("List the removable drives that are plugged in."))
@json_option
def list_command(*, as_json: bool) -> int:
    """See the command's help."""
    found = drives.list_drives(state_dir())
    if as_json:
        ui.show_json({"drives": [_status_json(one) for one in found]})
        return 0
    if not found:
        ui.message(_("no removable drive is plugged in"))
    for one in found:
        ui.result(_line(one))
    return 0


def _line(found: DriveStatus) -> str:
    device = found.drive.device if found.drive is not None else None
    words = [_(_STATES[found.state]), found.path]
    if device is not None:
        content = device.content
        words = [device.node, content.label, content.kind, ui.size_text(found.size), *words]
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


@usb_command.command(
    "status",
    help=_(
        "Show what is locked on a drive and what is not. Needs no key.\n\n"
        "The exit code is 0 if it is locked, 3 if files are in the clear, 75 if it is not there."
    ),
    short_help=_("Show whether a drive is locked."),
)
@_drive_options
@quiet_option
@json_option
def status_command(*, which: Which, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    found = drives.drive_status(which, state_dir())
    if as_json:
        ui.show_json(_status_json(found))
    elif not quiet:
        _show(found)
    if found.state in ("locked", "luks", "bitlocker"):
        return 0
    error: EncvaultError = DriveUnlocked(path=found.path)
    if found.state == "unmounted" and found.drive is not None:
        error = DriveNotMounted(drive=found.drive.name, node=found.drive.device.node)
    return error.exit_code if as_json or quiet else ui.fail(error)


def _show(found: DriveStatus) -> None:
    ui.result(_line(found))
    if found.id:
        ui.result(
            _("{files} sealed, {size}").format(
                files=ui.count_text(found.sealed), size=ui.size_text(found.sealed_size)
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


# -- lock and unlock ------------------------------------------------------------------------


@usb_command.command(
    "init",
    help=_(
        "Prepare an empty drive, so that no file ever lies on it in the clear.\n\n"
        "Then unlock it and put your files into it. Memory sticks keep traces of what was on "
        "them, whatever is written over it."
    ),
    short_help=_("Prepare an empty drive."),
)
@_drive_options
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
    ui.hint(_("unlock it with: encvault usb unlock {drive}").format(drive=quoted(which.name)))
    return 0


@usb_command.command(
    "lock",
    help=_(
        "Seal everything on a drive, names and all.\n\n"
        "Each file is sealed, written, read back and proved before the original is removed. What "
        "an interruption leaves is finished by running it again. The first time, a password is "
        "asked for twice."
    ),
    short_help=_("Seal everything on a drive."),
)
@_drive_options
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
        "size": ui.size_text(report.size),
    }
    if outcome is not None:
        return _("not all of the drive is locked: {files} sealed, {size}").format(**counted)
    return _("the drive is locked and everything is written: {files} sealed, {size}").format(
        **counted
    )


@usb_command.command(
    "unlock",
    help=_(
        "Make the files on a drive readable.\n\n"
        "It is mounted: programs see plain files, and nothing in the clear is written to the "
        "drive. With --to everything is copied elsewhere in the clear, and with --in-place it is "
        "in the clear on the drive itself, which keeps traces of it for ever."
    ),
    short_help=_("Make the files on a drive readable."),
)
@_drive_options
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
        ui.hint(_("lock it with: encvault usb lock {drive}").format(drive=quoted(which.name)))
    return 0


# -- keys, proof, and letting go ------------------------------------------------------------


@usb_command.command(
    "passwd",
    help=_("Change the password of a drive; its files stay as they are."),
)
@_drive_options
@yes_option
@json_option
@secret_options(recipients=False, identities=True, new_password=True)
def passwd_command(*, which: Which, as_json: bool, prompter: CommandLinePrompter) -> int:
    """See the command's help."""
    path = drives.place_of(which, prompter)
    slot = operations.change_password(path, prompter, observer=ui.Screen(""))
    if as_json:
        ui.show_json({"slot": slot})
    else:
        ui.message(_("the drive has a new password; the old one opens nothing any more"))
    return 0


@usb_command.command(
    "verify",
    help=_(
        "Read and authenticate everything on a drive.\n\n"
        "The exit code is 65 if anything is damaged."
    ),
    short_help=_("Read and authenticate everything on a drive."),
)
@_drive_options
@jobs_option
@yes_option
@quiet_option
@json_option
@secret_options(recipients=False, identities=True)
def verify_command(
    *, which: Which, jobs: int, quiet: bool, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    path = drives.place_of(which, prompter)
    with ui.Screen(_("verifying"), quiet=quiet) as screen:
        report = operations.verify(path, prompter, jobs=jobs, observer=screen)
    summary = _("{files} authentic, {size}").format(
        files=ui.count_text(report.files), size=ui.size_text(report.size)
    )
    return ui.finish(report, summary, as_json=as_json, quiet=quiet)


@usb_command.command(
    "eject",
    help=_(
        "Write everything, unmount a drive, and switch it off where that can be done.\n\n"
        "A drive with files in the clear stays, with exit code 3, unless --force is given."
    ),
    short_help=_("Let a drive go."),
)
@click.argument("drive")
@click.option("--force", is_flag=True, help=_("Let it go with files in the clear."))
@quiet_option
def eject_command(drive: str, *, force: bool, quiet: bool) -> int:
    """See the command's help."""
    path = drives.eject(Which(drive), state_dir(), ui.Screen("", quiet=quiet), force=force)
    if not quiet:
        ui.message(_("{path} is unmounted; pull the drive out").format(path=path))
    return 0
