"""What lies in a vault's folder, sealed or not; no key is needed to see it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

from encvault.envelope import VaultKeyInfo
from encvault.fs import durable
from encvault.fs.entries import Names
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

    from encvault.fs.entries import Entry, Folder
    from encvault.fs.tree import Tree
    from encvault.vault.manifest import VaultRecord
    from encvault.vault.vault import Vault

# that are looked at on the way to an error
_MOST_NAMES = 10_000
_MOST_HEADERS = 100


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


def find_orphan(tree: Tree) -> str | None:
    """A file in a folder that is no vault, sealed in one; None if there is none.

    Args:
        tree: the folder. What lies in vaults inside it is theirs.
    """
    for found in tree.names(enter=_is_looked_into):
        if found.path and FOLDER in (*found.folders, *found.files):
            found.folders.clear()
            continue
        for name in sorted(name for name in found.files if name.endswith(SUFFIX)):
            if _vault_of(tree, found.path, name):
                return join(found.path, name)
    return None


class Stray(NamedTuple):
    """A file in a folder that is no vault, sealed in one.

    Attributes:
        file: its path within the folder.
        is_own: whether it looks as if the folder had been that vault; a file of a vault may have
            been copied to anywhere.
    """

    file: str
    is_own: bool


def glimpse_orphan(tree: Tree) -> Stray | None:
    """What `find_orphan` finds among the first names of a folder, from its top downwards.

    That the folder was a vault is believed if one lies at its top; or, if there are no files at
    all, if most of those below are called sealed and are of one vault, and more than one is.

    Args:
        tree: the folder. Somebody may ask about all of the disk.
    """
    first = ""
    is_bare = True
    counts: Counter[bool] = Counter()  # of files, by whether they are called sealed
    vaults: Counter[str] = Counter()
    for found in _from_top(tree, _MOST_NAMES):
        named = sorted(name for name in found.files if name.endswith(SUFFIX))
        counts.update({True: len(named), False: len(found.files) - len(named)})
        for name in named[: _MOST_HEADERS - vaults.total()]:
            vault = _vault_of(tree, found.path, name)
            vaults[vault] += 1
            if vault:
                first = first or join(found.path, name)
        if not found.path:
            is_bare = not found.files
            if first:
                return Stray(first, is_own=True)
        if (first and not is_bare) or vaults.total() == _MOST_HEADERS:
            break
    if not first:
        return None
    is_one = len(vaults) == 1 and vaults.total() > 1
    return Stray(first, is_own=is_bare and is_one and counts[True] > counts[False])


def _from_top(tree: Tree, most: int) -> Iterator[Names]:
    """Folders with what is in them, those above first; not those of vaults inside."""
    waiting = deque([""])
    while waiting and most > 0:
        found = Names(waiting.popleft(), [], [])
        with contextlib.suppress(OSError), os.scandir(tree.folder(found.path)) as entries:
            if found.path and tree.exists(join(found.path, FOLDER)):
                continue
            for entry in itertools.islice(entries, most):
                most -= 1
                if entry.is_dir(follow_symlinks=False):
                    found.folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    found.files.append(entry.name)
        most -= 1
        yield found
        waiting += filter(_is_looked_into, (join(found.path, name) for name in found.folders))


def _vault_of(tree: Tree, folder: str, name: str) -> str:
    """The id of the vault that a file was sealed in; "" if it was not, or cannot be read."""
    with contextlib.suppress(OSError):
        header = peek(tree, folder, name)
        if header is not None and isinstance(header.key_info, VaultKeyInfo):
            return header.key_info.vault
    return ""


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
