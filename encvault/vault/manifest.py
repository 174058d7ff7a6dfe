"""The vault's own files: its record, kept twice, and its data keys.

docs/format.md sections 6 and 7. The record is signed by a key that follows from the vault secret,
so only who can open the vault can change it; the data keys are sealed to a public key in it, so a
run that only seals needs no secret.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from encvault.crypto import NotAuthentic, hpke, kdf, signing
from encvault.crypto.suite import KEY_SIZE, Suite
from encvault.envelope import (
    decode_base64,
    decode_json,
    encode_base32,
    encode_base64,
    encode_json,
    is_id,
)
from encvault.errors import MalformedVault, UnknownDataKey, UnsupportedVersion
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.tree import split
from encvault.i18n import N_, _
from encvault.keyslots import Slot, check_slots, group, is_time, now_text
from encvault.secret import Secret

if TYPE_CHECKING:
    from encvault.fs.tree import Tree

FOLDER = ".encvault"
RECORD_FILES = (f"{FOLDER}/vault.a.json", f"{FOLDER}/vault.b.json")
KEYS_FOLDER = f"{FOLDER}/keys"
OBJECTS_FOLDER = f"{FOLDER}/objects"
LOCK_FILE = f"{FOLDER}/lock"
MAX_RECORD_SIZE = 1 << 20
MAX_KEY_SIZE = 16_384

VaultLayout = Literal["visible", "hidden"]

_KEY_FILE = re.compile(r"[a-z2-7]{26}\.json")
_SIGNED = b"encvault/vault@v1\n"
_KEY_BINDING = b"encvault/data-key@v1\0"


def new_id() -> str:
    """A fresh id: 16 random bytes, 26 characters."""
    return encode_base32(os.urandom(16))


# -- the vault record -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VaultRecord:
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
        signature: 64 bytes over everything above.
    """

    id: str
    created_at: str
    generation: int
    suite: Suite
    layout: VaultLayout
    hpke_public: bytes
    sign_public: bytes
    slots: tuple[Slot, ...] = field(hash=False)
    signature: bytes = b""

    @property
    def fingerprint(self) -> str:
        """What people compare to know that it is their vault."""
        content = self.id.encode() + self.hpke_public + self.sign_public
        return group(hashlib.sha256(b"encvault/vault-fingerprint@v1\0" + content).digest()[:20])

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
        }

    def _signed_bytes(self) -> bytes:
        return _SIGNED + encode_json(self._members())

    def sign(self, keys: VaultKeys) -> VaultRecord:
        """This record with a fresh signature."""
        return replace(self, signature=signing.sign(keys.sign_seed.reveal(), self._signed_bytes()))

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
                signature=decode_base64(value["signature"]),
            )
            record._check(value)
            signing.verify(record.sign_public, record.signature, record._signed_bytes())
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
        hpke.check_public_key(self.hpke_public)


class VaultKeys:
    """The key pairs that follow from a vault secret.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: Secret) -> None:
        self.secret = secret
        self.hpke_seed = kdf.expand(secret.reveal(), "encvault/vault/hpke@v1")
        self.sign_seed = kdf.expand(secret.reveal(), "encvault/vault/sign@v1")

    @property
    def public(self) -> tuple[bytes, bytes]:
        """The HPKE and the Ed25519 public key."""
        return (
            hpke.public_key(self.hpke_seed.reveal()),
            signing.public_key(self.sign_seed.reveal()),
        )

    def check(self, record: VaultRecord, path: str) -> None:
        """Refuse a record whose public keys are not this secret's.

        Raises:
            MalformedVault: someone exchanged them.
        """
        if self.public != (record.hpke_public, record.sign_public):
            raise MalformedVault(path=path, reason=_("its public keys are not those of its secret"))

    def wipe(self) -> None:
        """Forget all of them."""
        for secret in (self.secret, self.hpke_seed, self.sign_seed):
            secret.wipe()


def load_record(tree: Tree) -> VaultRecord:
    """The valid record with the higher generation.

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
    return max(found, key=lambda record: record.generation)


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
    durable.write_file(tree, folder, name, data, file_id=new_id(), mode=0o644, replace=True)


# -- data keys ------------------------------------------------------------------------------


def make_data_key(tree: Tree, record: VaultRecord) -> tuple[str, Secret]:
    """A new data key, durable in the vault before it is returned.

    Returns:
        Its id and its 32 bytes.
    """
    key = Secret(bytearray(os.urandom(KEY_SIZE)))
    key_id = new_id()
    value = {
        "id": key_id,
        "vault": record.id,
        "suite": record.suite.label,
        "created_at": now_text(),
    }
    sealed = hpke.seal(record.hpke_public, key.reveal(), _KEY_BINDING + encode_json(value))
    data = encode_json(value | {"wrapped": encode_base64(sealed)}) + b"\n"
    tree.make_folders(KEYS_FOLDER)
    durable.write_file(
        tree,
        KEYS_FOLDER,
        f"{key_id}.json",
        data,
        file_id=key_id,
        mode=0o644,
        replace=False,
    )
    calls.fsync(tree.folder(FOLDER))
    return key_id, key


def load_data_key(
    tree: Tree, record: VaultRecord, keys: VaultKeys, key_id: str, path: str
) -> tuple[Suite, Secret]:
    """Unwrap a data key.

    Args:
        tree: the vault.
        record: its record.
        keys: its keys.
        key_id: which one.
        path: the sealed file that names it, for messages.

    Raises:
        UnknownDataKey: missing, malformed, of another vault, or not sealed to this vault.
    """
    try:
        data = durable.read_file(tree, f"{KEYS_FOLDER}/{key_id}.json", MAX_KEY_SIZE)
        if not data.endswith(b"\n") or len(data) > MAX_KEY_SIZE:
            raise ValueError(N_("cut off or too large"))  # noqa: TRY301 - as below
        value = decode_json(data[:-1])
        wrapped = decode_base64(value.pop("wrapped"))
        if value.keys() != {"id", "vault", "suite", "created_at"}:
            raise ValueError(N_("members"))  # noqa: TRY301 - one way out for all that can be wrong
        if (value["id"], value["vault"]) != (key_id, record.id) or not is_time(value["created_at"]):
            raise ValueError(N_("id"))  # noqa: TRY301 - as above
        key = hpke.open(keys.hpke_seed.reveal(), wrapped, _KEY_BINDING + encode_json(value))
        suite = Suite.from_label(value["suite"])
        if len(key) != KEY_SIZE:
            raise ValueError(N_("size"))  # noqa: TRY301 - as above
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, NotAuthentic):
        raise UnknownDataKey(path=path, key=key_id) from None
    except OSError as error:
        raise storage_error(error, path, reading=True) from None
    return suite, key


def is_key_file(name: str) -> bool:
    """Whether a name in the keys folder is a data key's."""
    return _KEY_FILE.fullmatch(name) is not None
