"""What goes through the two pipes between encvault and the process that asks the keychain.

A message is a line of JSON, then the secrets it speaks of, one after the other, with nothing
between. So a secret never becomes part of a text, and can be overwritten where it was received.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SECRET_SIZE = 4096  # bytes; what a password source may give (docs/scripting.md)
MAX_MESSAGE_SIZE = 65_536  # bytes; the capacity of a pipe, so that writing one never waits

State = Literal["usable", "locked", "unavailable", "unsafe", "forgetful", "occupied"]
Action = Literal["probe", "holds", "load", "store", "forget"]


class Request(NamedTuple):
    """What the keychain is asked for.

    Attributes:
        action: what to do.
        accounts: names of entries.
        attended: whether a person is there for a dialogue of the keychain.
        secret: what to store.
    """

    action: Action
    accounts: tuple[str, ...] = ()
    attended: bool = False
    secret: Secret | None = None

    def encode(self) -> bytearray:
        """The message, to be wiped by the caller."""
        head = {"action": self.action, "accounts": self.accounts, "attended": self.attended}
        return _encode(head, [self.secret] if self.secret is not None else [])

    @classmethod
    def decode(cls, message: bytearray) -> Request:
        """Read a message."""
        head, rest = _split(message)
        secret = Secret(rest) if rest else None
        return cls(head["action"], tuple(head["accounts"]), head["attended"], secret)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it.

    Attributes:
        state: of the keychain.
        backend: its name for people, or what stands in its place.
        detail: why it is not usable: a message of the catalog, in English.
        cause: the class of the error that it failed with, or "". Its text is left out, since it
            may hold anything.
        found: the accounts that were found (or forgotten), with their secrets if those were
            asked for.
    """

    state: State
    backend: str = ""
    detail: str = ""
    cause: str = ""
    found: Mapping[str, Secret] = field(default_factory=dict)

    def encode(self) -> bytearray:
        """The message, to be wiped by the caller."""
        head = {
            "state": self.state,
            "backend": self.backend,
            "detail": self.detail,
            "cause": self.cause,
            "found": [(account, len(secret)) for account, secret in self.found.items()],
        }
        return _encode(head, list(self.found.values()))

    @classmethod
    def decode(cls, message: bytearray) -> Answer:
        """Read a message.

        Raises:
            ValueError: it is none; the process that wrote it ended too early.
        """
        try:
            head, rest = _split(message)
            if head["state"] not in get_args(State):
                raise ValueError(head["state"])  # noqa: TRY301 - one exception for bad input
            found, start = {}, 0
            for account, size in head["found"]:
                found[account] = Secret(rest[start : start + size])
                start += size
            if start != len(rest):
                raise ValueError(start)  # noqa: TRY301 - see above
            rest[:] = bytes(len(rest))
            return cls(head["state"], head["backend"], head["detail"], head["cause"], found)
        except (LookupError, TypeError, ValueError):
            raise ValueError("keychain: no answer") from None


def _encode(head: dict[str, Any], secrets: Sequence[Secret]) -> bytearray:
    message = bytearray(json.dumps(head).encode() + b"\n")
    for secret in secrets:
        message += secret.reveal()
    return message


def _split(message: bytearray) -> tuple[dict[str, Any], bytearray]:
    end = message.index(b"\n")
    return json.loads(message[:end]), message[end + 1 :]
