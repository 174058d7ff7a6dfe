"""Checkpoints that were kept outside the log. docs/log-format.md section 8.

They are read before the log is: one that is made meanwhile may then be missing among them, but
never among the log's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.audit import Finding
from encvault.errors import EncvaultError
from encvault.fs.durable import is_temporary
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.notes import MAX_NOTE_SIZE, Note
from encvault.tlog.reading import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable

VAULT_FOLDER = ".encvault/checkpoints"
"""Where a vault keeps the latest checkpoint of each log that recorded a change of it."""


class Anchor(NamedTuple):
    """One checkpoint from elsewhere.

    Attributes:
        place: the file that it is from.
        note: as it was read.
        checkpoint: what the note says.
        is_from_vault: whether it lay in a vault, where others may write.
    """

    place: str
    note: Note
    checkpoint: Checkpoint
    is_from_vault: bool = False


class Anchors(NamedTuple):
    """What was given as anchors, whichever log it is of.

    Attributes:
        files: from files that were named, so each is meant to be of the log.
        vaults: from each vault that was named; a vault may be known to several logs.
        unusable: what could not be read.
        broken: what a vault had beside that is no checkpoint.
    """

    files: tuple[Anchor, ...]
    vaults: tuple[tuple[str, tuple[Anchor, ...]], ...]
    unusable: tuple[Finding, ...]
    broken: tuple[Finding, ...]

    def of(self, origin: str) -> tuple[list[Anchor], list[Finding]]:
        """The anchors of one log, and what should have been one and is not."""
        found = [one for one in self.files if one.checkpoint.origin == origin]
        findings = [
            Finding("anchor-of-another-log", None, _foreign(one))
            for one in self.files
            if one.checkpoint.origin != origin
        ]
        for vault, checkpoints in self.vaults:
            own = [one for one in checkpoints if one.checkpoint.origin == origin]
            found += own
            if not own:
                text = _("{place}: this vault has no checkpoint of this log").format(place=vault)
                findings.append(Finding("anchor-missing", None, text))
        return found, findings


def read_anchors(paths: Iterable[str]) -> Anchors:
    """Read what was given as anchors.

    Args:
        paths: files of one signed note each, and folders of vaults.
    """
    files: list[Anchor] = []
    vaults: list[tuple[str, tuple[Anchor, ...]]] = []
    unusable: list[Finding] = []
    broken: list[Finding] = []
    for path in paths:
        try:
            if os.path.isdir(path):
                anchors, rest = _of_vault(path)
                vaults.append((path, tuple(anchors)))
                broken += rest
            else:
                with open(path, "rb") as file:
                    files.append(_decoded(file.read(MAX_NOTE_SIZE + 1), path))
        except OSError as error:
            text = _("{place}: cannot be read: {reason}").format(
                place=path, reason=system_reason(error)
            )
            unusable.append(Finding("anchor-unreadable", None, text))
        except EncvaultError as error:
            unusable.append(Finding("anchor-malformed", None, str(error)))
    return Anchors(tuple(files), tuple(vaults), tuple(unusable), tuple(broken))


def _of_vault(path: str) -> tuple[list[Anchor], list[Finding]]:
    anchors, broken = [], []
    with Tree(path) as tree:
        try:
            folder = tree.folder(VAULT_FOLDER)
        except FileNotFoundError:
            return [], []
        for name in sorted(os.listdir(folder)):
            if is_temporary(name):
                continue
            try:
                data = read_small(folder, name, MAX_NOTE_SIZE)
                anchor = _decoded(data, os.path.join(path, VAULT_FOLDER, name))
                anchors.append(anchor._replace(is_from_vault=True))
            except EncvaultError as error:
                broken.append(Finding("anchor-malformed", None, str(error)))
            except OSError as error:  # a folder or a link, which is no checkpoint either
                text = _("{place}: cannot be read: {reason}").format(
                    place=os.path.join(path, VAULT_FOLDER, name), reason=system_reason(error)
                )
                broken.append(Finding("anchor-malformed", None, text))
    return anchors, broken


def _decoded(data: bytes, place: str) -> Anchor:
    note = Note.decode(data, place)
    return Anchor(place, note, Checkpoint.decode(note.text, place))


def _foreign(anchor: Anchor) -> str:
    return _(
        "{place}: a checkpoint of another log, {origin}; "
        "if it was taken from this one, the log was replaced"
    ).format(place=anchor.place, origin=anchor.checkpoint.origin)
