"""A file system in memory, to try the adapter and the processes around it on."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from encvault.mount.nodes import Access, Attributes, Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class Node:
    ino: int
    kind: str
    mode: int
    uid: int
    gid: int
    data: bytearray = field(default_factory=bytearray)
    target: str = ""
    mtime_ns: int = 0
    ctime_ns: int = 0
    nlink: int = 1
    xattrs: dict[str, bytes] = field(default_factory=dict)


class MemoryView:
    """A view, of which nothing is kept; every call is counted by its name."""

    def __init__(
        self,
        *,
        read_only: bool = False,
        observer: object = None,
        errors: dict[str, Exception] | None = None,
    ) -> None:
        self.is_read_only = read_only
        self.errors = errors or {}
        self.calls: list[str] = []
        self.callers: list[Caller] = []
        self.cached = False
        self.dirty: set[str] = set()
        self.on_close: Callable[[], None] = lambda: None
        self._observer = observer
        self._lock = threading.RLock()
        self._used_at = time.monotonic()
        self._next = 1
        self._handles: dict[int, Node] = {}
        self._open_folders: list[str] = []
        self._nodes: dict[str, Node] = {}
        self._nodes["/"] = self._node("dir", 0o755)

    def _node(self, kind: str, mode: int, target: str = "") -> Node:
        now = time.time_ns()
        self._next += 1
        node = Node(self._next, kind, mode, os.getuid(), os.getgid(), target=target)
        return replace(node, mtime_ns=now, ctime_ns=now)

    def _begin(self, name: str) -> None:
        self._used_at = time.monotonic()
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def _at(self, path: str) -> Node:
        if path not in self._nodes:
            raise refuse(errno.ENOENT)
        return self._nodes[path]

    def _may_write(self) -> None:
        if self.is_read_only:
            raise refuse(errno.EROFS)

    def put(self, path: str, data: bytes = b"", kind: str = "file", mode: int = 0o644) -> None:
        node = self._node(kind, mode)
        node.data[:] = data
        self._nodes[path] = node

    def content(self, path: str) -> bytes:
        return bytes(self._nodes[path].data)

    def names(self) -> list[str]:
        return sorted(self._nodes)

    # -- looking

    def _attributes(self, node: Node) -> Attributes:
        size = len(os.fsencode(node.target)) if node.kind == "symlink" else len(node.data)
        return Attributes(
            node.kind,  # type: ignore[arg-type]
            node.ino,
            node.mode,
            node.nlink,
            node.uid,
            node.gid,
            size,
            node.mtime_ns,
            node.ctime_ns,
        )

    def attributes(self, path: str) -> Attributes:
        with self._lock:
            self._begin("attributes")
            return self._attributes(self._at(path))

    def attributes_of(self, handle: int) -> Attributes:
        with self._lock:
            self._begin("attributes_of")
            return self._attributes(self._handles[handle])

    def inodes(self, path: str) -> list[int]:
        return [self.attributes(path).ino]

    def open_folder(self, path: str) -> int:
        with self._lock:
            self._at(path)
            self._open_folders.append(path)
            return len(self._open_folders)

    def path_of(self, folder: int) -> str:
        return self._open_folders[folder - 1]

    def close_folder(self, folder: int) -> None:
        self._open_folders[folder - 1] = ""

    def listing(self, path: str) -> list[tuple[str, int]]:
        types = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
        with self._lock:
            self._begin("listing")
            self._at(path)
            top = path.rstrip("/") + "/"
            return [
                (name[len(top) :], types[node.kind])
                for name, node in self._nodes.items()
                if name != "/" and name.startswith(top) and "/" not in name[len(top) :]
            ]

    # -- open files

    def open(self, path: str, flags: int, caller: Caller) -> int:
        with self._lock:
            self._begin("open")
            self.callers.append(caller)
            node = self._at(path)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                self._may_write()
            if flags & os.O_TRUNC:
                node.data.clear()
            if self._observer is not None:
                self._observer.opened(Access(path[1:], "", len(node.data)), caller)  # type: ignore[attr-defined]
            return self._handle(node)

    def _handle(self, node: Node) -> int:
        self._next += 1
        self._handles[self._next] = node
        return self._next

    def create(self, path: str, mode: int, flags: int, caller: Caller) -> int:
        with self._lock:
            self._begin("create")
            self._may_write()
            self.callers.append(caller)
            if path not in self._nodes:
                self.put(path, mode=mode)
                self.dirty.add(path)
            elif flags & os.O_EXCL:
                raise refuse(errno.EEXIST)
            return self._handle(self._nodes[path])

    def attributes_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
        inside = path.rstrip("/") + "/"
        there = {name for name, _ in self.listing(path)}
        for name in names:
            yield self.attributes(inside + name) if name in there else None

    def known_in(self, path: str, names: Iterable[str]) -> Iterator[Attributes | None]:
        return self.attributes_in(path, names)

    def bypasses_cache(self, handle: int) -> bool:
        return handle < 0

    def keeps_cache(self, handle: int) -> bool:
        return self.cached

    def read(self, handle: int, size: int, offset: int) -> bytes | memoryview:
        with self._lock:
            self._begin("read")
            return bytes(self._handles[handle].data[offset : offset + size])

    def write(self, handle: int, data: bytes, offset: int) -> int:
        with self._lock:
            self._begin("write")
            self._may_write()
            node = self._handles[handle]
            if len(node.data) < offset:
                node.data.extend(bytes(offset - len(node.data)))
            node.data[offset : offset + len(data)] = data
            node.mtime_ns = time.time_ns()
            self.dirty.update(name for name, one in self._nodes.items() if one is node)
            return len(data)

    def flush(self, handle: int) -> None:
        self._begin("flush")

    def fsync(self, handle: int) -> None:
        self._begin("fsync")
        node = self._handles[handle]
        self.dirty = {name for name in self.dirty if self._nodes.get(name) is not node}

    def release(self, handle: int) -> None:
        self._begin("release")
        del self._handles[handle]

    def truncate(self, path: str, size: int, *_who: object) -> None:
        with self._lock:
            self._begin("truncate")
            self._cut(self._at(path), size)

    def truncate_open(self, handle: int, size: int) -> None:
        with self._lock:
            self._begin("truncate_open")
            self._cut(self._handles[handle], size)

    def _cut(self, node: Node, size: int) -> None:
        self._may_write()
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))

    def allocate(self, handle: int, mode: int, offset: int, size: int) -> None:
        self._begin("allocate")
        if mode:
            raise refuse(errno.EOPNOTSUPP)
        node = self._handles[handle]
        self._cut(node, max(len(node.data), offset + size))

    # -- names

    def make_folder(self, path: str, mode: int, caller: Caller) -> None:
        self._begin("make_folder")
        self._may_write()
        self.callers.append(caller)
        self.put(path, kind="dir", mode=mode)

    def remove_folder(self, path: str) -> None:
        self._begin("remove_folder")
        if any(name.startswith(path + "/") for name in self._nodes):
            raise refuse(errno.ENOTEMPTY)
        del self._nodes[path]

    def unlink(self, path: str, *_who: object) -> None:
        with self._lock:
            self._begin("unlink")
            self._at(path).nlink = 0
            del self._nodes[path]
            self.dirty.discard(path)

    def rename(self, old: str, new: str, flags: int, *_who: object) -> None:
        with self._lock:
            self._begin("rename")
            node = self._at(old)
            if flags & RENAME_NOREPLACE and new in self._nodes:
                raise refuse(errno.EEXIST)
            if flags & RENAME_EXCHANGE:
                self._nodes[old], self._nodes[new] = self._at(new), node
                return
            moved = {name: one for name, one in self._nodes.items() if name.startswith(old + "/")}
            for name, one in moved.items():
                self._nodes[new + name[len(old) :]] = one
                del self._nodes[name]
            if new in self._nodes:
                self._nodes[new].nlink = 0
            self._nodes[new] = node
            del self._nodes[old]

    def symlink(self, path: str, target: str, caller: Caller) -> None:
        self._begin("symlink")
        self._nodes[path] = self._node("symlink", 0o777, target)

    def readlink(self, path: str) -> str:
        self._begin("readlink")
        return self._at(path).target

    # -- attributes

    def set_mode(self, path: str, mode: int, *_who: object) -> None:
        self._begin("set_mode")
        self._at(path).mode = mode

    def set_owner(self, path: str, uid: int, gid: int, *_who: object) -> None:
        self._begin("set_owner")
        self._own(self._at(path), uid, gid)

    def _own(self, node: Node, uid: int, gid: int) -> None:
        node.uid = node.uid if uid == -1 else uid
        node.gid = node.gid if gid == -1 else gid

    def set_times(self, path: str, mtime_ns: int | None, *_who: object) -> None:
        self._begin("set_times")
        self._at(path).mtime_ns = time.time_ns() if mtime_ns is None else mtime_ns

    def set_mode_of(self, handle: int, mode: int) -> None:
        self._begin("set_mode_of")
        self._handles[handle].mode = mode

    def set_owner_of(self, handle: int, uid: int, gid: int) -> None:
        self._begin("set_owner_of")
        self._own(self._handles[handle], uid, gid)

    def set_times_of(self, handle: int, mtime_ns: int | None) -> None:
        self._begin("set_times_of")
        self._handles[handle].mtime_ns = time.time_ns() if mtime_ns is None else mtime_ns

    def get_xattr(self, path: str, name: str) -> bytes:
        self._begin(f"get_xattr {name}")
        if name not in self._at(path).xattrs:
            raise refuse(errno.ENODATA)
        return self._nodes[path].xattrs[name]

    def list_xattrs(self, path: str) -> list[str]:
        self._begin("list_xattrs")
        return list(self._at(path).xattrs)

    def set_xattr(self, path: str, name: str, value: bytes, flags: int, *_who: object) -> None:
        self._begin("set_xattr")
        self._at(path).xattrs[name] = value

    def remove_xattr(self, path: str, name: str, *_who: object) -> None:
        self._begin("remove_xattr")
        del self._at(path).xattrs[name]

    # -- the whole

    def statfs(self) -> os.statvfs_result:
        return os.statvfs("/")

    def sync(self) -> None:
        self._begin("sync")
        self.dirty.clear()

    def unsaved(self) -> list[str]:
        return sorted(self.dirty)

    def idle_seconds(self) -> float | None:
        return None if self._handles else time.monotonic() - self._used_at

    def close(self) -> None:
        self._begin("close")
        self.on_close()
        self.dirty.clear()
