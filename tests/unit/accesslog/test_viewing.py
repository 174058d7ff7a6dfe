"""What is shown is what was signed, whatever is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from logs import Signer, entry, lines_of, notes_of, record, signed, write_log

from encvault.accesslog.filters import Filter
from encvault.accesslog.verifying import verify
from encvault.accesslog.viewing import entries, follow, view
from encvault.errors import LogTampered, LogUnverifiable, NoAccessLog
from encvault.tlog import reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from encvault.accesslog.log import AccessLog


def test_all(path: Path) -> None:
    seen, shown = view(str(path))
    found = list(shown)
    assert [one.index for one in found] == list(range(12))
    assert [one.members["op"] for one in found[:5]] == ["log.init", *["open"] * 3, "log.epoch"]
    assert seen.size == 12
    assert seen.checkpoint.encode() == notes_of(path)[-1]
    assert seen.origin == Signer.stolen(path).origin
    assert list(entries(str(path), verify(str(path)))) == found


def test_wanted(path: Path) -> None:
    wanted = Filter(path="/a/1")
    assert [one.index for one in view(str(path), wanted)[1]] == [2, 6, 10]
    assert [one.index for one in entries(str(path), verify(str(path)), wanted)] == [2, 6, 10]


def test_wanted_at_first_sight_only(log: AccessLog, path: Path) -> None:
    record(log, path="/a/12")
    assert [one.index for one in view(str(path), Filter(path="/a/1"))[1]] == [2, 6, 10]


def test_entries_hidden_from_filtered_views(path: Path) -> None:
    """CVE-2023-31437: what is made to miss the filter is missed by the root as well.

    There is no index to spoil. An entry that is changed so that no filter finds it, and even one
    that is signed so, does not pass.
    """
    lines, notes = lines_of(path), notes_of(path)
    wanted = Filter(path="/a/2")
    hidden = [*lines[:-1], entry(lines[-1], path="/a/1")]
    write_log(path, hidden, notes)
    _seen, shown = view(str(path), wanted)
    with pytest.raises(LogTampered):
        list(shown)
    spaced = [*lines[:-1], lines[-1].replace(b'"path":', b'"path": ')]
    write_log(path, spaced, [*notes[:-1], Signer.stolen(path).checkpoint(spaced)])
    _seen, shown = view(str(path), wanted)
    with pytest.raises(LogTampered):
        list(shown)


def test_derived_files_are_not_believed(path: Path) -> None:
    for name in ("offsets", "closings", "state"):
        (path / name).write_bytes(b"")
    assert len(list(view(str(path))[1])) == 12


def test_entries_cut_off(path: Path) -> None:
    write_log(path, lines_of(path)[:-1], notes_of(path))
    _seen, shown = view(str(path))
    with pytest.raises(LogTampered):
        list(shown)


def test_smaller_tree_under_a_larger_size(path: Path) -> None:
    thief, lines = Signer.stolen(path), lines_of(path)
    note = thief.checkpoint(lines[:-1]).replace(b"\n11\n", b"\n12\n")
    text = note.partition(b"\n\n")[0].decode() + "\n"
    write_log(path, lines[:-1], [signed(text, thief.origin, thief.key(2))])
    with pytest.raises(LogTampered):
        list(view(str(path))[1])


def test_what_is_not_signed_is_not_shown(path: Path) -> None:
    with (path / "entries").open("ab") as file:
        file.write(lines_of(path)[-1] + b"\n")
    assert len(list(view(str(path))[1])) == 12
    assert len(list(entries(str(path), verify(str(path))))) == 12


def test_what_is_added_meanwhile_is_not_shown(log: AccessLog, path: Path) -> None:
    audit = verify(str(path))
    _seen, shown = view(str(path))
    record(log)
    assert len(list(shown)) == 12
    assert len(list(entries(str(path), audit))) == 12


def test_changed_since_it_was_checked(path: Path) -> None:
    audit = verify(str(path))
    lines = lines_of(path)
    write_log(path, [*lines[:2], entry(lines[2], user="x"), *lines[3:]], notes_of(path))
    shown = entries(str(path), audit)
    assert next(shown).index == 0  # so the caller's output ends with an error
    with pytest.raises(LogTampered):
        list(shown)


def test_only_what_was_proved(path: Path) -> None:
    lines = lines_of(path)
    write_log(path, [*lines[:9], entry(lines[9], user="x"), *lines[10:]], notes_of(path))
    audit = verify(str(path))
    assert audit.size == 9
    assert [one.index for one in entries(str(path), audit)] == list(range(9))
    write_log(path, lines, [])
    assert list(entries(str(path), verify(str(path)))) == []


def test_many_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_SIZE", 700)
    assert len(list(view(str(path))[1])) == 12
    assert verify(str(path)).size == 12


def test_empty_log(path: Path) -> None:
    write_log(path, [], [])
    seen, shown = view(str(path))
    assert (seen.size, seen.checkpoint, list(shown)) == (0, "", [])


def test_follow(log: AccessLog, path: Path) -> None:
    """What is there, and then what is added; an end comes only with an error."""
    rounds: list[Callable[[], object]] = [
        lambda: record(log, path="/a/new"),
        lambda: None,
        lambda: record(log, path="/b"),
        lambda: write_log(path, lines_of(path)[:5], notes_of(path)[:2]),
    ]
    shown = follow(str(path), Filter(path="/a"), lambda: rounds.pop(0)() and None)
    found = [next(shown).index for _one in range(10)]
    assert found == [1, 2, 3, 5, 6, 7, 9, 10, 11, 12]
    with pytest.raises(LogTampered):
        next(shown)
    assert rounds == []


def test_follow_a_log_that_is_not_begun(log: AccessLog, path: Path) -> None:
    lines, notes = lines_of(path), notes_of(path)
    write_log(path, [], [])
    shown = follow(str(path), Filter(), lambda: write_log(path, lines, notes))
    assert [next(shown).index for _one in range(12)] == list(range(12))


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(NoAccessLog):
        view(str(tmp_path / "none"))


@pytest.mark.parametrize("text", [b"nonsense\n", b"quorum none\n"])
def test_policy_that_is_none(path: Path, text: bytes) -> None:
    (path / "policy").write_bytes(text)
    with pytest.raises(LogUnverifiable):
        view(str(path))


def test_policy_that_cannot_be_read(path: Path) -> None:
    (path / "policy").unlink()
    (path / "policy").symlink_to("/etc/passwd")
    with pytest.raises(LogUnverifiable):
        view(str(path))


def test_checkpoint_of_another_key(path: Path) -> None:
    other = Signer(Signer.stolen(path).origin, 0, bytes(32))
    write_log(path, lines_of(path), [other.checkpoint(lines_of(path))])
    with pytest.raises(LogTampered):
        view(str(path))
