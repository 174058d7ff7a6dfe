"""A copy cut off anywhere: under its name there is all of it or nothing, and the vault stays."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from fault.crash_states import Disk, Recorder
from fault.mounts import fill, mounted, needs_root
from fault.processes import FINISHED, Countdown, fork, wait
from fault.scenes import IDENTITY, ORIGINALS, SCENES, World
from helpers import RECIPIENT, SEED, everything, keys

from encvault import operations
from encvault.crypto import hpke
from encvault.errors import EncvaultError
from encvault.fs import calls, durable
from encvault.keyslots import KeyIdentity, encode_recipient
from encvault.operations import Answers, ShareRequest
from encvault.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Command

LAYOUTS = pytest.mark.parametrize("layout", ["visible", "hidden"])
NAME = "big.bin"


def kill_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def share(top: Path) -> None:
    given = Answers(
        identities_given=(KeyIdentity(Secret(SEED)),), new_recipients_given=(RECIPIENT,)
    )
    request = ShareRequest((str(top / "docs" / NAME),), to=str(top / "out"))
    operations.share(request, given)


def wrong_with(top: Path, *, finished: bool = False) -> list[str]:
    """What is wrong with a world in which `share` may have been cut off."""
    wrong = []
    copy = top / "out" / f"{NAME}.sealed"
    if copy.exists():
        try:
            content = b"".join(map(bytes, operations.cat(str(copy), keys())))
        except EncvaultError as error:
            wrong.append(f"half a copy: {error!r}")
        else:
            wrong += [] if content == ORIGINALS[NAME].content else ["a wrong copy"]
    elif finished:
        wrong.append("no copy")
    rest = [path.name for path in (top / "out").glob("*") if path != copy]
    wrong += [name for name in rest if finished or not durable.is_temporary(name)]
    if operations.verify(str(top / "docs"), keys(), jobs=1).problems:
        wrong.append("the vault was harmed")
    return wrong


@LAYOUTS
def test_killed_before_each_call(world: World, layout: str) -> None:
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        top = world.reset(SCENES[f"open-{layout}"])

        def work(top: Path = top, number: int = number) -> None:
            # not in the workers that read the names of a hidden vault: those change nothing
            own = os.getpid()
            calls.probe = Countdown(number, kill_self, lambda pid: pid == own)
            share(top)

        code = wait(fork(work))
        assert wrong_with(top) == [], f"call {number}"
        if code == -signal.SIGKILL and not (top / "out" / f"{NAME}.sealed").exists():
            share(top)
            assert wrong_with(top, finished=True) == [], f"again after call {number}"
    assert code == FINISHED
    assert number > 8


@LAYOUTS
def test_after_a_crash_there_is_a_whole_copy_or_none(world: World, layout: str) -> None:
    top = world.reset(SCENES[f"open-{layout}"])
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(top, patch)
        share(top)
    assert recorder.unseen() == []
    disk = Disk(recorder)
    seen = 0
    for index in range(len(recorder.events) + 1):
        for state in disk.states():
            top = world.clear()
            disk.materialise(state, top, ledger=False)
            assert wrong_with(top) == [], f"{index}: {state.label}"
            seen += 1
        if index < len(recorder.events):
            disk.play(index)
    assert seen > 10


class Failing(Countdown):
    """Fails the n-th call, and remembers that it did."""

    def __init__(self, number: int, code: int) -> None:
        self.failed = False

        def fail(_name: str) -> None:
            self.failed = True
            raise OSError(code, os.strerror(code))

        # not in the workers that read the names of a hidden vault: their failures stay theirs
        own = os.getpid()
        super().__init__(number, fail, lambda pid: pid == own)


@LAYOUTS
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_each_call_failing_once(
    world: World, layout: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = world.reset(SCENES[f"open-{layout}"])
    before = everything(top / "docs")
    number, probe = 0, Failing(0, code)
    while probe.failed or not number:
        number += 1
        shutil.rmtree(top / "out", ignore_errors=True)
        (top / "out").mkdir()
        probe = Failing(number, code)
        error = None
        monkeypatch.setattr(calls, "probe", probe)
        try:
            share(top)
        except EncvaultError as caught:
            error = caught
        monkeypatch.setattr(calls, "probe", None)
        assert wrong_with(top) == [], f"call {number}"
        left = [name for name in os.listdir(top / "out") if durable.is_temporary(name)]
        assert left == [], f"call {number}"
        if error is not None:
            # 3: a file that cannot be read is left
            assert error.exit_code in (3, 73, 74), repr(error)
            assert str(top) in str(error)
            assert ".tmp" not in str(error)
    assert number > 8
    assert everything(top / "docs") == before


@needs_root
@LAYOUTS
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_gets_no_copy(
    world: World, tmp_path: Path, kind: str, layout: str, run: Command
) -> None:
    top = world.reset(SCENES[f"open-{layout}"])
    recipient = encode_recipient(hpke.public_key(SEED))
    with mounted(tmp_path / "disk", kind, 8 << 20) as disk:
        ballast = fill(disk, 300_000)
        command = ("share", top / "docs" / NAME, "--to", disk / "out", "-r", recipient)
        ran = run(*command, "-i", top.parent / IDENTITY)
        assert ran.code == 73, ran.err
        assert f"{disk / 'out' / NAME}.sealed: no space left" in ran.err
        assert list((disk / "out").iterdir()) == []
        ballast.unlink()
        assert run(*command, "-i", top.parent / IDENTITY).code == 0
        copy = disk / "out" / f"{NAME}.sealed"
        content = b"".join(map(bytes, operations.cat(str(copy), keys())))
        assert content == ORIGINALS[NAME].content
