"""Jobs that remove originals: none goes that this very run has not sealed, whatever it looks like.

Where inodes are made up anew, another file may be in everything like the one that is remembered.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from passthrough import Passthrough

from encvault.fs import calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


class Emptying:
    """A job that takes what is in a folder and leaves it empty."""

    def __init__(self, run: Command, top: Path, source: Path, **more: Any) -> None:
        self.run, self.source = run, source
        self.copies, self.key = top / "copies", top / "me.key"
        self._file, self._opened = top / "emptying.toml", top / "opened"
        self._recipient = top / "me.pub"
        self._recipient.write_text(run("key", "new", "--no-password", "-o", self.key).out)
        self.write(**more)

    def write(self, **more: Any) -> None:
        """The job's file."""
        said = {
            "version": 1,
            "sources": [str(self.source)],
            "mode": "mirror",
            "destination": str(self.copies),
            "recipients": [str(self._recipient)],
            "verify": "full",
            "remove_sources": True,
            "retries": 0,
        } | more
        self._file.write_text("".join(f"{key} = {json.dumps(said[key])}\n" for key in said))
        self._file.chmod(0o600)

    def night(self, *, code: int = 0) -> dict[str, Any]:
        """What a run of it says of itself."""
        done = self.run("job", "run", self._file, "--json")
        assert done.code == code, done
        found: dict[str, Any] = json.loads(done.out)
        return found

    def opened(self, number: int) -> Path:
        """The copies, opened."""
        to = self._opened / str(number)
        to.parent.mkdir(exist_ok=True)
        done = self.run("open", "--to", to, "-i", self.key, self.copies)
        assert done.code == 0, done
        return to

    def places(self) -> list[Path]:
        """Where the sealed copies are."""
        objects = self.copies / ".encvault" / "objects"
        found = objects.glob("*/*") if objects.exists() else self.copies.glob("*.sealed")
        return sorted(found)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Passthrough]:
    with Passthrough(tmp_path / "server") as server:
        yield server


def photograph(path: Path, content: str) -> None:
    """As a camera names and times its pictures when its clock has lost the date."""
    path.write_text(content)
    os.utime(path, (1_700_000_000, 1_700_000_000))


@LAYOUTS
def test_each_night_a_new_file_that_looks_like_the_last_one(
    run: Command, tmp_path: Path, server: Passthrough, *, hidden: bool
) -> None:
    source = server.path / "card"
    source.mkdir()
    job = Emptying(run, tmp_path, source, hide_names=hidden)
    inodes = set()
    for number in range(1, 4):
        photograph(source / "DSC0001.RAW", f"picture {number}")
        inodes.add(os.stat(source / "DSC0001.RAW").st_ino)
        assert len(inodes) == 1
        outcome = job.night()
        assert (outcome["files"], outcome["unchanged"], outcome["removed"]) == (1, 0, 1)
        assert list(source.iterdir()) == []
        assert (job.opened(number) / "DSC0001.RAW").read_text() == f"picture {number}"
        server.again()


@LAYOUTS
@pytest.mark.parametrize("who", ["run", "user"])
def test_what_comes_after_a_run_has_looked_is_not_removed_for_its_likeness(
    run: Command,
    tmp_path: Path,
    server: Passthrough,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    *,
    hidden: bool,
) -> None:
    """Neither to what the last run has removed, nor to what the user has."""
    source = server.path / "card"
    source.mkdir()
    job = Emptying(run, tmp_path, source, hide_names=hidden, remove_sources=who == "run")
    photograph(source / "another", "another")
    photograph(source / "photo", "picture 1")
    inode = os.stat(source / "photo").st_ino
    job.night()
    if who == "user":
        (source / "another").unlink()
        (source / "photo").unlink()
    assert list(source.iterdir()) == []
    server.again()
    job.write(hide_names=hidden)
    photograph(source / "another", "another")

    def come(name: str, _fd: int, what: str) -> None:
        if name == "unlink" and what == "another":
            photograph(source / "photo", "picture 2")

    monkeypatch.setattr(calls, "probe", come)
    assert job.night()["removed"] == 1
    monkeypatch.setattr(calls, "probe", None)
    assert os.stat(source / "photo").st_ino == inode
    assert (source / "photo").read_text() == "picture 2"
    assert job.night()["files"] == 1
    assert (job.opened(1) / "photo").read_text() == "picture 2"


@LAYOUTS
def test_a_copy_that_is_lost_after_its_original_is_missed(
    run: Command, tmp_path: Path, *, hidden: bool
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    job = Emptying(run, tmp_path, source, hide_names=hidden)
    for number in range(3):
        (source / f"{number}").write_text(f"{number}")
    assert job.night()["removed"] == 3
    job.places()[1].unlink()
    (source / "new").write_text("new")
    outcome = job.night(code=66)
    assert [error["error"] for error in outcome["errors"]] == ["SourceMissing"]
    assert (source / "new").exists()


@pytest.mark.parametrize("behind_s", [5, 0, -5])
@pytest.mark.parametrize("mode", ["mirror", "archive"])
def test_what_is_saved_in_the_same_tick_after_it_was_sealed_is_kept(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, behind_s: int
) -> None:
    """A server whose clock is not ours, and whose times are coarse."""
    second_ns = 1_000_000_000
    with Passthrough(tmp_path / "server", behind_s * second_ns, 2 * second_ns) as server:
        source = server.path / "source"
        source.mkdir()
        job = Emptying(run, tmp_path, source, mode=mode)
        job.copies.mkdir()
        saved: list[str] = []

        def save(name: str, _fd: int, what: str) -> None:
            if name == "unlink" and what == "a" and not saved:
                saved.append(what)
                (source / "b").write_text("second")

        server.begin_tick()
        (source / "a").write_text("a")
        (source / "b").write_text("first ")
        monkeypatch.setattr(calls, "probe", save)
        job.night()
        monkeypatch.setattr(calls, "probe", None)
        # the clock ahead is a reason to wait for another night
        assert saved or behind_s < 0
        assert (source / "b").read_text() == ("second" if saved else "first ")


@LAYOUTS
def test_no_file_is_like_one_that_a_job_has_removed(
    run: Command, tmp_path: Path, *, hidden: bool
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    job = Emptying(run, tmp_path, source, hide_names=hidden)
    for name in ("one", "two"):
        (source / name).write_text(name)
    assert job.night()["removed"] == 2
    (database,) = (Path(os.environ["XDG_STATE_HOME"]) / "encvault" / "vaults").glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(database)) as ledger:
        rows = ledger.execute("SELECT mtime_ns, ctime_ns IS NULL FROM files").fetchall()
    assert rows == [(None, 0)] * 2, "and each copy is missed if it is lost"
