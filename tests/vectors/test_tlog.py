"""Published trees, notes and a checkpoint that public witnesses cosigned; sources are beside."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from encvault.crypto import NotAuthentic
from encvault.errors import QuorumMissing
from encvault.tlog.checkpoints import Checkpoint, check_cosignature
from encvault.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    tree_root,
)
from encvault.tlog.notes import Note, VerifierKey, sign_note
from encvault.tlog.policies import Policy

HERE = Path(__file__).with_name("tlog")
MERKLE = json.loads((HERE / "merkle.json").read_text())
NOTES = json.loads((HERE / "notes.json").read_text())
CHECKPOINT = NOTES["checkpoint"]

LEAVES = [leaf_hash(bytes.fromhex(entry)) for entry in MERKLE["entries"]]
ROOTS = [bytes.fromhex(root) for root in MERKLE["roots"]]


def read(nodes: Any) -> list[bytes]:
    def node(item: Node) -> bytes:
        level, index = item
        if level == 0:
            return LEAVES[index]
        return node_hash(node((level - 1, 2 * index)), node((level - 1, 2 * index + 1)))

    return list(map(node, nodes))


def proof_of(vector: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(item) for item in vector["proof"]]


# -- trees ----------------------------------------------------------------------------------


def test_roots() -> None:
    assert ROOTS[0] == EMPTY_ROOT
    for size, root in enumerate(ROOTS):
        assert tree_root(size, read) == root
        assert Frontier().extended(LEAVES[:size]).root == root


@pytest.mark.parametrize("vector", MERKLE["inclusion"])
def test_inclusion(vector: dict[str, Any]) -> None:
    index, size = vector["index"], vector["size"]
    assert prove_inclusion(index, size, read) == proof_of(vector)
    check_inclusion(LEAVES[index], index, size, proof_of(vector), ROOTS[size])


@pytest.mark.parametrize("vector", MERKLE["consistency"])
def test_consistency(vector: dict[str, Any]) -> None:
    old, new = vector["old"], vector["new"]
    assert prove_consistency(old, new, read) == proof_of(vector)
    check_consistency(old, new, ROOTS[old], ROOTS[new], proof_of(vector))


# -- notes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NOTES["notes"])
def test_notes(vector: dict[str, Any]) -> None:
    keys = [VerifierKey.decode(key, "x") for key in vector["keys"]]
    assert [key.encode() for key in keys] == vector["keys"]
    note = Note.decode(vector["note"].encode(), "x")
    assert note.encode() == vector["note"].encode()
    assert note.check(keys, "x") == keys


def test_signing() -> None:
    """Ed25519 is deterministic, so the published note comes out again."""
    name, _key_id, key = NOTES["seed"]["key"].removeprefix("PRIVATE+KEY+").split("+", 2)
    expected = NOTES["notes"][1]["note"]
    text = expected.partition("\n\n")[0] + "\n"
    assert sign_note(text, name, base64.b64decode(key)[1:]).encode() == expected.encode()


# -- a cosigned checkpoint --------------------------------------------------------------------


def witnessed() -> tuple[Note, VerifierKey, list[VerifierKey]]:
    note = Note.decode(CHECKPOINT["note"].encode(), "x")
    keys = [VerifierKey.decode(key, "x") for key in CHECKPOINT["witnesses"]]
    return note, VerifierKey.decode(CHECKPOINT["log"], "x"), keys


def test_a_checkpoint() -> None:
    note, log, _witnesses = witnessed()
    checkpoint = Checkpoint.decode(note.text, "x")
    assert checkpoint == Checkpoint(
        CHECKPOINT["origin"], CHECKPOINT["size"], base64.b64decode(CHECKPOINT["root"])
    )
    assert checkpoint.text == note.text
    assert note.check([log], "x") == [log]


def test_its_cosignatures() -> None:
    note, _log, witnesses = witnessed()
    lines = {item.name: item.signature for item in note.signatures}
    for key in witnesses:
        assert check_cosignature(note.text, key, lines[key.name]) == CHECKPOINT["time"]
        with pytest.raises(NotAuthentic):
            check_cosignature(note.text.replace("1432088532", "42"), key, lines[key.name])


@pytest.mark.parametrize("threshold", [1, 4])
def test_a_policy_for_it(threshold: int) -> None:
    note, log, witnesses = witnessed()
    names = [f"w{number}" for number in range(len(witnesses))]
    lines = [f"witness {name} {key.encode()}" for name, key in zip(names, witnesses, strict=True)]
    group = f"group some {threshold} {' '.join(names)}"
    text = "\n".join([f"log {log.encode()}", *lines, group, "quorum some", ""])
    policy = Policy.decode(text.encode(), "x")
    assert policy.check(note, "x") == log
    fewer = Note(note.text, note.signatures[:-1])
    if threshold == 1:
        assert policy.check(fewer, "x") == log
    else:
        with pytest.raises(QuorumMissing):
            policy.check(fewer, "x")
