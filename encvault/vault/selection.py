"""Which part of a vault or tree a run is concerned with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """Paths to restrict a run to.

    Attributes:
        only: plain paths relative to the tree; empty for all of it.
    """

    only: tuple[str, ...] = ()

    def covers(self, path: str) -> bool:
        """Whether the run is concerned with this plain path."""
        return not self.only or any(
            chosen in ("", path) or path.startswith(chosen + "/") for chosen in self.only
        )

    def leads_to(self, path: str) -> bool:
        """Whether the run must enter this folder."""
        return self.covers(path) or any(chosen.startswith(path + "/") for chosen in self.only)
