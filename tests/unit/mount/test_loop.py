"""Who answers the kernel: nobody waits for what another one has asked."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import in_child
from memory_view import MemoryView
from serving import served, until

from encvault.errors import MountFailed
from encvault.mount import fuse, loop
from encvault.mount.process import default_signals

if TYPE_CHECKING:
    from encvault.mount.nodes import Attributes

SLOW = 1.5  # seconds that some requests take
SOON = 0.8  # seconds in which the others are answered, on a machine that others use too


class SlowView(MemoryView):
    """A view some of whose answers take long."""

    def attributes(self, path: str) -> Attributes:
        if path.endswith("/slow"):
            time.sleep(SLOW)
        return super().attributes(path)

    def fsync(self, handle: int) -> None:
        time.sleep(SLOW)
        super().fsync(handle)


@pytest.fixture
def view() -> SlowView:
    view = SlowView()
    view.put("/fast", b"content")
    for number in range(20):
        view.put(f"/d{number}", kind="dir", mode=0o755)  # the kernel asks one by one in a folder
        view.put(f"/d{number}/slow")
    return view


def in_threads(function: object, arguments: list[Path]) -> list[threading.Thread]:
    threads = [threading.Thread(target=function, args=(one,)) for one in arguments]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


def write_durably(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"x")
        os.fsync(file.fileno())


@pytest.mark.parametrize("call", ["stat", "fsync"])
@pytest.mark.parametrize("others", [1, 5])
def test_a_request_that_takes_long_is_waited_for_by_nobody_else(
    view: SlowView, tmp_path: Path, call: str, others: int
) -> None:
    with served(view, tmp_path / "mnt") as mount:
        if call == "stat":
            paths = [mount.path / f"d{number}/slow" for number in range(others)]
            threads = in_threads(Path.stat, paths)
        else:
            threads = in_threads(
                write_durably, [mount.path / f"new{number}" for number in range(others)]
            )
        time.sleep(0.2)
        began = time.monotonic()
        assert (mount.path / "fast").read_bytes() == b"content"
        assert time.monotonic() - began < SOON
        assert all(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join()
    assert not mount.failures


def test_more_requests_that_take_long_than_there_are_threads(
    view: SlowView, tmp_path: Path
) -> None:
    with served(view, tmp_path / "mnt") as mount:
        began = time.monotonic()
        threads = in_threads(Path.stat, [mount.path / f"d{number}/slow" for number in range(20)])
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 3 * SLOW, "twelve at a time"
        assert (mount.path / "fast").read_bytes() == b"content"
    assert not mount.failures


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_when_what_was_asked_is_answered(
    view: SlowView, tmp_path: Path, number: signal.Signals
) -> None:
    with served(view, tmp_path / "mnt") as mount:
        threads = in_threads(Path.stat, [mount.path / "d1/slow", mount.path / "d2/slow"])
        time.sleep(0.3)
        os.kill(mount.pid, number)
        for thread in threads:
            thread.join()
        until(lambda: not os.path.ismount(mount.path), "its end")
    assert not mount.failures


def test_a_signal_as_soon_as_it_is_mounted_leaves_no_mount(view: SlowView, tmp_path: Path) -> None:
    for attempt in range(20):
        with served(view, tmp_path / f"mnt{attempt}") as mount:
            os.kill(mount.pid, signal.SIGTERM)
            until(lambda path=mount.path: not os.path.ismount(path), "its end")
        assert not mount.failures


def test_a_signal_ends_it_though_another_one_is_blocked(view: SlowView, tmp_path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {loop._WAKING})
    try:
        with served(view, tmp_path / "mnt") as mount:
            os.kill(mount.pid, signal.SIGTERM)
            until(lambda: not os.path.ismount(mount.path), "its end")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {loop._WAKING})


def test_a_signal_that_is_ignored_stays_ignored(view: SlowView, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with served(view, tmp_path / "mnt") as mount:
            os.kill(mount.pid, signal.SIGHUP)
            time.sleep(0.3)
            assert (mount.path / "fast").read_bytes() == b"content"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_does_not_cut_short_what_is_done_at_the_end(
    view: SlowView, tmp_path: Path
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    pid = os.fork()
    if pid == 0:
        with default_signals():
            fuse.serve(
                view,
                str(path),
                source="/vault",
                allow_other=False,
                ready=lambda stop: stop(),
                failed=lambda _error: None,
            )
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
            is_as_before = signal.getsignal(loop._WAKING) == signal.SIG_DFL
            os._exit(17 if is_as_before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 17


@pytest.mark.parametrize("is_refused", [False, True])
def test_all_is_answered_where_there_are_no_more_threads(
    view: SlowView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_refused: bool
) -> None:
    start = loop.Loop._start

    def refuse(one: loop.Loop) -> None:
        if one._threads:
            raise RuntimeError("can't start new thread")
        start(one)

    if is_refused:
        monkeypatch.setattr(loop.Loop, "_start", refuse)
    else:
        monkeypatch.setattr(loop, "_THREADS", 1)
    with served(view, tmp_path / "mnt") as mount:
        threads = in_threads(Path.stat, [mount.path / "d1/slow", mount.path / "d2/slow"])
        write_durably(mount.path / "new")
        assert (mount.path / "fast").read_bytes() == b"content"
        for thread in threads:
            thread.join()
    assert mount.contents["/new"] == b"x"
    assert not mount.failures


@pytest.mark.parametrize("refused", ["ready", "thread"])
def test_what_cannot_begin_is_told_and_leaves_no_mount(
    view: SlowView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()

    def refuse(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    def serve() -> None:
        with default_signals():
            if refused == "thread":
                monkeypatch.setattr(threading.Thread, "start", refuse)
            fuse.serve(
                view,
                str(path),
                source="/vault",
                allow_other=False,
                ready=refuse,
                failed=lambda _error: None,
            )

    with pytest.raises((RuntimeError, MountFailed), match="can't start new thread"):
        in_child(serve)
    assert not os.path.ismount(path)


def test_what_serves_does_nothing_while_nobody_asks(view: SlowView, tmp_path: Path) -> None:
    with served(view, tmp_path / "mnt") as mount:
        (mount.path / "fast").read_bytes()
        time.sleep(2 * loop._BUSY)
        before = switches(mount.pid)
        time.sleep(1)
        assert switches(mount.pid) - before <= 1, "nor does its laptop's battery"
        assert (mount.path / "fast").read_bytes() == b"content"


def switches(pid: int) -> int:
    """How often its threads have waited for something."""
    found = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        match = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)
        assert match is not None
        found += int(match[1])
    return found
