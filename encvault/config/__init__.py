"""Defaults of a company and of a user, from TOML files whose paths the caller gives.

Knows files and values; what a recipient or a suite is, layers above find out. Reads no environment
variable.
"""

from encvault.config.files import read
from encvault.config.merged import Config, Given, LogChoice, PasswordPolicy, load, load_log
from encvault.config.settings import MAX_STRENGTH, SUITES, Settings, parse, setting_names

__all__ = [
    "MAX_STRENGTH",
    "SUITES",
    "Config",
    "Given",
    "LogChoice",
    "PasswordPolicy",
    "Settings",
    "load",
    "load_log",
    "parse",
    "read",
    "setting_names",
]
