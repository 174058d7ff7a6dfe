"""One run of a job: alone, within its time, tried again if it may help, and recorded.

`run_job` never raises for what a job can meet: whatever becomes of the run is in the `Outcome`,
which is durable before it is told. The worst of what went wrong decides the exit code
(`worst`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from encvault.errors import (
    DestinationAway,
    EncvaultError,
    ForeignCopy,
    HostChanged,
    HostUnknown,
    InputOutputError,
    JobTimedOut,
    OtherVaultThere,
)
from encvault.fs.durable import storage_error
from encvault.i18n import _
from encvault.jobs import hooks, telling
from encvault.jobs.limits import Limits, Stopped, TimedOut
from encvault.jobs.records import MAX_ERRORS, Known, Outcome, Records, now_text, worst
from encvault.jobs.values import duration_text
from encvault.jobs.work import Work
from encvault.operations.recording import recording
from encvault.vault.report import Relay, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from encvault.jobs.jobfile import Job
    from encvault.jobs.work import Means
    from encvault.vault.report import Observer

_TRANSIENT = {74, 75}  # what may have passed a little later
# and what is of the same codes, and does not pass by waiting
_LASTING = (DestinationAway, ForeignCopy, HostChanged, HostUnknown, OtherVaultThere)
_PARTIAL = 3
_AWAY = 75
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a job runs.

    Attributes:
        means: gives what the work needs, or raises what is missing; asked once the run has begun,
            so that a secret that is not there is recorded, and told, as any other failure.
        state_dir: local state folder.
        environment: of hooks.
        observer: is told what happens.
        error_json: an error as ``--json`` shows it.
        pings: whether the run itself tells the service that is pinged.
    """

    means: Callable[[], Means]
    state_dir: str
    environment: Mapping[str, str]
    observer: Observer
    error_json: Callable[[EncvaultError], dict[str, object]]
    pings: bool = True


def run_job(job: Job, around: Surroundings) -> Outcome:
    """Run a job once.

    Raises:
        KeyboardInterrupt: somebody interrupts it; that is recorded.
    """
    return _Run(job, around).run()


class _Listener(Relay):
    """Counts and keeps what happens, and stops between two files if it is time."""

    def __init__(self, observer: Observer, limits: Limits) -> None:
        super().__init__(observer)
        self.limits = limits
        self.notes: list[str] = []
        self.files = 0
        self.size = 0

    def progress(self, files: int, size: int) -> None:
        """See `Observer`."""
        super().progress(files, size)
        self.files += files
        self.size += size
        if files:
            self.limits.boundary()

    def note(self, message: str) -> None:
        """See `Observer`."""
        self.notes.append(message)
        super().note(message)


class _Run:
    def __init__(self, job: Job, around: Surroundings) -> None:
        self.job = job
        self.around = around
        self.records = Records.of(job, around.state_dir)
        self.limits = Limits(job.timeout)
        self.watcher = _Listener(around.observer, self.limits)
        invocation = around.environment.get("INVOCATION_ID", "")  # of systemd
        self.outcome = replace(Outcome.begun(job.name), invocation=invocation)
        self.report = Report()

    def run(self) -> Outcome:
        job = self.job
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.limits)
            try:
                stack.enter_context(self.records.alone(job.lock_wait))
            except (EncvaultError, Stopped, TimedOut) as error:
                # the records are those of the run that has the lock
                return self._sum_up(self._told(error))
            return self._alone()

    def _told(self, error: BaseException) -> EncvaultError | None:
        """The same as `_named`, for what ended the run, and nobody was told of yet."""
        if (named := self._named(error)) is not None:
            self.watcher.problem(named)
        return named

    def _named(self, error: BaseException) -> EncvaultError | None:
        """What a run ended with, as an error; None of one that was stopped."""
        if isinstance(error, TimedOut):
            after = duration_text(self.job.timeout)
            return JobTimedOut(name=self.job.name, after=after, path=self.job.path)
        if isinstance(error, OSError):
            return storage_error(error, error.filename or self.job.place)
        return error if isinstance(error, EncvaultError) else None

    def _alone(self) -> Outcome:
        try:
            try:
                self._work(self._begin())
            finally:
                self.limits.lift()
        except (EncvaultError, OSError, TimedOut, Stopped) as error:
            outcome = self._sum_up(self._told(error))
        except Exception as error:
            # a bug: it must not look like a run that goes on for ever
            self._end(self._sum_up(InputOutputError(path=self.job.place, reason=repr(error))))
            raise
        except BaseException as error:  # an interrupt, or a terminal that was closed
            code = getattr(error, "exit_code", _INTERRUPTED)
            self._end(self._sum_up(None, exit_code=code))
            raise
        else:
            outcome = self._sum_up(None, is_over=True)
        return self._end(outcome)

    def _begin(self) -> Means:
        self.records.begin(self.outcome)
        if self.around.pings:
            self._note_failure(telling.ping_start(self.job))
        means = self.around.means()
        hooks.run_before(self.job, self.around.environment)
        return means

    # -- the work ---------------------------------------------------------------------------

    def _work(self, means: Means) -> None:
        job = self.job
        with recording(means.prompter.access_log(), "job.run", job.place, self.watcher) as recorder:
            for attempt in range(1, job.retries + 2):
                self.outcome = replace(self.outcome, attempts=attempt)
                before, self.report = self.report, self._attempt(means)
                self.report.files += before.files  # what an earlier attempt did is done
                self.report.size += before.size
                self.report.removed += before.removed
                transient = [one for one in self.report.problems if _is_transient(one)]
                if not transient or attempt > job.retries:
                    break
                self.limits.wait(job.retry_wait * attempt)
            error = worst(self.report.problems)
            recorder.record(
                path=job.sources[0],
                outcome="ok" if error is None else "failed",
                count=self.report.files,
                size=self.report.size,
                detail=job.name,
                **({} if error is None else {"error": type(error).__name__}),
            )
            recorder.reported(self.report)

    def _attempt(self, means: Means) -> Report:
        work = Work(
            self.job,
            means,
            self.around.state_dir,
            self.watcher,
            self.limits,
            self.records.folder,
            self._earlier(),
        )
        try:
            report = work.do()
        except EncvaultError as error:
            report = Report(problems=[error])
            self.watcher.problem(error)
        except OSError as error:
            named = storage_error(error, error.filename or self.job.place)
            report = Report(problems=[named])
            self.watcher.problem(named)
        self.outcome = replace(
            self.outcome, verified=work.verified, archive=work.archive or self.outcome.archive
        )
        return report

    def _earlier(self) -> Outcome | None:
        """The last run that made an archive, also one that lacks files."""
        with contextlib.suppress(EncvaultError):
            runs = [*self.records.history(), *filter(None, [self._known().success])]
            return next((one for one in reversed(runs) if one.archive), None)
        return None

    def _known(self) -> Known:
        with contextlib.suppress(EncvaultError):
            return self.records.known()
        return Known()

    # -- the end ----------------------------------------------------------------------------

    def _note_failure(self, reason: str | None) -> None:
        """A service that cannot be told is no failure of the job."""
        if reason is not None:
            told = _("{place} could not be told: {reason}")
            self.watcher.note(told.format(place=telling.shown(self.job), reason=reason))

    def _sum_up(
        self, error: EncvaultError | None, *, is_over: bool = False, exit_code: int | None = None
    ) -> Outcome:
        """The outcome so far.

        Args:
            error: what ended the run, or None.
            is_over: whether it did all that it could.
            exit_code: if it ended for another reason.
        """
        problems = list(self.report.problems)
        if error is not None and error not in problems:
            problems.append(error)
        state, code = self._verdict(problems, error, is_over=is_over)
        report = self.report
        if not (is_over or report.files or self.job.mode == "archive"):  # ended amid its attempt
            report = replace(report, files=self.watcher.files, size=self.watcher.size)
        return replace(
            self.outcome,
            ended_at=now_text(),
            state=state,
            exit_code=code if exit_code is None else exit_code,
            files=report.files,
            unchanged=report.unchanged,
            removed=report.removed,
            failed=len(problems),
            size=report.size,
            errors=tuple(self.around.error_json(one) for one in problems[:MAX_ERRORS]),
            notes=tuple(self.watcher.notes[:MAX_ERRORS]),
        )

    def _verdict(
        self, problems: list[EncvaultError], error: EncvaultError | None, *, is_over: bool
    ) -> tuple[str, int]:
        if isinstance(error, JobTimedOut):
            return "timeout", error.exit_code
        if error is None and not is_over:
            return "stopped", Stopped.exit_code
        found = worst(problems)
        if found is None:
            return "ok", 0
        if found.exit_code == _PARTIAL:
            return "partial", 0 if self.job.on_partial == "warn" else _PARTIAL
        return "skipped" if found.exit_code == _AWAY else "failed", found.exit_code

    def _end(self, outcome: Outcome) -> Outcome:
        """Run what comes after, and record how it ended; durable on return."""
        for failure in hooks.run_after(self.job, outcome, self.around.environment):
            self.watcher.problem(failure)
            outcome = self._worsened(outcome, failure)
        known = Known(outcome, outcome if outcome.is_good else self._known().success)
        if (reason := telling.write_metrics(self.job, known)) is not None:
            self.watcher.note(reason)
            outcome = replace(outcome, notes=(*outcome.notes, reason))
        try:
            self.records.end(outcome)
        except EncvaultError as error:
            self.watcher.problem(error)
            return self._worsened(outcome, error)
        if self.around.pings:
            self._note_failure(telling.ping_end(self.job, outcome))
        return outcome

    def _worsened(self, outcome: Outcome, error: EncvaultError) -> Outcome:
        """An outcome with one error more, which makes no other error look better."""
        errors = (*outcome.errors, self.around.error_json(error))[-MAX_ERRORS:]
        if outcome.exit_code != 0:
            return replace(outcome, errors=errors)
        state = "partial" if error.exit_code == _PARTIAL else "failed"
        return replace(outcome, errors=errors, exit_code=error.exit_code, state=state)


def _is_transient(error: EncvaultError) -> bool:
    """Whether it may have passed a little later; what is away is for another day."""
    return error.exit_code in _TRANSIENT and not isinstance(error, _LASTING)
