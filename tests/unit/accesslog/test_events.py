"""Entries are written in one way, and what is written otherwise is none."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from encvault.accesslog import events
from encvault.accesslog.events import (
    MAX_SIZE,
    MAX_TEXT_SIZE,
    MEMBERS,
    Facts,
    as_recorded,
    decode,
    encode_all,
    facts_of,
    text_member,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, params=[0, 1 << 30], ids=["few", "many"], scope="module")
def _read_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of it holds for the first lines that a process reads, and for those after many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "_FEW", 1 << 29)
        patch.setattr(events, "_lines", itertools.count(request.param))
        yield


SHARED: dict[str, str | int] = {
    "v": 1,
    "ts": "2026-11-30T04:00:00.000000Z",
    "user": "mei",
    "uid": 1000,
    "host": "h",
    "boot": "b",
    "up_ms": 1,
    "pid": 2,
    "run": "r",
    "tool": "t",
}
EVENT: dict[str, str | int] = {"op": "open", "outcome": "ok"}


def encode(**members: str | int) -> bytes:
    (line,) = encode_all(SHARED, [EVENT | members])
    return line


def plain(members: dict[str, Any]) -> bytes:
    """The same by the standard library alone."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def test_line() -> None:
    assert (
        encode(path="/报价 1%.xlsx", size=5)
        == (
            '{"boot":"b","host":"h","op":"open","outcome":"ok","path":"/报价 1%.xlsx","pid":2,'
            '"run":"r","size":5,"tool":"t","ts":"2026-11-30T04:00:00.000000Z","uid":1000,"up_ms":1,'
            '"user":"mei","v":1}'
        ).encode()
    )


def test_entries_of_different_members() -> None:
    each = [EVENT, EVENT | {"size": 1}, EVENT | {"detail": "%s"}, EVENT | {"size": 2}]
    assert encode_all(SHARED, each) == [plain(SHARED | one) for one in each]


def test_shared_members_with_a_percent_sign() -> None:
    shared = SHARED | {"user": "100%s"}
    assert encode_all(shared, [EVENT]) == [plain(shared | EVENT)]


def test_another_process_has_a_login_of_its_own() -> None:
    shared = SHARED | {"login": 1000}
    own, other, known = encode_all(
        shared, [EVENT, EVENT | {"pid": 9}, EVENT | {"pid": 9, "login": 7}]
    )
    assert own == plain(shared | EVENT)
    assert other == plain(SHARED | EVENT | {"pid": 9})
    assert known == plain(SHARED | EVENT | {"pid": 9, "login": 7})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(path=texts, detail=texts, size=st.integers(-(10**18), 10**18))
def test_any_text(path: str, detail: str, size: int) -> None:
    line = encode(path=path, detail=detail, size=size)
    members = SHARED | EVENT | {"path": path, "detail": detail, "size": size}
    assert line == plain(members)
    assert decode(line) == members
    assert text_member("path", path) in line
    assert as_recorded(path) == path


def test_name_that_is_not_utf8() -> None:
    line = encode(path="/a/\udcff\udc80")
    assert decode(line)["path"] == r"/a/\udcff\udc80" == as_recorded("/a/\udcff\udc80")
    assert text_member("path", "/a/\udcff\udc80") in line


@pytest.mark.parametrize("letter", ["x", "中", "\udcff", "\x01", '"'])
@pytest.mark.parametrize("count", [3_000, 40_000])
def test_long_text_loses_its_front(letter: str, count: int) -> None:
    path = "/" + letter * count + "/end"
    line = encode(path=path, to=path, detail=path)
    recorded = decode(line)["path"]
    written = len(json.dumps(recorded, ensure_ascii=False).encode()) - 2
    assert recorded.endswith(letter.encode("utf-8", "backslashreplace").decode() + "/end")
    if recorded.startswith("…"):
        assert MAX_TEXT_SIZE - 7 < written <= MAX_TEXT_SIZE
    else:
        assert recorded == as_recorded(path)
        assert len(recorded) >= len(path)
    assert recorded.startswith("…") == (count == 40_000 or letter in "\udcff\x01")
    assert text_member("path", path) in line


def test_members_that_are_wrong() -> None:
    with pytest.raises(AssertionError, match="members are"):
        encode_all(SHARED, [{"op": "open"}])
    with pytest.raises(AssertionError, match="members are"):
        encode(colour="red")


# -- read -----------------------------------------------------------------------------------


def changed(**members: object) -> bytes:
    value = {**SHARED, **EVENT, **members}
    return plain({name: one for name, one in value.items() if one is not None})


def test_facts() -> None:
    ts = str(SHARED["ts"])
    assert facts_of(encode()) == Facts("open", ts, behind=False, epoch=None)
    assert facts_of(encode(wall=ts)) == Facts("open", ts, behind=True, epoch=None)
    line = changed(op="log.epoch", epoch=12)
    assert facts_of(line) == Facts("log.epoch", ts, behind=False, epoch=12)


def test_members_that_are_not_known_yet() -> None:
    """An older reader ignores them."""
    for more in (
        {"a": 1},
        {"zone": "x", "wall": SHARED["ts"], "epoch": 3},
        {"path": "é", "~": "é"},
    ):
        line = changed(**more)
        members = json.loads(line)
        assert decode(line) == members
        assert facts_of(line)[2:] == ("wall" in more, more.get("epoch"))


BAD = [
    (b"", "not JSON"),
    (b"[]", "members are missing"),
    (b"[" * 60_000, "not JSON"),
    (b"{}", "members are missing"),
    (b"\xff", "not JSON"),
    (encode() + b" ", "not canonical"),
    (encode().replace(b":2,", b": 2,"), "not canonical"),
    (encode().replace(b'"pid":2', b'"pid":02'), "not JSON"),
    (encode().replace(b'"pid":2', b'"pid":2e0'), "wrong type"),
    (encode().replace(b'"pid":2', b'"pid":-0'), "not canonical"),
    (encode().replace(b'"pid":2', b'"pid":2,"pid":2'), "not canonical"),
    (encode().replace(b'"h"', b'"\\u0068"'), "not canonical"),
    (encode().replace(b'"h"', b'"\\/"'), "not canonical"),
    (encode().replace(b'"h"', b'"\\u000A"'), "not canonical"),
    (encode().replace(b'"h"', b'"\x01"'), "not JSON"),
    (encode().replace(b'"h"', b'"\xff"'), "utf-8|not JSON"),
    (encode().replace(b'"h"', b'"\\ud800"'), "not canonical"),
    (changed(pid="2"), "wrong type"),
    (changed(pid=True), "wrong type"),
    (changed(host=1), "wrong type"),
    (changed(more=None, extra=[]), "wrong type"),
    (changed(extra=1.5), "wrong type"),
    (changed(v=2), "later version"),
    (changed(v=0), "no meaning"),
    (changed(ts="2026-11-31T04:00:00.000000Z"), "does not exist"),
    (changed(ts="2026-02-29T04:00:00.000000Z"), "does not exist"),
    (changed(ts="1969-12-31T04:00:00.000000Z"), "does not exist"),
    (changed(ts="9999-12-31T04:00:00.000000Z"), "does not exist"),
    (changed(wall="2026-02-30T04:00:00.000000Z"), "does not exist"),
    (changed(more="x", wall="2026-02-30T04:00:00.000000Z"), "does not exist"),
    (changed(outcome="maybe"), "no meaning"),
    (changed(op="Open"), "no meaning"),
    (changed(op=""), "no meaning"),
    (changed(ts="2026-11-30"), "no meaning"),
    (changed(ts="2026-13-30T04:00:00.000000Z"), "no meaning"),
    (changed(ts="2026-11-32T04:00:00.000000Z"), "no meaning"),
    (changed(ts="2026-11-30T24:00:00.000000Z"), "no meaning"),
    (changed(ts="2026-11-30T04:60:00.000000Z"), "no meaning"),
    (changed(ts="2026-11-30T04:00:60.000000Z"), "no meaning"),
    (changed(ts="２026-11-30T04:00:00.000000Z"), "no meaning"),  # noqa: RUF001 - not an ASCII digit
    (changed(wall="now"), "no meaning"),
    (changed(user=None), "members are missing"),
    (changed(path="x" * MAX_SIZE), "too long"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_lines_that_are_no_entries(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        facts_of(line)
    with pytest.raises(ValueError, match=reason):
        decode(line)


def test_every_member_at_once() -> None:
    numbers = {"count", "epoch", "exit_code", "login", "pid", "size", "step_ms", "uid", "up_ms"}
    given: dict[str, str | int] = {name: 7 if name in numbers else "x" for name in MEMBERS}
    given |= SHARED | EVENT | {"wall": str(SHARED["ts"])}
    (line,) = encode_all({}, [given])
    assert line == plain(given)
    assert facts_of(line) == Facts("open", str(SHARED["ts"]), behind=True, epoch=7)
