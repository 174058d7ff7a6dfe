"""Which entries somebody asks for."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from encvault.accesslog.events import Entry, Facts, encode_all, facts_of
from encvault.accesslog.filters import Filter, since, until
from encvault.accesslog.redaction import path_code
from encvault.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
KEY = bytes(range(32))
SHARED: dict[str, str | int] = {
    "v": 1,
    "ts": "2026-11-30T04:00:00.000000Z",
    "op": "open",
    "outcome": "ok",
    "user": "mei",
    "uid": 1000,
    "host": "h",
    "boot": "b",
    "up_ms": 1,
    "pid": 2,
    "run": "r",
    "tool": "t",
}


@pytest.fixture
def _china(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CST-8")
        time.tzset()
        yield
    time.tzset()


def shown(wanted: Filter, **members: str | int) -> bool:
    """Whether both questions about an entry are answered alike, and how."""
    (line,) = encode_all({}, [SHARED | members])
    answer = wanted.matches(Entry(0, json.loads(line)))
    assert wanted.may_match(line, facts_of(line)) or not answer
    return answer


# -- times ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_china")
@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026-11-30", "2026-11-29T16:00:00.000000Z", "2026-11-30T16:00:00.000000Z"),
        ("2026-11-30T08:00", "2026-11-30T00:00:00.000000Z", "2026-11-30T00:01:00.000000Z"),
        ("7d", "2026-11-23T12:00:00.000000Z", "2026-11-23T12:00:00.000000Z"),
        ("24h", "2026-11-29T12:00:00.000000Z", "2026-11-29T12:00:00.000000Z"),
    ],
)
def test_times(text: str, begin: str, end: str) -> None:
    assert since(text, NOW) == begin
    assert until(text, NOW) == end


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-02-30", "2026-11-30T25:00", "0d", "7", "9w", "9999-12-31T23:59x"],
)
def test_no_times(text: str) -> None:
    for parse in (since, until):
        with pytest.raises(InvalidRequest, match="not a time"):
            parse(text, NOW)


def test_day_beyond_the_last() -> None:
    with pytest.raises(InvalidRequest):
        until("9999-12-31", NOW)


# -- members --------------------------------------------------------------------------------


def test_nothing_asked_for() -> None:
    assert shown(Filter())
    assert shown(Filter(), path="/a", op="seal")


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (Filter(since="2026-11-30T04:00:00.000000Z"), True),
        (Filter(since="2026-11-30T04:00:00.000001Z"), False),
        (Filter(until="2026-11-30T04:00:00.000001Z"), True),
        (Filter(until="2026-11-30T04:00:00.000000Z"), False),
        (Filter(user="mei"), True),
        (Filter(user="me"), False),
        (Filter(op="open"), True),
        (Filter(op="seal"), False),
        (Filter(outcome="ok"), True),
        (Filter(outcome="refused"), False),
        (Filter(user="mei", op="open", outcome="failed"), False),
    ],
)
def test_members(wanted: Filter, answer: bool) -> None:  # noqa: FBT001 - the expected value
    assert shown(wanted) is answer
    (line,) = encode_all({}, [SHARED])
    assert wanted.may_match(line, facts_of(line)) is answer


def test_member_in_another_ones_text() -> None:
    """A file name that looks like a member is none."""
    assert not shown(Filter(user="eve"), path='/a","user":"eve')
    assert not shown(Filter(path="/b"), detail='"path":"/b"')


# -- paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked", "answer"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/a", True),
        ("/a/b", "/a/", True),
        ("/a/b", "/", True),
        ("/a/bc", "/a/b", False),
        ("/a/b", "/a/b/c", False),
        ('/a/报价 "1".xlsx', '/a/报价 "1".xlsx', True),
        ("/a/e\u0301", "/a/\u00e9", True),  # as one system writes a name, and as another
        ("/a/\u00e9", "/a/e\u0301", True),
        ("/a/\udcff", "/a/\udcff", True),  # a name that is not UTF-8
        ("b", "/a/b", True),  # recorded by name only
        ("b", "/b/a", False),
    ],
)
def test_path(path: str, asked: str, answer: bool) -> None:  # noqa: FBT001 - the expected value
    assert shown(Filter(path=asked), path=path) is answer


def test_path_as_hmac() -> None:
    code = path_code(KEY, "/a/b")
    keys = {"2026-10": bytes(32), "2026-11": KEY}
    assert shown(Filter(path="/a/b", keys=keys), path=code, path_key="2026-11")
    assert not shown(Filter(path="/a/b", keys=keys), path=code, path_key="2026-10")
    assert not shown(Filter(path="/a/b"), path=code, path_key="2026-11")
    assert not shown(Filter(path="/a/c", keys=keys), path=code, path_key="2026-11")


def test_entry_without_a_path() -> None:
    assert not shown(Filter(path="/a"))


def test_facts_alone() -> None:
    assert Filter(path="/a").may_match(
        b'"path":"/a/b"', Facts("open", "", behind=False, epoch=None)
    )
