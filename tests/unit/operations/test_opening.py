"""Opening: parts of vaults, single files to any name, content to a stream."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import everything, keys, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.errors import (
    ChunkCorrupt,
    DestinationExists,
    EncvaultError,
    InvalidRequest,
    NoMatchingKeyslot,
    NotAVault,
    NotSealed,
    SourceMissing,
    SwappedFile,
    VaultBusy,
)
from encvault.keyslots import KeyIdentity
from encvault.secret import Secret
from encvault.vault import plan, sealing
from encvault.vault.report import Event, Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root)
    return root


def cat(path: Path | str, observer: Observer | None = None) -> bytes:
    return b"".join(map(bytes, operations.cat(str(path), keys(), observer)))


class Log(Observer):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def before_release(self, events: Sequence[Event]) -> None:
        self.events += events


class Refuser(Observer):
    def before_release(self, events: Sequence[Event]) -> None:
        raise VaultBusy(path="log", holder="test")


# -- requests -------------------------------------------------------------------------------


def test_requests_that_make_no_sense_change_nothing(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    before = everything(tmp_path)
    for request in (
        operations.OpenRequest(paths=("a", "b"), output="x"),
        operations.OpenRequest(paths=(str(tree),), output="x", to="y"),
        operations.OpenRequest(paths=(str(tree),), to=str(tree)),
        operations.OpenRequest(paths=(str(tree),), to=str(tree / "src")),
        operations.OpenRequest(paths=(str(tree / "src"),), to=str(tree / "hollow")),
    ):
        with pytest.raises(InvalidRequest) as caught:
            operations.open_paths(request, keys())
        assert caught.value.exit_code == 2
    assert everything(tmp_path) == before


def test_a_target_inside_by_way_of_a_link_is_refused(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    (tmp_path / "link").symlink_to(tree / "src")
    before = everything(tmp_path)
    with pytest.raises(InvalidRequest):
        unseal(tree, to=str(tmp_path / "link"))
    assert everything(tmp_path) == before


def test_what_is_not_there_or_not_sealed(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAVault):
        unseal(tree)
    with pytest.raises(NotSealed):
        unseal(tree / "empty")
    with pytest.raises(SourceMissing):
        unseal(tree / "missing")
    seal(tree)
    with pytest.raises(SourceMissing):
        unseal(tree / "missing")
    (tree / "plain").write_text("x")
    with pytest.raises(NotSealed):
        unseal(tree / "plain")
    (tree / "hollow2").mkdir()
    assert unseal(tree / "hollow2").files == 0
    assert (tree / "plain").read_text() == "x"


@LAYOUTS
def test_a_wrong_key_opens_nothing(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    before = everything(tmp_path)
    stranger = operations.Answers(identities_given=(KeyIdentity(Secret(bytes(32))),))
    for action in (
        lambda: operations.open_paths(operations.OpenRequest(paths=(str(tree),)), stranger),
        lambda: operations.verify(str(tree), stranger),
        lambda: list(operations.cat(str(tree / "empty"), stranger)),
    ):
        with pytest.raises(NoMatchingKeyslot):
            action()
    assert everything(tmp_path) == before


# -- parts of a vault -----------------------------------------------------------------------


@LAYOUTS
def test_one_folder_in_place_leaves_the_rest_sealed(tree: Path, *, hidden: bool) -> None:
    before = snapshot(tree, times=False)
    seal(tree, hide_names=hidden)
    report = unseal(tree / "src" / "deep")
    assert (report.files, report.problems) == (1, [])
    plain = {path for path in snapshot(tree) if not path.endswith(".sealed")}
    assert {path for path in plain if (tree / path).is_file()} == {"src/deep/er/main.py"}
    assert operations.verify(str(tree), keys()).problems == []
    assert unseal(tree).problems == []
    assert snapshot(tree, times=False) == before


@LAYOUTS
def test_a_folder_opened_elsewhere_holds_what_the_folder_held(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    before = snapshot(tree / "src")
    seal(tree, hide_names=hidden)
    sealed = everything(tree)
    unseal(tree / "src", to=str(tmp_path / "out" / "new"))
    assert snapshot(tmp_path / "out" / "new") == before
    after = everything(tree)
    for path, facts in sealed.items():
        if path != ".encvault/lock":
            assert after[path][3] == facts[3]


def test_a_sealed_name_may_be_given_as_well(tree: Path, tmp_path: Path) -> None:
    content = (tree / "src" / "run.sh").read_bytes()
    seal(tree)
    assert cat(tree / "src" / "run.sh.sealed") == content
    unseal(tree / "src" / "run.sh.sealed", to=str(tmp_path / "out"))
    assert (tmp_path / "out" / "run.sh").read_bytes() == content
    unseal(tree / "src" / "run.sh.sealed")
    assert (tree / "src" / "run.sh").read_bytes() == content
    assert not (tree / "src" / "run.sh.sealed").exists()


@LAYOUTS
def test_keep_and_force(tree: Path, *, hidden: bool) -> None:
    before = snapshot(tree, times=False)
    seal(tree, hide_names=hidden)
    count = len([path for path in tree.rglob("*") if path.is_file()])
    assert unseal(tree, keep=True).problems == []
    assert len([path for path in tree.rglob("*") if path.is_file()]) >= count + 7
    (tree / "empty").write_text("edited")
    report = unseal(tree)
    assert [type(problem).__name__ for problem in report.problems] == ["Conflict"]
    assert (tree / "empty").read_text() == "edited"
    assert unseal(tree, force=True).problems == []
    assert snapshot(tree, times=False) == before


def test_readers_share_and_writers_exclude(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    with Vault.load(str(tree)) as vault:
        vault.hold(reading=True)
        assert unseal(tree, to=str(tmp_path / "out")).problems == []
        assert operations.verify(str(tree), keys()).problems == []
        with pytest.raises(VaultBusy):
            unseal(tree)


# -- to a file of any name ------------------------------------------------------------------


@LAYOUTS
def test_one_file_of_a_vault_to_any_name(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    content = (tree / "src" / "deep" / "er" / "main.py").read_bytes()
    seal(tree, hide_names=hidden)
    output = tmp_path / "copy"
    report = unseal(tree / "src" / "deep" / "er" / "main.py", output=str(output))
    assert (report.files, report.size) == (1, len(content))
    assert output.read_bytes() == content
    assert output.stat().st_mode & 0o777 == 0o600  # nobody else was meant to read it
    with pytest.raises(DestinationExists):
        unseal(tree / "empty", output=str(output))
    assert output.read_bytes() == content
    unseal(tree / "empty", output=str(output), force=True)
    assert output.read_bytes() == b""
    with pytest.raises(SourceMissing):
        unseal(tree / "missing", output=str(tmp_path / "never"))
    with pytest.raises(VaultBusy):
        unseal(tree / "empty", Refuser(), output=str(tmp_path / "never"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "docs"]


def test_a_damaged_file_gives_no_output(tree: Path, tmp_path: Path) -> None:
    (tree / "big").write_bytes(os.urandom(2_000_000))
    seal(tree)
    path = tree / "big.sealed"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for action in (
        lambda: unseal(tree / "big", output=str(tmp_path / "never")),
        lambda: cat(tree / "big"),
    ):
        with pytest.raises(ChunkCorrupt):
            action()
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


# -- cat ------------------------------------------------------------------------------------


@LAYOUTS
def test_cat_gives_the_content_of_any_file(tree: Path, *, hidden: bool) -> None:
    before = snapshot(tree)
    seal(tree, hide_names=hidden)
    sealed = everything(tree)
    for path, node in before.items():
        if node.kind != "dir":
            log = Log()
            assert cat(tree / path, log) == node.content
            (event,) = log.events
            assert (event.action, event.path, event.size) == ("cat", path, len(node.content))
    assert everything(tree) == sealed
    for path in ("missing", "src/missing"):
        with pytest.raises(SourceMissing):
            cat(tree / path)
    with pytest.raises(InvalidRequest, match="folder"):
        cat(tree)


@LAYOUTS
def test_cat_gives_nothing_before_the_log(tree: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    given = []
    with pytest.raises(VaultBusy):
        given.append(next(operations.cat(str(tree / "src" / "run.sh"), keys(), Refuser())))
    assert given == []


def test_cat_of_a_file_on_its_own_gives_nothing_before_the_log(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    seal(tmp_path / "f")
    log = Log()
    assert cat(tmp_path / "f.sealed", log) == b"x"
    assert [(event.action, event.size) for event in log.events] == [("cat", 1)]
    with pytest.raises(VaultBusy):
        next(operations.cat(str(tmp_path / "f.sealed"), keys(), Refuser()))
    with (tmp_path / "f.sealed").open("rb") as file, pytest.raises(VaultBusy):
        operations.open_from_stream(file.fileno(), keys(), Refuser())
    log = Log()
    with (tmp_path / "f.sealed").open("rb") as file:
        assert b"".join(map(bytes, operations.open_from_stream(file.fileno(), keys(), log))) == b"x"
    assert [(event.action, event.path) for event in log.events] == [("open", "stdin")]


def test_cat_of_what_is_in_no_vault(tree: Path) -> None:
    with pytest.raises(NotSealed):
        cat(tree / "empty")
    with pytest.raises(NotAVault):
        cat(tree)
    with pytest.raises(SourceMissing):
        cat(tree / "missing")


def test_cat_joins_the_parts_of_a_large_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 100_000)
    content = os.urandom(350_000)
    (tree / "big").write_bytes(content)
    seal(tree, hide_names=True)
    assert cat(tree / "big") == content
    unseal(tree / "big", output=str(tree.parent / "out"))
    assert (tree.parent / "out").read_bytes() == content


def test_an_object_put_in_anothers_place_is_not_given_out(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree, hide_names=True)
    with Vault.load(str(tree)) as vault:
        vault.unlock(keys().identities(""))
        files = operations.opening.read_catalog(vault, 1).files
    objects = tree / ".encvault" / "objects"
    one, two = (files[name].file for name in ("empty", "src/run.sh"))
    real = operations.opening.read_catalog

    def exchange(vault: Vault) -> Any:
        made = real(vault)
        (objects / one[:2] / one).write_bytes((objects / two[:2] / two).read_bytes())
        return made

    monkeypatch.setattr(operations.opening, "read_catalog", exchange)
    with pytest.raises(EncvaultError) as caught:
        cat(tree / "empty")
    assert caught.value.exit_code == 65


def test_a_name_that_cannot_be_read_is_not_said_to_be_missing(tree: Path) -> None:
    seal(tree, hide_names=True)
    listed, _problems = operations.list_files(str(tree), keys())
    (sealed,) = [tree / item.sealed_path for item in listed if item.path == "empty"]
    data = sealed.read_bytes()
    sealed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ChunkCorrupt) as caught:
        cat(tree / "empty")
    assert sealed.name in str(caught.value)


# -- what a path is -------------------------------------------------------------------------


def test_a_path_through_a_link_reaches_the_same_file(tree: Path, tmp_path: Path) -> None:
    content = (tree / "src" / "run.sh").read_bytes()
    seal(tree)
    (tmp_path / "link").symlink_to(tree)
    assert cat(tmp_path / "link" / "src" / "run.sh") == content
    assert cat(f"{tree}/hollow/../src/./run.sh") == content


def test_paths_relative_to_the_working_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (tree / "src" / "run.sh").read_bytes()
    monkeypatch.chdir(tree / "src")
    operations.seal(operations.SealRequest(paths=("..",)), keys())
    assert cat("run.sh") == cat("../src/run.sh") == content
    assert operations.status(".").sealed == 8
    unseal(Path("../src"))
    assert Path("run.sh").read_bytes() == content


# -- swapped files --------------------------------------------------------------------------


def swap(one: Path, two: Path) -> None:
    held = one.with_name("held")
    one.rename(held)
    two.rename(one)
    held.rename(two)


def test_a_swapped_file_is_not_given_out(tree: Path, tmp_path: Path) -> None:
    # docs/format.md section 6.1: a reader MUST refuse a swapped file
    seal(tree)
    swap(tree / "empty.sealed", tree / "src" / "run.sh.sealed")
    given = []
    with pytest.raises(SwappedFile):
        given.extend(map(bytes, operations.cat(str(tree / "empty"), keys())))
    assert given == []
    with pytest.raises(SwappedFile):
        unseal(tree / "empty", output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# -- links and long names -------------------------------------------------------------------


@LAYOUTS
def test_a_link_to_a_vault_is_the_vault(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    before = snapshot(tree)
    seal(tree, hide_names=hidden)
    link = tmp_path / "link"
    link.symlink_to(tree)
    listed, _problems = operations.list_files(str(link), keys())
    assert {item.path for item in listed if item.type != "dir"} == {
        path for path, node in before.items() if node.kind != "dir"
    }
    assert operations.verify(str(link), keys()).files >= 8
    assert unseal(link, to=str(tmp_path / "out")).files == 8
    assert snapshot(tmp_path / "out") == before
    assert unseal(link).files == 8
    assert snapshot(tree) == before


@pytest.mark.parametrize("name", ["n" * 255, "中" * 85])
def test_a_file_with_a_shortened_sealed_name_opens_by_its_plain_name(
    tree: Path, tmp_path: Path, name: str
) -> None:
    content = (tree / name).read_bytes()
    seal(tree)
    assert unseal(tree / name, to=str(tmp_path / "out")).files == 1
    assert (tmp_path / "out" / name).read_bytes() == content
    assert unseal(tree / name).files == 1
    assert (tree / name).read_bytes() == content


# -- careful outputs ------------------------------------------------------------------------


def test_a_target_inside_the_vault_is_refused_before_it_is_made(tree: Path) -> None:
    seal(tree)
    with pytest.raises(InvalidRequest):
        unseal(tree, to=str(tree / "new" / "folder"))
    assert not (tree / "new").exists()


@pytest.mark.parametrize("alone", [True, False])
def test_the_sealed_file_itself_is_no_output(tree: Path, tmp_path: Path, *, alone: bool) -> None:
    (tmp_path / "link").symlink_to(tree)
    seal(tree / "empty" if alone else tree)
    sealed = tree / "empty.sealed"
    content = sealed.read_bytes()
    (tree / "sub").mkdir()
    for output in (sealed, tree / "sub" / ".." / "empty.sealed", tmp_path / "link/empty.sealed"):
        with pytest.raises(EncvaultError):
            unseal(sealed, output=str(output), force=True)
        assert sealed.read_bytes() == content
