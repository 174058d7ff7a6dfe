"""Two hundred nights in which everything happens that happens to nightly jobs.

Each night the sources change, and then something befalls the run, or the one before it: it is
killed, the disk is full, the destination is not there. Whatever it was, ``job status`` must tell
what happened, a run that is told to have done its work must have done it, and what the copies open
to must be what was there when a run began.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault.mounts import fill, mounted, needs_root
from fault.nightly import (
    KILLED,
    Nightly,
    Wanted,
    at_call,
    fall_asleep,
    kill_self,
    stop_self,
)
from fault.processes import PATIENCE

from encvault.vault.layout import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from fault.nightly import Night
    from helpers import Command

pytestmark = [pytest.mark.slow, needs_root]

DISK_SIZE = 16 << 20
LARGE = 300_000  # bytes of a file for which a full disk has no room


class Soak:
    """A job, and what befalls its runs.

    Args:
        job: which.
        disk: where its copies lie.
    """

    def __init__(self, job: Nightly, disk: Path) -> None:
        self.job = job
        self.disk = disk
        self.chance = job.chance
        self.calls = 0  # of a run without a fault

    def nights(self, count: int) -> None:
        """So many nights, each hazard about as often as its weight says."""
        self.quiet()
        bag = [hazard for hazard, weight in self.hazards().items() for _each in range(weight)]
        drawn: list[Callable[[], None]] = []
        while len(drawn) < count:
            self.chance.shuffle(bag)
            drawn += bag
        for hazard in drawn[:count]:
            self.day()
            self.job.met()
            hazard()
            if self.chance.random() < 0.3:
                self.job.check_what_is_there()
        self.day()
        self.quiet()
        self.job.check_what_is_there()
        self.job.history()
        assert set(self.job.seen.values()) >= {"ok", "partial", "failed", "timeout", "interrupted"}
        code, _text = self.job.ask("log", "verify")
        assert code == 3, self.job.said  # right, as far as can be told without an anchor

    def hazards(self) -> dict[Callable[[], None], int]:
        """What may happen, and how often compared with each other."""
        common = {
            self.quiet: 2,
            self.killed_at_a_call: 6,
            self.killed_at_a_moment: 5,
            self.stopped_at_a_call: 3,
            self.stopped_at_a_moment: 2,
            self.out_of_time: 1,
            self.hanging_before: 1,
            self.full_disk: 3,
            self.unreadable: 2,
            self.unreadable_and_warned_of: 2,
            self.no_source: 2,
            self.clock_stepped: 4,
            self.two_at_once: 2,
        }
        if self.job.mode == "in-place":
            return common
        return common | {self.destination_away: 2, self.destination_empty: 3}

    def day(self) -> None:
        """What people do."""
        for changes in self.job.changes:
            changes.some(self.chance.randrange(5))

    def some_call(self) -> int:
        return self.chance.randrange(1, self.calls + 1)

    # -- nights -----------------------------------------------------------------------------

    def quiet(self) -> None:
        self.calls = self.job.counted()

    def killed_at_a_call(self) -> None:
        night = self.job.night(at_call(self.some_call(), kill_self))
        assert night.code in (KILLED, 0), str(night)

    def killed_at_a_moment(self) -> None:
        assert self._signalled(signal.SIGKILL).code in (KILLED, 0)

    def stopped_at_a_call(self) -> None:
        self._is_in_order(self.job.night(at_call(self.some_call(), stop_self)))

    def stopped_at_a_moment(self) -> None:
        self._is_in_order(self._signalled(signal.SIGTERM))

    def _signalled(self, number: signal.Signals) -> Night:
        self.job.want(Wanted())
        before = self.job.status()
        running = self.job.begin()
        time.sleep(self.chance.random() * 0.15)
        os.kill(running.pid, number)
        night = running.ended()
        self.job.look(before, night)
        return night

    def _is_in_order(self, night: Night) -> None:
        assert night.code in (143, -signal.SIGTERM, 0), str(night)
        assert self.job.left() == []

    def out_of_time(self) -> None:
        night = self.job.night(at_call(self.some_call(), fall_asleep), timeout="1s")
        assert night.code in (124, 0), str(night)
        assert self.job.left() == []

    def hanging_before(self) -> None:
        hook = '[[hooks]]\nwhen = "before"\nrun = ["sleep", "30"]\n'
        night = self.job.night(timeout="1s", hooks=hook)
        assert night.code == 124, str(night)
        assert night.told is not None
        assert night.told["state"] == "timeout"

    def full_disk(self) -> None:
        self.chance.choice(self.job.changes).add(LARGE)
        ballast = fill(self.disk, self.chance.choice((0, 30_000, 100_000)))
        night = self.job.night()
        assert night.code == 73, str(night)
        assert self.job.left() == []
        ballast.unlink()

    def unreadable(self) -> None:
        night = self._with_one_unreadable("fail")
        assert night.code == 3, str(night)

    def unreadable_and_warned_of(self) -> None:
        night = self._with_one_unreadable("warn")
        assert night.code == 0, str(night)

    def _with_one_unreadable(self, on_partial: str) -> Night:
        path = self.chance.choice(self.job.changes).add()
        path.chmod(0)
        night = self.job.night(on_partial=on_partial)
        path.chmod(0o600)
        self.job.met()
        assert night.told is not None
        assert night.told["state"] == "partial"
        assert night.told["failed"] == 1
        assert str(path) in night.err
        return night

    def no_source(self) -> None:
        with self.job.away(self.chance.choice(self.job.sources), leaves=False):
            night = self.job.night()
        assert night.code == 66, str(night)

    def destination_away(self) -> None:
        wanted = self.chance.choice(("skip", "fail"))
        with self.job.away(self.job.copies, leaves=False):
            night = self.job.night(if_absent=wanted)
            assert not self.job.copies.exists()
        assert night.code == (75 if wanted == "skip" else 66), str(night)

    def destination_empty(self) -> None:
        with self.job.away(self.job.copies, leaves=True):
            night = self.job.night()
            assert list(self.job.copies.iterdir()) == []
        assert night.code == 75, str(night)

    def clock_stepped(self) -> None:
        self.job.step_clock()
        assert self.job.night().code == 0

    def two_at_once(self) -> None:
        patience = self.chance.choice(("0s", "1m"))
        turns = self.job.room / "turns"
        hooks = "".join(
            f'[[hooks]]\nwhen = "{when}"\nrun = ["sh", "-c", "echo {when} >> {turns}{then}"]\n'
            for when, then in (("before", "; sleep 0.5"), ("after", ""))
        )
        self.job.want(Wanted(lock_wait=patience, hooks=hooks))
        before = self.job.status()
        both = [self.job.begin()]
        deadline = time.monotonic() + PATIENCE
        while not turns.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        both.append(self.job.begin())
        first, second = (running.ended() for running in both)
        assert first.code == 0, str(first)
        if patience == "0s":
            assert second.code == 75, str(second)
            self.job.look(before, first)
            count = 1
        else:
            self.job.look_at_both(before, first, second)
            count = 2
        assert turns.read_text().split() == ["before", "after"] * count
        turns.unlink()


@pytest.mark.parametrize(("layout", "sources"), [("visible", 1), ("hidden", 2)])
def test_a_mirror(run: Command, public_path: Path, layout: str, sources: int) -> None:
    with mounted(public_path / "disk", "tmpfs", DISK_SIZE) as disk:
        job = Nightly(
            run, public_path, "mirror", hidden=layout == "hidden", sources=sources, disk=disk
        )
        Soak(job, disk).nights(45)


def test_archives(run: Command, public_path: Path) -> None:
    with mounted(public_path / "disk", "tmpfs", DISK_SIZE) as disk:
        job = Nightly(run, public_path, "archive", sources=2, disk=disk)
        Soak(job, disk).nights(60)


class InPlace(Soak):
    """A job that seals where the files are; people open some again, and go on with them."""

    def day(self) -> None:
        """New files come, and others are opened and changed, or removed."""
        (changes,) = self.job.changes
        for _each in range(self.chance.randrange(4)):
            self.chance.choice((changes.add, changes.add, changes.link))()
        sealed = [key for key in sorted(self.job.sealed) if not os.path.lexists(Path(*key))]
        for key in self.chance.sample(sealed, min(len(sealed), 2)):
            self._work_on(Path(*key), key)

    def _work_on(self, path: Path, key: tuple[str, str]) -> None:
        copy = path if self.job.hidden else path.with_name(path.name + SUFFIX)
        code, _text = self.job.ask("open", copy, "-i", self.job.key)
        assert code == 0, self.job.said
        if self.job.sealed[key].kind == "symlink" or self.chance.random() < 0.3:
            path.unlink()
            del self.job.sealed[key]
        else:
            path.write_bytes(self.chance.randbytes(self.chance.randrange(20_000)))


@pytest.mark.parametrize("layout", ["visible", "hidden"])
def test_in_place(run: Command, public_path: Path, layout: str) -> None:
    with mounted(public_path / "disk", "tmpfs", DISK_SIZE) as disk:
        job = Nightly(run, public_path, "in-place", hidden=layout == "hidden", disk=disk)
        InPlace(job, disk).nights(25)
