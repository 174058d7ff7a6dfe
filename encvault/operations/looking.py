"""Look at a vault without a key: status."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.errors import (
    DamagedFiles,
    EncvaultError,
    PlaintextPresent,
    SourceMissing,
    UnreadablePresent,
)
from encvault.mount.registry import Registry
from encvault.operations.places import (
    storage,
    top_of,
    within,
)
from encvault.usb import guide
from encvault.vault.inspect import VaultStatus, inspect_status
from encvault.vault.layout import sealed_path
from encvault.vault.vault import Vault, canonical, find_vault

if TYPE_CHECKING:
    from encvault.mount.registry import Mounted


def status(path: str) -> VaultStatus:
    """What is sealed in a vault and what is not; needs no key.

    Raises:
        NotAVault: `path` is no vault and in none.
        SourceMissing: there is no such place in the vault.
    """
    top = top_of(path)
    with storage(path), Vault.load(top) as vault:
        # what a hidden vault holds is not known without a key
        sealed = sealed_path(within(top, path))
        if not (vault.hidden or os.path.lexists(path) or vault.tree.exists(sealed)):
            raise SourceMissing(path=path)
        found = inspect_status(vault)
        # `usb lock` leaves it in the clear on purpose
        if guide.NAME in found.plain and guide.is_there(vault.tree):
            found.plain.remove(guide.NAME)
            found.plain_size -= vault.tree.status(guide.NAME).st_size
        return found


def list_mounts(state_dir: str, vault: str | None = None) -> list[Mounted]:
    """The mounts of this user, alive and dead, the oldest first.

    Args:
        state_dir: local state folder.
        vault: only those of the vault that this path is or lies in; None for all.
    """
    found = [one for one in Registry(state_dir).all() if one.mountpoint]
    if vault is None:
        return found
    top = find_vault(vault)
    return [one for one in found if top is not None and canonical(one.vault) == top]


def status_outcome(path: str, status: VaultStatus) -> EncvaultError | None:
    """The one error that a look at a vault ends with, or None.

    Args:
        path: as it was given; what is counted lies in all of the vault, whatever place it names.
        status: what `status` found there.
    """
    if status.keyless:
        return DamagedFiles(count=len(status.keyless))
    if left := sum(map(len, (status.plain, status.unknown, status.leftovers))):
        top = find_vault(path) or path
        return PlaintextPresent(count=left, path=path if canonical(path) == top else top)
    if status.unreadable:
        return UnreadablePresent(count=len(status.unreadable))
    return None
