"""Seal a tree as one pax archive, streamed.

What `open` and ``cat`` give back is a plain POSIX pax archive (IEEE Std 1003.1-2017) that any tar
reads; `encvault.vault.extract` unpacks it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from encvault.envelope import Header, InlineKeyInfo, Record, is_vault_folder
from encvault.errors import (
    ChangedInArchive,
    EncvaultError,
    InvalidRequest,
    NestedVault,
    SpecialFile,
    Unreadable,
)
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.stamp import Stamp
from encvault.fs.tree import Tree, join, split
from encvault.i18n import _, system_reason
from encvault.vault import attributes, pax
from encvault.vault.layout import archive_name, is_vault_entry, plain_name, vault_name_taken
from encvault.vault.manifest import new_id
from encvault.vault.output import OutputFile
from encvault.vault.pool import BATCH_FILES, Pool, Tick, batches, default_jobs
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import PIECE_SIZE, Buffers, SealedReader, SealWriter
from encvault.vault.single import make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.crypto.suite import Suite
    from encvault.envelope import Layout
    from encvault.fs.entries import Folder
    from encvault.keyslots import Recipient
    from encvault.secret import Buffer, Secret
    from encvault.vault.selection import SealOptions

BATCH_SIZE = 2 << 20  # bytes of content; what is larger is read by the process that seals
_MOST_JOBS = 8  # one process seals for all; each has two slots, 48 MiB together
_SLOT_SIZE = BATCH_SIZE + BATCH_FILES * 2048  # headers and padding are rarely more


def seal_archive(
    sources: Sequence[Tree],
    output: str,
    recipients: Sequence[Recipient],
    options: SealOptions,
    *,
    suite: Suite,
    force: bool = False,
    reads_back: bool = False,
    observer: Observer | None = None,
) -> Report:
    """Seal folders as one archive; the sources are not touched.

    Args:
        sources: folders. The names of one are relative to it; of several, to their parents.
        output: the sealed file, which appears when it is complete and durable.
        recipients: at least one.
        options: ``exclude`` is used.
        suite: cipher suite.
        force: replace an existing output.
        reads_back: read and authenticate it before it appears, for who cannot open it later.
        observer: is told what happens.
    """
    watcher, report = observer or Observer(), Report()
    prefixes = [os.path.basename(tree.path) if len(sources) > 1 else "" for tree in sources]
    if len(set(prefixes)) != len(prefixes):
        raise InvalidRequest(reason=_("two folders of one name do not fit into one archive"))
    with OutputFile(output, force=force) as file:
        key, slots = make_key(recipients, output)
        name = archive_name(plain_name(os.path.basename(output)))
        record = Record(type="archive", path=name, sealed_at_ns=time.time_ns()).encode()
        info = InlineKeyInfo(new_id(), slots)
        header = Header(suite, len(record), info).encode()
        with key:
            try:
                writer = SealWriter(file.open(), suite, key, header, record, Buffers())
                tar = _Tar(writer)
                packers = [
                    _Packer(tar, tree, prefix, options, report, watcher)
                    for tree, prefix in zip(sources, prefixes, strict=True)
                ]
                if watcher.wants_total:
                    counts = [packer.survey() for packer in packers]
                    watcher.total(sum(c[0] for c in counts), sum(c[1] for c in counts))
                for packer in packers:
                    packer.pack()
                tar.finish()
                writer.finish()
                if reads_back:
                    file.flush()
                    _read_back(file.path, file.fd, key)
            except OSError as error:
                raise storage_error(error, output) from None
        size = writer.content_size if len(sources) == 1 else None  # of all of them together
        watcher.before_release([Event("seal", tree.path, info.file, size) for tree in sources])
        file.publish()
    return report


@dataclass(frozen=True, slots=True)
class _OwnKey:
    """The key that an archive was just written under; see `encvault.vault.sealed.Keyring`."""

    key: Secret
    layout: ClassVar[Layout] = "alone"

    def key_for(self, header: Header, path: str) -> Secret:  # noqa: ARG002 - see `Keyring`
        return self.key


def _read_back(path: str, fd: int, key: Secret) -> None:
    """Authenticate what was written.

    Raises:
        IntegrityError: it is not what was written.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    _record, pieces = SealedReader(fd, path, Buffers()).open(_OwnKey(key))
    for _piece in pieces:
        pass


class _Tar:
    """Gathers what is small, so that many members are sealed and written together."""

    def __init__(self, writer: SealWriter) -> None:
        self._writer = writer
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._size = 0

    def write(self, data: Buffer) -> None:
        """Add bytes, of which nothing is needed any more on return."""
        if len(data) < PIECE_SIZE:
            self._pieces.append(bytes(data))
            self._gathered += len(data)
        if len(data) >= PIECE_SIZE or self._gathered >= PIECE_SIZE:
            self._flush()
        if len(data) >= PIECE_SIZE:
            self._size += self._writer.write(data)

    def finish(self) -> None:
        """Add the end of the archive."""
        self.write(pax.END)
        self.write(bytes(-(self._size + self._gathered) % pax.RECORD_SIZE))
        self._flush()

    def _flush(self) -> None:
        self._size += self._writer.write(b"".join(self._pieces))
        self._pieces, self._gathered = [], 0


class _Item(NamedTuple):
    """A member to be.

    Attributes:
        folder, own: where it is in the tree, and what it is called there; "" for a folder itself.
        name: in the archive.
        kind: ``file``, ``symlink`` or ``dir``.
        size: bytes of content when it was listed.
        status: likewise; None of a file, which is asked once more when it is open.
    """

    folder: str
    own: str
    name: str
    kind: str
    size: int
    status: os.stat_result | None


class _Packed(NamedTuple):
    """What a worker made of a batch.

    Attributes:
        size: bytes of the members, which are in the batch's slot.
        done: how many of the items it came to: the next one is too large to be sent about.
        missing: indexes of items that are not among the members.
        problems: with those, and with others that changed meanwhile.
    """

    size: int
    done: int
    missing: list[int]
    problems: list[EncvaultError]


class _NoRoom(Exception):
    """A member is too large for what is left of a slot."""


class _Slot:
    """Memory in which a worker leaves members for the process that seals them."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            _NoRoom: they do not fit.
        """
        end = self.size + len(data)
        if end > len(self._memory):
            raise _NoRoom
        self._memory[self.size : end] = data
        self.size = end


class _Packer:
    """Adds one tree to the archive: workers pack what is small, in the order of the names."""

    def __init__(
        self,
        tar: _Tar,
        tree: Tree,
        prefix: str,
        options: SealOptions,
        report: Report,
        observer: Observer,
    ) -> None:
        self._tar = tar
        self._tree = tree
        self._prefix = prefix
        self._options = options
        self._report = report
        self._observer = observer

    def survey(self) -> tuple[int, int]:
        """Count files and bytes for a progress bar."""
        sizes = [
            entry.status.st_size
            for folder, _nested in self._folders()
            for entry in folder.entries
            if entry.kind in ("file", "symlink") and self._enters(join(folder.path, entry.name))
        ]
        return len(sizes), sum(sizes)

    def pack(self) -> None:
        def work(task: tuple[int, list[_Item]], _tick: Tick) -> _Packed:
            number, batch = task
            return _pack(self._tree, batch, slots[number % len(slots)])

        jobs = min(self._options.jobs or default_jobs(), _MOST_JOBS)
        pool = Pool(work, jobs, trees=[self._tree])
        memory = memoryview(mmap.mmap(-1, pool.most_waiting * _SLOT_SIZE))  # shared with workers
        slots = [memory[at : at + _SLOT_SIZE] for at in range(0, len(memory), _SLOT_SIZE)]
        tasks = enumerate(batches(self._items(), lambda item: item.size, BATCH_SIZE))
        # in order: GNU tar gives a folder its time when the next member is not in it
        with contextlib.closing(pool.map_in_order(tasks)) as results:
            for (number, batch), packed in results:
                self._tar.write(slots[number % len(slots)][: packed.size])
                for index, item in enumerate(batch[: packed.done]):
                    if index not in packed.missing:
                        self._count(item)
                for error in packed.problems:
                    self._problem(error)
                for item in batch[packed.done :]:
                    self._add_large(item)

    def _items(self) -> Iterator[_Item]:
        for folder, nested in self._folders():
            if folder.error is not None:
                reason = system_reason(folder.error)
                self._problem(Unreadable(path=self._tree.show(folder.path), reason=reason))
                continue
            if nested:
                self._problem(NestedVault(path=self._tree.show(folder.path)))
                continue
            name = join(self._prefix, folder.path) if folder.path else self._prefix
            if name:
                yield _Item(folder.path, "", name, "dir", 0, folder.status)
            for entry in folder.entries:
                path = join(folder.path, entry.name)
                own, status, kind = entry
                if kind == "dir" or self._options.excludes(path):
                    continue
                if is_vault_folder(own):  # no reader takes that name (docs/format.md section 3)
                    self._problem(vault_name_taken(self._tree.show(path)))
                elif kind in ("file", "symlink"):
                    name, rest = join(self._prefix, path), None if kind == "file" else status
                    yield _Item(folder.path, own, name, kind, status.st_size, rest)
                else:
                    self._problem(SpecialFile(path=self._tree.show(path), kind=_(kind)))

    def _folders(self) -> Iterator[tuple[Folder, bool]]:
        """Each folder, and whether it is a vault of its own, which is left out as in sealing."""
        for folder in self._tree.walk(enter=self._enters):
            nested = bool(folder.path) and any(map(is_vault_entry, folder.entries))
            if nested:
                folder.entries.clear()  # what lies below is left out as well
            yield folder, nested

    def _enters(self, path: str) -> bool:
        return not (is_vault_folder(split(path)[1]) or self._options.excludes(path))

    def _problem(self, error: EncvaultError) -> None:
        self._report.problems.append(error)
        self._observer.problem(error)

    def _count(self, item: _Item) -> None:
        self._observer.member("seal", item.name)
        if item.kind != "dir":
            self._report.files += 1
            self._report.size += item.size
            self._observer.progress(1, item.size)

    def _add_large(self, item: _Item) -> None:
        problem = _add(self._tree, item, self._tar.write)
        if problem is None or isinstance(problem, ChangedInArchive):
            self._count(item)
        if problem is not None:
            self._problem(problem)


def _pack(tree: Tree, batch: list[_Item], memory: memoryview) -> _Packed:
    slot = _Slot(memory)
    missing: list[int] = []
    problems: list[EncvaultError] = []
    for index, item in enumerate(batch):
        begin = slot.size
        if begin + item.size > len(memory):  # it is not read for nothing
            return _Packed(begin, index, missing, problems)
        try:
            problem = _add(tree, item, slot.write)
        except _NoRoom:
            return _Packed(begin, index, missing, problems)
        if problem is not None:
            problems.append(problem)
            if not isinstance(problem, ChangedInArchive):
                missing.append(index)
    return _Packed(slot.size, len(batch), missing, problems)


def _add(tree: Tree, item: _Item, write: Callable[[bytes], None]) -> EncvaultError | None:
    """Write one member whole, or tell why there is none; `ChangedInArchive` if it is there."""
    folder, own, name, kind, _size, status = item
    shown = tree.show(join(folder, own) if own else folder)
    try:
        if status is None:
            fd = calls.open_read(tree.folder(folder), own)
        elif kind == "symlink":
            target = os.readlink(own, dir_fd=tree.folder(folder))
            write(_member(name, pax.LINK, status, target=target))
            return None
        else:
            xattrs = attributes.read_xattrs(tree.folder(folder), shown)
            write(_member(name, pax.FOLDER, status, xattrs=xattrs))
            return None
    except OSError as error:
        return storage_error(error, shown, reading=True)
    except Unreadable as error:
        return error
    try:
        is_whole = _add_file(fd, name, shown, write)
    except Unreadable as error:
        return error
    finally:
        os.close(fd)
    return None if is_whole else ChangedInArchive(path=shown)


def _add_file(fd: int, name: str, shown: str, write: Callable[[bytes], None]) -> bool:
    """Whether the file was all the time what its member says.

    Raises:
        Unreadable: nothing was written.
    """
    status = os.fstat(fd)
    size, xattrs = status.st_size, attributes.read_xattrs(fd, shown)
    write(_member(name, pax.FILE, status, size=size, xattrs=xattrs))
    left, ends = size, False
    while left:
        wanted = min(left, PIECE_SIZE)
        data = b"" if ends else calls.read(fd, wanted)
        ends = len(data) < wanted
        # the header has said the size already; fewer bytes would shift everything that follows
        write(data + bytes(wanted - len(data)) if ends else data)
        left -= wanted
    write(pax.padding(size))
    # files of the kernel, and of some file systems, say a size that they do not have
    return not ends and Stamp.of(os.fstat(fd)) == Stamp.of(status)


def _member(name: str, kind: bytes, status: os.stat_result, **more: Any) -> bytes:
    return pax.member(
        name,
        kind,
        mode=stat.S_IMODE(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        mtime_ns=status.st_mtime_ns,
        **more,
    )
