"""Read and authenticate what is sealed in a vault."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encvault.errors import (
    EncvaultError,
    InvalidRequest,
    MalformedVault,
)
from encvault.fs import durable
from encvault.fs.durable import storage_error
from encvault.i18n import _, ngettext
from encvault.vault.layout import (
    opened_place,
)
from encvault.vault.listing import hidden_targets, visible_targets
from encvault.vault.manifest import MAX_RECORD_SIZE, RECORD_FILES, VaultRecord
from encvault.vault.parts import read_part
from encvault.vault.pool import Pool, Tick, batches, default_jobs
from encvault.vault.report import Observer, Report
from encvault.vault.sealed import Buffers, SealedReader, open_sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.vault.listing import Problem, Target
    from encvault.vault.vault import Vault

_ALL = 100  # percent


@dataclass(slots=True)
class _Verified:
    """What verify found of one file."""

    error: EncvaultError | None = None
    size: int = 0
    moved: bool = False


def verify_vault(
    vault: Vault,
    *,
    only: str = "",
    sample: float = 100.0,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Report:
    """Read and authenticate every sealed file, or a random share of them.

    Args:
        vault: unlocked.
        only: a place in the vault, plain or sealed; "" for all of it.
        sample: percent of the files to read, above 0 and up to 100; at least one is read.
        jobs: worker processes, 0 for one per processor.
        observer: is told each problem as it is found.

    Returns:
        The report: ``files`` and ``size`` are what authenticated.
    """
    _check_sample(sample)
    watcher, report = observer or Observer(), Report()

    def problem(error: EncvaultError) -> None:
        report.problems.append(error)
        watcher.problem(error)

    def note(message: str) -> None:
        report.notes.append(message)
        watcher.note(message)

    _verify_records(vault, problem, note)
    if vault.hidden:
        targets = hidden_targets(vault, jobs, problem, report)
    else:
        targets = list(visible_targets(vault, problem))
    targets = _sampled([target for target in targets if target.is_within(only)], sample)
    if watcher.wants_total:
        watcher.total(len(targets), sum(target.size for target in targets))

    def work(batch: list[Target], _tick: Tick) -> list[_Verified]:
        buffers = Buffers()
        return [_verify_file(vault, target, buffers) for target in batch]

    pool = Pool(work, jobs or default_jobs())
    moved = 0
    for batch, answers in pool.map(batches(targets, lambda target: target.size)):
        for target, answer in zip(batch, answers, strict=True):
            if answer.error is not None:
                problem(answer.error)
            else:
                report.files += 1
                report.size += answer.size
                moved += answer.moved
            watcher.progress(1, target.size)
    if moved:
        note(_moved_text(moved))
    return report


def _check_sample(sample: float) -> None:
    if not 0 < sample <= _ALL:
        raise InvalidRequest(reason=_("--sample takes a share above 0 and up to 100 percent"))


def _moved_text(count: int) -> str:
    return ngettext(
        "{count} file was moved or renamed since it was sealed",
        "{count} files were moved or renamed since they were sealed",
        count,
    ).format(count=count)


def _sampled(targets: list[Target], sample: float) -> list[Target]:
    if sample == _ALL:
        return targets
    count = max(1, round(len(targets) * sample / _ALL))
    return random.sample(targets, min(count, len(targets)))


def _verify_records(vault: Vault, problem: Problem, note: Callable[[str], None]) -> None:
    for path in RECORD_FILES:
        shown = vault.tree.show(path)
        try:
            data = durable.read_file(vault.tree, path, MAX_RECORD_SIZE)
            record = VaultRecord.decode(data, shown)
            newer = vault.record.succeeds(record) or (
                record.sign_public == vault.record.sign_public
                and record.generation < vault.record.generation
            )
            if newer:  # a run was killed between the two; both are genuine
                note(
                    _("{path} is older than the other copy; the next change puts it right").format(
                        path=shown
                    )
                )
            elif record != vault.record:
                raise MalformedVault(path=shown, reason=_("differs from its other copy"))
        except EncvaultError as error:
            problem(error)
        except FileNotFoundError:
            problem(MalformedVault(path=shown, reason=_("missing")))
        except OSError as error:
            problem(storage_error(error, shown))


def _verify_file(vault: Vault, target: Target, buffers: Buffers) -> _Verified:
    shown = vault.tree.show(target.path)
    try:
        fd = open_sealed(vault.tree, target.path)
        try:
            reader = SealedReader(fd, shown, buffers)
            record, pieces = reader.open(vault)
            size = sum(len(piece) for piece in pieces)
            _name, moved = opened_place(
                vault.tree, target.path, reader.header, record, vault.layout
            )
        finally:
            os.close(fd)
        for index, file_id in enumerate(record.parts, start=1):
            part = read_part(vault.tree, vault, record, target.file or "", index, file_id)
            size += sum(len(piece) for piece in part)
    except EncvaultError as error:
        return _Verified(error=error)
    except OSError as error:
        return _Verified(error=storage_error(error, shown, reading=True))
    return _Verified(size=size, moved=moved)
