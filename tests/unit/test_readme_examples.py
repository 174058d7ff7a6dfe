"""The README's first example is what the program does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers import Command

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT = re.compile(
    r"(new password for|the same password again|password for).*: ?"
    r"|为 .* 设置密码：|再输入一次密码：|.* 的密码："
)
LANGUAGES = {"README.md": "C", "README.zh-CN.md": "zh_CN.UTF-8"}
ASKING = {"seal", "open", "cat", "verify"}


def steps(text: str) -> list[tuple[str, list[str]]]:
    """The commands of an example, each with its output; what asks for a password is left out."""
    match = EXAMPLE.search(text)
    assert match is not None
    found: list[tuple[str, list[str]]] = []
    for line in match[1].splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif not PROMPT.fullmatch(line):
            found[-1][1].append(line)
    return found


@pytest.mark.parametrize("page", LANGUAGES)
def test_the_example_works(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LC_ALL")
    monkeypatch.setenv("LANG", LANGUAGES[page])
    password = tmp_path / "password.txt"
    password.write_text("a long sentence that nobody guesses\n", encoding="utf-8")
    done = steps((ROOT / page).read_text(encoding="utf-8"))
    assert len(done) > 5
    for line, expected in done:
        program, *arguments = line.split()
        if program == "encvault":
            source = ["--password-file", password] if arguments[0] in ASKING else []
            ran = run(*arguments, *source)
            output = (ran.out + ran.err).splitlines()
        else:
            shell = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
            output = shell.stdout.splitlines()
        assert sorted(output) == sorted(expected), line
