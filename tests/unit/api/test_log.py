"""Programs record where they want to, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import encvault
from encvault.accesslog.audit import Verdict
from encvault.accesslog.verifying import verify
from encvault.accesslog.viewing import view
from encvault.crypto.kdf import CHEAPEST
from encvault.keyslots import PasswordRecipient as CorePasswordRecipient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    defaults = CorePasswordRecipient.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "profile", CHEAPEST)  # type: ignore[arg-type]
    return encvault.new_identity(tmp_path / "me.key")


@pytest.fixture
def to_me(line: str) -> list[encvault.Recipient]:
    return encvault.load_recipients(line)


@pytest.fixture
def me(line: str, tmp_path: Path) -> list[encvault.Identity]:
    return [encvault.load_identity(tmp_path / "me.key")]


@pytest.fixture
def log(tmp_path: Path) -> encvault.AccessLog:
    return encvault.AccessLog(str(tmp_path / "log"))


def recorded(log: encvault.AccessLog) -> list[str]:
    return [entry.members["op"] for entry in view(log.path)[1]]


def test_every_function_records(
    tmp_path: Path,
    log: encvault.AccessLog,
    to_me: list[encvault.Recipient],
    me: list[encvault.Identity],
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a").write_text("content")
    (tmp_path / "f").write_text("alone")
    sealed_bytes = encvault.seal_bytes(b"x", to_me)  # which touches no file, and records nothing
    with (tmp_path / "s").open("wb") as target, (tmp_path / "f").open("rb") as source:
        assert encvault.seal_stream(source, target, to_me, log=log) == 5
    steps: list[tuple[list[str], Callable[[], object]]] = [
        (["key.new"], lambda: encvault.new_identity(tmp_path / "k", log=log)),
        (["init", "seal"], lambda: encvault.seal_folder(docs, to_me, log=log)),
        (["open"], lambda: encvault.open_folder(docs, me, to=tmp_path / "out", log=log)),
        (["seal"], lambda: encvault.seal_file(tmp_path / "f", to_me, log=log)),
        (
            ["share"],
            lambda: encvault.share_file(
                tmp_path / "f.sealed", to_me, me, to=tmp_path / "copy", log=log
            ),
        ),
        (["open"], lambda: encvault.open_file(tmp_path / "f.sealed", me, log=log)),
        (["open"], lambda: encvault.open_bytes(sealed_bytes, me, log=log)),
        (["open"], lambda: opened_stream(tmp_path / "s", me, log)),
        (["init"], lambda: encvault.Vault.create(tmp_path / "v", to_me, log=log)),
    ]
    check(log, steps)
    vault = encvault.Vault.open(docs, me, log=log)
    assert recorded(log)[-1] == "unlock"
    steps = [
        (["cat"], lambda: vault.read("a")),
        (["list"], vault.files),
        (["verify"], vault.verify),
        ([], vault.slots),
        (["slot.add"], lambda: vault.add_slots([encvault.PasswordRecipient("one")])),
        (["slot.passwd"], lambda: vault.change_password("two", slot_id=last_slot(vault))),
        (["slot.remove"], lambda: vault.remove_slot(last_slot(vault), force=True)),
        (["recovery.add"], vault.add_recovery),
        (["revoke"], lambda: vault.revoke(last_slot(vault), force=True)),
        (["rekey", "reseal"], lambda: vault.rekey(reseal=True)),
    ]
    check(log, steps)
    assert verify(log.path).verdict is Verdict.OK_UNANCHORED


def check(log: encvault.AccessLog, steps: list[tuple[list[str], Callable[[], object]]]) -> None:
    for ops, step in steps:
        before = recorded(log)
        step()
        assert recorded(log)[len(before) :] == ops


def opened_stream(
    path: Path, identities: list[encvault.Identity], log: encvault.AccessLog
) -> bytes:
    with path.open("rb") as source:
        return b"".join(encvault.open_stream(source, identities, log=log))


def last_slot(vault: encvault.Vault) -> str:
    return vault.slots()[-1]["id"]


def test_without_a_log_nothing_is_recorded(
    tmp_path: Path, to_me: list[encvault.Recipient], me: list[encvault.Identity]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    encvault.seal_folder(tmp_path / "docs", to_me)
    with encvault.Vault.open(tmp_path / "docs", me) as vault:
        assert vault.read("a") == b"content"
    assert not list(tmp_path.rglob("entries"))
    assert not (tmp_path / "docs" / ".encvault" / "checkpoints").exists()


def test_a_wrong_key_is_recorded(
    tmp_path: Path, log: encvault.AccessLog, to_me: list[encvault.Recipient]
) -> None:
    encvault.Vault.create(tmp_path / "v", to_me)
    with pytest.raises(encvault.NoMatchingKeyslot):
        encvault.Vault.open(tmp_path / "v", [encvault.PasswordIdentity("wrong")], log=log)
    *_others, entry = view(log.path)[1]
    assert (entry.members["op"], entry.members["outcome"]) == ("unlock", "refused")


def test_what_cannot_be_recorded_is_refused_unless_it_need_not_be(
    tmp_path: Path, to_me: list[encvault.Recipient], me: list[encvault.Identity]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    encvault.seal_folder(tmp_path / "docs", to_me)
    (tmp_path / "taken").touch()
    where = str(tmp_path / "taken")
    for work in (
        lambda: encvault.Vault.open(tmp_path / "docs", me, log=encvault.AccessLog(where)),
        lambda: encvault.open_folder(
            tmp_path / "docs", me, to=tmp_path / "out", log=encvault.AccessLog(where)
        ),
    ):
        with pytest.raises(encvault.EncvaultError) as caught:
            work()
        assert caught.value.exit_code == 74
    told: list[str] = []

    class Listener(encvault.Observer):
        def note(self, message: str) -> None:
            told.append(message)

    lenient = encvault.AccessLog(where, required=False)
    with encvault.Vault.open(tmp_path / "docs", me, log=lenient) as vault:
        assert vault.read("a", observer=Listener()) == b"content"
    assert "access log" in told[0]
