"""The register of a company's drives, and the note on each of them that proves it is one.

The note is a signed note (c2sp.org/signed-note) of the register's Ed25519 key. Who has the drive
can copy it, so what the hardware says of itself is in it as well: as a hint, since many drives say
the same (docs/usb.md, "The company's drives").
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from encvault import config
from encvault.encoding import decode_json, encode_json, is_id
from encvault.errors import (
    EncvaultError,
    ForgedNote,
    MalformedNote,
    RegisterDamaged,
    UnknownSigner,
)
from encvault.fs import durable
from encvault.i18n import N_, Text, _
from encvault.tlog.notes import Note, VerifierKey
from encvault.vault.manifest import FOLDER, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from encvault.fs.tree import Tree
    from encvault.usb.devices import Device
    from encvault.vault.manifest import VaultRecord

NOTE_FILE = "drive.id"
MAX_NOTE_SIZE = 16_384  # bytes
MAX_REGISTER_SIZE = 16 << 20  # bytes: tens of thousands of drives
MAX_TEXT_LENGTH = 200  # characters

_HEADER = "encvault-drive/v1\n"
_VERSION = 1

_STANDINGS = {
    "registered": N_("registered"),
    "expired": N_("its registration has expired"),
    "unregistered": N_("not registered"),
    "doubtful": N_("doubtful"),
}

StandingState = Literal["registered", "expired", "unregistered", "doubtful"]


class Registration(NamedTuple):
    """What the register says of one drive.

    Attributes:
        id: of the drive, 26 characters.
        fingerprint: of its keys.
        label: of its file system, or what the company calls it.
        owner: who has it, or "".
        issued_at: the day of the registration.
        expires_at: the last day on which it counts, or None.
        vendor_id, product_id, serial, size: of the hardware then; see `Device`.
    """

    id: str
    fingerprint: str
    label: str
    owner: str
    issued_at: date
    expires_at: date | None
    vendor_id: str
    product_id: str
    serial: str
    size: int

    def encode(self) -> str:
        """The text of its note: a header, and canonical JSON in one line."""
        members: dict[str, str | int] = {
            "id": self.id,
            "fingerprint": self.fingerprint,
            "label": self.label,
            "owner": self.owner,
            "issued_at": self.issued_at.isoformat(),
            "expires_at": self.expires_at.isoformat() if self.expires_at else "",
            "vendor_id": self.vendor_id,
            "product_id": self.product_id,
            "serial": self.serial,
            "size": self.size,
        }
        return f"{_HEADER}{encode_json(members).decode()}\n"

    @classmethod
    def decode(cls, note: Note, place: str) -> Registration:
        """What a note says; its signature is checked elsewhere.

        Raises:
            MalformedNote: it is no note of a drive.
        """
        line = note.text.removeprefix(_HEADER).removesuffix("\n")
        try:
            members: dict[str, Any] = decode_json(line.encode())
            is_typed = all(
                type(it) is (int if name == "size" else str) for name, it in members.items()
            )
            expires = members.pop("expires_at")
            found = cls(
                issued_at=date.fromisoformat(members.pop("issued_at")),
                expires_at=date.fromisoformat(expires) if expires else None,
                **members,
            )
            is_note = is_typed and is_id(found.id) and found.encode() == note.text
        except (ValueError, TypeError, KeyError, AttributeError):
            is_note = False
        if not is_note:
            raise MalformedNote(place=place, reason=_("not the note of a drive"))
        return found

    def difference(self, device: Device) -> Text | None:
        """What of a device's hardware is another.

        What was not known when it was registered tells nothing, and nor does a device that is not
        on USB now, as in a reader of cards.
        """
        if not device.vendor_id:
            return None
        pairs = (
            (N_("the maker is another"), self.vendor_id, device.vendor_id),
            (N_("the product is another"), self.product_id, device.product_id),
            (N_("the serial number is another"), self.serial, device.serial),
            (N_("the size is another"), self.size, device.size),
        )
        for reason, then, now in pairs:
            if then and then != now:
                return _(reason)
        return None


class Standing(NamedTuple):
    """Whether a drive is one of the company's.

    Attributes:
        state: ``registered``, ``expired``, ``unregistered`` or ``doubtful``.
        registration: what the register says of it, or None.
        reason: why it is doubtful, or "".
    """

    state: StandingState
    registration: Registration | None = None
    reason: str = ""

    @property
    def text(self) -> Text:
        """In the user's language."""
        if self.reason:
            return _("doubtful: {reason}").format(reason=self.reason)
        return _(_STANDINGS[self.state])


@dataclass(frozen=True, slots=True)
class Register:
    """The company's drives.

    Attributes:
        path: the register's file, absolute.
        key: what verifies the notes; None while there is no register.
        notes: the signed note of each drive, by its id; `find` verifies them.
    """

    path: str
    key: VerifierKey | None = None
    notes: Mapping[str, Note] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str) -> Register:
        """The register in a file; an empty one if there is none.

        Raises:
            RegisterDamaged: it is no register.
            ConfigUnreadable, UntrustedConfig: see `encvault.config.read`.
        """
        path = os.path.abspath(path)
        data = config.read(path, MAX_REGISTER_SIZE)
        if data is None:
            return cls(path)
        try:
            value: Any = decode_json(data.removesuffix(b"\n"))
            key = VerifierKey.decode(value["key"], path)
            texts = value["drives"].items()
            notes = {drive: Note.decode(text.encode(), path) for drive, text in texts}
            is_register = value["version"] == _VERSION
        except (ValueError, TypeError, KeyError, AttributeError, EncvaultError):
            is_register = False
        if not is_register:
            raise RegisterDamaged(path=path)
        return cls(path, key, notes)

    def encode(self) -> bytes:
        """The file; only of one that has a key."""
        key = self.key.encode() if self.key is not None else ""
        drives = {drive: note.encode().decode() for drive, note in self.notes.items()}
        value = {"version": _VERSION, "key": key, "drives": drives}
        return encode_json(value) + b"\n"

    def find(self, drive: str) -> Registration | None:
        """What the register says of a drive, or None.

        Raises:
            RegisterDamaged: that was not signed by its key.
        """
        note = self.notes.get(drive)
        if note is None:
            return None
        try:
            found = self._said(note, self.path)
        except EncvaultError:
            raise RegisterDamaged(path=self.path) from None
        if found.id != drive:
            raise RegisterDamaged(path=self.path)
        return found

    def all(self) -> list[Registration]:
        """What it says of each, in the order in which they were entered.

        Raises:
            RegisterDamaged: see `find`.
        """
        return [found for drive in self.notes if (found := self.find(drive)) is not None]

    def not_told_from(self, one: Registration) -> list[Registration]:
        """Other drives whose hardware says the same of itself."""

        def hardware(of: Registration) -> tuple[object, ...]:
            return of.vendor_id, of.product_id, of.serial

        return [it for it in self.all() if it.id != one.id and hardware(it) == hardware(one)]

    def _said(self, note: Note, place: str) -> Registration:
        note.check([self.key] if self.key is not None else [], place)
        return Registration.decode(note, place)

    def standing(
        self, record: VaultRecord, device: Device, data: bytes | None, today: date
    ) -> Standing:
        """Whether a drive is one of the company's.

        Args:
            record: of the vault on it.
            device: its hardware.
            data: the note that lies on it, or None.
            today: in UTC.

        Raises:
            RegisterDamaged: see `find`.
        """
        listed = self.find(record.id)
        try:
            doubt = self._doubt(record, device, data, listed)
        except UnknownSigner:
            return Standing("unregistered")
        if doubt is not None:
            return Standing("doubtful", listed, doubt)
        if listed is None:
            return Standing("unregistered")
        is_over = listed.expires_at is not None and today > listed.expires_at
        return Standing("expired" if is_over else "registered", listed)

    def _doubt(
        self, record: VaultRecord, device: Device, data: bytes | None, listed: Registration | None
    ) -> str | None:
        if data is None:
            return _("its note is missing") if listed is not None else None
        try:
            noted = self._said(Note.decode(data, NOTE_FILE), NOTE_FILE)
        except (MalformedNote, ForgedNote) as error:
            return str(error)
        if noted.id != record.id:
            return _("its note is that of another drive")
        # keys that were changed since are signed for by those before
        if noted.fingerprint not in (record.fingerprint, *record.former_fingerprints):
            return _("its keys are others")
        return None if listed is None else listed.difference(device)


# -- the note on the drive ------------------------------------------------------------------


def read_note(tree: Tree) -> bytes | None:
    """The note on a drive, not verified; None if there is none that can be read."""
    try:
        return durable.read_file(tree, f"{FOLDER}/{NOTE_FILE}", MAX_NOTE_SIZE)
    except OSError:
        return None


def write_note(tree: Tree, note: Note) -> None:
    """Put it on the drive, durable on return.

    Raises:
        OSError: it could not be written.
    """
    durable.write_file(
        tree, FOLDER, NOTE_FILE, note.encode(), file_id=new_id(), mode=0o644, replace=True
    )


def remove_note(tree: Tree) -> None:
    """Take it off the drive, durable on return."""
    folder = tree.folder(FOLDER)
    durable.discard(folder, NOTE_FILE)
    os.fsync(folder)
