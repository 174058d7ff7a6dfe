"""The registry of mounts, and the folders and tables around them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, RECIPIENT, SEED, in_child
from memory_view import MemoryView
from serving import served, until

from encvault.errors import StateUnavailable, UnmountFailed
from encvault.fs.mounts import mount_at
from encvault.fs.users import users_text
from encvault.mount import registry as registries, table
from encvault.mount.places import Mountpoint, remove_made
from encvault.mount.registry import Entry, Registry
from encvault.mount.watch import Watch
from encvault.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

VAULT_ID = "a" * 26


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "state"))


def begin(registry: Registry, **changed: object) -> Entry:
    fields = {"mountpoint": "/mnt", "vault": "/v", "vault_id": VAULT_ID, "read_only": False}
    fields |= {"idle_s": 60, "made": True, "hpke_public": RECIPIENT.public} | changed
    return registry.begin(**fields)  # type: ignore[arg-type]


def die(entry: Entry) -> None:
    """What the system does when the process is killed."""
    entry.leave()


def test_a_mount_is_on_record_while_it_lives(registry: Registry) -> None:
    assert registry.all() == []
    entry = begin(registry)
    [found] = registry.all()
    assert found == entry.mounted
    assert found.is_alive
    assert (found.pid, found.idle_s, found.made) == (os.getpid(), 60, True)
    assert found.may_be_there
    folder = os.stat(registry.path)
    assert stat.S_IMODE(folder.st_mode) == 0o700
    for name in os.listdir(registry.path):
        assert stat.S_IMODE(os.stat(os.path.join(registry.path, name)).st_mode) == 0o600
    entry.end()
    assert os.listdir(registry.path) == []


def test_who_died_is_told_from_who_lives(registry: Registry) -> None:
    living, dead = begin(registry), begin(registry)
    die(dead)
    alive = {one.id: one.is_alive for one in registry.all()}
    assert alive == {living.mounted.id: True, dead.mounted.id: False}
    assert registry.is_served(living.mounted.id)
    assert not registry.is_served("b" * 26)
    registry.forget(dead.mounted.id)
    assert registry.get(dead.mounted.id) is None
    living.end()


def test_names_are_readable_for_who_has_the_vaults_keys_only(registry: Registry) -> None:
    entry = begin(registry)
    entry.note_unsaved(["/b", "/机密/a"])
    assert entry.mounted.unsaved == 2
    [found] = registry.all()
    assert found.unsaved == 2
    assert registry.unsaved(found, Secret(SEED)) == ["/b", "/机密/a"]
    assert registry.unsaved(found, Secret(bytes(32))) == []
    sealed = os.path.join(registry.path, f"{found.id}.unsaved")
    before = os.stat(sealed).st_ino
    entry.note_unsaved(["/机密/a", "/b"])  # the same
    assert os.stat(sealed).st_ino == before
    entry.note_unsaved([])
    assert registry.unsaved(found, Secret(SEED)) == []
    entry.end()


def test_of_a_dead_mount_what_was_not_saved_is_kept(registry: Registry) -> None:
    entry = begin(registry)
    entry.note_unsaved(["/a"])
    die(entry)
    registry.keep_unsaved(registry.all()[0])
    [found] = registry.all()
    assert (found.mountpoint, found.may_be_there) == ("", False)
    assert registry.unsaved(found, Secret(SEED)) == ["/a"]


@pytest.mark.parametrize(
    "change",
    [{"encvault_mount": 2}, {"id": "c" * 26}, {"pid": "1"}, {"more": 1}, {"made": None}],
    ids=str,
)
def test_what_is_no_record_is_passed_over(change: dict[str, object], registry: Registry) -> None:
    entry = begin(registry)
    path = os.path.join(registry.path, f"{entry.mounted.id}.json")
    with open(path, encoding="utf-8") as file:
        members = json.load(file)
    for text in (json.dumps(members | change), "[1]", "", "\0"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        assert registry.all() == []
    entry.end()


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateUnavailable, match="state"):
        begin(Registry(str(tmp_path / "state")))


def test_a_full_disk_does_not_stop_the_mount(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = begin(registry)

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(registries.durable, "write_file", full)
        entry.note_unsaved(["/a"])
        entry.note_failure("x")
    entry.note_unsaved(["/a"])
    assert registry.all()[0].unsaved == 1
    entry.end()


def test_another_start_of_the_system_has_no_mounts(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = begin(registry)
    monkeypatch.setattr(registries, "_BOOT_ID", "/nonexistent")
    assert not registry.all()[0].may_be_there
    entry.end()


def test_a_view_that_fails_is_on_record(registry: Registry) -> None:
    view = MemoryView()
    view.unsaved = None  # type: ignore[method-assign,assignment]
    entry = begin(registry, idle_s=1)
    watch = Watch(view, entry)
    watch.start()
    until(lambda: registry.all()[0].failure, "the record")
    watch.stop()
    entry.end()


# -- the table of mounts --------------------------------------------------------------------


def test_odd_names_in_the_table(tmp_path: Path) -> None:
    odd = tmp_path / "with space\tand\nlines\\ 报价"
    with served(MemoryView(), odd):
        assert mount_at(str(odd)) is not None
        with (odd / "f").open("wb"):
            assert f"({os.getpid()})" in users_text(str(odd))
    assert mount_at(str(odd)) is None


def test_many_users_of_a_mount_are_counted(tmp_path: Path) -> None:
    with served(MemoryView(), tmp_path / "mnt") as mount:
        sleepers = [subprocess.Popen(["sleep", "600"], cwd=mount.path) for _number in range(7)]
        try:
            assert users_text(str(mount.path)).endswith(" and 2 more")
        finally:
            for sleeper in sleepers:
                sleeper.kill()
                sleeper.wait()
    assert users_text("/nowhere") == "programs that cannot be seen from here"


def test_what_is_not_mounted_is_not_unmounted(tmp_path: Path) -> None:
    with pytest.raises(UnmountFailed):
        table.unmount(str(tmp_path))
    with pytest.raises(UnmountFailed):
        in_child(lambda: table.unmount("/"), uid=NOBODY)


# -- the folder -----------------------------------------------------------------------------


def test_a_folder_that_was_not_mounted_over_is_as_before(tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir(mode=0o750)
    with Mountpoint(str(place), str(tmp_path / "v")) as found:
        assert not found.made
        assert found.becomes_locked
    assert stat.S_IMODE(place.stat().st_mode) == 0o750
    with Mountpoint(str(tmp_path / "new"), str(tmp_path / "v")) as found:
        assert found.made
    assert not (tmp_path / "new").exists()


def test_what_another_process_has_now_is_left_to_it(tmp_path: Path) -> None:
    place = Mountpoint(str(tmp_path / "new"), str(tmp_path / "v"))
    place.hand_over()
    place.leave()
    assert (tmp_path / "new").is_dir()


def test_a_made_folder_is_removed_whatever_protects_it(tmp_path: Path) -> None:
    place = Mountpoint(str(tmp_path / "new"), str(tmp_path / "v"))
    place.cover()
    place.hand_over()
    if os.geteuid() == 0:
        with pytest.raises(PermissionError):
            (tmp_path / "new").rmdir()
    remove_made(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
