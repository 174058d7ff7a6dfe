"""Files on their own and streams: several keys, careful outputs, nothing overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, RECIPIENT, SEED, in_child, keys, seal, snapshot, unseal

from encvault import operations
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.crypto.suite import Suite
from encvault.envelope import Header, InlineKeyInfo, Record, VaultKeyInfo
from encvault.errors import (
    CannotCreate,
    Conflict,
    DestinationExists,
    EncvaultError,
    ForeignFile,
    InputOutputError,
    IntegrityError,
    KeyRequired,
    MalformedHeader,
    MalformedRecord,
    NoMatchingKeyslot,
    NotSealed,
    OutOfSpace,
    SourceChanged,
    SourceMissing,
    SpecialFile,
    Truncated,
    VaultBusy,
)
from encvault.fs import calls
from encvault.keyslots import (
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    encode_password,
)
from encvault.secret import Secret
from encvault.vault import sealing, single
from encvault.vault.output import OutputFile
from encvault.vault.report import Event, Observer
from encvault.vault.sealed import SealedReader, encode_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence

WHEN = 1_600_000_000_123_456_789
ID = "a" * 26


@pytest.fixture
def quote(tmp_path: Path) -> Path:
    path = tmp_path / "quote.xlsx"
    path.write_bytes(os.urandom(5000))
    path.chmod(0o640)
    os.utime(path, ns=(WHEN, WHEN))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(path: Path, *identities: Any) -> bytes:
    answers = operations.Answers(identities_given=identities) if identities else keys()
    return b"".join(map(bytes, operations.cat(str(path), answers)))


# -- keys -----------------------------------------------------------------------------------


def test_every_recipient_opens_and_nobody_else(quote: Path) -> None:
    content = quote.read_bytes()
    seeds = [bytes([number]) * 32 for number in range(3)]
    passwords = [encode_password(text) for text in ("correct horse", "密码")]
    recipients = [PublicKeyRecipient(hpke.public_key(seed)) for seed in seeds]
    slots = [PasswordRecipient(password, profile=CHEAPEST) for password in passwords]
    sealed = single.seal_file(str(quote), None, [*recipients, *slots], suite=Suite.SM4_GCM)
    path = quote.parent / "quote.xlsx.sealed"
    assert sealed == str(path)
    for identity in (
        *(KeyIdentity(Secret(seed)) for seed in seeds),
        *(PasswordIdentity(password) for password in passwords),
    ):
        assert read(path, identity) == content
    for stranger in (
        KeyIdentity(Secret(b"\x07" * 32)),
        PasswordIdentity(encode_password("incorrect horse")),
    ):
        with pytest.raises(NoMatchingKeyslot):
            read(path, stranger)
    assert read(path, stranger, KeyIdentity(Secret(seeds[2]))) == content


def test_a_password_is_hashed_once_to_open_and_check(
    quote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = encode_password("correct horse")
    single.seal_file(
        str(quote), None, [PasswordRecipient(password, profile=CHEAPEST)], suite=Suite.AES_256_GCM
    )
    from encvault.crypto import kdf  # noqa: PLC0415 - to count its calls

    count = []
    real = kdf.derive_from_password

    def counted(*arguments: Any) -> Secret:
        count.append(1)
        return real(*arguments)

    monkeypatch.setattr("encvault.keyslots.passwords.kdf.derive_from_password", counted)
    single.open_file(f"{quote}.sealed", None, [PasswordIdentity(password)])
    assert len(count) == 1
    assert names(quote.parent) == ["quote.xlsx"]


def test_sealing_for_nobody_is_refused(quote: Path) -> None:
    with pytest.raises(KeyRequired):
        single.seal_file(str(quote), None, [], suite=Suite.AES_256_GCM)
    assert names(quote.parent) == ["quote.xlsx"]


def test_a_file_that_needs_its_vault_is_told(tmp_path: Path) -> None:
    keyring = single.SlotKeyring([KeyIdentity(Secret(SEED))])
    with pytest.raises(ForeignFile) as caught:
        keyring.key_for(Header(Suite.AES_256_GCM, 256, VaultKeyInfo(ID, ID, "b" * 26)), "x")
    assert caught.value.vault == "b" * 26
    with pytest.raises(MalformedHeader):
        keyring.key_for(Header(Suite.AES_256_GCM, 256, InlineKeyInfo(ID, ({"id": "x"},))), "x")


# -- one file -------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("size", [0, 1, 16_128, 600_000, 1_200_000])
def test_content_mode_and_time_come_back(quote: Path, suite: Suite, size: int) -> None:
    content = os.urandom(size)
    quote.write_bytes(content)
    os.utime(quote, ns=(WHEN, WHEN))
    seal(quote, suite=suite)
    assert names(quote.parent) == ["quote.xlsx.sealed"]
    assert (quote.parent / "quote.xlsx.sealed").stat().st_mode & 0o777 == 0o640
    report = unseal(quote.parent / "quote.xlsx.sealed")
    assert (report.files, report.size, report.problems) == (1, size, [])
    status = quote.stat()
    assert names(quote.parent) == ["quote.xlsx"]
    assert quote.read_bytes() == content
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, WHEN)


def test_keep_leaves_the_source_untouched(quote: Path) -> None:
    before = quote.stat()
    content = quote.read_bytes()
    seal(quote, keep=True)
    assert names(quote.parent) == ["quote.xlsx", "quote.xlsx.sealed"]
    after = quote.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # the same content is there already: that is no conflict, and the sealed file stays
    unseal(quote.parent / "quote.xlsx.sealed", keep=True)
    assert names(quote.parent) == ["quote.xlsx", "quote.xlsx.sealed"]
    unseal(quote.parent / "quote.xlsx.sealed")
    assert names(quote.parent) == ["quote.xlsx"]
    assert quote.read_bytes() == content


def test_outputs_that_exist_are_kept_without_force(quote: Path) -> None:
    sealed = quote.parent / "quote.xlsx.sealed"
    sealed.write_text("precious")
    with pytest.raises(DestinationExists):
        seal(quote)
    assert sealed.read_text() == "precious"
    content = quote.read_bytes()
    seal(quote, force=True)
    assert names(quote.parent) == ["quote.xlsx.sealed"]
    quote.write_text("newer")
    with pytest.raises(Conflict):
        unseal(sealed)
    assert quote.read_text() == "newer"
    unseal(sealed, force=True)
    assert quote.read_bytes() == content
    assert names(quote.parent) == ["quote.xlsx"]


@pytest.mark.parametrize("taken", ["folder", "dangling link"])
def test_an_output_that_is_no_file_is_kept(quote: Path, taken: str) -> None:
    output = quote.parent / "output"
    if taken == "folder":
        output.mkdir()
    else:
        output.symlink_to("nowhere")
    for force in (False, True) if taken == "folder" else (False,):
        with pytest.raises(EncvaultError) as caught:
            seal(quote, output=str(output), force=force)
        assert caught.value.exit_code in (73, 74)
    assert quote.exists()
    assert names(quote.parent) == ["output", "quote.xlsx"]


def test_the_kernels_links_are_no_place_for_a_file(quote: Path) -> None:
    """/dev/stdout is a regular file now and then, and by force the link would give way to one."""
    with (quote.parent / "out").open("wb") as out:
        link = f"/proc/self/fd/{out.fileno()}"
        for force in (False, True):
            with pytest.raises(CannotCreate):
                seal(quote, output=link, force=force)
    assert quote.exists()
    assert (quote.parent / "out").read_bytes() == b""


def test_an_output_of_another_name_and_folder(quote: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    content = quote.read_bytes()
    seal(quote, output=str(tmp_path / "sub" / "x"))
    assert quote.exists()
    unseal(tmp_path / "sub" / "x", output=str(tmp_path / "y"))
    assert (tmp_path / "y").read_bytes() == content
    assert (tmp_path / "sub" / "x").exists()
    unseal(tmp_path / "sub" / "x", to=str(tmp_path / "new" / "folder"))
    assert (tmp_path / "new" / "folder" / "quote.xlsx").read_bytes() == content
    with pytest.raises(SourceMissing):
        seal(quote, output=str(tmp_path / "missing" / "x"))


def test_a_renamed_sealed_file_opens_under_its_new_name(quote: Path) -> None:
    content = quote.read_bytes()
    seal(quote)
    (quote.parent / "quote.xlsx.sealed").rename(quote.parent / "offer.xlsx.sealed")
    unseal(quote.parent / "offer.xlsx.sealed")
    assert names(quote.parent) == ["offer.xlsx"]
    assert (quote.parent / "offer.xlsx").read_bytes() == content


@pytest.mark.parametrize("name", ["n" * 255, "中" * 85, "latin-\udce9", "-rf", "a b\n"])
def test_odd_and_long_names_come_back(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("content")
    seal(tmp_path / name)
    (sealed,) = tmp_path.iterdir()
    assert sealed.name.endswith(".sealed")
    unseal(sealed)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "content"


@pytest.mark.parametrize(
    ("size", "content"), [(5, 3_000_000), (3_000_000, 5), (0, 1), (20, 10), (2_000_000, 3_000_000)]
)
def test_a_file_that_is_not_as_long_as_it_says_leaves_nothing(
    tmp_path: Path, size: int, content: int
) -> None:
    """Its sender may say what they like; what is too long is not kept in memory before."""
    key, slots = single.make_key([RECIPIENT], "x")
    record = Record(type="file", path="a", sealed_at_ns=1, size=size).encode()
    suite, info = Suite.AES_256_GCM, InlineKeyInfo("a" * 26, slots)
    header = Header(suite, len(record), info).encode()
    path = tmp_path / "a.sealed"
    path.write_bytes(encode_sealed(suite, key, header, record, bytes(content)))
    with pytest.raises(MalformedRecord, match="not as long as it says"):
        unseal(path)
    assert names(tmp_path) == ["a.sealed"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_with_a_zero_byte_leaves_nothing(tmp_path: Path, *, exists: bool) -> None:
    """Its sender may say what they like; the system takes no such link."""
    key, slots = single.make_key([RECIPIENT], "x")
    record = Record(type="symlink", path="a", sealed_at_ns=1, size=3).encode()
    header = Header(Suite.AES_256_GCM, len(record), InlineKeyInfo("a" * 26, slots)).encode()
    path = tmp_path / "a.sealed"
    path.write_bytes(encode_sealed(Suite.AES_256_GCM, key, header, record, b"b\0c"))
    if exists:
        (tmp_path / "a").symlink_to("b")
    before = snapshot(tmp_path)
    with pytest.raises(MalformedRecord, match="zero byte"):
        unseal(path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_sealed_file_that_is_changed_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    seal(path)
    monkeypatch.setattr(SealedReader, "implied_size", lambda _self: size + 1)
    with pytest.raises(Truncated):
        unseal(tmp_path / "a.sealed")
    assert names(tmp_path) == ["a.sealed"]


def test_a_link_is_sealed_as_a_link(quote: Path) -> None:
    link = quote.parent / "link"
    link.symlink_to("quote.xlsx")
    os.utime(link, ns=(WHEN, WHEN), follow_symlinks=False)
    content = quote.read_bytes()
    seal(link)
    assert quote.read_bytes() == content
    assert read(quote.parent / "link.sealed") == b"quote.xlsx"
    unseal(quote.parent / "link.sealed")
    assert os.readlink(link) == "quote.xlsx"
    assert link.lstat().st_mtime_ns == WHEN
    assert names(quote.parent) == ["link", "quote.xlsx"]


def test_a_link_to_a_folder_stands_for_the_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "link").symlink_to("folder")
    seal(tmp_path / "link")
    assert names(tmp_path) == ["folder", "link"]
    assert names(tmp_path / "folder") == [".encvault", "file.sealed"]


def test_a_link_to_a_file_is_sealed_as_a_link_and_told(quote: Path) -> None:
    link = quote.parent / "link"
    link.symlink_to(quote.name)
    told: list[str] = []
    watcher = Observer()
    watcher.note = told.append  # type: ignore[method-assign]
    seal(link, watcher)
    assert quote.exists()
    assert not link.is_symlink()
    assert told == [f"{link}: is a link; what it points to is not sealed"]


def test_a_hard_link_keeps_its_other_name(quote: Path) -> None:
    other = quote.parent / "other"
    os.link(quote, other)
    content = quote.read_bytes()
    seal(quote)
    assert names(quote.parent) == ["other", "quote.xlsx.sealed"]
    assert other.read_bytes() == content
    # an output that is another name of the input leaves the input as it is
    os.link(other, quote)
    seal(quote, output=str(other), force=True)
    assert quote.read_bytes() == content
    assert read(other) == content


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "special"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises(SpecialFile) as caught:
        seal(path)
    assert caught.value.kind == kind
    with pytest.raises(EncvaultError):
        single.open_file(str(path), None, [])
    assert names(tmp_path) == ["special"]


def test_what_is_not_sealed_or_not_there(quote: Path) -> None:
    with pytest.raises(NotSealed):
        unseal(quote)
    assert names(quote.parent) == ["quote.xlsx"]
    for path in (quote.parent / "missing", quote.parent / "missing" / "deeper"):
        with pytest.raises(SourceMissing):
            seal(path)
        with pytest.raises(SourceMissing):
            single.open_file(str(path), None, [])
    with pytest.raises(InputOutputError):
        single.open_file(str(quote / "below"), None, [])


def test_folders_that_cannot_be_written_are_named(public_path: Path) -> None:
    (public_path / "file").write_text("x")
    public_path.chmod(0o555)

    def work() -> None:
        with pytest.raises(CannotCreate):
            single.seal_file(str(public_path / "file"), None, [RECIPIENT], suite=Suite.AES_256_GCM)

    in_child(work, uid=NOBODY)
    assert names(public_path) == ["file"]


class Meddler(Observer):
    """Writes to a file at the last moment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def before_release(self, events: Sequence[Event]) -> None:
        self._path.write_text("changed at the last moment")


def test_a_source_that_changes_at_the_last_moment_is_kept(quote: Path) -> None:
    with pytest.raises(SourceChanged):
        seal(quote, observer=Meddler(quote))
    assert quote.read_text() == "changed at the last moment"


def test_an_original_that_cannot_be_removed_is_told_and_all_is_as_it_was(
    quote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name == "unlink":
            raise OSError(5, "Input/output error")

    content = quote.read_bytes()
    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(InputOutputError):
        seal(quote)
    assert quote.read_bytes() == content
    assert names(quote.parent) == ["quote.xlsx"]


def test_a_sync_that_fails_after_the_name_was_taken_leaves_a_sealed_copy(
    quote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By force the older copy is gone; without the new one there would be none."""
    content = quote.read_bytes()
    seal(quote, keep=True)
    replaced: list[str] = []

    def fail(name: str, _fd: int, _target: str) -> None:
        if name == "replace":
            replaced.append(name)
        if name == "fsync" and replaced:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(calls, "probe", fail)
        with pytest.raises(InputOutputError):
            seal(quote, force=True)
    assert quote.read_bytes() == content
    assert names(quote.parent) == ["quote.xlsx", "quote.xlsx.sealed"]
    assert read(quote.parent / "quote.xlsx.sealed") == content


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, InputOutputError), (errno.ENOSPC, OutOfSpace)]
)
def test_a_copy_that_is_not_durable_goes_and_is_named(
    quote: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[EncvaultError]
) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name == "fsync":
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(calls, "probe", fail)
        with pytest.raises(kind) as caught:
            seal(quote, keep=True)
    assert caught.value.fields()["path"] == f"{quote}.sealed"
    assert names(quote.parent) == ["quote.xlsx"], "nothing that takes the room is left"


def test_a_sealed_file_that_changes_at_the_last_moment_is_kept(quote: Path) -> None:
    seal(quote)
    sealed = quote.parent / "quote.xlsx.sealed"
    with pytest.raises(SourceChanged):
        unseal(sealed, observer=Meddler(sealed))
    assert sealed.read_text() == "changed at the last moment"


class Refuser(Observer):
    def before_release(self, events: Sequence[Event]) -> None:
        raise VaultBusy(path="log", holder="test")


def test_no_plaintext_before_the_log_and_no_original_gone(quote: Path) -> None:
    content = quote.read_bytes()
    with pytest.raises(VaultBusy):
        seal(quote, observer=Refuser())
    assert quote.read_bytes() == content
    (quote.parent / "quote.xlsx.sealed").unlink()
    seal(quote)
    with pytest.raises(VaultBusy):
        unseal(quote.parent / "quote.xlsx.sealed", observer=Refuser())
    assert not quote.exists()
    assert (quote.parent / "quote.xlsx.sealed").exists()


def test_a_sealed_copy_that_reads_back_differently_is_no_copy(
    quote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = quote.read_bytes()
    real = sealing._prove

    def disturb(context: Any, task: Any, written: Any) -> None:
        (temporary,) = quote.parent.glob(".encvault-*")
        data = bytearray(temporary.read_bytes())
        data[-1] ^= 1
        temporary.write_bytes(data)
        real(context, task, written)

    monkeypatch.setattr(sealing, "_prove", disturb)
    with pytest.raises(EncvaultError) as caught:
        seal(quote)
    assert caught.value.exit_code == 65
    assert names(quote.parent) == ["quote.xlsx"]
    assert quote.read_bytes() == content


class Totals(Observer):
    wants_total = True

    def __init__(self) -> None:
        self.totals: list[tuple[int, int]] = []
        self.done = [0, 0]
        self.events: list[Event] = []

    def total(self, files: int, size: int) -> None:
        self.totals.append((files, size))

    def progress(self, files: int, size: int) -> None:
        self.done[0] += files
        self.done[1] += size

    def before_release(self, events: Sequence[Event]) -> None:
        self.events += events


def test_progress_and_events(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2_000_000))
    watcher = Totals()
    seal(path, observer=watcher)
    assert watcher.totals == [(1, 2_000_000)]
    assert watcher.done[0] == 1
    # every stripe is rounded once, and the record of 256 bytes counts as well
    assert abs(watcher.done[1] - 2_000_000) <= 256 + 16
    (event,) = watcher.events
    assert (event.action, event.path, event.size) == ("seal", str(path), 2_000_000)
    opening = Totals()
    unseal(tmp_path / "file.sealed", observer=opening)
    (opened,) = opening.events
    assert (opened.action, opened.path, opened.size) == ("open", str(path), 2_000_000)
    assert opened.file == event.file
    assert opening.done[0] == 1


def test_what_a_killed_run_left_is_removed_by_the_next(quote: Path) -> None:
    from encvault.fs import durable  # noqa: PLC0415 - for the name only
    from encvault.fs.tree import Tree  # noqa: PLC0415 - likewise

    with Tree(str(quote.parent)) as tree:
        left = durable.temporary_name(durable.own_temporary(tree, "quote.xlsx.sealed"))
    (quote.parent / left).write_text("half")
    seal(quote)
    assert names(quote.parent) == ["quote.xlsx.sealed"]


# -- streams --------------------------------------------------------------------------------


def feed(data: bytes) -> tuple[int, threading.Thread]:
    read_end, write_end = os.pipe()

    def work() -> None:
        # the reader may give up early, as it should on an error
        with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 65_537):
                pipe.write(data[start : start + 65_537])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return read_end, thread


def seal_from(data: bytes, output: Path, **options: Any) -> int:
    source, thread = feed(data)
    request = operations.SealRequest(paths=(), output=str(output), **options)
    try:
        return operations.seal_from_stream(source, request, keys(), lambda: -1)
    finally:
        os.close(source)
        thread.join()


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("size", [0, 1, 512 * 1024, 3 * 512 * 1024 + 7])
def test_a_stream_becomes_a_file_and_a_stream_again(
    tmp_path: Path, suite: Suite, size: int
) -> None:
    content = os.urandom(size)
    output = tmp_path / "backup.sql.sealed"
    assert seal_from(content, output, suite=suite) == size
    assert names(tmp_path) == ["backup.sql.sealed"]
    source, thread = feed(output.read_bytes())
    pieces = operations.open_from_stream(source, keys())
    assert b"".join(map(bytes, pieces)) == content
    os.close(source)
    thread.join()
    unseal(output)
    assert (tmp_path / "backup.sql").read_bytes() == content


def test_a_stream_is_written_to_where_it_is_asked_for(tmp_path: Path) -> None:
    source, thread = feed(b"content")
    with (tmp_path / "out").open("wb") as file:
        size = operations.seal_from_stream(
            source, operations.SealRequest(paths=()), keys(), file.fileno
        )
    os.close(source)
    thread.join()
    assert size == 7
    assert read(tmp_path / "out") == b"content"
    unseal(tmp_path / "out", to=str(tmp_path / "opened"))
    assert names(tmp_path / "opened") == ["stdin"]


def test_nothing_is_written_before_the_keys_are_there() -> None:
    def never() -> int:
        raise AssertionError("single: asked for the output before the keys were there")

    source, thread = feed(b"content")
    with pytest.raises(KeyRequired):
        operations.seal_from_stream(
            source, operations.SealRequest(paths=()), operations.Answers(), never
        )
    os.close(source)
    thread.join()


def test_a_stream_that_was_opened_already_is_no_conflict(tmp_path: Path) -> None:
    seal_from(b"content", tmp_path / "backup.sealed")
    for _time in range(2):
        report = unseal(tmp_path / "backup.sealed", keep=True)
        assert (report.files, report.size) == (1, 7)
    assert names(tmp_path) == ["backup", "backup.sealed"]


def test_an_interrupted_stream_gives_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.read_into
    count = []

    def interrupt(fd: int, buffer: memoryview) -> int:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return real(fd, buffer)

    with (tmp_path / "source").open("wb+") as file:
        file.write(bytes(3_000_000))
        file.seek(0)
        monkeypatch.setattr(calls, "read_into", interrupt)
        request = operations.SealRequest(paths=(), output=str(tmp_path / "out.sealed"))
        with pytest.raises(KeyboardInterrupt):
            operations.seal_from_stream(file.fileno(), request, keys(), lambda: -1)
    assert names(tmp_path) == ["source"]


def test_a_stream_never_overwrites_without_force(tmp_path: Path) -> None:
    output = tmp_path / "out.sealed"
    output.write_text("precious")
    with pytest.raises(DestinationExists):
        seal_from(b"x", output)
    assert output.read_text() == "precious"
    seal_from(b"x", output, force=True)
    assert read(output) == b"x"
    with pytest.raises(SourceMissing):
        seal_from(b"x", tmp_path / "missing" / "out.sealed")


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(DestinationExists), OutputFile(str(output), force=False) as file:
        os.write(file.open(), b"mine")
        output.write_text("precious")
        file.publish()
    assert output.read_text() == "precious"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["create", "fsync", "rename_new"])
def test_a_disk_that_fails_leaves_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name == call:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(InputOutputError):
        seal_from(b"x", tmp_path / "out")
    assert names(tmp_path) == []


def test_an_interrupt_while_the_name_is_given_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, _fd: int, _target: str) -> None:
        if name == "rename_new":
            raise KeyboardInterrupt

    monkeypatch.setattr(calls, "probe", fail)
    with pytest.raises(KeyboardInterrupt):
        seal_from(b"x", tmp_path / "out")
    assert names(tmp_path) == []


def test_an_output_takes_the_mode_asked_for(tmp_path: Path) -> None:
    with OutputFile(str(tmp_path / "out"), force=False, mode=0o600) as file:
        file.open()
        file.publish()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    with OutputFile(str(tmp_path / "never"), force=False):
        pass
    assert names(tmp_path) == ["out"]


def test_a_cut_stream_is_an_error_however_much_was_given(tmp_path: Path) -> None:
    output = tmp_path / "out"
    content = os.urandom(2_000_000)
    seal_from(content, output)
    os.truncate(output, output.stat().st_size - 1)
    given = bytearray()
    with output.open("rb") as file, pytest.raises(EncvaultError) as caught:
        for piece in operations.open_from_stream(file.fileno(), keys()):
            given += piece
    assert caught.value.exit_code == 65
    assert content.startswith(given)


@pytest.mark.parametrize("at", [-1, -100_000, 6000])
def test_damage_in_a_piped_stream_is_damage(tmp_path: Path, at: int) -> None:
    seal_from(os.urandom(2_000_000), tmp_path / "out")
    data = bytearray((tmp_path / "out").read_bytes())
    data[at] ^= 1
    source, thread = feed(bytes(data))
    try:
        with pytest.raises(IntegrityError) as caught:
            for _piece in operations.open_from_stream(source, keys()):
                pass
    finally:
        os.close(source)
        thread.join()
    assert caught.value.exit_code == 65


def test_what_could_not_be_restored_is_told(quote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(quote)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(1, "no modes here")

    monkeypatch.setattr(os, "fchmod", refuse)
    report = unseal(quote.parent / "quote.xlsx.sealed")
    assert any("mode" in note for note in report.notes)


def test_an_output_whose_name_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate):  # and no descriptor is left open
        OutputFile(str(tmp_path / ("x" * 300)), force=False)


# -- a full disk ----------------------------------------------------------------------------


def limited(**options: str) -> list[str]:
    """What is told by `seal` where no file may be larger than 20 kB."""

    def work() -> list[str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        source = Path(options.pop("source"))
        try:
            return list(map(str, seal(source, **options).problems))
        except EncvaultError as error:
            return [str(error), str(error.hint)]

    return in_child(work)


def test_a_full_disk_is_told_by_the_name_of_what_is_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(bytes(50_000))
    output = tmp_path / "away" / "out.sealed"
    output.parent.mkdir()
    told, hint = limited(source=str(source / "large"), output=str(output))
    assert told == f"{output}: no space left"
    assert "where it stopped" not in hint  # a single file starts anew
    assert os.listdir(output.parent) == []
    mirror = tmp_path / "mirror"
    assert limited(source=str(source), to=str(mirror)) == [f"{mirror}/large.sealed: no space left"]
    hidden = tmp_path / "hidden"
    operations.init_vault(str(hidden), keys(), hide_names=True)
    assert limited(source=str(source), to=str(hidden)) == [f"{hidden}/large: no space left"]
