"""Change the register of a company's drives, where its secret key is."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from encvault.crypto import signing
from encvault.encoding import decode_base64, encode_base64
from encvault.errors import RegisterDamaged, RegisterKeyMissing
from encvault.fs import durable, locks
from encvault.fs.tree import Tree
from encvault.secret import Secret
from encvault.tlog.notes import ED25519, Note, VerifierKey, sign_note
from encvault.usb.register import Register, Registration
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED_SIZE = 32  # bytes of an Ed25519 private key (RFC 8032, section 5.1.5)

_KEY_NAME = "encvault-drives/"
_KEY_SUFFIX = ".key"
_MAX_KEY_SIZE = 4096  # bytes of its file


@dataclass(slots=True)
class Registrar:
    """A register, and the key that signs for it.

    Attributes:
        tree: the folder of its file.
        key: what verifies.
        seed: what signs, `SEED_SIZE` bytes.
        register: as it is now.
    """

    tree: Tree
    key: VerifierKey
    seed: Secret
    register: Register

    def sign(self, registration: Registration) -> Note:
        """The note for a drive."""
        return sign_note(registration.encode(), self.key.name, self.seed.reveal(), self.key.public)

    def enter(self, registration: Registration, note: Note) -> None:
        """Have a drive in the register, durable on return, in the place of what it said of it."""
        self._store({**self.register.notes, registration.id: note})

    def remove(self, drive: str) -> None:
        """Have a drive in it no more, durable on return."""
        self._store({name: note for name, note in self.register.notes.items() if name != drive})

    def _store(self, notes: dict[str, Note]) -> None:
        changed = replace(self.register, key=self.key, notes=notes)
        name = os.path.basename(self.register.path)
        data = changed.encode()
        durable.write_file(self.tree, "", name, data, file_id=new_id(), mode=0o644, replace=True)
        self.register = changed


@contextlib.contextmanager
def registrar(path: str) -> Iterator[Registrar]:
    """A register that nobody else changes meanwhile; with a new key where there is none.

    Args:
        path: of its file.

    Raises:
        RegisterKeyMissing: its secret key is not on this machine.
        RegisterDamaged, ConfigUnreadable, UntrustedConfig: see `Register.load`.
        OSError: it cannot be written.
    """
    folder, name = os.path.split(os.path.abspath(path))
    with Tree.made(folder) as tree, locks.waiting(tree, f".{name}.lock"):
        register = Register.load(path)
        with _seed(tree, name + _KEY_SUFFIX, register) as seed:
            public = signing.public_key(seed.reveal())
            key = register.key or VerifierKey(_KEY_NAME + new_id(), ED25519, public)
            if key.public != public:
                raise RegisterKeyMissing(path=tree.show(name + _KEY_SUFFIX), register=register.path)
            yield Registrar(tree, key, seed, register)


def _seed(tree: Tree, name: str, register: Register) -> Secret:
    """The secret key beside a register; for a new one a new one, durable on return."""
    try:
        line = durable.read_file(tree, name, _MAX_KEY_SIZE)
    except FileNotFoundError:
        if register.key is not None:
            raise RegisterKeyMissing(path=tree.show(name), register=register.path) from None
        seed = Secret(os.urandom(SEED_SIZE))
        line = encode_base64(bytes(seed.reveal())).encode() + b"\n"
        durable.write_file(tree, "", name, line, file_id=new_id(), mode=0o600, replace=False)
        return seed
    try:
        found = Secret(decode_base64(line.decode().strip()))
    except ValueError:
        raise RegisterDamaged(path=tree.show(name)) from None
    if len(found) != SEED_SIZE:
        raise RegisterDamaged(path=tree.show(name))
    return found
