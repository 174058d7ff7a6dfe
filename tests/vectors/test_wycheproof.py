"""Wycheproof (C2SP, Apache-2.0) and RFC 8998 through our own code."""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac as pyca_hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from encvault.crypto import NotAuthentic, stream
from encvault.crypto.suite import Sm4ChunkCipher, Suite

if TYPE_CHECKING:
    from pathlib import Path


def load(vectors: Path, name: str) -> list[dict[str, Any]]:
    document = json.loads((vectors / "wycheproof" / name).read_text())
    tests = [
        {**{k: v for k, v in group.items() if k != "tests"}, **test}
        for group in document["testGroups"]
        for test in group["tests"]
    ]
    assert len(tests) == document["numberOfTests"]
    return tests


def random_access(key: bytes, context: bytes, body: bytes) -> tuple[bytes, bool]:
    """The longest valid prefix by our chunk reader, and whether it is the whole message."""
    plaintext = b""
    try:
        reader = stream.ChunkReader(Suite.AES_256_GCM, key, context, body[: stream.PREFIX_SIZE])
        chunks = -(-(len(body) - stream.PREFIX_SIZE) // stream.SEALED_CHUNK_SIZE)
        for index in range(max(1, chunks)):
            start, size = reader.span(index)
            chunk = body[start : start + size]
            plaintext += reader.open(index, chunk, last=len(chunk) < size)
        stream.plaintext_size(len(body))
    except (NotAuthentic, ValueError):
        return plaintext, False
    return plaintext, True


def streamed(key: bytes, context: bytes, body: bytes, step: int) -> tuple[bytes, bool]:
    decryptor = stream.decryptor(Suite.AES_256_GCM, key, context)
    plaintext = b""
    try:
        for at in range(0, len(body), step):
            plaintext += decryptor.update(body[at : at + step])
        plaintext += decryptor.finalize()
    except NotAuthentic:
        return plaintext, False
    return plaintext, True


def test_chunked_encryption(vectors: Path) -> None:
    for test in load(vectors, "c2sp_chunked_encryption_aes_256_gcm_test.json"):
        key, context = bytes.fromhex(test["key"]), bytes.fromhex(test["ctx"])
        body = zlib.decompress(bytes.fromhex(test["ct"]))
        if "InvalidKeySize" in test["flags"]:
            with pytest.raises(ValueError, match=r"."):
                stream.decryptor(Suite.AES_256_GCM, key, context)
            continue
        ways = [random_access(key, context, body)]
        ways += [streamed(key, context, body, step) for step in (1021, 16_400, 1 << 20)]
        for plaintext, whole in ways:
            assert whole == (test["result"] == "valid"), test["comment"]
            if "msgSha512" in test and whole:
                assert hashlib.sha512(plaintext).hexdigest() == test["msgSha512"]
            if "PartialPlaintext" in test["flags"]:
                assert len(plaintext) <= test["msgLength"]
                if len(plaintext) == test["msgLength"]:
                    assert hashlib.sha512(plaintext).hexdigest() == test["msgSha512"]
            elif not whole:
                assert plaintext == b"", test["comment"]


def test_sm4_gcm_twelve_byte_nonces_through_our_chunk_cipher(vectors: Path) -> None:
    seen = 0
    for test in load(vectors, "sm4_gcm_test.json"):
        if test["ivSize"] != 96 or test["aad"]:
            continue
        seen += 1
        cipher = Sm4ChunkCipher(bytes.fromhex(test["key"]))
        nonce, plaintext = bytes.fromhex(test["iv"]), bytes.fromhex(test["msg"])
        sealed = bytes.fromhex(test["ct"] + test["tag"])
        if test["result"] == "valid":
            assert cipher.seal(nonce, plaintext) == sealed
            assert cipher.open(nonce, sealed) == plaintext
        else:
            with pytest.raises(NotAuthentic):
                cipher.open(nonce, sealed)
    assert seen > 20


def test_sm4_gcm_of_the_library(vectors: Path) -> None:
    """All 104, associated data and odd nonces included: what we build on is sound."""
    refused = 0
    for test in load(vectors, "sm4_gcm_test.json"):
        try:
            mode = modes.GCM(bytes.fromhex(test["iv"]), bytes.fromhex(test["tag"]))
        except ValueError:
            refused += 1  # nonces under 8 or over 128 bytes
            continue
        decryptor = Cipher(algorithms.SM4(bytes.fromhex(test["key"])), mode).decryptor()
        decryptor.authenticate_additional_data(bytes.fromhex(test["aad"]))
        held = decryptor.update(bytes.fromhex(test["ct"]))
        try:
            plaintext = held + decryptor.finalize()
        except InvalidTag:
            assert test["result"] == "invalid"
        else:
            assert test["result"] == "valid"
            assert plaintext == bytes.fromhex(test["msg"])
    assert refused == 11  # two of them for an empty nonce, which is invalid


def test_sm4_gcm_of_rfc_8998() -> None:
    # RFC 8998 appendix A.1
    key = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    encryptor = Cipher(
        algorithms.SM4(key), modes.GCM(bytes.fromhex("00001234567800000000ABCD"))
    ).encryptor()
    encryptor.authenticate_additional_data(
        bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    )
    plaintext = bytes.fromhex(
        "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDD"
        "EEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA"
    )
    sealed = encryptor.update(plaintext) + encryptor.finalize()
    assert sealed.hex().upper() == (
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
        "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
    )
    assert encryptor.tag.hex().upper() == "83DE3541E4C2B58177E065A9BF7B62EC"


def test_hmac_sm3(vectors: Path) -> None:
    for test in load(vectors, "hmac_sm3_test.json"):
        mac = pyca_hmac.HMAC(bytes.fromhex(test["key"]), hashes.SM3())
        mac.update(bytes.fromhex(test["msg"]))
        tag = mac.finalize()[: test["tagSize"] // 8]
        assert (tag.hex() == test["tag"]) == (test["result"] == "valid")


def test_hkdf_expand_sha512(vectors: Path) -> None:
    for test in load(vectors, "hkdf_sha512_test.json"):
        salt = bytes.fromhex(test["salt"]) or bytes(64)
        prk = hmac.digest(salt, bytes.fromhex(test["ikm"]), "sha512")
        info = bytes.fromhex(test["info"])
        if test["result"] == "invalid":
            with pytest.raises(ValueError, match=r"."):
                HKDFExpand(hashes.SHA512(), test["size"], info)
            continue
        okm = HKDFExpand(hashes.SHA512(), test["size"], info).derive(prk)
        assert okm.hex() == test["okm"]


# -- suite 2: nobody else has it, so a second implementation from docs/format.md section 4 ---


def sm3_hmac(key: bytes, message: bytes) -> bytes:
    def sm3(data: bytes) -> bytes:
        digest = hashes.Hash(hashes.SM3())
        digest.update(data)
        return digest.finalize()

    block = key.ljust(64, b"\0")
    inner = sm3(bytes(byte ^ 0x36 for byte in block) + message)
    return sm3(bytes(byte ^ 0x5C for byte in block) + inner)


def sm4_key_schedule(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes, bytes]:
    info = b"encvault/chunked-encryption@v1+AEAD_SM4_GCM\x00" + salt + context
    first = sm3_hmac(key, info + b"\x01")
    second = sm3_hmac(key, first + info + b"\x02")
    okm = first + second
    return okm[:16], okm[16:28], okm[28:60]


def sm4_chunk(key: bytes, base: bytes, index: int, plaintext: bytes) -> bytes:
    nonce = bytes(a ^ b for a, b in zip(base, index.to_bytes(12), strict=True))
    encryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag


@pytest.mark.parametrize("size", [0, 1, 16_384, 40_000])
def test_the_sm4_body_equals_a_second_implementation(size: int) -> None:
    key, salt, context = b"k" * 32, b"s" * 24, b"context"
    chunk_key, base, commitment = sm4_key_schedule(key, salt, context)
    plaintext = bytes(index % 251 for index in range(size))
    body = salt + commitment
    for index in range(size // 16_384 + 1):
        body += sm4_chunk(chunk_key, base, index, plaintext[index * 16_384 : (index + 1) * 16_384])
    assert stream.open(Suite.SM4_GCM, key, context, body) == plaintext
    ours = stream.seal(Suite.SM4_GCM, key, context, plaintext)
    their_key, base, commitment = sm4_key_schedule(key, ours[:24], context)
    assert ours[24:56] == commitment
    assert ours[56 : 56 + 16_400] == sm4_chunk(their_key, base, 0, plaintext[:16_384])
