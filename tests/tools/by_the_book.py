"""AES-256-GCM, SM4-GCM and SM3 as the standards write them, slowly and with no library.

Sources: FIPS 197 (AES), GB/T 32907-2016 (SM4; its tables also in draft-ribose-cfrg-sm4-10), GB/T
32905-2016 (SM3; also draft-sca-cfrg-sm3-02), NIST SP 800-38D (GCM), RFC 2104 and 5869 (HMAC and
HKDF). GCM is for nonces of 12 bytes and no associated data. Never for secrets: it
looks into tables at places that depend on the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Block = bytes
_WORD = 0xFFFFFFFF


def gcm(encrypt: Callable[[Block], Block], nonce: bytes, plain: bytes) -> bytes:
    """Ciphertext and tag (SP 800-38D, algorithm 4) by a block cipher under some key."""
    stream = b"".join(
        encrypt(nonce + (2 + index).to_bytes(4)) for index in range((len(plain) + 15) // 16)
    )
    sealed = bytes(a ^ b for a, b in zip(plain, stream, strict=False))
    padded = sealed + bytes(-len(sealed) % 16) + (8 * len(sealed)).to_bytes(16)
    table = _multiples(int.from_bytes(encrypt(bytes(16))))
    hashed = 0
    for at in range(0, len(padded), 16):
        hashed ^= int.from_bytes(padded[at : at + 16])
        product = 0
        for place in range(16):
            product ^= table[place][hashed >> 8 * place & 0xFF]
        hashed = product
    first = int.from_bytes(encrypt(nonce + (1).to_bytes(4)))
    return sealed + (hashed ^ first).to_bytes(16)


def _multiples(point: int) -> list[list[int]]:
    """By place and value of a byte: its product with a point of GCM's field."""
    powers = []  # of the bit with the highest weight first, which is x^0
    for _bit in range(128):
        powers.append(point)
        point = point >> 1 ^ (0xE1 << 120 if point & 1 else 0)
    table = []
    for place in range(16):
        row = []
        for value in range(256):
            product = 0
            for bit in range(8):
                if value >> bit & 1:
                    product ^= powers[127 - 8 * place - bit]
            row.append(product)
        table.append(row)
    return table


# -- AES ------------------------------------------------------------------------------------


def _doubled(value: int) -> int:
    return value << 1 ^ (0x11B if value & 0x80 else 0)


def _aes_box() -> bytes:
    """FIPS 197, 5.1.1: the inverse in the field, then an affine map."""
    power = [1]
    for _step in range(254):
        power.append(power[-1] ^ _doubled(power[-1]))  # 3 makes all of them
    box = bytearray(256)
    for value in range(256):
        inverse = power[-power.index(value) % 255] if value else 0
        turned = inverse * 0x101
        box[value] = (inverse ^ turned >> 7 ^ turned >> 6 ^ turned >> 5 ^ turned >> 4) & 0xFF ^ 0x63
    return bytes(box)


_AES_BOX = _aes_box()


def aes_256(key: bytes) -> Callable[[Block], Block]:
    """The cipher under a 32-byte key."""
    words = [key[at : at + 4] for at in range(0, 32, 4)]
    constant = 1
    for index in range(8, 60):
        word = words[-1]
        if index % 8 == 0:
            word = (word[1:] + word[:1]).translate(_AES_BOX)
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _doubled(constant)
        elif index % 8 == 4:
            word = word.translate(_AES_BOX)
        words.append(_sum(words[-8], word))
    rounds = [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]
    shifted = [(4 * (column + row) + row) % 16 for column in range(4) for row in range(4)]

    def encrypt(block: Block) -> Block:
        state = _sum(block, rounds[0])
        for index in range(1, 15):
            state = state.translate(_AES_BOX)
            state = bytes(state[at] for at in shifted)
            if index < 14:
                state = b"".join(_mixed(state[at : at + 4]) for at in range(0, 16, 4))
            state = _sum(state, rounds[index])
        return state

    return encrypt


def _mixed(column: bytes) -> bytes:
    whole = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes(
        value ^ whole ^ _doubled(value ^ column[(row + 1) % 4]) for row, value in enumerate(column)
    )


def _sum(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


# -- SM4 ------------------------------------------------------------------------------------

_SM4_BOX = bytes.fromhex(
    "d690e9fecce13db716b614c228fb2c052b679a762abe04c3aa441326498606999c4250f491ef987a33540b43edcf"
    "ac62e4b31ca9c908e89580df94fa758f3fa64707a7fcf37317ba83593c19e6854fa8686b81b27164da8bf8eb0f4b"
    "70569d351e240e5e6358d1a225227c3b01217887d40046579fd327524c3602e7a0c4c89eeabf8ad240c738b5a3f7"
    "f2cef96115a1e0ae5da49b341a55ad933230f58cb1e31df6e22e8266ca60c02923ab0d534e6fd5db3745defd8e2f"
    "03ff6a726d6c5b518d1baf92bbddbc7f11d95c411f105ad80ac13188a5cd7bbd2d74d012b8e5b4b08969974a0c96"
    "777e65b9f109c56ec68418f07dec3adc4d2079ee5f3ed7cb3948"
)
_FAMILY_KEY = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)


def _turned(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & _WORD


def _substituted(word: int) -> int:
    return int.from_bytes(word.to_bytes(4).translate(_SM4_BOX))


def sm4(key: bytes) -> Callable[[Block], Block]:
    """The cipher under a 16-byte key."""
    keys = [
        int.from_bytes(key[4 * at : 4 * at + 4]) ^ constant
        for at, constant in enumerate(_FAMILY_KEY)
    ]
    for index in range(32):
        constant = int.from_bytes(bytes((4 * index + at) * 7 % 256 for at in range(4)))
        word = _substituted(keys[-3] ^ keys[-2] ^ keys[-1] ^ constant)
        keys.append(keys[-4] ^ word ^ _turned(word, 13) ^ _turned(word, 23))

    def encrypt(block: Block) -> Block:
        words = [int.from_bytes(block[at : at + 4]) for at in range(0, 16, 4)]
        for round_key in keys[4:]:
            word = _substituted(words[-3] ^ words[-2] ^ words[-1] ^ round_key)
            turned = _turned(word, 2) ^ _turned(word, 10) ^ _turned(word, 18) ^ _turned(word, 24)
            words.append(words[-4] ^ word ^ turned)
        return b"".join(word.to_bytes(4) for word in reversed(words[-4:]))

    return encrypt


# -- SM3 ------------------------------------------------------------------------------------

_START = bytes.fromhex("7380166f4914b2b9172442d7da8a0600a96f30bc163138aae38dee4db0fb0e4e")
_SM3_BLOCK = 64


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 4]) for at in range(0, len(data), 4)]


def sm3(message: bytes) -> bytes:
    """The hash, 32 bytes."""
    padding = b"\x80" + bytes(-(len(message) + 9) % _SM3_BLOCK) + (8 * len(message)).to_bytes(8)
    padded = message + padding
    state = _words(_START)
    for at in range(0, len(padded), _SM3_BLOCK):
        changed = _compressed(state, _words(padded[at : at + _SM3_BLOCK]))
        state = [one ^ other for one, other in zip(state, changed, strict=True)]
    return b"".join(word.to_bytes(4) for word in state)


def _compressed(state: list[int], words: list[int]) -> list[int]:
    for at in range(16, 68):
        mixed = words[at - 16] ^ words[at - 9] ^ _turned(words[at - 3], 15)
        mixed ^= _turned(mixed, 15) ^ _turned(mixed, 23)
        words.append(mixed ^ _turned(words[at - 13], 7) ^ words[at - 6])
    a, b, c, d, e, f, g, h = state
    for at in range(64):
        early = at < 16
        constant = _turned(0x79CC4519 if early else 0x7A879D8A, at % 32)
        first = _turned((_turned(a, 12) + e + constant) & _WORD, 7)
        second = first ^ _turned(a, 12)
        majority = a ^ b ^ c if early else a & b | a & c | b & c
        choice = e ^ f ^ g if early else e & f | ~e & g
        one = (majority + d + second + (words[at] ^ words[at + 4])) & _WORD
        other = (choice + h + first + words[at]) & _WORD
        a, b, c, d = one, a, _turned(b, 9), c
        e, f, g, h = other ^ _turned(other, 9) ^ _turned(other, 17), e, _turned(f, 19), g
    return [a, b, c, d, e, f, g, h]


def hkdf_expand_sm3(key: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, 2.3, for keys of at most 64 bytes."""
    padded = key + bytes(_SM3_BLOCK - len(key))
    inner, outer = (bytes(value ^ pad for value in padded) for pad in (0x36, 0x5C))
    made, block = b"", b""
    for counter in range(1, size // 32 + 2):
        block = sm3(outer + sm3(inner + block + info + bytes([counter])))
        made += block
    return made[:size]
