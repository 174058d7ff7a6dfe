"""What of a path is recorded."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import TYPE_CHECKING

import pytest

from encvault.accesslog.redaction import (
    PathForm,
    Redactor,
    erase_keys,
    is_month,
    path_code,
    path_keys,
)
from encvault.fs.durable import stable_id, temporary_name
from encvault.fs.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = bytes(range(32))
MEMBERS: dict[str, str | int] = {"op": "open", "path": "/a/报价.xlsx", "to": "/b/copy", "size": 1}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(str(tmp_path)) as pinned:
        yield pinned


def code_of(key: bytes, path: str) -> str:
    """By the words of docs/log-format.md section 4."""
    digest = hmac.new(key, path.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest, b"-_").decode()[:43]


def test_code() -> None:
    assert path_code(KEY, "/a/é") == code_of(KEY, "/a/\u00e9") == path_code(KEY, "/a/e\u0301")
    assert len(path_code(KEY, "/")) == 43
    assert path_code(KEY, "/a/\udcff") == code_of(KEY, "/a/\\udcff")


def test_full(tree: Tree, tmp_path: Path) -> None:
    assert Redactor(tree, "full").redacted(MEMBERS, "2026-11") == MEMBERS
    assert list(tmp_path.iterdir()) == []


def test_name(tree: Tree) -> None:
    redactor = Redactor(tree, "name")
    assert redactor.redacted(MEMBERS, "2026-11") == MEMBERS | {"path": "报价.xlsx", "to": "copy"}
    assert redactor.redacted({"path": "/"}, "2026-11") == {"path": "/"}
    assert redactor.redacted({"op": "list"}, "2026-11") == {"op": "list"}


def test_hmac(tree: Tree, tmp_path: Path) -> None:
    found = Redactor(tree, "hmac").redacted(MEMBERS, "2026-11")
    file = tmp_path / "path-keys" / "2026-11"
    key = file.read_bytes()
    assert (len(key), file.stat().st_mode & 0o777) == (32, 0o600)
    assert found == {
        "op": "open",
        "path": code_of(key, "/a/报价.xlsx"),
        "to": code_of(key, "/b/copy"),
        "path_key": "2026-11",
        "size": 1,
    }
    again = Redactor(tree, "hmac")
    assert again.redacted(MEMBERS, "2026-11") == found  # the same key at every run
    assert again.redacted(MEMBERS, "2026-12")["path"] != found["path"]
    assert again.redacted({"op": "list"}, "2026-11") == {"op": "list"}
    assert path_keys(tree).keys() == {"2026-11", "2026-12"}
    assert path_keys(tree)["2026-11"] == key


def test_killed_while_a_key_was_made(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "path-keys").mkdir()
    left = tmp_path / "path-keys" / temporary_name(stable_id("2026-11"))
    left.write_bytes(b"half")
    Redactor(tree, "hmac").redacted(MEMBERS, "2026-11")
    assert [path.name for path in (tmp_path / "path-keys").iterdir()] == ["2026-11"]


def test_no_keys(tree: Tree) -> None:
    assert path_keys(tree) == {}
    assert erase_keys(tree, "2030-01") == []


@pytest.mark.parametrize("data", [b"", KEY[:31], KEY + b"x"])
def test_key_that_is_none(tree: Tree, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "path-keys").mkdir()
    (tmp_path / "path-keys" / "2026-11").write_bytes(data)
    with pytest.raises(OSError, match="2026-11"):
        Redactor(tree, "hmac").redacted(MEMBERS, "2026-11")
    with pytest.raises(OSError, match="2026-11"):
        path_keys(tree)


def test_key_that_a_killed_run_had_erased(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "path-keys").mkdir()
    (tmp_path / "path-keys" / "2026-11").write_bytes(bytes(32))
    assert path_keys(tree) == {}
    Redactor(tree, "hmac").redacted(MEMBERS, "2026-11")
    assert any(path_keys(tree)["2026-11"])


@pytest.mark.parametrize("form", ["name", "hmac"])
def test_labels_are_left_out(tree: Tree, form: PathForm) -> None:
    assert "label" not in Redactor(tree, form).redacted({"label": "Wang Wei"}, "2026-11")
    assert Redactor(tree, "full").redacted({"label": "x"}, "2026-11") == {"label": "x"}


def test_of_a_program_there_is_the_name(tree: Tree) -> None:
    members = {"program": "/home/li/tools/x"}
    assert Redactor(tree, "full").redacted(members, "2026-11") == members
    for form in ("name", "hmac"):
        assert Redactor(tree, form).redacted(members, "2026-11") == {"program": "x"}


def test_erased(tree: Tree, tmp_path: Path) -> None:
    redactor = Redactor(tree, "hmac")
    for month in ("2026-09", "2026-10", "2026-11"):
        redactor.redacted(MEMBERS, month)
    (tmp_path / "path-keys" / "README").touch()
    old = os.open(tmp_path / "path-keys" / "2026-09", os.O_RDONLY)
    try:
        assert erase_keys(tree, "2026-11") == ["2026-09", "2026-10"]
        assert os.pread(old, 100, 0) == bytes(32)
    finally:
        os.close(old)
    assert path_keys(tree).keys() == {"2026-11"}
    assert (tmp_path / "path-keys" / "README").exists()


@pytest.mark.parametrize(
    ("text", "answer"),
    [("2026-11", True), ("2026-13", False), ("2026-00", False), ("2026-1", False), ("", False)],
)
def test_months(text: str, answer: bool) -> None:  # noqa: FBT001 - the expected value
    assert is_month(text) is answer
