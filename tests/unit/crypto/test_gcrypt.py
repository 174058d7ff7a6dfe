"""SM4-GCM by libgcrypt: the same bytes as pyca's, from several threads, and never if it is odd."""

from __future__ import annotations

import gc
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st
from tools import gcrypt_abi

from encvault.crypto import NotAuthentic, gcrypt, selftest, speed, stream, suite
from encvault.crypto.suite import Sm4ChunkCipher, Suite, sm4_cipher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = bytes(range(16))
NONCE = bytes(12)


@pytest.fixture
def fresh() -> Iterator[None]:
    """The library is looked for anew, and afterwards again."""
    gcrypt._found.cache_clear()
    yield
    gcrypt._found.cache_clear()
    selftest.run.cache_clear()


def test_it_is_used_here() -> None:
    assert gcrypt.status().reason == ""
    assert gcrypt.is_usable()
    assert isinstance(sm4_cipher(KEY), gcrypt.GcryptSm4ChunkCipher)
    assert speed.backend_of(Suite.SM4_GCM).startswith("libgcrypt 1.")
    assert "OpenSSL" in speed.backend_of(Suite.AES_256_GCM)


def test_wycheproof(vectors: Path) -> None:
    document = json.loads((vectors / "wycheproof" / "sm4_gcm_test.json").read_text())
    seen = 0
    for group in document["testGroups"]:
        for test in group["tests"]:
            if group["ivSize"] != 96 or test["aad"]:
                continue  # our chunks have none
            seen += 1
            cipher = gcrypt.sm4_cipher(bytes.fromhex(test["key"]))
            nonce, plain = bytes.fromhex(test["iv"]), bytes.fromhex(test["msg"])
            sealed = bytes.fromhex(test["ct"] + test["tag"])
            if test["result"] == "valid":
                assert cipher.seal(nonce, plain) == sealed
                assert cipher.open(nonce, sealed) == plain
            else:
                with pytest.raises(NotAuthentic):
                    cipher.open(nonce, sealed)
    assert seen > 20


@given(
    st.binary(min_size=16, max_size=16), st.binary(min_size=12, max_size=12), st.binary(max_size=99)
)
def test_both_libraries_make_the_same_bytes(key: bytes, nonce: bytes, plain: bytes) -> None:
    ours, pycas = gcrypt.sm4_cipher(key), Sm4ChunkCipher(key)
    sealed = ours.seal(nonce, plain)
    assert sealed == pycas.seal(nonce, plain)
    for cipher in (ours, pycas):
        out, again = bytearray(len(plain)), bytearray(len(sealed))
        cipher.open_into(nonce, sealed, memoryview(out))
        cipher.seal_into(nonce, plain, memoryview(again))
        assert (out, again) == (plain, sealed)
    assert ours.open(nonce, sealed) == pycas.open(nonce, sealed) == plain
    for cipher in (ours, pycas):
        flipped = bytearray(sealed)
        flipped[hash(nonce) % len(sealed)] ^= 1
        with pytest.raises(NotAuthentic):
            cipher.open(nonce, flipped)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 16_383, 16_384, 16_385, 1_000_000])
def test_bodies_open_by_the_other_library(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = bytes(size)
    body = stream.seal(Suite.SM4_GCM, bytes(32), b"context", plain)
    with monkeypatch.context() as patch:
        patch.setattr(gcrypt, "is_usable", lambda: False)
        assert isinstance(sm4_cipher(KEY), Sm4ChunkCipher)
        assert speed.backend_of(Suite.SM4_GCM).startswith("OpenSSL")
        assert stream.open(Suite.SM4_GCM, bytes(32), b"context", body) == plain
        body = stream.seal(Suite.SM4_GCM, bytes(32), b"context", plain)
    assert stream.open(Suite.SM4_GCM, bytes(32), b"context", body) == plain


def test_threads_have_handles_of_their_own() -> None:
    cipher = gcrypt.sm4_cipher(KEY)
    plain = bytes(200_000)
    expected = {n: Sm4ChunkCipher(KEY).seal(bytes([n]) * 12, plain) for n in range(8)}
    wrong: list[int] = []

    def work(number: int) -> None:
        nonce = bytes([number]) * 12
        for _round in range(5):
            sealed = cipher.seal(nonce, plain)
            if sealed != expected[number] or cipher.open(nonce, sealed) != plain:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= len(cipher._idle) <= 8


def test_what_does_not_authenticate_is_not_left_in_the_buffer() -> None:
    cipher = gcrypt.sm4_cipher(KEY)
    sealed = bytearray(cipher.seal(NONCE, b"secret offer"))
    sealed[-1] ^= 1
    out = bytearray(b"x" * 12)
    with pytest.raises(NotAuthentic):
        cipher.open_into(NONCE, sealed, memoryview(out))
    assert out == bytes(12)
    sealed[-1] ^= 1
    cipher.open_into(NONCE, sealed, memoryview(out))  # the handle is good for the next
    assert out == b"secret offer"


@pytest.mark.parametrize("size", [0, 15])
def test_what_is_too_short_for_a_tag_is_refused(size: int) -> None:
    cipher = gcrypt.sm4_cipher(KEY)
    with pytest.raises(NotAuthentic):
        cipher.open(NONCE, bytes(size))
    with pytest.raises(NotAuthentic):
        cipher.open_into(NONCE, bytes(size), memoryview(bytearray()))


@pytest.mark.parametrize("size", [15, 17])
def test_a_buffer_of_another_size_is_a_bug(size: int) -> None:
    cipher = gcrypt.sm4_cipher(KEY)
    out = memoryview(bytearray(size))
    with pytest.raises(AssertionError, match="size of the result"):
        cipher.seal_into(NONCE, b"", out)
    with pytest.raises(AssertionError, match="size of the result"):
        cipher.open_into(NONCE, bytes(32), out)


def test_an_error_of_the_library_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="gcrypt: error"):
        gcrypt.sm4_cipher(b"short").seal(NONCE, b"")


def test_the_key_is_wiped_with_the_cipher() -> None:
    cipher = gcrypt.sm4_cipher(KEY)
    key = cipher._key
    assert key == KEY
    del cipher
    gc.collect()
    assert key == bytes(16)


# -- where it is not used -------------------------------------------------------------------


class Library:
    """What cffi gives, with something else in the place of some functions."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        _version, self._ffi, self._library = gcrypt._loaded()
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ({"gcry_cipher_algo_info": lambda *_all: 12}, "the library has no SM4"),
        ({"gcry_cipher_encrypt": lambda *_all: 0}, "the library gives wrong answers"),
        ({"gcry_cipher_checktag": lambda *_all: 0}, "the library gives wrong answers"),
        ({"gcry_cipher_checktag": lambda *_all: 10}, "the library gives wrong answers"),
    ],
)
def test_a_library_that_is_odd_is_not_used(
    functions: dict[str, Callable[..., Any]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_library(monkeypatch, Library(**functions))
    assert gcrypt.status() == gcrypt.Status(reason=reason)
    assert not gcrypt.is_usable()


def replace_library(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    class Ffi:
        def dlopen(self, _name: str) -> Library:
            return library

        def __getattr__(self, name: str) -> Any:
            return getattr(library._ffi, name)

    monkeypatch.setitem(sys.modules, "encvault.crypto.gcrypt_abi", Ffi)
    monkeypatch.setattr(Ffi, "ffi", Ffi(), raising=False)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "function",
    [
        "gcry_cipher_open",
        "gcry_cipher_setkey",
        "gcry_cipher_setiv",
        "gcry_cipher_encrypt",
        "gcry_cipher_decrypt",
        "gcry_cipher_gettag",
        "gcry_cipher_checktag",
    ],
)
def test_a_library_that_answers_with_errors_is_not_used(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_library(monkeypatch, Library(**{function: lambda *_all: 0x1000032}))
    reason = gcrypt.Status(reason="the library does not work", detail="gcrypt: error 50")
    assert gcrypt.status() == reason
    assert isinstance(sm4_cipher(KEY), Sm4ChunkCipher)
    selftest.run.cache_clear()
    assert selftest.run() == selftest.EXPECTED_COUNT


@pytest.mark.usefixtures("fresh")
def test_another_library_of_that_name_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcrypt, "SONAME", "libc.so.6")
    assert gcrypt.status().reason == "the library does not work"
    assert "gcry_check_version" in gcrypt.status().detail
    selftest.run.cache_clear()
    assert selftest.run() == selftest.EXPECTED_COUNT


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("content", [b"", b"not a library" * 99])
def test_a_file_of_that_name_that_is_no_library_is_told(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libgcrypt.so.20"
    path.write_bytes(content)
    monkeypatch.setattr(gcrypt, "SONAME", str(path))
    assert gcrypt.status().reason == "the library cannot be loaded"
    assert str(path) in gcrypt.status().detail
    assert not gcrypt.is_usable()


@pytest.mark.usefixtures("fresh")
def test_a_library_that_misses_another_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "libgpg-error.so.0: cannot open shared object file: No such file or directory"
    told = f"cannot load library 'libgcrypt.so.20': {missing}"

    class Ffi:
        def dlopen(self, _name: str) -> Library:
            raise OSError(told)

    monkeypatch.setitem(sys.modules, "encvault.crypto.gcrypt_abi", Ffi)
    monkeypatch.setattr(Ffi, "ffi", Ffi(), raising=False)
    assert gcrypt.status() == gcrypt.Status(reason="the library cannot be loaded", detail=told)


@pytest.mark.usefixtures("fresh")
def test_without_cffi_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encvault.crypto.gcrypt_abi", None)
    assert gcrypt.status().reason == "cffi, which calls it, cannot be loaded"
    assert isinstance(sm4_cipher(KEY), Sm4ChunkCipher)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("least", "begin"), [(256, 128), (16_384, 16_384)])
def test_a_library_that_is_wrong_where_it_is_fast_is_not_used(
    least: int, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()

    def twisted(data: bytes) -> bytes:
        wrong = bytes(value ^ 0x5A for value in data[begin:])
        return data[:begin] + wrong if len(data) >= least else data

    def encrypt(handle: Any, out: Any, room: int, data: Any, size: int) -> int:
        changed = twisted(library._ffi.buffer(data, size)[:])
        error: int = library._library.gcry_cipher_encrypt(handle, out, room, changed, size)
        return error

    def decrypt(handle: Any, out: Any, room: int, data: Any, size: int) -> int:
        error: int = library._library.gcry_cipher_decrypt(handle, out, room, data, size)
        buffer = library._ffi.buffer(out, size)
        buffer[:] = twisted(buffer[:])
        return error

    library.__dict__.update(gcry_cipher_encrypt=encrypt, gcry_cipher_decrypt=decrypt)
    plain = bytes(20_000)
    cipher = gcrypt.GcryptSm4ChunkCipher(KEY, library._ffi, library)
    sealed = cipher.seal(NONCE, plain)
    assert cipher.open(NONCE, sealed) == plain
    assert Sm4ChunkCipher(KEY).open(NONCE, sealed) != plain  # nobody else can open it
    replace_library(monkeypatch, library)
    assert gcrypt.status() == gcrypt.Status(reason="the library gives wrong answers")
    selftest.run.cache_clear()
    assert selftest.run() == selftest.EXPECTED_COUNT


@pytest.mark.usefixtures("fresh")
def test_an_old_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    null = gcrypt._loaded()[1].NULL
    replace_library(monkeypatch, Library(gcry_check_version=lambda _wanted: null))
    assert gcrypt.status().reason == "the library is older than 1.9"


@pytest.mark.usefixtures("fresh")
def test_a_library_that_nobody_has_begun_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def control(command: int, *_rest: object) -> int:
        told.append(command)
        return 0

    replace_library(monkeypatch, Library(gcry_control=control))
    assert gcrypt.is_usable()
    assert told == [39, 37, 38]


@pytest.mark.usefixtures("fresh")
def test_without_the_library_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcrypt, "SONAME", "libnone.so.0")
    assert gcrypt.status() == gcrypt.Status(reason="the library is not installed")
    assert isinstance(suite.sm4_cipher(KEY), Sm4ChunkCipher)


@pytest.mark.usefixtures("fresh")
def test_elsewhere_than_on_linux_it_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert gcrypt.status().reason == "only looked for on Linux"


def test_the_table_is_what_the_declarations_say() -> None:
    assert gcrypt_abi.TABLE.read_text() == gcrypt_abi.table(), "python tests/tools/gcrypt_abi.py"
    assert gcrypt_abi.main([]) == 0
