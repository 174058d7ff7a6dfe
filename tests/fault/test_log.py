"""Eight processes append at once and are killed at random; and one is killed at every call.

What was acknowledged is in the log, nothing is torn, and the log is whole.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from fault.processes import BUG, Countdown, fork, wait
from logs import DAYS, UNANCHORED, Days, lines_of, make_log, record

from encvault.accesslog.log import AccessLog
from encvault.accesslog.proving import prove
from encvault.accesslog.verifying import verify
from encvault.fs import calls

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 8
SECONDS = 6.0


def recorded(path: Path) -> list[str]:
    """What each entry about a file says; an entry that is torn would fail here."""
    members = [json.loads(line) for line in lines_of(path)]
    assert [one["op"] for one in members].count("log.init") == 1
    assert (path / "entries").read_bytes().endswith(b"\n")
    return [one.get("detail", "") for one in members if one["op"] == "open"]


def append_for_ever(path: Path, name: str, acknowledged: int) -> None:
    """Record one event after another, and write down each that was acknowledged."""
    log = AccessLog(str(path), days=DAYS)
    for number in range(10**9):
        event = f"{name}-{number}"
        log.record([{"op": "open", "outcome": "ok", "path": "/a", "detail": event}])
        os.write(acknowledged, f"{event}\n".encode())


def test_writers_killed_at_random(tmp_path: Path) -> None:
    path, order = tmp_path / "log", random.Random(7)
    acknowledged = os.open(tmp_path / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    started = 0
    writers: list[int] = []
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            while len(writers) < WRITERS:
                name = f"w{started}"
                writers.append(fork(lambda name=name: append_for_ever(path, name, acknowledged)))
                started += 1
            time.sleep(order.uniform(0.0, 0.05))
            victim = writers.pop(order.randrange(len(writers)))
            os.kill(victim, signal.SIGKILL)
            assert wait(victim) == -signal.SIGKILL, "a writer failed before it was killed"
    finally:
        for writer in writers:
            os.kill(writer, signal.SIGKILL)
            wait(writer)
        os.close(acknowledged)
    AccessLog(str(path), days=DAYS).record([])  # whoever comes next puts it in order
    found = recorded(path)
    told = (tmp_path / "acknowledged").read_text().split()
    assert started > WRITERS
    assert len(told) > 100
    assert set(told) <= set(found)
    assert len(set(found)) == len(found)  # nothing twice
    assert verify(str(path)).verdict is UNANCHORED
    assert prove(str(path), len(lines_of(path)) - 1).index == len(lines_of(path)) - 1


def counted(path: Path, clock: Days) -> int:
    """Calls that recording one event takes, two days after the last."""
    probe = Countdown(0, lambda _name: None)
    calls.probe = probe
    try:
        record(AccessLog(str(path), clock=clock, days=DAYS), detail="late")
    finally:
        calls.probe = None
    return probe.count


def die(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(path: Path, clock: Days, number: int) -> None:
    """Record in a child that is killed before one of its calls."""

    def work() -> int:
        calls.probe = Countdown(number, die)
        record(AccessLog(str(path), clock=clock, days=DAYS), detail="late")
        return BUG

    assert wait(fork(work)) == -signal.SIGKILL


@pytest.mark.parametrize("days", [0, 2])
def test_killed_at_every_call(tmp_path: Path, days: int) -> None:
    clock = Days()
    make_log(tmp_path / "count", clock, days=1)
    clock.pass_(days=days)
    number = counted(tmp_path / "count", clock)
    assert number > 10
    for at in range(1, number + 1):
        path, clock = tmp_path / str(at), Days()
        make_log(path, clock, days=1)
        clock.pass_(days=days)
        killed_at(path, clock, at)
        assert verify(str(path)).verdict is UNANCHORED, at
        record(AccessLog(str(path), clock=clock, days=DAYS), detail="next")
        found = recorded(path)
        assert found.count("next") == 1
        assert found.count("late") in (0, 1)
        assert [one["op"] for one in map(json.loads, lines_of(path))].count("log.epoch") == days
        assert verify(str(path)).verdict is UNANCHORED, at


def test_killed_while_the_log_is_made(tmp_path: Path) -> None:
    for at in range(1, 200):
        path = tmp_path / str(at)

        def work(at: int = at, path: Path = path) -> int:
            calls.probe = Countdown(at, die)
            record(AccessLog(str(path), clock=Days(), days=3))
            return 0

        if wait(fork(work)) == 0:
            break
        record(AccessLog(str(path), clock=Days(), days=3))
        assert verify(str(path)).verdict is UNANCHORED, at
        assert recorded(path)
    assert 20 < at < 199
