"""Whether a job would work tonight: looked at as the user who will run it, before it has to.

Nothing is sealed. A file is written to the destination and removed again, for nothing else shows
what may be written there.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from encvault.errors import (
    EncvaultError,
    InvalidRequest,
    JobRecordsUnusable,
    NotAVault,
    SourceMissing,
)
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.jobs import finding, owners
from encvault.jobs.destinations import base_of, check_in_place, mirror_of, shelf_of
from encvault.jobs.records import Records
from encvault.jobs.schedule import next_run
from encvault.jobs.sending import probe, spool_of
from encvault.vault.manifest import new_id
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from encvault.jobs.jobfile import Job
    from encvault.operations.prompter import Prompter

Level = Literal["ok", "warning", "failed"]


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: was looked at: ``file``, ``program``, ``records``, ``source``, ``keys``,
            ``destination``, ``vault``, ``hook``, ``metrics`` or ``schedule``.
        level: whether it is right.
        text: what was found.
        error: what would fail, or None.
    """

    what: str
    level: Level
    text: str
    error: EncvaultError | None = None


def check_job(
    job: Job,
    prompter: Callable[[], Prompter],
    state_dir: str,
    register_path: Callable[[], str],
    now: datetime,
    command: Sequence[str] = (),
) -> Iterator[Finding]:
    """Look at everything that a run needs.

    Args:
        job: which.
        prompter: makes who has its keys, or raises what is missing.
        state_dir: local state folder.
        register_path: of the company's drives.
        now: aware, in the machine's zone.
        command: how encvault is run, to see whether this user can; () where he has just done it.
    """
    if command:
        yield from _rights(job, command)
    yield _records(job, state_dir)
    for source in job.sources:
        yield _source(source)
    try:
        answers = prompter()
        yield _keys(job, answers)
    except EncvaultError as error:
        yield _failed("keys", error)
        return
    yield from _destination(job, answers, state_dir, register_path)
    for hook in job.hooks:
        yield _hook(hook.run[0])
    if job.notify.metrics is not None:
        yield _writable("metrics", os.path.dirname(job.notify.metrics))
    if job.trigger == "schedule":
        due = next_run(job.schedule, now).strftime("%Y-%m-%d %H:%M %Z")
        yield Finding("schedule", "ok", _("is due next at {time}").format(time=due))


def _failed(what: str, error: EncvaultError) -> Finding:
    return Finding(what, "failed", str(error), error)


def _rights(job: Job, command: Sequence[str]) -> Iterator[Finding]:
    """Whether this user can do what who asked has just done: run encvault, read the job's file."""
    import pwd  # noqa: PLC0415 - POSIX only

    from encvault.jobs import installing  # noqa: PLC0415 - likewise

    who = pwd.getpwuid(os.geteuid())
    try:
        installing.check_program(command, who)
    except EncvaultError as error:
        yield _failed("program", error)
    else:
        yield Finding("program", "ok", _("{path} can be run").format(path=command[0]))
    try:
        installing.check_file(job, who)
    except EncvaultError as error:
        yield _failed("file", error)
    else:
        yield Finding("file", "ok", _("{path} can be read").format(path=job.path))


def _records(job: Job, state_dir: str) -> Finding:
    folder = Records.of(job, state_dir).folder
    try:
        owners.check(state_dir, folder)
    except EncvaultError as error:
        return _failed("records", error)
    there = folder
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    if os.access(there, os.W_OK | os.X_OK):
        return Finding("records", "ok", _("{path} can be written to").format(path=folder))
    if state_dir == finding.SYSTEM_STATE:
        text = _("{path} is made by encvault job install").format(path=state_dir)
        return Finding("records", "warning", text)
    reason = system_reason(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return _failed("records", JobRecordsUnusable(path=folder, reason=reason))


def _source(path: str) -> Finding:
    try:
        with os.scandir(path) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        return _failed("source", SourceMissing(path=path))
    except OSError as error:
        return _failed("source", storage_error(error, path, reading=True))
    if is_empty:
        return Finding("source", "warning", _("{path} is empty").format(path=path))
    return Finding("source", "ok", _("{path} can be read").format(path=path))


def _keys(job: Job, prompter: Prompter) -> Finding:
    given = prompter.given_recipients()
    if job.secret.given:
        prompter.identities(job.place)
    if job.secret.keyring:
        text = _("the keychain answers now; it has to be unlocked when the job runs as well")
        return Finding("keys", "warning", text)
    if not given and not job.secret.given and job.mode == "archive":
        prompter.recipients(job.place)  # those of the company, or an error
    if not job.secret.given:
        text = _("no secret is needed: what is sealed cannot be opened from here")
        return Finding("keys", "ok", text)
    return Finding("keys", "ok", _("the secret can be read"))


def _destination(
    job: Job, prompter: Prompter, state_dir: str, register_path: Callable[[], str]
) -> Iterator[Finding]:
    try:
        if job.mode == "in-place":
            for source in job.sources:
                check_in_place(job, source, prompter)
                yield _writable("destination", source)
                yield _vault(job, source, prompter)
            return
        if job.is_remote:
            text = _("{path} can be written to").format(path=probe(job))
            yield Finding("destination", "ok", text)
            folder = Records.of(job, state_dir).folder
            for source in job.sources if job.mode == "mirror" else ():
                yield _vault(job, spool_of(folder, source), prompter)
            return
        base = base_of(job, register_path())
        for source in job.sources:
            _check_apart(job, source, base)
        if job.mode == "archive":
            shelf_of(job, base, Records.of(job, state_dir).known().success).tree.close()
            yield _writable("destination", base)
            return
        for source in job.sources:
            place = mirror_of(job, source, base, prompter)
            there = place if os.path.isdir(place) else os.path.dirname(base)
            yield _writable("destination", there)
            if there != place:
                text = _(
                    "{path} is made by the first run; a service of the machine needs it before"
                )
                yield Finding("destination", "warning", text.format(path=place))
            yield _vault(job, place, prompter)
    except EncvaultError as error:
        yield _failed("destination", error)


def _check_apart(job: Job, source: str, base: str) -> None:
    """Refuse a destination in a source, and a mirror around one, as the run will.

    Raises:
        InvalidRequest: it is.
    """
    one, other = (os.path.join(os.path.realpath(path), "") for path in (source, base))
    if other.startswith(one) and job.mode == "archive":
        raise InvalidRequest(reason=_("the archive would lie inside what it archives"))
    if job.mode == "mirror" and (one.startswith(other) or other.startswith(one)):
        raise InvalidRequest(reason=_("a mirror cannot lie inside its source, or around it"))


def _writable(what: str, folder: str) -> Finding:
    """Write a file there, and remove it."""
    name = durable.temporary_name(new_id())
    try:
        with Tree(folder) as tree:
            os.close(calls.create(tree.fd, name))
            calls.unlink(tree.fd, name)
            room = os.fstatvfs(tree.fd)
    except OSError as error:
        return _failed(what, storage_error(error, folder))
    free = room.f_bavail * room.f_frsize // 1_000_000
    text = _("{path} can be written to; {size} MB are free there")
    return Finding(what, "ok", text.format(path=folder, size=free))


def _vault(job: Job, place: str, prompter: Prompter) -> Finding:
    try:
        with Vault.load(place) as vault:
            record = vault.record
            prompter.known_vaults().check_for_sealing(record, vault.path)
            prompter.known_vaults().remember(record, vault.path, told=True)
    except (NotAVault, SourceMissing):
        prompter.recipients(place)  # for whom it will be made, or an error
        return Finding("vault", "ok", _("the first run makes the vault {path}").format(path=place))
    except EncvaultError as error:
        return _failed("vault", error)
    if job.fingerprint is None and len(job.sources) == 1:
        text = _('is not pinned; better add to the job: fingerprint = "{fingerprint}"')
        return Finding("vault", "warning", text.format(fingerprint=record.fingerprint))
    text = _("the vault {path} is the known one, {fingerprint}")
    return Finding("vault", "ok", text.format(path=place, fingerprint=record.fingerprint))


def _hook(program: str) -> Finding:
    import shutil  # noqa: PLC0415 - only for jobs with programs

    if shutil.which(program) is None:
        text = _("{path}: no program that can be run").format(path=program)
        return Finding("hook", "failed", text, SourceMissing(path=program))
    return Finding("hook", "ok", _("{path} can be run").format(path=program))
