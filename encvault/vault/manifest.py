"""The vault's record, kept twice (docs/format.md section 6).

It is signed by a key that follows from the vault secret, so only who can open the vault can change
it; data keys are sealed to a public key in it, so a run that only seals needs no secret.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from encvault.crypto import NotAuthentic, hpke, signing
from encvault.crypto.suite import Suite
from encvault.encoding import (
    decode_base64,
    decode_json,
    encode_base32,
    encode_base64,
    encode_json,
    is_id,
)
from encvault.envelope import VAULT_FOLDER
from encvault.errors import MalformedVault, UnsupportedVersion
from encvault.fs import calls, durable
from encvault.fs.sharing import share_as
from encvault.fs.tree import join, split
from encvault.i18n import N_, _
from encvault.keyslots import Slot, check_bare, check_slots, is_time
from encvault.vault.keys import (
    Succession,
    check_successions,
    decode_successions,
    vault_fingerprint,
)

if TYPE_CHECKING:
    from encvault.fs.tree import Tree
    from encvault.vault.keys import VaultKeys

FOLDER = VAULT_FOLDER
RECORD_FILES = (f"{FOLDER}/vault.a.json", f"{FOLDER}/vault.b.json")
KEYS_FOLDER = f"{FOLDER}/keys"
CHECKPOINTS_FOLDER = f"{FOLDER}/checkpoints"
OBJECTS_FOLDER = f"{FOLDER}/objects"
INDEX_FOLDER = f"{FOLDER}/index"
LOCK_FILE = f"{FOLDER}/lock"
MAX_RECORD_SIZE = 1 << 20

VaultLayout = Literal["visible", "hidden"]

_SIGNED = b"encvault/vault@v1\n"


def new_id() -> str:
    """A fresh id: 16 random bytes, 26 characters."""
    return encode_base32(os.urandom(16))


# -- the vault record -----------------------------------------------------------------------


class VaultRecord(NamedTuple):
    """What a vault says about itself.

    Attributes:
        id: 26 characters.
        created_at: time text.
        generation: 1, and one more at each change.
        suite: of all its files.
        layout: how names are kept.
        hpke_public: 1,216 bytes; data keys are sealed to it.
        sign_public: 32 bytes; the record is signed by it.
        slots: keyslots that wrap the vault secret.
        pending: keyslots, without what they held, whose passwords must be set again.
        succession: the changes of its keys, the latest last.
        signature: 64 bytes over everything above.
    """

    id: str
    created_at: str
    generation: int
    suite: Suite
    layout: VaultLayout
    hpke_public: bytes
    sign_public: bytes
    slots: tuple[Slot, ...]
    pending: tuple[Slot, ...] = ()
    succession: tuple[Succession, ...] = ()
    signature: bytes = b""

    @property
    def fingerprint(self) -> str:
        """See `vault_fingerprint`."""
        return vault_fingerprint(self.id, self.sign_public)

    @property
    def former_fingerprints(self) -> list[str]:
        """What it was before each change of keys, the first change first."""
        return [vault_fingerprint(self.id, entry.sign_public) for entry in self.succession]

    @property
    def rekeyed_at(self) -> int:
        """The generation of the latest change of keys; 1 if there was none.

        What was sealed with data keys of an earlier generation opens with a former vault secret.
        """
        return self.succession[-1].generation if self.succession else 1

    def succeeds(self, other: VaultRecord) -> bool:
        """Whether the key that signed the other was replaced, in the end, by this one's."""
        return any(entry.sign_public == other.sign_public for entry in self.succession)

    def _members(self) -> dict[str, Any]:
        return {
            "encvault": 1,
            "id": self.id,
            "created_at": self.created_at,
            "generation": self.generation,
            "suite": self.suite.label,
            "layout": self.layout,
            "hpke_public": encode_base64(self.hpke_public),
            "sign_public": encode_base64(self.sign_public),
            "slots": list(self.slots),
            "pending": list(self.pending),
            "succession": [entry.members() for entry in self.succession],
        }

    def _signed_bytes(self) -> bytes:
        return _SIGNED + encode_json(self._members())

    def sign(self, keys: VaultKeys) -> VaultRecord:
        """This record with a fresh signature."""
        return self._replace(signature=signing.sign(keys.sign_seed.reveal(), self._signed_bytes()))

    def encode(self) -> bytes:
        """The file's bytes."""
        return encode_json(self._members() | {"signature": encode_base64(self.signature)}) + b"\n"

    @classmethod
    def decode(cls, data: bytes, path: str) -> VaultRecord:
        """Read a vault record and check its signature.

        Raises:
            UnsupportedVersion: made by a newer encvault.
            MalformedVault: a rule of docs/format.md section 6 is broken.
            WorkFactorTooLarge: a slot asks for too much work.
        """
        try:
            if len(data) > MAX_RECORD_SIZE or not data.endswith(b"\n"):
                raise ValueError(N_("cut off or too large"))  # noqa: TRY301 - one exception for bad input
            value = decode_json(data[:-1])
            if not isinstance(value, dict):
                raise ValueError(N_("not an object"))  # noqa: TRY004, TRY301 - as above
            version = value["encvault"]
            if type(version) is not int or version < 1:
                raise ValueError(N_("version"))  # noqa: TRY301 - as above
            if version > 1:
                raise UnsupportedVersion(path=path, version=version)
            record = cls(
                id=value["id"],
                created_at=value["created_at"],
                generation=value["generation"],
                suite=Suite.from_label(value["suite"]),
                layout=cast("VaultLayout", value["layout"]),
                hpke_public=decode_base64(value["hpke_public"]),
                sign_public=decode_base64(value["sign_public"]),
                slots=check_slots(value["slots"], path),
                pending=check_bare(value["pending"]),
                succession=decode_successions(value["succession"]),
                signature=decode_base64(value["signature"]),
            )
            record._check(value)
            signing.verify(record.sign_public, record.signature, record._signed_bytes())
            check_successions(record)
        except NotAuthentic:
            raise MalformedVault(path=path, reason=_("its signature is wrong")) from None
        except KeyError:
            raise MalformedVault(path=path, reason=_("wrong members")) from None
        except ValueError as error:
            raise MalformedVault(path=path, reason=_(str(error))) from None
        return record

    def _check(self, value: dict[str, Any]) -> None:
        if value.keys() != self._members().keys() | {"signature"}:
            raise ValueError(N_("wrong members"))
        if not is_id(self.id) or not is_time(self.created_at):
            raise ValueError(N_("id or time"))
        if type(self.generation) is not int or self.generation < 1:
            raise ValueError(N_("generation"))
        if self.layout not in ("visible", "hidden"):
            raise ValueError(N_("layout"))
        ids = {slot["id"] for slot in (*self.slots, *self.pending)}
        if len(ids) != len(self.slots) + len(self.pending):
            raise ValueError(N_("two slots with one id"))
        if any(slot["kind"] != "password" for slot in self.pending):
            raise ValueError(N_("slot kind"))
        revoked = {slot["id"] for entry in self.succession for slot in entry.revoked}
        if not ids.isdisjoint(revoked):
            raise ValueError(N_("a revoked slot is among the slots"))
        hpke.check_public_key(self.hpke_public)


def load_record(tree: Tree) -> VaultRecord:
    """The valid record that succeeds the other, or that has the higher generation.

    Raises:
        FileNotFoundError: there is no vault.
        MalformedVault, WorkFactorTooLarge: neither file is valid; the error is the first file's.
    """
    found: list[VaultRecord] = []
    failures: list[Exception] = []
    for path in RECORD_FILES:
        try:
            data = durable.read_file(tree, path, MAX_RECORD_SIZE)
            found.append(VaultRecord.decode(data, tree.show(path)))
        except Exception as error:  # noqa: BLE001 - the other copy may be good
            failures.append(error)
    if not found:
        told = [error for error in failures if not isinstance(error, FileNotFoundError)]
        raise (told or failures)[0]
    newest = max(found, key=lambda record: record.generation)
    for record in found:
        if record.succeeds(newest):  # who was revoked can sign any generation with the old key
            return record
    return newest


def make_own_folders(tree: Tree, path: str) -> int:
    """Make a folder of the vault's own where it is missing, and those that it is in.

    Args:
        tree: the vault.
        path: of the folder; each that is made is as open as the one that it lies in.

    Returns:
        Its descriptor; see `Tree.folder`.
    """
    with contextlib.suppress(FileNotFoundError):
        return tree.folder(path)
    at = ""
    for name in path.split("/"):
        above, at = at, join(at, name)
        try:
            tree.folder(at)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                calls.mkdir(tree.folder(above), name)
                share_as(tree.folder(at), tree.folder(above))
    return tree.folder(at)


def store_record(tree: Tree, record: VaultRecord) -> None:
    """Write both copies, one durable before the other, so that one is always whole."""
    for path in RECORD_FILES:
        _write_record(tree, path, record.encode())


def mend_records(tree: Tree, record: VaultRecord) -> None:
    """Write the valid record again where a copy is missing, torn or older.

    It needs no secret: the record is signed, and stays what it is.
    """
    data = record.encode()
    for path in RECORD_FILES:
        try:
            if durable.read_file(tree, path, MAX_RECORD_SIZE) == data:
                continue
        except OSError:
            pass
        _write_record(tree, path, data)


def _write_record(tree: Tree, path: str, data: bytes) -> None:
    folder, name = split(path)
    durable.write_file(tree, folder, name, data, file_id=new_id(), mode=None, replace=True)
