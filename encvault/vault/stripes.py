"""The content of a large file through the cipher, in runs of stripes that processes take in turn.

pyca holds the interpreter's lock while AES works, so threads would wait for each other; forked
processes (`Pool`) are twice as fast as one. A stripe is small enough to stay in the processor's
cache between reading, sealing and writing. Every stripe leaves a tag behind (`Comparison`), by
which the copy, once it is durable, is read back and compared without reading the original again.

A stripe is 8 chunks of plaintext, 128 KiB; the last one of a body is shorter and may be empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from encvault.crypto import stream
from encvault.crypto.comparison import Comparison
from encvault.fs import calls
from encvault.vault.pool import Pool, Tick

if TYPE_CHECKING:
    from collections.abc import Iterator

_Answer = TypeVar("_Answer")
_Work = Callable[[int, memoryview, memoryview], _Answer]

STRIPE_CHUNKS = 8
STRIPE_SIZE = STRIPE_CHUNKS * stream.CHUNK_SIZE
RUN = 64  # stripes, 8 MiB: what a process takes at once
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
        jobs: how many processes may work.
        tick: told of the bytes of each run that is done.
        path: of the plain file, for an error.
        is_compared: whether the copy is compared afterwards; else no tags are made.
        tags: of the stripes that were sealed or opened, 16 bytes each.
    """

    sealed: int
    body_offset: int
    head: bytes
    plain: int
    plain_offset: int
    size: int
    jobs: int
    tick: Tick
    path: str
    is_compared: bool = True
    tags: bytearray = field(default_factory=bytearray)
    _comparison: Comparison = field(default_factory=Comparison)

    @property
    def _count(self) -> int:
        return (len(self.head) + self.size) // STRIPE_SIZE + 1

    def _span(self, index: int) -> tuple[int, int]:
        """First byte and size of a stripe of the body's plaintext."""
        start = index * STRIPE_SIZE
        return start, min(STRIPE_SIZE, len(self.head) + self.size - start)

    def _tag(self, index: int, data: memoryview) -> bytes:
        return self._comparison.tag(index, data) if self.is_compared else b""

    def _matches(self, index: int, data: memoryview) -> bool:
        expected = self.tags[index * _TAG_SIZE : (index + 1) * _TAG_SIZE]
        return self._comparison.tag(index, data) == expected

    def seal(self, writer: stream.ChunkWriter) -> None:
        """Seal the plain file's part; the body's prefix is written as well.

        Raises:
            CutShort: the plain file has become shorter.
            OSError: as the system reports it.
        """
        writer.claim()
        calls.write_at(self.sealed, writer.prefix, self.body_offset)

        def work(index: int, plain: memoryview, sealed: memoryview) -> bytes:
            data = self._read_plain(index, plain)
            last = index == self._count - 1
            size = writer.seal_into(index * STRIPE_CHUNKS, data, sealed, last=last)
            calls.write_at(self.sealed, sealed[:size], self._sealed_offset(index))
            return self._tag(index, data)

        self._keep_tags(work)

    def matches_sealed(self, reader: stream.ChunkReader) -> bool:
        """Whether the sealed file, read back, opens to what was sealed.

        Raises:
            NotAuthentic: it does not open.
        """

        def work(index: int, plain: memoryview, sealed: memoryview) -> bool:
            return self._matches(index, self._open_stripe(reader, index, plain, sealed))

        return self._all(work)

    def open(self, reader: stream.ChunkReader, *, sparse: bool) -> None:
        """Open the body into the plain file's part.

        Args:
            reader: of the body.
            sparse: leave holes for long runs of zeros.

        Raises:
            NotAuthentic: a chunk is damaged; what stands in the plain file is not to be used.
            CutShort: the sealed file has become shorter.
        """

        def work(index: int, plain: memoryview, sealed: memoryview) -> bytes:
            data = self._open_stripe(reader, index, plain, sealed)
            start, _size = self._span(index)
            skipped = max(0, min(len(self.head) - start, len(data)))  # bytes of the record
            offset = self.plain_offset + start + skipped - len(self.head)
            if sparse:
                write_sparse(self.plain, data[skipped:], offset)
            else:
                calls.write_at(self.plain, data[skipped:], offset)
            return self._tag(index, data)

        self._keep_tags(work)

    def matches_plain(self) -> bool:
        """Whether the plain file, read back, is what was opened."""

        def work(index: int, plain: memoryview, _sealed: memoryview) -> bool:
            try:
                return self._matches(index, self._read_plain(index, plain))
            except CutShort:
                return False

        return self._all(work)

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

    def _keep_tags(self, work: _Work[bytes]) -> None:
        self.tags = bytearray(self._count * _TAG_SIZE if self.is_compared else 0)

        def tags(first: int, _tick: Tick) -> bytes:
            return b"".join(self._each(first, work))

        pool = Pool(tags, self.jobs, path=self.path)
        with contextlib.closing(pool.map(range(0, self._count, RUN))) as results:
            for first, made in results:
                self.tags[first * _TAG_SIZE : first * _TAG_SIZE + len(made)] = made
                self.tick(self._run_size(first))

    def _all(self, work: _Work[bool]) -> bool:
        """Whether every stripe says yes; ends with the first run that does not."""

        def is_good(first: int, _tick: Tick) -> bool:
            return all(self._each(first, work))

        pool = Pool(is_good, self.jobs, path=self.path)
        with contextlib.closing(pool.map(range(0, self._count, RUN))) as results:
            for first, good in results:
                if not good:
                    return False
                self.tick(self._run_size(first))
        return True

    def _each(self, first: int, work: _Work[_Answer]) -> Iterator[_Answer]:
        """Do `work` on the stripes of the run that begins there."""
        plain = memoryview(bytearray(STRIPE_SIZE))
        sealed = memoryview(bytearray(_SEALED_SIZE))
        for index in range(first, min(first + RUN, self._count)):
            yield work(index, plain, sealed)

    def _run_size(self, first: int) -> int:
        start, _size = self._span(first)
        return min(RUN * STRIPE_SIZE, len(self.head) + self.size - start)


def write_sparse(fd: int, data: memoryview, offset: int) -> None:
    """Write a piece at its place, leaving holes for long runs of zeros."""
    zeros = bytes(_HOLE)
    for start in range(0, len(data), _HOLE):
        block = data[start : start + _HOLE]
        if bytes(block) != zeros[: len(block)]:
            calls.write_at(fd, block, offset + start)
