"""What there is to open in a vault, and where each file goes: the mirror of `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.errors import DamagedFiles, NameEscaped, NestedVault, Unreadable
from encvault.fs import durable
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join, split
from encvault.i18n import system_reason
from encvault.vault.catalog import LOST_AND_FOUND
from encvault.vault.layout import SUFFIX, object_folder, plain_name, sealed_path
from encvault.vault.manifest import FOLDER, new_id
from encvault.vault.naming import Naming
from encvault.vault.opening import OpenTask
from encvault.vault.selection import Selection
from encvault.vault.visited import VisitedFolders

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from encvault.errors import EncvaultError
    from encvault.fs.entries import Folder
    from encvault.fs.tree import Tree
    from encvault.vault.catalog import Catalog
    from encvault.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class OpenOptions(Selection):
    """How to open a vault.

    Attributes:
        keep: leave the sealed files (in place only; elsewhere they always stay).
        force: replace files that differ.
        base: folder within the vault whose content the target shall hold; "" for the top.
        is_closed: whether the target was made for this, and stands for a folder of the vault: until
            it has what that had, nobody may look into it.
        jobs: worker processes, 0 for one per processor.
    """

    keep: bool = False
    force: bool = False
    base: str = ""
    is_closed: bool = False
    jobs: int = 0

    def below_base(self, path: str) -> str:
        """Where a path of the vault goes in the target."""
        if not self.base:
            return path
        return "" if path == self.base else path.removeprefix(self.base + "/")


class OpenPlan:
    """The tasks of one run.

    Attributes:
        naming: where a path goes in the target.
        folders: of a visible vault, without what is in them, each before those inside it.
        leftovers: folder and name of what killed runs left in the vault.

    Args:
        vault: to open.
        target: where to; the vault's own tree to open in place.
        options: what and how.
        catalog: of a vault with hidden names.
        problem: is told what is left.
    """

    def __init__(
        self,
        vault: Vault,
        target: Tree,
        options: OpenOptions,
        catalog: Catalog | None,
        problem: Callable[[EncvaultError], None],
    ) -> None:
        self._tree = vault.tree
        self._target = target
        self._options = options
        self._catalog = catalog
        self._problem = problem
        self._in_place = target is vault.tree
        self._drops_sealed = self._in_place and not options.keep
        self.naming = Naming(target, FOLDER if self._in_place else "")
        self.folders = VisitedFolders()
        self.leftovers: list[tuple[str, str]] = []
        # a long name is shortened, so that the plain path does not show in the sealed one
        self._chosen = {sealed_path(path) for path in options.only}
        if catalog is not None:
            self._name_all(catalog)

    def place(self, path: str) -> str:
        """Where a path of the vault goes in the target."""
        if self._in_place and self._catalog is None:
            return path  # the folders are there
        return self.naming.of(self._options.below_base(path))

    def tasks(self, *, quiet: bool) -> Iterator[OpenTask]:
        """All there is to open.

        Args:
            quiet: whether they are only counted, and nothing is told or remembered.
        """
        if self._catalog is not None:
            yield from self._hidden_tasks(self._catalog)
        else:
            yield from self._visible_tasks(quiet=quiet)

    def _name_all(self, catalog: Catalog) -> None:
        base = self._options.base
        self.naming.plan_tree(
            self._options.below_base(path)
            for path in (*catalog.files, *catalog.folders)
            if not base or path.startswith(base + "/")
        )
        for path, name in self.naming.renamed():
            if (whole := join(base, path)) not in catalog.files:
                self._tell_renamed(whole, name)

    def _tell_renamed(self, path: str, name: str) -> None:
        """Report a folder, given by its path in the vault."""
        if self._options.leads_to(path):
            shown = self._target.show(self._options.below_base(path))
            self._problem(NameEscaped(path=shown, saved_as=name))

    def _hidden_tasks(self, catalog: Catalog) -> Iterator[OpenTask]:
        for path, found in sorted(catalog.files.items()):
            own = catalog.renamed.get(path, path)
            if self._options.covers(path) or self._options.covers(own):
                folder, name = split(path)
                if self._may_have_a_folder(path):
                    continue
                renamed = self.naming.name_of(self._options.below_base(path))
                if own != path:
                    renamed = renamed or name
                yield OpenTask(
                    dir=object_folder(found.file),
                    name=found.file,
                    stamp=found.stamp,
                    target_dir=self.place(folder),
                    target_name=split(own)[1],
                    temporary_id=new_id(),
                    place=self._options.below_base(folder),
                    renamed=renamed,
                    work=found.record.size or 0,
                    is_beside_folder=own != path,
                )

    def _may_have_a_folder(self, path: str) -> bool:
        """Whether a file's folder is perhaps among the objects that could not be read.

        Opened now it would be taken out of a folder that may be readable again tomorrow.
        Elsewhere, and if it is damage that hides the folder, the file is given all the same.
        """
        if self._catalog is None or not path.startswith(LOST_AND_FOUND + "/"):
            return False
        codes = {problem.exit_code for problem in self._catalog.unread}
        return bool(codes) if self._drops_sealed else bool(codes - {DamagedFiles.exit_code})

    def _visible_tasks(self, *, quiet: bool) -> Iterator[OpenTask]:
        for folder in self._tree.walk(enter=self._enters):
            path = folder.path
            if folder.error is not None:
                if not quiet:
                    reason = system_reason(folder.error)
                    self._problem(Unreadable(path=self._tree.show(path), reason=reason))
                continue
            if path and any(entry.name == FOLDER for entry in folder.entries):
                folder.entries.clear()  # a vault of its own
                if not quiet:
                    self._problem(NestedVault(path=self._tree.show(path)))
                continue
            if not quiet:
                self._remember_folder(folder)
            renamed, shared = self._name_some(folder, quiet=quiet)
            for entry in folder.entries:
                if entry.kind != "file" or not entry.name.endswith(SUFFIX):
                    continue
                plain = join(path, plain_name(entry.name))
                sealed = join(path, entry.name)
                if not any(map(self._options.covers, (plain, sealed))) and (
                    sealed not in self._chosen
                ):
                    continue
                yield OpenTask(
                    dir=path,
                    name=entry.name,
                    stamp=Stamp.of(entry.status),
                    target_dir=self.place(path),
                    target_name=None,
                    temporary_id=new_id(),
                    place=self._options.below_base(path),
                    renamed=renamed.get(plain_name(entry.name)),
                    work=entry.status.st_size,
                    is_beside_folder=plain_name(entry.name) in shared,
                )

    def _name_some(self, folder: Folder, *, quiet: bool) -> tuple[dict[str, str], Container[str]]:
        """Settle the names in one folder of a visible vault; see `Naming.plan`.

        Returns:
            The new names, and the files that have one since a folder is called so.
        """
        path, base = folder.path, self._options.base
        if base and not f"{path}/".startswith(base + "/"):
            return {}, ()
        names = {
            plain_name(entry.name)
            for entry in folder.entries
            if entry.kind == "file" and entry.name.endswith(SUFFIX)
        }
        below = self._options.below_base(path)
        folders = {entry.name for entry in folder.entries if entry.kind == "dir"} - {FOLDER}
        inner = set() if self._in_place else folders
        renamed = self.naming.plan(below, names | inner)
        if not quiet:
            for name in sorted(inner & renamed.keys()):
                self._tell_renamed(join(path, name), renamed[name])
        shared = self.naming.beside_folders(below, names & folders, names | folders)
        return renamed | shared, shared

    def _enters(self, path: str) -> bool:
        name = split(path)[1]
        left = self._in_place and durable.is_temporary(name)
        return name != FOLDER and not left and self._options.leads_to(path)

    def _remember_folder(self, folder: Folder) -> None:
        self.folders.add(folder.path, folder.status)
        if self._in_place:
            self.leftovers += [
                (folder.path, entry.name)
                for entry in folder.entries
                if durable.is_temporary(entry.name)
            ]
