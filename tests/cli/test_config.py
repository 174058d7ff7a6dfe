"""Configuration as a company uses it: recipients, suite and password rules in every command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from helpers import NOBODY, in_child

from encvault.cli import options

if TYPE_CHECKING:
    from helpers import Command, Ran

GOOD = "wobbly anchor mist 42"
WEAK = "short"


@pytest.fixture
def etc(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The company's file, which the test writes."""
    path = tmp_path_factory.mktemp("etc") / "config.toml"
    monkeypatch.setattr(options, "SYSTEM_CONFIG", str(path))
    return path


@pytest.fixture
def mine() -> Path:
    """The user's file, which the test writes."""
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def officer(run: Command, etc: Path) -> Path:
    """The identity of the company's recovery officer, whose recipient is configured."""
    key = etc.parent / "officer.key"
    recipient = run("key", "new", "--no-password", "-o", key).out
    (etc.parent / "company.pub").write_text(recipient)
    etc.write_text("recipients = ['company.pub']\n")
    return key


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note"
    path.write_text("content")
    for name, password in (("good", GOOD), ("weak", WEAK)):
        (tmp_path / name).write_text(f"{password}\n")
    return path


def fingerprint(run: Command, key: Path) -> str:
    return str(json.loads(run("key", "show", "-i", key, "--json").out)["fingerprint"])


def slots(run: Command, path: Path | str) -> list[dict[str, Any]]:
    return list(json.loads(run("info", path, "--json").out)["slots"])


def told(done: Ran) -> int:
    return done.err.count("also sealed for the company's recipients: ")


# -- recipients -----------------------------------------------------------------------------


def test_everything_new_is_sealed_for_the_officer_as_well(
    run: Command, officer: Path, note: Path, tmp_path: Path
) -> None:
    password = ("--password-file", tmp_path / "good")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    label = fingerprint(run, officer)

    done = run("init", tmp_path / "vault", *password)
    assert (done.code, told(done)) == (0, 1)
    assert f"also sealed for the company's recipients: {label}\n" in done.err
    assert [slot["kind"] for slot in slots(run, tmp_path / "vault")] == ["password", "recipient"]
    assert slots(run, tmp_path / "vault")[1]["label"] == label
    done = run("verify", tmp_path / "vault", "-i", officer)
    assert done.code == 0

    archive = tmp_path / "archive.sealed"
    assert told(run("seal", tmp_path / "docs", "--archive", archive, *password)) == 1
    assert run("open", archive, "--to", tmp_path / "out", "-i", officer).code == 0

    assert told(run("seal", note, "--keep", *password)) == 1
    assert run("cat", f"{note}.sealed", "-i", officer).out == "content"
    assert run("cat", f"{note}.sealed", *password).out == "content"

    with note.open("rb") as file:
        done = run("seal", "-", "-o", tmp_path / "stream", *password, stdin=file)
    assert told(done) == 1
    assert run("cat", tmp_path / "stream", "-i", officer).out == "content"

    done = run("seal", tmp_path / "docs", "--to", tmp_path / "mirror", *password)
    assert told(done) == 1
    assert run("cat", tmp_path / "mirror" / "a", "-i", officer).out == "content"
    # several files are told about once, and not at all with --quiet
    (tmp_path / "b").write_text("b")
    assert told(run("seal", note, tmp_path / "b", "--force", "--keep", *password)) == 1
    assert told(run("seal", note, "--force", "--keep", "--quiet", *password)) == 0


def test_a_named_recipient_that_is_the_company_s_gets_one_slot(
    run: Command, officer: Path, note: Path
) -> None:
    done = run("seal", note, "-r", officer.parent / "company.pub")
    assert (done.code, told(done)) == (0, 0)
    assert len(slots(run, f"{note}.sealed")) == 1


def test_both_files_recipients_add_up(
    run: Command, officer: Path, mine: Path, note: Path, tmp_path: Path
) -> None:
    line = run("key", "new", "--no-password", "-o", tmp_path / "me.key").out.strip()
    mine.write_text(f"recipients = [{line!r}, {str(officer.parent / 'company.pub')!r}]\n")
    done = run("seal", note, "--password-file", tmp_path / "good")
    assert (done.code, told(done)) == (0, 1)
    kinds = [slot["kind"] for slot in slots(run, f"{note}.sealed")]
    assert kinds == ["password", "recipient", "recipient"]
    for key in (officer, tmp_path / "me.key"):
        assert run("cat", f"{note}.sealed", "-i", key).out == "content"


def test_configured_recipients_are_enough_where_nobody_can_be_asked(
    run: Command, officer: Path, note: Path
) -> None:
    done = run("seal", note)
    assert (done.code, told(done)) == (0, 1)
    assert [slot["kind"] for slot in slots(run, f"{note}.sealed")] == ["recipient"]
    assert run("cat", f"{note}.sealed", "-i", officer).out == "content"


def test_a_vault_that_exists_is_not_changed(
    run: Command, etc: Path, note: Path, tmp_path: Path
) -> None:
    password = ("--password-file", tmp_path / "weak")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a").write_text("a")
    assert run("seal", docs, *password).code == 0
    before = slots(run, docs)
    recipient = run("key", "new", "--no-password", "-o", tmp_path / "late.key").out.strip()
    etc.write_text(
        f"recipients = [{recipient!r}]\nsuite = 'sm4-gcm'\n[password]\nmin_length = 20\n"
    )
    (docs / "b").write_text("b")
    (docs / "c").write_text("c")
    for path, options_given in [(docs / "b", ()), (docs, password)]:
        done = run("seal", path, *options_given)
        assert (done.code, told(done)) == (0, 0), done.err
    assert slots(run, docs) == before
    assert json.loads(run("info", docs, "--json").out)["suite"] == "aes-256-gcm"
    assert run("cat", docs / "b", *password).out == "b"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("encvault1-AAAA\n", "cut off or mistyped"),
        ('{"encvault_identity":1}', "stays secret"),
        ("# nobody\n", "no recipient in it"),
        (None, "no such file or folder"),
    ],
)
def test_a_bad_recipient_names_the_configuration(
    run: Command, etc: Path, note: Path, content: str | None, reason: str
) -> None:
    etc.write_text("recipients = ['company.pub']\n")
    if content is not None:
        (etc.parent / "company.pub").write_text(content)
    done = run("seal", note, "--json")
    assert done.code == 78
    failed = json.loads(done.out)
    assert failed["error"] == "InvalidSetting"
    assert failed["place"] == str(etc)
    assert reason in failed["reason"]
    assert str(etc.parent / "company.pub") in done.err
    assert note.read_text() == "content"
    assert run("config", "show").code == 78


def test_a_bad_recipient_line_is_named_too(run: Command, etc: Path, note: Path) -> None:
    etc.write_text("recipients = ['encvault1-AAAA']\n")
    done = run("seal", note)
    assert done.code == 78
    assert f"{etc}: recipients: encvault1-AAAA…: not a usable recipient" in done.err


def test_more_recipients_than_slots_are_refused(
    run: Command, etc: Path, note: Path, tmp_path: Path
) -> None:
    lines = [
        run("key", "new", "--no-password", "-o", tmp_path / f"{number}.key").out
        for number in range(33)
    ]
    (etc.parent / "all.pub").write_text("".join(lines[:32]))
    etc.write_text("recipients = ['all.pub']\n")
    assert run("seal", note, "--keep").code == 0
    (etc.parent / "all.pub").write_text("".join(lines))
    done = run("seal", note)
    assert done.code == 78
    assert "more than 32 recipients" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_root_uses_no_recipient_that_others_can_exchange(
    run: Command, officer: Path, note: Path
) -> None:
    company = officer.parent / "company.pub"
    os.chown(company, NOBODY, NOBODY)
    done = run("seal", note, "--json")
    assert done.code == 78
    failed = json.loads(done.out)
    assert (failed["error"], failed["path"]) == ("UntrustedConfig", str(company))
    assert note.exists()


def test_an_ordinary_user_gets_the_company_s_defaults(
    run: Command, monkeypatch: pytest.MonkeyPatch, public_path: Path
) -> None:
    public_path.chmod(0o755)
    recipient = run("key", "new", "--no-password", "-o", public_path / "officer.key").out.strip()
    (public_path / "config.toml").write_text(f"recipients = [{recipient!r}]\n")
    monkeypatch.setattr(options, "SYSTEM_CONFIG", str(public_path / "config.toml"))
    work = public_path / "work"
    work.mkdir()
    work.chmod(0o777)
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(work / name))
    (work / "note").write_text("content")
    (work / "note").chmod(0o666)
    done = in_child(lambda: run("seal", work / "note"), uid=NOBODY)
    assert (done.code, told(done)) == (0, 1), done.err
    assert run("cat", work / "note.sealed", "-i", public_path / "officer.key").out == "content"


# -- suite ----------------------------------------------------------------------------------


def test_the_suite_of_what_is_new(
    run: Command, etc: Path, mine: Path, note: Path, tmp_path: Path
) -> None:
    password = ("--password-file", tmp_path / "good")

    def suite(*given: str) -> str:
        assert run("seal", note, "--keep", "--force", *given, *password).code == 0
        return str(json.loads(run("info", f"{note}.sealed", "--json").out)["suite"])

    assert suite() == "aes-256-gcm"
    etc.write_text("suite = 'sm4-gcm'")
    assert suite() == "sm4-gcm"
    assert suite("--suite", "aes-256-gcm") == "aes-256-gcm"
    assert run("init", tmp_path / "vault", *password).code == 0
    assert json.loads(run("info", tmp_path / "vault", "--json").out)["suite"] == "sm4-gcm"
    mine.write_text("suite = 'aes-256-gcm'")
    assert suite() == "aes-256-gcm"


# -- passwords ------------------------------------------------------------------------------


def test_the_rule_holds_for_every_new_password(
    run: Command, etc: Path, note: Path, tmp_path: Path
) -> None:
    good, weak = tmp_path / "good", tmp_path / "weak"
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a").write_text("a")
    assert run("seal", docs, "--password-file", weak).code == 0
    etc.write_text("[password]\nmin_length = 8\n")
    before = slots(run, docs)
    opened = ("--password-file", weak)
    for arguments in [
        ["seal", note, "--password-file", weak],
        ["seal", note, "--password-command", f"cat {weak}"],
        ["init", tmp_path / "vault", "--password-file", weak],
        ["key", "new", "-o", tmp_path / "me.key", "--password-file", weak],
        ["slot", "add", docs, *opened, "--new-password-file", weak],
        ["passwd", docs, *opened, "--new-password-command", f"cat {weak}"],
    ]:
        done = run(*arguments)
        assert done.code == 78, arguments
        assert "the password is too weak: it must have at least 8 characters" in done.err
        assert WEAK not in done.err
    assert note.read_text() == "content"
    assert not (tmp_path / "vault").exists()
    assert not (tmp_path / "me.key").exists()
    assert slots(run, docs) == before
    # it opens what it opened, and makes way for a better one
    assert run("cat", docs / "a", *opened).out == "a"
    assert run("passwd", docs, *opened, "--new-password-file", good).code == 0
    assert run("key", "new", "-o", tmp_path / "me.key", "--password-file", good).code == 0
    # a key in the clear keeps no rule
    free = ("key", "new", "-o", tmp_path / "free.key", "--no-password")
    for rule in ("min_length = 8", "min_strength = 1"):
        etc.write_text(f"[password]\n{rule}\n")
        done = run(*free)
        assert done.code == 78
        assert "the password is too weak: there is none, and the configuration" in done.err
        assert not (tmp_path / "free.key").exists()
    etc.write_text("[password]\nmin_length = 1\nmin_strength = 0\n")
    assert run(*free).code == 0


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("password1", "is tried first"),
        ("qwertyuiop", "is tried first"),
        ("elephantelephant", "a repetition"),
        ("kitchen table", "a common word or name"),
        ("19850612", "a date"),
        ("zxcvfrewq", "a row of keys on the keyboard"),
        ("ijklmnopqrs", "a sequence"),
        ("2013", "a year"),
        ("x7!Qp", "too few characters"),
        ("中文密码", "too few characters"),
    ],
)
def test_why_a_password_is_weak(
    run: Command, etc: Path, note: Path, password: str, reason: str
) -> None:
    etc.write_text("[password]\nmin_strength = 4\n")
    (note.parent / "weak").write_text(password)
    done = run("seal", note, "--password-file", note.parent / "weak", "--json")
    assert done.code == 78
    failed = json.loads(done.out)
    assert failed["error"] == "WeakPassword"
    assert reason in failed["reason"]
    assert password not in done.out + done.err


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (" " * 20, "at least 8 characters"),
        ("a          b", "at least 8 characters"),
        ("\u3000\t" * 10, "at least 8 characters"),
        ("abc\u200b\u200d\ufeff\u00ad\u2060\x07\x7f", "at least 8 characters"),
        ("aaaaaaaaaaaaaaaa", "one character over and over"),
        ("好好好好好好好好", "one character over and over"),
    ],
)
def test_what_does_not_show_is_no_length(
    run: Command, etc: Path, note: Path, password: str, reason: str
) -> None:
    etc.write_text("[password]\nmin_length = 8\n")
    (note.parent / "p").write_text(password, encoding="utf-8")
    done = run("seal", note, "--password-file", note.parent / "p")
    assert done.code == 78
    assert reason in done.err
    # of a password that keeps the rule they are a part like any other
    (note.parent / "p").write_text(f"{GOOD}{password} ", encoding="utf-8")
    assert run("seal", note, "--password-file", note.parent / "p").code == 0


def test_a_strength_that_nothing_measures_is_an_error(
    run: Command, etc: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_text("[password]\nmin_strength = 1\n")
    monkeypatch.setitem(sys.modules, "zxcvbn", None)
    done = run("seal", note, "--password-file", note.parent / "good", "--json")
    assert (done.code, json.loads(done.out)["error"]) == (78, "StrengthUnmeasured")
    assert "pip install zxcvbn" in done.err


@pytest.mark.parametrize("password", [GOOD, "x" * 60 + "Zq9", "pä\udcff" * 30, "0T" * 2000])
def test_any_password_can_be_measured(run: Command, etc: Path, note: Path, password: str) -> None:
    etc.write_text("[password]\nmin_strength = 1\n")
    data = password.encode(errors="surrogateescape")
    (note.parent / "p").write_bytes(data)
    assert run("seal", note, "--password-file", note.parent / "p").code == 0


def test_length_is_counted_in_characters(run: Command, etc: Path, note: Path) -> None:
    for count, code in [(5, 0), (6, 78)]:
        etc.write_text(f"[password]\nmin_length = {count}\n")
        (note.parent / "p").write_text("李雷和韩梅", encoding="utf-8")
        options_given = ("--keep", "--password-file", note.parent / "p")
        assert run("seal", note, *options_given).code == code


# -- show -----------------------------------------------------------------------------------


def test_show_tells_each_value_and_its_file(
    run: Command, officer: Path, etc: Path, mine: Path
) -> None:
    pin = "vp5c-gffw-i6a6-nrvs-w5aa-oyyb-nqf2-5c3b"
    line = (etc.parent / "company.pub").read_text().strip()
    etc.write_text(f"recipients = [{line!r}]\n[password]\nmin_length = 12\n")
    mine.write_text(f"suite = 'sm4-gcm'\n[vaults.'/srv/x']\nfingerprint = '{pin}'\n")
    done = run("config", "show", "--json")
    assert done.code == 0
    assert done.err == ""
    found = json.loads(done.out)
    assert found["files"] == [
        {"path": str(etc), "found": True},
        {"path": str(mine), "found": True},
    ]
    values = {row["key"]: (row["value"], row["source"]) for row in found["settings"]}
    assert values == {
        "recipients": (line, str(etc)),
        "suite": ("sm4-gcm", str(mine)),
        "password.min_length": (12, str(etc)),
        "password.min_strength": (0, None),
        "log.dir": (None, None),
        "log.paths": ("full", None),
        "log.required": (True, None),
        "usb.register": (None, None),
        'vaults."/srv/x".fingerprint': (pin, str(mine)),
    }
    label = fingerprint(run, officer)
    assert found["settings"][0]["fingerprint"] == label

    done = run("config", "show")
    rows = [row.split() for row in done.out.splitlines()]
    assert rows[0] == ["recipients", label, f"({etc})"]
    assert rows[3] == ["password.min_strength", "0", "(default)"]
    assert rows[4] == ["log.dir", "none", "(default)"]
    assert done.err == f"encvault: {etc} was read\nencvault: {mine} was read\n"


def test_show_without_any_file(run: Command, officer: Path, etc: Path) -> None:
    done = run("config", "show")
    shown = done.out.splitlines()[0]
    assert shown.split() == [
        "recipients",
        fingerprint(run, officer),
        str(etc.parent / "company.pub"),
        f"({etc})",
    ]
    etc.unlink()
    done = run("config", "show")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["recipients", "none", "(default)"]
    assert done.out.splitlines()[1].split() == ["suite", "aes-256-gcm", "(default)"]
    assert done.err.count(" is not there\n") == 2
    # a file that says so is not the same as none
    etc.write_text("recipients = []\n")
    done = run("config", "show")
    assert done.out.splitlines()[0].split() == ["recipients", "none", f"({etc})"]


@pytest.mark.parametrize(
    ("text", "error", "told_text"),
    [
        ("suit = 'x'", "UnknownSetting", ":1: unknown key suit\nhint: did you mean suite?"),
        ("suite = 1", "InvalidSetting", ":1: suite: must be one of aes-256-gcm, sm4-gcm\nhint: "),
        ("suite\n", "ConfigMalformed", ":1: not valid TOML: Expected '='"),
    ],
)
@pytest.mark.parametrize("command", [["config", "show"], ["seal", "note"], ["init", "new"]])
def test_a_wrong_file_stops_what_needs_it(
    run: Command,
    etc: Path,
    note: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    error: str,
    told_text: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(note.parent)
    etc.write_text(text)
    done = run(*command, "--json")
    assert done.code == 78
    assert json.loads(done.out)["error"] == error
    assert f"{etc}{told_text}" in done.err
    assert sorted(path.name for path in note.parent.iterdir()) == ["good", "note", "weak"]


def test_a_wrong_file_does_not_keep_anybody_from_opening_a_file(
    run: Command, etc: Path, note: Path
) -> None:
    password = ("--password-file", note.parent / "good")
    assert run("seal", note, *password).code == 0
    etc.write_text("nonsense")
    assert run("open", f"{note}.sealed", *password).code == 0
    assert note.read_text() == "content"


def test_a_wrong_file_stops_who_opens_a_vault_that_it_may_pin(
    run: Command, etc: Path, note: Path, tmp_path: Path
) -> None:
    password = ("--password-file", note.parent / "good")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("content")
    assert run("seal", tmp_path / "docs", *password).code == 0
    etc.write_text("nonsense")
    done = run("cat", tmp_path / "docs" / "a", *password)
    assert (done.code, done.out) == (78, "")
    assert "config.toml" in done.err


# -- where it is looked for -----------------------------------------------------------------


@pytest.mark.parametrize("command", [["key", "new", "--no-password"], ["doctor"], ["seal", "a"]])
def test_without_a_home_nothing_is_put_into_the_current_folder(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    (tmp_path / "a").touch()
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    done = run(*command)
    assert done.code == 78
    assert "encvault: this user has no home folder, and XDG_" in done.err
    assert "hint: set HOME, or XDG_" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_relative_base_folders_are_ignored(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XDG Base Directory Specification 0.8, "Basics"."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    monkeypatch.setenv("XDG_STATE_HOME", "./there")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    recipient = run("key", "new", "--no-password").out.strip()
    assert run("init", "docs", "-r", recipient).code == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"docs", "home"}
    assert (tmp_path / "home" / ".config" / "encvault" / "identity.key").exists()
    assert (tmp_path / "home" / ".local" / "state" / "encvault").is_dir()
