"""The three standard streams, kept from failing in ways that nobody expects.

* What cannot be written to stdout is a named error, since the result is what was asked for.
* What cannot be written to stderr is let go: a run that cannot tell must still do its work.
* A stream that was closed is taken, so that no file of the user gets its descriptor.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

# what is opened in the place of a closed stream: reading or writing is refused as it was before,
# but for messages, which vanish
_STAND_INS = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard the standard streams while a command runs."""
    before = sys.stdin, sys.stdout, sys.stderr
    _fill_gaps()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process
    sys.stdout = _wrapped(sys.stdout, 1, _Result)
    sys.stderr = _wrapped(sys.stderr, 2, _Messages)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


@contextlib.contextmanager
def writing_result() -> Iterator[None]:
    """Name what fails while the result is written to stdout.

    Raises:
        StorageError: it cannot be written.
        BrokenPipeError: the reader has enough, which is no failure.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        from encvault.fs.durable import storage_error  # noqa: PLC0415 - not before it is needed

        raise storage_error(error, "stdout") from None


class _Result(io.FileIO):
    """What is written to stdout; after it failed once, the rest has nowhere to go."""

    _has_failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self._has_failed:
            try:
                with writing_result():
                    return super().write(data)
            except BaseException:
                self._has_failed = True
                raise
        return memoryview(data).nbytes


class _Messages(io.FileIO):
    """What is written to stderr, as far as that goes."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _fill_gaps() -> None:
    for fd, access in _STAND_INS:
        try:
            os.fstat(fd)
        except OSError:
            # the lowest free number, which is this one
            os.set_inheritable(os.open(os.devnull, access), True)  # noqa: FBT003 - its only form


def _wrapped(stream: TextIO | None, fd: int, kind: type[io.FileIO]) -> TextIO:
    if stream is not None:
        try:
            fd = stream.fileno()
        except io.UnsupportedOperation:
            return stream  # a program that calls `main` keeps the output in its memory
        with contextlib.suppress(OSError):
            stream.flush()
    raw = kind(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream else None,
        errors=stream.errors if stream else "backslashreplace",
        line_buffering=kind is _Messages or raw.isatty(),
    )
