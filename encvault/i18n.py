"""Messages in the user's language.

Every string a person may read passes through `_` (or `ngettext` for counts). The language is
English until `activate` is called; only `encvault.cli` calls it, so a program that uses encvault
as a library gets English messages whatever its environment says. Exit codes, class names and
JSON never depend on the language.
"""

from __future__ import annotations

import gettext
import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

DOMAIN = "encvault"
LOCALE_DIR = os.path.join(os.path.dirname(__file__), "locale")

_active: gettext.NullTranslations = gettext.NullTranslations()


def activate(languages: Sequence[str]) -> None:
    """Speak the first of `languages` (such as ``["zh_CN"]``) that has a catalog, else English."""
    global _active  # noqa: PLW0603 - the language of a process is process-wide state
    _active = gettext.translation(DOMAIN, LOCALE_DIR, languages=languages, fallback=True)


def language() -> str:
    """The language that `_` speaks, as HTML names it (BCP 47): ``en`` or such as ``zh-CN``."""
    return _active.info().get("language", "en").replace("_", "-")


class Text(str):
    """A message in the active language that remembers its English, for JSON and logs.

    Attributes:
        english: the same message untranslated.
    """

    __slots__ = ("english",)
    english: str

    def __new__(cls, text: str, english: str = "") -> Self:
        """A translation and what was translated."""
        self = super().__new__(cls, text)
        self.english = english
        return self

    def format(self, *args: object, **kwargs: object) -> Text:
        """Fill in both languages."""
        return Text(
            super().format(*args, **kwargs),
            self.english.format(
                *map(english, args), **{name: english(value) for name, value in kwargs.items()}
            ),
        )


def english(value: object) -> object:
    """A message as it would be in English; any other value as it is."""
    return value.english if isinstance(value, Text) else value


def _(message: str) -> Text:
    """Translate `message`."""
    return Text(_active.gettext(message) if message else "", message)


def N_(message: str) -> str:  # noqa: N802 - the name gettext extractors know
    """Mark `message` for the catalog without translating it yet."""
    return message


def system_reason(error: OSError) -> str:
    """Why the operating system refused, in the user's language if it is a reason people meet."""
    return _(os.strerror(error.errno)) if error.errno else str(error)


# the words of strerror(3) for those reasons, here so that the catalog has them
_SYSTEM_REASONS = (
    N_("Bad file descriptor"),
    N_("Connection refused"),
    N_("Connection reset by peer"),
    N_("Device or resource busy"),
    N_("File exists"),
    N_("File name too long"),
    N_("Input/output error"),
    N_("Is a directory"),
    N_("Network is unreachable"),
    N_("No route to host"),
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


def ngettext(singular: str, plural: str, count: int) -> Text:
    """Translate the form of a message that fits `count`."""
    plain = singular if count == 1 else plural
    return Text(_active.ngettext(singular, plural, count), plain)


def size_text(size: int) -> str:
    """Bytes for people."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - SI
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
