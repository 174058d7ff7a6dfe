"""Unpack a sealed archive: a pax stream that somebody else may have made.

Our own extraction follows no link and lets no name leave the folder; what is not made the way
`encvault.vault.archive` makes it is refused.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import stat
import tarfile
from typing import TYPE_CHECKING, Self

from encvault.envelope import Record, check_path
from encvault.errors import DestinationExists, MalformedRecord, NameEscaped, SpecialFile, UnsafePath
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.syncing import sync_tree
from encvault.fs.tree import Tree, join, split
from encvault.i18n import N_, _
from encvault.vault import attributes
from encvault.vault.naming import Naming
from encvault.vault.pax import decode_time, forget_members, xattr_name
from encvault.vault.report import Event, Observer, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXTENDED_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MAX_EXTENDED_SIZE = 1 << 20  # bytes; tarfile keeps them in memory
_MOST_VAIN = 8  # tarfile asks once or twice past the end of an archive that is cut


def extract_archive(
    pieces: Iterator[memoryview],
    target: Tree,
    shown: str,
    *,
    force: bool = False,
    observer: Observer | None = None,
    event: Event | None = None,
) -> Report:
    """Unpack an authenticated pax stream into a folder, whole or not at all.

    Everything is unpacked into a temporary folder first and gets its place only when the last
    chunk of the sealed file has been authenticated.

    Args:
        pieces: the archive's bytes.
        target: the folder.
        shown: the sealed file, for messages.
        force: replace files that exist at the top of `target`.
        observer: is told what happens.
        event: told to the observer before anything gets its place.

    Raises:
        UnsafePath: a name would leave the folder, or make it a vault; nothing was unpacked.
        MalformedRecord: it is no archive that encvault makes; nothing was unpacked.
        DestinationExists: a name at the top exists already.
    """
    watcher, report = observer or Observer(), Report()
    try:
        temporary = durable.temporary_name(durable.own_temporary(target, os.path.basename(shown)))
        calls.mkdir(target.fd, temporary, 0o700)
    except OSError as error:
        raise storage_error(error, target.path) from None
    try:
        with Tree(temporary, within=target) as inside:
            unpacker = _Unpacker(inside, shown, report, watcher)
            unpacker.unpack(pieces)
            sync_tree(inside)
            names = sorted(os.listdir(inside.fd))
            taken = [name for name in names if calls.exists(target.fd, name)]
            for name in taken:
                if _is_same(inside, target, name):  # a killed run has come so far
                    names.remove(name)
                elif not force or _is_folder(target, name):
                    raise DestinationExists(path=target.show(name))
            if event is not None:
                watcher.before_release([event])
            for name in names:
                _move(inside, target, name, over=name in taken)
            unpacker.restore_folders(target)
            report.doubt(unpacker.renamed(target), watcher)
            target.sync_names({split(path)[0] for path in (*unpacker.folders, *names)})
            report.note_lost(unpacker.lost, watcher)
    except OSError as error:
        raise storage_error(error, target.path) from None
    except (tarfile.TarError, ValueError) as error:
        raise MalformedRecord(path=shown, reason=_(str(error))) from None
    finally:
        durable.discard_tree(target, temporary)
    return report


def _move(inside: Tree, target: Tree, name: str, *, over: bool) -> None:
    """Give what was unpacked its place; `over` something that is no folder."""
    if over and not _is_folder(inside, name):
        calls.replace(inside.fd, name, name, target.fd)
        return
    if over:  # no folder takes the place of a file at once
        calls.unlink(target.fd, name)
    calls.rename_new(inside.fd, name, name, target.fd)


def _is_folder(tree: Tree, name: str) -> bool:
    """Whether something is a folder: one that force would replace may hold anything."""
    return stat.S_ISDIR(tree.status(name).st_mode)


def _is_same(one: Tree, other: Tree, path: str) -> bool:
    """Whether two trees hold the same at one path: kinds, names, content and link targets."""
    waiting = [path]  # and no recursion: an archive may be deeper than Python allows
    while waiting:
        at = waiting.pop()
        mode = one.status(at).st_mode
        try:
            if stat.S_IFMT(other.status(at).st_mode) != stat.S_IFMT(mode):
                return False
        except OSError:
            return False
        if not stat.S_ISDIR(mode):
            if not _is_same_file(one, other, at, mode):
                return False
            continue
        names = [sorted(os.listdir(tree.folder(at))) for tree in (one, other)]
        if names[0] != names[1]:
            return False
        waiting += [join(at, inner) for inner in names[0]]
    return True


def _is_same_file(one: Tree, other: Tree, path: str, mode: int) -> bool:
    folder, name = split(path)
    if stat.S_ISLNK(mode):
        targets = [os.readlink(name, dir_fd=tree.folder(folder)) for tree in (one, other)]
        return targets[0] == targets[1]
    fds = [calls.open_read(tree.folder(folder), name) for tree in (one, other)]
    try:
        while True:
            pieces = [calls.read(fd, 1 << 18) for fd in fds]
            if pieces[0] != pieces[1] or not pieces[0]:
                return pieces[0] == pieces[1]
    finally:
        for fd in fds:
            os.close(fd)


class _Unpacker:
    """Unpacks the members into a folder.

    Attributes:
        folders: record of each folder that the archive names, by path where it is unpacked to.
        lost: attributes that could not be restored, a name each time.
    """

    def __init__(self, inside: Tree, shown: str, report: Report, observer: Observer) -> None:
        self._inside = inside
        self._shown = shown
        self._report = report
        self._observer = observer
        self._naming = Naming(inside, "")
        self.folders: dict[str, Record] = {}
        self._above: set[str] = set()  # those of files
        self.lost: list[str] = []

    def unpack(self, pieces: Iterator[memoryview]) -> None:
        source = _PieceReader(pieces)
        with self._few_headers():  # the first member is read already here
            opened = tarfile.open(  # noqa: SIM115 - closed two lines below
                fileobj=source,
                mode="r|",
                encoding="utf-8",
                errors="surrogateescape",
                tarinfo=_Header,
            )
        with opened as tar:
            while (member := self._next(tar)) is not None:
                self._unpack_member(tar, member)
        source.drain()  # the last chunk decides whether any of it is genuine

    @contextlib.contextmanager
    def _few_headers(self) -> Iterator[None]:
        try:
            yield
        except RecursionError:  # tarfile calls itself for each header before a member
            reason = _("too many headers before one member")
            raise MalformedRecord(path=self._shown, reason=reason) from None

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """The next member, or None."""
        with self._few_headers():
            member = tar.next()
        forget_members(tar)
        if member is not None and (
            member.issparse() or any(key.startswith("GNU.sparse.") for key in member.pax_headers)
        ):
            # a few bytes of it would become as many zeros as it says
            raise MalformedRecord(path=self._shown, reason=_("a sparse member"))
        return member

    def restore_folders(self, tree: Tree) -> None:
        """Give folders their attributes once they are in their place, the deepest first.

        Not before: a folder that may not be written to cannot be moved or removed either. Until
        then nobody else may look into it.
        """
        above = {
            folder
            for path in (*self.folders, *self._above)
            for folder in itertools.accumulate(filter(None, path.split("/")), join)
        }
        for path in sorted(above, reverse=True):
            if (record := self.folders.get(path)) is not None:
                self.lost += attributes.restore(tree.folder(path), record, own=False)
            else:  # an archive need not have it
                attributes.make_new(tree.folder(path), tree.folder(split(path)[0]))

    def renamed(self, tree: Tree) -> Iterator[NameEscaped]:
        """What could not keep its name, as it is in its place."""
        for path, name in self._naming.renamed():
            yield NameEscaped(path=tree.show(path), saved_as=name)

    def _unpack_member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = member.name.rstrip("/")
        check_path(path, self._shown)
        record = _record_of(member, path)
        path = self._naming.settle(path)
        folder, name = split(path)
        if member.isdir():
            self._folder(path, path)
            self.folders[path] = record
            self._observer.member("open", path)
            return
        above = self._folder(folder, path)
        if member.issym():
            with self._new(above, name):
                calls.symlink(os.fsencode(member.linkname), above, name)
            self.lost += attributes.restore_symlink(above, name, record, own=False)
        elif member.isreg():
            content = tar.extractfile(member)
            if content is None:
                raise AssertionError("archive: a regular file has content")
            with self._new(above, name):
                fd = calls.create(above, name)
            try:
                while data := content.read(1 << 18):
                    calls.write(fd, data)
                self.lost += attributes.restore(fd, record, own=False)
            finally:
                os.close(fd)
        else:
            error = SpecialFile(path=path, kind=_("special file"))
            self._report.problems.append(error)
            self._observer.problem(error)
            return
        self._report.files += 1
        self._report.size += member.size
        self._observer.member("open", path)
        self._observer.progress(1, member.size)

    @contextlib.contextmanager
    def _new(self, folder: int, name: str) -> Iterator[None]:
        """Name what it means that a name is taken, in a folder where all is from the archive."""
        try:
            yield
        except FileExistsError:
            if name not in os.listdir(folder):  # a drive that takes another name for the same
                raise
            reason = _("two members of one name")
            raise MalformedRecord(path=self._shown, reason=reason) from None

    def _folder(self, folder: str, path: str) -> int:
        try:
            self._above.add(folder)
            return self._inside.make_folders(folder, 0o700)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:  # a link or a file stands in its way
                raise UnsafePath(path=self._shown, name=path) from None
            raise


def _record_of(member: tarfile.TarInfo, path: str) -> Record:
    return Record(
        type="file",
        path=path,
        sealed_at_ns=0,
        mode=member.mode & 0o7777,
        mtime_ns=decode_time(member.pax_headers.get("mtime") or str(int(member.mtime))),
        owner=(member.uid, member.gid),
        xattrs=tuple(
            (name, value.encode("utf-8", "surrogateescape"))
            for key, value in member.pax_headers.items()
            if (name := xattr_name(key)) is not None and name.startswith("user.")
        ),
    )


class _Header(tarfile.TarInfo):
    """A header; one that says that many bytes of names and the like follow is refused."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED_TYPES and header.size > _MAX_EXTENDED_SIZE:
            raise ValueError(N_("an extended header that is too long"))
        return header


class _PieceReader(io.RawIOBase):
    """An iterator of pieces as a file to read from."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = b""
        self._vain = 0  # reads after the end

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        missing = size
        while missing:
            if not self._held:
                self._held = bytes(next(self._pieces, b""))
                if not self._held:
                    break
            parts.append(self._held[:missing])
            self._held = self._held[missing:]
            missing -= len(parts[-1])
        # tarfile skips a member by reading it, and would read what is not there for years
        self._vain += not parts
        if self._vain > _MOST_VAIN:
            raise ValueError(N_("a member that is longer than the archive"))
        return b"".join(parts)

    def drain(self) -> None:
        for _piece in self._pieces:
            pass
