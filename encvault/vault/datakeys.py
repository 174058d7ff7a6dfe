"""Data keys: one for each run, sealed to the vault's public key (docs/format.md section 7)."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.crypto import NotAuthentic, hpke
from encvault.crypto.suite import KEY_SIZE, Suite
from encvault.encoding import decode_base64, decode_json, encode_base64, encode_json
from encvault.errors import EncvaultError, KeysMissing, UnknownDataKey
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.sharing import share_as
from encvault.fs.syncing import sync_files
from encvault.i18n import N_
from encvault.keyslots import is_time, now_text
from encvault.secret import Secret
from encvault.vault.exposed import exposed_path, load_exposed, remove_older, store_exposed
from encvault.vault.keys import former_keys
from encvault.vault.manifest import FOLDER, KEYS_FOLDER, make_own_folders, new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.fs.tree import Tree
    from encvault.vault.keys import VaultKeys
    from encvault.vault.manifest import VaultRecord

MAX_KEY_SIZE = 16_384
_KEY_FILE = re.compile(r"[a-z2-7]{26}\.json")
_BINDING = b"encvault/data-key@v1\0"
_MEMBERS = {"id", "vault", "suite", "created_at"}


class DataKey(NamedTuple):
    """What seals the files of one run.

    Attributes:
        suite: that it is for.
        key: 32 bytes.
        is_former: whether it is sealed to a former key of the vault.
    """

    suite: Suite
    key: Secret
    is_former: bool = False


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
    tree.forget(FOLDER)
    try:
        tree.folder(FOLDER)
    except FileNotFoundError:  # a new one in its place would be in the way of who brings it back
        raise KeysMissing(path=tree.path, missing=FOLDER) from None
    make_own_folders(tree, KEYS_FOLDER)
    durable.write_file(
        tree,
        KEYS_FOLDER,
        f"{key_id}.json",
        _seal(record.hpke_public, value, key),
        file_id=key_id,
        mode=None,
        replace=False,
    )
    calls.fsync_folder(tree.folder(FOLDER))
    return key_id, key


def load_data_key(
    tree: Tree, record: VaultRecord, keys: VaultKeys, key_id: str, path: str
) -> DataKey:
    """Unwrap a data key, whichever of the vault's keys it is sealed to.

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
        value, wrapped = _read(tree, record, key_id)
        data_key = _open(keys, value, wrapped) or _open_former(record, keys, value, wrapped, path)
    except (FileNotFoundError, ValueError):
        data_key = None
    except OSError as error:
        raise storage_error(error, path, reading=True) from None
    if data_key is None:
        raise UnknownDataKey(path=path, key=key_id)
    return data_key


def key_path(key_id: str) -> str:
    """The path, within the vault, of a data key."""
    return f"{KEYS_FOLDER}/{key_id}.json"


def data_key_ids(tree: Tree) -> list[str]:
    """The ids of all data keys of a vault, whatever is in their files."""
    try:
        names = filter(is_key_file, os.listdir(tree.folder(KEYS_FOLDER)))
    except FileNotFoundError:  # git keeps no empty folder
        return []
    return sorted(name.removesuffix(".json") for name in names)


def sound_key_ids(tree: Tree, record: VaultRecord) -> list[str]:
    """Of the data keys those whose files are what they must be, or may not be read."""
    sound = []
    for key_id in data_key_ids(tree):
        try:
            _read(tree, record, key_id)
        except (FileNotFoundError, ValueError):
            continue
        except OSError:
            pass  # who may not look at it is told when he opens
        sound.append(key_id)
    return sound


def renew_data_keys(
    tree: Tree, record: VaultRecord, keys: VaultKeys
) -> tuple[int, list[EncvaultError]]:
    """Seal to the vault's present key what is still sealed to a former one; durable on return.

    A data key can be read at every moment, under the new key or the old; after a crash the rest is
    done by the next call. Those that came late, from a machine that had not heard of the change,
    are put on the list of the exposed before.

    Returns:
        How many were sealed anew, and what is wrong with those that do not open at all.
    """
    renewed: dict[str, bytes] = {}
    problems: list[EncvaultError] = []
    for key_id in data_key_ids(tree):
        shown = tree.show(key_path(key_id))
        try:
            data_key = load_data_key(tree, record, keys, key_id, shown)
        except EncvaultError as error:
            problems.append(error)
            continue
        with data_key.key as key:
            if data_key.is_former:
                value, _wrapped = _read(tree, record, key_id)
                renewed[key_id] = _seal(record.hpke_public, value, key)
    if record.rekeyed_at == 1:
        return 0, problems
    try:
        _expose(tree, record, keys, renewed)
    except OSError as error:  # else the late ones would count as new
        problems.append(storage_error(error, exposed_path(tree, record)))
        return 0, problems
    if renewed:
        _replace(tree, renewed)
    return len(renewed), problems


def _expose(tree: Tree, record: VaultRecord, keys: VaultKeys, ids: Iterable[str]) -> None:
    known = load_exposed(tree, record)
    # without the list, whatever there is may have been there before the change
    wanted = (frozenset(data_key_ids(tree)) if known is None else known).union(ids)
    if wanted != known:
        store_exposed(tree, record, keys, wanted)
    remove_older(tree, record, os.listdir(tree.folder(FOLDER)))


def _replace(tree: Tree, files: dict[str, bytes]) -> None:
    """Let data key files take the places of those of the same ids, all or some; durable."""
    folder = tree.folder(KEYS_FOLDER)
    for key_id, data in files.items():
        handle = calls.create(folder, durable.temporary_name(key_id))
        try:
            share_as(handle, folder)
            calls.write(handle, data)
        finally:
            os.close(handle)
    sync_files(tree, [(KEYS_FOLDER, durable.temporary_name(key_id)) for key_id in files])
    for key_id in files:
        calls.replace(folder, durable.temporary_name(key_id), f"{key_id}.json")
    calls.fsync_folder(folder)


def is_key_file(name: str) -> bool:
    """Whether a name in the keys folder is a data key's."""
    return _KEY_FILE.fullmatch(name) is not None


def _seal(hpke_public: bytes, value: dict[str, Any], key: Secret) -> bytes:
    sealed = hpke.seal(hpke_public, key.reveal(), _BINDING + encode_json(value))
    return encode_json(value | {"wrapped": encode_base64(sealed)}) + b"\n"


def _read(tree: Tree, record: VaultRecord, key_id: str) -> tuple[dict[str, Any], bytes]:
    """A data key's members, and what is wrapped.

    Raises:
        ValueError: it breaks a rule of docs/format.md section 7.
        OSError: it cannot be read.
    """
    return _decode(durable.read_file(tree, key_path(key_id), MAX_KEY_SIZE), record, key_id)


def is_data_key(data: bytes, record: VaultRecord, key_id: str) -> bool:
    """Whether a file's content is that of a data key; what is wrapped in it, only keys tell."""
    try:
        _decode(data, record, key_id)
    except ValueError:
        return False
    return True


def _decode(data: bytes, record: VaultRecord, key_id: str) -> tuple[dict[str, Any], bytes]:
    if not data.endswith(b"\n") or len(data) > MAX_KEY_SIZE:
        raise ValueError(N_("cut off or too large"))
    value = decode_json(data[:-1])
    if not isinstance(value, dict) or value.keys() != _MEMBERS | {"wrapped"}:
        raise ValueError(N_("wrong members"))
    wrapped = decode_base64(value.pop("wrapped"))
    if (value["id"], value["vault"]) != (key_id, record.id) or not is_time(value["created_at"]):
        raise ValueError(N_("id or time"))
    Suite.from_label(value["suite"])
    return value, wrapped


def _open_former(
    record: VaultRecord, keys: VaultKeys, value: dict[str, Any], wrapped: bytes, path: str
) -> DataKey | None:
    """The data key, if it is sealed to a key that the vault had before."""
    with contextlib.closing(former_keys(keys, record, path)) as former:
        for one in former:
            if (found := _open(one, value, wrapped)) is not None:
                return found._replace(is_former=True)
    return None


def _open(keys: VaultKeys, value: dict[str, Any], wrapped: bytes) -> DataKey | None:
    """The data key, or None if it is not sealed to these keys."""
    try:
        key = hpke.open(keys.hpke_seed.reveal(), wrapped, _BINDING + encode_json(value))
    except NotAuthentic:
        return None
    if len(key) != KEY_SIZE:
        return None
    return DataKey(Suite.from_label(value["suite"]), key)
