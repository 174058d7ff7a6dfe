"""Open a vault: batches through workers, then names; the mirror of `seal`.

For each batch, in this order:

1. workers write the opened copies under temporary names that only the owner may read; in place
   they sync, read them back and compare them with the sealed files;
2. the observer writes its log: no plaintext gets its name before its event is durable;
3. the copies get their names, and these are synced;
4. in place, each sealed file that is still the one that was read is removed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING

from encvault.errors import (
    EncvaultError,
    FolderMissing,
    NameEscaped,
    NameShared,
    OtherVersions,
    OutOfSpace,
    SourceChanged,
)
from encvault.fs import calls, durable, locks
from encvault.fs.durable import storage_error
from encvault.fs.stamp import Stamp
from encvault.fs.syncing import sync_each
from encvault.fs.tree import join, split
from encvault.i18n import ngettext
from encvault.vault.burial import bury, finish_burials, remove_empty_folders
from encvault.vault.catalog import Catalog, Found, read_catalog
from encvault.vault.crowded import Crowded
from encvault.vault.index import discard_index
from encvault.vault.layout import (
    SUFFIX,
    belongs_to,
    object_folder,
    object_path,
    peek,
)
from encvault.vault.openfolders import OpenFolders
from encvault.vault.opening import (
    OpenContext,
    OpenOutcome,
    OpenTask,
    discard_task,
    holds_content_of,
    is_still_there,
    is_ticked,
    open_batch,
    sync_error,
)
from encvault.vault.opentasks import OpenPlan
from encvault.vault.pool import Tick, default_jobs, in_batches
from encvault.vault.report import Event, Observer, Report
from encvault.vault.rows import FileRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.fs.tree import Tree
    from encvault.vault.ledger import Ledger
    from encvault.vault.opentasks import OpenOptions
    from encvault.vault.vault import Vault


def open_tree(
    vault: Vault,
    target: Tree,
    options: OpenOptions,
    *,
    ledger: Ledger | None = None,
    observer: Observer | None = None,
) -> Report:
    """Open what is in `vault`, which must be unlocked and held, into `target`.

    Args:
        vault: the vault.
        target: where to; the vault's own tree to open in place.
        options: what and how.
        ledger: remembers, with ``keep``, which plain file came from which sealed one.
        observer: is told what happens.

    Raises:
        EncvaultError: nothing could be done at all; failures of single files are in the report.
    """
    return _OpenRun(vault, target, options, ledger, observer or Observer()).run()


class _OpenRun:
    def __init__(
        self,
        vault: Vault,
        target: Tree,
        options: OpenOptions,
        ledger: Ledger | None,
        observer: Observer,
    ) -> None:
        self.vault = vault
        self.tree = vault.tree
        self.target = target
        self.options = options
        self.ledger = ledger
        self.observer = observer
        self.report = Report()
        self.in_place = target is vault.tree
        self.drops_sealed = self.in_place and not options.keep
        self.catalog: Catalog | None = None
        self._moved = 0
        self._touched: set[str] = set()  # folders in the target with names to be made durable
        self._target_dirs: set[str] = set()
        self._alone = not self.in_place and locks.claim(target)
        self._crowded: Crowded[OpenTask] = Crowded()
        self._lost: Counter[str] = Counter()
        self._spellings: dict[str, set[str]] = {}  # the names in a folder before this run

    def run(self) -> Report:
        if self.vault.hidden:
            if self.drops_sealed:
                finish_burials(self.vault)
            self.catalog = read_catalog(self.vault, self.options.jobs)
            for error in self.catalog.problems:
                self._problem(error)
            self._tell_other_versions(self.catalog)
        plan = OpenPlan(self.vault, self.target, self.options, self.catalog, self._problem)
        self._plan = plan
        if self.observer.wants_total:
            self._count(plan)
        context = OpenContext(
            tree=self.tree,
            keyring=self.vault,
            target=self.target,
            names=plan.naming.names,
            force=self.options.force,
            check=self.drops_sealed,
        )

        folders = OpenFolders(self.tree, self.target, self.options, plan, self._problem)
        tasks = folders.made_for(plan.tasks(quiet=False))
        try:
            self._open(context, tasks, self.options.jobs or default_jobs())
            self._open_crowded(context)
        except BaseException:
            folders.break_off(self.catalog)
            raise
        self._finish(folders)
        return self.report

    def _open(self, context: OpenContext, tasks: Iterable[OpenTask], jobs: int) -> None:
        def work(batch: list[OpenTask], tick: Tick, jobs: int) -> list[OpenOutcome]:
            context.tick, context.jobs = tick, jobs
            return open_batch(context, batch)

        done = in_batches(
            tasks,
            work,
            lambda task: discard_task(self.target, task),
            jobs=jobs,
            tick=self._tick,
            trees=(self.tree, self.target),
        )
        with contextlib.closing(done):
            for batch, outcomes in done:
                self._commit(batch, outcomes)

    def _open_crowded(self, context: OpenContext) -> None:
        def attempt(tasks: list[OpenTask]) -> int:
            self._make_durable()  # which frees what was removed
            before = self.report.files
            self._open(context, tasks, jobs=1)
            return self.report.files - before

        self._crowded.retry(attempt, self._fail)

    def _tell_other_versions(self, catalog: Catalog) -> None:
        """A mirror whose memory was lost is sealed again: the same file twice is no news."""
        for found in catalog.superseded:
            newer = catalog.files.get(found.path)
            if newer is not None and self.options.covers(found.path):
                one, other = found.record, newer.record
                if (one.type, one.size, one.mtime_ns) != (other.type, other.size, other.mtime_ns):
                    path = self.tree.show(found.path)
                    shown = self.tree.show(object_path(found.file))
                    self._problem(OtherVersions(path=path, object=shown))

    def _problem(self, error: EncvaultError) -> None:
        self.report.problems.append(error)
        self.observer.problem(error)

    def _note(self, message: str) -> None:
        self.report.notes.append(message)
        self.observer.note(message)

    def _tick(self, size: int) -> None:
        self.observer.progress(0, size)

    def _count(self, plan: OpenPlan) -> None:
        files = size = 0
        for task in plan.tasks(quiet=True):
            files += 1
            size += task.work
        self.observer.total(files, size)

    # -- one batch --------------------------------------------------------------------------

    def _commit(self, tasks: list[OpenTask], outcomes: list[OpenOutcome]) -> None:
        good: list[tuple[OpenTask, OpenOutcome]] = []
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome.error, OutOfSpace) and self.drops_sealed:
                discard_task(self.target, task)
                self._crowded.add(task, outcome.error)
            elif outcome.error is not None:
                self._fail(task, outcome.error)
            else:
                good.append((task, outcome))
        good = self._durable(good)
        self.observer.before_release(
            [
                Event(
                    "open",
                    join(task.place, outcome.wanted),
                    outcome.file,
                    outcome.size,
                    outcome.sealed_as,
                )
                for task, outcome in good
            ]
        )
        done = [pair for pair in good if pair[1].same or self._name(*pair)]
        if not done:
            return
        self.target.sync_names({task.target_dir for task, _outcome in done})
        if self.in_place and self.options.keep:
            self._remember(done)
        for task, outcome in done:
            self._target_dirs.add(task.target_dir)
            self._release(task, outcome)

    def _durable(
        self, good: list[tuple[OpenTask, OpenOutcome]]
    ) -> list[tuple[OpenTask, OpenOutcome]]:
        """Those whose content is durable.

        The workers did not sync all: without a check no copies, and in place none that was found
        there.
        """
        concerned = [pair for pair in good if pair[1].same == self.drops_sealed]
        files = [
            [(task.target_dir, outcome.name) if outcome.same else task.temporary]
            # one that somebody has removed meanwhile is told where the sealed file would go
            if not outcome.same or self.target.exists(join(task.target_dir, outcome.name))
            else []
            for task, outcome in concerned
        ]
        failed = set()
        for (task, outcome), failure in zip(concerned, sync_each(self.target, files), strict=True):
            if failure is not None:
                failed.add(task.path)
                self._fail(task, sync_error(failure, self.target, task, outcome))
        return [pair for pair in good if pair[0].path not in failed]

    def _fail(self, task: OpenTask, error: EncvaultError) -> None:
        self._problem(error)
        self.observer.progress(1, 0)
        discard_task(self.target, task)

    def _name(self, task: OpenTask, outcome: OpenOutcome) -> bool:
        folder, temporary = task.temporary
        shown = self.target.show(join(folder, outcome.name))
        try:
            fd = self.target.folder(folder)
            if self.options.force and not (
                outcome.is_beside(task)
                or self._is_sealed_here(folder, outcome.name)
                or self._is_anothers(folder, outcome.name)
            ):
                calls.replace(fd, temporary, outcome.name)
            else:
                calls.rename_new(fd, temporary, outcome.name)
        except FileExistsError:
            self._fail(task, outcome.conflict(task, self.target))
            return False
        except OSError as error:
            self._fail(task, storage_error(error, shown))
            return False
        return True

    def _is_sealed_here(self, folder: str, name: str) -> bool:
        """Whether a name is a sealed file's of the vault, which this run may not have opened."""
        if not self.in_place or self.vault.hidden or not name.endswith(SUFFIX):
            return False
        try:
            return belongs_to(peek(self.tree, folder, name), self.vault.record.id)
        except OSError:
            return True

    def _is_anothers(self, folder: str, name: str) -> bool:
        """Whether a name is that of another file as well, where case makes no difference.

        Its sealed copy may be gone, if a run was killed between the two.
        """
        if not self._plan.naming.names.rules.folds:
            return False
        fd = self.target.folder(folder)
        if folder not in self._spellings:
            self._spellings[folder] = set(os.listdir(fd))
        return name not in self._spellings[folder] and calls.exists(fd, name)

    def _remember(self, done: list[tuple[OpenTask, OpenOutcome]]) -> None:
        if self.ledger is None:
            return
        rows = []
        for task, outcome in done:
            path = join(task.target_dir, outcome.name)
            rows.append(
                FileRow(
                    task.target_dir, outcome.name, Stamp.of(self.target.status(path)), outcome.ids
                )
            )
        self.ledger.remember(rows, {})

    def _release(self, task: OpenTask, outcome: OpenOutcome) -> None:
        if outcome.name != outcome.wanted:
            shown = self.target.show(join(task.place, outcome.wanted))
            kind = NameShared if outcome.is_beside(task) else NameEscaped
            self._problem(kind(path=shown, saved_as=outcome.name))
        if self.drops_sealed and not self._drop(task, outcome):
            return
        self.report.files += 1
        self.report.size += outcome.size
        self._moved += outcome.moved
        self._lost.update(outcome.lost)
        ticked = outcome.size if is_ticked(outcome.size) and not outcome.same else 0
        self.observer.progress(1, max(0, task.work - ticked))  # the rest is header and tags

    def _drop(self, task: OpenTask, outcome: OpenOutcome) -> bool:
        try:
            is_as_it_was = Stamp.of(self.tree.status(task.path)) == task.stamp
            if not is_as_it_was or not is_still_there(self.target, task, outcome):
                self._problem(SourceChanged(path=self.tree.show(task.path)))
                return False
            if len(outcome.ids) > 1:
                bury(self.tree, outcome.ids)
            else:
                self._unlink(task.dir, task.name)
        except OSError as error:
            self._problem(durable.removal_error(error, self.tree.show(task.path)))
            return False
        return True

    def _unlink(self, folder: str, name: str) -> None:
        calls.unlink(self.tree.folder(folder), name)
        self._touched.add(folder)

    def _make_durable(self) -> None:
        self.target.sync_names(self._touched)
        self._touched.clear()

    # -- the end ----------------------------------------------------------------------------

    def _finish(self, folders: OpenFolders) -> None:
        for error in durable.discard_leftovers(self.tree, self._plan.leftovers):
            self._problem(error)
        self._touched |= {folder for folder, _name in self._plan.leftovers}
        if self._alone and locks.claim(self.target):  # else another run has begun meanwhile
            self._clean({"", *self._target_dirs})
        elif self.drops_sealed and self.catalog is not None:
            self._clean({"", *map(self._plan.place, self.catalog.folders), *self._target_dirs})
        self.report.folders += folders.restore(self.catalog)
        self._touched |= folders.touched
        self._lost.update(folders.lost)
        if (
            self.drops_sealed
            and self.catalog is not None
            and not self.options.only
            and self._is_complete()
        ):
            self._make_durable()
            self._remove_objects(self.catalog)
        if self._moved:
            self._note(
                ngettext(
                    "{count} file was moved or renamed since it was sealed",
                    "{count} files were moved or renamed since they were sealed",
                    self._moved,
                ).format(count=self._moved)
            )
        self.report.note_lost(self._lost.elements(), self.observer)
        self._make_durable()

    def _is_open(self, found: Found) -> bool:
        """Whether a superseded object holds what the newer one of its path was opened to."""
        if found.record.type == "dir":
            return True
        folder, name = split(self._plan.place(found.path))
        try:
            return holds_content_of(self.vault, found.file, self.target.folder(folder), name)
        except (EncvaultError, OSError):
            return False

    def _clean(self, folders: set[str]) -> None:
        """Temporary files that a killed run left where this one writes, and no other does."""
        claimed: dict[str, bool] = {} if self.in_place else {"": False}
        for folder in folders:
            above = itertools.accumulate(filter(None, folder.split("/")), join)
            # whoever writes to a folder has marked that one, or one above it (`locks.claim`)
            for path in ("", *above):
                if path not in claimed:
                    claimed[path] = locks.is_claimed(self.target, path)
                if claimed[path]:
                    break
            else:
                durable.clean(self.target, folder)

    def _is_complete(self) -> bool:
        opened = (FolderMissing, NameEscaped, OtherVersions)
        return all(isinstance(problem, opened) for problem in self.report.problems)

    def _remove_objects(self, catalog: Catalog) -> None:
        """Everything is open: what no file needs and the empty folders can go."""
        kept = {found.file for found in catalog.superseded if not self._is_open(found)}
        for found in (*catalog.superseded, *catalog.folders.values()):
            if found.file in kept:
                continue
            with contextlib.suppress(FileNotFoundError):
                for file_id in (*found.record.parts, found.file):
                    self._unlink(object_folder(file_id), file_id)
        remove_empty_folders(self.tree)
        discard_index(self.tree)
