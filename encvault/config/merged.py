"""What all configuration files say together, and which of them says what."""

from __future__ import annotations

import contextlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from encvault.config.files import read
from encvault.errors import ConfigError, ContradictedPin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from encvault.config.settings import Settings

MAX_FILE_SIZE = 65_536  # bytes

Value = TypeVar("Value")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Given(NamedTuple, Generic[Value]):
    """A value and where it is from.

    Attributes:
        value: the value.
        source: the configuration file that gave it, or None for a default.
    """

    value: Value
    source: str | None = None


class PasswordPolicy(NamedTuple):
    """What every new password must keep.

    Attributes:
        min_length: characters.
        min_strength: zxcvbn's score, 0 (any) to 4.
    """

    min_length: int
    min_strength: int


class LogChoice(NamedTuple):
    """What holds for the access log.

    Attributes:
        dir: its folder; None for the program's own choice.
        paths: what is recorded of paths: ``full``, ``name`` or ``hmac``.
        required: whether nothing is opened that cannot be recorded.
    """

    dir: Given[str | None] = Given(None)
    paths: Given[str] = Given("full")
    required: Given[bool] = Given(True)  # noqa: FBT003 - the value of a setting


class Config(NamedTuple):
    """What holds for a run. Without arguments: what holds if nothing is configured.

    Attributes:
        files: each file that was looked for, by its path, and whether it was there.
        recipients: for whom everything new is sealed as well: lines, and absolute paths of files.
        recipients_from: the last file that has this key, be its list empty; None if none has.
        suite: the cipher suite of what is new; None for the program's own choice.
        min_length, min_strength: see `PasswordPolicy`.
        log: see `LogChoice`.
        register: the file of the company's drives, absolute; None for the program's own choice.
        pins: the fingerprint that a vault must have, by its absolute path.
    """

    files: Mapping[str, bool] = _NOTHING
    recipients: tuple[Given[str], ...] = ()
    recipients_from: str | None = None
    suite: Given[str | None] = Given(None)
    min_length: Given[int] = Given(1)
    min_strength: Given[int] = Given(0)
    log: LogChoice = LogChoice()
    register: Given[str | None] = Given(None)
    pins: Mapping[str, Given[str]] = _NOTHING

    @property
    def password(self) -> PasswordPolicy:
        """The rule for new passwords."""
        return PasswordPolicy(self.min_length.value, self.min_strength.value)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """The fingerprint of each pinned vault, by its absolute path."""
        return {path: given.value for path, given in self.pins.items()}


def load(paths: Iterable[str]) -> Config:
    """Read the configuration files.

    What asks for more safety adds up, and no later file takes it back: recipients, pins, and of the
    password rules the stricter. What is said of the access log is the first file's, for who is
    recorded shall not choose how; so is the register of drives. The suite is the last file's.

    Args:
        paths: the company's file, then the user's. One that is missing says nothing.

    Raises:
        ConfigError: a file cannot be read, trusted or understood, or contradicts one before it.
    """
    found: dict[str, Settings] = {}
    files: dict[str, bool] = {}
    for path in map(os.path.abspath, paths):
        data = read(path, MAX_FILE_SIZE)
        files[path] = data is not None
        if data is not None:
            from encvault.config.settings import parse  # noqa: PLC0415 - where there is a file

            found[path] = parse(data, path)
    config = Config()
    return Config(
        files=files,
        recipients=tuple(
            Given(text, path) for path, one in found.items() for text in one.recipients or ()
        ),
        recipients_from=next(
            (path for path in reversed(found) if found[path].recipients is not None), None
        ),
        suite=_last(config.suite, ((path, one.suite) for path, one in found.items())),
        min_length=_strictest(
            config.min_length, ((path, one.password.min_length) for path, one in found.items())
        ),
        min_strength=_strictest(
            config.min_strength, ((path, one.password.min_strength) for path, one in found.items())
        ),
        log=_log(found),
        register=_first(config.register, ((path, one.usb.register) for path, one in found.items())),
        pins=_pins(found),
    )


def _last(default: Given[Value], given: Iterable[tuple[str, Value]]) -> Given[Value]:
    for path, value in given:
        if value is not None:
            default = Given(value, path)
    return default


def _first(default: Given[Value], given: Iterable[tuple[str, Value]]) -> Given[Value]:
    return next((Given(value, path) for path, value in given if value is not None), default)


def _log(found: Mapping[str, Settings]) -> LogChoice:
    """The table of the first file that has one, as a whole; what it leaves open is the default."""
    choice = LogChoice()
    for path, settings in found.items():
        said = settings.log
        if (said.dir, said.paths, said.required) != (None, None, None):
            return LogChoice(
                choice.dir if said.dir is None else Given(said.dir, path),
                choice.paths if said.paths is None else Given(said.paths, path),
                choice.required if said.required is None else Given(said.required, path),
            )
    return choice


def load_log(paths: Iterable[str]) -> LogChoice:
    """What holds for the access log, though a file of these may not be usable.

    Args:
        paths: the company's file, then the user's. One that is broken says nothing here.

    Returns:
        the choice of the first sound file that has one; without any, the usual place, and of paths
        the least.
    """
    for path in paths:
        with contextlib.suppress(ConfigError):
            choice = load([path]).log
            if choice != LogChoice():
                return choice
    return LogChoice(paths=Given("hmac"))


def _strictest(default: Given[int], given: Iterable[tuple[str, int | None]]) -> Given[int]:
    for path, value in given:
        # a rule that only repeats the default is still somebody's
        if value is not None and (value > default.value or default.source is None):
            default = Given(max(value, default.value), path)
    return default


def _pins(found: Mapping[str, Settings]) -> Mapping[str, Given[str]]:
    pins: dict[str, Given[str]] = {}
    owners: dict[str, str] = {}
    for path, settings in found.items():
        for vault, one in settings.vaults.items():
            if one.fingerprint is None:
                continue
            pin = pins.setdefault(vault, Given(one.fingerprint, path))
            owner = owners.setdefault(vault, path)
            if pin.value != one.fingerprint:
                raise ContradictedPin(place=path, vault=vault, other=owner)
    return pins
