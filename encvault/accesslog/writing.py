"""One turn of a writer of the log, under its lock. docs/log-format.md sections 5 to 7."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from encvault.accesslog.epochs import KEY, POLICY, Calendar, Seed, published_key
from encvault.accesslog.events import encode_all, facts_of
from encvault.accesslog.redaction import PathForm, Redactor
from encvault.crypto import signing
from encvault.errors import ClockWrong, EncvaultError, LogDamaged, LogExhausted
from encvault.fs import calls, durable
from encvault.i18n import _
from encvault.tlog.notes import Note, sign_note
from encvault.tlog.policies import MAX_POLICY_SIZE
from encvault.tlog.reading import CHECKPOINTS
from encvault.tlog.store import MAX_BATCH, Batch, Memo, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from encvault.fs.tree import Tree
    from encvault.secret import Secret

Members = Mapping[str, str | int]

DEFAULT_SETTINGS = "paths=full required=yes"
CLOSINGS = "closings"
CLOSING_SIZE = 8  # bytes: where the closing checkpoint of an epoch begins

_STEP = timedelta(seconds=2)  # what the clock may differ from the machine's running time unnoticed
_MAX_LEAP = 190  # days without an entry after which the clock is thought to be wrong
_DRIFT = 0.001  # and the share of that time


class Turn:
    """What one writer does before another may.

    Args:
        tree: the log's folder; it has a policy, and its lock is held.
        shared: the members that say who records, and when.
        paths: what to record of paths.
        settings: of the log, in words; recorded when they are others than before.

    Raises:
        LogDamaged: the log is not what was signed, or not the one of its key.
        OSError: it cannot be read.
    """

    def __init__(self, tree: Tree, shared: Members, paths: PathForm, settings: str) -> None:
        self._tree = tree
        self._settings = settings
        self._paths = paths
        try:
            self._calendar = Calendar.load(tree)
        except ValueError:
            raise self._damaged(_("its policy is none")) from None
        self._store = Store(tree, self._calendar.origin, _fold)
        self._store.catch_up()
        if not self._memo_holds():
            self._store.fsck()
        self._memo = self._store.memo
        self._last: Members = json.loads(self._memo["line"]) if self._store.size else {}
        self._shared = _never_back(shared, str(self._last.get("ts", self._calendar.begin)))
        self._batches: list[Batch] = []
        self._seeds: list[Seed] = []
        self._publics: dict[int, bytes] = {}  # of their keys, where that is known

    def _memo_holds(self) -> bool:
        """Whether what is remembered of the entries fits them, as far as that shows at their end.

        The file that remembers is derived. One that lied about the epoch could have its seed
        thrown away.
        """
        if not self._store.size:
            return True
        memo = self._store.memo
        try:
            line = memo["line"].encode() + b"\n"
            op, _ts, _behind, _epoch = facts_of(line[:-1])
            signer = memo.get("epoch", 0) - (op == "log.epoch")
            (signature, *_more) = Note.decode(self._store.checkpoint, CHECKPOINTS).signatures
            is_signer = signature.key_id == published_key(self._tree, signer).key_id
        except (ValueError, KeyError, TypeError, AttributeError, EncvaultError):
            return False
        return is_signer and self._store.ends_with(line)

    @property
    def log_id(self) -> str:
        """Of the log."""
        return self._calendar.log_id

    def record(self, events: Sequence[Members], common: Members) -> bytes:
        """Add events, after what the log has to say of itself; see `AccessLog.record`.

        Returns:
            The checkpoint over them, a note.
        """
        ts = str(self._shared["ts"])
        today = self._calendar.at(ts)
        if today >= self._calendar.days:
            last = self._calendar.day(self._calendar.days - 1)
            raise LogExhausted(path=self._tree.path, last=last, today=ts[:10])
        ended = self._memo.get("epoch", 0)
        if self._last and today - ended > _MAX_LEAP:
            raise ClockWrong(path=self._tree.path, today=ts[:10])
        closed = range(ended, today)
        redactor = Redactor(self._tree, self._paths)
        try:
            kept = self._load_seed()
            if self._store.size == 0:
                self._add([self._init()])
            first = len(self._batches)
            for epoch in closed:
                self._add([{"op": "log.epoch", "outcome": "ok", "epoch": epoch}])
                self._seeds.append(self._seeds[-1].next())
            if own := [*self._own_events()]:
                self._add(own)
            common = redactor.redacted(common, ts[:7])
            for start in range(0, len(events), MAX_BATCH):
                part = events[start : start + MAX_BATCH]
                self._add([redactor.redacted(one, ts[:7]) for one in part], common)
            starts = self._store.append(self._batches, self._memo) if self._batches else []
            if kept != today:
                self._seeds[-1].store(self._tree)
        finally:
            for seed in self._seeds:
                seed.value.wipe()
        self._note_closings(closed, starts[first : first + len(closed)])
        return self._store.checkpoint

    def _add(self, each: Sequence[Members], common: Members | None = None) -> None:
        """Add a batch, signed with the key of the epoch that the turn has come to."""
        lines = encode_all({**self._shared, **(common or {})}, each)
        # what is said of the log itself is in its own entries and in the last one
        for line in lines if common is None else lines[-1:]:
            _fold(self._memo, line)
        seed = self._seeds[-1]
        public = self._publics.get(seed.epoch)
        signer = _Signer(self._calendar.origin, seed.signing_key(), public)
        self._batches.append(Batch(lines, signer))

    def _own_events(self) -> Iterator[Members]:
        """What the log says of itself before anything else."""
        for torn in self._store.torn(self._memo.get("torn", ())):
            yield {
                "op": "log.recover",
                "outcome": "ok",
                "detail": torn.file,
                "size": torn.size,
                "count": torn.count,
            }
        if self._last and (step := _step(self._last, self._shared)):
            milliseconds = round(step / timedelta(milliseconds=1))
            yield {"op": "log.clock", "outcome": "ok", "step_ms": milliseconds}
        if self._memo.get("config", DEFAULT_SETTINGS) != self._settings:
            yield {"op": "config", "outcome": "ok", "detail": self._settings}

    def _init(self) -> Members:
        data = durable.read_file(self._tree, POLICY, MAX_POLICY_SIZE)
        return {"op": "log.init", "outcome": "ok", "policy": hashlib.sha256(data).hexdigest()}

    def _load_seed(self) -> int:
        """Begin with the seed of the epoch that has not ended.

        Returns:
            The epoch of the seed that is kept. It is an earlier one if a run was killed after it
            had closed an epoch.
        """
        try:
            seed = Seed.load(self._tree)
        except ValueError:
            raise self._damaged(_("its file {name} holds no key").format(name=KEY)) from None
        self._seeds.append(seed)
        epoch = self._memo.get("epoch", 0)
        if seed.epoch > epoch:
            raise self._damaged(_("its key is of a later day than its entries"))
        while self._seeds[-1].epoch < epoch:
            self._seeds.append(self._seeds[-1].next())
        with self._seeds[-1].signing_key() as private:
            public = signing.public_key(private.reveal())
        if published_key(self._tree, epoch).public != public:
            raise self._damaged(_("its key is not the one that was published for its day"))
        self._publics[epoch] = public
        return seed.epoch

    def _note_closings(self, closed: range, starts: Sequence[int]) -> None:
        """Note where closing checkpoints are. Without, they are found by looking at all."""
        if not closed:
            return
        data = b"".join(at.to_bytes(CLOSING_SIZE) for at in starts)
        with contextlib.suppress(OSError):
            fd = calls.open_update(self._tree.fd, CLOSINGS)
            try:
                calls.write_at(fd, data, closed[0] * CLOSING_SIZE)
            finally:
                os.close(fd)

    def _damaged(self, reason: str) -> LogDamaged:
        return LogDamaged(path=self._tree.path, reason=reason)


class _Signer:
    """Signs checkpoints with one key."""

    def __init__(self, origin: str, key: Secret, public: bytes | None) -> None:
        self._origin = origin
        self._key = key
        self._public = public

    def __call__(self, text: str) -> Note:
        with self._key as key:
            return sign_note(text, self._origin, key.reveal(), self._public)


def _fold(memo: Memo, line: bytes) -> None:
    """What the writer must know of the entries: see `encvault.tlog.store.Fold`."""
    op, _ts, _behind, epoch = facts_of(line)
    if epoch is not None:
        memo["epoch"] = epoch + 1
    if op == "config":
        memo["config"] = json.loads(line)["detail"]
    if op == "log.recover":
        memo["torn"] = [*memo.get("torn", ()), json.loads(line)["detail"]]
    memo["line"] = line.decode()


def _never_back(shared: Members, last: str) -> Members:
    """The same members with a time that is not before that of the last entry."""
    if str(shared["ts"]) >= last:
        return shared
    return {**shared, "ts": last, "wall": shared["ts"]}


def _step(last: Members, now: Members) -> timedelta | None:
    """How far the clock was moved since the last entry, as far as that can be told."""
    passed = _wall(now) - _wall(last)
    if last["boot"] != now["boot"] or not now["boot"]:
        return passed if passed < -_STEP else None
    running = timedelta(milliseconds=int(now["up_ms"]) - int(last["up_ms"]))
    step = passed - running
    return step if abs(step) > _STEP + running * _DRIFT else None


def _wall(members: Members) -> datetime:
    """What the clock said."""
    return datetime.fromisoformat(str(members.get("wall", members["ts"])))
