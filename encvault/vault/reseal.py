"""Seal a vault's files anew under a data key that no former vault secret opens.

A file keeps its id, name and record, since its content stays what it is; only the data key is
another. The order is that of docs/design.md, "Nothing lost": the new sealed file is written beside
the old one, synced, read back and compared, and takes its name by one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.envelope import Header, VaultKeyInfo
from encvault.errors import EncvaultError, SourceChanged, VerificationFailed
from encvault.fs import calls, durable
from encvault.fs.durable import copy_error, storage_error
from encvault.fs.stamp import Stamp
from encvault.fs.syncing import sync_each
from encvault.fs.tree import join, split
from encvault.vault import attributes
from encvault.vault.index import discard_index
from encvault.vault.keywatch import missing_key
from encvault.vault.layout import SUFFIX, is_object, plain_name
from encvault.vault.manifest import FOLDER, OBJECTS_FOLDER, new_id
from encvault.vault.pool import Tick, default_jobs, in_batches
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import Buffers, SealedReader, SealWriter, open_sealed, read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.fs.entries import Entry
    from encvault.secret import Secret
    from encvault.vault.vault import Vault


@dataclass(slots=True)
class Exposure:
    """What a former vault secret, or who kept data keys by it, still opens in a vault.

    Attributes:
        files: sealed files (objects, in the hidden layout).
        size: their bytes on disk.
        problems: sealed files of which it is not known.
    """

    files: int
    size: int
    problems: list[EncvaultError]


@dataclass(slots=True)
class _Task:
    """A sealed file, as it was found, and the id of the temporary file for its successor.

    Attributes:
        linked: whether the file has other hard links.
    """

    path: str
    stamp: Stamp
    temporary_id: str
    linked: bool = False

    def is_of(self, status: os.stat_result) -> bool:
        """Whether this is still the file that was found, unchanged."""
        stamp = Stamp.of(status)
        if self.linked:  # replacing another of its names changes the time that all of them show
            stamp = stamp._replace(ctime_ns=self.stamp.ctime_ns)
        return stamp == self.stamp

    @property
    def place(self) -> tuple[str, str]:
        """Folder and name of the temporary file."""
        return split(self.path)[0], durable.temporary_name(self.temporary_id)


@dataclass(slots=True)
class _Resealed:
    """A worker's answer: the temporary file is good, or an error."""

    file: str = ""
    size: int = 0
    error: EncvaultError | None = None


def find_exposed(vault: Vault) -> Exposure:
    """Count what `reseal_vault` would seal anew; the vault is unlocked."""
    problems: list[EncvaultError] = []
    sizes = [task.stamp.size for task in _exposed(vault, problems.append)]
    return Exposure(len(sizes), sum(sizes), problems)


def reseal_vault(vault: Vault, *, jobs: int = 0, observer: Observer | None = None) -> Report:
    """Seal anew every file that a former vault secret opens. May be killed, and called again.

    Args:
        vault: unlocked and held.
        jobs: worker processes, 0 for one per processor.
        observer: see `Observer`.

    Returns:
        The report. A damaged file is left as it is and reported; its old data key is kept.
    """
    watcher, report = observer or Observer(), Report()

    def problem(error: EncvaultError) -> None:
        report.problems.append(error)
        watcher.problem(error)

    for error in durable.discard_leftovers(vault.tree, list(_leftovers(vault))):
        problem(error)
    tasks = list(_exposed(vault, problem))
    if watcher.wants_total:
        watcher.total(len(tasks), sum(task.stamp.size for task in tasks))
    if not tasks:
        return report
    discard_index(vault.tree)  # a former secret opens it
    times = _folder_times(vault, tasks)
    key_id, key = vault.new_data_key()

    def work(batch: list[_Task], tick: Tick, _jobs: int) -> list[_Resealed]:
        return _reseal_batch(vault, batch, key_id, key, tick)

    done_batches = in_batches(
        tasks,
        work,
        lambda task: _discard(vault, task),
        jobs=jobs or default_jobs(),
        tick=lambda size: watcher.progress(0, size),
        trees=(vault.tree,),
    )
    with key, contextlib.closing(done_batches):
        for batch, answers in done_batches:
            done = [pair for pair in zip(batch, answers, strict=True) if pair[1].error is None]
            for answer in answers:
                if answer.error is not None:
                    problem(answer.error)
            published = _publish(vault, done, key_id, watcher, problem)
            report.files += len(published)
            report.size += sum(answer.size for answer in published)
            watcher.progress(len(batch), 0)
    for error in _keep_times(vault, times):
        problem(error)
    return report


def _folder_times(vault: Vault, tasks: list[_Task]) -> dict[str, int]:
    """Visible layout: the times of the folders that are written to, in nanoseconds."""
    if vault.hidden:
        return {}
    return {
        folder: os.fstat(vault.tree.folder(folder)).st_mtime_ns
        for folder in sorted({task.place[0] for task in tasks})
    }


def _keep_times(vault: Vault, times: dict[str, int]) -> Iterator[EncvaultError]:
    """What a folder's time says to people is when its files changed, and they did not."""
    for folder, mtime_ns in times.items():
        try:
            os.utime(vault.tree.folder(folder), ns=(mtime_ns, mtime_ns))
        except OSError as error:
            yield storage_error(error, vault.tree.show(folder))
    try:
        vault.tree.sync_names(times)
    except OSError as error:
        yield storage_error(error, vault.path)


def _publish(
    vault: Vault,
    done: list[tuple[_Task, _Resealed]],
    key_id: str,
    watcher: Observer,
    problem: Callable[[EncvaultError], None],
) -> list[_Resealed]:
    """Let the new files of a batch, which are durable, take the places of the old ones.

    Returns:
        Those that did; of the others no temporary file stays.
    """
    watcher.before_release(
        [
            # what an object is called shows only to who opens it, and this is about its key
            Event("reseal", plain_name(task.path), answer.file, answer.size)
            for task, answer in done
        ]
    )
    if (missing := missing_key(vault, [key_id])) is not None:
        raise missing
    folders = set()
    published = []
    for task, answer in done:
        try:
            _replace(vault, task)
        except EncvaultError as error:
            problem(error)
            continue
        folders.add(task.place[0])
        published.append(answer)
    try:
        vault.tree.sync_names(sorted(folders))
    except OSError as error:
        raise storage_error(error, vault.path) from None
    return published


def _replace(vault: Vault, task: _Task) -> None:
    folder, temporary = task.place
    name = split(task.path)[1]
    shown = vault.tree.show(task.path)
    fd = vault.tree.folder(folder)
    try:
        if not task.is_of(os.stat(name, dir_fd=fd, follow_symlinks=False)):
            raise SourceChanged(path=shown)
        calls.replace(fd, temporary, name)
    except (EncvaultError, OSError) as error:
        durable.discard(fd, temporary)
        if isinstance(error, EncvaultError):
            raise
        raise storage_error(error, shown) from None


# -- which files ----------------------------------------------------------------------------


def _exposed(vault: Vault, problem: Callable[[EncvaultError], None]) -> Iterator[_Task]:
    for folder, entry in _files(vault, problem):
        if not (is_object(entry.name) if vault.hidden else entry.name.endswith(SUFFIX)):
            continue
        path = join(folder, entry.name)
        shown = vault.tree.show(path)
        try:
            fd = open_sealed(vault.tree, path)
            try:
                header = read_header(fd, shown)
            finally:
                os.close(fd)
            info = header.key_info
            # others than the vault's own are found by `verify`; their keys are not changed here
            if not isinstance(info, VaultKeyInfo) or info.vault != vault.record.id:
                continue
            if vault.is_exposed(info.key, shown):
                linked = entry.status.st_nlink > 1
                yield _Task(path, Stamp.of(entry.status), new_id(), linked)
        except EncvaultError as error:
            problem(error)
        except OSError as error:
            problem(storage_error(error, shown, reading=True))


def _leftovers(vault: Vault) -> Iterator[tuple[str, str]]:
    for folder, entry in _files(vault, lambda _error: None):
        if durable.is_temporary(entry.name):
            yield folder, entry.name


def _files(vault: Vault, problem: Callable[[EncvaultError], None]) -> Iterator[tuple[str, Entry]]:
    """Folder and entry of every file where sealed files lie.

    Vaults inside this one are looked into: whose a file is, its header says, and a folder that was
    planted must not hide any.
    """
    top = OBJECTS_FOLDER if vault.hidden else ""
    if top and not vault.tree.exists(top):
        return
    for folder in vault.tree.walk(top, enter=lambda path: path != FOLDER):
        if folder.error is not None:
            problem(storage_error(folder.error, vault.tree.show(folder.path), reading=True))
        for entry in folder.entries:
            if entry.kind == "file":
                yield folder.path, entry


# -- the worker's half ----------------------------------------------------------------------


_Pair = tuple[Buffers, Buffers]  # to read with, and to write with


@dataclass(slots=True)
class _Written:
    """A new sealed file, written and not yet proved."""

    task: _Task
    digest: bytes
    answer: _Resealed


def _reseal_batch(
    vault: Vault, batch: list[_Task], key_id: str, key: Secret, tick: Tick
) -> list[_Resealed]:
    """Write, sync, read back and compare; of a failed one no temporary file stays."""
    reading, writing = Buffers(), Buffers()
    written = [_write(vault, task, key_id, key, (reading, writing), tick) for task in batch]
    good = [piece for piece in written if piece.answer.error is None]
    failures = sync_each(vault.tree, [[piece.task.place] for piece in good])
    for piece, failure in zip(good, failures, strict=True):
        shown = vault.tree.show(piece.task.path)
        if failure is not None:
            _fail(vault, piece, copy_error(failure, shown))
            continue
        try:
            if _digest(vault, piece.task.place, key, reading) != piece.digest:
                _fail(vault, piece, VerificationFailed(path=shown))
        except EncvaultError:
            _fail(vault, piece, VerificationFailed(path=shown))
        except OSError as error:
            _fail(vault, piece, storage_error(error, shown, reading=True))
    return [piece.answer for piece in written]


def _fail(vault: Vault, piece: _Written, error: EncvaultError) -> None:
    _discard(vault, piece.task)
    piece.answer.error = error


def _discard(vault: Vault, task: _Task) -> None:
    folder, temporary = task.place
    with contextlib.suppress(OSError):
        durable.discard(vault.tree.folder(folder), temporary)


def _write(
    vault: Vault,
    task: _Task,
    key_id: str,
    key: Secret,
    buffers: _Pair,
    tick: Tick,
) -> _Written:
    shown = vault.tree.show(task.path)
    piece = _Written(task, b"", _Resealed())
    try:
        source = open_sealed(vault.tree, task.path)
    except EncvaultError as error:
        piece.answer.error = error
        return piece
    try:
        _copy(vault, piece, source, key_id, key, buffers, tick)
    except EncvaultError as error:
        _fail(vault, piece, error)
    except OSError as error:
        _fail(vault, piece, storage_error(error, shown))
    finally:
        os.close(source)
    return piece


def _copy(
    vault: Vault,
    piece: _Written,
    source: int,
    key_id: str,
    key: Secret,
    buffers: _Pair,
    tick: Tick,
) -> None:
    status = os.fstat(source)
    if not piece.task.is_of(status):
        raise SourceChanged(path=vault.tree.show(piece.task.path))
    reader = SealedReader(source, vault.tree.show(piece.task.path), buffers[0])
    record, pieces = reader.open(vault)
    encoded = record.encode()
    piece.answer.file = reader.header.key_info.file
    info = VaultKeyInfo(piece.answer.file, key_id, vault.record.id)
    header = Header(reader.header.suite, len(encoded), info).encode()
    digest = hashlib.sha256(encoded)
    folder, temporary = piece.task.place
    handle = calls.create(vault.tree.folder(folder), temporary)
    try:
        writer = SealWriter(handle, reader.header.suite, key, header, encoded, buffers[1])
        for content in pieces:
            digest.update(content)
            writer.write(content)
            tick(len(content))
        writer.finish()
        attributes.keep_access(handle, status)
        attributes.copy_xattrs(source, handle)
    finally:
        os.close(handle)
    piece.digest, piece.answer.size = digest.digest(), writer.content_size


class _OneKey:
    """The keyring of files that all have one data key."""

    def __init__(self, vault: Vault, key: Secret) -> None:
        self.layout = vault.layout
        self._key = key

    def key_for(self, header: Header, path: str) -> Secret:  # noqa: ARG002 - see `Keyring`
        """See `Keyring`."""
        return self._key


def _digest(vault: Vault, place: tuple[str, str], key: Secret, buffers: Buffers) -> bytes:
    """The SHA-256 digest of what a sealed file holds, record and content."""
    folder, name = place
    fd = calls.open_read(vault.tree.folder(folder), name)
    try:
        reader = SealedReader(fd, vault.tree.show(join(folder, name)), buffers)
        record, pieces = reader.open(_OneKey(vault, key))
        digest = hashlib.sha256(record.encode())
        for content in pieces:
            digest.update(content)
    finally:
        os.close(fd)
    return digest.digest()
