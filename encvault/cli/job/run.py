"""``encvault job run`` and ``encvault job notify``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from encvault.cli import ui
from encvault.cli.job.group import job_folders, state_of
from encvault.cli.job.journal import Lines
from encvault.cli.job.keys import prompter_of, refuse_root
from encvault.cli.options import json_option, quiet_option, yes_option
from encvault.errors import EncvaultError, InvalidRequest, JobOfAnother, NotTold
from encvault.i18n import _
from encvault.jobs import finding, telling
from encvault.jobs.records import Outcome, Records, now_text, worst_code
from encvault.jobs.running import Surroundings, run_job
from encvault.jobs.work import Means
from encvault.operations import DEFAULT_SUITE

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job


@click.command(
    "run",
    help=_(
        "Run jobs now, one after the other.\n\n"
        "Nothing is asked. The exit code is the worst of all jobs; how each ended is kept for: "
        "encvault job status"
    ),
)
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "is_all", is_flag=True, help=_("Every job that runs by the clock."))
@click.option("--no-ping", is_flag=True, help=_("Leave telling the service to: job notify"))
@click.option("--no-input", is_flag=True, help=_("Never ask. A job never does."))
@yes_option
@quiet_option
@json_option
def run_command(
    names: tuple[str, ...],
    *,
    is_all: bool,
    no_ping: bool,
    no_input: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """See the command's help."""
    del no_input  # said by units and crontabs, for who reads them
    if bool(names) == is_all:
        raise InvalidRequest(reason=_("say which jobs, or --all"))
    jobs, problems = _chosen(names)
    for error in problems:
        ui.fail(error)
    codes = [error.exit_code for error in problems]
    for job in jobs:
        try:
            refuse_root(job, "run")
        except JobOfAnother as error:  # and no run, of which something would be recorded there
            codes.append(ui.fail(error))
            continue
        outcome = _run(job, quiet=quiet or as_json, pings=not no_ping, yes=yes)
        if as_json:
            ui.show_json(outcome.to_json())
        codes.append(outcome.exit_code)
        if outcome.state == "stopped":
            break
    return worst_code(codes)


def _chosen(names: tuple[str, ...]) -> tuple[list[Job], list[EncvaultError]]:
    """The jobs that are meant, and what is wrong with others of them, which keeps no job."""
    jobs, problems = [], []
    if not names:
        for listed in finding.list_jobs(job_folders()):
            if listed.error is not None:
                problems.append(listed.error)
            elif listed.job is not None and listed.job.trigger == "schedule":
                jobs.append(listed.job)
        return jobs, problems
    for name in dict.fromkeys(names):
        try:
            jobs.append(finding.find_job(name, job_folders()))
        except EncvaultError as error:
            if len(names) == 1:
                raise
            problems.append(error)
    return jobs, problems


def _run(job: Job, *, quiet: bool, pings: bool, yes: bool) -> Outcome:
    lines = Lines(quiet=quiet)

    def means() -> Means:
        prompter = prompter_of(job, yes=yes)
        suite = prompter.defaults.suite or DEFAULT_SUITE
        return Means(prompter, prompter.defaults.register(state_of(job)), suite)

    around = Surroundings(means, state_of(job), os.environ, lines, ui.error_json, pings=pings)
    outcome = run_job(job, around)
    lines.summary(outcome, outcome.errors[0].get("hint") if outcome.errors else None)
    return outcome


@click.command(
    "notify",
    help=_(
        "Tell the service that a job is to ping how its last run ended.\n\n"
        "For the unit that install writes: the run itself has no network there."
    ),
)
@click.argument("name", metavar="NAME")
@quiet_option
def notify_command(name: str, *, quiet: bool) -> int:
    """See the command's help."""
    job = finding.find_job(name, job_folders())
    last = _last_of(job)
    if job.notify.ping_url is None or last is None or not last.ended_at:
        raise InvalidRequest(
            reason=_("{name} has no ping_url, or no run that ended").format(name=job.name)
        )
    if (reason := telling.ping_end(job, last)) is not None:
        raise NotTold(name=job.name, reason=reason)
    if not quiet:
        ui.message(_("told how {name} ended").format(name=job.name))
    return 0


def _last_of(job: Job) -> Outcome | None:
    """The run to tell of: that of the unit that has just ended, whether it left a record or not.

    Source: systemd.exec(5), ``$MONITOR_INVOCATION_ID`` and ``$MONITOR_EXIT_STATUS``.
    """
    last = Records.of(job, state_of(job)).known().last
    invocation = os.environ.get("MONITOR_INVOCATION_ID", "")
    if not invocation or (last is not None and last.invocation == invocation and last.ended_at):
        return last
    status = os.environ.get("MONITOR_EXIT_STATUS", "")
    code = int(status) if status.isdecimal() and int(status) else 1
    begun = replace(Outcome.begun(job.name), invocation=invocation)
    return replace(begun, ended_at=now_text(), state="failed", exit_code=code)
