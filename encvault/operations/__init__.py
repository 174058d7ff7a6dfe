"""One function per intention of a user: what the command line, the jobs and programs call.

An operation finds out what a path is (a folder, a vault, a place inside one, a sealed file), asks
the `Prompter` for keys and consent where it needs them, and calls the layer below. It neither
prints nor reads the environment.
"""

from encvault.operations.identities import check_identity_is_new, new_identity
from encvault.operations.looking import Info, info, list_files, status, status_outcome, verify
from encvault.operations.opening import OpenRequest, cat, open_from_stream, open_paths
from encvault.operations.prompter import Answers, Prompter
from encvault.operations.request import SealRequest
from encvault.operations.sealing import init_vault, seal, seal_from_stream

__all__ = [
    "Answers",
    "Info",
    "OpenRequest",
    "Prompter",
    "SealRequest",
    "cat",
    "check_identity_is_new",
    "info",
    "init_vault",
    "list_files",
    "new_identity",
    "open_from_stream",
    "open_paths",
    "seal",
    "seal_from_stream",
    "status",
    "status_outcome",
    "verify",
]
