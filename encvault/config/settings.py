"""What one configuration file says: TOML, read into frozen dataclasses.

The keys are the fields of `Settings` and of its tables (docs/config.md). A key that is unknown,
mistyped or of the wrong kind is an error and never passed over: a demand that is silently dropped
is worse than none.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from encvault.errors import ConfigMalformed, InvalidSetting, UnknownSetting
from encvault.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Value = TypeVar("Value")

PATHS = ("full", "name", "hmac")
SUITES = ("aes-256-gcm", "sm4-gcm")
MAX_LENGTH_DEMANDED = 128  # characters
MAX_STRENGTH = 4  # zxcvbn's best score

_FINGERPRINT = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){7}")
_TOML_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
_CLOSE = 0.7  # difflib's ratio; with its 0.6, "audit" would be a mistyped "suite"
_LONGEST_STATEMENT = 100  # lines; of a longer one the place is told without its line


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """``[password]``: what every new password must keep.

    Attributes:
        min_length: characters, 1 to 128.
        min_strength: zxcvbn's score, 0 (any) to 4.
    """

    min_length: int | None = None
    min_strength: int | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``.

    Attributes:
        dir: the access log's folder, absolute; ``{user}`` in it stands for who runs encvault.
        paths: what is recorded of paths, one of `PATHS`.
        required: whether nothing is opened that cannot be recorded.
    """

    dir: str | None = None
    paths: str | None = None
    required: bool | None = None


@dataclass(frozen=True, slots=True)
class UsbSettings:
    """``[usb]``.

    Attributes:
        register: the file of the company's drives, absolute.
    """

    register: str | None = None


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """``[vaults."PATH"]``.

    Attributes:
        fingerprint: the only one that this vault may have.
    """

    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What one file says; the fields are its keys.

    Attributes:
        recipients: for whom everything new is sealed as well: lines, and absolute paths of files;
            None if the file does not say.
        suite: the cipher suite of what is new.
        password, log, usb: tables.
        vaults: a table for each vault, by its absolute path.
    """

    recipients: tuple[str, ...] | None = None
    suite: str | None = None
    password: PasswordSettings = field(default_factory=PasswordSettings)
    log: LogSettings = field(default_factory=LogSettings)
    usb: UsbSettings = field(default_factory=UsbSettings)
    vaults: Mapping[str, VaultSettings] = field(default_factory=dict)


def parse(data: bytes, path: str) -> Settings:
    """The settings of one file.

    Args:
        data: its bytes.
        path: its absolute path, for messages and for relative paths in it.

    Raises:
        ConfigMalformed: not UTF-8, or not TOML.
        UnknownSetting, InvalidSetting: a key or value that has no meaning.
    """
    try:
        text = data.decode("utf-8-sig")  # editors of Windows begin with a mark
        document = tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigMalformed(place=path, reason=_("not UTF-8")) from None
    except RecursionError:
        raise ConfigMalformed(place=path, reason=_("too deep")) from None
    except ValueError as error:  # TOMLDecodeError, and a number with too many digits
        found = _TOML_PLACE.fullmatch(str(error))
        reason, line = found.groups() if found else (str(error), None)
        place = f"{path}:{line}" if line else path
        raise ConfigMalformed(place=place, reason=_(reason)) from None
    reader = _Reader(path, text)
    reader.check_keys(document, Settings, ())
    return Settings(
        recipients=reader.recipients(document),
        suite=reader.value(document, ("suite",), _suite),
        password=PasswordSettings(
            reader.value(document, ("password", "min_length"), _whole(1, MAX_LENGTH_DEMANDED)),
            reader.value(document, ("password", "min_strength"), _whole(0, MAX_STRENGTH)),
        ),
        log=LogSettings(
            reader.value(document, ("log", "dir"), _log_dir),
            reader.value(document, ("log", "paths"), _paths),
            reader.value(document, ("log", "required"), _truth),
        ),
        usb=UsbSettings(reader.value(document, ("usb", "register"), _absolute)),
        vaults=reader.vaults(document),
    )


# reasons of tomllib that people meet, here so that the catalog has them
_TOML_REASONS = (
    N_("Cannot overwrite a value"),
    N_("Expected '=' after a key in a key/value pair"),
    N_("Expected ']' at the end of a table declaration"),
    N_("Expected newline or end of document after a statement"),
    N_("Illegal character '\\n'"),
    N_("Invalid initial character for a key part"),
    N_("Invalid statement"),
    N_("Invalid value"),
    N_("Unclosed array"),
    N_("Unterminated string"),
)


def _suite(value: object) -> str:
    if value not in SUITES or not isinstance(value, str):
        raise ValueError(_("must be one of {choices}").format(choices=", ".join(SUITES)))
    return value


def _paths(value: object) -> str:
    if value not in PATHS or not isinstance(value, str):
        raise ValueError(_("must be one of {choices}").format(choices=", ".join(PATHS)))
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(_("must be true or false"))  # noqa: TRY004 - see _Reader.value
    return value


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:  # TOML's true is no 1
            reason = _("must be a whole number from {low} to {high}")
            raise ValueError(reason.format(low=low, high=high))
        return value

    return check


def _absolute(value: object) -> str:
    if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
        raise ValueError(_("must be an absolute path"))
    return os.path.normpath(value)


def _log_dir(value: object) -> str:
    path = _absolute(value)
    # one that leads back out of a user's folder would be the same for all
    if ".." in str(value).split("/") or set(re.findall(r"\{[^}]*\}?", path)) - {"{user}"}:
        raise ValueError(_("must have no .. in it, and no braces but those of {user}"))
    return path


def _fingerprint(value: object) -> str:
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise ValueError(_("must be a fingerprint, 8 groups of 4 characters a-z and 2-7"))
    return value


class _Reader:
    """Takes values out of a document, and knows where they stand."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._text = text

    def value(
        self, document: Mapping[str, Any], keys: tuple[str, ...], check: Callable[[object], Value]
    ) -> Value | None:
        """The value at these keys, or None; `check` raises ValueError with the reason."""
        table = document
        for depth, key in enumerate(keys[:-1], start=1):
            table = self._table(table.get(key, {}), keys[:depth])
        if keys[-1] not in table:
            return None
        try:
            return check(table[keys[-1]])
        except ValueError as error:
            raise self._invalid(keys, error.args[0]) from None

    def recipients(self, document: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The recipients, paths made absolute; None if the key is not there."""
        if "recipients" not in document:
            return None
        listed = document["recipients"]
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise self._invalid(("recipients",), _("must be a list of texts"))
        if any(not item or "\0" in item for item in listed):
            raise self._invalid(("recipients",), _("has an entry that is no path and no recipient"))
        folder = os.path.dirname(self._path)
        return tuple(
            item if item.startswith("encvault1-") else os.path.normpath(os.path.join(folder, item))
            for item in listed
        )

    def vaults(self, document: Mapping[str, Any]) -> Mapping[str, VaultSettings]:
        """The tables of vaults."""
        found: dict[str, VaultSettings] = {}
        for name, table in self._table(document.get("vaults", {}), ("vaults",)).items():
            keys = ("vaults", name)
            try:
                path = _absolute(name)
            except ValueError as error:
                raise self._invalid(keys, error.args[0]) from None
            if path in found:
                raise self._invalid(keys, _("names the same vault again"))
            self.check_keys(self._table(table, keys), VaultSettings, keys)
            fingerprint = self.value(document, (*keys, "fingerprint"), _fingerprint)
            found[path] = VaultSettings(fingerprint)
        return found

    def check_keys(self, table: Mapping[str, Any], kind: type, keys: tuple[str, ...]) -> None:
        """Refuse keys of a table that are no fields of `kind`, and of the tables in it."""
        known: dict[str, object] = {
            item.name: item.default_factory for item in dataclasses.fields(kind)
        }
        for key, value in table.items():
            if key not in known:
                raise self._unknown((*keys, key), known)
            inner: object = known[key]
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                self.check_keys(self._table(value, (*keys, key)), inner, (*keys, key))

    def _table(self, value: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._invalid(keys, _("must be a table"))
        return value

    def _invalid(self, keys: tuple[str, ...], reason: str) -> InvalidSetting:
        return InvalidSetting(place=self._place(keys), key=_dotted(keys), reason=reason)

    def _unknown(self, keys: tuple[str, ...], known: Iterable[str]) -> UnknownSetting:
        elsewhere = [name for name in setting_names() if name.rpartition(".")[2] == keys[-1]]
        close = difflib.get_close_matches(keys[-1], known, n=1, cutoff=_CLOSE)
        if meant := [*elsewhere, *(_dotted((*keys[:-1], name)) for name in close)]:
            suggestion = _("did you mean {key}?").format(key=meant[0])
        else:
            suggestion = _("the keys here are: {keys}").format(keys=", ".join(known))
        place = self._place(keys)
        return UnknownSetting(place=place, key=_dotted(keys), suggestion=suggestion)

    def _place(self, keys: tuple[str, ...]) -> str:
        """The file, and the line where the statement begins that brings this key."""
        for line, statement in _statements(self._text):
            found: Any = statement
            for key in keys:
                found = found.get(key) if isinstance(found, dict) else None
            if found is not None:
                return f"{self._path}:{line}"
        return self._path


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each statement of a valid document: its first line, and what it says on its own.

    tomllib does not say where a key stands. A statement is the fewest lines that parse under the
    header of their table.
    """
    header, pending, first = "", "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not pending:
            first = number
        pending += line + "\n"
        if number - first > _LONGEST_STATEMENT:
            return
        is_header = pending.lstrip().startswith("[")
        try:
            said = tomllib.loads(pending if is_header else header + pending)
        except tomllib.TOMLDecodeError:
            continue
        yield first, said
        header, pending = pending if is_header else header, ""


def _dotted(keys: Sequence[str]) -> str:
    """Keys as TOML writes them."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else f'"{key}"' for key in keys)


def setting_names(kind: type = Settings) -> list[str]:
    """Every key that a file may have, such as ``password.min_length``."""
    names = []
    for item in dataclasses.fields(kind):
        inner = VaultSettings if item.name == "vaults" else item.default_factory
        prefix = f'{item.name}."PATH"' if item.name == "vaults" else item.name
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            names += [f"{prefix}.{name}" for name in setting_names(inner)]
        else:
            names.append(item.name)
    return names
