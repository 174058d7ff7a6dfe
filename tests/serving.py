"""Real mounts for tests: served by a forked child, and gone at the end whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from encvault.fs.mounts import mount_at
from encvault.mount import fuse
from encvault.mount.process import default_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memory_view import MemoryView

PATIENCE = 20.0  # seconds, on a machine that others use too
_MNT_DETACH = 2


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; what it gives."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.002)
    return found


def is_mounted(path: Path | str) -> bool:
    return mount_at(str(path)) is not None


@dataclass
class Served:
    """A mount of a view in memory.

    Attributes:
        path: the mounted folder.
        pid: of the process that serves it.
        calls: what the view was asked, once it is unmounted.
        callers: who asked.
        names, contents: what it had at the end.
        failures: of the adapter.
    """

    path: Path
    pid: int
    calls: list[str] = field(default_factory=list)
    callers: list[tuple[int, int, int]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def served(view: MemoryView, path: Path, source: str = "/vault") -> Iterator[Served]:
    """Serve a view at a new folder; what it was asked is known afterwards."""
    path.mkdir()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _serve(view, path, source, write)
    os.close(write)
    mount = Served(path, pid)
    try:
        until(lambda: is_mounted(path), "the mount")
        yield mount
    finally:
        # a descriptor that a failing test left open must not leave the mount behind
        ctypes.CDLL(None).umount2(os.fsencode(path), 0)
        if is_mounted(path):
            subprocess.run(["fusermount3", "-u", "-z", str(path)], check=False)
        with os.fdopen(read, "rb") as pipe:
            state = pickle.load(pipe)
        os.waitpid(pid, 0)
    mount.calls, mount.callers, mount.contents, mount.failures = state


def _serve(view: MemoryView, path: Path, source: str, write: int) -> None:
    failures: list[str] = []
    try:
        with default_signals():
            fuse.serve(
                view,
                str(path),
                source=source,
                allow_other=False,
                ready=lambda _stop: None,
                failed=lambda error: failures.append(repr(error)),
            )
    finally:
        contents = {name: view.content(name) for name in view.names()}
        callers = [tuple(caller) for caller in view.callers]
        with os.fdopen(write, "wb") as pipe:
            pickle.dump((view.calls, callers, contents, failures), pipe)
        os._exit(0)
