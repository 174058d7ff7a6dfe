"""One sealed file, from the front and at random, and where exactly it is damaged."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from encvault.crypto.suite import Suite
from encvault.encoding import encode_json
from encvault.envelope import Header, Record, VaultKeyInfo
from encvault.errors import (
    ChunkCorrupt,
    EncvaultError,
    HeaderTampered,
    MalformedHeader,
    MalformedRecord,
    NotSealed,
    Truncated,
)
from encvault.secret import Secret
from encvault.vault.sealed import (
    PIECE_SIZE,
    Buffers,
    SealedReader,
    SealWriter,
    encode_sealed,
    read_front,
    read_header,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from encvault.envelope import Layout

ID = "a" * 26
KEY = Secret(bytes(range(32)))
HEADER = 129  # bytes, docs/format.md section 4
BODY = HEADER + 56
CHUNK = 16_400


class OneKey:
    def __init__(self, key: Secret = KEY, layout: Layout = "visible") -> None:
        self._key = key
        self.layout = layout

    def key_for(self, header: Header, path: str) -> Secret:
        return self._key


def sealed(
    content: bytes,
    *,
    suite: Suite = Suite.AES_256_GCM,
    record: bytes | None = None,
    metadata_size: int | None = None,
) -> bytes:
    record = Record("file", "f", 1, size=len(content)).encode() if record is None else record
    info = VaultKeyInfo(ID, ID, ID)
    header = Header(suite, metadata_size or len(record), info).encode()
    return encode_sealed(suite, KEY, header, record, content)


def read(path: Path, key: Secret = KEY, layout: Layout = "visible") -> bytes:
    with path.open("rb", buffering=0) as file:
        reader = SealedReader(file.fileno(), "shown", Buffers())
        _record, pieces = reader.open(OneKey(key, layout))
        return b"".join(map(bytes, pieces))


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("size", [0, 1, 16_127, 16_128, 16_129, 32_512])
def test_the_first_chunk_has_the_content_only_where_it_is_the_last(
    tmp_path: Path, suite: Suite, size: int
) -> None:
    content = os.urandom(size)
    path = tmp_path / "f"
    path.write_bytes(sealed(content, suite=suite))
    with path.open("rb") as file:
        front = read_front(file.fileno(), "shown", OneKey())
    assert front.content == (content if size < 16_128 else None)


def test_content_that_the_record_denies_is_not_taken_from_the_first_chunk(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(sealed(b"abc", record=Record("file", "f", 1, size=4).encode()))
    with path.open("rb") as file:
        assert read_front(file.fileno(), "shown", OneKey()).content is None


SIZES = [0, 1, 16_127, 16_128, 16_129, 100_000, PIECE_SIZE - 256, PIECE_SIZE, 3 * PIECE_SIZE + 5]


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("size", SIZES)
def test_written_in_pieces_and_in_one_is_the_same_format(
    tmp_path: Path, suite: Suite, size: int
) -> None:
    content = os.urandom(size)
    record = Record("file", "f", 1, size=size).encode()
    header = Header(suite, len(record), VaultKeyInfo(ID, ID, ID)).encode()
    path = tmp_path / "f"
    with path.open("wb", buffering=0) as file:
        writer = SealWriter(file.fileno(), suite, KEY, header, record, Buffers())
        for start in range(0, size, 333_333):
            piece = content[start : start + 333_333]
            assert writer.write(piece) == len(piece)
        writer.finish()
    assert writer.content_size == size
    assert path.stat().st_size == HEADER + 56 + 256 + size + 16 * ((256 + size) // 16_384 + 1)
    assert read(path) == content
    path.write_bytes(sealed(content, suite=suite))
    assert read(path) == content
    with path.open("rb") as file:
        found_header, found, found_size = read_record(file.fileno(), "shown", OneKey())
        assert read_header(file.fileno(), "shown") == found_header
    assert (found.path, found.size, found_size) == ("f", size, size)


def test_a_record_of_many_chunks_is_read(tmp_path: Path) -> None:
    xattrs = tuple((f"user.{index:03}", os.urandom(600)) for index in range(100))
    record = Record("file", "f", 1, size=5, xattrs=xattrs)
    assert len(record.encode()) > 4 * 16_384
    path = tmp_path / "f"
    path.write_bytes(sealed(b"hello", record=record.encode()))
    assert read(path) == b"hello"
    with path.open("rb") as file:
        assert read_record(file.fileno(), "shown", OneKey())[1:] == (record, 5)


def test_a_stream_through_a_pipe_is_read(tmp_path: Path) -> None:
    content = os.urandom(1_500_000)
    data = sealed(content)
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 12_345):
                pipe.write(data[start : start + 12_345])

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    reader = SealedReader(read_end, "shown", Buffers())
    _record, pieces = reader.open(OneKey())
    assert b"".join(map(bytes, pieces)) == content
    feeder.join()
    os.close(read_end)


def flip(at: int) -> Callable[[bytearray], object]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def cut(size: int) -> Callable[[bytearray], object]:
    def change(data: bytearray) -> None:
        del data[size:]

    return change


def exchange_chunks(data: bytearray) -> None:
    one = data[BODY + CHUNK : BODY + 2 * CHUNK]
    data[BODY + CHUNK : BODY + 2 * CHUNK] = data[BODY + 2 * CHUNK : BODY + 3 * CHUNK]
    data[BODY + 2 * CHUNK : BODY + 3 * CHUNK] = one


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (flip(BODY), ChunkCorrupt(path="shown", index=0, offset=BODY)),
        (flip(BODY + 3 * CHUNK), ChunkCorrupt(path="shown", index=3, offset=BODY + 3 * CHUNK)),
        (flip(-1), ChunkCorrupt(path="shown", index=61, offset=BODY + 61 * CHUNK)),
        (exchange_chunks, ChunkCorrupt(path="shown", index=1, offset=BODY + CHUNK)),
        (flip(HEADER), HeaderTampered(path="shown")),
        (flip(HEADER + 30), HeaderTampered(path="shown")),
        (cut(BODY), Truncated(path="shown", size=BODY)),
        (cut(HEADER + 55), Truncated(path="shown", size=HEADER + 55)),
        (cut(HEADER), Truncated(path="shown", size=HEADER)),
        (cut(BODY + CHUNK), Truncated(path="shown", size=BODY + CHUNK)),
        (cut(BODY + 2 * CHUNK + 15), Truncated(path="shown", size=BODY + 2 * CHUNK + 15)),
        (
            cut(BODY + 2 * CHUNK + 900),
            ChunkCorrupt(path="shown", index=2, offset=BODY + 2 * CHUNK),
        ),
    ],
)
@pytest.mark.parametrize("suite", Suite)
def test_damage_is_located(
    tmp_path: Path,
    suite: Suite,
    change: Callable[[bytearray], object],
    expected: EncvaultError,
) -> None:
    data = bytearray(sealed(bytes(1_000_000), suite=suite))
    change(data)
    path = tmp_path / "f"
    path.write_bytes(data)
    with pytest.raises(type(expected)) as caught:
        read(path)
    assert caught.value.fields() == expected.fields()


@pytest.mark.parametrize("at", [BODY, BODY + 2 * CHUNK])
def test_nothing_of_a_bad_piece_is_given_out(tmp_path: Path, at: int) -> None:
    content = os.urandom(2 * PIECE_SIZE)
    data = bytearray(sealed(content))
    data[at] ^= 1
    path = tmp_path / "f"
    path.write_bytes(data)
    given = bytearray()
    with (
        path.open("rb", buffering=0) as file,
        pytest.raises(ChunkCorrupt),
    ):
        reader = SealedReader(file.fileno(), "shown", Buffers())
        _record, pieces = reader.open(OneKey())
        for piece in pieces:
            given += piece
    assert content.startswith(given)
    assert len(given) <= (at - BODY) // CHUNK * 16_384


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(sealed(b"content"))
    with pytest.raises(HeaderTampered):
        read(path, Secret(bytes(32)))
    with path.open("rb") as file, pytest.raises(HeaderTampered):
        read_record(file.fileno(), "shown", OneKey(Secret(bytes(32))))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (flip(BODY), ChunkCorrupt),
        (flip(HEADER), HeaderTampered),
        (cut(BODY + 15), Truncated),
        (cut(BODY + 100), ChunkCorrupt),
        (cut(HEADER - 1), MalformedHeader),
        (cut(19), NotSealed),
    ],
)
def test_reading_the_record_alone_notices_damage_to_it(
    tmp_path: Path, change: Callable[[bytearray], object], error: type[EncvaultError]
) -> None:
    data = bytearray(sealed(bytes(1000)))
    change(data)
    path = tmp_path / "f"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(error):
        read_record(file.fileno(), "shown", OneKey())
    with pytest.raises(error):
        read(path)


def test_a_header_alone_is_read_without_the_body(tmp_path: Path) -> None:
    slots = {"file": ID, "slots": [{"id": "x" * 3000}]}
    text = encode_json(slots)
    data = b"encvault" + bytes([1, 1, 0, 0]) + (256).to_bytes(4) + len(text).to_bytes(4) + text
    path = tmp_path / "f"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert read_header(file.fileno(), "shown").encode() == data
    path.write_bytes(data[:-1])
    with path.open("rb") as file, pytest.raises(MalformedHeader):
        read_header(file.fileno(), "shown")
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(Truncated):
        read_record(file.fileno(), "shown", OneKey())


@pytest.mark.parametrize(
    ("record", "metadata_size", "content"),
    [
        (b"", 256, b"short"),
        (b"", 256, b""),
        (b"", 32_768, bytes(20_000)),
        (b"{}" + bytes(254), None, b""),
        (Record("file", "f", 1, size=6).encode(), None, b"hello"),
        (Record("file", "f", 1, size=4).encode(), None, b"hello"),
        (
            Record("file", "f", 1, parent="", size=8, part_size=4, parts=(ID,)).encode(),
            None,
            b"hello",
        ),
    ],
)
def test_a_record_that_lies_is_refused(
    tmp_path: Path, record: bytes, metadata_size: int | None, content: bytes
) -> None:
    path = tmp_path / "f"
    path.write_bytes(sealed(content, record=record, metadata_size=metadata_size))
    layout: Layout = "hidden" if b"parts" in record else "visible"
    with pytest.raises(MalformedRecord):
        read(path, layout=layout)
    if metadata_size:
        with path.open("rb") as file, pytest.raises(MalformedRecord):
            read_record(file.fileno(), "shown", OneKey())


def test_content_of_unknown_size_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(sealed(b"from a stream", record=Record("file", "stdin", 1).encode()))
    assert read(path) == b"from a stream"


@pytest.mark.parametrize("size", [BODY + 3 * CHUNK, BODY + 3 * CHUNK + 15])
def test_a_size_that_no_body_has_is_noticed_from_the_record_alone(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "f"
    path.write_bytes(sealed(bytes(1_000_000))[:size])
    with path.open("rb") as file, pytest.raises(Truncated) as caught:
        read_record(file.fileno(), "shown", OneKey())
    assert caught.value.size == size
