"""Jobs from the command line: made, checked, run, looked at."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fault.processes import fork, wait
from helpers import NOBODY, everything, in_child, snapshot, write_tree

from encvault import cli
from encvault.cli.job.group import COMMAND
from encvault.envelope import MAGIC
from encvault.fs.tree import Tree
from encvault.vault import sealing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command, Ran

    from encvault.fs.entries import Folder
    from encvault.secret import Buffer

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


class Night:
    """A source, a place for copies, a key, and the job between them."""

    def __init__(self, run: Command, top: Path) -> None:
        self.run = run
        self.top = top
        self.source, self.destination = top / "source", top / "share" / "copies"
        self.destination.parent.mkdir()
        self.identity, self.recipient = top / "me.key", top / "me.pub"
        made = run("key", "new", "--no-password", "-o", self.identity)
        assert made.code == 0
        self.recipient.write_text(made.out)
        write_tree(self.source)

    @property
    def file(self) -> Path:
        return self.top / "night.toml"

    def write(self, *lines: str, **top: Any) -> None:
        """The job's file; keys that are None are left out."""
        said = {
            "version": 1,
            "sources": [str(self.source)],
            "mode": "mirror",
            "destination": str(self.destination),
            "recipients": [str(self.recipient)],
            "lock_wait": "0s",
            "retries": 0,
        } | top
        found = [f"{key} = {json.dumps(value)}" for key, value in said.items() if value is not None]
        self.file.write_text("\n".join([*found, *lines]) + "\n")
        self.file.chmod(0o600)

    def job(self, *arguments: object, codes: tuple[int, ...] = (0,)) -> Ran:
        command, *rest = arguments
        done = self.run("job", command, self.file, *rest)
        assert done.code in codes, done
        return done

    def outcome(self, *, code: int = 0) -> dict[str, Any]:
        """Run it; what it says of itself."""
        done = self.run("job", "run", self.file, "--json")
        assert done.code == code, done
        found: dict[str, Any] = json.loads(done.out)
        assert found["exit_code"] == code
        (status,) = json.loads(self.job("status", "--json", codes=(0, 3)).out)["jobs"]
        assert status["last"] == found
        return found

    def opened(self, sealed: Path, name: str = "opened") -> Path:
        """A copy, opened."""
        to = self.top / name
        shutil.rmtree(to, ignore_errors=True)
        done = self.run("open", "--to", to, "-i", self.identity, sealed)
        assert done.code == 0, done
        return to

    def archives(self) -> list[str]:
        return sorted(path.name for path in self.destination.glob("*.sealed"))


@pytest.fixture
def night(run: Command, tmp_path: Path) -> Night:
    return Night(run, tmp_path)


# -- from nothing to a run ------------------------------------------------------------------


@pytest.fixture(params=[0o022, 0o002], ids=["022", "002"])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")  # which could make folders that are not believed
def test_from_nothing_to_a_run(run: Command, night: Night) -> None:
    made = run(
        *("job", "new", "finance", "--source", night.source, "--destination", night.destination),
        *("--mode", "mirror", "--recipient", night.recipient, "--at", "03:15"),
    )
    assert made.code == 0
    assert "hint: encvault job check finance" in made.err
    assert run("job", "status", "finance", "--max-age", "26h").code == 3
    checked = run("job", "check", "finance", "--json")
    assert checked.code == 0
    found = json.loads(checked.out)
    assert {one["what"] for one in found["findings"]} == {
        *("records", "source", "keys", "destination", "vault", "schedule")
    }
    assert {one["level"] for one in found["findings"]} == {"ok", "warning"}  # no folder yet
    assert not night.destination.exists()
    ran = run("job", "run", "finance")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines()[-1].startswith("encvault: finance: done, 8 files sealed, ")
    assert snapshot(night.opened(night.destination)) == snapshot(night.source)
    assert run("job", "status", "finance", "--max-age", "26h").code == 0
    assert run("job", "run", "--all", "--quiet").err == ""
    logs = run("job", "logs", "finance").out.splitlines()
    assert len(logs) == 2
    assert "8 files unchanged" in logs[1]
    (listed,) = json.loads(run("job", "list", "--json").out)["jobs"]
    assert (listed["name"], listed["mode"], listed["next"][11:16]) == ("finance", "mirror", "03:15")
    assert "03:15" in run("job", "list").out
    shown = json.loads(run("job", "show", "finance", "--json").out)
    assert (shown["timeout"], shown["schedule"]["at"]) == ("5h", "03:15")
    assert "destination" in run("job", "show", "finance").out
    again = run(
        "job", "new", "finance", "--source", "/x", "--destination", "/y", "-r", "encvault1-x"
    )
    assert (again.code, "there is a job of this name" in again.err) == (73, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x y"], "a job's name has up to 64"),
        (["x"], "say --source"),
        (["x", "--source", "/a", "-r", "encvault1-x"], "say either a destination or a drive"),
        (["x", "--source", "/a", "--destination", "/b"], "say --recipient"),
        (
            ["x", "--source", "/a", "--mode", "in-place", "--destination", "/b", "-r", "r"],
            "no effect",
        ),
    ],
)
def test_a_new_job_that_could_not_work_is_refused(
    run: Command, arguments: list[str], said: str
) -> None:
    done = run("job", "new", *arguments)
    assert done.code in (2, 78)
    assert said in done.err
    assert json.loads(run("job", "list", "--json").out) == {"jobs": []}


def test_a_list_without_jobs_says_how_to_begin(run: Command) -> None:
    assert "encvault job new NAME" in run("job", "list").err


def test_a_broken_file_hides_no_other_job(run: Command, night: Night) -> None:
    jobs = os.path.join(os.environ["XDG_CONFIG_HOME"], "encvault", "jobs.d")
    os.makedirs(jobs)
    night.write()
    shutil.copy(night.file, os.path.join(jobs, "good.toml"))
    with open(os.path.join(jobs, "bad.toml"), "w", encoding="utf-8") as file:
        file.write("version = 1\nsource = []\n")
    listed = run("job", "list")
    assert listed.code == 78
    assert "bad.toml:2: unknown key source" in listed.err
    assert "good" in listed.out
    assert run("job", "status").code == 78
    done = run("job", "run", "--all")
    assert done.code == 78
    assert "good: done" in done.err
    assert run("job", "run", "good", "none").code == 78
    assert run("job", "run", "none").code == 78
    assert run("job", "run").code == 2
    assert run("job", "run", "good", "--all").code == 2


def findings(night: Night, code: int = 0) -> dict[str, list[str]]:
    """What `check` found: levels by what was looked at."""
    done = night.job("check", "--json", codes=(code,))
    found: dict[str, list[str]] = {}
    for one in json.loads(done.out)["findings"]:
        found.setdefault(one["what"], []).append(one["level"])
        assert (one["error"] is not None) == (one["level"] == "failed")
    return found


def test_check_looks_at_everything_that_a_run_needs(night: Night) -> None:
    night.write(*hook("before", "true"), *hook("after", "/nonexistent/program"))
    assert findings(night, 66)["hook"] == ["ok", "failed"]
    night.write(sources=[str(night.top / "none"), str(night.destination.parent)])
    assert findings(night, 66)["source"] == ["failed", "warning"]  # missing, and empty
    night.write(mode="in-place", destination=None)
    assert findings(night)["vault"] == ["ok"]
    night.outcome()
    assert findings(night)["vault"] == ["warning"]  # not pinned
    shown = night.run("info", night.source, "--json")
    pin = json.loads(shown.out)["fingerprint"]
    night.write(mode="in-place", destination=None, fingerprint=pin)
    assert findings(night)["vault"] == ["ok"]
    assert night.job("check", "--quiet").out == ""
    assert not [path for path in night.source.rglob("*.tmp") if path.name.startswith(".encvault")]


def test_check_names_the_keys_that_are_missing(night: Night) -> None:
    night.write(recipients=None, mode="archive", destination=str(night.destination.parent))
    assert findings(night, 78)["keys"] == ["failed"]
    night.write("[secret]", f'identity_file = "{night.top}/none.key"')
    assert findings(night, 78)["keys"] == ["failed"]
    night.write("[secret]", f'identity_file = "{night.identity}"')
    assert findings(night)["keys"] == ["ok"]
    night.write("[secret]", "keyring = true")
    checked = night.run("job", "check", night.file)
    assert checked.code in (0, 69, 75, 78)  # as the desktop of this machine has it


def test_check_of_a_destination_that_is_not_there_or_cannot_be_written_to(night: Night) -> None:
    night.write(mode="archive", destination=str(night.top / "none"))
    assert findings(night, 75)["destination"] == ["failed"]
    night.write(drive="abcdefgh", destination=None)
    assert findings(night, 75)["destination"] == ["failed"]
    night.write(destination=str(night.source / "inside"))
    assert findings(night, 2)["destination"] == ["failed"]
    night.write(mode="archive", destination=str(night.source / "src"))
    assert findings(night, 2)["destination"] == ["failed"]
    night.write(mode="archive", destination=str(night.top))  # which may have others beside it
    assert findings(night)["destination"] == ["ok"]
    night.destination.write_text("a file")
    night.write(mode="archive")
    assert findings(night, 75)["destination"] == ["failed"]


def test_check_as_another_user_sees_what_he_may_not(night: Night) -> None:
    night.write()
    night.file.chmod(0o644)
    for folder in list(night.top.parents)[:3]:  # which pytest makes for its user alone
        folder.chmod(folder.stat().st_mode | 0o1)
    night.source.chmod(0o700)
    assert night.job("check", "--as", "root").code == 0
    as_nobody = night.job("check", "--as", "nobody", "--json", codes=(74, 77, 78))
    assert found_as_another(as_nobody)["source"]["level"] == "failed"
    assert night.job("check", "--as", "no-such-user", codes=(2,)).code == 2


def test_check_without_a_job(run: Command) -> None:
    assert run("job", "check").code == 2
    assert json.loads(run("job", "check", "--schema").out)["type"] == "object"
    assert run("job", "check", "none").code == 78


# -- modes ----------------------------------------------------------------------------------


def test_a_mirror_of_several_sources_has_a_folder_for_each(night: Night) -> None:
    other = night.top / "other"
    other.mkdir()
    (other / "file").write_text("x")
    night.write(sources=[str(night.source), str(other)], delete=True, hide_names=True)
    assert night.outcome()["files"] == 9
    assert snapshot(night.opened(night.destination / "other")) == snapshot(other)
    (other / "file").unlink()
    (other / "new").write_text("y")
    outcome = night.outcome()
    assert (outcome["files"], outcome["removed"], outcome["unchanged"]) == (1, 1, 8)
    assert snapshot(night.opened(night.destination / "source")) == snapshot(night.source)


def test_in_place(night: Night) -> None:
    before = snapshot(night.source)
    night.write(mode="in-place", destination=None, verify="full")
    outcome = night.outcome()
    assert (outcome["files"], outcome["verified"]) == (8, 8)
    assert not list(night.source.glob("*.xlsx"))
    assert snapshot(night.opened(night.source)) == before
    assert night.outcome()["files"] == 0


def test_archives_are_dated_and_the_newest_are_kept(night: Night) -> None:
    night.destination.mkdir()
    night.write(mode="archive", keep=2)
    made = [night.outcome()["archive"] for _one in range(3)]
    assert [os.path.basename(path) for path in made[1:]] == night.archives()
    assert snapshot(night.opened(night.destination / night.archives()[-1])) == snapshot(
        night.source
    )


def test_an_incomplete_archive_costs_no_complete_one(night: Night) -> None:
    night.destination.mkdir()
    night.write(mode="archive", keep=1)
    whole = night.outcome()["archive"]
    os.mkfifo(night.source / "fifo")
    outcome = night.outcome(code=3)
    assert outcome["state"] == "partial"
    assert os.path.dirname(outcome["archive"]) == str(night.destination / "incomplete")
    assert os.path.exists(whole)
    night.write(mode="archive", keep=1, on_partial="warn")
    assert (night.outcome()["state"], os.path.exists(whole)) == ("partial", True)
    (night.source / "fifo").unlink()
    assert night.outcome()["removed"] == 3
    assert not (night.destination / "incomplete").exists()


# -- what lies there ------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("hide_names", [False, True])
@pytest.mark.parametrize("has_key", [False, True])
def test_a_copy_that_was_changed_is_found_with_and_without_a_key(
    night: Night, *, hide_names: bool, has_key: bool
) -> None:
    secret = ["[secret]", f'identity_file = "{night.identity}"'] if has_key else []
    night.write(*secret, hide_names=hide_names, verify="full")
    assert night.outcome()["verified"] >= 8
    pattern = ".encvault/objects/*/*" if hide_names else "*.sealed"
    flip(max(night.destination.glob(pattern), key=lambda path: path.stat().st_size))
    outcome = night.outcome(code=65)
    assert (outcome["state"], outcome["failed"]) == ("failed", 1)
    assert outcome["errors"][0]["error"] == ("ChunkCorrupt" if has_key else "CopyChanged")


def test_a_changed_archive_is_found(night: Night) -> None:
    night.destination.mkdir()
    night.write(mode="archive", verify="full")
    night.outcome()
    flip(night.destination / night.archives()[0])
    assert night.outcome(code=65)["errors"][0]["error"] == "CopyChanged"
    assert len(night.archives()) == 2


@pytest.mark.parametrize("mode", ["mirror", "archive"])
def test_originals_are_removed_once_all_of_it_is_verified(night: Night, mode: str) -> None:
    before = {name: one for name, one in snapshot(night.source).items() if one.kind != "dir"}
    night.destination.mkdir()
    night.write(mode=mode, verify="full", remove_sources=True, exclude=["run.sh"])
    night.outcome()
    left = [path.name for path in night.source.rglob("*") if not path.is_dir()]
    assert left == ["run.sh"]
    sealed = night.destination if mode == "mirror" else night.destination / night.archives()[0]
    after = snapshot(night.opened(sealed))
    assert {name: one for name, one in after.items() if one.kind != "dir"} == {
        name: one for name, one in before.items() if not name.endswith("run.sh")
    }
    (night.source / "later").write_text("x")
    assert night.outcome()["removed"] == 1


@pytest.mark.parametrize("mode", ["mirror", "archive"])
def test_nothing_is_removed_where_anything_is_doubtful(night: Night, mode: str) -> None:
    os.mkfifo(night.source / "fifo")
    before = sorted(night.source.rglob("*"))
    night.destination.mkdir()
    night.write(mode=mode, verify="full", remove_sources=True)
    night.outcome(code=3)
    assert sorted(night.source.rglob("*")) == before


def test_what_was_away_while_an_archive_was_made_is_not_removed(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is moved away and back changes no file in it."""
    real = Tree.walk

    def without_src(self: Tree, *arguments: Any, **options: Any) -> Iterator[Folder]:
        is_packing = sys._getframe(1).f_code.co_name == "_folders"
        for folder in real(self, *arguments, **options):
            if not (is_packing and folder.path == "src"):
                yield folder

    monkeypatch.setattr(Tree, "walk", without_src)
    night.destination.mkdir()
    night.write(mode="archive", verify="full", remove_sources=True)
    outcome = night.outcome()
    assert outcome["removed"] == outcome["files"] < 8
    assert (night.source / "src" / "run.sh").exists()


def test_what_is_written_wrong_keeps_the_original(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but this machine could tell: a job has no key, and notes what it finds."""
    real = sealing.calls.write

    def bad_disk(fd: int, data: Buffer) -> None:
        flipped = bytearray(data)
        if flipped.startswith(MAGIC):
            flipped[-1] ^= 1
        real(fd, flipped)

    monkeypatch.setattr(sealing.calls, "write", bad_disk)
    night.write(verify="full", remove_sources=True)
    assert night.outcome(code=65)["errors"][0]["error"] == "VerificationFailed"
    assert any(path.is_file() for path in night.source.rglob("*"))


# -- what is not there ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mirror", "archive"])
def test_an_empty_folder_in_the_place_of_a_share_is_left_empty(night: Night, mode: str) -> None:
    night.destination.mkdir()
    night.write(mode=mode)
    night.outcome()
    away = night.top / "away"
    night.destination.rename(away)
    assert night.outcome(code=75)["state"] == "skipped"
    night.destination.mkdir()
    outcome = night.outcome(code=75)
    assert outcome["errors"][0]["error"] == "DestinationAway"
    assert list(night.destination.iterdir()) == []
    night.write(mode=mode, if_absent="fail")
    assert night.outcome(code=66)["state"] == "failed"
    checked = night.job("check", codes=(66,))
    assert "is gone" in checked.out or "are gone" in checked.out
    night.destination.rmdir()
    away.rename(night.destination)
    night.write(mode=mode)
    assert night.outcome()["state"] == "ok"


def test_a_share_that_was_never_there(night: Night) -> None:
    night.write(destination=str(night.top / "none" / "copies"))
    assert night.outcome(code=75)["errors"][0]["error"] == "DestinationAway"
    night.write(destination=str(night.top / "none"), mode="archive")
    assert night.outcome(code=75)["errors"][0]["error"] == "DestinationAway"
    night.write(destination=None, drive="aaaaaaaa", if_absent="fail")
    assert night.outcome(code=66)["errors"][0]["error"] == "DestinationAbsent"


def test_a_source_that_is_missing_keeps_no_other_from_it(night: Night) -> None:
    night.write(sources=[str(night.source), str(night.top / "none")])
    outcome = night.outcome(code=66)
    assert (outcome["files"], outcome["errors"][0]["error"]) == (8, "SourceMissing")


def test_another_vault_in_the_place_of_the_known_one_is_refused(night: Night, run: Command) -> None:
    night.write()
    night.outcome()
    shutil.rmtree(night.destination)
    assert run("seal", "--to", night.destination, night.source, "-r", night.recipient).code == 0
    night.write(fingerprint="-".join(["aaaa"] * 8))
    assert night.outcome(code=77)["errors"][0]["error"] == "VaultChanged"


@pytest.mark.parametrize("key", ["delete", "keep"])
def test_copies_that_may_be_the_only_ones_are_never_dropped(night: Night, key: str) -> None:
    mode, value = ("mirror", True) if key == "delete" else ("archive", 2)
    night.write(mode=mode, remove_sources=True, verify="full", **{key: value})
    assert "would remove the copies as well" in night.job("run", codes=(78,)).err
    night.destination.mkdir()
    night.write(mode="archive", remove_sources=True, verify="full")
    for _round in range(3):
        (night.source / "new").write_text("x")
        night.outcome()
    assert night.outcome()["archive"] == ""  # nothing was there
    assert len(night.archives()) == 3


def test_a_source_that_is_a_link_is_looked_at_like_any_other(night: Night) -> None:
    link = night.top / "link"
    link.symlink_to(night.source)
    night.write(sources=[str(link)], verify="full")
    assert night.outcome()["verified"] == 8
    flip(night.destination / "src" / "run.sh.sealed")
    night.write(sources=[str(link)], verify="full", remove_sources=True)
    assert night.outcome(code=65)["failed"] == 1
    assert (night.source / "src" / "run.sh").exists()


@pytest.mark.parametrize("hide_names", [False, True])
def test_what_stands_in_the_place_of_a_copy_is_no_copy(night: Night, *, hide_names: bool) -> None:
    night.write(hide_names=hide_names)
    night.outcome()
    pattern = ".encvault/objects/*/*" if hide_names else "src/run.sh.sealed"
    for path in night.destination.glob(pattern):
        path.unlink()
        path.mkdir()
    found = night.run("job", "run", night.file, "--json")
    assert found.code != 0 or json.loads(found.out)["files"] > 0  # never "unchanged"
    night.write(hide_names=hide_names, verify="full", remove_sources=True)
    night.run("job", "run", night.file)
    assert (night.source / "src" / "run.sh").exists() or found.code == 0


@pytest.mark.parametrize("hide_names", [False, True])
def test_sources_that_were_removed_are_missed_when_nothing_opens_their_copies(
    night: Night, *, hide_names: bool
) -> None:
    night.write(hide_names=hide_names, verify="full", remove_sources=True)
    night.outcome()
    assert not [path for path in night.source.rglob("*") if path.is_file()]
    assert night.outcome()["errors"] == []
    for key in (night.destination / ".encvault" / "keys").iterdir():
        key.unlink()
    for _night in range(2):
        assert night.outcome(code=65)["errors"][0]["error"] == "KeysMissing"
    (night.source / "new").write_text("new")
    outcome = night.outcome(code=65)
    assert (outcome["files"], outcome["removed"]) == (1, 0)
    assert (night.source / "new").exists()


@pytest.mark.parametrize("mode", ["mirror", "archive"])
def test_a_source_without_files_costs_no_copy(night: Night, mode: str) -> None:
    night.destination.mkdir()
    more = {"delete": True} if mode == "mirror" else {"keep": 1}
    night.write(mode=mode, **more)
    night.outcome()
    before = sorted(night.destination.rglob("*.sealed"))
    night.source.rename(night.top / "away")
    (night.source / "lost+found").mkdir(parents=True)
    outcome = night.outcome(code=66)
    assert outcome["errors"][0]["error"] == "SourceEmpty"
    assert sorted(night.destination.rglob("*.sealed")) == before


def test_in_place_an_empty_folder_in_the_place_of_a_vault_stays_empty(night: Night) -> None:
    night.write(mode="in-place", destination=None)
    night.outcome()
    assert findings(night)["vault"] == ["warning"]
    night.source.rename(night.top / "away")
    night.source.mkdir()
    assert night.outcome(code=75)["errors"][0]["error"] == "DestinationAway"
    assert findings(night, 75)["destination"] == ["failed"]
    assert list(night.source.iterdir()) == []
    night.source.rmdir()
    (night.top / "away").rename(night.source)
    assert night.outcome()["state"] == "ok"


def test_two_jobs_of_one_name_drop_nothing_of_each_other(night: Night) -> None:
    night.destination.mkdir()
    other = night.top / "other" / "night.toml"
    other.parent.mkdir()
    night.write(mode="archive", keep=2)
    shutil.copy(night.file, other)
    for _round in range(3):
        night.outcome()
        assert night.run("job", "run", other).code == 0
    assert len(night.archives()) == 4


def test_of_archives_that_lack_files_only_the_latest_stay(night: Night) -> None:
    night.destination.mkdir()
    os.mkfifo(night.source / "fifo")
    night.write(mode="archive")
    for _round in range(4):
        night.outcome(code=3)
    assert len(list((night.destination / "incomplete").iterdir())) == 2


def test_a_share_that_is_reached_by_a_link_is_known_as_well(night: Night) -> None:
    link = night.top / "link"
    link.symlink_to(night.destination.parent)
    night.destination.mkdir()
    os.mkfifo(night.source / "fifo")
    night.write(mode="archive", destination=str(link / "copies"))
    night.outcome(code=3)
    night.destination.rename(night.top / "away")
    night.destination.mkdir()
    assert night.outcome(code=75)["errors"][0]["error"] == "DestinationAway"


# -- the run itself -------------------------------------------------------------------------


def test_another_run_of_the_job_is_waited_for_and_not_overwritten(night: Night) -> None:
    night.write("[[hooks]]", 'when = "before"', f'run = ["cat", "{night.top / "fifo"}"]')
    os.mkfifo(night.top / "fifo")
    first = fork(lambda: cli.main(["job", "run", str(night.file), "--quiet"]))
    with open(night.top / "fifo", "w", encoding="utf-8"):
        second = night.run("job", "run", night.file, "--json")
        assert (second.code, json.loads(second.out)["errors"][0]["error"]) == (75, "JobRunning")
        (status,) = json.loads(night.job("status", "--json").out)["jobs"]
        assert status["last"]["state"] == "running"
    assert wait(first) == 0
    (status,) = json.loads(night.job("status", "--json").out)["jobs"]
    assert status["last"]["state"] == "ok"


def test_a_run_that_takes_too_long_is_ended_and_the_next_goes_on(night: Night) -> None:
    night.write(*hook("before", "sleep", "30"), timeout="1s")
    outcome = night.outcome(code=124)
    assert (outcome["state"], outcome["errors"][0]["error"]) == ("timeout", "JobTimedOut")
    night.write()
    assert night.outcome()["files"] == 8


def hook(when: str, *run: str) -> list[str]:
    return ["[[hooks]]", f'when = "{when}"', f"run = {json.dumps(run)}"]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_programs_before_and_after(night: Night) -> None:
    told = night.top / "told"
    say = script(
        night.top / "say", f'echo "$1 $ENCVAULT_JOB $ENCVAULT_STATE $ENCVAULT_EXIT_CODE" >> {told}'
    )
    hooks = [
        line for when in ("before", "success", "failure", "after") for line in hook(when, say, when)
    ]
    night.write(*hooks)
    night.outcome()
    assert told.read_text().splitlines() == [
        "before night  ",
        "success night ok 0",
        "after night ok 0",
    ]
    told.unlink()
    night.write(*hooks, sources=[str(night.top / "none")])
    night.outcome(code=66)
    assert told.read_text().splitlines()[1:] == ["failure night failed 66", "after night failed 66"]
    told.unlink()
    night.write(*hooks, destination=str(night.top / "none" / "copies"))
    night.outcome(code=75)
    assert told.read_text().splitlines()[1:] == ["after night skipped 75"]


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [("exit 75", 75, "RunSkipped"), ("echo no >&2; exit 9", 1, "RunRefused")],
)
def test_a_program_before_decides(night: Night, text: str, code: int, error: str) -> None:
    night.write(*hook("before", script(night.top / "first", text)))
    outcome = night.outcome(code=code)
    assert outcome["errors"][0]["error"] == error
    assert not night.destination.exists()
    if code == 1:
        assert outcome["errors"][0]["message"].endswith("it ended with code 9: no")


@pytest.mark.parametrize("code", [0, 9])
def test_programs_run_where_there_is_no_room_for_what_they_say(
    night: Night, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("encvault.jobs.hooks.tempfile.TemporaryFile", full)
    told = night.top / "told"
    night.write(*hook("after", script(night.top / "say", f"echo ran > {told}; exit {code}")))
    outcome = night.outcome(code=3 if code else 0)
    assert told.read_text() == "ran\n"
    if code:
        assert outcome["errors"][0]["message"].endswith("it ended with code 9")


def test_a_program_after_that_fails_makes_a_good_run_partial(night: Night) -> None:
    night.write(*hook("after", "/nonexistent"))
    outcome = night.run("job", "run", night.file, "--json")
    assert outcome.code == 3
    assert "/nonexistent: No such file or directory" in outcome.err
    night.write(*hook("after", "sleep", "9"), 'timeout = "0s"')
    assert night.run("job", "run", night.file).code == 3
    assert night.job("check", codes=(0,)).code == 0


def test_what_may_pass_is_tried_again(night: Night) -> None:
    night.write(retries=2, retry_wait="0s")
    night.outcome()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(night.destination)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        holder.stdout.readline()
        outcome = night.outcome(code=75)
        holder.stdin.close()
    assert (outcome["attempts"], outcome["errors"][0]["error"]) == (3, "VaultBusy")
    assert night.outcome()["attempts"] == 1


HOLD = """
import sys
from encvault.vault.vault import Vault
with Vault.load(sys.argv[1]) as vault:
    vault.hold()
    print("held", flush=True)
    sys.stdin.read()
"""


# -- secrets and surroundings ---------------------------------------------------------------


def test_a_secret_that_others_can_read_is_refused(night: Night) -> None:
    password = night.top / "password"
    password.write_text("correct horse battery\n")
    password.chmod(0o644)
    night.write("[secret]", f'password_file = "{password}"')
    done = night.job("run", codes=(78,))
    assert "others may read it" in done.err
    (status,) = json.loads(night.job("status", "--json", codes=(3,)).out)["jobs"]
    assert status["last"]["errors"][0]["error"] == "PasswordSourceFailed"
    assert "others may read it" in night.job("check", codes=(78,)).out
    password.chmod(0o600)
    assert night.outcome()["state"] == "ok"


def test_a_credential_comes_from_systemd(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.write("[secret]", 'credential = "nightly"', recipients=None)
    assert "systemd gives it to the service only" in night.job("run", codes=(78,)).err
    folder = night.top / "credentials"
    folder.mkdir()
    (folder / "nightly").write_text("correct horse battery")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert night.outcome()["state"] == "ok"
    copied = night.run(
        *("open", "--to", night.top / "o", night.destination, "--password-file", folder / "nightly")
    )
    assert copied.code == 0


def test_a_job_for_nobody_says_what_is_missing(night: Night) -> None:
    night.write(recipients=None)
    assert night.outcome(code=78)["errors"][0]["error"] in ("KeyRequired", "PasswordUnavailable")
    assert not night.destination.exists()


def test_a_file_that_others_can_change_is_refused(night: Night) -> None:
    night.write()
    night.file.chmod(0o666)
    assert "others may write to" in night.job("run", codes=(78,)).err


@pytest.mark.parametrize("has_home", [True, False])
def test_nothing_is_needed_but_the_program(night: Night, *, has_home: bool) -> None:
    night.write()
    state = {"XDG_STATE_HOME": str(night.top / "state")}
    home = {"HOME": str(night.top / "nobody")} if has_home else {}
    done = subprocess.run(
        ["setsid", sys.executable, "-m", "encvault", "job", "run", str(night.file), "--no-input"],
        env=state | home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "night: done, 8 files sealed" in done.stderr


def test_an_unreadable_file_is_left_and_named(night: Night) -> None:
    secret = night.source / "secret"
    secret.write_text("x")
    night.write()
    state = night.top / "state"
    state.mkdir()
    for path in (night.top, *night.top.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    os.chown(secret, 0, 0)
    secret.chmod(0)
    for folder in list(night.top.parents)[:3]:  # which pytest makes for its user alone
        folder.chmod(folder.stat().st_mode | 0o1)

    def run() -> int:
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"] = str(state)
        return cli.main(["job", "run", str(night.file), "--quiet"])

    assert in_child(run, uid=NOBODY) == 3
    assert len(list(night.destination.rglob("*.sealed"))) == 8


# -- who is told ----------------------------------------------------------------------------


class Ears(BaseHTTPRequestHandler):
    """A service that is pinged."""

    heard: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.path, body))
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None: ...


@pytest.fixture
def service() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    heard: list[tuple[str, bytes]] = []
    handler = type("Handler", (Ears,), {"heard": heard})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


def test_a_service_is_pinged_without_names(
    night: Night, service: tuple[str, list[tuple[str, bytes]]]
) -> None:
    address, heard = service
    night.write("[notify]", f'ping_url = "{address}/abc"')
    night.outcome()
    assert [path for path, _body in heard] == ["/abc/start", "/abc"]
    assert json.loads(heard[1][1])["files"] == 8
    heard.clear()
    night.write("[notify]", f'ping_url = "{address}/abc"', sources=[str(night.top / "secret-name")])
    night.outcome(code=66)
    assert [path for path, _body in heard] == ["/abc/start", "/abc/66"]
    assert not any(b"secret-name" in body or b"night" in body for _path, body in heard)
    heard.clear()
    assert night.job("notify").code == 0
    assert [path for path, _body in heard] == ["/abc/66"]
    heard.clear()
    night.write("[notify]", f'ping_url = "{address}/abc"', "send_details = true")
    assert night.run("job", "run", night.file, "--no-ping").code == 0
    assert heard == []
    night.outcome()
    assert json.loads(heard[1][1])["job"] == "night"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x", "http://no.such.host.invalid/x"])
def test_a_service_that_cannot_be_told_fails_nothing(night: Night, address: str) -> None:
    night.write("[notify]", f'ping_url = "{address}"')
    outcome = night.outcome()
    assert outcome["state"] == "ok"
    assert any("could not be told" in note for note in outcome["notes"])
    assert not any("/x" in note for note in outcome["notes"])  # who has the address can ping
    assert "could not tell how night ended" in night.job("notify", codes=(69,)).err


def test_a_service_that_answers_with_an_error_is_noted(
    night: Night, service: tuple[str, list[tuple[str, bytes]]]
) -> None:
    night.write("[notify]", f'ping_url = "{service[0]}/broken"')
    assert any("it answered with 500" in note for note in night.outcome()["notes"])


def test_a_service_that_answers_with_rubbish_stops_nothing(night: Night) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            for _ping in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"hello there\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        night.write("[notify]", f'ping_url = "http://127.0.0.1:{listener.getsockname()[1]}/x"')
        assert night.outcome()["state"] == "ok"
        thread.join()


def test_a_missing_secret_is_told_like_any_other_failure(
    night: Night, service: tuple[str, list[tuple[str, bytes]]]
) -> None:
    address, heard = service
    told = night.top / "told"
    say = script(night.top / "say", f"echo $ENCVAULT_EXIT_CODE >> {told}")
    night.write(
        *("[secret]", f'password_file = "{night.top}/none"'),
        *("[notify]", f'ping_url = "{address}/abc"', f'metrics = "{night.top}/m.prom"'),
        *hook("failure", say),
    )
    night.outcome(code=78)
    assert told.read_text() == "78\n"
    assert [path for path, _body in heard] == ["/abc/start", "/abc/78"]
    assert 'last_exit_code{job="night"} 78' in (night.top / "m.prom").read_text()


def test_notify_tells_of_the_unit_that_ended_and_never_of_an_older_run(
    night: Night,
    service: tuple[str, list[tuple[str, bytes]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, heard = service
    night.write("[notify]", f'ping_url = "{address}/abc"')
    monkeypatch.setenv("INVOCATION_ID", "today")
    assert night.run("job", "run", night.file, "--no-ping").code == 0
    monkeypatch.setenv("MONITOR_INVOCATION_ID", "today")
    assert night.job("notify").code == 0
    monkeypatch.setenv("MONITOR_INVOCATION_ID", "tomorrow")  # which left no record
    monkeypatch.setenv("MONITOR_EXIT_STATUS", "243")
    assert night.job("notify").code == 0
    monkeypatch.setenv("MONITOR_EXIT_STATUS", "KILL")
    assert night.job("notify").code == 0
    assert [path for path, _body in heard] == ["/abc", "/abc/243", "/abc/1"]


def test_names_in_the_records_are_only_for_their_user(night: Night) -> None:
    night.write()
    night.outcome()
    folder = json.loads(night.job("check", "--json").out)["records"]
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for name in ("status.json", "history.jsonl"):
        assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


@only_root
def test_root_does_not_work_in_the_folder_of_another(night: Night) -> None:
    night.write()
    state = Path(os.environ["XDG_STATE_HOME"], "encvault")
    state.mkdir(exist_ok=True)
    os.chown(state, NOBODY, NOBODY)
    before = everything(state)
    outcome = night.run("job", "run", night.file)
    assert (outcome.code, "root does not work in it" in outcome.err) == (78, True)
    assert everything(state) == before


@only_root
@pytest.mark.parametrize("name", ["", "jobs", "jobs/night-*"])
def test_a_run_of_root_leaves_the_records_of_another_as_they_are(night: Night, name: str) -> None:
    night.write()
    night.outcome()
    state = Path(os.environ["XDG_STATE_HOME"], "encvault")
    [top] = state.glob(name) if name else [state]
    for path in (top, *top.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = everything(state)
    night.write(trigger="on-change", mode="in-place", destination=None)
    watch = [*COMMAND, "job", "watch", str(night.file)]  # which would go on for ever
    assert subprocess.run(watch, check=False, timeout=20).returncode == 78
    night.write()
    refused = night.run("job", "run", night.file)
    assert (refused.code, f"{top} belongs to the user nobody" in refused.err) == (78, True)
    assert everything(state) == before
    assert {path.stat().st_uid for path in top.rglob("*")} == {NOBODY}


def found_as_another(done: Ran) -> dict[str, Any]:
    """What `check` found first of each kind, whatever else is wrong for that user."""
    return {one["what"]: one for one in reversed(json.loads(done.out)["findings"])}


@only_root
@pytest.mark.parametrize("options", [(), ("--as", "nobody")], ids=["", "as"])
@pytest.mark.parametrize("left", ["jobs/*/status.json", "jobs/*", "log/lock", "known_vaults.json"])
def test_check_names_what_root_left_in_the_records_of_another(
    night: Night,
    public_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    left: str,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(public_path))
    monkeypatch.setattr("encvault.cli.job.keep.STATE_BASE", str(public_path))
    night.write()
    night.outcome()
    state = public_path / "encvault"
    for path in (state, *state.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = everything(state)
    well = night.job("check", "--json", *options, codes=(74, 77, 78))
    assert found_as_another(well)["records"]["level"] == "ok"
    [path] = state.glob(left)
    os.chown(path, 0, 0)
    done = night.job("check", "--json", *options, codes=(78,))
    assert found_as_another(done)["records"]["level"] == "failed"
    told = found_as_another(done)["records"]["error"]
    assert told["error"] == "JobRecordsOfAnother"
    assert told["message"] == f"{path} belongs to the user root, and the user nobody cannot use it"
    assert everything(state) == before  # and nothing was written as root
    subprocess.run(told["hint"].partition(": ")[2], shell=True, check=True)  # noqa: S602 - what people copy
    mended = night.job("check", "--json", *options, codes=(74, 77, 78))
    assert found_as_another(mended)["records"]["level"] == "ok"


@only_root
@pytest.mark.parametrize("home", ["/", "/nonexistent", ""])
def test_the_job_of_a_service_without_a_home_is_the_machines(
    night: Night, public_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    night.write()
    night.run("job", "check", night.file, "--as", "root")  # not every user can load the modules
    known = pwd.getpwnam("nobody")
    as_service = pwd.struct_passwd((*known[:5], home, *known[6:]))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: as_service)
    monkeypatch.setattr("encvault.cli.job.keep.STATE_BASE", str(public_path / "lib"))
    done = night.run("job", "check", night.file, "--as", "nobody", "--json")
    records = json.loads(done.out)["records"]
    assert Path(records).is_relative_to(public_path / "lib" / "encvault" / "jobs")


@only_root
def test_the_folder_of_a_user_without_a_name_is_left_to_him(night: Night) -> None:
    night.write()
    state = Path(os.environ["XDG_STATE_HOME"], "encvault")
    os.chown(state, 54_321, 54_321)
    for command in ("run", "check"):
        refused = night.run("job", command, night.file)
        assert refused.code == 78
        assert f"{state} belongs to the user #54321" in refused.err
        assert "setpriv --reuid 54321 --regid 54321 --clear-groups env " in refused.err


@only_root
def test_check_as_another_user_says_that_he_cannot_read_the_job(
    night: Night, public_path: Path
) -> None:
    night.write()
    home = public_path / "home"
    home.mkdir()
    job = home / "night.toml"
    shutil.copy(night.file, job)
    for path in (public_path, home):
        path.chmod(0o755)

    def look() -> dict[str, Any]:
        done = night.run("job", "check", job, "--as", "nobody", "--json")
        assert done.code != 0
        return found_as_another(done)["file"]  # type: ignore[no-any-return]

    assert look()["error"]["error"] == "ServiceUserBarred"
    job.chmod(0o644)
    assert look()["level"] == "ok"
    home.chmod(0o700)
    assert look()["error"]["error"] == "ServiceUserShutOut"
    assert "program" not in found_as_another(night.job("check", "--json"))  # which runs already


@only_root
def test_the_hint_for_root_works_as_it_is_printed(
    night: Night, public_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = public_path / "its state" / "encvault"
    state.mkdir(parents=True)
    os.chown(state, NOBODY, NOBODY)
    closed = Path(os.environ["HOME"])  # as root's, with what is in it
    closed.chmod(0o700)
    monkeypatch.chdir(closed)
    monkeypatch.setenv("XDG_STATE_HOME", str(state.parent))
    night.write()
    refused = night.run("job", "run", night.file)
    line = refused.err.rstrip("\n").partition("hint: run it as that user: ")[2]
    command = shlex.join([*COMMAND, "job", "run", str(night.file)])
    assert line.endswith(f" {command}")
    # not everybody can run the interpreter of these tests, but all can run a shell
    look = 'id -u; id -g; echo "$HOME"; echo "$XDG_CONFIG_HOME"; touch "$XDG_STATE_HOME/encvault/x"'
    line = line.removesuffix(command) + shlex.join(["sh", "-c", look])
    done = subprocess.run(line, shell=True, check=True, capture_output=True, text=True)  # noqa: S602 - what people copy
    user = pwd.getpwuid(NOBODY)
    assert done.stdout == f"{NOBODY}\n{user.pw_gid}\n{user.pw_dir}\n\n"
    assert (state / "x").stat().st_uid == NOBODY


def test_a_success_in_the_future_says_that_the_clock_was_wrong(night: Night) -> None:
    night.write()
    night.outcome()
    folder = json.loads(night.job("check", "--json").out)["records"]
    path = os.path.join(folder, "status.json")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace('"ended_at": "2', '"ended_at": "3'))
    assert "is in the future" in night.job("status", codes=(3,)).err


def test_notify_needs_somebody_to_tell(night: Night) -> None:
    night.write()
    assert night.job("notify", codes=(2,)).code == 2


def test_metrics_are_written_for_a_collector(night: Night) -> None:
    metrics = night.top / "encvault.prom"
    night.write("[notify]", f'metrics = "{metrics}"')
    night.outcome()
    assert 'encvault_job_last_exit_code{job="night"} 0' in metrics.read_text()
    assert stat.S_IMODE(metrics.stat().st_mode) == 0o644
    night.write("[notify]", f'metrics = "{night.top}/none/encvault.prom"')
    assert any("none/encvault.prom" in note for note in night.outcome()["notes"])
    assert night.job("check", codes=(66, 73, 74)).code


def test_the_journal_gets_priorities(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.write()
    error = night.top / "stderr"
    with error.open("w") as file:
        status = os.fstat(file.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        command = [sys.executable, "-m", "encvault", "job", "run"]
        for name in (night.file, night.top / "none.toml"):
            subprocess.run([*command, str(name)], stderr=file, env=environment, check=False)
        night.write(sources=[str(night.top / "gone")])
        subprocess.run([*command, str(night.file)], stderr=file, env=environment, check=False)
    lines = error.read_text().splitlines()
    assert any(line.startswith("<6>encvault: night: done") for line in lines)
    assert any(line.startswith("<3>encvault: night: failed") for line in lines)


def test_a_run_is_in_the_access_log(night: Night) -> None:
    night.write()
    night.outcome()
    night.write(sources=[str(night.top / "gone")])
    night.outcome(code=66)
    entries = [json.loads(line) for line in night.run("log", "show", "--json").out.splitlines()]
    runs = [entry for entry in entries if entry["op"] == "job.run"]
    assert [(one["outcome"], one["detail"]) for one in runs] == [
        ("ok", "night"),
        ("failed", "night"),
    ]
    assert runs[0]["count"] == 8
    assert runs[1]["error"] == "SourceMissing"


@pytest.mark.parametrize("age", ["", "26", "x", "-1h"])
def test_an_age_that_is_none_is_refused(run: Command, age: str) -> None:
    assert run("job", "status", "--max-age", age).code == 2


def test_a_job_whose_work_is_old_is_told(night: Night) -> None:
    night.write()
    night.outcome()
    checked = json.loads(night.job("check", "--json").out)
    status = os.path.join(checked["records"], "status.json")
    with open(status, encoding="utf-8") as file:
        text = file.read()
    with open(status, "w", encoding="utf-8") as file:
        file.write(text.replace('"ended_at": "2', '"ended_at": "1'))
    told = night.job("status", "--max-age", "26h", codes=(3,))
    assert "its work was last done" in told.err
    assert "hint: see what happened with: encvault job logs night" in told.err
    assert night.job("status").code == 0
