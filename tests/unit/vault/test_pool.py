"""Worker processes: results in any order, errors by name, and nobody left behind."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from encvault.errors import ChunkCorrupt, InputOutputError, VaultBusy
from encvault.fs.tree import Tree
from encvault.vault.pool import Pool, Tick, batches, default_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator


def children() -> set[int]:
    """Processes of ours, zombies included."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(map(int, text.split()))


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() == before


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ([], []),
        ([0, 0, 0, 0], [[0, 0, 0], [0]]),
        ([4, 6, 1], [[4, 6], [1]]),
        ([11, 1, 9, 1], [[11], [1, 9], [1]]),
        ([1, 99], [[1], [99]]),
    ],
)
def test_batches_have_few_files_and_few_bytes_or_one_large_file(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], cut: list[list[int]]
) -> None:
    monkeypatch.setattr("encvault.vault.pool.BATCH_FILES", 3)
    assert list(batches(sizes, lambda size: size, 10)) == cut


def square(number: int, tick: Tick) -> tuple[int, int]:
    tick(number)
    return number * number, os.getpid()


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_every_task_is_done_once_by_some_worker(jobs: int) -> None:
    ticks: list[int] = []
    done = dict(Pool(square, jobs, ticks.append).map(range(50)))
    assert {task: result for task, (result, _pid) in done.items()} == {
        number: number * number for number in range(50)
    }
    workers = {pid for _result, pid in done.values()}
    assert os.getpid() not in workers
    assert 1 < len(workers) <= jobs
    assert sorted(ticks) == list(range(50))


@dataclass(slots=True)
class Half:
    number: int
    kind: str = ""


def halve(batch: list[Half], _tick: Tick) -> list[Half]:
    assert {type(one) for one in batch} == {Half}
    return [Half(one.number // 2, f"half of {one.number}") for one in batch]


@pytest.mark.parametrize("jobs", [1, 2])
def test_lists_of_objects_go_there_and_come_back(jobs: int) -> None:
    lists = [[Half(number), Half(number + 4)] for number in range(0, 40, 8)]
    done = list(Pool(halve, jobs).map(lists))
    assert sorted(batch[0].number for batch, _result in done) == list(range(0, 40, 8))
    for batch, result in done:
        assert result == halve(batch, lambda _size: None)
        assert any(batch is one for one in lists)  # the task is the caller's own


def test_results_come_as_they_are_done(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def work(number: int, _tick: Tick) -> int:
        if number == 0:  # waits until another task has been done by the other worker
            deadline = time.monotonic() + 20
            while not gate.exists() and time.monotonic() < deadline:
                time.sleep(0.001)
        elif number == 3:
            gate.touch()
        return number

    order = [task for task, _result in Pool(work, 2).map(range(6))]
    assert sorted(order) == list(range(6))
    assert order.index(0) > order.index(2)  # whose result was there before 3 was begun


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_results_in_order_wait_for_an_older_one_but_not_without_bound(jobs: int) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    def work(number: int, _tick: Tick) -> int:
        if number % 10 == 0:
            time.sleep(0.05)
        return -number

    pool = Pool(work, jobs)
    given = 0
    for task, result in pool.map_in_order(tasks()):
        assert (task, result) == (given, -given)
        assert len(taken) - given <= max(pool.most_waiting, 2)
        given += 1
    assert given == 40


def test_tasks_are_taken_only_when_a_worker_is_free() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    results = Pool(square, 2).map(tasks())
    next(results)
    assert len(taken) <= 4
    assert len(list(results)) == 19


@pytest.mark.parametrize(("jobs", "count"), [(1, 5), (4, 1), (4, 0)])
def test_one_job_or_one_task_needs_no_second_process(jobs: int, count: int) -> None:
    done = list(Pool(square, jobs).map(range(count)))
    assert done == [(number, (number * number, os.getpid())) for number in range(count)]


@pytest.mark.parametrize("most", [0, 1, 2])
def test_where_the_system_lets_us_have_few_processes_those_do_it(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    fork, begun = os.fork, []

    def scarce() -> int:
        if len(begun) == most:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        begun.append(1)
        return fork()

    monkeypatch.setattr(os, "fork", scarce)
    done = list(Pool(square, 4).map(range(30)))
    assert sorted(task for task, _result in done) == list(range(30))
    workers = {pid for _task, (_result, pid) in done}
    assert len(workers) == max(most, 1)
    assert (os.getpid() in workers) == (most == 0)


def test_where_the_system_lets_us_open_few_files_those_workers_do_it() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pool = Pool(square, 8)
    results = pool.map(range(30))
    first = next(results)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
    try:
        rest = list(results)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sorted(task for task, _result in [first, *rest]) == list(range(30))


def test_no_more_workers_than_tasks() -> None:
    results = Pool(square, 8).map(range(3))
    before = children()
    next(results)
    assert len(children() - before) <= 3
    assert len(list(results)) == 2


def test_workers_end_with_the_process_that_began_them(tmp_path: Path) -> None:
    """They would keep its lock, and write on."""

    def work(number: int, _tick: Tick) -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60 + number)

    parent = os.fork()
    if parent == 0:
        list(Pool(work, 2).map(range(2)))
        os._exit(0)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    for path in tmp_path.iterdir():
        while Path(f"/proc/{path.name}").exists():
            state = Path(f"/proc/{path.name}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":  # dead; whoever inherits it has not looked yet
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_with_other_threads_about_everything_runs_in_this_process() -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        ticks: list[int] = []
        done = list(Pool(square, 4, ticks.append).map(range(5)))
    finally:
        stop.set()
        other.join()
    assert [pid for _task, (_result, pid) in done] == [os.getpid()] * 5
    assert ticks == list(range(5))


def test_without_fork_everything_runs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert {pid for _task, (_result, pid) in Pool(square, 4).map(range(5))} == {os.getpid()}


def test_an_error_in_a_worker_is_raised_here_with_its_fields() -> None:
    def work(number: int, _tick: Tick) -> int:
        if number == 7:
            raise ChunkCorrupt(path="x", index=number, offset=9)
        return number

    with pytest.raises(ChunkCorrupt) as caught:
        list(Pool(work, 3).map(range(1000)))
    assert caught.value.fields() == {"path": "x", "index": 7, "offset": 9}


def test_a_killed_worker_is_a_named_error() -> None:
    def work(number: int, _tick: Tick) -> int:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(InputOutputError, match="a worker process was killed"):
        list(Pool(work, 2).map(range(100)))


def test_a_worker_killed_while_it_waits_is_a_named_error() -> None:
    pool = Pool(square, 2)

    def tasks() -> Iterator[int]:
        yield 0
        yield 1
        for pid in children():  # both are idle or about to be
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        yield from range(2, 50)

    with pytest.raises(InputOutputError, match="a worker process was killed"):
        list(pool.map(tasks()))


def test_an_answer_that_cannot_be_sent_is_an_error_and_no_hang() -> None:
    def work(_number: int, _tick: Tick) -> object:
        return lambda: None  # cannot be pickled

    with pytest.raises(InputOutputError):
        list(Pool(work, 2).map(range(4)))


def test_closing_early_kills_workers_that_are_busy() -> None:
    before = children()

    def work(number: int, _tick: Tick) -> int:
        if number:
            time.sleep(60)
        return number

    results = Pool(work, 2).map(range(4))
    assert next(results) == (0, 0)
    assert len(children() - before) == 2
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 10
    assert children() == before


def test_an_error_of_the_tasks_themselves_ends_the_workers() -> None:
    def tasks() -> Iterator[int]:
        yield from range(4)
        raise VaultBusy(path="x", holder="y")

    with pytest.raises(VaultBusy):
        list(Pool(square, 2).map(tasks()))


@pytest.mark.parametrize("asks", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_concerns_the_parent_only(asks: int) -> None:
    def work(number: int, _tick: Tick) -> tuple[int, bool]:
        os.kill(os.getpid(), asks)  # as a terminal sends it to the whole group
        return number, signal.getsignal(signal.SIGTERM) is signal.SIG_IGN

    done = [result for _task, result in Pool(work, 2).map(range(6))]
    assert sorted(done) == [(number, True) for number in range(6)]


@pytest.mark.parametrize("asks", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_what_a_terminal_sends_to_a_worker_that_is_being_born_concerns_the_parent_only(
    monkeypatch: pytest.MonkeyPatch, asks: int
) -> None:
    """The child would unwind as its parent does: remove files, and give back the vault's lock."""
    parent, fork = os.getpid(), os.fork
    unwound = []

    def struck() -> int:
        if (pid := fork()) == 0:
            os.kill(os.getpid(), asks)
        return pid

    def told(_number: int, _frame: object) -> None:
        unwound.append(os.getpid())
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fork", struck)
    before = signal.signal(asks, told)
    try:
        done = list(Pool(square, 2).map(range(6)))
    finally:
        signal.signal(asks, before)
        if os.getpid() != parent:  # what must not happen must not go on into the tests' runner
            os._exit(1)
    assert sorted(task for task, _result in done) == list(range(6))
    assert unwound == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []).isdisjoint({asks})


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        results = Pool(square, 3).map(range(9))
        next(results)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    os.waitpid(pid, 0)
    # each worker holds the pipe's other end: the end of file says that all of them are gone
    assert os.read(read, 1) == b""
    os.close(read)


def test_each_worker_pins_its_trees_anew(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Tree(str(tmp_path)) as tree:
        tree.folder("")
        os.lseek(tree.fd, 0, os.SEEK_SET)

        def work(_number: int, _tick: Tick) -> tuple[bool, int]:
            return tree.exists("file"), tree.fd

        done = list(Pool(work, 2, trees=(tree, tree)).map(range(6)))
        assert all(found for _task, (found, _fd) in done)
        assert all(fd != tree.fd for _task, (_found, fd) in done)


def test_there_is_a_worker_for_each_processor_and_not_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(3)))
    assert default_jobs() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    assert default_jobs() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, jobs in ((2, 2), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert default_jobs() == jobs
