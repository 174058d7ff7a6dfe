"""Trees to seal, and the one invariant of every crash test."""

from __future__ import annotations

import io
import os
import pickle
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from encvault import cli, operations
from encvault.crypto import hpke
from encvault.keyslots import KeyIdentity, PublicKeyRecipient
from encvault.secret import Secret
from encvault.vault import attributes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from encvault.vault.report import Observer, Report

Result = TypeVar("Result")

SEED = bytes(range(32))
NOBODY = 65_534
RECIPIENT = PublicKeyRecipient(hpke.public_key(SEED), label="test")


def keys() -> operations.Answers:
    """Answers that can seal and open by a key, without Argon2."""
    return operations.Answers(
        recipients_given=(RECIPIENT,), identities_given=(KeyIdentity(Secret(SEED)),), consent=True
    )


def seal(path: Path, observer: Observer | None = None, **options: object) -> Report:
    """Seal one path."""
    request = operations.SealRequest(paths=(str(path),), **options)  # type: ignore[arg-type]
    return operations.seal(request, keys(), observer)


def unseal(path: Path, observer: Observer | None = None, **options: object) -> Report:
    """Open one path."""
    request = operations.OpenRequest(paths=(str(path),), **options)  # type: ignore[arg-type]
    return operations.open_paths(request, keys(), observer)


def write_tree(root: Path, *, big: int = 0) -> None:
    """A small tree with what trees have: depth, links, odd names, empty and sparse files."""
    root.mkdir()
    (root / "报价单 2026.xlsx").write_bytes(os.urandom(5000))
    (root / "empty").touch()
    (root / "src" / "deep" / "er").mkdir(parents=True)
    (root / "src" / "deep" / "er" / "main.py").write_text("print('hi')\n" * 2000)
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "src" / "link").symlink_to("../nowhere/at all")
    (root / "hollow").mkdir()
    (root / ("n" * 255)).write_text("long name")
    (root / ("中" * 85)).write_text("long name of three-byte characters")
    with (root / "sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
    if big:
        (root / "big").write_bytes(os.urandom(big))
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        when = 1_600_000_000_123_456_789 + index
        os.utime(path, ns=(when, when), follow_symlinks=False)


@dataclass(frozen=True)
class Node:
    """What must survive of one file."""

    kind: str
    content: bytes
    mode: int
    mtime_ns: int


def make_deep(folder: Path, levels: int) -> None:
    """Folders inside each other, and in the last one a file and a link."""
    at = os.open(folder, os.O_RDONLY)
    for _level in range(levels):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.symlink("nowhere", "link", dir_fd=at)
    os.close(at)


def snapshot(root: Path, *, times: bool = True) -> dict[str, Node]:
    """Everything below `root`, the vault's own folder and sealed files left out."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.split("/", maxsplit=1)[0] == ".encvault":
            continue
        status = path.lstat()
        mtime = status.st_mtime_ns if times else 0
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            found[name] = Node("symlink", os.readlink(os.fsencode(path)), 0, mtime)
        elif stat.S_ISDIR(status.st_mode):
            found[name] = Node("dir", b"", mode, mtime)
        else:
            found[name] = Node("file", path.read_bytes(), mode, mtime)
    return found


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


class Command:
    """Runs the real main in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object, stdin: BinaryIO | None = None) -> Ran:
        self._capfd.readouterr()
        with open(os.devnull, "rb") as nothing:
            text = io.TextIOWrapper(stdin or nothing)
            self._monkeypatch.setattr(sys, "stdin", text)
            code = cli.main([str(argument) for argument in arguments])
            text.detach()
        captured = self._capfd.readouterr()
        return Ran(code, captured.out, captured.err)


def in_child(function: Callable[[], Result], *, uid: int | None = None) -> Result:
    """What the function returns or raises in a forked child, as another user if root may.

    Without root the child stays who it is, which is an ordinary user as well.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            if uid is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                attributes.IS_PRIVILEGED = False
            answer = (True, function())
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            answer = (False, error)
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value  # type: ignore[no-any-return]  # what the function returned


def everything(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Every byte, mode and time below a folder, the folder and vaults included."""
    found = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(os.fsencode(path))
        found[str(path.relative_to(root))] = (
            status.st_ino,
            status.st_mode,
            status.st_mtime_ns,
            content,
        )
    return found
