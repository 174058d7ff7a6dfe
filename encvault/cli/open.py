"""``encvault open`` and ``encvault cat``."""

from __future__ import annotations

import os
import re
import sys
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
    verbose_option,
)
from encvault.cli.streams import writing_result
from encvault.errors import InvalidRequest
from encvault.i18n import _, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.cli.secrets import CommandLinePrompter


# what a terminal may take for a command: all controls but tab, line feed, form feed and return
_COMMANDING = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


@click.command(
    "open",
    help=_(
        "Open vaults, parts of them, and sealed files.\n\n"
        "In place, each file is opened and proved, and only then is the sealed one removed. With "
        "--to the sealed files stay and DEST holds what the folder held; a sealed archive is "
        "unpacked into it. PATH may be - for a stream."
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--to", metavar="DEST", help=_("Open into the folder DEST; the sealed files stay."))
@click.option("-o", "--output", metavar="FILE", help=_("Open one file to FILE; it stays sealed."))
@click.option("--keep", is_flag=True, help=_("Leave the sealed files beside the opened ones."))
@click.option("--force", is_flag=True, help=_("Replace files that differ."))
@jobs_option
@quiet_option
@verbose_option
@json_option
@secret_options(recipients=False, identities=True)
def open_command(
    paths: tuple[str, ...],
    *,
    to: str | None,
    output: str | None,
    keep: bool,
    force: bool,
    jobs: int,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    if verbose:
        ui.message(operations.backends())
    if "-" in paths:
        if paths != ("-",) or to or output:
            raise InvalidRequest(reason=_("a stream is opened alone: encvault open - > FILE"))
        if as_json:
            raise InvalidRequest(reason=_("a stream goes to stdout, where --json would go as well"))
        _copy_out(operations.open_from_stream(sys.stdin.fileno(), prompter, ui.Screen("")))
        return 0
    request = operations.OpenRequest(
        paths=paths,
        to=to,
        output=output,
        keep=keep,
        force=force,
        jobs=jobs,
        state_dir=state_dir(),
    )
    with ui.Screen(_("opening"), quiet=quiet, verbose=verbose) as screen:
        report = operations.open_paths(request, prompter, screen)
    summary = _("opened {files}, {size}").format(
        files=ui.count_text(report.files), size=size_text(report.size)
    )
    return ui.finish(report, summary, as_json=as_json, quiet=quiet)


@click.command(
    "cat",
    help=_(
        "Print the content of sealed files.\n\n"
        "PATH is a sealed file, or the plain path of a file in a vault. Only authenticated bytes "
        "are printed; if the exit code is not 0, the end is missing."
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@secret_options(recipients=False, identities=True)
def cat_command(paths: tuple[str, ...], *, prompter: CommandLinePrompter) -> int:
    """See the command's help."""
    screen = ui.Screen("")  # for a doubt about the vault; nothing moves on it
    for path in paths:
        _copy_out(operations.cat(path, prompter, screen))
    return max((error.exit_code for error in screen.problems), default=0)


def _copy_out(pieces: Iterable[memoryview | bytes]) -> None:
    to_terminal = sys.stdout.isatty()
    fd = sys.stdout.fileno()
    for piece in pieces:
        if to_terminal and _COMMANDING.search(piece):
            reason = _("control characters do not belong on a terminal; send them to a file")
            raise InvalidRequest(reason=reason)
        view = memoryview(piece)
        with writing_result():
            while view:
                view = view[os.write(fd, view) :]
