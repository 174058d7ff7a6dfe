"""Look at a vault without changing it: status, verify, list."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.crypto import stream
from encvault.envelope import FIXED_SIZE, VaultKeyInfo
from encvault.errors import (
    EncvaultError,
    InvalidRequest,
    MalformedVault,
    NestedVault,
    Unreadable,
)
from encvault.fs import durable
from encvault.fs.durable import storage_error
from encvault.fs.tree import join, split
from encvault.i18n import _, ngettext
from encvault.vault.catalog import objects, read_catalog
from encvault.vault.layout import (
    SUFFIX,
    belongs_to,
    object_path,
    opened_name,
    opened_place,
    peek,
    plain_name,
    sealed_path,
)
from encvault.vault.manifest import FOLDER, MAX_RECORD_SIZE, RECORD_FILES, VaultRecord
from encvault.vault.opening import open_sealed
from encvault.vault.parts import read_part
from encvault.vault.pool import Pool, Tick, batches, default_jobs
from encvault.vault.report import Observer, Report
from encvault.vault.sealed import Buffers, SealedReader, read_header, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.fs.tree import Entry, Folder, Tree
    from encvault.vault.vault import Vault

Problem = Callable[[EncvaultError], None]

_ALL = 100  # percent


# -- status ---------------------------------------------------------------------------------


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
    leftovers: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def inspect_status(vault: Vault) -> VaultStatus:
    """Count what is sealed and what is not."""
    status = VaultStatus()
    for folder in _plain_folders(vault, status):
        for entry in folder.entries:
            _count_entry(vault, folder.path, entry, status)
    if vault.hidden:
        for entry in objects(vault, lambda error: status.unreadable.append(error.path)):
            status.sealed += 1
            status.sealed_size += entry.status.st_size
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
        return next(objects(vault, lambda _error: None), None) is not None
    return any(
        entry.kind == "file" and entry.name.endswith(SUFFIX)
        for folder in _plain_folders(vault, VaultStatus())
        for entry in folder.entries
    )


def sealed_places(vault: Vault) -> list[str]:
    """Paths within the vault of everything that looks sealed; what cannot be listed is left out."""
    if vault.hidden:
        return [object_path(entry.name) for entry in objects(vault, lambda _error: None)]
    return [
        join(folder.path, entry.name)
        for folder in _plain_folders(vault, VaultStatus())
        for entry in folder.entries
        if entry.kind == "file" and entry.name.endswith(SUFFIX)
    ]


def _plain_folders(vault: Vault, status: VaultStatus) -> Iterator[Folder]:
    for folder in vault.tree.walk(enter=_is_looked_into):
        if folder.error is not None:
            status.unreadable.append(folder.path)
        elif folder.path and any(entry.name == FOLDER for entry in folder.entries):
            status.nested.append(folder.path)
            folder.entries.clear()
        else:
            yield folder


def _is_looked_into(path: str) -> bool:
    name = split(path)[1]
    return name != FOLDER and not durable.is_temporary(name)


def _count_entry(vault: Vault, folder: str, entry: Entry, status: VaultStatus) -> None:
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
        if belongs_to(header, vault.record.id):
            status.sealed += 1
            status.sealed_size += entry.status.st_size
        else:
            status.unknown.append(path)
    else:
        status.plain.append(path)
        status.plain_size += entry.status.st_size


# -- verify ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Target:
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


@dataclass(slots=True)
class _Verified:
    """What verify found of one file."""

    error: EncvaultError | None = None
    size: int = 0
    moved: bool = False


def verify_vault(
    vault: Vault,
    *,
    only: str = "",
    sample: float = 100.0,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Report:
    """Read and authenticate every sealed file, or a random share of them.

    Args:
        vault: unlocked.
        only: a place in the vault, plain or sealed; "" for all of it.
        sample: percent of the files to read, above 0 and up to 100; at least one is read.
        jobs: worker processes, 0 for one per processor.
        observer: is told each problem as it is found.

    Returns:
        The report: ``files`` and ``size`` are what authenticated.
    """
    _check_sample(sample)
    watcher, report = observer or Observer(), Report()

    def problem(error: EncvaultError) -> None:
        report.problems.append(error)
        watcher.problem(error)

    def note(message: str) -> None:
        report.notes.append(message)
        watcher.note(message)

    _verify_records(vault, problem, note)
    if vault.hidden:
        targets = _hidden_targets(vault, jobs, problem, report)
    else:
        targets = list(_visible_targets(vault, problem))
    targets = _sampled([target for target in targets if target.is_within(only)], sample)
    if watcher.wants_total:
        watcher.total(len(targets), sum(target.size for target in targets))

    def work(batch: list[_Target], _tick: Tick) -> list[_Verified]:
        buffers = Buffers()
        return [_verify_file(vault, target, buffers) for target in batch]

    pool = Pool(work, jobs or default_jobs())
    moved = 0
    for batch, answers in pool.map(batches(targets, lambda target: target.size)):
        for target, answer in zip(batch, answers, strict=True):
            if answer.error is not None:
                problem(answer.error)
            else:
                report.files += 1
                report.size += answer.size
                moved += answer.moved
            watcher.progress(1, target.size)
    if moved:
        note(_moved_text(moved))
    return report


def _check_sample(sample: float) -> None:
    if not 0 < sample <= _ALL:
        raise InvalidRequest(reason=_("--sample takes a share above 0 and up to 100 percent"))


def _moved_text(count: int) -> str:
    return ngettext(
        "{count} file was moved or renamed since it was sealed",
        "{count} files were moved or renamed since they were sealed",
        count,
    ).format(count=count)


def _sampled(targets: list[_Target], sample: float) -> list[_Target]:
    if sample == _ALL:
        return targets
    count = max(1, round(len(targets) * sample / _ALL))
    return random.sample(targets, min(count, len(targets)))


def find_orphan(tree: Tree) -> str | None:
    """A file in a folder that is no vault, sealed in one; None if there is none.

    Args:
        tree: the folder. What lies in vaults inside it is theirs.
    """
    for folder in tree.walk(enter=_is_looked_into):
        if folder.path and any(entry.name == FOLDER for entry in folder.entries):
            folder.entries.clear()
        for entry in folder.entries:
            if entry.kind != "file" or not entry.name.endswith(SUFFIX):
                continue
            try:
                header = peek(tree, folder.path, entry.name)
            except OSError:
                continue
            if header is not None and isinstance(header.key_info, VaultKeyInfo):
                return join(folder.path, entry.name)
    return None


def _verify_records(vault: Vault, problem: Problem, note: Callable[[str], None]) -> None:
    for path in RECORD_FILES:
        shown = vault.tree.show(path)
        try:
            data = durable.read_file(vault.tree, path, MAX_RECORD_SIZE)
            record = VaultRecord.decode(data, shown)
            newer = vault.record.succeeds(record) or (
                record.sign_public == vault.record.sign_public
                and record.generation < vault.record.generation
            )
            if newer:  # a run was killed between the two; both are genuine
                note(
                    _("{path} is older than the other copy; the next change puts it right").format(
                        path=shown
                    )
                )
            elif record != vault.record:
                raise MalformedVault(path=shown, reason=_("differs from its other copy"))
        except EncvaultError as error:
            problem(error)
        except FileNotFoundError:
            problem(MalformedVault(path=shown, reason=_("missing")))
        except OSError as error:
            problem(storage_error(error, shown))


def _visible_targets(vault: Vault, problem: Problem) -> Iterator[_Target]:
    status = VaultStatus()
    for folder in _plain_folders(vault, status):
        for entry in folder.entries:
            if entry.kind == "file" and entry.name.endswith(SUFFIX):
                path = join(folder.path, entry.name)
                plain = join(folder.path, plain_name(entry.name))
                yield _Target(path, plain, None, entry.status.st_size)
    for path in status.nested:
        problem(NestedVault(path=vault.tree.show(path)))
    for path in status.unreadable:
        problem(Unreadable(path=vault.tree.show(path), reason=_("folder")))


def _hidden_targets(vault: Vault, jobs: int, problem: Problem, report: Report) -> list[_Target]:
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
    return [
        _Target(object_path(item.file), item.path, item.file, item.stamp.size) for item in found
    ]


def _verify_file(vault: Vault, target: _Target, buffers: Buffers) -> _Verified:
    shown = vault.tree.show(target.path)
    try:
        fd = open_sealed(vault.tree, target.path)
        try:
            reader = SealedReader(fd, shown, buffers)
            record, pieces = reader.open(vault)
            size = sum(len(piece) for piece in pieces)
            _name, moved = opened_place(
                vault.tree, target.path, reader.header, record, vault.layout
            )
        finally:
            os.close(fd)
        for index, file_id in enumerate(record.parts, start=1):
            part = read_part(vault.tree, vault, record, target.file or "", index, file_id)
            size += sum(len(piece) for piece in part)
    except EncvaultError as error:
        return _Verified(error=error)
    except OSError as error:
        return _Verified(error=storage_error(error, shown, reading=True))
    return _Verified(size=size, moved=moved)


# -- list -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
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
        return listed, catalog.problems
    problems: list[EncvaultError] = []
    listed = []
    for target in _visible_targets(vault, problems.append):
        try:
            listed.append(_list_visible(vault, target))
        except EncvaultError as error:
            problems.append(error)
        except OSError as error:
            problems.append(storage_error(error, vault.tree.show(target.path), reading=True))
    return listed, problems


def _list_visible(vault: Vault, target: _Target) -> Listed:
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
