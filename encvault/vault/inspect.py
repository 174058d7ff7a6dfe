"""What lies in a vault's folder, sealed or not; no key is needed to see it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from encvault.envelope import VaultKeyInfo
from encvault.fs import durable
from encvault.fs.tree import join, split
from encvault.vault.datakeys import sound_key_ids
from encvault.vault.layout import (
    SUFFIX,
    belongs_to,
    is_object,
    object_path,
    peek,
)
from encvault.vault.manifest import FOLDER, OBJECTS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.fs.tree import Entry, Folder, Tree
    from encvault.vault.manifest import VaultRecord
    from encvault.vault.vault import Vault


@dataclass(slots=True)
class VaultStatus:
    """What lies in a vault's folder; no key was needed to see it.

    Attributes:
        sealed: sealed files (objects, in the hidden layout).
        sealed_size: their bytes on disk.
        plain: paths of files and links that are not sealed.
        plain_size: their bytes.
        unknown: files called sealed that are another vault's, nobody's, or damaged in the header.
            `seal` takes them for plain files, but for another vault's, which it leaves.
        keyless: sealed files whose data key is gone.
        leftovers: temporary files of a run that was killed.
        special: sockets, devices and FIFOs, which cannot be sealed.
        nested: vaults inside this one.
        unreadable: folders that could not be listed, and sealed files that could not be read.
    """

    sealed: int = 0
    sealed_size: int = 0
    plain: list[str] = field(default_factory=list)
    plain_size: int = 0
    unknown: list[str] = field(default_factory=list)
    keyless: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def inspect_status(vault: Vault) -> VaultStatus:
    """Count what is sealed and what is not."""
    status = VaultStatus()
    keys: frozenset[str] | None = None
    with contextlib.suppress(OSError):  # who may not look at them is told when he opens
        keys = frozenset(sound_key_ids(vault.tree, vault.record))

    def left_out(folder: Folder) -> None:
        (status.nested if folder.error is None else status.unreadable).append(folder.path)

    for folder in plain_folders(vault, left_out):
        for entry in folder.entries:
            _count_entry(vault, folder.path, entry, status, keys)
    if vault.hidden:
        for entry in objects(vault, left_out):
            status.sealed += 1
            status.sealed_size += entry.status.st_size
        if keys is not None:
            status.keyless += [path for path, key in keys_in_use(vault) if key not in keys]
    for folder in vault.tree.walk(FOLDER):
        status.leftovers += [
            join(folder.path, entry.name)
            for entry in folder.entries
            if durable.is_temporary(entry.name) or durable.is_tombstone(entry.name)
        ]
    if status.leftovers and vault.is_in_use:
        status.leftovers.clear()  # of the run that is at work, or it takes them away
    return status


def holds_sealed_files(vault: Vault) -> bool:
    """Whether anything in a vault looks sealed; stops at the first."""
    if vault.hidden:
        return next(objects(vault, _unheard), None) is not None
    return any(
        entry.kind == "file" and entry.name.endswith(SUFFIX)
        for folder in plain_folders(vault, _unheard)
        for entry in folder.entries
    )


def sealed_places(vault: Vault) -> Iterator[str]:
    """Paths within the vault of everything that looks sealed; what cannot be listed is left out."""
    if vault.hidden:
        for entry in objects(vault, _unheard):
            yield object_path(entry.name)
        return
    for folder in plain_folders(vault, _unheard):
        for entry in folder.entries:
            if entry.kind == "file" and entry.name.endswith(SUFFIX):
                yield join(folder.path, entry.name)


def keys_in_use(vault: Vault) -> Iterator[tuple[str, str]]:
    """Path of each sealed file of a vault and the id of its data key, as its header says."""
    for path in sealed_places(vault):
        header = None
        with contextlib.suppress(OSError):
            header = peek(vault.tree, *split(path))
        if header is not None and belongs_to(header, vault.record.id):
            yield path, cast("VaultKeyInfo", header.key_info).key


def plain_folders(vault: Vault, left_out: Callable[[Folder], None]) -> Iterator[Folder]:
    """The folders of a vault, without its own.

    Args:
        vault: either layout.
        left_out: is told each that is not entered: one that cannot be listed has an error, another
            one is a vault of its own.
    """
    for folder in vault.tree.walk(enter=_is_looked_into):
        if folder.error is not None:
            left_out(folder)
        elif folder.path and any(entry.name == FOLDER for entry in folder.entries):
            left_out(folder)
            folder.entries.clear()
        else:
            yield folder


def _unheard(_folder: Folder) -> None:
    """For who asks for nothing but what is found."""


def _is_looked_into(path: str) -> bool:
    name = split(path)[1]
    return name != FOLDER and not durable.is_temporary(name)


def _count_entry(
    vault: Vault, folder: str, entry: Entry, status: VaultStatus, keys: frozenset[str] | None
) -> None:
    path = join(folder, entry.name)
    if durable.is_temporary(entry.name):
        status.leftovers.append(path)
    elif entry.kind == "dir":
        return
    elif entry.kind not in ("file", "symlink"):
        status.special.append(path)
    elif not vault.hidden and entry.kind == "file" and entry.name.endswith(SUFFIX):
        try:
            header = peek(vault.tree, folder, entry.name)
        except OSError:
            status.unreadable.append(path)
            return
        if header is not None and belongs_to(header, vault.record.id):
            status.sealed += 1
            status.sealed_size += entry.status.st_size
            if keys is not None and cast("VaultKeyInfo", header.key_info).key not in keys:
                status.keyless.append(path)
        else:
            status.unknown.append(path)
    else:
        status.plain.append(path)
        status.plain_size += entry.status.st_size


def is_sealed_in(tree: Tree, folder: str, entry: Entry, record: VaultRecord) -> bool:
    """Whether what lies beside the plain files of a vault is a sealed file of it.

    Args:
        tree: the vault's.
        folder: in it.
        entry: of that folder.
        record: of the vault; one with hidden names has no such files.
    """
    if record.layout == "hidden" or entry.kind != "file" or not entry.name.endswith(SUFFIX):
        return False
    try:
        return belongs_to(peek(tree, folder, entry.name), record.id)
    except OSError:
        return False


def find_orphan(tree: Tree, most: int = -1) -> str | None:
    """A file in a folder that is no vault, sealed in one; None if there is none.

    Args:
        tree: the folder. What lies in vaults inside it is theirs.
        most: of how many folders to look into, or -1 for all of them.
    """
    for number, found in enumerate(tree.names(enter=_is_looked_into)):
        if number == most:
            break
        if found.path and FOLDER in (*found.folders, *found.files):
            found.folders.clear()
            continue
        for name in sorted(name for name in found.files if name.endswith(SUFFIX)):
            try:
                header = peek(tree, found.path, name)
            except OSError:
                continue
            if header is not None and isinstance(header.key_info, VaultKeyInfo):
                return join(found.path, name)
    return None


def objects(vault: Vault, left_out: Callable[[Folder], None]) -> Iterator[Entry]:
    """Every object's directory entry.

    Args:
        vault: with hidden names.
        left_out: is told each folder of objects that cannot be listed: what is in it is not gone.
    """
    if not vault.tree.exists(OBJECTS_FOLDER):
        return
    for folder in vault.tree.walk(OBJECTS_FOLDER):
        if folder.error is not None:
            left_out(folder)
        for entry in folder.entries:
            if entry.kind == "file" and is_object(entry.name):
                yield entry
