"""Who did what, for the access log: what operations tell, and what they let nobody do untold.

An operation gives its run a `Recorder` for an observer. What the run is about to let take effect is
recorded before it does; what failed is recorded with it or at the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from encvault.accesslog.witness import contradicts
from encvault.errors import (
    AccessLogError,
    ConfirmationNeeded,
    Declined,
    EncvaultError,
    KeyRequired,
    LogDamaged,
    PasswordUnavailable,
    RequestError,
    WeakPassword,
)
from encvault.i18n import Text, _
from encvault.keyslots import PublicKeyRecipient, fingerprint
from encvault.vault.checkpoints import keep_checkpoint, kept_checkpoint
from encvault.vault.layout import STREAM_NAME, SUFFIX
from encvault.vault.report import Event, Observer, Relay
from encvault.vault.vault import Vault, canonical, find_vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from encvault.accesslog.log import AccessLog, Recorded
    from encvault.keyslots import Recipient
    from encvault.vault.report import Report

# what gives somebody something that he did not have: it must not happen unrecorded
_GRANTING = frozenset(
    {
        *("open", "cat", "share", "read", "mount", "list", "unlock", "usb.unlock", "rekey"),
        *("revoke", "slot.add", "slot.remove", "slot.passwd", "recovery.add", "verify"),
        *("key.new", "key.passwd"),
    }
)
_NO_KEY = 77  # exit code
_MAX_WAITING = 10_000  # failures that wait to be recorded


class Recorder(Relay):
    """Passes on what a run tells, and records it.

    Attributes:
        log: where, or None.
        op: what the run does.
        path: what it is asked to do it to, for errors that do not say; "" if it is several.
        observer: who else is told.
    """

    def __init__(self, log: AccessLog | None, op: str, path: str, observer: Observer) -> None:
        super().__init__(observer)
        self.log = log
        self.op = op
        self.path = path
        self.log_folder = None if log is None else log.path  # also where nothing is recorded
        self._base = ""
        self._common: dict[str, str | int] = {}
        self._failed: EncvaultError | None = None
        self._noted: set[str] = set()
        self._failures: list[dict[str, str | int]] = []
        self._unrecorded: AccessLogError | None = None
        self._recorded: Recorded | None = None
        self._barred: AccessLogError | None = None

    # -- what a run tells -------------------------------------------------------------------

    def problem(self, error: EncvaultError) -> None:
        """See `Observer`."""
        super().problem(error)
        self.fail(error)

    def before_release(self, events: Sequence[Event]) -> None:
        """See `Observer`."""
        super().before_release(events)
        by_action: dict[str, list[dict[str, str | int]]] = {}
        for event in events:
            by_action.setdefault(event.action, []).append(self._of_event(event))
        for op, each in by_action.items():
            self._record(op, each)

    def _of_event(self, event: Event) -> dict[str, str | int]:
        path = os.path.join(self._base, event.path) if self._base else _place(event.path)
        members: dict[str, str | int] = {"path": path, "file": event.file}
        if event.sealed_as:
            members["name"] = event.sealed_as
        if event.size is not None:
            members["size"] = event.size
        return members

    # -- what an operation tells ------------------------------------------------------------

    def turns_to(self, path: str) -> None:
        """What follows is about another of the paths that the run was asked for."""
        self.path = path
        self._base, self._common, self._recorded = "", {}, None

    def about(self, vault: str) -> None:
        """What follows is about the vault, or drive, with this id, opened or not; "" for none."""
        self._common = {"vault": vault} if vault else {}

    @contextlib.contextmanager
    def inside(
        self, vault: Vault, base: str | None = None, to: str | None = None
    ) -> Iterator[None]:
        """What follows is about a vault, which keeps the latest checkpoint if it is held.

        Args:
            vault: which.
            base: folder of the plain files, if not that of the vault.
            to: folder or file for what is opened, or None.
        """
        self._base = os.path.realpath(vault.path if base is None else base)
        self._common = {"vault": vault.record.id}
        if vault.opened_by is not None:
            self._common["slot"] = vault.opened_by.slot_id
        if to is not None:
            self.goes_to(to)
        self._look_at_witness(vault)
        try:
            yield
        except EncvaultError as error:
            self.fail(error)  # while it is known which vault it is about
            raise
        finally:
            self._flush()
            if self._recorded is not None and self._barred is None:
                keep_checkpoint(vault, self._recorded.log_id, self._recorded.checkpoint)
            self.turns_to(self.path)

    def _look_at_witness(self, vault: Vault) -> None:
        """Record nothing in a log of which a vault knows more: it was put back."""
        self._barred = None
        if self.log is None or not os.path.isdir(self.log.path):
            return
        try:
            is_back = contradicts(self.log.path, functools.partial(kept_checkpoint, vault))
        except (OSError, ValueError):
            return  # the writer says what is wrong with it
        if is_back:
            reason = _("{vault} keeps a later or another checkpoint of it: it was put back")
            self._barred = LogDamaged(path=self.log.path, reason=reason.format(vault=vault.path))

    def goes_to(self, path: str, recipients: Sequence[Recipient] = ()) -> None:
        """What follows is copied to a file or folder, for somebody."""
        self._common["to"] = canonical(path)
        whom = [
            fingerprint(one.public) if isinstance(one, PublicKeyRecipient) else "password"
            for one in recipients
        ]
        if whom:
            self._common["recipients"] = " ".join(whom)

    def ready(self) -> None:
        """Prove that something can be recorded, before a password is tried.

        Raises:
            AccessLogError: it cannot, and has to be.
        """
        if self.log is not None and self.log.required:
            self.log.ready()

    def record(self, op: str | None = None, /, **members: str | int) -> None:
        """Record one event that is about to take effect.

        Args:
            op: what is done, if not what the run does.
            members: of the entry (docs/log-format.md section 4); a path may be relative, or that
                of a sealed file.

        Raises:
            AccessLogError: it could not be recorded, and must not happen then.
        """
        if "path" in members:
            members["path"] = canonical(self._plain(str(members["path"])))
        said = {name: value for name, value in members.items() if value != ""}
        self._record(op or self.op, [said])

    def fail(self, error: EncvaultError) -> None:
        """Remember what went wrong, to be recorded with the next event or at the end."""
        if self.log is None or isinstance(error, AccessLogError):
            return
        asked = isinstance(error, (ConfirmationNeeded, Declined))
        if asked or (isinstance(error, RequestError) and "vault" not in self._common):
            return  # nothing was tried
        if error is self._failed:
            return  # on its way up
        self._failed = error
        members: dict[str, str | int] = {
            "op": self.op,
            "outcome": "refused" if _is_refusal(error) else "failed",
            "error": type(error).__name__,
            "exit_code": error.exit_code,
        }
        path = error.fields().get("path")
        if self.path and (path is None or not self._base):
            members["path"] = canonical(self._plain(self.path))  # what was asked for
        elif path is not None and path != STREAM_NAME:
            members["path"] = _place(self._plain(str(path)))
        if "vault" not in self._common and _is_refusal(error) and (found := _vault_at(self.path)):
            members["vault"] = found  # as a wrong password: it was not opened
        self._failures.append(self._common | members)
        if len(self._failures) >= _MAX_WAITING:
            self._flush()

    def reported(self, report: Report) -> Report:
        """The report of a run, with what could not be recorded."""
        self._flush()
        if self._unrecorded is not None:
            report.doubt([self._unrecorded], self.observer)
            self._unrecorded = None
        return report

    def finish(self) -> None:
        """Record what waits.

        Raises:
            AccessLogError: not everything could be recorded, and no report says so.
        """
        self._flush()
        if self._unrecorded is not None:
            raise self._unrecorded

    # -- the log ----------------------------------------------------------------------------

    def _plain(self, path: str) -> str:
        """Where the plain file is or would be, whose sealed file an error may name."""
        if self.op != "seal" and not os.path.isdir(path):
            return path.removesuffix(SUFFIX)
        return path

    def _flush(self) -> None:
        failures, self._failures = self._failures, []
        if failures and self.log is not None:
            try:
                if self._barred is not None:
                    raise self._barred
                self._told(self.log.record(failures))
            except AccessLogError as error:
                self._lose(error)

    def _record(self, op: str, each: list[dict[str, str | int]]) -> None:
        if self.log is None:
            return
        self._flush()
        try:
            if self._barred is not None:
                raise self._barred
            common = {"op": op, "outcome": "ok", **self._common}
            self._told(self.log.record(each, **common))
        except AccessLogError as error:
            if op in _GRANTING and self.log.required:
                raise
            self._lose(error)

    def _told(self, recorded: Recorded) -> None:
        self._recorded = recorded
        if recorded.made and self.log is not None:
            self.observer.note(begun_text(self.log.path))

    def _lose(self, error: AccessLogError) -> None:
        """An event that nothing waits for was not recorded."""
        if self.log is not None and self.log.required:
            self._unrecorded = error
        elif str(error) not in self._noted:  # once, not for each batch
            self._noted.add(str(error))
            self.observer.note(str(error))


def begun_text(path: str) -> Text:
    """What a person should know of a log that was made just now, in the user's language."""
    return _(
        "accesses are recorded from now on in {path}; to prove that later, keep its "
        "public keys elsewhere: encvault log init -o FILE"
    ).format(path=path)


def _is_refusal(error: EncvaultError) -> bool:
    """Whether it was not allowed, rather than not possible."""
    no_key = (KeyRequired, PasswordUnavailable, WeakPassword)
    return error.exit_code == _NO_KEY or isinstance(error, no_key)


def _vault_at(path: str) -> str:
    """The id of the vault that a path is or lies in, or ""."""
    with contextlib.suppress(EncvaultError, OSError):
        if path and (top := find_vault(path)) is not None:
            with Vault.load(top) as vault:
                return vault.record.id
    return ""


def _place(path: str) -> str:
    """A path as it is recorded: the same by whatever links somebody came, but of a link its own."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


@contextlib.contextmanager
def recording(
    log: AccessLog | None, op: str, path: str, observer: Observer | None = None
) -> Iterator[Recorder]:
    """Record what an operation does, and that it failed.

    Args:
        log: where, or None to record nothing.
        op: what the operation does (docs/log-format.md section 4).
        path: to what, or "".
        observer: is told as well.

    Raises:
        AccessLogError: what must not happen unrecorded could not be recorded; or the rest could
            not be, and `Recorder.reported` was not asked for.
    """
    recorder = Recorder(log, op, path, observer or Observer())
    try:
        yield recorder
    except BaseException as error:  # an interrupt as well: what failed before it is known
        if isinstance(error, EncvaultError):
            recorder.fail(error)
        try:
            recorder.finish()
        except AccessLogError as lost:
            # a wrong password that is not recorded must look like a right one that is not
            if isinstance(error, EncvaultError) and _is_refusal(error):
                raise lost from error
        raise
    recorder.finish()
