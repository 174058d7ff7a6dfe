"""SM4-GCM by libgcrypt, which has vector code for it that OpenSSL lacks: five times as fast.

The library is found by its soname and called through cffi's ABI mode, so no compiler is needed. It
is used only if it is new enough, has the cipher, and gives the known answers; else everything goes
on with pyca's SM4, which makes the same bytes, and `status` says why, whatever went wrong: a
library that ends or stops the process is beyond that. Once it was found good, an error in use is a
bug and ends the work. Calls release the interpreter's lock, and several threads may use one cipher:
each takes a handle of its own.

Source: The Libgcrypt Reference Manual 1.10, sections "Initializing the library" and "Working with
cipher handles"; the constants are those of gcrypt.h, which are part of its ABI.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.crypto import NotAuthentic, answers
from encvault.i18n import N_

if TYPE_CHECKING:
    from encvault.secret import Buffer

SONAME = "libgcrypt.so.20"
OLDEST = "1.9.0"  # the first with SM4
TAG_SIZE = 16

_DISABLE_SECMEM, _FINISHED, _IS_FINISHED = 37, 38, 39  # enum gcry_ctl_cmds
_TEST_ALGO = 8
_SM4, _GCM = 318, 9
_ERROR_CODE = 0xFFFF  # gpg_err_code: the rest of an error says which library it came from
_CHECKSUM = 10  # GPG_ERR_CHECKSUM

# Wycheproof (C2SP, Apache-2.0), sm4_gcm 4
_KEY = bytes.fromhex("cae31cd9f55526eb038241fc44cac1e5")
_NONCE, _PLAIN = bytes.fromhex("b5e006ded553110e6dc56529"), bytes.fromhex("d10989f2c52e94ad")
_SEALED = bytes.fromhex("ae080aa27f4767369e649f28d3f52a4bf7e3239a980617fd")


class Status(NamedTuple):
    """Whether libgcrypt does the work.

    Attributes:
        version: of the library, or "" if it is not used.
        reason: why it is not, or "".
        detail: what the loader, cffi or the library itself says of that, in their words, or "".
    """

    version: str = ""
    reason: str = ""
    detail: str = ""


def status() -> Status:
    """Whether libgcrypt does the work here, and if not, why."""
    return _found()[0]


def is_usable() -> bool:
    """Whether it does."""
    return not _found()[0].reason


@functools.cache
def _found() -> tuple[Status, Any, Any]:
    """The status, and cffi's view of the library; looked for once per process."""
    try:
        version, ffi, library = _loaded()
        if not _answers_rightly(ffi, library):
            raise _Unusable(N_("the library gives wrong answers"))  # noqa: TRY301 - like the others
    except _Unusable as error:
        return Status("", *error.args), None, None
    except Exception as error:  # noqa: BLE001 - no fault of this library may stop the other suite
        return Status("", N_("the library does not work"), str(error)), None, None
    return Status(version), ffi, library


class _Unusable(Exception):
    """Why the library is not used: the reason, and perhaps the detail of a `Status`."""


def _loaded() -> tuple[str, Any, Any]:
    """The library, initialised: its version and cffi's view of it."""
    if not sys.platform.startswith("linux"):
        raise _Unusable(N_("only looked for on Linux"))
    try:
        from encvault.crypto.gcrypt_abi import ffi  # noqa: PLC0415 - needs what cffi brings
    except ImportError as error:
        raise _Unusable(N_("cffi, which calls it, cannot be loaded"), str(error)) from None
    try:
        library = ffi.dlopen(SONAME)
    except OSError as error:
        if _is_missing(str(error)):
            raise _Unusable(N_("the library is not installed")) from None
        raise _Unusable(N_("the library cannot be loaded"), str(error)) from None
    version = library.gcry_check_version(OLDEST.encode())
    if version == ffi.NULL:
        raise _Unusable(N_("the library is older than 1.9"))
    if not library.gcry_control(_IS_FINISHED):  # nobody else in this process uses it
        nothing = ffi.cast("int", 0)
        library.gcry_control(_DISABLE_SECMEM, nothing)
        library.gcry_control(_FINISHED, nothing)
    if library.gcry_cipher_algo_info(_SM4, _TEST_ALGO, ffi.NULL, ffi.NULL):
        raise _Unusable(N_("the library has no SM4"))
    return ffi.string(version).decode(errors="replace"), ffi, library


def _is_missing(error: str) -> bool:
    """Whether it is this file that the loader misses, and not one that this one needs."""
    return f"{SONAME}: " in error and os.strerror(errno.ENOENT) in error


def _answers_rightly(ffi: Any, library: Any) -> bool:
    """Known answers, both ways, of few bytes and of many, and one that has to be refused."""
    cipher = GcryptSm4ChunkCipher(_KEY, ffi, library)
    try:
        if cipher.seal(_NONCE, _PLAIN) != _SEALED or cipher.open(_NONCE, _SEALED) != _PLAIN:
            return False
    except NotAuthentic:
        return False
    try:
        cipher.open(_NONCE, _SEALED[:-1] + b"\0")
    except NotAuthentic:
        wide = GcryptSm4ChunkCipher(answers.KEY[:16], ffi, library)
        return answers.are_given(wide, answers.SM4_GCM)
    return False


def sm4_cipher(key: bytes) -> GcryptSm4ChunkCipher:
    """A cipher under a 16-byte key; only where `is_usable`."""
    _status, ffi, library = _found()
    return GcryptSm4ChunkCipher(key, ffi, library)


def _wipe(key: bytearray) -> None:
    key[:] = bytes(len(key))


class GcryptSm4ChunkCipher:
    """SM4-GCM; see `encvault.crypto.suite.ChunkCipher`.

    Args:
        key: 16 bytes. The copy that is kept is wiped when the cipher goes, and libgcrypt wipes its
            own with each handle.
        ffi, library: cffi's.
    """

    def __init__(self, key: bytes, ffi: Any, library: Any) -> None:
        self._ffi = ffi
        self._library = library
        self._key = bytearray(key)
        self._idle: list[Any] = []  # handles; a thread takes one and puts it back
        weakref.finalize(self, _wipe, self._key)

    def seal(self, nonce: bytes, plaintext: Buffer) -> bytes:
        """See `ChunkCipher`."""
        out = bytearray(memoryview(plaintext).nbytes + TAG_SIZE)
        self.seal_into(nonce, plaintext, memoryview(out))
        return bytes(out)

    def open(self, nonce: bytes, sealed: Buffer) -> bytes:
        """See `ChunkCipher`."""
        size = memoryview(sealed).nbytes - TAG_SIZE
        if size < 0:
            raise NotAuthentic
        out = bytearray(size)
        self.open_into(nonce, sealed, memoryview(out))
        return bytes(out)

    def seal_into(self, nonce: bytes, plaintext: Buffer, out: memoryview) -> None:
        """See `ChunkCipher`."""
        size = memoryview(plaintext).nbytes
        if len(out) != size + TAG_SIZE:
            raise AssertionError("gcrypt: the buffer does not have the size of the result")
        library, handle = self._library, self._handle(nonce)
        target = self._ffi.from_buffer(out, require_writable=True)
        if size:
            source = self._ffi.from_buffer(plaintext)
            self._done(library.gcry_cipher_encrypt(handle, target, size, source, size))
        self._done(library.gcry_cipher_gettag(handle, target + size, TAG_SIZE))
        self._idle.append(handle)

    def open_into(self, nonce: bytes, sealed: Buffer, out: memoryview) -> None:
        """See `ChunkCipher`. What does not authenticate is wiped from the buffer."""
        size = memoryview(sealed).nbytes - TAG_SIZE
        if size < 0:
            raise NotAuthentic
        if len(out) != size:
            raise AssertionError("gcrypt: the buffer does not have the size of the result")
        library, handle = self._library, self._handle(nonce)
        source = self._ffi.from_buffer(sealed)
        if size:
            target = self._ffi.from_buffer(out, require_writable=True)
            self._done(library.gcry_cipher_decrypt(handle, target, size, source, size))
        # compared in constant time (libgcrypt, buf_eq_const)
        error = library.gcry_cipher_checktag(handle, source + size, TAG_SIZE)
        self._idle.append(handle)
        if error & _ERROR_CODE == _CHECKSUM:
            out[:] = bytes(size)
            raise NotAuthentic
        self._done(error)

    def _handle(self, nonce: bytes) -> Any:
        """A handle that nobody else uses, ready for a message."""
        try:
            handle = self._idle.pop()
        except IndexError:
            handle = self._opened()
        self._done(self._library.gcry_cipher_setiv(handle, nonce, len(nonce)))
        return handle

    def _opened(self) -> Any:
        place = self._ffi.new("gcry_cipher_hd_t *")
        self._done(self._library.gcry_cipher_open(place, _SM4, _GCM, 0))
        handle = self._ffi.gc(place[0], self._library.gcry_cipher_close)
        key = self._ffi.from_buffer(self._key)
        self._done(self._library.gcry_cipher_setkey(handle, key, len(self._key)))
        return handle

    @staticmethod
    def _done(error: int) -> None:
        """Refuse what a well-formed call can never come to."""
        if error:
            raise AssertionError(f"gcrypt: error {error & _ERROR_CODE}")
