"""Key pairs of people and companies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.errors import IdentityExists
from encvault.keyslots import IdentityFile
from encvault.operations.places import storage
from encvault.vault.single import (
    OutputFile,
)

if TYPE_CHECKING:
    from encvault.crypto.kdf import KdfProfile
    from encvault.secret import Secret


def new_identity(
    output: str, name: str, password: Secret | None, *, profile: KdfProfile | None = None
) -> IdentityFile:
    """Make a key pair and write its identity file, mode 0600, never over an existing file.

    Raises:
        IdentityExists: there is a file of that name.
    """
    check_identity_is_new(output)
    with storage(output), OutputFile(output, force=False, mode=0o600) as file:
        if profile is None:
            identity = IdentityFile.generate(name, password)
        else:
            identity = IdentityFile.generate(name, password, profile=profile)
        os.write(file.open(), identity.encode())
        file.publish()
    return identity


def check_identity_is_new(output: str) -> None:
    """Ask before anybody types a password for a key that will not be made.

    Raises:
        IdentityExists: there is a file of that name.
    """
    if os.path.lexists(output):
        raise IdentityExists(path=output)
