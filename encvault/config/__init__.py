"""Defaults of a company and of a user, from TOML files whose paths the caller gives.

Knows files and values; what a recipient or a suite is, layers above find out. Reads no environment
variable.

Each name is imported when it is first used: most machines have no such file to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.lazy import attach

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

if TYPE_CHECKING:
    from encvault.config.files import read
    from encvault.config.merged import Config, Given, LogChoice, PasswordPolicy, load, load_log
    from encvault.config.reading import (
        TomlFile,
        absolute,
        choice,
        setting_names,
        texts,
        truth,
        whole,
    )
    from encvault.config.settings import (
        MAX_STRENGTH,
        PAGE,
        SUITES,
        Settings,
        fingerprint_text,
        parse,
        recipients_in,
    )
else:  # out of the type checker's sight, which would believe in any name
    __getattr__, __dir__ = attach(
        __name__,
        {
            "encvault.config.files": "read",
            "encvault.config.merged": "Config Given LogChoice PasswordPolicy load load_log",
            "encvault.config.reading": "TomlFile absolute choice setting_names texts truth whole",
            "encvault.config.settings": "MAX_STRENGTH PAGE SUITES Settings fingerprint_text parse "
            "recipients_in",
        },
    )
