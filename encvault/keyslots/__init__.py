"""Keyslots: wrap a 32-byte secret for a password or a public key, and unwrap it again.

The same slots serve vaults (they wrap the vault secret) and single files (they wrap the file's
key). Encodings are those of docs/format.md sections 5 and 8.

Each name is imported when it is first used: who only looks needs no HPKE and no Argon2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.lazy import attach

__all__ = [
    "MAX_IDENTITY_FILE_SIZE",
    "MAX_LABEL_LENGTH",
    "MAX_PASSWORD_SLOTS",
    "MAX_RECIPIENT_FILE_SIZE",
    "SECRET_SIZE",
    "Identity",
    "IdentityFile",
    "KeyIdentity",
    "PasswordIdentity",
    "PasswordRecipient",
    "PublicKeyRecipient",
    "Recipient",
    "RecoveryIdentity",
    "RecoveryRecipient",
    "Slot",
    "SlotInfo",
    "Unwrapped",
    "bare",
    "check_bare",
    "check_slots",
    "decode_code",
    "decode_recipient",
    "decode_recipient_file",
    "describe",
    "encode_code",
    "encode_password",
    "encode_recipient",
    "fingerprint",
    "group",
    "is_fingerprint",
    "is_time",
    "keychain_account",
    "new_code",
    "now_text",
    "random_password",
    "rewrap",
    "unwrap_any",
]

if TYPE_CHECKING:
    from encvault.keyslots.identities import IdentityFile
    from encvault.keyslots.passwords import (
        PasswordIdentity,
        PasswordRecipient,
        encode_password,
        keychain_account,
        random_password,
    )
    from encvault.keyslots.publickeys import (
        MAX_IDENTITY_FILE_SIZE,
        MAX_RECIPIENT_FILE_SIZE,
        KeyIdentity,
        PublicKeyRecipient,
        decode_recipient,
        decode_recipient_file,
        encode_recipient,
        rewrap,
    )
    from encvault.keyslots.recovery import (
        RecoveryIdentity,
        RecoveryRecipient,
        decode_code,
        encode_code,
        new_code,
    )
    from encvault.keyslots.slots import (
        MAX_LABEL_LENGTH,
        MAX_PASSWORD_SLOTS,
        SECRET_SIZE,
        Identity,
        Recipient,
        Slot,
        SlotInfo,
        Unwrapped,
        bare,
        check_bare,
        check_slots,
        describe,
        fingerprint,
        group,
        is_fingerprint,
        is_time,
        now_text,
        unwrap_any,
    )
else:  # out of the type checker's sight, which would believe in any name
    __getattr__, __dir__ = attach(
        __name__,
        {
            "encvault.keyslots.identities": "IdentityFile",
            "encvault.keyslots.passwords": "PasswordIdentity PasswordRecipient encode_password "
            "keychain_account random_password",
            "encvault.keyslots.publickeys": "MAX_IDENTITY_FILE_SIZE MAX_RECIPIENT_FILE_SIZE "
            "KeyIdentity PublicKeyRecipient decode_recipient decode_recipient_file "
            "encode_recipient rewrap",
            "encvault.keyslots.recovery": "RecoveryIdentity RecoveryRecipient decode_code "
            "encode_code new_code",
            "encvault.keyslots.slots": "MAX_LABEL_LENGTH MAX_PASSWORD_SLOTS SECRET_SIZE Identity "
            "Recipient Slot SlotInfo Unwrapped bare check_bare check_slots describe fingerprint "
            "group is_fingerprint is_time now_text unwrap_any",
        },
    )
