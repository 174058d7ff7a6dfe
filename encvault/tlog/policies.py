"""Whose signatures a checkpoint needs: c2sp.org/tlog-policy.

A policy file lists the keys of logs, witnesses, groups of witnesses, and the quorum. Its octets
are opaque: names are compared as bytes. Here they are text in which a byte that is not UTF-8 is
a surrogate, as in Python's file names, so that nothing is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import NotAuthentic
from encvault.errors import (
    ForgedNote,
    MalformedPolicy,
    MalformedVerifierKey,
    QuorumMissing,
    UnknownSigner,
)
from encvault.i18n import N_, _
from encvault.tlog.checkpoints import check_cosignature
from encvault.tlog.notes import COSIGNATURE_V1, ED25519, KeyRing, Note, VerifierKey

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_POLICY_SIZE = 1 << 20  # bytes
MAX_LOGS = 16_384

_NONE = "none"
# tab, line feed, printable ASCII, and all with the high bit set
_OCTETS = bytes((0x09, 0x0A, *range(0x20, 0x7F), *range(0x80, 0x100)))
_THRESHOLD = re.compile(r"[1-9][0-9]{0,6}")


class Witness(NamedTuple):
    """A line ``witness``.

    Attributes:
        name: in this policy only; the key has its own.
        key: of type `COSIGNATURE_V1`.
    """

    name: str
    key: VerifierKey


class Group(NamedTuple):
    """A line ``group``: it has cosigned if enough of its members have.

    Attributes:
        name: in this policy.
        threshold: how many, from 1 to the number of members.
        members: names of witnesses and of groups above it.
    """

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The contents of a policy file, without addresses and comments.

    Attributes:
        logs: keys of type `ED25519`, in the order of their lines; each of them is accepted.
        witnesses, groups: in the order of their lines.
        quorum: name of a witness or group, or ``none``.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = _NONE
    _log_keys: KeyRing = field(init=False, repr=False, compare=False)
    _witness_keys: KeyRing = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_log_keys", KeyRing(self.logs))
        keys = KeyRing(witness.key for witness in self.witnesses)
        object.__setattr__(self, "_witness_keys", keys)

    def encode(self) -> bytes:
        """The policy file: logs, witnesses, groups and the quorum, in this order."""
        lines = [f"log {key.encode()}\n" for key in self.logs]
        lines.extend(f"witness {item.name} {item.key.encode()}\n" for item in self.witnesses)
        lines.extend(
            f"group {item.name} {item.threshold} {' '.join(item.members)}\n" for item in self.groups
        )
        lines.append(f"quorum {self.quorum}\n")
        return "".join(lines).encode(errors="surrogateescape")

    @classmethod
    def decode(cls, data: bytes, place: str) -> Policy:
        """The policy of a file.

        Args:
            data: at most 1 MiB, with at most 16,384 logs.
            place: where it is from, for the message.

        Raises:
            MalformedPolicy: a rule of tlog-policy is broken, or a key is not usable here.
        """
        if len(data) > MAX_POLICY_SIZE:
            raise MalformedPolicy(place=place, reason=_("more than 1 MiB"))
        if data.translate(None, _OCTETS):
            raise MalformedPolicy(place=place, reason=_("a control character"))
        if not data.endswith(b"\n"):
            raise MalformedPolicy(place=place, reason=_("the last line has no end"))
        reader = _Reader(place)
        for number, line in enumerate(data[:-1].split(b"\n"), 1):
            # only space and tab are left of what this splits at
            items = line.split()
            if not items or items[0].startswith(b"#"):
                continue
            try:
                reader.take([item.decode(errors="surrogateescape") for item in items])
            except ValueError as error:
                reason = _("line {number}: {detail}").format(number=number, detail=_(str(error)))
                raise MalformedPolicy(place=place, reason=reason) from None
        if reader.quorum is None:
            raise MalformedPolicy(place=place, reason=_("there is no quorum line"))
        return cls(
            tuple(reader.logs.values()),
            tuple(reader.witnesses.values()),
            tuple(reader.groups),
            reader.quorum,
        )

    def log_key(self, note: Note, place: str) -> VerifierKey:
        """The log's key that signed a checkpoint, with no regard to witnesses.

        Args:
            note: whose text is a checkpoint.
            place: where it is from, for messages.

        Returns:
            a key whose name is the checkpoint's origin; of several, that of the first line.

        Raises:
            UnknownSigner: no key of this log has signed it.
            ForgedNote: a signature line of a known log does not verify.
        """
        origin = note.text.partition("\n")[0]
        for key in note.check(self._log_keys, place):
            if key.name == origin:
                return key
        raise UnknownSigner(place=place)

    def check(self, note: Note, place: str) -> VerifierKey:
        """The log's key that signed a checkpoint that fulfils the policy.

        Args:
            note: whose text is a checkpoint.
            place: where it is from, for messages.

        Raises:
            UnknownSigner: no key of this log has signed it.
            ForgedNote: a signature line of a known log or witness does not verify.
            QuorumMissing: too few witnesses have.
        """
        key = self.log_key(note, place)
        present = {_NONE} | self._cosigners(note, place)
        for group in self.groups:  # members are above it, so each is settled when it is needed
            if len(present.intersection(group.members)) >= group.threshold:
                present.add(group.name)
        if self.quorum not in present:
            raise QuorumMissing(place=place)
        return key

    def _cosigners(self, note: Note, place: str) -> set[str]:
        names = {witness.key: witness.name for witness in self.witnesses}
        found: set[str] = set()
        for item in note.signatures:
            known = self._witness_keys.find(item.name, item.key_id)
            made = [key for key in known if _cosigned(note.text, key, item.signature)]
            if known and not made:
                raise ForgedNote(place=place, name=item.name)
            found.update(names[key] for key in made)
        return found


def _cosigned(text: str, key: VerifierKey, signature: bytes) -> bool:
    try:
        check_cosignature(text, key, signature)
    except NotAuthentic:
        return False
    return True


# -- reading --------------------------------------------------------------------------------


class _Reader:
    """What the lines so far have defined. A line that breaks a rule is a ValueError."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.logs: dict[bytes, VerifierKey] = {}
        self.witnesses: dict[bytes, Witness] = {}
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._lines: dict[str, Callable[[list[str]], None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
        }

    def take(self, items: list[str]) -> None:
        word, *rest = items
        if word not in self._lines:
            raise ValueError(N_("neither log, witness, group nor quorum"))
        self._lines[word](rest)

    def _log(self, items: list[str]) -> None:
        match items:
            case [text] | [text, _]:
                key = self._key(text, ED25519)
            case _:
                raise ValueError(N_("a log has a key and at most an address"))
        if key.public in self.logs:
            raise ValueError(N_("the key of a log above"))
        if len(self.logs) == MAX_LOGS:
            raise ValueError(N_("more than 16,384 logs"))
        self.logs[key.public] = key

    def _witness(self, items: list[str]) -> None:
        match items:
            case [name, text] | [name, text, _]:
                key = self._key(text, COSIGNATURE_V1)
            case _:
                raise ValueError(N_("a witness has a name, a key and at most an address"))
        if key.public in self.witnesses:
            raise ValueError(N_("the key of a witness above"))
        self._define(name)
        self.witnesses[key.public] = Witness(name, key)

    def _group(self, items: list[str]) -> None:
        match items:
            case [name, needed, *members] if members:
                threshold = _threshold(needed, len(members))
            case _:
                raise ValueError(N_("a group has a name, a number and members"))
        for member in members:
            if member not in self._names:
                raise ValueError(N_("a name that no line above defines"))
            if member in self._members:
                raise ValueError(N_("a name that is a member already"))
            self._members.add(member)
        self._define(name)
        self.groups.append(Group(name, threshold, tuple(members)))

    def _quorum(self, items: list[str]) -> None:
        if len(items) != 1:
            raise ValueError(N_("a quorum has one name"))
        if self.quorum is not None:
            raise ValueError(N_("a second quorum"))
        if items[0] != _NONE and items[0] not in self._names:
            raise ValueError(N_("a name that no line above defines"))
        self.quorum = items[0]

    def _define(self, name: str) -> None:
        if name == _NONE or name in self._names:
            raise ValueError(N_("a name that is taken"))
        self._names.add(name)

    def _key(self, text: str, kind: int) -> VerifierKey:
        try:
            key = VerifierKey.decode(text, self._place)
        except MalformedVerifierKey as error:
            raise ValueError(getattr(error.reason, "english", error.reason)) from None
        if key.type != kind:
            raise ValueError(N_("a key of a type that this line does not take"))
        return key


def _threshold(text: str, members: int) -> int:
    if text == "any":
        return 1
    if text == "all":
        return members
    if _THRESHOLD.fullmatch(text) is None or int(text) > members:
        raise ValueError(N_("the number of members that a group needs"))
    return int(text)
