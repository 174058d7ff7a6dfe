"""The loop that takes requests from the kernel and has libfuse answer them.

libfuse's own loop wakes another of its threads for each request. With Python that is dear: the
lock of the interpreter goes from thread to thread as well. Here one thread, the leader, takes
requests and answers them itself as long as they are short, and makes another one the leader before
it answers one that may take long. A short one that takes long all the same is noticed, and another
leader made.

Only functions that ``fuse.h`` and ``fuse_lowlevel.h`` document are used.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from encvault.mount.process import ENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_THREADS = 12  # some may wait for the disk, while others are served
_WAKING = signal.SIGUSR1
_PATIENCE = 0.05  # seconds that a short request may take before there is another leader
_BUSY = 1.0  # seconds after the last request in which the leader is watched
_RETRY = 0.02  # seconds until a thread is woken again that did not notice

# linux/fuse.h, enum fuse_opcode
_READ, _WRITE, _FSYNC, _FSYNCDIR = 15, 16, 20, 30
_SHORT = 1 << 16  # bytes that are read or written
_IS_FD = 2  # FUSE_BUF_IS_FD
_OPCODE_AT = 4  # in struct fuse_in_header
_SIZE_AT = 40 + 16  # in struct fuse_read_in and fuse_write_in, which follow it

_number_at = ctypes.c_uint32.from_address


class _Arguments(ctypes.Structure):
    """``struct fuse_args``."""

    _fields_ = (
        ("argc", ctypes.c_int),
        ("argv", ctypes.POINTER(ctypes.c_char_p)),
        ("allocated", ctypes.c_int),
    )


class _Buffer(ctypes.Structure):
    """``struct fuse_buf``, which has grown once, with room to grow."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("mem", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("pos", ctypes.c_int64),
        ("rest", ctypes.c_char * 64),
    )


class Loop:
    """One mount, from its begin to its end.

    Args:
        library: libfuse 3.
    """

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self._receive = self._function("fuse_session_receive_buf", 2, ctypes.c_int)
        self._process = self._function("fuse_session_process_buf", 2)
        self._exited = self._function("fuse_session_exited", 1, ctypes.c_int)
        self._free = ctypes.CDLL(None).free
        self._free.argtypes = (ctypes.c_void_p,)
        self._session: int | None = None
        self._state = threading.Condition(threading.Lock())
        self._threads: list[threading.Thread] = []
        self._leader = 0  # ident of the thread that takes requests
        self._waiting = 0  # threads that would lead
        self._takers: set[int] = set()  # idents of the leader, and of who does not yet know better
        self._late: set[int] = set()  # idents of those whose short request takes long
        self._since = 0.0  # when the leader began to answer a request; 0 if it does not
        self._used_at = 0.0
        self._is_watched = False
        self._is_agreed = False  # whether the first request was answered
        self._is_over = False
        self._news, self._tell = -1, -1

    def _function(self, name: str, arguments: int, result: Any = None) -> Callable[..., Any]:
        """One of libfuse's, all of whose arguments are pointers."""
        function: Callable[..., Any] = getattr(self._library, name)
        function.argtypes = (ctypes.c_void_p,) * arguments  # type: ignore[attr-defined]
        function.restype = result  # type: ignore[attr-defined]
        return function

    def serve(self, options: bytes, mountpoint: bytes, operations: ctypes.Structure) -> None:
        """Mount, and answer until it is unmounted, or until `stop` or a signal that ends a process.

        It must be called in the main thread. The signals are ignored on return: what is to be done
        then must not be cut short. libfuse writes to stderr why it could not mount.

        Args:
            options: for ``-o``.
            mountpoint: absolute.
            operations: ``struct fuse_operations``.
        """
        words = (ctypes.c_char_p * 4)(b"encvault", b"-o", options, None)
        arguments = _Arguments(3, words, 0)
        with self._signals():
            fuse = self._new(arguments, operations)
            self._function("fuse_opt_free_args", 1)(ctypes.byref(arguments))
            if not fuse:
                return
            try:
                path = ctypes.create_string_buffer(mountpoint)
                if self._function("fuse_mount", 2, ctypes.c_int)(fuse, path) == 0:
                    os.chdir("/")  # which is not kept busy
                    try:
                        self._session = self._function("fuse_get_session", 1, ctypes.c_void_p)(fuse)
                        self._run()
                    finally:
                        self._function("fuse_unmount", 1)(fuse)
            finally:
                self._function("fuse_destroy", 1)(fuse)

    def _new(self, arguments: _Arguments, operations: ctypes.Structure) -> int | None:
        # before 3.13 the function of this version has the plain name only
        make = getattr(self._library, "fuse_new_31", None) or self._library.fuse_new
        make.argtypes = (*(ctypes.c_void_p,) * 2, ctypes.c_size_t, ctypes.c_void_p)
        make.restype = ctypes.c_void_p
        size = ctypes.sizeof(operations)
        made: int | None = make(ctypes.byref(arguments), ctypes.byref(operations), size, None)
        return made

    def stop(self) -> None:
        """End the serving; may be called from any thread, and by who is answered."""
        self._is_over = True
        self._wake_main()

    def _wake_main(self) -> None:
        with self._state, contextlib.suppress(BlockingIOError):  # it has news enough
            if self._tell >= 0:
                os.write(self._tell, b"\0")

    # -- the main thread --------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have the signals that end a process end the serving, and nothing after that."""
        self._news, self._tell = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._news, False)
        os.set_blocking(self._tell, False)
        # who ignores one has a reason
        taken = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
        others = signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        for number in taken:
            signal.signal(number, self._ends)
        waking = signal.signal(_WAKING, lambda _number, _frame: None)
        try:
            yield
        finally:
            for number in taken:
                signal.signal(number, signal.SIG_IGN)
            if waking is not None:  # else it was no handler of Python's
                signal.signal(_WAKING, waking)
            signal.set_wakeup_fd(others)
            with self._state:
                os.close(self._news)
                os.close(self._tell)
                self._tell = -1

    def _run(self) -> None:
        try:
            with self._state:
                self._start()
            self._watch()
        finally:
            self._is_over = True
            self._join()

    def _ends(self, _number: int, _frame: object) -> None:
        self._is_over = True

    def _watch(self) -> None:
        """Wait for the end; meanwhile make another leader if the one there is takes too long."""
        poll = select.poll()
        poll.register(self._news, select.POLLIN)
        while not self._is_over:
            # one that is late already may have company
            patience = _PATIENCE / 10 if self._late else _PATIENCE
            self._is_watched = False  # first: who is answered from here on says so
            self._is_watched = bool(self._since) or time.monotonic() - self._used_at < _BUSY
            if poll.poll(patience * 1000 if self._is_watched else None):
                os.read(self._news, 1 << 12)
            since = self._since
            if since and time.monotonic() - since > patience:
                with self._state:
                    late = self._leader
                    if self._since == since and self._make_another():
                        self._late.add(late)

    def _join(self) -> None:
        for thread in self._threads:
            while thread.is_alive():
                with self._state:
                    self._state.notify_all()
                    for ident in self._takers:
                        # they wait for the kernel; who does not yet is woken the next time
                        signal.pthread_kill(ident, _WAKING)
                thread.join(_RETRY)

    # -- the others -------------------------------------------------------------------------

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="fuse", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _make_another(self) -> bool:
        """Let another thread take requests, if there is or may be one; the state is locked."""
        if not self._waiting and len(self._threads) < _THREADS:
            try:
                self._start()
            except RuntimeError:  # the system allows no more
                return False
        self._leader, self._since = 0, 0.0
        self._state.notify()
        return True

    def _work(self) -> None:
        buffer = _Buffer()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (_WAKING,))  # who started us may have blocked it
        try:
            while self._leads():
                self._answer(buffer)
        finally:  # an error here is a bug, and must not leave a mount that nobody answers
            with self._state:
                self._takers.discard(threading.get_ident())
            self._is_over = True
            self._wake_main()
            self._free(buffer.mem)

    def _leads(self) -> bool:
        """Wait until this thread is the leader; False if it is over."""
        me = threading.get_ident()
        with self._state:
            self._takers.discard(me)
            self._late.discard(me)
            self._waiting += 1
            while self._leader and not self._is_over:
                self._state.wait()
            self._waiting -= 1
            if not self._is_over:
                self._leader = me
                self._takers.add(me)
        return not self._is_over

    def _answer(self, buffer: _Buffer) -> None:
        """Take requests and answer them, as long as this thread is the leader."""
        reference = ctypes.byref(buffer)
        me = threading.get_ident()
        while self._leader == me and not self._is_over:
            buffer.flags = 0
            size = self._receive(self._session, reference)
            if size in (-errno.EINTR, -errno.EAGAIN):
                continue
            if size <= 0:  # it was unmounted
                self._is_over = True
                return
            if _takes_long(buffer):
                with self._state:
                    if self._leader == me:
                        self._make_another()
                    if self._leader != me:
                        self._takers.discard(me)
                self._process(self._session, reference)
                continue
            self._since = self._used_at = time.monotonic()
            if not self._is_watched:
                self._is_watched = True
                self._wake_main()
            self._process(self._session, reference)
            if self._leader == me:
                self._since = 0.0
            if not self._is_agreed:
                self._agree(buffer)

    def _agree(self, buffer: _Buffer) -> None:
        """The first request, INIT, was answered."""
        self._is_agreed = True
        self._free(buffer.mem)  # there may be larger ones from here on
        buffer.mem = None
        if self._exited(self._session):  # the kernel and libfuse do not agree
            self._is_over = True


def _takes_long(buffer: _Buffer) -> bool:
    """Whether a request waits for the disk, or is much work outside of Python."""
    if buffer.flags & _IS_FD:  # a large write
        return True
    opcode = _number_at(buffer.mem + _OPCODE_AT).value
    if opcode in (_READ, _WRITE):
        return _number_at(buffer.mem + _SIZE_AT).value > _SHORT
    return opcode in (_FSYNC, _FSYNCDIR)
