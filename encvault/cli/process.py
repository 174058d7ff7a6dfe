"""One command as a process: its language, its streams, and the signals that stop it."""

from __future__ import annotations

import contextlib
import gc
import gettext
import os
import signal
import sys
from typing import TYPE_CHECKING

from encvault import i18n
from encvault.cli import streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping
    from types import FrameType

EXIT_HUNG_UP = 129
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141
_STOPPING = {signal.SIGTERM: EXIT_TERMINATED}
if sys.platform != "win32":
    _STOPPING[signal.SIGHUP] = EXIT_HUNG_UP


class Terminated(BaseException):
    """A signal asks to stop; like KeyboardInterrupt, it must pass every ``except Exception``."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def serve(arguments: list[str], *, is_all: bool) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name.
        is_all: whether the process ends with it.

    Returns:
        The exit code (docs/exit-codes.md).
    """
    # what is made for each file is freed by counting: looking for cycles among it costs 3 %, and
    # among the modules that are loaded now a twentieth of a short command
    gc.set_threshold(50_000)
    if is_all:
        _leave_no_core()
    try:
        speak(os.environ)
        from encvault.cli.run import run  # noqa: PLC0415 - after the language is chosen

        with _stopped_by_signals(), streams.guarded():
            return run(arguments)
    except KeyboardInterrupt:  # before `run` began, or a second one while it spoke of the first
        return EXIT_INTERRUPTED
    except Terminated as stop:  # it came after `run` had said all, before its handler was gone
        return stop.exit_code
    finally:
        while is_all:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said, and the end is near
            except KeyboardInterrupt:
                continue  # one more of them
            gc.freeze()  # looking for cycles at the end is an eighth of a short command
            break


def speak(environ: MutableMapping[str, str]) -> None:
    """Choose the language of messages and help, as GNU gettext would."""
    chosen = languages(environ)
    i18n.activate(chosen)
    # click translates its own few words through the process's default domain, for which gettext
    # reads the environment in its own way: it must come to the same language
    domain, folder = i18n.DOMAIN, i18n.LOCALE_DIR
    catalog = gettext.find(domain, folder, chosen)
    gettext.bindtextdomain(domain, folder)
    gettext.textdomain(domain if catalog else "messages")
    if catalog and gettext.find(domain, folder) != catalog:
        environ["LANGUAGE"] = ":".join(chosen)


def languages(environ: Mapping[str, str]) -> list[str]:
    """The languages that the environment asks for, best first; none after English.

    A reader of traditional Chinese gets English, unless LANGUAGE names ``zh_CN`` as well.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    if locale.partition(".")[0] in ("", "C", "POSIX"):
        return []
    asked = [*filter(None, environ.get("LANGUAGE", "").split(":")), locale]
    found = []
    for name in asked:
        plain = name.partition(".")[0].partition("@")[0]
        if plain.partition("_")[0] in ("en", "C", "POSIX"):
            break  # what needs no catalog
        # simplified Chinese goes by several names
        simplified = plain in ("zh", "zh_SG", "zh_MY") or plain.startswith("zh_Hans")
        found.append("zh_CN" if simplified else plain)
    return found


def _leave_no_core() -> None:
    """Have a crash, or a quit signal, write no memory with keys in it to a file.

    What this process starts does as well, and may raise its own limit again. A program that dumps
    are piped to is called with a limit of 0 too, and not with one of 1 (core(5) does not say it;
    `do_coredump` in Linux, fs/coredump.c); no file of one byte is written.
    """
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP stop the command in order."""
    previous = {}
    if _is_main_thread():
        for number in _STOPPING:
            # nohup ignores SIGHUP so that the command outlives its terminal
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                previous[number] = before
                signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _is_main_thread() -> bool:
    import threading  # noqa: PLC0415 - loaded already where it matters

    return threading.current_thread() is threading.main_thread()


def _terminate(number: int, _frame: FrameType | None) -> None:
    # a terminal that closes sends SIGHUP, and so does its shell: the second must not tear what
    # the first one cleans up
    for stopping in _STOPPING:
        signal.signal(stopping, signal.SIG_IGN)
    raise Terminated(_STOPPING[signal.Signals(number)])
