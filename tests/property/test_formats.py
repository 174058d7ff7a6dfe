"""Whatever the bytes: what was sealed opens, and anything else is an error."""

from __future__ import annotations

import base64
import os
import re
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from encvault import envelope
from encvault.crypto import NotAuthentic, stream
from encvault.crypto.suite import Suite
from encvault.encoding import decode_json, encode_base32, encode_json
from encvault.envelope import Header, Record, VaultKeyInfo, decode_header, decode_record
from encvault.errors import EncvaultError

KEY = bytes(range(32))
ids = st.binary(min_size=16, max_size=16).map(encode_base32)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
integers = st.integers(-(1 << 63), (1 << 63) - 1)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | integers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abcé\n", max_size=3), inner),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_round_trips(value: Any) -> None:
    assert decode_json(encode_json(value)) == value


records = st.builds(
    lambda **members: Record(**members)._replace(sealed_at_ns=1),
    type=st.sampled_from(["file", "symlink", "dir", "archive"]),
    path=paths | st.binary(min_size=1, max_size=9).map(os.fsdecode),
    sealed_at_ns=st.just(0),
    parent=st.none() | ids | st.just(""),
    folder=st.none() | ids,
    size=st.none() | st.integers(0, (1 << 63) - 1),
    mode=st.none() | st.integers(0, 0o7777),
    mtime_ns=st.none() | integers,
    owner=st.none() | st.tuples(st.integers(0, 1 << 32), st.integers(0, 1 << 32)),
    sparse=st.booleans(),
    xattrs=st.just(()) | st.just((("user.a", b"b"),)),
    parts=st.just(()) | st.tuples(ids),
    part_of=st.none() | st.tuples(ids, st.integers(1, 9)),
)


@given(records)
def test_what_is_written_out_is_canonical_json(record: Record) -> None:
    assert record.encode().rstrip(b"\0") == encode_json(record._members())


def record_of(**members: Any) -> Record:
    # of a named tuple itself, members with defaults would be made up as well
    return Record(**members)


@given(
    st.builds(
        record_of,
        type=st.just("file"),
        path=paths,
        sealed_at_ns=st.integers(0, (1 << 63) - 1),
        parent=st.none() | ids,
        size=st.none() | st.integers(0, (1 << 63) - 1),
        mode=st.none() | st.integers(0, 0o7777),
        mtime_ns=st.none() | integers,
        owner=st.none() | st.tuples(st.integers(0, 1 << 32), st.integers(0, 1 << 32)),
        sparse=st.booleans(),
    )
)
def test_records_round_trip(record: Record) -> None:
    assert decode_record(record.encode(), "x") == record


numbers = st.sampled_from(
    ["0", "-0", "7", "-7", "007", "4095", "4096", "1.0", "1e3", "٣", ""]
    + [str(sign * (1 << 63) + more) for sign in (1, -1) for more in (-1, 0, 1)]
) | integers.map(str)
odd_paths = paths | st.sampled_from(
    [
        "",
        ".",
        "../a",
        "a//b",
        "/a",
        "a\\",
        "a\\u0041",
        '"',
        "a\0",
        "a\x1f",
        "a\x7f",
        "é",
        "a" * 2000,
    ]
)


@example(2, "-0", "a", "", "file", b"")
@example(0, str(1 << 63), "a", "", "file", b"")
@example(1, "4096", "a", "", "file", b"")
@example(2, str(-(1 << 63) - 1), "a", "", "symlink", b"")
@given(
    st.integers(0, 5),
    numbers,
    odd_paths,
    st.sampled_from(["", '"parent":"",', '"parent":"x",', f'"parent":"{"a" * 26}",']),
    st.sampled_from(["file", "symlink", "dir", "part", "files"]),
    st.binary(max_size=2),
)
def test_the_short_way_to_a_record_comes_to_the_same_as_the_long_one(
    which: int, number: str, path: str, parent: str, kind: str, end: bytes
) -> None:
    six = ["0", "420", "-5", "6", "7", "0"]
    six[which] = number
    gid, mode, mtime, at, size, uid = six
    text = (
        f'{{"gid":{gid},"mode":{mode},"mtime_ns":{mtime},{parent}"path":"{path}",'
        f'"sealed_at_ns":{at},"size":{size},"type":"{kind}","uid":{uid}}}'
    ).encode() + end
    assert_both_ways_agree(text + bytes(-len(text) % 256))


def assert_both_ways_agree(data: bytes) -> None:
    """What is canonical by its form is what comes out the same if it is encoded again."""

    def outcome() -> object:
        try:
            return decode_record(data, "x")
        except EncvaultError as error:
            return type(error), str(error)

    found = outcome()
    assert not isinstance(found, Record) or found.encode() == data
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(envelope, "_decode_usual", lambda _text: None)
        assert outcome() == found


@given(st.binary(max_size=70))
def test_base32_is_that_of_the_standard_library(data: bytes) -> None:
    assert encode_base32(data) == base64.b32encode(data).decode().rstrip("=").lower()


@given(st.binary(max_size=300))
def test_random_bytes_are_a_named_error(data: bytes) -> None:
    for decode in (decode_header, decode_record):
        with pytest.raises(EncvaultError):
            decode(data, "x")  # type: ignore[operator]


usual_records = st.builds(
    record_of,
    type=st.sampled_from(["file", "symlink"]),
    path=paths,
    sealed_at_ns=st.integers(0, (1 << 63) - 1),
    parent=st.none() | ids | st.just(""),
    size=st.integers(0, 4000) | st.integers(0, (1 << 63) - 1),
    mode=st.integers(0, 0o7777),
    mtime_ns=st.just(0) | integers,
    owner=st.tuples(st.integers(0, 9), st.integers(0, 1 << 32)),
)
digits = re.compile(rb"-?[0-9]+")


@st.composite
def rewritten(draw: st.DrawFn) -> bytes:
    """A usual record's bytes, nearly always changed: in one place, in a number, in the padding."""
    text = draw(usual_records).encode().rstrip(b"\0")
    kind = draw(st.sampled_from(["anywhere", "number", "padding", "cut or more", "all"]))
    if kind in ("anywhere", "all"):
        text = draw(damaged(text))
    if kind in ("number", "all") and (places := list(digits.finditer(text))):
        place = draw(st.sampled_from(places))
        begin = draw(st.sampled_from([b"0", b"-", b"-0", b"+", b" ", b"9" * 16, b""]))
        end = draw(st.sampled_from([b"", b".0", b"e0", b" ", "٣".encode(), b"_0"]))
        text = text[: place.start()] + begin + place[0] + end + text[place.end() :]
    data = text + bytes(-len(text) % 256)
    if kind in ("padding", "all"):
        data = text + bytes(
            draw(st.sampled_from([0, -len(text) % 256 + 256]) | st.integers(0, 520))
        )
    return draw(damaged(data)) if kind == "cut or more" else data


@settings(max_examples=600)
@given(rewritten())
def test_no_other_bytes_are_canonical_by_their_form(data: bytes) -> None:
    assert_both_ways_agree(data)


@given(usual_records)
def test_a_usual_record_is_seen_to_be_canonical_by_its_form(record: Record) -> None:
    text = record.encode().rstrip(b"\0")
    escaped = b"\\" in text  # as few names are
    assert envelope._decode_usual(text) == (None if escaped else record)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with one byte flipped, inserted, deleted, or with an end cut or added."""
    at = draw(st.integers(0, len(data) - 1))
    kind = draw(st.sampled_from(["flip", "insert", "delete", "cut", "append"]))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if kind == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=2)) + data[at:]
    if kind == "delete":
        return data[:at] + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    return data + draw(st.binary(min_size=1, max_size=20))


@settings(max_examples=300)
@given(st.data(), st.sampled_from(Suite), st.sampled_from([0, 5, 16_383, 16_384, 33_000]))
def test_no_damage_to_a_sealed_file_passes(data: st.DataObject, suite: Suite, size: int) -> None:
    plaintext = bytes(index % 256 for index in range(size))
    header = Header(suite, 256, VaultKeyInfo("a" * 26, "a" * 26, "a" * 26)).encode()
    sealed = header + stream.seal(suite, KEY, header, plaintext)
    broken = data.draw(damaged(sealed))
    if broken == sealed:
        return
    head, body = broken[: len(header)], broken[len(header) :]
    released = bytearray()
    decryptor = stream.decryptor(suite, KEY, head)
    with pytest.raises(NotAuthentic):
        for at in range(0, len(body) or 1, 5000):
            released += decryptor.update(body[at : at + 5000])
        released += decryptor.finalize()
    assert plaintext.startswith(bytes(released))
    with pytest.raises((NotAuthentic, ValueError)):
        reader = stream.ChunkReader(suite, KEY, head, body[: stream.PREFIX_SIZE])
        count = stream.plaintext_size(len(body)) // stream.CHUNK_SIZE + 1
        for index in range(count):
            start, span = reader.span(index)
            reader.open(index, body[start : start + span], last=index == count - 1)
