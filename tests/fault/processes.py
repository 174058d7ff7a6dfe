"""Processes to kill: forked from this warmed one, so that one costs milliseconds."""

from __future__ import annotations

import fcntl
import os
import time
import traceback
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs import calls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 20.0  # seconds, on a machine that others use too
FINISHED, NAMED_ERROR, BUG = 0, 40, 41


class Countdown:
    """A probe that does something before the n-th call.

    Args:
        number: of the call, from 1.
        act: what to do then; it gets the call's name.
        where: None for whatever process makes the call; else a test of its process number.
    """

    def __init__(
        self, number: int, act: Callable[[str], None], where: Callable[[int], bool] | None = None
    ) -> None:
        self.left = number
        self.count = 0
        self._act = act
        self._where = where

    def __call__(self, name: str, _fd: int, _target: str) -> None:
        if self._where is not None and not self._where(os.getpid()):
            return
        self.count += 1
        self.left -= 1
        if self.left == 0:
            self._act(name)


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child; its exit code says how that ended."""
    pid = os.fork()
    if pid == 0:
        code = BUG
        try:
            result = work()
            code = result if isinstance(result, int) else FINISHED
        except EncvaultError:
            traceback.print_exc()  # where it was not expected, the test shows which it was
            code = NAMED_ERROR
        except BaseException:  # noqa: BLE001 - a child must never return into the test
            traceback.print_exc()
        finally:
            calls.probe = None
            os._exit(code)
    return pid


def wait(pid: int) -> int:
    """The child's exit code, negative if a signal ended it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.001)


def wait_for_lock(top: Path) -> None:
    """Wait until nobody holds a vault below: workers may outlive their parent for a moment."""
    for path in top.glob("*/.encvault/lock"):
        deadline = time.monotonic() + PATIENCE
        with path.open("rb") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    assert time.monotonic() < deadline, "an orphan keeps the lock"
                    time.sleep(0.002)
