"""Where a secret line is read from: a file, a descriptor, a command; never the arguments.

Every user of the machine can read a process's arguments (age#203), and a second source must not
silently win over the first (borg#9333).
"""

from __future__ import annotations

import codecs
import os
import select
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.errors import InvalidRequest, PasswordSourceFailed
from encvault.i18n import _, system_reason

if TYPE_CHECKING:
    import subprocess

_MAX_SIZE = 4096
_PAUSE = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Source:
    """The three options that can give one secret; at most one of them is given.

    Attributes:
        option: what the options' names begin with, such as ``--password``.
        file, fd, command: their values.

    Raises:
        InvalidRequest: two are given.
    """

    option: str = "--password"
    file: str | None = None
    fd: int | None = None
    command: str | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.file, self.fd, self.command)) > 1:
            raise InvalidRequest(reason=_("give one source of a password, not two"))

    def __bool__(self) -> bool:
        return (self.file, self.fd, self.command) != (None, None, None)

    def read(self) -> str:
        """The first line of what the source gives.

        Raises:
            PasswordSourceFailed: it gives none.
        """
        line = self.read_all().partition("\n")[0]
        return line.removesuffix("\r")

    def read_all(self) -> str:
        """All that the source gives.

        Raises:
            PasswordSourceFailed: it gives nothing, or too much.
        """
        data, source = self._bytes()
        if len(data) > _MAX_SIZE:
            raise PasswordSourceFailed(source=source, reason=_("longer than 4096 bytes"))
        if b"\0" in data:  # UTF-16, or no text at all: nobody could type that
            raise PasswordSourceFailed(
                source=source, reason=_("not text: it has a zero byte in it")
            )
        # what editors on Windows put in front is no part of a password
        return data.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")

    def _bytes(self) -> tuple[bytes, str]:
        if self.command is not None:
            return self._from_command(self.command)
        source = f"{self.option}-fd {self.fd}" if self.file is None else self.file
        try:
            if self.file is None:
                data = _read_all(self.fd or 0)
            else:
                with open(self.file, "rb") as file:
                    data = file.read(_MAX_SIZE + 1)
        except OSError as error:
            raise PasswordSourceFailed(source=source, reason=system_reason(error)) from None
        return data, source

    def _from_command(self, command: str) -> tuple[bytes, str]:
        import subprocess  # noqa: PLC0415 - 4 ms that only a command is worth

        option = f"{self.option}-command"
        try:
            arguments = shlex.split(command)
        except ValueError:
            reason = _("a quotation mark in it is not closed")
            raise PasswordSourceFailed(source=option, reason=reason) from None
        if not arguments:
            raise PasswordSourceFailed(source=option, reason=_("it is empty"))
        try:
            # the user's own command, given for this purpose; no shell reads it
            with subprocess.Popen(  # noqa: S603
                arguments, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0
            ) as process:
                try:
                    data = _read_from(process)
                except BaseException:  # else leaving the block waits for it, for ever perhaps
                    process.kill()
                    raise
        except OSError as error:
            raise PasswordSourceFailed(source=arguments[0], reason=system_reason(error)) from None
        if process.returncode != 0 and len(data) <= _MAX_SIZE:
            reason = _("it ended with code {code}").format(code=process.returncode)
            raise PasswordSourceFailed(source=arguments[0], reason=reason)
        return data, arguments[0]


def _read_from(process: subprocess.Popen[bytes]) -> bytes:
    """What a command says until it ends; one that says too much is killed.

    It may leave something running that holds the pipe open, as an agent: nobody waits for that.
    """
    if process.stdout is None:
        raise AssertionError("sources: a command without a pipe")
    fd, data = process.stdout.fileno(), b""
    os.set_blocking(fd, False)
    while len(data) <= _MAX_SIZE:
        has_ended = process.poll() is not None  # before the last look
        select.select([fd], [], [], 0 if has_ended else _PAUSE)
        try:
            if not (more := os.read(fd, _MAX_SIZE)):
                return data
            data += more
        except BlockingIOError:
            if has_ended:
                return data
    process.kill()
    return data


def _read_all(fd: int) -> bytes:
    data = b""
    while len(data) <= _MAX_SIZE and (more := os.read(fd, _MAX_SIZE)):
        data += more
    return data
