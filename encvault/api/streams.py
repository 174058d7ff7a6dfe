"""Streams and bytes for a program."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from encvault import operations
from encvault.api.arguments import as_recipients, as_suite
from encvault.api.keys import opening
from encvault.crypto import selftest
from encvault.crypto.suite import Suite
from encvault.operations import Answers
from encvault.operations.places import storage
from encvault.vault.content import seal_in_memory
from encvault.vault.layout import STREAM_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from encvault.accesslog.log import AccessLog
    from encvault.keyslots import Identity, Recipient
    from encvault.secret import Buffer
    from encvault.vault.report import Observer

_IN_MEMORY = "bytes"  # what messages call what lies in memory


def seal_stream(
    source: BinaryIO,
    target: BinaryIO,
    recipients: Iterable[Recipient],
    *,
    suite: Suite = Suite.AES_256_GCM,
    log: AccessLog | None = None,
) -> int:
    """Seal all that a file, pipe or socket gives, with constant memory.

    Args:
        source: has a descriptor; nothing was read from it yet.
        target: has a descriptor; what it holds back is written first. If anything is raised, what
            was written is cut off and does not open.
        recipients: at least one.
        suite: cipher suite.
        log: where that is recorded; nowhere without one.

    Returns:
        Bytes of content.

    Raises:
        KeyRequired: there is no recipient; nothing was written.
        InputOutputError, OutOfSpace: reading or writing failed.
        io.UnsupportedOperation: there is no descriptor; use `seal_bytes`.
    """
    read, write = source.fileno(), target.fileno()
    request = operations.SealRequest(paths=("-",), suite=as_suite(suite))
    answers = Answers(recipients_given=as_recipients(recipients), log=log)
    with storage(STREAM_NAME):
        target.flush()
        return operations.seal_from_stream(read, request, answers, lambda: write)


def open_stream(
    source: BinaryIO,
    identities: Iterable[Identity],
    *,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> Iterator[bytes]:
    """Open a sealed stream, piece by piece, with constant memory.

    Every piece is authentic, but the whole is genuine only if the iterator ends without an error:
    act on the content when it has.

    Args:
        source: has a descriptor; nothing was read from it yet. It stays open until the iterator
            has ended.
        identities: tried in order.
        observer: is told before anything is given out.
        log: where that is recorded; nowhere without one.

    Returns:
        Pieces of up to 512 KiB.

    Raises:
        NotSealed, FormatError: it is no sealed stream.
        IntegrityError: it is damaged or cut off; also while iterating.
        NoMatchingKeyslot: no identity fits.
        KeyRequired: there is none.
        io.UnsupportedOperation: there is no descriptor; use `open_bytes`.
    """
    answers = opening(identities, STREAM_NAME, log)
    pieces = operations.open_from_stream(source.fileno(), answers, observer)
    return map(bytes, pieces)


def seal_bytes(
    data: Buffer,
    recipients: Iterable[Recipient],
    *,
    name: str = "data",
    suite: Suite = Suite.AES_256_GCM,
) -> bytes:
    """Seal bytes in memory.

    Args:
        data: the content. Three times its size is needed in memory.
        recipients: at least one.
        name: what it is called if it is opened as a file.
        suite: cipher suite.

    Returns:
        A whole sealed file, with its keyslots.

    Raises:
        KeyRequired: there is no recipient.
        UnsafePath: the name is no single name.
    """
    selftest.run()
    return seal_in_memory(bytes(data), name, as_recipients(recipients), suite=as_suite(suite))


def open_bytes(
    sealed: Buffer,
    identities: Iterable[Identity],
    *,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> bytes:
    """Open a whole sealed file in memory. Only sealed bytes may lie in a temporary file meanwhile.

    Args:
        sealed: from `seal_bytes`, or the bytes of a sealed file on its own.
        identities: tried in order.
        observer: is told before anything is given out.
        log: where that is recorded; nowhere without one.

    Returns:
        All of the content, authentic to its end.

    Raises:
        NotSealed, FormatError: it is no sealed file.
        ForeignFile: it needs its vault.
        IntegrityError: it is damaged or cut off.
        NoMatchingKeyslot: no identity fits.
        KeyRequired: there is none.
    """
    answers = opening(identities, _IN_MEMORY, log)
    with storage(_IN_MEMORY), tempfile.TemporaryFile(buffering=0) as file:
        file.write(sealed)
        file.seek(0)
        pieces = operations.open_from_stream(file.fileno(), answers, observer, name=_IN_MEMORY)
        return b"".join(map(bytes, pieces))
