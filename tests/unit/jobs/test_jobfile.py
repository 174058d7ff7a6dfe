"""Job files: strict, with places; written ones can be read; the schema says the same."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st

from encvault.errors import ConfigMalformed, InvalidSetting, NoSuchJob, UnknownSetting
from encvault.jobs import finding, values
from encvault.jobs.jobfile import Job, is_name, parse_job
from encvault.jobs.keys import HOOK_KEYS, KEYS, job_schema, job_text

DOCS = Path(__file__).resolve().parents[3] / "docs"
PATH = "/etc/encvault/jobs.d/night.toml"
BASE: dict[str, Any] = {"sources": ["/srv/a"], "mode": "mirror", "destination": "/mnt/b"}
FINGERPRINT = "-".join(["abcd"] * 8)


def text(top: dict[str, Any], *tables: str) -> str:
    said = {key: value for key, value in top.items() if value is not None}
    lines = ["version = 1", *(f"{key} = {json.dumps(value)}" for key, value in said.items())]
    return "\n".join([*lines, *tables]) + "\n"


def parse(top: dict[str, Any], *tables: str) -> Job:
    return parse_job(text(top, *tables).encode(), PATH)


def test_a_job_has_what_its_file_says_and_defaults() -> None:
    job = parse(
        BASE | {"recipients": ["company.pub", "encvault1-abc"], "timeout": "1d2h3m4s"},
        "[schedule]",
        'at = "23:59"',
        'days = ["sun", "mon"]',
        "[notify]",
        'ping_url = "https://hc.example.com/x"',
        "[[hooks]]",
        'when = "before"',
        'run = ["/bin/true"]',
        "[[hooks]]",
        'when = "failure"',
        'run = ["/bin/echo", "a b"]',
        'timeout = "90s"',
    )
    assert job.name == "night"
    assert job.recipients == ("/etc/encvault/jobs.d/company.pub", "encvault1-abc")
    assert job.timeout == ((24 + 2) * 60 + 3) * 60 + 4
    assert (job.schedule.at, job.schedule.days) == ("23:59", ("mon", "sun"))
    assert job.notify.ping_url == "https://hc.example.com/x"
    assert [(one.when, one.run, one.timeout) for one in job.hooks] == [
        ("before", ("/bin/true",), 600.0),
        ("failure", ("/bin/echo", "a b"), 90.0),
    ]
    assert (job.verify, job.retries, job.if_absent, job.trigger) == (
        "sample",
        2,
        "skip",
        "schedule",
    )
    assert job.place == "/mnt/b"
    assert not job.is_remote
    assert parse(BASE | {"destination": "s3://bucket/prefix"}).is_remote


@pytest.mark.parametrize(
    ("top", "tables", "place", "said"),
    [
        ({"sources": []}, [], ":2", "sources: must name at least one folder"),
        ({"sources": ["a"]}, [], ":2", "sources: must be an absolute path"),
        ({"sources": ["/a", "/a/"]}, [], ":2", "sources: names the same folder twice"),
        ({"sources": ["/a", ""]}, [], ":2", "sources: has an empty text in it"),
        ({"sources": ["/x/a", "/y/a"]}, [], ":2", "two folders of one name"),
        ({"mode": "copy"}, [], ":3", "mode: must be one of in-place, mirror, archive"),
        ({"destination": "ftp://x/y"}, [], ":4", "must begin with one of sftp://, s3://"),
        ({"destination": "sftp://"}, [], ":4", "must begin with one of sftp://, s3://"),
        ({"drive": "abc"}, [], ":5", "drive: say either a destination or a drive"),
        (
            {"destination": None, "drive": "abc", "mode": "archive"},
            [],
            ":4",
            "drive: a drive takes a mirror",
        ),
        ({"keep": 3}, [], ":5", "keep: has no effect where mode is mirror"),
        ({"keep": 0, "mode": "archive"}, [], ":5", "keep: must be a whole number from 1"),
        ({"timeout": "5 h"}, [], ":5", "timeout: must be a time such as"),
        ({"timeout": ""}, [], ":5", "timeout: must be a time such as"),
        ({"timeout": "0s"}, [], ":5", "timeout: must be longer than nothing"),
        ({"timeout": 5}, [], ":5", "timeout: must be a time such as"),
        ({"retries": True}, [], ":5", "retries: must be a whole number"),
        ({"delete": "yes"}, [], ":5", "delete: must be true or false"),
        ({"suite": "rot13"}, [], ":5", "suite: must be one of aes-256-gcm, sm4-gcm"),
        ({"fingerprint": "abc"}, [], ":5", "fingerprint: must be a fingerprint"),
        (
            {"sources": ["/a", "/b"], "fingerprint": FINGERPRINT},
            [],
            ":5",
            "fingerprint: is of one vault",
        ),
        ({"remove_sources": True}, [], ":5", 'remove_sources: needs verify = "full"'),
        (
            {"remove_sources": True, "verify": "full", "delete": True},
            [],
            ":7",
            "delete: would remove the copies as well",
        ),
        ({"trigger": "on-change"}, [], ":5", 'trigger: on-change needs mode = "in-place"'),
        ({"settle": "5s"}, [], ":5", "settle: has an effect only where"),
        ({"mode": "archive", "hide_names": True}, [], ":5", "hide_names: has no effect"),
        ({"recipients": [""]}, [], ":5", "recipients: has an empty text"),
        ({}, ["[schedule]", 'at = "24:00"'], ":6", "schedule.at: must be a time of the day"),
        ({}, ["[schedule]", 'days = ["monday"]'], ":6", "schedule.days: must be a list of mon"),
        ({}, ["[schedule]", "days = []"], ":6", "schedule.days: must be a list of mon"),
        (
            {},
            ["[secret]", 'password_file = "/a"', "keyring = true"],
            ":5",
            "secret: say one source of a secret, not two",
        ),
        ({}, ["[secret]", "password_command = []"], ":6", "must be a program"),
        ({}, ["[secret]", 'credential = "../x"'], ":6", "must be the name of a credential"),
        ({}, ["[notify]", 'ping_url = "file:///etc"'], ":6", "must be an address that begins"),
        ({}, ["[[hooks]]", 'when = "before"'], "", "hooks[1].run: is missing"),
        (
            {},
            ["[[hooks]]", 'when = "before"', 'run = ["x"]', "[[hooks]]", 'when = "x"'],
            ":9",
            "hooks[2].when: must be one of",
        ),
        ({}, ["[hooks]", 'when = "before"'], ":5", "hooks: must be tables, each under [[hooks]]"),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_line(
    top: dict[str, Any], tables: list[str], place: str, said: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse(BASE | top, *tables)
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"{PATH}{place}: ")
    assert caught.value.hint == "see the example in docs/jobs.md"


@pytest.mark.parametrize("key", ["destination", "drive", "delete", "remove_sources", "keep"])
def test_what_has_no_effect_in_place_is_refused(key: str) -> None:
    example = {"destination": "/x", "drive": "x", "delete": True, "remove_sources": True, "keep": 2}
    top = {"sources": ["/a"], "mode": "in-place", key: example[key]}
    with pytest.raises(InvalidSetting, match=f"{key}: has no effect where mode is in-place"):
        parse(top)


def test_on_change_has_no_schedule() -> None:
    top = {"sources": ["/a"], "mode": "in-place", "trigger": "on-change", "settle": "3s"}
    assert parse(top).settle == 3
    with pytest.raises(InvalidSetting, match="schedule: has no effect where trigger"):
        parse(top, "[schedule]", 'at = "02:00"')


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("retry = 3", "the keys here are"),
        ("recipient = []", "did you mean recipients?"),
        ("at = '02:30'", "did you mean schedule.at?"),
        ("name = 'x'", "the keys here are"),
        ("[hooks.x]", ""),
    ],
)
def test_an_unknown_key_is_refused(line: str, hint: str) -> None:
    with pytest.raises((UnknownSetting, InvalidSetting)) as caught:
        parse(BASE, line)
    assert str(caught.value).startswith(f"{PATH}:5: ")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("key", ["version", "sources", "mode"])
def test_a_file_without_what_it_needs_is_refused(key: str) -> None:
    lines = [line for line in text(BASE).splitlines() if not line.startswith(key)]
    with pytest.raises(InvalidSetting, match=f"{key}: is missing"):
        parse_job("\n".join(lines).encode(), PATH)


def test_another_version_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="version: must be a whole number from 1 to 1"):
        parse_job(text(BASE).replace("version = 1", "version = 2").encode(), PATH)
    with pytest.raises(ConfigMalformed, match=":1: not valid TOML"):
        parse_job(b"version =\nx", PATH)


@pytest.mark.parametrize("name", ["", ".x", "-x", "a b", "a/b", "报价", "x" * 65, "a.toml"])
def test_names_that_no_unit_could_have_are_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises((InvalidSetting, NoSuchJob)):
        if name and "/" not in name:
            parse_job(text(BASE).encode(), f"/etc/{name}.toml")
        else:
            finding.find_job(name, ["/nonexistent"])


# -- written --------------------------------------------------------------------------------


def test_a_written_file_is_read_as_what_was_asked_for() -> None:
    odd = 'a "quoted" \\ 报价 \t'
    written = job_text(
        {
            "": BASE | {"sources": [f"/srv/{odd}"], "verify": "full", "exclude": ["*.tmp"]},
            "schedule": {"at": "03:00"},
        }
    )
    job = parse_job(written.encode(), PATH)
    assert job.sources == (f"/srv/{odd}",)
    assert (job.verify, job.exclude, job.schedule.at) == ("full", ("*.tmp",), "03:00")


def test_every_comment_of_a_written_file_is_a_key_that_can_be_uncommented() -> None:
    written = job_text({})
    for key in (*KEYS, *HOOK_KEYS):
        if key.shown == "":
            continue
        line = f"{key.name} = {values.toml_text(key.shown)}"
        assert f"\n# {line}\n" in written
        assert key.kind.read(tomllib.loads(line)[key.name]) is not None


def test_the_schema_takes_what_is_read_and_refuses_what_is_not() -> None:
    validator = jsonschema.Draft202012Validator(job_schema())
    validator.check_schema(job_schema())
    good = tomllib.loads(text(BASE, "[[hooks]]", 'when = "after"', 'run = ["x"]'))
    assert validator.is_valid(good)
    for bad in (
        {"mode": "copy"},
        {"sources": []},
        {"timeout": "5 h"},
        {"timeout": ""},
        {"keep": 0},
        {"unknown": 1},
        {"version": 2},
        {"schedule": {"at": "24:00"}},
        {"secret": {"keyring": True, "credential": "x"}},
        {"hooks": [{"when": "after"}]},
    ):
        assert not validator.is_valid(good | bad), bad
    assert json.loads((DOCS / "job.schema.json").read_text()) == job_schema()


@given(st.integers(min_value=0, max_value=999 * 86_400))
def test_a_time_is_read_as_it_is_written(seconds: int) -> None:
    assert values.duration(values.duration_text(seconds)) == seconds


# -- found ----------------------------------------------------------------------------------


def test_the_first_folder_that_has_a_job_counts(tmp_path: Path) -> None:
    own, system = tmp_path / "own", tmp_path / "system"
    for folder, mode in ((own, 0o600), (system, 0o600)):
        folder.mkdir()
        for name in ("both", folder.name):
            (folder / f"{name}.toml").write_text(text(BASE))
            (folder / f"{name}.toml").chmod(mode)
    (own / "broken.toml").write_text("x")
    (own / "notes.txt").write_text("x")
    folders = [str(own), str(system), str(tmp_path / "none")]
    assert finding.find_job("both", folders).path == str(own / "both.toml")
    assert finding.find_job("system", folders).path == str(system / "system.toml")
    assert finding.find_job(str(system / "both.toml"), []).name == "both"
    listed = finding.list_jobs(folders)
    assert [one.name for one in listed] == ["both", "broken", "own", "system"]
    assert [one.job is None for one in listed] == [False, True, False, False]
    for name in ("none", "../system/both", "a b"):
        with pytest.raises(NoSuchJob):
            finding.find_job(name, folders)


def test_a_new_file_replaces_another_only_on_demand(tmp_path: Path) -> None:
    path = finding.write_job("first", str(tmp_path), "x")
    with pytest.raises(FileExistsError):
        finding.write_job("second", str(tmp_path), "x")
    assert Path(path).read_text() == "first"
    finding.write_job("second", str(tmp_path), "x", force=True)
    assert Path(path).read_text() == "second"
    assert Path(path).stat().st_mode & 0o777 == 0o600
