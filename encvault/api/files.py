"""Folders and files for a program: seal, open, share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault import operations
from encvault.api.arguments import (
    StrPath,
    as_fingerprint,
    as_jobs,
    as_optional_path,
    as_optional_suite,
    as_path,
    as_patterns,
    as_recipients,
)
from encvault.api.keys import opening
from encvault.errors import InvalidRequest
from encvault.i18n import _
from encvault.operations import Answers
from encvault.operations.prompter import known_vaults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.accesslog.log import AccessLog
    from encvault.crypto.suite import Suite
    from encvault.keyslots import Identity, Recipient
    from encvault.vault.report import Observer, Report


def seal_folder(
    path: StrPath,
    recipients: Iterable[Recipient] = (),
    *,
    to: StrPath | None = None,
    archive: StrPath | None = None,
    suite: Suite | None = None,
    hide_names: bool = False,
    keep: bool = False,
    delete: bool = False,
    exclude: Iterable[str] = (),
    force: bool = False,
    consent: bool = False,
    jobs: int = 0,
    fingerprint: str = "",
    state_dir: StrPath | None = None,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> Report:
    """Seal a folder: in place, to a mirror, or as one file.

    In place, each original is removed once its sealed copy is durable, was read back and compared.

    Args:
        path: the folder; in place it becomes a vault unless it is one.
        recipients: for whom a new vault or archive is made. A vault that exists needs none; those
            given must be among its own.
        to: folder for a sealed mirror; the source stays.
        archive: file for one sealed archive (a pax tar); the source stays.
        suite: of a new vault or archive, AES-256-GCM unless given; None also fits any vault.
        hide_names: whether a new vault hides names and tree.
        keep: leave the originals beside the sealed files.
        delete: remove from a mirror what is gone from its source.
        exclude: patterns of names or paths to leave out, such as ``*.tmp``.
        force: replace what is in the way.
        consent: the answer to every question that the command line would ask.
        jobs: worker processes, 0 for one per processor. A program with threads has none.
        fingerprint: that the vault must have, or must have had before its keys were changed; then
            none is made.
        state_dir: local folder to remember in what was sealed when, and which vaults there are.
            Without it a mirror seals everything again, a file that exists plain and sealed is a
            conflict, and a vault that was exchanged is not noticed.
        observer: is told what happens.
        log: where that is recorded; nowhere without one.

    Returns:
        What was done, and every file that failed or was left.

    Raises:
        InvalidRequest: the path is a file, arguments exclude each other, or it is no fingerprint.
        KeyRequired: a vault or archive would be made for nobody.
        ConfirmationNeeded: there is a question, and no consent.
        NotARecipient, SuiteMismatch, LayoutMismatch: not as the vault is.
        VaultChanged: not the vault of this fingerprint, or not the one that is remembered.
        VaultBusy: another run is at work there.
    """
    where = as_path(path)
    if os.path.lexists(where) and not os.path.isdir(where):
        raise InvalidRequest(reason=_("{path} is a file, not a folder").format(path=where))
    request = operations.SealRequest(
        paths=(where,),
        to=as_optional_path(to),
        archive=as_optional_path(archive),
        suite=as_optional_suite(suite),
        hide_names=hide_names,
        keep=keep,
        force=force,
        delete=delete,
        exclude=as_patterns(exclude),
        jobs=as_jobs(jobs),
        state_dir=as_optional_path(state_dir),
    )
    answers = Answers(
        recipients_given=as_recipients(recipients),
        consent=consent,
        known=known_vaults(request.state_dir, as_fingerprint(fingerprint)),
        log=log,
    )
    return operations.seal(request, answers, observer)


def open_folder(
    path: StrPath,
    identities: Iterable[Identity],
    *,
    to: StrPath | None = None,
    keep: bool = False,
    force: bool = False,
    jobs: int = 0,
    state_dir: StrPath | None = None,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> Report:
    """Open a vault, a folder in it, or a sealed archive.

    In place, each sealed file is removed once its plain file is durable, was read back and
    compared.

    Args:
        path: the vault, a place in it, or the archive.
        identities: tried in order.
        to: folder for what is opened; the sealed files stay. An archive is unpacked into it.
        keep: leave the sealed files beside the opened ones.
        force: replace files that differ.
        jobs: worker processes, 0 for one per processor. A program with threads has none.
        state_dir: local folder to remember in what was opened when, as for `seal_folder`.
        observer: is told what happens.
        log: where that is recorded; nowhere without one.

    Returns:
        What was done, and every file that failed or was left.

    Raises:
        NotAVault, SourceMissing: nothing is sealed there.
        NoMatchingKeyslot: no identity fits.
        KeyRequired: there is none.
        VaultBusy: another run is at work there.
    """
    where = as_path(path)
    request = operations.OpenRequest(
        paths=(where,),
        to=as_optional_path(to),
        keep=keep,
        force=force,
        jobs=as_jobs(jobs),
        state_dir=as_optional_path(state_dir),
    )
    return operations.open_paths(request, opening(identities, where, log), observer)


def seal_file(
    path: StrPath,
    recipients: Iterable[Recipient],
    *,
    output: StrPath | None = None,
    suite: Suite | None = None,
    keep: bool = False,
    force: bool = False,
    jobs: int = 0,
    consent: bool = False,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> Report:
    """Seal one file on its own; it carries its keyslots and needs no vault.

    Without `output`, a file in a vault whose recipients these are is sealed into that vault.

    Args:
        path: the file.
        recipients: at least one.
        output: the sealed file; the original then stays. None for ``NAME.sealed`` beside it.
        suite: AES-256-GCM unless given.
        keep: leave the original.
        force: replace what is in the way.
        jobs: worker processes for a large file, 0 for one per processor. A program with threads
            has none.
        consent: the answer to every question that the command line would ask.
        observer: is told what happens.
        log: where that is recorded; nowhere without one.

    Returns:
        One file and its size in bytes.

    Raises:
        InvalidRequest: the path is a folder.
        KeyRequired: there is no recipient.
        DestinationExists: the sealed file exists, and not `force`.
        SourceMissing, SourceChanged, SkippedError: the file cannot be sealed.
    """
    where = as_path(path)
    if os.path.isdir(where):
        raise InvalidRequest(reason=_("{path} is a folder, not a file").format(path=where))
    request = operations.SealRequest(
        paths=(where,),
        output=as_optional_path(output),
        suite=as_optional_suite(suite),
        keep=keep,
        force=force,
        jobs=jobs,
    )
    answers = Answers(recipients_given=as_recipients(recipients), consent=consent, log=log)
    return operations.seal(request, answers, observer)


def open_file(
    path: StrPath,
    identities: Iterable[Identity],
    *,
    output: StrPath | None = None,
    keep: bool = False,
    force: bool = False,
    jobs: int = 0,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> Report:
    """Open one sealed file, on its own or in a vault.

    Args:
        path: the sealed file, or the plain path of a file in a vault.
        identities: tried in order.
        output: the opened file; the sealed file then stays. None for the name it had.
        keep: leave the sealed file.
        force: replace what is in the way.
        jobs: worker processes for a large file, 0 for one per processor. A program with threads
            has none.
        observer: is told what happens.
        log: where that is recorded; nowhere without one.

    Returns:
        One file and its size in bytes.

    Raises:
        NotSealed, SourceMissing: nothing is sealed there.
        IntegrityError: it is damaged; nothing is left of the opened file.
        NoMatchingKeyslot: no identity fits.
        KeyRequired: there is none.
    """
    where = as_path(path)
    request = operations.OpenRequest(
        paths=(where,), output=as_optional_path(output), keep=keep, force=force, jobs=jobs
    )
    return operations.open_paths(request, opening(identities, where, log), observer)


def share_file(
    path: StrPath,
    recipients: Iterable[Recipient],
    identities: Iterable[Identity],
    *,
    to: StrPath | None = None,
    force: bool = False,
    observer: Observer | None = None,
    log: AccessLog | None = None,
) -> Report:
    """Copy a sealed file for people outside the vault; the copy cannot be called back.

    No plaintext touches a disk, and nothing of the vault's ids or folders is in the copy.

    Args:
        path: a sealed file, or the plain path of a file in a vault.
        recipients: who can open the copy; at least one.
        identities: what opens the original, tried in order.
        to: folder for the copy ``NAME.sealed``, made if it is missing; None for the current one.
        force: replace what is in the way.
        observer: is told what happens; `Observer.action` gets the copy's path.
        log: where that is recorded; nowhere without one.

    Returns:
        One file and its size in bytes.

    Raises:
        FolderNotShared, LinkNotShared: it is a folder or a symbolic link.
        CopyInVault: the copy would lie in a vault.
        DestinationExists: there is a file of the copy's name, and not `force`.
        NotSealed, SourceMissing: nothing is sealed there.
        IntegrityError: it is damaged; there is no copy then.
        NoMatchingKeyslot: no identity fits.
        KeyRequired: there is none, or no recipient.
    """
    where = as_path(path)
    answers = Answers(
        identities_given=opening(identities, where).identities_given,
        new_recipients_given=as_recipients(recipients),
        log=log,
    )
    request = operations.ShareRequest((where,), to=as_optional_path(to), force=force)
    return operations.share(request, answers, observer)
