"""Remove objects of the hidden layout, so that a kill leaves no half of one, and what it left.

A file in parts is several objects, and without one of them the others are damage. So its first
object, which lists the others, is renamed to a tombstone before they go, and goes itself last: by
it the next run finds what is left to remove.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs import calls, durable
from encvault.fs.tree import join, split
from encvault.vault.layout import object_folder
from encvault.vault.manifest import OBJECTS_FOLDER
from encvault.vault.sealed import open_sealed, read_record

if TYPE_CHECKING:
    from encvault.fs.tree import Tree
    from encvault.vault.vault import Vault


def bury(tree: Tree, ids: tuple[str, ...]) -> None:
    """Remove a file in parts.

    Args:
        tree: the vault's.
        ids: its objects, the first one first.

    Raises:
        OSError: something could not be removed; `finish_burials` will, later.
    """
    folder = object_folder(ids[0])
    tombstone = durable.tombstone_name(ids[0])
    calls.replace(tree.folder(folder), ids[0], tombstone)
    tree.sync_names([folder])
    _finish(tree, folder, tombstone, ids[1:])


def finish_burials(vault: Vault) -> None:
    """Remove what killed runs had begun to remove, as far as it can be read and removed."""
    if not vault.tree.exists(OBJECTS_FOLDER):
        return
    for folder in vault.tree.walk(OBJECTS_FOLDER):
        for entry in folder.entries:
            if durable.is_tombstone(entry.name):
                with contextlib.suppress(EncvaultError, OSError):
                    parts = _parts_of(vault, join(folder.path, entry.name))
                    _finish(vault.tree, folder.path, entry.name, parts)


def clean_objects(tree: Tree) -> None:
    """Remove the temporary files that killed runs left among the objects. Only for who holds it."""
    for folder in tree.walk(OBJECTS_FOLDER):
        durable.clean(tree, folder.path)


def remove_empty_folders(tree: Tree) -> None:
    """Remove the folders of `OBJECTS_FOLDER` that hold no object any more."""
    for folder in list(tree.walk(OBJECTS_FOLDER)):
        if folder.path != OBJECTS_FOLDER:
            tree.forget(folder.path)
            with contextlib.suppress(OSError):
                calls.rmdir(tree.folder(OBJECTS_FOLDER), split(folder.path)[1])


def _finish(tree: Tree, folder: str, tombstone: str, parts: tuple[str, ...]) -> None:
    for file_id in parts:
        with contextlib.suppress(FileNotFoundError):
            calls.unlink(tree.folder(object_folder(file_id)), file_id)
    tree.sync_names({object_folder(file_id) for file_id in parts})
    calls.unlink(tree.folder(folder), tombstone)
    tree.sync_names([folder])


def _parts_of(vault: Vault, path: str) -> tuple[str, ...]:
    fd = open_sealed(vault.tree, path)
    try:
        return read_record(fd, vault.tree.show(path), vault)[1].parts
    finally:
        os.close(fd)
