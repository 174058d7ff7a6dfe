"""A signal that asks a command to stop, at odd moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from encvault import cli
from encvault.cli import streams
from encvault.vault.manifest import KEYS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_after_all_is_said_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    guarded = streams.guarded

    @contextlib.contextmanager
    def and_then_a_signal() -> Iterator[None]:
        with guarded():
            yield
        os.kill(os.getpid(), number)

    monkeypatch.setattr(streams, "guarded", and_then_a_signal)
    before = signal.getsignal(number)
    assert cli.main(["doctor", "--help"]) == code
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("seed", range(3))
def test_one_who_hammers_on_ctrl_c_sees_no_traceback(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder, password = tmp_path / "docs", tmp_path / "password"
    folder.mkdir()
    password.write_text("a password that nobody guesses")
    for number in range(1000):
        (folder / str(number)).write_bytes(bytes(5000))
    command = [sys.executable, "-m", "encvault", "seal", folder, "--yes", "--password-file"]
    with subprocess.Popen(
        [*command, password], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as sealing:
        while not (folder / KEYS_FOLDER).exists():  # Python itself is deaf to no signal
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        while sealing.poll() is None:
            sealing.send_signal(signal.SIGINT)
            time.sleep(chance.choice([0.002, 0.01, 0.03]))
        _out, told = sealing.communicate()
    assert sealing.returncode == 130
    assert "Traceback" not in told
    names = {one.name.removesuffix(".sealed") for one in folder.iterdir()}
    assert names == {".encvault", *map(str, range(1000))}


@pytest.fixture
def _quits() -> Iterator[None]:
    """What is started in the background of a shell ignores this signal, and so do its children."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGQUIT, before)


@pytest.mark.usefixtures("_quits")
def test_ctrl_backslash_writes_no_memory_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    os.mkfifo(tmp_path / "password")
    begin = (
        'ulimit -S -c unlimited && exec "$0" -m encvault seal docs --yes --password-file password'
    )
    with (
        subprocess.Popen(
            ["sh", "-c", begin, sys.executable],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as waiting,
        (tmp_path / "password").open("w"),  # it is opened when somebody reads it
    ):
        limits = Path(f"/proc/{waiting.pid}/limits").read_text().splitlines()
        waiting.send_signal(signal.SIGQUIT)
        waiting.wait(60)
    assert waiting.returncode == -signal.SIGQUIT
    (limit,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
    assert limit[0] == "1", "bytes: no file is so small, and no program is called"
    assert limit[1] != "0", "what it starts may raise it again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "password"]
