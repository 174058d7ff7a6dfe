"""Which part of a vault or tree a run is concerned with."""

from __future__ import annotations

from dataclasses import dataclass, field

from encvault.fs.tree import split


@dataclass(frozen=True, slots=True)
class Selection:
    """Paths to restrict a run to.

    Attributes:
        only: plain paths relative to the tree; empty for all of it.
    """

    only: tuple[str, ...] = ()
    # asked for every name that a run meets, where ten thousand may be chosen
    _chosen: frozenset[str] = field(init=False, repr=False, compare=False)
    _above: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        chosen = frozenset(self.only)
        above = {folder for path in chosen for folder in _folders_above(path)}
        object.__setattr__(self, "_chosen", chosen)
        object.__setattr__(self, "_above", frozenset(above))

    def covers(self, path: str) -> bool:
        """Whether the run is concerned with this plain path."""
        if not self.only or path in self._chosen or "" in self._chosen:
            return True
        return not self._chosen.isdisjoint(_folders_above(path))

    def leads_to(self, path: str) -> bool:
        """Whether the run must enter this folder."""
        return path in self._above or self.covers(path)


def _folders_above(path: str) -> list[str]:
    """The folders that a path is in, without the top."""
    found = []
    while path := split(path)[0]:
        found.append(path)
    return found
