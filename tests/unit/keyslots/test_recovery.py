"""Recovery codes: nothing that is mistyped passes, and the group is named."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies

from encvault.errors import MistypedRecoveryCode
from encvault.keyslots import (
    RecoveryIdentity,
    RecoveryRecipient,
    check_slots,
    decode_code,
    encode_code,
    new_code,
)
from encvault.secret import Secret

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE = Secret(bytes(range(7, 39)))
SECRET = Secret(bytes(range(100, 132)))


def times(one: int, other: int) -> int:
    """Multiplication in GF(32) modulo x^5 + x^3 + 1, by the schoolbook."""
    product = 0
    for bit in range(5):
        if other >> bit & 1:
            product ^= one << bit
    for bit in range(9, 4, -1):
        if product >> bit & 1:
            product ^= 0b101001 << (bit - 5)
    return product


def expected(code: bytes) -> str:
    """The code by another way: through text, and the check as a polynomial."""
    bits = "".join(f"{byte:08b}" for byte in code) + "0000"
    values = [int(bits[start : start + 5], 2) for start in range(0, 260, 5)]
    powers = [1]
    for _step in range(4):
        powers.append(times(powers[-1], 2))
    groups = []
    for index in range(13):
        group = values[index * 4 : index * 4 + 4]
        check = times(index + 1, powers[4])
        for place, value in enumerate(group):
            check ^= times(value, powers[4 - place])
        groups.append("".join(CROCKFORD[value] for value in (*group, check)))
    return "-".join(groups)


def mistyped(text: str) -> int:
    """The group that is blamed."""
    with pytest.raises(MistypedRecoveryCode) as caught:
        decode_code(text)
    number = caught.value.fields()["group"]
    assert isinstance(number, int)
    return number


@given(strategies.binary(min_size=32, max_size=32))
def test_a_code_is_read_as_it_was_printed(code: bytes) -> None:
    text = encode_code(Secret(code))
    assert text == expected(code)
    assert decode_code(text) == Secret(code)


def test_letter_case_separators_and_look_alikes_do_not_matter() -> None:
    text = encode_code(CODE)
    assert len(text) == 13 * 5 + 12
    assert not set(text) & set("ILOU")
    assert decode_code(text.lower().replace("-", " ")) == CODE
    assert decode_code(text.replace("-", "\r\n\t") + "\n") == CODE
    zeros = encode_code(Secret(bytes(32)))
    assert decode_code(zeros.replace("0", "o")) == Secret(bytes(32))
    ones = encode_code(Secret(bytes.fromhex("0842108421" * 6 + "0842")))
    assert "1" in ones
    assert decode_code(ones.replace("1", "l", 3).replace("1", "I", 3)).reveal()[:1] == b"\x08"


@pytest.mark.parametrize("separator", ["\uff0d", "\u3000", "\u2014\u2014", "\u2013", "- "])
def test_symbols_of_full_width_are_those_of_half_width(separator: str) -> None:
    wide = str.maketrans(
        {symbol: chr(ord(symbol) - ord("0") + 0xFF10) for symbol in CROCKFORD} | {"-": separator}
    )
    text = expected(bytes(range(7, 39))).translate(wide)
    assert not text.isascii()
    assert decode_code(text) == CODE
    with pytest.raises(MistypedRecoveryCode):
        decode_code(text[:-1])


def test_each_single_wrong_symbol_is_blamed_on_its_group() -> None:
    symbols = encode_code(CODE).replace("-", "")
    for place, symbol in itertools.product(range(65), CROCKFORD + "U?é"):
        if symbol != symbols[place]:
            wrong = symbols[:place] + symbol + symbols[place + 1 :]
            assert mistyped(wrong) == place // 5 + 1


def test_exchanged_neighbours_are_blamed_on_their_group() -> None:
    symbols = encode_code(CODE).replace("-", "")
    for place in range(64):
        one, other = symbols[place : place + 2]
        if one != other:
            wrong = symbols[:place] + other + one + symbols[place + 2 :]
            assert mistyped(wrong) == place // 5 + 1


def test_exchanged_groups_are_found() -> None:
    groups = encode_code(CODE).split("-")
    for one, other in itertools.combinations(range(13), 2):
        wrong = groups.copy()
        wrong[one], wrong[other] = wrong[other], wrong[one]
        assert mistyped("-".join(wrong)) == one + 1


@pytest.mark.parametrize("length", [0, 4, 5, 64])
def test_a_code_that_ends_early_is_blamed_where_it_ends(length: int) -> None:
    symbols = encode_code(CODE).replace("-", "")
    assert mistyped(symbols[:length]) == length // 5 + 1


def test_what_follows_the_last_group_is_blamed_on_it() -> None:
    assert mistyped(encode_code(CODE) + "0") == 13


def test_the_unused_bits_are_zero() -> None:
    symbols = encode_code(CODE).replace("-", "")
    value = CROCKFORD.index(symbols[63])
    for bits in range(1, 16):
        check = CROCKFORD.index(symbols[64]) ^ times(bits, 2)
        wrong = symbols[:63] + CROCKFORD[value ^ bits] + CROCKFORD[check]
        assert mistyped(wrong) == 13


def test_a_recovery_slot_opens_with_its_code_only() -> None:
    slot = RecoveryRecipient(CODE, label="safe").wrap(SECRET)
    other = RecoveryRecipient(new_code()).wrap(SECRET)
    slots = check_slots([other, slot], "x")
    assert RecoveryIdentity(CODE).unwrap(slots, "x")[:2] == (slot["id"], SECRET)
    assert RecoveryRecipient(CODE).fits(slots, "x")
    assert not RecoveryRecipient(CODE).fits([other], "x")
    for member in ("id", "label", "created_at"):
        changed = slot | {member: other[member] + "!" if member == "label" else "x"}
        assert RecoveryIdentity(CODE).unwrap([changed], "x") is None
    with pytest.raises(ValueError, match="slot members"):
        check_slots([slot | {"kdf": {}}], "x")


def test_two_codes_differ() -> None:
    assert new_code() != new_code()
