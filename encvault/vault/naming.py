"""Where the paths of a vault go in a target whose file system does not take every name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.fs.names import beside
from encvault.fs.rules import TargetNames
from encvault.fs.tree import join, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from encvault.fs.tree import Tree


class Naming:
    """The path in the target for each path that would be opened to it.

    Args:
        target: where to.
        folder: a folder in it where something may be made and removed again.
    """

    def __init__(self, target: Tree, folder: str) -> None:
        self.names = TargetNames(target, folder)
        self._renamed: dict[str, str] = {}  # path, with no name changed: the new name
        self._kept: set[str] = set()  # paths where only `settle` has been
        self._keys: dict[str, set[str]] = {}  # likewise: of the names in each folder

    def plan_tree(self, paths: Iterable[str]) -> None:
        """Settle the names in a whole tree.

        Args:
            paths: of all files and folders in it; those above them need not be among them.
        """
        inside: dict[str, set[str]] = {}
        for path in paths:
            at = path
            while at:
                folder, name = split(at)
                names = inside.setdefault(folder, set())
                if name in names:
                    break
                names.add(name)
                at = folder
        for folder, names in inside.items():
            self.plan(folder, names)

    def plan(self, folder: str, names: Collection[str]) -> dict[str, str]:
        """Settle the names in one folder.

        Args:
            folder: path of the folder.
            names: all that will be in it, also what is not to be opened now: only then does a
                file have the same name each time.

        Returns:
            The new name of each that cannot keep its own.
        """
        renamed = self.names.fitted(names)
        self._renamed.update((join(folder, name), new) for name, new in renamed.items())
        return renamed

    def beside_folders(
        self, folder: str, names: Collection[str], all_names: Collection[str]
    ) -> dict[str, str]:
        """Other names for the files that are called as folders beside them are.

        Args:
            folder: path of the folder that they are in, which is planned.
            names: what both a file and a folder in it are called.
            all_names: of everything in it.
        """
        if not names:
            return {}
        rules = self.names.rules
        keys = {rules.key(self._renamed.get(join(folder, name), name)) for name in all_names}
        found = {}
        for name in sorted(names):
            found[name] = beside(name, rules, keys)
            keys.add(rules.key(found[name]))
        return found

    def settle(self, path: str) -> str:
        """The path in the target, where the paths become known one after the other.

        It depends on the order, and is the same each time that is the same.
        """
        rules = self.names.rules
        old = new = ""
        for name in path.split("/"):
            place = join(old, name)
            if place not in self._renamed and place not in self._kept:
                found = beside(name, rules, self._keys.get(old, ()))
                if found != name:
                    self._renamed[place] = found
                if rules.folds:
                    self._kept.add(place)
                if rules.folds or found != name:
                    self._keys.setdefault(old, set()).add(rules.key(found))
            old, new = place, join(new, self._renamed.get(place, name))
        return new

    def renamed(self) -> Iterator[tuple[str, str]]:
        """The path of each file and folder that gets another name, and that name."""
        yield from sorted(self._renamed.items())

    def of(self, path: str) -> str:
        """The path in the target."""
        if not self._renamed:
            return path
        old = new = ""
        for name in path.split("/"):
            old = join(old, name)
            new = join(new, self._renamed.get(old, name))
        return new

    def name_of(self, path: str) -> str | None:
        """The settled new name of a file or folder, or None if it keeps its own."""
        return self._renamed.get(path)
