"""What this machine remembers of vaults, and what it refuses by it."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, RECIPIENT, in_child, keys

from encvault.crypto.suite import Suite
from encvault.errors import (
    FormerKeys,
    KnownVaultsDamaged,
    ReplacedKeys,
    RolledBack,
    StateUnavailable,
    StrangeVault,
    VaultChanged,
)
from encvault.keyslots import SECRET_SIZE
from encvault.secret import Secret
from encvault.vault.known import FILE, KnownVaults
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from encvault.vault.manifest import VaultRecord


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def make(path: Path) -> VaultRecord:
    path.mkdir(parents=True)
    with Vault.create(str(path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible") as vault:
        return vault.record


def rekeyed(path: Path, number: int = 1) -> VaultRecord:
    """The record after a change of keys."""
    with Vault.load(str(path)) as vault:
        vault.unlock(keys().identities(""))
        vault.hold()
        fresh = Secret(bytes([number]) * SECRET_SIZE)
        vault.change_keys(fresh, (RECIPIENT.wrap(fresh),), (), ())
        return vault.record


def test_nothing_is_known_without_a_state_folder(tmp_path: Path) -> None:
    record = make(tmp_path / "v")
    known = KnownVaults()
    assert known.check(record, str(tmp_path / "v")) is None
    assert known.check_for_sealing(record, str(tmp_path / "v")) is None
    assert not known.is_untold(record)
    known.remember(record, str(tmp_path / "v"), told=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v"]


def test_the_first_use_is_trusted_and_remembered_for_people_to_read(
    tmp_path: Path, state: str
) -> None:
    record = make(tmp_path / "v")
    known = KnownVaults(state)
    assert known.is_untold(record)
    assert known.check(record, str(tmp_path / "v")) is None
    known.remember(record, str(tmp_path / "v"), told=True)
    assert not known.is_untold(record)
    file = tmp_path / "state" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = json.loads(file.read_text())["vaults"]
    assert entry["fingerprint"] == record.fingerprint
    assert entry["places"] == {str(tmp_path / "v"): 1}
    before = file.stat().st_mtime_ns
    known.remember(record, str(tmp_path / "v"), told=True)
    assert file.stat().st_mtime_ns == before  # nothing new is not written


def test_another_key_of_the_same_vault_is_refused(tmp_path: Path, state: str) -> None:
    record = make(tmp_path / "v")
    KnownVaults(state).remember(record, str(tmp_path / "v"), told=True)
    forged = record._replace(sign_public=bytes(32))
    for place in ("v", "elsewhere"):
        with pytest.raises(VaultChanged) as caught:
            KnownVaults(state).check(forged, str(tmp_path / place))
        assert caught.value.exit_code == 77
        assert caught.value.expected == record.fingerprint
        assert caught.value.found == forged.fingerprint
        assert record.fingerprint in str(caught.value)
        assert forged.fingerprint in str(caught.value)


def test_another_vault_in_its_place_is_refused_until_its_fingerprint_is_stated(
    tmp_path: Path, state: str
) -> None:
    record, other = make(tmp_path / "v"), make(tmp_path / "other")
    path = str(tmp_path / "v")
    KnownVaults(state).remember(record, path, told=True)
    KnownVaults(state).remember(other, str(tmp_path / "other"), told=True)
    with pytest.raises(VaultChanged) as caught:
        KnownVaults(state).check(other, path)
    assert (caught.value.expected, caught.value.found) == (record.fingerprint, other.fingerprint)
    told = KnownVaults(state, other.fingerprint)
    assert told.check(other, path) is None
    told.remember(other, path, told=True)
    # two drives that are mounted at one place by turns
    assert KnownVaults(state).check(other, path) is None
    assert KnownVaults(state).check(record, path) is None


def test_a_drive_is_known_wherever_it_is_mounted(tmp_path: Path, state: str) -> None:
    record, other = make(tmp_path / "v"), make(tmp_path / "other")
    known = KnownVaults(state, is_drive=lambda path: path.startswith("/media/"))
    assert not known.is_met(record)
    known.remember(record._replace(generation=5), "/media/a", told=True)
    known.remember(other, "/media/a", told=True, made=True)
    assert known.is_met(record)
    assert known.at("/media/a") == ""
    for place in ("/media/a", "/media/b"):
        assert known.check(other, place) is None
        assert isinstance(known.check(record._replace(generation=4), place), RolledBack)
    assert KnownVaults().is_met(record)  # who remembers nothing asks nothing


def test_a_vault_that_is_made_here_takes_the_place_of_the_old_one(
    tmp_path: Path, state: str
) -> None:
    record, other = make(tmp_path / "v"), make(tmp_path / "other")
    path = str(tmp_path / "v")
    KnownVaults(state).remember(record, path, told=True)
    KnownVaults(state).remember(other, path, told=True, made=True)
    assert KnownVaults(state).check(other, path) is None
    with pytest.raises(VaultChanged):
        KnownVaults(state).check(record, path)


def test_a_copy_elsewhere_and_a_link_are_the_same_vault(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make(tmp_path / "v")
    (tmp_path / "link").symlink_to("v")
    known = KnownVaults(state)
    known.remember(record, str(tmp_path / "link"), told=True)
    assert known.check(record, str(tmp_path / "copy")) is None
    known.remember(record, str(tmp_path / "copy"), told=True)
    (entry,) = json.loads((tmp_path / "state" / FILE).read_text())["vaults"]
    assert list(entry["places"]) == [str(tmp_path / "v"), str(tmp_path / "copy")]
    monkeypatch.setattr("encvault.vault.known.MAX_PLACES", 5)
    for number in range(9):
        known.remember(record, str(tmp_path / str(number)), told=True)
    (entry,) = json.loads((tmp_path / "state" / FILE).read_text())["vaults"]
    assert list(entry["places"]) == [str(tmp_path / str(number)) for number in range(4, 9)]


def test_a_change_that_the_known_key_signed_is_followed(tmp_path: Path, state: str) -> None:
    path = str(tmp_path / "v")
    first = make(tmp_path / "v")
    KnownVaults(state).remember(first, path, told=True)
    rekeyed(tmp_path / "v", 1)
    third = rekeyed(tmp_path / "v", 2)
    assert KnownVaults(state).check(third, path) is None
    assert KnownVaults(state).check_for_sealing(third, path) is None
    KnownVaults(state).remember(third, path, told=True)
    # and from now on who was shut out is not believed
    forged = first._replace(generation=99, sign_public=bytes(32), succession=third.succession[:1])
    with pytest.raises(VaultChanged):
        KnownVaults(state).check(forged, path)


def test_the_replaced_key_may_be_read_with_and_not_be_sealed_for(
    tmp_path: Path, state: str
) -> None:
    path = str(tmp_path / "v")
    first = make(tmp_path / "v")
    KnownVaults(state).remember(first, path, told=True)
    second = rekeyed(tmp_path / "v")
    KnownVaults(state).remember(second, path, told=True)
    for generation, stated in ((1, ""), (99, ""), (1, first.fingerprint)):
        known = KnownVaults(state, stated)
        old = first._replace(generation=generation)
        doubt = known.check(old, path)
        assert isinstance(doubt, FormerKeys)
        assert doubt.exit_code == 3
        assert second.fingerprint in str(doubt)
        with pytest.raises(ReplacedKeys) as caught:
            known.check_for_sealing(old, path)
        assert caught.value.exit_code == 77
        known.remember(old, path, told=True)  # reading an old copy teaches nothing
    assert KnownVaults(state).check(second, path) is None


def test_an_older_generation_is_reported_until_it_is_stated(tmp_path: Path, state: str) -> None:
    path = str(tmp_path / "v")
    record = make(tmp_path / "v")
    newer = record._replace(generation=5)
    KnownVaults(state).remember(newer, path, told=True)
    doubt = KnownVaults(state).check(record, path)
    assert isinstance(doubt, RolledBack)
    assert (doubt.generation, doubt.known, doubt.exit_code) == (1, 5, 3)
    assert record.fingerprint in doubt.hint
    assert KnownVaults(state).check_for_sealing(record, path) is not None
    KnownVaults(state).remember(record, path, told=True)
    assert KnownVaults(state).check(record, path) is not None
    told = KnownVaults(state, record.fingerprint)
    assert told.check(record, path) is None
    told.remember(record, path, told=True)
    assert KnownVaults(state).check(record, path) is None


def test_a_stated_fingerprint_must_be_the_vaults_or_one_it_had(tmp_path: Path, state: str) -> None:
    path = str(tmp_path / "v")
    first = make(tmp_path / "v")
    second = rekeyed(tmp_path / "v")
    other = make(tmp_path / "other")
    assert KnownVaults(state, first.fingerprint).check(second, path) is None
    for found, stated in ((second, other), (first, second)):
        with pytest.raises(VaultChanged) as caught:
            KnownVaults(state, stated.fingerprint).check(found, path)
        assert caught.value.expected == stated.fingerprint


def test_a_configured_fingerprint_holds_for_its_folder(tmp_path: Path) -> None:
    record, other = make(tmp_path / "v"), make(tmp_path / "other")
    known = KnownVaults(None, "", lambda: {str(tmp_path / "v"): other.fingerprint})
    with pytest.raises(VaultChanged):
        known.check(record, str(tmp_path / "v"))
    assert known.check(record, str(tmp_path / "copy")) is None
    known = KnownVaults(None, "", lambda: {str(tmp_path / "v"): record.fingerprint})
    assert known.check(record, str(tmp_path / "v")) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda _value: b"",
        lambda _value: b"[]",
        lambda _value: b"[" * 100_000,
        lambda value: json.dumps(value | {"encvault_known_vaults": 2}).encode(),
        lambda value: json.dumps(value | {"vaults": [{}]}).encode(),
        lambda value: json.dumps(value).replace(": 1}", ': "1"}').encode(),
        lambda value: json.dumps(value).replace('"id": "', '"id": "x').encode(),
        lambda value: (
            json.dumps(value).replace('"sign_public": "', '"sign_public": "AAAA').encode()
        ),
    ],
)
def test_a_damaged_memory_is_an_error_and_not_a_first_use(
    tmp_path: Path, state: str, damage: Callable[[Any], bytes]
) -> None:
    record = make(tmp_path / "v")
    KnownVaults(state).remember(record, str(tmp_path / "v"), told=True)
    file = tmp_path / "state" / FILE
    file.write_bytes(damage(json.loads(file.read_text())))
    with pytest.raises(KnownVaultsDamaged) as caught:
        KnownVaults(state).check(record, str(tmp_path / "v"))
    assert caught.value.exit_code == 78
    assert str(file) in str(caught.value)


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    record = make(tmp_path / "v")
    (tmp_path / "closed").mkdir(mode=0o555)
    known = KnownVaults(str(tmp_path / "closed" / "state"))
    tmp_path.chmod(0o755)
    with pytest.raises(StateUnavailable):
        in_child(lambda: known.remember(record, str(tmp_path / "v"), told=True), uid=NOBODY)


def test_a_vault_inside_a_known_one_is_not_taken_unseen(tmp_path: Path, state: str) -> None:
    outer = make(tmp_path / "v")
    inner = make(tmp_path / "v" / "sub")
    known = KnownVaults(state)
    known.remember(outer, str(tmp_path / "v"), told=True)
    with pytest.raises(StrangeVault) as caught:
        known.check(inner, str(tmp_path / "v" / "sub"))
    assert caught.value.exit_code == 77
    assert caught.value.outer == str(tmp_path / "v")
    # another drive at that place, on which the outer one is not
    (tmp_path / "v" / ".encvault").rename(tmp_path / "away")
    assert known.check(inner, str(tmp_path / "v" / "sub")) is None
    (tmp_path / "away").rename(tmp_path / "v" / ".encvault")
    assert KnownVaults(state, inner.fingerprint).check(inner, str(tmp_path / "v" / "sub")) is None
    known.remember(inner, str(tmp_path / "v" / "sub"), told=True, made=True)
    assert known.check(inner, str(tmp_path / "v" / "sub")) is None


def test_each_place_has_a_generation_of_its_own(tmp_path: Path, state: str) -> None:
    """A copy that was changed does not make the original an older one."""
    record = make(tmp_path / "v")
    known = KnownVaults(state)
    known.remember(record, str(tmp_path / "v"), told=True)
    changed = record._replace(generation=5)
    known.remember(changed, str(tmp_path / "copy"), told=True)
    assert known.check(record, str(tmp_path / "v")) is None
    assert isinstance(known.check(record, str(tmp_path / "copy")), RolledBack)


def test_what_was_only_read_is_told_when_something_is_sealed_into_it(
    tmp_path: Path, state: str
) -> None:
    record = make(tmp_path / "v")
    known = KnownVaults(state)
    known.remember(record, str(tmp_path / "v"), told=False)
    assert known.is_untold(record)
    assert known.at(str(tmp_path / "v")) == record.fingerprint
    known.remember(record, str(tmp_path / "v"), told=True)
    assert not known.is_untold(record)
    assert known.at(str(tmp_path)) == ""


def _remember(state: str, record: VaultRecord, path: str) -> None:
    KnownVaults(state).remember(record, path, told=True)


def test_two_runs_at_once_forget_nothing(tmp_path: Path, state: str) -> None:
    records = [make(tmp_path / f"v{number}") for number in range(12)]
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_remember, args=(state, record, str(tmp_path / f"v{number}")))
        for number, record in enumerate(records)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = json.loads((tmp_path / "state" / FILE).read_text())["vaults"]
    assert {entry["id"] for entry in found} == {record.id for record in records}
    assert not [name for name in os.listdir(state) if name.endswith(".tmp")]
