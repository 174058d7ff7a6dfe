"""Mode, times, owner and extended attributes: kept where possible, told where not."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, in_child

from encvault.envelope import Record
from encvault.errors import Unreadable
from encvault.fs.tree import Tree
from encvault.vault import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHEN = 1_600_000_000_123_456_789
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def record(**members: Any) -> Record:
    return Record("file", "f", 1, **members)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT, 0o600)
    yield handle
    os.close(handle)


def refuse(number: int) -> Any:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


# -- reading --------------------------------------------------------------------------------


def test_the_users_attributes_are_read_in_order_and_the_systems_are_not(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.setxattr(fd, "user.b", b"\0\xff")
    os.setxattr(fd, "user.a", b"")
    assert attributes.read_xattrs(fd, "f") == (("user.a", b""), ("user.b", b"\0\xff"))
    acl = "system.posix_acl_access"
    names = ["security.selinux", "trusted.x", acl, "user.a"]
    monkeypatch.setattr(os, "listxattr", lambda _fd: names)
    monkeypatch.setattr(os, "getxattr", lambda _fd, name: name.encode())
    assert attributes.read_xattrs(fd, "f") == ((acl, acl.encode()), ("user.a", b"user.a"))


def test_where_there_are_no_attributes_there_are_none(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.setxattr(fd, "user.a", b"x")
    monkeypatch.setattr(os, "getxattr", refuse(errno.ENODATA))  # it is removed just now
    assert attributes.read_xattrs(fd, "f") == ()
    monkeypatch.setattr(os, "listxattr", refuse(errno.ENOTSUP))
    assert attributes.read_xattrs(fd, "f") == ()
    monkeypatch.delattr(os, "listxattr")
    assert attributes.read_xattrs(fd, "f") == ()


@pytest.mark.parametrize("call", ["listxattr", "getxattr"])
def test_attributes_that_cannot_be_read_keep_the_file_from_being_sealed(
    fd: int, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    os.setxattr(fd, "user.a", b"x")
    monkeypatch.setattr(os, call, refuse(errno.EIO))
    with pytest.raises(Unreadable, match=r"^the/file: cannot be read: "):
        attributes.read_xattrs(fd, "the/file")


def test_more_than_the_format_allows_is_not_left_out_without_a_word(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _fd: ["user.a", "user.b"])
    monkeypatch.setattr(os, "getxattr", lambda _fd, _name: bytes(32_768))
    assert len(attributes.read_xattrs(fd, "f")) == 2
    monkeypatch.setattr(os, "getxattr", lambda _fd, _name: bytes(32_769))
    with pytest.raises(Unreadable) as caught:
        attributes.read_xattrs(fd, "f")
    assert caught.value.reason == "more than 64 KiB of extended attributes"


# -- restoring ------------------------------------------------------------------------------


def test_everything_comes_back(fd: int) -> None:
    lost = attributes.restore(
        fd, record(mode=0o640, mtime_ns=WHEN, xattrs=(("user.note", b"\0\xff"),))
    )
    status = os.fstat(fd)
    assert lost == []
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o640, WHEN)
    assert os.getxattr(fd, "user.note") == b"\0\xff"


def test_a_time_before_1970_comes_back(fd: int) -> None:
    assert attributes.restore(fd, record(mtime_ns=-1_500_000_000)) == []
    assert os.fstat(fd).st_mtime_ns == -1_500_000_000


def test_a_record_that_says_nothing_changes_nothing(fd: int) -> None:
    before = os.fstat(fd)
    assert attributes.restore(fd, record()) == []
    after = os.fstat(fd)
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@root_only
def test_root_gives_files_back_to_their_owner(fd: int) -> None:
    assert attributes.restore(fd, record(owner=(1234, 5678), mode=0o4755)) == []
    status = os.fstat(fd)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 5678, 0o4755)


def test_an_ordinary_user_keeps_what_is_opened(public_path: Path) -> None:
    def work() -> tuple[list[str], int]:
        with (public_path / "f").open("wb") as file:
            lost = attributes.restore(file.fileno(), record(owner=(0, 0), mode=0o600))
            return lost, os.fstat(file.fileno()).st_uid

    lost, owner = in_child(work, uid=NOBODY)
    assert lost == []
    assert owner != 0


def test_no_set_uid_for_an_owner_that_could_not_be_set(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes, "IS_PRIVILEGED", True)
    monkeypatch.setattr(os, "fchown", refuse(errno.EPERM))
    assert attributes.restore(fd, record(owner=(1, 1), mode=0o6755)) == ["owner"]
    assert os.fstat(fd).st_mode & 0o7777 == 0o755
    assert attributes.restore(fd, record(owner=(1, 1))) == ["owner"]


def test_what_a_file_system_cannot_keep_is_told(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = record(mode=0o640, mtime_ns=WHEN, xattrs=(("user.a", b""),))
    with monkeypatch.context() as patch:
        for name in ("setxattr", "fchmod", "utime"):
            patch.setattr(os, name, refuse(errno.ENOTSUP))
        assert attributes.restore(fd, wanted) == ["xattr user.a", "mode", "mtime"]
    monkeypatch.setattr(os, "fchmod", lambda *_arguments: None)  # FAT accepts, and ignores
    assert attributes.restore(fd, record(mode=0o640)) == ["mode"]
    monkeypatch.delattr(os, "setxattr")
    assert attributes.restore(fd, record(xattrs=(("user.a", b""),))) == ["xattr user.a"]


def test_a_link_has_a_time_and_an_owner_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "target").touch()
    target = (tmp_path / "target").stat()
    (tmp_path / "link").symlink_to("target")
    owner = (1234, 5678) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    with Tree(str(tmp_path)) as tree:
        wanted = record(mtime_ns=WHEN, owner=owner)
        assert attributes.restore_symlink(tree.fd, "link", wanted) == []
        status = (tmp_path / "link").lstat()
        assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (*owner, WHEN)
        after = (tmp_path / "target").stat()
        assert (after.st_uid, after.st_mtime_ns) == (target.st_uid, target.st_mtime_ns)
        assert attributes.restore_symlink(tree.fd, "link", record()) == []
        monkeypatch.setattr(attributes, "IS_PRIVILEGED", True)
        monkeypatch.setattr(os, "chown", refuse(errno.EPERM))
        monkeypatch.setattr(os, "utime", refuse(errno.ENOTSUP))
        assert attributes.restore_symlink(tree.fd, "link", wanted) == ["owner", "mtime"]


# -- sealed copies --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o4711])
def test_a_sealed_copy_is_as_readable_as_its_original_and_never_set_uid(
    fd: int, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "source").touch()
    (tmp_path / "source").chmod(mode)
    attributes.keep_access(fd, (tmp_path / "source").stat())
    assert os.fstat(fd).st_mode & 0o7777 == mode & 0o777


@root_only
def test_a_sealed_copy_made_by_root_belongs_to_the_originals_owner(fd: int, tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    os.chown(tmp_path / "source", 1234, 5678)
    attributes.keep_access(fd, (tmp_path / "source").stat())
    assert (os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (1234, 5678)


def test_a_file_system_without_modes_is_forgiven(
    fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchmod", refuse(errno.EPERM))
    attributes.keep_access(fd, tmp_path.stat())
    assert os.fstat(fd).st_mode & 0o777 == 0o600


# -- records of someone else ----------------------------------------------------------------


@root_only
@pytest.mark.parametrize("owner", [(1 << 40, 0), (0, 1 << 40), ((1 << 63) - 1, 5)])
def test_an_owner_that_no_system_has_is_told(
    fd: int, tmp_path: Path, owner: tuple[int, int]
) -> None:
    assert "owner" in attributes.restore(fd, record(owner=owner, mode=0o4755))
    assert os.fstat(fd).st_mode & 0o7000 == 0
    (tmp_path / "link").symlink_to("f")
    with Tree(str(tmp_path)) as tree:
        assert attributes.restore_symlink(tree.fd, "link", record(owner=owner)) == ["owner"]


@pytest.mark.parametrize("name", ["user.a\0b", "", "user." + "x" * 300])
def test_an_attribute_name_that_no_system_has_is_told(fd: int, name: str) -> None:
    assert attributes.restore(fd, record(xattrs=((name, b""),))) == ["xattr " + name]


@pytest.mark.parametrize("name", ["security.capability", "trusted.overlay.opaque"])
def test_only_the_users_attributes_are_restored(
    fd: int, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A capability is a way to root; `read_xattrs` never takes one along."""
    tried: list[str] = []
    monkeypatch.setattr(os, "setxattr", lambda _fd, what, _value: tried.append(what))
    lost = attributes.restore(fd, record(xattrs=(("user.a", b""), (name, b"x"))))
    assert tried == ["user.a"]
    assert lost == ["xattr " + name]
