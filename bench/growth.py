"""How time and memory grow with the number of files and with their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contest import ENCVAULT, Aim, Case, Contender
from inputs import write_random, write_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compare import Scale

_FLAT = 1.2


def growth(work: Path, scale: Scale) -> Iterator[Case]:
    """Ten times as many files, and four times as large a file, again and again."""
    first = f"{scale.growing_files[0]:,} files"
    limits = (Aim("peak_kib", _FLAT, first), Aim("peak_kib", 150 * 1024))
    trees = []
    for count in scale.growing_files:
        write_tiny(work / f"tiny{count}", count)
        trees.append(
            Contender(
                f"{count:,} files",
                f"{ENCVAULT} seal -q grown --yes -r me.pub",
                before=f"rm -rf grown; cp -a tiny{count} grown",
                after="rm -rf grown",
                aims=limits if count != scale.growing_files[0] else (),
            )
        )
    yield Case(
        "growth: files", "1 kB each, sealed in place", trees, leaves_pages=False, is_warmed=False
    )
    yield Case(
        "growth: nothing changed",
        "the same files, in a mirror that is up to date",
        [
            Contender(
                f"{count:,} files",
                f"{ENCVAULT} seal -q tiny{count} --to tiny{count}.mirror -r me.pub",
                before=f"test -d tiny{count}.mirror || "
                f"{ENCVAULT} seal -q tiny{count} --to tiny{count}.mirror -r me.pub",
                aims=limits if count != scale.growing_files[0] else (),
            )
            for count in scale.growing_files
        ],
        leaves_pages=False,
        is_warmed=False,
    )
    sizes = []
    for gib in scale.growing_gib:
        write_random(work / f"big{gib}", gib * 1024)
        sizes.append(
            Contender(
                f"{gib} GiB",
                f"{ENCVAULT} seal -q big{gib} -o grown.sealed -r me.pub",
                after="rm -f grown.sealed",
                aims=(
                    Aim("peak_kib", _FLAT, f"{scale.growing_gib[0]} GiB"),
                    Aim("peak_kib", 150 * 1024),
                ),
            )
        )
    yield Case("growth: size", "one file", sizes, leaves_pages=False, is_warmed=False)
