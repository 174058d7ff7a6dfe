"""Whether sealed copies are still what they were, for a machine that cannot open them.

A job holds no key, so it cannot authenticate what an earlier run has sealed. But a sealed file
never changes: a run reads back and authenticates what it seals, notes the SHA-256 of the sealed
bytes the first time it looks at a copy afterwards, and any later look must find the same bytes.

The notes lie with the job's records. Who loses them loses the comparison with the past, no data.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sqlite3
from typing import TYPE_CHECKING, Self

from encvault.errors import CopyChanged, JobRecordsUnusable, SourceMissing
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.tree import Tree, join, split
from encvault.i18n import _
from encvault.vault.inspect import sealed_places
from encvault.vault.layout import object_path, sealed_path
from encvault.vault.sealed import read_header

if TYPE_CHECKING:
    from types import TracebackType

    from encvault.vault.ledger import Ledger
    from encvault.vault.vault import Vault

FILE = "copies.sqlite"
SAMPLE_SHARE = 100  # one in so many
SAMPLE_LEAST = 50
_PIECE_SIZE = 1 << 20


class Inventory:
    """The digests of sealed copies.

    Args:
        folder: of the job's records, which is there.

    Raises:
        JobRecordsUnusable: it cannot be used.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, FILE)
        try:
            self._db = sqlite3.connect(self._path, timeout=10)
            try:
                self._db.executescript(
                    "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=FULL;"
                    "CREATE TABLE IF NOT EXISTS copies (id TEXT PRIMARY KEY, digest BLOB)"
                    " WITHOUT ROWID;"
                )
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: sqlite3.Error) -> JobRecordsUnusable:
        return JobRecordsUnusable(path=self._path, reason=_(str(error)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def check_file(self, tree: Tree, path: str, name: str | None = None) -> None:
        """Compare one copy with what is noted of it, or note it.

        Args:
            tree: where it is.
            path: within the tree.
            name: what it is noted under; None for the file id that its header has.

        Raises:
            CopyChanged: it is another.
            EncvaultError: it cannot be read, or is no sealed file.
        """
        shown = tree.show(path)
        folder, file = split(path)
        try:
            fd = calls.open_read(tree.folder(folder), file)
        except FileNotFoundError:
            raise SourceMissing(path=shown) from None
        except OSError as error:
            raise storage_error(error, shown, reading=True) from None
        try:
            key = name or read_header(fd, shown).key_info.file
            digest = _digest(fd)
        except OSError as error:
            raise storage_error(error, shown, reading=True) from None
        finally:
            os.close(fd)
        try:
            found = self._db.execute("SELECT digest FROM copies WHERE id=?", (key,)).fetchone()
            if found is None:
                self._db.execute("INSERT INTO copies VALUES (?,?)", (key, digest))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        if found is not None and found[0] != digest:
            raise CopyChanged(path=shown)

    def keep(self) -> None:
        """Have what was noted durable."""
        try:
            self._db.commit()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def forget(self, name: str) -> None:
        """A copy is gone on purpose."""
        with contextlib.suppress(sqlite3.Error):  # what is noted too much harms nobody
            self._db.execute("DELETE FROM copies WHERE id=?", (name,))


def copies_of(vault: Vault, ledger: Ledger | None, *, is_sample: bool) -> list[str]:
    """Paths within a vault of the copies to look at.

    Args:
        vault: the vault.
        ledger: what must be there; None in place, where what is there is looked at.
        is_sample: one in a hundred, at least fifty, or all of them.
    """
    if ledger is None:
        places = sealed_places(vault)
        return (
            random.sample(places, min(len(places), _sample_size(len(places))))
            if is_sample
            else places
        )
    found = []
    for folder, name, known in ledger.rows(_sample_size(ledger.count()) if is_sample else -1):
        if vault.hidden:
            found += [object_path(one) for one in known.ids]
        else:
            found.append(sealed_path(join(folder, name)))
    return found


def _sample_size(count: int) -> int:
    return max(SAMPLE_LEAST, count // SAMPLE_SHARE)


def _digest(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_SIZE))
    while count := calls.read_into(fd, buffer):
        digest.update(buffer[:count])
    return digest.digest()
