"""``encvault usb``: removable drives."""

from encvault.cli.usb import company, keep, lock, look, watch
from encvault.cli.usb.group import usb_command

__all__ = ["company", "keep", "lock", "look", "usb_command", "watch"]
