"""``share`` as a person or a script types it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Command

NOTE = "what was shared cannot be called back: no change of keys here closes a copy"


@pytest.fixture
def vault(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("own", "partner"):
        (tmp_path / name).write_text(f"password {name}\n")
        key = ("-o", tmp_path / f"{name}.key", "--no-password")
        (tmp_path / f"{name}.pub").write_text(run("key", "new", *key).out)
    (tmp_path / "docs" / "2026").mkdir(parents=True)
    (tmp_path / "docs" / "prices.csv").write_text("widget,12.50\n")
    (tmp_path / "docs" / "2026" / "报价单.xlsx").write_text("quote")
    assert run("seal", tmp_path / "docs", "--password-file", tmp_path / "own").code == 0
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "docs"


@pytest.fixture
def own(tmp_path: Path) -> tuple[object, ...]:
    return ("--password-file", tmp_path / "own", "--no-input")


def test_a_copy_for_a_recipient(
    run: Command, vault: Path, tmp_path: Path, own: tuple[object, ...]
) -> None:
    done = run("share", vault / "prices.csv", "-r", tmp_path / "partner.pub", *own)
    assert (done.code, done.out) == (0, "prices.csv.sealed\n")
    assert done.err == f"note: {NOTE}\nencvault: shared 1 file, 13 B\n"
    (vault / ".encvault").rename(tmp_path / "away")  # the copy needs nothing of the vault
    done = run("cat", "prices.csv.sealed", "-i", tmp_path / "partner.key", "--no-input")
    assert (done.code, done.out) == (0, "widget,12.50\n")
    assert run("cat", "prices.csv.sealed", *own).code == 77
    done = run("open", "prices.csv.sealed", "-i", tmp_path / "partner.key")
    assert (done.code, os.listdir()) == (0, ["prices.csv"])


def test_a_copy_for_a_password_and_several_recipients(
    run: Command, vault: Path, tmp_path: Path, own: tuple[object, ...]
) -> None:
    wanted = ("-r", tmp_path / "partner.pub", "-r", tmp_path / "own.pub")
    new = ("--new-password-file", tmp_path / "partner")
    assert run("share", vault / "prices.csv", *wanted, *new, "--to", "out", *own).code == 0
    copy = tmp_path / "here" / "out" / "prices.csv.sealed"
    for key in ("partner.key", "own.key"):
        assert run("cat", copy, "-i", tmp_path / key, "--no-input").out == "widget,12.50\n"
    assert run("cat", copy, "--password-file", tmp_path / "partner").out == "widget,12.50\n"
    slots = json.loads(run("info", copy, "--json").out)["slots"]
    assert [slot["kind"] for slot in slots] == ["recipient", "recipient", "password"]


def test_several_files_and_one_that_fails(
    run: Command, vault: Path, tmp_path: Path, own: tuple[object, ...]
) -> None:
    paths = (vault / "prices.csv", vault / "2026", vault / "2026" / "报价单.xlsx.sealed")
    options = ("-r", tmp_path / "partner.pub", "--to", tmp_path / "out", "--json")
    done = run("share", *paths, *options, *own)
    value = json.loads(done.out)
    out = tmp_path / "out"
    assert value["copies"] == [str(out / "prices.csv.sealed"), str(out / "报价单.xlsx.sealed")]
    assert (value["files"], value["size"], value["notes"]) == (2, 18, [NOTE])
    assert [problem["error"] for problem in value["problems"]] == ["FolderNotShared"]
    assert done.code == 2
    assert "hint: open it with: encvault open --to DEST" in done.err
    again = run("share", *paths[:1], *options, *own)
    assert (again.code, json.loads(again.out)["error"]) == (73, "DestinationExists")
    assert run("share", *paths[:1], *options, *own, "--force").code == 0


def test_a_script_that_gives_nobody_to_share_with_gets_no_copy(
    run: Command, vault: Path, own: tuple[object, ...]
) -> None:
    done = run("share", vault / "prices.csv", *own)
    assert done.code == 78
    assert "a new password is needed for prices.csv" in done.err
    assert os.listdir() == []


def test_quiet_says_nothing_but_errors(
    run: Command, vault: Path, tmp_path: Path, own: tuple[object, ...]
) -> None:
    to_partner = ("-r", tmp_path / "partner.pub", "-q")
    done = run("share", vault / "prices.csv", *to_partner, *own)
    assert (done.code, done.out, done.err) == (0, "", "")
    done = run("share", vault / "missing", *to_partner, *own)
    assert done.code == 66
    assert done.err.endswith("missing: no such file or folder\n")


def test_in_the_vault_itself_another_folder_must_be_named(
    run: Command,
    vault: Path,
    tmp_path: Path,
    own: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(vault)
    to_partner = ("-r", tmp_path / "partner.pub")
    done = run("share", "prices.csv", *to_partner, *own)
    assert done.code == 2
    assert "hint: name a folder outside with --to" in done.err
    done = run("share", "prices.csv", *to_partner, "--to", "../out", *own)
    assert (done.code, done.out) == (0, "../out/prices.csv.sealed\n")
