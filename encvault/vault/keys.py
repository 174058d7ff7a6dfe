"""The keys that follow from a vault secret, and how one vault secret takes the place of another.

docs/format.md section 6. A succession is signed by the key that goes, so that who knew the vault by
it can tell a changed key from an exchanged vault; and it keeps the old secret, sealed to the key
that comes, so that what a machine seals that has not heard of the change is never lost.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.crypto import NotAuthentic, hpke, kdf, signing
from encvault.encoding import decode_base64, encode_base64, encode_json
from encvault.errors import MalformedVault
from encvault.i18n import N_, _
from encvault.keyslots import SECRET_SIZE, Slot, check_bare, group, is_time, now_text

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from encvault.secret import Secret
    from encvault.vault.manifest import VaultRecord

MAX_SUCCESSIONS = 256
_SIGNED = b"encvault/succession@v1\n"
_FORMER_BINDING = b"encvault/former-secret@v1\0"


def vault_fingerprint(vault: str, sign_public: bytes) -> str:
    """What people compare to know that it is their vault: it stands for all that the key signs.

    Args:
        vault: the vault's id.
        sign_public: its Ed25519 public key, 32 bytes.
    """
    content = b"encvault/vault-fingerprint@v1\0" + vault.encode() + sign_public
    return group(hashlib.sha256(content).digest()[:20])


class VaultKeys:
    """The key pairs that follow from a vault secret.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: Secret) -> None:
        self.secret = secret
        self.hpke_seed = kdf.expand(secret.reveal(), "encvault/vault/hpke@v1")
        self.sign_seed = kdf.expand(secret.reveal(), "encvault/vault/sign@v1")

    @property
    def public(self) -> tuple[bytes, bytes]:
        """The HPKE and the Ed25519 public key."""
        return (
            hpke.public_key(self.hpke_seed.reveal()),
            signing.public_key(self.sign_seed.reveal()),
        )

    def check(self, record: VaultRecord, path: str) -> None:
        """Refuse a record whose public keys are not this secret's.

        Raises:
            MalformedVault: someone exchanged them.
        """
        if self.public != (record.hpke_public, record.sign_public):
            raise MalformedVault(path=path, reason=_("its public keys are not those of its secret"))

    def pin(self) -> None:
        """Ask the system not to swap them out."""
        for secret in self._all:
            secret.pin()

    def wipe(self) -> None:
        """Forget all of them."""
        for secret in self._all:
            secret.wipe()

    @property
    def _all(self) -> tuple[Secret, ...]:
        return (self.secret, self.hpke_seed, self.sign_seed)


class Succession(NamedTuple):
    """One change of a vault's keys.

    Attributes:
        generation: of the first record that the new key signed.
        replaced_at: time text.
        sign_public: the Ed25519 public key that was replaced, 32 bytes.
        revoked: the keyslots that were not taken over, without what they held.
        signature: of the replaced key, 64 bytes, over all of the above and the new key.
        wrapped: the replaced vault secret, sealed to the HPKE key that came with the new one.
    """

    generation: int
    replaced_at: str
    sign_public: bytes
    revoked: tuple[Slot, ...]
    signature: bytes = b""
    wrapped: bytes = b""

    @classmethod
    def make(
        cls, record: VaultRecord, old: VaultKeys, new: VaultKeys, revoked: Sequence[Slot]
    ) -> Succession:
        """The change from `old`, whose record it is, to `new`."""
        hpke_public, sign_public = new.public
        bare = cls(record.generation + 1, now_text(), record.sign_public, tuple(revoked))
        statement = bare._statement(record.id, sign_public)
        signed = bare._replace(signature=signing.sign(old.sign_seed.reveal(), statement))
        wrapped = hpke.seal(hpke_public, old.secret.reveal(), signed.binding)
        return signed._replace(wrapped=wrapped)

    def members(self) -> dict[str, Any]:
        """The object of docs/format.md section 6."""
        return self._bound() | {"wrapped": encode_base64(self.wrapped)}

    def _stated(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "replaced_at": self.replaced_at,
            "sign_public": encode_base64(self.sign_public),
            "revoked": list(self.revoked),
        }

    def _bound(self) -> dict[str, Any]:
        return self._stated() | {"signature": encode_base64(self.signature)}

    @property
    def binding(self) -> bytes:
        """What the replaced secret is bound to: all but ``wrapped``."""
        return _FORMER_BINDING + encode_json(self._bound())

    def _statement(self, vault: str, successor: bytes) -> bytes:
        value = self._stated() | {"id": vault, "successor": encode_base64(successor)}
        return _SIGNED + encode_json(value)

    def verify(self, vault: str, successor: bytes) -> None:
        """Check that the replaced key names this successor.

        Raises:
            NotAuthentic: it does not.
        """
        signing.verify(self.sign_public, self.signature, self._statement(vault, successor))

    def former(self, keys: VaultKeys, path: str) -> VaultKeys:
        """The replaced keys.

        Args:
            keys: those that replaced them.
            path: of the vault, for messages.

        Raises:
            MalformedVault: what is wrapped is not the replaced secret.
        """
        try:
            secret = hpke.open(keys.hpke_seed.reveal(), self.wrapped, self.binding)
        except NotAuthentic:
            raise MalformedVault(path=path, reason=_("a former secret does not open")) from None
        former = VaultKeys(secret)
        if former.public[1] != self.sign_public:
            former.wipe()
            raise MalformedVault(path=path, reason=_("a former secret is another's"))
        return former

    @classmethod
    def decode(cls, value: Any) -> Succession:
        """Read an object of docs/format.md section 6; `check_successions` checks the signatures.

        Raises:
            ValueError: a member is wrong, missing or unknown.
        """
        members = {
            "generation",
            "replaced_at",
            "sign_public",
            "revoked",
            "signature",
            "wrapped",
        }
        if not isinstance(value, dict) or value.keys() != members:
            raise ValueError(N_("succession"))
        entry = cls(
            generation=value["generation"],
            replaced_at=value["replaced_at"],
            sign_public=decode_base64(value["sign_public"]),
            revoked=check_bare(value["revoked"]),
            signature=decode_base64(value["signature"]),
            wrapped=decode_base64(value["wrapped"]),
        )
        if type(entry.generation) is not int or not is_time(entry.replaced_at):
            raise ValueError(N_("succession"))
        if len(entry.wrapped) != SECRET_SIZE + hpke.OVERHEAD:
            raise ValueError(N_("succession"))
        return entry


def decode_successions(value: Any) -> tuple[Succession, ...]:
    """The ``succession`` of a vault record.

    Raises:
        ValueError: too many, or one is malformed.
    """
    if not isinstance(value, list) or len(value) > MAX_SUCCESSIONS:
        raise ValueError(N_("at most 256 successions"))
    return tuple(Succession.decode(entry) for entry in value)


def check_successions(record: VaultRecord) -> None:
    """Check that each replaced key names the next, up to the key that signs the record.

    Raises:
        ValueError: their generations do not rise up to the record's.
        NotAuthentic: a signature is wrong.
    """
    generations = [1, *(entry.generation for entry in record.succession), record.generation + 1]
    if any(low >= high for low, high in itertools.pairwise(generations)):
        raise ValueError(N_("succession"))
    keys = [*(entry.sign_public for entry in record.succession), record.sign_public]
    if len(set(keys)) != len(keys):
        raise ValueError(N_("succession"))
    for entry, successor in zip(record.succession, keys[1:], strict=True):
        entry.verify(record.id, successor)


def former_keys(keys: VaultKeys, record: VaultRecord, path: str) -> Generator[VaultKeys]:
    """The keys that the vault had before, the latest first. They are wiped in the end.

    Raises:
        MalformedVault: see `Succession.former`.
    """
    made = [keys]
    try:
        for entry in reversed(record.succession):
            made.append(entry.former(made[-1], path))
            yield made[-1]
    finally:
        for former in made[1:]:
            former.wipe()
