#!/usr/bin/env python3
"""Run encvault from a checkout: ``python cli.py seal ~/Documents``.

The installed ``encvault`` command and ``python -m encvault`` enter by the same function; the
commands themselves live in ``encvault.cli``.
"""

from encvault.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
