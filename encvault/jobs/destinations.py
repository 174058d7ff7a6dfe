"""Where a job's copies go: the folder that is meant, or that it is not there today.

A share that is not mounted leaves an empty folder behind. To seal into that would fill the
machine's own disk, and show a success that is none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.errors import DestinationAbsent, DestinationAway, DriveAbsent, DriveNotMounted
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.jobs.archives import INCOMPLETE, Shelf
from encvault.operations.drives.found import standing_of
from encvault.usb.drives import find_drive
from encvault.vault.vault import find_vault

_FOUND = "lost+found"

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job
    from encvault.jobs.records import Outcome
    from encvault.operations.prompter import Prompter


def absent(job: Job, place: str, reason: str) -> DestinationAbsent | DestinationAway:
    """The error for a destination that is not there: as the job wants it."""
    kind = DestinationAway if job.if_absent == "skip" else DestinationAbsent
    return kind(place=place, reason=reason)


def base_of(job: Job, register_path: str) -> str:
    """The folder that the destination is.

    Args:
        job: not in place, and not to a server.
        register_path: of the company's drives.

    Raises:
        DestinationAbsent, DestinationAway: it is not there.
    """
    if job.drive is None:
        return job.destination or ""
    try:
        drive = find_drive(job.drive)
        folder = drive.folder
    except (DriveAbsent, DriveNotMounted) as error:
        raise absent(job, job.drive, str(error)) from None
    standing = standing_of(drive, register_path)
    if standing.state != "registered":
        reason = _("the drive is not registered: {reason}").format(reason=standing.text)
        raise absent(job, job.drive, reason)
    return folder


def mirror_of(job: Job, source: str, base: str, prompter: Prompter) -> str:
    """The folder of the vault that mirrors a source.

    Args:
        job: mirroring.
        source: one of its sources; of several, each has a folder of its own.
        base: of the destination.
        prompter: knows which vault was there.

    Raises:
        DestinationAbsent, DestinationAway: it is not there.
    """
    place = _place_of(job, source, base)
    expected = _expected(place, prompter)
    if os.path.isdir(place):
        if expected and not _is_vault(place):
            reason = _("the vault {fingerprint} that was there is gone")
            raise absent(job, place, reason.format(fingerprint=expected))
    elif expected or not os.path.isdir(os.path.dirname(base)) or _are_gone(job, base, prompter):
        raise absent(job, place, _("there is no such folder"))
    return place


def check_in_place(job: Job, source: str, prompter: Prompter) -> None:
    """Refuse a folder that was a vault and is none: what was mounted there is not.

    Raises:
        DestinationAbsent, DestinationAway: it is.
    """
    if (expected := _expected(source, prompter)) and find_vault(source) is None:
        reason = _("the vault {fingerprint} that was there is gone")
        raise absent(job, source, reason.format(fingerprint=expected))


def has_files(path: str) -> bool:
    """Whether there is anything but folders; what a file system has at its top does not count."""
    with Tree(path) as tree:
        return any(
            entry.kind != "dir"
            for folder in tree.walk(enter=lambda name: name != _FOUND)
            for entry in folder.entries
        )


def _place_of(job: Job, source: str, base: str) -> str:
    return base if len(job.sources) == 1 else os.path.join(base, os.path.basename(source))


def _expected(place: str, prompter: Prompter) -> str:
    return prompter.known_vaults().expected(place) or prompter.known_vaults().at(place)


def _is_vault(place: str) -> bool:
    return find_vault(place) == os.path.realpath(place)


def _are_gone(job: Job, base: str, prompter: Prompter) -> bool:
    """Whether there were vaults of other sources, and none is: then this is not their folder."""
    places = [_place_of(job, source, base) for source in job.sources]
    known = [place for place in places if _expected(place, prompter)]
    return bool(known) and not any(os.path.isdir(place) and _is_vault(place) for place in known)


def shelf_of(job: Job, base: str, earlier: Outcome | None) -> Shelf:
    """The folder with the archives of a job.

    Args:
        job: archiving.
        base: of the destination.
        earlier: the last run that made an archive, be it one that lacks files.

    Raises:
        DestinationAbsent, DestinationAway: it is another folder, an empty one, or none.
    """
    try:
        shelf = Shelf(job.name, base)
    except (FileNotFoundError, NotADirectoryError):
        raise absent(job, base, _("there is no such folder")) from None
    made = earlier.archive if earlier is not None else ""
    real = os.path.realpath(base)
    is_same = os.path.realpath(os.path.dirname(made)) in (real, os.path.join(real, INCOMPLETE))
    if made and is_same and not (shelf.complete() or shelf.incomplete()):
        shelf.tree.close()
        raise absent(job, base, _("the archives that were there are gone"))
    return shelf
