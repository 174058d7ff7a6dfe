"""Put in order what an interruption left on a drive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encvault.errors import DriveNeverLocked, NotAVault
from encvault.operations.drives.found import place_of, reached, state_of
from encvault.operations.drives.locking import (
    LockRequest,
    check_writable,
    confirm_checked,
    finish,
    lock_reached,
)
from encvault.operations.reading import verify
from encvault.vault.burial import clean_objects
from encvault.vault.manifest import OBJECTS_FOLDER
from encvault.vault.report import Observer, Report
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from encvault.operations.prompter import Prompter


def repair(request: LockRequest, prompter: Prompter, observer: Observer | None = None) -> Report:
    """Mend the records of a drive, finish a lock that was interrupted, and prove everything.

    Sealing needs no key, and the way to locked is the one on which nothing gets into the clear; so
    an unlock that was interrupted is taken back. What is damaged stays as it is.

    Args:
        request: of the lock that is finished.
        prompter: is asked for keys to prove with, after everything else.
        observer: is told each problem as it is found.

    Returns:
        What is authentic, and the problems of all of it.

    Raises:
        DriveNeverLocked: there is nothing to repair.
        DriveReadOnly: the file system must be repaired first.
        EncvaultError: nothing was begun; see `encvault.errors.usb`.
    """
    path = place_of(request.which, prompter)
    watcher = observer or Observer()
    with reached(path) as tree:
        check_writable(path)
        confirm_checked(tree, prompter)
        state = state_of(tree, request.state_dir)  # before what shows it is taken away
        try:
            with Vault.load(path) as vault:
                vault.hold()  # which mends a record that was torn
                if vault.was_interrupted and state == "unlocked":
                    state = "interrupted"  # before anything was sealed
                if vault.hidden and vault.tree.exists(OBJECTS_FOLDER):
                    clean_objects(vault.tree)
        except NotAVault:
            raise DriveNeverLocked(path=path, which=request.which.words) from None
        problems = []
        if state == "interrupted":
            problems = lock_reached(request, tree, prompter, watcher).problems
        elif state == "locked":
            finish(tree, watcher)
        report = verify(path, prompter, jobs=request.jobs, observer=watcher)
        report.problems[:0] = problems
        if report.problems:
            check_writable(path)  # any more: what the kernel finds inconsistent, it protects
        return report
