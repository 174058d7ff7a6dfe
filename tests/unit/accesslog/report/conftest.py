"""What tests of the report share."""

from __future__ import annotations

import gettext

import pytest
from unit.accesslog.report import scene

from encvault import i18n


class Marked(gettext.NullTranslations):
    """A language in which every message is the English one between marks."""

    def gettext(self, message: str) -> str:
        return f"«译{message}»"

    def info(self) -> dict[str, str]:
        return {"language": "zh_CN"}


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speak `Marked`."""
    monkeypatch.setattr(i18n, "_active", Marked())


@pytest.fixture(scope="session", autouse=True)
def _drawn_once() -> None:
    # the fonts that a first picture opens stay open
    scene.page(list(scene.entries(10)))
