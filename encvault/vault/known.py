"""The vaults that this machine has met, so that nobody exchanges one for a vault of his own.

As ssh does with hosts: at the first use the vault's signing key is remembered, and from then on
another key is refused, unless the known key signed for it (docs/format.md section 6.3) or the user
states the new fingerprint. Without this, who can write to a shared folder could make a run that
only seals do so for his key (docs/threat-model.md, N5).

The file ``known_vaults.json`` lies in the local state folder and is for people to read.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from encvault.envelope import decode_base64, encode_base64, is_id
from encvault.errors import EncvaultError, RolledBack, StateUnavailable, VaultChanged
from encvault.fs import durable
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.keyslots import now_text
from encvault.vault.keys import vault_fingerprint
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from encvault.vault.manifest import VaultRecord

FILE = "known_vaults.json"
LOCK_FILE = "known_vaults.lock"
MAX_SIZE = 64 << 20
MAX_PLACES = 16  # of one vault; the oldest are forgotten

_VERSION_MEMBER = "encvault_known_vaults"


@dataclass(frozen=True, slots=True)
class KnownVault:
    """What is remembered of one vault.

    Attributes:
        id: the vault's.
        sign_public: its Ed25519 public key, 32 bytes.
        former: fingerprints that it had before, by keys that signed for their successors.
        generation: the highest that was seen.
        first_seen_at: time text.
        places: the folders where it was found, resolved, the latest last.
    """

    id: str
    sign_public: bytes
    former: tuple[str, ...]
    generation: int
    first_seen_at: str
    places: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The vault's, by the remembered key."""
        return vault_fingerprint(self.id, self.sign_public)


@dataclass(frozen=True, slots=True)
class KnownVaults:
    """What the user states of vaults, and what this machine remembers of them.

    Attributes:
        state_dir: the local state folder, or None to remember nothing.
        stated: the fingerprint that the vault at hand must have, or "".
        pins: gives fingerprints by resolved folder, from the configuration, when they are needed.
    """

    state_dir: str | None = None
    stated: str = ""
    pins: Callable[[], Mapping[str, str]] = dict

    def expected(self, path: str) -> str:
        """The fingerprint that the vault in a folder must have, or "": stated or configured."""
        return self.stated or self.pins().get(os.path.realpath(path), "")

    def check(self, record: VaultRecord, path: str) -> RolledBack | None:
        """Refuse a vault that is another than the one that is known.

        Args:
            record: of the vault.
            path: its folder.

        Returns:
            What to report of an older state of the right vault, or None.

        Raises:
            VaultChanged: its key is not the known one, and none that the known one signed for.
            StateUnavailable: what is remembered cannot be read.
        """
        if self.stated == record.fingerprint:
            return None  # who states it knows better than this machine
        expected = self.expected(path)
        if expected and expected not in (record.fingerprint, *record.former_fingerprints):
            raise VaultChanged(path=path, expected=expected, found=record.fingerprint)
        place = os.path.realpath(path)
        known = self._load()
        entry = known.get(record.id)
        if entry is None or place not in entry.places:
            for other in known.values():
                if other.id != record.id and place in other.places:
                    raise VaultChanged(
                        path=path, expected=other.fingerprint, found=record.fingerprint
                    )
        if entry is None:
            return None
        current = entry.fingerprint in (record.fingerprint, *record.former_fingerprints)
        if not current and record.fingerprint not in entry.former:
            raise VaultChanged(path=path, expected=entry.fingerprint, found=record.fingerprint)
        if not current or record.generation < entry.generation:
            return RolledBack(
                path=path,
                generation=record.generation,
                known=entry.generation,
                fingerprint=record.fingerprint,
            )
        return None

    def check_for_sealing(self, record: VaultRecord, path: str) -> RolledBack | None:
        """The same for who would seal: an older key may be that of somebody who was revoked.

        Raises:
            VaultChanged: as `check`, or its key was replaced by the known one.
        """
        doubt = self.check(record, path)
        if doubt is not None:
            known = self._load()[record.id].fingerprint
            if known not in (record.fingerprint, *record.former_fingerprints):
                raise VaultChanged(path=path, expected=known, found=record.fingerprint)
        return doubt

    def is_new(self, record: VaultRecord) -> bool:
        """Whether this machine meets the vault for the first time."""
        return self.state_dir is not None and record.id not in self._load()

    def remember(self, record: VaultRecord, path: str, *, made_here: bool = False) -> None:
        """Remember a vault that `check` let pass; durable on return.

        Args:
            record: of the vault.
            path: its folder.
            made_here: whether it was made just now, in the place of whatever was there before.

        Raises:
            StateUnavailable: it cannot be written.
        """
        if self.state_dir is None:
            return
        place = os.path.realpath(path)
        sure = made_here or self.stated == record.fingerprint
        if self._updated(self._load(), record, place, made_here=made_here, sure=sure) is None:
            return  # as nearly always: nothing new
        with self._reported(), Tree.made(self.state_dir) as tree, durable.waiting(tree, LOCK_FILE):
            known = self._updated(self._load(), record, place, made_here=made_here, sure=sure)
            if known is not None:
                data = _encode(known)
                durable.write_file(tree, "", FILE, data, file_id=new_id(), mode=0o600, replace=True)

    @staticmethod
    def _updated(
        known: dict[str, KnownVault],
        record: VaultRecord,
        place: str,
        *,
        made_here: bool,
        sure: bool,
    ) -> dict[str, KnownVault] | None:
        """What to remember from now on, or None if it is no more than before."""
        before = dict(known)
        entry = known.get(record.id)
        if entry is None:
            former = tuple(record.former_fingerprints)
            entry = KnownVault(
                record.id, record.sign_public, former, record.generation, now_text(), ()
            )
        places = entry.places if place in entry.places else (*entry.places, place)[-MAX_PLACES:]
        entry = replace(entry, places=places)
        if sure or (
            entry.fingerprint in (record.fingerprint, *record.former_fingerprints)
            and record.generation > entry.generation
        ):
            entry = replace(
                entry,
                sign_public=record.sign_public,
                former=tuple(record.former_fingerprints),
                generation=record.generation,
            )
        known[record.id] = entry
        if made_here:
            for other in before.values():
                if other.id != record.id and place in other.places:
                    left = tuple(one for one in other.places if one != place)
                    known[other.id] = replace(other, places=left)
        return known if known != before else None

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
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StateUnavailable(
                path=os.path.join(self.state_dir, FILE), reason=_("damaged")
            ) from None

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = os.path.join(self.state_dir or "", FILE)
            raise StateUnavailable(path=path, reason=system_reason(error)) from None


def _encode(known: dict[str, KnownVault]) -> bytes:
    vaults = [
        {
            "id": entry.id,
            "fingerprint": entry.fingerprint,
            "sign_public": encode_base64(entry.sign_public),
            "former_fingerprints": list(entry.former),
            "generation": entry.generation,
            "first_seen_at": entry.first_seen_at,
            "places": list(entry.places),
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
            generation=item["generation"],
            first_seen_at=item["first_seen_at"],
            places=tuple(item["places"]),
        )
        if not is_id(entry.id) or type(entry.generation) is not int:
            raise ValueError
        if item["fingerprint"] != entry.fingerprint:
            raise ValueError
        known[entry.id] = entry
    return known


def refuse(error: EncvaultError) -> None:
    """Take a doubt about a vault for a reason to stop."""
    raise error
