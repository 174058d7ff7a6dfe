"""Each call through the seam failing once, with each error that a disk gives."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from fault.processes import Countdown
from fault.scenes import SCENES, STATE, Scene, arguments, run_again, summary, survey, violations

from encvault.errors import EncvaultError
from encvault.fs import calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from fault.scenes import World
    from helpers import Command

    from encvault.vault.report import Report

EACH = pytest.mark.parametrize("scene", SCENES.values(), ids=repr)
NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT)
# what a failed call may end as: no space, no permission, an I/O error; or 3, files were left
EXPECTED = {
    errno.ENOSPC: {73, 3},
    errno.EDQUOT: {73, 3},
    errno.EACCES: {73, 3},
    errno.EIO: {74, 3},
}


class Failing(Countdown):
    """Fails the n-th call, and remembers which that was."""

    def __init__(self, number: int, code: int) -> None:
        self.failed = ""

        def fail(name: str) -> None:
            self.failed = name
            raise OSError(code, os.strerror(code))

        super().__init__(number, fail)


def run(world: World, scene: Scene, probe: Countdown) -> tuple[Report | None, list[EncvaultError]]:
    """The scene's command under a probe; its report, and every error that it named.

    Anything but a named error passes through and fails the test.
    """
    top = world.reset(scene)
    calls.probe = probe
    try:
        report = scene.command(top, None)
    except EncvaultError as error:
        return None, [error]
    finally:
        calls.probe = None
    return report, report.problems


def check(world: World, scene: Scene, number: int, code: int) -> tuple[str, list[str]]:
    """Fail one call; the call's name ("" if there was none) and everything that is wrong."""
    probe = Failing(number, code)
    try:
        report, told = run(world, scene, probe)
    except Exception as error:  # noqa: BLE001 - a traceback is what must not be
        return probe.failed or "?", [f"not a named error: {error!r}"]
    if not probe.failed:
        return "", []
    top = world.top
    wrong = violations(top, scene)
    found = survey(top)
    wrong += [f"temporary file: {name}" for name in found.temporary]
    wrong += [
        f"code {error.exit_code} for {errno.errorcode[code]}: {error!r}"
        for error in told
        if error.exit_code not in EXPECTED[code] and not _hidden_by_design(scene, probe.failed)
    ]
    if report is not None:
        # one call failed, so one file at most is left, or one batch at a sync; the others went on
        left = _left(world, scene)
        wrong += [f"left without a word: {left}"] if left and not told else []
    if scene.name == "archive" and report is not None and not wrong:
        # an archive that lacks a file is told of, and exists: it takes --force to make it again
        (top / "kept" / "docs.sealed").unlink()
    return probe.failed, wrong or run_again(top, scene)


def _hidden_by_design(scene: Scene, call: str) -> bool:
    """A file that cannot be read is peeked at only, and then counts as not ours: a conflict."""
    return call in {"open_read", "read"}


def _is_tried_again(scene: Scene, code: int) -> bool:
    """In place what has no room is tried again when others have made some, as here at once."""
    is_in_place = scene.name.startswith(("seal-", "open-")) and not scene.name.startswith("open-to")
    return is_in_place and code in (errno.ENOSPC, errno.EDQUOT)


def _allowed(scene: Scene, code: int, call: str) -> set[int]:
    by_design = {0, 65} if _hidden_by_design(scene, call) else set()
    return EXPECTED[code] | by_design | ({0} if _is_tried_again(scene, code) else set())


def _left(world: World, scene: Scene) -> list[str]:
    """Files that the command should have done and did not."""
    goal, found = scene.goal, survey(world.top)
    missing = []
    for root in goal.sealed:
        missing += sorted(goal.items.keys() - found.sealed_in(root).keys())
    for root in goal.plain:
        missing += sorted(goal.items.keys() - found.plain_in(root).keys())
    return missing


@EACH
def test_each_call_failing_once(world: World, scene: Scene) -> None:
    wrong: list[tuple[str, list[str]]] = []
    failed = "first"
    number = 0
    while failed:
        # the first calls make the vault and are all different; after that, one of three will do,
        # and as three and four have no common factor, every errno has its turn
        number += 1 if number < 20 else 3
        code = NUMBERS[number % len(NUMBERS)]
        failed, found = check(world, scene, number, code)
        if found:
            wrong.append((f"{failed} (call {number}), {errno.errorcode[code]}", found))
    assert number > 8
    assert not wrong, summary(wrong)


@pytest.mark.parametrize("code", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "name",
    [
        f"{what}-{layout}"
        for what in ("seal-edited", "mirror-update", "open", "open-to")
        for layout in ("visible", "hidden")
    ],
)
def test_the_others_go_on_when_one_file_fails(world: World, name: str, code: int) -> None:
    scene = SCENES[name]
    top = world.reset(scene)
    made: list[str] = []

    def fail_once(call: str, _fd: int, target: str) -> None:
        # the first temporary file of a sealing run is its data key: without it there is no run
        if call == "create":
            made.append(target)
            if len(made) == (1 if "open" in name else 2):
                raise OSError(code, os.strerror(code))

    calls.probe = fail_once
    try:
        report = scene.command(top, None)
    finally:
        calls.probe = None
    if _is_tried_again(scene, code) and not report.problems:
        assert _left(world, scene) == []
        assert violations(top, scene, finished=True) == []
        return
    (problem,) = report.problems
    assert problem.exit_code in EXPECTED[code]
    outcome = report.outcome()
    assert outcome is not None
    assert outcome.exit_code == problem.exit_code
    assert str(top) in str(problem)
    undone = len(_left(world, scene))
    assert undone <= 1
    assert violations(top, scene) == []
    assert run_again(top, scene) == []


@EACH
def test_the_command_line_names_every_failure(
    world: World, scene: Scene, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(world.top / STATE))
    # what becomes of failures of the log itself is in unit/operations/test_log_before_release.py
    monkeypatch.setattr("encvault.cli.secrets.CommandLinePrompter.access_log", lambda _self: None)
    wrong: list[tuple[str, list[str]]] = []
    for number in range(1, 90, 9):
        code = NUMBERS[number // 9 % 4]
        probe = Failing(number, code)
        top = world.reset(scene)
        monkeypatch.setattr(calls, "probe", probe)
        ran = run(*arguments(scene, top))
        monkeypatch.setattr(calls, "probe", None)
        if not probe.failed:
            assert ran.code == 0, ran.err
            break
        found = []
        allowed = _allowed(scene, code, probe.failed)
        if "known_vaults" in ran.err:
            allowed.add(78)  # whatever is wrong with the local state folder
        if ran.code == 0 and (left := _left(world, scene)):
            found.append(f"left without a word: {left}")
        if ran.code not in allowed:
            found.append(f"exit code {ran.code}: {ran.err}")
        if "Traceback" in ran.err or "internal error" in ran.err:
            found.append(f"a traceback: {ran.err}")
        if ran.code and str(top) not in ran.err:
            found.append(f"nothing is named by its path: {ran.err}")
        if ".tmp" in ran.err:
            found.append(f"a temporary file is named, not the user's: {ran.err}")
        found += violations(top, scene) or run_again(top, scene)
        if found:
            wrong.append((f"{probe.failed} (call {number}), {errno.errorcode[code]}", found))
    assert not wrong, summary(wrong)


# -- disks that lie ---------------------------------------------------------------------------

IN_PLACE = [
    name
    for name in SCENES
    if name.startswith(("seal-", "open-")) and not name.startswith("open-to")
]


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _drop_end(data: bytes) -> bytes:
    return data[:-8]  # a single last byte may be zero, and so what a hole gives anyway


def _zero(data: bytes) -> bytes:
    return bytes(len(data))


@pytest.mark.parametrize("spoil", [_flip, _drop_end, _zero])
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_write_that_went_wrong_unnoticed_costs_nothing(
    world: World, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    """Every copy is read back before the other one goes, so a lying disk is found out."""
    scene = SCENES[name]
    real, real_at = calls.write, calls.write_at
    wrong: list[tuple[str, list[str]]] = []
    spoilt = True
    number = 0
    while spoilt:
        number += 1
        top = world.reset(scene)
        left, spoilt = number, False  # the loop ends with the first run of fewer writes

        def spoiled(fd: int, data: bytes) -> bytes:
            nonlocal left, spoilt
            if "/.encvault/" in os.readlink(f"/proc/self/fd/{fd}") and not _is_object(fd):
                return data  # the vault's own files have a test of their own
            left -= 1
            if left == 0:
                spoilt = True
                return spoil(bytes(data))
            return data

        def write(fd: int, data: bytes) -> None:
            real(fd, spoiled(fd, data))

        def write_at(fd: int, data: bytes, offset: int) -> None:
            real_at(fd, spoiled(fd, data), offset)

        told: list[EncvaultError] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calls, "write", write)
            patch.setattr(calls, "write_at", write_at)
            try:
                told = scene.command(top, None).problems
            except EncvaultError as error:
                told = [error]
        found = violations(top, scene)
        if spoilt and not told:
            found.append("nobody was told")
        found += [f"temporary file: {name}" for name in survey(top).temporary]
        if found := found or run_again(top, scene):
            wrong.append((f"write {number}, told {told}", found))
    assert number > 1
    assert not wrong, summary(wrong)


def _is_object(fd: int) -> bool:
    return "/objects/" in os.readlink(f"/proc/self/fd/{fd}")
