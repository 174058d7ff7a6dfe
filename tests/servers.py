"""Real servers for a test: OpenSSH's on a free port, and one that speaks S3; each a process."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 30.0
BUCKET = "encvault-test"


class RemoteServer(Protocol):
    """What the tests need of one, beside what encvault sees of it."""

    url: str

    def download(self, to: Path) -> None:
        """Get everything by the server's own client."""

    def files(self) -> dict[str, bytes]:
        """Everything at the place, as the server has it."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file behind the back of encvault."""

    def delete(self, name: str) -> None:
        """Remove one."""

    def kill(self) -> None:
        """End the server and its connections at once."""


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert time.monotonic() < deadline, f"waited in vain: port {port}"
        time.sleep(0.05)


class Sshd:
    """OpenSSH's server, with host key, configuration and authorized keys of its own.

    The user's side is in ``~/.ssh`` of the test: a key that is let in, and the server as known.
    """

    def __init__(self, folder: Path, *, subsystem: str = "internal-sftp") -> None:
        self.folder = folder
        self.home = Path(os.environ["HOME"]) / ".ssh"
        self.root = folder / "served"
        self.port = free_port()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.url = f"sftp://{self.user}@127.0.0.1:{self.port}{self.root}/mirror"
        folder.mkdir()
        self.root.mkdir()
        self.home.mkdir(mode=0o700, exist_ok=True)
        make_key(folder / "host_key")
        make_key(self.home / "id_ed25519")
        shutil.copy(self.home / "id_ed25519.pub", folder / "authorized_keys")
        self.know((folder / "host_key.pub").read_text())
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            f"PidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"Subsystem sftp {subsystem}\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its service has it made at boot
        self.start()

    def know(self, key: str) -> None:
        """Have this key in ``known_hosts``, and no other."""
        kind, data = key.split()[:2]
        (self.home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {data}\n")

    def stop(self) -> None:
        """Have its connections fall silent."""
        for pid in _below(self.process.pid):
            os.kill(pid, signal.SIGSTOP)

    def start(self) -> None:
        """Begin to listen."""
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, "sshd is missing: apt-get install openssh-server"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        wait_for(self.port)

    def kill(self) -> None:
        """See `RemoteServer`."""
        for pid in (*_below(self.process.pid), self.process.pid):
            with contextlib.suppress(ProcessLookupError):  # its connection has just ended
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def download(self, to: Path) -> None:
        """See `RemoteServer`."""
        to.mkdir()
        command = ["sftp", "-q", "-b", "-", "-P", str(self.port)]
        command += ["-i", str(self.home / "id_ed25519"), "-o", "IdentitiesOnly=yes"]
        command += ["-o", f"UserKnownHostsFile={self.home / 'known_hosts'}"]
        subprocess.run(
            [*command, f"{self.user}@127.0.0.1"],
            input=f'get -r "{self.root}/mirror/." "{to}"\n'.encode(),
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )

    def files(self) -> dict[str, bytes]:
        """See `RemoteServer`."""
        top = self.root / "mirror"
        paths = (path for path in top.rglob("*") if path.is_file())
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(paths)}

    def write(self, name: str, data: bytes) -> None:
        """See `RemoteServer`."""
        path = self.root / "mirror" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, name: str) -> None:
        """See `RemoteServer`."""
        (self.root / "mirror" / name).unlink()


class Bucket:
    """A bucket on moto's server. The user's side is in the variables that botocore reads."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.url = f"s3://{BUCKET}/nightly/mirror"
        self._prefix = "nightly/mirror/"
        self._log = folder / "log"
        folder.mkdir()
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._environ = environ
        self.start()
        self.client.create_bucket(Bucket=BUCKET)

    @property
    def client(self) -> Any:
        """The server's own client."""
        return boto3.client("s3", endpoint_url=self.endpoint)

    def start(self) -> None:
        """Begin to listen."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env=os.environ | self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self.port)

    def kill(self) -> None:
        """See `RemoteServer`."""
        self.process.kill()
        self.process.wait()

    def _keys(self) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=BUCKET, Prefix=self._prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def download(self, to: Path) -> None:
        """See `RemoteServer`."""
        client = self.client
        to.mkdir()
        for key in self._keys():
            path = to / key.removeprefix(self._prefix)
            if key.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(BUCKET, key, str(path))

    def files(self) -> dict[str, bytes]:
        """See `RemoteServer`."""
        client = self.client
        return {
            key.removeprefix(self._prefix): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in self._keys()
            if not key.endswith("/")
        }

    def write(self, name: str, data: bytes) -> None:
        """See `RemoteServer`."""
        self.client.put_object(Bucket=BUCKET, Key=self._prefix + name, Body=data)

    def delete(self, name: str) -> None:
        """See `RemoteServer`."""
        self.client.delete_object(Bucket=BUCKET, Key=self._prefix + name)


def make_key(path: Path) -> None:
    """A new pair of ssh keys."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True
    )


def _below(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends by itself
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [*_below(child), child]
    return found
