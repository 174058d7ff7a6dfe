"""The index of a hidden vault: a cache that is right, or that nobody believes."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import keys, seal, unseal

from encvault import operations
from encvault.vault import catalog as catalogs, index as module
from encvault.vault.catalog import read_catalog
from encvault.vault.index import IndexWriter, discard_index, read_index
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from encvault.envelope import Record
    from encvault.secret import Secret
    from encvault.vault.catalog import Catalog

LARGE = 3 << 20


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("plan", "sealing"):
        monkeypatch.setattr(f"encvault.vault.{name}.PART_SIZE", 1 << 20)
    folder = tmp_path / "docs"
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("top", "a/one", "a/b/two", "报价单.xlsx"):
        (folder / name).write_text(f"content of {name}")
    (folder / "large").write_bytes(os.urandom(LARGE))
    (folder / "a" / "link").symlink_to("one")
    seal(folder, hide_names=True, jobs=2)
    return folder


@pytest.fixture
def vault(root: Path) -> Iterator[Vault]:
    with Vault.load(str(root)) as loaded:
        loaded.unlock(keys().identities(""))
        yield loaded


def parts(root: Path) -> list[Path]:
    return sorted((root / ".encvault" / "index").glob("*"))


def told(catalog: Catalog) -> list[tuple[str, str, Record]]:
    found = [*catalog.folders.items(), *catalog.files.items(), *catalog.parts.items()]
    return sorted((path, one.file, one.record) for path, one in found)


def read_with(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> tuple[Catalog, int]:
    """The catalog with the index, and how many objects were read for it."""
    count = 0
    genuine = catalogs.read_object

    def counted(*arguments: object) -> object:
        nonlocal count
        count += 1
        return genuine(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(catalogs, "read_object", counted)
        return read_catalog(vault, 1, read_index(vault)), count


def test_it_says_what_the_objects_say(
    root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, count = read_with(vault, monkeypatch)
    assert count == 0
    assert told(found) == told(read_catalog(vault, 1))
    assert len(found.parts) == 2
    [part] = parts(root)
    assert part.read_bytes().startswith(b"encvault-index/v1 ")
    assert "报价单".encode() not in part.read_bytes()


def test_what_was_sealed_later_is_added(
    root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "later").write_text("x")
    (root / "top").write_text("changed")
    seal(root)
    assert len(parts(root)) == 2
    found, count = read_with(vault, monkeypatch)
    assert count == 0
    assert told(found) == told(read_catalog(vault, 1))
    seal(root)
    assert len(parts(root)) == 2  # nothing was sealed


def test_a_run_of_many_files_writes_several_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_ENTRIES", 7)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        (folder / f"f{number}").write_text("x")
    seal(folder, hide_names=True)
    assert len(parts(folder)) == 6
    monkeypatch.setattr(module, "MAX_PARTS", 6)
    (folder / "one more").write_text("x")
    seal(folder)
    assert len(parts(folder)) == 6
    with Vault.load(str(folder)) as vault:
        vault.unlock(keys().identities(""))
        found, count = read_with(vault, monkeypatch)
        assert (len(found.files), count) == (41, 1)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


BROKEN = {
    "magic": lambda path: flip(path, 0),
    "key": lambda path: flip(path, 20),
    "line": lambda path: flip(path, 44),
    "body": lambda path: flip(path, 200),
    "end": lambda path: flip(path, -1),
    "cut": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "huge": lambda path: os.truncate(path, module.MAX_PART_SIZE + 1),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_part_that_is_not_authentic_is_passed_over(
    root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    BROKEN[kind](parts(root)[0])
    assert read_index(vault) == {}
    found, count = read_with(vault, monkeypatch)
    assert count > 0
    assert told(found) == told(read_catalog(vault, 1))


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "other name"])
def test_what_is_no_part_is_passed_over(root: Path, vault: Vault, kind: str) -> None:
    [part] = parts(root)
    elsewhere = root.parent / "elsewhere"
    part.rename(elsewhere)
    match kind:
        case "link":
            part.symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(part)
        case "folder":
            part.mkdir()
        case _:
            shutil.copy(elsewhere, part.with_name("index"))
    assert read_index(vault) == {}


def test_what_has_no_room_is_no_error(root: Path, vault: Vault) -> None:
    shutil.rmtree(root / ".encvault" / "index")
    (root / ".encvault" / "index").write_text("in the way")
    (root / "later").write_text("x")
    assert not seal(root).problems
    assert read_index(vault) == {}
    discard_index(vault.tree)


def test_entries_that_break_a_rule_are_passed_over(root: Path, vault: Vault) -> None:
    known = read_index(vault)
    file, record = next((file, one) for file, one in known.items() if one.path == "top")
    parts(root)[0].unlink()
    for data in (
        b"nonsense",
        record._replace(path="../../etc/passwd").encode(),
        record._replace(type="archive", parent=None, size=None, mode=0).encode(),
    ):
        key_id, key = vault.new_data_key()
        writer = IndexWriter(vault, lambda key_id=key_id, key=key: (key_id, key))  # type: ignore[misc]
        writer.add(file, data)
        writer.flush()
    assert len(parts(root)) == 3
    assert read_index(vault) == {}


def test_no_more_is_read_than_there_is_memory_for(
    root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "later").write_text("x")
    seal(root)
    assert len(read_index(vault)) == 11
    monkeypatch.setattr(module, "MAX_SIZE", 1)
    assert 0 < len(read_index(vault)) < 11


def test_many_parts_become_few(root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (root / "top").write_text(f"version {number}")
        seal(root)
    assert len(parts(root)) == 5
    alive = {one.file for one in read_catalog(vault, 1).files.values()}
    key = vault.new_data_key()
    IndexWriter(vault, lambda: key).merge(alive)
    assert len(parts(root)) == 5
    monkeypatch.setattr(module, "MANY_PARTS", 5)
    IndexWriter(vault, lambda: key).merge(alive)
    assert len(parts(root)) == 1
    assert set(read_index(vault)) == alive


def test_so_many_parts_that_there_may_be_no_more_become_few(
    root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY_PARTS", 1)
    monkeypatch.setattr(module, "MAX_PARTS", 1)
    known = read_index(vault)
    key = vault.new_data_key()
    IndexWriter(vault, lambda: key).merge(known)
    assert read_index(vault) == known


def test_parts_that_cannot_be_written_anew_stay(
    root: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY_PARTS", 1)
    monkeypatch.setattr(module, "PART_ENTRIES", 3)
    known, before = read_index(vault), parts(root)
    key, asked = vault.new_data_key(), []

    def full_at_first() -> tuple[str, Secret]:
        asked.append(1)
        if len(asked) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return key

    IndexWriter(vault, full_at_first).merge(known)
    assert set(before) <= set(parts(root))
    assert read_index(vault) == known


def test_no_part_is_larger_than_a_reader_takes(root: Path, vault: Vault) -> None:
    for path in parts(root):
        path.unlink()
    record = bytes(1 << 20)  # the largest that the format allows
    key = vault.new_data_key()
    writer = IndexWriter(vault, lambda: key)
    for number in range(40):
        writer.add(f"{number:026}".replace("0", "a"), record)
    writer.flush()
    sizes = [path.stat().st_size for path in parts(root)]
    assert sum(sizes) > 40 << 20
    assert max(sizes) <= module.MAX_PART_SIZE == 32 << 20


def test_it_goes_with_the_objects(root: Path) -> None:
    assert not unseal(root).problems
    assert parts(root) == []
    assert (root / "top").read_text() == "content of top"


def test_it_goes_when_everything_is_sealed_anew(root: Path) -> None:
    old = parts(root)
    operations.rekey(str(root), keys())
    with Vault.load(str(root)) as vault:
        vault.unlock(keys().identities(""))
        assert read_index(vault)
    operations.reseal_exposed(str(root), keys())
    assert old
    assert not any(path.exists() for path in old)


def test_an_index_for_which_there_is_no_room_is_no_error(root: Path, vault: Vault) -> None:
    def full() -> tuple[str, Secret]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = parts(root)
    writer = IndexWriter(vault, full)
    writer.add("a" * 26, b"record")
    writer.flush()
    assert parts(root) == before
