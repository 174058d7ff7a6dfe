"""What is known of runs: whole, truthful, and of one job."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fault.processes import fork, wait
from helpers import NOBODY, in_child

from encvault.errors import JobRecordsOfAnother, JobRecordsUnusable, JobRunning
from encvault.jobs.jobfile import Job
from encvault.jobs.records import MAX_RUNS, Known, Outcome, Records, moment, now_text
from encvault.jobs.telling import metrics_text


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.of(job(tmp_path), str(tmp_path / "state"))


def job(folder: Path) -> Job:
    return Job("night", str(folder / "night.toml"), ("/a",), "mirror", destination="/b")


def ended(state: str = "ok", code: int = 0, **more: object) -> Outcome:
    outcome = replace(Outcome.begun("night"), ended_at=now_text(), state=state, exit_code=code)
    return replace(outcome, **more)  # type: ignore[arg-type]


def test_nothing_is_known_of_a_job_that_never_ran(records: Records) -> None:
    assert records.known() == Known()
    assert records.history() == []
    assert not records.is_running()
    assert not Path(records.folder).exists()  # to look makes nothing


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")
def test_what_root_writes_is_of_the_user_whose_the_records_are(records: Records) -> None:
    with records.alone(0):
        os.chown(records.folder, NOBODY, NOBODY)
        records.begin(ended("running"))
        records.end(ended())
    for name in ("status.json", "history.jsonl"):
        status = Path(records.folder, name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    ("uid", "name"), [(NOBODY, "nobody"), (54_321, "#54321")], ids=["named", "nameless"]
)
@pytest.mark.parametrize("left", ["", "lock", "history.jsonl"])
def test_who_is_kept_out_by_what_root_left_is_told_so(
    public_path: Path, left: str, uid: int, name: str
) -> None:
    records = Records.of(job(public_path), str(public_path / "state"))

    def run() -> None:
        with records.alone(0):
            records.begin(ended("running"))
            records.end(ended())

    run()
    run()  # reads what the first has left: not every user can load the modules for that
    state = public_path / "state"
    for path in (state, *state.rglob("*")):
        os.chown(path, uid, uid)
    in_child(run, uid=uid)
    path = Path(records.folder, left)  # the folder itself, if it is ""
    os.chown(path, 0, 0)
    with pytest.raises(JobRecordsOfAnother) as caught:
        in_child(run, uid=uid)
    told = f"{path} belongs to the user root, and the user {name} cannot use it"
    assert str(caught.value) == told
    subprocess.run(str(caught.value.hint).partition(": ")[2], shell=True, check=True)  # noqa: S602 - what people copy
    in_child(run, uid=uid)


def test_the_last_run_and_the_last_success_are_kept(records: Records) -> None:
    good, bad = ended(files=3), ended("failed", 74, errors=({"error": "X"},))
    for outcome in (good, bad):
        with records.alone(0):
            records.begin(replace(outcome, state="running", ended_at=""))
            assert records.known().last is not None
            assert records.known().last.state == "running"  # type: ignore[union-attr]
            records.end(outcome)
    assert records.known() == Known(bad, good)
    assert records.history() == [good, bad]
    assert [one.is_good for one in (good, bad)] == [True, False]


@pytest.mark.parametrize(
    ("state", "code", "is_good"),
    [("ok", 0, True), ("partial", 0, True), ("partial", 3, False), ("skipped", 75, False)],
)
def test_only_work_that_was_done_is_a_success(
    records: Records, state: str, code: int, *, is_good: bool
) -> None:
    outcome = ended(state, code)
    with records.alone(0):
        records.begin(outcome)
        records.end(outcome)
    assert (records.known().success == outcome) == is_good


def test_a_killed_run_is_seen_as_that_and_stays_in_the_history(records: Records) -> None:
    begun = Outcome.begun("night")

    def run() -> int:
        with records.alone(0):
            records.begin(begun)
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert wait(fork(run)) == -signal.SIGKILL
    last = records.known().last
    assert last is not None
    assert (last.run, last.state, last.exit_code) == (begun.run, "interrupted", 1)
    with records.alone(0):  # it left no lock
        records.begin(Outcome.begun("night"))
    assert [one.state for one in records.history()] == ["interrupted"]


def test_one_run_at_a_time(records: Records) -> None:
    with records.alone(0):
        assert records.is_running()

        def another() -> int:
            try:
                with records.alone(0.05):
                    return 0
            except JobRunning as error:
                return error.exit_code

        assert wait(fork(another)) == 75
    assert not records.is_running()


def test_two_files_of_one_name_are_two_jobs(tmp_path: Path) -> None:
    one, other = (Records.of(job(tmp_path / name), str(tmp_path)) for name in "ab")
    with one.alone(0), other.alone(0):
        one.end(ended())
        assert other.known() == Known()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"last": {"job": 1}, "success": null}', b'{"last": null}']
)
def test_damaged_records_are_told_and_replaced_by_the_next_run(
    records: Records, damage: bytes
) -> None:
    with records.alone(0):
        records.end(ended())
        (Path(records.folder) / "status.json").write_bytes(damage)
        with pytest.raises(JobRecordsUnusable, match="damaged"):
            records.known()
        records.begin(Outcome.begun("night"))
        outcome = ended("failed", 74)
        records.end(outcome)
    assert records.known() == Known(outcome, None)  # no success is invented


def test_a_state_that_nobody_knows_is_damage(records: Records) -> None:
    with records.alone(0):
        records.end(ended())
    path = Path(records.folder) / "status.json"
    path.write_text(path.read_text().replace('"state": "ok"', '"state": "great"'))
    with pytest.raises(JobRecordsUnusable):
        records.known()


def test_the_history_is_bounded_and_survives_a_torn_line(records: Records) -> None:
    with records.alone(0):
        records.end(ended())
        path = Path(records.folder) / "history.jsonl"
        path.write_bytes(path.read_bytes() * (MAX_RUNS + 20) + b'{"job": "ni')
        records.end(ended("failed", 1))
        found = records.history()
    assert len(found) == MAX_RUNS
    assert found[-1].state == "failed"


def test_records_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    records = Records.of(job(tmp_path), str(tmp_path / "state"))
    with pytest.raises(JobRecordsUnusable), records.alone(0):
        pass


def test_an_age_is_never_negative() -> None:
    outcome = ended()
    now = moment(outcome.ended_at)
    known = Known(outcome, outcome)
    assert known.age(now + timedelta(hours=1)) == timedelta(hours=1)
    assert known.age(now - timedelta(hours=1)) == timedelta(0)
    assert Known(outcome, None).age(now) is None


def test_json_is_read_as_it_is_written() -> None:
    outcome = ended("partial", 3, errors=({"error": "X", "message": "m"},), notes=("n",))
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    assert outcome.seconds >= 0
    assert Outcome.begun("x").seconds == 0


def test_metrics_are_of_the_last_run_and_success() -> None:
    good = replace(ended(files=3, size=9), ended_at="2026-11-27T00:00:01.000000Z")
    good = replace(good, started_at="2026-11-27T00:00:00.000000Z")
    bad = replace(good, ended_at="2026-11-28T00:00:02.000000Z", exit_code=74, state="failed")
    found = dict(
        line.rsplit(" ", 1)
        for line in metrics_text(Known(bad, good)).splitlines()
        if not line.startswith("#")
    )
    assert found == {
        'encvault_job_last_success_timestamp_seconds{job="night"}': "1795737601.0",
        'encvault_job_last_run_timestamp_seconds{job="night"}': "1795824002.0",
        'encvault_job_last_exit_code{job="night"}': "74",
        'encvault_job_last_duration_seconds{job="night"}': "86402.0",
        'encvault_job_last_size_bytes{job="night"}': "9",
        'encvault_job_last_files{job="night"}': "3",
        'encvault_job_last_files_failed{job="night"}': "0",
    }
    assert metrics_text(Known()) == ""
    assert 'success_timestamp_seconds{job="night"} 0.0' in metrics_text(Known(bad))
