"""The group ``encvault usb``, and how its commands are told which drive is meant."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from encvault.cli.lazy import LazyGroup
from encvault.errors import InvalidRequest
from encvault.i18n import N_, _
from encvault.operations.drives import Which

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


_COMMANDS = {
    "list": ("encvault.cli.usb.look", N_("List the removable drives that are plugged in.")),
    "status": ("encvault.cli.usb.look", N_("Show whether a drive is locked.")),
    "init": ("encvault.cli.usb.lock", N_("Prepare an empty drive.")),
    "lock": ("encvault.cli.usb.lock", N_("Seal everything on a drive.")),
    "unlock": ("encvault.cli.usb.lock", N_("Make the files on a drive readable.")),
    "eject": ("encvault.cli.usb.keep", N_("Let a drive go.")),
    "passwd": (
        "encvault.cli.usb.keep",
        N_("Change the password of a drive; its files stay as they are."),
    ),
    "verify": ("encvault.cli.usb.keep", N_("Read and authenticate everything on a drive.")),
    "repair": ("encvault.cli.usb.keep", N_("Put in order what an interruption left.")),
    "allow": ("encvault.cli.usb.company", N_("Register a drive as one of the company's.")),
    "forget": ("encvault.cli.usb.company", N_("Take a drive out of the register.")),
    "watch": ("encvault.cli.usb.watch", N_("Tell of drives that come and go.")),
}

usb_command = LazyGroup(
    _COMMANDS,
    name="usb",
    help=_(
        "Lock removable drives behind a password, and unlock them.\n\n"
        "DRIVE is the folder where a drive is mounted, its device such as /dev/sdb1, the label or "
        "UUID of its file system, or the id that it got when it was locked."
    ),
)


def drive_options(function: Function) -> Function:
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
