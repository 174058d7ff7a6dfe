"""Jobs whose destination is a server: sealed here first, in a spool, then carried there.

The spool lies with the job's records. Of a mirror it is a whole sealed mirror, so a run knows what
is on the server without asking for it; an archive leaves it as soon as it is there.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING, cast

from encvault.errors import EncvaultError
from encvault.fs import calls, durable
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.jobs.archives import Shelf, archives_in
from encvault.jobs.destinations import absent
from encvault.jobs.remote.carried import CarriedLedger
from encvault.jobs.remote.carrying import (
    carry_file,
    carry_tree,
    check_file,
    list_files,
    remove_file,
)
from encvault.jobs.remote.server import Cargo, Server
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Self

    from encvault.jobs.jobfile import Job
    from encvault.jobs.records import Outcome
    from encvault.jobs.remote.carrier import CarryReport
    from encvault.jobs.remote.carrying import Verify
    from encvault.vault.report import Observer

_MIRRORS, _ARCHIVES = "mirrors", "archives"
_FEW = 2  # archives that are looked at again where not all are


def spool_of(folder: str, source: str) -> str:
    """Where the mirror of a source lies before it is carried.

    Args:
        folder: of the job's records.
        source: one of the job's.
    """
    return os.path.join(folder, _MIRRORS, os.path.basename(source) or "root")


def send_mirror(
    job: Job, source: str, folder: str, observer: Observer, *, spared: Collection[str] = ()
) -> CarryReport:
    """Make what is on the server equal to the spool of a source.

    What the spool does not have any more goes from the server as well: the spool itself keeps what
    the job wants to be kept.

    Args:
        job: whose.
        source: one of its sources; of several, each has a folder of its own there.
        folder: of the job's records.
        observer: is told what happens.
        spared: see `carry_tree`.

    Raises:
        EncvaultError: see `carry_tree`.
    """
    under = os.path.basename(source) if len(job.sources) > 1 else ""
    with (
        Server.reach(job.destination or "", under=under) as server,
        CarriedLedger(folder, server.place, "mirror") as known,
        Tree(spool_of(folder, source)) as tree,
    ):
        return carry_tree(
            server,
            tree,
            delete=True,
            verify=cast("Verify", job.verify),
            known=known,
            observer=observer,
            spared=spared,
        )


def probe(job: Job) -> str:
    """Write a file to the server, and remove it again; the server's address.

    Raises:
        EncvaultError: it cannot be reached, or nothing may be written there.
    """
    name = durable.temporary_name(new_id())
    with Server.reach(job.destination or "") as server, tempfile.TemporaryFile() as file:
        file.write(b"encvault")
        file.flush()
        server.put(Cargo.of(file.fileno()), name, resume=False, sent=lambda _size: None)
        server.remove(name, was_sent=True)
        return server.place


class Outbox:
    """The archives of a job on their way to a server; a context, connected until it is left.

    Args:
        job: whose.
        folder: of its records.
        earlier: the last run that made an archive.
        observer: is told what happens.

    Attributes:
        shelf: where archives are made.

    Raises:
        EncvaultError: the server cannot be reached, or has none of the archives that were there.
    """

    def __init__(self, job: Job, folder: str, earlier: Outcome | None, observer: Observer) -> None:
        self._job = job
        self._observer = observer
        path = os.path.join(folder, _ARCHIVES)
        Tree.made(path).close()
        with contextlib.ExitStack() as stack:
            self._server = stack.enter_context(Server.reach(job.destination or ""))
            self._known = stack.enter_context(CarriedLedger(folder, self._server.place, "archive"))
            self.shelf = stack.enter_context(Shelf(job.name, path))
            made = earlier.archive if earlier is not None else ""
            if made.startswith(self._server.show("")) and not self.there():
                reason = _("the archives that were there are gone")
                raise absent(job, self._server.place, reason)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def there(self) -> list[str]:
        """Names of the archives on the server, the oldest first."""
        found = list_files(self._server, f"{self._job.name}-", self._known)
        return archives_in(self._job.name, [one.path for one in found])

    def send(self) -> Iterator[str]:
        """Send what is complete here, the oldest first, and keep it no longer; the addresses.

        What a run before this one could not send, or sent in part, goes first.

        Raises:
            EncvaultError: see `carry_file`.
        """
        for name in self.shelf.complete():
            carry_file(self._server, self.shelf.tree, name, self._known, self._observer)
            calls.unlink(self.shelf.tree.fd, name)
            self.shelf.tree.sync_names([""])
            yield self._server.show(name)

    def check(self, boundary: Callable[[], None]) -> Iterator[EncvaultError | None]:
        """Look at the archives that are there, as the job says: for each what is wrong, or None."""
        most = {"none": 0, "sample": _FEW, "full": None}[self._job.verify]
        for name in [] if most == 0 else self.there()[-(most or 0) :]:
            boundary()
            try:
                check_file(self._server, name, self._known)
            except EncvaultError as error:
                yield error
            else:
                yield None

    def drop_old(self, ours: Collection[str]) -> Iterator[str]:
        """Remove what is too much there, and incomplete archives here; the names.

        Only after a complete one was sent.

        Args:
            ours: names of what this job has made.
        """
        for name in self.there()[: -self._job.keep]:
            remove_file(self._server, name, self._known)
            yield name
        yield from self.shelf.drop_old(self._job.keep, ours)
