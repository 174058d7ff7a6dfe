"""What both ways of an archive share of the pax format (IEEE Std 1003.1-2017, "pax")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from encvault.i18n import N_

if TYPE_CHECKING:
    import tarfile

XATTR = "SCHILY.xattr."  # the key that GNU tar, bsdtar and star use
_NS = 1_000_000_000
_TIME = re.compile(r"(-?)(\d{1,18})(?:\.(\d*))?", re.ASCII)


def encode_time(time_ns: int) -> str:
    """A time as pax spells it: decimal seconds, the sign before all of it."""
    seconds, rest = divmod(abs(time_ns), _NS)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{rest:09d}"


def decode_time(text: str) -> int:
    """Nanoseconds from what pax spells; digits beyond them are cut off.

    Raises:
        ValueError: not a decimal number.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(N_("a time that is none"))
    sign, seconds, rest = found.groups()
    value = int(seconds) * _NS + int((rest or "")[:9].ljust(9, "0"))
    return -value if sign else value


def forget_members(tar: tarfile.TarFile) -> None:
    """Let go of what tarfile remembers of every member; streams need none of it."""
    tar.members.clear()  # type: ignore[attr-defined]  # not in the stubs
