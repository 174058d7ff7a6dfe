"""A real disk that says late, and once, that it could not take what was written."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from fault.mounts import fill, mounted, needs_root
from fault.processes import fork, wait
from helpers import unseal
from mounts import CALLER, Mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from encvault.vault.manifest import VaultLayout

SIZE = 96 << 20  # of the disk, as it says
ROOM = 24 << 20  # that there is
LEFT = 1 << 20  # of that, when it is nearly full
OLD_SIZE, NEW_SIZE = 100_000, 8_000_000  # bytes: of each file, and of all


@contextlib.contextmanager
def disk_at(where: Path, image: Path) -> Iterator[None]:
    """The file system in an image; what is read is read from the image, not from a cache."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,nodiscard", str(image), str(where)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def make_disk(image: Path, where: Path) -> None:
    """A disk of which the tables have their room already, and files have not."""
    with image.open("wb") as file:
        file.truncate(SIZE)
    options = ["-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=0", "-b", "4096"]
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, "-N", "4096", str(image)], check=True)
    with disk_at(where, image):
        (where / "t").mkdir()
        for number in range(400):
            (where / "t" / str(number)).write_text("x")
        os.sync()
        for path in (where / "t").iterdir():
            path.unlink()


def make_object_folders(objects: Path) -> None:
    """All that there can be."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    for first, second in itertools.product(letters, letters):
        (objects / f"{first}{second}").mkdir(exist_ok=True)


def write_and_insist(vault: Path, count: int) -> list[str]:
    """Write new contents, ask for them to be saved again and again; what is not saved then."""
    one = Mounted(vault)
    handles = []
    for name in names(count):
        handle = one.view.open(f"/{name}", os.O_WRONLY | os.O_TRUNC, CALLER)
        for at in range(0, NEW_SIZE // count, 131_072):
            one.view.write(handle, os.urandom(131_072), at)
        handles.append(handle)
    failures = 0
    for call in (one.view.flush, one.view.release):
        for handle in handles:
            with contextlib.suppress(OSError):  # the disk may have no room for another copy by now
                call(handle)
    for _attempt in range(3):
        try:
            one.view.sync()
        except OSError:
            failures += 1
    assert failures == 3
    unsaved = one.view.unsaved()
    with pytest.raises(OSError, match=r"error|space"):
        one.view.close()
    assert one.view.unsaved() == unsaved
    return unsaved


def names(count: int) -> list[str]:
    return [f"f{number:02}" for number in range(count)]


@needs_root
@pytest.mark.parametrize("layout", ["visible", "hidden"])
@pytest.mark.parametrize("count", [1, 12])
def test_nothing_that_was_lost_takes_the_place_of_what_was_not(
    tmp_path: Path, layout: VaultLayout, count: int
) -> None:
    old = {name: os.urandom(OLD_SIZE) for name in names(count)}
    with mounted(tmp_path / "small", "tmpfs", ROOM) as small:
        image, disk = small / "image", tmp_path / "disk"
        make_disk(image, disk)
        with disk_at(disk, image):
            with Mounted(disk / "vault", layout) as one:
                for name, data in old.items():
                    one.write(f"/{name}", data)
                if layout == "hidden":  # new folders would be lost as well, and tell of damage
                    make_object_folders(disk / "vault/.encvault/objects")
            os.sync()
            fill(small, LEFT)

            def work() -> int:
                unsaved = write_and_insist(disk / "vault", count)
                (tmp_path / "unsaved").write_text("\n".join(unsaved))
                return 0

            # of what could not be saved, something is open until the process ends
            assert wait(fork(work)) == 0
        unsaved = (tmp_path / "unsaved").read_text().split()
        assert unsaved
        with disk_at(disk, image):
            report = unseal(disk / "vault", to=str(tmp_path / "out"))
        assert [str(error) for error in report.problems] == []
        found = {name: (tmp_path / "out" / name).read_bytes() for name in names(count)}
        assert [name for name in unsaved if found[name] != old[name]] == []
        assert [name for name in found if name not in unsaved and found[name] == old[name]] == []
