"""The visible layout's tree as the disk has it now: found and listed, and never changed.

The disk has the names, and is asked each time.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from encvault.envelope import is_vault_folder
from encvault.errors import EncvaultError, FileBehindFolder
from encvault.fs import durable
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join
from encvault.mount.layouts import Unsynced, is_unsaved
from encvault.mount.nodes import FileNode, FolderNode, Meta, Source, inode
from encvault.mount.times import FolderTimes
from encvault.vault import attributes
from encvault.vault.layout import (
    SUFFIX,
    is_shortened,
    opened_place,
    plain_name,
    sealed_name,
    sealed_path,
)
from encvault.vault.manifest import FOLDER
from encvault.vault.sealed import open_sealed, read_front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.mount.layouts import Ground
    from encvault.mount.nodes import Node

_PATIENCE = 1.0  # seconds for which a folder is not looked for again
_MOMENT = 0.05  # seconds between two questions of the kernel's that are one of a program's
_MAX_LINK_SIZE = 8_192  # bytes of a sealed symbolic link, with room for its record
_ABSENT = (FileNotFoundError, NotADirectoryError)


class OnDisk:
    """See the module, and for each method `encvault.mount.layouts.Layout`.

    Args:
        ground: what it stands on.
        problem: is told of files that are not shown.
    """

    def __init__(self, ground: Ground, problem: Callable[[EncvaultError], None]) -> None:
        self._ground = ground
        self._problem = problem
        self._told: set[str] = set()  # paths of files of which it was said that they are not shown
        self._tree = ground.vault.tree
        self._lock = ground.tree_lock
        self.may_clean = ground.vault.was_interrupted
        self._changed = Unsynced(ground)
        self._times = FolderTimes(self._tree)
        self._free = ""  # the path that was just found to be nobody's,
        self._free_at = 0.0  # and when, by the monotonic clock
        status = os.fstat(self._tree.fd)
        self.root = FolderNode("", None, inode("top"), self._meta_of(status))

    # -- find -------------------------------------------------------------------------------

    def find(self, folder: FolderNode, name: str) -> Node | None:
        """See `Layout`."""
        known = folder.children.get(name)
        if known is not None and (is_unsaved(known) or known.is_dirty):
            return known
        if isinstance(known, FolderNode):
            if self._is_there(known):
                return known
            self._ground.check_there()
            known.moved()
            del folder.children[name]
            known = None
        if known is None and self._is_free(join(folder.path, name)):
            return None
        return self._look(folder, name, known)

    def _look(self, folder: FolderNode, name: str, known: FileNode | None) -> Node | None:
        """What the disk has under a name; `known` if it is still that."""
        above, sealed = folder.path, sealed_name(name)
        with self._lock:
            try:
                status = self._tree.status_in(above, sealed)
            except _ABSENT:
                self._ground.check_there()
                folder.children.pop(name, None)
                return self._find_folder(folder, name)
        if not stat.S_ISREG(status.st_mode):
            found = self._find_folder(folder, name)
            self._free = ""
            return found
        if (
            known is not None
            and known.source is not None
            and (known.source.stamp == Stamp.of(status))
        ):
            return known
        behind = self._find_folder(folder, name)
        self._free = ""
        if behind is not None:
            if known is not None:
                folder.behind[name] = known
            self._tell_behind(behind.path)
            return behind
        node = self._file_on_disk(folder, name, known or folder.behind.get(name))
        folder.behind.pop(name, None)
        folder.children[name] = node
        return node

    def _file_on_disk(self, folder: FolderNode, name: str, known: FileNode | None) -> FileNode:
        """The node of a name's sealed file, `known` if it still is that, though a folder has it."""
        if known is not None and known.is_dirty:
            return known
        node = FileNode(name, folder, "file", 0, Meta(0, (0, 0), 0, 0))
        self._read(node, folder.path, sealed_name(name))
        if known is not None and _is_same(known, node):
            known.source = node.source  # copied, linked or touched; what is in it never changes
            return known
        # who has a changed file open keeps what he opened: it is another file from now on
        node.elder = known or folder.elders.pop(name, None)
        return node

    def _file_behind(self, folder: FolderNode, name: str) -> FileNode:
        """The file that is not shown since a folder has its name; the same node each time.

        Two nodes of one sealed file would take each other for somebody else's.
        """
        node = self._file_on_disk(folder, name, folder.behind.get(name))
        folder.behind[name] = node
        return node

    def _tell_behind(self, path: str) -> None:
        """A file is not shown since a folder has its name: all that is in that would be hidden."""
        if path not in self._told:
            self._told.add(path)
            show = self._tree.show
            self._problem(FileBehindFolder(path=show(path), object=show(sealed_path(path))))

    def _below(self, folder: FolderNode, unread: Callable[[Exception], None]) -> Iterator[FileNode]:
        """Every file in a folder and in those beneath it, those as well that are not shown.

        Args:
            folder: where to begin.
            unread: is told why a folder cannot be read; unless it raises, that is passed over.
        """
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            try:
                listed, folders = self._listed(at)
            except (OSError, EncvaultError) as error:
                unread(error)
                continue
            unsaved = (name for name, node in at.children.items() if is_unsaved(node))
            for name in {*listed, *unsaved}:
                is_behind = name in folders and not isinstance(at.children.get(name), FileNode)
                try:
                    node = self._file_behind(at, name) if is_behind else self.find(at, name)
                except (OSError, EncvaultError):
                    continue  # who opens it hears of it
                if isinstance(node, FileNode):
                    yield node
            for name in folders:
                try:
                    inner = self.find(at, name)
                except (OSError, EncvaultError) as error:
                    unread(error)
                    continue
                if isinstance(inner, FolderNode):
                    waiting.append(inner)

    def _is_free(self, path: str) -> bool:
        """Whether the path was just asked for in vain, as it is before a file is made there."""
        return path == self._free and time.monotonic() - self._free_at < _MOMENT

    def _is_there(self, node: FolderNode) -> bool:
        """Whether a folder is still on the disk, and no vault of its own.

        Every file in it is asked for by way of it.
        """
        now = time.monotonic()
        if now - node.seen_at > _PATIENCE:
            status = self._status_of_folder(node.path)
            with self._lock:
                self._tree.forget_other(node.path, status)
            if status is None or self._is_vault(node.path):
                return False
            node.seen_at = now
        return True

    def _walk_to(self, folder: FolderNode) -> None:
        """Notice that a folder on the way was removed or replaced; saving makes it anew."""
        way: list[FolderNode] = []
        at: FolderNode | None = folder
        while at is not None and at.parent is not None:
            way.append(at)
            at = at.parent
        for one in reversed(way):
            if not self._is_there(one):
                return

    def known(self, folder: FolderNode, name: str) -> FileNode | None:
        """See `Layout`."""
        known = folder.children.get(name)
        if not isinstance(known, FileNode) or known.source is None or known.is_dirty:
            return known if isinstance(known, FileNode) else None
        with self._lock:
            try:
                status = self._tree.status_in(folder.path, sealed_name(name))
            except OSError:
                return None
        return known if known.source.stamp == Stamp.of(status) else None

    def _find_folder(self, folder: FolderNode, name: str) -> FolderNode | None:
        path = join(folder.path, name)
        with self._lock:
            try:
                status = self._tree.status_in(folder.path, name)
            except _ABSENT:
                self._free = path  # and so is its sealed file, or nobody would ask
                self._free_at = time.monotonic()
                return None
        if not stat.S_ISDIR(status.st_mode) or is_vault_folder(name) or durable.is_temporary(name):
            return None
        with self._lock:
            if self._is_vault(path):
                return None
        number = inode(f"{status.st_dev}:{status.st_ino}")
        node = FolderNode(name, folder, number, self._meta_of(status))
        folder.children[name] = node
        return node

    def _is_vault(self, path: str) -> bool:
        """Whether a folder is a vault of its own."""
        return self._tree.exists(join(path, FOLDER))

    def _status_of_folder(self, path: str) -> os.stat_result | None:
        with self._lock:
            try:
                status = self._tree.status(path)
            except _ABSENT:
                return None
        return status if stat.S_ISDIR(status.st_mode) else None

    def _read(self, node: FileNode, folder: str, name: str) -> None:
        """Take over what a sealed file says of itself."""
        path = join(folder, name)
        with self._lock:
            fd = open_sealed(self._tree, path)
            try:
                front = read_front(fd, self._tree.show(path), self._ground.vault)
                stamp = Stamp.of(os.fstat(fd))
                opened_place(
                    self._tree, path, front.header, front.record, self._ground.vault.layout
                )
            finally:
                os.close(fd)
        record, file = front.record, front.header.key_info.file
        size = front.content_size if record.size is None else record.size
        node.kind = "symlink" if record.type == "symlink" else "file"
        node.ino = inode(file)
        node.meta = Meta.of(record, self._ground.owner_of(record))
        node.size = size
        node.source = Source(folder, name, stamp, file, record.path, size)
        self._ground.keep_front(file, front)

    def names(self, folder: FolderNode) -> list[tuple[str, int]]:
        """See `Layout`."""
        found, folders = self._listed(folder)
        for name in folders:
            if name in found:
                self._tell_behind(join(folder.path, name))
            found[name] = stat.S_IFDIR
        for name, node in folder.children.items():
            if is_unsaved(node) and isinstance(node, FileNode):
                found[name] = stat.S_IFLNK if node.kind == "symlink" else stat.S_IFREG
        return list(found.items())

    def _listed(self, folder: FolderNode) -> tuple[dict[str, int], set[str]]:
        """The files in a folder, each with its type bits or 0, and the folders."""
        found: dict[str, int] = {}
        folders: set[str] = set()
        path = folder.path
        left: list[str] = []
        short = {sealed_name(name): name for name in folder.children if is_shortened(name)}
        with self._lock, os.scandir(self._tree.folder(path)) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    plain = short.get(name) or self._plain_name(path, name)
                    if plain is not None:
                        found[plain] = self._type_of(folder, plain, entry)
                elif durable.is_temporary(name):
                    left.append(name)
                elif self._is_shown_folder(path, entry):
                    folders.add(name)
        self._ground.check_there()
        if left and self.may_clean:
            self._clean(path, left)
        for name in folders & found.keys():
            known = folder.children.get(name)
            if isinstance(known, FileNode) and known.source is not None and not known.is_dirty:
                folder.behind[name] = known  # who has it open keeps it
                del folder.children[name]
        return found, folders

    def _is_shown_folder(self, above: str, entry: os.DirEntry[str]) -> bool:
        """Whether a name is a folder's; one that cannot be looked at must not hide the others."""
        if is_vault_folder(entry.name):
            return False
        try:
            return entry.is_dir(follow_symlinks=False) and not self._is_vault(
                join(above, entry.name)
            )
        except OSError:  # as of a mount whose server is dead; who enters it hears of it
            return True

    def _clean(self, folder: str, names: list[str]) -> None:
        """Remove what a mount that was killed has left."""
        with self._lock:
            for name in names:
                if name not in self._ground.own:
                    durable.discard(self._tree.folder(folder), name)

    def _type_of(self, folder: FolderNode, name: str, entry: os.DirEntry[str]) -> int:
        known = folder.children.get(name)
        if (
            isinstance(known, FileNode)
            and known.source is not None
            and known.source.stamp.inode == entry.inode()
        ):
            return stat.S_IFLNK if known.kind == "symlink" else stat.S_IFREG
        with contextlib.suppress(OSError):
            if entry.stat(follow_symlinks=False).st_size > _MAX_LINK_SIZE:
                return stat.S_IFREG
        return 0

    def _plain_name(self, folder: str, name: str) -> str | None:
        """The name that a sealed file is found by; None if its own does not tell it."""
        plain = plain_name(name)
        if plain and sealed_name(plain) == name and "~" not in plain:
            return plain
        path = join(folder, name)
        try:
            fd = open_sealed(self._tree, path)
            try:
                record = read_front(fd, self._tree.show(path), self._ground.vault).record
            finally:
                os.close(fd)
        except (EncvaultError, OSError):
            return plain or None
        return record.name if sealed_name(record.name) == name else plain or None

    def refresh(self, folder: FolderNode) -> None:
        """See `Layout`."""
        with self._lock:
            path = folder.path
            folder.meta = self._meta_of(os.fstat(self._tree.folder(path)))
            folder.meta.mtime_ns = self._times.shown(path, folder.meta.mtime_ns)

    def refresh_xattrs(self, folder: FolderNode) -> None:
        """See `Layout`."""
        with self._lock:
            fd, shown = self._tree.folder(folder.path), self._tree.show(folder.path)
            folder.meta.xattrs = dict(attributes.read_xattrs(fd, shown))

    def _meta_of(self, status: os.stat_result) -> Meta:
        owner = self._ground.owner or (status.st_uid, status.st_gid)
        return Meta(stat.S_IMODE(status.st_mode), owner, status.st_mtime_ns, status.st_ctime_ns)


def _is_same(known: FileNode, found: FileNode) -> bool:
    """Whether they are one sealed file, which is never written again."""
    if known.source is None or found.source is None:
        return False
    return (known.source.file, known.source.home) == (found.source.file, found.source.home)
