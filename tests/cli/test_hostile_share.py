"""Somebody who can write to a shared folder exchanges what is in a vault's own folder."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import everything

from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Command


@pytest.fixture
def share(run: Command, tmp_path: Path) -> Path:
    """A mirror of ``docs`` on a share; this machine made it, and holds a recipient line only."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "prices").write_text("secret prices")
    for name in ("company", "attacker"):
        assert run("key", "new", "-o", tmp_path / f"{name}.key", "--no-password").code == 0
        line = run("key", "export", "-i", tmp_path / f"{name}.key").out
        (tmp_path / f"{name}.pub").write_text(line)
    assert nightly(run, tmp_path).code == 0
    return tmp_path / "share"


def nightly(run: Command, top: Path, *options: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return run("seal", top / "docs", "--to", top / "share", "-r", top / "company.pub", *options)


def records(share: Path) -> list[Path]:
    return [share / ".encvault" / name for name in ("vault.a.json", "vault.b.json")]


def test_vault_record_swapped(run: Command, share: Path, tmp_path: Path) -> None:
    """The attacker puts a vault of his own in its place, and waits for the nightly run."""
    theirs = tmp_path / "theirs"
    assert run("init", theirs, "-r", tmp_path / "attacker.pub").code == 0
    known = json.loads(run("info", share, "--json").out)["fingerprint"]
    for record in records(share):
        shutil.copy(theirs / ".encvault" / record.name, record)
    (tmp_path / "docs" / "prices").write_text("new secret prices")
    before = everything(share)
    for command in (
        ("seal", tmp_path / "docs", "--to", share, "--json"),
        ("seal", tmp_path / "docs", "--to", share, "--dry-run", "--json"),
        ("open", share, "--to", tmp_path / "out", "-i", tmp_path / "company.key", "--json"),
        ("verify", share, "-i", tmp_path / "company.key", "--json"),
        ("slot", "add", share, "-i", tmp_path / "attacker.key", "-r", "x", "--json"),
    ):
        done = run(*command)
        assert done.code == 77, command
        error = json.loads(done.out)
        assert error["error"] == "VaultChanged"
        assert error["expected"] == known
        assert error["found"] == json.loads(run("info", share, "--json").out)["fingerprint"]
        assert f"--fingerprint {error['found']}" in error["hint"]
    after = everything(share)
    assert after == before


def test_vault_record_swapped_on_a_machine_that_was_told_the_fingerprint(
    run: Command, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = json.loads(run("info", share, "--json").out)["fingerprint"]
    theirs = tmp_path / "theirs"
    assert run("init", theirs, "-r", tmp_path / "attacker.pub").code == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    seal = ("seal", tmp_path / "docs", "--to", share, "--yes", "--fingerprint")
    assert run(*seal, known.upper()).code == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a third machine"))
    for record in records(share):
        shutil.copy(theirs / ".encvault" / record.name, record)
    assert run(*seal, known).code == 77
    shutil.rmtree(share / ".encvault")  # then a new one must not be made instead
    done = run(*seal, known, "-r", tmp_path / "company.pub", "--json")
    assert done.code == 66
    assert json.loads(done.out)["error"] == "VaultMissing"
    assert not (share / ".encvault").exists()


def test_slots_stripped(run: Command, share: Path, tmp_path: Path) -> None:
    """Without the vault's secret nobody can sign a record with other slots."""
    for record in records(share):
        value = json.loads(record.read_text())
        value["slots"][0]["label"] = "nobody"
        record.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")
    before = everything(share)
    done = nightly(run, tmp_path, "--json")
    assert done.code == 65
    assert json.loads(done.out)["error"] == "MalformedVault"
    assert everything(share) == before


def test_data_keys_replaced(run: Command, share: Path, tmp_path: Path) -> None:
    """A data key of the attacker's, sealed to the vault's public key, is no key of these files."""
    stranger = tmp_path / "stranger"
    assert run("init", stranger, "-r", tmp_path / "company.pub").code == 0
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "f").write_text("f")
    assert run("seal", tmp_path / "more", "--to", stranger).code == 0
    (ours,) = (share / ".encvault" / "keys").iterdir()
    (theirs,) = (stranger / ".encvault" / "keys").iterdir()
    shutil.copy(theirs, ours)
    done = run("open", share, "--to", tmp_path / "out", "-i", tmp_path / "company.key", "--json")
    assert done.code == 65
    (problem,) = json.loads(done.out)["problems"]
    assert problem["error"] == "UnknownDataKey"
    assert not (tmp_path / "out" / "prices").exists()


def test_generation_rolled_back(run: Command, share: Path, tmp_path: Path) -> None:
    """The record from before a keyslot was removed is put back."""
    company = ("-i", tmp_path / "company.key")
    assert run("slot", "add", share, *company, "-r", tmp_path / "attacker.pub").code == 0
    old = [record.read_bytes() for record in records(share)]
    slots = json.loads(run("slot", "list", share, "--json").out)["slots"]
    assert run("slot", "remove", share, slots[1]["id"], *company).code == 0
    for record, data in zip(records(share), old, strict=True):
        record.write_bytes(data)
    (tmp_path / "docs" / "prices").write_text("new secret prices")
    done = nightly(run, tmp_path, "--json")
    assert done.code == 3
    assert [one["error"] for one in json.loads(done.out)["problems"]] == ["RolledBack"]
    done = run("verify", share, *company)
    assert done.code == 3
    assert "older copy was put back" in done.err
    done = run("ls", share, *company)
    assert (done.code, done.out) == (3, "prices\n")
    done = run("cat", share / "prices.sealed", *company)
    assert (done.code, done.out) == (3, "new secret prices")
    assert "older copy was put back" in done.err
    assert run("slot", "add", share, *company, "-r", tmp_path / "attacker.pub").code == 3
    fingerprint = json.loads(run("info", share, "--json").out)["fingerprint"]
    assert run("verify", share, *company, "--fingerprint", fingerprint).code == 0
    assert run("verify", share, *company).code == 0


def test_keys_rolled_back_after_a_revocation(run: Command, share: Path, tmp_path: Path) -> None:
    """The whole vault from before the revocation is put back, whose key the leaver has."""
    company = ("-i", tmp_path / "company.key")
    assert run("slot", "add", share, *company, "-r", tmp_path / "attacker.pub").code == 0
    shutil.copytree(share, tmp_path / "before")
    slots = json.loads(run("slot", "list", share, "--json").out)["slots"]
    assert run("revoke", share, slots[1]["id"], *company, "--yes", "--reseal").code == 0
    shutil.rmtree(share)
    shutil.copytree(tmp_path / "before", share)
    before = everything(share)
    done = nightly(run, tmp_path, "--json")
    assert done.code == 77
    assert json.loads(done.out)["error"] == "ReplacedKeys"
    old = json.loads(run("info", share, "--json").out)["fingerprint"]
    assert nightly(run, tmp_path, "--fingerprint", old).code == 77  # as a script may still say
    assert nightly(run, tmp_path).code == 77
    assert everything(share) == before
    # it can be read, as a backup must be, and says what it is
    done = run("open", share, "--to", tmp_path / "out", *company)
    assert done.code == 3
    assert (tmp_path / "out" / "prices").read_text() == "secret prices"


def test_a_first_use_is_told(
    run: Command, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    fingerprint = json.loads(run("info", share, "--json").out)["fingerprint"]
    done = nightly(run, tmp_path, "--yes")
    assert done.code == 0
    assert f"new to this machine; its fingerprint is {fingerprint}" in done.err
    assert "new to this machine" not in nightly(run, tmp_path).err


@pytest.mark.parametrize("text", ["x", "abcd-efgh", "abcd" * 8])
def test_a_fingerprint_has_its_form(run: Command, share: Path, text: str) -> None:
    done = run("verify", share, "--fingerprint", text)
    assert done.code == 2
    assert "eight groups of four" in done.err


def test_a_fingerprint_is_of_a_vault(run: Command, tmp_path: Path, share: Path) -> None:
    fingerprint = ("--fingerprint", json.loads(run("info", share, "--json").out)["fingerprint"])
    company, pub = ("-i", tmp_path / "company.key"), ("-r", tmp_path / "company.pub")
    prices = tmp_path / "docs" / "prices"
    assert run("seal", prices, "--keep", *pub).code == 0
    alone = tmp_path / "docs" / "prices.sealed"
    for command in (
        ("seal", prices, *pub, "-o", tmp_path / "x"),
        ("seal", tmp_path / "docs", *pub, "--archive", tmp_path / "x"),
        ("open", alone, *company, "--keep"),
        ("cat", alone, *company),
        ("verify", alone, *company),
    ):
        done = run(*command, *fingerprint)
        assert done.code == 2, command
        assert "--fingerprint is of a vault" in done.err
        assert not (tmp_path / "x").exists()


def test_a_fingerprint_in_the_configuration_holds_for_its_folder(
    run: Command, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    known = json.loads(run("info", share, "--json").out)["fingerprint"]
    folder = tmp_path / "configuration" / "encvault"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    (tmp_path / "link").symlink_to("share")
    pin = f'[vaults."{tmp_path}/link"]\nfingerprint = "{known}"\n'
    (folder / "config.toml").write_text(pin)
    assert nightly(run, tmp_path, "--yes").code == 0
    (folder / "config.toml").write_text(pin.replace(known[:4], "aaaa"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a third machine"))
    company = ("-i", tmp_path / "company.key")
    for command in (
        ("seal", tmp_path / "docs", "--to", share, "--yes"),
        ("verify", share, *company),
        ("cat", share / "prices.sealed", *company),
        ("ls", share, *company),
    ):
        done = run(*command)
        assert done.code == 77, command
        assert known in done.err
    shutil.rmtree(share / ".encvault")
    assert nightly(run, tmp_path).code == 66  # nor is a new one made in its place
    (folder / "config.toml").write_text("[vaults]\nx = 1\n")
    done = run("verify", share, *company)
    assert done.code == 66  # there is none that the configuration could speak of


def test_vault_record_swapped_before_the_lock_is_taken(
    run: Command, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the record and the lock there is time for another one."""
    theirs = tmp_path / "theirs"
    assert run("init", theirs, "-r", tmp_path / "attacker.pub").code == 0
    hold = Vault.hold

    def swapped(vault: Vault, *, reading: bool = False) -> None:
        for record in records(share):
            shutil.copy(theirs / ".encvault" / record.name, record)
        hold(vault, reading=reading)

    monkeypatch.setattr(Vault, "hold", swapped)
    (tmp_path / "docs" / "prices").write_text("new secret prices")
    before = (share / "prices.sealed").read_bytes()
    assert nightly(run, tmp_path).code == 77
    assert (share / "prices.sealed").read_bytes() == before


def test_a_machine_that_cannot_remember_reads_and_says_so(
    run: Command, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    company = ("-i", tmp_path / "company.key")
    done = run("cat", share / "prices.sealed", *company)
    assert (done.code, done.out) == (74, "")  # nor can it record what it gives out
    settings = tmp_path / "configuration" / "encvault" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[log]\nrequired = false\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    done = run("cat", share / "prices.sealed", *company)
    assert (done.code, done.out) == (78, "secret prices")
    assert "the access log" in done.err
    assert "cannot use the local state folder" in done.err
    done = run("verify", share, *company)
    assert (done.code, "1 file authentic" in done.out) == (78, True)
    done = run("slot", "add", share, *company, "-r", tmp_path / "attacker.pub")
    assert done.code == 78
