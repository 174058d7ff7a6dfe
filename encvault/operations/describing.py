"""What a sealed file or a vault says about itself: info."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from encvault.crypto import gcrypt, speed
from encvault.crypto.suite import Suite
from encvault.envelope import InlineKeyInfo
from encvault.errors import (
    SourceMissing,
)
from encvault.i18n import N_, _
from encvault.keyslots import describe
from encvault.operations.places import (
    header_of,
    storage,
    top_of,
)
from encvault.vault.single import inline_slots
from encvault.vault.vault import Vault


@dataclass(slots=True)
class Info:
    """What can be told of a sealed file or a vault without a key.

    Attributes:
        kind: ``vault``, ``sealed file`` or ``sealed file in a vault``.
        members: the facts by name, ready for JSON.
    """

    kind: str
    members: dict[str, Any] = field(default_factory=dict)


def backends() -> str:
    """Which library does the work of each suite here, in words, and why not a faster one."""
    return with_reason("; ".join(f"{suite.label}: {speed.backend_of(suite)}" for suite in Suite))


def with_reason(text: str) -> str:
    """Words on who computes SM4, and after them why it is not the fastest, if it is not."""
    status = gcrypt.status()
    if status.detail:
        return _("{text}; libgcrypt is not used: {reason} ({detail})").format(
            text=text, reason=_(status.reason), detail=status.detail
        )
    if status.reason:
        return _("{text}; libgcrypt is not used: {reason}").format(
            text=text, reason=_(status.reason)
        )
    return text


def info(path: str) -> Info:
    """A sealed file's header, or a vault's record."""
    if not os.path.lexists(path):
        raise SourceMissing(path=path)
    with storage(path):
        if not os.path.isdir(path):
            return _file_info(path)
        with Vault.load(top_of(path)) as vault:
            record = vault.record
            return Info(
                N_("vault"),
                {
                    "path": path,
                    "id": record.id,
                    "fingerprint": record.fingerprint,
                    "suite": record.suite.label,
                    "backend": speed.backend_of(record.suite),
                    "layout": record.layout,
                    "created_at": record.created_at,
                    "generation": record.generation,
                    "former_fingerprints": record.former_fingerprints,
                    "slots": describe((*record.slots, *record.pending)),
                },
            )


def _file_info(path: str) -> Info:
    header = header_of(path)
    members: dict[str, Any] = {
        "path": path,
        "version": 1,
        "suite": header.suite.label,
        "backend": speed.backend_of(header.suite),
        "file": header.key_info.file,
        "sealed_size": os.path.getsize(path),
        "metadata_size": header.metadata_size,
    }
    if isinstance(header.key_info, InlineKeyInfo):
        return Info(N_("sealed file"), members | {"slots": describe(inline_slots(header, path))})
    members |= {"vault": header.key_info.vault, "key": header.key_info.key}
    return Info(N_("sealed file in a vault"), members)
