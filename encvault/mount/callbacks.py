"""libfuse's callbacks: C structures in, verbs of a view out.

They take what ``fuse.h`` documents for ``struct fuse_operations`` of version 3, and are called
thousands of times a second, from several threads. What they raise is made an errno by who calls
them. Without a path (libfuse is told that none is needed) there is a handle.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

from encvault.errors import EncvaultError
from encvault.mount.nodes import Caller
from encvault.mount.unlinked import Unlinked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from encvault.mount.nodes import Attributes
    from encvault.mount.verbs import FileSystem

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_MOMENT = 1.0  # seconds for which programs count as asking for attributes
_OWN = 2  # names that every folder has, . and .. at its begin: the kernel knows them
_TIMEOUT = 1.0  # seconds for which the kernel believes what it was told
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # utimensat(2)
_UNKNOWN_INO = 0xFFFFFFFF  # 0 is no inode: readdir(3) would pass over the name
_HANDLE_KILLPRIV_V2 = 1 << 21  # FUSE_CAP_HANDLE_KILLPRIV_V2; libfuse before 3.17 never offers it
_READDIR_PLUS, _FILL_DIR_PLUS = 1, 2  # FUSE_READDIR_PLUS, FUSE_FILL_DIR_PLUS
_WRITABLE = 0x200  # PyBUF_WRITE
_UNSET = 0xFFFFFFFF  # (uid_t) -1
_TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
_ATTRIBUTES_ASKED = (b"user.", b"system.")
_NS = 1_000_000_000

_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_memory.restype = ctypes.py_object
_memory.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)


def encoded(text: str) -> bytes:
    """A path as libfuse takes it."""
    return text.encode(_ENCODING, _ERRORS)


def _decoded(data: bytes) -> str:
    return data.decode(_ENCODING, _ERRORS)


def _refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Callbacks:
    """One method for each callback, ``on_`` and its name in C.

    Args:
        view: what is shown.
        c_stat: the C structure.
        get_context: libfuse's function of that name.
        mounted: is called when the kernel and libfuse have agreed.
    """

    def __init__(
        self,
        view: FileSystem,
        c_stat: Any,
        get_context: Callable[[], Any],
        mounted: Callable[[], None],
    ) -> None:
        self._view = view
        self._c_stat = c_stat
        self._get_context = get_context
        self._mounted = mounted
        self._unlinked = Unlinked(view)
        self._asked_at = -math.inf  # when a program asked for a file's attributes by its path
        # of open folders: their names as they were when they were read from the start
        self._listings: dict[int, list[tuple[str, int]]] = {}
        # looked up once, and not at each call
        self._attributes, self._attributes_of = view.attributes, view.attributes_of
        self._read, self._write = view.read, view.write

    def on_init(self, connection: Any, config: Any) -> None:
        """Agree with libfuse; the sizes of reads and writes are the largest offered already."""
        settings = config.contents
        settings.use_ino = 1
        settings.nullpath_ok = 1
        settings.attr_timeout = settings.entry_timeout = _TIMEOUT
        settings.negative_timeout = 0.0
        # without it the kernel asks for security.capability at each write
        connection.contents.want |= connection.contents.capable & _HANDLE_KILLPRIV_V2
        self._mounted()

    def _caller(self) -> Caller:
        found = self._get_context().contents
        return Caller(found.uid, found.gid, found.pid)

    def _path(self, raw: bytes) -> str:
        path = raw.decode(_ENCODING, _ERRORS)
        if self._unlinked.is_waiting:
            self._unlinked.settle(path)
        return path

    def _place(self, raw: bytes | None, info: Any) -> tuple[str, int | None]:
        """Path, and the handle that is to be asked in its place if there is one."""
        if info:
            return "", info.contents.fh
        path = self._path(raw or b"")
        return path, self._unlinked.handle(path)

    # -- looking ----------------------------------------------------------------------------

    def on_getattr(self, raw: bytes | None, status: Any, info: Any) -> None:
        """See lstat(2)."""
        if raw is None:
            self._fill(status.contents, self._attributes_of(info.contents.fh))
            return
        path = raw.decode(_ENCODING, _ERRORS)
        unlinked = self._unlinked
        if unlinked.is_waiting:
            unlinked.settle(path)
        handle = unlinked.handle(path) if unlinked.has_hidden else None
        found = self._attributes(path) if handle is None else self._attributes_of(handle)
        if found.kind != "dir":
            self._asked_at = time.monotonic()
        self._fill(status.contents, found)

    @staticmethod
    def _fill(status: Any, found: Attributes) -> None:
        # libfuse has filled it with zeros
        status.st_mode = _TYPES[found.kind] | found.mode
        status.st_ino = found.ino
        status.st_nlink = found.nlink
        status.st_uid = found.uid
        status.st_gid = found.gid
        status.st_size = found.size
        status.st_blocks = (found.size + 511) >> 9
        seconds, rest = divmod(found.mtime_ns, _NS)
        modified, accessed = status.st_mtimespec, status.st_atimespec
        modified.tv_sec = accessed.tv_sec = seconds
        modified.tv_nsec = accessed.tv_nsec = rest
        changed = status.st_ctimespec
        changed.tv_sec, changed.tv_nsec = divmod(found.ctime_ns, _NS)

    def on_readlink(self, raw: bytes, buffer: Any, size: int) -> None:
        """See readlink(2); the buffer ends with a zero."""
        target = encoded(self._view.readlink(self._path(raw)))[: size - 1]
        ctypes.memmove(buffer, target + b"\0", len(target) + 1)

    def on_statfs(self, _raw: bytes, result: Any) -> None:
        """See statvfs(3)."""
        found, status = self._view.statfs(), result.contents
        for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(status, f"f_{name}", getattr(found, f"f_{name}"))
        status.f_namemax = found.f_namemax

    def on_opendir(self, raw: bytes, info: Any) -> None:
        """See opendir(3)."""
        info.contents.fh = number = self._view.open_folder(self._path(raw))
        self._listings[number] = []

    def on_readdir(
        self, _raw: None, buffer: Any, filler: Any, offset: int, info: Any, flags: int
    ) -> None:
        """See readdir(3); with attributes, which spares a call for each.

        The kernel wants them for the first part of every folder, and for the rest if a program has
        asked for those of the first. Sealed files are opened for them in the second case, and in
        the first while programs ask for the attributes of files elsewhere: whoever looks at names
        only does not pay for them.
        """
        folder = info.contents.fh
        if offset == 0:
            self._listings[folder] = self._names_of(folder)
        names = self._listings[folder]
        bare, whole = self._c_stat(), self._c_stat()
        bare.st_ino = _UNKNOWN_INO
        known: Iterator[Attributes | None] = iter(())
        if offset < len(names) and flags & _READDIR_PLUS:
            is_asked = offset or time.monotonic() - self._asked_at < _MOMENT
            told = self._view.attributes_in if is_asked else self._view.known_in
            known = self._known_of(folder, names, max(offset, _OWN), told)
        for index in range(offset, len(names)):  # no slice: a folder may have a million names
            name, bare.st_mode = names[index]
            status, how = bare, 0
            if index >= _OWN and (found := next(known, None)) is not None:
                self._fill(whole, found)
                status, how = whole, _FILL_DIR_PLUS
            if filler(buffer, name.encode(_ENCODING, _ERRORS), status, index + 1, how):
                return

    def _names_of(self, folder: int) -> list[tuple[str, int]]:
        try:
            path = self._view.path_of(folder)
        except OSError:
            return []  # it was removed
        if self._unlinked.is_waiting:
            self._unlinked.settle(path)
        own = [(".", stat.S_IFDIR), ("..", stat.S_IFDIR)]
        return [*own, *self._view.listing(path)]

    def _known_of(
        self,
        folder: int,
        names: list[tuple[str, int]],
        first: int,
        told: Callable[[str, Iterable[str]], Iterator[Attributes | None]],
    ) -> Iterator[Attributes | None]:
        # asked for at each part: what was true when the folder was opened may no longer be
        with contextlib.suppress(OSError):  # removed or renamed meanwhile: it is read to its end
            path = self._view.path_of(folder)
            if self._unlinked.is_waiting:
                self._unlinked.settle(path)  # what is about to go must not be told of again
            rest = (names[index][0] for index in range(first, len(names)))
            yield from told(path, rest)

    def on_releasedir(self, _raw: None, info: Any) -> None:
        """See closedir(3)."""
        folder = info.contents.fh
        del self._listings[folder]
        self._view.close_folder(folder)

    # -- open files -------------------------------------------------------------------------

    def on_open(self, raw: bytes, info: Any) -> None:
        """See open(2)."""
        opened = info.contents
        handle = self._view.open(self._path(raw), opened.flags, self._caller())
        opened.fh = self._unlinked.opened(handle)
        if opened.flags & os.O_ACCMODE == os.O_RDONLY:
            opened.noflush = 1  # there is nothing that its closing could fail to save
        if self._view.bypasses_cache(handle):
            opened.direct_io = 1
        else:
            opened.keep_cache = self._view.keeps_cache(handle)

    def on_create(self, raw: bytes, mode: int, info: Any) -> None:
        """See creat(2)."""
        opened = info.contents
        mode = stat.S_IMODE(mode)
        handle = self._view.create(self._path(raw), mode, opened.flags, self._caller())
        opened.fh = self._unlinked.opened(handle)

    def on_read(self, _raw: None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """See pread(2)."""
        data = self._read(info.contents.fh, size, offset)
        count = len(data)
        if type(data) is bytes:
            ctypes.memmove(buffer, data, count)
        elif count:
            _memory(buffer, count, _WRITABLE)[:] = data
        return count

    def on_write(self, _raw: None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """See pwrite(2)."""
        return self._write(info.contents.fh, ctypes.string_at(buffer, size), offset)

    def on_flush(self, _raw: None, info: Any) -> None:
        """See close(2)."""
        self._view.flush(info.contents.fh)

    def on_fsync(self, _raw: None, _only_data: int, info: Any) -> None:
        """See fsync(2)."""
        self._view.fsync(info.contents.fh)

    def on_release(self, _raw: None, info: Any) -> None:
        """The last descriptor is closed."""
        self._unlinked.release(info.contents.fh)

    def on_fallocate(self, _raw: None, mode: int, offset: int, size: int, info: Any) -> None:
        """See fallocate(2)."""
        self._view.allocate(info.contents.fh, mode, offset, size)

    # -- names ------------------------------------------------------------------------------

    def on_fsyncdir(self, _raw: None, _only_data: int, _info: Any) -> None:
        """See fsync(2); whatever folder it is, everything that was closed is durable then."""
        if self._unlinked.is_waiting:
            self._unlinked.settle()
        self._view.sync()

    def on_mkdir(self, raw: bytes, mode: int) -> None:
        """See mkdir(2)."""
        self._view.make_folder(self._path(raw), stat.S_IMODE(mode), self._caller())

    def on_rmdir(self, raw: bytes) -> None:
        """See rmdir(2)."""
        self._view.remove_folder(self._path(raw))

    def on_mknod(self, raw: bytes, mode: int, _device: int) -> None:
        """See mknod(2); only what open(2) could make as well."""
        if not stat.S_ISREG(mode):
            raise _refused(errno.EPERM)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        mode = stat.S_IMODE(mode)
        handle = self._view.create(self._path(raw), mode, flags, self._caller())
        try:
            self._view.flush(handle)
        finally:
            self._view.release(handle)

    def on_symlink(self, target: bytes, raw: bytes) -> None:
        """See symlink(2)."""
        self._view.symlink(self._path(raw), _decoded(target), self._caller())

    def on_link(self, _target: bytes, _raw: bytes) -> None:
        """Refuse link(2): a sealed file has one name; programs then copy or rename."""
        raise _refused(errno.EPERM)

    def on_unlink(self, raw: bytes) -> None:
        """See unlink(2)."""
        path = self._path(raw)
        if not self._unlinked.forget(path):
            self._view.unlink(path, self._caller())

    def on_rename(self, raw_old: bytes, raw_new: bytes, flags: int) -> None:
        """See renameat2(2)."""
        old, new = _decoded(raw_old), _decoded(raw_new)
        if self._unlinked.is_waiting:
            self._unlinked.settle(old, new, replaced=new)
        if self._unlinked.hide(old, new, self._caller()):
            return
        hidden = self._unlinked.left_behind(new)
        try:
            self._view.rename(old, new, flags, self._caller())
        except (OSError, EncvaultError):
            if hidden is not None:
                self._view.rename(hidden, new, 0, self._caller())
            raise
        if hidden is not None:
            self._view.unlink(hidden, self._caller())

    # -- attributes -------------------------------------------------------------------------

    def on_chmod(self, raw: bytes | None, mode: int, info: Any) -> None:
        """See chmod(2)."""
        path, handle = self._place(raw, info)
        if handle is None:
            self._view.set_mode(path, stat.S_IMODE(mode), self._caller())
        else:
            self._view.set_mode_of(handle, stat.S_IMODE(mode))

    def on_chown(self, raw: bytes | None, uid: int, gid: int, info: Any) -> None:
        """See chown(2)."""
        path, handle = self._place(raw, info)
        owner = (-1 if uid == _UNSET else uid, -1 if gid == _UNSET else gid)
        if handle is None:
            self._view.set_owner(path, *owner, self._caller())
        else:
            self._view.set_owner_of(handle, *owner)

    def on_truncate(self, raw: bytes | None, size: int, info: Any) -> None:
        """See truncate(2)."""
        path, handle = self._place(raw, info)
        if handle is None:
            self._view.truncate(path, size, self._caller())
        else:
            self._view.truncate_open(handle, size)

    def on_utimens(self, raw: bytes | None, times: Any, info: Any) -> None:
        """See utimensat(2); times of access are not kept."""
        path, handle = self._place(raw, info)
        wanted = times.contents.modtime
        if wanted.tv_nsec == _UTIME_OMIT:
            return
        is_now = wanted.tv_nsec == _UTIME_NOW
        mtime_ns = None if is_now else wanted.tv_sec * _NS + wanted.tv_nsec
        if handle is None:
            self._view.set_times(path, mtime_ns, self._caller())
        else:
            self._view.set_times_of(handle, mtime_ns)

    def on_getxattr(self, raw: bytes, name: bytes, buffer: Any, size: int) -> int:
        """See getxattr(2)."""
        if not name.startswith(_ATTRIBUTES_ASKED):
            return -errno.ENODATA  # security.capability, at each write
        return _give(self._view.get_xattr(self._path(raw), _decoded(name)), buffer, size)

    def on_listxattr(self, raw: bytes, buffer: Any, size: int) -> int:
        """See listxattr(2)."""
        names = self._view.list_xattrs(self._path(raw))
        return _give(b"".join(encoded(name) + b"\0" for name in names), buffer, size)

    def on_setxattr(self, raw: bytes, name: bytes, value: Any, size: int, flags: int) -> None:
        """See setxattr(2)."""
        data = ctypes.string_at(value, size)
        self._view.set_xattr(self._path(raw), _decoded(name), data, flags, self._caller())

    def on_removexattr(self, raw: bytes, name: bytes) -> None:
        """See removexattr(2)."""
        self._view.remove_xattr(self._path(raw), _decoded(name), self._caller())


def _give(data: bytes, buffer: Any, size: int) -> int:
    if size == 0:
        return len(data)  # that is what was asked
    if len(data) > size:
        return -errno.ERANGE
    ctypes.memmove(buffer, data, len(data))
    return len(data)
