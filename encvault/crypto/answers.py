"""Known answers of the chunk ciphers at the lengths where libraries change their code.

A library takes its fast code only for many blocks at once, so an answer of some bytes says nothing
of it; and a round trip says nothing of a library that is wrong in the same way in both directions,
though no other library could ever open what it sealed. So one whole chunk with a ragged tail, and
lengths around the borders of one block and of the widest vectors, are held against digests that
another library agreed with.

How the digests were made: SHA-256 over the results of all `LENGTHS` one after the other, each with
its tag, computed by OpenSSL 4.0.3 (pyca/cryptography 50.0.2) and again by libgcrypt 1.10.1, and by
a few lines of Python that know only the standards (GB/T 32907, FIPS 197, SP 800-38D). The tests
compute them anew in that third way.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic

if TYPE_CHECKING:
    from encvault.crypto.suite import ChunkCipher

LENGTHS = (1, 15, 16, 17, 127, 128, 129, 256, 257, 1025, 16_384 + 77)
KEY = bytes(range(32))  # the first 16 bytes of it for SM4
# a period that no number of blocks has, so that a block in the place of another shows
PLAIN = (bytes(range(251)) * 66)[: LENGTHS[-1]]

AES_256_GCM = bytes.fromhex("7964a9c35310fffc77c8fbe077ecc41eb8c8ef32dc59733d2f887a78ea6ed168")
SM4_GCM = bytes.fromhex("38877974a5995cab11d66cdb76b2e9a2c816d444ef0562e4544142c836f65cbc")

_TAG_SIZE = 16
_CHANGED = 1025  # bytes of the message that is changed


def nonce(length: int) -> bytes:
    """The nonce of the message of that many bytes."""
    return length.to_bytes(12)


def are_given(cipher: ChunkCipher, digest: bytes) -> bool:
    """Whether a cipher under that key gives the known answers, in both directions.

    Args:
        cipher: under `KEY`, or as much of it as its keys are long.
        digest: `AES_256_GCM` or `SM4_GCM`.
    """
    sealed_all = hashlib.sha256()
    plain = memoryview(PLAIN)
    for length in LENGTHS:
        sealed, opened = bytearray(length + _TAG_SIZE), bytearray(length)
        cipher.seal_into(nonce(length), plain[:length], memoryview(sealed))
        sealed_all.update(sealed)
        if not _opens(cipher, length, memoryview(sealed), memoryview(opened)):
            return False
        if opened != plain[:length]:
            return False
    return sealed_all.digest() == digest and _refuses_what_is_changed(cipher)


def _opens(cipher: ChunkCipher, length: int, sealed: memoryview, opened: memoryview) -> bool:
    try:
        cipher.open_into(nonce(length), sealed, opened)
    except NotAuthentic:
        return False
    return True


def _refuses_what_is_changed(cipher: ChunkCipher) -> bool:
    """Whether a bit that was changed in the text or in the tag is noticed, in fast code as well.

    Everything is at odd addresses here, and at even ones above: there may be code for each.
    """
    length = _CHANGED
    plain = memoryview(b"\0" + PLAIN)[1 : 1 + length]
    sealed, opened = bytearray(1 + length + _TAG_SIZE), bytearray(1 + length)
    place, target = memoryview(sealed)[1:], memoryview(opened)[1:]
    cipher.seal_into(nonce(length), plain, place)
    if not _opens(cipher, length, place, target) or target != plain:
        return False
    for at in (length // 2, length + _TAG_SIZE - 1):
        place[at] ^= 1
        if _opens(cipher, length, place, target):
            return False
        place[at] ^= 1
    return True
