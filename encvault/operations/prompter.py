"""Whom operations ask for keys and consent."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from encvault.errors import (
    ConfirmationNeeded,
    Declined,
)
from encvault.fs.mounts import mount_at
from encvault.vault.known import KnownVaults

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from encvault.accesslog.log import AccessLog
    from encvault.keyslots import Identity, Recipient


class Prompter(Protocol):
    """Whom an operation asks. Every method may raise a `ConfigError` instead of answering."""

    def recipients(self, what: str) -> Sequence[Recipient]:
        """For whom to seal `what`; a new password is asked for twice."""

    def given_recipients(self) -> Sequence[Recipient]:
        """Those of them that were named beforehand; asks nothing."""

    def new_recipients(self, what: str, label: str | None) -> Sequence[Recipient]:
        """Whom to let open the vault `what`, which exists, from now on.

        Args:
            what: the vault.
            label: of the new keyslots, or None for what describes them best.
        """

    def identities(self, what: str) -> Sequence[Identity]:
        """What to open `what` with."""

    def staying_identities(self, what: str, gone: str) -> Sequence[Identity]:
        """What to open the vault `what` with once more, by a keyslot that stays.

        Args:
            what: the vault.
            gone: the label or id of the keyslot that opened it, which is to be dropped.
        """

    def passwords_for(self, what: str, label: str) -> Iterable[Identity]:
        """What may be the password of one more keyslot of `what`; nothing if it is not at hand."""

    def known_vaults(self) -> KnownVaults:
        """What is known of vaults and their keys."""

    def access_log(self) -> AccessLog | None:
        """Where accesses are recorded, or None if they are not."""

    def company_keys(self) -> Collection[bytes]:
        """The public keys, 1,216 bytes each, that are to have a keyslot in every vault."""

    def slots_made(self) -> None:
        """Hear that the keyslots wrapped for the recipients lie on disk, durable."""

    def has_keys(self) -> bool:
        """Whether recipients, identities or a password were given explicitly."""

    def confirm(self, question: str) -> bool:
        """Whether the user means it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A prompter for programs, with all answers given beforehand.

    Attributes:
        recipients_given: for sealing.
        identities_given: for opening.
        new_recipients_given: for new keyslots of a vault; they bring their labels.
        consent: the answer to every question.
        known: what is known of vaults and their keys; nothing, if it is left out.
        log: where accesses are recorded; nowhere, if it is left out.
    """

    recipients_given: tuple[Recipient, ...] = ()
    identities_given: tuple[Identity, ...] = ()
    new_recipients_given: tuple[Recipient, ...] = ()
    consent: bool = False
    known: KnownVaults = field(default_factory=KnownVaults)
    log: AccessLog | None = None

    def recipients(self, what: str) -> Sequence[Recipient]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.recipients_given

    def given_recipients(self) -> Sequence[Recipient]:
        """See `Prompter`."""
        return self.recipients_given

    def new_recipients(self, what: str, label: str | None) -> Sequence[Recipient]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.new_recipients_given

    def identities(self, what: str) -> Sequence[Identity]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.identities_given

    def staying_identities(self, what: str, gone: str) -> Sequence[Identity]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.identities_given

    def passwords_for(self, what: str, label: str) -> Iterable[Identity]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.identities_given

    def known_vaults(self) -> KnownVaults:
        """See `Prompter`."""
        return self.known

    def access_log(self) -> AccessLog | None:
        """See `Prompter`."""
        return self.log

    def company_keys(self) -> Collection[bytes]:
        """See `Prompter`."""
        return ()

    def slots_made(self) -> None:
        """See `Prompter`. A program knows its passwords."""

    def has_keys(self) -> bool:
        """See `Prompter`."""
        return bool(self.recipients_given or self.identities_given)

    def confirm(self, question: str) -> bool:
        """See `Prompter`."""
        if not self.consent:
            raise ConfirmationNeeded(question=question)
        return True


def known_vaults(
    state_dir: str | None, stated: str = "", pins: Callable[[], Mapping[str, str]] = dict
) -> KnownVaults:
    """What this machine remembers of vaults, and of those on drives by the drive.

    Args:
        state_dir: see `KnownVaults`.
        stated: likewise.
        pins: likewise.
    """
    return KnownVaults(state_dir, stated, pins, _is_drive)


def _is_drive(path: str) -> bool:
    mount = mount_at(os.path.realpath(path))
    if mount is None:
        return False
    from encvault.usb.drives import is_drive  # noqa: PLC0415 - 10 ms that few vaults are worth

    return is_drive(mount)


def confirm(prompter: Prompter, question: str) -> None:
    """Go on only with consent.

    Raises:
        Declined, ConfirmationNeeded: there was none, or nobody to ask.
    """
    if not prompter.confirm(question):
        raise Declined
