"""Removable drives: lock them, unlock them, look at them, and let them go.

A drive is a vault with hidden names, so sealing, opening and keys are those of every vault; what
is added here is to find the drive, to see beforehand whether it can be done, and to leave it so
that it can be pulled out.
"""

from encvault.operations.drives.found import (
    DriveStatus,
    Which,
    drive_status,
    list_drives,
    place_of,
)
from encvault.operations.drives.locking import LockRequest, init, lock
from encvault.operations.drives.unlocking import Unlocked, UnlockRequest, eject, unlock

__all__ = [
    "DriveStatus",
    "LockRequest",
    "UnlockRequest",
    "Unlocked",
    "Which",
    "drive_status",
    "eject",
    "init",
    "list_drives",
    "lock",
    "place_of",
    "unlock",
]
