"""Key pairs of people and companies."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import (
    EncvaultError,
    IdentityExists,
    KeychainError,
    KeysUnreadable,
    SourceMissing,
)
from encvault.i18n import system_reason
from encvault.keyslots import (
    MAX_IDENTITY_FILE_SIZE,
    MAX_RECIPIENT_FILE_SIZE,
    IdentityFile,
    decode_recipient,
    decode_recipient_file,
    fingerprint,
    keychain_account,
)
from encvault.operations.places import storage
from encvault.operations.recording import recording
from encvault.vault.output import OutputFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.accesslog.log import AccessLog
    from encvault.crypto.kdf import KdfProfile
    from encvault.keychain import Keychain
    from encvault.keyslots import KeyIdentity, Recipient
    from encvault.secret import Secret
    from encvault.vault.report import Observer

_SUFFIX = ".key"


class IdentityInfo(NamedTuple):
    """What may be shown of an identity file.

    Attributes:
        path: the file.
        name: for people.
        fingerprint: of its public key.
        created_at: time text.
        protected: ``none``, ``password``, or ``keychain`` if the keychain holds the password.
    """

    path: str
    name: str
    fingerprint: str
    created_at: str
    protected: str


def new_identity(
    output: str,
    name: str,
    password: Secret | None,
    *,
    profile: KdfProfile | None = None,
    keychain: Keychain | None = None,
    log: AccessLog | None = None,
    observer: Observer | None = None,
) -> IdentityFile:
    """Make a key pair and write its identity file, mode 0600, never over an existing file.

    Args:
        output: the file.
        name: for people.
        password: protects the file, unless it is None.
        profile: work factors of Argon2id, or None for the default.
        keychain: gets the password, and gives it back, before there is a file that needs it.
        log: where that is recorded, or None.
        observer: is told what is worth knowing.

    Raises:
        IdentityExists: there is a file of that name.
        KeychainError: the password is not stored; no file was made.
    """
    check_identity_is_new(output)
    with (
        recording(log, "key.new", output, observer) as recorder,
        storage(output),
        OutputFile(output, force=False, mode=0o600) as file,
    ):
        if profile is None:
            identity = IdentityFile.generate(name, password)
        else:
            identity = IdentityFile.generate(name, password, profile=profile)
        os.write(file.open(), identity.encode())
        with _stored(identity, password, keychain):
            recorder.record(path=output, detail=fingerprint(identity.public))
            file.publish()
    return identity


@contextlib.contextmanager
def _stored(
    identity: IdentityFile, password: Secret | None, keychain: Keychain | None
) -> Iterator[None]:
    """Leave the password with the keychain, unless what follows fails."""
    if keychain is None or password is None or identity.slot is None:
        yield
        return
    account = keychain_account(identity.slot)
    keychain.store(account, password)
    try:
        yield
    except BaseException:
        with contextlib.suppress(KeychainError):  # what went wrong is told, and this entry is idle
            keychain.forget(account)
        raise


def check_identity_is_new(output: str) -> None:
    """Ask before anybody types a password for a key that will not be made.

    Raises:
        IdentityExists: there is a file of that name.
    """
    if os.path.lexists(output):
        raise IdentityExists(path=output)


def change_identity_password(
    path: str,
    identity: IdentityFile,
    key: KeyIdentity,
    recipient: Recipient,
    *,
    log: AccessLog | None = None,
    observer: Observer | None = None,
) -> None:
    """Protect an identity file by another password; until that is durable the old file stays.

    Args:
        path: the file; if it is a link, what it leads to is replaced.
        identity: what is in it.
        key: the same, unlocked.
        recipient: wraps for the new password.
        log: where that is recorded, or None.
        observer: is told what is worth knowing.

    Raises:
        UnprovedKeyslot: what was wrapped does not open; nothing was changed.
    """
    changed = identity.protected_for(recipient, key, path)
    with (
        recording(log, "key.passwd", path, observer) as recorder,
        storage(path),
        OutputFile(os.path.realpath(path), force=True, mode=0o600) as file,
    ):
        file.open()
        file.write(changed.encode())
        recorder.record(path=path, detail=fingerprint(identity.public))
        file.publish()


def list_identities(
    folder: str, keychain: Keychain
) -> tuple[list[IdentityInfo], list[EncvaultError]]:
    """The identity files in a folder, by name, and what is wrong with those that are none.

    Args:
        folder: is looked into, not below; it need not exist.
        keychain: is asked which passwords it holds, if it can be without a dialogue.
    """
    with storage(folder):
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, name) for name in names if name.endswith(_SUFFIX)]
    found: list[tuple[str, IdentityFile]] = []
    problems: list[EncvaultError] = []
    for path in filter(os.path.isfile, paths):
        try:
            found.append((path, read_identity(path)))
        except EncvaultError as error:
            problems.append(error)
    held = _held(keychain, [identity for _path, identity in found])
    return [_info(path, identity, held) for path, identity in found], problems


def _held(keychain: Keychain, identities: list[IdentityFile]) -> set[str]:
    accounts = [keychain_account(one.slot) for one in identities if one.slot is not None]
    if accounts:
        with contextlib.suppress(KeychainError):  # then a password is all that can be said
            return keychain.holds(accounts)
    return set()


def _info(path: str, identity: IdentityFile, held: set[str]) -> IdentityInfo:
    protected = "none"
    if identity.slot is not None:
        protected = "keychain" if keychain_account(identity.slot) in held else "password"
    return IdentityInfo(
        path, identity.name, fingerprint(identity.public), identity.created_at, protected
    )


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
