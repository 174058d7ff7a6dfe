"""What leaves the access log, what is forgotten of it, and commands when it cannot be written."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from encvault.accesslog.audit import Verdict
from encvault.accesslog.export import FORMS
from encvault.accesslog.log import user_name
from encvault.accesslog.verifying import verify
from encvault.i18n import _, activate

if TYPE_CHECKING:
    from helpers import Command

PATIENCE = 60.0  # seconds, on a machine that others use too


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse battery\n")
    return path


@pytest.fixture
def docs(run: Command, tmp_path: Path, password: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a").write_text("content")
    assert run("seal", docs, "--password-file", password).code == 0
    return docs


@pytest.fixture
def log() -> Path:
    return Path(os.environ["XDG_STATE_HOME"], "encvault", "log")


@pytest.fixture
def changed(docs: Path, log: Path, tmp_path: Path) -> Path:
    """A copy of a log in which one entry was rewritten."""
    assert docs.exists()
    shutil.copytree(log, tmp_path / "changed")
    entries = tmp_path / "changed" / "entries"
    entries.write_bytes(entries.read_bytes().replace(b'"seal"', b'"open"'))
    return tmp_path / "changed"


# -- anchors --------------------------------------------------------------------------------


def test_anchor(run: Command, docs: Path, log: Path, tmp_path: Path) -> None:
    assert docs.exists()
    latest = (log / "checkpoint").read_text()
    assert run("log", "anchor").out == latest
    done = run("log", "anchor", "-o", tmp_path / "a.txt")
    assert (done.code, done.out) == (0, "")
    assert done.err == f"encvault: wrote {tmp_path}/a.txt; keep it elsewhere\n"
    assert (tmp_path / "a.txt").read_text() == latest
    (tmp_path / "a.txt").write_text("mine")
    assert run("log", "anchor", "-o", tmp_path / "a.txt").code == 73
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_anchor_for_a_camera(run: Command, docs: Path, log: Path, tmp_path: Path) -> None:
    zxingcpp = pytest.importorskip("zxingcpp")
    image = pytest.importorskip("PIL.Image")
    assert docs.exists()
    assert run("log", "anchor", "-o", tmp_path / "a.png").code == 0
    (code,) = zxingcpp.read_barcodes(image.open(tmp_path / "a.png"))
    assert code.text == (log / "checkpoint").read_text()
    assert run("log", "anchor", "-o", tmp_path / "a.svg").code == 0
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    done = run("log", "anchor", "--qr")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80


def test_without_the_extra_a_code_is_not_made(
    run: Command, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert docs.exists()
    monkeypatch.setitem(sys.modules, "segno", None)
    for arguments in (("--qr",), ("-o", tmp_path / "a.svg")):
        done = run("log", "anchor", *arguments)
        assert (done.code, done.out) == (69, "")
        assert "hint: install it with: pip install 'encvault[report]'" in done.err
    assert not (tmp_path / "a.svg").exists()
    assert run("log", "anchor").code == 0


# -- export and report ----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_export(run: Command, docs: Path, tmp_path: Path, changed: Path, form: str) -> None:
    done = run("log", "export", "--format", form)
    assert (done.code, done.err) == (0, "")
    assert str(docs / "a") in done.out
    target = tmp_path / "out"
    assert run("log", "export", "--format", form, "-o", target).code == 0
    assert target.read_bytes().decode().count("\n") == done.out.count("\n")
    assert run("log", "export", "--format", form, "-o", target).code == 73
    refused = run("log", "export", "--format", form, "-o", f"{target}2", "--log", changed)
    assert (refused.code, refused.out) == (65, "")
    assert not Path(f"{target}2").exists()
    assert not list(tmp_path.glob(".encvault*"))


def test_export_as_a_table(run: Command, docs: Path) -> None:
    table = csv.DictReader(
        io.StringIO(run("log", "export", "--format", "csv").out.lstrip("\ufeff"))
    )
    rows = list(table)
    assert [row["op"] for row in rows] == ["log.init", "init", "seal"]
    assert rows[2]["path"] == str(docs / "a")


def test_export_of_some_days(run: Command, docs: Path, tmp_path: Path) -> None:
    export = ("log", "export", "--format", "ocsf")
    assert run(*export, "--since", "1h").out == run(*export).out
    assert run(*export, "--until", "2026-01-01").out == ""
    target = tmp_path / "out"
    assert run(*export, "-o", target).code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert run(*export, "-o", target, "--since", "1h", "--force").code == 0


def test_a_copy_for_a_checker(run: Command, docs: Path, log: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with (log / "entries").open("ab") as file:
        file.write(b"half of an entry")
    assert run("log", "copy", copy).code == 0
    assert {path.name for path in copy.iterdir()} == {
        *("entries", "checkpoints", "checkpoint", "policy")
    }
    assert (copy / "policy").read_bytes() == (log / "policy").read_bytes()
    assert run("log", "verify", "--log", copy, "--anchor", copy / "checkpoint").code == 0
    assert run("log", "copy", copy).code == 73
    assert run("log", "copy", tmp_path / "other", "--log", tmp_path).code == 66


def test_what_is_found_by_an_id(run: Command, docs: Path, password: Path) -> None:
    show = ("log", "show", "--json")
    sealed = json.loads(run(*show, "--op", "seal").out)
    (docs / "a.sealed").rename(docs / "b.sealed")
    assert run("cat", docs / "b", "--password-file", password).code == 0
    by_id = [json.loads(line) for line in run(*show, "--id", sealed["file"]).out.splitlines()]
    assert [entry["op"] for entry in by_id] == ["seal", "cat"]
    assert by_id[1]["name"] == "a"
    by_name = [json.loads(line) for line in run(*show, "--file", docs / "a").out.splitlines()]
    assert by_name == by_id
    assert f"{docs}/b (sealed as a)" in run("log", "show").out


def test_report(docs: Path, tmp_path: Path, changed: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "report.html"

    def report(*options: object) -> tuple[int, str]:  # its fonts stay open in a process
        command = [sys.executable, "-m", "encvault", "log", "report", *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == ""
        return done.returncode, done.stderr

    code, err = report("-o", page)
    assert (code, err.splitlines()[1]) == (0, "encvault: verdict: OK-UNANCHORED")
    assert str(docs / "a") in page.read_text()
    assert report("-o", page)[0] == 73
    assert report("-o", page, "--force", "--log", changed)[0] == 65
    assert "TAMPERED" in page.read_text()
    missing = tmp_path / "none.html"
    assert report("-o", missing, "--log", tmp_path / "nowhere")[0] == 78
    assert not missing.exists()


# -- no log, no home ------------------------------------------------------------------------


def test_no_log_yet(run: Command, log: Path, tmp_path: Path) -> None:
    shutil.rmtree(log)
    for arguments in (
        ["show"],
        ["anchor"],
        ["prove", "0"],
        ["erase", "--before", "2026-01"],
        ["show", "-f"],
    ):
        done = run("log", *arguments)
        assert (done.code, done.out) == (66, "")
        assert done.err == (
            f"encvault: there is no access log in {log}\n"
            "hint: it begins with the first access; begin it now: encvault log init\n"
        )
    for arguments in (
        ["verify"],
        ["export", "--format", "csv"],
        ["report", "-o", str(tmp_path / "r")],
    ):
        assert run("log", *arguments).code == 78
    assert not log.exists()


def test_no_home(run: Command, docs: Path, password: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    for arguments in (
        ["log", "show"],
        ["log", "verify"],
        ["cat", docs / "a", "--password-file", password],
    ):
        done = run(*arguments)
        assert (done.code, done.out) == (78, "")
        assert "home" in done.err


# -- what the configuration says ------------------------------------------------------------


def configure(text: str) -> None:
    path = Path(os.environ["XDG_CONFIG_HOME"], "encvault", "config.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_another_place_with_the_users_name(
    run: Command, docs: Path, password: Path, log: Path, tmp_path: Path
) -> None:
    configure(f'[log]\ndir = "{tmp_path}/logs/{{user}}"\n')
    before = (log / "entries").read_bytes()
    assert run("cat", docs / "a", "--password-file", password).code == 0
    there = tmp_path / "logs" / user_name()
    assert (log / "entries").read_bytes() == before
    assert run("log", "anchor").out == (there / "checkpoint").read_text()
    assert there.stat().st_mode & 0o777 == 0o700


def test_paths_that_can_be_forgotten(
    run: Command,
    docs: Path,
    password: Path,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    configure('[log]\npaths = "hmac"\n')
    run("cat", docs / "a", "--password-file", password)
    run("open", docs / "a", "-o", tmp_path / "out", "--password-file", password)
    later = [json.loads(line) for line in (log / "entries").read_text().splitlines()[3:]]
    assert [entry["op"] for entry in later] == ["config", "cat", "open"]
    assert all(str(tmp_path) not in json.dumps(entry) for entry in later)
    month = later[1]["path_key"]
    find = ("log", "show", "--json", "--op", "cat", "--file", docs / "a")
    assert json.loads(run(*find).out)["index"] == 4
    assert "entry 5" in run("log", "prove", "--file", docs / "a", "-o", tmp_path / "p").err
    assert run("log", "erase", "--before", month).err == (
        f"encvault: there is no key of a month before {month}\n"
    )
    next_year = f"{int(month[:4]) + 1}-01"
    done = run("log", "erase", "--before", next_year, "--yes")
    assert done.code == 2  # this month's key is in use
    assert run(*find).out != ""
    monkeypatch.setattr("encvault.operations.auditing._this_month", lambda: next_year)
    done = run("log", "erase", "--before", next_year)
    assert done.code == 2  # nobody to ask
    assert run(*find).out != ""
    monkeypatch.setattr("encvault.cli.ui.is_interactive", lambda: True)
    asked: list[str] = []
    for answer, code in (("n", 2), ("y", 0)):
        monkeypatch.setattr(
            "encvault.cli.secrets._ask",
            lambda question, answer=answer: asked.append(question) or answer,
        )
        done = run("log", "erase", "--before", next_year)
        assert done.code == code, done.err
    assert done.err == f"encvault: erased the keys of {month}\n"
    assert len(asked) == 2
    assert f"the entries before {next_year}" in asked[0]
    assert run(*find).out == ""
    # what was recorded before in full is all that is found
    assert "entry 2" in run("log", "prove", "--file", docs / "a", "-o", tmp_path / "q").err
    assert json.loads(run("log", "show", "--json", "-n", 1).out)["op"] == "log.erase"
    assert run("log", "verify").code == 3
    said = run("log", "erase", "--before", next_year, "--yes", "--json")
    assert json.loads(said.out) == {"erased": []}


# -- a log that cannot be written -----------------------------------------------------------


def test_nothing_is_given_out_and_the_user_is_told(
    run: Command, docs: Path, password: Path, log: Path
) -> None:
    shutil.rmtree(log)
    log.write_text("in the way")
    done = run("cat", docs / "a", "--password-file", password)
    assert (done.code, done.out) == (74, "")
    assert done.err.startswith(f"encvault: the access log {log} cannot be written: ")
    assert "hint: nothing is opened that is not recorded; see: encvault doctor" in done.err
    assert run("open", docs, "--password-file", password).code == 74
    assert not (docs / "a").exists()
    (docs / "b").write_text("b")
    done = run("seal", docs)
    assert done.code == 74
    assert not (docs / "b").exists()
    assert "sealed 1 file" in done.err
    wrong = docs.parent / "wrong"
    wrong.write_text("battery staple\n")
    assert run("cat", docs / "a", "--password-file", wrong).code == 74  # as with the right one
    configure("[log]\nrequired = false\n")
    done = run("cat", docs / "a", "--password-file", password)
    assert (done.code, done.out) == (0, "content")
    assert done.err.startswith(f"note: the access log {log} cannot be written: ")
    done = run("ls", docs, "--password-file", password)
    assert done.code == 0
    assert done.err.startswith("note: the access log ")


def test_a_wrong_password_for_an_identity_is_recorded(
    run: Command, tmp_path: Path, password: Path
) -> None:
    key = tmp_path / "me.key"
    assert run("key", "new", "-o", key, "--password-file", password).code == 0
    (tmp_path / "wrong").write_text("battery staple\n")
    sources = ("--password-file", tmp_path / "wrong", "--new-password-file", password)
    assert run("key", "passwd", "-i", key, *sources).code == 77
    entry = json.loads(run("log", "show", "--json", "-n", 1).out)
    assert (entry["op"], entry["outcome"], entry["path"]) == ("key.passwd", "refused", str(key))


# -- several at once ------------------------------------------------------------------------


def test_all_of_several_at_once_are_recorded(
    docs: Path, password: Path, log: Path, tmp_path: Path
) -> None:
    for index in range(6):
        (docs / f"f{index}").write_text(str(index))
    command = [sys.executable, "-m", "encvault"]
    subprocess.run([*command, "seal", docs], check=True, stderr=subprocess.DEVNULL)
    running = [
        subprocess.Popen(
            [*command, "cat", docs / f"f{index}", "--password-file", password],
            stdout=subprocess.PIPE,
        )
        for index in range(6)
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 6
    assert outputs == [str(index).encode() for index in range(6)]
    entries = [json.loads(line) for line in (log / "entries").read_text().splitlines()]
    cats = [entry for entry in entries if entry["op"] == "cat"]
    assert {entry["path"] for entry in cats} == {f"{docs}/f{index}" for index in range(6)}
    assert len(cats) == len({entry["run"] for entry in cats}) == 6
    assert verify(str(log)).verdict is Verdict.OK_UNANCHORED
    assert not list(tmp_path.rglob("torn-*"))


# -- Chinese --------------------------------------------------------------------------------


def test_chinese(run: Command, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    english = run("log", "verify").out
    as_json = run("log", "show", "--json").out
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    shown, verified = run("log", "show"), run("log", "verify")
    assert run("log", "show", "--json").out == as_json
    assert str(docs / "a") in shown.out
    assert verified.code == 3
    assert "OK-UNANCHORED" in verified.out
    activate(["zh_CN"])
    if _("file sealed") == "file sealed" or _("verdict") == "verdict":
        pytest.skip("not in the catalog yet")
    assert str(_("file sealed")) in shown.out
    assert verified.out != english
