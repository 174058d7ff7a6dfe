"""Carrying sealed files to a server: what is sent, what is read back, what is removed.

The order keeps what is on the server openable at every moment, also for who replaces the keys of
a vault: first its record, which opens all that an older record opened; then the data keys, which
need that record; then the files, which need those keys; and only when all of that is there, what
the spool no longer has is removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from encvault.errors import CopyChanged
from encvault.fs import durable
from encvault.jobs.remote.carrier import Carrier, CarryReport

if TYPE_CHECKING:
    from collections.abc import Collection

    from encvault.fs.tree import Tree
    from encvault.jobs.remote.carried import CarriedLedger
    from encvault.jobs.remote.server import Server, There
    from encvault.vault.report import Observer

Verify = Literal["none", "sample", "full"]

_SHARES = {"none": 0.0, "sample": 0.05, "full": 1.0}


def carry_tree(
    server: Server,
    tree: Tree,
    *,
    delete: bool,
    verify: Verify,
    known: CarriedLedger,
    observer: Observer,
    spared: Collection[str] = (),
) -> CarryReport:
    """Make what is on the server equal to a sealed mirror.

    Whatever ends it, the next call goes on from there.

    Args:
        server: where to.
        tree: the spool: a vault in which nobody works meanwhile.
        delete: whether to remove what was carried once and is no longer in the spool. Without it
            a vault of the hidden layout has more than one version of its files there.
        verify: how much of what lies there already to read back and compare.
        known: what was carried before; of this server's place.
        observer: is told of progress, steps and problems.
        spared: paths in the spool of what is damaged or gone there, and not on purpose: what the
            server has of it stays.

    Returns:
        Counts, and the problems of single files, for which nothing was removed.

    Raises:
        OtherVaultThere: nothing was changed.
        RemoteFailed: the server is of no use any more.
        JobRecordsUnusable: what was carried cannot be remembered.
    """
    report = CarryReport()
    carrier = Carrier(server, tree, known, observer, report, spared)
    known.look_at(server.files())
    carrier.find_vault()
    for stage in (carrier.records(), carrier.keys(), carrier.files()):
        if not carrier.carry(stage):
            return report  # what comes next could not be opened without
    carrier.verify(_SHARES[verify])
    if not report.problems:
        known.end_adopting()
        if delete:
            carrier.remove_unmet()
    return report


def carry_file(
    server: Server, tree: Tree, name: str, known: CarriedLedger, observer: Observer
) -> CarryReport:
    """Put one file at the top of a folder onto the server, under the same name.

    Raises:
        ForeignCopy: another file has that name there.
        CopyChanged: it was carried before, and is not there as it was.
        RemoteFailed: it could not be sent.
        StorageError: it cannot be read.
        JobRecordsUnusable: what was carried cannot be remembered.
    """
    report = CarryReport()
    carrier = Carrier(server, tree, known, observer, report)
    known.look_at(server.files(name))
    try:
        status = tree.status(name)
    except OSError as error:
        raise durable.storage_error(error, tree.show(name)) from None
    carrier.carry([(name, status)])
    for problem in report.problems:
        raise problem
    return report


def list_files(server: Server, prefix: str, known: CarriedLedger) -> list[There]:
    """The files on the server that were carried from here, by name.

    Args:
        server: where.
        prefix: which their names begin with.
        known: what was carried.
    """
    known.look_at(server.files(prefix))
    return known.ours()


def check_file(server: Server, name: str, known: CarriedLedger) -> None:
    """Read back a file that was carried from here, and compare it with what was sent.

    Raises:
        CopyChanged: it is another, or gone.
        RemoteFailed: it cannot be read.
    """
    row, found = known.carried(name), server.digest(name)
    if row is None or found is None or found[0] != row.digest:
        raise CopyChanged(path=server.show(name))


def remove_file(server: Server, name: str, known: CarriedLedger) -> None:
    """Remove a file that was carried from here; nothing happens to any other.

    Raises:
        RemoteFailed: it may still be there.
    """
    if (row := known.carried(name)) is not None:
        server.remove(name, was_sent=row.was_sent)
        known.forget([name])
