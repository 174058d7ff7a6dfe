"""What has no room on a nearly full disk waits until other files of the same run have made some."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.errors import OutOfSpace

Task = TypeVar("Task")

_FEWEST = 16  # tasks tried at once


class Crowded(Generic[Task]):
    """Tasks of a run in place for which there was no room yet."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Task, OutOfSpace]] = deque()

    def add(self, task: Task, error: OutOfSpace) -> None:
        """Keep one back.

        Args:
            task: what left nothing behind.
            error: what is told if it never has room.
        """
        self._waiting.append((task, error))

    def retry(
        self, attempt: Callable[[list[Task]], int], fail: Callable[[Task, OutOfSpace], None]
    ) -> None:
        """Try them again until there is no room for any of them.

        Each that gets done makes room for another, and all that are tried with it cost time: so
        about twice as many are tried as got done the last time.

        Args:
            attempt: tries some and gives how many of them are done; what has no room is added
                again. One worker is enough: two would take each other's room.
            fail: is told of those that have no room at all.
        """
        share, idle = len(self._waiting), 0
        while idle < len(self._waiting):
            count = min(share, len(self._waiting))
            tried = [self._waiting.popleft()[0] for _number in range(count)]
            others = len(self._waiting)
            done = attempt(tried)  # which adds those without room at the end
            idle = 0 if done else idle + len(self._waiting) - others
            share = max(2 * done, _FEWEST)
        for task, error in self._waiting:
            fail(task, error)
        self._waiting.clear()
