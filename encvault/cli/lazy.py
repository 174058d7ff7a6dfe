"""Groups whose commands are imported when they are used."""

from __future__ import annotations

import importlib
from gettext import gettext  # click's words are in the process's own domain
from typing import TYPE_CHECKING, Any

import click

from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, and lists commands in our order.

    Args:
        commands: the module of each command by its name, where it is called ``NAME_command``, and
            its line in the list, not translated: who asks for the list waits for no module.
        options: see `click.Group`.
    """

    def __init__(self, commands: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self._lazy = commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """See `click.Group`."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """See `click.Group`."""
        if cmd_name not in self._lazy:
            return None
        module, line = self._lazy[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), f"{cmd_name}_command")
        command.short_help = _(line)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """See `click.Group`."""
        with formatter.section(gettext("Commands")):
            formatter.write_dl([(name, _(line)) for name, (_module, line) in self._lazy.items()])
