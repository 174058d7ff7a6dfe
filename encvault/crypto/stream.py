"""The body of a sealed file: C2SP chunked-encryption, streaming and by random access.

    body = salt[24] | commitment[32] | chunk 0 | chunk 1 | …

Every chunk holds 16,384 bytes of plaintext and a 16-byte tag, except the last, which is always
shorter and may hold none. So a length alone shows a cut at a chunk border, and there is exactly
one body for a given plaintext length. Chunk ``k`` uses the nonce ``base_nonce XOR u96be(k)``.

Sequential work on AES goes through pyca's own Cobblestone classes; `Sm4Encryptor`,
`Sm4Decryptor` and the random-access `ChunkReader` are ours, and the tests hold them against
Wycheproof's vectors and against pyca.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, Protocol

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from encvault.crypto import NotAuthentic
from encvault.crypto.suite import (
    COMMITMENT_SIZE,
    SALT_SIZE,
    TAG_SIZE,
    ChunkCipher,
    Suite,
    key_schedule,
)

if TYPE_CHECKING:
    from encvault.secret import Buffer

CHUNK_SIZE = 16_384  # plaintext bytes of every chunk but the last
SEALED_CHUNK_SIZE = CHUNK_SIZE + TAG_SIZE
PREFIX_SIZE = SALT_SIZE + COMMITMENT_SIZE
MAX_CHUNKS = 1 << 38  # C2SP chunked-encryption, "Message size"


def body_size(plaintext_size: int) -> int:
    """Bytes of the body that seals `plaintext_size` bytes."""
    return PREFIX_SIZE + plaintext_size + TAG_SIZE * (plaintext_size // CHUNK_SIZE + 1)


def plaintext_size(body_size: int) -> int:
    """Bytes of plaintext in a body of that size.

    The answer is only as good as the size: authenticate the last chunk before believing it.

    Raises:
        ValueError: no body has this size; it was cut or extended.
    """
    full, rest = divmod(body_size - PREFIX_SIZE, SEALED_CHUNK_SIZE)
    if body_size < PREFIX_SIZE or rest < TAG_SIZE or full >= MAX_CHUNKS:
        raise ValueError(body_size)
    return full * CHUNK_SIZE + rest - TAG_SIZE


def output_size(input_size: int) -> int:
    """Bytes that a buffer for ``update_into`` must have for `input_size` bytes of input."""
    return PREFIX_SIZE + SEALED_CHUNK_SIZE * (input_size // CHUNK_SIZE + 2)


class Encryptor(Protocol):
    """Seals one body. Each instance is for one message."""

    def update(self, data: Buffer) -> bytes:
        """Take more plaintext; return the part of the body that is ready."""

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """Like `update` into a buffer of at least ``output_size(len(data))``; return the count."""

    def finalize(self) -> bytes:
        """Return the last chunk. Call exactly once."""


class Decryptor(Protocol):
    """Opens one body. Only authenticated plaintext is ever returned."""

    def update(self, data: Buffer) -> bytes:
        """Take more of the body; return authenticated plaintext, or raise `NotAuthentic`."""

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """Like `update` into a buffer of at least ``output_size(len(data))``; return the count."""

    def finalize(self) -> bytes:
        """Return the last chunk's plaintext, or raise `NotAuthentic` if the body was cut."""


def encryptor(suite: Suite, key: Buffer, context: bytes) -> Encryptor:
    """An encryptor of `suite` under a 32-byte key, bound to `context`."""
    if suite is Suite.AES_256_GCM:
        return Cobblestone256Encryptor(key, context)
    return Sm4Encryptor(key, context)


def decryptor(suite: Suite, key: Buffer, context: bytes) -> Decryptor:
    """A decryptor of `suite` under a 32-byte key, bound to `context`."""
    if suite is Suite.AES_256_GCM:
        return AesDecryptor(key, context)
    return Sm4Decryptor(key, context)


def seal(suite: Suite, key: Buffer, context: bytes, plaintext: Buffer) -> bytes:
    """The whole body for a small message."""
    stream = encryptor(suite, key, context)
    return stream.update(plaintext) + stream.finalize()


def open(suite: Suite, key: Buffer, context: bytes, body: Buffer) -> bytes:  # noqa: A001 - seal/open
    """The whole plaintext of a small body, or `NotAuthentic`."""
    stream = decryptor(suite, key, context)
    return stream.update(body) + stream.finalize()


class AesDecryptor:
    """pyca's Cobblestone-256 decryptor behind our one exception."""

    def __init__(self, key: Buffer, context: bytes) -> None:
        self._inner = Cobblestone256Decryptor(key, context)

    def update(self, data: Buffer) -> bytes:
        """See `Decryptor`."""
        try:
            return self._inner.update(data)
        except InvalidTag:
            raise NotAuthentic from None

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """See `Decryptor`."""
        try:
            return self._inner.update_into(data, buf)
        except InvalidTag:
            raise NotAuthentic from None

    def finalize(self) -> bytes:
        """See `Decryptor`."""
        try:
            return self._inner.finalize()
        except InvalidTag:
            raise NotAuthentic from None


class _ChunkCounter:
    """The nonce sequence of one body."""

    def __init__(self, base_nonce: bytes) -> None:
        self._base = int.from_bytes(base_nonce)
        self.index = 0

    def nonce(self, index: int) -> bytes:
        return (self._base ^ index).to_bytes(12)

    def take(self) -> bytes:
        if self.index >= MAX_CHUNKS:
            raise AssertionError("stream: more chunks than one body may have")
        nonce = self.nonce(self.index)
        self.index += 1
        return nonce


class Sm4Encryptor:
    """The SM4-GCM suite's encryptor, with the interface of pyca's Cobblestone classes."""

    def __init__(self, key: Buffer, context: bytes) -> None:
        salt = os.urandom(SALT_SIZE)
        self._cipher, base_nonce, commitment = key_schedule(Suite.SM4_GCM, key, salt, context)
        self._counter = _ChunkCounter(base_nonce)
        self._prefix = salt + commitment
        self._held = bytearray()

    def update(self, data: Buffer) -> bytes:
        """See `Encryptor`."""
        out = bytearray(output_size(memoryview(data).nbytes))
        return bytes(memoryview(out)[: self.update_into(data, out)])

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """See `Encryptor`."""
        out, at = memoryview(buf), len(self._prefix)
        out[:at] = self._prefix
        self._prefix = b""
        for chunk in _whole_pieces(self._held, data, CHUNK_SIZE):
            end = at + SEALED_CHUNK_SIZE
            self._cipher.seal_into(self._counter.take(), chunk, out[at:end])
            at = end
        return at

    def finalize(self) -> bytes:
        """See `Encryptor`."""
        last = self._cipher.seal(self._counter.take(), self._held)
        self._held.clear()
        return self._prefix + last


class Sm4Decryptor:
    """The SM4-GCM suite's decryptor, with the interface of pyca's Cobblestone classes."""

    def __init__(self, key: Buffer, context: bytes) -> None:
        self._key = bytes(key)
        self._context = context
        self._cipher: ChunkCipher | None = None
        self._counter = _ChunkCounter(bytes(12))
        self._held = bytearray()

    def update(self, data: Buffer) -> bytes:
        """See `Decryptor`."""
        out = bytearray(output_size(memoryview(data).nbytes))
        return bytes(memoryview(out)[: self.update_into(data, out)])

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """See `Decryptor`."""
        view = memoryview(data)
        if self._cipher is None:
            missing = PREFIX_SIZE - len(self._held)
            self._held += view[:missing]
            view = view[missing:]
            if len(self._held) < PREFIX_SIZE:
                return 0
            self._start()
        out, at = memoryview(buf), 0
        for piece in _whole_pieces(self._held, view, SEALED_CHUNK_SIZE):
            opened = self._open(piece)
            out[at : at + len(opened)] = opened
            at += len(opened)
        return at

    def finalize(self) -> bytes:
        """See `Decryptor`."""
        if self._cipher is None:
            raise NotAuthentic
        last = self._open(self._held)
        self._held.clear()
        return last

    def _start(self) -> None:
        prefix = bytes(self._held)
        self._held.clear()
        salt = prefix[:SALT_SIZE]
        cipher, base_nonce, commitment = key_schedule(Suite.SM4_GCM, self._key, salt, self._context)
        if not hmac.compare_digest(commitment, prefix[SALT_SIZE:]):
            raise NotAuthentic
        self._cipher, self._counter = cipher, _ChunkCounter(base_nonce)

    def _open(self, sealed: Buffer) -> bytes:
        if self._cipher is None:
            raise AssertionError("stream: no cipher before the prefix")
        try:
            return self._cipher.open(self._counter.take(), sealed)
        except NotAuthentic:
            raise NotAuthentic(self._counter.index - 1) from None


def _whole_pieces(held: bytearray, data: Buffer, size: int) -> list[Buffer]:
    """Cut `held` + `data` into pieces of `size` bytes; what is left over stays in `held`.

    Copies only the bytes that cross two calls.
    """
    view = memoryview(data)
    pieces: list[Buffer] = []
    if held:
        missing = size - len(held)
        held += view[:missing]
        view = view[missing:]
        if len(held) < size:
            return pieces
        pieces.append(bytes(held))
        held.clear()
    whole = len(view) - len(view) % size
    pieces += [view[start : start + size] for start in range(0, whole, size)]
    held += view[whole:]
    return pieces


class ChunkWriter:
    """Seals the chunks of one body in any order, in several processes if need be.

    Args:
        suite: the suite of the body.
        key: the 32-byte input key.
        context: the bytes that the body is bound to.

    Attributes:
        prefix: the first 56 bytes of the body.
    """

    def __init__(self, suite: Suite, key: Buffer, context: bytes) -> None:
        salt = os.urandom(SALT_SIZE)
        self._cipher, base_nonce, commitment = key_schedule(suite, key, salt, context)
        self._counter = _ChunkCounter(base_nonce)
        self._begun: set[int] = set()
        self._is_claimed = False
        self.prefix = salt + commitment

    def claim(self) -> None:
        """Say that the body is sealed next, in processes that do not know of each other.

        A second time is a mistake: it would use each nonce again.
        """
        if self._is_claimed or self._begun:
            raise AssertionError("stream: a body is sealed once")
        self._is_claimed = True

    def seal_into(self, first: int, plaintext: Buffer, out: memoryview, *, last: bool) -> int:
        """Seal consecutive chunks.

        Args:
            first: index of the first of them. A nonce belongs to one chunk, so no index is ever
                given twice.
            plaintext: whole chunks, and after them the end of the body's plaintext if `last`.
            out: room for all of them with their tags.
            last: whether the body ends here, with a chunk that is shorter and may be empty.

        Returns:
            Bytes written.
        """
        view = memoryview(plaintext)
        whole, rest = divmod(len(view), CHUNK_SIZE)
        if first in self._begun or (rest and not last) or first + whole >= MAX_CHUNKS:
            raise AssertionError("stream: each chunk is sealed once, and is whole unless the last")
        self._begun.add(first)
        at = 0
        for index in range(whole + last):
            chunk = view[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
            end = at + len(chunk) + TAG_SIZE
            self._cipher.seal_into(self._counter.nonce(first + index), chunk, out[at:end])
            at = end
        return at


class ChunkReader:
    """Opens single chunks of a body in any order.

    Args:
        suite: the suite of the body.
        key: the 32-byte input key.
        context: the bytes that the body is bound to.
        prefix: the first 56 bytes of the body.

    Raises:
        NotAuthentic: the key commitment does not match.
    """

    def __init__(self, suite: Suite, key: Buffer, context: bytes, prefix: bytes) -> None:
        if len(prefix) != PREFIX_SIZE:
            raise NotAuthentic
        salt, expected = prefix[:SALT_SIZE], prefix[SALT_SIZE:]
        self._cipher, base_nonce, commitment = key_schedule(suite, key, salt, context)
        if not hmac.compare_digest(commitment, expected):
            raise NotAuthentic
        self._counter = _ChunkCounter(base_nonce)

    @staticmethod
    def span(index: int) -> tuple[int, int]:
        """First byte and largest size of chunk `index` within the body."""
        return PREFIX_SIZE + index * SEALED_CHUNK_SIZE, SEALED_CHUNK_SIZE

    def open(self, index: int, sealed: Buffer, *, last: bool) -> bytes:
        """Open chunk `index`.

        Args:
            index: position in the body, from 0.
            sealed: the chunk's bytes with its tag.
            last: whether the body ends with this chunk. A last chunk is shorter than the others
                and they are never short: the rule is checked here, so that a wrong idea of where
                the body ends cannot pass.

        Raises:
            NotAuthentic: the tag does not match, or the size breaks the rule.
        """
        size = memoryview(sealed).nbytes
        fits = size < SEALED_CHUNK_SIZE if last else size == SEALED_CHUNK_SIZE
        if not fits or not 0 <= index < MAX_CHUNKS:
            raise NotAuthentic(index)
        try:
            return self._cipher.open(self._counter.nonce(index), sealed)
        except NotAuthentic:
            raise NotAuthentic(index) from None

    def open_into(self, first: int, sealed: Buffer, out: memoryview, *, last: bool) -> int:
        """Open consecutive chunks.

        Args:
            first: index of the first of them.
            sealed: the chunks with their tags.
            out: room for their plaintext. It holds authentic bytes only after this returned.
            last: whether the body ends here; see `open`.

        Returns:
            Bytes written.

        Raises:
            NotAuthentic: with the index of the chunk that is not.
        """
        view = memoryview(sealed)
        whole, rest = divmod(len(view), SEALED_CHUNK_SIZE)
        if last == (rest < TAG_SIZE) or first + whole >= MAX_CHUNKS:
            raise NotAuthentic(first + whole)
        at = 0
        for index in range(whole + last):
            chunk = view[index * SEALED_CHUNK_SIZE : (index + 1) * SEALED_CHUNK_SIZE]
            end = at + len(chunk) - TAG_SIZE
            try:
                self._cipher.open_into(self._counter.nonce(first + index), chunk, out[at:end])
            except NotAuthentic:
                raise NotAuthentic(first + index) from None
            at = end
        return at
