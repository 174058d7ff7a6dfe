"""What runs by itself: services of systemd, and what cron begins."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.usage import ConfigError
from encvault.i18n import N_


class ServiceError(EncvaultError):
    """What begins programs on this machine did not do what it was asked for."""

    exit_code = 69
    message = N_("nothing runs by itself here")


class ServiceNotBegun(ServiceError):
    """A service was written, and systemd did not begin it."""

    message = N_("{path} is written, and not begun: {reason}")
    advice = N_("begin it with: {commands}")
    path: str
    reason: str
    commands: str


class ServiceNotEnded(ServiceError):
    """A service was removed, and systemd did not hear of it."""

    message = N_("{path} is removed, and systemd still has it: {reason}")
    advice = N_("end it with: {commands}")
    path: str
    reason: str
    commands: str


class CronMissing(ServiceError):
    """There is no cron to begin anything."""

    message = N_("cron is not installed: there is no {missing}")
    advice = N_("install it and run the same command again; the line is: {line}")
    missing: str
    line: str


class CrontabFailed(ServiceError):
    """The user's table of cron could not be read or replaced; it is what it was."""

    message = N_("crontab: {reason}")
    advice = N_("see what it has with: crontab -l")
    reason: str


class NotInstalled(ServiceError):
    """What is to be taken away was never put there, or by somebody else."""

    exit_code = 66
    message = N_("the job {name} is not installed")
    advice = N_(
        "see the jobs with: encvault job list; install it with: encvault job install {name}"
    )
    name: str


class ServiceTaken(ServiceError):
    """A file has the name of one that is to be written, and is of something else."""

    exit_code = 73
    message = N_("{path}: is there, and not of the job {job}")
    advice = N_("look at its first line; if it is of no use any more, remove it, or move it away")
    path: str
    job: str


class ServiceUserMissing(ConfigError):
    """A service is to run as a user whom the machine does not know."""

    message = N_("there is no user {user} on this machine")
    advice = N_(
        "make it with: useradd --system --home-dir /var/lib/encvault --no-create-home "
        "--shell /usr/sbin/nologin {user}; or name another with --as"
    )
    user: str


class ServiceUserBarred(ConfigError):
    """The user of a service may not read what it has to."""

    message = N_("the user {user} cannot read {path}")
    advice = N_("let its group read it: chgrp {group} {path} && chmod g+r {path}")
    user: str
    group: str
    path: str


class ServiceUserShutOut(ConfigError):
    """The file of a job is in a folder that the user of its service may not enter."""

    message = N_("the user {user} cannot enter {folder}, and {path} is in it")
    advice = N_(
        "make it a job of the machine: encvault job new --system {name}; "
        "or move its file: install -D -m 644 {path} {place} && rm {path}"
    )
    user: str
    folder: str
    path: str
    name: str
    place: str


class ServiceUserUnfit(ConfigError):
    """The user of a service cannot run encvault as it is installed."""

    message = N_("the user {user} cannot run {path} -m encvault: {reason}")
    advice = N_(
        "install encvault where every user can run it, such as below /opt, and use that one"
    )
    user: str
    path: str
    reason: str
