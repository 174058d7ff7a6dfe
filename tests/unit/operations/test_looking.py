"""Status, listing and information, asked of places inside a vault and of no vault at all."""

from __future__ import annotations

import json
import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest
from helpers import RECIPIENT, everything, keys, seal, unseal, write_tree

from encvault import operations
from encvault.crypto import speed
from encvault.crypto.suite import Suite
from encvault.errors import (
    AwayFromVault,
    EncvaultError,
    InvalidRequest,
    KeyRequired,
    NoMatchingKeyslot,
    NotAVault,
    NotSealed,
    SourceMissing,
)

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root)
    return root


def test_looking_at_what_is_no_vault(tree: Path) -> None:
    for look in (
        operations.status,
        operations.info,
        lambda path: operations.list_files(path, keys()),
        lambda path: operations.verify(path, keys()),
    ):
        with pytest.raises(NotAVault):
            look(str(tree))
        with pytest.raises(SourceMissing):
            look(str(tree / "missing"))
    for look in (operations.info, lambda path: operations.verify(path, keys())):
        with pytest.raises(NotSealed):
            look(str(tree / "empty"))


def test_a_file_of_a_vault_that_lies_elsewhere_says_so(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    away = tmp_path / "mailed.sealed"
    away.write_bytes((tree / "empty.sealed").read_bytes())
    for does in (
        lambda path: operations.verify(path, keys()),
        lambda path: operations.list_files(path, keys()),
        lambda path: list(operations.cat(path, keys())),
        unseal,
    ):
        with pytest.raises(AwayFromVault) as caught:
            does(str(away))
        assert caught.value.exit_code == 66


@LAYOUTS
def test_listing_a_place_inside(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)

    def listed(path: str) -> list[str]:
        items, problems = operations.list_files(str(tree / path), keys())
        assert problems == []
        return [item.path for item in items if item.type != "dir"]

    below = ["src/deep/er/main.py", "src/link", "src/run.sh"]
    assert sorted(listed("src")) == below
    assert listed("src/run.sh") == ["src/run.sh"]
    for place in ("src/run", "typo"):
        with pytest.raises(SourceMissing):
            listed(place)
    if not hidden:
        assert listed("src/run.sh.sealed") == ["src/run.sh"]


@LAYOUTS
def test_verifying_a_place_inside_reads_that_place(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    folders = 3 if hidden else 0  # src, src/deep and src/deep/er are objects there
    assert operations.verify(str(tree / "src"), keys()).files == 3 + folders
    assert operations.verify(str(tree / "src" / "run.sh"), keys()).files == 1
    for place in ("missing", "src/missing", "sr"):
        with pytest.raises(SourceMissing):
            operations.verify(str(tree / place), keys())


def test_status_of_a_place_that_is_not_there(tree: Path) -> None:
    seal(tree)
    (tree / "plain").write_text("x")
    for place in ("", "src", "plain", "src/run.sh", "src/run.sh.sealed", "n" * 255):
        assert operations.status(str(tree / place)).plain == ["plain"]
    for place in ("typo", "src/run", "typo/run.sh"):
        with pytest.raises(SourceMissing):
            operations.status(str(tree / place))


def test_a_long_name_is_listed_by_its_plain_path_without_a_key(tree: Path) -> None:
    seal(tree)
    listed, problems = operations.list_files(str(tree / ("n" * 255)), operations.Answers())
    assert ([item.size for item in listed], problems) == ([9], [])


def test_a_file_that_is_no_vault_is_not_to_become_one(tree: Path) -> None:
    operations.seal(operations.SealRequest(paths=(str(tree / "empty"),), keep=True), keys())
    for look in (operations.status, lambda path: operations.list_files(path, keys())):
        with pytest.raises(NotSealed):
            look(str(tree / "empty"))
        with pytest.raises(InvalidRequest, match="on its own"):
            look(str(tree / "empty.sealed"))


@pytest.mark.parametrize("place", ["fifo", "docs/fifo", "docs/fifo.sealed"])
def test_nothing_waits_for_what_a_fifo_will_say(tree: Path, place: str) -> None:
    seal(tree)
    path = tree.parent / place
    os.mkfifo(path)
    for look in (
        operations.info,
        lambda path: operations.verify(path, keys()),
        lambda path: list(operations.cat(path, keys())),
        lambda path: operations.open_paths(operations.OpenRequest(paths=(path,)), keys()),
    ):
        with pytest.raises(NotSealed):
            look(str(path))
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_what_is_plain_in_a_vault_is_not_missing(tree: Path) -> None:
    seal(tree)
    (tree / "plain").write_text("x")
    for look in (
        lambda path: operations.verify(path, keys()),
        lambda path: list(operations.cat(path, keys())),
    ):
        with pytest.raises(NotSealed):
            look(str(tree / "plain"))


def test_a_hidden_vault_tells_nothing_without_a_key(tree: Path) -> None:
    seal(tree, hide_names=True)
    with pytest.raises((KeyRequired, NoMatchingKeyslot)) as caught:
        operations.list_files(str(tree), operations.Answers())
    assert caught.value.exit_code in (77, 78)
    assert operations.status(str(tree)).sealed == 12


def test_info_of_a_vault_is_its_record(tree: Path) -> None:
    seal(tree)
    before = everything(tree)
    facts = operations.info(str(tree / "src"))
    assert everything(tree) == before
    record = json.loads((tree / ".encvault" / "vault.a.json").read_bytes())
    assert facts.kind == "vault"
    assert facts.members["path"] == str(tree / "src")
    for name in ("id", "suite", "layout", "created_at", "generation"):
        assert facts.members[name] == record[name]
    (slot,) = facts.members["slots"]
    assert (slot["label"], slot["kind"]) == ("test", "recipient")
    assert "wrapped" not in slot


def test_info_of_a_sealed_file_is_its_header(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    path = tree / "empty.sealed"
    facts = operations.info(str(path))
    data = path.read_bytes()
    metadata_size, key_info_size = struct.unpack_from(">II", data, 12)
    key_info = json.loads(data[20 : 20 + key_info_size])
    assert facts.kind == "sealed file in a vault"
    assert facts.members == {
        "path": str(path),
        "version": 1,
        "suite": "aes-256-gcm",
        "backend": speed.backend_of(Suite.AES_256_GCM),
        "sealed_size": len(data),
        "metadata_size": metadata_size,
        **key_info,
    }
    (tmp_path / "alone").write_text("x")
    seal(tmp_path / "alone")
    facts = operations.info(str(tmp_path / "alone.sealed"))
    assert facts.kind == "sealed file"
    assert [slot["label"] for slot in facts.members["slots"]] == ["test"]


def test_a_damaged_header_has_no_facts(tree: Path) -> None:
    seal(tree)
    path = tree / "empty.sealed"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(EncvaultError) as caught:
        operations.info(str(path))
    assert caught.value.exit_code == 65


def test_verifying_one_file_with_the_wrong_key_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    seal(tmp_path / "f")
    with pytest.raises(NoMatchingKeyslot):
        operations.verify(str(tmp_path / "f.sealed"), operations.Answers())


def test_a_listing_uses_the_key_that_was_given(tree: Path) -> None:
    seal(tree)
    without, _problems = operations.list_files(
        str(tree), operations.Answers(identities_given=keys().identities_given)
    )
    assert len(without) == 8
    with pytest.raises(NoMatchingKeyslot):
        operations.list_files(str(tree), operations.Answers(recipients_given=(RECIPIENT,)))
