"""A key for each day, of which only today's secret is kept. docs/log-format.md section 5.

Who takes a machine gets the seed of today and of every day to come, and of none before: what is
closed cannot be signed anew. The public keys of all days are derived once, when the log is made,
so who checks a log needs no secret, and can forge nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import signing
from encvault.fs import calls, durable
from encvault.secret import Secret
from encvault.tlog.notes import ED25519, VerifierKey
from encvault.tlog.policies import Policy

if TYPE_CHECKING:
    from encvault.fs.tree import Tree

POLICY = "policy"
KEY = "key"
DAYS = 3653
SEED_SIZE = 32

_MAX_KEY_SIZE = 200  # bytes
_MAX_LINE_SIZE = 512  # bytes
_LOG = b"log "
_OLD = durable.temporary_name(durable.stable_id("old key"))
_RATCHET = b"encvault/log/ratchet@v1"
_SIGN = b"encvault/log/sign@v1"
_ORIGIN = re.compile(r"encvault-log/([a-z2-7]{26})/(\d{4}-\d\d-\d\d)")


class Calendar(NamedTuple):
    """The days of a log.

    Attributes:
        origin: of the log.
        first_day: of epoch 0.
        days: how many of them have a key.
    """

    origin: str
    first_day: date
    days: int

    @classmethod
    def of(cls, origin: str, count: int) -> Calendar:
        """The calendar of an origin.

        Raises:
            ValueError: it is none of a log of ours.
        """
        found = _ORIGIN.fullmatch(origin)
        if found is None:
            raise ValueError(origin)
        first_day = date.fromisoformat(found[2])
        if count > (date.max - first_day).days:
            raise ValueError(origin)
        return cls(origin, first_day, count)

    @classmethod
    def load(cls, tree: Tree) -> Calendar:
        """The calendar of a log's own ``policy``, whose 3,653 keys who only signs need not read.

        Args:
            tree: the log's folder.

        Raises:
            ValueError: the file is none of ours.
            OSError: it cannot be read.
        """
        fd = calls.open_read(tree.fd, POLICY)
        try:
            size = os.fstat(fd).st_size
            first = calls.read(fd, _MAX_LINE_SIZE).partition(b"\n")[0].decode()
            width = len(first) + 1  # of every line for a key
            count = size // width
            # whatever somebody added at the end is no key
            while count and os.pread(fd, len(_LOG), (count - 1) * width) != _LOG:
                count -= 1
        finally:
            os.close(fd)
        if not first.startswith(_LOG.decode()):
            raise ValueError(first)
        return cls.of(first[len(_LOG) :].partition("+")[0], count)

    @property
    def log_id(self) -> str:
        """The 26 random characters of the origin."""
        return self.origin.split("/")[1]

    @property
    def begin(self) -> str:
        """The time text of the moment from which on the log has keys."""
        return f"{self.first_day.isoformat()}T00:00:00.000000Z"

    def at(self, ts: str) -> int:
        """The epoch of a time text; negative before the first day."""
        return (date.fromisoformat(ts[:10]) - self.first_day).days

    def day(self, epoch: int) -> str:
        """The day of an epoch, as a time text begins; of one without a key, that after the last."""
        return (self.first_day + timedelta(days=min(epoch, self.days))).isoformat()


class Epochs(NamedTuple):
    """The public keys of a log's epochs.

    Attributes:
        calendar: of the log.
        policy: the keys in their order, and whatever a checker added.
    """

    calendar: Calendar
    policy: Policy

    @classmethod
    def of(cls, policy: Policy) -> Epochs:
        """The epochs that a policy lists.

        Raises:
            ValueError: its ``log`` lines are not the keys of one log's epochs.
        """
        names = {key.name for key in policy.logs}
        origin = names.pop() if len(names) == 1 else ""
        return cls(Calendar.of(origin, len(policy.logs)), policy)

    @property
    def digest(self) -> str:
        """SHA-256 of the keys as they were published, without what a checker added; 64 digits."""
        return hashlib.sha256(Policy(logs=self.policy.logs).encode()).hexdigest()

    def of_key(self, key: VerifierKey) -> int:
        """The epoch that a key is of."""
        return self.policy.logs.index(key)


class Seed(NamedTuple):
    """The secret of one epoch, from which those of all later ones follow.

    Attributes:
        epoch: its number.
        value: 32 bytes.
    """

    epoch: int
    value: Secret

    def next(self) -> Seed:
        """The seed of the next day. This one is to be wiped."""
        return Seed(self.epoch + 1, _derived(self.value, _RATCHET))

    def signing_key(self) -> Secret:
        """The epoch's Ed25519 private key, 32 bytes."""
        return _derived(self.value, _SIGN)

    def store(self, tree: Tree) -> None:
        """Make this the seed that is kept, durably, and overwrite the one before.

        On flash, and on file systems that copy on write, the old bytes may outlive that
        (docs/threat-model.md).

        Args:
            tree: the log's folder.

        Raises:
            OSError: the one before is still kept.
        """
        before = calls.open_update(tree.fd, KEY)
        try:
            # a second name, by which the next run finds it if this one is killed before it is wiped
            calls.link(tree.fd, KEY, _OLD)
            durable.write_file(
                tree,
                "",
                KEY,
                self.encode(),
                file_id=durable.stable_id(KEY),
                mode=0o600,
                replace=True,
            )
            calls.write_at(before, bytes(os.fstat(before).st_size), 0)
            calls.fsync(before)
        finally:
            os.close(before)
        if calls.exists(tree.fd, _OLD):
            calls.unlink(tree.fd, _OLD)

    @staticmethod
    def wipe_leftover(tree: Tree) -> None:
        """Overwrite and remove what a run that was killed while it stored a seed left.

        Raises:
            OSError: it cannot be removed.
        """
        for name in (durable.temporary_name(durable.stable_id(KEY)), _OLD):
            if calls.exists(tree.fd, name):
                if not _is_key(tree, name):
                    _wipe(tree, name)
                calls.unlink(tree.fd, name)

    @classmethod
    def load(cls, tree: Tree) -> Seed:
        """The seed that is kept.

        Raises:
            ValueError: the file holds none.
            OSError: it cannot be read.
        """
        return cls.decode(durable.read_file(tree, KEY, _MAX_KEY_SIZE))

    def encode(self) -> bytes:
        """The content of the file ``key``."""
        return b"%d %s\n" % (self.epoch, base64.b64encode(self.value.reveal()))

    @classmethod
    def decode(cls, data: bytes) -> Seed:
        """What `encode` made.

        Raises:
            ValueError: it is something else.
        """
        number, _space, text = data.partition(b" ")
        try:
            seed = cls(int(number), Secret(bytearray(base64.b64decode(text[:-1], validate=True))))
        except binascii.Error as error:
            raise ValueError(*error.args) from None
        if seed.encode() != data or len(seed.value) != SEED_SIZE or seed.epoch < 0:
            raise ValueError(data[:1])
        return seed


def _is_key(tree: Tree, name: str) -> bool:
    """Whether a name is a second one of the seed that is kept."""
    return calls.exists(tree.fd, KEY) and os.path.samestat(tree.status(KEY), tree.status(name))


def _wipe(tree: Tree, name: str) -> None:
    fd = calls.open_update(tree.fd, name)
    try:
        calls.write_at(fd, bytes(os.fstat(fd).st_size), 0)
        calls.fsync(fd)
    finally:
        os.close(fd)


def _derived(seed: Secret, label: bytes) -> Secret:
    return Secret(bytearray(hmac.digest(seed.reveal(), label, hashlib.sha256)))


def published_key(tree: Tree, epoch: int) -> VerifierKey:
    """The public key of an epoch as the log's own ``policy`` has it, read without the others.

    Args:
        tree: the log's folder.
        epoch: one of the calendar's.

    Raises:
        ValueError, MalformedVerifierKey: there is none.
        OSError: it cannot be read.
    """
    fd = calls.open_read(tree.fd, POLICY)
    try:
        width = len(os.pread(fd, _MAX_LINE_SIZE, 0).partition(b"\n")[0]) + 1
        line = os.pread(fd, width, epoch * width)
    finally:
        os.close(fd)
    if not line.startswith(_LOG) or not line.endswith(b"\n"):
        raise ValueError(epoch)
    return VerifierKey.decode(line[len(_LOG) : -1].decode(), POLICY)


def enrol(first_day: date, days: int = DAYS) -> tuple[Seed, Epochs]:
    """A new log's first seed, and the public keys of all its days."""
    log_id = base64.b32encode(os.urandom(17))[:26].decode().lower()
    origin = f"encvault-log/{log_id}/{first_day.isoformat()}"
    while True:
        first = Seed(0, Secret(bytearray(os.urandom(SEED_SIZE))))
        keys = _public_keys(first, origin, days)
        # of 3,653 keys two share their 4-byte id once in 640 times, which some verifiers refuse
        if len({key.key_id for key in keys}) == days:
            return first, Epochs(Calendar(origin, first_day, days), Policy(logs=tuple(keys)))
        first.value.wipe()


def _public_keys(first: Seed, origin: str, days: int) -> list[VerifierKey]:
    keys = []
    seed = Seed(first.epoch, Secret(bytearray(first.value.reveal())))
    for _day in range(days):
        with seed.value, seed.signing_key() as private:
            keys.append(VerifierKey(origin, ED25519, signing.public_key(private.reveal())))
            following = seed.next()
        seed = following
    seed.value.wipe()
    return keys
