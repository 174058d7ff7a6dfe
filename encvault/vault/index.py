"""What the objects of a hidden vault say of themselves, once more and all in one place.

Twenty thousand objects on a stick take many seconds to open one by one, and a mount must know them
all. So whoever seals objects keeps their records in a part of the index as well (docs/format.md
section 6.5). It is a cache: what it does not have, or what cannot be read of it, is read from the
objects, and nothing that it says is believed of content.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic, stream
from encvault.encoding import is_id
from encvault.envelope import check_layout, decode_record
from encvault.errors import EncvaultError
from encvault.fs import calls, durable
from encvault.fs.tree import join
from encvault.vault.manifest import INDEX_FOLDER, make_own_folders, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from encvault.envelope import Record
    from encvault.fs.tree import Tree
    from encvault.secret import Secret
    from encvault.vault.vault import Vault

PART_ENTRIES = 20_000  # about 6 MB
PART_SIZE = 16 << 20  # bytes of entries; the last one may reach beyond
MANY_PARTS = 16
MAX_PARTS = 256
MAX_PART_SIZE = 32 << 20  # bytes
MAX_SIZE = 256 << 20  # bytes of all parts that are read; the rest is read from the objects

_MAGIC = b"encvault-index/v1 "
_HEADER_SIZE = len(_MAGIC) + 26 + 1
_ENTRY = struct.Struct(">26sI")  # id of the object, bytes of its record


class IndexWriter:
    """Collects what objects say of themselves, and writes it as parts of the index.

    Args:
        vault: held.
        data_key: gives the id of a data key of this run, and the key; asked when it is needed.
    """

    def __init__(self, vault: Vault, data_key: Callable[[], tuple[str, Secret]]) -> None:
        self._vault = vault
        self._data_key = data_key
        self._entries: dict[str, bytes] = {}
        self._size = 0

    def add(self, file_id: str, record: bytes) -> None:
        """An object that has its place in the vault, and its encoded record."""
        if self._collect(file_id, record):
            self.flush()

    def flush(self) -> None:
        """Write what was collected, durable on return. That it cannot be written is no error."""
        if len(_parts(self._vault.tree)) < MAX_PARTS:
            self._write()
        self._entries, self._size = {}, 0

    def merge(self, alive: Container[str]) -> None:
        """Make few parts of many, without objects that are gone. The vault is unlocked.

        Args:
            alive: the ids of the objects that there are.
        """
        old = _parts(self._vault.tree)
        if len(old) < MANY_PARTS:
            return
        is_written = True
        for name in old:
            for file_id, record in _entries(self._vault, name):
                if file_id in alive and self._collect(file_id, record):
                    is_written = self._write() and is_written
        if self._write() and is_written:
            _discard(self._vault.tree, old)

    def _collect(self, file_id: str, record: bytes) -> bool:
        """Whether what was collected is enough for a part."""
        self._entries[file_id] = record
        self._size += _ENTRY.size + len(record)
        return len(self._entries) >= PART_ENTRIES or self._size >= PART_SIZE

    def _write(self) -> bool:
        """Write a part of what was collected; False if it cannot be written."""
        entries, self._entries, self._size = self._entries, {}, 0
        if not entries:
            return True
        try:
            key_id, key = self._data_key()
        except (EncvaultError, OSError):  # as on a full disk
            return False
        header = _MAGIC + key_id.encode() + b"\n"
        content = b"".join(
            _ENTRY.pack(file_id.encode(), len(record)) + record
            for file_id, record in entries.items()
        )
        body = stream.seal(self._vault.record.suite, key.reveal(), header, content)
        tree, name = self._vault.tree, new_id()
        try:
            make_own_folders(tree, INDEX_FOLDER)
            durable.write_file(
                tree, INDEX_FOLDER, name, header + body, file_id=name, mode=None, replace=False
            )
        except OSError:
            return False
        return True


def read_index(vault: Vault) -> dict[str, Record]:
    """The records of objects that the index has, by their ids. The vault must be unlocked."""
    found: dict[str, Record] = {}
    size = 0
    for name in _parts(vault.tree):
        if size > MAX_SIZE:
            break
        shown = vault.tree.show(join(INDEX_FOLDER, name))
        for file_id, data in _entries(vault, name):
            size += len(data)
            with contextlib.suppress(EncvaultError):
                record = decode_record(data, shown)
                check_layout(record, vault.layout, shown)
                found[file_id] = record
    return found


def discard_index(tree: Tree) -> None:
    """Remove the index: the objects are gone, or somebody may no longer know their names."""
    _discard(tree, _parts(tree))


def _parts(tree: Tree) -> list[str]:
    try:
        return sorted(filter(is_id, os.listdir(tree.folder(INDEX_FOLDER))))
    except OSError:
        return []


def _discard(tree: Tree, names: list[str]) -> None:
    with contextlib.suppress(OSError):
        for name in names:
            calls.unlink(tree.folder(INDEX_FOLDER), name)


def _entries(vault: Vault, name: str) -> Iterator[tuple[str, bytes]]:
    """The entries of a part; none if it is not authentic or cannot be read."""
    path = join(INDEX_FOLDER, name)
    try:
        data = durable.read_file(vault.tree, path, MAX_PART_SIZE)
        header = data[:_HEADER_SIZE]
        if not header.startswith(_MAGIC) or header[-1:] != b"\n" or len(data) > MAX_PART_SIZE:
            return
        suite, key = vault.data_key(header[len(_MAGIC) : -1].decode(), vault.tree.show(path))
        content = stream.open(suite, key.reveal(), header, memoryview(data)[_HEADER_SIZE:])
    except (EncvaultError, NotAuthentic, OSError, ValueError):
        return
    at = 0
    while at + _ENTRY.size <= len(content):
        file_id, size = _ENTRY.unpack_from(content, at)
        at += _ENTRY.size
        yield file_id.decode(errors="replace"), content[at : at + size]
        at += size
