"""``encvault mount``, ``unmount`` and ``run``."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.mounted import mount_line, mounts_json
from encvault.cli.options import json_option, quiet_option, secret_options, state_dir
from encvault.errors import FuseUnavailable, InvalidRequest
from encvault.errors.base import quoted
from encvault.i18n import _

if TYPE_CHECKING:
    from types import ModuleType

    from encvault.cli.secrets import CommandLinePrompter

_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
_MAX_IDLE_S = 30 * 24 * 3600


def duration(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Seconds of an option; a bare number is refused, since some would mean minutes."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value.strip().lower())
    seconds = 0
    if match is not None:
        hours, minutes, rest = (int(group or 0) for group in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not 0 < seconds <= _MAX_IDLE_S:
        raise click.BadParameter(
            _("not a time such as 90s, 30m or 1h30m, of at most 30 days: {text}").format(text=value)
        )
    return seconds


def _mounting() -> ModuleType:
    """The operations; what they stand on is not there on every system."""
    if sys.platform != "linux":
        raise FuseUnavailable(reason=_("this works on Linux only"), fix="encvault open")
    from encvault.operations import mounting  # noqa: PLC0415 - see above

    return mounting


@click.command(
    "mount",
    help=_(
        "Show a vault's plain files in the folder DIR; what is saved there is sealed in the "
        "vault.\n\n"
        "DIR may be missing; then it is made, and removed when it is unmounted. An empty folder "
        "that exists loses the right to write into it, and keeps it off, so that nothing is saved "
        "there in the clear while it is not mounted. Without arguments, what is mounted is listed."
    ),
)
@click.argument("vault", required=False)
@click.argument("folder", required=False, metavar="[DIR]")
@click.option("--read-only", is_flag=True, help=_("Refuse all changes; others may read as well."))
@click.option(
    "--idle",
    metavar="TIME",
    callback=duration,
    help=_("Unmount when nobody has used it for so long, such as 90s, 30m or 1h."),
)
@click.option("--allow-other", is_flag=True, help=_("Let other users in, as far as modes allow."))
@click.option("-f", "--foreground", is_flag=True, help=_("Stay until it is unmounted."))
@quiet_option
@json_option
@secret_options(recipients=False, identities=True)
def mount_command(
    vault: str | None,
    folder: str | None,
    *,
    read_only: bool,
    idle: int | None,
    allow_other: bool,
    foreground: bool,
    quiet: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    if vault is None:
        return _list(as_json=as_json)
    if folder is None:
        raise InvalidRequest(reason=_("say where: encvault mount VAULT DIR"))
    mounting = _mounting()
    request = mounting.MountRequest(
        vault=vault,
        mountpoint=folder,
        state_dir=state_dir(),
        read_only=read_only,
        idle_s=idle,
        allow_other=allow_other,
        foreground=foreground,
    )
    mounting.mount(request, prompter, ui.Screen("", quiet=quiet))
    if foreground:
        return 0
    if as_json:
        ui.show_json({"vault": vault, "mountpoint": folder})
    elif not quiet:
        ui.message(_("{vault} is mounted at {path}").format(vault=vault, path=folder))
        ui.hint(_("unmount it with: encvault unmount {path}").format(path=quoted(folder)))
    return 0


def _list(*, as_json: bool) -> int:
    found = operations.list_mounts(state_dir())
    if as_json:
        ui.show_json({"mounts": mounts_json(found)})
    else:
        for one in found:
            ui.result(mount_line(one))
    return 0


@click.command(
    "unmount",
    help=_(
        "Save everything, and unmount.\n\n"
        "DIR is where a vault is mounted, or the vault. While programs use it, or if something "
        "cannot be saved, it stays. The exit code is 3 if the mount had died and files were not "
        "saved."
    ),
)
@click.argument("folder", required=False, metavar="[DIR]")
@click.option("--all", "everything", is_flag=True, help=_("Unmount every mount of yours."))
@quiet_option
@json_option
def unmount_command(folder: str | None, *, everything: bool, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    if (folder is None) != everything:
        raise InvalidRequest(reason=_("name one folder, or say --all"))
    mounting = _mounting()
    screen = ui.Screen("", quiet=quiet)
    if folder is None:
        done = mounting.unmount_all(state_dir(), screen.problem)
    else:
        done = mounting.unmount(folder, state_dir())
    if as_json:
        problems = [ui.error_json(problem) for problem in screen.problems]
        ui.show_json({"unmounted": done, "problems": problems})
    elif not quiet:
        for path in done:
            ui.message(_("{path} is unmounted").format(path=path))
    for text in sorted({problem.hint for problem in screen.problems if problem.hint}):
        ui.hint(text)
    return max((problem.exit_code for problem in screen.problems), default=0)


@click.command(
    "run",
    help=_(
        "Run a command that sees the plain files in place of the vault.\n\n"
        "Only the command and what it starts see them, at the vault's own path. When it ends, "
        "everything is saved and its exit code is passed on. Put -- before the command. It starts "
        "in your working directory, not in the vault."
    ),
)
@click.argument("vault")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
@click.option("--read-only", is_flag=True, help=_("Refuse all changes; others may read as well."))
@quiet_option
@secret_options(recipients=False, identities=True)
def run_command(
    vault: str,
    command: tuple[str, ...],
    *,
    read_only: bool,
    quiet: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    _mounting()  # or why not
    from encvault.operations import running  # noqa: PLC0415 - see there

    request = running.RunRequest(
        vault=vault, command=command, state_dir=state_dir(), read_only=read_only
    )
    code: int = running.run(request, prompter, ui.Screen("", quiet=quiet))
    return code
