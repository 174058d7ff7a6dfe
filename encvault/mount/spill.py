"""Changes that do not fit into memory: an encrypted file that only this process can read.

The file has no name and its key is never written down, so nothing of it can be read once the
process has ended. Every block is sealed under a nonce of its own, a counter, and opened before it
is used; a disk that returns something else is an error and no content.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic
from encvault.crypto.suite import KEY_SIZE, NONCE_SIZE, SALT_SIZE, TAG_SIZE, key_schedule
from encvault.fs import calls, durable
from encvault.vault.manifest import FOLDER, new_id

if TYPE_CHECKING:
    from encvault.crypto.suite import Suite
    from encvault.fs.tree import Tree
    from encvault.secret import Buffer

_CONTEXT = b"encvault/spill@v1\0"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a block is in the spill file.

    Attributes:
        index: of the slot.
        counter: what its nonce was made of.
        size: bytes of plaintext.
    """

    index: int
    counter: int
    size: int


class Spill:
    """A spill file; it is there until `close`. Several threads may use it.

    Args:
        tree: the vault's; the file takes its room where the sealed file will.
        suite: of the vault.
        block_size: bytes of a block at most.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, tree: Tree, suite: Suite, block_size: int) -> None:
        folder, name = tree.folder(FOLDER), durable.temporary_name(new_id())
        self._fd = calls.create(folder, name)
        try:
            calls.unlink(folder, name)
        except BaseException:
            os.close(self._fd)
            raise
        key = bytearray(os.urandom(KEY_SIZE))
        self._cipher = key_schedule(suite, key, os.urandom(SALT_SIZE), _CONTEXT)[0]
        key[:] = bytes(len(key))
        self._slot_size = block_size + TAG_SIZE
        self._lock = threading.Lock()
        self._counter = 0
        self._end = 0
        self._free: list[int] = []

    def write(self, data: Buffer) -> Slot:
        """Keep a block.

        Raises:
            OSError: there is no room.
        """
        with self._lock:  # no slot and no nonce is anybody else's
            if self._free:
                index = self._free.pop()
            else:
                index, self._end = self._end, self._end + 1
            self._counter += 1
            slot = Slot(index, self._counter, len(data))
        try:
            sealed = self._cipher.seal(slot.counter.to_bytes(NONCE_SIZE), data)
            calls.write_at(self._fd, sealed, index * self._slot_size)
        except BaseException:
            self.free(slot)
            raise
        return slot

    def read(self, slot: Slot) -> bytearray:
        """A block that was written.

        Raises:
            OSError: it cannot be read, or is not what was written.
        """
        sealed = bytearray(slot.size + TAG_SIZE)
        count = calls.read_at(self._fd, memoryview(sealed), slot.index * self._slot_size)
        try:
            if count != len(sealed):
                raise NotAuthentic  # noqa: TRY301 - the same error
            return bytearray(self._cipher.open(slot.counter.to_bytes(NONCE_SIZE), sealed))
        except NotAuthentic:
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    def free(self, slot: Slot) -> None:
        """Forget a block; its room is used again."""
        with self._lock:
            self._free.append(slot.index)

    def close(self) -> None:
        """Give the room back."""
        os.close(self._fd)
