"""Removable drives: which one is meant, and what keeps it from being locked or pulled out."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.storage import SkippedError
from encvault.i18n import N_


class DriveError(EncvaultError):
    """A drive cannot be worked with now."""

    exit_code = 75
    message = N_("the drive cannot be used now")


class DriveAbsent(DriveError):
    """No drive that is plugged in is called so."""

    message = N_("{drive}: no such drive is plugged in")
    advice = N_("see which there are with: encvault usb list")
    drive: str


class DriveNotMounted(DriveError):
    """A drive is plugged in, and its files cannot be reached."""

    message = N_("{drive}: plugged in, and not mounted")
    advice = N_("mount it with: udisksctl mount -b {node}")
    drive: str
    node: str


class DriveInUse(DriveError):
    """Programs have files of a drive open."""

    message = N_("{path}: in use by {programs}")
    advice = N_("close them and run the same command again")
    path: str
    programs: str


class EjectFailed(DriveError):
    """The system does not let a drive go."""

    message = N_("{path}: cannot be unmounted: {reason}")
    advice = N_("everything is written; shut the machine down before you pull the drive out")
    path: str
    reason: str


class DriveWentAway(EncvaultError):
    """A drive was pulled out, or its file system gave up."""

    exit_code = 74
    message = N_("{path}: the drive went away: {reason}")
    advice = N_("plug it in again and run the same command: it goes on where it stopped")
    path: str
    reason: str


class DriveAmbiguous(EncvaultError):
    """Several drives are called so; none is chosen."""

    exit_code = 2
    message = N_("{drive}: several drives are called so: {found}")
    advice = N_("name one of these; see: encvault usb list")
    drive: str
    found: str


class NoDrive(EncvaultError):
    """What was named is no removable drive."""

    exit_code = 2
    message = N_("{path}: no removable drive: {reason}")
    advice = N_("see which there are with: encvault usb list; for any other folder say --path DIR")
    path: str
    reason: str


class DriveReadOnly(EncvaultError):
    """Nothing can be written to a drive."""

    exit_code = 73
    message = N_("{path}: mounted read-only")
    advice = N_("slide its switch, or repair its file system, and plug it in again")
    path: str


class DriveTooFull(EncvaultError):
    """The sealed copy of the largest files would not fit beside them."""

    exit_code = 73
    message = N_("{path}: {needed} bytes must be free to begin, and {free} are")
    advice = N_("move some files away and run the same command again")
    path: str
    needed: int
    free: int


class DriveNotEmpty(EncvaultError):
    """A drive that is to start empty has files on it."""

    exit_code = 73
    message = N_("{path}: has {count} files that are not sealed")
    advice = N_("seal them as well with: encvault usb lock {path}; or say --keep-existing")
    path: str
    count: int


class DriveUnlocked(SkippedError):
    """A drive has files in the clear, or is being used unlocked; it stays where it is."""

    message = N_("{path}: not locked")
    advice = N_("lock it with: encvault usb lock {path}; or say --force")
    path: str


class LeftInTheClear(SkippedError):
    """Files on a drive stayed in the clear: kept, excluded, or not sealed for another reason."""

    message = N_("{path}: {count} files are still in the clear")
    advice = N_("see which with: encvault usb status {path}")
    path: str
    count: int


class PlainTrash(SkippedError):
    """The trash of other systems keeps files in the clear on a drive that was locked."""

    message = N_("{path}: {count} files in the clear in its trash folders")
    advice = N_("remove them for good with: encvault usb lock {path} --purge-trash")
    path: str
    count: int
