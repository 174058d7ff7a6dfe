"""The report in a real browser: on a screen, on a phone, on paper, in English and in Chinese."""

from __future__ import annotations

import gettext
import io
import re
from typing import TYPE_CHECKING

import pytest
import zxingcpp
from PIL import Image
from unit.accesslog.report import scene
from unit.accesslog.report.browser import Browser
from unit.accesslog.report.scene import entry

from encvault import i18n
from encvault.accesslog.audit import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HAN = re.compile("[\u4e00-\u9fff]")


class Han(gettext.NullTranslations):
    """A language of Chinese characters, as long as the catalog's translations are."""

    def gettext(self, message: str) -> str:
        words = re.split(r"(\{\w+\})", message)
        return "".join(
            word if word.startswith("{") else "访" * -(-len(word) // 3) for word in words
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(params=["en", "zh-CN"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "en":
        monkeypatch.setattr(i18n, "_active", Han())
    return str(request.param)


def written(folder: Path, text: str) -> Path:
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_it_shows_on_a_screen_a_phone_and_paper(
    browser: Browser, language: str, tmp_path: Path
) -> None:
    names = ("<script>document.title = 1</script>", "/srv/" + "x" * 3000, "a\u202egpj.exe")
    log = [*scene.entries(2000)]
    log += [entry(2000, path=name, user=name, outcome="refused") for name in names]
    wrong = (Finding("root", 1, "x" * 300),)
    path = written(tmp_path, scene.page(log, scene.audit(Verdict.TAMPERED, wrong=wrong)))
    for width, height in ((1280, 900), (360, 740)):
        browser.show(path, width=width, height=height)
        assert browser.complaints == []
        assert browser.requests == [path.as_uri()]
        assert browser.value("document.title").endswith(": TAMPERED")
        # nothing sticks out sideways: what is wide scrolls in its own box
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("document.querySelectorAll('svg').length") == 5
        sizes = browser.value(
            "[...document.querySelectorAll('svg')]"
            ".map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
        )
        assert all(across > 150 and down > 100 for across, down in sizes)
        headings = browser.value("document.querySelector('h1').innerText")
        assert bool(HAN.search(headings)) == (language != "en")
    paper = browser.printed()
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", paper)
    assert 5 <= len(boxes) <= 12
    for across, down in boxes:  # A4 is 210 mm by 297 mm
        assert float(across) == pytest.approx(210 / 25.4 * 72, abs=1.5)
        assert float(down) == pytest.approx(297 / 25.4 * 72, abs=1.5)
    assert len(paper) < 3_000_000


def test_the_picture_of_the_checkpoint_is_the_checkpoint(browser: Browser, tmp_path: Path) -> None:
    browser.show(written(tmp_path, scene.page([])), width=1000, height=800)
    picture = Image.open(io.BytesIO(browser.screenshot()))
    (code,) = zxingcpp.read_barcodes(picture)
    assert code.bytes.decode() == scene.CHECKPOINT


def test_the_policy_of_the_page_stops_what_it_does_not_have(
    browser: Browser, tmp_path: Path
) -> None:
    """And the browser notices it, so that silence elsewhere says something."""
    evil = "<script>document.title = 'run'</script><img src='https://x.example/'><p id=end>"
    text = scene.page([]).replace("</main>", evil)
    browser.show(written(tmp_path, text), width=1000, height=800)
    assert browser.value("document.title") == "Access log report: ANCHORED-OK"
    assert len(browser.complaints) >= 2
    assert all("Content Security Policy" in complaint for complaint in browser.complaints)
    without = re.sub(r"<meta http-equiv=[^>]+>", "", text)
    browser.show(written(tmp_path, without), width=1000, height=800)
    assert browser.value("document.title") == "run"
    assert "https://x.example/" in browser.requests
