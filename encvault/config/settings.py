"""What one configuration file says: TOML, read into frozen dataclasses.

The keys are the fields of `Settings` and of its tables (docs/config.md).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.config.reading import TomlFile, absolute, choice, truth, whole
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = "docs/config.md"

PATHS = ("full", "name", "hmac")
SUITES = ("aes-256-gcm", "sm4-gcm")
MAX_LENGTH_DEMANDED = 128  # characters
MAX_STRENGTH = 4  # zxcvbn's best score

_FINGERPRINT = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){7}")


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """``[password]``: what every new password must keep.

    Attributes:
        min_length: characters, 1 to 128.
        min_strength: zxcvbn's score, 0 (any) to 4.
    """

    min_length: int | None = None
    min_strength: int | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``.

    Attributes:
        dir: the access log's folder, absolute; ``{user}`` in it stands for who runs encvault.
        paths: what is recorded of paths, one of `PATHS`.
        required: whether nothing is opened that cannot be recorded.
    """

    dir: str | None = None
    paths: str | None = None
    required: bool | None = None


@dataclass(frozen=True, slots=True)
class UsbSettings:
    """``[usb]``.

    Attributes:
        register: the file of the company's drives, absolute.
    """

    register: str | None = None


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """``[vaults."PATH"]``.

    Attributes:
        fingerprint: the only one that this vault may have.
    """

    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What one file says; the fields are its keys.

    Attributes:
        recipients: for whom everything new is sealed as well: lines, and absolute paths of files;
            None if the file does not say.
        suite: the cipher suite of what is new.
        password, log, usb: tables.
        vaults: a table for each vault, by its absolute path.
    """

    recipients: tuple[str, ...] | None = None
    suite: str | None = None
    password: PasswordSettings = field(default_factory=PasswordSettings)
    log: LogSettings = field(default_factory=LogSettings)
    usb: UsbSettings = field(default_factory=UsbSettings)
    vaults: Mapping[str, VaultSettings] = field(
        default_factory=dict, metadata={"each": VaultSettings}
    )


def parse(data: bytes, path: str) -> Settings:
    """The settings of one file.

    Args:
        data: its bytes.
        path: its absolute path, for messages and for relative paths in it.

    Raises:
        ConfigMalformed: not UTF-8, or not TOML.
        UnknownSetting, InvalidSetting: a key or value that has no meaning.
    """
    file = TomlFile(data, path, page=PAGE, kind=Settings)
    return Settings(
        recipients=_recipients(file),
        suite=file.value(("suite",), choice(SUITES)),
        password=PasswordSettings(
            file.value(("password", "min_length"), whole(1, MAX_LENGTH_DEMANDED)),
            file.value(("password", "min_strength"), whole(0, MAX_STRENGTH)),
        ),
        log=LogSettings(
            file.value(("log", "dir"), _log_dir),
            file.value(("log", "paths"), choice(PATHS)),
            file.value(("log", "required"), truth),
        ),
        usb=UsbSettings(file.value(("usb", "register"), absolute)),
        vaults=_vaults(file),
    )


def _log_dir(value: object) -> str:
    path = absolute(value)
    # one that leads back out of a user's folder would be the same for all
    if ".." in str(value).split("/") or set(re.findall(r"\{[^}]*\}?", path)) - {"{user}"}:
        raise ValueError(_("must have no .. in it, and no braces but those of {user}"))
    return path


def fingerprint_text(value: object) -> str:
    """A vault's fingerprint."""
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise ValueError(_("must be a fingerprint, 8 groups of 4 characters a-z and 2-7"))
    return value


def recipients_in(folder: str, listed: object) -> tuple[str, ...]:
    """Recipients: lines, and paths of files, which are made absolute.

    Args:
        folder: that relative paths begin in.
        listed: what a file says.
    """
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise ValueError(_("must be a list of texts"))
    if any(not item or "\0" in item for item in listed):
        raise ValueError(_("has an entry that is no path and no recipient"))
    return tuple(
        item if item.startswith("encvault1-") else os.path.normpath(os.path.join(folder, item))
        for item in listed
    )


def _recipients(file: TomlFile) -> tuple[str, ...] | None:
    folder = os.path.dirname(file.path)
    return file.value(("recipients",), lambda listed: recipients_in(folder, listed))


def _vaults(file: TomlFile) -> Mapping[str, VaultSettings]:
    found: dict[str, VaultSettings] = {}
    for name, table in file.table(file.document.get("vaults", {}), ("vaults",)).items():
        keys = ("vaults", name)
        try:
            path = absolute(name)
        except ValueError as error:
            raise file.invalid(keys, error.args[0]) from None
        if path in found:
            raise file.invalid(keys, _("names the same vault again"))
        file.check_keys(file.table(table, keys), VaultSettings, keys)
        found[path] = VaultSettings(file.value((*keys, "fingerprint"), fingerprint_text))
    return found
