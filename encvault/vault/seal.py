"""Seal a tree: batches through workers, then names, one careful step after the other.

For each batch, in this order (docs/design.md, "Nothing lost"):

1. workers write the sealed copies under temporary names, sync, read them back and compare;
2. the ledger remembers what each will replace;
3. the copies get their final names, and these are synced;
4. the observer writes its log;
5. in place, each original that is still the one that was read is removed; what a new copy
   succeeds is removed likewise.

A kill between any two steps leaves every file as its original, as an authentic sealed file, or as
both, and the same command finishes the work.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from typing import TYPE_CHECKING

from encvault.errors import (
    Conflict,
    EncvaultError,
    OutOfSpace,
    SourceChanged,
)
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.syncing import sync_each
from encvault.fs.tree import join, split
from encvault.i18n import _, ngettext
from encvault.vault.burial import clean_objects
from encvault.vault.crowded import Crowded
from encvault.vault.index import IndexWriter
from encvault.vault.plan import Planner
from encvault.vault.pool import Tick, default_jobs, in_batches
from encvault.vault.removal import Removal
from encvault.vault.report import Event, Observer, Report
from encvault.vault.rows import FileRow, FolderRow
from encvault.vault.sealing import (
    Records,
    SealContext,
    SealTask,
    discard_task,
    is_ticked,
    seal_batch,
    sync_error,
)
from encvault.vault.settling import settled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.fs.tree import Tree
    from encvault.secret import Secret
    from encvault.vault.ledger import Ledger
    from encvault.vault.selection import SealOptions
    from encvault.vault.vault import Vault

_FORGET_FILES = 4096


def seal_tree(
    vault: Vault,
    source: Tree,
    options: SealOptions,
    *,
    ledger: Ledger | None = None,
    observer: Observer | None = None,
) -> Report:
    """Seal what is in `source` into `vault`, which must be held.

    Args:
        vault: the vault. If `source` is its own tree, files are sealed in place.
        source: the plain files.
        options: what and how.
        ledger: this machine's memory of the vault; without it nothing is known to be unchanged.
        observer: is told what happens.

    Raises:
        EncvaultError: nothing could be done at all; failures of single files are in the report.
    """
    return _SealRun(vault, source, options, ledger, observer or Observer()).run()


def plan_seal(
    vault: Vault,
    source: Tree,
    options: SealOptions,
    *,
    ledger: Ledger | None = None,
    observer: Observer | None = None,
) -> Report:
    """Tell the observer what `seal_tree` would do, and do none of it."""
    watcher, report = observer or Observer(), Report()
    planner = Planner(vault, source, options, ledger, report, watcher)
    if vault.hidden:
        report.folders = sum(1 for _task in planner.folder_tasks())
    for task in planner.tasks():
        watcher.action("reseal" if task.replaces else "seal", task.source_path)
        report.files += 1
        report.size += task.stamp.size
    if options.delete:
        planner.gone.look_for_folders(planner.folders)
    for places in planner.gone.objects:
        watcher.action("remove", join(*places[0]))
        report.removed += len(places)
    return report


class _SealRun:
    def __init__(
        self,
        vault: Vault,
        source: Tree,
        options: SealOptions,
        ledger: Ledger | None,
        observer: Observer,
    ) -> None:
        self.vault = vault
        self.target = vault.tree
        self.source = source
        self.options = options
        self.ledger = ledger
        self.observer = observer
        self.report = Report()
        self.planner = Planner(vault, source, options, ledger, self.report, observer)
        self.drops_source = self.planner.in_place and not options.keep
        self._checks = self.drops_source or options.reads_back
        self._context: SealContext | None = None  # from the first batch on
        self._begun: dict[int, list[FileRow]] = {}  # in place; see `Ledger.begin`
        self._released: set[tuple[str, str]] = set()  # originals of those that are removed
        self._unfinished: set[str] = set()  # folders of which an older object could not be removed
        self._removal = Removal(self.target, self.planner.problem)
        self._crowded: Crowded[SealTask] = Crowded()
        self._indexer = IndexWriter(vault, self._data_key)

    def _data_key(self) -> tuple[str, Secret]:
        if self._context is None:
            raise AssertionError("seal: nothing was sealed, and is to be indexed")
        return self._context.key_id, self._context.key

    def run(self) -> Report:
        if self.observer.wants_total:
            self.observer.total(*self.planner.survey())
        if self.vault.was_interrupted and self.vault.hidden:
            clean_objects(self.target)  # first: it may make the room that this run needs
            self.vault.cleaned_up()
        with contextlib.ExitStack() as keys:
            if self.vault.hidden:
                # in order: a folder counts only if the one above it does
                self._seal(self.planner.folder_tasks(), keys, jobs=1)
            jobs = self.options.jobs or default_jobs()
            self._seal(self.planner.tasks(), keys, jobs=jobs)
            self._seal_crowded(keys)
            self._indexer.flush()
        self._finish()
        return self.report

    # -- batches ----------------------------------------------------------------------------

    def _seal(self, tasks: Iterable[SealTask], keys: contextlib.ExitStack, *, jobs: int) -> None:
        waiting = iter(tasks)
        first = next(waiting, None)
        if first is None:
            return  # no data key for a run that seals nothing
        if self._context is None:
            key_id, key = self.vault.new_data_key()
            keys.enter_context(key)
            self.planner.keys.begins(key_id)
            self._context = SealContext(
                source=self.source,
                target=self.target,
                suite=self.vault.record.suite,
                key=key,
                vault=self.vault.record.id,
                key_id=key_id,
                check=self._checks,
            )
        context = self._context

        def work(batch: list[SealTask], tick: Tick, jobs: int) -> list[EncvaultError | Records]:
            context.tick, context.jobs = tick, jobs
            return seal_batch(context, batch)

        done = in_batches(
            itertools.chain([first], waiting),
            work,
            lambda task: discard_task(self.target, task),
            jobs=jobs,
            tick=lambda size: self.observer.progress(0, size),
            trees=(self.source, self.target),
        )
        with contextlib.closing(done):
            for batch, answers in done:
                self._commit(batch, answers)

    def _seal_crowded(self, keys: contextlib.ExitStack) -> None:
        def attempt(tasks: list[SealTask]) -> int:
            self._removal.make_durable()  # which frees what was removed
            before = self.report.files
            self._seal(tasks, keys, jobs=1)
            return self.report.files - before

        self._crowded.retry(attempt, self._fail)

    # -- one batch --------------------------------------------------------------------------

    def _commit(self, tasks: list[SealTask], answers: list[EncvaultError | Records]) -> None:
        good = self._good(tasks, answers)
        if not good:
            return
        self._remember(good, named=False)
        if not self._checks:
            good = self._durable(good)  # the workers did not sync
        named = [task for task in good if self._name(task)]
        if not named:
            return
        self.target.sync_names({folder for task in named for folder, _name in task.places})
        self._index(tasks, answers, named)
        if not self.drops_source:
            self._remember(named, named=True)
        self.observer.before_release([self._event(task) for task in named if task.type != "dir"])
        if (missing := self.planner.keys.missing()) is not None:
            raise missing  # with each original beside its sealed copy
        released = self._release_all(named)
        if self.drops_source:
            self._released |= {(task.dir, task.name) for task in released if task.type != "dir"}
            if len(self._released) >= _FORGET_FILES:
                self._forget_released()

    def _index(
        self,
        tasks: list[SealTask],
        answers: list[EncvaultError | Records],
        named: list[SealTask],
    ) -> None:
        """Keep what objects that have their names say of themselves."""
        files = {task.ids[0] for task in named}
        for task, records in zip(tasks, answers, strict=True):
            if not isinstance(records, EncvaultError) and task.ids[0] in files:
                for file_id, record in zip(task.ids, records, strict=False):
                    self._indexer.add(file_id, record)

    def _good(
        self, tasks: list[SealTask], answers: list[EncvaultError | Records]
    ) -> list[SealTask]:
        """The tasks whose sealed copies may get their names."""
        good = []
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, OutOfSpace) and self.drops_source and task.type != "dir":
                discard_task(self.target, task)
                self._crowded.add(task, answer)
            elif isinstance(answer, EncvaultError):
                self._fail(task, answer)
            elif task.type == "dir" and self._has_lost_its_parent(task):
                discard_task(self.target, task)
                self.planner.folder_rows.pop(task.dir, None)
            else:
                good.append(task)
        return good

    def _durable(self, tasks: list[SealTask]) -> list[SealTask]:
        """The tasks whose copies are durable: no name may become so before its content."""
        parts = [
            [
                (folder, name)
                for name, (folder, _name) in zip(task.temporaries, task.places, strict=True)
            ]
            for task in tasks
        ]
        durable = []
        for task, failure in zip(tasks, sync_each(self.target, parts), strict=True):
            if failure is None:
                durable.append(task)
            else:
                self._fail(task, sync_error(failure, self.target, task))
        return durable

    def _forget_released(self) -> None:
        """Not before the originals are gone for good: what a crash brings back must be known."""
        if self.ledger is not None and self._begun:
            self._removal.make_durable()
            self.ledger.end(self._begun, self._released)
        self._begun, self._released = {}, set()

    def _has_lost_its_parent(self, task: SealTask) -> bool:
        above = split(task.dir)[0]
        return bool(above) and above not in self.planner.folder_rows

    def _fail(self, task: SealTask, error: EncvaultError) -> None:
        self.planner.problem(error)
        self.observer.progress(1, 0)
        discard_task(self.target, task)
        if task.type == "dir":
            self.planner.folder_rows.pop(task.dir, None)

    def _remember(self, tasks: list[SealTask], *, named: bool) -> None:
        """Tell the ledger; before the sealed copies have their names, only which ids to expect."""
        if self.ledger is None:
            return
        now = time.time_ns()
        files: list[FileRow] = []
        folders: dict[str, FolderRow] = {}
        for task in tasks:
            if task.type == "dir":
                folder = self.planner.folder_rows[task.dir]
                folders[task.dir] = folder if named else folder.unproven()
                continue
            older = task.predecessors if not named or self.vault.hidden else ()
            files.append(FileRow(task.dir, task.name, task.stamp, task.ids, older))
        if self.drops_source:
            if files:
                self._begun[self.ledger.begin(files)] = files
            if folders:
                self.ledger.remember([], folders)
            return
        # a stamp of the future proves nothing: a change may set the same time again
        proven = [named and row.stamp.changed_at_ns <= now for row in files]
        rows = [row if is_so else row.unproven() for row, is_so in zip(files, proven, strict=True)]
        self.ledger.remember(rows, folders)

    def _name(self, task: SealTask) -> bool:
        """Give a task's sealed copies their final names, the first object last."""
        named: list[tuple[str, str]] = []
        try:
            pairs = list(zip(task.temporaries, task.places, strict=True))
            for temporary, (folder, name) in reversed(pairs):
                if named and (folder, name) == task.places[0]:
                    # no first object may outlive a crash without the parts that it names
                    self.target.sync_names({above for above, _part in named})
                fd = self.target.folder(folder)
                if (folder, name) in task.replaces:
                    calls.replace(fd, temporary, name)
                else:
                    calls.rename_new(fd, temporary, name)
                    named.append((folder, name))
        except FileExistsError:
            self._fail(task, Conflict(path=self.source.show(task.source_path)))
        except OSError as error:
            self._fail(task, storage_error(error, self.target.show(task.source_path)))
        else:
            return True
        for folder, name in named:  # parts without their first object
            with contextlib.suppress(OSError):
                self._removal.unlink(folder, name)
        return False

    def _event(self, task: SealTask) -> Event:
        return Event("seal", task.source_path, task.ids[0], task.stamp.size)

    def _release_all(self, tasks: list[SealTask]) -> list[SealTask]:
        """Remove what the sealed copies have made superfluous; the tasks of which nothing stays.

        First what they replace, durably: with the original still there, the next run knows what is
        to be taken away.
        """
        replaced = [
            [place for place in task.replaces if place not in task.places] for task in tasks
        ]
        failed = self._removal.sealed_files(replaced)
        if any(replaced):
            self.target.sync_names({folder for places in replaced for folder, _name in places})
        self._unfinished |= {tasks[index].dir for index in failed if tasks[index].type == "dir"}
        return [
            task for index, task in enumerate(tasks) if index not in failed and self._release(task)
        ]

    def _release(self, task: SealTask) -> bool:
        if task.type == "dir":
            self.report.folders += 1
            return True
        if self.drops_source and not self._drop(task):
            return False
        self.report.files += 1
        self.report.size += task.stamp.size
        self.observer.progress(1, 0 if is_ticked(task) else task.stamp.size)
        return True

    def _drop(self, task: SealTask) -> bool:
        try:
            folder = self.source.folder(task.dir)
            status = os.stat(task.name, dir_fd=folder, follow_symlinks=False)
            if not task.is_of(status):
                self._fail(task, SourceChanged(path=self.source.show(task.source_path)))
                return False
            calls.unlink(folder, task.name)
            self._removal.touched.add(task.dir)
        except OSError as error:
            self._fail(task, durable.removal_error(error, self.source.show(task.source_path)))
            return False
        return True

    # -- the end ----------------------------------------------------------------------------

    def _finish(self) -> None:
        self._forget_released()
        if (missing := self.planner.keys.missing()) is not None:
            self.planner.problem(missing)
        else:
            self.planner.keys.settle()
        self._forget_lost()
        for error in durable.discard_leftovers(self.target, self.planner.leftovers):
            self.planner.problem(error)
        self._removal.touched |= {folder for folder, _name in self.planner.leftovers}
        if self.options.delete and not self.planner.in_place:
            self._remove_gone()
        if not self.vault.hidden:
            # last: every removal above touched a folder's time
            folders, problem = self.planner.folders, self.planner.problem
            self._removal.touched.update(settled(folders, self.source, self.target, problem))
        elif self.drops_source:
            self._remove_emptied_folders()
        self._removal.make_durable()

    def _forget_lost(self) -> None:
        """In place: what was sealed and is gone now has no successor, whatever gets its name."""
        if self.ledger is None or not self.planner.in_place:
            return
        if lost := self.planner.lost_rows:
            # a killed run may have removed them and not made that durable
            self.source.sync_names({folder for folder, _name in lost})
            self.ledger.forget(lost)
        rows = self.planner.folders.unvisited(self.ledger.folders_with_rows())
        self.ledger.forget_folders(filter(self.source.has_no_folder, rows))

    def _remove_emptied_folders(self) -> None:
        removed = []
        for folder in self.planner.folders:
            if not folder.path or not self.options.covers(folder.path):
                continue
            if folder.path in self._unfinished:
                continue  # the next run finds it here
            if self._removal.empty_folder(folder.path):
                removed.append(folder.path)
        if self.ledger is not None and removed:
            self._removal.make_durable()
            self.ledger.forget_folders(removed)  # their names are hidden now, here as well

    def _remove_gone(self) -> None:
        """Sealed files, then folders, whose source is no more."""
        gone = self.planner.gone
        gone.look_for_folders(self.planner.folders)
        for places in gone.objects:
            self.observer.action("remove", join(*places[0]))
        failed = self._remove_counted(gone.files)
        emptied = [
            folder.path
            for folder in gone.folders
            if not self._remove_counted(folder.objects)
            and not folder.stays
            and (self.vault.hidden or self._removal.empty_folder(folder.path))
        ]
        self._removal.make_durable()
        if self.ledger is not None:
            if not failed:  # else the next run finds them by these rows
                self.ledger.forget(gone.rows)
            self.ledger.forget_folders(emptied)
        if gone.strangers:
            self.planner.note(
                ngettext(
                    "{count} sealed file that did not come from this source stays",
                    "{count} sealed files that did not come from this source stay",
                    gone.strangers,
                ).format(count=gone.strangers)
            )
        if self.vault.hidden and self.options.adopt:
            self.planner.note(
                _("what was sealed before and is gone from the source is not known here and stays")
            )

    def _remove_counted(self, objects: list[list[tuple[str, str]]]) -> bool:
        """Remove sealed files whose source is gone; whether any of them stays."""
        failed = self._removal.sealed_files(objects)
        self.report.removed += sum(
            len(places) for index, places in enumerate(objects) if index not in failed
        )
        return bool(failed)
