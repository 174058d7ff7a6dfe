"""Check a whole log. docs/log-format.md section 8.

What is checked is ``entries`` and ``checkpoints``; what it is checked with comes from elsewhere, or
the verdict says that it did not. Nothing is written, so a log on a read-only drive will do, and
writers may go on meanwhile: what they add after the beginning is left for the next check.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.anchors import Anchor, read_anchors
from encvault.accesslog.audit import Audit, Finding, Verdict
from encvault.accesslog.epochs import POLICY, Epochs
from encvault.accesslog.log import LOCK
from encvault.accesslog.walking import Reached, Walk, key_fault
from encvault.errors import EncvaultError, QuorumMissing
from encvault.fs import calls
from encvault.fs.locks import undisturbed
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.notes import MAX_NOTE_SIZE, Note
from encvault.tlog.policies import MAX_POLICY_SIZE, Policy
from encvault.tlog.reading import (
    CHECKPOINT,
    CHECKPOINTS,
    ENTRIES,
    iter_all_notes,
    iter_blocks,
    read_small,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE = 5.0  # seconds to wait for a writer, before looking at the log as it is


def verify(path: str, *, anchors: Sequence[str] = (), policy: str | None = None) -> Audit:
    """Check a log.

    Args:
        path: its folder.
        anchors: files of one checkpoint each, and folders of vaults.
        policy: the checker's copy of the policy; without, the log's own says whose keys are right.

    Returns:
        What was found. What cannot be read is a finding as well, not an error.
    """
    given = read_anchors(anchors)  # before the log: see there
    report = _Report(own_policy=policy is None)
    report.cannot += given.unusable
    report.notes += given.broken
    epochs = None if policy is None else _read_epochs(policy, report)
    try:
        with Tree(path) as tree, _taken(tree) as files:
            if policy is None:
                epochs = _epochs_of(files.policy, os.path.join(path, POLICY), report)
            if epochs is not None:
                report.epochs = epochs
                own, foreign = given.of(epochs.calendar.origin)
                report.cannot += foreign
                _check(files, epochs, own, report)
    except (FileNotFoundError, NotADirectoryError):
        finding = Finding("no-log", None, _("there is no log in {path}").format(path=path))
        (report.wrong if epochs or given.files else report.cannot).append(finding)
    except OSError as error:
        report.cannot.append(Finding("unreadable", None, _unreadable(path, error)))
    return report.audit()


# -- what is found --------------------------------------------------------------------------


class _Report:
    """Collects what an `Audit` says.

    Args:
        own_policy: whether the keys are from the log's own folder.
    """

    def __init__(self, *, own_policy: bool) -> None:
        self.own_policy = own_policy
        self.epochs: Epochs | None = None
        self.wrong: list[Finding] = []  # for TAMPERED
        self.cannot: list[Finding] = []  # for CANNOT-VERIFY
        self.notes: list[Finding] = []
        self.reached = Reached()
        self.first_at = ""
        self.anchored_size = 0

    def audit(self) -> Audit:
        if self.wrong:
            verdict = Verdict.TAMPERED
        elif self.cannot:
            verdict = Verdict.CANNOT_VERIFY
        else:
            verdict = Verdict.ANCHORED_OK if self.anchored_size else Verdict.OK_UNANCHORED
        return Audit(
            verdict=verdict,
            origin=self.epochs.calendar.origin if self.epochs else "",
            size=self.reached.size,
            checkpoint=self.reached.note,
            anchored_size=self.anchored_size,
            open_from=self.reached.open_from,
            first_at=self.first_at if self.reached.size else "",
            last_at=self.reached.last_at,
            own_policy=self.own_policy,
            policy_digest=self.epochs.digest if self.epochs else "",
            wrong=(*self.wrong, *self.cannot),
            notes=tuple(self.notes),
        )


def _read_epochs(path: str, report: _Report) -> Epochs | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_POLICY_SIZE + 1)
    except OSError as error:
        report.cannot.append(Finding("policy", None, _unreadable(path, error)))
        return None
    return _epochs_of(data, path, report)


def _epochs_of(data: bytes, path: str, report: _Report) -> Epochs | None:
    try:
        return Epochs.of(Policy.decode(data, path))
    except EncvaultError as error:
        text = str(error)
    except ValueError:
        text = _("{place}: a policy, but not the keys of the days of a log").format(place=path)
    report.cannot.append(Finding("policy", None, text))
    return None


def _unreadable(place: str, error: OSError) -> str:
    reason = system_reason(error)
    return _("{place}: cannot be read: {reason}").format(place=place, reason=reason)


# -- files ----------------------------------------------------------------------------------


class _Files(NamedTuple):
    """The files of a log as they were at one moment.

    Attributes:
        entries, checkpoints: descriptor and size; None if the file is missing.
        latest: the file ``checkpoint``; empty if it is missing.
        policy: likewise.
    """

    entries: tuple[int, int] | None
    checkpoints: tuple[int, int] | None
    latest: bytes
    policy: bytes


@contextlib.contextmanager
def _taken(tree: Tree) -> Iterator[_Files]:
    with contextlib.ExitStack() as stack:
        with undisturbed(tree, LOCK, _PATIENCE):
            # each is written before the one that is looked at before it
            latest = _settled(tree, CHECKPOINT, MAX_NOTE_SIZE)
            checkpoints = _opened(tree, CHECKPOINTS, stack)
            entries = _opened(tree, ENTRIES, stack)
        if entries is None and checkpoints is None:
            raise FileNotFoundError(ENTRIES)
        yield _Files(entries, checkpoints, latest, _small(tree, POLICY, MAX_POLICY_SIZE))


def _small(tree: Tree, name: str, limit: int) -> bytes:
    try:
        return read_small(tree.fd, name, limit)
    except FileNotFoundError:
        return b""


def _settled(tree: Tree, name: str, limit: int) -> bytes:
    """A small file that a writer may be writing over, if there was no lock to be had."""
    data = _small(tree, name, limit)
    while data != (again := _small(tree, name, limit)):
        data = again
    return data


def _opened(tree: Tree, name: str, stack: contextlib.ExitStack) -> tuple[int, int] | None:
    try:
        fd = calls.open_read(tree.fd, name)
    except FileNotFoundError:
        return None
    stack.callback(os.close, fd)
    return fd, os.fstat(fd).st_size


# -- rules ----------------------------------------------------------------------------------


def _check(files: _Files, epochs: Epochs, anchors: list[Anchor], report: _Report) -> None:
    latest = files.latest if _is_whole(files.latest) else b""
    if files.latest and not latest:
        text = _("the file checkpoint is torn; the next entry mends it")
        report.notes.append(Finding("torn", None, text))
    walk = Walk(epochs, latest)
    genuine = [one for one in anchors if _is_genuine(one, epochs, report)]
    walk.go(
        iter_blocks(files.entries[0], 0, files.entries[1]) if files.entries else (),
        iter_all_notes(files.checkpoints[0], 0, files.checkpoints[1]) if files.checkpoints else (),
        genuine,
    )
    report.wrong += walk.wrong
    report.cannot += walk.unread
    report.notes += walk.notes()
    report.reached, report.first_at = walk.reached, walk.first_at
    if not report.own_policy and files.policy and not _same_keys(files.policy, epochs):
        text = _("the log's folder has another policy than the one that was given")
        report.wrong.append(Finding("policy-file", None, text))
    if not walk.size:
        text = _("nothing in this log is signed")
        finding = Finding("unsigned-log", None, text)
        (report.cannot if report.own_policy and not anchors else report.wrong).append(finding)
    _check_anchors(genuine, walk, epochs, report)


def _is_whole(data: bytes) -> bool:
    try:
        Checkpoint.decode(Note.decode(data, CHECKPOINT).text, CHECKPOINT)
    except EncvaultError:
        return False
    return True


def _same_keys(data: bytes, epochs: Epochs) -> bool:
    try:
        return Policy.decode(data, POLICY).logs == epochs.policy.logs
    except EncvaultError:
        return False


def _is_genuine(anchor: Anchor, epochs: Epochs, report: _Report) -> bool:
    """Whether an anchor was made by the log. If not, either it or the policy was exchanged."""
    try:
        epochs.policy.check(anchor.note, anchor.place)
    except QuorumMissing:
        pass
    except EncvaultError as error:
        finding = Finding("anchor-forged", None, str(error))
        if anchor.is_from_vault:  # where others may write what they like
            report.notes.append(finding)
        else:
            (report.wrong if report.own_policy else report.cannot).append(finding)
        return False
    if anchor.checkpoint.extensions or not anchor.checkpoint.size:
        text = _("{place}: no checkpoint that this log could have made").format(place=anchor.place)
        report.wrong.append(Finding("anchor-forged", None, text))
        return False
    return True


def _check_anchors(anchors: list[Anchor], walk: Walk, epochs: Epochs, report: _Report) -> None:
    held = Reached()
    for anchor in sorted(anchors, key=lambda one: one.checkpoint.size):
        count = anchor.checkpoint.size
        stop = walk.stops.get(count)
        if stop is None:
            text = _("{place}: there were {count} signed entries, and there are {found}").format(
                place=anchor.place, count=count, found=walk.size
            )
            report.wrong.append(Finding("anchor-larger", None, text))
        elif stop.root != anchor.checkpoint.root:
            text = _("{place}: the first {count} entries were others").format(
                place=anchor.place, count=count
            )
            report.wrong.append(Finding("anchor-root", None, text))
            report.reached = min(report.reached, held, key=lambda one: one.size)
        elif reason := key_fault(anchor.note, stop.epoch, epochs):
            finding = Finding("anchor-key", None, f"{anchor.place}: {reason}")
            report.wrong.append(finding)
        else:
            held = stop.reached
            if _has_quorum(anchor, epochs):
                report.anchored_size = count
            else:
                reason = str(QuorumMissing(place=anchor.place))
                report.notes.append(Finding("anchor-quorum", None, reason))


def _has_quorum(anchor: Anchor, epochs: Epochs) -> bool:
    try:
        epochs.policy.check(anchor.note, anchor.place)
    except QuorumMissing:
        return False
    return True
