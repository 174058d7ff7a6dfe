"""The wiping holder."""

from __future__ import annotations

import pytest

from encvault.secret import Secret


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
