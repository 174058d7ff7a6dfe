"""What the configuration files add to a command, read when a command first needs it."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, cast

from encvault import config, operations
from encvault.cli import ui
from encvault.crypto.suite import Suite
from encvault.errors import ConfigError
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.accesslog.log import AccessLog
    from encvault.accesslog.redaction import PathForm
    from encvault.config import Config
    from encvault.keyslots import Recipient
    from encvault.secret import Secret

_SHORT = 8  # characters; NIST SP 800-63B-4 asks for 15 where nothing else protects


class Defaults:
    """The configuration of one command.

    Args:
        files: the configuration files, the company's first.
        quiet: do not tell what is added.
    """

    def __init__(self, files: Sequence[str], *, quiet: bool = False) -> None:
        self._files = files
        self._quiet = quiet

    @functools.cached_property
    def config(self) -> Config:
        """What the files say.

        Raises:
            ConfigError: one of them is not usable.
        """
        return config.load(self._files)

    @property
    def suite(self) -> Suite | None:
        """The suite of new vaults and files, if one is configured."""
        label = self.config.suite.value
        return Suite.from_label(label) if label else None

    @functools.cached_property
    def pins(self) -> dict[str, str]:
        """The fingerprints that vaults must have, by resolved folder."""
        pins = self.config.fingerprints.items()
        return {os.path.realpath(path): fingerprint for path, fingerprint in pins}

    @functools.cached_property
    def _company(self) -> list[operations.CompanyRecipient]:
        return operations.company_recipients(self.config)

    @property
    def company_keys(self) -> frozenset[bytes]:
        """The public keys of the company's recipients."""
        return frozenset(one.public for one in self._company)

    def recipients(self, own: Sequence[Recipient]) -> list[Recipient]:
        """The company's recipients that a user did not name; told on stderr.

        Args:
            own: those that the user named.
        """
        named = {getattr(recipient, "public", None) for recipient in own}
        added = [one for one in self._company if one.public not in named]
        if added and not self._quiet:
            ui.message(
                _("also sealed for the company's recipients: {fingerprints}").format(
                    fingerprints=", ".join(one.fingerprint for one in added)
                )
            )
        return [one.recipient() for one in added]

    def register(self, state_dir: str) -> str:
        """The file of the company's drives: as configured, or one in the local state folder."""
        return self.config.register.value or os.path.join(state_dir, "drives.json")

    def access_log(self, state_dir: str | None) -> AccessLog:
        """The access log that is configured, or the user's own in the local state folder."""
        from encvault.accesslog.log import (  # noqa: PLC0415 - what only looks needs no log
            AccessLog,
            user_name,
        )

        try:
            settings = self.config.log
        except ConfigError:
            # what needs no configuration does not fail for it; it is recorded nonetheless
            settings = config.load_log(self._files)
        path = settings.dir.value or os.path.join(state_dir or "", "log")
        return AccessLog(
            path.replace("{user}", user_name()),
            paths=cast("PathForm", settings.paths.value),
            required=settings.required.value,
        )

    def check_password(self, password: Secret) -> None:
        """See `encvault.operations.check_password`."""
        operations.check_password(password, self.config.password)

    def check_no_password(self) -> None:
        """See `encvault.operations.check_no_password`."""
        operations.check_no_password(self.config.password)

    def advise(self, password: Secret) -> None:
        """Tell who chooses a short password that it is one, where no rule forbids it."""
        if len(password.reveal().decode(errors="replace")) < _SHORT:
            ui.message(_("a short password is easy to guess; better take several words"))
