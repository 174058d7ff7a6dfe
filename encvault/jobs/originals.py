"""What the originals are before an archive is made of them, so that only those are removed."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING

from encvault.envelope import is_vault_folder
from encvault.fs.rules import Keeping
from encvault.fs.stamp import Stamp
from encvault.fs.tree import Tree, join

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.vault.selection import SealOptions


def settled_stamps(
    sources: Iterable[str], options: SealOptions, own: Iterable[str]
) -> dict[str, dict[str, Stamp]]:
    """The stamp of every file and link that an archive may get, by source and path.

    It returns when any change from then on would show in a new stamp, which takes two seconds where
    times are that coarse. What is read after that is what has the stamp, or gets another one.

    Args:
        sources: folders.
        options: what is left out.
        own: resolved paths of folders that encvault itself works with; they are left out as well.
    """
    own = list(own)

    def enters(tree: Tree, path: str) -> bool:
        real = os.path.join(os.path.realpath(tree.path), path)
        is_own = any(f"{real}/".startswith(f"{one}/") for one in own)
        name = path.rpartition("/")[2]
        return not (is_own or is_vault_folder(name) or options.excludes(path))

    found: dict[str, dict[str, Stamp]] = {}
    for source in sources:
        mine = found[source] = {}
        with Tree(source) as tree:
            enters_here = functools.partial(enters, tree)
            for folder in tree.walk(enter=enters_here):
                for entry in folder.entries:
                    path = join(folder.path, entry.name)
                    if entry.kind in ("file", "symlink") and enters_here(path):
                        mine[path] = Stamp.of(entry.status)
    _settle(stamp for mine in found.values() for stamp in mine.values())
    return found


def _settle(stamps: Iterable[Stamp]) -> None:
    keeping, now_ns = Keeping(), time.time_ns()
    waits = (
        one.settles_in_ns(now_ns) if keeping.our_clock(one.device) else one.granule_ns
        for one in stamps
    )
    if wait := max(waits, default=0):
        time.sleep(wait / 1e9)
