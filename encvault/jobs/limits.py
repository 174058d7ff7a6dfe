"""How long a run may take, and how it is stopped: by its deadline, or by SIGTERM.

A stop is heard at the next boundary between two files, so the file in hand is finished; after a
grace period it is heard wherever the run is. Either way what is left is what a kill leaves
(docs/design.md, "Nothing lost"): the next run goes on.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

GRACE_S = 45.0  # systemd kills what has not ended TimeoutStopSec after its SIGTERM
_STEP_S = 0.5


class Stopped(BaseException):
    """Somebody asks the run to stop; like KeyboardInterrupt, it passes every ``except Exception``.

    Attributes:
        exit_code: 143, as a shell has it for SIGTERM.
    """

    exit_code = 143


class TimedOut(BaseException):
    """The run has taken longer than it may."""


class Limits:
    """The limits of one run; a context, in the main thread.

    Elsewhere, and on systems without these signals, there are none.

    Args:
        seconds: that the run may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self.is_stopping = False
        self._is_lifted = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and hasattr(signal, "setitimer"):
            for number, handler in (
                (signal.SIGALRM, self._alarm),
                (signal.SIGTERM, self._terminate),
            ):
                self._before[number] = signal.signal(number, handler)
            self._ends_at = time.monotonic() + self._seconds
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what signal() returned

    def lift(self) -> None:
        """The work is over: nothing stops the run any more, for how it ended is to be recorded."""
        self._is_lifted = True
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_lifted:
            return
        if self.is_stopping:
            raise Stopped
        raise TimedOut

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        if not (self.is_stopping or self._is_lifted):
            self.is_stopping = True
            left = max(0.01, self._ends_at - time.monotonic())
            signal.setitimer(signal.ITIMER_REAL, min(left, GRACE_S))

    def boundary(self) -> None:
        """A file is done, and the next has not begun.

        Raises:
            Stopped: the run is to stop.
        """
        if self.is_stopping:
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Do nothing for so long.

        Raises:
            Stopped: the run is to stop.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.boundary()
            time.sleep(min(left, _STEP_S))
        self.boundary()
