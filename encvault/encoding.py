"""Canonical JSON, base64, base32 and ids (docs/format.md, section 1): one value, one encoding."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from encvault.i18n import N_

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_BASE32_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
ID = re.compile(r"[a-z2-7]{25}[aeimquy4]")  # 16 bytes in base32; the last holds three bits
_encode_json = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def encode_json(value: Any) -> bytes:
    """Canonical JSON of `value` (docs/format.md, section 1)."""
    return _encode_json(value).encode()


def decode_json(data: bytes) -> Any:
    """The value of canonical JSON.

    Raises:
        ValueError: not JSON, not canonical, or not of the types allowed.
    """
    try:
        value = parse_json(data)
        if encode_json(value) != data:
            raise ValueError(N_("not canonical"))
        _check_json(value)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(N_("not JSON")) from None
    except RecursionError:
        raise ValueError(N_("nested too deeply")) from None
    return value


def parse_json(data: bytes) -> Any:
    """The value of JSON with integers only, canonical or not: who asks encodes it again.

    Raises:
        ValueError: not JSON; a UnicodeDecodeError or JSONDecodeError is one as well.
    """
    return _decoder.decode(data.decode())


def _refuse(_text: str) -> Any:
    raise ValueError(N_("numbers are integers"))


_decoder = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)


def _check_json(value: Any) -> None:
    if value is None:
        raise ValueError(N_("null is not allowed"))
    if isinstance(value, dict):
        for item in value.values():
            _check_json(item)
    elif isinstance(value, list):
        for item in value:
            _check_json(item)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(N_("integer out of range"))


def encode_base64(data: bytes) -> str:
    """RFC 4648 section 4, padded."""
    return base64.b64encode(data).decode()


def decode_base64(text: object) -> bytes:
    """Strict inverse of `encode_base64`; ValueError otherwise."""
    if not isinstance(text, str):
        raise ValueError(N_("base64 is text"))  # noqa: TRY004 - one exception for bad input
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(N_("not base64")) from None
    if encode_base64(data) != text:
        raise ValueError(N_("not canonical base64"))
    return data


def encode_base32(data: bytes) -> str:
    """RFC 4648 section 6 in lower case without padding.

    Every file gets an id, and `base64` takes ten times as long for one.
    """
    count = -(-len(data) * 8 // 5)  # characters, two at a time below
    pairs = (count + 1) // 2
    number = int.from_bytes(data) << (pairs * 10 - len(data) * 8)
    shifts = range(pairs * 10 - 10, -1, -10)
    return "".join([_BASE32_PAIRS[number >> shift & 1023] for shift in shifts])[:count]


def is_id(text: object) -> bool:
    """Whether `text` is an id: 16 bytes in base32, 26 characters."""
    return isinstance(text, str) and ID.fullmatch(text) is not None
