"""Bars as SVG that stands in a page: text stays text, in the page's fonts."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from encvault.accesslog.words import visible
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from encvault.accesslog.report.tally import Pair

GOOD = "#33658a"
BAD = "#f6d98f"
INK = "#3d4a57"
FAINT = "#d9dee3"

_ROW_HEIGHT = 0.26  # inches
_MAX_LABEL = 22  # columns of a fixed-width font
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # measures the text; it comes with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a user may be called "$x$"
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 5,
}


def columns(name: str, labels: Sequence[str], pairs: Sequence[Pair], *, width: float) -> str:
    """Upright bars.

    Args:
        name: unique in the page, of letters.
        labels: one for each bar; bars with an empty label have none.
        pairs: accesses, and on top of them failures and refusals.
        width: of the picture in inches at its natural size.

    Returns:
        An ``svg`` element.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, 2.3))
        axes = figure.add_axes((0.42 / width, 0.13, 1 - 0.47 / width, 0.72))
        places = range(len(pairs))
        good = [pair.good for pair in pairs]
        bad = [pair.bad for pair in pairs]
        axes.bar(places, good, 0.78, color=GOOD, label=_("accesses"))
        axes.bar(places, bad, 0.78, good, **_bad_bars(bad))
        ticks = [place for place in places if labels[place]]
        axes.set_xticks(ticks, [labels[place] for place in ticks])
        axes.set_xlim(-0.6, len(pairs) - 0.4)
        axes.grid(visible=True, axis="y")
        _count_along(axes.yaxis)
        _legend(axes, bad)
        return _svg(figure)


def rows(name: str, labels: Sequence[str], pairs: Sequence[Pair], *, width: float) -> str:
    """Lying bars, the first on top, each with its number; arguments as for `columns`."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        height = 0.75 + _ROW_HEIGHT * max(len(pairs), 2)
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((1.75 / width, 0.32 / height, 1 - 2.35 / width, 1 - 0.7 / height))
        places = range(len(pairs))
        good = [pair.good for pair in pairs]
        bad = [pair.bad for pair in pairs]
        axes.barh(places, good, 0.7, color=GOOD, label=_("accesses"))
        drawn = axes.barh(places, bad, 0.7, good, **_bad_bars(bad))
        totals = [f"{sum(both):,}" for both in zip(good, bad, strict=True)]
        axes.bar_label(drawn, totals, padding=4)
        axes.set_yticks(places, [shortened(visible(label)) for label in labels])
        axes.set_ylim(max(len(pairs), 2) - 0.4, -0.6)
        axes.grid(visible=True, axis="x")
        axes.spines.bottom.set_visible(False)
        _count_along(axes.xaxis)
        _legend(axes, bad)
        return _svg(figure)


def shortened(text: str, limit: int = _MAX_LABEL) -> str:
    """Text of at most `limit` columns; Chinese characters take two."""
    used = 0
    for place, char in enumerate(text):
        used += 1 if char < "\u1100" else 2
        if used > limit:
            return text[: max(place - 1, 1)] + "…"
    return text


def _bad_bars(counts: list[int]) -> dict[str, Any]:
    return {
        # light with a dark edge: told apart without colour as well
        "color": BAD,
        "edgecolor": INK,
        "linewidth": [0.7 if count else 0.0 for count in counts],
        "label": _("failed or refused"),
    }


def _count_along(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _legend(axes: Axes, bad: list[int]) -> None:
    if any(bad):
        axes.legend(
            loc="lower left",  # which is what a phone shows of a wide picture
            bbox_to_anchor=(0, 1),
            ncols=2,
            frameon=False,
            borderaxespad=0.1,
            handlelength=1.4,
        )


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    with warnings.catch_warnings():
        # the font that measures has no Chinese, which the page's fonts have
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            drawn,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    # ids that no other element refers to would occur in every picture of the page
    referred = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in referred else "", text)
    text = text.replace("font-family: 'DejaVu Sans'; ", "")
    # the page says how large it is
    text = re.sub(r'(<svg [^>]*?) width="[^"]+"', r"\1", text, count=1)
    return re.sub(r'(<svg [^>]*?) height="[^"]+"', r'\1 aria-hidden="true"', text, count=1)
