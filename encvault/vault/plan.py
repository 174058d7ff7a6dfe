"""Decide what a seal run does with each name it meets: the plan, made folder by folder.

Nothing here changes a file. `encvault.vault.seal` carries the tasks out; ``--dry-run`` prints them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.envelope import PART_SIZE, VaultKeyInfo
from encvault.errors import Conflict, NestedVault, SpecialFile, Unreadable
from encvault.fs.durable import is_temporary, storage_error
from encvault.fs.tree import Folder, Stamp, join, split
from encvault.i18n import _, system_reason
from encvault.vault.layout import (
    SUFFIX,
    belongs_to,
    object_exists,
    object_folder,
    peek,
    sealed_name,
)
from encvault.vault.ledger import FolderRow, Known
from encvault.vault.manifest import FOLDER, new_id
from encvault.vault.sealing import SealTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.errors import EncvaultError
    from encvault.fs.tree import Entry, Tree
    from encvault.vault.ledger import Ledger
    from encvault.vault.report import Observer, Report
    from encvault.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class SealOptions:
    """How to seal a tree.

    Attributes:
        keep: leave the originals (in place only; a mirror never touches its source).
        force: let the plain file win where a different sealed copy exists.
        delete: remove sealed files whose source is gone (mirror only).
        exclude: shell patterns; a name or path that matches is left out.
        only: paths within the source to restrict the run to; empty for all of it.
        jobs: worker processes, 0 for one per processor.
    """

    keep: bool = False
    force: bool = False
    delete: bool = False
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    jobs: int = 0

    def excludes(self, path: str) -> bool:
        """Whether a pattern leaves this path out."""
        name = split(path)[1]
        return any(
            fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(path, pattern)
            for pattern in self.exclude
        )

    def covers(self, path: str) -> bool:
        """Whether the run is concerned with this file."""
        return not self.only or any(
            chosen in ("", path) or path.startswith(chosen + "/") for chosen in self.only
        )

    def leads_to(self, path: str) -> bool:
        """Whether the run must enter this folder."""
        return self.covers(path) or any(chosen.startswith(path + "/") for chosen in self.only)


class Planner:
    """Walks the source and yields a task for everything that must be sealed.

    Args:
        vault: where to.
        source: where from; the vault's own tree when sealing in place.
        options: what to leave out, and who wins.
        ledger: what was known before, or None.
        report, observer: are told what is left out.
    """

    def __init__(
        self,
        vault: Vault,
        source: Tree,
        options: SealOptions,
        ledger: Ledger | None,
        report: Report,
        observer: Observer,
    ) -> None:
        self.in_place = source is vault.tree
        self.folders: list[Folder] = []  # visited; without their entries
        self.folder_rows: dict[str, FolderRow] = {}
        self.leftovers: list[tuple[str, str]] = []
        self.gone: list[list[tuple[str, str]]] = []  # sealed files without a source, with parts
        self.gone_rows: list[tuple[str, str]] = []
        self._vault = vault
        self._source = source
        self._options = options
        self._ledger = ledger
        self._report = report
        self._observer = observer
        self._drops_source = self.in_place and not options.keep

    def problem(self, error: EncvaultError) -> None:
        """Record one file that is left as it is."""
        self._report.problems.append(error)
        self._observer.problem(error)

    def survey(self) -> tuple[int, int]:
        """Count files and bytes for a progress bar."""
        files = size = 0
        for folder in self._source.walk(enter=self._enters):
            for entry in folder.entries:
                if entry.kind == "file" and self._is_candidate(join(folder.path, entry.name)):
                    files += 1
                    size += entry.status.st_size
        return files, size

    def folder_tasks(self) -> Iterator[SealTask]:
        """Hidden layout: the folders to seal. All of them come before the first file.

        A file whose folder's object is missing would lose its place.
        """
        for folder in self._source.walk(enter=self._enters):
            above = split(folder.path)[0]
            if above and above not in self.folder_rows:
                folder.entries.clear()  # its object failed: a folder below it would be lost
            elif folder.path and folder.error is None and not self._is_nested(folder):
                task = self._plan_folder_object(folder)
                if task is not None:
                    yield task

    def tasks(self) -> Iterator[SealTask]:
        """The files and links to seal."""
        for folder in self._source.walk(enter=self._enters):
            yield from self._plan_folder(folder)

    # -- folders ----------------------------------------------------------------------------

    def _enters(self, path: str) -> bool:
        return (
            split(path)[1] != FOLDER
            and self._options.leads_to(path)
            and not self._options.excludes(path)
        )

    def _is_candidate(self, path: str) -> bool:
        return self._options.covers(path) and not self._options.excludes(path)

    def _plan_folder(self, folder: Folder) -> Iterator[SealTask]:
        path = folder.path
        if folder.error is not None:
            reason = system_reason(folder.error)
            self.problem(Unreadable(path=self._source.show(path), reason=reason))
            return
        if path and self._is_nested(folder):
            self.problem(NestedVault(path=self._source.show(path)))
            folder.entries.clear()
            return
        folder_id: str | None = None
        if self._vault.hidden:
            folder_id = ""
            if path:
                row = self.folder_rows.get(path)
                if row is None:  # its own object failed, or it is new since a moment ago
                    folder.entries.clear()
                    return
                folder_id = row.folder
        self.folders.append(Folder(path, folder.status, []))
        yield from self._plan_files(folder, folder_id)

    @staticmethod
    def _is_nested(folder: Folder) -> bool:
        """Whether a folder is a vault of its own; what is in it is not visited then."""
        nested = any(entry.name == FOLDER for entry in folder.entries)
        if nested:
            folder.entries[:] = [entry for entry in folder.entries if entry.name == FOLDER]
        return nested

    def _plan_folder_object(self, folder: Folder) -> SealTask | None:
        path, status = folder.path, folder.status
        row = self._ledger.folder(path) if self._ledger else None
        mode = stat.S_IMODE(status.st_mode)
        known = self._existing(row.objects) if row is not None else ()
        if row is not None and row.objects[0] in known:
            self.folder_rows[path] = row
            if (row.mode, row.mtime_ns) == (mode, status.st_mtime_ns) and len(known) == 1:
                return None
        folder_id = row.folder if row is not None else new_id()
        file_id = new_id()
        self.folder_rows[path] = FolderRow(folder_id, (file_id, *known), mode, status.st_mtime_ns)
        above, name = split(path)
        return SealTask(
            type="dir",
            dir=path,
            name="",
            stamp=Stamp.of(status)._replace(size=0),
            mode=mode,
            owner=(status.st_uid, status.st_gid),
            ids=(file_id,),
            places=((object_folder(file_id), file_id),),
            path=name,
            parent=self._parent_id(above),
            folder=folder_id,
            replaces=tuple((object_folder(known_id), known_id) for known_id in known),
        )

    def _parent_id(self, path: str) -> str:
        return self.folder_rows[path].folder if path else ""

    # -- files ------------------------------------------------------------------------------

    def _plan_files(self, folder: Folder, folder_id: str | None) -> Iterator[SealTask]:
        path = folder.path
        known = self._ledger.files(path) if self._ledger else {}
        taken: set[str] = set()
        if self.in_place:
            taken = {entry.name for entry in folder.entries}
        elif not self._vault.hidden:
            try:
                taken = self._names_in_target(path)
            except OSError as error:  # a file or a link stands where the folder belongs
                self.problem(storage_error(error, self._vault.tree.show(path)))
                return
        expected: set[str] = set()
        for entry in folder.entries:
            expected.add(entry.name if entry.kind == "dir" else sealed_name(entry.name))
            if self._is_to_seal(path, entry):
                task = self._plan_file(folder, entry, folder_id, known.get(entry.name), taken)
                if task is not None:
                    yield task
        self.leftovers += [(path, name) for name in taken if is_temporary(name)]
        if not self.in_place and self._options.covers(path):
            self._find_gone(path, taken, expected, known)

    def _is_to_seal(self, path: str, entry: Entry) -> bool:
        where = join(path, entry.name)
        if entry.kind == "dir" or not self._is_candidate(where):
            return False
        if entry.kind not in ("file", "symlink"):
            self.problem(SpecialFile(path=self._source.show(where), kind=_(entry.kind)))
            return False
        if self.in_place and is_temporary(entry.name):
            return False
        return not self._is_sealed_already(path, entry)

    def _names_in_target(self, path: str) -> set[str]:
        try:
            return set(os.listdir(self._vault.tree.folder(path)))
        except FileNotFoundError:
            return set()

    def _is_sealed_already(self, path: str, entry: Entry) -> bool:
        if not self.in_place or not entry.name.endswith(SUFFIX) or entry.kind != "file":
            return False
        try:
            header = peek(self._source, path, entry.name)
        except OSError as error:  # not to be taken for a plain file of that name
            self.problem(
                storage_error(error, self._source.show(join(path, entry.name)), reading=True)
            )
            return True
        if not belongs_to(header, self._vault.record.id):
            return False
        self._count_unchanged(entry)
        return True

    def _plan_file(
        self,
        folder: Folder,
        entry: Entry,
        folder_id: str | None,
        known: Known | None,
        taken: set[str],
    ) -> SealTask | None:
        status, where = entry.status, join(folder.path, entry.name)
        stamp = Stamp.of(status)
        unchanged = known is not None and not self._drops_source and known.matches(stamp)
        older: tuple[str, ...] = ()
        if self._vault.hidden:
            older = self._existing((*known.ids, *known.older)) if known is not None else ()
            if unchanged and known is not None and older == known.ids:
                self._count_unchanged(entry)
                return None
            parts = max(1, -(-status.st_size // PART_SIZE)) if entry.kind == "file" else 1
            ids = tuple(new_id() for _ in range(parts))
            places = tuple((object_folder(file_id), file_id) for file_id in ids)
            replaces = tuple((object_folder(file_id), file_id) for file_id in older)
        else:
            name = sealed_name(entry.name)
            ids, places, replaces = (), ((folder.path, name),), ()
            if name in taken:
                if unchanged:
                    self._count_unchanged(entry)
                    return None
                if not self._succeeds(folder.path, name, known):
                    self.problem(Conflict(path=self._source.show(where)))
                    return None
                replaces = places
                older = (*known.ids, *known.older) if known is not None else ()
        if status.st_nlink > 1 and entry.kind == "file" and self._drops_source:
            self._note(
                _("{path}: has other hard links, which still hold the plain content").format(
                    path=self._source.show(where)
                )
            )
        return SealTask(
            type="file" if entry.kind == "file" else "symlink",
            dir=folder.path,
            name=entry.name,
            stamp=stamp,
            mode=stat.S_IMODE(status.st_mode),
            owner=(status.st_uid, status.st_gid),
            ids=ids or (new_id(),),
            places=places,
            path=entry.name if self._vault.hidden else where,
            parent=folder_id,
            replaces=replaces,
            predecessors=older,
            linked=status.st_nlink > 1 and entry.kind == "file",
        )

    def _count_unchanged(self, entry: Entry) -> None:
        self._report.unchanged += 1
        self._observer.progress(1, entry.status.st_size)

    def existing_places(self, ids: tuple[str, ...]) -> list[tuple[str, str]]:
        """Where those of the objects are that the vault has."""
        return [(object_folder(file_id), file_id) for file_id in self._existing(ids)]

    def _existing(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the objects that the vault has."""
        return tuple(file_id for file_id in ids if object_exists(self._vault.tree, file_id))

    def _succeeds(self, path: str, name: str, known: Known | None) -> bool:
        """Whether the plain file may take the place of the sealed file `name`."""
        if self._options.force:
            return True
        try:
            header = peek(self._vault.tree, path, name)
        except OSError:
            return False
        if header is None or not isinstance(header.key_info, VaultKeyInfo):
            return False
        if header.key_info.vault != self._vault.record.id:
            return False
        # a mirror follows its source; in place, only what came from this very file gives way
        return not self.in_place or (
            known is not None and header.key_info.file in (*known.ids, *known.older)
        )

    def _find_gone(
        self, path: str, taken: set[str], expected: set[str], known: dict[str, Known]
    ) -> None:
        if not self._options.delete:
            return
        for name in sorted(taken - expected):
            if not name.endswith(SUFFIX) or self._options.excludes(
                join(path, name.removesuffix(SUFFIX))
            ):
                continue
            with contextlib.suppress(OSError):
                if belongs_to(peek(self._vault.tree, path, name), self._vault.record.id):
                    self.gone.append([(path, name)])
        for name, row in known.items():
            if sealed_name(name) not in expected and not self._options.excludes(join(path, name)):
                self.gone_rows.append((path, name))
                if self._vault.hidden:
                    objects = [self.existing_places(ids) for ids in row.all]
                    self.gone += [places for places in objects if places]

    def _note(self, message: str) -> None:
        self._report.notes.append(message)
        self._observer.note(message)
