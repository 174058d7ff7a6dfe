"""Who opens many files is covered by one entry; what cannot be recorded is not given out."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

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
    is_bulk,
    no_space,
    open_many,
    probed,
    signed,
    signed_or_none,
    turns,
    until,
)

from encvault.accesslog.audit import Verdict
from encvault.accesslog.verifying import verify
from encvault.errors import AccessLogError, LogBusy, LogUnavailable
from encvault.fs import calls
from encvault.operations import accesses as module
from encvault.operations.accesses import Accesses

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from logs import Days

    from encvault.accesslog.log import AccessLog


# -- many files -----------------------------------------------------------------------------


def test_who_opens_many_files_gets_one_entry_first(
    accesses: Accesses, log: AccessLog, vault: Path
) -> None:
    before = turns(log)
    open_many(accesses, 8)
    assert turns(log) - before == 8
    assert not any(map(is_bulk, signed(log)))
    open_many(accesses, 1, first=8)
    found = signed(log)
    assert [int(entry.get("file", -1)) for entry in found] == [*range(8), -1, 8]
    bulk = found[8]
    assert (bulk["op"], bulk["path"], bulk["vault"]) == ("read", os.path.realpath(vault), VAULT)
    assert bulk.keys() & {"file", "size"} == set()
    assert (bulk["pid"], bulk["program"]) == (os.getpid(), os.path.realpath(sys.executable))
    with held(log):
        open_many(accesses, 500, first=9)  # none of them waits
    accesses.close()
    found = signed(log)
    assert [int(entry["file"]) for entry in found if not is_bulk(entry)] == [*range(509)]
    assert len(found) == 510
    assert turns(log) - before < 20
    assert verify(log.path).verdict is Verdict.OK_UNANCHORED


def test_the_files_of_many_are_recorded_within_a_second_or_so(
    accesses: Accesses, log: AccessLog
) -> None:
    open_many(accesses, 30)
    until(lambda: len(signed(log)) == 31)


def test_the_entry_for_all_holds_for_a_minute(
    accesses: Accesses, log: AccessLog, clock: Days
) -> None:
    open_many(accesses, 9)
    clock.pass_(seconds=59)
    open_many(accesses, 9, first=9)
    clock.pass_(seconds=1)
    open_many(accesses, 1, first=18)
    assert is_bulk(signed(log)[8])
    assert sum(map(is_bulk, signed(log))) == 2
    clock.pass_(seconds=120)  # it has rested
    before = turns(log)
    open_many(accesses, 8, first=19)
    assert turns(log) - before == 8
    assert sum(map(is_bulk, signed(log))) == 2


def test_few_files_at_a_time_are_never_many(
    accesses: Accesses, log: AccessLog, clock: Days
) -> None:
    for first in range(0, 32, 8):
        open_many(accesses, 8, first)
        clock.pass_(seconds=60)
    assert len(signed(log)) == 32
    assert not any(map(is_bulk, signed(log)))


def test_the_entry_for_all_is_of_one_process(
    accesses: Accesses, log: AccessLog, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    open_many(accesses, 20)
    cat = start()
    accesses.opened(file(0), caller(cat))
    assert [int(entry["file"]) for entry in signed(log) if entry["pid"] == cat.pid] == [0]
    accesses.opened(file(0), ME._replace(uid=1))
    assert [int(entry["file"]) for entry in signed(log) if entry["uid"] == 1] == [0]


def test_the_entry_for_all_is_durable_before_anything_is_given_out_under_it(
    accesses: Accesses, log: AccessLog
) -> None:
    open_many(accesses, 8)
    given: list[int] = []

    def task(number: int) -> None:
        accesses.opened(file(100 + number), ME)
        assert any(map(is_bulk, signed(log)))
        given.append(number)

    with held(log):
        threads = in_threads(10, task)
        for thread in threads:
            thread.join(0.01)
        assert given == []
    for thread in threads:
        thread.join(PATIENCE)
    assert len(given) == 10
    assert sum(map(is_bulk, signed(log))) == 1


def test_who_is_covered_waits_if_too_much_waits_to_be_recorded(
    accesses: Accesses, log: AccessLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_many(accesses, 9)
    monkeypatch.setattr(module, "_MAX_WAITING", 3)
    with held(log):
        (thread,) = in_threads(1, lambda _number: open_many(accesses, 5, first=9))
        until(lambda: len(accesses._known) == 13)
        thread.join(0.05)
        assert thread.is_alive()
        assert len(accesses._known) == 13
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("step", range(3, 260, 8))
def test_killed_at_any_moment_all_that_was_given_out_is_covered(
    log: AccessLog, vault: Path, step: int
) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        count = 0

        def probe(_name: str, _fd: int, _target: str) -> None:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

        calls.probe = probe
        accesses = Accesses(log, str(vault), VAULT, SLOT, print)
        for number in range(200):
            accesses.opened(file(number), ME._replace(pid=os.getpid()))
            os.write(write, b"%d\n" % number)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        given = [int(line) for line in pipe]
    os.waitpid(child, 0)
    found = signed(log)
    own = {int(entry["file"]) for entry in found if "file" in entry}
    assert set(given[:8]) <= own
    assert set(given) <= own or any(map(is_bulk, found))
    log.record([{"op": "scan", "outcome": "ok"}])
    assert verify(log.path).verdict is Verdict.OK_UNANCHORED


# -- a log that is broken -------------------------------------------------------------------


def refuse(log: AccessLog, accesses: Accesses, number: int) -> type[AccessLogError]:
    with pytest.raises(AccessLogError) as caught:
        accesses.opened(file(number), ME)
    return type(caught.value)


def test_what_cannot_be_recorded_is_not_given_out(accesses: Accesses, log: AccessLog) -> None:
    with probed(no_space):
        assert refuse(log, accesses, 1) is LogUnavailable
        assert refuse(log, accesses, 1) is LogUnavailable
    assert signed_or_none(log) == []
    accesses.opened(file(1), ME)
    assert len(signed(log)) == 1
    accesses.close()  # who was refused knows; nothing was lost


def test_a_log_that_is_busy(
    accesses: Accesses, log: AccessLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encvault.accesslog.log._PATIENCE", 0.01)
    with held(log):
        assert refuse(log, accesses, 1) is LogBusy


def test_a_log_that_is_gone(accesses: Accesses, log: AccessLog) -> None:
    shutil.rmtree(log.path)
    Path(log.path).write_text("in the way")
    assert refuse(log, accesses, 1) is LogUnavailable


def test_each_thread_that_waits_is_told(accesses: Accesses, log: AccessLog) -> None:
    caught: list[AccessLogError] = []

    def task(number: int) -> None:
        try:
            accesses.opened(file(number), ME)
        except AccessLogError as error:
            caught.append(error)

    with probed(no_space):
        for thread in in_threads(20, task):
            thread.join(PATIENCE)
    assert len({id(error) for error in caught}) == 20


def test_who_was_covered_is_refused_while_the_log_is_broken(
    accesses: Accesses, log: AccessLog
) -> None:
    open_many(accesses, 12)
    with probed(no_space):
        until(lambda: accesses._is_failing)
        assert refuse(log, accesses, 12) is LogUnavailable
    accesses.opened(file(13), ME)
    accesses.close()
    # what had been given out is recorded now, and what was refused is not
    assert {int(entry["file"]) for entry in signed(log) if "file" in entry} == {*range(12), 13}


def test_an_entry_for_all_that_was_not_recorded_covers_nothing(
    accesses: Accesses, log: AccessLog
) -> None:
    open_many(accesses, 8)
    with probed(no_space):
        refuse(log, accesses, 8)
    for number in (9, 10):
        accesses.opened(file(number), ME)
        assert sum(map(is_bulk, signed(log))) == 1


def test_what_was_given_out_and_cannot_be_recorded_is_told_at_the_end(
    accesses: Accesses, log: AccessLog
) -> None:
    open_many(accesses, 12)
    with probed(no_space), pytest.raises(LogUnavailable):
        accesses.close()
    accesses.close()


def test_a_log_that_is_not_required(
    accesses: Accesses, log: AccessLog, notes: list[str], clock: Days
) -> None:
    log.required = False
    with probed(no_space):
        open_many(accesses, 30)
        accesses.saving([("write", file(1), None, "")])
        accesses.close()
    assert len(notes) == 1
    assert "No space left" in notes[0]
    clock.pass_(seconds=60)
    accesses.opened(file(1), ME)  # tries again, and waits for nothing meanwhile
    until(lambda: not accesses._is_failing)
    accesses.opened(file(2), ME)
    assert len(signed(log)) == 2


def test_nobody_waits_for_a_log_that_is_broken_and_not_required(
    accesses: Accesses, log: AccessLog
) -> None:
    log.required = False
    with probed(no_space):
        accesses.opened(file(1), ME)
    with held(log):
        (thread,) = in_threads(1, lambda _number: accesses.opened(file(2), ME))
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_fault_of_the_program_is_never_passed_over(accesses: Accesses, log: AccessLog) -> None:
    def probe(_name: str, _fd: int, _target: str) -> None:
        raise ZeroDivisionError

    log.required = False
    with probed(probe), pytest.raises(ZeroDivisionError):
        accesses.opened(file(1), ME)
