"""One sealed file: write it, read it from the front, and say what is wrong with it.

Everything above this module (trees, single files, archives, verify) moves bytes through these few
functions; everything below knows only chunks or only descriptors.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from encvault.crypto import NotAuthentic, stream
from encvault.envelope import FIXED_SIZE, Header, Record, decode_header, decode_record, header_size
from encvault.errors import (
    ChunkCorrupt,
    EncvaultError,
    HeaderTampered,
    MalformedHeader,
    MalformedRecord,
    Truncated,
)
from encvault.fs import calls
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.crypto.suite import Suite
    from encvault.secret import Buffer, Secret

PIECE_SIZE = 512 * 1024  # bytes per read: large enough to amortise a call, small enough for L2


class Keyring(Protocol):
    """Where a sealed file's key comes from."""

    def key_for(self, header: Header, path: str) -> Secret:
        """The 32-byte input key of this file's body, or a named error."""


class Buffers:
    """Two reusable buffers, so that large files cost no allocation per piece."""

    def __init__(self) -> None:
        self.input = memoryview(bytearray(PIECE_SIZE))
        self.output = memoryview(bytearray(stream.output_size(PIECE_SIZE)))


class SealWriter:
    """Writes a whole sealed file, piece by piece. A file-like object as far as `write`.

    Args:
        fd: where to; a file, or a pipe.
        suite: cipher suite.
        key: 32 bytes.
        header: encoded header, the body's context.
        record: encoded metadata record.
        buffers: only ``output`` is used, so that pieces may lie in ``input``.
    """

    def __init__(
        self,
        fd: int,
        suite: Suite,
        key: Secret,
        header: bytes,
        record: bytes,
        buffers: Buffers,
    ) -> None:
        self._fd = fd
        self._output = buffers.output
        self._encryptor = stream.encryptor(suite, key.reveal(), header)
        self.content_size = 0
        calls.write(fd, header + self._encryptor.update(record))

    def write(self, data: Buffer) -> int:
        """Seal more content; return its size."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_SIZE):
            count = self._encryptor.update_into(view[start : start + PIECE_SIZE], self._output)
            calls.write(self._fd, self._output[:count])
        self.content_size += len(view)
        return len(view)

    def finish(self) -> None:
        """Write the last chunk; without it the file does not open."""
        calls.write(self._fd, self._encryptor.finalize())


def encode_sealed(suite: Suite, key: Secret, header: bytes, record: bytes, content: bytes) -> bytes:
    """A whole sealed file in memory, for small content: one allocation, one write."""
    return header + stream.seal(suite, key.reveal(), header, record + content)


class SealedReader:
    """A sealed file, read once from the front.

    Args:
        fd: the file at its start; it stays the caller's.
        path: for messages.
        buffers: reused between files.

    Raises:
        NotSealed, UnsupportedVersion, UnknownSuite, UnknownFlags, MalformedHeader: no key needed.
    """

    def __init__(self, fd: int, path: str, buffers: Buffers) -> None:
        self.fd = fd
        self.path = path
        self._buffers = buffers
        count = calls.read_into(fd, buffers.input)
        start = bytes(buffers.input[: min(count, FIXED_SIZE)])
        size = header_size(start, path)
        self.header_bytes = bytes(buffers.input[: min(count, size)])
        self.header: Header = decode_header(self.header_bytes, path)
        self._first = buffers.input[size:count]
        self._at_end = count < PIECE_SIZE
        self.content_size = 0

    def open(self, keyring: Keyring) -> tuple[Record, Iterator[memoryview]]:
        """The metadata record and the content.

        The pieces are authenticated, and valid until the next is asked for. The content is whole,
        and of the size that the record states, only when the iterator has ended without an error.

        Raises:
            HeaderTampered, ChunkCorrupt, Truncated, MalformedRecord, UnsafePath: also while
                iterating.
        """
        key = keyring.key_for(self.header, self.path)
        plaintext = self._plaintext(key)
        size = self.header.metadata_size
        held = bytearray()
        rest = memoryview(b"")
        for piece in plaintext:
            missing = size - len(held)
            held += piece[:missing]
            if len(held) == size:
                rest = piece[missing:]
                break
        if len(held) < size:
            raise MalformedRecord(path=self.path, reason=_("shorter than the header says"))
        record = decode_record(bytes(held), self.path)
        return record, self._content(record, rest, plaintext)

    def chunks(self, keyring: Keyring) -> stream.ChunkReader:
        """Random access to the body.

        Raises:
            HeaderTampered: the key commitment does not match.
        """
        key = keyring.key_for(self.header, self.path)
        prefix = os.pread(self.fd, stream.PREFIX_SIZE, len(self.header_bytes))
        try:
            return stream.ChunkReader(self.header.suite, key.reveal(), self.header_bytes, prefix)
        except NotAuthentic:
            raise HeaderTampered(path=self.path) from None

    def holds(self, content_size: int) -> bool:
        """Whether the size of the file is that of a body with so much content."""
        size = stream.body_size(self.header.metadata_size + content_size)
        return os.fstat(self.fd).st_size == len(self.header_bytes) + size

    def _content(
        self, record: Record, rest: memoryview, plaintext: Iterator[memoryview]
    ) -> Iterator[memoryview]:
        if rest:
            self.content_size += len(rest)
            yield rest
        for piece in plaintext:
            self.content_size += len(piece)
            yield piece
        expected = record.part_size if record.parts else record.size
        if expected is not None and expected != self.content_size:
            raise MalformedRecord(path=self.path, reason=_("its content is not as long as it says"))

    def _plaintext(self, key: Secret) -> Iterator[memoryview]:
        decryptor = stream.decryptor(self.header.suite, key.reveal(), self.header_bytes)
        output = self._buffers.output
        try:
            count = decryptor.update_into(self._first, output)
            if count:
                yield output[:count]
            while not self._at_end:
                size = calls.read_into(self.fd, self._buffers.input)
                self._at_end = size < PIECE_SIZE
                count = decryptor.update_into(self._buffers.input[:size], output)
                if count:
                    yield output[:count]
            last = decryptor.finalize()
        except NotAuthentic:
            raise locate_fault(self.fd, self.path, self.header, self.header_bytes, key) from None
        if last:
            yield memoryview(last)

    def fault(self, keyring: Keyring) -> EncvaultError:
        """The named error for a body of which a chunk did not open."""
        key = keyring.key_for(self.header, self.path)
        return locate_fault(self.fd, self.path, self.header, self.header_bytes, key)


def locate_fault(
    fd: int, path: str, header: Header, header_bytes: bytes, key: Secret
) -> EncvaultError:
    """The named error for a body that did not open: where it is damaged."""
    offset = len(header_bytes)
    size = os.fstat(fd).st_size - offset
    prefix = os.pread(fd, stream.PREFIX_SIZE, offset)
    try:
        reader = stream.ChunkReader(header.suite, key.reveal(), header_bytes, prefix)
    except NotAuthentic:
        if len(prefix) < stream.PREFIX_SIZE:
            return Truncated(path=path, size=offset + size)
        return HeaderTampered(path=path)
    try:
        stream.plaintext_size(size)
    except ValueError:
        whole = False
    else:
        whole = True
    index = 0
    while True:
        start, span = reader.span(index)
        chunk = os.pread(fd, span, offset + start)
        last = len(chunk) < span
        if last and not whole:
            return Truncated(path=path, size=offset + size)
        try:
            reader.open(index, chunk, last=last)
        except NotAuthentic:
            return ChunkCorrupt(path=path, index=index, offset=offset + start)
        if last:
            # the bytes open now: they changed between the two reads, or the memory is at fault
            return ChunkCorrupt(path=path, index=index, offset=offset + start)
        index += 1


def read_header(fd: int, path: str) -> Header:
    """A sealed file's header alone, without touching its body.

    Raises:
        NotSealed, UnsupportedVersion, UnknownSuite, UnknownFlags, MalformedHeader: see `envelope`.
    """
    start = os.pread(fd, 512, 0)
    size = header_size(start[:FIXED_SIZE], path)
    if size > len(start):
        start = os.pread(fd, size, 0)
    if len(start) < size:
        raise MalformedHeader(path=path, reason=_("cut off"))
    return decode_header(start[:size], path)


def read_record(fd: int, path: str, keyring: Keyring) -> tuple[Header, Record, int]:
    """A sealed file's header and record, by random access to its first chunks.

    Returns:
        Header, record and the plaintext size that the file's size implies, not yet verified.

    Raises:
        FormatError, IntegrityError: as `SealedReader.open`.
    """
    start = os.pread(fd, 2 * stream.SEALED_CHUNK_SIZE, 0)
    offset = header_size(start[:FIXED_SIZE], path)
    if offset > len(start):
        start = os.pread(fd, offset, 0)
    header_bytes = start[:offset]
    header = decode_header(header_bytes, path)
    key = keyring.key_for(header, path)
    body = os.fstat(fd).st_size - offset
    plaintext = bytearray()
    try:
        total = stream.plaintext_size(body)
        prefix = os.pread(fd, stream.PREFIX_SIZE, offset)
        reader = stream.ChunkReader(header.suite, key.reveal(), header_bytes, prefix)
        index = 0
        while len(plaintext) < header.metadata_size:
            at, span = reader.span(index)
            last = at + span > body
            plaintext += reader.open(index, os.pread(fd, span, offset + at), last=last)
            if last:
                break
            index += 1
    except (NotAuthentic, ValueError):
        raise locate_fault(fd, path, header, header_bytes, key) from None
    if len(plaintext) < header.metadata_size:
        raise MalformedRecord(path=path, reason=_("shorter than the header says"))
    record = decode_record(bytes(plaintext[: header.metadata_size]), path)
    return header, record, total - header.metadata_size
