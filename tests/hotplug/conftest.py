"""What every hot-plug test gets: one guest for all, and a new stick for each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hotplug.guest import Guest
from hotplug.stick import KINDS, Stick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = b"offer that nobody else may read\n"


@dataclass(frozen=True)
class Files:
    """What is put on each stick.

    Attributes:
        path: of their folder, which the guest sees as well.
        digests: by name.
    """

    path: Path
    digests: dict[str, str]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = tmp_path_factory.mktemp("files")
    contents = {
        "合同/报价单 2026.xlsx": MARK * 200,
        f"合同/{'中' * 60}.txt": MARK,
        "large.bin": os.urandom(6 << 20),
        "empty": b"",
    }
    contents |= {f"many/{number % 5}/f{number}": MARK * number for number in range(1, 61)}
    for name, data in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return Files(path, {name: sha256(data).hexdigest() for name, data in contents.items()})


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Guest]:
    # the guest keeps what it has read of the host, so the files must be there before
    with Guest(tmp_path_factory.mktemp("guest")) as found:
        yield found


@pytest.fixture(scope="session")
def recipient(guest: Guest) -> str:
    """Of the identity ``/run/key``, in place of a password, which costs seconds each time."""
    done = guest.encvault("key", "new", "--no-password", "-o", "/run/key")
    assert done.code == 0, done.err
    return done.out.strip()


@pytest.fixture(params=KINDS)
def stick(request: pytest.FixtureRequest, guest: Guest, tmp_path: Path) -> Iterator[Stick]:
    """It is not plugged in yet."""
    found = Stick(
        kind=request.param,
        image=tmp_path / "stick",
        label=f"SALES_{request.param.upper()}",
        serial=f"0401{request.param.upper()}7F3A",
    )
    found.make()
    guest.sh("mkdir -p /mnt/stick")
    yield found
    guest.sh("umount -l /mnt/stick || true")
    if found.is_plugged:
        found.pull(guest)
