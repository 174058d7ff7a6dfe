"""A tree as one sealed pax archive, streamed both ways.

What `open` and ``cat`` give back is a plain POSIX pax archive (IEEE Std 1003.1-2017) that any tar
reads; opening it into a folder goes through our own extraction, which follows no link and lets no
name leave the folder.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import tarfile
import time
from typing import TYPE_CHECKING, Any, cast

from encvault.envelope import Header, InlineKeyInfo, Record, check_path
from encvault.errors import (
    ChangedInArchive,
    DestinationExists,
    EncvaultError,
    InvalidRequest,
    MalformedRecord,
    NestedVault,
    NotAVault,
    SpecialFile,
    Unreadable,
    UnsafePath,
)
from encvault.fs import calls, durable
from encvault.fs.durable import storage_error
from encvault.fs.tree import Stamp, Tree, join, split
from encvault.i18n import N_, _, system_reason
from encvault.vault import attributes
from encvault.vault.inspect import inspect_status
from encvault.vault.layout import archive_name, plain_name
from encvault.vault.manifest import FOLDER, new_id
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import Buffers, SealWriter
from encvault.vault.single import OutputFile, make_key
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from encvault.crypto.suite import Suite
    from encvault.fs.tree import Entry, Folder
    from encvault.keyslots import Recipient
    from encvault.vault.plan import SealOptions

_XATTR = "SCHILY.xattr."  # the key that GNU tar, bsdtar and star use
_NS = 1_000_000_000
_TIME = re.compile(r"(-?)(\d{1,18})(?:\.(\d*))?", re.ASCII)


def seal_archive(
    sources: Sequence[Tree],
    output: str,
    recipients: Sequence[Recipient],
    options: SealOptions,
    *,
    suite: Suite,
    force: bool = False,
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
        observer: is told what happens.
    """
    watcher, report = observer or Observer(), Report()
    for tree in sources:
        _check_source(tree)
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
                with tarfile.open(
                    fileobj=cast("Any", writer),  # `write` is all that "w|" uses
                    mode="w|",
                    format=tarfile.PAX_FORMAT,
                    encoding="utf-8",
                    errors="surrogateescape",
                ) as tar:
                    packers = [
                        _Packer(tar, tree, prefix, options, report, watcher)
                        for tree, prefix in zip(sources, prefixes, strict=True)
                    ]
                    if watcher.wants_total:
                        counts = [packer.survey() for packer in packers]
                        watcher.total(sum(c[0] for c in counts), sum(c[1] for c in counts))
                    for packer in packers:
                        packer.pack()
                writer.finish()
            except OSError as error:
                raise storage_error(error, output) from None
        watcher.before_release([Event("seal", output, info.file, writer.content_size)])
        file.publish()
    return report


def _check_source(tree: Tree) -> None:
    """Refuse what nobody could open again: sealed files without their vault's folder."""
    if _is_vault_folder(os.path.basename(tree.path)):
        raise InvalidRequest(reason=_("{path} belongs to the vault itself").format(path=tree.path))
    with contextlib.suppress(NotAVault), Vault.load(tree.path) as vault:
        if inspect_status(vault).sealed:
            raise InvalidRequest(reason=_("{path} is sealed already").format(path=tree.path))


def _is_vault_folder(name: str) -> bool:
    """Whether a folder with this name in it is a vault, as it is on drives that ignore case."""
    return name.lower() == FOLDER


class _Packer:
    """Adds one tree to the archive."""

    def __init__(
        self,
        tar: tarfile.TarFile,
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
                self._put(self._member(name, folder.status, tarfile.DIRTYPE))
            for entry in folder.entries:
                path = join(folder.path, entry.name)
                if entry.kind != "dir" and self._enters(path):
                    self._add(folder.path, entry, join(self._prefix, path))

    def _folders(self) -> Iterator[tuple[Folder, bool]]:
        """Each folder, and whether it is a vault of its own, which is left out as in sealing."""
        for folder in self._tree.walk(enter=self._enters):
            names = (entry.name for entry in folder.entries)
            nested = bool(folder.path) and any(map(_is_vault_folder, names))
            if nested:
                folder.entries.clear()  # what lies below is left out as well
            yield folder, nested

    def _enters(self, path: str) -> bool:
        return not (_is_vault_folder(split(path)[1]) or self._options.excludes(path))

    def _problem(self, error: EncvaultError) -> None:
        self._report.problems.append(error)
        self._observer.problem(error)

    def _add(self, folder: str, entry: Entry, name: str) -> None:
        shown = self._tree.show(join(folder, entry.name))
        if entry.kind == "symlink":
            member = self._member(name, entry.status, tarfile.SYMTYPE)
            try:
                member.linkname = os.readlink(entry.name, dir_fd=self._tree.folder(folder))
            except OSError as error:
                self._problem(storage_error(error, shown, reading=True))
                return
            self._put(member)
        elif entry.kind == "file":
            try:
                fd = calls.open_read(self._tree.folder(folder), entry.name)
            except OSError as error:
                self._problem(storage_error(error, shown, reading=True))
                return
            try:
                self._add_file(fd, name, shown)
            finally:
                os.close(fd)
        else:
            self._problem(SpecialFile(path=shown, kind=_(entry.kind)))
            return
        self._report.files += 1
        self._report.size += entry.status.st_size
        self._observer.progress(1, entry.status.st_size)

    def _add_file(self, fd: int, name: str, shown: str) -> None:
        status = os.fstat(fd)
        member = self._member(name, status, tarfile.REGTYPE)
        member.size = status.st_size
        member.pax_headers = dict(member.pax_headers) | {
            _XATTR + key: value.decode("utf-8", "surrogateescape")
            for key, value in attributes.read_xattrs(fd)
        }
        content = _Exactly(fd, status.st_size)
        self._put(member, content)
        if content.was_short or Stamp.of(os.fstat(fd)) != Stamp.of(status):
            self._problem(ChangedInArchive(path=shown))

    def _put(self, member: tarfile.TarInfo, content: _Exactly | None = None) -> None:
        self._tar.addfile(member, cast("Any", content))  # `read` is all that it uses
        _forget_members(self._tar)

    def _member(self, name: str, status: os.stat_result, kind: bytes) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.mode = stat.S_IMODE(status.st_mode)
        member.uid, member.gid = status.st_uid, status.st_gid
        # a float would lose nanoseconds
        member.pax_headers = {"mtime": _encode_time(status.st_mtime_ns)}
        return member


class _Exactly(io.RawIOBase):
    """The first `size` bytes of a file, padded with zeros if it has become shorter meanwhile.

    tar has written the size already; fewer bytes would shift everything that follows.
    """

    def __init__(self, fd: int, size: int) -> None:
        super().__init__()
        self._fd = fd
        self._left = size
        self.was_short = False

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = calls.read(self._fd, wanted) if wanted and not self.was_short else b""
        if len(data) < wanted:
            self.was_short = True
            data += bytes(wanted - len(data))
        self._left -= len(data)
        return data


# -- extraction -----------------------------------------------------------------------------


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
            inside.sync_all()
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
                if name in taken:
                    calls.unlink(target.fd, name)
                calls.rename_new(inside.fd, name, name, target.fd)
            unpacker.restore_folders(target)
            target.sync_names({split(path)[0] for path in (*unpacker.folders, *names)})
            report.note_lost(unpacker.lost, watcher)
    except OSError as error:
        raise storage_error(error, target.path) from None
    except (tarfile.TarError, ValueError) as error:
        raise MalformedRecord(path=shown, reason=_(str(error))) from None
    finally:
        durable.discard_tree(target.fd, temporary)
    return report


def _is_folder(tree: Tree, name: str) -> bool:
    """Whether something that force would replace is a folder, which may hold anything."""
    return stat.S_ISDIR(tree.status(name).st_mode)


def _is_same(one: Tree, other: Tree, path: str) -> bool:
    """Whether two trees hold the same at one path: kinds, names, content and link targets."""
    mode = one.status(path).st_mode
    try:
        if stat.S_IFMT(other.status(path).st_mode) != stat.S_IFMT(mode):
            return False
    except OSError:
        return False
    folder, name = split(path)
    if stat.S_ISDIR(mode):
        names = [sorted(os.listdir(tree.folder(path))) for tree in (one, other)]
        return names[0] == names[1] and all(
            _is_same(one, other, join(path, inner)) for inner in names[0]
        )
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
        folders: record of each folder that the archive names, by path.
        lost: attributes that could not be restored, a name each time.
    """

    def __init__(self, inside: Tree, shown: str, report: Report, observer: Observer) -> None:
        self._inside = inside
        self._shown = shown
        self._report = report
        self._observer = observer
        self.folders: dict[str, Record] = {}
        self.lost: list[str] = []

    def unpack(self, pieces: Iterator[memoryview]) -> None:
        source = _PieceReader(pieces)
        with self._few_headers():  # the first member is read already here
            opened = tarfile.open(  # noqa: SIM115 - closed two lines below
                fileobj=source, mode="r|", encoding="utf-8", errors="surrogateescape"
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
        _forget_members(tar)
        if member is not None and (
            member.issparse() or any(key.startswith("GNU.sparse.") for key in member.pax_headers)
        ):
            # a few bytes of it would become as many zeros as it says
            raise MalformedRecord(path=self._shown, reason=_("a sparse member"))
        return member

    def restore_folders(self, tree: Tree) -> None:
        """Give folders their attributes once they are in their place, the deepest first.

        Not before: a folder that may not be written to cannot be moved or removed either.
        """
        for path, record in sorted(self.folders.items(), reverse=True):
            self.lost += attributes.restore(tree.folder(path), record, own=False)

    def _unpack_member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = member.name.rstrip("/")
        check_path(path, self._shown)
        if any(map(_is_vault_folder, path.split("/"))):
            raise UnsafePath(path=self._shown, name=path)
        record = _record_of(member, path)
        folder, name = split(path)
        if member.isdir():
            self._folder(path, path)
            self.folders[path] = record
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
            return self._inside.make_folders(folder)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:  # a link or a file stands in its way
                raise UnsafePath(path=self._shown, name=path) from None
            raise


def _forget_members(tar: tarfile.TarFile) -> None:
    """Let go of what tarfile remembers of every member; streams need none of it."""
    tar.members.clear()  # type: ignore[attr-defined]  # not in the stubs


def _encode_time(time_ns: int) -> str:
    """A time as pax spells it: decimal seconds, the sign before all of it."""
    seconds, rest = divmod(abs(time_ns), _NS)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{rest:09d}"


def _decode_time(text: str) -> int:
    """Nanoseconds from what pax spells; digits beyond them are cut off.

    Raises:
        ValueError: not a decimal number.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(N_("a time that is none"))
    sign, seconds, rest = found.groups()
    value = int(seconds) * _NS + int((rest or "")[:9].ljust(9, "0"))
    return -value if sign else value


def _record_of(member: tarfile.TarInfo, path: str) -> Record:
    return Record(
        type="file",
        path=path,
        sealed_at_ns=0,
        mode=member.mode & 0o7777,
        mtime_ns=_decode_time(member.pax_headers.get("mtime") or str(int(member.mtime))),
        owner=(member.uid, member.gid),
        xattrs=tuple(
            (key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
            for key, value in member.pax_headers.items()
            if key.startswith(_XATTR + "user.")
        ),
    )


class _PieceReader(io.RawIOBase):
    """An iterator of pieces as a file to read from."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = b""

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
        return b"".join(parts)

    def drain(self) -> None:
        for _piece in self._pieces:
            pass
