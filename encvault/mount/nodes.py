"""What a mounted vault consists of, as it stands in memory.

A node is a name with what is known of it. Of a file that is neither open nor changed this is its
attributes and where its sealed file lies; the content is in `encvault.mount.content`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encvault.fs.names import COMMON_SIZE
from encvault.fs.tree import join

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.envelope import Record
    from encvault.fs.stamp import Stamp
    from encvault.mount.content import Content
    from encvault.mount.sealing import Prepared


class Caller(NamedTuple):
    """Who asks: the process that made the system call, as the kernel says."""

    uid: int
    gid: int
    pid: int


class Access(NamedTuple):
    """A file that is given out or saved, for the access log.

    Attributes:
        path: of the plain file, relative to the vault.
        file: id of the sealed file, 26 characters; "" while there is none.
        size: bytes of content; None of a folder.
        ino: see `Attributes`; tells files apart that have no id yet.
    """

    path: str
    file: str
    size: int | None
    ino: int = 0

    @classmethod
    def to(cls, node: FileNode, path: str) -> Access:
        """To a file that was at this path."""
        return cls(path, node.source.file if node.source is not None else "", node.size, node.ino)


class Attributes(NamedTuple):
    """What stat(2) tells of a file.

    Attributes:
        kind: ``file``, ``dir`` or ``symlink``.
        ino: stays as long as the file is known.
        mode: permission bits.
        nlink: 1, or 2 for a folder; nobody counts what is in it.
        uid, gid: owner.
        size: bytes.
        mtime_ns, ctime_ns: last change of content, and of anything.
    """

    kind: str
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(slots=True)
class Meta:
    """What a file is beside its bytes.

    Attributes:
        mode: permission bits.
        owner: uid and gid.
        mtime_ns, ctime_ns: as in `Attributes`.
        xattrs: extended attributes.
    """

    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    ctime_ns: int
    xattrs: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def fresh(cls, mode: int, owner: tuple[int, int]) -> Meta:
        """Of what is made now."""
        now = time.time_ns()
        return cls(stat.S_IMODE(mode), owner, now, now)

    @classmethod
    def of(cls, record: Record, owner: tuple[int, int]) -> Meta:
        """Of what was sealed; what the record leaves open is filled in.

        Args:
            record: as it was read.
            owner: for who may not give files away: all of them are his then.
        """
        default = 0o755 if record.type == "dir" else 0o644
        mtime_ns = record.sealed_at_ns if record.mtime_ns is None else record.mtime_ns
        return cls(
            default if record.mode is None else record.mode,
            owner,
            mtime_ns,
            record.sealed_at_ns,
            dict(record.xattrs),
        )

    def changed(self) -> None:
        """The content is another from now on."""
        self.mtime_ns = self.ctime_ns = time.time_ns()

    def touched(self) -> None:
        """Something is another from now on, and not the content."""
        self.ctime_ns = time.time_ns()


class Source(NamedTuple):
    """The sealed file that a node was read from or saved as.

    Attributes:
        folder, name: where it is in the vault's tree.
        stamp: as it was then.
        file: its file id.
        home: what its record says: the path (visible), or the parent's id and the name (hidden).
        size: bytes of content.
        further: folder and name of the objects with the further parts.
    """

    folder: str
    name: str
    stamp: Stamp
    file: str
    home: str
    size: int
    further: tuple[tuple[str, str], ...] = ()

    @property
    def places(self) -> list[str]:
        """Paths of all its objects within the vault's tree."""
        return [join(*place) for place in ((self.folder, self.name), *self.further)]


@dataclass(slots=True)
class _Moves:
    """Counts how often folders were moved or removed: what was known of paths is old then."""

    count: int = 0


_moves = _Moves()


@dataclass(slots=True, eq=False)
class FileNode:
    """A file or a symbolic link.

    Attributes:
        name: its own.
        parent: the folder that it is in.
        kind: ``file`` or ``symlink``.
        ino: see `Attributes`.
        meta: see `Meta`.
        size: bytes of content.
        source: its sealed file, or None if it was never saved.
        lock: held while content or state change; taken after the view's own lock, if both are.
        content: while it is open or has changes.
        version: higher after every change.
        saved: the version that is in the vault, durable.
        prepared: a sealed copy that waits to take its place.
        under_way: the copy that is being committed; an older one, if it was changed meanwhile.
        handles: how often it is open.
        gone: whether its name was removed.
        data_version: higher after every change of the content.
        writers: how often it is open to write; while it is, it may be half of what is meant.
        elder: the file that was at its path before somebody else changed it, and may be open.
        given: the version of the content that the kernel may have kept pages of.
        over: sealed files that go when this one is saved: those of a file that it replaced.
        writer: who changed it last and is not told of yet, as the observer calls him; or None.
        failure: why it could not be saved, or None.
    """

    name: str
    parent: FolderNode
    kind: str
    ino: int
    meta: Meta
    size: int = 0
    source: Source | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    content: Content | None = None
    version: int = 0
    saved: int = 0
    prepared: Prepared | None = None
    under_way: Prepared | None = None
    handles: int = 0
    gone: bool = False
    data_version: int = 0
    writers: int = 0
    elder: FileNode | None = None
    given: int = -1
    over: list[Source] = field(default_factory=list)
    writer: object = None
    failure: Exception | None = None

    @property
    def path(self) -> str:
        """Relative to the vault, ``/`` between names."""
        return join(self.parent.path, self.name)

    @property
    def is_dirty(self) -> bool:
        """Whether the vault does not have it as it is."""
        return self.version != self.saved

    @property
    def is_settled(self) -> bool:
        """Whether nobody is in the middle of writing it."""
        return not self.writers

    @property
    def has_closed_copy(self) -> bool:
        """Whether the copy that waits is of what was closed, even if it is open again."""
        return self.prepared is not None and self.prepared.is_closed

    @property
    def has_open_elder(self) -> bool:
        """Whether the kernel may have pages of another file for its path."""
        node = self.elder
        while node is not None and not node.handles:
            node = node.elder
        self.elder = node
        return node is not None

    def attributes(self) -> Attributes:
        """See `Attributes`."""
        meta = self.meta
        return Attributes(
            self.kind,
            self.ino,
            meta.mode,
            0 if self.gone else 1,
            *meta.owner,
            self.size,
            meta.mtime_ns,
            meta.ctime_ns,
        )


@dataclass(slots=True, eq=False)
class FolderNode:
    """A folder.

    Attributes:
        name, parent: as in `FileNode`; of the top "" and None.
        ino, meta: as in `FileNode`.
        children: what is known to be in it, by name.
        folder: hidden layout: its folder id; "" for the top.
        source: hidden layout: its object, or None if it was never saved.
        version, saved: as in `FileNode`.
        gone: whether it was removed.
        over: as in `FileNode`.
        elders: files that somebody else has replaced, and that may still be open.
        behind: visible layout: files that are not shown, since folders have their names.
        seen_at: visible layout: when it was last seen on the disk, by the monotonic clock.
    """

    name: str
    parent: FolderNode | None
    ino: int
    meta: Meta
    children: dict[str, Node] = field(default_factory=dict)
    folder: str = ""
    source: Source | None = None
    version: int = 0
    saved: int = 0
    gone: bool = False
    over: list[Source] = field(default_factory=list)
    elders: dict[str, FileNode] = field(default_factory=dict)
    behind: dict[str, FileNode] = field(default_factory=dict)
    seen_at: float = 0.0
    _path: str = ""
    _path_of: int = -1

    @property
    def path(self) -> str:
        """Relative to the vault; "" for its top."""
        if self._path_of != _moves.count:
            above = self.parent.path if self.parent is not None else ""
            self._path = join(above, self.name) if self.parent is not None else ""
            self._path_of = _moves.count
        return self._path

    def moved(self) -> None:
        """It has another name or parent, or is gone: forget what was worked out of any path."""
        _moves.count += 1

    @property
    def is_dirty(self) -> bool:
        """Whether the vault does not have it as it is."""
        return self.version != self.saved

    def attributes(self) -> Attributes:
        """See `Attributes`."""
        meta = self.meta
        return Attributes(
            "dir", self.ino, meta.mode, 2, *meta.owner, 4096, meta.mtime_ns, meta.ctime_ns
        )

    def is_within(self, other: FolderNode) -> bool:
        """Whether it is the other folder or lies in it."""
        node: FolderNode | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


Node = FileNode | FolderNode


def count_of_moves() -> int:
    """Higher after a folder was moved or removed."""
    return _moves.count


def inode(text: str) -> int:
    """A number for what has this id; the same at every mount, and hardly ever that of another."""
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1 or 1


def new_inode() -> int:
    """A number for what has no id yet."""
    return int.from_bytes(os.urandom(8)) >> 1 or 1


def set_aside(node: FileNode) -> None:
    """Give a file another name, as one that the vault does not have: somebody else has its own."""
    folder, name = node.parent, _conflict_name(node)
    for known in (folder.children, folder.behind):
        if known.get(node.name) is node:
            del known[node.name]
    folder.elders[node.name] = node
    node.name = name
    folder.children[name] = node
    node.source, node.over = None, []


def _conflict_name(node: FileNode) -> str:
    """A name that nothing has, beside a file's own, for one that somebody else has changed."""
    stem, dot, ending = node.name.rpartition(".")
    if not stem:
        stem, dot, ending = node.name, "", ""
    ending = dot + ending
    now = time.strftime("%Y-%m-%d %H%M%S")
    number = 1
    while True:
        mark = f" (conflict {now})" if number == 1 else f" (conflict {now} {number})"
        name = stem + mark + ending
        if len(os.fsencode(name)) > COMMON_SIZE:
            stem, ending = (stem[:-1], ending) if len(stem) > 1 else (stem, ending[:-1])
        elif name in node.parent.children:
            number += 1
        else:
            return name


def folders_without_object(
    files: Iterable[FileNode], folders: Iterable[FolderNode]
) -> list[FolderNode]:
    """Folders that have no object yet and that these need, those above first."""
    found: list[FolderNode] = []
    seen: set[FolderNode] = set()
    for start in (*(node.parent for node in files), *folders):
        chain: list[FolderNode] = []
        folder: FolderNode | None = start
        while folder is not None and folder.parent is not None and folder not in seen:
            seen.add(folder)
            if folder.source is None and not folder.gone:
                chain.append(folder)
            folder = folder.parent
        found += reversed(chain)
    return found
