"""Known-answer tests of everything that `encvault.crypto` composes.

They run once per process before the first key is used, in some milliseconds: a broken build of a
library must not seal a single file. That of Argon2id waits for the first password, for loading its
library takes as long as all the others. The counts are fixed, so that a test cannot get lost.

Sources: `encvault.crypto.answers` for whole chunks;
Wycheproof (C2SP, Apache-2.0) `c2sp_chunked_encryption_aes_256_gcm` 9 and `sm4_gcm` 4;
RFC 8032 section 7.1 test 1; X-Wing draft (draft-connolly-cfrg-xwing-kem) test vector 1;
RFC 5869 A.1 for HKDF-SHA256; the Argon2 reference implementation's test.c for Argon2id.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from encvault.crypto import NotAuthentic, answers, gcrypt, hpke, kdf, signing, stream
from encvault.crypto.suite import SALT_SIZE, AesChunkCipher, Sm4ChunkCipher, Suite
from encvault.errors import SelfTestFailed
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED_COUNT = 11

_hex = bytes.fromhex


def _cobblestone() -> bool:
    key = _hex("59454c4c4f57205355424d4152494e452059454c4c4f57205355424d4152494e")
    body = _hex(
        "dbedaefc1c35dc6c0f22b743b03e488747166a51f33479e7ceb8b7e11cc0d2710f624a127501bc4aea7d0af6"
        "f83cfe359b9e69415aa537f36adf86eb35b070475baa039bb7791432adbca49578bbd3"
    )
    context = b"test context"
    reader = stream.ChunkReader(Suite.AES_256_GCM, key, context, body[: stream.PREFIX_SIZE])
    piecewise = reader.open(0, body[stream.PREFIX_SIZE :], last=True)
    return piecewise == stream.open(Suite.AES_256_GCM, key, context, body) and len(
        piecewise
    ) == len(b"message")


def _aes_256_gcm() -> bool:
    return answers.are_given(AesChunkCipher(answers.KEY), answers.AES_256_GCM)


def _cobblestone_chunks() -> bool:
    """The streams of pyca over whole chunks, each held against the cipher of `_aes_256_gcm`."""
    key, context = os.urandom(32), b"test context"
    body = stream.seal(Suite.AES_256_GCM, key, context, answers.PLAIN)
    reader = stream.ChunkReader(Suite.AES_256_GCM, key, context, body[: stream.PREFIX_SIZE])
    opened = bytearray(len(answers.PLAIN))
    reader.open_into(0, body[stream.PREFIX_SIZE :], memoryview(opened), last=True)
    return opened == answers.PLAIN == stream.open(Suite.AES_256_GCM, key, context, body)


def _sm4_gcm() -> bool:
    cipher = Sm4ChunkCipher(_hex("cae31cd9f55526eb038241fc44cac1e5"))
    nonce, plaintext = _hex("b5e006ded553110e6dc56529"), _hex("d10989f2c52e94ad")
    sealed = _hex("ae080aa27f4767369e649f28d3f52a4bf7e3239a980617fd")
    return cipher.seal(nonce, plaintext) == sealed and cipher.open(nonce, sealed) == plaintext


def _sm4_gcm_chunks() -> bool:
    """Only where pyca does the work; libgcrypt gave these answers when it was found good."""
    if gcrypt.is_usable():
        return True
    return answers.are_given(Sm4ChunkCipher(answers.KEY[:16]), answers.SM4_GCM)


def _sm4_body() -> bool:
    """The key schedule too: SM3 that is wrong for both directions would not show in a round trip.

    Computed by pyca and by plain Python from the standards; see `encvault.crypto.answers`.
    """
    salt = bytes(range(SALT_SIZE))
    commitment = _hex("e050f13d9b0f5c8a8bf920efdda3fbd833ecb85512ef9feca2dad9ca8b157912")
    sealed = _hex("d6874dc2a0ae1b32f7863fb453207e4a2e1e88ec95a1e7")
    body = salt + commitment + sealed
    return stream.open(Suite.SM4_GCM, answers.KEY, b"test context", body) == b"message"


def _sm4_stream() -> bool:
    key, plaintext = os.urandom(32), os.urandom(stream.CHUNK_SIZE + 1)
    body = stream.seal(Suite.SM4_GCM, key, b"context", plaintext)
    return stream.open(Suite.SM4_GCM, key, b"context", body) == plaintext


def _tampering() -> bool:
    """Both suites must notice one flipped bit."""
    for suite in Suite:
        key = os.urandom(32)
        body = bytearray(stream.seal(suite, key, b"", b"content"))
        body[-1] ^= 1
        try:
            stream.open(suite, key, b"", body)
        except NotAuthentic:
            continue
        return False
    return True


def _ed25519() -> bool:
    seed = _hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signature = signing.sign(seed, b"")
    signing.verify(signing.public_key(seed), signature, b"")
    return signature == _hex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701"
        "cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def _hybrid_kem() -> bool:
    seed = _hex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    public = hpke.public_key(seed)
    begins = _hex("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5")
    sealed = hpke.seal(public, b"secret", b"info")
    return (
        public.startswith(begins) and bytes(hpke.open(seed, sealed, b"info").reveal()) == b"secret"
    )


def _hkdf() -> bool:
    prk = _hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    info = _hex("f0f1f2f3f4f5f6f7f8f9")
    okm = _hex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    return kdf.expand_raw(prk, info, 42) == okm


def _argon2id() -> bool:
    profile = kdf.KdfProfile(memory_kib=256, passes=2, lanes=1)
    derived = kdf.derive_from_password(Secret(b"password"), b"somesalt", profile)
    expected = "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"
    return bytes(derived.reveal()) == _hex(expected)


TESTS: tuple[Callable[[], bool], ...] = (
    _cobblestone,
    _aes_256_gcm,
    _cobblestone_chunks,
    _sm4_gcm,
    _sm4_gcm_chunks,
    _sm4_body,
    _sm4_stream,
    _tampering,
    _ed25519,
    _hybrid_kem,
    _hkdf,
)
PASSWORD_TESTS: tuple[Callable[[], bool], ...] = (_argon2id,)


@functools.cache
def run() -> int:
    """Run all tests but those of `run_for_passwords`, once per process.

    Returns:
        How many there are.

    Raises:
        SelfTestFailed: one gave another answer, or one is missing.
    """
    return run_tests(TESTS, EXPECTED_COUNT)


@functools.cache
def run_for_passwords() -> int:
    """Run those of what makes keys from passwords; see `run`."""
    return run_tests(PASSWORD_TESTS, 1)


def run_tests(tests: tuple[Callable[[], bool], ...], expected: int) -> int:
    """Run these tests, of which there must be so many; see `run`."""
    for test in tests:
        try:
            passed = test()
        except Exception as error:
            raise SelfTestFailed(name=test.__name__.strip("_")) from error
        if not passed:
            raise SelfTestFailed(name=test.__name__.strip("_"))
    if len(tests) != expected:
        raise SelfTestFailed(name="count")
    return len(tests)
