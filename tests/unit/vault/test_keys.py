"""How one vault secret takes the place of another (docs/format.md section 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import RECIPIENT, keys

from encvault.crypto import NotAuthentic
from encvault.crypto.suite import Suite
from encvault.errors import (
    InvalidRequest,
    KeyRequired,
    MalformedVault,
    NoMatchingKeyslot,
    PendingKeyslots,
    VaultBusy,
)
from encvault.keyslots import SECRET_SIZE, bare
from encvault.secret import Secret
from encvault.vault import manifest
from encvault.vault.keys import Succession, VaultKeys, former_keys
from encvault.vault.manifest import VaultRecord
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault.create(
        str(tmp_path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible"
    ) as made:
        yield made


def rekey(vault: Vault, number: int = 1, **pending: tuple[dict[str, str], ...]) -> None:
    fresh = Secret(bytes([number]) * SECRET_SIZE)
    vault.change_keys(fresh, (RECIPIENT.wrap(fresh),), pending.get("pending", ()), ())


def test_the_new_record_is_signed_by_the_new_key_and_names_the_old(
    vault: Vault, tmp_path: Path
) -> None:
    before = vault.record
    rekey(vault)
    with Vault.load(str(tmp_path)) as again:
        assert again.record == vault.record
        assert again.record.succeeds(before)
        assert not before.succeeds(again.record)
        assert again.record.former_fingerprints == [before.fingerprint]
        assert again.record.fingerprint not in again.record.former_fingerprints
        assert again.record.generation == again.record.rekeyed_at == 2
        again.unlock(keys().identities(""))
        assert again.secret == Secret(b"\1" * SECRET_SIZE)


def test_the_former_secrets_are_kept_under_the_new_one(vault: Vault) -> None:
    first = bytes(vault.secret.reveal())
    rekey(vault, 1)
    rekey(vault, 2)
    held = VaultKeys(Secret(b"\2" * SECRET_SIZE))
    found = [bytes(one.secret.reveal()) for one in former_keys(held, vault.record, "v")]
    assert found == [b"\1" * SECRET_SIZE, first]
    assert held.secret == Secret(b"\2" * SECRET_SIZE)


def test_a_succession_that_the_old_key_did_not_sign_is_no_record(vault: Vault) -> None:
    old = VaultKeys(Secret(bytearray(vault.secret.reveal())))
    before = vault.record
    rekey(vault)
    (entry,) = vault.record.succession
    new = VaultKeys(Secret(b"\1" * SECRET_SIZE))
    for forged in (
        entry._replace(signature=bytes(64)),
        entry._replace(replaced_at="2020-01-01T00:00:00Z"),
        entry._replace(revoked=(bare(RECIPIENT.wrap(new.secret)),)),
        entry._replace(sign_public=new.public[1]),
        Succession.make(before._replace(id="a" * 26), old, new, ()),
        Succession.make(before, new, new, ()),
    ):
        record = vault.record._replace(succession=(forged,)).sign(new)
        with pytest.raises(MalformedVault):
            VaultRecord.decode(record.encode(), "x")
    with pytest.raises(NotAuthentic):
        entry.verify(before.id, before.sign_public)


def test_who_was_shut_out_cannot_outnumber_the_new_record(vault: Vault, tmp_path: Path) -> None:
    old = VaultKeys(Secret(bytearray(vault.secret.reveal())))
    before = vault.record
    rekey(vault)
    forged = before._replace(generation=1000).sign(old).encode()
    for name in manifest.RECORD_FILES:
        manifest.store_record(vault.tree, vault.record)
        (tmp_path / name).write_bytes(forged)
        with Vault.load(str(tmp_path)) as again:
            assert again.record == vault.record


def test_a_wrapped_secret_of_another_key_is_refused(vault: Vault) -> None:
    before = vault.record
    rekey(vault)
    new = VaultKeys(Secret(b"\1" * SECRET_SIZE))
    (entry,) = vault.record.succession
    with pytest.raises(MalformedVault, match="does not open"):
        entry._replace(wrapped=entry.wrapped[:-1] + b"0").former(new, "v")
    lying = Succession.make(before, VaultKeys(Secret(bytes(SECRET_SIZE))), new, ())
    assert lying.sign_public == entry.sign_public
    with pytest.raises(MalformedVault, match="another's"):
        lying.former(new, "v")


def test_a_run_that_waited_for_the_lock_learns_that_the_keys_changed(
    vault: Vault, tmp_path: Path
) -> None:
    with Vault.load(str(tmp_path)) as waiting:
        waiting.unlock(keys().identities(""))
        rekey(vault)
        vault.close()
        with pytest.raises(VaultBusy, match="changed its keys"):
            waiting.hold()
    with Vault.load(str(tmp_path)) as sealing:
        sealing.record = sealing.record._replace(generation=1)
        sealing.hold()  # who only seals takes the new public key
        assert sealing.record.generation == 2


def test_a_pending_password_is_told_from_a_wrong_one(vault: Vault) -> None:
    with pytest.raises(NoMatchingKeyslot) as caught:
        vault.unlock([])
    assert type(caught.value) is NoMatchingKeyslot
    slot = {
        "id": "a" * 13,
        "kind": "password",
        "label": "bob",
        "created_at": "2026-01-01T00:00:00Z",
    }
    rekey(vault, pending=(slot,))
    with pytest.raises(PendingKeyslots, match="bob") as pending:
        vault.unlock([])
    assert pending.value.exit_code == 77


def test_a_locked_vault_cannot_change_its_keys(vault: Vault, tmp_path: Path) -> None:
    with Vault.load(str(tmp_path)) as locked:
        with pytest.raises(KeyRequired):
            rekey(locked)
        with pytest.raises(KeyRequired):
            locked.renew_data_keys()
        assert locked.record == vault.record


def test_the_257th_change_is_refused(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encvault.vault.vault.MAX_SUCCESSIONS", 1)
    rekey(vault)
    before = vault.record
    with pytest.raises(InvalidRequest, match="256 times"):
        rekey(vault, 2)
    assert vault.record == before
    assert vault.secret
