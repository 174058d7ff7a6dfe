"""kill -9, SIGTERM, SIGHUP and SIGINT at every call, and the run after it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from fault.processes import (
    BUG,
    FINISHED,
    NAMED_ERROR,
    PATIENCE,
    Countdown,
    fork,
    wait,
    wait_for_lock,
)
from fault.scenes import (
    BATCH_FILES,
    ORIGINALS,
    SCENES,
    STATE,
    Scene,
    arguments,
    run_again,
    summary,
    survey,
    violations,
    write,
)
from helpers import seal, unseal

from encvault import cli
from encvault.fs import calls, durable
from encvault.vault.manifest import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fault.scenes import World

IN_PLACE = [
    SCENES[f"{what}-{layout}"] for what in ("seal", "open") for layout in ("visible", "hidden")
]
OTHERS = [scene for scene in SCENES.values() if scene not in IN_PLACE]
TRIES = 3  # to end within a second, on a machine that may be busy with something else
STRIDE = 4  # of the calls of the other scenes, every fourth; each run begins at another one


def kill_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def with_probe(probe: Countdown, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        calls.probe = probe
        return work()

    return run


def after_kill(world: World, scene: Scene, number: int) -> tuple[int, list[str]]:
    """Kill the scene's command before its n-th call; how it ended and what is wrong then."""
    top = world.reset(scene)
    work = with_probe(Countdown(number, kill_self), lambda: scene.command(top, None))
    code = wait(fork(work))
    return code, violations(top, scene) or run_again(top, scene)


@pytest.mark.parametrize("scene", IN_PLACE, ids=repr)
def test_killed_before_each_call(world: World, scene: Scene) -> None:
    wrong = []
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        code, found = after_kill(world, scene, number)
        if found:
            wrong.append((f"call {number}", found))
    assert code == FINISHED
    assert number > 40  # it was killed at each of its calls until there were no more
    assert not wrong, summary(wrong)


@pytest.mark.parametrize("scene", OTHERS, ids=repr)
def test_killed_before_some_calls(world: World, scene: Scene) -> None:
    wrong = []
    number, code = 1, -signal.SIGKILL
    while code == -signal.SIGKILL:
        code, found = after_kill(world, scene, number)
        if found:
            wrong.append((f"call {number}", found))
        number += 1 if number < 2 * STRIDE else STRIDE
    assert code == FINISHED
    assert number > 2 * STRIDE
    assert not wrong, summary(wrong)


# -- workers --------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", IN_PLACE, ids=repr)
def test_a_killed_parent_leaves_nothing_half_done(world: World, scene: Scene) -> None:
    choose = random.Random(f"parent {scene.name}")
    wrong = []
    killed = 0
    for number in choose.sample(range(2, 40), 8):
        top = world.reset(scene)
        # it is the child that makes the workers: all other processes are those
        work = with_probe(_countdown_in_parent(number), lambda top=top: scene.command(top, None, 2))
        killed += wait(fork(work)) == -signal.SIGKILL
        wait_for_lock(top)
        if found := violations(top, scene) or run_again(top, scene):
            wrong.append((f"call {number}", found))
    assert killed >= 4
    assert not wrong, summary(wrong)


def _countdown_in_parent(number: int) -> Countdown:
    parents: list[int] = []

    def is_parent(pid: int) -> bool:
        # the first call of all comes from the parent, before there are workers
        if not parents:
            parents.append(pid)
        return pid == parents[0]

    return Countdown(number, kill_self, is_parent)


@pytest.mark.parametrize("scene", IN_PLACE, ids=repr)
def test_a_killed_worker_is_a_named_error_and_loses_nothing(world: World, scene: Scene) -> None:
    choose = random.Random(f"worker {scene.name}")
    wrong = []
    codes = []
    for number in choose.sample(range(1, 10), 6):
        top = world.reset(scene)
        test = os.getpid()

        def is_worker(pid: int, test: int = test) -> bool:
            return os.getppid() != test and pid != test

        work = with_probe(
            Countdown(number, kill_self, is_worker), lambda top=top: scene.command(top, None, 2)
        )
        codes.append(wait(fork(work)))
        found = violations(top, scene)
        # this run had a parent that lived to the end, so it cleans up behind the dead
        found += [f"temporary file: {name}" for name in survey(top).temporary]
        if found := found or run_again(top, scene):
            wrong.append((f"call {number}", found))
    assert set(codes) <= {FINISHED, NAMED_ERROR}
    assert codes.count(NAMED_ERROR) >= 3
    assert not wrong, summary(wrong)


# -- signals that ask -----------------------------------------------------------------------

ENDING = pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    ids=["SIGTERM", "SIGHUP", "SIGINT"],
)


@ENDING
@pytest.mark.parametrize("scene", IN_PLACE, ids=repr)
def test_a_signal_ends_the_run_in_order(
    world: World, scene: Scene, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(world.top / STATE))
    wrong = []
    codes = set()
    for moment in range(1 + (number == signal.SIGINT), 60, 9):
        for jobs in (1, 2):
            top = world.reset(scene)

            def interrupt(_name: str) -> None:
                os.kill(os.getpid(), number)

            def work(top: Path = top, jobs: int = jobs) -> int:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends with it
                return cli.main(arguments(scene, top, jobs))

            ended = wait(fork(with_probe(_in_parent(moment, interrupt), work)))
            codes.add(ended)
            found = violations(top, scene)
            found += [f"temporary file: {name}" for name in survey(top).temporary]
            if found := found or run_again(top, scene):
                wrong.append((f"call {moment}, {jobs} jobs", found))
    assert codes <= {code, 0}
    assert code in codes
    assert not wrong, summary(wrong)


def _in_parent(number: int, act: Callable[[str], None]) -> Countdown:
    countdown = _countdown_in_parent(number)
    countdown._act = act
    return countdown


DRIVER = f"""
import os, sys, time
from encvault.cli import main
from encvault.fs import calls
from encvault.vault import pool
pool.BATCH_FILES = {BATCH_FILES}
left, number, me = int(sys.argv[1]), int(sys.argv[2]), os.getpid()
def probe(name, fd, target):
    global left
    if os.getpid() == me:
        left -= 1
        if left == 0:
            os.write(2, b"signalled at %r\\n" % time.monotonic())
            os.kill(me, number)
calls.probe = probe
sys.exit(main(sys.argv[3:]))
"""


@ENDING
@pytest.mark.parametrize(("name", "moment"), [("seal-visible", 30), ("open-hidden", 20)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_real_program_ends_within_a_second(
    world: World, name: str, moment: int, jobs: int, number: int, code: int
) -> None:
    scene = SCENES[name]
    took = []
    while len(took) < TRIES and (not took or took[-1] >= 1):
        top = world.reset(scene)
        typed = arguments(scene, top, jobs)
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, str(moment), str(int(number)), *typed],
            stderr=subprocess.PIPE,
            env=os.environ | {"XDG_STATE_HOME": str(top / STATE)},
            timeout=PATIENCE,
            check=False,
            text=True,
        )
        ended = time.monotonic()
        assert done.returncode == code, done.stderr
        (signalled,) = [line for line in done.stderr.splitlines() if line.startswith("signalled")]
        took.append(ended - float(signalled.split()[-1]))
        assert "Traceback" not in done.stderr
        assert survey(top).temporary == []
        assert (violations(top, scene) or run_again(top, scene)) == []
    assert min(took) < 1


@ENDING
def test_a_signal_from_outside(world: World, number: int, code: int) -> None:
    scene = SCENES["seal-visible"]
    top = world.clear()
    write(top / "docs", ORIGINALS)
    for index in range(40):
        (top / "docs" / f"more-{index}").write_bytes(bytes(1_000_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "encvault", *arguments(scene, top, 2)],
        stderr=subprocess.PIPE,
        env=os.environ | {"XDG_STATE_HOME": str(top / STATE)},
    )
    with process:
        deadline = time.monotonic() + PATIENCE
        while not list((top / "docs").glob(".encvault-*.tmp")) and process.poll() is None:
            assert time.monotonic() < deadline
        process.send_signal(number)
        sent = time.monotonic()
        assert process.wait(PATIENCE) == code
        assert time.monotonic() - sent < TRIES
    assert survey(top).temporary == []
    assert all(
        (top / "docs" / f"more-{index}").exists()
        or (top / "docs" / f"more-{index}.sealed").exists()
        for index in range(40)
    )
    assert seal(top / "docs", state_dir=str(top / STATE / "encvault")).problems == []
    found = survey(top)
    assert found.plain == {}
    assert len(found.sealed) == len(ORIGINALS) + 40


def test_a_run_under_nohup_outlives_its_terminal(world: World) -> None:
    scene = SCENES["open-visible"]
    top = world.reset(scene)
    driven = [sys.executable, "-c", DRIVER, "20", str(int(signal.SIGHUP))]
    done = subprocess.run(
        ["nohup", *driven, *arguments(scene, top, 2)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"XDG_STATE_HOME": str(top / STATE)},
        check=False,
        text=True,
    )
    assert "signalled" in done.stderr
    assert done.returncode == 0
    assert violations(top, scene, finished=True) == []


def test_what_a_killed_run_left_goes_whoever_comes_between(world: World) -> None:
    scene = SCENES["seal-hidden"]
    number, left = 0, list[str]()
    while not any("objects" in name for name in left):
        number += 1
        top = world.reset(scene)
        work = with_probe(Countdown(number, kill_self), lambda top=top: scene.command(top, None))
        assert wait(fork(work)) == -signal.SIGKILL
        left = survey(top).temporary
    kept = top / "docs" / FOLDER / "checkpoints" / durable.temporary_name("a" * 26)
    kept.parent.mkdir(exist_ok=True)
    kept.touch()
    # to open, nobody looks for temporary files among objects
    unseal(top / "docs", state_dir=str(top / STATE / "encvault"))
    assert survey(top).temporary == left
    scene.command(top, None)
    assert survey(top).temporary == []
    assert not kept.exists()
    assert violations(top, scene, finished=True) == []


def test_a_bug_in_a_child_would_be_seen() -> None:
    def work() -> None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends with it
        raise ZeroDivisionError

    assert wait(fork(work)) == BUG
