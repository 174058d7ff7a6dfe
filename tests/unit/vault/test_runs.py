"""Whole runs in many batches through forked workers: the result does not depend on either."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import keys, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.crypto.suite import Suite
from encvault.errors import InputOutputError, OutOfSpace, SourceChanged, VerificationFailed
from encvault.fs import calls
from encvault.operations.places import refuse
from encvault.vault import open as opening_run, opening, plan, seal as sealing_run, sealing
from encvault.vault.report import Observer
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.vault.report import Event

LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root, big=1_500_000)
    for index in range(20):
        (root / "src" / f"n{index:02}").write_bytes(os.urandom(index * 100))
    return root


@pytest.fixture(autouse=True)
def _many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encvault.vault.pool.BATCH_FILES", 3)
    monkeypatch.setattr("encvault.vault.pool.BATCH_SIZE", 2000)


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob(".encvault-*.tmp"))


class Log(Observer):
    wants_total = True

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.done = [0, 0]
        self.counted = (0, 0)

    def before_release(self, events: Sequence[Event]) -> None:
        self.batches.append([event.path for event in events])

    def progress(self, files: int, size: int) -> None:
        self.done[0] += files
        self.done[1] += size

    def total(self, files: int, size: int) -> None:
        self.counted = (files, size)


@LAYOUTS
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_there_and_back_in_many_batches(tree: Path, jobs: int, *, hidden: bool) -> None:
    before = snapshot(tree)
    size = sum(node.kind == "file" and len(node.content) for node in before.values())
    log = Log()
    report = seal(tree, log, hide_names=hidden, jobs=jobs)
    assert (report.files, report.problems) == (29, [])
    assert len(log.batches) > 8
    assert sorted(path for batch in log.batches for path in batch) == sorted(
        path for path, node in before.items() if node.kind != "dir"
    )
    assert log.counted == (28, size)  # without the link
    assert log.done[0] == 29
    assert abs(log.done[1] - size) < 2 * 256 + 100  # two large files count with their records
    assert leftovers(tree) == []
    log = Log()
    report = unseal(tree, log, jobs=jobs)
    assert (report.files, report.problems, report.notes) == (29, [], [])
    assert log.counted[0] == log.done[0] == 29
    assert size <= log.counted[1]
    assert abs(log.counted[1] - log.done[1]) < 2 * 256 + 100  # the bar fills
    assert snapshot(tree) == before


@LAYOUTS
def test_large_files_are_left_to_the_process_that_has_the_workers(
    tree: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    """A worker that had workers of its own could not end them when it is killed."""
    monkeypatch.setattr("encvault.vault.pool.LARGE_SIZE", 100_000)
    monkeypatch.setattr("encvault.vault.stripes.RUN", 2)
    before = snapshot(tree)
    me = os.getpid()
    fork = os.fork

    def forked_by_us() -> int:
        if os.getpid() != me:
            raise AssertionError("a worker forks")
        return fork()

    monkeypatch.setattr(os, "fork", forked_by_us)
    log = Log()
    report = seal(tree, log, hide_names=hidden, jobs=3)
    assert (report.files, report.problems) == (29, [])
    assert [batch for batch in log.batches if {"big", "sparse"} & {*batch}] == [["big"], ["sparse"]]
    log = Log()
    assert unseal(tree, log, jobs=3).problems == []
    assert snapshot(tree) == before


@pytest.mark.parametrize("opens", [False, True])
def test_a_large_file_waits_for_a_few_batches_and_not_for_the_whole_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch, *, opens: bool
) -> None:
    """One that is written to all day has to stay as it was only while it is waiting."""
    monkeypatch.setattr("encvault.vault.pool.LARGE_SIZE", 100_000)
    first = "0" if opens else "0.sealed"
    (tree / "0").write_bytes(bytes(200_000))
    for index in range(60):
        (tree / "src" / f"z{index:02}").write_bytes(b"x")
    if opens:
        seal(tree)
    log = Log()

    class Late(Log):
        def before_release(self, events: Sequence[Event]) -> None:
            log.before_release(events)
            if events[0].path == "src/z40":
                assert (tree / first).exists()

    report = (unseal if opens else seal)(tree, Late(), jobs=2)
    assert report.problems == []
    order = [path for batch in log.batches for path in batch]
    assert ["0"] in log.batches
    assert order.index("0") < order.index("src/z40")
    assert order.index("0") < 8 * 3 + 3


@pytest.mark.parametrize("opens", [False, True])
def test_an_interrupt_at_a_large_file_leaves_it_as_it_was(
    tree: Path, monkeypatch: pytest.MonkeyPatch, *, opens: bool
) -> None:
    monkeypatch.setattr("encvault.vault.pool.LARGE_SIZE", 100_000)
    monkeypatch.setattr("encvault.vault.stripes.RUN", 2)
    if opens:
        seal(tree, jobs=1)
    before = {path for path in tree.rglob("*") if path.name.startswith("big")}

    class Interrupted(Log):
        def progress(self, files: int, size: int) -> None:
            if not files and size:  # a run of a large file
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        (unseal if opens else seal)(tree, Interrupted(), jobs=2)
    assert {path for path in tree.rglob("*") if path.name.startswith("big")} == before
    assert leftovers(tree) == []
    assert leftovers(tree) == []


@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_second_interrupt_does_not_stop_the_cleaning_up_after_the_first(
    tree: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, *, opens: bool
) -> None:
    if opens:
        seal(tree)
    part = opening if opens else sealing
    run = opening_run if opens else sealing_run
    real = part.discard_task
    discarded = 0

    def impatient(target: Any, task: Any) -> None:
        nonlocal discarded
        discarded += 1
        os.kill(os.getpid(), signal.SIGINT)
        real(target, task)

    monkeypatch.setattr(run, "discard_task", impatient)
    with pytest.raises(KeyboardInterrupt):
        (unseal if opens else seal)(tree, Interrupter(), jobs=jobs)
    assert discarded > 1
    assert leftovers(tree) == []


@pytest.mark.parametrize("kind", ["visible", "hidden", "mirror"])
def test_a_file_of_the_far_future_is_sealed_like_any_other(tmp_path: Path, kind: str) -> None:
    """Its time does not fit into 64 bits of nanoseconds, which records and SQLite have."""
    root, state = tmp_path / "docs", str(tmp_path / "state")
    for path in (root / "sub", root):
        path.mkdir(exist_ok=True, parents=True)
        (path / "file").write_text("content")
    for path in (root / "file", root / "sub"):
        os.utime(path, (10_413_792_000,) * 2)  # the year 2300, which every ext4 has
    to = {"to": str(tmp_path / "mirror")} if kind == "mirror" else {}
    report = seal(root, hide_names=kind == "hidden", state_dir=state, **to)
    assert (report.files, report.problems) == (2, [])
    if kind == "mirror":
        again = seal(root, state_dir=state, **to)
        # a time to come proves nothing: another change may set it again
        assert (again.files, again.unchanged, again.problems) == (1, 1, [])
    else:
        assert unseal(root).problems == []
        assert (root / "file").read_text() == "content"


@LAYOUTS
def test_a_mirror_and_its_copy_in_many_batches(tree: Path, tmp_path: Path, *, hidden: bool) -> None:
    before = snapshot(tree)
    seal(tree, to=str(tmp_path / "mirror"), hide_names=hidden, jobs=3, suite=Suite.SM4_GCM)
    assert snapshot(tree) == before
    unseal(tmp_path / "mirror", to=str(tmp_path / "out"), jobs=3)
    assert snapshot(tmp_path / "out") == before


@LAYOUTS
def test_keep_in_many_batches(tree: Path, *, hidden: bool) -> None:
    before = snapshot(tree)
    report = seal(tree, keep=True, hide_names=hidden, jobs=3)
    assert (report.files, report.problems) == (29, [])
    after = snapshot(tree)
    assert {path: node for path, node in after.items() if path in before} == before


class Interrupter(Log):
    """Ctrl-C after some batches."""

    def before_release(self, events: Sequence[Event]) -> None:
        super().before_release(events)
        if len(self.batches) == 4:
            raise KeyboardInterrupt


@LAYOUTS
@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_run_leaves_each_file_whole_and_is_finished_by_the_next(
    tree: Path, tmp_path: Path, jobs: int, *, hidden: bool
) -> None:
    state = str(tmp_path / "state")
    before = snapshot(tree, times=False)
    with pytest.raises(KeyboardInterrupt):
        seal(tree, Interrupter(), hide_names=hidden, jobs=jobs, state_dir=state)
    assert leftovers(tree) == []
    for path, node in before.items():
        if node.kind == "file" and (tree / path).exists():
            assert (tree / path).read_bytes() == node.content
    report = seal(tree, jobs=jobs, state_dir=state)
    assert report.problems == []
    assert operations.status(str(tree)).plain == []
    with pytest.raises(KeyboardInterrupt):
        unseal(tree, Interrupter(), jobs=jobs)
    assert leftovers(tree) == []
    assert unseal(tree, jobs=jobs).problems == []
    assert snapshot(tree, times=False) == before


@LAYOUTS
def test_a_worker_that_is_killed_ends_the_run_and_loses_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    before = snapshot(tree, times=False)
    parent = os.getpid()
    real = sealing.seal_batch

    def die(context: Any, tasks: Any) -> Any:
        if os.getpid() != parent and any(task.name == "n10" for task in tasks):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(context, tasks)

    with monkeypatch.context() as patch:
        patch.setattr(sealing_run, "seal_batch", die)
        state = str(tmp_path / "state")
        with pytest.raises(InputOutputError, match="worker"):
            seal(tree, hide_names=hidden, jobs=2, state_dir=state)
    assert leftovers(tree) == []
    assert seal(tree, state_dir=state).problems == []
    unseal(tree)
    assert snapshot(tree, times=False) == before


# -- copies that are not what they should be -----------------------------------------------


@pytest.mark.parametrize("name", ["src/n10", "big"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "header", "longer"])
def test_a_sealed_copy_that_reads_back_differently_keeps_its_original(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    content = (tree / name).read_bytes()
    real = sealing._prove

    def disturb(context: Any, task: Any, written: Any) -> None:
        if task.source_path == name:
            path = tree / task.dir / task.temporaries[0]
            data = bytearray(path.read_bytes())
            if damage == "flipped":
                data[-1] ^= 1
            elif damage == "cut":
                del data[-100:]
            elif damage == "header":
                data[30] ^= 1
            else:
                data += b"more"
            path.write_bytes(data)
        real(context, task, written)

    monkeypatch.setattr(sealing, "_prove", disturb)
    report = seal(tree, jobs=1)
    assert [type(problem) for problem in report.problems] == [VerificationFailed]
    assert report.files == 28
    assert (tree / name).read_bytes() == content
    assert not (tree / f"{name}.sealed").exists()
    assert leftovers(tree) == []


@pytest.mark.parametrize("damage", ["longer", "flipped"])
@pytest.mark.parametrize("name", ["src/n10", "big", "src/link"])
def test_an_opened_copy_that_reads_back_differently_keeps_its_sealed_file(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    seal(tree)
    sealed = tree / f"{name}.sealed"
    content = sealed.read_bytes()
    real = opening._prove_all

    def disturb(context: Any, written: Any) -> None:
        for task, _outcome, _bodies in written:
            if task.path == f"{name}.sealed":
                folder, temporary = task.temporary
                path = tree / folder / temporary
                if name == "src/link":
                    path.unlink()
                    path.symlink_to("elsewhere")
                elif damage == "longer":
                    path.write_bytes(path.read_bytes() + b"more")
                else:
                    data = path.read_bytes()
                    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        real(context, written)

    monkeypatch.setattr(opening, "_prove_all", disturb)
    report = unseal(tree, jobs=1)
    assert [type(problem) for problem in report.problems] == [VerificationFailed]
    assert sealed.read_bytes() == content
    assert not os.path.lexists(tree / name)
    assert leftovers(tree) == []


@pytest.mark.parametrize("when", ["before it is opened", "after it is read", "gone"])
@pytest.mark.parametrize("name", ["src/n10", "big"])
def test_a_source_that_changes_in_a_workers_hands_is_kept(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    real_write, real_check = sealing._write_file, sealing._check_unchanged

    def change(context: Any, task: Any, *rest: Any) -> Any:
        if task.source_path == name:
            if when == "gone":
                (tree / name).unlink()
            else:
                (tree / name).write_text("changed")
        real = real_write if when == "before it is opened" else real_check
        return real(context, task, *rest)

    monkeypatch.setattr(
        sealing,
        "_write_file" if when == "before it is opened" else "_check_unchanged",
        change,
    )
    report = seal(tree, jobs=1)
    assert [type(problem) for problem in report.problems] == [SourceChanged]
    assert report.files == 28
    if when != "gone":
        assert (tree / name).read_text() == "changed"
    assert not (tree / f"{name}.sealed").exists()
    assert leftovers(tree) == []


@pytest.mark.parametrize("name", ["src/n10", "big"])
def test_a_source_that_ends_early_is_kept(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    inode = (tree / name).stat().st_ino
    real_read, real_at = calls.read, calls.read_at

    def less(fd: int, size: int) -> bytes:
        data = real_read(fd, size)
        return data[:-1] if os.fstat(fd).st_ino == inode else data

    def less_at(fd: int, buffer: memoryview, offset: int) -> int:
        count = real_at(fd, buffer, offset)
        return max(0, count - 1) if os.fstat(fd).st_ino == inode else count

    with monkeypatch.context() as patch:
        patch.setattr(calls, "read", less)
        patch.setattr(calls, "read_at", less_at)
        report = seal(tree, jobs=1)
        assert [type(problem) for problem in report.problems] == [SourceChanged]
    assert (tree / name).stat().st_ino == inode


# -- a disk that fails ----------------------------------------------------------------------


@LAYOUTS
def test_a_sync_that_fails_keeps_every_file_of_the_batch(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    (tree / "hollow").rmdir()
    before = snapshot(tree, times=False)

    def fail(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("encvault.fs.syncing._sync_file", fail)
        patch.setattr(calls, "sync_filesystem", fail)
        report = seal(tree, hide_names=hidden, jobs=1)
        assert report.files == 0
        assert {type(problem) for problem in report.problems} == {InputOutputError}
        assert report.outcome().exit_code == 74  # type: ignore[union-attr]
    after = snapshot(tree, times=False)
    assert {path: node for path, node in after.items() if path in before} == before
    assert leftovers(tree) == []
    seal(tree)
    with monkeypatch.context() as patch:
        patch.setattr("encvault.fs.syncing._sync_file", fail)
        patch.setattr(calls, "sync_filesystem", fail)
        report = unseal(tree, jobs=1)
        assert report.files == 0
        assert {type(problem) for problem in report.problems} == {InputOutputError}
    assert leftovers(tree) == []
    assert unseal(tree).problems == []
    assert snapshot(tree, times=False) == before


def made_before(tree: Path) -> Any:
    """A data key that was made while the disk was still good."""
    probe, calls.probe = calls.probe, None
    with Vault.load(str(tree)) as vault:
        key_id, key = vault.new_data_key()
    calls.probe = probe
    return lambda _vault: (key_id, key)


@pytest.mark.parametrize("call", ["rename_new", "unlink", "create"])
def test_a_call_that_fails_for_one_file_leaves_the_others(
    tree: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = snapshot(tree, times=False)
    failed: list[str] = []

    def fail(name: str, _fd: int, target: str) -> None:
        if name == call and len(failed) < 1 and not target.startswith("vault."):
            failed.append(target)
            raise OSError(5, "Input/output error")

    operations.init_vault(str(tree), keys())
    monkeypatch.setattr(calls, "probe", fail)
    if call != "unlink":
        # the first call of the run makes the data key: without one nothing is done at all
        with pytest.raises(InputOutputError):
            seal(tree, jobs=1)
        assert snapshot(tree, times=False) == before
        failed.clear()
    with monkeypatch.context() as patched:
        patched.setattr("encvault.vault.vault.Vault.new_data_key", made_before(tree))
        report = seal(tree, jobs=1)
    assert [problem.exit_code for problem in report.problems] == [74]
    monkeypatch.setattr(calls, "probe", None)
    assert leftovers(tree) == []
    seal(tree, force=True)
    failed.clear()
    assert unseal(tree).problems == []
    assert snapshot(tree, times=False) == before


@LAYOUTS
def test_opening_when_naming_or_removing_fails_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    before = snapshot(tree, times=False)
    seal(tree, hide_names=hidden)
    for call in ("rename_new", "unlink"):
        failed: list[str] = []

        def fail(name: str, _fd: int, target: str, call: str = call, failed: Any = failed) -> None:
            if name == call and not failed:
                failed.append(target)
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(calls, "probe", fail)
        report = unseal(tree, jobs=1)
        assert [problem.exit_code for problem in report.problems] == [74]
        assert leftovers(tree) == []
        seal(tree, force=True) if call == "rename_new" else None
    monkeypatch.setattr(calls, "probe", None)
    assert unseal(tree).problems == []
    assert snapshot(tree, times=False) == before


def test_parts_are_removed_with_their_first_object_last(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 400_000)
    before = snapshot(tree)
    seal(tree, hide_names=True, jobs=2)
    removed: list[str] = []
    monkeypatch.setattr(
        calls, "probe", lambda name, _fd, what: removed.append(what) if name == "unlink" else None
    )
    with operations.opening.unlocked(str(tree), keys(), refuse) as (vault, _inside):
        record = operations.opening.read_catalog(vault, 1).files["big"]
    assert unseal(tree).problems == []
    monkeypatch.setattr(calls, "probe", None)
    tombstone = f".encvault-{record.file}.gone"  # by which the next run would find the others
    order = [removed.index(name) for name in (*record.record.parts, tombstone)]
    assert len(order) == 4
    assert order[-1] == max(order)
    assert snapshot(tree) == before


@pytest.mark.parametrize("folder", ["src", "src/deep", "hollow"])
def test_a_folder_whose_object_fails_keeps_its_name_and_what_is_in_it(
    tree: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """One moment without space, just when a folder's object is written."""
    before = snapshot(tree, times=False)
    real = sealing._write_small
    failed = []

    def fail(context: Any, task: Any, *rest: Any) -> Any:
        if task.type == "dir" and task.dir == folder and not failed:
            failed.append(task)
            raise OSError(28, "No space left on device")
        return real(context, task, *rest)

    monkeypatch.setattr(sealing, "_write_small", fail)
    report = seal(tree, hide_names=True, jobs=1)
    assert len(failed) == 1
    assert report.problems != []
    assert (tree / folder).is_dir()
    assert seal(tree).problems == []
    assert unseal(tree).problems == []
    assert snapshot(tree, times=False) == before


# -- a disk that tells only at the sync that it is full ------------------------------------------


@LAYOUTS
def test_files_without_room_at_the_sync_are_named_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b", "c"):
        (tree / name).write_text(name)

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("encvault.fs.syncing._sync_file", fail)
        report = seal(tree, hide_names=hidden, jobs=1)
    assert {type(problem) for problem in report.problems} == {OutOfSpace}
    shown = [Path(problem.fields()["path"]).name for problem in report.problems]
    assert {name.removesuffix(".sealed") for name in shown} == {"a", "b", "c"}
    assert {path.name for path in tree.iterdir() if path.is_file()} == {"a", "b", "c"}


def test_what_is_durable_is_not_made_so_again_when_files_that_had_no_room_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    for name in ("a", "b", "c"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text(name)
    seal(tree)
    has_no_room = ["b", "c", "c"]
    synced: list[set[str]] = []

    def sync_file(_tree: object, folder: str, _name: str, _lock: object) -> bool:
        if folder in has_no_room:
            has_no_room.remove(folder)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return True

    monkeypatch.setattr("encvault.fs.syncing._sync_file", sync_file)
    monkeypatch.setattr(
        "encvault.fs.tree.Tree.sync_names", lambda _tree, folders: synced.append(set(folders))
    )
    report = unseal(tree, jobs=1)
    assert (report.files, report.problems, has_no_room) == (3, [], [])
    # the names that a batch gave, and those that went, in turns; in the end all get their times
    assert synced == [{"a"}, {"a"}, {"b"}, {"b"}, {"c"}, {"a", "b", "c", ""}]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("count", [3, 20])
def test_a_copy_that_is_not_durable_is_named_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, number: int
) -> None:
    source, vault, opened = (tmp_path / name for name in ("source", "vault", "opened"))
    source.mkdir()
    for index in range(count):
        (source / f"f{index:02}").write_text("x")
    real, lost = os.fsync, set[str]()

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if os.path.isfile(path) and os.path.dirname(path) in lost:
            lost.clear()  # it is told once
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("encvault.fs.tree.is_synced_whole", lambda _device: False)
    lost.add(str(vault))
    report = seal(source, to=str(vault), jobs=1)
    assert report.files + len(report.problems) == count
    assert (len(report.problems) == 1) == (number == errno.ENOSPC), "else all of its batch"
    assert all(one.fields()["path"].startswith(f"{vault}/f") for one in report.problems)
    assert leftovers(vault) == []
    assert seal(source, to=str(vault), jobs=1).problems == []
    lost.add(str(opened))
    report = unseal(vault, to=str(opened), jobs=1)
    assert report.files + len(report.problems) == count
    assert (len(report.problems) == 1) == (number == errno.ENOSPC)
    assert all(one.fields()["path"].startswith(f"{opened}/f") for one in report.problems)
    assert leftovers(opened) == []
    assert unseal(vault, to=str(opened), jobs=1).problems == []
    assert len(list(opened.iterdir())) == count
