"""``encvault job install`` and ``uninstall``: have systemd or cron run a job, or no more."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from encvault.cli import ui
from encvault.cli.job.group import COMMAND, job_folders
from encvault.cli.options import (
    config_dir,
    json_option,
    kept_variables,
    quiet_option,
    units_dir,
)
from encvault.errors import ServiceNotBegun
from encvault.i18n import _
from encvault.jobs import finding, installing, schedule
from encvault.jobs.installing import DEFAULT_USER, KINDS, Machine, Plan
from encvault.jobs.jobfile import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.jobs.installing import Kind
    from encvault.jobs.jobfile import Job
    from encvault.services import TextFile

Function = TypeVar("Function", bound="Callable[..., Any]")

_ROOT = "/"


def _kind_options(function: Function) -> Function:
    """``--system``, ``--user``, ``--cron``; the command gets a ``kind``, which may be None."""
    texts = {
        "system": _("As a service of the machine; so it is for jobs in /etc/encvault/jobs.d."),
        "user": _("As a service of yours; so it is for all other jobs."),
        "cron": _("By cron, where there is no systemd."),
    }
    for kind, text in reversed(texts.items()):
        function = click.option(f"--{kind}", "kind", flag_value=kind, help=text)(function)
    return function


@click.command(
    "install",
    help=_(
        "Have systemd run a job when it is due, or cron.\n\n"
        "What is written, and which commands are run, --print shows, and nothing else is done. "
        "Install a job again after its file has changed."
    ),
)
@click.argument("name", metavar="NAME")
@_kind_options
@click.option("--print", "is_shown", is_flag=True, help=_("Show what would be done; do nothing."))
@click.option(
    "--as",
    "user",
    metavar="USER",
    help=_("Who runs a job of the machine; encvault, if nothing is said."),
)
@click.option(
    "--read-all",
    is_flag=True,
    help=_("Let a service of the machine read files of all users (CAP_DAC_READ_SEARCH)."),
)
@quiet_option
@json_option
def install_command(
    *,
    name: str,
    kind: Kind | None,
    is_shown: bool,
    user: str | None,
    read_all: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """See the command's help."""
    job, machine = finding.find_job(name, job_folders()), _machine()
    if kind is None:
        kind = "system" if os.path.dirname(job.path) == finding.SYSTEM_FOLDER else "user"
    plan = installing.plan(job, kind, machine, user=user, read_all=read_all)
    if is_shown:
        _show(plan, as_json=as_json)
        return 0
    installing.check(job, plan, machine, user)
    try:
        installing.carry_out(plan)
    except ServiceNotBegun as error:
        if not as_json:
            raise
        ui.show_json(_plan_json(plan, begun=False))
        return ui.fail(error)
    if as_json:
        ui.show_json(_plan_json(plan, begun=True))
    if not quiet:
        _tell(job, plan, machine, user or DEFAULT_USER)
    return 0


@click.command(
    "uninstall",
    help=_(
        "Have a job run no more.\n\n"
        "Its file, what is recorded of its runs and what it has sealed stay. It is looked for "
        "everywhere, unless it is said where."
    ),
)
@click.argument("name", metavar="NAME")
@_kind_options
@quiet_option
@json_option
def uninstall_command(*, name: str, kind: Kind | None, quiet: bool, as_json: bool) -> int:
    """See the command's help."""
    # the file may be gone, of which only the name counts
    name = os.path.basename(name).removesuffix(SUFFIX)
    plans = installing.removals(name, KINDS if kind is None else (kind,), _machine())
    for plan in plans:
        installing.carry_out(plan)
        if not quiet:
            for file in plan.gone:
                ui.message(_("{path} is removed").format(path=file.path))
    if as_json:
        ui.show_json(
            {
                "files": [_file_json(file) for plan in plans for file in plan.gone],
                "commands": [list(command) for plan in plans for command in plan.commands],
                "begun": False,
            }
        )
    return 0


def _machine() -> Machine:
    return Machine(
        command=COMMAND,
        user_units=units_dir(),
        user_credentials=os.path.join(config_dir(), "credentials"),
        environment=kept_variables(),
        is_root=os.geteuid() == 0,
        root=_ROOT,
    )


def _show(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        ui.show_json(_plan_json(plan, begun=False))
        return
    for file in plan.gone:
        ui.verbatim(f"# {ui.harmless(file.path)}: removed\n\n")
    for file in plan.files:
        ui.verbatim(f"# {ui.harmless(file.path)}\n{file.text}\n")
    for command in plan.commands:
        ui.verbatim(f"{shlex.join(command)}\n")


def _tell(job: Job, plan: Plan, machine: Machine, user: str) -> None:
    for file in plan.gone:
        ui.message(_("{path} is removed").format(path=file.path))
    for file in plan.files:
        ui.message(_("{path} is written").format(path=file.path))
    if job.trigger == "on-change":
        ui.message(_("the job {name} watches from now on").format(name=job.name))
    else:
        due = schedule.next_run(job.schedule, datetime.now().astimezone())
        when = due.strftime("%Y-%m-%d %H:%M")
        ui.message(_("the job {name} runs next at {when}").format(name=job.name, when=when))
    for text in _worth_knowing(job, plan, machine, user):
        ui.hint(text)


def _worth_knowing(job: Job, plan: Plan, machine: Machine, user: str) -> Iterator[str]:
    """What people are surprised by when it is too late."""
    if machine.is_root and plan.kind != "user" and user != "root":
        command = shlex.join(["encvault", "job", "check", job.path, "--as", user])
        yield _("see whether it will work for the user {user}: {command}").format(
            user=user, command=command
        )
    if plan.kind == "cron":
        yield _("cron does not catch up on a run that was missed, and begins all at one minute")
    if plan.kind == "user" and not machine.lingers():
        yield _(
            "it runs only while you are logged in; to have it run always: loginctl enable-linger"
        )
    if plan.kind == "system" and not job.is_remote and (job.hooks or job.secret.password_command):
        yield _("the programs that the job runs have no network, and write only where the job does")


def _plan_json(plan: Plan, *, begun: bool) -> dict[str, Any]:
    return {
        "files": [_file_json(file) for file in plan.files],
        "removed": [_file_json(file) for file in plan.gone],
        "commands": [list(command) for command in plan.commands],
        "begun": begun,
    }


def _file_json(file: TextFile) -> dict[str, str]:
    return {"path": file.path, "text": file.text}
