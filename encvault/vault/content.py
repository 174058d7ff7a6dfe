"""Content that is at hand already, sealed on its own: a copy of a sealed file, bytes in memory.

The result is the same as that of `encvault.vault.single`: a file with its keyslots inline. Here no
plain file lies anywhere, so there is none to compare with and none to remove.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from encvault.envelope import Header, InlineKeyInfo, Record, check_path
from encvault.errors import UnsafePath
from encvault.fs.durable import storage_error
from encvault.vault.attributes import is_of_the_content
from encvault.vault.layout import archive_name
from encvault.vault.manifest import new_id
from encvault.vault.sealed import Buffers, SealWriter, encode_sealed
from encvault.vault.single import make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from encvault.crypto.suite import Suite
    from encvault.keyslots import Recipient
    from encvault.secret import Buffer
    from encvault.vault.output import OutputFile


def record_of_copy(record: Record, name: str) -> Record:
    """The metadata record of a copy that leaves its vault.

    It keeps kind, size, mode, time, holes and the user's extended attributes. Parent, parts and
    the path above the name are the vault's affair; owner and access lists name users of this
    machine, and a file on its own never brings them back (`attributes.restore`).

    Args:
        record: of the sealed file.
        name: what the sealed file is called now, which may not be what it was sealed as.
    """
    return record._replace(
        path=archive_name(name) if record.type == "archive" else name,
        sealed_at_ns=time.time_ns(),
        parent=None,
        owner=None,
        xattrs=tuple(xattr for xattr in record.xattrs if is_of_the_content(xattr[0])),
        part_size=0,
        parts=(),
    )


def seal_pieces(
    pieces: Iterable[Buffer],
    file: OutputFile,
    record: Record,
    recipients: Sequence[Recipient],
    *,
    suite: Suite,
    release: Callable[[], None],
    tick: Callable[[int], None],
) -> int:
    """Seal content piece by piece to a new file, under a fresh key; nothing plain is written.

    Args:
        pieces: the content; what they raise passes through, and the file does not appear.
        file: not yet opened; published on return.
        record: its metadata.
        recipients: at least one.
        suite: cipher suite.
        release: called once, when the keys are there and before the first byte is written; what
            it raises stops the work.
        tick: told of the bytes as they are done.

    Returns:
        Bytes of content.

    Raises:
        KeyRequired: no recipient.
        OutOfSpace, CannotCreate, InputOutputError: the output could not be written.
    """
    key, slots = make_key(recipients, file.path)
    encoded = record.encode()
    header = Header(suite, len(encoded), InlineKeyInfo(new_id(), slots)).encode()
    with key:
        release()
        fd = file.open()
        # only what writes is named after the output: `pieces` name what they read themselves
        with _written(file.path):
            writer = SealWriter(fd, suite, key, header, encoded, Buffers())
        for piece in pieces:
            with _written(file.path):
                writer.write(piece)
            tick(len(piece))
        with _written(file.path):
            writer.finish()
    file.publish()
    return writer.content_size


@contextlib.contextmanager
def _written(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from None


def seal_in_memory(
    data: bytes, name: str, recipients: Sequence[Recipient], *, suite: Suite
) -> bytes:
    """A whole sealed file in memory. It takes twice the content's size beside the content.

    Args:
        data: the content.
        name: for the metadata record, a single name.
        recipients: at least one.
        suite: cipher suite.

    Raises:
        KeyRequired: no recipient.
        UnsafePath: the name is none.
    """
    check_path(name, name)
    if "/" in name:
        raise UnsafePath(path=name, name=name)
    key, slots = make_key(recipients, name)
    record = Record(type="file", path=name, sealed_at_ns=time.time_ns(), size=len(data)).encode()
    header = Header(suite, len(record), InlineKeyInfo(new_id(), slots)).encode()
    with key:
        return encode_sealed(suite, key, header, record, data)
