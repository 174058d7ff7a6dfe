"""The root of the tree: fields, message, hint and exit code of one error."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, dataclass_transform

from encvault.i18n import N_, _


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
        """What to do about it, or None."""
        return _(self.advice).format(**self.fields()) if self.advice else None

    def __str__(self) -> str:
        return _(self.message).format(**self.fields())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.fields())


def _rebuild(cls: type[EncvaultError], fields: dict[str, Any]) -> EncvaultError:
    return cls(**fields)
