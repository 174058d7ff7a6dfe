"""Drop folders: real folders, real writers, and what the kernel does to both."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import inotify_simple
import pytest
from helpers import NOBODY, in_child, keys, unseal

from encvault import operations
from encvault.errors import EncvaultError, NotARecipient, VaultBusy, WatcherUnavailable
from encvault.jobs import changes, dropping, unfinished
from encvault.jobs.dropping import DropEvent, watch_folder
from encvault.vault.vault import find_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from encvault.vault.report import Observer, Report

PATIENCE_S = 60.0  # on a machine that others use too
SETTLE_S = 0.3
WRITER = """
import sys, time
with open(sys.argv[1], "w") as file:
    for number in range(30):
        file.write(f"{number}\\n"); file.flush(); time.sleep(0.03)
    time.sleep(1.5)  # still, but open
    print(time.time(), flush=True)
"""


def until(condition: Callable[[], Any], what: object) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
    return found


class Watching:
    """Folders that are watched by a thread, as long as the context lasts."""

    def __init__(self, *folders: Path, settle: float = SETTLE_S, **options: Any) -> None:
        self.events: list[DropEvent] = []
        self.calls: list[list[str]] = []
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._state = f"{os.environ['HOME']}/state"
        self._seal = options.pop("seal", self.seal)
        self._options = options
        self._settle = settle
        self._folders = [str(path) for path in folders]
        self._thread = threading.Thread(target=self._run)

    def seal(self, folder: str, paths: Sequence[str], observer: Observer) -> Report:
        self.calls.append(list(paths))
        request = operations.SealRequest(
            paths=(folder,), only=tuple(paths), state_dir=self._state, **self._options
        )
        return operations.seal(request, keys(), observer)

    def _run(self) -> None:
        try:
            exclude = self._options.pop("exclude", ())
            watch_folder(
                self._folders,
                self._settle,
                self._seal,
                is_stopping=self.stop.is_set,
                tell=self.events.append,
                exclude=exclude,
            )
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def told(self, kind: str, path: Path | None = None) -> list[DropEvent]:
        return [
            event
            for event in list(self.events)
            if event.kind == kind and path in (None, Path(event.path))
        ]

    def until_told(self, kind: str, path: Path | None = None) -> DropEvent:
        def found() -> list[DropEvent]:
            assert self.error is None, self.error
            return self.told(kind, path)

        event: DropEvent = until(found, (kind, path, self.events))[0]
        return event

    def until_ended(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop.set()
        self.until_ended()
        if exc is None and self.error is not None and not isinstance(self.error, EncvaultError):
            raise self.error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "收件"
    path.mkdir()
    return path


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "_FIRST_PAUSE_S", 0.1)


def plain(folder: Path) -> list[str]:
    """What is not sealed."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".sealed" and ".encvault" not in path.parts
    )


def opened(folder: Path) -> dict[str, bytes]:
    """The content of all that is sealed."""
    to = folder.with_name("opened")
    report = unseal(folder, to=str(to))
    assert not report.problems
    return {
        str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()
    }


# -- what arrives ---------------------------------------------------------------------------


def test_what_lies_there_and_what_comes_is_sealed(folder: Path) -> None:
    (folder / "early" / "deep").mkdir(parents=True)
    (folder / "early" / "deep" / "报价.xlsx").write_text("early")
    with Watching(folder) as watching:
        event = watching.until_told("sealed", folder / "early" / "deep" / "报价.xlsx")
        assert event.size == 5
        (folder / "late").write_text("late")
        (folder / "link").symlink_to("late")
        watching.until_told("sealed", folder / "late")
        watching.until_told("sealed", folder / "link")
    assert [event.kind for event in (watching.events[0], watching.events[-1])] == [
        "watching",
        "stopped",
    ]
    assert plain(folder) == []
    found = {"early/deep/报价.xlsx": b"early", "late": b"late", "link": b"late"}
    assert opened(folder) == found
    assert not watching.told("failed")


def test_a_file_that_is_open_for_writing_waits_until_it_is_closed(folder: Path) -> None:
    path = folder / "slow"
    with Watching(folder) as watching:
        watching.until_told("watching")
        done = subprocess.run(
            [sys.executable, "-c", WRITER, path], capture_output=True, check=True, text=True
        )
        event = watching.until_told("sealed", path)
    assert event.at >= datetime.fromtimestamp(float(done.stdout), UTC)
    assert opened(folder) == {"slow": "".join(f"{number}\n" for number in range(30)).encode()}


def test_a_file_that_changes_is_not_sealed_before_it_is_still(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can see who has it open, as on a share."""
    monkeypatch.setattr(dropping, "is_being_written", lambda _tree, _path: False)
    path = folder / "growing"
    with Watching(folder, settle=1.0) as watching:
        with path.open("a") as file:
            for _number in range(30):
                file.write("more\n")
                file.flush()  # which tells nobody
                time.sleep(0.1)
            last = datetime.now(UTC)
        event = watching.until_told("sealed", path)
    assert (event.at - last).total_seconds() > 0.7
    assert opened(folder) == {"growing": b"more\n" * 30}


def test_what_is_moved_in_is_sealed(folder: Path, tmp_path: Path) -> None:
    for name in ("tree/one", "tree/sub/two", "alone"):
        path = tmp_path / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with Watching(folder) as watching:
        watching.until_told("watching")
        subprocess.run(["mv", tmp_path / "outside" / "tree", folder], check=True)
        subprocess.run(["mv", tmp_path / "outside" / "alone", folder], check=True)
        for name in ("tree/one", "tree/sub/two", "alone"):
            watching.until_told("sealed", folder / name)
        # and the folder that came is watched itself
        (folder / "tree" / "sub" / "three").touch()
        watching.until_told("sealed", folder / "tree" / "sub" / "three")
        (folder / "tree").rename(folder / "renamed")
        (folder / "renamed" / "sub" / "four").touch()
        watching.until_told("sealed", folder / "renamed" / "sub" / "four")
    assert plain(folder) == []


def test_a_tree_that_is_copied_in_is_sealed_whole(folder: Path, tmp_path: Path) -> None:
    """Each folder is filled at once after it was made: events race with the watches."""
    names = [f"{top}/{sub}/deep/{file}" for top in range(20) for sub in range(5) for file in "ab"]
    for name in names:
        path = tmp_path / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with Watching(folder) as watching:
        watching.until_told("watching")
        subprocess.run(["cp", "-r", tmp_path / "outside", folder], check=True)
        until(lambda: len(watching.told("sealed")) == len(names), "the tree")
    assert opened(folder) == {f"outside/{name}": name.encode() for name in names}


def test_a_burst_is_sealed_in_few_calls(folder: Path) -> None:
    with Watching(folder, settle=1.0) as watching:
        watching.until_told("watching")
        for number in range(2000):
            (folder / str(number)).write_text(str(number))
        until(lambda: len(watching.told("sealed")) == 2000, "the burst")
    assert plain(folder) == []
    assert len(watching.calls) < 20
    assert len(opened(folder)) == 2000


def test_two_folders_are_watched_at_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with Watching(folder, other) as watching:
        (folder / "one").touch()
        (other / "two").touch()
        watching.until_told("sealed", folder / "one")
        watching.until_told("sealed", other / "two")
    assert find_vault(str(folder)) != find_vault(str(other))


def test_with_hidden_names_the_folders_stay(folder: Path) -> None:
    with Watching(folder, hide_names=True) as watching:
        (folder / "for you").mkdir()
        (folder / "for you" / "one").write_text("1")
        watching.until_told("sealed", folder / "for you" / "one")
        (folder / "for you" / "two").write_text("2")
        watching.until_told("sealed", folder / "for you" / "two")
    assert opened(folder) == {"for you/one": b"1", "for you/two": b"2"}


def test_a_folder_that_is_named_by_a_link_is_watched(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    with Watching(link) as watching:
        watching.until_told("watching")
        (folder / "one").touch()
        watching.until_told("sealed", link / "one")


def test_a_folder_inside_another_vault_is_sealed_into_that(folder: Path) -> None:
    operations.init_vault(str(folder), keys())
    inner = folder / "inbox"
    inner.mkdir()
    with Watching(inner) as watching:
        (inner / "one").touch()
        (folder / "not meant").touch()
        watching.until_told("sealed", inner / "one")
    assert plain(folder) == ["not meant"]


# -- what is left alone ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "~$offer.docx",
        ".~lock.offer.odt#",
        "ABCD1234.TMP",
        "film.part",
        "film.crdownload",
        ".offer.txt.swp",
        ".offer.txt.swo",
        "4913",
        "offer.txt~",
        ".#offer.txt",
        "#offer.txt#",
        ".goutputstream-X1Y2Z3",
        ".offer.xlsx.aB3xY9",
        ".sb-1234",
        ".fuse_hidden0001",
        ".nfs000000000123456700000001",
    ],
)
def test_temporary_files_are_known(name: str) -> None:
    assert unfinished.is_name_of_temporary(name)


@pytest.mark.parametrize("name", ["offer.docx", ".bashrc", ".app.config", "4913.txt", "~", "a~b"])
def test_other_names_are_none_of_temporary_files(name: str) -> None:
    assert unfinished.is_name_of_temporary(name) == (name == "~")


def test_a_temporary_file_is_sealed_once_it_is_renamed(folder: Path) -> None:
    (folder / "film.mkv.part").write_text("all of it")
    (folder / "loading.download").mkdir()
    (folder / "loading.download" / "part").write_text("in a folder")
    with Watching(folder) as watching:
        (folder / "marker").touch()
        watching.until_told("sealed", folder / "marker")
        assert plain(folder) == ["film.mkv.part", "loading.download/part"]
        (folder / "film.mkv.part").rename(folder / "film.mkv")
        (folder / "loading.download").rename(folder / "loaded")
        watching.until_told("sealed", folder / "film.mkv")
        watching.until_told("sealed", folder / "loaded" / "part")


def test_vim_saves_and_goes_on(folder: Path) -> None:
    """Its own dance: a swap file, 4913, the backup, the new text."""
    path = folder / "notes.txt"
    commands = ["set backup writebackup backupcopy=no backupskip= backupdir=. directory=."]
    commands += ["normal ihello", "write", "sleep 1200m", "normal ohello again", "write", "quit"]
    options = [word for command in commands for word in ("-c", command)]
    with Watching(folder, settle=3.0) as watching:
        watching.until_told("watching")
        subprocess.run(
            ["vim", "-u", "NONE", "-N", "-es", *options, path], check=True, stdin=subprocess.DEVNULL
        )
        watching.until_told("sealed", path)
    assert len(watching.told("sealed")) == 1
    assert plain(folder) == ["notes.txt~"]
    assert opened(folder) == {"notes.txt": b"hello\nhello again\n"}


def test_rsync_transfers_and_renames(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.bin").write_bytes(os.urandom(300_000))
    with Watching(folder, settle=0.1) as watching:
        watching.until_told("watching")
        subprocess.run(["rsync", "-a", "--bwlimit=400", f"{source}/", folder], check=True)
        for number in range(3):
            watching.until_told("sealed", folder / f"{number}.bin")
    assert len(watching.told("sealed")) == 3
    assert opened(folder) == {path.name: path.read_bytes() for path in source.iterdir()}


def test_what_is_sealed_already_is_left_alone_and_what_only_is_called_so_is_not(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "one").touch()
    with Watching(folder) as watching:
        watching.until_told("sealed", folder / "one")
    alone = tmp_path / "alone"
    alone.write_text("by itself")
    operations.seal(operations.SealRequest(paths=(str(alone),)), keys())
    with Watching(folder) as watching:
        (tmp_path / "alone.sealed").rename(folder / "alone.sealed")
        (folder / "plain.sealed").write_text("not at all")
        watching.until_told("sealed", folder / "plain.sealed")
    assert watching.calls == [["plain.sealed"]]
    assert (folder / "alone.sealed").exists()


def test_what_is_excluded_is_left_alone(folder: Path) -> None:
    (folder / "keep.log").touch()
    (folder / "private").mkdir()
    (folder / "private" / "one").touch()
    with Watching(folder, exclude=("*.log", "private")) as watching:
        (folder / "two").touch()
        watching.until_told("sealed", folder / "two")
        (folder / "private" / "three").touch()
        (folder / "four").touch()
        watching.until_told("sealed", folder / "four")
    assert plain(folder) == ["keep.log", "private/one", "private/three"]


# -- when something is lost or fails --------------------------------------------------------


def test_changes_that_the_kernel_lost_are_found(folder: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def seal(where: str, paths: Sequence[str], observer: Observer) -> Report:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return watching.seal(where, paths, observer)

    watching = Watching(folder, seal=seal)
    (folder / "first").touch()
    with watching:
        assert begun.wait(PATIENCE_S)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for number in range(limit + 10):  # not all of one file, or they would become one
            (folder / f"{number % 2}.tmp").open("w").close()
        (folder / "deep").mkdir()
        (folder / "deep" / "late").touch()
        go_on.set()
        watching.until_told("sealed", folder / "deep" / "late")
    assert watching.told("lost")


def test_a_periodic_look_finds_what_nobody_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes.Changes, "watch", lambda *_ignored: None)
    monkeypatch.setattr(dropping, "LOOK_S", 0.5)
    with Watching(folder) as watching:
        watching.until_told("watching")
        (folder / "one").touch()
        watching.until_told("sealed", folder / "one")


def test_where_no_more_watches_are_to_be_had_it_is_looked_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_arguments: object) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(inotify_simple.INotify, "add_watch", none_left)
    monkeypatch.setattr(dropping, "POLL_S", 0.5)
    with Watching(folder) as watching:
        (folder / "sub").mkdir()
        (folder / "sub" / "one").touch()
        watching.until_told("sealed", folder / "sub" / "one")
        (folder / "two").touch()
        watching.until_told("sealed", folder / "two")
    assert len(watching.told("polling")) == 1


def test_where_no_instance_is_to_be_had_it_is_looked_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(inotify_simple, "INotify", none_left)
    monkeypatch.setattr(dropping, "POLL_S", 0.5)
    with Watching(folder) as watching:
        watching.until_told("polling")
        (folder / "one").touch()
        watching.until_told("sealed", folder / "one")


def test_a_share_is_looked_at_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "kind_of", lambda _device: "nfs4")
    with Watching(folder) as watching:
        watching.until_told("polling")
        (folder / "one").touch()
        watching.until_told("sealed", folder / "one")


def test_without_the_library_it_is_said_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    with pytest.raises(WatcherUnavailable) as caught, Watching(folder) as watching:
        watching.until_ended()
        assert watching.error is not None
        raise watching.error
    assert caught.value.exit_code == 69
    assert "encvault[watch]" in str(caught.value.hint)


def test_a_folder_that_is_removed_is_waited_for_and_not_made(folder: Path) -> None:
    (folder / "one").touch()
    with Watching(folder) as watching:
        watching.until_told("sealed", folder / "one")
        shutil.rmtree(folder)
        assert watching.until_told("gone").error is not None
        assert not folder.exists()
        folder.mkdir()
        (folder / "two").touch()
        watching.until_told("back")
        watching.until_told("sealed", folder / "two")
    assert len(watching.told("gone")) == 1


def test_a_folder_that_is_not_there_yet_is_waited_for(folder: Path) -> None:
    path = folder / "missing"
    with Watching(path) as watching:
        watching.until_told("gone")
        path.mkdir()
        (path / "one").touch()
        watching.until_told("sealed", path / "one")


@pytest.fixture
def mounted(folder: Path) -> Iterator[Callable[[], None]]:
    """Mounts something on the folder, each time it is called."""

    def mount() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "drop", folder], check=True)

    mount()
    yield mount
    subprocess.run(["umount", folder], check=False, stderr=subprocess.DEVNULL)


def test_what_lies_beneath_a_mount_point_is_not_meant(
    folder: Path, mounted: Callable[[], None]
) -> None:
    (folder / "one").touch()
    with Watching(folder) as watching:
        watching.until_told("sealed", folder / "one")
        until(lambda: subprocess.run(["umount", folder], check=False).returncode == 0, "umount")
        (folder / "beneath").write_text("of the host")
        watching.until_told("gone")
        mounted()
        (folder / "two").touch()
        watching.until_told("back")
        watching.until_told("sealed", folder / "two")
        until(lambda: subprocess.run(["umount", folder], check=False).returncode == 0, "umount")
        until(lambda: len(watching.told("gone")) == 2, "that it is gone again")
    assert [path.name for path in folder.iterdir()] == ["beneath"]


def test_a_drive_that_goes_away_while_it_is_sealed_leads_nobody_to_the_host(
    folder: Path,
    mounted: Callable[[], None],
) -> None:
    def seal(where: str, paths: Sequence[str], observer: Observer) -> Report:
        subprocess.run(["umount", "--lazy", folder], check=True)
        return watching.seal(where, paths, observer)

    watching = Watching(folder, seal=seal)
    (folder / "one").touch()
    with watching:
        watching.until_told("gone")
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("_impatient")
def test_a_file_that_cannot_be_read_keeps_no_other_waiting(public_path: Path) -> None:
    bad, good = public_path / "bad", public_path / "good"

    def watch() -> tuple[list[DropEvent], int]:
        events: list[DropEvent] = []
        stop = threading.Event()
        calls: list[list[str]] = []
        bad.write_text("secret")
        bad.chmod(0)
        good.write_text("good")

        def seal(folder: str, paths: Sequence[str], observer: Observer) -> Report:
            calls.append(list(paths))
            if calls.count(["bad"]) == 3:
                bad.chmod(0o600)
            request = operations.SealRequest(paths=(folder,), only=tuple(paths))
            return operations.seal(request, keys(), observer)

        def tell(event: DropEvent) -> None:
            events.append(event)
            if event.kind == "sealed" and event.path == str(bad):
                stop.set()

        watch_folder([str(public_path)], SETTLE_S, seal, is_stopping=stop.is_set, tell=tell)
        return events, len(calls)

    os.chown(public_path, NOBODY, NOBODY)
    events, calls = in_child(watch, uid=NOBODY)
    failed = [event for event in events if event.kind == "failed"]
    assert [(event.path, type(event.error).__name__) for event in failed] == [
        (str(bad), "Unreadable")
    ]
    sealed = [event.path for event in events if event.kind == "sealed"]
    assert sealed == [str(good), str(bad)]
    assert 4 <= calls <= 6


def test_a_folder_that_cannot_be_read_is_told_once(
    public_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropping, "LOOK_S", 0.2)

    def watch() -> list[DropEvent]:
        events: list[DropEvent] = []
        stop = threading.Event()
        (public_path / "closed").mkdir(0)

        def seal(folder: str, paths: Sequence[str], observer: Observer) -> Report:
            request = operations.SealRequest(paths=(folder,), only=tuple(paths))
            return operations.seal(request, keys(), observer)

        def tell(event: DropEvent) -> None:
            events.append(event)
            if event.kind == "sealed":
                stop.set()

        (public_path / "good").touch()
        watch_folder([str(public_path)], 1.0, seal, is_stopping=stop.is_set, tell=tell)
        (public_path / "closed").chmod(0o700)
        return events

    os.chown(public_path, NOBODY, NOBODY)
    events = in_child(watch, uid=NOBODY)
    failed = [event for event in events if event.kind == "failed"]
    assert [event.path for event in failed] == [str(public_path / "closed")]


@pytest.mark.usefixtures("_impatient")
def test_what_may_pass_is_told_once_and_tried_again(folder: Path) -> None:
    tries: list[float] = []

    def seal(where: str, paths: Sequence[str], observer: Observer) -> Report:
        tries.append(time.monotonic())
        if len(tries) < 5:
            raise VaultBusy(path=where, holder="")
        return watching.seal(where, paths, observer)

    watching = Watching(folder, seal=seal)
    (folder / "one").touch()
    with watching:
        watching.until_told("sealed", folder / "one")
    assert len(watching.told("failed")) == 1
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[-1] > 2 * pauses[0]


def test_what_does_not_pass_ends_it(folder: Path) -> None:
    def seal(where: str, paths: Sequence[str], observer: Observer) -> Report:
        raise NotARecipient(path=where)

    (folder / "one").touch()
    with Watching(folder, seal=seal) as watching:
        watching.until_ended()
    assert isinstance(watching.error, NotARecipient)


@pytest.mark.usefixtures("_impatient")
def test_a_second_file_of_a_name_is_a_conflict_and_both_stay(folder: Path) -> None:
    with Watching(folder) as watching:
        (folder / "one").write_text("first")
        watching.until_told("sealed", folder / "one")
        (folder / "one").write_text("second")
        event = watching.until_told("failed", folder / "one")
        assert type(event.error).__name__ == "Conflict"
        until(lambda: len(watching.calls) > 3, "that it is tried again")
    assert len(watching.told("failed")) == 1
    assert plain(folder) == ["one"]
    (folder / "one").unlink()
    assert opened(folder) == {"one": b"first"}


def test_what_is_in_hand_is_finished_when_it_is_to_stop(folder: Path) -> None:
    def seal(where: str, paths: Sequence[str], observer: Observer) -> Report:
        watching.stop.set()
        return watching.seal(where, paths, observer)

    watching = Watching(folder, seal=seal)
    (folder / "one").touch()
    with watching:
        watching.until_ended()
    assert [event.kind for event in watching.events][-2:] == ["sealed", "stopped"]


# -- who writes -----------------------------------------------------------------------------


def test_a_writer_is_seen_and_a_reader_is_none(folder: Path) -> None:
    path = folder / "file"
    path.write_text("text")
    with dropping.Tree(str(folder)) as tree:
        assert not unfinished.is_being_written(tree, "file")
        with path.open("a"):
            assert unfinished.is_being_written(tree, "file")
        with path.open():
            assert not unfinished.is_being_written(tree, "file")
        assert not unfinished.is_being_written(tree, "missing")
        os.mkfifo(folder / "fifo")
        assert not unfinished.is_being_written(tree, "fifo")


def test_who_begins_to_write_in_that_moment_does_not_end_us(folder: Path) -> None:
    """The kernel signals who holds a lease; by default that ends a process."""
    path = folder / "file"
    path.touch()
    writer = subprocess.Popen(
        ["sh", "-c", 'while :; do : >>"$0"; done', path], stderr=subprocess.DEVNULL
    )

    def ask() -> int:
        with dropping.Tree(str(folder)) as tree:
            deadline = time.monotonic() + 3
            count = 0
            while time.monotonic() < deadline:
                count += unfinished.is_being_written(tree, "file")
            return count

    try:
        assert in_child(ask) >= 0
    finally:
        writer.kill()
        writer.wait()
