"""``--keyring`` with a real GNOME Keyring on a private message bus, through the real command."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desktop import Desktop

from encvault import operations
from encvault.cli.keyring import Keyring
from encvault.crypto.kdf import CHEAPEST, KdfProfile
from encvault.errors import CannotCreate
from encvault.keychain import Keychain
from encvault.keyslots import PasswordRecipient, passwords
from encvault.secret import Secret
from encvault.vault import single
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command, Ran

PATIENT = 30.0


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    monkeypatch.setattr("encvault.keychain.client.UNATTENDED_SECONDS", PATIENT)
    monkeypatch.setattr("encvault.cli.key._LIST_SECONDS", PATIENT)
    with Desktop(tmp_path / "desktop") as session:
        session.log_in()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", session.address)
        yield session


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No desktop at all, as under cron."""
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    for name in ("one", "two"):
        (tmp_path / name).write_text(name + "\n")
    return tmp_path / "docs"


def keychain(desktop: Desktop) -> Keychain:
    return Keychain(desktop.environ, timeout_s=PATIENT)


def stored(desktop: Desktop, *slot_ids: str) -> dict[str, bytes]:
    found = keychain(desktop).load(slot_ids)
    return {slot_id: bytes(password.reveal()) for slot_id, password in found.items()}


def slots(path: Path) -> list[str]:
    """The accounts of a vault's or file's password keyslots."""
    return [account(slot) for slot in password_slots(path)]


def password_slots(path: Path) -> list[dict[str, object]]:
    if path.is_dir():
        with Vault.load(str(path)) as vault:
            found = list(vault.record.slots)
    else:
        text = path.read_bytes().decode("latin-1")
        found = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]["slots"]
    return [slot for slot in found if slot["kind"] == "password"]


def account(slot: dict[str, object]) -> str:
    """Made as docs/scripting.md says."""
    bound = {name: slot[name] for name in ("created_at", "id", "kdf", "kind")}
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(b"encvault/keychain-account@v1\0" + text.encode()).digest()
    return f"{slot['id']}-{base64.b32encode(digest[:20]).decode().lower()}"


def password(path: Path, name: str, *, new: bool = False) -> list[object]:
    return ["--new-password-file" if new else "--password-file", path.parent / name]


def error(done: Ran) -> str:
    found: str = json.loads(done.out)["error"]
    return found


def test_seal_stores_and_open_needs_nobody(run: Command, desktop: Desktop, folder: Path) -> None:
    sealed = run("seal", folder, "--keyring", *password(folder, "one"))
    assert sealed.code == 0
    assert "encvault: stored the password in the keychain (Secret Service)\n" in sealed.err
    (slot,) = slots(folder)
    assert stored(desktop, slot) == {slot: b"one"}
    assert run("cat", folder / "a", "--keyring", "--no-input").out == "content"
    opened = run("open", folder, "--keyring", "--no-input")
    assert (opened.code, opened.out) == (0, "")
    assert (folder / "a").read_text() == "content"
    # what exists is sealed without any key, and stores nothing
    again = run("seal", folder, "--keyring")
    assert again.code == 0
    assert "stored" not in again.err


def test_the_password_shows_nowhere(run: Command, desktop: Desktop, folder: Path) -> None:
    (folder.parent / "one").write_text("a-word-like-no-other\n")
    ran = [
        run("seal", folder, "--keyring", "--json", *password(folder, "one")),
        run("open", folder, "--keyring", "--json"),
        run("info", folder, "--json"),
    ]
    assert [done.code for done in ran] == [0, 0, 0]
    assert "a-word-like-no-other" not in "".join(done.out + done.err for done in ran)
    # the keychain's own file is encrypted, and names neither the folder nor the user's words
    files = [path.read_bytes() for path in (folder.parent / "desktop").rglob("*.keyring")]
    assert files
    assert not any(b"a-word-like-no-other" in data or b"docs" in data for data in files)


def test_a_changed_password_is_stored_beside_the_old_one(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    run("seal", folder, "--keyring", *password(folder, "one"))
    (old,) = slots(folder)
    copy = Path(shutil.copytree(folder, folder.parent / "copy"))
    done = run("passwd", folder, "--keyring", *password(folder, "two", new=True))
    assert done.code == 0
    assert "encvault: if the keychain holds the old password, it stays there\n" in done.err
    (new,) = slots(folder)
    assert new != old
    assert run("verify", folder, "--keyring", "--no-input").code == 0
    # a copy that was made before needs the old one
    assert stored(desktop, old, new) == {old: b"one", new: b"two"}
    assert run("cat", copy / "a", "--keyring", "--no-input").out == "content"


def test_other_peoples_passwords_are_not_stored(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    run("init", folder, "--keyring", *password(folder, "one"))
    added = run("slot", "add", folder, "--keyring", "--json", *password(folder, "two", new=True))
    assert added.code == 0
    first, second = slots(folder)
    slot = json.loads(added.out)["slots"][0]["id"]
    assert second.startswith(f"{slot}-")
    given = ["--keyring", *password(folder, "two", new=True)]
    assert run("passwd", folder, "--slot", slot, *given).code == 0
    run("seal", folder)
    shared = run("share", folder / "a", "--to", folder.parent / "out", *given)
    assert shared.code == 0
    every = [*slots(folder), *slots(folder.parent / "out" / "a.sealed"), second]
    assert len(set(every)) == 4
    assert stored(desktop, *every) == {first: b"one"}
    slot = slots(folder)[1].partition("-")[0]
    # what is removed stays in the keychain, for the copies that still open with it
    assert run("slot", "remove", folder, slot, "--keyring").code == 0
    assert stored(desktop, *every) == {first: b"one"}


@dataclasses.dataclass
class Mallory:
    """Seals a file of hers that states what stands in a keyslot of somebody else's.

    Attributes:
        slot: the other's keyslot.
        members: which of its members she copies.
    """

    slot: dict[str, object]
    members: tuple[str, ...]

    def seal(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path.write_text("evil")
        recipient = PasswordRecipient(Secret(b"two"), profile=CHEAPEST)
        stated = {name: self.slot[name] for name in self.members}
        work: Any = stated.pop("kdf", None)
        if work is not None:
            recipient._salt = base64.b64decode(work["salt"])
            recipient._profile = KdfProfile(work["memory_kib"], work["passes"], work["lanes"])
        with monkeypatch.context() as patch:
            make = passwords.new_slot
            patch.setattr(passwords, "new_slot", lambda *given: make(*given) | stated)
            request = operations.SealRequest(paths=(str(path),))
            operations.seal(request, operations.Answers(recipients_given=(recipient,)))
        return Path(f"{path}.sealed")


def typed(monkeypatch: pytest.MonkeyPatch, *answers: str) -> Iterator[str]:
    """Somebody at a terminal, who types these passwords."""
    left = iter(answers)
    monkeypatch.setattr("encvault.cli.secrets.ui.is_interactive", lambda: True)
    monkeypatch.setattr("encvault.cli.secrets.getpass.getpass", lambda _prompt: next(left))
    return left


@pytest.mark.parametrize("members", [("id", "created_at"), ("id", "created_at", "kdf")])
def test_a_strangers_file_does_not_replace_an_entry(
    run: Command,
    desktop: Desktop,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: tuple[str, ...],
) -> None:
    run("seal", folder / "a", "--keyring", *password(folder, "one"))
    sealed = folder / "a.sealed"
    (mine,) = slots(sealed)
    (slot,) = password_slots(sealed)
    evil = Mallory(slot, members).seal(folder.parent / "evil", monkeypatch)
    (hers,) = slots(evil)
    assert (hers == mine) == ("kdf" in members)
    left = typed(monkeypatch, "two")
    done = run("cat", evil, "--keyring")
    assert (done.code, done.out, list(left)) == (0, "evil", [])
    if hers == mine:
        assert (
            f"encvault: the password that the keychain holds for {evil} does not open" in done.err
        )
        assert f"secret-tool clear service encvault username {mine}\n" in done.err
    assert ("stored the password" in done.err) == (hers != mine)
    assert stored(desktop, mine) == {mine: b"one"}
    assert run("cat", sealed, "--keyring", "--no-input").out == "content"


def test_files_archives_and_streams_have_their_own_entries(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    (folder / "b").write_text("more")
    given = ["--keyring", *password(folder, "one")]
    assert run("seal", folder / "a", folder / "b", *given).code == 0
    archive, stream = folder.parent / "all.sealed", folder.parent / "stream.sealed"
    assert run("seal", folder, "--archive", archive, *given).code == 0
    with (folder.parent / "two").open("rb") as source:
        assert run("seal", "-", "-o", stream, *given, stdin=source).code == 0
    sealed = [folder / "a.sealed", folder / "b.sealed", archive, stream]
    found = [slot for path in sealed for slot in slots(path)]
    assert len(set(found)) == 4
    assert stored(desktop, *found) == dict.fromkeys(found, b"one")
    assert run("cat", *sealed[:2], "--keyring").out == "contentmore"
    assert run("open", stream, "--keyring", "-o", folder / "s").code == 0
    assert (folder / "s").read_text() == "two\n"


def test_a_stream_to_stdout_stores_as_well(run: Command, desktop: Desktop, folder: Path) -> None:
    piped = folder.parent / "piped"
    command = [sys.executable, "-m", "encvault", "seal", "-", "--keyring", *password(folder, "one")]
    with (folder / "a").open("rb") as source, piped.open("wb") as target:
        subprocess.run(list(map(str, command)), stdin=source, stdout=target, check=True)
    (slot,) = slots(piped)
    assert stored(desktop, slot) == {slot: b"one"}


def test_only_what_was_sealed_gets_an_entry(
    run: Command, desktop: Desktop, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    store = Keychain.store

    def noting(self: Keychain, account: str, secret: Secret) -> str:
        tried.append(account)
        return store(self, account, secret)

    def full(tree: object, name: str, *_arguments: object) -> None:
        if name == "a":  # its keyslot was made already
            raise CannotCreate(path=name, reason="full")
        drop(tree, name, *_arguments)  # type: ignore[arg-type]

    drop = single._drop
    monkeypatch.setattr(Keychain, "store", noting)
    monkeypatch.setattr(single, "_drop", full)
    (folder / "b").write_text("more")
    done = run("seal", folder / "a", folder / "b", "--keyring", *password(folder, "one"))
    assert done.code == 73
    assert not (folder / "a.sealed").exists()
    assert tried == slots(folder / "b.sealed")


def test_nothing_stored_and_nobody_to_ask(run: Command, desktop: Desktop, folder: Path) -> None:
    run("init", folder, *password(folder, "one"))
    done = run("verify", folder, "--keyring", "--json")
    assert (done.code, error(done)) == (78, "NotInKeychain")
    assert "hint: open it once on a terminal with --keyring" in done.err
    # an entry that does not open is none, and is told from one that is missing
    (slot,) = slots(folder)
    keychain(desktop).store(slot, Secret(b"stale"))
    done = run("verify", folder, "--keyring", "--json")
    assert (done.code, error(done)) == (78, "KeychainMismatch")
    assert "does not open it\nhint: remove it with: secret-tool clear" in done.err
    assert f"username {slot}\n" in done.err


def test_a_locked_keychain_ends_at_once(run: Command, desktop: Desktop, folder: Path) -> None:
    run("init", folder, "--keyring", *password(folder, "one"))
    desktop.lock()
    begun = time.monotonic()
    done = run("verify", folder, "--keyring", "--json")
    assert (done.code, error(done)) == (75, "KeychainLocked")
    note = folder.parent / "one"
    sealed = run("seal", note, "--keyring", *password(folder, "two"))
    assert sealed.code == 75
    assert time.monotonic() - begun < PATIENT
    assert note.exists()


@pytest.mark.usefixtures("nobody")
def test_without_a_desktop_nothing_is_begun(run: Command, folder: Path) -> None:
    given = ["--keyring", *password(folder, "one")]
    done = run("seal", folder, "--json", *given)
    assert (done.code, error(done)) == (69, "KeychainUnavailable")
    assert not (folder / ".encvault").exists()
    assert run("key", "new", "-o", folder / "me.key", "--keyring").code == 69
    assert sorted(path.name for path in folder.iterdir()) == ["a"]
    run("init", folder, *password(folder, "one"))
    before = slots(folder)
    for command in (["verify"], ["passwd", *password(folder, "two", new=True)]):
        done = run(command[0], folder, *command[1:], "--keyring", "--json")
        assert (done.code, error(done)) == (69, "KeychainUnavailable")
    assert slots(folder) == before


def test_a_keychain_that_fails_later_costs_the_code_but_not_the_work(
    run: Command, desktop: Desktop, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Keychain.check

    def then_lock(self: Keychain) -> None:
        check(self)
        desktop.lock()

    monkeypatch.setattr(Keychain, "check", then_lock)
    done = run("seal", folder, "--keyring", "--json", *password(folder, "one"))
    assert done.code == 75
    assert json.loads(done.out)["files"] == 1
    assert done.err.count("the keychain is locked") == 1
    assert run("verify", folder, *password(folder, "one")).code == 0


@pytest.mark.usefixtures("desktop")
def test_two_sources_are_one_too_many(run: Command, folder: Path) -> None:
    run("init", folder, *password(folder, "one"))
    for command in (["verify"], ["passwd"], ["slot", "add"]):
        done = run(*command, folder, "--keyring", *password(folder, "one"))
        assert done.code == 2
        assert "give one source of a password, not two" in done.err
    done = run("key", "new", "-o", folder / "me.key", "--keyring", "--no-password")
    assert done.code == 2
    assert "--keyring and --no-password exclude each other" in done.err
    assert not (folder / "me.key").exists()


def test_with_somebody_to_ask_a_keychain_that_fails_is_told_once_and_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keyring = Keyring(Keychain({}, attended=True, timeout_s=PATIENT))
    slot = PasswordRecipient(Secret(b"one"), profile=CHEAPEST).wrap(Secret(bytes(32)))
    assert keyring.unwrap([slot], "x") is None
    assert "there is no session bus" in capsys.readouterr().err
    assert keyring.unwrap([slot], "x") is None
    assert keyring.password(slot) is None
    keyring.store(slot, Secret(b"one"))
    assert capsys.readouterr().err == ""
    assert keyring.failure is None  # what was asked for is open all the same


def test_a_password_that_opened_and_cannot_be_stored_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keyring = Keyring(Keychain({}, timeout_s=PATIENT))
    slot = PasswordRecipient(Secret(b"one"), profile=CHEAPEST).wrap(Secret(bytes(32)))
    keyring.store(slot, Secret(b"one"))
    assert "there is no session bus" in capsys.readouterr().err
    assert keyring.failure is None


@pytest.mark.usefixtures("desktop")
def test_a_password_is_stored_for_whom_it_was_asked(
    run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = folder.parent / "me.key"
    run("key", "new", "-o", key, *password(folder, "one"))
    run("init", folder, "-r", run("key", "export", "-i", key).out.strip())
    answers = typed(monkeypatch, "wrong", "one")
    first = run("verify", folder, "-i", key, "--keyring")
    assert first.code == 0
    assert "stored the password in the keychain (Secret Service)" in first.err
    assert run("verify", folder, "-i", key, "--keyring").code == 0
    assert list(answers) == []


# -- identities -----------------------------------------------------------------------------


def identity_slot(path: Path) -> str:
    return account(json.loads(path.read_text())["slot"])


def test_an_identity_that_only_the_keychain_opens(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    key = folder.parent / "me.key"
    made = run("key", "new", "-o", key, "--keyring")
    assert made.code == 0
    assert f"hint: set one to remember: encvault key passwd --keyring -i {key}\n" in made.err
    (secret,) = stored(desktop, identity_slot(key)).values()
    assert len(secret) == 43  # 256 bits of base64url
    assert secret not in key.read_bytes()
    assert secret.decode() not in made.out + made.err
    sealed = Path(f"{folder / 'a'}.sealed")
    assert run("seal", folder / "a", "-r", made.out.strip()).code == 0
    # the file alone opens nothing
    assert run("cat", sealed, "-i", key).code == 78
    assert run("cat", sealed, "-i", key, "--keyring").out == "content"
    keychain(desktop).forget(identity_slot(key))
    lost = run("cat", sealed, "-i", key, "--keyring")
    assert lost.code == 78
    assert f"the keychain holds no password that opens {key}" in lost.err
    keychain(desktop).store(identity_slot(key), Secret(b"another"))
    stale = run("cat", sealed, "-i", key, "--keyring")
    assert stale.code == 78
    assert f"the password that the keychain holds for {key} does not open it" in stale.err


def test_an_identity_gets_a_password_that_a_person_knows(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    key = folder.parent / "me.key"
    recipient = run("key", "new", "-o", key, "--keyring", "--name", "李雷").out
    backup = Path(shutil.copy(key, folder.parent / "backup.key"))
    done = run("key", "passwd", "-i", key, "--keyring", *password(folder, "two", new=True))
    assert done.code == 0
    assert key.stat().st_mode & 0o777 == 0o600
    # the old file, in a backup, opens with nothing but what the keychain made up
    new = identity_slot(key)
    assert stored(desktop, new) == {new: b"two"}
    assert run("key", "export", "-i", key).out == recipient
    run("seal", folder / "a", "-r", recipient.strip())
    opened = run("cat", folder / "a.sealed", "-i", key, *password(folder, "two"))
    assert opened.out == "content"
    assert run("cat", folder / "a.sealed", "-i", backup, "--keyring").out == "content"


def test_the_default_identity_and_the_vaults_own_password(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    recipient = run("key", "new", "--keyring").out.strip()
    given = ["-r", recipient, "--keyring", *password(folder, "one")]
    assert run("seal", folder, *given).code == 0
    assert run("cat", folder / "a", "--keyring").out == "content"
    # either is enough
    (slot,) = slots(folder)
    keychain(desktop).forget(slot)
    assert run("cat", folder / "a", "--keyring").out == "content"
    keychain(desktop).store(slot, Secret(b"one"))
    default = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault" / "identity.key"
    keychain(desktop).forget(identity_slot(default))
    assert run("cat", folder / "a", "--keyring").out == "content"
    # an identity that was named is opened first, then the vault's own password is tried
    other = folder.parent / "other.key"
    run("key", "new", "-o", other, "--no-password")
    assert run("cat", folder / "a", "--keyring", "-i", other).out == "content"


def test_a_given_password_of_an_identity_is_stored(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    key = folder.parent / "me.key"
    assert run("key", "new", "-o", key, "--keyring", *password(folder, "one")).code == 0
    assert stored(desktop, identity_slot(key)) == {identity_slot(key): b"one"}


def test_identities_are_listed_with_what_protects_them(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    home = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault"
    empty = run("key", "list", "--json")
    assert (empty.code, json.loads(empty.out)) == (0, {"identities": [], "problems": []})
    assert "no identities in" in run("key", "list").err
    run("key", "new", "--keyring", "--name", "mine")
    run("key", "new", "-o", home / "company.key", *password(folder, "one"))
    run("key", "new", "-o", home / "job.key", "--no-password")
    (home / "notes.txt").write_text("no identity")
    (home / "folder.key").mkdir()
    os.mkfifo(home / "pipe.key")
    done = run("key", "list", "--json")
    assert done.code == 0
    found = json.loads(done.out)["identities"]
    assert [(Path(one["path"]).name, one["protected"]) for one in found] == [
        ("company.key", "password"),
        ("identity.key", "keychain"),
        ("job.key", "none"),
    ]
    shown = json.loads(run("key", "show", "-i", home / "identity.key", "--json").out)
    assert {"name": "mine", "path": str(home / "identity.key"), "protected": "keychain"} | {
        name: shown[name] for name in ("fingerprint", "created_at")
    } == found[1]
    lines = run("key", "list").out.splitlines()
    assert [line.split()[1] for line in lines] == ["password", "keychain", "no"]
    # a keychain that cannot be asked without a dialogue is left alone
    desktop.lock()
    done = run("key", "list", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["identities"][1]["protected"] == "password"


def test_a_damaged_identity_is_named_and_the_others_are_listed(run: Command) -> None:
    home = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault"
    run("key", "new", "--no-password")
    (home / "broken.key").write_bytes((home / "identity.key").read_bytes()[:-9])
    done = run("key", "list", "--json")
    assert done.code == 3
    found = json.loads(done.out)
    assert len(found["identities"]) == 1
    assert [problem["error"] for problem in found["problems"]] == ["MalformedIdentity"]
    assert f"encvault: {home / 'broken.key'}: not a usable identity file" in done.err
    assert run("key", "list").code == 3


# -- without a keychain ---------------------------------------------------------------------


def test_an_identitys_password_is_changed(run: Command, folder: Path) -> None:
    key = folder.parent / "me.key"
    recipient = run("key", "new", "-o", key, *password(folder, "one")).out
    before = key.read_bytes()
    link = folder.parent / "link.key"
    link.symlink_to(key)
    new = password(folder, "two", new=True)
    wrong = run("key", "passwd", "-i", link, *password(folder, "two"), *new)
    assert wrong.code == 77
    assert run("key", "passwd", "-i", link, *password(folder, "one")).code == 78
    assert key.read_bytes() == before
    done = run("key", "passwd", "-i", link, *password(folder, "one"), *new)
    assert (done.code, done.out) == (0, "")
    assert link.is_symlink()
    assert run("key", "export", "-i", key).out == recipient
    facts = [json.loads(data) for data in (before, key.read_bytes())]
    assert [fact.pop("slot")["label"] for fact in facts] == ["", ""]
    assert facts[0] == facts[1]
    again = password(folder, "one", new=True)
    assert run("key", "passwd", "-i", key, *password(folder, "one"), *again).code == 77
    assert run("key", "passwd", "-i", key, *password(folder, "two"), *again).code == 0


def test_an_identity_without_a_password_gets_one(run: Command, folder: Path) -> None:
    key = folder.parent / "me.key"
    run("key", "new", "-o", key, "--no-password")
    assert run("key", "passwd", "-i", key, *password(folder, "one", new=True)).code == 0
    assert "seed" not in json.loads(key.read_text())
    assert json.loads(run("key", "show", "-i", key, "--json").out)["protected"] is True


def keychain_row(run: Command) -> tuple[str, str]:
    (row,) = [
        one for one in json.loads(run("doctor", "--json").out)["checks"] if one["name"] == "keyring"
    ]
    return row["state"], row["fix"] or ""


def test_doctor_tells_of_the_keychain(run: Command, desktop: Desktop) -> None:
    assert keychain_row(run) == ("ok", "")
    desktop.lock()
    state, fix = keychain_row(run)
    assert state == "warn"
    assert "unlock it" in fix


@pytest.mark.usefixtures("nobody")
def test_doctor_tells_that_there_is_no_session(run: Command) -> None:
    state, fix = keychain_row(run)
    assert state == "missing"
    assert fix == "log in to a desktop session, or start one with: dbus-run-session"


def test_the_keychains_password_stays_when_the_keys_change(
    run: Command, desktop: Desktop, folder: Path
) -> None:
    """It is at hand for its keyslot, whichever key gave the word."""
    run("seal", folder, "--keyring", *password(folder, "one"))
    made = run("key", "new", "-o", folder.parent / "boss.key", "--no-password").out.strip()
    assert run("slot", "add", folder, "--keyring", "-r", made).code == 0
    done = run("rekey", folder, "-i", folder.parent / "boss.key", "--keyring", "--yes", "--json")
    assert json.loads(done.out)["pending"] == []
    assert run("verify", folder, "--keyring", "--no-input").code == 0
