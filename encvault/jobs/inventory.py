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
import sqlite3
from typing import TYPE_CHECKING, Self

from encvault.errors import CopyChanged, EncvaultError, JobRecordsUnusable, SourceMissing
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.tree import Tree, join, split
from encvault.i18n import _
from encvault.vault.layout import object_path, sealed_path
from encvault.vault.sealed import read_header
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from encvault.vault.ledger import Ledger

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


def check_vault(
    inventory: Inventory,
    path: str,
    ledger: Ledger,
    *,
    sample: bool,
    boundary: Callable[[], None],
) -> Iterator[EncvaultError | None]:
    """Look at the copies of a vault that a run has left: for each, what is wrong with it or None.

    Args:
        inventory: what is noted of them.
        path: folder of the vault.
        ledger: what must be there.
        sample: one in a hundred, at least fifty, or all of them.
        boundary: is called between two of them.
    """
    most = max(SAMPLE_LEAST, ledger.count() // SAMPLE_SHARE) if sample else -1
    with Vault.load(path) as vault:
        for folder, name, known in ledger.rows(most):
            places = [object_path(one) for one in known.ids]
            if not vault.hidden:
                places = [sealed_path(join(folder, name))]
            for place in places:
                boundary()
                try:
                    inventory.check_file(vault.tree, place)
                except EncvaultError as error:
                    yield error
                else:
                    yield None
    inventory.keep()


def _digest(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_SIZE))
    while count := calls.read_into(fd, buffer):
        digest.update(buffer[:count])
    return digest.digest()
