"""``encvault job list``, ``show``, ``status`` and ``logs``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from encvault.cli import ui
from encvault.cli.job.group import job_folders, state_of
from encvault.cli.job.journal import summary_text
from encvault.cli.options import json_option
from encvault.errors import EncvaultError, InvalidRequest, JobNotWell
from encvault.i18n import _
from encvault.jobs import finding
from encvault.jobs.records import Known, Records, moment, worst
from encvault.jobs.schedule import next_run
from encvault.jobs.values import duration, duration_text

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job
    from encvault.jobs.records import Outcome


_SLACK = timedelta(minutes=10)  # of a clock that is set right


def _shown(text: str) -> str:
    """A moment of the records by the machine's clock."""
    return moment(text).astimezone().strftime("%Y-%m-%d %H:%M")


@click.command("list", help=_("List the jobs that there are."))
@json_option
def list_command(*, as_json: bool) -> int:
    """See the command's help."""
    listed = finding.list_jobs(job_folders())
    if as_json:
        ui.show_json({"jobs": [_listed_json(one) for one in listed]})
    elif not listed:
        ui.message(_("there are no jobs"))
        ui.hint("encvault job new NAME")
    else:
        width = max(ui.cells(one.name) for one in listed) + 2
        for one in listed:
            ui.result(f"{ui.column(one.name, width)}{_what(one)}")
    for one in listed:
        if one.error is not None and not as_json:
            ui.message(str(one.error))
    error = worst([one.error for one in listed if one.error is not None])
    return 0 if error is None else error.exit_code


def _what(one: finding.Listed) -> str:
    if one.job is None:
        return _("{path}: not usable").format(path=one.path)
    job = one.job
    where = "" if job.mode == "in-place" else f" -> {job.place}"
    return f"{job.mode}  {_when(job)}  {', '.join(job.sources)}{where}"


def _when(job: Job) -> str:
    if job.trigger == "on-change":
        return _("on change")
    days = ",".join(job.schedule.days)
    return f"{days} {job.schedule.at}".strip()


def _listed_json(one: finding.Listed) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "path": one.path}
    if one.job is None:
        return found | {"error": None if one.error is None else ui.error_json(one.error)}
    return found | _job_json(one.job)


def _job_json(job: Job) -> dict[str, Any]:
    due = next_run(job.schedule, datetime.now().astimezone())
    return {
        "mode": job.mode,
        "sources": list(job.sources),
        "destination": job.destination,
        "drive": job.drive,
        "trigger": job.trigger,
        "next": due.isoformat() if job.trigger == "schedule" else None,
    }


@click.command(
    "show",
    help=_("Show what a job does, with everything that its file leaves out."),
)
@click.argument("name", metavar="NAME")
@json_option
def show_command(name: str, *, as_json: bool) -> int:
    """See the command's help."""
    job = finding.find_job(name, job_folders())
    facts = _facts(job)
    if as_json:
        ui.show_json(facts | {"next": _job_json(job)["next"]})
        return 0
    rows = [(key, _text(value)) for key, value in facts.items() if value not in (None, [], {})]
    if job.trigger == "schedule":
        rows.append(
            (_("next run"), f"{next_run(job.schedule, datetime.now().astimezone()):%Y-%m-%d %H:%M}")
        )
    ui.result_table(rows)
    return 0


def _facts(job: Job) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415 - only here

    times = ("timeout", "lock_wait", "retry_wait", "settle")
    facts: dict[str, Any] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(job).items()
    }
    facts |= {key: duration_text(getattr(job, key)) for key in times}
    facts["schedule"] = {
        "at": job.schedule.at,
        "days": list(job.schedule.days),
        "spread": duration_text(job.schedule.spread),
    }
    facts["secret"] = {key: _text(getattr(job.secret, key)) for key in job.secret.given}
    facts["hooks"] = [
        {"when": one.when, "run": list(one.run), "timeout": duration_text(one.timeout)}
        for one in job.hooks
    ]
    return facts


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(
            f"{key} = {_text(one)}" for key, one in value.items() if one not in (None, [])
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


@click.command(
    "status",
    help=_(
        "Show how the last run of each job ended, and when its work was last done.\n\n"
        "With --max-age it is a dead-man switch: 3 if a job has not done its work for longer, "
        "whatever the reason is."
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--max-age", metavar="TIME", help=_("Such as 26h: how old the work may be."))
@json_option
def status_command(names: tuple[str, ...], *, max_age: str | None, as_json: bool) -> int:
    """See the command's help."""
    try:
        limit = None if max_age is None else timedelta(seconds=duration(max_age))
    except ValueError as wrong:
        raise InvalidRequest(reason=f"--max-age: {wrong}") from None
    now = datetime.now(UTC)
    problems: list[EncvaultError] = []
    shown = []
    for listed in _named(names):
        error, known = listed.error, Known()
        if listed.job is not None:
            try:
                known = Records.of(listed.job, state_of(listed.job)).known()
                error = _not_well(listed.job, known, limit, now)
            except EncvaultError as unusable:
                error = unusable
        if error is not None:
            problems.append(error)
        shown.append(_status_json(listed.name, known, now, error))
        if not as_json:
            _show_status(listed.name, known)
            if error is not None:
                ui.fail(error)
    if as_json:
        ui.show_json({"jobs": shown})
    error = worst(problems)
    return 0 if error is None else error.exit_code


def _named(names: tuple[str, ...]) -> list[finding.Listed]:
    if not names:
        return finding.list_jobs(job_folders())
    found = []
    for name in names:
        job = finding.find_job(name, job_folders())
        found.append(finding.Listed(job.name, job.path, job))
    return found


def _not_well(
    job: Job, known: Known, limit: timedelta | None, now: datetime
) -> EncvaultError | None:
    """Why somebody should look at a job, or None."""
    name, last = job.name, known.last
    if job.trigger == "on-change" and last is not None and last.state == "running":
        return _not_well_watching(name, last)  # whether or not there was anything to do
    age = known.age(now)
    if known.success is not None and moment(known.success.ended_at) > now + _SLACK:
        text = _("its last success is in the future: the clock of the machine was wrong")
        return JobNotWell(name=name, reason=text)
    if limit is not None and age is None:
        return JobNotWell(name=name, reason=_("its work was never done"))
    if limit is not None and age is not None and age > limit:
        text = _("its work was last done {age} ago")
        return JobNotWell(
            name=name, reason=text.format(age=duration_text(age.total_seconds() // 60 * 60))
        )
    if limit is None and last is not None and not last.is_good and last.state != "running":
        return JobNotWell(name=name, reason=_("its last run did not do its work"))
    return None


def _not_well_watching(name: str, run: Outcome) -> EncvaultError | None:
    if not run.failed:
        return None
    text = _("{files} in the folder could not be sealed")
    return JobNotWell(name=name, reason=text.format(files=ui.count_text(run.failed)))


def _show_status(name: str, known: Known) -> None:
    if known.last is None:
        ui.result(_("{name}: never ran").format(name=name))
        return
    ui.result(f"{_shown(known.last.started_at)}  {summary_text(known.last)}")
    if known.success is not None and known.success.run != known.last.run:
        text = _("{name}: its work was last done at {time}")
        ui.result(text.format(name=name, time=_shown(known.success.ended_at)))


def _status_json(
    name: str, known: Known, now: datetime, error: EncvaultError | None
) -> dict[str, Any]:
    age = known.age(now)
    return {
        "job": name,
        "last": None if known.last is None else known.last.to_json(),
        "success": None if known.success is None else known.success.to_json(),
        "age_seconds": None if age is None else age.total_seconds(),
        "problem": None if error is None else ui.error_json(error),
    }


@click.command(
    "logs",
    help=_("Show the runs of a job, the latest last, with what went wrong."),
)
@click.argument("name", metavar="NAME")
@click.option("-n", "--lines", type=click.IntRange(min=1), default=20, help=_("So many runs."))
@json_option
def logs_command(name: str, *, lines: int, as_json: bool) -> int:
    """See the command's help."""
    job = finding.find_job(name, job_folders())
    records = Records.of(job, state_of(job))
    runs = records.history()
    last = records.known().last
    if last is not None and last.state in ("running", "interrupted"):
        runs.append(last)
    for run in runs[-lines:]:
        if as_json:
            ui.show_json(run.to_json())
            continue
        ui.result(f"{_shown(run.started_at)}  {summary_text(run)}")
        for error in run.errors:
            ui.result(f"    {error['message']}")
    return 0
