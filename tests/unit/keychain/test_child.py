"""The process that asks the keychain, from inside."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from desktop import SERVICE, Desktop
from helpers import in_child
from jeepney import new_method_call
from keyring.backends import SecretService

from encvault.keychain import backends, child
from encvault.keychain.messages import MAX_MESSAGE_SIZE, Answer, Request
from encvault.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from keyring.backend import KeyringBackend

ACCOUNT = "bbbbbbbbbbbbb"


@pytest.fixture
def session(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> Desktop:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", desktop.address)
    return desktop


@pytest.mark.usefixtures("session")
def test_every_action_is_answered() -> None:
    assert child.answer(Request("probe")) == Answer("usable", "Secret Service")
    assert child.answer(Request("load", (ACCOUNT,))).found == {}
    stored = child.answer(Request("store", (ACCOUNT,), secret=Secret(b"one")))
    assert (stored.state, stored.found) == ("usable", {})
    assert child.answer(Request("load", (ACCOUNT,))).found == {ACCOUNT: Secret(b"one")}
    assert child.answer(Request("holds", ("x", ACCOUNT))).found == {ACCOUNT: Secret(b"")}
    assert child.answer(Request("forget", ("x", ACCOUNT))).found == {ACCOUNT: Secret(b"")}
    refused = child.answer(Request("store", (ACCOUNT,), secret=Secret(b"\xff")))
    assert (refused.state, refused.detail[:13]) == ("unavailable", "it holds text")


@pytest.mark.usefixtures("session")
def test_a_request_passes_through_the_pipes() -> None:
    def whole() -> bytes:
        pipes = os.pipe(), os.pipe()
        for (read, write), fd in zip(pipes, (0, 1), strict=True):
            os.dup2((read, write)[fd], fd)
        os.write(pipes[0][1], Request("probe").encode())
        for fd in (pipes[0][1], pipes[1][1]):
            os.close(fd)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        child.main()
        return os.read(pipes[1][0], MAX_MESSAGE_SIZE)

    assert Answer.decode(bytearray(in_child(whole))) == Answer("usable", "Secret Service")


def chosen(*, attended: bool = False) -> tuple[str, str]:
    """The state and detail of what would be used."""
    backend, found = backends.choose(attended=attended)
    assert (backend is not None) == (found.state == "usable")
    return found.state, found.detail or found.backend


def test_what_is_refused_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    assert chosen() == ("unavailable", "there is no session bus")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    assert chosen() == ("unavailable", "the session bus cannot be reached")
    with Desktop(tmp_path / "new") as desktop:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", desktop.address)
        assert chosen() == ("unavailable", "its service is not running")
        assert chosen(attended=True) == ("usable", "Secret Service")  # the bus can start it
        desktop.start_keychain()
        assert chosen() == ("unavailable", "nobody has set it up yet")
        assert chosen(attended=True) == ("usable", "Secret Service")  # its dialogue does that
    with Desktop(tmp_path / "used") as desktop:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", desktop.log_in().address)
        desktop.lock()
        assert chosen() == ("locked", "Secret Service")
        assert chosen(attended=True) == ("usable", "Secret Service")
        alias = ("default", "/org/freedesktop/secrets/collection/session")
        desktop.call(new_method_call(SERVICE, "SetAlias", "so", alias))
        assert chosen() == chosen(attended=True)
        assert chosen() == ("unsafe", "one that forgets everything when the session ends")


def test_plug_ins_are_named_where_there_is_no_keychain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    folder = tmp_path / "plain_ring-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: plain-ring\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[keyring.backends]\nfile = no_such.module\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = backends.choose(attended=False)[1]
    assert (found.state, found.backend) == ("unsafe", "no_such.module")


class Subclass(SecretService.Keyring):
    """Not the very class."""


def posing(**members: object) -> type:
    """A class that goes by the name of an allowed one."""
    return type("Keyring", (), {"__module__": SecretService.__name__, **members})


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (Subclass, "TypeError"),
        (posing(priority=0), "RuntimeError"),
        (posing(priority=5), "TypeError"),
    ],
)
@pytest.mark.usefixtures("session")
def test_only_the_very_class_is_used(
    monkeypatch: pytest.MonkeyPatch, found: type, cause: str
) -> None:
    monkeypatch.setattr(backends, "_ALLOWED_ELSEWHERE", backends._ALLOWED_ELSEWHERE[:1])
    monkeypatch.setattr(SecretService, "Keyring", found)
    backend, refusal = backends.choose(attended=False)
    assert backend is None
    assert (refusal.detail, refusal.cause) == ("it does not work", cause)


class Refusing:
    """A back end of every fault."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get_password(self, _service: str, _account: str) -> str:
        raise self._error


@pytest.mark.parametrize(
    ("error", "state", "cause"),
    [(child.KeyringLocked(), "locked", ""), (ValueError("text"), "unavailable", "ValueError")],
)
def test_what_a_back_end_raises_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, cause: str
) -> None:
    monkeypatch.setattr(child, "choose", lambda **_: (Refusing(error), Answer("usable", "X")))
    found = child.answer(Request("load", (ACCOUNT,)))
    assert (found.state, found.backend, found.cause) == (state, "X", cause)


class Forgetful(Refusing):
    """Takes everything and keeps nothing."""

    def get_password(self, _service: str, _account: str) -> str:
        return ""

    def set_password(self, _service: str, _account: str, _password: str) -> None:
        pass


def test_a_password_that_does_not_come_back_was_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgetful = Forgetful(ValueError())
    monkeypatch.setattr(child, "choose", lambda **_: (forgetful, Answer("usable", "X")))
    found = child.answer(Request("store", (ACCOUNT,), secret=Secret(b"one")))
    assert found == Answer("forgetful", "X")


def test_a_choice_that_fails_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(**_: bool) -> tuple[KeyringBackend | None, Answer]:
        raise TimeoutError

    monkeypatch.setattr(child, "choose", choose)
    assert child.answer(Request("load", (ACCOUNT,))).cause == "TimeoutError"


def test_a_back_end_that_may_ask_is_not_tried_while_nobody_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wallet = backends._ALLOWED_ELSEWHERE[-1]
    assert (wallet.shown, wallet.asks) == ("KWallet", True)
    monkeypatch.setattr(backends, "_ALLOWED_ELSEWHERE", (wallet,))
    assert backends.choose(attended=False) == (
        None,
        Answer("unavailable", "KWallet", "it may ask, and nobody is there to answer"),
    )
    # with somebody there it is tried; here it is not installed
    found, refusal = backends.choose(attended=True)
    assert found is None
    assert refusal == Answer("unavailable", "KWallet", "it does not work", "RuntimeError")


@pytest.mark.parametrize(("platform", "shown"), [("darwin", "macOS"), ("win32", "Windows")])
def test_the_back_ends_of_other_systems_need_no_bus(
    monkeypatch: pytest.MonkeyPatch, platform: str, shown: str
) -> None:
    monkeypatch.setattr(backends.sys, "platform", platform)
    found, refusal = backends.choose(attended=False)
    assert found is None
    assert (refusal.state, refusal.backend.split()[0]) == ("unavailable", shown)


def test_messages_are_what_they_were() -> None:
    request = Request("store", ("a", "b"), attended=True, secret=Secret(b"\n\0x"))
    assert Request.decode(request.encode()) == request
    assert Request.decode(Request("probe").encode()) == Request("probe")
    answer = Answer("locked", "X", "why", "Cause", {"a": Secret(b"\n"), "b": Secret(b"")})
    assert Answer.decode(answer.encode()) == answer


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        b"x\n",
        b"[]\n",
        b"{}\n",
        b'{"state": "fine"}\n',
        b'{"state": "usable", "backend": "", "detail": "", "cause": ""}\n',
        b'{"state": "usable", "backend": "", "detail": "", "cause": "", "found": [["a", 2]]}\nx',
        b'{"state": "usable", "backend": "", "detail": "", "cause": "", "found": []}\nx',
        b'{"state": "usable", "backend": "", "detail": "", "cause": "", "found": 1}\n',
    ],
)
def test_what_is_no_answer_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="no answer"):
        Answer.decode(bytearray(message))
