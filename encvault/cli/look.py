"""``encvault status``, ``verify``, ``ls`` and ``info``."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.mounted import mount_line, mounts_json
from encvault.cli.options import (
    jobs_option,
    json_option,
    quiet_option,
    secret_options,
    state_dir,
)
from encvault.i18n import N_, _, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.cli.secrets import CommandLinePrompter
    from encvault.vault.inspect import VaultStatus
    from encvault.vault.listing import Listed

_LISTED_PATHS = 10


@click.command(
    "status",
    help=_(
        "Show what is sealed in a vault and what is not. Needs no key.\n\n"
        "The exit code is 3 while plain files are present, or folders that cannot be read."
    ),
)
@click.argument("path", default=".")
@quiet_option
@json_option
def status_command(path: str, *, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    status = operations.status(path)
    mounts = operations.list_mounts(state_dir(), path)
    if as_json:
        ui.show_json(dataclasses.asdict(status) | {"mounts": mounts_json(mounts)})
    elif not quiet:
        _show_status(status)
        for one in mounts:
            ui.result(_("mounted: {mount}").format(mount=mount_line(one)))
    error = operations.status_outcome(path, status)
    if error is None:
        return 0
    return error.exit_code if as_json or quiet else ui.fail(error)


def _show_status(status: VaultStatus) -> None:
    ui.result(
        _("{files} sealed, {size}").format(
            files=ui.count_text(status.sealed), size=size_text(status.sealed_size)
        )
    )
    groups = [
        (_("not sealed"), status.plain),
        (_("not of this vault, or damaged"), status.unknown),
        (_("their data key is missing"), status.keyless),
        (_("left by an interrupted run"), status.leftovers),
        (_("cannot be sealed"), status.special),
        (_("vaults of their own"), status.nested),
        (_("cannot be read"), status.unreadable),
    ]
    show_groups(groups)


def show_groups(groups: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Show paths under titles, the first few of each."""
    for title, paths in groups:
        if not paths:
            continue
        ui.result(_("{title}: {count}").format(title=title, count=len(paths)))
        for path in paths[:_LISTED_PATHS]:
            ui.result(f"  {path}")
        if len(paths) > _LISTED_PATHS:
            ui.result("  " + _("and {count} more").format(count=len(paths) - _LISTED_PATHS))


@click.command(
    "verify",
    help=_(
        "Read and authenticate every sealed file, and name each damaged one.\n\n"
        "The exit code is 65 if any is."
    ),
)
@click.argument("path", default=".")
@click.option(
    "--sample",
    metavar="N%",
    default="100%",
    help=_("Read a random share of the files, such as 5%."),
)
@jobs_option
@quiet_option
@json_option
@secret_options(recipients=False, identities=True)
def verify_command(
    path: str,
    *,
    sample: str,
    jobs: int,
    quiet: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    try:
        share = float(sample.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(_("not a percentage: {text}").format(text=sample)) from None
    with ui.Screen(_("verifying"), quiet=quiet) as screen:
        report = operations.verify(path, prompter, sample=share, jobs=jobs, observer=screen)
    summary = _("{files} authentic, {size}").format(
        files=ui.count_text(report.files), size=size_text(report.size)
    )
    if not (as_json or quiet):
        ui.result(summary)
    return ui.finish(report, summary, as_json=as_json, quiet=True)


@click.command(
    "ls",
    help=_(
        "List what a vault holds.\n\n"
        "A vault with visible names is listed without a key; give one to see times as well."
    ),
)
@click.argument("path", default=".")
@click.option("-l", "--long", "in_detail", is_flag=True, help=_("Show sizes and times."))
@jobs_option
@json_option
@secret_options(recipients=False, identities=True)
def ls_command(
    path: str, *, in_detail: bool, jobs: int, as_json: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    listed, problems = operations.list_files(path, prompter, jobs=jobs, observer=ui.Screen(""))
    if as_json:
        ui.show_json(
            {
                "files": [item._asdict() for item in listed],
                "problems": [ui.error_json(problem) for problem in problems],
            }
        )
    else:
        for item in listed:
            ui.result(_line(item) if in_detail else item.path)
        for problem in problems:
            ui.message(str(problem))
    return max((problem.exit_code for problem in problems), default=0)


def _line(item: Listed) -> str:
    size = "-" if item.size is None else str(item.size)
    when = "-"
    if item.mtime_ns is not None:
        moment = datetime.fromtimestamp(item.mtime_ns / 1e9, UTC).astimezone()
        when = moment.strftime("%Y-%m-%d %H:%M")
    kind = ui.column(_(_TYPES[item.type]), 8)
    return f"{kind} {size:>14} {when:16} {item.path}"


_TYPES = {
    "file": N_("file"),
    "dir": N_("dir"),
    "symlink": N_("symlink"),
    "archive": N_("archive"),
    "sealed": N_("sealed"),
}


@click.command(
    "info",
    help=_("Show a sealed file's header or a vault's record. Needs no key."),
)
@click.argument("path", default=".")
@json_option
def info_command(path: str, *, as_json: bool) -> int:
    """See the command's help."""
    info = operations.info(path)
    if as_json:
        ui.show_json({"kind": info.kind, **info.members})
        return 0
    facts: list[tuple[str, Any]] = [(_("kind"), _(info.kind))]
    for name, value in info.members.items():
        if name == "slots":
            facts += [(_("keyslot"), ui.slot_line(slot)) for slot in value]
        elif name == "former_fingerprints":
            facts += [(_("former fingerprint"), text) for text in value]
        else:
            shown = _(_LAYOUTS[value]) if name == "layout" else value
            facts.append((_(_LABELS[name]), shown))
    ui.result_table(facts)
    return 0


_LABELS = {
    "path": N_("path"),
    "id": N_("id"),
    "fingerprint": N_("fingerprint"),
    "suite": N_("suite"),
    "backend": N_("computed by"),
    "layout": N_("layout"),
    "created_at": N_("made at"),
    "generation": N_("generation"),
    "version": N_("format version"),
    "file": N_("file id"),
    "vault": N_("vault id"),
    "key": N_("data key id"),
    "sealed_size": N_("sealed size"),
    "metadata_size": N_("metadata size"),
}


_LAYOUTS = {"visible": N_("visible"), "hidden": N_("hidden")}
