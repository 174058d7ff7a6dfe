"""What other systems leave on every drive without being asked.

Folders at the top belong to a system, which makes them anew and may not let anybody else touch
them: they are left. What is in them in the clear, such as what was deleted by somebody who believes
it to be gone, is told. Small files beside the user's own tell of those, so they are sealed like
them; but one that came back later does not make a locked drive an unlocked one.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from typing import TYPE_CHECKING

from encvault.fs.tree import join, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.fs.tree import Tree

_TRASH = (
    *(".Trashes", ".Spotlight-V100", ".fseventsd", ".TemporaryItems"),  # macOS
    *("$RECYCLE.BIN", "RECYCLER"),  # Windows
    *(".Trash", ".Trash-*"),  # the trash specification of freedesktop.org
)
_OTHERS = ("System Volume Information", "lost+found")
_FILES = (".DS_Store", "._.*", "._HOW-TO-OPEN.txt", "Thumbs.db", "desktop.ini")
# what Windows has in its folder on every drive, and no content of anybody's
_OF_WINDOWS = ("IndexerVolumeGuid", "WPSettings.dat", "tracking.log", "*RecoveryPassword*")


def system_folders(tree: Tree) -> list[str]:
    """The folders at the top of a drive that belong to a system; a file has no such right."""
    return [name for name in sorted(os.listdir(tree.fd)) if is_system_folder(tree, name)]


def is_system_folder(tree: Tree, name: str) -> bool:
    """Whether something at the top of a drive belongs to a system."""
    return _fits(name, _TRASH + _OTHERS) and stat.S_ISDIR(tree.status(name).st_mode)


def trash_folders(tree: Tree) -> list[str]:
    """Those of them that keep what was deleted, or list what was there."""
    return [name for name in system_folders(tree) if _fits(name, _TRASH)]


def trash(tree: Tree) -> Iterator[str]:
    """Paths of the files in the folders of systems that are in the clear, or tell of such."""
    for top in system_folders(tree):
        for folder in tree.walk(top):
            for entry in folder.entries:
                is_windows = top == _OTHERS[0] and _fits(entry.name, _OF_WINDOWS)
                if entry.kind != "dir" and not is_windows:
                    yield join(folder.path, entry.name)


def is_litter(path: str) -> bool:
    """Whether the path of a file, relative to a drive, is nothing that its user put there."""
    top, slash, _rest = path.partition("/")
    return bool(slash and _fits(top, _TRASH + _OTHERS)) or _fits(split(path)[1], _FILES)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
