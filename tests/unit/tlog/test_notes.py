"""Notes and verifier keys: every rule of c2sp.org/signed-note."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from encvault.crypto import signing
from encvault.errors import ForgedNote, MalformedNote, MalformedVerifierKey, UnknownSigner
from encvault.tlog.notes import (
    COSIGNATURE_V1,
    ED25519,
    KeyRing,
    Note,
    NoteSignature,
    VerifierKey,
    sign_note,
)

NAME = "example.com/log"
SEED = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
KEY = VerifierKey(NAME, ED25519, PUBLIC)
TEXT = "first\n\nthird\n"
NOTE = sign_note(TEXT, NAME, SEED)
GOOD = b"A" * 16  # base64 of twelve zero bytes


def line(name: str = "n", signature: bytes = GOOD) -> bytes:
    return f"— {name} ".encode() + signature + b"\n"


# -- keys -----------------------------------------------------------------------------------


def test_a_key_id_is_that_of_the_specification() -> None:
    for kind in (ED25519, COSIGNATURE_V1):
        hashed = NAME.encode() + b"\x0a" + bytes([kind]) + PUBLIC
        key = VerifierKey(NAME, kind, PUBLIC)
        assert key.key_id == hashlib.sha256(hashed).digest()[:4]
        text = f"{NAME}+{key.key_id.hex()}+{base64.b64encode(bytes([kind]) + PUBLIC).decode()}"
        assert key.encode() == text
        assert VerifierKey.decode(text, "x") == key


def vkey(kind: int, public: bytes, name: str = NAME) -> str:
    data = bytes([kind]) + public
    key_id = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "its name"),
        (vkey(1, PUBLIC, name=""), "its name"),
        (vkey(1, PUBLIC, name="a b"), "its name"),
        (vkey(1, PUBLIC, name="a\u3000b"), "its name"),
        (vkey(1, PUBLIC, name="a\x1fb"), "its name"),
        (vkey(1, PUBLIC, name="a\x01b"), "its name"),
        (f"a\udc80+00000000+{vkey(1, PUBLIC).rpartition('+')[2]}", "its name"),
        (vkey(2, PUBLIC), "an unknown type of key"),
        (vkey(6, bytes(1312)), "an unknown type of key"),
        (f"{NAME}+00000000+", "an unknown type of key"),
        (NAME, "an unknown type of key"),
        (vkey(1, PUBLIC[:-1]), "the length of its public key"),
        (vkey(4, PUBLIC + b"x"), "the length of its public key"),
        (vkey(1, PUBLIC).replace(KEY.key_id.hex(), "00000000"), "its key id"),
        (vkey(1, PUBLIC).replace(KEY.key_id.hex(), KEY.key_id.hex().upper()), "its key id"),
        (vkey(1, PUBLIC)[:-1], "not base64"),
        (vkey(1, PUBLIC) + "\n", "not base64"),
        (vkey(1, PUBLIC) + "é", "not base64"),
    ],
)
def test_a_malformed_key(text: str, reason: str) -> None:
    with pytest.raises(MalformedVerifierKey) as caught:
        VerifierKey.decode(text, "x")
    assert caught.value.reason == reason
    assert caught.value.exit_code == 78


def test_a_key_has_one_spelling() -> None:
    """33 bytes leave no unused bits in base64, so only the key id can be written otherwise."""
    text = base64.b64encode(b"\1" + PUBLIC)
    assert len(text) == 44
    assert not text.endswith(b"=")


# -- the form of notes ------------------------------------------------------------------------


def test_a_note_is_what_the_specification_says() -> None:
    signature = Ed25519PrivateKey.from_private_bytes(SEED).sign(TEXT.encode())
    text = base64.b64encode(KEY.key_id + signature).decode()
    assert NOTE.encode() == f"{TEXT}\n— {NAME} {text}\n".encode()
    assert Note.decode(NOTE.encode(), "x") == NOTE
    assert sign_note(TEXT, NAME, bytearray(SEED), PUBLIC) == NOTE


@pytest.mark.parametrize(
    "data",
    [
        b"\n\n" + line(),
        b"a\n\n" + line() * 100,
        "报价\n\n".encode() + line("日志.example"),
        b"a\n\n" + line(signature=base64.b64encode(bytes(5))),
        b"a\n\n\n" + line(),
        b"\x7f\n\n" + line(),
        b"a\n\n" + line() + b"\n" + line(),
        b"a" * (65_536 - 2 - len(line())) + b"\n\n" + line(),
    ],
)
def test_unusual_notes(data: bytes) -> None:
    note = Note.decode(data, "x")
    assert note.encode() == data
    assert note.text.encode() == data[: data.rindex(b"\n\n") + 1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a" * (65_536 - 1 - len(line())) + b"\n\n" + line(), "more than 65,536 bytes"),
        (b"\xff\n\n" + line(), "not UTF-8"),
        (b"\xed\xb2\x80\n\n" + line(), "not UTF-8"),
        (b"\xef\xbb\xbf\xc0\x80\n\n" + line(), "not UTF-8"),
        (b"a\tb\n\n" + line(), "a control character"),
        (b"a\r\n\n" + line(), "a control character"),
        (b"a\0\n\n" + line(), "a control character"),
        (b"", "no signature lines below an empty line"),
        (b"\n" + line(), "no signature lines below an empty line"),
        (b"a\n" + line(), "no signature lines below an empty line"),
        (b"a\n\n", "no signature lines below an empty line"),
        (b"a\n\n" + line()[:-1], "no signature lines below an empty line"),
        (b"a\n\n" + line() + b"\n", "no signature lines below an empty line"),
        (b"a\n\n" + line() * 101, "more than 100 signatures"),
        (b"a\n\n" + line() + b"b\n", "a line that is no signature line"),
        (b"a\n\n- n " + GOOD + b"\n", "a line that is no signature line"),
        ("a\n\n—n ".encode() + GOOD + b"\n", "a line that is no signature line"),
        (b"a\n\n" + line(""), "a line that is no signature line"),
        (b"a\n\n" + line("a+b"), "a line that is no signature line"),
        (b"a\n\n" + line("a\u2003b"), "a line that is no signature line"),
        (b"a\n\n" + line("a\u0085b"), "a line that is no signature line"),
        (b"a\n\n" + line("a b"), "not base64"),
        (b"a\n\n" + line(signature=b" " + GOOD), "not base64"),
        (b"a\n\n" + line(signature=GOOD + b" "), "not base64"),
        (b"a\n\n" + line(signature=GOOD[:-1]), "not base64"),
        (b"a\n\n" + line(signature=GOOD[:-1] + b"-"), "not base64"),
        (b"a\n\n" + line(signature=b"AAAAAAB="), "not in its one encoding"),
        (b"a\n\n" + line(signature=b""), "a signature that is too short"),
        (b"a\n\n" + line(signature=b"AAAAAA=="), "a signature that is too short"),
    ],
)
def test_a_malformed_note(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedNote) as caught:
        Note.decode(data, "x")
    assert caught.value.reason == reason
    assert caught.value.exit_code == 65


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("no end", NAME),
        ("", NAME),
        ("a\tb\n", NAME),
        ("a\n", "two words"),
        ("a\n", ""),
        ("\udc80\n", NAME),
        ("a\n\n— n " + GOOD.decode(), NAME),  # would be read as a note of two signatures
        ("a" * 65_536 + "\n", NAME),
    ],
)
def test_what_no_note_can_have_is_not_signed(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"no note can have|surrogates not allowed"):
        sign_note(text, name, SEED)


# -- verifying --------------------------------------------------------------------------------


def both(*others: NoteSignature) -> Note:
    return Note(TEXT, (*others, *NOTE.signatures))


def test_a_known_key() -> None:
    assert NOTE.check([KEY], "x") == [KEY]
    assert NOTE.check(KeyRing([KEY]), "x") == [KEY]


def test_unknown_lines_are_ignored() -> None:
    """Another name with this key id, and another key id with this name, are other keys."""
    strange = (
        NoteSignature("other.example", KEY.key_id, bytes(64)),
        NoteSignature(NAME, b"\0\0\0\0", bytes(64)),
    )
    assert both(*strange).check([KEY], "x") == [KEY]


def test_a_key_of_another_type_is_not_known_here() -> None:
    """Or a witness's key would sign texts without a time."""
    witness = VerifierKey(NAME, COSIGNATURE_V1, PUBLIC)
    line = NoteSignature(NAME, witness.key_id, signing.sign(SEED, TEXT.encode()))
    with pytest.raises(UnknownSigner):
        Note(TEXT, (line,)).check([witness], "x")
    assert both(line).check([witness, KEY], "x") == [KEY]


def test_a_note_of_nobody_known() -> None:
    stranger = VerifierKey("other.example", ED25519, PUBLIC)
    with pytest.raises(UnknownSigner) as caught:
        NOTE.check([stranger], "x")
    assert caught.value.exit_code == 77
    with pytest.raises(UnknownSigner):
        NOTE.check([], "x")


@pytest.mark.parametrize("position", [0, 1])
def test_one_forged_line_of_a_known_key_rejects_the_note(position: int) -> None:
    lines = [NOTE.signatures[0], NoteSignature(NAME, KEY.key_id, bytes(64))]
    note = Note(TEXT, tuple(lines[position:] + lines[:position]))
    with pytest.raises(ForgedNote) as caught:
        note.check([KEY], "x")
    assert caught.value.exit_code == 65
    assert caught.value.name == NAME


def test_a_signature_of_another_text() -> None:
    with pytest.raises(ForgedNote):
        Note(TEXT + "more\n", NOTE.signatures).check([KEY], "x")


@pytest.mark.parametrize("size", [1, 63, 65, 72])
def test_a_signature_of_another_length(size: int) -> None:
    with pytest.raises(ForgedNote):
        Note(TEXT, (NoteSignature(NAME, KEY.key_id, bytes(size)),)).check([KEY], "x")


def test_several_signers_in_the_order_of_their_lines_each_once() -> None:
    other = VerifierKey("other.example", ED25519, signing.public_key(b"o" * 32))
    mine = NOTE.signatures[0]
    theirs = sign_note(TEXT, "other.example", b"o" * 32).signatures[0]
    note = Note(TEXT, (theirs, mine, theirs, mine))
    assert note.check([KEY, other], "x") == [other, KEY]


class Collision(KeyRing):
    """A ring in which two keys have one name and key id, which is too rare to search for."""

    def find(self, name: str, key_id: bytes) -> list[VerifierKey]:
        other = VerifierKey(NAME, ED25519, signing.public_key(b"o" * 32))
        return [other, *super().find(name, key_id)]


def test_of_keys_with_one_name_and_id_one_must_have_signed() -> None:
    assert NOTE.check(Collision([KEY]), "x") == [KEY]
    with pytest.raises(ForgedNote):
        Note("else\n", NOTE.signatures).check(Collision([KEY]), "x")


def test_a_ring_keeps_keys_that_collide() -> None:
    twin = VerifierKey(NAME, ED25519, PUBLIC)
    assert KeyRing([KEY, twin]).find(NAME, KEY.key_id) == [KEY, twin]
    assert KeyRing([KEY]).find(NAME, b"\0\0\0\0") == []
