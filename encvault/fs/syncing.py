"""Making the content of new files durable, and telling of which it is.

The kernel tells of a write that failed once for each file and once for each file system, and calls
the next sync a success. So nothing is asked a second time after it has failed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from encvault.fs import calls
from encvault.fs.tree import FEW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.fs.tree import Tree

_FULL = {errno.ENOSPC, errno.EDQUOT}


def sync_files(tree: Tree, files: Sequence[tuple[str, str]]) -> None:
    """Make the content of new files durable.

    A few are synced one by one. More are cheaper by syncing their file systems, which has to
    wait for everything else that is being written there as well.

    Args:
        tree: where they are.
        files: folder and name of each. A link has no content and is left to `Tree.sync_names`.

    Raises:
        OSError: some of them may be lost.
    """
    if len(files) > FEW:
        tree.sync_all({folder for folder, _name in files})
        return
    for folder, name in files:
        if not _sync_file(tree, folder, name):
            tree.sync_all({folder})


def sync_each(tree: Tree, files: Sequence[Sequence[tuple[str, str]]]) -> Sequence[OSError | None]:
    """The same, telling of each file why it may be lost, or None.

    Some file systems find out only now that there is no room: for a few files, and not for all.
    After any other failure all count as lost.

    Args:
        tree: where they are.
        files: of each its parts; see `sync_files`.
    """
    failures: list[OSError | None] = []
    failed: OSError | None = None
    try:
        if sum(map(len, files)) > FEW:
            tree.sync_all({folder for parts in files for folder, _name in parts})
            return [None] * len(files)
    except OSError as error:
        failed = error
    for parts in files:
        if failed is not None and failed.errno not in _FULL:
            break
        failures.append(_sync_parts(tree, parts, failed))
        failed = failures[-1] or failed
    if failed is not None and failed.errno not in _FULL:
        return [failed] * len(files)
    return failures


def _sync_parts(
    tree: Tree, parts: Sequence[tuple[str, str]], failed: OSError | None
) -> OSError | None:
    """Why a file may be lost; what failed before says it of one that cannot be asked."""
    try:
        for folder, name in parts:
            if not _sync_file(tree, folder, name):
                if failed is not None:
                    return failed
                tree.sync_all({folder})
    except OSError as error:
        return error
    return None


def _sync_file(tree: Tree, folder: str, name: str) -> bool:
    """Whether it could be asked: its own owner may not be permitted to read it."""
    if stat.S_ISREG(tree.status_in(folder, name).st_mode):
        try:
            fd = calls.open_read(tree.folder(folder), name)
        except PermissionError:
            return False
        try:
            calls.fsync(fd)
        finally:
            os.close(fd)
    return True
