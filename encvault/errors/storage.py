"""What the storage did, and what was left out."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.i18n import N_

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
    advice = N_("free some space and run the same command again")
    path: str


class CannotCreate(StorageError):
    """A file or folder could not be made."""

    exit_code = 73
    message = N_("{path}: cannot create: {reason}")
    path: str
    reason: str


class VaultNotWritable(StorageError):
    """A vault that is to be changed lies where this user may not write."""

    exit_code = 73
    message = N_("{path}: this vault cannot be changed: {reason}")
    advice = N_("to read it: encvault open --to FOLDER {path}, or encvault mount --read-only")
    path: str
    reason: str


class VaultBusy(StorageError):
    """Another run works on this vault."""

    exit_code = 75
    message = N_("{path}: another run is at work here ({holder})")
    advice = N_("wait for it to end, or unmount the vault, and try again")
    path: str
    holder: str


class SkippedError(EncvaultError):
    """One file was left as it was; the others went on."""

    exit_code = 3
    message = N_("some files were left as they were")


class RolledBack(SkippedError):
    """A vault's record is older than one that was seen before; removed keyslots may be back."""

    message = N_(
        "{path}: its record is of generation {generation}, and {known} was seen here before: "
        "an older copy was put back"
    )
    advice = N_(
        "if it was restored on purpose, say so once: encvault verify {path} "
        "--fingerprint {fingerprint}"
    )
    path: str
    generation: int
    known: int
    fingerprint: str


class FormerKeys(SkippedError):
    """A vault's record from before its keys were changed; who was revoked can open it."""

    message = N_("{path}: an old copy, from before its keys were replaced by those of {known}")
    advice = N_("open it to another folder; if the vault itself was set back, restore .encvault")
    path: str
    known: str


class SealedElsewhere(SkippedError):
    """A file that is sealed in another vault, which may be lost or be found again."""

    message = N_("{path}: sealed in another vault; it was left as it is")
    advice = N_("move it to its vault; or seal with --force to seal it once more")
    path: str


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


class NameEscaped(SkippedError):
    """A file or folder was saved, but the drive it went to cannot hold its name."""

    message = N_("{path}: this name cannot be used here; it was saved as {saved_as}")
    advice = N_("open it on a drive with another file system to have the names as they were")
    path: str
    saved_as: str


class NameShared(NameEscaped):
    """A file was saved, but a folder of the vault has its name."""

    message = N_("{path}: a file and a folder have this name; the file is called {saved_as} here")
    advice = N_("if it is a mirror and its source has one of them only, seal it with --delete")


class SharedNameTaken(SkippedError):
    """A file whose name is a folder's was to get another one, and a different file has that."""

    message = N_("{path}: is not opened: a folder has its name, and {taken} is taken as well")
    advice = N_("rename or remove {taken} if it may go; --force does not replace it")
    path: str
    taken: str


class FileBehindFolder(SkippedError):
    """A mount does not show a file, since a folder has its name."""

    message = N_("{path}: a file and a folder have this name; only the folder is shown")
    advice = N_("see the file with: encvault cat {object}")
    path: str
    object: str


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


class CannotRemove(SkippedError):
    """What a file was made into is there and proved, and the file itself cannot be removed."""

    message = N_("{path}: done, but this one cannot be removed: {reason}")
    advice = N_("remove it yourself; or when that is allowed, run the same command again")
    path: str
    reason: str


class OrphanPart(SkippedError):
    """A part of a large file whose first part is not there: a run was killed, or it was deleted."""

    message = N_("{path}: a part of a large file whose first part {first} is not there")
    advice = N_("restore that one from a backup, or run the seal that was interrupted again")
    path: str
    first: str


class FolderMissing(SkippedError):
    """Hidden layout: the object of a folder is not there, and what was in it has lost its place."""

    message = N_("{path}: the folder that was here is not there; files from it: {count}")
    advice = N_("open and move them, or restore the vault from a backup")
    path: str
    count: int


class SealedAlone(SkippedError):
    """A file in a vault's folder that has keyslots of its own."""

    message = N_("{path}: sealed on its own, not with the vault")
    advice = N_("open it by itself: encvault open {path}")
    path: str


class Incomplete(SkippedError):
    """The sum of a run that left files out; each was named before."""

    message = N_("files left as they were: {count}")
    count: int


class NamesEscaped(SkippedError):
    """The sum of a run that left nothing out, but saved some under other names."""

    message = N_("files and folders saved under another name: {count}")
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


class PartsMissing(SkippedError):
    """`doctor` found that something does not work which encvault needs."""

    message = N_("needed and not working: {count}")
    advice = N_("mend what is named above, then run again: encvault doctor")
    count: int
