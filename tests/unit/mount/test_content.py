from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from encvault.crypto.suite import Suite
from encvault.envelope import Header, VaultKeyInfo
from encvault.fs import calls
from encvault.fs.tree import Tree
from encvault.mount import content as module
from encvault.mount.bases import Growing, Nothing
from encvault.mount.cache import Budget, Cache
from encvault.mount.content import BLOCK_SIZE, Content
from encvault.mount.spill import Slot, Spill
from encvault.secret import Secret
from encvault.vault.manifest import FOLDER, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = [
    0,
    1,
    5,
    16_127,
    16_128,
    16_384,
    BLOCK_SIZE - 1,
    BLOCK_SIZE,
    BLOCK_SIZE + 1,
    3 * BLOCK_SIZE,
]
BIG = 2 * BLOCK_SIZE + 77


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / FOLDER).mkdir()
    with Tree(str(tmp_path)) as tree:
        yield tree


class Place:
    """What a content needs around it."""

    def __init__(self, tree: Tree, suite: Suite = Suite.AES_256_GCM, budget: int = 1 << 30) -> None:
        self.tree = tree
        self.suite = suite
        self.budget = Budget(budget)
        self.spilled: Spill | None = None
        self.abandoned: list[str] = []

    def spill(self) -> Spill:
        if self.spilled is None:
            self.spilled = Spill(self.tree, self.suite, BLOCK_SIZE)
        return self.spilled

    def grow(self, limit: int = 1 << 40) -> Growing:
        file = new_id()
        header = Header(self.suite, 256, VaultKeyInfo(file, new_id(), new_id()))
        fd = calls.create(self.tree.folder(FOLDER), file)
        key = Secret(os.urandom(32))
        return Growing(fd, header, key, limit, lambda: self.abandoned.append(file))

    def content(self, base: bytes = b"") -> Content:
        one = Content(Nothing(), self.budget, self.spill, self.grow)
        if base:
            one.write(0, base)
        return one

    def close(self) -> None:
        if self.spilled is not None:
            self.spilled.close()
            self.spilled = None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(SIZES), st.sampled_from(SIZES)),
        st.tuples(st.just("append"), st.sampled_from(SIZES), st.just(0)),
        st.tuples(st.just("truncate"), st.sampled_from(SIZES), st.just(0)),
        st.tuples(st.just("zero"), st.sampled_from(SIZES), st.sampled_from(SIZES)),
        st.tuples(st.just("read"), st.sampled_from(SIZES), st.sampled_from(SIZES)),
    ),
    max_size=14,
)


@pytest.mark.parametrize("budget", [1 << 30, 100_000])
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps, begin=st.sampled_from(SIZES))
def test_content_is_what_a_file_would_have(
    tree: Tree, budget: int, steps: list[tuple[str, int, int]], begin: int
) -> None:
    place = Place(tree, budget=budget)
    model = bytearray(os.urandom(begin))
    content = place.content(bytes(model))
    try:
        for what, one, other in steps:
            if what in ("write", "append"):
                at = len(model) if what == "append" else one
                data = os.urandom(one if what == "append" else other)
                content.write(at, data)
                if data:
                    model.extend(bytes(max(0, at - len(model))))
                    model[at : at + len(data)] = data
            elif what == "truncate":
                content.truncate(one)
                del model[one:]
                model.extend(bytes(one - len(model)))
            elif what == "zero":
                content.zero(one, other)
                end = min(one + other, len(model))
                model[one:end] = bytes(max(0, end - one))
            else:
                assert bytes(content.read(one, other)) == model[one : one + other]
            assert content.size == len(model)
        assert b"".join(map(bytes, content.pieces())) == model
    finally:
        content.close()
        place.close()
    assert not place.budget._used


def test_a_large_new_file_is_sealed_as_it_comes(tree: Tree) -> None:
    place = Place(tree)
    content = place.content()
    data = os.urandom(3 * module.GROWING_SIZE + 12_345)
    for start in range(0, len(data), 100_000):
        content.write(start, data[start : start + 100_000])
    growing = content.growing
    assert growing is not None
    assert bytes(content.read(0, 200)) == data[:200]
    assert b"".join(map(bytes, content.pieces())) == data
    content.close()
    assert place.abandoned == [growing.file]  # it was never finished


def test_what_follows_a_jump_is_no_part_of_the_sealed_chunks(tree: Tree) -> None:
    place = Place(tree)
    data = os.urandom(module.GROWING_SIZE + 5)
    content = place.content(data)
    assert content.growing is not None
    content.write(3, b"abc")
    assert content.growing is None
    content.write(content.size, b"end")
    whole = data[:3] + b"abc" + data[6:] + b"end"
    assert b"".join(map(bytes, content.pieces())) == whole
    content.close()


def test_a_file_that_was_finished_grows_by_blocks(tree: Tree) -> None:
    place = Place(tree)
    data = os.urandom(module.GROWING_SIZE + 5)
    content = place.content(data)
    growing = content.growing
    assert growing is not None
    growing.finish(bytes(256))
    content.write(content.size, b"more")
    assert b"".join(map(bytes, content.pieces())) == data + b"more"
    content.close()
    assert not place.abandoned


def test_a_file_takes_no_more_than_its_limit(tree: Tree) -> None:
    place = Place(tree)
    growing = place.grow(limit=10)
    assert growing.takes(10)
    assert not growing.takes(11)
    growing.close()


def test_a_record_of_another_size_is_a_bug(tree: Tree) -> None:
    growing = Place(tree).grow()
    growing.append(os.urandom(20_000))
    with pytest.raises(AssertionError):
        growing.finish(bytes(512))
    growing.close()


@pytest.mark.parametrize("suite", list(Suite))
def test_a_spill_file_has_no_name_and_no_plaintext(tree: Tree, suite: Suite) -> None:
    place = Place(tree, suite)
    spill = place.spill()
    assert not os.listdir(tree.folder(FOLDER))
    data = b"the price list of the company " * 4000
    slot = spill.write(data)
    assert spill.read(slot) == data
    raw = os.pread(spill._fd, len(data) + 16, 0)
    assert b"price" not in raw
    assert spill.write(data) != slot
    place.close()


def test_a_spill_file_that_was_changed_is_an_error(tree: Tree) -> None:
    place = Place(tree)
    spill = place.spill()
    slot = spill.write(b"x" * 100)
    os.pwrite(spill._fd, b"y", 5)
    with pytest.raises(OSError, match="Input/output") as caught:
        spill.read(slot)
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError, match="Input/output"):  # cut short
        spill.read(Slot(slot.index, slot.counter, 5000))
    place.close()


def test_a_slot_is_used_again_under_another_nonce(tree: Tree) -> None:
    place = Place(tree)
    spill = place.spill()
    slot = spill.write(b"a" * 100)
    first = os.pread(spill._fd, 116, 0)
    spill.free(slot)
    again = spill.write(b"a" * 100)
    assert again.index == slot.index
    assert os.pread(spill._fd, 116, 0) != first
    place.close()


def test_no_room_to_spill_costs_only_the_write(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tree, budget=100_000)
    content = place.content(os.urandom(90_000))
    content.write(200_000, b"x" * 90_000)  # over the budget from here on
    before = b"".join(map(bytes, content.pieces()))

    def full(name: str, _fd: int, _target: str) -> None:
        if name == "write_at":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(calls, "probe", full)
    with pytest.raises(OSError, match="No space"):
        content.write(0, b"new")
    assert b"".join(map(bytes, content.pieces())) == before
    monkeypatch.setattr(calls, "probe", None)
    content.write(0, b"new")
    assert bytes(content.read(0, 3)) == b"new"
    content.close()
    place.close()


def test_no_room_to_grow_leaves_the_changes_in_memory(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tree)

    def full(name: str, _fd: int, _target: str) -> None:
        if name == "write_at":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(calls, "probe", full)
    data = os.urandom(2 * module.GROWING_SIZE)
    content = place.content(data)
    assert content.growing is None
    monkeypatch.setattr(calls, "probe", None)
    assert b"".join(map(bytes, content.pieces())) == data
    assert len(place.abandoned) == 1
    content.close()


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = Cache(25_000)
    for key in "abc":
        cache.put(key, memoryview(bytes(10_000)))
        cache.get("a")
    assert cache.get("a") is not None
    assert cache.get("b") is None
    assert cache.get("c") is not None
    cache.put("c", memoryview(bytes(10)))
    cache.clear()
    assert cache.get("c") is None


def test_the_cache_counts_pieces_that_hold_nothing() -> None:
    cache = Cache(10_000)
    for key in range(1000):
        cache.put(key, memoryview(b""))
    assert cache.get(0) is None
    assert cache.get(999) is not None


def test_nothing_has_nothing_to_read() -> None:
    with pytest.raises(AssertionError):
        Nothing().read(0, 1)


def test_threads_that_spill_at_once_have_slots_and_nonces_of_their_own(tree: Tree) -> None:
    place = Place(tree)
    spill = place.spill()
    wrong: list[int] = []

    def work(number: int) -> None:
        for step in range(100):
            data = bytes([number, step]) * 5000
            slot = spill.write(data)
            if spill.read(slot) != data:
                wrong.append(number)
            if step % 3:
                spill.free(slot)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    place.close()
