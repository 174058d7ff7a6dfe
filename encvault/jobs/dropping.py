"""The drop folder: what comes to lie in it is sealed once it is closed and still.

What is there is found by looking, and looking alone is believed; what the kernel tells says only
where to look at once. So a change that was not told costs minutes and no file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError, SourceMissing
from encvault.fs.durable import storage_error
from encvault.fs.stamp import Stamp
from encvault.fs.tree import Tree, join, pinned, split
from encvault.jobs.changes import Changes
from encvault.jobs.unfinished import is_being_written, is_name_of_temporary, is_remote
from encvault.vault.layout import SUFFIX, peek
from encvault.vault.manifest import FOLDER as VAULT_FOLDER
from encvault.vault.report import Event, Observer
from encvault.vault.selection import SealOptions
from encvault.vault.vault import find_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.jobs.changes import Change
    from encvault.vault.report import Report

LOOK_S = 300.0
"""Seconds between two full looks where changes are told."""
POLL_S = 10.0
"""The same where they are not: on shares, and beyond the user's limit of watches."""
_ABSENT_S = 1.0  # between two looks for a folder that went away
_WAIT_S = 0.5  # at most, until a request to stop is seen
_BREATH_S = 0.1  # in which changes gather
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_TOGETHER = 2000  # files: what sealing them changes fits into the kernel's queue
_PASSING = {66, 73, 74, 75}  # exit codes of what may be otherwise later


@dataclass(frozen=True, slots=True)
class DropEvent:
    """Something to tell.

    Attributes:
        kind: ``watching``, ``polling`` (changes are not told here, so it is looked for them),
            ``sealed``, ``failed``, ``gone``, ``back``, ``lost`` (changes, so it is looked at
            everything), ``note``, ``stopped``.
        path: of the file or folder.
        size: bytes of content that were sealed, or None.
        error: why it failed, or None.
        text: of a note, or "".
        at: when, UTC.
    """

    kind: str
    path: str
    size: int | None = None
    error: EncvaultError | None = None
    text: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def watch_folder(
    sources: Sequence[str],
    settle: float,
    seal: Callable[[str, Sequence[str], Observer], Report],
    *,
    is_stopping: Callable[[], bool],
    tell: Callable[[DropEvent], None],
    exclude: Sequence[str] = (),
) -> None:
    """Seal what lies in folders, and what comes to lie there, until it is asked to stop.

    A file is sealed once it was the same in two looks that are `settle` apart and nobody is seen
    to have it open for writing; up to a second later where nothing else is to be done. What fails
    is told once and tried again after growing pauses, beside all else. A folder that goes away is
    waited for, and so is the drive that it was on: what lies beneath its mount point is not meant.

    Args:
        sources: the folders.
        settle: seconds.
        seal: seals files in place: a folder, paths in it, and who is told what happens.
        is_stopping: asked between steps; once it says so, the files in hand are the last. What
            a signal's handler sets must be no `threading.Event`, whose lock it can wait for
            while the code that it interrupted holds it.
        tell: hears what happens.
        exclude: patterns for names and paths that are left alone, as in `SealOptions`.

    Raises:
        WatcherUnavailable: the library that it needs is missing.
        EncvaultError: files cannot be sealed for a reason that does not pass by itself, such as
            keys that do not fit.
    """
    folders = [_Folder(os.path.abspath(path)) for path in sources]
    options = SealOptions(exclude=tuple(exclude))
    _Watch(folders, settle, seal, is_stopping, tell, options, Changes(folders[0].path)).run()


@dataclass(slots=True)
class _Arrival:
    """A file that waits to be sealed; times are of the monotonic clock, in seconds."""

    stamp: Stamp
    since: float
    due: float
    pause: float = 0.0


@dataclass(slots=True)
class _Folder:
    """A source, and what is known of it."""

    path: str
    home: str = ""  # where its file system is mounted
    is_there: bool | None = None  # None until it is known
    is_remote: bool = False
    is_polled: bool = False
    waiting: dict[str, _Arrival] = field(default_factory=dict)
    sealed: set[int] = field(default_factory=set)  # hashes of path and stamp, to open each once
    told: dict[str, str] = field(default_factory=dict)  # what failed last, by path
    notes: set[str] = field(default_factory=set)


class _Run(Observer):
    """Remembers what one call sealed, whatever it ends with."""

    def __init__(self) -> None:
        self.released: dict[str, int | None] = {}
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def before_release(self, events: Sequence[Event]) -> None:
        self.released |= {event.path: event.size for event in events}


@dataclass(slots=True)
class _Watch:
    folders: list[_Folder]
    settle: float
    seal: Callable[[str, Sequence[str], Observer], Report]
    is_stopping: Callable[[], bool]
    tell: Callable[[DropEvent], None]
    options: SealOptions
    changes: Changes
    next_look: float = 0.0
    next_search: float = 0.0

    def run(self) -> None:
        try:
            while not self.is_stopping():
                self._look_for_absent()
                if time.monotonic() >= self.next_look:
                    self._look_everywhere()
                for folder in self.folders:
                    self._seal_what_is_still(folder)
                for change in self.changes.wait(self._idle_time()):
                    self._take(change)
                time.sleep(_BREATH_S)
        finally:
            self.changes.close()
        for folder in self.folders:
            self.tell(DropEvent("stopped", folder.path))

    def _idle_time(self) -> float:
        dues = [one.due for folder in self.folders for one in folder.waiting.values()]
        first = min(dues, default=self.next_look)
        return max(0.0, min(first - time.monotonic(), _WAIT_S))

    # -- looking ----------------------------------------------------------------------------

    def _look_for_absent(self) -> None:
        if (now := time.monotonic()) < self.next_search:
            return
        self.next_search = now + _ABSENT_S
        for folder in self.folders:
            if folder.is_there is False:
                with self._present(folder) as tree:
                    if tree is not None:
                        self.next_look = 0.0

    def _look_everywhere(self) -> None:
        """Begin anew, watches included: then none is left of what was moved or lost."""
        self.changes.close()
        self.changes = Changes(self.folders[0].path)
        for folder in self.folders:
            with self._present(folder) as tree:
                if tree is not None:
                    folder.sealed, before = set(), folder.sealed
                    self._look(folder, tree, "", before)
                    self._note_polling(folder, tree)
        interval = POLL_S if any(one.is_polled for one in self.folders) else LOOK_S
        self.next_look = time.monotonic() + interval

    def _note_polling(self, folder: _Folder, tree: Tree) -> None:
        before = folder.is_polled
        folder.is_remote = is_remote(os.fstat(tree.fd).st_dev)
        folder.is_polled = folder.is_remote or not self.changes.is_complete
        if folder.is_polled and not before:
            self.tell(DropEvent("polling", folder.path))

    @contextlib.contextmanager
    def _present(self, folder: _Folder) -> Iterator[Tree | None]:
        """The folder, pinned for all that opens it meanwhile; None if it is not there."""
        with contextlib.ExitStack() as stack:
            tree: Tree | None = None
            reason: EncvaultError = SourceMissing(path=folder.path)
            try:
                for path in {folder.path, os.path.realpath(folder.path)}:
                    stack.enter_context(pinned(path))
                tree = stack.enter_context(Tree(folder.path))
            except OSError as error:
                reason = storage_error(error, folder.path, reading=True)
            home = _mount_point(folder.path)
            if tree is not None and home != (folder.home or home):
                tree = None
            self._note_presence(folder, tree, reason)
            if tree is not None:
                folder.home = home
            yield tree

    def _note_presence(self, folder: _Folder, tree: Tree | None, reason: EncvaultError) -> None:
        was_there, folder.is_there = folder.is_there, tree is not None
        if tree is None:
            folder.waiting.clear()
            if was_there is not False:
                self.tell(DropEvent("gone", folder.path, error=reason))
        elif not was_there:
            self.tell(DropEvent("watching" if was_there is None else "back", folder.path))

    def _look(self, folder: _Folder, tree: Tree, start: str, before: set[int]) -> None:
        """Look at all that is in one of its folders, and watch it from now on."""

        def enter(path: str) -> bool:
            if self._is_left_alone(path):
                return False
            self.changes.watch(folder.path, path)
            return True

        if self._is_within_left_alone(start):
            return
        self.changes.watch(folder.path, start)
        for found in tree.walk(start, enter=enter):
            if found.error is not None:
                error = storage_error(found.error, tree.show(found.path), reading=True)
                self._tell_failed(folder, tree.show(found.path), error)
                continue
            folder.told.pop(tree.show(found.path), None)
            if found.path and any(entry.name == VAULT_FOLDER for entry in found.entries):
                found.entries.clear()  # a vault of its own
            for entry in found.entries:
                path = join(found.path, entry.name)
                if entry.kind != "dir" and not self._is_left_alone(path):
                    self._arrived(folder, tree, path, entry.status, before)

    def _is_left_alone(self, path: str) -> bool:
        name = split(path)[1]
        return name == VAULT_FOLDER or is_name_of_temporary(name) or self.options.excludes(path)

    def _is_within_left_alone(self, path: str) -> bool:
        while path:
            if self._is_left_alone(path):
                return True
            path = split(path)[0]
        return False

    def _take(self, change: Change) -> None:
        """Look where something changed."""
        if change.kind == "lost":
            if not change.top:
                self.tell(DropEvent("lost", self.folders[0].path))
            self.next_look = 0.0
            return
        folder = next(one for one in self.folders if one.path == change.top)
        if self._is_within_left_alone(change.path):
            return
        with contextlib.suppress(OSError), Tree(folder.path) as tree:
            if change.kind == "folder":
                self._look(folder, tree, change.path, folder.sealed)
            else:
                status = tree.status(change.path)
                self._arrived(folder, tree, change.path, status, folder.sealed)

    def _arrived(
        self, folder: _Folder, tree: Tree, path: str, status: os.stat_result, before: set[int]
    ) -> None:
        if stat.S_ISDIR(status.st_mode):
            return
        stamp, now = Stamp.of(status), time.monotonic()
        if path.endswith(SUFFIX) and stat.S_ISREG(status.st_mode):
            key = hash((path, stamp))
            if key in before or _is_sealed(tree, path):
                folder.sealed.add(key)
                return
        known = folder.waiting.get(path)
        if known is None or known.stamp != stamp:
            folder.waiting[path] = _Arrival(stamp, since=now, due=now + self.settle)
        elif not known.pause:
            known.due = min(known.due, known.since + self.settle)  # a writer closed it

    # -- sealing ----------------------------------------------------------------------------

    def _seal_what_is_still(self, folder: _Folder) -> None:
        """Seal some of it: what it changes is to be read before the kernel's queue is full."""
        now = time.monotonic()
        due = [path for path, one in folder.waiting.items() if one.due <= now]
        if not due:
            return
        with self._present(folder) as tree:
            if tree is not None:
                still = [path for path in due[:_TOGETHER] if self._is_still(folder, tree, path)]
                if still:
                    self._seal_batch(folder, tree, still)

    def _is_still(self, folder: _Folder, tree: Tree, path: str) -> bool:
        arrival, now = folder.waiting[path], time.monotonic()
        try:
            stamp = Stamp.of(tree.status(path))
        except OSError:  # gone, or a later look finds it
            del folder.waiting[path]
            folder.told.pop(tree.show(path), None)
            return False
        if stamp != arrival.stamp:
            folder.waiting[path] = _Arrival(stamp, since=now, due=now + self.settle)
            return False
        if not folder.is_remote and is_being_written(tree, path):
            arrival.due = now + max(self.settle, 1.0)
            return False
        return True

    def _seal_batch(self, folder: _Folder, tree: Tree, paths: list[str]) -> None:
        run = _Run()
        problems: Sequence[EncvaultError] = ()
        try:
            problems = self.seal(folder.path, paths, run).problems
        except EncvaultError as error:
            if error.exit_code not in _PASSING:
                raise
            problems = [error]
        finally:
            self._tell_sealed(folder, tree, run, problems)
        if not problems:
            folder.told.pop(folder.path, None)
        for problem in problems:
            self._tell_failed(folder, problem.fields().get("path", folder.path), problem)
        for path in paths:
            if (arrival := folder.waiting.get(path)) is not None:
                arrival.pause = min(max(arrival.pause * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                arrival.due = time.monotonic() + arrival.pause

    def _tell_failed(self, folder: _Folder, path: str, error: EncvaultError) -> None:
        if folder.told.get(path) != str(error):
            folder.told[path] = str(error)
            self.tell(DropEvent("failed", path, error=error))

    def _tell_sealed(
        self, folder: _Folder, tree: Tree, run: _Run, problems: Sequence[EncvaultError]
    ) -> None:
        for text in run.notes:
            if text not in folder.notes:
                self.tell(DropEvent("note", folder.path, text=text))
        folder.notes = set(run.notes)
        failed = {error.fields().get("path") for error in problems}
        real = os.path.realpath(tree.path)
        inside = os.path.relpath(real, find_vault(real) or real)
        for found, size in run.released.items():
            path = found if inside == "." else found.removeprefix(f"{inside}/")
            shown = tree.show(path)
            with contextlib.suppress(OSError):
                if shown not in failed and not tree.exists(path):
                    folder.waiting.pop(path, None)
                    folder.told.pop(shown, None)
                    self.tell(DropEvent("sealed", shown, size=size))


def _is_sealed(tree: Tree, path: str) -> bool:
    try:
        return peek(tree, *split(path)) is not None
    except OSError:
        return True  # gone again, or of somebody whose files are none of ours


def _mount_point(path: str) -> str:
    at = os.path.realpath(path)
    while not os.path.ismount(at):
        at = os.path.dirname(at)
    return at
