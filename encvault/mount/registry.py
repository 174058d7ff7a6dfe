"""The mounts of this user: which are alive, and what those that died had not saved.

For each mount there are files in the folder ``mounts`` of the local state folder:

* ``ID.json``: what people and commands need to know of it;
* ``ID.lock``: locked with flock(2) by the process that serves it, for as long as it lives. That
  tells the living from the dead; a process number may be somebody else's by now;
* ``ID.unsaved``: the names of the files with changes that are not durable yet, sealed to the
  vault's public key, since a vault may hide names. The next mount of the vault can read them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from encvault.crypto import NotAuthentic, hpke
from encvault.encoding import is_id
from encvault.errors import StateUnavailable
from encvault.fs import durable
from encvault.fs.tree import Tree
from encvault.i18n import system_reason
from encvault.keyslots import now_text
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encvault.secret import Secret

if sys.platform != "win32":
    import fcntl

FOLDER = "mounts"
_MAX_SIZE = 1 << 20
_MAX_SEALED = 16 << 20
_MAX_NAMES = 10_000
_BINDING = b"encvault/unsaved@v1\0"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Mounted(NamedTuple):
    """One mount, as the registry has it.

    Attributes:
        id: 26 characters.
        mountpoint: the folder; "" once a dead mount is cleared away, and only what was not saved
            is remembered.
        vault: the vault's folder.
        vault_id: 26 characters.
        pid: of the process that serves it.
        boot_id: of the run of the system that it belongs to.
        since: time text.
        read_only: whether it takes changes.
        idle_s: after how many seconds without use it is unmounted; None for never.
        made: whether the folder was made for it.
        unsaved: files with changes that are not durable yet.
        failure: what went wrong last, for people, or "".
        is_alive: whether somebody serves it; not in the file.
    """

    id: str
    mountpoint: str
    vault: str
    vault_id: str
    pid: int
    boot_id: str
    since: str
    read_only: bool
    idle_s: int | None
    made: bool
    unsaved: int = 0
    failure: str = ""
    is_alive: bool = True

    @property
    def may_be_there(self) -> bool:
        """Whether the system may still have it: it has not been started anew since."""
        return bool(self.mountpoint) and self.boot_id == boot_id()

    def encode(self) -> bytes:
        """The file's bytes."""
        members = {name: value for name, value in self._asdict().items() if name != "is_alive"}
        return json.dumps({"encvault_mount": 1, **members}, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, mount_id: str, *, is_alive: bool) -> Self:
        """Read such a file.

        Raises:
            ValueError: it is none.
        """
        members = json.loads(data)
        if not isinstance(members, dict) or members.pop("encvault_mount", None) != 1:
            raise ValueError("not the record of a mount")
        kinds: dict[str, tuple[type, ...]] = {
            "pid": (int,),
            "unsaved": (int,),
            "read_only": (bool,),
            "made": (bool,),
            "idle_s": (int, type(None)),
        }
        names = {*cls._fields} - {"is_alive"}
        is_right = members.keys() == names and all(
            isinstance(value, kinds.get(name, (str,))) for name, value in members.items()
        )
        if not is_right or members["id"] != mount_id:
            raise ValueError("not the record of a mount")
        return cls(**members, is_alive=is_alive)


def boot_id() -> str:
    """What tells this run of the system from others; "" where nothing does."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Registry:
    """The registry in a local state folder.

    Args:
        state_dir: the folder; it need not exist.
    """

    def __init__(self, state_dir: str) -> None:
        self.path = os.path.join(state_dir, FOLDER)

    def begin(
        self,
        *,
        mountpoint: str,
        vault: str,
        vault_id: str,
        hpke_public: bytes,
        read_only: bool,
        idle_s: int | None,
        made: bool,
    ) -> Entry:
        """Register a mount that this process is about to serve.

        Raises:
            StateUnavailable: the folder cannot be written.
        """
        mounted = Mounted(
            id=new_id(),
            mountpoint=mountpoint,
            vault=vault,
            vault_id=vault_id,
            pid=os.getpid(),
            boot_id=boot_id(),
            since=now_text(),
            read_only=read_only,
            idle_s=idle_s,
            made=made,
        )
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            os.chmod(self.path, 0o700)
            return Entry(self.path, mounted, hpke_public)
        except OSError as error:
            raise StateUnavailable(path=self.path, reason=system_reason(error)) from None

    def all(self) -> list[Mounted]:
        """Every mount, the oldest first; what cannot be read is left out."""
        found = []
        with contextlib.suppress(OSError), Tree(self.path) as tree:
            for name in os.listdir(tree.fd):
                mount_id = name.removesuffix(".json")
                if name.endswith(".json") and is_id(mount_id):
                    with contextlib.suppress(OSError, ValueError):
                        is_alive = _is_locked(tree, mount_id)
                        data = durable.read_file(tree, name, _MAX_SIZE)
                        found.append(Mounted.decode(data, mount_id, is_alive=is_alive))
        return sorted(found, key=lambda one: (one.since, one.id))

    def get(self, mount_id: str) -> Mounted | None:
        """One mount, or None."""
        return next((one for one in self.all() if one.id == mount_id), None)

    def is_served(self, mount_id: str) -> bool:
        """Whether a process serves the mount."""
        try:
            with Tree(self.path) as tree:
                return _is_locked(tree, mount_id)
        except OSError:
            return False

    def forget(self, mount_id: str) -> None:
        """Remove a dead mount's files."""
        with contextlib.suppress(OSError), Tree(self.path) as tree:
            _remove(tree, mount_id)

    def keep_unsaved(self, mounted: Mounted) -> None:
        """Of a dead mount, remember only what was not saved."""
        with contextlib.suppress(OSError), Tree(self.path) as tree:
            _write(tree, f"{mounted.id}.json", mounted._replace(mountpoint="").encode())

    def unsaved(self, mounted: Mounted, seed: Secret) -> list[str]:
        """Names of the files that a mount had not saved, as far as they can be read.

        Args:
            mounted: which.
            seed: of the vault's HPKE key.
        """
        try:
            with Tree(self.path) as tree:
                sealed = durable.read_file(tree, f"{mounted.id}.unsaved", _MAX_SEALED)
            binding = _binding(mounted.vault_id, mounted.id)
            with hpke.open(seed.reveal(), sealed, binding) as plain:
                names = json.loads(bytes(plain.reveal()))
        except (OSError, NotAuthentic, ValueError):
            return []
        return [str(name) for name in names] if isinstance(names, list) else []


class Entry:
    """The registry's entry of the mount that this process serves.

    Attributes:
        mounted: what it says.
        is_served: whether the mount was there; set by who serves it.
    """

    def __init__(self, path: str, mounted: Mounted, hpke_public: bytes) -> None:
        self.mounted = mounted
        self.is_served = False
        self._public = hpke_public
        self._names: list[str] = []
        self._tree = Tree(path)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._lock = os.open(f"{mounted.id}.lock", flags, 0o600, dir_fd=self._tree.fd)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._store()
        except BaseException:
            self._tree.close()
            raise

    def note_unsaved(self, names: Iterable[str]) -> None:
        """Keep the names of what is not durable yet; does nothing if they are the same."""
        wanted = sorted(names)
        if wanted == self._names:
            return
        plain = json.dumps(wanted[:_MAX_NAMES]).encode()
        sealed = hpke.seal(self._public, plain, _binding(self.mounted.vault_id, self.mounted.id))
        with contextlib.suppress(OSError):  # a full disk is told where it matters
            _write(self._tree, f"{self.mounted.id}.unsaved", sealed)
            self._names = wanted
            self._change(unsaved=len(wanted))

    def note_failure(self, text: str) -> None:
        """Keep what went wrong."""
        with contextlib.suppress(OSError):
            self._change(failure=text)

    def end(self) -> None:
        """The mount has ended, and everything is saved; or it was never there."""
        _remove(self._tree, self.mounted.id)
        self.leave()

    def leave(self) -> None:
        """Stop serving; what is not saved stays on record."""
        os.close(self._lock)
        self._tree.close()

    def _change(self, **members: Any) -> None:
        self.mounted = self.mounted._replace(**members)
        self._store()

    def _store(self) -> None:
        _write(self._tree, f"{self.mounted.id}.json", self.mounted.encode())


def _binding(vault_id: str, mount_id: str) -> bytes:
    return _BINDING + f"{vault_id} {mount_id}".encode()


def _write(tree: Tree, name: str, data: bytes) -> None:
    durable.write_file(tree, "", name, data, file_id=new_id(), mode=0o600, replace=True)


def _remove(tree: Tree, mount_id: str) -> None:
    for suffix in (".unsaved", ".json", ".lock"):
        durable.discard(tree.fd, mount_id + suffix)


def _is_locked(tree: Tree, mount_id: str) -> bool:
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        lock = os.open(f"{mount_id}.lock", flags, dir_fd=tree.fd)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)
