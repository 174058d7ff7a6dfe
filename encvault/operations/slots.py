"""Who can open a vault: list, add, remove and change its keyslots.

Every change needs a key that opens the vault now, writes a whole new record (generation one higher)
beside the old one, and touches no sealed file.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import selftest
from encvault.encoding import decode_base64
from encvault.errors import (
    InvalidRequest,
    NeededKeyslot,
    NoSuchKeyslot,
    StateUnavailable,
    UnprovedKeyslot,
)
from encvault.i18n import N_, _
from encvault.keyslots import (
    RecoveryIdentity,
    RecoveryRecipient,
    SlotInfo,
    describe,
    encode_code,
    new_code,
    unwrap_any,
)
from encvault.operations.places import refuse, storage, top_of, unlocked
from encvault.operations.recording import Recorder, recording
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.accesslog.log import AccessLog
    from encvault.keyslots import Recipient, Slot
    from encvault.operations.prompter import Prompter
    from encvault.vault.report import Observer

_LAST = N_("it is the last one")
_LAST_PERSONAL = N_("without it only identity files open the vault")
_COMPANYS = N_("the configuration wants it in every vault; --force removes it all the same")


class RecoveryCode(NamedTuple):
    """A new recovery code, for a sheet of paper.

    Attributes:
        code: the code as text; a secret.
        slot: its keyslot.
        vault: the vault's folder.
        fingerprint: the vault's.
    """

    code: str
    slot: SlotInfo
    vault: str
    fingerprint: str


def list_slots(path: str) -> list[SlotInfo]:
    """A vault's keyslots, pending ones included; needs no key.

    Raises:
        NotAVault: `path` is no vault and in none.
    """
    top = top_of(path)
    with storage(path), Vault.load(top) as vault:
        return describe((*vault.record.slots, *vault.record.pending))


def add_slots(
    path: str,
    prompter: Prompter,
    *,
    label: str | None = None,
    observer: Observer | None = None,
) -> list[SlotInfo]:
    """Let more people open a vault.

    Args:
        path: the vault.
        prompter: is asked for a key that opens it, then whom to add.
        label: of the new keyslots, or None for what describes them best.
        observer: is told what is worth knowing.

    Returns:
        The new keyslots. Those for a password were opened once before they counted; those for
        public keys only their owners can open.

    Raises:
        InvalidRequest: a recipient has a keyslot already, or there would be too many.
    """
    with held(path, prompter, "slot.add", observer) as (vault, recorder):
        recipients = prompter.new_recipients(vault.path, label)
        added: list[Slot] = []
        for recipient in recipients:
            if recipient.fits((*vault.record.slots, *added), vault.path):
                raise InvalidRequest(reason=_("who shall be added has a keyslot already"))
            added.append(_proved(vault, recipient))
        for slot in added:
            recorder.record(**_members(vault, slot))
        vault.change_slots((*vault.record.slots, *added))
        prompter.slots_made()
        return describe(added)


def remove_slot(
    path: str,
    prompter: Prompter,
    slot_id: str,
    *,
    force: bool = False,
    observer: Observer | None = None,
) -> SlotInfo:
    """Take a keyslot away.

    Whoever could open it keeps what the vault secret opens: old copies of the vault, and this one
    if he kept the secret (docs/threat-model.md, N9).

    Args:
        path: the vault.
        prompter: is asked for a key that opens it.
        slot_id: which one.
        force: also the last one that is not for a private key; never the last of all.
        observer: is told what is worth knowing.

    Raises:
        NoSuchKeyslot, NeededKeyslot: there is none; it must stay.
    """
    with held(path, prompter, "slot.remove", observer) as (vault, recorder):
        slot = find_slot(vault, slot_id)
        rest = _without(vault.record.slots, slot)
        check_needed(vault, prompter, slot, force=force)
        recorder.record(**_members(vault, slot))
        vault.change_slots(rest, _without(vault.record.pending, slot))
        return describe([slot])[0]


def check_needed(vault: Vault, prompter: Prompter, slot: Slot, *, force: bool) -> None:
    """Refuse to drop a keyslot that must stay.

    Args:
        vault: whose it is.
        prompter: knows whom the company wants in every vault.
        slot: to drop.
        force: also the company's, and the last one that is not for a private key; never the last
            of all.

    Raises:
        NeededKeyslot: it must stay.
    """
    rest = _without(vault.record.slots, slot)
    if not rest:
        raise NeededKeyslot(path=vault.path, slot=slot["id"], reason=_(_LAST))
    if force or slot in vault.record.pending:
        return
    if slot["kind"] == "recipient":
        if decode_base64(slot["recipient"]) in prompter.company_keys():
            raise NeededKeyslot(path=vault.path, slot=slot["id"], reason=_(_COMPANYS))
        return
    if all(other["kind"] == "recipient" for other in rest):
        raise NeededKeyslot(path=vault.path, slot=slot["id"], reason=_(_LAST_PERSONAL))


def change_password(
    path: str,
    prompter: Prompter,
    slot_id: str | None = None,
    *,
    observer: Observer | None = None,
) -> SlotInfo:
    """Put a new password in the place of an old one; the files stay as they are.

    Args:
        path: the vault.
        prompter: is asked for a key that opens it, then for the new password.
        slot_id: the keyslot to change, which may be pending, or None for the one that opened.
        observer: is told what is worth knowing.

    Raises:
        InvalidRequest: that keyslot is not for a password.
        NoSuchKeyslot: there is none of this id.
    """
    with held(path, prompter, "slot.passwd", observer) as (vault, recorder):
        old = find_slot(vault, slot_id or opened_slot(vault))
        if old["kind"] != "password":
            raise InvalidRequest(
                reason=_("keyslot {slot} is not for a password; name one with --slot").format(
                    slot=old["id"]
                )
            )
        (recipient,) = prompter.new_recipients(vault.path, old["label"])
        new = _proved(vault, recipient)
        slots = tuple(new if slot is old else slot for slot in vault.record.slots)
        if old in vault.record.pending:
            slots = (*slots, new)
        recorder.record(**_members(vault, new))
        vault.change_slots(slots, _without(vault.record.pending, old))
        prompter.slots_made()
        return describe([new])[0]


def add_recovery(
    path: str,
    prompter: Prompter,
    *,
    label: str = "",
    deliver: Callable[[RecoveryCode], None] = lambda _code: None,
    observer: Observer | None = None,
) -> RecoveryCode:
    """Make a recovery code for a vault. It is shown once: only its keyslot is kept.

    Args:
        path: the vault.
        prompter: is asked for a key that opens it.
        label: of the keyslot.
        deliver: hands the code over; if it raises, the keyslot is taken back, for a code that
            nobody has must not count as a way in.
        observer: is told what is worth knowing.
    """
    with held(path, prompter, "recovery.add", observer) as (vault, recorder), new_code() as code:
        before = vault.record.slots
        slot = _proved(vault, RecoveryRecipient(code, label=label))
        recorder.record(**_members(vault, slot))
        vault.change_slots((*before, slot))
        made = RecoveryCode(
            encode_code(code), describe([slot])[0], vault.path, vault.record.fingerprint
        )
        try:
            deliver(made)
        except BaseException:
            vault.change_slots(before)
            raise
        return made


def check_recovery(
    path: str,
    identity: RecoveryIdentity,
    *,
    log: AccessLog | None = None,
    observer: Observer | None = None,
) -> SlotInfo:
    """Whether a recovery code opens a vault, without opening anything in it.

    Args:
        path: the vault.
        identity: of the code.
        log: where that is recorded, or None.
        observer: is told what is worth knowing.

    Returns:
        The keyslot that it fits.

    Raises:
        NoMatchingKeyslot: it fits none.
    """
    selftest.run()
    with (
        recording(log, "unlock", path, observer) as recorder,
        storage(path),
        Vault.load(top_of(path)) as vault,
    ):
        recorder.ready()
        slot_id = unwrap_any(vault.record.slots, [identity], vault.path).slot_id
        slot = find_slot(vault, slot_id)
        recorder.record(**_members(vault, slot))
        return describe([slot])[0]


@contextlib.contextmanager
def held(
    path: str, prompter: Prompter, op: str, observer: Observer | None = None
) -> Iterator[tuple[Vault, Recorder]]:
    """A vault, named by its own folder, unlocked and held for a change of its keys.

    Args:
        path: the vault.
        prompter: is asked for a key that opens it.
        op: what the change is, for the access log; who changes records it before it counts.
        observer: is told as well.
    """
    selftest.run()
    with (
        recording(prompter.access_log(), op, path, observer) as recorder,
        storage(path),
        unlocked(path, prompter, refuse) as (vault, inside),
    ):
        if inside:
            raise InvalidRequest(
                reason=_("name the vault's own folder: {path}").format(path=vault.path)
            )
        vault.hold()
        with recorder.inside(vault):
            yield vault, recorder
        remember_change(vault, prompter)


def _members(vault: Vault, slot: Slot) -> dict[str, str | int]:
    """What an entry about a keyslot says."""
    return {
        "path": vault.path,
        "vault": vault.record.id,
        "slot": slot["id"],
        "detail": slot["kind"],
        "label": slot["label"],
    }


def remember_change(vault: Vault, prompter: Prompter) -> None:
    """Remember the vault's record as it was just changed.

    The change stands whether or not this machine can remember it: the next run meets a record that
    is newer, or that the known key signed for.
    """
    with contextlib.suppress(StateUnavailable):
        prompter.known_vaults().remember(vault.record, vault.path, told=True)


def find_slot(vault: Vault, slot_id: str) -> Slot:
    """The keyslot of this id, which may be pending.

    Raises:
        NoSuchKeyslot: there is none.
    """
    for slot in (*vault.record.slots, *vault.record.pending):
        if slot["id"] == slot_id:
            return slot
    raise NoSuchKeyslot(path=vault.path, slot=slot_id)


def _without(slots: tuple[Slot, ...], slot: Slot) -> tuple[Slot, ...]:
    return tuple(other for other in slots if other is not slot)


def opened_slot(vault: Vault) -> str:
    """The id of the keyslot that an unlocked vault was opened by."""
    if vault.opened_by is None:
        raise AssertionError("slots: the vault was not unlocked")
    return vault.opened_by.slot_id


def _proved(vault: Vault, recipient: Recipient) -> Slot:
    """A new keyslot, which opens where that can be known without somebody's private key."""
    slot = recipient.wrap(vault.secret)
    identity = recipient.identity()
    if identity is not None:
        unwrapped = identity.unwrap([slot], vault.path)
        if unwrapped is None or unwrapped.secret != vault.secret:
            raise UnprovedKeyslot(path=vault.path)
    return slot
