"""Drives that are pulled out: the driver of their file system is killed at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
import traceback
from typing import TYPE_CHECKING

import pytest
from drivefs import DriveImage
from helpers import RECIPIENT, keys

from encvault import operations
from encvault.errors import DriveNeverLocked, EncvaultError, InputOutputError
from encvault.operations import drives
from encvault.operations.drives import Which

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("loop devices")  # who detaches one wants it again

TURNS = 30
MAIN = os.getpid()
# not FAT: fusefat, killed while it changes the table, leaves files that share clusters
KINDS = ("exfat", "ntfs", "ntfs-windows")
FILES = {f"folder{number % 4}/f{number}": os.urandom(number * 2_000) for number in range(40)}
ANSWERS = operations.Answers(
    recipients_given=(RECIPIENT,), identities_given=tuple(keys().identities_given), consent=True
)


def lock(path: Path, state: Path) -> None:
    request = drives.LockRequest(Which(str(path), is_folder=True), str(state))
    report = drives.lock(request, ANSWERS)
    assert not report.problems or os.getpid() != MAIN, list(map(repr, report.problems))
    report.raise_for_problems()


def unlock(path: Path, state: Path) -> None:
    which = Which(str(path), is_folder=True)
    request = drives.UnlockRequest(which, str(state), str(state), in_place=True)
    report = drives.unlock(request, ANSWERS).report
    assert report is not None
    report.raise_for_problems()


def repair(path: Path, state: Path, *, may_be_damaged: bool) -> bool:
    """What a user does then; a drive that was pulled out before it had a vault has nothing.

    What its file system has lost is told, and keeps nothing else from being sealed.

    Returns:
        Whether something was lost: some of it shows only when there is more to be written.
    """
    before = status(path, state).state
    request = drives.LockRequest(Which(str(path), is_folder=True), str(state))
    with contextlib.suppress(DriveNeverLocked):
        report = drives.repair(request, ANSWERS)
        codes = {one.exit_code for one in report.problems}
        if may_be_damaged and codes == {InputOutputError.exit_code}:
            return True
        report.raise_for_problems()
        after = status(path, state).state
        assert after == "locked" or after == before != "interrupted"
    return False


def status(path: Path, state: Path) -> drives.DriveStatus:
    which = Which(str(path), is_folder=True)
    return drives.drive_status(which, str(state), str(state / "drives.json"))


def pulled_out_during(work: Callable[[], None], drive: DriveImage, seconds: float) -> None:
    """Do something in a child, and kill the driver meanwhile."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            work()
        except EncvaultError as error:
            code = error.exit_code
        except BaseException:  # noqa: BLE001 - the parent sees the code
            traceback.print_exc(file=sys.stderr)
            code = 200
        finally:
            os._exit(code)
    time.sleep(seconds)
    drive.kill()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 0 <= code < 200
    drive.clear()
    assert os.listdir(drive.path) == []  # nothing went to the folder beneath
    drive.mount()


def fill(path: Path) -> None:
    for name, data in FILES.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(data)


def found_on(drive: DriveImage, state: Path, copy: Path, damage: set[str]) -> dict[str, set[bytes]]:
    """What each file has, in the clear or sealed."""
    found: dict[str, set[bytes]] = {}
    if status(drive.path, state).state != "plain":
        request = operations.OpenRequest((str(drive.path),), to=str(copy), state_dir=str(state))
        report = operations.open_paths(request, keys())
        assert not [one for one in report.problems if one.exit_code == 65]
    for top in (drive.path, copy):
        for path in top.rglob("f*"):
            if str(path) not in damage and path.is_file() and ".encvault" not in path.parts:
                name = str(path.relative_to(top))
                found.setdefault(name, set()).add(path.read_bytes())
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_a_drive_that_is_pulled_out_loses_nothing(kind: str, tmp_path: Path) -> None:
    chance = random.Random(f"{kind} {time.time_ns()}")
    state = tmp_path / "state"
    with DriveImage(kind, tmp_path) as drive:
        fill(drive.path)
        for turn in range(TURNS):
            work = chance.choice((lock, lock, unlock))
            if status(drive.path, state).state == "plain":
                work = lock
            elif work is lock:
                unlock(drive.path, state)
            seconds = chance.uniform(0, 0.8)
            pulled_out_during(lambda: work(drive.path, state), drive, seconds)  # noqa: B023 - called at once
            damage = drive.damage()
            is_damaged = repair(drive.path, state, may_be_damaged=kind.startswith("ntfs"))
            damage |= drive.damage()
            assert not damage or kind.startswith("ntfs")  # whose driver, killed, leaves such names
            found = found_on(drive, state, tmp_path / f"copy{turn}", damage)
            lost = [name for name, data in FILES.items() if found.get(name) != {data}]
            assert not lost, (turn, work.__name__, seconds, lost, damage)
            if damage or is_damaged:  # nothing here mends this file system
                drive.unmount()
                drive.format()
                fill(drive.path)
                state = tmp_path / f"state{turn}"
        lock(drive.path, state)
        at_last = status(drive.path, state)
        assert (at_last.state, at_last.plain, at_last.leftovers) == ("locked", [], [])
        unlock(drive.path, state)
        for name, data in FILES.items():
            assert (drive.path / name).read_bytes() == data
