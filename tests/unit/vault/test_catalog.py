"""The tree of a hidden vault, put together from objects that may be lost, doubled or damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from helpers import keys, seal, unseal

from encvault import operations
from encvault.envelope import Header, Record, VaultKeyInfo
from encvault.errors import ChunkCorrupt, FolderMissing, SwappedFile, Unreadable, UnsafePath
from encvault.fs.stamp import Stamp
from encvault.operations.places import refuse
from encvault.vault import catalog as module
from encvault.vault.catalog import Catalog, Found, read_catalog
from encvault.vault.inspect import objects
from encvault.vault.layout import object_folder, object_path
from encvault.vault.manifest import new_id
from encvault.vault.sealed import encode_sealed
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "c").mkdir()
    for name in ("top", "a/one", "a/b/two", "c/one"):
        (folder / name).write_text(f"content of {name}")
    (folder / "a" / "link").symlink_to("one")
    seal(folder, hide_names=True)
    return folder


@pytest.fixture
def vault(root: Path) -> Iterator[Vault]:
    with Vault.load(str(root)) as loaded:
        loaded.unlock(keys().identities(""))
        yield loaded


def object_of(vault: Vault, path: str) -> Path:
    made = read_catalog(vault, 1)
    found = (made.files | made.folders)[path]
    return path_of(vault, found.file)


def path_of(vault: Vault, file_id: str) -> Path:
    from pathlib import Path  # noqa: PLC0415 - only here at run time

    return Path(vault.path, ".encvault/objects", file_id[:2], file_id)


@pytest.mark.parametrize(("jobs", "batch"), [(1, 512), (3, 1), (2, 3), (0, 2)])
def test_the_tree_is_what_was_sealed(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, jobs: int, batch: int
) -> None:
    monkeypatch.setattr("encvault.vault.pool.BATCH_FILES", batch)
    made = read_catalog(vault, jobs)
    assert sorted(made.files) == ["a/b/two", "a/link", "a/one", "c/one", "top"]
    assert sorted(made.folders) == ["a", "a/b", "c"]
    assert made.files["a/link"].record.type == "symlink"
    assert (made.parts, made.superseded, made.problems) == ({}, [], [])
    assert len(list(objects(vault, refuse))) == 8


def test_an_empty_vault_has_an_empty_tree(tmp_path: Path) -> None:
    operations.init_vault(str(tmp_path / "new"), keys(), hide_names=True)
    with Vault.load(str(tmp_path / "new")) as vault:
        vault.unlock(keys().identities(""))
        assert read_catalog(vault) == Catalog()


def test_names_that_are_no_objects_are_passed_over(vault: Vault, root: Path) -> None:
    folder = root / ".encvault" / "objects" / "zz"
    folder.mkdir(exist_ok=True)  # an object may be there by chance
    (folder / "README").touch()
    (folder / ".encvault-x.tmp").touch()
    (folder / ("z" * 25 + "a")).mkdir()
    assert len(list(objects(vault, refuse))) == 8


def test_a_damaged_object_is_named_and_the_others_are_there(vault: Vault) -> None:
    path = object_of(vault, "a/one")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    made = read_catalog(vault)
    (problem,) = made.problems
    assert isinstance(problem, ChunkCorrupt)
    assert problem.path == str(path)
    assert sorted(made.files) == ["a/b/two", "a/link", "c/one", "top"]


def test_an_object_under_another_name_is_refused(vault: Vault) -> None:
    one, two = object_of(vault, "a/one"), object_of(vault, "top")
    one.write_bytes(two.read_bytes())
    (problem,) = read_catalog(vault).problems
    assert isinstance(problem, SwappedFile)
    assert problem.fields() == {"path": str(one), "sealed_as": two.name}


def test_an_object_that_cannot_be_read_is_named(vault: Vault, monkeypatch: Any) -> None:
    path = object_of(vault, "top")
    path.unlink()
    path.symlink_to("elsewhere")
    assert "top" not in read_catalog(vault).files  # a link is no object
    path.unlink()
    path.write_bytes(b"")
    real = os.open

    def refuse(name: str, flags: int, *rest: Any, **options: Any) -> int:
        if name == path.name:
            raise PermissionError(13, "Permission denied", name)
        return real(name, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        (problem,) = read_catalog(vault).problems
    assert isinstance(problem, Unreadable)

    def fail(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "read_record", fail)
    assert {problem.exit_code for problem in read_catalog(vault, 1).problems} == {74}


def test_files_of_a_lost_folder_are_found_again(vault: Vault, root: Path) -> None:
    lost = read_catalog(vault).folders["a"].record.folder
    object_of(vault, "a").unlink()
    made = read_catalog(vault)
    assert sorted(made.files) == [
        "c/one",
        f"lost+found/{lost}/b/two",
        f"lost+found/{lost}/link",
        f"lost+found/{lost}/one",
        "top",
    ]
    assert sorted(made.folders) == ["c", f"lost+found/{lost}/b"]
    (problem,) = made.problems
    assert isinstance(problem, FolderMissing)
    assert problem.fields() == {"path": str(root / "lost+found" / lost), "count": 3}
    assert made.unread == []
    vault.close()
    report = unseal(root)
    assert [type(one) for one in report.problems] == [FolderMissing]
    assert (root / f"lost+found/{lost}/b/two").read_text() == "content of a/b/two"


# -- placing, without files -----------------------------------------------------------------


def ident(letter: str) -> str:
    return letter * 25 + "a"


def found(kind: str, file: str, at: int, name: str, parent: str = "", folder: str = "") -> Found:
    record = Record(
        kind,  # type: ignore[arg-type]
        name,
        at,
        parent=ident(parent) if parent else "",
        folder=ident(folder) if folder else None,
        size=0,
    )
    return Found(ident(file), Stamp(0, 0, 0, 0, 0), record)


def placed(*items: Found) -> Catalog:
    made = Catalog()
    module._place(made, list(items))
    return made


def ids(items: dict[str, Found]) -> dict[str, str]:
    return {path: item.file[0] for path, item in items.items()}


@pytest.mark.parametrize("order", [1, -1])
def test_the_newest_object_of_a_path_counts_whatever_the_order(order: int) -> None:
    items = [
        found("file", "a", 1, "x"),
        found("file", "b", 3, "x"),
        found("file", "c", 2, "x"),
        found("file", "d", 2, "y"),
        found("file", "e", 2, "y"),
    ]
    made = placed(*items[::order])
    assert ids(made.files) == {"x": "b", "y": "e"}
    assert sorted(item.file[0] for item in made.superseded) == ["a", "c", "d"]


def test_a_folder_that_was_renamed_takes_its_files_along() -> None:
    made = placed(
        found("dir", "a", 1, "old", folder="f"),
        found("dir", "b", 2, "new", folder="f"),
        found("file", "c", 1, "x", parent="f"),
    )
    assert ids(made.folders) == {"new": "b"}
    assert ids(made.files) == {"new/x": "c"}
    assert [item.file[0] for item in made.superseded] == ["a"]


def test_folders_of_one_path_are_one_folder_whatever_their_ids() -> None:
    made = placed(
        found("dir", "a", 1, "d", folder="f"),
        found("dir", "b", 2, "d", folder="g"),
        found("file", "c", 1, "x", parent="f"),
        found("file", "e", 1, "y", parent="g"),
    )
    assert ids(made.folders) == {"d": "b"}
    assert ids(made.files) == {"d/x": "c", "d/y": "e"}
    assert [item.file[0] for item in made.superseded] == ["a"]


def test_a_folder_of_that_name_that_is_sealed_is_no_loss(tmp_path: Path) -> None:
    inner = tmp_path / "drive" / "lost+found" / "kept"
    inner.mkdir(parents=True)
    for path in (inner / "one", inner.parent / "two"):
        path.write_text("content")
    seal(tmp_path / "drive", hide_names=True)
    with Vault.load(str(tmp_path / "drive")) as vault:
        vault.unlock(keys().identities(""))
        assert read_catalog(vault).problems == []


def test_folders_in_a_circle_end_in_lost_and_found() -> None:
    made = placed(
        found("dir", "a", 1, "one", parent="g", folder="f"),
        found("dir", "b", 1, "two", parent="f", folder="g"),
        found("dir", "c", 1, "self", parent="h", folder="h"),
        found("file", "d", 1, "x", parent="f"),
        found("file", "e", 1, "y", parent="h"),
        found("file", "k", 1, "z", parent="g"),
    )
    assert all(path.startswith("lost+found/") for path in made.files)
    assert sorted(item.file[0] for item in made.files.values()) == ["d", "e", "k"]


def test_deep_folders_are_placed_from_any_order() -> None:
    letters = "abcdefgh"
    chain = [
        found(
            "dir",
            letter,
            9 - number,
            letter,
            parent=letters[number - 1] if number else "",
            folder=letter,
        )
        for number, letter in enumerate(letters)
    ]
    made = placed(*chain[::-1], found("file", "z", 1, "x", parent="h"))
    assert list(made.files) == ["a/b/c/d/e/f/g/h/x"]


def test_parts_have_no_path() -> None:
    part = Found(
        ident("p"), Stamp(0, 0, 0, 0, 0), Record("part", "", 1, size=1, part_of=(ident("a"), 1))
    )
    made = placed(found("file", "a", 1, "x"), part)
    assert made.parts == {ident("p"): part}
    assert ids(made.files) == {"x": "a"}


# -- nothing lost ---------------------------------------------------------------------------


def test_files_of_one_name_from_two_lost_folders_are_both_kept(vault: Vault, root: Path) -> None:
    (root / "new").write_text("x")
    for folder in ("a", "c"):  # of a/one and c/one
        object_of(vault, folder).unlink()
    vault.close()
    unseal(root)
    opened = [path.read_text() for path in root.rglob("one") if path.is_file()]
    sealed = [item for item in objects_left(root) if item.record.path == "one"]
    assert len(set(opened)) + len(sealed) == 2


def objects_left(root: Path) -> list[Found]:
    with Vault.load(str(root)) as vault:
        vault.unlock(keys().identities(""))
        made = read_catalog(vault, 1)
    return [*made.files.values(), *made.superseded]


def test_parts_whose_first_object_is_lost_are_told_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plan", "sealing"):
        monkeypatch.setattr(f"encvault.vault.{name}.PART_SIZE", 600_000)
    root = tmp_path / "big"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(1_500_000))
    seal(root, hide_names=True)
    with Vault.load(str(root)) as vault:
        vault.unlock(keys().identities(""))
        found = read_catalog(vault, 1).files["big"]
        first = path_of(vault, found.file)
        parts = [path_of(vault, part) for part in found.record.parts]
    held = first.read_bytes()
    first.unlink()
    told = operations.verify(str(root), keys()).problems
    told_again = unseal(root).problems
    assert all(part.exists() for part in parts)
    assert told != []
    assert told_again != []
    first.parent.mkdir(exist_ok=True)
    first.write_bytes(held)  # from a backup
    assert unseal(root).problems == []
    assert (root / "big").stat().st_size == 1_500_000


def test_an_object_cannot_make_the_target_a_vault_of_its_own(tmp_path: Path) -> None:
    root, out = tmp_path / "docs", tmp_path / "out"
    root.mkdir()
    (root / "one").write_text("content")
    seal(root, hide_names=True)
    with Vault.load(str(root)) as vault:  # no key is needed to add objects
        key_id, key = vault.new_data_key()
        for name, kind in ((".Encvault", "dir"), ("planted", "file")):
            file = new_id()
            folder = new_id() if kind == "dir" else None
            record = Record(kind, name, 1, parent="", folder=folder, size=0, mode=0o755, mtime_ns=1)  # type: ignore[arg-type]
            encoded = record.encode()
            info = VaultKeyInfo(file, key_id, vault.record.id)
            header = Header(vault.record.suite, len(encoded), info).encode()
            vault.tree.make_folders(object_folder(file))
            sealed = encode_sealed(vault.record.suite, key, header, encoded, b"")
            (root / object_path(file)).write_bytes(sealed)
    report = unseal(root, to=str(out))
    assert [type(one) for one in report.problems] == [UnsafePath]
    assert sorted(os.listdir(out)) == ["one", "planted"]
