"""Identity files: a person's or company's key pair on disk (docs/format.md section 8)."""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.crypto import hpke, kdf
from encvault.encoding import decode_base64, decode_json, encode_base64, encode_json
from encvault.errors import MalformedIdentity, WrongIdentityPassword
from encvault.i18n import N_, _
from encvault.keyslots.passwords import PasswordIdentity, PasswordRecipient
from encvault.keyslots.publickeys import (
    MAX_IDENTITY_FILE_SIZE,
    KeyIdentity,
    decode_recipient,
    encode_recipient,
)
from encvault.keyslots.slots import Slot, as_text, check_slots, is_time, now_text
from encvault.secret import Secret

if TYPE_CHECKING:
    from encvault.crypto.kdf import KdfProfile
    from encvault.keyslots.slots import Recipient


class IdentityFile(NamedTuple):
    """A person's key pair as it lies on disk.

    Attributes:
        name: for people.
        public: the public key, 1,216 bytes.
        created_at: time text.
        slot: the password slot that wraps the seed, or None.
        seed: the private key itself if the file has no password, or None.
    """

    name: str
    public: bytes
    created_at: str
    slot: Slot | None = None
    seed: Secret | None = None

    @classmethod
    def generate(
        cls, name: str, password: Secret | None, *, profile: KdfProfile = kdf.DEFAULT
    ) -> IdentityFile:
        """A new key pair, wrapped under `password` unless that is None."""
        name = as_text(name)
        seed = Secret(bytearray(os.urandom(hpke.SEED_SIZE)))
        public = hpke.public_key(seed.reveal())
        if password is None:
            return cls(name, public, now_text(), seed=seed)
        with seed:
            slot = PasswordRecipient(password, label=name, profile=profile).wrap(seed)
        return cls(name, public, now_text(), slot=slot)

    @property
    def recipient(self) -> str:
        """The public key as one line."""
        return encode_recipient(self.public)

    def encode(self) -> bytes:
        """The file's bytes."""
        value: dict[str, Any] = {
            "encvault_identity": 1,
            "name": self.name,
            "created_at": self.created_at,
            "recipient": self.recipient,
        }
        if self.seed is None:
            value["slot"] = self.slot
        else:
            value["seed"] = encode_base64(bytes(self.seed.reveal()))
        return encode_json(value) + b"\n"

    @classmethod
    def decode(cls, data: bytes, path: str) -> IdentityFile:
        """Read an identity file, without the mark with which editors of Windows begin UTF-8.

        Raises:
            MalformedIdentity: it is none, or a rule of docs/format.md section 8 is broken.
            WorkFactorTooLarge: its password slot asks for too much work.
        """
        data = data.removeprefix(codecs.BOM_UTF8)
        try:
            if not data.endswith(b"\n") or len(data) > MAX_IDENTITY_FILE_SIZE:
                raise ValueError(N_("cut off or too large"))  # noqa: TRY301 - see below
            value = decode_json(data[:-1])
            version = value.get("encvault_identity") if isinstance(value, dict) else None
            if type(version) is not int or version != 1:
                raise ValueError(N_("not an encvault identity"))  # noqa: TRY301 - see below
            secret_member = "slot" if "slot" in value else "seed"
            members = {"encvault_identity", "name", "created_at", "recipient", secret_member}
            if value.keys() != members or not is_time(value["created_at"]):
                raise ValueError(N_("wrong members"))  # noqa: TRY301 - one exception for bad input
            if not isinstance(value["name"], str) or not isinstance(value["recipient"], str):
                raise ValueError(N_("wrong types"))  # noqa: TRY301, TRY004 - see above
            public = decode_recipient(value["recipient"], path)
            if "slot" in value:
                (slot,) = check_slots([value["slot"]], path)
                if slot["kind"] != "password":
                    raise ValueError(N_("slot kind"))  # noqa: TRY301 - see above
                return cls(value["name"], public, value["created_at"], slot=slot)
            seed = Secret(decode_base64(value["seed"]))
            if len(seed) != hpke.SEED_SIZE:
                raise ValueError(N_("seed size"))  # noqa: TRY301 - see above
        except ValueError as error:
            raise MalformedIdentity(path=path, reason=_(str(error))) from None
        return cls(value["name"], public, value["created_at"], seed=seed)

    def unlock(self, password: Secret | None, path: str) -> KeyIdentity:
        """The usable identity.

        Args:
            password: None only for a file without one.
            path: for messages.

        Raises:
            WrongIdentityPassword: the password does not open the file.
            MalformedIdentity: the recipient in the file is not the seed's.
        """
        seed = self.seed
        if self.slot is not None:
            if password is None:
                raise AssertionError("keyslots: a protected identity needs its password")
            unwrapped = PasswordIdentity(password).unwrap([self.slot], path)
            seed = unwrapped.secret if unwrapped is not None else None
        if seed is None:
            raise WrongIdentityPassword(path=path)
        if hpke.public_key(seed.reveal()) != self.public:
            raise MalformedIdentity(path=path, reason=_("the recipient is not this key's"))
        return KeyIdentity(seed)

    def protected_for(self, recipient: Recipient, key: KeyIdentity, path: str) -> IdentityFile:
        """The same key pair under another password.

        Args:
            recipient: wraps for the new password.
            key: this file, unlocked.
            path: for messages.

        Raises:
            UnprovedKeyslot: what was wrapped does not open.
        """
        return self._replace(slot=key.wrap_for(recipient, path), seed=None)
