"""Seal what was changed to temporary files, from where `encvault.mount.saving` puts it in place.

The temporary files lie in the vault's own folder, which the next run that holds the vault cleans:
whatever a kill leaves is gone then, and no other program ever sees half a file.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import stream
from encvault.envelope import PART_SIZE, Header, Record, VaultKeyInfo
from encvault.fs import calls, durable
from encvault.fs.syncing import sync_each
from encvault.fs.tree import join
from encvault.mount.bases import Growing
from encvault.mount.nodes import FileNode, FolderNode
from encvault.mount.spill import Spill
from encvault.vault import attributes
from encvault.vault.keywatch import missing_key
from encvault.vault.manifest import FOLDER, make_own_folders, new_id
from encvault.vault.sealed import PIECE_SIZE, Buffers, SealWriter, encode_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.envelope import RecordType
    from encvault.mount.content import Content
    from encvault.mount.nodes import Meta, Node
    from encvault.secret import Buffer, Secret
    from encvault.vault.vault import Vault

_LARGE_SIZE = 999_999_999_999  # stands for a size that is not known yet: as many digits
_MAX_SIZE = 1 << 51  # half of what a body may have (docs/format.md section 9)
_MODES = 0o777


class Home(NamedTuple):
    """Where a node belongs, as its record says.

    Attributes:
        path: in the visible layout the path within the vault, in the hidden one the name.
        parent: hidden layout: id of the folder; None in the visible one.
        folder: hidden layout: of a folder, its own id.
    """

    path: str
    parent: str | None = None
    folder: str | None = None

    @property
    def text(self) -> str:
        """The same as `encvault.mount.nodes.Source` has it."""
        return self.path if self.parent is None else join(self.parent, self.path)


Staging = FolderNode | str


def staging_path(staging: Staging) -> str:
    """Where in the vault's tree it is now."""
    return staging if isinstance(staging, str) else staging.path


@dataclass(slots=True)
class Prepared:
    """A sealed copy of a node, whole and readable, not yet in its place and not yet durable.

    Attributes:
        version, data_version: of the node that it has.
        home: where it belongs.
        ids: of its objects, the first one first.
        staging: the folder that each is in now; a node, where that may get another name.
        size: bytes of content.
        records: what its objects say of themselves, encoded.
        begun: when its first byte was about to be written, by the monotonic clock.
        is_closed: whether nobody had the file open to write any more after it was made; else it
            may be half of what is meant.
    """

    version: int
    data_version: int
    home: Home
    ids: tuple[str, ...]
    staging: tuple[Staging, ...]
    size: int
    records: tuple[bytes, ...]
    begun: float
    is_closed: bool = False

    @property
    def temporaries(self) -> list[tuple[str, str]]:
        """Folder and name of each."""
        return [
            (staging_path(folder), durable.temporary_name(file_id))
            for folder, file_id in zip(self.staging, self.ids, strict=True)
        ]


@dataclass(slots=True, eq=False)
class Sealer:
    """Makes sealed copies under one data key, which is made when it is needed first.

    Attributes:
        vault: unlocked and held.
        tree_lock: held while a descriptor of the vault's tree is taken and used.
        home_of: where a node belongs; needs no lock for a guess.
        staging_of: where to make the object of a node with this id. A file system gives files
            that are made in one folder places near each other, so each is made where it will be.
        own: names of the temporary files that there are.
    """

    vault: Vault
    tree_lock: threading.RLock
    home_of: Callable[[Node], Home]
    staging_of: Callable[[Node, str], Staging]
    own: set[str]
    _key: tuple[str, Secret] | None = None
    _key_lock: threading.Lock = field(default_factory=threading.Lock)
    _spill: Spill | None = None

    def spill(self, block_size: int) -> Spill:
        """The spill file of the mount."""
        with self.tree_lock:
            if self._spill is None:
                self._spill = Spill(self.vault.tree, self.vault.record.suite, block_size)
            return self._spill

    def close(self) -> None:
        """Wipe the key."""
        if self._key is not None:
            self._key[1].wipe()
            self._key = None
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    # -- prepare ----------------------------------------------------------------------------

    def grow(self, node: FileNode) -> Growing | None:
        """A file to seal the content of a new node to as it comes, or None if that cannot be.

        Raises:
            OSError: there is no room.
        """
        size = len(self._record(node, self.home_of(node), _LARGE_SIZE, ()).encode())
        if size >= stream.CHUNK_SIZE:
            return None
        file = new_id()
        key = self.data_key()[1]
        limit = PART_SIZE if self.vault.hidden else _MAX_SIZE
        header = self._header(file, size)
        fd = self._create(FOLDER, file)
        return Growing(fd, header, key, limit, lambda: self._discard(FOLDER, file))

    def prepare(self, node: FileNode, content: Content, home: Home) -> Prepared:
        """A sealed copy of a node whose lock is held.

        Raises:
            OSError: it could not be written; nothing is left of it.
        """
        if (growing := content.growing) is not None and growing.is_open:
            record = self._record(node, home, growing.size, ()).encode()
            if len(record) == growing.metadata_size:
                growing.finish(record)
                self._keep_access(growing.fd, node.meta)
                whole = ((growing.file,), (FOLDER,), growing.size, (record,))
                return Prepared(node.version, node.data_version, home, *whole, growing.begun)
        return self._rewrite(node, content, home)

    def prepare_folder(self, node: FolderNode, home: Home) -> Prepared:
        """A folder's object; hidden layout.

        Raises:
            OSError: it could not be written; nothing is left of it.
        """
        file = new_id()
        record = self._record(node, home, 0, ()).encode()
        staging, begun = self.staging_of(node, file), time.monotonic()
        self._write(staging, file, record, b"", None)
        return Prepared(node.version, 0, home, (file,), (staging,), 0, (record,), begun)

    def sync(self, copies: Sequence[Prepared]) -> list[OSError | None]:
        """Make copies durable, wherever they are.

        Returns:
            Of each copy why it may be lost, or None. What may be lost must not be asked again: the
            kernel tells of it once. Of one that is not there any more, nothing is said.
        """
        files = [one.temporaries for one in copies]
        told = sync_each(self.vault.tree, files, self.tree_lock)
        return [None if isinstance(one, FileNotFoundError) else one for one in told]

    def taken(self, prepared: Prepared) -> None:
        """A copy has its place."""
        self.own.difference_update(name for _folder, name in prepared.temporaries)

    def discard(self, prepared: Prepared) -> None:
        """Remove a copy that will not be used."""
        for staging, file in zip(prepared.staging, prepared.ids, strict=True):
            self._discard(staging, file)

    def drop_copies(self, node: FileNode) -> None:
        """Remove the copies of a node, whose lock is held, that have no place yet."""
        for copy in {id(copy): copy for copy in (node.prepared, node.under_way) if copy}.values():
            self.discard(copy)
        node.prepared = node.under_way = None

    def _rewrite(self, node: FileNode, content: Content, home: Home) -> Prepared:
        ids = [new_id()]
        if self.vault.hidden and content.size > PART_SIZE:
            ids += [new_id() for _part in range(-(-content.size // PART_SIZE) - 1)]
        record = self._record(node, home, content.size, tuple(ids[1:])).encode()
        records = [record]
        places = tuple(self.staging_of(node, file) for file in ids)
        begun = time.monotonic()
        try:
            if content.size <= PIECE_SIZE:
                data = bytes(content.read(0, content.size))
                self._write(places[0], ids[0], record, data, node.meta)
            else:
                pieces = content.pieces()
                rest: Buffer = b""
                for index, file in enumerate(ids):
                    start = index * PART_SIZE
                    size = content.size - start if len(ids) == 1 else PART_SIZE
                    size = min(size, content.size - start)
                    own = record if index == 0 else _part_record(ids[0], index, size)
                    records[index:] = [own]
                    fd = self._create(places[index], file)
                    try:
                        rest = self._write_pieces(fd, file, own, size, rest, pieces)
                        self._keep_access(fd, node.meta)
                    finally:
                        os.close(fd)
        except BaseException as error:
            for staging, file in zip(places, ids, strict=True):
                self._discard(staging, file)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = self.vault.tree.show(node.path)
            raise
        whole = (tuple(ids), places, content.size, tuple(records))
        return Prepared(node.version, node.data_version, home, *whole, begun)

    def _write_pieces(
        self,
        fd: int,
        file: str,
        record: bytes,
        size: int,
        rest: Buffer,
        pieces: Iterator[Buffer],
    ) -> Buffer:
        """Seal so many bytes of the pieces to one object; what is left of the last of them."""
        header = self._header(file, len(record)).encode()
        suite, key = self.vault.record.suite, self.data_key()[1]
        writer = SealWriter(fd, suite, key, header, record, Buffers())
        while size:
            piece = rest or next(pieces)
            own, rest = piece[:size], piece[size:]
            writer.write(own)
            size -= len(own)
        writer.finish()
        return rest

    def _write(
        self, staging: Staging, file: str, record: bytes, data: bytes, meta: Meta | None
    ) -> None:
        suite, key = self.vault.record.suite, self.data_key()[1]
        header = self._header(file, len(record)).encode()
        sealed = encode_sealed(suite, key, header, record, data)
        fd = self._create(staging, file)
        try:
            calls.write(fd, sealed)
            if meta is not None:
                self._keep_access(fd, meta)
        except BaseException:
            self._discard(staging, file)
            raise
        finally:
            os.close(fd)

    # -- parts ------------------------------------------------------------------------------

    def data_key(self) -> tuple[str, Secret]:
        """The id of the data key, and the key; made when it is asked for first."""
        with self._key_lock:
            if self._key is None:
                with self.tree_lock:
                    self._key = self.vault.new_data_key()
            return self._key

    def check_key(self) -> None:
        """Refuse to let copies take effect that nothing opens any more.

        Raises:
            KeysMissing: somebody has taken away files of the vault's own.
        """
        if self._key is not None and (missing := missing_key(self.vault, [self._key[0]])):
            raise missing

    def _header(self, file: str, metadata_size: int) -> Header:
        info = VaultKeyInfo(file, self.data_key()[0], self.vault.record.id)
        return Header(self.vault.record.suite, metadata_size, info)

    def _record(self, node: Node, home: Home, size: int, parts: tuple[str, ...]) -> Record:
        kind: RecordType = "dir"
        if isinstance(node, FileNode):
            kind = "file" if node.kind == "file" else "symlink"
        meta = node.meta
        return Record(
            type=kind,
            path=home.path,
            sealed_at_ns=time.time_ns(),
            parent=home.parent,
            folder=home.folder,
            size=size,
            mode=meta.mode,
            mtime_ns=meta.mtime_ns,
            owner=meta.owner,
            xattrs=tuple(sorted(meta.xattrs.items())) if kind != "symlink" else (),
            part_size=PART_SIZE if parts else 0,
            parts=parts,
        )

    def _create(self, staging: Staging, file: str) -> int:
        name = durable.temporary_name(file)
        with self.tree_lock:
            place, tree = staging_path(staging), self.vault.tree
            folder = (
                make_own_folders(tree, place) if self.vault.hidden else tree.make_folders(place)
            )
            fd = calls.create(folder, name)
            self.own.add(name)
        return fd

    def _discard(self, staging: Staging, file: str) -> None:
        with self.tree_lock, contextlib.suppress(OSError):
            name = durable.temporary_name(file)
            self.own.discard(name)
            durable.discard(self.vault.tree.folder(staging_path(staging)), name)

    def _keep_access(self, fd: int, meta: Meta) -> None:
        """A sealed file has the mode and the owner of what it was made from, as far as may be."""
        with contextlib.suppress(OSError):
            if attributes.IS_PRIVILEGED and meta.owner != (0, 0):
                os.fchown(fd, *meta.owner)
            os.fchmod(fd, meta.mode & _MODES)


def _part_record(first: str, index: int, size: int) -> bytes:
    return Record(
        type="part", path="", sealed_at_ns=time.time_ns(), size=size, part_of=(first, index)
    ).encode()
