"""``rekey``, ``revoke`` and ``reseal`` as an administrator types them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from encvault.keyslots import IdentityFile, KeyIdentity, bare, rewrap
from encvault.secret import Secret
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from helpers import Command


@pytest.fixture
def vault(run: Command, tmp_path: Path) -> Path:
    """Three files; opens with a password, with Bob's and with the boss's identity."""
    (tmp_path / "one").write_text("password one\n")
    (tmp_path / "docs").mkdir()
    for name in "abc":
        (tmp_path / "docs" / name).write_text(f"content {name}")
    lines = []
    for name in ("boss", "bob"):
        assert run("key", "new", "-o", tmp_path / f"{name}.key", "--no-password").code == 0
        lines.append(run("key", "export", "-i", tmp_path / f"{name}.key").out.strip())
    one = tmp_path / "one"
    assert run("seal", tmp_path / "docs", "--password-file", one, "-r", lines[0]).code == 0
    bob = run(
        "slot", "add", tmp_path / "docs", "-r", lines[1], "--label", "Bob", "--password-file", one
    )
    assert bob.code == 0
    return tmp_path / "docs"


def slots(run: Command, vault: Path) -> dict[str, Any]:
    found = json.loads(run("slot", "list", vault, "--json").out)["slots"]
    return {slot["label"] or slot["kind"]: slot for slot in found}


def test_bob_leaves(run: Command, vault: Path, tmp_path: Path) -> None:
    bob = slots(run, vault)["Bob"]["id"]
    boss = ("-i", tmp_path / "boss.key")
    shutil.copytree(vault, tmp_path / "copy")
    done = run("revoke", vault, bob, *boss, "--no-input")
    assert done.code == 2  # it asks
    assert "Bob" in done.err
    done = run("revoke", vault, bob, *boss, "--yes")
    assert done.code == 0
    assert done.out == ""
    assert f"shut out: Bob, keyslot {bob}" in done.err
    assert "copies of the vault made before still open with the former keys" in done.err
    assert "here they still open 3 files" in done.err
    assert f"encvault reseal {vault}" in done.err
    assert run("cat", vault / "a", "-i", tmp_path / "bob.key").code == 77
    assert run("cat", tmp_path / "copy" / "a", "-i", tmp_path / "bob.key").out == "content a"
    assert run("cat", vault / "a", *boss).out == "content a"
    done = run("reseal", vault, *boss)
    assert done.code == 0
    assert "sealed 3 files anew" in done.err
    assert "here they open nothing any more" in done.err
    assert run("verify", vault, *boss).code == 0


def test_what_revoke_says_as_json(run: Command, vault: Path, tmp_path: Path) -> None:
    before = json.loads(run("info", vault, "--json").out)
    bob = slots(run, vault)["Bob"]["id"]
    command = ("revoke", vault, bob, "-i", tmp_path / "boss.key", "--yes", "--reseal", "--json")
    done = run(*command)
    said = json.loads(done.out)
    assert all(line.startswith("note: stays: ") for line in done.err.splitlines())
    assert said["vault"] == str(vault)
    assert said["former_fingerprint"] == before["fingerprint"] != said["fingerprint"]
    assert [(slot["label"], slot["state"]) for slot in said["revoked"]] == [("Bob", "revoked")]
    assert [slot["kind"] for slot in said["pending"]] == ["password"]
    assert said["exposed"] == {"files": 0, "size": 0, "unknown": 0}
    assert said["resealed"]["files"] == 3
    info = json.loads(run("info", vault, "--json").out)
    assert info["former_fingerprints"] == [before["fingerprint"]]
    assert before["fingerprint"] in run("info", vault).out
    # run again, as after an interruption
    again = run(*command)
    assert json.loads(again.out)["resealed"]["files"] == 0
    assert "was revoked before: the keys are not changed now" in again.err


def test_a_pending_password_is_listed_told_and_set_again(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    boss = ("-i", tmp_path / "boss.key")
    done = run("rekey", vault, *boss, "--yes")
    assert done.code == 0
    (pending,) = [slot for slot in slots(run, vault).values() if slot["state"] == "pending"]
    assert f"encvault passwd {vault} --slot {pending['id']}" in done.err
    assert "pending: the password must be set again" in run("slot", "list", vault).out
    done = run("cat", vault / "a", "--password-file", tmp_path / "one")
    assert done.code == 77
    assert "must be set again" in done.err
    done = run(
        "passwd", vault, "--slot", pending["id"], *boss, "--new-password-file", tmp_path / "one"
    )
    assert done.code == 0
    assert run("cat", vault / "a", "--password-file", tmp_path / "one").out == "content a"


def test_the_password_that_opens_stays(run: Command, vault: Path, tmp_path: Path) -> None:
    done = run("rekey", vault, "--password-file", tmp_path / "one", "--yes", "--json")
    assert json.loads(done.out)["pending"] == []
    assert run("cat", vault / "a", "--password-file", tmp_path / "one").out == "content a"


def test_a_damaged_file_is_told_and_is_the_exit_code(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    with (vault / "b.sealed").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    boss = ("-i", tmp_path / "boss.key")
    done = run("rekey", vault, *boss, "--yes", "--reseal")
    assert done.code == 65
    assert "b.sealed" in done.err
    assert "here they still open 1 file" in done.err
    done = run("reseal", vault, *boss, "--json", "--quiet")
    assert done.code == 65
    assert [one["error"] for one in json.loads(done.out)["resealed"]["problems"]] == [
        "ChunkCorrupt"
    ]


def test_nothing_is_exposed_where_the_keys_never_changed(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    done = run("reseal", vault, "-i", tmp_path / "boss.key")
    assert done.code == 0
    assert "former" not in done.err


def test_quiet_says_only_who_must_set_a_password(run: Command, vault: Path, tmp_path: Path) -> None:
    quiet = ("--yes", "--quiet")
    done = run("rekey", vault, "--password-file", tmp_path / "one", *quiet)
    assert (done.code, done.out, done.err) == (0, "", "")
    done = run("rekey", vault, "-i", tmp_path / "boss.key", *quiet)
    assert (done.code, done.out) == (0, "")
    assert "must be set again" in done.err
    assert len(done.err.splitlines()) == 2


def test_who_stays_is_told_by_whose_key_it_is(run: Command, vault: Path, tmp_path: Path) -> None:
    """A label is what somebody wrote, perhaps somebody who would like to stay."""
    boss = json.loads(run("key", "show", "-i", tmp_path / "boss.key", "--json").out)["fingerprint"]
    eve = run("key", "new", "-o", tmp_path / "eve.key", "--no-password").out.strip()
    one = ("--password-file", tmp_path / "one")
    assert run("slot", "add", vault, "-r", eve, "--label", boss, *one).code == 0
    theirs = json.loads(run("key", "show", "-i", tmp_path / "eve.key", "--json").out)["fingerprint"]
    listed = run("slot", "list", vault).out
    assert f"{boss}  {theirs}" in listed
    done = run("revoke", vault, slots(run, vault)["Bob"]["id"], *one, "--no-input")
    assert done.code == 2
    assert f"stays: {boss}" in done.err
    assert done.err.count(theirs) == 1


def test_what_could_not_be_read_is_not_said_to_be_safe(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    (vault / "odd.sealed").write_bytes(b"encvault")
    done = run("rekey", vault, "-i", tmp_path / "boss.key", "--yes", "--reseal")
    assert done.code == 65
    assert "here they open nothing" not in done.err
    assert "of 1 file here it is not known" in done.err


def test_a_planted_folder_hides_no_file_from_a_reseal(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    boss = ("-i", tmp_path / "boss.key")
    (vault / "sub").mkdir()
    (vault / "sub" / "d").write_text("content d")
    assert run("seal", vault).code == 0
    (vault / "sub" / ".encvault").mkdir()
    bob = slots(run, vault)["Bob"]["id"]
    (vault / "sub" / ".encvault" / "e.sealed").write_bytes((vault / "a.sealed").read_bytes())
    done = run("revoke", vault, bob, *boss, "--yes", "--reseal", "--json")
    assert json.loads(done.out)["resealed"]["files"] == 5
    for command in (("verify", vault), ("open", vault, "--to", tmp_path / "out")):
        done = run(*command, *boss)
        assert done.code == 3
        assert "sub" in done.err


def test_a_revoked_slot_that_is_still_there_is_no_record(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    """Who has the vault's secret could write that his keyslot was revoked already."""
    bob = slots(run, vault)["Bob"]["id"]
    boss = KeyIdentity(Secret(_seed(tmp_path / "boss.key")))
    with Vault.load(str(vault)) as found:
        found.unlock([boss])
        found.hold()
        (slot,) = [slot for slot in found.record.slots if slot["id"] == bob]
        fresh = Secret(bytes(32))
        kept = tuple(rewrap(one, fresh) for one in found.record.slots if one["kind"] != "password")
        found.change_keys(fresh, kept, (), (bare(slot),))
    assert run("slot", "list", vault).code == 65
    assert run("revoke", vault, bob, "-i", tmp_path / "boss.key", "--yes").code == 65


def _seed(path: Path) -> bytes:
    seed = IdentityFile.decode(path.read_bytes(), "x").seed
    assert seed is not None
    return bytes(seed.reveal())


def test_a_lost_vault_is_not_replaced_by_a_new_one(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    shutil.rmtree(vault / ".encvault")
    before = sorted(path.name for path in vault.iterdir())
    one = ("--password-file", tmp_path / "one")
    for command in ("seal", "init"):
        done = run(command, vault, *one)
        assert done.code == 66
        assert "a.sealed" in done.err
    assert sorted(path.name for path in vault.iterdir()) == before


def test_a_vault_that_is_gone_is_told_by_who_makes_a_new_one(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    one = ("--password-file", tmp_path / "one")
    for command in ("init", "seal"):
        gone = json.loads(run("info", vault, "--json").out)["fingerprint"]
        shutil.rmtree(vault)
        vault.mkdir()
        done = run(command, vault, *one)
        assert done.code == 0
        assert f"the vault {gone} that was in" in done.err


def test_the_companys_key_is_not_dropped_by_chance(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    line = run("key", "export", "-i", tmp_path / "boss.key").out.strip()
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.toml").write_text(f'recipients = ["{line}"]\n')
    one = ("--password-file", tmp_path / "one")
    (boss,) = [
        one
        for label, one in slots(run, vault).items()
        if one["kind"] == "recipient" and label != "Bob"
    ]
    for command in (("slot", "remove"), ("revoke",)):
        yes = ("--yes",) if command == ("revoke",) else ()
        done = run(*command, vault, boss["id"], *one, *yes)
        assert done.code == 2
        assert "configuration" in done.err
    assert run("slot", "remove", vault, boss["id"], *one, "--force").code == 0
    done = run("rekey", vault, *one, "--yes")
    assert "no keyslot for the company's key" in done.err
