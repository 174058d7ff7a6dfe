"""Proofs of single entries."""

from __future__ import annotations

import base64
import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from logs import (
    Days,
    Signer,
    end_of,
    entry,
    lines_of,
    make_log,
    notes_of,
    record,
    root_of,
    size_of,
    witness_key,
    write_log,
)

from encvault.accesslog import proving
from encvault.accesslog.proving import check, latest_of, prove
from encvault.errors import (
    EncvaultError,
    KeyOfAnotherDay,
    LogTampered,
    LogUnverifiable,
    MalformedProof,
    NoAccessLog,
    NoSuchEntry,
    ProofWrong,
    QuorumMissing,
    UnknownSigner,
)
from encvault.tlog.notes import VerifierKey
from encvault.tlog.policies import Policy
from encvault.tlog.proofs import LogProof

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.accesslog.log import AccessLog

SIZE = 12


@pytest.fixture
def trusted(path: Path) -> Policy:
    return Policy.decode((path / "policy").read_bytes(), "policy")


@pytest.fixture
def _only_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(proving._Log, "proof")


def leads(proof: LogProof) -> bool:
    """Whether a proof leads to its root, by RFC 9162 section 2.1.3.2 as it is written there."""
    _origin, size, root = proof.checkpoint.split(b"\n")[:3]
    fn, sn = proof.index, int(size) - 1
    found = hashlib.sha256(b"\0" + (proof.extra or b"")).digest()
    for item in proof.hashes:
        if sn == 0:
            return False
        if fn % 2 or fn == sn:
            found = hashlib.sha256(b"\1" + item + found).digest()
            while fn % 2 == 0 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            found = hashlib.sha256(b"\1" + found + item).digest()
        fn >>= 1
        sn >>= 1
    return sn == 0 and found == base64.b64decode(root)


# -- made -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_only_quickly")
def test_each_entry(path: Path, trusted: Policy) -> None:
    lines = lines_of(path)
    sizes = [end_of(lines, 0), end_of(lines, 1), SIZE]
    days = ["2026-11-02", "2026-11-03", "2026-11-04"]
    for index, line in enumerate(lines):
        proof = prove(str(path), index)
        day = sum(index >= size for size in sizes)
        assert (proof.index, proof.extra) == (index, line)
        assert size_of(proof.checkpoint) == sizes[day]  # the closing one, or the latest
        assert leads(proof)
        checked = check(proof.encode(), "p", policy=trusted)
        assert (checked.index, checked.day, checked.checkpoint.size) == (
            index,
            days[day],
            sizes[day],
        )


@pytest.mark.parametrize("harm", ["tile", "offsets", "closings", "checkpoint"])
@pytest.mark.parametrize("gone", [True, False])
def test_derived_files_missing_or_wrong(path: Path, harm: str, gone: bool) -> None:  # noqa: FBT001 - one of two
    good = [prove(str(path), index) for index in range(SIZE)]
    targets = [one for one in (path / harm).rglob("*") if one.is_file()] or [path / harm]
    for target in targets:
        if gone:
            target.unlink()
        else:
            target.write_bytes(b"\xff" * target.stat().st_size)
    for index, proof in enumerate(good):
        assert leads(prove(str(path), index))
        if harm != "closings" or not gone:  # else a closed day looks like an open one
            assert prove(str(path), index) == proof


def test_closings_that_lie(path: Path) -> None:
    """Another checkpoint of the same day would do as a proof, and is not the closing one."""
    good = prove(str(path), 1)
    (path / "closings").write_bytes(len(notes_of(path)[0] + b"\n").to_bytes(8) * 2)
    assert prove(str(path), 1) == good


def test_day_that_nobody_worked(log: AccessLog, path: Path, clock: Days, trusted: Policy) -> None:
    clock.pass_(days=4)
    record(log)
    lines = lines_of(path)
    for index in range(SIZE, len(lines)):
        proof = prove(str(path), index)
        assert leads(proof)
        assert check(proof.encode(), "p", policy=trusted).members["op"] in lines[index].decode()
    assert size_of(prove(str(path), SIZE).checkpoint) == SIZE + 1


@pytest.mark.usefixtures("_only_quickly")
def test_many_entries(tmp_path: Path) -> None:
    """More than a tile, and closed days in the middle of tiles."""
    path = tmp_path / "many"
    make_log(path, Days(), days=3, each=300)
    for index in (0, 1, 255, 256, 300, 301, 302, 511, 512, 602, 603, 902):
        assert leads(prove(str(path), index)), index


@pytest.mark.parametrize("index", [-1, SIZE, 1 << 70])
def test_no_such_entry(path: Path, index: int) -> None:
    with (path / "entries").open("ab") as file:
        file.write(lines_of(path)[-1] + b"\n")  # not signed
    with pytest.raises(NoSuchEntry):
        prove(str(path), index)


def test_empty_log(path: Path) -> None:
    write_log(path, [], [])
    with pytest.raises(NoSuchEntry):
        prove(str(path), 0)


def test_changed_entries(path: Path) -> None:
    lines = lines_of(path)
    write_log(path, [*lines[:2], entry(lines[2], user="x"), *lines[3:]], notes_of(path))
    with pytest.raises(LogTampered):
        prove(str(path), 2)
    assert leads(prove(str(path), 11))  # tiles are of before; they lead to what was signed


def test_changed_entries_without_tiles(path: Path) -> None:
    lines = lines_of(path)
    write_log(path, [*lines[:2], entry(lines[2], user="x"), *lines[3:]], notes_of(path))
    shutil.rmtree(path / "tile")
    with pytest.raises(LogTampered):
        prove(str(path), 11)


def test_checkpoints_of_another_key(path: Path) -> None:
    other = Signer(Signer.stolen(path).origin, 0, bytes(32))
    write_log(path, lines_of(path), [other.checkpoint(lines_of(path))])
    with pytest.raises(LogTampered):
        prove(str(path), 1)


@pytest.mark.parametrize("text", [b"nonsense\n", b"quorum none\n"])
def test_policy_that_is_none(path: Path, text: bytes) -> None:
    (path / "policy").write_bytes(text)
    with pytest.raises(LogUnverifiable):
        prove(str(path), 1)


def test_no_log(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NoAccessLog):
        prove(str(tmp_path / "none"), 1)
    (path / "entries").unlink()
    with pytest.raises(NoAccessLog):
        prove(str(path), 1)
    (path / "entries").symlink_to("/etc/passwd")
    with pytest.raises(LogUnverifiable):
        prove(str(path), 1)


# -- the latest about a file ----------------------------------------------------------------


def test_latest_of(path: Path) -> None:
    assert latest_of(str(path), "/a/1") == 10
    with (path / "entries").open("ab") as file:
        file.write(lines_of(path)[2] + b"\n")
    assert latest_of(str(path), "/a/1") == 10
    with pytest.raises(NoSuchEntry, match="/a/9"):
        latest_of(str(path), "/a/9")
    with pytest.raises(NoSuchEntry):
        latest_of(str(path), "/a")  # a folder is no file


@pytest.mark.parametrize("form", ["name", "hmac"])
def test_latest_of_a_hidden_path(tmp_path: Path, form: str) -> None:
    log = make_log(tmp_path / "log", Days(), days=1)
    log.paths = form  # type: ignore[assignment]
    record(log, path="/b/报价.xlsx")
    record(log, path="/b/other")
    assert latest_of(str(tmp_path / "log"), "/b/报价.xlsx") == 5  # after one of settings


def test_latest_of_no_log(tmp_path: Path) -> None:
    with pytest.raises(NoAccessLog):
        latest_of(str(tmp_path / "none"), "/a")


# -- checked --------------------------------------------------------------------------------


def forged(log: Path, /, **members: str | int | None) -> bytes:
    """A proof of an entry that the thief made up, with the key of today."""
    thief, lines = Signer.stolen(log), lines_of(log)
    lines[-1] = entry(lines[-1], **members)
    # beside the way from the last of 12 leaves to the root: one leaf, then two, then eight
    hashes = tuple(root_of(lines[a:b]) for a, b in ((10, 11), (8, 10), (0, 8)))
    proof = LogProof(11, hashes, thief.checkpoint(lines), lines[-1])
    assert leads(proof)
    return proof.encode()


def test_key_of_a_later_day(path: Path, trusted: Policy) -> None:
    """Who has today's key makes up an entry of yesterday."""
    data = forged(path, ts="2026-11-03T09:00:00.000000Z")
    with pytest.raises(KeyOfAnotherDay) as raised:
        check(data, "p", policy=trusted)
    assert (raised.value.recorded, raised.value.signed) == ("2026-11-03", "2026-11-04")


def test_key_of_an_earlier_day(path: Path, trusted: Policy) -> None:
    data = forged(path, ts="2026-11-05T09:00:00.000000Z")
    with pytest.raises(KeyOfAnotherDay):
        check(data, "p", policy=trusted)
    assert check(forged(path), "p", policy=trusted).day == "2026-11-04"


@pytest.mark.parametrize(
    "members",
    [
        {"ts": "2025-11-03T09:00:00.000000Z"},
        {"ts": "2036-11-03T09:00:00.000000Z"},
    ],
)
def test_day_without_a_key(
    path: Path, trusted: Policy, members: dict[str, str | int | None]
) -> None:
    with pytest.raises(LogUnverifiable, match="no key of the day"):
        check(forged(path, **members), "p", policy=trusted)


@pytest.mark.parametrize(
    "members",
    [
        {"op": "log.epoch", "path": None},  # of no epoch
        {"op": "log.init"},  # not the first
        {"epoch": 1},
    ],
)
def test_entry_that_no_log_has(
    path: Path, trusted: Policy, members: dict[str, str | int | None]
) -> None:
    with pytest.raises(MalformedProof, match="can have this entry there"):
        check(forged(path, **members), "p", policy=trusted)


def test_by_keys_alone(path: Path, trusted: Policy) -> None:
    data = prove(str(path), 11).encode()
    checked = check(data, "p", keys=trusted.logs[2:3])
    assert (checked.day, checked.members["path"]) == ("", "/a/2")
    with pytest.raises(UnknownSigner):
        check(data, "p", keys=trusted.logs[1:2])
    with pytest.raises(LogUnverifiable):
        check(data, "p")


def test_quorum(path: Path, trusted: Policy, tmp_path: Path) -> None:
    vkey = witness_key("w", Ed25519PrivateKey.generate())
    text = trusted.encode().replace(b"quorum none", f"witness w {vkey}\nquorum w".encode())
    with pytest.raises(QuorumMissing):
        check(prove(str(path), 1).encode(), "p", policy=Policy.decode(text, "p"))


def test_policy_of_no_days(path: Path) -> None:
    key = VerifierKey("example.com/log", 1, bytes(32))
    with pytest.raises(UnknownSigner):
        check(prove(str(path), 1).encode(), "p", policy=Policy((key,)))


def test_another_entry(path: Path, trusted: Policy) -> None:
    proof = prove(str(path), 1)
    lines = lines_of(path)
    other = LogProof(proof.index, proof.hashes, proof.checkpoint, lines[2])
    with pytest.raises(ProofWrong):
        check(other.encode(), "p", policy=trusted)


@pytest.mark.parametrize("extra", [None, b"no entry"])
def test_no_entry_in_it(path: Path, trusted: Policy, extra: bytes | None) -> None:
    proof = prove(str(path), 1)
    other = LogProof(proof.index, proof.hashes, proof.checkpoint, extra)
    with pytest.raises(MalformedProof):
        check(other.encode(), "p", policy=trusted)


def test_each_byte_counts(path: Path, trusted: Policy) -> None:
    data = prove(str(path), 1).encode()
    for at in range(len(data)):
        flipped = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        with pytest.raises(EncvaultError):
            check(flipped, "p", policy=trusted)
