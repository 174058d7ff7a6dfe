"""Lists of objects on their way to another process, which pickle takes much faster as columns.

One by one, each object of a batch would be taken apart and put together by calls of Python's.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple


class _Columns(NamedTuple):
    """What the objects have in each of their fields.

    Attributes:
        kind: their class.
        kinds: for each field the named tuples that it has, which travel as plain ones, or None.
        columns: for each field what the objects have in it.
    """

    kind: type[Any]
    kinds: list[type[Any] | None]
    columns: list[list[Any]]


def packed(value: Any) -> Any:
    """What to send in place of a value.

    Args:
        value: anything. A list of objects of one dataclass, all of whose fields its constructor
            takes, becomes columns; anything else stays as it is.
    """
    if not isinstance(value, list) or not value:
        return value
    kind = _common_type(value)
    if kind is None or not dataclasses.is_dataclass(kind):
        return value
    kinds: list[type[Any] | None] = []
    columns = []
    for field in dataclasses.fields(kind):
        column = [getattr(item, field.name) for item in value]
        tuples = _common_type(column)
        if tuples is not None and issubclass(tuples, tuple) and hasattr(tuples, "_make"):
            kinds.append(tuples)
            column = list(map(tuple, column))
        else:
            kinds.append(None)
        columns.append(column)
    return _Columns(kind, kinds, columns)


def unpacked(value: Any) -> Any:
    """What `packed` was given: equal, and of the same classes."""
    if not isinstance(value, _Columns):
        return value
    columns = [
        column if kind is None else map(kind._make, column)
        for kind, column in zip(value.kinds, value.columns, strict=True)
    ]
    return list(map(value.kind, *columns))


def _common_type(items: list[Any]) -> type[Any] | None:
    """The class of all of them, or None."""
    kinds = set(map(type, items))
    return kinds.pop() if len(kinds) == 1 else None
