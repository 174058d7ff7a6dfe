"""``slot``, ``passwd`` and ``recovery`` as a person types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Command, Ran

GROUP = re.compile(r"[0-9A-HJKMNP-TV-Z]{5}")


@pytest.fixture
def vault(run: Command, tmp_path: Path) -> Path:
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(f"password {name}\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    assert run("seal", tmp_path / "docs", "--password-file", tmp_path / "one").code == 0
    return tmp_path / "docs"


def slots(run: Command, vault: Path) -> list[dict[str, Any]]:
    found = json.loads(run("slot", "list", vault, "--json").out)["slots"]
    assert all(
        slot.keys() == {"id", "kind", "label", "created_at", "fingerprint", "state"}
        for slot in found
    )
    return list(found)


def opens(run: Command, vault: Path, *options: object) -> Ran:
    return run("cat", vault / "a", "--no-input", *options)


def test_slots_are_added_listed_and_removed(run: Command, vault: Path, tmp_path: Path) -> None:
    assert run("key", "new", "-o", tmp_path / "bob.key", "--no-password").code == 0
    line = run("key", "export", "-i", tmp_path / "bob.key").out.strip()
    one, two = tmp_path / "one", tmp_path / "two"
    added = run("slot", "add", vault, "--password-file", one, "--new-password-file", two)
    assert added.code == 0
    done = run("slot", "add", vault, "-r", line, "--label", "Bob", "--password-file", two, "--json")
    assert [slot["label"] for slot in json.loads(done.out)["slots"]] == ["Bob"]
    found = slots(run, vault)
    assert [slot["kind"] for slot in found] == ["password", "password", "recipient"]
    assert run("slot", "list", vault).out.splitlines()[1] == added.out.strip()
    assert opens(run, vault, "-i", tmp_path / "bob.key").out == "content"
    done = run("slot", "remove", vault, found[0]["id"], "--password-file", two)
    assert done.code == 0
    assert "copies of the vault made before still open with it" in done.err
    assert opens(run, vault, "--password-file", one).code == 77
    assert opens(run, vault, "--password-file", two).out == "content"
    done = run("slot", "remove", vault, found[1]["id"], "--password-file", two, "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"] == "NeededKeyslot"
    done = run("slot", "remove", vault, found[1]["id"], "--password-file", two, "--force", "--json")
    assert json.loads(done.out) == {"removed": found[1]}
    assert run("slot", "remove", vault, "x", "-i", tmp_path / "bob.key").code == 66


def test_both_kinds_at_once(run: Command, vault: Path, tmp_path: Path) -> None:
    assert run("key", "new", "-o", tmp_path / "bob.key", "--no-password").code == 0
    (tmp_path / "bob.pub").write_text(run("key", "export", "-i", tmp_path / "bob.key").out)
    sources = ("--password-file", tmp_path / "one", "--new-password-file", tmp_path / "two")
    assert run("slot", "add", vault, "-r", tmp_path / "bob.pub", *sources).code == 0
    assert len(slots(run, vault)) == 3


def test_a_password_is_changed(run: Command, vault: Path, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    done = run("passwd", vault, "--password-file", one, "--new-password-file", two)
    assert done.code == 0
    assert "copies of the vault made before still open with the old one" in done.err
    assert opens(run, vault, "--password-file", one).code == 77
    command = f"cat {three}"
    done = run("passwd", vault, "--password-file", two, "--new-password-command", command, "--json")
    assert json.loads(done.out)["slots"] == slots(run, vault)
    assert opens(run, vault, "--password-file", three).out == "content"


def test_a_new_password_that_nobody_gives_is_asked_for_or_missing(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    before = slots(run, vault)
    for command in (["passwd"], ["slot", "add", "--no-input"]):
        done = run(*command, vault, "--password-file", tmp_path / "one")
        assert done.code == 78
        assert "--new-password-file" in done.err
    assert slots(run, vault) == before
    two = ("--new-password-file", "x", "--new-password-fd", "3")
    assert run("passwd", vault, *two, "--password-file", tmp_path / "one").code == 2


def test_a_recovery_code_opens_and_is_tested(run: Command, vault: Path, tmp_path: Path) -> None:
    done = run("recovery", "new", vault, "--label", "safe", "--password-file", tmp_path / "one")
    assert done.code == 0
    groups = GROUP.findall(done.out)
    assert len(groups) == 13
    assert "hint: test it: encvault recovery test" in done.err
    code = tmp_path / "code"
    code.write_text(done.out)
    assert opens(run, vault, "--recovery-file", code).out == "content"
    tested = run("recovery", "test", vault, "--recovery-file", code)
    assert tested.code == 0
    assert tested.out == run("slot", "list", vault).out.splitlines(keepends=True)[1]
    groups[4] = groups[4][:4] + ("0" if groups[4][4] != "0" else "1")
    code.write_text(" ".join(groups))
    tested = run("recovery", "test", vault, "--recovery-file", code, "--json")
    assert tested.code == 77
    assert json.loads(tested.out)["group"] == 5
    done = opens(run, vault, "--recovery")  # nobody to ask
    assert done.code == 78
    assert "--recovery-file" in done.err


class Text(HTMLParser):
    """The words of a page, and that it loads and runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {"src", "href", "onload"} & {name for name, _value in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data.split()


@pytest.mark.parametrize(("language", "title"), [("C", "Recovery"), ("zh_CN.UTF-8", "恢复码")])
def test_a_sheet_holds_the_code_and_loads_nothing(
    run: Command,
    vault: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    language: str,
    title: str,
) -> None:
    monkeypatch.setenv("LC_ALL", language)
    sheet = tmp_path / "sheet.html"
    options = ("--label", "<safe>", "--password-file", tmp_path / "one")
    done = run("recovery", "new", vault, "--sheet", sheet, *options)
    assert done.code == 0
    assert not GROUP.search(done.out)
    assert sheet.stat().st_mode & 0o777 == 0o600
    page = Text()
    page.feed(sheet.read_text(encoding="utf-8"))
    groups = [word for word in page.words if GROUP.fullmatch(word)]
    assert len(groups) == 13
    assert title in page.words
    assert "<safe>" in page.words
    assert not page.tags & {"script", "link", "img", "iframe"}
    (tmp_path / "code").write_text(" ".join(groups))
    assert opens(run, vault, "--recovery-file", tmp_path / "code").out == "content"
    # a sheet is never written over another
    assert run("recovery", "new", vault, "--sheet", sheet, *options).code == 73
    assert len(slots(run, vault)) == 2


def test_a_code_that_nobody_got_is_no_way_in(run: Command, vault: Path, tmp_path: Path) -> None:
    """It would count as one when the last password is removed."""
    one = ("--password-file", tmp_path / "one")
    before = slots(run, vault)
    command = f"{sys.executable} -m encvault recovery new {vault} --password-file {one[1]}"
    script = f"exec {command} > /dev/full"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=False)
    assert done.returncode == 73
    assert slots(run, vault) == before
    (tmp_path / "sheet").write_text("there already")
    assert run("recovery", "new", vault, *one, "--sheet", tmp_path / "sheet").code == 73
    assert slots(run, vault) == before


def test_a_fifo_in_the_place_of_the_lock_holds_nobody_up(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    (vault / ".encvault" / "lock").unlink(missing_ok=True)
    os.mkfifo(vault / ".encvault" / "lock")
    one = ("--password-file", tmp_path / "one")
    assert run("verify", vault, *one).code == 0
    assert run("recovery", "new", vault, *one).code == 0


def test_words_that_are_no_text_are_shown_as_well_as_can_be(
    run: Command, vault: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"a\xffb")
    new = ("--new-password-file", tmp_path / "two", "--label", odd)
    assert run("slot", "add", vault, "--password-file", tmp_path / "one", *new).code == 0
    assert [slot["label"] for slot in slots(run, vault)][1] == "a\ufffdb"
    named = run("key", "new", "--no-password", "--name", odd, "-o", tmp_path / "odd.key")
    assert named.code == 0


@pytest.mark.parametrize("option", ["--password-fd", "--new-password-fd", "--recovery-fd"])
def test_a_descriptor_is_a_number_that_there_can_be(run: Command, vault: Path, option: str) -> None:
    assert run("slot", "add", vault, option, "99999999999").code == 2
