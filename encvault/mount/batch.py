"""What goes into the vault together, and is told before it does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.mount.nodes import Access, FileNode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.mount.due import Due
    from encvault.mount.nodes import Node, Source
    from encvault.mount.observer import MountObserver, SavedEvent
    from encvault.mount.sealing import Prepared


@dataclass(slots=True)
class Ready:
    """A prepared node, on its way into the vault.

    Attributes:
        node, prepared: which, and its copy.
        older: sealed files that go when this one has its place for good.
        writer: who wrote it, once that is told.
    """

    node: Node
    prepared: Prepared
    older: list[Source] = field(default_factory=list)
    writer: object = None


class Events:
    """What took effect at once, and waits to be recorded with the next batch.

    Args:
        due: sees that there is a next batch.
        observer: is told.
    """

    def __init__(self, due: Due, observer: MountObserver) -> None:
        self._due = due
        self._observer = observer
        self._events: list[SavedEvent] = []
        self._lock = threading.Lock()

    def add(self, event: SavedEvent) -> None:
        """Something took effect."""
        with self._lock:
            self._events.append(event)
        self._due.put_rest()

    def tell(self, batch: Iterable[Ready]) -> None:
        """The access log comes before what it tells of: this batch, and what waits."""
        self._due.drop_rest()  # before: what is told from here on has the thread woken again
        with self._lock:
            events, self._events = self._events, []
        for one in batch:
            node = one.node
            if isinstance(node, FileNode) and node.writer is not None:
                access = Access(node.path, one.prepared.ids[0], one.prepared.size)
                events.append(("write", access, node.writer, ""))
                one.writer, node.writer = node.writer, None
        if events:
            self._observer.saving(events)
