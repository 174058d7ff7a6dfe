"""Lines of a job on stderr: for people, for a mail, and with priorities for the journal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from encvault.cli import ui
from encvault.i18n import _, size_text
from encvault.jobs.records import STATES
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from encvault.errors import EncvaultError
    from encvault.jobs.records import Outcome

# priorities as sd-daemon(3) has them
_ERROR, _WARNING, _INFO = "<3>", "<4>", "<6>"
_AWAY = 75
_LEFT = {3, _AWAY}  # files that were left, a run that waits: no failure of the machine


class Lines(Observer):
    """Tells what happens, line by line.

    Args:
        quiet: only what somebody has to look at.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = ""

    def problem(self, error: EncvaultError) -> None:
        """See `Observer`."""
        text = str(error)
        if text == self._last:  # of a drive that went away each file would say the same
            return
        self._last = text
        if error.exit_code == _AWAY and self._quiet:
            return
        say(text, _WARNING if error.exit_code in _LEFT else _ERROR)

    def note(self, message: str) -> None:
        """See `Observer`."""
        if not self._quiet:
            say(_("note: {text}").format(text=message), _INFO)

    def summary(self, outcome: Outcome, hint: str | None) -> None:
        """The one line of a run, for a mail."""
        is_well = outcome.exit_code in (0, _AWAY)
        if self._quiet and is_well:
            return
        level = _INFO if is_well else _WARNING if outcome.exit_code in _LEFT else _ERROR
        say(summary_text(outcome), level)
        if hint is not None and not is_well:
            _prefix(level)
            ui.hint(hint)


def summary_text(outcome: Outcome) -> str:
    """What became of a run, on one line."""
    parts = [_(STATES[outcome.state])]
    if outcome.files or outcome.size:
        text = _("{files} sealed, {size}")
        parts.append(text.format(files=ui.count_text(outcome.files), size=size_text(outcome.size)))
    if outcome.unchanged:
        parts.append(_("{files} unchanged").format(files=ui.count_text(outcome.unchanged)))
    if outcome.removed:
        parts.append(_("{files} removed").format(files=ui.count_text(outcome.removed)))
    if outcome.failed and (outcome.files or outcome.unchanged or outcome.state == "partial"):
        parts.append(_("{files} left").format(files=ui.count_text(outcome.failed)))
    if outcome.ended_at:
        parts.append(_("{seconds} s").format(seconds=f"{outcome.seconds:.1f}"))
    if outcome.exit_code:
        parts.append(_("exit code {code}").format(code=outcome.exit_code))
    told = _(", ").join(parts)
    return _("{name}: {reason}").format(name=outcome.job, reason=told)


def say(text: str, level: str) -> None:
    """Write a line to stderr, with its priority if the journal reads it."""
    _prefix(level)
    ui.message(text)


def _prefix(level: str) -> None:
    if _is_journal():
        sys.stderr.write(level)


def _is_journal() -> bool:
    """Whether stderr goes to the journal; systemd.exec(5), ``$JOURNAL_STREAM``."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"
