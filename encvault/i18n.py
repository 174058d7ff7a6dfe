"""Messages in the user's language.

Every string a person may read passes through `_` (or `ngettext` for counts). The language is
English until `activate` is called; only `encvault.cli` calls it, so a program that uses encvault
as a library gets English messages whatever its environment says. Exit codes, class names and
JSON never depend on the language.
"""

from __future__ import annotations

import gettext
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DOMAIN = "encvault"
LOCALE_DIR = Path(__file__).parent / "locale"

_active: gettext.NullTranslations = gettext.NullTranslations()


def activate(languages: Sequence[str]) -> None:
    """Speak the first of `languages` (such as ``["zh_CN"]``) that has a catalog, else English."""
    global _active  # noqa: PLW0603 - the language of a process is process-wide state
    _active = gettext.translation(DOMAIN, str(LOCALE_DIR), languages=languages, fallback=True)


def _(message: str) -> str:
    """Translate `message`."""
    return _active.gettext(message)


def N_(message: str) -> str:  # noqa: N802 - the name gettext extractors know
    """Mark `message` for the catalog without translating it yet."""
    return message


def system_reason(error: OSError) -> str:
    """Why the operating system refused, in the user's language if it is a reason people meet."""
    return _(os.strerror(error.errno)) if error.errno else str(error)


# the words of strerror(3) for those reasons, here so that the catalog has them
_SYSTEM_REASONS = (
    N_("Bad file descriptor"),
    N_("Device or resource busy"),
    N_("File name too long"),
    N_("Input/output error"),
    N_("Is a directory"),
    N_("No such device"),
    N_("No such file or directory"),
    N_("Not a directory"),
    N_("Operation not permitted"),
    N_("Permission denied"),
    N_("Read-only file system"),
    N_("Stale file handle"),
    N_("Too many levels of symbolic links"),
    N_("Too many open files"),
    N_("Transport endpoint is not connected"),
)


def ngettext(singular: str, plural: str, count: int) -> str:
    """Translate the form of a message that fits `count`."""
    return _active.ngettext(singular, plural, count)
