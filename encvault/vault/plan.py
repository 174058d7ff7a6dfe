"""Decide what a seal run does with each name it meets: the plan, made folder by folder.

Nothing here changes a file. `encvault.vault.seal` carries the tasks out; ``--dry-run`` prints them.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, cast

from encvault.envelope import PART_SIZE, VaultKeyInfo, is_vault_folder
from encvault.errors import (
    Conflict,
    FormatError,
    NameTaken,
    NestedVault,
    NotSealed,
    SealedElsewhere,
    SpecialFile,
    UnknownDataKey,
    Unreadable,
)
from encvault.fs.durable import is_temporary, storage_error
from encvault.fs.rules import Keeping
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join, split
from encvault.i18n import _, system_reason
from encvault.vault.gone import Gone, expected_names
from encvault.vault.keywatch import KeyWatch
from encvault.vault.layout import (
    SUFFIX,
    belongs_to,
    existing_objects,
    header_at,
    is_size_of,
    is_vault_entry,
    nearby_ids,
    object_folder,
    object_size,
    peek,
    sealed_name,
)
from encvault.vault.manifest import new_id
from encvault.vault.rows import FolderRow, Known, stored
from encvault.vault.sameness import Sameness
from encvault.vault.sealing import SealTask, object_sizes
from encvault.vault.visited import VisitedFolders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.envelope import Header
    from encvault.errors import EncvaultError
    from encvault.fs.entries import Entry, Folder
    from encvault.fs.tree import Tree
    from encvault.vault.ledger import Ledger
    from encvault.vault.report import Observer, Report
    from encvault.vault.selection import SealOptions
    from encvault.vault.vault import Vault

_USUAL_MODE = 0o755
_SEALED_KINDS = ("file", "symlink")


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
        self.folders = VisitedFolders()
        self.folder_rows: dict[str, FolderRow] = {}
        self.leftovers: list[tuple[str, str]] = []
        self._ids = nearby_ids()
        self._keeping = Keeping()
        self._drops_source = self.in_place and not options.keep
        may_remove = self._drops_source or options.reads_back
        self._sameness = Sameness(self._keeping, may_remove=may_remove)
        self.gone = Gone(vault, source, options, ledger, self.problem)
        self.lost_rows: list[tuple[str, str]] = []  # in place: of plain files that are no more
        self._listed_ns = 0  # by the monotonic clock: when the folder at hand had been listed
        self._unlisted: dict[str, OSError] = {}  # folders, and why they have no object
        self._vault = vault
        self._source = source
        self._options = options
        self._ledger = ledger
        self._report = report
        self._observer = observer
        is_met = self.in_place and not vault.hidden
        self.keys = KeyWatch(vault, None if is_met else ledger)
        # in place, of one folder: sealed files that a task replaces, and those without their key
        self._succeeded: set[str] = set()
        self._keyless: list[tuple[Entry, str]] = []
        if (missing := self.keys.missing_before()) is not None:
            self.problem(missing)

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
            elif folder.path and folder.error is not None:
                self._unlisted[folder.path] = folder.error
            elif folder.path and not self._is_nested(folder):
                task = self._plan_folder_object(folder)
                if task is not None:
                    yield task

    def tasks(self) -> Iterator[SealTask]:
        """The files and links to seal."""
        for folder in self._source.walk(enter=self._enters):
            yield from self._plan_folder(folder)

    # -- folders ----------------------------------------------------------------------------

    def _enters(self, path: str) -> bool:
        name = split(path)[1]
        return (
            not is_vault_folder(name)
            and not (self.in_place and is_temporary(name))
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
                    if path in self._unlisted:
                        error = self._unlisted[path]
                        self.problem(storage_error(error, self._source.show(path), reading=True))
                    folder.entries.clear()
                    return
                folder_id = row.folder
        self.folders.add(path, folder.status)
        yield from self._plan_files(folder, folder_id)

    @staticmethod
    def _is_nested(folder: Folder) -> bool:
        """Whether a folder is a vault of its own; what is in it is not visited then."""
        own = [entry for entry in folder.entries if is_vault_entry(entry)]
        if own:
            folder.entries[:] = own
        return bool(own)

    def _plan_folder_object(self, folder: Folder) -> SealTask | None:
        path, status = folder.path, folder.status
        row = self._ledger.folder(path) if self._ledger else None
        mode, mtime_ns = self._mode(status), stored(status.st_mtime_ns)
        known = existing_objects(self._vault.tree, row.objects) if row is not None else ()
        if row is not None and row.objects[0] in known:
            self.folder_rows[path] = row
            own = object_folder(row.objects[0]), row.objects[0]
            is_same = (row.mode, row.mtime_ns) == (mode, mtime_ns) and len(known) == 1
            if is_same and not self.keys.is_keyless(*own):
                return None
        folder_id = row.folder if row is not None else new_id()
        file_id = next(self._ids)
        self.folder_rows[path] = FolderRow(folder_id, (file_id, *known), mode, mtime_ns)
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

    def _mode(self, status: os.stat_result) -> int:
        """The permission bits to keep: where all may do all to everything, nobody meant it so."""
        mode = stat.S_IMODE(status.st_mode)
        return mode if self._keeping.modes(status.st_dev) else mode & _USUAL_MODE

    def _parent_id(self, path: str) -> str:
        return self.folder_rows[path].folder if path else ""

    # -- files ------------------------------------------------------------------------------

    def _plan_files(self, folder: Folder, folder_id: str | None) -> Iterator[SealTask]:
        path = folder.path
        self._listed_ns = time.monotonic_ns()
        known = self._ledger.files(path) if self._ledger else {}
        self._sameness.enter(known.values(), folder.status.st_dev)
        taken: set[str] = set()
        files: dict[str, int] = {}  # those of them that may be sealed copies, and their bytes
        if self.in_place:
            taken = {entry.name for entry in folder.entries}
        elif not self._vault.hidden:
            try:
                taken, files = self._names_in_target(path)
            except OSError as error:  # a file or a link stands where the folder belongs
                self.problem(storage_error(error, self._vault.tree.show(path)))
                return
        for entry in self._without_unchanged(folder, known, files):
            if self._is_to_seal(path, entry):
                task = self._plan_file(
                    folder, entry, folder_id, known.get(entry.name), taken, files
                )
                if task is not None:
                    yield task
        self._tell_keyless(path)
        self.leftovers += [(path, name) for name in taken if is_temporary(name)]
        if self.in_place:
            self.lost_rows += [(path, name) for name in known.keys() - taken]
        elif self._options.delete and self._options.covers(path):
            self.gone.look_in(path, taken, expected_names(folder), known)

    def _without_unchanged(
        self, folder: Folder, known: dict[str, Known], files: dict[str, int]
    ) -> list[Entry]:
        """Count what is unchanged since it was sealed; the entries of everything else.

        Nearly all of the files of nearly all nights come by here, so one of them costs no call.
        """
        # if a data key of a mirror is gone, each file has to be asked whether it is under that
        if self.in_place or not known or self.keys.lost:
            return folder.entries
        path, rest, size = folder.path, [], 0
        chooses = bool(self._options.only or self._options.exclude or self._options.own)
        is_hidden, is_another = self._vault.hidden, self._sameness.is_another
        lasting = self._sameness.lasting_device
        for entry in folder.entries:
            name, status, kind = entry
            row = known.get(name)
            if (
                row is None
                or row[0] != status.st_size
                or row[1] != status.st_mtime_ns
                or row[2] != status.st_ctime_ns
                or (
                    (row[3] != status.st_ino or status.st_dev != lasting)
                    and is_another(row, status)
                )
                or kind not in _SEALED_KINDS
                or not (
                    self._objects_there(row)
                    if is_hidden
                    else is_size_of(files.get(sealed_name(name), 0), row[0])
                )
                or (chooses and not self._is_candidate(join(path, name)))
            ):
                rest.append(entry)
            else:
                size += status.st_size
        if count := len(folder.entries) - len(rest):
            self._report.unchanged += count
            self._observer.progress(count, size)
        return rest

    def _objects_there(self, row: Known) -> bool:
        """Whether a file's objects are there, whole, and nothing of what they replaced."""
        tree, ids = self._vault.tree, row.ids
        if len(ids) == 1 and not row.older_text:  # as nearly all
            is_whole = is_size_of(object_size(tree, ids[0]), row.size)
            return is_whole and not self.keys.is_keyless(object_folder(ids[0]), ids[0])
        return not existing_objects(tree, row.older) and all(
            is_size_of(object_size(tree, file_id), size)
            and not self.keys.is_keyless(object_folder(file_id), file_id)
            for file_id, size in zip(ids, object_sizes(row.size, len(ids)), strict=True)
        )

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

    def _names_in_target(self, path: str) -> tuple[set[str], dict[str, int]]:
        """The names in the mirror's folder, and of the regular files among them the bytes."""
        names, files = set(), {}
        try:
            with os.scandir(self._vault.tree.folder(path)) as entries:
                for entry in entries:
                    names.add(entry.name)
                    if entry.is_file(follow_symlinks=False):
                        try:
                            files[entry.name] = entry.stat(follow_symlinks=False).st_size
                        except OSError:
                            continue  # removed just now, or damaged: then told by who replaces it
        except FileNotFoundError:
            return set(), {}
        return names, files

    def _is_sealed_already(self, path: str, entry: Entry) -> bool:
        if not self.in_place or not entry.name.endswith(SUFFIX) or entry.kind != "file":
            return False
        try:
            header = header_at(self._source, path, entry.name)
        except NotSealed:
            return False
        except FormatError as error:  # sealed once more, its damage would never be seen again
            self.problem(error)
            return True
        except OSError as error:  # not to be taken for a plain file of that name
            self.problem(
                storage_error(error, self._source.show(join(path, entry.name)), reading=True)
            )
            return True
        if belongs_to(header, self._vault.record.id):
            self._count_sealed(entry, cast("VaultKeyInfo", header.key_info).key)
            return True
        return self._is_elsewhere(header, join(path, entry.name))

    def _count_sealed(self, entry: Entry, key_id: str) -> None:
        if entry.name in self._succeeded:
            self._observer.progress(1, entry.status.st_size)
        elif self.keys.is_lost(key_id):
            self._keyless.append((entry, key_id))
        else:
            self._count_unchanged(entry)

    def _tell_keyless(self, path: str) -> None:
        """Of a folder, when it is known which of them this run replaces."""
        for entry, key_id in self._keyless:
            if entry.name not in self._succeeded:
                shown = self._source.show(join(path, entry.name))
                self.problem(UnknownDataKey(path=shown, key=key_id))
            self._observer.progress(1, entry.status.st_size)
        self._keyless.clear()
        self._succeeded.clear()

    def _is_elsewhere(self, header: Header, path: str) -> bool:
        """Whether a file is another vault's, and stays as it is.

        It opens beside its own vault's keys; sealed once more it would take those of both.
        """
        if not isinstance(header.key_info, VaultKeyInfo) or self._options.force:
            return False
        self.problem(SealedElsewhere(path=self._source.show(path)))
        return True

    def _plan_file(
        self,
        folder: Folder,
        entry: Entry,
        folder_id: str | None,
        known: Known | None,
        taken: set[str],
        files: dict[str, int],
    ) -> SealTask | None:
        status, where = entry.status, join(folder.path, entry.name)
        stamp = Stamp.of(status)
        unchanged = (
            known is not None and not self._drops_source and self._sameness.matches(known, status)
        )
        older: tuple[str, ...] = ()
        if self._vault.hidden:
            if known is not None:
                older = existing_objects(self._vault.tree, (*known.ids, *known.older))
            if unchanged and known is not None and self._objects_there(known):
                self._count_unchanged(entry)
                return None
            parts = max(1, -(-status.st_size // PART_SIZE)) if entry.kind == "file" else 1
            ids = tuple(next(self._ids) for _ in range(parts))
            places = tuple((object_folder(file_id), file_id) for file_id in ids)
            replaces = tuple((object_folder(file_id), file_id) for file_id in older)
        else:
            name = sealed_name(entry.name)
            ids, places, replaces = (), ((folder.path, name),), ()
            if name in taken:
                is_whole = self.in_place or is_size_of(files.get(name, 0), stamp.size)
                if unchanged and is_whole and not self.keys.is_keyless(folder.path, name):
                    self._count_unchanged(entry)
                    return None
                predecessors = self._predecessors(where, folder.path, name, known)
                if predecessors is None:
                    return None
                replaces, older = places, predecessors
                if self.in_place:
                    self._succeeded.add(name)
        if status.st_nlink > 1 and entry.kind == "file" and self._drops_source:
            self.note(
                _("{path}: has other hard links, which still hold the plain content").format(
                    path=self._source.show(where)
                )
            )
        return SealTask(
            type="file" if entry.kind == "file" else "symlink",
            dir=folder.path,
            name=entry.name,
            stamp=stamp,
            mode=self._mode(status),
            owner=(status.st_uid, status.st_gid),
            ids=ids or (new_id(),),
            places=places,
            path=entry.name if self._vault.hidden else where,
            parent=folder_id,
            replaces=replaces,
            predecessors=older,
            linked=status.st_nlink > 1 and entry.kind == "file",
            seen_ns=None if self._keeping.our_clock(status.st_dev) else self._listed_ns,
        )

    def _count_unchanged(self, entry: Entry) -> None:
        self._report.unchanged += 1
        self._observer.progress(1, entry.status.st_size)

    def _predecessors(
        self, where: str, path: str, name: str, known: Known | None
    ) -> tuple[str, ...] | None:
        """What the sealed file `name` may be that gives way to the plain file.

        None if it must stay; that is reported then.
        """
        shown = self._source.show(where)
        try:
            header = peek(self._vault.tree, path, name)
        except OSError:
            header = None
        if header is None or not belongs_to(header, self._vault.record.id):
            # in place it is somebody's file, and perhaps another one that this run seals
            if self._options.force and not self.in_place:
                return ()
            other = self._vault.tree.show(join(path, name))
            self.problem(NameTaken(path=shown, other=other))
            return None
        ids = (*known.ids, *known.older) if known is not None else ()
        if header.key_info.file in ids:
            return ids
        if self._options.force or (self._options.adopt and not self.in_place):
            return (*ids, header.key_info.file)
        self.problem(Conflict(path=shown))
        return None

    def note(self, message: str) -> None:
        """Tell something that is no failure."""
        self._report.notes.append(message)
        self._observer.note(message)
