"""Whether a vault still has what opens its sealed files.

A program that tidies hidden files, or syncs folders, may take `.encvault` or the keys in it away at
any time. What was sealed with them is lost then, so this is looked at before originals go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.errors import KeysMissing
from encvault.vault.datakeys import key_path
from encvault.vault.manifest import RECORD_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.fs.tree import Tree
    from encvault.vault.ledger import Ledger


def missing_key(tree: Tree, key_ids: Iterable[str]) -> KeysMissing | None:
    """What is gone of what opens sealed files; None if all is there.

    It is a look at each path, for an open folder is still there when it was moved away.

    Args:
        tree: the vault.
        key_ids: of the data keys that must be there, besides the vault's record.

    Raises:
        OSError: it cannot be told.
    """
    if not any(_is_at(tree, path) for path in RECORD_FILES):
        return KeysMissing(path=tree.path, missing=RECORD_FILES[0])
    for path in map(key_path, key_ids):
        if not _is_at(tree, path):
            return KeysMissing(path=tree.path, missing=path)
    return None


def _is_at(tree: Tree, path: str) -> bool:
    try:
        os.stat(path, dir_fd=tree.fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


class KeyWatch:
    """The data keys that a run seals with, or that sealed before it what it finds.

    Args:
        tree: the vault.
        ledger: remembers the data keys of a mirror; None in place, where each sealed file says its
            own.

    Attributes:
        lost: data keys of a mirror that are gone. Nobody knows which of its files they were for.
    """

    def __init__(self, tree: Tree, ledger: Ledger | None) -> None:
        self._tree = tree
        self._ledger = ledger
        self._own: list[str] = []
        self._are_lost: dict[str, bool] = {}
        known = [] if ledger is None else ledger.key_ids()
        self.lost = [key_id for key_id in known if self.is_lost(key_id)]

    def is_lost(self, key_id: str) -> bool:
        """Whether a data key is gone; looked at once."""
        if key_id not in self._are_lost:
            self._are_lost[key_id] = missing_key(self._tree, [key_id]) is not None
        return self._are_lost[key_id]

    def begins(self, key_id: str) -> None:
        """A data key is about to seal files."""
        self._own.append(key_id)
        if self._ledger is not None:
            self._ledger.add_key(key_id)

    def missing(self) -> KeysMissing | None:
        """What is gone now of what opens the files of this run."""
        return missing_key(self._tree, self._own) if self._own else None

    def missing_before(self) -> KeysMissing | None:
        """What was gone of what opens the files of earlier runs."""
        return missing_key(self._tree, self.lost) if self.lost else None

    def sealed_anew(self) -> None:
        """The lost keys are for nothing any more that the source has."""
        if self._ledger is not None and self.lost:
            self._ledger.forget_keys(self.lost)
