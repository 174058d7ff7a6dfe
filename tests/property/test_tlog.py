"""Whatever is changed in a note, checkpoint, proof or key: it never passes for the original."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st

from encvault.crypto import NotAuthentic, signing
from encvault.errors import EncvaultError, MalformedVerifierKey
from encvault.tlog.checkpoints import Checkpoint, iter_notes
from encvault.tlog.merkle import (
    Frontier,
    Node,
    check_consistency,
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    tree_root,
)
from encvault.tlog.notes import ED25519, KeyRing, Note, VerifierKey, sign_note
from encvault.tlog.policies import Policy
from encvault.tlog.proofs import LogProof

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED = b"s" * 32
ORIGIN = "example.com/日志"
KEY = VerifierKey(ORIGIN, ED25519, signing.public_key(SEED))
RING = KeyRing([KEY])
ENTRIES = [b"%d" % index for index in range(100)]


def mth(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


def read(nodes: Sequence[Node]) -> list[bytes]:
    return [mth(ENTRIES[index << level : (index + 1) << level]) for level, index in nodes]


SIZE = 77
INDEX = 70
NOTE = sign_note(Checkpoint(ORIGIN, SIZE, mth(ENTRIES[:SIZE])).text, ORIGIN, SEED)
PROOF = LogProof(INDEX, tuple(prove_inclusion(INDEX, SIZE, read)), NOTE.encode(), ENTRIES[INDEX])
POLICY = Policy((KEY,))
POLICY_FILE = b"# keys\n" + POLICY.encode()


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with one byte flipped, inserted, deleted, doubled, or with an end cut or added."""
    at = draw(st.integers(0, len(data) - 1))
    kind = draw(st.sampled_from(["flip", "insert", "delete", "double", "cut", "append"]))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if kind == "insert":
        piece = draw(st.binary(min_size=1, max_size=2) | st.sampled_from([b"\n", b" ", b"=", b"+"]))
        return data[:at] + piece + data[at:]
    if kind == "delete":
        return data[:at] + data[at + 1 :]
    if kind == "double":
        return data[: at + 1] + data[at:]
    if kind == "cut":
        return data[:at]
    return data + draw(st.binary(min_size=1, max_size=3) | st.sampled_from([b"\n", b"\n\n"]))


# -- trees ----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_frontier_in_blocks_is_the_tree_of_the_definition(blocks: list[int]) -> None:
    entries = [b"%d" % index for index in range(sum(blocks))]
    frontier, start = Frontier(), 0
    for size in blocks:
        frontier = frontier.extended([leaf_hash(entry) for entry in entries[start : start + size]])
        start += size
        assert frontier.size == start
        assert frontier.root == mth(entries[:start])


@given(st.data())
def test_a_proof_holds_for_its_own_tree_only(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, len(ENTRIES)))
    old = data.draw(st.integers(1, new))
    index = data.draw(st.integers(0, new - 1))
    roots = mth(ENTRIES[:old]), mth(ENTRIES[:new])
    assert tree_root(new, read) == roots[1]
    inclusion = prove_inclusion(index, new, read)
    consistency = prove_consistency(old, new, read)
    check_inclusion(leaf_hash(ENTRIES[index]), index, new, inclusion, roots[1])
    check_consistency(old, new, *roots, consistency)

    other = data.draw(st.integers(0, len(ENTRIES) - 1).filter(lambda number: number != index))
    with pytest.raises(NotAuthentic):
        check_inclusion(leaf_hash(ENTRIES[index]), other, new, inclusion, roots[1])
    with pytest.raises(NotAuthentic):
        check_inclusion(leaf_hash(ENTRIES[other]), index, new, inclusion, roots[1])
    wrong = bytes([roots[0][0] ^ 1]) + roots[0][1:]
    with pytest.raises(NotAuthentic):
        check_consistency(old, new, wrong, roots[1], consistency)
    with pytest.raises(NotAuthentic):
        check_consistency(old, new, roots[0], wrong, consistency)


# -- encodings ------------------------------------------------------------------------------


@settings(max_examples=400)
@given(damaged(NOTE.encode()))
def test_a_changed_note_never_verifies_as_it_was(data: bytes) -> None:
    if data == NOTE.encode():
        return
    try:
        note = Note.decode(data, "x")
        checkpoint = Checkpoint.decode(note.text, "x")
    except EncvaultError:
        return
    assert note.encode() == data
    assert checkpoint.text == note.text
    with pytest.raises(EncvaultError):
        note.check(RING, "x")


@settings(max_examples=400)
@given(damaged(PROOF.encode()))
def test_a_changed_proof_never_holds_as_it_was(data: bytes) -> None:
    if data == PROOF.encode():
        return
    try:
        proof = LogProof.decode(data, "x")
    except EncvaultError:
        return
    assert proof.encode() == data
    # what is extra is not authenticated: the entry is what the leaf is made of
    entry = ENTRIES[INDEX] if proof.extra is None else proof.extra
    with pytest.raises(EncvaultError):
        proof.check(entry, POLICY, "x")


@settings(max_examples=400)
@given(damaged(KEY.encode().encode()))
def test_a_changed_key_never_verifies(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    if text == KEY.encode():
        return
    try:
        key = VerifierKey.decode(text, "x")
    except MalformedVerifierKey:
        return
    assert key.encode() == text
    with pytest.raises(EncvaultError):
        NOTE.check([key], "x")


@settings(max_examples=400)
@given(damaged(POLICY_FILE))
def test_a_changed_policy_has_no_other_key(data: bytes) -> None:
    """Comments and addresses may differ; the key is protected by its id against accidents only."""
    try:
        policy = Policy.decode(data, "x")
    except EncvaultError:
        return
    assert policy in (POLICY, Policy(()))


@given(st.binary(max_size=300))
def test_random_bytes_are_a_named_error(data: bytes) -> None:
    decoders: list[Any] = [Note.decode, LogProof.decode]
    for decode in decoders:
        with pytest.raises(EncvaultError):
            decode(data, "x")
    with pytest.raises(EncvaultError):
        VerifierKey.decode(data.decode(errors="surrogateescape"), "x")


@given(st.lists(st.integers(0, 5), max_size=6), st.binary(max_size=80))
def test_all_bytes_of_a_file_of_notes_are_in_a_piece_or_at_the_end(
    sizes: list[int], tail: bytes
) -> None:
    notes = [sign_note(Checkpoint(ORIGIN, size, bytes(32)).text, ORIGIN, SEED) for size in sizes]
    data = b"".join(note.encode() + b"\n" for note in notes) + tail
    found, end = [], 0
    for offset, piece in iter_notes(data):
        assert offset == end
        end = offset + len(piece) + 1
        assert data[offset:end] == piece + b"\n"
        found.append(piece)
    assert found[: len(notes)] == [note.encode() for note in notes]
    assert data[end:].count(b"\n\n") < 2
