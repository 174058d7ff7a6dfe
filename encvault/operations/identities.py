"""Key pairs of people and companies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.errors import IdentityExists, KeysUnreadable, SourceMissing
from encvault.i18n import system_reason
from encvault.keyslots import (
    MAX_IDENTITY_FILE_SIZE,
    MAX_RECIPIENT_FILE_SIZE,
    IdentityFile,
    decode_recipient,
    decode_recipient_file,
)
from encvault.operations.places import storage
from encvault.vault.single import OutputFile

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


def read_identity(path: str) -> IdentityFile:
    """An identity file.

    Raises:
        MalformedIdentity, SourceMissing, KeysUnreadable: it is none.
    """
    return IdentityFile.decode(_read_file(path, MAX_IDENTITY_FILE_SIZE), path)


def read_recipients(text: str) -> list[bytes]:
    """Public keys, 1,216 bytes each.

    Args:
        text: a recipient line, or the path of a file of them.

    Raises:
        MalformedRecipient, SourceMissing, KeysUnreadable: it is neither.
    """
    if text.startswith("encvault1-"):
        return [decode_recipient(text, text[:24] + "…")]
    return decode_recipient_file(_read_file(text, MAX_RECIPIENT_FILE_SIZE), text)


def _read_file(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        raise SourceMissing(path=path) from None
    except OSError as error:
        raise KeysUnreadable(path=path, reason=system_reason(error)) from None
