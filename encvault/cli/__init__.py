"""The command line: parse, ask, call one operation, render.

`main` is the only place where an error becomes an exit code. The command modules are imported
when their command is called, so that ``encvault --version`` costs no more than Python itself.
"""

from __future__ import annotations

import gettext
import os
import signal
import sys
from typing import TYPE_CHECKING

from encvault import __version__, i18n

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, it must pass every ``except Exception``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None for the process's own.

    Returns:
        The exit code (docs/exit-codes.md).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"encvault {__version__}")  # noqa: T201 - before anything slow is imported
        return 0
    speak(os.environ)
    from encvault.cli.run import run  # noqa: PLC0415 - after the language is chosen

    previous = signal.getsignal(signal.SIGTERM)
    if _is_main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return run(arguments)
    finally:
        if _is_main_thread():
            signal.signal(signal.SIGTERM, previous)


def speak(environ: Mapping[str, str]) -> None:
    """Choose the language of messages and help, as GNU gettext would."""
    i18n.activate(languages(environ))
    # click translates its own few words through the process's default domain
    gettext.bindtextdomain(i18n.DOMAIN, str(i18n.LOCALE_DIR))
    gettext.textdomain(i18n.DOMAIN)


def languages(environ: Mapping[str, str]) -> list[str]:
    """The languages that the environment asks for, best first."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    if locale.partition(".")[0] in ("", "C", "POSIX"):
        return []
    asked = [*filter(None, environ.get("LANGUAGE", "").split(":")), locale]
    # simplified Chinese goes by several names
    plain = [name.partition(".")[0].partition("@")[0] for name in asked]
    return ["zh_CN" if name in ("zh", "zh_Hans", "zh_SG") else name for name in plain]


def _is_main_thread() -> bool:
    import threading  # noqa: PLC0415 - loaded already where it matters

    return threading.current_thread() is threading.main_thread()


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
