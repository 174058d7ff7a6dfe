"""A log, and accesses through a mount that it records."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from accessing import SLOT, VAULT
from logs import Days

from encvault.accesslog.log import AccessLog
from encvault.operations.accesses import Accesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Days:
    return Days()


@pytest.fixture
def log(tmp_path: Path, clock: Days) -> AccessLog:
    log = AccessLog(str(tmp_path / "log"), clock=clock)
    log.begin()
    return log


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    (tmp_path / "link").symlink_to("vault")
    return tmp_path / "vault"


@pytest.fixture
def accesses(log: AccessLog, vault: Path, notes: list[str]) -> Iterator[Accesses]:
    made = Accesses(log, str(vault.parent / "link"), VAULT, SLOT, notes.append)
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts programs that wait for their input."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command or ("cat",), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
