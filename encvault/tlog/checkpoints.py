"""Checkpoints, their files, and the cosignatures of witnesses.

A checkpoint is a signed note that says how many entries a log has and what their root is
(c2sp.org/tlog-checkpoint). A witness signs it again with the time (c2sp.org/tlog-cosignature).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import NotAuthentic, signing
from encvault.encoding import decode_base64, encode_base64
from encvault.errors import MalformedNote
from encvault.i18n import _
from encvault.tlog.merkle import HASH_SIZE
from encvault.tlog.notes import COSIGNATURE_V1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.tlog.notes import VerifierKey

COSIGNATURE_SIZE = 8 + signing.SIGNATURE_SIZE  # bytes: the time before the signature
_MIN_LINES = 3

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_LIMIT = 1 << 63


def decode_decimal(text: str) -> int | None:
    """A number below 2 to the 63 without leading zeros, or None."""
    if _DECIMAL.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number < _LIMIT else None


class Checkpoint(NamedTuple):
    """The text of a checkpoint (tlog-checkpoint, "Note text").

    Attributes:
        origin: which log it is of.
        size: entries of the tree, below 2 to the 63.
        root: 32 bytes, of the tree.
        extensions: further lines, which nobody here understands.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is signed: lines, each with its line feed."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "\n".join(lines) + "\n"

    @classmethod
    def decode(cls, text: str, place: str) -> Checkpoint:
        """The checkpoint of a note's text.

        Args:
            text: of the note, with the line feed at its end.
            place: where the note is from, for the message.

        Raises:
            MalformedNote: a rule of tlog-checkpoint, "Note text", is broken.
        """
        lines = text.split("\n")
        if lines.pop() or len(lines) < _MIN_LINES or "" in lines:
            raise MalformedNote(place=place, reason=_("a checkpoint has three lines, none empty"))
        size = decode_decimal(lines[1])
        if size is None:
            raise MalformedNote(place=place, reason=_("the size of the tree"))
        try:
            root = decode_base64(lines[2])
        except ValueError as error:
            raise MalformedNote(place=place, reason=_(str(error))) from None
        if len(root) != HASH_SIZE:
            raise MalformedNote(place=place, reason=_("the root is 32 bytes"))
        return cls(lines[0], size, root, tuple(lines[3:]))


def check_cosignature(text: str, key: VerifierKey, signature: bytes) -> int:
    """When a witness cosigned (tlog-cosignature, "Ed25519 signed message").

    Args:
        text: of the checkpoint.
        key: the witness's, of type `COSIGNATURE_V1`.
        signature: 72 bytes: what follows the key id in the witness's line.

    Returns:
        seconds since 1970.

    Raises:
        NotAuthentic: the key did not make it for this text.
    """
    if key.type != COSIGNATURE_V1 or len(signature) != COSIGNATURE_SIZE:
        raise NotAuthentic
    time = int.from_bytes(signature[:8])
    if time >= _LIMIT:
        raise NotAuthentic
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    signing.verify(key.public, signature[8:], message)
    return time


def iter_notes(data: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    """The notes of a file of checkpoints, in their order (docs/log-format.md section 1).

    There, one empty line follows each note, and the text of none has one. Bytes that keep neither
    rule give pieces that no decoder takes for a checkpoint; none are left out.

    Args:
        data: the file, or what follows a note and its empty line.

    Yields:
        where the note begins and its bytes. The next one begins one byte after its end; what
        stands from there on after the last one is cut off.
    """
    start = 0
    while True:
        signatures = data.find(b"\n\n", start)
        end = data.find(b"\n\n", signatures + 2) if signatures >= 0 else -1
        if end < 0:
            return
        yield start, bytes(data[start : end + 1])
        start = end + 2
