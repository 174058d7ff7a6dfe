"""Whose the local state of a job is: that of one user, who makes all of it and alone can use it.

A file that root leaves in it stops every later run of that user, so root is kept out before
anything is made, and what he has left is found before the night does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.errors import JobRecordsOfAnother
from encvault.vault.known import FILE, LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

# what encvault keeps in a state folder; the home of a user may be the same folder, with more in it
_SHARED = (FILE, LOCK_FILE, "drives.json", ".drives.json.lock", "log", "vaults")
_JOBS = "jobs"


class Owned(NamedTuple):
    """A file or folder, and the number of the user whose it is."""

    path: str
    uid: int


def not_roots(state_dir: str, records: str) -> Owned | None:
    """The first folder on the way to a job's records that is not root's, or None.

    Args:
        state_dir: local state folder.
        records: the folder of the job's records.
    """
    for path in (state_dir, os.path.dirname(records), records):
        try:
            uid = os.stat(path).st_uid
        except OSError:
            return None
        if uid != 0:
            return Owned(path, uid)
    return None


def check(state_dir: str, records: str) -> None:
    """See whether this user can use a job's records, and what else is kept for its runs.

    Args:
        state_dir: local state folder.
        records: the folder of the job's records.

    Raises:
        JobRecordsOfAnother: something of another user is in the way.
    """
    above = [state_dir, os.path.dirname(records)]
    kept = [os.path.join(state_dir, name) for name in _SHARED]
    own = os.geteuid() if hasattr(os, "geteuid") else 0
    for found in [*map(_look, above), *_below([*kept, records])]:
        if found is not None and not _is_usable(found, own):
            raise JobRecordsOfAnother(
                path=found.path,
                owner=name_of(found.uid),
                user=name_of(own),
                account=name_of(own) if is_known(own) else str(own),  # as chown takes it
                place=state_dir,
            )


def strays(state_dir: str, uid: int) -> Iterator[Owned]:
    """All that is kept in a state folder and is not this user's; nothing of that bars root."""
    if uid != 0:
        kept = [os.path.join(state_dir, name) for name in (*_SHARED, _JOBS)]
        yield from (found for found in _below(kept) if found.uid != uid)


def kept_in(state_dir: str) -> list[str]:
    """What encvault keeps in a state folder, as far as it is there."""
    kept = [os.path.join(state_dir, name) for name in (*_SHARED, _JOBS)]
    return [path for path in kept if os.path.lexists(path)]


def is_known(uid: int) -> bool:
    """Whether the machine has a name for a user."""
    return name_of(uid) != _number_text(uid)


def name_of(uid: int) -> str:
    """The name of a user, or his number, marked as one, if he has none; to tell people."""
    import pwd  # noqa: PLC0415 - POSIX only

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return _number_text(uid)


def _number_text(uid: int) -> str:
    return f"#{uid}"


def _is_usable(found: Owned, own: int) -> bool:
    if found.uid == own:
        return True  # sealed copies of files that nobody may write to are among it
    need = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(found.path) else 0)
    return os.access(found.path, need)


def _below(paths: list[str]) -> Iterator[Owned]:
    """Some files and folders with all that is in them, as far as it can be seen."""
    for path in paths:
        if (found := _look(path)) is None:
            continue
        yield found
        if not os.path.islink(path):
            for folder, folders, files in os.walk(path):
                names = (os.path.join(folder, name) for name in (*folders, *files))
                yield from filter(None, map(_look, names))


def _look(path: str) -> Owned | None:
    try:
        return Owned(path, os.lstat(path).st_uid)
    except OSError:
        return None
