"""Power cuts: every state that a crash at any call may leave, and the run after it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from fault.crash_states import Disk, Recorder, State
from fault.scenes import SCENES, Scene, run_again, summary, violations
from helpers import keys

from encvault import operations
from encvault.vault.manifest import RECORD_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from fault.scenes import World

MAX_STATES = 60  # of one scene are tried; the others are like them


def record(world: World, scene: Scene) -> tuple[Recorder, Path]:
    """Run a scene's command and write down what it does."""
    top = world.reset(scene)
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(top, patch)
        assert scene.command(top, None).problems == []
    return recorder, top


def crash_states(recorder: Recorder) -> tuple[Disk, list[State]]:
    """Every state that a crash may leave, each once, in the order of time."""
    disk = Disk(recorder)
    found: dict[object, State] = {}
    for index in range(len(recorder.events) + 1):
        for state in disk.states():
            found.setdefault(state.key, State(f"{index}: {state.label}", state.files, state.ledger))
        if index < len(recorder.events):
            disk.play(index)
    return disk, list(found.values())


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_after_a_crash_nothing_is_lost(world: World, scene: Scene) -> None:
    recorder, _top = record(world, scene)
    assert recorder.unseen() == []  # nothing went round the record
    disk, states = crash_states(recorder)
    assert len(states) >= 3  # before, between and after, in the shortest of them
    chosen = states
    if len(states) > MAX_STATES:
        chosen = random.Random(scene.name).sample(states, MAX_STATES)
    wrong: list[tuple[str, list[str]]] = []
    for state in chosen:
        for ledger in (True, False) if state.ledger else (False,):
            top = world.clear()
            disk.materialise(state, top, ledger=ledger)
            lost = bool(state.ledger) and not ledger
            # what lies there is the same with and without the ledger: once is enough
            found = violations(top, scene) if not lost else []
            found = found or run_again(top, scene, ledger_lost=lost, power_cut=True)
            if found:
                wrong.append((f"{state.label}, ledger {'kept' if ledger else 'lost'}", found))
    assert not wrong, summary(wrong)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_what_a_command_has_said_is_done_stays_done(world: World, scene: Scene) -> None:
    """The exit code is a promise: a power cut after it takes nothing back."""
    recorder, _top = record(world, scene)
    disk = Disk(recorder)
    for index in range(len(recorder.events)):
        disk.play(index)
    wrong: list[tuple[str, list[str]]] = []
    for state in {state.key: state for state in disk.states()}.values():
        top = world.clear()
        disk.materialise(state, top, ledger=True)
        if found := violations(top, scene, finished=True, power_cut=True):
            wrong.append((state.label, found))
    assert not wrong, summary(wrong)


def test_a_vault_in_a_new_folder_is_there_after_a_crash(world: World) -> None:
    """The folder itself has a name, too, and that is in the folder above."""
    top = world.clear()
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(top, patch)
        operations.init_vault(str(top / "fresh"), keys())
    assert recorder.unseen() == []
    disk = Disk(recorder)
    for index in range(len(recorder.events)):
        disk.play(index)
    for state in disk.states():
        paths = {path for path, _inode, _content in state.files}
        assert {f"fresh/{name}" for name in RECORD_FILES} <= paths, state.label
