"""Where passwords, identities and consent come from.

One source of a password at a time (borg#9333: a stale source silently won over a new one); never
the arguments, which every user of the machine can read in the process list (age#203).
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.cli import ui
from encvault.crypto import kdf
from encvault.errors import (
    ConfirmationNeeded,
    InvalidRequest,
    KeysUnreadable,
    PasswordSourceFailed,
    PasswordUnavailable,
    SourceMissing,
    WrongIdentityPassword,
)
from encvault.i18n import _, system_reason
from encvault.keyslots import (
    MAX_IDENTITY_FILE_SIZE,
    MAX_RECIPIENT_FILE_SIZE,
    Identity,
    IdentityFile,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    Recipient,
    Slot,
    decode_recipient,
    decode_recipient_file,
    encode_password,
    fingerprint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.secret import Secret

_MAX_PASSWORD_SIZE = 4096
_TRIES = 3


@dataclass(frozen=True, slots=True)
class SecretOptions:
    """The shared options for keys.

    Attributes:
        recipients: ``-r``, files or strings.
        identity_files: ``-i``.
        password_file, password_fd, password_command: sources of a password, at most one.
        default_identity: tried where nothing was given, if it exists.
        no_input: never ask.
        yes: consent to every question.
    """

    recipients: tuple[str, ...] = ()
    identity_files: tuple[str, ...] = ()
    password_file: str | None = None
    password_fd: int | None = None
    password_command: str | None = None
    default_identity: str = ""
    no_input: bool = False
    yes: bool = False


class CommandLinePrompter:
    """Answers an operation's questions from the options, then from the terminal.

    Raises:
        InvalidRequest: two sources of a password.
    """

    def __init__(self, options: SecretOptions) -> None:
        self._options = options
        self._password: Secret | None = None
        self._recipients: list[Recipient] = []
        self._identities: list[Identity] = []
        self._default = _DefaultIdentity(self, options.default_identity)
        self._typed: list[PasswordIdentity] = []  # passwords that opened something
        sources = (options.password_file, options.password_fd, options.password_command)
        if sum(source is not None for source in sources) > 1:
            raise InvalidRequest(reason=_("give one source of a password, not two"))
        self._has_source = any(source is not None for source in sources)

    def has_keys(self) -> bool:
        """See `encvault.operations.Prompter`."""
        options = self._options
        return bool(options.recipients or options.identity_files or self._has_source)

    def confirm(self, question: str) -> bool:
        """See `encvault.operations.Prompter`."""
        if self._options.yes:
            return True
        if not self.may_ask():
            raise ConfirmationNeeded(question=question)
        answer = _ask(_("{question} [y/N] ").format(question=question))
        return answer.strip().lower() in ("y", "yes", "是")

    def may_ask(self) -> bool:
        """Whether there is a person to ask."""
        return not self._options.no_input and ui.is_interactive()

    def recipients(self, what: str) -> Sequence[Recipient]:
        """See `encvault.operations.Prompter`. A password is asked for once."""
        if not self._recipients:
            self._recipients = self._named_recipients()
        if not self._recipients:
            self._recipients = [self._password_recipient(self.new_password(what))]
        return self._recipients

    def given_recipients(self) -> Sequence[Recipient]:
        """See `encvault.operations.Prompter`."""
        if not self._recipients:
            self._recipients = self._named_recipients()
        return self._recipients

    def _named_recipients(self) -> list[Recipient]:
        found: list[Recipient] = []
        for text in self._options.recipients:
            found += read_recipients(text)
        if self._has_source:
            found.append(self._password_recipient(self._given_password()))
        return found

    @staticmethod
    def _password_recipient(password: Secret) -> PasswordRecipient:
        return PasswordRecipient(password, label=_user(), profile=kdf.DEFAULT)

    def identities(self, what: str) -> Sequence[Identity]:
        """See `encvault.operations.Prompter`. What was given once serves for all."""
        if not self._identities:
            self._identities = [self._identity(path) for path in self._options.identity_files]
            if self._has_source:
                self._identities.append(PasswordIdentity(self._given_password()))
        return self._identities or [self._default, _AskedPassword(self, self._typed, what)]

    def new_password(self, what: str) -> Secret:
        """A password to seal with: from its source, or asked for twice."""
        if self._has_source:
            return self._given_password()
        if not self.may_ask():
            raise PasswordUnavailable(what=what)
        while True:
            password = encode_password(_ask_secret(_("new password for {what}: "), what))
            if password == encode_password(_ask_secret(_("the same password again: "), what)):
                return password
            ui.message(_("the two passwords differ"))

    def password(self, what: str) -> Secret:
        """A password to open with: from its source, or asked for once."""
        if self._has_source:
            return self._given_password()
        if not self.may_ask():
            raise PasswordUnavailable(what=what)
        return encode_password(_ask_secret(_("password for {what}: "), what))

    def _identity(self, path: str) -> Identity:
        return self.unlock(read_identity(path), path)

    def unlock(self, identity: IdentityFile, path: str) -> Identity:
        """The usable identity of a file, asking for its password if it has one."""
        if identity.slot is None:
            return identity.unlock(None, path)
        if self._has_source:
            return identity.unlock(self._given_password(), path)
        for _attempt in range(_TRIES):
            try:
                return identity.unlock(self.password(path), path)
            except WrongIdentityPassword as error:
                ui.message(str(error))
        raise WrongIdentityPassword(path=path)

    def _given_password(self) -> Secret:
        if self._password is None:
            self._password = encode_password(self._read_source())
        return self._password

    def _read_source(self) -> str:
        options = self._options
        if options.password_command is not None:
            return _from_command(options.password_command)
        if options.password_fd is not None:
            source = f"--password-fd {options.password_fd}"
            try:
                data = _read_all(options.password_fd)
            except OSError as error:
                raise PasswordSourceFailed(source=source, reason=system_reason(error)) from None
        else:
            source = options.password_file or ""
            try:
                with open(source, "rb") as file:
                    data = file.read(_MAX_PASSWORD_SIZE + 1)
            except OSError as error:
                raise PasswordSourceFailed(source=source, reason=system_reason(error)) from None
        return _first_line(data, source)


class _DefaultIdentity:
    """The identity where ``key new`` puts it, used only for files that are sealed for it."""

    def __init__(self, prompter: CommandLinePrompter, path: str) -> None:
        self._prompter = prompter
        self._path = path
        self._unlocked: Identity | None = None

    def unwrap(self, slots: Sequence[Slot], path: str) -> Secret | None:
        if self._unlocked is None:
            if not os.path.exists(self._path):
                return None
            identity = read_identity(self._path)
            if not PublicKeyRecipient(identity.public).fits(slots, path):
                return None
            self._unlocked = self._prompter.unlock(identity, self._path)
        return self._unlocked.unwrap(slots, path)


class _AskedPassword:
    """Asks for a password only when a file has a slot that needs one, and up to three times.

    What opened an earlier file is tried first, so that files with one password ask for it once.
    """

    def __init__(
        self, prompter: CommandLinePrompter, typed: list[PasswordIdentity], what: str
    ) -> None:
        self._prompter = prompter
        self._typed = typed
        self._what = what

    def unwrap(self, slots: Sequence[Slot], path: str) -> Secret | None:
        if not any(slot["kind"] == "password" for slot in slots):
            return None
        for known in self._typed:
            if (secret := known.unwrap(slots, path)) is not None:
                return secret
        for attempt in range(_TRIES):
            if attempt:
                ui.message(_("that password does not fit"))
            identity = PasswordIdentity(self._prompter.password(self._what))
            if (secret := identity.unwrap(slots, path)) is not None:
                self._typed.append(identity)
                return secret
        return None


def read_recipients(text: str) -> list[Recipient]:
    """The recipients of one ``-r``: a string, or a file of them.

    Raises:
        MalformedRecipient, SourceMissing, KeysUnreadable: it is neither.
    """
    if text.startswith("encvault1-"):
        keys = [decode_recipient(text, text[:24] + "…")]
    else:
        keys = decode_recipient_file(_read_file(text, MAX_RECIPIENT_FILE_SIZE), text)
    return [PublicKeyRecipient(key, label=fingerprint(key)) for key in keys]


def read_identity(path: str) -> IdentityFile:
    """An identity file.

    Raises:
        MalformedIdentity, SourceMissing, KeysUnreadable: it is none.
    """
    return IdentityFile.decode(_read_file(path, MAX_IDENTITY_FILE_SIZE), path)


def _read_file(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        raise SourceMissing(path=path) from None
    except OSError as error:
        raise KeysUnreadable(path=path, reason=system_reason(error)) from None


def _read_all(fd: int) -> bytes:
    data = b""
    while len(data) <= _MAX_PASSWORD_SIZE and (more := os.read(fd, _MAX_PASSWORD_SIZE)):
        data += more
    return data


def _first_line(data: bytes, source: str) -> str:
    if len(data) > _MAX_PASSWORD_SIZE:
        raise PasswordSourceFailed(source=source, reason=_("longer than 4096 bytes"))
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    return line.decode(errors="surrogateescape")


def _from_command(command: str) -> str:
    try:
        arguments = shlex.split(command)
    except ValueError:
        reason = _("a quotation mark in it is not closed")
        raise PasswordSourceFailed(source="--password-command", reason=reason) from None
    if not arguments:
        raise PasswordSourceFailed(source="--password-command", reason=_("it is empty"))
    try:
        # the user's own command, given for this purpose; no shell reads it
        done = subprocess.run(  # noqa: S603
            arguments, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise PasswordSourceFailed(source=arguments[0], reason=system_reason(error)) from None
    if done.returncode != 0:
        reason = _("it ended with code {code}").format(code=done.returncode)
        raise PasswordSourceFailed(source=arguments[0], reason=reason)
    return _first_line(done.stdout, arguments[0])


def _ask_secret(prompt: str, what: str) -> str:
    return getpass.getpass(ui.harmless(prompt.format(what=what)))


def _ask(question: str) -> str:
    """A question on the terminal itself, since stdout may be a pipe."""
    with open("/dev/tty", "r+b", buffering=0) as terminal:
        terminal.write(ui.harmless(question).encode())
        return terminal.readline().decode(errors="replace")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user, and no environment
        return ""
