"""The sealed files of a vault, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import stream
from encvault.envelope import FIXED_SIZE
from encvault.errors import EncvaultError, NestedVault
from encvault.fs.durable import storage_error
from encvault.fs.tree import join, split
from encvault.i18n import ngettext
from encvault.vault.catalog import read_catalog
from encvault.vault.inspect import plain_folders
from encvault.vault.layout import (
    SUFFIX,
    object_path,
    opened_name,
    plain_name,
    sealed_path,
)
from encvault.vault.sealed import open_sealed, read_header, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.fs.entries import Folder
    from encvault.vault.report import Report
    from encvault.vault.vault import Vault

Problem = Callable[[EncvaultError], None]


@dataclass(slots=True)
class Target:
    """A sealed file to verify.

    Attributes:
        path: of the sealed file, in the vault.
        plain: of the plain file, as far as it is known without a key.
        file: hidden layout: its file id.
        size: bytes on disk.
    """

    path: str
    plain: str
    file: str | None
    size: int

    def is_within(self, place: str) -> bool:
        """Whether it is, or lies in, this place of the vault."""
        return (
            place in ("", self.path, self.plain)
            or self.plain.startswith(place + "/")
            or self.path == sealed_path(place)  # a long name, which is shortened
        )


class Listed(NamedTuple):
    """One sealed file in a listing.

    Attributes:
        path: of the plain file, in the vault.
        type: ``file``, ``symlink``, ``dir`` or ``archive``; ``sealed`` if no key was at hand.
        size: bytes of content as far as the sealed file's size tells; not verified.
        sealed_size: bytes on disk.
        mtime_ns: of the plain file, or None.
        sealed_path: in the vault.
    """

    path: str
    type: str
    size: int | None
    sealed_size: int
    mtime_ns: int | None
    sealed_path: str


def list_vault(vault: Vault, *, jobs: int = 0) -> tuple[list[Listed], list[EncvaultError]]:
    """What a vault holds.

    The visible layout can be listed without a key; names that were shortened, times and kinds are
    then unknown. The hidden layout needs the vault unlocked.

    Returns:
        The files by path, and what could not be listed.
    """
    if vault.hidden:
        catalog = read_catalog(vault, jobs)
        found = [*catalog.folders.items(), *catalog.files.items()]
        listed = [
            Listed(
                path=path,
                type=item.record.type,
                size=item.record.size,
                sealed_size=item.stamp.size,
                mtime_ns=item.record.mtime_ns,
                sealed_path=object_path(item.file),
            )
            for path, item in sorted(found)
        ]
        return listed, [*catalog.problems, *catalog.shared_names(vault.tree)]
    problems: list[EncvaultError] = []
    listed = []
    for target in visible_targets(vault, problems.append):
        try:
            listed.append(_list_visible(vault, target))
        except EncvaultError as error:
            problems.append(error)
        except OSError as error:
            problems.append(storage_error(error, vault.tree.show(target.path), reading=True))
    return listed, problems


def _list_visible(vault: Vault, target: Target) -> Listed:
    folder, name = split(target.path)
    fd = open_sealed(vault.tree, target.path)
    try:
        shown = vault.tree.show(target.path)
        if vault.is_unlocked:
            _header, record, size = read_record(fd, shown, vault)
            path = join(folder, opened_name(name, record.name))
            return Listed(path, record.type, size, target.size, record.mtime_ns, target.path)
        read_header(fd, shown)
        implied = _implied_size(fd, target.size)
    finally:
        os.close(fd)
    return Listed(target.plain, "sealed", implied, target.size, None, target.path)


def _implied_size(fd: int, sealed_size: int) -> int | None:
    start = os.pread(fd, FIXED_SIZE, 0)
    metadata_size = int.from_bytes(start[12:16])
    key_info_size = int.from_bytes(start[16:20])
    try:
        size = stream.plaintext_size(sealed_size - FIXED_SIZE - key_info_size) - metadata_size
    except ValueError:
        return None
    return size if size >= 0 else None


def visible_targets(vault: Vault, problem: Problem) -> Iterator[Target]:
    """The sealed files of a visible vault; vaults within it and closed folders are problems."""

    def left_out(folder: Folder) -> None:
        shown = vault.tree.show(folder.path)
        if folder.error is None:
            problem(NestedVault(path=shown))
        else:
            problem(storage_error(folder.error, shown, reading=True))

    for folder in plain_folders(vault, left_out):
        for entry in folder.entries:
            if entry.kind == "file" and entry.name.endswith(SUFFIX):
                path = join(folder.path, entry.name)
                plain = join(folder.path, plain_name(entry.name))
                yield Target(path, plain, None, entry.status.st_size)


def hidden_targets(vault: Vault, jobs: int, problem: Problem, report: Report) -> list[Target]:
    """The objects of a hidden vault, which is unlocked; superseded ones are noted in the report."""
    catalog = read_catalog(vault, jobs)
    for error in catalog.problems:
        problem(error)
    if catalog.superseded:
        count = len(catalog.superseded)
        report.notes.append(
            ngettext(
                "{count} object is superseded by a newer one",
                "{count} objects are superseded by newer ones",
                count,
            ).format(count=count)
        )
    found = [*catalog.folders.values(), *catalog.files.values(), *catalog.superseded]
    return [Target(object_path(item.file), item.path, item.file, item.stamp.size) for item in found]
