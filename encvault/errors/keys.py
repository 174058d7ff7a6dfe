"""Keys, and the slots that hold them."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.i18n import N_


class KeyslotError(EncvaultError):
    """Keys and the slots that hold them."""

    exit_code = 77
    message = N_("the keys do not fit")


class NoMatchingKeyslot(KeyslotError):
    """Wrong password or wrong key; one error for both, so that it tells an attacker nothing."""

    message = N_("{path}: wrong password or no matching key")
    advice = N_("see which keys fit with: encvault info {path}")
    path: str


class PendingKeyslots(NoMatchingKeyslot):
    """No key fits, and there are passwords that were good before the vault's keys were changed."""

    message = N_(
        "{path}: no matching key; the keys were changed, and these passwords must be set again: "
        "{labels}"
    )
    advice = N_("ask someone who can open it for: encvault passwd {path} --slot SLOT")
    path: str
    labels: str


class NotARecipient(KeyslotError):
    """A vault that exists is sealed for whom its slots name, and for nobody else."""

    message = N_("{path}: the given password or recipient is not among those who can open it")
    advice = N_("leave it out to seal for those who can; see them with: encvault info {path}")
    path: str


class VaultChanged(KeyslotError):
    """A vault with another key than the one that is known: somebody may have exchanged it."""

    message = N_(
        "{path}: not the vault that is known: its fingerprint is {found}, "
        "and {expected} was expected"
    )
    advice = N_("ask its owner for the fingerprint; if it is right, say --fingerprint {found}")
    path: str
    expected: str
    found: str


class StrangeVault(KeyslotError):
    """A vault that is met for the first time inside a known one: somebody may have planted it."""

    message = N_("{path}: a vault that is new here, {found}, inside the known vault {outer}")
    advice = N_("ask its owner for the fingerprint; if it is right, say --fingerprint {found}")
    path: str
    outer: str
    found: str


class ReplacedKeys(KeyslotError):
    """Something would be sealed for keys that were replaced since, perhaps for who was revoked."""

    message = N_("{path}: its keys were replaced by those of {known}; nothing is sealed for it")
    advice = N_(
        "restore the newer .encvault folder; if it is lost for good, remove the vault's entry from "
        "known_vaults.json"
    )
    path: str
    known: str


class LostVault(KeyslotError):
    """Sealed files whose vault is not there: a new one in its place would not open them."""

    exit_code = 66
    message = N_("{path}: {file} was sealed in a vault whose folder .encvault is not here")
    advice = N_(
        "if that vault lies elsewhere, put the file back there; else restore .encvault from a "
        "copy; seal --force seals it once more"
    )
    path: str
    file: str


class AwayFromVault(KeyslotError):
    """A file that was sealed in a vault lies elsewhere, as one that was mailed or copied."""

    exit_code = 66
    message = N_("{path}: was sealed in a vault, and opens only where that vault's .encvault is")
    advice = N_("put it back into its vault; a file for somebody else is made by: encvault share")
    path: str


class VaultMissing(KeyslotError):
    """No vault where one is expected by its fingerprint; none is made in its place."""

    exit_code = 66
    message = N_("{path}: there is no vault, and one with the fingerprint {expected} was expected")
    advice = N_("see whether the share or drive is mounted")
    path: str
    expected: str


class WrongIdentityPassword(KeyslotError):
    """The identity file's own password is wrong."""

    message = N_("{path}: wrong password for this identity")
    advice = N_("if its password is in the keychain, say --keyring")
    path: str


class MistypedRecoveryCode(KeyslotError):
    """A recovery code that is not as it was printed; a check symbol tells which group."""

    message = N_("group {group} of {groups} of the recovery code is not as it was printed")
    advice = N_("compare this group with the sheet and type the code again")
    group: int
    groups: int


class NoSuchKeyslot(KeyslotError):
    """The vault has no keyslot of this id."""

    exit_code = 66
    message = N_("{path} has no keyslot {slot}")
    advice = N_("see the keyslots: encvault slot list {path}")
    path: str
    slot: str


class NeededKeyslot(KeyslotError):
    """A keyslot that must stay, or nobody could open the vault without a key file."""

    exit_code = 2
    message = N_("{path} needs its keyslot {slot}: {reason}")
    advice = N_("add another one first: encvault slot add {path}")
    path: str
    slot: str
    reason: str


class KeptKeyslot(KeyslotError):
    """A keyslot cannot be revoked by its own key: whoever stays must be able to open the vault."""

    exit_code = 2
    message = N_("{path}: keyslot {slot} is the one that opened it, and cannot be revoked with it")
    advice = N_("open the vault with a key that stays: --identity FILE, --recovery or a password")
    path: str
    slot: str


class UnprovedKeyslot(KeyslotError):
    """A new keyslot that did not open when it was tried; it was not stored."""

    exit_code = 65
    message = N_("{path}: the new keyslot does not open; nothing was changed")
    advice = N_("check the memory of this machine")
    path: str


class MalformedIdentity(KeyslotError):
    """The file is not an identity file, or is damaged."""

    exit_code = 65
    message = N_("{path}: not a usable identity file: {reason}")
    path: str
    reason: str


class MalformedRecipient(KeyslotError):
    """A recipient string or file that cannot be read."""

    exit_code = 65
    message = N_("{source}: not a usable recipient: {reason}")
    advice = N_("get the line again from its owner: encvault key export -i FILE")
    source: str
    reason: str


class WorkFactorTooLarge(KeyslotError):
    """A file asks for more password hashing than any honest file would."""

    exit_code = 65
    message = N_("{path}: asks for {memory_kib} KiB and {passes} passes of Argon2, above the cap")
    advice = N_("do not open this file: it was made to exhaust this machine")
    path: str
    memory_kib: int
    passes: int


class TooLittleMemory(KeyslotError):
    """The system does not give the memory that hashing a password takes."""

    exit_code = 69
    message = N_("hashing the password takes {needed_mib} MiB of memory, more than there is")
    advice = N_("close other programs, or raise the limit of memory (ulimit -v, MemoryMax=)")
    needed_mib: int
