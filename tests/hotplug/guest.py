"""A computer for tests: Debian's kernel under QEMU, with the host's files and a bus for sticks."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from helpers import Ran
from hotplug import initramfs
from hotplug.qmp import Lines, Qmp

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).resolve().parent.parent.parent
UNPACKED = SOURCE / "build" / "hotplug"  # by `make test-usb`
BOOT_S = 300.0  # of a machine in software, beside other work
PATIENCE_S = 240.0
_SOCKETS = ("qmp", "agent")

_log = logging.getLogger("hotplug")


class Guest:
    """It runs from the beginning to the end of a ``with``.

    Attributes:
        qmp: QEMU's side of it.
        release: of its kernel.
    """

    qmp: Qmp
    release: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = time.monotonic()
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0

    def __enter__(self) -> Self:
        initramfs.build(UNPACKED, self._folder)
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        try:
            self._until(self._sockets_are_there)
            self.qmp = Qmp(self._folder / "qmp")
            self._agent = Lines(self._folder / "agent")
            self.release = self._answer(0, BOOT_S).out
            self.note(f"Linux {self.release} is up")
        except BaseException:
            self._end()
            raise
        return self

    def _command(self) -> list[str]:
        [kernel] = (UNPACKED / "kernel" / "boot").glob("vmlinuz-*")
        # /init gets what the kernel does not know as its environment
        words = {"SOURCE": SOURCE, "PYTHON": sys.executable}
        append = " ".join(
            [
                "console=ttyS0 panic=-1 loglevel=6 rdinit=/init",
                "mitigations=off",  # they protect nothing here, and take a third of the time
                *(f"{name}={value}" for name, value in words.items()),
            ]
        )
        sockets = [
            part
            for name in _SOCKETS
            for part in (
                "-chardev",
                f"socket,id={name},path={self._folder / name},server=on,wait=off",
            )
        ]
        return [
            *("setpriv", "--pdeathsig", "KILL"),  # it must not outlive a test run that is killed
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2"),
            *("-m", "1536", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(kernel), "-initrd", str(self._folder / "initrd"), "-append", append),
            *sockets,
            *("-mon", "chardev=qmp,mode=control"),
            *("-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=agent,name=agent"),
            *(
                "-virtfs",
                "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            ),
            *("-device", "qemu-xhci,id=usb"),
        ]

    def _sockets_are_there(self) -> bool:
        assert self._process.poll() is None, self.console()
        return all((self._folder / name).exists() for name in _SOCKETS)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def console(self) -> str:
        """What the kernel said."""
        return (self._folder / "console").read_text(errors="replace")

    def note(self, text: str) -> None:
        """Tell who watches the tests."""
        _log.info("%4d s  %s", time.monotonic() - self._begun, text)

    # -- commands ---------------------------------------------------------------------------

    def start(self, *command: object, stdin: str = "") -> int:
        """Begin a command in the guest; a number for `result`."""
        self._number += 1
        self._agent.send({"id": self._number, "command": list(map(str, command)), "input": stdin})
        return self._number

    def result(self, number: int, seconds: float = PATIENCE_S) -> Ran:
        """Wait until a command ends."""
        return self._answer(number, seconds)

    def _answer(self, number: int, seconds: float) -> Ran:
        while number not in self._answers:
            try:
                answer = self._agent.receive(seconds)
            except (TimeoutError, EOFError) as error:
                raise AssertionError(f"no answer to {number}\n{self.console()}") from error
            self._answers[answer["id"]] = answer
        found = self._answers.pop(number)
        return Ran(found["code"], found["out"], found["err"])

    def is_running(self, number: int) -> bool:
        """Whether a command has not ended."""
        while number not in self._answers:
            try:
                answer = self._agent.receive(0.01)
            except TimeoutError:
                return True
            self._answers[answer["id"]] = answer
        return False

    def run(self, *command: object, stdin: str = "") -> Ran:
        """Do a command in the guest."""
        return self.result(self.start(*command, stdin=stdin))

    def sh(self, script: str) -> str:
        """Do what must succeed; its output."""
        done = self.run("sh", "-euc", script)
        assert done.code == 0, f"{script}\n{done.out}{done.err}"
        return done.out

    def encvault(self, *arguments: object) -> Ran:
        """The program under test."""
        return self.ended(self.begin(*arguments))

    def begin(self, *arguments: object) -> int:
        """The same, not waited for."""
        words = [str(word) if len(str(word)) < 100 else "..." for word in arguments]
        self.note(f"encvault {' '.join(words)}")
        return self.start("encvault", *arguments)

    def ended(self, number: int) -> Ran:
        """Wait for it."""
        ran = self.result(number)
        *_before, last = ["", *ran.err.splitlines()]
        self.note(f"  {ran.code}  {last}")
        return ran

    # -- the end ----------------------------------------------------------------------------

    def __exit__(self, *_exc: object) -> None:
        self._agent.close()
        self.qmp.close()
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
