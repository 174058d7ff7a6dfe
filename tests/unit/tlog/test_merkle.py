"""Trees by the definition of RFC 6962 section 2.1, and every way a proof can be wrong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from encvault.crypto import NotAuthentic
from encvault.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    check_consistency,
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_nodes,
    tree_root,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRIES = [b"%d" % index for index in range(40)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def mth(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: Sequence[bytes], *, known: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if m == len(entries):
        return [] if known else [mth(entries)]
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m <= k:
        return [*subproof(m, entries[:k], known=known), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], known=False), mth(entries[:k])]


class Reader:
    """Reads the nodes of a tree of `size` entries, and counts how often."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = 0

    def __call__(self, nodes: Sequence[Node]) -> list[bytes]:
        self.calls += 1
        for level, index in nodes:
            assert (index + 1) << level <= self.size, "no full subtree"
        return [mth(ENTRIES[index << level : (index + 1) << level]) for level, index in nodes]


ROOTS = [mth(ENTRIES[:size]) for size in range(len(ENTRIES) + 1)]


def test_roots() -> None:
    assert root_nodes(0) == []
    assert root_nodes(1) == [(0, 0)]
    assert root_nodes(13) == [(3, 0), (2, 2), (0, 12)]
    for size, root in enumerate(ROOTS):
        assert tree_root(size, Reader(size)) == root
    assert tree_root(0, Reader(0)) == EMPTY_ROOT


def test_proofs_are_those_of_the_definition_and_read_once() -> None:
    for size in range(1, len(ENTRIES) + 1):
        for index in range(size):
            read = Reader(size)
            proof = prove_inclusion(index, size, read)
            assert proof == path(index, ENTRIES[:size])
            assert read.calls == (size > 1)
            check_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
        for old in range(1, size + 1):
            read = Reader(size)
            proof = prove_consistency(old, size, read)
            assert proof == subproof(old, ENTRIES[:size], known=True)
            assert read.calls == (old < size)
            check_consistency(old, size, ROOTS[old], ROOTS[size], proof)


def test_a_proof_may_be_of_a_smaller_tree_than_the_reader_has() -> None:
    assert prove_inclusion(2, 7, Reader(40)) == path(2, ENTRIES[:7])
    assert prove_consistency(3, 7, Reader(40)) == subproof(3, ENTRIES[:7], known=True)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (0, -1)])
def test_there_is_no_proof_of_what_is_not_in_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no entry"):
        prove_inclusion(index, size, Reader(40))
    with pytest.raises(NotAuthentic):
        check_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 3)])
def test_no_tree_begins_with_a_larger_one(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="no tree"):
        prove_consistency(old, new, Reader(40))
    with pytest.raises(NotAuthentic):
        check_consistency(old, new, LEAVES[0], LEAVES[0], [])


def test_a_wrong_inclusion_proof() -> None:
    for size in (1, 2, 3, 6, 7, 8, 13):
        for index in range(size):
            leaf, root, proof = LEAVES[index], ROOTS[size], path(index, ENTRIES[:size])
            wrong = [
                (LEAVES[index + 1], index, size, proof, root),
                (leaf, index ^ 1, size, proof, root),
                (leaf, index, size * 2, proof, root),
                (leaf, index, size, proof, ROOTS[size + 1]),
                (leaf, index, size, [*proof, root], root),
                (leaf, index, size, [leaf, *proof], root),
                (leaf[:31], index, size, proof, root),
                (leaf, index, size, proof, root[:31]),
                (leaf, index, size, [*proof, b""], root),
                *(
                    (leaf, index, size, proof[:at] + proof[at + 1 :], root)
                    for at in range(len(proof))
                ),
            ]
            for case in wrong:
                with pytest.raises(NotAuthentic):
                    check_inclusion(*case)


def test_a_wrong_consistency_proof() -> None:
    for old, new in [(1, 2), (1, 8), (3, 7), (4, 8), (6, 8), (7, 13), (12, 13)]:
        first, second = ROOTS[old], ROOTS[new]
        proof = subproof(old, ENTRIES[:new], known=True)
        wrong = [
            (old + 1, new, first, second, proof),
            (old, new + 1, first, second, proof[:-1]),
            (old, new, second, second, proof),
            (old, new, first, first, proof),
            (old, new, second, first, proof),
            (old, new, first, second, []),
            (old, new, first, second, [*proof, second]),
            (old, new, first, second, [first, *proof]),
            (old, new, first[:31], second, proof),
            (old, new, first, second, [*proof[:-1], b""]),
            *((old, new, first, second, proof[:at] + proof[at + 1 :]) for at in range(len(proof))),
        ]
        for case in wrong:
            with pytest.raises(NotAuthentic):
                check_consistency(*case)


def test_trees_that_need_no_proof() -> None:
    assert prove_consistency(0, 5, Reader(5)) == prove_consistency(5, 5, Reader(5)) == []
    check_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    check_consistency(0, 5, EMPTY_ROOT, ROOTS[5], [])
    check_consistency(5, 5, ROOTS[5], ROOTS[5], [])
    for case in [
        (0, 0, EMPTY_ROOT, ROOTS[1], []),
        (0, 0, ROOTS[1], ROOTS[1], []),
        (0, 5, ROOTS[1], ROOTS[5], []),
        (0, 5, EMPTY_ROOT, ROOTS[5], [ROOTS[5]]),
        (5, 5, ROOTS[5], ROOTS[4], []),
        (5, 5, ROOTS[5], ROOTS[5], [ROOTS[5]]),
    ]:
        with pytest.raises(NotAuthentic):
            check_consistency(*case)


def test_the_frontier() -> None:
    for size in range(len(ENTRIES) + 1):
        start = Frontier().extended(LEAVES[:size])
        assert start.size == size
        assert list(start.hashes) == Reader(size)(root_nodes(size))
        for end in range(size, len(ENTRIES) + 1):
            grown = start.extended(LEAVES[size:end])
            assert grown.root == ROOTS[end]
            assert grown == Frontier().extended(LEAVES[:end])
        assert start.root == ROOTS[size]


@pytest.mark.parametrize("size", [-1, 0, 2, 3])
def test_a_frontier_of_the_wrong_shape(size: int) -> None:
    hashes = (LEAVES[0],) * {-1: 1, 0: 1, 2: 2, 3: 1}[size]
    with pytest.raises(ValueError, match="full subtrees"):
        Frontier(size, hashes)
