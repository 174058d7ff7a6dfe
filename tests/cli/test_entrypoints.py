"""One program, three doors; nothing slow behind ``--version``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from encvault import __version__
from encvault.accesslog.log import AccessLog

ROOT = Path(__file__).resolve().parents[2]
DOORS = {
    "checkout": [sys.executable, str(ROOT / "cli.py")],
    "module": [sys.executable, "-m", "encvault"],
    "installed": [str(Path(sys.executable).parent / "encvault")],
}


def call(door: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DOORS[door], *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["seal"], ["open", "/nowhere"]])
def test_the_doors_lead_to_the_same_program(arguments: list[str]) -> None:
    AccessLog(f"{os.environ['XDG_STATE_HOME']}/encvault/log").begin()  # the first call would tell
    results = [call(door, *arguments) for door in DOORS]
    assert len({(done.returncode, done.stdout, done.stderr) for done in results}) == 1
    assert results[0].stdout + results[0].stderr


def test_the_version(tmp_path: Path) -> None:
    done = call("module", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"encvault {__version__}\n", "")


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        (
            "cli.main(['--version'])",
            {"click", "encvault.cli.process", "encvault.i18n", "encvault.vault"},
        ),
        ("cli.main(['status', '.'])", {"rich", "argon2", "keyring", "pyudev"}),
        ("import encvault.operations", {"click", "rich", "argon2", "keyring", "pyudev"}),
    ],
)
def test_nothing_is_imported_before_it_is_needed(code: str, forbidden: set[str]) -> None:
    script = f"import sys; from encvault import cli; {code}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0
    assert forbidden.isdisjoint(done.stderr.split())


@pytest.mark.parametrize(
    "name", ["init", "seal", "open", "status", "verify", "ls", "cat", "info", "share"]
)
def test_every_command_has_help_that_fits_80_columns(name: str) -> None:
    done = subprocess.run(
        [*DOORS["module"], name, "--help"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"Usage: encvault {name}")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_without_arguments_the_help_is_shown() -> None:
    done = call("module")
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: encvault")


def test_completion_for_a_shell() -> None:
    done = subprocess.run(
        DOORS["installed"],
        env=os.environ | {"_ENCVAULT_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_encvault_completion" in done.stdout
