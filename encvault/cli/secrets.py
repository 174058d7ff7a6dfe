"""Who answers for the command line: options, then the terminal."""

from __future__ import annotations

import functools
import getpass
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault import keychain
from encvault.cli import ui
from encvault.cli.defaults import Defaults
from encvault.cli.keyring import Keyring
from encvault.cli.sources import Source
from encvault.crypto import kdf
from encvault.errors import (
    ConfirmationNeeded,
    NewPasswordUnavailable,
    PasswordUnavailable,
    RecoveryCodeUnavailable,
    WeakPassword,
    WrongIdentityPassword,
)
from encvault.i18n import _
from encvault.keyslots import (
    Identity,
    IdentityFile,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    Recipient,
    RecoveryIdentity,
    Slot,
    Unwrapped,
    decode_code,
    encode_password,
    fingerprint,
    random_password,
)
from encvault.operations import read_identity, read_recipients
from encvault.operations.prompter import known_vaults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from encvault.accesslog.log import AccessLog
    from encvault.secret import Secret
    from encvault.vault.known import KnownVaults

_TRIES = 3


class SecretOptions(NamedTuple):
    """The shared options for keys.

    Attributes:
        recipients: ``-r``, files or strings.
        identity_files: ``-i``.
        password: the source of the password to open with, and to seal new vaults with.
        new_password: of the password that a keyslot shall be for.
        recovery: of a recovery code.
        ask_recovery: ask for a recovery code.
        keyring: ask the keychain, and leave passwords of the user with it.
        default_identity: tried where nothing was given, if it exists.
        fingerprint: what the vault at hand must have, or "".
        state_dir: where vaults are remembered, or None.
        config_files: the company's and the user's, whether they exist or not.
        no_input: never ask.
        yes: consent to every question.
        quiet: tell errors only.
    """

    recipients: tuple[str, ...] = ()
    identity_files: tuple[str, ...] = ()
    password: Source = Source()
    new_password: Source = Source()
    recovery: Source = Source()
    ask_recovery: bool = False
    keyring: bool = False
    default_identity: str = ""
    fingerprint: str = ""
    state_dir: str | None = None
    config_files: tuple[str, ...] = ()
    no_input: bool = False
    yes: bool = False
    quiet: bool = False


class CommandLinePrompter:
    """Answers an operation's questions from the options, then from the terminal.

    Attributes:
        defaults: what the configuration adds.
        keyring: the keychain, if it is wanted, or None.
    """

    def __init__(self, options: SecretOptions) -> None:
        self._options = options
        self.defaults = Defaults(options.config_files, quiet=options.quiet)
        self._password: Secret | None = None
        self._named: list[Recipient] = []
        self._recipients: list[Recipient] = []
        self._identities: list[Identity] = []
        self._default = _DefaultIdentity(self, options.default_identity)
        self._typed = _Typed([], set())
        self._is_for_others = False
        self.keyring: Keyring | None = None
        if options.keyring:
            self.keyring = Keyring(keychain.Keychain(os.environ, attended=self.may_ask()))

    def has_keys(self) -> bool:
        """See `encvault.operations.Prompter`."""
        options = self._options
        return bool(
            options.recipients
            or options.identity_files
            or options.password
            or options.recovery
            or options.ask_recovery
            or options.keyring
        )

    def company_keys(self) -> Collection[bytes]:
        """See `encvault.operations.Prompter`."""
        return self.defaults.company_keys

    def known_vaults(self) -> KnownVaults:
        """See `encvault.operations.Prompter`."""
        options = self._options
        return known_vaults(options.state_dir, options.fingerprint, lambda: self.defaults.pins)

    @functools.cached_property
    def _log(self) -> AccessLog:
        return self.defaults.access_log(self._options.state_dir)

    def access_log(self) -> AccessLog:
        """See `encvault.operations.Prompter`."""
        return self._log

    def outcome(self, code: int) -> int:
        """What a command ends with that is done, but for what the keychain did not do."""
        if code == 0 and self.keyring is not None and self.keyring.failure is not None:
            return self.keyring.failure.exit_code
        return code

    def slots_made(self) -> None:
        """See `encvault.operations.Prompter`."""
        if self.keyring is not None:
            self.keyring.store_wrapped()

    def tell_of_old_entry(self) -> None:
        """Say that the keychain's entry of a keyslot that is gone stays, as copies may."""
        if self.keyring is not None:
            ui.message(_("if the keychain holds the old password, it stays there"))

    def for_others(self) -> None:
        """Hear that new passwords are other people's: the user's keychain does not get them."""
        self._is_for_others = True

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
        """See `encvault.operations.Prompter`. A password is asked for once.

        The company's recipients are for the day of need: they alone are enough only where there is
        nobody to ask.
        """
        self._begin()
        if not self._recipients:
            own = list(self.given_recipients())
            if self._options.password:
                self.defaults.check_password(self._given_password())
            company = self.defaults.recipients(own)
            if not own and (self.may_ask() or not company):
                own = [self._password_recipient(self.new_password(what))]
            self._recipients = [*own, *company]
        return self._recipients

    def _begin(self) -> None:
        if self.keyring is not None and not self._is_for_others:
            self.keyring.begin()

    def given_recipients(self) -> Sequence[Recipient]:
        """See `encvault.operations.Prompter`. The company's are not among them."""
        if not self._named:
            self._named = self._named_recipients()
        return self._named

    def _named_recipients(self) -> list[Recipient]:
        found = self._listed_recipients(None)
        if self._options.password:
            found.append(self._password_recipient(self._given_password()))
        return found

    def _listed_recipients(self, label: str | None) -> list[Recipient]:
        return [
            PublicKeyRecipient(key, label=fingerprint(key) if label is None else label)
            for text in self._options.recipients
            for key in read_recipients(text)
        ]

    def new_recipients(self, what: str, label: str | None) -> Sequence[Recipient]:
        """See `encvault.operations.Prompter`."""
        self._begin()
        found = self._listed_recipients(label)
        if self._options.new_password or not found:
            found.append(self._password_recipient(self._chosen_password(what), label))
        return found

    def _chosen_password(self, what: str) -> Secret:
        if self._options.new_password:
            password = encode_password(self._options.new_password.read())
            self.defaults.check_password(password)
            return password
        if not self.may_ask():
            raise NewPasswordUnavailable(what=what)
        return self._ask_new_password(what)

    def _password_recipient(self, password: Secret, label: str | None = None) -> Recipient:
        shown = _user() if label is None else label
        recipient = PasswordRecipient(password, label=shown, profile=kdf.DEFAULT)
        if self.keyring is None or self._is_for_others:
            return recipient
        return self.keyring.noting(recipient, password)

    def identities(self, what: str) -> Sequence[Identity]:
        """See `encvault.operations.Prompter`. What was given once serves for all."""
        if not self._identities:
            self._identities = [self._identity(path) for path in self._options.identity_files]
            if self._options.recovery or self._options.ask_recovery:
                self._identities.append(self.recovery(what))
            if self._options.password:
                self._identities.append(PasswordIdentity(self._given_password()))
            if self._identities and self.keyring is not None:
                self._identities.append(self.keyring)
        return self._identities or self._asking(what, "")

    def staying_identities(self, what: str, gone: str) -> Sequence[Identity]:
        """See `encvault.operations.Prompter`. Who types a password hears why it takes another."""
        found = self.identities(what)
        if self._identities or not self.may_ask():
            return found
        why = _("{label} is to be dropped: it takes the password of a keyslot that stays")
        return self._asking(what, why.format(label=gone))

    def _asking(self, what: str, why: str) -> list[Identity]:
        asking: list[Identity] = [self._default, _AskedPassword(self, self._typed, what, why)]
        # what asks nobody comes first
        return asking if self.keyring is None else [self.keyring, *asking]

    def passwords_for(self, what: str, label: str) -> Iterator[Identity]:
        """See `encvault.operations.Prompter`. An empty answer leaves the keyslot pending."""
        if self.keyring is not None and self.keyring not in self._identities:
            yield self.keyring
        if self._identities or not self.may_ask():
            yield from self._identities
            return
        yield from self._typed.passwords
        for attempt in range(_TRIES):
            if attempt:
                ui.message(_("that password does not fit"))
            typed = _ask_secret(
                _("password of {label} for {what} (empty: set it later): "), what, label
            )
            if not typed:
                return
            yield PasswordIdentity(encode_password(typed))

    def recovery(self, what: str) -> RecoveryIdentity:
        """A recovery code: from its source, or asked for."""
        if self._options.recovery:
            text = self._options.recovery.read_all()
        elif self.may_ask():
            # shown as it is typed: nobody copies 65 symbols from paper blindly
            text = _ask(_("recovery code for {what}: ").format(what=what))
        else:
            raise RecoveryCodeUnavailable(what=what)
        with decode_code(text) as code:
            return RecoveryIdentity(code)

    def identity_password(self, what: str) -> Secret:
        """For a new identity file: with the keychain one that nobody needs to know."""
        if self.keyring is not None and not self._options.password:
            return random_password()
        return self.new_password(what)

    def new_password(self, what: str) -> Secret:
        """A password to seal with: from its source, or asked for twice.

        Raises:
            WeakPassword: its source gave one that the configuration does not allow.
        """
        if self._options.password:
            self.defaults.check_password(self._given_password())
            return self._given_password()
        if not self.may_ask():
            raise PasswordUnavailable(what=what)
        return self._ask_new_password(what)

    def _ask_new_password(self, what: str) -> Secret:
        while True:
            password = encode_password(_ask_secret(_("new password for {what}: "), what))
            try:
                self.defaults.check_password(password)
            except WeakPassword as error:
                ui.fail(error)
                continue
            self.defaults.advise(password)
            if password == encode_password(_ask_secret(_("the same password again: "), what)):
                return password
            ui.message(_("the two passwords differ"))

    def password(self, what: str) -> Secret:
        """A password to open with: from its source, or asked for once."""
        if self._options.password:
            return self._given_password()
        if not self.may_ask():
            raise PasswordUnavailable(what=what)
        return encode_password(_ask_secret(_("password for {what}: "), what))

    def _identity(self, path: str) -> Identity:
        return self.unlock(read_identity(path), path)

    def unlock(self, identity: IdentityFile, path: str) -> KeyIdentity:
        """The usable identity of a file, asking for its password if it has one."""
        if identity.slot is None:
            return identity.unlock(None, path)
        if self._options.password:
            return identity.unlock(self._given_password(), path)
        if (unlocked := self._unlock_with_stored(identity, identity.slot, path)) is not None:
            return unlocked
        for _attempt in range(_TRIES):
            password = self.password(path)
            try:
                unlocked = identity.unlock(password, path)
            except WrongIdentityPassword as error:
                ui.message(str(error))
            else:
                self.opened(identity.slot, password)
                return unlocked
        raise WrongIdentityPassword(path=path)

    def _unlock_with_stored(
        self, identity: IdentityFile, slot: Slot, path: str
    ) -> KeyIdentity | None:
        if self.keyring is None:
            return None
        if (stored := self.keyring.password(slot)) is not None:
            try:
                return identity.unlock(stored, path)
            except WrongIdentityPassword:
                self.keyring.misfits(slot, path)
        if not self.may_ask():
            raise self.keyring.missing(path)
        return None

    def opened(self, slot: Slot, password: Secret) -> None:
        """Hear that a password, which was asked for, opened a keyslot."""
        if self.keyring is not None:
            self.keyring.store(slot, password)

    def _given_password(self) -> Secret:
        if self._password is None:
            self._password = encode_password(self._options.password.read())
        return self._password


class _Typed(NamedTuple):
    """Passwords that were typed and opened something, and the paths of what they opened."""

    passwords: list[PasswordIdentity]
    paths: set[str]


class _DefaultIdentity:
    """The identity where ``key new`` puts it, used only for files that are sealed for it."""

    def __init__(self, prompter: CommandLinePrompter, path: str) -> None:
        self._prompter = prompter
        self._path = path
        self._unlocked: Identity | None = None

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:
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

    What opened an earlier file is tried first, so that files with one password ask for it once. Who
    has opened a file by a password is not asked for another one, unless it is said why.

    Args:
        prompter: asks.
        typed: what was typed before.
        what: is to be opened.
        why: it takes another password than the one that opened it; "" if that is enough.
    """

    def __init__(self, prompter: CommandLinePrompter, typed: _Typed, what: str, why: str) -> None:
        self._prompter = prompter
        self._typed = typed
        self._what = what
        self._why = why

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:
        if not any(slot["kind"] == "password" for slot in slots):
            return None
        for known in self._typed.passwords:
            if (unwrapped := known.unwrap(slots, path)) is not None:
                return unwrapped
        # what was typed fits none of these keyslots of it
        if path in self._typed.paths and not self._why:
            return None
        if self._prompter.keyring is not None and not self._prompter.may_ask():
            raise self._prompter.keyring.missing(self._what)
        for attempt in range(_TRIES):
            if self._why:  # nor is a password wrong that opens what is to be dropped
                ui.message(self._why)
            elif attempt:
                ui.message(_("that password does not fit"))
            password = self._prompter.password(self._what)
            identity = PasswordIdentity(password)
            if (unwrapped := identity.unwrap(slots, path)) is not None:
                self._typed.passwords.append(identity)
                self._typed.paths.add(path)
                (slot,) = (slot for slot in slots if slot["id"] == unwrapped.slot_id)
                self._prompter.opened(slot, password)
                return unwrapped
        return None


def _ask_secret(prompt: str, what: str, label: str = "") -> str:
    return getpass.getpass(ui.harmless(prompt.format(what=what, label=label)))


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
