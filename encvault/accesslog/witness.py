"""What a copy elsewhere knows of a log: a vault keeps a checkpoint of each that recorded in it.

A log that was put back to an older state would go on from there, sign other entries of the same
numbers, and give the vault its new checkpoint in the place of the one that shows it. So whoever
is about to record in a vault looks at that first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.accesslog.epochs import POLICY, Calendar
from encvault.errors import EncvaultError
from encvault.fs import calls
from encvault.fs.durable import read_file
from encvault.fs.tree import Tree
from encvault.tlog.checkpoints import Checkpoint
from encvault.tlog.merkle import Frontier, leaf_hashes, tree_root
from encvault.tlog.notes import Note
from encvault.tlog.policies import MAX_POLICY_SIZE, Policy
from encvault.tlog.reading import CHECKPOINTS, ENTRIES, iter_blocks, last_note
from encvault.tlog.tiles import Tiles

if TYPE_CHECKING:
    from collections.abc import Callable

_SPAN = 8192
_BEGIN = b"\n\nencvault-log/"


def contradicts(path: str, kept: Callable[[str], bytes | None]) -> bool:
    """Whether a checkpoint that is kept elsewhere is not of the log as it is now.

    Args:
        path: the log's folder.
        kept: gives the note that is kept of the log of an id, or None. One that the log has not
            signed says nothing: others may write where it is kept.

    Raises:
        OSError, ValueError: the log cannot be read, or is none.
    """
    with Tree(path) as tree:
        data = kept(Calendar.load(tree).log_id)
        if data is None:
            return False
        try:
            note = Note.decode(data, CHECKPOINTS)
            checkpoint = Checkpoint.decode(note.text, CHECKPOINTS)
        except EncvaultError:
            return False
        if checkpoint.size <= _size(tree) and checkpoint.root == _root(tree, checkpoint.size):
            return False
        try:
            policy = Policy.decode(read_file(tree, POLICY, MAX_POLICY_SIZE), POLICY)
            policy.log_key(note, CHECKPOINTS)
        except EncvaultError:
            return False
        return True


def _size(tree: Tree) -> int:
    """How many entries are signed."""
    fd = calls.open_read(tree.fd, CHECKPOINTS)
    try:
        # in so many bytes there are two notes, and so a place where one begins
        start = max(0, os.fstat(fd).st_size - _SPAN)
        if start:
            start += os.pread(fd, _SPAN, start).find(_BEGIN) + len("\n\n")
        found = last_note(fd, start)
    finally:
        os.close(fd)
    if found is None:
        return 0
    return Checkpoint.decode(Note.decode(found[1], CHECKPOINTS).text, CHECKPOINTS).size


def _root(tree: Tree, size: int) -> bytes:
    """The root of the first entries: from the tiles, or else from the entries themselves."""
    try:
        return tree_root(size, Tiles(tree).nodes)
    except OSError:
        frontier = Frontier()
        fd = calls.open_read(tree.fd, ENTRIES)
        try:
            for block in iter_blocks(fd, 0, os.fstat(fd).st_size):
                frontier = frontier.extended(leaf_hashes(block[: size - frontier.size]))
        finally:
            os.close(fd)
        return frontier.root
