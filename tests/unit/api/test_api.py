"""The library does what the command line does, with the keys given."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from helpers import everything, snapshot, write_tree

import encvault
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import (
    AlreadyAVault,
    Conflict,
    CopyInVault,
    DamagedFiles,
    EmptyPassword,
    ForeignFile,
    IdentityExists,
    Incomplete,
    InvalidRequest,
    KeyRequired,
    MalformedRecipient,
    MistypedRecoveryCode,
    NotARecipient,
    NotAVault,
    NotSealed,
    SourceMissing,
    UnsafePath,
    VaultBusy,
    WrongIdentityPassword,
)
from encvault.keyslots import PasswordRecipient as CorePasswordRecipient
from encvault.vault.vault import Vault as CoreVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = CorePasswordRecipient.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "profile", CHEAPEST)  # type: ignore[arg-type]


@pytest.fixture
def line(tmp_path: Path) -> str:
    return encvault.new_identity(tmp_path / "me.key", name="赵")


@pytest.fixture
def to_me(line: str) -> list[encvault.Recipient]:
    return encvault.load_recipients(line, label="me")


@pytest.fixture
def me(line: str, tmp_path: Path) -> encvault.Identity:
    return encvault.load_identity(tmp_path / "me.key")


@pytest.fixture
def stranger(tmp_path: Path) -> encvault.Identity:
    encvault.new_identity(tmp_path / "stranger.key")
    return encvault.load_identity(tmp_path / "stranger.key")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "docs")
    return tmp_path / "docs"


# -- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed_with", ["caf\u00e9", "cafe\u0301", b"caf\xc3\xa9"])
@pytest.mark.parametrize("opened_with", ["caf\u00e9", "cafe\u0301", b"cafe\xcc\x81"])
def test_a_password_is_the_same_however_it_is_spelled(
    sealed_with: str | bytes, opened_with: str | bytes
) -> None:
    sealed = encvault.seal_bytes(b"x", [encvault.PasswordRecipient(sealed_with)])
    assert encvault.open_bytes(sealed, [encvault.PasswordIdentity(opened_with)]) == b"x"
    with pytest.raises(encvault.NoMatchingKeyslot):
        encvault.open_bytes(sealed, [encvault.PasswordIdentity("cafe")])


def test_bytes_that_are_no_text_are_a_password_too() -> None:
    sealed = encvault.seal_bytes(b"x", [encvault.PasswordRecipient(b"\xff\xfe")])
    assert encvault.open_bytes(sealed, [encvault.PasswordIdentity(b"\xff\xfe")]) == b"x"


@pytest.mark.parametrize("empty", ["", b""])
def test_an_empty_password_is_none(empty: str | bytes) -> None:
    for kind in (encvault.PasswordRecipient, encvault.PasswordIdentity):
        with pytest.raises(EmptyPassword):
            kind(empty)


def test_secrets_do_not_show(line: str, tmp_path: Path) -> None:
    for thing in (
        encvault.PasswordRecipient("hunter2"),
        encvault.PasswordIdentity("hunter2"),
        encvault.load_identity(tmp_path / "me.key"),
    ):
        assert "hunter2" not in repr(thing)
        assert "hunter2" not in repr(vars(thing))


def test_identity_files(tmp_path: Path) -> None:
    path = tmp_path / "company.key"
    line = encvault.new_identity(path, name="Example Co.", password="open sesame")
    assert (len(line), path.stat().st_mode & 0o777) == (1638, 0o600)
    with pytest.raises(IdentityExists):
        encvault.new_identity(path)
    with pytest.raises(KeyRequired):
        encvault.load_identity(path)
    with pytest.raises(WrongIdentityPassword):
        encvault.load_identity(path, password="open")
    sealed = encvault.seal_bytes(b"x", encvault.load_recipients(line))
    assert encvault.open_bytes(sealed, [encvault.load_identity(path, password=b"open sesame")])
    with pytest.raises(SourceMissing):
        encvault.load_identity(tmp_path / "missing")


def test_recipients_come_from_a_line_or_a_file(tmp_path: Path, line: str) -> None:
    other = encvault.new_identity(tmp_path / "other.key")
    (tmp_path / "team.pub").write_text(f"# the team\n{line}\n{other}\n")
    sealed = encvault.seal_bytes(b"x", encvault.load_recipients(tmp_path / "team.pub"))
    for name in ("me.key", "other.key"):
        assert encvault.open_bytes(sealed, [encvault.load_identity(tmp_path / name)]) == b"x"
    with pytest.raises(MalformedRecipient):
        encvault.load_recipients(line[:-1])


def test_a_mistyped_recovery_code_names_its_group() -> None:
    with pytest.raises(MistypedRecoveryCode) as caught:
        encvault.RecoveryIdentity("00000-00000")
    assert caught.value.fields()["group"] == 1


# -- folders and files ----------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("suite", list(encvault.Suite))
def test_a_folder_in_place_and_back(
    tree: Path,
    to_me: list[encvault.Recipient],
    me: encvault.Identity,
    suite: encvault.Suite,
    *,
    hidden: bool,
) -> None:
    before = snapshot(tree, times=False)
    report = encvault.seal_folder(tree, to_me, suite=suite, hide_names=hidden)
    assert report.problems == []
    with encvault.Vault.open(tree, [me]) as vault:
        assert (vault.suite, vault.hides_names) == (suite, hidden)
    encvault.seal_folder(str(tree)).raise_for_problems()
    encvault.open_folder(tree, [me]).raise_for_problems()
    assert snapshot(tree, times=False) == before


def test_a_mirror_forgets_what_it_is_not_told_to_remember(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    (tree / "x.tmp").touch()
    count = len([path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]) - 1
    mirror: dict[str, Any] = {"to": tmp_path / "mirror", "exclude": ["*.tmp"]}
    assert encvault.seal_folder(tree, to_me, **mirror).files == count
    with pytest.raises(encvault.ConfirmationNeeded):
        encvault.seal_folder(tree, **mirror)
    state: dict[str, Any] = {"state_dir": tmp_path / "state"}
    assert encvault.seal_folder(tree, **mirror, **state, consent=True).files == count
    (tree / "empty").unlink()
    report = encvault.seal_folder(tree, **mirror, **state, delete=True)
    assert (report.files, report.unchanged, report.removed) == (0, count - 1, 1)
    report = encvault.open_folder(tmp_path / "mirror" / "src", [me], to=tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tree / "src")


def test_an_archive_is_one_file(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me, archive=tmp_path / "docs.sealed").raise_for_problems()
    encvault.open_folder(tmp_path / "docs.sealed", [me], to=tmp_path / "out").raise_for_problems()
    assert snapshot(tmp_path / "out") == snapshot(tree)


def test_a_file_on_its_own(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    before = snapshot(tree)
    path = tree / "src" / "run.sh"
    report = encvault.seal_file(path, to_me, suite=encvault.Suite.SM4_GCM)
    assert (report.files, report.size, path.exists()) == (1, 10, False)
    encvault.open_file(tree / "src" / "run.sh.sealed", [me])
    assert snapshot(tree, times=False) == {
        name: type(node)(node.kind, node.content, node.mode, 0) for name, node in before.items()
    }
    encvault.seal_file(path, to_me, keep=True)
    path.write_text("changed")
    with pytest.raises(Conflict):
        encvault.open_file(tree / "src" / "run.sh.sealed", [me], keep=True)
    encvault.open_file(tree / "src" / "run.sh.sealed", [me], keep=True, force=True)
    assert path.read_text() == "#!/bin/sh\n"
    with pytest.raises(encvault.DestinationExists):
        encvault.seal_file(path, to_me)


def test_requests_that_make_no_sense(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    before = everything(tree)
    with pytest.raises(InvalidRequest):
        encvault.seal_folder(tree / "empty", to_me)
    with pytest.raises(InvalidRequest):
        encvault.seal_file(tree / "src", to_me)
    with pytest.raises(SourceMissing):
        encvault.seal_folder(tree / "missing", to_me)
    for nobody in (
        lambda: encvault.seal_folder(tree),
        lambda: encvault.seal_file(tree / "empty", []),
        lambda: encvault.open_folder(tree, []),
        lambda: encvault.open_file(tree / "empty", iter([])),
        lambda: encvault.open_bytes(b"", []),
        lambda: encvault.seal_bytes(b"", []),
        lambda: encvault.share_file(tree / "empty", to_me, []),
    ):
        with pytest.raises(KeyRequired):
            nobody()
    with pytest.raises(NotAVault):
        encvault.open_folder(tree, [me])
    with pytest.raises(NotSealed):
        encvault.open_file(tree / "empty", [me])
    assert everything(tree) == before


def test_faults_of_the_program_are_named_before_anything_is_made(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    (one,) = to_me
    before = everything(tmp_path)
    new: Any = tmp_path / "new"
    wrong: Any = {
        "text": "a text",
        "bytes": b"x",
        "jobs": "2",
        "flag": True,
        "suite": "sm4-gcm",
        "none": None,
    }
    calls: list[Callable[[], object]] = [
        lambda: encvault.seal_folder(tree, wrong["text"]),
        lambda: encvault.seal_folder(tree, one),  # type: ignore[arg-type]
        lambda: encvault.seal_folder(tree, [me]),  # type: ignore[list-item]
        lambda: encvault.seal_folder(tree, to_me, suite=wrong["suite"]),
        lambda: encvault.seal_folder(tree, to_me, jobs=wrong["jobs"]),
        lambda: encvault.seal_folder(tree, to_me, jobs=wrong["flag"]),
        lambda: encvault.seal_folder(tree, to_me, to=wrong["bytes"]),
        lambda: encvault.seal_folder(tree, to_me, exclude="*.tmp"),
        lambda: encvault.seal_folder(tree, to_me, exclude=wrong["bytes"]),
        lambda: encvault.seal_folder(tree, to_me, exclude=[wrong["bytes"]]),
        lambda: encvault.seal_folder(tree, to_me, fingerprint=wrong["none"]),
        lambda: encvault.seal_folder(wrong["bytes"], to_me),
        lambda: encvault.seal_folder(wrong["none"], to_me),
        lambda: encvault.seal_file(tree / "src" / "run.sh", [one, wrong["text"]]),
        lambda: encvault.seal_bytes(b"x", to_me, suite=wrong["suite"]),
        lambda: encvault.share_file(tree / "src" / "run.sh", wrong["text"], [me], to=new),
        lambda: encvault.open_folder(tree, me),  # type: ignore[arg-type]
        lambda: encvault.open_folder(tree, wrong["text"], to=new),
        lambda: encvault.open_file(tree / "empty", to_me, output=new),  # type: ignore[arg-type]
        lambda: encvault.Vault.create(new, to_me, suite=wrong["suite"]),
        lambda: encvault.Vault.create(new, to_me, wrong["text"]),
        lambda: encvault.Vault.create(wrong["bytes"], to_me),
        lambda: encvault.new_identity(new, password=wrong["flag"]),
        lambda: encvault.load_recipients(wrong["bytes"]),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"not |is none|is str"):
            call()
    for bad in (
        lambda: encvault.seal_folder(tree, to_me, jobs=-1),
        lambda: encvault.seal_folder("a\0b", to_me),
    ):
        with pytest.raises(ValueError, match=r"jobs|null"):
            bad()
    for text in ("x", "aaaa-aaaa", " "):
        with pytest.raises(InvalidRequest, match="eight groups of four"):
            encvault.seal_folder(tree, to_me, fingerprint=text)
    assert everything(tmp_path) == before


def test_faults_in_using_a_vault(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    vault = encvault.Vault.open(tree, [me])
    path: Any = tree / "empty"
    for wrong in (path, b"empty", None):
        with pytest.raises(TypeError, match="a place in a vault is str"):
            vault.read(wrong)
    for call in (vault.files, vault.verify, vault.rekey):
        with pytest.raises(ValueError, match="jobs"):
            call(jobs=-1)  # type: ignore[operator]
    with pytest.raises(TypeError, match="list of them"):
        vault.add_slots(encvault.PasswordRecipient("pw"))  # type: ignore[arg-type]
    before = everything(tmp_path)
    with pytest.raises(KeyRequired):
        encvault.share_file(tree / "src" / "run.sh", [], [me], to=tmp_path / "new")
    assert everything(tmp_path) == before
    # a fingerprint is the same however it was copied
    shouted = f" {vault.fingerprint.upper()}\n"
    assert encvault.seal_folder(tree, fingerprint=shouted).problems == []


def test_a_vault_that_exists_is_for_its_own(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient]
) -> None:
    encvault.seal_folder(tree, to_me)
    other = encvault.load_recipients(encvault.new_identity(tmp_path / "other.key"))
    with pytest.raises(NotARecipient):
        encvault.seal_folder(tree, other)
    encvault.seal_folder(tree, to_me).raise_for_problems()


def test_a_copy_for_somebody_else(
    tree: Path,
    tmp_path: Path,
    to_me: list[encvault.Recipient],
    me: encvault.Identity,
    stranger: encvault.Identity,
) -> None:
    encvault.seal_folder(tree, to_me)
    partner = encvault.PasswordRecipient("by telephone")
    report = encvault.share_file(tree / "src" / "run.sh", [partner], [me], to=tmp_path / "out")
    assert report.files == 1
    sealed = (tmp_path / "out" / "run.sh.sealed").read_bytes()
    assert (
        encvault.open_bytes(sealed, [encvault.PasswordIdentity("by telephone")]) == b"#!/bin/sh\n"
    )
    with pytest.raises(encvault.DestinationExists):
        encvault.share_file(tree / "src" / "run.sh", [partner], [me], to=tmp_path / "out")
    with pytest.raises(CopyInVault):
        encvault.share_file(tree / "src" / "run.sh", [partner], [me], to=tree)
    with pytest.raises(encvault.NoMatchingKeyslot):
        encvault.share_file(tree / "empty", [partner], [stranger], to=tmp_path / "out")
    with pytest.raises(KeyRequired):
        encvault.share_file(tree / "empty", [], [me], to=tmp_path / "out")


def test_problems_are_raised_when_they_are_wanted(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "empty").write_text("another")
    report = encvault.open_folder(tree, [me], to=tmp_path / "out")
    with pytest.raises(Incomplete) as caught:
        report.raise_for_problems()
    assert isinstance(caught.value.__cause__, Conflict)
    sealed = tree / "empty.sealed"
    sealed.write_bytes(sealed.read_bytes()[:-1])
    with encvault.Vault.open(tree, [me]) as vault:
        report = vault.verify()
    with pytest.raises(DamagedFiles) as damaged:
        report.raise_for_problems()
    assert damaged.value.__cause__ is report.problems[0]
    encvault.Report(files=1).raise_for_problems()
    busy = VaultBusy(path="x", holder="y")
    with pytest.raises(VaultBusy) as alone:
        encvault.Report(problems=[busy]).raise_for_problems()
    assert alone.value is busy
    assert alone.value.__cause__ is None


def test_threads_may_use_it(
    tree: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    found: list[bytes] = []
    with encvault.Vault.open(tree, [me]) as vault:
        threads = [
            threading.Thread(target=lambda: found.append(vault.read("src/run.sh")))
            for _number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [b"#!/bin/sh\n"] * 4


# -- bytes and streams ----------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(encvault.Suite))
@pytest.mark.parametrize("size", [0, 1, 16_384, 1_500_000])
def test_bytes_and_streams_are_one_format(
    tmp_path: Path,
    to_me: list[encvault.Recipient],
    me: encvault.Identity,
    suite: encvault.Suite,
    size: int,
) -> None:
    content = os.urandom(size)
    (tmp_path / "plain").write_bytes(content)
    with (tmp_path / "plain").open("rb") as source, (tmp_path / "sealed").open("wb") as target:
        assert encvault.seal_stream(source, target, to_me, suite=suite) == size
    assert encvault.open_bytes((tmp_path / "sealed").read_bytes(), [me]) == content
    for data in (content, bytearray(content), memoryview(content)):
        (tmp_path / "sealed").write_bytes(encvault.seal_bytes(data, to_me, suite=suite))
        with (tmp_path / "sealed").open("rb") as source:
            pieces = list(encvault.open_stream(source, [me]))
        assert b"".join(pieces) == content
        assert all(isinstance(piece, bytes) for piece in pieces)


def test_what_the_target_held_back_comes_first(
    tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    (tmp_path / "plain").write_bytes(b"content")
    with (tmp_path / "plain").open("rb") as source, (tmp_path / "out").open("wb") as target:
        target.write(b"a line of my own\n")
        encvault.seal_stream(source, target, to_me)
    head, sealed = (tmp_path / "out").read_bytes().split(b"\n", 1)
    assert head == b"a line of my own"
    assert encvault.open_bytes(sealed, [me]) == b"content"


def test_bytes_open_as_a_file_of_their_name(
    tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    path = tmp_path / "token.sealed"
    path.write_bytes(encvault.seal_bytes(b"x", to_me, name="报价.txt"))
    path.rename(tmp_path / "a")
    encvault.open_file(tmp_path / "a", [me])
    assert (tmp_path / "报价.txt").read_bytes() == b"x"
    for name in ("", "..", "a/b", "/a", "a\0b"):
        with pytest.raises(UnsafePath):
            encvault.seal_bytes(b"x", to_me, name=name)


def test_damaged_bytes_and_streams(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    sealed = encvault.seal_bytes(os.urandom(2_000_000), to_me)
    with pytest.raises(encvault.IntegrityError):
        encvault.open_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]), [me])
    with pytest.raises(encvault.IntegrityError):
        encvault.open_bytes(sealed[:-16_400], [me])
    with pytest.raises(NotSealed, match="bytes"):
        encvault.open_bytes(b"nothing", [me])
    (tmp_path / "cut").write_bytes(sealed[:-16_400])
    given = []
    with (tmp_path / "cut").open("rb") as source, pytest.raises(encvault.IntegrityError):
        for piece in encvault.open_stream(source, [me]):
            given.append(piece)  # noqa: PERF402 - the pieces before the error are what is tested
    assert given
    encvault.seal_folder(tree, to_me)
    with pytest.raises(ForeignFile):
        encvault.open_bytes((tree / "empty.sealed").read_bytes(), [me])


def test_what_has_no_descriptor_is_no_stream(
    to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    with pytest.raises(io.UnsupportedOperation):
        encvault.seal_stream(io.BytesIO(b"x"), io.BytesIO(), to_me)
    with pytest.raises(io.UnsupportedOperation):
        encvault.open_stream(io.BytesIO(b"x"), [me])


def test_only_sealed_bytes_touch_the_disk(
    tmp_path: Path,
    to_me: list[encvault.Recipient],
    me: encvault.Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_options: (tmp_path / "t").open("w+b", 0)
    )
    content = os.urandom(300_000)
    assert encvault.open_bytes(encvault.seal_bytes(content, to_me), [me]) == content
    written = (tmp_path / "t").read_bytes()
    assert written.startswith(b"encvault")
    assert content[:64] not in written


# -- the vault ------------------------------------------------------------------------------


@LAYOUTS
def test_what_a_vault_holds(
    tree: Path, to_me: list[encvault.Recipient], me: encvault.Identity, *, hidden: bool
) -> None:
    before = snapshot(tree)
    encvault.seal_folder(tree, to_me, hide_names=hidden)
    with encvault.Vault.open(tree, [me]) as vault:
        listed = {item.path: item.type for item in vault.files() if item.type != "dir"}
        assert listed == {name: node.kind for name, node in before.items() if node.kind != "dir"}
        assert [item.path for item in vault.files("src/run.sh")] == ["src/run.sh"]
        for name in ("src/run.sh", "sparse", "n" * 255):
            assert vault.read(name) == before[name].content
            assert b"".join(vault.stream(name)) == before[name].content
        assert vault.verify().problems == []
        assert vault.verify("src/run.sh").files == 1
        with pytest.raises(SourceMissing):
            vault.read("missing")
        with pytest.raises(InvalidRequest):
            vault.read("src" if hidden else "hollow")


def test_a_path_does_not_leave_the_vault(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    (tmp_path / "x").write_text("x")
    encvault.seal_file(tmp_path / "x", to_me)
    with encvault.Vault.open(tree, [me]) as vault:
        for path in ("../x.sealed", "/etc/passwd", "src/../empty", "src//run.sh", "."):
            for look in (vault.read, vault.files, vault.verify):
                with pytest.raises(UnsafePath):
                    look(path)


def test_without_identities_only_what_needs_none(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient]
) -> None:
    encvault.seal_folder(tree, to_me)
    with encvault.Vault.open(tree) as vault:
        assert [slot["label"] for slot in vault.slots()] == ["me"]
        assert "src/run.sh" in {item.path for item in vault.files()}
        for needs in (
            lambda: vault.read("empty"),
            vault.verify,
            vault.add_recovery,
            lambda: vault.add_slots(to_me),
            lambda: vault.remove_slot("x"),
            lambda: vault.change_password("new"),
        ):
            with pytest.raises(KeyRequired):
                needs()
    with encvault.Vault.create(tmp_path / "hidden", to_me, hide_names=True) as hidden:
        with pytest.raises(KeyRequired):
            hidden.files()
        with pytest.raises(AlreadyAVault):
            encvault.Vault.create(tmp_path / "hidden", to_me)


def test_a_wrong_key_is_noticed_at_once(
    tree: Path, to_me: list[encvault.Recipient], stranger: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    with pytest.raises(encvault.NoMatchingKeyslot):
        encvault.Vault.open(tree, [stranger])
    with pytest.raises(NotAVault):
        encvault.Vault.open(tree / "src", [stranger])


def test_a_closed_vault_gives_nothing(
    tree: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    with encvault.Vault.open(tree, [me]) as vault:
        pass
    for use in (lambda: vault.read("empty"), vault.files, vault.slots, vault.add_recovery):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_what_cannot_be_listed_is_told(
    tree: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    (tree / "empty.sealed").write_bytes((tree / "empty.sealed").read_bytes()[:-1])
    told: list[encvault.EncvaultError] = []
    with encvault.Vault.open(tree, [me]) as vault:
        with pytest.raises(encvault.IntegrityError):
            vault.files()
        paths = {item.path for item in vault.files(on_problem=told.append)}
    assert "src/run.sh" in paths
    assert "empty" not in paths
    assert [problem.exit_code for problem in told] == [65]


def test_keyslots_come_and_go(tree: Path, to_me: list[encvault.Recipient]) -> None:
    first = encvault.PasswordRecipient("first", label="office")
    encvault.seal_folder(tree, [*to_me, first])
    vault = encvault.Vault.open(tree, [encvault.PasswordIdentity("first")])
    with pytest.raises(KeyRequired):
        vault.add_slots([])
    with pytest.raises(InvalidRequest):
        vault.add_slots([first])
    (anna,) = vault.add_slots([encvault.PasswordRecipient("anna", label="anna")])
    made = vault.add_recovery(label="safe")
    assert made.fingerprint == vault.fingerprint
    assert (
        encvault.Vault.open(tree, [encvault.RecoveryIdentity(made.code.lower())]).read("empty")
        == b""
    )
    changed = vault.change_password("second")
    assert (changed["kind"], changed["label"]) == ("password", "office")
    with pytest.raises(encvault.NoMatchingKeyslot):
        encvault.Vault.open(tree, [encvault.PasswordIdentity("first")])
    vault = encvault.Vault.open(tree, [encvault.PasswordIdentity("second")])
    assert vault.change_password("other", slot_id=anna["id"])["label"] == "anna"
    removed = vault.remove_slot(made.slot["id"])
    assert removed == made.slot
    labels = [slot["label"] for slot in vault.slots()]
    assert labels == ["me", "office", "anna"]


def test_a_vault_is_not_held_between_calls(
    tree: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    encvault.seal_folder(tree, to_me)
    with encvault.Vault.open(tree, [me]) as vault:
        (tree / "new").write_text("new")
        encvault.seal_folder(tree).raise_for_problems()
        assert vault.read("new") == b"new"
        with CoreVault.load(str(tree)) as other:
            other.hold()
            with pytest.raises(VaultBusy):
                vault.verify()


def test_nothing_is_given_out_before_the_log(
    tree: Path, tmp_path: Path, to_me: list[encvault.Recipient], me: encvault.Identity
) -> None:
    class Refuser(encvault.Observer):
        def before_release(self, events: Sequence[encvault.Event]) -> None:
            raise VaultBusy(path="log", holder=events[0].action)

    def stream() -> Iterator[bytes]:
        (tmp_path / "s").write_bytes(encvault.seal_bytes(b"x", to_me))
        with (tmp_path / "s").open("rb") as source:
            yield from encvault.open_stream(source, [me], observer=Refuser())

    encvault.seal_folder(tree, to_me)
    vault = encvault.Vault.open(tree, [me])
    watched: list[tuple[str, Any]] = [
        ("cat", lambda: vault.read("empty", observer=Refuser())),
        ("cat", lambda: next(vault.stream("src/run.sh", observer=Refuser()))),
        ("open", lambda: next(stream())),
        (
            "open",
            lambda: encvault.open_bytes(encvault.seal_bytes(b"x", to_me), [me], observer=Refuser()),
        ),
        (
            "share",
            lambda: encvault.share_file(
                tree / "empty", to_me, [me], to=tmp_path / "out", observer=Refuser()
            ),
        ),
        ("open", lambda: encvault.open_folder(tree, [me], observer=Refuser())),
    ]
    for action, work in watched:
        with pytest.raises(VaultBusy) as caught:
            work()
        assert caught.value.fields()["holder"] == action
    assert os.listdir(tmp_path / "out") == []
    assert (tree / "empty.sealed").exists()
