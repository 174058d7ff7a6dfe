"""Which process calls, as far as the system says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from encvault.mount.nodes import Caller
from encvault.operations import callers
from encvault.operations.callers import Process, process_of

ODD = "a) R 1 (b"  # what a program may call itself, to be taken for another


def of(pid: int) -> Process:
    return process_of(Caller(os.getuid(), os.getgid(), pid))


def zombie(*command: str) -> subprocess.Popen[bytes]:
    """A process that has ended, and of which the system still has the name alone."""
    process = subprocess.Popen(command)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def started_at(pid: int) -> int:
    """By ps, which reads the same in its own way: seconds since the process was started."""
    shown = subprocess.run(["ps", "-o", "etimes=", "-p", str(pid)], capture_output=True, check=True)
    return round(time.time()) - int(shown.stdout)


def test_this_process() -> None:
    found = of(os.getpid())
    assert (found.pid, found.uid) == (os.getpid(), os.getuid())
    assert found.program == os.path.realpath(sys.executable)
    assert found.is_known
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert boot + found.started / os.sysconf("SC_CLK_TCK") == pytest.approx(
        started_at(os.getpid()), abs=3
    )


def test_a_thread_is_of_its_process() -> None:
    found: list[Process] = []
    thread = threading.Thread(target=lambda: found.append(of(threading.get_native_id())))
    thread.start()
    thread.join()
    assert found == [of(os.getpid())]


def test_two_processes_of_one_program() -> None:
    one, two = (subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _process in range(2))
    assert of(one.pid).program == of(two.pid).program
    assert of(one.pid) != of(two.pid)
    for process in (one, two):
        process.communicate()


def test_whose_program_cannot_be_seen_has_a_name() -> None:
    process = zombie("true")
    assert of(process.pid).program == "[true]"
    assert of(process.pid).is_known
    process.wait()


def test_a_name_with_brackets_misleads_nobody() -> None:
    rename = f"open('/proc/self/comm', 'w').write({ODD!r})"
    plain, odd = (zombie(sys.executable, "-c", code) for code in ("", rename))
    assert of(odd.pid).program == f"[{ODD}]"
    assert 0 <= of(odd.pid).started - of(plain.pid).started < 60 * os.sysconf("SC_CLK_TCK")
    plain.wait()
    odd.wait()


@pytest.mark.parametrize("pid", [0, 2**30])
def test_a_process_that_cannot_be_seen(pid: int) -> None:
    found = of(pid)
    assert found == Process(pid, 0, "", os.getuid())
    assert not found.is_known
    assert found.members().keys() == {"user", "uid", "pid"}


def test_a_process_that_ends_while_it_is_looked_at() -> None:
    assert callers._leader(2**30, 5) == (2**30, 5)
    assert callers._read(os.getpid(), "mem") == b""  # as of one that ended: opened, not read


def test_a_program_that_was_removed_is_told_as_the_system_does(tmp_path: Path) -> None:
    copy = tmp_path / "程序"
    copy.write_bytes(Path("/bin/cat").read_bytes())
    copy.chmod(0o755)
    process = subprocess.Popen([copy], stdin=subprocess.PIPE)
    assert of(process.pid).program == str(copy)
    copy.unlink()
    assert of(process.pid).program == f"{copy} (deleted)"
    process.communicate()


def test_whose_login_it_was_is_known_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved after a program has ended tells of it all the same."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    numbers = {str(process.pid): 1001}
    monkeypatch.setattr(
        callers, "login_of", lambda pid: {"login": numbers[pid]} if pid in numbers else {}
    )
    found = of(process.pid)
    process.communicate()
    numbers[str(process.pid)] = 1002  # somebody else's process has the number
    assert found.members()["login"] == 1001
    assert "login" not in of(os.getpid()).members()
    callers._login.cache_clear()
