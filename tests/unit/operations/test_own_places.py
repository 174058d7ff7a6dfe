"""What encvault itself works with is never sealed: not by a folder around it, nor by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import RECIPIENT, keys

from encvault import operations
from encvault.accesslog.log import AccessLog
from encvault.errors import InvalidRequest
from encvault.operations import Answers, SealRequest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    (home / "docs" / "a").write_text("content")
    return home


@pytest.fixture
def log(home: Path) -> AccessLog:
    log = AccessLog(str(home / "state" / "encvault" / "log"))
    log.begin()
    return log


def seal(log: AccessLog, *paths: Path, state: Path | None = None, **options: str) -> list[str]:
    request = SealRequest(
        tuple(map(str, paths)), state_dir=str(state) if state else None, **options
    )
    answers = Answers(recipients_given=(RECIPIENT,), consent=True, log=log)
    return operations.seal(request, answers).notes


def sealed_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.sealed")}


def test_in_place(home: Path, log: AccessLog) -> None:
    before = sorted(path for path in (home / "state").rglob("*"))
    seal(log, home, state=home / "state" / "encvault")
    assert sealed_in(home) == {"a.sealed"}
    assert set(before) <= set((home / "state").rglob("*"))
    answers = Answers(identities_given=keys().identities_given, log=log)
    assert b"".join(map(bytes, operations.cat(str(home / "docs" / "a"), answers))) == b"content"


def test_mirror_and_archive_hold_no_copy_of_the_key(
    home: Path, log: AccessLog, tmp_path: Path
) -> None:
    seal(log, home, to=str(tmp_path / "mirror"))
    assert sealed_in(tmp_path / "mirror") == {"a.sealed"}
    seal(log, home, archive=str(tmp_path / "all.sealed"))
    answers = Answers(identities_given=keys().identities_given)
    request = operations.OpenRequest((str(tmp_path / "all.sealed"),), to=str(tmp_path / "out"))
    operations.open_paths(request, answers)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["a"]
    assert not list((tmp_path / "out").rglob("key"))


def test_they_cannot_be_named(home: Path, log: AccessLog) -> None:
    for path in (home / "state" / "encvault" / "log", home / "state" / "encvault" / "log" / "key"):
        with pytest.raises(InvalidRequest, match="itself works with"):
            seal(log, path)
    with pytest.raises(InvalidRequest, match="itself works with"):
        seal(log, home / "state" / "encvault", state=home / "state" / "encvault")
    assert sealed_in(home) == set()
