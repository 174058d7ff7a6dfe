"""Files that are open after their names are gone, and what libfuse makes of them.

libfuse knows a node by its path, so it cannot ask for the attributes of an open file without a
name, and fstat(2) would fail. Unless it is told to remove hard, it therefore renames such a file to
``.fuse_hiddenNNN`` and removes that when it is closed. Such names must never get into a vault.
So the renaming is only remembered here: what is asked of the hidden name is asked of a handle of
the file, and the view is told to unlink.

It hides a file for two reasons: the file is unlinked, or another one is renamed over it. In the
second case the renaming follows at once, in the same thread, and it must find the file in its
place: unlinking it first would leave a moment at which neither of the two is there. So unlinking
waits for what the thread does next, but not for long.

A name is libfuse's own if the file is open. It also is if the file was open until a moment ago,
since libfuse takes it for open until a release has returned; but then a program may be renaming
what it has just closed, so the number in the name must be the one that comes next.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.mount.nodes import Caller

if TYPE_CHECKING:
    from encvault.mount.verbs import FileSystem

_HIDDEN = re.compile(r"(?:.*/)?\.fuse_hidden[0-9a-f]{8}([0-9a-f]{8})", re.DOTALL)
_GRACE = 0.002  # seconds in which libfuse hears that a file is closed
_MAX_STEP = 64  # numbers that libfuse passes over because there are such names
_MAX_CLOSING = 1_000  # files; the oldest were closed long ago
_PATIENCE = 0.05  # seconds; the rename follows within some microseconds


class Unlinked:
    """The open files of a mount, and those among them that have no name any more.

    Attributes:
        is_waiting: whether an unlinking waits; then `settle` comes before a call by path.
    """

    def __init__(self, view: FileSystem) -> None:
        self._view = view
        self._open: dict[int, int] = {}  # inode numbers by handle
        self._closing: OrderedDict[int, float] = OrderedDict()  # by inode number: until when
        self._handles: dict[str, int | None] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}
        self._callers: dict[int, Caller] = {}
        self._settled = threading.Condition(self._lock)
        self.is_waiting = False

    @property
    def has_hidden(self) -> bool:
        """Whether there are hidden names at all."""
        return bool(self._handles)

    def opened(self, handle: int) -> int:
        """Remember a handle."""
        self._open[handle] = self._view.attributes_of(handle).ino
        return handle

    def release(self, handle: int) -> None:
        """Release a handle; another one of the same file takes its place."""
        ino = self._open.pop(handle, 0)
        self._closing[ino] = math.inf
        if self._handles:
            for name, known in list(self._handles.items()):
                if known == handle:
                    self._handles[name] = self._handle_of(ino)
        try:
            self._view.release(handle)
        finally:
            self._closing[ino] = time.monotonic() + _GRACE
            self._closing.move_to_end(ino)
            if len(self._closing) > _MAX_CLOSING:
                self._closing.popitem(last=False)

    def handle(self, path: str) -> int | None:
        """The handle to ask in place of a hidden name, or None for any other path."""
        return self._handles.get(path)

    def hide(self, path: str, hidden: str, caller: Caller) -> bool:
        """A file is renamed: it will be unlinked, or another be renamed over it.

        Args:
            path: of the file.
            hidden: its new name.
            caller: who unlinks it.

        Returns:
            False if this is any other renaming: of a file that nobody has open, or to a name that
            libfuse does not make.
        """
        match = _HIDDEN.fullmatch(hidden) if ".fuse_hidden" in hidden else None
        if match is None:
            return False
        count, ino = int(match[1], 16), self._view.attributes(path).ino
        handle = self._handle_of(ino)
        is_closing = time.monotonic() < self._closing.get(ino, 0.0)
        is_next = 0 < count - self._count <= _MAX_STEP
        if not is_next or (handle is None and not (is_closing and count == self._count + 1)):
            return False  # somebody likes such names
        self._count = count
        self._handles[hidden] = handle
        thread = threading.get_ident()
        with self._lock:
            self._waiting[thread] = path
            self._callers[thread] = caller
            self.is_waiting = True
        timer = threading.Timer(_PATIENCE, self._unlink, (thread, path, caller))
        timer.daemon = True
        timer.start()
        return True

    def forget(self, hidden: str) -> bool:
        """Whether it was a hidden name, which is gone now."""
        if hidden not in self._handles:
            return False
        del self._handles[hidden]
        return True

    def settle(self, *paths: str, replaced: str | None = None) -> None:
        """Let what waits happen before a call that could see that it has not.

        Args:
            paths: what the call is about; of a folder, what is in it.
            replaced: what the call renames another file over.
        """
        thread = threading.get_ident()
        with self._lock:
            own = self._waiting.get(thread)
            if own is not None and own == replaced:
                del self._waiting[thread]  # the renaming removes it, in one step
                self._tell()
                own = None
        if own is not None:
            self._unlink(thread, own, self._callers.get(thread))
        with self._lock:
            self._settled.wait_for(lambda: not self._concerns(paths), 10 * _PATIENCE)

    def _concerns(self, paths: tuple[str, ...]) -> bool:
        return any(
            path == waiting or path == (os.path.dirname(waiting) or "/")
            for waiting in self._waiting.values()
            for path in paths
        )

    def _unlink(self, thread: int, path: str, caller: Caller | None) -> None:
        with self._lock:
            if self._waiting.get(thread) != path:
                return
            try:
                # an error has nobody to be told; the name then stays
                with contextlib.suppress(OSError, EncvaultError):
                    self._view.unlink(path, caller or Caller(0, 0, 0))
            finally:
                del self._waiting[thread]
                self._tell()

    def _tell(self) -> None:
        self.is_waiting = bool(self._waiting)
        self._settled.notify_all()

    def _handle_of(self, ino: int) -> int | None:
        return next((one for one, known in list(self._open.items()) if known == ino), None)
