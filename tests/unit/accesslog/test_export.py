"""Exported entries are what each form's standard says, read back by other means."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from encvault.accesslog import ocsf
from encvault.accesslog.events import MEMBERS as RECORDED, Entry
from encvault.accesslog.export import FORMS, MEMBERS, export
from encvault.accesslog.words import ACTIONS, OUTCOMES

ORIGIN = "encvault-log/" + "a" * 26 + "/2026-11-25"
ID = "a" * 26
BASE: dict[str, Any] = {
    "v": 1,
    "ts": "2026-11-25T08:12:31.250999Z",
    "op": "open",
    "outcome": "ok",
    "user": "li",
    "uid": 1000,
    "host": "workshop",
    "boot": "3f0c9a58",
    "up_ms": 123_456,
    "pid": 4242,
    "run": "k3mz7q2a",
    "tool": "encvault 0.2.0",
}
EVERYTHING: dict[str, Any] = BASE | {
    "login": 1001,
    "path": "/srv/报价/a=b|c.xlsx",
    "to": "/mnt/x",
    "vault": ID,
    "file": ID,
    "slot": ID,
    "size": 17,
    "count": 2,
    "error": "ChunkCorrupt",
    "exit_code": 65,
    "detail": "password",
    "wall": "2026-11-25T07:00:00.000000Z",
    "step_ms": -5,
    "epoch": 3,
    "policy": "0" * 64,
    "name": "旧名.xlsx",
    "label": "alice",
    "recipients": "f1 password",
    "program": "/usr/bin/vim",
    "of_a_later_version": "ignored",
}
HOSTILE = 'q" ]\\ | = \n\r\t\x00\x1b[2J\u2028\x85\udc80 \u202e'
HARMLESS = 'q" ]\\ | = \\u000a\\u000d\\u0009\\u0000\\u001b[2J\\u2028\\u0085\\udc80 \u202e'


def lines(form: str, *members: dict[str, Any]) -> list[str]:
    entries = [Entry(7 + index, values) for index, values in enumerate(members)]
    return list(export(entries, form, origin=ORIGIN, size=99))


@pytest.mark.parametrize("form", FORMS)
def test_a_record_is_one_line_of_utf_8_and_leads_to_a_proof(form: str) -> None:
    made = lines(form, EVERYTHING | {"path": HOSTILE, "detail": HOSTILE, "host": HOSTILE})
    for line in made:
        assert line.encode().decode() == line
        assert len(line.splitlines()) == 1
        assert "ignored" not in line
    assert ORIGIN in made[-1]
    assert "99" in made[-1]


def test_no_other_form_is_made() -> None:
    with pytest.raises(KeyError):
        lines("leef", BASE)


@pytest.mark.parametrize("form", FORMS)
def test_no_entries_are_no_records(form: str) -> None:
    assert len(lines(form)) == (1 if form == "csv" else 0)


# -- OCSF -----------------------------------------------------------------------------------


class Judge:
    """The schema of one version: every member must be known to it."""

    def __init__(self, version: str) -> None:
        self._schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
        self._made: dict[tuple[int, str], Draft202012Validator] = {}

    def faults(self, event: dict[str, Any]) -> list[str]:
        uid, profiles = event["class_uid"], event.get("metadata", {}).get("profiles", [])
        key = (uid, str(profiles))
        if key not in self._made:
            name = self._schema.lookup_class_name_from_uid(class_uid=uid)
            made = self._schema.get_class_schema(class_name=name, profiles=profiles)
            self._made[key] = Draft202012Validator(made)
        return [error.message for error in self._made[key].iter_errors(event)]


@pytest.fixture(scope="module", params=["1.4.0", "1.8.0"])
def judge(request: pytest.FixtureRequest) -> Judge:
    return Judge(request.param)


def variants() -> list[dict[str, Any]]:
    few = [BASE | {"op": op, "outcome": how} for op in ACTIONS for how in OUTCOMES]
    many = [EVERYTHING | {"op": op, "outcome": "failed"} for op in ACTIONS]
    hidden = [values | {"path_key": "2026-11", "path": "x" * 43} for values in many]
    unknown = [BASE | {"op": "new", "path": "/x"}, BASE | {"op": "log.new", "outcome": "perhaps"}]
    return [*few, *many, *hidden, *unknown]


def test_every_event_is_valid_in_the_schema(judge: Judge) -> None:
    for line in lines("ocsf", *variants()):
        assert not judge.faults(json.loads(line)), line


def test_the_schema_is_a_judge(judge: Judge) -> None:
    event = json.loads(lines("ocsf", EVERYTHING)[0])
    assert not judge.faults(event)
    for name in ("file", "actor", "device", "metadata", "time", "severity_id", "type_uid"):
        assert judge.faults({key: value for key, value in event.items() if key != name})
    assert judge.faults(event | {"activity_id": 77})
    assert judge.faults(event | {"time": "2026"})
    assert judge.faults(event | {"file": {"path": "/x"}})
    assert judge.faults(event | {"of_our_own": 1})


def test_activities_are_named_as_the_schema_names_them() -> None:
    classes = {item["uid"]: item for item in get_ocsf_schema(version="1.4.0")["classes"].values()}

    def caption(op: str) -> str:
        kind = ocsf.KINDS[op]
        values = classes[kind.class_uid]["attributes"]["activity_id"]["enum"]
        return str(values[str(kind.activity_id)]["caption"])

    assert {op: caption(op) for op in ACTIONS if ocsf.KINDS[op].activity_id != 99} == {
        "seal": "Encrypt",
        "open": "Decrypt",
        "cat": "Decrypt",
        "reseal": "Encrypt",
        "read": "Read",
        "write": "Update",
        "remove": "Delete",
        "rename": "Rename",
        "init": "Create",
        "unlock": "Logon",
        "verify": "Read",
        "list": "Get Attributes",
        "mount": "Mount",
        "unmount": "Unmount",
        "rekey": "Update",
        "revoke": "Delete",
        "slot.add": "Create",
        "slot.remove": "Delete",
        "slot.passwd": "Update",
        "recovery.add": "Create",
        "key.new": "Create",
        "key.passwd": "Update",
        "usb.lock": "Encrypt",
        "usb.unlock": "Decrypt",
        "usb.add": "Enroll",
        "usb.remove": "Unenroll",
        "job.run": "Start",
        "scan": "Completed",
        "config": "Update",
    }
    assert list(ocsf.KINDS) == list(ACTIONS)


def test_an_opened_file_in_ocsf() -> None:
    event = json.loads(lines("ocsf", EVERYTHING)[0])
    assert event["type_uid"] == 100_111
    assert event["category_uid"] == 1
    assert event["time"] == 1_795_594_351_250  # date -d 2026-11-25T08:12:31.250Z +%s%3N
    assert event["file"] == {
        "name": "a=b|c.xlsx",
        "path": "/srv/报价/a=b|c.xlsx",
        "type_id": 1,
        "size": 17,
        "uid": ID,
    }
    assert event["file_result"] == {"name": "x", "path": "/mnt/x", "type_id": 1}
    assert event["actor"]["user"] == {"name": "li", "uid": "1000"}
    assert event["actor"]["process"] == {
        "name": "vim",
        "pid": 4242,
        "file": {"name": "vim", "path": "/usr/bin/vim", "type_id": 1},
    }
    assert (event["status_id"], event["status_code"], event["status_detail"]) == (
        1,
        "65",
        "ChunkCorrupt",
    )
    assert event["metadata"]["uid"] == f"{ORIGIN}/7"
    assert event["metadata"]["sequence"] == 7
    assert event["metadata"]["product"]["version"] == "0.2.0"
    assert event["unmapped"] == {
        "boot": "3f0c9a58",
        "login": 1001,
        "up_ms": 123_456,
        "vault": ID,
        "slot": ID,
        "count": 2,
        "detail": "password",
        "wall": "2026-11-25T07:00:00.000000Z",
        "step_ms": -5,
        "epoch": 3,
        "policy": "0" * 64,
        "name": "旧名.xlsx",
        "label": "alice",
        "recipients": "f1 password",
        "log_origin": ORIGIN,
        "log_index": 7,
        "log_size": 99,
    }


def test_what_was_recorded_stays_in_the_event() -> None:
    """Each member with a value of its own is found again, wherever it went."""
    values: dict[str, Any] = {name: f"value-of-{name}" for name in MEMBERS}
    values |= {"v": 81, "uid": 82, "up_ms": 83, "pid": 84, "size": 85, "count": 86, "login": 87}
    values |= {"exit_code": 88, "step_ms": 89, "epoch": 90, "ts": BASE["ts"]}
    del values["path_key"]
    for op in ACTIONS:
        for outcome in ("ok", "perhaps"):
            line = lines("ocsf", values | {"op": op, "outcome": outcome})[0]
            for name, value in values.items():
                if name not in ("op", "outcome"):
                    assert str(value).removeprefix("value-of-") in line, (op, name)
            assert f'"event_code":"{op}"' in line
            assert outcome == "ok" or '"perhaps"' in line


def test_a_digest_is_no_path() -> None:
    hidden = BASE | {"path": "d" * 43, "path_key": "2026-11", "to": "e" * 43, "op": "share"}
    event = json.loads(lines("ocsf", hidden)[0])
    assert event["file"] == {"name": "d" * 43, "type_id": 1}
    assert "file_result" not in event
    assert event["unmapped"]["to"] == "e" * 43
    assert event["unmapped"]["path_key"] == "2026-11"
    assert event["activity_name"] == "file shared"
    fields = cef(lines("cef", hidden)[0])[1]
    assert fields["fname"] == "d" * 43
    assert "filePath" not in fields


@pytest.mark.parametrize(
    ("more", "process"),
    [({}, {"name": "encvault"}), ({"program": "kworker"}, {"name": "kworker"})],
)
def test_programs_in_ocsf(more: dict[str, Any], process: dict[str, str]) -> None:
    event = json.loads(lines("ocsf", BASE | more)[0])
    assert event["actor"]["process"] == process | {"pid": 4242}
    assert "program" not in event["unmapped"]


def test_a_renamed_file_in_ocsf() -> None:
    event = json.loads(lines("ocsf", BASE | {"op": "rename", "path": "/a/b", "to": "/a/c"})[0])
    assert event["file"]["path"] == "/a/b"
    assert event["file_result"] == {"name": "c", "path": "/a/c", "type_id": 1}


def test_every_member_but_those_of_a_later_version_is_exported() -> None:
    assert sorted(MEMBERS) == sorted(RECORDED)


def test_outcomes_in_ocsf() -> None:
    made = [json.loads(lines("ocsf", BASE | {"outcome": how})[0]) for how in [*OUTCOMES, "x"]]
    assert [event["status_id"] for event in made] == [1, 2, 2, 2]
    assert [event["severity_id"] for event in made] == [1, 2, 3, 99]
    assert "severity" not in made[0]["unmapped"]
    failed = json.loads(lines("ocsf", BASE | {"op": "scan", "outcome": "failed"})[0])
    assert failed["type_uid"] == 600_706


# -- CEF ------------------------------------------------------------------------------------


def cef(line: str) -> tuple[list[str], dict[str, str]]:
    """Header and extension, as the standard says they are read.

    Header fields end at a bar without a backslash before it. A key is what stands between a space
    and an equals sign without a backslash before it.
    """
    heads = re.findall(r"((?:[^|\\]|\\.)*)\|", line)[:7]
    rest = line[sum(len(head) + 1 for head in heads) :]
    plain = [re.sub(r"\\([|\\])", r"\1", head) for head in heads]
    keys = list(re.finditer(r"(?:^| )([A-Za-z0-9_]+)(?<!\\)=", rest))
    fields = {}
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        value = rest[key.end() : following.start() if following else None]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", value), value
        fields[key[1]] = re.sub(r"\\([=\\])", r"\1", value)
    return plain, fields


def test_an_opened_file_in_cef() -> None:
    heads, fields = cef(lines("cef", EVERYTHING)[0])
    assert heads == ["CEF:0", "encvault", "encvault", "0.2.0", "open", "file opened", "1"]
    assert fields == {
        "rt": "1795594351250",
        "msg": "file opened: /srv/报价/a=b|c.xlsx (done, ChunkCorrupt), by li",
        "cn1Label": "logIndex",
        "cn1": "7",
        "cn2Label": "logSize",
        "cn2": "99",
        "cs1Label": "logOrigin",
        "cs1": ORIGIN,
        "fname": "a=b|c.xlsx",
        "filePath": "/srv/报价/a=b|c.xlsx",
        "fsize": "17",
        "act": "open",
        "outcome": "ok",
        "suser": "li",
        "suid": "1000",
        "dvchost": "workshop",
        "dvcpid": "4242",
        "fileId": ID,
        "reason": "ChunkCorrupt",
        "cs2Label": "vault",
        "cs2": ID,
        "cs3Label": "slot",
        "cs3": ID,
        "cs4Label": "run",
        "cs4": "k3mz7q2a",
        "cs5Label": "to",
        "cs5": "/mnt/x",
        "cs6Label": "detail",
        "cs6": "password",
        "encvaultBoot": "3f0c9a58",
        "encvaultUpMs": "123456",
        "encvaultLogin": "1001",
        "encvaultCount": "2",
        "encvaultExitCode": "65",
        "encvaultWall": "2026-11-25T07:00:00.000000Z",
        "encvaultStepMs": "-5",
        "encvaultEpoch": "3",
        "encvaultPolicy": "0" * 64,
        "encvaultName": "旧名.xlsx",
        "encvaultLabel": "alice",
        "encvaultRecipients": "f1 password",
        "sproc": "/usr/bin/vim",
    }


def test_what_is_special_in_cef_is_escaped() -> None:
    line = lines("cef", BASE | {"path": r"/a=b\c|d suser=root", "tool": "encvault 1|2\\3"})[0]
    assert r"|1\|2\\3|" in line
    assert r"filePath=/a\=b\\c|d suser\=root" in line
    heads, fields = cef(line)
    assert heads[3] == "1|2\\3"
    assert fields["filePath"] == r"/a=b\c|d suser=root"
    assert fields["suser"] == "li"
    assert cef(lines("cef", BASE | {"detail": HOSTILE})[0])[1]["cs6"] == HARMLESS


def test_severities_in_cef_and_syslog() -> None:
    made = [BASE | {"outcome": how} for how in [*OUTCOMES, "perhaps"]]
    assert [cef(line)[0][6] for line in lines("cef", *made)] == ["1", "3", "6", "3"]
    # facility 13, log audit, times eight, and 6 informational, 5 notice, 4 warning
    priorities = [line[: line.index(">") + 1] for line in lines("rfc5424", *made)]
    assert priorities == ["<110>", "<109>", "<108>", "<109>"]


# -- RFC 5424 -------------------------------------------------------------------------------

# section 6, in the words of its grammar
PRINTUSASCII = r"[\x21-\x7e]"
SD_NAME = r"[\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32}"
PARAM_VALUE = r'(?:[^"\\\]]|\\["\\\]])*'
SD_PARAM = rf'{SD_NAME}="{PARAM_VALUE}"'
SD_ELEMENT = rf"\[{SD_NAME}(?: {SD_PARAM})*\]"
FULL_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)"
SYSLOG_MSG = re.compile(
    rf"<(\d{{1,3}})>([1-9]\d{{0,2}}) ({FULL_DATE}T{TIME}) ({PRINTUSASCII}{{1,255}})"
    rf" ({PRINTUSASCII}{{1,48}}) ({PRINTUSASCII}{{1,128}}) ({PRINTUSASCII}{{1,32}})"
    rf" (-|(?:{SD_ELEMENT})+) \ufeff(.*)",
    re.DOTALL,
)


def syslog(line: str) -> tuple[list[str], dict[str, dict[str, str]], str]:
    """Header, structured data, and message."""
    match = SYSLOG_MSG.fullmatch(line)
    assert match, line
    *header, data, message = match.groups()
    elements = {}
    for element in re.findall(SD_ELEMENT, data):
        name = re.match(rf"\[({SD_NAME})", element)
        assert name
        params = re.findall(rf' ({SD_NAME})="({PARAM_VALUE})"', element)
        assert len(params) == len({key for key, _value in params})
        elements[name[1]] = {key: re.sub(r'\\(["\\\]])', r"\1", value) for key, value in params}
    return header, elements, message


def test_an_opened_file_in_syslog() -> None:
    header, elements, message = syslog(lines("rfc5424", EVERYTHING)[0])
    assert header == [
        *("110", "1", "2026-11-25T08:12:31.250999Z", "workshop", "encvault", "4242", "open")
    ]
    assert elements["origin"] == {"software": "encvault", "swVersion": "0.2.0"}
    expected = {name: str(EVERYTHING[name]) for name in MEMBERS if name in EVERYTHING}
    proof = {"origin": ORIGIN, "index": "7", "treeSize": "99"}
    assert elements["encvault@32473"] == proof | expected
    assert message == "file opened: /srv/报价/a=b|c.xlsx (done, ChunkCorrupt), by li"


def test_what_is_special_in_syslog_is_escaped() -> None:
    tool = 'encvault 1"]\\' + "x" * 99
    odd = {"path": HOSTILE, "host": "办公室 1", "op": "o" * 40, "tool": tool}
    header, elements, message = syslog(lines("rfc5424", BASE | odd)[0])
    assert header[3] == "????1"
    assert header[6] == "o" * 32
    assert elements["encvault@32473"]["path"] == HARMLESS
    assert elements["encvault@32473"]["host"] == "办公室 1"
    assert elements["origin"]["swVersion"] == ('1"]\\' + "x" * 99)[:32]
    assert HARMLESS in message
    assert syslog(lines("rfc5424", BASE | {"host": ""})[0])[0][3] == "-"


# -- CSV ------------------------------------------------------------------------------------


def rows(*members: dict[str, Any]) -> list[dict[str, str]]:
    text = "\r\n".join(lines("csv", *members)) + "\r\n"
    assert text.startswith("\ufeff")
    with io.BytesIO(text.encode()) as file:
        return list(csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True))


def test_an_opened_file_in_csv() -> None:
    full, short = rows(EVERYTHING, BASE)
    known = {name: str(value) for name, value in EVERYTHING.items() if name in MEMBERS}
    proof = {"log_origin": ORIGIN, "log_index": "7", "log_size": "99"}
    assert full == proof | known | {"path_key": ""}
    assert short["path"] == ""
    assert short["log_index"] == "8"


def test_every_member_of_the_format_is_a_column() -> None:
    assert set(rows(BASE)[0]) == {"log_origin", "log_index", "log_size", *MEMBERS}


@pytest.mark.parametrize(
    "value",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "＝1", "＋1", "－1", "＠x", " =1", "\u3000=1"),  # noqa: RUF001
        '=HYPERLINK("https://x.example","y")',
        "=cmd|' /C calc'!A0",
    ],
)
def test_no_cell_is_a_formula(value: str) -> None:
    (row,) = rows(BASE | {"user": value, "detail": value, "path": value})
    assert row["user"] == row["detail"] == row["path"] == f"'{value}"


@pytest.mark.parametrize("value", ["\t=1", "\r=1", "\n=1", "\x00=1"])
def test_what_would_hide_a_formula_is_written_out(value: str) -> None:
    (row,) = rows(BASE | {"user": value})
    assert row["user"] == f"\\u{ord(value[0]):04x}=1"


def test_quotes_separators_and_numbers_stay() -> None:
    (row,) = rows(BASE | {"user": "a\",b;'c", "step_ms": -5, "login": "=x"})
    assert row["user"] == "a\",b;'c"
    assert row["step_ms"] == "-5"  # a number is no formula
    assert row["login"] == "'=x"
