"""The vault's record, kept twice and signed, and its data keys (docs/format.md sections 6, 7)."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from helpers import RECIPIENT, keys

from encvault.crypto import hpke
from encvault.crypto.suite import Suite
from encvault.encoding import encode_base64, encode_json
from encvault.errors import (
    EncvaultError,
    MalformedVault,
    NotAVault,
    UnsupportedVersion,
    WorkFactorTooLarge,
)
from encvault.secret import Secret
from encvault.vault import manifest
from encvault.vault.keys import VaultKeys
from encvault.vault.manifest import VaultRecord
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

A, B = manifest.RECORD_FILES


def test_an_id_is_random_base32_of_16_bytes() -> None:
    made = [manifest.new_id() for _id in range(2000)]
    for one in made:
        data = base64.b32decode(one.upper() + "======")
        assert len(data) == 16
        assert base64.b32encode(data).decode().rstrip("=").lower() == one
    assert len(set(made)) == len(made)
    alphabet = set("abcdefghijklmnopqrstuvwxyz234567")
    for place in range(25):
        assert {one[place] for one in made} == alphabet
    assert len({one[25] for one in made}) == 8


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


def next_generation(vault: Vault, **changes: Any) -> VaultRecord:
    changed = vault.record._replace(generation=vault.record.generation + 1, **changes)
    return changed.sign(vault_keys(vault))


# -- the two copies -------------------------------------------------------------------------


def test_the_record_is_written_twice_and_is_the_same(vault: Vault, tmp_path: Path) -> None:
    one, two = (tmp_path / A).read_bytes(), (tmp_path / B).read_bytes()
    assert one == two == vault.record.encode()
    assert one.endswith(b"}\n")
    assert manifest.load_record(vault.tree) == vault.record


def tear(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "zeros":
        path.write_bytes(bytes(len(data)))
    elif how == "flipped":
        path.write_bytes(data.replace(b'"visible"', b'"hidden"'))
    else:
        path.unlink()
        path.symlink_to("elsewhere")


TEARS = ["gone", "empty", "cut", "zeros", "flipped", "link"]


@pytest.mark.parametrize("how", TEARS)
@pytest.mark.parametrize("torn", [A, B])
def test_one_torn_copy_costs_nothing(vault: Vault, tmp_path: Path, torn: str, how: str) -> None:
    tear(tmp_path / torn, how)
    assert manifest.load_record(vault.tree) == vault.record
    with Vault.load(str(tmp_path)) as again:
        again.unlock(keys().identities(""))
        assert again.is_unlocked


@pytest.mark.parametrize("how", [how for how in TEARS if how not in ("gone", "link")])
def test_two_torn_copies_are_a_malformed_vault(vault: Vault, tmp_path: Path, how: str) -> None:
    for name in (A, B):
        tear(tmp_path / name, how)
    with pytest.raises(MalformedVault) as caught:
        Vault.load(str(tmp_path))
    assert caught.value.exit_code == 65


def test_one_gone_and_one_torn_is_malformed_and_not_missing(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / A).unlink()
    tear(tmp_path / B, "cut")
    with pytest.raises(MalformedVault) as caught:
        Vault.load(str(tmp_path))
    assert caught.value.path == str(tmp_path / B)


def test_without_any_record_there_is_no_vault(vault: Vault, tmp_path: Path) -> None:
    for name in (A, B):
        (tmp_path / name).unlink()
    with pytest.raises(NotAVault):
        Vault.load(str(tmp_path))


@pytest.mark.parametrize("newer", [A, B])
def test_the_higher_generation_counts(vault: Vault, tmp_path: Path, newer: str) -> None:
    record = next_generation(vault)
    (tmp_path / newer).write_bytes(record.encode())
    assert manifest.load_record(vault.tree) == record
    manifest.store_record(vault.tree, record)
    assert (tmp_path / A).read_bytes() == (tmp_path / B).read_bytes() == record.encode()


def test_a_higher_generation_that_is_not_signed_does_not_count(
    vault: Vault, tmp_path: Path
) -> None:
    forged = vault.record._replace(generation=99)
    (tmp_path / B).write_bytes(forged.encode())
    assert manifest.load_record(vault.tree) == vault.record


def test_a_crash_between_the_copies_leaves_a_whole_record(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next_generation(vault)
    real = manifest.durable.write_file
    written: list[str] = []

    def stop(tree: Any, folder: str, name: str, data: bytes, **options: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(name)
        real(tree, folder, name, data, **options)

    monkeypatch.setattr(manifest.durable, "write_file", stop)
    with pytest.raises(KeyboardInterrupt):
        manifest.store_record(vault.tree, record)
    assert written == ["vault.a.json"]
    assert manifest.load_record(vault.tree) == record
    assert VaultRecord.decode((tmp_path / B).read_bytes(), "b") == vault.record


# -- the record's rules ---------------------------------------------------------------------


def test_the_signature_and_the_keys_follow_from_the_secret_as_the_page_says(vault: Vault) -> None:
    secret = bytes(vault_keys(vault).secret.reveal())

    def expand(label: bytes) -> bytes:
        return HKDFExpand(hashes.SHA256(), 32, label).derive(secret)

    signer = Ed25519PrivateKey.from_private_bytes(expand(b"encvault/vault/sign@v1"))
    members = json.loads(vault.record.encode())
    signature = members.pop("signature")
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert encode_base64(signer.sign(b"encvault/vault@v1\n" + text.encode())) == signature
    assert members["sign_public"] == encode_base64(signer.public_key().public_bytes_raw())
    hpke_public = hpke.public_key(expand(b"encvault/vault/hpke@v1"))
    assert members["hpke_public"] == encode_base64(hpke_public)


def signed(vault: Vault, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The record after a change by someone who has the vault secret."""
    members = json.loads(vault.record.encode())
    del members["signature"]
    change(members)
    seed = bytes(vault_keys(vault).sign_seed.reveal())
    mark = Ed25519PrivateKey.from_private_bytes(seed).sign(
        b"encvault/vault@v1\n" + encode_json(members)
    )
    return encode_json(members | {"signature": encode_base64(mark)}) + b"\n"


def test_a_signed_change_is_read(vault: Vault) -> None:
    data = signed(vault, lambda members: members.update(generation=5))
    assert VaultRecord.decode(data, "x").generation == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.update(encvault=0),
        lambda members: members.update(encvault="1"),
        lambda members: members.update(more=1),
        lambda members: members.pop("suite"),
        lambda members: members.pop("id"),
        lambda members: members.update(id="short"),
        lambda members: members.update(id=5),
        lambda members: members.update(created_at="yesterday"),
        lambda members: members.update(generation=0),
        lambda members: members.update(generation="1"),
        lambda members: members.update(generation=True),
        lambda members: members.update(suite="des"),
        lambda members: members.update(suite=[]),
        lambda members: members.update(layout="flat"),
        lambda members: members.update(layout=[]),
        lambda members: members.update(hpke_public="?"),
        lambda members: members.update(hpke_public=encode_base64(bytes(31))),
        lambda members: members.update(sign_public=encode_base64(bytes(5))),
        lambda members: members.update(slots=[]),
        lambda members: members.update(slots={}),
    ],
)
def test_records_that_must_be_refused_even_when_signed(
    vault: Vault, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(MalformedVault):
        VaultRecord.decode(signed(vault, change), "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b"5\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b" " * (manifest.MAX_RECORD_SIZE + 1) + b"\n",
    ],
)
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(MalformedVault):
        VaultRecord.decode(data, "x")


def test_the_last_byte_is_a_line_feed_and_the_text_canonical(vault: Vault) -> None:
    data = vault.record.encode()
    for wrong in (data[:-1], data + b"\n", data.replace(b",", b", ", 1), b" " + data):
        with pytest.raises(MalformedVault):
            VaultRecord.decode(wrong, "x")


def test_each_flipped_byte_of_a_record_is_noticed(vault: Vault) -> None:
    data = vault.record.encode()
    for at in range(0, len(data), 41):
        wrong = bytearray(data)
        wrong[at] ^= 1
        with pytest.raises(EncvaultError):
            VaultRecord.decode(bytes(wrong), "x")


def test_a_slot_that_would_exhaust_this_machine_is_refused(vault: Vault) -> None:
    slot = {
        "id": "a" * 13,
        "kind": "password",
        "label": "",
        "created_at": "2026-01-01T00:00:00Z",
        "kdf": {
            "name": "argon2id",
            "memory_kib": 1 << 30,
            "passes": 1,
            "lanes": 1,
            "salt": encode_base64(bytes(16)),
        },
        "wrapped": encode_base64(bytes(104)),
    }
    with pytest.raises(WorkFactorTooLarge):
        VaultRecord.decode(signed(vault, lambda members: members.update(slots=[slot])), "x")


def test_exchanged_public_keys_are_noticed_by_who_can_open(vault: Vault, tmp_path: Path) -> None:
    """A thief of future files puts in a key pair of his own, and signs with it."""
    theirs = VaultKeys(Secret(os.urandom(32)))
    hpke_public, sign_public = theirs.public
    forged = vault.record._replace(generation=2, hpke_public=hpke_public, sign_public=sign_public)
    manifest.store_record(vault.tree, forged.sign(theirs))
    with Vault.load(str(tmp_path)) as again:
        assert again.record.fingerprint != vault.record.fingerprint
        with pytest.raises(MalformedVault, match="public keys"):
            again.unlock(keys().identities(""))
        assert not again.is_unlocked


def test_fingerprints_depend_on_id_and_keys(vault: Vault) -> None:
    fingerprint = vault.record.fingerprint
    assert len(fingerprint) == 39
    assert vault.record._replace(generation=9).fingerprint == fingerprint
    assert vault.record._replace(id="b" * 25 + "a").fingerprint != fingerprint
    assert vault.record._replace(sign_public=bytes(32)).fingerprint != fingerprint


def test_wiping_forgets_all_keys(vault: Vault) -> None:
    held = vault_keys(vault)
    vault.close()
    assert not held.secret
    assert not held.hpke_seed
    assert not held.sign_seed
    assert not vault.is_unlocked


def test_ids_are_fresh_and_of_the_format() -> None:
    made = {manifest.new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(len(item) == 26 for item in made)


def test_a_newer_vault_is_told_as_such(vault: Vault) -> None:
    data = signed(vault, lambda members: members.update(encvault=2))
    with pytest.raises(UnsupportedVersion) as caught:
        VaultRecord.decode(data, "x")
    assert caught.value.version == 2


def test_the_version_is_a_number(vault: Vault) -> None:
    # the signature covers 1, so `true` must not pass for it
    data = vault.record.encode().replace(b'"encvault":1', b'"encvault":true')
    with pytest.raises(MalformedVault):
        VaultRecord.decode(data, "x")


@pytest.mark.parametrize(
    "text", ["٢٠٢٦-01-01T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00+00:00"]
)
def test_a_time_is_a_time(vault: Vault, text: str) -> None:
    with pytest.raises(MalformedVault):
        VaultRecord.decode(signed(vault, lambda members: members.update(created_at=text)), "x")


def test_of_two_torn_copies_the_first_is_named(vault: Vault, tmp_path: Path) -> None:
    for name in (A, B):
        tear(tmp_path / name, "cut")
    with pytest.raises(MalformedVault) as caught:
        Vault.load(str(tmp_path))
    assert caught.value.path == str(tmp_path / A)
