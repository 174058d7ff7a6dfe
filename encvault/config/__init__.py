"""Defaults of a company and of a user, from TOML files whose paths the caller gives.

Knows files and values; what a recipient or a suite is, layers above find out. Reads no environment
variable.
"""

from encvault.config.files import read
from encvault.config.merged import Config, Given, LogChoice, PasswordPolicy, load, load_log
from encvault.config.reading import TomlFile, absolute, choice, setting_names, texts, truth, whole
from encvault.config.settings import (
    MAX_STRENGTH,
    PAGE,
    SUITES,
    Settings,
    fingerprint_text,
    parse,
    recipients_in,
)

__all__ = [
    "MAX_STRENGTH",
    "PAGE",
    "SUITES",
    "Config",
    "Given",
    "LogChoice",
    "PasswordPolicy",
    "Settings",
    "TomlFile",
    "absolute",
    "choice",
    "fingerprint_text",
    "load",
    "load_log",
    "parse",
    "read",
    "recipients_in",
    "setting_names",
    "texts",
    "truth",
    "whole",
]
