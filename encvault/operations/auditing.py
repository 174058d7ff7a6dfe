"""What is done with the access log itself: begin it, hand it out, check it, show it to others."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.audit import Verdict
from encvault.accesslog.epochs import POLICY, Calendar
from encvault.accesslog.export import export
from encvault.accesslog.filters import Filter
from encvault.accesslog.log import LOCK
from encvault.accesslog.proving import Checked, check, latest_of, prove
from encvault.accesslog.redaction import erase_keys, path_keys
from encvault.accesslog.verifying import verify
from encvault.accesslog.viewing import entries
from encvault.errors import (
    DestinationExists,
    InvalidRequest,
    LogTampered,
    LogUnanchored,
    LogUnverifiable,
    NoAccessLog,
    ReportUnavailable,
)
from encvault.fs import calls, durable, locks
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.operations.places import storage
from encvault.operations.prompter import confirm
from encvault.tlog.notes import Note, VerifierKey
from encvault.tlog.policies import MAX_POLICY_SIZE, Policy
from encvault.tlog.proofs import MAX_PROOF_SIZE
from encvault.tlog.reading import CHECKPOINT, CHECKPOINTS, ENTRIES, last_note
from encvault.vault.output import OutputFile
from encvault.vault.vault import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from segno import QRCode

    from encvault.accesslog.audit import Audit
    from encvault.accesslog.log import AccessLog
    from encvault.errors import EncvaultError
    from encvault.operations.prompter import Prompter

_PATIENCE = 5.0  # seconds to wait for a writer
_BLOCK_SIZE = 1 << 20
_LINES = 1000  # written at once


class LogInfo(NamedTuple):
    """What may be told of a log.

    Attributes:
        path: its folder.
        origin: its name.
        first_day, last_day: ``YYYY-MM-DD`` of the keys.
        policy_digest: SHA-256 of the public keys, 64 hexadecimal digits.
        made: whether it was made just now.
    """

    path: str
    origin: str
    first_day: str
    last_day: str
    policy_digest: str
    made: bool


def begin_log(log: AccessLog, output: str | None = None, *, force: bool = False) -> LogInfo:
    """Make the access log, unless there is one, and write its public keys to a file.

    Args:
        log: which.
        output: the file, to be kept elsewhere; None for no file.
        force: replace one that exists.

    Raises:
        AccessLogError: it cannot be made.
        DestinationExists, StorageError: the file cannot be written.
    """
    made = log.begin()
    try:
        with storage(log.path), Tree(log.path) as tree:
            data = durable.read_file(tree, POLICY, MAX_POLICY_SIZE)
            calendar = Calendar.load(tree)
    except ValueError:
        raise LogUnverifiable(path=log.path, reason=_("its policy is none")) from None
    if output is not None:
        write_new(output, data, force=force)
    last = calendar.day(calendar.days - 1)
    digest = hashlib.sha256(data).hexdigest()
    return LogInfo(log.path, calendar.origin, calendar.day(0), last, digest, made)


def latest_checkpoint(path: str) -> bytes:
    """The latest checkpoint of a log, a signed note, to be kept elsewhere as an anchor.

    Raises:
        NoAccessLog: there is none.
    """
    try:
        with Tree(path) as tree, locks.undisturbed(tree, LOCK, _PATIENCE):
            fd = calls.open_read(tree.fd, CHECKPOINTS)
            try:
                found = last_note(fd, 0)
            finally:
                os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        raise NoAccessLog(path=path) from None
    except OSError as error:
        raise LogUnverifiable(path=path, reason=system_reason(error)) from None
    if found is None:
        raise NoAccessLog(path=path)
    Note.decode(found[1], CHECKPOINTS)  # nobody is handed what is none
    return found[1]


def copy_log(path: str, target: str) -> int:
    """Copy a log for a checker, as it is at one moment, without what is secret or derived.

    Args:
        path: the log's folder.
        target: the new folder, which must not exist.

    Returns:
        Bytes of its entries.

    Raises:
        NoAccessLog, LogUnverifiable: there is none; it cannot be read.
        DestinationExists, StorageError: it cannot be written; what was written stays.
    """
    if os.path.lexists(target):
        raise DestinationExists(path=target)
    sizes: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        try:
            tree = stack.enter_context(Tree(path))
            files = {}
            with locks.undisturbed(tree, LOCK, _PATIENCE):
                for name in (CHECKPOINT, CHECKPOINTS, ENTRIES, POLICY):
                    files[name] = calls.open_read(tree.fd, name)
                    stack.callback(os.close, files[name])
                    sizes[name] = os.fstat(files[name]).st_size
                latest = calls.read(files[CHECKPOINT], sizes[CHECKPOINT])
        except (FileNotFoundError, NotADirectoryError):
            raise NoAccessLog(path=path) from None
        except OSError as error:
            raise LogUnverifiable(path=path, reason=system_reason(error)) from None
        with storage(target):
            copy = stack.enter_context(Tree.made(target))
            for name in (CHECKPOINTS, ENTRIES, POLICY):
                _copy_file(files[name], sizes[name], copy, name)
            calls.fsync_folder(copy.fd)
    write_new(os.path.join(target, CHECKPOINT), latest)
    return sizes[ENTRIES]


def _copy_file(source: int, size: int, folder: Tree, name: str) -> None:
    fd = calls.create(folder.fd, name)
    try:
        for start in range(0, size, _BLOCK_SIZE):
            calls.write(fd, os.pread(source, min(_BLOCK_SIZE, size - start), start))
        calls.fsync(fd)
    finally:
        os.close(fd)


def write_new(output: str, data: bytes, *, force: bool = False, mode: int = 0o666) -> None:
    """Write a file; durable on return.

    Args:
        output: the file.
        data: its content.
        force: replace one that exists.
        mode: permission bits.

    Raises:
        DestinationExists, StorageError: nothing was written.
    """
    with storage(output), OutputFile(output, force=force, mode=mode) as file:
        file.open()
        file.write(data)
        file.publish()


def write_anchor(note: bytes, output: str, *, force: bool = False) -> None:
    """Write a checkpoint to a file.

    Args:
        note: the checkpoint.
        output: the file; a QR code if its name ends in ``.svg`` or ``.png``.
        force: replace one that exists.

    Raises:
        ReportUnavailable: what makes QR codes is not installed.
    """
    kind = os.path.splitext(output)[1].lower().removeprefix(".")
    if kind not in ("svg", "png"):
        write_new(output, note, force=force)
        return
    picture = io.BytesIO()
    _qr(note).save(picture, kind=kind, scale=4, border=4)
    write_new(output, picture.getvalue(), force=force)


def qr_text(note: bytes) -> str:
    """A checkpoint as a QR code of block characters, for a terminal with a dark ground.

    Raises:
        ReportUnavailable: what makes QR codes is not installed.
    """
    text = io.StringIO()
    _qr(note).terminal(out=text, compact=True)
    return text.getvalue()


def _qr(note: bytes) -> QRCode:
    try:
        import segno  # noqa: PLC0415 - of an extra
    except ImportError:
        raise ReportUnavailable(package="segno") from None
    return segno.make_qr(note, error="m")


@dataclass(frozen=True, slots=True)
class MadeProof:
    """A proof of one entry.

    Attributes:
        index: of the entry.
        data: the proof, a ``.tlog-proof`` file.
        key: the public key that signed its checkpoint, a vkey.
    """

    index: int
    data: bytes
    key: str


def prove_entry(path: str, index: int | None, file: str | None) -> MadeProof:
    """Prove an entry.

    Args:
        path: the log's folder.
        index: of the entry, or None for the latest one about a file.
        file: that file, or None.

    Raises:
        NoSuchEntry, NoAccessLog, LogUnverifiable, LogTampered: see `prove`.
    """
    if index is None:
        index = latest_of(path, canonical(file or ""))
    proof = prove(path, index)
    with storage(path), Tree(path) as tree:
        policy = Policy.decode(durable.read_file(tree, POLICY, MAX_POLICY_SIZE), POLICY)
    key = policy.log_key(Note.decode(proof.checkpoint, path), path)
    return MadeProof(index, proof.encode(), key.encode())


def check_proof(path: str, keys: Sequence[str], policy: str | None) -> Checked:
    """Check the proof in a file.

    Args:
        path: the file.
        keys: of the log, vkeys; if there is no policy.
        policy: the file of a policy, or None.

    Raises:
        EncvaultError: it proves nothing; see `check`.
    """
    known = [VerifierKey.decode(key.strip(), "--key") for key in keys]
    found = None
    if policy is not None:
        found = Policy.decode(_small(policy, MAX_POLICY_SIZE), policy)
    return check(_small(path, MAX_PROOF_SIZE), path, keys=known, policy=found)


def _small(path: str, limit: int) -> bytes:
    with storage(path), open(path, "rb") as file:
        return file.read(limit + 1)


def keys_of_paths(path: str) -> dict[str, bytes]:
    """The keys by which paths recorded as HMAC can be told, by month; none if none can be read."""
    try:
        with Tree(path) as tree:
            return path_keys(tree)
    except OSError:
        return {}


def audit_outcome(path: str, audit: Audit) -> EncvaultError | None:
    """The error that a check of a log ends with, or None."""
    if audit.verdict is Verdict.ANCHORED_OK:
        return None
    if audit.verdict is Verdict.OK_UNANCHORED:
        return LogUnanchored()
    if audit.verdict is Verdict.TAMPERED:
        return LogTampered(path=path)
    reason = audit.wrong[0].text if audit.wrong else _("something is missing")
    return LogUnverifiable(path=path, reason=reason)


def export_log(
    path: str,
    form: str,
    *,
    anchors: Sequence[str] = (),
    policy: str | None = None,
    wanted: Filter | None = None,
) -> Iterator[str]:
    """The entries of a log that was checked, in another format: whole lines with their ends.

    Raises:
        LogTampered, LogUnverifiable: it is not what was signed, or that cannot be told; also at
            the end, if it was changed meanwhile.
    """
    audit = _usable(path, anchors, policy)
    end = "\r\n" if form == "csv" else "\n"  # RFC 4180 section 2
    for line in export(
        entries(path, audit, wanted or Filter()), form, origin=audit.origin, size=audit.size
    ):
        yield line + end


def write_lines(output: str, lines: Iterator[str], *, force: bool = False) -> None:
    """Write exported lines to a file that only its owner can read: it names people and files.

    Args:
        output: the file.
        lines: of it, with their ends.
        force: replace one that exists.

    Raises:
        DestinationExists, StorageError, LogTampered: there is no file.
    """
    with storage(output), OutputFile(output, force=force, mode=0o600) as file:
        file.open()
        while some := list(itertools.islice(lines, _LINES)):
            file.write("".join(some).encode())
        file.publish()


def report_log(
    path: str,
    output: str,
    *,
    anchors: Sequence[str] = (),
    policy: str | None = None,
    zone: tzinfo | None = None,
    force: bool = False,
) -> Audit:
    """Write a report of a log as one HTML file; of what was changed it says so first.

    Args:
        path: the log's folder.
        output: the file.
        anchors: see `verify`.
        policy: see `verify`.
        zone: of the times in it; the system's if it is None.
        force: replace the file.

    Raises:
        LogUnverifiable: there is nothing to report of.
        ReportUnavailable: what makes it is not installed.
    """
    from encvault.accesslog.report import render  # noqa: PLC0415 - it wants an extra

    audit = verify(path, anchors=anchors, policy=policy)
    if audit.verdict is Verdict.CANNOT_VERIFY:
        raise _unverifiable(path, audit)
    now = datetime.now(UTC)
    there = zone or now.astimezone().tzinfo or UTC
    page = render(entries(path, audit), audit, made_at=now, zone=there)
    with storage(output), OutputFile(output, force=force, mode=0o600) as file:
        file.open()
        file.write(page.encode())
        file.publish()
    return audit


def _usable(path: str, anchors: Sequence[str], policy: str | None) -> Audit:
    audit = verify(path, anchors=anchors, policy=policy)
    if audit.verdict is Verdict.TAMPERED:
        raise LogTampered(path=path)
    if audit.verdict is Verdict.CANNOT_VERIFY:
        raise _unverifiable(path, audit)
    return audit


def _unverifiable(path: str, audit: Audit) -> EncvaultError:
    return audit_outcome(path, audit) or LogUnverifiable(path=path, reason="")


def erase_path_keys(log: AccessLog, before: str, prompter: Prompter) -> list[str]:
    """Delete the keys by which paths of past months can be told, for good.

    The entries stay and prove what they proved; that the keys are gone is recorded first.

    Args:
        log: which.
        before: ``YYYY-MM``: the keys of the months before it go.
        prompter: is asked for consent.

    Returns:
        The months whose keys are gone.

    Raises:
        NoAccessLog: there is none.
        AccessLogError: it could not be recorded; nothing was deleted.
        Declined, ConfirmationNeeded: there was no consent.
    """
    if not os.path.isdir(log.path):
        raise NoAccessLog(path=log.path)
    if before > _this_month():
        reason = _("{month} has not begun: its key, and this month's, are in use")
        raise InvalidRequest(reason=reason.format(month=before))
    with storage(log.path), Tree(log.path) as tree:
        months = [month for month in path_keys(tree) if month < before]
        if not months:
            return []
        confirm(
            prompter,
            _("forget for good which files the entries before {month} are about?").format(
                month=before
            ),
        )
        log.record([{"op": "log.erase", "outcome": "ok", "detail": f"before {before}"}])
        with locks.alone(tree, LOCK, 60):
            return erase_keys(tree, before)


def _this_month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")
