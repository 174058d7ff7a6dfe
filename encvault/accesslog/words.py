"""The log's own words, as a person would say them. docs/log-format.md section 4."""

from __future__ import annotations

from encvault.i18n import N_, Text, _

ACTIONS = {
    "seal": N_("file sealed"),
    "open": N_("file opened"),
    "cat": N_("file shown"),
    "share": N_("file shared"),
    "reseal": N_("file sealed anew"),
    "read": N_("file read through a mount"),
    "write": N_("file written through a mount"),
    "remove": N_("file removed through a mount"),
    "rename": N_("file renamed through a mount"),
    "init": N_("vault made"),
    "unlock": N_("vault unlocked"),
    "verify": N_("vault verified"),
    "list": N_("vault listed"),
    "mount": N_("vault mounted"),
    "unmount": N_("vault unmounted"),
    "rekey": N_("vault's keys changed"),
    "revoke": N_("access revoked"),
    "slot.add": N_("keyslot added"),
    "slot.remove": N_("keyslot removed"),
    "slot.passwd": N_("keyslot's password changed"),
    "recovery.add": N_("recovery code added"),
    "key.new": N_("identity made"),
    "key.passwd": N_("identity's password changed"),
    "usb.lock": N_("drive locked"),
    "usb.unlock": N_("drive unlocked"),
    "usb.add": N_("drive admitted"),
    "usb.remove": N_("drive no longer admitted"),
    "usb.in": N_("drive came"),
    "usb.out": N_("drive went"),
    "job.run": N_("job run"),
    "scan": N_("files scanned"),
    "config": N_("log settings changed"),
    "log.init": N_("log begun"),
    "log.epoch": N_("epoch ended"),
    "log.clock": N_("clock moved"),
    "log.recover": N_("log recovered after a crash"),
    "log.erase": N_("path keys erased"),
}
"""Every ``op`` of docs/log-format.md, in its order, and its English words."""

OUTCOMES = {"ok": N_("done"), "failed": N_("failed"), "refused": N_("refused")}
"""Every ``outcome``, and its English words."""


def action_text(op: str) -> Text:
    """What was done, in the user's language; an `op` of a later version as it is."""
    return _(ACTIONS[op]) if op in ACTIONS else Text(visible(op), visible(op))


def outcome_text(outcome: str) -> Text:
    """How it ended, in the user's language; an unknown `outcome` as it is."""
    if outcome in OUTCOMES:
        return _(OUTCOMES[outcome])
    return Text(visible(outcome), visible(outcome))


def visible(text: str) -> str:
    r"""Text in which nothing is hidden and nothing changes what stands beside it.

    Control characters, bidirectional and other format characters, unusual white space, unassigned
    code points and lone surrogates become what Python would write for them, such as ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the BMP
