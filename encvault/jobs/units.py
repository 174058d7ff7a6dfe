"""The units that have systemd run a job, and the line that has cron run it: texts only.

A run gets the fewest rights that its job can do with: it reads everything that its user may, writes
where the job writes, and reaches no network unless the destination is there. Whoever waits for news
of it is told by a unit of its own, which has the network and no secret. systemd.exec(5),
systemd.service(5), systemd.timer(5) as of systemd 252; crontab(5).
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Literal, NamedTuple

from encvault.errors import InvalidRequest
from encvault.i18n import _
from encvault.jobs import schedule
from encvault.services import command_line, literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from encvault.jobs.jobfile import Job

Manager = Literal["system", "user"]

STATE_BASE = "/var/lib"  # of the machine's jobs; what they keep is in encvault/ there
_TEMPORARY = ("/tmp/", "/var/tmp/")  # noqa: S108 - nothing is made there
_SLACK_S = 300  # by which systemd is more patient than the job itself
_LONGEST_COMMAND = 900  # bytes; Debian's cron passes over one of more than 998
_EXIT_SKIPPED, _EXIT_TERMINATED = 75, 143


class Host(NamedTuple):
    """How programs of jobs are run here.

    Attributes:
        command: encvault: the interpreter, absolute, and its arguments.
        user: who the machine's jobs run as; without a meaning for units of a user.
        environment: variables that a run needs to find what the command line found.
        credentials: the folder of credentials.
        read_all: whether files of all users can be read.
    """

    command: tuple[str, ...]
    user: str
    environment: Mapping[str, str]
    credentials: str
    read_all: bool = False


# -- names ----------------------------------------------------------------------------------


def service_name(name: str) -> str:
    """The unit that runs a job."""
    return f"encvault-job-{name}.service"


def timer_name(name: str) -> str:
    """The unit that begins it."""
    return f"encvault-job-{name}.timer"


def notifier_name(name: str) -> str:
    """The unit that tells of it; no other job's unit can have this name, whatever it is called."""
    return f"encvault-notify-{name}.service"


def unit_names(name: str) -> tuple[str, ...]:
    """Every unit that a job may have."""
    return service_name(name), timer_name(name), notifier_name(name)


def cron_file_name(name: str) -> str:
    """Its file in ``/etc/cron.d``, where cron passes over names with a dot."""
    return f"encvault-job-{name.replace('.', '_')}"


def heading(name: str, path: str) -> str:
    """The first line of each file: of which job it is."""
    return f"{heading_of(name)}{path}"


def heading_of(name: str) -> str:
    """What the first line begins with, whichever file describes the job."""
    return f"# encvault job {name}: "


# -- units ----------------------------------------------------------------------------------

# what user managers can do as well: they have no rights to set up file systems of their own
_LIMITS = f"""\
UMask=0077
LimitCORE=0
MemorySwapMax=0
Nice=10
IOSchedulingClass=idle
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# an error that the program handles, instead of its end
SystemCallErrorNumber=EPERM
KillMode=mixed
TimeoutStopSec=90
# a run that was put off is no failure
SuccessExitStatus={_EXIT_SKIPPED}
"""

# ProcSubset=pid is left out: the access log records which boot of the machine an entry is of
_SANDBOX = """\
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
KeyringMode=private
"""

_OFFLINE = "RestrictAddressFamilies=AF_UNIX\n"
_ONLINE = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n"


def units(job: Job, manager: Manager, host: Host) -> dict[str, str]:
    """The text of each unit of a job, by its name; the one to enable is `begins`.

    Raises:
        InvalidRequest: the job has something that a unit of this manager cannot have.
    """
    if job.secret.keyring and manager == "system":
        raise _keychainless()
    found = {service_name(job.name): _service(job, manager, host)}
    if job.trigger == "schedule":
        found[timer_name(job.name)] = _timer(job)
    if job.notify.ping_url is not None:
        found[notifier_name(job.name)] = _notifier(job, manager, host)
    return found


def begins(job: Job) -> str:
    """The unit that is enabled, and begins the others."""
    return timer_name(job.name) if job.trigger == "schedule" else service_name(job.name)


def _service(job: Job, manager: Manager, host: Host) -> str:
    return "".join(
        [
            f"{heading(job.name, job.path)}\n",
            "# it is written anew by encvault job install; what you add belongs into a drop-in:\n",
            f"# systemctl {'--user ' * (manager == 'user')}edit {service_name(job.name)}\n",
            "[Unit]\n",
            f"Description=encvault: the job {job.name}\n",
            *_order(job, manager),
            *_news(job),
            "\n[Service]\n",
            *_what_runs(job, host),
            *_who(manager, host),
            *_credential(job, manager, host),
            "# programs of the job, such as [[hooks]], have no more rights than these\n",
            _LIMITS,
            *(_rights(job, host) if manager == "system" else ()),
            _ONLINE if job.is_remote else _OFFLINE,
            *_installed(job, manager),
        ]
    )


def _order(job: Job, manager: Manager) -> Iterator[str]:
    if manager == "user":
        return  # user managers know nothing of mounts and the network
    # a run that was missed is caught up at boot, when shares may not be there yet
    yield "After=remote-fs.target\n"
    if job.is_remote:
        yield "Wants=network-online.target\nAfter=network-online.target\n"


def _news(job: Job) -> Iterator[str]:
    if job.notify.ping_url is None:
        return
    if job.trigger == "schedule":
        yield f"OnSuccess={notifier_name(job.name)}\n"  # of a watch it is the end of the session
    yield f"OnFailure={notifier_name(job.name)}\n"


def _what_runs(job: Job, host: Host) -> Iterator[str]:
    if job.trigger == "on-change":
        words = [*host.command, "job", "watch", job.path]
        yield f"Type=exec\nExecStart={command_line(words)}\n"
        yield "Restart=on-failure\nRestartSec=30\n"
        yield "# what does not pass by itself would only fail again\n"
        yield "RestartPreventExitStatus=2 69 77 78\n"
        yield f"SuccessExitStatus={_EXIT_TERMINATED}\n"
        return
    words = [*host.command, "job", "run", job.path, "--no-input", "--no-ping"]
    yield f"Type=oneshot\nExecStart={command_line(words)}\n"
    yield "# the job ends itself before, and then says why\n"
    yield f"TimeoutStartSec={patience_s(job)}\n"


def patience_s(job: Job) -> int:
    """Seconds after which systemd ends a run that does not end itself."""
    return int(job.timeout + job.lock_wait + sum(hook.timeout for hook in job.hooks)) + _SLACK_S


def _who(manager: Manager, host: Host) -> Iterator[str]:
    if manager == "system":
        yield f"User={host.user}\n"
        yield "StateDirectory=encvault\nStateDirectoryMode=0750\n"
    for name, value in host.environment.items():
        yield f"Environment={quoted(f'{name}={value}')}\n"


def _credential(job: Job, manager: Manager, host: Host) -> Iterator[str]:
    if job.secret.credential is None:
        return
    name = job.secret.credential
    # systemd 252 decrypts credentials for the machine's own services only
    key = "LoadCredentialEncrypted" if manager == "system" else "LoadCredential"
    yield f"{key}={name}:{literal(os.path.join(host.credentials, name))}\n"


def _rights(job: Job, host: Host) -> Iterator[str]:
    yield _SANDBOX
    yield _private_tmp(job, host)
    if not job.is_remote:
        yield "PrivateNetwork=yes\n"
    if host.read_all:
        yield "AmbientCapabilities=CAP_DAC_READ_SEARCH\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"
    else:
        yield "CapabilityBoundingSet=\n"
    if job.drive is not None:
        yield (
            "# where a drive will be mounted is not known before; what is mounted or unmounted\n"
            "# meanwhile is so for the job as well, which keeps no drive busy by that\n"
            "ReadWritePaths=-/media -/run/media -/mnt\n"
        )
    for path in _written(job):
        # what is missing the job itself can tell better than systemd
        yield f"ReadWritePaths={quoted('-' + path)}\n"


def _written(job: Job) -> Iterator[str]:
    if job.mode == "in-place" or job.remove_sources:
        yield from job.sources
    if job.destination is not None and not job.is_remote:
        yield job.destination
    if job.notify.metrics is not None:
        yield os.path.dirname(job.notify.metrics)


def _private_tmp(job: Job, host: Host) -> str:
    read = [job.path, host.command[0], *job.sources]
    read += filter(None, (job.secret.password_file, job.secret.identity_file))
    named = (path for way in (*read, *_written(job)) for path in (way, os.path.realpath(way)))
    if any(f"{path}/".startswith(_TEMPORARY) for path in named):
        return "# PrivateTmp=yes would hide what the job has in /tmp or /var/tmp\n"
    return "PrivateTmp=yes\n"


def _installed(job: Job, manager: Manager) -> Iterator[str]:
    if job.trigger == "on-change":
        target = "multi-user.target" if manager == "system" else "default.target"
        yield f"\n[Install]\nWantedBy={target}\n"


def _timer(job: Job) -> str:
    return f"""\
{heading(job.name, job.path)}
[Unit]
Description=encvault: when the job {job.name} runs

[Timer]
OnCalendar={schedule.calendar(job.schedule)}
RandomizedDelaySec={int(job.schedule.spread)}
FixedRandomDelay=true
# a run that was missed is caught up, as much later as the delay is
Persistent=true

[Install]
WantedBy=timers.target
"""


def _notifier(job: Job, manager: Manager, host: Host) -> str:
    return "".join(
        [
            f"{heading(job.name, job.path)}\n",
            "[Unit]\n",
            f"Description=encvault: tell how the job {job.name} ended\n",
            "\n[Service]\nType=oneshot\n",
            f"ExecStart={command_line([*host.command, 'job', 'notify', job.path])}\n",
            "TimeoutStartSec=120\n",
            *_who(manager, host),
            _LIMITS,
            *(_readers_rights(job, host) if manager == "system" else ()),
            _ONLINE,
        ]
    )


def _readers_rights(job: Job, host: Host) -> tuple[str, ...]:
    return _SANDBOX, _private_tmp(job, host), "CapabilityBoundingSet=\n"


# -- cron -----------------------------------------------------------------------------------


def cron_entry(job: Job, host: Host, *, names_user: bool) -> str:
    """The line of a table that runs a job.

    It says nothing if all is well or the run is put off, so that a mail means that there is
    something to do.

    Args:
        job: to run.
        host: where; of it the command, the user and the environment.
        names_user: whether lines of this table say who runs them.

    Raises:
        InvalidRequest: the job has something that cron cannot give it.
    """
    if job.trigger != "schedule":
        raise InvalidRequest(reason=_("cron keeps nothing running, and trigger is on-change"))
    if job.secret.credential is not None:
        raise InvalidRequest(reason=_("a credential comes from systemd, and cron has none"))
    if job.secret.keyring:
        raise _keychainless()
    words = [*host.command, "job", "run", job.path, "--no-input", "--quiet"]
    variables = [f"{name}={shlex.quote(value)}" for name, value in host.environment.items()]
    command = " ".join([*variables, shlex.join(words)])
    literal(command)  # what a unit cannot have in it a table cannot either
    # crons differ in what they make of a backslash before another, or before a percent sign
    if "\\" in command:
        raise InvalidRequest(reason=_("cron takes no paths with a backslash"))
    command = command.replace("%", "\\%")
    if len(command.encode()) > _LONGEST_COMMAND:
        raise InvalidRequest(
            reason=_("cron takes no command of more than {size} bytes").format(
                size=_LONGEST_COMMAND
            )
        )
    fields = [schedule.cron(job.schedule), *([host.user] if names_user else []), command]
    return " ".join(fields)


def _keychainless() -> InvalidRequest:
    return InvalidRequest(
        reason=_("the desktop's keychain is only there for units of a user: say --user")
    )
