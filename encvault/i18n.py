"""Messages in the user's language.

Every string a person may read passes through `_` (or `ngettext` for counts). The language is
English until `activate` is called; only `encvault.cli` calls it, so a program that uses encvault
as a library gets English messages whatever its environment says. Exit codes, class names and
JSON never depend on the language.
"""

from __future__ import annotations

import gettext
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


def ngettext(singular: str, plural: str, count: int) -> str:
    """Translate the form of a message that fits `count`."""
    return _active.ngettext(singular, plural, count)
