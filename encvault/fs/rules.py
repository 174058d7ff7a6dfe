"""What names the file system of a folder takes, and what it keeps of a file.

Drivers differ in what they refuse, and in the error they give for it, so most of it is tried out.
Beyond that a drive of a kind that Windows reads gets no name that Windows cannot open, whatever
its driver here takes.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from encvault.fs import calls, durable
from encvault.fs.mounts import kind_of
from encvault.fs.names import COMMON_SIZE, KINDS, MAX_SIZE, Rules, fitted, is_harmless
from encvault.fs.tree import Tree, join

if TYPE_CHECKING:
    from collections.abc import Collection

_WITHOUT_LIMITS = frozenset(
    {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs"}
)
_OF_WINDOWS = frozenset({"exfat", "fat", "fusefat", "msdos", "ntfs", "ntfs-3g", "ntfs3", "vfat"})
_WITHOUT_NUMBERS = frozenset({"exfat", "msdos", "vfat"})
# the kernel here writes the times; so do the programs for drives of Windows
_OF_OUR_CLOCK = frozenset(
    {
        "bcachefs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfsplus",
        "jfs",
        "nilfs2",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "udf",
        "xfs",
        "zfs",
    }
)
# exfat-fuse has no file of such a name; fusefat does not permit it; most find it invalid
_REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EILSEQ,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.EPERM,
    }
)


class Keeping:
    """What the file systems that a run meets keep of a file; they are given as `os.stat` does."""

    def __init__(self) -> None:
        self._kinds: dict[int, str] = {}

    def modes(self, device: int) -> bool:
        """Whether it has permission bits of its own; FAT gives all to everybody."""
        return not _is_of_windows(self._kind(device))

    def inodes(self, device: int) -> bool:
        """Whether a file has its number for good.

        FAT has none, and neither have most servers of FUSE: the number is made up anew when the
        drive is mounted, or when memory was needed for something else.
        """
        kind = self._kind(device)
        return kind not in _WITHOUT_NUMBERS and not kind.startswith("fuse")

    def our_clock(self, device: int) -> bool:
        """Whether this machine's clock gives files their times, as far as that is known.

        A server has a clock of its own, which may be before or behind ours by any time.
        """
        kind = self._kind(device)
        return kind in _OF_OUR_CLOCK or _is_of_windows(kind)

    def _kind(self, device: int) -> str:
        if device not in self._kinds:
            self._kinds[device] = kind_of(device)
        return self._kinds[device]


def _is_of_windows(kind: str) -> bool:
    return kind == "fuseblk" or kind.removeprefix("fuse.") in _OF_WINDOWS


class TargetNames:
    """The names that files get in a tree; its file system is asked when the first is in doubt.

    Args:
        tree: where they are written.
        folder: a folder in it where something may be made and removed again.
    """

    def __init__(self, tree: Tree, folder: str = "") -> None:
        self._tree = tree
        self._folder = folder
        self._rules: Rules | None = None

    @property
    def rules(self) -> Rules:
        """What the file system takes."""
        if self._rules is None:
            self._rules = rules_of(self._tree, self._folder)
        return self._rules

    def fit(self, name: str) -> str:
        """What a file is called, whatever else is in its folder."""
        return name if is_harmless(name) else self.rules.legal(name)

    def fitted(self, names: Collection[str]) -> dict[str, str]:
        """See `encvault.fs.names.fitted`."""
        upper = {name.upper() for name in names}
        if len(upper) == len(names) and all(map(is_harmless, names)):
            return {}
        return fitted(names, self.rules)


def rules_of(tree: Tree, folder: str) -> Rules:
    """What names a file system takes.

    Args:
        tree: on it.
        folder: a folder in the tree; a temporary folder is made and removed in it, unless the
            kind of file system says everything.
    """
    above = tree.folder(folder)
    kind = kind_of(os.fstat(above).st_dev)
    if kind in _WITHOUT_LIMITS:
        return Rules()
    windows = _is_of_windows(kind)
    temporary = durable.temporary_name(durable.stable_id(os.urandom(16).hex()))
    try:
        calls.mkdir(above, temporary, 0o700)
        fd = calls.open_folder(temporary, above)
    except OSError:  # who writes here will be told why not
        return Rules(windows=windows, folds=windows)
    try:
        return _tried(fd, windows=windows)
    except OSError:
        return Rules(windows=windows, folds=windows)
    finally:
        os.close(fd)
        durable.discard_tree(tree, join(folder, temporary))


def _tried(fd: int, *, windows: bool) -> Rules:
    """Try out the names that are refused somewhere, in an empty folder."""
    refused: set[str] = set()
    if _takes(fd, "x") and not _takes(fd, "con." + "".join(KINDS) + " "):
        refused = {kind for kind in KINDS if not _takes(fd, f"x{kind}x")}
        windows = windows or not all(_takes(fd, name) for name in ("con", "x.", "x "))
    size = units = COMMON_SIZE
    if not _takes(fd, "x" * COMMON_SIZE):
        size = _longest(fd)
    elif _takes(fd, "x" * MAX_SIZE):
        size = units = MAX_SIZE
    elif _takes(fd, "中" * COMMON_SIZE):
        size = MAX_SIZE
    folds = windows or _folds(fd)
    return Rules(frozenset(refused), size, units, windows=windows, folds=folds)


def _longest(fd: int) -> int:
    """Bytes of the longest name, which is shorter than usual; as usual if none can be made."""
    taken, refused = 0, COMMON_SIZE
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if _takes(fd, "x" * middle):
            taken = middle
        else:
            refused = middle
    return taken or COMMON_SIZE


def _folds(fd: int) -> bool:
    os.close(calls.create(fd, "case"))
    found = calls.exists(fd, "CASE")
    calls.unlink(fd, "case")
    return found


def _takes(fd: int, name: str) -> bool:
    """Whether a file of that name can be made; asked twice, before it is believed that not."""
    for _attempt in range(2):
        try:
            handle = calls.create(fd, name)
        except OSError as error:
            if error.errno not in _REFUSALS:  # a full disk, say, is no matter of names
                raise
        else:
            os.close(handle)
            calls.unlink(fd, name)
            return True
    return False
