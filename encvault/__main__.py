"""``python -m encvault``: the same program as the ``encvault`` command."""

from encvault.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
