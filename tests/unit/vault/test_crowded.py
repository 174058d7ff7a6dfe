"""What has no room waits for room."""

from __future__ import annotations

import pytest

from encvault.errors import OutOfSpace
from encvault.vault.crowded import Crowded

_ERROR = OutOfSpace(path="there")


class _Disk:
    """Seals in place: what is sealed takes as much room as its original gives back."""

    def __init__(self, room: int, *, at_once: int = 512) -> None:
        self.room = room
        self.at_once = at_once  # how many are written before the first originals go
        self.crowded: Crowded[int] = Crowded()
        self.done: list[int] = []
        self.failed: list[int] = []
        self.tries = 0

    def attempt(self, sizes: list[int]) -> int:
        before = len(self.done)
        self.tries += len(sizes)
        for begin in range(0, len(sizes), self.at_once):
            left = self.room
            for size in sizes[begin : begin + self.at_once]:
                if size <= left:
                    left -= size
                    self.done.append(size)
                else:
                    self.crowded.add(size, _ERROR)
        return len(self.done) - before

    def run(self, sizes: list[int]) -> None:
        for size in sizes:
            self.crowded.add(size, _ERROR)
        self.crowded.retry(self.attempt, lambda size, _error: self.failed.append(size))


def test_each_that_fits_by_itself_gets_done() -> None:
    disk = _Disk(room=10)
    disk.run([*range(1, 13)] * 30)
    assert sorted(disk.done) == sorted([*range(1, 11)] * 30)
    assert sorted(disk.failed) == [11] * 30 + [12] * 30


@pytest.mark.parametrize("room", [1, 7, 100])
def test_little_room_for_many_does_not_mean_that_all_are_tried_for_each(room: int) -> None:
    disk = _Disk(room)
    disk.run([1] * 20_000)
    assert (len(disk.done), disk.failed) == (20_000, [])
    assert disk.tries < 25 * 20_000  # all of them, over and over, would be 512 / room times


def test_without_any_room_each_is_tried_once() -> None:
    disk = _Disk(room=0)
    disk.run([1] * 5000)
    assert (disk.done, disk.failed, disk.tries) == ([], [1] * 5000, 5000)


def test_nothing_waits() -> None:
    disk = _Disk(room=1)
    disk.run([])
    assert (disk.done, disk.failed, disk.tries) == ([], [], 0)
