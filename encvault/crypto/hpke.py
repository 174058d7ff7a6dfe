"""Public-key sealing: HPKE (RFC 9180) with the post-quantum hybrid KEM MLKEM768-X25519.

The suite is MLKEM768-X25519, HKDF-SHA256, AES-256-GCM in base mode. A private key is a 32-byte
seed; both component keys come from it by SHAKE256 as in draft-irtf-cfrg-concrete-hybrid-kems and
X-Wing (draft-connolly-cfrg-xwing-kem, section 5.2):

    SHAKE256(seed, 96) = ML-KEM-768 seed d | z (64 bytes) | X25519 private key (32 bytes)

A public key is the ML-KEM-768 key (1,184 bytes) followed by the X25519 key (32 bytes).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from encvault.crypto import NotAuthentic
from encvault.i18n import N_
from encvault.secret import Secret

if TYPE_CHECKING:
    from encvault.secret import Buffer

SEED_SIZE = 32
MLKEM_PUBLIC_SIZE = 1184
PUBLIC_KEY_SIZE = MLKEM_PUBLIC_SIZE + 32
OVERHEAD = 1088 + 32 + 16  # encapsulated keys and tag, added to the plaintext's size

_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _components(seed: Buffer) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if memoryview(seed).nbytes != SEED_SIZE:
        raise AssertionError("hpke: a private key is a 32-byte seed")
    expanded = hashlib.shake_256(seed).digest(96)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def public_key(seed: Buffer) -> bytes:
    """The 1,216-byte public key that belongs to a 32-byte seed."""
    mlkem, x25519 = _components(seed)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def check_public_key(public: bytes) -> None:
    """Raise ValueError unless `public` is a 1,216-byte key that both algorithms accept."""
    _parse(public)


def _parse(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    if len(public) != PUBLIC_KEY_SIZE:
        raise ValueError(N_("a public key has 1216 bytes"))
    return hpke.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_SIZE]),
        X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_SIZE:]),
    )


def seal(public: bytes, plaintext: Buffer, info: bytes) -> bytes:
    """Seal a short secret to a public key; `info` is bound and not encrypted.

    Raises:
        ValueError: `public` is no key.
    """
    return _SUITE.encrypt(plaintext, _parse(public), info)


def open(seed: Buffer, sealed: bytes, info: bytes) -> Secret:  # noqa: A001 - the verb is seal/open
    """Open what `seal` made for this seed's public key.

    Raises:
        NotAuthentic: another key, other `info`, or damaged bytes.
    """
    mlkem, x25519 = _components(seed)
    try:
        return Secret(_SUITE.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(mlkem, x25519), info))
    except InvalidTag:
        raise NotAuthentic from None
