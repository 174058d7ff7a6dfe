"""Which programs use what is in a folder. proc(5)."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_NAMED = 5


def users_text(path: str) -> str:
    """The programs that have files or their working directory below a mount, for people."""
    return programs_text(users(path))


def programs_text(found: Sequence[str]) -> str:
    """These programs, for people."""
    named = ", ".join(found[:_MAX_NAMED])
    if not found:
        return _("programs that cannot be seen from here")
    if len(found) > _MAX_NAMED:
        return _("{programs} and {count} more").format(
            programs=named, count=len(found) - _MAX_NAMED
        )
    return named


def users(path: str) -> list[str]:
    """Name and number of each program that uses what is mounted at `path`.

    Who serves it is none of them: it has the folder beneath open. Nor is who asks, unless nobody
    else uses it.
    """
    found = _found(path, lambda process: [*_places(process), *_descriptors(process)])
    if len(found) > 1:
        found.pop(os.getpid(), None)
    return list(found.values())


def openers(path: str) -> list[str]:
    """The same of others that have files open; where they were started is nothing to those."""
    found = _found(path, _descriptors)
    found.pop(os.getpid(), None)
    return list(found.values())


def _found(path: str, links: Callable[[str], Sequence[str]]) -> dict[int, str]:
    try:
        device = os.stat(path).st_dev
        numbers = sorted(filter(str.isdigit, os.listdir("/proc")), key=int)
    except OSError:
        return {}
    found = {}
    for number in numbers:
        process = f"/proc/{number}"
        if any(_is_below(link, path, device) for link in links(process)):
            name = "?"
            with contextlib.suppress(OSError), open(f"{process}/comm", "rb") as file:
                name = os.fsdecode(file.read()).strip()
            found[int(number)] = f"{name} ({number})"
    return found


def _places(process: str) -> list[str]:
    return [f"{process}/cwd", f"{process}/root", f"{process}/exe"]


def _descriptors(process: str) -> list[str]:
    with contextlib.suppress(OSError):
        return [f"{process}/fd/{name}" for name in os.listdir(f"{process}/fd")]
    return []


def _is_below(link: str, path: str, device: int) -> bool:
    with contextlib.suppress(OSError):
        target = os.readlink(link)
        is_below = target == path or target.startswith(os.path.join(path, ""))
        return is_below and os.stat(link).st_dev == device
    return False
