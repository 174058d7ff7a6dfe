"""One function per intention of a user: what the command line, the jobs and programs call.

An operation finds out what a path is (a folder, a vault, a place inside one, a sealed file), asks
the `Prompter` for keys and consent where it needs them, and calls the layer below. It neither
prints nor reads the environment.

Each name is imported when it is first used: to look at a vault must not cost what sealing needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.lazy import attach

__all__ = [
    "DEFAULT_SUITE",
    "Answers",
    "CompanyRecipient",
    "IdentityInfo",
    "Info",
    "OpenRequest",
    "Prompter",
    "RecoveryCode",
    "Rekeyed",
    "SealRequest",
    "ShareRequest",
    "add_recovery",
    "add_slots",
    "backends",
    "cat",
    "change_identity_password",
    "change_password",
    "check_identity_is_new",
    "check_no_password",
    "check_password",
    "check_recovery",
    "company_recipients",
    "info",
    "init_vault",
    "list_files",
    "list_identities",
    "list_mounts",
    "list_slots",
    "new_identity",
    "open_from_stream",
    "open_paths",
    "read_identity",
    "read_recipients",
    "rekey",
    "remove_slot",
    "reseal_exposed",
    "revoke",
    "seal",
    "seal_from_stream",
    "share",
    "status",
    "status_outcome",
    "verify",
]

if TYPE_CHECKING:
    from encvault.operations.defaults import (
        CompanyRecipient,
        check_no_password,
        check_password,
        company_recipients,
    )
    from encvault.operations.describing import Info, backends, info
    from encvault.operations.identities import (
        IdentityInfo,
        change_identity_password,
        check_identity_is_new,
        list_identities,
        new_identity,
        read_identity,
        read_recipients,
    )
    from encvault.operations.looking import list_mounts, status, status_outcome
    from encvault.operations.opening import OpenRequest, cat, open_from_stream, open_paths
    from encvault.operations.prompter import Answers, Prompter
    from encvault.operations.reading import list_files, verify
    from encvault.operations.request import DEFAULT_SUITE, SealRequest
    from encvault.operations.revoking import Rekeyed, rekey, reseal_exposed, revoke
    from encvault.operations.sealing import init_vault, seal, seal_from_stream
    from encvault.operations.sharing import ShareRequest, share
    from encvault.operations.slots import (
        RecoveryCode,
        add_recovery,
        add_slots,
        change_password,
        check_recovery,
        list_slots,
        remove_slot,
    )
else:  # out of the type checker's sight, which would believe in any name
    __getattr__, __dir__ = attach(
        __name__,
        {
            "encvault.operations.defaults": "CompanyRecipient check_no_password check_password "
            "company_recipients",
            "encvault.operations.identities": "IdentityInfo change_identity_password "
            "check_identity_is_new list_identities new_identity read_identity read_recipients",
            "encvault.operations.describing": "Info backends info",
            "encvault.operations.looking": "list_mounts status status_outcome",
            "encvault.operations.reading": "list_files verify",
            "encvault.operations.opening": "OpenRequest cat open_from_stream open_paths",
            "encvault.operations.prompter": "Answers Prompter",
            "encvault.operations.request": "DEFAULT_SUITE SealRequest",
            "encvault.operations.revoking": "Rekeyed rekey reseal_exposed revoke",
            "encvault.operations.sealing": "init_vault seal seal_from_stream",
            "encvault.operations.sharing": "ShareRequest share",
            "encvault.operations.slots": "RecoveryCode add_recovery add_slots change_password "
            "check_recovery list_slots remove_slot",
        },
    )
