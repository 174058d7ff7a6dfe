"""``encvault usb``: removable drives."""

from encvault.cli.usb.group import usb_command

__all__ = ["usb_command"]
