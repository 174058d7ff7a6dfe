"""Processes that open files through a mount, and what the log has of them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logs import lines_of, notes_of, size_of

from encvault.fs import calls
from encvault.mount.nodes import Access, Caller

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from encvault.accesslog.log import AccessLog
    from encvault.operations.accesses import Accesses

VAULT, SLOT = "v" * 26, "s" * 26
PATIENCE = 10.0  # seconds until a test gives up


def file(number: int) -> Access:
    return Access(f"客户/{number}.xlsx", f"{number:026}", 7)


def caller(process: subprocess.Popen[bytes]) -> Caller:
    return Caller(os.getuid(), os.getgid(), process.pid)


ME = Caller(os.getuid(), os.getgid(), os.getpid())


def signed(log: AccessLog) -> list[dict[str, Any]]:
    """The entries under the last checkpoint, but those of the log itself."""
    path = Path(log.path)
    entries = [json.loads(line) for line in lines_of(path)[: size_of(notes_of(path)[-1])]]
    return [entry for entry in entries if not entry["op"].startswith(("log.", "config"))]


def turns(log: AccessLog) -> int:
    return len(notes_of(Path(log.path)))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def held(log: AccessLog) -> Iterator[None]:
    """Another writer has the log."""
    with Path(log.path, "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def probed(probe: Callable[[str, int, str], None]) -> Iterator[None]:
    calls.probe = probe
    try:
        yield
    finally:
        calls.probe = None


def no_space(name: str, _fd: int, _target: str) -> None:
    if name.startswith("write"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_threads(count: int, task: Callable[[int], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=task, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def signed_or_none(log: AccessLog) -> list[dict[str, Any]]:
    return signed(log) if notes_of(Path(log.path)) else []


def open_many(accesses: Accesses, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        accesses.opened(file(number), ME)


def is_bulk(entry: dict[str, Any]) -> bool:
    return bool(entry.get("detail") == "bulk")
