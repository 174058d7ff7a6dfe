"""New key pairs: private, never over another file, usable at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from encvault import operations
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import IdentityExists, SourceMissing
from encvault.keyslots import IdentityFile, PublicKeyRecipient, encode_password

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", [None, "correct horse"])
def test_a_new_identity_is_private_and_opens_what_is_sealed_for_it(
    tmp_path: Path, text: str | None
) -> None:
    password = None if text is None else encode_password(text)
    path = tmp_path / "me.key"
    made = operations.new_identity(str(path), "赵", password, profile=CHEAPEST)
    assert path.stat().st_mode & 0o777 == 0o600
    read = IdentityFile.decode(path.read_bytes(), "x")
    assert (read.name, read.recipient) == ("赵", made.recipient)
    (tmp_path / "f").write_text("content")
    recipients = (PublicKeyRecipient(read.public),)
    operations.seal(
        operations.SealRequest(paths=(str(tmp_path / "f"),)),
        operations.Answers(recipients_given=recipients),
    )
    answers = operations.Answers(identities_given=(read.unlock(password, "x"),))
    assert b"".join(map(bytes, operations.cat(str(tmp_path / "f.sealed"), answers))) == b"content"


def test_an_identity_without_a_password_needs_no_profile(tmp_path: Path) -> None:
    made = operations.new_identity(str(tmp_path / "k"), "job", None)
    assert made.slot is None


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "me.key"
    path.write_text("the only key to everything")
    with pytest.raises(IdentityExists):
        operations.new_identity(str(path), "me", None)
    assert path.read_text() == "the only key to everything"
    with pytest.raises(SourceMissing):
        operations.new_identity(str(tmp_path / "missing" / "k"), "me", None)
    assert [item.name for item in tmp_path.iterdir()] == ["me.key"]
