"""Seal everything on a drive, and leave it so that it can be pulled out."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.errors import (
    DriveInUse,
    DriveNotEmpty,
    DriveReadOnly,
    DriveTooFull,
    DriveWentAway,
    LeftInTheClear,
    NotAVault,
    PlainTrash,
)
from encvault.fs import calls, durable
from encvault.fs.tree import Tree
from encvault.fs.users import openers, programs_text
from encvault.i18n import _
from encvault.operations.drives.found import (
    Which,
    mounts_of,
    place_of,
    reached,
    trash_of,
)
from encvault.operations.prompter import Prompter, confirm
from encvault.operations.recording import recording
from encvault.operations.request import DEFAULT_SUITE, SealRequest
from encvault.operations.sealing import init_vault, seal
from encvault.usb import guide
from encvault.usb.litter import is_of_a_system, is_trash
from encvault.vault.pool import BATCH_SIZE
from encvault.vault.report import Observer, Report
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from encvault.crypto.suite import Suite
    from encvault.vault.manifest import VaultRecord

_MAX_RESERVE = 64 << 20  # bytes that stay free
_RESERVE_SHARE = 100  # or a hundredth of a small drive


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What to lock and how; the fields are the options of ``encvault usb lock``.

    Attributes:
        which: the drive.
        state_dir: local state folder.
        exclude, keep, jobs, dry_run: as of `SealRequest`.
        default_suite: of a drive that is locked the first time.
        purge_trash: remove what lies in trash folders.
    """

    which: Which
    state_dir: str
    exclude: tuple[str, ...] = ()
    keep: bool = False
    jobs: int = 0
    dry_run: bool = False
    default_suite: Suite = DEFAULT_SUITE
    purge_trash: bool = False


def init(
    which: Which,
    prompter: Prompter,
    observer: Observer | None = None,
    *,
    suite: Suite | None = None,
    keep_existing: bool = False,
) -> VaultRecord:
    """Prepare a drive that has no files yet, so that none of them ever lies on it in the clear.

    Args:
        which: the drive.
        prompter: is asked for a new password.
        observer: is told what is worth knowing.
        suite: of all its files.
        keep_existing: whether files that are there may stay until they are locked.

    Raises:
        DriveNotEmpty: there are files, and they may not.
        AlreadyAVault: it was prepared already.
    """
    path = place_of(which, prompter)
    with reached(path):
        return _init(path, prompter, observer, suite=suite, keep_existing=keep_existing)


def _init(
    path: str,
    prompter: Prompter,
    observer: Observer | None,
    *,
    suite: Suite | None,
    keep_existing: bool,
) -> VaultRecord:
    check_writable(path)
    count, _size, _largest = _survey(path, SealRequest(paths=(path,), leave=_left(path)))
    if count and not keep_existing:
        raise DriveNotEmpty(path=path, count=count)
    with Tree(path) as tree:
        record = init_vault(path, prompter, observer, suite=suite, hide_names=True)
        check_there_and_write_page(path, tree, observer or Observer())
    return record


def lock(request: LockRequest, prompter: Prompter, observer: Observer | None = None) -> Report:
    """Seal everything on a drive, in place, and leave it so that it can be pulled out.

    Raises:
        EncvaultError: nothing was begun; see `encvault.errors.usb`.
    """
    path = place_of(request.which, prompter)
    with reached(path):
        return lock_at(request, path, prompter, observer or Observer())


def lock_at(request: LockRequest, path: str, prompter: Prompter, watcher: Observer) -> Report:
    """The same at a folder that is known to be meant; see `lock`."""
    with recording(prompter.access_log(), "usb.lock", path, watcher) as recorder:
        if request.dry_run:
            recorder.log = None
        recorder.about(_id_at(path))
        report = _lock(request, path, prompter, watcher)
        if not request.dry_run:
            recorder.about(_id_at(path))
            outcome = "failed" if report.outcome() is not None else "ok"
            recorder.record(path=path, outcome=outcome, count=report.files, size=report.size)
        return recorder.reported(report)


def _id_at(path: str) -> str:
    """The id of the drive at a folder, or ""."""
    try:
        with Vault.load(path) as vault:
            return vault.record.id
    except NotAVault:
        return ""


def _lock(request: LockRequest, path: str, prompter: Prompter, watcher: Observer) -> Report:
    check_writable(path)
    if not request.dry_run:
        _confirm_stranger(path, prompter)
    to_seal = SealRequest(
        paths=(path,),
        default_suite=request.default_suite,
        hide_names=_is_hidden(path),
        exclude=request.exclude,
        leave=_left(path),
        keep=request.keep,
        jobs=request.jobs,
        dry_run=request.dry_run,
        state_dir=request.state_dir,
    )
    _check_room(path, to_seal)
    if request.dry_run:
        return seal(to_seal, prompter, watcher)
    for one in mounts_of(path, request.state_dir):
        unmount_at(one.mountpoint, request.state_dir)
    _check_unused(path)
    with Tree(path) as tree:  # which also keeps others from unmounting it
        report = seal(to_seal, prompter, watcher)
        check_is_there(path, tree)
        if request.purge_trash:
            _purge(tree)
        if count := _survey(path, SealRequest(paths=(path,), leave=_left(path)))[0]:
            report.doubt([LeftInTheClear(path=path, count=count)], watcher)
        if trash := list(trash_of(path)):
            report.doubt([PlainTrash(path=path, count=len(trash))], watcher)
        check_there_and_write_page(path, tree, watcher)
        if report.problems:
            check_writable(path)  # any more: what the kernel finds inconsistent, it protects
    return report


def _confirm_stranger(path: str, prompter: Prompter) -> None:
    """Ask before files are sealed for keys that this machine has never seen.

    Whoever had the drive could have made it a vault of his own.
    """
    try:
        with Vault.load(path) as vault:
            record = vault.record
    except NotAVault:
        return
    if not prompter.known_vaults().is_met(record):
        confirm(
            prompter,
            _(
                "the drive was prepared on another machine, and the fingerprint of its keys is "
                "{found}: seal for these keys?"
            ).format(found=record.fingerprint),
        )


def _is_hidden(path: str) -> bool:
    """Whether the vault on a drive has hidden names, as one that is made has."""
    try:
        with Vault.load(path) as vault:
            return vault.hidden
    except NotAVault:
        return True


def unmount_at(mountpoint: str, state_dir: str) -> None:
    """Lock a drive that is mounted unlocked.

    Raises:
        MountError: see `encvault.operations.mounting.unmount`.
    """
    from encvault.operations.mounting import unmount  # noqa: PLC0415 - not on every system

    unmount(mountpoint, state_dir)


def check_writable(path: str) -> None:
    """Refuse what is mounted read-only.

    Raises:
        DriveReadOnly: it is.
    """
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise DriveReadOnly(path=path)


def _check_unused(path: str) -> None:
    """Refuse while programs have files open: what they write next would be lost."""
    if found := openers(path):
        raise DriveInUse(path=path, programs=programs_text(found))


def _left(path: str) -> tuple[str, ...]:
    """What stays in the clear at the top of a drive."""
    with Tree(path) as tree:
        names = filter(is_of_a_system, os.listdir(tree.fd))
        return (*names, *([guide.NAME] if guide.is_there(tree) else []))


def _check_room(path: str, request: SealRequest) -> None:
    """Refuse what would end in the middle: a sealed copy needs room before its original goes."""
    _count, size, largest = _survey(path, request)
    room = os.statvfs(path)
    if not size or not room.f_blocks:  # some file systems do not say how large they are
        return
    reserve = min(_MAX_RESERVE, room.f_blocks * room.f_frsize // _RESERVE_SHARE)
    batch = min(size, max(largest, BATCH_SIZE))
    needed = batch + batch // 1024 + reserve  # each chunk of 16 KiB has a tag of 16 bytes
    free = room.f_bavail * room.f_frsize
    if free < needed:
        raise DriveTooFull(path=path, needed=needed, free=free)


def _survey(path: str, request: SealRequest) -> tuple[int, int, int]:
    """Files in the clear that would be sealed: how many, their bytes, and the largest one's."""
    options = request.options()
    count = size = largest = 0
    with Tree(path) as tree:
        for folder in tree.walk(enter=lambda at: at != ".encvault" and not options.excludes(at)):
            for entry in folder.entries:
                inside = os.path.join(folder.path, entry.name)
                if entry.kind == "file" and not options.excludes(inside):
                    count += 1
                    size += entry.status.st_size
                    largest = max(largest, entry.status.st_size)
    return count, size, largest


def check_is_there(path: str, tree: Tree) -> None:
    """Refuse to go on by a path that leads elsewhere by now: to the host, below the mount point.

    Raises:
        DriveWentAway: the drive is not at its place any more.
    """
    if not os.path.samestat(os.stat(path), os.fstat(tree.fd)):
        raise DriveWentAway(path=path, reason=_("something else is in its place"))


def _purge(tree: Tree) -> None:
    """Remove what lies in trash folders; the folders stay, their systems want them."""
    for name in filter(is_trash, os.listdir(tree.fd)):
        with contextlib.suppress(OSError):  # a file, or not to be read; it is told as it stays
            fd = tree.folder(name)
            for inside in os.listdir(fd):
                durable.discard_tree(fd, inside)
                durable.discard(fd, inside)


def check_there_and_write_page(path: str, tree: Tree, observer: Observer) -> None:
    """Leave the page for who finds the drive, and have all of it on the drive.

    Raises:
        DriveWentAway: the drive is not at its place any more.
    """
    check_is_there(path, tree)
    if not guide.write(tree, _id_at(path)):
        text = _("{path} is a file of yours; the page for who finds the drive is left out")
        observer.note(text.format(path=tree.show(guide.NAME)))
    calls.sync_filesystem(tree.fd)
