"""The root of the tree: fields, message, hint and exit code of one error."""

from __future__ import annotations

import inspect
import re
import shlex
from typing import Any, ClassVar, dataclass_transform

from encvault.i18n import N_, _

# fields that hints have as words of a command line
_WORDS = frozenset({"drive", "object", "path", "place", "vault"})
# what a shell makes something else of; letters of every script are not among it, as shlex has them
_SPECIAL = re.compile(r"[\s!\"#$&'()*;<>?\[\\\]^`{|}~]")


_NAMED = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(path: str) -> str:
    """A path as one word of a command line that a person may copy.

    POSIX shells take it; what a terminal does not show as it is, only those that have ``$'…'``
    (POSIX.1-2024, and bash and zsh before).
    """
    if path.startswith("-"):  # or it would be an option
        path = f"./{path}"
    if not path.isprintable():
        return f"$'{''.join(map(_escaped, path))}'"
    return shlex.quote(path) if _SPECIAL.search(path) or not path else path


def _escaped(char: str) -> str:
    if char in _NAMED or char.isprintable():
        return _NAMED.get(char, char)
    errors = "surrogateescape" if "\udc80" <= char <= "\udcff" else "replace"
    return "".join(f"\\{byte:03o}" for byte in char.encode(errors=errors))


@dataclass_transform(kw_only_default=True)
class EncvaultError(Exception):
    """Root of everything that encvault raises on purpose."""

    exit_code: ClassVar[int] = 1
    message: ClassVar[str] = N_("the operation failed")
    advice: ClassVar[str] = ""

    def __init__(self, **fields: object) -> None:
        expected = self.field_names()
        if fields.keys() != expected:
            raise AssertionError(f"errors: {type(self).__name__} takes {sorted(expected)}")
        super().__init__(*fields.values())
        self.__dict__.update(fields)

    @classmethod
    def field_names(cls) -> frozenset[str]:
        """Names of the fields that the message is built from."""
        own = {name for base in cls.__mro__[:-3] for name in inspect.get_annotations(base)}
        return frozenset(own - {"exit_code", "message", "advice"})

    def fields(self) -> dict[str, Any]:
        """The fields by name, for ``--json``."""
        return {name: self.__dict__[name] for name in sorted(self.field_names())}

    @property
    def hint(self) -> str | None:
        """What to do about it, or None. Paths are quoted where a shell needs it."""
        if not self.advice:
            return None
        fields = self.fields()
        words = {name: quoted(value) for name, value in fields.items() if name in _WORDS}
        return _(self.advice).format(**fields | words)

    def __str__(self) -> str:
        return _(self.message).format(**self.fields())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.fields())


def _rebuild(cls: type[EncvaultError], fields: dict[str, Any]) -> EncvaultError:
    return cls(**fields)
