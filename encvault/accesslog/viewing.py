"""Read the entries of a log, and only what is proved. docs/log-format.md section 8.

An entry cannot be hidden from a filtered view and stay in the log (systemd, CVE-2023-31437): there
is no index that a view is made from. Whatever is asked for, every line is read, hashed and held
against the grammar of entries, and the filter sees the very bytes that were hashed. If they do
not make the signed root, the view ends with an error.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.epochs import POLICY, Epochs
from encvault.accesslog.events import Entry, facts_of
from encvault.accesslog.filters import Filter
from encvault.errors import EncvaultError, LogTampered, LogUnverifiable, NoAccessLog
from encvault.fs import calls
from encvault.fs.durable import read_file
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.merkle import Frontier, leaf_hashes
from encvault.tlog.notes import Note
from encvault.tlog.policies import MAX_POLICY_SIZE, Policy
from encvault.tlog.reading import CHECKPOINTS, ENTRIES, iter_blocks, last_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.accesslog.audit import Audit

_ALL = Filter()


class View(NamedTuple):
    """What the entries of a view are proved by.

    Attributes:
        origin: of the log.
        size: entries under its last checkpoint, those that were not asked for included.
        checkpoint: the note over them, as text; "" if there is none.
    """

    origin: str
    size: int
    checkpoint: str


def entries(path: str, audit: Audit, wanted: Filter = _ALL) -> Iterator[Entry]:
    """The entries that a check has proved.

    Args:
        path: the log's folder.
        audit: of that log.
        wanted: those to give.

    Yields:
        entries in their order.

    Raises:
        LogTampered: the log was changed since it was checked; what was given before may not be
            what was checked.
        OSError: it cannot be read.
    """
    if audit.size:
        checkpoint = Checkpoint.decode(audit.checkpoint.partition("\n\n")[0] + "\n", CHECKPOINTS)
        yield from _proved(path, checkpoint, wanted, _Position())


def view(path: str, wanted: Filter = _ALL) -> tuple[View, Iterator[Entry]]:
    """The entries under the last checkpoint.

    This is less than a check: whether the keys, the days and the older checkpoints are right is
    not looked at, and the policy is the log's own.

    Args:
        path: the log's folder.
        wanted: the entries to give.

    Returns:
        what proves the entries, and the entries in their order, of which reading raises as that
        of `entries` does.

    Raises:
        NoAccessLog: there is none.
        LogUnverifiable: it cannot be read, or has no policy.
        LogTampered: the last checkpoint is not signed with a key of the log.
    """
    epochs, note = _read(path)
    if note is None:
        return View(epochs.calendar.origin, 0, ""), iter(())
    checkpoint = _signed(path, note, epochs)
    shown = View(checkpoint.origin, checkpoint.size, note.decode())
    return shown, _proved(path, checkpoint, wanted, _Position())


def follow(path: str, wanted: Filter, pause: Callable[[], None]) -> Iterator[Entry]:
    """The entries under the last checkpoint, and then those that are added; it does not end.

    Args:
        path: the log's folder.
        wanted: the entries to give.
        pause: is called whenever all were given, before it is looked for more.

    Yields:
        entries in their order.

    Raises:
        NoAccessLog, LogUnverifiable: see `view`.
        LogTampered: it is not what was signed, or does not continue what was given.
    """
    position = _Position()
    while True:
        epochs, note = _read(path)
        if note is not None:
            checkpoint = _signed(path, note, epochs)
            if checkpoint.size != position.frontier.size:
                yield from _proved(path, checkpoint, wanted, position)
        pause()


@dataclass(slots=True)
class _Position:
    """How far a log was read: the tree over it, and bytes of its entries."""

    frontier: Frontier = field(default_factory=Frontier)
    end: int = 0


def _read(path: str) -> tuple[Epochs, bytes | None]:
    """The keys of a log, and its last checkpoint."""
    try:
        with Tree(path) as tree:
            return _epochs(tree), _last_note(tree)
    except (FileNotFoundError, NotADirectoryError):
        raise NoAccessLog(path=path) from None
    except OSError as error:
        raise LogUnverifiable(path=path, reason=system_reason(error)) from None


def _signed(path: str, note: bytes, epochs: Epochs) -> Checkpoint:
    try:
        decoded = Note.decode(note, CHECKPOINTS)
        checkpoint = Checkpoint.decode(decoded.text, CHECKPOINTS)
        epochs.policy.log_key(decoded, CHECKPOINTS)
    except EncvaultError:
        raise LogTampered(path=path) from None
    return checkpoint


def _epochs(tree: Tree) -> Epochs:
    try:
        return Epochs.of(Policy.decode(read_file(tree, POLICY, MAX_POLICY_SIZE), POLICY))
    except EncvaultError as error:
        raise LogUnverifiable(path=tree.path, reason=str(error)) from None
    except ValueError:
        reason = _("{place}: a policy, but not the keys of the days of a log").format(place=POLICY)
        raise LogUnverifiable(path=tree.path, reason=reason) from None


def _last_note(tree: Tree) -> bytes | None:
    fd = calls.open_read(tree.fd, CHECKPOINTS)
    try:
        found = last_note(fd, 0)
    finally:
        os.close(fd)
    return found and found[1]


def _proved(
    path: str, checkpoint: Checkpoint, wanted: Filter, position: _Position
) -> Iterator[Entry]:
    """The wanted ones of the entries under a checkpoint, from a position on, which moves there.

    Raises:
        LogTampered: after the last one, if they are not what the checkpoint says.
    """
    frontier, end = position.frontier, position.end
    for lines in _lines(path, end, checkpoint.size - frontier.size):
        for index, line in enumerate(lines, frontier.size):
            try:
                if wanted.may_match(line, facts_of(line)):
                    entry = Entry(index, json.loads(line))
                    if wanted.matches(entry):
                        yield entry
            except ValueError:
                raise LogTampered(path=path) from None
        frontier = frontier.extended(leaf_hashes(lines))
        end += sum(map(len, lines)) + len(lines)
    if (frontier.size, frontier.root) != (checkpoint.size, checkpoint.root):
        raise LogTampered(path=path)
    position.frontier, position.end = frontier, end


def _lines(path: str, start: int, count: int) -> Iterator[list[bytes]]:
    """So many lines of the entries from a place on, in lists; fewer if there are no more."""
    try:
        with Tree(path) as tree, contextlib.ExitStack() as stack:
            fd = calls.open_read(tree.fd, ENTRIES)
            stack.callback(os.close, fd)
            for block in iter_blocks(fd, start, os.fstat(fd).st_size):
                lines = block[: max(0, count)]
                yield lines
                count -= len(lines)
                if count <= 0:
                    return
    except OSError as error:
        raise LogUnverifiable(path=path, reason=system_reason(error)) from None
