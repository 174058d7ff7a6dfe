"""``encvault job watch``: seal what comes to lie in the folders of a job."""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from encvault import operations
from encvault.cli import ui
from encvault.cli.job.group import job_folders, state_of
from encvault.cli.job.keys import prompter_of, refuse_root
from encvault.cli.options import json_option, quiet_option
from encvault.cli.process import EXIT_INTERRUPTED, EXIT_TERMINATED
from encvault.crypto.suite import Suite
from encvault.errors import EncvaultError, InvalidRequest
from encvault.i18n import N_, _, size_text
from encvault.jobs.dropping import watch_folder
from encvault.jobs.finding import find_job
from encvault.jobs.records import MAX_ERRORS, Outcome, Records, now_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from encvault.cli.secrets import CommandLinePrompter
    from encvault.jobs.dropping import DropEvent
    from encvault.jobs.jobfile import Job
    from encvault.vault.report import Observer, Report

_KINDS = {
    "watching": N_("is watched"),
    "polling": N_("is looked at every few seconds, for changes are not told here"),
    "sealed": N_("sealed"),
    "failed": N_("failed"),
    "gone": N_("is gone, and waited for"),
    "back": N_("is back"),
    "lost": N_("changes were lost, so it is looked at everything"),
    "note": N_("note"),
    "stopped": N_("is not watched any more"),
}
_STOPPING = {signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}


@click.command(
    "watch",
    help=_(
        "Seal what lies in the folders of a job, and what comes to lie there once it is closed "
        "and still; until it is interrupted.\n\n"
        'The job has trigger = "on-change" and mode = "in-place". Temporary files of programs '
        "are left alone until they are renamed."
    ),
)
@click.argument("name")
@quiet_option
@json_option
def watch_command(name: str, *, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    job = find_job(name, job_folders())
    if job.trigger != "on-change":
        reason = _('{name} runs by its schedule; to have it watch, set trigger = "on-change"')
        raise InvalidRequest(reason=reason.format(name=job.name))
    refuse_root(job, "watch")
    prompter = prompter_of(job)
    records = Records.of(job, state_of(job))
    watched = _Watched(Outcome.begun(job.name), records.go_on, quiet=quiet, as_json=as_json)

    def seal(folder: str, paths: Sequence[str], observer: Observer) -> Report:
        return operations.seal(_request(job, prompter, folder, paths), prompter, observer)

    with records.alone(0.0), _stopped_by_signals() as codes:
        records.begin(watched.outcome)
        try:
            watch_folder(
                job.sources,
                job.settle,
                seal,
                is_stopping=lambda: bool(codes),
                tell=watched.tell,
                exclude=job.exclude,
            )
        except EncvaultError as error:
            records.end(watched.ended("failed", error.exit_code, error))
            raise
        records.end(watched.ended("stopped", codes[0]))
    return codes[0]


def _request(
    job: Job, prompter: CommandLinePrompter, folder: str, paths: Sequence[str]
) -> operations.SealRequest:
    return operations.SealRequest(
        paths=(folder,),
        only=tuple(paths),
        suite=Suite.from_label(job.suite) if job.suite else None,
        default_suite=prompter.defaults.suite or operations.DEFAULT_SUITE,
        hide_names=job.hide_names,
        exclude=job.exclude,
        state_dir=state_of(job),
    )


class _Watched:
    """Shows what happens, and counts it for the job's records."""

    def __init__(
        self, outcome: Outcome, keep: Callable[[Outcome], None], *, quiet: bool, as_json: bool
    ) -> None:
        self.outcome = outcome
        self._keep = keep
        self._quiet = quiet
        self._as_json = as_json
        self._failed: dict[str, EncvaultError] = {}

    def tell(self, event: DropEvent) -> None:
        before = set(self._failed)
        if event.kind == "sealed":
            self._failed.pop(event.path, None)
            self.outcome = replace(
                self.outcome,
                files=self.outcome.files + 1,
                size=self.outcome.size + (event.size or 0),
            )
        elif event.error is not None:
            self._failed[event.path] = event.error
        if set(self._failed) != before:  # who asks for the status has to know
            self._keep(self._counted())
        if self._as_json:
            ui.show_json(_event_json(event))
        elif event.error is not None:
            ui.fail(event.error)
        elif not self._quiet:
            ui.result(_line(event))
        sys.stdout.flush()  # who reads from a pipe waits for it

    def ended(self, state: str, exit_code: int, error: EncvaultError | None = None) -> Outcome:
        """What it came to."""
        counted = self._counted(*filter(None, [error]))
        return replace(counted, ended_at=now_text(), state=state, exit_code=exit_code)

    def _counted(self, *errors: EncvaultError) -> Outcome:
        shown = [*errors, *self._failed.values()][:MAX_ERRORS]
        return replace(
            self.outcome,
            failed=len(self._failed),
            attempts=1,
            errors=tuple(map(ui.error_json, shown)),
        )


def _line(event: DropEvent) -> str:
    words = [
        event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        event.path,
        _(_KINDS[event.kind]),
        "" if event.size is None else size_text(event.size),
        event.text,
    ]
    return "  ".join(filter(None, words))


def _event_json(event: DropEvent) -> dict[str, Any]:
    return {
        "ts": event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "event": event.kind,
        "path": event.path,
        "size": event.size,
        "error": None if event.error is None else ui.error_json(event.error),
        "text": event.text or None,
    }


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[list[int]]:
    """Finish what is in hand at the first signal; the second ends it as it ends other commands.

    Yields:
        The exit code, once there was a signal.
    """
    codes: list[int] = []
    before = {number: signal.getsignal(number) for number in _STOPPING}

    def begin_to_stop(number: int, _frame: FrameType | None) -> None:
        for other, handler in before.items():
            signal.signal(other, handler)
        codes.append(_STOPPING[signal.Signals(number)])

    for number in _STOPPING:
        signal.signal(number, begin_to_stop)
    try:
        yield codes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
