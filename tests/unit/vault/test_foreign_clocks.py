"""Originals on servers whose clocks are not ours, and whose times are coarse."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from drivefs import DriveImage
from helpers import seal, unseal
from passthrough import Passthrough

from encvault.errors import SourceChanged
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from encvault.vault.report import Event

SECOND_NS = 1_000_000_000
BEHIND = {"behind": 5 * SECOND_NS, "ours": 0, "ahead": -5 * SECOND_NS, "at its epoch": None}


@pytest.fixture(params=BEHIND)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Passthrough]:
    """One with whole seconds."""
    behind_ns = BEHIND[request.param]
    if behind_ns is None:
        behind_ns = time.time_ns() // SECOND_NS * SECOND_NS
    with Passthrough(tmp_path / "server", behind_ns, SECOND_NS) as server:
        yield server


class Late(Observer):
    """Somebody who saves once more at the last moment."""

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save

    def before_release(self, _events: Sequence[Event]) -> None:
        self._save()


def test_what_is_saved_in_the_same_second_after_it_was_sealed_is_kept(
    tmp_path: Path, server: Passthrough
) -> None:
    docs = server.path / "docs"
    docs.mkdir()
    options = {"state_dir": str(tmp_path / "state")}
    server.begin_tick()
    (docs / "letter").write_text("first ")
    report = seal(docs, Late(lambda: (docs / "letter").write_text("second")), **options)
    assert [type(problem) for problem in report.problems] == [SourceChanged]
    assert (docs / "letter").read_text() == "second"
    assert seal(docs, **options).problems == []
    assert unseal(docs, to=str(tmp_path / "out")).problems == []
    assert (tmp_path / "out" / "letter").read_text() == "second"


def test_so_it_is_with_a_file_on_its_own(server: Passthrough) -> None:
    letter = server.path / "letter"
    server.begin_tick()
    letter.write_text("first ")
    with pytest.raises(SourceChanged):
        seal(letter, Late(lambda: letter.write_text("second")))
    assert letter.read_text() == "second"


def test_a_mirror_notices_what_is_saved_in_the_same_second(
    tmp_path: Path, server: Passthrough
) -> None:
    docs = server.path / "docs"
    docs.mkdir()
    options = {"to": str(tmp_path / "vault"), "state_dir": str(tmp_path / "state")}
    server.begin_tick()
    (docs / "letter").write_text("first ")
    assert seal(docs, **options).files == 1
    (docs / "letter").write_text("second")
    assert seal(docs, **options).files == 1
    assert unseal(tmp_path / "vault", to=str(tmp_path / "out")).problems == []
    assert (tmp_path / "out" / "letter").read_text() == "second"


def test_many_files_of_a_server_are_waited_for_once(tmp_path: Path) -> None:
    with Passthrough(tmp_path / "server", tick_ns=SECOND_NS) as server:
        for number in range(50):
            (server.path / f"{number}").write_text("x")
            os.utime(server.path / f"{number}", (1_700_000_000, 1_700_000_000))
        began = time.monotonic()
        assert seal(server.path, to=str(tmp_path / "vault"), jobs=1).files == 50
        assert 2 <= time.monotonic() - began < 20


@pytest.mark.xdist_group("loop devices")
def test_old_files_of_an_ordinary_disk_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DriveImage("ext4", tmp_path / "top") as drive:
        docs = drive.path / "docs"
        docs.mkdir()
        (docs / "letter").write_text("old")
        time.sleep(0.1)

        def never(_seconds: float) -> None:
            raise AssertionError

        with monkeypatch.context() as patch:
            patch.setattr("encvault.vault.sealing.time.sleep", never)
            assert seal(docs).files == 1
