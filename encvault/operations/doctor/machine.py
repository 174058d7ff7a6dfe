"""Checks of the machine: what encvault's features stand on, and where secrets could leak to."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import shutil
import sys
from datetime import UTC, datetime

from encvault.i18n import _, system_reason
from encvault.keychain import Keychain
from encvault.operations.doctor.findings import Finding, Surroundings

_FUSE_LIBRARIES = ("libfuse3.so.4", "libfuse3.so.3")  # 3.17 and newer, older
_INSTALL_MFUSEPY = "pip install 'encvault[mount]'"
_INSTALL_FUSE = "sudo apt install fuse3"
_INSTALL_KEYCHAIN = "sudo apt install gnome-keyring"
_KEYCHAINS = ("gnome-keyring-daemon", "kwalletd6", "kwalletd5")
_UDEV_DAEMONS = ("lib/systemd/systemd-udevd", "usr/lib/systemd/systemd-udevd", "sbin/udevd")
_KEYCHAIN_SECONDS = 4.0  # below the limit of a check
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # no copy of this version is older
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_DEPTH = 8  # devices below devices: a partition, LUKS, LVM, and room


def clock(where: Surroundings) -> Finding:
    """Whether the date can be true; keyslots, data keys and the ledger carry times."""
    now = datetime.fromtimestamp(where.now, UTC)
    shown = now.strftime("%Y-%m-%d %H:%M UTC")
    if not _EARLIEST < now < _LATEST:
        return Finding(
            "failed",
            _("{time} cannot be true").format(time=shown),
            "sudo timedatectl set-ntp true",
        )
    return Finding("ok", shown)


def locale_name(where: Surroundings) -> Finding:
    """Whether names of files in every script can be shown and typed."""
    name, encoding = where.locale, sys.getfilesystemencoding()
    codeset = name.partition(".")[2].partition("@")[0].lower().replace("-", "")
    detail = _("{name}, file names in {encoding}").format(name=name, encoding=encoding)
    if codeset == "utf8" and encoding == "utf-8":
        return Finding("ok", detail)
    return Finding("warn", _("{detail}: no UTF-8").format(detail=detail), "export LANG=C.UTF-8")


def fuse(where: Surroundings) -> Finding:
    """Whether a vault could be mounted."""
    if importlib.util.find_spec("mfusepy") is None:
        detail = _("the package {name} is missing").format(name="mfusepy")
        return Finding("missing", detail, _INSTALL_MFUSEPY)
    if not any(map(_loads, _FUSE_LIBRARIES)):
        return Finding("missing", _("the library libfuse3 is missing"), _INSTALL_FUSE)
    helper = shutil.which("fusermount3", path=where.search_path)
    if helper is None:
        return Finding("missing", _("the program fusermount3 is missing"), _INSTALL_FUSE)
    device = where.at("dev/fuse")
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return _unusable(where, device, error)
    return Finding("ok", f"libfuse3, {helper}, {device}")


def _unusable(where: Surroundings, device: str, error: OSError) -> Finding:
    detail = _("{path}: {reason}").format(path=device, reason=system_reason(error))
    is_absent = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
    if is_absent and not where.in_container:
        return Finding("missing", detail, "sudo modprobe fuse")
    if error.errno == errno.EACCES and not where.in_container:
        # the helper could open it, but libfuse does not get so far
        return Finding("failed", detail, f"sudo chmod a+rw {device}")
    fix = _("start the container with: {options}").format(
        options="--device /dev/fuse --cap-add SYS_ADMIN"
    )
    return Finding("missing" if is_absent else "failed", detail, fix)


def udev(where: Surroundings) -> Finding:
    """Whether drives are noticed as they come and go."""
    if importlib.util.find_spec("pyudev") is None:
        return Finding(
            "missing",
            _("the package {name} is missing").format(name="pyudev"),
            "pip install pyudev",
        )
    if not _loads("libudev.so.1"):
        detail = _("the library libudev is missing")
        return Finding("missing", detail, "sudo apt install libudev1")
    if not os.path.exists(where.at("run/udev/control")):
        return Finding("missing", _("udev does not run here"), _start_udev(where))
    return Finding("ok", _("runs"))


def _start_udev(where: Surroundings) -> str:
    if where.in_container:
        return _("this is a container: lock and unlock drives on its host")
    if any(map(os.path.exists, map(where.at, _UDEV_DAEMONS))):
        return "sudo systemctl start systemd-udevd"
    return "sudo apt install udev"


def systemd(where: Surroundings) -> Finding:
    """Whether jobs can be scheduled; the test is that of sd_booted(3)."""
    if os.path.isdir(where.at("run/systemd/system")):
        return Finding("ok", _("runs"))
    detail = _("does not run here; nightly jobs need another scheduler")
    if where.in_container:
        return Finding("missing", detail, _("this is a container: schedule jobs on its host"))
    if shutil.which("crontab", path=where.search_path) is not None:
        return Finding("missing", detail, "crontab -e")
    return Finding("missing", detail, "sudo apt install cron")


def keychain(where: Surroundings) -> Finding:
    """Whether passwords can be left with the desktop's keychain."""
    for package in ("keyring", "jeepney"):
        if importlib.util.find_spec(package) is None:
            absent = _("the package {name} is missing").format(name=package)
            return Finding("missing", absent, f"pip install {package}")
    probe = Keychain(where.session, timeout_s=_KEYCHAIN_SECONDS).probe()
    reason = _("locked") if probe.state == "locked" else probe.detail
    detail = probe.backend or reason
    if probe.backend and reason:
        detail = _("{path}: {reason}").format(path=probe.backend, reason=reason)
    if probe.state == "usable":
        return Finding("ok", detail)
    if probe.state == "locked":
        return Finding("warn", detail, _("log in to the desktop, or unlock it there"))
    fix = _INSTALL_KEYCHAIN
    if any(shutil.which(program, path=where.search_path) for program in _KEYCHAINS):
        fix = _("log in to a desktop session, or start one with: {command}").format(
            command="dbus-run-session"
        )
    return Finding("failed" if probe.state == "unsafe" else "missing", detail, fix)


def core_dumps(where: Surroundings) -> Finding:
    """Whether a crash could write keys to the disk (core(5))."""
    pattern = where.read("proc/sys/kernel/core_pattern").strip()
    limits = where.read("proc/self/limits").splitlines()
    words = [line.split() for line in limits if line.startswith("Max core file size")]
    limit = words[0][4] if words else "?"
    detail = _("limit {limit}, pattern {pattern}").format(limit=limit, pattern=pattern or "?")
    if limit in ("0", "1"):
        # with 0 a program that dumps are piped to is called all the same; the usual ones keep it
        return Finding("ok", detail)
    return Finding("warn", detail, "ulimit -c 0")


def swap(where: Surroundings) -> Finding:
    """Whether memory with keys in it could be written to the disk in the clear."""
    lines = where.read("proc/swaps").splitlines()[1:]
    devices = [line.split()[0].replace("\\040", " ") for line in lines if line.strip()]
    if not devices:
        return Finding("ok", _("none"))
    open_ones = [device for device in devices if not _is_encrypted(where, device)]
    if not open_ones:
        return Finding("ok", _("in memory or encrypted: {devices}").format(devices=_all(devices)))
    return Finding(
        "warn",
        _("not known to be encrypted: {devices}").format(devices=_all(open_ones)),
        _("sudo swapoff -a, or encrypt it: man crypttab"),
    )


def _all(devices: list[str]) -> str:
    return ", ".join(devices)


def _is_encrypted(where: Surroundings, device: str) -> bool:
    """Whether what is written to a swap device stays in memory, or is encrypted on its way.

    Of a swap file that cannot be told.
    """
    real = os.path.realpath(where.at(device.lstrip("/")))
    in_dev = os.path.dirname(real) == os.path.realpath(where.at("dev"))
    return in_dev and _keeps_secrets(where, os.path.basename(real), _DEPTH)


def _keeps_secrets(where: Surroundings, name: str, depth: int) -> bool:
    uuid = where.read(f"sys/class/block/{name}/dm/uuid")
    if name.startswith("zram") or uuid.startswith("CRYPT-"):
        return True
    try:
        below = os.listdir(where.at(f"sys/class/block/{name}/slaves"))
    except OSError:
        below = []  # of a partition nothing is listed
    return bool(below and depth) and all(_keeps_secrets(where, one, depth - 1) for one in below)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
