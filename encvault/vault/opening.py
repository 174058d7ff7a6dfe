"""Open one batch of sealed files to temporary files: the worker's half, the mirror of `sealing`.

Nothing that is not authentic is left behind: a file that fails in its last chunk has had its
temporary file removed, and the final names are given by `encvault.vault.open` alone.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from encvault.crypto import NotAuthentic
from encvault.errors import (
    Conflict,
    EncvaultError,
    MalformedRecord,
    SharedNameTaken,
    Truncated,
    VerificationFailed,
)
from encvault.fs import calls, durable
from encvault.fs.durable import copy_error, storage_error
from encvault.fs.stamp import Stamp
from encvault.fs.syncing import sync_each
from encvault.fs.tree import join
from encvault.i18n import _
from encvault.vault import attributes
from encvault.vault.layout import object_path, opened_place, plain_name
from encvault.vault.parts import all_parts, open_part, part_size
from encvault.vault.sealed import PIECE_SIZE, Buffers, Keyring, SealedReader, open_sealed
from encvault.vault.stripes import CutShort, Striped, write_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.envelope import Record
    from encvault.fs.rules import TargetNames
    from encvault.fs.tree import Tree
    from encvault.vault.vault import Vault


@dataclass(slots=True)
class OpenTask:
    """One sealed file to open.

    Attributes:
        dir, name: where it is in the vault's tree.
        stamp: as it was when the task was made.
        target_dir: folder in the target tree.
        target_name: final name, or None if it follows from the record.
        temporary_id: for the temporary name.
        place: the folder, if its file system took every name.
        renamed: what it is called there instead of `target_name`, or of the name that the sealed
            file's own suggests, if that cannot be used.
        work: bytes that it counts for a progress bar.
        is_beside_folder: whether it is renamed since a folder has its name.
    """

    dir: str
    name: str
    stamp: Stamp
    target_dir: str
    target_name: str | None
    temporary_id: str
    place: str = ""
    renamed: str | None = None
    work: int = 0
    is_beside_folder: bool = False

    @property
    def path(self) -> str:
        """Path of the sealed file in the vault's tree."""
        return join(self.dir, self.name)

    @property
    def temporary(self) -> tuple[str, str]:
        """Folder and name of the temporary file in the target tree."""
        return self.target_dir, durable.temporary_name(self.temporary_id)


@dataclass(slots=True)
class OpenOutcome:
    """What became of a task.

    Attributes:
        error: why it was not opened, or None.
        name: its final name in the target folder.
        wanted: what it would be called if the target's file system took every name.
        file: its file id.
        ids: of all its objects.
        size: bytes of content.
        same: whether the target holds the same already; there is no temporary file then.
        same_stamp: of what the target holds, before it was compared.
        moved: whether it was sealed elsewhere.
        sealed_as: see `Event`.
        lost: attributes that could not be restored.
        late_mode: permission bits that the file gets only when it has been read back, because
            they do not let its owner read it.
    """

    error: EncvaultError | None = None
    name: str = ""
    wanted: str = ""
    file: str = ""
    ids: tuple[str, ...] = ()
    size: int = 0
    same: bool = False
    same_stamp: Stamp | None = None
    moved: bool = False
    sealed_as: str = ""
    lost: list[str] = field(default_factory=list)
    late_mode: int | None = None

    def is_beside(self, task: OpenTask) -> bool:
        """Whether it has another name since a folder has its own.

        What is called so in the target is no older copy of it, as what has its own name would be.
        """
        return task.is_beside_folder and self.name != self.wanted

    def conflict(self, task: OpenTask, target: Tree) -> EncvaultError:
        """What to say of a different file at its final name."""
        if self.is_beside(task):
            wanted = target.show(join(task.target_dir, self.wanted))
            return SharedNameTaken(path=wanted, taken=self.name)
        return Conflict(path=target.show(join(task.target_dir, self.name)))


@dataclass(slots=True)
class OpenContext:
    """What a worker needs to open.

    Attributes:
        tree: the vault's, or the folder of a file on its own.
        keyring: its keys.
        target: where to; in place the same tree.
        names: what the target makes of names, or None if they are the user's own choice.
        force: replace a different file at the final name.
        check: whether to sync, read back and compare before the batch is returned: always,
            unless the sealed file stays where it is.
        jobs: how many processes may share the work on a large file.
        tick: told of the bytes of large files as they are done.
    """

    tree: Tree
    keyring: Keyring
    target: Tree
    names: TargetNames | None = None
    force: bool = False
    check: bool = True
    jobs: int = 1
    tick: Callable[[int], None] = lambda _size: None
    buffers: Buffers = field(default_factory=Buffers)

    @property
    def own(self) -> bool:
        """Whether the files come from a vault; see `attributes.restore`."""
        return self.keyring.layout != "alone"

    @property
    def share(self) -> int:
        """With a check every byte is handled twice, and each time counts half."""
        return 2 if self.check else 1


class _Written(NamedTuple):
    """What a temporary file has to be.

    Attributes:
        content: of a small file, or of a link.
        is_link: whether it is one.
        bodies: of a large file, with their tags.
    """

    content: bytes = b""
    is_link: bool = False
    bodies: tuple[Striped, ...] = ()


def is_ticked(size: int) -> bool:
    """Whether a file of that content size tells its bytes to ``tick``."""
    return size > PIECE_SIZE


def open_batch(context: OpenContext, tasks: list[OpenTask]) -> list[OpenOutcome]:
    """Open each task to a temporary file in its target folder.

    Where an outcome has no error and is not ``same``, the temporary file exists, with its
    attributes, and with ``context.check`` it is durable and equal to the sealed content.
    """
    outcomes = []
    written = []
    for task in tasks:
        outcome = OpenOutcome()
        copy: _Written | None = None
        try:
            copy = _open_task(context, task, outcome)
        except (EncvaultError, OSError) as error:
            outcome.error = _named(error, context, task, outcome)
            discard_task(context.target, task)
        outcomes.append(outcome)
        if context.check and copy is not None:
            written.append((task, outcome, copy))
    if written:
        _prove_all(context, written)
    return outcomes


def is_still_there(target: Tree, task: OpenTask, outcome: OpenOutcome) -> bool:
    """Whether what made a copy needless is as it was compared, before the sealed file goes."""
    if not outcome.same:
        return True
    try:
        status = target.status_in(task.target_dir, outcome.name)
    except FileNotFoundError:
        return False
    return Stamp.of(status) == outcome.same_stamp


def discard_task(target: Tree, task: OpenTask) -> None:
    """Remove a task's temporary file, if there is one."""
    folder, temporary = task.temporary
    try:
        fd = target.folder(folder)
    except OSError:
        return
    durable.discard(fd, temporary)


def _named(
    error: EncvaultError | OSError, context: OpenContext, task: OpenTask, outcome: OpenOutcome
) -> EncvaultError:
    if isinstance(error, EncvaultError):
        return error
    name = outcome.name or task.target_name or task.name
    return storage_error(error, context.target.show(join(task.target_dir, name)))


def sync_error(error: OSError, target: Tree, task: OpenTask, outcome: OpenOutcome) -> EncvaultError:
    """The named error for an opened file that could not be made durable."""
    return copy_error(error, target.show(join(task.target_dir, outcome.name)))


def _open_task(context: OpenContext, task: OpenTask, outcome: OpenOutcome) -> _Written | None:
    fd = open_sealed(context.tree, task.path)
    try:
        shown = context.tree.show(task.path)
        reader = SealedReader(fd, shown, context.buffers)
        record, pieces = reader.open(context.keyring)
        outcome.file = reader.header.key_info.file
        outcome.ids = (outcome.file, *record.parts)
        layout = context.keyring.layout
        own, outcome.moved = opened_place(context.tree, task.path, reader.header, record, layout)
        if outcome.moved or (own != record.name and record.type != "archive"):
            outcome.sealed_as = record.name
        outcome.wanted = task.target_name or own
        outcome.name = _fitting_name(context, task, outcome.wanted)
        if record.type in ("dir", "part"):
            raise MalformedRecord(path=shown, reason=_("of a type that does not belong here"))
        folder = context.target.make_folders(task.target_dir)
        forces = context.force and not outcome.is_beside(task)
        if not forces and calls.exists(folder, outcome.name):
            content = all_parts(context.tree, context.keyring, outcome.file, record, pieces)
            status = os.stat(outcome.name, dir_fd=folder, follow_symlinks=False)
            outcome.same_stamp = Stamp.of(status)
            outcome.same = _holds_same(folder, outcome.name, record, content)
            outcome.size = _content_size(folder, outcome.name, record)
            if not outcome.same:
                raise outcome.conflict(task, context.target)
            return None
        implied = reader.implied_size()
        size = implied if record.size is None else record.size
        first_size = implied if record.size is None else part_size(record, 0)
        # whatever it says, no more than that is kept in memory or written
        if size is None or implied is None or implied != first_size:
            _refuse(reader, pieces)
        outcome.size = size
        if record.type != "symlink" and (record.parts or is_ticked(size)):
            return _write_large(context, task, reader, record, outcome, implied)
        return _write_small(context, task, record, b"".join(map(bytes, pieces)), outcome)
    finally:
        os.close(fd)


def _fitting_name(context: OpenContext, task: OpenTask, wanted: str) -> str:
    """What the file is called where it cannot have every name."""
    if task.renamed is not None and wanted in (task.target_name, plain_name(task.name)):
        return task.renamed
    return wanted if context.names is None else context.names.fit(wanted)


def _content_size(folder: int, name: str, record: Record) -> int:
    """Bytes of content, of which the file that is there already has the same."""
    if record.size is not None:
        return record.size
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size


def _refuse(reader: SealedReader, pieces: Iterator[memoryview]) -> NoReturn:
    """Read a body whose size is wrong to its end, which names what is wrong with it."""
    for _piece in pieces:
        pass
    # it has the right size by now: it is being changed
    raise Truncated(path=reader.path, size=os.fstat(reader.fd).st_size)


def holds_content_of(vault: Vault, file_id: str, folder: int, name: str) -> bool:
    """Whether a plain file has the content of an object of a hidden vault."""
    path = object_path(file_id)
    fd = open_sealed(vault.tree, path)
    try:
        reader = SealedReader(fd, vault.tree.show(path), Buffers())
        record, pieces = reader.open(vault)
        content = all_parts(vault.tree, vault, file_id, record, pieces)
        return _holds_same(folder, name, record, content)
    finally:
        os.close(fd)


def _holds_same(folder: int, name: str, record: Record, content: Iterator[memoryview]) -> bool:
    """Whether the existing file `name` has this content. Reads the sealed file to its end."""
    if record.type == "symlink":
        target = b"".join(map(bytes, content))
        try:
            return os.readlink(os.fsencode(name), dir_fd=folder) == target
        except OSError:
            return False
    try:
        fd = calls.open_read(folder, name)
    except OSError:
        return False
    try:
        same = True
        for piece in content:
            same = same and calls.read(fd, len(piece)) == bytes(piece)
        return same and not calls.read(fd, 1)
    except IsADirectoryError:
        return False
    finally:
        os.close(fd)


def _write_small(
    context: OpenContext, task: OpenTask, record: Record, content: bytes, outcome: OpenOutcome
) -> _Written:
    above, temporary = task.temporary
    folder = context.target.folder(above)
    if record.type == "symlink":
        calls.symlink(content, folder, temporary)
        outcome.lost += attributes.restore_symlink(folder, temporary, record, own=context.own)
        return _Written(content, is_link=True)
    fd = calls.create(folder, temporary)
    try:
        if record.sparse:
            write_sparse(fd, memoryview(content), 0)
            calls.truncate(fd, len(content))
        elif content:
            calls.write(fd, content)
        _restore(context, fd, record, outcome)
    finally:
        os.close(fd)
    return _Written(content)


def _restore(context: OpenContext, fd: int, record: Record, outcome: OpenOutcome) -> None:
    if context.check and record.mode is not None and not record.mode & stat.S_IRUSR:
        outcome.late_mode = record.mode if context.own else record.mode & 0o777
        record = record._replace(mode=record.mode | stat.S_IRUSR)
    if context.own:
        attributes.shed_inherited(fd, record)
    outcome.lost += attributes.restore(fd, record, own=context.own)


def _write_large(
    context: OpenContext,
    task: OpenTask,
    first: SealedReader,
    record: Record,
    outcome: OpenOutcome,
    first_size: int,
) -> _Written:
    """Open a large file by several processes."""
    folder, temporary = task.temporary
    fd = calls.create(context.target.folder(folder), temporary)
    try:
        bodies = [_open_body(context, first, record, record, fd, 0, first_size)]
        for index, file_id in enumerate(record.parts, start=1):
            with open_part(context.tree, context.keyring, record, outcome.file, index, file_id) as (
                reader,
                part,
                pieces,
            ):
                size = part_size(record, index)
                if reader.implied_size() != size:
                    _refuse(reader, pieces)
                bodies.append(_open_body(context, reader, record, part, fd, index, size))
        if record.sparse:
            calls.truncate(fd, outcome.size)
        _restore(context, fd, record, outcome)
    finally:
        os.close(fd)
    return _Written(bodies=tuple(bodies))


def _open_body(
    context: OpenContext,
    reader: SealedReader,
    record: Record,
    own: Record,
    plain: int,
    index: int,
    size: int,
) -> Striped:
    body = Striped(
        sealed=reader.fd,
        body_offset=len(reader.header_bytes),
        head=own.encode(),
        plain=plain,
        plain_offset=index * record.part_size,
        size=size,
        jobs=context.jobs,
        tick=lambda size: context.tick(size // context.share),
        path=reader.path,
        is_compared=context.check,
    )
    try:
        body.open(reader.chunks(context.keyring), sparse=record.sparse)
    except NotAuthentic as error:
        raise reader.corrupt(error) from None
    except CutShort:
        raise Truncated(path=reader.path, size=os.fstat(reader.fd).st_size) from None
    return body


def _prove_all(context: OpenContext, written: list[tuple[OpenTask, OpenOutcome, _Written]]) -> None:
    failures = sync_each(context.target, [[task.temporary] for task, _outcome, _copy in written])
    for (task, outcome, copy), failure in zip(written, failures, strict=True):
        try:
            if failure is not None:
                raise sync_error(failure, context.target, task, outcome)
            if not _reads_back(context, task, copy):
                shown = context.target.show(join(task.target_dir, outcome.name))
                raise VerificationFailed(path=shown)
            if outcome.late_mode is not None:
                folder, temporary = task.temporary
                attributes.set_mode(context.target.folder(folder), temporary, outcome.late_mode)
        except (EncvaultError, OSError) as error:
            outcome.error = _named(error, context, task, outcome)
            discard_task(context.target, task)


def _reads_back(context: OpenContext, task: OpenTask, copy: _Written) -> bool:
    """Whether the temporary file, read back, is what was opened."""
    above, temporary = task.temporary
    folder = context.target.folder(above)
    if copy.is_link:
        return os.readlink(os.fsencode(temporary), dir_fd=folder) == copy.content
    fd = calls.open_read(folder, temporary)
    try:
        if not copy.bodies:
            return calls.read(fd, len(copy.content) + 1) == copy.content
        for body in copy.bodies:
            body.plain = fd
        size = sum(body.size for body in copy.bodies)
        return os.fstat(fd).st_size == size and all(body.matches_plain() for body in copy.bodies)
    finally:
        os.close(fd)
