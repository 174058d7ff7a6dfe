"""A vault for a program: look into it, read from it, say who can open it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from encvault import operations
from encvault.api.arguments import (
    StrPath,
    as_identities,
    as_jobs,
    as_optional_suite,
    as_path,
    as_place,
    as_recipients,
)
from encvault.api.keys import PasswordRecipient, opening
from encvault.crypto import selftest
from encvault.envelope import check_path
from encvault.errors import KeyRequired
from encvault.operations import Answers
from encvault.operations.places import storage
from encvault.operations.recording import recording
from encvault.vault import vault as core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from encvault.accesslog.log import AccessLog
    from encvault.crypto.suite import Suite
    from encvault.errors import EncvaultError
    from encvault.keyslots import Identity, Recipient, SlotInfo
    from encvault.operations import RecoveryCode, Rekeyed
    from encvault.vault.listing import Listed
    from encvault.vault.report import Observer, Report


class Vault:
    """A vault and what opens it. Make one by `create` or `open`; close it, or use ``with``.

    Nothing is held between two calls, so other programs may use the vault meanwhile; each call
    sees it as it is then. Nothing is recorded unless a log is given. Without identities only
    `files` of a vault with visible names, `slots` and the attributes are there; the rest raises
    `KeyRequired`.

    Attributes:
        path: absolute path of the folder.
        fingerprint: of its public keys, 32 characters in groups of four. Keep it, and compare it
            before you seal into a vault that others can write to.
        suite: cipher suite of its files.
        hides_names: whether it hides names and tree.
    """

    path: str
    fingerprint: str
    suite: Suite
    hides_names: bool

    def __init__(
        self, path: StrPath, identities: Iterable[Identity] = (), *, log: AccessLog | None = None
    ) -> None:
        self._log = log
        self._identities = as_identities(identities)
        self._is_closed = False
        where = as_path(path)
        selftest.run()
        with (
            recording(log, "unlock", where) as recorder,
            storage(where),
            core.Vault.load(where) as vault,
        ):
            if self._identities:
                recorder.ready()
                vault.unlock(self._identities)
                with recorder.inside(vault):
                    recorder.record(path=vault.path)
            self.path = os.path.abspath(vault.path)
            self.fingerprint = vault.record.fingerprint
            self.suite = vault.record.suite
            self.hides_names = vault.hidden

    @classmethod
    def create(
        cls,
        path: StrPath,
        recipients: Iterable[Recipient],
        identities: Iterable[Identity] = (),
        *,
        suite: Suite | None = None,
        hide_names: bool = False,
        consent: bool = False,
        log: AccessLog | None = None,
    ) -> Self:
        """Make a folder a vault, and the folder itself if it is missing; nothing is sealed yet.

        Args:
            path: the folder.
            recipients: who can open it; at least one.
            identities: what this program opens it with, if it does.
            suite: for good; AES-256-GCM unless given.
            hide_names: for good; whether to hide names and tree.
            consent: whether it may lie inside another vault.
            log: where this call and those on the vault are recorded; nowhere without one.

        Raises:
            KeyRequired: there is no recipient.
            AlreadyAVault: it is one.
            ConfirmationNeeded: it lies inside another vault, and no consent was given.
            NoMatchingKeyslot: the identities are not those of a recipient; the vault exists then.
        """
        given = as_identities(identities)
        answers = Answers(recipients_given=as_recipients(recipients), consent=consent, log=log)
        operations.init_vault(
            as_path(path), answers, suite=as_optional_suite(suite), hide_names=hide_names
        )
        return cls(path, given, log=log)

    @classmethod
    def open(
        cls, path: StrPath, identities: Iterable[Identity] = (), *, log: AccessLog | None = None
    ) -> Self:
        """A vault that exists.

        Args:
            path: its folder.
            identities: tried in order; one must fit if any is given.
            log: where calls on the vault are recorded; nowhere without one.

        Raises:
            NotAVault, SourceMissing: there is none.
            MalformedVault: its record cannot be trusted.
            NoMatchingKeyslot: no identity fits.
        """
        return cls(path, identities, log=log)

    def close(self) -> None:
        """Forget the identities; later calls raise ValueError."""
        self._identities = ()
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- files ------------------------------------------------------------------------------

    def files(
        self,
        place: str = "",
        *,
        on_problem: Callable[[EncvaultError], None] | None = None,
        jobs: int = 0,
    ) -> list[Listed]:
        """What the vault holds.

        Args:
            place: a file or folder in the vault, ``/`` between names; all of it if empty.
            on_problem: is given each file that cannot be listed, and the others go on. Without it
                the first is raised.
            jobs: worker processes, 0 for one per processor.

        Raises:
            SourceMissing: there is no such place.
            IntegrityError, FormatError, StorageError: see `on_problem`.
            KeyRequired: names are hidden, and there are no identities.
        """
        answers = (
            self._answers() if self.hides_names or self._identities else Answers(log=self._log)
        )
        listed, problems = operations.list_files(self._at(place), answers, jobs=as_jobs(jobs))
        for problem in problems:
            if on_problem is None:
                raise problem
            on_problem(problem)
        return listed

    def stream(self, path: str, *, observer: Observer | None = None) -> Iterator[bytes]:
        """The content of one file, piece by piece, with constant memory.

        Every piece is authentic, but the whole is genuine only if the iterator ends without an
        error. With hidden names each call looks through all names; for many files use
        `open_folder`.

        Args:
            path: in the vault, ``/`` between names.
            observer: is told before anything is given out.

        Returns:
            Pieces of up to 512 KiB. Errors come when the first is asked for, or later.

        Raises:
            SourceMissing, NotSealed, InvalidRequest: there is no sealed file at that place.
            IntegrityError: it is damaged; also while iterating.
            KeyRequired: there are no identities.
        """
        return map(bytes, operations.cat(self._at(path), self._answers(), observer))

    def read(self, path: str, *, observer: Observer | None = None) -> bytes:
        """All of the content of one file, authentic to its end. See `stream`."""
        return b"".join(self.stream(path, observer=observer))

    def verify(
        self,
        place: str = "",
        *,
        sample: float = 100.0,
        jobs: int = 0,
        observer: Observer | None = None,
    ) -> Report:
        """Read and authenticate every sealed file, and write nothing.

        Args:
            place: a file or folder in the vault; all of it if empty.
            sample: percent of the files to read, above 0 and up to 100.
            jobs: worker processes, 0 for one per processor.
            observer: is told each problem as it is found.

        Returns:
            What is authentic, and a problem for each file that is not.

        Raises:
            SourceMissing: there is nothing sealed at this place.
            KeyRequired: there are no identities.
        """
        return operations.verify(
            self._at(place), self._answers(), sample=sample, jobs=as_jobs(jobs), observer=observer
        )

    # -- keyslots ---------------------------------------------------------------------------

    def slots(self) -> list[SlotInfo]:
        """Who can open the vault: id, kind, label and time of each keyslot. Needs no key."""
        return operations.list_slots(self._at(""))

    def add_slots(self, recipients: Iterable[Recipient]) -> list[SlotInfo]:
        """Let more people open the vault.

        Args:
            recipients: at least one, and none that can open it already.

        Returns:
            The new keyslots.

        Raises:
            KeyRequired: there is no recipient, or there are no identities.
            InvalidRequest: one has a keyslot already, or there would be too many.
        """
        new = as_recipients(recipients)
        if not new:
            raise KeyRequired(what=self.path)
        return operations.add_slots(self.path, self._answers(new=new))

    def remove_slot(self, slot_id: str, *, force: bool = False) -> SlotInfo:
        """Take a keyslot away. Old copies of the vault still open with it.

        Args:
            slot_id: which.
            force: also the last one that is a password or a recovery code.

        Returns:
            What was removed.

        Raises:
            NoSuchKeyslot, NeededKeyslot: there is none; it must stay.
            KeyRequired: there are no identities.
        """
        return operations.remove_slot(self.path, self._answers(), slot_id, force=force)

    def change_password(self, new: str | bytes, *, slot_id: str | None = None) -> SlotInfo:
        """Put a new password in the place of an old one; files and label stay as they are.

        An identity for the old password opens nothing from then on: open the vault again.

        Args:
            new: the new password.
            slot_id: the keyslot to change, or None for the one that opens with the identities.

        Returns:
            The new keyslot.

        Raises:
            NoSuchKeyslot: there is none of this id.
            InvalidRequest: that keyslot is not for a password.
            KeyRequired: there are no identities.
        """
        given = self._answers().identities_given
        answers = _NewPassword(identities_given=given, log=self._log, password=new)
        return operations.change_password(self.path, answers, slot_id)

    def add_recovery(self, *, label: str = "") -> RecoveryCode:
        """Make a recovery code, of which only the keyslot is kept.

        Raises:
            KeyRequired: there are no identities.
        """
        return operations.add_recovery(self.path, self._answers(), label=label)

    def revoke(
        self,
        slot_id: str,
        *,
        reseal: bool = False,
        force: bool = False,
        jobs: int = 0,
        observer: Observer | None = None,
    ) -> Rekeyed:
        """Give the vault new keys that one keyslot does not open, as when somebody leaves.

        Recipients and recovery codes stay good; passwords that are not among the identities become
        pending. `fingerprint` is the new one then. Call it again if it was interrupted.

        Args:
            slot_id: whom to shut out; the identities must open another keyslot.
            reseal: whether to seal every file anew as well, so that former keys open none.
            force: also the last one that is a password or a recovery code.
            jobs: worker processes for that, 0 for one per processor.
            observer: of that.

        Returns:
            Who is shut out, whose password must be set again, and how much is exposed still.

        Raises:
            NoSuchKeyslot, NeededKeyslot: there is none; it must stay.
            KeptKeyslot: the identities open no other keyslot.
            KeyRequired: there are no identities.
        """
        return self._changed(
            operations.revoke(
                self.path,
                self._answers(consent=True),
                slot_id,
                force=force,
                reseal=reseal,
                jobs=as_jobs(jobs),
                observer=observer,
            )
        )

    def rekey(
        self, *, reseal: bool = False, jobs: int = 0, observer: Observer | None = None
    ) -> Rekeyed:
        """The same, and everyone who has a keyslot keeps it."""
        answers = self._answers(consent=True)
        return self._changed(
            operations.rekey(
                self.path, answers, reseal=reseal, jobs=as_jobs(jobs), observer=observer
            )
        )

    def _changed(self, done: Rekeyed) -> Rekeyed:
        self.fingerprint = done.fingerprint
        return done

    # -- inside -----------------------------------------------------------------------------

    def _at(self, place: str) -> str:
        if self._is_closed:
            raise ValueError("the vault is closed")
        if not as_place(place):
            return self.path
        check_path(place, self.path)
        return os.path.join(self.path, *place.split("/"))

    def _answers(self, new: tuple[Recipient, ...] = (), *, consent: bool = False) -> Answers:
        given = opening(self._identities, self._at("")).identities_given
        return Answers(
            identities_given=given, new_recipients_given=new, consent=consent, log=self._log
        )


@dataclass(frozen=True, slots=True)
class _NewPassword(Answers):
    """Answers with a password for the keyslot that takes another one's place, label and all."""

    password: str | bytes = field(default="", repr=False)

    def new_recipients(self, what: str, label: str | None) -> Sequence[Recipient]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return (PasswordRecipient(self.password, label=label or ""),)
