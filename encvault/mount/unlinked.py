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

A name is libfuse's own if its number comes next and the file is open, or one is open that had the
path before somebody else replaced it in the vault. It also is if the file was open until a moment
ago: libfuse takes it for open until a thread of its own has come round after the release, which on
a busy machine takes its time. But then a program may be renaming what it has just closed. So after
the first moment the renaming is done as asked, and only if the same thread at once renames another
file to the old name, as libfuse does and hardly anybody else, the hidden one is removed.
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
_GRACE = 0.02  # seconds in which libfuse hears that a file is closed
_LONG_GRACE = 2.0  # and on a machine that has much to do
_MAX_STEP = 64  # numbers that libfuse passes over because there are such names
_MAX_BEHIND = 16  # threads of libfuse that may overtake each other
_MAX_CLOSING = 50_000  # files; the oldest were closed long ago
_PATIENCE = 0.05  # seconds; the rename follows within some microseconds


class Unlinked:
    """The open files of a mount, and those among them that have no name any more.

    Attributes:
        is_waiting: whether an unlinking waits; then `settle` comes before a call by path.
    """

    def __init__(self, view: FileSystem) -> None:
        self._view = view
        self._open: dict[int, int] = {}  # inode numbers by handle
        self._closing: OrderedDict[int, float] = OrderedDict()  # by inode number: since when
        self._handles: dict[str, int | None] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}
        self._callers: dict[int, Caller] = {}
        self._unsure: dict[int, tuple[str, str, float]] = {}  # by thread: path, name, until when
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
            self._closing[ino] = time.monotonic()
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
        count, numbers = int(match[1], 16), self._view.inodes(path)
        handle = next(filter(None, map(self._handle_of, numbers)), None)
        thread, now = threading.get_ident(), time.monotonic()
        closed_at = max(self._closing.get(ino, -math.inf) for ino in numbers)
        step = count - self._count
        is_sure = handle is not None or (step == 1 and now < closed_at + _GRACE)
        if not -_MAX_BEHIND < step <= _MAX_STEP or (now > closed_at + _LONG_GRACE and not is_sure):
            return False  # somebody likes such names
        if not is_sure:
            self._unsure[thread] = (path, hidden, now + _PATIENCE)
            return False
        self._count = max(self._count, count)
        self._handles[hidden] = handle
        with self._lock:
            self._waiting[thread] = path
            self._callers[thread] = caller
            self.is_waiting = True
        timer = threading.Timer(_PATIENCE, self._unlink, (thread, path, caller))
        timer.daemon = True
        timer.start()
        return True

    def left_behind(self, path: str) -> str | None:
        """The hidden name that this thread has just given to what it now renames another file over.

        Args:
            path: that the other file gets.
        """
        if not self._unsure:
            return None
        old, hidden, until = self._unsure.get(threading.get_ident(), ("", "", 0.0))
        if path == hidden:
            return None  # which is being given now
        self._unsure.pop(threading.get_ident(), None)
        return hidden if old == path and time.monotonic() < until else None

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
