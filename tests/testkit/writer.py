"""Writes sealed files and vaults, right ones and wrong ones.

The counterpart of tests/conformance/reader.py: small, independent of encvault, and willing to
break every rule. Everything random comes from SHAKE256 of a name, so that the same call writes the
same bytes. Only HPKE cannot be told its randomness; what it gave is kept in wrapped.json.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from conformance import reader
from conformance.reader import Aes, Suite, b32, canonical, object_path
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PASSWORD = "correct horse battery staple"
SEED = bytes(range(32))
TIME = "2026-01-02T03:04:05Z"
SEALED_AT = 1_767_323_045_000_000_000
WRAPPED = Path(__file__).parent / "wrapped.json"

Changes = dict[str, Any]


def random(what: str, size: int) -> bytes:
    return hashlib.shake_256(what.encode()).digest(size)


def identifier(what: str) -> str:
    return b32(random("id " + what, 16))


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def changed(value: Changes, changes: Changes) -> Changes:
    """`value` with other members; None takes one away."""
    return {name: item for name, item in (value | changes).items() if item is not None}


# -- bodies and wrapping -----------------------------------------------------------------------


def seal_chunk(suite: Suite, key: bytes, nonce: bytes, chunk: bytes) -> bytes:
    if suite is Aes:
        return AESGCM(key).encrypt(nonce, chunk, None)
    cipher = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    return cipher.update(chunk) + cipher.finalize() + cipher.tag


def split(plaintext: bytes) -> list[bytes]:
    """The chunks of a plaintext, as the page wants them."""
    starts = range(0, len(plaintext) + 1, reader.CHUNK)
    return [plaintext[start : start + reader.CHUNK] for start in starts]


def seal_chunks(
    suite: Suite, input_key: bytes, context: bytes, chunks: list[bytes]
) -> tuple[bytes, list[bytes]]:
    """Salt and commitment, and the sealed chunks: to be joined, or first mixed up."""
    salt = random("salt" + hashlib.sha256(context + b"".join(chunks)).hexdigest(), 24)
    key, base, commitment = reader.schedule(suite, input_key, salt, context)
    sealed = [
        seal_chunk(suite, key, reader.chunk_nonce(base, index), chunk)
        for index, chunk in enumerate(chunks)
    ]
    return salt + commitment, sealed


def seal_body(suite: Suite, key: bytes, context: bytes, plaintext: bytes) -> bytes:
    start, chunks = seal_chunks(suite, key, context, split(plaintext))
    return start + b"".join(chunks)


class Wrapper:
    """HPKE, with a memory."""

    def __init__(self) -> None:
        self._known = json.loads(WRAPPED.read_text()) if WRAPPED.exists() else {}
        self._used: dict[str, str] = {}

    def wrap(self, public: bytes, secret: bytes, info: bytes) -> bytes:
        name = hashlib.sha256(public + secret + info).hexdigest()
        if name not in self._known:
            kem = MLKEM768PublicKey.from_public_bytes(public[:1184])
            curve = X25519PublicKey.from_public_bytes(public[1184:])
            key = hpke.MLKEM768X25519PublicKey(kem, curve)
            self._known[name] = b64(reader.HPKE.encrypt(secret, key, info))
        self._used[name] = self._known[name]
        return base64.b64decode(self._known[name])

    def save(self) -> None:
        """Keep what was used since the start."""
        WRAPPED.write_text(json.dumps(self._used, indent=0, sort_keys=True) + "\n")


WRAPPER = Wrapper()


# -- keyslots ----------------------------------------------------------------------------------


def kdf(**changes: Any) -> Changes:
    salt = b64(random("argon2 salt", 16))
    cheapest = {"lanes": 1, "memory_kib": 8, "name": "argon2id", "passes": 1, "salt": salt}
    return changed(cheapest, changes)


def is_modest(work: Changes) -> bool:
    """Whether the work can be done: absurd work is to be refused, not begun."""
    numbers = (work["lanes"], work["passes"])
    modest = 8 * work["lanes"] <= work["memory_kib"] <= 1024
    return bool(modest and 0 < min(numbers) <= max(numbers) < 99)


def password_slot(secret: bytes, password: str = PASSWORD, **changes: Any) -> Changes:
    """A password slot. Where Argon2 cannot do the work, the secret is wrapped for other work."""
    slot: Changes = {"created_at": TIME, "kdf": kdf(), "kind": "password", "label": "kit"}
    slot = changed(slot | {"id": b32(random("slot", 8))}, changes)
    if "wrapped" in changes:
        return slot
    try:
        kek = reader.argon2id(password, slot["kdf"] if is_modest(slot["kdf"]) else kdf())
    except (KeyError, TypeError, ValueError, AttributeError):
        kek = bytes(32)
    return slot | {"wrapped": b64(seal_body(Aes, kek, reader.binding(slot), secret))}


def recipient_slot(secret: bytes, seed: bytes = SEED, **changes: Any) -> Changes:
    public = reader.Pair(seed).public
    slot = {"created_at": TIME, "kind": "recipient", "label": "kit"}
    slot |= {"id": b32(random("recipient slot", 8)), "recipient": b64(public)}
    slot = changed(slot, changes)
    if "wrapped" in changes:
        return slot
    return slot | {"wrapped": b64(WRAPPER.wrap(public, secret, reader.binding(slot)))}


# -- sealed files ------------------------------------------------------------------------------


def pad(text: bytes) -> bytes:
    return text + bytes(-len(text) % 256)


def file_record(content: bytes = b"", **changes: Any) -> Changes:
    record = {"type": "file", "path": "a.txt", "size": len(content), "sealed_at_ns": SEALED_AT}
    return changed(record, changes)


def header(
    key_info: bytes | Changes,
    metadata_size: int,
    suite: int = 1,
    *,
    magic: bytes = b"encvault",
    version: int = 1,
    flags: int = 0,
    key_info_size: int | None = None,
) -> bytes:
    info = key_info if isinstance(key_info, bytes) else canonical(key_info)
    size = len(info) if key_info_size is None else key_info_size
    fixed = bytes([version, suite]) + flags.to_bytes(2)
    return magic + fixed + metadata_size.to_bytes(4) + size.to_bytes(4) + info


FILE_KEY = random("file key", 32)


def inline(*slots: Changes, **changes: Any) -> Changes:
    """key-info of a file on its own, for the password if no slots are given."""
    value = {"file": identifier("file"), "slots": list(slots or [password_slot(FILE_KEY)])}
    return changed(value, changes)


def alone(
    content: bytes = b"alpha\n",
    *,
    record: bytes | Changes | None = None,
    key_info: bytes | Changes | None = None,
    suite: Suite = Aes,
    metadata_size: int | None = None,
    **fixed: Any,
) -> bytes:
    """A sealed file on its own. `record` as bytes is taken as it is, padding included."""
    value = file_record(content) if record is None else record
    block = value if isinstance(value, bytes) else pad(canonical(value))
    info = inline() if key_info is None else key_info
    fixed = {"suite": suite.number} | fixed
    head = header(info, len(block) if metadata_size is None else metadata_size, **fixed)
    return head + seal_body(suite, FILE_KEY, head, block + content)


def chunked(
    content: bytes, suite: Suite = Aes, chunks: list[bytes] | None = None
) -> tuple[bytes, bytes, list[bytes]]:
    """Header, salt and commitment, and chunks of a file on its own."""
    block = pad(canonical(file_record(content)))
    head = header(inline(), len(block), suite.number)
    start, sealed = seal_chunks(suite, FILE_KEY, head, chunks or split(block + content))
    return head, start, sealed


# -- vaults ------------------------------------------------------------------------------------


class VaultWriter:
    """A vault as files by path, in memory until it is as broken as wanted."""

    def __init__(self, layout: str = "visible", suite: Suite = Aes, name: str = "vault") -> None:
        self.layout = layout
        self.suite = suite
        self.id = identifier(name)
        self._take(random("secret of " + name, 32))
        self.generation = 1
        self.succession: list[Changes] = []
        self.files: dict[str, bytes] = {}
        self.key_id = identifier("data key of " + name)
        self.key = random("data key of " + name, 32)
        self.write_records()
        self.write_key()

    def _take(self, secret: bytes) -> None:
        self.secret = secret
        self.pair = reader.Pair(reader.expand256(secret, "encvault/vault/hpke@v1", 32))
        sign_seed = reader.expand256(secret, "encvault/vault/sign@v1", 32)
        self.sign_key = Ed25519PrivateKey.from_private_bytes(sign_seed)

    def rekey(self, former: bytes | None = None, **changes: Any) -> VaultWriter:
        """Another secret; the data keys stay as they are.

        `former` is wrapped in place of the old secret; `changes` are of what is signed.
        """
        old_key, old_secret = self.sign_key, self.secret
        self.generation += 1
        self._take(random(f"secret {self.generation} of {self.id}", 32))
        stated = {
            "generation": self.generation,
            "replaced_at": TIME,
            "revoked": [],
            "sign_public": b64(old_key.public_key().public_bytes_raw()),
        }
        successor = b64(self.sign_key.public_key().public_bytes_raw())
        signed = changed(stated | {"id": self.id, "successor": successor}, changes)
        signature = old_key.sign(b"encvault/succession@v1\n" + canonical(signed))
        entry = {name: value for name, value in signed.items() if name not in ("id", "successor")}
        entry |= {"signature": b64(signature)}
        info = b"encvault/former-secret@v1\0" + canonical(entry)
        wrapped = WRAPPER.wrap(self.pair.public, former or old_secret, info)
        self.succession.append(entry | {"wrapped": b64(wrapped)})
        return self.write_records()

    def record(self, *, key: Ed25519PrivateKey | None = None, **changes: Any) -> Changes:
        """A vault record, signed after the changes."""
        sign_key = key or self.sign_key
        value = {
            "encvault": 1,
            "id": self.id,
            "created_at": TIME,
            "generation": self.generation,
            "suite": self.suite.name,
            "layout": self.layout,
            "hpke_public": b64(self.pair.public),
            "sign_public": b64(sign_key.public_key().public_bytes_raw()),
            "slots": [password_slot(self.secret)],
            "pending": [],
            "succession": self.succession,
        }
        value = changed(value, changes)
        signature = sign_key.sign(b"encvault/vault@v1\n" + canonical(value))
        return value | {"signature": b64(signature)}

    def write_records(self, raw: bytes | None = None, **changes: Any) -> VaultWriter:
        """Both records, alike."""
        data = canonical(self.record(**changes)) + b"\n" if raw is None else raw
        self.files[".encvault/vault.a.json"] = self.files[".encvault/vault.b.json"] = data
        return self

    def key_object(self, **changes: Any) -> Changes:
        value = {"created_at": TIME, "id": self.key_id, "suite": self.suite.name, "vault": self.id}
        value = changed(value, {n: c for n, c in changes.items() if n not in ("wrapped", "key")})
        if "wrapped" in changes:
            return changed(value, {"wrapped": changes["wrapped"]})
        info = b"encvault/data-key@v1\0" + canonical(value)
        wrapped = WRAPPER.wrap(self.pair.public, changes.get("key", self.key), info)
        return value | {"wrapped": b64(wrapped)}

    def write_key(self, raw: bytes | None = None, **changes: Any) -> VaultWriter:
        data = canonical(self.key_object(**changes)) + b"\n" if raw is None else raw
        self.files[f".encvault/keys/{self.key_id}.json"] = data
        return self

    def seal(self, file_id: str, record: Changes | bytes, content: bytes, **changes: Any) -> bytes:
        """A sealed file of this vault."""
        info = changed({"file": file_id, "key": self.key_id, "vault": self.id}, changes)
        block = record if isinstance(record, bytes) else pad(canonical(record))
        head = header(info, len(block), self.suite.number)
        return head + seal_body(self.suite, self.key, head, block + content)

    def put(self, path: str, content: bytes, /, *, place: str = "", **changes: Any) -> VaultWriter:
        """A file into the visible layout; `changes` are the record's."""
        record = file_record(content, **({"path": path} | changes))
        name = place or f"{path}.sealed"
        self.files[name] = self.seal(identifier(name), record, content)
        return self

    def put_object(
        self, name: str, content: bytes = b"", /, *, key_info: Changes | None = None, **changes: Any
    ) -> str:
        """An object into the hidden layout, at the top; `name` is what its id is made from."""
        record = file_record(content, **({"path": name, "parent": ""} | changes))
        file_id = identifier(name)
        sealed = self.seal(file_id, record, content, **(key_info or {}))
        self.files[object_path(file_id)] = sealed
        return file_id

    def put_folder(self, name: str, /, *, unique: str = "", **changes: Any) -> str:
        """A folder object; its folder id."""
        folder = identifier("folder " + (unique or name))
        members = {"path": name, "type": "dir", "folder": folder} | changes
        self.put_object("folder object " + (unique or name), **members)
        return folder


def visible(suite: Suite = Aes) -> VaultWriter:
    """A good vault of two files."""
    return VaultWriter("visible", suite).put("a.txt", b"alpha\n").put("sub/b.txt", b"bravo\n")


def hidden(suite: Suite = Aes) -> VaultWriter:
    """A good vault of two files and a folder."""
    vault = VaultWriter("hidden", suite)
    vault.put_object("a.txt", b"alpha\n")
    vault.put_object("b.txt", b"bravo\n", parent=vault.put_folder("sub"))
    return vault


# -- archives ----------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, **members: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for attribute, value in members.items():
        setattr(info, attribute, value)
    return info


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    # tarfile fills up to 10 KiB; two blocks of zeros are the end
    content = out.getvalue().rstrip(b"\0")
    return content + bytes(-len(content) % 512 + 1024)


def sparse_member(name: str, lines: list[str]) -> tuple[tarfile.TarInfo, bytes]:
    """A member of four bytes that says it has 8 GiB: by these pax lines, or the old way."""
    content = b"1\n0\n4\n".ljust(512, b"\0") + b"bad\n"
    if lines:
        return member(name, pax_headers=dict(line.split("=", 1) for line in lines)), content
    return _OldSparse(name), b"bad\n"


class _OldSparse(tarfile.TarInfo):
    """A header of type ``S``, which tarfile reads and does not write."""

    def tobuf(self, *_arguments: Any, **_options: Any) -> bytes:
        self.type = tarfile.REGTYPE
        head = bytearray(super().tobuf(tarfile.GNU_FORMAT))
        head[156:157] = tarfile.GNUTYPE_SPARSE
        head[386:410] = b"%011o\0%011o\0" % (0, 4)
        head[483:495] = b"%012o" % (8 << 30)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head)
