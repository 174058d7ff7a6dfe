"""The hidden layout under a mount: the tree is in memory, put together from the objects.

Names are nowhere but in the objects, so another name is another object; folders keep their ids.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs import calls, durable
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join, split
from encvault.mount.layouts import Unsynced
from encvault.mount.nodes import FileNode, FolderNode, Meta, Source, inode
from encvault.mount.sealing import Home
from encvault.vault.burial import bury, finish_burials
from encvault.vault.catalog import object_names, read_catalog, read_object
from encvault.vault.index import IndexWriter, read_index
from encvault.vault.layout import is_object, object_folder, object_path
from encvault.vault.manifest import OBJECTS_FOLDER, make_own_folders, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from encvault.envelope import Record
    from encvault.mount.layouts import Ground
    from encvault.mount.nodes import Node
    from encvault.mount.sealing import Prepared, Staging
    from encvault.secret import Secret
    from encvault.vault.catalog import Catalog, Found

_PATIENCE = 1.0  # seconds for which the disk is not looked at again


class HiddenLayout:
    """See `encvault.mount.layouts.Layout`.

    Attributes:
        strays: files that are called otherwise than their objects say, since folders have their
            names.

    Args:
        ground: what it stands on.
        problem: is told of objects that cannot be read.
    """

    def __init__(self, ground: Ground, problem: Callable[[EncvaultError], None]) -> None:
        self._ground = ground
        self._vault = ground.vault
        self._tree = ground.vault.tree
        self._lock = ground.tree_lock
        self._problem = problem
        self._changed = Unsynced(ground)
        self._known: dict[str, Node | None] = {}  # by object; None for what is no node
        self._folders: dict[str, FolderNode] = {}  # by folder id
        # what is at the same path and does not count: it goes when that is removed
        self._older: dict[Node, list[Source]] = {}
        self._stamps: dict[str, tuple[int, int]] = {}  # inode and time of the folders of objects
        self._waiting: set[str] = set()  # objects that could not be taken in yet
        self._told: set[str] = set()  # of which it was said why
        self._leaving: dict[str, dict[Node, None]] = {}  # moved out of a folder, by its id
        self.strays: list[FileNode] = []
        self.displace: Callable[[FileNode], None] = lambda _node: None
        self._looked_at = 0.0
        status = os.fstat(self._tree.fd)
        meta = Meta(
            stat.S_IMODE(status.st_mode),
            ground.owner or (status.st_uid, status.st_gid),
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        self.root = FolderNode("", None, inode("top"), meta)
        self._folders[""] = self.root
        with contextlib.suppress(OSError):  # a vault that is only read
            finish_burials(ground.vault)
        if ground.vault.was_interrupted:
            for folder_ in self._tree.walk(OBJECTS_FOLDER):
                durable.clean(self._tree, folder_.path)
        self._stamps = self._object_folders()
        index = read_index(ground.vault)
        self._unindexed: dict[str, bytes] = {}
        catalog = read_catalog(ground.vault, known=index)
        self._note_unindexed(catalog, index)
        self._build(catalog)

    # -- the tree ---------------------------------------------------------------------------

    def _note_unindexed(self, catalog: Catalog, index: Container[str]) -> None:
        for one in (*catalog.files.values(), *catalog.folders.values()):
            if one.file not in index:
                self._unindexed[one.file] = one.record.encode()

    def _build(self, catalog: Catalog) -> None:
        for error in (*catalog.problems, *catalog.shared_names(self._tree)):
            self._problem(error)
        known = {*catalog.parts, *(one.file for one in catalog.superseded)}
        known |= {one.file for one in (*catalog.files.values(), *catalog.folders.values())}
        for name in object_names(self._vault, self._problem):
            if name not in known:
                self._waiting.add(name)
                self._told.add(name)
        for path, found in sorted(catalog.folders.items()):
            self._add(self._folder_at(split(path)[0]), split(path)[1], found)
        for path, found in sorted(catalog.files.items()):
            self._add(self._folder_at(split(path)[0]), split(path)[1], found)
        for path in catalog.renamed:
            if isinstance(node := self._node_at(path), FileNode):
                self.strays.append(node)
        for found in (*catalog.parts.values(), *catalog.superseded):
            self._known[found.file] = None
        self._keep_older(catalog)

    def _keep_older(self, catalog: Catalog) -> None:
        for found in catalog.superseded:
            node = self._node_at(found.path)
            if found.record.folder and isinstance(node, FolderNode):
                self._folders[found.record.folder] = node
            if node is not None:
                self._older.setdefault(node, []).append(_source_of(found))

    def _node_at(self, path: str) -> Node | None:
        node: Node | None = self.root
        for name in filter(None, path.split("/")):
            node = node.children.get(name) if isinstance(node, FolderNode) else None
        return node

    def _folder_at(self, path: str) -> FolderNode:
        """The folder; one of lost+found is made where no object tells of it."""
        folder = self.root
        for name in filter(None, path.split("/")):
            child = folder.children.get(name)
            if not isinstance(child, FolderNode):
                child = self._new_folder(folder, name, Meta.fresh(0o755, self.root.meta.owner))
            folder = child
        return folder

    def _new_folder(self, folder: FolderNode, name: str, meta: Meta) -> FolderNode:
        folder_id = new_id()
        node = FolderNode(name, folder, inode(folder_id), meta, folder=folder_id, version=1)
        folder.children[name] = node
        self._folders[folder_id] = node
        return node

    def _add(self, folder: FolderNode, name: str, found: Found) -> None:
        record = found.record
        meta = Meta.of(record, self._ground.owner_of(record))
        source = _source_of(found)
        node: Node
        if record.type == "dir":
            folder_id = record.folder or ""
            known = folder.children.get(name)
            kept = known.children if isinstance(known, FolderNode) else {}
            node = FolderNode(name, folder, inode(folder_id), meta, kept, folder_id, source)
            for child in kept.values():
                child.parent = node
            node.moved()
            self._folders[folder_id] = node
        else:
            kind = "symlink" if record.type == "symlink" else "file"
            number = inode(found.file)
            node = FileNode(name, folder, kind, number, meta, record.size or 0, source)
            node.elder = folder.elders.pop(name, None)
        folder.children[name] = node
        self._known[found.file] = node

    def find(self, folder: FolderNode, name: str) -> Node | None:
        """See `Layout`."""
        self._look()
        return folder.children.get(name)

    def known(self, folder: FolderNode, name: str) -> FileNode | None:
        """See `Layout`."""
        known = folder.children.get(name)
        return known if isinstance(known, FileNode) else None

    def names(self, folder: FolderNode) -> list[tuple[str, int]]:
        """See `Layout`."""
        self._look()
        return [(name, _type_of(node)) for name, node in folder.children.items()]

    def refresh(self, folder: FolderNode) -> None:
        """See `Layout`. Nothing on the disk says more of a folder than its object."""

    def refresh_xattrs(self, folder: FolderNode) -> None:
        """See `Layout`. Nor of these."""

    # -- changes from outside ---------------------------------------------------------------

    def _look(self) -> None:
        """Notice objects that came and went, as by a program that syncs the vault."""
        now = time.monotonic()
        if now - self._looked_at < _PATIENCE:
            return
        self._looked_at = now
        stamps = self._object_folders()
        self._ground.check_there()
        changed = [name for name in stamps if stamps[name] != self._stamps.get(name)]
        gone = self._stamps.keys() - stamps.keys()
        known: dict[str, list[str]] = {}
        for file in self._known if changed or gone else ():
            known.setdefault(file[:2], []).append(file)
        for folder in changed:
            if stamps[folder][0] != self._stamps.get(folder, (0, 0))[0]:
                self._forget(folder)
            self._look_into(folder, known.get(folder, []))
        for folder in gone:
            self._forget(folder)
            for file in known.get(folder, []):
                if file in self._known:  # what came meanwhile may have taken its place
                    self._went(file)
        self._stamps = stamps
        # what could not be read may be half there, or its key or folder still on the way
        for name in sorted(self._waiting):
            self._came(name)

    def _forget(self, folder: str) -> None:
        """Somebody removed or replaced a folder of objects."""
        with self._lock:
            self._tree.forget(join(OBJECTS_FOLDER, folder))

    def _object_folders(self) -> dict[str, tuple[int, int]]:
        with self._lock:
            try:
                fd = self._tree.folder(OBJECTS_FOLDER)
            except OSError:
                return {}
            with os.scandir(fd) as entries:
                return {
                    entry.name: (status.st_ino, status.st_mtime_ns)
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                    for status in [entry.stat(follow_symlinks=False)]
                }

    def _look_into(self, folder: str, known: list[str]) -> None:
        path = join(OBJECTS_FOLDER, folder)
        with self._lock:
            try:
                names = {name for name in os.listdir(self._tree.folder(path)) if is_object(name)}
            except OSError:
                return
        self._ground.check_there()
        for name in sorted(names - self._known.keys()):
            self._came(name)
        for file in known:
            if file not in names and file in self._known:
                self._went(file)

    def _came(self, name: str) -> None:
        """Take an object in, or have it wait until it can be."""
        self._waiting.add(name)
        try:
            with self._lock:
                stamp = Stamp.of(self._tree.status(object_path(name)))
                found = read_object(self._vault, name, stamp)
        except FileNotFoundError:
            self._waiting.discard(name)
            return
        except OSError:
            return
        if isinstance(found, EncvaultError):
            if name not in self._told:
                self._told.add(name)
                self._problem(found)
            return
        record = found.record
        if record.type == "part":
            self._known[name] = None
            self._waiting.discard(name)
            return
        above = self._folders.get(record.parent or "")
        if above is None:
            return  # its folder comes, or is lost and found by the next mount
        there = above.children.get(record.path)
        if there is not None and not self._makes_way(there, record):
            return
        self._waiting.discard(name)
        self._add(above, record.path, found)
        if isinstance(there, FileNode) and isinstance(node := self._known[name], FileNode):
            node.elder = there

    def _makes_way(self, there: Node, record: Record) -> bool:
        """Whether what is at a path is to be replaced by an object that came."""
        if there.source is None and isinstance(there, FolderNode):
            return False
        if isinstance(there, FileNode) and there.is_dirty:
            self.displace(there)  # both sides changed it: both stay
            return True
        if isinstance(there, FolderNode) != (record.type == "dir"):
            return False  # what is there goes, or the next mount gives the file another name
        return there.meta.ctime_ns < record.sealed_at_ns or there.gone

    def _went(self, file: str) -> None:
        node = self._known.pop(file)
        if node is None or node.source is None or node.source.file != file or node.is_dirty:
            return
        if isinstance(node, FolderNode) and node.children:
            node.source, node.version = None, node.version + 1  # saved anew
            return
        above = node.parent
        if above is not None and above.children.get(node.name) is node:
            del above.children[node.name]
            if isinstance(node, FolderNode):
                node.moved()
            elif node.handles:
                above.elders[node.name] = node

    # -- names ------------------------------------------------------------------------------

    def add_file(self, folder: FolderNode, node: FileNode) -> None:
        """See `Layout`."""
        folder.children[node.name] = node
        _changed(folder)

    def add_folder(self, folder: FolderNode, name: str, meta: Meta) -> FolderNode:
        """See `Layout`."""
        _changed(folder)
        return self._new_folder(folder, name, meta)

    def remove_file(self, node: FileNode) -> None:
        """See `Layout`."""
        self._drop_all_of(node)
        node.parent.children.pop(node.name, None)
        _changed(node.parent)

    def remove_folder(self, node: FolderNode) -> None:
        """See `Layout`."""
        self._drop_all_of(node)
        node.gone = True
        node.moved()
        self._folders.pop(node.folder, None)
        if node.parent is not None:
            node.parent.children.pop(node.name, None)
            _changed(node.parent)

    def _drop_all_of(self, node: Node) -> None:
        # the older first: else a crash between the two would bring them back
        older = self._older.pop(node, [])
        own = () if node.source is None else (node.source,)
        self._drop([*older, *node.over, *own])
        node.over.clear()

    def _drop(self, sources: list[Source]) -> None:
        for source in sources:
            self._known.pop(source.file, None)
            self._unindexed.pop(source.file, None)
            for _folder, name in source.further:
                self._known.pop(name, None)
                self._unindexed.pop(name, None)
            with self._lock, contextlib.suppress(FileNotFoundError):
                if source.further:
                    bury(self._tree, (source.file, *(name for _folder, name in source.further)))
                else:
                    calls.unlink(self._tree.folder(source.folder), source.name)
                self._changed.add(source.folder)
        self._note_stamps(source.folder for source in sources)

    def _note_stamps(self, folders: Iterable[str]) -> None:
        """What this process has changed itself is nothing to look for."""
        for folder in set(folders):
            with self._lock, contextlib.suppress(OSError):
                status = os.fstat(self._tree.folder(folder))
                self._stamps[split(folder)[1]] = (status.st_ino, status.st_mtime_ns)

    def move(self, node: Node, folder: FolderNode, name: str, over: Node | None) -> list[FileNode]:
        """See `Layout`."""
        if isinstance(over, FolderNode):
            self.remove_folder(over)
        elif over is not None:
            # it goes when this one has its name in the vault
            node.over += [source for source in (over.source, *over.over) if source is not None]
        if node.parent is not None:
            del node.parent.children[node.name]
            _changed(node.parent)
            if node.parent is not folder:
                self._leaving.setdefault(node.parent.folder, {})[node] = None
        node.name, node.parent = name, folder
        folder.children[name] = node
        _changed(folder)
        if isinstance(node, FolderNode):
            node.version += 1
            node.moved()
        return []

    def astray(self) -> Iterable[FileNode]:
        """See `Layout`. Another name is another object, and that is made first."""
        return ()

    def leaving(self, folder: FolderNode) -> list[Node]:
        """See `Layout`."""
        nodes = self._leaving.pop(folder.folder, {})
        return [node for node in nodes if not node.gone and node.is_dirty]

    def change_folder(self, node: FolderNode) -> bool:
        """See `Layout`."""
        if node.parent is None:
            return False  # the top is no object
        node.version += 1
        return True

    # -- save -------------------------------------------------------------------------------

    def home(self, node: Node) -> Home:
        """See `Layout`."""
        parent = node.parent.folder if node.parent is not None else ""
        folder = node.folder if isinstance(node, FolderNode) else None
        return Home(node.name, parent, folder)

    def staging(self, node: Node, file: str) -> Staging:  # noqa: ARG002 - see `Layout`
        """See `Layout`."""
        return object_folder(file)

    def take(self, node: Node, prepared: Prepared) -> Source:
        """See `Layout`."""
        places = [(object_folder(file), file) for file in prepared.ids]
        with self._lock:
            self._place(prepared, places)
            stamp = Stamp.of(self._tree.status(object_path(prepared.ids[0])))
        home = join(prepared.home.parent or "", prepared.home.path)
        for file in prepared.ids[1:]:
            self._known[file] = None
        self._known[prepared.ids[0]] = node
        self._unindexed.update(zip(prepared.ids, prepared.records, strict=True))
        self._note_stamps(folder for folder, _name in places)
        (folder, name), *further = places
        return Source(folder, name, stamp, name, home, prepared.size, tuple(further))

    def _place(self, prepared: Prepared, places: list[tuple[str, str]]) -> None:
        """Give the objects their names, the first one last."""
        placed: list[tuple[str, str]] = []
        pairs = list(zip(prepared.temporaries, places, strict=True))
        try:
            for (staged, temporary), (folder, name) in reversed(pairs):
                if len(places) > 1 and (folder, name) == places[0]:
                    # no first object may outlive a crash without the parts that it names
                    self._tree.sync_names({above for above, _name in places[1:]})
                into = make_own_folders(self._tree, folder)
                calls.rename_new(self._tree.folder(staged), temporary, name, into)
                self._changed.add(folder)
                placed.append((folder, name))
        except OSError:
            for folder, name in placed:  # parts that nothing will ever name
                with contextlib.suppress(OSError):
                    calls.unlink(self._tree.folder(folder), name)
            raise

    def leave(self, data_key: Callable[[], tuple[str, Secret]]) -> None:
        """See `Layout`."""
        writer = IndexWriter(self._vault, data_key)
        for file, record in self._unindexed.items():
            writer.add(file, record)
        writer.flush()
        writer.merge(self._known)
        self._unindexed.clear()

    def settle(self) -> None:
        """See `Layout`. The folders of objects have no times that anybody sees."""

    def retire(self, sources: Iterable[Source]) -> None:
        """See `Layout`."""
        self._drop(list(sources))

    def sync(self, sources: Iterable[Source]) -> None:
        """See `Layout`."""
        self._changed.sync(source.folder for source in sources)


def _source_of(found: Found) -> Source:
    record = found.record
    return Source(
        object_folder(found.file),
        found.file,
        found.stamp,
        found.file,
        join(record.parent or "", record.path),
        record.size or 0,
        tuple((object_folder(part), part) for part in record.parts),
    )


def _type_of(node: Node) -> int:
    if isinstance(node, FolderNode):
        return stat.S_IFDIR
    return stat.S_IFLNK if node.kind == "symlink" else stat.S_IFREG


def _changed(folder: FolderNode) -> None:
    folder.meta.changed()
    folder.version += folder.parent is not None
