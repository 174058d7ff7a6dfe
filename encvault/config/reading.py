"""Take values out of a TOML file, strictly, and know on which line they stand.

A key that is unknown, mistyped or of the wrong kind is an error and never passed over: a demand
that is silently dropped is worse than none. What the keys are, the callers say: `Settings` of the
configuration, and jobs.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

from encvault.errors import ConfigMalformed, InvalidSetting, UnknownSetting
from encvault.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Value = TypeVar("Value")
Keys = tuple["str | int", ...]

_TOML_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
_CLOSE = 0.7  # difflib's ratio; with its 0.6, "audit" would be a mistyped "suite"
_LONGEST_STATEMENT = 100  # lines; of a longer one the place is told without its line

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


class TomlFile:
    """A document, whose values are asked for by their keys.

    Attributes:
        path: of the file, absolute.
        document: what it says.

    Args:
        data: its bytes.
        path: for messages.
        page: where its keys are described.
        kind: the dataclass whose fields are its keys.

    Raises:
        ConfigMalformed: not UTF-8, or not TOML.
        UnknownSetting: a key that is no field.
    """

    def __init__(self, data: bytes, path: str, *, page: str, kind: type) -> None:
        self.path = path
        self._page = page
        self._kind = kind
        import tomllib  # noqa: PLC0415 - most people have no such file, and need no parser

        try:
            self._text = data.decode("utf-8-sig")  # editors of Windows begin with a mark
            self.document: Mapping[str, Any] = tomllib.loads(self._text)
        except UnicodeDecodeError:
            raise ConfigMalformed(place=path, reason=_("not UTF-8"), page=page) from None
        except RecursionError:
            raise ConfigMalformed(place=path, reason=_("too deep"), page=page) from None
        except ValueError as error:  # TOMLDecodeError, and a number with too many digits
            found = _TOML_PLACE.fullmatch(str(error))
            reason, line = found.groups() if found else (str(error), None)
            place = f"{path}:{line}" if line else path
            raise ConfigMalformed(place=place, reason=_(reason), page=page) from None
        self.check_keys(self.document, kind, ())

    def value(self, keys: Keys, check: Callable[[object], Value]) -> Value | None:
        """The value at these keys, or None if there is none.

        Args:
            keys: names of tables, of the key, and the place in an array of tables.
            check: makes the value of what TOML has, or raises ValueError with the reason.

        Raises:
            InvalidSetting: it has no meaning.
        """
        table: Any = self.document
        for depth, key in enumerate(keys[:-1], start=1):
            inner = table[key] if isinstance(key, int) else table.get(key, {})
            table = inner if isinstance(inner, list) else self.table(inner, keys[:depth])
        if keys[-1] not in table:
            return None
        try:
            return check(table[keys[-1]])
        except ValueError as error:
            raise self.invalid(keys, error.args[0]) from None

    def tables(self, key: str) -> int:
        """How many tables an array of this name has.

        Raises:
            InvalidSetting: it is none.
        """
        listed = self.document.get(key, [])
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise self.invalid((key,), _("must be tables, each under [[{key}]]").format(key=key))
        return len(listed)

    def check_keys(self, table: Mapping[str, Any], kind: type, keys: Keys) -> None:
        """Refuse keys of a table that are no fields of `kind`, and of the tables in it.

        Raises:
            UnknownSetting: there is one.
        """
        known: dict[str, object] = {item.name: item.default_factory for item in _fields(kind)}
        for key, value in table.items():
            if key not in known:
                raise self._unknown((*keys, key), known)
            inner: object = known[key]
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                self.check_keys(self.table(value, (*keys, key)), inner, (*keys, key))

    def table(self, value: object, keys: Keys) -> Mapping[str, Any]:
        """A value that has to be a table.

        Raises:
            InvalidSetting: it is none.
        """
        if not isinstance(value, dict):
            raise self.invalid(keys, _("must be a table"))
        return value

    def invalid(self, keys: Keys, reason: str) -> InvalidSetting:
        """The error for a value that has no meaning."""
        place = self._place(keys)
        return InvalidSetting(place=place, key=dotted(keys), reason=reason, page=self._page)

    def _unknown(self, keys: Keys, known: Iterable[str]) -> UnknownSetting:
        name = str(keys[-1])
        names = setting_names(self._kind)
        elsewhere = [one for one in names if one.rpartition(".")[2] == name]
        close = difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)
        if meant := [*elsewhere, *(dotted((*keys[:-1], one)) for one in close)]:
            suggestion = _("did you mean {key}?").format(key=meant[0])
        else:
            suggestion = _("the keys here are: {keys}").format(keys=", ".join(known))
        return UnknownSetting(place=self._place(keys), key=dotted(keys), suggestion=suggestion)

    def _place(self, keys: Keys) -> str:
        """The file, and the line where the statement begins that brings this key."""
        seen = 0  # tables of the array that the key is in
        for line, statement in _statements(self._text):
            found: Any = statement
            if len(keys) > 1 and isinstance(keys[1], int) and statement.get(str(keys[0])) == [{}]:
                seen += 1  # its header
            for key in keys:
                if isinstance(key, int):
                    found = found[0] if found and seen == key + 1 else None
                else:
                    found = found.get(key) if isinstance(found, dict) else None
            if found is not None:
                return f"{self.path}:{line}"
        return self.path


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each statement of a valid document: its first line, and what it says on its own.

    tomllib does not say where a key stands. A statement is the fewest lines that parse under the
    header of their table.
    """
    import tomllib  # noqa: PLC0415 - see `TomlFile`

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


def dotted(keys: Sequence[str | int]) -> str:
    """Keys as TOML writes them; a table of an array by its number, from 1."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key + 1}]"
        else:
            plain = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else f'"{key}"'
            text += f".{plain}" if text else plain
    return text


def setting_names(kind: type) -> list[str]:
    """Every key that a file may have, such as ``password.min_length``."""
    names = []
    for item in _fields(kind):
        inner = item.metadata.get("each", item.default_factory)
        prefix = f'{item.name}."PATH"' if "each" in item.metadata else item.name
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            names += [f"{prefix}.{name}" for name in setting_names(inner)]
        else:
            names.append(item.name)
    return names


def _fields(kind: type) -> list[dataclasses.Field[Any]]:
    """The fields that are keys."""
    return [item for item in dataclasses.fields(kind) if item.metadata.get("is_key", True)]


# -- what a value may be --------------------------------------------------------------------


def choice(options: Sequence[str]) -> Callable[[object], str]:
    """One of some words."""

    def check(value: object) -> str:
        if value not in options or not isinstance(value, str):
            raise ValueError(_("must be one of {choices}").format(choices=", ".join(options)))
        return value

    return check


def truth(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(_("must be true or false"))  # noqa: TRY004 - see TomlFile.value
    return value


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number."""

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:  # TOML's true is no 1
            reason = _("must be a whole number from {low} to {high}")
            raise ValueError(reason.format(low=low, high=high))
        return value

    return check


def absolute(value: object) -> str:
    """An absolute path, normalised."""
    if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
        raise ValueError(_("must be an absolute path"))
    return os.path.normpath(value)


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, none of them empty."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(_("must be a list of texts"))
    if any(not item or "\0" in item for item in value):
        raise ValueError(_("has an empty text in it, or one that cannot be"))
    return tuple(value)
