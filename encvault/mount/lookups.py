"""What is at a path of a mounted vault, as the disk has it now.

Files that change underneath are noticed when they are looked up again; a file that is open stays
as it was opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.mount.layouts import check_length, check_name
from encvault.mount.nodes import FileNode, FolderNode, count_of_moves
from encvault.mount.openfiles import OpenFiles, error_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from encvault.mount.nodes import Attributes, Node

_MOMENT = 0.1  # seconds for which folders on the way to a file are not looked for again


class Lookups(OpenFiles):
    """See the module; `encvault.mount.view.View` adds what changes names."""

    def find_strays(self) -> None:
        """After a mount that was killed: let nothing be put where its renamed files belong."""
        if not self.is_read_only:
            with self._lock:  # nobody asks for anything yet
                for node in self._layout.astray():
                    self._saver.strayed(node)

    # -- paths ------------------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        """What is at a path, as the disk has it now."""
        self._used_at = time.monotonic()
        above, _slash, name = path.rpartition("/")
        folder = self._walk(above)
        return self._find_in(folder, name) if name else folder

    def _found(self, path: str) -> Node | None:
        with contextlib.suppress(OSError, EncvaultError):
            return self._find(path)
        return None

    def _find_in(self, folder: FolderNode, name: str) -> Node:
        found = self._layout.find(folder, name)
        if found is None:
            check_length(name)
            raise error_of(errno.ENOENT)
        return found

    def _walk(self, path: str) -> FolderNode:
        """The folder at a path; who asks for it again in a moment has it at once."""
        moment = int(self._used_at / _MOMENT), count_of_moves()
        if moment != self._walked_in:
            self._walked_in = moment
            self._walked.clear()
        folder = self._walked.get(path)
        if folder is None:
            folder = self._layout.root
            for name in filter(None, path.split("/")):
                node = self._find_in(folder, name)
                if not isinstance(node, FolderNode):
                    raise error_of(errno.ENOTDIR)
                folder = node
            self._walked[path] = folder
        return folder

    def _find_file(self, path: str) -> FileNode:
        node = self._find(path)
        if not isinstance(node, FileNode):
            raise error_of(errno.EISDIR)
        return node

    def _find_folder(self, path: str) -> FolderNode:
        node = self._find(path)
        if not isinstance(node, FolderNode):
            raise error_of(errno.ENOTDIR)
        return node

    def _place(self, path: str) -> tuple[FolderNode, str]:
        """The folder and the name of something that is to be made."""
        above, _slash, name = path.rpartition("/")
        check_name(name)
        return self._walk(above), name

    # -- look -------------------------------------------------------------------------------

    def attributes(self, path: str) -> Attributes:
        """What stat(2) tells."""
        with self._lock:
            return self._attributes(self._find(path))

    def _attributes(self, node: Node) -> Attributes:
        if isinstance(node, FolderNode):
            self._layout.refresh(node)
        return node.attributes()

    def inodes(self, path: str) -> list[int]:
        """Inode numbers of a file, and of those that somebody else has replaced by it."""
        with self._lock:
            node: Node | None = self._find(path)
            numbers = []
            while node is not None:
                numbers.append(node.ino)
                node = node.elder if isinstance(node, FileNode) else None
            return numbers

    def open_folder(self, path: str) -> int:
        """A handle of a folder, which is the same one under another name."""
        with self._lock:
            number = next(self._numbers)
            self._folders[number] = self._find_folder(path)
            return number

    def path_of(self, folder: int) -> str:
        """Where an open folder is now.

        Raises:
            OSError: it was removed.
        """
        with self._lock:
            node = self._folders[folder]
            if node.gone:
                raise error_of(errno.ENOENT)
            return "/" + node.path

    def close_folder(self, folder: int) -> None:
        """Nobody reads it any more."""
        with self._lock:
            del self._folders[folder]

    def listing(self, path: str) -> Iterable[tuple[str, int]]:
        """The names in a folder, each with its type bits, or 0 where only opening it would tell."""
        with self._lock:
            return self._layout.names(self._find_folder(path))

    def attributes_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
        """What stat(2) tells of each of these in a folder, or None."""
        with self._lock:
            folder = self._find_folder(path)
        for name in names:
            with self._lock:
                try:
                    found = self._attributes(self._find_in(folder, name))
                except (OSError, EncvaultError):  # who asks for it by name hears of it
                    found = None
            yield found

    def known_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
        """The same, as far as no sealed file has to be opened for them."""
        with self._lock:
            folder = self._find_folder(path)
        for name in names:
            with self._lock:
                known = self._layout.known(folder, name)
                found = None if known is None else known.attributes()
            yield found

    def readlink(self, path: str) -> str:
        """Where a symbolic link leads."""
        with self._lock:
            node = self._find_file(path)
        if node.kind != "symlink":
            raise error_of(errno.EINVAL)
        with node.lock:
            target = bytes(self._content_of(node).read(0, node.size))
            self._let_go(node)
        return os.fsdecode(target)
