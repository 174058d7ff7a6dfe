"""The pax format (IEEE Std 1003.1-2017, "pax"): members written, and what reading them shares.

Members are written here and not by `tarfile`, which took two thirds of the time that an archive of
small files takes; what comes out is read by it, and by GNU tar, in the tests.
"""

from __future__ import annotations

import functools
import re
import struct
from typing import TYPE_CHECKING

from encvault.i18n import N_

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable

_XATTR = "SCHILY.xattr."  # the key that GNU tar, bsdtar and star use
BLOCK_SIZE = 512  # bytes; headers and contents are padded to it
END = bytes(2 * BLOCK_SIZE)
RECORD_SIZE = 20 * BLOCK_SIZE  # an archive is padded to it
FILE, LINK, FOLDER = b"0", b"2", b"5"  # values of typeflag
_EXTENDED = b"x"
_NS = 1_000_000_000
_NAME_SIZE = 100  # bytes of a name in a ustar header
_MAX_ID = 8**7 - 1
_MAX_SIZE = 8**11 - 1
# name; mode, uid, gid, size and mtime; chksum, typeflag, linkname, magic and version, the rest
_USTAR = struct.Struct("100s48s8sc100s8s247x")
_MAGIC = b"ustar\x0000"
_CONSTANT_SUM = sum(_MAGIC) + 8 * ord(" ")  # the sum is made with spaces in its own place
_TIME = re.compile(r"(-?)(\d{1,18})(?:\.(\d*))?", re.ASCII)


def encode_time(time_ns: int) -> str:
    """A time as pax spells it: decimal seconds, the sign before all of it."""
    seconds, rest = divmod(abs(time_ns), _NS)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{rest:09d}"


def decode_time(text: str) -> int:
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


def member(
    name: str,
    kind: bytes,
    *,
    mode: int,
    owner: tuple[int, int],
    mtime_ns: int,
    size: int = 0,
    target: str = "",
    xattrs: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """The headers of a member: an extended one, which has the time to its nanoseconds, and ustar's.

    Args:
        name: as Python spells file names; for a folder, without a slash at its end.
        kind: `FILE`, `LINK` or `FOLDER`.
        mode: permission bits.
        owner: uid and gid.
        mtime_ns: ns since 1970.
        size: bytes of content, which follow, with `padding` behind them.
        target: of a link.
        xattrs: extended attributes.

    Returns:
        A multiple of 512 bytes.
    """
    path, link = _bytes(name + "/" if kind == FOLDER else name), _bytes(target)
    text = _record(b"mtime", encode_time(mtime_ns).encode())
    if len(path) > _NAME_SIZE or not path.isascii():
        text += _record(b"path", path)
    if len(link) > _NAME_SIZE or not link.isascii():
        text += _record(b"linkpath", link)
    uid, gid = owner
    if uid > _MAX_ID:
        text += _record(b"uid", b"%d" % uid)
    if gid > _MAX_ID:
        text += _record(b"gid", b"%d" % gid)
    if size > _MAX_SIZE:
        text += _record(b"size", b"%d" % size)
    for key, value in xattrs:
        text += _record(_bytes(xattr_key(key)), value)
    if not _is_utf8(text):
        text = _record(b"hdrcharset", b"BINARY") + text
    own = _header(path, kind, mode, owner, size, mtime_ns // _NS, link)
    return b"".join((_extended_header(len(text)), text, padding(len(text)), own))


def xattr_key(name: str) -> str:
    """The keyword of an extended attribute; one with ``=`` in it is spelt as GNU tar does."""
    return _XATTR + name.replace("%", "%25").replace("=", "%3D")


def xattr_name(key: str) -> str | None:
    """The extended attribute that a keyword is of, or None if it is of none."""
    if not key.startswith(_XATTR):
        return None
    return key.removeprefix(_XATTR).replace("%3D", "=").replace("%25", "%")


def padding(size: int) -> bytes:
    """What fills the last block of so many bytes."""
    return bytes(-size % BLOCK_SIZE)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@functools.lru_cache(1024)  # nearly all of an archive's have one of a few sizes
def _extended_header(size: int) -> bytes:
    return _header(b"././@PaxHeader", _EXTENDED, 0o644, (0, 0), size, 0, b"")


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))  # the digits may have become one more
    return b"%d %b=%b\n" % (length, key, value)


def _header(
    name: bytes, kind: bytes, mode: int, owner: tuple[int, int], size: int, mtime: int, link: bytes
) -> bytes:
    """A ustar header; what does not fit into a field is cut, for the extended header has it."""
    name, link = name[:_NAME_SIZE], link[:_NAME_SIZE]
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        mode,
        min(owner[0], _MAX_ID),
        min(owner[1], _MAX_ID),
        size if size <= _MAX_SIZE else 0,
        max(0, min(mtime, _MAX_SIZE)),
    )
    total = sum(name) + sum(numbers) + kind[0] + sum(link) + _CONSTANT_SUM
    return _USTAR.pack(name, numbers, b"%06o\0 " % total, kind, link, _MAGIC)


def forget_members(tar: tarfile.TarFile) -> None:
    """Let go of what tarfile remembers of every member; streams need none of it."""
    tar.members.clear()  # type: ignore[attr-defined]  # not in the stubs
