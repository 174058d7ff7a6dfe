"""The command line: parse, ask, call one operation, render.

The command modules are imported when their command is called, and nothing else before, so that
``encvault --version`` costs no more than Python itself.
"""

from __future__ import annotations

import os
import sys

from encvault.about import __version__

TYPE_CHECKING = False  # `typing` would be a tenth of ``--version``
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None for the process's own.

    Returns:
        The exit code (docs/exit-codes.md).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"] and sys.stdout is not None:
        try:
            os.write(sys.stdout.fileno(), f"encvault {__version__}\n".encode())
        except OSError:
            pass  # the long way names what is wrong
        else:
            return 0
    from encvault.cli.process import serve  # noqa: PLC0415 - see above

    return serve(arguments, is_all=argv is None)
