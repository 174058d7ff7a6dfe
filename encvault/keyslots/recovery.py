"""Keyslots for whoever holds a printed recovery code, and the code as text.

docs/format.md sections 5 and 8. The code is 256 random bits in Crockford's base32, which has no
letters that look like digits; each group of four symbols carries a check symbol over GF(32), as in
BIP 173, so that a typing error names its group.
"""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

from encvault.crypto import kdf
from encvault.errors import MistypedRecoveryCode
from encvault.keyslots.publickeys import KeyIdentity, new_public_slot, rewrap, slots_of
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.keyslots.slots import Slot

CODE_SIZE = 32  # bytes
GROUPS = 13  # of four symbols with five bits each: 260 bits, of which the last four are zero
GROUP_LENGTH = 5  # with the check symbol

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {symbol: value for value, symbol in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_LINE_ENDS = "\t\r\n"
_SEPARATORS = ("Pd", "Zs")  # categories of Unicode: dashes and spaces of any kind
_REDUCTION = 0b101001  # x^5 + x^3 + 1, the field of BIP 173


def new_code() -> Secret:
    """A fresh recovery code, 32 bytes."""
    return Secret(bytearray(os.urandom(CODE_SIZE)))


def encode_code(code: Secret) -> str:
    """The code as 13 groups of five symbols, with ``-`` between."""
    number = int.from_bytes(code.reveal()) << 4
    groups = []
    for index in range(GROUPS):
        bits = number >> (20 * (GROUPS - 1 - index))
        values = [bits >> shift & 31 for shift in (15, 10, 5, 0)]
        groups.append("".join(_ALPHABET[value] for value in (*values, _check(values, index))))
    return "-".join(groups)


def decode_code(text: str) -> Secret:
    """The code that somebody typed; letters of either case, spaces and dashes as they like.

    Input methods for Chinese and Japanese type letters, digits and dashes of full width.

    Raises:
        MistypedRecoveryCode: names the first group that is not as it was printed.
    """
    typed = "".join(
        symbol
        for symbol in unicodedata.normalize("NFKC", text).upper()
        if symbol not in _LINE_ENDS and unicodedata.category(symbol) not in _SEPARATORS
    )
    number = 0
    for index in range(GROUPS):
        group = typed[index * GROUP_LENGTH : (index + 1) * GROUP_LENGTH]
        values = [_VALUES.get(symbol, -1) for symbol in group]
        if len(values) < GROUP_LENGTH or -1 in values or values[4] != _check(values[:4], index):
            raise MistypedRecoveryCode(group=index + 1, groups=GROUPS)
        for value in values[:4]:
            number = number << 5 | value
    if len(typed) > GROUPS * GROUP_LENGTH or number & 15:
        raise MistypedRecoveryCode(group=GROUPS, groups=GROUPS)
    return Secret((number >> 4).to_bytes(CODE_SIZE))


def _check(values: Sequence[int], index: int) -> int:
    """The check symbol of a group.

    Every single wrong symbol and every two exchanged ones change it, and so does another place
    among the groups.
    """
    result = index + 1
    for value in values:
        result = _times_x(result ^ value)
    return result


def _times_x(value: int) -> int:
    doubled = value << 1
    return doubled ^ _REDUCTION if doubled & 32 else doubled


class RecoveryRecipient:
    """Wraps for whoever holds a recovery code, by way of a key pair that follows from the code.

    So the code stays good when the vault's key is changed, and nobody has to fetch the paper.

    Args:
        code: 32 random bytes (`new_code`).
        label: for people, shown by ``slot list``.
    """

    def __init__(self, code: Secret, *, label: str = "") -> None:
        self._code = code
        self._label = label
        self._public = self.identity().public

    def wrap(self, secret: Secret) -> Slot:
        """See `Recipient`."""
        return rewrap(new_public_slot("recovery", self._label, self._public), secret)

    def fits(self, slots: Sequence[Slot], path: str) -> bool:  # noqa: ARG002 - protocol
        """See `Recipient`."""
        return bool(slots_of("recovery", self._public, slots))

    def identity(self) -> RecoveryIdentity:
        """See `Recipient`."""
        return RecoveryIdentity(self._code)


class RecoveryIdentity(KeyIdentity):
    """Opens recovery slots.

    Args:
        code: 32 bytes (`decode_code`).
    """

    kind = "recovery"

    def __init__(self, code: Secret) -> None:
        super().__init__(kdf.expand(code.reveal(), "encvault/recovery@v1"))
