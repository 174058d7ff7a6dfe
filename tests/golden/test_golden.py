"""What was sealed by a released format version opens, for ever, by encvault and by the reader."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conformance import reader
from golden.make import describe

if TYPE_CHECKING:
    from helpers import Command

VERSIONS = sorted(path for path in Path(__file__).parent.glob("v*") if path.is_dir())
LAYOUTS = {"visible": "aes-256-gcm", "hidden": "sm4-gcm"}

VERSION = pytest.mark.parametrize("golden", VERSIONS, ids=lambda path: path.name)
LAYOUT = pytest.mark.parametrize("layout", list(LAYOUTS))
KIND = pytest.mark.parametrize("kind", ["password", "identity"])


def expected(golden: Path, what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden / "expected.json").read_text())[what]
    return found


def options(golden: Path, kind: str) -> list[object]:
    password = ["--password-file", golden / "password.txt"]
    return password if kind == "password" else ["--identity", golden / "identity.key", *password]


def keys(golden: Path, kind: str) -> reader.Keys:
    word = (golden / "password.txt").read_text().removesuffix("\n")
    if kind == "password":
        return reader.Keys(passwords=(word,))
    return reader.Keys(seeds=(reader.identity_seed((golden / "identity.key").read_bytes(), word),))


def described(opened: reader.Opened) -> dict[str, object]:
    record = opened.record
    return {
        "kind": record["type"],
        "mode": 0 if record["type"] == "symlink" else record["mode"],
        "mtime_ns": record["mtime_ns"],
        "sha256": hashlib.sha256(opened.content).hexdigest(),
    }


def test_there_is_a_golden_version() -> None:
    assert [path.name for path in VERSIONS] == ["v1"]


@VERSION
@LAYOUT
@KIND
def test_reader_opens_the_vault(golden: Path, layout: str, kind: str) -> None:
    vault = reader.Vault(golden / layout, keys(golden, kind))
    assert vault.record["suite"] == LAYOUTS[layout]
    contents = vault.contents()
    assert contents.faults == {}
    found = {path.hex(): described(opened) for path, opened in contents.files.items()}
    assert found == expected(golden, layout)


@VERSION
@LAYOUT
@KIND
def test_encvault_opens_the_vault(
    golden: Path, layout: str, kind: str, run: Command, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    shutil.copytree(golden / layout, vault)
    assert run("verify", vault, *options(golden, kind)).code == 0
    dest = tmp_path / "dest"
    assert run("open", vault, "--to", dest, *options(golden, kind)).code == 0
    assert describe(dest, folders=layout == "hidden") == expected(golden, layout)
    assert run("open", vault, *options(golden, kind)).code == 0
    assert describe(vault, folders=layout == "hidden") == expected(golden, layout)


@VERSION
@KIND
def test_reader_opens_the_file(golden: Path, kind: str) -> None:
    opened = reader.open_alone((golden / "file.sealed").read_bytes(), keys(golden, kind))
    assert described(opened) == expected(golden, "file")["name"]


@VERSION
@KIND
def test_encvault_opens_the_file(golden: Path, kind: str, run: Command, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    ran = run("open", golden / "file.sealed", "-o", opened, *options(golden, kind))
    assert ran.code == 0
    assert describe(tmp_path, folders=False) == {b"opened".hex(): expected(golden, "file")["name"]}


@VERSION
@KIND
def test_reader_opens_the_archive(golden: Path, kind: str) -> None:
    opened = reader.open_alone((golden / "archive.sealed").read_bytes(), keys(golden, kind))
    members = reader.check_archive(opened.content)
    assert {path.hex() for path in members} == expected(golden, "archive").keys()


@VERSION
@KIND
def test_encvault_opens_the_archive(golden: Path, kind: str, run: Command, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    ran = run("open", golden / "archive.sealed", "--to", dest, *options(golden, kind))
    assert ran.code == 0
    assert describe(dest, folders=True) == expected(golden, "archive")


@VERSION
def test_a_wrong_password_opens_nothing(golden: Path, run: Command, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("golden")
    dest = tmp_path / "dest"
    for name in ("visible", "hidden", "file.sealed", "archive.sealed"):
        assert run("open", golden / name, "--to", dest, "--password-file", wrong).code == 77
    assert not dest.exists() or os.listdir(dest) == []
