"""The body: sizes, both suites, streaming and random access."""

from __future__ import annotations

import os
import random

import pytest

from encvault.crypto import NotAuthentic, stream
from encvault.crypto.suite import AesChunkCipher, Sm4ChunkCipher, Suite, key_schedule

EDGES = [0, 1, 16_383, 16_384, 16_385, 32_768, 40_000]
KEY = bytes(range(32))


def read_randomly(suite: Suite, body: bytes, context: bytes = b"ctx") -> bytes:
    reader = stream.ChunkReader(suite, KEY, context, body[: stream.PREFIX_SIZE])
    count = stream.plaintext_size(len(body)) // stream.CHUNK_SIZE + 1
    order = list(range(count))
    random.Random(1).shuffle(order)
    chunks = {}
    for index in order:
        start, size = reader.span(index)
        chunks[index] = reader.open(index, body[start : start + size], last=index == count - 1)
    return b"".join(chunks[index] for index in range(count))


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("suite", Suite)
def test_sealed_opens_by_stream_and_by_random_access(suite: Suite, size: int) -> None:
    plaintext = os.urandom(size)
    body = stream.seal(suite, KEY, b"ctx", plaintext)
    assert len(body) == stream.body_size(size)
    assert stream.plaintext_size(len(body)) == size
    assert stream.open(suite, KEY, b"ctx", body) == plaintext
    assert read_randomly(suite, body) == plaintext


@pytest.mark.parametrize("step", [1, 55, 56, 57, 16_399, 16_400, 16_401, 100_000])
@pytest.mark.parametrize("suite", Suite)
def test_pieces_of_any_size_give_the_same(suite: Suite, step: int) -> None:
    plaintext = os.urandom(33_000)
    whole = stream.seal(suite, KEY, b"", plaintext)
    step = max(step, 500 if suite is Suite.AES_256_GCM else step)
    decryptor = stream.decryptor(suite, KEY, b"")
    pieces = [decryptor.update(whole[at : at + step]) for at in range(0, len(whole), step)]
    assert b"".join(pieces) + decryptor.finalize() == plaintext
    encryptor = stream.encryptor(suite, KEY, b"")
    body = b"".join(encryptor.update(plaintext[at : at + step]) for at in range(0, 33_000, step))
    assert stream.open(suite, KEY, b"", body + encryptor.finalize()) == plaintext


@pytest.mark.parametrize("suite", Suite)
def test_update_into_fills_the_buffer(suite: Suite) -> None:
    plaintext = os.urandom(50_000)
    encryptor = stream.encryptor(suite, KEY, b"")
    buffer = bytearray(stream.output_size(50_000))
    count = encryptor.update_into(plaintext, buffer)
    body = bytes(buffer[:count]) + encryptor.finalize()
    decryptor = stream.decryptor(suite, KEY, b"")
    count = decryptor.update_into(body, buffer)
    assert bytes(buffer[:count]) + decryptor.finalize() == plaintext


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("cut", [0, 10, 24, 56, 60, 16_456, 16_460])
def test_cut_bodies_do_not_open(suite: Suite, cut: int) -> None:
    body = stream.seal(suite, KEY, b"", bytes(20_000))
    with pytest.raises(NotAuthentic):
        stream.open(suite, KEY, b"", body[:cut])


@pytest.mark.parametrize("suite", Suite)
def test_update_into_refuses_damage(suite: Suite) -> None:
    body = bytearray(stream.seal(suite, KEY, b"", bytes(40_000)))
    body[100] ^= 1
    with pytest.raises(NotAuthentic):
        stream.decryptor(suite, KEY, b"").update_into(
            body, bytearray(stream.output_size(len(body)))
        )


def test_the_damaged_chunk_is_named() -> None:
    body = bytearray(stream.seal(Suite.SM4_GCM, KEY, b"", bytes(40_000)))
    body[56 + 16_400 + 5] ^= 1
    with pytest.raises(NotAuthentic) as caught:
        stream.open(Suite.SM4_GCM, KEY, b"", body)
    assert caught.value.chunk_index == 1


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("wrong", ["key", "context", "salt", "commitment"])
def test_the_commitment_is_checked_before_any_chunk(suite: Suite, wrong: str) -> None:
    body = bytearray(stream.seal(suite, KEY, b"ctx", b"content"))
    key = bytes(32) if wrong == "key" else KEY
    context = b"other" if wrong == "context" else b"ctx"
    body[{"salt": 0, "commitment": 24}.get(wrong, 0)] ^= wrong in ("salt", "commitment")
    with pytest.raises(NotAuthentic) as caught:
        stream.ChunkReader(suite, key, context, bytes(body[:56]))
    assert caught.value.chunk_index is None
    with pytest.raises(NotAuthentic):
        stream.open(suite, key, context, body)


def test_a_short_prefix_is_refused() -> None:
    with pytest.raises(NotAuthentic):
        stream.ChunkReader(Suite.AES_256_GCM, KEY, b"", bytes(55))


@pytest.mark.parametrize("suite", Suite)
def test_a_reader_does_not_believe_a_wrong_end(suite: Suite) -> None:
    body = stream.seal(suite, KEY, b"", bytes(16_385))
    reader = stream.ChunkReader(suite, KEY, b"", body[:56])
    first, last = body[56 : 56 + 16_400], body[56 + 16_400 :]
    for index, chunk, is_last in ((0, first, True), (1, last, False), (-1, last, True)):
        with pytest.raises(NotAuthentic):
            reader.open(index, chunk, last=is_last)
    with pytest.raises(NotAuthentic):
        reader.open(0, last, last=True)
    assert reader.open(0, first, last=False) == bytes(16_384)


@pytest.mark.parametrize("size", [0, 55, 56, 71, 56 + 16_400, 56 + 16_400 + 15])
def test_sizes_that_no_body_has(size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        stream.plaintext_size(size)


def test_a_body_longer_than_any_may_be() -> None:
    with pytest.raises(ValueError, match=r"\d"):
        stream.plaintext_size(56 + stream.MAX_CHUNKS * 16_400 + 16)


def test_worked_sizes_of_the_format_page() -> None:
    # docs/format.md section 4: 129 bytes of header, a record of 256
    for content, sealed in ((0, 457), (1, 458), (5000, 5457), (16_128, 16_601)):
        assert 129 + stream.body_size(256 + content) == sealed
    assert 129 + stream.body_size(256 + (1 << 30)) == 1_074_790_857


def test_the_nonce_sequence_ends_before_it_repeats() -> None:
    counter = stream._ChunkCounter(bytes(12))
    counter.index = stream.MAX_CHUNKS
    with pytest.raises(AssertionError):
        counter.take()


def test_a_decryptor_that_saw_nothing_is_cut_off() -> None:
    with pytest.raises(NotAuthentic):
        stream.decryptor(Suite.SM4_GCM, KEY, b"").finalize()
    with pytest.raises(AssertionError):
        stream.Sm4Decryptor(KEY, b"")._open(b"")


@pytest.mark.parametrize("cipher", [AesChunkCipher(bytes(32)), Sm4ChunkCipher(bytes(16))])
@pytest.mark.parametrize("sealed", [b"", bytes(15), bytes(16), bytes(40)])
def test_chunk_ciphers_release_nothing_unauthentic(
    cipher: AesChunkCipher | Sm4ChunkCipher, sealed: bytes
) -> None:
    with pytest.raises(NotAuthentic):
        cipher.open(bytes(12), sealed)


@pytest.mark.parametrize("cipher", [AesChunkCipher(bytes(32)), Sm4ChunkCipher(bytes(16))])
def test_chunk_ciphers_open_what_they_sealed(cipher: AesChunkCipher | Sm4ChunkCipher) -> None:
    sealed = cipher.seal(bytes(12), b"content")
    assert len(sealed) == 7 + 16
    assert cipher.open(bytes(12), sealed) == b"content"


def test_suites_have_labels() -> None:
    assert [suite.label for suite in Suite] == ["aes-256-gcm", "sm4-gcm"]
    assert Suite.from_label("sm4-gcm") is Suite.SM4_GCM
    with pytest.raises(ValueError, match="des"):
        Suite.from_label("des")


def test_keys_of_the_two_suites_have_their_sizes() -> None:
    for suite in Suite:
        _cipher, nonce, commitment = key_schedule(suite, KEY, bytes(24), b"")
        assert (len(nonce), len(commitment)) == (12, 32)


@pytest.mark.parametrize("suite", Suite)
def test_runs_of_chunks_are_sealed_and_opened_in_any_order(suite: Suite) -> None:
    plaintext = os.urandom(5 * 16_384 + 100)
    writer = stream.ChunkWriter(suite, KEY, b"ctx")
    body = bytearray(stream.body_size(len(plaintext)))
    body[:56] = writer.prefix
    for first, count, last in ((4, 2, True), (0, 1, False), (1, 3, False)):
        piece = plaintext[first * 16_384 : (first + count) * 16_384]
        out = memoryview(bytearray(count * 16_400))
        size = writer.seal_into(first, piece, out, last=last)
        body[56 + first * 16_400 : 56 + first * 16_400 + size] = out[:size]
    assert stream.open(suite, KEY, b"ctx", body) == plaintext
    reader = stream.ChunkReader(suite, KEY, b"ctx", bytes(body[:56]))
    opened = bytearray(len(plaintext))
    for first, count, last in ((3, 3, True), (0, 3, False)):
        sealed = body[56 + first * 16_400 : 56 + (first + count) * 16_400]
        out = memoryview(bytearray(count * 16_384))
        size = reader.open_into(first, sealed, out, last=last)
        opened[first * 16_384 : first * 16_384 + size] = out[:size]
    assert opened == plaintext


@pytest.mark.parametrize("suite", Suite)
def test_a_run_that_breaks_the_rule_of_sizes_is_refused(suite: Suite) -> None:
    body = stream.seal(suite, KEY, b"", bytes(2 * 16_384 + 50))
    reader = stream.ChunkReader(suite, KEY, b"", body[:56])
    out = memoryview(bytearray(3 * 16_400))
    whole, end = body[56 : 56 + 2 * 16_400], body[56 + 2 * 16_400 :]
    for first, sealed, last in (
        (0, whole, True),  # whole chunks are never the end
        (0, whole + end, False),  # a short chunk is always
        (0, whole + end[:15], True),  # shorter than a tag
        (1, whole, False),  # another place
        (stream.MAX_CHUNKS - 1, whole, False),
    ):
        with pytest.raises(NotAuthentic):
            reader.open_into(first, sealed, out, last=last)
    assert reader.open_into(0, whole, out, last=False) == 2 * 16_384


def test_no_nonce_is_used_twice() -> None:
    writer = stream.ChunkWriter(Suite.AES_256_GCM, KEY, b"")
    out = memoryview(bytearray(16_400))
    writer.seal_into(0, bytes(16_384), out, last=False)
    for first, plaintext, last in (
        (0, bytes(16_384), False),
        (1, bytes(100), False),
        (stream.MAX_CHUNKS, b"", True),
    ):
        with pytest.raises(AssertionError):
            writer.seal_into(first, plaintext, out, last=last)
