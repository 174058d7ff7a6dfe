"""Proofs that can be checked without the log: c2sp.org/tlog-proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic
from encvault.encoding import decode_base64, encode_base64
from encvault.errors import MalformedProof, ProofWrong
from encvault.i18n import _
from encvault.tlog.checkpoints import Checkpoint, decode_decimal
from encvault.tlog.merkle import HASH_SIZE, check_inclusion, leaf_hash
from encvault.tlog.notes import MAX_NOTE_SIZE, Note

if TYPE_CHECKING:
    from encvault.tlog.notes import VerifierKey
    from encvault.tlog.policies import Policy

MAX_HASHES = 63  # a tree of fewer than 2 to the 63 entries is no higher
# A checkpoint, and as much again for the rest: an entry of 65,535 bytes in base64 has 87,380.
MAX_PROOF_SIZE = 98_304 + MAX_NOTE_SIZE

_FIRST_LINE = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class LogProof:
    """That a log has an entry (tlog-proof, "Format").

    Attributes:
        index: of the entry, from 0, below 2 to the 63.
        hashes: the inclusion proof, 32 bytes each, the leaf's sibling first; at most 63.
        checkpoint: the signed note, byte for byte.
        extra: for the application, not authenticated by itself; None if there is none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The bytes of a ``.tlog-proof`` file."""
        lines = [_FIRST_LINE]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(map(encode_base64, self.hashes))
        return "\n".join((*lines, "", "")).encode() + self.checkpoint

    @classmethod
    def decode(cls, data: bytes, place: str) -> LogProof:
        """The proof of exactly these bytes. Nothing is verified.

        Args:
            data: at most 163,840 bytes.
            place: where it is from, for messages.

        Raises:
            MalformedProof: a rule of tlog-proof, "Format", is broken.
            MalformedNote: what stands below the proof is no checkpoint.
        """
        if len(data) > MAX_PROOF_SIZE:
            raise MalformedProof(place=place, reason=_("more than 163,840 bytes"))
        head, blank, checkpoint = data.partition(b"\n\n")
        try:
            first, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise MalformedProof(place=place, reason=_("not ASCII")) from None
        if first != _FIRST_LINE or not blank:
            raise MalformedProof(place=place, reason=_("its first line, or no checkpoint"))
        Checkpoint.decode(Note.decode(checkpoint, place).text, place)
        try:
            extra = None
            if lines and lines[0].startswith("extra "):
                extra = decode_base64(lines.pop(0).removeprefix("extra "))
            word, _space, number = lines.pop(0).partition(" ") if lines else ("", "", "")
            hashes = tuple(map(decode_base64, lines))
        except ValueError as error:
            raise MalformedProof(place=place, reason=_(str(error))) from None
        index = decode_decimal(number)
        if word != "index" or index is None:
            raise MalformedProof(place=place, reason=_("its index line"))
        if len(hashes) > MAX_HASHES or any(len(item) != HASH_SIZE for item in hashes):
            raise MalformedProof(place=place, reason=_("at most 63 hashes of 32 bytes"))
        return cls(index, hashes, checkpoint, extra)

    def check(self, entry: bytes, policy: Policy, place: str) -> tuple[Checkpoint, VerifierKey]:
        """Return if the log has `entry` (tlog-proof, "Verifying a tlog proof").

        Args:
            entry: the bytes whose leaf hash is to be in the tree.
            policy: whose signatures are needed.
            place: where the proof is from, for messages.

        Returns:
            the checkpoint, and the log's key that signed it. Whether a key of its time could
            vouch for such an entry is for the caller (docs/log-format.md section 9).

        Raises:
            MalformedNote: there is no checkpoint in it.
            UnknownSigner, ForgedNote, QuorumMissing: the checkpoint does not fulfil the policy.
            ProofWrong: the entry is not at this index of the tree.
        """
        note = Note.decode(self.checkpoint, place)
        checkpoint = Checkpoint.decode(note.text, place)
        key = policy.check(note, place)
        try:
            check_inclusion(
                leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root
            )
        except NotAuthentic:
            raise ProofWrong(place=place) from None
        return checkpoint, key
