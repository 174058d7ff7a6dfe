"""What a check of a log finds. docs/log-format.md section 8."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Verdict(enum.Enum):
    """What may be said of a log; the value is how it is written everywhere."""

    ANCHORED_OK = "ANCHORED-OK"
    OK_UNANCHORED = "OK-UNANCHORED"
    TAMPERED = "TAMPERED"
    CANNOT_VERIFY = "CANNOT-VERIFY"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        rule: short name, stable, such as ``root`` or ``clock``.
        index: the entry that it is about, or None.
        text: for people, in their language.
    """

    rule: str
    index: int | None
    text: str


class Audit(NamedTuple):
    """The result of checking a log.

    Attributes:
        verdict: the one word.
        origin: of the log.
        size: entries that are proved: those under the last checkpoint before anything was wrong.
        checkpoint: the note over them, as text; "" if there is none.
        anchored_size: entries under the largest anchor that holds; 0 if there is none.
        open_from: index of the first entry of the epoch that has not ended.
        first_at, last_at: ``ts`` of the first and last proved entry; "" if there is none.
        own_policy: whether the keys are from the log's own folder.
        policy_digest: SHA-256 of the epoch keys, 64 hexadecimal digits.
        wrong: why the verdict is not OK.
        notes: recoveries, clock steps, and entries without a checkpoint.
    """

    verdict: Verdict
    origin: str
    size: int
    checkpoint: str
    anchored_size: int
    open_from: int
    first_at: str
    last_at: str
    own_policy: bool
    policy_digest: str
    wrong: tuple[Finding, ...]
    notes: tuple[Finding, ...]
