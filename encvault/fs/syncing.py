"""Making the content of new files durable, and telling of which it is.

The kernel tells of a write that failed once for each file and once for each file system, and calls
the next sync a success. So nothing is asked a second time after it has failed.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from typing import TYPE_CHECKING

from encvault.fs import calls
from encvault.fs.tree import FEW, FULL, GONE, NO_LOCK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from encvault.fs.tree import Tree

    Parts = Sequence[tuple[str, str]]


_ITS_OWN = GONE | {errno.EACCES}  # of one file, whatever becomes of the others


def sync_files(tree: Tree, files: Parts) -> None:
    """Make the content of new files durable.

    Args:
        tree: where they are.
        files: folder and name of each. A link has no content and is left to `Tree.sync_names`.

    Raises:
        OSError: some of them may be lost.
    """
    _check(sync_each(tree, [[place] for place in files]))


def sync_each(
    tree: Tree, files: Sequence[Parts], lock: AbstractContextManager[object] = NO_LOCK
) -> Sequence[OSError | None]:
    """The same, telling of each file why it may be lost, or None.

    A few are synced one by one. More are cheaper by syncing their file systems, which has to wait
    for everything else that is being written there as well; where that is not known to be enough,
    they are asked one by one after it, and have nothing left to write then.

    Some file systems find out only now that there is no room: for a few files, and not for all.
    After any other failure all count as lost.

    Args:
        tree: where they are.
        files: of each its parts, as in `sync_files`.
        lock: held while the tree is used, and not while it is waited for the disk.
    """
    failed: OSError | None = None
    # a sync that failed may have told of these as well, which the next one does not do again
    if sum(map(len, files)) > FEW and tree.failed_at == -math.inf:
        try:
            if tree.sync_all({folder for parts in files for folder, _name in parts}, lock):
                return [None] * len(files)
        except OSError as error:
            failed = error
    return ask_each(tree, files, failed, lock)


def ask_each(
    tree: Tree,
    files: Sequence[Parts],
    failed: OSError | None = None,
    lock: AbstractContextManager[object] = NO_LOCK,
) -> Sequence[OSError | None]:
    """The same, one by one.

    Args:
        tree: where they are.
        files: of each its parts.
        failed: what was told of all of them together.
        lock: as in `sync_each`.
    """
    failures: list[OSError | None] = []
    for parts in files:
        if failed is not None and failed.errno not in FULL:
            break
        failure = _sync_parts(tree, parts, failed, lock)
        failures.append(failure)
        if failure is not None and failure.errno not in _ITS_OWN:
            failed = failure
    if failed is not None and failed.errno not in FULL:
        return [failed] * len(files)
    return failures


def sync_tree(tree: Tree) -> None:
    """Make everything beneath durable.

    Raises:
        OSError: some of it may be lost.
    """
    if tree.failed_at == -math.inf and tree.sync_all():
        return
    for folder in tree.names(enter=lambda _path: True):
        _check(ask_each(tree, [[(folder.path, name)] for name in folder.files]))
        calls.fsync_folder(tree.folder(folder.path))


def _check(failures: Sequence[OSError | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure


def _sync_parts(
    tree: Tree, parts: Parts, failed: OSError | None, lock: AbstractContextManager[object]
) -> OSError | None:
    """Why a file may be lost; what failed before says it of one that cannot be asked."""
    try:
        for folder, name in parts:
            if not _sync_file(tree, folder, name, lock):
                if failed is not None:
                    return failed
                if tree.failed_at != -math.inf:  # it may have told of this one
                    return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                # the most that can be had, and nothing where the file system does not hear of it
                tree.sync_all({folder}, lock)
    except OSError as error:
        return error
    return None


def _sync_file(tree: Tree, folder: str, name: str, lock: AbstractContextManager[object]) -> bool:
    """Whether it could be asked, which takes that one may read it or give oneself the right."""
    with lock:
        if not stat.S_ISREG(tree.status_in(folder, name).st_mode):
            return True
        try:
            fd = calls.open_read(tree.folder(folder), name)
        except PermissionError:
            try:
                fd = calls.open_unreadable(tree.folder(folder), name)
            except OSError:
                return False
    try:
        calls.fsync(fd)
    finally:
        os.close(fd)
    return True
