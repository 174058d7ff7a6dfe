"""Header, record and canonical JSON: every rule of docs/format.md sections 1 to 3."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from encvault.crypto.suite import Suite
from encvault.encoding import decode_base64, decode_json, encode_base64, encode_json, is_id
from encvault.envelope import (
    Header,
    InlineKeyInfo,
    Record,
    VaultKeyInfo,
    check_layout,
    check_path,
    decode_header,
    decode_record,
    header_size,
)
from encvault.errors import (
    MalformedHeader,
    MalformedRecord,
    NotSealed,
    UnknownFlags,
    UnknownSuite,
    UnsafePath,
    UnsupportedVersion,
)

ID = "a" * 26
VAULT = Header(Suite.AES_256_GCM, 256, VaultKeyInfo(ID, ID, ID))
INLINE = Header(Suite.SM4_GCM, 512, InlineKeyInfo(ID, ({"id": "x"},)))
FILE = Record("file", "a/b.txt", 5, size=3)


@pytest.mark.parametrize("header", [VAULT, INLINE])
def test_headers_round_trip(header: Header) -> None:
    data = header.encode()
    assert header_size(data[:20], "x") == len(data)
    assert decode_header(data, "x") == header


def patched(offset: int, new: bytes) -> bytes:
    data = bytearray(VAULT.encode())
    data[offset : offset + len(new)] = new
    return bytes(data)


def with_key_info(text: bytes) -> bytes:
    return VAULT.encode()[:16] + len(text).to_bytes(4) + text


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotSealed),
        (VAULT.encode()[:19], NotSealed),
        (patched(0, b"E"), NotSealed),
        (patched(8, b"\x02"), UnsupportedVersion),
        (patched(8, b"\x00"), UnsupportedVersion),
        (patched(9, b"\x00"), UnknownSuite),
        (patched(9, b"\x03"), UnknownSuite),
        (patched(10, b"\x80\x00"), UnknownFlags),
        (patched(12, (0).to_bytes(4)), MalformedHeader),
        (patched(12, (257).to_bytes(4)), MalformedHeader),
        (patched(12, (1_048_832).to_bytes(4)), MalformedHeader),
        (patched(16, (1).to_bytes(4)), MalformedHeader),
        (patched(16, (262_145).to_bytes(4)), MalformedHeader),
        (VAULT.encode()[:-1], MalformedHeader),
        (VAULT.encode() + b"x", MalformedHeader),
        (with_key_info(b"[]"), MalformedHeader),
        (with_key_info(b"{}"), MalformedHeader),
        (with_key_info(b"\xff\xff"), MalformedHeader),
        (with_key_info(encode_json({"file": ID, "key": ID, "vault": "A" * 26})), MalformedHeader),
        (with_key_info(encode_json({"file": ID, "key": ID, "vault": ID, "x": 1})), MalformedHeader),
        (with_key_info(encode_json({"file": ID, "slots": []})), MalformedHeader),
        (with_key_info(encode_json({"file": ID, "slots": [1]})), MalformedHeader),
        (with_key_info(encode_json({"file": ID, "slots": {}})), MalformedHeader),
        (with_key_info(encode_json({"file": "x", "slots": [{}]})), MalformedHeader),
        (with_key_info(encode_json({"file": ID, "slots": [{}] * 65})), MalformedHeader),
        (with_key_info(b"[" * 100_000), MalformedHeader),
    ],
)
def test_headers_that_must_be_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_header(data, "x")


LINK = Record("symlink", "l", 1, size=9, mode=0o777, mtime_ns=7, owner=(0, 0))
RECORDS = [
    FILE,
    Record("file", "报价单 2026.xlsx", 1, size=0, mode=0o4755, mtime_ns=-1, owner=(0, 1000)),
    Record("file", "bytes\udcff", 1, sparse=True, xattrs=(("user.a", b"\0"), ("user.b", b""))),
    Record("file", "n", 1, parent="", size=9, part_size=5, parts=(ID,)),
    Record("dir", "d", 1, parent=ID, folder=ID, size=0, mode=0o700, mtime_ns=7),
    Record("symlink", "l", 1, size=4, mtime_ns=7),
    LINK,
    Record("archive", "a.tar", 1),
    Record("part", "", 1, size=4, part_of=(ID, 1)),
    Record("file", "x" * 255, 1, size=1),
]


@pytest.mark.parametrize("record", RECORDS)
def test_records_round_trip_and_are_padded(record: Record) -> None:
    data = record.encode()
    assert len(data) % 256 == 0
    assert decode_record(data, "x") == record


def raw(value: dict[str, Any] | bytes) -> bytes:
    text = value if isinstance(value, bytes) else encode_json(value)
    return text + bytes(-len(text) % 256)


BASE = {"type": "file", "sealed_at_ns": 5, "path": "a"}
PARTED = {**BASE, "parent": "", "size": 9, "part_size": 5, "parts": [ID]}
PART = {"type": "part", "sealed_at_ns": 5, "size": 1, "of": ID, "index": 1}
DIR = {"type": "dir", "sealed_at_ns": 5, "path": "d", "parent": "", "size": 0, "folder": ID}


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name}


@pytest.mark.parametrize(
    "data",
    [
        bytes(256),
        raw(b"[]"),
        raw(b"{}"),
        raw(b'{"path":"a", "sealed_at_ns":5,"type":"file"}'),
        encode_json(BASE),
        encode_json(BASE) + b"\0" * 300,
        raw(encode_json(BASE) + b"\0x"),
        raw({**BASE, "type": "device"}),
        raw({**BASE, "type": "FILE"}),
        raw({**BASE, "more": 1}),
        raw(without(BASE, "sealed_at_ns")),
        raw(without(BASE, "path")),
        raw(b'{"path":"\\ud800","sealed_at_ns":5,"type":"file"}'),
        raw({**BASE, "path": 1}),
        raw({**BASE, "path_bytes": encode_base64(b"a")}),
        raw({**without(BASE, "path"), "path_bytes": encode_base64(b"utf-8")}),
        raw({**without(BASE, "path"), "path_bytes": "?"}),
        raw({**BASE, "size": "1"}),
        raw({**BASE, "size": True}),
        raw({**BASE, "size": -1}),
        raw({**BASE, "mode": 0o10000}),
        raw({**BASE, "uid": 1}),
        raw({**BASE, "gid": 1}),
        raw({**BASE, "sparse": False}),
        raw({**BASE, "sparse": 1}),
        raw({**BASE, "xattrs": {}}),
        raw({**BASE, "xattrs": []}),
        raw({**BASE, "xattrs": {"user.a": 1}}),
        raw({**BASE, "xattrs": {"user.a": encode_base64(bytes(65_537))}}),
        raw({**BASE, "parent": "x"}),
        raw({**BASE, "folder": ID}),
        raw({**PARTED, "parts": []}),
        raw({**PARTED, "parts": "x"}),
        raw({**PARTED, "parts": ["x"]}),
        raw({**PARTED, "part_size": 0}),
        raw(without(PARTED, "part_size")),
        raw(without(PARTED, "parts")),
        raw({**PART, "index": 0}),
        raw({**PART, "of": "x"}),
        raw({**PART, "path": "a"}),
        raw(without(PART, "size")),
        raw(without(DIR, "folder")),
        raw(without(DIR, "size")),
        raw({**DIR, "sparse": True}),
        raw({"type": "archive", "sealed_at_ns": 1, "path": "a", "size": 3}),
        raw({**BASE, "type": "symlink"}),
        raw({**BASE, "type": "symlink", "size": 0}),
        raw({**BASE, "type": "symlink", "size": 4096}),
        LINK._replace(size=0).encode(),  # in the form of nearly every record
        LINK._replace(size=4096).encode(),
    ],
)
def test_records_that_must_be_refused(data: bytes) -> None:
    with pytest.raises(MalformedRecord):
        decode_record(data, "x")


@pytest.mark.parametrize("size", [1, 4095])
def test_a_link_may_be_as_long_as_a_path(size: int) -> None:
    record = LINK._replace(size=size)
    assert decode_record(record.encode(), "x") == record


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/passwd", "a/", "a//b", "..", "a/../b", ".", "a/.", "a\0b", "x" * 1024),
        *(".encvault", ".Encvault/vault.a.json", "a/.ENCVAULT", "a/.encvault/keys/x.json"),
    ],
)
def test_paths_that_would_leave_the_target(path: str) -> None:
    with pytest.raises(UnsafePath):
        check_path(path, "x")
    with pytest.raises(UnsafePath):
        decode_record(raw({**BASE, "path": path}), "x")


def test_a_record_has_a_limit() -> None:
    with pytest.raises(ValueError, match="too large"):
        FILE._replace(parts=(ID,) * 40_000, part_size=1).encode()


def test_a_record_knows_its_name() -> None:
    assert FILE.name == "b.txt"
    assert RECORDS[1].name == "报价单 2026.xlsx"


@pytest.mark.parametrize(
    "text",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b"1.0",
        b"1e3",
        b"NaN",
        b"-0",
        b"01",
        b"null",
        b'{"a":null}',
        b"[null]",
        b'"\\u0041"',
        b'"\\/"',
        b"9223372036854775808",
        b'"\xff"',
        b'"\\ud800"',
        b"{",
        b"",
        b" 1",
        b"1\n",
        b"[" * 100_000,
    ],
)
def test_json_that_is_not_canonical(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, True], "a": 'é\n\u0001"\\'}, '{"a":"é\\n\\u0001\\"\\\\","b":[1,true]}'.encode()),
        (-(1 << 63), b"-9223372036854775808"),
        ("\U0001f512", '"\U0001f512"'.encode()),
    ],
)
def test_canonical_json(value: Any, text: bytes) -> None:
    assert encode_json(value) == text
    assert decode_json(text) == value


@pytest.mark.parametrize("text", ["QQ=", "QR==", "Q Q==", "Q", None, 5, "QQ==\n"])
def test_base64_is_strict(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_base64(text)


def test_ids() -> None:
    assert is_id("a" * 25 + "4")
    for wrong in ("a" * 25 + "b", "a" * 25, "a" * 27, "A" * 26, "1" * 26, 5, None, "a" * 26 + "\n"):
        assert not is_id(wrong)


def test_no_depth_of_nesting_is_more_than_an_error() -> None:
    # somewhere in between the text is still read, but its value not written again
    outcomes = set()
    for depth in range(1, sys.getrecursionlimit() + 20):
        text = b"[" * depth + b"]" * depth
        try:
            assert encode_json(decode_json(text)) == text
            outcomes.add("read")
        except ValueError as error:
            assert "nested too deeply" in str(error)  # noqa: PT017 - either is right
            outcomes.add("refused")
        except RecursionError:
            # our own call above, one frame from the limit; what was read was read
            continue
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("layout", "record", "error"),
    [
        ("alone", Record("dir", "d", 1, parent="", folder=ID, size=0), MalformedRecord),
        ("alone", Record("part", "", 1, size=4, part_of=(ID, 1)), MalformedRecord),
        ("alone", Record("file", "n", 1, size=9, part_size=5, parts=(ID,)), MalformedRecord),
        ("alone", Record("file", "a/b", 1, size=0), UnsafePath),
        ("visible", Record("archive", "a.tar", 1), MalformedRecord),
        ("visible", Record("file", "n", 1, parent="", size=0), MalformedRecord),
        ("hidden", Record("file", "n", 1, size=0), MalformedRecord),
        ("hidden", Record("archive", "a.tar", 1, parent=""), MalformedRecord),
        ("hidden", Record("file", "a/b", 1, parent="", size=0), UnsafePath),
        ("hidden", Record("dir", "a/b", 1, parent="", folder=ID, size=0), UnsafePath),
        ("hidden", Record("dir", "d", 1, parent="", folder=ID, size=1), MalformedRecord),
        ("alone", Record("archive", "a.tar", 1), None),
        ("visible", Record("file", "a/b", 1, size=0), None),
        ("hidden", Record("part", "", 1, size=4, part_of=(ID, 1)), None),
    ],
)
def test_a_record_belongs_to_one_layout(
    layout: Any, record: Record, error: type[Exception] | None
) -> None:
    if error is None:
        check_layout(record, layout, "x")
        return
    with pytest.raises(error):
        check_layout(record, layout, "x")
