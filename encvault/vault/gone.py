"""What a mirror holds whose source is no more, for ``seal --to --delete``.

Only what is known to have come from this source is found, unless the run was allowed to adopt all
of the vault: a sealed file that came another way may be the only copy there is.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.fs.durable import storage_error
from encvault.fs.tree import join, split
from encvault.vault.layout import (
    SUFFIX,
    belongs_to,
    existing_objects,
    object_folder,
    peek,
    plain_name,
    sealed_name,
)
from encvault.vault.manifest import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from encvault.errors import EncvaultError
    from encvault.fs.entries import Folder
    from encvault.fs.tree import Tree
    from encvault.vault.ledger import Ledger
    from encvault.vault.rows import Known
    from encvault.vault.selection import SealOptions
    from encvault.vault.vault import Vault
    from encvault.vault.visited import VisitedFolders

Place = tuple[str, str]


@dataclass(slots=True)
class GoneFolder:
    """A folder that the source has no more.

    Attributes:
        path: relative to the source.
        objects: sealed files in it, each with its further parts, by place in the vault.
        stays: whether something in it was excluded and needs it.
    """

    path: str
    objects: list[list[Place]] = field(default_factory=list)
    stays: bool = False


class Gone:
    """Collects what is gone while the source is walked, and the rest when that is done.

    Args:
        vault: the mirror.
        source: what it mirrors.
        options: what is left out, and whether strangers are adopted.
        ledger: what is known to have come from this source, or None.
        problem: told of what cannot be looked at.

    Attributes:
        files: sealed files without a source in folders that are still there, with parts.
        rows: folders and names of those to forget.
        folders: folders without a source, deepest first.
        strangers: sealed files that did not come from this source and stay.
    """

    def __init__(
        self,
        vault: Vault,
        source: Tree,
        options: SealOptions,
        ledger: Ledger | None,
        problem: Callable[[EncvaultError], None],
    ) -> None:
        self.files: list[list[Place]] = []
        self.rows: list[Place] = []
        self.folders: list[GoneFolder] = []
        self.strangers = 0
        self._vault = vault
        self._source = source
        self._options = options
        self._ledger = ledger
        self._problem = problem
        self._unread: set[Place] = set()

    @property
    def objects(self) -> list[list[Place]]:
        """All sealed files that are to go."""
        return self.files + [places for folder in self.folders for places in folder.objects]

    def look_in(
        self, path: str, taken: Iterable[str], expected: set[str], known: dict[str, Known]
    ) -> None:
        """Compare one folder of the source with its mirror.

        Args:
            path: the folder.
            taken: visible layout: the names in the mirror's folder.
            expected: the names that belong there.
            known: what is remembered of the folder.
        """
        self.files += self._sealed_files(path, set(taken) - expected, known)
        for name, row in known.items():
            sealed = sealed_name(name)
            if sealed in expected or self._is_excluded(join(path, name)):
                continue
            if (path, sealed) not in self._unread:
                self.rows.append((path, name))
            if self._vault.hidden:
                self.files += self._objects_of(row)

    def look_for_folders(self, visited: VisitedFolders) -> None:
        """Find the folders that the source has no more; after all others were looked in."""
        paths: Iterable[str] = ()
        if not self._vault.hidden:
            walk = self._vault.tree.names(enter=lambda path: path != FOLDER)
            paths = (found.path for found in walk)
        elif self._ledger:
            paths = self._ledger.all_folders()
        needed: set[str] = set()  # folders of what stays
        for path in sorted(visited.unvisited(paths), reverse=True):
            if not self._source.has_no_folder(path):
                continue
            if self._is_excluded(path):
                needed.add(split(path)[0])
                continue
            folder = self._gone_folder(path, needed=path in needed)
            if folder.stays:
                needed.add(split(path)[0])
            self.folders.append(folder)
        try:
            self._source.check_there()  # last: it may have gone at any moment before
        except OSError as error:
            self._problem(storage_error(error, self._source.path))
            for found in (self.files, self.rows, self.folders):
                found.clear()

    def _gone_folder(self, path: str, *, needed: bool) -> GoneFolder:
        known = self._ledger.files(path) if self._ledger else {}
        if not self._vault.hidden:
            names: set[str] = set()
            with contextlib.suppress(OSError):
                names = set(os.listdir(self._vault.tree.folder(path)))
            return GoneFolder(path, self._sealed_files(path, names, known), needed)
        folder = GoneFolder(path, stays=needed)
        for name, row in known.items():
            if self._is_excluded(join(path, name)):
                folder.stays = True
            else:
                folder.objects += self._objects_of(row)
        if not folder.stays and self._ledger is not None:
            own = self._ledger.folder(path)
            ids = own.objects if own is not None else ()
            folder.objects += self._places((one,) for one in ids)
        return folder

    def _sealed_files(
        self, path: str, names: set[str], known: dict[str, Known]
    ) -> list[list[Place]]:
        """Those of the names that are sealed files from this source."""
        found: list[list[Place]] = []
        if not names:
            return found  # as nearly always
        rows = {sealed_name(name): (*row.ids, *row.older) for name, row in known.items()}
        for name in sorted(names):
            if not name.endswith(SUFFIX) or self._is_excluded(join(path, plain_name(name))):
                continue
            try:
                header = peek(self._vault.tree, path, name)
            except OSError as error:
                shown = self._vault.tree.show(join(path, name))
                self._problem(storage_error(error, shown, reading=True))
                self._unread.add((path, name))
                continue
            if header is None or not belongs_to(header, self._vault.record.id):
                continue
            if self._options.adopt or header.key_info.file in rows.get(name, ()):
                found.append([(path, name)])
            else:
                self.strangers += 1
        return found

    def _objects_of(self, row: Known) -> list[list[Place]]:
        return self._places(row.all)

    def _places(self, objects: Iterable[tuple[str, ...]]) -> list[list[Place]]:
        """Where those of the objects are that the vault has, each with its further parts."""
        found = [existing_objects(self._vault.tree, ids) for ids in objects]
        return [[(object_folder(one), one) for one in ids] for ids in found if ids]

    def _is_excluded(self, path: str) -> bool:
        return self._options.excludes_within(path)


def expected_names(folder: Folder) -> set[str]:
    """The names that the visible layout has for what is in a folder."""
    names = {
        entry.name if entry.kind == "dir" else sealed_name(entry.name) for entry in folder.entries
    }
    return names | {
        sealed_name(entry.name)
        for entry in folder.entries
        if entry.kind == "dir" and entry.is_unknown
    }
