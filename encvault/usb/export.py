"""Rules by which programs of the system keep other drives out; encvault itself enforces none.

They go by what the hardware says of itself, since neither program can see the note on a drive.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from encvault.accesslog.words import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from encvault.usb.register import Registration

# what both grammars take in quotation marks as it is; the serial is what some hardware says
_SAFE = re.compile(r"[A-Za-z0-9._:-]+")


def usbguard_rules(drives: Iterable[Registration]) -> str:
    """Rules for USBGuard (usbguard-rules.conf(5)): the registered drives, and no other storage.

    Keyboards and everything else are left to the other rules: to block by default has locked
    people out (USBGuard#246).
    """
    lines = ["# the company's drives, by what their hardware says; see docs/usb.md"]
    for one in drives:
        which = f'allow id {one.vendor_id}:{one.product_id} serial "{one.serial}" with-interface'
        # bulk-only transport, and beside it USB attached SCSI; a keyboard as well would be another
        rules = [f"{which} equals {{ {kinds} }}" for kinds in ("08:06:50", "08:06:50 08:06:62")]
        lines += _lines(one, *rules)
    lines += ["# any other mass storage (USB class 08); nothing is said of other devices"]
    return "\n".join([*lines, "block with-interface one-of { 08:*:* }", ""])


def udev_rules(drives: Iterable[Registration]) -> str:
    """Rules for udev(7): desktops (udisks) do not mount USB drives that are not registered."""
    lines = [
        "# the company's drives, by what their hardware says; see docs/usb.md",
        "# for example as /etc/udev/rules.d/85-encvault.rules",
        'SUBSYSTEM!="block", GOTO="encvault_end"',
        'ENV{ID_BUS}!="usb", GOTO="encvault_end"',
    ]
    for one in drives:
        rule = (
            f'ENV{{ID_VENDOR_ID}}=="{one.vendor_id}", ENV{{ID_MODEL_ID}}=="{one.product_id}", '
            f'ENV{{ID_SERIAL_SHORT}}=="{one.serial}", GOTO="encvault_end"'
        )
        lines += _lines(one, rule)
    return "\n".join([*lines, 'ENV{UDISKS_IGNORE}="1"', 'LABEL="encvault_end"', ""])


EXPORTS: Mapping[str, Callable[[Iterable[Registration]], str]] = {
    "usbguard": usbguard_rules,
    "udev": udev_rules,
}
"""What makes rules, by the name of the program they are for."""


def _lines(one: Registration, *rules: str) -> list[str]:
    # a line feed in it would begin a rule
    title = visible("  ".join(filter(None, (one.label, one.id, one.owner))))
    if not (one.vendor_id and one.product_id):
        return [f"# {title}: not on USB when it was registered, so there is no rule"]
    if not one.serial:
        return [f"# {title}: has no serial number, so a rule would allow every drive of its kind"]
    if not all(map(_SAFE.fullmatch, (one.vendor_id, one.product_id, one.serial))):
        return [f"# {title}: its serial number cannot be written in a rule"]
    return [f"# {title}", *rules]
