"""Single hazards of nightly jobs: a kill at each call, records that are lost, originals at risk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from fault.mounts import fill, mounted, needs_root
from fault.nightly import KEEP, KILLED, Nightly, Wanted, at_call, fall_asleep, files_of, kill_self
from fault.processes import Countdown, fork, wait

from encvault.fs import calls
from encvault.jobs.archives import INCOMPLETE, Shelf
from encvault.jobs.records import HISTORY_FILE, STATUS_FILE, Known, Outcome, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helpers import Command, Node

LAYOUTS = pytest.mark.parametrize("layout", ["visible", "hidden"])


# -- records --------------------------------------------------------------------------------


def outcome(number: int, **members: object) -> Outcome:
    run = f"{number:026}"
    begun = Outcome("nightly", run, f"2026-11-27T02:{number:02}:00.000000Z")
    return Outcome(**{**{name: getattr(begun, name) for name in begun.__slots__}, **members})  # type: ignore[arg-type]


def ended(number: int, state: str = "ok", code: int = 0) -> Outcome:
    return outcome(
        number, ended_at=f"2026-11-27T02:{number:02}:30.000000Z", state=state, exit_code=code
    )


def run_of(records: Records, number: int) -> None:
    with records.alone(0.0):
        records.begin(outcome(number))
        records.end(ended(number))


def test_killed_at_each_call_of_the_records(tmp_path: Path) -> None:
    number, code = 0, KILLED
    while code == KILLED:
        number += 1
        records = Records("nightly", str(tmp_path / f"{number}" / "records"))
        run_of(records, 1)
        before = records.known()

        def work(records: Records = records, number: int = number) -> None:
            calls.probe = Countdown(number, kill_self)
            run_of(records, 2)

        code = wait(fork(work))
        known = records.known()
        assert known.last is not None
        state = (known.last.run[-1], known.last.state)
        assert state in (("1", "ok"), ("2", "interrupted"), ("2", "ok"))
        assert known.success == (known.last if state == ("2", "ok") else before.success)
        # the next run has the history right, whatever was missing in it
        run_of(records, 3)
        told = [(one.run[-1], one.state) for one in records.history()]
        assert told in ([("1", "ok"), state, ("3", "ok")], [("1", "ok"), ("3", "ok")])
        assert (state[0] == "2") == (len(told) == 3)
        assert os.listdir(records.folder).count(STATUS_FILE) == 1
        assert not [name for name in os.listdir(records.folder) if name.endswith(".tmp")]
    assert code == 0
    assert number > 15


def test_who_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    records = Records("nightly", str(tmp_path / "records"))

    def begin() -> None:
        with records.alone(0.0):
            records.begin(outcome(1))
            os._exit(0)

    assert wait(fork(begin)) == 0

    def look() -> int:
        # its lock is looked at each time
        states = {known.last.state for known in _looks(records) if known.last is not None}
        return 0 if states == {"interrupted"} else 1

    assert [wait(pid) for pid in [fork(look) for _each in range(3)]] == [0, 0, 0]

    looker = fork(lambda: len(list(_looks(records))))
    for _each in range(200):
        with records.alone(0.0):
            pass
    wait(looker)


def _looks(records: Records) -> Iterator[Known]:
    for _each in range(200):
        yield records.known()


@pytest.mark.parametrize("data", [b"", b"{", b'{"last": 7, "success": null}', b"\xff" * 9, b"[]"])
def test_damaged_records_are_said_and_replaced(
    run: Command, public_path: Path, data: bytes
) -> None:
    job = Nightly(run, public_path, "mirror")
    job.counted()
    (status,) = (public_path / "state").rglob(STATUS_FILE)
    status.write_bytes(data)
    code, text = job.ask("job", "status", job.file, "--json")
    assert code == 78
    (told,) = json.loads(text)["jobs"]
    assert told["last"] is None
    assert told["success"] is None
    assert str(status) in told["problem"]["message"]
    night = job.begin().ended()
    assert night.code == 0, str(night)
    assert job.status()["success"] == night.told


def test_a_torn_history(run: Command, public_path: Path) -> None:
    job = Nightly(run, public_path, "mirror")
    job.counted()
    job.counted()
    (history,) = (public_path / "state").rglob(HISTORY_FILE)
    history.write_bytes(history.read_bytes()[:-40] + b"\0\0\0")
    first, second = job.seen
    del job.seen[second]
    job.seen[second] = "ok"  # it is the last run, and so known from the status
    job.counted()
    assert next(iter(job.seen)) == first
    job.history()


@needs_root
def test_no_room_for_the_status(run: Command, public_path: Path) -> None:
    with mounted(public_path / "state", "tmpfs", 4 << 20) as state:
        job = Nightly(run, public_path, "mirror")
        job.counted()
        whole = job.status()
        ballast = fill(state, 0)
        night = job.begin().ended()
        assert night.code == 78, str(night)
        assert night.told is not None
        assert night.told["state"] == "failed"
        assert job.status()["success"] == whole["success"]
        assert job.status()["last"] == whole["last"]  # of this run nothing could be written
        ballast.unlink()
        # and where the disk fills up while it runs
        job.want(Wanted(hooks=_hook("before", f"head -c 9000000 /dev/zero > {state}/full; true")))
        night = job.begin().ended()
        assert night.code in (73, 74, 78), str(night)
        told = job.status()
        assert told["success"] == whole["success"]
        assert told["last"]["exit_code"] != 0
        (state / "full").unlink()
        job.counted()


def _hook(when: str, shell: str) -> str:
    return f"[[hooks]]\nwhen = {json.dumps(when)}\nrun = {json.dumps(['sh', '-c', shell])}\n"


# -- how a run ends -------------------------------------------------------------------------


def test_what_comes_after_may_outlast_the_deadline(run: Command, public_path: Path) -> None:
    job = Nightly(run, public_path, "mirror")
    night = job.night(timeout="1s", hooks=_hook("after", "sleep 1.5"))
    assert night.code == 0, str(night)
    assert night.told is not None
    assert night.told["state"] == "ok"


def test_a_stop_while_it_ends_changes_nothing(run: Command, public_path: Path) -> None:
    job = Nightly(run, public_path, "mirror")
    job.want(Wanted(hooks=_hook("after", "kill -TERM $PPID; sleep 0.2")))
    before = job.status()
    night = job.begin().ended()
    assert night.code == 0, str(night)
    job.look(before, night)
    assert job.status()["last"]["state"] == "ok"


@pytest.mark.parametrize("call", [1, 4, 8])
def test_the_deadline_strikes_again_after_the_work(
    run: Command, public_path: Path, call: int
) -> None:
    """A write of the status that takes long is not torn by the deadline."""
    job = Nightly(run, public_path, "mirror")
    number = job.counted()
    night = job.night(at_call(number - call, fall_asleep), timeout="1s")
    assert night.code == 0, str(night)


def test_what_may_pass_is_tried_again(run: Command, public_path: Path) -> None:
    job = Nightly(run, public_path, "mirror")
    job.counted()
    changes = job.changes[0]
    added = changes.add()

    def probe() -> Callable[[str, int, str], None]:
        failed: list[str] = []

        def fail_once(name: str, fd: int, _target: str) -> None:
            if name == "fsync" and not failed and _is_in(job.copies, fd):
                failed.append(name)
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        return fail_once

    night = job.night(probe, retries=1)
    assert night.code == 0, str(night)
    assert night.told is not None
    assert night.told["attempts"] == 2
    assert night.told["errors"] == []
    assert added.exists()
    changes.add()
    night = job.night(probe)  # and not, where the job does not say so
    assert night.code == 74, str(night)


def _is_in(folder: Path, fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder))


# -- archives -------------------------------------------------------------------------------


def test_killed_at_each_call_of_the_shelf(tmp_path: Path) -> None:
    number, code = 0, KILLED
    while code == KILLED:
        number += 1
        folder = tmp_path / f"{number}"
        (folder / INCOMPLETE).mkdir(parents=True)
        names = [f"nightly-20261127T02300{n}Z-{n}.tar.sealed" for n in range(1, KEEP + 3)]
        for name in names[:-1]:
            (folder / name).write_text(name)
        new = folder / INCOMPLETE / names[-1]
        new.write_text(names[-1])
        partial = folder / INCOMPLETE / names[-1].replace("-5.", "-4.")
        partial.write_text("lacks files")

        ours = [*names, partial.name]

        def work(
            new: Path = new, folder: Path = folder, number: int = number, ours: list[str] = ours
        ) -> None:
            calls.probe = Countdown(number, kill_self)
            with Shelf("nightly", str(folder)) as shelf:
                shelf.complete_one(str(new))
                list(shelf.drop_old(KEEP, ours))

        code = wait(fork(work))
        with Shelf("nightly", str(folder)) as shelf:
            there = shelf.complete()
        kept = names[-KEEP:] if not new.exists() else names[:-1]
        assert set(kept) <= set(there)
        assert all((folder / name).read_text() == name for name in there)
        if new.exists():
            assert new.read_text() == names[-1]
            assert partial.exists()
    assert code == 0
    assert there == names[-KEEP:]
    assert not (folder / INCOMPLETE).exists()
    assert number > 5


def test_what_a_killed_run_has_left_goes_before_the_next_archive(
    run: Command, public_path: Path
) -> None:
    job = Nightly(run, public_path, "archive")
    number = job.counted()
    left = []
    for call in range(number // 3, 2 * number // 3, 3):
        night = job.night(at_call(call, kill_self))
        left += job.left()
        assert len(job._temporary()) <= 1
        assert night.code == KILLED
    assert len(left) >= 2
    job.counted()  # which looks for what is left


def test_a_share_that_is_not_mounted_after_a_partial_success(
    run: Command, public_path: Path
) -> None:
    job = Nightly(run, public_path, "archive")
    job.changes[0].add().chmod(0)
    night = job.night(on_partial="warn")
    assert night.code == 0, str(night)
    with job.away(job.copies, leaves=True):
        night = job.night(on_partial="warn")
        assert list(job.copies.iterdir()) == []
    assert night.code == 75, str(night)


def test_an_incomplete_archive_drops_none(run: Command, public_path: Path) -> None:
    job = Nightly(run, public_path, "archive")
    for _each in range(KEEP + 1):
        job.counted()
    names = job.complete()
    assert len(names) == KEEP
    job.changes[0].add().chmod(0)
    for wanted in ("fail", "warn"):
        job.night(on_partial=wanted)
        assert job.complete() == names
    assert len(list((job.copies / INCOMPLETE).iterdir())) == 2


# -- a mirror -------------------------------------------------------------------------------


@LAYOUTS
def test_a_new_source_does_not_fill_the_folder_below_a_share(
    run: Command,
    public_path: Path,
    layout: str,
) -> None:
    job = Nightly(run, public_path, "mirror", hidden=layout == "hidden", sources=2)
    job.counted()
    new = public_path / "new"
    shutil.copytree(job.sources[0], new)
    job.sources.append(new)
    with job.away(job.copies, leaves=True):
        night = job.night()
        assert list(job.copies.iterdir()) == []
    assert night.code == 75, str(night)


# -- originals that are removed -------------------------------------------------------------

REMOVES = {"remove_sources": True, "delete": None, "keep": None}


@pytest.mark.parametrize(
    ("mode", "layout"), [("mirror", "visible"), ("mirror", "hidden"), ("archive", "alone")]
)
@pytest.mark.slow
def test_killed_while_it_removes_originals(
    run: Command,
    public_path: Path,
    mode: str,
    layout: str,
) -> None:
    job = Nightly(run, public_path, mode, hidden=layout == "hidden")
    (source,) = job.sources
    wanted = files_of(source)
    whole = public_path / "whole"
    shutil.copytree(source, whole, symlinks=True)
    number, code = 1, KILLED
    while code == KILLED:
        job.want(Wanted(verify="full", more=REMOVES))
        night = job.begin(at_call(number, kill_self)).ended()
        code = night.code
        assert code in (0, KILLED), str(night)
        there = files_of(source)
        assert there.items() <= wanted.items()
        for name, node in wanted.items():
            if node.kind != "dir" and name not in there:
                copies = _copies(job)
                assert any(tree.get(name) == node for tree in copies), name
        number += 7
        _bring_back(whole, source)
    assert code == 0
    assert number > 60


def _bring_back(whole: Path, source: Path) -> None:
    shutil.rmtree(source)
    shutil.copytree(whole, source, symlinks=True)
    for path in (source, *source.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534, follow_symlinks=False)


def _copies(job: Nightly) -> list[dict[str, object]]:
    places = [str(job.copies / name) for name in job.complete()] if job.mode == "archive" else [""]
    found = []
    for place in places:
        found += [dict(tree) for tree in job.opened(place, codes=(0, 3)).values()]
    return found


@LAYOUTS
def test_what_changed_after_it_was_sealed_is_kept(
    run: Command,
    public_path: Path,
    layout: str,
) -> None:
    job = Nightly(run, public_path, "mirror", hidden=layout == "hidden")
    (source,) = job.sources
    for number in range(5):
        (source / f"late {number}").write_text("first")
        os.chown(source / f"late {number}", source.stat().st_uid, source.stat().st_gid)
    late = source / "late 3"

    def probe() -> Callable[[str, int, str], None]:
        changed: list[str] = []

        def change(name: str, _fd: int, target: str) -> None:
            if name == "unlink" and target.startswith("late") and not changed:
                changed.append(target)
                late.write_text("second")

        return change

    job.want(Wanted(verify="full", more=REMOVES))
    night = job.begin(probe).ended()
    assert night.code == 0, str(night)
    assert night.told is not None
    assert [name for name, node in files_of(source).items() if node.kind != "dir"] == ["late 3"]
    assert late.read_text() == "second"
    assert night.told["removed"] == night.told["files"] - 1
    assert job.begin().ended().code == 0
    assert job.opened()[str(source)]["late 3"].content == b"second"
    assert not late.exists()


@LAYOUTS
@pytest.mark.parametrize("key", ["with-key", "without-key"])
@pytest.mark.parametrize("harm", ["flipped", "missing", "older", "swapped"])
def test_a_harmed_copy_is_found_and_no_original_removed(
    run: Command,
    public_path: Path,
    layout: str,
    key: str,
    harm: str,
) -> None:
    job = Nightly(run, public_path, "mirror", hidden=layout == "hidden")
    (source,) = job.sources
    secret = f'[secret]\nidentity_file = "{job.key}"\n' if key == "with-key" else ""
    wanted = Wanted(verify="full", hooks=secret)
    job.want(wanted)
    assert job.begin().ended().code == 0
    older = public_path / "older"
    shutil.copytree(job.copies, older, symlinks=True)
    edited = next(path for path in sorted(source.rglob("*")) if path.is_file())
    edited.write_bytes(b"another content, which no older copy has")
    assert job.begin().ended().code == 0
    copies = [path for path in sorted(job.copies.rglob("*")) if _is_copy(path)]
    _harm(harm, copies, job.copies, older)
    job.want(Wanted(verify="full", hooks=secret, more=REMOVES))
    before = files_of(source)
    night = job.begin().ended()
    left = files_of(source)
    if night.code == 0:  # it was noticed in time, and mended
        (opened,) = job.opened().values()
        for name, node in before.items():
            assert left.get(name) == node or opened.get(name) == node, name
        return
    assert night.code == (66 if harm == "missing" else 65), str(night)
    assert left == before


@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_a_harmed_folder_of_a_hidden_mirror_is_found(
    run: Command, public_path: Path, harm: str
) -> None:
    job = Nightly(run, public_path, "mirror", hidden=True)
    (source,) = job.sources
    job.want(Wanted(verify="full"))
    assert job.begin().ended().code == 0
    before = {path for path in job.copies.rglob("*") if _is_copy(path)}
    (source / "folder").mkdir()
    assert job.begin().ended().code == 0
    (folder,) = {path for path in job.copies.rglob("*") if _is_copy(path)} - before
    _harm(harm, [folder] * 3, job.copies, job.copies)
    job.want(Wanted(verify="full", more=REMOVES))
    left = files_of(source)
    night = job.begin().ended()
    assert (night.code, files_of(source)) in ((65, left), (0, {}), (0, _folders(left)))
    if night.code == 0:  # it was made again in time
        assert job.opened()[str(source)]["folder"].kind == "dir"


def _folders(tree: dict[str, Node]) -> dict[str, Node]:
    return {name: node for name, node in tree.items() if node.kind == "dir"}


def _is_copy(path: Path) -> bool:
    in_objects = "objects" in path.parts
    return path.is_file() and (in_objects or path.suffix == ".sealed")


def _harm(harm: str, copies: list[Path], place: Path, older: Path) -> None:
    if harm == "flipped":
        data = bytearray(copies[2].read_bytes())
        data[-20] ^= 1
        copies[2].write_bytes(data)
    elif harm == "missing":
        copies[2].unlink()
    elif harm == "older":
        for path in copies:
            old = older / path.relative_to(place)
            if not old.exists() or old.read_bytes() != path.read_bytes():
                path.unlink()
        for path in older.rglob("*"):
            new = place / path.relative_to(older)
            if _is_copy(path) and not new.exists():
                new.parent.mkdir(exist_ok=True)
                shutil.copy(path, new)
    else:
        one, other = copies[0].read_bytes(), copies[1].read_bytes()
        copies[0].write_bytes(other)
        copies[1].write_bytes(one)
