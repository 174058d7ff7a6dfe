"""What a check of a log says: of a whole one, one exchanged as a whole, and of anchors."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fault import processes
from helpers import NOBODY
from logs import (
    ANCHORED,
    CANNOT,
    TAMPERED,
    UNANCHORED,
    Days,
    Signer,
    cosigned,
    end_of,
    entry,
    lines_of,
    make_log,
    noted,
    notes_of,
    record,
    root_of,
    rules,
    signed,
    size_of,
    witness_key,
    write_log,
)

from encvault.accesslog import verifying
from encvault.accesslog.verifying import verify

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.accesslog.log import AccessLog

# -- what is right --------------------------------------------------------------------------


def test_whole_log(path: Path, policy: str, anchor: str) -> None:
    audit = verify(str(path), policy=policy, anchors=[anchor])
    lines = lines_of(path)
    assert (audit.verdict, audit.wrong, audit.notes) == (ANCHORED, (), ())
    assert audit.size == audit.anchored_size == len(lines) == 12
    assert audit.open_from == end_of(lines, 1)
    assert audit.checkpoint.encode() == notes_of(path)[-1]
    assert audit.first_at == "2026-11-02T09:00:00.000000Z"
    assert audit.last_at == "2026-11-04T09:00:00.000000Z"
    assert not audit.own_policy
    assert audit.origin == Signer.stolen(path).origin
    assert audit.policy_digest in lines[0].decode()


def test_without_an_anchor(path: Path, policy: str) -> None:
    assert verify(str(path), policy=policy).verdict is UNANCHORED


def test_by_its_own_policy(path: Path, anchor: str) -> None:
    audit = verify(str(path), anchors=[anchor])
    assert audit.verdict is ANCHORED
    assert audit.own_policy


def test_anchor_of_an_earlier_day(path: Path, tmp_path: Path, policy: str) -> None:
    early = tmp_path / "early"
    early.write_bytes(notes_of(path)[1])
    audit = verify(str(path), policy=policy, anchors=[str(early)])
    assert (audit.verdict, audit.anchored_size) == (ANCHORED, size_of(notes_of(path)[1]))


def test_read_only(path: Path) -> None:
    """Who may only read can check, and a check changes nothing."""
    for one in (path, *path.iterdir()):
        one.chmod(0o755 if one.is_dir() else 0o644)
    (path / "lock").chmod(0o600)
    (path / "key").chmod(0o600)
    before = {one: one.stat().st_mtime_ns for one in (path, *path.rglob("*"))}
    assert processes.wait(processes.fork(lambda: _checked_by_nobody(path))) == 0
    assert {one: one.stat().st_mtime_ns for one in (path, *path.rglob("*"))} == before


def _checked_by_nobody(path: Path) -> int:
    os.chdir(path)
    with contextlib.suppress(PermissionError):  # whoever runs the tests may be nobody as well
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return int(verify(".").verdict is not UNANCHORED)


def test_derived_files_are_not_believed(path: Path, policy: str) -> None:
    for name in ("state", "closings", "offsets", "key"):
        (path / name).write_bytes(b"nonsense")
    shutil.rmtree(path / "tile")
    (path / "lock").unlink()
    assert verify(str(path), policy=policy).verdict is UNANCHORED


def test_a_log_that_grows(
    log: AccessLog, path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added after the sizes were taken is left for the next check."""
    whole = verifying._is_whole

    def slow(data: bytes) -> bool:
        record(log)
        return whole(data)

    monkeypatch.setattr(verifying, "_is_whole", slow)
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, audit.size, audit.notes) == (UNANCHORED, 12, ())


def test_clock_that_was_wrong(log: AccessLog, path: Path, clock: Days, policy: str) -> None:
    clock.at -= timedelta(days=2)
    record(log)
    clock.pass_(days=5)
    record(log)
    audit = verify(str(path), policy=policy)
    assert audit.verdict is UNANCHORED
    assert noted(audit) == {"clock", "behind"}


def test_entries_without_a_checkpoint(path: Path, policy: str, anchor: str) -> None:
    with (path / "entries").open("ab") as file:
        file.write(lines_of(path)[-1] + b"\n")
        file.write(b"half a li")
    audit = verify(str(path), policy=policy, anchors=[anchor])
    assert (audit.verdict, audit.size, noted(audit)) == (ANCHORED, 12, {"unsigned"})


def test_torn_tails(log: AccessLog, path: Path, policy: str, anchor: str) -> None:
    with (path / "entries").open("ab") as file:
        file.write(lines_of(path)[-1] + b"\nhalf a li")
    with (path / "checkpoints").open("ab") as file:
        file.write(notes_of(path)[-1][:-10])
    assert verify(str(path), policy=policy, anchors=[anchor]).verdict is ANCHORED
    record(log)
    audit = verify(str(path), policy=policy, anchors=[anchor])
    assert (audit.verdict, noted(audit)) == (ANCHORED, {"recovered"})


def test_latest_checkpoint_that_lags_or_is_torn(path: Path, policy: str) -> None:
    (path / "checkpoint").write_bytes(notes_of(path)[-2])
    assert verify(str(path), policy=policy).verdict is UNANCHORED
    (path / "checkpoint").write_bytes(notes_of(path)[-1][:-5])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, noted(audit)) == (UNANCHORED, {"torn"})


def test_latest_checkpoint_that_is_being_written(
    path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once more, half of the old one and half of the new are not taken for a forgery."""
    old, new = notes_of(path)[-2:]
    answers = [new[:70] + old[70:], new, new]
    read = verifying.read_small

    def torn(folder: int, name: str, limit: int) -> bytes:
        return answers.pop(0) if name == "checkpoint" else read(folder, name, limit)

    monkeypatch.setattr(verifying, "read_small", torn)
    assert verify(str(path), policy=policy).verdict is UNANCHORED
    assert answers == []


# -- the whole log --------------------------------------------------------------------------


def test_rolled_back(log: AccessLog, path: Path, tmp_path: Path, clock: Days, policy: str) -> None:
    shutil.copytree(path, tmp_path / "copy")
    clock.pass_(days=1)
    anchor = tmp_path / "later"
    anchor.write_bytes(record(log))
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "copy", path)
    assert verify(str(path), policy=policy).verdict is UNANCHORED
    audit = verify(str(path), policy=policy, anchors=[str(anchor)])
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"anchor-larger"}, 12)


def test_checkpoints_cut_off(path: Path, policy: str, anchor: str) -> None:
    """The entries are still there, and would be thought to be what a crash left."""
    write_log(path, lines_of(path), notes_of(path)[:-1])
    assert verify(str(path), policy=policy, anchors=[anchor]).verdict is TAMPERED


def test_log_gone(path: Path, tmp_path: Path, policy: str, anchor: str) -> None:
    shutil.rmtree(path)
    assert verify(str(path), policy=policy).verdict is TAMPERED
    assert verify(str(path), anchors=[anchor]).verdict is TAMPERED
    assert verify(str(path)).verdict is CANNOT
    path.mkdir()
    assert verify(str(path), policy=policy).verdict is TAMPERED
    assert verify(str(path)).verdict is CANNOT


def test_log_remade_of_another_origin(path: Path, policy: str, anchor: str) -> None:
    shutil.rmtree(path)
    make_log(path, Days())
    assert verify(str(path)).verdict is UNANCHORED  # its own policy tells nothing
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, audit.size) == (TAMPERED, 0)
    assert "origin" in rules(audit)
    audit = verify(str(path), anchors=[anchor])
    assert (audit.verdict, rules(audit)) == (CANNOT, {"anchor-of-another-log"})
    assert "replaced" in audit.wrong[0].text


def test_log_remade_of_the_same_origin(
    path: Path, tmp_path: Path, policy: str, anchor: str
) -> None:
    forged = Signer(Signer.stolen(path).origin, 0, bytes(32))
    text = forged.policy()
    lines = lines_of(path)
    lines[0] = entry(lines[0], policy=hashlib.sha256(text).hexdigest())
    lines[1] = entry(lines[1], path="/b")
    ends = [end_of(lines, 0), end_of(lines, 1), len(lines)]
    (path / "policy").write_bytes(text)
    write_log(path, lines, [forged.checkpoint(lines[:end], day) for day, end in enumerate(ends)])
    assert verify(str(path)).verdict is UNANCHORED
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, audit.size) == (TAMPERED, 0)
    assert {"key", "policy", "policy-file"} <= rules(audit)
    audit = verify(str(path), anchors=[anchor])
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"anchor-forged"})


def test_policy_exchanged(path: Path, tmp_path: Path, policy: str) -> None:
    text = (path / "policy").read_text().splitlines(keepends=True)
    text[3], text[4] = text[4], text[3]
    (path / "policy").write_text("".join(text))
    audit = verify(str(path))
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"policy"}, 0)
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"policy-file"}, 12)


@pytest.mark.parametrize("text", [b"", b"nonsense\n", b"quorum none\n"])
def test_policy_that_is_none(path: Path, tmp_path: Path, policy: str, text: bytes) -> None:
    (tmp_path / "bad").write_bytes(text)
    audit = verify(str(path), policy=str(tmp_path / "bad"))
    assert (audit.verdict, rules(audit), audit.origin) == (CANNOT, {"policy"}, "")
    assert verify(str(path), policy=str(tmp_path / "none")).verdict is CANNOT
    (path / "policy").write_bytes(text)
    assert verify(str(path)).verdict is CANNOT
    (path / "policy").unlink()
    assert verify(str(path)).verdict is CANNOT
    assert verify(str(path), policy=policy).verdict is UNANCHORED


def test_log_that_cannot_be_read(path: Path, policy: str) -> None:
    (path / "entries").unlink()
    (path / "entries").symlink_to("/etc/passwd")
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (CANNOT, {"unreadable"})


def test_entries_gone(path: Path, policy: str) -> None:
    (path / "entries").unlink()
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, "missing" in rules(audit), audit.size) == (TAMPERED, True, 0)


# -- anchors --------------------------------------------------------------------------------


def test_anchor_that_no_key_signed(path: Path, tmp_path: Path, policy: str) -> None:
    forged = tmp_path / "forged"
    text = notes_of(path)[-1].partition(b"\n\n")[0].decode() + "\n"
    forged.write_bytes(signed(text, Signer.stolen(path).origin, Ed25519PrivateKey.generate()))
    audit = verify(str(path), policy=policy, anchors=[str(forged)])
    assert (audit.verdict, rules(audit)) == (CANNOT, {"anchor-forged"})
    assert verify(str(path), anchors=[str(forged)]).verdict is TAMPERED


def test_tampered_goes_before_cannot_verify(path: Path, tmp_path: Path, policy: str) -> None:
    write_log(path, lines_of(path)[:-1], notes_of(path))
    audit = verify(str(path), policy=policy, anchors=[str(tmp_path / "none")])
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"missing", "anchor-unreadable"})


def test_anchor_of_another_root(path: Path, tmp_path: Path, policy: str) -> None:
    """Two logs signed with one key: one of them was shown to somebody."""
    other, early = tmp_path / "other", tmp_path / "early"
    thief, lines = Signer.stolen(path), lines_of(path)
    other.write_bytes(thief.checkpoint([*lines[:-1], entry(lines[-1], path="/b")]))
    early.write_bytes(notes_of(path)[1])
    audit = verify(str(path), policy=policy, anchors=[str(other), str(early)])
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"anchor-root"})
    assert audit.size == audit.anchored_size == size_of(notes_of(path)[1])


def test_anchor_of_a_later_key(path: Path, tmp_path: Path, policy: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(Signer.stolen(path).checkpoint(lines_of(path)[:3]))
    audit = verify(str(path), policy=policy, anchors=[str(other)])
    assert (audit.verdict, rules(audit), audit.anchored_size) == (TAMPERED, {"anchor-key"}, 0)


@pytest.mark.parametrize("extension", ["", "more\n"])
def test_anchor_that_the_log_never_makes(
    path: Path, tmp_path: Path, policy: str, extension: str
) -> None:
    other = tmp_path / "other"
    lines = lines_of(path) if extension else []
    other.write_bytes(Signer.stolen(path).checkpoint(lines, extension=extension))
    audit = verify(str(path), policy=policy, anchors=[str(other)])
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"anchor-forged"})


def test_anchor_between_checkpoints(path: Path, tmp_path: Path, policy: str) -> None:
    """It could have been one: who has today's key and cut the checkpoints may have signed it."""
    other = tmp_path / "other"
    other.write_bytes(Signer.stolen(path).checkpoint(lines_of(path)[:10]))
    audit = verify(str(path), policy=policy, anchors=[str(other)])
    assert (audit.verdict, audit.anchored_size) == (ANCHORED, 10)


def test_anchor_that_is_no_note(path: Path, tmp_path: Path, policy: str) -> None:
    (tmp_path / "bad").write_text("no note")
    for name, rule in (("bad", "anchor-malformed"), ("none", "anchor-unreadable")):
        audit = verify(str(path), policy=policy, anchors=[str(tmp_path / name)])
        assert (audit.verdict, rules(audit), audit.size) == (CANNOT, {rule}, 12)


def test_vault_as_anchor(path: Path, tmp_path: Path, policy: str) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    assert rules(verify(str(path), policy=policy, anchors=[str(vault)])) == {"anchor-missing"}
    folder = vault / ".encvault" / "checkpoints"
    folder.mkdir(parents=True)
    make_log(tmp_path / "other", Days(), days=1)
    shutil.copyfile(tmp_path / "other" / "checkpoint", folder / "other")
    (folder / "torn").write_bytes(b"")
    (folder / f".encvault-{'a' * 26}.tmp").write_bytes(b"")
    audit = verify(str(path), policy=policy, anchors=[str(vault)])
    assert (audit.verdict, rules(audit)) == (CANNOT, {"anchor-missing"})
    assert noted(audit) == {"anchor-malformed"}
    shutil.copyfile(path / "checkpoint", folder / "mine")
    audit = verify(str(path), policy=policy, anchors=[str(vault)])
    assert (audit.verdict, audit.anchored_size) == (ANCHORED, 12)
    shutil.rmtree(path)  # and nothing tells whose the vault's checkpoints are
    assert verify(str(path), anchors=[str(vault)]).verdict is CANNOT


def test_quorum(path: Path, tmp_path: Path, policy: str) -> None:
    """Of two witnesses one has to cosign."""
    one, two = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    witnesses = (
        f"witness one {witness_key('one.example/w', one)}\n"
        f"witness two {witness_key('two.example/w', two)}\n"
        "group both 1 one two\nquorum both\n"
    )
    mine = tmp_path / "mine"
    mine.write_text(path.joinpath("policy").read_text().replace("quorum none\n", witnesses))
    plain, good, forged = (tmp_path / name for name in ("plain", "good", "forged"))
    plain.write_bytes(notes_of(path)[-1])
    good.write_bytes(cosigned(notes_of(path)[-1], "two.example/w", two))
    forged.write_bytes(
        good.read_bytes().replace(b"two.example/w ", b"two.example/w ")[:-10] + b"AAAAAAA==\n"
    )
    audit = verify(str(path), policy=str(mine), anchors=[str(plain)])
    assert (audit.verdict, audit.anchored_size, noted(audit)) == (UNANCHORED, 0, {"anchor-quorum"})
    assert audit.policy_digest.encode() in lines_of(path)[0]
    audit = verify(str(path), policy=str(mine), anchors=[str(plain), str(good)])
    assert (audit.verdict, audit.anchored_size) == (ANCHORED, 12)
    audit = verify(str(path), policy=str(mine), anchors=[str(forged)])
    assert (audit.verdict, rules(audit)) == (CANNOT, {"anchor-forged"})
    assert verify(str(path), policy=policy, anchors=[str(good)]).verdict is ANCHORED


# -- the second implementation --------------------------------------------------------------


def test_roots_by_a_second_implementation(path: Path) -> None:
    lines = lines_of(path)
    for note in notes_of(path):
        _origin, size, root = note.split(b"\n")[:3]
        assert base64.b64decode(root) == root_of(lines[: int(size)])
