"""Keys from passwords (Argon2id, RFC 9106) and keys from keys (HKDF-Expand, RFC 5869)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from encvault.errors import TooLittleMemory
from encvault.secret import Secret

if TYPE_CHECKING:
    from encvault.secret import Buffer

SALT_SIZE = 16
DERIVED_KEY_SIZE = 32


class KdfProfile(NamedTuple):
    """Work factors of Argon2id.

    Attributes:
        memory_kib: memory in KiB.
        passes: iterations over that memory.
        lanes: parallelism.
    """

    memory_kib: int
    passes: int
    lanes: int

    @property
    def within_caps(self) -> bool:
        """Whether an honest file would ask for this much; checked before any memory is taken.

        The bounds are the memory that RFC 9106's first choice takes (2 GiB) and, in time, 16
        passes over it. Eight such slots cost a hostile header's reader minutes, not the machine.
        """
        return (
            8 * self.lanes <= self.memory_kib <= MAX_MEMORY_KIB
            and 1 <= self.passes <= MAX_PASSES
            and 1 <= self.lanes <= MAX_LANES
        )


MAX_MEMORY_KIB = 2 * 1024 * 1024
MAX_PASSES = 16
MAX_LANES = 16

DEFAULT = KdfProfile(memory_kib=256 * 1024, passes=3, lanes=4)
RFC_9106_LOW_MEMORY = KdfProfile(memory_kib=64 * 1024, passes=3, lanes=4)
RFC_9106_HIGH_MEMORY = KdfProfile(memory_kib=2 * 1024 * 1024, passes=1, lanes=4)
CHEAPEST = KdfProfile(memory_kib=8, passes=1, lanes=1)  # only for tests: protects nothing


def derive_from_password(password: Secret, salt: bytes, profile: KdfProfile) -> Secret:
    """32 bytes from a password by Argon2id version 1.3.

    Args:
        password: the password's bytes.
        salt: 16 random bytes.
        profile: work factors, within the caps.

    Raises:
        TooLittleMemory: the system does not give as much as the profile asks for.
    """
    # not at module level: most runs use a key and no password, and the import costs 20 ms
    from argon2.exceptions import HashingError  # noqa: PLC0415
    from argon2.low_level import Type, hash_secret_raw  # noqa: PLC0415

    if not profile.within_caps:
        raise AssertionError("kdf: caps are checked where the profile is read")
    try:
        derived = hash_secret_raw(
            bytes(password.reveal()),
            salt,
            time_cost=profile.passes,
            memory_cost=profile.memory_kib,
            parallelism=profile.lanes,
            hash_len=DERIVED_KEY_SIZE,
            type=Type.ID,
        )
    except HashingError as error:  # with a profile within the caps it has no other reason
        raise TooLittleMemory(needed_mib=-(-profile.memory_kib // 1024)) from error
    return Secret(derived)


def expand(key: Buffer, label: str, size: int = DERIVED_KEY_SIZE) -> Secret:
    """HKDF-Expand-SHA256 of a uniformly random 32-byte key under a domain-separation label."""
    return Secret(expand_raw(key, label.encode(), size))


def expand_raw(key: Buffer, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869 section 2.3)."""
    return HKDFExpand(hashes.SHA256(), size, info).derive(key)
