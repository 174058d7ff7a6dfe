"""Logs over several days, and who attacks them with code of his own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from encvault.accesslog.audit import Verdict
from encvault.accesslog.log import AccessLog, Clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from encvault.accesslog.audit import Audit

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DAYS = 40
ANCHORED, UNANCHORED = Verdict.ANCHORED_OK, Verdict.OK_UNANCHORED
TAMPERED, CANNOT = Verdict.TAMPERED, Verdict.CANNOT_VERIFY


class Days(Clock):
    """A clock that stands until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self.at = start
        self.up = 3_600_000

    def now(self) -> datetime:
        return self.at

    def boot(self) -> str:
        return "6f1c"

    def up_ms(self) -> int:
        return self.up

    def pass_(self, **time: float) -> None:
        """Let time pass."""
        step = timedelta(**time)
        self.at += step
        self.up += round(step / timedelta(milliseconds=1))


def make_log(path: Path, clock: Days, days: int = 3, each: int = 3) -> AccessLog:
    """A log of some days with entries on each."""
    log = AccessLog(str(path), clock=clock, days=DAYS)
    for day in range(days):
        if day:
            clock.pass_(days=1)
        record(log, each)
    return log


def record(log: AccessLog, count: int = 1, **members: str | int) -> bytes:
    """Record that files were opened; give the checkpoint."""
    events = [{"op": "open", "outcome": "ok", "path": f"/a/{number}"} for number in range(count)]
    return log.record([event | members for event in events]).checkpoint


# -- the files, read and written without encvault -------------------------------------------


def lines_of(path: Path) -> list[bytes]:
    """The entries."""
    return (path / "entries").read_bytes().split(b"\n")[:-1]


def notes_of(path: Path) -> list[bytes]:
    """The checkpoints."""
    parts = (path / "checkpoints").read_bytes().split(b"\n\n")[:-1]
    return [b"%b\n\n%b\n" % pair for pair in zip(parts[::2], parts[1::2], strict=True)]


def size_of(note: bytes) -> int:
    """Entries under a checkpoint."""
    return int(note.split(b"\n")[1])


def write_log(path: Path, lines: Sequence[bytes], notes: Sequence[bytes]) -> None:
    """Make these the log; derived files go."""
    (path / "entries").write_bytes(b"".join(line + b"\n" for line in lines))
    (path / "checkpoints").write_bytes(b"".join(note + b"\n" for note in notes))
    (path / "state").unlink(missing_ok=True)
    if notes:
        (path / "checkpoint").write_bytes(notes[-1])
    else:
        (path / "checkpoint").unlink(missing_ok=True)


def is_end(line: bytes) -> bool:
    """Whether an entry ends a day."""
    return b'"op":"log.epoch"' in line


def entry(like: bytes, **members: str | int | None) -> bytes:
    """An entry with other members; None takes one away."""
    changed = {**json.loads(like), **members}
    kept = {name: value for name, value in changed.items() if value is not None}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def root_of(lines: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not lines:
        return hashlib.sha256(b"").digest()
    if len(lines) == 1:
        return hashlib.sha256(b"\0" + lines[0]).digest()
    half = 1
    while half * 2 < len(lines):
        half *= 2
    both = root_of(lines[:half]) + root_of(lines[half:])
    return hashlib.sha256(b"\1" + both).digest()


# -- who has the machine --------------------------------------------------------------------


@dataclass
class Signer:
    """Who has the seed of a day, and so of those after it."""

    origin: str
    epoch: int
    seed: bytes

    @classmethod
    def stolen(cls, path: Path) -> Signer:
        """With what is on the machine today."""
        epoch, seed = (path / "key").read_bytes().split()
        origin = (path / "policy").read_bytes().split(b"+")[0].removeprefix(b"log ").decode()
        return cls(origin, int(epoch), base64.b64decode(seed))

    def key(self, epoch: int) -> Ed25519PrivateKey:
        """The key of today or a later day."""
        assert epoch >= self.epoch, "nobody has the seed of an earlier day"
        seed = self.seed
        for _day in range(epoch - self.epoch):
            seed = hmac.new(seed, b"encvault/log/ratchet@v1", hashlib.sha256).digest()
        private = hmac.new(seed, b"encvault/log/sign@v1", hashlib.sha256).digest()
        return Ed25519PrivateKey.from_private_bytes(private)

    def policy(self) -> bytes:
        """The policy file that who began with this seed would have published."""
        rows = []
        for day in range(DAYS):
            data = b"\x01" + self.key(day).public_key().public_bytes_raw()
            key_id = hashlib.sha256(self.origin.encode() + b"\n" + data).hexdigest()[:8]
            rows.append(f"log {self.origin}+{key_id}+{base64.b64encode(data).decode()}\n")
        return "".join([*rows, "quorum none\n"]).encode()

    def checkpoint(
        self, lines: Sequence[bytes], epoch: int | None = None, *, extension: str = ""
    ) -> bytes:
        """A checkpoint over lines, by the key of a day; today's, if none is named."""
        root = base64.b64encode(root_of(lines)).decode()
        text = f"{self.origin}\n{len(lines)}\n{root}\n{extension}"
        return signed(text, self.origin, self.key(self.epoch if epoch is None else epoch))


def signed(text: str, name: str, key: Ed25519PrivateKey) -> bytes:
    """A signed note (c2sp.org/signed-note), made without encvault."""
    public = key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    line = base64.b64encode(key_id + key.sign(text.encode())).decode()
    return f"{text}\n— {name} {line}\n".encode()


def cosigned(note: bytes, name: str, key: Ed25519PrivateKey, at: int = 1_800_000_000) -> bytes:
    """A checkpoint with a witness's line below (c2sp.org/tlog-cosignature)."""
    text = note.partition(b"\n\n")[0] + b"\n"
    public = key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    signature = key.sign(b"cosignature/v1\ntime %d\n%b" % (at, text))
    line = base64.b64encode(key_id + at.to_bytes(8) + signature).decode()
    return note + f"— {name} {line}\n".encode()


def witness_key(name: str, key: Ed25519PrivateKey) -> str:
    """A witness's vkey."""
    data = b"\x04" + key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(data).decode()}"


# -- what is asked of an audit --------------------------------------------------------------


def rules(audit: Audit) -> set[str]:
    return {finding.rule for finding in audit.wrong}


def noted(audit: Audit) -> set[str]:
    return {finding.rule for finding in audit.notes}


def end_of(lines: list[bytes], day: int) -> int:
    """The size at which a day was closed."""
    return [index for index, line in enumerate(lines) if is_end(line)][day] + 1
