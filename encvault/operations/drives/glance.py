"""What a glance at a drive shows, as it is taken every two seconds while drives are watched.

`drive_status` looks at every file, which takes too long for that. A glance looks at a bounded
number of names, and what it cannot know yet counts as in the clear: an alarm too many is read by
somebody, and one that is missing by nobody.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs.durable import is_temporary
from encvault.fs.tree import join
from encvault.operations.drives.found import ENCRYPTED, is_page, mounts_of
from encvault.usb.litter import is_litter, is_system_folder
from encvault.vault.layout import SUFFIX, belongs_to, peek
from encvault.vault.manifest import FOLDER
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from encvault.usb.drives import Drive

_MOST_NAMES = 10_000  # 0.3 s where the files are in memory
_COARSE_S = 4.0  # FAT notes in steps of two seconds when a folder was changed


@dataclass(slots=True)
class SeenFolder:
    """What was seen in a folder, as long as its stamp stays.

    Whatever comes, goes or gets another name changes the stamp; that a sealed file is written over
    does not, and `drive_status` finds it.

    Attributes:
        stamp: of the folder.
        read: names of sealed files and folders, of which there may be more; none of a folder that
            was seen to its end.
        folders: paths of the folders in it.
        is_whole: whether it was.
    """

    stamp: tuple[int, ...]
    read: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    is_whole: bool = False


@dataclass(slots=True)
class Seen:
    """What the glances have seen of a vault that shows names.

    They go round its folders, and where there are many a round takes several glances.

    Attributes:
        folders: what the round before this one saw, by path.
        this_round: what this one has seen.
        waiting: paths of the folders that it has still to look at; none between two rounds.
        is_locked: whether a round has ended, and nothing was in the clear since.
    """

    folders: dict[str, SeenFolder] = field(default_factory=dict)
    this_round: dict[str, SeenFolder] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    is_locked: bool = False


def state_at_a_glance(drive: Drive, state_dir: str, seen: Seen | None = None) -> str:
    """The state of a drive, as of `DriveStatus`; "" if it cannot be read.

    Args:
        drive: which.
        state_dir: local state folder.
        seen: what the glances before saw; changed. It must be of the same mount, since FAT has no
            stamp for its top.
    """
    if kind := ENCRYPTED.get(drive.device.content.kind):
        return kind
    if drive.mount is None:
        return "unmounted"
    if not drive.id:
        return "plain"
    path = drive.mount.path
    try:
        with Vault.load(path) as vault:
            glance = _Glance(vault, Seen() if seen is None else seen)
            is_clear = glance.is_top_clear() if vault.hidden else glance.is_clear()
    except (OSError, EncvaultError):
        return ""
    return "unlocked" if is_clear or mounts_of(path, state_dir) else "locked"


class _Glance:
    """One look at a vault on a drive.

    Args:
        vault: the vault.
        seen: see `state_at_a_glance`.
    """

    def __init__(self, vault: Vault, seen: Seen) -> None:
        self._vault = vault
        self._tree = vault.tree
        self._seen = seen
        self._left = _MOST_NAMES

    def is_top_clear(self) -> bool:
        """Whether anything of the user's lies at the top, where hidden names leave nothing."""
        with os.scandir(self._tree.fd) as entries:
            return not all(self._is_own("", entry) or self._is_left("", entry) for entry in entries)

    def is_clear(self) -> bool:
        """Whether there are files in the clear beside the sealed ones, or may be.

        Raises:
            OSError: the drive was pulled out.
        """
        is_begun = bool(self._seen.waiting)
        is_clear = self._goes_on()
        if is_begun and not is_clear and not self._seen.waiting:
            is_clear = self._goes_on()  # what was seen first may be of a while ago
        self._tree.check_there()
        return is_clear

    def _goes_on(self) -> bool:
        """Go on with the round, or begin one, up to its end or as far as a glance may."""
        seen = self._seen
        if not seen.waiting:
            seen.waiting = [""]
        while seen.waiting:
            if self._left <= 0:
                new = any(path not in seen.folders for path in seen.waiting)
                return new or not seen.is_locked
            path = seen.waiting.pop()
            self._left -= 1
            try:
                is_clear = self._is_folder_clear(path)
            except FileNotFoundError:
                continue  # removed since the one above it was read
            except OSError:
                is_clear = True
            if is_clear:
                seen.is_locked = False
                if self._left < 0:  # it has more names than a glance reads
                    seen.waiting.append(path)
                else:
                    seen.waiting.clear()  # the next round finds what was seen before as it was
                    seen.folders |= seen.this_round
                    seen.this_round.clear()
                return True
            seen.waiting += seen.this_round[path].folders
        seen.folders, seen.this_round = seen.this_round, {}
        seen.is_locked = True
        return False

    def _is_folder_clear(self, path: str) -> bool:
        """Look at a folder, unless it is as it was when it was looked at; remember it."""
        status = os.fstat(self._tree.folder(path))
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        known = self._seen.this_round.get(path) or self._seen.folders.get(path)
        if known is None or known.stamp != stamp or not _is_settled(status):
            known = SeenFolder(stamp)
        self._seen.this_round[path] = known
        if not known.is_whole:
            is_other = path and self._tree.exists(join(path, FOLDER))  # a vault of its own
            known.is_whole = bool(is_other) or self._is_read(path, known)
        return not known.is_whole

    def _is_read(self, path: str, known: SeenFolder) -> bool:
        """Read a folder up to what is in the clear or is too much; whether all of it was read."""
        with os.scandir(self._tree.folder(path)) as entries:
            for entry in entries:
                if entry.name in known.read:
                    continue
                self._left -= 1
                if self._left < 0 or is_temporary(entry.name):
                    return False
                if entry.is_dir(follow_symlinks=False):
                    if not self._is_own(path, entry):
                        known.folders.append(join(path, entry.name))
                        known.read.add(entry.name)
                elif self._is_sealed(path, entry):
                    known.read.add(entry.name)
                elif not self._is_left(path, entry):
                    return False
        known.read.clear()
        return True

    def _is_sealed(self, folder: str, entry: os.DirEntry[str]) -> bool:
        if not (entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False)):
            return False
        return belongs_to(peek(self._tree, folder, entry.name), self._vault.record.id)

    def _is_own(self, folder: str, entry: os.DirEntry[str]) -> bool:
        """Whether it is a folder of encvault's, or one that belongs to a system."""
        name = entry.name
        return not folder and (name == FOLDER or is_system_folder(self._tree, name))

    def _is_left(self, folder: str, entry: os.DirEntry[str]) -> bool:
        """Whether it is a file that is no user's, and may lie in the clear."""
        path = join(folder, entry.name)
        is_file = entry.is_file(follow_symlinks=False)
        return is_file and (is_litter(path) or is_page(self._tree, path))


def _is_settled(status: os.stat_result) -> bool:
    """Whether a change from now on would give a folder another stamp."""
    return abs(time.time() - status.st_mtime) > _COARSE_S
