"""Ed25519 signatures (RFC 8032). A private key is a 32-byte seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from encvault.crypto import NotAuthentic

if TYPE_CHECKING:
    from encvault.secret import Buffer

PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64


def public_key(seed: Buffer) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: Buffer, message: bytes) -> bytes:
    """A 64-byte signature of `message`."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Return if the signature is good.

    Raises:
        NotAuthentic: it is not, or `public` is no key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise NotAuthentic from None
