"""The access log: what keeps it from being written, and what a check of it finds."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.i18n import N_


class AccessLogError(EncvaultError):
    """Something is wrong with the access log."""

    exit_code = 74
    message = N_("the access log cannot be used")


class LogUnavailable(AccessLogError):
    """An event could not be made durable."""

    message = N_("the access log {path} cannot be written: {reason}")
    advice = N_("nothing is opened that is not recorded; see: encvault doctor")
    path: str
    reason: str


class LogDamaged(AccessLogError):
    """The log is not what was signed, so nothing is added to it."""

    message = N_("the access log {path} is damaged: {reason}")
    advice = N_(
        "check it: encvault log verify; keep it, and begin a new one: mv {path} {path}.damaged"
    )
    path: str
    reason: str


class LogBusy(AccessLogError):
    """Another process writes to the log for too long."""

    exit_code = 75
    message = N_("the access log {path} is in use")
    advice = N_("try again; if it stays so, a program that writes to it hangs")
    path: str


class LogExhausted(AccessLogError):
    """The log has no key for this day."""

    exit_code = 78
    message = N_("the access log {path} has keys for days up to {last}, and the clock says {today}")
    advice = N_("set the clock, or keep the log and begin a new one: mv {path} {path}.full")
    path: str
    last: str
    today: str


class ClockWrong(AccessLogError):
    """The clock says what cannot be, and days that are closed stay closed."""

    exit_code = 78
    message = N_("the clock says {today}, and nothing is recorded in {path} under such a day")
    advice = N_(
        "set the clock; if it is right, keep the log and begin a new one: mv {path} {path}.old"
    )
    path: str
    today: str


class NoAccessLog(AccessLogError):
    """There is no log to read."""

    exit_code = 66
    message = N_("there is no access log in {path}")
    advice = N_("it begins with the first access; begin it now: encvault log init")
    path: str


class NoSuchEntry(AccessLogError):
    """The log has no entry like that."""

    exit_code = 66
    message = N_("the access log has no entry {what}")
    advice = N_("see: encvault log show")
    what: str


class KeyOfAnotherDay(AccessLogError):
    """A proof is signed with a key that cannot vouch for the entry."""

    exit_code = 65
    message = N_("{place}: an entry of {recorded}, signed with the key of {signed}")
    advice = N_("ask for another proof; who has the key of a later day could have made this one")
    place: str
    recorded: str
    signed: str


class LogTampered(AccessLogError):
    """The log is not what was signed."""

    exit_code = 65
    message = N_("the access log {path} was changed: TAMPERED")
    advice = N_("keep it as it is, and what you checked it with: docs/audit.md")
    path: str


class LogUnanchored(AccessLogError):
    """Nothing from outside the machine says that the log is whole."""

    exit_code = 3
    message = N_("nothing from elsewhere was given that shows that the log is whole")
    advice = N_("keep checkpoints elsewhere: encvault log anchor; give them: --anchor FILE")


class LogUnverifiable(AccessLogError):
    """What is needed to check the log is missing."""

    exit_code = 78
    message = N_("the access log {path} cannot be verified: {reason}")
    path: str
    reason: str


class ReportUnavailable(EncvaultError):
    """A report was asked for, and a library that draws it is not installed."""

    exit_code = 69
    message = N_("a report cannot be made without {package}")
    advice = N_("install it with: pip install 'encvault[report]'")
    package: str
