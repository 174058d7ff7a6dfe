"""Configuration files, and what they demand."""

from __future__ import annotations

from encvault.errors.usage import ConfigError
from encvault.i18n import N_


class ConfigUnreadable(ConfigError):
    """A configuration file is there and cannot be read; what it demands would be lost."""

    message = N_("{path}: cannot read the configuration: {reason}")
    advice = N_("make it readable, or remove it if nothing is to be configured")
    path: str
    reason: str


class ConfigMalformed(ConfigError):
    """A configuration file is not TOML."""

    message = N_("{place}: not valid TOML: {reason}")
    advice = N_("see the example in {page}")
    place: str
    reason: str
    page: str


class UnknownSetting(ConfigError):
    """A key that means nothing: a mistyped demand must not be a demand less."""

    message = N_("{place}: unknown key {key}")
    advice = N_("{suggestion}")
    place: str
    key: str
    suggestion: str


class InvalidSetting(ConfigError):
    """A key whose value cannot be used."""

    message = N_("{place}: {key}: {reason}")
    advice = N_("see the example in {page}")
    place: str
    key: str
    reason: str
    page: str


class ContradictedPin(ConfigError):
    """A user's file gives a vault another fingerprint than the system's."""

    message = N_("{place}: another fingerprint for {vault} than in {other}")
    advice = N_("ask who keeps {other} which one is right, and remove the other one")
    place: str
    vault: str
    other: str


class UntrustedConfig(ConfigError):
    """A configuration file that others can change: they would decide who can open vaults."""

    message = N_("the configuration {path} is not used: {reason}")
    advice = N_("look at what it says, then: chown {owner} {place} && chmod go-w {place}")
    path: str
    place: str
    owner: str
    reason: str


class WeakPassword(ConfigError):
    """A new password that the configuration does not allow."""

    message = N_("the password is too weak: {reason}")
    advice = N_("take several words that do not belong together; the rules: encvault config show")
    reason: str


class StrengthUnmeasured(ConfigError):
    """The configuration has a rule for the strength of passwords, and nothing can measure it."""

    message = N_("the strength of a password cannot be measured: the package {package} is missing")
    advice = N_("install it: pip install {package}")
    package: str
