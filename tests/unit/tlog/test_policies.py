"""Policies: every rule of c2sp.org/tlog-policy."""

from __future__ import annotations

from typing import Any

import pytest

from encvault.crypto import signing
from encvault.errors import ForgedNote, MalformedPolicy, QuorumMissing, UnknownSigner
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.notes import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    sign_note,
)
from encvault.tlog.policies import MAX_LOGS, Group, Policy, Witness

ORIGIN = "example.com/log"
TEXT = Checkpoint(ORIGIN, 7, bytes(32)).text
LOG_SEED = b"l" * 32
LOG = VerifierKey(ORIGIN, ED25519, signing.public_key(LOG_SEED))
OTHER = VerifierKey("other.example", ED25519, signing.public_key(b"o" * 32))
SEEDS = [bytes([number]) * 32 for number in range(6)]
KEYS = [
    VerifierKey(f"w{number}.example", COSIGNATURE_V1, signing.public_key(seed))
    for number, seed in enumerate(SEEDS)
]
NAMES = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]

# the example of the specification, with keys
EXAMPLE = "\n".join(
    [
        f"log {LOG.encode()}",
        "",
        *(f"witness {name} {key.encode()}" for name, key in zip(NAMES, KEYS, strict=True)),
        "group X-witnesses 2 X1 X2 X3",
        "",
        "group Y-witnesses any Y1 Y2 Y3",
        "",
        "group X-and-Y all X-witnesses Y-witnesses",
        "quorum X-and-Y",
        "",
    ]
).encode()


def policy(*lines: str) -> Policy:
    return Policy.decode("".join(f"{line}\n" for line in lines).encode(), "x")


def cosigned(*which: int) -> Note:
    """A checkpoint of the log with cosignatures, made by the words of tlog-cosignature."""
    lines = []
    for number in which:
        message = f"cosignature/v1\ntime 5\n{TEXT}".encode()
        signature = (5).to_bytes(8) + signing.sign(SEEDS[number], message)
        lines.append(NoteSignature(KEYS[number].name, KEYS[number].key_id, signature))
    return Note(TEXT, (*sign_note(TEXT, ORIGIN, LOG_SEED).signatures, *lines))


# -- reading --------------------------------------------------------------------------------


def test_the_example() -> None:
    found = Policy.decode(EXAMPLE, "x")
    assert found == Policy(
        (LOG,),
        tuple(map(Witness, NAMES, KEYS)),
        (
            Group("X-witnesses", 2, ("X1", "X2", "X3")),
            Group("Y-witnesses", 1, ("Y1", "Y2", "Y3")),
            Group("X-and-Y", 2, ("X-witnesses", "Y-witnesses")),
        ),
        "X-and-Y",
    )
    assert Policy.decode(found.encode(), "x") == found


def test_a_policy_of_logs_only() -> None:
    data = f"log {LOG.encode()}\nlog {OTHER.encode()}\nquorum none\n".encode()
    found = Policy.decode(data, "x")
    assert found == Policy((LOG, OTHER))
    assert found.encode() == data


def test_what_may_be_written_otherwise() -> None:
    """White space, comments, addresses, any order, and names that are not UTF-8."""
    text = (
        b" \t# \xff comment\n\n \t \n"
        b"\twitness  \xff\xc2\xa0w\t%s https://w.example/\xff \n"
        b"quorum \xff\xc2\xa0w\nlog %s https://l.example/\nwitness any %s\n"
    ) % tuple(key.encode().encode() for key in (KEYS[0], LOG, KEYS[1]))
    found = Policy.decode(text, "x")
    name = b"\xff\xc2\xa0w".decode(errors="surrogateescape")
    assert found == Policy((LOG,), (Witness(name, KEYS[0]), Witness("any", KEYS[1])), (), name)
    assert Policy.decode(found.encode(), "x") == found


def test_none_is_enough() -> None:
    assert policy("quorum none") == Policy(())


W0, W1, L0 = f"witness A {KEYS[0].encode()}", f"witness B {KEYS[1].encode()}", f"log {LOG.encode()}"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "the last line has no end"),
        (["# nothing"], "there is no quorum line"),
        ([L0], "there is no quorum line"),
        (["quorum none", "quorum none"], "line 2: a second quorum"),
        (["quorum"], "line 1: a quorum has one name"),
        (["quorum none none"], "line 1: a quorum has one name"),
        (["quorum A", W0], "line 1: a name that no line above defines"),
        (["", "Log x"], "line 2: neither log, witness, group nor quorum"),
        (["log"], "line 1: a log has a key and at most an address"),
        ([L0 + " a b"], "line 1: a log has a key and at most an address"),
        ([L0, L0], "line 2: the key of a log above"),
        (
            [L0, f"log {VerifierKey('n', ED25519, LOG.public).encode()}"],
            "line 2: the key of a log above",
        ),
        (["log x"], "line 1: an unknown type of key"),
        (["log a+b+c"], "line 1: not base64"),
        ([f"log {KEYS[0].encode()}"], "line 1: a key of a type that this line does not take"),
        ([f"witness A {LOG.encode()}"], "line 1: a key of a type that this line does not take"),
        (["witness A"], "line 1: a witness has a name, a key and at most an address"),
        ([W0 + " a b"], "line 1: a witness has a name, a key and at most an address"),
        ([W0, W0.replace(" A ", " B ")], "line 2: the key of a witness above"),
        ([W0, W1.replace(" B ", " A ")], "line 2: a name that is taken"),
        ([W0.replace(" A ", " none ")], "line 1: a name that is taken"),
        ([W0, "group A 1 A"], "line 2: a name that is taken"),
        ([W0, "group none 1 A"], "line 2: a name that is taken"),
        ([W0, "group G 1"], "line 2: a group has a name, a number and members"),
        ([W0, "group G"], "line 2: a group has a name, a number and members"),
        ([W0, "group G 0 A"], "line 2: the number of members that a group needs"),
        ([W0, "group G 2 A"], "line 2: the number of members that a group needs"),
        ([W0, "group G 01 A"], "line 2: the number of members that a group needs"),
        ([W0, "group G +1 A"], "line 2: the number of members that a group needs"),
        ([W0, f"group G {'1' * 5000} A"], "line 2: the number of members that a group needs"),
        ([W0, "group G ALL A"], "line 2: the number of members that a group needs"),
        ([W0, "group G 1 none"], "line 2: a name that no line above defines"),
        ([W0, "group G 1 G"], "line 2: a name that no line above defines"),
        ([W0, "group G 1 B", W1], "line 2: a name that no line above defines"),
        ([W0, "group G 1 A A"], "line 2: a name that is a member already"),
        ([W0, "group G 1 A", "group H 1 A"], "line 3: a name that is a member already"),
        (["# a\r"], "a control character"),
        (["# \0"], "a control character"),
        (["# \x7f"], "a control character"),
        (["#" * (1 << 20)], "more than 1 MiB"),
    ],
)
def test_a_malformed_policy(lines: list[str], reason: str) -> None:
    with pytest.raises(MalformedPolicy) as caught:
        policy(*lines)
    assert caught.value.reason == reason
    assert caught.value.exit_code == 78


def test_the_last_line_must_end() -> None:
    with pytest.raises(MalformedPolicy, match="the last line has no end"):
        Policy.decode(b"quorum none", "x")


def test_a_key_name_must_be_utf_8() -> None:
    data = LOG.encode().encode().replace(b"example", b"\xff")
    with pytest.raises(MalformedPolicy, match="line 1: its name"):
        Policy.decode(b"log " + data + b"\nquorum none\n", "x")


def test_a_mebibyte_and_sixteen_thousand_logs_at_most() -> None:
    keys = tuple(VerifierKey("n", ED25519, number.to_bytes(32)) for number in range(MAX_LOGS + 1))
    assert len(Policy.decode(Policy(keys[:-1]).encode(), "x").logs) == 16_384
    with pytest.raises(MalformedPolicy, match="line 16385: more than 16,384 logs"):
        Policy.decode(Policy(keys).encode(), "x")
    filler = b"#" * ((1 << 20) - 13) + b"\n"
    assert Policy.decode(filler + b"quorum none\n", "x") == Policy(())


# -- checking -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "enough"),
    [
        ((), False),
        ((0, 1), False),
        ((0, 3, 4, 5), False),
        ((0, 1, 3), True),
        ((1, 2, 5), True),
        ((0, 0, 3), False),
        ((0, 1, 2, 3, 4, 5), True),
    ],
)
def test_the_quorum_of_the_example(which: tuple[int, ...], enough: Any) -> None:
    note = cosigned(*which)
    example = Policy.decode(EXAMPLE, "x")
    assert example.log_key(note, "x") == LOG
    if enough:
        assert example.check(note, "x") == LOG
    else:
        with pytest.raises(QuorumMissing) as caught:
            example.check(note, "x")
        assert caught.value.exit_code == 77


def test_one_witness_as_quorum() -> None:
    found = policy(L0, W0, W1, "quorum B")
    assert found.check(cosigned(1), "x") == LOG
    with pytest.raises(QuorumMissing):
        found.check(cosigned(0), "x")


def test_no_quorum() -> None:
    assert policy(L0, W0, "quorum none").check(cosigned(), "x") == LOG
    assert Policy((OTHER, LOG)).check(cosigned(5), "x") == LOG


def test_a_forged_cosignature_rejects_the_note_even_if_it_is_not_needed() -> None:
    note = cosigned(1)
    forged = NoteSignature(KEYS[0].name, KEYS[0].key_id, bytes(72))
    found = policy(L0, W0, W1, "quorum B")
    with pytest.raises(ForgedNote) as caught:
        found.check(Note(note.text, (*note.signatures, forged)), "x")
    assert caught.value.name == KEYS[0].name


def test_a_log_signature_is_no_cosignature() -> None:
    signature = signing.sign(SEEDS[0], TEXT.encode())
    note = cosigned()
    line = NoteSignature(KEYS[0].name, KEYS[0].key_id, signature)
    with pytest.raises(ForgedNote):
        policy(L0, W0, "quorum A").check(Note(TEXT, (*note.signatures, line)), "x")


def test_only_keys_of_the_origin_count() -> None:
    """A log that is accepted for its own checkpoints cannot vouch for another's."""
    theirs = sign_note(TEXT, OTHER.name, b"o" * 32)
    with pytest.raises(UnknownSigner):
        Policy((LOG, OTHER)).check(theirs, "x")
    both = Note(TEXT, (*theirs.signatures, *cosigned().signatures))
    assert Policy((LOG, OTHER)).check(both, "x") == LOG


def test_an_unknown_log() -> None:
    with pytest.raises(UnknownSigner):
        Policy((OTHER,)).log_key(cosigned(), "x")


def test_a_forged_checkpoint() -> None:
    note = Note(TEXT.replace("\n7\n", "\n8\n"), cosigned().signatures)
    with pytest.raises(ForgedNote):
        Policy((LOG,)).check(note, "x")


def test_a_second_key_of_the_log_may_sign_too() -> None:
    later = VerifierKey(ORIGIN, ED25519, signing.public_key(b"m" * 32))
    lines = (*sign_note(TEXT, ORIGIN, b"m" * 32).signatures, *cosigned().signatures)
    assert Policy((LOG, later)).log_key(Note(TEXT, lines), "x") == later
