"""Seal a tree as one pax archive, streamed.

What `open` and ``cat`` give back is a plain POSIX pax archive (IEEE Std 1003.1-2017) that any tar
reads; `encvault.vault.extract` unpacks it.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from encvault.envelope import Header, InlineKeyInfo, Record
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
from encvault.fs.tree import Stamp, Tree, join, split
from encvault.i18n import _, system_reason
from encvault.vault import attributes, pax
from encvault.vault.layout import archive_name, is_vault_folder, plain_name
from encvault.vault.manifest import new_id
from encvault.vault.output import OutputFile
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import PIECE_SIZE, Buffers, SealedReader, SealWriter
from encvault.vault.single import make_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from encvault.crypto.suite import Suite
    from encvault.envelope import Layout
    from encvault.fs.tree import Entry, Folder
    from encvault.keyslots import Recipient
    from encvault.secret import Buffer, Secret
    from encvault.vault.plan import SealOptions


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
        self._pieces: list[Buffer] = []
        self._gathered = 0
        self._size = 0

    def write(self, data: Buffer) -> None:
        """Add bytes, which must stay as they are."""
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered >= PIECE_SIZE:
            self._flush()

    def finish(self) -> None:
        """Add the end of the archive."""
        self.write(pax.END)
        self.write(bytes(-(self._size + self._gathered) % pax.RECORD_SIZE))
        self._flush()

    def _flush(self) -> None:
        self._writer.write(b"".join(self._pieces))
        self._size += self._gathered
        self._pieces, self._gathered = [], 0


class _Packer:
    """Adds one tree to the archive."""

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
                self._tar.write(_member(name, pax.FOLDER, folder.status))
            for entry in folder.entries:
                path = join(folder.path, entry.name)
                if entry.kind != "dir" and self._enters(path):
                    self._add(folder.path, entry, join(self._prefix, path))

    def _folders(self) -> Iterator[tuple[Folder, bool]]:
        """Each folder, and whether it is a vault of its own, which is left out as in sealing."""
        for folder in self._tree.walk(enter=self._enters):
            names = (entry.name for entry in folder.entries)
            nested = bool(folder.path) and any(map(is_vault_folder, names))
            if nested:
                folder.entries.clear()  # what lies below is left out as well
            yield folder, nested

    def _enters(self, path: str) -> bool:
        return not (is_vault_folder(split(path)[1]) or self._options.excludes(path))

    def _problem(self, error: EncvaultError) -> None:
        self._report.problems.append(error)
        self._observer.problem(error)

    def _add(self, folder: str, entry: Entry, name: str) -> None:
        path = join(folder, entry.name)
        if entry.kind == "symlink":
            try:
                target = os.readlink(entry.name, dir_fd=self._tree.folder(folder))
            except OSError as error:
                self._problem(storage_error(error, self._tree.show(path), reading=True))
                return
            self._tar.write(_member(name, pax.LINK, entry.status, target=target))
        elif entry.kind == "file":
            try:
                fd = calls.open_read(self._tree.folder(folder), entry.name)
            except OSError as error:
                self._problem(storage_error(error, self._tree.show(path), reading=True))
                return
            try:
                self._add_file(fd, name, path)
            finally:
                os.close(fd)
        else:
            self._problem(SpecialFile(path=self._tree.show(path), kind=_(entry.kind)))
            return
        self._report.files += 1
        self._report.size += entry.status.st_size
        self._observer.progress(1, entry.status.st_size)

    def _add_file(self, fd: int, name: str, path: str) -> None:
        status = os.fstat(fd)
        size, xattrs = status.st_size, attributes.read_xattrs(fd)
        self._tar.write(_member(name, pax.FILE, status, size=size, xattrs=xattrs))
        left, ends = size, False
        while left:
            wanted = min(left, PIECE_SIZE)
            data = b"" if ends else calls.read(fd, wanted)
            ends = len(data) < wanted
            # the header has said the size already; fewer bytes would shift everything that follows
            self._tar.write(data + bytes(wanted - len(data)) if ends else data)
            left -= wanted
        self._tar.write(pax.padding(size))
        # files of the kernel, and of some file systems, say a size that they do not have
        if ends or Stamp.of(os.fstat(fd)) != Stamp.of(status):
            self._problem(ChangedInArchive(path=self._tree.show(path)))


def _member(name: str, kind: bytes, status: os.stat_result, **more: Any) -> bytes:
    return pax.member(
        name,
        kind,
        mode=stat.S_IMODE(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        mtime_ns=status.st_mtime_ns,
        **more,
    )
