"""Which process calls, for the access log. proc(5), proc_pid_stat(5)."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.log import login_of, user_of

if TYPE_CHECKING:
    from encvault.mount.nodes import Caller

_SIZE = 4096  # bytes of what is read; each of the files is shorter
_START = 19  # "starttime" is field 22, and the first after the name in brackets is field 3
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


class Process(NamedTuple):
    """A process that runs one program for one user.

    Attributes:
        pid: its number, whichever of its threads calls.
        started: ticks from the system's boot to its start, which tell it from one that had the
            number before; 0 if they cannot be seen.
        program: path of what it runs; or else the name that it has, in brackets; or "".
        uid: the user's number here.
        login: whom it belonged to at login, or -1 if that is not known.
    """

    pid: int
    started: int
    program: str
    uid: int
    login: int = -1

    @property
    def is_known(self) -> bool:
        """Whether it can be told from every other."""
        return self.started > 0

    def members(self) -> dict[str, str | int]:
        """The members of an entry that say who it is (docs/log-format.md section 4)."""
        said = {**_user(self.uid), "pid": self.pid}
        if self.login >= 0:
            said["login"] = self.login
        return said | ({"program": self.program} if self.program else {})


def process_of(caller: Caller) -> Process:
    """The process of who calls; what cannot be seen of it is left out."""
    started = _started(caller.pid)
    if not started:
        return Process(caller.pid, 0, "", caller.uid)
    pid, started = _leader(caller.pid, started)
    try:
        # now, and not when the entry is written: it may have ended by then
        login = _login(pid, started)
    except LookupError:
        login = -1
    return Process(pid, started, _program(pid), caller.uid, login)


# that there is none is not kept: a login begins without
@functools.lru_cache(maxsize=256)
def _login(pid: int, started: int) -> int:  # noqa: ARG001 - tells it from who had the number before
    return int(login_of(str(pid))["login"])


@functools.lru_cache(maxsize=256)
def _user(uid: int) -> dict[str, str | int]:
    return user_of(uid)


def _started(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()  # a name may have brackets in it
    return int(fields[_START]) if len(fields) > _START else 0


# the kernel names the thread; it belongs to one process as long as it lives
@functools.lru_cache(maxsize=1024)
def _leader(thread: int, started: int) -> tuple[int, int]:
    """The process of a thread, and when that one was started."""
    for line in _read(thread, "status").splitlines():
        if line.startswith(b"Tgid:"):
            pid = int(line.split()[1])
            return pid, started if pid == thread else _started(pid)
    return thread, started


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:  # another user's, or a thread of the kernel
        name = os.fsdecode(_read(pid, "comm").removesuffix(b"\n"))
        return f"[{name}]" if name else ""  # as ps(1) has it: it may have named itself


def _read(pid: int, name: str) -> bytes:
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | _CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _SIZE)
    except OSError:  # it ended just now
        return b""
    finally:
        os.close(fd)
