"""encvault: seal folders, files and drives, and lose nothing.

The command line is the main door (``encvault --help``, docs/cli.md). As a library, the names below
are the contract (docs/api.md); each is imported when it is first used, so that ``import encvault``
and ``encvault --version`` cost nothing.
"""

from __future__ import annotations

from encvault.about import __version__ as __version__
from encvault.lazy import attach

__all__ = [
    "AccessLog",
    "ConfirmationNeeded",
    "DestinationExists",
    "EncvaultError",
    "Event",
    "Identity",
    "IntegrityError",
    "Listed",
    "NoMatchingKeyslot",
    "Observer",
    "PasswordIdentity",
    "PasswordRecipient",
    "Recipient",
    "RecoveryCode",
    "RecoveryIdentity",
    "Rekeyed",
    "Report",
    "SlotInfo",
    "Suite",
    "Vault",
    "load_identity",
    "load_recipients",
    "new_identity",
    "open_bytes",
    "open_file",
    "open_folder",
    "open_stream",
    "seal_bytes",
    "seal_file",
    "seal_folder",
    "seal_stream",
    "share_file",
]

TYPE_CHECKING = False  # see `encvault.cli`
if TYPE_CHECKING:
    from encvault.accesslog.log import AccessLog
    from encvault.api.files import open_file, open_folder, seal_file, seal_folder, share_file
    from encvault.api.keys import (
        PasswordIdentity,
        PasswordRecipient,
        RecoveryIdentity,
        load_identity,
        load_recipients,
        new_identity,
    )
    from encvault.api.streams import open_bytes, open_stream, seal_bytes, seal_stream
    from encvault.api.vault import Vault
    from encvault.crypto.suite import Suite
    from encvault.errors import (
        ConfirmationNeeded,
        DestinationExists,
        EncvaultError,
        IntegrityError,
        NoMatchingKeyslot,
    )
    from encvault.keyslots import Identity, Recipient, SlotInfo
    from encvault.operations import RecoveryCode, Rekeyed
    from encvault.vault.listing import Listed
    from encvault.vault.report import Event, Observer, Report
else:  # out of the type checker's sight, which would believe in any name (PEP 562)
    __getattr__, __dir__ = attach(
        __name__,
        {
            "encvault.accesslog.log": "AccessLog",
            "encvault.api.files": "open_file open_folder seal_file seal_folder share_file",
            "encvault.api.keys": "PasswordIdentity PasswordRecipient RecoveryIdentity "
            "load_identity load_recipients new_identity",
            "encvault.api.streams": "open_bytes open_stream seal_bytes seal_stream",
            "encvault.api.vault": "Vault",
            "encvault.crypto.suite": "Suite",
            "encvault.errors": "ConfirmationNeeded DestinationExists EncvaultError IntegrityError "
            "NoMatchingKeyslot",
            "encvault.keyslots": "Identity Recipient SlotInfo",
            "encvault.operations": "RecoveryCode Rekeyed",
            "encvault.vault.listing": "Listed",
            "encvault.vault.report": "Event Observer Report",
        },
    )
