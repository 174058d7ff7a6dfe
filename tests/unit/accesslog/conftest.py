"""A log of three days, and what a checker has of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from logs import (
    Days,
    make_log,
)

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.accesslog.log import AccessLog


@pytest.fixture
def clock() -> Days:
    return Days()


@pytest.fixture
def log(tmp_path: Path, clock: Days) -> AccessLog:
    """Three days with three entries each; two of the days are over."""
    return make_log(tmp_path / "log", clock)


@pytest.fixture
def path(log: AccessLog, tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def policy(path: Path, tmp_path: Path) -> str:
    """The checker's copy."""
    return str(shutil.copyfile(path / "policy", tmp_path / "policy"))


@pytest.fixture
def anchor(path: Path, tmp_path: Path) -> str:
    """The latest checkpoint, kept elsewhere."""
    return str(shutil.copyfile(path / "checkpoint", tmp_path / "anchor"))
