"""stdin, stdout and stderr that are full, closed or gone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def call(
    folder: Path, redirection: str, *arguments: str, stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    """Run the real program as a shell does that was told to redirect."""
    script = f'exec "$0" -m encvault "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", script, sys.executable, *arguments],
        cwd=folder,
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def unread_pipe() -> Iterator[int]:
    """The writing end of a pipe whose reader is gone."""
    read, write = os.pipe()
    os.close(read)
    try:
        yield write
    finally:
        os.close(write)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`docs` holds a sealed file and a plain one; `full` is sealed."""
    made = call(tmp_path, "> me.pub", "key", "new", "--no-password", "-o", "me.key")
    assert made.returncode == 0
    for name in ("docs", "full"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "quote.txt").write_text("content")
        assert call(tmp_path, "", "seal", name, "-r", "me.pub").returncode == 0
    (tmp_path / "docs" / "plain.txt").write_text("plain")
    return tmp_path


@pytest.mark.parametrize(
    ("redirection", "code", "reason"),
    [(">/dev/full", 73, "no space left"), (">&-", 74, "Bad file descriptor")],
    ids=["full", "closed"],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "full"],
        ["ls", "full"],
        ["ls", "full", "--json"],
        ["cat", "full/quote.txt", "-i", "me.key"],
        ["seal", "-", "-r", "me.pub"],
        ["seal", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_a_result_that_cannot_be_written_is_a_storage_error(
    folder: Path, arguments: list[str], redirection: str, code: int, reason: str
) -> None:
    done = call(folder, redirection, *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(f"encvault: stdout: {reason}\n")
    assert "Traceback" not in done.stderr


def test_an_error_as_json_keeps_its_code_where_stdout_is_full(folder: Path) -> None:
    done = call(folder, ">/dev/full", "status", "--json", "nowhere")
    assert done.returncode == 66
    assert done.stderr == "encvault: nowhere: no such file or folder\n"


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"], ids=["full", "closed"])
def test_messages_that_cannot_be_told_stop_no_work(folder: Path, redirection: str) -> None:
    done = call(folder, redirection, "status", "docs")
    assert done.returncode == 3
    assert "plain.txt" in done.stdout
    assert call(folder, redirection, "status", "nowhere").returncode == 66
    assert call(folder, redirection, "seal", "docs").returncode == 0
    left = sorted(path.name for path in (folder / "docs").iterdir())
    assert left == [".encvault", "plain.txt.sealed", "quote.txt.sealed"]
    sealed = (folder / "docs" / "plain.txt.sealed").read_bytes()
    assert sealed.startswith(b"encvault")
    assert call(folder, redirection, "open", "docs", "-i", "me.key").returncode == 0
    assert (folder / "docs" / "plain.txt").read_text() == "plain"


def test_messages_that_nobody_reads_any_more_stop_no_work(folder: Path) -> None:
    with unread_pipe() as pipe:
        done = call(folder, "2>&0", "seal", "docs", stdin=pipe)
    assert done.returncode == 0
    assert (folder / "docs" / "plain.txt.sealed").exists()


def test_all_three_closed_at_once(folder: Path) -> None:
    assert call(folder, "<&- >&- 2>&-", "seal", "docs").returncode == 0
    assert call(folder, "<&- >&- 2>&-", "open", "docs", "-i", "me.key").returncode == 0
    assert (folder / "docs" / "plain.txt").read_text() == "plain"


@pytest.mark.parametrize(
    "arguments", [["seal", "-", "-r", "me.pub"], ["open", "-", "-i", "me.key"]]
)
def test_a_closed_stdin_is_no_empty_stream(folder: Path, arguments: list[str]) -> None:
    done = call(folder, "<&-", *arguments)
    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr == "encvault: stdin: Bad file descriptor\n"


def test_a_reader_that_has_enough_ends_the_command_quietly(folder: Path) -> None:
    with unread_pipe() as pipe:
        done = call(folder, ">&0", "ls", "full", stdin=pipe)
    assert (done.returncode, done.stderr) == (141, "")
