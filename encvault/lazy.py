"""Packages whose public names are imported when they are first used (PEP 562)."""

from __future__ import annotations

TYPE_CHECKING = False  # see `encvault.cli`
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def attach(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """What a package needs to have names without importing them.

    The type checker must not see it, or it would believe in any name: the same names are imported
    beside it for ``TYPE_CHECKING``.

    Args:
        package: its ``__name__``.
        places: names, with spaces between them, by the module that has them.

    Returns:
        Its ``__getattr__`` and ``__dir__``; the latter has what is not imported yet as well.
    """
    where = {name: place for place, names in places.items() for name in names.split()}

    def getattr_(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import importlib  # noqa: PLC0415 - not worth its time for ``--version``
        import sys  # noqa: PLC0415 - see above

        value = getattr(importlib.import_module(where[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def dir_() -> list[str]:
        import sys  # noqa: PLC0415 - see above

        return sorted({*vars(sys.modules[package]), *where})

    return getattr_, dir_
