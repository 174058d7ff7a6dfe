"""Read a vault without changing it: verify, ls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.crypto import selftest
from encvault.errors import (
    EncvaultError,
    SourceMissing,
)
from encvault.operations.places import (
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
from encvault.vault.layout import sealed_path
from encvault.vault.listing import Listed, list_vault
from encvault.vault.report import Observer, Report
from encvault.vault.sealed import Buffers, SealedReader
from encvault.vault.single import SlotKeyring
from encvault.vault.vault import Vault
from encvault.vault.verify import verify_vault

if TYPE_CHECKING:
    from encvault.operations.prompter import Prompter


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
