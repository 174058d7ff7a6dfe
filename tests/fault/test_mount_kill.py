"""kill -9 of the process that serves a mount, while several programs write to it.

The writers note, outside the mount, which versions of a file they began and which they know to be
durable. Afterwards each file has to be one of those from the durable one to the last that was
begun, whole.
"""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import threading
import traceback
from typing import TYPE_CHECKING

import pytest
from fault.mounts import mounted as mounted_disk, needs_root
from fault.processes import PATIENCE
from helpers import RECIPIENT, keys

from encvault import operations
from encvault.errors import InvalidRequest
from encvault.operations import mounting
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mounting import MountedVault

ROUNDS = 25  # for each layout
MOST_CALLS = 60  # of all writers together, before the kill
SIZES = [0, 40, 3000, 16_383, 16_385, 40_000]
RECORD_SIZE = 200
ABSENT = -1  # the version of a file that is not there

# what a program is told when the server is gone
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO}


def payload(name: str, version: int) -> bytes:
    """What a file of this name holds in this version; every version differs in all of it."""
    head = f"{name} {version}\n".encode()
    size = SIZES[version % len(SIZES)]
    return head + (f"{name}:{version};".encode() * (size // 4 + 1))[:size]


class Notes:
    """What is known of one file.

    Attributes:
        durable: the version that must survive, or a later one.
        begun: the last version that was begun.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.durable = ABSENT
        self.begun = ABSENT

    def wrong(self) -> str:
        """What is wrong with the file now, or nothing; then what is there is what must survive."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = None
        except OSError as error:
            return f"{self.name} cannot be read: {error}"
        for version in range(self.begun, self.durable - 1, -1):
            if content == self.content(version):
                self.begun = self.durable = version
                return ""
        found = "is not there" if content is None else f"has {len(content)} bytes: {content[:30]!r}"
        return f"{self.name} {found}; {self.durable} was durable, {self.begun} begun"

    def content(self, version: int) -> bytes | None:
        """None if the file is absent then."""
        return None if version == ABSENT else payload(self.name, version)


class Deleted(Notes):
    """A file whose odd versions, the first is -1, are its absence."""

    def content(self, version: int) -> bytes | None:
        return None if version % 2 else payload(self.name, version)


class Appended(Notes):
    """A file of records: version 0 has one."""

    def content(self, version: int) -> bytes | None:
        return None if version == ABSENT else b"".join(map(record, range(version + 1)))


class Renamed(Notes):
    """A file that another is renamed over, which a kill may leave."""

    highest = 0  # what a kill leaves may be of a version that is begun again now

    def wrong(self) -> str:
        self.highest = max(self.highest, self.begun)
        temporary = self.path.with_suffix(".tmp")
        if temporary.exists():
            content = temporary.read_bytes()
            if content not in [self.content(version) for version in range(self.highest + 1)]:
                return f"{temporary.name} has {len(content)} bytes: {content[:30]!r}"
        return super().wrong()


def record(number: int) -> bytes:
    return f"record {number}".encode().ljust(RECORD_SIZE - 1, b".") + b"\n"


def put(path: Path, data: bytes, flags: int, *, durable: bool) -> None:
    fd = os.open(path, flags | os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        half = len(data) // 2
        for piece in (data[:half], data[half:]):
            os.write(fd, piece)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- one step of each writer ----------------------------------------------------------------


def overwrite_durably(notes: Notes) -> None:
    notes.begun += 1
    data = payload(notes.name, notes.begun)
    put(notes.path, data, os.O_TRUNC, durable=True)
    notes.durable = notes.begun


def overwrite(notes: Notes) -> None:
    notes.begun += 1
    put(notes.path, payload(notes.name, notes.begun), os.O_TRUNC, durable=False)


def overwrite_in_place(notes: Notes) -> None:
    # without O_TRUNC: what is behind the new end is cut afterwards
    notes.begun += 1
    data = payload(notes.name, notes.begun)
    fd = os.open(notes.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        if notes.begun % 2:
            os.fsync(fd)
            notes.durable = notes.begun
    finally:
        os.close(fd)


def rename_over(notes: Notes) -> None:
    notes.begun += 1
    temporary = notes.path.with_suffix(".tmp")
    put(temporary, payload(notes.name, notes.begun), os.O_TRUNC, durable=notes.begun % 2 == 0)
    os.rename(temporary, notes.path)
    if notes.begun % 4 == 0:
        sync_folder(notes.path.parent)
        notes.durable = notes.begun


def append(notes: Notes) -> None:
    notes.begun += 1
    durable = notes.begun % 3 == 0
    put(notes.path, record(notes.begun), os.O_APPEND, durable=durable)
    if durable:
        notes.durable = notes.begun


def make_and_delete(notes: Notes) -> None:
    notes.begun += 1
    if notes.begun % 2:
        os.unlink(notes.path)
        sync_folder(notes.path.parent)
    else:
        put(notes.path, payload(notes.name, notes.begun), os.O_EXCL, durable=True)
    notes.durable = notes.begun


STEPS: dict[Callable[[Notes], None], type[Notes]] = {
    overwrite_durably: Notes,
    overwrite: Notes,
    overwrite_in_place: Notes,
    rename_over: Renamed,
    append: Appended,
    make_and_delete: Deleted,
}


class Load:
    """All writers, each a thread with a file of its own, until the server is gone."""

    def __init__(self, folder: Path, told: Callable[[], str]) -> None:
        self._told = told
        self.files = {step: kind(folder / step.__name__) for step, kind in STEPS.items()}
        self._errors: list[BaseException] = []
        self._done = 0
        self._is_over = False
        self._moved = threading.Condition()

    def run_until(self, calls: int, kill: Callable[[], None]) -> None:
        """Let the writers make that many steps together, and kill the server amid the next."""
        self._done, self._is_over = 0, False
        writers = [
            threading.Thread(target=self._write, args=(step, notes), daemon=True)
            for step, notes in self.files.items()
        ]
        for writer in writers:
            writer.start()
        try:
            with self._moved:
                moved = self._moved.wait_for(lambda: self._done >= calls or self._errors, PATIENCE)
                self._is_over = True
        finally:
            kill()
            for writer in writers:
                writer.join(PATIENCE)
        assert not self._errors, "".join([*map(format_traceback, self._errors), self._told()])
        assert moved, "the writers hang"
        assert not any(writer.is_alive() for writer in writers), "a writer waits for the dead"

    def wrong(self) -> list[str]:
        """What is wrong with the files; after it the writers can go on from what is there."""
        return [wrong for notes in self.files.values() if (wrong := notes.wrong())]

    def _write(self, step: Callable[[Notes], None], notes: Notes) -> None:
        try:
            while True:
                step(notes)
                with self._moved:
                    self._done += 1
                    self._moved.notify()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            with self._moved:
                is_told = isinstance(error, OSError) and error.errno in GONE
                if not (self._is_over and is_told):
                    self._errors.append(error)
                    self._moved.notify()


def format_traceback(error: BaseException) -> str:
    """Which step it was."""
    return "".join(traceback.format_exception(error))


def test_a_killed_mount_loses_nothing_that_was_durable(mounted: MountedVault) -> None:
    choose = random.Random(f"mount {mounted.layout}")
    mounted.serve()
    folder = mounted.folder / "文件夹"
    folder.mkdir()
    sync_folder(mounted.folder)
    load = Load(folder, mounted.told)
    for _round in range(ROUNDS):
        load.run_until(choose.randrange(MOST_CALLS), mounted.kill)
        mounted.clean_up()
        mounted.verify()
        mounted.serve()
        assert not load.wrong()
        status = json.loads(mounted.encvault("status", mounted.vault, "--json").out)
        assert status["leftovers"] == status["unknown"] == status["plain"] == []
    mounted.unmount()
    mounted.check()


@needs_root
def test_a_vault_on_a_disk_that_is_read_only_is_only_read(tmp_path: Path) -> None:
    with mounted_disk(tmp_path / "disk", "tmpfs", 8 << 20) as disk:
        vault, place = disk / "v", tmp_path / "mnt"
        vault.mkdir()
        Vault.create(
            str(vault), [RECIPIENT], suite=operations.DEFAULT_SUITE, layout="visible"
        ).close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        request = mounting.MountRequest(str(vault), str(place), str(tmp_path / "state"))
        with pytest.raises(InvalidRequest, match="read-only; say --read-only"):
            mounting.mount(request, keys())
        mounting.mount(request._replace(read_only=True), keys())
        assert os.listdir(place) == []
        mounting.unmount(str(place), request.state_dir)
