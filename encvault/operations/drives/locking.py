"""Seal everything on a drive, and leave it so that it can be pulled out."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import (
    DriveInUse,
    DriveNotEmpty,
    DriveReadOnly,
    DriveRecordsLost,
    DriveTooFull,
    LeftInTheClear,
    NotAVault,
    PlainTrash,
)
from encvault.fs import calls, durable
from encvault.fs.mounts import kind_of, mounts
from encvault.fs.users import openers, programs_text
from encvault.i18n import _, ngettext, size_text
from encvault.operations.drives.found import (
    Which,
    check_is_there,
    is_read_only,
    mounts_of,
    place_of,
    reached,
    state_of,
)
from encvault.operations.prompter import Prompter, confirm
from encvault.operations.recording import recording
from encvault.operations.request import DEFAULT_SUITE, SealRequest
from encvault.operations.sealing import init_vault, seal
from encvault.usb import guide
from encvault.usb.litter import system_folders, trash, trash_folders
from encvault.vault.inspect import is_sealed_in
from encvault.vault.layout import is_object
from encvault.vault.manifest import FOLDER, LOCK_FILE, OBJECTS_FOLDER, RECORD_FILES
from encvault.vault.pool import BATCH_FILES, BATCH_SIZE, default_jobs
from encvault.vault.report import Observer, Report
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from encvault.crypto.suite import Suite
    from encvault.fs.tree import Tree
    from encvault.vault.manifest import VaultRecord

_MAX_RESERVE = 64 << 20  # bytes that stay free
_DAMAGED_BY_PULLING = ("vfat", "msdos")
_OBJECT_SIZE = 1024  # bytes of header and record
_RESERVE_SHARE = 100  # or a hundredth of a small drive


class LockRequest(NamedTuple):
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
    with reached(path) as tree:
        check_writable(path)
        _refuse_lost(tree)
        count = _survey(tree, SealRequest(paths=(path,), leave=_left(tree))).count
        if count and not keep_existing:
            raise DriveNotEmpty(path=path, which=which.words, count=count)
        record = init_vault(path, prompter, observer, suite=suite, hide_names=True)
        finish(tree, observer or Observer())
        return record


def lock(request: LockRequest, prompter: Prompter, observer: Observer | None = None) -> Report:
    """Seal everything on a drive, in place, and leave it so that it can be pulled out.

    Raises:
        EncvaultError: nothing was begun; see `encvault.errors.usb`.
    """
    path = place_of(request.which, prompter)
    with reached(path) as tree:
        return lock_reached(request, tree, prompter, observer or Observer())


def lock_reached(request: LockRequest, tree: Tree, prompter: Prompter, watcher: Observer) -> Report:
    """The same of a drive that was reached; see `lock`."""
    path = tree.path
    with recording(prompter.access_log(), "usb.lock", path, watcher) as recorder:
        if request.dry_run:
            recorder.log = None
        recorder.about(_id_at(path))
        report = _lock(request, tree, prompter, watcher)
        if not request.dry_run:
            recorder.about(_id_at(path))
            outcome = "failed" if report.outcome() is not None else "ok"
            recorder.record(path=path, outcome=outcome, count=report.files, size=report.size)
        return recorder.reported(report)


def _record_at(path: str) -> VaultRecord | None:
    """The record of the vault on the drive at a folder, or None."""
    try:
        with Vault.load(path) as vault:
            return vault.record
    except NotAVault:
        return None


def _id_at(path: str) -> str:
    """The id of the drive at a folder, or ""."""
    record = _record_at(path)
    return "" if record is None else record.id


def _lock(request: LockRequest, tree: Tree, prompter: Prompter, watcher: Observer) -> Report:
    path = tree.path
    if not request.dry_run and _is_locked_by_unmounting(tree, request.state_dir):
        return Report()
    check_writable(path)
    _refuse_lost(tree)
    if not request.dry_run:
        confirm_checked(tree, prompter)
        _confirm_stranger(path, prompter)
    record = _record_at(path)
    is_hidden = record is None or record.layout == "hidden"
    to_seal = SealRequest(
        paths=(path,),
        default_suite=request.default_suite,
        hide_names=is_hidden,
        exclude=request.exclude,
        leave=_left(tree),
        keep=request.keep,
        jobs=request.jobs,
        dry_run=request.dry_run,
        state_dir=request.state_dir,
    )
    survey = _survey(tree, to_seal)
    _check_room(path, survey, request.jobs or default_jobs())
    if request.dry_run:
        return seal(to_seal, prompter, watcher)
    _check_unused(path)
    if not is_hidden:
        watcher.note(
            _("{path} was sealed without --hide-names: whoever has it can read the names").format(
                path=path
            )
        )
    for place in _mounted_inside(path):
        watcher.note(
            _("{path}: something else is mounted there; it is left").format(path=tree.show(place))
        )
    if survey.count:
        watcher.note(
            ngettext(
                "{count} file is to be sealed on {path}",
                "{count} files are to be sealed on {path}",
                survey.count,
            ).format(count=survey.count, path=path)
        )
    report = seal(to_seal, prompter, watcher)
    check_is_there(path, tree)
    if request.purge_trash:
        _purge(tree)
    _tell_what_stays(tree, request.which.words, report, watcher)
    finish(tree, watcher)
    if report.problems:
        check_writable(path)  # any more: what the kernel finds inconsistent, it protects
    return report


def _is_locked_by_unmounting(tree: Tree, state_dir: str) -> bool:
    """Unmount its view; whether nothing more can be done with it, and need not be."""
    for one in mounts_of(tree.path, state_dir):
        unmount_at(one.mountpoint, state_dir)
    return is_read_only(tree.path) and state_of(tree, state_dir) == "locked"


def _tell_what_stays(tree: Tree, which: str, report: Report, watcher: Observer) -> None:
    """What is still in the clear, whyever it is, makes no locked drive."""
    path = tree.path
    if count := _survey(tree, SealRequest(paths=(path,), leave=_left(tree))).count:
        report.doubt([LeftInTheClear(path=path, which=which, count=count)], watcher)
    if count := sum(1 for _file in trash(tree)):
        report.doubt([PlainTrash(path=path, which=which, count=count)], watcher)


def confirm_checked(tree: Tree, prompter: Prompter) -> None:
    """Ask before anything is written to FAT that was pulled out while it was written.

    Its table may give the same clusters to two files then. The kernel writes to it all the same,
    and what is written destroys what was written and proved before.
    """
    try:
        with Vault.load(tree.path) as vault:
            was_interrupted = tree.status(LOCK_FILE).st_size > 0 and not vault.is_in_use
    except (NotAVault, FileNotFoundError):
        return
    if was_interrupted and kind_of(os.fstat(tree.fd).st_dev) in _DAMAGED_BY_PULLING:
        confirm(
            prompter,
            _(
                "{path} was pulled out while it was written, which can damage FAT: unmount it, "
                "check it with fsck.vfat -a and its device, and mount it again; was that done?"
            ).format(path=tree.path),
        )


def _confirm_stranger(path: str, prompter: Prompter) -> None:
    """Ask before files are sealed for keys that this machine has never seen.

    Whoever had the drive could have made it a vault of his own.
    """
    record = _record_at(path)
    if record is not None and not prompter.known_vaults().is_met(record):
        confirm(
            prompter,
            _(
                "the drive was prepared on another machine, and the fingerprint of its keys is "
                "{found}: seal for these keys?"
            ).format(found=record.fingerprint),
        )


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
    if is_read_only(path):
        raise DriveReadOnly(path=path)


def _check_unused(path: str) -> None:
    """Refuse while programs have files open: what they write next would be lost."""
    if found := openers(path):
        raise DriveInUse(path=path, programs=programs_text(found))


def _refuse_lost(tree: Tree) -> None:
    """Refuse to make a new vault over sealed files of one whose records are lost."""
    if any(tree.exists(name) for name in RECORD_FILES) or not tree.exists(OBJECTS_FOLDER):
        return
    for folder in tree.walk(OBJECTS_FOLDER):
        if any(is_object(entry.name) for entry in folder.entries):
            raise DriveRecordsLost(path=tree.path)


def _left(tree: Tree) -> tuple[str, ...]:
    """What stays as it is: folders of systems, the page, and what is mounted inside."""
    page = [guide.NAME] if guide.is_there(tree) else []
    return (*system_folders(tree), *page, *_mounted_inside(tree.path))


def _mounted_inside(path: str) -> list[str]:
    """Paths, relative to a drive, where something else is mounted: it is not on the drive."""
    above = os.path.join(path, "")
    return sorted({one.path.removeprefix(above) for one in mounts() if one.path.startswith(above)})


def _check_room(path: str, survey: _Survey, jobs: int) -> None:
    """Refuse what would end in the middle: a sealed copy needs room before its original goes.

    Each job may have a batch that is sealed while another's originals are not yet removed.
    """
    room = os.statvfs(path)
    if not survey.size or not room.f_blocks:  # some file systems do not say how large they are
        return
    reserve = min(_MAX_RESERVE, room.f_blocks * room.f_frsize // _RESERVE_SHARE)
    batches = jobs + 1
    content = min(survey.size, max(survey.largest, BATCH_SIZE * batches))
    # each object begins a cluster, and has some hundred bytes that the original has not
    rounding = min(survey.count, BATCH_FILES * batches) * (room.f_frsize + _OBJECT_SIZE)
    needed = content + content // 1024 + rounding + reserve
    free = room.f_bavail * room.f_frsize
    if free < needed:
        raise DriveTooFull(path=path, needed=size_text(needed), free=size_text(free))


@dataclass(slots=True)
class _Survey:
    """Files in the clear that would be sealed.

    Attributes:
        count: how many.
        size: their bytes.
        largest: of the largest one.
    """

    count: int = 0
    size: int = 0
    largest: int = 0


def _survey(tree: Tree, request: SealRequest) -> _Survey:
    options = request.options()
    found = _Survey()
    record = _record_at(tree.path)
    for folder in tree.walk(enter=lambda at: at != FOLDER and not options.excludes(at)):
        for entry in folder.entries:
            inside = os.path.join(folder.path, entry.name)
            if entry.kind != "file" or options.excludes(inside):
                continue
            if record is None or not is_sealed_in(tree, folder.path, entry, record):
                found.count += 1
                found.size += entry.status.st_size
                found.largest = max(found.largest, entry.status.st_size)
    return found


def _purge(tree: Tree) -> None:
    """Remove what lies in trash folders; the folders stay, their systems want them."""
    mounted = _mounted_inside(tree.path)
    for name in trash_folders(tree):
        if any(place == name or place.startswith(f"{name}/") for place in mounted):
            continue
        with contextlib.suppress(OSError):  # what is not to be read is told as it stays
            for inside in os.listdir(tree.folder(name)):
                durable.discard(tree.folder(name), inside)
                durable.discard_tree(tree, os.path.join(name, inside))


def finish(tree: Tree, observer: Observer) -> None:
    """Leave the page for who finds the drive, and have all of it on the drive.

    Raises:
        DriveWentAway: the drive is not at its place any more.
    """
    check_is_there(tree.path, tree)
    if not guide.write(tree, _id_at(tree.path)):
        text = _("{path} is a file of yours; the page for who finds the drive is left out")
        observer.note(text.format(path=tree.show(guide.NAME)))
    calls.sync_filesystem(tree.fd)
