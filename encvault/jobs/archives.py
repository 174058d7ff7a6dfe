"""Dated archives of a job: their names, which of them are kept, and one that is not whole.

``NAME-20261127T023000Z-41.tar.sealed``: the date is for people, the number orders them, so a clock
that was set back makes no new archive the oldest. An archive is made in the folder ``incomplete``
and moved up when it has everything. One that lacks files stays there until a complete one is made,
and never counts among those that are kept.
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from encvault.fs import calls, durable
from encvault.fs.tree import Tree, join

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

INCOMPLETE = "incomplete"
_ENDING = ".tar.sealed"
_ODD = 100_000_000  # a number that no job comes to, and somebody may have made up
_INCOMPLETE_KEPT = 2


def archive_number(job: str, name: str) -> int:
    """The number of an archive of this job; 0 of any other file."""
    pattern = rf"{re.escape(job)}-\d{{8}}T\d{{6}}Z-(\d{{1,9}}){re.escape(_ENDING)}"
    found = re.fullmatch(pattern, name, re.ASCII)
    return int(found[1]) if found else 0


def archives_in(job: str, names: list[str]) -> list[str]:
    """The archives of a job among some names, the oldest first."""
    return sorted(
        (name for name in names if archive_number(job, name)),
        key=lambda name: archive_number(job, name),
    )


def next_name(job: str, names: list[str], now: datetime | None = None) -> str:
    """What the next archive is called.

    Args:
        job: its name.
        names: of the archives that there are, complete or not.
        now: aware; None for this moment.
    """
    taken = {archive_number(job, name) for name in names}
    number = max((one for one in taken if one < _ODD), default=0) + 1
    while number in taken:
        number += 1
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{job}-{moment:%Y%m%dT%H%M%SZ}-{number}{_ENDING}"


class Shelf:
    """The folder with a job's archives; a context.

    Args:
        job: its name.
        path: of the folder, which is there.

    Raises:
        OSError: it is not, or cannot be read.
    """

    def __init__(self, job: str, path: str) -> None:
        self.job = job
        self.tree = Tree(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.tree.close()

    def complete(self) -> list[str]:
        """Names of the complete archives, the oldest first."""
        return archives_in(self.job, os.listdir(self.tree.fd))

    def incomplete(self) -> list[str]:
        """Names of those that lack files."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return archives_in(self.job, os.listdir(self.tree.folder(INCOMPLETE)))
        return []

    def new_path(self, elsewhere: Iterable[str] = ()) -> str:
        """Where to make the next archive: absolute, in the folder of incomplete ones.

        Args:
            elsewhere: names of archives that are not here, as on a server.
        """
        left = filter(durable.is_temporary, os.listdir(self.tree.make_folders(INCOMPLETE)))
        # of runs that were killed, each as large as an archive; one that cannot go harms nobody
        for _error in durable.discard_leftovers(self.tree, [(INCOMPLETE, one) for one in left]):
            pass
        name = next_name(self.job, [*self.complete(), *self.incomplete(), *elsewhere])
        return self.tree.show(join(INCOMPLETE, name))

    def complete_one(self, path: str) -> str:
        """Give an archive, which has everything, its place; durable on return. Its path."""
        name = os.path.basename(path)
        calls.rename_new(self.tree.folder(INCOMPLETE), name, name, self.tree.fd)
        self.tree.sync_names(["", INCOMPLETE])
        return self.tree.show(name)

    def drop_old(self, keep: int, ours: Collection[str]) -> Iterator[str]:
        """Remove complete archives beyond so many, and incomplete ones; the names of all of them.

        Only after a complete one was made.

        Args:
            keep: how many complete ones stay.
            ours: names of what this job has made; another one's of the same name stay as well.
        """
        for name in [name for name in self.complete() if name in ours][:-keep]:
            calls.unlink(self.tree.fd, name)
            yield name
        yield from self.drop_incomplete(0, ours)
        with contextlib.suppress(OSError):  # somebody keeps something there
            calls.rmdir(self.tree.fd, INCOMPLETE)
        self.tree.sync_names([""])

    def drop_incomplete(
        self, keep: int = _INCOMPLETE_KEPT, ours: Collection[str] = ()
    ) -> Iterator[str]:
        """Remove archives that lack files, but for the latest; their names."""
        found = [name for name in self.incomplete() if name in ours]
        for name in found[: max(0, len(found) - keep)]:
            calls.unlink(self.tree.folder(INCOMPLETE), name)
            yield name
