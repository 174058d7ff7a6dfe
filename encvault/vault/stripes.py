"""The content of a large file through the cipher, in stripes that several threads take in turn.

Reading and writing release the interpreter's lock, and the cipher is ten times faster than either,
so two threads are twice as fast as one. Every stripe leaves a tag behind (`Comparison`), by which
the copy, once it is durable, is read back and compared without reading the original again.

A stripe is 32 chunks of plaintext, 512 KiB; the last one of a body is shorter and may be empty.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from encvault.crypto import stream
from encvault.crypto.comparison import Comparison
from encvault.fs import calls

STRIPE_CHUNKS = 32
STRIPE_SIZE = STRIPE_CHUNKS * stream.CHUNK_SIZE
_SEALED_SIZE = STRIPE_CHUNKS * stream.SEALED_CHUNK_SIZE
_TAG_SIZE = 16
_HOLE = 65_536  # runs of zeros of this size become holes again in files that had holes


class CutShort(Exception):
    """A file has fewer bytes than it had, or should have."""


@dataclass(slots=True)
class Striped:
    """One body of a sealed file and the part of a plain file that it holds.

    Attributes:
        sealed: descriptor of the sealed file.
        body_offset: where the body begins in it.
        head: the metadata record, which is the start of the body's plaintext.
        plain: descriptor of the plain file.
        plain_offset: where this body's content begins in it.
        size: bytes of content.
        threads: how many may work.
        tick: told of the bytes of each stripe that is done.
        tags: of the stripes that were sealed or opened, 16 bytes each.
    """

    sealed: int
    body_offset: int
    head: bytes
    plain: int
    plain_offset: int
    size: int
    threads: int
    tick: Callable[[int], None]
    tags: bytearray = field(default_factory=bytearray)
    _comparison: Comparison = field(default_factory=Comparison)

    @property
    def _count(self) -> int:
        return (len(self.head) + self.size) // STRIPE_SIZE + 1

    def _span(self, index: int) -> tuple[int, int]:
        """First byte and size of a stripe of the body's plaintext."""
        start = index * STRIPE_SIZE
        return start, min(STRIPE_SIZE, len(self.head) + self.size - start)

    def _tag(self, index: int, data: memoryview) -> None:
        self.tags[index * _TAG_SIZE : (index + 1) * _TAG_SIZE] = self._comparison.tag(index, data)

    def _matches(self, index: int, data: memoryview) -> bool:
        expected = self.tags[index * _TAG_SIZE : (index + 1) * _TAG_SIZE]
        return self._comparison.tag(index, data) == expected

    def seal(self, writer: stream.ChunkWriter) -> None:
        """Seal the plain file's part; the body's prefix is written as well.

        Raises:
            CutShort: the plain file has become shorter.
            OSError: as the system reports it.
        """
        self.tags = bytearray(self._count * _TAG_SIZE)
        calls.write_at(self.sealed, writer.prefix, self.body_offset)

        def work(index: int, plain: memoryview, sealed: memoryview) -> None:
            data = self._read_plain(index, plain)
            self._tag(index, data)
            last = index == self._count - 1
            size = writer.seal_into(index * STRIPE_CHUNKS, data, sealed, last=last)
            calls.write_at(self.sealed, sealed[:size], self._sealed_offset(index))

        self._each(work)

    def matches_sealed(self, reader: stream.ChunkReader) -> bool:
        """Whether the sealed file, read back, opens to what was sealed.

        Raises:
            NotAuthentic: it does not open.
        """

        def work(index: int, plain: memoryview, sealed: memoryview) -> bool:
            return self._matches(index, self._open_stripe(reader, index, plain, sealed))

        return self._each(work)

    def open(self, reader: stream.ChunkReader, *, sparse: bool) -> None:
        """Open the body into the plain file's part.

        Args:
            reader: of the body.
            sparse: leave holes for long runs of zeros.

        Raises:
            NotAuthentic: a chunk is damaged; what stands in the plain file is not to be used.
            CutShort: the sealed file has become shorter.
        """
        self.tags = bytearray(self._count * _TAG_SIZE)

        def work(index: int, plain: memoryview, sealed: memoryview) -> None:
            data = self._open_stripe(reader, index, plain, sealed)
            self._tag(index, data)
            start, _size = self._span(index)
            skipped = max(0, min(len(self.head) - start, len(data)))  # bytes of the record
            offset = self.plain_offset + start + skipped - len(self.head)
            if sparse:
                write_sparse(self.plain, data[skipped:], offset)
            else:
                calls.write_at(self.plain, data[skipped:], offset)

        self._each(work)

    def matches_plain(self) -> bool:
        """Whether the plain file, read back, is what was opened."""

        def work(index: int, plain: memoryview, _sealed: memoryview) -> bool:
            try:
                return self._matches(index, self._read_plain(index, plain))
            except CutShort:
                return False

        return self._each(work)

    # -- steps ------------------------------------------------------------------------------

    def _sealed_offset(self, index: int) -> int:
        return self.body_offset + stream.PREFIX_SIZE + index * _SEALED_SIZE

    def _read_plain(self, index: int, buffer: memoryview) -> memoryview:
        start, size = self._span(index)
        head = self.head[start : start + size]
        buffer[: len(head)] = head
        rest = buffer[len(head) : size]
        offset = self.plain_offset + start + len(head) - len(self.head)
        if calls.read_at(self.plain, rest, offset) != len(rest):
            raise CutShort
        return buffer[:size]

    def _open_stripe(
        self, reader: stream.ChunkReader, index: int, plain: memoryview, sealed: memoryview
    ) -> memoryview:
        _start, size = self._span(index)
        last = index == self._count - 1
        sealed_size = stream.body_size(size) - stream.PREFIX_SIZE if last else _SEALED_SIZE
        if calls.read_at(self.sealed, sealed[:sealed_size], self._sealed_offset(index)) != (
            sealed_size
        ):
            raise CutShort
        count = reader.open_into(index * STRIPE_CHUNKS, sealed[:sealed_size], plain, last=last)
        return plain[:count]

    def _each(self, work: _Work) -> bool:
        """Do `work` on every stripe; False as soon as it says so for one."""
        turns = _Turns(self._count)
        helpers = [
            threading.Thread(target=self._take_turns, args=(turns, work))
            for _helper in range(min(self.threads, self._count) - 1)
        ]
        for helper in helpers:
            helper.start()
        try:
            self._take_turns(turns, work)
        finally:
            turns.over = True
            _join(helpers)
        if turns.error is not None:
            raise turns.error
        return turns.good

    def _take_turns(self, turns: _Turns, work: _Work) -> None:
        plain = memoryview(bytearray(STRIPE_SIZE))
        sealed = memoryview(bytearray(_SEALED_SIZE))
        try:
            while (index := turns.take()) is not None:
                if work(index, plain, sealed) is False:
                    turns.good, turns.over = False, True
                else:
                    with turns.lock:
                        self.tick(self._span(index)[1])
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            turns.error, turns.over = error, True


_Work = Callable[[int, memoryview, memoryview], bool | None]


@dataclass(slots=True)
class _Turns:
    """Hands out the numbers of stripes until all are done or one went wrong."""

    count: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    next: int = 0
    over: bool = False
    good: bool = True
    error: BaseException | None = None

    def take(self) -> int | None:
        with self.lock:
            if self.over or self.next == self.count:
                return None
            self.next += 1
            return self.next - 1


def _join(helpers: list[threading.Thread]) -> None:
    """Wait for threads to end, whatever happens: they use descriptors that are closed next."""
    interruption: BaseException | None = None
    for helper in helpers:
        while helper.is_alive():
            try:
                helper.join()
            except BaseException as error:  # noqa: BLE001 - Ctrl-C, a signal; raised below
                interruption = error
    if interruption is not None:
        raise interruption


def write_sparse(fd: int, data: memoryview, offset: int) -> None:
    """Write a piece at its place, leaving holes for long runs of zeros."""
    zeros = bytes(_HOLE)
    for start in range(0, len(data), _HOLE):
        block = data[start : start + _HOLE]
        if bytes(block) != zeros[: len(block)]:
            calls.write_at(fd, block, offset + start)
