"""What a file is beside its bytes: mode, times, owner, extended attributes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from encvault.envelope import MAX_XATTRS_SIZE, Record
from encvault.errors import Unreadable
from encvault.fs import calls
from encvault.i18n import N_, _, system_reason

if TYPE_CHECKING:
    from encvault.vault.visited import Visited

_NONE = {errno.ENOTSUP, errno.ENODATA, errno.ENOSYS, errno.EOPNOTSUPP}
_CONTENT_NAMESPACES = ("user.",)
_KEPT_NAMESPACES = (*_CONTENT_NAMESPACES, "system.posix_acl_")
_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
IS_PRIVILEGED = hasattr(os, "geteuid") and os.geteuid() == 0


def read_xattrs(fd: int, path: str) -> tuple[tuple[str, bytes], ...]:
    """Extended attributes that belong to the user's data, sorted by name.

    Labels of the system (``security.*``) describe this machine's policy and stay behind.

    Args:
        fd: the file or folder.
        path: for an error.

    Raises:
        Unreadable: one cannot be read, or they have more than 64 KiB together, which the format
            does not allow. Sealed without them, the file would lose them without a word.
    """
    if not hasattr(os, "listxattr"):
        return ()
    try:
        names = os.listxattr(fd)
        if not names:
            return ()
        kept = sorted(name for name in names if name.startswith(_KEPT_NAMESPACES))
        found = [(name, value) for name in kept if (value := _value(fd, name)) is not None]
    except OSError as error:
        if error.errno in _NONE:
            return ()
        raise Unreadable(path=path, reason=system_reason(error)) from None
    if sum(len(value) for _name, value in found) > MAX_XATTRS_SIZE:
        raise Unreadable(path=path, reason=_("more than 64 KiB of extended attributes"))
    return tuple(found)


def is_like(status: os.stat_result, folder: Visited) -> bool:
    """Whether what stands in a mirror is a folder that `make_like` would leave as it is."""
    is_same = (stat.S_IFDIR | folder.mode | 0o700, folder.mtime_ns) == (
        status.st_mode,
        status.st_mtime_ns,
    )
    return is_same and (not IS_PRIVILEGED or folder.owner == (status.st_uid, status.st_gid))


def make_like(copy: int, fd: int, path: str, folder: Visited) -> None:
    """Give a folder of a mirror what its source has, as far as may be; its owner may write to it.

    Args:
        copy: the mirror's folder.
        fd: the source.
        path: of the source, for an error.
        folder: the source as it was met.

    Raises:
        Unreadable: see `read_xattrs`.
        OSError: the time could not be set.
    """
    record = record_of_folder(fd, path, folder)
    # what cannot be kept here, and is not told each night, the source still has
    restore(copy, record._replace(mode=folder.mode | 0o700, mtime_ns=None))
    with contextlib.suppress(PermissionError):  # it is a colleague's, who made it
        os.utime(copy, ns=(folder.mtime_ns, folder.mtime_ns))


def record_of_folder(fd: int, path: str, folder: Visited) -> Record:
    """What a folder of the visible layout is, which has no object that says it.

    Args:
        fd: the folder.
        path: for an error.
        folder: as it was met.

    Raises:
        Unreadable: see `read_xattrs`.
    """
    return Record(
        type="dir",
        path=path,
        sealed_at_ns=0,
        mode=folder.mode,
        mtime_ns=folder.mtime_ns,
        owner=folder.owner,
        xattrs=read_xattrs(fd, path),
    )


def _value(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


def is_of_the_content(name: str) -> bool:
    """Whether an extended attribute says something of the content, and nothing of this machine."""
    return name.startswith(_CONTENT_NAMESPACES)


def keep_access(fd: int, status: os.stat_result) -> None:
    """Give a sealed file the mode, and if we may the owner, of what it was made from.

    File systems without modes refuse; the sealed bytes need no protection, so that is forgiven.
    """
    with contextlib.suppress(OSError):
        if IS_PRIVILEGED and (status.st_uid, status.st_gid) != (0, 0):
            os.fchown(fd, status.st_uid, status.st_gid)
        os.fchmod(fd, status.st_mode & 0o777)


def copy_xattrs(source: int, target: int) -> None:
    """Give a sealed file the extended attributes of the one whose place it takes, access lists too.

    What the file system or this user may not set is left.
    """
    if not hasattr(os, "listxattr"):
        return
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))


def shed_inherited(fd: int, record: Record) -> None:
    """Take the access lists from a new file or folder that its folder has given it, and it had not.

    They would let others look into what only its owner could read.

    Args:
        fd: the file or folder, which this run has made.
        record: what it had.
    """
    if not hasattr(os, "removexattr"):
        return
    try:
        there = os.listxattr(fd)  # nearly always nothing, and asking for it changes nothing
    except OSError:
        there = list(_ACCESS_LISTS)
    had = {name for name, _value in record.xattrs}
    for name in _ACCESS_LISTS:
        if name in there and name not in had:
            with contextlib.suppress(OSError):
                os.removexattr(fd, name)


def make_new(fd: int, above: int) -> None:
    """Give a folder that was made for nobody to look into what any new one has.

    Args:
        fd: the folder.
        above: that it is in.

    Raises:
        OSError: it stays as it is.
    """
    default = _value(above, _ACCESS_LISTS[1]) if hasattr(os, "getxattr") else None
    if default is not None:
        os.setxattr(fd, _ACCESS_LISTS[0], default)  # the mode's bits are in it
        return
    mask = os.umask(0o077)
    os.umask(mask)
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | (0o777 & ~mask))


def restore(fd: int, record: Record, *, own: bool = True) -> list[str]:
    """Give an opened file or folder its attributes back.

    Args:
        fd: the file or folder.
        record: what it had.
        own: whether it comes from a vault. A file on its own or an archive may come from anyone:
            it gets no set-uid or set-gid bit, and no owner but who opens it.

    Returns:
        Names of what could not be set: FAT keeps no modes, an ordinary user may not give files
        away. The caller reports it; a mode that was not restored is not a protection.
    """
    lost = []
    mode = record.mode if own or record.mode is None else record.mode & 0o777
    if own and IS_PRIVILEGED and record.owner is not None:
        try:
            os.fchown(fd, *record.owner)
        except (OSError, OverflowError):
            lost.append(N_("owner"))
            mode = None if mode is None else mode & 0o777  # never set-uid for another owner
    lost += _restore_xattrs(fd, record, _KEPT_NAMESPACES if own else _CONTENT_NAMESPACES)
    if mode is not None:
        try:
            os.fchmod(fd, mode)
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                lost.append(N_("mode"))
        except OSError:
            lost.append(N_("mode"))
    if record.mtime_ns is not None:
        try:
            os.utime(fd, ns=(record.mtime_ns, record.mtime_ns))
        except OSError:
            lost.append(N_("mtime"))
    return lost


def set_mode(folder: int, name: str, mode: int) -> None:
    """Give a file of our own its permission bits."""
    fd = calls.open_read(folder, name)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _restore_xattrs(fd: int, record: Record, namespaces: tuple[str, ...]) -> list[str]:
    lost = []
    for name, value in record.xattrs:
        try:
            if not name.startswith(namespaces):
                raise PermissionError(name)
            os.setxattr(fd, name, value)
        except (OSError, AttributeError, ValueError):  # ValueError: a zero byte in its name
            lost.append("xattr " + name)
    return lost


def restore_symlink(folder: int, name: str, record: Record, *, own: bool = True) -> list[str]:
    """The same for a symbolic link, which has an owner and a time of its own."""
    lost = []
    if own and IS_PRIVILEGED and record.owner is not None:
        try:
            os.chown(name, *record.owner, dir_fd=folder, follow_symlinks=False)
        except (OSError, OverflowError):
            lost.append(N_("owner"))
    if record.mtime_ns is not None:
        try:
            times = (record.mtime_ns, record.mtime_ns)
            os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)
        except OSError:
            lost.append(N_("mtime"))
    return lost
