"""Views of scratch vaults, without FUSE."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from helpers import RECIPIENT, SEED

from encvault.crypto.suite import Suite
from encvault.keyslots import KeyIdentity
from encvault.mount import open_view
from encvault.mount.nodes import Caller
from encvault.secret import Secret
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from encvault.mount.nodes import Access
    from encvault.mount.observer import SavedEvent
    from encvault.vault.manifest import VaultLayout

CALLER = Caller(os.getuid(), os.getgid(), os.getpid())


class Watcher:
    """Hears what a view tells."""

    def __init__(self) -> None:
        self.opens: list[tuple[Access, Caller]] = []
        self.saves: list[SavedEvent] = []
        self.problems: list[Exception] = []

    def opened(self, access: Access, caller: Caller) -> None:
        """See `MountObserver`."""
        self.opens.append((access, caller))

    def who(self, caller: Caller) -> object:
        """See `MountObserver`."""
        return caller

    def saving(self, events: Sequence[SavedEvent]) -> None:
        """See `MountObserver`."""
        self.saves += events

    def problem(self, error: Exception) -> None:
        """See `View`."""
        self.problems.append(error)


class Mounted:
    """A vault with a view of it; use it as a context manager.

    Args:
        path: the vault's folder; a vault is made in it if there is none.
        layout: of a vault that is made.
        suite: likewise.
        read_only: see `View`.
    """

    def __init__(
        self,
        path: Path,
        layout: VaultLayout = "visible",
        *,
        suite: Suite = Suite.AES_256_GCM,
        read_only: bool = False,
    ) -> None:
        if not (path / ".encvault").exists():
            path.mkdir(exist_ok=True)
            Vault.create(str(path), [RECIPIENT], suite=suite, layout=layout).close()
        self.path = path
        self.read_only = read_only
        self.watcher = Watcher()
        self.begin()

    def begin(self) -> None:
        """Open the vault and the view."""
        self.vault = Vault.load(str(self.path))
        self.vault.unlock([KeyIdentity(Secret(SEED))])
        self.vault.hold(reading=self.read_only)
        self.view = open_view(
            self.vault,
            read_only=self.read_only,
            observer=self.watcher,
            problem=self.watcher.problem,
        )

    def end(self) -> None:
        """Close both."""
        try:
            self.view.close()
        finally:
            self.vault.close()

    def again(self) -> None:
        """Close and open: what was not saved is gone."""
        self.end()
        self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    # -- shorter than the verbs ---------------------------------------------------------------

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make a file, or give it another content, as a program does."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        handle = self.view.create(path, mode, flags, CALLER)
        for start in range(0, len(data), 131_072):
            self.view.write(handle, data[start : start + 131_072], start)
        self.view.flush(handle)
        self.view.release(handle)

    def read(self, path: str) -> bytes:
        """All of a file."""
        handle = self.view.open(path, os.O_RDONLY, CALLER)
        try:
            out = b""
            while piece := self.view.read(handle, 131_072, len(out)):
                out += bytes(piece)
            return out
        finally:
            self.view.release(handle)

    def names(self, path: str = "/") -> list[str]:
        """Names in a folder, sorted."""
        return sorted(name for name, _kind in self.view.listing(path))
