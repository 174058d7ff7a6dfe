"""What other systems leave on every drive without being asked.

Folders at the top belong to a system, which makes them anew and may not let anybody else touch
them: they are left. Some keep what was deleted, in the clear, for somebody who believes it to be
gone. Small files beside the user's own tell of those, so they are sealed like them; but one that
came back later does not make a locked drive an unlocked one.
"""

from __future__ import annotations

import fnmatch

_TRASH = (
    *(".Trashes", ".Spotlight-V100", ".fseventsd", ".TemporaryItems"),  # macOS
    *("$RECYCLE.BIN", "RECYCLER"),  # Windows
    *(".Trash", ".Trash-*"),  # the trash specification of freedesktop.org
)
_OTHERS = ("System Volume Information", "lost+found")
_FILES = (".DS_Store", "._.*", "._HOW-TO-OPEN.txt", "Thumbs.db", "desktop.ini")


def is_trash(name: str) -> bool:
    """Whether something at the top of a drive keeps what was deleted, or lists what was there."""
    return _fits(name, _TRASH)


def is_of_a_system(name: str) -> bool:
    """Whether something at the top of a drive belongs to a system."""
    return _fits(name, _TRASH + _OTHERS)


def is_litter(path: str) -> bool:
    """Whether a path relative to a drive is nothing that its user put there."""
    top, name = path.split("/", maxsplit=1)[0], path.rpartition("/")[2]
    return is_of_a_system(top) or _fits(name, _FILES)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
