"""Which drive is meant, and what can be told of it without a key."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import (
    DriveReadOnly,
    DriveWentAway,
    EncvaultError,
    NotAVault,
    SourceMissing,
    StorageError,
)
from encvault.errors.base import quoted
from encvault.fs.tree import Tree, pinned
from encvault.i18n import _, system_reason
from encvault.operations.looking import list_mounts
from encvault.operations.places import storage
from encvault.operations.prompter import Prompter, confirm
from encvault.usb import devices, guide
from encvault.usb.drives import Drive, drives, find_drive
from encvault.usb.litter import is_litter, trash
from encvault.usb.register import Register, Standing, read_note
from encvault.vault.inspect import inspect_status
from encvault.vault.vault import Vault, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.mount.registry import Mounted

# what the kernel's drivers and those of FUSE say of a device that is no more
_GONE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN}
ENCRYPTED = {"crypto_LUKS": "luks", "BitLocker": "bitlocker"}


class Which(NamedTuple):
    """The drive that is meant.

    Attributes:
        name: see `encvault.usb.drives.find_drive`; or a folder.
        is_folder: whether it is a folder that need be no drive.
    """

    name: str
    is_folder: bool = False

    @property
    def words(self) -> str:
        """What names it on a command line, quoted where a shell needs it."""
        return f"--path {quoted(self.name)}" if self.is_folder else quoted(self.name)


@dataclass(slots=True)
class DriveStatus:
    """What is known of a drive without a key.

    Attributes:
        path: where its files are; "" while it is not mounted.
        state: ``plain``, ``locked``, ``unlocked``, ``interrupted``, ``unmounted``, ``luks``,
            ``bitlocker``, or in a list ``unreadable``.
        drive: see `Drive`; None for a folder that is none.
        id: 26 characters, or "" if it was never locked.
        is_read_only: whether nothing can be written to it.
        size, free: bytes, or 0 where that is not known.
        sealed, sealed_size: objects, and their bytes on the drive.
        plain: paths of files in the clear, but for what other systems leave.
        leftovers: what an interrupted run left.
        trash: files in trash folders.
        mountpoint: where it is mounted unlocked, or "".
        generation: of its keys; 0 if it was never locked.
        standing: whether it is one of the company's; None where that was not asked for.
    """

    path: str
    state: str
    drive: Drive | None = None
    id: str = ""
    is_read_only: bool = False
    size: int = 0
    free: int = 0
    sealed: int = 0
    sealed_size: int = 0
    plain: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    trash: int = 0
    mountpoint: str = ""
    generation: int = 0
    standing: Standing | None = None


@contextlib.contextmanager
def reached(path: str) -> Iterator[Tree]:
    """The drive that is mounted at a path now, whatever will be there when it is gone.

    What the system reports of it is taken, at the last border, for what it means.

    The kernel's driver for FAT answers that there are no files on a device that is no more, so
    whatever went wrong, and what seems to have gone well, is told with a look at the device.

    Raises:
        DriveWentAway: it was pulled out.
        DriveReadOnly: the kernel lets nobody write to it any more.
        StorageError: anything else.
    """
    number, was_there, was_read_only = 0, False, True
    try:
        with storage(path), pinned(path), Tree(path) as tree:
            number = os.fstat(tree.fd).st_dev
            was_there, was_read_only = devices.is_there(number), is_read_only(path)
            try:
                yield tree
            finally:
                check_is_there(path, tree)
    except EncvaultError as error:
        _check_plugged_in(path, number, was_there=was_there)
        if not was_read_only and is_read_only(path):
            raise DriveReadOnly(path=path) from error
        cause = error.__cause__
        if isinstance(error, StorageError) and isinstance(cause, OSError) and cause.errno in _GONE:
            raise DriveWentAway(path=path, reason=system_reason(cause)) from cause
        raise
    _check_plugged_in(path, number, was_there=was_there)


def check_is_there(path: str, tree: Tree) -> None:
    """Refuse to say anything of a path that leads elsewhere by now: to the host, beneath a drive.

    Raises:
        DriveWentAway: the drive is not at its place any more.
    """
    try:
        is_there = os.path.samestat(os.stat(path), os.fstat(tree.fd))
    except FileNotFoundError:  # the desktop has removed its mount point
        is_there = False
    if not is_there:
        raise DriveWentAway(path=path, reason=_("something else is in its place"))


def _check_plugged_in(path: str, number: int, *, was_there: bool) -> None:
    if was_there and not devices.is_there(number):
        reason = system_reason(OSError(errno.ENODEV, os.strerror(errno.ENODEV)))
        raise DriveWentAway(path=path, reason=reason)


def is_read_only(path: str) -> bool:
    """Whether nothing can be written to what is mounted at a path."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def list_drives(state_dir: str, register_path: str) -> list[DriveStatus]:
    """The removable drives that are plugged in; one that cannot be read hides no other.

    Args:
        state_dir: local state folder.
        register_path: of the company's drives.
    """
    found = [_listed(drive, state_dir) for drive in drives()]
    for one in found:
        one.standing = standing_of(one.drive, register_path)
    return found


def _listed(drive: Drive, state_dir: str) -> DriveStatus:
    try:
        return status_of(drive, state_dir)
    except EncvaultError:
        return DriveStatus(drive.folder, "unreadable", drive, size=drive.device.size)


def drive_status(which: Which, state_dir: str, register_path: str) -> DriveStatus:
    """What is known of a drive; see `list_drives`.

    Raises:
        EncvaultError: it is not found; see `find_drive`.
    """
    if which.is_folder:
        return _status_at(_folder(which.name), None, state_dir)
    found = status_of(find_drive(which.name), state_dir)
    found.standing = standing_of(found.drive, register_path)
    return found


def standing_of(drive: Drive | None, register_path: str) -> Standing:
    """Whether a drive is one of the company's, as far as that can be seen."""
    if drive is None or drive.mount is None or not drive.id:
        return Standing("unregistered")
    try:
        register = Register.load(register_path)
        with Vault.load(drive.mount.path) as vault:
            note = read_note(vault.tree)
            today = datetime.now(UTC).date()
            return register.standing(vault.record, drive.device, note, today)
    except EncvaultError as error:
        return Standing("doubtful", None, str(error))
    except OSError as error:
        return Standing("doubtful", None, system_reason(error))


def status_of(drive: Drive, state_dir: str) -> DriveStatus:
    """What is known of a drive that was found."""
    kind = ENCRYPTED.get(drive.device.content.kind)
    if drive.mount is None or kind is not None:
        state = kind or "unmounted"
        return DriveStatus("", state, drive, size=drive.device.size)
    return _status_at(drive.mount.path, drive, state_dir)


def _status_at(path: str, drive: Drive | None, state_dir: str) -> DriveStatus:
    with reached(path) as tree:
        return _seen_at(tree, drive, state_dir)


def state_of(tree: Tree, state_dir: str) -> str:
    """The state of a drive that was reached; see `DriveStatus`."""
    return _seen_at(tree, None, state_dir).state


def _seen_at(tree: Tree, drive: Drive | None, state_dir: str) -> DriveStatus:
    path = tree.path
    room = os.statvfs(path)
    found = DriveStatus(
        path,
        "plain",
        drive,
        is_read_only=bool(room.f_flag & os.ST_RDONLY),
        size=room.f_blocks * room.f_frsize,
        free=room.f_bavail * room.f_frsize,
        trash=sum(1 for _file in trash(tree)),
    )
    try:
        with Vault.load(path) as vault:
            seen = inspect_status(vault)
            found.id, found.generation = vault.record.id, vault.record.generation
    except NotAVault:
        return found
    found.sealed, found.sealed_size = seen.sealed, seen.sealed_size
    files = (*seen.plain, *seen.unknown)
    found.plain = [file for file in files if not (is_litter(file) or is_page(tree, file))]
    found.leftovers = seen.leftovers
    if live := mounts_of(path, state_dir):
        found.state, found.mountpoint = "unlocked", live[0].mountpoint
    elif found.leftovers or (found.plain and found.sealed):
        found.state = "interrupted"
    else:
        found.state = "unlocked" if found.plain else "locked"
    return found


def is_page(tree: Tree, path: str) -> bool:
    """Whether it is the page that `lock` leaves in the clear."""
    return path == guide.NAME and guide.is_there(tree)


def _folder(path: str) -> str:
    if not os.path.isdir(path):
        raise SourceMissing(path=path)
    return canonical(path)


def place_of(which: Which, prompter: Prompter) -> str:
    """Where the files of a drive are.

    Raises:
        EncvaultError: it is not found, or nobody consents to a folder that is no drive.
    """
    if not which.is_folder:
        return find_drive(which.name).folder
    path = _folder(which.name)
    if path not in [one.mount.path for one in drives() if one.mount is not None]:
        confirm(prompter, _("{path} is no removable drive: go on?").format(path=path))
    return path


def mounts_of(path: str, state_dir: str) -> list[Mounted]:
    """Where a drive is mounted unlocked."""
    return [one for one in list_mounts(state_dir, path) if one.is_alive]
