"""One walk over all entries and checkpoints of a log. docs/log-format.md section 8, rules 1 to 5.

Nothing derived is read, so no index can lead past an entry: every line between the first and the
last checkpoint is hashed, and is an entry or a fault.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.audit import Finding
from encvault.accesslog.events import NewerEntry, facts_of
from encvault.errors import EncvaultError, ForgedNote, UnknownSigner
from encvault.i18n import _, ngettext
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.merkle import Frontier, leaf_hashes
from encvault.tlog.notes import Note
from encvault.tlog.reading import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from encvault.accesslog.anchors import Anchor
    from encvault.accesslog.epochs import Epochs

FIRST = "log.init"
LAST = "log.epoch"

_STEPS = "log.clock"
_RECOVERIES = "log.recover"
_OWN = frozenset({FIRST, LAST, _STEPS, _RECOVERIES})


class Reached(NamedTuple):
    """How far a log holds.

    Attributes:
        size: entries.
        note: the checkpoint over them, as text; "" if there is none.
        open_from: index of the first entry of the epoch that has not ended.
        last_at: ``ts`` of the last entry; "" if there is none.
    """

    size: int = 0
    note: str = ""
    open_from: int = 0
    last_at: str = ""


class Stop(NamedTuple):
    """What the log was at the size of an anchor.

    Attributes:
        root: of the tree, 32 bytes.
        epoch: whose key signs a checkpoint of that size.
        reached: how far the log holds below.
    """

    root: bytes
    epoch: int
    reached: Reached


class Walk:
    """Goes through the entries and the checkpoints side by side.

    Args:
        epochs: whose keys have to have signed.
        latest: the file ``checkpoint``, if it is whole; else empty.

    Attributes:
        reached: the last checkpoint that holds with all that is before it.
        size: entries under the last checkpoint, whatever is wrong.
        first_at: ``ts`` of entry 0; "" if there is none.
        wrong: the faults, the first of each rule.
        unread: why something cannot be judged here.
        stops: what the log was at the sizes of the anchors.
    """

    def __init__(self, epochs: Epochs, latest: bytes) -> None:
        self._epochs = epochs
        self._latest = latest
        self._frontier = Frontier()
        self._above = epochs.calendar.begin
        self._epoch = 0
        self._day = epochs.calendar.day(0)
        self._is_over = False  # whether the last entry ended the epoch
        self._open_from = 0
        self._events: dict[str, list[int]] = {}  # how often and where first, by what happened
        self._rest = 0
        self.reached = Reached()
        self.size = 0
        self.first_at = ""
        self.wrong: list[Finding] = []
        self.unread: list[Finding] = []
        self.stops: dict[int, Stop] = {}

    def go(
        self,
        blocks: Iterable[list[bytes]],
        notes: Iterable[tuple[int, bytes]],
        anchors: Sequence[Anchor],
    ) -> None:
        """Walk.

        Args:
            blocks: all lines of ``entries``, in lists.
            notes: all of ``checkpoints``, and where each begins.
            anchors: at whose sizes to stop.
        """
        sizes = sorted({anchor.checkpoint.size for anchor in anchors}, reverse=True)
        checkpoints = self._checkpoints(notes)
        following = next(checkpoints, None)
        for block in blocks:
            start = 0
            while following is not None and start < len(block):
                before = self._frontier.size
                target = following[1].size
                if sizes and sizes[-1] <= target:
                    target = sizes[-1]
                lines = block[start : start + target - before]
                start += len(lines)
                self._read(lines)
                if self._frontier.size < target:
                    continue
                if following[1].size == target:
                    self._check(*following)
                    following = next(checkpoints, None)
                if sizes and sizes[-1] == target:
                    self.stops[sizes.pop()] = Stop(self._frontier.root, self._epoch, self.reached)
            self._rest += len(block) - start
        if following is not None:
            text = _("{count} entries are signed, and there are {found}").format(
                count=following[1].size, found=self._frontier.size
            )
            self._fault("missing", self._frontier.size, text)
        for _left in checkpoints:
            pass  # so that each is looked at
        if self._latest:
            self._fault("latest", None, _("the latest checkpoint is none of those that were kept"))

    def notes(self) -> list[Finding]:
        """What is no fault, and worth knowing."""
        found = []
        if at := self._events.get(_RECOVERIES):
            text = ngettext(
                "a crash was recovered from", "{count} crashes were recovered from", at[0]
            )
            found.append(Finding("recovered", at[1], text.format(count=at[0])))
        if at := self._events.get(_STEPS):
            text = ngettext("the clock was moved", "the clock was moved {count} times", at[0])
            found.append(Finding("clock", at[1], text.format(count=at[0])))
        if at := self._events.get("wall"):
            text = ngettext(
                "an entry was recorded with a clock that was behind",
                "{count} entries were recorded with a clock that was behind",
                at[0],
            )
            found.append(Finding("behind", at[1], text.format(count=at[0])))
        if self._rest:
            text = ngettext(
                "an entry at the end has no checkpoint, and is not recorded",
                "{count} entries at the end have no checkpoint, and are not recorded",
                self._rest,
            )
            found.append(Finding("unsigned", self.size, text.format(count=self._rest)))
        return found

    # -- checkpoints ------------------------------------------------------------------------

    def _checkpoints(self, notes: Iterable[tuple[int, bytes]]) -> Iterator[tuple[Note, Checkpoint]]:
        """Those that are well formed, of this log, and larger than the one before."""
        size = 0
        for _start, data in notes:
            if data == self._latest:
                self._latest = b""
            try:
                note = Note.decode(data, CHECKPOINTS)
                checkpoint = Checkpoint.decode(note.text, CHECKPOINTS)
            except EncvaultError as error:
                self._fault("malformed", None, str(error))
                continue
            if checkpoint.extensions:
                text = _("the checkpoint of {count} entries has lines that none of this log has")
                self._fault("extension", None, text.format(count=checkpoint.size))
            elif checkpoint.origin != self._epochs.calendar.origin:
                text = _(
                    "a checkpoint is of {origin}, which is not the log of the policy; "
                    "if the policy is the right one, the log was replaced"
                )
                self._fault("origin", None, text.format(origin=checkpoint.origin))
            elif checkpoint.size <= size:
                text = _("a checkpoint of {count} entries stands after one of {before}")
                self._fault("shrinks", None, text.format(count=checkpoint.size, before=size))
            else:
                size = checkpoint.size
                yield note, checkpoint

    def _check(self, note: Note, checkpoint: Checkpoint) -> None:
        size = self.size = checkpoint.size
        if checkpoint.root != self._frontier.root:
            text = _("the entries are not those that the checkpoint of {count} entries was made of")
            self._fault("root", None, text.format(count=size))
        if (reason := key_fault(note, self._epoch, self._epochs)) is not None:
            text = _("the checkpoint of {count} entries: {reason}")
            self._fault("key", None, text.format(count=size, reason=reason))
        if not self.wrong and not self.unread:
            open_from = size if self._is_over else self._open_from
            self.reached = Reached(size, note.encode().decode(), open_from, self._above)

    # -- entries ----------------------------------------------------------------------------

    def _read(self, lines: list[bytes]) -> None:
        for index, line in enumerate(lines, self._frontier.size):
            if self._is_over:
                self._open_next(index)
            try:
                op, ts, is_behind, epoch = facts_of(line)
            except NewerEntry as error:
                text = _("entry {index}: {reason}").format(index=index, reason=_(str(error)))
                if not self.unread:
                    self.unread.append(Finding("version", index, text))
                continue
            except ValueError as error:
                text = _("entry {index} is none: {reason}")
                self._fault("entry", index, text.format(index=index, reason=_(str(error))))
                continue
            if not index:
                self._check_first(line, op, ts)
            elif ts[:10] != self._day or epoch is not None or op in _OWN:
                self._check_special(index, op, ts, epoch)
            if ts < self._above or (is_behind and ts != self._above):
                text = _("entry {index} is of a time that does not follow that of the one above")
                self._fault("time", index, text.format(index=index))
            if is_behind:
                self._count("wall", index)
            self._above = ts
        self._frontier = self._frontier.extended(leaf_hashes(lines))

    def _open_next(self, index: int) -> None:
        """Begin an epoch with an entry; the one before must have been closed right before it."""
        if self.size != index:
            text = _("the closing checkpoint of {day} is missing")
            self._fault("closing", index - 1, text.format(day=self._day))
        self._is_over = False
        self._open_from = index
        self._epoch += 1
        self._day = self._epochs.calendar.day(self._epoch)

    def _check_first(self, line: bytes, op: str, ts: str) -> None:
        self.first_at = ts
        if op != FIRST or ts[:10] < self._day:
            self._fault("init", 0, _("entry 0 does not begin a log"))
        elif json.loads(line).get("policy") != self._epochs.digest:
            text = _(
                "entry 0 names other keys than those of the policy; "
                "if the policy is the right one, the log was made anew"
            )
            self._fault("policy", 0, text)

    def _check_special(self, index: int, op: str, ts: str, epoch: int | None) -> None:
        """Check an entry of another day, or about the log itself."""
        if op in (_STEPS, _RECOVERIES):
            self._count(op, index)
        if op == FIRST:
            text = _("entry {index} begins a log, and is not the first")
            self._fault("init", index, text.format(index=index))
        if op == LAST:
            self._is_over = True
            if epoch != self._epoch:
                text = _("entry {index} ends another day than {day}")
                self._fault("epoch", index, text.format(index=index, day=self._day))
            elif ts[:10] <= self._day:
                text = _("entry {index} ends {day} before it was over")
                self._fault("day", index, text.format(index=index, day=self._day))
        elif epoch is not None:
            text = _("entry {index} ends another day than {day}")
            self._fault("epoch", index, text.format(index=index, day=self._day))
        elif ts[:10] != self._day:
            text = _("entry {index} is of {found}, and stands among those of {day}")
            self._fault("day", index, text.format(index=index, found=ts[:10], day=self._day))

    # -- findings ---------------------------------------------------------------------------

    def _fault(self, rule: str, index: int | None, text: str) -> None:
        """Note a fault, unless one of its rule is: the first is what caused the others."""
        if all(rule != finding.rule for finding in self.wrong):
            self.wrong.append(Finding(rule, index, text))

    def _count(self, what: str, index: int) -> None:
        self._events.setdefault(what, [0, index])[0] += 1


def key_fault(note: Note, epoch: int, epochs: Epochs) -> str | None:
    """Why a checkpoint is not one of its epoch; None if it is.

    Whoever has a later key could have made any tree with it, so that one is no excuse (systemd,
    CVE-2023-31439).

    Args:
        note: whose text is a checkpoint of the log.
        epoch: that its size lies in.
        epochs: of the log.
    """
    keys = epochs.policy.logs
    names = [one.name for one in note.signatures]
    if names.count(epochs.calendar.origin) > 1:
        return _("signed more than once by the log")
    try:
        signer = epochs.policy.log_key(note, CHECKPOINTS)
    except ForgedNote:
        return _("the signature is wrong")
    except UnknownSigner:
        return _("signed with a key that is not the log's")
    if epoch < len(keys) and signer == keys[epoch]:
        return None
    day = epochs.calendar.day(epoch)
    if epochs.of_key(signer) > epoch:
        return _("signed with the key of a later day than {day}").format(day=day)
    return _("signed with the key of an earlier day than {day}").format(day=day)
