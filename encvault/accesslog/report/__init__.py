"""A log on one page, for people: who opened what, and what may be said of the log.

The page needs nothing but itself: no script, no network, no fonts. What draws it is an extra of
the package (``report``), loaded when the first page is made.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from encvault.errors import ReportUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, tzinfo

    from encvault.accesslog.audit import Audit
    from encvault.accesslog.events import Entry

PACKAGES = ("jinja2", "matplotlib", "segno")


def render(entries: Iterable[Entry], audit: Audit, *, made_at: datetime, zone: tzinfo) -> str:
    """One HTML page about verified entries, in the active language.

    Args:
        entries: those that `audit` found proved, in the log's order. They are read once; memory
            grows with users, days and files up to fixed bounds, and not with entries.
        audit: the result of checking the log.
        made_at: when the page is made; aware.
        zone: in which times, hours and days are shown.

    Returns:
        The page. Equal arguments give equal pages.

    Raises:
        ReportUnavailable: a library of the extra ``report`` is not installed.
    """
    # it tells of font caches and odd home folders on stderr, which is not its to write to
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError:
            raise ReportUnavailable(package=package) from None
    from encvault.accesslog.report.page import make_page  # noqa: PLC0415 - needs the extra
    from encvault.accesslog.report.tally import Tally  # noqa: PLC0415 - used by nothing else

    tally = Tally(zone)
    for entry in entries:
        tally.add(entry)
    return make_page(tally, audit, made_at=made_at, zone=zone)
