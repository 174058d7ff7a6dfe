"""The known answers of whole chunks, and libraries that are wrong where short answers do not look.

A cipher is modelled by one that is right, with something wrong at both of its ends: what it seals
it opens again, and nothing else can.
"""

from __future__ import annotations

import ctypes
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from tools import by_the_book

from encvault.crypto import NotAuthentic, answers, gcrypt, selftest, stream, suite
from encvault.crypto.suite import AesChunkCipher, Sm4ChunkCipher
from encvault.errors import SelfTestFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.crypto.suite import ChunkCipher
    from encvault.secret import Buffer

# from which byte of a message of how many bytes the fast code of a library is wrong
WIDE = [(256, 128), (1, 0), (16, 15), (129, 128), (257, 256), (1024, 1024), (16_384, 16_384)]
CIPHERS = [
    (AesChunkCipher, answers.KEY, answers.AES_256_GCM),
    (Sm4ChunkCipher, answers.KEY[:16], answers.SM4_GCM),
    (gcrypt.sm4_cipher, answers.KEY[:16], answers.SM4_GCM),
]


@pytest.fixture
def anew() -> Iterator[None]:
    """Everything is tested anew, and afterwards again."""
    for cached in (gcrypt._found, selftest.run):
        cached.cache_clear()
    yield
    for cached in (gcrypt._found, selftest.run):
        cached.cache_clear()


def twisted(data: Buffer, least: int, begin: int) -> bytearray:
    """What a library that is wrong from byte `begin` of long messages takes for the plaintext."""
    changed = bytearray(data)
    if len(changed) >= least:
        changed[begin:] = bytes(value ^ 0x5A for value in changed[begin:])
    return changed


class Symmetric:
    """A cipher that is wrong in the same way in both directions."""

    def __init__(self, right: ChunkCipher, least: int, begin: int) -> None:
        self._right, self._wrong = right, (least, begin)

    def seal(self, nonce: bytes, plaintext: Buffer) -> bytes:
        return self._right.seal(nonce, twisted(plaintext, *self._wrong))

    def open(self, nonce: bytes, sealed: Buffer) -> bytes:
        return bytes(twisted(self._right.open(nonce, sealed), *self._wrong))

    def seal_into(self, nonce: bytes, plaintext: Buffer, out: memoryview) -> None:
        out[:] = self.seal(nonce, plaintext)

    def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
        out[:] = self.open(nonce, sealed)


@pytest.mark.parametrize(
    ("block_cipher", "size", "digest"),
    [
        (by_the_book.aes_256, 32, answers.AES_256_GCM),
        (by_the_book.sm4, 16, answers.SM4_GCM),
    ],
)
def test_the_answers_are_those_of_the_standards(
    block_cipher: Callable[[bytes], Callable[[bytes], bytes]], size: int, digest: bytes
) -> None:
    encrypt = block_cipher(answers.KEY[:size])
    results = [
        by_the_book.gcm(encrypt, answers.nonce(length), answers.PLAIN[:length])
        for length in answers.LENGTHS
    ]
    assert hashlib.sha256(b"".join(results)).digest() == digest
    assert max(answers.LENGTHS) > stream.CHUNK_SIZE


def test_the_key_schedule_of_sm4_is_that_of_the_standards() -> None:
    salt, context = bytes(range(24)), b"test context"
    info = b"encvault/chunked-encryption@v1+AEAD_SM4_GCM\x00" + salt + context
    made = by_the_book.hkdf_expand_sm3(answers.KEY, info, 16 + 12 + 32)
    sealed = by_the_book.gcm(by_the_book.sm4(made[:16]), made[16:28], b"message")
    body = salt + made[28:] + sealed
    assert stream.open(suite.Suite.SM4_GCM, answers.KEY, context, body) == b"message"
    assert by_the_book.sm3(b"abc").hex() == (  # GB/T 32905-2016, A.1
        "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    )


@pytest.mark.parametrize(("make", "key", "digest"), CIPHERS)
def test_they_are_those_of_the_libraries(make: Any, key: bytes, digest: bytes) -> None:
    assert answers.are_given(make(key), digest)


@pytest.mark.parametrize(("least", "begin"), WIDE)
@pytest.mark.parametrize(("make", "key", "digest"), CIPHERS)
def test_what_is_wrong_in_both_directions_is_noticed(
    make: Any, key: bytes, digest: bytes, least: int, begin: int
) -> None:
    cipher = Symmetric(make(key), least, begin)
    assert cipher.open(bytes(12), cipher.seal(bytes(12), answers.PLAIN)) == answers.PLAIN
    assert not answers.are_given(cipher, digest)


def test_what_is_wrong_in_opening_only_is_noticed() -> None:
    class Opens(AesChunkCipher):
        def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
            super().open_into(nonce, sealed, out)
            out[:] = twisted(out, 1024, 1000)

    class Refuses(AesChunkCipher):
        def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
            super().open_into(nonce, bytes(len(out) + 16), out)

    for kind in (Opens, Refuses):
        assert not answers.are_given(kind(answers.KEY), answers.AES_256_GCM)


@pytest.mark.parametrize("part", ["text", "tag"])
def test_what_takes_changed_messages_for_authentic_is_noticed(part: str) -> None:
    right = AesChunkCipher(answers.KEY)

    class Trusting(AesChunkCipher):
        """A library whose fast code does not look at the tag, or at what it is of."""

        def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
            try:
                super().open_into(nonce, sealed, out)
            except NotAuthentic:
                plain = answers.PLAIN[: len(out)]
                is_tag = bytes(sealed[: len(out)]) == right.seal(nonce, plain)[: len(out)]
                if len(out) <= 64 or is_tag != (part == "tag"):
                    raise
                out[:] = plain

    assert not answers.are_given(Trusting(answers.KEY), answers.AES_256_GCM)


@pytest.mark.parametrize("direction", ["seal", "open"])
def test_what_is_wrong_at_odd_addresses_is_noticed(direction: str) -> None:
    def is_odd(out: memoryview) -> bool:
        return ctypes.addressof(ctypes.c_char.from_buffer(out)) % 2 == 1

    class Odd(AesChunkCipher):
        def seal_into(self, nonce: bytes, plaintext: Buffer, out: memoryview) -> None:
            super().seal_into(nonce, plaintext, out)
            if direction == "seal" and is_odd(out):
                out[0] ^= 1

        def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
            super().open_into(nonce, sealed, out)
            if direction == "open" and is_odd(out):
                out[0] ^= 1

    assert not answers.are_given(Odd(answers.KEY), answers.AES_256_GCM)


# -- before the first key -------------------------------------------------------------------


@pytest.mark.usefixtures("anew")
def test_an_openssl_with_wrong_wide_sm4_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        selftest, "Sm4ChunkCipher", lambda key: Symmetric(Sm4ChunkCipher(key), 256, 128)
    )
    assert selftest.run() == selftest.EXPECTED_COUNT  # libgcrypt does the work
    selftest.run.cache_clear()
    gcrypt._found.cache_clear()
    monkeypatch.setattr(gcrypt, "SONAME", "libnone.so.0")
    with pytest.raises(SelfTestFailed, match="sm4_gcm_chunks"):
        selftest.run()


@pytest.mark.usefixtures("anew")
def test_an_openssl_with_wrong_wide_aes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        selftest, "AesChunkCipher", lambda key: Symmetric(AesChunkCipher(key), 256, 128)
    )
    with pytest.raises(SelfTestFailed, match="aes_256_gcm"):
        selftest.run()


@pytest.mark.usefixtures("anew")
def test_an_openssl_with_another_sm3_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite.hashes, "SM3", suite.hashes.SHA256)  # wrong for both directions
    body = stream.seal(suite.Suite.SM4_GCM, bytes(32), b"", b"content")
    assert stream.open(suite.Suite.SM4_GCM, bytes(32), b"", body) == b"content"
    with pytest.raises(SelfTestFailed, match="sm4_body"):
        selftest.run()


@pytest.mark.usefixtures("anew")
def test_streams_of_pyca_that_are_wrong_in_both_directions_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = stream.Cobblestone256Encryptor

    class Encryptor:
        def __init__(self, key: Buffer, context: bytes) -> None:
            self._inner = real(key, context)

        def update(self, data: Buffer) -> bytes:
            return self._inner.update(twisted(data, 256, 128))

        def finalize(self) -> bytes:
            return self._inner.finalize()

    class Decryptor(stream.AesDecryptor):
        def update(self, data: Buffer) -> bytes:
            self._first = super().update(data)
            return b""

        def finalize(self) -> bytes:
            return bytes(twisted(self._first + super().finalize(), 256, 128))

    monkeypatch.setattr(stream, "Cobblestone256Encryptor", Encryptor)
    monkeypatch.setattr(stream, "AesDecryptor", Decryptor)
    body = stream.seal(suite.Suite.AES_256_GCM, bytes(32), b"", bytes(300))
    assert stream.open(suite.Suite.AES_256_GCM, bytes(32), b"", body) == bytes(300)
    with pytest.raises(SelfTestFailed, match="cobblestone_chunks"):
        selftest.run()
