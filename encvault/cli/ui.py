"""What the user sees.

The law (docs/design.md, "Messages"):

* stdout is the result and nothing else; messages, questions and progress go to stderr and the
  terminal;
* a message is lower case, without a final stop, and says what happened; a line ``hint:`` says
  what to do;
* a question is asked only if stdin is a terminal and ``--no-input`` was not said;
* names from disk are made harmless before they reach a terminal.
"""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, Any, Self, TextIO

from encvault.i18n import N_, _, english, ngettext
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress, TaskID

    from encvault.errors import EncvaultError
    from encvault.keyslots import SlotInfo
    from encvault.vault.report import Event, Report

_REFRESH_SECONDS = 0.1
_ACTIONS = {"seal": N_("seal"), "open": N_("open")}


def harmless(text: str) -> str:
    """`text` without control characters and undecodable bytes, which a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def message(text: str) -> None:
    """Tell the user something on stderr."""
    _write(sys.stderr, f"encvault: {text}")


def hint(text: str) -> None:
    """Tell the user what to do."""
    _write(sys.stderr, _("hint: {text}").format(text=text))


def result(text: str) -> None:
    """A line of the result on stdout."""
    _write(sys.stdout, text)


def verbatim(text: str) -> None:
    """A file's text on stdout, byte for byte; the caller vouches that it is harmless."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="surrogateescape"))


def result_table(rows: Sequence[tuple[str, Any]]) -> None:
    """Named facts on stdout, one a line, the values below each other."""
    width = max(cells(label) for label, _value in rows) + 2
    for label, value in rows:
        result(f"{column(label, width)}{value}")


def cells(text: str) -> int:
    """Columns on a terminal; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def column(text: str, width: int) -> str:
    """`text` filled up with spaces to so many columns."""
    return text + " " * (width - cells(text))


_SLOT_KINDS = {
    "password": N_("password"),
    "recipient": N_("recipient"),
    "recovery": N_("recovery code"),
}


def slot_line(slot: SlotInfo) -> str:
    """A keyslot on one line."""
    kind = column(_(_SLOT_KINDS[slot["kind"]]), 13)
    # beside the label, which may be another's fingerprint
    label = "  ".join(dict.fromkeys(filter(None, (slot["label"], slot["fingerprint"]))))
    if slot["state"] == "pending":
        label = _("{label} (pending: the password must be set again)").format(label=label)
    return f"{slot['id']}  {kind}  {slot['created_at']}  {label}"


def code_lines(code: str) -> list[str]:
    """A recovery code as lines that the eye can follow, four groups each."""
    groups = code.split("-")
    return ["  ".join(groups[start : start + 4]) for start in range(0, len(groups), 4)]


def show_json(value: Any) -> None:
    """The result as JSON on stdout; the same in every language."""
    sys.stdout.write(json.dumps(value, sort_keys=True) + "\n")


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    safe = harmless(text).encode(encoding, "backslashreplace").decode(encoding)
    stream.write(safe + "\n")


def error_json(error: EncvaultError) -> dict[str, Any]:
    """An error as JSON: class name, code, fields and the message in the user's language.

    Only ``message`` and ``hint`` are; a reason among the fields stays English.
    """
    return {
        "error": type(error).__name__,
        "exit_code": error.exit_code,
        "message": str(error),
        "hint": error.hint,
        **{name: english(value) for name, value in error.fields().items()},
    }


def fail(error: EncvaultError) -> int:
    """Show an error; return its exit code."""
    message(str(error))
    if error.hint:
        hint(error.hint)
    return error.exit_code


def is_interactive() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def count_text(count: int) -> str:
    """So many files, in words."""
    return ngettext("{count} file", "{count} files", count).format(count=count)


class Screen(Observer):
    """Shows a run: problems as they come, a progress bar if stderr is a terminal.

    Args:
        what: the word on the bar.
        quiet: show no progress and no notes.
        verbose: tell which library does the work, and each path as its turn comes.
    """

    def __init__(self, what: str, *, quiet: bool = False, verbose: bool = False) -> None:
        self._what = what
        self._quiet = quiet
        self._verbose = verbose
        self.problems: list[EncvaultError] = []
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._files = 0
        self._total = 0
        self._shown_at = 0.0
        self.steps: list[tuple[str, str]] = []
        self.wants_total = not quiet and sys.stderr.isatty()

    def total(self, files: int, size: int) -> None:
        """See `Observer`."""
        from encvault.cli.bar import new_bar  # noqa: PLC0415 - 50 ms that only a bar is worth

        self.close()  # of several paths each has a bar
        self._files, self._total = 0, files
        self._progress = new_bar()
        self._task = self._progress.add_task(self._what, total=size, files=f"0/{files}")
        self._progress.start()

    def progress(self, files: int, size: int) -> None:
        """See `Observer`."""
        if self._progress is None or self._task is None:
            return
        self._files += files
        self._progress.update(self._task, advance=size, files=f"{self._files}/{self._total}")
        now = time.monotonic()
        if now - self._shown_at > _REFRESH_SECONDS:
            self._shown_at = now
            self._progress.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def action(self, verb: str, path: str) -> None:
        """See `Observer`."""
        self.steps.append((verb, path))

    def member(self, action: str, path: str) -> None:
        """See `Observer`."""
        if self._verbose:
            self._tell(action, path)

    def problem(self, error: EncvaultError) -> None:
        """See `Observer`."""
        is_new = not self.problems or str(self.problems[-1]) != str(error)
        self.problems.append(error)
        if is_new:  # of a drive that went away each file would say the same
            self._pause()
            message(str(error))

    def note(self, message: str) -> None:
        """See `Observer`."""
        if not self._quiet:
            self._pause()
            _write(sys.stderr, _("note: {text}").format(text=message))

    def before_release(self, events: Sequence[Event]) -> None:
        """See `Observer`."""
        if self._verbose:
            for event in events:
                self._tell(event.action, event.path)

    def _tell(self, action: str, path: str) -> None:
        self._pause()
        message(f"{_(_ACTIONS[action])}  {path}")

    def _pause(self) -> None:
        """Clear the bar's line, so that the message does not run into it."""
        if self._progress is not None:
            sys.stderr.write("\r\x1b[2K")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def report_json(report: Report) -> dict[str, Any]:
    """A run's report as JSON."""
    return {
        "files": report.files,
        "size": report.size,
        "folders": report.folders,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "problems": [error_json(problem) for problem in report.problems],
        "notes": [english(note) for note in report.notes],
    }


def finish(report: Report, summary: str, *, as_json: bool, quiet: bool) -> int:
    """Show a run's summary; return its exit code."""
    outcome = report.outcome()
    if as_json:
        show_json(report_json(report))
    elif not quiet:
        message(summary)
    if outcome is None:
        return 0
    if outcome not in report.problems:
        message(str(outcome))
    hints = {problem.hint for problem in report.problems if problem.hint}
    for text in sorted(hints):
        hint(text)
    return outcome.exit_code
