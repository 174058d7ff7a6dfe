"""``encvault init`` and ``encvault seal``."""

from __future__ import annotations

import os
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
    suite_option,
    verbose_option,
    yes_option,
)
from encvault.cli.streams import writing_result
from encvault.errors import InvalidRequest
from encvault.fs.durable import storage_error
from encvault.i18n import N_, _, size_text
from encvault.vault.layout import STREAM_NAME
from encvault.vault.report import Report

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter
    from encvault.crypto.suite import Suite


@click.command(
    "init",
    help=_(
        "Make FOLDER a vault without sealing anything yet.\n\n"
        "Files are sealed into it by: encvault seal FOLDER"
    ),
)
@click.argument("folder")
@suite_option
@click.option("--hide-names", is_flag=True, help=_("Hide names and the folder tree as well."))
@yes_option
@json_option
@secret_options(recipients=True, identities=False)
def init_command(
    folder: str,
    *,
    suite: Suite | None,
    hide_names: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    chosen = suite or prompter.defaults.suite
    record = operations.init_vault(
        folder, prompter, ui.Screen(""), suite=chosen, hide_names=hide_names
    )
    if as_json:
        info = operations.info(folder)
        ui.show_json({"kind": info.kind, **info.members})
    else:
        ui.message(
            _("made the vault {path}, fingerprint {fingerprint}").format(
                path=folder, fingerprint=record.fingerprint
            )
        )
    return 0


@click.command(
    "seal",
    help=_(
        "Seal files and folders.\n\n"
        "A folder becomes a vault: each file in it is sealed in place, proved, and only then is "
        "the original removed. A file F on its own becomes F.sealed. With --to or --archive the "
        "originals stay. PATH may be - for a stream."
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--to",
    metavar="DEST",
    help=_("Keep a sealed mirror in DEST; only new and changed files are sealed again."),
)
@click.option("--archive", metavar="FILE", help=_("Seal folders into one file, as a pax tar."))
@click.option("-o", "--output", metavar="FILE", help=_("Seal one file, or a stream, to FILE."))
@suite_option
@click.option("--hide-names", is_flag=True, help=_("Hide names and the folder tree as well."))
@click.option("--keep", is_flag=True, help=_("Leave the originals beside the sealed files."))
@click.option("--delete", is_flag=True, help=_("With --to, remove what is gone from the source."))
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help=_("Leave out names or paths that match. Repeatable."),
)
@click.option("--force", is_flag=True, help=_("Replace what is in the way."))
@click.option("-n", "--dry-run", is_flag=True, help=_("Print the plan and change nothing."))
@jobs_option
@yes_option
@quiet_option
@verbose_option
@json_option
@secret_options(recipients=True, identities=False)
def seal_command(
    paths: tuple[str, ...],
    *,
    to: str | None,
    archive: str | None,
    output: str | None,
    suite: Suite | None,
    hide_names: bool,
    keep: bool,
    delete: bool,
    exclude: tuple[str, ...],
    force: bool,
    dry_run: bool,
    jobs: int,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    request = operations.SealRequest(
        paths=paths,
        to=to,
        archive=archive,
        output=output,
        suite=suite,
        default_suite=prompter.defaults.suite or operations.DEFAULT_SUITE,
        hide_names=hide_names,
        keep=keep,
        force=force,
        delete=delete,
        exclude=exclude,
        jobs=jobs,
        dry_run=dry_run,
        state_dir=state_dir(),
    )
    if verbose:
        ui.message(operations.backends())
    if "-" in paths:
        return _seal_stream(request, prompter, as_json=as_json)
    with ui.Screen(_("sealing"), quiet=quiet or dry_run, verbose=verbose) as screen:
        report = operations.seal(request, prompter, screen)
    if dry_run:
        return show_plan(screen, report, as_json=as_json)
    return ui.finish(report, _summary(report), as_json=as_json, quiet=quiet)


def _seal_stream(
    request: operations.SealRequest, prompter: CommandLinePrompter, *, as_json: bool
) -> int:
    if request.paths != ("-",) or request.to or request.archive:
        raise InvalidRequest(reason=_("a stream is sealed alone: encvault seal - -o FILE"))
    if request.output is None and sys.stdout.isatty():
        raise InvalidRequest(reason=_("sealed bytes do not belong on a terminal; use -o FILE"))
    if as_json and request.output is None:
        raise InvalidRequest(reason=_("with --json a stream needs -o FILE"))
    source = sys.stdin.fileno()
    try:
        os.read(source, 0)  # or what cannot be read would be taken for what cannot be written
    except OSError as error:
        raise storage_error(error, STREAM_NAME) from None
    with writing_result():
        size = operations.seal_from_stream(
            source, request, prompter, sys.stdout.fileno, ui.Screen("")
        )
    if as_json:
        ui.show_json(ui.report_json(Report(files=1, size=size)))
    return 0


def show_plan(screen: ui.Screen, report: Report, *, as_json: bool) -> int:
    """Show what a run would do; its exit code."""
    if as_json:
        plan = [{"action": verb, "path": path} for verb, path in screen.steps]
        ui.show_json({"plan": plan, **ui.report_json(report)})
    else:
        width = max(ui.cells(_(verb)) for verb in _VERBS.values()) + 2
        for verb, path in screen.steps:
            ui.result(f"{ui.column(_(_VERBS[verb]), width)}{path}")
    outcome = report.outcome()
    return outcome.exit_code if outcome else 0


_VERBS = {"seal": N_("seal"), "reseal": N_("reseal"), "remove": N_("remove")}


def _summary(report: Report) -> str:
    text: str = _("sealed {files}, {size}").format(
        files=ui.count_text(report.files), size=size_text(report.size)
    )
    if report.unchanged:
        text += _("; {files} unchanged").format(files=ui.count_text(report.unchanged))
    if report.removed:
        text += _("; {files} removed").format(files=ui.count_text(report.removed))
    return text
