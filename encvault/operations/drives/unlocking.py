"""Make the files on a drive readable, and let a drive go."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import (
    DriveNeverLocked,
    DriveStillUsed,
    DriveUnlocked,
    InvalidRequest,
    NotAVault,
    PlainTrash,
)
from encvault.fs import calls
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.operations.drives.found import (
    DriveStatus,
    Which,
    is_read_only,
    mounts_of,
    place_of,
    reached,
    status_of,
)
from encvault.operations.drives.locking import check_writable, confirm_checked, unmount_at
from encvault.operations.opening import OpenRequest, open_paths
from encvault.operations.recording import recording
from encvault.usb import guide, power
from encvault.usb.drives import find_drive
from encvault.usb.litter import is_litter, system_folders
from encvault.vault.report import Observer, Report
from encvault.vault.vault import Vault, canonical

if TYPE_CHECKING:
    from encvault.mount.registry import Mounted
    from encvault.operations.prompter import Prompter


class UnlockRequest(NamedTuple):
    """How to unlock a drive; the fields are the options of ``encvault usb unlock``.

    Attributes:
        which: the drive.
        state_dir: local state folder.
        to: folder for a copy in the clear; nothing is written to the drive.
        in_place: let the files be in the clear on the drive again.
        mountpoint: where to mount it, or None for a folder of its own in `mounts_dir`.
        mounts_dir: see `mountpoint`.
        read_only, idle_s: as of `MountRequest`.
        force, jobs: as of `OpenRequest`.
    """

    which: Which
    state_dir: str
    mounts_dir: str
    to: str | None = None
    in_place: bool = False
    mountpoint: str | None = None
    read_only: bool = False
    idle_s: int | None = None
    force: bool = False
    jobs: int = 0


class Unlocked(NamedTuple):
    """What became of a drive that was unlocked.

    Attributes:
        path: where its files are in the clear.
        report: of what was opened, or None if it is mounted.
    """

    path: str
    report: Report | None


def unlock(
    request: UnlockRequest, prompter: Prompter, observer: Observer | None = None
) -> Unlocked:
    """Make the files on a drive readable: mounted, as a copy elsewhere, or on the drive itself.

    Raises:
        EncvaultError: nothing was begun; see `encvault.errors.usb`.
    """
    mounted_only = request.read_only or request.idle_s is not None
    if mounted_only and (request.to is not None or request.in_place):
        raise InvalidRequest(reason=_("--read-only and --idle are of a drive that is mounted"))
    path = place_of(request.which, prompter)
    with reached(path) as tree:
        return _unlock(request, tree, prompter, observer or Observer())


def _unlock(request: UnlockRequest, tree: Tree, prompter: Prompter, watcher: Observer) -> Unlocked:
    path = tree.path
    drive = locked_id(path, request.which)
    if request.to is None and not (request.read_only or is_read_only(path)):
        confirm_checked(tree, prompter)
    with recording(prompter.access_log(), "usb.unlock", path, watcher) as recorder:
        recorder.about(drive)  # also a wrong password
        if request.to is None and not request.in_place:
            result = Unlocked(_mount(request, path, prompter, watcher), None)
        else:
            place = path if request.to is None else request.to
            result = Unlocked(place, _open(request, tree, drive, prompter, watcher))
        recorder.record(path=path, to=canonical(result.path))
    return result


def locked_place_of(which: Which, prompter: Prompter) -> str:
    """Where the files of a drive are that was locked; see `place_of`.

    Raises:
        DriveNeverLocked: it was not.
    """
    path = place_of(which, prompter)
    locked_id(path, which)
    return path


def locked_id(path: str, which: Which) -> str:
    """The id of a drive that was locked.

    Args:
        path: where its files are.
        which: what it was called.

    Raises:
        DriveNeverLocked: it was not.
    """
    try:
        with Vault.load(path) as vault:
            return vault.record.id
    except NotAVault:
        raise DriveNeverLocked(path=path, which=which.words) from None


def _open(
    request: UnlockRequest, tree: Tree, drive: str, prompter: Prompter, watcher: Observer
) -> Report:
    path = tree.path
    to_open = OpenRequest(
        paths=(path,),
        to=request.to,
        force=request.force,
        jobs=request.jobs,
        state_dir=request.state_dir,
    )
    if not request.in_place:
        return open_paths(to_open, prompter, watcher)
    check_writable(path)
    watcher.note(
        _("what is in the clear on a memory stick leaves traces in it, also when it is locked")
    )
    guide.remove(tree)  # a file of the user's may have that name
    try:
        return open_paths(to_open, prompter, watcher)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is told
            guide.write(tree, drive)
        raise


def _mount(request: UnlockRequest, path: str, prompter: Prompter, observer: Observer) -> str:
    if live := mounts_of(path, request.state_dir):
        _check_same(request, live[0])
        return live[0].mountpoint
    from encvault.operations.mounting import MountRequest, mount  # noqa: PLC0415 - Linux only

    place = request.mountpoint
    if place is None:
        os.makedirs(request.mounts_dir, mode=0o700, exist_ok=True)
        place = _free_place(request.mounts_dir, os.path.basename(path) or "drive")
    to_mount = MountRequest(
        vault=path,
        mountpoint=place,
        state_dir=request.state_dir,
        read_only=request.read_only or bool(os.statvfs(path).f_flag & os.ST_RDONLY),
        idle_s=request.idle_s,
    )
    mount(to_mount, prompter, observer)
    return canonical(place)


def _check_same(request: UnlockRequest, live: Mounted) -> None:
    """Refuse what would be promised and not done: it is mounted already, in another way."""
    is_elsewhere = (
        request.mountpoint is not None and canonical(request.mountpoint) != live.mountpoint
    )
    is_otherwise = (request.read_only and not live.read_only) or (
        request.idle_s is not None and request.idle_s != live.idle_s
    )
    if is_elsewhere or is_otherwise:
        reason = _("the drive is unlocked at {path} already, in another way: lock it first")
        raise InvalidRequest(reason=reason.format(path=live.mountpoint))


def _free_place(folder: str, name: str) -> str:
    place, number = os.path.join(folder, name), 1
    while os.path.lexists(place):
        number += 1
        place = os.path.join(folder, f"{name}-{number}")
    return place


def eject(
    which: Which, state_dir: str, observer: Observer | None = None, *, force: bool = False
) -> str:
    """Have everything on a drive, unmount it, and switch it off where that can be done.

    Args:
        which: the drive.
        state_dir: local state folder.
        observer: is told what is worth knowing.
        force: whether it may go with files in the clear.

    Returns:
        Where it was mounted; it can be pulled out.

    Raises:
        DriveUnlocked, PlainTrash: it is unlocked or has files in the clear; it stays.
        DriveInUse, EjectFailed: the system does not let it go.
        DriveStillUsed: it is unmounted, and something else of the same stick is not.
    """
    if which.is_folder:
        raise InvalidRequest(reason=_("only a drive can be ejected"))
    drive = find_drive(which.name)
    path = drive.folder
    found = status_of(drive, state_dir)
    if not force and _is_in_the_clear(found):
        raise DriveUnlocked(path=path, which=which.words)
    if not force and found.trash:
        raise PlainTrash(path=path, which=which.words, count=found.trash)
    for one in mounts_of(path, state_dir):
        unmount_at(one.mountpoint, state_dir)
    with reached(path) as tree:
        calls.sync_filesystem(tree.fd)
    power.unmount(path, drive.device.node)
    if others := power.still_mounted(drive.device):
        raise DriveStillUsed(path=path, others=", ".join(others))
    if not power.switch_off(drive.device):
        (observer or Observer()).note(_("the drive stays on; it can be pulled out nonetheless"))
    return path


def _is_in_the_clear(found: DriveStatus) -> bool:
    """Whether somebody could read what is on a drive, or is reading it."""
    if found.state == "plain":
        with Tree(found.path) as tree:
            own = set(system_folders(tree))
        return any(name not in own and not is_litter(name) for name in os.listdir(found.path))
    return bool(found.mountpoint or found.plain or found.leftovers)
