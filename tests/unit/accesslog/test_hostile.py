"""What readers who meant harm found; each stays found."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY
from logs import (
    CANNOT,
    DAYS,
    TAMPERED,
    UNANCHORED,
    Days,
    Signer,
    entry,
    lines_of,
    make_log,
    notes_of,
    record,
    rules,
    signed,
    write_log,
)

from encvault.accesslog import log as log_module
from encvault.accesslog.epochs import published_key
from encvault.accesslog.log import AccessLog
from encvault.accesslog.verifying import verify
from encvault.accesslog.witness import contradicts
from encvault.errors import ClockWrong, LogDamaged, LogUnavailable
from encvault.fs import calls, locks
from encvault.fs.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path


# -- where a log begins ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["key", "state", "offsets", "notes.txt"])
def test_a_folder_of_somebody_is_left_alone(tmp_path: Path, clock: Days, name: str) -> None:
    (tmp_path / "docs").mkdir(mode=0o700)
    (tmp_path / "docs" / name).write_text("mine")
    log = AccessLog(str(tmp_path / "docs"), clock=clock, days=DAYS)
    with pytest.raises(LogUnavailable, match="is not of a log"):
        record(log)
    assert {path.name: path.read_text() for path in (tmp_path / "docs").iterdir()} == {name: "mine"}


def test_a_folder_that_others_can_change(tmp_path: Path, clock: Days) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(LogUnavailable, match="others may write"):
        record(AccessLog(str(tmp_path / "open"), clock=clock, days=DAYS))
    assert not list((tmp_path / "open").iterdir())


def test_a_folder_of_another_user(
    tmp_path: Path, clock: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "his").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    with pytest.raises(LogUnavailable, match="another user"):
        record(AccessLog(str(tmp_path / "his"), clock=clock, days=DAYS))


@pytest.mark.parametrize(
    "start", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)]
)
def test_a_clock_that_lost_its_time_begins_no_log(tmp_path: Path, start: datetime) -> None:
    with pytest.raises(ClockWrong):
        record(AccessLog(str(tmp_path / "log"), clock=Days(start), days=DAYS))
    assert not (tmp_path / "log").exists()


def test_a_clock_that_leaps_closes_no_years(tmp_path: Path) -> None:
    clock = Days()
    log = AccessLog(str(tmp_path / "log"), clock=clock, days=1000)
    record(log)
    clock.pass_(days=191)
    before = (tmp_path / "log" / "key").read_bytes()
    with pytest.raises(ClockWrong):
        record(log)
    assert (tmp_path / "log" / "key").read_bytes() == before
    clock.pass_(days=-1)
    record(log)
    assert verify(log.path).verdict is UNANCHORED


# -- whether something could be recorded ----------------------------------------------------


def test_ready_makes_the_log_and_tells_it_later(tmp_path: Path, clock: Days) -> None:
    log = AccessLog(str(tmp_path / "log"), clock=clock, days=DAYS)
    log.ready()
    log.ready()
    assert log.record([{"op": "open", "outcome": "ok"}]).made
    assert not log.record([{"op": "open", "outcome": "ok"}]).made


def test_not_ready(log: AccessLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "entries").rename(path / "away")
    with pytest.raises(LogUnavailable, match="entries"):
        log.ready()
    (path / "away").rename(path / "entries")
    log.ready()
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255))
    monkeypatch.setattr("os.fstatvfs", lambda _fd: full)
    with pytest.raises(LogUnavailable, match=os.strerror(errno.ENOSPC)):
        log.ready()


# -- who it was -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("map_", "uid"),
    [
        ("", os.getuid()),
        (f"{os.getuid()} 1000 1", 1000),
        (f"{os.getuid() + 1} 5 1\n{os.getuid()} 1000 1\n", 1000),
        ("0 0 4294967295", os.getuid()),
    ],
)
def test_nobody_becomes_root_by_a_namespace(
    monkeypatch: pytest.MonkeyPatch, map_: str, uid: int
) -> None:
    monkeypatch.setattr(log_module, "_proc", lambda name: map_ if name == "self/uid_map" else "")
    assert log_module._who()["uid"] == uid


# -- derived files that lie, keys that are not the log's ------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        {"line": "x"},
        {"line": 5},
        {"line": '{"ts":"2026-11-04T09:00:00.000000Z"}'},
        {"epoch": 9},
        {"epoch": 0},
        {"epoch": "two"},
        {"epoch": 10_000},
    ],
)
def test_what_is_remembered_of_the_entries_is_not_believed(
    log: AccessLog, path: Path, lie: dict[str, object]
) -> None:
    seed = (path / "key").read_bytes()
    state = json.loads((path / "state").read_bytes())
    state["memo"] |= lie
    (path / "state").write_text(json.dumps(state))
    record(log)
    assert (path / "key").read_bytes() == seed
    assert verify(str(path)).verdict is UNANCHORED


def test_memo_without_its_line(log: AccessLog, path: Path) -> None:
    state = json.loads((path / "state").read_bytes())
    del state["memo"]["line"]
    (path / "state").write_text(json.dumps(state))
    record(log)
    assert verify(str(path)).verdict is UNANCHORED


def test_the_last_entry_was_changed(log: AccessLog, path: Path) -> None:
    data = (path / "entries").read_bytes()
    (path / "entries").write_bytes(data[:-40].replace(b"/a/2", b"/a/x") + data[-40:])
    with pytest.raises(LogDamaged):
        record(log)


def test_a_key_that_is_not_the_published_one(log: AccessLog, path: Path) -> None:
    epoch, seed = (path / "key").read_bytes().split()
    other = bytes([base64.b64decode(seed)[0] ^ 1]) + base64.b64decode(seed)[1:]
    (path / "key").write_bytes(epoch + b" " + base64.b64encode(other) + b"\n")
    before = lines_of(path)
    with pytest.raises(LogDamaged, match="published"):
        record(log)
    assert lines_of(path) == before


def test_published_keys(path: Path) -> None:
    rows = (path / "policy").read_text().splitlines()
    with Tree(str(path)) as tree:
        assert published_key(tree, 7).encode() == rows[7].removeprefix("log ")
        for epoch in (DAYS, DAYS + 1):
            with pytest.raises(ValueError):  # noqa: PT011 - the reason is not shown
                published_key(tree, epoch)


def test_what_was_moved_away_is_told_though_the_run_failed(
    log: AccessLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (path / "entries").open("ab") as file:
        file.write(b"half")

    def full(name: str, _fd: int, _target: str) -> None:
        if name == "write_at":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as at_the_write:
        at_the_write.setattr(calls, "probe", full)
        with pytest.raises(LogUnavailable):
            record(log)
    assert len(list(path.glob("torn-*"))) == 1
    record(log)
    assert [json.loads(line)["op"] for line in lines_of(path)].count("log.recover") == 1


def test_a_seed_whose_overwriting_was_stopped_is_overwritten_by_the_next_run(
    log: AccessLog, path: Path, clock: Days, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(path / "key", tmp_path / "witness")
    seed = (path / "key").read_bytes()
    clock.pass_(days=1)
    seen: list[str] = []

    def stop(name: str, _fd: int, target: str) -> None:
        seen.append(name)
        if name == "write_at" and "replace" in seen[-5:] and target == "":
            raise KeyboardInterrupt

    monkeypatch.setattr(calls, "probe", stop)
    with pytest.raises(KeyboardInterrupt):
        record(log)
    monkeypatch.setattr(calls, "probe", None)
    assert (tmp_path / "witness").read_bytes() == seed
    record(log)
    assert not any((tmp_path / "witness").read_bytes())
    assert sorted(found.name for found in path.glob(".encvault*")) == []
    assert verify(str(path)).verdict is UNANCHORED


def test_a_lock_file_that_is_removed_locks_nobody_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the one that is gone takes the new one."""
    tries: list[int] = []

    def locked(fd: int) -> bool:
        tries.append(fd)
        if len(tries) == 1:
            (path / "lock").unlink()
        return True

    monkeypatch.setattr(locks, "_try_lock", locked)
    with Tree(str(path)) as tree, locks.alone(tree, "lock", 5):
        assert os.path.samestat((path / "lock").stat(), os.fstat(tries[-1]))
    assert len(tries) == 2


# -- a log that was put back ----------------------------------------------------------------


def test_a_log_that_was_put_back_contradicts_its_witness(
    log: AccessLog, path: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(path, earlier)
    kept = record(log)
    assert not contradicts(str(path), lambda _log_id: kept)
    assert contradicts(str(earlier), lambda _log_id: kept)
    record(AccessLog(str(earlier), clock=log.clock), user="somebody else")
    assert contradicts(str(earlier), lambda _log_id: kept)  # as long, and another
    shutil.rmtree(earlier / "tile")
    assert contradicts(str(earlier), lambda _log_id: kept)
    shutil.rmtree(path / "tile")
    assert not contradicts(str(path), lambda _log_id: kept)


def test_a_long_log_and_its_witness(log: AccessLog, path: Path) -> None:
    kept = [record(log) for _number in range(60)]
    assert (path / "checkpoints").stat().st_size > 8192
    assert not any(contradicts(str(path), lambda _log_id, note=note: note) for note in kept)


def test_what_no_log_signed_is_no_witness(log: AccessLog, path: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(path, earlier)
    kept = record(log)
    text = kept.partition(b"\n\n")[0].decode() + "\n"
    origin = text.split("\n")[0]
    stranger = Signer(origin, 0, b"s" * 32).key(0)
    for note in (None, b"nonsense", kept[:-9], signed(text, origin, stranger)):
        assert not contradicts(str(earlier), lambda _log_id, note=note: note)


# -- what a checker is given ----------------------------------------------------------------


def test_policy_that_is_a_pipe(path: Path) -> None:
    (path / "policy").unlink()
    os.mkfifo(path / "policy")
    assert verify(str(path)).verdict is CANNOT


def test_what_others_put_into_a_vault_is_no_evidence(
    log: AccessLog, path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "vault" / ".encvault" / "checkpoints"
    folder.mkdir(parents=True)
    note = record(log)
    (folder / "genuine").write_bytes(note)
    text = note.partition(b"\n\n")[0].decode() + "\n"
    origin = text.split("\n")[0]
    (folder / "zzz").write_bytes(signed(text, origin, Signer(origin, 0, b"s" * 32).key(0)))
    (folder / "folder").mkdir()
    audit = verify(str(path), anchors=[str(tmp_path / "vault")])
    assert audit.verdict.value == "ANCHORED-OK"
    assert {note.rule for note in audit.notes} == {"anchor-forged", "anchor-malformed"}


@pytest.mark.parametrize("first", [False, True])
def test_a_second_signature_of_a_later_day(path: Path, *, first: bool) -> None:
    own = Signer.stolen(path)
    *notes, last = notes_of(path)
    text, _empty, lines = last.partition(b"\n\n")
    later = signed(text.decode() + "\n", own.origin, own.key(own.epoch + 1)).partition(b"\n\n")[2]
    both = later + lines if first else lines + later
    write_log(path, lines_of(path), [*notes, text + b"\n\n" + both])
    audit = verify(str(path))
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"key"})


def test_an_entry_of_a_later_version_is_not_judged(path: Path) -> None:
    own = Signer.stolen(path)
    lines = lines_of(path)
    lines.append(entry(lines[-1], v=2, more="x"))
    write_log(path, lines, [*notes_of(path), own.checkpoint(lines)])
    audit = verify(str(path))
    assert (audit.verdict, rules(audit)) == (CANNOT, {"version"})


def test_a_day_that_does_not_exist(tmp_path: Path) -> None:
    clock = Days(datetime(2026, 11, 30, 9, tzinfo=UTC))
    path = tmp_path / "log"
    make_log(path, clock, days=1)
    own = Signer.stolen(path)
    lines = lines_of(path)
    lines.append(entry(lines[-1], ts="2026-11-31T00:00:00.000000Z"))
    write_log(path, lines, [*notes_of(path), own.checkpoint(lines)])
    assert "entry" in rules(verify(str(path)))
