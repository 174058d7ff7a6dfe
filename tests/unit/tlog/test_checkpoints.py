"""Checkpoints, cosignatures, and the file that holds all checkpoints of a log."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from encvault.crypto import NotAuthentic, signing
from encvault.errors import MalformedNote
from encvault.tlog.checkpoints import Checkpoint, check_cosignature, iter_notes
from encvault.tlog.notes import COSIGNATURE_V1, ED25519, Note, VerifierKey, sign_note

ORIGIN = "example.com/behind-the-sofa"
# the text of the example in c2sp.org/tlog-checkpoint
TEXT = f"{ORIGIN}\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
ROOT = base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
ROOT_LINE = TEXT.split("\n")[2]
SEED = bytes(range(32))
WITNESS = VerifierKey("w.example", COSIGNATURE_V1, signing.public_key(SEED))


@pytest.mark.parametrize(
    ("text", "checkpoint"),
    [
        (TEXT, Checkpoint(ORIGIN, 20_852_163, ROOT)),
        (f"报价 x\n0\n{ROOT_LINE}\n", Checkpoint("报价 x", 0, ROOT)),
        (
            f"o\n9223372036854775807\n{ROOT_LINE}\none\n two \n",
            Checkpoint("o", (1 << 63) - 1, ROOT, ("one", " two ")),
        ),
    ],
)
def test_checkpoints(text: str, checkpoint: Checkpoint) -> None:
    assert Checkpoint.decode(text, "x") == checkpoint
    assert checkpoint.text == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a checkpoint has three lines, none empty"),
        (TEXT[:-1], "a checkpoint has three lines, none empty"),
        ("o\n5\n", "a checkpoint has three lines, none empty"),
        (f"\n5\n{ROOT_LINE}\n", "a checkpoint has three lines, none empty"),
        (f"{TEXT}\n", "a checkpoint has three lines, none empty"),
        (f"{TEXT}\nmore\n", "a checkpoint has three lines, none empty"),
        (f"o\n05\n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n+5\n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n-5\n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n5 \n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n\N{ARABIC-INDIC DIGIT FIVE}\n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n9223372036854775808\n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n{'9' * 5000}\n{ROOT_LINE}\n", "the size of the tree"),
        (f"o\n5\n{ROOT_LINE[:-1]}\n", "not base64"),
        (f"o\n5\n{ROOT_LINE[:-2]}J=\n", "not canonical base64"),
        (f"o\n5\n{base64.b64encode(bytes(31)).decode()}\n", "the root is 32 bytes"),
        (f"o\n5\n{base64.b64encode(bytes(33)).decode()}\n", "the root is 32 bytes"),
    ],
)
def test_a_malformed_checkpoint(text: str, reason: str) -> None:
    with pytest.raises(MalformedNote) as caught:
        Checkpoint.decode(text, "x")
    assert caught.value.reason == reason


# -- cosignatures ---------------------------------------------------------------------------


def cosign(text: str, time: int, written: str | None = None) -> bytes:
    """By the specification, with another implementation of Ed25519's key handling."""
    message = f"cosignature/v1\ntime {written or time}\n{text}".encode()
    signature = Ed25519PrivateKey.from_private_bytes(SEED).sign(message)
    return time.to_bytes(8) + signature


@pytest.mark.parametrize("time", [0, 1_679_315_147, (1 << 63) - 1])
def test_a_cosignature(time: int) -> None:
    assert check_cosignature(TEXT, WITNESS, cosign(TEXT, time)) == time


def test_a_wrong_cosignature() -> None:
    right = cosign(TEXT, 5)
    log = VerifierKey(WITNESS.name, ED25519, WITNESS.public)
    other = VerifierKey(WITNESS.name, COSIGNATURE_V1, signing.public_key(b"o" * 32))
    plain = signing.sign(SEED, TEXT.encode())
    for text, key, signature in [
        (TEXT + "more\n", WITNESS, right),
        (TEXT, log, right),
        (TEXT, other, right),
        (TEXT, WITNESS, (6).to_bytes(8) + right[8:]),
        (TEXT, WITNESS, right[:-1]),
        (TEXT, WITNESS, right + b"x"),
        (TEXT, WITNESS, right[8:]),
        (TEXT, WITNESS, plain),
        (TEXT, WITNESS, (5).to_bytes(8) + plain),
        (TEXT, WITNESS, cosign(TEXT, 5, "05")),
        (TEXT, WITNESS, cosign(TEXT, 1 << 63)),
    ]:
        with pytest.raises(NotAuthentic):
            check_cosignature(text, key, signature)


# -- the file of checkpoints ------------------------------------------------------------------


def note(size: int) -> bytes:
    return sign_note(Checkpoint(ORIGIN, size, ROOT).text, ORIGIN, SEED).encode()


NOTES = [note(size) for size in (1, 22, 333)]
FILE = b"".join(item + b"\n" for item in NOTES)


def test_the_notes_of_a_file() -> None:
    found = list(iter_notes(FILE))
    assert [data for _offset, data in found] == NOTES
    assert [FILE[offset : offset + len(data)] for offset, data in found] == NOTES
    assert list(iter_notes(bytearray(FILE))) == found
    assert list(iter_notes(b"")) == []


def test_a_torn_end_is_not_given() -> None:
    starts = [0]
    for item in NOTES:
        starts.append(starts[-1] + len(item) + 1)
    for size in range(len(FILE) + 1):
        whole = sum(start <= size for start in starts[1:])
        found = list(iter_notes(FILE[:size]))
        assert [data for _offset, data in found] == NOTES[:whole]
        end = found[-1][0] + len(found[-1][1]) + 1 if found else 0
        assert end == starts[whole]


@pytest.mark.parametrize(
    "between", [b"\n", b"\n\n", b"x\n\n", b"\n\n\n", b"x", NOTES[0][:40] + b"\n\n", b"\0\n"]
)
def test_bytes_between_notes_are_never_passed_over(between: bytes) -> None:
    """What is no checkpoint makes a piece that is none, or the torn end."""
    data = NOTES[0] + b"\n" + between + NOTES[1] + b"\n"
    good, end = [], 0
    for offset, piece in iter_notes(data):
        assert offset == end
        end = offset + len(piece) + 1
        try:
            Checkpoint.decode(Note.decode(piece, "x").text, "x")
        except MalformedNote:
            good.append(False)
        else:
            good.append(piece in NOTES)
    assert good[0]
    assert not (all(good) and end == len(data))
