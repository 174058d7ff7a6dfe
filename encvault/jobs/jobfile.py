"""A job file: TOML, read into a frozen dataclass. What its keys may be: `encvault.jobs.keys`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from encvault import config
from encvault.i18n import _
from encvault.jobs.keys import HOOK_KEYS, KEYS, PAGE, REQUIRED, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIZE = 1 << 20
SUFFIX = ".toml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Secret:
    """``[secret]``: where the one secret comes from, if there is one; to seal, none is needed.

    Attributes:
        password_file: whose first line is the password.
        password_command: a program that prints it, and its arguments.
        credential: name of a credential that systemd gives to the service.
        keyring: ask the desktop's keychain.
        identity_file: of an identity without a password.
    """

    password_file: str | None = None
    password_command: tuple[str, ...] = ()
    credential: str | None = None
    keyring: bool = False
    identity_file: str | None = None

    @property
    def given(self) -> list[str]:
        """The keys that say where it comes from."""
        return [name for name in self.__slots__ if getattr(self, name)]


@dataclass(frozen=True, slots=True)
class Schedule:
    """``[schedule]``: when it runs, by the clock of the machine.

    Attributes:
        at: ``HH:MM``.
        days: of the week; empty for all.
        spread: seconds by which it may begin later, so that not all machines begin at once.
    """

    at: str = "02:30"
    days: tuple[str, ...] = ()
    spread: float = 1800.0


@dataclass(frozen=True, slots=True)
class Notify:
    """``[notify]``: who is told how a run ended.

    Attributes:
        ping_url: is asked for at the start and the end, as healthchecks services have it.
        send_details: whether names and messages may be sent there.
        metrics: a file for the textfile collector of Prometheus.
    """

    ping_url: str | None = None
    send_details: bool = False
    metrics: str | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """``[[hooks]]``: a program that runs before or after.

    Attributes:
        when: ``before``, ``success``, ``failure`` or ``after``, which is both.
        run: the program and its arguments; no shell reads them.
        timeout: seconds.
    """

    when: str = ""
    run: tuple[str, ...] = ()
    timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One job; the fields are the keys of its file (docs/jobs.md), times are in seconds.

    Attributes:
        name: of the job: that of its file.
        path: of its file.
    """

    name: str = field(metadata={"is_key": False})
    path: str = field(metadata={"is_key": False})
    sources: tuple[str, ...]
    mode: str
    version: int = VERSION
    destination: str | None = None
    drive: str | None = None
    exclude: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    fingerprint: str | None = None
    suite: str | None = None
    hide_names: bool = False
    delete: bool = False
    keep: int = 14
    verify: str = "sample"
    remove_sources: bool = False
    timeout: float = 18_000.0
    lock_wait: float = 900.0
    retries: int = 2
    retry_wait: float = 300.0
    if_absent: str = "skip"
    on_partial: str = "fail"
    trigger: str = "schedule"
    settle: float = 10.0
    secret: Secret = field(default_factory=Secret)
    schedule: Schedule = field(default_factory=Schedule)
    notify: Notify = field(default_factory=Notify)
    hooks: tuple[Hook, ...] = ()

    @property
    def is_remote(self) -> bool:
        """Whether it goes to a server."""
        return self.destination is not None and "://" in self.destination

    @property
    def place(self) -> str:
        """Where it goes, as it is named to people."""
        if self.mode == "in-place":
            return self.sources[0]
        return self.destination or self.drive or ""


def is_name(name: str) -> bool:
    """Whether a job may be called so: its name is part of file names and of units."""
    return _NAME.fullmatch(name) is not None and not name.endswith(SUFFIX)


def parse_job(data: bytes, path: str) -> Job:
    """The job that a file describes.

    Args:
        data: its bytes.
        path: its absolute path; the job has the name of the file.

    Raises:
        ConfigMalformed: not TOML.
        UnknownSetting, InvalidSetting: a key or value that has no meaning, with its line.
    """
    file = config.TomlFile(data, path, page=PAGE, kind=Job)
    name = os.path.basename(path).removesuffix(SUFFIX)
    if not is_name(name):
        raise file.invalid((), _("a job's name has up to 64 of A-Z a-z 0-9 . _ -"))
    for key in REQUIRED:
        if key not in file.document:
            raise file.invalid((key,), _("is missing"))
    file.value(("version",), config.whole(VERSION, VERSION))
    found: dict[str, dict[str, Any]] = {"": {}, "schedule": {}, "secret": {}, "notify": {}}
    for one in KEYS:
        value = file.value(one.keys, one.kind.read)
        if value is not None:
            found[one.table][one.name] = value
    top = found[""]
    if "recipients" in top:
        folder = os.path.dirname(path)
        top["recipients"] = file.value(
            ("recipients",), lambda listed: config.recipients_in(folder, listed)
        )
    job = Job(
        name=name,
        path=path,
        secret=Secret(**found["secret"]),
        schedule=Schedule(**found["schedule"]),
        notify=Notify(**found["notify"]),
        hooks=tuple(_hooks(file)),
        **top,
    )
    _check(file, job)
    return job


def _hooks(file: config.TomlFile) -> Iterator[Hook]:
    for number in range(file.tables("hooks")):
        file.check_keys(file.document["hooks"][number], Hook, ("hooks", number))
        found = {}
        for one in HOOK_KEYS:
            keys = ("hooks", number, one.name)
            value = file.value(keys, one.kind.read)
            if value is not None:
                found[one.name] = value
            elif one.name != "timeout":
                raise file.invalid(keys, _("is missing"))
        yield Hook(**found)


def _check(file: config.TomlFile, job: Job) -> None:
    """Refuse what makes no sense together; a key that has no effect is a demand that is lost."""
    for key, is_wrong, reason in _contradictions(file, job):
        if is_wrong:
            raise file.invalid((key,), reason)


_IDLE_KEYS = {
    "in-place": ("destination", "drive", "delete", "remove_sources", "keep"),
    "mirror": ("keep",),
    "archive": ("hide_names", "delete", "fingerprint"),
}


def _contradictions(file: config.TomlFile, job: Job) -> Iterator[tuple[str, bool, str]]:
    said = file.document
    for key in _IDLE_KEYS[job.mode]:
        reason = _("has no effect where mode is {mode}").format(mode=job.mode)
        yield key, key in said, reason
    names = [os.path.basename(path) for path in job.sources]
    if job.mode != "in-place":
        key = "drive" if job.drive is not None else "destination"
        is_one = (job.destination is None) != (job.drive is None)
        yield key, not is_one, _("say either a destination or a drive")
        reason = _("two folders of one name do not fit into one destination")
        yield "sources", len(set(names)) < len(names), reason
    reason = _("a drive takes a mirror, into its own vault; for archives name a folder on it")
    yield "drive", job.drive is not None and job.mode == "archive", reason
    reason = _("is of one vault; make a job for each source")
    yield "fingerprint", job.fingerprint is not None and len(job.sources) > 1, reason
    is_full = job.verify == "full"
    yield "remove_sources", job.remove_sources and not is_full, _('needs verify = "full"')
    reason = _("would remove the copies as well, once the sources are removed")
    for key in ("delete", "keep"):
        yield key, key in said and bool(said[key]) and job.remove_sources, reason
    if job.trigger == "on-change":
        yield "trigger", job.mode != "in-place", _('on-change needs mode = "in-place"')
        yield "schedule", "schedule" in said, _("has no effect where trigger is on-change")
    else:
        yield "settle", "settle" in said, _("has an effect only where trigger is on-change")
    yield "secret", len(job.secret.given) > 1, _("say one source of a secret, not two")
    yield "timeout", job.timeout == 0, _("must be longer than nothing")
