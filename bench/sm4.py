"""Seal so many MiB in memory by libgcrypt alone, in two threads: what the library can do.

python bench/sm4.py 2048
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from encvault.crypto import gcrypt

CHUNK = 16 * 1024
CHUNKS_AT_ONCE = 1024


def seal(first: int, chunks: int) -> None:
    """One thread's share."""
    cipher = gcrypt.sm4_cipher(bytes(range(16)))
    plain = os.urandom(CHUNK)
    for number in range(first, first + chunks):
        cipher.seal(number.to_bytes(12), plain)


def main() -> None:
    """Run both threads."""
    if not gcrypt.is_usable():
        sys.exit(f"libgcrypt is not used here: {gcrypt.status().reason}")
    half = int(sys.argv[1]) * (1 << 20) // CHUNK // 2
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(seal, share * half, half) for share in range(2)]:
            done.result()


if __name__ == "__main__":
    main()
