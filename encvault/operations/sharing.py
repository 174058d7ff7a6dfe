"""Copies of sealed files for people outside a vault."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import selftest
from encvault.envelope import check_path
from encvault.errors import (
    CopyInVault,
    FolderNotShared,
    InvalidRequest,
    KeyRequired,
    LinkNotShared,
)
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.operations.opening import opened_file
from encvault.operations.places import each, is_same_file
from encvault.operations.recording import Recorder, recording
from encvault.operations.request import all_of
from encvault.vault.content import record_of_copy, seal_pieces
from encvault.vault.layout import sealed_name
from encvault.vault.output import OutputFile
from encvault.vault.report import Observer, Report
from encvault.vault.vault import find_vault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.errors import EncvaultError
    from encvault.keyslots import Recipient
    from encvault.operations.opening import OpenedFile
    from encvault.operations.prompter import Prompter


class ShareRequest(NamedTuple):
    """What to share and where; the fields are the options of ``encvault share``.

    Attributes:
        paths: sealed files, or plain paths of files in a vault.
        to: folder for the copies, made if it is missing; None for the current one.
        force: replace files that are in the way.
    """

    paths: tuple[str, ...]
    to: str | None = None
    force: bool = False


def share(request: ShareRequest, prompter: Prompter, observer: Observer | None = None) -> Report:
    """Make copies of sealed files that carry keyslots of their own; the originals stay.

    Every copy has a fresh key. Its content is opened and sealed again piece by piece, so that no
    plaintext touches a disk, and it gets its name only when the original was authentic to its end.
    The observer is told ``share`` with each copy's path (`Observer.action`).

    Args:
        request: see `ShareRequest`.
        prompter: is asked whom to share with (`Prompter.new_recipients`), and for a key that opens
            the original.
        observer: is told what happens.

    Raises:
        FolderNotShared, LinkNotShared: the path is a folder or a symbolic link.
        CopyInVault: the copy would lie inside a vault.
        KeyRequired: there is nobody to share with.
        DestinationExists: there is a file of the copy's name, and `force` was not given.
        NotSealed, SourceMissing: nothing is sealed there.
        EncvaultError: one path alone was given, and failed. With several, `Report.problems` says
            which did.
    """
    selftest.run()
    paths = request.paths
    with recording(
        prompter.access_log(), "share", paths[0] if len(paths) == 1 else "", observer
    ) as recorder:
        return recorder.reported(_share(request, prompter, recorder))


def _share(request: ShareRequest, prompter: Prompter, watcher: Recorder) -> Report:
    recipients: Sequence[Recipient] = ()
    if any(map(_may_be_sealed, request.paths)):  # or a password would be chosen for nothing
        what = all_of([os.path.basename(path) for path in request.paths])
        recipients = prompter.new_recipients(what, None)
        if not recipients:
            raise KeyRequired(what=what)
    made: set[str] = set()
    report = each(
        request.paths,
        lambda path: _share_one(request, path, recipients, prompter, watcher, made),
        watcher,
    )
    if report.files:
        note = _("what was shared cannot be called back: no change of keys here closes a copy")
        report.notes.append(note)
        watcher.note(note)
    return report


def _may_be_sealed(path: str) -> bool:
    return not os.path.isdir(path) and (os.path.isfile(path) or find_vault(path) is not None)


def _share_one(
    request: ShareRequest,
    path: str,
    recipients: Sequence[Recipient],
    prompter: Prompter,
    watcher: Recorder,
    made: set[str],
) -> Report:
    watcher.turns_to(path)
    if os.path.isdir(path):
        raise _refusal(path)
    folder = request.to if request.to is not None else os.curdir
    if (vault := find_vault(folder)) is not None:
        raise CopyInVault(path=path, vault=vault)
    doubts: list[EncvaultError] = []
    with opened_file(path, prompter, watcher, doubts.append, _refusal) as found:
        if found.record.type == "symlink":
            raise LinkNotShared(path=path)
        check_path(found.name, path)
        output = os.path.join(request.to or "", sealed_name(found.name))
        if is_same_file(output, path):
            raise InvalidRequest(reason=_("the output is the input itself"))
        Tree.made(folder).close()
        # two files of one name must not replace each other, whatever is said of older ones
        force = request.force and output not in made
        watcher.goes_to(output, recipients)
        with OutputFile(output, force=force) as file:
            size = _copy(found, file, recipients, watcher)
    made.add(output)
    prompter.slots_made()
    watcher.action("share", output)
    watcher.progress(1, 0)
    report = Report(files=1, size=size)
    report.doubt(doubts, watcher)
    return report


def _refusal(path: str) -> EncvaultError:
    return FolderNotShared(path=path)


def _copy(
    found: OpenedFile, file: OutputFile, recipients: Sequence[Recipient], watcher: Observer
) -> int:
    if watcher.wants_total:
        watcher.total(1, found.record.size or 0)
    return seal_pieces(
        found.pieces,
        file,
        record_of_copy(found.record, found.name),
        recipients,
        suite=found.header.suite,
        release=lambda: watcher.before_release([found.event("share")]),
        tick=lambda size: watcher.progress(0, size),
    )
