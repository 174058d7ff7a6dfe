"""New key pairs: private, never over another file, usable at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from encvault import operations
from encvault.crypto.kdf import CHEAPEST
from encvault.errors import (
    EncvaultError,
    IdentityExists,
    KeychainForgetful,
    KeychainUnavailable,
    SourceMissing,
)
from encvault.fs import calls
from encvault.keychain import Keychain
from encvault.keyslots import (
    IdentityFile,
    PasswordRecipient,
    PublicKeyRecipient,
    encode_password,
    encode_recipient,
    keychain_account,
)

if TYPE_CHECKING:
    from pathlib import Path

    from encvault.secret import Secret


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


def test_files_that_an_editor_of_windows_saved_are_read(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    path = tmp_path / "me.key"
    operations.new_identity(str(path), "", None)
    assert not path.read_bytes().startswith(mark)
    identity = operations.read_identity(str(path))
    path.write_bytes(mark + path.read_bytes())
    assert operations.read_identity(str(path)).public == identity.public
    lines = tmp_path / "team.txt"
    line = encode_recipient(identity.public).encode()
    for text in (line, b"# the team\r\n" + line + b"\r\n"):
        lines.write_bytes(mark + text)
        assert operations.read_recipients(str(lines)) == [identity.public]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "me.key"
    path.write_text("the only key to everything")
    with pytest.raises(IdentityExists):
        operations.new_identity(str(path), "me", None)
    assert path.read_text() == "the only key to everything"
    with pytest.raises(SourceMissing):
        operations.new_identity(str(tmp_path / "missing" / "k"), "me", None)
    assert [item.name for item in tmp_path.iterdir()] == ["me.key"]


class Kept(Keychain):
    """A keychain in memory, which may refuse; the real one is in tests/cli/test_keyring.py."""

    entries: ClassVar[dict[str, bytes]] = {}
    refuses: ClassVar[EncvaultError | None] = None

    def store(self, account: str, password: Secret) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.entries[account] = bytes(password.reveal())
        return "memory"

    def forget(self, account: str) -> bool:
        if self.refuses is not None:
            raise self.refuses
        return self.entries.pop(account, None) is not None


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(Kept, "entries", {})
    return Kept({})


def test_the_password_is_with_the_keychain_before_there_is_a_file(
    tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "me.key"
    monkeypatch.setattr(Kept, "refuses", KeychainForgetful(backend="X"))
    with pytest.raises(KeychainForgetful):
        operations.new_identity(
            str(path), "", encode_password("one"), profile=CHEAPEST, keychain=kept
        )
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Kept, "refuses", None)
    made = operations.new_identity(
        str(path), "", encode_password("one"), profile=CHEAPEST, keychain=kept
    )
    assert made.slot is not None
    assert kept.entries == {keychain_account(made.slot): b"one"}


@pytest.mark.parametrize("refuses", [None, KeychainUnavailable(reason="gone")])
def test_a_file_that_cannot_be_published_leaves_no_entry(
    tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch, refuses: EncvaultError | None
) -> None:
    def full(*_arguments: object) -> None:
        monkeypatch.setattr(Kept, "refuses", refuses)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "rename_new", full)
    with pytest.raises(EncvaultError) as caught:
        operations.new_identity(
            str(tmp_path / "k"), "", encode_password("one"), profile=CHEAPEST, keychain=kept
        )
    assert caught.value.exit_code == 73
    assert list(tmp_path.iterdir()) == []
    assert (kept.entries == {}) == (refuses is None)


@pytest.mark.parametrize("failing", ["create", "write", "fsync", "replace"])
def test_the_old_file_stays_if_a_new_password_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "me.key"
    old, new = encode_password("one"), encode_password("two")
    made = operations.new_identity(str(path), "", old, profile=CHEAPEST)
    before = path.read_bytes()

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(calls, failing, full)
        with pytest.raises(EncvaultError) as caught:
            operations.change_identity_password(
                str(path),
                made,
                made.unlock(old, "x"),
                PasswordRecipient(new, profile=CHEAPEST),
            )
    assert caught.value.exit_code == 73
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["me.key"]
