"""Seal one batch of files to temporary files and prove that they open: the worker's half.

The order for a batch is that of docs/design.md, "Nothing lost": write all, sync once, read every
sealed copy back and compare it with its source, look whether the source changed meanwhile. What is
returned as good may be renamed into place by `encvault.vault.seal`, which owns every name.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from encvault.crypto import NotAuthentic, stream
from encvault.envelope import (
    PART_SIZE,
    RECORD_STEP,
    Header,
    InlineKeyInfo,
    Record,
    VaultKeyInfo,
    is_vault_folder,
    record_time,
)
from encvault.errors import EncvaultError, OutOfSpace, SourceChanged, VerificationFailed
from encvault.fs import calls, durable
from encvault.fs.durable import copy_error, storage_error
from encvault.fs.sharing import share_as
from encvault.fs.stamp import Stamp
from encvault.fs.syncing import sync_each
from encvault.fs.tree import join
from encvault.vault import attributes
from encvault.vault.layout import vault_name_taken
from encvault.vault.manifest import make_own_folders
from encvault.vault.sealed import PIECE_SIZE, encode_sealed
from encvault.vault.stripes import CutShort, Striped

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.crypto.suite import Suite
    from encvault.envelope import KeyInfo
    from encvault.fs.tree import Tree
    from encvault.keyslots import Slot
    from encvault.secret import Secret


@dataclass(slots=True)
class SealTask:
    """One file, link or folder to seal.

    Attributes:
        type: what it is.
        dir, name: where it is in the source tree.
        stamp: as it was when the task was made; if it differs later, the file is left.
        mode, owner: permission bits; uid and gid.
        ids: a file id for each object: one, and one more for each further part.
        places: folder and final name in the target tree for each object.
        path, parent, folder: as in `Record`.
        replaces: names in the target tree that this one succeeds, with their ids; the final name
            itself if it is taken.
        predecessors: ids that the sealed file of that name may have until this one takes its
            place, so that a killed run is understood by the next.
        temporary_id: for the temporary name, where it is not that of `ids`.
        linked: whether the file has other hard links: removing one of them changes the time of
            the last change that all of them show.
        seen_ns: by the monotonic clock, not before the stamp was taken; None where the file's
            times are those of this machine's clock, so that they tell how old they are.
    """

    type: Literal["file", "symlink", "dir"]
    dir: str
    name: str
    stamp: Stamp
    mode: int
    owner: tuple[int, int]
    ids: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    path: str
    parent: str | None = None
    folder: str | None = None
    replaces: tuple[tuple[str, str], ...] = ()
    predecessors: tuple[str, ...] = ()
    temporary_id: str | None = None
    linked: bool = False
    seen_ns: int | None = None

    @property
    def source_path(self) -> str:
        """Path in the source tree."""
        return join(self.dir, self.name)

    @property
    def temporaries(self) -> list[str]:
        """Temporary name of each object."""
        ids = self.ids if self.temporary_id is None else (self.temporary_id,)
        return [durable.temporary_name(file_id) for file_id in ids]

    def is_of(self, status: os.stat_result) -> bool:
        """Whether this is still the file that the task was made for, unchanged."""
        stamp = Stamp.of(status)
        if self.linked:
            stamp = stamp._replace(ctime_ns=self.stamp.ctime_ns)
        return stamp == self.stamp

    def settles_in_ns(self) -> int:
        """How long until every change of the file would show in its stamp; 0 if it would by now."""
        if self.seen_ns is None:
            return self.stamp.settles_in_ns(time.time_ns())
        return max(0, self.seen_ns + self.stamp.granule_ns - time.monotonic_ns())


Records = tuple[bytes, ...]
"""What the objects of a sealed file say of themselves, encoded; nothing in the visible layout."""


@dataclass(slots=True)
class SealContext:
    """What a worker needs to seal.

    Attributes:
        source, target: the trees; in place they are the same.
        suite: cipher suite.
        key: 32-byte data key.
        vault, key_id: for files in a vault.
        slots: for files on their own, in place of `vault` and `key_id`.
        tick: told of the bytes of large files as they are done.
        check: whether to sync, read back and compare before the batch is returned. Always, unless
            the source stays where it is.
        jobs: how many processes may share the work on a large file.
    """

    source: Tree
    target: Tree
    suite: Suite
    key: Secret
    vault: str = ""
    key_id: str = ""
    slots: tuple[Slot, ...] = ()
    check: bool = True
    jobs: int = 1
    tick: Callable[[int], None] = lambda _size: None

    def key_info(self, file_id: str) -> KeyInfo:
        """The key-info of a file sealed here."""
        if self.slots:
            return InlineKeyInfo(file_id, self.slots)
        return VaultKeyInfo(file_id, self.key_id, self.vault)


@dataclass(slots=True)
class _Written:
    """One object, written and not yet proved."""

    folder: str
    temporary: str
    header: bytes
    record: bytes
    size: int
    content: bytes | None = None  # of a small file
    striped: Striped | None = None  # of a large one, its tags; the descriptors in it are closed


def is_ticked(task: SealTask) -> bool:
    """Whether the task's bytes are told to ``tick``; the others count when the batch is done."""
    return len(task.ids) > 1 or task.stamp.size > PIECE_SIZE - RECORD_STEP


def object_sizes(size: int, count: int) -> list[int]:
    """Bytes of content in each of the `count` objects of a file."""
    before = PART_SIZE * (count - 1)
    return [PART_SIZE] * (count - 1) + [size - before]


def seal_batch(context: SealContext, tasks: list[SealTask]) -> list[EncvaultError | Records]:
    """Seal each task to temporary files in its target folders.

    Returns:
        For each task why it was not sealed, or its records. Of a failed one no temporary files
        stay, and the others go on. Of the others ``durable.temporary_name(id)`` exists for each of
        their ids and, with ``context.check``, is durable, authentic and equal to the source.
    """
    answers: list[EncvaultError | Records] = [() for _ in tasks]
    written: dict[int, list[_Written]] = {}
    for index, task in enumerate(tasks):
        try:
            written[index] = _write_task(context, task)
        except (EncvaultError, OSError) as error:
            answers[index] = _named(error, context, task)
    if context.check and written:
        parts = [[(one.folder, one.temporary) for one in pieces] for pieces in written.values()]
        failures = sync_each(context.target, parts)
        for index, failure in zip(list(written), failures, strict=True):
            if failure is not None:
                answers[index] = sync_error(failure, context.target, tasks[index])
                discard_task(context.target, tasks[index])
                del written[index]
    for index, pieces in written.items():
        task = tasks[index]
        try:
            if context.check:
                _prove(context, task, pieces)
            _check_unchanged(context, task)
            if task.parent is not None:
                answers[index] = tuple(piece.record for piece in pieces)
        except (EncvaultError, OSError) as error:
            answers[index] = _named(error, context, task)
            discard_task(context.target, task)
    return answers


def discard_task(target: Tree, task: SealTask) -> None:
    """Remove a task's temporary files, if there are any."""
    for temporary, (folder, _name) in zip(task.temporaries, task.places, strict=True):
        try:
            fd = target.folder(folder)
        except OSError:
            continue
        durable.discard(fd, temporary)


def sync_error(error: OSError, target: Tree, task: SealTask) -> EncvaultError:
    """The named error for a sealed copy that could not be made durable."""
    place = join(*task.places[0]) if task.parent is None else task.source_path
    return copy_error(error, target.show(place))


def _named(error: EncvaultError | OSError, context: SealContext, task: SealTask) -> EncvaultError:
    if isinstance(error, EncvaultError):
        return error
    named = storage_error(error, context.source.show(task.source_path))
    # there is no room on the disk of the sealed copy, perhaps another one
    return sync_error(error, context.target, task) if isinstance(named, OutOfSpace) else named


def _write_task(context: SealContext, task: SealTask) -> list[_Written]:
    if is_vault_folder(task.name):  # no reader takes that name (docs/format.md section 3)
        raise vault_name_taken(context.source.show(task.source_path))
    if task.type == "file":
        try:
            fd = calls.open_read(context.source.folder(task.dir), task.name)
        except OSError as error:
            path = context.source.show(task.source_path)
            raise storage_error(error, path, reading=True) from None
        try:
            return _write_file(context, task, fd)
        except BaseException:
            discard_task(context.target, task)
            raise
        finally:
            os.close(fd)
    content = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    folder = context.source.folder(task.dir)
    if task.type == "symlink":
        content = os.readlink(os.fsencode(task.name), dir_fd=folder)
    else:
        xattrs = attributes.read_xattrs(folder, context.source.show(task.dir))
    record = _record(task, len(content), xattrs=xattrs).encode()
    try:
        return [_write_small(context, task, record, content)]
    except BaseException:
        discard_task(context.target, task)
        raise


def _write_file(context: SealContext, task: SealTask, fd: int) -> list[_Written]:
    status = os.fstat(fd)
    if not task.is_of(status) or not stat.S_ISREG(status.st_mode):
        raise SourceChanged(path=context.source.show(task.source_path))
    if wait := task.settles_in_ns():  # else even 0 costs a time slice
        time.sleep(wait / 1e9)  # from here on every change of the file shows in its stamp
    size = task.stamp.size
    holes = status.st_blocks * 512 < size if hasattr(status, "st_blocks") else False
    xattrs = attributes.read_xattrs(fd, context.source.show(task.source_path))
    first = _record(task, size, sparse=holes, xattrs=xattrs).encode()
    if not is_ticked(task):
        content = calls.read(fd, size) if size else b""
        if len(content) != size:
            raise SourceChanged(path=context.source.show(task.source_path))
        return [_write_small(context, task, first, content, status)]
    written = []
    for index, part_size in enumerate(object_sizes(size, len(task.ids))):
        offset = index * PART_SIZE
        record = first if index == 0 else _part_record(task, index, part_size)
        written.append(_write_large(context, task, index, record, fd, offset, part_size, status))
    return written


def _record(
    task: SealTask,
    size: int,
    *,
    sparse: bool = False,
    xattrs: tuple[tuple[str, bytes], ...] = (),
) -> Record:
    return Record(
        type=task.type,
        path=task.path,
        sealed_at_ns=time.time_ns(),
        parent=task.parent,
        folder=task.folder,
        size=size,
        mode=task.mode,
        mtime_ns=record_time(task.stamp.mtime_ns),
        owner=task.owner,
        sparse=sparse,
        xattrs=xattrs,
        part_size=PART_SIZE if len(task.ids) > 1 else 0,
        parts=task.ids[1:],
    )


def _part_record(task: SealTask, index: int, size: int) -> bytes:
    return Record(
        type="part",
        path="",
        sealed_at_ns=time.time_ns(),
        size=size,
        part_of=(task.ids[0], index),
    ).encode()


def _create(context: SealContext, task: SealTask, index: int) -> tuple[str, str, int]:
    folder = task.places[index][0]
    temporary = task.temporaries[index]
    try:
        if task.parent is None:
            above = context.target.make_folders(folder)
        else:  # an object's, which is the vault's own
            above = make_own_folders(context.target, folder)
        fd = calls.create(above, temporary)
    except OSError as error:
        raise storage_error(error, context.target.show(folder)) from None
    return folder, temporary, fd


def _header(context: SealContext, file_id: str, record: bytes) -> bytes:
    return Header(context.suite, len(record), context.key_info(file_id)).encode()


def _write_small(
    context: SealContext,
    task: SealTask,
    record: bytes,
    content: bytes,
    status: os.stat_result | None = None,
) -> _Written:
    header = _header(context, task.ids[0], record)
    data = encode_sealed(context.suite, context.key, header, record, content)
    folder, temporary, fd = _create(context, task, 0)
    try:
        calls.write(fd, data)
        if status is not None:
            attributes.keep_access(fd, status)
        else:  # of a folder or a link, which have no modes that would do
            share_as(fd, context.target.folder(folder))
    finally:
        os.close(fd)
    return _Written(folder, temporary, header, record, len(content), content=content)


def _write_large(
    context: SealContext,
    task: SealTask,
    index: int,
    record: bytes,
    source: int,
    offset: int,
    size: int,
    status: os.stat_result,
) -> _Written:
    header = _header(context, task.ids[index], record)
    folder, temporary, fd = _create(context, task, index)
    try:
        calls.write(fd, header)
        striped = Striped(
            sealed=fd,
            body_offset=len(header),
            head=record,
            plain=source,
            plain_offset=offset,
            size=size,
            jobs=context.jobs,
            tick=_share(context),
            path=context.source.show(task.source_path),
            is_compared=context.check,
        )
        striped.seal(stream.ChunkWriter(context.suite, context.key.reveal(), header))
        attributes.keep_access(fd, status)
    except CutShort:
        raise SourceChanged(path=context.source.show(task.source_path)) from None
    finally:
        os.close(fd)
    return _Written(folder, temporary, header, record, size, striped=striped)


def _prove(context: SealContext, task: SealTask, written: list[_Written]) -> None:
    """Read the sealed copies back, authenticate them and compare them with what was read."""
    for piece in written:
        fd = calls.open_read(context.target.folder(piece.folder), piece.temporary)
        try:
            same = (
                _reads_back_small(context, piece, piece.content, fd)
                if piece.striped is None
                else _reads_back_large(context, piece, piece.striped, fd)
            )
        except (NotAuthentic, CutShort):
            same = False
        finally:
            os.close(fd)
        if not same:
            raise VerificationFailed(path=context.source.show(task.source_path))


def _reads_back_small(
    context: SealContext, piece: _Written, content: bytes | None, fd: int
) -> bool:
    size = len(piece.header) + stream.body_size(len(piece.record) + piece.size)
    data = calls.read(fd, size + 1)
    if not data.startswith(piece.header):
        return False
    body = memoryview(data)[len(piece.header) :]
    plaintext = stream.open(context.suite, context.key.reveal(), piece.header, body)
    return plaintext == piece.record + (content or b"")


def _reads_back_large(context: SealContext, piece: _Written, striped: Striped, fd: int) -> bool:
    start = calls.read(fd, len(piece.header) + stream.PREFIX_SIZE)
    size = len(piece.header) + stream.body_size(len(piece.record) + piece.size)
    if not start.startswith(piece.header) or os.fstat(fd).st_size != size:
        return False
    prefix = start[len(piece.header) :]
    reader = stream.ChunkReader(context.suite, context.key.reveal(), piece.header, prefix)
    striped.sealed, striped.tick = fd, _share(context)
    return striped.matches_sealed(reader)


def _share(context: SealContext) -> Callable[[int], None]:
    # with a check every byte is handled twice, and each time counts half
    share = 2 if context.check else 1
    return lambda size: context.tick(size // share)


def _check_unchanged(context: SealContext, task: SealTask) -> None:
    try:
        status = (
            os.stat(task.name, dir_fd=context.source.folder(task.dir), follow_symlinks=False)
            if task.name
            else os.fstat(context.source.folder(task.dir))
        )
    except FileNotFoundError:
        raise SourceChanged(path=context.source.show(task.source_path)) from None
    if task.type != "dir" and not task.is_of(status):
        raise SourceChanged(path=context.source.show(task.source_path))
