"""The scenes themselves: undisturbed, each reaches its goal; disturbed, the invariant notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fault.scenes import SCENES, Scene, run_again, violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fault.scenes import World

EACH = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


@EACH
def test_undisturbed_the_command_finishes(world: World, scene: Scene) -> None:
    top = world.reset(scene)
    assert violations(top, scene) == []
    assert scene.command(top, None).problems == []
    assert violations(top, scene, finished=True) == []
    assert run_again(top, scene) == []


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": _flip,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("open-visible", "docs/src/run.sh"),
        ("seal-visible", "docs/big.bin.sealed"),
        ("seal-hidden", "docs/.encvault/objects/*/*"),
        ("seal-hidden", "docs/.encvault/keys/*"),
        ("mirror-visible", "docs/a.txt"),
        ("archive", "kept/docs.sealed"),
        ("open-one-large", "alone/letter.txt"),
        ("seal-one-large", "alone/letter.txt.sealed"),
    ],
)
def test_the_invariant_notices_damage(
    world: World, name: str, pattern: str, damage: Callable[[Path], object]
) -> None:
    scene = SCENES[name]
    top = world.reset(scene)
    scene.command(top, None)
    damage(min(top.glob(pattern)))
    assert violations(top, scene, finished=True)


def test_the_invariant_notices_what_is_too_much(world: World) -> None:
    scene = SCENES["seal-visible"]
    top = world.reset(scene)
    scene.command(top, None)
    (top / "docs" / (".encvault-" + "a" * 26 + ".tmp")).touch()
    assert violations(top, scene) == []
    assert violations(top, scene, finished=True) != []
    (top / "docs" / "other").touch()
    assert violations(top, scene) != []
