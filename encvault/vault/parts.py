"""The content of a file of a hidden vault that is cut into several objects."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from encvault.errors import MissingPart
from encvault.fs import calls
from encvault.vault.layout import object_folder, object_path
from encvault.vault.sealed import Buffers, Keyring, SealedReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.envelope import Record
    from encvault.fs.tree import Tree


def all_parts(
    tree: Tree, keyring: Keyring, file: str, record: Record, first: Iterator[memoryview]
) -> Iterator[memoryview]:
    """The content of a file and of its further parts, checked to be whole."""
    yield from first
    for index, file_id in enumerate(record.parts, start=1):
        yield from read_part(tree, keyring, record, file, index, file_id)


def read_part(
    tree: Tree, keyring: Keyring, record: Record, first: str, index: int, file_id: str
) -> Iterator[memoryview]:
    """The content of one further part of a large file.

    Raises:
        MissingPart: see `open_part`.
    """
    with open_part(tree, keyring, record, first, index, file_id) as (_reader, _part, pieces):
        yield from pieces


@contextlib.contextmanager
def open_part(
    tree: Tree, keyring: Keyring, record: Record, first: str, index: int, file_id: str
) -> Iterator[tuple[SealedReader, Record, Iterator[memoryview]]]:
    """One further part of a large file, and its record and content.

    Args:
        tree: the vault's.
        keyring: its keys.
        record: of the file.
        first: file id of the first object.
        index: position of this part, from 1.
        file_id: of this part.

    Raises:
        MissingPart: it is not there, or is another file's, another position's, or not as large
            as this position asks for.
    """
    path = object_path(file_id)
    missing = MissingPart(path=tree.show(object_path(first)), part=file_id)
    try:
        fd = calls.open_read(tree.folder(object_folder(file_id)), file_id)
    except FileNotFoundError:
        raise missing from None
    try:
        reader = SealedReader(fd, tree.show(path), Buffers())
        part, pieces = reader.open(keyring)
        if part.part_of != (first, index) or reader.header.key_info.file != file_id:
            raise missing
        if part.size != part_size(record, index):
            raise missing
        yield reader, part, pieces
    finally:
        os.close(fd)


def part_size(record: Record, index: int) -> int:
    """Bytes of content that one object of a file holds."""
    if record.size is None:
        raise AssertionError("opening: a file in parts has a size")
    if not record.parts:
        return record.size
    return min(record.part_size, record.size - index * record.part_size)
