"""Which data keys a former vault secret gave away (docs/format.md section 6.4).

A list that the present key signs, made when the keys are changed. A data key's own file cannot say
it: anyone can seal a data key that he kept to the vault's public key once more.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic, signing
from encvault.encoding import decode_base64, decode_json, encode_base64, encode_json, is_id
from encvault.fs import calls, durable
from encvault.vault.manifest import FOLDER, new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.fs.tree import Tree
    from encvault.vault.keys import VaultKeys
    from encvault.vault.manifest import VaultRecord

MAX_SIZE = 64 << 20
_SIGNED = b"encvault/exposed@v1\n"
_NAME = re.compile(r"exposed\.[1-9]\d*\.json")


def load_exposed(tree: Tree, record: VaultRecord) -> frozenset[str] | None:
    """The ids of the exposed data keys.

    Returns:
        None if the list is missing or not genuine: then every data key may be exposed.
    """
    if record.rekeyed_at == 1:
        return frozenset()
    try:
        data = durable.read_file(tree, f"{FOLDER}/{_name(record.rekeyed_at)}", MAX_SIZE)
        if len(data) > MAX_SIZE or not data.endswith(b"\n"):
            return None
        value = decode_json(data[:-1])
        signature = decode_base64(value.pop("signature"))
        signing.verify(record.sign_public, signature, _SIGNED + encode_json(value))
        keys = value["keys"]
        if value != _members(record, keys) or not all(is_id(key) for key in keys):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotAuthentic):
        return None
    return frozenset(keys)


def store_exposed(tree: Tree, record: VaultRecord, keys: VaultKeys, ids: Iterable[str]) -> None:
    """Write the list for a record whose key is `keys`; durable on return."""
    value = _members(record, sorted(ids))
    signature = signing.sign(keys.sign_seed.reveal(), _SIGNED + encode_json(value))
    data = encode_json(value | {"signature": encode_base64(signature)}) + b"\n"
    name = _name(record.rekeyed_at)
    durable.write_file(tree, FOLDER, name, data, file_id=new_id(), mode=None, replace=True)


def remove_older(tree: Tree, record: VaultRecord, names: Iterable[str]) -> None:
    """Remove the lists of earlier changes; the latest has all that they had.

    Args:
        tree: the vault.
        record: its record.
        names: of what is in the vault's own folder.
    """
    for name in names:
        if _NAME.fullmatch(name) and name != _name(record.rekeyed_at):
            with contextlib.suppress(OSError):  # whatever it is, it is no list that counts
                calls.unlink(tree.folder(FOLDER), name)


def exposed_path(tree: Tree, record: VaultRecord) -> str:
    """Where the list for a record lies, for messages."""
    return tree.show(f"{FOLDER}/{_name(record.rekeyed_at)}")


def _name(generation: int) -> str:
    return f"exposed.{generation}.json"


def _members(record: VaultRecord, keys: list[str]) -> dict[str, object]:
    return {"generation": record.rekeyed_at, "keys": keys, "vault": record.id}
