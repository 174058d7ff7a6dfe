"""Deadlines and SIGTERM of a run."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from encvault.jobs import limits
from encvault.jobs.limits import Limits, Stopped, TimedOut


def test_a_run_that_takes_too_long_is_ended() -> None:
    before = signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGTERM)
    with pytest.raises(TimedOut), Limits(0.05):
        time.sleep(30)
    assert (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGTERM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_sigterm_is_heard_at_the_next_boundary() -> None:
    done = []
    with pytest.raises(Stopped) as caught, Limits(60) as found:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("the file in hand")
        found.boundary()
        done.append("another")
    assert done == ["the file in hand"]
    assert caught.value.exit_code == 143


def test_sigterm_is_heard_after_a_while_wherever_the_run_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "GRACE_S", 0.05)
    with pytest.raises(Stopped), Limits(60):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)


def test_who_waits_hears_it() -> None:
    with pytest.raises(Stopped), Limits(60) as found:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        try:
            found.wait(30)
        finally:
            timer.join()


def test_waiting_takes_its_time() -> None:
    with Limits(60) as found:
        begun = time.monotonic()
        found.wait(0.05)
        assert time.monotonic() - begun >= 0.05


def test_in_another_thread_there_are_no_limits() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        with Limits(0.01) as found:
            found.boundary()
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    time.sleep(0.05)
