"""A file outside of any vault's order: it appears under its name only when it is whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from encvault.errors import CannotCreate, DestinationExists, InvalidRequest, SourceMissing
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.entries import file_kind
from encvault.fs.tree import Tree
from encvault.i18n import N_, _

if TYPE_CHECKING:
    from encvault.secret import Buffer


_OF_THE_KERNEL = ("/dev/", "/proc/")


class OutputFile:
    """A new file that appears under its name only when it is complete and durable.

    Use as a context manager; call `publish` when all is written.

    Args:
        path: the name it will have.
        force: replace an existing file.

    Raises:
        DestinationExists: there is one, and not `force`.
        CannotCreate: there is a device or a pipe, also by way of a link, whose place it would take.
        InvalidRequest: the path is ``-``, which people mean for a stream.
    """

    def __init__(self, path: str, *, force: bool, mode: int = 0o666) -> None:
        refuse_special(path)
        self.path = path
        self._force = force
        self._mode = mode
        folder, self._name = split_path(path)
        self._tree = folder_of(folder, path)
        self._temporary = ""
        self._fd = -1
        self._published = False
        try:
            is_taken = not force and calls.exists(self._tree.fd, self._name)
        except OSError as error:  # a name that is too long
            self._tree.close()
            raise storage_error(error, path) from None
        if is_taken:
            self._tree.close()
            raise DestinationExists(path=path)

    def open(self) -> int:
        """Descriptor to write to."""
        try:
            file_id = durable.own_temporary(self._tree, self._name)
            self._temporary = durable.temporary_name(file_id)
            self._fd = calls.create(self._tree.fd, self._temporary, self._mode)
        except OSError as error:
            raise storage_error(error, self.path) from None
        return self._fd

    @property
    def fd(self) -> int:
        """The descriptor that `open` gave, for who reads back what was written."""
        return self._fd

    def flush(self) -> None:
        """Make what was written durable, not yet under its name.

        Raises:
            OSError: it may not be.
        """
        calls.fsync(self._fd)
        if hasattr(os, "posix_fadvise"):  # what is read back shall come from the disk
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def write(self, data: Buffer) -> None:
        """Add to it."""
        try:
            calls.write(self._fd, data)
        except OSError as error:
            raise storage_error(error, self.path) from None

    def publish(self) -> None:
        """Make it durable and give it its name."""
        try:
            calls.fsync(self._fd)
        except OSError as error:
            raise storage_error(error, self.path) from None
        publish(self._tree, self._temporary, self._name, self.path, force=self._force)
        self._published = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            if not self._published:
                durable.discard(self._tree.fd, self._temporary)
        self._tree.close()


def refuse_special(path: str) -> None:
    """Refuse an output that is no place for a file, as ``/dev/null``; see `OutputFile`."""
    if path == "-":
        raise InvalidRequest(
            reason=_("a file cannot be called -; leave it out for a stream, or say ./-")
        )
    try:
        kind = file_kind(os.stat(path).st_mode)
    except OSError:
        return
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    if f"{folder}/".startswith(_OF_THE_KERNEL) and os.path.islink(path):
        kind = N_("special file")  # /dev/stdout, whatever that is now
    if kind not in ("file", "dir"):
        reason = _("it is a {kind}, and no place for a file").format(kind=_(kind))
        raise CannotCreate(path=path, reason=reason)


def split_path(path: str) -> tuple[str, str]:
    """The folder and the name of a path, absolute."""
    folder, name = os.path.split(os.path.abspath(path))
    return folder, name


def folder_of(folder: str, path: str) -> Tree:
    """A folder, pinned.

    Args:
        folder: the folder.
        path: the file in it that all this is for, for messages.
    """
    try:
        return Tree(folder)
    except FileNotFoundError:
        raise SourceMissing(path=folder) from None
    except OSError as error:
        raise storage_error(error, path) from None


def publish(tree: Tree, temporary: str, name: str, path: str, *, force: bool) -> None:
    """Give a temporary file, which is durable, its name; it is removed if that fails.

    Args:
        tree: the folder.
        temporary: what it is called.
        name: what it will be called.
        path: for messages.
        force: replace a file of that name.
    """
    try:
        if force:
            calls.replace(tree.fd, temporary, name)
        else:
            calls.rename_new(tree.fd, temporary, name)
        calls.fsync_folder(tree.fd)
    except BaseException as error:
        durable.discard(tree.fd, temporary)
        if isinstance(error, OSError):
            raise storage_error(error, path) from None
        raise
