"""What has no room on a nearly full disk waits until other files of the same run have made some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.errors import OutOfSpace

Task = TypeVar("Task")


class Crowded(Generic[Task]):
    """Tasks of a run in place for which there was no room yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Task, OutOfSpace]] = []

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
        """Try them again as long as any of them gets done.

        Args:
            attempt: tries some and gives how many of them are done; what has no room is added
                again. One worker is enough: two would take each other's room.
            fail: is told of those that have no room at all.
        """
        while self._waiting:
            tasks, self._waiting = [task for task, _error in self._waiting], []
            if not attempt(tasks):
                for task, error in self._waiting:
                    fail(task, error)
                self._waiting = []
