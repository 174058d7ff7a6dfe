"""A reader of encvault's formats, written from docs/format.md alone.

It shares no line with encvault, so that a mistake made there is not made here. It is slow, keeps
whole files in memory and has one purpose: to say what the page says. The numbers are its sections.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import os
import re
import tarfile
import unicodedata
from dataclasses import dataclass, field
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Check = Callable[[Any], bool]
    Sink = Callable[[bytes], object]

# -- section 10: one class for each fault ------------------------------------------------------


class Fault(Exception):
    """What the page tells a reader to refuse."""


class NotSealed(Fault): ...


class UnsupportedVersion(Fault): ...


class UnknownSuite(Fault): ...


class UnknownFlags(Fault): ...


class MalformedHeader(Fault): ...


class WorkFactorTooLarge(Fault): ...


class NoMatchingKeyslot(Fault): ...


class HeaderTampered(Fault): ...


class ChunkCorrupt(Fault): ...


class Truncated(Fault): ...


class MalformedRecord(Fault): ...


class UnsafePath(Fault): ...


class MalformedVault(Fault): ...


class UnknownDataKey(Fault): ...


class ForeignFile(Fault): ...


class SwappedFile(Fault): ...


class MissingPart(Fault): ...


class SpecialFile(Fault): ...


class SealedAlone(Fault): ...


class MalformedIdentity(Fault): ...


class MalformedRecipient(Fault): ...


class WrongIdentityPassword(Fault): ...


class MistypedRecoveryCode(Fault): ...


# -- section 1: conventions --------------------------------------------------------------------

ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
SHORT = {chr(code): f"\\u{code:04x}" for code in range(0x20)} | ESCAPES


def canonical(value: Any) -> bytes:
    """The one encoding of a value."""
    return _encode(value).encode()


def _encode(value: Any) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is int and -(2**63) <= value < 2**63:
        return str(value)
    if type(value) is str:
        return '"' + "".join(SHORT.get(character, character) for character in value) + '"'
    if type(value) is list:
        return "[" + ",".join(map(_encode, value)) + "]"
    if type(value) is dict:
        return "{" + ",".join(f"{_encode(k)}:{_encode(value[k])}" for k in sorted(value)) + "}"
    raise ValueError(value)


def decode(raw: bytes, fault: type[Fault]) -> dict[str, Any]:
    """A canonical object; anything else is `fault`."""
    try:
        value = JSONDecoder().decode(raw.decode())
        same = canonical(value) == raw
    except (ValueError, JSONDecodeError, RecursionError) as error:
        raise fault("not canonical JSON") from error
    if not same or type(value) is not dict:
        raise fault("not canonical JSON")
    return value


def b32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def b64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def is_id(value: Any) -> bool:
    return type(value) is str and bool(re.fullmatch("[a-z2-7]{25}[aeimquy4]", value))


def is_slot_id(value: Any) -> bool:
    return type(value) is str and bool(re.fullmatch("[a-z2-7]{12}[acegikmoqsuwy246]", value))


def is_time(value: Any) -> bool:
    return type(value) is str and bool(re.fullmatch(TIME, value, re.ASCII))


def is_base64(size: int = -1) -> Check:
    def check(value: Any) -> bool:
        try:
            raw = b64(value) if type(value) is str else None
        except ValueError:
            return False
        same = raw is not None and base64.b64encode(raw).decode() == value
        return same and (size < 0 or len(raw or b"") == size)

    return check


def integer(low: int = -(2**63), high: int = 2**63 - 1) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def text(most: int = 1 << 20) -> Check:
    return lambda value: type(value) is str and len(value) <= most


def one_of(*values: Any) -> Check:
    return lambda value: any(type(value) is type(known) and value == known for known in values)


def members(value: Any, fault: type[Fault], need: dict[str, Check], may: dict[str, Check]) -> None:
    """Nothing missing, nothing unknown, each of the right kind."""
    known = need | may
    if type(value) is not dict or not need.keys() <= value.keys() <= known.keys():
        raise fault("wrong members")
    for name, content in value.items():
        if not known[name](content):
            raise fault(name)


def expand256(key: bytes, label: str, size: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), size, label.encode()).derive(key)


# -- section 4: the body -----------------------------------------------------------------------

CHUNK = 16_384
TAG = 16


class Aes:
    number, name, key_size = 1, "aes-256-gcm", 32
    hash: hashes.HashAlgorithm = hashes.SHA512()
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"

    @staticmethod
    def open(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
        return AESGCM(key).decrypt(nonce, sealed, None)


class Sm4:
    number, name, key_size = 2, "sm4-gcm", 16
    hash: hashes.HashAlgorithm = hashes.SM3()
    label = b"encvault/chunked-encryption@v1+AEAD_SM4_GCM"

    @staticmethod
    def open(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
        cipher = Cipher(algorithms.SM4(key), modes.GCM(nonce, sealed[-TAG:])).decryptor()
        return cipher.update(sealed[:-TAG]) + cipher.finalize()


Suite = type[Aes] | type[Sm4]
SUITES: tuple[Suite, ...] = (Aes, Sm4)
SUITE_NAMES = {suite.name: suite for suite in SUITES}


def schedule(suite: Suite, key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes, bytes]:
    """The chunks' key, the base nonce and the commitment."""
    info = suite.label + b"\0" + salt + context
    size = suite.key_size
    out = HKDFExpand(suite.hash, size + 44, info).derive(key)
    return out[:size], out[size : size + 12], out[size + 12 :]


def chunk_nonce(base: bytes, index: int) -> bytes:
    return (int.from_bytes(base) ^ index).to_bytes(12)


def open_body(suite: Suite, input_key: bytes, context: bytes, body: bytes) -> Iterator[bytes]:
    """The chunks' plaintext, each after its tag was checked."""
    if len(body) < 56:
        raise Truncated
    key, base, commitment = schedule(suite, input_key, body[:24], context)
    if not hmac.compare_digest(commitment, body[24:56]):
        raise HeaderTampered
    index = 0
    rest = memoryview(body)[56:]
    while True:
        sealed = bytes(rest[: CHUNK + TAG])
        rest = rest[CHUNK + TAG :]
        if len(sealed) < TAG:
            raise Truncated
        try:
            chunk = suite.open(key, chunk_nonce(base, index), sealed)
        except InvalidTag:
            raise ChunkCorrupt(index) from None
        yield chunk
        if len(chunk) < CHUNK:
            return
        index += 1


# -- sections 5 and 8: keys --------------------------------------------------------------------

HPKE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True)
class Keys:
    """What the person at the keyboard has."""

    passwords: tuple[str, ...] = ()
    seeds: tuple[bytes, ...] = ()
    codes: tuple[str, ...] = ()


class Pair:
    """An HPKE key pair from its seed."""

    def __init__(self, seed: bytes) -> None:
        long = hashlib.shake_256(seed).digest(96)
        kem, curve = MLKEM768PrivateKey.from_seed_bytes(long[:64]), long[64:]
        x25519 = X25519PrivateKey.from_private_bytes(curve)
        self._private = hpke.MLKEM768X25519PrivateKey(kem, x25519)
        self.public = kem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    def open(self, wrapped: bytes, info: bytes) -> bytes | None:
        try:
            return HPKE.decrypt(wrapped, self._private, info)
        except (InvalidTag, ValueError):
            return None


def fingerprint(raw: bytes, what: str = "encvault/fingerprint@v1") -> str:
    whole = b32(hashlib.sha256(what.encode() + b"\0" + raw).digest()[:20])
    return "-".join(whole[start : start + 4] for start in range(0, 32, 4))


SLOT: dict[str, Check] = {"id": is_slot_id, "label": text(200), "created_at": is_time}
PASSWORD = SLOT | {"kind": one_of("password"), "kdf": text(), "wrapped": is_base64(104)}
PASSWORD["kdf"] = lambda value: type(value) is dict
PUBLIC = SLOT | {"kind": one_of("recipient", "recovery"), "wrapped": is_base64(1168)}
PUBLIC["recipient"] = is_base64(1216)
BARE = SLOT | {"kind": one_of("password", "recipient", "recovery")}
KDF: dict[str, Check] = {
    "lanes": integer(1),
    "memory_kib": integer(1),
    "passes": integer(1),
    "name": one_of("argon2id"),
    "salt": is_base64(16),
}


def check_slot(slot: Any, fault: type[Fault]) -> None:
    kind = slot.get("kind") if type(slot) is dict else None
    if kind != "password":
        members(slot, fault, PUBLIC, {})
        check_public(b64(slot["recipient"]), fault)
        return
    members(slot, fault, PASSWORD, {})
    kdf = slot["kdf"]
    members(kdf, fault, KDF, {})
    if (
        not 8 * kdf["lanes"] <= kdf["memory_kib"] <= 2_097_152
        or max(kdf["passes"], kdf["lanes"]) > 16
    ):
        raise WorkFactorTooLarge


def check_slots(slots: Any, fault: type[Fault]) -> None:
    if type(slots) is not list or not 1 <= len(slots) <= 64:
        raise fault("slots")
    for slot in slots:
        check_slot(slot, fault)
    if sum(slot["kind"] == "password" for slot in slots) > 8:
        raise fault("passwords")
    if len({slot["id"] for slot in slots}) != len(slots):
        raise fault("two slots with one id")


def check_public(raw: bytes, fault: type[Fault]) -> None:
    try:
        MLKEM768PublicKey.from_public_bytes(raw[:1184])
    except ValueError:
        raise fault("public key") from None


def binding(value: dict[str, Any], label: bytes = b"encvault/keyslot@v1\0") -> bytes:
    return label + canonical({name: value[name] for name in value if name != "wrapped"})


def argon2id(password: str, kdf: dict[str, Any]) -> bytes:
    secret = unicodedata.normalize("NFC", password).encode()
    cost = (kdf["passes"], kdf["memory_kib"], kdf["lanes"])
    return hash_secret_raw(secret, b64(kdf["salt"]), *cost, 32, Type.ID, 0x13)


def unwrap(slots: list[dict[str, Any]], keys: Keys) -> bytes:
    """The secret that the slots hold, from the first that one of the keys opens."""
    pairs = [("recipient", Pair(seed)) for seed in keys.seeds]
    for code in keys.codes:
        pair = Pair(expand256(recovery_code(code), "encvault/recovery@v1", 32))
        pairs.append(("recovery", pair))
    for slot in slots:
        wrapped = b64(slot["wrapped"])
        for kind, pair in pairs:
            if slot["kind"] == kind and pair.public == b64(slot["recipient"]):
                secret = pair.open(wrapped, binding(slot))
                if secret is not None:
                    return secret
        for password in keys.passwords if slot["kind"] == "password" else ():
            try:
                kek = argon2id(password, slot["kdf"])
                return b"".join(open_body(Aes, kek, binding(slot), wrapped))
            except (HeaderTampered, ChunkCorrupt):
                continue
    raise NoMatchingKeyslot


CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def recovery_code(typed: str) -> bytes:
    """The 32 bytes of a recovery code."""
    text = typed.upper().translate({ord("O"): "0", ord("I"): "1", ord("L"): "1"})
    values = [CROCKFORD.find(symbol) for symbol in "".join(text.replace("-", " ").split())]
    if len(values) != 65 or -1 in values:
        raise MistypedRecoveryCode
    bits = ""
    for group in range(13):
        *four, check = values[5 * group : 5 * group + 5]
        # the polynomial in x over GF(2), then its remainder by x^5 + x^3 + 1
        total = (group + 1) << 4
        for value, power in zip(four, (4, 3, 2, 1), strict=True):
            total ^= value << power
        for bit in (8, 7, 6, 5):
            if total >> bit & 1:
                total ^= 0b101001 << bit - 5
        if total != check:
            raise MistypedRecoveryCode
        bits += "".join(f"{value:05b}" for value in four)
    if bits[256:] != "0000":
        raise MistypedRecoveryCode
    return int(bits[:256], 2).to_bytes(32, "big")


def recipient_key(line: str) -> bytes:
    """The public key of a recipient's line."""
    try:
        raw = base64.b64decode(line.removeprefix("encvault1-"), b"-_", validate=True)
    except ValueError:
        raw = b""
    if line != recipient_line(raw[1:1217]) or raw[:1] != b"\1":
        raise MalformedRecipient
    return raw[1:1217]


def recipient_line(public: bytes) -> str:
    check = hashlib.sha256(b"encvault/recipient@v1\0" + public).digest()[:4]
    return "encvault1-" + base64.urlsafe_b64encode(b"\1" + public + check).decode()


def identity_seed(raw: bytes, password: str = "") -> bytes:
    """The seed in an identity file."""
    if len(raw) > 16 << 10 or raw[-1:] != b"\n":
        raise MalformedIdentity
    value = decode(raw[:-1], MalformedIdentity)
    need = {
        "created_at": is_time,
        "encvault_identity": one_of(1),
        "name": text(),
        "recipient": text(),
    }
    kind = "slot" if "slot" in value else "seed"
    last: Check = is_base64(32) if kind == "seed" else lambda slot: type(slot) is dict
    members(value, MalformedIdentity, {**need, kind: last}, {})
    if kind == "slot":
        if value["slot"].get("kind") != "password":
            raise MalformedIdentity
        check_slot(value["slot"], MalformedIdentity)
        try:
            seed = unwrap([value["slot"]], Keys(passwords=(password,)))
        except NoMatchingKeyslot:
            raise WrongIdentityPassword from None
    else:
        seed = b64(value["seed"])
    if Pair(seed).public != recipient_key(value["recipient"]):
        raise MalformedIdentity
    return seed


# -- sections 2 and 3: a sealed file and its record --------------------------------------------


@dataclass(frozen=True)
class Header:
    suite: Suite
    metadata_size: int
    key_info: dict[str, Any]
    raw: bytes


def read_header(data: bytes) -> Header:
    if len(data) < 20 or data[:8] != b"encvault":
        raise NotSealed
    if data[8] != 1:
        raise UnsupportedVersion
    if data[9] not in {suite.number for suite in SUITES}:
        raise UnknownSuite
    if data[10:12] != b"\0\0":
        raise UnknownFlags
    metadata_size, size = int.from_bytes(data[12:16]), int.from_bytes(data[16:20])
    if metadata_size % 256 or not 256 <= metadata_size <= 1 << 20:
        raise MalformedHeader("metadata_size")
    if not 2 <= size <= 1 << 18 or len(data) < 20 + size:
        raise MalformedHeader("key_info_size")
    info = decode(data[20 : 20 + size], MalformedHeader)
    if "slots" in info:
        members(info, MalformedHeader, {"file": is_id, "slots": lambda _: True}, {})
        check_slots(info["slots"], MalformedHeader)
    else:
        members(info, MalformedHeader, dict.fromkeys(("file", "key", "vault"), is_id), {})
    return Header(SUITES[data[9] - 1], metadata_size, info, data[: 20 + size])


ALWAYS: dict[str, Check] = {
    "type": one_of("file", "dir", "symlink", "part", "archive"),
    "sealed_at_ns": integer(0),
}
TIMES: dict[str, Check] = {"mtime_ns": integer()}
OWNER: dict[str, Check] = {"uid": integer(0), "gid": integer(0)}
MODE: dict[str, Check] = TIMES | OWNER | {"mode": integer(0, 0o7777)}
XATTRS: dict[str, Check] = {
    "xattrs": lambda value: (
        type(value) is dict and bool(value) and all(map(is_base64(), value.values()))
    )
}
SIZE: dict[str, Check] = {"size": integer(0)}
PATH: dict[str, Check] = {"path": text(), "path_bytes": is_base64()}
PARTS: dict[str, Check] = {
    "part_size": integer(1),
    "parts": lambda value: type(value) is list and value != [] and all(map(is_id, value)),
}
SPARSE: dict[str, Check] = {"sparse": lambda value: value is True}
OF_TYPE: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "file": ({}, SIZE | PATH | PARTS | MODE | XATTRS | SPARSE),
    "dir": ({"folder": is_id, "size": one_of(0)}, PATH | MODE | XATTRS),
    "symlink": ({"size": integer(1, 4095)}, PATH | MODE),
    "part": (SIZE | {"of": is_id, "index": integer(1)}, {}),
    "archive": ({}, PATH | TIMES | OWNER),
}


def check_name(name: bytes) -> None:
    if name in {b"", b".", b".."} or b"\0" in name or b"/" in name or len(name) > 1023:
        raise UnsafePath(name)


@dataclass(frozen=True)
class Record:
    values: dict[str, Any]
    path: bytes

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)


def read_record(block: bytes, layout: str | None) -> Record:
    """The record of a file in a vault of that layout, or of one on its own."""
    raw = block.rstrip(b"\0")
    value = decode(raw, MalformedRecord)
    if len(block) - len(raw) > 255:
        raise MalformedRecord("more padding than needed")
    kind = value.get("type", "")
    if not ALWAYS["type"](kind):
        raise MalformedRecord("type")
    need, may = OF_TYPE[kind]
    if layout == "hidden" and kind != "part":
        need = need | {"parent": lambda parent: parent == "" or is_id(parent)}
    members(value, MalformedRecord, ALWAYS | need, may)
    if ("uid" in value) != ("gid" in value):
        raise MalformedRecord("uid and gid")
    xattrs = value.get("xattrs", {})
    if sum(len(b64(value)) for value in xattrs.values()) > 1 << 16:
        raise MalformedRecord("xattrs")
    check_parts(value, layout)
    return Record(value, read_path(value, layout) if kind != "part" else b"")


def check_parts(value: dict[str, Any], layout: str | None) -> None:
    if value["type"] in ("part", "dir") and layout != "hidden":
        raise MalformedRecord("type")
    whole = layout == "hidden" and {"parts", "part_size", "size"} <= value.keys()
    if value.keys() & {"parts", "part_size"} and not whole:
        raise MalformedRecord("parts")
    if "parts" in value and len(value["parts"]) != -(-value["size"] // value["part_size"]) - 1:
        raise MalformedRecord("parts")


def read_path(value: dict[str, Any], layout: str | None) -> bytes:
    if ("path" in value) == ("path_bytes" in value):
        raise MalformedRecord("path")
    path = value["path"].encode() if "path" in value else b64(value["path_bytes"])
    if "path_bytes" in value:
        try:
            path.decode()
        except UnicodeDecodeError:
            pass
        else:
            raise MalformedRecord("path_bytes")
    for name in path.split(b"/") if layout == "visible" else [path]:
        check_name(name)
    return path


@dataclass
class Opened:
    """A file that was opened to its end."""

    header: Header
    record: Record
    content: bytes


def open_file(data: bytes, header: Header, key: bytes, layout: str | None, sink: Sink) -> Opened:
    block = b""
    content = []
    record = None
    for chunk in open_body(header.suite, key, header.raw, data[len(header.raw) :]):
        piece = chunk
        if record is None:
            block += chunk
            if len(block) < header.metadata_size:
                continue
            record = read_record(block[: header.metadata_size], layout)
            piece = block[header.metadata_size :]
        sink(piece)
        content.append(piece)
    if record is None:
        raise MalformedRecord("shorter than metadata_size")
    opened = Opened(header, record, b"".join(content))
    size = record["part_size"] if record["parts"] else record["size"]
    if size is not None and len(opened.content) != size:
        raise MalformedRecord("content of another size")
    if record["type"] == "symlink" and 0 in opened.content:
        raise MalformedRecord("link with a zero byte")
    return opened


def nowhere(_: bytes) -> None:
    """A sink for who wants the content whole."""


def open_alone(data: bytes, keys: Keys, sink: Sink = nowhere) -> Opened:
    """Open a file that carries its own keyslots."""
    header = read_header(data)
    if "slots" not in header.key_info:
        raise ForeignFile
    return open_file(data, header, unwrap(header.key_info["slots"], keys), None, sink)


def check_archive(content: bytes) -> dict[bytes, tarfile.TarInfo]:
    """The members of an archive by name."""
    found: dict[bytes, tarfile.TarInfo] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            infos = archive.getmembers()
    except (tarfile.TarError, RecursionError):  # it calls itself for every extended header
        raise MalformedRecord from None
    for info in infos:
        path = os.fsencode(info.name)
        names = path.split(b"/")
        if b".encvault" in path.lower().split(b"/"):
            raise UnsafePath(path)
        if info.sparse is not None or any(
            key.startswith("GNU.sparse.") for key in info.pax_headers
        ):
            raise MalformedRecord(path)
        for depth, name in enumerate(names):
            check_name(name)
            above = found.get(b"/".join(names[:depth]))
            if above is not None and not above.isdir():
                raise UnsafePath(path)
        if not (info.isreg() or info.isdir() or info.issym()):
            raise SpecialFile(path)
        if path in found and not (info.isdir() and found[path].isdir()):
            raise MalformedRecord(path)
        found[path] = info
    return found


# -- sections 6 and 7: vaults ------------------------------------------------------------------

VAULT: dict[str, Check] = {
    "encvault": one_of(1),
    "id": is_id,
    "created_at": is_time,
    "generation": integer(1),
    "suite": one_of(*SUITE_NAMES),
    "layout": one_of("visible", "hidden"),
    "hpke_public": is_base64(1216),
    "sign_public": is_base64(32),
    "slots": lambda _: True,
    "pending": lambda value: type(value) is list and len(value) <= 64,
    "succession": lambda value: type(value) is list and len(value) <= 256,
    "signature": is_base64(64),
}
SUCCESSION: dict[str, Check] = {
    "generation": integer(2),
    "replaced_at": is_time,
    "sign_public": is_base64(32),
    "revoked": lambda value: type(value) is list and len(value) <= 64,
    "signature": is_base64(64),
    "wrapped": is_base64(1168),
}
DATA_KEY: dict[str, Check] = {
    "created_at": is_time,
    "id": is_id,
    "suite": one_of(*SUITE_NAMES),
    "vault": is_id,
    "wrapped": is_base64(1168),
}


def read_vault_record(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError:
        raise MalformedVault(path.name) from None
    if len(raw) > 1 << 20 or raw[-1:] != b"\n":
        raise MalformedVault(path.name)
    value = decode(raw[:-1], MalformedVault)
    if isinstance(value, dict) and type(value.get("encvault")) is int and value["encvault"] > 1:
        raise UnsupportedVersion(path.name)
    members(value, MalformedVault, VAULT, {})
    check_slots(value["slots"], MalformedVault)
    for slot in value["pending"]:
        members(slot, MalformedVault, BARE | {"kind": one_of("password")}, {})
    ids = [slot["id"] for slot in value["slots"] + value["pending"]]
    if len(set(ids)) != len(ids):
        raise MalformedVault("two slots with one id")
    signed = canonical({name: value[name] for name in value if name != "signature"})
    check_signature(value["sign_public"], value["signature"], b"encvault/vault@v1\n" + signed)
    check_succession(value)
    return value


def check_succession(record: dict[str, Any]) -> None:
    keys = [entry.get("sign_public") for entry in record["succession"] if type(entry) is dict]
    if len({*keys, record["sign_public"]}) != len(record["succession"]) + 1:
        raise MalformedVault("a key twice")
    before = 1
    for number, entry in enumerate(record["succession"], start=1):
        members(entry, MalformedVault, SUCCESSION, {})
        for slot in entry["revoked"]:
            members(slot, MalformedVault, BARE, {})
            if slot["id"] in {one["id"] for one in record["slots"] + record["pending"]}:
                raise MalformedVault("revoked, and there")
        if not before < entry["generation"] <= record["generation"]:
            raise MalformedVault("generation of a succession")
        before = entry["generation"]
        after = (*record["succession"], record)[number]
        names = ("generation", "replaced_at", "sign_public", "revoked")
        stated = {name: entry[name] for name in names} | {"id": record["id"]}
        stated["successor"] = after["sign_public"]
        statement = b"encvault/succession@v1\n" + canonical(stated)
        check_signature(entry["sign_public"], entry["signature"], statement)


def check_signature(public: str, signature: str, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(b64(public)).verify(b64(signature), message)
    except (InvalidSignature, ValueError, TypeError):
        raise MalformedVault("signature") from None


def sign_public(secret: bytes) -> bytes:
    """The Ed25519 public key of a vault secret."""
    seed = expand256(secret, "encvault/vault/sign@v1", 32)
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sealed_name(name: bytes) -> bytes:
    """Where the visible layout keeps the file `name`."""
    if len(name) + 7 <= 255:
        return name + b".sealed"
    prefix = name[:200].decode(errors="ignore")  # leaves out a character that was cut
    digest = b32(hashlib.sha256(name).digest())[:20]
    return f"{prefix}~{digest}.sealed".encode()


@dataclass
class Contents:
    """What a vault holds: files by their path; faults by the path of the sealed file."""

    files: dict[bytes, Opened] = field(default_factory=dict)
    faults: dict[bytes, Fault] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)


class Vault:
    """A vault, unlocked."""

    def __init__(self, root: Path, keys: Keys) -> None:
        self.root = root
        valid, faults = [], []
        for name in ("vault.a.json", "vault.b.json"):
            try:
                valid.append(read_vault_record(root / ".encvault" / name))
            except Fault as fault:
                faults.append(fault)
        if not valid:
            raise faults[0]
        self.record = max(valid, key=lambda record: int(record["generation"]))
        for other in valid:
            replaced = [entry["sign_public"] for entry in other["succession"]]
            if self.record["sign_public"] in replaced:
                self.record = other
                break
        secret = unwrap(self.record["slots"], keys)
        public = (b64(self.record["hpke_public"]), b64(self.record["sign_public"]))
        pair = Pair(expand256(secret, "encvault/vault/hpke@v1", 32))
        if public != (pair.public, sign_public(secret)):
            raise MalformedVault("public keys do not follow from the secret")
        self._pairs = [pair]
        for entry in reversed(self.record["succession"]):
            former = pair.open(
                b64(entry["wrapped"]), binding(entry, b"encvault/former-secret@v1\0")
            )
            if former is None or b64(entry["sign_public"]) != sign_public(former):
                raise MalformedVault("a replaced secret")
            pair = Pair(expand256(former, "encvault/vault/hpke@v1", 32))
            self._pairs.append(pair)

    def data_key(self, name: str, suite: Suite) -> bytes:
        path = self.root / ".encvault" / "keys" / f"{name}.json"
        try:
            raw = path.read_bytes()
        except OSError:
            raise UnknownDataKey from None
        if len(raw) > 16 << 10 or raw[-1:] != b"\n":
            raise UnknownDataKey
        value = decode(raw[:-1], UnknownDataKey)
        members(value, UnknownDataKey, DATA_KEY, {})
        if (value["id"], value["vault"]) != (name, self.record["id"]):
            raise UnknownDataKey
        secret = None
        for pair in self._pairs:
            secret = secret or pair.open(
                b64(value["wrapped"]), binding(value, b"encvault/data-key@v1\0")
            )
        if secret is None or len(secret) != 32:
            raise UnknownDataKey
        if value["suite"] != suite.name:
            raise HeaderTampered
        return secret

    def open(self, data: bytes, sink: Sink = nowhere) -> Opened:
        """Open one sealed file of this vault, wherever it is."""
        header = read_header(data)
        if "slots" in header.key_info and self.record["layout"] == "visible":
            raise SealedAlone
        if header.key_info.get("vault") != self.record["id"]:
            raise ForeignFile
        key = self.data_key(header.key_info["key"], header.suite)
        return open_file(data, header, key, self.record["layout"], sink)

    def contents(self) -> Contents:
        return (
            Visible(self).contents if self.record["layout"] == "visible" else Hidden(self).contents
        )


class Visible:
    """Section 6.1."""

    def __init__(self, vault: Vault) -> None:
        self.contents = Contents()
        self._root = os.fsencode(vault.root)
        for folder, folders, names in os.walk(self._root):
            folders[:] = sorted(set(folders) - {b".encvault"})
            for name in sorted(names):
                if name.endswith(b".sealed"):
                    place = os.path.relpath(os.path.join(folder, name), self._root)
                    self._add(vault, place)

    def _add(self, vault: Vault, place: bytes) -> None:
        try:
            with open(os.path.join(self._root, place), "rb") as file:
                opened = vault.open(file.read())
            self.contents.files[self._path(place, opened)] = opened
        except Fault as fault:
            self.contents.faults[place] = fault

    def _path(self, place: bytes, opened: Opened) -> bytes:
        folder, name = os.path.split(opened.record.path)
        home = os.path.join(folder, sealed_name(name))
        if place == home:
            return opened.record.path
        there = os.path.join(self._root, home)
        if os.path.lexists(there) and not self._same_id(there, opened):
            raise SwappedFile
        folder, found = os.path.split(place)
        if found != sealed_name(name):
            name = found.removesuffix(b".sealed")
            check_name(name)
        return os.path.join(folder, name)

    @staticmethod
    def _same_id(path: bytes, opened: Opened) -> bool:
        try:
            with open(path, "rb") as file:
                there = read_header(file.read())
        except (Fault, OSError):
            return False
        return bool(there.key_info["file"] == opened.header.key_info["file"])


def object_path(file_id: str) -> str:
    return f".encvault/objects/{file_id[:2]}/{file_id}"


class Hidden:
    """Section 6.2."""

    def __init__(self, vault: Vault) -> None:
        self.contents = Contents()
        self._objects: dict[str, Opened] = {}
        root = vault.root / ".encvault" / "objects"
        for path in sorted(root.glob("*/*")):
            try:
                opened = vault.open(path.read_bytes())
                file_id = opened.header.key_info["file"]
                if (path.parent.name, path.name) != (file_id[:2], file_id):
                    raise SwappedFile
                self._objects[file_id] = opened
            except Fault as fault:
                self.contents.faults[os.fsencode(path.relative_to(vault.root))] = fault
        self._folders = self._newest_folders()
        self._place()

    @staticmethod
    def _age(opened: Opened) -> tuple[int, str]:
        return opened.record["sealed_at_ns"], opened.header.key_info["file"]

    def _newest_folders(self) -> dict[str, Opened]:
        found: dict[str, Opened] = {}
        for opened in sorted(self._objects.values(), key=self._age):
            if opened.record["type"] == "dir":
                found[opened.record["folder"]] = opened
        return found

    def _path(self, opened: Opened) -> bytes:
        folder = opened.record["folder"]
        if folder is not None and self._is_lost(folder):
            return b"lost+found/" + folder.encode()
        names = [opened.record.path]
        parent = opened.record["parent"]
        while parent:
            if self._is_lost(parent):
                names += [parent.encode(), b"lost+found"]
                break
            names.append(self._folders[parent].record.path)
            parent = self._folders[parent].record["parent"]
        return b"/".join(reversed(names))

    def _is_lost(self, folder: str) -> bool:
        """Whether a folder is missing, or lies within itself."""
        seen: list[str] = []
        at = folder
        while at and at not in seen:
            if at not in self._folders:
                return at == folder
            seen.append(at)
            at = self._folders[at].record["parent"]
        return at == folder

    def _place(self) -> None:
        for opened in sorted(self._objects.values(), key=self._age):
            if opened.record["type"] == "part":
                continue
            path = self._path(opened)
            before = self.contents.files.get(path)
            if before is not None:
                self.contents.superseded.append(before.header.key_info["file"])
            self.contents.files[path] = opened
        for path, opened in list(self.contents.files.items()):
            try:
                self._join(opened)
            except Fault as fault:
                del self.contents.files[path]
                self.contents.faults[path] = fault

    def _join(self, first: Opened) -> None:
        record = first.record
        ids = record["parts"] or []
        pieces = [first.content]
        for index, part_id in enumerate(ids, 1):
            part = self._objects.get(part_id)
            if part is None:
                raise self.contents.faults.get(os.fsencode(object_path(part_id)), MissingPart())
            if (part.record["of"], part.record["index"]) != (first.header.key_info["file"], index):
                raise MissingPart
            rest = record["size"] - index * record["part_size"]
            if part.record["size"] != min(record["part_size"], rest):
                raise MissingPart
            pieces.append(part.content)
        first.content = b"".join(pieces)
