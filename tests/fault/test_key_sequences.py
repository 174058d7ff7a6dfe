"""Any sequence of changes of keys, sealing and opening, each perhaps killed somewhere.

Afterwards every keyslot that is listed as active opens the vault, and by it every file is there
with its content. Who was shut out, or whose password was replaced, does not open it.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fault.processes import FINISHED, NAMED_ERROR, Countdown, fork, wait, wait_for_lock
from helpers import RECIPIENT, SEED
from hypothesis import HealthCheck, given, settings, strategies as st

from encvault import operations
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import NoMatchingKeyslot
from encvault.fs import calls
from encvault.keyslots import (
    Identity,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    Recipient,
    RecoveryIdentity,
    RecoveryRecipient,
    encode_password,
)
from encvault.operations import Answers, OpenRequest, SealRequest
from encvault.secret import Secret
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable

BOSS = "test"  # the label of the key that makes every change, and is never dropped
KINDS = ("password", "recipient", "recovery")


@dataclass
class World:
    """A vault, what must be in it, and everyone who ever had a keyslot."""

    top: Path
    hidden: bool
    files: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, list[Identity]] = field(default_factory=dict)  # by label; the latest last
    shut_out: list[Identity] = field(default_factory=list)
    made: int = 0

    @property
    def vault(self) -> str:
        return str(self.top / "docs")

    def slots(self, *kinds: str) -> list[Any]:
        return [
            slot
            for slot in operations.list_slots(self.vault)
            if slot["label"] != BOSS and (not kinds or slot["kind"] in kinds)
        ]


def boss(*others: Identity, new: tuple[Recipient, ...] = ()) -> Answers:
    return Answers(
        recipients_given=(),
        identities_given=(KeyIdentity(Secret(SEED)), *others),
        new_recipients_given=new,
        consent=True,
    )


def somebody(kind: str, number: int) -> tuple[Recipient, Identity]:
    label = f"{kind} {number}"
    if kind == "password":
        words = encode_password(label)
        return PasswordRecipient(words, label=label, profile=CHEAPEST), PasswordIdentity(words)
    secret = number.to_bytes(32)
    if kind == "recovery":
        code = Secret(secret)
        return RecoveryRecipient(code, label=label), RecoveryIdentity(code)
    return PublicKeyRecipient(hpke.public_key(secret), label=label), KeyIdentity(Secret(secret))


# -- steps: each makes ready, and returns what a child does and what holds if it ends well --------

Step = tuple["Callable[[], object]", "Callable[[], object]"]


def add(world: World, choice: int) -> Step | None:
    if len(world.slots("password")) > 5:
        return None
    world.made += 1
    recipient, identity = somebody(KINDS[choice % 3], world.made)
    world.keys[f"{KINDS[choice % 3]} {world.made}"] = [identity]
    return lambda: operations.add_slots(world.vault, boss(new=(recipient,))), lambda: None


def remove(world: World, choice: int) -> Step | None:
    if not (slots := world.slots()):
        return None
    slot = slots[choice % len(slots)]
    return (
        lambda: operations.remove_slot(world.vault, boss(), slot["id"], force=True),
        lambda: world.shut_out.extend(world.keys[slot["label"]]),
    )


def passwd(world: World, choice: int) -> Step | None:
    if not (slots := world.slots("password")):
        return None
    slot = slots[choice % len(slots)]
    world.made += 1
    words = encode_password(f"password {world.made}")
    known = world.keys[slot["label"]]
    before = list(known)
    known.append(PasswordIdentity(words))
    new = PasswordRecipient(words, label=slot["label"], profile=CHEAPEST)
    return (
        lambda: operations.change_password(world.vault, boss(new=(new,)), slot["id"]),
        lambda: world.shut_out.extend(before),
    )


def at_hand(world: World, choice: int) -> list[Identity]:
    """Some of the passwords, so that some keyslots become pending."""
    return [
        world.keys[slot["label"]][-1]
        for index, slot in enumerate(world.slots("password"))
        if choice >> index & 1
    ]


def rekey(world: World, choice: int) -> Step:
    answers = boss(*at_hand(world, choice >> 1))
    return (
        lambda: operations.rekey(world.vault, answers, reseal=bool(choice & 1), jobs=1),
        lambda: None,
    )


def revoke(world: World, choice: int) -> Step | None:
    if not (slots := world.slots()):
        return None
    slot = slots[choice % len(slots)]
    gone = world.keys[slot["label"]]
    others = [one for one in at_hand(world, choice >> 1) if one not in gone]
    return (
        lambda: operations.revoke(
            world.vault, boss(*others), slot["id"], force=True, reseal=bool(choice & 1), jobs=1
        ),
        lambda: world.shut_out.extend(gone),
    )


def reseal(world: World, choice: int) -> Step:
    return (
        lambda: operations.reseal_exposed(world.vault, boss(), jobs=1 + choice % 2),
        lambda: None,
    )


def seal(world: World, choice: int) -> Step:
    name, content = f"f{choice % 4}", os.urandom(choice % 5000)
    if name not in world.files:
        (world.top / "docs" / name).write_bytes(content)
        world.files[name] = content
    return (
        lambda: operations.seal(
            SealRequest((world.vault,), jobs=1, state_dir=_state(world)), boss()
        ),
        lambda: None,
    )


def open_(world: World, choice: int) -> Step:
    del choice
    return (
        lambda: operations.open_paths(
            OpenRequest((world.vault,), jobs=1, state_dir=_state(world)), boss()
        ),
        lambda: None,
    )


def _state(world: World) -> str:
    return str(world.top / "state")


STEPS = {one.__name__: one for one in (add, remove, passwd, rekey, revoke, reseal, seal, open_)}


# all steps with one process: a worker that is killed is an error with a name, and no crash
def kill_self(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def play(world: World, name: str, choice: int, killed_at: int) -> None:
    step = STEPS[name](world, choice)
    if step is None:
        return
    work, then = step

    def child() -> object:
        if killed_at:
            calls.probe = Countdown(killed_at, kill_self)
        return work()

    code = wait(fork(lambda: child() and FINISHED))
    wait_for_lock(world.top)
    assert code in (FINISHED, NAMED_ERROR, -signal.SIGKILL), name
    assert code != NAMED_ERROR, f"{name} was refused"
    if code == FINISHED:
        then()


def check(world: World) -> None:
    active = [s for s in operations.list_slots(world.vault) if s["state"] == "active"]
    assert BOSS in [slot["label"] for slot in active]
    for slot in active:
        known = world.keys.get(slot["label"], [KeyIdentity(Secret(SEED))])
        assert any(opens(world, one, slot["id"]) for one in known), f"{slot['label']} is shut out"
        identity = next(one for one in known if opens(world, one, slot["id"]))
        for file, content in world.files.items():
            plain = world.top / "docs" / file
            if plain.exists():
                assert plain.read_bytes() == content
                continue
            answers = Answers(identities_given=(identity,))
            assert b"".join(map(bytes, operations.cat(str(plain), answers))) == content
    for identity in world.shut_out:
        with Vault.load(world.vault) as vault, pytest.raises(NoMatchingKeyslot):
            vault.unlock([identity])


def opens(world: World, identity: Identity, slot_id: str) -> bool:
    with Vault.load(world.vault) as vault:
        try:
            vault.unlock([identity])
        except NoMatchingKeyslot:
            return False
        return vault.opened_by is not None and vault.opened_by.slot_id == slot_id


@pytest.mark.timeout(900)  # many processes, each of which is killed
@given(
    hidden=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(sorted(STEPS)),
            st.integers(0, 63),
            st.just(0) | st.integers(1, 60),
        ),
        min_size=4,
        max_size=9,
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_done_and_killed_every_listed_keyslot_opens_everything(
    base: Path,
    hidden: bool,  # noqa: FBT001 - drawn
    steps: list[tuple[str, int, int]],
) -> None:
    top = Path(tempfile.mkdtemp(dir=base))
    try:
        (top / "docs").mkdir()
        world = World(top, hidden)
        operations.init_vault(world.vault, Answers((RECIPIENT,)), hide_names=hidden)
        play(world, "seal", 41, 0)
        for name, choice, killed_at in steps:
            play(world, name, choice, killed_at)
            check(world)
    finally:
        shutil.rmtree(top)
