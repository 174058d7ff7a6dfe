"""Removable drives: lock them, unlock them, look at them, and let them go.

A drive is a vault with hidden names, so sealing, opening and keys are those of every vault; what
is added here is to find the drive, to see beforehand whether it can be done, and to leave it so
that it can be pulled out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.lazy import attach

__all__ = [
    "EXPORTS",
    "AllowRequest",
    "DriveEvent",
    "DriveStatus",
    "LockRequest",
    "Registration",
    "UnlockRequest",
    "Unlocked",
    "Which",
    "allow",
    "drive_status",
    "eject",
    "forget",
    "init",
    "install_service",
    "list_drives",
    "lock",
    "locked_place_of",
    "registered_drives",
    "repair",
    "service_text",
    "uninstall_service",
    "unlock",
    "watch",
]

if TYPE_CHECKING:
    from encvault.operations.drives.allowing import AllowRequest, allow, forget, registered_drives
    from encvault.operations.drives.found import (
        DriveStatus,
        Which,
        drive_status,
        list_drives,
    )
    from encvault.operations.drives.locking import LockRequest, init, lock
    from encvault.operations.drives.repairing import repair
    from encvault.operations.drives.unlocking import (
        Unlocked,
        UnlockRequest,
        eject,
        locked_place_of,
        unlock,
    )
    from encvault.operations.drives.watching import DriveEvent, watch
    from encvault.usb.export import EXPORTS
    from encvault.usb.register import Registration
    from encvault.usb.service import (
        install_service,
        service_text,
        uninstall_service,
    )
else:  # out of the type checker's sight, which would believe in any name
    __getattr__, __dir__ = attach(
        __name__,
        {
            "encvault.operations.drives.allowing": "AllowRequest allow forget registered_drives",
            "encvault.operations.drives.found": "DriveStatus Which drive_status list_drives",
            "encvault.operations.drives.locking": "LockRequest init lock",
            "encvault.operations.drives.repairing": "repair",
            "encvault.operations.drives.unlocking": "Unlocked UnlockRequest eject locked_place_of "
            "unlock",
            "encvault.operations.drives.watching": "DriveEvent watch",
            "encvault.usb.export": "EXPORTS",
            "encvault.usb.register": "Registration",
            "encvault.usb.service": "install_service service_text uninstall_service",
        },
    )
