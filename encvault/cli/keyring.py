"""``--keyring``: passwords from the keychain of the desktop, and into it.

A keychain that fails never costs the work: what was asked for is done, and the failure is told. If
it is a new password that was not stored, the command ends with its code. No entry is ever replaced
or removed: copies of a file or vault made before open with the old password still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.cli import ui
from encvault.errors import KeychainError, KeychainMismatch, NotInKeychain
from encvault.i18n import _
from encvault.keyslots import PasswordIdentity, keychain_account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.errors import ConfigError
    from encvault.keychain import Keychain
    from encvault.keyslots import Recipient, Slot, Unwrapped
    from encvault.secret import Secret


class Keyring:
    """The keychain as one command uses it. An `encvault.keyslots.Identity`, which never asks.

    Args:
        keychain: the user's.

    Attributes:
        failure: why a new password was not stored, or None.
    """

    def __init__(self, keychain: Keychain) -> None:
        self.keychain = keychain
        self.failure: KeychainError | None = None
        self._is_broken = False  # it failed; asking it again would only cost time
        self._checked = False
        self._wrapped: dict[str, Secret] = {}  # by account
        self._opened: dict[str, PasswordIdentity] = {}  # by salt
        self._misfit = ""  # account whose password did not open what was tried last
        self._misfits: set[str] = set()  # all of them

    # -- opening ----------------------------------------------------------------------------

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:
        """See `encvault.keyslots.Identity`.

        Raises:
            KeychainError: the keychain cannot be used, and nobody is there to ask instead.
        """
        self._misfit = ""
        wanted = {keychain_account(slot): slot for slot in slots if slot["kind"] == "password"}
        # files that one command sealed share a salt, and with it the password
        for slot in wanted.values():
            known = self._opened.get(slot["kdf"]["salt"])
            if known is not None and (unwrapped := known.unwrap([slot], path)) is not None:
                return unwrapped
        for account, password in self._load(list(wanted)).items():
            identity = PasswordIdentity(password)
            slot = wanted[account]
            if (unwrapped := identity.unwrap([slot], path)) is not None:
                self._opened[slot["kdf"]["salt"]] = identity
                return unwrapped
            password.wipe()
            self._misfit = account
        self._tell_misfit(path)
        return None

    def password(self, slot: Slot) -> Secret | None:
        """What is stored for a keyslot, or None.

        Raises:
            KeychainError: the keychain cannot be used, and nobody is there to ask instead.
        """
        self._misfit = ""
        account = keychain_account(slot)
        return self._load([account]).get(account)

    def misfits(self, slot: Slot, path: str) -> None:
        """Hear that what is stored for a keyslot does not open it."""
        self._misfit = keychain_account(slot)
        self._tell_misfit(path)

    def missing(self, what: str) -> ConfigError:
        """The error for what was tried last, where nobody is there to ask."""
        if self._misfit:
            return KeychainMismatch(what=what, account=self._misfit)
        return NotInKeychain(what=what)

    def _tell_misfit(self, path: str) -> None:
        """With nobody to ask it is the error that the command ends with."""
        if not self._misfit or self._misfit in self._misfits:
            return
        self._misfits.add(self._misfit)
        if self.keychain.attended:
            ui.fail(KeychainMismatch(what=path, account=self._misfit))

    def _load(self, accounts: list[str]) -> dict[str, Secret]:
        if self._is_broken or not accounts:
            return {}
        try:
            return self.keychain.load(accounts)
        except KeychainError as error:
            if not self.keychain.attended:
                raise
            self._fail(error)
            return {}

    def store(self, slot: Slot, password: Secret) -> None:
        """Store a password that was asked for and has opened a keyslot.

        A failure is told and costs nothing: what was asked for is open.
        """
        account = keychain_account(slot)
        if self._is_broken or account in self._misfits:
            return
        try:
            self._tell({self.keychain.store(account, password)})
        except KeychainError as error:
            self._fail(error)

    # -- new passwords ----------------------------------------------------------------------

    def begin(self) -> None:
        """Before a password is chosen: make sure that it can be stored.

        What was wrapped before and never became durable needs no password: it is forgotten.

        Raises:
            KeychainError: it cannot.
        """
        self._wrapped.clear()
        if not self._checked:
            self.keychain.check()
            self._checked = True
            self._is_broken = False

    def noting(self, recipient: Recipient, password: Secret) -> Recipient:
        """A recipient whose keyslots are remembered, to be stored when they are durable."""
        return _Noted(recipient, password, self._wrapped)

    def store_wrapped(self) -> None:
        """Store the password under every keyslot that was made with it."""
        backends = {self._store_new(name, password) for name, password in self._wrapped.items()}
        self._wrapped.clear()
        self._tell(backends)

    def _store_new(self, account: str, password: Secret) -> str:
        if self.failure is not None:
            return ""
        try:
            return self.keychain.store(account, password)
        except KeychainError as error:
            self.failure = error
            self._fail(error)
            return ""

    @staticmethod
    def _tell(backends: set[str]) -> None:
        for backend in sorted(filter(None, backends)):
            ui.message(_("stored the password in the keychain ({backend})").format(backend=backend))

    def _fail(self, error: KeychainError) -> None:
        self._is_broken = True
        ui.fail(error)


class _Noted:
    """Wraps as another recipient does, and notes which keyslots it made."""

    def __init__(self, inner: Recipient, password: Secret, notes: dict[str, Secret]) -> None:
        self._inner = inner
        self._password = password
        self._notes = notes
        self.fits = inner.fits
        self.identity = inner.identity

    def wrap(self, secret: Secret) -> Slot:
        """See `encvault.keyslots.Recipient`."""
        slot = self._inner.wrap(secret)
        self._notes[keychain_account(slot)] = self._password
        return slot
