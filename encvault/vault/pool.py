"""Worker processes for many small files.

Per-file work in Python holds the interpreter's lock, so threads do not help; processes do. They
are forked, which starts in a millisecond and hands over keys and pinned folders without writing
them anywhere. Forking is only safe from a single-threaded process, so with other threads about,
and where there is no fork, the work runs in this process: slower, the same result.

A worker that is killed leaves nothing but temporary files, and on Linux none outlives its parent,
whose lock it would keep. A worker has no workers of its own: large files are left to this process.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

from encvault.errors import InputOutputError
from encvault.fs import calls
from encvault.i18n import _
from encvault.vault.columns import packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from multiprocessing.connection import Connection

    from encvault.fs.stamp import Stamp
    from encvault.fs.tree import Tree

Task = TypeVar("Task")
Result = TypeVar("Result")
Tick = Callable[[int], None]

BATCH_FILES = 512
_AHEAD = 2  # tasks for each worker
LARGE_SIZE = 32 << 20  # bytes
BATCH_SIZE = 16 << 20  # bytes; small files are kept in memory until they are compared
_MOST_SET_ASIDE = 8  # large files
_LONGEST_WAIT = 8  # batches, about a second; of a large file for small ones
# the parent decides what Ctrl-C means, a terminal that closes, and `timeout`, which tells all
_PARENTS_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, name)
]


def batches(
    tasks: Iterable[Task], size_of: Callable[[Task], int], most: int = BATCH_SIZE
) -> Iterator[list[Task]]:
    """Cut tasks into lists of at most `BATCH_FILES` tasks.

    Args:
        tasks: taken one by one, as they are asked for.
        size_of: a task's bytes.
        most: bytes of a list; a task that has more is one of its own.
    """
    batch: list[Task] = []
    size = 0
    for task in tasks:
        if batch and (len(batch) >= BATCH_FILES or size + size_of(task) > most):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += size_of(task)
    if batch:
        yield batch


def default_jobs() -> int:
    """One worker per processor that this process may use, at most eight."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(count or 1, 8)


class Pool(Generic[Task, Result]):
    """Runs `work` on tasks, in worker processes where that is possible and worth it.

    Args:
        work: the function; it and what it refers to are inherited by fork, tasks and results
            are pickled, lists of objects as columns. Its second argument takes the bytes done
            since it was last called, so that a large file shows progress.
        jobs: number of workers; with 1, everything runs in this process.
        tick: called in this process with those bytes.
        trees: what `work` reads or writes; each worker pins them anew (`Tree.reopen`).
        path: of what is worked on, for an error.
    """

    def __init__(
        self,
        work: Callable[[Task, Tick], Result],
        jobs: int,
        tick: Tick = lambda _size: None,
        trees: Iterable[Tree] = (),
        path: str = "encvault",
    ) -> None:
        self._path = path
        self._work = work
        self._jobs = jobs
        self._tick = tick
        self._trees = tuple(dict.fromkeys(trees))
        self._workers: dict[Connection, int] = {}
        self._may_begin: Callable[[], bool] = lambda: True

    def map(self, tasks: Iterable[Task]) -> Generator[tuple[Task, Result], None, None]:
        """Each task with its result, in the order in which they are done.

        A task is taken from `tasks` only when a worker is free, so memory stays bounded. If the
        iterator is closed early, or anything raises, the workers are killed.

        Raises:
            InputOutputError: a worker died.
        """
        waiting = iter(tasks)
        first = list(_take(waiting, 2))
        alone = len(first) < 2  # noqa: PLR2004 - one task needs no second process
        if alone or self._jobs < 2 or not self._may_fork():  # noqa: PLR2004 - likewise
            for task in itertools.chain(first, waiting):
                yield task, self._work(task, self._tick)
            return
        try:
            yield from self._map_in_workers(first, waiting)
        except BaseException:
            self._kill()
            raise
        finally:
            self._stop()

    def map_in_order(self, tasks: Iterable[Task]) -> Generator[tuple[Task, Result], None, None]:
        """Like `map`, in the order of the tasks.

        The results of at most `most_waiting` tasks wait for that of an older one, or are at work.
        """
        waiting: dict[int, tuple[Task, Result]] = {}
        numbers: dict[int, int] = {}  # of the tasks that were begun, by `id`
        oldest = 0

        def numbered() -> Iterator[Task]:
            for number, task in enumerate(tasks):
                numbers[id(task)] = number
                yield task

        most = self.most_waiting
        self._may_begin = lambda: len(numbers) + len(waiting) < most
        with contextlib.closing(self.map(numbered())) as results:
            for task, result in results:
                waiting[numbers.pop(id(task))] = task, result
                while oldest in waiting:
                    yield waiting.pop(oldest)
                    oldest += 1

    @property
    def most_waiting(self) -> int:
        """See `map_in_order`."""
        return _AHEAD * self._jobs

    @staticmethod
    def _may_fork() -> bool:
        return hasattr(os, "fork") and threading.active_count() == 1

    def _map_in_workers(
        self, first: list[Task], waiting: Iterator[Task]
    ) -> Iterator[tuple[Task, Result]]:
        from multiprocessing.connection import wait  # noqa: PLC0415 - costs 10 ms, rarely needed

        idle: list[Connection] = []
        busy: dict[Connection, Task] = {}
        while True:
            while (
                (idle or len(self._workers) < self._jobs)
                and self._may_begin()
                and (tasks := first[:1] or list(_take(waiting, 1)))
            ):
                del first[:1]
                if not idle and not self._start(idle):
                    if not self._workers:  # not even one: this process does what it can
                        yield tasks[0], self._work(tasks[0], self._tick)
                        continue
                    first[:0] = tasks  # one of those that there are does it
                    break
                connection = idle.pop()
                busy[connection] = tasks[0]
                self._send(connection, tasks[0])
            if not busy:
                return
            for ready in wait(list(busy)):
                connection = ready  # type: ignore[assignment]  # only connections were given
                answer = self._receive(connection)
                if isinstance(answer, _Done):
                    idle.append(connection)
                    yield busy.pop(connection), unpacked(answer.result)
                else:
                    self._tick(answer)

    def _start(self, idle: list[Connection]) -> bool:
        """Begin one more worker; False if the system lets us have no more."""
        from multiprocessing import Pipe  # noqa: PLC0415 - as above

        parent = os.getpid()
        ends: list[Connection] = []
        try:
            ends += Pipe()
            # a child that takes one before it ignores it would clean up as if it were the parent
            with _signals_held_back() as mask:
                pid = os.fork()
                if pid == 0:
                    others = [ends[0], *self._workers]
                    _serve(self._work, ends[1], others, self._trees, parent, mask)
                self._workers[ends[0]] = pid
        except OSError:  # as many processes or open files as may be, or no memory for more
            for end in ends:
                end.close()
            self._jobs = max(1, len(self._workers))
            return False
        ends[1].close()
        idle.append(ends[0])
        return True

    def _send(self, connection: Connection, task: Task) -> None:
        try:
            connection.send(packed(task))
        except OSError:
            self._died()

    def _receive(self, connection: Connection) -> _Done | int:
        try:
            answer = connection.recv()
        except (EOFError, OSError):
            self._died()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # `_serve` sends nothing else

    def _died(self) -> NoReturn:
        reason = _("a worker process was killed")
        raise InputOutputError(path=self._path, reason=reason) from None

    def _kill(self) -> None:
        for pid in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _stop(self) -> None:
        for connection in self._workers:
            connection.close()  # which a worker takes as its end
        for pid in self._workers.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._workers.clear()


class _Sized(Protocol):
    @property
    def stamp(self) -> Stamp: ...


File = TypeVar("File", bound=_Sized)


def in_batches(
    tasks: Iterable[File],
    work: Callable[[list[File], Tick, int], Result],
    discard: Callable[[File], None],
    *,
    jobs: int,
    tick: Tick,
    trees: Iterable[Tree],
) -> Generator[tuple[list[File], Result], None, None]:
    """Work on files in batches, and on each large one alone.

    Large files wait for a few batches at most, and only a few of them wait: one that is written to
    all day must not have to stay as it was for the length of a run. (For the walk over files that
    need no work it does wait.)

    Args:
        tasks: taken one by one, as they are asked for.
        work: as of a `Pool`; its last argument is how many workers it may have itself.
        discard: takes away what a task left behind. It is called, when the workers are gone, for
            those that are not done if this generator is closed early, or anything raises.
        jobs: as of a `Pool`.
        tick: likewise.
        trees: likewise.

    Yields:
        Each batch with its result; it is done when the next one is asked for.
    """
    waiting = iter(tasks)
    in_flight: dict[int, list[File]] = {}

    def begun(lists: Iterable[list[File]]) -> Iterator[list[File]]:
        for batch in lists:
            in_flight[id(batch)] = batch
            yield batch

    def results() -> Generator[tuple[list[File], Result], None, None]:
        def alone(batch: list[File], tick: Tick) -> Result:
            return work(batch, tick, 1)

        while first := list(_take(waiting, 1)):
            large: list[File] = []
            part = itertools.chain(first, waiting)
            small = part if jobs == 1 else _until_large(part, large)
            lists = begun(batches(small, lambda task: task.stamp.size))
            with contextlib.closing(Pool(alone, jobs, tick, trees).map(lists)) as done:
                yield from done
            for batch in begun([task] for task in large):
                yield batch, work(batch, tick, jobs)

    try:
        with contextlib.closing(results()) as done:
            for batch, result in done:
                yield batch, result
                del in_flight[id(batch)]
    finally:
        with _uninterrupted():  # a second Ctrl-C would leave what the first one cleans up
            for batch in in_flight.values():
                for task in batch:
                    discard(task)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[set[signal.Signals | int]]:
    """Take what asks the parent to stop afterwards only. Gives the mask that there was."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Take Ctrl-C afterwards only; in another thread than the main one it never comes."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is None:  # a program around us has its own
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _until_large(tasks: Iterable[File], large: list[File]) -> Iterator[File]:
    """The small files until large ones, which go to `large`, have waited long enough for them."""
    files = size = 0
    for task in tasks:
        if task.stamp.size > LARGE_SIZE:
            large.append(task)
        else:
            if large:
                files, size = files + 1, size + task.stamp.size
            yield task
        waited = max(files / BATCH_FILES, size / BATCH_SIZE)
        if waited >= _LONGEST_WAIT or len(large) == _MOST_SET_ASIDE:
            return


class _Done(NamedTuple):
    """A worker's answer to one task, its result `packed`."""

    result: Any


def _take(tasks: Iterator[Task], count: int) -> Iterator[Task]:
    for _count in range(count):
        try:
            yield next(tasks)
        except StopIteration:
            return


def _serve(
    work: Callable[[Task, Tick], Result],
    connection: Connection,
    close: list[Connection],
    trees: tuple[Tree, ...],
    parent: int,
    mask: set[signal.Signals | int],
) -> None:
    """A worker's life: until the parent closes its end or dies."""
    try:
        calls.die_with(parent)
        for number in _PARENTS_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # a sibling's copy of our parent's end would keep us alive after the parent's death
        for other in close:
            other.close()
        for tree in trees:
            tree.reopen()
        gc.freeze()  # what came by the fork stays: looking through it copies its pages
        while True:
            task = unpacked(connection.recv())
            answer: _Done | Exception
            try:
                answer = _Done(packed(work(task, connection.send)))
            except Exception as error:  # noqa: BLE001 - the parent raises it
                answer = error
            connection.send(answer)
    except BaseException:  # noqa: BLE001, S110 - EOF: the parent is gone; there is nobody to tell
        pass
    finally:
        os._exit(0)
