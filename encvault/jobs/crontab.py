"""The user's own table of cron: read, and replaced whole. crontab(1).

A job's lines stand between two comments. Everything else in the table is somebody else's, and
stays byte for byte.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from encvault.errors import CrontabFailed
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

READ = ("crontab", "-l")
REPLACE = ("crontab", "-")
_PATIENCE_S = 30.0
_IN_ENGLISH = ("env", "LC_ALL=C")
_NOT_FOUND = 127  # env(1)
_NO_TABLE = "no crontab for"  # the words of every cron that Linux has, in English


def end_of(name: str) -> str:
    """The comment after the lines of a job."""
    return f"# end of encvault job {name}"


def read() -> str:
    """The table; "" if there is none yet. Bytes that are not UTF-8 are kept as Python spells them.

    Raises:
        FileNotFoundError: there is no program ``crontab``.
        CrontabFailed: it does not tell.
    """
    done = _run([*_IN_ENGLISH, *READ], b"")
    if done.returncode == 0:
        return done.stdout.decode(errors="surrogateescape")
    told = done.stderr.decode(errors="replace").strip()
    if _NO_TABLE in told:
        return ""
    if done.returncode == _NOT_FOUND:
        raise FileNotFoundError
    raise CrontabFailed(reason=told or f"{done.returncode}")


def replace(table: str) -> None:
    """Make this the table.

    Raises:
        CrontabFailed: it is what it was.
    """
    done = _run(REPLACE, table.encode(errors="surrogateescape"))
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip()
        raise CrontabFailed(reason=told or f"{done.returncode}")


def block(table: str, name: str, heading: str) -> str:
    """The lines of a job with both comments; "" if it has none.

    Args:
        table: where.
        name: of the job.
        heading: what the first comment begins with.

    Raises:
        CrontabFailed: somebody has removed the second comment.
    """
    lines = table.split("\n")
    first = next((at for at, line in enumerate(lines) if line.startswith(heading)), None)
    if first is None:
        return ""
    for last in range(first + 1, len(lines)):
        if lines[last] == end_of(name):
            return "".join(f"{line}\n" for line in lines[first : last + 1])
    raise CrontabFailed(reason=_("the line “{line}” is missing").format(line=end_of(name)))


def _run(command: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - no shell; crontab is wherever the system has it
            command, input=data, capture_output=True, check=False, timeout=_PATIENCE_S
        )
    except FileNotFoundError:
        raise CrontabFailed(
            reason=_("the program {name} is missing").format(name=command[0])
        ) from None
    except subprocess.TimeoutExpired:
        raise CrontabFailed(
            reason=_("no answer in {seconds} seconds").format(seconds=int(_PATIENCE_S))
        ) from None
