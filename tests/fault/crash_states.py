"""What a disk may hold after a crash: a record of calls, and the states that it allows.

`Recorder` writes down every change that goes through the seam. `Disk` plays the record back with
two memories, what is durable and what is pending, and `states` yields what a crash at one moment
may leave. The rules are those of POSIX at its strictest, not those of one file system:

* data of a file is durable after fsync(file) or a sync of the file system;
* a name (made, renamed, removed) is durable after fsync(folder) or a sync of the file system,
  whatever is known of the data: a durable name may lead to an empty or half-written file;
* a rename is atomic; other changes that are pending may have happened, each on its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fault.scenes import STATE

from encvault.fs import calls, durable, locks
from encvault.vault import ledger as ledger_module, vault as vault_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

Key = tuple[int, str]  # folder's number, name
TOP = 0


@dataclass(frozen=True)
class Names:
    """A change of names that happens as a whole or not at all."""

    changes: tuple[tuple[Key, int | None], ...]
    what: str


@dataclass(frozen=True)
class Data:
    """Bytes written, or with no bytes a new size."""

    inode: int
    offset: int
    data: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Sync:
    """Everything pending is durable; or what belongs to one file or folder."""

    inode: int | None


@dataclass(frozen=True)
class Remembered:
    """The ledger's files after a transaction, which SQLite has made durable."""

    files: dict[str, bytes] = field(repr=False)


Event = Names | Data | Sync | Remembered


@dataclass
class Inode:
    """What the recorder knows of a file from the start."""

    kind: str  # file, dir, symlink
    content: bytes
    times: tuple[int, int] | None = None


class Recorder:
    """Records what happens below a folder.

    Args:
        top: the world; all that is in it counts as durable.
        patch: to reach the seam with.
    """

    def __init__(self, top: Path, patch: pytest.MonkeyPatch) -> None:
        self.top = top
        self.events: list[Event] = []
        self.inodes: list[Inode] = []
        self.names: dict[Key, int] = {}  # as they are now
        self._numbers: dict[tuple[int, int], int] = {}
        self._scan(top)
        self.start = dict(self.names)
        self.remembered = self._ledger_files()
        self._install(patch)

    def _scan(self, folder: Path) -> int:
        number = self._meet(folder)
        for path in sorted(folder.iterdir()):
            if path == self.top / STATE:
                continue
            if path.is_dir() and not path.is_symlink():
                self.names[number, path.name] = self._scan(path)
            else:
                self.names[number, path.name] = self._meet(path)
        return number

    def _meet(self, path: Path) -> int:
        status = path.lstat()
        times = (status.st_atime_ns, status.st_mtime_ns)
        if path.is_symlink():
            inode = Inode("symlink", os.readlink(os.fsencode(path)), times)
        elif path.is_dir():
            inode = Inode("dir", b"")
        else:
            inode = Inode("file", path.read_bytes(), times)
        return self._number(status, inode)

    def _number(self, status: os.stat_result, inode: Inode) -> int:
        self.inodes.append(inode)
        number = len(self.inodes) - 1
        self._numbers[status.st_dev, status.st_ino] = number
        return number

    def _of(self, fd: int) -> int:
        status = os.fstat(fd)
        return self._numbers[status.st_dev, status.st_ino]

    def _ledger_files(self) -> dict[str, bytes]:
        folder = self.top / STATE / "encvault" / "vaults"
        if not folder.is_dir():
            return {}
        return {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if not path.name.endswith("-shm")  # SQLite makes it anew from the log
        }

    def _change(self, what: str, *changes: tuple[Key, int | None]) -> None:
        self.events.append(Names(changes, what))
        for key, inode in changes:
            if inode is None:
                self.names.pop(key, None)
            else:
                self.names[key] = inode

    # -- the seam -------------------------------------------------------------------------

    def _install(self, patch: pytest.MonkeyPatch) -> None:
        for name in (
            "create",
            "write",
            "write_at",
            "truncate",
            "sync_filesystem",
            "rename_new",
            "link",
            "replace",
            "unlink",
            "mkdir",
            "rmdir",
            "symlink",
        ):
            patch.setattr(calls, name, self._wrap(getattr(self, f"_{name}"), getattr(calls, name)))
        # beside the seam: these are no user data, or remove what only a failed run leaves
        patch.setattr(os, "fsync", self._fsync)
        patch.setattr(os, "makedirs", self._makedirs)
        patch.setattr(vault_module, "Lock", self._locking(locks.Lock))
        for name in ("__init__", "remember", "begin", "end", "forget", "forget_folders"):
            real = getattr(ledger_module.Ledger, name)
            patch.setattr(ledger_module.Ledger, name, self._remembering(real))

    @staticmethod
    def _wrap(note: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return note(real, *args, **kwargs)

        return call

    def _create(
        self, real: Callable[..., int], folder: int, name: str, *args: Any, **kwargs: Any
    ) -> int:
        fd = real(folder, name, *args, **kwargs)
        inode = self._number(os.fstat(fd), Inode("file", b""))
        self._change(f"create {name}", ((self._of(folder), name), inode))
        return fd

    def _write(self, real: Callable[..., None], fd: int, data: bytes) -> None:
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        real(fd, data)
        self.events.append(Data(self._of(fd), offset, bytes(data)))

    def _write_at(self, real: Callable[..., None], fd: int, data: bytes, offset: int) -> None:
        real(fd, data, offset)
        self.events.append(Data(self._of(fd), offset, bytes(data)))

    def _truncate(self, real: Callable[..., None], fd: int, size: int) -> None:
        real(fd, size)
        self.events.append(Data(self._of(fd), size, None))

    def _fsync(self, fd: int) -> None:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) in self._numbers:  # the lock is met when it is held
            self.events.append(Sync(self._of(fd)))

    def _sync_filesystem(self, _real: Callable[..., None], _fd: int) -> None:
        self.events.append(Sync(None))

    def _rename_new(
        self, real: Callable[..., None], folder: int, old: str, new: str, into: int | None = None
    ) -> None:
        real(folder, old, new, into)
        self._rename(folder, old, new, folder if into is None else into)

    def _link(self, real: Callable[..., bool], folder: int, old: str, new: str) -> bool:
        linked = real(folder, old, new)
        if linked:
            source, target = (self._of(folder), old), (self._of(folder), new)
            self._change(f"link {old} {new}", (target, self.names[source]))
        return linked

    def _replace(self, real: Callable[..., None], folder: int, old: str, new: str) -> None:
        real(folder, old, new)
        self._rename(folder, old, new, folder)

    def _rename(self, folder: int, old: str, new: str, into: int) -> None:
        source, target = (self._of(folder), old), (self._of(into), new)
        self._change(f"rename {old} {new}", (source, None), (target, self.names[source]))

    def _unlink(self, real: Callable[..., None], folder: int, name: str) -> None:
        key = (self._of(folder), name)
        real(folder, name)
        self._change(f"unlink {name}", (key, None))

    def _rmdir(self, real: Callable[..., None], folder: int, name: str) -> None:
        self._unlink(real, folder, name)

    def _mkdir(self, real: Callable[..., None], folder: int, name: str, *args: Any) -> None:
        real(folder, name, *args)
        status = os.stat(name, dir_fd=folder)
        inode = self._number(status, Inode("dir", b""))
        self._change(f"mkdir {name}", ((self._of(folder), name), inode))

    def _symlink(self, real: Callable[..., None], target: bytes, folder: int, name: str) -> None:
        real(target, folder, name)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        inode = self._number(status, Inode("symlink", target))
        self._change(f"symlink {name}", ((self._of(folder), name), inode))

    # -- beside the seam ------------------------------------------------------------------

    def _makedirs(self, path: str, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        if os.path.isdir(path):
            return
        above, name = os.path.split(path)
        self._makedirs(above, mode, exist_ok=True)
        os.mkdir(path, mode)
        status = os.stat(above)
        folder = self._numbers.get((status.st_dev, status.st_ino))
        if folder is not None and not self._is_state(path):
            inode = self._number(os.stat(path), Inode("dir", b""))
            self._change(f"mkdir {name}", ((folder, name), inode))

    def _is_state(self, path: str) -> bool:
        # SQLite keeps its own promises there; what it holds is in `Remembered`
        return path.startswith(str(self.top / STATE))

    def _locking(self, real: type[locks.Lock]) -> type[locks.Lock]:
        recorder = self

        class Lock(real):  # type: ignore[misc, valid-type]  # a class like any other
            def __init__(self, tree: Any, path: str, *, reading: bool, **more: Any) -> None:
                super().__init__(tree, path, reading=reading, **more)
                if reading:
                    return
                above, _slash, name = path.rpartition("/")
                key = (recorder._of(tree.folder(above)), name)
                if key not in recorder.names:
                    inode = recorder._number(os.fstat(self._fd), Inode("file", b""))
                    recorder._change("create lock", (key, inode))
                text = os.pread(self._fd, 200, 0)
                recorder.events.append(Data(recorder.names[key], 0, text))
                recorder.events.append(Sync(recorder.names[key]))

            def release(self) -> None:
                if not (self._reading or (self._keeps_news and self.was_interrupted)):
                    recorder.events.append(Data(recorder._of(self._fd), 0, None))
                super().release()

        return Lock

    def _remembering(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            self.events.append(Remembered(self._ledger_files()))
            return result

        return call

    def unseen(self) -> list[str]:
        """Names on the disk that the record does not explain, or the other way round."""
        disk = {
            str(path.relative_to(self.top))
            for path in self.top.rglob("*")
            if path != self.top / STATE and self.top / STATE not in path.parents
        }
        return sorted(disk ^ set(_paths(self.names)))


def _paths(names: dict[Key, int]) -> dict[str, int]:
    """Every path that can be reached from the top, with its inode."""
    below: dict[int, list[tuple[str, int]]] = {}
    for (folder, name), inode in names.items():
        below.setdefault(folder, []).append((name, inode))
    found: dict[str, int] = {}
    waiting = [("", TOP)]
    while waiting:
        path, number = waiting.pop()
        for name, inode in below.get(number, ()):
            here = f"{path}/{name}" if path else name
            found[here] = inode
            waiting.append((here, inode))
    return found


# -- playing back ---------------------------------------------------------------------------

Signature = tuple[Any, ...]


@dataclass(frozen=True)
class State:
    """One state that a crash may leave.

    Attributes:
        label: how it comes about.
        files: path to inode number and the signature of its content.
        ledger: the ledger's files.
    """

    label: str
    files: tuple[tuple[str, int, Signature], ...]
    ledger: dict[str, bytes] = field(repr=False)

    @property
    def key(self) -> object:
        """Equal for states that cannot be told apart: what a temporary file holds is nothing."""
        return frozenset(
            (_plain_temporary(path), None if _is_temporary(path) else (inode, content))
            for path, inode, content in self.files
        ), tuple(sorted((name, hash(data)) for name, data in self.ledger.items()))


def _is_temporary(path: str) -> bool:
    return any(durable.is_temporary(part) for part in path.split("/"))


def _plain_temporary(path: str) -> str:
    return path


class Disk:
    """What is durable and what is pending at one moment of the record."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.names = dict(recorder.start)
        self.pending: list[Names] = []
        self._data: dict[int, list[int]] = {}  # durable, as indices of events
        self._pending_data: dict[int, list[int]] = {}
        self.ledger = recorder.remembered
        self._contents: dict[tuple[int, Signature], bytes] = {}

    def play(self, index: int) -> None:
        """The next event happens."""
        event = self._recorder.events[index]
        if isinstance(event, Names):
            self.pending.append(event)
        elif isinstance(event, Data):
            self._pending_data.setdefault(event.inode, []).append(index)
        elif isinstance(event, Remembered):
            self.ledger = event.files
        elif event.inode is None:
            self._flush(self.pending)
            for inode in list(self._pending_data):
                self._flush_data(inode)
        elif self._recorder.inodes[event.inode].kind == "dir":
            self._flush_folder(event.inode)
        else:
            self._flush_data(event.inode)

    def _flush(self, changes: list[Names]) -> None:
        for change in changes:
            for key, inode in change.changes:
                if inode is None:
                    self.names.pop(key, None)
                else:
                    self.names[key] = inode
        self.pending = [change for change in self.pending if change not in changes]

    def _flush_folder(self, folder: int) -> None:
        # a rename out of another folder is atomic, so what came before it there comes along
        keys = {
            key for change in self.pending for key, _inode in change.changes if key[0] == folder
        }
        chosen: list[Names] = []
        for change in reversed(self.pending):
            own = {key for key, _inode in change.changes}
            if own & keys:
                keys |= own
                chosen.insert(0, change)
        self._flush(chosen)

    def _flush_data(self, inode: int) -> None:
        self._data.setdefault(inode, []).extend(self._pending_data.pop(inode, ()))

    # -- states ---------------------------------------------------------------------------

    def states(self) -> Iterator[State]:
        """What a crash now may leave."""
        every = list(range(len(self.pending)))
        choices = {"no name": [], "every name": every}
        choices |= {f"only {self.pending[i].what}": [i] for i in every}
        if len(every) > 2:
            choices |= {
                f"all but {self.pending[i].what}": [*every[:i], *every[i + 1 :]] for i in every
            }
        for label, chosen in choices.items():
            paths = _paths(self._names_after(chosen))
            for fate in ("all data", "no data", "half the data", "zeros"):
                yield self._state(f"{label}, {fate}", paths, fate)
        paths = _paths(self._names_after(every))
        for inode, indices in self._pending_data.items():
            for index in indices:
                label = f"every name, {self._recorder.events[index]} lost"
                yield self._state(label, paths, "all data", lost=(inode, index))

    def _names_after(self, chosen: list[int]) -> dict[Key, int]:
        names = dict(self.names)
        for index in chosen:
            for key, inode in self.pending[index].changes:
                if inode is None:
                    names.pop(key, None)
                else:
                    names[key] = inode
        return names

    def _state(
        self, label: str, paths: dict[str, int], fate: str, lost: tuple[int, int] | None = None
    ) -> State:
        files = []
        for path, inode in sorted(paths.items()):
            durable_part = tuple(self._data.get(inode, ()))
            pending = tuple(self._pending_data.get(inode, ()))
            if lost is not None and lost[0] == inode:
                signature: Signature = (durable_part, pending, "lost", lost[1])
            elif not pending or fate == "all data":
                signature = (durable_part + pending, (), "all data")
            else:
                signature = (durable_part, pending, fate)
            files.append((path, inode, signature))
        return State(label, tuple(files), self.ledger)

    def content(self, inode: int, signature: Signature) -> bytes:
        """A file's bytes in one of its states."""
        key = (inode, signature)
        if key not in self._contents:
            self._contents[key] = self._build(inode, signature)
        return self._contents[key]

    def _build(self, inode: int, signature: Signature) -> bytes:
        settled, pending, fate, *rest = signature
        content = bytearray(self._recorder.inodes[inode].content)
        for index in settled:
            self._apply(content, index)
        if fate == "half the data":
            half = pending[: len(pending) // 2]
            for index in half:
                self._apply(content, index)
            self._apply(content, pending[len(half)], cut=True)
        elif fate == "zeros":
            for index in pending:
                self._apply(content, index, zeros=True)
        elif fate == "lost":
            for index in pending:
                self._apply(content, index, zeros=index == rest[0])
        return bytes(content)

    def _apply(
        self, content: bytearray, index: int, *, cut: bool = False, zeros: bool = False
    ) -> None:
        event = self._recorder.events[index]
        assert isinstance(event, Data)
        if event.data is None:
            if event.offset < len(content):
                del content[event.offset :]
            content.extend(bytes(event.offset - len(content)))
            return
        data = event.data[: len(event.data) // 2] if cut else event.data
        if zeros:
            data = bytes(len(data))
        content.extend(bytes(max(0, event.offset - len(content))))
        content[event.offset : event.offset + len(data)] = data

    def materialise(self, state: State, top: Path, *, ledger: bool) -> None:
        """Make a state real in an empty folder."""
        first: dict[int, str] = {}
        for path, inode, signature in state.files:
            known = self._recorder.inodes[inode]
            where = os.path.join(top, path)
            if known.kind == "dir":
                os.mkdir(where)
                continue
            if known.kind == "symlink":
                os.symlink(known.content, os.fsencode(where))
            elif inode in first:
                os.link(first[inode], where)
            else:
                first[inode] = where
                with open(where, "wb", buffering=0) as file:
                    file.write(self.content(inode, signature))
            if known.times is not None:
                os.utime(where, ns=known.times, follow_symlinks=False)
        if ledger and state.ledger:
            folder = top / STATE / "encvault" / "vaults"
            folder.mkdir(parents=True)
            for name, data in state.ledger.items():
                (folder / name).write_bytes(data)
