"""What a run does: seal each source as the job says, look at what lies there, remove originals."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault import operations
from encvault.crypto.suite import Suite
from encvault.envelope import VAULT_FOLDER
from encvault.errors import CopyLost, EncvaultError, SourceEmpty, SourceMissing
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.rules import Keeping
from encvault.fs.stamp import Stamp
from encvault.fs.tree import Tree, join, split
from encvault.jobs.archives import Shelf
from encvault.jobs.destinations import (
    base_of,
    check_in_place,
    has_files,
    mirror_of,
    shelf_of,
)
from encvault.jobs.inventory import Inventory, check_presence, copies_of, lost_copies
from encvault.jobs.originals import settled_stamps
from encvault.jobs.sending import Outbox, send_mirror, spool_of
from encvault.operations.drives.found import reached
from encvault.vault.keywatch import KeyWatch
from encvault.vault.ledger import ledger_of
from encvault.vault.report import Relay, Report
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from encvault.jobs.jobfile import Job
    from encvault.jobs.limits import Limits
    from encvault.jobs.records import Outcome
    from encvault.operations.prompter import Prompter
    from encvault.vault.ledger import Ledger
    from encvault.vault.report import Event, Observer

_SAMPLE_PERCENT = 1.0
_ALL_PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Means:
    """What the work needs beside its job.

    Attributes:
        prompter: has the keys; asks nobody.
        register_path: of the company's drives.
        suite: of what is new, where the job does not say.
    """

    prompter: Prompter
    register_path: str
    suite: Suite


class _Members(Relay):
    """Notes what went into an archive: a folder that is moved meanwhile changes no file in it."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.names: set[str] = set()

    def member(self, action: str, path: str) -> None:
        """See `Observer`."""
        self.names.add(path)
        super().member(action, path)


class _Sealed(Relay):
    """Notes what was sealed in this very run."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.paths: set[str] = set()

    def before_release(self, events: Sequence[Event]) -> None:
        """See `Observer`."""
        super().before_release(events)
        self.paths.update(event.path for event in events)


class Work:
    """One attempt.

    Args:
        job: what to do.
        means: what it needs.
        state_dir: local state folder.
        observer: is told what happens.
        limits: of the run.
        folder: of the job's records, which is there.
        earlier: the last run that made an archive, or None.

    Attributes:
        verified: copies that were read back after the run.
        archive: the archive that was made, or "".
    """

    def __init__(
        self,
        job: Job,
        means: Means,
        state_dir: str,
        observer: Observer,
        limits: Limits,
        folder: str,
        earlier: Outcome | None,
    ) -> None:
        self.job = job
        self.prompter = means.prompter
        self.suite = means.suite
        self.register_path = means.register_path
        self.state_dir = state_dir
        self.observer = observer
        self.limits = limits
        self.folder = folder
        self.earlier = earlier
        self.report = Report()
        self.verified = 0
        self.archive = ""
        self._archived: set[str] = set()  # names of the members
        self._sealed: dict[str, set[str]] = {}  # by source, of mirrors whose originals shall go

    def do(self) -> Report:
        """Do it; failures of single files and sources are in the report.

        Raises:
            EncvaultError, OSError: nothing could be done at all.
        """
        if self.job.mode == "in-place":
            for source in self._sources():
                self._try(functools.partial(self._in_place, source))
            return self.report
        if self.job.is_remote:
            self._to_server()
            return self.report
        base = base_of(self.job, self.register_path)
        with contextlib.ExitStack() as stack:
            if self.job.drive is not None:
                stack.enter_context(reached(base))
            if self.job.mode == "archive":
                self._archive(base)
            else:
                for source in self._sources():
                    self._try(functools.partial(self._mirror, source, base))
                for source in self._emptied():
                    self._try(functools.partial(self._look_at_mirror, source, base))
        return self.report

    def _sources(self) -> Iterator[str]:
        """Those that are there; of the others it is told."""
        for source in self.job.sources:
            self.limits.boundary()
            if not os.path.isdir(source):
                self._problem(SourceMissing(path=source))
            elif self.job.mode == "in-place" or has_files(source):
                yield source
            elif not self.job.remove_sources:  # what is not mounted looks like this
                self._problem(SourceEmpty(path=source))

    def _emptied(self) -> Iterator[str]:
        """Those of which all is sealed and removed."""
        for source in self.job.sources if self.job.remove_sources else ():
            if os.path.isdir(source) and not has_files(source):
                yield source

    def _try(self, step: Callable[[], None]) -> None:
        """Do one of several; what one meets keeps no other from it."""
        try:
            step()
        except EncvaultError as error:
            self._problem(error)
        except OSError as error:
            self._problem(storage_error(error, error.filename or self.job.place))

    def _problem(self, error: EncvaultError) -> None:
        self.report.problems.append(error)
        self.observer.problem(error)

    def _request(self, *paths: str) -> operations.SealRequest:
        return operations.SealRequest(
            paths=paths,
            suite=Suite.from_label(self.job.suite) if self.job.suite else None,
            default_suite=self.suite,
            exclude=self.job.exclude,
            state_dir=self.state_dir,
        )

    # -- in place ---------------------------------------------------------------------------

    def _in_place(self, source: str) -> None:
        check_in_place(self.job, source, self.prompter)
        request = self._request(source)._replace(hide_names=self.job.hide_names)
        self.report.add(operations.seal(request, self.prompter, self.observer))
        self._verify(source, "")

    # -- mirror -----------------------------------------------------------------------------

    def _mirror(self, source: str, base: str) -> None:
        place = mirror_of(self.job, source, base, self.prompter)
        source = os.path.realpath(source)  # what is remembered of it goes by this
        report = self._seal_to(source, place)
        is_whole = self._verify(place, source)
        if self.job.remove_sources and is_whole and not report.problems:
            self._remove_mirrored(source, place)

    def _look_at_mirror(self, source: str, base: str) -> None:
        self._look_for_keys(source, mirror_of(self.job, source, base, self.prompter))

    def _look_for_keys(self, source: str, place: str) -> None:
        """Nothing is sealed, so nothing else would notice that what was there opens no more."""
        if not os.path.isdir(os.path.join(place, VAULT_FOLDER)):
            return
        with (
            Vault.load(place) as vault,
            ledger_of(self.state_dir, vault, os.path.realpath(source), create=False) as ledger,
        ):
            if (missing := KeyWatch(vault, ledger).missing_before()) is not None:
                self._problem(missing)

    def _seal_to(self, source: str, place: str) -> Report:
        request = self._request(source)._replace(
            to=place,
            hide_names=self.job.hide_names,
            delete=self.job.delete,
            reads_back=self.job.remove_sources,
        )
        observer = self.observer
        if self.job.remove_sources:
            observer = sealed = _Sealed(self.observer)
            self._sealed[source] = sealed.paths
        report = operations.seal(request, self.prompter, observer)
        self.report.add(report)
        return report

    def _verify(self, place: str, root: str) -> bool:
        """Look at what lies in a vault; whether all of it is right.

        With a key it is opened, without one compared with what it was (see the inventory).
        """
        if self.job.verify == "none":
            return False
        is_sample = self.job.verify == "sample"
        before = len(self.report.problems)
        with Inventory(self.folder) as inventory, Vault.load(place) as vault:
            if self.job.secret.given:
                self._authenticate(vault, root, is_sample=is_sample)
            else:
                self._compare(inventory, vault, root, is_sample=is_sample)
        return len(self.report.problems) == before

    def _authenticate(self, vault: Vault, root: str, *, is_sample: bool) -> None:
        share = _SAMPLE_PERCENT if is_sample else _ALL_PERCENT
        found = operations.verify(vault.path, self.prompter, sample=share, observer=self.observer)
        self.verified += found.files
        self.report.problems += found.problems
        with self._ledger(vault, root) as ledger:
            if ledger is not None and not (is_sample or found.problems):
                for error in check_presence(vault, ledger):
                    self._problem(error)

    def _compare(self, inventory: Inventory, vault: Vault, root: str, *, is_sample: bool) -> None:
        with self._ledger(vault, root) as ledger:
            copies = copies_of(vault, ledger, is_sample=is_sample)
        for path, ids in copies:
            self.limits.boundary()
            try:
                inventory.check_copy(vault.tree, path, ids)
                self.verified += 1
            except EncvaultError as error:
                self._problem(error)
        inventory.keep()

    def _ledger(self, vault: Vault, root: str) -> contextlib.AbstractContextManager[Ledger | None]:
        """What is known of a mirror; in place nothing is, once the originals are gone."""
        return ledger_of(self.state_dir, vault, root) if root else contextlib.nullcontext()

    def _remove_mirrored(self, source: str, place: str) -> None:
        """Remove the originals that are, unchanged, what was sealed and is verified."""
        with (
            Vault.load(place) as vault,
            Tree(source) as tree,
            ledger_of(self.state_dir, vault, tree.path) as ledger,
        ):
            if ledger is not None:
                options, keeping = self._request().options(), Keeping()
                rows = {join(folder, name): known for folder, name, known in ledger.rows()}
                stamps = {
                    path: known for path, known in rows.items() if not options.excludes_within(path)
                }
                sealed = self._sealed[source]

                def is_same(path: str, stamp: Stamp) -> bool:
                    # where inodes do not last, what an earlier run sealed may look just like it
                    is_told = path in sealed or keeping.inodes(stamp.device)
                    return is_told and stamps[path].matches(stamp)

                gone: list[tuple[str, str]] = []
                try:
                    self._remove(tree, is_same, list(stamps), gone)
                finally:
                    ledger.note_removed(gone)

    def _remove(
        self,
        tree: Tree,
        is_same: Callable[[str, Stamp], bool],
        paths: list[str],
        gone: list[tuple[str, str]],
    ) -> None:
        """Remove those that are the same; folder and name of each goes to `gone` at once."""
        for path in paths:
            self.limits.boundary()
            try:
                if not is_same(path, Stamp.of(tree.status(path))):
                    continue  # it was changed since; the next run seals it
                folder, name = split(path)
                calls.unlink(tree.folder(folder), name)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._problem(storage_error(error, tree.show(path)))
                continue
            gone.append((folder, name))
            self.report.removed += 1
        tree.sync_names({folder for folder, _name in gone})

    # -- servers ----------------------------------------------------------------------------

    def _to_server(self) -> None:
        if self.job.mode == "archive":
            self._archive_there()
            return
        sealed: dict[str, Report] = {}
        for source in self._sources():
            self._try(functools.partial(self._mirror_here, source, sealed))
        for source in self._emptied():
            place = spool_of(self.folder, source)
            self._try(functools.partial(self._look_for_keys, source, place))
        # the engine forks, and a connection has threads: all is sealed before any is carried
        for source, report in sealed.items():
            self._try(functools.partial(self._carry, source, report))

    def _mirror_here(self, source: str, sealed: dict[str, Report]) -> None:
        place = spool_of(self.folder, source)
        Tree.made(os.path.dirname(place)).close()
        sealed[source] = self._seal_to(os.path.realpath(source), place)

    def _carry(self, source: str, sealed: Report) -> None:
        self.limits.boundary()
        place, root = spool_of(self.folder, source), os.path.realpath(source)
        with Vault.load(place) as vault, self._ledger(vault, root) as ledger:
            lost = list(lost_copies(vault, ledger)) if ledger is not None else []
        for path in lost:
            self._problem(CopyLost(path=os.path.join(place, path)))
        carried = send_mirror(self.job, source, self.folder, self.observer, spared=frozenset(lost))
        self.verified += carried.verified
        self.report.problems += carried.problems
        self.report.notes += carried.notes
        if self.job.remove_sources and not (sealed.problems or carried.problems or lost):
            self._remove_mirrored(root, place)

    def _archive_there(self) -> None:
        with Outbox(self.job, self.folder, self.earlier, self.observer) as outbox:
            sources = list(self._sources())
            there = outbox.there()
        if not sources:
            return
        stamps = self._stamps(sources) if self.job.remove_sources else {}
        with (  # nothing is connected now
            Shelf(self.job.name, outbox.shelf.tree.path) as shelf,
            Inventory(self.folder) as inventory,
        ):
            is_complete = self._sealed_archive(shelf, inventory, sources, there)
            ours = inventory.made()
            if not is_complete:
                self.report.removed += sum(1 for _name in shelf.drop_incomplete(ours=ours))
                return
        with Outbox(self.job, self.folder, None, self.observer) as outbox:
            for address in outbox.send():
                self.archive = address
            for error in outbox.check(self.limits.boundary):
                if error is None:
                    self.verified += 1
                else:
                    self._problem(error)
            if self.report.problems:
                return
            if not self.job.remove_sources:
                self.report.removed += sum(1 for _name in outbox.drop_old(ours))
        self._remove_archived(stamps)

    # -- archive ----------------------------------------------------------------------------

    def _archive(self, base: str) -> None:
        with shelf_of(self.job, base, self.earlier) as shelf, Inventory(self.folder) as inventory:
            sources = list(self._sources())
            if not sources:
                return
            stamps = self._stamps(sources) if self.job.remove_sources else {}
            if not self._sealed_archive(shelf, inventory, sources):
                self.report.removed += sum(
                    1 for _name in shelf.drop_incomplete(ours=inventory.made())
                )
                return
            self._verify_archives(shelf, inventory)
            if self.report.problems:
                return
            if not self.job.remove_sources:  # else each may be the only copy of something
                for dropped in shelf.drop_old(self.job.keep, inventory.made()):
                    inventory.forget(dropped)
                    self.report.removed += 1
            inventory.keep()
        self._remove_archived(stamps)

    def _sealed_archive(
        self,
        shelf: Shelf,
        inventory: Inventory,
        sources: list[str],
        elsewhere: Sequence[str] = (),
    ) -> bool:
        """Make an archive; whether it has everything, and its place then."""
        path = shelf.new_path(elsewhere)
        inventory.note_made(os.path.basename(path))
        request = self._request(*sources)._replace(archive=path, reads_back=True)
        members = _Members(self.observer)
        self.report.add(operations.seal(request, self.prompter, members))
        self._archived = members.names
        self.archive = path
        if self.report.problems:
            return False  # it stays where it is, and nothing is dropped for it
        self.archive = shelf.complete_one(path)
        return True

    def _remove_archived(self, stamps: dict[str, dict[str, Stamp]]) -> None:
        for source, found in stamps.items():
            with Tree(source) as tree:
                prefix = os.path.basename(tree.path) if len(stamps) > 1 else ""
                paths = [path for path in found if join(prefix, path) in self._archived]
                self._remove(tree, functools.partial(_is_same, found), paths, [])

    def _verify_archives(self, shelf: Shelf, inventory: Inventory) -> None:
        """Look at the archives that there are; this run's is the last."""
        names = {"none": [], "sample": shelf.complete()[-2:], "full": shelf.complete()}
        for name in names[self.job.verify]:
            self.limits.boundary()
            try:
                inventory.check_archive(shelf.tree, name)
                if self.job.secret.given:
                    path = shelf.tree.show(name)
                    found = operations.verify(path, self.prompter, observer=self.observer)
                    self.report.problems += found.problems
            except EncvaultError as error:
                self._problem(error)
            else:
                self.verified += 1
        inventory.keep()

    def _stamps(self, sources: list[str]) -> dict[str, dict[str, Stamp]]:
        """Every file that may be removed if it is the same afterwards."""
        log = self.prompter.access_log()
        # what encvault itself works with is in no archive
        own = [os.path.realpath(one) for one in (self.state_dir, log.path if log else None) if one]
        return settled_stamps(sources, self._request().options(), own)


def _is_same(stamps: Mapping[str, Stamp], path: str, stamp: Stamp) -> bool:
    return stamps[path] == stamp
