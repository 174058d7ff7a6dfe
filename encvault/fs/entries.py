"""What is met on a walk through folders."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from encvault.i18n import N_

if TYPE_CHECKING:
    import os


class Entry(NamedTuple):
    """One name in a folder.

    Attributes:
        name: as Python spells file names.
        status: its own status; links are not followed.
        kind: ``file``, ``dir``, ``symlink``, or the word for a special file. What cannot be looked
            at is met as a ``dir`` that cannot be listed.
    """

    name: str
    status: os.stat_result
    kind: str

    @property
    def is_unknown(self) -> bool:
        """Whether it could not be looked at, so that it may be anything."""
        return self.status.st_mode == 0


class Folder(NamedTuple):
    """One folder met on a walk.

    Attributes:
        path: relative to the tree, "" for its top, ``/`` between names.
        status: its own status.
        entries: what is in it, sorted by name. A folder left out of this list is not entered:
            the receiver may remove entries before it asks for the next folder.
        error: why it could not be listed, or None.
    """

    path: str
    status: os.stat_result
    entries: list[Entry]
    error: OSError | None = None


class Names(NamedTuple):
    """One folder met by `Tree.names`.

    Attributes:
        path: relative to the tree, "" for its top.
        folders: names of those in it. One that is taken out of this list is not entered.
        files: names of the regular files.
    """

    path: str
    folders: list[str]
    files: list[str]


KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: N_("fifo"),
    stat.S_IFSOCK: N_("socket"),
    stat.S_IFBLK: N_("block device"),
    stat.S_IFCHR: N_("character device"),
}


def file_kind(mode: int) -> str:
    """The word for a file's type bits."""
    return KINDS.get(stat.S_IFMT(mode), N_("special file"))
