"""A server that speaks SFTP (with ``ssh`` the only importer of paramiko and fsspec).

A file is written under a temporary name, synced where the server can do that (OpenSSH), read back,
and renamed. Folders cannot be synced through this protocol: that a new name outlives a power
failure of the server within its next seconds is up to the server.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import stat
from collections import deque
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko import sftp as protocol

from encvault.errors import RemoteFailed, RemoteRefused
from encvault.fs.durable import is_temporary, stable_id, temporary_name
from encvault.i18n import _, system_reason
from encvault.jobs.remote.server import PART_SIZE, Server, There
from encvault.jobs.remote.ssh import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.jobs.remote.server import Address, Cargo, Options

_BLOCK_SIZE = 32 << 10  # what every server takes at once
_UNDER_WAY = 64  # requests that wait for their answers
_HOME = "/~"


class _Pipeline:
    """Requests whose answers are waited for later, so that distance costs no time.

    paramiko's own way loses what the server says of writes that are under way, and its way to
    read ahead is a thread.
    """

    def __init__(self, ftp: Any) -> None:
        self._ftp = ftp
        self._waiting: deque[int] = deque()
        self._answers: dict[int, tuple[int, Any]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, kind: int, *arguments: object) -> None:
        """Send a request."""
        self._waiting.append(self._ftp._async_request(self, kind, *arguments))  # noqa: SLF001 - see above

    def _async_response(self, kind: int, message: Any, number: int) -> None:
        # paramiko calls this with an answer
        self._answers[number] = (kind, message)

    def answer(self) -> Any:
        """The answer to the request that was sent first.

        Raises:
            OSError, EOFError: it was not done.
        """
        number = self._waiting.popleft()
        while number not in self._answers:
            self._ftp._read_response()  # noqa: SLF001 - see above
        kind, message = self._answers.pop(number)
        if kind == protocol.CMD_STATUS:
            self._ftp._convert_status(message)  # noqa: SLF001 - see above
        return message

    def drain(self) -> None:
        """Wait for all answers, whatever they are, except that the connection is lost."""
        while self._waiting:
            with contextlib.suppress(EOFError):
                self.answer()


class SftpServer(Server):
    """A folder on an SFTP server."""

    def __init__(self, address: Address, options: Options) -> None:
        super().__init__(address)
        path = address.path
        # what is beneath the home of the user is relative: that is where a connection begins
        self._base = path[len(_HOME) + 1 :] if f"{path}/".startswith(f"{_HOME}/") else path or "/"
        self._made = {b"", b"/", b"."}
        self._file_system = connect(address, options)
        self._ftp: Any = self._file_system.ftp
        self._ftp.get_channel().settimeout(options.idle_timeout)

    def _failed(self, reason: str) -> RemoteFailed:
        return RemoteFailed(place=self.place, reason=reason)

    def close(self) -> None:
        """Hang up."""
        self._file_system.client.close()

    @contextlib.contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        """Have what goes wrong named."""
        try:
            yield
        except TimeoutError:
            raise self._failed(_("no answer in time")) from None
        except (EOFError, paramiko.SSHException, protocol.SFTPError):
            raise self._failed(_("the connection was lost")) from None
        except OSError as error:
            if not self._file_system.client.get_transport().is_active():
                raise self._failed(_("the connection was lost")) from None
            # the protocol has few codes; all else is a text
            reason = system_reason(error) if error.errno else _("the server says: {text}")
            reason = reason.format(text=error)
            raise RemoteRefused(place=self.show(path), reason=reason) from None

    def _full(self, path: str) -> bytes:
        return os.fsencode(posixpath.join(self._base, path) or ".")

    def files(self, prefix: str = "") -> Iterator[There]:
        """See `Server.files`. Links are listed, and not followed."""
        waiting = [prefix.rpartition("/")[0]]
        while waiting:
            folder = waiting.pop()
            is_empty = True
            for name, status in self._list(folder):
                is_empty = False
                path = posixpath.join(folder, name)
                if stat.S_ISDIR(status.st_mode or 0):
                    if f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/"):
                        waiting.append(path)
                elif path.startswith(prefix) and not is_temporary(name):
                    yield There(path, status.st_size or 0, str(status.st_mtime))
            if is_empty and folder and f"{folder}/".startswith(prefix):
                yield There(f"{folder}/", 0, "")

    def _list(self, folder: str) -> Iterator[tuple[str, Any]]:
        """Names and attributes; paramiko's own way fails at a name that is not UTF-8."""
        ftp = self._ftp
        with self._asking(folder):
            try:
                _kind, message = ftp._request(protocol.CMD_OPENDIR, self._full(folder))  # noqa: SLF001 - see above
            except FileNotFoundError:
                return
            except PermissionError:
                if not folder:
                    raise
                return  # somebody else's
            handle = message.get_string()
            try:
                while True:
                    _kind, message = ftp._request(protocol.CMD_READDIR, handle)  # noqa: SLF001 - see above
                    for _each in range(message.get_int()):
                        name = os.fsdecode(message.get_string())
                        message.get_string()  # the same as ls(1) shows it
                        attributes = paramiko.SFTPAttributes._from_msg(message)  # noqa: SLF001 - see above
                        if name not in (".", ".."):
                            yield name, attributes
            except EOFError:
                ftp._request(protocol.CMD_CLOSE, handle)  # noqa: SLF001 - see above

    def head(self, path: str, limit: int) -> bytes | None:
        """See `Server.head`."""
        with self._asking(path):
            try:
                with self._ftp.open(self._full(path), "r") as file:
                    return b"".join(self._blocks(file, limit))
            except FileNotFoundError:
                return None

    def digest(self, path: str) -> tuple[bytes, str] | None:
        """See `Server.digest`."""
        with self._asking(path):
            try:
                with self._ftp.open(self._full(path), "r") as file:
                    status = file.stat()
                    return self._digest(file, status.st_size), str(status.st_mtime)
            except FileNotFoundError:
                return None

    def _digest(self, file: Any, size: int) -> bytes:
        digest = hashlib.sha256()
        for block in self._blocks(file, size):
            digest.update(block)
        return digest.digest()

    def _blocks(self, file: Any, limit: int) -> Iterator[bytes]:
        """A file from its start, at most `limit` bytes."""
        pipeline = _Pipeline(self._ftp)
        asked = got = 0
        while True:
            while asked < limit and len(pipeline) < _UNDER_WAY:
                size = min(_BLOCK_SIZE, limit - asked)
                pipeline.ask(protocol.CMD_READ, file.handle, protocol.int64(asked), size)
                asked += size
            if not len(pipeline):
                return
            try:
                block = pipeline.answer().get_string()
            except EOFError:
                pipeline.drain()
                return
            if not block:  # no server should
                pipeline.drain()
                return
            yield block
            got += len(block)
            if len(block) < _BLOCK_SIZE and got < limit:
                # the end, or a server that gives less than was asked for: ask again from here
                pipeline.drain()
                asked = got

    def put(self, cargo: Cargo, path: str, *, resume: bool, sent: Callable[[int], None]) -> str:
        """See `Server.put`."""
        temporary = self._temporary(path)
        with self._asking(path):
            self._make(posixpath.dirname(temporary))
            left = self._left(temporary) if resume else 0
            stamp = None
            if 0 < left <= cargo.size:
                stamp = self._write(temporary, "r+", cargo, left, sent)
            # what a killed run has left may be damaged, or too long
            stamp = stamp or self._write(temporary, "w+", cargo, 0, sent)
            if stamp is None:
                self._ftp.remove(temporary)
                reason = _("what arrived there is not what was sent")
                raise RemoteRefused(place=self.show(path), reason=reason)
            self._rename(temporary, self._full(path))
            return stamp

    def _temporary(self, path: str) -> bytes:
        folder, _slash, name = path.rpartition("/")
        return self._full(posixpath.join(folder, temporary_name(stable_id(name))))

    def _left(self, temporary: bytes) -> int:
        try:
            return self._ftp.stat(temporary).st_size or 0
        except FileNotFoundError:
            return 0

    def _write(
        self, temporary: bytes, mode: str, cargo: Cargo, start: int, sent: Callable[[int], None]
    ) -> str | None:
        """Write what is missing, sync, and read back; the stamp, or None if it is not the same."""
        with self._ftp.open(temporary, mode) as file:
            pipeline = _Pipeline(self._ftp)
            offset = start
            try:
                while part := cargo.part(offset, PART_SIZE):
                    for at in range(0, len(part), _BLOCK_SIZE):
                        if len(pipeline) == _UNDER_WAY:
                            pipeline.answer()
                        block = part[at : at + _BLOCK_SIZE]
                        pipeline.ask(
                            protocol.CMD_WRITE, file.handle, protocol.int64(offset + at), block
                        )
                    offset += len(part)
                    sent(len(part))
                while len(pipeline):
                    pipeline.answer()
                self._sync(file)
            except OSError as error:
                if error.errno is None and self._is_full(temporary, cargo.size - start):
                    raise self._failed(_("no space left there")) from None
                raise
            status = file.stat()
            same = status.st_size == cargo.size and self._digest(file, cargo.size) == cargo.digest
            return str(status.st_mtime) if same else None

    def _sync(self, file: Any) -> None:
        try:
            self._ftp._request(protocol.CMD_EXTENDED, "fsync@openssh.com", file.handle)  # noqa: SLF001 - see above
        except OSError as error:
            if not _is_unknown(error):
                raise

    def _is_full(self, path: bytes, wanted: int) -> bool:
        """Whether there is no room; the protocol's own answer is only that it failed."""
        try:
            _kind, message = self._ftp._request(  # noqa: SLF001 - see above
                protocol.CMD_EXTENDED, "statvfs@openssh.com", posixpath.dirname(path) or b"."
            )
        except OSError:
            return False
        _block, unit, _blocks, _free, available = (message.get_int64() for _each in range(5))
        return bool(unit * available < wanted)

    def _rename(self, old: bytes, new: bytes) -> None:
        try:
            self._ftp.posix_rename(old, new)
        except OSError as error:
            if not _is_unknown(error):
                raise
            with contextlib.suppress(FileNotFoundError):  # there is a moment without either
                self._ftp.remove(new)
            self._ftp.rename(old, new)

    def make_folder(self, path: str) -> None:
        """See `Server.make_folder`."""
        with self._asking(path):
            self._make(self._full(path.rstrip("/")))

    def _make(self, folder: bytes) -> None:
        """Make a folder and those above it, the place itself included."""
        if folder in self._made:
            return
        try:
            self._ftp.stat(folder)  # what is no folder shows at the next step
        except FileNotFoundError:
            self._make(posixpath.dirname(folder))
            self._ftp.mkdir(folder)
        self._made.add(folder)

    def remove(self, path: str, *, was_sent: bool) -> None:
        """See `Server.remove`."""
        full = self._full(path)
        with self._asking(path), contextlib.suppress(FileNotFoundError):
            if path.endswith("/"):
                self._made.discard(full.rstrip(b"/"))
                with contextlib.suppress(OSError):  # something is in it, so it stays
                    self._ftp.rmdir(full)
                return
            if not was_sent:
                with contextlib.suppress(FileNotFoundError):
                    self._ftp.remove(self._temporary(path))
            self._ftp.remove(full)


def _is_unknown(error: OSError) -> bool:
    """Whether an extension of the protocol is one that the server does not have, or forbids."""
    return error.errno == errno.EACCES or "unsupported" in str(error).lower()
