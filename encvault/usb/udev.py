"""What udev knows; the only module that imports pyudev."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from encvault.usb.devices import Number


def properties() -> dict[Number, dict[str, str]]:
    """The properties of every block device, by its number; nothing where there is no udev."""
    try:
        import pyudev  # noqa: PLC0415 - drives named by their folder need none of it
    except ImportError:  # no libudev
        return {}
    found: dict[Number, dict[str, str]] = {}
    for device in pyudev.Context().list_devices(subsystem="block"):
        number = device.device_number
        found[os.major(number), os.minor(number)] = dict(device.properties.items())
    return found
