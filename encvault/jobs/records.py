"""What is known of a job's runs: how the last one ended, when one last succeeded, and a history.

One folder per job in the local state folder. ``status.json`` is replaced whole, so a reader sees
one run or the next; a run that was killed is seen by its lock, which the kernel has dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from encvault.errors import JobRecordsOfAnother, JobRecordsUnusable, JobRunning
from encvault.fs import durable, locks
from encvault.fs.tree import Tree
from encvault.i18n import N_, _, system_reason
from encvault.jobs import owners
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from encvault.errors import EncvaultError
    from encvault.jobs.jobfile import Job

LOCK_FILE = "lock"
STATUS_FILE = "status.json"
HISTORY_FILE = "history.jsonl"
MAX_ERRORS = 50
MAX_RUNS = 400  # in the history
_MAX_SIZE = 4 << 20
_GLANCE_S = 0.2  # who only looks whether a run goes on is in the way for a moment

# what a run may have come to; "running" until it ends
STATES = {
    "ok": N_("done"),
    "partial": N_("done but for some files"),
    "skipped": N_("skipped"),
    "failed": N_("failed"),
    "timeout": N_("ended, for it took too long"),
    "stopped": N_("stopped"),
    "interrupted": N_("killed, or the machine went down"),
    "running": N_("running"),
}
# of several things that went wrong, the first here decides (docs/jobs.md)
_WORST_FIRST = (143, 130, 124, 65, 77, 78, 74, 73, 69, 66, 1, 2, 3, 75)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run, as it is recorded.

    Attributes:
        job: its name.
        run: id of the run, 26 characters.
        started_at, ended_at: UTC, as RFC 3339 has it; the second is "" while it runs.
        state: one of `STATES`.
        exit_code: of ``job run``.
        files, unchanged, removed, failed: counts of files.
        size: bytes of content that were sealed.
        verified: copies that were read back after the run.
        archive: the file that was made, or "".
        attempts: how often it was tried.
        invocation: systemd's id of the service's run, or "".
        errors: the first of what went wrong, as ``--json`` shows errors.
        notes: what is worth knowing.
    """

    job: str
    run: str
    started_at: str
    ended_at: str = ""
    state: str = "running"
    exit_code: int = 0
    files: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    size: int = 0
    verified: int = 0
    archive: str = ""
    attempts: int = 0
    invocation: str = ""
    errors: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def begun(cls, job: str) -> Outcome:
        """A run that begins now."""
        return cls(job, new_id(), now_text())

    @property
    def is_good(self) -> bool:
        """Whether the work is done."""
        return self.exit_code == 0 and self.state in ("ok", "partial")

    @property
    def seconds(self) -> float:
        """How long it took."""
        if not self.ended_at:
            return 0.0
        return max(0.0, (moment(self.ended_at) - moment(self.started_at)).total_seconds())

    def to_json(self) -> dict[str, Any]:
        """For ``--json`` and the files."""
        return {**asdict(self), "errors": list(self.errors), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, value: Any) -> Outcome:
        """What `to_json` made; ValueError or TypeError if it is anything else."""
        known = {item.name: value[item.name] for item in fields(cls) if item.name in value}
        one = cls(**known)
        if one.state not in STATES or type(one.exit_code) is not int:
            raise ValueError(one.state)
        moment(one.started_at)
        return replace(one, errors=tuple(one.errors), notes=tuple(one.notes))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a job.

    Attributes:
        last: its last run, or the one that is running; None if there was none.
        success: its last run that did the work, or None.
    """

    last: Outcome | None = None
    success: Outcome | None = None

    def age(self, now: datetime) -> timedelta | None:
        """How long ago the work was last done; None if never. A clock that was set back is 0."""
        if self.success is None:
            return None
        return max(timedelta(0), now - moment(self.success.ended_at))


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one job.

    Attributes:
        name: of the job.
        folder: of the records.
    """

    name: str
    folder: str

    @classmethod
    def of(cls, job: Job, state_dir: str) -> Records:
        """Those of a job; two files with one name are two jobs."""
        digest = hashlib.sha256(os.fsencode(os.path.realpath(job.path))).hexdigest()[:8]
        return cls(job.name, os.path.join(state_dir, "jobs", f"{job.name}-{digest}"))

    @contextlib.contextmanager
    def alone(self, patience: float) -> Iterator[None]:
        """Be the only run of the job. The kernel drops the lock of a run that is killed.

        Args:
            patience: seconds to wait for another run.

        Raises:
            JobRunning: another has not ended.
            JobRecordsOfAnother, JobRecordsUnusable: the records cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with self._usable():
                os.makedirs(self.folder, mode=0o700, exist_ok=True)  # names are in it
                tree = stack.enter_context(Tree.made(self.folder))
                try:
                    stack.enter_context(locks.alone(tree, LOCK_FILE, max(patience, _GLANCE_S)))
                except TimeoutError:
                    raise JobRunning(name=self.name) from None
            yield

    def is_running(self) -> bool:
        """Whether a run has the lock."""
        try:
            with Tree(self.folder) as tree:
                return locks.is_held(tree, LOCK_FILE)
        except OSError:
            return False  # there was no run, or what it left cannot be read

    def known(self) -> Known:
        """What is known now; a run that was killed is seen as that.

        Raises:
            JobRecordsOfAnother, JobRecordsUnusable: the records are damaged or cannot be read.
        """
        found = self._load()
        if found.last is not None and found.last.state == "running" and not self.is_running():
            found = self._load()  # it may have ended between the two looks
            if found.last is not None and found.last.state == "running":
                return replace(found, last=_killed(found.last))
        return found

    def _load(self) -> Known:
        with self._usable():
            try:
                with Tree(self.folder) as tree:
                    data = durable.read_file(tree, STATUS_FILE, _MAX_SIZE)
            except (FileNotFoundError, NotADirectoryError):
                return Known()
        try:
            value = json.loads(data)
            last, success = value["last"], value["success"]
            return Known(
                None if last is None else Outcome.from_json(last),
                None if success is None else Outcome.from_json(success),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            path = os.path.join(self.folder, STATUS_FILE)
            raise JobRecordsUnusable(path=path, reason=_("damaged")) from None

    def begin(self, outcome: Outcome) -> None:
        """Record that a run has begun; durable on return. Only for who is `alone`.

        Raises:
            JobRecordsOfAnother, JobRecordsUnusable: it cannot be written.
        """
        try:
            before = self._load()
        except (JobRecordsOfAnother, JobRecordsUnusable):
            before = Known()  # what is damaged is replaced; a success is not invented
        if before.last is not None:
            self._add_killed(before.last)
        self._write(Known(outcome, before.success))

    def go_on(self, outcome: Outcome) -> None:
        """Record what a run that goes on has come to; durable on return.

        Raises:
            JobRecordsOfAnother, JobRecordsUnusable: it cannot be written.
        """
        self._write(Known(outcome, self._load().success))

    def end(self, outcome: Outcome) -> None:
        """Record how it ended; durable on return.

        Raises:
            JobRecordsOfAnother, JobRecordsUnusable: it cannot be written.
        """
        success = outcome if outcome.is_good else self._load().success
        self._write(Known(outcome, success))
        self._add(outcome)

    def history(self) -> list[Outcome]:
        """The runs that ended, the oldest first.

        Raises:
            JobRecordsOfAnother, JobRecordsUnusable: they cannot be read.
        """
        with self._usable():
            try:
                with Tree(self.folder) as tree:
                    data = durable.read_file(tree, HISTORY_FILE, _MAX_SIZE)
            except (FileNotFoundError, NotADirectoryError):
                return []
        found = []
        for line in data.splitlines():
            # a line that a crash has torn says nothing
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                found.append(Outcome.from_json(json.loads(line)))
        return found

    def _add_killed(self, last: Outcome) -> None:
        """Have the run before this one in the history, where it may not have got any more."""
        runs = self.history()
        if not runs or runs[-1].run != last.run:
            self._add(_killed(last) if last.state == "running" else last)

    def _add(self, outcome: Outcome) -> None:
        kept = [*self.history(), outcome][-MAX_RUNS:]
        lines = [json.dumps(one.to_json(), sort_keys=True).encode() + b"\n" for one in kept]
        while len(lines) > 1 and sum(map(len, lines)) > _MAX_SIZE:
            lines.pop(0)
        self._replace(HISTORY_FILE, b"".join(lines))

    def _write(self, known: Known) -> None:
        value = {
            "last": None if known.last is None else known.last.to_json(),
            "success": None if known.success is None else known.success.to_json(),
        }
        self._replace(STATUS_FILE, json.dumps(value, sort_keys=True, indent=1).encode() + b"\n")

    def _replace(self, name: str, data: bytes) -> None:
        with self._usable(), Tree.made(self.folder) as tree:
            durable.clean(tree, "")  # of a run that was killed; this one is alone
            # as private as the folder, and its owner's: he has to be able to read what root writes
            durable.write_file(tree, "", name, data, file_id=new_id(), mode=None, replace=True)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise
        except OSError as error:
            state_dir = os.path.dirname(os.path.dirname(self.folder))
            if isinstance(error, PermissionError):
                owners.check(state_dir, self.folder)  # which says more
            raise JobRecordsUnusable(path=self.folder, reason=system_reason(error)) from None


def _killed(run: Outcome) -> Outcome:
    """A run that goes on, as it is said, and does not."""
    return replace(run, state="interrupted", exit_code=1)


def now_text() -> str:
    """This moment."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """What `now_text` wrote; ValueError if it is no such text."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def worst(problems: Sequence[EncvaultError]) -> EncvaultError | None:
    """The one that decides; None if there is none."""
    return min(problems, key=lambda one: _rank(one.exit_code), default=None)


def worst_code(codes: Iterable[int]) -> int:
    """The exit code that decides; 0 if nothing went wrong."""
    return min(filter(None, codes), key=_rank, default=0)


def _rank(code: int) -> int:
    return _WORST_FIRST.index(code) if code in _WORST_FIRST else len(_WORST_FIRST)
