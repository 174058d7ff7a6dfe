"""``encvault key``: identities and recipients."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.options import config_dir, default_identity, json_option, secret_options
from encvault.crypto import kdf
from encvault.errors import Incomplete, InvalidRequest, PasswordUnavailable
from encvault.errors.base import quoted
from encvault.fs.tree import Tree
from encvault.i18n import N_, _
from encvault.keychain import Keychain
from encvault.keyslots import fingerprint
from encvault.operations.recording import recording

if TYPE_CHECKING:
    from encvault.cli.secrets import CommandLinePrompter

_LIST_SECONDS = 3  # a list must not wait for what it can do without
_PROTECTED = {"none": N_("no password"), "password": N_("password"), "keychain": N_("keychain")}


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
    keyring = prompter.keyring
    if keyring is not None and no_password:
        raise InvalidRequest(reason=_("--keyring and --no-password exclude each other"))
    if no_password:
        prompter.defaults.check_no_password()
    if output is None:
        Tree.made(config_dir(), 0o700).close()  # with ~/.config, as the XDG specification has it
        output = default_identity()
    operations.check_identity_is_new(output)
    try:
        password = None if no_password else prompter.identity_password(output)
    except PasswordUnavailable:
        ui.hint(_("for a key without a password, say --no-password"))
        raise
    keychain = keyring.keychain if keyring is not None else None
    identity = operations.new_identity(
        output,
        name,
        password,
        profile=kdf.DEFAULT,
        keychain=keychain,
        log=prompter.access_log(),
        observer=ui.Screen(""),
    )
    ui.message(
        _("wrote the identity {path}, fingerprint {fingerprint}").format(
            path=output, fingerprint=fingerprint(identity.public)
        )
    )
    if keychain is not None:
        ui.message(_("the keychain holds its password: without it the file opens nothing"))
        ui.hint(
            _("set one to remember: encvault key passwd --keyring -i {path}").format(
                path=quoted(output)
            )
        )
    ui.result(identity.recipient)
    return 0


@key_command.command(
    "passwd",
    help=_(
        "Change the password of an identity file, or give it one.\n\n"
        "The key pair stays the same. The old file stays until the new one is durable."
    ),
    short_help=_("Change the password of an identity file."),
)
@click.option("-i", "--identity", required=True, metavar="FILE", help=_("The identity file."))
@secret_options(recipients=False, identities=False, new_password=True)
def passwd_command(*, identity: str, prompter: CommandLinePrompter) -> int:
    """See the command's help."""
    found = operations.read_identity(identity)
    with recording(prompter.access_log(), "key.passwd", identity):  # a wrong one as well
        key = prompter.unlock(found, identity)
    (recipient,) = prompter.new_recipients(identity, found.name)
    operations.change_identity_password(
        identity, found, key, recipient, log=prompter.access_log(), observer=ui.Screen("")
    )
    prompter.slots_made()
    if found.slot is not None:
        prompter.tell_of_old_entry()
    ui.message(_("the password was changed"))
    ui.message(_("copies of the file made before open as they did"))
    return 0


@key_command.command(
    "list",
    help=_(
        "List the identity files in the configuration folder. Needs no password.\n\n"
        "These are the files named .key in ~/.config/encvault."
    ),
    short_help=_("List identity files."),
)
@json_option
def list_command(*, as_json: bool) -> int:
    """See the command's help."""
    folder = config_dir()
    keychain = Keychain(os.environ, timeout_s=_LIST_SECONDS)
    identities, problems = operations.list_identities(folder, keychain)
    for problem in problems:
        ui.message(str(problem))
    if as_json:
        ui.show_json(
            {
                "identities": [identity._asdict() for identity in identities],
                "problems": [ui.error_json(problem) for problem in problems],
            }
        )
    else:
        _show_identities(identities)
        if not (identities or problems):
            ui.message(_("no identities in {path}").format(path=folder))
            ui.hint(_("make one with: encvault key new"))
    if problems:
        ui.message(_("damaged identity files: {count}").format(count=len(problems)))
        return Incomplete.exit_code
    return 0


def _show_identities(identities: list[operations.IdentityInfo]) -> None:
    for identity in identities:
        protected = ui.column(_(_PROTECTED[identity.protected]), 12)
        name = os.path.basename(identity.path)
        ui.result(
            f"{identity.fingerprint}  {protected}  {identity.created_at}  {name}  {identity.name}"
        )


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
