"""Keyslots as they stand in a record or header, and who wraps and unwraps them.

docs/format.md section 5. Two one-method protocols carry every kind of key, as in age: a
`Recipient` wraps, an `Identity` unwraps.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict

from encvault.crypto import hpke, kdf, stream
from encvault.crypto.kdf import KdfProfile
from encvault.encoding import decode_base64, encode_base32, encode_json
from encvault.envelope import MAX_SLOTS
from encvault.errors import NoMatchingKeyslot, WorkFactorTooLarge
from encvault.i18n import N_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from encvault.secret import Secret

SECRET_SIZE = 32
MAX_PASSWORD_SLOTS = 8
MAX_LABEL_LENGTH = 200

_SLOT_BINDING = b"encvault/keyslot@v1\0"
_SLOT_ID = re.compile(r"[a-z2-7]{12}[acegikmoqsuwy246]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_FINGERPRINT = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){7}")
_WRAPPED_SIZE = {
    "password": stream.body_size(SECRET_SIZE),
    "recipient": SECRET_SIZE + hpke.OVERHEAD,
    "recovery": SECRET_SIZE + hpke.OVERHEAD,
}
_OWN_MEMBERS = {"password": {"kdf"}, "recipient": {"recipient"}, "recovery": {"recipient"}}

SlotState = Literal["active", "pending", "revoked"]
Slot = dict[str, Any]  # canonical JSON object; `check_slots` says what it holds


class SlotInfo(TypedDict):
    """What may be shown of a slot.

    Attributes:
        fingerprint: of the public key of a recipient or recovery code, else "". A label is what
            somebody wrote; this is whose it is.
        state: ``pending`` if its password must be set again before it opens anything;
            ``revoked`` of one that was dropped.
    """

    id: str
    kind: str
    label: str
    created_at: str
    fingerprint: str
    state: SlotState


class Unwrapped(NamedTuple):
    """What a slot held.

    Attributes:
        slot_id: which slot opened.
        secret: 32 bytes.
        rewrap: makes the same slot hold another secret of 32 bytes.
    """

    slot_id: str
    secret: Secret
    rewrap: Callable[[Secret], Slot]


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

    def identity(self) -> Identity | None:
        """What opens the slots that this wraps, made anew to prove them.

        None if only somebody else's private key does.
        """


class Identity(Protocol):
    """Something that may open a keyslot."""

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:
        """What the first slot that opens holds, or None.

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


def fingerprint(public: bytes) -> str:
    """A public key's fingerprint, 32 characters in groups of four, to compare by eye or phone."""
    return group(hashlib.sha256(b"encvault/fingerprint@v1\0" + public).digest()[:20])


def is_fingerprint(text: str) -> bool:
    """Whether `text` has the form of a fingerprint."""
    return _FINGERPRINT.fullmatch(text) is not None


def group(digest: bytes) -> str:
    """Bytes in base32 in groups of four characters."""
    text = encode_base32(digest)
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def as_text(words: str) -> str:
    """Words from a command line or a user's name, which may hold bytes that are no UTF-8."""
    return words.encode(errors="surrogateescape").decode(errors="replace")


def new_slot(kind: str, label: str) -> Slot:
    """The members that every kind has, but ``wrapped``."""
    return {
        "id": encode_base32(os.urandom(8)),
        "kind": kind,
        "label": as_text(label)[:MAX_LABEL_LENGTH],
        "created_at": now_text(),
    }


def binding(slot: Slot) -> bytes:
    """What the wrapped secret is bound to: all of the slot but ``wrapped``."""
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
    if not isinstance(kind, str) or kind not in _OWN_MEMBERS:
        raise ValueError(N_("slot kind"))
    if slot.keys() != {"id", "kind", "label", "created_at", "wrapped"} | _OWN_MEMBERS[kind]:
        raise ValueError(N_("slot members"))
    _check_common(slot)
    if len(decode_base64(slot["wrapped"])) != _WRAPPED_SIZE[kind]:
        raise ValueError(N_("slot wrapped"))
    if kind == "password":
        _check_kdf(slot["kdf"], path)
    else:
        hpke.check_public_key(decode_base64(slot["recipient"]))


def _check_common(slot: Slot) -> None:
    if not isinstance(slot["id"], str) or not _SLOT_ID.fullmatch(slot["id"]):
        raise ValueError(N_("slot id"))
    if not isinstance(slot["label"], str) or len(slot["label"]) > MAX_LABEL_LENGTH:
        raise ValueError(N_("slot label"))
    if not is_time(slot["created_at"]):
        raise ValueError(N_("slot time"))


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


def check_bare(slots: Any) -> tuple[Slot, ...]:
    """Return `slots` if they are bare slots as docs/format.md section 6 has them.

    Raises:
        ValueError: a member is wrong, missing or unknown.
    """
    if not isinstance(slots, (list, tuple)) or len(slots) > MAX_SLOTS:
        raise ValueError(N_("at most 64 slots"))
    for slot in slots:
        if not isinstance(slot, dict) or slot.keys() != {"id", "kind", "label", "created_at"}:
            raise ValueError(N_("slot members"))
        if not isinstance(slot["kind"], str) or slot["kind"] not in _OWN_MEMBERS:
            raise ValueError(N_("slot kind"))
        _check_common(slot)
    return tuple(slots)


def bare(slot: Slot) -> Slot:
    """A slot without what it holds: what stays of one that does not open the vault any more."""
    return {name: slot[name] for name in ("id", "kind", "label", "created_at")}


def describe(slots: Iterable[Slot], bare_state: SlotState = "pending") -> list[SlotInfo]:
    """What may be shown of the slots.

    Args:
        slots: slots, and bare ones.
        bare_state: of the bare ones.
    """
    return [
        SlotInfo(
            id=slot["id"],
            kind=slot["kind"],
            label=slot["label"],
            created_at=slot["created_at"],
            fingerprint=(
                fingerprint(decode_base64(slot["recipient"])) if "recipient" in slot else ""
            ),
            state="active" if "wrapped" in slot else bare_state,
        )
        for slot in slots
    ]


def unwrap_any(slots: Sequence[Slot], identities: Iterable[Identity], path: str) -> Unwrapped:
    """What the first identity that opens a slot finds in it.

    Raises:
        NoMatchingKeyslot: none does; the same for a wrong password and a wrong key.
    """
    for identity in identities:
        if (unwrapped := identity.unwrap(slots, path)) is not None:
            return unwrapped
    raise NoMatchingKeyslot(path=path)
