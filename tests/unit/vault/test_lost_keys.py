"""Somebody takes the vault's own files away, before or while something is sealed."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import keys, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.crypto import stream
from encvault.errors import DamagedFiles, KeysMissing, NameTaken, SpecialFile, UnknownDataKey
from encvault.fs import calls
from encvault.vault import layout
from encvault.vault.report import Event, Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    write_tree(tmp_path / "docs")
    return tmp_path / "docs"


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def moved_away(vault: Path) -> None:
    (vault / ".encvault").rename(vault.parent / "tidied")


def records_removed(vault: Path) -> None:
    for name in ("vault.a.json", "vault.b.json"):
        (vault / ".encvault" / name).unlink()


def keys_removed(vault: Path) -> None:
    for key in (vault / ".encvault" / "keys").iterdir():
        key.unlink()


class Tidier(Observer):
    """Takes something away when the first batch is sealed and its originals are still there."""

    def __init__(self, vault: Path, does: Callable[[Path], None]) -> None:
        self._vault = vault
        self._does = does
        self._is_done = False

    def before_release(self, events: Sequence[Event]) -> None:
        if events and not self._is_done:
            self._is_done = True
            self._does(self._vault)


TIDIED = pytest.mark.parametrize("does", [moved_away, records_removed, keys_removed])


@LAYOUTS
@TIDIED
def test_no_original_goes_when_nothing_would_open_its_copy(
    docs: Path, does: Callable[[Path], None], *, hidden: bool
) -> None:
    before = snapshot(docs, times=False)
    with pytest.raises(KeysMissing) as caught:
        seal(docs, Tidier(docs, does), hide_names=hidden)
    assert caught.value.exit_code == 65
    after = snapshot(docs, times=False)
    assert {path: after[path] for path in before} == before


@LAYOUTS
@TIDIED
def test_a_mirror_that_nothing_opens_is_no_success(
    docs: Path, tmp_path: Path, does: Callable[[Path], None], *, hidden: bool
) -> None:
    vault = tmp_path / "mirror"
    with pytest.raises(KeysMissing):
        seal(docs, Tidier(vault, does), to=str(vault), hide_names=hidden)


class Late(Tidier):
    """Does so when the last batch has taken effect."""

    def before_release(self, events: Sequence[Event]) -> None:
        pass

    def progress(self, files: int, size: int) -> None:
        if files:
            super().before_release([Event("seal", "", "", size)])


@TIDIED
@pytest.mark.parametrize("to", [None, "mirror"])
def test_what_is_taken_away_at_the_end_is_told(
    docs: Path, tmp_path: Path, does: Callable[[Path], None], to: str | None
) -> None:
    mirror = None if to is None else str(tmp_path / to)
    vault = docs if to is None else tmp_path / to
    report = seal(docs, Late(vault, does), to=mirror)
    assert [type(one) for one in report.problems] == [KeysMissing]


@LAYOUTS
def test_a_mirror_is_sealed_anew_where_a_data_key_is_gone(
    docs: Path, tmp_path: Path, state: str, *, hidden: bool
) -> None:
    vault, out = tmp_path / "mirror", tmp_path / "out"
    options = {"to": str(vault), "state_dir": state}
    first = seal(docs, hide_names=hidden, **options)
    assert seal(docs, **options).unchanged == first.files
    keys_removed(vault)
    report = seal(docs, **options)
    assert [type(one) for one in report.problems] == [KeysMissing]
    assert (report.files, report.unchanged) == (first.files, 0)
    last = seal(docs, **options)
    assert (last.problems, last.files, last.unchanged) == ([], 0, first.files)
    assert unseal(vault, to=str(out)).problems == []
    assert snapshot(out) == snapshot(docs)


def test_in_place_what_does_not_open_does_not_count_as_sealed(docs: Path, state: str) -> None:
    first = seal(docs, state_dir=state)
    keys_removed(docs)
    (docs / "new").write_text("new")
    report = seal(docs, state_dir=state)
    assert [type(one) for one in report.problems] == [UnknownDataKey] * first.files
    assert (report.files, report.unchanged) == (1, 0)
    found = operations.status(str(docs))
    assert (len(found.keyless), found.sealed) == (first.files, first.files + 1)
    outcome = operations.status_outcome(str(docs), found)
    assert isinstance(outcome, DamagedFiles)
    assert outcome.exit_code == 65


def test_files_are_not_sealed_anew_under_a_key_that_is_gone(docs: Path) -> None:
    seal(docs)
    operations.rekey(str(docs), keys())
    before = snapshot(docs)
    with pytest.raises(KeysMissing):
        operations.reseal_exposed(str(docs), keys(), observer=Tidier(docs, keys_removed))
    assert {path: node for path, node in before.items() if path.endswith(".sealed")} == {
        path: node for path, node in snapshot(docs).items() if path.endswith(".sealed")
    }


def test_a_copy_that_was_cut_is_not_unchanged(docs: Path, tmp_path: Path, state: str) -> None:
    vault = tmp_path / "mirror"
    options = {"to": str(vault), "state_dir": state}
    seal(docs, **options)
    copies = sorted(path for path in vault.rglob("*.sealed") if path.stat().st_size > 600)
    cut, emptied = copies[:2]
    os.truncate(cut, cut.stat().st_size - 1)
    os.truncate(emptied, 0)
    report = seal(docs, **options)
    assert [type(one) for one in report.problems] == [NameTaken]
    assert report.files == 1
    emptied.unlink()
    assert seal(docs, **options).problems == []
    unseal(vault, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out") == snapshot(docs)


def test_an_object_that_was_cut_is_not_unchanged(
    docs: Path, tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plan", "sealing"):
        monkeypatch.setattr(f"encvault.vault.{name}.PART_SIZE", 1 << 16)
    vault = tmp_path / "mirror"
    options = {"to": str(vault), "state_dir": state, "hide_names": True, "jobs": 1}
    (docs / "in parts").write_bytes(os.urandom(3 << 16))
    seal(docs, **options)
    assert seal(docs, **options).files == 0
    objects = (vault / ".encvault" / "objects").rglob("?" * 26)
    largest = max(objects, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size - 1)
    report = seal(docs, **options)
    assert (report.files, report.problems) == (1, [])
    assert seal(docs, **options).files == 0
    unseal(vault, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out") == snapshot(docs)


@pytest.mark.parametrize("name_length", [1, 250])
@pytest.mark.parametrize("size", [0, 1, 15_000, stream.CHUNK_SIZE - 256, stream.CHUNK_SIZE, 70_000])
def test_the_size_of_a_sealed_file_follows_from_that_of_its_content(
    tmp_path: Path, size: int, name_length: int
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / ("n" * name_length)).write_bytes(bytes(size))
    seal(folder)
    (sealed,) = folder.glob("*.sealed")
    assert layout.is_size_of(sealed.stat().st_size, size)
    for wrong in (size - 1, size + 1, size + 100):
        assert not layout.is_size_of(sealed.stat().st_size, wrong)
    assert not layout.is_size_of(0, size)
    shutil.rmtree(folder)


# -- which files are under a key that is gone -------------------------------------------------


def only_key(vault: Path) -> Path:
    (key,) = (vault / ".encvault" / "keys").iterdir()
    return key


@LAYOUTS
def test_a_key_is_watched_until_nothing_is_under_it_any_more(
    docs: Path, tmp_path: Path, state: str, *, hidden: bool
) -> None:
    """Files that are left out, or have no original any more, are as lost as the others."""
    vault = tmp_path / "mirror"
    options = {"to": str(vault), "state_dir": state}
    first = seal(docs, hide_names=hidden, **options)
    (docs / "src" / "run.sh").unlink()
    keys_removed(vault)
    report = seal(docs, exclude=("main.py",), **options)
    assert [type(one) for one in report.problems] == [KeysMissing]
    assert report.files == first.files - 2
    again = seal(docs, **options)
    assert [type(one) for one in again.problems] == [KeysMissing]
    assert again.files == 1
    last = seal(docs, **options)
    assert [type(one) for one in last.problems] == [KeysMissing]
    assert last.files == 0
    gone = seal(docs, delete=True, **options)
    assert [type(one) for one in gone.problems] == [KeysMissing]
    assert seal(docs, **options).problems == []
    unseal(vault, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out", times=False) == snapshot(docs, times=False)


@LAYOUTS
def test_a_standing_problem_does_not_have_all_sealed_anew_each_night(
    docs: Path, tmp_path: Path, state: str, *, hidden: bool
) -> None:
    vault = tmp_path / "mirror"
    options = {"to": str(vault), "state_dir": state}
    os.mkfifo(docs / "fifo")
    first = seal(docs, hide_names=hidden, **options)
    keys_removed(vault)
    assert seal(docs, **options).files == first.files
    last = seal(docs, **options)
    assert (last.files, [type(one) for one in last.problems]) == (0, [SpecialFile])


@LAYOUTS
def test_a_key_of_a_reseal_is_watched_too(
    docs: Path, tmp_path: Path, state: str, *, hidden: bool
) -> None:
    vault = tmp_path / "mirror"
    options = {"to": str(vault), "state_dir": state}
    first = seal(docs, hide_names=hidden, **options)
    before = only_key(vault)
    operations.rekey(str(vault), keys())
    operations.reseal_exposed(str(vault), keys())
    assert seal(docs, **options).unchanged == first.files  # by it the key is known here
    for key in (vault / ".encvault" / "keys").iterdir():
        if key.name != before.name:
            key.unlink()
    report = seal(docs, **options)
    assert [type(one) for one in report.problems] == [KeysMissing]
    assert report.files == first.files


@LAYOUTS
def test_an_older_copy_of_a_mirror_lacks_nothing(
    docs: Path, tmp_path: Path, state: str, *, hidden: bool
) -> None:
    """Two disks that are exchanged each night."""
    one, other = tmp_path / "one", tmp_path / "other"
    seal(docs, to=str(one), hide_names=hidden, state_dir=state)
    shutil.copytree(one, other, symlinks=True)
    for night, mirror in enumerate((one, other, one, other)):
        (docs / f"new {night}").write_text(f"night {night}")
        report = seal(docs, to=str(mirror), state_dir=state)
        assert report.problems == []
    for mirror in (one, other):
        seal(docs, to=str(mirror), state_dir=state)
        unseal(mirror, to=str(tmp_path / f"out of {mirror.name}"))
        assert snapshot(tmp_path / f"out of {mirror.name}") == snapshot(docs)


@LAYOUTS
@pytest.mark.parametrize("data", [b"", b"{}\n", None], ids=["empty", "other", "cut"])
def test_a_file_that_is_no_key_any_more_counts_as_gone(
    docs: Path, tmp_path: Path, state: str, data: bytes | None, *, hidden: bool
) -> None:
    vault = tmp_path / "mirror"
    options = {"to": str(vault), "state_dir": state}
    first = seal(docs, hide_names=hidden, **options)
    key = only_key(vault)
    key.write_bytes(key.read_bytes()[:-1] if data is None else data)
    assert len(operations.status(str(vault)).keyless) >= first.files
    report = seal(docs, **options)
    assert [type(one) for one in report.problems] == [KeysMissing]
    assert report.files == first.files
    assert len(operations.status(str(vault)).keyless) == 0


def emptied(vault: Path) -> None:
    for path in (vault / ".encvault").rglob("*.json"):
        os.truncate(path, 0)


def keys_emptied(vault: Path) -> None:
    for path in (vault / ".encvault" / "keys").iterdir():
        os.truncate(path, 0)


def keys_are_folders(vault: Path) -> None:
    for path in (vault / ".encvault" / "keys").iterdir():
        path.unlink()
        path.mkdir()


@LAYOUTS
@pytest.mark.parametrize("does", [emptied, keys_emptied, keys_are_folders])
def test_no_original_goes_for_a_key_that_is_none(
    docs: Path, does: Callable[[Path], None], *, hidden: bool
) -> None:
    before = snapshot(docs, times=False)
    with pytest.raises(KeysMissing):
        seal(docs, Tidier(docs, does), hide_names=hidden)
    after = snapshot(docs, times=False)
    assert {path: after[path] for path in before} == before


def test_a_hidden_vault_in_place_tells_that_nothing_opens_any_more(docs: Path, state: str) -> None:
    seal(docs, hide_names=True, state_dir=state)
    keys_removed(docs)
    assert len(operations.status(str(docs)).keyless) > 0
    (docs / "new").write_text("new")
    report = seal(docs, state_dir=state)
    assert [type(one) for one in report.problems] == [KeysMissing]
    assert report.files == 1


@LAYOUTS
def test_what_was_kept_is_sealed_anew_and_only_then_is_all_well(
    docs: Path, tmp_path: Path, state: str, *, hidden: bool
) -> None:
    first = seal(docs, keep=True, hide_names=hidden, state_dir=state)
    keys_removed(docs)
    report = seal(docs, keep=True, state_dir=state)
    assert report.files == first.files
    assert {type(one) for one in report.problems} <= {KeysMissing}
    assert seal(docs, keep=True, state_dir=state).problems == []
    unseal(docs, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out", times=False) == {
        path: node
        for path, node in snapshot(docs, times=False).items()
        if not path.endswith(".sealed") and not path.startswith(".encvault")
    }


def test_no_new_folder_takes_the_place_of_one_that_went(docs: Path) -> None:
    seal(docs)
    with Vault.load(str(docs)) as vault:
        vault.hold()
        vault.unlock(keys().identities(""))
        moved_away(docs)
        with pytest.raises(KeysMissing):
            vault.new_data_key()
    assert not (docs / ".encvault").exists()


@pytest.mark.parametrize("harm", ["unreadable", "link"])
def test_a_key_that_cannot_be_read_stops_no_mirror(
    docs: Path, tmp_path: Path, state: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "mirror"
    seal(docs, to=str(vault), state_dir=state)
    (docs / "new").write_text("new")
    (key,) = (vault / ".encvault" / "keys").iterdir()
    if harm == "link":
        key.rename(tmp_path / "key")
        key.symlink_to(tmp_path / "key")
    else:
        real = calls.open_read

        def fails(folder: int, name: str) -> int:
            if name.endswith(key.name):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(folder, name)

        monkeypatch.setattr(calls, "open_read", fails)
    report = seal(docs, to=str(vault), state_dir=state)
    told = [KeysMissing] if harm == "link" else []
    assert [type(one) for one in report.problems] == told
    assert (vault / "new.sealed").exists()
