"""What a verdict means for somebody who does not know how logs are signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.audit import Verdict
from encvault.i18n import N_, _

if TYPE_CHECKING:
    from encvault.accesslog.audit import Audit


class Explained(NamedTuple):
    """A verdict in plain words.

    Attributes:
        mark: one character that tells verdicts apart without colour.
        tone: ``good``, ``unsure`` or ``bad``.
        heading: one sentence.
        means: what follows from it, a sentence each.
        means_not: what does not.
    """

    mark: str
    tone: str
    heading: str
    means: tuple[str, ...]
    means_not: tuple[str, ...]


_HEADINGS = {
    Verdict.ANCHORED_OK: ("✓", "good", N_("Nothing was changed, as far as the anchor reaches")),
    Verdict.OK_UNANCHORED: (
        "?",
        "unsure",
        N_("The log fits together, but nothing else confirms it"),
    ),
    Verdict.TAMPERED: ("✗", "bad", N_("Do not rely on this log: it was changed or is damaged")),
    Verdict.CANNOT_VERIFY: ("✗", "bad", N_("This log could not be checked")),
}


def explain(audit: Audit) -> Explained:
    """The verdict of an audit in plain words (docs/log-format.md section 8)."""
    mark, tone, heading = _HEADINGS[audit.verdict]
    means = [_(text).format(**_numbers(audit)) for text in _means(audit)]
    means_not = [_(text) for text in _means_not(audit)]
    return Explained(mark, tone, _(heading), tuple(means), tuple(means_not))


def _numbers(audit: Audit) -> dict[str, str]:
    return {
        "size": f"{audit.size:,}",
        "anchored": f"{audit.anchored_size:,}",
        "open": f"{audit.open_from:,}",
    }


def _means(audit: Audit) -> list[str]:
    match audit.verdict:
        case Verdict.ANCHORED_OK:
            found = [
                N_("All {size} entries are signed, in order, and none is missing between them."),
                N_(
                    "A copy of the log's state that was kept elsewhere (an anchor) agrees with"
                    " it: the first {anchored} entries are as they were then."
                ),
            ]
            if audit.anchored_size < audit.size:
                found.append(N_("For the entries after them, only the log itself speaks."))
        case Verdict.OK_UNANCHORED:
            found = [
                N_("All {size} entries are signed, in order, and none is missing between them."),
                N_(
                    "No anchor was given, a copy of the log's state kept elsewhere. So a log whose"
                    " end was cut off, or that was made anew as a whole, would look the same."
                ),
            ]
        case Verdict.TAMPERED:
            return [
                N_(
                    "Entries, signatures or times are not as this program writes them. Somebody"
                    " may have changed them; a failing disk can look the same."
                ),
                N_("Only the first {size} entries are proved, and only these are counted below."),
                N_("Keep a copy of the log as it is now, and find out who could write to it."),
            ]
        case _:
            return [
                N_(
                    "There is no log, the list of its keys is missing, or the anchor is of"
                    " another log. Nothing on this page is proved."
                )
            ]
    if audit.open_from < audit.size:
        found.append(
            N_(
                "Entries from number {open} on are of the current day. Whoever controls the"
                " machine could still change those that no anchor covers."
            )
        )
    return found


def _means_not(audit: Audit) -> list[str]:
    found = [
        N_("A log proves what was recorded, never that all was recorded."),
        N_("Times are what the machine's clock said, and names what its system said."),
    ]
    if audit.own_policy:
        found.append(
            N_(
                "The keys used for checking are from the log's own folder: who could write there"
                " could have made the whole log anew. Only an anchor would show that."
            )
        )
    return found
