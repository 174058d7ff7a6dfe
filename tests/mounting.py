"""A vault that is mounted: the place in which the tests of the mount work."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from fault.processes import PATIENCE, fork, wait

from encvault import cli

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from helpers import Command, Ran

LAYOUTS = ["visible", "hidden"]


class MountedVault:
    """An empty vault, and a folder to mount it at.

    The commands run in this process or are forked from it, so that one costs milliseconds. Leaving
    the context takes the mount away, whatever state it is in.

    Args:
        run: the command line.
        top: an empty folder for the vault, the mountpoint and the key.
        layout: ``visible`` or ``hidden``.
    """

    def __init__(self, run: Command, top: Path, layout: str) -> None:
        self.layout = layout
        self.folder = top / "mnt"
        self.vault = top / "vault"
        self.identity = top / "me.key"
        self._told = top / "told.txt"
        self._run = run
        self._server = 0
        key = self.encvault("key", "new", "--no-password", "-o", self.identity)
        hide = ["--hide-names"] if layout == "hidden" else []
        self.encvault("init", self.vault, *hide, "-r", key.out.strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._server:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server, signal.SIGKILL)
            wait(self._server)
        # not ismount(): of a dead mount it says no
        if str(self.folder) in _mountpoints():
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)

    def encvault(self, *arguments: object, codes: tuple[int, ...] = (0,)) -> Ran:
        """Run a command that has to end with one of the codes."""
        done = self._run(*arguments)
        assert done.code in codes, f"{arguments}: {done}"
        return done

    def mount(self) -> None:
        """Mount as people do: the command returns, and another process serves."""
        assert wait(fork(lambda: self._main("mount"))) == 0, self._told.read_text()
        assert os.path.ismount(self.folder)

    def serve(self) -> None:
        """Mount in the foreground of a process that can be killed."""
        self._server = fork(lambda: self._main("mount", "-f"))
        deadline = time.monotonic() + PATIENCE
        while not os.path.ismount(self.folder):
            ended, status = os.waitpid(self._server, os.WNOHANG)
            if ended:
                self._server = 0
            assert not ended, f"ended with status {status}: {self._told.read_text()}"
            assert time.monotonic() < deadline, "the mount does not appear"
            time.sleep(0.002)

    def told(self) -> str:
        """What the server has said so far, as of an error that no program was told of."""
        return self._told.read_text() if self._told.exists() else ""

    def unmount(self) -> None:
        """Unmount what is alive."""
        self.encvault("unmount", self.folder)
        assert not os.path.ismount(self.folder)
        if self._server:
            server, self._server = self._server, 0
            assert wait(server) == 0, self._told.read_text()

    def kill(self) -> None:
        """Kill the process that `serve` started."""
        server, self._server = self._server, 0
        os.kill(server, signal.SIGKILL)
        assert wait(server) == -signal.SIGKILL

    def clean_up(self) -> None:
        """Unmount what is dead: 0, or 3 if something was not saved."""
        self.encvault("unmount", self.folder, codes=(0, 3))
        assert str(self.folder) not in _mountpoints()

    def verify(self) -> None:
        """Every sealed file is authentic. The vault must not be mounted."""
        self.encvault("verify", self.vault, "-i", self.identity, "--jobs", 1)

    def check(self) -> None:
        """As `verify`, and nothing is left over or in the clear."""
        self.verify()
        self.encvault("status", self.vault)

    def opened(self, to: Path) -> Path:
        """Open the vault, which must not be mounted, into a folder beside it."""
        self.encvault("open", self.vault, "--to", to, "-i", self.identity, "--jobs", 1)
        return to

    def cat(self, path: str) -> bytes:
        """What `encvault cat` prints of a file of text in the vault."""
        return self.encvault("cat", self.vault / path, "-i", self.identity).out.encode()

    def _main(self, command: str, *options: str) -> int:
        typed = [command, self.vault, self.folder, "-i", self.identity, *options]
        nothing = os.open(os.devnull, os.O_RDONLY)
        told = os.open(self._told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for target, source in ((0, nothing), (1, told), (2, told)):
            os.dup2(source, target)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - they end with the process
        sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115
        code = cli.main([str(argument) for argument in typed])
        sys.stdout.flush()
        return code


def _mountpoints() -> set[str]:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return {line.split(" ")[1].encode().decode("unicode_escape") for line in file}
