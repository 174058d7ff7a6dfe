"""What is known of a file system by its kind."""

from __future__ import annotations

import os
import types
from typing import TYPE_CHECKING

import pytest

from encvault.fs import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    mounts._can_tell.cache_clear()
    yield
    mounts._can_tell.cache_clear()


@pytest.mark.parametrize(
    ("kind", "release", "expected"),
    [
        ("ext4", "6.1.0-18-amd64", True),
        ("tmpfs", "5.8.0", True),
        ("xfs", "5.7.19-generic", False),  # syncfs(2) tells of nothing, "Versions"
        ("ext4", "4.19.0-26-amd64", False),
        ("ext4", "10.0", True),
        ("ext4", "no number", False),
        ("overlay", "6.1.0", False),
        ("fuse.sshfs", "6.1.0", False),
        ("fuseblk", "6.1.0", False),
        ("nfs4", "6.1.0", False),
        ("", "6.1.0", False),
    ],
)
def test_which_file_systems_are_synced_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, kind: str, release: str, *, expected: bool
) -> None:
    monkeypatch.setattr(mounts, "kind_of", lambda _device: kind)
    monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(release=release))
    assert mounts.is_synced_whole(0) is expected


def test_no_other_system_is_known_to_sync_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "kind_of", lambda _device: "ext4")
    monkeypatch.setattr(mounts.sys, "platform", "darwin")
    assert not mounts.is_synced_whole(0)
