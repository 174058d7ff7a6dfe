"""Plaintext that was just read, and how much memory all of a mount may use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

CACHE_SIZE = 48 * 1024 * 1024
"""Bytes of opened content that a mount keeps for the next read (docs/mount.md)."""

_PIECE_COST = 512  # bytes of memory that a piece takes beside what it holds

CHANGES_SIZE = 48 * 1024 * 1024
"""Bytes of changes that a mount keeps in memory before they go to a spill file."""


class Cache:
    """Pieces of opened content; those that were used longest ago go first.

    Args:
        size: bytes that it may hold.
    """

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self._limit = size
        self._lock = threading.Lock()
        self._pieces: OrderedDict[Hashable, memoryview] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable) -> memoryview | None:
        """The piece, or None."""
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                self._pieces.move_to_end(key)
            return piece

    def put(self, key: Hashable, piece: memoryview) -> None:
        """Keep a piece."""
        with self._lock:
            if (old := self._pieces.pop(key, None)) is not None:
                self._size -= len(old) + _PIECE_COST
            self._pieces[key] = piece
            self._size += len(piece) + _PIECE_COST
            while self._size > self._limit:
                _key, gone = self._pieces.popitem(last=False)
                self._size -= len(gone) + _PIECE_COST

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._pieces.clear()
            self._size = 0


class Budget:
    """Counts bytes of changes in memory.

    Args:
        size: bytes after which they have to go elsewhere.
    """

    def __init__(self, size: int = CHANGES_SIZE) -> None:
        self._limit = size
        self._lock = threading.Lock()
        self._used = 0

    def take(self, size: int) -> None:
        """So many bytes more, or fewer."""
        with self._lock:
            self._used += size

    @property
    def is_spent(self) -> bool:
        """Whether there are more than may be."""
        return self._used > self._limit
