"""Folders that opening makes: nobody looks into them who could not before."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, in_child, keys, seal, unseal

from encvault import operations
from encvault.envelope import Record
from encvault.errors import CannotRemove, LostVault, NotAVault, SealedBelow
from encvault.vault import attributes, inspect, layout
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another user")
OTHER = 4242

# linux/posix_acl_xattr.h: version 2; then tag, permissions and id of each entry
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER, _NO_ID = 1, 2, 4, 16, 32, 0xFFFFFFFF


def access_list(user: int, permissions: int) -> bytes:
    entries = [
        (_USER_OBJ, 7, _NO_ID),
        (_USER, permissions, user),
        (_GROUP_OBJ, 5, _NO_ID),
        (_MASK, 7, _NO_ID),
        (_OTHER, 0, _NO_ID),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder with a private one in it."""
    docs = tmp_path / "docs"
    (docs / "private" / "deep").mkdir(parents=True)
    (docs / "private" / "deep" / "secret").write_text("secret")
    (docs / "private" / "other").write_text("other")
    (docs / "private").chmod(0o700)
    (docs / "private" / "deep").chmod(0o750)
    return docs


def test_one_file_of_a_private_folder_opens_it_to_nobody(private: Path) -> None:
    seal(private, hide_names=True)
    operations.open_paths(
        operations.OpenRequest((str(private / "private" / "deep" / "secret"),)), keys()
    )
    assert (private / "private" / "deep" / "secret").read_text() == "secret"
    assert not (private / "private" / "other").exists()
    assert mode(private / "private") == 0o700
    assert mode(private / "private" / "deep") == 0o750


class _Interrupted(Exception):
    pass


class _Breaking(Observer):
    def before_release(self, _events: object) -> None:
        raise _Interrupted


def test_what_breaks_off_leaves_no_folder_closed(private: Path) -> None:
    (private / "private").chmod(0o2775)
    seal(private, hide_names=True)
    with pytest.raises(_Interrupted):
        unseal(private, _Breaking())
    assert mode(private / "private") == 0o2775


@LAYOUTS
def test_the_target_is_closed_until_the_end(private: Path, tmp_path: Path, *, hidden: bool) -> None:
    seal(private, hide_names=hidden)
    seen: list[int] = []

    class Looking(Observer):
        def before_release(self, _events: object) -> None:
            seen.extend(mode(path) for path in (tmp_path / "a" / "out", tmp_path / "whole"))

    (tmp_path / "whole").mkdir(mode=0o755)
    request = operations.OpenRequest((str(private / "private"),), to=str(tmp_path / "a" / "out"))
    operations.open_paths(request, keys(), Looking())
    assert set(seen) == {0o700, 0o755}  # one that was there is left as it is
    assert mode(tmp_path / "a" / "out") == 0o700
    assert mode(tmp_path / "a") == 0o777 & ~_umask()
    unseal(private, to=str(tmp_path / "new"))
    assert mode(tmp_path / "new") == 0o777 & ~_umask()


@LAYOUTS
def test_a_target_for_a_whole_vault_is_as_any_new_folder_however_it_ends(
    private: Path, tmp_path: Path, *, hidden: bool
) -> None:
    """A killed run would leave it closed, and the one after that could not know it."""
    seal(private, hide_names=hidden)
    out = tmp_path / "out"
    with pytest.raises(_Interrupted):
        unseal(private, _Breaking(), to=str(out))
    assert mode(out) == 0o777 & ~_umask()
    assert mode(out / "private") == 0o700
    seen: list[int] = []

    class Looking(Observer):
        def before_release(self, _events: object) -> None:
            seen.append(mode(tmp_path / "other"))

    unseal(private, Looking(), to=str(tmp_path / "other"))
    assert set(seen) == {0o777 & ~_umask()}


@NEEDS_ROOT
def test_nothing_above_a_target_that_is_there_need_be_readable(
    private: Path, public_path: Path
) -> None:
    seal(private)
    home = public_path / "homes" / "me"
    home.mkdir(parents=True)
    os.chown(home, NOBODY, NOBODY)
    home.parent.chmod(0o711)
    vault = public_path / "vault"
    private.rename(vault)
    vault.chmod(0o755)
    for path in vault.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)

    def work() -> list[object]:
        return list(map(repr, unseal(vault, to=str(home)).problems))

    assert in_child(work, uid=NOBODY) == []
    assert (home / "private" / "deep" / "secret").read_text() == "secret"


@LAYOUTS
def test_a_target_for_a_private_folder_stays_closed_if_it_is_broken_off(
    private: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(private, hide_names=hidden)
    out = tmp_path / "out"
    request = operations.OpenRequest((str(private / "private"),), to=str(out))
    with pytest.raises(_Interrupted):
        operations.open_paths(request, keys(), _Breaking())
    assert mode(out) == 0o700
    operations.open_paths(request, keys())
    assert mode(out) == 0o700


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_an_archive_is_unpacked_into_closed_folders(private: Path, tmp_path: Path) -> None:
    archive, out = tmp_path / "a.sealed", tmp_path / "out"
    seal(private, archive=str(archive))
    seen: list[int] = []

    class Looking(Observer):
        def before_release(self, _events: object) -> None:
            seen.extend(
                mode(path) for path in out.rglob("*") if path.is_dir() and path.parent != out
            )

    operations.open_paths(operations.OpenRequest((str(archive),), to=str(out)), keys(), Looking())
    assert set(seen) == {0o700}
    assert mode(out / "private") == 0o700
    assert mode(out / "private" / "deep") == 0o750


@LAYOUTS
@pytest.mark.parametrize("in_place", [True, False])
def test_no_access_list_is_inherited(tmp_path: Path, *, hidden: bool, in_place: bool) -> None:
    docs = tmp_path / "docs"
    (docs / "hr").mkdir(parents=True)
    (docs / "hr" / "salary").write_text("1")
    (docs / "salary").write_text("1")
    for path in (docs / "salary", docs / "hr" / "salary"):
        path.chmod(0o640)
    (docs / "hr").chmod(0o750)
    os.setxattr(docs, "system.posix_acl_default", access_list(OTHER, 7))
    seal(docs, hide_names=hidden)
    out = docs
    if not in_place:
        out = tmp_path / "out"
        out.mkdir()
        os.setxattr(out, "system.posix_acl_default", access_list(OTHER, 7))
    unseal(docs, to=None if in_place else str(out))
    concerned = [out / "salary", out / "hr" / "salary"]
    concerned += [out / "hr"] if hidden or not in_place else []
    for path in concerned:
        assert not [name for name in os.listxattr(path) if "posix_acl" in name], path
    assert (mode(out / "salary"), mode(out / "hr")) == (0o640, 0o750)


def test_access_lists_that_cannot_be_listed_go_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "salary"
    path.touch(0o640)
    os.setxattr(path, "system.posix_acl_access", access_list(OTHER, 7))

    def refuse(_fd: int) -> list[str]:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    with path.open() as file, monkeypatch.context() as patched:
        patched.setattr(os, "listxattr", refuse)
        attributes.shed_inherited(file.fileno(), Record("file", "salary", 1))
    assert os.listxattr(path) == []


@NEEDS_ROOT
@LAYOUTS
def test_what_root_seals_its_owner_opens(public_path: Path, *, hidden: bool) -> None:
    docs = public_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "sub" / "file").write_text("content")
    (docs / "link").symlink_to("sub/file")
    for path in (docs, docs / "sub", docs / "sub" / "file"):
        os.chown(path, NOBODY, NOBODY)
    docs.chmod(0o700)
    seal(docs, hide_names=hidden)

    def work() -> tuple[list[object], str]:
        report = unseal(docs)
        return list(map(repr, report.problems)), (docs / "link").read_text()

    assert in_child(work, uid=NOBODY) == ([], "content")


@NEEDS_ROOT
def test_a_folder_of_a_colleague_keeps_no_file_from_being_opened(public_path: Path) -> None:
    docs = public_path / "docs"
    (docs / "d").mkdir(parents=True)
    (docs / "d" / "file").write_text("content")
    for path in (docs, docs / "d"):
        path.chmod(0o777)  # its times are still its owner's
    seal(docs)

    def work() -> list[object]:
        return list(map(repr, unseal(docs).problems))

    for path in docs.rglob("*"):
        path.chmod(0o777)
    assert in_child(work, uid=NOBODY) == []


@NEEDS_ROOT
def test_what_cannot_be_removed_is_told_as_that(public_path: Path) -> None:
    """In a sticky folder each may remove his own files only."""
    docs = public_path / "docs"
    docs.mkdir()
    (docs / "file").write_text("content")
    docs.chmod(0o1777)

    def work() -> list[object]:
        return [type(one) for one in seal(docs).problems]

    assert in_child(work, uid=NOBODY) == [CannotRemove]
    assert sorted(path.name for path in docs.glob("f*")) == ["file", "file.sealed"]


def test_who_opens_what_has_lost_its_keys_is_told_so(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "d").mkdir(parents=True)
    for name in ("file", "other"):
        (docs / "d" / name).write_text("content")
    seal(docs)
    (docs / ".encvault").rename(tmp_path / "tidied")
    with pytest.raises(LostVault) as caught:
        unseal(docs)
    assert caught.value.fields()["file"] == "d/file.sealed"
    with pytest.raises(LostVault):
        operations.status(str(docs))
    (docs / "d" / "file.sealed").rename(docs / "file.sealed")
    (docs / "plain").write_text("of another time")
    with pytest.raises(LostVault):
        unseal(docs)
    for path in docs.rglob("*.sealed"):
        path.unlink()
    with pytest.raises(NotAVault) as told:
        unseal(docs)
    assert type(told.value) is NotAVault


@pytest.mark.parametrize("beside", [(), ("a", "Downloads/b"), ("Pictures/a", "Pictures/b")])
def test_a_sealed_file_that_was_copied_makes_no_vault_of_a_home(
    tmp_path: Path, beside: tuple[str, ...]
) -> None:
    other, home = tmp_path / "other", tmp_path / "home"
    other.mkdir()
    (other / "q").write_text("content")
    seal(other)
    for name in ("Downloads/x", *beside):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("content")
    (home / "Downloads" / "x").unlink()
    shutil.copy(other / "q.sealed", home / "Downloads")
    for look in (operations.status, unseal):
        with pytest.raises(SealedBelow) as caught:
            look(home) if look is unseal else look(str(home))
        assert isinstance(caught.value, NotAVault)
        assert "Downloads/q.sealed in it was sealed in a vault" in str(caught.value)
    with pytest.raises(LostVault) as lost:  # which would seal it once more
        seal(home)
    assert "nothing else" not in str(lost.value.hint)
    assert "if that vault lies elsewhere, put the file back there" in str(lost.value.hint)


def test_a_look_for_a_lost_vault_reads_so_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for name in range(20):
            (tmp_path / str(folder) / f"{name}.sealed").write_text("called so")
    read: list[str] = []

    def peek(*place: Any) -> Any:
        read.append(place[2])
        return layout.peek(*place)

    monkeypatch.setattr(inspect, "peek", peek)
    with pytest.raises(NotAVault):
        operations.status(str(tmp_path))
    assert len(read) == 100
    monkeypatch.setattr(inspect, "_MOST_NAMES", 60)  # 20 of them are of the folders
    read.clear()
    with pytest.raises(NotAVault):
        operations.status(str(tmp_path))
    assert 20 <= len(read) <= 40
