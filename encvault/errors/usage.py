"""What was asked for, and what the run needs to know."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.i18n import N_


class ConfigError(EncvaultError):
    """Something the run needs to know is missing or wrong."""

    exit_code = 78
    message = N_("the configuration is not usable")


class PasswordUnavailable(ConfigError):
    """A password is needed and there is nobody to ask."""

    message = N_("a password is needed for {what}, and there is no terminal to ask on")
    advice = N_("give --password-file, --password-fd, --password-command, --keyring or --identity")
    what: str


class NewPasswordUnavailable(PasswordUnavailable):
    """A password is to be set, and there is nobody to ask."""

    message = N_("a new password is needed for {what}, and there is no terminal to ask on")
    advice = N_("give --new-password-file, --new-password-fd or --new-password-command")


class RecoveryCodeUnavailable(PasswordUnavailable):
    """A recovery code is needed, and there is nobody to ask."""

    message = N_("a recovery code is needed for {what}, and there is no terminal to ask on")
    advice = N_("give --recovery-file or --recovery-fd")


class PasswordSourceFailed(ConfigError):
    """The file, descriptor or command that should give the password did not."""

    message = N_("cannot read the password from {source}: {reason}")
    source: str
    reason: str


class KeysUnreadable(ConfigError):
    """The file of an identity or of recipients cannot be read."""

    message = N_("{path}: cannot read the identity or recipient: {reason}")
    path: str
    reason: str


class EmptyPassword(ConfigError):
    """An empty password protects nothing."""

    message = N_("the password is empty")
    advice = N_("choose a password, or seal for a recipient with -r FILE")


class KeyRequired(ConfigError):
    """Nothing was given to seal for or open with."""

    message = N_("{what} needs a password or a key, and none was given")
    advice = N_("use --identity FILE, --recipient FILE or --password-file FILE")
    what: str


class StateUnavailable(ConfigError):
    """The local state folder cannot be used."""

    message = N_("cannot use the local state folder {path}: {reason}")
    advice = N_("set XDG_STATE_HOME to a folder that you may write to")
    path: str
    reason: str


class HomeUnknown(ConfigError):
    """The user has no home folder, and nothing says where encvault's own files belong."""

    message = N_("this user has no home folder, and {variable} is not set")
    advice = N_("set HOME, or {variable} to the absolute path of a folder")
    variable: str


class KnownVaultsDamaged(ConfigError):
    """What this machine remembers of vaults cannot be understood."""

    message = N_("{path}: damaged; it says which vaults are known")
    advice = N_("restore it; or remove it, and check the fingerprints of your vaults anew")
    path: str


class RequestError(EncvaultError):
    """The request itself makes no sense; nothing was touched."""

    exit_code = 2
    message = N_("the request cannot be carried out")


class InvalidRequest(RequestError):
    """Options or paths that do not go together."""

    message = N_("{reason}")
    reason: str


class ConfirmationNeeded(RequestError):
    """A risky step must be confirmed, and there is nobody to ask."""

    message = N_("{question}")
    advice = N_("say --yes if you mean it")
    question: str


class Declined(RequestError):
    """The person answered no."""

    message = N_("nothing was done")


class SuiteMismatch(RequestError):
    """A vault has one suite for its whole life."""

    message = N_("the vault uses {vault_suite}, not {asked_suite}")
    advice = N_("leave out --suite, or make a new vault with: encvault init --suite {asked_suite}")
    vault_suite: str
    asked_suite: str


class LayoutMismatch(RequestError):
    """A vault has one layout for its whole life."""

    message = N_("the vault has the {vault_layout} layout, not {asked_layout}")
    advice = N_("make a new vault in another folder with: encvault seal --to DEST")
    vault_layout: str
    asked_layout: str


class AlreadyAVault(RequestError):
    """`init` on a folder that is a vault."""

    message = N_("{path} is a vault already")
    advice = N_("see it with: encvault info {path}")
    path: str


class FolderNotShared(RequestError):
    """`share` copies single sealed files; a folder must be opened and sealed as one."""

    message = N_("{path} is a folder, and only single files can be shared")
    advice = N_(
        "open it with: encvault open --to DEST {path}; "
        "then seal it as one file: encvault seal --archive FILE -r WHO DEST"
    )
    path: str


class LinkNotShared(RequestError):
    """`share` copies content; a symbolic link has only the path that it points to."""

    message = N_("{path} is a symbolic link, and only the path it points to could be shared")
    advice = N_("share the file that it points to; see the path with: encvault cat {path}")
    path: str


class CopyInVault(RequestError):
    """A file with its own keyslots does not belong into a vault, which would seal it once more."""

    message = N_("{path}: its copy would lie inside the vault {vault}")
    advice = N_("name a folder outside with --to")
    path: str
    vault: str
