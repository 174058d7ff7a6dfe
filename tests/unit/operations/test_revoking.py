"""New keys for a vault: who stays opens it, who was dropped does not, and what is still exposed."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from helpers import RECIPIENT, SEED, seal, snapshot, write_tree

from encvault import operations
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import (
    CannotCreate,
    ConfirmationNeeded,
    EncvaultError,
    InvalidRequest,
    KeptKeyslot,
    NeededKeyslot,
    NoMatchingKeyslot,
    NoSuchKeyslot,
    PendingKeyslots,
    SourceChanged,
    UnprovedKeyslot,
    VaultBusy,
    VerificationFailed,
)
from encvault.fs import calls
from encvault.keyslots import (
    Identity,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    RecoveryIdentity,
    decode_code,
    encode_password,
)
from encvault.operations import Answers, Rekeyed
from encvault.secret import Secret
from encvault.vault import reseal
from encvault.vault.report import Event, Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY = KeyIdentity(Secret(SEED))
BOB_SEED = bytes(32)
BOB = KeyIdentity(Secret(BOB_SEED))


def knows(text: str) -> PasswordIdentity:
    return PasswordIdentity(encode_password(text))


def answers(*opening: Identity, consent: bool = True) -> Answers:
    return Answers(identities_given=opening or (KEY,), consent=consent)


@pytest.fixture(params=["visible", "hidden"])
def vault(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Sealed for a key, with a password, and for Bob's key."""
    write_tree(tmp_path / "docs")
    hidden = request.param == "hidden"
    assert seal(tmp_path / "docs", hide_names=hidden).problems == []
    added = (
        PasswordRecipient(encode_password("ann's"), label="ann", profile=CHEAPEST),
        PublicKeyRecipient(hpke.public_key(BOB_SEED), label="bob"),
    )
    add = Answers(identities_given=(KEY,), new_recipients_given=added)
    operations.add_slots(str(tmp_path / "docs"), add)
    return tmp_path / "docs"


def slot_of(vault: Path, label: str) -> str:
    (found,) = [s["id"] for s in operations.list_slots(str(vault)) if s["label"] == label]
    return found


def states(vault: Path) -> dict[str, str]:
    return {slot["label"]: slot["state"] for slot in operations.list_slots(str(vault))}


def opened(vault: Path, identity: Identity, to: Path) -> dict[str, Any]:
    report = operations.open_paths(
        operations.OpenRequest((str(vault),), to=str(to), jobs=1), answers(identity)
    )
    assert report.problems == []
    found = snapshot(to)
    shutil.rmtree(to)
    return found


def test_who_is_revoked_is_shut_out_and_the_others_need_do_nothing(
    vault: Path, tmp_path: Path
) -> None:
    before = opened(vault, BOB, tmp_path / "out")
    ids = {label: slot_of(vault, label) for label in states(vault)}
    shutil.copytree(vault, tmp_path / "copy")
    done = operations.revoke(str(vault), answers(KEY, knows("ann's")), ids["bob"])
    assert [slot["label"] for slot in done.revoked] == ["bob"]
    assert done.pending == []
    assert states(vault) == {"test": "active", "ann": "active"}
    assert {label: slot_of(vault, label) for label in states(vault)} == {
        "test": ids["test"],
        "ann": ids["ann"],
    }
    for identity in (KEY, knows("ann's")):
        assert opened(vault, identity, tmp_path / "out") == before
    with pytest.raises(NoMatchingKeyslot):
        opened(vault, BOB, tmp_path / "out")
    assert opened(tmp_path / "copy", BOB, tmp_path / "out") == before  # as it says
    with Vault.load(str(vault)) as found, Vault.load(str(tmp_path / "copy")) as copy:
        assert done.fingerprint == found.record.fingerprint
        assert done.former_fingerprint == copy.record.fingerprint
        assert found.record.succeeds(copy.record)


def test_passwords_that_are_not_at_hand_become_pending_and_can_be_set_again(
    vault: Path, tmp_path: Path
) -> None:
    done = operations.rekey(str(vault), answers(KEY))
    assert [(slot["label"], slot["state"]) for slot in done.pending] == [("ann", "pending")]
    assert states(vault) == {"test": "active", "bob": "active", "ann": "pending"}
    with pytest.raises(PendingKeyslots, match="ann"):
        opened(vault, knows("ann's"), tmp_path / "out")
    # a second change keeps the first one's
    assert [slot["label"] for slot in operations.rekey(str(vault), answers(KEY)).pending] == ["ann"]
    new = PasswordRecipient(encode_password("ann's new"), label="ann", profile=CHEAPEST)
    setting = Answers(identities_given=(BOB,), new_recipients_given=(new,))
    operations.change_password(str(vault), setting, slot_of(vault, "ann"))
    assert states(vault) == {"test": "active", "bob": "active", "ann": "active"}
    assert opened(vault, knows("ann's new"), tmp_path / "out")


def test_a_pending_slot_can_be_removed_or_revoked(vault: Path) -> None:
    operations.rekey(str(vault), answers(KEY))
    operations.remove_slot(str(vault), answers(KEY), slot_of(vault, "ann"))
    assert states(vault) == {"test": "active", "bob": "active"}


def test_a_revoked_pending_slot_is_gone(vault: Path) -> None:
    operations.rekey(str(vault), answers(KEY))
    done = operations.revoke(str(vault), answers(KEY), slot_of(vault, "ann"))
    assert [slot["label"] for slot in done.revoked] == ["ann"]
    assert done.pending == []
    assert states(vault) == {"test": "active", "bob": "active"}


def test_recovery_codes_outlive_a_change_of_keys(vault: Path, tmp_path: Path) -> None:
    code = operations.add_recovery(str(vault), answers(KEY), label="safe").code
    operations.rekey(str(vault), answers(KEY))
    with decode_code(code) as secret:
        assert opened(vault, RecoveryIdentity(secret), tmp_path / "out")


def test_what_is_exposed_is_counted_until_it_is_sealed_anew(vault: Path, tmp_path: Path) -> None:
    before = opened(vault, KEY, tmp_path / "out")
    with Vault.load(str(vault)) as found:
        assert found.record.rekeyed_at == 1
    done = operations.revoke(str(vault), answers(KEY), slot_of(vault, "bob"))
    sealed = _sealed_files(vault)
    assert done.exposed_files == len(sealed)
    assert done.exposed_size == sum(len(data) for data in sealed.values())
    assert done.report.files == 0
    events = _Events()
    done = operations.reseal_exposed(str(vault), answers(KEY), jobs=1, observer=events)
    assert (done.exposed_files, done.exposed_size, done.report.problems) == (0, 0, [])
    assert done.report.files == len(sealed)
    assert {event.action for event in events.seen} == {"reseal"}
    assert {event.path for event in events.seen} == {
        name.removesuffix(".sealed") for name in sealed
    }
    after = _sealed_files(vault)
    assert after.keys() == sealed.keys()
    assert all(after[name] != data for name, data in sealed.items())
    assert opened(vault, KEY, tmp_path / "out") == before
    again = operations.reseal_exposed(str(vault), answers(KEY))
    assert again.report.files == 0
    assert operations.verify(str(vault), answers(KEY)).problems == []
    assert _sealed_files(vault) == after


class _Events(Observer):
    wants_total = True

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.done = self.counted = 0

    def total(self, files: int, size: int) -> None:
        self.counted = files

    def progress(self, files: int, size: int) -> None:
        self.done += files

    def before_release(self, events: Sequence[Event]) -> None:
        self.seen += events


def _sealed_files(vault: Path) -> dict[str, bytes]:
    visible = {
        str(path.relative_to(vault)): path.read_bytes()
        for path in vault.rglob("*.sealed")
        if path.is_file()
    }
    objects = {
        str(path.relative_to(vault)): path.read_bytes()
        for path in (vault / ".encvault" / "objects").rglob("*")
        if path.is_file()
    }
    return visible | objects


def test_former_data_keys_open_nothing_of_what_was_sealed_anew(vault: Path) -> None:
    """What the leaver kept: the old vault secret, and by it every data key there was."""
    with Vault.load(str(vault)) as found:
        found.unlock([BOB])
        kept = {
            path.stem: bytes(found._data_key(path.stem, "f").key.reveal())
            for path in (vault / ".encvault" / "keys").iterdir()
        }
    done = operations.revoke(str(vault), answers(KEY), slot_of(vault, "bob"), reseal=True)
    assert done.report.files > 0
    with Vault.load(str(vault)) as found:
        for path in _sealed_files(vault):
            tree = found.tree
            with open(tree.show(path), "rb") as file:
                header = reseal.read_header(file.fileno(), path)
            assert header.key_info.key not in kept  # type: ignore[union-attr]


def test_unchanged_files_stay_unchanged_for_the_next_seal(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    state = str(tmp_path / "state")
    for hidden in (False, True):
        mirror = str(tmp_path / f"mirror{hidden}")
        options: dict[str, Any] = {"to": mirror, "state_dir": state, "hide_names": hidden}
        first = seal(tmp_path / "docs", **options)
        operations.rekey(mirror, answers(KEY), reseal=True)
        options.pop("hide_names")
        report = seal(tmp_path / "docs", **options)
        assert (report.files, report.unchanged) == (0, first.files)
        assert report.problems == []


def test_files_sealed_after_the_change_are_not_exposed(vault: Path) -> None:
    operations.rekey(str(vault), answers(KEY), reseal=True)
    (vault / "later").write_text("later")
    seal(vault)
    assert operations.reseal_exposed(str(vault), answers(KEY)).report.files == 0


def test_revoking_again_goes_on_where_the_first_run_stopped(vault: Path) -> None:
    bob = slot_of(vault, "bob")
    first = operations.revoke(str(vault), answers(KEY), bob)
    again = operations.revoke(str(vault), answers(KEY, consent=False), bob, reseal=True)
    assert again.fingerprint == first.fingerprint
    assert again.report.files == first.exposed_files
    assert again.exposed_files == 0
    with Vault.load(str(vault)) as found:
        assert len(found.record.succession) == 1


def unchanged(vault: Path, error: type[EncvaultError], operate: Any) -> EncvaultError:
    before = {path: path.read_bytes() for path in vault.rglob("*.json")}
    with pytest.raises(error) as caught:
        operate()
    assert {path: path.read_bytes() for path in vault.rglob("*.json")} == before
    return caught.value


def test_nothing_changes_without_a_key_consent_or_such_a_slot(vault: Path) -> None:
    path = str(vault)
    bob = slot_of(vault, "bob")
    stranger = answers(knows("x"))
    unchanged(vault, NoMatchingKeyslot, lambda: operations.rekey(path, stranger))
    unchanged(vault, NoMatchingKeyslot, lambda: operations.revoke(path, stranger, bob))
    unchanged(vault, NoMatchingKeyslot, lambda: operations.reseal_exposed(path, stranger))
    silent = answers(KEY, consent=False)
    asked = unchanged(vault, ConfirmationNeeded, lambda: operations.revoke(path, silent, bob))
    assert "bob" in str(asked)
    unchanged(vault, ConfirmationNeeded, lambda: operations.rekey(path, silent))
    unchanged(vault, NoSuchKeyslot, lambda: operations.revoke(path, answers(KEY), "a" * 13))
    (vault / "sub").mkdir()
    unchanged(vault, InvalidRequest, lambda: operations.rekey(path + "/sub", answers(KEY)))


def test_a_slot_is_not_revoked_by_its_own_key(vault: Path) -> None:
    bob = slot_of(vault, "bob")
    unchanged(vault, KeptKeyslot, lambda: operations.revoke(str(vault), answers(BOB), bob))
    # the same run with a key that stays as well
    done = operations.revoke(str(vault), answers(BOB, KEY), bob)
    assert states(vault) == {"test": "active", "ann": "pending"}
    assert [slot["label"] for slot in done.revoked] == ["bob"]


def test_the_last_password_needs_force(vault: Path, tmp_path: Path) -> None:
    ann = slot_of(vault, "ann")
    unchanged(vault, NeededKeyslot, lambda: operations.revoke(str(vault), answers(KEY), ann))
    operations.revoke(str(vault), answers(KEY), ann, force=True)
    assert states(vault) == {"test": "active", "bob": "active"}
    assert opened(vault, KEY, tmp_path / "out")


def test_a_slot_that_does_not_open_again_stops_the_change(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = slot_of(vault, "bob")

    def wrong(slot: dict[str, Any], _secret: Secret) -> dict[str, Any]:
        return slot

    monkeypatch.setattr("encvault.operations.revoking.rewrap", wrong)
    unchanged(vault, UnprovedKeyslot, lambda: operations.revoke(str(vault), answers(KEY), bob))


# -- what can go wrong while files are sealed anew ------------------------------------------


def rekeyed(vault: Path) -> Rekeyed:
    return operations.rekey(str(vault), answers(KEY))


def test_a_damaged_file_is_named_and_left_and_the_others_go_on(vault: Path) -> None:
    exposed = rekeyed(vault).exposed_files
    sealed = _sealed_files(vault)
    name = max(sealed, key=lambda name: len(sealed[name]))
    damaged = bytearray(sealed[name])
    damaged[-1] ^= 1
    (vault / name).write_bytes(damaged)
    done = operations.reseal_exposed(str(vault), answers(KEY))
    assert [type(problem).__name__ for problem in done.report.problems] == ["ChunkCorrupt"]
    assert done.report.files == exposed - 1
    assert done.exposed_files == 1
    assert (vault / name).read_bytes() == damaged
    assert not list(vault.rglob("*.tmp"))


def test_files_of_others_are_left(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    seal(tmp_path / "docs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    seal(tmp_path / "other")
    (tmp_path / "alone").write_text("alone")
    seal(tmp_path / "alone")
    shutil.copy(tmp_path / "other" / "x.sealed", tmp_path / "docs" / "x.sealed")
    shutil.copy(tmp_path / "alone.sealed", tmp_path / "docs" / "alone.sealed")
    shutil.copytree(tmp_path / "other", tmp_path / "docs" / "nested")
    foreign = {
        name: (tmp_path / "docs" / name).read_bytes()
        for name in ("x.sealed", "alone.sealed", "nested/x.sealed")
    }
    done = operations.rekey(str(tmp_path / "docs"), answers(KEY), reseal=True)
    assert done.report.problems == []
    assert {name: (tmp_path / "docs" / name).read_bytes() for name in foreign} == foreign


def test_a_header_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    seal(tmp_path / "docs")
    (tmp_path / "docs" / "junk.sealed").write_bytes(b"junk")
    done = operations.rekey(str(tmp_path / "docs"), answers(KEY))
    assert [type(problem).__name__ for problem in done.report.problems] == ["NotSealed"]


def test_what_a_killed_run_left_is_removed(vault: Path) -> None:
    rekeyed(vault)
    (some, *_rest) = _sealed_files(vault)
    left = (vault / some).parent / (".encvault-" + "a" * 26 + ".tmp")
    left.write_bytes(b"half a file")
    done = operations.reseal_exposed(str(vault), answers(KEY), jobs=1)
    assert done.report.problems == []
    assert not left.exists()


def test_a_copy_that_reads_back_otherwise_is_not_taken(
    vault: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = opened(vault, KEY, tmp_path / "out")
    exposed = rekeyed(vault).exposed_files
    with monkeypatch.context() as patch:
        patch.setattr(reseal, "_digest", lambda *_arguments: b"")
        done = operations.reseal_exposed(str(vault), answers(KEY), jobs=1)
        assert {type(problem) for problem in done.report.problems} == {VerificationFailed}
        assert len(done.report.problems) == done.exposed_files == exposed
        assert not list(vault.rglob("*.tmp"))
    assert opened(vault, KEY, tmp_path / "out") == before


def test_a_file_that_is_replaced_meanwhile_is_left(vault: Path) -> None:
    rekeyed(vault)
    (name, *_rest) = _sealed_files(vault)

    class Meddler(Observer):
        def before_release(self, events: Sequence[Event]) -> None:
            del events
            data = (vault / name).read_bytes()
            (vault / name).unlink()
            (vault / name).write_bytes(data)

    done = operations.reseal_exposed(str(vault), answers(KEY), jobs=1, observer=Meddler())
    assert [type(problem) for problem in done.report.problems] == [SourceChanged]
    assert done.report.files == len(_sealed_files(vault)) - 1
    assert done.exposed_files == 1
    assert not list(vault.rglob("*.tmp"))
    assert operations.reseal_exposed(str(vault), answers(KEY)).exposed_files == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_takes_its_temporary_files_along(vault: Path, jobs: int) -> None:
    rekeyed(vault)

    class Impatient(Observer):
        def before_release(self, events: Sequence[Event]) -> None:
            del events
            assert list(vault.rglob("*.tmp"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operations.reseal_exposed(str(vault), answers(KEY), jobs=jobs, observer=Impatient())
    assert not list(vault.rglob("*.tmp"))
    assert operations.reseal_exposed(str(vault), answers(KEY)).exposed_files == 0


def test_a_rename_that_fails_leaves_the_old_file_and_no_other(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposed = rekeyed(vault).exposed_files
    names = set(map(os.path.basename, _sealed_files(vault)))

    def refuse(call: str, _fd: int, target: str) -> None:
        if call == "replace" and target.partition("\0")[2] in names:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(calls, "probe", refuse)
    done = operations.reseal_exposed(str(vault), answers(KEY), jobs=1)
    assert {type(problem) for problem in done.report.problems} == {CannotCreate}
    assert (done.report.files, done.exposed_files) == (0, exposed)
    assert not list(vault.rglob("*.tmp"))


def test_many_files_take_several_workers(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for index in range(1200):
        (tmp_path / "docs" / f"{index}").write_text(f"{index}")
    seal(tmp_path / "docs")
    events = _Events()
    done = operations.rekey(
        str(tmp_path / "docs"), answers(KEY), reseal=True, jobs=2, observer=events
    )
    assert (done.report.files, done.report.problems) == (1200, [])
    assert events.counted == events.done == 1200
    assert operations.verify(str(tmp_path / "docs"), answers(KEY)).files == 1200


def test_an_empty_vault_is_rekeyed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    operations.init_vault(str(tmp_path / "docs"), Answers((RECIPIENT,)), hide_names=True)
    done = operations.rekey(str(tmp_path / "docs"), answers(KEY), reseal=True)
    assert (done.exposed_files, done.report.files) == (0, 0)


def test_hard_links_and_attributes_of_sealed_files_are_kept(tmp_path: Path) -> None:
    write_tree(tmp_path / "docs")
    seal(tmp_path / "docs")
    sealed = tmp_path / "docs" / "empty.sealed"
    os.setxattr(sealed, "user.note", b"kept")
    os.link(sealed, tmp_path / "docs" / "second.sealed")
    sealed.chmod(0o604)
    done = operations.rekey(str(tmp_path / "docs"), answers(KEY), reseal=True, jobs=1)
    assert (done.report.problems, done.exposed_files) == ([], 0)
    assert os.getxattr(sealed, "user.note") == b"kept"
    assert sealed.stat().st_mode & 0o777 == 0o604


def test_keys_that_change_while_a_password_is_typed(vault: Path) -> None:
    """The record is read before somebody is asked, and again when he has answered."""

    class Slow(PasswordIdentity):
        def unwrap(self, slots: Any, path: str) -> Any:
            found = super().unwrap(slots, path)
            if found is not None and not changed:
                changed.append(operations.rekey(str(vault), answers(KEY)))
            return found

    changed: list[Rekeyed] = []
    for look in (operations.verify, operations.list_files):
        changed.clear()
        words = f"ann's {look.__name__}"
        new = PasswordRecipient(encode_password(words), label="ann", profile=CHEAPEST)
        setting = Answers(identities_given=(KEY,), new_recipients_given=(new,))
        operations.change_password(str(vault), setting, slot_of(vault, "ann"))
        with pytest.raises(VaultBusy, match="changed its keys"):
            look(str(vault), answers(Slow(encode_password(words))))
        assert changed


def test_a_record_that_would_be_too_large_is_not_written(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encvault.vault.vault.MAX_RECORD_SIZE", 20_000)
    with pytest.raises(InvalidRequest, match="1 MiB"):
        for _number in range(9):
            operations.add_recovery(str(vault), answers(KEY))
    assert len(operations.list_slots(str(vault))) > 3
