"""Small real file systems to fill, to make read-only and to take away."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The machine that decides (CI) runs as root, and there a mount that fails is a failure.
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a file system"
)


@contextlib.contextmanager
def mounted(where: Path, kind: str, size: int) -> Iterator[Path]:
    """A file system of that many bytes: ``tmpfs``, or ``ext4`` in a file."""
    where.mkdir()
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where))
    else:
        image = where.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size)
        # no journal and no reserve: all of the little there is, is for files
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-N", "256", str(image))
        _run("mount", "-o", "loop", str(image), str(where))
    try:
        yield where
    finally:
        done = subprocess.run(["umount", str(where)], check=False)
        if done.returncode:
            # a descriptor was left open there; the test fails, and leaves no mount behind
            _run("umount", "--lazy", str(where))
        assert done.returncode == 0, "something in it is still open"


def remount(where: Path, option: str) -> None:
    """Make it read-only (``ro``) or writable (``rw``)."""
    _run("mount", "-o", f"remount,{option}", str(where))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk until `leave` bytes are left; return the file to remove for space."""
    ballast = folder.parent / "ballast" if folder.name == "docs" else folder / "ballast"
    status = os.statvfs(folder)
    size = status.f_bavail * status.f_frsize - leave
    with ballast.open("wb", buffering=0) as file:
        while size > 0:
            try:
                size -= file.write(bytes(min(size, 1 << 16)))
            except OSError:
                # blocks that only look free, as those of the file system's own tables
                break
    return ballast
