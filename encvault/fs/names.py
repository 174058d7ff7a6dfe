"""Names that a file system cannot hold, and what such a file is called there instead.

What does not fit is escaped or shortened, never more than is needed, and always in the same way:
whoever opens the same files again finds what was opened before. What a file system takes is found
out by `encvault.fs.rules`; here nothing is read or written.
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from encvault.fs.durable import stable_id

if TYPE_CHECKING:
    from collections.abc import Collection

COMMON_SIZE = 255
"""Bytes that a name may have on most file systems."""

MAX_SIZE = 1023
"""Bytes that a name may have anywhere: 255 UTF-16 units are up to 765, and ZFS goes to 1,023."""

# one character of each kind that some file system refuses, and all of that kind
KINDS = {
    **{char: re.escape(char) for char in '"*:<>?\\|'},
    "\x01": "\x01-\x1f",
    "\x7f": "\x7f",
    "\udcff": "\udc80-\udcff",  # a byte that is not UTF-8
    "é": "\x80-\xff",
    "中": "\u0100-\ud7ff\ue000-\uffff",
    "😀": "\U00010000-\U0010ffff",
}
_WINDOWS_KINDS = frozenset('"*:<>?\\|\x01')
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\.|$)", re.IGNORECASE
)
_HARMLESS = re.compile(r"[ !#-)+-.0-9;=@-\[\]-{}~]{1,99}(?<![. ])")
_DIGEST_LENGTH = 10
_MAX_EXTENSION = 20  # bytes; what is longer is no extension


class Rules(NamedTuple):
    """What names a file system takes. As they stand here: all of up to 255 bytes.

    Attributes:
        refused: the kinds of characters it refuses, a key of `KINDS` each.
        size: bytes that a name may have.
        units: UTF-16 units that a name may have.
        windows: whether what Windows cannot open is refused as well.
        folds: whether names that differ only in case are the same.
    """

    refused: frozenset[str] = frozenset()
    size: int = COMMON_SIZE
    units: int = COMMON_SIZE
    windows: bool = False
    folds: bool = False

    def takes(self, name: str) -> bool:
        """Whether a file may have this name."""
        return self._escaped(name) == name and self._fits(name)

    def key(self, name: str) -> str:
        """What is equal for names that are the same there."""
        if not self.folds:
            return name
        return "".join(upper if len(upper := char.upper()) == 1 else char for char in name)

    def legal(self, name: str) -> str:
        """The name itself if it may be used, else the one to use instead."""
        escaped = self._escaped(name)
        if self._fits(escaped):
            return escaped
        return self._with_tail(escaped, f"~{stable_id(name)[:_DIGEST_LENGTH]}")

    def numbered(self, name: str, number: int) -> str:
        """A legal name with a number before its extension."""
        return self._with_tail(name, f" ({number})")

    def _escaped(self, name: str) -> str:
        refused = self.refused | _WINDOWS_KINDS if self.windows else self.refused
        if refused:
            name = _pattern(refused).sub(lambda found: _percent(found[0]), name)
        if not self.windows:
            return name
        if name.endswith((".", " ")):
            name = name[:-1] + _percent(name[-1])
        return _percent(name[0]) + name[1:] if _RESERVED.match(name) else name

    def _fits(self, name: str) -> bool:
        size = len(os.fsencode(name))
        return size <= self.size and (size <= self.units or _units(name) <= self.units)

    def _with_tail(self, name: str, tail: str) -> str:
        """Put something before the extension, and cut what is before that as far as is needed."""
        stem, extension = os.path.splitext(name)
        if len(os.fsencode(extension)) > _MAX_EXTENSION:
            stem, extension = name, ""
        while stem and not self._fits(stem + tail + extension):
            stem = stem[:-1]
        return stem + tail + extension


def is_harmless(name: str) -> bool:
    """Whether surely every file system takes a name; decided fast, since nearly all are."""
    return _HARMLESS.fullmatch(name) is not None and _RESERVED.match(name) is None


def fitted(names: Collection[str], rules: Rules) -> dict[str, str]:
    """What files of one folder are called where not every name can be used.

    Args:
        names: what they are called, each once.
        rules: of the place they go to.

    Returns:
        Another name for each that cannot keep its own. The new names and those that were kept
        differ, also for the file system; and who may keep his name does.
    """
    keys = set()
    changed = []
    for name in sorted(names):
        if rules.takes(name) and (key := rules.key(name)) not in keys:
            keys.add(key)
        else:
            changed.append(name)
    result = {}
    for name in changed:
        result[name] = beside(name, rules, keys)
        keys.add(rules.key(result[name]))
    return result


def beside(name: str, rules: Rules, taken: Collection[str]) -> str:
    """What one file is called; its own name if that can be used.

    Args:
        name: its own.
        rules: of the place it goes to.
        taken: the `Rules.key` of each name that others in that folder have.
    """
    legal = new = rules.legal(name)
    number = 1
    while rules.key(new) in taken:
        number += 1
        new = rules.numbered(legal, number)
    return new


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(char))


def _units(name: str) -> int:
    return len(name.encode("utf-16-le", "surrogatepass")) // 2


@functools.cache
def _pattern(refused: frozenset[str]) -> re.Pattern[str]:
    return re.compile("[" + "".join(KINDS[kind] for kind in sorted(refused)) + "]")
