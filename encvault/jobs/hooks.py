"""Programs that run before and after a job. No shell reads them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

from encvault.errors import HookFailed, RunRefused, RunSkipped
from encvault.i18n import _, system_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from encvault.jobs.jobfile import Hook, Job
    from encvault.jobs.records import Outcome

_SKIP = 75  # EX_TEMPFAIL, as borgmatic has it
_READ = 4096  # bytes of the end of what a program says
_SHOWN = 300  # characters of what a program says


def run_before(job: Job, environment: Mapping[str, str]) -> None:
    """Run what is to run first; the first that does not succeed decides.

    Raises:
        RunSkipped: it ended with 75.
        RunRefused: it failed.
    """
    for hook in job.hooks:
        if hook.when != "before":
            continue
        code, reason = _run(hook, {**environment, "ENCVAULT_JOB": job.name})
        if code == _SKIP:
            raise RunSkipped(command=hook.run[0])
        if reason:
            raise RunRefused(command=hook.run[0], reason=reason)


def run_after(job: Job, outcome: Outcome, environment: Mapping[str, str]) -> Iterator[HookFailed]:
    """Run what is to run at the end, each whatever became of the others; those that failed."""
    wanted = {"after", "success" if outcome.is_good else "failure"}
    if outcome.state == "skipped":
        wanted = {"after"}  # for the day when it is not away
    told = {
        "ENCVAULT_JOB": job.name,
        "ENCVAULT_STATE": outcome.state,
        "ENCVAULT_EXIT_CODE": str(outcome.exit_code),
        "ENCVAULT_ARCHIVE": outcome.archive,
    }
    for hook in job.hooks:
        if hook.when in wanted:
            _code, reason = _run(hook, {**environment, **told})
            if reason:
                yield HookFailed(command=hook.run[0], reason=reason)


def _run(hook: Hook, environment: Mapping[str, str]) -> tuple[int, str]:
    """Its exit code, and why it failed, or ""."""
    with _place() as told:  # no pipe: what it leaves running would hold it open
        return _run_telling(hook, environment, told)


def _place() -> IO[bytes]:
    """Where a program tells what it has to say; nowhere on a full disk, which may be its news."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "w+b")


def _run_telling(hook: Hook, environment: Mapping[str, str], told: IO[bytes]) -> tuple[int, str]:
    try:
        done = subprocess.run(  # noqa: S603 - the administrator's own program, and no shell
            hook.run,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=told,
            env=dict(environment),
            check=False,
            timeout=hook.timeout,
        )
    except OSError as error:
        return 1, system_reason(error)
    except subprocess.TimeoutExpired:
        return 1, _("not done in {seconds} seconds").format(seconds=int(hook.timeout))
    except ValueError:  # what no program can be called with
        return 1, _("it cannot be run")
    if done.returncode == 0:
        return 0, ""
    reason = _("it ended with code {code}").format(code=done.returncode)
    told.seek(max(0, told.seek(0, os.SEEK_END) - _READ))
    said = told.read(_READ).decode(errors="replace").strip().splitlines()
    return done.returncode, f"{reason}: {said[-1][:_SHOWN]}" if said else reason
