"""Record what is done: the one writer of a log. docs/log-format.md sections 5 and 6."""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import os
import platform
import stat
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, NamedTuple

from encvault.about import __version__
from encvault.accesslog.epochs import DAYS, KEY, POLICY, Seed, enrol
from encvault.accesslog.events import VERSION
from encvault.accesslog.writing import Members, Turn
from encvault.errors import (
    AccessLogError,
    ClockWrong,
    LogBusy,
    LogDamaged,
    LogUnavailable,
)
from encvault.fs import calls, durable, locks
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.tlog.reading import CHECKPOINT, CHECKPOINTS, ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from encvault.accesslog.redaction import PathForm

if sys.platform != "win32":
    import pwd

LOCK = "lock"

_PATIENCE = 60.0  # seconds to wait for other writers
_NO_LOGIN = 4_294_967_295
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_EARLIEST = date(2026, 1, 1)  # a clock that is before this program has lost its time
# what a run that was killed while it made a log may have left
_OWN_NAMES = frozenset({LOCK, KEY, ENTRIES, CHECKPOINTS, CHECKPOINT})


class Clock:
    """What time it is. Tests have their own."""

    def now(self) -> datetime:
        """The time of day, aware."""
        return datetime.now(UTC)

    def boot(self) -> str:
        """What the system calls this run of it, or ""."""
        return _boot_id()

    def up_ms(self) -> int:
        """Milliseconds since it booted, those asleep included where that is known."""
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.clock_gettime_ns(clock) // 1_000_000


def now_of(clock: Clock) -> dict[str, str | int]:
    """The members that say when something is recorded."""
    wall = clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"ts": wall, "boot": clock.boot(), "up_ms": clock.up_ms()}


def _proc(name: str) -> str:
    try:
        with open(f"/proc/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


@functools.cache
def _boot_id() -> str:
    return _proc("sys/kernel/random/boot_id")


def _own_uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def user_of(uid: int) -> dict[str, str | int]:
    """The members that say who a user is.

    Args:
        uid: his number here. Recorded is that outside of a user namespace, where everybody may be
            called 0, and the name that the system has for it, or else the number again.
    """
    for line in _proc("self/uid_map").splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            uid += outside - inside
            break
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, NameError, OverflowError):
        name = str(uid)
    return {"user": name, "uid": uid}


def user_name() -> str:
    """The name of the user who runs this process, as the system says; his number if it has none."""
    return str(user_of(_own_uid())["user"])


def login_of(process: str) -> dict[str, str | int]:
    """The member that says who a process belonged to at login, if the system keeps that.

    Args:
        process: its number, or ``self``.
    """
    login = _proc(f"{process}/loginuid")
    if login.isdecimal() and int(login) != _NO_LOGIN:
        return {"login": int(login)}
    return {}


def _who() -> dict[str, str | int]:
    """The members that say who runs this process."""
    return {
        "v": VERSION,
        **user_of(_own_uid()),
        "host": platform.node(),
        "pid": os.getpid(),
        "run": base64.b32encode(os.urandom(5)).decode().lower(),
        "tool": f"encvault {__version__}",
        **login_of("self"),
    }


class Recorded(NamedTuple):
    """Where events were recorded.

    Attributes:
        log_id: 26 characters.
        checkpoint: the note over them, as bytes.
        made: whether the log was made for them.
    """

    log_id: str
    checkpoint: bytes
    made: bool


@dataclass(slots=True)
class AccessLog:
    """A log to record in. It holds nothing open between two calls.

    Attributes:
        path: its folder, which is made when something is recorded first.
        paths: what is recorded of paths.
        required: whether what cannot be recorded must not happen; who records decides by it.
        days: for how many days a log that is made gets keys.
        clock: tells the time.
    """

    path: str
    paths: PathForm = "full"
    required: bool = True
    days: int = field(default_factory=lambda: DAYS)
    clock: Clock = field(default_factory=Clock)
    _who: dict[str, str | int] = field(default_factory=dict, repr=False)
    _is_untold: bool = field(default=False, repr=False)

    @property
    def settings(self) -> str:
        """The settings in the words of a ``config`` entry."""
        return f"paths={self.paths} required={'yes' if self.required else 'no'}"

    def record(self, events: Sequence[Members], **common: str | int) -> Recorded:
        """Record events; durable and signed on return.

        Args:
            events: the members that each has of its own, ``op`` and ``outcome`` among them or
                among the common ones; paths are absolute.
            common: members of all of them.

        Raises:
            LogUnavailable, LogBusy: nothing was recorded.
            LogDamaged: the log is not what was signed.
            LogExhausted: there is no key for today.
        """
        with self._reported():
            made = self._made() or self._is_untold
            self._is_untold = False
            with Tree(self.path) as tree, _alone(tree):
                shared = now_of(self.clock) | self._self()
                turn = Turn(tree, shared, self.paths, self.settings)
                checkpoint = turn.record(events, common)
        return Recorded(turn.log_id, checkpoint, made)

    def begin(self) -> bool:
        """Make the log, unless there is one.

        Returns:
            Whether it was made.

        Raises:
            LogUnavailable, LogBusy, LogDamaged, LogExhausted: see `record`.
        """
        with self._reported():
            if not self._made():
                return False
        self.record([])
        return True

    def ready(self) -> None:
        """Prove that something can be recorded, as far as that shows without doing so.

        Raises:
            LogUnavailable, LogBusy, LogDamaged, ClockWrong: it cannot.
        """
        with self._reported():
            self._is_untold = self._made() or self._is_untold
            with Tree(self.path) as tree:
                for name in (LOCK, ENTRIES, CHECKPOINTS):
                    os.close(os.open(name, os.O_RDWR | _NOFOLLOW, dir_fd=tree.fd))
                room = os.fstatvfs(tree.fd)
                if not (room.f_bfree if self._self()["uid"] == 0 else room.f_bavail):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _made(self) -> bool:
        """Make the folder, keys and files of a log that has none."""
        if os.path.lexists(os.path.join(self.path, POLICY)):
            return False
        today = self.clock.now().astimezone(UTC).date()
        if today < _EARLIEST:
            raise ClockWrong(path=self.path, today=today.isoformat())
        is_new = not os.path.lexists(self.path)
        with Tree.made(self.path) as tree:
            if is_new:
                os.fchmod(tree.fd, 0o700)
            try:
                self._check_place(tree)
            except AccessLogError:
                if tree.exists(POLICY):  # somebody made it just now
                    return False
                raise
            with _alone(tree):
                if tree.exists(POLICY):
                    return False
                seed, epochs = enrol(today, self.days)
                with seed.value:
                    seed.store(tree)
                for name in (ENTRIES, CHECKPOINTS):
                    os.close(calls.open_update(tree.fd, name))
                durable.write_file(
                    tree,
                    "",
                    POLICY,
                    epochs.policy.encode(),
                    file_id=durable.stable_id(POLICY),
                    mode=0o644,
                    replace=False,
                )
        return True

    def _check_place(self, tree: Tree) -> None:
        """Refuse a folder that is somebody's for something else, or that others can write to."""
        for name in (ENTRIES, CHECKPOINTS, CHECKPOINT):
            if tree.exists(name) and tree.status(name).st_size:
                raise LogDamaged(path=self.path, reason=_("its policy is missing"))
        status = os.fstat(tree.fd)
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise LogUnavailable(path=self.path, reason=_("others may write to the folder"))
        if hasattr(os, "geteuid") and os.geteuid() not in (0, status.st_uid):
            raise LogUnavailable(path=self.path, reason=_("the folder is another user's"))
        for name in sorted(os.listdir(tree.fd)):
            if name not in _OWN_NAMES and not durable.is_temporary(name):
                reason = _("{name} lies in the folder, and is not of a log").format(name=name)
                raise LogUnavailable(path=self.path, reason=reason)
        if tree.exists(KEY) and tree.status(KEY).st_size:
            try:
                Seed.load(tree).value.wipe()
            except ValueError:
                reason = _("{name} lies in the folder, and is not of a log").format(name=KEY)
                raise LogUnavailable(path=self.path, reason=reason) from None

    def _self(self) -> dict[str, str | int]:
        if self._who.get("pid") != os.getpid():  # another process, after a fork
            self._who = _who()
        return self._who

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise LogBusy(path=self.path) from None
        except OSError as error:
            place = self.path
            if isinstance(error.filename, str) and os.path.isdir(self.path):
                place = os.path.join(self.path, error.filename)
            raise LogUnavailable(path=place, reason=system_reason(error)) from None


@contextlib.contextmanager
def _alone(tree: Tree) -> Iterator[None]:
    """Be the only writer, in a folder without what killed ones left beside the log.

    Raises:
        TimeoutError, OSError: see `locks.alone`.
    """
    with locks.alone(tree, LOCK, _PATIENCE):
        Seed.wipe_leftover(tree)
        durable.clean(tree, "")
        yield
