"""Passwords, HPKE, signatures, the self-test."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from encvault.crypto import NotAuthentic, hpke, kdf, selftest, signing
from encvault.errors import SelfTestFailed, TooLittleMemory
from encvault.keyslots import PasswordIdentity
from encvault.secret import Secret

SEED = bytes(range(32))


def test_argon2id_of_the_reference_implementation() -> None:
    # phc-winner-argon2 test.c: Argon2id, v=0x13, t=2, m=2^8, p=2 and p=1
    one = kdf.derive_from_password(Secret(b"password"), b"somesalt", kdf.KdfProfile(256, 2, 1))
    two = kdf.derive_from_password(Secret(b"password"), b"somesalt", kdf.KdfProfile(256, 2, 2))
    assert one.reveal().hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"
    assert two.reveal().hex() == "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"


@pytest.mark.parametrize(
    "profile",
    [
        kdf.KdfProfile(2 * 1024 * 1024 + 1, 1, 1),
        kdf.KdfProfile(1 << 30, 1, 1),
        kdf.KdfProfile(1024, 17, 1),
        kdf.KdfProfile(1024, 0, 1),
        kdf.KdfProfile(1024, 1, 17),
        kdf.KdfProfile(1024, 1, 0),
        kdf.KdfProfile(15, 1, 2),
    ],
)
def test_work_above_the_caps_is_a_bug_here(profile: kdf.KdfProfile) -> None:
    assert not profile.within_caps
    with pytest.raises(AssertionError):
        kdf.derive_from_password(Secret(b"x"), bytes(16), profile)


def test_named_profiles_are_within_the_caps() -> None:
    for profile in (
        kdf.DEFAULT,
        kdf.RFC_9106_LOW_MEMORY,
        kdf.RFC_9106_HIGH_MEMORY,
        kdf.CHEAPEST,
    ):
        assert profile.within_caps


def test_hpke_opens_only_with_its_seed_and_info() -> None:
    public = hpke.public_key(SEED)
    sealed = hpke.seal(public, b"k" * 32, b"info")
    assert len(sealed) == 32 + hpke.OVERHEAD
    assert bytes(hpke.open(SEED, sealed, b"info").reveal()) == b"k" * 32
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for seed, data, info in (
        (bytes(32), sealed, b"info"),
        (SEED, sealed, b"other"),
        (SEED, damaged, b"info"),
        (SEED, b"", b"info"),
    ):
        with pytest.raises(NotAuthentic):
            hpke.open(seed, data, info)


def test_hpke_refuses_what_is_no_key() -> None:
    for public in (b"", bytes(1215), b"\xff" * 1216):
        with pytest.raises(ValueError, match=r"."):
            hpke.check_public_key(public)
    with pytest.raises(AssertionError):
        hpke.public_key(bytes(31))


def test_ed25519_of_rfc_8032() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert signing.public_key(seed) == public
    assert signing.sign(seed, b"\x72") == signature
    signing.verify(public, signature, b"\x72")
    for key, mark, message in (
        (public, signature, b"\x73"),
        (public, bytes(64), b"\x72"),
        (b"", signature, b"\x72"),
    ):
        with pytest.raises(NotAuthentic):
            signing.verify(key, mark, message)


def test_too_little_memory_for_a_password_is_told() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), hard))
    try:
        with pytest.raises(TooLittleMemory) as caught:
            kdf.derive_from_password(Secret(b"x"), bytes(16), kdf.RFC_9106_HIGH_MEMORY)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert (caught.value.needed_mib, caught.value.exit_code) == (2048, 69)


def test_the_self_test_passes_and_counts() -> None:
    assert selftest.run() == selftest.EXPECTED_COUNT == len(selftest.TESTS)
    assert selftest.run_for_passwords() == len(selftest.PASSWORD_TESTS) == 1


def test_no_password_is_hashed_before_the_test_of_argon2id(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kdf.derive_from_password
    monkeypatch.setattr(kdf, "derive_from_password", lambda *_given: Secret(bytes(32)))
    selftest.run_for_passwords.cache_clear()
    identity = PasswordIdentity(Secret(b"password"))
    with pytest.raises(SelfTestFailed, match="argon2id"):
        identity.kek(bytes(16), kdf.CHEAPEST)
    monkeypatch.setattr(kdf, "derive_from_password", real)
    assert len(identity.kek(bytes(16), kdf.CHEAPEST)) == kdf.DERIVED_KEY_SIZE


def _raises() -> bool:
    raise ValueError


def test_the_self_test_notices_a_wrong_answer_an_error_and_a_lost_test() -> None:
    rest = selftest.TESTS[1:]
    for broken, name in ((lambda: False, "<lambda>"), (_raises, "raises")):
        with pytest.raises(SelfTestFailed) as caught:
            selftest.run_tests((broken, *rest), selftest.EXPECTED_COUNT)
        assert caught.value.name == name
    with pytest.raises(SelfTestFailed, match="count"):
        selftest.run_tests(rest, selftest.EXPECTED_COUNT)


def test_the_self_test_notices_a_cipher_that_ignores_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest.stream, "open", lambda *_args: b"content")
    assert selftest._tampering() is False
