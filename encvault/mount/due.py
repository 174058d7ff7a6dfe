"""When what was changed is to be saved, and the thread that sees to it."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.mount.nodes import Node

SOON = 0.1  # seconds in which files that are closed one after the other become one batch
LARGE = 0.3  # seconds in which a large new file may get its last name
_LONGEST = 2.0  # seconds; a file that is written to again and again is saved all the same
LATER = 1.0  # seconds, for what only costs time if it comes too early
_RETRY = 5.0  # seconds after which something that failed is tried again, twice as many each time
_LONGEST_RETRY = 60.0
BATCH_NODES = 512  # each may have a file open


class Due:
    """Nodes and their times; several threads may call it.

    There is no thread before it has something to do, so the process may fork before that.

    Args:
        save: saves nodes and what else waits; of what it fails at, it calls `put_off`. An empty
            list is for what else waits.
    """

    def __init__(self, save: Callable[[list[Node]], None]) -> None:
        self._save = save
        self._wake = threading.Condition()
        self._times: dict[Node, float] = {}  # by the monotonic clock
        self._latest: dict[Node, float] = {}  # likewise: until when it may be put off
        self._taken: dict[Node, float] = {}  # what is being saved, and when it was due
        self._late: set[Node] = set()  # of those that are being saved: it was put off until then
        self._waits: dict[Node, float] = {}  # seconds after the next try that fails
        self._rest_at = 0.0  # when to save what else waits; 0 is never
        self._thread: threading.Thread | None = None
        self._sleeps_until = 0.0  # 0 while the thread is awake
        self._is_over = False

    def __len__(self) -> int:
        return len(self._times)

    def nodes(self) -> list[Node]:
        """All of them, whenever they are due."""
        with self._wake:
            return list(self._times)

    def put(self, node: Node, seconds: float = SOON) -> None:
        """Save a node in so many seconds, whatever was said before, but not for ever later."""
        with self._wake:
            now = time.monotonic()
            latest = self._latest.setdefault(node, now + max(seconds, _LONGEST))
            self._times[node] = at = min(now + seconds, latest)
            self._begin(at)

    def put_last(self, node: Node) -> None:
        """Put a node off as long as it may be."""
        with self._wake:
            latest = self._latest.setdefault(node, time.monotonic() + _LONGEST)
            self._times[node] = latest
            self._begin(latest)

    def put_overdue(self, node: Node) -> None:
        """Save a node soon that was put off as long as it may be, and put it off no more."""
        with self._wake:
            latest = time.monotonic() + SOON
            self._latest[node] = min(latest, self._latest.get(node, latest))
            self.put(node)

    def is_late(self, node: Node) -> bool:
        """Whether a node that is to be saved now was put off as long as it may be."""
        return node in self._late

    def put_later(self, node: Node) -> None:
        """Save a node when there is time, or when it was due already."""
        with self._wake:
            # what is being saved is due no more, whatever becomes of it
            if self._times.get(node) == self._taken.get(node):
                self.put(node, LATER)

    def put_off(self, node: Node) -> None:
        """Try again with a node that could not be saved, unless that is to be anyway."""
        with self._wake:
            if self._times.get(node, 0.0) > time.monotonic() + SOON:
                return  # several may say so of one try
            self._latest.pop(node, None)
            # a try may take as much room as the file, where the names of the last ones are in doubt
            wait = self._waits.get(node, _RETRY)
            self._waits[node] = min(2 * wait, _LONGEST_RETRY)
            self.put(node, wait)

    def drop(self, node: Node) -> None:
        """A node is saved, or gone."""
        with self._wake:
            self._times.pop(node, None)
            self._latest.pop(node, None)
            self._waits.pop(node, None)

    def put_rest(self) -> None:
        """Something else waits to be saved."""
        with self._wake:
            self._rest_at = self._rest_at or time.monotonic() + LATER
            self._begin(self._rest_at)

    def drop_rest(self) -> None:
        """Nothing else waits any more."""
        with self._wake:
            self._rest_at = 0.0

    def close(self) -> None:
        """Stop the thread; what is due stays."""
        self._is_over = True
        with self._wake:
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _begin(self, at: float) -> None:
        """See that the thread is awake at a time.

        To wake it each time a file is closed would cost more than all the rest of closing it.
        """
        if self._thread is None and not self._is_over:
            thread = threading.Thread(target=self._run, name="saver", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more now; the next who puts something asks
                return
            self._thread = thread
        if at < self._sleeps_until:
            self._sleeps_until = at
            self._wake.notify()

    def _due_at(self, now: float) -> list[Node]:
        """What is to be saved now: with what is due, all that will be in a moment."""
        times = self._times.items()
        if not any(at <= now for _node, at in times):
            return []
        return [node for node, at in times if at <= now + SOON][:BATCH_NODES]

    def _run(self) -> None:
        while True:
            with self._wake:
                now = time.monotonic()
                due = self._due_at(now)
                if self._is_over:
                    return
                if not due and not (0 < self._rest_at <= now):
                    times = [*self._times.values(), *([self._rest_at] if self._rest_at else ())]
                    self._sleeps_until = min(times, default=math.inf)
                    self._wake.wait(max(0.0, self._sleeps_until - now) if times else None)
                    self._sleeps_until = 0.0
                    continue
                self._taken = {node: self._times[node] for node in due}
                self._late = {node for node in due if self._latest.get(node, now) <= now + SOON}
                for node in self._late:  # what is put meanwhile waits anew, and is not dropped
                    self._latest.pop(node, None)
            try:
                self._save(due)
            except Exception:  # noqa: BLE001 - a bug, which must not keep all others from being saved
                with self._wake:
                    for node in due:
                        self.put_off(node)
                    self._rest_at = self._rest_at and time.monotonic() + LATER
            with self._wake:  # not before: who syncs meanwhile has to see them
                taken, self._taken = self._taken, {}
                for node, at in taken.items():
                    if self._times.get(node) == at:
                        del self._times[node]
                    if node not in self._times:
                        self._latest.pop(node, None)
