"""What a program passes, checked before anything is made.

A value of the wrong kind is a fault of the program: `TypeError` or `ValueError`, in English. What a
program may have from its users, such as a fingerprint, is an `EncvaultError`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from encvault.crypto.suite import Suite
from encvault.errors import InvalidRequest
from encvault.i18n import _
from encvault.keyslots import is_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.keyslots import Identity, Recipient

StrPath = str | os.PathLike[str]

Item = TypeVar("Item")


def as_path(path: StrPath) -> str:
    """A path as text.

    Raises:
        TypeError: it is bytes, or no path.
        ValueError: it has a null character.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path is str or os.PathLike[str], not {type(text).__name__}")
    if "\0" in text:
        raise ValueError("a path has no null character")
    return text


def as_optional_path(path: StrPath | None) -> str | None:
    """The same, or None."""
    return None if path is None else as_path(path)


def as_place(place: str) -> str:
    """A place in a vault, ``/`` between names whatever the system.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(place, str):
        raise TypeError(f"a place in a vault is str, not {type(place).__name__}")
    return place


def as_recipients(recipients: Iterable[Recipient]) -> tuple[Recipient, ...]:
    """Recipients, however many.

    Raises:
        TypeError: it is one alone, or a text, or holds something that is none.
    """
    return _all_with("wrap", "recipients", recipients)


def as_identities(identities: Iterable[Identity]) -> tuple[Identity, ...]:
    """Identities, however many.

    Raises:
        TypeError: it is one alone, or a text, or holds something that is none.
    """
    return _all_with("unwrap", "identities", identities)


def _all_with(method: str, what: str, given: Iterable[Item]) -> tuple[Item, ...]:
    if isinstance(given, (str, bytes)) or hasattr(given, method):
        raise TypeError(f"{what}: a list of them, not one {type(given).__name__}")
    items = tuple(given)
    for item in items:
        if not hasattr(item, method):
            raise TypeError(f"{what}: {type(item).__name__} is none")
    return items


def as_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns of names.

    Raises:
        TypeError: it is one alone, or holds something that is no text.
    """
    if isinstance(patterns, (str, bytes)):
        raise TypeError(f"exclude: a list of patterns, not one {type(patterns).__name__}")
    items = tuple(patterns)
    if not all(isinstance(item, str) for item in items):
        raise TypeError("exclude: a pattern is str")
    return items


def as_suite(suite: Suite) -> Suite:
    """A cipher suite.

    Raises:
        TypeError: it is none, such as the name of one.
    """
    if not isinstance(suite, Suite):
        raise TypeError(f"suite: a member of encvault.Suite, not {type(suite).__name__}")
    return suite


def as_optional_suite(suite: Suite | None) -> Suite | None:
    """The same, or None."""
    return None if suite is None else as_suite(suite)


def as_jobs(jobs: int) -> int:
    """A number of worker processes.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below 0.
    """
    if type(jobs) is not int:  # True is no 1
        raise TypeError(f"jobs: int, not {type(jobs).__name__}")
    if jobs < 0:
        raise ValueError("jobs: 0 for one per processor, or how many")
    return jobs


def as_fingerprint(fingerprint: str) -> str:
    """A vault's fingerprint as encvault writes it, or "".

    Raises:
        TypeError: it is no text.
        InvalidRequest: it is no fingerprint.
    """
    if not isinstance(fingerprint, str):
        raise TypeError(f"fingerprint: str, not {type(fingerprint).__name__}")
    plain = fingerprint.strip().lower()
    if fingerprint and not is_fingerprint(plain):
        raise InvalidRequest(reason=_("a fingerprint is eight groups of four, as info shows them"))
    return plain
