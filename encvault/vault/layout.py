"""Where sealed files lie and what they are called (docs/format.md, sections 6.1 and 6.2)."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from encvault.crypto import stream
from encvault.crypto.suite import Suite
from encvault.encoding import encode_base32, is_id
from encvault.envelope import (
    RECORD_STEP,
    Header,
    VaultKeyInfo,
    check_path,
    is_vault_folder,
)
from encvault.errors import FormatError, NotSealed, SpecialFile, SwappedFile
from encvault.fs import calls
from encvault.fs.names import COMMON_SIZE
from encvault.fs.tree import join, split
from encvault.i18n import _
from encvault.vault.manifest import OBJECTS_FOLDER, new_id
from encvault.vault.sealed import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.envelope import Layout, Record
    from encvault.fs.entries import Entry
    from encvault.fs.tree import Tree

SUFFIX = ".sealed"
STREAM_NAME = "stdin"  # what a stream is called that has no name
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_TOGETHER = 256  # objects: few enough for FAT, which searches a folder from its beginning
_SURELY_SHORT = 62  # characters, none of which has more than four bytes
_SHORT_PREFIX_SIZE = 200  # bytes of a long name that stay readable
_SHORT_DIGEST_LENGTH = 20
_HEADER_SIZE = len(Header(Suite.AES_256_GCM, RECORD_STEP, VaultKeyInfo(*3 * [26 * "a"])).encode())


def sealed_name(name: str) -> str:
    """The visible layout's name for a sealed `name`; never longer than 255 bytes."""
    if len(name) <= _SURELY_SHORT or not is_shortened(name):
        return name + SUFFIX
    encoded = os.fsencode(name)
    prefix = encoded[:_SHORT_PREFIX_SIZE].decode(errors="ignore")
    digest = encode_base32(hashlib.sha256(encoded).digest())[:_SHORT_DIGEST_LENGTH]
    return f"{prefix}~{digest}{SUFFIX}"


def is_shortened(name: str) -> bool:
    """Whether the visible layout's name for a sealed `name` does not have all of it."""
    if len(name) <= _SURELY_SHORT:
        return False
    return len(os.fsencode(name)) + len(SUFFIX) > COMMON_SIZE


def sealed_path(path: str) -> str:
    """The visible layout's path of the sealed file of a plain path."""
    folder, name = split(path)
    return join(folder, sealed_name(name))


def plain_name(name: str) -> str:
    """The name that a sealed file's own name suggests, without a key."""
    return name.removesuffix(SUFFIX)


def archive_name(name: str) -> str:
    """What the tar inside a sealed archive of this name is called."""
    return name.removesuffix(".tar") + ".tar"


def is_size_of(sealed_size: int, size: int) -> bool:
    """Whether a sealed file in a vault may have so many bytes, by those of its content.

    Between the two are a header, which always has the same size there, and a padded record.
    """
    try:
        record_size = stream.plaintext_size(sealed_size - _HEADER_SIZE) - size
    except ValueError:
        return False
    return record_size > 0 and record_size % RECORD_STEP == 0


def opened_name(name: str, sealed_as: str) -> str:
    """The name to open a sealed file under.

    Args:
        name: what the sealed file is called now.
        sealed_as: the name in its record.
    """
    if sealed_name(sealed_as) == name or not name.endswith(SUFFIX):
        return sealed_as
    return plain_name(name)


def opened_place(
    tree: Tree, path: str, header: Header, record: Record, layout: Layout
) -> tuple[str, bool]:
    """The name to open a sealed file under, and whether it was moved since it was sealed.

    Args:
        tree: the vault's, or the folder of a file on its own.
        path: of the sealed file in it.
        header: of the sealed file.
        record: of the sealed file.
        layout: of the vault, or ``alone``.

    Raises:
        SwappedFile: it stands where another file belongs (docs/format.md section 6).
        UnsafePath: its own name, without the ending, is none.
    """
    name = split(path)[1]
    if layout == "hidden":
        if header.key_info.file != name:
            raise SwappedFile(path=tree.show(path), sealed_as=header.key_info.file)
        return record.name, False
    opened = opened_name(name, record.name)
    if record.type == "archive":
        opened = archive_name(opened)
    if opened != record.name:  # which was checked when the record was decoded
        check_path(opened, tree.show(path))
    home = sealed_path(record.path)
    if layout == "alone" or path == home:
        return opened, False
    try:
        there = tree.exists(home)
    except OSError:
        there = False
    if there:
        other = peek(tree, *split(home))
        if (
            other is None
            or not isinstance(other.key_info, VaultKeyInfo)
            or other.key_info.file != header.key_info.file
        ):
            raise SwappedFile(path=tree.show(path), sealed_as=record.path)
    return opened, True


def is_vault_entry(entry: Entry) -> bool:
    """Whether what is in a folder makes it a vault."""
    return entry.kind == "dir" and is_vault_folder(entry.name)


def vault_name_taken(path: str) -> SpecialFile:
    """Why a file cannot be sealed that is called as a vault's own folder is."""
    return SpecialFile(path=path, kind=_("file with the name of a vault's own folder"))


def object_folder(file_id: str) -> str:
    """The folder, within the vault, of a hidden layout's object."""
    return f"{OBJECTS_FOLDER}/{file_id[:2]}"


def nearby_ids() -> Iterator[str]:
    """Fresh ids for objects that are sealed one after the other, many in one folder of objects.

    With each in a folder of its own, most of the time would go into opening and syncing folders,
    and on exFAT each of those takes a cluster of up to 128 KiB.
    """
    while True:
        beginning = new_id()[:2]
        for _object in range(_TOGETHER):
            yield beginning + new_id()[2:]


def object_path(file_id: str) -> str:
    """The path, within the vault, of a hidden layout's object."""
    return join(object_folder(file_id), file_id)


def object_exists(tree: Tree, file_id: str) -> bool:
    """Whether the vault has this object."""
    return object_size(tree, file_id) >= 0


def object_size(tree: Tree, file_id: str) -> int:
    """Bytes of an object; -1 if the vault has it not.

    Asked for every file of a mirror at every run: one call, where opening each of a thousand
    folders would be four. Nothing is opened, so a link in place of a folder gains nobody anything.
    """
    try:
        path = f"{file_id[:2]}/{file_id}"
        return os.stat(path, dir_fd=tree.folder(OBJECTS_FOLDER), follow_symlinks=False).st_size
    except OSError:
        return -1


def existing_objects(tree: Tree, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the objects that the vault has."""
    return tuple(file_id for file_id in ids if object_exists(tree, file_id))


def is_object(name: str) -> bool:
    """Whether a name in the objects folder is an object's."""
    return is_id(name)


def header_at(tree: Tree, folder: str, name: str) -> Header:
    """The header of a sealed file.

    Raises:
        NotSealed: the file is none.
        FormatError: it was one, and its header is damaged or of a later version.
        OSError: nothing is known, since it cannot be read.
    """
    path = tree.show(join(folder, name))
    try:
        fd = calls.open_read(tree.folder(folder), name)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotSealed(path=path) from None
        raise
    try:
        return read_header(fd, path)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotSealed(path=path) from None
        raise
    finally:
        os.close(fd)


def peek(tree: Tree, folder: str, name: str) -> Header | None:
    """The header of a sealed file, or None if the file is none that can be understood.

    Raises:
        OSError: nothing is known, since it cannot be read.
    """
    try:
        return header_at(tree, folder, name)
    except FormatError:
        return None


def belongs_to(header: Header | None, vault: str) -> bool:
    """Whether a header is of a file in this vault."""
    return (
        header is not None
        and isinstance(header.key_info, VaultKeyInfo)
        and header.key_info.vault == vault
    )
