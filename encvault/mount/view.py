"""A vault as a file system: the verbs of POSIX on plain paths, without FUSE.

Names are changed in the tree of nodes and, as far as the layout has them there, on the disk at
once; contents go the way of `encvault.mount.saving`. To look without changing anything is in
`encvault.mount.lookups`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from encvault.envelope import MAX_XATTRS_SIZE, record_time
from encvault.mount.lookups import Lookups
from encvault.mount.nodes import Access, FileNode, FolderNode, Meta, new_inode
from encvault.mount.openfiles import drop_set_id, error_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.mount.nodes import Caller, Node

    Change = Callable[[Meta], None]

RENAME_NOREPLACE = 1
_XATTR_CREATE, _XATTR_REPLACE = 1, 2
_MAX_XATTR_NAME = 255
_MAX_LINK = 4095  # bytes of a symbolic link's target
_OWN_XATTRS = "user."  # access lists would have to be obeyed, and are not
_SYSTEM_XATTRS = "system."


class View(Lookups):
    """See the module. All methods may be called from several threads."""

    # -- open files -------------------------------------------------------------------------

    def open(self, path: str, flags: int, caller: Caller) -> int:
        """Open a file. The access is recorded before this returns.

        Raises:
            AccessLogError: it could not be recorded, and has to be.
        """
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self._check_writable()
        with self._lock:
            node = self._find_file(path)
            if node.kind == "symlink":
                raise error_of(errno.ELOOP)
            where = node.path
        return self._open(node, where, flags, caller)

    def create(self, path: str, mode: int, flags: int, caller: Caller) -> int:
        """Make a file and open it; if somebody else just made it, open that."""
        self._check_writable()
        ino = new_inode()
        if flags & os.O_ACCMODE != os.O_WRONLY:
            # what others write into it later, he reads with this handle
            self._observer.opened(Access(path.strip("/"), "", 0, ino), caller)
        with self._lock:
            folder, name = self._place(path)
            there = self._layout.find(folder, name)
            if there is not None and flags & os.O_EXCL:
                raise error_of(errno.EEXIST)
            if there is None:
                node = self._new_file(folder, name, "file", mode, caller, ino)
                node.handles = 1
                node.writers = flags & os.O_ACCMODE != os.O_RDONLY
        if there is not None:
            return self.open(path, flags, caller)
        return self._new_handle(node, caller, writes=bool(node.writers))

    def _new_file(
        self, folder: FolderNode, name: str, kind: str, mode: int, caller: Caller, ino: int
    ) -> FileNode:
        owner = self._owner_in(folder, caller)
        node = FileNode(name, folder, kind, ino, Meta.fresh(mode, owner))
        node.writer = self._observer.who(caller)
        node.content = self._content(node, None)
        self._layout.add_file(folder, node)
        self._saver.changed(node)
        self._changed_in(folder)
        return node

    def _owner_in(self, folder: FolderNode, caller: Caller) -> tuple[int, int]:
        """Whose something new is; a folder with set-gid hands its group down."""
        if self._ground.owner is not None:
            return self._ground.owner
        return caller.uid, folder.meta.owner[1] if folder.meta.mode & stat.S_ISGID else caller.gid

    def _changed_in(self, folder: FolderNode) -> None:
        if folder.is_dirty:
            self._saver.later(folder)

    # -- size -------------------------------------------------------------------------------

    def truncate(self, path: str, size: int, caller: Caller | None = None) -> None:
        """Give a file another size."""
        self._check_writable()
        with self._lock:
            node = self._find_file(path)
        self._truncate(node, size, self._who_is(caller))
        if not node.writers:
            self._saver.later(node)  # who empties a file by its name often writes it next

    # -- names ------------------------------------------------------------------------------

    def make_folder(self, path: str, mode: int, caller: Caller) -> None:
        """Make a folder."""
        self._check_writable()
        with self._lock:
            folder, name = self._place(path)
            if self._layout.find(folder, name) is not None:
                raise error_of(errno.EEXIST)
            owner = self._owner_in(folder, caller)
            if folder.meta.mode & stat.S_ISGID:
                mode |= stat.S_ISGID
            node = self._layout.add_folder(folder, name, Meta.fresh(mode, owner))
            if node.is_dirty:
                self._saver.soon(node)
            self._changed_in(folder)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        self._check_writable()
        with self._lock:
            leaving = self._layout.leaving(self._find_folder(path))
        if leaving:
            self._saver.save(leaving)
        with self._lock:
            node = self._find_folder(path)
            if node.parent is None:
                raise error_of(errno.EBUSY)
            if self._layout.names(node):
                raise error_of(errno.ENOTEMPTY)
            self._layout.remove_folder(node)
            self._saver.forget(node)
            self._changed_in(node.parent)

    def _who_is(self, caller: Caller | None) -> object:
        return None if caller is None else self._observer.who(caller)

    def unlink(self, path: str, caller: Caller | None = None) -> None:
        """Remove a file's name; who has it open keeps it."""
        self._check_writable()
        while True:
            with self._lock:
                node = self._find_file(path)
                if node.lock.acquire(blocking=False):
                    try:
                        self._unlink(node, caller)
                    finally:
                        node.lock.release()
                    return
            _wait_for(node)

    def _unlink(self, node: FileNode, caller: Caller | None) -> None:
        where = node.path
        if node.handles:
            self._content_of(node)
        self._layout.remove_file(node)
        self._bury(node)
        if node.source is not None:
            access = Access.to(node, where)
            self._saver.told(("remove", access, self._who_is(caller), ""))
        self._changed_in(node.parent)

    def _bury(self, node: FileNode) -> None:
        node.gone = True
        self._saver.forget(node)
        self._let_go(node)

    def rename(self, old: str, new: str, flags: int, caller: Caller | None = None) -> None:
        """Give something another name; what had that name goes."""
        self._check_writable()
        if flags & ~RENAME_NOREPLACE:
            raise error_of(errno.EINVAL)
        self._settle_first(old, new)
        with self._lock:
            node = self._find(old)
            folder, name = self._place(new)
            over = self._layout.find(folder, name)
            if over is node:
                return
            if over is not None and flags & RENAME_NOREPLACE:
                raise error_of(errno.EEXIST)
            if node.parent is None:
                raise error_of(errno.EBUSY)
            _check_move(node, folder, over)
            if isinstance(over, FolderNode) and self._layout.names(over):
                raise error_of(errno.ENOTEMPTY)
            where, above = node.path, node.parent
            with _both(node, over):
                if isinstance(over, FileNode) and over.handles:
                    self._content_of(over)
                beneath = self._layout.move(node, folder, name, over)
                if isinstance(over, FileNode):
                    self._bury(over)
                elif over is not None:
                    self._saver.forget(over)
            self._moved(node, where, beneath, self._who_is(caller))
            self._changed_in(above)
            self._changed_in(folder)

    def _settle_first(self, old: str, new: str) -> None:
        """Save what would be lost or look swapped if the disk had the new name now.

        That is what the new place is the home of, and a file that has not yet taken the place of
        another that it replaced.
        """
        with self._lock:
            both: list[Node | None] = [self._found(old), self._found(new)]
        for one in both:
            _wait_for(one)
        if self._vault.hidden:
            return
        with self._lock:
            waiting = list(self._saver.strays.at_or_below(new.strip("/")))
            node = self._found(old)
            if isinstance(node, FileNode) and node.over:
                waiting.append(node)
        if waiting:
            self._saver.save(waiting)

    def _moved(self, node: Node, where: str, beneath: list[FileNode], who: object) -> None:
        if isinstance(node, FileNode):
            node.meta.touched()
            if node.source is not None:
                self._saver.strayed(node)
                self._saver.told(("rename", Access.to(node, where), who, node.path))
            else:
                self._saver.renamed(node)
                if node.is_settled:
                    self._saver.soon(node)
        else:
            self._saver.told(("rename", Access(where, "", None), who, node.path))
            if node.is_dirty:
                self._saver.soon(node)
        for one in beneath:
            if one.source is not None:
                self._saver.strayed(one)
            else:
                self._saver.renamed(one)

    def symlink(self, path: str, target: str, caller: Caller) -> None:
        """Make a symbolic link."""
        self._check_writable()
        data = os.fsencode(target)
        if not data:
            raise error_of(errno.ENOENT)
        if len(data) > _MAX_LINK:
            raise error_of(errno.ENAMETOOLONG)
        with self._lock:
            folder, name = self._place(path)
            if self._layout.find(folder, name) is not None:
                raise error_of(errno.EEXIST)
            node = self._new_file(folder, name, "symlink", 0o777, caller, new_inode())
            with node.lock:
                content = self._content_of(node)
                content.write(0, data)
                node.size = content.size
        self._saver.closed(node)
        self._saver.released(node)

    # -- attributes -------------------------------------------------------------------------

    def set_mode(self, path: str, mode: int, caller: Caller | None = None) -> None:
        """See chmod(2)."""
        self._change(path, lambda meta: setattr(meta, "mode", stat.S_IMODE(mode)), caller)

    def set_owner(self, path: str, uid: int, gid: int, caller: Caller | None = None) -> None:
        """See chown(2); -1 leaves one as it is."""
        self._change(path, lambda meta: self._give(meta, uid, gid), caller)

    def set_times(self, path: str, mtime_ns: int | None, caller: Caller | None = None) -> None:
        """Set the time of the last change; None is now."""
        at = time.time_ns() if mtime_ns is None else record_time(mtime_ns)
        self._change(path, lambda meta: setattr(meta, "mtime_ns", at), caller)

    def set_mode_of(self, handle: int, mode: int) -> None:
        """The same for an open file."""
        self._change_open(handle, lambda meta: setattr(meta, "mode", stat.S_IMODE(mode)))

    def set_owner_of(self, handle: int, uid: int, gid: int) -> None:
        """The same for an open file."""
        self._change_open(handle, lambda meta: self._give(meta, uid, gid))

    def set_times_of(self, handle: int, mtime_ns: int | None) -> None:
        """The same for an open file."""
        at = time.time_ns() if mtime_ns is None else record_time(mtime_ns)
        self._change_open(handle, lambda meta: setattr(meta, "mtime_ns", at))

    def _give(self, meta: Meta, uid: int, gid: int) -> None:
        owner = (meta.owner[0] if uid < 0 else uid, meta.owner[1] if gid < 0 else gid)
        if self._ground.owner is not None and owner != self._ground.owner:
            raise error_of(errno.EPERM)
        meta.owner = owner

    def _change(self, path: str, change: Change, caller: Caller | None) -> None:
        self._check_writable()
        who = self._who_is(caller)
        with self._lock:
            node = self._find(path)
        self._change_node(node, change, who)

    def _change_open(self, handle: int, change: Change) -> None:
        opened = self._handle(handle)
        self._change_node(opened.node, change, self._who(opened))

    def _change_node(self, node: Node, change: Change, who: object) -> None:
        self._check_writable()
        if isinstance(node, FolderNode):
            with self._lock:
                self._layout.refresh(node)
                self._layout.refresh_xattrs(node)
                change(node.meta)
                node.meta.touched()
                if self._layout.change_folder(node):
                    self._saver.later(node)
            return
        with node.lock:
            owner = node.meta.owner
            change(node.meta)
            node.meta.touched()
            if node.meta.owner != owner:
                drop_set_id(node.meta)
            if node.gone:
                return
            node.writer = who
            self._saver.changed(node)
            is_settled = node.is_settled
        if is_settled:
            self._saver.soon(node)

    def get_xattr(self, path: str, name: str) -> bytes:
        """An extended attribute."""
        if not name.startswith(_OWN_XATTRS):
            no = errno.EOPNOTSUPP if name.startswith(_SYSTEM_XATTRS) else errno.ENODATA
            raise error_of(no)
        with self._lock:
            node = self._find(path)
            if isinstance(node, FolderNode):
                self._layout.refresh_xattrs(node)
            try:
                return node.meta.xattrs[name]
            except KeyError:
                raise error_of(errno.ENODATA) from None

    def list_xattrs(self, path: str) -> list[str]:
        """Names of the extended attributes."""
        with self._lock:
            node = self._find(path)
            if isinstance(node, FolderNode):
                self._layout.refresh_xattrs(node)
            return sorted(name for name in node.meta.xattrs if name.startswith(_OWN_XATTRS))

    def set_xattr(
        self, path: str, name: str, value: bytes, flags: int, caller: Caller | None = None
    ) -> None:
        """Set an extended attribute; all of a file have at most 64 KiB together."""
        if not name.startswith(_OWN_XATTRS):
            raise error_of(errno.EOPNOTSUPP)
        if len(os.fsencode(name)) > _MAX_XATTR_NAME:
            raise error_of(errno.ERANGE)
        if name != name.encode(errors="replace").decode():  # a record's names are UTF-8
            raise error_of(errno.EILSEQ)

        def change(meta: Meta) -> None:
            known = meta.xattrs
            if flags & _XATTR_CREATE and name in known:
                raise error_of(errno.EEXIST)
            if flags & _XATTR_REPLACE and name not in known:
                raise error_of(errno.ENODATA)
            sizes = sum(len(other) for key, other in known.items() if key != name)
            if sizes + len(value) > MAX_XATTRS_SIZE:
                raise error_of(errno.ENOSPC)
            known[name] = value

        self._change(path, change, caller)

    def remove_xattr(self, path: str, name: str, caller: Caller | None = None) -> None:
        """Remove an extended attribute."""

        def change(meta: Meta) -> None:
            if name not in meta.xattrs:
                raise error_of(errno.ENODATA)
            del meta.xattrs[name]

        self._change(path, change, caller)


def _wait_for(node: Node | None) -> None:
    """Wait until a file is not being sealed any more, without the lock that all others need."""
    if isinstance(node, FileNode):
        with node.lock:
            pass


def _check_move(node: Node, folder: FolderNode, over: Node | None) -> None:
    if isinstance(node, FolderNode):
        if folder.is_within(node):
            raise error_of(errno.EINVAL)
        if isinstance(over, FileNode):
            raise error_of(errno.ENOTDIR)
    elif isinstance(over, FolderNode):
        raise error_of(errno.EISDIR)


@contextlib.contextmanager
def _both(node: Node, over: Node | None) -> Iterator[None]:
    """Hold the locks of the files among them."""
    with contextlib.ExitStack() as stack:
        for one in (node, over):
            if isinstance(one, FileNode):
                stack.enter_context(one.lock)
        yield
