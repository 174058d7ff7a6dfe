"""Which drives are the company's, and what proves it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from drivefs import STICK

from encvault.errors import MalformedNote, RegisterDamaged, UntrustedConfig
from encvault.tlog.notes import Note, sign_note
from encvault.usb.export import udev_rules, usbguard_rules
from encvault.usb.register import Register, Registration
from encvault.usb.registrar import registrar

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.usb.devices import Device

DRIVE = "a" * 26
OTHER = "b" * 25 + "a"
TODAY = date(2026, 11, 27)
PRINT = "vp5c-gffw-i6a6-nrvs-w5aa-oyyb-nqf2-5c3b"
ENTRY = Registration(DRIVE, PRINT, "SALES", "李伟", TODAY, None, "0781", "5581", "4C53", 1000)


@dataclass
class Record:
    """What of a vault's record counts here."""

    id: str = DRIVE
    fingerprint: str = PRINT
    former_fingerprints: tuple[str, ...] = ()


RECORD: Any = Record()


def entered(path: Path, *entries: Registration) -> dict[str, bytes]:
    """Enter drives; their notes."""
    notes = {}
    with registrar(str(path)) as keeper:
        for entry in entries:
            note = keeper.sign(entry)
            keeper.enter(entry, note)
            notes[entry.id] = note.encode()
    return notes


def test_a_note_says_what_was_registered(tmp_path: Path) -> None:
    note = Note.decode(entered(tmp_path / "r", ENTRY)[DRIVE], "note")
    assert note.text == (
        'encvault-drive/v1\n{"expires_at":"","fingerprint":'
        '"vp5c-gffw-i6a6-nrvs-w5aa-oyyb-nqf2-5c3b","id":"aaaaaaaaaaaaaaaaaaaaaaaaaa",'
        '"issued_at":"2026-11-27","label":"SALES","owner":"李伟","product_id":"5581",'
        '"serial":"4C53","size":1000,"vendor_id":"0781"}\n'
    )
    assert Registration.decode(note, "note") == ENTRY


@pytest.mark.parametrize(
    "text",
    [
        "nothing\n",
        "encvault-drive/v1\n{}\n",
        "encvault-drive/v1\n[]\n",
        "encvault-drive/v2\n" + ENTRY.encode().partition("\n")[2],
        ENTRY.encode().replace('"size":1000', '"size": 1000'),
        ENTRY.encode().replace('"size":1000', '"size":"1000"'),
        ENTRY.encode().replace("2026-11-27", "2026-11-31"),
        ENTRY.encode().replace("a" * 26, "a" * 25),
        ENTRY.encode().replace('"serial"', '"cereal"'),
        ENTRY.encode() + "more\n",
    ],
)
def test_what_is_no_note_of_a_drive(text: str) -> None:
    with pytest.raises(MalformedNote):
        Registration.decode(sign_note(text, "name", bytes(32)), "note")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (STICK, ""),
        (STICK._replace(vendor_id="", serial=""), ""),  # in a reader of cards
        (STICK._replace(serial=""), "the serial number is another"),
        (STICK._replace(serial="4C54"), "the serial number is another"),
        (STICK._replace(vendor_id="1234"), "the maker is another"),
        (STICK._replace(product_id="1234"), "the product is another"),
        (STICK._replace(size=2000), "the size is another"),
    ],
)
def test_hardware_is_a_hint(tmp_path: Path, device: Device, reason: str) -> None:
    note = entered(tmp_path / "r", ENTRY)[DRIVE]
    standing = Register.load(str(tmp_path / "r")).standing(RECORD, device, note, TODAY)
    assert standing.state == ("doubtful" if reason else "registered")
    assert standing.reason == reason
    assert standing.registration == ENTRY


def test_a_registration_expires_after_its_last_day(tmp_path: Path) -> None:
    note = entered(tmp_path / "r", ENTRY._replace(expires_at=TODAY))[DRIVE]
    register = Register.load(str(tmp_path / "r"))
    assert register.standing(RECORD, STICK, note, TODAY).state == "registered"
    assert register.standing(RECORD, STICK, note, date(2026, 11, 28)).state == "expired"


def test_what_does_not_prove_it(tmp_path: Path) -> None:
    path = tmp_path / "r"
    notes = entered(path, ENTRY, ENTRY._replace(id=OTHER))
    foreign = entered(tmp_path / "another company", ENTRY)[DRIVE]
    register = Register.load(str(path))

    def standing(data: bytes | None) -> tuple[str, str]:
        found = register.standing(RECORD, STICK, data, TODAY)
        return found.state, str(found.text)

    assert standing(notes[DRIVE]) == ("registered", "registered")
    assert standing(None) == ("doubtful", "doubtful: its note is missing")
    assert standing(notes[OTHER])[1] == "doubtful: its note is that of another drive"
    assert standing(foreign)[0] == "unregistered"
    assert standing(b"nonsense")[0] == "doubtful"
    forged = notes[DRIVE].replace("李伟".encode(), "王芳".encode())
    assert "does not authenticate" in standing(forged)[1]
    with registrar(str(path)) as keeper:
        keeper.remove(DRIVE)
    register = Register.load(str(path))
    assert standing(notes[DRIVE]) == ("unregistered", "not registered")
    assert standing(None)[0] == "unregistered"
    assert Register.load(str(tmp_path / "none")).standing(RECORD, STICK, foreign, TODAY).state == (
        "unregistered"
    )


def test_a_drive_with_other_keys_is_doubted(tmp_path: Path) -> None:
    note = entered(tmp_path / "r", ENTRY)[DRIVE]
    register = Register.load(str(tmp_path / "r"))
    other: Any = Record(fingerprint=PRINT.replace("v", "a"))
    found = register.standing(other, STICK, note, TODAY)
    assert (found.state, found.reason) == ("doubtful", "its keys are others")
    renewed: Any = Record(fingerprint=PRINT.replace("v", "a"), former_fingerprints=(PRINT,))
    assert register.standing(renewed, STICK, note, TODAY).state == "registered"


def test_drives_that_hardware_does_not_tell_apart(tmp_path: Path) -> None:
    twin = ENTRY._replace(id=OTHER)
    entered(tmp_path / "r", ENTRY, twin, ENTRY._replace(id="c" * 25 + "a", serial="other"))
    assert Register.load(str(tmp_path / "r")).not_told_from(ENTRY) == [twin]


def damaged(value: dict[str, Any], kind: str) -> Any:
    note = value["drives"][DRIVE]
    changes: dict[str, dict[str, Any]] = {
        "version": {"version": 2},
        "key": {"key": value["key"][:-4] + "AAA="},
        "drives": {"drives": [note]},
        "note": {"drives": {DRIVE: 7}},
        "another's note": {"drives": {OTHER: note}},
        "a forged note": {"drives": {DRIVE: note.replace("李伟", "王芳")}},
    }
    return value | changes[kind] if kind in changes else []


@pytest.mark.parametrize(
    "kind", ["version", "key", "drives", "note", "another's note", "a forged note", "list"]
)
def test_a_register_that_is_damaged(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r"
    entered(path, ENTRY)
    value = damaged(json.loads(path.read_bytes()), kind)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    path.write_text(text + "\n")
    with pytest.raises(RegisterDamaged):
        Register.load(str(path)).all()


def test_a_register_that_others_can_change(tmp_path: Path) -> None:
    path = tmp_path / "r"
    entered(path, ENTRY)
    path.chmod(0o666)
    with pytest.raises(UntrustedConfig):
        Register.load(str(path))


def test_rules_name_only_what_hardware_tells() -> None:
    odd = [
        ENTRY,
        ENTRY._replace(label="card", vendor_id=""),
        ENTRY._replace(label="cheap", serial=""),
        ENTRY._replace(label="hostile", serial='x", GOTO="encvault_end'),
    ]
    odd.append(ENTRY._replace(label="x\nallow id *:*\nSUBSYSTEM", serial=""))
    for rules in (usbguard_rules(odd), udev_rules(odd)):
        assert not re.search("^(allow id [*]|SUBSYSTEM$)", rules, re.MULTILINE)
        said = [line for line in rules.splitlines() if line.startswith("#")]
        named = [line for line in rules.splitlines() if "4C53" in line]
        assert len(named) == (2 if "with-interface" in rules else 1)
        assert "hostile" in "".join(said)
        assert 'x"' not in rules
        assert "every drive of its kind" in rules
        assert "not on USB" in rules
    assert usbguard_rules([]).splitlines()[-1] == "block with-interface one-of { 08:*:* }"
