"""Help pages whose lines fit the terminal in every language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from encvault.cli.ui import cells
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CLOSING = "，。；：！？、）”》"
_OPENING = "（“《"
_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60"
# what may not be torn apart: a word or one Chinese character, with the punctuation that clings
_PIECE = rf"\s+|[{_OPENING}]*(?:[^\s{_WIDE}{_OPENING}{_CLOSING}]+|[{_WIDE}])[{_CLOSING}]*|."


class Formatter(click.HelpFormatter):
    """click's layout, with Chinese text broken between characters and measured in columns.

    click breaks lines at spaces, of which Chinese has none, and counts characters, each of which
    takes two columns. Paragraphs of such text are broken here and handed to click as they are.
    """

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """See `click.HelpFormatter`."""
        super().write_usage(prog, args, _("Usage: ") if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        """See `click.HelpFormatter`."""
        text = _("{heading}:").format(heading=heading)
        self.write(f"{'':>{self.current_indent}}{text}\n")

    def write_text(self, text: str) -> None:
        """See `click.HelpFormatter`."""
        super().write_text(_broken(text, self.width - self.current_indent))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """See `click.HelpFormatter`."""
        rows = list(rows)
        first = min(max(cells(term) for term, _text in rows), col_max) + col_spacing
        width = max(self.width - first - self.current_indent, 10)
        broken = [(term, _broken(text, width)) for term, text in rows]
        super().write_dl(broken, col_max, col_spacing)


def _broken(text: str, width: int) -> str:
    """`text` with every paragraph of wide characters broken into lines."""
    return "\n\n".join(
        paragraph
        if len(paragraph) == cells(paragraph) or paragraph.startswith("\b")
        else "\b\n" + "\n".join(_lines(paragraph, width))  # click's mark for: leave as it is
        for paragraph in text.split("\n\n")
    )


def _lines(paragraph: str, width: int) -> Iterator[str]:
    line = ""
    for found in re.findall(_PIECE, paragraph.strip()):
        piece = " " if found.isspace() else found
        if line and cells(line + piece.rstrip()) > width:
            yield line.rstrip()
            line = piece.lstrip()
        else:
            line += piece
    yield line.rstrip()
