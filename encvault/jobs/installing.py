"""Have systemd or cron run a job, and take that away again.

A `Plan` is made first and says everything: each file with its text, each command. To show it and to
carry it out are two things that are done with the same plan.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from encvault import services
from encvault.errors import (
    CronMissing,
    InvalidRequest,
    NotInstalled,
    ServiceTaken,
    ServiceUserBarred,
    ServiceUserMissing,
    ServiceUserShutOut,
    ServiceUserUnfit,
)
from encvault.i18n import _, system_reason
from encvault.jobs import crontab, finding, owners, units
from encvault.jobs.units import Host
from encvault.services import Change, TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from encvault.jobs.jobfile import Job

Kind = Literal["system", "user", "cron"]

KINDS: tuple[Kind, ...] = ("user", "cron", "system")
DEFAULT_USER = "encvault"
CRONTAB = "crontab"  # stands for the path of the user's table, which only its program knows
_UNITS = "etc/systemd/system"
_CRON = "etc/cron.d"
_STATE = f"{units.STATE_BASE}/encvault"
_CREDENTIALS = "/etc/credstore.encrypted/encvault"
_LINGER = "var/lib/systemd/linger"
_PATIENCE_S = 30.0
_PREFIX = "encvault-job-"
_CRON_USER = 5  # the field of the user in a line of /etc/cron.d, from 0
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}", re.ASCII)


class Machine(NamedTuple):
    """The machine that jobs are installed on, as who asks sees it.

    Attributes:
        command: how encvault is run: the interpreter, absolute, and its arguments.
        user_units: the folder of the user's own units.
        user_credentials: the folder of his credentials.
        environment: variables that a run of his needs to find what he finds.
        is_root: whether it is root who asks.
        root: the folder that the machine's own files are below.
    """

    command: tuple[str, ...]
    user_units: str
    user_credentials: str
    environment: Mapping[str, str]
    is_root: bool
    root: str = "/"

    def at(self, *names: str) -> str:
        """The path of one of the machine's own files."""
        return os.path.join(self.root, *names)

    def units_folder(self, kind: Kind) -> str:
        """Where units of a manager are."""
        return self.user_units if kind == "user" else self.at(_UNITS)

    def lingers(self) -> bool:
        """Whether units of this user run while he is not logged in."""
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return False
        return os.path.exists(self.at(_LINGER, name))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to install a job, or to take it away.

    Attributes:
        kind: who runs it.
        change: units or a file of cron, and commands.
        table: the user's whole new table of cron, or None if that is left alone.
        gone_lines: what is no longer in the table.
    """

    kind: Kind
    change: Change = field(default_factory=Change)
    table: str | None = None
    gone_lines: str = ""

    @property
    def files(self) -> tuple[TextFile, ...]:
        """What is written, whole."""
        table = () if self.table is None else (TextFile(CRONTAB, self.table),)
        return self.change.files + table

    @property
    def gone(self) -> tuple[TextFile, ...]:
        """What is removed."""
        lines = (TextFile(CRONTAB, self.gone_lines),) if self.gone_lines else ()
        return self.change.gone + lines

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """What is run; `CRONTAB` is what the last one reads."""
        return self.change.commands + (() if self.table is None else (crontab.REPLACE,))


# -- install --------------------------------------------------------------------------------


def plan(
    job: Job, kind: Kind, machine: Machine, *, user: str | None = None, read_all: bool = False
) -> Plan:
    """What installing a job does. Nothing is changed.

    Args:
        job: to run.
        kind: who begins it.
        machine: where.
        user: who runs it, where that is not who asks; None for `DEFAULT_USER`.
        read_all: whether it can read files of all users.

    Raises:
        InvalidRequest: it cannot be run so.
        ServiceTaken: a file that would be written is of something else.
        CronMissing, CrontabFailed: there is no cron, or it does not tell what it has.
    """
    is_own = kind == "user" or (kind == "cron" and not machine.is_root)
    if is_own and user is not None:
        raise InvalidRequest(reason=_("--as has no effect on what runs as yourself"))
    if read_all and kind != "system":
        raise InvalidRequest(reason=_("--read-all is only for services of the machine: --system"))
    if is_own:
        host = Host(machine.command, "", machine.environment, machine.user_credentials)
        return _units_plan(job, "user", machine, host) if kind == "user" else _table_plan(job, host)
    user = DEFAULT_USER if user is None else user
    if not _USER.fullmatch(user):
        raise InvalidRequest(reason=_("{user}: not the name of a user").format(user=user))
    for path, other in _users(job.name, machine):
        if other != user:
            # they share one log and one folder of records, which belong to one user
            reason = _("jobs of one machine run as one user; {path} has {other}: say --as {other}")
            raise InvalidRequest(reason=reason.format(path=path, other=other))
    state = {"XDG_STATE_HOME": units.STATE_BASE}
    host = Host(machine.command, user, state, _CREDENTIALS, read_all)
    if kind == "system":
        return _units_plan(job, "system", machine, host)
    return _cron_plan(job, machine, host)


def _units_plan(job: Job, manager: units.Manager, machine: Machine, host: Host) -> Plan:
    folder = machine.units_folder(manager)
    texts = units.units(job, manager, host)
    there = _own(job, [os.path.join(folder, name) for name in units.unit_names(job.name)])
    gone = [file for file in there if os.path.basename(file.path) not in texts]
    systemctl = _systemctl(manager)
    begins = units.begins(job)
    change = Change(
        before=_endings(systemctl, job.name, gone),
        gone=tuple(gone),
        files=tuple(TextFile(os.path.join(folder, name), texts[name]) for name in texts),
        after=(
            *(_gives(machine, host.user) if manager == "system" else ()),
            (*systemctl, "daemon-reload"),
            (*systemctl, "enable", begins),
            (*systemctl, "restart", begins),
        ),
    )
    return Plan(manager, change)


def _cron_plan(job: Job, machine: Machine, host: Host) -> Plan:
    folder, state = machine.at(_CRON), machine.at(_STATE.lstrip("/"))
    path = os.path.join(folder, units.cron_file_name(job.name))
    entry = units.cron_entry(job, host, names_user=True)
    if not os.path.isdir(folder):
        raise CronMissing(missing=folder, line=entry)
    _own(job, [path])
    text = f"{units.heading(job.name, job.path)}\n{entry}\n"
    # what systemd does for its services
    makes_state = ("install", "-d", "-m", "0750", "-o", host.user, state)
    after = (*_gives(machine, host.user), makes_state)
    return Plan("cron", Change(files=(TextFile(path, text),), after=after))


def _gives(machine: Machine, user: str) -> tuple[tuple[str, ...], ...]:
    """The command that gives a user what others made in the state folder, if there is any.

    A run by hand as root leaves it so. systemd does the same, but only as long as the folder itself
    is not the user's.
    """
    state = machine.at(_STATE.lstrip("/"))
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return ()  # which `check` says
    if next(owners.strays(state, uid), None) is None:
        return ()
    return (("chown", "-hRP", user, *owners.kept_in(state)),)


def _table_plan(job: Job, host: Host) -> Plan:
    entry = units.cron_entry(job, host, names_user=False)
    heading = units.heading(job.name, job.path)
    try:
        table = crontab.read()
    except FileNotFoundError:
        raise CronMissing(missing=crontab.READ[0], line=entry) from None
    before = crontab.block(table, job.name, units.heading_of(job.name))
    if before and not before.startswith(f"{heading}\n"):
        raise ServiceTaken(path=CRONTAB, job=job.path)
    after = f"{heading}\n{entry}\n{crontab.end_of(job.name)}\n"
    if before:
        return Plan("cron", table=table.replace(before, after))
    if table and not table.endswith("\n"):
        table += "\n"
    return Plan("cron", table=table + after)


def _own(job: Job, paths: Sequence[str]) -> list[TextFile]:
    """Those of some files that are there; all must be of this job."""
    found = services.existing(paths)
    for file in found:
        if not file.text.startswith(f"{units.heading(job.name, job.path)}\n"):
            raise ServiceTaken(path=file.path, job=job.path)
    return found


def _users(name: str, machine: Machine) -> Iterator[tuple[str, str]]:
    """Each file that has another job of the machine run, and as whom."""
    own = {units.service_name(name), units.cron_file_name(name)}
    for folder, prefix in ((machine.at(_UNITS), "User="), (machine.at(_CRON), "")):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        ours = [one for one in names if one.startswith(_PREFIX) and one not in own]
        for file in services.existing(os.path.join(folder, one) for one in ours):
            for line in file.text.splitlines():
                fields = line.split()
                if prefix and line.startswith(prefix):
                    yield file.path, line.removeprefix(prefix)
                elif not prefix and len(fields) > _CRON_USER and not line.startswith("#"):
                    yield file.path, fields[_CRON_USER]


def check(job: Job, plan: Plan, machine: Machine, user: str | None = None) -> None:
    """See whether who will run a job can run encvault, and read the job's file.

    Args:
        job: to run.
        plan: of its installation.
        machine: where.
        user: as for `plan`.

    Raises:
        ServiceUserMissing: the machine does not know him.
        ServiceUserUnfit: he cannot run encvault.
        ServiceUserBarred, ServiceUserShutOut: he cannot read the job's file.
    """
    own = pwd.getpwuid(os.geteuid())
    who = own
    if plan.kind == "system" or (plan.kind == "cron" and machine.is_root):
        try:
            who = pwd.getpwnam(user or DEFAULT_USER)
        except KeyError:
            raise ServiceUserMissing(user=user or DEFAULT_USER) from None
    if who != own and not machine.is_root:
        return  # who is not root cannot see it, and will not be let write either
    check_program(machine.command, who)
    check_file(job, who)


def check_program(command: Sequence[str], who: pwd.struct_passwd) -> None:
    """See whether a user can run encvault.

    Raises:
        ServiceUserUnfit: he cannot.
    """
    if (reason := _fails([*command, "--version"], who)) is not None:
        raise ServiceUserUnfit(user=who.pw_name, path=command[0], reason=reason)


def check_file(job: Job, who: pwd.struct_passwd) -> None:
    """See whether a user can read a job's file.

    Raises:
        ServiceUserBarred: he cannot.
        ServiceUserShutOut: he could not, whatever the modes of the file are.
    """
    if _fails(["test", "-r", job.path], who) is None:
        return
    folder = ""
    for name in job.path.split(os.sep)[:-1]:
        folder += name + os.sep
        if _fails(["test", "-x", folder], who) is not None:
            raise ServiceUserShutOut(
                user=who.pw_name,
                folder=os.path.dirname(folder),
                path=job.path,
                name=job.name,
                place=os.path.join(finding.SYSTEM_FOLDER, os.path.basename(job.path)),
            )
    group = grp.getgrgid(who.pw_gid).gr_name
    raise ServiceUserBarred(user=who.pw_name, group=group, path=job.path)


def _fails(command: Sequence[str], who: pwd.struct_passwd) -> str | None:
    """Run something as a user, as bare as a service; why it failed, or None."""
    other: dict[str, Any] = {}
    if who.pw_uid != os.geteuid():
        groups = os.getgrouplist(who.pw_name, who.pw_gid)
        other = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": groups}
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
            env={"HOME": who.pw_dir, "PATH": os.defpath},
            timeout=_PATIENCE_S,
            **other,
        )
    except OSError as error:
        return system_reason(error)
    except subprocess.TimeoutExpired:
        return _("no answer in {seconds} seconds").format(seconds=int(_PATIENCE_S))
    told = done.stderr.decode(errors="replace").strip().splitlines()
    return None if done.returncode == 0 else (told[-1] if told else f"{done.returncode}")


# -- uninstall ------------------------------------------------------------------------------


def removals(name: str, kinds: Sequence[Kind], machine: Machine) -> list[Plan]:
    """What takes a job away again, wherever it is installed. Nothing is changed.

    A run that is at work ends by itself, and what it has sealed stays.

    Args:
        name: of the job; its file may be gone.
        kinds: where it is looked for.
        machine: where.

    Raises:
        NotInstalled: nothing is there.
        CrontabFailed: the user's table cannot be read, or is not as it was written.
    """
    found = [one for kind in kinds if (one := _removal(name, kind, machine)) is not None]
    if not found:
        raise NotInstalled(name=name)
    return found


def _removal(name: str, kind: Kind, machine: Machine) -> Plan | None:
    if kind == "cron" and not machine.is_root:
        return _table_removal(name)
    if kind == "cron":
        paths = [machine.at(_CRON, units.cron_file_name(name))]
    else:
        folder = machine.units_folder(kind)
        paths = [os.path.join(folder, one) for one in units.unit_names(name)]
    gone = tuple(
        file for file in services.existing(paths) if file.text.startswith(units.heading_of(name))
    )
    if not gone:
        return None
    if kind == "cron":
        return Plan("cron", Change(gone=gone))
    systemctl = _systemctl(kind)
    before = _endings(systemctl, name, gone)
    return Plan(kind, Change(before=before, gone=gone, after=((*systemctl, "daemon-reload"),)))


def _table_removal(name: str) -> Plan | None:
    try:
        table = crontab.read()
    except FileNotFoundError:
        return None
    lines = crontab.block(table, name, units.heading_of(name))
    if not lines:
        return None
    return Plan("cron", table=table.replace(lines, ""), gone_lines=lines)


# -- both -----------------------------------------------------------------------------------


def carry_out(plan: Plan) -> None:
    """Do what a plan says; durable on return.

    Raises:
        EncvaultError: a file cannot be written or removed.
        CrontabFailed: the table is what it was.
        ServiceNotBegun, ServiceNotEnded: systemd did not do its part.
    """
    if plan.table is not None:
        crontab.replace(plan.table)
    services.carry_out(plan.change)


def _systemctl(manager: units.Manager) -> tuple[str, ...]:
    return ("systemctl",) if manager == "system" else ("systemctl", "--user")


def _endings(
    systemctl: tuple[str, ...], name: str, gone: Sequence[TextFile]
) -> tuple[tuple[str, ...], ...]:
    """The commands that have systemd begin a job no more, whose units are taken away."""
    names = [os.path.basename(file.path) for file in gone]
    enabled = [file for file in names if file != units.notifier_name(name)]
    # the service of a timer is not enabled, and a run of it may be at work
    ended = [one for one in (units.timer_name(name),) if one in enabled] or enabled
    return tuple((*systemctl, "disable", "--now", one) for one in ended)
