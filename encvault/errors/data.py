"""What is wrong with sealed data."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.i18n import N_

# -- format ---------------------------------------------------------------------------------


class FormatError(EncvaultError):
    """Bytes that are not what they should be."""

    exit_code = 65
    message = N_("the data is not in a format that encvault reads")


class NotSealed(FormatError):
    """The file does not begin with the magic bytes."""

    message = N_("{path}: not a sealed file")
    path: str


class NotAVault(FormatError):
    """The folder holds no vault."""

    exit_code = 66
    message = N_("{path}: not a vault, and not inside one")
    advice = N_("a vault is the folder with .encvault in it; make one with: encvault seal {path}")
    path: str


class SealedBelow(NotAVault):
    """The folder holds no vault, but a file that was sealed in one, perhaps in another place."""

    message = N_("{path}: not a vault, and not inside one; {file} in it was sealed in a vault")
    advice = N_(
        "a sealed file opens where the .encvault of its vault is: put it back there, or restore "
        ".encvault from a copy"
    )
    file: str


class UnsupportedVersion(FormatError):
    """Made by a newer encvault."""

    message = N_("{path}: format version {version} is newer than this program")
    advice = N_("install a newer encvault")
    path: str
    version: int


class UnknownSuite(FormatError):
    """A cipher suite this version does not have."""

    message = N_("{path}: unknown cipher suite {suite}")
    advice = N_("install a newer encvault")
    path: str
    suite: int


class UnknownFlags(FormatError):
    """A flag this version does not have; what it means cannot be ignored safely."""

    message = N_("{path}: unknown feature flags {flags:#06x}")
    advice = N_("install a newer encvault")
    path: str
    flags: int


class MalformedHeader(FormatError):
    """The header breaks a rule of docs/format.md."""

    message = N_("{path}: malformed header: {reason}")
    path: str
    reason: str


class MalformedRecord(FormatError):
    """The authenticated metadata record breaks a rule of docs/format.md."""

    message = N_("{path}: malformed metadata record: {reason}")
    path: str
    reason: str


class MalformedVault(FormatError):
    """The vault's own files break a rule of docs/format.md."""

    message = N_("{path}: malformed vault: {reason}")
    advice = N_("restore the .encvault folder from a backup: the sealed files need it")
    path: str
    reason: str


class SuiteUnavailable(FormatError):
    """The suite is known, but this machine's libraries cannot run it."""

    exit_code = 69
    message = N_("the cipher suite {suite} does not work on this machine: {reason}")
    advice = N_("install cryptography 50 or newer from its official wheel")
    suite: str
    reason: str


# -- integrity ------------------------------------------------------------------------------


class IntegrityError(EncvaultError):
    """Data that does not authenticate. Nothing of it was released."""

    exit_code = 65
    message = N_("the data does not authenticate")


class HeaderTampered(IntegrityError):
    """The key commitment does not match: header, salt or commitment were changed."""

    message = N_("{path}: the header or the key does not belong to this body")
    advice = N_("restore this file from a backup; the other files are not affected")
    path: str


class ChunkCorrupt(IntegrityError):
    """One chunk's tag does not match."""

    message = N_("{path}: chunk {index} at byte {offset} does not authenticate")
    advice = N_("restore this file from a backup; the other files are not affected")
    path: str
    index: int
    offset: int


class Truncated(IntegrityError):
    """The file ends before its last chunk."""

    message = N_("{path}: cut off at byte {size}")
    advice = N_("restore this file from a backup; the other files are not affected")
    path: str
    size: int


class SwappedFile(IntegrityError):
    """A sealed file stands where another belongs."""

    message = N_("{path}: holds the file that was sealed as {sealed_as}")
    advice = N_("put the files back under their names; if nobody here moved them, someone else did")
    path: str
    sealed_as: str


class ForeignFile(IntegrityError):
    """A sealed file of another vault."""

    message = N_("{path}: belongs to another vault ({vault})")
    advice = N_("open it in its own vault, or move it out of this folder")
    path: str
    vault: str


class UnknownDataKey(IntegrityError):
    """The data key file that a sealed file names is missing or damaged."""

    message = N_("{path}: its data key {key} is missing or damaged")
    advice = N_("restore .encvault/keys from a backup")
    path: str
    key: str


class KeysMissing(IntegrityError):
    """Files of the vault's own that it had before are gone: what was sealed with them is lost."""

    message = N_("{path}: its own file {missing} is gone, and with it what opens the sealed files")
    advice = N_("bring the folder .encvault back, from the trash or a backup, before all else")
    path: str
    missing: str


class MissingPart(IntegrityError):
    """A large file of a hidden vault lacks one of its parts."""

    message = N_("{path}: part {part} is missing")
    path: str
    part: str


class UnsafePath(IntegrityError):
    """A name from an archive or a record that would leave the target folder, or make it a vault."""

    message = N_("{path}: the name {name!r} would do harm in or outside the target folder")
    advice = N_("this is not made by encvault: do not trust the file")
    path: str
    name: str


class VerificationFailed(IntegrityError):
    """The sealed or opened copy, read back, is not what was written."""

    message = N_("{path}: the copy read back differs from the original, which was kept")
    advice = N_("check the disk and the memory of this machine")
    path: str


class DamagedFiles(IntegrityError):
    """The sum of a run that met damaged files; each was named before."""

    message = N_("damaged files: {count}")
    count: int


class SelfTestFailed(IntegrityError):
    """The cryptographic known-answer test failed: this installation must not be used."""

    exit_code = 69
    message = N_("cryptographic self-test failed: {name}")
    advice = N_("reinstall encvault and cryptography")
    name: str
