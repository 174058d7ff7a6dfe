"""What the adapter to FUSE and the processes around it ask of a view.

Paths are absolute within the mount, such as ``/a/b.txt``; names that are not UTF-8 have surrogates
for their bytes. Every method may be called from several threads, and raises an OSError with an
errno, or an EncvaultError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from encvault.mount.nodes import Attributes, Caller
    from encvault.secret import Buffer


class FileSystem(Protocol):
    """The verbs of POSIX, on a tree of files.

    Attributes:
        is_read_only: whether everything that would change something is refused.
    """

    is_read_only: bool

    def attributes(self, path: str, /) -> Attributes:
        """What is there."""

    def attributes_of(self, handle: int, /) -> Attributes:
        """Of an open file, whose name may be gone."""

    def inodes(self, path: str, /) -> list[int]:
        """Inode numbers of a file, and of those that it has replaced and that may be open."""

    def open_folder(self, path: str, /) -> int:
        """A handle of a folder."""

    def path_of(self, folder: int, /) -> str:
        """Where an open folder is now, whatever its name was."""

    def close_folder(self, folder: int, /) -> None:
        """Nobody reads it any more."""

    def listing(self, path: str, /) -> Iterable[tuple[str, int]]:
        """Names in a folder without ``.`` and ``..``, and their type bits, 0 where not known."""

    def attributes_in(self, path: str, names: Iterable[str], /) -> Iterator[Attributes | None]:
        """What stat(2) tells of each of these in a folder, or None; looked up when asked for."""

    def known_in(self, path: str, names: Iterable[str], /) -> Iterator[Attributes | None]:
        """The same, as far as no sealed file has to be opened for them."""

    def open(self, path: str, flags: int, caller: Caller, /) -> int:
        """A handle; the access is recorded before it is returned."""

    def create(self, path: str, mode: int, flags: int, caller: Caller, /) -> int:
        """A handle of a file that is new, or opened."""

    def keeps_cache(self, handle: int, /) -> bool:
        """Whether what the kernel has cached of the file is still right."""

    def read(self, handle: int, size: int, offset: int, /) -> Buffer:
        """At most `size` bytes; fewer only at the end."""

    def write(self, handle: int, data: bytes, offset: int, /) -> int:
        """How many bytes were taken."""

    def flush(self, handle: int, /) -> None:
        """A descriptor of the file is closed."""

    def fsync(self, handle: int, /) -> None:
        """Make what was written durable."""

    def release(self, handle: int, /) -> None:
        """The last descriptor of the handle is closed."""

    def bypasses_cache(self, handle: int, /) -> bool:
        """Whether the kernel must keep no pages for this handle."""

    def truncate(self, path: str, size: int, caller: Caller, /) -> None:
        """Cut or extend a file."""

    def truncate_open(self, handle: int, size: int, /) -> None:
        """Cut or extend an open file."""

    def allocate(self, handle: int, mode: int, offset: int, size: int, /) -> None:
        """See fallocate(2)."""

    def make_folder(self, path: str, mode: int, caller: Caller, /) -> None:
        """See mkdir(2)."""

    def remove_folder(self, path: str, /) -> None:
        """See rmdir(2)."""

    def unlink(self, path: str, caller: Caller, /) -> None:
        """Remove a name; who has the file open keeps it."""

    def rename(self, old: str, new: str, flags: int, caller: Caller, /) -> None:
        """See renameat2(2)."""

    def symlink(self, path: str, target: str, caller: Caller, /) -> None:
        """Make a link at `path`."""

    def readlink(self, path: str, /) -> str:
        """Where a link points to."""

    def set_mode(self, path: str, mode: int, caller: Caller, /) -> None:
        """See chmod(2)."""

    def set_owner(self, path: str, uid: int, gid: int, caller: Caller, /) -> None:
        """See chown(2); -1 leaves one as it is."""

    def set_times(self, path: str, mtime_ns: int | None, caller: Caller, /) -> None:
        """Set the time of the last change; None for now."""

    def set_mode_of(self, handle: int, mode: int, /) -> None:
        """See fchmod(2)."""

    def set_owner_of(self, handle: int, uid: int, gid: int, /) -> None:
        """See fchown(2)."""

    def set_times_of(self, handle: int, mtime_ns: int | None, /) -> None:
        """See `set_times`."""

    def get_xattr(self, path: str, name: str, /) -> bytes:
        """See getxattr(2)."""

    def list_xattrs(self, path: str, /) -> list[str]:
        """See listxattr(2)."""

    def set_xattr(self, path: str, name: str, value: bytes, flags: int, caller: Caller, /) -> None:
        """See setxattr(2)."""

    def remove_xattr(self, path: str, name: str, caller: Caller, /) -> None:
        """See removexattr(2)."""

    def statfs(self) -> os.statvfs_result:
        """Of the disk beneath."""

    def sync(self) -> None:
        """Make everything that was closed durable.

        Raises:
            EncvaultError, OSError: something could not be saved.
        """

    def unsaved(self) -> list[str]:
        """Paths with changes that are not durable yet."""

    def idle_seconds(self) -> float | None:
        """Seconds since the last call; None while files are open."""

    def close(self) -> None:
        """Save what is left, and forget all keys; raises as `sync` does."""
