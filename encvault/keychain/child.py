"""The process that asks the keychain: one request on stdin, one answer on stdout.

Run as ``python -m encvault.keychain.child`` by `encvault.keychain.client`, and killed by it when it
takes too long: keyring has no time limits, and a thread cannot be killed. Whatever goes wrong in
here is an answer, never a traceback.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from keyring.errors import KeyringLocked, PasswordDeleteError

from encvault.i18n import N_
from encvault.keychain.backends import choose
from encvault.keychain.messages import MAX_MESSAGE_SIZE, Answer, Request
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyring.backend import KeyringBackend

SERVICE = "encvault"


def answer(request: Request) -> Answer:
    """Carry out a request."""
    try:
        backend, found = choose(attended=request.attended)
    except Exception as error:  # noqa: BLE001 - a back end may raise anything (a D-Bus error is no KeyringError)
        return _failed(error, "")
    if backend is None or request.action == "probe":
        return found
    try:
        return _ACTIONS[request.action](backend, found.backend, request)
    except KeyringLocked:
        return Answer("locked", found.backend)
    except Exception as error:  # noqa: BLE001 - likewise
        return _failed(error, found.backend)


def _failed(error: Exception, shown: str) -> Answer:
    return Answer("unavailable", shown, N_("it does not work"), type(error).__name__)


def _holds(backend: KeyringBackend, shown: str, request: Request) -> Answer:
    found = _load(backend, shown, request).found
    return Answer("usable", shown, found={account: Secret(b"") for account in found})


def _load(backend: KeyringBackend, shown: str, request: Request) -> Answer:
    texts = {account: backend.get_password(SERVICE, account) for account in request.accounts}
    found = {account: Secret(text.encode()) for account, text in texts.items() if text}
    return Answer("usable", shown, found=found)


def _store(backend: KeyringBackend, shown: str, request: Request) -> Answer:
    (account,) = request.accounts
    if request.secret is None:
        raise AssertionError("keychain: nothing to store")
    try:
        text = request.secret.reveal().decode()
    except UnicodeDecodeError:
        # the password of a source may be any bytes; a keychain holds text
        return Answer("unavailable", shown, N_("it holds text only, and this password is none"))
    if (there := backend.get_password(SERVICE, account)) and there != text:
        return Answer("occupied", shown)
    backend.set_password(SERVICE, account, text)
    if backend.get_password(SERVICE, account) != text:
        return Answer("forgetful", shown)
    return Answer("usable", shown)


def _forget(backend: KeyringBackend, shown: str, request: Request) -> Answer:
    found = {}
    for account in request.accounts:
        try:
            backend.delete_password(SERVICE, account)
        except PasswordDeleteError:
            continue  # there was none
        found[account] = Secret(b"")
    return Answer("usable", shown, found=found)


_ACTIONS: dict[str, Callable[[KeyringBackend, str, Request], Answer]] = {
    "holds": _holds,
    "load": _load,
    "store": _store,
    "forget": _forget,
}


def main() -> None:
    """Answer the request on stdin."""
    pipe = os.dup(sys.stdout.fileno())
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())  # a back end that prints must not spoil the answer
    request = Request.decode(bytearray(sys.stdin.buffer.read(MAX_MESSAGE_SIZE)))
    message = memoryview(answer(request).encode())
    while message:
        message = message[os.write(pipe, message) :]


if __name__ == "__main__":
    main()
