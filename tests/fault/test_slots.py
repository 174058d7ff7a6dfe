"""Changes of keyslots, cut off anywhere: whatever is listed afterwards opens the vault."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from fault.crash_states import Disk, Recorder
from fault.processes import FINISHED, Countdown, fork, wait
from fault.scenes import SCENES
from helpers import SEED

from encvault import operations
from encvault.crypto.kdf import CHEAPEST
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


def slot_of(vault: str, label: str) -> str:
    (found,) = [slot["id"] for slot in operations.list_slots(vault) if slot["label"] == label]
    return found


CHANGES: dict[str, Callable[[str], object]] = {
    "add": lambda vault: operations.add_slots(vault, answers(NEW)),
    "remove": lambda vault: operations.remove_slot(
        vault, answers(NEW), slot_of(vault, OLD), force=True
    ),
    "passwd": lambda vault: operations.change_password(vault, answers(NEW), slot_of(vault, OLD)),
}
AFTER = {"add": {"test", OLD, NEW}, "remove": {"test"}, "passwd": {"test", NEW}}


def wrong_with(vault: Path, change: str) -> list[str]:
    """What is wrong with a vault whose change may have been cut off."""
    with Vault.load(str(vault)) as found:
        labels = {slot["label"] for slot in found.record.slots}
    wrong = [] if labels in ({"test", OLD}, AFTER[change]) else [f"keyslots of {labels}"]
    for slot in operations.list_slots(str(vault)):
        with Vault.load(str(vault)) as found:
            try:
                found.unlock([KEYS[slot["label"]]])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
                wrong.append(f"{slot['label']}: {error!r}")
                continue
            if found.opened_slot != slot["id"]:
                wrong.append(f"{slot['label']} opened another slot")
    return wrong


@pytest.fixture
def start(world: World) -> Path:
    top = world.reset(SCENES["open-visible"])
    operations.add_slots(str(top / "docs"), answers(OLD))
    return top


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_crash_every_listed_keyslot_opens(world: World, start: Path, change: str) -> None:
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


@pytest.mark.parametrize("change", CHANGES)
def test_killed_before_each_call(world: World, change: str) -> None:
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        vault = world.reset(SCENES["open-visible"]) / "docs"
        operations.add_slots(str(vault), answers(OLD))

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
