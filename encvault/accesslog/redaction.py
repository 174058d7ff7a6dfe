"""What of a path is recorded: all of it, its last name, or what tells nothing without a key.

Labels of keyslots, which people give, are recorded with whole paths only. Of programs, which may
lie in somebody's folder, there is else the name alone.

Names of files are personal data where they name people. A month's key can be deleted: the entries
of that month stay, and prove what they proved, but nobody can tell any more which file they were
about (docs/log-format.md section 4).
"""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import re
import unicodedata
from typing import TYPE_CHECKING, Literal, get_args

from encvault.fs import calls, durable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from encvault.fs.tree import Tree

PathForm = Literal["full", "name", "hmac"]
PATH_FORMS: tuple[PathForm, ...] = get_args(PathForm)
KEYS_FOLDER = "path-keys"
KEY_SIZE = 32

_PATHS = frozenset({"name", "path", "to"})
_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")


class Redactor:
    """Turns paths into what is recorded of them.

    Args:
        tree: the log's folder, where the keys of months lie.
        form: what to record.
    """

    def __init__(self, tree: Tree, form: PathForm) -> None:
        self._tree = tree
        self._form = form
        self._keys: dict[str, bytes] = {}

    def redacted(self, members: Mapping[str, str | int], month: str) -> Mapping[str, str | int]:
        """Members of an entry with their paths as they are to be recorded.

        Args:
            members: with absolute paths.
            month: of the entry, ``YYYY-MM``; its key is made when it is needed first.

        Raises:
            OSError: the key cannot be read or made.
        """
        if self._form == "full":
            return members
        changed = {name: value for name, value in members.items() if name != "label"}
        for name in _PATHS & members.keys():
            path = str(members[name])
            if self._form == "name":
                changed[name] = os.path.basename(path) or path
            else:
                changed[name] = path_code(self._key(month), path)
                changed["path_key"] = month
        if "program" in changed:
            changed["program"] = os.path.basename(str(changed["program"]))
        return changed

    def _key(self, month: str) -> bytes:
        if month not in self._keys:
            self._keys[month] = _load_key(self._tree, month) or _make_key(self._tree, month)
        return self._keys[month]


def path_code(key: bytes, path: str) -> str:
    """What stands for a path: 43 characters."""
    text = unicodedata.normalize("NFC", path).encode(errors="backslashreplace")
    return base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256)).decode().rstrip("=")


def path_keys(tree: Tree) -> dict[str, bytes]:
    """The keys of the months that were not erased, by month.

    Raises:
        OSError: they cannot be read.
    """
    found = {month: _load_key(tree, month) for month in _months(tree)}
    return {month: key for month, key in found.items() if key is not None}


def erase_keys(tree: Tree, before: str) -> list[str]:
    """Delete the keys of the months before one, overwritten first; durable on return.

    Args:
        tree: the log's folder.
        before: ``YYYY-MM``; this month's key and later ones stay.

    Returns:
        The months whose keys are gone.

    Raises:
        OSError: they could not all be deleted.
    """
    gone = [month for month in _months(tree) if month < before]
    for month in gone:
        folder = tree.folder(KEYS_FOLDER)
        fd = calls.open_update(folder, month)
        try:
            calls.write_at(fd, bytes(KEY_SIZE), 0)
            calls.fsync(fd)
        finally:
            os.close(fd)
        calls.unlink(folder, month)
    if gone:
        calls.fsync_folder(tree.folder(KEYS_FOLDER))
    return gone


def is_month(text: str) -> bool:
    """Whether a text is a month as `erase_keys` takes it."""
    return _MONTH.fullmatch(text) is not None


def _months(tree: Tree) -> list[str]:
    try:
        return sorted(filter(is_month, os.listdir(tree.folder(KEYS_FOLDER))))
    except FileNotFoundError:
        return []


def _load_key(tree: Tree, month: str) -> bytes | None:
    try:
        key = durable.read_file(tree, f"{KEYS_FOLDER}/{month}", KEY_SIZE)
    except FileNotFoundError:
        return None
    if key == bytes(KEY_SIZE):
        return None  # a run that erased it was killed before it was unlinked
    if len(key) != KEY_SIZE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"{KEYS_FOLDER}/{month}")
    return key


def _make_key(tree: Tree, month: str) -> bytes:
    key = os.urandom(KEY_SIZE)
    tree.make_folders(KEYS_FOLDER)
    durable.clean(tree, KEYS_FOLDER)  # of a run that was killed here
    durable.write_file(
        tree, KEYS_FOLDER, month, key, file_id=durable.stable_id(month), mode=0o600, replace=True
    )
    return key
