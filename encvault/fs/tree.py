"""A folder pinned by its descriptor, and walks beneath it that follow no link.

Every name is resolved from the pinned folder one component at a time with ``O_NOFOLLOW``. A drive
that vanishes, or a folder exchanged for a link while we work, gives an error and never redirects a
write to somewhere else.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Self

from encvault.fs import calls
from encvault.fs.entries import KINDS, Entry, Folder, Names, file_kind
from encvault.fs.mounts import is_synced_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

_MAX_OPEN_FOLDERS = 64
FEW = 8  # are synced one by one; for more it is cheaper to sync their file systems
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})  # removed or replaced
NO_LOCK: AbstractContextManager[object] = contextlib.nullcontext()

_HAS_NUMBERS = hasattr(os, "major")


_KIND_BITS = stat.S_IFMT(0o177777)
_UNKNOWN = os.stat_result((0,) * 10)


def join(folder: str, name: str) -> str:
    """The relative path of `name` in `folder`."""
    return f"{folder}/{name}" if folder else name


def split(path: str) -> tuple[str, str]:
    """The folder and the name of a relative path."""
    folder, _slash, name = path.rpartition("/")
    return folder, name


def moved(path: str, old: str, new: str) -> str:
    """A relative path after the folder `old` got the path `new`."""
    if path == old or path.startswith(old + "/"):
        return new + path[len(old) :]
    return path


_pinned: dict[str, int] = {}


@contextlib.contextmanager
def pinned(path: str) -> Iterator[None]:
    """Let each `Tree` of this folder that is opened meanwhile be the folder that is there now.

    A drive that is taken away leaves the folder beneath its mount point, which is the host's: what
    is opened by the same path then must not be that.

    Raises:
        OSError: it cannot be opened.
    """
    place = os.path.abspath(path)
    if place in _pinned:
        yield
        return
    _pinned[place] = calls.open_folder(place)
    try:
        yield
    finally:
        os.close(_pinned.pop(place))


class Tree:
    """A pinned folder.

    Attributes:
        failed_at: when a sync of a file system failed last, by the monotonic clock. It may have
            told of files that were there by then and that nobody has asked for yet; to sync the
            file system again tells of them no more, to sync each file does.

    Args:
        path: the folder; links in this path are followed, since the caller chose it.
        within: a tree that has the folder at its top; then `path` is its name, and not a link.

    Raises:
        OSError: it does not exist, is no folder, or may not be read.
    """

    def __init__(self, path: str, *, within: Tree | None = None) -> None:
        self.path = within.show(path) if within else os.path.abspath(path)
        self._shown_top = self.path.removesuffix("/")
        pin = None if within else _pinned.get(self.path)
        if pin is not None:
            path = "."
        self.fd: int = calls.open_folder(path, within.fd if within else pin)
        self._open: OrderedDict[str, int] = OrderedDict()
        # one descriptor on each file system met, so that a sync reaches what is mounted inside
        number = os.fstat(self.fd).st_dev
        self._devices: dict[int, int] = {number: self.fd}
        self._synced_whole: dict[int, bool] = {}
        self.failed_at = -math.inf
        self._drives = _drives(number)  # what the kernel has of the block devices that it is on

    def check_there(self) -> None:
        """Refuse to believe that something is not there if the drive is not.

        The kernel's driver for FAT answers "no such file" for everything on a drive that was pulled
        out, and who mirrors a folder would remove what he has of it.

        Raises:
            OSError: the drive was pulled out.
        """
        if not all(map(os.path.exists, self._drives)):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    @classmethod
    def made(cls, path: str, mode: int = 0o777) -> Tree:
        """The folder at `path`, made with those above it where they are missing, and durable.

        What is made is entered at once by its descriptor, so that nobody can put a link in its
        place.

        Args:
            path: of the folder.
            mode: the most permission bits that what is made may have.

        Raises:
            OSError: what was made until then stays.
        """
        missing = []
        at = os.path.abspath(path)
        while not os.path.isdir(at):
            missing.append(os.path.basename(at))
            at = os.path.dirname(at)
        tree = cls(at)
        for name in reversed(missing):
            with tree:
                try:
                    calls.mkdir(tree.fd, name, mode)
                except FileExistsError:
                    if not stat.S_ISDIR(tree.status(name).st_mode):
                        raise
                calls.fsync_folder(tree.fd)
                tree = cls(name, within=tree)
        return tree

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in {*self._open.values(), *self._devices.values()}:
            os.close(fd)
        self._open.clear()
        self._devices.clear()
        self.fd = -1

    def reopen(self) -> None:
        """Pin the same folder anew, in a process that inherited it by fork.

        The kernel tells a failed write-back once to each *open file*, and a fork shares those: a
        worker that synced with its parent's descriptor could use up the news of another's loss.
        """
        own = calls.open_folder(".", self.fd)
        self.close()
        self.fd = own
        self._devices = {os.fstat(own).st_dev: own}

    def sync_names(
        self, folders: Collection[str], lock: AbstractContextManager[object] = NO_LOCK
    ) -> None:
        """Make what was created, renamed and removed in these folders durable.

        Args:
            folders: in which, with those above them.
            lock: held while the tree is used, and not while it is waited for the disk.
        """
        concerned = set()
        for folder in folders:
            while folder not in concerned:
                concerned.add(folder)
                folder = split(folder)[0]  # noqa: PLW2901 - a new folder has a name as well
        failed: OSError | None = None
        if len(concerned) > FEW and self.failed_at == -math.inf:
            try:
                if self.sync_all(folders, lock):
                    return
            except OSError as error:
                if error.errno not in FULL:  # else some file had no room, which is told of that
                    raise
                failed = error
        if not self._sync_folders(concerned, lock):
            if failed is not None:
                raise failed
            self.sync_all(lock=lock)

    def _sync_folders(self, folders: Iterable[str], lock: AbstractContextManager[object]) -> bool:
        """Ask each folder; whether all could be."""
        is_unread = False
        for folder in folders:
            try:
                with lock:
                    fd = os.dup(self.folder(folder))
            except PermissionError:  # its owner may have made it so that he cannot read it
                is_unread = True
                continue
            except OSError as error:
                if error.errno in GONE:  # the one above knows
                    continue
                raise
            try:
                calls.fsync_folder(fd)
            finally:
                os.close(fd)
        return not is_unread

    def sync_all(
        self, folders: Iterable[str] = (), lock: AbstractContextManager[object] = NO_LOCK
    ) -> bool:
        """Make everything beneath durable, one call per file system.

        Args:
            folders: where other processes wrote, each once, if this one has not been there yet.
            lock: held while the tree is used, and not while it is waited for the disk.

        Returns:
            Whether that was enough. Where it is not known to be, each file and each folder has to
            be asked as well.
        """
        with lock:
            for folder in folders:
                with contextlib.suppress(OSError):  # one on another file system is noticed here
                    self.folder(folder)
            devices = {device: os.dup(fd) for device, fd in self._devices.items()}
        is_enough = True
        try:
            for device, fd in devices.items():
                if device not in self._synced_whole:
                    self._synced_whole[device] = is_synced_whole(device)
                is_told = calls.sync_filesystem(fd)
                is_enough = is_enough and is_told and self._synced_whole[device]
        except OSError:
            self.failed_at = time.monotonic()
            raise
        finally:
            for fd in devices.values():
                os.close(fd)
        return is_enough

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def show(self, path: str) -> str:
        """The path to tell a person."""
        # `os.path.join` takes ten times as long, and each file is named a few times
        return f"{self._shown_top}/{path}" if path else self.path

    def folder(self, path: str) -> int:
        """Descriptor of a folder beneath the top.

        It belongs to the tree and stays open for the next 64 folders only: use it at once.

        Raises:
            OSError: a component is missing, no folder, or a link.
        """
        if not path:
            return self.fd
        if (fd := self._open.get(path)) is not None:
            self._open.move_to_end(path)
            return fd
        missing = [path]
        while (above := split(missing[-1])[0]) and above not in self._open:
            missing.append(above)
        fd = self._open[above] if above else self.fd
        for folder in reversed(missing):
            fd = calls.open_folder(split(folder)[1], fd)
            self._open[folder] = fd
            if (device := os.fstat(fd).st_dev) not in self._devices:
                self._devices[device] = os.dup(fd)
                self._drives += _drives(device)
            if len(self._open) > _MAX_OPEN_FOLDERS:
                os.close(self._open.popitem(last=False)[1])
        return fd

    def forget(self, path: str) -> None:
        """Close the folder's descriptor, if open, before it is removed or replaced."""
        if (fd := self._open.pop(path, None)) is not None:
            os.close(fd)

    def forget_other(self, path: str, status: os.stat_result | None) -> None:
        """Close the folder's descriptor if it leads to another folder than its path does now.

        Args:
            path: of the folder.
            status: of what is there, or None if nothing is.
        """
        fd = self._open.get(path)
        if status is None or (fd is not None and not os.path.samestat(os.fstat(fd), status)):
            self.forget_below(path)

    def forget_below(self, path: str) -> None:
        """The same for a folder that gets another name, and all that are open beneath it."""
        for known in list(self._open):
            if known == path or known.startswith(path + "/"):
                self.forget(known)

    def make_folders(self, path: str, mode: int = 0o777) -> int:
        """Make a folder and those above it where they are missing; return its descriptor."""
        missing = []
        at = path
        while True:
            try:
                fd = self.folder(at)
                break
            except FileNotFoundError:
                missing.append(at)
                at = split(at)[0]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                calls.mkdir(fd, split(folder)[1], mode)
            fd = self.folder(folder)
        return fd

    def status(self, path: str) -> os.stat_result:
        """Status of a file, a folder or a link itself beneath the top."""
        if not path:
            return os.fstat(self.fd)
        return self.status_in(*split(path))

    def status_in(self, folder: str, name: str) -> os.stat_result:
        """The same of a name in a folder, whose path is at hand."""
        return os.stat(name, dir_fd=self.folder(folder), follow_symlinks=False)

    def exists(self, path: str) -> bool:
        """Whether anything is at `path`."""
        try:
            self.status(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def has_no_folder(self, path: str) -> bool:
        """Whether there is surely no folder at `path`; not if it cannot be looked at."""
        try:
            return not stat.S_ISDIR(self.status(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def walk(
        self, start: str = "", *, enter: Callable[[str], bool] | None = None
    ) -> Iterator[Folder]:
        """Folders from `start` downwards, each before those inside it.

        Memory grows with the depth and the width of single folders, not with the tree.

        Args:
            start: where to begin.
            enter: asked with each folder's path; False leaves the folder out.
        """
        waiting = [start]
        while waiting:
            path = waiting.pop()
            folder = self._list(path)
            if folder is None:
                continue
            if folder.error is not None and folder.entries:
                names = [join(path, entry.name) for entry in folder.entries]
                wanted = sum(enter is None or enter(name) for name in names)
                # a few are told one by one, and nobody hears of what is excluded
                if wanted <= 1:
                    folder = folder._replace(error=None)
                else:
                    folder.entries.clear()
            yield folder
            below = [join(path, entry.name) for entry in folder.entries if entry.kind == "dir"]
            waiting += reversed([name for name in below if enter is None or enter(name)])

    def names(self, *, enter: Callable[[str], bool]) -> Iterator[Names]:
        """Like `walk`, but what is in a folder has a name only: a file costs no call.

        Folders that cannot be listed are left out.

        Args:
            enter: asked with each folder's path; False leaves the folder out.
        """
        waiting = [""]
        while waiting:
            found = Names(waiting.pop(), [], [])
            with contextlib.suppress(OSError), os.scandir(self.folder(found.path)) as entries:
                for one in entries:
                    if one.is_dir(follow_symlinks=False):
                        found.folders.append(one.name)
                    elif one.is_file(follow_symlinks=False):
                        found.files.append(one.name)
            yield found
            waiting += filter(enter, (join(found.path, name) for name in found.folders))

    def _list(self, path: str) -> Folder | None:
        try:
            fd = self.folder(path)
        except FileNotFoundError:
            return None  # removed since its parent was listed
        except OSError as error:
            return Folder(path, _UNKNOWN, [], error)
        status = os.fstat(fd)
        entries, kinds, denied = [], KINDS, None
        try:
            with os.scandir(fd) as names:
                for found in names:
                    try:
                        own = found.stat(follow_symlinks=False)
                        kind = kinds.get(own.st_mode & _KIND_BITS) or file_kind(own.st_mode)
                        entries.append(Entry(found.name, own, kind))
                    except FileNotFoundError:
                        continue
                    except OSError as error:  # damage, or a mount point of somebody else's
                        entries.append(Entry(found.name, _UNKNOWN, "dir"))
                        denied = error if isinstance(error, PermissionError) else denied
        except OSError as error:
            return Folder(path, status, [], error)
        entries.sort(key=_by_name)
        is_closed = denied is not None and all(entry.is_unknown for entry in entries)
        return Folder(path, status, entries, denied if is_closed else None)


def _drives(number: int) -> list[str]:
    path = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}" if _HAS_NUMBERS else ""
    return [path] if path and os.path.exists(path) else []


def _by_name(entry: Entry) -> str:
    return entry.name
