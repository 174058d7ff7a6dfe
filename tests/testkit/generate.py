"""Makes the kit: one broken file or vault for each rule of docs/format.md, and their index.

    PYTHONPATH=tests python -m testkit.generate

The same files come out every time. A new HPKE ciphertext is made only for what was never wrapped
before; wrapped.json keeps it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import reader
from conformance.reader import CHUNK, Aes, Sm4, canonical, object_path
from testkit import writer
from testkit.writer import (
    FILE_KEY,
    PASSWORD,
    SEED,
    TIME,
    Changes,
    VaultWriter,
    alone,
    b64,
    chunked,
    file_record,
    header,
    hidden,
    identifier,
    inline,
    kdf,
    pad,
    password_slot,
    random,
    recipient_slot,
    seal_body,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIT = Path(__file__).parent
ALPHA = b"alpha\n"


@dataclass
class Case:
    """One file or vault.

    Attributes:
        name: of the fault, and of the file or folder.
        section: of docs/format.md.
        fault: what is wrong, for people.
        error: the class that a reader raises; empty if the file is good.
        data: the sealed file, the files of a vault, or an identity file.
        released: plaintext that a reader may release before the error.
        password: what opens it; empty for the kit's identity.
        opens: of a vault: what is in it that opens, by path.
        unpacks: whether the error comes only when the archive is unpacked.
    """

    name: str
    section: str
    fault: str
    error: str
    data: bytes | VaultWriter
    released: bytes = b""
    password: str = PASSWORD
    opens: dict[str, bytes] = field(default_factory=dict)
    unpacks: bool = False


# -- section 2: headers ------------------------------------------------------------------------


def fixed_part() -> Iterator[Case]:
    good = alone()
    for name, fault, data in (
        ("magic-changed", "one bit of the magic is changed", bytes([good[0] ^ 1]) + good[1:]),
        ("magic-in-capitals", "the magic is ENCVAULT", b"ENCVAULT" + good[8:]),
        ("file-empty", "no bytes at all", b""),
        ("file-of-19-bytes", "one byte less than the fixed part", good[:19]),
    ):
        yield Case(name, "2", fault, "NotSealed", data)
    for version in (0, 2, 255):
        data = alone(version=version)
        yield Case(f"version-{version}", "2", "unknown version", "UnsupportedVersion", data)
    for suite in (0, 3, 255):
        yield Case(f"suite-{suite}", "2", "unknown suite", "UnknownSuite", _sealed_as(suite))
    for flags in (0x0001, 0x8000):
        data = alone(flags=flags)
        yield Case(f"flags-{flags:04x}", "2", "a flag is set", "UnknownFlags", data)
    for size in (0, 255, 257, 1_048_832, 0xFFFF_FF00):
        data = alone(metadata_size=size)
        fault = f"metadata_size is {size}"
        yield Case(f"metadata-size-{size}", "2", fault, "MalformedHeader", data)
    for size in (0, 1, 262_145, 0xFFFF_FFFF):
        data = alone(key_info_size=size)
        fault = f"key_info_size is {size}"
        yield Case(f"key-info-size-{size}", "2", fault, "MalformedHeader", data)
    end = 20 + int.from_bytes(good[16:20])
    for name, size in (("header-cut-after-fixed-part", 20), ("header-cut-by-one-byte", end - 1)):
        yield Case(name, "2", "the file ends within key-info", "MalformedHeader", good[:size])


def _sealed_as(suite: int) -> bytes:
    block = pad(canonical(file_record(ALPHA)))
    head = header(inline(), len(block), suite)
    return head + seal_body(Aes, FILE_KEY, head, block + ALPHA)


def key_info_text() -> Iterator[Case]:
    text = canonical(inline())
    label = b'"label":"kit"'

    def swap(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1
        return text.replace(old, new)

    file = canonical(identifier("file"))
    variants = {
        "not-json": (b"key" + text, "it is not JSON"),
        "empty-object": (b"{}", "it has no member"),
        "array": (b"[" + text + b"]", "it is an array"),
        "string": (b'"key-info"', "it is a string"),
        "space-inside": (swap(b'"file":', b'"file": '), "white space"),
        "space-at-end": (text + b" ", "white space at its end"),
        "line-feed-at-end": (text + b"\n", "a line feed at its end"),
        "byte-order-mark": (b"\xef\xbb\xbf" + text, "a byte order mark"),
        "second-value": (text + b"{}", "a second value follows"),
        "duplicate-name": (
            swap(b'{"file":' + file, b'{"file":%b,"file":%b' % (file, file)),
            "twice",
        ),
        "members-unsorted": (
            swap(b'"kind":"password",' + label, label + b',"kind":"password"'),
            "members out of order",
        ),
        "escape-not-needed": (swap(label, b'"label":"\\u006bit"'), "k is escaped"),
        "escape-of-slash": (swap(label, b'"label":"\\/"'), "/ is escaped"),
        "escape-of-delete": (swap(label, b'"label":"\\u007f"'), "U+007F is escaped"),
        "escape-not-shortest": (swap(label, b'"label":"\\u000a"'), "a line feed is not \\n"),
        "escape-in-capitals": (swap(label, b'"label":"\\u001F"'), "hexadecimal in capitals"),
        "escaped-pair": (swap(label, b'"label":"\\ud83d\\ude00"'), "an escaped surrogate pair"),
        "lone-surrogate": (swap(label, b'"label":"\\ud800"'), "an escaped lone surrogate"),
        "lone-surrogate-raw": (swap(label, b'"label":"\xed\xa0\x80"'), "a lone surrogate"),
        "not-utf-8": (swap(label, b'"label":"\xff"'), "a byte that is not UTF-8"),
        "overlong-utf-8": (swap(label, b'"label":"\xc1\xab"'), "an overlong k"),
        "control-character-raw": (swap(label, b'"label":"\x1f"'), "a raw control character"),
        "null": (swap(label, b'"label":null'), "null"),
        "nan": (swap(b'"lanes":1', b'"lanes":NaN'), "NaN"),
        "fraction": (swap(b'"lanes":1', b'"lanes":1.0'), "a fraction"),
        "exponent": (swap(b'"lanes":1', b'"lanes":1e0'), "an exponent"),
        "leading-zero": (swap(b'"lanes":1', b'"lanes":01'), "a leading zero"),
        "minus-zero": (swap(b'"lanes":1', b'"lanes":-0'), "minus zero"),
        "integer-2-63": (swap(b'"lanes":1', b'"lanes":9223372036854775808'), "2^63"),
        "integer-of-5000-digits": (swap(b'"lanes":1', b'"lanes":1' + b"0" * 4999), "10^4999"),
        "integer-as-true": (swap(b'"lanes":1', b'"lanes":true'), "true for 1"),
        "integer-as-text": (swap(b'"lanes":1', b'"lanes":"1"'), "text for an integer"),
        "nested-deeply": (swap(label, b'"label":' + b"[" * 2999 + b"]" * 2999), "2999 arrays"),
    }
    for name, (data, fault) in variants.items():
        yield Case(
            f"key-info-{name}", "1", f"key-info: {fault}", "MalformedHeader", alone(key_info=data)
        )


def key_info_members() -> Iterator[Case]:
    ids = {"file": identifier("file"), "key": identifier("key"), "vault": identifier("vault")}
    both = inline() | ids
    slot = password_slot(FILE_KEY)
    variants: dict[str, tuple[Any, str]] = {
        "without-file": (inline(file=None), "no file"),
        "without-slots": (inline(slots=None), "neither slots nor key and vault"),
        "unknown-member": (inline(more=1), "an unknown member"),
        "of-both-kinds": (both, "slots and key and vault"),
        "vault-without-key": ({n: ids[n] for n in ("file", "vault")}, "no key"),
        "vault-without-vault": ({n: ids[n] for n in ("file", "key")}, "no vault"),
        "vault-unknown-member": (ids | {"more": 1}, "an unknown member"),
        "vault-id-a-number": (ids | {"vault": 1}, "vault is a number"),
        "key-id-short": (ids | {"key": ids["key"][:-1]}, "key has 25 characters"),
        "file-id-short": (inline(file=ids["file"][1:]), "file has 25 characters"),
        "file-id-in-capitals": (inline(file=ids["file"].upper()), "file is in capitals"),
        "file-id-padded": (inline(file=ids["file"] + "======"), "file has padding"),
        "file-id-unused-bits": (inline(file="a" * 25 + "b"), "an unused bit of file is set"),
        "file-id-a-list": (inline(file=[ids["file"]]), "file is a list"),
        "slots-empty": (inline(slots=[]), "no slot"),
        "slots-an-object": (inline(slots={}), "slots is an object"),
        "slots-of-text": (inline(slots=["slot"]), "a slot is text"),
        "slots-65": (inline(*_many(64), slot), "65 slots"),
        "slots-9-passwords": (inline(*_passwords(8), slot), "9 password slots"),
        "slots-of-one-id": (inline(slot, _dummy(0) | {"id": slot["id"]}), "two slots with one id"),
    }
    for name, (info, fault) in variants.items():
        data = alone(key_info=info)
        yield Case(f"key-info-{name}", "2", f"key-info: {fault}", "MalformedHeader", data)
    data = alone(key_info=inline(*_passwords(7), slot))
    yield Case("slots-8-passwords", "9", "as many as allowed", "", data, ALPHA)


def _dummy(index: int) -> Changes:
    """A slot for somebody else; short work, as nobody opens it."""
    members: Changes = {
        "id": reader.b32(random(f"dummy {index}", 8)),
        "recipient": b64(reader.Pair(SEED).public),
    }
    return recipient_slot(b"", **members, wrapped=b64(bytes(1168)))


def _many(count: int) -> list[Changes]:
    return [_dummy(index) for index in range(count)]


def _passwords(count: int) -> list[Changes]:
    ids = [reader.b32(random(f"dummy {index}", 8)) for index in range(count)]
    return [password_slot(random("other", 32), password="other", id=name) for name in ids]


# -- section 5: keyslots -----------------------------------------------------------------------


def one(name: str, value: Any) -> Changes:
    """One member to change."""
    return {name: value}


def slots() -> Iterator[Case]:
    def case(name: str, fault: str, slot: Changes, error: str = "MalformedHeader") -> Case:
        data = alone(key_info=inline(slot))
        return Case(f"slot-{name}", "5", f"slot: {fault}", error, data)

    for name in ("id", "kind", "label", "created_at", "kdf", "wrapped"):
        yield case(f"without-{name}", f"no {name}", password_slot(FILE_KEY, **one(name, None)))
        yield case(f"{name}-a-number", "a number", password_slot(FILE_KEY, **one(name, 7)))
    for name in ("id", "label", "created_at", "recipient", "wrapped"):
        slot = recipient_slot(FILE_KEY) | {"wrapped": b64(bytes(1168))}
        slot.pop(name)
        yield case(f"recipient-without-{name}", f"no {name}", slot)
    yield case("unknown-member", "an unknown member", password_slot(FILE_KEY, more=1))
    yield case("of-both-kinds", "kdf and recipient", password_slot(FILE_KEY, recipient="x"))
    yield case("kind-unknown", "a kind that does not exist", password_slot(FILE_KEY, kind="fido2"))
    yield case("id-long", "14 characters", password_slot(FILE_KEY, id="a" * 14))
    yield case("id-unused-bit", "an unused bit is set", password_slot(FILE_KEY, id="a" * 12 + "b"))
    yield case("label-of-201", "201 characters", password_slot(FILE_KEY, label="é" * 201))
    good = alone(key_info=inline(password_slot(FILE_KEY, label="😀" * 200)))
    yield Case("slot-label-of-200", "5", "as long as allowed, in 800 bytes", "", good, ALPHA)
    for name, time in (
        ("with-offset", "2026-01-02T03:04:05+00:00"),
        ("with-fraction", "2026-01-02T03:04:05.0Z"),
        ("in-small-letters", "2026-01-02t03:04:05z"),
        ("in-other-digits", "٢٠٢٦-01-02T03:04:05Z"),
        ("with-line-feed", "2026-01-02T03:04:05Z\n"),
    ):
        yield case(
            f"time-{name}", f"created_at is {time!r}", password_slot(FILE_KEY, created_at=time)
        )
    wrapped = password_slot(FILE_KEY)["wrapped"]
    for name, text in (
        ("of-103-bytes", b64(bytes(103))),
        ("of-105-bytes", b64(bytes(105))),
        ("not-base64", "!" + wrapped[1:]),
        ("without-padding", wrapped.rstrip("=")),
        ("unused-bits", wrapped[:-2] + chr(ord(wrapped[-2]) + 1) + "="),
        ("with-line-feed", wrapped[:76] + "\n" + wrapped[76:]),
        ("base64url", b64(b"\xff" * 104).replace("/", "_")),
    ):
        yield case(f"wrapped-{name}", "wrong wrapped", password_slot(FILE_KEY, wrapped=text))
    for size in (1167, 1169):
        slot = recipient_slot(FILE_KEY, wrapped=b64(bytes(size)))
        yield case(f"recipient-wrapped-of-{size}-bytes", "wrong size", slot)
    short = recipient_slot(FILE_KEY, wrapped=b64(bytes(1168)))
    public = reader.b64(short["recipient"])
    for name, raw in (
        ("of-1215-bytes", public[:-1]),
        ("of-1217-bytes", public + b"0"),
        ("not-of-ml-kem", b"\xff" * 1216),
    ):
        yield case(f"recipient-{name}", "wrong public key", short | {"recipient": b64(raw)})
    recovery = short | {"kind": "recovery"}
    without = writer.changed(recovery, {"recipient": None})
    yield case("recovery-without-recipient", "no recipient", without)
    yield case("recovery-of-a-body", "wrong size", recovery | {"wrapped": b64(bytes(104))})


def work() -> Iterator[Case]:
    def case(name: str, error: str, /, **changes: Any) -> Case:
        data = alone(key_info=inline(password_slot(FILE_KEY, kdf=kdf(**changes))))
        fault = ", ".join(f"{member} is {value!r}" for member, value in changes.items())
        return Case(f"kdf-{name}", "5", fault, error, data)

    large = "WorkFactorTooLarge"
    yield case("memory-above-cap", large, memory_kib=2_097_153)
    yield case("memory-1-tib", large, memory_kib=1 << 30)
    yield case("memory-2-63", large, memory_kib=2**63 - 1)
    yield case("memory-below-8-lanes", large, memory_kib=15, lanes=2)
    yield case("passes-17", large, passes=17)
    yield case("lanes-17", large, lanes=17, memory_kib=136)
    for name in ("memory_kib", "passes", "lanes"):
        yield case(f"{name}-0".replace("_", "-"), "MalformedHeader", **{name: 0})
        yield case(f"{name}-negative".replace("_", "-"), "MalformedHeader", **{name: -1})
        yield case(f"{name}-text".replace("_", "-"), "MalformedHeader", **{name: "1"})
    for name in ("memory_kib", "passes", "lanes", "name", "salt"):
        yield case(f"without-{name}".replace("_", "-"), "MalformedHeader", **{name: None})
    yield case("unknown-member", "MalformedHeader", version=19)
    yield case("name-argon2i", "MalformedHeader", name="argon2i")
    yield case("salt-of-15-bytes", "MalformedHeader", salt=b64(bytes(15)))
    yield case("salt-of-17-bytes", "MalformedHeader", salt=b64(bytes(17)))
    # the cap holds for slots that would not even be tried
    slot = password_slot(FILE_KEY, kdf=kdf(memory_kib=1 << 30))
    data = alone(key_info=inline(slot, recipient_slot(FILE_KEY)))
    fault = "1 TiB in a password slot beside the recipient's"
    yield Case("kdf-memory-1-tib-beside", "5", fault, large, data, password="")
    good = alone(
        key_info=inline(password_slot(FILE_KEY, kdf=kdf(passes=16, lanes=16, memory_kib=128)))
    )
    yield Case("kdf-at-caps", "9", "16 passes and 16 lanes", "", good, ALPHA)


def keys() -> Iterator[Case]:
    yield Case("good-password", "5", "nothing is wrong", "", alone(), ALPHA)
    by_key = inline(recipient_slot(FILE_KEY))
    yield Case("good-recipient", "5", "nothing is wrong", "", alone(key_info=by_key), ALPHA, "")
    yield Case("good-sm4", "4", "nothing is wrong", "", alone(suite=Sm4), ALPHA)
    slot = password_slot(FILE_KEY, password="caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    data, decomposed = alone(key_info=inline(slot)), "cafe\N{COMBINING ACUTE ACCENT}"
    yield Case("password-decomposed", "5", "NFC makes it fit", "", data, ALPHA, decomposed)

    def none(name: str, fault: str, *info: Changes, password: str = PASSWORD) -> Case:
        data = alone(key_info=inline(*info))
        return Case(name, "5", fault, "NoMatchingKeyslot", data, password=password)

    good, key = password_slot(FILE_KEY), recipient_slot(FILE_KEY)
    yield none("password-wrong", "another password", good, password="another")
    yield none(
        "password-of-other-width",
        "NFC keeps a full-width letter",
        good,
        password="\N{FULLWIDTH LATIN SMALL LETTER C}" + PASSWORD[1:],
    )
    yield none("identity-of-nobody", "only a password slot", good, password="")
    other = recipient_slot(FILE_KEY, seed=bytes(32))
    yield none("identity-of-another", "the slot is somebody else's", other, password="")
    swapped = other | {"recipient": key["recipient"]}
    yield none("identity-wrong-public-key", "another's slot under our name", swapped, password="")
    for name, slot, words in (("slot", good, PASSWORD), ("recipient-slot", key, "")):
        for what, value in (("label", "kid"), ("created_at", "2026-01-02T03:04:06Z")):
            fault = f"{what} was changed after sealing"
            yield none(f"{name}-{what}-changed", fault, slot | {what: value}, password=words)
    raw = bytearray(reader.b64(good["wrapped"]))
    for name, index in (("salt", 0), ("commitment", 24), ("secret", 56), ("tag", 103)):
        data = bytes(raw[:index]) + bytes([raw[index] ^ 1]) + bytes(raw[index + 1 :])
        yield none(f"slot-wrapped-{name}-changed", "one bit", good | {"wrapped": b64(data)})
    raw = bytearray(reader.b64(key["wrapped"]))
    for name, index in (("kem", 0), ("curve", 1100), ("secret", 1120), ("tag", 1167)):
        data = bytes(raw[:index]) + bytes([raw[index] ^ 1]) + bytes(raw[index + 1 :])
        slot = key | {"wrapped": b64(data)}
        yield none(f"recipient-slot-wrapped-{name}-changed", "one bit", slot, password="")
    zeros = bytes(raw[:1088]) + bytes(32) + bytes(raw[1120:])
    slot = key | {"wrapped": b64(zeros)}
    yield none("recipient-slot-curve-zero", "X25519 point of low order", slot, password="")


# -- section 4: bodies -------------------------------------------------------------------------


def headers_changed() -> Iterator[Case]:
    error = "HeaderTampered"
    good = alone()
    other = canonical(identifier("other"))
    data = good.replace(canonical(identifier("file")), other, 1)
    yield Case("header-file-id-changed", "2", "file names another id", error, data)
    data = good[:12] + (512).to_bytes(4) + good[16:]
    yield Case("header-metadata-size-changed", "2", "512 for 256", error, data)
    yield Case("header-suite-1-for-2", "4", "suite", error, _suite(alone(suite=Sm4), 1))
    yield Case("header-suite-2-for-1", "4", "suite", error, _suite(good, 2))
    spare = inline(password_slot(FILE_KEY), _dummy(0))
    block = pad(canonical(file_record(ALPHA)))
    for name, before, after in (
        ("header-slot-added", inline(), spare),
        ("header-slot-taken-away", spare, inline()),
    ):
        sealed = seal_body(Aes, FILE_KEY, header(before, len(block)), block + ALPHA)
        yield Case(name, "4", "another list of slots", error, header(after, len(block)) + sealed)
    for suite in (Aes, Sm4):
        head, start, chunks = chunked(ALPHA, suite)
        for what, index in (
            ("salt", 0),
            ("salt-end", 23),
            ("commitment", 24),
            ("commitment-end", 55),
        ):
            changed = start[:index] + bytes([start[index] ^ 0x80]) + start[index + 1 :]
            data = head + changed + b"".join(chunks)
            yield Case(f"{what}-changed-{suite.name}", "4", "one bit", error, data)


def _suite(data: bytes, number: int) -> bytes:
    return data[:9] + bytes([number]) + data[10:]


def bodies() -> Iterator[Case]:
    content = random("content", CHUNK - 256 + 100)  # one full chunk and one of 100 bytes
    first = content[: CHUNK - 256]
    corrupt, cut = "ChunkCorrupt", "Truncated"
    for suite in (Aes, Sm4):
        head, start, (one, two) = chunked(content, suite)
        front = head + start
        variants: dict[str, tuple[str, str, bytes, bytes]] = {
            "good-two-chunks": ("nothing is wrong", "", front + one + two, content),
            "last-chunk-tag-changed": ("tag", corrupt, front + one + _flip(two, 115), first),
            "cut-at-chunk-border": ("no last chunk", cut, front + one, first),
            "cut-after-commitment": ("no chunk at all", cut, front, b""),
            "cut-within-commitment": ("55 bytes of body", cut, front[:-1], b""),
            "cut-after-header": ("no body", cut, head, b""),
        }
        if suite is Aes:  # the same for both, and not small
            variants |= {
                "chunk-changed": ("first byte", corrupt, front + _flip(one, 0) + two, b""),
                "last-chunk-extended": ("a byte more", corrupt, front + one + two + b"\0", first),
                "cut-within-tag": ("15 bytes of a tag", cut, front + one + two[:15], first),
                "chunk-tag-changed": ("last bit", corrupt, front + _flip(one, 16399) + two, b""),
                "last-chunk-changed": ("first byte", corrupt, front + one + _flip(two, 0), first),
                "last-chunk-shortened": ("one byte less", corrupt, front + one + two[:-1], first),
                "chunk-left-out": ("the first of two", corrupt, front + two, b""),
            }
        for name, (fault, error, data, released) in variants.items():
            yield Case(f"{name}-{suite.name}", "4", fault, error, data, released)
    head, start, (one, last) = chunked(first)
    data = head + start + one + last
    yield Case("good-empty-last-chunk", "4", "nothing is wrong", "", data, first)
    yield Case("empty-chunk-repeated", "4", "twice", corrupt, data + last, first)
    head, start, (one, two, last) = chunked(first + random("more", CHUNK))
    front = head + start
    yield Case("chunks-exchanged", "4", "second, first", corrupt, front + two + one + last)
    yield Case("chunk-repeated", "4", "the first twice", corrupt, front + one + one + last, first)
    yield from _wrong_chunks(content)


def _flip(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def _wrong_chunks(content: bytes) -> Iterator[Case]:
    """Every chunk is authentic; only their sizes are not those of a body."""
    full = content[: CHUNK - 256]
    for suite in (Aes, Sm4):
        block = pad(canonical(file_record(full)))
        head, start, chunks = chunked(full, suite, [block + full])
        data = head + start + b"".join(chunks)
        fault = "the last chunk seals 16384 bytes"
        yield Case(f"last-chunk-full-{suite.name}", "4", fault, "Truncated", data, full)
        head, start, chunks = chunked(
            ALPHA, suite, [pad(canonical(file_record(ALPHA))) + ALPHA, b""]
        )
        data = head + start + b"".join(chunks)
        fault = "an empty chunk after a short one"
        yield Case(f"empty-chunk-added-{suite.name}", "4", fault, "ChunkCorrupt", data)
    plain = pad(canonical(file_record(content))) + content
    head, start, chunks = chunked(content, Aes, [plain[:9000], plain[9000:]])
    data = head + start + b"".join(chunks)
    yield Case("chunk-short", "4", "9000 bytes in front", "ChunkCorrupt", data)
    head, start, chunks = chunked(content, Aes, [plain])
    data = head + start + b"".join(chunks)
    yield Case("chunk-of-more-than-16384-bytes", "4", "one chunk for all", "ChunkCorrupt", data)


# -- section 3: records ------------------------------------------------------------------------


def record_text() -> Iterator[Case]:
    text = canonical(file_record(ALPHA))
    path = b'"path":"a.txt"'

    def case(name: str, fault: str, block: bytes) -> Case:
        data = alone(record=block)
        return Case(f"record-{name}", "3", f"record: {fault}", "MalformedRecord", data)

    yield case("padding-not-zero", "its last byte is 1", pad(text)[:-1] + b"\1")
    yield case("padding-with-text", "text after the zeros", pad(text)[:-2] + b"{}")
    yield case("padding-with-spaces", "spaces for zeros", text.ljust(256))
    yield case("padding-of-one-step-more", "512 bytes for 256", pad(text) + bytes(256))
    yield case("empty", "only zeros", bytes(256))
    yield case("array", "an array", pad(b"[]"))
    yield case("not-utf-8", "a byte that is not UTF-8", pad(text.replace(b"a.txt", b"\xff.txt")))
    yield case("lone-surrogate", "in its path", pad(text.replace(b"a.txt", b"\\udcff.txt")))
    yield case("space", "white space", pad(text.replace(b":", b": ")))
    yield case("duplicate-name", "path twice", pad(text.replace(path, path + b"," + path)))
    yield case(
        "unsorted",
        "out of order",
        pad(b'{"type":"file",' + text[1:].replace(b',"type":"file"', b"")),
    )
    yield case("fraction", "size is 6.0", pad(text.replace(b'"size":6', b'"size":6.0')))
    yield case("null", "mtime_ns is null", pad(text.replace(path, b'"mtime_ns":null,' + path)))
    nested = b'"path":' + b"[" * 2999 + b"]" * 2999
    yield case("nested-deeply", "2999 arrays", pad(text.replace(path, nested)))
    yield case("cut", "the text ends within", pad(text[:-1]))
    head = header(inline(), 512)
    data = head + seal_body(Aes, FILE_KEY, head, pad(text))
    fault = "the body ends before metadata_size"
    yield Case("record-cut-off", "3", fault, "MalformedRecord", data)
    # members are sorted by code point, not by UTF-16 unit: U+FF5E comes before U+1F600
    xattrs = {"user.\N{FULLWIDTH TILDE}": b64(b"1"), "user.😀": b64(b"2")}
    good = alone(record=file_record(ALPHA, xattrs=xattrs))
    yield Case("record-sorted-by-code-point", "1", "nothing is wrong", "", good, ALPHA)
    wrong = canonical(file_record(ALPHA, xattrs=xattrs))
    one, two = (canonical(name) + b":" + canonical(value) for name, value in xattrs.items())
    assert one + b"," + two in wrong
    yield case(
        "sorted-by-utf-16",
        "sorted by UTF-16 unit",
        pad(wrong.replace(one + b"," + two, two + b"," + one)),
    )


def record_members() -> Iterator[Case]:
    def case(name: str, fault: str, record: Changes, content: bytes = ALPHA) -> Case:
        data = alone(content, record=record)
        return Case(f"record-{name}", "3", f"record: {fault}", "MalformedRecord", data)

    def changed(**changes: Any) -> Changes:
        return file_record(ALPHA, **changes)

    for name in ("type", "path", "sealed_at_ns"):
        yield case(f"without-{name}", f"no {name}", changed(**{name: None}))
    yield case("unknown-member", "an unknown member", changed(comment="x"))
    wrong: dict[str, tuple[Any, ...]] = {
        "type": ("fifo", 1, ["file"]),
        "path": (1, ["a.txt"]),
        "size": (-1, "6", True),
        "mode": (-1, 0o10000, "644"),
        "mtime_ns": ("0", True),
        "sealed_at_ns": (-1, "0", True),
        "sparse": (False, 1),
        "xattrs": ({}, [], {"user.a": 1}, {"user.a": "!"}),
    }
    for name, values in wrong.items():
        for index, value in enumerate(values, 1):
            yield case(f"{name}-wrong-{index}", f"{name} is {value!r}", changed(**{name: value}))
    owner = {"uid": 1000, "gid": 1000}
    yield case("uid-without-gid", "no gid", changed(uid=1000))
    yield case("gid-without-uid", "no uid", changed(gid=1000))
    yield case("uid-negative", "uid is -1", changed(**owner | {"uid": -1}))
    good = alone(record=changed(**owner, mode=0o7777, mtime_ns=-1, sparse=True))
    yield Case("record-with-all-members", "3", "nothing is wrong", "", good, ALPHA)
    path = b64(b"caf\xe9.txt")
    good = alone(record=changed(path=None, path_bytes=path))
    yield Case("record-path-bytes", "3", "nothing is wrong: not UTF-8", "", good, ALPHA)
    yield case("path-bytes-beside-path", "both", changed(path_bytes=path))
    yield case("path-bytes-of-utf-8", "valid UTF-8", changed(path=None, path_bytes=b64(b"a.txt")))
    yield case(
        "path-bytes-unused-bits", "not canonical", changed(path=None, path_bytes=path[:-2] + "R=")
    )
    yield case("parent-outside-hidden", "parent in a file on its own", changed(parent=""))
    yield case("folder-of-a-file", "folder", changed(folder=identifier("f")))
    yield case("part-outside-vault", "a part on its own", _part_record())
    yield case("dir-outside-vault", "a folder on its own", _dir_record(), b"")
    parts = {"part_size": 6, "parts": [identifier("p")], "size": 7}
    yield case("parts-outside-hidden", "a file in parts on its own", changed(**parts))
    yield case("of-outside-part", "of and index in a file", changed(of=identifier("o"), index=1))
    link = {"type": "symlink", "path": "link", "size": 6, "sealed_at_ns": 0}
    yield case("symlink-without-size", "no size", {n: v for n, v in link.items() if n != "size"})
    yield case("symlink-sparse", "sparse in a symlink", link | {"sparse": True})
    archive = {"type": "archive", "path": "a.tar", "sealed_at_ns": 0}
    yield case("archive-with-size", "size in an archive", archive | {"size": 6})
    yield case("archive-with-mode", "mode in an archive", archive | {"mode": 0o644})
    record = changed(xattrs={"user.a": b64(bytes(65_536)), "user.b": b64(b"1")})
    yield case("xattrs-above-cap", "65537 bytes of attributes", record)
    for name, size in (("content-shorter", 7), ("content-longer", 5), ("content-not-empty", 0)):
        data = alone(record=changed(size=size))
        fault = f"6 bytes where size says {size}"
        yield Case(name, "3", fault, "MalformedRecord", data, ALPHA)
    yield Case(
        "good-stream", "3", "no size, as of a stream", "", alone(record=changed(size=None)), ALPHA
    )


def _part_record() -> Changes:
    return {"type": "part", "of": identifier("o"), "index": 1, "size": 6, "sealed_at_ns": 0}


def _dir_record(**changes: Any) -> Changes:
    record = {"type": "dir", "path": "d", "folder": identifier("f"), "size": 0, "sealed_at_ns": 0}
    return writer.changed(record, changes)


UNSAFE = {
    "empty": "",
    "dot": ".",
    "dot-dot": "..",
    "above": "../a.txt",
    "absolute": "/encvault-testkit/a.txt",  # nothing of value, should a reader be wrong
    "slash": "/",
    "slash-at-end": "a/",
    "zero-byte": "a\0b",
    "name-of-1024-bytes": "é" * 512,
    "dot-dot-within": "a/../b",
    "dot-within": "a/./b",
    "empty-within": "a//b",
}


def paths() -> Iterator[Case]:
    for name, path in UNSAFE.items():
        data = alone(record=file_record(ALPHA, path=path))
        yield Case(f"path-{name}", "3", f"path is {path[:9]!r}", "UnsafePath", data)
    data = alone(record=file_record(ALPHA, path="sub/a.txt"))
    yield Case(
        "path-not-bare", "3", "a folder in the path of a file on its own", "UnsafePath", data
    )
    record = file_record(ALPHA, path=None, path_bytes=b64(b"../\xff"))
    yield Case("path-bytes-above", "3", "path_bytes has ..", "UnsafePath", alone(record=record))
    good = alone(record=file_record(ALPHA, path="é" * 127 + "x"))
    yield Case("path-name-of-255-bytes", "9", "as long as allowed", "", good, ALPHA)


# -- section 3: archives -----------------------------------------------------------------------


def archives() -> Iterator[Case]:
    def case(name: str, fault: str, error: str, content: bytes) -> Case:
        record = {"type": "archive", "path": "tree", "sealed_at_ns": 0}
        data = alone(content, record=record)
        return Case(f"archive-{name}", "3", f"archive: {fault}", error, data, content, unpacks=True)

    good = (writer.member("good"), b"good\n")
    tar, member = writer.tar, writer.member
    folder, link = tarfile.DIRTYPE, tarfile.SYMTYPE
    yield case("good", "nothing is wrong", "", tar(good, (member("d", folder), b"")))
    for name, path in UNSAFE.items():
        if name in ("zero-byte", "slash-at-end", "empty", "slash"):
            continue  # ustar cannot say it, or means a folder
        content = tar(good, (member(path), b"bad\n"))
        yield case(f"path-{name}", f"a member {path[:9]!r}", "UnsafePath", content)
    escape = (member("link", link, linkname=".."), b"")
    content = tar(good, escape, (member("link/bad"), b"bad\n"))
    yield case("through-symlink", "a file below a link to ..", "UnsafePath", content)
    content = tar(good, escape, (member("link/bad", folder), b""))
    yield case("folder-through-symlink", "a folder below a link to ..", "UnsafePath", content)
    absolute = (member("link", link, linkname="/encvault-testkit"), b"")
    content = tar(good, absolute, (member("link/bad"), b"bad\n"))
    yield case("through-absolute-symlink", "a file below a link", "UnsafePath", content)
    content = tar(good, (member("good/bad"), b"bad\n"))
    yield case("through-file", "a file below a file", "UnsafePath", content)
    for name, kind in (
        ("hard-link", tarfile.LNKTYPE),
        ("character-device", tarfile.CHRTYPE),
        ("block-device", tarfile.BLKTYPE),
        ("fifo", tarfile.FIFOTYPE),
    ):
        content = tar(good, (member("bad", kind, linkname="good", devmajor=1, devminor=3), b""))
        yield case(name, f"a {name}", "SpecialFile", content)
    for name, path in (
        ("vault-at-the-top", ".encvault/vault.json"),
        ("vault-below", "d/.encvault"),
        ("vault-in-capitals", ".EncVault/vault.json"),
    ):
        content = tar(good, (member(path), b"bad\n"))
        yield case(name, f"a member {path}", "UnsafePath", content)
    content = tar(good, (member("good"), b"bad\n"))
    yield case("name-twice", "two files of one name", "MalformedRecord", content)
    sparse = {
        "old": [],
        "map": ["GNU.sparse.map=0,4", "GNU.sparse.size=8589934592"],
        "real-size": ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=8589934592"],
    }
    for name, lines in sparse.items():
        content = tar(good, writer.sparse_member("big", lines))
        yield case(f"sparse-{name}", "a hole of 8 GiB", "MalformedRecord", content)
    whole = tar(good, (member("big"), random("big", 9000)))
    yield case("cut", "the tar ends within a file", "MalformedRecord", whole[:4096])
    yield case("no-tar", "it is no tar", "MalformedRecord", b"this is no archive" * 99)
    yield case("empty", "no byte of content", "MalformedRecord", b"")
    late = random("late", CHUNK)
    content = tar(good, (member("late"), late))
    record = {"type": "archive", "path": "tree", "sealed_at_ns": 0}
    block = pad(canonical(record))
    head = header(inline(), len(block))
    start, chunks = writer.seal_chunks(Aes, FILE_KEY, head, writer.split(block + content))
    chunks[-1] = bytes([chunks[-1][0] ^ 1]) + chunks[-1][1:]
    data = head + start + b"".join(chunks)
    released = content[: (len(chunks) - 1) * CHUNK - 256]
    fault = "the last chunk of an archive is changed"
    yield Case("archive-last-chunk-changed", "4", fault, "ChunkCorrupt", data, released)


# -- sections 6 and 7: vaults ------------------------------------------------------------------

BOTH = {"a.txt": ALPHA, "sub/b.txt": b"bravo\n"}
B = {"sub/b.txt": b"bravo\n"}


def vault_records() -> Iterator[Case]:
    def case(name: str, fault: str, data: VaultWriter, error: str = "MalformedVault") -> Case:
        return Case(f"vault-{name}", "6", fault, error, data, opens={} if error else BOTH)

    for name in ("a", "b"):
        vault = visible()
        del vault.files[f".encvault/vault.{name}.json"]
        yield case(f"record-{name}-missing", "the other is there", vault, "")
        vault = visible()
        path = f".encvault/vault.{name}.json"
        vault.files[path] = vault.files[path][:1000]
        yield case(f"record-{name}-torn", "1000 bytes of it", vault, "")
        vault = visible()
        vault.files[f".encvault/vault.{name}.json"] = b""
        yield case(f"record-{name}-empty", "no bytes of it", vault, "")
        vault = visible()
        old = vault.record(slots=[password_slot(vault.secret, password="old password")])
        new = vault.record(generation=2)
        for record, value in (("a", new), ("b", old)) if name == "a" else (("a", old), ("b", new)):
            vault.files[f".encvault/vault.{record}.json"] = canonical(value) + b"\n"
        yield case(f"record-{name}-newer", "the other has an old password", vault, "")
        vault = visible()
        forged = canonical(vault.record(generation=9) | {"signature": b64(bytes(64))}) + b"\n"
        vault.files[f".encvault/vault.{name}.json"] = forged
        yield case(f"record-{name}-forged", "a higher generation, wrongly signed", vault, "")
    good = visible().record()
    text = canonical(good)
    raw = {
        "not-json": b"vault\n",
        "array": b"[" + text + b"]\n",
        "without-line-feed": text,
        "with-two-line-feeds": text + b"\n\n",
        "space": text.replace(b'"id":', b'"id": ', 1) + b"\n",
        "duplicate-name": text.replace(b'"encvault":1', b'"encvault":1,"encvault":1') + b"\n",
        "generation-fraction": text.replace(b'"generation":1', b'"generation":1.0') + b"\n",
    }
    for name, data in raw.items():
        yield case(f"record-{name}", "the record's text", visible().write_records(data))
    for name in good:
        if name != "signature":
            yield case(
                f"record-without-{name}", f"no {name}", visible().write_records(**{name: None})
            )
    data = canonical({n: v for n, v in good.items() if n != "signature"}) + b"\n"
    yield case("record-without-signature", "no signature", visible().write_records(data))
    wrong: dict[str, tuple[Any, ...]] = {
        "encvault": (0, 2, True, "1"),
        "id": ("a", 1),
        "created_at": (TIME[:-1], 1),
        "generation": (0, -1, True, "1"),
        "suite": ("aes-128-gcm", 1, []),
        "layout": ("flat", 1, []),
        "hpke_public": (b64(bytes(1215)), 1, b64(b"\xff" * 1216)),
        "sign_public": (b64(bytes(31)), 1),
        "slots": ([], {}, [1], [_dummy(0)] * 2),
        "pending": ({}, [1], [_bare()] * 2, [_bare(kind="recipient")], _bares(65)),
        "succession": ({}, [1], [{}], [{}] * 257),
        "more": (1,),
    }
    for name, values in wrong.items():
        for index, value in enumerate(values, 1):
            vault = visible().write_records(**{name: value})
            fault = f"{name} is {str(value)[:20]!r}"
            newer = name == "encvault" and value == 2
            error = "UnsupportedVersion" if newer else "MalformedVault"
            yield case(f"record-{name}-wrong-{index}", fault, vault, error)
    signature = reader.b64(good["signature"])
    for name, raw_signature in (
        ("changed", signature[:-1] + bytes([signature[-1] ^ 1])),
        ("short", signature[:-1]),
        ("zero", bytes(64)),
    ):
        data = canonical(good | {"signature": b64(raw_signature)}) + b"\n"
        yield case(f"signature-{name}", "signature", visible().write_records(data))
    data = canonical(good | {"generation": 2}) + b"\n"
    yield case("record-changed", "generation changed after signing", visible().write_records(data))
    other = VaultWriter(name="other")
    vault = visible().write_records(key=other.sign_key)
    yield case("sign-public-exchanged", "signed by another's key, which is in it", vault)
    vault = visible().write_records(hpke_public=b64(other.pair.public))
    yield case("hpke-public-exchanged", "signed, but does not follow from the secret", vault)
    slot = password_slot(visible().secret, kdf=kdf(memory_kib=1 << 30))
    vault = visible().write_records(slots=[slot])
    yield case("kdf-memory-1-tib", "1 TiB", vault, "WorkFactorTooLarge")
    vault = visible().write_records(slots=[password_slot(visible().secret, password="other")])
    yield case("password-wrong", "another password", vault, "NoMatchingKeyslot")


def _bare(**changes: Any) -> Changes:
    slot = password_slot(bytes(32), id=reader.b32(random("bare slot", 8)))
    return writer.changed(slot, {"kdf": None, "wrapped": None} | changes)


def _bares(count: int) -> list[Changes]:
    return [_bare(id=reader.b32(random(f"bare {index}", 8))) for index in range(count)]


def successions() -> Iterator[Case]:
    def case(name: str, fault: str, data: VaultWriter, error: str = "MalformedVault") -> Case:
        return Case(f"succession-{name}", "6.3", fault, error, data, opens={} if error else BOTH)

    yield case("good", "data keys sealed to the replaced key", visible().rekey(), "")
    yield case("good-hidden", "the same with hidden names", hidden().rekey(), "")
    vault = visible().rekey().write_key()
    yield case("good-renewed", "the data key sealed to the new key", vault, "")
    vault = visible().rekey().rekey().rekey()
    yield case("good-of-three", "the keys were changed three times", vault, "")
    revoked = [_bare(), _bare(id=reader.b32(random("bare 2", 8)), kind="recipient")]
    yield case("good-revoked", "two slots were dropped", visible().rekey(revoked=revoked), "")
    vault = visible().rekey().write_records(pending=_bares(64))
    yield case("good-pending", "64 pending passwords", vault, "")
    old, new = visible(), visible().rekey()
    old.write_records(generation=9)
    for name, first, second in (("a", old, new), ("b", new, old)):
        vault = visible().rekey()
        vault.files[".encvault/vault.a.json"] = first.files[".encvault/vault.a.json"]
        vault.files[".encvault/vault.b.json"] = second.files[".encvault/vault.b.json"]
        fault = "the replaced key signed a record of generation 9"
        yield case(f"good-outnumbered-{name}", fault, vault, "")
    slot = _bare(id=password_slot(bytes(32))["id"])
    yield case("pending-and-slot", "one id twice", visible().write_records(pending=[slot]))
    slot = _bare(id=password_slot(bytes(32))["id"])
    yield case("revoked-and-slot", "one id twice", visible().rekey(revoked=[slot]))
    vault = visible().rekey()
    vault.succession.append(vault.succession[0] | {"generation": 3})
    yield case("key-twice", "one key was replaced twice", vault.write_records(generation=3))
    other = VaultWriter(name="other")
    vault = visible().rekey(other.secret)
    yield case("of-another-secret", "wrapped is not the replaced secret", vault)
    vault = visible().rekey(successor=b64(bytes(32)))
    yield case("to-another-key", "the replaced key names another", vault)
    yield case("of-another-vault", "signed for another vault", visible().rekey(id=other.id))
    vault = visible().rekey().rekey()
    del vault.succession[0]
    fault = "the first of two is missing, to which the data key is sealed"
    yield case("first-missing", fault, vault.write_records(), "UnknownDataKey")
    vault = visible().rekey().rekey()
    del vault.succession[1]
    yield case("last-missing", "the last of two is missing", vault.write_records())
    vault = visible().rekey().rekey()
    vault.succession.reverse()
    yield case("exchanged", "the last one first", vault.write_records())
    for generation in (0, 1, 3, True, "2"):
        fault = f"generation is {generation!r}"
        name = f"generation-{generation}".lower()
        yield case(name, fault, visible().rekey(generation=generation))
    for name, value in (("replaced_at", "now"), ("revoked", [1]), ("revoked", {}), ("more", 1)):
        fault = f"{name} is {value!r}"
        kind = "-object" if value == {} else ""
        yield case(f"{name}-wrong{kind}".replace("_", "-"), fault, visible().rekey(**{name: value}))
    yield case("revoked-of-65", "65 slots", visible().rekey(revoked=_bares(65)))
    for name in ("generation", "replaced_at", "revoked", "sign_public", "signature", "wrapped"):
        vault = visible().rekey()
        del vault.succession[0][name]
        yield case(f"without-{name}".replace("_", "-"), f"no {name}", vault.write_records())
    for name, size in (("signature", 64), ("wrapped", 1168), ("sign_public", 32)):
        vault = visible().rekey()
        vault.succession[0][name] = b64(bytes(size))
        yield case(f"{name}-zero".replace("_", "-"), f"{name} is zero", vault.write_records())
        vault = visible().rekey()
        vault.succession[0][name] = b64(bytes(size - 1))
        yield case(f"{name}-short".replace("_", "-"), "a byte is missing", vault.write_records())


def data_keys() -> Iterator[Case]:
    def case(name: str, fault: str, data: VaultWriter) -> Case:
        return Case(f"data-key-{name}", "7", fault, "UnknownDataKey", data)

    def key(**changes: Any) -> VaultWriter:
        return VaultWriter().write_key(**changes).put("a.txt", ALPHA)

    vault = visible()
    for path in list(vault.files):
        if "/keys/" in path:
            del vault.files[path]
    vault.files.pop("sub/b.txt.sealed")
    yield case("missing", "no file", vault)
    text = canonical(VaultWriter().key_object())
    for name, data in (
        ("empty", b""),
        ("torn", text[:700]),
        ("without-line-feed", text),
        ("space", text.replace(b":", b": ", 1) + b"\n"),
        ("above-16-kib", text.replace(b'"id"', b'"filler":"' + b"x" * 16384 + b'","id"') + b"\n"),
    ):
        yield case(name, "its text", key(raw=data))
    for name in ("created_at", "id", "suite", "vault", "wrapped"):
        yield case(f"without-{name}", f"no {name}", key(**{name: None}))
    for name, value in (
        ("created_at", "now"),
        ("suite", "aes-128-gcm"),
        ("suite", []),
        ("more", 1),
        ("wrapped", 1),
        ("wrapped", b64(bytes(1167))),
    ):
        wrong = "-list" if value == [] else "-size" if name == "wrapped" and value != 1 else ""
        yield case(f"{name}-wrong{wrong}", f"{name} is {str(value)[:9]!r}", key(**{name: value}))
    yield case("id-of-another", "the file's name is not its id", key(id=identifier("other key")))
    yield case("of-another-vault", "vault is another", key(vault=identifier("other")))
    yield case("of-31-bytes", "a short secret", key(key=bytes(31)))
    vault = VaultWriter().put("a.txt", ALPHA)
    other = VaultWriter(name="other")
    wrapped = writer.changed(vault.key_object(), {"wrapped": other.key_object()["wrapped"]})
    yield case(
        "sealed-to-another-vault", "wrapped is another vault's", key(wrapped=wrapped["wrapped"])
    )
    later = vault.key_object() | {"created_at": "2026-01-02T03:04:06Z"}
    yield case("changed", "created_at changed after sealing", key(raw=canonical(later) + b"\n"))
    vault = VaultWriter().put("a.txt", ALPHA)
    vault.write_key(suite="sm4-gcm")
    fault = "the key is for the other suite"
    yield Case("data-key-of-other-suite", "7", fault, "HeaderTampered", vault)


def visible_vaults() -> Iterator[Case]:
    changes: Changes

    def case(
        name: str, fault: str, error: str, data: VaultWriter, opens: dict[str, bytes] | None = None
    ) -> Case:
        return Case(f"visible-{name}", "6.1", fault, error, data, opens=opens or {})

    yield case("good", "nothing is wrong", "", visible(), BOTH)
    yield case("good-sm4", "nothing is wrong", "", visible(Sm4), BOTH)
    vault = visible()
    vault.files["a.txt.sealed"], vault.files["sub/b.txt.sealed"] = (
        vault.files["sub/b.txt.sealed"],
        vault.files["a.txt.sealed"],
    )
    yield case("swapped", "two files under each other's names", "SwappedFile", vault)
    vault = visible()
    vault.files["a.txt.sealed"] = vault.files["sub/b.txt.sealed"]
    yield case(
        "replaced-by-another",
        "b stands where a belongs, and is at home too",
        "",
        vault,
        {"a.txt": b"bravo\n", "sub/b.txt": b"bravo\n"},
    )
    vault = visible().put("a.txt", b"old\n", place="z.txt.sealed")
    yield case("old-copy", "an older a.txt under a new name", "SwappedFile", vault, BOTH)
    vault = visible()
    vault.files["new/c.txt.sealed"] = vault.files.pop("a.txt.sealed")
    yield case("moved", "moved and renamed", "", vault, {"new/c.txt": ALPHA} | B)
    vault = visible()
    vault.files["new/a.txt.sealed"] = vault.files["a.txt.sealed"]
    yield case("copied", "copied into a folder", "", vault, {"new/a.txt": ALPHA} | BOTH)
    vault = visible()
    vault.files["c.txt.sealed"] = vault.files["a.txt.sealed"]
    vault.files["a.txt.sealed"] = b"garbage"
    yield case("copied-from-garbage", "no sealed file at home", "NotSealed SwappedFile", vault, B)
    long = "n" * 250
    vault = visible().put(long, b"long\n", place=_short(long))
    yield case("long-name", "nothing is wrong", "", vault, {long: b"long\n"} | BOTH)
    vault = visible().put(long, b"long\n", place="renamed.sealed")
    yield case("long-name-renamed", "renamed by a person", "", vault, {"renamed": b"long\n"} | BOTH)
    wide = "中" * 84  # 252 bytes; 200 is not between characters
    vault = visible().put(wide, b"wide\n", place=_short(wide))
    yield case(
        "long-name-of-wide-characters", "nothing is wrong", "", vault, {wide: b"wide\n"} | BOTH
    )
    for name, place in (("empty", ".sealed"), ("dot", "..sealed"), ("dot-dot", "...sealed")):
        vault = visible()
        vault.files[place] = vault.files.pop("a.txt.sealed")
        yield case(f"renamed-to-{name}", f"now called {place}", "UnsafePath", vault, B)
    other = VaultWriter(name="other").put("c.txt", b"charlie\n")
    vault = visible()
    vault.files["c.txt.sealed"] = other.files["c.txt.sealed"]
    yield case("foreign-file", "a file of another vault", "ForeignFile", vault, BOTH)
    vault = visible()
    vault.files["c.txt.sealed"] = alone()
    yield case("file-of-its-own", "a file with its own slots", "SealedAlone", vault, BOTH)
    for name, path in UNSAFE.items():
        vault = visible().put(path, ALPHA, place="c.txt.sealed")
        yield case(f"path-{name}", f"path is {path[:9]!r}", "UnsafePath", vault, BOTH)
    for name, changes in (
        ("with-parent", {"parent": ""}),
        ("part", _part_record() | {"path": None}),
        ("dir", _dir_record(path="c.txt")),
        ("in-parts", {"part_size": 6, "parts": [identifier("p")], "size": 7}),
    ):
        content = b"" if name == "dir" else ALPHA
        vault = visible().put("c.txt", content, **changes)
        yield case(name, "a record of the wrong layout", "MalformedRecord", vault, BOTH)


def _short(name: str) -> str:
    """The page's own words, once more: the reader must agree."""
    digest = reader.b32(hashlib.sha256(name.encode()).digest())[:20]
    prefix = name
    while len(prefix.encode()) > 200:
        prefix = prefix[:-1]
    return f"{prefix}~{digest}.sealed"


def hidden_vaults() -> Iterator[Case]:
    changes: Changes

    def case(
        name: str, fault: str, error: str, data: VaultWriter, opens: dict[str, bytes] | None = None
    ) -> Case:
        expected = BOTH if opens is None else opens
        return Case(f"hidden-{name}", "6.2", fault, error, data, opens=expected)

    yield case("good", "nothing is wrong", "", hidden())
    yield case("good-sm4", "nothing is wrong", "", hidden(Sm4))
    vault = hidden()
    a, b = object_path(identifier("a.txt")), object_path(identifier("b.txt"))
    vault.files[a], vault.files[b] = vault.files[b], vault.files[a]
    yield case("swapped", "two objects under each other's names", "SwappedFile", vault, {})
    vault = hidden()
    vault.files[object_path(identifier("copy"))] = vault.files[a]
    yield case("copied", "an object under a second name", "SwappedFile", vault)
    vault = hidden()
    vault.put_object("c.txt", ALPHA, key_info={"vault": identifier("other")})
    yield case("foreign-file", "an object of another vault", "ForeignFile", vault)
    vault = hidden()
    vault.put_object("older", b"older\n", path="a.txt", sealed_at_ns=writer.SEALED_AT - 1)
    yield case("superseded", "an older object of a.txt", "", vault)
    vault = hidden()
    ids = [vault.put_object(name, name.encode(), path="c.txt") for name in ("one", "two")]
    newest = "one" if ids[0] > ids[1] else "two"
    yield case(
        "superseded-by-id",
        "sealed at once: the higher id",
        "",
        vault,
        BOTH | {"c.txt": newest.encode()},
    )
    vault = hidden()
    again = vault.put_folder("sub", unique="again")
    vault.put_object("c.txt", b"charlie\n", parent=again)
    yield case("two-folders-of-one-path", "are one", "", vault, BOTH | {"sub/c.txt": b"charlie\n"})
    vault = hidden()
    vault.put_object("c.txt", b"charlie\n", parent=identifier("nowhere"))
    yield case(
        "parent-missing",
        "lost",
        "",
        vault,
        BOTH | {f"lost+found/{identifier('nowhere')}/c.txt": b"charlie\n"},
    )
    vault = hidden()
    lost = vault.put_folder("dir", parent=identifier("nowhere"))
    vault.put_object("c.txt", b"charlie\n", parent=lost)
    lost_file = {f"lost+found/{identifier('nowhere')}/dir/c.txt": b"charlie\n"}
    yield case("parent-of-folder-missing", "a lost folder", "", vault, BOTH | lost_file)
    for name, changes in (
        ("without-parent", {"parent": None}),
        ("parent-wrong", {"parent": "sub"}),
        ("parent-a-number", {"parent": 1}),
    ):
        vault = hidden()
        vault.put_object("c.txt", ALPHA, **changes)
        yield case(name, str(changes), "MalformedRecord", vault)
    for name, changes in (
        ("dir-without-parent", {"parent": None}),
        ("dir-without-folder", {"folder": None}),
        ("dir-folder-wrong", {"folder": "sub"}),
        ("dir-without-size", {"size": None}),
        ("dir-sparse", {"sparse": True}),
    ):
        vault = hidden()
        vault.put_folder("c", **changes)
        yield case(name, str(changes), "MalformedRecord", vault)
    vault = hidden()
    vault.put_object("c", ALPHA, type="dir", folder=identifier("folder c"))
    yield case("dir-with-content", "6 bytes in a folder", "MalformedRecord", vault)
    for name, path in (*UNSAFE.items(), ("not-bare", "sub/c.txt")):
        vault = hidden()
        vault.put_object("c.txt", ALPHA, path=path)
        yield case(f"path-{name}", f"path is {path[:9]!r}", "UnsafePath", vault)
        if name in ("above", "not-bare"):
            vault = hidden()
            vault.put_folder("d", path=path)
            yield case(f"dir-path-{name}", f"path is {path[:9]!r}", "UnsafePath", vault)
    yield from hidden_parts(case)


def hidden_parts(case: Callable[..., Case]) -> Iterator[Case]:
    content = random("parts", 25)
    changes: Changes

    def in_parts(**changes: Any) -> tuple[VaultWriter, list[str]]:
        """25 bytes in parts of 10."""
        vault = hidden()
        big = identifier("big")
        ids = []
        for index in (1, 2):
            piece = content[10 * index : 10 * index + 10]
            members: Changes = {
                "type": "part",
                "of": big,
                "index": index,
                "path": None,
                "parent": None,
            }
            ids.append(vault.put_object(f"part {index}", piece, **members))
        whole: Changes = {"size": 25, "part_size": 10, "parts": ids} | changes
        vault.put_object("big", content[:10], **whole)
        return vault, ids

    def put_part(vault: VaultWriter, index: int, piece: bytes, /, **changes: Any) -> None:
        members: Changes = {"type": "part", "of": identifier("big"), "index": index}
        vault.put_object(
            f"part {index}", piece, **members | {"path": None, "parent": None} | changes
        )

    vault, ids = in_parts()
    yield case("parts", "nothing is wrong", "", vault, BOTH | {"big": content})
    missing = "MissingPart"
    for index in (0, 1):
        vault, ids = in_parts()
        del vault.files[object_path(ids[index])]
        yield case(f"part-{index + 1}-missing", "no object", missing, vault)
    vault, _ = in_parts(parts=ids[::-1])
    yield case("parts-reordered", "the record lists them the other way", missing, vault)
    vault, _ = in_parts(parts=[ids[0], ids[0]])
    yield case("part-repeated", "the record lists one twice", missing, vault)
    vault, _ = in_parts(parts=[ids[0], identifier("a.txt")])
    yield case("part-is-a-file", "the record lists a file", missing, vault)
    vault, _ = in_parts()
    put_part(vault, 2, content[20:], of=identifier("a.txt"))
    yield case("part-of-another", "of names another file", missing, vault)
    vault, _ = in_parts()
    put_part(vault, 1, content[10:19])
    yield case("part-short", "9 bytes where part_size is 10", missing, vault)
    malformed = "MalformedRecord"
    vault, _ = in_parts()
    put_part(vault, 2, content[20:24])
    yield case("last-part-short", "together one byte less than size", missing, vault)
    vault, _ = in_parts()
    put_part(vault, 2, content[20:] + b"x")
    yield case("last-part-long", "together one byte more than size", missing, vault)
    vault, _ = in_parts(parts=ids[:1])
    yield case("parts-too-few", "one part for two", malformed, vault)
    vault, _ = in_parts(parts=[*ids, identifier("part 3")])
    yield case("parts-too-many", "three parts for two", malformed, vault)
    vault, _ = in_parts(part_size=9)
    yield case("first-part-long", "10 bytes where part_size is 9", malformed, vault)
    for name, changes in (
        ("parts-empty", {"parts": []}),
        ("parts-without-part-size", {"part_size": None}),
        ("part-size-without-parts", {"parts": None}),
        ("part-size-0", {"part_size": 0}),
        ("parts-without-size", {"size": None}),
        ("parts-of-numbers", {"parts": [1, 2]}),
        ("parts-text", {"parts": ids[0]}),
    ):
        vault, _ = in_parts(**changes)
        yield case(name, str(changes)[:40], malformed, vault)
    for name, changes in (
        ("part-index-0", {"index": 0}),
        ("part-without-of", {"of": None}),
        ("part-without-index", {"index": None}),
        ("part-without-size", {"size": None}),
        ("part-with-path", {"path": "big"}),
        ("part-with-mode", {"mode": 0o644}),
    ):
        vault, _ = in_parts()
        put_part(vault, 2, content[20:], **changes)
        yield case(name, str(changes), malformed, vault)


# -- section 8: identities ---------------------------------------------------------------------


def identity(**changes: Any) -> Changes:
    line = reader.recipient_line(reader.Pair(SEED).public)
    value = {"created_at": TIME, "encvault_identity": 1, "name": "kit", "recipient": line}
    return writer.changed(value | {"seed": b64(SEED)}, changes)


def identities() -> Iterator[Case]:
    def case(
        name: str, fault: str, value: bytes | Changes, error: str = "MalformedIdentity"
    ) -> Case:
        data = value if isinstance(value, bytes) else canonical(value) + b"\n"
        return Case(f"identity-file-{name}", "8", fault, error, data)

    text = canonical(identity())
    slot = password_slot(SEED)
    yield case("good", "nothing is wrong", identity(), "")
    yield case("good-with-password", "nothing is wrong", identity(seed=None, slot=slot), "")
    yield case("without-line-feed", "its text", text)
    yield case("space", "its text", text.replace(b":", b": ", 1) + b"\n")
    yield case("above-16-kib", "its name is long", identity(name="x" * 16384))
    for name in ("created_at", "encvault_identity", "name", "recipient", "seed"):
        yield case(f"without-{name}", f"no {name}", identity(**{name: None}))
    for name, value in (
        ("created_at", "now"),
        ("encvault_identity", 2),
        ("encvault_identity", True),
        ("name", 1),
        ("recipient", 1),
        ("seed", b64(SEED[1:])),
        ("seed", 1),
        ("more", 1),
    ):
        kind = "-true" if value is True else "-number" if value == 1 else ""
        yield case(
            f"{name}-wrong{kind}", f"{name} is {str(value)[:9]!r}", identity(**{name: value})
        )
    yield case("seed-and-slot", "both", identity(slot=slot))
    yield case("of-another", "the recipient is not the seed's", identity(seed=b64(bytes(32))))
    other = password_slot(bytes(32))
    yield case("slot-of-another", "the same in a slot", identity(seed=None, slot=other))
    key = recipient_slot(SEED)
    yield case("slot-for-recipient", "no password slot", identity(seed=None, slot=key))
    large = password_slot(SEED, kdf=kdf(memory_kib=1 << 30))
    yield case("kdf-memory-1-tib", "1 TiB", identity(seed=None, slot=large), "WorkFactorTooLarge")
    wrong = password_slot(SEED, password="other")
    yield case(
        "password-wrong",
        "another password",
        identity(seed=None, slot=wrong),
        "WrongIdentityPassword",
    )
    line = identity()["recipient"]
    for name, text_ in (
        ("check-changed", line[:-1] + ("A" if line[-1] != "A" else "B")),
        ("cut", line[:-4]),
        ("of-version-2", _line(2)),
        ("without-prefix", line.removeprefix("encvault1-")),
        ("base64", line[:10] + b64(b"\1" + bytes(1220))),
        ("with-space", line + " "),
    ):
        yield case(
            f"recipient-{name}", "recipient", identity(recipient=text_), "MalformedRecipient"
        )


def _line(version: int) -> str:
    public = reader.Pair(SEED).public
    check = hashlib.sha256(b"encvault/recipient@v1\0" + public).digest()[:4]
    return "encvault1-" + b64(bytes([version]) + public + check).replace("+", "-").replace("/", "_")


# -- what is allowed, and large ----------------------------------------------------------------


def at_limits() -> Iterator[Case]:
    """Good files at the limits of section 9, too large to keep."""
    info = inline(*_many(63), password_slot(FILE_KEY))
    yield Case("slots-64", "9", "as many as allowed", "", alone(key_info=info), ALPHA)
    record = file_record(ALPHA, xattrs={"user.a": b64(bytes(65_535)), "user.b": b64(b"1")})
    yield Case("xattrs-at-cap", "9", "65536 bytes", "", alone(record=record), ALPHA)
    record = file_record(ALPHA, xattrs={"user." + "x" * 1_048_000: b64(b"1")})
    block = pad(canonical(record)).ljust(1 << 20, b"\0")
    room = block.rstrip(b"\0")
    record["xattrs"] = {"user." + "x" * (1_048_000 + len(block) - len(room)): b64(b"1")}
    data = alone(record=record)
    yield Case("record-of-1-mib", "9", "as large as allowed", "", data, ALPHA)


# -- the kit -----------------------------------------------------------------------------------

GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (
    fixed_part,
    key_info_text,
    key_info_members,
    slots,
    work,
    keys,
    headers_changed,
    bodies,
    record_text,
    record_members,
    paths,
    archives,
    vault_records,
    successions,
    data_keys,
    visible_vaults,
    hidden_vaults,
    identities,
)


def cases() -> list[Case]:
    found = [case for group in GROUPS for case in group()]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found


def place(case: Case) -> str:
    """Where a case lies in the kit."""
    if isinstance(case.data, VaultWriter):
        return f"vaults/{case.name}"
    if case.section == "8":
        return f"identities/{case.name}.json"
    return f"files/{case.name}.sealed"


BASES: dict[str, Callable[[], VaultWriter]] = {"visible": visible, "hidden": hidden}


def overlay(vault: VaultWriter) -> tuple[str, dict[str, bytes], list[str]]:
    """The good vault that is nearest, what differs from it, and what of it must go."""
    base = BASES[vault.layout]().files
    differ = {path: data for path, data in vault.files.items() if base.get(path) != data}
    return vault.layout, differ, sorted(base.keys() - vault.files.keys())


def entry(case: Case) -> str:
    """A case in the index."""
    digest = hashlib.sha256(case.released).hexdigest()
    lines = [f"[{case.name}]", f"path = {_text(place(case))}", f"section = {_text(case.section)}"]
    lines += [f"fault = {_text(case.fault)}", f"error = {_text(case.error)}"]
    if case.password != PASSWORD:
        lines.append(f"password = {_text(case.password)}")
    if isinstance(case.data, VaultWriter):
        base, _differ, absent = overlay(case.data)
        lines.append(f"base = {_text('vaults/' + base)}")
        if absent:
            lines.append(f"absent = {json.dumps(absent)}")
        lines.append("[" + case.name + ".opens]")
        for path, content in sorted(case.opens.items()):
            lines.append(f"{_text(path)} = {_text(hashlib.sha256(content).hexdigest())}")
    elif case.section != "8":
        if case.released:
            lines += [f"released_size = {len(case.released)}", f"released = {_text(digest)}"]
        if case.unpacks:
            lines.append("unpacks = true")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def files() -> dict[str, bytes]:
    """The whole kit by path."""
    kit: dict[str, bytes] = {}
    for name, good in BASES.items():
        kit |= {f"vaults/{name}/{path}": data for path, data in good().files.items()}
    entries = []
    for case in cases():
        if isinstance(case.data, VaultWriter):
            differ = overlay(case.data)[1]
            kit |= {f"{place(case)}/{path}": data for path, data in differ.items()}
        else:
            kit[place(case)] = case.data
        entries.append(entry(case))
    kit["identity.json"] = canonical(identity()) + b"\n"
    kit["password.txt"] = PASSWORD.encode() + b"\n"
    kit["testkit.toml"] = "\n".join(entries).encode()
    return kit


def main() -> None:
    for folder in ("files", "vaults", "identities"):
        shutil.rmtree(KIT / folder, ignore_errors=True)
    kit = files()
    for path, data in kit.items():
        (KIT / path).parent.mkdir(parents=True, exist_ok=True)
        (KIT / path).write_bytes(data)
    writer.WRAPPER.save()
    size = sum(map(len, kit.values()))
    sys.stdout.write(f"{len(kit)} files, {size} bytes\n")


if __name__ == "__main__":
    main()
