"""Vaults as file systems: what keeps one from being mounted, and from being unmounted."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.storage import SkippedError
from encvault.i18n import N_


class MountError(EncvaultError):
    """A vault cannot be shown as a file system."""

    exit_code = 69
    message = N_("the vault cannot be mounted")


class FuseUnavailable(MountError):
    """What mounts are made with is not there."""

    message = N_("vaults cannot be mounted here: {reason}")
    advice = N_("install what is missing with: {fix}; see: encvault doctor")
    reason: str
    fix: str


class MountFailed(MountError):
    """The system refused the mount, or the process that should serve it ended."""

    message = N_("{path}: cannot be mounted: {reason}")
    advice = N_("see what is wrong with: encvault doctor")
    path: str
    reason: str


class MountLost(MountError):
    """The process that served a mount was killed while somebody used it."""

    exit_code = 74
    message = N_("{path}: the process that served the mount ended unexpectedly")
    advice = N_("what was saved is in the vault; run the same command again")
    path: str


class NamespacesUnavailable(MountError):
    """The system does not let this user have a mount of his own."""

    message = N_("a mount for one command alone cannot be made: {reason}")
    advice = N_(
        "let ordinary users have one: sudo sysctl user.max_user_namespaces=15000 "
        "kernel.unprivileged_userns_clone=1; or use: encvault mount"
    )
    reason: str


class MountpointUnusable(MountError):
    """Where a vault should be mounted is no place for that."""

    exit_code = 73
    message = N_("{path}: nothing can be mounted here: {reason}")
    advice = N_("name an empty folder, or one that does not exist yet")
    path: str
    reason: str


class NotMounted(MountError):
    """There is no mount to unmount."""

    exit_code = 66
    message = N_("{path}: no vault is mounted here")
    advice = N_("see what is mounted with: encvault mount")
    path: str


class MountBusy(MountError):
    """Programs still use a mount."""

    exit_code = 75
    message = N_("{path}: is in use by {programs}")
    advice = N_("close them, or leave the folder in them, and run the same command again")
    path: str
    programs: str


class NotSaved(SkippedError):
    """A mount ended before all that was written into it was in the vault."""

    message = N_("{path}: its mount ended with files not saved: {count}")
    advice = N_("the next encvault mount of the vault names them")
    path: str
    count: int


class OthersMount(MountError):
    """A mount that this user may not take away."""

    message = N_("{path}: mounted by {user}, and only they or root can unmount it")
    path: str
    user: str


class UnmountFailed(MountError):
    """The system does not take a mount away."""

    message = N_("{path}: cannot be unmounted: {reason}")
    path: str
    reason: str


class UnmountedBadly(MountError):
    """A mount is gone, and everything is saved, but something else went wrong at the end."""

    exit_code = 74
    message = N_("{path}: unmounted, with everything saved; but then: {reason}")
    path: str
    reason: str


class FileNotSaved(SkippedError):
    """One of those files; the vault has what was last saved of it, or nothing."""

    message = N_("{path}: the last changes were not saved when its mount ended")
    path: str


class SavedAside(SkippedError):
    """Somebody else has changed a file since it was opened through a mount; both are kept."""

    message = N_("{path}: changed by somebody else meanwhile; yours is saved as {name}")
    advice = N_("compare the two, and remove one of them")
    path: str
    name: str


class PlainSide(MountError):
    """A folder is where a vault is mounted; what is asked for needs the vault itself."""

    exit_code = 2
    message = N_("{path}: here a vault is mounted, with its files in the clear")
    advice = N_("name the vault itself: {vault}")
    path: str
    vault: str


class CommandNotFound(MountError):
    """`run` was given a command that does not exist."""

    exit_code = 127
    message = N_("{command}: there is no such command")
    command: str


class CommandNotRunnable(MountError):
    """`run` was given a command that the system does not run."""

    exit_code = 126
    message = N_("{command}: cannot be run: {reason}")
    command: str
    reason: str
