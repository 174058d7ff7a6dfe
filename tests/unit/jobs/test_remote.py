"""Mirrors and archives go to real servers, whatever happens on the way."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers import Node, seal, snapshot, unseal, write_tree
from servers import BUCKET, Bucket, RemoteServer, Sshd, free_port, make_key

from encvault.cli.process import Terminated
from encvault.errors import (
    AddressUnusable,
    CopyChanged,
    CopyLost,
    EncvaultError,
    ForeignCopy,
    HostChanged,
    HostUnknown,
    KeysMissing,
    OtherVaultThere,
    RemoteFailed,
    RemoteUnavailable,
)
from encvault.fs.tree import Tree
from encvault.jobs.remote.carried import CarriedLedger
from encvault.jobs.remote.carrying import carry_file, carry_tree, list_files, remove_file
from encvault.jobs.remote.server import Address, Options, Server
from encvault.vault.report import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from encvault.jobs.remote.carrier import CarryReport
    from encvault.jobs.remote.carrying import Verify

KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path / "sshd")
    yield server
    server.kill()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret that is never told")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = Bucket(tmp_path / "s3", {})
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    yield server
    server.kill()


@pytest.fixture(params=["sshd", "bucket"])
def remote(request: pytest.FixtureRequest) -> RemoteServer:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


class Spool:
    """A source, its sealed mirror, and what is known of the server."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.sealed = folder / "spool" / "mirror"
        self.records = folder / "records"
        self.state = folder / "state"
        self.records.mkdir()
        self.sealed.parent.mkdir()

    def seal(self, **options: object) -> None:
        seal(self.source, to=str(self.sealed), state_dir=str(self.state), delete=True, **options)

    def carry(
        self,
        url: str,
        verify: Verify = "none",
        observer: Observer | None = None,
        options: Options | None = None,
    ) -> CarryReport:
        with (
            Tree(str(self.sealed)) as tree,
            Server.reach(url, options) as server,
            CarriedLedger(str(self.records), server.place, "mirror") as known,
        ):
            return carry_tree(
                server,
                tree,
                delete=True,
                verify=verify,
                known=known,
                observer=observer or Observer(),
            )

    def files(self) -> dict[str, bytes]:
        found = {
            str(path.relative_to(self.sealed)): path.read_bytes()
            for path in sorted(self.sealed.rglob("*"))
            if path.is_file()
        }
        del found[".encvault/lock"]
        return found


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    one = Spool(tmp_path)
    write_tree(one.source)
    (one.source / ".hidden").write_text("a leading dot")
    (one.source / "a b' \"c").write_text("spaces and quotes")
    one.seal()
    return one


class Told(Observer):
    """Remembers what it was told, and may do something at a step."""

    def __init__(self, at: int = -1, then: Callable[[], None] = lambda: None) -> None:
        self.actions: list[tuple[str, str]] = []
        self.problems: list[EncvaultError] = []
        self._at = at
        self._then = then

    def action(self, verb: str, path: str) -> None:
        if len(self.actions) == self._at:
            self._then()
        self.actions.append((verb, path))

    def problem(self, error: EncvaultError) -> None:
        self.problems.append(error)


def without_folder_times(root: Path) -> dict[str, Node]:
    """In the visible layout folders are folders: no server is told when they were changed."""
    return {
        path: replace(node, mtime_ns=0) if node.kind == "dir" else node
        for path, node in snapshot(root).items()
    }


def opened(remote: RemoteServer, folder: Path) -> Path:
    """What comes back from the server, opened."""
    remote.download(folder / "downloaded")
    unseal(folder / "downloaded", to=str(folder / "opened"))
    shutil.rmtree(folder / "downloaded")
    return folder / "opened"


@pytest.mark.parametrize("hide_names", [False, True])
def test_a_mirror_comes_back_as_it_was(
    remote: RemoteServer, tmp_path: Path, *, hide_names: bool
) -> None:
    spool = Spool(tmp_path)
    write_tree(spool.source, big=20 * MIB)
    spool.seal(hide_names=hide_names)
    told = Told()

    report = spool.carry(remote.url, observer=told)

    assert not report.problems
    assert remote.files() == spool.files()
    assert report.files == len(spool.files())
    assert report.size == sum(map(len, spool.files().values()))
    order = [path for _verb, path in told.actions]
    assert order[:2] == [".encvault/vault.a.json", ".encvault/vault.b.json"]
    assert order[2].startswith(".encvault/keys/")
    look = snapshot if hide_names else without_folder_times
    assert look(opened(remote, tmp_path)) == look(spool.source)


def test_nothing_is_sent_twice(remote: RemoteServer, spool: Spool) -> None:
    first = spool.carry(remote.url)
    told = Told()
    second = spool.carry(remote.url, observer=told)
    assert told.actions == []
    assert (second.files, second.unchanged, second.removed) == (0, first.files, 0)
    assert not second.notes


def test_changes_are_followed(remote: RemoteServer, spool: Spool, tmp_path: Path) -> None:
    spool.carry(remote.url)
    (spool.source / "src" / "run.sh").write_text("#!/bin/bash\n")
    (spool.source / "new").mkdir()
    (spool.source / "new" / "file").write_text("new")
    (spool.source / "new" / "nothing").mkdir()
    shutil.rmtree(spool.source / "src" / "deep")
    (spool.source / "hollow").rmdir()
    spool.seal()
    report = spool.carry(remote.url)
    assert not report.problems
    assert report.files == 3  # the two, and the key of this run
    assert report.removed == 1
    assert remote.files() == spool.files()
    assert without_folder_times(opened(remote, tmp_path)) == without_folder_times(spool.source)


def test_touched_files_are_not_sent(remote: RemoteServer, spool: Spool) -> None:
    first = spool.carry(remote.url)
    for path in spool.sealed.rglob("*.sealed"):
        path.touch()
    again = spool.carry(remote.url)
    assert (again.files, again.unchanged) == (0, first.files)


@pytest.mark.parametrize("step", [1, 3, 9])
def test_killed_in_the_middle(
    remote: RemoteServer, spool: Spool, step: int, tmp_path: Path
) -> None:
    pid = os.fork()
    if pid == 0:
        spool.carry(remote.url, observer=Told(step, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    report = spool.carry(remote.url)
    assert not report.problems
    assert remote.files() == spool.files()
    assert report.unchanged == min(step, report.files + report.unchanged)  # what had arrived
    assert without_folder_times(opened(remote, tmp_path)) == without_folder_times(spool.source)


def test_what_arrived_before_a_kill_is_ours(remote: RemoteServer, spool: Spool) -> None:
    class Arrived(Observer):
        def progress(self, files: int, size: int) -> None:
            if files and "empty.sealed" in remote.files():
                os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        spool.carry(remote.url, observer=Arrived())
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert "empty.sealed" in remote.files()
    (spool.source / "empty").unlink()
    spool.seal()
    report = spool.carry(remote.url)
    assert not report.problems
    assert report.removed == 1
    assert remote.files() == spool.files()


class KilledAt(Observer):
    """Kills its process when so many bytes are on their way."""

    def __init__(self, size: int) -> None:
        self._left = size

    def progress(self, files: int, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_large_file_goes_on_where_it_stopped(remote: RemoteServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.source.mkdir()
    (spool.source / "large").write_bytes(os.urandom(40 * MIB))
    spool.seal()
    pid = os.fork()
    if pid == 0:
        spool.carry(remote.url, observer=KilledAt(20 * MIB))
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    sent: list[int] = []

    class Counting(Observer):
        def progress(self, files: int, size: int) -> None:
            sent.append(size)

    report = spool.carry(remote.url, observer=Counting())
    assert not report.problems
    assert remote.files() == spool.files()
    assert 0 < sum(sent) < 26 * MIB


def test_a_left_part_that_is_damaged_is_not_built_upon(sshd: Sshd, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.source.mkdir()
    (spool.source / "large").write_bytes(os.urandom(20 * MIB))
    spool.seal()
    pid = os.fork()
    if pid == 0:
        spool.carry(sshd.url, observer=KilledAt(10 * MIB))
        os._exit(0)
    os.waitpid(pid, 0)
    (left,) = (sshd.root / "mirror").glob(".encvault-*.tmp")
    data = bytearray(left.read_bytes())
    data[1000] ^= 1
    left.write_bytes(data)
    assert not spool.carry(sshd.url).problems
    assert sshd.files() == spool.files()


def test_the_server_dies_in_the_middle(remote: Sshd | Bucket, spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(RemoteFailed) as caught:
        spool.carry(remote.url, observer=Told(6, remote.kill))
    assert "secret" not in str(caught.value)
    remote.start()
    if isinstance(remote, Bucket):
        remote.client.create_bucket(Bucket=BUCKET)  # this server keeps nothing
    report = spool.carry(remote.url)
    assert not report.problems
    assert remote.files() == spool.files()
    assert without_folder_times(opened(remote, tmp_path)) == without_folder_times(spool.source)


def damage(remote: RemoteServer, name: str) -> bytes:
    data = bytearray(remote.files()[name])
    data[len(data) // 2] ^= 1
    remote.write(name, bytes(data))
    return bytes(data)


def test_a_damaged_copy_is_found_and_left(remote: RemoteServer, spool: Spool) -> None:
    spool.carry(remote.url)
    damaged = damage(remote, "empty.sealed")
    report = spool.carry(remote.url, verify="full")
    (problem,) = report.problems
    assert isinstance(problem, CopyChanged)
    assert problem.exit_code == 65
    assert problem.path == f"{remote.url}/empty.sealed"
    assert remote.files()["empty.sealed"] == damaged
    remote.delete("empty.sealed")
    report = spool.carry(remote.url)
    assert not report.problems
    assert len(report.notes) == 1
    assert remote.files() == spool.files()


def test_damage_that_leaves_no_trace_is_found_by_reading_all(sshd: Sshd, spool: Spool) -> None:
    spool.carry(sshd.url)
    path = sshd.root / "mirror" / "empty.sealed"
    status = path.stat()
    damage(sshd, "empty.sealed")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not spool.carry(sshd.url, verify="none").problems
    report = spool.carry(sshd.url, verify="full")
    assert [type(problem) for problem in report.problems] == [CopyChanged]
    assert report.verified == len(spool.files())


def test_a_sample_reads_at_least_one(remote: RemoteServer, spool: Spool) -> None:
    spool.carry(remote.url)
    assert spool.carry(remote.url, verify="sample").verified == 1
    assert spool.carry(remote.url, verify="none").verified == 0


def test_nothing_is_removed_while_something_is_wrong(remote: RemoteServer, spool: Spool) -> None:
    spool.carry(remote.url)
    damage(remote, "empty.sealed")
    (spool.source / "src" / "run.sh").unlink()
    spool.seal()
    assert spool.carry(remote.url, verify="full").problems
    assert "src/run.sh.sealed" in remote.files()


def test_a_copy_that_somebody_changed_is_not_replaced(remote: RemoteServer, spool: Spool) -> None:
    spool.carry(remote.url)
    remote.write("empty.sealed", b"somebody else's work")
    (spool.source / "empty").write_text("no longer")
    spool.seal()
    report = spool.carry(remote.url)
    assert [type(problem) for problem in report.problems] == [CopyChanged]
    assert remote.files()["empty.sealed"] == b"somebody else's work"


def test_no_key_goes_from_the_server(remote: RemoteServer, spool: Spool, tmp_path: Path) -> None:
    """What tidied the spool would make of the copy on the server what it made of the spool."""
    spool.carry(remote.url)
    (key,) = (spool.sealed / ".encvault" / "keys").iterdir()
    key.unlink()
    (spool.sealed / ".encvault" / "vault.b.json").unlink()
    report = spool.carry(remote.url)
    told = [problem.missing for problem in report.problems if isinstance(problem, KeysMissing)]
    assert sorted(told) == [f".encvault/keys/{key.name}", ".encvault/vault.b.json"]
    assert len(told) == len(report.problems)
    found = without_folder_times(opened(remote, tmp_path))
    assert found == without_folder_times(spool.source)


def test_what_is_damaged_in_the_spool_replaces_nothing_on_the_server(
    remote: RemoteServer, spool: Spool, tmp_path: Path
) -> None:
    spool.carry(remote.url)
    (key,) = (spool.sealed / ".encvault" / "keys").iterdir()
    for path in (key, spool.sealed / "empty.sealed"):
        path.write_bytes(b"")
    spool.source.joinpath("later").write_text("later")
    report = spool.carry(remote.url)
    assert [type(one) for one in report.problems] == [KeysMissing, CopyLost]
    assert [one.exit_code for one in report.problems] == [65, 65]
    found = without_folder_times(opened(remote, tmp_path))
    assert found.keys() == without_folder_times(spool.source).keys() - {"later"}


def test_files_of_others_are_left_alone(remote: RemoteServer, spool: Spool) -> None:
    spool.carry(remote.url)
    remote.write("notes.txt", b"not ours")
    remote.write("src/deep/notes.txt", b"not ours")
    remote.write("later.sealed", b"not ours")
    shutil.rmtree(spool.source / "src" / "deep")
    (spool.source / "later").write_text("has a name that is taken there")
    spool.seal()
    report = spool.carry(remote.url)
    (problem,) = report.problems
    assert isinstance(problem, ForeignCopy)
    assert problem.place == f"{remote.url}/later.sealed"
    remote.delete("later.sealed")
    assert not spool.carry(remote.url).problems
    found = remote.files()
    assert found.pop("notes.txt") == found.pop("src/deep/notes.txt") == b"not ours"
    assert found == spool.files()


def test_another_vault_is_left_alone(remote: RemoteServer, spool: Spool, tmp_path: Path) -> None:
    spool.carry(remote.url)
    before = remote.files()
    (tmp_path / "other").mkdir()
    other = Spool(tmp_path / "other")
    write_tree(other.source)
    other.seal()
    with pytest.raises(OtherVaultThere) as caught:
        other.carry(remote.url)
    assert "encvault job show" in str(caught.value.hint)
    assert remote.files() == before


def test_without_its_memory_it_compares(remote: RemoteServer, spool: Spool) -> None:
    first = spool.carry(remote.url)
    shutil.rmtree(spool.records)
    spool.records.mkdir()
    (spool.source / "empty").write_text("changed since")
    spool.seal()
    report = spool.carry(remote.url)
    assert not report.problems
    assert (report.files, report.unchanged) == (2, first.files - 1)
    assert remote.files() == spool.files()


def test_what_a_killed_run_has_begun_to_compare_is_gone_on_with(
    remote: RemoteServer, spool: Spool
) -> None:
    spool.carry(remote.url)
    shutil.rmtree(spool.records)
    spool.records.mkdir()
    for path in spool.source.rglob("*.*"):
        if path.is_file():
            path.write_text("changed since")
    spool.seal()
    pid = os.fork()
    if pid == 0:
        spool.carry(remote.url, observer=Told(1, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert not spool.carry(remote.url).problems
    assert remote.files() == spool.files()


@pytest.mark.parametrize("when", [0, 2, 8])
def test_a_signal_stops_it_and_nothing_stays(remote: RemoteServer, spool: Spool, when: int) -> None:
    def stop(_number: int, _frame: object) -> None:
        raise Terminated(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Terminated):
            spool.carry(
                remote.url, observer=Told(when, lambda: os.kill(os.getpid(), signal.SIGTERM))
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert spool.carry(remote.url).unchanged >= when  # what had arrived is known
    assert remote.files() == spool.files()


def test_names_that_are_not_utf8_go_where_they_may(sshd: Sshd, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.source.mkdir()
    (spool.source / os.fsdecode(b"caf\xe9")).write_text("Latin-1")
    spool.seal()
    (sshd.root / "mirror").mkdir()
    (sshd.root / "mirror" / os.fsdecode(b"others \xff")).write_text("not ours")
    assert not spool.carry(sshd.url).problems
    assert spool.carry(sshd.url).files == 0
    found = sshd.files()
    del found[os.fsdecode(b"others \xff")]
    assert found == spool.files()


def test_a_bucket_takes_no_name_that_is_not_utf8(bucket: Bucket, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.source.mkdir()
    (spool.source / os.fsdecode(b"caf\xe9")).write_text("Latin-1")
    (spool.source / "other").write_text("goes on")
    spool.seal()
    report = spool.carry(bucket.url)
    assert [str(problem) for problem in report.problems] == [
        f"{bucket.url}/caf\udce9.sealed: the server takes no name that is not UTF-8"
    ]
    assert "other.sealed" in bucket.files()


def test_a_server_that_can_only_do_the_least(tmp_path: Path, spool: Spool) -> None:
    least = "internal-sftp -P posix-rename,fsync,statvfs"
    server = Sshd(tmp_path / "sshd", subsystem=least)
    try:
        assert not spool.carry(server.url).problems
        (spool.source / "empty").write_text("no longer")
        spool.seal()
        assert not spool.carry(server.url).problems
        assert server.files() == spool.files()
    finally:
        server.kill()


def test_a_server_that_may_not_write(tmp_path: Path, spool: Spool) -> None:
    server = Sshd(tmp_path / "sshd", subsystem="internal-sftp -R")
    try:
        report = spool.carry(server.url)
        assert {str(problem).rpartition(": ")[2] for problem in report.problems} == {
            "Permission denied"
        }
        assert server.files() == {}
    finally:
        server.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_no_room_on_the_server(sshd: Sshd, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    write_tree(spool.source, big=8 * MIB)
    spool.seal()
    place = sshd.root / "mirror"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], check=True)
    try:
        with pytest.raises(RemoteFailed, match="no space left there"):
            spool.carry(sshd.url)
        subprocess.run(["mount", "-o", "remount,size=60m", place], check=True)
        assert not spool.carry(sshd.url).problems
        assert sshd.files() == spool.files()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_server_that_falls_silent(sshd: Sshd, spool: Spool) -> None:
    began = time.monotonic()
    with pytest.raises(RemoteFailed, match="no answer in time"):
        spool.carry(sshd.url, observer=Told(3, sshd.stop), options=Options(idle_timeout=0.5))
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("url", ["sftp://127.0.0.1:{port}/srv", "s3://bucket/mirror"])
def test_somebody_who_never_answers(
    bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(RemoteFailed, match=r"no answer in time|does not answer"):
            Server.reach(url.format(port=port), Options(connect_timeout=0.5, idle_timeout=0.5))


def test_archives_are_put_listed_and_removed(remote: RemoteServer, tmp_path: Path) -> None:
    records, made = tmp_path / "records", tmp_path / "made"
    records.mkdir()
    made.mkdir()
    names = [f"财务-2026-11-0{day}.sealed" for day in (1, 2, 3)]
    remote.write("财务-old.sealed", b"not ours")
    with (
        Tree(str(made)) as tree,
        Server.reach(remote.url) as server,
        CarriedLedger(str(records), server.place, "archive") as known,
    ):
        for name in names:
            (made / name).write_bytes(os.urandom(9 * MIB if name == names[0] else 1000))
            report = carry_file(server, tree, name, known, Observer())
            assert (report.files, report.size) == (1, (made / name).stat().st_size)
        assert carry_file(server, tree, names[0], known, Observer()).files == 0
        assert [there.path for there in list_files(server, "财务-", known)] == names
        remove_file(server, names[0], known)
        remove_file(server, "财务-old.sealed", known)
        assert [there.path for there in list_files(server, "财务-", known)] == names[1:]
        (made / "财务-old.sealed").write_bytes(b"new")
        with pytest.raises(ForeignCopy):
            carry_file(server, tree, "财务-old.sealed", known, Observer())
    expected = {name: (made / name).read_bytes() for name in names[1:]}
    assert remote.files() == expected | {"财务-old.sealed": b"not ours"}


def test_a_mirror_never_removes_archives(remote: RemoteServer, spool: Spool) -> None:
    (spool.sealed.parent / "old.sealed").write_bytes(b"of the time when the job made archives")
    with (
        Tree(str(spool.sealed.parent)) as tree,
        Server.reach(remote.url) as server,
        CarriedLedger(str(spool.records), server.place, "archive") as known,
    ):
        carry_file(server, tree, "old.sealed", known, Observer())
    assert spool.carry(remote.url).removed == 0
    assert "old.sealed" in remote.files()


def test_memory_stays_flat(remote: RemoteServer, tmp_path: Path) -> None:
    records, made = tmp_path / "records", tmp_path / "made"
    records.mkdir()
    made.mkdir()
    with (made / "large").open("wb") as file:
        file.truncate(100 * MIB)
    with (
        Tree(str(made)) as tree,
        Server.reach(remote.url) as server,
        CarriedLedger(str(records), server.place, "archive") as known,
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        carry_file(server, tree, "large", known, Observer())
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60 * KIB  # in KiB


# -- who may not -------------------------------------------------------------------------------


def refusal(url: str, kind: type[EncvaultError] = RemoteFailed) -> str:
    with pytest.raises(kind) as caught:
        Server.reach(url)
    assert caught.value.hint
    return str(caught.value)


def test_a_host_key_that_changed(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    sshd.know((tmp_path / "other.pub").read_text())
    with pytest.raises(HostChanged) as caught:
        Server.reach(sshd.url)
    assert "SHA256:" in str(caught.value)
    hint = str(caught.value.hint)
    assert f"ssh-keygen -R [127.0.0.1]:{sshd.port}" in hint
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1" in hint


def test_a_host_key_that_nobody_knows(sshd: Sshd) -> None:
    known = sshd.home / "known_hosts"
    known.unlink()
    with pytest.raises(HostUnknown) as caught:
        Server.reach(sshd.url)
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1" in str(caught.value.hint)
    assert not known.exists()


def test_a_key_that_is_not_let_in(sshd: Sshd) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    assert "it takes none of the ssh keys of this user" in refusal(sshd.url)


def test_no_key_at_all(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (sshd.home / "id_ed25519").unlink()
    assert "this user has no ssh key and no agent" in refusal(sshd.url)


def test_hosts_of_the_users_ssh_config(sshd: Sshd, spool: Spool) -> None:
    (sshd.home / "id_ed25519").rename(sshd.home / "nightly")
    (sshd.home / "config").write_text(
        f"Host backup\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n"
        f"  IdentityFile {sshd.home}/nightly\n"
    )
    assert not spool.carry(f"sftp://backup{sshd.root}/mirror").problems
    assert sshd.files() == spool.files()


def test_nobody_listens() -> None:
    assert "Connection refused" in refusal(f"sftp://127.0.0.1:{free_port()}/srv")


def test_a_name_that_is_no_machine() -> None:
    assert "no machine of this name is known" in refusal("sftp://nowhere.invalid/srv")


def test_no_endpoint_listens(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "the server cannot be reached" in refusal(bucket.url)


def test_no_such_bucket(bucket: Bucket) -> None:
    assert "there is no such bucket" in refusal("s3://another-one/mirror")


def test_no_access_key(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "there is no access key" in refusal(bucket.url)


def test_an_access_key_that_is_refused(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = Bucket(tmp_path / "strict", {"INITIAL_NO_AUTH_ACTION_COUNT": "1"})
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", strict.endpoint)
        told = refusal(strict.url)
    finally:
        strict.kill()
    assert "the server refuses the access key" in told
    assert "AKIAEXAMPLE" not in told


@pytest.mark.parametrize(
    "url",
    [
        "sftp://backup:hunter2@nas/srv",
        "s3://AKIAEXAMPLE:hunter2@bucket/mirror",
        "s3://bucket:80/mirror",
        "sftp://nas:port/srv",
        "sftp:///srv",
        "sftp://nas/srv/../etc",
        "ftp://nas/srv",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    told = refusal(url, AddressUnusable)
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://me@nas:22//srv//a b/", "sftp://me@nas/srv/a b"),
        ("sftp://[::1]:2222/~/数据", "sftp://[::1]:2222/~/数据"),
        ("s3://Bucket/a%20b", "s3://Bucket/a%20b"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert str(Address.parse(url)) == shown


@pytest.mark.parametrize("package", ["paramiko", "s3fs"])
def test_a_package_that_is_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = "sftp" if package == "paramiko" else "s3"
    monkeypatch.delitem(sys.modules, f"encvault.jobs.remote.{scheme}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    told = refusal(f"{scheme}://nowhere/srv", RemoteUnavailable)
    assert package in told
