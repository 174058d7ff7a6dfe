"""The folders that opening a vault makes: closed at first, and as they were at the end.

Files come into a folder before it has its own mode and owner, and a run may be killed meanwhile.
Until then nobody else may look into it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING

from encvault.errors import Unreadable
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.tree import join, split
from encvault.vault import attributes
from encvault.vault.catalog import LOST_AND_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from encvault.envelope import Record
    from encvault.errors import EncvaultError
    from encvault.fs.tree import Tree
    from encvault.vault.catalog import Catalog
    from encvault.vault.opening import OpenTask
    from encvault.vault.opentasks import OpenOptions, OpenPlan

_CLOSED = 0o700


class OpenFolders:
    """The folders of one run.

    Args:
        tree: of the vault.
        target: where to; the vault's own tree to open in place.
        options: what and how.
        plan: knows where each folder goes.
        problem: is told what could not be restored.

    Attributes:
        touched: folders in the target that are to be made durable.
        lost: attributes that could not be restored, and how many times.
    """

    def __init__(
        self,
        tree: Tree,
        target: Tree,
        options: OpenOptions,
        plan: OpenPlan,
        problem: Callable[[EncvaultError], None],
    ) -> None:
        self.touched: set[str] = set()
        self.lost: Counter[str] = Counter()
        self._tree = tree
        self._target = target
        self._options = options
        self._plan = plan
        self._problem = problem
        self._in_place = target is tree
        # those in the target that nobody else may look into yet
        self._closed = {""} if options.is_closed else set[str]()

    def made_for(self, tasks: Iterable[OpenTask]) -> Iterator[OpenTask]:
        """Pass the tasks on, each when its folder is there."""
        known: set[str] = set()
        for task in tasks:
            path = task.target_dir
            while path not in known:
                known.add(path)
                path = split(path)[0]
            if path != task.target_dir:
                with contextlib.suppress(OSError):  # who puts the file there will be told
                    self._make(task.target_dir)
            yield task

    def _make(self, path: str) -> None:
        for at in itertools.accumulate(path.split("/"), join):
            if not self._target.exists(at):
                self._target.make_folders(at, _CLOSED)
                self._closed.add(at)

    def restore(self, catalog: Catalog | None) -> int:
        """Give all folders what they had; the number of those that are objects of the vault.

        Args:
            catalog: of a vault with hidden names.
        """
        count = 0
        if catalog is None:
            self._restore_visible()
        else:
            count = self._restore_hidden(catalog)
        self._open_lost()
        return count

    def break_off(self, catalog: Catalog | None) -> None:
        """Leave none closed in place: what seals them again would keep that for good."""
        for path, found in (catalog.folders if catalog is not None else {}).items():
            if self._is_made(path):
                place = self._plan.place(path)
                with contextlib.suppress(OSError):
                    self._give(self._target.folder(place), place, found.record)
        self._open_lost()

    def _restore_visible(self) -> None:
        for folder in self._plan.folders:
            if not self._in_place and (not folder.path or not self._options.covers(folder.path)):
                continue
            try:
                fd = self._target.make_folders(place := self._plan.place(folder.path))
                times = (folder.mtime_ns, folder.mtime_ns)
                if not self._in_place:
                    shown = self._tree.show(folder.path)
                    own = self._tree.folder(folder.path)
                    self._give(fd, place, attributes.record_of_folder(own, shown, folder))
                elif os.fstat(fd).st_mtime_ns != times[0]:
                    with contextlib.suppress(PermissionError):  # it is a colleague's, who made it
                        os.utime(fd, ns=times)
                self.touched.add(place)
            except Unreadable as error:
                self._problem(error)
            except OSError as error:
                self._problem(storage_error(error, self._target.show(folder.path)))

    def _restore_hidden(self, catalog: Catalog) -> int:
        chosen = sorted(
            (path for path in catalog.folders if self._options.covers(path) or self._is_made(path)),
            reverse=True,
        )
        # every folder first, then the attributes from the deepest up: a read-only folder must
        # not keep out what belongs in it
        for path in reversed(chosen):
            try:
                self._target.make_folders(self._plan.place(path))
            except OSError as error:
                self._problem(storage_error(error, self._target.show(path)))
        count = 0
        for path in chosen:
            with contextlib.suppress(OSError):
                fd = self._target.folder(place := self._plan.place(path))
                self._give(fd, place, catalog.folders[path].record)
                self.touched.add(place)
                count += self._options.covers(path)
        return count

    def _give(self, fd: int, place: str, record: Record) -> None:
        if place in self._closed:
            attributes.shed_inherited(fd, record)
        self.lost.update(attributes.restore(fd, record))
        self._closed.discard(place)

    def _is_made(self, path: str) -> bool:
        """Whether this run made a folder of the vault's in place, on the way to what it opens."""
        return self._in_place and self._plan.place(path) in self._closed

    def _open_lost(self) -> None:
        """Have the one that no vault has as any new folder is.

        Of what lay in a folder that is lost nobody knows who might look into it: it stays closed.
        """
        if LOST_AND_FOUND in self._closed:
            with contextlib.suppress(OSError):
                fd = self._target.folder(LOST_AND_FOUND)
                above = calls.open_folder("..", fd)
                try:
                    attributes.make_new(fd, above)
                finally:
                    os.close(above)
