"""A mount that only one command and its children see.

The command runs in a mount namespace of its own: for root that is enough, for others it belongs to
a user namespace in which their number stays what it is (namespaces(7)). A process in there serves
the view, mounted over the vault's own folder, and is the command's parent. Outside nothing changes.

Processes: the caller waits, passes signals on, and returns; the *server* below it serves; the
*command* below that runs. The terminal's own signals reach the command from the terminal, and the
others pay no heed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

from encvault.errors import (
    CommandNotFound,
    CommandNotRunnable,
    EncvaultError,
    MountLost,
    NamespacesUnavailable,
)
from encvault.i18n import system_reason
from encvault.mount.process import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # unshare(2)
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # mount(2)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MNT_DETACH = 2  # umount2(2)
_PR_SET_DUMPABLE = 4  # prctl(2)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
_SILENT = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and commands must not
_SHELL_SIGNAL = 128  # what shells add to the number of the signal that ended a command


def run(
    command: Sequence[str],
    folder: str,
    serve: Callable[[Callable[[Callable[[], None]], None]], None],
    forget: Callable[[], None],
) -> int:
    """Run a command that sees a view in place of a folder.

    Args:
        command: its words.
        folder: the vault's, absolute.
        serve: is called in the server, in its main thread: it serves the view at the folder,
            calls what it gets once that is mounted, with what ends the serving from another
            thread, and returns when everything is saved.
        forget: is called here, once the server has what it needs: no keys may stay in a process
            that only waits.

    Returns:
        The command's exit code, or 128 and the number of the signal that ended it.

    Raises:
        NamespacesUnavailable: the system does not allow it.
        CommandNotFound, CommandNotRunnable: nothing was run.
        MountLost: the server was killed.
        EncvaultError: what `serve` raised.
    """
    kept = {number: signal.getsignal(number) for number in (*_FROM_TERMINAL, *_PASSED_ON)}
    channel, signals = Channel(), _Signals()
    for number in _FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    for number in _PASSED_ON:
        if kept[number] is not signal.SIG_IGN:
            signal.signal(number, signals.receive)
    try:
        server = os.fork()
        if server == 0:
            channel.give()
            _serve(command, folder, serve, channel, kept)
        forget()
        channel.take()
        return _wait(server, channel, signals, folder)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _wait(server: int, channel: Channel, signals: _Signals, folder: str) -> int:
    outcome: object = MountLost(path=folder)
    try:
        messages = channel.receive()
        with contextlib.closing(messages):
            for message in messages:
                if isinstance(message, tuple):
                    signals.pass_to(message[0])
                else:
                    outcome = message
    finally:
        os.waitpid(server, 0)
    if isinstance(outcome, int):
        return outcome
    assert isinstance(outcome, Exception)  # noqa: S101 - the server sends nothing else
    raise outcome


class _Signals:
    """Passes signals on to the command; those that come before it is there wait for it."""

    def __init__(self) -> None:
        self._command = 0
        self._early: list[int] = []

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """A signal has come."""
        if self._command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._command, number)
        else:
            self._early.append(number)

    def pass_to(self, command: int) -> None:
        """The command's process is there."""
        self._command = command
        for number in self._early:
            self.receive(number, None)


# -- the server -----------------------------------------------------------------------------


def _serve(
    command: Sequence[str],
    folder: str,
    serve: Callable[[Callable[[Callable[[], None]], None]], None],
    channel: Channel,
    kept: Mapping[signal.Signals, object],
) -> NoReturn:
    try:
        child = _Command(command, folder, kept)
        try:
            _enter_namespace()
            for _layer in range(2):  # libfuse unmounts once more, though the mount is gone already
                _cover(folder)
            child.fork()
            channel.send((child.pid,))

            def mounted(stop: Callable[[], None]) -> None:
                # the command gets nothing from the mount before this has returned
                threading.Thread(target=child.attend, args=(stop,), daemon=True).start()

            # libfuse leaves alone what is ignored
            for number in _PASSED_ON:
                signal.signal(number, signal.SIG_IGN)
            serve(mounted)
        finally:
            child.cancel()
        channel.send(child.outcome())
    except BaseException as error:  # noqa: BLE001 - a child must never return into its caller
        channel.send(error if isinstance(error, Exception) else MountLost(path=folder))
    finally:
        os._exit(0)


class _Command:
    """The command's process, which waits for the mount."""

    def __init__(
        self, words: Sequence[str], folder: str, kept: Mapping[signal.Signals, object]
    ) -> None:
        self.pid = 0
        self._words = words
        self._folder = folder
        self._kept = kept
        self._go, self._may_go = os.pipe()
        self._refusal, self._refused = os.pipe()
        self._error = b""
        self._code: int | None = None
        self._ended = threading.Event()

    def fork(self) -> None:
        """Make the process, before there are threads."""
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._may_go)
            os.close(self._refusal)
            self._exec()
        os.close(self._go)
        os.close(self._refused)

    def _exec(self) -> NoReturn:
        for number, handler in self._kept.items():
            is_ignored = handler is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
        for number in _SILENT:
            signal.signal(number, signal.SIG_DFL)
        try:
            if os.read(self._go, 1):
                self._enter()
                os.execvp(self._words[0], list(self._words))  # noqa: S606 - what was asked for
        except OSError as error:
            os.write(self._refused, str(error.errno or errno.EIO).encode())
        finally:
            os._exit(127)

    def _enter(self) -> None:
        """Be in the mounted folder if the working directory is in the one beneath."""
        try:
            here = os.getcwd()
        except OSError:
            return
        if not os.path.join(here, "").startswith(os.path.join(self._folder, "")):
            return
        try:
            os.chdir(here)
        except OSError:
            os.chdir(self._folder)

    def attend(self, stop: Callable[[], None]) -> None:
        """Let it go, wait for its end, and unmount.

        Args:
            stop: ends the serving.
        """
        with contextlib.suppress(BrokenPipeError):  # a signal was faster
            os.write(self._may_go, b"!")
        self._error = os.read(self._refusal, 20)  # closed by exec
        self._wait(stop)

    def cancel(self) -> None:
        """End the process if the command does not run yet."""
        for descriptor in (self._may_go, self._refusal):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._may_go = self._refusal = -1

    def _wait(self, stop: Callable[[], None]) -> None:
        _pid, status = os.waitpid(self.pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        self._ended.set()
        libc, path = ctypes.CDLL(None), os.fsencode(self._folder)
        if libc.umount2(path, 0) != 0:
            # what it left running in the background loses the files; what it wrote is saved
            libc.umount2(path, _MNT_DETACH)
            stop()

    def outcome(self) -> int | EncvaultError:
        """How it ended."""
        self._ended.wait()
        if self._error:
            error = OSError(int(self._error), "")
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return CommandNotFound(command=self._words[0])
            return CommandNotRunnable(command=self._words[0], reason=system_reason(error))
        code = self._code if self._code is not None else 0
        return code if code >= 0 else _SHELL_SIGNAL - code


def _enter_namespace() -> None:
    """Have mounts of our own, which nobody else sees.

    Raises:
        NamespacesUnavailable: the system does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # or the files below are root's; `guard` comes later
    if libc.unshare(_CLONE_NEWNS if uid == 0 else _CLONE_NEWNS | _CLONE_NEWUSER) != 0:
        raise NamespacesUnavailable(reason=system_reason(OSError(ctypes.get_errno(), "")))
    try:
        if uid != 0:
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
    except OSError as error:
        raise NamespacesUnavailable(reason=system_reason(error)) from None
    if libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        raise NamespacesUnavailable(reason=system_reason(OSError(ctypes.get_errno(), "")))


def _cover(folder: str) -> None:
    """Have nothing beneath the mount to write to.

    What the command leaves running may write by the same path when the mount is gone: in plain text
    into the vault, if that were there.

    Raises:
        NamespacesUnavailable: the system does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if libc.mount(b"encvault", os.fsencode(folder), b"tmpfs", flags, b"size=4k,mode=0555") != 0:
        raise NamespacesUnavailable(reason=system_reason(OSError(ctypes.get_errno(), "")))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
