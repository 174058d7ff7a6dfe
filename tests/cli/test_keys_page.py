"""docs/keys.md is what an administrator does: its lines are typed at a terminal."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import Terminal

from encvault.cli import options

if TYPE_CHECKING:
    from helpers import Command

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"keys.md": "C.UTF-8", "keys.zh-CN.md": "zh_CN.UTF-8"}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SLOT = re.compile(r"([a-z2-7]{13})  (\S+(?: \S+)*?) +[\dTZ:-]{20}  (.*)")
FINGERPRINT = re.compile(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){7}")
QUESTION = re.compile(
    r"(new password for .*|the same password again|password for .*|password of .*): $"
    r"|(为 .* 设置密码|再输入一次密码|的密码|.*的密码（留空表示以后再设）)：$"
    r"|\[y/N\] $"
)
WRAPPER = """#!{python}
import sys
from encvault.cli import main, options
from encvault.crypto import kdf
kdf.DEFAULT = kdf.CHEAPEST
options.SYSTEM_CONFIG = {config!r}
sys.exit(main())
"""

LI, ANNA, LATER = "forty grey herons", "nine tall ferns", "seven old doors"
BOB, OFFICER = "three red kites", "one brass key"
# what is typed when the line asks, by how the line begins; the rest of the lines ask for nothing
TYPED = {
    'encvault key new --name "Example Co. recovery"': [OFFICER] * 2,
    "encvault key new --name bob": [BOB] * 2,
    "encvault key new --name partner": [BOB] * 2,
    "encvault seal sales --fingerprint": [],
    "encvault seal sales": [LI] * 2,
    "encvault recovery new": [LI],
    "encvault slot add sales --label anna": [LI, ANNA, ANNA],
    "encvault slot add sales -r": [LI],
    "encvault passwd sales --slot": [LI, ANNA, ANNA],
    "encvault passwd sales": [ANNA, LATER, LATER],
    "encvault share": [LI],
    "encvault revoke": [LI, "y", ""],
    "encvault verify": [LI],
    "encvault open": [OFFICER],
}


def blocks(page: str) -> list[tuple[str, str]]:
    return FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


class Administrator:
    """Types the page's lines."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder = folder / "work"
        self.programs = folder / "bin"
        for path in (self.folder, self.programs):
            path.mkdir()
        program = self.programs / "encvault"
        program.write_text(WRAPPER.format(python=sys.executable, config=str(config)))
        program.chmod(0o755)

    def type(self, line: str) -> None:
        typed = next((typed for begin, typed in TYPED.items() if line.startswith(begin)), [])
        command = f'PATH="{self.programs}:$PATH"; {line}'
        terminal = Terminal("-c", command, cwd=self.folder, program=("/bin/sh",))
        try:
            at = 0
            for answer in typed:
                terminal.expect_question(QUESTION, at)
                at = len(terminal.screen)
                terminal.type(answer)
            assert terminal.wait() == 0, f"{line}: {terminal.screen}"
        finally:
            terminal.close()


def same_slots(shown: str, listed: str) -> dict[str, str]:
    """Our keyslots' ids by those on the page, which must be of the same kinds and labels."""
    ids = {}
    for theirs, ours in zip(shown.splitlines()[1:], listed.splitlines(), strict=True):
        one, other = SLOT.fullmatch(theirs), SLOT.fullmatch(ours)
        assert one is not None
        assert other is not None
        assert one[2] == other[2]
        assert FINGERPRINT.sub("", one[3]).split() == FINGERPRINT.sub("", other[3]).split()
        ids[one[1]] = other[1]
    return ids


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_an_administrator_gets_from_the_first_vault_to_a_leaver(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command
) -> None:
    config = tmp_path / "etc" / "config.toml"
    config.parent.mkdir()
    monkeypatch.setattr(options, "SYSTEM_CONFIG", str(config))
    monkeypatch.setenv("LOGNAME", "li")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", PAGES[page])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    li = Administrator(tmp_path, config)
    vault = li.folder / "sales"
    ids: dict[str, str] = {}  # the page's -> ours
    configured = False
    for language, text in blocks(page):
        if language == "toml" and not configured:
            configured = True
            config.write_text(text)
            shutil.copy(li.folder / "company.pub", config.parent)
        elif language == "console":
            ids |= same_slots(text, run("slot", "list", vault).out)
        elif language == "sh":
            for line in text.splitlines():
                if line.startswith("encvault revoke"):
                    shutil.copytree(vault, tmp_path / "copy")
                info = json.loads(run("info", vault, "--json").out) if vault.is_dir() else {}
                for theirs_id, own_id in ids.items():
                    line = line.replace(theirs_id, own_id)  # noqa: PLW2901 - as it is here
                li.type(FINGERPRINT.sub(info.get("fingerprint", ""), line))

    for name, words in (("li", LI), ("anna", ANNA), ("bob", BOB), ("later", LATER)):
        (tmp_path / name).write_text(words + "\n")
    bob = ("-i", li.folder / "bob.key", "--password-file", tmp_path / "bob")
    assert run("cat", vault / "prices.csv", *bob).code == 77
    assert run("cat", tmp_path / "copy" / "prices.csv", *bob).out == "widget, 12.50\n"
    for name, code in (("li", 0), ("anna", 0), ("later", 77)):
        assert run("cat", vault / "prices.csv", "--password-file", tmp_path / name).code == code
    assert (li.folder / "rescued" / "customers.csv").read_text() == "Miller Ltd, 12000\n"
    shared = li.folder / "outbox" / "prices.csv.sealed"
    partner = ("-i", li.folder / "partner.key", "--password-file", tmp_path / "bob")
    assert run("cat", shared, *partner).out == "widget, 12.50\n"
    states = [
        slot["state"] for slot in json.loads(run("slot", "list", vault, "--json").out)["slots"]
    ]
    assert states == ["active"] * 4


def test_both_pages_have_the_same_lines() -> None:
    english, chinese = (
        [text for language, text in blocks(page) if language in ("sh", "toml")] for page in PAGES
    )
    assert english == chinese
    assert len(english) > 10
