"""Keyslots: wrap a 32-byte secret for a password or a public key, and unwrap it again.

Two one-method protocols carry every kind of key, as in age: a `Recipient` wraps, an `Identity`
unwraps. The same slots serve vaults (they wrap the vault secret) and single files (they wrap the
file's key). Encodings are those of docs/format.md sections 5 and 8.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from encvault.crypto import NotAuthentic, hpke, kdf, stream
from encvault.crypto.kdf import KdfProfile
from encvault.crypto.suite import Suite
from encvault.envelope import (
    MAX_SLOTS,
    decode_base64,
    decode_json,
    encode_base32,
    encode_base64,
    encode_json,
)
from encvault.errors import (
    EmptyPassword,
    MalformedIdentity,
    MalformedRecipient,
    NoMatchingKeyslot,
    WorkFactorTooLarge,
    WrongIdentityPassword,
)
from encvault.i18n import N_, _
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECRET_SIZE = 32
MAX_PASSWORD_SLOTS = 8
MAX_LABEL_LENGTH = 200
MAX_IDENTITY_FILE_SIZE = 16_384
MAX_RECIPIENT_FILE_SIZE = 1 << 20

_SLOT_BINDING = b"encvault/keyslot@v1\0"
_SLOT_ID = re.compile(r"[a-z2-7]{12}[acegikmoqsuwy246]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_FINGERPRINT = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){7}")
_RECIPIENT_PREFIX = "encvault1-"
_WRAPPED_SIZE = {
    "password": stream.body_size(SECRET_SIZE),
    "recipient": SECRET_SIZE + hpke.OVERHEAD,
}

Slot = dict[str, Any]  # canonical JSON object; `check_slots` says what it holds


class SlotInfo(TypedDict):
    """What may be shown of a slot."""

    id: str
    kind: str
    label: str
    created_at: str


class Recipient(Protocol):
    """Something that a secret can be wrapped for."""

    def wrap(self, secret: Secret) -> Slot:
        """A new keyslot that holds `secret` (32 bytes)."""

    def fits(self, slots: Sequence[Slot], path: str) -> bool:
        """Whether one of the slots is for this recipient.

        Args:
            slots: slots that passed `check_slots`.
            path: for messages.
        """


class Identity(Protocol):
    """Something that may open a keyslot."""

    def unwrap(self, slots: Sequence[Slot], path: str) -> Secret | None:
        """The secret from the first slot that opens, or None.

        Args:
            slots: slots that passed `check_slots`.
            path: for messages.
        """


def now_text() -> str:
    """The current time as docs/format.md writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_time(text: object) -> bool:
    """Whether `text` is a time as docs/format.md writes it."""
    return isinstance(text, str) and _TIME.fullmatch(text) is not None


def encode_password(text: str) -> Secret:
    """A password as bytes: Unicode NFC (RFC 8265, section 4.2), UTF-8.

    Raises:
        EmptyPassword: nothing is left to protect with.
    """
    if not text:
        raise EmptyPassword
    return Secret(unicodedata.normalize("NFC", text).encode(errors="surrogateescape"))


def fingerprint(public: bytes) -> str:
    """A public key's fingerprint, 32 characters in groups of four, to compare by eye or phone."""
    return group(hashlib.sha256(b"encvault/fingerprint@v1\0" + public).digest()[:20])


def group(digest: bytes) -> str:
    """Bytes in base32 in groups of four characters."""
    text = encode_base32(digest)
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


# -- slots ----------------------------------------------------------------------------------


def _new_slot(kind: str, label: str) -> Slot:
    return {
        "id": encode_base32(os.urandom(8)),
        "kind": kind,
        "label": label[:MAX_LABEL_LENGTH],
        "created_at": now_text(),
    }


def _binding(slot: Slot) -> bytes:
    return _SLOT_BINDING + encode_json({k: v for k, v in slot.items() if k != "wrapped"})


def check_slots(slots: Any, path: str) -> tuple[Slot, ...]:
    """Return `slots` if they keep every rule of docs/format.md section 5.

    Raises:
        ValueError: a member is wrong, missing or unknown.
        WorkFactorTooLarge: a password slot asks for more work than the caps allow.
    """
    if not isinstance(slots, (list, tuple)) or not 1 <= len(slots) <= MAX_SLOTS:
        raise ValueError(N_("1 to 64 slots"))
    for slot in slots:
        _check_slot(slot, path)
    if sum(slot["kind"] == "password" for slot in slots) > MAX_PASSWORD_SLOTS:
        raise ValueError(N_("more than 8 password slots"))
    if len({slot["id"] for slot in slots}) != len(slots):
        raise ValueError(N_("two slots with one id"))
    return tuple(slots)


def _check_slot(slot: Any, path: str) -> None:
    kind = slot.get("kind") if isinstance(slot, dict) else None
    if kind not in ("password", "recipient"):
        raise ValueError(N_("slot kind"))
    special = "kdf" if kind == "password" else "recipient"
    if slot.keys() != {"id", "kind", "label", "created_at", "wrapped", special}:
        raise ValueError(N_("slot members"))
    if not isinstance(slot["id"], str) or not _SLOT_ID.fullmatch(slot["id"]):
        raise ValueError(N_("slot id"))
    if not isinstance(slot["label"], str) or len(slot["label"]) > MAX_LABEL_LENGTH:
        raise ValueError(N_("slot label"))
    if not is_time(slot["created_at"]):
        raise ValueError(N_("slot time"))
    if len(decode_base64(slot["wrapped"])) != _WRAPPED_SIZE[kind]:
        raise ValueError(N_("slot wrapped"))
    if kind == "password":
        _check_kdf(slot["kdf"], path)
    elif not isinstance(slot["recipient"], str) or not _FINGERPRINT.fullmatch(slot["recipient"]):
        raise ValueError(N_("slot recipient"))


def _check_kdf(value: Any, path: str) -> None:
    members = {"lanes", "memory_kib", "name", "passes", "salt"}
    if not isinstance(value, dict) or value.keys() != members or value["name"] != "argon2id":
        raise ValueError(N_("slot kdf"))
    if len(decode_base64(value["salt"])) != kdf.SALT_SIZE:
        raise ValueError(N_("slot salt"))
    numbers = [value[name] for name in ("memory_kib", "passes", "lanes")]
    if any(type(number) is not int or number < 1 for number in numbers):
        raise ValueError(N_("slot work factors"))
    if not KdfProfile(*numbers).within_caps:
        raise WorkFactorTooLarge(path=path, memory_kib=numbers[0], passes=numbers[1])


def describe(slots: Iterable[Slot]) -> list[SlotInfo]:
    """What may be shown of the slots."""
    return [
        SlotInfo(
            id=slot["id"], kind=slot["kind"], label=slot["label"], created_at=slot["created_at"]
        )
        for slot in slots
    ]


def unwrap_any(slots: Sequence[Slot], identities: Iterable[Identity], path: str) -> Secret:
    """The secret, from the first identity that opens a slot.

    Raises:
        NoMatchingKeyslot: none does; the same for a wrong password and a wrong key.
    """
    for identity in identities:
        if (secret := identity.unwrap(slots, path)) is not None:
            return secret
    raise NoMatchingKeyslot(path=path)


# -- passwords ------------------------------------------------------------------------------


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
        self._identity = PasswordIdentity(password)

    def wrap(self, secret: Secret) -> Slot:
        """See `Recipient`."""
        slot = _new_slot("password", self._label)
        slot["kdf"] = {
            "name": "argon2id",
            "memory_kib": self._profile.memory_kib,
            "passes": self._profile.passes,
            "lanes": self._profile.lanes,
            "salt": encode_base64(self._salt),
        }
        kek = self._identity.kek(self._salt, self._profile)
        body = stream.seal(Suite.AES_256_GCM, kek.reveal(), _binding(slot), secret.reveal())
        return slot | {"wrapped": encode_base64(body)}

    def fits(self, slots: Sequence[Slot], path: str) -> bool:
        """See `Recipient`."""
        secret = self._identity.unwrap(slots, path)
        if secret is None:
            return False
        secret.wipe()
        return True


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
            derived = kdf.derive_from_password(self._password, salt, profile)
            self._keks[salt, profile] = derived
        return self._keks[salt, profile]

    def unwrap(self, slots: Sequence[Slot], path: str) -> Secret | None:  # noqa: ARG002 - protocol
        """See `Identity`."""
        for slot in slots:
            if slot["kind"] != "password":
                continue
            work = slot["kdf"]
            profile = KdfProfile(work["memory_kib"], work["passes"], work["lanes"])
            kek = self.kek(decode_base64(work["salt"]), profile)
            wrapped = decode_base64(slot["wrapped"])
            try:
                secret = stream.open(Suite.AES_256_GCM, kek.reveal(), _binding(slot), wrapped)
            except NotAuthentic:
                continue
            return Secret(secret)
        return None


# -- public keys ----------------------------------------------------------------------------


class PublicKeyRecipient:
    """Wraps for the owner of an HPKE key pair.

    Args:
        public: 1,216 bytes (`encvault.crypto.hpke`).
        label: for people, shown by ``slot list``.
    """

    def __init__(self, public: bytes, *, label: str = "") -> None:
        self.public = public
        self._label = label

    def wrap(self, secret: Secret) -> Slot:
        """See `Recipient`."""
        slot = _new_slot("recipient", self._label)
        slot["recipient"] = fingerprint(self.public)
        sealed = hpke.seal(self.public, secret.reveal(), _binding(slot))
        return slot | {"wrapped": encode_base64(sealed)}

    def fits(self, slots: Sequence[Slot], path: str) -> bool:  # noqa: ARG002 - protocol
        """See `Recipient`."""
        own = fingerprint(self.public)
        return any(slot["kind"] == "recipient" and slot["recipient"] == own for slot in slots)


class KeyIdentity:
    """Opens the recipient slots of one HPKE key pair.

    Args:
        seed: the 32-byte private key.
    """

    def __init__(self, seed: Secret) -> None:
        self._seed = seed
        self._fingerprint = fingerprint(hpke.public_key(seed.reveal()))

    def unwrap(self, slots: Sequence[Slot], path: str) -> Secret | None:  # noqa: ARG002 - protocol
        """See `Identity`."""
        for slot in slots:
            if slot["kind"] == "recipient" and slot["recipient"] == self._fingerprint:
                try:
                    wrapped = decode_base64(slot["wrapped"])
                    return hpke.open(self._seed.reveal(), wrapped, _binding(slot))
                except NotAuthentic:
                    continue
        return None


def encode_recipient(public: bytes) -> str:
    """A public key as one line, with a check that catches a cut or mistyped copy."""
    check = hashlib.sha256(b"encvault/recipient@v1\0" + public).digest()[:4]
    text = base64.urlsafe_b64encode(b"\x01" + public + check).decode().rstrip("=")
    return _RECIPIENT_PREFIX + text


def decode_recipient(text: str, source: str) -> bytes:
    """The public key of one recipient line.

    Args:
        text: the line.
        source: for messages.

    Raises:
        MalformedRecipient: not a recipient, cut, mistyped, or of another version.
    """
    if not text.startswith(_RECIPIENT_PREFIX):
        raise MalformedRecipient(source=source, reason=_("does not begin with encvault1-"))
    encoded = text.removeprefix(_RECIPIENT_PREFIX)
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedRecipient(source=source, reason=_("not base64")) from None
    public = data[1:-4]
    if data[:1] != b"\x01" or encode_recipient(public) != text:
        raise MalformedRecipient(source=source, reason=_("cut off or mistyped"))
    try:
        hpke.check_public_key(public)
    except ValueError as error:
        raise MalformedRecipient(source=source, reason=_(str(error))) from None
    return public


def decode_recipient_file(data: bytes, source: str) -> list[bytes]:
    """The public keys of a recipient file: a line each, ``#`` comments skipped.

    Raises:
        MalformedRecipient: a line that is none, or no line at all.
    """
    if data.startswith(b"{") and len(data) <= MAX_IDENTITY_FILE_SIZE:
        raise MalformedRecipient(source=source, reason=_("this is an identity, which stays secret"))
    lines = [line.strip() for line in data.decode(errors="replace").splitlines()]
    keys = [decode_recipient(line, source) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise MalformedRecipient(source=source, reason=_("no recipient in it"))
    return keys


# -- identity files -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IdentityFile:
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
        """Read an identity file.

        Raises:
            MalformedIdentity: it is none, or a rule of docs/format.md section 8 is broken.
            WorkFactorTooLarge: its password slot asks for too much work.
        """
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
            seed = PasswordIdentity(password).unwrap([self.slot], path)
        if seed is None:
            raise WrongIdentityPassword(path=path)
        if hpke.public_key(seed.reveal()) != self.public:
            raise MalformedIdentity(path=path, reason=_("the recipient is not this key's"))
        return KeyIdentity(seed)
