"""Tests that want something of the machine for themselves, such as a loop device."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("a group")
def test_a_group_of_tests_stays_in_one_worker(request: pytest.FixtureRequest) -> None:
    """xdist goes by the end of the name, and where that is lost nothing else would tell it."""
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith("@a group")
