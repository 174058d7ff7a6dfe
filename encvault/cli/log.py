"""``encvault log``: the group, and the options that its commands share."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from encvault.cli.defaults import Defaults
from encvault.cli.lazy import LazyGroup
from encvault.cli.options import config_files, state_dir
from encvault.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.accesslog.log import AccessLog

Function = TypeVar("Function", bound="Callable[..., Any]")

_SHOWING = "encvault.cli.logshow"
_CHECKING = "encvault.cli.logcheck"

log_command = LazyGroup(
    {
        "init": (_SHOWING, N_("Begin the log; write its public keys.")),
        "show": (_SHOWING, N_("Show the entries.")),
        "verify": (_CHECKING, N_("Check the log.")),
        "prove": (_CHECKING, N_("Prove one entry to somebody else.")),
        "check": (_CHECKING, N_("Check a proof of one entry.")),
        "anchor": (_SHOWING, N_("Print what proves the log up to now.")),
        "copy": (_SHOWING, N_("Copy the log for who checks it.")),
        "export": (_CHECKING, N_("Print the entries for another system.")),
        "report": (_CHECKING, N_("Write a report as HTML.")),
        "erase": (_SHOWING, N_("Forget paths of past months.")),
    },
    name="log",
    help=_(
        "Show, check and hand out the record of who opened what.\n\n"
        "Every command records what it does, signed, in a log that others can check without "
        "trusting this machine. Begin with: encvault log init -o FILE"
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def log_option(function: Function) -> Function:
    """``--log``; the command gets a ``log``."""
    return click.option(
        "--log",
        "log",
        metavar="DIR",
        callback=_log_of,
        help=_("The log in the folder DIR, such as a copy; your own without it."),
    )(function)


def _log_of(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> AccessLog:
    configured = Defaults(config_files()).access_log(state_dir())
    if value is not None:
        return replace(configured, path=os.path.abspath(value))
    return configured


def output_options(help_text: str) -> Callable[[Function], Function]:
    """``--output``, and ``--force`` to replace a file."""

    def decorate(function: Function) -> Function:
        force = click.option("--force", is_flag=True, help=_("Replace FILE."))
        return click.option("-o", "--output", metavar="FILE", help=help_text)(force(function))

    return decorate
