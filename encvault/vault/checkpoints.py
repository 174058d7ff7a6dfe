"""Checkpoints of access logs that a vault keeps: so every copy of it is a witness of that log.

docs/log-format.md, section 8. Nothing in the vault depends on them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from encvault.fs import durable
from encvault.vault.manifest import CHECKPOINTS_FOLDER, make_own_folders, new_id

if TYPE_CHECKING:
    from encvault.vault.vault import Vault

_MAX_NOTE_SIZE = 65_536  # bytes


def kept_checkpoint(vault: Vault, log_id: str) -> bytes | None:
    """The checkpoint of an access log that the vault keeps, a signed note, or None."""
    try:
        return durable.read_file(vault.tree, f"{CHECKPOINTS_FOLDER}/{log_id}", _MAX_NOTE_SIZE)
    except OSError:
        return None


def keep_checkpoint(vault: Vault, log_id: str, note: bytes) -> None:
    """Keep the latest checkpoint of an access log that recorded a change of the vault.

    A vault that is only read, or has no room, keeps none.

    Args:
        vault: what was changed.
        log_id: 26 characters.
        note: the signed checkpoint.
    """
    if not vault.is_held:
        return
    with contextlib.suppress(OSError):
        make_own_folders(vault.tree, CHECKPOINTS_FOLDER)
        durable.write_file(
            vault.tree,
            CHECKPOINTS_FOLDER,
            log_id,
            note,
            file_id=new_id(),
            mode=None,
            replace=True,
        )
