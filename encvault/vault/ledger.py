"""What this machine remembers of its vaults, so that unchanged files are not sealed again.

One SQLite file per vault in the local state folder. A row says: *the plain file at this path, with
this stamp, and the sealed file with these ids hold the same content*. It answers two questions:
whether a file is unchanged since its last seal, and whether a sealed file is the known
predecessor of a plain one, so that it may be replaced. Losing the file costs time and, where a
plain and a sealed copy both exist, a question to the user; it never costs data.

The plain names are in the clear here, as they are in the folder that was sealed from this machine
(docs/threat-model.md). SQLite does its own durable writing; everything else goes through `fs`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from encvault.errors import StateUnavailable
from encvault.fs.database import Database
from encvault.fs.stamp import Stamp
from encvault.vault.rows import FileRow, FolderRow, Known, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from encvault.vault.vault import Vault

    _Row = tuple[Any, ...]

_SCHEMA = """
PRAGMA secure_delete=ON;
CREATE TABLE IF NOT EXISTS files (
  root BLOB, dir BLOB, name BLOB, size INT, mtime_ns INT, ctime_ns INT, inode INT, ids TEXT,
  older TEXT,
  PRIMARY KEY (root, dir, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folders (
  root BLOB, dir BLOB, folder TEXT, objects TEXT, mode INT, mtime_ns INT,
  PRIMARY KEY (root, dir)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passing (
  id INTEGER PRIMARY KEY AUTOINCREMENT, root BLOB, rows TEXT
);
CREATE TABLE IF NOT EXISTS adopting (root BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (root BLOB, id TEXT, PRIMARY KEY (root, id)) WITHOUT ROWID;
"""

_CODEC, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()  # os.fsencode's
_FEWEST_AHEAD, _MOST_AHEAD = 64, 2048  # rows


def _folder_row(folder: str, objects: str, mode: int, mtime_ns: int) -> FolderRow:
    return FolderRow(folder, tuple(objects.split()), mode, mtime_ns)


class _Ahead:
    """The rows of a folder, and of those that will be asked for next.

    A query for each folder costs as much as forty rows. Folders are asked for nearly in the order
    of their paths, so that one query serves many; how many rows it reads grows while that holds.

    Args:
        read: gives the rows of a folder; if a number is given, of those after it as well, at most
            as many, in the order of their folders. A row begins with its folder.
    """

    def __init__(self, read: Callable[[bytes, int | None], list[_Row]]) -> None:
        self._read = read
        self._most = _FEWEST_AHEAD
        self._served = 0
        self.forget()

    def forget(self) -> None:
        """What was read may be no more."""
        self._rows: dict[bytes, list[_Row]] = {}
        # from the one until before the other each folder is here that has rows
        self._begin: bytes = b""
        self._end: bytes | None = b""

    def of(self, folder: bytes) -> list[_Row]:
        """The rows of a folder."""
        if folder >= self._begin and (self._end is None or folder < self._end):
            self._served += 1
        else:
            goes_on = self._served or folder == self._end
            self._most = min(2 * self._most, _MOST_AHEAD) if goes_on else _FEWEST_AHEAD
            self._served = 0
            self._look_ahead(folder)
        return self._rows.get(folder, [])

    def _look_ahead(self, folder: bytes) -> None:
        rows = self._read(folder, self._most)
        if len(rows) == self._most and rows[-1][0] == folder:
            self._rows = {folder: self._read(folder, None)}
            self._begin, self._end = folder, folder + b"\0"  # the next path that could be
            self._served = 1  # more at once would have
            return
        self._rows = {path: list(own) for path, own in itertools.groupby(rows, itemgetter(0))}
        self._begin, self._end = folder, None
        if len(rows) == self._most:  # the last one may have more
            self._end, _rows = self._rows.popitem()


def _path(state_dir: str, vault: str) -> str:
    return os.path.join(state_dir, "vaults", f"{vault}.sqlite")


class Ledger(Database):
    """Rows for one vault and one plain root.

    Args:
        state_dir: the local state folder, made if missing.
        vault: the vault's id.
        root: absolute path of the folder that holds the plain files.

    Raises:
        StateUnavailable: the folder or the database cannot be used.
    """

    def __init__(self, state_dir: str, vault: str, root: str) -> None:
        self._root = os.fsencode(root)
        path = _path(state_dir, vault)
        self._folder = os.path.dirname(path)
        with self._usable():
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        super().__init__(path, _SCHEMA)
        self._files = _Ahead(self._read_files)
        self._folders = _Ahead(self._read_folders)
        try:
            self._take_over()
        except BaseException:
            self._db.close()
            raise

    def _take_over(self) -> None:
        """Store each row of what a killed run has begun, or one that is at work."""
        begun = "FROM passing WHERE root=?"
        with self._transaction():
            if self._db.execute(f"SELECT 1 {begun}", (self._root,)).fetchone() is None:
                return
            self._db.execute("BEGIN IMMEDIATE")  # else it may end between this look and the next
            for (text,) in self._db.execute(f"SELECT rows {begun} ORDER BY id", (self._root,)):
                # a damaged one costs a question where there are a plain and a sealed copy
                with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
                    self._insert(
                        [
                            FileRow(
                                folder, name, Stamp(*stamp), tuple(ids), tuple(older)
                            ).unproven()
                            for folder, name, stamp, ids, older, _is_proven in json.loads(text)
                        ]
                    )
            self._db.execute(f"DELETE {begun}", (self._root,))

    def _unusable(self, reason: str) -> StateUnavailable:
        return StateUnavailable(path=self._folder, reason=reason)

    @staticmethod
    def exists(state_dir: str, vault: str) -> bool:
        """Whether anything is remembered of a vault."""
        return os.path.exists(_path(state_dir, vault))

    def knows_root(self) -> bool:
        """Whether anything of this root was ever sealed into the vault."""
        with self._transaction():
            found = self._db.execute(
                "SELECT 1 FROM files WHERE root=?"
                " UNION ALL SELECT 1 FROM folders WHERE root=? LIMIT 1",
                (self._root, self._root),
            )
            return found.fetchone() is not None

    def is_adopting(self) -> bool:
        """Whether a run over this root began to replace what it did not know, and has not ended."""
        with self._transaction():
            found = self._db.execute("SELECT 1 FROM adopting WHERE root=?", (self._root,))
            return found.fetchone() is not None

    def set_adopting(self) -> None:
        """Remember that until `end_adopting`: the run after a killed one may go on with it."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO adopting VALUES (?)", (self._root,))

    def end_adopting(self) -> None:
        """All of this root is known."""
        with self._transaction():
            self._db.execute("DELETE FROM adopting WHERE root=?", (self._root,))

    def key_ids(self) -> list[str]:
        """The ids of the data keys that the vault had when this root was sealed into it."""
        with self._transaction():
            rows = self._db.execute("SELECT id FROM keys WHERE root=? ORDER BY id", (self._root,))
            return [key_id for (key_id,) in rows]

    def keep_keys(self, key_ids: Iterable[str]) -> None:
        """The data keys that the vault has or had, and no others; durable on return."""
        with self._transaction():
            self._db.execute("DELETE FROM keys WHERE root=?", (self._root,))
            self._db.executemany(
                "INSERT INTO keys VALUES (?,?)", ((self._root, key_id) for key_id in key_ids)
            )

    def files(self, folder: str) -> dict[str, Known]:
        """What is remembered of the files of one folder."""
        rows = self._files.of(os.fsencode(folder))
        # a night without changes comes by here with every file: no call of Python's for one
        return {row[1].decode(_CODEC, _ERRORS): tuple.__new__(Known, row[2:]) for row in rows}

    def _read_files(self, folder: bytes, most: int | None) -> list[_Row]:
        columns = "dir, name, size, mtime_ns, ctime_ns, inode, ids, older"
        return self._read(f"{columns} FROM files", folder, most)

    def _read_folders(self, folder: bytes, most: int | None) -> list[_Row]:
        return self._read("dir, folder, objects, mode, mtime_ns FROM folders", folder, most)

    def _read(self, what: str, folder: bytes, most: int | None) -> list[_Row]:
        those = "dir=?" if most is None else "dir>=?"
        with self._transaction():
            return self._db.execute(
                f"SELECT {what} WHERE root=? AND {those} ORDER BY dir LIMIT ?",
                (self._root, folder, -1 if most is None else most),
            ).fetchall()

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """A transaction after which what was read is no more."""
        try:
            with self._transaction():
                yield
        finally:
            self._files.forget()
            self._folders.forget()

    def rows(self, most: int = -1) -> list[tuple[str, str, Known]]:
        """Folder, name and what is remembered, of every file or of some by chance.

        Args:
            most: of how many, or -1 for all of them.
        """
        order = "dir, name" if most < 0 else "random()"
        with self._transaction():
            rows = self._db.execute(
                "SELECT dir, name, size, mtime_ns, ctime_ns, inode, ids, older FROM files"  # noqa: S608 - one of two words
                f" WHERE root=? ORDER BY {order} LIMIT ?",
                (self._root, most),
            ).fetchall()
        return [
            (os.fsdecode(folder), os.fsdecode(name), Known._make(row))
            for folder, name, *row in rows
        ]

    def count(self) -> int:
        """How many files are remembered."""
        with self._transaction():
            (count,) = self._db.execute(
                "SELECT count(*) FROM files WHERE root=?", (self._root,)
            ).fetchone()
        return int(count)

    def remember(self, rows: Iterable[FileRow], folders: dict[str, FolderRow]) -> None:
        """Keep rows; durable on return."""
        with self._change():
            self._insert(rows)
            self._db.executemany(
                "INSERT OR REPLACE INTO folders VALUES (?,?,?,?,?,?)",
                (
                    (
                        self._root,
                        os.fsencode(path),
                        row.folder,
                        " ".join(row.objects),
                        row.mode,
                        row.mtime_ns,
                    )
                    for path, row in folders.items()
                ),
            )

    def note_removed(self, paths: Iterable[tuple[str, str]]) -> None:
        """A run has removed the originals of these folders and names: no file is like them.

        The rows are proven as before: each copy that they tell of may be the only one, and must be
        missed if it is lost.
        """
        with self._change():
            self._db.executemany(
                "UPDATE files SET mtime_ns=NULL WHERE root=? AND dir=? AND name=?",
                ((self._root, os.fsencode(folder), os.fsencode(name)) for folder, name in paths),
            )

    def forget(self, paths: Iterable[tuple[str, str]]) -> None:
        """Drop the rows of these folders and names."""
        with self._change():
            self._delete(paths)

    def begin(self, rows: list[FileRow]) -> int:
        """Keep rows, unproven, of files that are hoped to be gone in a moment; durable on return.

        They are stored together, which takes a tenth of the time. Whoever opens the ledger next
        finds each of them; this one finds them after `end`, if they are still there.

        Returns:
            A number for `end`.
        """
        with self._transaction():
            number = self._db.execute(
                "INSERT INTO passing (root, rows) VALUES (?,?)", (self._root, json.dumps(rows))
            ).lastrowid
        if number is None:
            raise AssertionError("ledger: what was inserted has a number")
        return number

    def end(self, begun: Mapping[int, list[FileRow]], gone: Container[tuple[str, str]]) -> None:
        """Drop the rows of files that are gone, and keep what else was begun.

        Args:
            begun: what `begin` was given, by what it returned.
            gone: folders and names.
        """
        rows = [row for batch in begun.values() for row in batch]
        with self._change():
            self._db.executemany("DELETE FROM passing WHERE id=?", ((number,) for number in begun))
            # older ones, or these, if another process has opened the ledger meanwhile
            any_row = self._db.execute("SELECT 1 FROM files WHERE root=? LIMIT 1", (self._root,))
            if any_row.fetchone() is not None:
                self._delete(row[:2] for row in rows if row[:2] in gone)
            self._insert(row.unproven() for row in rows if row[:2] not in gone)

    def _insert(self, rows: Iterable[FileRow]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?)",
            (
                (
                    self._root,
                    row.dir.encode(_CODEC, _ERRORS),
                    row.name.encode(_CODEC, _ERRORS),
                    *columns_of(row),
                    " ".join(row.ids),
                    " ".join(row.older),
                )
                for row in rows
            ),
        )

    def _delete(self, paths: Iterable[tuple[str, str]]) -> None:
        self._db.executemany(
            "DELETE FROM files WHERE root=? AND dir=? AND name=?",
            (
                (self._root, folder.encode(_CODEC, _ERRORS), name.encode(_CODEC, _ERRORS))
                for folder, name in paths
            ),
        )

    def folder(self, path: str) -> FolderRow | None:
        """What is remembered of one folder."""
        for _dir, *row in self._folders.of(os.fsencode(path)):
            return _folder_row(*row)
        return None

    def folders_with_rows(self) -> list[str]:
        """Every folder of which anything is remembered, or of the files in it."""
        with self._transaction():
            rows = self._db.execute(
                "SELECT dir FROM folders WHERE root=? UNION SELECT dir FROM files WHERE root=?",
                (self._root, self._root),
            )
            return [os.fsdecode(path) for (path,) in rows]

    def all_folders(self) -> dict[str, FolderRow]:
        """Every remembered folder by path."""
        with self._transaction():
            rows = self._db.execute(
                "SELECT dir, folder, objects, mode, mtime_ns FROM folders WHERE root=?",
                (self._root,),
            ).fetchall()
        return {os.fsdecode(path): _folder_row(*rest) for path, *rest in rows}

    def forget_folders(self, paths: Iterable[str]) -> None:
        """Drop the rows of these folders and of the files in them."""
        keys = [(self._root, os.fsencode(path)) for path in paths]
        with self._change():
            self._db.executemany("DELETE FROM folders WHERE root=? AND dir=?", keys)
            self._db.executemany("DELETE FROM files WHERE root=? AND dir=?", keys)


@contextlib.contextmanager
def ledger_of(
    state_dir: str | None, vault: Vault, root: str, *, create: bool = True
) -> Iterator[Ledger | None]:
    """This machine's memory of a vault, or None if nothing is to be remembered.

    Args:
        state_dir: the local state folder, or None.
        vault: the vault.
        root: of the plain files; "" in place.
        create: whether to begin one where there is none.
    """
    begun = state_dir is not None and Ledger.exists(state_dir, vault.record.id)
    if state_dir is None or not (create or begun):
        yield None
        return
    with Ledger(state_dir, vault.record.id, root) as ledger:
        yield ledger
