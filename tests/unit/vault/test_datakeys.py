"""Data keys: made without the secret, opened with it, sealed anew (docs/format.md section 7)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from helpers import RECIPIENT, keys

from encvault.crypto import hpke
from encvault.crypto.suite import Suite
from encvault.encoding import encode_base64, encode_json
from encvault.errors import EncvaultError, UnknownDataKey
from encvault.keyslots import SECRET_SIZE
from encvault.secret import Secret
from encvault.vault import datakeys
from encvault.vault.keys import VaultKeys
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault.create(
        str(tmp_path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible"
    ) as made:
        yield made


def vault_keys(vault: Vault) -> VaultKeys:
    if vault._keys is None:
        raise AssertionError("the fixture's vault is unlocked")
    return vault._keys


def rekey(vault: Vault, secret: bytes) -> None:
    fresh = Secret(secret)
    vault.change_keys(fresh, (RECIPIENT.wrap(fresh),), (), ())


def load(vault: Vault, key_id: str) -> tuple[Suite, bytes]:
    found = datakeys.load_data_key(vault.tree, vault.record, vault_keys(vault), key_id, "f")
    return found.suite, bytes(found.key.reveal())


def test_a_data_key_is_made_without_and_opened_with_the_secret(
    vault: Vault, tmp_path: Path
) -> None:
    with Vault.load(str(tmp_path)) as locked:
        key_id, key = locked.new_data_key()
        other_id, other = locked.new_data_key()
    assert load(vault, key_id) == (Suite.AES_256_GCM, bytes(key.reveal()))
    assert load(vault, other_id)[1] == bytes(other.reveal()) != bytes(key.reveal())
    names = sorted(path.name for path in (tmp_path / ".encvault/keys").iterdir())
    assert names == sorted([f"{key_id}.json", f"{other_id}.json"])
    assert all(datakeys.is_key_file(name) for name in names)
    for name in (key_id, f"{key_id}.json.bak", "x.json"):
        assert not datakeys.is_key_file(name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _data: b"",
        lambda _data: b"[]\n",
        lambda _data: b"{}\n",
        lambda data: data[:-9],
        lambda data: data.replace(b"aes-256-gcm", b"sm4-gcm"),
        lambda data: data.replace(b"aes-256-gcm", b"des"),
        lambda data: data.replace(b'"created_at":"2', b'"created_at":"3'),
        lambda data: data.replace(b'{"created_at"', b'{"a":1,"created_at"'),
        lambda data: data.replace(b'"wrapped":"', b'"wrapped":"AAAA'),
        lambda data: data + b" " * 20_000,
    ],
)
def test_a_damaged_data_key_is_named(
    vault: Vault, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    key_id, _key = vault.new_data_key()
    path = tmp_path / f".encvault/keys/{key_id}.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnknownDataKey) as caught:
        load(vault, key_id)
    assert caught.value.fields() == {"path": "f", "key": key_id}


def test_a_data_key_of_another_name_vault_or_secret_is_refused(
    vault: Vault, tmp_path: Path
) -> None:
    keys_folder = tmp_path / ".encvault/keys"
    one, _key = vault.new_data_key()
    two, _key = vault.new_data_key()
    (keys_folder / f"{one}.json").write_bytes((keys_folder / f"{two}.json").read_bytes())
    with pytest.raises(UnknownDataKey):
        load(vault, one)
    assert load(vault, two)
    # who knows only the public key cannot give a key that this vault did not make another size
    value = {
        "id": one,
        "vault": vault.record.id,
        "suite": "aes-256-gcm",
        "created_at": "2026-01-01T00:00:00Z",
    }
    binding = b"encvault/data-key@v1\0" + encode_json(value)
    short = hpke.seal(vault.record.hpke_public, bytes(16), binding)
    foreign = hpke.seal(hpke.public_key(bytes(32)), bytes(32), binding)
    for wrapped in (short, foreign):
        data = encode_json(value | {"wrapped": encode_base64(wrapped)}) + b"\n"
        (keys_folder / f"{one}.json").write_bytes(data)
        with pytest.raises(UnknownDataKey):
            load(vault, one)


# -- after a change of keys -----------------------------------------------------------------


def is_former(vault: Vault, key_id: str) -> bool:
    keys_now = vault_keys(vault)
    return datakeys.load_data_key(vault.tree, vault.record, keys_now, key_id, "f").is_former


def test_a_data_key_stays_readable_when_the_keys_change(vault: Vault) -> None:
    key_id, key = vault.new_data_key()
    kept = bytes(key.reveal())
    for number in (1, 2):
        rekey(vault, bytes([number]) * SECRET_SIZE)
        assert load(vault, key_id)[1] == kept
    assert is_former(vault, key_id)
    assert vault.is_exposed(key_id, "f")
    later, _key = vault.new_data_key()
    assert not is_former(vault, later)
    assert not vault.is_exposed(later, "f")


def test_renewed_data_keys_need_the_new_secret_and_are_exposed_still(
    vault: Vault, tmp_path: Path
) -> None:
    old = VaultKeys(Secret(bytearray(vault.secret.reveal())))
    made = {key_id: bytes(key.reveal()) for key_id, key in (vault.new_data_key() for _ in "abc")}
    rekey(vault, bytes(SECRET_SIZE))
    later, _key = vault.new_data_key()
    before = (tmp_path / f".encvault/keys/{later}.json").read_bytes()
    assert vault.renew_data_keys() == (3, [])
    for key_id, key in made.items():
        value, wrapped = datakeys._read(vault.tree, vault.record, key_id)
        assert datakeys._open(old, value, wrapped) is None
        assert load(vault, key_id)[1] == key
        assert vault.is_exposed(key_id, "f")
    assert (tmp_path / f".encvault/keys/{later}.json").read_bytes() == before
    assert vault.renew_data_keys() == (0, [])


def test_a_machine_that_has_not_heard_of_the_change_loses_nothing(
    vault: Vault, tmp_path: Path
) -> None:
    """It seals to the replaced public key, after the list of the exposed was made."""
    stale = vault.record
    rekey(vault, bytes(SECRET_SIZE))
    key_id, key = datakeys.make_data_key(vault.tree, stale)
    assert load(vault, key_id)[1] == bytes(key.reveal())
    assert vault.is_exposed(key_id, "f")
    assert vault.renew_data_keys() == (1, [])
    assert not is_former(vault, key_id)
    assert vault.is_exposed(key_id, "f")
    with Vault.load(str(tmp_path)) as again:
        again.unlock(keys().identities(""))
        assert again.is_exposed(key_id, "f")


def test_damaged_data_keys_are_named_and_left(vault: Vault, tmp_path: Path) -> None:
    good, _key = vault.new_data_key()
    torn, _key = vault.new_data_key()
    foreign, _key = vault.new_data_key()
    folder = tmp_path / ".encvault/keys"
    (folder / f"{torn}.json").write_bytes(b"{}")
    data = (folder / f"{foreign}.json").read_bytes()
    (folder / f"{foreign}.json").write_bytes(data.replace(b"aes-256-gcm", b"sm4-gcm"))
    rekey(vault, bytes(SECRET_SIZE))
    count, problems = vault.renew_data_keys()
    assert count == 1
    assert {type(problem) for problem in problems} == {UnknownDataKey}
    assert {problem.fields()["key"] for problem in problems} == {torn, foreign}
    assert (folder / f"{torn}.json").read_bytes() == b"{}"
    assert load(vault, good)


# -- the list of the exposed ----------------------------------------------------------------


def exposed_file(tmp_path: Path) -> Path:
    return max((tmp_path / ".encvault").glob("exposed.*.json"))


def test_a_kept_data_key_that_is_sealed_to_the_new_key_is_exposed_still(
    vault: Vault, tmp_path: Path
) -> None:
    """Who was revoked kept it, and it takes no secret to seal it to the vault once more."""
    key_id, key = vault.new_data_key()
    rekey(vault, bytes(SECRET_SIZE))
    value, _wrapped = datakeys._read(vault.tree, vault.record, key_id)
    data = datakeys._seal(vault.record.hpke_public, value, key)
    (tmp_path / f".encvault/keys/{key_id}.json").write_bytes(data)
    assert not is_former(vault, key_id)
    assert vault.is_exposed(key_id, "f")
    assert vault.renew_data_keys() == (0, [])
    assert vault.is_exposed(key_id, "f")


@pytest.mark.parametrize(
    "damage",
    [
        None,
        lambda _data: b"",
        lambda _data: b"[]\n",
        lambda data: data[:-1],
        lambda data: data.replace(b'"generation":2', b'"generation":3'),
        lambda data: data.replace(b'"keys":["', b'"keys":["a'),
        lambda data: re.sub(rb'"keys":\[.*?\]', b'"keys":[]', data),
        lambda data: data.replace(b'"signature":"', b'"signature":"AAAA'),
    ],
)
def test_without_the_genuine_list_everything_is_exposed(
    vault: Vault, tmp_path: Path, damage: Callable[[bytes], bytes] | None
) -> None:
    old, _key = vault.new_data_key()
    rekey(vault, bytes(SECRET_SIZE))
    new, _key = vault.new_data_key()
    file = exposed_file(tmp_path)
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    assert vault.is_exposed(new, "f")
    assert vault.is_exposed(old, "f")
    vault.renew_data_keys()
    # the list is there again, and what is made from now on is not on it
    later, _key = vault.new_data_key()
    assert [vault.is_exposed(one, "f") for one in (old, new, later)] == [True, True, False]


def test_odd_things_in_the_place_of_lists_hide_nothing(vault: Vault, tmp_path: Path) -> None:
    key_id, _key = vault.new_data_key()
    rekey(vault, bytes(SECRET_SIZE))
    file = exposed_file(tmp_path)
    file.unlink()
    (tmp_path / ".encvault" / "exposed.9.json").mkdir()
    file.mkdir()
    assert vault.is_exposed(key_id, "f")
    count, (problem,) = vault.renew_data_keys()
    assert count == 0
    assert str(file) in str(problem)
    assert is_former(vault, key_id)
    file.rmdir()
    assert vault.renew_data_keys() == (1, [])
    (tmp_path / ".encvault" / "exposed.3.json").mkdir()
    before = vault.record
    with pytest.raises(EncvaultError, match=r"exposed\.3\.json"):
        rekey(vault, b"\1" * SECRET_SIZE)
    assert vault.record == before


def test_a_vault_without_data_keys_gets_new_keys(vault: Vault, tmp_path: Path) -> None:
    """As a clone by git, which keeps no empty folders."""
    (tmp_path / ".encvault" / "keys").rmdir()
    rekey(vault, bytes(SECRET_SIZE))
    assert vault.renew_data_keys() == (0, [])


def test_the_next_change_has_a_list_of_its_own(vault: Vault, tmp_path: Path) -> None:
    first, _key = vault.new_data_key()
    rekey(vault, bytes(SECRET_SIZE))
    second, _key = vault.new_data_key()
    rekey(vault, b"\1" * SECRET_SIZE)
    assert all(vault.is_exposed(one, "f") for one in (first, second))
    vault.renew_data_keys()
    assert exposed_file(tmp_path).name == "exposed.3.json"


def test_one_odd_entry_among_the_data_keys_stops_nothing(vault: Vault, tmp_path: Path) -> None:
    key_id, _key = vault.new_data_key()
    folder = tmp_path / ".encvault" / "keys"
    (folder / ("a" * 26 + ".json")).mkdir()
    (folder / ("e" * 26 + ".json")).symlink_to(f"{key_id}.json")
    rekey(vault, bytes(SECRET_SIZE))
    count, problems = vault.renew_data_keys()
    assert count == 1
    assert len(problems) == 2
