"""``mount``, ``unmount`` and ``run``: processes, folders and records around a view in memory."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, RECIPIENT, SEED, Result, in_child
from memory_view import MemoryView
from serving import is_mounted, until

from encvault import errors, operations
from encvault.keyslots import KeyIdentity
from encvault.mount import fuse, places, process
from encvault.mount.registry import Registry
from encvault.operations import mounting, running
from encvault.secret import Secret
from encvault.vault.report import Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helpers import Command


class Told(Observer):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.problems: list[errors.EncvaultError] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def problem(self, error: errors.EncvaultError) -> None:
        self.problems.append(error)


class Scene:
    """A vault whose files are in memory, a place for its mount, and a state folder."""

    def __init__(self, top: Path, identity: Path) -> None:
        self.vault = top / "vault"
        self.place = top / "mnt"
        self.state = str(top / "state")
        self.identity = identity
        self.told = Told()

    def answers(self) -> operations.Answers:
        return operations.Answers(identities_given=(KeyIdentity(Secret(SEED)),))

    def request(self, **options: Any) -> mounting.MountRequest:
        fields = {"vault": str(self.vault), "mountpoint": str(self.place)} | options
        return mounting.MountRequest(state_dir=self.state, **fields)

    def mount(self, **options: Any) -> None:
        mounting.mount(self.request(**options), self.answers(), self.told)

    def unmount(self) -> list[str]:
        return mounting.unmount(str(self.place), self.state)

    def entries(self) -> list[Any]:
        return operations.list_mounts(self.state)

    def server(self) -> int:
        return int(self.entries()[0].pid)

    def kill(self) -> None:
        pid = self.server()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not self.entries()[0].is_alive, "the end of the process")


def new_vault(path: Path) -> None:
    path.mkdir()
    suite = operations.DEFAULT_SUITE
    Vault.create(str(path), [RECIPIENT], suite=suite, layout="visible").close()


Viewing = list["Callable[[MemoryView], None]"]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Viewing:
    """What is done to each view before it is mounted."""
    todo: Viewing = []

    def open_view(_vault: Vault, *, read_only: bool, observer: object, **_: object) -> MemoryView:
        view = MemoryView(read_only=read_only, observer=observer)
        view.put("/a.txt", b"plain")
        for one in todo:
            one(view)
        return view

    monkeypatch.setattr("encvault.mount.open_view", open_view)
    return todo


@pytest.fixture
def scene(tmp_path: Path, prepare: Viewing) -> Iterator[Scene]:
    found = Scene(tmp_path, tmp_path / "me.key")
    new_vault(found.vault)
    yield found
    mounting.unmount_all(found.state, lambda _error: None)
    if is_mounted(found.place):
        subprocess.run(["fusermount3", "-u", "-z", str(found.place)], check=False)
    if found.place.exists():
        places.remove_made(str(found.place))


def test_a_mounted_vault_is_used_and_unmounted(scene: Scene) -> None:
    scene.mount()
    assert is_mounted(scene.place)
    assert (scene.place / "a.txt").read_bytes() == b"plain"
    (scene.place / "b.txt").write_bytes(b"new")
    [entry] = scene.entries()
    assert (entry.mountpoint, entry.vault) == (str(scene.place), str(scene.vault))
    assert (entry.is_alive, entry.read_only, entry.made) == (True, False, True)
    assert entry.pid != os.getpid()
    assert scene.unmount() == [str(scene.place)]
    assert not scene.place.exists()
    assert not scene.entries()
    assert os.listdir(Path(scene.state) / "mounts") == []


def test_the_folder_may_exist_and_nobody_can_write_into_it_afterwards(scene: Scene) -> None:
    scene.place.mkdir(mode=0o755)
    scene.mount()
    assert [note for note in scene.told.notes if str(scene.place) in note and "chattr -i" in note]
    (scene.place / "b.txt").write_bytes(b"into the vault")
    scene.unmount()
    assert stat.S_IMODE(scene.place.stat().st_mode) == 0o555
    assert os.listdir(scene.place) == []
    with pytest.raises(PermissionError):
        (scene.place / "in the clear").write_bytes(b"x")
    scene.told.notes.clear()
    scene.mount()  # once more, and now it is known
    assert not scene.told.notes
    scene.unmount()
    assert scene.place.exists()


@pytest.mark.parametrize("kind", ["file", "full", "inside", "above", "orphan", "mounted"])
def test_a_folder_that_is_no_place_for_a_mount_is_refused(kind: str, scene: Scene) -> None:
    place = scene.place
    if kind == "file":
        place.touch()
    elif kind == "full":
        place.mkdir()
        (place / "x").touch()
    elif kind == "inside":
        place = scene.vault / "mnt"
    elif kind == "above":
        place = scene.vault.parent
    elif kind == "orphan":
        place = scene.place / "deeper"
    else:
        place = Path("/proc")
    with pytest.raises(errors.MountpointUnusable):
        scene.mount(mountpoint=str(place))
    assert not scene.entries()
    if kind == "full":
        assert stat.S_IMODE(place.stat().st_mode) & 0o200


def test_a_mount_that_fails_leaves_the_folder_as_it_was(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object, **_options: object) -> None:
        raise errors.MountFailed(path="x", reason="y")

    monkeypatch.setattr("encvault.mount.fuse.serve", refused)
    for made in (True, False):
        if not made:
            scene.place.mkdir(mode=0o755)
        with pytest.raises(errors.MountFailed):
            scene.mount()
        assert scene.place.exists() != made
    assert stat.S_IMODE(scene.place.stat().st_mode) == 0o755
    assert not scene.entries()


def test_a_process_that_dies_before_it_serves_is_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "encvault.mount.fuse.serve", lambda *_a, **_o: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(errors.MountFailed, match="killed"):
        scene.mount()
    assert not scene.place.exists()


def test_a_vault_is_mounted_for_writing_once_and_for_reading_often(
    scene: Scene, tmp_path: Path
) -> None:
    scene.mount()
    with pytest.raises(errors.VaultBusy):
        scene.mount(mountpoint=str(tmp_path / "second"))
    assert not (tmp_path / "second").exists()
    scene.unmount()
    scene.mount(read_only=True)
    scene.mount(read_only=True, mountpoint=str(tmp_path / "second"))
    assert len(scene.entries()) == 2
    assert sorted(mounting.unmount(str(scene.vault), scene.state)) == sorted(
        [str(scene.place), str(tmp_path / "second")]
    )


def test_only_a_whole_vault_is_mounted(scene: Scene) -> None:
    (scene.vault / "sub").mkdir()
    with pytest.raises(errors.InvalidRequest, match="whole"):
        scene.mount(vault=str(scene.vault / "sub"))


def test_a_mount_in_use_stays_and_says_by_whom(scene: Scene) -> None:
    scene.mount()
    with (scene.place / "a.txt").open("rb"):
        with pytest.raises(errors.MountBusy) as caught:
            scene.unmount()
        assert f"({os.getpid()})" in caught.value.programs
        assert is_mounted(scene.place)
    scene.unmount()


def test_what_cannot_be_saved_keeps_it_mounted(scene: Scene, prepare: Viewing) -> None:
    def full(view: MemoryView) -> None:
        view.errors["sync"] = OSError(errno.ENOSPC, "no")

    prepare.append(full)
    scene.mount()
    with pytest.raises(errors.OutOfSpace):
        scene.unmount()
    assert (scene.place / "a.txt").read_bytes() == b"plain"
    assert scene.entries()[0].is_alive
    os.kill(scene.server(), signal.SIGTERM)  # whoever insists
    until(lambda: not is_mounted(scene.place), "the end")


@pytest.mark.parametrize("why", ["", "its own file is gone"])
def test_why_nothing_can_be_saved_is_told(
    scene: Scene, prepare: Viewing, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def broken(view: MemoryView) -> None:
        view.errors["sync"] = OSError(errno.EIO, "no")

    prepare.append(broken)
    scene.mount()
    real = Registry.get

    def noted(registry: Registry, mount_id: str) -> Any:
        found = real(registry, mount_id)
        return found and found._replace(failure=why)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "get", noted)
        with pytest.raises(errors.InputOutputError) as caught:
            scene.unmount()
    assert caught.value.path == str(scene.place)
    assert caught.value.reason == (why or os.strerror(errno.EIO))
    os.kill(scene.server(), signal.SIGTERM)  # whoever insists
    until(lambda: not is_mounted(scene.place), "the end")


def test_what_is_not_saved_at_the_end_is_told(scene: Scene, prepare: Viewing) -> None:
    def lossy(view: MemoryView) -> None:
        def fail() -> None:
            raise errors.OutOfSpace(path="b.txt")

        view.on_close = fail
        view.dirty.add("/b.txt")
        view.sync = lambda: None  # type: ignore[method-assign]

    prepare.append(lossy)
    scene.mount()
    with pytest.raises(errors.NotSaved) as caught:
        scene.unmount()
    assert (caught.value.count, caught.value.exit_code) == (1, 3)
    assert not is_mounted(scene.place)
    prepare.clear()
    scene.mount()
    assert [str(problem) for problem in scene.told.problems] == [
        f"{scene.vault}/b.txt: the last changes were not saved when its mount ended"
    ]
    scene.unmount()
    assert os.listdir(Path(scene.state) / "mounts") == []


def test_an_error_at_the_end_that_loses_nothing_is_told_as_well(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, *_arguments: object) -> None:
            pass

        def opened(self, *_arguments: object) -> None:
            pass

        def close(self) -> None:
            raise errors.LogUnavailable(path="/log", reason="full")

    monkeypatch.setattr(mounting, "Accesses", Failing)
    scene.mount()
    with pytest.raises(errors.UnmountedBadly, match=r"everything saved.*full"):
        scene.unmount()
    assert not scene.entries()


def test_a_killed_mount_is_dead_and_is_cleared_away(scene: Scene) -> None:
    scene.mount()
    (scene.place / "机密.txt").write_bytes(b"not saved")
    until(lambda: scene.entries()[0].unsaved, "the record")
    scene.kill()
    [entry] = scene.entries()
    assert (entry.is_alive, entry.unsaved) == (False, 1)
    assert places.is_dead(str(scene.place))
    recorded = b"".join(path.read_bytes() for path in (Path(scene.state) / "mounts").iterdir())
    assert "机密".encode() not in recorded
    assert b"\\u673a" not in recorded
    with pytest.raises(errors.NotSaved) as caught:
        scene.unmount()
    assert caught.value.count == 1
    assert not scene.place.exists()
    assert not scene.entries()
    scene.mount()
    assert [str(problem) for problem in scene.told.problems] == [
        f"{scene.vault}/机密.txt: the last changes were not saved when its mount ended"
    ]
    scene.unmount()
    with pytest.raises(errors.NotMounted):
        scene.unmount()


def test_mounting_again_clears_a_dead_mount_away(scene: Scene) -> None:
    scene.mount()
    scene.kill()
    scene.mount()
    assert (scene.place / "a.txt").read_bytes() == b"plain"
    assert len(scene.entries()) == 1
    scene.unmount()


def test_a_mount_of_which_nothing_is_on_record_is_unmounted(scene: Scene) -> None:
    scene.mount()
    mounting.unmount(str(scene.place), scene.state + "-another")
    until(lambda: not scene.entries(), "the end of the process")


def test_all_mounts_are_unmounted_but_those_in_use(scene: Scene, tmp_path: Path) -> None:
    scene.mount(read_only=True)
    scene.mount(read_only=True, mountpoint=str(tmp_path / "second"))
    with (scene.place / "a.txt").open("rb"):
        problems: list[errors.EncvaultError] = []
        done = mounting.unmount_all(scene.state, problems.append)
    assert done == [str(tmp_path / "second")]
    assert [type(problem) for problem in problems] == [errors.MountBusy]
    scene.unmount()


def test_a_mount_inside_another_goes_first(scene: Scene) -> None:
    scene.mount()
    inner, other = scene.place / "inner", scene.vault.with_name("other")
    new_vault(other)
    scene.mount(vault=str(other), mountpoint=str(inner))
    assert is_mounted(inner)
    both = scene.entries()  # in the order of their ids, which is any
    for found in (both, both[::-1]):
        assert [one.mountpoint for one in mounting._inner_first(found)] == [
            str(inner),
            str(scene.place),
        ]
    problems: list[errors.EncvaultError] = []
    done = mounting.unmount_all(scene.state, problems.append)
    assert (done, problems) == ([str(inner), str(scene.place)], [])


def test_a_mount_that_nobody_uses_is_unmounted(scene: Scene) -> None:
    scene.mount(idle_s=1)
    with (scene.place / "a.txt").open("rb") as file:
        status = os.stat(scene.place / "a.txt")
        assert file.read() == b"plain"
        assert status.st_size == 5
    until(lambda: not is_mounted(scene.place), "the unmounting")
    until(lambda: not scene.entries(), "the end of the process")
    assert not scene.place.exists()


def test_keys_are_guarded_in_the_process_that_serves(scene: Scene) -> None:
    scene.mount()
    process = Path(f"/proc/{scene.server()}")
    assert "Max core file size        0                    0" in (process / "limits").read_text()
    locked = [line for line in (process / "status").read_text().splitlines() if "VmLck" in line]
    assert locked
    if os.geteuid() == 0:
        assert int(locked[0].split()[1]) > 1000  # all of it, and not the keys alone
    assert os.readlink(process / "cwd") == "/"
    streams = {os.readlink(process / "fd" / str(number)) for number in range(3)}
    assert streams == {os.devnull}
    scene.unmount()


def test_bugs_of_the_view_are_on_record(scene: Scene, prepare: Viewing) -> None:
    prepare.append(lambda view: view.errors.update(readlink=ValueError("a bug")))
    prepare.append(lambda view: view.put("/link", kind="symlink"))
    scene.mount()
    with pytest.raises(OSError, match="Input/output"):
        os.readlink(scene.place / "link")
    until(lambda: "a bug" in scene.entries()[0].failure, "the record")
    scene.unmount()


# -- the log --------------------------------------------------------------------------------


def test_a_mount_its_reads_and_its_end_are_recorded(
    scene: Scene, run: Command, tmp_path: Path
) -> None:
    identity = identity_file(run, tmp_path)
    assert run("init", tmp_path / "v", "-r", recipient(run, identity)).code == 0
    done = run("mount", tmp_path / "v", scene.place, "-i", identity)
    assert done.code == 0, done.err
    assert (scene.place / "a.txt").read_bytes() == b"plain"
    assert run("unmount", scene.place).code == 0
    shown = run("log", "show", "--json")
    entries = [json.loads(line) for line in shown.out.splitlines()]
    found = [one for one in entries if one["op"] in ("mount", "read", "unmount")]
    assert [one["op"] for one in found] == ["mount", "read", "unmount"]
    assert {one["outcome"] for one in found} == {"ok"}
    assert found[0]["to"] == str(scene.place)
    assert found[1]["path"] == str(tmp_path / "v" / "a.txt")
    assert found[1]["pid"] == os.getpid()


def test_nothing_is_mounted_that_cannot_be_recorded(
    scene: Scene, run: Command, tmp_path: Path
) -> None:
    identity = identity_file(run, tmp_path)
    assert run("init", tmp_path / "v", "-r", recipient(run, identity)).code == 0
    log = Path(os.environ["XDG_STATE_HOME"]) / "encvault" / "log"
    (log / "entries").write_bytes(b"")
    assert run("mount", tmp_path / "v", scene.place, "-i", identity).code == 74
    assert not scene.place.exists()


# -- the command line -----------------------------------------------------------------------


def identity_file(run: Command, tmp_path: Path) -> Path:
    path = tmp_path / "me.key"
    assert run("key", "new", "--no-password", "-o", path).code == 0
    return path


def recipient(run: Command, identity: Path) -> str:
    return run("key", "export", "-i", identity).out.strip()


def test_the_commands(scene: Scene, run: Command, tmp_path: Path) -> None:
    identity = identity_file(run, tmp_path)
    vault = tmp_path / "v"
    assert run("init", vault, "-r", recipient(run, identity)).code == 0
    done = run("mount", vault, scene.place, "-i", identity, "--idle", "1h30m", "--read-only")
    assert done.code == 0, done.err
    assert f"hint: unmount it with: encvault unmount {scene.place}" in done.err
    assert run("mount").out == f"{vault} at {scene.place} (read-only)\n"
    [entry] = json.loads(run("mount", "--json").out)["mounts"]
    assert (entry["idle_s"], entry["read_only"], entry["is_alive"]) == (5400, True, True)
    status = run("status", vault)
    assert status.code == 0
    assert f"mounted: {vault} at {scene.place}" in status.out
    assert json.loads(run("status", vault, "--json").out)["mounts"][0]["id"] == entry["id"]
    done = run("unmount", "--all", "--json")
    assert json.loads(done.out) == {"unmounted": [str(scene.place)], "problems": []}
    assert json.loads(run("status", vault, "--json").out)["mounts"] == []
    assert run("unmount", scene.place).code == 66


def test_a_dead_mount_in_the_commands(scene: Scene, run: Command, tmp_path: Path) -> None:
    identity = identity_file(run, tmp_path)
    vault = tmp_path / "v"
    assert run("init", vault, "-r", recipient(run, identity)).code == 0
    assert run("mount", vault, scene.place, "-i", identity, "--json").code == 0
    (scene.place / "x").write_bytes(b"1")
    registry = Registry(os.path.join(os.environ["XDG_STATE_HOME"], "encvault"))
    until(lambda: registry.all()[0].unsaved, "the record")
    os.kill(registry.all()[0].pid, signal.SIGKILL)
    until(lambda: not registry.all()[0].is_alive, "the end of the process")
    assert "(dead; files not saved: 1)" in run("mount").out
    done = run("unmount", "--all")
    assert done.code == 3
    assert "its mount ended with files not saved: 1" in done.err
    assert "hint: the next encvault mount of the vault names them" in done.err


def test_the_foreground_is_kept_until_it_is_unmounted(scene: Scene) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            scene.mount(foreground=True)
            code = 0
        finally:
            os._exit(code)
    until(lambda: is_mounted(scene.place) and scene.entries(), "the mount")
    assert scene.server() == pid
    assert (scene.place / "a.txt").read_bytes() == b"plain"  # it answers, so it is all there
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not scene.place.exists()


@pytest.mark.parametrize("text", ["30", "0s", "m", "-5m", "1.5h", "31d", "721h", ""])
def test_nonsense_for_a_time_is_refused(text: str, run: Command) -> None:
    assert run("mount", "v", "d", "--idle", text).code == 2


def test_arguments_that_are_missing_are_asked_for(run: Command) -> None:
    assert run("mount", "vault").code == 2
    assert run("unmount").code == 2
    assert run("unmount", "x", "--all").code == 2
    assert run("run", "vault").code == 2


def test_without_fuse_the_hint_installs_it(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    for arguments in (("mount", tmp_path, tmp_path / "m"), ("run", tmp_path, "--", "true")):
        done = run(*arguments)
        assert done.code == 69
        assert "hint: install what is missing with: pip install 'encvault[mount]'" in done.err


def test_the_package_works_without_fuse() -> None:
    code = "import sys; sys.modules['mfusepy'] = None; import encvault, encvault.operations"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- run ------------------------------------------------------------------------------------


def run_in(scene: Scene, *command: str, **options: Any) -> int:
    request = running.RunRequest(str(scene.vault), command, str(scene.state), **options)
    return running.run(request, scene.answers(), scene.told)


def test_a_command_sees_the_files_and_another_shell_does_not(scene: Scene, tmp_path: Path) -> None:
    seen, go = tmp_path / "seen", tmp_path / "go"
    os.mkfifo(seen)
    os.mkfifo(go)
    script = f"cat {scene.vault}/a.txt > {seen}; read word < {go}; exit 5"
    pid = os.fork()
    if pid == 0:
        os._exit(run_in(scene, "sh", "-c", script))
    assert seen.read_text() == "plain"
    other = subprocess.run(
        ["sh", "-c", f"ls -A {scene.vault}"], capture_output=True, text=True, check=True
    )
    assert other.stdout == ".encvault\n"
    assert not is_mounted(scene.vault)
    go.write_text("now\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert os.listdir(scene.vault) == [".encvault"]


def test_the_working_directory_is_entered_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(scene.vault)
    assert run_in(scene, "cat", "a.txt") == 0
    assert capfd.readouterr().out == "plain"


def test_how_a_command_ends_is_passed_on(scene: Scene) -> None:
    assert run_in(scene, "true") == 0
    assert run_in(scene, "sh", "-c", "exit 42") == 42
    assert run_in(scene, "sh", "-c", "kill -KILL $$") == 128 + signal.SIGKILL
    with pytest.raises(errors.CommandNotFound) as caught:
        run_in(scene, "no-such-command-anywhere")
    assert caught.value.exit_code == 127
    with pytest.raises(errors.CommandNotRunnable) as refused:
        run_in(scene, f"{scene.vault}/a.txt")
    assert refused.value.exit_code == 126


def test_what_could_not_be_saved_is_an_error_whatever_the_command_says(
    scene: Scene, prepare: Viewing
) -> None:
    def fail() -> None:
        raise errors.OutOfSpace(path="x")

    prepare.append(lambda view: setattr(view, "on_close", fail))
    with pytest.raises(errors.OutOfSpace):
        run_in(scene, "true")


def test_a_command_that_leaves_others_behind_ends_nevertheless(
    scene: Scene, tmp_path: Path
) -> None:
    script = f"(exec < {scene.vault}/a.txt; echo $BASHPID > {tmp_path}/pid; sleep 600) & "
    script += f"until [ -s {tmp_path}/pid ]; do :; done; exit 6"
    assert run_in(scene, "bash", "-c", script) == 6
    left = int((tmp_path / "pid").read_text())
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("holds", ["", "exec 3< {vault}/a.txt; ", "cd {vault}; "])
def test_what_is_left_behind_writes_no_plain_text_into_the_vault(
    scene: Scene, tmp_path: Path, holds: str
) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(go)
    late = holds.format(vault=scene.vault) + f"echo > {tmp_path}/held; read word < {go}; "
    late += f"echo SECRET > {scene.vault}/late; ls -A {scene.vault} > {done}"
    # the command ends when the other one has what it holds
    wait = f"until [ -e {tmp_path}/held ]; do :; done"
    assert run_in(scene, "sh", "-c", f"({late}; echo end >> {done}) 2>/dev/null & {wait}") == 0
    go.write_text("now\n")
    until(lambda: done.exists() and done.read_text().endswith("end\n"), "the late one")
    assert done.read_text() == "end\n"  # and nothing to be seen of the vault
    assert os.listdir(scene.vault) == [".encvault"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(number: signal.Signals, scene: Scene, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    os.mkfifo(seen)
    name = number.name.removeprefix("SIG")
    script = f"trap 'exit 33' {name}; echo ready > {seen}; while :; do sleep 0.05; done"
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os._exit(run_in(scene, "sh", "-c", script))
    assert seen.read_text() == "ready\n"
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 33


def test_interrupts_from_the_terminal_are_the_commands(scene: Scene, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    os.mkfifo(seen)
    script = f"trap 'exit 34' INT; echo ready > {seen}; while :; do sleep 0.05; done"
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os._exit(run_in(scene, "sh", "-c", script))
    assert seen.read_text() == "ready\n"
    os.killpg(pid, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 34


def test_a_server_that_is_killed_is_an_error(scene: Scene, prepare: Viewing) -> None:
    prepare.append(lambda view: view.errors.update(listing=Killed()))
    with pytest.raises(errors.MountLost):
        run_in(scene, "ls", str(scene.vault))


class Killed(Exception):
    """Raised where the process is to be killed; `str` of it does that."""

    def __repr__(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


def test_commands_of_the_command_line(run: Command, scene: Scene, tmp_path: Path) -> None:
    identity = identity_file(run, tmp_path)
    vault = tmp_path / "v"
    assert run("init", vault, "-r", recipient(run, identity)).code == 0
    done = run("run", vault, "-i", identity, "--", "sh", "-c", f"cat {vault}/a.txt; exit 9")
    assert (done.code, done.out) == (9, "plain")
    done = run("run", "-i", identity, "--read-only", vault, "--", "sh", "-c", f"echo > {vault}/new")
    assert done.code != 0
    assert run("run", vault, "-i", identity, "--", "no-such-command-anywhere").code == 127


def as_ordinary_user(work: Callable[[], Result], folder: Path) -> Result:
    """What `work` returns as an ordinary user, to whom /dev/fuse is open, as udev has it."""
    fuse.load()  # from where the user may not read, perhaps
    if os.geteuid() != 0:
        return in_child(work)
    device = folder / "fuse"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(10, 229))
    device.chmod(0o666)

    def prepared() -> Result:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
        assert libc.mount(None, b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
        assert libc.mount(os.fsencode(device), b"/dev/fuse", None, 0x1000, None) == 0  # MS_BIND
        return in_child(work, uid=NOBODY)

    return in_child(prepared)


def test_an_ordinary_user_runs_a_command(scene: Scene, public_path: Path) -> None:
    vault, out = public_path / "v", public_path / "out"

    def work() -> tuple[int, list[str]]:
        new_vault(vault)
        script = f"id -u > {out}; cat {vault}/a.txt >> {out}; touch {vault}/new"
        request = running.RunRequest(str(vault), ("sh", "-c", script), str(public_path / "state"))
        return running.run(request, scene.answers(), Observer()), os.listdir(vault)

    assert as_ordinary_user(work, public_path) == (0, [".encvault"])
    uid = NOBODY if os.geteuid() == 0 else os.getuid()
    assert out.read_text() == f"{uid}\nplain"


def test_an_ordinary_user_mounts_and_unmounts(scene: Scene, public_path: Path) -> None:
    vault, place = public_path / "v", public_path / "mnt"

    def work() -> tuple[bytes, int, int]:
        new_vault(vault)
        place.mkdir(mode=0o755)
        request = mounting.MountRequest(str(vault), str(place), str(public_path / "state"))
        content = b""
        for _turn in range(2):  # fusermount3 wants the right to write that the first one took
            mounting.mount(request, scene.answers(), Observer())
            content = (place / "a.txt").read_bytes()
            with (place / "a.txt").open("rb"), pytest.raises(errors.MountBusy):
                mounting.unmount(str(place), request.state_dir)
            mounting.unmount(str(place), request.state_dir)
        mode = stat.S_IMODE(place.stat().st_mode)
        try:
            (place / "x").touch()
        except PermissionError as error:
            return content, mode, error.errno or 0
        return content, mode, 0

    assert as_ordinary_user(work, public_path) == (b"plain", 0o555, errno.EACCES)


def test_where_namespaces_are_not_allowed_a_hint_tells(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encvault.mount.private._CLONE_NEWNS", 0x1)  # EINVAL, as old kernels
    monkeypatch.setattr("encvault.mount.private._CLONE_NEWUSER", 0x1)
    with pytest.raises(errors.NamespacesUnavailable) as caught:
        run_in(scene, "true")
    assert caught.value.exit_code == 69
    assert caught.value.hint is not None
    assert "user.max_user_namespaces" in caught.value.hint


def test_a_file_that_could_not_be_saved_is_named_where_it_was_written(
    scene: Scene, prepare: Viewing
) -> None:
    def full(view: MemoryView) -> None:
        def close() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        view.on_close = close
        view.dirty.add("report.txt")

    prepare.append(full)
    with pytest.raises(errors.NotSaved) as caught:
        run_in(scene, "true")
    assert (caught.value.path, caught.value.count) == (str(scene.vault), 1)


def test_what_a_killed_run_had_not_saved_is_named_by_the_next_mount(
    scene: Scene, prepare: Viewing
) -> None:
    prepare.append(lambda view: view.dirty.add("half.txt"))
    with pytest.raises(errors.MountLost):
        run_in(scene, "sh", "-c", "sleep 1.5; kill -9 $PPID")
    assert scene.entries() == []  # it was nowhere to be unmounted
    scene.mount()
    assert [str(problem) for problem in scene.told.problems] == [
        f"{scene.vault}/half.txt: the last changes were not saved when its mount ended"
    ]


def test_who_unmounts_what_was_unmounted_behind_his_back_is_not_kept_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.mount()
    monkeypatch.setattr(mounting, "_PATIENCE", 0.3)
    with (scene.place / "a.txt").open("rb"):
        subprocess.run(["fusermount3", "-u", "-z", str(scene.place)], check=True)
        with pytest.raises(errors.MountBusy):
            mounting.unmount(str(scene.vault), scene.state)
    until(lambda: not scene.entries(), "the end of the process")


def test_a_mount_may_have_many_files_open() -> None:
    def limits() -> tuple[int, int]:
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        process.allow_many_files()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return soft, hard

    soft, hard = in_child(limits)
    assert soft == hard or soft >= 1 << 20


def test_where_a_vault_is_mounted_there_is_none(scene: Scene, run: Command) -> None:
    scene.mount()
    for command in ("status", "info", "verify"):
        done = run(command, scene.place)
        assert (done.code, "here a vault is mounted" in done.err) == (2, True)
        assert f"name the vault itself: {scene.vault}" in done.err
    (scene.place / "folder").mkdir()
    assert run("status", scene.place / "folder").code == 2
