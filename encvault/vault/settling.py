"""What the folders of the visible layout get at the end of a run: nothing of them is an object."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs.durable import storage_error
from encvault.vault import attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from encvault.fs.tree import Tree
    from encvault.vault.visited import Visited


def settled(
    folders: Iterable[Visited],
    source: Tree,
    target: Tree,
    problem: Callable[[EncvaultError], None],
) -> Iterator[str]:
    """Make the folders of a mirror like those of its source; in place, give them their times back.

    A mirror's top is its owner's, and stays as it is.

    Args:
        folders: those of the source, inner ones first: what is made in a folder changes its time.
        source: where they are.
        target: where the vault is; the source itself when sealing in place.
        problem: is told which could not be made so, and why.

    Yields:
        The path of each that was otherwise; it is not durable yet.
    """
    for folder in folders:
        try:
            if source is target:
                changed = _keep_time(folder, source)
            else:
                changed = bool(folder.path) and _mirror(folder, source, target)
        except EncvaultError as error:
            problem(error)
        except OSError as error:
            problem(storage_error(error, target.show(folder.path)))
        else:
            if changed:
                yield folder.path


def _keep_time(folder: Visited, tree: Tree) -> bool:
    with contextlib.suppress(FileNotFoundError):  # removed since it was met
        if tree.status(folder.path).st_mtime_ns != folder.mtime_ns:
            with contextlib.suppress(PermissionError):  # it is a colleague's, who made it
                os.utime(tree.folder(folder.path), ns=(folder.mtime_ns, folder.mtime_ns))
            return True
    return False


def _mirror(folder: Visited, source: Tree, target: Tree) -> bool:
    path = folder.path
    with contextlib.suppress(FileNotFoundError):
        if attributes.is_like(target.status(path), folder):
            return False  # so it is with nearly all, and their status alone tells it
    try:
        own = source.folder(path)
    except FileNotFoundError:
        return False  # removed since it was met
    except OSError as error:
        raise storage_error(error, source.show(path)) from None
    attributes.make_like(target.make_folders(path), own, source.show(path), folder)
    return True
