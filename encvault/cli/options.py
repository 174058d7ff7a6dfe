"""Options that several commands share."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from encvault.crypto.suite import Suite
from encvault.errors import HomeUnknown, InvalidRequest
from encvault.i18n import _
from encvault.keyslots import is_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.cli.secrets import CommandLinePrompter
    from encvault.cli.sources import Source

SYSTEM_CONFIG = "/etc/encvault/config.toml"

_MAX_FD = (1 << 31) - 1  # what a descriptor may be in C

Function = TypeVar("Function", bound="Callable[..., Any]")


def secret_options(
    *, recipients: bool, identities: bool, new_password: bool = False
) -> Callable[[Function], Function]:
    """Options for keys; the command gets a ``prompter``.

    Args:
        recipients: whether ``-r`` makes sense.
        identities: whether ``-i`` and a recovery code make sense.
        new_password: whether there is a new password beside the one that opens.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def command(**kwargs: Any) -> Any:
            # what only looks needs none of what keys need, and starts in half the time
            from encvault.cli.secrets import (  # noqa: PLC0415 - see above
                CommandLinePrompter,
                SecretOptions,
            )

            if kwargs.get("quiet") and kwargs.get("verbose"):
                raise InvalidRequest(reason=_("--quiet and --verbose exclude each other"))
            password, keyring = _source(kwargs, "password"), kwargs.pop("keyring")
            if password and keyring and (identities or new_password):
                # where there is only a new password, the keychain gets it beside its source
                raise InvalidRequest(reason=_("give one source of a password, not two"))
            prompter = CommandLinePrompter(
                SecretOptions(
                    recipients=kwargs.pop("recipients", ()),
                    identity_files=kwargs.pop("identity_files", ()),
                    password=password,
                    new_password=_source(kwargs, "new_password"),
                    recovery=_source(kwargs, "recovery"),
                    ask_recovery=kwargs.pop("ask_recovery", False),
                    keyring=keyring,
                    default_identity=default_identity(),
                    fingerprint=kwargs.pop("fingerprint", None) or "",
                    state_dir=state_dir(),
                    config_files=config_files(),
                    no_input=kwargs.pop("no_input"),
                    yes=kwargs.pop("yes", False),
                    quiet=kwargs.get("quiet", False),
                )
            )
            return prompter.outcome(function(**kwargs, prompter=prompter))

        wrapped: Any = command
        options = [
            *(_recipient_options() if recipients else ()),
            *(_identity_options() if identities else ()),
            *((_fingerprint_option,) if recipients or identities else ()),
            *_password_options(),
            *(_new_password_options() if new_password else ()),
        ]
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]  # click's decorators are transparent

    return decorate


def keyless_prompter(*, quiet: bool) -> CommandLinePrompter:
    """For what needs no key and asks nothing: it knows the configuration and the log."""
    from encvault.cli.secrets import (  # noqa: PLC0415 - see `secret_options`
        CommandLinePrompter,
        SecretOptions,
    )

    return CommandLinePrompter(
        SecretOptions(
            state_dir=state_dir(), config_files=config_files(), no_input=True, quiet=quiet
        )
    )


def _source(values: dict[str, Any], name: str) -> Source:
    from encvault.cli.sources import Source  # noqa: PLC0415 - see `secret_options`

    file, fd, command = (values.pop(f"{name}_{kind}", None) for kind in ("file", "fd", "command"))
    return Source(f"--{name.replace('_', '-')}", file, fd, command)


def _recipient_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "-r",
            "--recipient",
            "recipients",
            multiple=True,
            metavar="RECIPIENT",
            help=_("Seal for this recipient: a file, or the line itself. Repeatable."),
        )
    ]


def _identity_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "-i",
            "--identity",
            "identity_files",
            multiple=True,
            metavar="FILE",
            help=_("Open with this identity file. Repeatable."),
        ),
        *_recovery_options(),
    ]


def _recovery_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--recovery",
            "ask_recovery",
            is_flag=True,
            help=_("Open with a recovery code, which is asked for."),
        ),
        click.option(
            "--recovery-file",
            metavar="FILE",
            help=_("Take the recovery code from FILE."),
        ),
        click.option(
            "--recovery-fd",
            type=whole_number(high=_MAX_FD),
            metavar="N",
            help=_("Take the recovery code from file descriptor N."),
        ),
    ]


def _fingerprint_option(function: Any) -> Any:
    return click.option(
        "--fingerprint",
        metavar="FINGERPRINT",
        callback=_checked_fingerprint,
        help=_("Take the vault of this fingerprint, whatever was known, and no other."),
    )(function)


def _checked_fingerprint(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    if value is None:
        return None
    plain = value.strip().lower()
    if not is_fingerprint(plain):
        raise InvalidRequest(
            reason=_("--fingerprint takes eight groups of four, as info shows them")
        )
    return plain


def _password_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--password-file",
            metavar="FILE",
            help=_("Take the password from the first line of FILE."),
        ),
        click.option(
            "--password-fd",
            type=whole_number(high=_MAX_FD),
            metavar="N",
            help=_("Take the password from file descriptor N."),
        ),
        click.option(
            "--password-command",
            metavar="COMMAND",
            help=_("Take the password from what COMMAND prints. No shell reads it."),
        ),
        click.option(
            "--keyring",
            is_flag=True,
            help=_("Take the password from the desktop's keychain; leave your own new one there."),
        ),
        click.option(
            "--no-input",
            is_flag=True,
            help=_("Never ask. Without a terminal this is always so."),
        ),
    ]


def _new_password_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--new-password-file",
            metavar="FILE",
            help=_("Take the new password from the first line of FILE."),
        ),
        click.option(
            "--new-password-fd",
            type=whole_number(high=_MAX_FD),
            metavar="N",
            help=_("Take the new password from file descriptor N."),
        ),
        click.option(
            "--new-password-command",
            metavar="COMMAND",
            help=_("Take the new password from what COMMAND prints. No shell reads it."),
        ),
    ]


def whole_number(*, high: int | None = None) -> click.IntRange:
    """The type of a number from 0 on, by a name that fits into click's messages."""
    number = click.IntRange(min=0, max=high)
    number.name = _("whole number")
    return number


def json_option(function: Function) -> Function:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help=_("Print the result as JSON."))(
        function
    )


def quiet_option(function: Function) -> Function:
    """``--quiet``."""
    return click.option("-q", "--quiet", is_flag=True, help=_("Print errors only."))(function)


def verbose_option(function: Function) -> Function:
    """``--verbose``."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help=_("Tell which library does the work, and each path as its turn comes."),
    )(function)


def jobs_option(function: Function) -> Function:
    """``--jobs``."""
    return click.option(
        "--jobs",
        type=whole_number(high=64),
        default=0,
        metavar="N",
        help=_("Use N worker processes; 0 is one per processor."),
    )(function)


def yes_option(function: Function) -> Function:
    """``--yes``."""
    return click.option("--yes", is_flag=True, help=_("Answer yes to every question."))(function)


def suite_option(function: Function) -> Function:
    """``--suite``."""
    return click.option(
        "--suite",
        type=click.Choice([suite.label for suite in Suite]),
        callback=lambda _ctx, _parameter, value: Suite.from_label(value) if value else None,
        help=_("Cipher suite of a new vault or file; aes-256-gcm, if nothing is configured."),
    )(function)


def state_dir() -> str:
    """The local state folder: ``$XDG_STATE_HOME/encvault``."""
    return os.path.join(_base("XDG_STATE_HOME", ".local/state"), "encvault")


def mounts_dir() -> str:
    """Where drives are mounted unless somebody says where: gone when the user logs out."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return os.path.join(runtime, "encvault")
    return os.path.join(state_dir(), "drives")


def default_identity() -> str:
    """Where ``key new`` writes an identity unless it is told otherwise."""
    return os.path.join(config_dir(), "identity.key")


def config_dir() -> str:
    """The user's configuration folder: ``$XDG_CONFIG_HOME/encvault``."""
    return os.path.join(_base("XDG_CONFIG_HOME", ".config"), "encvault")


def units_dir() -> str:
    """Where systemd looks for the user's own units."""
    return os.path.join(_base("XDG_CONFIG_HOME", ".config"), "systemd", "user")


def kept_variables() -> dict[str, str]:
    """What a program that runs by itself needs to find what the command line found."""
    names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME")
    return {name: os.environ[name] for name in names if os.path.isabs(os.environ.get(name, ""))}


def _base(variable: str, in_home: str) -> str:
    """A folder of the XDG Base Directory Specification, which ignores relative paths.

    Raises:
        HomeUnknown: neither the variable nor a home folder says where it is.
    """
    base = os.environ.get(variable, "")
    if os.path.isabs(base):
        return base
    # of a user whom this machine does not know, "~" stays as it is: a folder of that name
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or os.environ.get("HOME") == "":  # which it takes for "/"
        raise HomeUnknown(variable=variable)
    return os.path.join(home, in_home)


def config_files() -> tuple[str, str]:
    """The configuration files that are looked for: the company's, then the user's."""
    return SYSTEM_CONFIG, os.path.join(config_dir(), "config.toml")
