"""What the two layouts of a vault do differently under a mount.

A layout finds nodes on the disk, makes changes of names there, and puts sealed copies in their
places. Its methods are called with the view's lock held; `OSError` and `EncvaultError` pass through
to whoever made the system call.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from encvault.envelope import is_vault_folder
from encvault.errors import MalformedRecord
from encvault.fs import durable
from encvault.fs.names import COMMON_SIZE
from encvault.fs.tree import join, moved
from encvault.i18n import _
from encvault.mount.bases import Held, open_sealed_base
from encvault.mount.nodes import FileNode
from encvault.vault import attributes
from encvault.vault.sealed import open_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from encvault.envelope import Record
    from encvault.mount.bases import Base
    from encvault.mount.cache import Cache
    from encvault.mount.nodes import FolderNode, Meta, Node, Source
    from encvault.mount.sealing import Home, Prepared, Staging
    from encvault.secret import Secret
    from encvault.vault.sealed import Front
    from encvault.vault.vault import Vault

_SURELY_SHORT = 63  # characters of a name, none of which has more than four bytes
_SMALL = 16_384  # bytes of content
_FRONTS = 512  # of larger files, that were looked at and may be opened next


class Displaced(Exception):
    """Something else has taken the place of a file since it was read."""


class Layout(Protocol):
    """See the module."""

    root: FolderNode

    def find(self, folder: FolderNode, name: str) -> Node | None:
        """What is called so, as it is on the disk now; None if nothing is."""

    def known(self, folder: FolderNode, name: str) -> FileNode | None:
        """The same, and None if its sealed file would have to be opened, or if it is a folder."""

    def names(self, folder: FolderNode) -> list[tuple[str, int]]:
        """Everything in a folder: names, and type bits or 0 where only opening would tell."""

    def refresh(self, folder: FolderNode) -> None:
        """Bring what is known of a folder itself up to date, but for its extended attributes."""

    def refresh_xattrs(self, folder: FolderNode) -> None:
        """And these."""

    def add_file(self, folder: FolderNode, node: FileNode) -> None:
        """A new file that is not saved yet."""

    def add_folder(self, folder: FolderNode, name: str, meta: Meta) -> FolderNode:
        """A new folder."""

    def remove_file(self, node: FileNode) -> None:
        """A file's name goes."""

    def remove_folder(self, node: FolderNode) -> None:
        """An empty folder goes."""

    def move(self, node: Node, folder: FolderNode, name: str, over: Node | None) -> list[FileNode]:
        """Another name; `over` is what had it, and goes.

        Returns:
            Files beneath that have to be sealed anew because of it, besides the node itself.
        """

    def astray(self) -> Iterable[FileNode]:
        """Files that have to be sealed anew since a mount was killed before it did."""

    def leaving(self, folder: FolderNode) -> list[Node]:
        """What was moved out of a folder and still lies in it, as far as the vault knows."""

    def change_folder(self, node: FolderNode) -> bool:
        """A folder's own attributes have changed; whether it has to be saved."""

    def home(self, node: Node) -> Home:
        """Where it belongs."""

    def staging(self, node: Node, file: str) -> Staging:
        """Where to make a node's object of this id, before it is durable."""

    def take(self, node: Node, prepared: Prepared) -> Source:
        """Put a sealed copy, which is durable, in its place.

        Raises:
            Displaced: somebody else has changed what is there.
        """

    def leave(self, data_key: Callable[[], tuple[str, Secret]]) -> None:
        """Everything is saved; keep what makes the next mount fast.

        Args:
            data_key: gives the id of a data key of this mount, and the key.
        """

    def settle(self) -> None:
        """Files were made for, or put into, some folders: let those look as they did."""

    def retire(self, sources: Iterable[Source]) -> None:
        """Remove sealed files that another has succeeded; that one is durable."""

    def sync(self, sources: Iterable[Source]) -> None:
        """Make the names of sealed files durable, and what was done to names before."""


@dataclass(slots=True, eq=False)
class Ground:
    """What both layouts stand on.

    Attributes:
        vault: unlocked.
        cache: keeps what was opened.
        tree_lock: held while a descriptor of the tree is taken and used.
        owner: of everything, for who may not give files away; None for root.
        own: names of the temporary files of this process; others were left by a killed one.
    """

    vault: Vault
    cache: Cache
    tree_lock: threading.RLock = field(default_factory=threading.RLock)
    owner: tuple[int, int] | None = None
    own: set[str] = field(default_factory=set)
    _fronts: dict[str, Front] = field(default_factory=dict)

    @classmethod
    def of(cls, vault: Vault, cache: Cache) -> Ground:
        """For this process."""
        owner = None if attributes.IS_PRIVILEGED else (os.getuid(), os.getgid())
        return cls(vault, cache, owner=owner)

    def check_there(self) -> None:
        """Refuse to say that something is not there if the drive is not; see `Tree.check_there`."""
        self.vault.tree.check_there()

    def owner_of(self, record: Record) -> tuple[int, int]:
        """Whose a file is."""
        if self.owner is not None:
            return self.owner
        return record.owner or (0, 0)

    def keep_front(self, file: str, front: Front) -> None:
        """Remember the first chunks of a file: who asks for its size often opens it next."""
        if (content := front.content) is not None:
            self.cache.put(file, content)
            return
        if len(self._fronts) >= _FRONTS:
            self._fronts.pop(next(iter(self._fronts)), None)
        self._fronts[file] = front

    def rest(self, node: FileNode) -> None:
        """Let the content of a file, whose lock is held, rest on what the vault has now.

        If nobody needs it, it is let go. A small one is remembered: who writes it often reads it
        next.

        Raises:
            OSError, EncvaultError: it cannot be read again; if it is open, its changes stay.
        """
        content, source = node.content, node.source
        if content is None or source is None:
            return
        try:
            if content.size <= _SMALL:
                self.cache.put(source.file, memoryview(content.read(0, content.size)))
            growing = content.growing
            # which was sealed anew since, and may be damaged where it lies
            is_left = growing is not None and not growing.is_open and growing.file != source.file
            if node.handles and (content.has_changes or is_left):
                content.settle(self.open(source))
        finally:
            if not node.handles:
                content.close()
                node.content = None

    def open(self, source: Source) -> Base:
        """A sealed file to read from.

        Raises:
            OSError, EncvaultError: it cannot be read, or is not a whole authentic file, or not the
                one that the index says.
        """
        file, places = source.file, source.places
        if (content := self.cache.get(file)) is not None:
            return Held(content)
        fds: list[int] = []
        tree = self.vault.tree
        with self.tree_lock:
            try:
                fds += [open_sealed(tree, place) for place in places]
            except BaseException:
                for fd in fds:
                    os.close(fd)
                self.check_there()
                raise
        front = self._fronts.get(file)
        shown = [tree.show(place) for place in places]
        opened = open_sealed_base(fds, shown, self.vault, self.cache, front)
        record = opened.front.record
        if self.vault.hidden and source.home != join(record.parent or "", record.path):
            opened.close()
            raise MalformedRecord(path=shown[0], reason=_("another than the index says"))
        self.keep_front(file, opened.front)
        return opened


class Unsynced:
    """Folders with names that are not durable yet.

    Its methods are called with the tree's lock held, except `sync`, which takes long.

    Args:
        ground: what the layout stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._folders: set[str] = set()
        self._under_way: set[str] = set()

    def add(self, *folders: str) -> None:
        """Names in these were made, removed or given."""
        self._folders.update(folders)

    def drop(self, folder: str) -> None:
        """A folder is gone."""
        self._folders.discard(folder)

    def move(self, old: str, new: str) -> None:
        """A folder has another path, and so has what is in it."""
        # those as well that are just being synced, perhaps by their old paths in vain
        self._folders = {moved(path, old, new) for path in self._folders} | {
            moved(path, old, new)
            for path in self._under_way
            if path == old or path.startswith(old + "/")
        }
        self._under_way = {moved(path, old, new) for path in self._under_way}

    def sync(self, folders: Iterable[str]) -> None:
        """Make their names durable, and those in further folders.

        Raises:
            OSError: they may not be; all of them stay to be synced.
        """
        with self._ground.tree_lock:
            self._under_way = self._folders | set(folders)
            self._folders = set()
        try:
            self._ground.vault.tree.sync_names(tuple(self._under_way), self._ground.tree_lock)
        except BaseException:
            with self._ground.tree_lock:
                self._folders |= self._under_way
            raise
        finally:
            self._under_way = set()


def check_length(name: str) -> None:
    """Refuse a name that no file can have.

    Raises:
        OSError: it is too long.
    """
    if len(name) > _SURELY_SHORT and len(os.fsencode(name)) > COMMON_SIZE:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def check_name(name: str) -> None:
    """Refuse a name that a sealed file cannot have.

    Raises:
        OSError: it is too long, or is one of the vault's own.
    """
    check_length(name)
    if not name.startswith("."):
        return
    if is_vault_folder(name) or durable.is_temporary(name) or durable.is_tombstone(name):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def is_unsaved(node: Node) -> bool:
    """Whether the vault has never had it."""
    return isinstance(node, FileNode) and node.source is None
