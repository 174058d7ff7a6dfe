"""Which drives came and went: what is there now, compared with what was there before."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, NamedTuple

from encvault.usb.drives import drives

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from encvault.usb.drives import Drive
    from encvault.usb.udev import Monitor

# udev says what is on a drive some moments after the drive is there, and the desktop mounts it then
_PATIENCE_S = 4.0
_TABLE = "/proc/self/mountinfo"


class Look(NamedTuple):
    """What a look at the drives found.

    Attributes:
        gone: drives that went, as they were last seen; one that came again at once as well.
        brief: drives that went before they were told of.
        come: drives that came, or of which more is known than before: where they are mounted.
        there: all drives.
    """

    gone: Sequence[Drive]
    brief: Sequence[Drive]
    come: Sequence[Drive]
    there: Sequence[Drive]


class Arrivals:
    """Remembers the drives by the kernel's name, since one that went has no other any more."""

    def __init__(self) -> None:
        self._told: dict[str, Drive] = {}
        self._waiting: dict[str, Drive] = {}  # there, and not told of
        self._first_seen: dict[str, float] = {}
        self._is_new = True

    def look(self, found: Sequence[Drive], removed: Collection[str], now: float) -> Look:
        """Compare.

        Args:
            found: the drives that are there now.
            removed: names of devices that were taken away since the last look.
            now: seconds, of a clock that is never set.
        """
        there = {one.device.name: one for one in found}
        gone = [
            told
            for name, told in self._told.items()
            if name not in there or name in removed or _is_another(told, there[name])
        ]
        for one in gone:
            del self._told[one.device.name]
        brief = [
            one
            for name, one in self._waiting.items()
            if name in removed or (name not in there and not _is_whole_of(one, found))
        ]
        since = now - _PATIENCE_S if self._is_new else now  # who is there already is told at once
        self._first_seen = {
            name: since if name in removed else self._first_seen.get(name, since) for name in there
        }
        self._is_new = False
        come = [one for name, one in there.items() if self._is_to_tell(name, one, now)]
        for one in come:
            self._told[one.device.name] = one
        self._waiting = {name: one for name, one in there.items() if name not in self._told}
        return Look(gone, brief, come, found)

    def _is_to_tell(self, name: str, drive: Drive, now: float) -> bool:
        told = self._told.get(name)
        if drive.mount is None:
            return told is None and now - self._first_seen[name] >= _PATIENCE_S
        # its id cannot be read any more while it is being pulled out
        return told is None or told.mount is None or drive.id not in ("", told.id)


def _is_whole_of(one: Drive, found: Sequence[Drive]) -> bool:
    """Whether it was a disk of which the partitions are known now."""
    return any(other.device.disk == one.device.name for other in found)


def _is_another(one: Drive, other: Drive) -> bool:
    """Whether a drive took the name of one that went, unheard."""

    def facts(drive: Drive) -> tuple[object, ...]:
        device = drive.device
        return device.number, device.size, device.serial, device.vendor_id, device.product_id

    return facts(one) != facts(other)


def follow(
    monitor: Monitor, period_s: float, find: Callable[[], list[Drive]] = drives
) -> Iterator[Look]:
    """Look at the drives whenever something may have changed, and once in a while.

    Args:
        monitor: see `encvault.usb.udev`.
        period_s: seconds between two looks at most.
        find: finds the drives.

    Yields:
        Every look, also one at which nothing had changed. The first one tells the drives that were
        there already.
    """
    arrivals = Arrivals()
    with open(_TABLE, "rb") as table:
        waiting = select.poll()
        waiting.register(monitor.fileno(), select.POLLIN)
        waiting.register(table.fileno(), select.POLLPRI)  # proc(5): something was mounted or not
        while True:
            yield arrivals.look(find(), monitor.removed(), time.monotonic())
            waiting.poll(period_s * 1000)
