"""Each way to cheat with entries and checkpoints that we know of, by name.

The attacker has the machine, and so the key of today, and signs with code of his own.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from logs import (
    CANNOT,
    TAMPERED,
    UNANCHORED,
    Days,
    Signer,
    end_of,
    entry,
    is_end,
    lines_of,
    make_log,
    noted,
    notes_of,
    record,
    rules,
    signed,
    size_of,
    write_log,
)

from encvault.accesslog.verifying import verify

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.accesslog.log import AccessLog

# -- systemd's failures ---------------------------------------------------------------------


def test_sealed_with_too_recent_a_key(path: Path, policy: str) -> None:
    """CVE-2023-31439: closed days forged, and signed with the key that is still there."""
    thief, lines = Signer.stolen(path), lines_of(path)
    lines[1] = entry(lines[1], path="/b")
    notes = [thief.checkpoint(lines[: size_of(note)]) for note in notes_of(path)]
    write_log(path, lines, notes)
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"key"}, 0)
    assert "later day" in audit.wrong[0].text


def test_sealed_with_too_recent_a_key_by_an_early_ending(path: Path, policy: str) -> None:
    """So few entries are made that all of them seem to be of today."""
    thief, lines = Signer.stolen(path), lines_of(path)
    kept = [line for line in lines if not is_end(line)]
    write_log(path, kept, [thief.checkpoint(kept)])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"key", "day"})


def test_truncate_and_continue(path: Path, policy: str) -> None:
    """CVE-2023-31438: the second day is cut off, and the third goes on after the first."""
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    first, second = end_of(lines, 0), end_of(lines, 1)
    forged = lines[:first] + lines[second - 1 :]  # without what was done on the second day
    kept = [note for note in notes if size_of(note) <= first]
    write_log(
        path, forged, [*kept, thief.checkpoint(forged[: first + 1]), thief.checkpoint(forged)]
    )
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"key"}, first)


def test_truncate_and_continue_without_an_end(path: Path, policy: str) -> None:
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    first, second = end_of(lines, 0), end_of(lines, 1)
    forged = lines[:first] + lines[second:]
    kept = [note for note in notes if size_of(note) <= first]
    write_log(path, forged, [*kept, thief.checkpoint(forged)])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, audit.size) == (TAMPERED, first)
    assert rules(audit) == {"key", "day"}


def test_unsealed_file_passes(path: Path, policy: str, anchor: str) -> None:
    """systemd issue 15425."""
    write_log(path, lines_of(path), [])
    assert verify(str(path), policy=policy).verdict is TAMPERED
    assert verify(str(path), anchors=[anchor]).verdict is TAMPERED
    audit = verify(str(path))
    assert (audit.verdict, audit.size, rules(audit)) == (CANNOT, 0, {"unsigned-log"})
    (path / "checkpoints").unlink()
    assert verify(str(path), policy=policy).verdict is TAMPERED


def test_wrong_key_passes(path: Path, tmp_path: Path) -> None:
    """systemd issue 11524: another log's keys."""
    make_log(tmp_path / "other", Days(), days=1)
    audit = verify(str(path), policy=str(tmp_path / "other" / "policy"))
    assert audit.verdict is TAMPERED
    assert "origin" in rules(audit)
    assert audit.size == 0


def test_wrong_key_of_the_same_name_passes(path: Path, tmp_path: Path) -> None:
    other = Signer(Signer.stolen(path).origin, 0, bytes(32))
    (tmp_path / "wrong").write_bytes(other.policy())
    audit = verify(str(path), policy=str(tmp_path / "wrong"))
    assert (audit.verdict, audit.size) == (TAMPERED, 0)
    assert {"key", "policy", "policy-file"} == rules(audit)


# -- entries --------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 4, 5, 11])
def test_edited_entry(path: Path, policy: str, index: int) -> None:
    lines = lines_of(path)
    lines[index] = entry(lines[index], user="nobody")
    write_log(path, lines, notes_of(path))
    audit = verify(str(path), policy=policy)
    before = max((size_of(note) for note in notes_of(path) if size_of(note) <= index), default=0)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"root"}, before)


@pytest.mark.parametrize("index", range(12))
def test_deleted_entry(path: Path, policy: str, index: int) -> None:
    lines = lines_of(path)
    del lines[index]
    write_log(path, lines, notes_of(path))
    audit = verify(str(path), policy=policy)
    assert audit.verdict is TAMPERED
    assert audit.size <= index
    assert "missing" in rules(audit)


@pytest.mark.parametrize("index", range(12))
def test_duplicated_entry(path: Path, policy: str, index: int) -> None:
    lines = lines_of(path)
    lines.insert(index, lines[index])
    write_log(path, lines, notes_of(path))
    audit = verify(str(path), policy=policy)
    if index == 11:  # the last twice: one more that nobody signed
        assert (audit.verdict, noted(audit)) == (UNANCHORED, {"unsigned"})
    else:
        assert (audit.verdict, audit.size <= index + 1) == (TAMPERED, True)


def test_two_entries_of_equal_length_swapped(path: Path, policy: str) -> None:
    lines = lines_of(path)
    assert len(lines[1]) == len(lines[2])
    assert lines[1] != lines[2]
    lines[1], lines[2] = lines[2], lines[1]
    write_log(path, lines, notes_of(path))
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"root"}, 1)


def test_reordered_days(path: Path, policy: str) -> None:
    lines = lines_of(path)
    write_log(path, lines[5:9] + lines[:5] + lines[9:], notes_of(path))
    audit = verify(str(path), policy=policy)
    assert audit.verdict is TAMPERED
    assert rules(audit) >= {"init", "root", "time", "epoch"}


def test_line_that_is_no_entry(path: Path, policy: str) -> None:
    """Signed with the right key, and not an entry all the same."""
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    lines[-1] = b'{"op":"open"}'
    write_log(path, lines, [*notes[:-1], thief.checkpoint(lines)])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"entry"})
    assert audit.wrong[0].index == 11


def with_last(log: Path, /, **members: str | int | None) -> None:
    """Exchange the last entry, as who has today's key can."""
    thief, lines, notes = Signer.stolen(log), lines_of(log), notes_of(log)
    lines[-1] = entry(lines[-1], **members)
    write_log(log, lines, [*notes[:-1], thief.checkpoint(lines)])


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({"ts": "2026-11-05T09:00:00.000000Z"}, "day"),
        ({"ts": "2026-11-04T08:59:59.999999Z"}, "time"),
        ({"ts": "2026-11-03T09:00:00.000000Z"}, "day"),
        ({"ts": "2026-11-04T10:00:00.000000Z", "wall": "2026-11-04T09:30:00.000000Z"}, "time"),
        ({"op": "log.init"}, "init"),
        ({"op": "log.epoch", "path": None}, "epoch"),
        ({"op": "log.epoch", "path": None, "epoch": 2}, "day"),  # today is not over
        ({"op": "log.epoch", "path": None, "epoch": 1}, "epoch"),
        ({"op": "log.epoch", "path": None, "epoch": 3}, "epoch"),
        ({"epoch": 2}, "epoch"),  # no entry of this kind has a number
    ],
)
def test_entry_of_another_day(
    path: Path, policy: str, members: dict[str, str | int | None], rule: str
) -> None:
    with_last(path, **members)
    audit = verify(str(path), policy=policy)
    assert audit.verdict is TAMPERED
    assert rule in rules(audit)
    assert audit.wrong[0].index == 11


def test_what_the_holder_of_todays_key_can_do(path: Path, policy: str, anchor: str) -> None:
    """Only an anchor helps here; docs/threat-model.md says so."""
    with_last(path, path="/b")
    assert verify(str(path), policy=policy).verdict is UNANCHORED
    audit = verify(str(path), policy=policy, anchors=[anchor])
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"anchor-root"})


def test_first_entry_that_begins_no_log(path: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    make_log(lone, Days(), days=1)
    thief, lines = Signer.stolen(lone), lines_of(lone)
    for members, rule in (({"op": "open"}, "init"), ({"policy": "0" * 64}, "policy")):
        forged = [entry(lines[0], **members), *lines[1:]]
        write_log(lone, forged, [thief.checkpoint(forged)])
        audit = verify(str(lone))
        assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {rule}, 0)


# -- checkpoints and days -------------------------------------------------------------------


def test_closing_checkpoint_dropped(path: Path, policy: str) -> None:
    closing = end_of(lines_of(path), 0)
    write_log(path, lines_of(path), [note for note in notes_of(path) if size_of(note) != closing])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"closing"})
    assert audit.wrong[0].index == closing - 1
    assert audit.size < closing


def test_other_checkpoint_dropped(path: Path, policy: str) -> None:
    """Nobody can tell, and nothing is lost: what follows covers the same."""
    write_log(path, lines_of(path), [note for note in notes_of(path) if size_of(note) != 4])
    assert verify(str(path), policy=policy).verdict is UNANCHORED


def test_two_closings_of_one_epoch(path: Path, policy: str) -> None:
    notes = notes_of(path)
    closing = next(note for note in notes if size_of(note) == end_of(lines_of(path), 0))
    write_log(path, lines_of(path), sorted([*notes, closing], key=size_of))
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"shrinks"})


def test_two_ends_of_one_epoch(log: AccessLog, path: Path, clock: Days, policy: str) -> None:
    """Before the second day is over, the first is ended again."""
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    last = end_of(lines, 1)
    lines = [*lines[:last], lines[last - 1]]
    write_log(
        path,
        lines,
        [*(note for note in notes if size_of(note) <= last), thief.checkpoint(lines)],
    )
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, audit.size) == (TAMPERED, last)
    assert "epoch" in rules(audit)


def test_closing_of_an_epoch_missing(path: Path, clock: Days, log: AccessLog, policy: str) -> None:
    """Two days pass; one is left out of the ends."""
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    later = entry(lines[-1], ts="2026-11-06T09:00:00.000000Z", path=None, op="log.epoch", epoch=3)
    forged = [*lines, later]
    write_log(path, forged, [*notes, thief.checkpoint(forged, 3)])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, audit.size) == (TAMPERED, 12)
    assert rules(audit) == {"epoch", "key"}


def test_checkpoint_that_shrinks(path: Path, policy: str) -> None:
    notes = notes_of(path)
    write_log(path, lines_of(path), [*notes, notes[-2]])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"shrinks"}, 12)


def test_checkpoint_of_nothing(path: Path, policy: str) -> None:
    thief = Signer.stolen(path)
    write_log(path, lines_of(path), [thief.checkpoint([]), *notes_of(path)])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"shrinks"}, 0)


def test_checkpoint_with_another_root(path: Path, policy: str) -> None:
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    forged = thief.checkpoint([*lines[:-1], b"x"])
    write_log(path, lines, [*notes[:-1], forged])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"root"})


def test_checkpoint_of_an_earlier_key(log: AccessLog, path: Path, clock: Days, policy: str) -> None:
    thief = Signer.stolen(path)
    clock.pass_(days=1)
    record(log)
    lines = lines_of(path)
    write_log(path, lines, [*notes_of(path)[:-1], thief.checkpoint(lines)])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"key"})
    assert "earlier day" in audit.wrong[0].text


def test_checkpoint_of_a_key_that_the_log_has_not(path: Path, policy: str) -> None:
    thief, notes = Signer.stolen(path), notes_of(path)
    text = notes[-1].partition(b"\n\n")[0].decode() + "\n"
    forged = signed(text, thief.origin, Ed25519PrivateKey.generate())
    write_log(path, lines_of(path), [*notes[:-1], forged])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"key"}, size_of(notes[-2]))
    assert "not the log's" in audit.wrong[0].text


def test_checkpoint_of_a_wrong_signature(path: Path, policy: str) -> None:
    notes = notes_of(path)
    last = notes[-1].rsplit(b" ", 1)
    other = notes[-2].rsplit(b" ", 1)
    key_id = base64.b64decode(last[1])[:4]
    line = base64.b64encode(key_id + base64.b64decode(other[1])[4:])
    write_log(path, lines_of(path), [*notes[:-1], last[0] + b" " + line + b"\n"])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"key"})
    assert "is wrong" in audit.wrong[0].text


def test_checkpoint_with_an_extension_line(path: Path, policy: str) -> None:
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    write_log(path, lines, [*notes[:-1], thief.checkpoint(lines, extension="more\n")])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"extension"})


def test_checkpoint_of_another_log(path: Path, tmp_path: Path, policy: str) -> None:
    make_log(tmp_path / "other", Days(), days=1)
    write_log(path, lines_of(path), [*notes_of(path), *notes_of(tmp_path / "other")])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"origin"}, 12)


def test_checkpoints_that_are_none(path: Path, policy: str) -> None:
    notes = notes_of(path)
    write_log(path, lines_of(path), [*notes[:2], b"no\n\nnote\n", *notes[2:]])
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"malformed"}, 4)
    (path / "checkpoints").write_bytes(bytes(3 << 20))
    assert "malformed" in rules(verify(str(path), policy=policy))


def test_latest_checkpoint_that_was_never_kept(path: Path, policy: str) -> None:
    thief, lines = Signer.stolen(path), lines_of(path)
    (path / "checkpoint").write_bytes(thief.checkpoint([*lines, lines[-1]]))
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit), audit.size) == (TAMPERED, {"latest"}, 12)


def test_more_epochs_than_keys(log: AccessLog, path: Path, policy: str) -> None:
    thief, lines, notes = Signer.stolen(path), lines_of(path), notes_of(path)
    for day in range(2, 45):
        lines.append(
            entry(lines[-1], ts="2027-03-01T00:00:00.000000Z", op="log.epoch", path=None, epoch=day)
        )
        notes.append(thief.checkpoint(lines, min(day, 39)))
    write_log(path, lines, notes)
    audit = verify(str(path), policy=policy)
    assert (audit.verdict, rules(audit)) == (TAMPERED, {"key"})
    assert audit.size == 12 + 38


def test_days_beyond_the_calendar(path: Path, tmp_path: Path) -> None:
    """More ends of days than there are dates are faults and nothing worse."""
    last = Signer(f"encvault-log/{'a' * 26}/9999-12-29", 0, bytes(32))
    rows = last.policy().splitlines(keepends=True)
    (tmp_path / "last").write_bytes(b"".join([*rows[:2], rows[-1]]))
    ts = "9999-12-31T00:00:00.000000Z"
    lines = [entry(lines_of(path)[0], ts=ts)]
    lines += [entry(lines[0], op="log.epoch", policy=None, epoch=day) for day in range(6)]
    write_log(path, lines, [last.checkpoint(lines)])
    audit = verify(str(path), policy=str(tmp_path / "last"))
    assert (audit.verdict, audit.size) == (TAMPERED, 0)
