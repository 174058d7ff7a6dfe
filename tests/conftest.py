"""What every test gets: a clean home, no leaked descriptors, the third-party vectors."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import Command
from mounting import LAYOUTS, MountedVault

from encvault import i18n
from encvault.accesslog.log import AccessLog
from encvault.crypto.kdf import CHEAPEST
from encvault.mount import fuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).resolve().parent

# a shell starts what it puts into the background with SIGINT ignored, and nohup(1) with SIGHUP, and
# so would be all that the tests start to interrupt it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of third-party test vectors."""
    return TESTS / "vectors"


@pytest.fixture(autouse=True)
def _clean_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("STATE", "CONFIG", "DATA", "CACHE", "RUNTIME"):
        variable = "XDG_RUNTIME_DIR" if name == "RUNTIME" else f"XDG_{name}_HOME"
        monkeypatch.setenv(variable, str(home / name.lower()))
    for name in ("LANG", "LANGUAGE", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    # where every user can see that there is none
    monkeypatch.setattr("encvault.cli.options.SYSTEM_CONFIG", "/nonexistent/config.toml")
    monkeypatch.setattr("encvault.jobs.finding.SYSTEM_FOLDER", "/nonexistent/jobs.d")
    monkeypatch.setattr("encvault.jobs.finding.SYSTEM_STATE", "/nonexistent/state")
    # each test that records an access makes a log, and keys for ten years take their time
    monkeypatch.setattr("encvault.accesslog.log.DAYS", 40)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    i18n.activate([])


@pytest.fixture(autouse=True)
def _no_leaked_descriptors() -> Iterator[None]:
    gc.freeze()  # the collection below then visits this test's own objects, not all of pytest
    before = _descriptors()
    yield
    gc.collect()
    leaked = {fd: path for fd, path in _descriptors().items() if before.get(fd) != path}
    assert not leaked, f"leaked descriptors: {leaked}"


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if not target.startswith("/proc/"):  # the listing's own
            found[entry.name] = target
    return found


@pytest.fixture(autouse=True)
def _traced_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tool that follows threads follow those as well that the FUSE library starts."""
    guarded = fuse._guarded

    def followed(
        function: Callable[..., int | None], failed: Callable[[BaseException], None]
    ) -> Callable[..., int]:
        inner = guarded(function, failed)

        def callback(*arguments: object) -> int:
            if sys.gettrace() is None and (follow := threading.gettrace()) is not None:
                sys.settrace(follow)
            return inner(*arguments)

        return callback

    monkeypatch.setattr(fuse, "_guarded", followed)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process, with a password hash that costs nothing."""
    monkeypatch.setattr("encvault.cli.secrets.kdf.DEFAULT", CHEAPEST)
    AccessLog(f"{os.environ['XDG_STATE_HOME']}/encvault/log").begin()  # as if it were no new user
    return Command(monkeypatch, capfd)


@pytest.fixture(params=LAYOUTS)
def mounted(request: pytest.FixtureRequest, run: Command, tmp_path: Path) -> Iterator[MountedVault]:
    """An empty vault of each layout, and where to mount it; it is not mounted yet."""
    with MountedVault(run, tmp_path, request.param) as vault:
        yield vault


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A new folder that every user may enter and write to, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="encvault-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)
