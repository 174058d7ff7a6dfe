"""The documents keep up with the program."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tools import reference

from encvault.cli.run import root

ROOT = Path(__file__).resolve().parents[2]
README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
SCRIPTING = ROOT / "docs" / "scripting.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDES = [
    page for name in ("keys", "audit", "mount") for page in (ROOT / "docs").glob(f"{name}*.md")
]
WITH_COMMANDS = [README, README_ZH, SCRIPTING, *sorted(GUIDES)]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
OPERATORS = {"|", "||", "&&", ";", "(", ")", "<", ">", ">>", "&", "$("}


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def command_lines(page: Path) -> list[str]:
    """Every shell line of the fenced blocks, and every command in a code span."""
    text = page.read_text(encoding="utf-8")
    lines = []
    for language, block in FENCE.findall(text):
        joined = block.replace("\\\n", " ")
        if language == "console":
            lines += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        elif language in ("sh", "crontab"):
            lines += joined.splitlines()
    return lines + re.findall(r"`(encvault [^`]+)`", prose(page))


def commands_of(line: str) -> list[list[str]]:
    """The arguments of every call of encvault in a shell line."""
    # the shell's own quotes in "$(…)" and around Python code are of no interest here
    lexer = shlex.shlex(line.replace("$(", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = []
    current: list[str] | None = None
    redirected = False
    for token in lexer:
        if token in OPERATORS:
            redirected = token in ("<", ">", ">>")
            if redirected and current and current[-1].isdigit():
                current.pop()  # the descriptor in "3<"
            current = current if redirected else None
        elif redirected:
            redirected = False
        elif token == "encvault":
            current = []
            calls.append(current)
        elif current is not None:
            current.append(token)
    return calls


def parse(arguments: list[str]) -> None:
    """Let click parse a command line, and run nothing."""
    command: click.Command = root()
    parent = click.Context(command, info_name="encvault")
    rest = arguments
    while isinstance(command, click.Group):
        if rest == ["--version"]:
            return
        name, *rest = rest
        found = command.get_command(parent, name)
        assert found is not None, f"no such command: {name}"
        command = found
    command.make_context(command.name, list(rest), parent=parent)


def test_the_generated_pages_are_up_to_date() -> None:
    # in a process of its own: click keeps what it has translated for whoever asked first
    done = subprocess.run(
        [sys.executable, reference.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _hash, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} is missing"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}


def test_every_error_has_a_row() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    for cls in reference.classes():
        assert f"`{cls.__name__}`" in page


def test_every_command_is_told_to_users() -> None:
    told = README.read_text(encoding="utf-8") + SCRIPTING.read_text(encoding="utf-8")
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    names = [name for name, ctx in reference.commands() if not isinstance(ctx.command, click.Group)]
    assert len(names) > 10
    for name in names:
        assert f"## {name}\n" in page
        assert re.search(rf"{name}\b", told), f"{name} is in neither README.md nor scripting.md"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=ids(WITH_COMMANDS))
def test_command_lines_parse(page: Path) -> None:
    calls = [call for line in command_lines(page) for call in commands_of(line)]
    assert len(calls) > 10
    for call in calls:
        parse(call)


@pytest.mark.parametrize(
    "line", ["encvault seal --no-such-option x", "encvault unseal x", "x && encvault key renew"]
)
def test_a_wrong_command_line_is_noticed(line: str) -> None:
    (call,) = commands_of(line)
    with pytest.raises((click.UsageError, AssertionError)):
        parse(call)


def test_both_readmes_have_the_same_structure() -> None:
    def structure(page: Path) -> list[str]:
        text = page.read_text(encoding="utf-8")
        parts = re.findall(r"^(#+) |^```(\w+)$|^(\|)|^(- )", text, re.MULTILINE)
        return ["".join(part) for part in parts]

    def blocks(page: Path) -> list[str]:
        found = []
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            # what the program prints is in the page's language (test_readme_examples)
            pattern = r"^(?!\$ ).*\n" if language == "console" else r" +#.*"
            found.append(re.sub(pattern, "", block, flags=re.MULTILINE))
        return found

    def links(page: Path) -> set[str]:
        return {link for link in LINK.findall(prose(page)) if not link.startswith("README")}

    assert structure(README) == structure(README_ZH)
    assert blocks(README) == blocks(README_ZH)
    assert links(README) == links(README_ZH)
    for page in (README, README_ZH):
        assert len(page.read_text(encoding="utf-8").splitlines()) < 150


def test_words_that_promise_too_much_do_not_occur() -> None:
    never = [
        "tamper-" + "proof",
        "不可" + "篡改",
        "securely " + "erased",
        "国密" + "认证",
        "通过" + "密评",
    ]
    for page in PAGES:
        text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8")).lower()
        for word in never:
            assert word not in text, f"{page.name}: {word}"


def test_threat_model_lines_are_numbered_without_gaps() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    for letter in "GNR":
        found = [int(number) for number in re.findall(rf"^\*\*{letter}(\d+)\.", text, re.MULTILINE)]
        assert found == list(range(1, len(found) + 1))
    for page in PAGES:
        cited = re.findall(r"\b([GNR]\d{1,2})\b", page.read_text(encoding="utf-8"))
        for name in set(cited):
            assert f"**{name}." in text, f"{page.name} cites {name}"
