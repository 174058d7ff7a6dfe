"""Which part of a vault or tree a run is concerned with, and how it seals."""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.fs.tree import split

if TYPE_CHECKING:
    from collections.abc import Callable


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


@dataclass(frozen=True, slots=True)
class SealOptions(Selection):
    """How to seal a tree.

    Attributes:
        keep: leave the originals (in place only; a mirror never touches its source).
        force: let the plain file win where a different sealed copy exists.
        delete: remove sealed files whose source is gone (mirror only).
        exclude: shell patterns; a name or path that matches is left out.
        own: paths of what encvault itself works with, left out as well.
        adopt: in a mirror, replace what is not known to have come from this source.
        reads_back: in a mirror, read each sealed copy back and compare it, for who removes the
            originals afterwards. In place that is always so.
        jobs: worker processes, 0 for one per processor.
    """

    keep: bool = False
    force: bool = False
    delete: bool = False
    exclude: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    adopt: bool = False
    reads_back: bool = False
    jobs: int = 0

    def excludes(self, path: str) -> bool:
        """Whether a pattern leaves this path out."""
        if path in self.own:
            return True
        if not self.exclude:
            return False
        matches = _matcher(self.exclude)
        return bool(matches(split(path)[1]) or matches(path))

    def excludes_within(self, path: str) -> bool:
        """Whether a pattern leaves out this path or a folder that it is in."""
        while path:
            if self.excludes(path):
                return True
            path = split(path)[0]
        return False


@functools.lru_cache(maxsize=8)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Tells whether any of the shell patterns matches; hundreds are asked for every name."""
    return re.compile("|".join(map(fnmatch.translate, patterns))).match


def _folders_above(path: str) -> list[str]:
    """The folders that a path is in, without the top."""
    found = []
    while path := split(path)[0]:
        found.append(path)
    return found
