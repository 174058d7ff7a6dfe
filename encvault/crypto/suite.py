"""Cipher suites: the key schedule and the chunk AEAD of each.

Both are instances of C2SP chunked-encryption (https://c2sp.org/chunked-encryption):

    key | base_nonce[12] | commitment[32] = HKDF-Expand(prk = input_key, info)
    info = label | AEAD name | 0x00 | salt[24] | context

* Suite 1, ``aes-256-gcm``: *Cobblestone-256*, SHA-512 and AES-256-GCM, with C2SP's own label.
* Suite 2, ``sm4-gcm``: SM3 and SM4-GCM (RFC 8998). C2SP does not name this instance; it is
  encvault's own and carries encvault's label (docs/format.md, section 4).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from encvault.crypto import NotAuthentic, gcrypt

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.secret import Buffer

KEY_SIZE = 32  # input keys of both suites, bytes
SALT_SIZE = 24
COMMITMENT_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16


class Suite(enum.Enum):
    """A cipher suite. The value is its number in a sealed file's header."""

    AES_256_GCM = 1
    SM4_GCM = 2

    @property
    def label(self) -> str:
        """Name in options, JSON and vault.json."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_label(cls, label: str) -> Suite:
        """The suite of that name; ValueError if there is none."""
        for suite in cls:
            if suite.label == label:
                return suite
        raise ValueError(label)


class ChunkCipher(Protocol):
    """One-shot AEAD over a chunk, bound to one key; associated data is always empty."""

    def seal(self, nonce: bytes, plaintext: Buffer) -> bytes:
        """Ciphertext followed by the 16-byte tag."""

    def open(self, nonce: bytes, sealed: Buffer) -> bytes:
        """Plaintext, or `NotAuthentic`."""

    def seal_into(self, nonce: bytes, plaintext: Buffer, out: memoryview) -> None:
        """Like `seal`, into a buffer of exactly the result's size."""

    def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
        """Like `open`, into a buffer of exactly the result's size."""


class AesChunkCipher:
    """AES-256-GCM by pyca's one-shot class."""

    key_size = 32

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, nonce: bytes, plaintext: Buffer) -> bytes:
        """See `ChunkCipher`."""
        return self._aead.encrypt(nonce, plaintext, None)

    def open(self, nonce: bytes, sealed: Buffer) -> bytes:
        """See `ChunkCipher`."""
        try:
            return self._aead.decrypt(nonce, sealed, None)
        except InvalidTag:
            raise NotAuthentic from None

    def seal_into(self, nonce: bytes, plaintext: Buffer, out: memoryview) -> None:
        """See `ChunkCipher`."""
        self._aead.encrypt_into(nonce, plaintext, None, out)

    def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
        """See `ChunkCipher`."""
        try:
            self._aead.decrypt_into(nonce, sealed, None, out)
        except InvalidTag:
            raise NotAuthentic from None


class Sm4ChunkCipher:
    """SM4-GCM by pyca's streaming cipher, where libgcrypt is not; it has no one-shot class for it.

    Its decryptor hands out plaintext before the tag is checked, so `open` keeps the whole chunk
    and returns it only after ``finalize``.
    """

    key_size = 16

    def __init__(self, key: bytes) -> None:
        self._algorithm = algorithms.SM4(key)

    def seal(self, nonce: bytes, plaintext: Buffer) -> bytes:
        """See `ChunkCipher`."""
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag

    def open(self, nonce: bytes, sealed: Buffer) -> bytes:
        """See `ChunkCipher`."""
        view = memoryview(sealed)
        if len(view) < TAG_SIZE:
            raise NotAuthentic
        tag = bytes(view[-TAG_SIZE:])
        decryptor = Cipher(self._algorithm, modes.GCM(nonce, tag)).decryptor()
        held = decryptor.update(view[:-TAG_SIZE])
        try:
            return held + decryptor.finalize()
        except InvalidTag:
            raise NotAuthentic from None

    def seal_into(self, nonce: bytes, plaintext: Buffer, out: memoryview) -> None:
        """See `ChunkCipher`."""
        out[:] = self.seal(nonce, plaintext)

    def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
        """See `ChunkCipher`."""
        out[:] = self.open(nonce, sealed)


def sm4_cipher(key: bytes) -> ChunkCipher:
    """SM4-GCM by the fastest library that is here; all of them make the same bytes."""
    return gcrypt.sm4_cipher(key) if gcrypt.is_usable() else Sm4ChunkCipher(key)


_LABELS = {
    Suite.AES_256_GCM: b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00",
    Suite.SM4_GCM: b"encvault/chunked-encryption@v1+AEAD_SM4_GCM\x00",
}


def key_schedule(
    suite: Suite, input_key: Buffer, salt: bytes, context: bytes
) -> tuple[ChunkCipher, bytes, bytes]:
    """Derive a body's chunk cipher, base nonce and key commitment.

    Args:
        suite: the suite of the body.
        input_key: 32 uniformly random bytes.
        salt: 24 random bytes, fresh for each body.
        context: the bytes that the body is bound to (the encoded header).

    Returns:
        The cipher, the 12-byte base nonce and the 32-byte commitment.
    """
    cipher: Callable[[bytes], ChunkCipher]
    algorithm: hashes.HashAlgorithm
    if suite is Suite.AES_256_GCM:
        cipher, key_size, algorithm = AesChunkCipher, AesChunkCipher.key_size, hashes.SHA512()
    else:
        cipher, key_size, algorithm = sm4_cipher, Sm4ChunkCipher.key_size, hashes.SM3()
    info = _LABELS[suite] + salt + context
    okm = HKDFExpand(algorithm, key_size + NONCE_SIZE + COMMITMENT_SIZE, info).derive(input_key)
    key, rest = okm[:key_size], okm[key_size:]
    return cipher(key), rest[:NONCE_SIZE], rest[NONCE_SIZE:]
