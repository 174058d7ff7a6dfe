"""How mounts are shown, by whoever shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from encvault.i18n import _

if TYPE_CHECKING:
    from encvault.mount.registry import Mounted


def mounts_json(found: list[Mounted]) -> list[dict[str, Any]]:
    """Mounts as JSON."""
    return [
        {name: value for name, value in one._asdict().items() if name not in ("boot_id", "made")}
        for one in found
    ]


def mount_line(one: Mounted) -> str:
    """A mount on one line."""
    text = _("{vault} at {path}").format(vault=one.vault, path=one.mountpoint)
    if not one.is_alive:
        return _("{mount} (dead; files not saved: {count})").format(mount=text, count=one.unsaved)
    if one.failure:
        return _("{mount} ({reason})").format(mount=text, reason=one.failure)
    if one.read_only:
        return _("{mount} (read-only)").format(mount=text)
    return text
