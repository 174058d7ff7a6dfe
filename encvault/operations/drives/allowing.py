"""Enter drives into the company's register, and take them out of it."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, NamedTuple

from encvault.accesslog.words import visible
from encvault.errors import (
    DriveAbsent,
    DriveAmbiguous,
    DriveError,
    DriveNeverLocked,
    EncvaultError,
    InvalidRequest,
    NotAVault,
    NotRegistered,
)
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.operations.drives.found import Which, reached
from encvault.operations.drives.locking import check_writable
from encvault.operations.places import storage
from encvault.operations.recording import recording
from encvault.usb.drives import find_drive
from encvault.usb.register import (
    MAX_TEXT_LENGTH,
    Register,
    Registration,
    remove_note,
    write_note,
)
from encvault.usb.registrar import registrar
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from encvault.operations.prompter import Prompter
    from encvault.vault.report import Observer


class AllowRequest(NamedTuple):
    """Which drive to register and how; the fields are the options of ``encvault usb allow``.

    Attributes:
        drive: see `encvault.usb.drives.find_drive`.
        register_path: of the register.
        label: what the company calls it, or "" for the label of its file system.
        owner: who has it, or "".
        expires_at: the last day on which it counts, or None.
    """

    drive: str
    register_path: str
    label: str = ""
    owner: str = ""
    expires_at: date | None = None


def allow(request: AllowRequest, prompter: Prompter, observer: Observer) -> Registration:
    """Enter a drive that was locked into the register, and put the note that proves it on it.

    Raises:
        DriveNeverLocked: it has no id.
        InvalidRequest: a text or the day cannot be.
        RegisterKeyMissing, RegisterDamaged: see `encvault.usb.registrar`.
        EncvaultError: the drive is not found or cannot be written.
    """
    today = datetime.now(UTC).date()
    for text in (request.label, request.owner):
        if len(text) > MAX_TEXT_LENGTH or not text.isprintable():
            reason = _("a label or owner has at most {count} characters, all printable")
            raise InvalidRequest(reason=reason.format(count=MAX_TEXT_LENGTH))
    if request.expires_at is not None and request.expires_at < today:
        raise InvalidRequest(reason=_("the day on which it expires has passed"))
    drive = find_drive(request.drive)
    path, device = drive.folder, drive.device
    try:
        with Vault.load(path) as vault:
            record = vault.record
    except NotAVault:
        raise DriveNeverLocked(path=path, which=Which(request.drive).words) from None
    registration = Registration(
        id=record.id,
        fingerprint=record.fingerprint,
        label=request.label or visible(device.content.label)[:MAX_TEXT_LENGTH],
        owner=request.owner,
        issued_at=today,
        expires_at=request.expires_at,
        vendor_id=device.vendor_id,
        product_id=device.product_id,
        serial=device.serial,
        size=device.size,
    )
    with (
        recording(prompter.access_log(), "usb.add", path, observer) as recorder,
        reached(path) as tree,
        registrar(request.register_path) as keeper,
    ):
        check_writable(path)
        note = keeper.sign(registration)
        recorder.record(
            path=path, vault=record.id, label=registration.label, detail=registration.owner
        )
        write_note(tree, note)
        keeper.enter(registration, note)
        twins = keeper.register.not_told_from(registration)
    if not registration.serial:
        observer.note(_("its hardware has no serial number: a copy of it cannot be told by that"))
    elif twins:
        names = ", ".join(one.label or one.id for one in twins)
        observer.note(
            _("its hardware says the same of itself as that of {names}").format(names=names)
        )
    return registration


def registered_drives(register_path: str) -> list[Registration]:
    """The register, in the order in which drives were entered.

    Raises:
        RegisterDamaged: see `encvault.usb.register.Register`.
    """
    return Register.load(register_path).all()


def forget(name: str, register_path: str, prompter: Prompter, observer: Observer) -> Registration:
    """Take a drive out of the register, and the note off it if it is plugged in.

    Args:
        name: its id or label, or whatever finds it while it is plugged in.
        register_path: of the register.
        prompter: has the log.
        observer: is told if the note stays.

    Returns:
        What the register said of it.

    Raises:
        NotRegistered: the register has none that is called so.
        DriveAmbiguous: it has several.
        RegisterKeyMissing, RegisterDamaged: see `encvault.usb.registrar`.
    """
    found = _registered(name, Register.load(register_path))
    with (
        recording(prompter.access_log(), "usb.remove", "", observer) as recorder,
        storage(register_path),
        registrar(register_path) as keeper,
    ):
        recorder.record(vault=found.id, label=found.label, detail=found.owner)
        keeper.remove(found.id)
    with contextlib.suppress(DriveAbsent):
        try:
            with Tree(find_drive(found.id).folder) as tree:
                remove_note(tree)
        except (DriveError, DriveAmbiguous, OSError) as error:
            if isinstance(error, DriveAbsent):
                raise
            observer.note(_("its note stays on the drive, and proves nothing any more"))
    return found


def _registered(name: str, register: Register) -> Registration:
    everything = register.all()
    found = [one for one in everything if name.casefold() in (one.id, one.label.casefold())]
    if not found:
        with contextlib.suppress(EncvaultError):
            drive = find_drive(name).id
            found = [one for one in everything if one.id == drive]
    if not found:
        raise NotRegistered(drive=name)
    if len(found) > 1:
        raise DriveAmbiguous(drive=name, found=", ".join(one.id for one in found))
    return found[0]
