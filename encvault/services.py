"""What systemd is told to run: how its units are written, begun, and taken away again.

A `Change` says all that will be done to the machine before anything is done, so that it can be
shown; `carry_out` does that and nothing else. systemd.syntax(7), systemctl(1).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import InvalidRequest, ServiceNotBegun, ServiceNotEnded
from encvault.fs import calls, durable
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BOOTED = "/run/systemd/system"  # sd_booted(3)
_PATIENCE_S = 30.0
_MAX_SIZE = 1 << 20
# what systemd has in no path of a program, whatever the quotes
_BARRED = frozenset("\"'\\")


class TextFile(NamedTuple):
    """A small file of text.

    Attributes:
        path: absolute.
        text: its whole content.
    """

    path: str
    text: str


class Change(NamedTuple):
    """What is done to the machine, in this order.

    Attributes:
        before: commands that end what is taken away.
        gone: files that are removed, with what they hold.
        files: files that are written; of these names, others are replaced.
        after: commands that make it known. The first that fails is the last that is run.
    """

    before: tuple[tuple[str, ...], ...] = ()
    gone: tuple[TextFile, ...] = ()
    files: tuple[TextFile, ...] = ()
    after: tuple[tuple[str, ...], ...] = ()

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """All of them."""
        return self.before + self.after


# -- text -----------------------------------------------------------------------------------


def command_line(words: Sequence[str]) -> str:
    """A program and its arguments for ``ExecStart=``, with no specifiers or variables in them.

    Raises:
        InvalidRequest: systemd could not run it.
    """
    program, *arguments = words
    if _BARRED & set(program):
        raise InvalidRequest(
            reason=_("systemd runs no program with quotes in its path: {path}").format(path=program)
        )
    # a dollar in the program's own path is one; in an argument it would begin a variable
    return " ".join([quoted(program), *(quoted(word).replace("$", "$$") for word in arguments)])


def quoted(word: str) -> str:
    """A word of a list of paths, or an assignment for ``Environment=``, as systemd reads it back.

    Raises:
        InvalidRequest: it cannot stand in a unit.
    """
    plain = literal(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def literal(text: str) -> str:
    """A text for a setting that systemd takes to the end of its line.

    Raises:
        InvalidRequest: it cannot stand in a unit.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        is_text = False
    else:
        is_text = not any(unicodedata.category(char) == "Cc" for char in text)
    if not is_text:
        raise InvalidRequest(
            reason=_("a service has no control characters in it, and only UTF-8: {text}").format(
                text=ascii(text)
            )
        )
    return text.replace("%", "%%")


# -- files and systemd ----------------------------------------------------------------------


def existing(paths: Iterable[str]) -> list[TextFile]:
    """Those of some files that are there.

    Raises:
        EncvaultError: one cannot be read.
    """
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        try:
            with Tree(folder) as tree:
                data = durable.read_file(tree, name, _MAX_SIZE)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise durable.storage_error(error, path, reading=True) from None
        found.append(TextFile(path, data.decode(errors="replace")))
    return found


def carry_out(change: Change) -> None:
    """Do it; what is written and removed is durable on return.

    Raises:
        EncvaultError: a file cannot be written or removed; those before it are.
        ServiceNotBegun: the files are written, and systemd did not do the rest.
        ServiceNotEnded: they are removed, and systemd goes on with what it knows of them.
    """
    failed = _run_all(change.before)
    for file in change.gone:
        _remove(file.path)
    for file in change.files:
        _write(file)
    if change.files:
        if (failed := _run_all(change.after)) is not None:
            commands = " && ".join(map(shlex.join, change.after))
            path = change.files[0].path
            raise ServiceNotBegun(path=path, reason=failed, commands=commands)
        return
    failed = failed or _run_all(change.after)
    # where systemd does not run, nothing was begun
    if failed is not None and change.gone and os.path.isdir(_BOOTED):
        commands = " && ".join(map(shlex.join, change.commands))
        path = change.gone[0].path
        raise ServiceNotEnded(path=path, reason=failed, commands=commands)


def _write(file: TextFile) -> None:
    folder, name = os.path.split(file.path)
    try:
        with Tree.made(folder) as tree:
            data = file.text.encode()
            durable.write_file(tree, "", name, data, file_id=new_id(), mode=0o644, replace=True)
    except OSError as error:
        raise durable.storage_error(error, file.path) from None


def _remove(path: str) -> None:
    folder, name = os.path.split(path)
    try:
        with Tree(folder) as tree, contextlib.suppress(FileNotFoundError):
            calls.unlink(tree.fd, name)
            calls.fsync_folder(tree.fd)
    except OSError as error:
        raise durable.storage_error(error, path) from None


def _run_all(commands: Iterable[Sequence[str]]) -> str | None:
    """Run them one after another; why one failed, or None."""
    for command in commands:
        if (failed := _run(command)) is not None:
            return failed
    return None


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - no shell; systemctl is wherever the system has it
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except OSError:
        return _("the program {name} is missing").format(name=command[0])
    except subprocess.TimeoutExpired:
        return _("no answer in {seconds} seconds").format(seconds=int(_PATIENCE_S))
    if done.returncode == 0:
        return None
    told = done.stderr.decode(errors="replace").strip()
    return told or f"{command[0]}: {done.returncode}"
