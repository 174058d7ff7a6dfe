"""Keyslots, recipients and identity files: docs/format.md sections 5 and 8."""

from __future__ import annotations

from typing import Any

import pytest

from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.encoding import decode_json, encode_base64, encode_json
from encvault.errors import (
    EmptyPassword,
    MalformedIdentity,
    MalformedRecipient,
    NoMatchingKeyslot,
    UnprovedKeyslot,
    WorkFactorTooLarge,
    WrongIdentityPassword,
)
from encvault.keyslots import (
    IdentityFile,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    bare,
    check_bare,
    check_slots,
    decode_recipient,
    decode_recipient_file,
    describe,
    encode_password,
    encode_recipient,
    fingerprint,
    random_password,
    unwrap_any,
)
from encvault.secret import Secret

SEED = bytes(range(32))
PUBLIC = hpke.public_key(SEED)
PASSWORD = encode_password("correct horse")
SECRET = Secret(bytes(range(100, 132)))


def password_slot() -> dict[str, Any]:
    return PasswordRecipient(PASSWORD, label="me", profile=CHEAPEST).wrap(SECRET)


def recipient_slot() -> dict[str, Any]:
    return PublicKeyRecipient(PUBLIC, label="boss").wrap(SECRET)


def test_each_slot_opens_with_its_own_key_only() -> None:
    slots = check_slots([password_slot(), recipient_slot(), password_slot()], "x")
    assert PasswordIdentity(PASSWORD).unwrap(slots, "x")[:2] == (slots[0]["id"], SECRET)
    assert PasswordIdentity(PASSWORD).unwrap(slots[1:], "x")[:2] == (slots[2]["id"], SECRET)
    assert KeyIdentity(Secret(SEED)).unwrap(slots, "x")[:2] == (slots[1]["id"], SECRET)
    assert PasswordIdentity(encode_password("wrong")).unwrap(slots, "x") is None
    assert KeyIdentity(Secret(bytes(32))).unwrap(slots, "x") is None
    assert KeyIdentity(Secret(SEED)).unwrap(slots[:1], "x") is None


def test_the_first_identity_that_fits_wins_and_none_is_one_error() -> None:
    slots = [recipient_slot()]
    wrong = PasswordIdentity(PASSWORD)
    assert unwrap_any(slots, [wrong, KeyIdentity(Secret(SEED))], "x").secret == SECRET
    with pytest.raises(NoMatchingKeyslot):
        unwrap_any(slots, [wrong], "x")


@pytest.mark.parametrize("member", ["label", "created_at", "id"])
def test_every_member_of_a_slot_is_bound(member: str) -> None:
    for make, identity in (
        (password_slot, PasswordIdentity(PASSWORD)),
        (recipient_slot, KeyIdentity(Secret(SEED))),
    ):
        slot = make()
        new = {"label": "you", "created_at": "2000-01-01T00:00:00Z", "id": "a" * 13}[member]
        assert identity.unwrap([slot | {member: new}], "x") is None


def kdf_with(**changes: Any) -> dict[str, Any]:
    slot = password_slot()
    return slot | {"kdf": slot["kdf"] | changes}


@pytest.mark.parametrize(
    "slot",
    [
        5,
        {},
        password_slot() | {"kind": "magic"},
        password_slot() | {"more": 1},
        password_slot() | {"id": "short"},
        password_slot() | {"id": 5},
        password_slot() | {"label": 5},
        password_slot() | {"label": "x" * 201},
        password_slot() | {"created_at": "yesterday"},
        password_slot() | {"wrapped": encode_base64(bytes(103))},
        password_slot() | {"wrapped": "?"},
        password_slot() | {"kdf": 5},
        kdf_with(name="scrypt"),
        kdf_with(salt=encode_base64(bytes(15))),
        kdf_with(passes=0),
        kdf_with(passes=True),
        kdf_with(lanes="1"),
        kdf_with(more=1),
        recipient_slot() | {"recipient": "x"},
        recipient_slot() | {"recipient": 5},
        recipient_slot() | {"wrapped": encode_base64(bytes(104))},
    ],
)
def test_slots_that_must_be_refused(slot: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_slots([slot], "x")


def test_counts_of_slots_are_bounded() -> None:
    one = password_slot()
    many = [one | {"id": f"{'a' * 11}{chr(97 + n)}a"} for n in range(9)]
    for slots in ([], "x", [one] * 65, many, [one, one]):
        with pytest.raises(ValueError, match=r"."):
            check_slots(slots, "x")


@pytest.mark.parametrize(
    "changes",
    [{"memory_kib": 1 << 30}, {"memory_kib": 2_097_153}, {"passes": 17}, {"memory_kib": 7}],
)
def test_work_above_the_caps_is_refused_before_it_starts(changes: dict[str, int]) -> None:
    with pytest.raises(WorkFactorTooLarge):
        check_slots([kdf_with(**changes)], "x")


def test_what_may_be_shown_of_a_slot() -> None:
    (shown,) = describe([recipient_slot()])
    assert set(shown) == {"id", "kind", "label", "created_at", "fingerprint", "state"}


def test_passwords_are_normalised() -> None:
    assert encode_password("e\u0301") == encode_password("é")
    with pytest.raises(EmptyPassword):
        encode_password("")


def test_recipients_round_trip() -> None:
    text = encode_recipient(PUBLIC)
    assert "\n" not in text
    assert decode_recipient(text, "x") == PUBLIC
    assert decode_recipient_file(f"# boss\n\n{text}\r\n".encode(), "x") == [PUBLIC]


def test_recipients_that_must_be_refused() -> None:
    text = encode_recipient(PUBLIC)
    wrong_key = encode_recipient(b"\xff" * 1184 + bytes(32))
    swapped = text[:40] + ("A" if text[40] != "A" else "B") + text[41:]
    for bad in (
        "",
        "age1abc",
        text[:-1],
        text + "A",
        swapped,
        "encvault1-ä",
        "encvault1-",
        wrong_key,
    ):
        with pytest.raises(MalformedRecipient):
            decode_recipient(bad, "x")
    for data in (b"", b"# nothing\n", b"\xff\xfe", b'{"encvault_identity":1}'):
        with pytest.raises(MalformedRecipient):
            decode_recipient_file(data, "x")


def test_fingerprints_are_grouped() -> None:
    assert len(fingerprint(PUBLIC).split("-")) == 8
    assert fingerprint(PUBLIC) != fingerprint(hpke.public_key(bytes(32)))


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_identity_files_round_trip(password: Secret | None) -> None:
    made = IdentityFile.generate("赵", password, profile=CHEAPEST)
    read = IdentityFile.decode(made.encode(), "x")
    assert read.recipient == made.recipient
    slot = PublicKeyRecipient(read.public).wrap(SECRET)
    assert read.unlock(password, "x").unwrap([slot], "x")[:2] == (slot["id"], SECRET)


def test_a_protected_identity_needs_its_password() -> None:
    made = IdentityFile.generate("me", PASSWORD, profile=CHEAPEST)
    with pytest.raises(WrongIdentityPassword):
        made.unlock(encode_password("wrong"), "x")
    with pytest.raises(AssertionError):
        made.unlock(None, "x")
    assert encode_base64(SEED).encode() not in made.encode()


def identity_with(**changes: Any) -> bytes:
    made = IdentityFile.generate("me", None).encode()
    value = decode_json(made[:-1]) | changes
    return encode_json({k: v for k, v in value.items() if v is not None}) + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]\n",
        b"{}\n",
        identity_with(encvault_identity=2),
        identity_with(more=1),
        identity_with(name=5),
        identity_with(recipient=5),
        identity_with(created_at="x"),
        identity_with(seed=encode_base64(bytes(31))),
        identity_with(seed="?"),
        identity_with(seed=None),
        identity_with(slot=recipient_slot(), seed=None),
        identity_with(slot={}, seed=None),
    ],
    ids=range(13),  # each worker makes other keys, and names of tests that differ are refused
)
def test_identity_files_that_must_be_refused(data: bytes) -> None:
    with pytest.raises(MalformedIdentity):
        IdentityFile.decode(data, "x")


def test_an_identity_with_anothers_recipient_is_refused() -> None:
    with pytest.raises(MalformedIdentity):
        IdentityFile.decode(identity_with(recipient=encode_recipient(PUBLIC)), "x").unlock(
            None, "x"
        )
    with pytest.raises(MalformedRecipient):
        IdentityFile.decode(identity_with(recipient="encvault1-x"), "x")


def test_two_slots_of_one_secret_share_nothing() -> None:
    assert password_slot()["wrapped"] != password_slot()["wrapped"]


@pytest.mark.parametrize("count", [8, 9])
def test_at_most_eight_slots_may_cost_a_password_hash(count: int) -> None:
    slots = [password_slot() for _ in range(count)] + [recipient_slot()]
    if count == 8:
        assert len(check_slots(slots, "x")) == 9
        return
    with pytest.raises(ValueError, match="more than 8 password slots"):
        check_slots(slots, "x")
    with pytest.raises(ValueError, match="two slots with one id"):
        check_slots([slots[0], slots[0]], "x")


def test_a_recipient_knows_its_own_slot() -> None:
    password = PasswordRecipient(PASSWORD, profile=CHEAPEST)
    public = PublicKeyRecipient(PUBLIC)
    assert password.fits([password_slot()], "x")
    assert not password.fits([recipient_slot()], "x")
    assert not PasswordRecipient(encode_password("wrong"), profile=CHEAPEST).fits(
        [password_slot()], "x"
    )
    assert public.fits([password_slot(), recipient_slot()], "x")
    assert not public.fits([password_slot()], "x")
    assert not PublicKeyRecipient(hpke.public_key(bytes(32))).fits([recipient_slot()], "x")


def test_a_damaged_slot_does_not_hide_a_good_one() -> None:
    damaged = recipient_slot()
    damaged["wrapped"] = encode_base64(bytes(1168))
    good = recipient_slot()
    assert KeyIdentity(Secret(SEED)).unwrap([damaged, good], "x")[:2] == (good["id"], SECRET)


def test_an_identity_keeps_its_key_under_another_password() -> None:
    old = IdentityFile.generate("me", PASSWORD, profile=CHEAPEST)
    new = encode_password("battery staple")
    recipient = PasswordRecipient(new, label="me", profile=CHEAPEST)
    changed = old.protected_for(recipient, old.unlock(PASSWORD, "x"), "x")
    assert (changed.name, changed.public, changed.created_at) == (
        old.name,
        old.public,
        old.created_at,
    )
    read = IdentityFile.decode(changed.encode(), "x")
    wrapped = PublicKeyRecipient(old.public).wrap(SECRET)
    assert unwrap_any([wrapped], [read.unlock(new, "x")], "x").secret == SECRET
    with pytest.raises(WrongIdentityPassword):
        read.unlock(PASSWORD, "x")


def test_an_identity_in_the_clear_is_in_the_clear_no_more() -> None:
    plain = IdentityFile.generate("", None)
    recipient = PasswordRecipient(PASSWORD, profile=CHEAPEST)
    changed = plain.protected_for(recipient, plain.unlock(None, "x"), "x")
    assert changed.seed is None
    assert b"seed" not in changed.encode()
    assert changed.unlock(PASSWORD, "x")


class Faulty(PasswordRecipient):
    """Hashes wrongly once, as a machine with bad memory may."""

    def identity(self) -> PasswordIdentity:
        return PasswordIdentity(encode_password("what it did not hash"))


@pytest.mark.parametrize(
    "recipient", [Faulty(PASSWORD, profile=CHEAPEST), PublicKeyRecipient(PUBLIC)]
)
def test_a_password_that_does_not_open_is_not_an_identitys(recipient: Any) -> None:
    plain = IdentityFile.generate("", None)
    with pytest.raises(UnprovedKeyslot):
        plain.protected_for(recipient, plain.unlock(None, "x"), "x")


def test_passwords_that_nobody_knows_are_as_good_as_keys() -> None:
    made = {bytes(random_password().reveal()) for _ in range(100)}
    assert len(made) == 100
    assert {len(text) for text in made} == {43}  # ceil(256 / 6)
    assert all(text == bytes(encode_password(text.decode()).reveal()) for text in made)


@pytest.mark.parametrize(
    "change",
    [{"kind": "fido2"}, {"kind": 1}, {"kind": []}, {"id": "a"}, {"label": 1}, {"created_at": ""}],
    ids=str,
)
def test_bare_slots_keep_the_rules_of_their_members(change: dict[str, Any]) -> None:
    slot = bare(recipient_slot())
    assert check_bare([slot]) == (slot,)
    with pytest.raises(ValueError, match="slot"):
        check_bare([slot | change])


@pytest.mark.parametrize(
    "slots",
    [
        None,
        {"id": "a"},
        [bare(recipient_slot())] * 65,
        [None],
        [bare(recipient_slot()) | {"wrapped": "AA"}],
        [{"id": "a" * 26}],
    ],
    ids=["nothing", "an object", "too many", "no slot", "one member more", "members missing"],
)
def test_what_are_no_bare_slots_is_refused(slots: object) -> None:
    with pytest.raises(ValueError, match="slot"):
        check_bare(slots)
