"""``encvault usb watch``: tell of drives that come and go."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from encvault.cli import ui
from encvault.cli.options import (
    json_option,
    kept_variables,
    keyless_prompter,
    quiet_option,
    state_dir,
    units_dir,
)
from encvault.cli.usb.look import STATES
from encvault.errors import HookFailed
from encvault.i18n import N_, _, system_reason
from encvault.operations import drives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.operations.drives import DriveEvent

_HOOK_PATIENCE_S = 30.0
_KINDS = {"present": N_("is there"), "in": N_("came"), "out": N_("went")}


def _words(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> list[str]:
    """The arguments of a command that no shell reads."""
    try:
        words = shlex.split(value or "")
    except ValueError:
        raise click.BadParameter(_("a quotation mark in it is not closed")) from None
    if value is not None and not words:
        raise click.BadParameter(_("it is empty"))
    return words


@click.command(
    "watch",
    help=_(
        "Tell of each removable drive that comes or goes, whether it is registered, and whether it "
        "was pulled out while it was unlocked.\n\n"
        "It blocks nothing. The commands of --on-insert and --on-alert find what happened in "
        "variables of their environment, such as ENCVAULT_EVENT and ENCVAULT_DRIVE."
    ),
)
@click.option(
    "--on-insert",
    metavar="COMMAND",
    callback=_words,
    help=_("Run it when a registered drive comes. No shell reads it."),
)
@click.option(
    "--on-alert",
    metavar="COMMAND",
    callback=_words,
    help=_("Run it when there is something to warn of. No shell reads it."),
)
@click.option(
    "--install",
    "task",
    flag_value="install",
    help=_("Have systemd watch whenever you are logged in."),
)
@click.option("--print", "task", flag_value="print", help=_("Print the service of --install."))
@click.option("--uninstall", "task", flag_value="uninstall", help=_("Take the service away."))
@quiet_option
@json_option
def watch_command(
    *, on_insert: list[str], on_alert: list[str], task: str | None, quiet: bool, as_json: bool
) -> int:
    """See the command's help."""
    if task == "uninstall":
        return _uninstall(quiet=quiet)
    if task is not None:
        return _install(_service(on_insert, on_alert), is_shown=task == "print", quiet=quiet)
    prompter = keyless_prompter(quiet=quiet)
    screen = ui.Screen("", quiet=quiet)
    register_path = prompter.defaults.register(state_dir())
    for event in drives.watch(register_path, state_dir(), prompter, screen):
        if as_json:
            ui.show_json(_event_json(event))
        elif not quiet:
            ui.result(_line(event))
        sys.stdout.flush()  # who reads from a pipe waits for it
        if event.warning is not None and not as_json:
            ui.fail(event.warning)
        if event.warning is not None:
            _begin_hook(on_alert, event, screen)
        elif event.kind != "out" and event.standing.state == "registered":
            _begin_hook(on_insert, event, screen)
    return 0


def _line(event: DriveEvent) -> str:
    drive = event.drive
    words = [
        event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        drive.device.node,
        _(_KINDS[event.kind]),
        drive.device.content.label,
        drive.id,
        _(STATES[event.state]),
    ]
    if drive.id:
        words.append(event.standing.text)
    if event.standing.registration is not None:
        words.append(event.standing.registration.owner)
    return "  ".join(filter(None, words))


def _facts(event: DriveEvent) -> dict[str, str]:
    drive, registration = event.drive, event.standing.registration
    return {
        "event": event.kind,
        "drive": drive.id,
        "node": drive.device.node,
        "path": drive.mount.path if drive.mount is not None else "",
        "label": drive.device.content.label,
        "state": event.state,
        "standing": event.standing.state,
        "owner": registration.owner if registration is not None else "",
    }


def _event_json(event: DriveEvent) -> dict[str, Any]:
    device = event.drive.device
    return {
        "ts": event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        **{name: text or None for name, text in _facts(event).items()},
        "vendor_id": device.vendor_id or None,
        "product_id": device.product_id or None,
        "serial": device.serial or None,
        "warning": None if event.warning is None else ui.error_json(event.warning),
    }


def _begin_hook(command: Sequence[str], event: DriveEvent, screen: ui.Screen) -> None:
    """Run it beside, for drives come and go meanwhile."""
    if command:
        threading.Thread(target=_run_hook, args=(command, event, screen), daemon=True).start()


def _run_hook(command: Sequence[str], event: DriveEvent, screen: ui.Screen) -> None:
    facts = {f"ENCVAULT_{name.upper()}": text for name, text in _facts(event).items()}
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command, and no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),  # stdout has the events
            env={**os.environ, **facts},
            check=False,
            timeout=_HOOK_PATIENCE_S,
        )
    except OSError as error:
        reason = system_reason(error)
    except subprocess.TimeoutExpired:
        reason = _("not done in {seconds} seconds").format(seconds=int(_HOOK_PATIENCE_S))
    else:
        if done.returncode == 0:
            return
        reason = _("it ended with code {code}").format(code=done.returncode)
    screen.problem(HookFailed(command=command[0], reason=reason))


# -- the service ----------------------------------------------------------------------------


def _service(on_insert: Sequence[str], on_alert: Sequence[str]) -> str:
    command = [sys.executable, "-m", "encvault", "usb", "watch"]
    for option, words in (("--on-insert", on_insert), ("--on-alert", on_alert)):
        if words:
            command += [option, shlex.join(words)]
    return drives.service_text(command, kept_variables())


def _install(text: str, *, is_shown: bool, quiet: bool) -> int:
    if is_shown:
        for line in text.splitlines():
            ui.result(line)
        return 0
    path = drives.install_service(text, units_dir())
    if not quiet:
        ui.message(_("drives are watched by {path} from now on").format(path=path))
    return 0


def _uninstall(*, quiet: bool) -> int:
    path = drives.uninstall_service(units_dir())
    if not quiet:
        told = _("there is no service that watches") if path is None else _("{path} is removed")
        ui.message(told.format(path=path))
    return 0
