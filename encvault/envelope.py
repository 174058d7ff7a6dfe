"""Sealed-file header and metadata record: bytes in, values out, no I/O.

docs/format.md sections 2 and 3 are the text of this module. Decoding is strict: one value has
one encoding and nothing is ignored, as the form of the bytes shows, or encoding the value again.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any, Literal, NamedTuple, cast

from encvault.crypto.suite import Suite
from encvault.encoding import (
    ID,
    decode_base64,
    decode_json,
    encode_base64,
    encode_json,
    is_id,
    parse_json,
)
from encvault.errors import (
    MalformedHeader,
    MalformedRecord,
    NotSealed,
    UnknownFlags,
    UnknownSuite,
    UnsafePath,
    UnsupportedVersion,
)
from encvault.i18n import N_, _

MAGIC = b"encvault"
VERSION = 1
FIXED_SIZE = 20  # bytes before key-info
MAX_KEY_INFO_SIZE = 262_144
RECORD_STEP = 256  # records are padded to a multiple, which hides the length of names
MAX_RECORD_SIZE = 1_048_576
MAX_NAME_SIZE = 1023  # bytes; 255 UTF-16 units, as on NTFS, are up to 765, and ZFS has so many
MAX_LINK_SIZE = 4095  # bytes of its target; Linux has no longer paths, nor have others
MAX_XATTRS_SIZE = 65_536
MAX_SLOTS = 64
VAULT_FOLDER = ".encvault"
_TIMES = 1 << 63  # ns before and after 1970
PART_SIZE = 1 << 30  # bytes of content per object in the hidden layout

_FIXED = struct.Struct(">8sBBHII")
_SUITES = {suite.value: suite for suite in Suite}
_VAULT_KEY_INFO = re.compile(
    rb'\{"file":"(ID)","key":"(ID)","vault":"(ID)"\}'.replace(b"ID", ID.pattern.encode())
)

RecordType = Literal["file", "dir", "symlink", "part", "archive"]
Layout = Literal["alone", "visible", "hidden"]


# -- header ---------------------------------------------------------------------------------


class VaultKeyInfo(NamedTuple):
    """key-info of a file in a vault: which data key opens it."""

    file: str
    key: str
    vault: str


@dataclass(frozen=True, slots=True)
class InlineKeyInfo:
    """key-info of a file on its own: the keyslots that wrap its key (`encvault.keyslots`)."""

    file: str
    slots: tuple[dict[str, Any], ...] = field(hash=False)


KeyInfo = VaultKeyInfo | InlineKeyInfo


class Header(NamedTuple):
    """What stands before the body.

    Attributes:
        suite: cipher suite of the body.
        metadata_size: bytes of the metadata record at the start of the body's plaintext.
        key_info: where the key is.
    """

    suite: Suite
    metadata_size: int
    key_info: KeyInfo

    def encode(self) -> bytes:
        """The header's bytes, which are also the body's context."""
        info = self.key_info
        if isinstance(info, VaultKeyInfo):  # ids need no escapes; a mount writes thousands of them
            text = f'{{"file":"{info.file}","key":"{info.key}","vault":"{info.vault}"}}'.encode()
        else:
            text = encode_json({"file": info.file, "slots": list(info.slots)})
        return (
            _FIXED.pack(MAGIC, VERSION, self.suite.value, 0, self.metadata_size, len(text)) + text
        )


def header_size(start: bytes, path: str) -> int:
    """Bytes of the header, from the file's first 20.

    Raises:
        NotSealed, UnsupportedVersion, UnknownSuite, UnknownFlags, MalformedHeader: with `path`.
    """
    return FIXED_SIZE + _decode_fixed(start, path)[2]


def decode_header(data: bytes, path: str) -> Header:
    """Decode exactly one header.

    Args:
        data: the header's bytes, neither more nor fewer.
        path: for messages.

    Raises:
        NotSealed, UnsupportedVersion, UnknownSuite, UnknownFlags, MalformedHeader: with `path`.
    """
    suite, metadata_size, key_info_size = _decode_fixed(data, path)
    if len(data) != FIXED_SIZE + key_info_size:
        raise MalformedHeader(path=path, reason=_("cut off"))
    found = _VAULT_KEY_INFO.fullmatch(data, FIXED_SIZE)
    if found is not None:  # canonical by its form; a mount looks at thousands of them
        file, key, vault = map(bytes.decode, found.groups())
        return Header(suite, metadata_size, VaultKeyInfo(file, key, vault))
    try:
        key_info = _decode_key_info(decode_json(data[FIXED_SIZE:]))
    except ValueError as error:
        raise MalformedHeader(
            path=path, reason=_("key-info: {detail}").format(detail=_(str(error)))
        ) from None
    return Header(suite, metadata_size, key_info)


def _decode_fixed(start: bytes, path: str) -> tuple[Suite, int, int]:
    if len(start) < FIXED_SIZE or start[:8] != MAGIC:
        raise NotSealed(path=path)
    _magic, version, suite, flags, metadata_size, key_info_size = _FIXED.unpack_from(start)
    if version != VERSION:
        raise UnsupportedVersion(path=path, version=version)
    if suite not in _SUITES:
        raise UnknownSuite(path=path, suite=suite)
    if flags:
        raise UnknownFlags(path=path, flags=flags)
    if metadata_size % RECORD_STEP or not RECORD_STEP <= metadata_size <= MAX_RECORD_SIZE:
        raise MalformedHeader(path=path, reason=_("impossible metadata size"))
    if not 2 <= key_info_size <= MAX_KEY_INFO_SIZE:  # noqa: PLR2004 - "{}" has two bytes
        raise MalformedHeader(path=path, reason=_("impossible key-info size"))
    return _SUITES[suite], metadata_size, key_info_size


def _decode_key_info(value: Any) -> InlineKeyInfo:
    if not isinstance(value, dict):
        raise ValueError(N_("not an object"))  # noqa: TRY004 - one exception for bad input
    if value.keys() == {"file", "key", "vault"}:
        raise ValueError(N_("not an id"))  # with three ids it is what _VAULT_KEY_INFO matches
    if value.keys() == {"file", "slots"}:
        slots = value["slots"]
        if not is_id(value["file"]) or not isinstance(slots, list):
            raise ValueError(N_("not an id with a list of slots"))
        if not 1 <= len(slots) <= MAX_SLOTS or not all(isinstance(slot, dict) for slot in slots):
            raise ValueError(N_("1 to 64 slots"))
        return InlineKeyInfo(value["file"], tuple(slots))
    raise ValueError(N_("wrong members"))


# -- metadata record ------------------------------------------------------------------------


class Record(NamedTuple):
    """The authenticated metadata of a sealed file.

    Attributes:
        type: what was sealed.
        path: as Python spells file names (undecodable bytes as surrogates); empty for a part.
        sealed_at_ns: when it was sealed, ns since 1970.
        parent: hidden layout: folder id of the folder it is in, "" at the top; None elsewhere.
        folder: for a folder, its own folder id, which outlives its object.
        size: bytes of content, or None if it was not known before (a stream, an archive).
        mode: permission bits, or None.
        mtime_ns: modification time, ns since 1970, or None.
        owner: uid and gid, or None.
        sparse: whether the source had holes.
        xattrs: extended attributes.
        part_size: content bytes of each part but the last; 0 if not in parts.
        parts: file ids of the second and further parts.
        part_of: for a part, the first object's file id and the position from 1.
    """

    type: RecordType
    path: str
    sealed_at_ns: int
    parent: str | None = None
    folder: str | None = None
    size: int | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    owner: tuple[int, int] | None = None
    sparse: bool = False
    xattrs: tuple[tuple[str, bytes], ...] = ()
    part_size: int = 0
    parts: tuple[str, ...] = ()
    part_of: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]

    def encode(self) -> bytes:
        """The record's bytes, padded to a multiple of 256.

        Raises:
            ValueError: it is larger than a record may be.
        """
        text = self._usual_text() or encode_json(self._members())
        if len(text) > MAX_RECORD_SIZE:
            raise ValueError(N_("the metadata record is too large"))
        return text + bytes(-len(text) % RECORD_STEP)

    def _usual_text(self) -> bytes | None:
        """What `encode_json` makes of the members that a file or a link nearly always has.

        Written out, it takes a third of the time, and a tree has tens of thousands of them.
        """
        if (
            self.type not in ("file", "symlink")
            or self.owner is None
            or None in (self.size, self.mode, self.mtime_ns)
            or self.folder is not None
            or self.sparse
            or self.xattrs
            or self.parts
            or self.part_of is not None
        ):
            return None
        parent = "" if self.parent is None else f'"parent":"{self.parent}",'
        text = (
            f'{{"gid":{self.owner[1]:d},"mode":{self.mode:d},"mtime_ns":{self.mtime_ns:d},{parent}'
            f'"path":{encode_basestring(self.path)},"sealed_at_ns":{self.sealed_at_ns:d},'
            f'"size":{self.size:d},"type":"{self.type}","uid":{self.owner[0]:d}}}'
        )
        try:
            return text.encode()
        except UnicodeEncodeError:  # the path's bytes go another way
            return None

    def _members(self) -> dict[str, Any]:
        value: dict[str, Any] = {"type": self.type, "sealed_at_ns": self.sealed_at_ns}
        if self.part_of is not None:
            value["of"], value["index"] = self.part_of
        else:
            value |= _encode_path(self.path)
        for name in ("parent", "folder", "size", "mode", "mtime_ns"):
            if (member := getattr(self, name)) is not None:
                value[name] = member
        if self.owner is not None:
            value["uid"], value["gid"] = self.owner
        if self.sparse:
            value["sparse"] = True
        if self.xattrs:
            value["xattrs"] = {name: encode_base64(data) for name, data in self.xattrs}
        if self.parts:
            value["part_size"], value["parts"] = self.part_size, list(self.parts)
        return value


def record_time(time_ns: int) -> int:
    """A time as a record can have it: the years 1677 to 2262, and for others the nearest."""
    return max(-_TIMES, min(time_ns, _TIMES - 1))


def _encode_path(path: str) -> dict[str, str]:
    try:
        path.encode()
    except UnicodeEncodeError:
        return {"path_bytes": encode_base64(path.encode(errors="surrogateescape"))}
    return {"path": path}


def decode_record(data: bytes, path: str) -> Record:
    """Decode an authenticated record.

    Args:
        data: exactly ``metadata_size`` bytes.
        path: for messages.

    Raises:
        MalformedRecord: a rule of docs/format.md section 3 is broken.
        UnsafePath: the path would leave the target folder.
    """
    text = data.rstrip(b"\0")
    record = _decode_canonical(text, data)
    if record is None:
        try:
            value = decode_json(text)
            if not isinstance(value, dict):
                raise ValueError(N_("not an object"))  # noqa: TRY004, TRY301 - one for bad input
            _decode_record(value)
            raise ValueError(N_("not in its one encoding"))  # noqa: TRY301 - as above
        except (ValueError, KeyError) as error:
            raise MalformedRecord(path=path, reason=_(str(error))) from None
    if record.type == "symlink" and not 0 < (record.size or 0) <= MAX_LINK_SIZE:
        raise MalformedRecord(path=path, reason=_("a link of a size that no link has"))
    if record.type != "part":
        check_path(record.path, path)
    return record


def _decode_canonical(text: bytes, data: bytes) -> Record | None:
    """The record, if the text is one, and the data its one encoding: the text with its padding."""
    try:
        if len(data) - len(text) == -len(text) % RECORD_STEP and (usual := _decode_usual(text)):
            return usual
        record = _decode_record(parse_json(text))
        return record if record.encode() == data else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _decode_usual(text: bytes) -> Record | None:
    """The inverse of `Record._usual_text`; None for any text that this would not give."""
    found = _USUAL.fullmatch(text)
    if found is None:
        return None
    gid, mode, mtime_ns, parent, path, sealed_at_ns, size, kind, uid = found.groups()
    numbers = tuple(map(int, (sealed_at_ns, size, mode, mtime_ns, uid, gid)))
    if max(numbers) >= 1 << 63 or numbers[3] < -(1 << 63) or numbers[2] > _MAX_MODE:
        return None
    return Record(
        type="file" if kind == b"file" else "symlink",
        path=path.decode(),
        sealed_at_ns=numbers[0],
        parent=None if parent is None else parent.decode(),
        size=numbers[1],
        mode=numbers[2],
        mtime_ns=numbers[3],
        owner=(numbers[4], numbers[5]),
    )


def check_path(name: str, path: str) -> None:
    """Refuse a path that is not relative and clean.

    Args:
        name: the path from a record or an archive, ``/`` between its names.
        path: the file it came from, for the message.

    Raises:
        UnsafePath: empty, absolute, with ``..``, ``.``, an empty or too long name, a zero byte, or
            the name of a vault's own folder, which would make the target the sender's vault.
    """
    for part in name.split("/"):
        too_long = len(part.encode(errors="surrogateescape")) > MAX_NAME_SIZE
        if part in ("", ".", "..") or "\0" in part or too_long or is_vault_folder(part):
            raise UnsafePath(path=path, name=name)


def is_vault_folder(name: str) -> bool:
    """Whether a folder with this name in it is a vault, as it is on drives that ignore case."""
    return name.lower() == VAULT_FOLDER


def check_layout(record: Record, layout: Layout, path: str) -> None:
    """Refuse a record that does not belong where it was found (docs/format.md section 3).

    Args:
        record: as decoded.
        layout: of the vault, or ``alone`` for a file with its own keyslots.
        path: the sealed file, for the message.

    Raises:
        MalformedRecord: a type, a parent or parts that this place does not have.
        UnsafePath: a path where a single name belongs.
    """
    hidden = layout == "hidden"
    fits = (
        record.type in _TYPES[layout]
        and (record.parent is not None) == (hidden and record.type != "part")
        and (hidden or not record.parts)
        and not (record.type == "dir" and record.size)
    )
    if not fits:
        raise MalformedRecord(path=path, reason=_("of a type that does not belong here"))
    if layout != "visible" and "/" in record.path:
        raise UnsafePath(path=path, name=record.path)


_TYPES: dict[Layout, set[RecordType]] = {
    "alone": {"file", "symlink", "archive"},
    "visible": {"file", "symlink"},
    "hidden": {"file", "symlink", "dir", "part"},
}
_MAX_MODE = 0o7777
_UINT = rb"(0|[1-9]\d{0,18})"
_USUAL = re.compile(
    rb'\{"gid":%b,"mode":%b,"mtime_ns":(0|-?[1-9]\d{0,18}),(?:"parent":"(%b|)",)?'
    rb'"path":"([^"\\\x00-\x1f]*)","sealed_at_ns":%b,"size":%b,"type":"(file|symlink)","uid":%b\}'
    % (_UINT, _UINT, ID.pattern.encode(), _UINT, _UINT, _UINT)
)
_MEMBERS = {
    "file": {"size", "mode", "mtime_ns", "sparse", "xattrs", "part_size", "parts"},
    "dir": {"size", "mode", "mtime_ns", "xattrs", "folder"},
    "symlink": {"size", "mode", "mtime_ns"},
    "archive": {"mtime_ns"},
}


def _decode_record(value: dict[str, Any]) -> Record:
    kind = value["type"]
    if kind == "part":
        _check_members(value, {"type", "sealed_at_ns", "size", "of", "index"})
        if not is_id(value["of"]):
            raise ValueError(N_("of"))
        return Record(
            type="part",
            path="",
            sealed_at_ns=_integer(value, "sealed_at_ns"),
            size=_integer(value, "size"),
            part_of=(value["of"], _integer(value, "index", low=1)),
        )
    if not isinstance(kind, str) or kind not in _MEMBERS:
        raise ValueError(N_("type"))
    allowed = _MEMBERS[kind] | {"type", "sealed_at_ns", "path", "path_bytes", "parent"}
    if "uid" in value or "gid" in value:
        allowed |= {"uid", "gid"}
    _check_members(value, value.keys() & allowed | {"type", "sealed_at_ns"})
    if kind in ("dir", "symlink") and "size" not in value:
        raise ValueError(N_("size"))
    if kind == "dir" and not is_id(value.get("folder")):
        raise ValueError(N_("folder"))
    parent = value.get("parent")
    if parent is not None and parent != "" and not is_id(parent):
        raise ValueError(N_("parent"))
    part_size, parts = _decode_parts(value)
    return Record(
        type=cast("RecordType", kind),
        path=_decode_path(value),
        sealed_at_ns=_integer(value, "sealed_at_ns"),
        parent=parent,
        folder=value.get("folder"),
        size=_integer(value, "size") if "size" in value else None,
        mode=_integer(value, "mode", high=_MAX_MODE) if "mode" in value else None,
        mtime_ns=_integer(value, "mtime_ns", low=-(1 << 63)) if "mtime_ns" in value else None,
        owner=(_integer(value, "uid"), _integer(value, "gid")) if "uid" in value else None,
        sparse=value.get("sparse") is True,
        xattrs=_decode_xattrs(value),
        part_size=part_size,
        parts=parts,
    )


def _check_members(value: dict[str, Any], expected: set[str]) -> None:
    if value.keys() != expected:
        raise ValueError(N_("wrong members"))


def _integer(value: dict[str, Any], name: str, *, low: int = 0, high: int = (1 << 63) - 1) -> int:
    number = value[name]
    if type(number) is not int or not low <= number <= high:
        raise ValueError(name)
    return number


def _decode_path(value: dict[str, Any]) -> str:
    if "path_bytes" in value:
        return decode_base64(value["path_bytes"]).decode(errors="surrogateescape")
    path = value["path"]
    if not isinstance(path, str):
        raise ValueError(N_("path"))  # noqa: TRY004 - one exception for bad input
    return path


def _decode_xattrs(value: dict[str, Any]) -> tuple[tuple[str, bytes], ...]:
    xattrs = value.get("xattrs", {})
    if not isinstance(xattrs, dict):
        raise ValueError(N_("xattrs"))  # noqa: TRY004 - one exception for bad input
    decoded = tuple((name, decode_base64(data)) for name, data in xattrs.items())
    if sum(len(data) for _name, data in decoded) > MAX_XATTRS_SIZE:
        raise ValueError(N_("xattrs too large"))
    return decoded


def _decode_parts(value: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    if "parts" not in value:
        return 0, ()
    parts = value["parts"]
    if not isinstance(parts, list) or not parts or not all(map(is_id, parts)):
        raise ValueError(N_("parts"))
    part_size = _integer(value, "part_size", low=1)
    if "size" not in value or len(parts) != -(-_integer(value, "size") // part_size) - 1:
        raise ValueError(N_("parts that do not make up its size"))
    return part_size, tuple(parts)
