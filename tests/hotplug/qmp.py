"""QEMU's own protocol: https://qemu.readthedocs.io/en/v7.2.0/interop/qmp-spec.html."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Lines:
    """Lines of JSON over a socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float) -> Any:
        """The next line; no test waits for ever.

        Raises:
            TimeoutError: there is none for so long.
        """
        self._socket.settimeout(seconds)
        while b"\n" not in self._rest:
            data = self._socket.recv(65_536)
            if not data:
                raise EOFError
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        self._socket.close()


class Qmp:
    """Commands to a running QEMU."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._lines.receive(30)
        self.events: list[dict[str, Any]] = []
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: object) -> Any:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._lines.send({"execute": command, "arguments": named})
        while True:
            answer = self._lines.receive(60)
            if "event" in answer:
                self.events.append(answer)
                continue
            assert "return" in answer, f"{command} {named}: {answer}"
            return answer["return"]

    def wait_for(self, event: str, **data: object) -> None:
        """Wait for an event with these data, unless it has come already."""
        while not any(self._fits(one, event, data) for one in self.events):
            answer = self._lines.receive(60)
            self.events.append(answer)
        self.events = [one for one in self.events if not self._fits(one, event, data)]

    @staticmethod
    def _fits(one: dict[str, Any], event: str, data: dict[str, object]) -> bool:
        return one["event"] == event and data.items() <= one["data"].items()

    def close(self) -> None:
        self._lines.close()
