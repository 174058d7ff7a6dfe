"""A vault: its pinned folder, its record and, once unlocked, its keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from encvault.envelope import Header, VaultKeyInfo
from encvault.errors import (
    AlreadyAVault,
    ForeignFile,
    HeaderTampered,
    InvalidRequest,
    KeyRequired,
    NoMatchingKeyslot,
    NotAVault,
    PendingKeyslots,
    SealedAlone,
    SourceMissing,
    VaultBusy,
)
from encvault.fs import durable
from encvault.fs.durable import storage_error
from encvault.fs.locks import Lock
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.keyslots import check_bare, check_slots, now_text, unwrap_any
from encvault.secret import Secret
from encvault.vault.datakeys import (
    DataKey,
    data_key_ids,
    load_data_key,
    make_data_key,
    renew_data_keys,
)
from encvault.vault.exposed import exposed_path, load_exposed, store_exposed
from encvault.vault.keys import MAX_SUCCESSIONS, Succession, VaultKeys
from encvault.vault.manifest import (
    CHECKPOINTS_FOLDER,
    FOLDER,
    INDEX_FOLDER,
    KEYS_FOLDER,
    LOCK_FILE,
    MAX_RECORD_SIZE,
    RECORD_FILES,
    VaultLayout,
    VaultRecord,
    load_record,
    make_own_folders,
    mend_records,
    new_id,
    store_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from encvault.crypto.suite import Suite
    from encvault.envelope import Layout
    from encvault.errors import EncvaultError
    from encvault.keyslots import Identity, Recipient, Slot, Unwrapped


def canonical(path: str) -> str:
    """Where a path leads: links on the way are followed, and so is a link to a folder itself."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def find_vault(path: str) -> str | None:
    """The folder of the vault that `path` is or lies in, or None; links are followed."""
    folder = canonical(path)
    while True:
        if any(os.path.lexists(os.path.join(folder, name)) for name in RECORD_FILES):
            return folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


class Vault:
    """An existing vault. Close it, or use it as a context manager: that wipes its keys.

    Attributes:
        tree: the pinned folder.
        record: what the vault says about itself.
        opened_by: what the keyslot held that it was unlocked by, or None.
    """

    def __init__(self, tree: Tree, record: VaultRecord) -> None:
        self.tree = tree
        self.record = record
        self.opened_by: Unwrapped | None = None
        self._keys: VaultKeys | None = None
        self._data_keys: dict[str, DataKey] = {}
        self._exposed: frozenset[str] | None = None
        self._lock: Lock | None = None
        self._is_pinned = False

    @classmethod
    def load(cls, path: str) -> Self:
        """The vault whose top is `path`.

        Raises:
            NotAVault: there is none.
            MalformedVault, WorkFactorTooLarge: its record cannot be trusted.
        """
        try:
            tree = Tree(path)
        except FileNotFoundError:
            raise SourceMissing(path=path) from None
        except OSError as error:
            raise storage_error(error, path) from None
        try:
            return cls(tree, load_record(tree))
        except (FileNotFoundError, NotADirectoryError):
            tree.close()
            raise NotAVault(path=path) from None
        except BaseException:
            tree.close()
            raise

    @classmethod
    def create(
        cls, path: str, recipients: Sequence[Recipient], *, suite: Suite, layout: VaultLayout
    ) -> Self:
        """Make a vault in an existing folder, durable and held on return.

        Raises:
            KeyRequired: no recipient.
            AlreadyAVault: there is one.
            VaultBusy: another run is making one.
        """
        if not recipients:
            raise KeyRequired(what=path)
        try:
            tree = Tree(path)
        except OSError as error:
            raise storage_error(error, path) from None
        lock: Lock | None = None
        try:
            cls._refuse_existing(tree, path)
            keys = VaultKeys(Secret(bytearray(os.urandom(32))))
            hpke_public, sign_public = keys.public
            record = VaultRecord(
                id=new_id(),
                created_at=now_text(),
                generation=1,
                suite=suite,
                layout=layout,
                hpke_public=hpke_public,
                sign_public=sign_public,
                slots=tuple(recipient.wrap(keys.secret) for recipient in recipients),
            ).sign(keys)
            try:
                make_own_folders(tree, KEYS_FOLDER)
                lock = Lock(tree, LOCK_FILE, reading=False)
                durable.clean(tree, FOLDER)
                # someone may have made one while the password was hashed
                cls._refuse_existing(tree, path)
                store_record(tree, record)
                tree.sync_names([KEYS_FOLDER])
            except OSError as error:
                raise storage_error(error, path) from None
        except BaseException:
            if lock is not None:
                lock.release()
            tree.close()
            raise
        vault = cls(tree, record)
        vault._keys, vault._lock = keys, lock
        return vault

    @classmethod
    def imagine(cls, path: str, *, suite: Suite, layout: VaultLayout) -> Self:
        """A vault that does not exist yet, in an existing folder, to plan for."""
        record = VaultRecord(new_id(), now_text(), 1, suite, layout, b"", b"", ())
        return cls(Tree(path), record)

    @staticmethod
    def _refuse_existing(tree: Tree, path: str) -> None:
        if any(tree.exists(name) for name in RECORD_FILES):
            raise AlreadyAVault(path=path)

    def close(self) -> None:
        """Wipe the keys, release the lock and the folder."""
        for data_key in self._data_keys.values():
            data_key.key.wipe()
        self._data_keys.clear()
        if self._keys is not None:
            self._keys.wipe()
            self._keys = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self.tree.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_imagined(self) -> bool:
        """Whether it does not exist yet; see `imagine`."""
        return not self.record.slots

    @property
    def path(self) -> str:
        """The vault's folder."""
        return self.tree.path

    @property
    def layout(self) -> Layout:
        """How names are kept."""
        return self.record.layout

    @property
    def hidden(self) -> bool:
        """Whether names are hidden."""
        return self.record.layout == "hidden"

    @property
    def is_unlocked(self) -> bool:
        """Whether its keys are at hand."""
        return self._keys is not None

    @property
    def was_interrupted(self) -> bool:
        """Whether a run that held the vault was killed, and nobody has cleaned up behind it."""
        return self._lock is not None and self._lock.was_interrupted

    def cleaned_up(self) -> None:
        """What a killed run has left is gone. Only for who holds the vault."""
        if self._lock is not None:
            self._lock.cleaned_up()

    @property
    def is_held(self) -> bool:
        """Whether nobody else may change it."""
        return self._lock is not None and not self._lock.is_shared

    @property
    def is_in_use(self) -> bool:
        """Whether another run is changing it now."""
        try:
            Lock(self.tree, LOCK_FILE, reading=True).release()
        except VaultBusy:
            return True
        return False

    def hold(self, *, reading: bool = False) -> None:
        """Keep other runs out until `close`; those that only read let each other in.

        Raises:
            VaultBusy, VaultNotWritable: another run holds it; this user may not write to it.
        """
        if self._lock is None:
            self._lock = Lock(self.tree, LOCK_FILE, reading=reading, keeps_news=self.hidden)
            if not reading:
                self._reload()
                for folder in (FOLDER, KEYS_FOLDER, INDEX_FOLDER, CHECKPOINTS_FOLDER):
                    durable.clean(self.tree, folder)
                mend_records(self.tree, self.record)

    def _reload(self) -> None:
        """Take what another run has made of the record before this one got the lock."""
        known = self.record
        try:
            self.record = load_record(self.tree)
        except FileNotFoundError:
            raise NotAVault(path=self.path) from None
        if self._keys is not None:
            if self.record.succeeds(known):
                raise VaultBusy(path=self.path, holder=_("a run that changed its keys"))
            self._keys.check(self.record, self.path)

    def unlock(self, identities: Iterable[Identity]) -> None:
        """Unwrap the vault secret.

        Raises:
            NoMatchingKeyslot: no identity opens a slot.
            MalformedVault: the record's public keys were exchanged.
        """
        try:
            unwrapped = unwrap_any(self.record.slots, identities, self.path)
        except NoMatchingKeyslot:
            if not self.record.pending:
                raise
            labels = ", ".join(slot["label"] or slot["id"] for slot in self.record.pending)
            raise PendingKeyslots(path=self.path, labels=labels) from None
        keys = VaultKeys(unwrapped.secret)
        keys.check(self.record, self.path)
        self._keys, self.opened_by = keys, unwrapped
        self._reload()  # a person may have taken minutes to type the password

    @property
    def secret(self) -> Secret:
        """The vault secret; it stays the vault's.

        Raises:
            KeyRequired: the vault is locked.
        """
        if self._keys is None:
            raise KeyRequired(what=self.path)
        return self._keys.secret

    @property
    def hpke_seed(self) -> Secret:
        """The seed of what is sealed to `VaultRecord.hpke_public`; it stays the vault's.

        Raises:
            KeyRequired: the vault is locked.
        """
        if self._keys is None:
            raise KeyRequired(what=self.path)
        return self._keys.hpke_seed

    def pin_keys(self) -> None:
        """Ask the system not to swap out the keys, those at hand and those to come."""
        self._is_pinned = True
        if self._keys is not None:
            self._keys.pin()
        for data_key in self._data_keys.values():
            data_key.key.pin()

    def change_slots(
        self, slots: tuple[Slot, ...], pending: tuple[Slot, ...] | None = None
    ) -> None:
        """Give the vault, which is unlocked and held, other keyslots; durable on return.

        Args:
            slots: all of them.
            pending: those without what they held; None to leave them.

        Raises:
            InvalidRequest: more slots than a vault may have.
            KeyRequired: the vault is locked.
        """
        if self._keys is None:
            raise KeyRequired(what=self.path)
        if pending is None:
            pending = self.record.pending
        record = self.record._replace(slots=slots, pending=pending)
        self._store(record, self._keys)

    def change_keys(
        self,
        secret: Secret,
        slots: tuple[Slot, ...],
        pending: tuple[Slot, ...],
        revoked: tuple[Slot, ...],
    ) -> None:
        """Give the vault, which is unlocked and held, another secret; durable on return.

        What is sealed stays readable at every moment: the old secret is kept under the new key.
        `renew_data_keys` comes next.

        Args:
            secret: 32 fresh random bytes; it becomes the vault's.
            slots: keyslots that wrap it.
            pending: see `change_slots`.
            revoked: the keyslots that were not taken over, without what they held.

        Raises:
            InvalidRequest: as `change_slots`, or the keys were changed too often.
            KeyRequired: the vault is locked.
        """
        if self._keys is None:
            raise KeyRequired(what=self.path)
        if len(self.record.succession) == MAX_SUCCESSIONS:
            raise InvalidRequest(
                reason=_("the keys were changed 256 times: seal into a new vault instead")
            )
        keys = VaultKeys(secret)
        hpke_public, sign_public = keys.public
        entry = Succession.make(self.record, self._keys, keys, revoked)
        record = self.record._replace(
            hpke_public=hpke_public,
            sign_public=sign_public,
            slots=slots,
            pending=pending,
            succession=(*self.record.succession, entry),
        )
        next_record = record._replace(generation=record.generation + 1)
        try:
            # signed by a key that no record has yet: it counts from the next line on
            store_exposed(self.tree, next_record, keys, data_key_ids(self.tree))
        except OSError as error:
            raise storage_error(error, exposed_path(self.tree, next_record)) from None
        self._store(record, keys)
        self._keys.wipe()
        self._keys, self.opened_by, self._exposed = keys, None, None

    def renew_data_keys(self) -> tuple[int, list[EncvaultError]]:
        """See `encvault.vault.datakeys.renew_data_keys`; the vault is unlocked and held.

        Raises:
            KeyRequired: the vault is locked.
        """
        if self._keys is None:
            raise KeyRequired(what=self.path)
        self._exposed = None
        try:
            return renew_data_keys(self.tree, self.record, self._keys)
        except OSError as error:
            raise storage_error(error, self.path) from None

    def _store(self, record: VaultRecord, keys: VaultKeys) -> None:
        """Make a record, one generation higher, the vault's own."""
        try:
            check_slots(record.slots, self.path)
            check_bare(record.pending)
        except ValueError as error:
            raise InvalidRequest(reason=_(str(error))) from None
        record = record._replace(generation=self.record.generation + 1).sign(keys)
        if len(record.encode()) > MAX_RECORD_SIZE:
            raise InvalidRequest(reason=_("the vault's record would be larger than 1 MiB"))
        try:
            store_record(self.tree, record)
        except OSError as error:
            raise storage_error(error, self.path) from None
        self.record = record

    def new_data_key(self) -> tuple[str, Secret]:
        """A data key for one run, durable before it is returned; needs no secret."""
        return make_data_key(self.tree, self.record)

    def key_for(self, header: Header, path: str) -> Secret:
        """The data key of a sealed file of this vault.

        Raises:
            ForeignFile, SealedAlone: the file is not of this vault.
            UnknownDataKey: its key file is missing or damaged.
            HeaderTampered: it claims a suite that its key is not for.
            KeyRequired: the vault is locked.
        """
        info = header.key_info
        if not isinstance(info, VaultKeyInfo):
            if self.hidden:
                raise ForeignFile(path=path, vault=_("none"))
            raise SealedAlone(path=path)
        if info.vault != self.record.id:
            raise ForeignFile(path=path, vault=info.vault)
        data_key = self._data_key(info.key, path)
        if data_key.suite is not header.suite:
            raise HeaderTampered(path=path)
        return data_key.key

    def data_key(self, key_id: str, path: str) -> tuple[Suite, Secret]:
        """A data key, which stays the vault's, and the suite that it is for.

        Args:
            key_id: which one.
            path: what names it, for messages.

        Raises:
            UnknownDataKey, KeyRequired: as `key_for`.
        """
        found = self._data_key(key_id, path)
        return found.suite, found.key

    def is_exposed(self, key_id: str, path: str) -> bool:
        """Whether a former vault secret gave this data key away.

        Args:
            key_id: the data key.
            path: the sealed file that names it, for messages.

        Raises:
            UnknownDataKey, KeyRequired: as `key_for`.
        """
        if self._exposed is None:
            self._exposed = load_exposed(self.tree, self.record)
        if self._exposed is None or key_id in self._exposed:
            return True
        return self._data_key(key_id, path).is_former

    def _data_key(self, key_id: str, path: str) -> DataKey:
        if key_id not in self._data_keys:
            if self._keys is None:
                raise KeyRequired(what=path)
            self._data_keys[key_id] = load_data_key(
                self.tree, self.record, self._keys, key_id, path
            )
            if self._is_pinned:
                self._data_keys[key_id].key.pin()
        return self._data_keys[key_id]
