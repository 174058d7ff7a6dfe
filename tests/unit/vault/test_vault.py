"""A vault as an object: found, made, loaded, held, unlocked and closed."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, RECIPIENT, SEED, in_child, keys, seal

from encvault import operations
from encvault.crypto.suite import Suite
from encvault.envelope import Header, InlineKeyInfo, VaultKeyInfo
from encvault.errors import (
    AlreadyAVault,
    CannotCreate,
    ForeignFile,
    HeaderTampered,
    InputOutputError,
    KeyRequired,
    NoMatchingKeyslot,
    NotAVault,
    SealedAlone,
    SourceMissing,
    UnknownDataKey,
    VaultBusy,
)
from encvault.keyslots import KeyIdentity
from encvault.secret import Secret
from encvault.vault.vault import Vault, find_vault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = "a" * 26
STRANGER = KeyIdentity(Secret(bytes(32)))
OWNER = KeyIdentity(Secret(SEED))

GROUP = 4242  # of nobody


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault.create(str(tmp_path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="hidden") as made:
        yield made


def test_a_vault_is_found_from_anywhere_inside(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for inside in ("", "a", "a/b", "a/b/not there"):
        assert find_vault(str(tmp_path / inside)) == str(tmp_path)
    assert find_vault(str(tmp_path.parent)) is None
    (tmp_path / ".encvault/vault.a.json").unlink()
    assert find_vault(str(tmp_path / "a")) == str(tmp_path)
    (tmp_path / ".encvault/vault.b.json").unlink()
    assert find_vault(str(tmp_path / "a")) is None


def test_the_inner_vault_counts(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Vault.create(str(tmp_path / "a"), [RECIPIENT], suite=Suite.SM4_GCM, layout="visible").close()
    assert find_vault(str(tmp_path / "a" / "b")) == str(tmp_path / "a")


def test_a_new_vault_opens_with_its_recipients_key_only(vault: Vault, tmp_path: Path) -> None:
    with Vault.load(str(tmp_path)) as again:
        assert again.record == vault.record
        assert again.hidden
        assert again.path == str(tmp_path)
        assert not again.is_unlocked
        with pytest.raises(NoMatchingKeyslot):
            again.unlock([STRANGER])
        assert not again.is_unlocked
        again.unlock([STRANGER, OWNER])
        assert again.is_unlocked


def test_a_vault_needs_a_recipient_and_a_folder_that_is_none_yet(
    vault: Vault, tmp_path: Path
) -> None:
    options = {"suite": Suite.AES_256_GCM, "layout": "visible"}
    before = (tmp_path / ".encvault/vault.a.json").read_bytes()
    with pytest.raises(AlreadyAVault):
        Vault.create(str(tmp_path), [RECIPIENT], **options)  # type: ignore[arg-type]
    (tmp_path / ".encvault/vault.a.json").rename(tmp_path / "moved")
    with pytest.raises(AlreadyAVault):
        Vault.create(str(tmp_path), [RECIPIENT], **options)  # type: ignore[arg-type]
    assert (tmp_path / "moved").read_bytes() == before
    with pytest.raises(KeyRequired):
        Vault.create(str(tmp_path), [], **options)  # type: ignore[arg-type]
    with pytest.raises(SourceMissing):
        Vault.create(str(tmp_path / "missing"), [RECIPIENT], **options)  # type: ignore[arg-type]


def test_a_vault_that_cannot_be_made_or_loaded_is_a_named_error(public_path: Path) -> None:
    def work() -> str:
        with pytest.raises(CannotCreate) as caught:
            Vault.create(str(public_path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible")
        return str(caught.value)

    public_path.chmod(0o555)
    assert "Permission denied" in in_child(work, uid=NOBODY)
    assert list(public_path.iterdir()) == []


def test_a_file_where_the_vaults_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".encvault").write_text("precious")
    with pytest.raises(InputOutputError):
        Vault.create(str(tmp_path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible")
    assert (tmp_path / ".encvault").read_text() == "precious"
    with pytest.raises(NotAVault):
        Vault.load(str(tmp_path))


def test_what_is_no_vault_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotAVault):
        Vault.load(str(tmp_path))
    with pytest.raises(SourceMissing):
        Vault.load(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(InputOutputError):
        Vault.load(str(tmp_path / "file"))


def test_one_run_holds_a_vault_and_readers_share_it(vault: Vault, tmp_path: Path) -> None:
    vault.hold()
    vault.hold()  # again is nothing new
    with Vault.load(str(tmp_path)) as other:
        for reading in (True, False):
            with pytest.raises(VaultBusy):
                other.hold(reading=reading)
        vault.close()
        other.hold(reading=True)
        with Vault.load(str(tmp_path)) as third:
            third.hold(reading=True)
            assert not third.was_interrupted


def header(suite: Suite = Suite.AES_256_GCM, **changes: str) -> Header:
    return Header(suite, 256, VaultKeyInfo(**{"file": ID, "key": ID, "vault": ID} | changes))


def test_keys_are_given_for_files_of_this_vault_only(vault: Vault, tmp_path: Path) -> None:
    key_id, key = vault.new_data_key()
    own = {"vault": vault.record.id, "key": key_id}
    assert vault.key_for(header(**own), "x") == key
    assert vault.key_for(header(**own), "x") is vault.key_for(header(**own), "y")
    with pytest.raises(ForeignFile) as caught:
        vault.key_for(header(), "x")
    assert caught.value.vault == ID
    inline = Header(Suite.AES_256_GCM, 256, InlineKeyInfo(ID, ({"id": "x"},)))
    with pytest.raises(ForeignFile):
        vault.key_for(inline, "x")
    with pytest.raises(UnknownDataKey):
        vault.key_for(header(vault=vault.record.id), "x")
    # a key serves one suite: a header that names the other one was exchanged
    with pytest.raises(HeaderTampered):
        vault.key_for(header(Suite.SM4_GCM, **own), "x")
    with Vault.load(str(tmp_path)) as locked, pytest.raises(KeyRequired):
        locked.key_for(header(**own), "x")


def test_a_file_on_its_own_in_a_visible_vault_is_no_foreigner(tmp_path: Path) -> None:
    inline = Header(Suite.AES_256_GCM, 256, InlineKeyInfo(ID, ({"id": "x"},)))
    with (
        Vault.create(
            str(tmp_path), [RECIPIENT], suite=Suite.AES_256_GCM, layout="visible"
        ) as visible,
        pytest.raises(SealedAlone) as caught,
    ):
        visible.key_for(inline, "x")
    assert caught.value.exit_code == 3  # left as it is, and no damage


def test_closing_wipes_every_key(vault: Vault) -> None:
    key_id, _key = vault.new_data_key()
    held = vault.key_for(header(vault=vault.record.id, key=key_id), "x")
    assert held
    vault.close()
    assert not held


def test_a_vault_to_plan_for_is_nowhere_on_disk(tmp_path: Path) -> None:
    with Vault.imagine(str(tmp_path), suite=Suite.SM4_GCM, layout="visible") as imagined:
        assert not imagined.hidden
        assert not imagined.was_interrupted
    assert list(tmp_path.iterdir()) == []


def test_a_moved_vault_is_the_same_vault(tmp_path: Path) -> None:
    root = tmp_path / "one"
    root.mkdir()
    (root / "file").write_text("content")
    seal(root)
    os.rename(root, tmp_path / "two")
    with Vault.load(str(tmp_path / "two")) as vault:
        vault.unlock(keys().identities(""))
        assert vault.is_unlocked


@pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
@pytest.mark.parametrize("mode", [0o755, 0o700, 0o2775, 0o1777])
def test_a_vaults_own_files_are_as_open_as_its_folder(
    public_path: Path, mode: int, *, hidden: bool
) -> None:
    folder = public_path / "docs"
    folder.mkdir()
    (folder / "one").write_text("one")
    folder.chmod(mode)
    os.chown(folder, NOBODY, NOBODY)

    def as_root_and_for_nobody_else() -> None:
        os.umask(0o077)
        seal(folder, hide_names=hidden)
        (folder / "two").write_text("two")
        (folder / "two").chmod(0o644)  # a sealed file has the mode of its original
        seal(folder)
        operations.rekey(str(folder), keys())

    in_child(as_root_and_for_nobody_else)
    for path in (folder / ".encvault").rglob("*"):
        if path.parent.parent.name == "objects":
            continue  # an object has the mode of its original
        status = path.stat()
        # who may write to the folder takes the lock, and replaces the others
        wanted = mode if path.is_dir() else mode & (0o666 if path.name == "lock" else 0o644)
        assert (path.name, stat.S_IMODE(status.st_mode)) == (path.name, wanted)
        assert (path.name, status.st_uid) == (path.name, NOBODY)
    listed = in_child(lambda: operations.list_files(str(folder), keys()), uid=NOBODY)
    assert (len(listed[0]), listed[1]) == (2, [])


def test_who_may_by_an_access_list_may_with_the_vaults_own_files(public_path: Path) -> None:
    """The bits of the group are the list's mask then, and the group itself may nothing."""
    folder = public_path / "docs"
    folder.mkdir()
    (folder / "one").write_text("one")
    entries = [(1, 7, -1), (2, 7, NOBODY), (4, 0, -1), (16, 7, -1), (32, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, who & 0xFFFFFFFF) for tag, bits, who in entries
    )
    os.setxattr(folder, "system.posix_acl_access", access)
    os.chown(folder, 0, GROUP)
    seal(folder)
    (folder / "one.sealed").chmod(0o644)
    own = [folder / ".encvault", *(folder / ".encvault").rglob("*")]
    for path in own:
        if path.is_dir():
            assert os.getxattr(path, "system.posix_acl_access") == access
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007

    def look() -> tuple[int, list[object]]:
        found, problems = operations.list_files(str(folder), keys())
        return len(found), list(map(str, problems))

    assert in_child(look, uid=NOBODY) == (1, [])

    def stranger() -> str:
        os.setgroups([])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(GROUP, GROUP, GROUP)
        try:
            return str(os.listdir(folder / ".encvault"))
        except PermissionError:
            return "refused"

    assert in_child(stranger) == "refused"
