"""Changes of keys, cut off anywhere: what is listed afterwards opens the vault, all of it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from fault.crash_states import Disk, Recorder
from fault.processes import FINISHED, Countdown, fork, wait
from fault.scenes import ORIGINALS, SCENES
from helpers import SEED

from encvault import operations
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import MalformedVault
from encvault.fs import calls
from encvault.keyslots import (
    Identity,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    encode_password,
)
from encvault.operations import Answers
from encvault.secret import Secret
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fault.scenes import World

KEY = KeyIdentity(Secret(SEED))
OLD, NEW = "the old password", "the new password"
KEYS: dict[str, Identity] = {
    "test": KEY,
    OLD: PasswordIdentity(encode_password(OLD)),
    NEW: PasswordIdentity(encode_password(NEW)),
}


def kill_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def password(text: str) -> PasswordRecipient:
    """A recipient whose label is the password."""
    return PasswordRecipient(encode_password(text), label=text, profile=CHEAPEST)


def answers(new: str) -> Answers:
    return Answers(identities_given=(KEY,), new_recipients_given=(password(new),))


def consenting() -> Answers:
    return Answers(identities_given=(KEY,), consent=True)


def slot_of(vault: str, label: str) -> str:
    (found,) = [slot["id"] for slot in operations.list_slots(vault) if slot["label"] == label]
    return found


CHANGES: dict[str, Callable[[str], object]] = {
    "add": lambda vault: operations.add_slots(vault, answers(NEW)),
    "remove": lambda vault: operations.remove_slot(
        vault, answers(NEW), slot_of(vault, OLD), force=True
    ),
    "passwd": lambda vault: operations.change_password(vault, answers(NEW), slot_of(vault, OLD)),
    "rekey": lambda vault: operations.rekey(vault, consenting()),
    "revoke": lambda vault: operations.revoke(
        vault, consenting(), slot_of(vault, OLD), force=True, reseal=True, jobs=1
    ),
}
AFTER = {
    "add": {"test", OLD, NEW},
    "remove": {"test"},
    "passwd": {"test", NEW},
    "rekey": {"test"},
    "revoke": {"test"},
}


def wrong_with(vault: Path, change: str) -> list[str]:
    """What is wrong with a vault whose change may have been cut off."""
    with Vault.load(str(vault)) as found:
        labels = {slot["label"] for slot in found.record.slots}
    wrong = [] if labels in ({"test", OLD}, AFTER[change]) else [f"keyslots of {labels}"]
    for slot in operations.list_slots(str(vault)):
        if slot["state"] == "pending":
            continue
        with Vault.load(str(vault)) as found:
            try:
                found.unlock([KEYS[slot["label"]]])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
                wrong.append(f"{slot['label']}: {error!r}")
                continue
            if found.opened_by is None or found.opened_by.slot_id != slot["id"]:
                wrong.append(f"{slot['label']} opened another slot")
    report = operations.verify(str(vault), answers(NEW), jobs=1)
    # a torn copy of the record is what the next run mends
    wrong += [str(error) for error in report.problems if not isinstance(error, MalformedVault)]
    if report.files < len(ORIGINALS):
        wrong.append(f"{report.files} of {len(ORIGINALS)} files are authentic")
    return wrong


CASES = [*((change, "open-visible") for change in CHANGES), ("revoke", "open-hidden")]


def begin(world: World, scene: str) -> Path:
    top = world.reset(SCENES[scene])
    operations.add_slots(str(top / "docs"), answers(OLD))
    return top


@pytest.mark.parametrize(("change", "scene"), CASES)
def test_after_a_crash_every_listed_keyslot_opens(world: World, change: str, scene: str) -> None:
    start = begin(world, scene)
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(start, patch)
        CHANGES[change](str(start / "docs"))
    assert recorder.unseen() == []
    assert wrong_with(start / "docs", change) == []
    disk = Disk(recorder)
    seen = 0
    for index in range(len(recorder.events) + 1):
        for state in disk.states():
            top = world.clear()
            disk.materialise(state, top, ledger=False)
            assert wrong_with(top / "docs", change) == [], f"{index}: {state.label}"
            seen += 1
        if index < len(recorder.events):
            disk.play(index)
    assert seen > 10


@pytest.mark.parametrize(("change", "scene"), CASES)
def test_killed_before_each_call(world: World, change: str, scene: str) -> None:
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        vault = begin(world, scene) / "docs"

        def work(vault: Path = vault, number: int = number) -> None:
            calls.probe = Countdown(number, kill_self)
            CHANGES[change](str(vault))

        code = wait(fork(work))
        assert wrong_with(vault, change) == [], f"call {number}"
        with Vault.load(str(vault)) as next_run:
            next_run.hold()  # it puts both copies in order again
        assert wrong_with(vault, change) == []
        copies = [(vault / ".encvault" / f"vault.{name}.json").read_bytes() for name in "ab"]
        assert copies[0] == copies[1]
    assert code == FINISHED
    assert number > 5
