"""One sealed file: write it, read it from the front, and say what is wrong with it.

Everything above this module (trees, single files, archives, verify) moves bytes through these few
functions; everything below knows only chunks or only descriptors.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from encvault.crypto import NotAuthentic, stream
from encvault.crypto.suite import TAG_SIZE
from encvault.envelope import (
    FIXED_SIZE,
    Header,
    Record,
    check_layout,
    decode_header,
    decode_record,
    header_size,
)
from encvault.errors import (
    ChunkCorrupt,
    EncvaultError,
    HeaderTampered,
    MalformedHeader,
    MalformedRecord,
    Truncated,
)
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.tree import split
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.crypto.suite import Suite
    from encvault.envelope import Layout
    from encvault.fs.tree import Tree
    from encvault.secret import Buffer, Secret

_HEADER_SIZE = 512  # bytes; in a vault a file's header, and the prefix of its body, have fewer
_FRONT_SIZE = 17_408  # the header and first chunk of a file in a vault, in one call
PIECE_SIZE = 512 * 1024  # bytes per read: large enough to amortise a call, small enough for L2


class Keyring(Protocol):
    """Where a sealed file's key comes from."""

    @property
    def layout(self) -> Layout:
        """What kinds of records its files may have."""

    def key_for(self, header: Header, path: str) -> Secret:
        """The 32-byte input key of this file's body, or a named error."""


class Buffers:
    """Two reusable buffers, so that large files cost no allocation per piece."""

    def __init__(self) -> None:
        self.input = memoryview(bytearray(PIECE_SIZE))
        self.output = memoryview(bytearray(stream.output_size(PIECE_SIZE)))  # the larger way


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
    """A sealed file, read once from the front; a pipe will do.

    Args:
        fd: the file at its start; it stays the caller's.
        path: for messages.
        buffers: reused between files.

    Attributes:
        header: decoded.
        header_bytes: as they stand in the file.

    Raises:
        NotSealed, UnsupportedVersion, UnknownSuite, UnknownFlags, MalformedHeader: no key needed.
    """

    def __init__(self, fd: int, path: str, buffers: Buffers) -> None:
        self.fd = fd
        self.path = path
        self._input, self._output = buffers.input, buffers.output
        self._filled = calls.read_into(fd, self._input)
        self._at_end = self._filled < len(self._input)
        start = bytes(self._input[: min(self._filled, _HEADER_SIZE)])
        size = header_size(start[:FIXED_SIZE], path)
        if size + stream.PREFIX_SIZE > len(start):
            start = bytes(self._input[: min(self._filled, size + stream.PREFIX_SIZE)])
        self.header_bytes = start[:size]
        self.header: Header = decode_header(self.header_bytes, path)
        self._prefix = start[size : size + stream.PREFIX_SIZE]

    def open(self, keyring: Keyring) -> tuple[Record, Iterator[memoryview]]:
        """The metadata record and the content.

        The pieces are authenticated, and valid until the next is asked for. The content is whole,
        and of the size that the record states, only when the iterator has ended without an error.

        Raises:
            HeaderTampered, ChunkCorrupt, Truncated, MalformedRecord, UnsafePath: also while
                iterating.
        """
        plaintext = self._plaintext(self.chunks(keyring))
        size = self.header.metadata_size
        held, rest = b"", memoryview(b"")
        for piece in plaintext:
            missing = size - len(held)
            held, rest = held + piece[:missing], piece[missing:]
            if len(held) == size:
                break
        else:
            raise MalformedRecord(path=self.path, reason=_("shorter than the header says"))
        record = decode_record(held, self.path)
        check_layout(record, keyring.layout, self.path)
        return record, self._content(record, rest, plaintext)

    def chunks(self, keyring: Keyring) -> stream.ChunkReader:
        """Random access to the body.

        Raises:
            HeaderTampered: the key commitment does not match.
            Truncated: the file ends before its body.
        """
        key = keyring.key_for(self.header, self.path)
        return _chunk_reader(self.path, self.header, self.header_bytes, self._prefix, key)

    def implied_size(self) -> int | None:
        """Bytes of content, by the file's size, which proves nothing; None if no body has it."""
        size = os.fstat(self.fd).st_size - len(self.header_bytes)
        try:
            content = stream.plaintext_size(size) - self.header.metadata_size
        except ValueError:
            return None
        return content if content >= 0 else None

    def corrupt(self, error: NotAuthentic) -> EncvaultError:
        """The named error for a chunk that does not open."""
        return corrupt_chunk(self.path, self.header_bytes, error)

    def _content(
        self, record: Record, rest: memoryview, plaintext: Iterator[memoryview]
    ) -> Iterator[memoryview]:
        expected = record.part_size if record.parts else record.size
        size = 0
        for piece in itertools.chain([rest] if rest else [], plaintext):
            size += len(piece)
            if expected is not None and size > expected:
                break
            if record.type == "symlink" and 0 in piece:
                raise MalformedRecord(path=self.path, reason=_("a link with a zero byte in it"))
            yield piece
        if expected not in (None, size):
            raise MalformedRecord(path=self.path, reason=_("its content is not as long as it says"))

    def _plaintext(self, chunks: stream.ChunkReader) -> Iterator[memoryview]:
        start, index = len(self.header_bytes) + stream.PREFIX_SIZE, 0
        position = self._filled  # in the file
        try:
            while True:
                sealed = self._input[start : self._filled]
                rest = len(sealed) % stream.SEALED_CHUNK_SIZE
                last = self._at_end and rest >= TAG_SIZE
                if not last:
                    sealed = sealed[: len(sealed) - rest]
                if count := chunks.open_into(index, sealed, self._output, last=last):
                    yield self._output[:count]
                if last:
                    return
                if self._at_end:
                    raise Truncated(path=self.path, size=position)
                index += len(sealed) // stream.SEALED_CHUNK_SIZE
                self._input[:rest] = self._input[self._filled - rest : self._filled]
                wanted = len(self._input) - rest
                count = calls.read_into(self.fd, self._input[rest:])
                position += count
                self._at_end = count < wanted
                start, self._filled = 0, rest + count
        except NotAuthentic as error:
            raise self.corrupt(error) from None


def _chunk_reader(
    path: str, header: Header, header_bytes: bytes, prefix: bytes, key: Secret
) -> stream.ChunkReader:
    if len(prefix) < stream.PREFIX_SIZE:
        raise Truncated(path=path, size=len(header_bytes) + len(prefix))
    try:
        return stream.ChunkReader(header.suite, key.reveal(), header_bytes, prefix)
    except NotAuthentic:
        raise HeaderTampered(path=path) from None


def corrupt_chunk(path: str, header_bytes: bytes, error: NotAuthentic) -> EncvaultError:
    """The named error for a chunk that does not open."""
    if error.chunk_index is None:
        raise AssertionError("sealed: a chunk that does not open has an index")
    offset = len(header_bytes) + stream.ChunkReader.span(error.chunk_index)[0]
    return ChunkCorrupt(path=path, index=error.chunk_index, offset=offset)


def open_sealed(tree: Tree, path: str) -> int:
    """Descriptor of a sealed file in a tree; the named error if it cannot be read."""
    folder, name = split(path)
    try:
        return calls.open_read(tree.folder(folder), name)
    except OSError as error:
        raise storage_error(error, tree.show(path), reading=True) from None


def read_header(fd: int, path: str) -> Header:
    """A sealed file's header alone, without touching its body.

    Raises:
        NotSealed, UnsupportedVersion, UnknownSuite, UnknownFlags, MalformedHeader: see `envelope`.
    """
    start = os.pread(fd, _HEADER_SIZE, 0)
    size = header_size(start[:FIXED_SIZE], path)
    if size > len(start):
        start = os.pread(fd, size, 0)
    if len(start) < size:
        raise MalformedHeader(path=path, reason=_("cut off"))
    return decode_header(start[:size], path)


class Front(NamedTuple):
    """A sealed file as far as its first chunks tell.

    Attributes:
        header: decoded.
        header_bytes: as they stand in the file.
        record: its metadata.
        chunks: random access to the body.
        plaintext: of the first chunks, from the record on.
        content_size: what the file's size implies, not yet verified.
    """

    header: Header
    header_bytes: bytes
    record: Record
    chunks: stream.ChunkReader
    plaintext: bytearray
    content_size: int

    @property
    def content(self) -> memoryview | None:
        """All of the content, if the first chunks have it and are the last as well; else None."""
        start, size = self.header.metadata_size, self.content_size
        is_last = len(self.plaintext) % stream.CHUNK_SIZE != 0
        if not is_last or self.record.size not in (None, size) or self.record.parts:
            return None
        return memoryview(self.plaintext)[start:]


def read_front(fd: int, path: str, keyring: Keyring) -> Front:
    """A sealed file's header and record, by random access to its first chunks.

    Raises:
        FormatError, IntegrityError: as `SealedReader.open`.
    """
    start = os.pread(fd, _FRONT_SIZE, 0)
    offset = header_size(start[:FIXED_SIZE], path)
    if offset > len(start):
        start = os.pread(fd, offset, 0)
    header_bytes = start[:offset]
    header = decode_header(header_bytes, path)
    prefix = start[offset : offset + stream.PREFIX_SIZE]
    if len(prefix) < stream.PREFIX_SIZE:
        prefix = os.pread(fd, stream.PREFIX_SIZE, offset)
    chunks = _chunk_reader(path, header, header_bytes, prefix, keyring.key_for(header, path))
    size = os.fstat(fd).st_size
    plaintext = bytearray()
    index, last = 0, False
    while len(plaintext) < header.metadata_size and not last:
        at, span = chunks.span(index)
        at += offset
        last = at + span > size
        sealed = start[at : at + span]
        if len(sealed) < span and at + len(sealed) < size:
            sealed = os.pread(fd, span, at)
        if last and len(sealed) < TAG_SIZE:
            raise Truncated(path=path, size=size)
        try:
            plaintext += chunks.open(index, sealed, last=last)
        except NotAuthentic as error:
            raise corrupt_chunk(path, header_bytes, error) from None
        index += 1
    try:
        total = stream.plaintext_size(size - offset)
    except ValueError:
        raise Truncated(path=path, size=size) from None
    if len(plaintext) < header.metadata_size:
        raise MalformedRecord(path=path, reason=_("shorter than the header says"))
    record = decode_record(bytes(plaintext[: header.metadata_size]), path)
    check_layout(record, keyring.layout, path)
    content_size = total - header.metadata_size
    return Front(header, header_bytes, record, chunks, plaintext, content_size)


def read_record(fd: int, path: str, keyring: Keyring) -> tuple[Header, Record, int]:
    """Header, record and implied content size of a sealed file; see `read_front`."""
    front = read_front(fd, path, keyring)
    return front.header, front.record, front.content_size
