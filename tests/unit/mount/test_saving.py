"""What is in the vault if the process of a mount dies now."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, get_args

import pytest
from helpers import unseal
from mounts import CALLER, Mounted, Watcher

from encvault.errors import KeysMissing
from encvault.mount import due, saving
from encvault.vault.manifest import VaultLayout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from encvault.mount.observer import SavedEvent

LONGEST = 0.5


@pytest.fixture(params=get_args(VaultLayout))
def mounted(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mounted]:
    monkeypatch.setattr(due, "_LONGEST", LONGEST)
    with Mounted(tmp_path / "vault", request.param) as one:
        yield one


def after_a_kill(mounted: Mounted, name: str) -> bytes:
    """What a file has for who opens a copy of the vault as it is on the disk now."""
    top = mounted.path.parent
    copy, out = top / "copy", top / "out"
    for path in (copy, out):
        shutil.rmtree(path, ignore_errors=True)
    for _attempt in range(20):  # what is renamed meanwhile is copied once more
        with contextlib.suppress(shutil.Error, FileNotFoundError):
            shutil.copytree(mounted.path, copy)
            break
        shutil.rmtree(copy, ignore_errors=True)
    unseal(copy, to=str(out))
    path = out / name
    return path.read_bytes() if path.exists() else b""


def append(mounted: Mounted, data: bytes, size: int, seconds: float) -> int:
    """Open a file, add to it, close it after a while; the size that it has then."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    handle = mounted.view.create("/log", 0o644, flags, CALLER)
    mounted.view.write(handle, data, size)
    time.sleep(seconds)
    mounted.view.flush(handle)
    mounted.view.release(handle)
    return size + len(data)


@pytest.mark.parametrize("pause", [0.03, due.SOON * 1.6], ids=["soon", "seldom"])
def test_what_is_nearly_always_open_is_saved_as_it_was_closed(
    mounted: Mounted, pause: float
) -> None:
    size, closed, end = 0, [0], time.monotonic() + 6 * LONGEST
    while time.monotonic() < end:
        size = append(mounted, b"one more line\n", size, pause)
        closed.append(size)
    handle = mounted.view.open("/log", os.O_WRONLY, CALLER)
    mounted.view.write(handle, b"half", size)
    found = after_a_kill(mounted, "log")
    assert len(found) in closed  # never in the midst of a write
    assert len(found) >= size / 2
    mounted.view.release(handle)
    assert mounted.watcher.problems == []
    mounted.again()
    assert mounted.read("/log") == b"one more line\n" * (size // 14) + b"half"


def test_what_is_closed_after_it_had_to_be_saved_is_saved_at_once(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SOON", LONGEST)
    size = append(mounted, b"one", 0, 0.0)
    handle = mounted.view.open("/log", os.O_WRONLY, CALLER)
    mounted.view.write(handle, b"two", size)
    mounted.view.flush(handle)  # one of its descriptors is closed, and it may go on
    time.sleep(3 * LONGEST)
    assert mounted.watcher.saves == []
    monkeypatch.setattr(due, "_LONGEST", 3_600.0)
    mounted.view.release(handle)
    handle = mounted.view.open("/log", os.O_WRONLY, CALLER)
    mounted.view.write(handle, b" half", 2 * size)
    begun = time.monotonic()
    while (found := after_a_kill(mounted, "log")) == b"" and time.monotonic() - begun < 20:
        time.sleep(0.1)
    assert found == b"onetwo"
    mounted.view.release(handle)


def test_a_large_new_file_that_is_nearly_always_open_is_saved(mounted: Mounted) -> None:
    piece = bytes(range(256)) * 1_024
    size, closed, end = 0, [0], time.monotonic() + 6 * LONGEST
    while time.monotonic() < end:
        size = append(mounted, piece, size, 0.05)
        closed.append(size)
    handle = mounted.view.open("/log", os.O_WRONLY, CALLER)
    found = after_a_kill(mounted, "log")
    assert len(found) > 0
    assert len(found) in closed
    assert found == (piece * (len(found) // len(piece) + 1))[: len(found)]
    mounted.view.release(handle)


def test_what_is_written_after_the_copy_is_told_as_well(mounted: Mounted) -> None:
    size = append(mounted, b"one", 0, 0.0)
    handle = mounted.view.open("/log", os.O_WRONLY, CALLER)
    mounted.view.write(handle, b"two", size)
    begun = time.monotonic()
    while not mounted.watcher.saves and time.monotonic() - begun < 20:
        time.sleep(0.02)
    assert [access.size for _kind, access, _who, _more in mounted.watcher.saves] == [3]
    mounted.view.flush(handle)
    mounted.view.release(handle)
    mounted.view.sync()
    assert [access.size for _kind, access, _who, _more in mounted.watcher.saves] == [3, 6]


def test_to_sync_saves_what_was_closed_of_a_file_that_is_open_again(mounted: Mounted) -> None:
    size = append(mounted, b"closed", 0, 0.0)
    handle = mounted.view.open("/log", os.O_WRONLY, CALLER)
    mounted.view.write(handle, b" half", size)
    mounted.view.sync()
    assert after_a_kill(mounted, "log") == b"closed"
    mounted.view.release(handle)


def test_an_object_that_was_succeeded_goes_even_if_the_keys_are_away_for_a_moment(
    tmp_path: Path,
) -> None:
    with Mounted(tmp_path / "vault", "hidden") as mounted:
        mounted.write("/f", b"first")
        mounted.view.sync()
        mounted.write("/f", b"second")
        keys, away = mounted.path / ".encvault/keys", tmp_path / "away"

        class Meddler(Watcher):
            """Takes the keys away after they were looked for, before the copy has its name."""

            def saving(self, events: Sequence[SavedEvent]) -> None:
                super().saving(events)
                keys.rename(away)

        mounted.watcher.__class__ = Meddler
        with pytest.raises(KeysMissing):
            mounted.view.sync()
        mounted.watcher.__class__ = Watcher
        away.rename(keys)
        mounted.view.sync()
        objects = (mounted.path / ".encvault/objects").rglob("*")
        assert len([path for path in objects if path.is_file()]) == 1
    report = unseal(mounted.path, to=str(tmp_path / "out"))
    assert report.problems == []
    assert (tmp_path / "out" / "f").read_bytes() == b"second"
