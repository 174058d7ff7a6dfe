"""Checks of encvault itself: its libraries, its folders, what is configured."""

from __future__ import annotations

import os
import platform
import stat
import sys
from datetime import UTC, datetime

from encvault import config
from encvault.about import __version__
from encvault.accesslog.epochs import KEY, Calendar
from encvault.accesslog.log import user_name
from encvault.crypto import selftest, speed
from encvault.crypto.suite import Suite
from encvault.errors.base import quoted
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.keyslots import MAX_IDENTITY_FILE_SIZE, IdentityFile, fingerprint
from encvault.operations.defaults import company_recipients
from encvault.operations.describing import with_reason
from encvault.operations.doctor.findings import Finding, Surroundings
from encvault.tlog.reading import CHECKPOINTS, ENTRIES

_MEASURED_NS = 50_000_000
_FAST = 300e6  # bytes per second; what a disk of today and a gigabit network deliver is below


def program(_where: Surroundings) -> Finding:
    """Which encvault this is."""
    return Finding("ok", __version__)


def python(_where: Surroundings) -> Finding:
    """Which Python runs it; an older one does not get this far."""
    return Finding("ok", f"{platform.python_version()}, {sys.executable}")


def libraries(_where: Surroundings) -> Finding:
    """Which cryptography and OpenSSL do the work."""
    library, openssl = speed.library_versions()
    return Finding("ok", f"{library}, {openssl}")


def self_test(_where: Surroundings) -> Finding:
    """Whether every primitive gives the published answers."""
    count = selftest.run() + selftest.run_for_passwords()
    return Finding("ok", _("{count} known-answer tests passed").format(count=count))


def aes_speed(_where: Surroundings) -> Finding:
    """How fast AES-256-GCM is."""
    return _speed(Suite.AES_256_GCM)


def sm4_speed(_where: Surroundings) -> Finding:
    """How fast SM4-GCM is, and who computes it."""
    found = _speed(Suite.SM4_GCM)
    return found._replace(detail=with_reason(found.detail))


def _speed(suite: Suite) -> Finding:
    rate = speed.rate(suite, _MEASURED_NS)
    text = _("fast: {rate} MB/s on one core, by {library}")
    if rate < _FAST:
        text = _("slow: {rate} MB/s on one core, by {library}")
    library = speed.backend_of(suite)
    return Finding("ok", text.format(rate=f"{rate / 1e6:.0f}", library=library))


def configuration(where: Surroundings) -> Finding:
    """Whether the configuration files can be used, and the recipients that they name."""
    found = config.load(where.config_files)
    count = len(company_recipients(found))
    files = [path for path, there in found.files.items() if there]
    if not files:
        return Finding("ok", _("no configuration file"))
    return Finding(
        "ok",
        _("{files}; recipients for everything new: {count}").format(
            files=", ".join(files), count=count
        ),
    )


def state_folder(where: Surroundings) -> Finding:
    """Whether the local state folder can be used."""
    return _folder(where.state_dir, "XDG_STATE_HOME")


def config_folder(where: Surroundings) -> Finding:
    """Whether the user's configuration folder can be used."""
    return _folder(where.config_dir, "XDG_CONFIG_HOME")


def _folder(path: str, variable: str) -> Finding:
    elsewhere = _("set {variable} to a folder that you may write to").format(variable=variable)
    there = path = os.path.abspath(path)
    while not os.path.lexists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        return Finding("failed", _("{path} is no folder").format(path=there), elsewhere)
    # as the user who would write, which under sudo is not the one who called
    if not os.access(
        there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        return Finding("failed", _("no right to write to {path}").format(path=there), elsewhere)
    if there != path:
        return Finding("ok", _("{path} is made when it is needed").format(path=path))
    status = os.stat(path)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        detail = _("others may write to {place}").format(place=path)
        return Finding("warn", detail, f"chmod go-w {quoted(path)}")
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        detail = _("{place} belongs to user {uid}").format(place=path, uid=status.st_uid)
        return Finding("warn", detail, elsewhere)
    return Finding("ok", path)


def identity(where: Surroundings) -> Finding:
    """Whether there is a default identity, and that only its owner can read it."""
    path = where.identity
    try:
        with open(path, "rb", opener=_at_once) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            found = IdentityFile.decode(file.read(MAX_IDENTITY_FILE_SIZE + 1), path)
    except FileNotFoundError:
        detail = _("none; only needed to open what is sealed for a recipient of yours")
        return Finding("missing", detail, "encvault key new")
    if mode & 0o077:
        detail = _("{path}: others may read it (mode {mode})").format(path=path, mode=f"{mode:04o}")
        return Finding("warn", detail, f"chmod 600 {quoted(path)}")
    return Finding("ok", f"{fingerprint(found.public)} {path}")


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a FIFO that is in a file's place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def access_log(where: Surroundings) -> Finding:
    """Whether accesses can be recorded, without which nothing is opened."""
    configured = config.load(where.config_files).log.dir.value
    path = (configured or os.path.join(where.state_dir, "log")).replace("{user}", user_name())
    if not os.path.lexists(path):
        above = _folder(path, "XDG_STATE_HOME")
        if above.state == "failed":
            return above
        return Finding("ok", _("{path} begins with the first access").format(path=path))
    try:
        with Tree(path) as tree:
            calendar = Calendar.load(tree)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return Finding("failed", _("{path} is no access log").format(path=path))
    last = calendar.day(calendar.days - 1)
    return _log_fault(path, last, where.now) or Finding(
        "ok", _("{path}, keys up to {last}").format(path=path, last=last)
    )


def _log_fault(path: str, last: str, now: float) -> Finding | None:
    """Why nothing can be recorded in a log whose keys end on a day, as far as that shows."""
    room = os.statvfs(path)
    if not (room.f_bavail or (os.geteuid() == 0 and room.f_bfree)):
        return Finding("failed", _("no room left for {path}").format(path=path))
    for name in ("", ENTRIES, CHECKPOINTS, KEY):
        place = os.path.join(path, name) if name else path
        if not os.path.lexists(place):
            return Finding("failed", _("{path} is missing").format(path=place))
        if not os.access(place, os.W_OK):
            detail = _("{path} is not writable").format(path=place)
            return Finding("failed", detail, f"sudo chown -R {user_name()} {quoted(path)}")
    if datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d") > last:
        detail = _("{path} has keys up to {last} only").format(path=path, last=last)
        return Finding("failed", detail)
    return None
