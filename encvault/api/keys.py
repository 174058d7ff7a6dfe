"""Keys for a program: passwords as text, key pairs from their files, recovery codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault import keyslots, operations
from encvault.api.arguments import StrPath, as_identities, as_path
from encvault.errors import KeyRequired
from encvault.operations import Answers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.accesslog.log import AccessLog
    from encvault.keyslots import Identity, Recipient
    from encvault.secret import Secret


class PasswordRecipient(keyslots.PasswordRecipient):
    """Seals for whoever knows a password, by Argon2id (256 MiB, 3 passes, 4 lanes).

    The password is hashed once for all that one instance seals.

    Args:
        password: text, or its UTF-8 bytes. Both are normalised (NFC), so that a password opens
            however it was typed.
        label: for people, shown in lists of keyslots; up to 200 characters.

    Raises:
        EmptyPassword: there is nothing to protect with.
    """

    def __init__(self, password: str | bytes, *, label: str = "") -> None:
        super().__init__(_password(password), label=label)


class PasswordIdentity(keyslots.PasswordIdentity):
    """Opens what was sealed for a password; hashes it once for each salt that it meets.

    Args:
        password: text, or its UTF-8 bytes, as for `PasswordRecipient`.

    Raises:
        EmptyPassword: nothing can have been sealed for it.
    """

    def __init__(self, password: str | bytes) -> None:
        super().__init__(_password(password))


class RecoveryIdentity(keyslots.RecoveryIdentity):
    """Opens what was sealed for a recovery code.

    Args:
        code: 13 groups of five symbols, in either case, with spaces, line ends or ``-`` between.

    Raises:
        MistypedRecoveryCode: names the first group that is not as it was made.
    """

    def __init__(self, code: str) -> None:
        with keyslots.decode_code(code) as secret:
            super().__init__(secret)


def new_identity(
    path: StrPath,
    *,
    name: str = "",
    password: str | bytes | None = None,
    log: AccessLog | None = None,
) -> str:
    """Make a key pair and write its identity file, mode 0600, never over an existing file.

    Args:
        path: the new file.
        name: for people to read.
        password: protects the file; with None the private key lies in it in the clear.
        log: where that is recorded; nowhere without one.

    Returns:
        The recipient line ``encvault1-…``, 1,638 characters, which may be given to anybody
        (`load_recipients`).

    Raises:
        IdentityExists: there is a file of that name.
    """
    secret = None if password is None else _password(password)
    return operations.new_identity(as_path(path), name, secret, log=log).recipient


def load_identity(path: StrPath, *, password: str | bytes | None = None) -> Identity:
    """What opens all that was sealed for a key pair.

    Args:
        path: an identity file.
        password: of the file, if it has one.

    Returns:
        The identity, with the private key unwrapped in memory.

    Raises:
        KeyRequired: it has one, and none was given.
        WrongIdentityPassword: it has another one.
        SourceMissing, KeysUnreadable, MalformedIdentity: it is no identity file.
    """
    where = as_path(path)
    identity = operations.read_identity(where)
    if identity.slot is not None and password is None:
        raise KeyRequired(what=where)
    return identity.unlock(None if password is None else _password(password), where)


def load_recipients(source: StrPath, *, label: str | None = None) -> list[Recipient]:
    """Whom to seal for, by public keys.

    Args:
        source: a recipient line ``encvault1-…``, or the path of a file with one or more of them.
        label: for people, shown in lists of keyslots; None for each key's fingerprint.

    Returns:
        One recipient for each line.

    Raises:
        SourceMissing, KeysUnreadable, MalformedRecipient: it is neither.
    """
    return [
        keyslots.PublicKeyRecipient(
            key, label=keyslots.fingerprint(key) if label is None else label
        )
        for key in operations.read_recipients(as_path(source))
    ]


def _password(password: str | bytes) -> Secret:
    if not isinstance(password, (str, bytes)):
        raise TypeError(f"a password is str or bytes, not {type(password).__name__}")
    if isinstance(password, bytes):
        password = password.decode(errors="surrogateescape")
    return keyslots.encode_password(password)


def opening(identities: Iterable[Identity], what: str, log: AccessLog | None = None) -> Answers:
    """Answers that open; nobody is asked.

    Raises:
        KeyRequired: there is no identity.
    """
    given = as_identities(identities)
    if not given:
        raise KeyRequired(what=what)
    return Answers(identities_given=given, log=log)
