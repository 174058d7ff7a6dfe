"""One desktop session for the tests that leave it as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desktop import Desktop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    with Desktop(tmp_path_factory.mktemp("session") / "desktop") as session:
        yield session.log_in()
