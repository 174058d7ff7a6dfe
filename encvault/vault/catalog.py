"""The tree of a hidden vault, put together from what its objects say of themselves.

Objects carry their name and their folder's id (docs/format.md section 6.2); this module reads the
records of all of them and works out the paths. Nothing else in a vault knows names, so nothing can
get lost but an object itself.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.errors import (
    EncvaultError,
    FolderMissing,
    NameShared,
    OrphanPart,
    SwappedFile,
    Unreadable,
)
from encvault.fs.durable import storage_error, tombstone_name
from encvault.fs.names import Rules, beside
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join, split
from encvault.i18n import system_reason
from encvault.vault.layout import is_object, object_exists, object_folder, object_path
from encvault.vault.manifest import OBJECTS_FOLDER
from encvault.vault.pool import Pool, Tick, batches, default_jobs
from encvault.vault.sealed import open_sealed, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from encvault.envelope import Record
    from encvault.fs.tree import Tree
    from encvault.vault.vault import Vault

LOST_AND_FOUND = "lost+found"
_NO_STAMP = Stamp(0, 0, 0, 0, 0)


@dataclass(slots=True)
class Found:
    """One object.

    Attributes:
        file: its file id.
        stamp: the sealed file.
        record: what it says of itself.
        path: its path in the vault, once that is worked out; "" for a part.
    """

    file: str
    stamp: Stamp
    record: Record
    path: str = ""


@dataclass(slots=True)
class Catalog:
    """Everything in a hidden vault.

    Attributes:
        files: files, links and archives by path.
        folders: folder objects by path.
        parts: further parts of large files, by file id.
        superseded: objects that a newer one of the same path replaces.
        renamed: the path that each file has beside a folder of its own, by the one that it is at.
        problems: objects whose record does not open, and what others miss.
    """

    files: dict[str, Found] = field(default_factory=dict)
    folders: dict[str, Found] = field(default_factory=dict)
    parts: dict[str, Found] = field(default_factory=dict)
    superseded: list[Found] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    problems: list[EncvaultError] = field(default_factory=list)

    @property
    def unread(self) -> list[EncvaultError]:
        """Those of the problems behind which a file or a folder may be that is not known."""
        return [one for one in self.problems if not isinstance(one, (FolderMissing, OrphanPart))]

    def shared_names(self, tree: Tree) -> Iterator[NameShared]:
        """Tell of each file that is called otherwise since a folder has its name.

        Args:
            tree: the vault's.
        """
        for path, own in sorted(self.renamed.items()):
            yield NameShared(path=tree.show(own), saved_as=split(path)[1])


def read_catalog(vault: Vault, jobs: int = 0, known: Mapping[str, Record] | None = None) -> Catalog:
    """Read every object's record. The vault must be unlocked.

    Args:
        vault: with hidden names.
        jobs: worker processes, 0 for one per processor.
        known: records, by the ids of their objects, that need not be read; see
            `encvault.vault.index`. Nor is looked at the objects, which have no stamp then.
    """
    catalog = Catalog()
    found: list[Found] = []
    records = known or {}
    unlisted: list[EncvaultError] = []

    def unknown() -> Iterator[str]:
        for name in object_names(vault, unlisted.append):
            if (record := records.get(name)) is not None:
                found.append(Found(name, _NO_STAMP, record))
            else:
                yield name

    def work(batch: list[str], _tick: Tick) -> list[Found | EncvaultError]:
        return [read_object(vault, name, _stamp_of(vault, name)) for name in batch]

    pool = Pool(work, jobs or default_jobs())
    for _batch, answers in pool.map(batches(unknown(), lambda _object: 0)):  # records are small
        for answer in answers:
            if isinstance(answer, Found):
                found.append(answer)
            else:
                catalog.problems.append(answer)
    catalog.problems += unlisted
    _place(catalog, found)
    if not catalog.problems:
        _tell_missing_folders(vault, catalog)
    _tell_orphans(vault, catalog)
    return catalog


def _stamp_of(vault: Vault, name: str) -> Stamp:
    try:
        return Stamp.of(vault.tree.status(object_path(name)))
    except OSError:  # it is not where it belongs; who reads it tells what is wrong
        return _NO_STAMP


def _tell_missing_folders(vault: Vault, catalog: Catalog) -> None:
    """A user may have a folder called lost+found as well: there a folder has the name it says."""
    counts: Counter[str] = Counter()
    for path in catalog.files:
        top, _slash, rest = path.partition("/")
        name, _slash, below = rest.partition("/")
        if top == LOST_AND_FOUND and below:
            folder = catalog.folders.get(join(top, name))
            if folder is None or folder.record.path != name:
                counts[name] += 1
    for name, count in sorted(counts.items()):
        path = vault.tree.show(join(LOST_AND_FOUND, name))
        catalog.problems.append(FolderMissing(path=path, count=count))


def _tell_orphans(vault: Vault, catalog: Catalog) -> None:
    for item in catalog.parts.values():
        first = item.record.part_of[0] if item.record.part_of else ""
        buried = join(object_folder(first), tombstone_name(first))
        if not object_exists(vault.tree, first) and not vault.tree.exists(buried):
            path = vault.tree.show(object_path(item.file))
            catalog.problems.append(OrphanPart(path=path, first=first))


def object_names(vault: Vault, problem: Callable[[Unreadable], None]) -> Iterator[str]:
    """Every object's name, and nothing else of it: on a drive each look at a file takes its time.

    Args:
        vault: with hidden names.
        problem: is told each folder of objects that cannot be listed.
    """
    if not vault.tree.exists(OBJECTS_FOLDER):
        return
    for above in sorted(os.listdir(vault.tree.folder(OBJECTS_FOLDER))):
        path = join(OBJECTS_FOLDER, above)
        try:
            with os.scandir(vault.tree.folder(path)) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if is_object(entry.name) and entry.is_file(follow_symlinks=False)
                ]
        except NotADirectoryError:
            continue
        except OSError as error:
            problem(Unreadable(path=vault.tree.show(path), reason=system_reason(error)))
            continue
        yield from names


def read_object(vault: Vault, file_id: str, stamp: Stamp) -> Found | EncvaultError:
    """One object's record, or what is wrong with it. The vault must be unlocked."""
    path = object_path(file_id)
    shown = vault.tree.show(path)
    try:
        fd = open_sealed(vault.tree, path)
        try:
            header, record, _size = read_record(fd, shown, vault)
        finally:
            os.close(fd)
    except EncvaultError as error:
        return error
    except OSError as error:
        return storage_error(error, shown, reading=True)
    if header.key_info.file != file_id:
        return SwappedFile(path=shown, sealed_as=header.key_info.file)
    return Found(file_id, stamp, record)


def _age(found: Found) -> tuple[int, str]:
    return found.record.sealed_at_ns, found.file


def _place(catalog: Catalog, found: list[Found]) -> None:
    """Work out the paths; the newest object of a path counts."""
    newest: dict[str, Found] = {}  # folder id -> its newest object
    for item in sorted((item for item in found if item.record.type == "dir"), key=_age):
        folder_id = item.record.folder or ""
        if folder_id in newest:
            catalog.superseded.append(newest[folder_id])
        newest[folder_id] = item
    paths: dict[str, str] = {"": ""}
    for folder_id in newest:
        _folder_path(folder_id, newest, paths)
    for folder_id, item in sorted(newest.items(), key=lambda pair: _age(pair[1])):
        item.path = paths[folder_id]
        if (older := catalog.folders.get(item.path)) is not None:
            catalog.superseded.append(older)
        catalog.folders[item.path] = item
    for item in sorted((item for item in found if item.record.type != "dir"), key=_age):
        if item.record.type == "part":
            catalog.parts[item.file] = item
            continue
        parent = item.record.parent or ""
        above = paths.setdefault(parent, join(LOST_AND_FOUND, parent))
        item.path = join(above, item.record.path)
        if (older := catalog.files.get(item.path)) is not None:
            catalog.superseded.append(older)
        catalog.files[item.path] = item
    _separate(catalog, set(paths.values()))


def _separate(catalog: Catalog, folders: set[str]) -> None:
    """Give each file that has the path of a folder another name.

    A mirror that is not told to remove anything has both, once one has become the other in its
    source. The folder keeps its name, since the paths of everything in it begin with that.

    Args:
        catalog: of which all else is placed.
        folders: their paths, also of those that have no object.
    """
    if any(path.startswith(LOST_AND_FOUND + "/") for path in folders):
        folders.add(LOST_AND_FOUND)
    both = sorted(catalog.files.keys() & folders)
    if not both:
        return
    inside: dict[str, set[str]] = {split(path)[0]: set() for path in both}
    for path in (*catalog.files, *folders):
        above, name = split(path)
        if above in inside:
            inside[above].add(name)
    for own in both:
        above, name = split(own)
        new = beside(name, Rules(), inside[above])
        inside[above].add(new)
        found = catalog.files.pop(own)
        found.path = join(above, new)
        catalog.files[found.path] = found
        catalog.renamed[found.path] = own
    changed = {own: path for path, own in catalog.renamed.items()}
    for older in catalog.superseded:
        if older.record.type != "dir":
            older.path = changed.get(older.path, older.path)


def _folder_path(folder_id: str, newest: dict[str, Found], paths: dict[str, str]) -> None:
    """Fill in a folder's path and those above it.

    A folder that is missing, or lies within itself, has a place of its own in lost+found, so that
    files of one name from two lost folders do not meet.
    """
    chain: list[str] = []
    at = folder_id
    while at not in paths:
        if at in chain:
            for link in chain[chain.index(at) :]:
                paths[link] = join(LOST_AND_FOUND, link)
        elif at not in newest:
            paths[at] = join(LOST_AND_FOUND, at)
        else:
            chain.append(at)
            at = newest[at].record.parent or ""
    for link in reversed(chain):
        record = newest[link].record
        above = paths[record.parent or ""]
        if paths.get(link) is None:
            paths[link] = join(above, record.path)
