"""Keyslots for whoever knows a password: Argon2id (RFC 9106) and one body around the secret."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import unicodedata
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic, kdf, selftest, stream
from encvault.crypto.kdf import KdfProfile
from encvault.crypto.suite import Suite
from encvault.encoding import decode_base64, encode_base32, encode_base64, encode_json
from encvault.errors import EmptyPassword
from encvault.keyslots.slots import Unwrapped, binding, new_slot
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.keyslots.slots import Slot

_ACCOUNT = b"encvault/keychain-account@v1\0"
_ACCOUNT_HASH_SIZE = 20  # bytes; a second file for one account takes 2^160 tries


def encode_password(text: str) -> Secret:
    """A password as bytes: Unicode NFC (RFC 8265, section 4.2), UTF-8.

    Raises:
        EmptyPassword: nothing is left to protect with.
    """
    if not text:
        raise EmptyPassword
    return Secret(unicodedata.normalize("NFC", text).encode(errors="surrogateescape"))


def random_password() -> Secret:
    """A password that nobody needs to know: 256 random bits, 43 characters of base64url."""
    return Secret(base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"="))


def keychain_account(slot: Slot) -> str:
    """The name of a password slot's entry in a keychain (docs/scripting.md, "The keychain").

    A file from a stranger can state any id. The hash over id, salt, work factors and time makes
    its entry another one than that of the keyslot whose id it took.

    Returns:
        The id, a hyphen, and 160 bits of SHA-256 in base32: 46 characters.
    """
    bound = {name: slot[name] for name in ("created_at", "id", "kdf", "kind")}
    digest = hashlib.sha256(_ACCOUNT + encode_json(bound)).digest()
    return f"{slot['id']}-{encode_base32(digest[:_ACCOUNT_HASH_SIZE])}"


class PasswordRecipient:
    """Wraps for whoever knows the password.

    The password is hashed once for all that one instance wraps: the slots share a salt, so that a
    hundred files sealed at once cost one Argon2 run to seal and one to open. Each slot still binds
    its own id, and each wrapped body has a salt of its own (docs/format.md section 5).

    Args:
        password: the password's bytes (`encode_password`).
        label: for people, shown by ``slot list``.
        profile: work factors of Argon2id.
    """

    def __init__(
        self, password: Secret, *, label: str = "", profile: KdfProfile = kdf.DEFAULT
    ) -> None:
        self._label = label
        self._profile = profile
        self._salt = os.urandom(kdf.SALT_SIZE)
        self._password = password
        self._identity = PasswordIdentity(password)

    def wrap(self, secret: Secret) -> Slot:
        """See `Recipient`."""
        slot = new_slot("password", self._label)
        slot["kdf"] = {
            "name": "argon2id",
            "memory_kib": self._profile.memory_kib,
            "passes": self._profile.passes,
            "lanes": self._profile.lanes,
            "salt": encode_base64(self._salt),
        }
        return _rewrap(self._identity.kek(self._salt, self._profile), slot, secret)

    def fits(self, slots: Sequence[Slot], path: str) -> bool:
        """See `Recipient`."""
        unwrapped = self._identity.unwrap(slots, path)
        if unwrapped is None:
            return False
        unwrapped.secret.wipe()
        return True

    def identity(self) -> PasswordIdentity:
        """See `Recipient`. It hashes again: a fault of the machine must not lock people out."""
        return PasswordIdentity(self._password)


class PasswordIdentity:
    """Opens password slots. Hashes the password once for each salt that it meets.

    Args:
        password: the password's bytes (`encode_password`).
    """

    def __init__(self, password: Secret) -> None:
        self._password = password
        self._keks: dict[tuple[bytes, KdfProfile], Secret] = {}

    def kek(self, salt: bytes, profile: KdfProfile) -> Secret:
        """The key-encryption key of slots with this salt; it stays the identity's."""
        if (salt, profile) not in self._keks:
            selftest.run_for_passwords()
            derived = kdf.derive_from_password(self._password, salt, profile)
            self._keks[salt, profile] = derived
        return self._keks[salt, profile]

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:  # noqa: ARG002 - protocol
        """See `Identity`."""
        for slot in slots:
            if slot["kind"] != "password":
                continue
            work = slot["kdf"]
            profile = KdfProfile(work["memory_kib"], work["passes"], work["lanes"])
            kek = self.kek(decode_base64(work["salt"]), profile)
            wrapped = decode_base64(slot["wrapped"])
            try:
                secret = stream.open(Suite.AES_256_GCM, kek.reveal(), binding(slot), wrapped)
            except NotAuthentic:
                continue
            return Unwrapped(slot["id"], Secret(secret), functools.partial(_rewrap, kek, slot))
        return None


def _rewrap(kek: Secret, slot: Slot, secret: Secret) -> Slot:
    """The same slot for the same password, with another secret in a body with a salt of its own."""
    body = stream.seal(Suite.AES_256_GCM, kek.reveal(), binding(slot), secret.reveal())
    return slot | {"wrapped": encode_base64(body)}
