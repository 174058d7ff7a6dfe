"""Whether sealed copies are still what they were, for a machine that cannot open them.

A job holds no key, so it cannot authenticate what an earlier run has sealed. But a sealed file
never changes: the first look at a copy after it was sealed notes the SHA-256 of the sealed bytes,
and any later look must find the same.

The notes lie with the job's records. Who loses them loses the comparison with the past, no data.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from typing import TYPE_CHECKING

from encvault.errors import (
    CopyChanged,
    EncvaultError,
    JobRecordsUnusable,
    NotSealed,
    SourceMissing,
)
from encvault.fs import calls
from encvault.fs.database import Database
from encvault.fs.durable import storage_error
from encvault.fs.tree import Tree, join, split
from encvault.vault.inspect import sealed_places
from encvault.vault.layout import header_at, is_size_of, object_path, sealed_path
from encvault.vault.sealed import read_header
from encvault.vault.sealing import object_sizes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from encvault.vault.ledger import Ledger
    from encvault.vault.vault import Vault

FILE = "copies.sqlite"
SAMPLE_SHARE = 100  # one in so many
SAMPLE_LEAST = 50
_PIECE_SIZE = 1 << 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS copies (id TEXT PRIMARY KEY, digest BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS made (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Inventory(Database):
    """The digests of sealed copies, and the archives that were made.

    Args:
        folder: of the job's records, which is there.

    Raises:
        JobRecordsUnusable: it cannot be used; so do all methods.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, FILE)
        super().__init__(self._path, _SCHEMA)

    def _unusable(self, reason: str) -> JobRecordsUnusable:
        return JobRecordsUnusable(path=self._path, reason=reason)

    def check_copy(self, tree: Tree, path: str, ids: Collection[str] | None) -> None:
        """Compare one copy with what is noted under its file id, or note it.

        Args:
            tree: where it is.
            path: within the tree.
            ids: file ids of which its header must have one, or None for any.

        Raises:
            CopyChanged: it is another.
            EncvaultError: it cannot be read, or is no sealed file.
        """
        shown = tree.show(path)
        with _opened(tree, path) as fd:
            key = read_header(fd, shown).key_info.file
            digest = _digest(fd)
        if not self._is_known(key, digest) or (ids is not None and key not in ids):
            raise CopyChanged(path=shown)

    def check_archive(self, tree: Tree, name: str) -> None:
        """Compare an archive with what is noted under its name, or note it.

        Raises:
            CopyChanged: it is another.
            EncvaultError: it cannot be read.
        """
        with _opened(tree, name) as fd:
            digest = _digest(fd)
        if not self._is_known(name, digest):
            raise CopyChanged(path=tree.show(name))

    def _is_known(self, key: str, digest: bytes) -> bool:
        """Whether it is what is noted; what is seen for the first time is noted."""
        with self._usable():
            found = self._db.execute("SELECT digest FROM copies WHERE id=?", (key,)).fetchone()
            if found is None:
                self._db.execute("INSERT INTO copies VALUES (?,?)", (key, digest))
        return found is None or bool(found[0] == digest)

    def note_made(self, name: str) -> None:
        """An archive is about to be made; durable on return. Only such are ever removed."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO made VALUES (?)", (name,))

    def made(self) -> set[str]:
        """The names of all archives that were made, whether they are there or not."""
        with self._usable():
            return {name for (name,) in self._db.execute("SELECT name FROM made")}

    def keep(self) -> None:
        """Have what was noted durable."""
        with self._usable():
            self._db.commit()

    def forget(self, name: str) -> None:
        """An archive is gone on purpose; to be kept as well."""
        with self._usable():
            self._db.execute("DELETE FROM copies WHERE id=?", (name,))
            self._db.execute("DELETE FROM made WHERE name=?", (name,))


@contextlib.contextmanager
def _opened(tree: Tree, path: str) -> Iterator[int]:
    """A copy, open to read; what the system reports of it is named."""
    shown = tree.show(path)
    folder, file = split(path)
    try:
        fd = calls.open_read(tree.folder(folder), file)
        try:
            yield fd
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise SourceMissing(path=shown) from None
    except OSError as error:
        raise storage_error(error, shown, reading=True) from None


def copies_of(
    vault: Vault, ledger: Ledger | None, *, is_sample: bool
) -> list[tuple[str, Collection[str] | None]]:
    """Paths within a vault of the copies to look at, and the file ids that each may have.

    Args:
        vault: the vault.
        ledger: what must be there; None in place, where what is there is looked at.
        is_sample: one in a hundred, at least fifty, or all of them.
    """
    if ledger is not None:
        return list(_copies(vault, ledger, _sample_size(ledger.count()) if is_sample else -1))
    places = list(sealed_places(vault))
    if is_sample:
        places = random.sample(places, min(len(places), _sample_size(len(places))))
    return [(place, None) for place in places]


def _sample_size(count: int) -> int:
    return max(SAMPLE_LEAST, count // SAMPLE_SHARE)


def check_presence(vault: Vault, ledger: Ledger) -> Iterator[EncvaultError]:
    """Look whether the copies that must be there are there, and are the latest, by their headers.

    What authenticates may still be an older copy that somebody put back.

    Args:
        vault: where.
        ledger: what must be there.
    """
    for place, ids in _copies(vault, ledger):
        shown = vault.tree.show(place)
        try:
            if header_at(vault.tree, *split(place)).key_info.file not in ids:
                yield CopyChanged(path=shown)
        except NotSealed:
            yield SourceMissing(path=shown)
        except OSError as error:
            yield storage_error(error, shown, reading=True)
        except EncvaultError as error:
            yield error


def lost_copies(vault: Vault, ledger: Ledger) -> Iterator[str]:
    """Paths within a vault of the copies that are gone, or have not the size that they must have.

    One look at each, and none of them is opened.
    """
    for folder, name, known in ledger.rows():
        if not known.is_proven:
            continue  # perhaps a run was killed before it had its name
        places = [sealed_path(join(folder, name))]
        sizes = [known.size]
        if vault.hidden:
            places = [object_path(file_id) for file_id in known.ids]
            sizes = object_sizes(known.size, len(places))
        for place, size in zip(places, sizes, strict=True):
            try:
                found = vault.tree.status(place).st_size
            except (FileNotFoundError, NotADirectoryError):
                found = 0
            if not is_size_of(found, size):
                yield place


def _copies(vault: Vault, ledger: Ledger, most: int = -1) -> Iterator[tuple[str, Collection[str]]]:
    """The path of each copy that must be there, and the file ids that it may have.

    Args:
        vault: where they are.
        ledger: what must be there.
        most: of how many files, or -1 for all of them, and the folders that have objects.
    """
    for row in ledger.all_folders().values() if most < 0 else ():
        if row.is_proven:
            yield object_path(row.objects[0]), row.objects[:1]
    for folder, name, known in ledger.rows(most):
        if not vault.hidden:
            # of what a killed run was about to seal, the older copy may be there still
            yield sealed_path(join(folder, name)), (known.ids[0], *known.older)
            continue
        is_there = vault.tree.exists(object_path(known.ids[0]))
        for file_id in known.ids if is_there or known.is_proven else known.older:
            yield object_path(file_id), (file_id,)


def _digest(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_SIZE))
    while count := calls.read_into(fd, buffer):
        digest.update(buffer[:count])
    return digest.digest()
