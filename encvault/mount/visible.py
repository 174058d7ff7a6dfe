"""The visible layout under a mount: the disk has the names, and is asked each time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs import calls, durable
from encvault.fs.tree import Stamp, join, moved, split
from encvault.mount.layouts import Displaced, is_unsaved
from encvault.mount.nodes import FileNode, FolderNode, Meta, Source, inode
from encvault.mount.sealing import Home
from encvault.mount.times import FolderTimes
from encvault.vault import attributes
from encvault.vault.layout import (
    SUFFIX,
    is_shortened,
    is_vault_folder,
    opened_place,
    plain_name,
    sealed_name,
    sealed_path,
)
from encvault.vault.manifest import FOLDER
from encvault.vault.opening import open_sealed
from encvault.vault.sealed import read_front, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.mount.layouts import Ground
    from encvault.mount.nodes import Node
    from encvault.mount.sealing import Prepared, Staging

_PATIENCE = 1.0  # seconds for which a folder is not looked for again
_MOMENT = 0.05  # seconds between two questions of the kernel's that are one of a program's
_MAX_LINK_SIZE = 8_192  # bytes of a sealed symbolic link, with room for its record
# what every file system takes: FAT refuses the rest, and eCryptfs more than 143 bytes
_ORDINARY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff\"*:<>?\\|]{1,40}")
_ABSENT = (FileNotFoundError, NotADirectoryError)


class VisibleLayout:
    """See `encvault.mount.layouts.Layout`.

    Args:
        ground: what it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._tree = ground.vault.tree
        self._lock = ground.tree_lock
        self.may_clean = ground.vault.was_interrupted
        self._changed: set[str] = set()  # folders with names that are not durable yet
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
        node = FileNode(name, folder, "file", 0, Meta(0, (0, 0), 0, 0))
        self._read(node, above, sealed)
        if known is not None and _is_same(known, node):
            known.source = node.source  # copied, linked or touched; what is in it never changes
            return known
        # who has a changed file open keeps what he opened: it is another file from now on
        node.elder = known or folder.elders.pop(name, None)
        folder.children[name] = node
        return node

    def _is_free(self, path: str) -> bool:
        """Whether the path was just asked for in vain, as it is before a file is made there."""
        return path == self._free and time.monotonic() - self._free_at < _MOMENT

    def _is_there(self, node: FolderNode) -> bool:
        """Whether a folder is still on the disk; every file in it is asked for by way of it."""
        now = time.monotonic()
        if now - node.seen_at > _PATIENCE:
            status = self._status_of_folder(node.path)
            with self._lock:
                self._tree.forget_other(node.path, status)
            if status is None:
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

    def known(self, folder: FolderNode, name: str) -> Node | None:
        """See `Layout`."""
        known = folder.children.get(name)
        if not isinstance(known, FileNode) or known.source is None or known.is_dirty:
            return known
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
            if self._tree.exists(join(path, FOLDER)):
                return None  # a vault of its own
        number = inode(f"{status.st_dev}:{status.st_ino}")
        node = FolderNode(name, folder, number, self._meta_of(status))
        folder.children[name] = node
        return node

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
        found: dict[str, int] = {}
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
                elif (
                    entry.is_dir(follow_symlinks=False)
                    and not is_vault_folder(name)
                    and not durable.is_temporary(name)
                    and not self._tree.exists(join(join(path, name), FOLDER))
                ):
                    found[name] = stat.S_IFDIR
                elif durable.is_temporary(name):
                    left.append(name)
        if left and self.may_clean:
            self._clean(path, left)
        for name, node in folder.children.items():
            if is_unsaved(node) and isinstance(node, FileNode):
                found[name] = stat.S_IFLNK if node.kind == "symlink" else stat.S_IFREG
        return list(found.items())

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
            folder.meta.xattrs = dict(attributes.read_xattrs(self._tree.folder(folder.path)))

    def _meta_of(self, status: os.stat_result) -> Meta:
        owner = self._ground.owner or (status.st_uid, status.st_gid)
        return Meta(stat.S_IMODE(status.st_mode), owner, status.st_mtime_ns, status.st_ctime_ns)

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
            self._changed.discard(node.path)
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
                self._changed |= {source.folder, folder.path}
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
        if isinstance(over, FolderNode):
            self.remove_folder(over)
        old, new = node.path, join(folder.path, name)
        with self._lock:
            self._check_folder_name(folder, name)
            for path in (old, new):
                self._tree.forget_below(path)
            above, own = split(old)
            into = self._tree.folder(folder.path)
            calls.rename_new(self._tree.folder(above), own, name, into)
            self._changed = {moved(path, old, new) for path in self._changed}
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
        return self._all_below(node)

    def _all_below(self, folder: FolderNode) -> list[FileNode]:
        """Every file in a folder that was moved: the record of each names its old path."""
        files: list[FileNode] = []
        for name, kind in self.names(folder):
            with contextlib.suppress(EncvaultError, OSError):
                node = folder.children.get(name) if kind != stat.S_IFDIR else None
                node = node or self.find(folder, name)
                if isinstance(node, FolderNode):
                    files += self._all_below(node)
                elif node is not None:
                    files.append(node)
        return files

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
            known = dict(attributes.read_xattrs(fd))
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

    def settle(self) -> None:
        """See `Layout`. A file that is saved does not change its folder; to make it did."""
        with self._lock:
            self._times.put_back()

    def retire(self, sources: Iterable[Source]) -> None:
        """See `Layout`. A copy takes the very name of what it succeeds."""

    def sync(self, sources: Iterable[Source]) -> None:
        """See `Layout`."""
        with self._lock:
            folders = self._changed | {source.folder for source in sources}
            self._changed = set()
        self._ground.sync_folders(folders)


def _is_same(known: FileNode, found: FileNode) -> bool:
    """Whether they are one sealed file, which is never written again."""
    if known.source is None or found.source is None:
        return False
    return (known.source.file, known.source.home) == (found.source.file, found.source.home)


def _move_sources(folder: FolderNode, old: str, new: str) -> None:
    for node in folder.children.values():
        if isinstance(node, FolderNode):
            _move_sources(node, old, new)
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
