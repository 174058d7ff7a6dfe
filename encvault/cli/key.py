"""``encvault key``: identities and recipients."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.options import config_dir, default_identity, json_option, secret_options
from encvault.crypto import kdf
from encvault.errors import PasswordUnavailable
from encvault.i18n import _
from encvault.keyslots import fingerprint

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter


@click.group("key", help=_("Make and show identities and recipients."))
def key_command() -> None:
    """See the command's help."""


@key_command.command(
    "new",
    help=_(
        "Make a key pair and print its recipient.\n\n"
        "The identity file stays with you; give the recipient line to whoever seals for you."
    ),
    short_help=_("Make a key pair."),
)
@click.option("--name", default="", metavar="NAME", help=_("A name for people to read."))
@click.option("-o", "--output", metavar="FILE", help=_("Where to write the identity file."))
@click.option(
    "--no-password", is_flag=True, help=_("Do not protect the identity file by a password.")
)
@secret_options(recipients=False, identities=False)
def new_command(
    *, name: str, output: str | None, no_password: bool, prompter: CommandLinePrompter
) -> int:
    """See the command's help."""
    if output is None:
        os.makedirs(config_dir(), mode=0o700, exist_ok=True)
        output = default_identity()
    operations.check_identity_is_new(output)
    try:
        password = None if no_password else prompter.new_password(output)
    except PasswordUnavailable:
        ui.hint(_("for a key without a password, say --no-password"))
        raise
    identity = operations.new_identity(output, name, password, profile=kdf.DEFAULT)
    ui.message(
        _("wrote the identity {path}, fingerprint {fingerprint}").format(
            path=output, fingerprint=fingerprint(identity.public)
        )
    )
    ui.result(identity.recipient)
    return 0


@key_command.command(
    "export",
    help=_("Print the recipient of an identity file, one line. Needs no password."),
    short_help=_("Print the recipient line."),
)
@click.option("-i", "--identity", required=True, metavar="FILE", help=_("The identity file."))
def export_command(*, identity: str) -> int:
    """See the command's help."""
    ui.result(operations.read_identity(identity).recipient)
    return 0


@key_command.command(
    "show",
    help=_("Show an identity file's name, fingerprint and recipient. Needs no password."),
    short_help=_("Show an identity file."),
)
@click.option("-i", "--identity", required=True, metavar="FILE", help=_("The identity file."))
@json_option
def show_command(*, identity: str, as_json: bool) -> int:
    """See the command's help."""
    found = operations.read_identity(identity)
    facts = {
        "name": found.name,
        "fingerprint": fingerprint(found.public),
        "created_at": found.created_at,
        "protected": found.slot is not None,
        "recipient": found.recipient,
    }
    if as_json:
        ui.show_json(facts)
        return 0
    labels = {
        "name": _("name"),
        "fingerprint": _("fingerprint"),
        "created_at": _("made at"),
        "protected": _("protected by a password"),
        "recipient": _("recipient"),
    }
    shown = facts | {"protected": _("yes") if facts["protected"] else _("no")}
    ui.result_table([(labels[name], value) for name, value in shown.items()])
    return 0
