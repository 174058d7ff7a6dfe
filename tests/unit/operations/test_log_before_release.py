"""Nothing is given out that is not recorded; sealing goes on, and says so."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import keys

from encvault import operations
from encvault.accesslog.audit import Verdict
from encvault.accesslog.log import AccessLog
from encvault.accesslog.verifying import verify
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import AccessLogError, LogBusy, LogDamaged, LogUnavailable
from encvault.fs import calls
from encvault.keyslots import (
    KeyIdentity,
    PasswordRecipient,
    RecoveryIdentity,
    decode_code,
    encode_password,
)
from encvault.operations import Answers, OpenRequest, SealRequest, ShareRequest
from encvault.secret import Secret
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b"prices for 2027"
BOB = PasswordRecipient(encode_password("correct horse"), profile=CHEAPEST, label="bob")
LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@dataclass
class World:
    """A vault, a file and an archive on their own, and a log that has recorded something.

    Attributes:
        top: all of it but the log.
        log: the log.
        code: a recovery code of the vault.
        given: what was given out other than to files.
        told: who watches.
    """

    top: Path
    log: AccessLog
    code: str
    given: list[bytes]
    told: Notes

    @property
    def vault(self) -> str:
        return str(self.top / "docs")

    def answers(self) -> Answers:
        return replace(keys(), log=self.log, new_recipients_given=(BOB,))

    def open(self, *paths: str, **options: object) -> None:
        request = OpenRequest(tuple(str(self.top / path) for path in paths), jobs=1, **options)  # type: ignore[arg-type]
        operations.open_paths(request, self.answers(), self.told)

    def cat(self, path: str) -> None:
        for piece in operations.cat(str(self.top / path), self.answers(), self.told):
            self.given.append(bytes(piece))

    def open_stream(self) -> None:
        with (self.top / "alone.sealed").open("rb") as source:
            for piece in operations.open_from_stream(source.fileno(), self.answers(), self.told):
                self.given.append(bytes(piece))

    def share(self, path: str) -> None:
        request = ShareRequest((str(self.top / path),), to=str(self.top / "shared"))
        operations.share(request, self.answers(), self.told)

    def add_recovery(self) -> None:
        def deliver(made: operations.RecoveryCode) -> None:
            self.given.append(made.code.encode())

        operations.add_recovery(self.vault, self.answers(), deliver=deliver, observer=self.told)

    def check_recovery(self) -> None:
        identity = RecoveryIdentity(decode_code(self.code))
        slot = operations.check_recovery(self.vault, identity, log=self.log, observer=self.told)
        self.given.append(slot["id"].encode())

    def list(self) -> None:
        listed, _problems = operations.list_files(
            self.vault, self.answers(), jobs=1, observer=self.told
        )
        self.given.append(listed[0].path.encode())

    def slot(self, label: str) -> str:
        return next(s["id"] for s in operations.list_slots(self.vault) if s["label"] == label)

    def files(self) -> dict[str, bytes]:
        """Every file of the world; an empty folder grants nothing."""
        return {
            str(path.relative_to(self.top)): path.read_bytes()
            for path in self.top.rglob("*")
            if path.is_file()
        }


GRANTING: dict[str, Callable[[World], object]] = {
    "open": lambda world: world.open("docs"),
    "open --keep": lambda world: world.open("docs", keep=True),
    "open --to": lambda world: world.open("docs", to=str(world.top / "out")),
    "open --output": lambda world: world.open("docs/a", output=str(world.top / "out")),
    "open alone": lambda world: world.open("alone.sealed"),
    "open alone --output": lambda world: world.open("alone.sealed", output=str(world.top / "o")),
    "open archive": lambda world: world.open("all.sealed"),
    "open archive --to": lambda world: world.open("all.sealed", to=str(world.top / "out")),
    "open stream": World.open_stream,
    "cat": lambda world: world.cat("docs/a"),
    "cat alone": lambda world: world.cat("alone.sealed"),
    "share": lambda world: world.share("docs/a"),
    "share alone": lambda world: world.share("alone.sealed"),
    "ls": World.list,
    "slot add": lambda world: operations.add_slots(
        world.vault, world.answers(), observer=world.told
    ),
    "slot remove": lambda world: operations.remove_slot(
        world.vault, world.answers(), world.slot("alice"), observer=world.told
    ),
    "passwd": lambda world: operations.change_password(
        world.vault, world.answers(), world.slot("alice"), observer=world.told
    ),
    "recovery add": World.add_recovery,
    "recovery test": World.check_recovery,
    "rekey": lambda world: operations.rekey(
        world.vault, world.answers(), jobs=1, observer=world.told
    ),
    "revoke": lambda world: operations.revoke(
        world.vault, world.answers(), world.slot("alice"), jobs=1, observer=world.told
    ),
}


def seal(path: Path, log: AccessLog | None = None, **options: object) -> operations.Report:
    request = SealRequest((str(path),), **options)  # type: ignore[arg-type]
    return operations.seal(request, replace(keys(), log=log))


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    top = tmp_path / "top"
    (top / "docs" / "sub").mkdir(parents=True)
    for name in ("docs/a", "docs/sub/b", "alone"):
        (top / name).write_bytes(SECRET)
    seal(top / "docs", archive=str(top / "all.sealed"))
    seal(top / "alone")
    seal(top / "docs", jobs=1, hide_names="hidden" in request.node.name)
    alice = PasswordRecipient(encode_password("battery staple"), profile=CHEAPEST, label="alice")
    more = replace(keys(), new_recipients_given=(alice,))
    operations.add_slots(str(top / "docs"), more)
    code = operations.add_recovery(str(top / "docs"), more).code
    log = AccessLog(str(tmp_path / "log"))
    log.record([{"op": "scan", "outcome": "ok"}])
    return World(top, log, code, [], Notes())


# -- what may be wrong with a log -----------------------------------------------------------


@contextmanager
def no_folder(log: AccessLog) -> Iterator[None]:
    shutil.rmtree(log.path)
    Path(log.path).write_text("in the way")
    yield


@contextmanager
def no_space(log: AccessLog) -> Iterator[None]:
    def probe(name: str, fd: int, _target: str) -> None:
        if name.startswith("write") and _path_of(fd).startswith(log.path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls.probe = probe
    try:
        yield
    finally:
        calls.probe = None


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@contextmanager
def cut(log: AccessLog) -> Iterator[None]:
    entries = Path(log.path, "entries")
    entries.write_bytes(entries.read_bytes().splitlines(keepends=True)[0])
    yield


@contextmanager
def changed(log: AccessLog) -> Iterator[None]:
    entries = Path(log.path, "entries")
    entries.write_bytes(entries.read_bytes().replace(b'"op":"scan"', b'"op":"seal"'))
    Path(log.path, "state").unlink()
    yield


@contextmanager
def in_use(log: AccessLog) -> Iterator[None]:
    fd = os.open(os.path.join(log.path, "lock"), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


BROKEN = {
    "no-folder": (no_folder, LogUnavailable, 74),
    "no-space": (no_space, LogUnavailable, 74),
    "cut": (cut, LogDamaged, 74),
    "changed": (changed, LogDamaged, 74),
    "in-use": (in_use, LogBusy, 75),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encvault.accesslog.log._PATIENCE", 0.05)


# -- the law --------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("what", GRANTING)
def test_what_cannot_be_recorded_does_not_happen(world: World, what: str, *, hidden: bool) -> None:
    assert (world.top / "docs" / "a.sealed").exists() != hidden
    before = world.files()
    assert not any(data == SECRET for data in before.values())
    saved = world.log.path + ".saved"
    shutil.copytree(world.log.path, saved)
    for breaks, error, code in BROKEN.values():
        with breaks(world.log), pytest.raises(AccessLogError) as caught:
            GRANTING[what](world)
        assert (type(caught.value), caught.value.exit_code) == (error, code)
        assert world.given == []
        assert world.files() == before
        if Path(world.log.path).is_file():
            Path(world.log.path).unlink()
        shutil.rmtree(world.log.path, ignore_errors=True)
        shutil.copytree(saved, world.log.path)
    GRANTING[what](world)  # and it was the log that kept it from happening
    assert world.given or world.files() != before
    assert verify(world.log.path).verdict is Verdict.OK_UNANCHORED


@pytest.mark.parametrize("what", GRANTING)
@pytest.mark.parametrize("how", ["no-folder", "cut"])
def test_who_would_rather_work_than_record_is_told(world: World, what: str, how: str) -> None:
    world.log.required = False
    before = world.files()
    breaks, error, _code = BROKEN[how]
    with breaks(world.log):
        GRANTING[what](world)
    assert world.given or world.files() != before
    told = [note for note in world.told.notes if world.log.path in note]
    assert len(told) == 1, "once, however many batches there were"
    assert told[0].startswith(f"the access log {world.log.path} ")
    assert ("damaged" in told[0]) == (error is LogDamaged)


@LAYOUTS
@pytest.mark.parametrize("how", BROKEN)
def test_sealing_goes_on_and_says_so(world: World, how: str, *, hidden: bool) -> None:
    docs = world.top / "docs"
    world.open("docs")
    breaks, error, code = BROKEN[how]
    with breaks(world.log):
        report = seal(docs, world.log, jobs=1)
    outcome = report.outcome()
    assert type(outcome) is error
    assert outcome.exit_code == code
    assert (report.files, report.folders) == (2, int(hidden))
    assert not any(data == SECRET for data in world.files().values())


@pytest.mark.parametrize("how", BROKEN)
def test_sealing_that_need_not_be_recorded_ends_well(world: World, how: str) -> None:
    world.open("docs")
    world.log.required = False
    with BROKEN[how][0](world.log):
        report = seal(world.top / "docs", world.log, jobs=1)
    assert (report.outcome(), report.files) == (None, 2)


@pytest.mark.parametrize("how", BROKEN)
def test_a_vault_is_made_and_a_key_is_not(world: World, how: str) -> None:
    breaks, error, _code = BROKEN[how]
    with breaks(world.log):
        with pytest.raises(error):
            operations.init_vault(str(world.top / "new"), world.answers())
        with pytest.raises(error):
            operations.new_identity(str(world.top / "key"), "", None, log=world.log)
    assert operations.status(str(world.top / "new")).plain == []
    assert not (world.top / "key").exists()


@pytest.mark.parametrize("how", BROKEN)
def test_a_wrong_key_looks_like_the_right_one(world: World, how: str) -> None:
    """Or passwords could be tried where nobody hears of it."""
    stranger = replace(world.answers(), identities_given=(KeyIdentity(Secret(bytes(32))),))
    breaks, error, _code = BROKEN[how]
    with breaks(world.log):
        for answers in (world.answers(), stranger):
            with pytest.raises(error):
                operations.verify(world.vault, answers, jobs=1)
            with pytest.raises(error):
                list(operations.cat(world.vault + "/a", answers))


@pytest.mark.parametrize("path", ["docs/a", "alone.sealed"])
def test_no_key_is_tried_where_nothing_can_be_recorded(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(Answers, "identities", lambda _self, what: tried.append(what) or ())
    with no_folder(world.log):
        for act in (
            lambda: list(operations.cat(str(world.top / path), world.answers())),
            lambda: operations.verify(str(world.top / path), world.answers(), jobs=1),
            lambda: world.open(path),
        ):
            with pytest.raises(LogUnavailable):
                act()
    assert tried == []


def put_back(world: World) -> Path:
    """Replace the log by an older copy; give the vault's checkpoint of it."""
    older = world.log.path + "-older"
    shutil.copytree(world.log.path, older)
    (world.top / "docs" / "new").write_text("new")
    seal(world.top / "docs", world.log)  # after which the vault has the latest checkpoint
    shutil.rmtree(world.log.path)
    shutil.move(older, world.log.path)
    (kept,) = (world.top / "docs" / ".encvault" / "checkpoints").iterdir()
    return kept


def test_a_log_that_was_put_back_records_nothing_about_a_vault_that_knows_better(
    world: World,
) -> None:
    kept = put_back(world)
    before, entries = kept.read_bytes(), Path(world.log.path, "entries").read_bytes()
    for act in (lambda: world.cat("docs/a"), lambda: world.open("docs")):
        with pytest.raises(LogDamaged, match="put back"):
            act()
    assert world.given == []
    (world.top / "docs" / "newer").write_text("newer")
    report = seal(world.top / "docs", world.log)
    assert type(report.outcome()) is LogDamaged
    assert (world.top / "docs" / "newer.sealed").exists()
    assert kept.read_bytes() == before
    assert Path(world.log.path, "entries").read_bytes() == entries
    world.log = replace_log(world.log, required=False)
    world.cat("docs/a")
    assert world.given
    assert kept.read_bytes() == before
    assert Path(world.log.path, "entries").read_bytes() == entries


def test_what_others_wrote_into_the_vault_does_not_stop_anybody(world: World) -> None:
    (world.top / "docs" / "new").write_text("new")
    seal(world.top / "docs", world.log)
    (kept,) = (world.top / "docs" / ".encvault" / "checkpoints").iterdir()
    first, size, *rest = kept.read_text().split("\n")
    kept.write_text("\n".join([first, str(int(size) + 9), *rest]))
    world.cat("docs/a")
    assert world.given


def replace_log(log: AccessLog, *, required: bool) -> AccessLog:
    return AccessLog(log.path, required=required)


def test_a_log_that_is_made_is_told_once(world: World, tmp_path: Path) -> None:
    world.log = AccessLog(str(tmp_path / "new-log"))
    world.open("docs")
    world.cat("alone.sealed")
    (note,) = world.told.notes
    assert note.startswith(f"accesses are recorded from now on in {tmp_path}/new-log; ")
