"""A signal that asks a command to stop, at odd moments."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from encvault import cli
from encvault.cli import streams

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_after_all_is_said_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    guarded = streams.guarded

    @contextlib.contextmanager
    def and_then_a_signal() -> Iterator[None]:
        with guarded():
            yield
        os.kill(os.getpid(), number)

    monkeypatch.setattr(streams, "guarded", and_then_a_signal)
    before = signal.getsignal(number)
    assert cli.main(["doctor", "--help"]) == code
    assert signal.getsignal(number) is before
