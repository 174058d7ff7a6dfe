"""A holder for key material that is wiped when its owner is done.

Wiping is best effort: the interpreter, OpenSSL and the kernel may hold copies that nobody can
reach (docs/threat-model.md, "does not"). It still shortens the time in which a core dump or a
swapped page gives a key away, and the hidden ``repr`` keeps keys out of tracebacks and logs.
"""

from __future__ import annotations

import contextlib
import hmac
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from types import TracebackType


Buffer = bytes | bytearray | memoryview
"""What a call that reads bytes takes."""


class Secret:
    """Bytes that must not be printed, compared in variable time, or kept.

    Use as a context manager; leaving the block overwrites the bytes with zeros.

    Args:
        value: the secret bytes. A ``bytearray`` is taken over, not copied, so that the caller's
            buffer is wiped too.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value if isinstance(value, bytearray) else bytearray(value)

    def reveal(self) -> bytearray:
        """The bytes themselves, not a copy. Do not keep a reference past the holder's life."""
        return self._value

    def pin(self) -> None:
        """Ask the system not to swap the bytes out; it may refuse, and nobody is told."""
        import ctypes  # noqa: PLC0415 - 3 ms that only a mount is worth

        if not self._value:
            return
        with contextlib.suppress(OSError, AttributeError, TypeError):  # not on Windows
            size = len(self._value)
            pages = (ctypes.c_char * size).from_buffer(self._value)
            ctypes.CDLL(None).mlock(ctypes.byref(pages), ctypes.c_size_t(size))

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget their length."""
        self._value[:] = bytes(len(self._value))
        del self._value[:]

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a wiped holder would change its hash

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: nobody would wipe the copy."""
        raise TypeError("a secret is not pickled or copied")

    def __repr__(self) -> str:
        return "Secret(…)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.wipe()
