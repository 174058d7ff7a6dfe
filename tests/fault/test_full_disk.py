"""A disk that is really full: exit code 73 naming the file, nothing lost, and the way on."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import pytest
from fault.mounts import fill, mounted, needs_root
from fault.processes import fork, wait
from fault.scenes import (
    ORIGINALS,
    SCENES,
    STATE,
    Scene,
    World,
    arguments,
    run_again,
    survey,
    violations,
)

from encvault import cli
from encvault.fs import calls

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Command

KINDS = pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
SIZE = 8 << 20
ROOM = 300_000  # for the small files, not for the large one


class SmallDisk(World):
    """A world on a disk of its own."""

    def prepare(self, scene: Scene) -> Path:
        """The scene's start."""
        self.top.mkdir()
        scene.prepare(self.top)
        return self.top


@needs_root
@KINDS
@pytest.mark.parametrize(
    "name",
    [
        "seal-visible",
        "seal-hidden",
        "mirror-visible",
        "mirror-hidden",
        "open-visible",
        "open-hidden",
        "open-to-visible",
        "open-to-hidden",
        "archive",
        "extract",
        "seal-one-large",
        "open-one-large",
    ],
)
def test_a_full_disk_stops_one_file_and_then_goes_on(
    tmp_path: Path, kind: str, name: str, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = SCENES[name]
    with mounted(tmp_path / "disk", kind, SIZE) as disk:
        top = SmallDisk(disk).prepare(scene)
        # the state of the user lies on the system's disk, not on the full one
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / STATE))
        ballast = fill(disk, ROOM)
        ran = run(*arguments(scene, top))
        assert ran.code == 73, ran.err
        assert "no space left" in ran.err
        assert str(top) in ran.err
        assert "Traceback" not in ran.err
        assert violations(top, scene) == []
        found = survey(top)
        assert found.temporary == []
        if len(scene.goal.items) > 1 and name not in ("archive", "extract"):
            # the small ones went on
            done = found.sealed if scene.goal.sealed and "open" not in name else found.plain
            assert len({path for _root, path in done} - {"big.bin"}) >= len(ORIGINALS) - 1
            assert "big.bin" in ran.err
        ballast.unlink()
        again = run(*arguments(scene, top))
        assert again.code == 0, again.err
        assert violations(top, scene, finished=True) == []


@needs_root
@KINDS
@pytest.mark.parametrize("name", ["seal-visible", "seal-hidden", "open-visible", "open-hidden"])
def test_not_one_byte_left(
    tmp_path: Path, kind: str, name: str, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = SCENES[name]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / STATE))
    with mounted(tmp_path / "disk", kind, SIZE) as disk:
        top = SmallDisk(disk).prepare(scene)
        ballast = fill(disk, 0)
        ran = run(*arguments(scene, top))
        assert ran.code == 73, ran.err
        assert str(top) in ran.err
        assert ".tmp" not in ran.err
        assert "Traceback" not in ran.err
        assert violations(top, scene) == []
        assert survey(top).temporary == []
        ballast.unlink()
        again = run(*arguments(scene, top))
        assert again.code == 0, again.err
        assert violations(top, scene, finished=True) == []


@needs_root
@KINDS
@pytest.mark.parametrize("layout", ["visible", "hidden"])
def test_in_place_each_file_needs_room_for_itself_only(
    tmp_path: Path, kind: str, layout: str, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / STATE))
    contents = {f"{number % 3}/f{number}": os.urandom(400_000) for number in range(16)}
    with mounted(tmp_path / "disk", kind, SIZE) as disk:
        docs, key = disk / "docs", tmp_path / "identity"
        for name, content in contents.items():
            (docs / name).parent.mkdir(parents=True, exist_ok=True)
            (docs / name).write_bytes(content)
        assert run("key", "new", "--no-password", "-o", key).code == 0
        (tmp_path / "me.pub").write_text(run("key", "export", "-i", key).out)
        ballast = fill(disk, 1_000_000)
        hidden = ["--hide-names"] if layout == "hidden" else []
        ran = run("seal", docs, "--yes", "-r", tmp_path / "me.pub", *hidden)
        assert ran.code == 0, ran.err
        assert "no space left" not in ran.err
        assert [name for name in contents if (docs / name).exists()] == []
        ran = run("open", docs, "-i", key)
        assert ran.code == 0, ran.err
        assert {name: (docs / name).read_bytes() for name in contents} == contents
        ballast.unlink()


@needs_root
@KINDS
@pytest.mark.parametrize("layout", ["visible", "hidden"])
def test_a_full_vault_opens_to_another_disk(
    tmp_path: Path, kind: str, layout: str, run: Command
) -> None:
    scene = SCENES[f"open-to-{layout}"]
    with mounted(tmp_path / "disk", kind, SIZE) as disk:
        top = SmallDisk(disk).prepare(scene)
        fill(disk, 0)
        ran = run("open", top / "docs", "--to", tmp_path / "out", "-i", disk / "identity")
        assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "big.bin").read_bytes() == ORIGINALS["big.bin"].content


@needs_root
@KINDS
@pytest.mark.parametrize("name", ["seal-visible", "mirror-hidden", "mirror-update-visible"])
def test_no_room_for_the_ledger(
    tmp_path: Path, kind: str, name: str, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = SCENES[name]
    wrong = []
    codes = set()
    for leave in range(0, 120_000, 12_288):  # from no database at all to one with all its rows
        base = tmp_path / str(leave)
        base.mkdir()
        with mounted(base / "disk", kind, SIZE) as disk:
            monkeypatch.setenv("XDG_STATE_HOME", str(disk / STATE))
            ballast = fill(disk, leave)
            top = SmallDisk(base).prepare(scene)
            code, told = _run_apart(arguments(scene, top), base / "stderr")
            codes.add(code)
            if code not in (0, 73, 78) or "Traceback" in told:
                wrong.append(f"{leave} bytes left: exit code {code}: {told[-400:]}")
            wrong += violations(top, scene) + survey(top).temporary
            ballast.unlink()
            again = run(*arguments(scene, top))
            if again.code:
                wrong.append(f"{leave} bytes left, then more: {again.err}")
            wrong += violations(top, scene, finished=True)
    assert len(codes) >= 2  # it did run out of room, and then it did not
    assert not wrong, "\n".join(wrong)


def _run_apart(typed: list[str], log: Path) -> tuple[int, str]:
    """Run the command line in a child: memory mapped from a full disk ends a process."""

    def work() -> int:
        with log.open("w") as file:
            sys.stderr = file
            return cli.main(typed)

    code = wait(fork(work))
    return code, log.read_text()


@pytest.mark.parametrize("name", ["seal-edited-visible", "open-visible", "mirror-update-hidden"])
def test_a_quota_is_a_full_disk(world: World, name: str, run: Command) -> None:
    scene = SCENES[name]
    top = world.reset(scene)
    real, real_at = calls.write, calls.write_at

    def refuse_large(data: bytes) -> None:
        if len(data) > 100_000:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def write_small(fd: int, data: bytes) -> None:
        refuse_large(data)
        real(fd, data)

    def write_small_at(fd: int, data: bytes, offset: int) -> None:
        refuse_large(data)
        real_at(fd, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(top / STATE))
        patch.setattr(calls, "write", write_small)
        patch.setattr(calls, "write_at", write_small_at)
        ran = run(*arguments(scene, top))
    assert ran.code == 73, ran.err
    assert f"{top}/docs/big.bin" in ran.err.replace("mirror", "docs")
    assert violations(top, scene) == []
    assert survey(top).temporary == []
    assert run_again(top, scene) == []
