"""What a run tells while it works, and what it found when it is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import DamagedFiles, EncvaultError, Incomplete, NameEscaped, NamesEscaped
from encvault.i18n import _, ngettext

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Event(NamedTuple):
    """Something that happened to one file, for the access log.

    Attributes:
        action: ``seal``, ``open``, ``cat``, ``share`` or ``reseal``.
        path: of the plain file: relative to the vault, absolute outside of one.
        file: id of the sealed file.
        size: bytes of content, or None.
        sealed_as: the name that the file had when it was sealed, if it is opened under another or
            was moved since; else "".
    """

    action: str
    path: str
    file: str
    size: int | None
    sealed_as: str = ""


class Observer:
    """Is told what a run does. This one does nothing; override what you need.

    All methods are called in the process and thread that started the run.
    """

    wants_total: bool = False
    """Whether to count files and bytes before the run starts, for a progress bar."""

    def total(self, files: int, size: int) -> None:
        """The counted total; only if `wants_total`."""

    def progress(self, files: int, size: int) -> None:
        """That many more files and bytes are done."""

    def action(self, verb: str, path: str) -> None:
        """A step of the plan: ``seal``, ``reseal``, ``remove``; or ``share``, and a copy's path."""

    def member(self, action: str, path: str) -> None:
        """One member went into an archive or came out of it (``seal`` or ``open``).

        Unlike events, these are not for the log: the archive takes effect as a whole, or not.
        """

    def problem(self, error: EncvaultError) -> None:
        """One file failed or was left; the run goes on."""

    def note(self, message: str) -> None:
        """Something worth knowing that is no failure."""

    def before_release(self, events: Sequence[Event]) -> None:
        """About to let a batch take effect; what this raises stops the run before it does.

        For `open`, no plaintext has its final name yet; for `seal`, every original still exists;
        for `share`, no byte of the copy is written.
        A log that must be durable first is written here.
        """


class Relay(Observer):
    """Passes on what it is told; override what is to happen beside it.

    Attributes:
        observer: who is told.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.wants_total = observer.wants_total

    def total(self, files: int, size: int) -> None:
        """See `Observer`."""
        self.observer.total(files, size)

    def progress(self, files: int, size: int) -> None:
        """See `Observer`."""
        self.observer.progress(files, size)

    def action(self, verb: str, path: str) -> None:
        """See `Observer`."""
        self.observer.action(verb, path)

    def member(self, action: str, path: str) -> None:
        """See `Observer`."""
        self.observer.member(action, path)

    def problem(self, error: EncvaultError) -> None:
        """See `Observer`."""
        self.observer.problem(error)

    def note(self, message: str) -> None:
        """See `Observer`."""
        self.observer.note(message)

    def before_release(self, events: Sequence[Event]) -> None:
        """See `Observer`."""
        self.observer.before_release(events)


@dataclass(slots=True)
class Report:
    """The sum of a run.

    Attributes:
        files, size: files done and their bytes of content.
        folders: folders done, where they are objects of their own.
        unchanged: files that needed nothing.
        removed: sealed files removed because their source is gone.
        problems: every file that failed or was left.
        notes: things worth knowing that are no failures.
    """

    files: int = 0
    size: int = 0
    folders: int = 0
    unchanged: int = 0
    removed: int = 0
    problems: list[EncvaultError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note_lost(self, lost: Iterable[str], observer: Observer) -> None:
        """Say which attributes could not be restored, and of how many files.

        Args:
            lost: a name each time one was not.
            observer: is told as well.
        """
        for what, count in sorted(Counter(lost).items()):
            note = ngettext(
                "the {what} of {count} file could not be restored here",
                "the {what} of {count} files could not be restored here",
                count,
            ).format(what=_(what), count=count)
            self.notes.append(note)
            observer.note(note)

    def doubt(self, doubts: Iterable[EncvaultError], observer: Observer) -> None:
        """Add problems of the vault as a whole, and tell the observer."""
        for error in doubts:
            self.problems.append(error)
            observer.problem(error)

    def add(self, other: Report) -> None:
        """Count another run's results into this one."""
        self.files += other.files
        self.size += other.size
        self.folders += other.folders
        self.unchanged += other.unchanged
        self.removed += other.removed
        self.problems += other.problems
        self.notes += other.notes

    def raise_for_problems(self) -> None:
        """Raise the one error of `outcome`, if there is one; the first problem is its cause."""
        outcome = self.outcome()
        if outcome is None:
            return
        raise outcome from next((one for one in self.problems if one is not outcome), None)

    def outcome(self) -> EncvaultError | None:
        """The one error that the run ends with, or None.

        Damage (65) outranks failed storage (74, 73), which outranks what concerns one of several
        paths as a whole (77, 78, 75, 69, 66, 2), which outranks files that were left (3).
        """
        codes = [problem.exit_code for problem in self.problems]
        if not codes:
            return None
        if damaged := codes.count(DamagedFiles.exit_code):
            return DamagedFiles(count=damaged)
        for code in (74, 73, 77, 78, 75, 69, 66, 2):
            for problem in self.problems:
                if problem.exit_code == code:
                    return problem
        saved = sum(isinstance(problem, NameEscaped) for problem in self.problems)
        if saved == len(codes):
            return NamesEscaped(count=saved)
        return Incomplete(count=len(codes) - saved)
