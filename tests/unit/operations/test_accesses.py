"""Each access through a mount is recorded once, and durably before anything is given out."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from accessing import (
    ME,
    PATIENCE,
    SLOT,
    VAULT,
    caller,
    file,
    held,
    in_threads,
    no_space,
    probed,
    signed,
    turns,
    until,
)
from logs import notes_of

from encvault.accesslog.log import AccessLog
from encvault.errors import LogUnavailable
from encvault.mount.nodes import Access
from encvault.operations import accesses as module, callers
from encvault.operations.accesses import Accesses
from encvault.operations.callers import process_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


# -- what is said ---------------------------------------------------------------------------


def test_a_file_that_is_opened(
    accesses: Accesses, log: AccessLog, vault: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    log.record([{"op": "mount", "outcome": "ok"}])
    cat = start()
    accesses.opened(file(1), caller(cat))
    mount, entry = signed(log)
    assert entry == mount | {
        "op": "read",
        "path": f"{os.path.realpath(vault)}/客户/1.xlsx",
        "file": file(1).file,
        "size": 7,
        "vault": VAULT,
        "slot": SLOT,
        "pid": cat.pid,
        "program": os.path.realpath(str(shutil.which("cat"))),
    }
    assert accesses.recorded is not None
    assert accesses.recorded.checkpoint == notes_of(Path(log.path))[-1]


def test_what_is_not_known_is_left_out(log: AccessLog, vault: Path) -> None:
    accesses = Accesses(log, str(vault), VAULT, None, pytest.fail)
    accesses.opened(Access("", "", None), ME)
    (entry,) = signed(log)
    assert entry["path"] == os.path.realpath(vault)
    assert not entry.keys() & {"file", "size", "slot"}
    accesses.close()


def test_files_that_are_not_sealed_yet_are_told_apart_whatever_they_are_called(
    accesses: Accesses, log: AccessLog
) -> None:
    for number in (1, 2, 1):
        accesses.opened(Access("same", "", 7, number), ME)
    assert [entry["path"].endswith("/same") for entry in signed(log)] == [True, True]


def test_the_user_is_the_callers(accesses: Accesses, log: AccessLog) -> None:
    accesses.opened(file(1), ME._replace(uid=1))
    accesses.opened(file(1), ME._replace(uid=4_000_000))
    found = [(entry["user"], entry["uid"]) for entry in signed(log)]
    assert found == [("daemon", 1), ("4000000", 4_000_000)]


def test_the_login_is_the_callers(
    log: AccessLog, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers._login.cache_clear()
    logins = {"self/loginuid": "1000", f"{os.getpid()}/loginuid": "1001"}
    monkeypatch.setattr("encvault.accesslog.log._proc", lambda name: logins.get(name, ""))
    accesses = Accesses(log, str(vault), VAULT, SLOT, pytest.fail)
    log._who.clear()
    accesses.saving([("write", file(0), None, "")])
    accesses.opened(file(1), ME)
    accesses.close()
    logins[f"{os.getpid()}/loginuid"] = "4294967295"
    callers._login.cache_clear()  # as of another process
    accesses = Accesses(log, str(vault), VAULT, SLOT, pytest.fail)
    accesses.opened(file(2), ME)
    accesses.close()
    assert [entry.get("login") for entry in signed(log)] == [1000, 1001, None]


def test_a_thread_is_its_process(
    accesses: Accesses, log: AccessLog, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    code = (
        "import threading as t; "
        "print(*[t.Thread(target=input) for _ in [0]][0].start() or "
        "[x.native_id for x in t.enumerate() if x is not t.main_thread()], flush=True)"
    )
    python = start(sys.executable, "-c", code)
    assert python.stdout is not None
    thread = int(python.stdout.readline())
    assert thread != python.pid
    accesses.opened(file(1), caller(python)._replace(pid=thread))
    accesses.opened(file(1), caller(python))
    (entry,) = signed(log)
    assert entry["pid"] == python.pid


@pytest.mark.parametrize("form", ["name", "hmac"])
def test_of_a_program_there_is_the_name_where_paths_are_not_told(
    log: AccessLog, vault: Path, form: Any, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    log.paths = form
    accesses = Accesses(log, str(vault), VAULT, SLOT, pytest.fail)
    accesses.opened(file(1), caller(start()))
    accesses.close()
    (entry,) = signed(log)
    assert entry["program"] == os.path.basename(os.path.realpath(str(shutil.which("cat"))))
    assert "客户" not in entry["path"]


# -- once, or again -------------------------------------------------------------------------


def test_once_for_each_file_process_and_program(
    accesses: Accesses, log: AccessLog, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    shell, cat = start("sh", "-c", "read line; exec cat"), start()
    for _again in range(3):
        for number in (1, 2):
            accesses.opened(file(number), caller(shell))
            accesses.opened(file(number), caller(cat))
    assert len(signed(log)) == 4
    assert shell.stdin is not None
    before = Path(f"/proc/{shell.pid}/exe").readlink()
    shell.stdin.write(b"\n")
    shell.stdin.flush()
    until(lambda: Path(f"/proc/{shell.pid}/exe").readlink() != before)
    accesses.opened(file(1), caller(shell))
    assert len({entry["program"] for entry in signed(log) if entry["pid"] == shell.pid}) == 2
    accesses.opened(file(1), caller(cat)._replace(uid=1))
    assert len(signed(log)) == 6


def test_a_process_that_cannot_be_told_from_others_is_recorded_each_time(
    accesses: Accesses, log: AccessLog
) -> None:
    for number in range(20):
        accesses.opened(file(number % 2), ME._replace(pid=0))
    assert len(signed(log)) == 20
    assert {(entry["pid"], entry.get("program")) for entry in signed(log)} == {(0, None)}


def test_what_is_forgotten_is_recorded_again(
    accesses: Accesses, log: AccessLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_KNOWN", 2)
    monkeypatch.setattr(module, "_MAX_READERS", 1)
    for number in (1, 2, 3, 2, 3, 1):
        accesses.opened(file(number), ME)
    assert [int(entry["file"]) for entry in signed(log)] == [1, 2, 3, 1]
    accesses.opened(file(1), ME._replace(uid=1))
    assert len(accesses._readers) == 1


# -- durable first --------------------------------------------------------------------------


def test_it_is_durable_before_the_file_is_given_out(accesses: Accesses, log: AccessLog) -> None:
    order: list[str] = []

    def probe(name: str, fd: int, _target: str) -> None:
        if name in ("write_at", "fsync"):
            order.append(f"{name} {Path(f'/proc/self/fd/{fd}').readlink().name}")

    with probed(probe):
        accesses.opened(file(1), ME)
        order.append("given out")
        accesses.opened(file(1), ME)
        order.append("given out")
    assert [step for step in order if "entries" in step or "checkpoints" in step] == [
        "write_at entries",
        "fsync entries",
        "write_at checkpoints",
        "fsync checkpoints",
    ]
    assert order.index("fsync checkpoints") < order.index("given out")
    assert order[-1] == "given out"


def test_another_thread_waits_for_the_same_entry(accesses: Accesses, log: AccessLog) -> None:
    given: list[int] = []

    def task(number: int) -> None:
        accesses.opened(file(1), ME)
        given.append(number)

    with held(log):
        threads = in_threads(3, task)
        for thread in threads:
            thread.join(0.05)
        assert given == []
    for thread in threads:
        thread.join(PATIENCE)
    assert len(given) == 3
    assert len(signed(log)) == 1


def test_who_waits_at_the_same_time_shares_a_turn(
    accesses: Accesses, log: AccessLog, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    before = turns(log)
    processes = [start() for _process in range(20)]

    def task(number: int) -> None:
        accesses.opened(file(number), caller(processes[number]))
        own = [entry for entry in signed(log) if entry["pid"] == processes[number].pid]
        assert len(own) == 1

    failed: list[object] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        with held(log):
            threads = in_threads(20, task)
            until(lambda: len(accesses._known) == 20)
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        threading.excepthook = hook
    assert failed == []
    assert len(signed(log)) == 20
    assert turns(log) - before <= 2


# -- changes --------------------------------------------------------------------------------


def test_changes_are_recorded_in_one_turn(
    accesses: Accesses,
    log: AccessLog,
    vault: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    cat = start()
    before = turns(log)
    accesses.saving(
        [
            ("write", file(1), process_of(caller(cat)), ""),
            ("remove", Access("b", "x" * 26, None), None, ""),
            ("rename", Access("c", "y" * 26, 5), None, "d/e"),
            ("write", file(1), process_of(caller(cat)), ""),
        ]
    )
    assert turns(log) - before == 1
    write, remove, rename, again = signed(log)
    assert write == again
    assert (write["op"], write["pid"], write["size"]) == ("write", cat.pid, 7)
    assert (remove["op"], remove["pid"]) == ("remove", os.getpid())
    assert not remove.keys() & {"program", "to", "size"}
    top = os.path.realpath(vault)
    assert (rename["op"], rename["path"], rename["to"]) == ("rename", f"{top}/c", f"{top}/d/e")
    accesses.saving([])
    assert turns(log) - before == 1


def test_a_change_that_cannot_be_recorded_is_told_at_the_end(
    accesses: Accesses, log: AccessLog
) -> None:
    with probed(no_space):
        accesses.saving([("write", file(1), process_of(ME), "")])
        accesses.saving([("write", file(2), process_of(ME), "")])
    accesses.saving([("write", file(3), process_of(ME), "")])
    assert [int(entry["file"]) for entry in signed(log)] == [3]
    with pytest.raises(LogUnavailable):
        accesses.close()
    accesses.close()


# -- begin and end --------------------------------------------------------------------------


def test_without_a_log(vault: Path) -> None:
    accesses = Accesses(None, str(vault), VAULT, SLOT, pytest.fail)
    accesses.opened(file(1), ME)
    accesses.saving([("write", file(1), process_of(ME), "")])
    accesses.close()
    assert threading.active_count() == 1


def test_it_can_be_used_after_a_fork_and_after_it_was_closed(log: AccessLog, vault: Path) -> None:
    accesses = Accesses(log, str(vault), VAULT, SLOT, print)
    assert threading.active_count() == 1
    child = os.fork()
    if not child:
        code = 1
        try:
            accesses.opened(file(1), ME)
            accesses.close()
            accesses.opened(file(2), ME)
            accesses.close()
            code = threading.active_count() - 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert [int(entry["file"]) for entry in signed(log)] == [1, 2]


def test_a_log_that_begins_is_told(vault: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    accesses = Accesses(AccessLog(str(tmp_path / "new")), str(vault), VAULT, SLOT, notes.append)
    accesses.opened(file(1), ME)
    accesses.opened(file(2), ME)
    accesses.close()
    assert [note.partition(";")[0] for note in notes] == [
        f"accesses are recorded from now on in {tmp_path / 'new'}"
    ]
