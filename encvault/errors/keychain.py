"""The keychain of the desktop: what it can refuse, and what must not be used as one."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.usage import ConfigError
from encvault.i18n import N_


class KeychainError(EncvaultError):
    """The keychain of the desktop cannot be used."""

    exit_code = 69
    message = N_("the keychain cannot be used")


class KeychainUnavailable(KeychainError):
    """There is no keychain, or it failed."""

    message = N_("the keychain cannot be used: {reason}")
    advice = N_("leave out --keyring, or log in to a desktop with GNOME Keyring or KWallet")
    reason: str


class KeychainUnsafe(KeychainError):
    """What there is in place of a keychain may keep passwords in the clear, or forget them."""

    message = N_("there is no keychain to rely on: {backend} is not used")
    advice = N_("leave out --keyring, or log in to a desktop with GNOME Keyring or KWallet")
    backend: str


class KeychainLocked(KeychainError):
    """The keychain is locked, and nobody is there to unlock it."""

    exit_code = 75
    message = N_("the keychain is locked")
    advice = N_("unlock it by logging in to the desktop, then run the same command again")


class KeychainTimeout(KeychainError):
    """The keychain did not answer in time; what was asking it was killed."""

    message = N_("the keychain did not answer within {seconds} s")
    advice = N_("see whether a dialogue of it waits on the screen")
    seconds: float


class KeychainForgetful(KeychainError):
    """The keychain took a password and did not give it back; nothing relies on it."""

    message = N_("the keychain ({backend}) did not give back what was stored in it")
    advice = N_("leave out --keyring: this keychain cannot be relied on")
    backend: str


class KeychainOccupied(KeychainError):
    """The keychain holds another password under this name; it is never replaced."""

    message = N_("the keychain holds another password under {account}, which stays there")
    advice = N_("remove it with: secret-tool clear service encvault username {account}")
    account: str


class NotInKeychain(ConfigError):
    """The keychain holds no password that opens this, and there is nobody to ask."""

    message = N_("the keychain holds no password that opens {what}")
    advice = N_("open it once on a terminal with --keyring: that stores the password")
    what: str


class KeychainMismatch(ConfigError):
    """What the keychain holds for this no longer opens it, and nothing else is at hand."""

    message = N_("the password that the keychain holds for {what} does not open it")
    advice = N_("remove it with: secret-tool clear service encvault username {account}")
    what: str
    account: str
