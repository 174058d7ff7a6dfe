"""Proofs of single entries, made and checked. docs/log-format.md section 9."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

from encvault.accesslog.epochs import POLICY, Calendar, Epochs
from encvault.accesslog.events import decode, facts_of, text_member
from encvault.accesslog.redaction import path_code, path_keys
from encvault.accesslog.walking import FIRST, LAST
from encvault.accesslog.writing import CLOSING_SIZE, CLOSINGS
from encvault.errors import (
    EncvaultError,
    KeyOfAnotherDay,
    LogTampered,
    LogUnverifiable,
    MalformedProof,
    NoAccessLog,
    NoSuchEntry,
)
from encvault.fs import calls
from encvault.fs.durable import read_file
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.tlog.checkpoints import Checkpoint, iter_notes
from encvault.tlog.merkle import Frontier, leaf_hash, prove_inclusion
from encvault.tlog.notes import MAX_NOTE_SIZE, Note, VerifierKey
from encvault.tlog.policies import MAX_POLICY_SIZE, Policy
from encvault.tlog.proofs import LogProof
from encvault.tlog.reading import (
    CHECKPOINT,
    CHECKPOINTS,
    ENTRIES,
    iter_all_notes,
    iter_blocks,
    last_note,
    read_small,
)
from encvault.tlog.tiles import Tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from encvault.accesslog.events import Facts
    from encvault.tlog.merkle import Node, NodeReader

_ATTEMPTS = 3  # a writer may replace derived files while they are read
_SPAN = 8192  # bytes in which two checkpoints are looked for; ours have some 300 each


# -- making ---------------------------------------------------------------------------------


def prove(path: str, index: int) -> LogProof:
    """The proof of one entry, with the closing checkpoint of its epoch if there is one.

    It is made from the derived files in a few reads, and checked. If they are missing or wrong, it
    is made from the entries themselves.

    Args:
        path: the log's folder.
        index: of the entry, from 0.

    Raises:
        NoSuchEntry: no checkpoint covers an entry of this index.
        NoAccessLog: there is no log.
        LogUnverifiable: the log cannot be read, or its policy is none.
        LogTampered: the entries are not those of the checkpoints.
    """
    with _Log(path) as log:
        for _attempt in range(_ATTEMPTS):
            try:
                return log.quick_proof(index)
            except (OSError, ValueError, OverflowError, IndexError, EncvaultError):
                continue
        return log.proof(index)


def latest_of(path: str, file: str) -> int:
    """The index of the latest entry about a file.

    It is only looked for here; `prove` shows that the entry is in the log.

    Args:
        path: the log's folder.
        file: its absolute path, also if that was recorded as HMAC or by name.

    Raises:
        NoSuchEntry: no checkpoint covers one.
        NoAccessLog, LogUnverifiable: see `prove`.
    """
    with _Log(path) as log:
        texts = {file, os.path.basename(file)}
        texts.update(path_code(key, file) for key in path_keys(log.tree).values())
        needles = [text_member("path", text) for text in texts]
        found = None
        for index, line in enumerate(islice(log.lines(), log.size())):
            if any(needle in line for needle in needles):
                found = index
    if found is None:
        raise NoSuchEntry(what=file)
    return found


class _Log:
    """A log that is being read.

    Args:
        path: its folder.

    Raises:
        NoAccessLog, LogUnverifiable: see `prove`; also for what is raised in its context.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self.tree = Tree(self._path)
        except OSError as error:
            raise self._named(error) from None
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.tree.close()
        if isinstance(error, OSError):
            raise self._named(error) from None

    def _named(self, error: OSError) -> EncvaultError:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return NoAccessLog(path=self._path)
        return LogUnverifiable(path=self._path, reason=system_reason(error))

    # -- from what is derived ---------------------------------------------------------------

    def quick_proof(self, index: int) -> LogProof:
        """The proof from derived files.

        Raises:
            OSError, ValueError, OverflowError, EncvaultError: they do not give one.
        """
        policy = read_file(self.tree, POLICY, MAX_POLICY_SIZE)
        calendar = Calendar.load(self.tree)
        latest = read_small(self.tree.fd, CHECKPOINT, MAX_NOTE_SIZE)
        size = _checkpoint(latest).size
        if not 0 <= index < size:
            raise NoSuchEntry(what=str(index))
        tiles = Tiles(self.tree)
        first, start = tiles.offset(index)
        line = next(islice(self.lines(start), index - first, None), b"")
        epoch = epoch_of(facts_of(line), calendar)
        # the n-th line of a policy as the log wrote it is the key of epoch n; a check of the whole
        # policy would take longer than all the rest
        text = policy.split(b"\n", epoch + 1)[epoch].decode().removeprefix("log ")
        key = VerifierKey.decode(text, POLICY)
        note = self._closing(epoch, key) or latest
        return _made(index, line, note, key, tiles.nodes)

    def _closing(self, epoch: int, key: VerifierKey) -> bytes | None:
        """The closing checkpoint of an epoch, if it is over."""
        try:
            where = self._read_at(CLOSINGS, epoch * CLOSING_SIZE, CLOSING_SIZE)
        except FileNotFoundError:
            return None
        if len(where) < CLOSING_SIZE:
            return None
        data = self._read_at(CHECKPOINTS, int.from_bytes(where), _SPAN)
        (_start, note), *others = iter_notes(data)
        if any(_is_signed(other, key) for _start, other in others):
            raise ValueError(where)
        return note

    def _read_at(self, name: str, start: int, size: int) -> bytes:
        fd = calls.open_read(self.tree.fd, name)
        try:
            buffer = bytearray(size)
            return bytes(buffer[: calls.read_at(fd, memoryview(buffer), start)])
        finally:
            os.close(fd)

    # -- from the log itself ----------------------------------------------------------------

    def proof(self, index: int) -> LogProof:
        """The proof from entries and checkpoints; see `prove`."""
        try:
            data = read_file(self.tree, POLICY, MAX_POLICY_SIZE)
            epochs = Epochs.of(Policy.decode(data, POLICY))
        except (EncvaultError, ValueError) as error:
            reason = str(error) if isinstance(error, EncvaultError) else _("its policy is none")
            raise LogUnverifiable(path=self._path, reason=reason) from None
        try:
            size = self.size()
            made = self._proof(index, size, epochs) if 0 <= index < size else None
        except (EncvaultError, ValueError, IndexError):
            raise LogTampered(path=self._path) from None
        if made is None:
            raise NoSuchEntry(what=str(index))
        return made

    def _proof(self, index: int, size: int, epochs: Epochs) -> LogProof:
        leaves = []
        entry = b""
        for number, line in enumerate(islice(self.lines(), size)):
            leaves.append(leaf_hash(line))
            if number == index:
                entry = line
        key = epochs.policy.logs[epoch_of(facts_of(entry), epochs.calendar)]
        note = self._last_of(key)
        return _made(index, entry, note, key, lambda wanted: _nodes(leaves, wanted))

    def size(self) -> int:
        """Entries under the last checkpoint."""
        fd = calls.open_read(self.tree.fd, CHECKPOINTS)
        try:
            found = last_note(fd, 0)
        finally:
            os.close(fd)
        return 0 if found is None else _checkpoint(found[1]).size

    def _last_of(self, key: VerifierKey) -> bytes:
        """The last checkpoint that names a key.

        It is the closing one of the key's epoch, or the last of all if the epoch is not over.
        """
        fd = calls.open_read(self.tree.fd, CHECKPOINTS)
        try:
            notes = iter_all_notes(fd, 0, os.fstat(fd).st_size)
            return max((at, note) for at, note in notes if _is_signed(note, key))[1]
        finally:
            os.close(fd)

    def lines(self, start: int = 0) -> chain[bytes]:
        """All lines from a place on, where one begins."""
        return chain.from_iterable(self._blocks(start))

    def _blocks(self, start: int) -> Iterator[list[bytes]]:
        fd = calls.open_read(self.tree.fd, ENTRIES)
        try:
            yield from iter_blocks(fd, start, os.fstat(fd).st_size)
        finally:
            os.close(fd)


def _made(index: int, line: bytes, note: bytes, key: VerifierKey, read: NodeReader) -> LogProof:
    """A proof, checked.

    Raises:
        ValueError, EncvaultError: it would prove nothing.
    """
    hashes = prove_inclusion(index, _checkpoint(note).size, read)
    proof = LogProof(index, tuple(hashes), note, line)
    proof.check(line, Policy(logs=(key,)), CHECKPOINTS)
    return proof


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.decode(Note.decode(note, CHECKPOINTS).text, CHECKPOINTS)


def _is_signed(note: bytes, key: VerifierKey) -> bool:
    """Whether a note names a key; nothing is verified."""
    named = {(one.name, one.key_id) for one in Note.decode(note, CHECKPOINTS).signatures}
    return (key.name, key.key_id) in named


def _nodes(leaves: Sequence[bytes], wanted: Sequence[Node]) -> list[bytes]:
    return [
        Frontier().extended(leaves[index << level : index + 1 << level]).root
        for level, index in wanted
    ]


def epoch_of(facts: Facts, calendar: Calendar) -> int:
    """The epoch whose key signs an entry.

    Raises:
        ValueError: there is none.
    """
    if facts.op == FIRST:
        return 0
    epoch = facts.epoch if facts.op == LAST else calendar.at(facts.ts)
    if epoch is None or not 0 <= epoch < calendar.days:
        raise ValueError(epoch)
    return epoch


# -- checking -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """What a proof proves.

    Attributes:
        index: of the entry.
        members: what the entry says.
        checkpoint: of a tree that has it.
        day: of the key that signed the checkpoint, which is the entry's; "" if there was no policy
            to tell, so that only the signature is known to be right.
    """

    index: int
    members: Mapping[str, Any]
    checkpoint: Checkpoint
    day: str


def check(
    data: bytes, place: str, *, keys: Sequence[VerifierKey] = (), policy: Policy | None = None
) -> Checked:
    """Check a proof.

    Args:
        data: of a ``.tlog-proof`` file, at most 163,840 bytes.
        place: where it is from, for messages.
        keys: of the log, if there is no policy.
        policy: the log's, as the checker has it.

    Raises:
        MalformedProof, MalformedNote: it is none, or none of an entry.
        UnknownSigner, ForgedNote, QuorumMissing: the checkpoint is not signed as it must be.
        ProofWrong: the log does not have the entry.
        KeyOfAnotherDay: the key cannot vouch for an entry of its time.
        LogUnverifiable: there is nothing to check it with.
    """
    proof = LogProof.decode(data, place)
    if proof.extra is None:
        raise MalformedProof(place=place, reason=_("it has no entry in it"))
    try:
        members = decode(proof.extra)
    except ValueError as error:
        raise MalformedProof(place=place, reason=_(str(error))) from None
    if policy is None and not keys:
        raise LogUnverifiable(path=place, reason=_("neither a policy nor a key was given"))
    checkpoint, key = proof.check(proof.extra, policy or Policy(logs=tuple(keys)), place)
    facts = facts_of(proof.extra)
    if (
        checkpoint.extensions
        or (facts.op == FIRST) != (proof.index == 0)
        or (facts.epoch is None) != (facts.op != LAST)
    ):
        raise MalformedProof(place=place, reason=_("no log of encvault can have this entry there"))
    if policy is None:
        return Checked(proof.index, members, checkpoint, "")
    try:
        epochs = Epochs.of(policy)
        wanted = epoch_of(facts_of(proof.extra), epochs.calendar)
    except ValueError:
        reason = _("the policy has no key of the day of the entry")
        raise LogUnverifiable(path=place, reason=reason) from None
    signed = epochs.of_key(key)
    day = epochs.calendar.day(signed)
    if signed != wanted:
        recorded = epochs.calendar.day(wanted)
        raise KeyOfAnotherDay(place=place, recorded=recorded, signed=day)
    return Checked(proof.index, members, checkpoint, day)
