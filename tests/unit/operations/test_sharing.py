"""Copies for people outside a vault: what they hold, what they do not, and what stays."""

from __future__ import annotations

import os
import shutil
import struct
from typing import TYPE_CHECKING

import pytest
from helpers import RECIPIENT, SEED, everything, keys, seal, snapshot, write_tree

from encvault import operations
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.crypto.suite import Suite
from encvault.envelope import InlineKeyInfo, Record
from encvault.errors import (
    ChunkCorrupt,
    CopyInVault,
    DestinationExists,
    EncvaultError,
    FolderNotShared,
    ForeignFile,
    InvalidRequest,
    KeyRequired,
    LinkNotShared,
    NoMatchingKeyslot,
    NotSealed,
    SourceMissing,
    UnsafePath,
    VaultBusy,
)
from encvault.fs import calls
from encvault.keyslots import (
    Identity,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    encode_password,
)
from encvault.operations import Answers, ShareRequest
from encvault.secret import Secret
from encvault.vault import plan, sealing
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import Buffers, SealedReader
from encvault.vault.single import SlotKeyring

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
OWN = KeyIdentity(Secret(SEED))
PARTNER_SEED = bytes(reversed(range(32)))
PARTNER = KeyIdentity(Secret(PARTNER_SEED))
TO_PARTNER = PublicKeyRecipient(hpke.public_key(PARTNER_SEED), label="partner")


# acl(5) as Linux stores it: version 2, then tag, permissions and id of each entry
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, owner)
    for tag, permissions, owner in [
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 4, 1234),
        (0x04, 4, 0xFFFFFFFF),
        (0x10, 4, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root)
    return root


class Log(Observer):
    """Remembers everything that it is told, and what was there when the log was written."""

    wants_total = True

    def __init__(self, folder: Path | None = None) -> None:
        self.events: list[Event] = []
        self.there: list[list[str]] = []
        self.told: list[tuple[str, object]] = []
        self._folder = folder

    def before_release(self, events: Sequence[Event]) -> None:
        self.events += events
        if self._folder is not None:
            self.there.append(os.listdir(self._folder))

    def total(self, files: int, size: int) -> None:
        self.told.append(("total", (files, size)))

    def progress(self, files: int, size: int) -> None:
        self.told.append(("progress", (files, size)))

    def action(self, verb: str, path: str) -> None:
        self.told.append((verb, path))

    def note(self, message: str) -> None:
        self.told.append(("note", message))


def answers() -> Answers:
    return Answers(identities_given=(OWN,), new_recipients_given=(TO_PARTNER,))


def share(*paths: Path, observer: Observer | None = None, **options: object) -> Report:
    request = ShareRequest(tuple(map(str, paths)), **options)  # type: ignore[arg-type]
    return operations.share(request, answers(), observer)


def opened(path: Path, identity: Identity = PARTNER) -> bytes:
    return b"".join(map(bytes, operations.cat(str(path), Answers(identities_given=(identity,)))))


def record_of(path: Path) -> Record:
    with path.open("rb", buffering=0) as file:
        record, pieces = SealedReader(file.fileno(), str(path), Buffers()).open(
            SlotKeyring([PARTNER])
        )
        for _piece in pieces:
            pass
    return record


# -- what a copy is -------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("name", ["src/deep/er/main.py", "empty", "sparse", "src/run.sh"])
def test_a_copy_opens_for_the_partner_and_is_what_was_sealed(
    tree: Path, tmp_path: Path, name: str, suite: Suite, *, hidden: bool
) -> None:
    original = snapshot(tree)[name]
    seal(tree, hide_names=hidden, suite=suite)
    before = everything(tree)
    report = share(tree / name, to=str(tmp_path / "out" / "new"))
    base = name.rpartition("/")[2]
    copy = tmp_path / "out" / "new" / f"{base}.sealed"
    assert os.listdir(copy.parent) == [copy.name]
    assert (report.files, report.size, report.problems) == (1, len(original.content), [])
    assert opened(copy) == original.content
    header = operations.info(str(copy)).members
    assert header["suite"] == suite.label
    assert [slot["label"] for slot in header["slots"]] == ["partner"]
    request = operations.OpenRequest((str(copy),), to=str(tmp_path / "opened"))
    assert operations.open_paths(request, Answers(identities_given=(PARTNER,))).problems == []
    assert snapshot(tmp_path / "opened") == {base: original}
    after = everything(tree)
    assert after == before


@LAYOUTS
def test_a_copy_tells_nothing_of_the_vault(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    record = operations.info(str(tree)).members
    log = Log()
    share(tree / "src" / "deep" / "er" / "main.py", to=str(tmp_path / "out"), observer=log)
    copy = tmp_path / "out" / "main.py.sealed"
    info = operations.info(str(copy)).members
    ids = {record["id"], log.events[0].file, *(slot["id"] for slot in record["slots"])}
    for found in ids:
        assert found.encode() not in copy.read_bytes()
    assert info["file"] not in ids
    inside = record_of(copy)
    assert (inside.path, inside.parent, inside.folder) == ("main.py", None, None)
    assert (inside.owner, inside.parts, inside.part_size) == (None, (), 0)
    with pytest.raises(NoMatchingKeyslot):
        opened(copy, OWN)


def test_every_copy_has_a_key_of_its_own(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    for folder in ("one", "two"):
        share(tree / "empty", to=str(tmp_path / folder))
    keys_used = []
    for folder in ("one", "two"):
        copy = tmp_path / folder / "empty.sealed"
        with copy.open("rb", buffering=0) as file:
            header = SealedReader(file.fileno(), str(copy), Buffers()).header
        assert isinstance(header.key_info, InlineKeyInfo)
        (slot,) = header.key_info.slots
        unwrapped = PARTNER.unwrap([slot], str(copy))
        assert unwrapped is not None
        keys_used.append(bytes(unwrapped.secret.reveal()))
    assert keys_used[0] != keys_used[1]


def test_attributes_of_the_content_go_along_and_those_of_the_machine_stay(
    tree: Path, tmp_path: Path
) -> None:
    os.setxattr(tree / "empty", "user.origin", b"scanner")
    os.setxattr(tree / "empty", "system.posix_acl_access", ACL)
    seal(tree)
    share(tree / "empty", to=str(tmp_path / "out"))
    assert record_of(tmp_path / "out" / "empty.sealed").xattrs == (("user.origin", b"scanner"),)


def test_a_password_may_be_given_instead(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    password = encode_password("for the partner")
    given = Answers(
        identities_given=(OWN,),
        new_recipients_given=(PasswordRecipient(password, profile=CHEAPEST), TO_PARTNER),
    )
    operations.share(ShareRequest((str(tree / "empty"),), to=str(tmp_path / "out")), given)
    for identity in (PasswordIdentity(password), PARTNER):
        assert opened(tmp_path / "out" / "empty.sealed", identity) == b""


@LAYOUTS
def test_the_parts_of_a_large_file_become_one(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 700_000)
    content = os.urandom(2_000_000)
    (tree / "big").write_bytes(content)
    seal(tree, hide_names=hidden)
    share(tree / "big", to=str(tmp_path / "out"))
    assert opened(tmp_path / "out" / "big.sealed") == content
    assert record_of(tmp_path / "out" / "big.sealed").size == 2_000_000


def test_a_file_on_its_own_is_shared_again(tree: Path, tmp_path: Path) -> None:
    seal(tree / "empty")
    (tmp_path / "else").mkdir()
    seal(tree / "src", archive=str(tmp_path / "work.sealed"))
    alone, archive = tree / "empty.sealed", tmp_path / "work.sealed"
    before = everything(tmp_path)
    share(alone, archive, to=str(tmp_path / "else"))
    assert opened(tmp_path / "else" / "empty.sealed") == b""
    request = operations.OpenRequest(
        (str(tmp_path / "else" / "work.sealed"),), to=str(tmp_path / "unpacked")
    )
    operations.open_paths(request, Answers(identities_given=(PARTNER,)))
    assert snapshot(tmp_path / "unpacked", times=False) == snapshot(tree / "src", times=False)
    after = everything(tmp_path)
    assert all(after[path] == facts for path, facts in before.items() if path not in (".", "else"))


@LAYOUTS
def test_the_path_that_a_link_points_to_is_given_to_nobody(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(tree, hide_names=hidden)
    with pytest.raises(LinkNotShared):
        share(tree / "src" / "link", to=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_renamed_file_goes_by_its_new_name(tree: Path, tmp_path: Path) -> None:
    (tree / "secret plan.txt").write_text("x")
    seal(tree)
    (tree / "secret plan.txt.sealed").rename(tree / "public.txt.sealed")
    share(tree / "public.txt", to=str(tmp_path))
    assert record_of(tmp_path / "public.txt.sealed").path == "public.txt"


@pytest.mark.parametrize("name", ["n" * 255, "中" * 85])
@LAYOUTS
def test_long_names_are_shortened_as_in_a_vault(
    tree: Path, tmp_path: Path, name: str, *, hidden: bool
) -> None:
    seal(tree, hide_names=hidden)
    share(tree / name, to=str(tmp_path / "out"))
    (copy,) = (tmp_path / "out").iterdir()
    assert len(os.fsencode(copy.name)) <= 255
    assert record_of(copy).path == name


# -- paths ----------------------------------------------------------------------------------


def test_the_current_folder_is_where_copies_go(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    share(tree / "empty.sealed")
    assert opened(tmp_path / "here" / "empty.sealed") == b""


@LAYOUTS
def test_folders_are_refused_and_the_way_is_told(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    seal(tree, hide_names=hidden)
    if hidden:
        shutil.rmtree(tree / "src", ignore_errors=True)
    for folder in (tree, tree / "src", tree / "src" / "deep"):
        with pytest.raises(FolderNotShared) as caught:
            share(folder, to=str(tmp_path / "out"))
        assert caught.value.exit_code == 2
        assert "encvault open --to" in (caught.value.hint or "")
        assert "encvault seal --archive" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_the_object_of_a_folder_is_a_folder_too(tree: Path, tmp_path: Path) -> None:
    seal(tree, hide_names=True)
    (found,) = [
        item
        for item in operations.list_files(str(tree), keys())[0]
        if item.path == "hollow" and item.type == "dir"
    ]
    with pytest.raises(FolderNotShared):
        share(tree / found.sealed_path, to=str(tmp_path / "out"))


@LAYOUTS
def test_what_is_not_sealed_or_not_there(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    with pytest.raises(NotSealed):
        share(tree / "empty", to=str(tmp_path / "out"))
    seal(tree, hide_names=hidden)
    (tree / "plain").write_text("x")
    with pytest.raises(NotSealed):
        share(tree / "plain", to=str(tmp_path / "out"))
    for path in (tree / "missing", tmp_path / "missing"):
        with pytest.raises(SourceMissing):
            share(path, to=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_nobody_is_asked_whom_to_share_nothing_with(tmp_path: Path) -> None:
    class Nobody(Answers):
        def new_recipients(self, what: str, label: str | None) -> Sequence[PublicKeyRecipient]:
            raise AssertionError(what)

    with pytest.raises(SourceMissing):
        operations.share(ShareRequest((str(tmp_path / "missing"),)), Nobody())


def test_a_copy_never_lies_in_a_vault(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree)
    before = everything(tmp_path)
    monkeypatch.chdir(tree)
    with pytest.raises(CopyInVault) as caught:
        operations.share(ShareRequest(("empty",), force=True), answers())
    assert caught.value.exit_code == 2
    with pytest.raises(CopyInVault):
        share(tree / "empty", to=str(tree / "new" / "folder"), force=True)
    assert everything(tmp_path) == before


def test_the_original_is_never_replaced_by_its_copy(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tree / "empty")
    before = everything(tree)
    monkeypatch.chdir(tree)
    with pytest.raises(InvalidRequest):
        share(tree / "empty.sealed", force=True)
    assert everything(tree) == before


def test_what_is_there_is_replaced_by_force_alone(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    (tmp_path / "empty.sealed").write_text("precious")
    log = Log()
    with pytest.raises(DestinationExists):
        share(tree / "empty", to=str(tmp_path), observer=log)
    assert (tmp_path / "empty.sealed").read_text() == "precious"
    assert log.events == []  # what is not shared is not logged as shared
    share(tree / "empty", to=str(tmp_path), force=True)
    assert opened(tmp_path / "empty.sealed") == b""


def test_two_files_of_one_name_do_not_replace_each_other(tree: Path, tmp_path: Path) -> None:
    (tree / "src" / "empty").write_text("not empty")
    seal(tree)
    report = share(tree / "empty", tree / "src" / "empty", to=str(tmp_path), force=True)
    assert [type(problem) for problem in report.problems] == [DestinationExists]
    assert opened(tmp_path / "empty.sealed") == b""


def test_a_name_that_leads_elsewhere_is_refused(tree: Path, tmp_path: Path) -> None:
    seal(tree / "empty")
    (tree / "empty.sealed").rename(tree / "...sealed")
    with pytest.raises(UnsafePath):
        share(tree / "...sealed", to=str(tmp_path / "out"))


# -- failures -------------------------------------------------------------------------------


@LAYOUTS
def test_a_damaged_original_gives_no_copy_and_the_others_go_on(
    tree: Path, tmp_path: Path, *, hidden: bool
) -> None:
    (tree / "big").write_bytes(os.urandom(2_000_000))
    seal(tree, hide_names=hidden)
    listed, _problems = operations.list_files(str(tree), keys())
    (sealed,) = [tree / item.sealed_path for item in listed if item.path == "big"]
    data = bytearray(sealed.read_bytes())
    data[-1] ^= 1
    sealed.write_bytes(data)
    paths = (tree / "big", tree / "missing", tree / "empty", tree / "src" / "run.sh")
    report = share(*paths, to=str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["empty.sealed", "run.sh.sealed"]
    assert [type(problem) for problem in report.problems] == [ChunkCorrupt, SourceMissing]
    outcome = report.outcome()
    assert outcome is not None
    assert (report.files, outcome.exit_code) == (2, 65)
    with pytest.raises(ChunkCorrupt):
        share(tree / "big", to=str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["empty.sealed", "run.sh.sealed"]


def test_keys_that_do_not_fit_or_are_missing(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    request = ShareRequest((str(tree / "empty"),), to=str(tmp_path / "out"))
    with pytest.raises(NoMatchingKeyslot):
        operations.share(
            request, Answers(identities_given=(PARTNER,), new_recipients_given=(RECIPIENT,))
        )
    with pytest.raises(KeyRequired):
        operations.share(request, Answers(identities_given=(OWN,)))
    assert not (tmp_path / "out").exists()


def test_a_file_away_from_its_vault_needs_it(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    shutil.copy(tree / "empty.sealed", tmp_path / "stray.sealed")
    with pytest.raises(EncvaultError):
        share(tmp_path / "stray.sealed", to=str(tmp_path / "out"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    seal(tmp_path / "other")
    shutil.copy(tree / "empty.sealed", tmp_path / "other" / "stray.sealed")
    with pytest.raises(ForeignFile):
        share(tmp_path / "other" / "stray.sealed", to=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("call", "number"),
    [("create", 1), ("write", 1), ("write", 2), ("write", 3), ("fsync", 1), ("rename_new", 1)],
)
def test_a_disk_that_fails_is_named_by_the_copy_and_leaves_none(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    seal(tree)
    (tmp_path / "out").mkdir()
    seen: list[str] = []

    def fail(name: str, _fd: int, _target: str) -> None:
        seen.append(name)
        if name == call and seen.count(call) == number:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(EncvaultError) as caught:
        share(tree / "src" / "run.sh", to=str(tmp_path / "out"))  # header, content and the end
    assert caught.value.exit_code == 73
    assert str(tmp_path / "out" / "run.sh.sealed") in str(caught.value)
    assert os.listdir(tmp_path / "out") == []


# -- what is told ---------------------------------------------------------------------------


@LAYOUTS
def test_the_log_comes_before_the_first_byte(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    seal(tree, hide_names=hidden)
    listed, _problems = operations.list_files(str(tree), keys())
    (original,) = [item for item in listed if item.path == "src/run.sh"]
    with (tree / original.sealed_path).open("rb", buffering=0) as file:
        file_id = SealedReader(file.fileno(), "", Buffers()).header.key_info.file
    (tmp_path / "out").mkdir()
    log = Log(tmp_path / "out")
    given = "src/run.sh" if hidden else "src/run.sh.sealed"
    report = share(tree / given, to=str(tmp_path / "out"), observer=log)
    assert log.events == [Event("share", "src/run.sh", file_id, 10)]
    assert log.there == [[]]
    note = "what was shared cannot be called back: no change of keys here closes a copy"
    assert report.notes == [note]
    assert log.told == [
        ("total", (1, 10)),
        ("progress", (0, 10)),
        ("share", str(tmp_path / "out" / "run.sh.sealed")),
        ("progress", (1, 0)),
        ("note", note),
    ]


def test_a_log_that_refuses_stops_the_copy(tree: Path, tmp_path: Path) -> None:
    class Refuser(Observer):
        def before_release(self, events: Sequence[Event]) -> None:
            raise VaultBusy(path="log", holder="test")

    seal(tree)
    seal_alone = tmp_path / "alone"
    seal_alone.write_text("x")
    seal(seal_alone)
    for path in (tree / "empty", tmp_path / "alone.sealed"):
        with pytest.raises(VaultBusy):
            share(path, to=str(tmp_path / "out"), observer=Refuser())
    assert os.listdir(tmp_path / "out") == []
