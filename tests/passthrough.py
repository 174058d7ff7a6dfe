"""A file system through FUSE that shows a folder, as a server would that is not this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from serving import is_mounted, until

from encvault.mount import fuse
from encvault.mount.process import default_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SECOND_NS = 1_000_000_000
_JUST_NS = 50_000_000


@dataclass
class Passthrough:
    """The folder ``behind``, mounted at ``mount``; use it as a context manager.

    libfuse numbers the nodes in the order in which they are looked up. A rename leaves no trace in
    a file's times: that of its last change is always that of its content.

    Attributes:
        top: an empty folder for both.
        behind_ns: how far the server's clock is behind ours; negative if it is ahead.
        tick_ns: how coarse its times are.
    """

    top: Path
    behind_ns: int = 0
    tick_ns: int = 1
    pid: int = 0

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return self.top / "mount"

    @property
    def behind(self) -> Path:
        """What it shows."""
        return self.top / "behind"

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        self.behind.mkdir()
        self.mount()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.unmount()

    def mount(self) -> None:
        """Mount it."""
        self.pid = os.fork()
        if self.pid == 0:
            self._serve()
        until(lambda: is_mounted(self.path), "the mount")

    def unmount(self) -> None:
        """Unmount it: the numbers of its nodes are forgotten."""
        ctypes.CDLL(None).umount2(os.fsencode(self.path), 0)
        if is_mounted(self.path):
            subprocess.run(["fusermount3", "-u", "-z", str(self.path)], check=False)
        os.waitpid(self.pid, 0)

    def again(self) -> None:
        """As after a night without it."""
        self.unmount()
        self.mount()

    def begin_tick(self) -> None:
        """Wait until the server's clock has just ticked: what follows gets the same time."""
        while (ago := (time.time_ns() - self.behind_ns) % self.tick_ns) > _JUST_NS:
            time.sleep((self.tick_ns - ago + _JUST_NS // 2) / _SECOND_NS)

    def _serve(self) -> None:
        try:
            with default_signals():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                library = fuse.load()
                operations = _operations(library, self)
                # as long as it is mounted the numbers stay, also if the kernel needs its memory
                options = {"foreground": True, "nothreads": True, "noforget": True}
                library.FUSE(operations, str(self.path), fsname="server", **options)
        finally:
            os._exit(0)


def _operations(library: Any, shown: Passthrough) -> Any:
    """What mfusepy is to call: the verbs of a server, whose errors it can pass on."""
    server = _Server(str(shown.behind), shown)

    def refusing(verb: Callable[..., Any]) -> Callable[..., Any]:
        def called(_self: object, *arguments: Any) -> Any:
            try:
                return verb(*arguments)
            except OSError as error:
                raise library.FuseOSError(error.errno) from None

        return called

    verbs = {name: refusing(getattr(server, name)) for name in vars(_Server) if name[0] != "_"}
    return type("Operations", (library.Operations,), {"use_ns": True} | verbs)()


class _Server:
    """The verbs, as mfusepy calls them."""

    def __init__(self, root: str, shown: Passthrough) -> None:
        self._root = root
        self._shown = shown

    def _at(self, path: str) -> str:
        return self._root + path

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, int]:
        status, shown = os.lstat(self._at(path)), self._shown
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_blocks")
        time_ns = (status.st_mtime_ns - shown.behind_ns) // shown.tick_ns * shown.tick_ns
        times = dict.fromkeys(("st_mtime", "st_ctime", "st_atime"), time_ns)
        return {name: getattr(status, name) for name in names} | times

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        behind = self._shown.behind_ns
        os.utime(self._at(path), ns=(times[0] + behind, times[1] + behind))

    def readdir(self, path: str, _fh: int) -> list[str]:
        return [".", "..", *sorted(os.listdir(self._at(path)))]

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & ~os.O_NOFOLLOW)

    def create(self, path: str, mode: int, _fi: object = None) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, _path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, _path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, size: int, _fh: int | None = None) -> None:
        os.truncate(self._at(path), size)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str, _flags: int = 0) -> None:
        os.rename(self._at(old), self._at(new))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._at(path), uid, gid)

    def release(self, _path: str, fh: int) -> None:
        os.close(fh)

    def flush(self, _path: str, _fh: int) -> int:
        return 0

    def fsync(self, _path: str, _datasync: int, fh: int) -> None:
        os.fsync(fh)

    def fsyncdir(self, _path: str, _datasync: int, _fh: int) -> int:
        return 0

    def statfs(self, _path: str) -> dict[str, int]:
        found = os.statvfs(self._root)
        names = ("f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
        return {name: getattr(found, name) for name in (*names, "f_frsize", "f_namemax")}
