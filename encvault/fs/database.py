"""A small SQLite file in which this machine remembers something.

SQLite does its own durable writing; everything else goes through the rest of `fs`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Self

from encvault.i18n import N_, _, system_reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from encvault.errors import EncvaultError

_PATIENCE_S = 10  # for another process that writes to it
_DURABLE = "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=FULL;"

# what SQLite says when it cannot begin, here so that the catalog has it
_REASONS = (
    N_("attempt to write a readonly database"),
    N_("database disk image is malformed"),
    N_("database is locked"),
    N_("database or disk is full"),
    N_("disk I/O error"),
    N_("file is not a database"),
    N_("unable to open database file"),
)


class Database:
    """A context; closed when it is left. Whoever derives from it names its errors.

    Args:
        path: of the file, in a folder that is there.
        schema: statements that make what is missing.
    """

    def __init__(self, path: str, schema: str) -> None:
        with self._usable():
            self._db = sqlite3.connect(path, timeout=_PATIENCE_S)
            try:
                self._db.executescript(_DURABLE + schema)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def _unusable(self, reason: str) -> EncvaultError:
        """The error for a file that cannot be used."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Name what goes wrong within."""
        try:
            yield
        except OSError as error:
            raise self._unusable(system_reason(error)) from None
        except sqlite3.Error as error:
            raise self._unusable(_(str(error))) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done within, durable on leaving, or undo it."""
        with self._usable(), self._db:
            yield self._db
