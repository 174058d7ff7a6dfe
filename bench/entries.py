"""Write entries of an access log: the work of one contender of ``bench/records.py``.

python bench/entries.py single|together|bare|json COUNT FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

BATCH = 100_000
ENTRY_SIZE = 350  # bytes
NOTE_SIZE = 260


def batch(start: int, count: int) -> list[dict[str, str | int]]:
    """Events as of a run that seals."""
    return [
        {
            "path": f"/srv/sales/客户/{number % 500}/报价单-{number}.xlsx",
            "file": "a" * 26,
            "size": 7,
        }
        for number in range(start, start + count)
    ]


def single(count: int, folder: str) -> None:
    """One entry after the other, each durable."""
    from encvault.accesslog.log import AccessLog  # noqa: PLC0415 - who compares does not need it

    log = AccessLog(folder)
    log.begin()
    for number in range(count):
        log.record([{"op": "open", "outcome": "ok", "path": f"/srv/sales/{number}"}])


def together(count: int, folder: str) -> None:
    """As many at once as a large run has."""
    from encvault.accesslog.log import AccessLog  # noqa: PLC0415 - see `single`

    log = AccessLog(folder)
    log.begin()
    for start in range(0, count, BATCH):
        log.record(batch(start, min(BATCH, count - start)), op="seal", outcome="ok", vault="b" * 26)


def bare(count: int, folder: str) -> None:
    """What the storage alone takes for one entry after the other."""
    Path(folder).mkdir()
    with (Path(folder) / "one").open("wb") as one, (Path(folder) / "two").open("wb") as two:
        for _entry in range(count):
            for file, size in ((one, ENTRY_SIZE), (two, NOTE_SIZE)):
                os.write(file.fileno(), b"x" * size)
                os.fsync(file.fileno())


def as_json(count: int, folder: str) -> None:
    """The same entries in a file that nobody can check."""
    Path(folder).mkdir()
    with (Path(folder) / "log").open("w") as file:
        for event in batch(0, count):
            file.write(
                json.dumps(event | {"op": "seal", "outcome": "ok", "vault": "b" * 26}) + "\n"
            )
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    {"single": single, "together": together, "bare": bare, "json": as_json}[sys.argv[1]](
        int(sys.argv[2]), sys.argv[3]
    )
