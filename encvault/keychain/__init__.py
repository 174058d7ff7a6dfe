"""The keychain of the desktop; the only part that knows keyring.

`encvault.keychain.client` is what others use; it needs nothing but Python. Only the process that it
starts (`encvault.keychain.child`) imports keyring, so encvault works where that does not.
"""

from encvault.keychain.client import Keychain, Probe

__all__ = ["Keychain", "Probe"]
