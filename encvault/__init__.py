"""encvault: seal folders, files and drives, and lose nothing.

The command line is the main door (``encvault --help``, docs/cli.md). As a library, use
`encvault.operations`, one function per intention, and `encvault.errors`.
"""

from __future__ import annotations

__version__ = "0.1.0"
