"""Words for people: complete, and without anything hidden in them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from encvault.accesslog.words import ACTIONS, OUTCOMES, action_text, outcome_text, visible

FORMAT = Path(__file__).resolve().parents[3] / "docs" / "log-format.md"


def test_every_action_of_the_format_has_words() -> None:
    page = FORMAT.read_text(encoding="utf-8")
    table = page[page.index("| `op` | an entry") :].partition("\n\n")[0].splitlines()[2:]
    named = [name for row in table for name in re.findall(r"`([a-z.]+)`", row)]
    assert list(ACTIONS) == named
    assert list(OUTCOMES) == ["ok", "failed", "refused"]


def test_what_is_known_is_said_and_what_is_not_is_shown() -> None:
    assert action_text("slot.add") == "keyslot added"
    assert outcome_text("refused") == "refused"
    assert action_text("new\u202e") == action_text("new\u202e").english == "new\\u202e"
    assert outcome_text("so\n-so") == "so\\u000a-so"
    assert len(set(ACTIONS.values())) == len(ACTIONS)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/报价单 2026.xlsx", "/srv/报价单 2026.xlsx"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\x00\t\n\x1b\x7f", "\\u0000\\u0009\\u000a\\u001b\\u007f"),
        ("\udcff", "\\udcff"),
        ("\ufeff\u200b\u00a0\u3000", "\\ufeff\\u200b\\u00a0\\u3000"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_nothing_is_hidden(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_no_bidirectional_control_stays() -> None:
    controls = [
        chr(code)
        for code in range(0x11000)
        if unicodedata.bidirectional(chr(code)) in {*("LRE", "RLE", "LRO", "RLO", "PDF")}
        or unicodedata.bidirectional(chr(code)) in {*("LRI", "RLI", "FSI", "PDI")}
    ]
    assert len(controls) == 9
    for control in controls:
        assert control not in visible(f"a{control}b")
