"""``encvault job watch``: the drop folder as a service runs it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from encvault.jobs.finding import load_job
from encvault.jobs.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helpers import Command

PATIENCE_S = 60.0  # on a machine that others use too
MAIN = [sys.executable, "-m", "encvault"]


class Watcher:
    """``job watch``, running; killed at the end of the test if it was not ended."""

    all: ClassVar[list[Watcher]] = []

    def __init__(self, job: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*MAIN, "job", "watch", job, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.all.append(self)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, is_meant: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that is meant."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            self.seen.append(line)
            event: dict[str, Any] = json.loads(line)
            if is_meant(event):
                return event

    def until_told(self, kind: str, path: Path | None = None) -> dict[str, Any]:
        def is_meant(event: dict[str, Any]) -> bool:
            return event["event"] == kind and (path is None or event["path"] == str(path))

        return self.until(is_meant)

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Stop it as a service is stopped: code, what it said from then on, and to people."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        return (code, *self.close())

    def close(self) -> tuple[str, str]:
        self.all.remove(self)
        self.process.kill()
        self.process.wait()
        self._reader.join()
        while not self._lines.empty():
            self.seen.append(self._lines.get())
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        told = self.process.stderr.read()
        self.process.stderr.close()
        return "".join(self.seen), told


@pytest.fixture(autouse=True)
def _no_watcher_stays() -> Iterator[None]:
    yield
    for watcher in list(Watcher.all):
        watcher.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


@pytest.fixture
def job(run: Command, tmp_path: Path, folder: Path) -> Path:
    """A job that seals what comes to lie in the folder, for a key, without a secret."""
    key = tmp_path / "key"
    (tmp_path / "key.pub").write_text(run("key", "new", "--no-password", "-o", key).out)
    path = tmp_path / "inbox.toml"
    path.write_text(f"""\
version = 1
sources = ["{folder}"]
mode = "in-place"
recipients = ["{tmp_path}/key.pub"]
trigger = "on-change"
settle = "1s"
exclude = ["*.log"]
""")
    return path


def test_it_seals_what_comes_and_records_it(
    run: Command, job: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "early").write_text("early")
    (folder / "left.log").touch()
    watcher = Watcher(job, "--json")
    event = watcher.until_told("sealed", folder / "early")
    assert event["size"] == 5
    assert event["error"] is None
    (folder / "late").write_text("late")
    watcher.until_told("sealed", folder / "late")
    code, out, err = watcher.end()
    assert code == 143
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    assert err == ""
    assert sorted(path.name for path in folder.iterdir()) == [
        ".encvault",
        "early.sealed",
        "late.sealed",
        "left.log",
    ]
    recorded = [json.loads(line) for line in run("log", "show", "--json").out.splitlines()]
    sealed = [entry["path"] for entry in recorded if entry["op"] == "seal"]
    assert sealed == [str(folder / "early"), str(folder / "late")]
    assert run("open", folder, "--to", tmp_path / "to", "-i", tmp_path / "key").code == 0
    assert (tmp_path / "to" / "late").read_text() == "late"


def test_people_read_lines_and_are_told_what_failed(run: Command, job: Path, folder: Path) -> None:
    (folder / "one").write_text("1")
    (folder / "one.sealed").write_text("in the way")
    watcher = Watcher(job)
    assert watcher.process.stderr is not None
    line = watcher.process.stderr.readline()
    assert f"encvault: {folder / 'one'}" in line
    code, out, _err = watcher.end(signal.SIGINT)
    assert code == 130
    assert f"{folder}  is watched" in out


def test_quiet_tells_only_what_failed(run: Command, job: Path, folder: Path) -> None:
    (folder / "one").write_text("1")
    watcher = Watcher(job, "--quiet")
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "one.sealed").exists() or (folder / "one").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert watcher.end()[1:] == ("", "")


def test_a_second_signal_does_not_wait(run: Command, job: Path, folder: Path) -> None:
    watcher = Watcher(job, "--json")
    watcher.until_told("watching")
    watcher.process.send_signal(signal.SIGTERM)
    ended = watcher.end(signal.SIGTERM)
    assert ended[0] in (143, -signal.SIGTERM), ended


def test_a_job_with_a_schedule_is_refused(run: Command, job: Path) -> None:
    text = job.read_text().replace('settle = "1s"\n', "")
    job.write_text(text.replace('trigger = "on-change"', 'trigger = "schedule"'))
    ran = run("job", "watch", job)
    assert ran.code == 2
    assert 'trigger = "on-change"' in ran.err


def test_it_runs_once(run: Command, job: Path) -> None:
    watcher = Watcher(job, "--json")
    watcher.until_told("watching")
    assert run("job", "watch", job).code == 75
    watcher.end()


def test_keys_that_do_not_fit_end_it(run: Command, job: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text(run("key", "new", "--no-password", "-o", tmp_path / "other").out)
    assert run("init", folder, "-r", other).code == 0
    (folder / "one").touch()
    ran = run("job", "watch", job)
    assert ran.code == 77, ran.err
    assert (folder / "one").exists()


def test_a_password_comes_from_systemd_or_is_said_to_be_missing(
    run: Command, job: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for line in job.read_text().splitlines() if "recipients" not in line]
    job.write_text("\n".join([*lines, "[secret]", 'credential = "nightly"', ""]))
    ran = run("job", "watch", job)
    assert ran.code == 78, ran.err
    (tmp_path / "nightly").write_text("a long enough password\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (folder / "one").touch()
    watcher = Watcher(job, "--json")
    watcher.until_told("sealed", folder / "one")
    assert watcher.end()[0] == 143
    slots = json.loads(run("slot", "list", folder, "--json").out)["slots"]
    assert [slot["kind"] for slot in slots] == ["password"]


def test_its_run_is_recorded(run: Command, job: Path, folder: Path) -> None:
    (folder / "one").write_text("1")
    (folder / "bad").write_text("2")
    (folder / "bad.sealed").write_text("in the way")
    watcher = Watcher(job, "--json")
    watcher.until_told("failed", folder / "bad")
    records = Records.of(load_job(str(job)), f"{os.environ['XDG_STATE_HOME']}/encvault")
    found = records.known().last
    assert found is not None
    assert found.state == "running"
    watcher.end()
    found = records.known().last
    assert found is not None
    assert (found.state, found.exit_code, found.failed) == ("stopped", 143, 1)
    assert found.errors[0]["path"] == str(folder / "bad")


def test_without_the_library_it_says_how_to_get_it(
    run: Command, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    ran = run("job", "watch", job)
    assert ran.code == 69
    assert "hint: install it: pip install 'encvault[watch]'" in ran.err


@pytest.mark.slow
def test_killed_again_and_again_it_loses_nothing(
    run: Command, job: Path, folder: Path, tmp_path: Path
) -> None:
    job.write_text(job.read_text().replace('"1s"', '"0s"'))
    content = {f"{number}": os.urandom(3000) for number in range(1200)}
    names = iter(content)
    for number in range(6):
        for name in [next(names) for _count in range(200)]:
            (folder / name).write_bytes(content[name])
        watcher = Watcher(job, "--json")
        watcher.until_told("watching")
        time.sleep(0.05 + number * 0.11)  # wherever it is then
        watcher.kill()
    watcher = Watcher(job, "--json")
    watcher.until_told("watching")
    deadline = time.monotonic() + PATIENCE_S
    while left := [name for name in content if (folder / name).exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert watcher.end()[0] == 143
    assert run("open", folder, "--to", tmp_path / "to", "-i", tmp_path / "key").code == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()}
    assert found == content
