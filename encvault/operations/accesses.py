"""Who got at which file through a mount, for the access log. docs/log-format.md section 4.1.

Nothing is given out before a durable entry covers it. A process that opens a few files waits for
the entry of each; one that opens many first gets an entry that says that it may read everything
for a while, and its files follow in batches. So a search through a vault costs no sync for each
file, and yet a crash at any moment leaves no byte given out of which the log says nothing.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.accesslog.events import BULK
from encvault.errors import AccessLogError
from encvault.operations.callers import Process, process_of
from encvault.operations.recording import begun_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from encvault.accesslog.log import AccessLog, Recorded
    from encvault.mount.nodes import Access, Caller

    Members = dict[str, str | int]
    Key = tuple[str, Process]
    Saved = tuple[str, Access, object, str]

_FEW = 8  # files that a process may open in a minute, each with an entry that is waited for
_MINUTE_MS = 60_000
_DELAY = 0.9  # seconds that an entry which nobody waits for may wait for others
_MAX_KNOWN = 100_000  # files and processes of which it is remembered that they were recorded
_MAX_READERS = 4_096
_MAX_WAITING = 100_000  # entries; who adds to more waits, whatever covers him


@dataclass(slots=True, eq=False)
class _Turn:
    """What is recorded at once.

    Attributes:
        awaited: of files that are given out when it is durable, and of who may read everything.
        covered: of files that were given out under another entry; they are never lost while
            there is hope.
        saved: of changes that take effect whether or not it is durable.
        since: when the first was added, on the monotonic clock in seconds.
        is_done: whether it was tried.
        error: why it was not recorded.
    """

    awaited: list[tuple[Key | None, Members]] = field(default_factory=list)
    covered: list[tuple[Key, Members]] = field(default_factory=list)
    saved: list[Members] = field(default_factory=list)
    since: float = 0.0
    is_done: bool = False
    error: Exception | None = None

    def __len__(self) -> int:
        return len(self.awaited) + len(self.covered) + len(self.saved)

    def events(self) -> list[Members]:
        return [
            *(members for _key, members in self.awaited),
            *(members for _key, members in self.covered),
            *self.saved,
        ]

    def empty(self) -> None:
        """Forget the events; who remembers the turn only asks how it ended."""
        self.awaited, self.covered, self.saved = [], [], []


@dataclass(slots=True)
class _Reader:
    """What is known of a process.

    Attributes:
        who: the members that say who it is.
        opened_at: of its latest new files, in milliseconds since boot.
        cover: the turn with the entry that it may read everything, or None.
        covered_until: up to when.
    """

    who: Members
    opened_at: deque[int] = field(default_factory=lambda: deque(maxlen=_FEW))
    cover: _Turn | None = None
    covered_until: int = 0

    def is_covered(self, now: int) -> bool:
        """Whether it may read everything, as soon as the entry is durable."""
        return self.cover is not None and self.cover.error is None and now < self.covered_until

    def opens_many(self, now: int) -> bool:
        """Whether one more file would be more than a few in a minute."""
        return len(self.opened_at) == _FEW and now - self.opened_at[0] < _MINUTE_MS


class Accesses:
    """Records what is done to files through one mount; several threads may call it.

    One thread of its own writes the log. It starts with the first event, so the process may fork
    before that.

    Attributes:
        recorded: where something was recorded last, or None.

    Args:
        log: where, or None to record nothing.
        vault_path: the vault's folder.
        vault_id: 26 characters.
        slot_id: of the keyslot that the vault was opened with, or None.
        note: is told what a person should know; once each, from any thread.
    """

    def __init__(
        self,
        log: AccessLog | None,
        vault_path: str,
        vault_id: str,
        slot_id: str | None,
        note: Callable[[str], None],
    ) -> None:
        self.recorded: Recorded | None = None
        self._log = log
        self._top = os.path.realpath(vault_path)
        self._common: Members = {"outcome": "ok", "vault": vault_id}
        if slot_id is not None:
            self._common["slot"] = slot_id
        self._note = note
        self._noted: set[str] = set()
        self._lock = threading.Lock()
        self._due = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._turn = _Turn()
        self._is_awaited = False
        self._is_closing = False
        self._is_failing = False
        self._lost: Exception | None = None
        self._known: OrderedDict[Key, _Turn] = OrderedDict()
        self._readers: OrderedDict[Process, _Reader] = OrderedDict()

    # -- what the view tells ----------------------------------------------------------------

    def opened(self, access: Access, caller: Caller) -> None:
        """A file is about to be given out; covered by a durable entry on return.

        Args:
            access: which.
            caller: to whom.

        Raises:
            AccessLogError: that could not be recorded, and has to be.
        """
        log = self._log
        if log is None:
            return
        process = process_of(caller)
        with self._lock:
            turn = self._turn_of(log, access, process)
            self._wait(log, turn)
        if turn is not None and turn.error is not None and _must_stop(log, turn.error):
            raise copy.copy(turn.error) from turn.error  # others raise it at the same time

    def who(self, caller: Caller) -> object:
        """Who calls, as long as he is there to be asked; None without a log."""
        return None if self._log is None else process_of(caller)

    def saving(self, events: Sequence[Saved]) -> None:
        """Changes are about to take effect; one turn of the log for all of them.

        That they could not be recorded stops nothing, and is raised by `close`.

        Args:
            events: ``write``, ``remove`` or ``rename``; which file; who did it, see `who`, or None;
                and the new path of one that is renamed, relative to the vault, or "".
        """
        log = self._log
        if log is None or not events:
            return
        each: list[Members] = []
        for op, access, process, to in events:
            who = process.members() if isinstance(process, Process) else {}
            members = self._members(op, access, who)
            if to:
                members["to"] = os.path.join(self._top, to)
            each.append(members)
        with self._lock:
            turn = self._open_turn(log)
            turn.saved += each
            self._wait(log, turn)

    def close(self) -> None:
        """Record what waits.

        Raises:
            AccessLogError: not everything could be recorded, now or before, and has to be.
        """
        with self._lock:
            self._is_closing = True
            self._due.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        with self._lock:
            self._is_closing = False
            lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    # -- what covers a file; with the lock ---------------------------------------------------

    def _turn_of(self, log: AccessLog, access: Access, process: Process) -> _Turn | None:
        """The turn that must be done before a file may be given out, or None."""
        if not process.is_known:  # the next one may have its number, and is another
            own = self._open_turn(log)
            own.awaited.append((None, self._members("read", access, process.members())))
            return own
        now = log.clock.up_ms()
        reader = self._reader(process)
        key = (access.file or str(access.ino) if access.ino else access.path, process)
        turn = self._known.get(key)
        if turn is None:
            turn = self._add_read(log, access, key, reader, now)
        if turn.is_done:
            return None
        if reader.cover is None or not reader.is_covered(now) or self._is_failing:
            return turn
        if not reader.cover.is_done:
            return reader.cover
        return turn if len(turn) > _MAX_WAITING else None

    def _add_read(
        self, log: AccessLog, access: Access, key: Key, reader: _Reader, now: int
    ) -> _Turn:
        turn = self._open_turn(log)
        if reader.opens_many(now) and not reader.is_covered(now):
            everything: Members = {"op": "read", "path": self._top, "detail": BULK}
            turn.awaited.append((None, everything | reader.who))
            reader.cover, reader.covered_until = turn, now + _MINUTE_MS
        reader.opened_at.append(now)
        members = self._members("read", access, reader.who)
        if reader.is_covered(now) and not self._is_failing:
            turn.covered.append((key, members))
        else:
            turn.awaited.append((key, members))
        self._known[key] = turn
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return turn

    def _reader(self, process: Process) -> _Reader:
        reader = self._readers.get(process)
        if reader is None:
            reader = self._readers[process] = _Reader(process.members())
            if len(self._readers) > _MAX_READERS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(process)
        return reader

    def _members(self, op: str, access: Access, who: Members) -> Members:
        path = os.path.join(self._top, access.path) if access.path else self._top
        members: Members = {"op": op, "path": path, **who}
        if access.file:
            members["file"] = access.file
        if access.size is not None:
            members["size"] = access.size
        return members

    # -- turns; with the lock ----------------------------------------------------------------

    def _open_turn(self, log: AccessLog) -> _Turn:
        """The turn that is not being recorded yet, to which something is about to be added."""
        if not self._turn:
            self._turn.since = time.monotonic()
            self._due.notify()
        if self._thread is None:
            thread = threading.Thread(
                target=self._write, args=(log,), name="access log", daemon=True
            )
            thread.start()
            self._thread = thread  # not before: who waits for one that never ran waits for ever
        return self._turn

    def _wait(self, log: AccessLog, turn: _Turn | None) -> None:
        if turn is None or (self._is_failing and not log.required):
            return
        if turn is self._turn:
            self._is_awaited = True
            self._due.notify()
        while not turn.is_done:
            self._done.wait()

    def _write(self, log: AccessLog) -> None:
        """What the thread does."""
        while True:
            with self._lock:
                while not self._is_time():
                    left = self._turn.since + _DELAY - time.monotonic() if self._turn else None
                    self._due.wait(left)
                if not self._turn:
                    self._thread = None
                    return
                turn, self._turn, self._is_awaited = self._turn, _Turn(), False
            notes: list[str] = []
            try:
                notes = self._record(log, turn)
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits to be told
                turn.error = error
            with self._lock:
                notes += self._settle(log, turn)
                self._done.notify_all()
            for text in notes:
                self._note(text)

    def _is_time(self) -> bool:
        if not self._turn:
            return self._is_closing
        is_old = time.monotonic() >= self._turn.since + _DELAY
        return is_old or self._is_awaited or self._is_closing

    def _record(self, log: AccessLog, turn: _Turn) -> list[str]:
        """Record a turn, without the lock; what a person should know of it."""
        self.recorded = log.record(turn.events(), **self._common)
        return [begun_text(log.path)] if self.recorded.made else []

    def _settle(self, log: AccessLog, turn: _Turn) -> list[str]:
        """Remember how a turn ended; what a person should know of it."""
        error = turn.error
        self._is_failing = error is not None
        notes: list[str] = []
        if error is not None:
            self._forget(turn)
            if not _must_stop(log, error):
                notes = [str(error)] if str(error) not in self._noted else []
                self._noted.update(notes)
            else:
                if turn.saved or (turn.covered and self._is_closing):
                    self._lost = self._lost or error
                if turn.covered and not self._is_closing:
                    self._try_again(log, turn)
        turn.is_done = True
        turn.empty()
        return notes

    def _forget(self, turn: _Turn) -> None:
        """What was not recorded is recorded when it is opened again."""
        for key, _members in (*turn.awaited, *turn.covered):
            if key is not None and self._known.get(key) is turn:
                del self._known[key]

    def _try_again(self, log: AccessLog, turn: _Turn) -> None:
        """Record what was given out already with the next turn."""
        following = self._open_turn(log)
        following.covered[:0] = turn.covered
        for key, _members in turn.covered:
            self._known.setdefault(key, following)


def _must_stop(log: AccessLog, error: Exception) -> bool:
    """Whether what was not recorded must not happen; a bug is never passed over."""
    return log.required or not isinstance(error, AccessLogError)
