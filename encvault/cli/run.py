"""The root command, and the one border where errors become exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from encvault import __version__
from encvault.cli import ui
from encvault.cli.formatter import Formatter
from encvault.cli.lazy import LazyGroup
from encvault.cli.process import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, Terminated
from encvault.errors import EncvaultError
from encvault.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "init": ("encvault.cli.seal", N_("Make a folder a vault.")),
    "seal": ("encvault.cli.seal", N_("Seal files and folders.")),
    "open": ("encvault.cli.open", N_("Open vaults and sealed files.")),
    "status": ("encvault.cli.look", N_("Show what is sealed and what is not.")),
    "verify": ("encvault.cli.look", N_("Read and authenticate every sealed file.")),
    "ls": ("encvault.cli.look", N_("List what a vault holds.")),
    "cat": ("encvault.cli.open", N_("Print the content of sealed files.")),
    "info": ("encvault.cli.look", N_("Show a header or a vault's record.")),
    "key": ("encvault.cli.key", N_("Make and show identities and recipients.")),
    "slot": (
        "encvault.cli.slot",
        N_("List, add and remove the keyslots of a vault: who can open it."),
    ),
    "passwd": ("encvault.cli.slot", N_("Change a password of a vault.")),
    "recovery": (
        "encvault.cli.slot",
        N_("Make and test recovery codes: a key on paper for the day of need."),
    ),
    "rekey": ("encvault.cli.revoke", N_("Give a vault new keys.")),
    "revoke": ("encvault.cli.revoke", N_("Shut somebody out of a vault.")),
    "reseal": ("encvault.cli.revoke", N_("Seal anew what former keys open.")),
    "share": ("encvault.cli.share", N_("Copy sealed files for somebody without a key.")),
    "mount": ("encvault.cli.mount", N_("Work in a vault's plain files.")),
    "unmount": ("encvault.cli.mount", N_("Save everything, and unmount.")),
    "run": ("encvault.cli.mount", N_("Run a command on the plain files.")),
    "usb": ("encvault.cli.usb", N_("Lock and unlock removable drives.")),
    "job": ("encvault.cli.job", N_("Seal unattended: nightly jobs.")),
    "log": ("encvault.cli.log", N_("Show and check who opened what.")),
    "config": ("encvault.cli.config", N_("Show what the company and you have configured.")),
    "doctor": ("encvault.cli.doctor", N_("Look what works on this machine.")),
}


def root() -> click.Group:
    """The ``encvault`` command, in the language that is active now."""
    click.Context.formatter_class = Formatter
    return LazyGroup(
        _COMMANDS,
        name="encvault",
        help=_(
            "Seal folders, files and drives with AES-256-GCM or SM4-GCM, and lose nothing.\n\n"
            "Start with: encvault seal FOLDER"
        ),
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_version,
                help=_("Show the version and exit."),
            )
        ],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
    if value:
        click.echo(f"encvault {__version__}")
        ctx.exit()


def run(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - the one place with all the exits
    """Run one command and return its exit code; nothing escapes."""
    try:
        result = _invoke(list(arguments))
        sys.stdout.flush()
    except EncvaultError as error:
        return _fail(error, as_json="--json" in arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        ui.message(error.format_message())
        return 1
    except (click.Abort, KeyboardInterrupt, EOFError):
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal's ^C, or a question, stands in this line
        ui.message(_("interrupted"))
        ui.hint(_("run the same command again: it goes on where it stopped"))
        return EXIT_INTERRUPTED
    except Terminated as stop:
        ui.message(_("stopped by a signal"))
        return stop.exit_code
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE  # the reader of stdout has enough
    except Exception:  # noqa: BLE001 - a bug must end in an exit code as well
        import traceback  # noqa: PLC0415 - every command would pay for it

        ui.message(_("internal error; nothing was removed that was not sealed"))
        traceback.print_exc()
        return 1
    return result if isinstance(result, int) else 0


def _invoke(arguments: list[str]) -> Any:
    """What `click.Command.main` does, without its own idea of exit codes.

    It ends a broken pipe with 1 even when it is told to leave errors alone.
    """
    group = root()
    if "_ENCVAULT_COMPLETE" in os.environ:  # a shell asks for completions
        return group.main(args=arguments, prog_name="encvault", standalone_mode=False)
    try:
        with group.make_context("encvault", arguments) as ctx:
            return group.invoke(ctx)
    except click.exceptions.Exit as wanted:
        return wanted.exit_code


def _fail(error: EncvaultError, *, as_json: bool) -> int:
    if as_json:
        # the error itself, if stdout fails as well: it is told on stderr, and by its code
        with contextlib.suppress(EncvaultError, BrokenPipeError):
            ui.show_json(ui.error_json(error))
            sys.stdout.flush()
    return ui.fail(error)


def _usage(error: click.UsageError) -> int:
    # click ends its sentences; in Chinese the full stop has its own room
    ui.message(error.format_message().rstrip(".。").replace("。 ", "。"))
    if error.ctx is not None:
        ui.hint(_("see: {command} --help").format(command=error.ctx.command_path))
    return error.exit_code
