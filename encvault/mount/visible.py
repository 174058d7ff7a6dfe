"""The visible layout under a mount: names are changed on the disk at once."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs import calls
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join, moved, split
from encvault.mount.layouts import Displaced, is_unsaved
from encvault.mount.nodes import FileNode, FolderNode, Meta, Source
from encvault.mount.ondisk import OnDisk
from encvault.mount.sealing import Home
from encvault.vault import attributes
from encvault.vault.layout import (
    SUFFIX,
    plain_name,
    sealed_name,
    sealed_path,
)
from encvault.vault.sealed import open_sealed, read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from encvault.mount.nodes import Node
    from encvault.mount.sealing import Prepared, Staging
    from encvault.secret import Secret

# what every file system takes: FAT refuses the rest, and eCryptfs more than 143 bytes
_ORDINARY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff\"*:<>?\\|]{1,40}")

# what is told of a mount whose server is dead
_DEAD = (errno.ENOTCONN, errno.ESTALE)


class VisibleLayout(OnDisk):
    """See `encvault.mount.layouts.Layout`."""

    # -- names ------------------------------------------------------------------------------

    def add_file(self, folder: FolderNode, node: FileNode) -> None:
        """See `Layout`."""
        with self._lock:
            if self._free != join(folder.path, node.name) and self._is_taken(folder, node.name):
                # by a file that was never sealed, or is not of this vault
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            self._free = ""
            self._check_fits(folder.path, node.name)
            self._times.promise(folder.path)
        folder.children[node.name] = node

    def _check_fits(self, folder: str, name: str) -> None:
        """Refuse a name that the disk cannot have, before there is anything to be lost.

        A sealed file gets its name when it is durable; FAT, NTFS and others have fewer names.

        Raises:
            OSError: as the disk says.
        """
        if _ORDINARY.fullmatch(name):
            return
        fd, sealed = self._tree.folder(folder), sealed_name(name)
        self._times.keep(folder)
        os.close(calls.create(fd, sealed))
        calls.unlink(fd, sealed)

    def _touch(self, folder: FolderNode) -> None:
        with self._lock:
            self._times.touch(folder.path)

    def add_folder(self, folder: FolderNode, name: str, meta: Meta) -> FolderNode:
        """See `Layout`."""
        with self._lock:
            self._check_folder_name(folder, name)
            above = self._tree.folder(folder.path)
            calls.mkdir(above, name, 0o700)
            fd = self._tree.folder(join(folder.path, name))
            if self._ground.owner is None:
                os.fchown(fd, *meta.owner)
            os.fchmod(fd, meta.mode)
            self._times.forget(folder.path)
            self._changed.add(folder.path)
        node = self._find_folder(folder, name)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node

    def remove_file(self, node: FileNode) -> None:
        """See `Layout`."""
        for source in (node.source, *node.over):
            if source is not None:
                self._unlink(source)
        node.over.clear()
        node.parent.children.pop(node.name, None)
        self._touch(node.parent)

    def _unlink(self, source: Source) -> None:
        with self._lock, contextlib.suppress(FileNotFoundError):
            calls.unlink(self._tree.folder(source.folder), source.name)
            self._changed.add(source.folder)

    def remove_folder(self, node: FolderNode) -> None:
        """See `Layout`."""
        if any(map(is_unsaved, node.children.values())):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        above, name = split(node.path)
        with self._lock:
            self._tree.forget(node.path)
            calls.rmdir(self._tree.folder(above), name)
            self._changed.add(above)
            self._changed.drop(node.path)
            self._times.forget(node.path)
            self._times.forget(above)
        node.gone = True
        node.moved()
        if node.parent is not None:
            node.parent.children.pop(name, None)

    def move(self, node: Node, folder: FolderNode, name: str, over: Node | None) -> list[FileNode]:
        """See `Layout`."""
        if isinstance(node, FolderNode):
            return self._move_folder(node, folder, name, over)
        target = over if isinstance(over, FileNode) else None
        waiting: list[Source] = []
        if node.source is not None:
            new = sealed_name(name)
            with self._lock:
                source = node.source
                into = self._tree.folder(folder.path)
                above = self._tree.folder(source.folder)
                if target is None and self._is_taken(folder, name):
                    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
                if target is None or not (target.source or target.over):
                    calls.rename_new(above, source.name, new, into)
                else:
                    calls.replace(above, source.name, new, into)
                self._changed.add(source.folder, folder.path)
                stamp = Stamp.of(self._tree.status(join(folder.path, new)))
            node.source = Source(
                folder.path, new, stamp, source.file, source.home, source.size, source.further
            )
        elif target is not None:
            waiting = [*filter(None, (target.source,)), *target.over]
        else:
            with self._lock:
                if self._is_taken(folder, name):
                    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        del node.parent.children[node.name]
        self._touch(node.parent)
        node.name, node.parent = name, folder
        folder.children[name] = node
        node.over += waiting
        self._touch(folder)
        return []

    def _check_folder_name(self, folder: FolderNode, name: str) -> None:
        """Refuse a name that a sealed file there has, will have, or belongs to.

        Raises:
            FileExistsError: there cannot be both.
        """
        unsaved = folder.children.get(plain_name(name)) if name.endswith(SUFFIX) else None
        if isinstance(unsaved, FileNode) or (
            self._tree.exists(join(folder.path, sealed_name(name)))
        ):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _is_taken(self, folder: FolderNode, name: str) -> bool:
        """Whether a file lies there that is none of the vault's."""
        paths = (join(folder.path, name), join(folder.path, sealed_name(name)))
        return any(map(self._tree.exists, paths))

    def _move_folder(
        self, node: FolderNode, folder: FolderNode, name: str, over: Node | None
    ) -> list[FileNode]:
        beneath = self._all_below(node)
        if isinstance(over, FolderNode):
            self.remove_folder(over)
        old, new = node.path, join(folder.path, name)
        with self._lock:
            if over is None:  # else a file that has the name is behind a folder, and stays there
                self._check_folder_name(folder, name)
            for path in (old, new):
                self._tree.forget_below(path)
            above, own = split(old)
            into = self._tree.folder(folder.path)
            calls.rename_new(self._tree.folder(above), own, name, into)
            self._changed.move(old, new)
            self._times.move(old, new)
            for path in (above, folder.path):
                self._times.forget(path)
                self._changed.add(path)
        if node.parent is not None:
            node.parent.children.pop(node.name, None)
        node.name, node.parent = name, folder
        node.moved()
        folder.children[name] = node
        _move_sources(node, old, new)
        return beneath

    def _all_below(self, folder: FolderNode) -> list[FileNode]:
        """Every file in a folder that is to be moved: the record of each names its old path.

        Raises:
            OSError: a folder in it cannot be read; what is in that would look swapped.
        """
        return list(self._below(folder, _pass_over_dead_mounts))

    def astray(self) -> Iterable[FileNode]:
        """See `Layout`. They lie in another place than their records have."""
        for node in self._below(self.root, lambda _error: None):
            if node.source is not None and node.source.home != node.path:
                yield node

    def leaving(self, folder: FolderNode) -> list[Node]:  # noqa: ARG002 - see `Layout`
        """See `Layout`. The disk has the new name at once."""
        return []

    def change_folder(self, node: FolderNode) -> bool:
        """See `Layout`."""
        meta = node.meta
        with self._lock:
            fd = self._tree.folder(node.path)
            status = os.fstat(fd)
            if self._ground.owner is None and (status.st_uid, status.st_gid) != meta.owner:
                os.fchown(fd, *meta.owner)
            if stat.S_IMODE(status.st_mode) != meta.mode:
                os.fchmod(fd, meta.mode)
            known = dict(attributes.read_xattrs(fd, self._tree.show(node.path)))
            for name in known.keys() - meta.xattrs.keys():
                os.removexattr(fd, name)
            for name in meta.xattrs:
                if known.get(name) != meta.xattrs[name]:
                    os.setxattr(fd, name, meta.xattrs[name])
            if status.st_mtime_ns != meta.mtime_ns:
                os.utime(fd, ns=(meta.mtime_ns, meta.mtime_ns))
            self._changed.add(node.path)
            self._times.forget(node.path)
        return False

    # -- save -------------------------------------------------------------------------------

    def home(self, node: Node) -> Home:
        """See `Layout`."""
        return Home(node.path)

    def staging(self, node: Node, file: str) -> Staging:  # noqa: ARG002 - see `Layout`
        """See `Layout`."""
        if isinstance(node, FolderNode):
            raise AssertionError("visible: a folder has no sealed copy")  # noqa: TRY004 - a bug
        self._walk_to(node.parent)
        with self._lock:
            self._times.keep(node.parent.path)
        return node.parent

    def take(self, node: Node, prepared: Prepared) -> Source:
        """See `Layout`."""
        if isinstance(node, FolderNode):
            raise AssertionError("visible: a folder has no sealed copy")  # noqa: TRY004 - a bug
        folder, name = split(sealed_path(prepared.home.path))
        ((staged, temporary),) = prepared.temporaries
        expected = [source.stamp for source in (node.source, *node.over) if source is not None]
        self._walk_to(node.parent)
        with self._lock:
            staging, into = self._tree.folder(staged), self._tree.make_folders(folder)
            self._times.keep(folder)
            there = self._stamp(folder, name) if expected else None
            if there is None:
                try:
                    calls.rename_new(staging, temporary, name, into)
                except FileExistsError:
                    raise Displaced from None
            elif there in expected or self._is_one_of(folder, name, node):
                calls.replace(staging, temporary, name, into)
            else:
                raise Displaced
            self._changed.add(folder)
            stamp = Stamp.of(self._tree.status_in(folder, name))
        return Source(folder, name, stamp, prepared.ids[0], prepared.home.path, prepared.size)

    def _is_one_of(self, folder: str, name: str, node: FileNode) -> bool:
        """Whether a sealed file is one of those that a node was read from, whatever its times."""
        path = join(folder, name)
        known = [source.file for source in (node.source, *node.over) if source is not None]
        try:
            fd = open_sealed(self._tree, path)
            try:
                return read_header(fd, self._tree.show(path)).key_info.file in known
            finally:
                os.close(fd)
        except (EncvaultError, OSError):
            return False

    def _stamp(self, folder: str, name: str) -> Stamp | None:
        try:
            return Stamp.of(self._tree.status_in(folder, name))
        except FileNotFoundError:
            return None

    def leave(self, data_key: Callable[[], tuple[str, Secret]]) -> None:
        """See `Layout`. Names are on the disk."""

    def settle(self) -> None:
        """See `Layout`. A file that is saved does not change its folder; to make it did."""
        with self._lock:
            self._times.put_back()

    def retire(self, sources: Iterable[Source]) -> None:
        """See `Layout`. A copy takes the very name of what it succeeds."""

    def sync(self, sources: Iterable[Source]) -> None:
        """See `Layout`."""
        self._changed.sync(source.folder for source in sources)


def _pass_over_dead_mounts(error: Exception) -> None:
    """Nothing beneath a mount in the vault whose server is dead is the vault's.

    Raises:
        Exception: it is any other error.
    """
    if not isinstance(error, OSError) or error.errno not in _DEAD:
        raise error


def _move_sources(folder: FolderNode, old: str, new: str) -> None:
    waiting: list[Node] = [folder]
    while waiting:
        node = waiting.pop()
        if isinstance(node, FolderNode):
            waiting += [*node.children.values(), *node.behind.values()]
            continue
        if node.source is not None:
            node.source = _moved_source(node.source, old, new)
        node.over = [_moved_source(source, old, new) for source in node.over]


def _moved_source(source: Source, old: str, new: str) -> Source:
    return Source(
        moved(source.folder, old, new),
        source.name,
        source.stamp,
        source.file,
        source.home,
        source.size,
        source.further,
    )
