"""Every way encvault can refuse, one class each: message, hint and exit code.

The tree is the contract with scripts (docs/scripting.md): the exit code and the class name, which
is the ``error`` field of JSON output, do not change with the language or between minor versions.
Codes follow sysexits(3) where it has one. ``docs/exit-codes.md`` is generated from this module.

A leaf names the thing that is wrong (`ChunkCorrupt`), a group ends in ``Error``
(docs/adr/0003-error-names.md). Fields are keyword-only and typed; the message is built from them
when it is shown, in the language active then. Bugs are ``AssertionError``, never one of these.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, dataclass_transform

from encvault.i18n import N_, _


@dataclass_transform(kw_only_default=True)
class EncvaultError(Exception):
    """Root of everything that encvault raises on purpose."""

    exit_code: ClassVar[int] = 1
    message: ClassVar[str] = N_("the operation failed")
    advice: ClassVar[str] = ""

    def __init__(self, **fields: object) -> None:
        expected = self.field_names()
        if fields.keys() != expected:
            raise AssertionError(f"errors: {type(self).__name__} takes {sorted(expected)}")
        super().__init__(*fields.values())
        self.__dict__.update(fields)

    @classmethod
    def field_names(cls) -> frozenset[str]:
        """Names of the fields that the message is built from."""
        own = {name for base in cls.__mro__[:-3] for name in inspect.get_annotations(base)}
        return frozenset(own - {"exit_code", "message", "advice"})

    def fields(self) -> dict[str, Any]:
        """The fields by name, for ``--json``."""
        return {name: self.__dict__[name] for name in sorted(self.field_names())}

    @property
    def hint(self) -> str | None:
        """What to do about it, or None."""
        return _(self.advice).format(**self.fields()) if self.advice else None

    def __str__(self) -> str:
        return _(self.message).format(**self.fields())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.fields())


def _rebuild(cls: type[EncvaultError], fields: dict[str, Any]) -> EncvaultError:
    return cls(**fields)


# -- configuration and use ------------------------------------------------------------------


class ConfigError(EncvaultError):
    """Something the run needs to know is missing or wrong."""

    exit_code = 78
    message = N_("the configuration is not usable")


class PasswordUnavailable(ConfigError):
    """A password is needed and there is nobody to ask."""

    message = N_("a password is needed for {what}, and there is no terminal to ask on")
    advice = N_("give --password-file, --password-fd, --password-command or --identity")
    what: str


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
    advice = N_("choose a password, or use a recipient: encvault seal -r FILE")


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


# -- keys -----------------------------------------------------------------------------------


class KeyslotError(EncvaultError):
    """Keys and the slots that hold them."""

    exit_code = 77
    message = N_("the keys do not fit")


class NoMatchingKeyslot(KeyslotError):
    """Wrong password or wrong key; one error for both, so that it tells an attacker nothing."""

    message = N_("{path}: wrong password or no matching key")
    advice = N_("see which keys fit with: encvault info {path}")
    path: str


class NotARecipient(KeyslotError):
    """A vault that exists is sealed for whom its slots name, and for nobody else."""

    message = N_("{path}: the given password or recipient is not among those who can open it")
    advice = N_("leave it out to seal for those who can; see them with: encvault info {path}")
    path: str


class WrongIdentityPassword(KeyslotError):
    """The identity file's own password is wrong."""

    message = N_("{path}: wrong password for this identity")
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
    advice = N_("make one with: encvault seal {path}")
    path: str


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


# -- storage --------------------------------------------------------------------------------


class StorageError(EncvaultError):
    """Files and the systems that hold them."""

    exit_code = 74
    message = N_("the storage failed")


class InputOutputError(StorageError):
    """The operating system reported an error on one file."""

    message = N_("{path}: {reason}")
    path: str
    reason: str


class SourceMissing(StorageError):
    """The path does not exist."""

    exit_code = 66
    message = N_("{path}: no such file or folder")
    path: str


class DestinationExists(StorageError):
    """Nothing that existed is ever overwritten unasked."""

    exit_code = 73
    message = N_("{path}: exists already")
    advice = N_("move it away, or say --force to replace it")
    path: str


class IdentityExists(StorageError):
    """A new identity would replace a file, perhaps the only key to what was sealed."""

    exit_code = 73
    message = N_("{path}: exists already, and an identity file is never replaced")
    advice = N_("choose another file with: encvault key new -o FILE")
    path: str


class OutOfSpace(StorageError):
    """The disk or the quota is full."""

    exit_code = 73
    message = N_("{path}: no space left")
    advice = N_("free some space and run the same command again: it goes on where it stopped")
    path: str


class CannotCreate(StorageError):
    """A file or folder could not be made."""

    exit_code = 73
    message = N_("{path}: cannot create: {reason}")
    path: str
    reason: str


class VaultBusy(StorageError):
    """Another run works on this vault."""

    exit_code = 75
    message = N_("{path}: another run is at work here ({holder})")
    advice = N_("wait for it to end and try again")
    path: str
    holder: str


class SkippedError(EncvaultError):
    """One file was left as it was; the others went on."""

    exit_code = 3
    message = N_("some files were left as they were")


class SourceChanged(SkippedError):
    """The file changed while it was read."""

    message = N_("{path}: changed while it was read, so it was left as it was")
    advice = N_("close the program that writes it and run the same command again")
    path: str


class ChangedInArchive(SkippedError):
    """The file changed while it was archived; what was written of it cannot be taken back."""

    message = N_("{path}: changed while it was read; its copy in the archive may be mixed")
    advice = N_("close the program that writes it and make the archive again")
    path: str


class Unreadable(SkippedError):
    """The file may not be read."""

    message = N_("{path}: cannot be read: {reason}")
    path: str
    reason: str


class SpecialFile(SkippedError):
    """Sockets, devices and FIFOs cannot be sealed."""

    message = N_("{path}: left alone, it is a {kind}")
    path: str
    kind: str


class Conflict(SkippedError):
    """A plain and a sealed copy that differ, and neither is known to be the newer one."""

    message = N_("{path}: a plain and a different sealed copy exist; both were kept")
    advice = N_("rename or remove one of them, or say --force to let the new one win")
    path: str


class NameTaken(SkippedError):
    """Another file has the name that the sealed copy needs."""

    message = N_("{path}: the name {other} of its sealed copy is another file's")
    advice = N_("rename one of the two")
    path: str
    other: str


class NestedVault(SkippedError):
    """A vault inside the folder."""

    message = N_("{path}: left alone, it is a vault of its own")
    path: str


class OtherVersions(SkippedError):
    """A hidden vault holds several files of one name.

    Another machine, or one without its memory of the vault, sealed into it as well.
    """

    message = N_("{path}: was sealed more than once; the latest was opened, {object} stays sealed")
    advice = N_("see the other one with: encvault cat {object}")
    path: str
    object: str


class OrphanPart(SkippedError):
    """A part of a large file whose first part is not there: a run was killed, or it was deleted."""

    message = N_("{path}: a part of a large file whose first part {first} is not there")
    advice = N_("restore that one from a backup, or run the seal that was interrupted again")
    path: str
    first: str


class SealedAlone(SkippedError):
    """A file in a vault's folder that has keyslots of its own."""

    message = N_("{path}: sealed on its own, not with the vault")
    advice = N_("open it by itself: encvault open {path}")
    path: str


class Incomplete(SkippedError):
    """The sum of a run that left files out; each was named before."""

    message = N_("files left as they were: {count}")
    count: int


class PlaintextPresent(SkippedError):
    """`status` found files that are not sealed."""

    message = N_("files not sealed: {count}")
    advice = N_("seal them with: encvault seal {path}")
    count: int
    path: str


class UnreadablePresent(SkippedError):
    """`status` found nothing plain, but folders or files that it cannot read."""

    message = N_("folders and files that cannot be read: {count}")
    advice = N_("make them readable, or run this as a user who may read them")
    count: int
