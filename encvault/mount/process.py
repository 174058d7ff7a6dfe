"""The processes behind a mount: how one goes to the background, and how it guards its keys."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from encvault.errors import EncvaultError, MountFailed
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what takes a mount away

_PR_SET_DUMPABLE = 4  # prctl(2)
_MANY_FILES = 1 << 20
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # mlockall(2)


class Keys(Protocol):
    """Who holds keys."""

    def pin_keys(self) -> None:
        """Ask the system not to swap them out."""


class Channel:
    """Messages from a child to its parent: Python values, one way.

    Make it before the fork; then each side calls `take` or `give` and leaves the other to its end.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def give(self) -> None:
        """Be the side that sends."""
        os.close(self._read)

    def take(self) -> None:
        """Be the side that receives."""
        os.close(self._write)

    def send(self, message: Any) -> None:
        """Send a value; nobody may be listening any more."""
        with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(self._write), "wb") as pipe:
            pickle.dump(message, pipe)

    def receive(self) -> Generator[Any]:
        """The values, until the other side is gone; may be called once."""
        with os.fdopen(self._read, "rb") as pipe:
            while True:
                try:
                    yield pickle.load(pipe)  # noqa: S301 - our own child sends it
                except (EOFError, pickle.UnpicklingError):
                    return

    def close(self) -> None:
        """Be done with sending."""
        os.close(self._write)


Descriptors = dict[int, tuple[int, int]]
"""Descriptors, and what each leads to: its device and inode."""


def descriptors() -> Descriptors:
    """What is open, but the standard streams."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # what the listing itself had open
                found[int(name)] = _target(int(name))
    return {number: target for number, target in found.items() if number > 2}  # noqa: PLR2004 - stderr


def _target(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def detach(work: Callable[[Callable[[], None]], None], path: str, inherited: Descriptors) -> None:
    """Do something in a process of its own, which goes on in the background.

    What the child prints until it is ready is seen.

    Args:
        work: gets what to call when it is ready; whatever it raises before that is raised here.
        path: for messages.
        inherited: descriptors that the child must not keep: somebody may wait for their end.

    Raises:
        EncvaultError: what `work` raised.
        MountFailed: the child was killed before it was ready.
    """
    channel = Channel()
    middle = os.fork()
    if middle == 0:
        channel.give()
        try:
            os.setsid()
            if os.fork():
                os._exit(0)  # so that nobody has to wait for the other one
        except OSError as error:
            channel.send(0)
            channel.send(error)
            os._exit(1)
        _work(work, channel, inherited)
    channel.take()
    os.waitpid(middle, 0)
    pid = 0
    try:
        messages = channel.receive()
        with contextlib.closing(messages):
            pid = next(messages, 0)
            outcome = next(messages, MountFailed(path=path, reason=_("its process was killed")))
    except BaseException:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise
    if isinstance(outcome, Exception):
        raise outcome


def _work(
    work: Callable[[Callable[[], None]], None], channel: Channel, inherited: Descriptors
) -> NoReturn:
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        silence(1, 2)
        channel.send(None)
        channel.close()

    code = 0
    try:
        for number in _not_ignored():
            signal.signal(number, signal.SIG_DFL)
        channel.send(os.getpid())
        os.chdir("/")
        # their numbers stay taken: what has them for its own may close them
        silence(0, *(fd for fd, target in inherited.items() if _leads_to(fd, target)))
        work(ready)
    except BaseException as error:  # noqa: BLE001 - a child must never return into its caller
        code = 1
        if not is_ready:
            _tell(error, channel)
    finally:
        os._exit(code)


def _tell(error: BaseException, channel: Channel) -> None:
    if isinstance(error, (EncvaultError, OSError)):
        channel.send(error)
    else:
        traceback.print_exception(error)  # a bug; whoever sees it may report it


def _leads_to(descriptor: int, target: tuple[int, int]) -> bool:
    """Whether a descriptor is still what it was: its number may be another one's by now."""
    try:
        return _target(descriptor) == target
    except OSError:
        return False


def silence(*descriptors: int) -> None:
    """Connect descriptors with nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    os.close(nothing)


def guard(keys: Keys) -> None:
    """Keep what this process has in its memory out of swap and core dumps, as far as one may."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    everything = _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT
    # with a limit, every later allocation could fail
    may = os.geteuid() == 0 or limit == resource.RLIM_INFINITY
    if not may or libc.mlockall(everything) != 0:
        keys.pin_keys()


def allow_many_files() -> None:
    """Let this process have as many files open as it may; each that a program opens is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _not_ignored() -> list[signal.Signals]:
    """Those that end a process here: after nohup(1), say, not all do."""
    return [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """Let the signals that end a process do what they do in a C program; the loop then has them."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _not_ignored()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
