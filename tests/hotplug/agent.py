"""Process 1 of the guest: runs what the host asks for.

A request is a line of JSON, ``{"id", "command", "input"}``; an answer ``{"id", "code", "out",
"err"}``, when the command has ended. Number 0 is what the agent says of itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any, BinaryIO

# each command is forked from here, as to load all this takes seconds in software, each time
from encvault import cli
from encvault.cli import mount, run, usb  # noqa: F401 - as above
from encvault.operations import mounting  # noqa: F401 - as above

PORT = "/dev/virtio-ports/agent"


def serve(port: BinaryIO) -> None:
    answer(port, {"id": 0, "code": 0, "out": os.uname().release, "err": ""})
    line = b""
    while data := port.read(65_536):
        *lines, line = (line + data).split(b"\n")
        for request in map(json.loads, lines):
            if os.fork() == 0:
                mind(port, request)
                os._exit(0)


def mind(port: BinaryIO, request: dict[str, Any]) -> None:
    """Run a command and answer when it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with (
        tempfile.TemporaryFile(dir="/run") as given,
        tempfile.TemporaryFile(dir="/run") as out,
        tempfile.TemporaryFile(dir="/run") as err,
    ):
        given.write(request["input"].encode())
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            for number, file in enumerate((given, out, err)):
                os.dup2(file.fileno(), number)
            port.close()
            execute(request["command"])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found = {"id": request["id"], "code": code}
        for name, file in (("out", out), ("err", err)):
            file.seek(0)
            found[name] = file.read().decode(errors="replace")
    answer(port, found)


def execute(command: list[str]) -> None:
    code = 127
    try:
        if command[0] != "encvault":
            os.execvp(command[0], command)
        with open(0) as sys.stdin, open(1, "w") as sys.stdout, open(2, "w") as sys.stderr:
            code = cli.main(command[1:])
    finally:
        os._exit(code)


def answer(port: BinaryIO, found: dict[str, Any]) -> None:
    with open("/run/answering", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = memoryview(json.dumps(found).encode() + b"\n")
        while data:
            data = data[port.write(data) :]


def reap() -> None:
    """What process 1 is for: nobody else waits for a process whose parent has gone."""
    while True:
        os.wait()


def main() -> None:
    if os.fork():
        try:
            reap()
        except ChildProcessError:
            sys.exit("the agent has gone")
    subprocess.run(["/usr/lib/systemd/systemd-udevd", "--daemon"], check=True)
    subprocess.run(["udevadm", "trigger", "--action=add"], check=True)
    subprocess.run(["udevadm", "settle"], check=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with open(PORT, "r+b", buffering=0) as port:
        serve(port)


if __name__ == "__main__":
    main()
