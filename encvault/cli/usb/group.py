"""The group ``encvault usb``, and how its commands are told which drive is meant."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from encvault.errors import InvalidRequest
from encvault.i18n import _
from encvault.operations.drives import Which

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


@click.group(
    "usb",
    help=_(
        "Lock removable drives behind a password, and unlock them.\n\n"
        "DRIVE is the folder where a drive is mounted, its device such as /dev/sdb1, the label or "
        "UUID of its file system, or the id that it got when it was locked."
    ),
)
def usb_command() -> None:
    """See the command's help."""


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
