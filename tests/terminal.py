"""A person's terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from pathlib import Path

ENCVAULT = (sys.executable, "-m", "encvault")
_PATIENCE = 60.0


class Terminal:
    """A command on a pseudo-terminal, 80 columns wide.

    Args:
        arguments: of the program.
        cwd: where it runs.
        program: the program; encvault of this checkout if it is left out.
        environment: variables that it gets beside those of the test.
    """

    def __init__(
        self, *arguments: object, cwd: Path, program: tuple[str, ...] = ENCVAULT, **environment: str
    ) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                variables = os.environ | {"TERM": "xterm", "COLUMNS": "80"} | environment
                os.execvpe(program[0], [*program, *map(str, arguments)], variables)
            finally:
                os._exit(127)
        self.screen = ""
        self._expected = 0
        self._code: int | None = None

    def expect(self, text: str) -> None:
        """Read until the text has appeared, after what was expected before."""
        deadline = time.monotonic() + _PATIENCE
        while (at := self.screen.find(text, self._expected)) < 0:
            assert self._read(deadline), f"{text!r} did not appear in {self.screen!r}"
        self._expected = at + len(text)

    def expect_question(self, prompt: re.Pattern[str], after: int) -> None:
        """Read until what has appeared, from a place on the screen on, ends in a question."""
        deadline = time.monotonic() + _PATIENCE
        while not prompt.search(self.screen, after):
            assert self._read(deadline), f"no question in {self.screen[after:]!r}"

    def type(self, text: str) -> None:
        """Type a line, once the program listens."""
        time.sleep(0.2)  # getpass throws away what was typed before it switched the echo off
        os.write(self._fd, text.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._fd, b"\x03")

    def wait(self) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + _PATIENCE
        while self._read(deadline):
            pass
        if self._code is None:
            _pid, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _read(self, deadline: float) -> bool:
        ready, _w, _x = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"the program hangs; on the screen: {self.screen!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)
