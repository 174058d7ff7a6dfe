"""Look without changing anything: status, verify, ls, info."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from encvault.crypto import selftest, speed
from encvault.envelope import InlineKeyInfo
from encvault.errors import (
    EncvaultError,
    PlaintextPresent,
    SourceMissing,
    UnreadablePresent,
)
from encvault.i18n import N_
from encvault.keyslots import describe
from encvault.mount.registry import Registry
from encvault.operations.places import (
    header_of,
    is_alone,
    not_in_vault,
    refuse_fingerprint,
    storage,
    top_of,
    unlock,
    unlocked,
    within,
)
from encvault.operations.recording import Recorder, recording
from encvault.vault.inspect import Listed, VaultStatus, inspect_status, list_vault, verify_vault
from encvault.vault.layout import sealed_path
from encvault.vault.report import Observer, Report
from encvault.vault.sealed import Buffers, SealedReader
from encvault.vault.single import SlotKeyring, inline_slots
from encvault.vault.vault import Vault, canonical, find_vault

if TYPE_CHECKING:
    from encvault.mount.registry import Mounted
    from encvault.operations.prompter import Prompter


def status(path: str) -> VaultStatus:
    """What is sealed in a vault and what is not; needs no key.

    Raises:
        NotAVault: `path` is no vault and in none.
        SourceMissing: there is no such place in the vault.
    """
    top = top_of(path)
    with storage(path), Vault.load(top) as vault:
        # what a hidden vault holds is not known without a key
        sealed = sealed_path(within(top, path))
        if not (vault.hidden or os.path.lexists(path) or vault.tree.exists(sealed)):
            raise SourceMissing(path=path)
        return inspect_status(vault)


def list_mounts(state_dir: str, vault: str | None = None) -> list[Mounted]:
    """The mounts of this user, alive and dead, the oldest first.

    Args:
        state_dir: local state folder.
        vault: only those of the vault that this path is or lies in; None for all.
    """
    found = [one for one in Registry(state_dir).all() if one.mountpoint]
    if vault is None:
        return found
    top = find_vault(vault)
    return [one for one in found if top is not None and canonical(one.vault) == top]


def status_outcome(path: str, status: VaultStatus) -> EncvaultError | None:
    """The one error that a look at a vault ends with, or None.

    Args:
        path: as it was given; what is counted lies in all of the vault, whatever place it names.
        status: what `status` found there.
    """
    if left := sum(map(len, (status.plain, status.unknown, status.leftovers))):
        top = find_vault(path) or path
        return PlaintextPresent(count=left, path=path if canonical(path) == top else top)
    if status.unreadable:
        return UnreadablePresent(count=len(status.unreadable))
    return None


def verify(
    path: str,
    prompter: Prompter,
    *,
    sample: float = 100.0,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Report:
    """Read and authenticate a vault's files, a part of them, or one sealed file.

    Raises:
        SourceMissing: there is nothing sealed at this place in the vault.
    """
    selftest.run()
    with recording(prompter.access_log(), "verify", path, observer) as recorder:
        return recorder.reported(_verify(path, prompter, recorder, sample=sample, jobs=jobs))


def _verify(
    path: str, prompter: Prompter, watcher: Recorder, *, sample: float, jobs: int
) -> Report:
    with storage(path):
        if is_alone(path):
            refuse_fingerprint(prompter)
            watcher.ready()
            report = _verify_alone(path, prompter, watcher)
            _record_verified(path, report, watcher)
            return report
        doubts: list[EncvaultError] = []
        with (
            unlocked(path, prompter, doubts.append) as (vault, inside),
            watcher.inside(vault),
        ):
            vault.hold(reading=True)
            report = verify_vault(vault, only=inside, sample=sample, jobs=jobs, observer=watcher)
            _record_verified(os.path.abspath(path), report, watcher)
    report.doubt(doubts, watcher)
    if inside and not (report.files or report.problems):
        raise not_in_vault(path)
    return report


def _record_verified(path: str, report: Report, recorder: Recorder) -> None:
    outcome = "failed" if report.problems else "ok"
    recorder.record(path=path, outcome=outcome, count=report.files, size=report.size)


def _verify_alone(path: str, prompter: Prompter, watcher: Observer) -> Report:
    report = Report()
    with open(path, "rb", buffering=0) as file:
        reader = SealedReader(file.fileno(), path, Buffers())
        try:
            _record, pieces = reader.open(SlotKeyring(prompter.identities(path)))
            report.size = sum(len(piece) for piece in pieces)
            report.files = 1
        except EncvaultError as error:
            if error.exit_code != 65:  # noqa: PLR2004 - damage is what verify reports
                raise
            report.problems.append(error)
            watcher.problem(error)
    return report


def list_files(
    path: str, prompter: Prompter, *, jobs: int = 0, observer: Observer | None = None
) -> tuple[list[Listed], list[EncvaultError]]:
    """What a vault holds; the visible layout is listed without a key if none was given.

    Raises:
        NotAVault: `path` is no vault and in none.
        SourceMissing: there is no such place in the vault.
    """
    top = top_of(path)
    doubts: list[EncvaultError] = []
    with (
        recording(prompter.access_log(), "list", path, observer) as recorder,
        storage(path),
        Vault.load(top) as vault,
    ):
        if vault.hidden or prompter.has_keys():
            unlock(vault, prompter, doubts.append)
            with recorder.inside(vault):
                recorder.record(path=os.path.abspath(path))
        listed, problems = list_vault(vault, jobs=jobs)
    inside = within(top, path)
    if inside:
        at_place = {inside, sealed_path(inside)}
        listed = [
            item
            for item in listed
            if not at_place.isdisjoint((item.path, item.sealed_path))
            or item.path.startswith(inside + "/")
        ]
        # a problem of a hidden vault has no name, so it may concern this place
        place = os.path.join(vault.path, inside)
        concerned = {place, os.path.join(vault.path, sealed_path(inside))}
        problems = [
            problem
            for problem in problems
            if vault.hidden
            or (at := str(problem.fields().get("path", place))) in concerned
            or at.startswith(place + "/")
        ]
        if not (listed or problems or os.path.lexists(place)):
            raise SourceMissing(path=path)
    return listed, [*doubts, *problems]


@dataclass(slots=True)
class Info:
    """What can be told of a sealed file or a vault without a key.

    Attributes:
        kind: ``vault``, ``sealed file`` or ``sealed file in a vault``.
        members: the facts by name, ready for JSON.
    """

    kind: str
    members: dict[str, Any] = field(default_factory=dict)


def info(path: str) -> Info:
    """A sealed file's header, or a vault's record."""
    if not os.path.lexists(path):
        raise SourceMissing(path=path)
    with storage(path):
        if not os.path.isdir(path):
            return _file_info(path)
        with Vault.load(top_of(path)) as vault:
            record = vault.record
            return Info(
                N_("vault"),
                {
                    "path": path,
                    "id": record.id,
                    "fingerprint": record.fingerprint,
                    "suite": record.suite.label,
                    "backend": speed.backend_of(record.suite),
                    "layout": record.layout,
                    "created_at": record.created_at,
                    "generation": record.generation,
                    "former_fingerprints": record.former_fingerprints,
                    "slots": describe((*record.slots, *record.pending)),
                },
            )


def _file_info(path: str) -> Info:
    header = header_of(path)
    members: dict[str, Any] = {
        "path": path,
        "version": 1,
        "suite": header.suite.label,
        "backend": speed.backend_of(header.suite),
        "file": header.key_info.file,
        "sealed_size": os.path.getsize(path),
        "metadata_size": header.metadata_size,
    }
    if isinstance(header.key_info, InlineKeyInfo):
        return Info(N_("sealed file"), members | {"slots": describe(inline_slots(header, path))})
    members |= {"vault": header.key_info.vault, "key": header.key_info.key}
    return Info(N_("sealed file in a vault"), members)
