"""Identities, recipients, and where passwords come from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from encvault import operations
from encvault.errors import IdentityExists

if TYPE_CHECKING:
    from helpers import Command, Ran


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note"
    path.write_text("content")
    return path


def password_fd(text: bytes) -> int:
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    return read


def new_key(run: Command, path: Path, *options: object) -> Ran:
    return run("key", "new", "-o", path, *options)


def test_a_protected_identity(run: Command, note: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("one\n")
    done = new_key(run, tmp_path / "me.key", "--name", "李雷", "--password-file", tmp_path / "pw")
    assert done.code == 0
    assert done.out.startswith("encvault1-")
    assert "fingerprint" in done.err
    assert (tmp_path / "me.key").stat().st_mode & 0o777 == 0o600
    assert run("key", "export", "-i", tmp_path / "me.key").out == done.out
    facts = json.loads(run("key", "show", "-i", tmp_path / "me.key", "--json").out)
    assert facts["name"] == "李雷"
    assert facts["protected"] is True
    assert facts["fingerprint"] in run("key", "show", "-i", tmp_path / "me.key").out
    assert run("seal", note, "-r", done.out.strip()).code == 0
    # the password is the identity's, the file has no password of its own
    sealed = tmp_path / "note.sealed"
    assert run("open", sealed, "-i", tmp_path / "me.key").code == 78
    (tmp_path / "wrong").write_text("two\n")
    done = run("open", sealed, "-i", tmp_path / "me.key", "--password-file", tmp_path / "wrong")
    assert done.code == 77
    assert "wrong password for this identity" in done.err
    done = run("open", sealed, "-i", tmp_path / "me.key", "--password-file", tmp_path / "pw")
    assert done.code == 0
    assert note.read_text() == "content"


def test_an_identity_is_never_overwritten(run: Command, tmp_path: Path) -> None:
    first = new_key(run, tmp_path / "me.key", "--no-password")
    content = (tmp_path / "me.key").read_bytes()
    done = new_key(run, tmp_path / "me.key", "--no-password")
    assert first.code == 0
    assert done.code == 73
    assert "exists already, and an identity file is never replaced" in done.err
    assert "hint: choose another file with: encvault key new -o FILE" in done.err
    assert (tmp_path / "me.key").read_bytes() == content


def test_no_password_is_asked_for_where_an_identity_exists(run: Command, tmp_path: Path) -> None:
    (tmp_path / "me.key").write_text("mine")
    assert new_key(run, tmp_path / "me.key", "--password-command", "false").code == 73
    with pytest.raises(IdentityExists):
        operations.new_identity(str(tmp_path / "me.key"), "", None)


def test_an_identity_or_recipient_that_cannot_be_read_is_named(
    run: Command, note: Path, tmp_path: Path
) -> None:
    (tmp_path / "k.key").mkdir()
    done = run("seal", note, "-r", tmp_path / "k.key")
    assert done.code == 78
    assert (
        done.err
        == f"encvault: {tmp_path}/k.key: cannot read the identity or recipient: Is a directory\n"
    )
    assert note.read_text() == "content"
    recipient = new_key(run, tmp_path / "me.key", "--no-password").out.strip()
    assert run("init", tmp_path / "vault", "-r", recipient).code == 0
    opened = run("verify", tmp_path / "vault", "-i", tmp_path / "k.key")
    assert (opened.code, opened.err) == (done.code, done.err)


def test_a_key_without_a_terminal_needs_a_decision(run: Command, tmp_path: Path) -> None:
    done = new_key(run, tmp_path / "me.key")
    assert done.code == 78
    assert "say --no-password" in done.err
    assert not (tmp_path / "me.key").exists()


def test_the_default_identity_is_used_where_it_fits(run: Command, note: Path) -> None:
    recipient = run("key", "new", "--no-password").out.strip()
    home = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault"
    assert (home / "identity.key").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert run("seal", note, "-r", recipient).code == 0
    assert run("cat", f"{note}.sealed").out == "content"
    # sealed for somebody else: the default identity is no help, and nobody is asked
    assert run("open", f"{note}.sealed").code == 0
    other = run("key", "new", "--no-password", "-o", note.parent / "other").out.strip()
    assert run("seal", note, "-r", other).code == 0
    assert run("open", f"{note}.sealed").code == 77


def test_recipients_from_a_file_and_from_several(run: Command, note: Path, tmp_path: Path) -> None:
    lines = [new_key(run, tmp_path / f"{name}.key", "--no-password").out for name in "ab"]
    (tmp_path / "team.pub").write_text("# the team\n\n" + "".join(lines))
    assert run("seal", note, "-r", tmp_path / "team.pub", "--keep").code == 0
    slots = json.loads(run("info", f"{note}.sealed", "--json").out)["slots"]
    assert [slot["kind"] for slot in slots] == ["recipient", "recipient"]
    for name in "ab":
        done = run("cat", f"{note}.sealed", "-i", tmp_path / f"{name}.key")
        assert done.out == "content"


def test_a_recipient_and_a_password_together(run: Command, note: Path, tmp_path: Path) -> None:
    recipient = new_key(run, tmp_path / "me.key", "--no-password").out.strip()
    (tmp_path / "pw").write_text("one\n")
    assert run("seal", note, "-r", recipient, "--password-file", tmp_path / "pw").code == 0
    assert run("cat", f"{note}.sealed", "-i", tmp_path / "me.key").out == "content"
    assert run("cat", f"{note}.sealed", "--password-file", tmp_path / "pw").out == "content"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "does not begin with encvault1-"),
        ("encvault1-AAAA", "cut off or mistyped"),
        ("encvault1-!", "not base64"),
        ("# nobody\n", "no recipient in it"),
    ],
)
def test_bad_recipients(run: Command, note: Path, tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "r.pub").write_text(text)
    done = run("seal", note, "-r", tmp_path / "r.pub")
    assert done.code == 65
    assert reason in done.err
    assert note.exists()


def test_an_identity_given_as_a_recipient_is_refused(
    run: Command, note: Path, tmp_path: Path
) -> None:
    new_key(run, tmp_path / "me.key", "--no-password")
    done = run("seal", note, "-r", tmp_path / "me.key")
    assert done.code == 65
    assert "stays secret" in done.err


@pytest.mark.parametrize("content", [b"{}", b"nonsense", b"", b'{"encvault_identity":2}'])
def test_bad_identities(run: Command, note: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.key").write_bytes(content)
    done = run("open", note, "-i", tmp_path / "bad.key")
    assert done.code in (65, 66)
    assert run("key", "show", "-i", tmp_path / "bad.key").code == 65


# -- passwords ------------------------------------------------------------------------------


def test_every_source_gives_the_same_password(run: Command, note: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes("pä ss\r\n".encode())
    assert run("seal", note, "--password-file", tmp_path / "pw").code == 0
    sealed = f"{note}.sealed"
    with os.fdopen(password_fd("pä ss\n".encode())) as pipe:
        assert run("cat", sealed, "--password-fd", pipe.fileno()).out == "content"
    done = run("cat", sealed, "--password-command", f"cat '{tmp_path}/pw'")
    assert done.out == "content"
    # Unicode spells the same letter in two ways; keyboards differ in which they send
    (tmp_path / "nfd").write_text("pa\u0308 ss")
    assert run("cat", sealed, "--password-file", tmp_path / "nfd").out == "content"


def test_a_mark_that_editors_put_in_front_is_no_part_of_a_password(
    run: Command, note: Path, tmp_path: Path
) -> None:
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbf" + "密码 2026\r\n".encode())
    (tmp_path / "pw").write_text("密码 2026")
    assert run("seal", note, "--password-file", tmp_path / "bom").code == 0
    assert run("cat", f"{note}.sealed", "--password-file", tmp_path / "pw").out == "content"


def test_a_password_command_that_hangs_is_ended_with_what_asked_it(note: Path) -> None:
    """As by a job's time limit, or when a terminal closes."""
    command = [sys.executable, "-m", "encvault", "seal", str(note), "--password-command"]
    asking = subprocess.Popen([*command, "sleep 60"], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{asking.pid}/task/{asking.pid}/children")
    deadline = time.monotonic() + 60
    while not (asked := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    asking.send_signal(signal.SIGTERM)
    assert asking.wait(timeout=30) == 143
    assert not Path(f"/proc/{asked[0]}").exists()
    assert note.read_text() == "content"


def test_nobody_waits_for_what_a_password_command_leaves_running(
    run: Command, note: Path, tmp_path: Path
) -> None:
    (tmp_path / "pw").write_text("a password")
    begun = time.monotonic()
    command = f"sh -c 'cat {tmp_path}/pw; sleep 30 &'"
    assert run("seal", note, "--password-command", command).code == 0
    assert time.monotonic() - begun < 20
    assert run("cat", f"{note}.sealed", "--password-file", tmp_path / "pw").out == "content"


def test_two_sources_are_an_error(run: Command, note: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("one")
    done = run("seal", note, "--password-file", tmp_path / "pw", "--password-command", "echo two")
    assert done.code == 2
    assert "one source of a password" in done.err
    assert note.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--password-file", "missing"], "No such file or directory"),
        (["--password-fd", "97"], "Bad file descriptor"),
        (["--password-command", "false"], "it ended with code 1"),
        (["--password-command", "/nowhere/at/all"], "No such file or directory"),
        (["--password-command", ""], "it is empty"),
        (["--password-command", "echo 'x"], "not closed"),
        (["--password-command", "head -c 5000 /dev/zero"], "longer than 4096 bytes"),
        (["--password-command", "yes x"], "longer than 4096 bytes"),
        (["--password-file", "/dev/zero"], "longer than 4096 bytes"),
        (["--password-command", "printf 'p\\0a\\0'"], "it has a zero byte in it"),
        (["--password-command", "true"], "the password is empty"),
    ],
)
def test_sources_that_fail(run: Command, note: Path, options: list[str], reason: str) -> None:
    done = run("seal", note, *options)
    assert done.code == 78
    assert reason in done.err
    assert note.read_text() == "content"
    assert sorted(path.name for path in note.parent.iterdir()) == ["note"]


def test_without_a_terminal_nobody_is_asked(run: Command, note: Path) -> None:
    done = run("seal", note)
    assert done.code == 78
    assert "there is no terminal to ask on" in done.err
    assert "hint: give --password-file" in done.err


# -- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16_384, 1_500_000])
def test_a_stream_there_and_back(run: Command, tmp_path: Path, size: int) -> None:
    recipient = new_key(run, tmp_path / "me.key", "--no-password").out.strip()
    content = b"0123456789abcdef" * (size // 16) + b"x" * (size % 16)
    (tmp_path / "in").write_bytes(content)
    with (tmp_path / "in").open("rb") as file:
        done = run("seal", "-", "-o", tmp_path / "s.sealed", "-r", recipient, stdin=file)
    assert done.code == 0
    with (tmp_path / "s.sealed").open("rb") as file:
        done = run("open", "-", "-i", tmp_path / "me.key", stdin=file)
    assert done.code == 0
    assert done.out.encode() == content


def test_a_cut_stream_says_so_and_prints_only_what_is_authentic(
    run: Command, tmp_path: Path
) -> None:
    recipient = new_key(run, tmp_path / "me.key", "--no-password").out.strip()
    content = b"0123456789abcdef" * 200_000
    (tmp_path / "in").write_bytes(content)
    run("seal", tmp_path / "in", "-r", recipient)
    sealed = (tmp_path / "in.sealed").read_bytes()
    (tmp_path / "cut").write_bytes(sealed[:-100])
    with (tmp_path / "cut").open("rb") as file:
        done = run("open", "-", "-i", tmp_path / "me.key", stdin=file)
    assert done.code == 65
    assert content.startswith(done.out.encode())


@pytest.mark.parametrize(
    "arguments",
    [
        ["seal", "-", "--to", "x"],
        ["seal", "-", "other"],
        ["seal", "-", "--json"],
        ["open", "-", "--to", "x"],
        ["open", "-", "--json"],
        ["open", "-", "other"],
    ],
)
def test_streams_stand_alone(run: Command, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "stream" in done.err
