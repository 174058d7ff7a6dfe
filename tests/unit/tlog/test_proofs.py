"""Proofs in files: every rule of c2sp.org/tlog-proof."""

from __future__ import annotations

import base64

import pytest

from encvault.crypto import signing
from encvault.errors import (
    EncvaultError,
    MalformedNote,
    MalformedProof,
    ProofWrong,
    QuorumMissing,
    UnknownSigner,
)
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.merkle import leaf_hash, node_hash
from encvault.tlog.notes import COSIGNATURE_V1, ED25519, VerifierKey, sign_note
from encvault.tlog.policies import Policy, Witness
from encvault.tlog.proofs import LogProof

ORIGIN = "example.com/log"
SEED = b"l" * 32
KEY = VerifierKey(ORIGIN, ED25519, signing.public_key(SEED))
POLICY = Policy((KEY,))
ENTRIES = [b"a", b"b", b"c"]
A, B, C = map(leaf_hash, ENTRIES)
ROOT = node_hash(node_hash(A, B), C)
NOTE = sign_note(Checkpoint(ORIGIN, 3, ROOT).text, ORIGIN, SEED).encode()
PROOF = LogProof(1, (A, C), NOTE, b"b")


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def test_a_proof_is_what_the_specification_says() -> None:
    data = b"c2sp.org/tlog-proof@v1\nextra %s\nindex 1\n%s\n%s\n\n%s" % (
        b64(b"b"),
        b64(A),
        b64(C),
        NOTE,
    )
    assert PROOF.encode() == data
    assert LogProof.decode(data, "x") == PROOF


@pytest.mark.parametrize(
    "proof",
    [
        LogProof(0, (), NOTE),
        LogProof(0, (), NOTE, b""),
        LogProof((1 << 63) - 1, (ROOT,) * 63, NOTE),
        LogProof(7, (ROOT,) * 63, NOTE, bytes(65_535)),
    ],
)
def test_unusual_proofs(proof: LogProof) -> None:
    assert LogProof.decode(proof.encode(), "x") == proof


def test_an_entry_of_the_largest_size_fits_beside_the_largest_checkpoint() -> None:
    text = Checkpoint(ORIGIN, 3, ROOT, ("x" * 65_000,)).text
    note = sign_note(text, ORIGIN, SEED).encode()
    proof = LogProof(7, (ROOT,) * 63, note, bytes(65_535))
    assert len(proof.encode()) < 163_840
    assert LogProof.decode(proof.encode(), "x") == proof


HEAD = b"c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"c2sp.org/tlog-proof@v2\nindex 0\n", "its first line, or no checkpoint"),
        (b" " + HEAD + b"index 0\n", "its first line, or no checkpoint"),
        (HEAD + b"index \xff\n", "not ASCII"),
        (HEAD, "its index line"),
        (HEAD + b"extra AAAA\n", "its index line"),
        (HEAD + b"index\n", "its index line"),
        (HEAD + b"index 00\n", "its index line"),
        (HEAD + b"index 1 \n", "its index line"),
        (HEAD + b"index  1\n", "its index line"),
        (HEAD + b"index -1\n", "its index line"),
        (HEAD + b"index 9223372036854775808\n", "its index line"),
        (HEAD + b"Index 1\n", "its index line"),
        (HEAD + b"index 1\r\n", "its index line"),
        (HEAD + b"index 0\nextra AAAA\n", "not base64"),
        (HEAD + b"extra AAAA\nextra AAAA\nindex 0\n", "not base64"),
        (HEAD + b"extra AAA\nindex 0\n", "not base64"),
        (HEAD + b"extra AAB=\nindex 0\n", "not canonical base64"),
        (HEAD + b"index 0\n" + b64(A)[:-1] + b"\n", "not base64"),
        (HEAD + b"index 0\n" + b64(bytes(31)) + b"\n", "at most 63 hashes of 32 bytes"),
        (HEAD + b"index 0\n" + b64(bytes(33)) + b"\n", "at most 63 hashes of 32 bytes"),
        (HEAD + b"index 0\n" + (b64(A) + b"\n") * 64, "at most 63 hashes of 32 bytes"),
        (HEAD + b"extra " + b"AAAA" * 40_960 + b"\nindex 0\n", "more than 163,840 bytes"),
    ],
)
def test_a_malformed_proof(head: bytes, reason: str) -> None:
    with pytest.raises(MalformedProof) as caught:
        LogProof.decode(head + b"\n" + NOTE, "x")
    assert caught.value.reason == reason
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"index 0\n"])
def test_a_proof_without_a_checkpoint(data: bytes) -> None:
    with pytest.raises(MalformedProof):
        LogProof.decode(data, "x")


@pytest.mark.parametrize(
    "note", [b"", b"\n" + NOTE, NOTE[:-1], sign_note("a\n", "n", SEED).encode()]
)
def test_a_checkpoint_that_is_none(note: bytes) -> None:
    with pytest.raises(MalformedNote):
        LogProof.decode(HEAD + b"index 0\n\n" + note, "x")


# -- checking -------------------------------------------------------------------------------


def test_a_proof_holds() -> None:
    checkpoint, key = PROOF.check(b"b", POLICY, "x")
    assert checkpoint == Checkpoint(ORIGIN, 3, ROOT)
    assert key == KEY


@pytest.mark.parametrize(
    ("proof", "entry"),
    [
        (PROOF, b"a"),
        (LogProof(0, (A, C), NOTE), b"b"),
        (LogProof(3, (A, C), NOTE), b"b"),
        (LogProof(1, (A,), NOTE), b"b"),
        (LogProof(1, (C, A), NOTE), b"b"),
    ],
)
def test_a_wrong_proof(proof: LogProof, entry: bytes) -> None:
    with pytest.raises(ProofWrong) as caught:
        proof.check(entry, POLICY, "x")
    assert caught.value.exit_code == 65


def test_the_extra_is_not_trusted() -> None:
    """It may be anything: only the entry given is looked for."""
    assert LogProof(1, (A, C), NOTE, b"else").check(b"b", POLICY, "x")[1] == KEY


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(()), UnknownSigner),
        (
            Policy((KEY,), (Witness("w", VerifierKey("w", COSIGNATURE_V1, bytes(32))),), (), "w"),
            QuorumMissing,
        ),
    ],
)
def test_a_proof_that_the_policy_does_not_take(
    policy: Policy, expected: type[EncvaultError]
) -> None:
    with pytest.raises(expected):
        PROOF.check(b"b", policy, "x")


def test_a_hint_says_what_to_do() -> None:
    assert ProofWrong(place="x").hint
    assert QuorumMissing(place="x").hint
