"""What every operation leaves in the access log: one entry for each access, true and whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import RECIPIENT, keys

from encvault import operations
from encvault.accesslog.audit import Verdict
from encvault.accesslog.log import AccessLog
from encvault.accesslog.verifying import verify
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import ConfirmationNeeded, EncvaultError, InvalidRequest, SourceMissing
from encvault.keyslots import (
    KeyIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    RecoveryIdentity,
    decode_code,
    encode_password,
    fingerprint,
)
from encvault.operations import Answers, OpenRequest, SealRequest, ShareRequest
from encvault.operations.recording import recording
from encvault.secret import Secret
from encvault.vault.report import Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from encvault.keyslots import Recipient

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
CONTENTS = {"a.txt": b"the first", "sub/b": b"another one"}
SIZES = {name: len(data) for name, data in CONTENTS.items()}
STRANGER = KeyIdentity(Secret(bytes(32)))
ABOUT = {"vault", "slot", "to", "size", "count", "error", "exit_code", "detail", "label", "name"}

Entry = dict[str, Any]


@pytest.fixture
def log(tmp_path: Path) -> AccessLog:
    made = AccessLog(str(tmp_path / "log"))
    made.begin()
    return made


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for name, data in CONTENTS.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "docs"


def recorded(log: AccessLog) -> list[Entry]:
    """All that was recorded but what the log says of itself, taken away from it."""
    lines = Path(log.path, "entries").read_bytes().splitlines()
    audit = verify(log.path)
    assert (audit.verdict, audit.size) == (Verdict.OK_UNANCHORED, len(lines))
    entries = [json.loads(line) for line in lines]
    return [entry for entry in entries if not entry["op"].startswith("log.")]


def new(log: AccessLog, act: Callable[[], object]) -> list[Entry]:
    """What is recorded meanwhile."""
    before = len(recorded(log))
    act()
    return recorded(log)[before:]


def is_about(entry: Entry, op: str, path: Path, outcome: str = "ok", **more: object) -> None:
    """Compare an entry with all that an operation said of it; file ids are random."""
    found = {name: entry[name] for name in ABOUT & entry.keys()}
    assert (entry["op"], entry["outcome"], entry.get("path")) == (op, outcome, str(path))
    assert found == more


def answers(log: AccessLog | None, *new_ones: Recipient) -> Answers:
    return replace(keys(), log=log, new_recipients_given=new_ones)


def sealed(log: AccessLog | None, *paths: Path, **options: Any) -> None:
    jobs = 0 if "archive" in options else 1
    request = SealRequest(tuple(map(str, paths)), jobs=jobs, **options)
    assert operations.seal(request, answers(log)).outcome() is None


def opened(log: AccessLog, *paths: Path, **options: Any) -> None:
    request = OpenRequest(tuple(map(str, paths)), jobs=1, **options)
    operations.open_paths(request, answers(log))


def vault_of(docs: Path) -> str:
    return str(operations.info(str(docs)).members["id"])


def slot_of(docs: Path) -> str:
    return operations.list_slots(str(docs))[0]["id"]


def file_ids(docs: Path) -> set[str]:
    found = {operations.info(str(path)).members["file"] for path in docs.rglob("*.sealed")}
    return found | {path.name for path in docs.glob(".encvault/objects/*/*")}


def are_files(entries: Sequence[Entry], op: str, base: Path, ids: set[str], **more: object) -> None:
    """One entry of each file of the tree, in whatever order."""
    assert len(entries) == len(CONTENTS)
    by_path = {entry["path"]: entry for entry in entries}
    for name, size in SIZES.items():
        is_about(by_path[str(base / name)], op, base / name, size=size, **more)
    assert {entry["file"] for entry in entries} <= ids
    assert len({entry["file"] for entry in entries}) == len(entries)


# -- sealing --------------------------------------------------------------------------------


@LAYOUTS
def test_seal_in_place(log: AccessLog, docs: Path, *, hidden: bool) -> None:
    made, *entries = new(log, lambda: sealed(log, docs, hide_names=hidden))
    is_about(made, "init", docs, vault=vault_of(docs))
    are_files(entries, "seal", docs, file_ids(docs), vault=vault_of(docs))
    assert new(log, lambda: sealed(log, docs)) == []  # there is nothing more to seal


@LAYOUTS
def test_seal_to_a_mirror(log: AccessLog, docs: Path, tmp_path: Path, *, hidden: bool) -> None:
    mirror = tmp_path / "mirror"
    made, *entries = new(log, lambda: sealed(log, docs, to=str(mirror), hide_names=hidden))
    is_about(made, "init", mirror, vault=vault_of(mirror))
    are_files(entries, "seal", docs, file_ids(mirror), vault=vault_of(mirror))


def test_seal_an_archive(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    target = tmp_path / "docs.sealed"
    (entry,) = new(log, lambda: sealed(log, docs, archive=str(target)))
    size = operations.verify(str(target), answers(None)).size
    is_about(entry, "seal", docs, size=size)
    assert entry["file"] == operations.info(str(target)).members["file"]
    (tmp_path / "more").mkdir()
    both = new(log, lambda: sealed(log, docs, tmp_path / "more", archive=f"{target}2"))
    for entry, path in zip(both, (docs, tmp_path / "more"), strict=True):
        is_about(entry, "seal", path)  # what each has of the size nobody knows


def test_seal_files_on_their_own(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    one, other = docs / "a.txt", docs / "sub" / "b"
    entries = new(log, lambda: sealed(log, one, other))
    is_about(entries[0], "seal", one, size=9)
    is_about(entries[1], "seal", other, size=11)
    assert {entry["file"] for entry in entries} == file_ids(docs)
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    (entry,) = new(log, lambda: sealed(log, plain, output=str(tmp_path / "x.sealed")))
    is_about(entry, "seal", plain, size=1)


def test_seal_a_stream(log: AccessLog, tmp_path: Path) -> None:
    request = SealRequest(paths=("-",), output=str(tmp_path / "s.sealed"))
    for index, wanted in enumerate((request, SealRequest(paths=("-",)))):
        (tmp_path / "in").write_bytes(b"12345")
        with (tmp_path / "in").open("rb") as source, (tmp_path / f"out{index}").open("wb") as out:
            operations.seal_from_stream(
                source.fileno(), wanted, answers(log), lambda out=out: out.fileno()
            )
    to_file, to_stdout = recorded(log)
    is_about(to_file, "seal", tmp_path / "s.sealed", size=5, detail="stream")
    assert to_stdout["op"] == "seal"
    assert "path" not in to_stdout


@LAYOUTS
def test_make_a_vault(log: AccessLog, tmp_path: Path, *, hidden: bool) -> None:
    path = tmp_path / "new"
    made: list[Any] = []
    (entry,) = new(
        log,
        lambda: made.append(operations.init_vault(str(path), answers(log), hide_names=hidden)),
    )
    is_about(entry, "init", path, vault=made[0].id)


# -- opening --------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in-place", "to"])
def test_open(log: AccessLog, docs: Path, tmp_path: Path, *, hidden: bool, elsewhere: bool) -> None:
    sealed(None, docs, hide_names=hidden)
    ids, slot, vault = file_ids(docs), slot_of(docs), vault_of(docs)
    to = {"to": str(tmp_path / "out")} if elsewhere else {}
    entries = new(log, lambda: opened(log, docs, **to))
    are_files(entries, "open", docs, ids, vault=vault, slot=slot, **to)


@LAYOUTS
def test_open_one_of_a_vault(log: AccessLog, docs: Path, tmp_path: Path, *, hidden: bool) -> None:
    sealed(None, docs, hide_names=hidden)
    more = {"vault": vault_of(docs), "slot": slot_of(docs), "size": 11}
    target = tmp_path / "x"
    (entry,) = new(log, lambda: opened(log, docs / "sub" / "b", output=str(target)))
    is_about(entry, "open", docs / "sub" / "b", to=str(target), **more)
    (entry,) = new(log, lambda: opened(log, docs / "sub" / "b"))
    is_about(entry, "open", docs / "sub" / "b", **more)


def test_open_a_file_on_its_own(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    plain, cut = docs / "a.txt", docs / "a.txt.sealed"
    sealed(None, plain)
    (file,) = file_ids(docs)
    for option, target in (("output", tmp_path / "o"), ("to", tmp_path / "folder")):
        (entry,) = new(log, lambda o=option, t=target: opened(log, cut, **{o: str(t)}))
        is_about(entry, "open", plain, size=9, to=str(target))
        assert entry["file"] == file
    (entry,) = new(log, lambda: opened(log, cut))
    is_about(entry, "open", plain, size=9)


def test_open_an_archive(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    sealed(None, docs, archive=str(tmp_path / "all.sealed"))
    out = tmp_path / "out"
    (entry,) = new(log, lambda: opened(log, tmp_path / "all.sealed", to=str(out)))
    is_about(entry, "open", tmp_path / "all", to=str(out))
    (entry,) = new(log, lambda: opened(log, tmp_path / "all.sealed"))
    assert (entry["op"], entry["path"]) == ("open", str(tmp_path / "all.tar"))


def test_open_a_stream(log: AccessLog, docs: Path) -> None:
    (docs / "a.txt").write_bytes(bytes(2_000_000))
    sealed(None, docs / "a.txt")
    whole = (docs / "a.txt.sealed").read_bytes()

    def open_it(data: bytes) -> int:
        (docs / "stream").write_bytes(data)
        with (docs / "stream").open("rb") as source:
            return sum(map(len, operations.open_from_stream(source.fileno(), answers(log))))

    assert open_it(whole) == 2_000_000
    with pytest.raises(EncvaultError) as caught:
        open_it(whole[:-1])  # which shows when most of it was given out
    good, begun, bad = recorded(log)
    for entry in (good, begun):
        assert (entry["op"], entry["outcome"], entry["size"]) == ("open", "ok", 2_000_000)
        assert (entry["file"], entry["detail"]) == (*file_ids(docs), "stream")
        assert "path" not in entry
    assert (bad["op"], bad["outcome"], bad["exit_code"]) == ("open", "failed", 65)
    assert bad["error"] == type(caught.value).__name__


@LAYOUTS
def test_show_and_share(log: AccessLog, docs: Path, tmp_path: Path, *, hidden: bool) -> None:
    sealed(None, docs, hide_names=hidden)
    more = {"vault": vault_of(docs), "slot": slot_of(docs), "size": 9}
    (entry,) = new(log, lambda: list(operations.cat(str(docs / "a.txt"), answers(log))))
    is_about(entry, "cat", docs / "a.txt", **more)
    assert entry["file"] in file_ids(docs)
    request = ShareRequest((str(docs / "a.txt"),), to=str(tmp_path))
    (entry,) = new(log, lambda: operations.share(request, answers(log, RECIPIENT)))
    is_about(entry, "share", docs / "a.txt", to=str(tmp_path / "a.txt.sealed"), **more)


def test_show_and_share_files_on_their_own(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    sealed(None, docs / "a.txt", docs / "sub" / "b")
    cut = docs / "a.txt.sealed"
    (entry,) = new(log, lambda: list(operations.cat(str(cut), answers(log))))
    is_about(entry, "cat", docs / "a.txt", size=9)
    (docs / "sub" / "b.sealed").write_bytes(b"nonsense")
    request = ShareRequest((str(cut), str(docs / "sub" / "b.sealed")), to=str(tmp_path))
    good, bad = new(log, lambda: operations.share(request, answers(log, RECIPIENT)))
    is_about(good, "share", docs / "a.txt", size=9, to=str(tmp_path / "a.txt.sealed"))
    # where the copy of the other would have gone was not known
    is_about(bad, "share", docs / "sub" / "b", "failed", error="NotSealed", exit_code=65)


# -- looking --------------------------------------------------------------------------------


@LAYOUTS
def test_verify_and_list(log: AccessLog, docs: Path, *, hidden: bool) -> None:
    sealed(None, docs, hide_names=hidden)
    more = {"vault": vault_of(docs), "slot": slot_of(docs)}
    (entry,) = new(log, lambda: operations.verify(str(docs), answers(log), jobs=1))
    is_about(entry, "verify", docs, count=2 + hidden, size=sum(SIZES.values()), **more)
    (entry,) = new(log, lambda: operations.list_files(str(docs), answers(log), jobs=1))
    is_about(entry, "list", docs, **more)
    assert new(log, lambda: operations.status(str(docs))) == []
    assert new(log, lambda: operations.info(str(docs))) == []
    assert new(log, lambda: operations.list_slots(str(docs))) == []
    if not hidden:
        assert new(log, lambda: operations.list_files(str(docs), Answers(log=log))) == []


def test_verify_what_is_damaged(log: AccessLog, docs: Path) -> None:
    sealed(None, docs)
    data = bytearray((docs / "a.txt.sealed").read_bytes())
    data[-1] ^= 1
    (docs / "a.txt.sealed").write_bytes(data)
    more = {"vault": vault_of(docs), "slot": slot_of(docs)}
    bad, entry = new(log, lambda: operations.verify(str(docs), answers(log), jobs=1))
    is_about(bad, "verify", docs / "a.txt", "failed", error="ChunkCorrupt", exit_code=65, **more)
    is_about(entry, "verify", docs, "failed", count=1, size=11, **more)
    bad, good = new(log, lambda: opened(log, docs))
    is_about(bad, "open", docs / "a.txt", "failed", error="ChunkCorrupt", exit_code=65, **more)
    is_about(good, "open", docs / "sub" / "b", size=11, **more)


# -- keys -----------------------------------------------------------------------------------


def test_keyslots(log: AccessLog, docs: Path) -> None:
    sealed(None, docs)
    path = str(docs)
    vault = vault_of(docs)
    bob = PublicKeyRecipient(hpke.public_key(bytes(range(1, 33))), label="bob")
    word = PasswordRecipient(encode_password("correct horse"), profile=CHEAPEST, label="word")
    added = new(log, lambda: operations.add_slots(path, answers(log, bob, word)))
    first, to_bob, by_word = (slot["id"] for slot in operations.list_slots(path))
    is_about(added[0], "slot.add", docs, vault=vault, slot=to_bob, detail="recipient", label="bob")
    is_about(added[1], "slot.add", docs, vault=vault, slot=by_word, detail="password", label="word")
    change = lambda: operations.change_password(path, answers(log, word), by_word)  # noqa: E731
    (entry,) = new(log, change)
    by_word = operations.list_slots(path)[-1]["id"]
    is_about(entry, "slot.passwd", docs, vault=vault, slot=by_word, detail="password", label="word")
    codes: list[operations.RecoveryCode] = []
    (entry,) = new(log, lambda: codes.append(operations.add_recovery(path, answers(log))))
    is_about(entry, "recovery.add", docs, vault=vault, slot=codes[0].slot["id"], detail="recovery")
    identity = RecoveryIdentity(decode_code(codes[0].code))
    (entry,) = new(log, lambda: operations.check_recovery(path, identity, log=log))
    is_about(entry, "unlock", docs, vault=vault, slot=codes[0].slot["id"], detail="recovery")
    (entry,) = new(log, lambda: operations.remove_slot(path, answers(log), by_word))
    is_about(entry, "slot.remove", docs, vault=vault, slot=by_word, detail="password", label="word")
    (entry,) = new(log, lambda: operations.rekey(path, answers(log), jobs=1))
    is_about(entry, "rekey", docs, vault=vault, slot=first)
    entries = new(log, lambda: operations.revoke(path, answers(log), to_bob, reseal=True, jobs=1))
    revoked = {"vault": vault, "slot": to_bob, "detail": "recipient", "label": "bob"}
    is_about(entries[0], "revoke", docs, **revoked)
    are_files(entries[1:], "reseal", docs, file_ids(docs), vault=vault, slot=first)


def test_identities(log: AccessLog, tmp_path: Path) -> None:
    path = tmp_path / "me.key"
    (entry,) = new(log, lambda: operations.new_identity(str(path), "me", None, log=log))
    made = operations.read_identity(str(path))
    is_about(entry, "key.new", path, detail=fingerprint(made.public))
    word = PasswordRecipient(encode_password("correct horse"), profile=CHEAPEST)
    key = made.unlock(None, str(path))
    (entry,) = new(
        log, lambda: operations.change_identity_password(str(path), made, key, word, log=log)
    )
    is_about(entry, "key.passwd", path, detail=fingerprint(made.public))
    assert new(log, lambda: _refused(operations.new_identity, str(path), "me", None)) == []


def _refused(act: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(EncvaultError):
        act(*arguments)


# -- what does not come about ---------------------------------------------------------------


@LAYOUTS
def test_a_wrong_key_is_refused(
    log: AccessLog, docs: Path, tmp_path: Path, *, hidden: bool
) -> None:
    sealed(None, docs, hide_names=hidden)
    alone = tmp_path / "alone"
    alone.write_bytes(b"x")
    sealed(None, alone)
    other = replace(answers(log, RECIPIENT), identities_given=(STRANGER,))
    path, one = str(docs), str(docs / "a.txt")
    with Vault.load(path) as vault:
        identity = vault.record.id
    for act, op, where in (
        (lambda: operations.open_paths(OpenRequest((path,)), other), "open", docs),
        (lambda: operations.open_paths(OpenRequest((f"{alone}.sealed",)), other), "open", alone),
        (lambda: list(operations.cat(one, other)), "cat", docs / "a.txt"),
        (lambda: list(operations.cat(f"{alone}.sealed", other)), "cat", alone),
        (lambda: operations.share(ShareRequest((one,)), other), "share", docs / "a.txt"),
        (lambda: operations.verify(path, other), "verify", docs),
        (lambda: operations.verify(f"{alone}.sealed", other), "verify", alone),
        (lambda: operations.list_files(path, other), "list", docs),
        (lambda: operations.add_slots(path, other), "slot.add", docs),
        (lambda: operations.rekey(path, other), "rekey", docs),
    ):
        (entry,) = new(log, lambda act=act: _refused(act))
        of = {} if where == alone else {"vault": identity}
        is_about(entry, op, where, "refused", error="NoMatchingKeyslot", exit_code=77, **of)


def test_of_several_paths_each_has_its_own(
    log: AccessLog, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sealed(None, docs)
    Path("alone").write_bytes(b"x")
    sealed(None, Path("alone"))
    Path("docs/a.txt").write_bytes(b"mine")  # in the way
    more = {"vault": vault_of(docs), "slot": slot_of(docs)}
    paths = (Path("docs"), Path("missing"), Path("alone.sealed"))
    conflict, good, missing, alone = new(log, lambda: opened(log, *paths))
    is_about(conflict, "open", docs / "a.txt", "failed", error="Conflict", exit_code=3, **more)
    is_about(good, "open", docs / "sub" / "b", size=11, **more)
    is_about(missing, "open", tmp_path / "missing", "failed", error="SourceMissing", exit_code=66)
    is_about(alone, "open", tmp_path / "alone", size=1)


def test_a_link_leads_to_one_place(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("docs")
    sealed(log, tmp_path / "link")
    other = replace(answers(log), identities_given=(STRANGER,))
    _refused(lambda: operations.verify(str(tmp_path / "link"), other))
    opened(log, tmp_path / "link" / "a.txt", output=str(tmp_path / "link" / ".." / "x"))
    entries = recorded(log)
    assert {Path(entry["path"]) for entry in entries} == {docs, docs / "a.txt", docs / "sub" / "b"}
    assert entries[-1]["to"] == str(tmp_path / "x")


def test_what_makes_no_sense_or_is_only_planned_is_not_recorded(log: AccessLog, docs: Path) -> None:
    planned = SealRequest((str(docs),), dry_run=True)
    assert new(log, lambda: operations.seal(planned, answers(log))) == []
    missing = SealRequest((f"{docs}-missing",), dry_run=True)
    assert new(log, lambda: _refused(operations.seal, missing, answers(log))) == []
    sealed(None, docs)
    declines = replace(answers(log), consent=False)
    request = OpenRequest((str(docs),), to=str(docs / "sub"))
    for act, error in (
        (lambda: operations.open_paths(request, answers(log)), InvalidRequest),
        (lambda: operations.rekey(str(docs), declines), ConfirmationNeeded),
    ):
        before = recorded(log)
        with pytest.raises(error):
            act()
        assert recorded(log) == before


def test_what_failed_before_an_interrupt_is_recorded(log: AccessLog, docs: Path) -> None:
    class Impatient(Observer):
        def problem(self, error: EncvaultError) -> None:
            assert error.exit_code == 66

        def note(self, message: str) -> None:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        recording(log, "open", "", Impatient()) as recorder,
    ):
        recorder.problem(SourceMissing(path=str(docs / "gone")))
        recorder.note("about to end")
    (entry,) = recorded(log)
    is_about(entry, "open", docs / "gone", "failed", error="SourceMissing", exit_code=66)


# -- the checkpoint in a vault --------------------------------------------------------------


@LAYOUTS
def test_a_vault_keeps_the_checkpoint_of_what_changed_it(
    log: AccessLog, docs: Path, tmp_path: Path, *, hidden: bool
) -> None:
    folder = docs / ".encvault" / "checkpoints"
    sealed(log, docs, hide_names=hidden)
    (kept,) = folder.iterdir()
    latest = Path(log.path, "checkpoint")
    assert kept.read_bytes() == latest.read_bytes()
    assert kept.name == latest.read_text().split("/")[1]
    after_seal = kept.read_bytes()
    operations.verify(str(docs), answers(log), jobs=1)
    list(operations.cat(str(docs / "a.txt"), answers(log)))
    opened(log, docs, to=str(tmp_path / "out"))
    operations.list_files(str(docs), answers(log))
    assert kept.read_bytes() == after_seal != latest.read_bytes()
    operations.rekey(str(docs), answers(log), jobs=1)
    assert kept.read_bytes() == latest.read_bytes()
    opened(log, docs / "a.txt")
    assert kept.read_bytes() == latest.read_bytes()
    assert verify(log.path, anchors=[str(docs)]).verdict is Verdict.ANCHORED_OK
    found = operations.status(str(docs))
    assert (len(found.plain), found.unknown, found.leftovers) == (1, [], [])
    assert operations.verify(str(docs), answers(None)).problems == []
    assert os.listdir(folder) == [kept.name]  # and no temporary file


def test_a_vault_that_is_made_keeps_one_too(log: AccessLog, tmp_path: Path) -> None:
    operations.init_vault(str(tmp_path / "v"), answers(log))
    (kept,) = (tmp_path / "v" / ".encvault" / "checkpoints").iterdir()
    assert kept.read_bytes() == Path(log.path, "checkpoint").read_bytes()


def test_without_a_log_nothing_is_written(docs: Path, tmp_path: Path) -> None:
    sealed(None, docs)
    operations.verify(str(docs), answers(None))
    list(operations.cat(str(docs / "a.txt"), answers(None)))
    assert sorted(os.listdir(tmp_path)) == ["docs"]
    assert not (docs / ".encvault" / "checkpoints").exists()
    assert not Path(os.environ["XDG_STATE_HOME"]).exists()


def test_a_file_under_another_name_tells_its_own(
    log: AccessLog, docs: Path, tmp_path: Path
) -> None:
    sealed(None, docs)
    (docs / "a.txt.sealed").rename(docs / "boring.sealed")
    (docs / "sub" / "b.sealed").rename(docs / "b.sealed")  # moved, and called as before
    more = {"vault": vault_of(docs), "slot": slot_of(docs)}
    (entry,) = new(log, lambda: list(operations.cat(str(docs / "boring"), answers(log))))
    is_about(entry, "cat", docs / "boring", size=9, name="a.txt", **more)
    there = str(tmp_path / "out")
    entries = new(log, lambda: opened(log, docs, to=there))
    assert {Path(one["path"]).name: one.get("name") for one in entries} == {
        "boring": "a.txt",
        "b": "b",
    }
    alone = tmp_path / "alone"
    alone.write_bytes(b"x")
    sealed(None, alone)
    (tmp_path / "alone.sealed").rename(tmp_path / "other.sealed")
    (entry,) = new(log, lambda: list(operations.cat(str(tmp_path / "other.sealed"), answers(log))))
    is_about(entry, "cat", tmp_path / "other", size=1, name="alone")


def test_an_object_tells_whose_content_it_has(log: AccessLog, docs: Path) -> None:
    sealed(None, docs, hide_names=True)
    found = {}
    for path in docs.glob(".encvault/objects/*/*"):
        try:
            list(operations.cat(str(path), answers(log)))
        except InvalidRequest:
            continue  # a folder
        found[recorded(log)[-1]["name"]] = recorded(log)[-1]["path"]
    assert set(found) == {"a.txt", "b"}
    assert all("/objects/" in path for path in found.values())


def test_whom_something_was_shared_with(log: AccessLog, docs: Path, tmp_path: Path) -> None:
    sealed(None, docs)
    bob = PublicKeyRecipient(hpke.public_key(bytes(range(1, 33))), label="bob")
    word = PasswordRecipient(encode_password("correct horse"), profile=CHEAPEST, label="word")
    request = ShareRequest((str(docs / "a.txt"),), to=str(tmp_path))
    (entry,) = new(log, lambda: operations.share(request, answers(log, bob, word)))
    assert entry["recipients"] == f"{fingerprint(bob.public)} password"


def test_labels_are_personal(log: AccessLog, docs: Path) -> None:
    sealed(None, docs)
    log.paths = "hmac"
    bob = PublicKeyRecipient(hpke.public_key(bytes(range(1, 33))), label="bob")
    entry = new(log, lambda: operations.add_slots(str(docs), answers(log, bob)))[-1]
    assert (entry["op"], entry["detail"], "label" in entry) == ("slot.add", "recipient", False)
    assert "bob" not in json.dumps(entry)
