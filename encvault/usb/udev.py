"""What udev knows and tells; the only module that imports pyudev."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING

from encvault.errors import UdevAbsent

if TYPE_CHECKING:
    from encvault.usb.devices import Number

# where udev's daemon is spoken to; libudev itself looks there, and without it never tells anything
_CONTROL = "/run/udev/control"
_BUFFER_SIZE = 1 << 20  # bytes: a hub with twenty sticks is some hundred events at once


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


class Monitor:
    """Hears of block devices that come, change and go.

    What it hears is a reason to look, and of a device that went, its name. An event cannot be
    trusted with more: one of a removal may have no properties (systemd#26171), and events are lost
    when too many come at once. pyudev's observer ends silently at the first error, so it is not
    used.

    Raises:
        UdevAbsent: udev does not run here.
    """

    def __init__(self) -> None:
        try:
            import pyudev  # noqa: PLC0415 - as above
        except ImportError:
            raise UdevAbsent from None
        if not os.access(_CONTROL, os.F_OK):
            raise UdevAbsent
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        self._monitor.filter_by("block")
        with contextlib.suppress(OSError):  # only root may have a larger one
            self._monitor.set_receive_buffer_size(_BUFFER_SIZE)
        self._monitor.start()

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to hear."""
        fd: int = self._monitor.fileno()
        return fd

    def removed(self) -> set[str]:
        """Take what there is to hear: the kernel's names of the devices that went, such as sdb1."""
        gone: set[str] = set()
        while True:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError:
                if not self._clear_error():
                    raise
                continue  # events are lost; who looks sees what is there now
            if device is None:
                return gone
            if device.action == "remove":
                gone.add(os.path.basename(device.device_path))

    def _clear_error(self) -> bool:
        """Take the error that waits on the socket off it; whether it was that of an overflow."""
        with socket.socket(fileno=os.dup(self.fileno())) as own:
            return own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ENOBUFS)
