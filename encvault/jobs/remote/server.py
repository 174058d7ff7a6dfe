"""What a server can do for a job, and how it is addressed."""

from __future__ import annotations

import abc
import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from encvault.errors import AddressUnusable, RemoteUnavailable
from encvault.fs import calls
from encvault.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

SSH_PORT = 22
PART_SIZE = 8 << 20

_SEPARATORS = re.compile(r"/+")


@dataclass(frozen=True, slots=True)
class Options:
    """How patient to be.

    Attributes:
        connect_timeout: seconds until a server must have answered at all.
        idle_timeout: seconds until it must have gone on with what it does.
    """

    connect_timeout: float = 20.0
    idle_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """A place on a server. Its path is taken as it is written; nothing in it is percent-encoded.

    Attributes:
        scheme: ``sftp`` or ``s3``.
        user: to log in as, or "" for whoever the library takes.
        host: name of the machine, or of the bucket.
        port: TCP port, or None for the usual one.
        path: beneath the host, without a slash at its end; "" for the top.
    """

    scheme: str
    user: str
    host: str
    port: int | None
    path: str

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port not in (None, SSH_PORT) else ""
        return f"{self.scheme}://{user}{host}{port}{self.path}"

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address that a text is.

        Raises:
            AddressUnusable: it is none, or has a password in it, which is not repeated.
        """
        scheme, _colon, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        shown = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            raise _unusable(shown, _("its host or port is wrong")) from None
        if parts.password is not None:
            raise AddressUnusable(
                place=shown,
                reason=_("a password does not belong into an address"),
                fix=_("let in a key: ssh-copy-id")
                if scheme == "sftp"
                else _("give the keys by a profile: aws configure"),
            )
        if scheme == "s3" and (parts.username is not None or port is not None):
            raise _unusable(shown, _("only a bucket and a path belong into it"))
        if scheme not in ("sftp", "s3") or not name:
            raise _unusable(shown, _("it names no server"))
        path = _SEPARATORS.sub("/", slash + path).rstrip("/")
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise _unusable(shown, _("it has . or .. in its path"))
        # a bucket's name is not that of a machine: its case counts
        return cls(scheme, parts.username or "", host if scheme == "s3" else name, port, path)


def _unusable(shown: str, reason: str) -> AddressUnusable:
    fix = _("write sftp://USER@HOST/PATH or s3://BUCKET/PATH, then: encvault job check")
    return AddressUnusable(place=shown, reason=reason, fix=fix)


class There(NamedTuple):
    """A file on the server; a folder without anything in it has a path that ends in ``/``.

    Attributes:
        path: beneath the server's place, ``/`` between names.
        size: bytes.
        stamp: what is another if the file is written again, as far as the server can tell.
    """

    path: str
    size: int
    stamp: str


@dataclass(frozen=True, slots=True)
class Cargo:
    """A sealed file that is to be sent.

    Attributes:
        fd: descriptor to read it.
        size: bytes.
        digest: SHA-256 of it.
    """

    fd: int
    size: int
    digest: bytes

    @classmethod
    def of(cls, fd: int) -> Cargo:
        """The cargo of an open file, which is read once."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(PART_SIZE, max(1, os.fstat(fd).st_size))))
        size = 0
        while count := calls.read_at(fd, buffer, size):
            digest.update(buffer[:count])
            size += count
        return cls(fd, size, digest.digest())

    def part(self, offset: int, size: int) -> bytes:
        """What lies at an offset, fewer than `size` bytes only at the end of the file."""
        buffer = bytearray(max(0, min(size, self.size - offset)))
        return bytes(memoryview(buffer)[: calls.read_at(self.fd, memoryview(buffer), offset)])


class Server(abc.ABC):
    """A place on a server, connected until the context is left.

    Every call ends in time (`Options`). Paths are beneath the place.

    Each method raises `RemoteFailed` if the server is of no use any more, and `RemoteRefused` if
    it is only this file.

    Attributes:
        place: its address, as it is shown and remembered.
    """

    def __init__(self, address: Address) -> None:
        self.place = str(address)

    @staticmethod
    def reach(url: str, options: Options | None = None, *, under: str = "") -> Server:
        """Connect to a server.

        Args:
            url: ``sftp://USER@HOST:PORT/PATH``, in which ``/~/`` is the home of the user, or
                ``s3://BUCKET/PREFIX``.
            options: how patient to be.
            under: a folder beneath that place, which is then the place.

        Raises:
            AddressUnusable: the address has no meaning, or a password in it.
            RemoteUnavailable: a package is missing.
            HostUnknown, HostChanged: the server does not prove to be the one that is known.
            RemoteFailed: it cannot be reached, or does not let us in.
        """
        address = Address.parse(f"{url}/{under}")
        try:
            if address.scheme == "sftp":
                from encvault.jobs.remote.sftp import SftpServer  # noqa: PLC0415 - an extra

                return SftpServer(address, options or Options())
            from encvault.jobs.remote.s3 import S3Server  # noqa: PLC0415 - an extra

            return S3Server(address, options or Options())
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            raise RemoteUnavailable(place=str(address), package=package) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Hang up; raises nothing."""

    def show(self, path: str) -> str:
        """The address of a file, for messages."""
        return f"{self.place}/{path}"

    @abc.abstractmethod
    def files(self, prefix: str = "") -> Iterator[There]:
        """What lies there, temporary files left out.

        Args:
            prefix: which all their paths begin with.
        """

    @abc.abstractmethod
    def head(self, path: str, limit: int) -> bytes | None:
        """A small file, at most `limit` bytes of it; None if it is not there."""

    @abc.abstractmethod
    def digest(self, path: str) -> tuple[bytes, str] | None:
        """SHA-256 of a whole file, read from the server, and its stamp; None if it is not there."""

    @abc.abstractmethod
    def put(self, cargo: Cargo, path: str, *, resume: bool, sent: Callable[[int], None]) -> str:
        """Send a file, and read back what arrived; in place of another only once it is whole.

        Args:
            cargo: the file.
            path: where to; folders above are made.
            resume: whether a killed run has begun to send the same content: then go on with that.
            sent: told how many bytes more are on their way.

        Returns:
            The stamp of the file.
        """

    @abc.abstractmethod
    def make_folder(self, path: str) -> None:
        """Have a folder there, though nothing is in it; `path` ends in ``/``."""

    @abc.abstractmethod
    def remove(self, path: str, *, was_sent: bool) -> None:
        """Remove a file, or a folder without anything in it, if it is there.

        Args:
            path: which.
            was_sent: whether sending it was done with; if not, what is left of that goes as well.
        """
