"""Removable drives: which one is meant, and what keeps it from being locked or pulled out.

The field ``which`` has the words of a command line that name the drive, as
`encvault.operations.drives.Which.words`: a folder that is none is named with ``--path``.
"""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.storage import SkippedError
from encvault.errors.usage import ConfigError
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
    message = N_("{path}: {needed} must be free to begin, and {free} are")
    advice = N_("move some files away and run the same command again")
    path: str
    needed: str
    free: str


class DriveNotEmpty(EncvaultError):
    """A drive that is to start empty has files on it."""

    exit_code = 73
    message = N_("{path}: has {count} files that are not sealed")
    advice = N_("seal them as well with: encvault usb lock {which}; or say --keep-existing")
    path: str
    which: str
    count: int


class DriveUnlocked(SkippedError):
    """A drive has files in the clear, or is being used unlocked; it stays where it is."""

    message = N_("{path}: not locked")
    advice = N_("lock it with: encvault usb lock {which}")
    path: str
    which: str


class LeftInTheClear(SkippedError):
    """Files on a drive stayed in the clear: kept, excluded, or not sealed for another reason."""

    message = N_("{path}: {count} files are still in the clear")
    advice = N_("see which with: encvault usb status {which}")
    path: str
    which: str
    count: int


class PlainTrash(SkippedError):
    """The trash of other systems keeps files in the clear on a drive that was locked."""

    message = N_("{path}: {count} files in the clear in its trash folders")
    advice = N_("remove them for good with: encvault usb lock {which} --purge-trash")
    path: str
    which: str
    count: int


class DriveNeverLocked(EncvaultError):
    """A drive that is to be registered has no id yet: it gets one when it is locked or prepared."""

    exit_code = 2
    message = N_("{path}: was never locked, so it has no id")
    advice = N_(
        "lock it with: encvault usb lock {which}; an empty one with: encvault usb init {which}"
    )
    path: str
    which: str


class NotRegistered(EncvaultError):
    """The register has no drive that is called so."""

    exit_code = 66
    message = N_("{drive}: no such drive is registered")
    advice = N_("see which are with: encvault usb allow")
    drive: str


class RegisterDamaged(ConfigError):
    """The register of drives, or its key, is not what was written."""

    message = N_("{path}: not a register of drives, or changed since it was written")
    advice = N_("put back a copy of it; without one remove it and allow the drives again")
    path: str


class RegisterKeyMissing(ConfigError):
    """The register can be read here and not changed: its secret key is elsewhere."""

    message = N_("{path}: the secret key of the register {register} is not there")
    advice = N_("change the register on the machine where it was made, and copy it from there")
    path: str
    register: str


class UdevAbsent(EncvaultError):
    """Nobody tells of drives that come and go."""

    exit_code = 69
    message = N_("watching drives needs udev, and it does not run here")
    advice = N_("see what is missing with: encvault doctor; usb list works without it")


class DriveUnregistered(SkippedError):
    """A drive came that is not one of the company's, or perhaps not the one that it says."""

    message = N_("{drive}: not a registered drive: {standing}")
    advice = N_("if it is one of yours: encvault usb allow {drive}")
    drive: str
    standing: str


class DrivePulledUnlocked(SkippedError):
    """A drive was pulled out while its files were in the clear, or mounted unlocked."""

    message = N_("{drive}: pulled out while it was unlocked")
    advice = N_("plug it in again and lock it; what was being written may be lost")
    drive: str


class HookFailed(SkippedError):
    """A command that was to run when a drive came or went did not."""

    message = N_("{command}: {reason}")
    command: str
    reason: str


class DriveRecordsLost(EncvaultError):
    """Sealed files lie on a drive, and the records of their vault do not."""

    exit_code = 65
    message = N_("{path}: has sealed files, and both records of their vault are lost")
    advice = N_(
        "put back .encvault/vault.a.json from a copy of the drive; else move .encvault away, and "
        "what is in it stays sealed"
    )
    path: str


class DriveStillUsed(DriveError):
    """A drive was unmounted, and something else of the same stick is mounted still."""

    message = N_("{path} is unmounted, and the same stick is still used at {others}")
    advice = N_("do not pull it out yet; eject these as well")
    path: str
    others: str
