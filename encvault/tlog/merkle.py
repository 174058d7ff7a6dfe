"""Merkle hash trees: roots, inclusion proofs and consistency proofs, with SHA-256.

Hashes and proofs are those of RFC 6962 section 2.1. Each proof is made and checked side by side:
making follows the shape of the tree, checking the algorithms of RFC 9162 sections 2.1.3.2 and
2.1.4.2, so that one does not share the other's mistakes. Where the hashes lie is not known here:
whoever wants a proof passes a reader of nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from encvault.crypto import NotAuthentic

HASH_SIZE = 32  # bytes of every hash
EMPTY_ROOT = hashlib.sha256().digest()

Node = tuple[int, int]
"""Level and index: the hash over the entries from ``index << level`` to ``index + 1 << level``."""

NodeReader = Callable[[Sequence[Node]], Sequence[bytes]]
"""Gives the hashes of nodes, in their order. It is called once for a proof, with all of them."""


def leaf_hash(entry: bytes) -> bytes:
    """The 32-byte hash of an entry as a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The same of many entries."""
    sha256 = hashlib.sha256
    return [sha256(b"\0" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of a node over two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


# -- roots ----------------------------------------------------------------------------------


def root_nodes(size: int) -> list[Node]:
    """The full subtrees that a tree of `size` entries consists of, the largest first."""
    return _full_subtrees(0, size)


def tree_root(size: int, read: NodeReader) -> bytes:
    """The 32-byte root of the tree over the first `size` entries."""
    return _join(read(root_nodes(size))) if size else EMPTY_ROOT


def _full_subtrees(start: int, end: int) -> list[Node]:
    """Those over the entries from `start` to `end`.

    `start` is a multiple of a power of two that is not below ``end - start``.
    """
    nodes = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append((level, start >> level))
        start += 1 << level
    return nodes


def _join(hashes: Sequence[bytes]) -> bytes:
    """The root over full subtrees, the largest first."""
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


# -- inclusion ------------------------------------------------------------------------------


def prove_inclusion(index: int, size: int, read: NodeReader) -> list[bytes]:
    """The proof that an entry is in a tree (RFC 6962 section 2.1.1).

    Args:
        index: of the entry, from 0.
        size: entries of the tree.
        read: has the nodes of a tree of at least `size` entries.

    Returns:
        32-byte hashes, the leaf's sibling first.

    Raises:
        ValueError: the tree has no such entry.
    """
    if not 0 <= index < size:
        raise ValueError(f"no entry {index} in a tree of {size}")
    return _read_joined(_siblings(0, index, size), read)


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Return if `proof` shows that `leaf` is in the tree (RFC 9162 section 2.1.3.2).

    Args:
        leaf: the leaf hash of the entry, 32 bytes.
        index: of the entry, from 0.
        size: entries of the tree.
        proof: hashes, the leaf's sibling first.
        root: of the tree, 32 bytes.

    Raises:
        NotAuthentic: it does not, or there is no such proof.
    """
    if not 0 <= index < size or any(len(item) != HASH_SIZE for item in (leaf, root, *proof)):
        raise NotAuthentic
    position, last = index, size - 1
    found = leaf
    for sibling in proof:
        if last == 0:
            raise NotAuthentic
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while position and not position & 1:  # levels at which it has no sibling
                position >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        position >>= 1
        last >>= 1
    if last != 0 or found != root:
        raise NotAuthentic


def _siblings(level: int, index: int, size: int) -> list[list[Node]]:
    """What lies beside the way from a node up to the root, from below.

    Args:
        level: of the node.
        index: of the node.
        size: entries of the tree; the node's are among them.

    Returns:
        for each hash of a proof, the full subtrees that it is the root over.
    """
    # Up to here the way and that of the last entry are apart; above, the way is the right edge.
    forked = (index ^ (size - 1 >> level)).bit_length() + level
    groups = []
    while index or level < forked:
        beside = index ^ 1
        if level == forked - 1:  # the last entry is below it, so it may be no full subtree
            groups.append(_full_subtrees(beside << level, size))
        elif level < forked or index & 1:
            groups.append([(level, beside)])
        index >>= 1
        level += 1
    return groups


def _read_joined(groups: Sequence[Sequence[Node]], read: NodeReader) -> list[bytes]:
    if not groups:
        return []
    hashes = read(list(chain.from_iterable(groups)))
    proof, start = [], 0
    for group in groups:
        end = start + len(group)
        proof.append(_join(hashes[start:end]))
        start = end
    return proof


# -- consistency ----------------------------------------------------------------------------


def prove_consistency(old_size: int, new_size: int, read: NodeReader) -> list[bytes]:
    """The proof that one tree is the beginning of another (RFC 6962 section 2.1.2).

    Args:
        old_size: entries of the smaller tree. From an empty tree, and from a tree to itself, the
            proof is empty.
        new_size: entries of the larger tree.
        read: has the nodes of a tree of at least `new_size` entries.

    Returns:
        32-byte hashes, from below.

    Raises:
        ValueError: a size is negative, or the old one is above the new one.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"no tree of {old_size} entries in one of {new_size}")
    if old_size in (0, new_size):
        return []
    level, index = root_nodes(old_size)[-1]
    groups = _siblings(level, index, new_size)
    if index:  # else it is the whole old tree, whose root the checker has
        groups.insert(0, [(level, index)])
    return _read_joined(groups, read)


def check_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if `proof` shows that the old tree is the beginning of the new one.

    RFC 9162 section 2.1.4.2. Every tree begins with the empty one: for an `old_size` of 0 only
    `old_root` is checked.

    Args:
        old_size: entries of the smaller tree.
        new_size: entries of the larger tree.
        old_root: of the smaller tree, 32 bytes.
        new_root: of the larger tree, 32 bytes.
        proof: hashes, from below.

    Raises:
        NotAuthentic: it does not, or there is no such proof.
    """
    if not 0 <= old_size <= new_size:
        raise NotAuthentic
    if any(len(item) != HASH_SIZE for item in (old_root, new_root, *proof)):
        raise NotAuthentic
    if old_size == new_size:
        found = (old_root, old_root) if old_size else (EMPTY_ROOT, EMPTY_ROOT)
        fits = not proof
    elif old_size == 0:
        found, fits = (EMPTY_ROOT, new_root), not proof
    else:
        found, fits = _old_and_new(old_size, new_size, old_root, proof)
    if not fits or found != (old_root, new_root):
        raise NotAuthentic


def _old_and_new(
    old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]
) -> tuple[tuple[bytes, bytes], bool]:
    """The two roots that a consistency proof leads to, and whether it has the right length."""
    # an old tree that is one full subtree is where the proof would begin, and is left out of it
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if not path:
        return (b"", b""), False
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return (old, new), False
        if position & 1 or position == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        position >>= 1
        last >>= 1
    return (old, new), last == 0


def subtree_roots(hashes: Sequence[bytes], height: int) -> list[bytes]:
    """The roots of the full subtrees of a height that some hashes of one level are under.

    Args:
        hashes: 32 bytes each; those left over at the end are passed over.
        height: levels of a subtree, from 0.
    """
    sha256 = hashlib.sha256
    row = hashes[: len(hashes) >> height << height]
    for _level in range(height):
        row = [
            sha256(b"\1" + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=True)
        ]
    return list(row)


# -- growing --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frontier:
    """What must be known of a tree to append to it: its full subtrees.

    Attributes:
        size: entries of the tree.
        hashes: 32 bytes of each node of ``root_nodes(size)``, the largest subtree first.

    Raises:
        ValueError: a tree of this size has another number of full subtrees.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.hashes) != self.size.bit_count() or self.size < 0:
            raise ValueError(f"no tree of {self.size} has {len(self.hashes)} full subtrees")

    @property
    def root(self) -> bytes:
        """The 32-byte root of the tree."""
        return _join(self.hashes) if self.hashes else EMPTY_ROOT

    def extended(self, leaves: Sequence[bytes]) -> Frontier:
        """The tree with more entries at its end.

        Args:
            leaves: leaf hashes of 32 bytes, which is not checked.
        """
        # one level at a time, so that the hashing is in one comprehension for all of a level
        sha256 = hashlib.sha256
        kept = list(self.hashes)
        above: list[bytes] = []
        row = list(leaves)
        size = self.size
        while len(row) > 1:
            if size & 1:
                row.insert(0, kept.pop())
            if len(row) & 1:
                above.append(row.pop())
            row = [
                sha256(b"\1" + left + right).digest()
                for left, right in zip(row[::2], row[1::2], strict=True)
            ]
            size >>= 1
        for node in row:  # one is left, or none
            carried = node
            while size & 1:
                carried = sha256(b"\1" + kept.pop() + carried).digest()
                size >>= 1
            above.append(carried)
        above.reverse()
        return Frontier(self.size + len(leaves), (*kept, *above))
