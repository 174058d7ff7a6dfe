"""What the values of a job file may be, as they are read and as the JSON Schema has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault import config
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
REMOTE_SCHEMES = ("sftp", "s3")

_DURATION = re.compile(r"(?:(\d{1,3})d)?(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,5})s)?", re.ASCII)
_DURATION_SCHEMA = r"^(?=.)(\d{1,3}d)?(\d{1,3}h)?(\d{1,4}m)?(\d{1,5}s)?$"
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_REMOTE = re.compile(r"(sftp|s3)://[^\s/?#]+(/[^?#\0]*)?")
_WEB = re.compile(r"https?://[^\s/]+(/\S*)?")


class Kind(NamedTuple):
    """What a value may be.

    Attributes:
        read: makes the value of what TOML has, or raises ValueError with the reason.
        schema: the same for editors (JSON Schema 2020-12).
    """

    read: Callable[[object], Any]
    schema: dict[str, Any]


def duration(value: object) -> float:
    """Seconds of a text such as ``1h30m``."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if found is None:
        raise ValueError(_("must be a time such as 90s, 15m, 5h or 1d12h"))
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def duration_text(seconds: float) -> str:
    """The text that `duration` reads."""
    left = int(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def clock(value: object) -> str:
    """A time of the day, ``HH:MM``."""
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise ValueError(_("must be a time of the day such as 02:30"))
    return value


def days(value: object) -> tuple[str, ...]:
    """Days of the week, in their order."""
    named = config.texts(value)
    if not named or set(named) - set(DAYS):
        raise ValueError(_("must be a list of {choices}").format(choices=", ".join(DAYS)))
    return tuple(day for day in DAYS if day in named)


def places(value: object) -> tuple[str, ...]:
    """Absolute paths, at least one, each once."""
    paths = tuple(config.absolute(item) for item in config.texts(value))
    if not paths:
        raise ValueError(_("must name at least one folder"))
    if len(set(paths)) < len(paths):
        raise ValueError(_("names the same folder twice"))
    return paths


def destination(value: object) -> str:
    """An absolute path, or an address of a server."""
    if isinstance(value, str) and _REMOTE.fullmatch(value):
        return value
    if isinstance(value, str) and "://" in value:
        raise ValueError(
            _("must begin with one of {choices}").format(
                choices=", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)
            )
        )
    return config.absolute(value)


def arguments(value: object) -> tuple[str, ...]:
    """A program and its arguments."""
    words = config.texts(value)
    if not words:
        raise ValueError(_("must be a program and its arguments"))
    return words


def credential(value: object) -> str:
    """The name of a credential of systemd."""
    if not isinstance(value, str) or not _CREDENTIAL.fullmatch(value):
        raise ValueError(_("must be the name of a credential"))
    return value


def web_address(value: object) -> str:
    """An address that is asked over HTTP."""
    is_web = isinstance(value, str) and _WEB.fullmatch(value)
    if not is_web or "@" in str(value).split("/")[2]:
        raise ValueError(_("must be an address that begins with https:// or http://"))
    return str(value)


def text(value: object) -> str:
    """A text that is not empty."""
    return config.texts([value])[0]


def words(*options: str) -> Kind:
    """One of some words."""
    return Kind(config.choice(options), {"enum": list(options)})


def number(low: int, high: int) -> Kind:
    """A whole number."""
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(config.whole(low, high), schema)


def listed(read: Callable[[object], Any], *, at_least: int = 0) -> Kind:
    """A list of texts."""
    item = {"type": "string", "minLength": 1}
    return Kind(read, {"type": "array", "items": item, "minItems": at_least})


TRUTH = Kind(config.truth, {"type": "boolean"})
DURATION = Kind(duration, {"type": "string", "pattern": _DURATION_SCHEMA})
CLOCK = Kind(clock, {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$"})
WEEKDAYS = Kind(days, {"type": "array", "items": {"enum": list(DAYS)}, "minItems": 1})
FOLDERS = listed(places, at_least=1)
TEXTS = listed(config.texts)
COMMAND = listed(arguments, at_least=1)
PATH = Kind(config.absolute, {"type": "string", "pattern": "^/"})
PLACE = Kind(destination, {"type": "string", "pattern": "^(/|(sftp|s3)://)"})
TEXT = Kind(text, {"type": "string", "minLength": 1})
CREDENTIAL = Kind(credential, {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"})
ADDRESS = Kind(web_address, {"type": "string", "pattern": "^https?://"})
FINGERPRINT = Kind(
    config.fingerprint_text, {"type": "string", "pattern": "^[a-z2-7]{4}(-[a-z2-7]{4}){7}$"}
)


def toml_text(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_quoted, value))}]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    # TOML 1.0: control characters only escaped
    safe = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in plain)  # noqa: PLR2004 - as said
    return f'"{safe}"'
