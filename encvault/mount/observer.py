"""Who is told what a mount gives out and saves, such as an access log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from encvault.mount.nodes import Access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.mount.nodes import Caller

SavedEvent = tuple[str, Access, object, str]
"""``write``, ``remove`` or ``rename``; of what; by whom, see `MountObserver.who`, or None; for
``rename`` the new path, else ""."""


class MountObserver(Protocol):
    """Is told what a mount gives out and saves."""

    def opened(self, access: Access, caller: Caller) -> None:
        """Before a byte is given out; what it raises refuses it."""

    def who(self, caller: Caller) -> object:
        """Who somebody is, as long as he is there to be asked."""

    def saving(self, events: Sequence[SavedEvent]) -> None:
        """Before these take effect."""
