"""Signed notes and the keys that verify them: c2sp.org/signed-note.

A note is text with one or more signature lines below it. Decoding is strict: what was decoded is
encoded again and compared. Signatures of keys that are not known are ignored, as the
specification demands; one of a known key that does not verify rejects the whole note.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import NotAuthentic, signing
from encvault.encoding import encode_base64
from encvault.errors import ForgedNote, MalformedNote, MalformedVerifierKey, UnknownSigner
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.secret import Buffer

ED25519 = 1  # type of a key that signs the text of a note
COSIGNATURE_V1 = 4  # type of a witness's Ed25519 key (c2sp.org/tlog-cosignature)
KEY_ID_SIZE = 4
MAX_NOTE_SIZE = 65_536
MAX_SIGNATURES = 100

_TYPES = (bytes((ED25519,)), bytes((COSIGNATURE_V1,)))
_PREFIX = "— "
# no space of Unicode, no plus; nothing that a note or UTF-8 could not hold either
_NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


# -- keys -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with a name (signed-note, "Verifier keys").

    Attributes:
        name: who signs with it; for a log, its origin.
        type: `ED25519` or `COSIGNATURE_V1`.
        public: 32 bytes of an Ed25519 public key (RFC 8032).
        key_id: 4 bytes that, with the name, tell whose line a signature is. Not a fingerprint:
            anybody can make a key with the same.
    """

    name: str
    type: int
    public: bytes
    key_id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        hashed = self.name.encode() + b"\n" + bytes((self.type,)) + self.public
        object.__setattr__(self, "key_id", hashlib.sha256(hashed).digest()[:KEY_ID_SIZE])

    def encode(self) -> str:
        """The key as a *vkey*: name, key id and public key in one line without its end."""
        key = encode_base64(bytes((self.type,)) + self.public)
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def decode(cls, text: str, place: str) -> VerifierKey:
        """The key of a vkey.

        Args:
            text: neither white space nor a line end around it.
            place: where it is from, for the message.

        Raises:
            MalformedVerifierKey: not a vkey, or of a type that is not used here.
        """
        name, _plus, rest = text.partition("+")
        if _NAME.fullmatch(name) is None:
            raise MalformedVerifierKey(place=place, reason=_("its name"))
        try:
            data = binascii.a2b_base64(rest.partition("+")[2], strict_mode=True)
        except ValueError:
            raise MalformedVerifierKey(place=place, reason=_("not base64")) from None
        if data[:1] not in _TYPES:
            raise MalformedVerifierKey(place=place, reason=_("an unknown type of key"))
        if len(data) != 1 + signing.PUBLIC_KEY_SIZE:
            raise MalformedVerifierKey(place=place, reason=_("the length of its public key"))
        key = cls(name, data[0], data[1:])
        if key.encode() != text:  # base64 of this length has one spelling, so it is the id
            raise MalformedVerifierKey(place=place, reason=_("its key id"))
        return key


class KeyRing:
    """Known keys, found by the name and key id of a signature line.

    Names and key ids of two keys may be the same by chance: with ten years of daily keys, once
    in about six hundred logs. The line is then good if one of them made it.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[VerifierKey]) -> None:
        self._keys: defaultdict[tuple[str, bytes], list[VerifierKey]] = defaultdict(list)
        for key in keys:
            self._keys[key.name, key.key_id].append(key)

    def find(self, name: str, key_id: bytes) -> list[VerifierKey]:
        """The keys of this name and key id; usually one or none."""
        return self._keys.get((name, key_id), [])


# -- notes ----------------------------------------------------------------------------------


class NoteSignature(NamedTuple):
    """One signature line.

    Attributes:
        name: of the key.
        key_id: 4 bytes.
        signature: what the key's type says; at least one byte.
    """

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """Text and the signatures below it.

    Attributes:
        text: with the line feed at its end.
        signatures: in the order of their lines, 1 to 100.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note in UTF-8."""
        lines = [
            f"{_PREFIX}{item.name} {encode_base64(item.key_id + item.signature)}\n"
            for item in self.signatures
        ]
        return f"{self.text}\n{''.join(lines)}".encode()

    @classmethod
    def decode(cls, data: bytes, place: str) -> Note:
        """The note of exactly these bytes. Nothing is verified.

        Args:
            data: at most 65,536 bytes.
            place: where it is from, for the message.

        Raises:
            MalformedNote: a rule of signed-note, "Format", is broken.
        """
        if len(data) > MAX_NOTE_SIZE:
            raise MalformedNote(place=place, reason=_("more than 65,536 bytes"))
        try:
            whole = data.decode()
        except UnicodeDecodeError:
            raise MalformedNote(place=place, reason=_("not UTF-8")) from None
        if _CONTROL.search(whole):
            raise MalformedNote(place=place, reason=_("a control character"))
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise MalformedNote(place=place, reason=_("no signature lines below an empty line"))
        parts = lines[:-1].split("\n")
        if len(parts) > MAX_SIGNATURES:
            raise MalformedNote(place=place, reason=_("more than 100 signatures"))
        note = cls(text + "\n", tuple(_decode_line(line, place) for line in parts))
        if note.encode() != data:
            raise MalformedNote(place=place, reason=_("not in its one encoding"))
        return note

    def check(self, keys: KeyRing | Iterable[VerifierKey], place: str) -> list[VerifierKey]:
        """The known keys that signed this note.

        Args:
            keys: those that are known; of another type than `ED25519` none is. Who checks many
                notes makes a `KeyRing` of them once.
            place: where the note is from, for messages.

        Returns:
            one key at least, in the order of the lines, each once.

        Raises:
            ForgedNote: a line has the name and key id of a known key and does not verify.
            UnknownSigner: no line is of a known key.
        """
        ring = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        message = self.text.encode()
        signers: list[VerifierKey] = []
        for item in self.signatures:
            known = [key for key in ring.find(item.name, item.key_id) if key.type == ED25519]
            if not known:
                continue
            signer = _signer_of(message, item.signature, known)
            if signer is None:
                raise ForgedNote(place=place, name=item.name)
            if signer not in signers:
                signers.append(signer)
        if not signers:
            raise UnknownSigner(place=place)
        return signers


def sign_note(text: str, name: str, seed: Buffer, public: bytes | None = None) -> Note:
    """A note with one Ed25519 signature.

    Args:
        text: with the line feed at its end.
        name: of the key.
        seed: the 32-byte private key.
        public: the public key of `seed`, if it is known already.

    Raises:
        ValueError: no note can have this text or name.
    """
    key = VerifierKey(name, ED25519, signing.public_key(seed) if public is None else public)
    signature = signing.sign(seed, text.encode())
    note = Note(text, (NoteSignature(name, key.key_id, signature),))
    try:
        readable = Note.decode(note.encode(), name) == note
    except MalformedNote:
        readable = False
    if not readable:
        raise ValueError("a text or a name that no note can have")
    return note


def _decode_line(line: str, place: str) -> NoteSignature:
    name, _space, text = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX) or _NAME.fullmatch(name) is None:
        raise MalformedNote(place=place, reason=_("a line that is no signature line"))
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise MalformedNote(place=place, reason=_("not base64")) from None
    if len(data) <= KEY_ID_SIZE:
        raise MalformedNote(place=place, reason=_("a signature that is too short"))
    return NoteSignature(name, data[:KEY_ID_SIZE], data[KEY_ID_SIZE:])


def _signer_of(
    message: bytes, signature: bytes, known: Iterable[VerifierKey]
) -> VerifierKey | None:
    for key in known:
        try:
            signing.verify(key.public, signature, message)
        except NotAuthentic:
            continue
        return key
    return None
