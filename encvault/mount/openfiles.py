"""The files of a view that are open, and their content.

A file's content is there while it is open or has changes, under the lock of its node. That lock is
held while the file is sealed, which takes its time with a large one; so it is never waited for with
the view's own lock held if only this file is asked for.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.mount.bases import Nothing
from encvault.mount.cache import Budget, Cache
from encvault.mount.content import BLOCK_SIZE, Content
from encvault.mount.hidden import HiddenLayout
from encvault.mount.layouts import Ground, Layout
from encvault.mount.nodes import Access, FileNode
from encvault.mount.saving import Saver
from encvault.mount.sealing import Sealer
from encvault.mount.visible import VisibleLayout

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.mount.nodes import Attributes, Caller, FolderNode, Meta, Source
    from encvault.mount.observer import MountObserver
    from encvault.secret import Buffer
    from encvault.vault.vault import Vault

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16  # fallocate(2)
_MAX_SIZE = (1 << 63) - 1


@dataclass(slots=True, eq=False)
class _Handle:
    """An open file, who opened it, and whether to write."""

    node: FileNode
    caller: Caller
    writes: bool
    who: object = None


class OpenFiles:
    """See the module; `encvault.mount.lookups.Lookups` adds what is found by a path.

    Args:
        vault: unlocked and held.
        is_read_only: refuse every change.
        observer: is told what is given out and saved.
        problem: is told what goes wrong and no program hears of.

    Raises:
        OSError, EncvaultError: the vault cannot be read.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        is_read_only: bool,
        observer: MountObserver,
        problem: Callable[[Exception], None],
    ) -> None:
        self.is_read_only = is_read_only
        self._vault = vault
        self._observer = observer
        self._lock = threading.RLock()
        self._cache = Cache()
        self._budget = Budget()
        self._ground = Ground.of(vault, self._cache)
        self._layout: Layout = (
            HiddenLayout(self._ground, problem)
            if vault.hidden
            else VisibleLayout(self._ground, problem)
        )
        self._sealer = Sealer(
            vault,
            self._ground.tree_lock,
            self._layout.home,
            self._layout.staging,
            self._ground.own,
        )
        self._saver = Saver(
            self._ground,
            self._layout,
            self._sealer,
            self._lock,
            observer,
            problem,
            self._content_of,
        )
        if isinstance(self._layout, HiddenLayout):
            self._layout.displace = self._saver.displaced
            for node in self._layout.strays:
                self._saver.strays.note(node, self._layout.home(node).text)
        self._handles: dict[int, _Handle] = {}
        self._folders: dict[int, FolderNode] = {}  # that are open, by handle
        self._numbers = itertools.count(1)
        self._used_at = time.monotonic()
        self._walked: dict[str, FolderNode] = {}  # folders that were just looked for
        self._walked_in = (0, 0)  # the moment, and the count of moves

    def _check_writable(self) -> None:
        if self.is_read_only:
            raise error_of(errno.EROFS)

    def _handle(self, handle: int) -> _Handle:
        self._used_at = time.monotonic()
        try:
            return self._handles[handle]
        except KeyError:
            raise error_of(errno.EBADF) from None

    def _open(self, node: FileNode, where: str, flags: int, caller: Caller) -> int:
        """Open a file that was at this path."""
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        with node.lock:
            node.handles += 1
            node.writers += writes
        try:
            if not flags & os.O_TRUNC:
                with node.lock:
                    self._content_of(node)
            if flags & os.O_ACCMODE != os.O_WRONLY:
                self._observer.opened(Access.to(node, where), caller)
            if flags & os.O_TRUNC:  # what is refused must change nothing
                self._truncate(node, 0, self._observer.who(caller))
        except BaseException:
            self._close(node, writes=writes)
            raise
        return self._new_handle(node, caller, writes=writes)

    def _new_handle(self, node: FileNode, caller: Caller, *, writes: bool) -> int:
        number = next(self._numbers)
        self._handles[number] = _Handle(node, caller, writes)
        return number

    # -- content ----------------------------------------------------------------------------

    def _content(self, node: FileNode, source: Source | None) -> Content:
        base = Nothing() if source is None else self._ground.open(source)
        return Content(
            base,
            self._budget,
            lambda: self._sealer.spill(BLOCK_SIZE),
            lambda: self._sealer.grow(node),
        )

    def _content_of(self, node: FileNode) -> Content:
        """The content of a node whose lock is held."""
        if node.content is None:
            source = node.source
            if source is None:
                if node.gone:  # between the look for it and its opening, and it was never saved
                    raise error_of(errno.ENOENT)
                raise AssertionError("view: a file that is nowhere")
            node.content = self._content(node, source)
            node.size = node.content.size
        return node.content

    def _let_go(self, node: FileNode) -> None:
        """Close the content of a node, whose lock is held, if nobody needs it."""
        if node.content is not None and not node.handles and not (node.is_dirty and not node.gone):
            node.content.close()
            node.content = None

    # -- open files -------------------------------------------------------------------------

    def attributes_of(self, handle: int) -> Attributes:
        """The same of an open file, which may have no name any more."""
        return self._handle(handle).node.attributes()

    def bypasses_cache(self, handle: int) -> bool:
        """Whether the kernel must keep no pages: it has those of a file that was there before."""
        return self._handle(handle).node.has_open_elder

    def keeps_cache(self, handle: int) -> bool:
        """Whether the pages that the kernel may have of this file are still right."""
        node = self._handle(handle).node
        given, node.given = node.given, node.data_version
        return given == node.data_version

    def read(self, handle: int, size: int, offset: int) -> Buffer:
        """Content from a place on; fewer bytes only at the end."""
        node = self._handle(handle).node
        with node.lock:
            return self._content_of(node).read(offset, size)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Change content; the count of bytes."""
        opened = self._handle(handle)
        node = opened.node
        if offset + len(data) > _MAX_SIZE:
            raise error_of(errno.EFBIG)
        with node.lock:
            content = self._content_of(node)
            self._check_room(content.size, offset)
            content.write(offset, data)
            self._changed(node, content, self._who(opened))
            if opened.caller.uid != 0:
                drop_set_id(node.meta)
        return len(data)

    def _who(self, opened: _Handle) -> object:
        """Who has a file open; asked at the first change, when he is surely there."""
        if opened.who is None:
            opened.who = self._observer.who(opened.caller)
        return opened.who

    def _changed(self, node: FileNode, content: Content, who: object) -> None:
        node.size = content.size
        node.data_version += 1
        node.given = node.data_version  # what is written through the kernel, it knows
        node.writer = who
        node.meta.changed()
        self._saver.changed(node)

    def _check_room(self, size: int, end: int) -> None:
        """Refuse a file that would not fit: holes take room in a sealed file."""
        if end - size > BLOCK_SIZE:
            room = self.statfs()
            if end - size > room.f_bavail * room.f_frsize:
                raise error_of(errno.ENOSPC)

    def flush(self, handle: int) -> None:
        """A descriptor of the file was closed; perhaps not the last."""
        opened = self._handle(handle)
        node = opened.node
        if opened.writes and node.is_dirty and not node.gone:
            self._saver.closed(node)

    def fsync(self, handle: int) -> None:
        """Have the file in the vault, durable, on return."""
        node = self._handle(handle).node
        if not node.gone:
            self._saver.save([node])
            if node.failure is not None:
                raise node.failure

    def release(self, handle: int) -> None:
        """Nobody has this descriptor any more."""
        opened = self._handles.pop(handle, None)
        if opened is not None:
            self._close(opened.node, writes=opened.writes)

    def _close(self, node: FileNode, *, writes: bool) -> None:
        with node.lock:
            node.handles -= 1
            node.writers -= writes
            self._let_go(node)
            left = not node.writers and node.is_dirty and not node.gone
            if (copy := node.prepared) is not None and not node.writers:
                copy.is_closed = copy.data_version == node.data_version
        if left:
            self._saver.released(node)

    def truncate_open(self, handle: int, size: int) -> None:
        """The same for an open file."""
        opened = self._handle(handle)
        self._truncate(opened.node, size, self._who(opened))

    def _truncate(self, node: FileNode, size: int, who: object) -> None:
        with node.lock:
            if size == 0 and node.content is None:
                node.content = self._content(node, None)  # what it had is not needed
                content = node.content
            else:
                content = self._content_of(node)
            self._check_room(content.size, size)
            content.truncate(size)
            self._changed(node, content, who)

    def allocate(self, handle: int, mode: int, offset: int, size: int) -> None:
        """See fallocate(2); room is not taken before the file is saved."""
        opened = self._handle(handle)
        node = opened.node
        if mode & ~(_KEEP_SIZE | _PUNCH_HOLE | _ZERO_RANGE):
            raise error_of(errno.EOPNOTSUPP)
        with node.lock:
            content = self._content_of(node)
            self._check_room(content.size, offset + size)
            if mode & (_PUNCH_HOLE | _ZERO_RANGE):
                content.zero(offset, size)
            if not mode & _KEEP_SIZE and offset + size > content.size:
                content.truncate(offset + size)
            self._changed(node, content, self._who(opened))

    # -- all of it --------------------------------------------------------------------------

    def statfs(self) -> os.statvfs_result:
        """Of the file system that the vault is on."""
        return os.fstatvfs(self._vault.tree.fd)

    def sync(self) -> None:
        """Have everything that was closed in the vault, durable, on return."""
        self._saver.sync()

    def unsaved(self) -> list[str]:
        """Paths of files with changes that the vault does not have."""
        return self._saver.unsaved()

    def idle_seconds(self) -> float | None:
        """Seconds since anything was asked for; None while files are open."""
        return None if self._handles else time.monotonic() - self._used_at

    def close(self) -> None:
        """Save what is left, also of files that are still open, and forget everything.

        Raises:
            OSError: something could not be saved.
        """
        for opened in list(self._handles.values()):
            opened.node.writers = 0  # what it has now is all that there will be
        try:
            self._saver.close()
            if not self.is_read_only:
                self._layout.leave(self._sealer.data_key)
        finally:
            for opened in list(self._handles.values()):
                self._close(opened.node, writes=False)
            self._handles.clear()
            self._sealer.close()
            self._cache.clear()


def drop_set_id(meta: Meta) -> None:
    """What chown(2), and a write by an ordinary user, take from a file."""
    if meta.mode & stat.S_IXGRP:
        meta.mode &= ~stat.S_ISGID
    meta.mode &= ~stat.S_ISUID


def error_of(number: int) -> OSError:
    """What the system would report."""
    return OSError(number, os.strerror(number))
