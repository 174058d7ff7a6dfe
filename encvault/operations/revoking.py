"""Change a vault's keys, so that who could open it no longer can.

The order: a new vault secret is wrapped for all who stay and the record is stored, which is the
moment that counts; then the data keys are sealed to the new public key; then, if asked for, the
files are sealed anew. A run that is killed leaves a vault that everyone whom ``slot list`` names
can open, and the same command goes on where it stopped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encvault.encoding import encode_base64
from encvault.errors import KeptKeyslot, NoMatchingKeyslot, UnprovedKeyslot
from encvault.i18n import _
from encvault.keyslots import SECRET_SIZE, bare, describe, fingerprint, rewrap, unwrap_any
from encvault.operations.prompter import confirm
from encvault.operations.slots import check_needed, find_slot, held, opened_slot, remember_change
from encvault.secret import Secret
from encvault.vault.report import Observer, Report
from encvault.vault.reseal import find_exposed, reseal_vault

if TYPE_CHECKING:
    from encvault.keyslots import Slot, SlotInfo
    from encvault.operations.prompter import Prompter
    from encvault.operations.recording import Recorder
    from encvault.vault.vault import Vault


@dataclass(slots=True)
class Rekeyed:
    """What a change of keys did, and what it could not.

    Attributes:
        vault: its folder.
        fingerprint: of the new keys.
        former_fingerprint: of the keys before.
        revoked: the keyslots that were dropped.
        pending: those whose passwords must be set again.
        exposed_files, exposed_size: sealed files, and their bytes on disk, that still open with
            the former vault secret and the data keys that it gave.
        unknown_files: sealed files and data keys of which it is not known.
        report: problems; of a run with `reseal` also what was sealed anew.
    """

    vault: str
    fingerprint: str
    former_fingerprint: str
    revoked: list[SlotInfo]
    pending: list[SlotInfo]
    exposed_files: int = 0
    exposed_size: int = 0
    unknown_files: int = 0
    report: Report = field(default_factory=Report)


def rekey(
    path: str,
    prompter: Prompter,
    *,
    reseal: bool = False,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Rekeyed:
    """Give a vault new keys; everyone who has a keyslot keeps it.

    Recipients and recovery codes need not be asked. Passwords that are not at hand become pending.

    Args:
        path: the vault.
        prompter: is asked for a key that opens it, then for consent.
        reseal: whether to seal every file anew as well.
        jobs: worker processes for that, 0 for one per processor.
        observer: of that.

    Raises:
        NoMatchingKeyslot: none of the keys at hand opens it.
        Declined, ConfirmationNeeded: there was no consent.
    """
    with held(path, prompter, "rekey", observer) as (vault, watcher):
        _tell_who_stays(vault, prompter, vault.record.slots, watcher)
        confirm(prompter, _("give {path} new keys?").format(path=vault.path))
        watcher.record(path=vault.path)
        _change(vault, prompter, vault.record.slots, ())
        return _finish(vault, (), reseal=reseal, jobs=jobs, watcher=watcher)


def revoke(
    path: str,
    prompter: Prompter,
    slot_id: str,
    *,
    force: bool = False,
    reseal: bool = False,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Rekeyed:
    """Give a vault new keys that one keyslot does not open.

    Of a keyslot that is revoked already, what a killed run has left to do is done.

    Args:
        path: the vault.
        prompter: is asked for a key that opens it and stays, then for consent.
        slot_id: whom to drop.
        force: also the last one that is not for a private key; never the last of all.
        reseal: whether to seal every file anew as well.
        jobs: worker processes for that, 0 for one per processor.
        observer: of that.

    Raises:
        NoSuchKeyslot: the vault has and had none of this id.
        NeededKeyslot: it must stay.
        KeptKeyslot: the vault was opened by the very one; it takes a key that stays.
    """
    with held(path, prompter, "revoke", observer) as (vault, watcher):
        gone = _revoked(vault, slot_id)
        if not gone:
            slot = find_slot(vault, slot_id)
            rest = tuple(other for other in vault.record.slots if other is not slot)
            check_needed(vault, prompter, slot, force=force)
            if opened_slot(vault) == slot_id:
                _open_otherwise(vault, prompter, slot, rest)
            _tell_who_stays(vault, prompter, rest, watcher)
            confirm(
                prompter,
                _("give {path} new keys that {label} does not open?").format(
                    path=vault.path, label=slot["label"] or slot_id
                ),
            )
            watcher.record(
                path=vault.path, slot=slot["id"], detail=slot["kind"], label=slot["label"]
            )
            _change(vault, prompter, rest, (slot,))
            gone = (bare(slot),)
        else:
            watcher.note(
                _("keyslot {slot} was revoked before: the keys are not changed now").format(
                    slot=slot_id
                )
            )
            _tell_who_stays(vault, prompter, vault.record.slots, watcher)
        return _finish(vault, gone, reseal=reseal, jobs=jobs, watcher=watcher)


def reseal_exposed(
    path: str, prompter: Prompter, *, jobs: int = 0, observer: Observer | None = None
) -> Rekeyed:
    """Seal anew every file that a former vault secret opens; goes on where a killed run stopped."""
    with held(path, prompter, "reseal", observer) as (vault, watcher):
        return _finish(vault, (), reseal=True, jobs=jobs, watcher=watcher)


def _revoked(vault: Vault, slot_id: str) -> tuple[Slot, ...]:
    """The keyslot of this id, if it was revoked already."""
    entries = vault.record.succession
    return tuple(slot for entry in entries for slot in entry.revoked if slot["id"] == slot_id)


def _tell_who_stays(
    vault: Vault, prompter: Prompter, staying: tuple[Slot, ...], watcher: Observer
) -> None:
    """Say whom the new keys will be for, and by which key: a label is what somebody wrote."""
    for info in describe(staying):
        watcher.note(
            _("stays: {label}, keyslot {slot} {fingerprint}")
            .format(label=info["label"], slot=info["id"], fingerprint=info["fingerprint"])
            .rstrip()
        )
    keys = {slot["recipient"] for slot in staying if slot["kind"] == "recipient"}
    for public in prompter.company_keys():
        if encode_base64(public) not in keys:
            watcher.note(
                _("{path} has no keyslot for the company's key {fingerprint}").format(
                    path=vault.path, fingerprint=fingerprint(public)
                )
            )


def _open_otherwise(vault: Vault, prompter: Prompter, slot: Slot, rest: tuple[Slot, ...]) -> None:
    """Open the vault by a keyslot that stays, so that the new one can be proved."""
    identities = prompter.staying_identities(vault.path, slot["label"] or slot["id"])
    try:
        vault.opened_by = unwrap_any(rest, identities, vault.path)
    except NoMatchingKeyslot:
        raise KeptKeyslot(path=vault.path, slot=slot["id"]) from None


def _change(
    vault: Vault, prompter: Prompter, staying: tuple[Slot, ...], revoked: tuple[Slot, ...]
) -> None:
    """Wrap a new secret for who stays, and make it the vault's; durable on return."""
    secret = Secret(os.urandom(SECRET_SIZE))
    slots: list[Slot] = []
    dropped = {slot["id"] for slot in revoked}
    pending = [slot for slot in vault.record.pending if slot["id"] not in dropped]
    for slot in staying:
        renewed = _renewed(vault, prompter, slot, secret)
        if renewed is None:
            pending.append(bare(slot))
        else:
            slots.append(renewed)
    proof = unwrap_any(
        [slot for slot in slots if slot["id"] == opened_slot(vault)],
        prompter.identities(vault.path),
        vault.path,
    )
    if proof.secret != secret:
        raise UnprovedKeyslot(path=vault.path)
    proof.secret.wipe()
    vault.change_keys(secret, tuple(slots), tuple(pending), tuple(bare(slot) for slot in revoked))
    remember_change(vault, prompter)


def _renewed(vault: Vault, prompter: Prompter, slot: Slot, secret: Secret) -> Slot | None:
    """The keyslot with the new secret in it, or None if its password is not at hand."""
    if slot["kind"] != "password":
        return rewrap(slot, secret)
    if vault.opened_by is not None and vault.opened_by.slot_id == slot["id"]:
        return vault.opened_by.rewrap(secret)
    for identity in prompter.passwords_for(vault.path, slot["label"] or slot["id"]):
        if (found := identity.unwrap([slot], vault.path)) is not None:
            found.secret.wipe()
            return found.rewrap(secret)
    return None


def _finish(
    vault: Vault, gone: tuple[Slot, ...], *, reseal: bool, jobs: int, watcher: Recorder
) -> Rekeyed:
    """What comes after the new record, in this run or the next one."""
    former = vault.record.former_fingerprints
    done = Rekeyed(
        vault=vault.path,
        fingerprint=vault.record.fingerprint,
        former_fingerprint=former[-1] if former else "",
        revoked=describe(gone, "revoked"),
        pending=describe(vault.record.pending),
    )
    _count, problems = vault.renew_data_keys()
    done.report.doubt(problems, watcher)
    if reseal:
        done.report.add(reseal_vault(vault, jobs=jobs, observer=watcher))
    exposure = find_exposed(vault)
    done.exposed_files, done.exposed_size = exposure.files, exposure.size
    done.unknown_files = len(exposure.problems) + len(problems)
    if not reseal:  # else they were told on the way
        done.report.doubt(exposure.problems, watcher)
    watcher.reported(done.report)
    return done
