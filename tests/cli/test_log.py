"""The access log at the command line, from its beginning to a proof on another machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from encvault.accesslog.log import AccessLog, user_name

if TYPE_CHECKING:
    from helpers import Command

PATIENCE = 20.0  # seconds, on a machine that others use too


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse battery\n")
    return path


@pytest.fixture
def docs(run: Command, tmp_path: Path, password: Path, log: Path) -> Path:
    """A sealed folder, one wrong password, one file shown: entries 1 to 4."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a").write_text("content")
    (docs / "b").write_text("b")
    (tmp_path / "wrong").write_text("battery staple\n")
    assert run("init", docs, "--password-file", password).code == 0
    shutil.rmtree(log)
    AccessLog(str(log)).begin()
    assert run("seal", docs, "--password-file", password).code == 0
    assert run("open", docs, "--password-file", tmp_path / "wrong").code == 77
    assert run("cat", docs / "a", "--password-file", password).out == "content"
    return docs


@pytest.fixture
def log() -> Path:
    return Path(os.environ["XDG_STATE_HOME"], "encvault", "log")


def shown(run: Command, *options: object) -> list[dict[str, Any]]:
    done = run("log", "show", "--json", *options)
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_program_that_asked_through_a_mount_is_shown(run: Command, log: Path) -> None:
    members: dict[str, str | int] = {"op": "rename", "path": "/v/a", "to": "/v/b", "pid": 7}
    AccessLog(str(log)).record([members | {"outcome": "ok", "program": "/usr/bin/mv"}])
    done = run("log", "show", "--last", 1)
    assert done.out.split(maxsplit=4)[4].endswith("/v/a -> /v/b (by /usr/bin/mv)\n")


def copied(log: Path, to: Path) -> Path:
    shutil.copytree(log, to)
    return to


def changed(log: Path, to: Path) -> Path:
    """A copy in which one entry was rewritten."""
    shutil.copytree(log, to)
    entries = to / "entries"
    entries.write_bytes(entries.read_bytes().replace(b'"refused"', b'"ok"'))
    return to


# -- init -----------------------------------------------------------------------------------


def test_init(run: Command, tmp_path: Path, log: Path) -> None:
    shutil.rmtree(log)
    policy = tmp_path / "laptop.policy"
    done = run("log", "init", "-o", policy)
    assert done.code == 0
    first, last = done.err.splitlines()
    assert first == "encvault: the access log begins"
    assert last == f"encvault: wrote the public keys to {policy}; keep it elsewhere"
    assert done.out.startswith(f"log                  {log}\n")
    assert policy.read_bytes() == (log / "policy").read_bytes()
    assert policy.read_text().count("log ") == 40
    again = run("log", "init")
    assert (again.code, again.out) == (0, done.out)
    assert again.err == "encvault: there was an access log already\n"
    assert run("log", "init", "-o", policy).code == 73
    said = json.loads(run("log", "init", "--json").out)
    assert (said["path"], said["made"]) == (str(log), False)
    assert said["policy_sha256"] in done.out
    assert said["origin"].startswith("encvault-log/")


# -- show -----------------------------------------------------------------------------------


def test_show_for_people(run: Command, docs: Path) -> None:
    done = run("log", "show")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    when, who = lines[0][7:23], user_name().ljust(8)
    assert time.strptime(when, "%Y-%m-%d %H:%M")
    assert lines[0] == f"    0  {when}  {who}  log begun"
    assert lines[3].endswith(f"  file opened: refused  {docs} NoMatchingKeyslot")
    assert lines[4].endswith(f"  file shown            {docs}/a")
    places = {line.index(f"{docs}") for line in lines[1:]}
    assert len(places) == 1, "the paths stand below each other"
    assert places.pop() <= 60, "and leave room on 80 columns"


def test_show_where_a_copy_went(run: Command, docs: Path, tmp_path: Path, password: Path) -> None:
    run("open", docs / "b", "-o", tmp_path / "out", "--password-file", password)
    line = run("log", "show", "-n", 1).out
    assert line.endswith(f"  file opened           {docs}/b -> {tmp_path}/out\n")


def test_show_for_programs(run: Command, docs: Path) -> None:
    entries = shown(run)
    assert [entry["index"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry["op"] for entry in entries] == ["log.init", "seal", "seal", "open", "cat"]
    assert all({"ts", "op", "outcome", "user", "run"} <= entry.keys() for entry in entries)
    assert entries[3]["path"] == str(docs)
    assert (entries[3]["outcome"], entries[3]["exit_code"]) == ("refused", 77)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--op", "seal"], [1, 2]),
        (["--op", "seal", "-n", "1"], [2]),
        (["-n", "2"], [3, 4]),
        (["-n", "99"], [0, 1, 2, 3, 4]),
        (["--outcome", "refused"], [3]),
        (["--outcome", "failed"], []),
        (["--user", user_name()], [0, 1, 2, 3, 4]),
        (["--user", "nobody-else"], []),
        (["--file", "docs"], [1, 2, 3, 4]),
        (["--file", "docs/a"], [1, 4]),
        (["--file", "link/a"], [1, 4]),
        (["--file", "doc"], []),
        (["--since", "1h"], [0, 1, 2, 3, 4]),
        (["--until", "1h"], []),
        (["--since", "2999-01-01"], []),
        (["--until", "2999-01-01T08:00"], [0, 1, 2, 3, 4]),
    ],
)
def test_filters(
    run: Command,
    docs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    wanted: list[int],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(docs)
    assert [entry["index"] for entry in shown(run, *options)] == wanted


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "--op", "opne"], "opne"),
        (["show", "--outcome", "good"], "good"),
        (["show", "--since", "yesterday"], "yesterday: not a time such as 2026-11-30"),
        (["show", "-n", "few"], "few"),
        (["prove"], "give the index of an entry, or --file"),
        (["prove", "1", "--file", "x"], "give the index of an entry, or --file"),
        (["check", "x"], "give the log's public keys: --policy FILE, or --key VKEY"),
        (["erase", "--before", "2026-13"], "2026-13: not a month such as 2026-11"),
        (["export"], "--format"),
        (["report"], "--output"),
    ],
)
def test_usage(run: Command, arguments: list[str], text: str) -> None:
    done = run("log", *arguments)
    assert (done.code, done.out) == (2, "")
    assert text in done.err


def encvault(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "encvault", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_follow(run: Command, docs: Path, password: Path) -> None:
    with encvault("log", "show", "-f", "-n", "1", "--json") as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["index"] == 4
        run("cat", docs / "b", "--password-file", password)
        assert json.loads(following.stdout.readline())["path"] == str(docs / "b")
        following.send_signal(signal.SIGINT)
        out, err = following.communicate(timeout=PATIENCE)
    assert (following.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_reader_that_has_enough(run: Command, docs: Path, log: Path) -> None:
    AccessLog(str(log)).record([{"op": "scan", "outcome": "ok"}] * 5000)
    with encvault("log", "show") as showing:
        assert showing.stdout is not None
        assert showing.stdout.readline().startswith("    0  ")
        showing.stdout.close()
        assert showing.stderr is not None
        assert showing.stderr.read() == ""
        assert showing.wait(PATIENCE) == 141


# -- verify ---------------------------------------------------------------------------------


def verdict(run: Command, code: int, *options: object) -> dict[str, Any]:
    plain, done = run("log", "verify", *options), run("log", "verify", "--json", *options)
    assert (plain.code, done.code, done.err) == (code, code, "")
    said: dict[str, Any] = json.loads(done.out)
    assert plain.out.split()[:2] == ["verdict", said["verdict"]]
    assert bool(plain.err) == (code != 0)
    return said


def test_verdicts(run: Command, docs: Path, tmp_path: Path, log: Path) -> None:
    policy, anchor = tmp_path / "policy", tmp_path / "anchor"
    run("log", "init", "-o", policy)
    assert run("log", "anchor", "-o", anchor).code == 0
    said = verdict(run, 3)
    assert said["verdict"] == "OK-UNANCHORED"
    assert (said["size"], said["anchored_size"], said["own_policy"]) == (5, 0, True)
    assert run("log", "verify").err.splitlines()[1].startswith("hint: keep checkpoints elsewhere")
    there = ("--log", copied(log, tmp_path / "elsewhere" / "log"), "--policy", policy)
    said = verdict(run, 0, *there, "--anchor", anchor)
    assert (said["verdict"], said["anchored_size"]) == ("ANCHORED-OK", 5)
    assert said["own_policy"] is False
    assert verdict(run, 0, *there, "--anchor", docs)["anchored_size"] == 3  # as it was sealed
    bad = changed(log, tmp_path / "bad")
    said = verdict(run, 65, "--log", bad, "--anchor", anchor)
    assert said["verdict"] == "TAMPERED"
    assert {one["rule"] for one in said["wrong"]} >= {"root"}
    assert "wrong: " in run("log", "verify", "--log", bad).out
    said = verdict(run, 78, "--log", tmp_path / "nowhere")
    assert said["verdict"] == "CANNOT-VERIFY"
    AccessLog(str(tmp_path / "other")).begin()
    run("log", "anchor", "--log", tmp_path / "other", "-o", tmp_path / "foreign")
    assert verdict(run, 78, "--anchor", tmp_path / "foreign")["verdict"] == "CANNOT-VERIFY"


def test_a_log_that_was_cut_short_needs_an_anchor(
    run: Command, docs: Path, tmp_path: Path, log: Path, password: Path
) -> None:
    old = copied(log, tmp_path / "old")
    run("seal", docs, "--password-file", password)
    (docs / "c").write_text("c")
    run("seal", docs, "--password-file", password)
    assert run("log", "verify", "--log", old).code == 3
    assert run("log", "verify", "--log", old, "--anchor", docs).code == 65
    assert run("log", "verify", "--anchor", docs).code == 0


# -- prove and check ------------------------------------------------------------------------


def test_prove_and_check(
    run: Command, docs: Path, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("log", "init", "-o", "policy")
    done = run("log", "prove", 3, "-o", "proof")
    assert (done.code, done.out) == (0, "")
    key = done.err.splitlines()[1].split()[-1]
    assert "encvault: wrote a proof of entry 3 to proof\n" in done.err
    assert run("log", "prove", 3).out == Path("proof").read_text()
    assert run("log", "prove", 3, "-o", "proof").code == 73
    done = run("log", "prove", "--file", "docs/a", "-o", "by-file")
    assert "a proof of entry 4 " in done.err
    shutil.rmtree(log)  # who checks has no log
    done = run("log", "check", "proof", "--policy", "policy")
    assert (done.code, done.err) == (0, "encvault: the proof holds\n")
    lines = dict(line.split(None, 1) for line in done.out.splitlines() if " " in line)
    assert lines["entry"] == "3"
    assert lines["path"].strip() == str(docs)
    said = json.loads(run("log", "check", "proof", "--policy", "policy", "--json").out)
    assert (said["index"], said["size"], said["entry"]["outcome"]) == (3, 5, "refused")
    assert said["day"] == said["entry"]["ts"][:10]
    by_key = json.loads(run("log", "check", "proof", "--key", key, "--json").out)
    assert (by_key["entry"], by_key["day"]) == (said["entry"], "")
    assert "unknown day" in run("log", "check", "proof", "--key", key).out


def test_proofs_that_do_not_hold(
    run: Command, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert docs.exists()
    run("log", "init", "-o", "policy")
    run("log", "prove", 3, "-o", "proof")
    AccessLog(str(tmp_path / "other")).begin()
    run("log", "prove", 0, "--log", "other", "-o", "other-proof")
    other_key = run("log", "prove", 0, "--log", "other").err.split()[-1]
    for arguments, code in (
        (["check", "proof", "--key", other_key], 77),
        (["check", "other-proof", "--policy", "policy"], 77),
        (["check", "missing", "--policy", "policy"], 66),
        (["check", "proof", "--policy", "missing"], 66),
        (["prove", 5], 66),
        (["prove", "--file", "docs/nothing"], 66),
        (["check", "proof", "--key", "nonsense"], 78),
    ):
        done = run("log", *arguments)
        assert (done.code, done.out) == (code, ""), (arguments, done.err)
        assert "internal error" not in done.err
    lines = Path("proof").read_text().splitlines(keepends=True)
    lines[2:4] = [lines[3], lines[2]]
    Path("changed").write_text("".join(lines))
    assert run("log", "check", "changed", "--policy", "policy").code == 65
    assert run("log", "check", "policy", "--policy", "policy").code == 65
