"""The vaults that this machine has met, so that nobody exchanges one for a vault of his own.

As ssh does with hosts: at the first use the vault's signing key is remembered, and from then on
another key is refused, unless the known key signed for it (docs/format.md section 6.3) or the user
states the new fingerprint. Without this, who can write to a shared folder could make a run that
only seals do so for his key (docs/threat-model.md, N5).

The file ``known_vaults.json`` lies in the local state folder and is for people to read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.encoding import decode_base64, encode_base64, is_id
from encvault.errors import (
    FormerKeys,
    KnownVaultsDamaged,
    ReplacedKeys,
    RolledBack,
    StateUnavailable,
    StrangeVault,
    VaultChanged,
)
from encvault.fs import durable, locks
from encvault.fs.tree import Tree
from encvault.i18n import system_reason
from encvault.keyslots import now_text
from encvault.vault.keys import vault_fingerprint
from encvault.vault.manifest import RECORD_FILES, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from encvault.vault.manifest import VaultRecord

FILE = "known_vaults.json"
LOCK_FILE = "known_vaults.lock"
MAX_SIZE = 64 << 20
MAX_PLACES = 1000  # of one vault; the oldest are forgotten

_VERSION_MEMBER = "encvault_known_vaults"


class KnownVault(NamedTuple):
    """What is remembered of one vault.

    Attributes:
        id: the vault's.
        sign_public: its Ed25519 public key, 32 bytes.
        former: fingerprints that it had before, by keys that signed for their successors.
        first_seen_at: time text.
        told: whether its fingerprint was shown to the user before something was sealed into it.
        places: the folders where it was found, resolved, the latest last, and the generation of
            its record there.
    """

    id: str
    sign_public: bytes
    former: tuple[str, ...]
    first_seen_at: str
    told: bool
    places: Mapping[str, int]

    @property
    def fingerprint(self) -> str:
        """The vault's, by the remembered key."""
        return vault_fingerprint(self.id, self.sign_public)

    def is_current(self, record: VaultRecord) -> bool:
        """Whether a record is signed by the remembered key, or one that it signed for."""
        return self.fingerprint in (record.fingerprint, *record.former_fingerprints)


class KnownVaults(NamedTuple):
    """What the user states of vaults, and what this machine remembers of them.

    Attributes:
        state_dir: the local state folder, or None to remember nothing.
        stated: the fingerprint that the vault at hand must have, or "".
        pins: gives fingerprints by resolved folder, from the configuration, when they are needed.
        is_drive: whether a folder is where a removable drive is mounted. Today it is this one and
            tomorrow another, so what is remembered is not the folder but the drive.
    """

    state_dir: str | None = None
    stated: str = ""
    pins: Callable[[], Mapping[str, str]] = dict
    is_drive: Callable[[str], bool] = lambda _path: False

    def _place(self, record: VaultRecord, path: str) -> str:
        """Where a vault is, as it is remembered."""
        return f"drive:{record.id}" if self.is_drive(path) else os.path.realpath(path)

    def expected(self, path: str) -> str:
        """The fingerprint that the vault in a folder must have, or "": stated or configured."""
        return self.stated or self.pins().get(os.path.realpath(path), "")

    def check(self, record: VaultRecord, path: str) -> FormerKeys | RolledBack | None:
        """Refuse a vault that is another than the one that is known.

        What is stated or configured says which vault it is, and may be a fingerprint from before
        its keys were changed; it never makes a key good again that was replaced.

        Args:
            record: of the vault.
            path: its folder.

        Returns:
            What to report of an older state of the right vault, or None.

        Raises:
            VaultChanged: its key is not the known one, and none that the known one signed for.
            StrangeVault: it is met for the first time, inside a known one.
            StateUnavailable, KnownVaultsDamaged: what is remembered cannot be read.
        """
        expected = self.expected(path)
        if expected and expected not in (record.fingerprint, *record.former_fingerprints):
            raise VaultChanged(path=path, expected=expected, found=record.fingerprint)
        place = self._place(record, path)
        known = self._load()
        entry = known.get(record.id)
        if entry is not None and record.fingerprint in entry.former:
            return FormerKeys(path=path, known=entry.fingerprint)
        if self.stated == record.fingerprint:
            return None
        if entry is not None and not entry.is_current(record):
            raise VaultChanged(path=path, expected=entry.fingerprint, found=record.fingerprint)
        if entry is None or place not in entry.places:
            self._check_place(known, record, path, place, is_new=entry is None)
            return None
        if record.generation < entry.places[place]:
            return RolledBack(
                path=path,
                generation=record.generation,
                known=entry.places[place],
                fingerprint=record.fingerprint,
            )
        return None

    @staticmethod
    def _check_place(
        known: dict[str, KnownVault], record: VaultRecord, path: str, place: str, *, is_new: bool
    ) -> None:
        """Refuse a vault in the place of another one, and a new one inside a known one.

        Who can write to a share could otherwise plant one in a subfolder.
        """
        for other in known.values():
            if other.id == record.id:
                continue
            if place in other.places:
                raise VaultChanged(path=path, expected=other.fingerprint, found=record.fingerprint)
            for outer in other.places if is_new else ():
                if place.startswith(os.path.join(outer, "")) and _holds_vault(outer):
                    raise StrangeVault(path=path, outer=outer, found=record.fingerprint)

    def check_for_sealing(self, record: VaultRecord, path: str) -> RolledBack | None:
        """The same for who would seal: a former key may be that of somebody who was revoked.

        Raises:
            VaultChanged: as `check`.
            ReplacedKeys: its key was replaced by the known one.
        """
        doubt = self.check(record, path)
        if isinstance(doubt, FormerKeys):
            raise ReplacedKeys(path=path, known=doubt.known)
        return doubt

    def is_met(self, record: VaultRecord) -> bool:
        """Whether this machine has made, opened or sealed into the vault before."""
        return self.state_dir is None or record.id in self._load()

    def is_untold(self, record: VaultRecord) -> bool:
        """Whether the vault's fingerprint was never shown on this machine."""
        if self.state_dir is None:
            return False
        entry = self._load().get(record.id)
        return entry is None or not entry.told

    def at(self, path: str) -> str:
        """The fingerprint of a vault that was in this folder when it was last seen, or ""."""
        place = os.path.realpath(path)
        found = [entry.fingerprint for entry in self._load().values() if place in entry.places]
        return found[-1] if found else ""

    def remember(self, record: VaultRecord, path: str, *, told: bool, made: bool = False) -> None:
        """Remember a vault that `check` let pass; durable on return.

        Args:
            record: of the vault.
            path: its folder.
            told: whether its fingerprint is shown now.
            made: whether it was made just now, in the place of whatever was there before.

        Raises:
            StateUnavailable: it cannot be written.
        """
        if self.state_dir is None:
            return
        if self._with(self._load(), record, path, told=told, made=made) is None:
            return  # as nearly always: nothing new
        with self._reported(), Tree.made(self.state_dir) as tree, locks.waiting(tree, LOCK_FILE):
            known = self._with(self._load(), record, path, told=told, made=made)
            if known is not None:
                data = _encode(known)
                durable.write_file(tree, "", FILE, data, file_id=new_id(), mode=0o600, replace=True)

    def _with(
        self,
        known: dict[str, KnownVault],
        record: VaultRecord,
        path: str,
        *,
        told: bool,
        made: bool,
    ) -> dict[str, KnownVault] | None:
        """What to remember from now on, or None if it is no more than before."""
        place = self._place(record, path)
        after = dict(known)
        if made:  # the one that was here is not here any more
            for other in known.values():
                if place in other.places:
                    left = {at: number for at, number in other.places.items() if at != place}
                    after[other.id] = other._replace(places=left)
        entry = after.get(record.id)
        if entry is None:
            entry = KnownVault(record.id, record.sign_public, (), now_text(), told, {})
        elif record.fingerprint in entry.former:
            return None  # reading an old copy teaches nothing
        generation = record.generation
        if self.stated != record.fingerprint:
            generation = max(generation, entry.places.get(place, 0))
        places = {at: number for at, number in entry.places.items() if at != place}
        if entry.places.get(place) == generation:
            places = dict(entry.places)
        places[place] = generation
        after[record.id] = entry._replace(
            sign_public=record.sign_public,
            former=tuple(record.former_fingerprints),
            told=entry.told or told,
            places=dict(list(places.items())[-MAX_PLACES:]),
        )
        return after if after != known else None

    def _load(self) -> dict[str, KnownVault]:
        if self.state_dir is None:
            return {}
        with self._reported():
            try:
                with Tree(self.state_dir) as tree:
                    data = durable.read_file(tree, FILE, MAX_SIZE)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        try:
            return _decode(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise KnownVaultsDamaged(path=os.path.join(self.state_dir, FILE)) from None

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.EEXIST:  # of a folder that is to be made
                error = NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            path = os.path.join(self.state_dir or "", FILE)
            raise StateUnavailable(path=path, reason=system_reason(error)) from None


def _holds_vault(path: str) -> bool:
    return any(os.path.lexists(os.path.join(path, name)) for name in RECORD_FILES)


def _encode(known: dict[str, KnownVault]) -> bytes:
    vaults = [
        {
            "id": entry.id,
            "fingerprint": entry.fingerprint,
            "sign_public": encode_base64(entry.sign_public),
            "former_fingerprints": list(entry.former),
            "first_seen_at": entry.first_seen_at,
            "told": entry.told,
            "places": dict(entry.places),
        }
        for entry in known.values()
    ]
    text = json.dumps({_VERSION_MEMBER: 1, "vaults": vaults}, indent=1)
    return text.encode() + b"\n"


def _decode(data: bytes) -> dict[str, KnownVault]:
    """What `_encode` wrote; any exception of `json` or of a wrong shape if it is damaged."""
    value: Any = json.loads(data)
    if value[_VERSION_MEMBER] != 1:
        raise ValueError
    known = {}
    for item in value["vaults"]:
        entry = KnownVault(
            id=item["id"],
            sign_public=decode_base64(item["sign_public"]),
            former=tuple(item["former_fingerprints"]),
            first_seen_at=item["first_seen_at"],
            told=item["told"],
            places=dict(item["places"]),
        )
        if not is_id(entry.id) or any(type(number) is not int for number in entry.places.values()):
            raise ValueError
        if item["fingerprint"] != entry.fingerprint:
            raise ValueError
        known[entry.id] = entry
    return known
