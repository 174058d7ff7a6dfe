"""``--keyring``: passwords from the keychain of the desktop, and into it.

A keychain that fails never costs the work: what was asked for is done, the failure is told, and the
command ends with its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.cli import ui
from encvault.errors import KeychainError
from encvault.i18n import _
from encvault.keyslots import PasswordIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.keychain import Keychain
    from encvault.keyslots import Recipient, Slot, Unwrapped
    from encvault.secret import Secret


class Keyring:
    """The keychain as one command uses it. An `encvault.keyslots.Identity`, which never asks.

    Args:
        keychain: the user's.

    Attributes:
        failure: why something that was wanted of the keychain was not done, or None.
    """

    def __init__(self, keychain: Keychain) -> None:
        self.keychain = keychain
        self.failure: KeychainError | None = None
        self._checked = False
        self._wrapped: dict[str, Secret] = {}
        self._opened: dict[str, PasswordIdentity] = {}  # by salt

    # -- opening ----------------------------------------------------------------------------

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:
        """See `encvault.keyslots.Identity`.

        Raises:
            KeychainError: the keychain cannot be used, and nobody is there to ask instead.
        """
        wanted = {slot["id"]: slot for slot in slots if slot["kind"] == "password"}
        # files that one command sealed share a salt, and with it the password
        for slot in wanted.values():
            known = self._opened.get(slot["kdf"]["salt"])
            if known is not None and (unwrapped := known.unwrap([slot], path)) is not None:
                return unwrapped
        for slot_id, password in self._load(list(wanted)).items():
            identity = PasswordIdentity(password)
            slot = wanted[slot_id]
            if (unwrapped := identity.unwrap([slot], path)) is not None:
                self._opened[slot["kdf"]["salt"]] = identity
                return unwrapped
            password.wipe()
        return None

    def password(self, slot: Slot) -> Secret | None:
        """What is stored for a keyslot, or None.

        Raises:
            KeychainError: the keychain cannot be used, and nobody is there to ask instead.
        """
        return self._load([slot["id"]]).get(slot["id"])

    def _load(self, slot_ids: list[str]) -> dict[str, Secret]:
        if self.failure is not None or not slot_ids:
            return {}
        try:
            return self.keychain.load(slot_ids)
        except KeychainError as error:
            if not self.keychain.attended:
                raise
            self._fail(error)
            return {}

    # -- storing ----------------------------------------------------------------------------

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

    def noting(self, recipient: Recipient, password: Secret) -> Recipient:
        """A recipient whose keyslots are remembered, to be stored when they are durable."""
        return _Noted(recipient, password, self._wrapped)

    def store_wrapped(self) -> None:
        """Store the password under every keyslot that was made with it."""
        backends = {self._store(slot_id, password) for slot_id, password in self._wrapped.items()}
        self._wrapped.clear()
        self._tell(backends)

    def store(self, slot_id: str, password: Secret) -> None:
        """Store a password that has opened a keyslot."""
        self._tell({self._store(slot_id, password)})

    def _store(self, slot_id: str, password: Secret) -> str:
        if self.failure is not None:
            return ""
        try:
            return self.keychain.store(slot_id, password)
        except KeychainError as error:
            self._fail(error)
            return ""

    @staticmethod
    def _tell(backends: set[str]) -> None:
        for backend in sorted(filter(None, backends)):
            ui.message(_("stored the password in the keychain ({backend})").format(backend=backend))

    def forget(self, slot_id: str) -> None:
        """Remove what is stored for a keyslot that is gone."""
        if self.failure is not None:
            return
        try:
            if self.keychain.forget(slot_id):
                ui.message(_("removed the old password from the keychain"))
        except KeychainError as error:
            self._fail(error)

    def _fail(self, error: KeychainError) -> None:
        self.failure = error
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
        self._notes[slot["id"]] = self._password
        return slot
