"""What a file's content rests on: a sealed file, or one that is being written from its front.

A sealed file is read in stripes of 32 chunks where a program reads on and on, and chunk by chunk
where it jumps about. A new file that is written from front to end is sealed as it comes, so that
nothing has to be read again when it is closed; only its first chunk, which begins with the
metadata record, and the last wait for the end.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from encvault.crypto import NotAuthentic, stream
from encvault.crypto.suite import TAG_SIZE
from encvault.errors import MissingPart
from encvault.fs import calls
from encvault.vault.sealed import Buffers, SealedReader, corrupt_chunk, read_front

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.envelope import Header, Record
    from encvault.mount.cache import Cache
    from encvault.secret import Buffer, Secret
    from encvault.vault.sealed import Front, Keyring

STRIPE_CHUNKS = 32
_CHUNK = stream.CHUNK_SIZE
_STRIPE = STRIPE_CHUNKS * _CHUNK
_tokens = itertools.count()
_SPARE_SIZE = stream.output_size(_STRIPE)
_spare: list[memoryview] = []  # a buffer between two uses; whoever finds none makes one


class Base(Protocol):
    """Content that changes rest on."""

    @property
    def size(self) -> int:
        """Bytes of it."""

    def read(self, offset: int, size: int) -> Buffer:
        """Up to so many bytes, all of them within `size`; fewer only where a piece ends.

        Raises:
            OSError, EncvaultError: they cannot be read, or are not authentic.
        """

    def close(self) -> None:
        """Let go of the file."""


class Nothing:
    """The base of a file that is new or was emptied."""

    size = 0

    def read(self, offset: int, size: int) -> bytes:
        """See `Base`."""
        raise AssertionError(f"bases: {size} bytes at {offset} of nothing")

    def close(self) -> None:
        """See `Base`."""


class Held:
    """All of a small sealed file, opened and in memory.

    Args:
        content: of it.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self.size = len(content)

    def read(self, offset: int, size: int) -> memoryview:
        """See `Base`."""
        return self._content[offset : offset + size]

    def close(self) -> None:
        """See `Base`. Others may hold it as well."""


@dataclass(slots=True)
class _Body:
    """One object of a file.

    Attributes:
        fd: its descriptor.
        path: of it, for messages.
        front: its header and first chunks.
        size: bytes of content.
    """

    fd: int
    path: str
    front: Front
    size: int

    @property
    def skip(self) -> int:
        """Bytes of the metadata record."""
        return self.front.header.metadata_size

    @property
    def last(self) -> int:
        """Index of the last chunk."""
        return (self.skip + self.size) // _CHUNK

    def open(self, first: int, count: int) -> memoryview:
        """The plaintext of chunks, the record's bytes among it."""
        ends = first + count > self.last
        sealed_size, plain_size = count * stream.SEALED_CHUNK_SIZE, count * _CHUNK
        if ends:
            count = self.last - first + 1
            rest = (self.skip + self.size) % _CHUNK
            plain_size = (count - 1) * _CHUNK + rest
            sealed_size = plain_size + count * TAG_SIZE
        offset = len(self.front.header_bytes) + self.front.chunks.span(first)[0]
        sealed = os.pread(self.fd, sealed_size, offset)
        plain = memoryview(bytearray(plain_size))
        if len(sealed) != sealed_size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        try:
            self.front.chunks.open_into(first, sealed, plain, last=ends)
        except NotAuthentic as error:
            raise corrupt_chunk(self.path, self.front.header_bytes, error) from None
        return plain


class Sealed:
    """A sealed file, all of its parts, by random access.

    Attributes:
        front: of its first object.

    Args:
        bodies: one for each part.
        part_size: bytes of content of each part but the last; 0 if there is one.
        cache: keeps what was opened.
    """

    def __init__(self, bodies: list[_Body], part_size: int, cache: Cache) -> None:
        self.front = bodies[0].front
        self._bodies = bodies
        self._part_size = part_size
        self._cache = cache
        self._token = next(_tokens)
        self._next = -1  # where the last read ended
        self.size = sum(body.size for body in bodies)

    def read(self, offset: int, size: int) -> Buffer:
        """See `Base`."""
        part, start = divmod(offset, self._part_size) if self._part_size else (0, offset)
        body = self._bodies[part]
        at = start + body.skip
        size = min(size, body.size - start)
        self._next, is_next = offset + size, offset == self._next
        if at + size <= len(body.front.plaintext):
            return memoryview(body.front.plaintext)[at : at + size]
        stripe = at // _STRIPE
        piece = self._cache.get((self._token, part, stripe))
        begin = stripe * _STRIPE
        if piece is None and (is_next or size >= _STRIPE // 8):
            piece = body.open(stripe * STRIPE_CHUNKS, STRIPE_CHUNKS)
            self._cache.put((self._token, part, stripe), piece)
        elif piece is None:
            first = at // _CHUNK
            count = (at + size - 1) // _CHUNK - first + 1
            begin, piece = first * _CHUNK, self._chunks(part, body, first, count)
        found = piece[at - begin : at - begin + size]
        self._next = offset + len(found)
        return found

    def _chunks(self, part: int, body: _Body, first: int, count: int) -> memoryview:
        key = (self._token, part, first, count)
        piece = self._cache.get(key)
        if piece is None:
            piece = body.open(first, count)
            self._cache.put(key, piece)
        return piece

    def close(self) -> None:
        """See `Base`."""
        for body in self._bodies:
            os.close(body.fd)
        self._bodies.clear()


def open_sealed_base(
    fds: list[int], paths: list[str], keyring: Keyring, cache: Cache, front: Front | None = None
) -> Sealed:
    """A sealed file to read from; it takes the descriptors over, also when it fails.

    The size of each object is compared with its record, and its last chunk is opened: only then
    is the size known to be true (docs/format.md section 4).

    Args:
        fds: of its objects, the first one first.
        paths: of them, for messages.
        keyring: the vault.
        cache: for what is opened.
        front: of the first object, if it is at hand.

    Raises:
        FormatError, IntegrityError: it is not a whole authentic file.
    """
    try:
        front = front or read_front(fds[0], paths[0], keyring)
        record = front.record
        if len(fds) != len(record.parts) + 1:
            part = record.parts[len(fds) - 1]
            raise MissingPart(path=paths[0], part=part)  # noqa: TRY301 - one way out for all
        bodies = [_body(fds[0], paths[0], front, _part_size(record, 0, front), keyring)]
        for index, part in enumerate(record.parts, start=1):
            own = read_front(fds[index], paths[index], keyring)
            place = (front.header.key_info.file, index)
            if own.record.part_of != place or own.header.key_info.file != part:
                raise MissingPart(path=paths[0], part=part)  # noqa: TRY301 - as above
            size = _part_size(record, index, own)
            bodies.append(_body(fds[index], paths[index], own, size, keyring))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return Sealed(bodies, record.part_size, cache)


def _part_size(record: Record, index: int, front: Front) -> int:
    """Bytes of content that one object has to have."""
    if record.size is None:
        return front.content_size
    if not record.parts:
        return record.size
    return min(record.part_size, record.size - index * record.part_size)


def _body(fd: int, path: str, front: Front, size: int, keyring: Keyring) -> _Body:
    if front.content_size != size:
        # read to its end, which names what is wrong with it
        os.lseek(fd, 0, os.SEEK_SET)
        for _piece in SealedReader(fd, path, Buffers()).open(keyring)[1]:
            pass
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    body = _Body(fd, path, front, size)
    if body.last:
        body.open(body.last, 1)
    return body


class Growing:
    """A sealed file that is written from front to end.

    Chunks that are full are sealed and written at once. The first, which begins with the metadata
    record, and the last are held until `finish`; each chunk is sealed once, as its nonce demands.

    Args:
        fd: of the new file, which is taken over.
        header: decoded; it says how many bytes the record will have, fewer than a chunk.
        key: 32-byte data key.
        limit: bytes of content that the file may have.
        abandon: called when it is closed without having been finished.

    Attributes:
        begun: when it was made, by the monotonic clock.
    """

    def __init__(
        self, fd: int, header: Header, key: Secret, limit: int, abandon: Callable[[], None]
    ) -> None:
        self.begun = time.monotonic()
        self.fd = fd
        self.file = header.key_info.file
        self._limit = limit
        self._abandon = abandon
        suite, metadata_size, encoded = header.suite, header.metadata_size, header.encode()
        self.metadata_size = metadata_size
        self._header = encoded
        self._writer = stream.ChunkWriter(suite, key.reveal(), encoded)
        prefix = self._writer.prefix
        self._reader = stream.ChunkReader(suite, key.reveal(), encoded, prefix)
        self._offset = len(encoded) + stream.PREFIX_SIZE
        self._first_size = _CHUNK - metadata_size  # bytes of content in the first chunk
        self._head = bytearray()
        self._tail = bytearray()  # what follows the sealed chunks
        self._sealed = 1  # chunks, with the first, that are not in the tail
        self._was_tried = False
        self.is_finished = False
        self.size = 0

    @property
    def is_open(self) -> bool:
        """Whether it can still be finished; it is tried once, as each chunk is sealed once."""
        return not self._was_tried

    def takes(self, size: int) -> bool:
        """Whether so many bytes more may be appended."""
        return self.is_open and self.size + size <= self._limit

    def append(self, data: Buffer) -> None:
        """More content.

        Raises:
            OSError: it could not be written; nothing was added that was not before.
        """
        missing = self._first_size - len(self._head)
        if missing:
            self._head += data[:missing]
            data = data[missing:]
        self._tail += data
        self.size = len(self._head) + (self._sealed - 1) * _CHUNK + len(self._tail)
        while len(self._tail) >= _STRIPE:
            with memoryview(self._tail) as view:
                self._seal(view[:_STRIPE], last=False)
            del self._tail[:_STRIPE]
            self._sealed += STRIPE_CHUNKS

    def _seal(self, plain: memoryview, *, last: bool) -> None:
        out = _spare.pop() if _spare else memoryview(bytearray(_SPARE_SIZE))
        size = self._writer.seal_into(self._sealed, plain, out, last=last)
        at = self._offset + self._sealed * stream.SEALED_CHUNK_SIZE
        calls.write_at(self.fd, out[:size], at)
        if not _spare:
            _spare.append(out)

    def reserve(self) -> None:
        """Take the room of what is held, so that a full disk shows before it is too late.

        Raises:
            OSError: there is none.
        """
        total = self._offset - stream.PREFIX_SIZE
        total += stream.body_size(self.metadata_size + self.size)
        written = os.fstat(self.fd).st_size
        with contextlib.suppress(AttributeError):  # not on every system
            # the first chunk is written last, and has been a hole until now
            os.posix_fallocate(self.fd, 0, self._offset + stream.SEALED_CHUNK_SIZE)
            if total > written:
                os.posix_fallocate(self.fd, written, total - written)

    def finish(self, record: bytes) -> None:
        """Write what was held; the file is a whole sealed one then, and is only read from now on.

        Args:
            record: encoded, of the size that the header says.

        Raises:
            OSError: it could not be written; the content can still be read.
        """
        if len(record) != self.metadata_size or len(self._head) != self._first_size:
            raise AssertionError("bases: a record of another size")
        self._was_tried = True
        with memoryview(self._tail) as view:
            self._seal(view, last=True)
        first = bytearray(stream.SEALED_CHUNK_SIZE)
        self._writer.seal_into(0, record + self._head, memoryview(first), last=False)
        calls.write_at(self.fd, self._header + self._writer.prefix + bytes(first), 0)
        end = self._offset - stream.PREFIX_SIZE + stream.body_size(self.metadata_size + self.size)
        calls.truncate(self.fd, end)  # room that was taken and not used
        self.is_finished = True

    def read(self, offset: int, size: int) -> Buffer:
        """See `Base`."""
        if offset < len(self._head):
            return bytes(self._head[offset : offset + size])
        index, start = divmod(offset + self.metadata_size, _CHUNK)
        if index >= self._sealed:
            at = (index - self._sealed) * _CHUNK + start
            return bytes(self._tail[at : at + size])
        count = min((start + size - 1) // _CHUNK + 1, self._sealed - index)
        sealed = os.pread(
            self.fd,
            count * stream.SEALED_CHUNK_SIZE,
            self._offset + index * stream.SEALED_CHUNK_SIZE,
        )
        plain = memoryview(bytearray(count * _CHUNK))
        try:
            self._reader.open_into(index, sealed, plain, last=False)
        except NotAuthentic:
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        return plain[start : start + size]

    def close(self) -> None:
        """See `Base`."""
        os.close(self.fd)
        if not self.is_finished:
            self._abandon()
