"""Whether a vault still has what opens its sealed files.

A program that tidies hidden files, or syncs folders, may take `.encvault` or the keys in it away at
any time. What was sealed with them is lost then, so this is looked at before originals go.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from encvault.envelope import VaultKeyInfo
from encvault.errors import EncvaultError, KeysMissing
from encvault.fs import calls
from encvault.vault.datakeys import MAX_KEY_SIZE, data_key_ids, is_data_key, key_path
from encvault.vault.inspect import keys_in_use
from encvault.vault.layout import peek
from encvault.vault.manifest import MAX_RECORD_SIZE, RECORD_FILES, VaultRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.fs.tree import Tree
    from encvault.vault.ledger import Ledger
    from encvault.vault.vault import Vault


def missing_key(vault: Vault, key_ids: Iterable[str]) -> KeysMissing | None:
    """What is gone of what opens sealed files, or is no such thing any more; None if all is there.

    Each is read by its path, for an open folder is still there when it was moved away.

    Args:
        vault: the vault.
        key_ids: of the data keys that must be there, besides the vault's record.

    Raises:
        OSError: it cannot be told.
    """
    if not any(_is_record(vault, path) for path in RECORD_FILES):
        return KeysMissing(path=vault.path, missing=RECORD_FILES[0])
    for key_id in key_ids:
        if not _has_key(vault, key_id):
            return KeysMissing(path=vault.path, missing=key_path(key_id))
    return None


def _has_key(vault: Vault, key_id: str) -> bool:
    data = _content(vault.tree, key_path(key_id), MAX_KEY_SIZE)
    return data is not None and is_data_key(data, vault.record, key_id)


def _is_record(vault: Vault, path: str) -> bool:
    data = _content(vault.tree, path, MAX_RECORD_SIZE)
    if data is None or data == vault.record.encode():
        return data is not None
    try:
        return VaultRecord.decode(data, path).id == vault.record.id
    except EncvaultError:
        return False


def _content(tree: Tree, path: str, limit: int) -> bytes | None:
    try:
        fd = calls.open_read(tree.fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link is none of ours, wherever it leads
            return None
        raise
    try:
        return calls.read(fd, limit + 1)
    except IsADirectoryError:
        return None
    finally:
        os.close(fd)


class KeyWatch:
    """The data keys that a run seals with, or that sealed before it what it finds.

    Args:
        vault: the vault.
        ledger: remembers the data keys that a vault had. None in place in the visible layout, where
            each sealed file is met and says its own.

    Attributes:
        lost: data keys that the vault had, that are gone, and under which sealed files of it are.
    """

    def __init__(self, vault: Vault, ledger: Ledger | None) -> None:
        self._vault = vault
        self._ledger = ledger
        self._own: list[str] = []
        self._are_lost: dict[str, bool] = {}
        self._known = frozenset(() if ledger is None else ledger.key_ids())
        gone = {key_id for key_id in self._known if self.is_lost(key_id)}
        # a copy of the vault that is older has not had them all, and needs no more than it has
        self.lost = frozenset(gone & self._in_use()) if gone else frozenset()

    def is_lost(self, key_id: str) -> bool:
        """Whether a data key is gone; looked at once."""
        if key_id not in self._are_lost:
            try:
                self._are_lost[key_id] = not _has_key(self._vault, key_id)
            except OSError:  # who cannot look at it is told when he opens
                self._are_lost[key_id] = False
        return self._are_lost[key_id]

    def is_keyless(self, folder: str, name: str) -> bool:
        """Whether a sealed file is under a data key that is gone.

        Looked at only where there may be any, for it takes as long as all else that an unchanged
        file needs.
        """
        if self._ledger is not None and not self.lost:
            return False
        try:
            header = peek(self._vault.tree, folder, name)
        except OSError:
            return False
        info = None if header is None else header.key_info
        return isinstance(info, VaultKeyInfo) and self.is_lost(info.key)

    def begins(self, key_id: str) -> None:
        """A data key is about to seal files."""
        self._own.append(key_id)
        if self._ledger is not None:
            self._ledger.keep_keys(self._known.union(self._own))

    def missing(self) -> KeysMissing | None:
        """What is gone now of what opens the files of this run."""
        return missing_key(self._vault, self._own) if self._own else None

    def missing_before(self) -> KeysMissing | None:
        """What was gone of what opens the files of earlier runs."""
        return missing_key(self._vault, sorted(self.lost)) if self.lost else None

    def settle(self) -> None:
        """Remember what the vault has now, and forget what was lost and is needed no more."""
        if self._ledger is None:
            return
        mended = self.lost - self._in_use() if self.lost else frozenset()
        known = (self._known - mended).union(self._own, data_key_ids(self._vault.tree))
        if known != self._known.union(self._own):
            self._ledger.keep_keys(known)

    def _in_use(self) -> frozenset[str]:
        return frozenset(key_id for _path, key_id in keys_in_use(self._vault))
