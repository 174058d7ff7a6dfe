"""kill -9 at every call of a recorded run: what was given out is recorded, whenever it ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault.processes import FINISHED, Countdown, fork, wait
from fault.scenes import LETTER, ORIGINALS, SCENES, Scene
from helpers import keys

from encvault import operations
from encvault.accesslog.audit import Verdict
from encvault.accesslog.log import AccessLog
from encvault.accesslog.verifying import verify
from encvault.fs import calls

if TYPE_CHECKING:
    from fault.scenes import World

OPENED = {
    "open-visible": ("docs", ORIGINALS),
    "open-hidden": ("docs", ORIGINALS),
    "open-one-small": ("alone/letter.txt.sealed", LETTER),
}


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "new-log"])
def test_no_plaintext_has_its_name_before_its_entry(
    world: World, base: Path, name: str, *, begun: bool
) -> None:
    scene, (target, items) = SCENES[name], OPENED[name]
    log = AccessLog(str(base / "access-log"))
    shutil.rmtree(log.path, ignore_errors=True)
    if begun:
        log.begin()
        shutil.copytree(log.path, base / "begun", dirs_exist_ok=True)
    wrong, number, code, early = [], 0, -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        number += 1
        shutil.rmtree(log.path, ignore_errors=True)
        if begun:
            shutil.copytree(base / "begun", log.path)
        code = _killed(world, scene, log, target, number)
        folder = world.top / target.split("/", maxsplit=1)[0]
        given = {str(folder / item) for item in items if os.path.lexists(folder / item)}
        told = _recorded(log)
        early += bool(told - given)
        if missing := given - told:
            wrong.append(f"call {number}: given out and not recorded: {missing}")
        log.record([{"op": "scan", "outcome": "ok"}])  # the next run mends what there is to mend
        audit = verify(log.path)
        if audit.verdict is not Verdict.OK_UNANCHORED or missing - _recorded(log):
            wrong.append(f"call {number}: {audit.verdict}: {audit.wrong}")
    assert code == FINISHED
    assert given == told
    assert number > 20
    assert early, "the entry comes first, so there is a moment when it is alone"
    assert not wrong, "\n".join(wrong)


def _killed(world: World, scene: Scene, log: AccessLog, target: str, number: int) -> int:
    top = world.reset(scene)
    request = operations.OpenRequest((str(top / target),), jobs=1)

    def work() -> None:
        calls.probe = Countdown(number, lambda _name: os.kill(os.getpid(), signal.SIGKILL))
        operations.open_paths(request, replace(keys(), log=log))

    return wait(fork(work))


def _recorded(log: AccessLog) -> set[str]:
    """The paths of the entries that the last checkpoint covers."""
    audit = verify(log.path)
    assert audit.verdict is not Verdict.TAMPERED, audit.wrong
    if not audit.size:
        return set()
    lines = Path(log.path, "entries").read_bytes().splitlines()[: audit.size]
    entries = [json.loads(line) for line in lines]
    return {entry["path"] for entry in entries if entry["op"] == "open"}
