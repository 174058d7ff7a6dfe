"""A machine with a USB stick that comes and goes, as udev would tell of it.

As a program, which umockdev's wrapper must start, it keeps the mocked machine and does what it is
told on stdin, a line each; see `Testbed`, which is for tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

STICK = (Path(__file__).parent / "stick.umockdev").read_text()
DISK = "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host2/target2:0:0/2:0:0:0/block/sdb"
OTHER = "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
# of a mocked socket, which holds ten otherwise; umockdev gives up when one is full
QUEUE_LIMIT = Path("/proc/sys/net/unix/max_dgram_qlen")
QUEUE = 1000
CONTROL = Path("/run/udev/control")
LIBRARY = "libumockdev.so.0"
PRELOADED = "libumockdev-preload.so.0"


class Testbed:
    """Use it as a context manager.

    Args:
        minor: of the loop device that is the stick's partition.
    """

    __test__ = False  # pytest: a name that begins so is no test here

    def __init__(self, minor: str) -> None:
        self.minor = minor
        self.environment: dict[str, str] = {}
        self._keeper: subprocess.Popen[str] | None = None
        self._made: list[Path] = []
        self._limit = ""

    def __enter__(self) -> Self:
        # libudev listens only where this is; it is udev's own where udev runs
        if not CONTROL.exists():
            if not CONTROL.parent.exists():
                CONTROL.parent.mkdir()
                self._made.append(CONTROL.parent)
            CONTROL.touch()
            self._made.append(CONTROL)
        self._limit = QUEUE_LIMIT.read_text()
        QUEUE_LIMIT.write_text(str(2 * QUEUE))
        self._keeper = subprocess.Popen(
            ["umockdev-wrapper", sys.executable, __file__, self.minor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment = {"UMOCKDEV_DIR": self._answer(), "LD_PRELOAD": PRELOADED}
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait()
        self._keeper.stdout.close()
        QUEUE_LIMIT.write_text(self._limit)
        for path in reversed(self._made):
            path.rmdir() if path.is_dir() else path.unlink()

    def tell(self, what: str) -> None:
        """Have something happen.

        Args:
            what: ``plug``, ``pull``, ``pull-nameless`` (the events have no properties), ``swap``
                (pulled and plugged in at once), or ``burst`` (many events of another device, and it
                is plugged in amid them).
        """
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(what + "\n")
        self._keeper.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        return self._keeper.stdout.readline().strip()

    def encvault(self, *arguments: object) -> subprocess.Popen[str]:
        """Begin a command on this machine."""
        return subprocess.Popen(
            [sys.executable, "-m", "encvault", *map(str, arguments)],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Machine:
    """What umockdev mocks; only under its wrapper."""

    def __init__(self, minor: str) -> None:
        self._library: Any = ctypes.CDLL(LIBRARY)
        new = self._library.umockdev_testbed_new
        new.restype = ctypes.c_void_p
        self._bed = ctypes.c_void_p(new())
        whole = STICK.replace("{minor}", minor)
        parts = [part + "\n\n" for part in whole.split("\n\n") if part.strip()]
        self.stick, self.disk = "".join(parts[:3]), "".join(parts[3:])
        self.bare = "".join(
            "\n".join(line for line in part.split("\n") if not line.startswith("E: ID_"))
            for part in parts[:3]
        )
        self.add(self.disk)

    @property
    def root(self) -> str:
        get = self._library.umockdev_testbed_get_root_dir
        get.restype = ctypes.c_char_p
        found: bytes = get(self._bed)
        return found.decode()

    def add(self, description: str) -> None:
        add = self._library.umockdev_testbed_add_from_string
        assert add(self._bed, description.encode(), None)

    def event(self, path: str, action: str) -> None:
        self._library.umockdev_testbed_uevent(self._bed, path.encode(), action.encode())

    def plug(self) -> None:
        self.add(self.stick)
        self.event(DISK, "add")
        self.event(f"{DISK}/sdb1", "add")

    def plug_hostile(self) -> None:
        """With a label that would be a line of its own."""
        label = "E: ID_FS_LABEL_ENC=x\\x0aSUBSYSTEM==\\x0a"
        self.add(self.stick.replace("E: ID_FS_LABEL_ENC=SALES\\x202026", label))

    def pull(self) -> None:
        self.event(f"{DISK}/sdb1", "remove")
        self.event(DISK, "remove")
        self._away()

    def _away(self) -> None:
        for path in (f"{DISK}/sdb1", DISK, DISK.partition("/1-2:1.0")[0]):
            self._library.umockdev_testbed_remove_device(self._bed, path.encode())
        for link in Path(self.root, "sys").glob("**/sdb*"):
            if (
                link.is_symlink()
            ):  # umockdev leaves some, and they are in the way when it comes back
                link.unlink()

    def pull_nameless(self) -> None:
        self._away()
        self.add(self.bare)
        self.pull()

    def swap(self) -> None:
        self.pull()
        self.plug()

    def burst(self) -> None:
        for number in range(QUEUE):
            if number == QUEUE // 2:
                self.plug()
            self.event(OTHER, "change")


def main() -> None:
    machine = Machine(sys.argv[1])
    sys.stdout.write(f"{machine.root}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            getattr(machine, line.strip().replace("-", "_"))()
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
