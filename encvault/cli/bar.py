"""The bar of a run; who imports this imports rich, which takes 50 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from encvault.i18n import size_text

if TYPE_CHECKING:
    from rich.progress import Task


class _Sizes(ProgressColumn):
    """How much of it is done, in the units of every other size: rich has English words for some."""

    def render(self, task: Task) -> Text:
        done, total = size_text(int(task.completed)), size_text(int(task.total or 0))
        return Text(f"{done}/{total}", style="progress.download")


class _Speed(ProgressColumn):
    """The same in a second, once that is known."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        shown = "" if speed is None else f"{size_text(int(speed))}/s"
        return Text(shown, style="progress.data.speed")


def new_bar() -> Progress:
    """A bar on stderr, of tasks with a field ``files``.

    It has no thread that refreshes it: workers are forked from a single-threaded process only.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        _Sizes(),
        _Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
