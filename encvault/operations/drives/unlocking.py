"""Make the files on a drive readable, and let a drive go."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.errors import DriveUnlocked, InvalidRequest
from encvault.fs import calls
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.operations.drives.found import (
    DriveStatus,
    Which,
    mounts_of,
    place_of,
    reached,
    status_of,
)
from encvault.operations.drives.locking import check_writable, unmount_at
from encvault.operations.opening import OpenRequest, open_paths
from encvault.operations.recording import recording
from encvault.usb import guide, power
from encvault.usb.drives import find_drive
from encvault.usb.litter import is_litter
from encvault.vault.report import Observer, Report
from encvault.vault.vault import Vault, canonical

if TYPE_CHECKING:
    from encvault.operations.prompter import Prompter


@dataclass(frozen=True, slots=True)
class UnlockRequest:
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


@dataclass(frozen=True, slots=True)
class Unlocked:
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
    path = place_of(request.which, prompter)
    with reached(path):
        return _unlock(request, path, prompter, observer or Observer())


def _unlock(request: UnlockRequest, path: str, prompter: Prompter, watcher: Observer) -> Unlocked:
    with Vault.load(path) as vault:
        drive = vault.record.id
    with recording(prompter.access_log(), "usb.unlock", path, watcher) as recorder:
        recorder.about(drive)  # also a wrong password
        if request.to is None and not request.in_place:
            result = Unlocked(_mount(request, path, prompter, watcher), None)
        else:
            result = Unlocked(request.to or path, _open(request, path, drive, prompter, watcher))
        recorder.record(path=path, to=canonical(result.path))
    return result


def _open(
    request: UnlockRequest, path: str, drive: str, prompter: Prompter, watcher: Observer
) -> Report:
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
    with Tree(path) as tree:
        guide.remove(tree)  # a file of the user's may have that name
        try:
            return open_paths(to_open, prompter, watcher)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is told
                guide.write(tree, drive)
            raise


def _mount(request: UnlockRequest, path: str, prompter: Prompter, observer: Observer) -> str:
    if live := mounts_of(path, request.state_dir):
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
        DriveUnlocked: it is unlocked or has files in the clear; it stays.
        DriveInUse, EjectFailed: the system does not let it go.
    """
    if which.is_folder:
        raise InvalidRequest(reason=_("only a drive can be ejected"))
    drive = find_drive(which.name)
    path = drive.folder
    found = status_of(drive, state_dir)
    if not force and _is_in_the_clear(found):
        raise DriveUnlocked(path=path)
    for one in mounts_of(path, state_dir):
        unmount_at(one.mountpoint, state_dir)
    with reached(path), Tree(path) as tree:
        calls.sync_filesystem(tree.fd)
    power.unmount(path, drive.device.node)
    if not power.switch_off(drive.device):
        (observer or Observer()).note(_("the drive stays on; it can be pulled out nonetheless"))
    return path


def _is_in_the_clear(found: DriveStatus) -> bool:
    """Whether somebody could read what is on a drive, or is reading it."""
    if found.state == "plain":
        return any(not is_litter(name) for name in os.listdir(found.path))
    return bool(found.mountpoint or found.plain or found.leftovers)
