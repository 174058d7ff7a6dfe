"""Large files in stripes by several processes: the same body as by one, and every fault noticed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from encvault.crypto import NotAuthentic, stream
from encvault.crypto.comparison import Comparison
from encvault.crypto.suite import Suite
from encvault.errors import InputOutputError
from encvault.fs import calls
from encvault.vault import stripes
from encvault.vault.stripes import STRIPE_SIZE, CutShort, Striped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = bytes(range(32))
CONTEXT = b"the header"
HEAD = b"{}" + bytes(254)
SIZES = [
    0,
    1,
    STRIPE_SIZE - 257,
    STRIPE_SIZE - 256,
    STRIPE_SIZE - 255,
    2 * STRIPE_SIZE - 256,
    3 * STRIPE_SIZE + 12_345,
    7 * STRIPE_SIZE,
]


class Pair:
    """A plain and a sealed file, and the stripes between them."""

    def __init__(self, folder: Path, size: int, jobs: int, suite: Suite) -> None:
        self.content = os.urandom(size)
        (folder / "plain").write_bytes(b"before" + self.content + b"after")
        self.plain = os.open(folder / "plain", os.O_RDWR)
        self.sealed = os.open(folder / "sealed", os.O_RDWR | os.O_CREAT)
        self.opened = os.open(folder / "opened", os.O_RDWR | os.O_CREAT)
        self.suite = suite
        self.ticks: list[int] = []
        os.write(self.sealed, CONTEXT)
        self.body = Striped(
            sealed=self.sealed,
            body_offset=len(CONTEXT),
            head=HEAD,
            plain=self.plain,
            plain_offset=6,
            size=size,
            jobs=jobs,
            tick=self.ticks.append,
            path="plain",
        )

    def seal(self) -> bytes:
        self.body.seal(stream.ChunkWriter(self.suite, KEY, CONTEXT))
        return self.sealed_bytes()

    def sealed_bytes(self) -> bytes:
        return os.pread(self.sealed, 1 << 23, len(CONTEXT))

    def reader(self) -> stream.ChunkReader:
        return stream.ChunkReader(self.suite, KEY, CONTEXT, self.sealed_bytes()[:56])

    def open(self, *, sparse: bool = False) -> bytes:
        self.body.plain, self.body.plain_offset = self.opened, 0
        self.body.open(self.reader(), sparse=sparse)
        os.ftruncate(self.opened, self.body.size)
        return os.pread(self.opened, 1 << 23, 0)

    def flip(self, fd: int, at: int) -> None:
        byte = os.pread(fd, 1, at)[0]
        os.pwrite(fd, bytes([byte ^ 1]), at)

    def close(self) -> None:
        for fd in (self.plain, self.sealed, self.opened):
            os.close(fd)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(stripes, "RUN", 2)
    made = []

    def new(size: int, jobs: int = 3, suite: Suite = Suite.AES_256_GCM) -> Pair:
        made.append(Pair(tmp_path, size, jobs, suite))
        return made[-1]

    yield new
    for pair in made:
        pair.close()
    with pytest.raises(ChildProcessError):  # no process is left
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_stripes_make_the_body_that_a_stream_makes_and_read_it(
    make: Any, size: int, jobs: int, suite: Suite
) -> None:
    pair = make(size, jobs, suite)
    body = pair.seal()
    assert len(body) == stream.body_size(len(HEAD) + size)
    # the other way of reading: pyca's own class, or ours for SM4
    assert stream.open(suite, KEY, CONTEXT, body) == HEAD + pair.content
    assert pair.body.matches_sealed(pair.reader())
    assert pair.open() == pair.content
    assert pair.body.matches_plain()
    assert sum(pair.ticks) == 4 * (len(HEAD) + size)


@pytest.mark.parametrize("suite", Suite)
def test_stripes_read_the_body_that_a_stream_made(make: Any, suite: Suite) -> None:
    pair = make(2 * STRIPE_SIZE + 99, suite=suite)
    body = stream.seal(suite, KEY, CONTEXT, HEAD + pair.content)
    os.pwrite(pair.sealed, body, len(CONTEXT))
    assert pair.open() == pair.content


@pytest.mark.parametrize("at", [0, STRIPE_SIZE, 2 * STRIPE_SIZE + 50])
def test_a_copy_that_differs_in_one_bit_is_noticed(make: Any, at: int) -> None:
    pair = make(3 * STRIPE_SIZE)
    pair.seal()
    # authentic, but of other content: as if the source had changed between two reads
    other = bytearray(pair.content)
    other[at] ^= 1
    body = stream.seal(pair.suite, KEY, CONTEXT, HEAD + bytes(other))
    os.pwrite(pair.sealed, body, len(CONTEXT))
    assert not pair.body.matches_sealed(pair.reader())
    pair.open()
    pair.flip(pair.opened, at)
    assert not pair.body.matches_plain()
    os.ftruncate(pair.opened, at)
    assert not pair.body.matches_plain()


@pytest.mark.parametrize("chunk", [0, 7, 8, 23])
def test_a_chunk_that_is_damaged_is_named(make: Any, chunk: int) -> None:
    pair = make(3 * STRIPE_SIZE)
    pair.seal()
    pair.flip(pair.sealed, len(CONTEXT) + 56 + chunk * 16_400 + 7)
    with pytest.raises(NotAuthentic) as caught:
        pair.body.matches_sealed(pair.reader())
    assert caught.value.chunk_index == chunk
    with pytest.raises(NotAuthentic):
        pair.open()


def test_stripes_that_are_exchanged_do_not_open(make: Any) -> None:
    pair = make(4 * STRIPE_SIZE)
    body = bytearray(pair.seal())
    span = 8 * 16_400
    one, two = slice(56, 56 + span), slice(56 + span, 56 + 2 * span)
    body[one], body[two] = body[two], body[one]
    os.pwrite(pair.sealed, body, len(CONTEXT))
    with pytest.raises(NotAuthentic):
        pair.open()


def test_a_file_that_ends_early_is_told(make: Any) -> None:
    pair = make(3 * STRIPE_SIZE)
    body = pair.seal()
    os.ftruncate(pair.sealed, len(CONTEXT) + len(body) - 1)
    with pytest.raises(CutShort):
        pair.body.matches_sealed(pair.reader())
    os.ftruncate(pair.plain, 6 + 2 * STRIPE_SIZE)
    with pytest.raises(CutShort):
        pair.seal()


def test_an_error_in_one_process_stops_the_others(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make(100 * STRIPE_SIZE, jobs=4)
    real = calls.write_at

    def fail(fd: int, data: Any, offset: int) -> None:
        if 4 * STRIPE_SIZE < offset < 6 * STRIPE_SIZE:
            raise OSError(28, "No space left on device")
        time.sleep(0.02)
        real(fd, data, offset)

    monkeypatch.setattr(calls, "write_at", fail)
    with pytest.raises(OSError, match="No space left"):
        pair.seal()
    assert os.fstat(pair.sealed).st_size < 50 * STRIPE_SIZE


def test_a_body_is_sealed_once(make: Any) -> None:
    pair = make(3 * STRIPE_SIZE)
    writer = stream.ChunkWriter(pair.suite, KEY, CONTEXT)
    pair.body.seal(writer)
    with pytest.raises(AssertionError, match="sealed once"):
        pair.body.seal(writer)


@pytest.mark.parametrize("where", ["seal", "compare"])
def test_an_interrupt_leaves_no_process(make: Any, where: str) -> None:
    pair = make(20 * STRIPE_SIZE)
    if where == "compare":
        pair.seal()

    def interrupt(_size: int) -> None:
        raise KeyboardInterrupt

    pair.body.tick = interrupt
    with pytest.raises(KeyboardInterrupt):
        pair.seal() if where == "seal" else pair.body.matches_sealed(pair.reader())


def test_a_process_that_is_killed_is_told(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make(20 * STRIPE_SIZE)
    me = os.getpid()

    def die(_fd: int, _data: Any, _offset: int) -> None:
        if os.getpid() != me:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(calls, "write_at", die)
    with pytest.raises(InputOutputError, match="plain: a worker process was killed"):
        pair.seal()


def test_without_a_comparison_no_tags_are_made(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make(3 * STRIPE_SIZE)
    pair.body.is_compared = False
    monkeypatch.setattr(Comparison, "tag", None)
    body = pair.seal()
    assert stream.open(pair.suite, KEY, CONTEXT, body) == HEAD + pair.content
    assert pair.open() == pair.content
    assert pair.body.tags == b""


def test_runs_of_zeros_become_holes(tmp_path: Path, make: Any) -> None:
    pair = make(2 * STRIPE_SIZE)
    pair.content = bytes(STRIPE_SIZE) + os.urandom(100) + bytes(STRIPE_SIZE - 100)
    os.pwrite(pair.plain, pair.content, 6)
    pair.seal()
    assert pair.open(sparse=True) == pair.content
    assert (tmp_path / "opened").stat().st_blocks * 512 <= 3 * 65_536


def test_a_comparison_tells_content_and_position_apart() -> None:
    one, other = Comparison(), Comparison()
    assert one.tag(0, b"a" * 1000) == one.tag(0, bytearray(b"a" * 1000))
    assert one.tag(0, b"") == one.tag(0, b"")
    tags = {
        one.tag(0, b"a"),
        one.tag(1, b"a"),
        one.tag(0, b"b"),
        one.tag(0, b""),
        other.tag(0, b"a"),
    }
    assert len(tags) == 5
    assert {len(tag) for tag in tags} == {16}


def test_a_stripe_is_whole_chunks() -> None:
    assert STRIPE_SIZE == stripes.STRIPE_CHUNKS * 16_384
