"""What a person at a terminal meets: questions, a progress bar, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from desktop import Desktop
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "quote.txt").write_text("content")
    return tmp_path


def start(
    terminals: list[Terminal], folder: Path, *arguments: object, **environment: str
) -> Terminal:
    terminals.append(Terminal(*arguments, cwd=folder, **environment))
    return terminals[-1]


def test_a_password_is_asked_for_twice_and_then_once(
    terminals: list[Terminal], folder: Path
) -> None:
    seal = start(terminals, folder, "seal", "docs")
    seal.expect("new password for docs: ")
    seal.type("secret")
    seal.expect("the same password again: ")
    seal.type("other")
    seal.expect("the two passwords differ")
    seal.expect("new password for docs: ")
    seal.type("secret")
    seal.expect("again: ")
    seal.type("secret")
    assert seal.wait() == 0
    assert "sealed 1 file, 7 B" in seal.screen
    assert "secret" not in seal.screen

    opened = start(terminals, folder, "open", "docs")
    opened.expect("password for ")
    opened.type("wrong")
    opened.expect("that password does not fit")
    opened.type("secret")
    assert opened.wait() == 0
    assert (folder / "docs" / "quote.txt").read_text() == "content"


def test_three_wrong_passwords_are_enough(terminals: list[Terminal], folder: Path) -> None:
    (folder / "pw").write_text("secret")
    assert start(terminals, folder, "seal", "docs", "--password-file", "pw").wait() == 0
    opened = start(terminals, folder, "open", "docs")
    for _attempt in range(3):
        opened.expect("password for ")
        opened.type("wrong")
    assert opened.wait() == 77
    assert "wrong password or no matching key" in opened.screen


def test_files_with_one_password_ask_for_it_once(terminals: list[Terminal], folder: Path) -> None:
    (folder / "pw").write_text("secret")
    for name in ("a", "b"):
        (folder / name).write_text(name)
    assert start(terminals, folder, "seal", "a", "b", "--password-file", "pw").wait() == 0
    opened = start(terminals, folder, "open", "a.sealed", "b.sealed")
    opened.expect("password for a.sealed: ")
    opened.type("secret")
    assert opened.wait() == 0
    assert opened.screen.count("password for") == 1
    assert (folder / "b").read_text() == "b"


def test_an_identity_asks_for_its_own_password(terminals: list[Terminal], folder: Path) -> None:
    made = start(terminals, folder, "key", "new", "-o", "me.key")
    made.expect("new password for me.key: ")
    made.type("secret")
    made.expect("again: ")
    made.type("secret")
    assert made.wait() == 0
    recipient = re.search(r"encvault1-\S+", made.screen)
    assert recipient is not None
    (folder / "me.pub").write_text(recipient[0])
    assert start(terminals, folder, "seal", "docs", "-r", "me.pub").wait() == 0
    opened = start(terminals, folder, "open", "docs", "-i", "me.key")
    opened.expect("password for me.key: ")
    opened.type("wrong")
    opened.expect("wrong password for this identity")
    opened.type("secret")
    assert opened.wait() == 0


@pytest.fixture
def second(terminals: list[Terminal], folder: Path) -> str:
    """The keyslot of a second password, two, of a vault in docs that was sealed with one."""
    for name in ("one", "two"):
        (folder / name).write_text(name)
    assert start(terminals, folder, "seal", "docs", "--password-file", "one").wait() == 0
    add = ("slot", "add", "docs", "--password-file", "one", "--new-password-file", "two")
    assert start(terminals, folder, *add, "--label", "second").wait() == 0
    slots = start(terminals, folder, "slot", "list", "docs", "--json")
    assert slots.wait() == 0
    [slot] = [one["id"] for one in json.loads(slots.screen)["slots"] if one["label"] == "second"]
    return str(slot)


WHY = "encvault: second is to be dropped: it takes the password of a keyslot that stays"


def test_who_opens_with_what_is_to_be_revoked_is_asked_for_what_stays(
    terminals: list[Terminal], folder: Path, second: str
) -> None:
    revoke = start(terminals, folder, "revoke", "docs", second, "--force")
    revoke.expect("password for ")
    assert "is to be dropped" not in revoke.screen
    revoke.type("two")
    revoke.expect(WHY)
    revoke.expect("password for ")
    revoke.type("one")
    revoke.expect("that second does not open? [y/N] ")
    revoke.type("y")
    assert revoke.wait() == 0
    assert "does not fit" not in revoke.screen
    gone = start(terminals, folder, "verify", "docs", "--password-file", "two")
    assert gone.wait() == 77
    assert start(terminals, folder, "verify", "docs", "--password-file", "one").wait() == 0


def test_a_keyslot_is_not_revoked_by_its_own_password(
    terminals: list[Terminal], folder: Path, second: str
) -> None:
    revoke = start(terminals, folder, "revoke", "docs", second, "--force")
    for _time in range(4):
        revoke.expect("password for ")
        revoke.type("two")
    assert revoke.wait() == 2
    said = " ".join(revoke.screen.split())
    assert "is the one that opened it, and cannot be revoked with it" in said
    assert "does not fit" not in revoke.screen


def test_who_stays_with_a_key_is_not_asked_for_a_password(
    terminals: list[Terminal], folder: Path, second: str
) -> None:
    key = start(terminals, folder, "key", "new", "--no-password", "-o", "k")
    assert key.wait() == 0
    recipient = re.search(r"encvault1-\S+", key.screen)
    assert recipient is not None
    (folder / "pub").write_text(recipient[0])
    one = ("docs", "--password-file", "one")
    assert start(terminals, folder, "slot", "add", *one, "-r", "pub").wait() == 0
    listed = start(terminals, folder, "slot", "list", "docs", "--json")
    assert listed.wait() == 0
    [first] = [
        slot["id"]
        for slot in json.loads(listed.screen)["slots"]
        if slot["kind"] == "password" and slot["id"] != second
    ]
    assert start(terminals, folder, "revoke", *one, second, "--yes").wait() == 0
    revoke = start(terminals, folder, "revoke", "docs", first, "--force")
    revoke.expect("password for ")
    revoke.type("one")
    assert revoke.wait() == 2
    assert "is to be dropped" not in revoke.screen


@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("", 2), ("y", 0)])
def test_a_risky_step_is_asked_about(
    terminals: list[Terminal], folder: Path, answer: str, code: int
) -> None:
    (folder / "pw").write_text("secret")
    run = start(terminals, folder, "seal", "docs", "--password-file", "pw", HOME=str(folder))
    assert run.wait() == 0
    (folder / "docs" / "sub").mkdir()
    (folder / "docs" / "sub" / "new").write_text("new")
    run = start(terminals, folder, "seal", "docs/sub")
    run.expect("[y/N]")
    run.type(answer)
    assert run.wait() == code
    assert (folder / "docs" / "sub" / "new").exists() == bool(code)


def test_no_input_is_kept_on_a_terminal_too(terminals: list[Terminal], folder: Path) -> None:
    assert start(terminals, folder, "seal", "docs", "--no-input").wait() == 78


def test_ctrl_c_at_a_question_changes_nothing(terminals: list[Terminal], folder: Path) -> None:
    run = start(terminals, folder, "seal", "docs")
    run.expect("new password")
    time.sleep(0.2)
    run.interrupt()
    assert run.wait() == 130
    assert sorted(path.name for path in (folder / "docs").iterdir()) == ["quote.txt"]


def test_the_bar_has_the_units_of_the_other_sizes(terminals: list[Terminal], folder: Path) -> None:
    (folder / "pw").write_text("secret")
    run = start(terminals, folder, "seal", "docs", "--password-file", "pw", LC_ALL="zh_CN.UTF-8")
    assert run.wait() == 0
    assert "0 B/7 B" in run.screen
    assert "bytes" not in run.screen


def test_progress_is_shown_and_ctrl_c_stops_within_a_second(
    terminals: list[Terminal], folder: Path
) -> None:
    (folder / "pw").write_text("secret")
    for index in range(3000):
        (folder / "docs" / f"f{index}").write_bytes(os.urandom(20_000))
    run = start(terminals, folder, "seal", "docs", "--suite", "sm4-gcm", "--password-file", "pw")
    run.expect("sealing")
    run.expect("/3001")
    pressed = time.monotonic()
    run.interrupt()
    assert run.wait() == 130
    assert time.monotonic() - pressed < 5
    assert "run the same command again" in run.screen
    names = [path.name for path in (folder / "docs").rglob("*")]
    assert not [name for name in names if name.endswith(".tmp")]
    plain = {name for name in names if re.fullmatch(r"f\d+", name)}
    sealed = {name.removesuffix(".sealed") for name in names if name.endswith(".sealed")}
    assert len(plain | (sealed & {f"f{index}" for index in range(3000)})) == 3000
    assert start(terminals, folder, "seal", "docs").wait() == 0
    assert start(terminals, folder, "status", "docs").wait() == 0


def test_a_password_that_opened_is_stored_and_not_asked_for_again(
    terminals: list[Terminal], folder: Path
) -> None:
    (folder / "password").write_text("secret\n")
    (folder / "note").write_text("content")
    with Desktop(folder / "desktop") as desktop:
        bus = {"DBUS_SESSION_BUS_ADDRESS": desktop.log_in().address}
        seal = start(terminals, folder, "seal", "docs", "--password-file", "password")
        assert seal.wait() == 0
        first = start(terminals, folder, "cat", "docs/quote.txt", "--keyring", **bus)
        first.expect("/docs: ")
        first.type("secret")
        assert first.wait() == 0
        assert "stored the password in the keychain (Secret Service)" in first.screen
        second = start(terminals, folder, "cat", "docs/quote.txt", "--keyring", **bus)
        assert second.wait() == 0
        assert second.screen == "content"
        # the identity's own password, likewise
        key = start(terminals, folder, "key", "new", "-o", "k", "--password-file", "password")
        assert key.wait() == 0
        for asked in (True, False):
            change = start(terminals, folder, "key", "passwd", "-i", "k", "--keyring", **bus)
            if asked:
                change.expect("password for k: ")
                change.type("secret")
            for question in ("new password for k: ", "the same password again: "):
                change.expect(question)
                change.type("secret")
            assert change.wait() == 0
            assert "if the keychain holds the old password, it stays there" in change.screen
        # a keychain that is locked has its own dialogue, for which there is no screen here
        desktop.lock()
        third = start(terminals, folder, "cat", "docs/quote.txt", "--keyring", **bus)
        third.expect("the keychain is locked")
        third.expect("/docs: ")
        third.type("secret")
        third.expect("content")
        assert third.wait() == 0  # what was asked for is done
        seal = start(terminals, folder, "seal", "note", "--keyring", **bus)
        seal.expect("new password for note: ")
        seal.type("secret")
        seal.expect("the same password again: ")
        seal.type("secret")
        assert seal.wait() == 75
        assert not (folder / "note").exists()


def test_binary_bytes_do_not_reach_a_terminal(terminals: list[Terminal], folder: Path) -> None:
    (folder / "pw").write_text("secret")
    (folder / "binary").write_bytes(b"\0\1\2")
    (folder / "escape").write_bytes(b"\x1b[2Jevil")
    start(terminals, folder, "seal", "binary", "escape", "--password-file", "pw").wait()
    for name in ("binary", "escape"):
        run = start(terminals, folder, "cat", f"{name}.sealed", "--password-file", "pw")
        assert run.wait() == 2
        assert "do not belong on a terminal" in run.screen
        assert "\x1b[2J" not in run.screen
    run = start(terminals, folder, "seal", "-", "--password-file", "pw")
    assert run.wait() == 2


def test_a_recovery_code_is_typed_and_a_wrong_group_is_named(
    terminals: list[Terminal], folder: Path
) -> None:
    (folder / "pw").write_text("secret\n")
    assert start(terminals, folder, "seal", "docs", "--password-file", "pw").wait() == 0
    made = start(terminals, folder, "recovery", "new", "docs", "--password-file", "pw")
    assert made.wait() == 0
    groups = re.findall(r"\b[0-9A-HJKMNP-TV-Z]{5}\b", made.screen)
    assert len(groups) == 13
    other = "7" if groups[2][0] != "7" else "8"
    wrong = [*groups[:2], other + groups[2][1:], *groups[3:]]
    test = start(terminals, folder, "recovery", "test", "docs")
    test.expect("recovery code for docs: ")
    test.type(" ".join(wrong))
    assert test.wait() == 77
    assert "group 3 of 13" in test.screen
    cat = start(terminals, folder, "cat", "docs/quote.txt", "--recovery")
    cat.expect("recovery code for ")
    cat.type("-".join(groups).lower())
    assert cat.wait() == 0
    assert cat.screen.endswith("content")


def test_a_password_is_changed_at_the_terminal(terminals: list[Terminal], folder: Path) -> None:
    (folder / "pw").write_text("secret\n")
    assert start(terminals, folder, "seal", "docs", "--password-file", "pw").wait() == 0
    change = start(terminals, folder, "passwd", "docs")
    change.expect("password for ")
    change.type("secret")
    change.expect("new password for ")
    change.type("better")
    change.expect("the same password again: ")
    change.type("better")
    assert change.wait() == 0
    (folder / "pw").write_text("better\n")
    cat = start(terminals, folder, "cat", "docs/quote.txt", "--password-file", "pw")
    assert cat.wait() == 0


def test_other_passwords_are_asked_for_when_the_keys_change(
    terminals: list[Terminal], folder: Path
) -> None:
    for name in ("ann", "bob", "eve"):
        (folder / name).write_text(f"{name}'s secret\n")
    assert start(terminals, folder, "seal", "docs", "--password-file", "ann").wait() == 0
    for name in ("bob", "eve"):
        options = ("--password-file", "ann", "--new-password-file", name, "--label", name)
        assert start(terminals, folder, "slot", "add", "docs", *options).wait() == 0
    rekey = start(terminals, folder, "rekey", "docs")
    rekey.expect("password for ")
    rekey.type("ann's secret")
    rekey.expect("new keys? [y/N] ")
    rekey.type("y")
    rekey.expect("password of bob for ")
    rekey.type("bob's secret")
    rekey.expect("password of eve for ")
    rekey.type("")
    assert rekey.wait() == 0
    assert "the password of eve must be set again" in rekey.screen
    for name, code in (("ann", 0), ("bob", 0), ("eve", 77)):
        cat = start(terminals, folder, "cat", "docs/quote.txt", "--password-file", name)
        assert cat.wait() == code


def test_a_copy_is_shared_for_a_password_that_is_asked_for(
    terminals: list[Terminal], folder: Path
) -> None:
    (folder / "pw").write_text("secret\n")
    (folder / "docs" / "big").write_bytes(os.urandom(3_000_000))
    assert start(terminals, folder, "seal", "docs", "--password-file", "pw").wait() == 0
    paths = ("docs/quote.txt", "docs/big")
    share = start(terminals, folder, "share", *paths, "--password-file", "pw")
    share.expect("new password for 2 paths: ")
    share.type("for the partner")
    share.expect("the same password again: ")
    share.type("for the partner")
    assert share.wait() == 0
    # one bar at a time, and the cursor is back in the end
    assert share.screen.count("\x1b[?25l") == share.screen.count("\x1b[?25h") == 2
    (folder / "pw").write_text("for the partner\n")
    cat = start(terminals, folder, "cat", "quote.txt.sealed", "--password-file", "pw")
    assert cat.wait() == 0


def configure(text: str) -> None:
    """Write the user's configuration file."""
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "encvault"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)


def test_a_password_that_is_too_weak_is_told_and_asked_for_again(
    terminals: list[Terminal], folder: Path
) -> None:
    configure("[password]\nmin_length = 7\nmin_strength = 2\n")
    seal = start(terminals, folder, "seal", "docs")
    seal.expect("new password for docs: ")
    for weak, reason in [("secret", "at least 7 characters"), ("password", "is tried first")]:
        seal.type(weak)
        seal.expect(reason)
        seal.expect("new password for docs: ")
        assert "again: " not in seal.screen
    seal.type("gl7-Wum")
    seal.expect("a short password is easy to guess")
    seal.expect("the same password again: ")
    seal.type("gl7-Wum")
    assert seal.wait() == 0
    assert "Wum" not in seal.screen


def test_with_company_recipients_a_person_is_still_asked_for_a_password(
    terminals: list[Terminal], folder: Path
) -> None:
    made = start(terminals, folder, "key", "new", "--no-password", "-o", "officer.key")
    assert made.wait() == 0
    recipient = re.search(r"encvault1-\S+", made.screen)
    assert recipient is not None
    configure(f"recipients = ['{recipient[0]}']\n")
    seal = start(terminals, folder, "seal", "docs")
    for _time in range(2):
        seal.expect("password")
        seal.type("a long one")
    assert seal.wait() == 0
    assert "easy to guess" not in seal.screen
    listed = start(terminals, folder, "slot", "list", "docs")
    assert listed.wait() == 0
    assert "password" in listed.screen
    assert "recipient" in listed.screen
    # who says that nobody is to be asked gets the vault for the company alone
    quiet = start(terminals, folder, "init", "other", "--no-input")
    assert quiet.wait() == 0
    listed = start(terminals, folder, "slot", "list", "other")
    assert listed.wait() == 0
    assert "password" not in listed.screen
