"""The one writer: days, crashes, clocks, forks and threads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fault import processes
from logs import (
    DAYS,
    START,
    UNANCHORED,
    Days,
    Signer,
    is_end,
    lines_of,
    make_log,
    noted,
    notes_of,
    record,
    size_of,
    write_log,
)

from encvault.accesslog import log as log_module
from encvault.accesslog.log import AccessLog, Clock
from encvault.accesslog.verifying import verify
from encvault.errors import LogBusy, LogDamaged, LogExhausted, LogUnavailable
from encvault.fs import calls

if TYPE_CHECKING:
    from pathlib import Path


def members_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(path)]


def ops_of(path: Path) -> list[str]:
    return [members["op"] for members in members_of(path)]


# -- the beginning --------------------------------------------------------------------------


def test_new_log(tmp_path: Path, clock: Days) -> None:
    path = tmp_path / "state" / "log"
    log = AccessLog(str(path), clock=clock, days=DAYS)
    event = {"op": "open", "outcome": "ok", "path": "/a"}
    recorded = log.record([event], vault="v" * 26)
    assert recorded.made
    assert recorded.checkpoint == notes_of(path)[-1]
    assert Signer.stolen(path).origin == f"encvault-log/{recorded.log_id}/2026-11-02"
    first, second = members_of(path)
    assert first["op"] == "log.init"
    assert (
        second.items() >= {**event, "vault": "v" * 26, "ts": "2026-11-02T09:00:00.000000Z"}.items()
    )
    assert (
        second.items() >= {"v": 1, "uid": os.getuid(), "pid": os.getpid(), "boot": "6f1c"}.items()
    )
    assert "vault" not in first
    assert path.stat().st_mode & 0o777 == 0o700
    modes = {name: (path / name).stat().st_mode & 0o777 for name in ("key", "policy", "entries")}
    assert modes == {"key": 0o600, "policy": 0o644, "entries": 0o600}
    assert not log.record([event]).made
    assert [size_of(note) for note in notes_of(path)] == [1, 2, 3]


def test_begun(tmp_path: Path, clock: Days) -> None:
    log = AccessLog(str(tmp_path / "log"), clock=clock, days=DAYS)
    assert log.begin()
    assert not log.begin()
    assert ops_of(tmp_path / "log") == ["log.init"]


def test_nothing_to_record(log: AccessLog, path: Path) -> None:
    before = notes_of(path)
    assert log.record([]).checkpoint == before[-1]
    assert notes_of(path) == before


def test_the_clock_of_the_system() -> None:
    clock = Clock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.up_ms() > 0
    assert clock.boot() == log_module._proc("sys/kernel/random/boot_id")
    assert log_module._proc("none/such") == ""


def test_killed_before_the_first_entry(tmp_path: Path, clock: Days) -> None:
    """The next run begins the log, perhaps on another day."""
    log = AccessLog(str(tmp_path / "log"), clock=clock, days=DAYS)
    assert log._made()
    assert not log._made()
    clock.pass_(days=2)
    record(log)
    assert ops_of(tmp_path / "log") == ["log.init", "log.epoch", "log.epoch", "open"]
    assert verify(str(tmp_path / "log")).verdict is UNANCHORED


def test_made_by_another_meanwhile(
    log: AccessLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (path / "policy").read_bytes()
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    assert not log.record([]).made
    assert (path / "policy").read_bytes() == before


def test_clock_that_goes_back_before_the_first_entry(tmp_path: Path, clock: Days) -> None:
    log = AccessLog(str(tmp_path / "log"), clock=clock, days=DAYS)
    assert log._made()
    clock.at -= timedelta(days=3)
    record(log)
    first = members_of(tmp_path / "log")[0]
    assert (first["ts"], first["wall"]) == (
        "2026-11-02T00:00:00.000000Z",
        "2026-10-30T09:00:00.000000Z",
    )
    assert verify(str(tmp_path / "log")).verdict is UNANCHORED
    clock.pass_(days=4)
    record(log)
    assert verify(str(tmp_path / "log")).verdict is UNANCHORED


def test_policy_gone(log: AccessLog, path: Path) -> None:
    (path / "policy").unlink()
    with pytest.raises(LogDamaged, match="its policy is missing"):
        record(log)


def test_policy_that_is_none(log: AccessLog, path: Path) -> None:
    (path / "policy").write_text("nonsense\n")
    with pytest.raises(LogDamaged, match="its policy is none"):
        record(log)


# -- days -----------------------------------------------------------------------------------


def test_days_end_busy_or_not(log: AccessLog, path: Path, clock: Days) -> None:
    clock.pass_(days=3)
    record(log)
    lines, notes = lines_of(path), notes_of(path)
    ends = [index + 1 for index, line in enumerate(lines) if is_end(line)]
    assert [json.loads(lines[end - 1])["epoch"] for end in ends] == [0, 1, 2, 3, 4]
    assert set(ends) <= {size_of(note) for note in notes}
    closings = (path / "closings").read_bytes()
    data = (path / "checkpoints").read_bytes()
    for day, end in enumerate(ends):
        at = int.from_bytes(closings[day * 8 : day * 8 + 8])
        assert data[at:].startswith(b"encvault-log/")
        assert size_of(data[at:]) == end
    assert Signer.stolen(path).epoch == 5
    assert verify(str(path)).verdict is UNANCHORED


def test_seed_of_a_later_day_is_refused(log: AccessLog, path: Path, clock: Days) -> None:
    """Entries were taken away, and the key tells so."""
    copies = {name: (path / name).read_bytes() for name in ("entries", "checkpoints", "checkpoint")}
    clock.pass_(days=1)
    record(log)
    for name, data in copies.items():
        (path / name).write_bytes(data)
    (path / "state").unlink()
    with pytest.raises(LogDamaged, match="its key is of a later day than its entries"):
        record(log)


def test_killed_before_the_seed_was_replaced(log: AccessLog, path: Path, clock: Days) -> None:
    key = (path / "key").read_bytes()
    clock.pass_(days=2)
    record(log)
    (path / "key").write_bytes(key)
    record(log)
    assert Signer.stolen(path).epoch == 4
    assert verify(str(path)).verdict is UNANCHORED


def test_key_that_is_none(log: AccessLog, path: Path) -> None:
    (path / "key").write_text("nonsense")
    with pytest.raises(LogDamaged, match="holds no key"):
        record(log)


def test_exhausted(log: AccessLog, path: Path, clock: Days) -> None:
    clock.at = START + timedelta(days=DAYS - 1)
    record(log)
    before = lines_of(path)
    clock.pass_(days=1)
    with pytest.raises(LogExhausted) as raised:
        record(log)
    assert (raised.value.last, raised.value.today) == ("2026-12-11", "2026-12-12")
    assert lines_of(path) == before
    assert verify(str(path)).verdict is UNANCHORED


def test_closings_that_cannot_be_written(log: AccessLog, path: Path, clock: Days) -> None:
    (path / "closings").unlink()
    (path / "closings").mkdir()
    clock.pass_(days=1)
    record(log)
    assert verify(str(path)).verdict is UNANCHORED


# -- clocks ---------------------------------------------------------------------------------


def test_clock_back(log: AccessLog, path: Path, clock: Days) -> None:
    clock.at -= timedelta(days=1)
    record(log)
    step, last = members_of(path)[-2:]
    assert (step["op"], step["step_ms"]) == ("log.clock", -86_400_000)
    assert last["ts"] == "2026-11-04T09:00:00.000000Z"
    assert last["wall"] == "2026-11-03T09:00:00.000000Z"
    clock.pass_(minutes=1)  # still behind, and no further step
    record(log)
    assert ops_of(path)[-2:] == ["open", "open"]
    assert verify(str(path)).verdict is UNANCHORED


def test_clock_forward(log: AccessLog, path: Path, clock: Days) -> None:
    clock.at += timedelta(hours=2)
    clock.up += 1000
    record(log)
    assert [one.get("step_ms") for one in members_of(path)[-2:]] == [7_199_000, None]


def test_clock_that_only_drifts(log: AccessLog, path: Path, clock: Days) -> None:
    clock.at += timedelta(hours=2, seconds=6)
    clock.up += 7_200_000
    record(log)
    assert "log.clock" not in ops_of(path)


def test_clock_after_a_boot(
    log: AccessLog, path: Path, clock: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it was off nobody knows; only a time before the last entry shows."""
    monkeypatch.setattr(Days, "boot", lambda self: "77")
    clock.up = 5
    clock.at += timedelta(hours=5)
    record(log)
    assert "log.clock" not in ops_of(path)
    monkeypatch.setattr(Days, "boot", lambda self: "78")
    clock.at -= timedelta(hours=1)
    record(log)
    assert members_of(path)[-2]["step_ms"] == -3_600_000


# -- settings -------------------------------------------------------------------------------


def test_settings_are_recorded_when_they_change(log: AccessLog, path: Path) -> None:
    log.paths = "name"
    record(log, path="/a/b")
    record(log, path="/a/b")
    log.paths, log.required = "full", False
    record(log)
    found = [one.get("detail") for one in members_of(path) if one["op"] == "config"]
    assert found == ["paths=name required=yes", "paths=full required=no"]
    assert members_of(path)[-4]["path"] == "b"
    (path / "state").unlink()
    record(log)
    assert ops_of(path).count("config") == 2


# -- crashes --------------------------------------------------------------------------------


def test_recovery_is_recorded(log: AccessLog, path: Path) -> None:
    whole = lines_of(path)[-1] + b"\nhalf"
    with (path / "entries").open("ab") as file:
        file.write(whole)
    record(log)
    found = members_of(path)[-2]
    assert (
        found.items()
        >= {
            "op": "log.recover",
            "detail": f"torn-entries-{hashlib.sha256(whole).hexdigest()[:16]}.bin",
            "size": len(whole),
            "count": 1,
        }.items()
    )
    assert (path / found["detail"]).read_bytes() == whole
    record(log)
    assert ops_of(path).count("log.recover") == 1
    assert noted(verify(str(path))) == {"recovered"}


def test_changed_log_is_not_added_to(log: AccessLog, path: Path) -> None:
    lines = lines_of(path)
    write_log(path, [lines[0], *lines[2:]], notes_of(path))
    with pytest.raises(LogDamaged):
        record(log)
    assert lines_of(path) == [lines[0], *lines[2:]]


def test_full_disk(log: AccessLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (path / name).read_bytes() for name in ("entries", "checkpoints", "key")}

    def full(name: str, _fd: int, _target: str) -> None:
        if name == "write_at":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(calls, "probe", full)
    with pytest.raises(LogUnavailable):
        record(log)
    monkeypatch.setattr(calls, "probe", None)
    assert {name: (path / name).read_bytes() for name in before} == before
    record(log)
    assert verify(str(path)).verdict is UNANCHORED


# -- others ---------------------------------------------------------------------------------


def test_busy(log: AccessLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_PATIENCE", 0.05)
    with (path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LogBusy):
            record(log)
    record(log)


def test_two_threads(path: Path, log: AccessLog) -> None:
    threads = [
        threading.Thread(target=lambda: [record(log) for _time in range(10)]) for _one in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ops_of(path).count("open") == 9 + 20
    assert verify(str(path)).verdict is UNANCHORED


def test_forked_process(path: Path, log: AccessLog) -> None:
    record(log)
    assert processes.wait(processes.fork(lambda: bool(record(log)) and 0)) == 0
    mine, theirs = members_of(path)[-2:]
    assert mine["pid"] == os.getpid() != theirs["pid"]
    assert mine["run"] != theirs["run"]


def test_batches(tmp_path: Path, clock: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encvault.accesslog.writing.MAX_BATCH", 4)
    log = AccessLog(str(tmp_path / "log"), clock=clock, days=DAYS)
    record(log, 10)
    assert [size_of(note) for note in notes_of(tmp_path / "log")] == [1, 5, 9, 11]


def test_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    log = make_log(tmp_path / "log", Days(), days=1, each=1)
    assert log.path
    assert members_of(tmp_path / "log")[-1]["user"] == "4000000"


def test_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who it was before sudo."""
    found = {"self/loginuid": "1001"}
    monkeypatch.setattr(log_module, "_proc", lambda name: found.get(name, ""))
    monkeypatch.setattr(log_module, "_own_uid", lambda: 0)
    make_log(tmp_path / "a", Days(), days=1, each=1)
    assert members_of(tmp_path / "a")[-1]["login"] == 1001
    found["self/loginuid"] = "4294967295"
    make_log(tmp_path / "b", Days(), days=1, each=1)
    assert "login" not in members_of(tmp_path / "b")[-1]
