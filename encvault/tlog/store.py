"""The files of a log: append, recover, mend. docs/log-format.md sections 1, 6 and 7.

``entries`` and ``checkpoints`` are the truth. What was signed is never touched again; what a crash
leaves behind it is moved out of the way, whole, and told. All else is derived and may be lost.

Every method wants the log's lock to be held; reading without it is `encvault.tlog.reading`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.encoding import decode_base64, encode_base64
from encvault.errors import EncvaultError, LogDamaged
from encvault.fs import calls, durable
from encvault.i18n import N_, _
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.merkle import Frontier, leaf_hashes
from encvault.tlog.notes import MAX_NOTE_SIZE, Note
from encvault.tlog.reading import CHECKPOINT, CHECKPOINTS, ENTRIES, iter_blocks, last_note
from encvault.tlog.tiles import Tiles

if TYPE_CHECKING:
    from encvault.fs.tree import Tree

STATE = "state"
MAX_BATCH = 100_000  # entries under one checkpoint

_MAX_STATE_SIZE = 1 << 20
_VERSION = 1

Memo = dict[str, Any]
"""What a log's owner knows from its entries, as JSON."""

Fold = Callable[[Memo, bytes], None]
"""Brings a memo up to date with one more entry; raises ValueError if the line is none."""


class Batch(NamedTuple):
    """Entries and the checkpoint after them.

    Attributes:
        entries: lines without line feeds, at most `MAX_BATCH`.
        sign: gives the note of a checkpoint's text.
    """

    entries: Sequence[bytes]
    sign: Callable[[str], Note]


@dataclass(frozen=True, slots=True)
class Torn:
    """What a crash had left, and where it is now.

    Attributes:
        file: its new name in the log's folder.
        size: bytes.
        count: whole lines among them.
    """

    file: str
    size: int
    count: int


class _State(NamedTuple):
    """Where a log ends.

    Attributes:
        frontier: of the entries under the last checkpoint.
        entries_end: bytes of them.
        note_start, notes_end: where the last checkpoint is.
        memo: see `Memo`.
    """

    frontier: Frontier
    entries_end: int
    note_start: int
    notes_end: int
    memo: Memo

    def encode(self) -> bytes:
        return json.dumps(
            {
                "v": _VERSION,
                "size": self.frontier.size,
                "frontier": [encode_base64(one) for one in self.frontier.hashes],
                "entries_end": self.entries_end,
                "note_start": self.note_start,
                "notes_end": self.notes_end,
                "memo": self.memo,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> _State:
        """What `encode` made; ValueError, KeyError or TypeError if it is something else."""
        value = json.loads(data)
        numbers = ("size", "entries_end", "note_start", "notes_end")
        if value["v"] != _VERSION or any(type(value[name]) is not int for name in numbers):
            raise ValueError(value["v"])
        hashes = tuple(decode_base64(one) for one in value["frontier"])
        return cls(
            Frontier(value["size"], hashes),
            value["entries_end"],
            value["note_start"],
            value["notes_end"],
            dict(value["memo"]),
        )


_EMPTY = _State(Frontier(), 0, 0, 0, {})


class Store:
    """A log's files.

    Args:
        tree: the log's folder.
        origin: of its checkpoints.
        fold: keeps the memo.
    """

    def __init__(self, tree: Tree, origin: str, fold: Fold) -> None:
        self._tree = tree
        self._origin = origin
        self._fold = fold
        self._tiles = Tiles(tree)
        self._state = _EMPTY

    @property
    def size(self) -> int:
        """Entries under the last checkpoint."""
        return self._state.frontier.size

    @property
    def notes_end(self) -> int:
        """Bytes of all checkpoints."""
        return self._state.notes_end

    @property
    def memo(self) -> Memo:
        """What is known from the entries; change a copy and give it to `append`."""
        return dict(self._state.memo)

    @property
    def checkpoint(self) -> bytes:
        """The note of the last checkpoint; there must be one."""
        state = self._state
        return self._read_range(CHECKPOINTS, state.note_start, state.notes_end)[:-1]

    # -- recover ----------------------------------------------------------------------------

    def catch_up(self) -> list[Torn]:
        """Come to know what other processes wrote, and move away what a crash left.

        Returns:
            What was moved away; it is to be recorded.

        Raises:
            LogDamaged: what was signed is not there.
            OSError: it cannot be read, or moved.
        """
        entries_size, notes_size = self._size_of(ENTRIES), self._size_of(CHECKPOINTS)
        self._state = self._load_state(entries_size, notes_size) or _EMPTY
        if self._state.notes_end < notes_size or self._state is _EMPTY:
            self._replay(entries_size)
        if self._state.entries_end < entries_size or self._state.notes_end < notes_size:
            # something would be moved away: not on the word of a derived file
            self._state = _EMPTY
            self._replay(entries_size)
        self._check_latest()
        state = self._state
        moved = [
            self._move_tail(name, end)
            for name, end, size in (
                (ENTRIES, state.entries_end, entries_size),
                (CHECKPOINTS, state.notes_end, notes_size),
            )
            if end < size
        ]
        return [torn for torn in moved if torn is not None]

    def _load_state(self, entries_size: int, notes_size: int) -> _State | None:
        """The derived state, if the last checkpoint that it knows says the same."""
        try:
            state = _State.decode(durable.read_file(self._tree, STATE, _MAX_STATE_SIZE))
            if state.entries_end > entries_size or state.notes_end > notes_size:
                return None
            note = self._read_range(CHECKPOINTS, state.note_start, state.notes_end)
            checkpoint = self._checkpoint_of(note[:-1])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, EncvaultError):
            return None
        known = (state.frontier.size, state.frontier.root)
        return state if (checkpoint.size, checkpoint.root) == known else None

    def _checkpoint_of(self, data: bytes) -> Checkpoint:
        note = Note.decode(data, CHECKPOINTS)
        checkpoint = Checkpoint.decode(note.text, CHECKPOINTS)
        if checkpoint.origin != self._origin:
            raise self._damaged(N_("a checkpoint is of another log"))
        return checkpoint

    def _replay(self, entries_size: int) -> None:
        """Read what is not known yet, as far as it is signed."""
        fd = calls.open_read(self._tree.fd, CHECKPOINTS)
        try:
            found = last_note(fd, self._state.notes_end)
        finally:
            os.close(fd)
        if found is None:
            return
        start, note = found
        try:
            checkpoint = self._checkpoint_of(note)
        except LogDamaged:
            raise
        except EncvaultError as error:
            raise self._damaged(str(error)) from None
        self._read_entries(checkpoint, entries_size)
        self._state = self._state._replace(note_start=start, notes_end=start + len(note) + 1)

    def _read_entries(self, checkpoint: Checkpoint, entries_size: int) -> None:
        state = self._state
        if checkpoint.size < state.frontier.size:
            raise self._damaged(N_("a checkpoint is smaller than the one before it"))
        frontier, end, memo = state.frontier, state.entries_end, dict(state.memo)
        fd = calls.open_read(self._tree.fd, ENTRIES)
        try:
            for block in iter_blocks(fd, end, entries_size):
                lines = block[: checkpoint.size - frontier.size]
                try:
                    for line in lines:
                        self._fold(memo, line)
                except ValueError:
                    raise self._damaged(N_("an entry that was signed is none")) from None
                leaves = leaf_hashes(lines)
                self._derive(frontier.size, end, lines, leaves)
                frontier = frontier.extended(leaves)
                end += sum(map(len, lines)) + len(lines)
                if frontier.size == checkpoint.size:
                    break
        finally:
            os.close(fd)
        if frontier.size < checkpoint.size:
            raise self._damaged(N_("entries that were signed are missing"))
        if frontier.root != checkpoint.root:
            raise self._damaged(N_("entries were changed after they were signed"))
        self._state = state._replace(frontier=frontier, entries_end=end, memo=memo)

    def _check_latest(self) -> None:
        """Refuse to go on below the latest checkpoint: it may have been given to somebody."""
        try:
            data = durable.read_file(self._tree, CHECKPOINT, MAX_NOTE_SIZE)
            latest = self._checkpoint_of(data)
        except (OSError, EncvaultError):
            return  # a crash may have torn it; the next checkpoint replaces it
        if latest.size > self.size:
            raise self._damaged(N_("the latest checkpoint has more entries than there are"))

    def _move_tail(self, name: str, end: int) -> Torn | None:
        """Move the bytes after what is signed into a file of their own."""
        source = calls.open_update(self._tree.fd, name)
        try:
            data = bytearray(os.fstat(source).st_size - end)
            calls.read_at(source, memoryview(data), end)
            # the same bytes get the same name, whenever a run that moves them is killed
            file = f"torn-{name}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
            durable.write_file(
                self._tree,
                "",
                file,
                data,
                file_id=durable.stable_id(file),
                mode=0o600,
                replace=True,
            )
            calls.truncate(source, end)
            calls.fsync(source)
        finally:
            os.close(source)
        return Torn(file, len(data), data.count(b"\n"))

    def torn(self, named: Collection[str]) -> list[Torn]:
        """What was moved away, by this run or one before, and is not among those named.

        Raises:
            OSError: it cannot be read.
        """
        found = []
        for file in sorted(os.listdir(self._tree.fd)):
            if file.startswith("torn-") and file.endswith(".bin") and file not in named:
                fd = calls.open_read(self._tree.fd, file)
                try:
                    size = os.fstat(fd).st_size
                    count = sum(map(len, iter_blocks(fd, 0, size)))
                finally:
                    os.close(fd)
                found.append(Torn(file, size, count))
        return found

    def ends_with(self, line: bytes) -> bool:
        """Whether the last entry is this line, its line feed included.

        Raises:
            OSError: it cannot be read.
        """
        start = self._state.entries_end - len(line)
        fd = calls.open_read(self._tree.fd, ENTRIES)
        try:
            return start >= 0 and os.pread(fd, len(line), start) == line
        finally:
            os.close(fd)

    # -- append -----------------------------------------------------------------------------

    def append(self, batches: Sequence[Batch], memo: Memo) -> list[int]:
        """Add entries; durable and signed on return. Only after `catch_up`.

        Args:
            batches: each ends with its own checkpoint.
            memo: what is known after them.

        Returns:
            Where the checkpoint of each batch begins in ``checkpoints``.

        Raises:
            OSError: nothing was added.
        """
        state = self._state
        frontier = state.frontier
        lines = [line for batch in batches for line in batch.entries]
        leaves: list[bytes] = []
        notes: list[bytes] = []
        for batch in batches:
            added = leaf_hashes(batch.entries)
            frontier = frontier.extended(added)
            leaves += added
            text = Checkpoint(self._origin, frontier.size, frontier.root).text
            notes.append(batch.sign(text).encode())
        data = b"\n".join([*lines, b""])
        signed = b"\n".join([*notes, b""])
        self._write_both(data, signed)
        starts, at = [], state.notes_end
        for note in notes:
            starts.append(at)
            at += len(note) + 1
        self._state = _State(frontier, state.entries_end + len(data), starts[-1], at, memo)
        self._publish(notes[-1], state, lines, leaves)
        return starts

    def _write_both(self, data: bytes, signed: bytes) -> None:
        state = self._state
        with contextlib.ExitStack() as stack:
            entries = calls.open_update(self._tree.fd, ENTRIES)
            stack.callback(os.close, entries)
            notes = calls.open_update(self._tree.fd, CHECKPOINTS)
            stack.callback(os.close, notes)
            try:
                calls.write_at(entries, data, state.entries_end)
                calls.fsync(entries)
                calls.write_at(notes, signed, state.notes_end)
                calls.fsync(notes)
            except BaseException:
                # what was not acknowledged must not look as if it had been
                for fd, end in ((notes, state.notes_end), (entries, state.entries_end)):
                    with contextlib.suppress(OSError):
                        calls.truncate(fd, end)
                raise

    def _publish(
        self, note: bytes, before: _State, lines: Sequence[bytes], leaves: Sequence[bytes]
    ) -> None:
        """Write what is derived; the entries are recorded, whatever becomes of it."""
        with contextlib.suppress(OSError):
            self._overwrite(CHECKPOINT, note)
            self._derive(before.frontier.size, before.entries_end, lines, leaves)
            self._overwrite(STATE, self._state.encode())

    def _derive(
        self, size: int, start: int, lines: Sequence[bytes], leaves: Sequence[bytes]
    ) -> None:
        with contextlib.suppress(OSError):  # whoever needs a tile and finds none makes them anew
            self._tiles.extend(size, leaves)
            self._tiles.note_offsets(size, start, [len(line) + 1 for line in lines])

    def _overwrite(self, name: str, data: bytes) -> None:
        """Write what is derived where it stands; to rename a new file costs more than a sync."""
        fd = calls.open_update(self._tree.fd, name)
        try:
            calls.write_at(fd, data, 0)
            calls.truncate(fd, len(data))
        finally:
            os.close(fd)

    # -- mend -------------------------------------------------------------------------------

    def fsck(self) -> None:
        """Check the entries against the last checkpoint, and make all that is derived anew.

        Raises:
            LogDamaged: the entries are not what was signed.
            OSError: they cannot be read.
        """
        self._state = _EMPTY
        self._replay(self._size_of(ENTRIES))
        self._check_latest()
        self._overwrite(STATE, self._state.encode())

    def _size_of(self, name: str) -> int:
        return self._tree.status(name).st_size

    def _read_range(self, name: str, start: int, end: int) -> bytes:
        if not 0 < end - start <= MAX_NOTE_SIZE + 1:
            raise ValueError(name)
        fd = calls.open_read(self._tree.fd, name)
        try:
            data = bytearray(end - start)
            calls.read_at(fd, memoryview(data), start)
        finally:
            os.close(fd)
        return bytes(data)

    def _damaged(self, reason: str) -> LogDamaged:
        return LogDamaged(path=self._tree.path, reason=_(reason))
