"""Removing what is superfluous in a vault, so that a crash leaves nothing that looks damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.tree import join, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.errors import EncvaultError
    from encvault.fs.tree import Tree


class Removal:
    """Removes sealed files and folders.

    Args:
        tree: of the vault.
        problem: is told what stays, and why.

    Attributes:
        touched: folders in which names went since `make_durable`.
    """

    def __init__(self, tree: Tree, problem: Callable[[EncvaultError], None]) -> None:
        self.touched: set[str] = set()
        self._tree = tree
        self._problem = problem

    def make_durable(self) -> None:
        """Make durable what went."""
        self._tree.sync_names(self.touched)
        self.touched.clear()

    def unlink(self, folder: str, name: str) -> None:
        """Remove one file.

        Raises:
            OSError: it stays, or was not there.
        """
        calls.unlink(self._tree.folder(folder), name)
        self.touched.add(folder)

    def sealed_files(self, objects: list[list[tuple[str, str]]]) -> set[int]:
        """Remove sealed files, each given with its further parts; the indexes of those that stay.

        The first object goes before the parts, for good: without them it would count as damaged.
        """
        failed: set[int] = set()
        for which in (slice(1), slice(1, None)):
            if which.start and any(len(places) > 1 for places in objects):
                self._tree.sync_names({places[0][0] for places in objects if places})
            for index, places in enumerate(objects):
                for folder, name in places[which] if index not in failed else ():
                    try:
                        self.unlink(folder, name)
                    except FileNotFoundError:
                        continue
                    except OSError as error:
                        shown = self._tree.show(join(folder, name))
                        self._problem(storage_error(error, shown))
                        failed.add(index)
        return failed

    def empty_folder(self, path: str) -> bool:
        """Remove a folder if it is empty; whether it is gone."""
        above, name = split(path)
        self._tree.forget(path)
        try:
            calls.rmdir(self._tree.folder(above), name)
        except OSError:  # something in it was left
            return False
        self.touched.add(above)
        return True
