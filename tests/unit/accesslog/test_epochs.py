"""A key for each day, and only today's secret."""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import re
from datetime import date
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from encvault.accesslog import epochs
from encvault.accesslog.epochs import Calendar, Epochs, Seed, enrol
from encvault.fs import calls
from encvault.fs.durable import stable_id, temporary_name
from encvault.fs.tree import Tree
from encvault.secret import Secret
from encvault.tlog.notes import VerifierKey
from encvault.tlog.policies import Policy

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2026, 11, 2)
ORIGIN = f"encvault-log/{'a' * 26}/2026-11-02"
VALUE = bytes(range(32))


def seed(epoch: int = 0) -> Seed:
    return Seed(epoch, Secret(bytearray(VALUE)))


# -- days -----------------------------------------------------------------------------------


def test_calendar() -> None:
    calendar = Calendar.of(ORIGIN, 40)
    assert calendar == Calendar(ORIGIN, DAY, 40)
    assert calendar.log_id == "a" * 26
    assert calendar.begin == "2026-11-02T00:00:00.000000Z"
    assert [calendar.at(f"{day}T23:59:59.999999Z") for day in ("2026-11-01", "2026-12-02")] == [
        -1,
        30,
    ]
    assert calendar.day(30) == "2026-12-02"


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "example.com/log",
        f"encvault-log/{'a' * 25}/2026-11-02",
        f"encvault-log/{'A' * 26}/2026-11-02",
        f"encvault-log/{'a' * 26}/2026-11-31",
        f"encvault-log/{'a' * 26}/9999-12-01",  # not forty days any more
        f"{ORIGIN}/",
    ],
)
def test_origin_of_no_log(origin: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is not shown
        Calendar.of(origin, 40)


def test_calendar_of_a_policy_file(tmp_path: Path) -> None:
    _first, known = enrol(DAY, 40)
    with Tree(str(tmp_path)) as tree:
        (tmp_path / "policy").write_bytes(known.policy.encode())
        assert Calendar.load(tree) == known.calendar
        with (tmp_path / "policy").open("ab") as file:  # as a checker may, in his copy
            file.write(b"# " + b"x" * 1000 + b"\n")
        assert Calendar.load(tree) == known.calendar
        for data in (b"", b"quorum none\n", b"\xff\n"):
            (tmp_path / "policy").write_bytes(data)
            with pytest.raises(ValueError):  # noqa: PT011 - the reason is not shown
                Calendar.load(tree)


# -- keys -----------------------------------------------------------------------------------


def test_keys_of_a_new_log() -> None:
    """Derived here by the words of docs/log-format.md section 5.2."""
    first, known = enrol(DAY, 40)
    assert re.fullmatch(r"encvault-log/[a-z2-7]{26}/2026-11-02", known.calendar.origin)
    value = bytes(first.value.reveal())
    for key in known.policy.logs:
        private = hmac.new(value, b"encvault/log/sign@v1", hashlib.sha256).digest()
        public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        assert (key.name, key.type, key.public) == (known.calendar.origin, 1, public)
        value = hmac.new(value, b"encvault/log/ratchet@v1", hashlib.sha256).digest()
    assert len(known.policy.logs) == 40
    assert known.policy.quorum == "none"
    assert known.digest == hashlib.sha256(known.policy.encode()).hexdigest()
    assert enrol(DAY, 1)[1].calendar.origin != enrol(DAY, 1)[1].calendar.origin


def test_two_days_never_share_a_key_id(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = epochs._public_keys

    def twice_the_same(first: Seed, origin: str, days: int) -> list[VerifierKey]:
        keys = original(first, origin, days)
        made.append(first)
        return [keys[0], *keys[:-1]] if len(made) == 1 else keys

    monkeypatch.setattr(epochs, "_public_keys", twice_the_same)
    _first, known = enrol(DAY, 3)
    assert len(made) == 2
    assert len({key.key_id for key in known.policy.logs}) == 3


def test_epochs_of_a_policy() -> None:
    _first, known = enrol(DAY, 3)
    again = Epochs.of(Policy.decode(known.policy.encode(), "p"))
    assert again == known
    assert [again.of_key(key) for key in known.policy.logs] == [0, 1, 2]


def test_digest_without_what_a_checker_added() -> None:
    _first, known = enrol(DAY, 3)
    text = known.policy.encode()
    key = VerifierKey("w", 4, bytes(32)).encode()
    added = text.replace(b"quorum none", f"# mine\nwitness w {key}\nquorum w".encode())
    assert Epochs.of(Policy.decode(added, "p")).digest == hashlib.sha256(text).hexdigest()


def test_policy_of_no_log_of_ours() -> None:
    _first, known = enrol(DAY, 2)
    _first, other = enrol(DAY, 2)
    for logs in ((), (VerifierKey("x", 1, bytes(32)),), known.policy.logs + other.policy.logs):
        with pytest.raises(ValueError):  # noqa: PT011 - the reason is not shown
            Epochs.of(Policy(logs))


# -- the seed -------------------------------------------------------------------------------


def test_seed_as_a_file() -> None:
    assert seed(12).encode() == b"12 " + base64.b64encode(VALUE) + b"\n"
    again = Seed.decode(seed(12).encode())
    assert (again.epoch, bytes(again.value.reveal())) == (12, VALUE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(47),
        b"1 \n",
        b"x " + base64.b64encode(VALUE) + b"\n",
        b"1 " + base64.b64encode(VALUE),
        b"1 " + base64.b64encode(VALUE) + b"\n\n",
        b"01 " + base64.b64encode(VALUE) + b"\n",
        b"-1 " + base64.b64encode(VALUE) + b"\n",
        b"1 " + base64.b64encode(VALUE[:31]) + b"\n",
        b"1 " + base64.b64encode(VALUE)[:-1] + b"\n",
        b"1 *" + base64.b64encode(VALUE)[1:] + b"\n",
    ],
)
def test_file_that_holds_no_seed(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is not shown
        Seed.decode(data)


def test_ratchet_overwrites_the_seed_before(tmp_path: Path) -> None:
    with Tree(str(tmp_path)) as tree:
        seed().store(tree)
        old = os.open(tmp_path / "key", os.O_RDONLY)
        try:
            seed().next().store(tree)
            assert os.pread(old, 100, 0) == bytes(len(seed().encode()))
        finally:
            os.close(old)
        kept = Seed.load(tree)
    expected = hmac.new(VALUE, b"encvault/log/ratchet@v1", hashlib.sha256).digest()
    assert (kept.epoch, bytes(kept.value.reveal())) == (1, expected)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_seed_stays_until_the_next_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with Tree(str(tmp_path)) as tree:
        seed().store(tree)

        def broken(name: str, _fd: int, _target: str) -> None:
            if name == call:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(calls, "probe", broken)
        with pytest.raises(OSError, match="Input"):
            seed().next().store(tree)
        monkeypatch.setattr(calls, "probe", None)
        assert Seed.load(tree).epoch == 0


def test_seed_that_a_killed_run_left_is_overwritten(tmp_path: Path) -> None:
    left = tmp_path / temporary_name(stable_id("key"))
    left.write_bytes(seed().encode())
    old = os.open(left, os.O_RDONLY)
    try:
        with Tree(str(tmp_path)) as tree:
            Seed.wipe_leftover(tree)
            Seed.wipe_leftover(tree)
        assert os.pread(old, 100, 0) == bytes(len(seed().encode()))
    finally:
        os.close(old)
    assert list(tmp_path.iterdir()) == []
