"""The Chinese catalog is complete, and each check of it can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from tools import catalog

from encvault.errors import EncvaultError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MO = catalog.PO.with_suffix(".mo")
HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'


def entry(message: str, text: str, *, before: str = "") -> str:
    return f'{before}msgid "{message}"\nmsgstr "{text}"\n\n'


def faults_of(text: str, *wanted: catalog.Id) -> list[str]:
    """The faults of a catalog whose .mo is as it should be."""
    read = catalog.read((HEADER + text).encode())
    return catalog.faults(read, dict.fromkeys(wanted, ()), catalog.mo_bytes(read))


def classes(top: type[EncvaultError] = EncvaultError) -> Iterator[type[EncvaultError]]:
    yield top
    for below in top.__subclasses__():
        yield from classes(below)


# -- the real one ---------------------------------------------------------------------------


def test_the_catalog_is_complete() -> None:
    read = catalog.read(catalog.PO.read_bytes())
    assert catalog.faults(read, catalog.all_messages(), MO.read_bytes()) == []


def test_every_error_is_among_the_messages() -> None:
    found = catalog.all_messages()
    for cls in classes():
        assert cls.message in found
        assert not cls.advice or cls.advice in found


def test_messages_come_from_every_keyword_and_from_click() -> None:
    found = catalog.all_messages()
    assert found["hint: {text}"] == ["encvault/cli/ui.py"]  # _
    assert found["nested too deeply"] == ["encvault/encoding.py"]  # N_
    assert "encvault/cli/ui.py" in found["{count} file", "{count} files"]  # ngettext
    assert found["Missing argument"] == ["click"]
    assert "click" in found["file"]  # a word of both


def test_a_wheel_carries_the_catalog(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=catalog.ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = MO.relative_to(catalog.ROOT).as_posix()
        assert archive.read(name) == MO.read_bytes()


# -- what can be wrong ----------------------------------------------------------------------


def test_a_sound_catalog_has_no_faults() -> None:
    plural = 'msgid "{n} file"\nmsgid_plural "{n} files"\nmsgstr[0] "{n} 个文件"\n'
    text = entry("no file {path!r}", "没有文件 {path!r}") + entry("Show it.", "显示。") + plural
    assert faults_of(text, "no file {path!r}", "Show it.", ("{n} file", "{n} files")) == []


@pytest.mark.parametrize(
    ("text", "wanted", "fault"),
    [
        ("", "new", "missing: 'new'"),
        (entry("old", "旧"), None, "no longer used: 'old'"),
        ('#~ msgid "old"\n#~ msgstr "旧"\n', None, "no longer used: 'old'"),
        (entry("a", ""), "a", "not translated: 'a'"),
        (entry("a", "甲", before="#, fuzzy\n"), "a", "marked fuzzy: 'a'"),
        (entry("a {x}", "甲"), "a {x}", "other placeholders"),
        (entry("a {x}", "甲 {y}"), "a {x}", "other placeholders"),
        (entry("a {x}", "甲 {x} {x}"), "a {x}", "other placeholders"),
        (entry("a {x:#06x}", "甲 {x}"), "a {x:#06x}", "other placeholders"),
        (entry("a {x!r}", "甲 {x}"), "a {x!r}", "other placeholders"),
        (entry("a {x}", "甲 {x"), "a {x}", "other placeholders"),
        (entry("a", "甲。"), "a", "a final stop that the English has not"),
        (entry("A.", "甲"), "A.", "a final stop is missing"),
        (entry("a: b", "甲:乙"), "a: b", "narrow punctuation"),
        (entry("a, b", "甲, 乙"), "a, b", "narrow punctuation"),
        (entry("JSON text", "JSON文本"), "JSON text", "no space between Chinese and Latin"),
        *[(entry("a", f"很{word}"), "a", f"the word {word}") for word in catalog.FORBIDDEN],
    ],
)
def test_each_fault_is_found(text: str, wanted: str | None, fault: str) -> None:
    found = faults_of(text, *([] if wanted is None else [wanted]))
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_a_plural_that_lacks_its_form_is_not_translated() -> None:
    text = 'msgid "{n} file"\nmsgid_plural "{n} files"\nmsgstr[0] ""\n'
    assert faults_of(text, ("{n} file", "{n} files")) == ["not translated: '{n} file'"]


def test_a_message_that_got_a_plural_is_missing_until_it_has_one() -> None:
    found = faults_of(entry("{n} file", "{n} 个文件"), ("{n} file", "{n} files"))
    assert found == ["missing: '{n} file'", "no longer used: '{n} file'"]


def test_the_compiled_file_must_be_there_and_be_that_of_the_text() -> None:
    old = catalog.read((HEADER + entry("a", "甲")).encode())
    new = catalog.read((HEADER + entry("a", "乙")).encode())
    stale = ["the .mo is not what the .po says"]
    assert catalog.faults(new, {"a": ()}, catalog.mo_bytes(old)) == stale
    assert catalog.faults(new, {"a": ()}, None) == stale
    assert catalog.faults(new, {"a": ()}, catalog.mo_bytes(new)) == []


# -- the command ----------------------------------------------------------------------------


def test_writing_changes_nothing_that_is_in_order(tmp_path: Path) -> None:
    po = tmp_path / "encvault.po"
    shutil.copy(catalog.PO, po)
    assert catalog.main(["--write"], po) == 0
    assert po.read_bytes() == catalog.PO.read_bytes()
    assert po.with_suffix(".mo").read_bytes() == MO.read_bytes()
    assert b"Date" not in po.read_bytes() + MO.read_bytes()


def test_checking_writes_nothing_and_names_the_command_that_mends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    po = tmp_path / "encvault.po"
    shutil.copy(catalog.PO, po)
    assert catalog.main([], po) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["encvault.po"]
    said = capsys.readouterr().err.splitlines()
    assert "the .mo is not what the .po says" in said
    assert said[-1].endswith(catalog.RENEW)


def test_writing_adds_what_is_new_and_drops_what_is_gone(tmp_path: Path) -> None:
    po = tmp_path / "zh_CN" / "encvault.po"
    po.parent.mkdir()
    kept = entry("hint: {text}", "提示：{text}", before="# a translator's remark\n")
    po.write_text(HEADER + kept + entry("old", "旧"), encoding="utf-8")
    assert catalog.main(["--write"], po) == 1  # the new ones are not translated
    text = po.read_text(encoding="utf-8")
    assert "# a translator's remark" in text
    assert 'msgstr "提示：{text}"' in text
    assert 'msgid "old"' not in text
    assert 'msgid "Missing argument"\nmsgstr ""' in text


def test_another_argument_is_a_usage_error() -> None:
    assert catalog.main(["--wrong"]) == 2


def test_news_of_click_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken, silent = catalog.click_lists()
    rest = [message for message in spoken if message != "Missing argument"]
    monkeypatch.setattr(catalog, "click_lists", lambda: (rest, silent - {"Aborted!"}))
    assert {"Missing argument", "Aborted!"} <= set(catalog.news_of_click())
    assert "Commands" not in catalog.news_of_click()
