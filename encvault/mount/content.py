"""A file's content while it is open or has changes: a base, and blocks that replace parts of it.

A block stands for its whole range; what it has no bytes of is zeros. Beyond ``kept`` nothing of
the base is left, so that a file that was cut and grew again has zeros there and not what it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.mount.bases import Growing, Nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.mount.bases import Base
    from encvault.mount.cache import Budget
    from encvault.mount.spill import Slot, Spill
    from encvault.secret import Buffer

BLOCK_SIZE = 131_072  # bytes
GROWING_SIZE = 524_288
"""Bytes from which on a file that is written from its front is sealed as it comes."""

PIECE_SIZE = 524_288  # bytes of content at a time where all of it is read


class Content:
    """See the module; not safe for several threads, its node has a lock.

    Args:
        base: what it rests on; closed with it.
        budget: counts bytes of changes.
        spill: gives the spill file when there is no room in memory.
        grow: makes the base of a new file that is written from its front, or gives None where
            that cannot be.
    """

    def __init__(
        self,
        base: Base,
        budget: Budget,
        spill: Callable[[], Spill],
        grow: Callable[[], Growing | None],
    ) -> None:
        self.base = base
        self.size = self._kept = base.size
        self._budget = budget
        self._spill = spill
        self._grow = grow
        self._blocks: dict[int, bytearray] = {}
        self._spilled: dict[int, Slot] = {}
        self._growing_size = 0  # bytes that the base holds, if it grows
        self._from_front = base.size == 0  # all of it was written one after the other

    @property
    def has_changes(self) -> bool:
        """Whether the base does not have all of it."""
        is_cut = self._kept != self.base.size  # even if it has grown again since
        return bool(self._blocks or self._spilled) or is_cut or self.size != self.base.size

    @property
    def growing(self) -> Growing | None:
        """The file that all of it was sealed to as it came, if it was."""
        if isinstance(self.base, Growing) and not self.has_changes:
            return self.base
        return None

    # -- read -------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> Buffer:
        """Up to `size` bytes; fewer only at the end.

        Raises:
            OSError, EncvaultError: the base cannot be read, or is not authentic.
        """
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        if not (self._blocks or self._spilled) and offset + size <= self._kept:
            piece = self.base.read(offset, size)
            if len(piece) == size:
                return piece
        out = bytearray(size)
        at = 0
        while at < size:
            index, start = divmod(offset + at, BLOCK_SIZE)
            count = min(BLOCK_SIZE - start, size - at)
            block = self._block_to_read(index)
            if block is None:
                self._read_base(memoryview(out)[at : at + count], offset + at)
            else:
                part = block[start : start + count]
                out[at : at + len(part)] = part
            at += count
        return out

    def _block_to_read(self, index: int) -> bytearray | None:
        if (slot := self._spilled.get(index)) is not None:
            return self._spill().read(slot)
        return self._blocks.get(index)

    def _read_base(self, out: memoryview, offset: int) -> None:
        """Fill `out` with what the base has there; the rest stays zero."""
        size = min(len(out), self._kept - offset)
        done = 0
        while done < size:
            piece = self.base.read(offset + done, size - done)
            out[done : done + len(piece)] = piece
            done += len(piece)

    def pieces(self) -> Iterator[Buffer]:
        """All of it, in order."""
        at = 0
        while at < self.size:
            piece = self.read(at, PIECE_SIZE)
            yield piece
            at += len(piece)

    # -- change -----------------------------------------------------------------------------

    def write(self, offset: int, data: bytes) -> None:
        """Change or add content; a gap between the end and `offset` becomes zeros.

        Raises:
            OSError: there is no room for it; what was there is unchanged.
        """
        if not data:
            return
        is_next = offset == self.size
        if is_next and (growing := self.growing) is not None and growing.takes(len(data)):
            growing.append(data)
            self.size = self._kept = growing.size
            return
        if self._budget.is_spent:
            self._spill_blocks()
        self._from_front = self._from_front and is_next
        at = 0
        while at < len(data):
            index, start = divmod(offset + at, BLOCK_SIZE)
            count = min(BLOCK_SIZE - start, len(data) - at)
            block = self._block_to_write(index, whole=count == BLOCK_SIZE)
            before = len(block)
            if start > before:
                block += bytes(start - before)
            block[start : start + count] = data[at : at + count]
            self._budget.take(len(block) - before)
            at += count
        self.size = max(self.size, offset + len(data))
        if self._from_front and self.size >= GROWING_SIZE:
            self._begin_to_grow()

    def _block_to_write(self, index: int, *, whole: bool) -> bytearray:
        block = self._blocks.get(index)
        if block is not None:
            return block
        if (slot := self._spilled.pop(index, None)) is not None:
            block = bytearray() if whole else self._spill().read(slot)
            self._spill().free(slot)
        else:
            block = bytearray()
            start = index * BLOCK_SIZE
            if not whole and start < self._kept:
                block = bytearray(min(BLOCK_SIZE, self._kept - start))
                with memoryview(block) as view:
                    self._read_base(view, start)
        self._blocks[index] = block
        self._budget.take(len(block))
        return block

    def _begin_to_grow(self) -> None:
        """Seal what there is, and what follows, as it comes."""
        self._from_front = False
        if self.base.size or self._budget.is_spent:
            return
        growing = None
        try:
            if (growing := self._grow()) is None:
                return
            for piece in self.pieces():
                growing.append(piece)
        except OSError:  # no room now; the changes stay where they are
            if growing is not None:
                growing.close()
            return
        self.drop_changes()
        self._rest_on(growing)

    def _spill_blocks(self) -> None:
        spill = self._spill()
        for index in sorted(self._blocks):
            block = self._blocks[index]
            self._spilled[index] = spill.write(block)
            self._budget.take(-len(block))
            del self._blocks[index]

    def truncate(self, size: int) -> None:
        """Cut it or let it grow by zeros.

        Raises:
            OSError: a block that was spilled cannot be read.
        """
        if size == 0:
            self.drop_changes()
            self.base.close()
            self._rest_on(Nothing())
            self._from_front = True
            return
        if size < self.size:
            last, rest = divmod(size, BLOCK_SIZE)
            if last in self._spilled:
                self._block_to_write(last, whole=False)
            for index in [index for index in self._spilled if index * BLOCK_SIZE >= size]:
                self._spill().free(self._spilled.pop(index))
            for index in [index for index in self._blocks if index * BLOCK_SIZE >= size]:
                self._budget.take(-len(self._blocks.pop(index)))
            if (block := self._blocks.get(last)) is not None and len(block) > rest:
                self._budget.take(rest - len(block))
                del block[rest:]
            self._kept = min(self._kept, size)
        self._from_front = False
        self.size = size

    def zero(self, offset: int, size: int) -> None:
        """Make a range zeros; it does not make the file longer.

        Raises:
            OSError: as `write`.
        """
        end = min(offset + size, self.size)
        while offset < end:
            count = min(BLOCK_SIZE - offset % BLOCK_SIZE, end - offset)
            self.write(offset, bytes(count))
            offset += count

    # -- the end ----------------------------------------------------------------------------

    def settle(self, base: Base) -> None:
        """Rest on a base that has all of it."""
        self.drop_changes()
        if base is not self.base:
            self.base.close()
        self._rest_on(base)
        self._from_front = False

    def drop_changes(self) -> None:
        """Forget what replaced parts of the base."""
        for slot in self._spilled.values():
            self._spill().free(slot)
        self._spilled.clear()
        self._budget.take(-sum(map(len, self._blocks.values())))
        self._blocks.clear()

    def _rest_on(self, base: Base) -> None:
        size = GROWING_SIZE if isinstance(base, Growing) else 0
        self._budget.take(size - self._growing_size)
        self._growing_size = size
        self.base = base
        self.size = self._kept = base.size

    def close(self) -> None:
        """Let go of everything."""
        self.drop_changes()
        self.base.close()
        self._rest_on(Nothing())
