"""Keyslots for the owner of a key pair (HPKE, RFC 9180), and public keys as text.

docs/format.md sections 5 and 8.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import functools
import hashlib
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic, hpke
from encvault.encoding import decode_base64, encode_base64
from encvault.errors import MalformedRecipient, UnprovedKeyslot
from encvault.i18n import _
from encvault.keyslots.slots import Unwrapped, binding, new_slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.keyslots.slots import Recipient, Slot
    from encvault.secret import Secret

MAX_RECIPIENT_FILE_SIZE = 1 << 20
MAX_IDENTITY_FILE_SIZE = 16_384
_RECIPIENT_PREFIX = "encvault1-"


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
        return rewrap(new_public_slot("recipient", self._label, self.public), secret)

    def fits(self, slots: Sequence[Slot], path: str) -> bool:  # noqa: ARG002 - protocol
        """See `Recipient`."""
        return bool(slots_of("recipient", self.public, slots))

    def identity(self) -> None:
        """See `Recipient`."""
        return


class KeyIdentity:
    """Opens the recipient slots of one HPKE key pair.

    Args:
        seed: the 32-byte private key.
    """

    kind = "recipient"

    def __init__(self, seed: Secret) -> None:
        self._seed = seed
        self.public = hpke.public_key(seed.reveal())

    def unwrap(self, slots: Sequence[Slot], path: str) -> Unwrapped | None:  # noqa: ARG002 - protocol
        """See `Identity`."""
        for slot in slots_of(self.kind, self.public, slots):
            try:
                wrapped = decode_base64(slot["wrapped"])
                secret = hpke.open(self._seed.reveal(), wrapped, binding(slot))
            except NotAuthentic:
                continue
            return Unwrapped(slot["id"], secret, functools.partial(rewrap, slot))
        return None

    def wrap_for(self, recipient: Recipient, path: str) -> Slot:
        """The private key in a keyslot, for its owner's identity file; it was opened once.

        Args:
            recipient: whose identity can be made here, such as a password.
            path: for messages.

        Raises:
            UnprovedKeyslot: the slot does not open.
        """
        slot = recipient.wrap(self._seed)
        identity = recipient.identity()
        unwrapped = identity.unwrap([slot], path) if identity is not None else None
        if unwrapped is None or unwrapped.secret != self._seed:
            raise UnprovedKeyslot(path=path)
        unwrapped.secret.wipe()
        return slot


def new_public_slot(kind: str, label: str, public: bytes) -> Slot:
    """A slot for the owner of a key pair, which holds nothing yet."""
    return new_slot(kind, label) | {"recipient": encode_base64(public)}


def rewrap(slot: Slot, secret: Secret) -> Slot:
    """The same slot for the same public key, with another secret (32 bytes) in it.

    It takes nobody's private key, so that a vault's key can be changed without asking anyone.
    """
    public = decode_base64(slot["recipient"])
    return slot | {"wrapped": encode_base64(hpke.seal(public, secret.reveal(), binding(slot)))}


def slots_of(kind: str, public: bytes, slots: Sequence[Slot]) -> list[Slot]:
    """Those of the slots that are of this kind and for this public key."""
    own = encode_base64(public)
    return [slot for slot in slots if slot["kind"] == kind and slot["recipient"] == own]


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

    The mark is skipped with which editors of Windows begin UTF-8.

    Raises:
        MalformedRecipient: a line that is none, or no line at all.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.startswith(b"{") and len(data) <= MAX_IDENTITY_FILE_SIZE:
        raise MalformedRecipient(source=source, reason=_("this is an identity, which stays secret"))
    lines = [line.strip() for line in data.decode(errors="replace").splitlines()]
    keys = [decode_recipient(line, source) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise MalformedRecipient(source=source, reason=_("no recipient in it"))
    return keys
