"""Which libraries do the work on this machine, and how fast they are."""

from __future__ import annotations

import os
import time

import cryptography
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.backends.openssl import backend

from encvault.crypto import gcrypt, stream
from encvault.crypto.suite import KEY_SIZE, Suite
from encvault.errors import SuiteUnavailable

BUFFER_SIZE = (
    1 << 18
)  # bytes; large enough that the calls cost nothing, small enough for a slow CPU


def library_versions() -> tuple[str, str]:
    """The versions of pyca/cryptography, and of the OpenSSL that it brings or found."""
    return cryptography.__version__, backend.openssl_version_text()


def backend_of(suite: Suite) -> str:
    """The library that computes a suite here, and its version."""
    if suite is Suite.SM4_GCM and gcrypt.is_usable():
        return f"libgcrypt {gcrypt.status().version}"
    return f"{backend.openssl_version_text()}, pyca/cryptography {cryptography.__version__}"


def rate(suite: Suite, duration_ns: int) -> float:
    """Seal random bytes in memory for about that long, on one core.

    Args:
        suite: what to seal with.
        duration_ns: nanoseconds; at least one buffer is sealed whatever it is.

    Returns:
        Bytes of plaintext per second.

    Raises:
        SuiteUnavailable: the libraries here do not have it.
    """
    try:
        return _rate(suite, duration_ns)
    except UnsupportedAlgorithm as error:
        raise SuiteUnavailable(suite=suite.label, reason=str(error)) from None


def _rate(suite: Suite, duration_ns: int) -> float:
    plaintext = os.urandom(BUFFER_SIZE)
    body = bytearray(stream.output_size(BUFFER_SIZE))
    encryptor = stream.encryptor(suite, os.urandom(KEY_SIZE), b"")
    encryptor.update_into(plaintext, body)  # the first call loads what the later ones have
    done, begun = 0, time.perf_counter_ns()
    while True:
        encryptor.update_into(plaintext, body)
        done += BUFFER_SIZE
        if (passed := time.perf_counter_ns() - begun) >= duration_ns:
            return done * 1e9 / max(passed, 1)
