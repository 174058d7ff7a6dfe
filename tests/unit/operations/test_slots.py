"""Who can open a vault: every change keeps what it must, and is there on both copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from helpers import RECIPIENT, SEED, seal

from encvault import operations
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import (
    EncvaultError,
    InvalidRequest,
    KeyRequired,
    MalformedVault,
    NeededKeyslot,
    NoMatchingKeyslot,
    NoSuchKeyslot,
    NotAVault,
    SourceMissing,
    UnprovedKeyslot,
)
from encvault.keyslots import (
    Identity,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    Recipient,
    RecoveryIdentity,
    decode_code,
    encode_password,
)
from encvault.operations import Answers
from encvault.secret import Secret
from encvault.vault.manifest import VaultRecord
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY = KeyIdentity(Secret(SEED))


def password(text: str, label: str = "") -> PasswordRecipient:
    return PasswordRecipient(encode_password(text), label=label, profile=CHEAPEST)


def knows(text: str) -> PasswordIdentity:
    return PasswordIdentity(encode_password(text))


def answers(*opening: Identity, new: Sequence[Recipient] = ()) -> Answers:
    return Answers(identities_given=opening, new_recipients_given=tuple(new))


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    seal(tmp_path / "docs")
    return tmp_path / "docs"


def content(vault: Path, identity: Identity) -> bytes:
    return b"".join(map(bytes, operations.cat(str(vault / "a"), answers(identity))))


def kinds(vault: Path) -> list[tuple[str, str]]:
    return [(slot["kind"], slot["label"]) for slot in operations.list_slots(str(vault))]


def records(vault: Path) -> list[VaultRecord]:
    return [
        VaultRecord.decode((vault / ".encvault" / name).read_bytes(), name)
        for name in ("vault.a.json", "vault.b.json")
    ]


def generations(vault: Path) -> list[int]:
    return [record.generation for record in records(vault)]


def test_added_people_open_it_as_well(vault: Path) -> None:
    other = PublicKeyRecipient(hpke.public_key(bytes(32)), label="bob")
    added = operations.add_slots(str(vault), answers(KEY, new=[password("new", "ann"), other]))
    assert [(slot["kind"], slot["label"]) for slot in added] == [
        ("password", "ann"),
        ("recipient", "bob"),
    ]
    assert kinds(vault) == [("recipient", "test"), ("password", "ann"), ("recipient", "bob")]
    for identity in (KEY, knows("new"), KeyIdentity(Secret(bytes(32)))):
        assert content(vault, identity) == b"content"
    assert generations(vault) == [2, 2]


def test_a_key_that_opens_it_is_needed(vault: Path) -> None:
    before = (vault / ".encvault" / "vault.a.json").read_bytes()
    for operate in (
        lambda: operations.add_slots(str(vault), answers(knows("x"), new=[password("y")])),
        lambda: operations.remove_slot(str(vault), answers(knows("x")), "aaaaaaaaaaaaa"),
        lambda: operations.change_password(str(vault), answers(knows("x"), new=[password("y")])),
        lambda: operations.add_recovery(str(vault), answers(knows("x"))),
    ):
        with pytest.raises(NoMatchingKeyslot):
            operate()
    assert (vault / ".encvault" / "vault.a.json").read_bytes() == before


def test_nobody_is_added_twice(vault: Path) -> None:
    with pytest.raises(InvalidRequest, match="has a keyslot already"):
        operations.add_slots(str(vault), answers(KEY, new=[RECIPIENT]))
    operations.add_slots(str(vault), answers(KEY, new=[password("one")]))
    with pytest.raises(InvalidRequest, match="has a keyslot already"):
        operations.add_slots(str(vault), answers(KEY, new=[password("one")]))


def test_no_more_than_the_format_allows(vault: Path) -> None:
    many = [password(f"number {index}") for index in range(8)]
    operations.add_slots(str(vault), answers(KEY, new=many))
    with pytest.raises(InvalidRequest, match="more than 8 password slots"):
        operations.add_slots(str(vault), answers(KEY, new=[password("one more")]))
    assert len(kinds(vault)) == 9


class Faulty(PasswordRecipient):
    """Hashes wrongly once, as a machine with bad memory may."""

    def identity(self) -> PasswordIdentity:
        return knows("what it did not hash")


def test_a_slot_that_does_not_open_is_not_stored(vault: Path) -> None:
    with pytest.raises(UnprovedKeyslot):
        operations.add_slots(
            str(vault), answers(KEY, new=[Faulty(encode_password("x"), profile=CHEAPEST)])
        )
    assert generations(vault) == [1, 1]


def test_a_removed_slot_opens_no_more(vault: Path) -> None:
    (slot,) = operations.add_slots(str(vault), answers(KEY, new=[password("one", "ann")]))
    operations.add_slots(str(vault), answers(KEY, new=[password("two", "bob")]))
    assert operations.remove_slot(str(vault), answers(KEY), slot["id"]) == slot
    assert kinds(vault) == [("recipient", "test"), ("password", "bob")]
    with pytest.raises(NoMatchingKeyslot):
        content(vault, knows("one"))
    with pytest.raises(NoSuchKeyslot):
        operations.remove_slot(str(vault), answers(KEY), slot["id"])
    assert generations(vault) == [4, 4]


def test_the_last_slot_stays(vault: Path) -> None:
    (only,) = operations.list_slots(str(vault))
    for force in (False, True):
        with pytest.raises(NeededKeyslot, match="it is the last one"):
            operations.remove_slot(str(vault), answers(KEY), only["id"], force=force)


def test_the_last_slot_that_needs_no_key_file_stays_unless_it_is_forced(vault: Path) -> None:
    (slot,) = operations.add_slots(str(vault), answers(KEY, new=[password("one")]))
    code = operations.add_recovery(str(vault), answers(KEY))
    operations.remove_slot(str(vault), answers(KEY), slot["id"])
    with pytest.raises(NeededKeyslot, match="only identity files"):
        operations.remove_slot(str(vault), answers(KEY), code.slot["id"])
    operations.remove_slot(str(vault), answers(KEY), code.slot["id"], force=True)
    assert kinds(vault) == [("recipient", "test")]


def test_recipients_may_go_while_one_slot_is_left(vault: Path) -> None:
    other = PublicKeyRecipient(hpke.public_key(bytes(32)))
    operations.add_slots(str(vault), answers(KEY, new=[other]))
    first = operations.list_slots(str(vault))[0]
    operations.remove_slot(str(vault), answers(KEY), first["id"])
    assert content(vault, KeyIdentity(Secret(bytes(32)))) == b"content"


def test_a_password_is_changed_in_its_place(vault: Path) -> None:
    operations.add_slots(
        str(vault), answers(KEY, new=[password("old", "ann"), password("b", "bob")])
    )
    changed = operations.change_password(
        str(vault), answers(knows("old"), new=[password("new", "ann")])
    )
    assert kinds(vault) == [("recipient", "test"), ("password", "ann"), ("password", "bob")]
    assert operations.list_slots(str(vault))[1] == changed
    assert content(vault, knows("new")) == content(vault, knows("b")) == b"content"
    with pytest.raises(NoMatchingKeyslot):
        content(vault, knows("old"))


def test_another_slots_password_is_changed_by_name(vault: Path) -> None:
    (slot,) = operations.add_slots(str(vault), answers(KEY, new=[password("old", "ann")]))
    new = answers(KEY, new=[password("new", "ann")])
    with pytest.raises(InvalidRequest, match="is not for a password"):
        operations.change_password(str(vault), new)
    operations.change_password(str(vault), new, slot["id"])
    assert content(vault, knows("new")) == b"content"


def test_a_recovery_code_opens_and_can_be_tested(vault: Path) -> None:
    made = operations.add_recovery(str(vault), answers(KEY), label="safe")
    identity = RecoveryIdentity(decode_code(made.code))
    assert content(vault, identity) == b"content"
    assert operations.check_recovery(str(vault), identity) == made.slot
    assert made.slot["label"] == "safe"
    assert made.fingerprint == records(vault)[0].fingerprint
    stranger = RecoveryIdentity(Secret(bytes(32)))
    with pytest.raises(NoMatchingKeyslot):
        operations.check_recovery(str(vault), stranger)
    for path in (vault / ".encvault").rglob("*"):
        assert not path.is_file() or made.code.encode() not in path.read_bytes()


@pytest.mark.parametrize("place", ["sub", "sub/inner"])
def test_a_place_in_the_vault_is_not_the_vault(vault: Path, place: str) -> None:
    (vault / place).mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="name the vault's own folder"):
        operations.add_recovery(str(vault / place), answers(KEY))


def test_what_is_no_vault_has_no_slots(tmp_path: Path) -> None:
    with pytest.raises(NotAVault):
        operations.list_slots(str(tmp_path))
    with pytest.raises(SourceMissing):
        operations.list_slots(str(tmp_path / "nowhere"))


def test_a_change_that_another_run_made_meanwhile_is_kept(vault: Path) -> None:
    with Vault.load(str(vault)) as late:
        late.unlock([KEY])
        operations.add_slots(str(vault), answers(KEY, new=[password("one", "ann")]))
        late.hold()
        late.change_slots((*late.record.slots, password("two", "bob").wrap(late.secret)))
    assert kinds(vault) == [("recipient", "test"), ("password", "ann"), ("password", "bob")]
    assert generations(vault) == [3, 3]


def test_keys_that_were_exchanged_meanwhile_are_refused(vault: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    seal(tmp_path / "other")
    (tmp_path / "new").mkdir()
    operations.init_vault(str(tmp_path / "new"), Answers(recipients_given=(RECIPIENT,)))
    with Vault.load(str(vault)) as late:
        late.unlock([KEY])
        for name in ("vault.a.json", "vault.b.json"):
            foreign = (tmp_path / "new" / ".encvault" / name).read_bytes()
            (vault / ".encvault" / name).write_bytes(foreign)
        with pytest.raises(MalformedVault, match="public keys"):
            late.hold()


def test_a_vault_that_went_away_meanwhile_is_none(vault: Path) -> None:
    with Vault.load(str(vault)) as late:
        for name in ("vault.a.json", "vault.b.json"):
            (vault / ".encvault" / name).unlink()
        with pytest.raises(NotAVault):
            late.hold()


def test_a_locked_vault_gives_no_secret(vault: Path) -> None:
    with Vault.load(str(vault)) as locked:
        with pytest.raises(KeyRequired):
            _secret: Any = locked.secret
        with pytest.raises(KeyRequired):
            locked.change_slots(locked.record.slots)


def test_a_record_that_cannot_be_written_is_a_storage_error(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("encvault.vault.vault.store_record", full)
    with pytest.raises(EncvaultError) as caught:
        operations.add_recovery(str(vault), answers(KEY))
    assert caught.value.exit_code == 73
