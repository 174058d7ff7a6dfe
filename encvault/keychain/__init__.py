"""The keychain of the desktop; the only part that knows keyring.

`encvault.keychain.client` is what others use, imported when it is first used; it needs nothing
but Python. Only the process that it starts (`encvault.keychain.child`) imports keyring, so encvault
works where that does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.lazy import attach

__all__ = ["Keychain", "Probe"]

if TYPE_CHECKING:
    from encvault.keychain.client import Keychain, Probe
else:  # out of the type checker's sight, which would believe in any name
    __getattr__, __dir__ = attach(__name__, {"encvault.keychain.client": "Keychain Probe"})
