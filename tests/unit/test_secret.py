"""The wiping holder."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

from encvault.keyslots import (
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    RecoveryIdentity,
)
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_secret_does_not_show_itself() -> None:
    assert "hunter2" not in f"{Secret(b'hunter2')!r} {Secret(b'hunter2')!s}"


def test_leaving_the_block_wipes_the_callers_buffer() -> None:
    buffer = bytearray(b"secret")
    view = memoryview(bytearray(6))
    with Secret(buffer) as secret:
        assert secret.reveal() is buffer
        assert len(secret) == 6
    view.release()
    assert buffer == b""
    assert not secret


def test_equality_is_by_content_and_there_is_no_hash() -> None:
    assert Secret(b"a") == Secret(bytearray(b"a"))
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    with pytest.raises(TypeError):
        hash(Secret(b"a"))


HOLDERS = {
    "secret": lambda: Secret(b"hunter2"),
    "password": lambda: PasswordIdentity(Secret(b"hunter2")),
    "recipient": lambda: PasswordRecipient(Secret(b"hunter2")),
    "key": lambda: KeyIdentity(Secret(bytes(32))),
    "recovery": lambda: RecoveryIdentity(Secret(bytes(32))),
}


@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
def test_a_secret_is_not_pickled_or_copied(make: Callable[[], object]) -> None:
    holder = make()
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            way(holder)
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(Secret(b"hunter2"))
