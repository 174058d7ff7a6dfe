"""Read files that decide who can open what is sealed, and refuse those that others can change."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from encvault.errors import ConfigUnreadable, UntrustedConfig
from encvault.i18n import _, system_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = 0


def read(path: str, limit: int) -> bytes | None:
    """A configuration file, or one that it names.

    Args:
        path: absolute.
        limit: bytes that it may have.

    Returns:
        Its bytes; None if there is no such file.

    Raises:
        ConfigUnreadable: it is there and cannot be read, is no file, or is larger.
        UntrustedConfig: others than its user and root can change it.
    """
    try:
        # whoever makes it a FIFO must not have every command wait
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        if os.path.islink(path):  # leads nowhere: what it demanded is lost
            raise ConfigUnreadable(path=path, reason=system_reason(error)) from None
        return None
    except OSError as error:
        raise ConfigUnreadable(path=path, reason=system_reason(error)) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigUnreadable(path=path, reason=_("not a regular file"))
        if hasattr(os, "geteuid"):
            _check_trusted(path, status, os.geteuid())
        data = b""
        while len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
            data += more
    except OSError as error:
        raise ConfigUnreadable(path=path, reason=system_reason(error)) from None
    finally:
        os.close(fd)
    if len(data) > limit:
        reason = _("longer than {size} bytes").format(size=limit)
        raise ConfigUnreadable(path=path, reason=reason)
    return data


def _check_trusted(path: str, status: os.stat_result, user: int) -> None:
    """Refuse a file that somebody else can change; for root, a place that somebody else can."""
    if user != _ROOT:
        # a group of one's own is common, and with it files that the group may write to
        own_group = stat.S_IWGRP if status.st_uid == user else 0
        _check(path, path, status, {_ROOT, user}, status.st_mode & ~own_group)
        return
    _check(path, path, status, {_ROOT}, status.st_mode)
    for folder in _folders(path):
        found = os.stat(folder)
        mode = found.st_mode
        if mode & stat.S_ISVTX and folder != os.path.dirname(path):
            mode = 0  # there nobody can exchange what is root's, as in /tmp
        _check(path, folder, found, {_ROOT}, mode)


def _check(path: str, place: str, status: os.stat_result, owners: set[int], mode: int) -> None:
    if status.st_uid not in owners:
        reason = _("{place} belongs to user {uid}").format(place=place, uid=status.st_uid)
    elif mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = _("others may write to {place}").format(place=place)
    else:
        return
    owner = "root" if owners == {_ROOT} else str(max(owners))
    raise UntrustedConfig(path=path, place=place, owner=owner, reason=reason)


def _folders(path: str) -> Iterator[str]:
    """Every folder on the way to a file, also of where links lead."""
    for way in dict.fromkeys((path, os.path.realpath(path))):
        folder = os.path.dirname(way)
        yield folder
        while folder != (folder := os.path.dirname(folder)):
            yield folder
