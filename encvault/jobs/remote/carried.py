"""What this machine has carried to a server, so that nothing is sent twice.

One SQLite file among the job's records. A row says: *this file on that server was written from
here, with this content*; it is made before the first byte is sent, so that everything there that
is ours is known as ours, whenever a run is killed. Losing the file costs time: what lies on the
server is then read and compared instead of sent, and is taken for ours only where it is of the
same vault.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.errors import JobRecordsUnusable
from encvault.fs.database import Database
from encvault.jobs.remote.server import There

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = "carried.sqlite"
_MANY = 4096

_SCHEMA = """
PRAGMA temp_store=FILE;
CREATE TABLE IF NOT EXISTS carried (
  place TEXT, path BLOB, was_sent INT, size INT, local TEXT, digest BLOB, stamp TEXT,
  PRIMARY KEY (place, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS adopting (place TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE there (path BLOB PRIMARY KEY, size INT, stamp TEXT) WITHOUT ROWID;
CREATE TEMP TABLE met (path BLOB PRIMARY KEY, is_old INT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Carried:
    """One file that was sent, or is being sent.

    Attributes:
        path: beneath the server's place.
        size: bytes.
        local: stamp of the local file.
        digest: SHA-256 of the content.
        stamp: of the file on the server; "" until it was sent.
        was_sent: whether it has arrived whole; if not, an older one, or nothing, may be there.
    """

    path: str
    size: int
    local: str
    digest: bytes
    stamp: str = ""
    was_sent: bool = False

    def is_as_left(self, there: There) -> bool:
        """Whether nobody has written the file on the server since."""
        return (there.size, there.stamp) == (self.size, self.stamp)


def _carried(path: str, size: int, local: str, digest: bytes, stamp: str, was_sent: int) -> Carried:
    return Carried(path, size, local, digest, stamp, bool(was_sent))


class CarriedLedger(Database):
    """Rows for one place on a server.

    Args:
        folder: of the job's records; it exists.
        place: of the server.
        mode: ``mirror`` or ``archive``: neither ever takes what the other has carried for its own.

    Raises:
        JobRecordsUnusable: the database cannot be used; so do all methods.
    """

    def __init__(self, folder: str, place: str, mode: str) -> None:
        self._path = os.path.join(folder, FILE)
        self._place = f"{mode} {place}"
        self._met: list[tuple[bytes, bool]] = []
        super().__init__(self._path, _SCHEMA)

    def _unusable(self, reason: str) -> JobRecordsUnusable:
        return JobRecordsUnusable(path=self._path, reason=reason)

    def look_at(self, files: Iterable[There]) -> None:
        """Take in what lies on the server now; begins a run."""
        with self._transaction() as db:
            db.execute("DELETE FROM there")
            db.execute("DELETE FROM met")
            self._met.clear()
            db.executemany(
                "INSERT OR REPLACE INTO there VALUES (?,?,?)",
                ((os.fsencode(path), size, stamp) for path, size, stamp in files),
            )

    def is_new(self) -> bool:
        """Whether nothing was ever carried there, as far as is known."""
        with self._usable():
            found = self._db.execute(
                "SELECT 1 FROM carried WHERE place=? LIMIT 1", (self._place,)
            ).fetchone()
        return found is None

    def is_adopting(self) -> bool:
        """Whether a run began to take what lies there for ours, and has not ended well."""
        with self._usable():
            found = self._db.execute("SELECT 1 FROM adopting WHERE place=?", (self._place,))
            return found.fetchone() is not None

    def set_adopting(self) -> None:
        """Remember that until `end_adopting`: the run after a killed one goes on with it."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO adopting VALUES (?)", (self._place,))

    def end_adopting(self) -> None:
        """All that is ours there is known."""
        with self._transaction() as db:
            db.execute("DELETE FROM adopting WHERE place=?", (self._place,))

    def carried(self, path: str) -> Carried | None:
        """What is known of one file."""
        with self._usable():
            row = self._db.execute(
                "SELECT size, local, digest, stamp, was_sent FROM carried WHERE place=? AND path=?",
                (self._place, os.fsencode(path)),
            ).fetchone()
        return None if row is None else _carried(path, *row)

    def there(self, path: str) -> There | None:
        """What lay on the server when it was looked at."""
        with self._usable():
            row = self._db.execute(
                "SELECT size, stamp FROM there WHERE path=?", (os.fsencode(path),)
            ).fetchone()
        return None if row is None else There(path, *row)

    def ours(self) -> list[There]:
        """What lay on the server and was sent from here."""
        with self._usable():
            rows = self._db.execute(
                "SELECT there.path, there.size, there.stamp FROM there JOIN carried USING (path)"
                " WHERE place=? AND was_sent ORDER BY there.path",
                (self._place,),
            ).fetchall()
        return [There(os.fsdecode(path), size, stamp) for path, size, stamp in rows]

    def remember(self, rows: Iterable[Carried]) -> None:
        """Keep rows; durable on return."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO carried VALUES (?,?,?,?,?,?,?)",
                (
                    (
                        self._place,
                        os.fsencode(row.path),
                        row.was_sent,
                        row.size,
                        row.local,
                        row.digest,
                        row.stamp,
                    )
                    for row in rows
                ),
            )

    def forget(self, paths: Iterable[str]) -> None:
        """Drop rows; durable on return."""
        with self._transaction() as db:
            db.executemany(
                "DELETE FROM carried WHERE place=? AND path=?",
                ((self._place, os.fsencode(path)) for path in paths),
            )

    def meet(self, path: str, *, is_old: bool) -> None:
        """Note that this run has met a file in the spool, and whether it lay there before."""
        self._met.append((os.fsencode(path), is_old))
        if len(self._met) >= _MANY:
            self._flush()

    def _flush(self) -> None:
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO met VALUES (?,?)", self._met)
        self._met.clear()

    def sample(self, share: float) -> list[str]:
        """Some of what lay on the server before this run, at least one if there is any."""
        self._flush()
        with self._usable():
            (count,) = self._db.execute("SELECT count(*) FROM met WHERE is_old").fetchone()
            rows = self._db.execute(
                "SELECT path FROM met WHERE is_old ORDER BY random() LIMIT ?",
                (max(1, math.ceil(count * share)),),
            ).fetchall()
        return sorted(os.fsdecode(path) for (path,) in rows)

    def unmet(self) -> list[Carried]:
        """What was carried and was not met in this run: it is gone from the spool."""
        self._flush()
        with self._usable():
            rows = self._db.execute(
                "SELECT path, size, local, digest, stamp, was_sent FROM carried"
                " WHERE place=? AND path NOT IN (SELECT path FROM met) ORDER BY path DESC",
                (self._place,),
            ).fetchall()
        return [_carried(os.fsdecode(path), *rest) for path, *rest in rows]
