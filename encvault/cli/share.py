"""``encvault share``: a copy of a sealed file for somebody outside the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.options import json_option, quiet_option, secret_options
from encvault.i18n import _, size_text

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter


@click.command(
    "share",
    help=_(
        "Copy sealed files for a partner or colleague who has no key of the vault.\n\n"
        "Each copy, NAME.sealed, opens with the recipients or the new password given here, and "
        "with nothing else; the original stays. FILE is a sealed file, or the plain path of a "
        "file in a vault. Without -r a new password is asked for. A copy that was given away "
        "cannot be called back."
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@click.option("--to", metavar="DIR", help=_("Put the copies into DIR, made if it is missing."))
@click.option("--force", is_flag=True, help=_("Replace what is in the way."))
@quiet_option
@json_option
@secret_options(recipients=True, identities=True, new_password=True)
def share_command(
    paths: tuple[str, ...],
    *,
    to: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    prompter: CommandLinePrompter,
) -> int:
    """See the command's help."""
    prompter.for_others()
    request = operations.ShareRequest(paths=paths, to=to, force=force)
    with ui.Screen(_("sharing"), quiet=quiet) as screen:
        report = operations.share(request, prompter, screen)
    copies = [path for _verb, path in screen.steps]
    if as_json:
        ui.show_json({"copies": copies, **ui.report_json(report)})
    elif not quiet:
        for path in copies:
            ui.result(path)
    summary = _("shared {files}, {size}").format(
        files=ui.count_text(report.files), size=size_text(report.size)
    )
    return ui.finish(report, summary, as_json=False, quiet=quiet or as_json)
