"""One run that carries sealed files to a server: what of each file is to be done, and doing it.

A file that nobody has sent from here is never replaced or removed, and one that has changed on
the server since is reported (`CopyChanged`) and left as it is: whoever removes it gets the true
one with the next run.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from encvault.errors import (
    CopyChanged,
    CopyLost,
    EncvaultError,
    ForeignCopy,
    KeysMissing,
    OtherVaultThere,
    RemoteRefused,
    SourceMissing,
)
from encvault.fs import calls, durable
from encvault.fs.stamp import Stamp
from encvault.fs.tree import join, split
from encvault.i18n import _
from encvault.jobs.remote.carried import Carried
from encvault.jobs.remote.server import Cargo
from encvault.vault.datakeys import MAX_KEY_SIZE, is_data_key
from encvault.vault.layout import SUFFIX, belongs_to, is_object, peek
from encvault.vault.manifest import (
    FOLDER,
    KEYS_FOLDER,
    LOCK_FILE,
    MAX_RECORD_SIZE,
    OBJECTS_FOLDER,
    RECORD_FILES,
    VaultRecord,
    load_record,
)
from encvault.vault.report import Report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from encvault.fs.tree import Tree
    from encvault.jobs.remote.carried import CarriedLedger
    from encvault.jobs.remote.server import Server
    from encvault.vault.report import Observer

_BATCH_FILES = 64
_BATCH_SIZE = 64 << 20


@dataclass(slots=True)
class CarryReport(Report):
    """The sum of what was carried; sizes are those of sealed files.

    Attributes:
        verified: files that lay there before and were read back.
    """

    verified: int = 0


class Carrier:
    """One run to one place."""

    def __init__(
        self,
        server: Server,
        tree: Tree,
        known: CarriedLedger,
        observer: Observer,
        report: CarryReport,
        spared: Collection[str] = (),
    ) -> None:
        self._server = server
        self._tree = tree
        self._known = known
        self._observer = observer
        self._report = report
        self._spared = spared
        self._own: VaultRecord | None = None
        self._is_adopting = False

    # -- what is in the spool -------------------------------------------------------------------

    def records(self) -> Iterator[tuple[str, os.stat_result]]:
        """The vault's record, twice."""
        for path in RECORD_FILES:
            with contextlib.suppress(FileNotFoundError):  # one is enough
                yield path, self._tree.status(path)

    def keys(self) -> Iterator[tuple[str, os.stat_result]]:
        """The sealed data keys."""
        yield from self._walk(KEYS_FOLDER)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """All else, and folders without anything in them."""
        yield from self._walk("")

    def _walk(self, start: str) -> Iterator[tuple[str, os.stat_result]]:
        for folder in self._tree.walk(start, enter=lambda path: path != KEYS_FOLDER):
            if folder.error is not None:
                self._problem(durable.storage_error(folder.error, self._tree.show(folder.path)))
                continue
            if not folder.entries and folder.path and not _is_inner(folder.path):
                yield f"{folder.path}/", folder.status
            for entry in folder.entries:
                path = join(folder.path, entry.name)
                is_left = durable.is_temporary(entry.name) or durable.is_tombstone(entry.name)
                if entry.kind == "file" and not is_left and path not in (LOCK_FILE, *RECORD_FILES):
                    yield path, entry.status

    def find_vault(self) -> None:
        """See whose the vault is that lies there, if one does.

        Where it is that of the spool, and nothing is known of it, what was known has been lost:
        then what has the names of our files is ours.

        Raises:
            OtherVaultThere: not that of the spool.
            SourceMissing: the spool is no vault.
        """
        try:
            own = load_record(self._tree)
        except OSError:
            raise SourceMissing(path=self._tree.show(RECORD_FILES[0])) from None
        self._own = own
        is_new = self._known.is_new()
        for path in RECORD_FILES:
            if (there := self._known.there(path)) is None:
                continue
            before = self._known.carried(path)
            if before is not None and before.was_sent and before.is_as_left(there):
                continue
            data = self._server.head(path, MAX_RECORD_SIZE + 1) or b""
            try:
                found = VaultRecord.decode(data, self._server.show(path))
            except EncvaultError:
                continue  # torn, or no record; the other one may be
            if found.id != own.id:
                reason = _("another vault lies there")
                raise OtherVaultThere(place=self._server.place, reason=reason)
            if is_new:
                self._known.set_adopting()
        self._is_adopting = self._known.is_adopting()

    # -- sending --------------------------------------------------------------------------------

    def carry(self, files: Iterable[tuple[str, os.stat_result]]) -> bool:
        """Have files on the server; whether all that had to be sent have arrived."""
        is_whole = True
        waiting: list[Carried] = []
        size = 0
        for path, status in files:
            try:
                row = self._to_send(path, status)
            except (RemoteRefused, OSError) as error:
                self._problem(self._named(error, path))
                is_whole = False
                continue
            if row is not None:
                waiting.append(row)
                size += row.size
            if len(waiting) >= _BATCH_FILES or size >= _BATCH_SIZE:
                is_whole &= self._send(waiting)
                waiting, size = [], 0
        return self._send(waiting) and is_whole

    def _named(self, error: EncvaultError | OSError, path: str) -> EncvaultError:
        if isinstance(error, OSError):
            return durable.storage_error(error, self._tree.show(path), reading=True)
        return error

    def _problem(self, error: EncvaultError) -> None:
        self._report.problems.append(error)
        self._observer.problem(error)

    def _to_send(self, path: str, status: os.stat_result) -> Carried | None:
        """What to send of a file of the spool; None if there is nothing to do."""
        if path.endswith("/"):
            self._have_folder(path)
            return None
        if path in self._spared:
            self._known.meet(path, is_old=False)
            return None
        before, there = self._known.carried(path), self._known.there(path)
        local = "-".join(map(str, Stamp.of(status)[1:]))  # device numbers change at reboot
        arrived = before if before is not None and before.was_sent else None
        is_as_left = arrived is not None and there is not None and arrived.is_as_left(there)
        if arrived and is_as_left and arrived.local == local:
            self._unchanged(path, is_old=True)
            return None
        if (damage := self._damage(path)) is not None:
            self._known.meet(path, is_old=False)
            self._problem(damage)
            return None
        return self._compared(path, local, before)

    def _compared(self, path: str, local: str, before: Carried | None) -> Carried | None:
        """The same of a file that is new, or has another stamp here or there."""
        there = self._known.there(path)
        arrived = before if before is not None and before.was_sent else None
        with self._opened(path) as fd:
            cargo = Cargo.of(fd)
        row = Carried(path, cargo.size, local, cargo.digest)
        if there is None:
            if arrived:
                self._note(_("{path}: was not there any more").format(path=self._server.show(path)))
            return row
        if arrived and arrived.is_as_left(there):
            if arrived.digest != row.digest:
                return row
            self._known.remember([replace(row, stamp=there.stamp, was_sent=True)])
            self._unchanged(path, is_old=True)
            return None
        return self._after_a_look(row, before)

    def _damage(self, path: str) -> EncvaultError | None:
        """Why something in the spool cannot be what was sealed: it may be whole on the server."""
        if self._own is None:
            return None  # no vault is carried
        folder, name = split(path)
        if folder == KEYS_FOLDER:
            data = durable.read_file(self._tree, path, MAX_KEY_SIZE)
            if not is_data_key(data, self._own, name.removesuffix(".json")):
                return KeysMissing(path=self._tree.path, missing=path)
        elif (is_object(name) and folder.startswith(OBJECTS_FOLDER)) or name.endswith(SUFFIX):
            header = peek(self._tree, folder, name)
            if header is None or not belongs_to(header, self._own.id):
                return CopyLost(path=self._tree.show(path))
        return None

    def _after_a_look(self, row: Carried, before: Carried | None) -> Carried | None:
        """The same, where only its content tells what lies there."""
        found = self._server.digest(row.path)
        if found is None:
            return row
        digest, stamp = found
        if digest == row.digest:
            self._known.remember([replace(row, stamp=stamp, was_sent=True)])
            self._unchanged(row.path, is_old=False)
            return None
        if before is None:
            is_ours = self._is_adopting
            refusal: EncvaultError = ForeignCopy(
                place=self._server.show(row.path), reason=_("another file has this name there")
            )
        else:
            is_ours = not before.was_sent or digest == before.digest
            refusal = CopyChanged(path=self._server.show(row.path))
        if is_ours:
            return row
        self._known.meet(row.path, is_old=False)
        self._problem(refusal)
        return None

    def _have_folder(self, path: str) -> None:
        if self._known.there(path) is None:
            self._known.remember([Carried(path, 0, "", b"")])
            self._server.make_folder(path)
        self._known.meet(path, is_old=False)

    def _unchanged(self, path: str, *, is_old: bool) -> None:
        """Count a file that is there; `is_old` if nobody has read it back now."""
        self._known.meet(path, is_old=is_old)
        self._report.unchanged += 1
        self._report.verified += not is_old
        self._observer.progress(1, 0)

    def _note(self, text: str) -> None:
        self._report.notes.append(text)
        self._observer.note(text)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        folder, name = split(path)
        fd = calls.open_read(self._tree.folder(folder), name)
        try:
            yield fd
        finally:
            os.close(fd)

    def _send(self, rows: list[Carried]) -> bool:
        """Send a batch; whether all of it has arrived."""
        is_begun = {row.path: self._is_begun(row) for row in rows}
        self._known.remember(rows)  # from here on what lies there is ours
        done: list[Carried] = []
        try:
            for row in rows:
                self._observer.action("send", row.path)
                try:
                    with self._opened(row.path) as fd:
                        cargo = Cargo(fd, row.size, row.digest)
                        stamp = self._server.put(
                            cargo, row.path, resume=is_begun[row.path], sent=self._sent
                        )
                except (RemoteRefused, OSError) as error:
                    self._known.meet(row.path, is_old=False)
                    self._problem(self._named(error, row.path))
                    continue
                done.append(replace(row, stamp=stamp, was_sent=True))
                self._report.files += 1
                self._report.size += row.size
                self._observer.progress(1, 0)
        finally:
            self._known.remember(done)
            for row in done:
                self._known.meet(row.path, is_old=False)
        return len(done) == len(rows)

    def _is_begun(self, row: Carried) -> bool:
        before = self._known.carried(row.path)
        return before is not None and not before.was_sent and before.digest == row.digest

    def _sent(self, size: int) -> None:
        self._observer.progress(0, size)

    # -- afterwards -----------------------------------------------------------------------------

    def verify(self, share: float) -> None:
        """Read back a share of what was there before, and compare."""
        for path in self._known.sample(share) if share else ():
            row = self._known.carried(path)
            try:
                found = self._server.digest(path)
            except RemoteRefused as error:
                self._problem(error)
                continue
            self._report.verified += 1
            if row is None or found is None or found[0] != row.digest:
                self._problem(CopyChanged(path=self._server.show(path)))

    def remove_unmet(self) -> None:
        """Remove what was carried and is no longer in the spool, and folders that it leaves."""
        folders: set[str] = set()
        for row in self._known.unmet():
            if row.path in self._spared:
                continue
            if _opens_files(row.path):  # perhaps the last copy of it
                self._problem(KeysMissing(path=self._tree.path, missing=row.path))
                continue
            there = self._known.there(row.path)
            if there is not None and row.was_sent and not row.is_as_left(there):
                found = self._server.digest(row.path)
                if found is not None and found[0] != row.digest:
                    self._problem(CopyChanged(path=self._server.show(row.path)))
                    continue
            self._server.remove(row.path, was_sent=row.was_sent)
            self._known.forget([row.path])
            self._report.removed += not row.path.endswith("/")
            self._observer.action("remove", row.path)
            folders.update(_above(row.path))
        for folder in sorted(folders, reverse=True):
            if self._tree.has_no_folder(folder):
                self._server.remove(f"{folder}/", was_sent=True)


def _is_inner(path: str) -> bool:
    return path == FOLDER or path.startswith(f"{FOLDER}/")


def _opens_files(path: str) -> bool:
    return path in RECORD_FILES or path.startswith(f"{KEYS_FOLDER}/")


def _above(path: str) -> Iterator[str]:
    folder = split(path)[0]
    while folder:
        yield folder
        folder = split(folder)[0]
