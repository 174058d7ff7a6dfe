"""What changes in folders, as inotify(7) tells it; the only module that knows its library.

The library is no more than the system calls, on purpose. A watch is set on each folder before it
is listed, so that nothing can arrive unseen in between; no thread runs beside the one that seals,
which may fork then; and that events were lost is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from encvault.errors import WatcherUnavailable
from encvault.fs.tree import join
from encvault.i18n import _

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = "inotify-simple"


class Change(NamedTuple):
    """Something that happened.

    Attributes:
        kind: ``file`` or ``folder`` for what came or was written; ``lost`` if things happened of
            which nothing else is known, also that the top of a tree went away.
        top: of the tree.
        path: in it.
    """

    kind: Literal["file", "folder", "lost"]
    top: str
    path: str


class Changes:
    """Tells what changes. Close it, or use it as a context manager.

    Attributes:
        is_complete: whether every folder could be watched; there is a limit for each user.

    Args:
        path: is named in the error.

    Raises:
        WatcherUnavailable: the library is not installed.
    """

    def __init__(self, path: str) -> None:
        try:
            import inotify_simple  # noqa: PLC0415 - an extra that only this needs
        except ImportError:
            reason = _("the package {package} is missing").format(package=_PACKAGE)
            fix = _("install it: pip install 'encvault[watch]'")
            raise WatcherUnavailable(path=path, reason=reason, fix=fix) from None
        self.is_complete = True
        self._folders: dict[int, tuple[str, str]] = {}
        flags = self._flags = inotify_simple.flags
        self._arriving = flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE
        self._mask = self._arriving | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
        self._losing = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT
        try:
            self._inotify = inotify_simple.INotify()
        except OSError:  # the user has as many as he may
            self._inotify = None
            self.is_complete = False

    def watch(self, top: str, path: str) -> None:
        """Watch one folder from now on.

        Args:
            top: of a tree.
            path: in it.
        """
        if self._inotify is None:
            return
        # whoever chose the top may have named a link to it; nothing below is followed
        mask = self._mask | self._flags.DONT_FOLLOW if path else self._mask
        try:
            watch = self._inotify.add_watch(f"{top}/{path}" if path else top, mask)
        except (FileNotFoundError, NotADirectoryError):
            return  # gone again
        except OSError:
            self.is_complete = False
            return
        self._folders[watch] = (top, path)  # a folder that was moved keeps its watch

    def wait(self, seconds: float) -> list[Change]:
        """What changed since it was last asked.

        Args:
            seconds: to wait for it if nothing has.
        """
        if self._inotify is None:
            time.sleep(seconds)
            return []
        changes = dict.fromkeys(
            change
            for event in self._inotify.read(timeout=int(seconds * 1000))
            if (change := self._change(event.wd, event.mask, event.name)) is not None
        )
        return list(changes)

    def _change(self, watch: int, mask: int, name: str) -> Change | None:
        if mask & self._flags.Q_OVERFLOW:
            return Change("lost", "", "")
        if watch not in self._folders:
            return None
        top, path = self._folders[watch]
        if mask & self._flags.IGNORED:
            del self._folders[watch]
        if not path and mask & self._losing:
            return Change("lost", top, "")
        if not mask & self._arriving:
            return None
        kind: Literal["file", "folder"] = "folder" if mask & self._flags.ISDIR else "file"
        return Change(kind, top, join(path, name))

    def close(self) -> None:
        """Watch nothing any more."""
        if self._inotify is not None:
            self._inotify.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
