"""Published constructions composed from pyca/cryptography and argon2-cffi.

The only package that imports them. It knows keys, nonces and chunks; it knows nothing of files,
slots or vaults. Everything that fails to authenticate raises `NotAuthentic`, which the layer that
knows the file turns into a named error with a path (`encvault.errors`).
"""

from __future__ import annotations


class NotAuthentic(Exception):
    """Ciphertext, signature or commitment does not match its key.

    Args:
        chunk_index: the chunk that failed, or None when the key commitment or a signature did.
    """

    def __init__(self, chunk_index: int | None = None) -> None:
        super().__init__(chunk_index)
        self.chunk_index = chunk_index
