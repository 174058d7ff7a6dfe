"""The keychain of the desktop: passwords that somebody chose to leave with it.

Every call into keyring is made by a child process with a time limit, in a process group of its own
that is killed when the limit is over: a keychain may wait for a service that never starts (120 s
were measured), or for a dialogue on a screen that nobody watches, and raises errors of any class.
The child gets an environment of few variables, so that none chooses another back end for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from encvault.errors import (
    KeychainForgetful,
    KeychainLocked,
    KeychainOccupied,
    KeychainTimeout,
    KeychainUnavailable,
    KeychainUnsafe,
)
from encvault.i18n import _, system_reason
from encvault.keychain.messages import MAX_MESSAGE_SIZE, MAX_SECRET_SIZE, Answer, Request, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from encvault.secret import Secret

UNATTENDED_SECONDS = 10  # a machine that is busy with a backup starts a process slowly
ATTENDED_SECONDS = 60  # time to find the password and to type it into the keychain's dialogue

# what a child needs to find the desktop's bus, its screen and its user; nothing that keyring reads
_VARIABLES = (
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "HOME",
    "LOGNAME",
    "PATH",
    "SYSTEMROOT",
    "USER",
    "USERNAME",
    "USERPROFILE",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_CURRENT_DESKTOP",
    "XDG_RUNTIME_DIR",
)


class Probe(NamedTuple):
    """What a keychain is good for now.

    Attributes:
        state: ``usable``, ``locked``, ``unavailable`` or ``unsafe``.
        backend: its name for people, or what stands in its place.
        detail: why it is not usable, or "".
    """

    state: State
    backend: str
    detail: str


class Keychain(NamedTuple):
    """The keychain of the user who runs this.

    Accounts are made from password keyslots (`encvault.keyslots.keychain_account`), and say
    nothing about what they open.

    Attributes:
        environ: the variables of the session, of which the child gets a few.
        attended: whether a person is there to answer a dialogue of the keychain. If not, none is
            opened, and no service is started.
        timeout_s: seconds until the child is killed, or None for what `attended` suggests.
    """

    environ: Mapping[str, str]
    attended: bool = False
    timeout_s: float | None = None

    def probe(self) -> Probe:
        """Whether the keychain can be used; never opens a dialogue, never raises for its state."""
        try:
            answer = self._ask(Request("probe"))
        except (KeychainTimeout, KeychainUnavailable) as error:
            return Probe("unavailable", "", str(error))
        return Probe(answer.state, _(answer.backend), _(answer.detail))

    def check(self) -> None:
        """Make sure that passwords can be stored, before anybody chooses one.

        Raises:
            KeychainError: they cannot.
        """
        self._usable(self._ask(Request("probe", attended=self.attended)))

    def holds(self, accounts: Iterable[str]) -> set[str]:
        """Which accounts have an entry; their passwords stay in the child.

        Raises:
            KeychainError: it cannot be asked.
        """
        return set(self._usable(self._ask(Request("holds", tuple(accounts), self.attended))).found)

    def load(self, accounts: Iterable[str]) -> dict[str, Secret]:
        """The passwords of those accounts that have one.

        Raises:
            KeychainError: it cannot be asked.
        """
        return dict(self._usable(self._ask(Request("load", tuple(accounts), self.attended))).found)

    def store(self, account: str, password: Secret) -> str:
        """Leave a password with the keychain, and read it back; never in another one's place.

        Returns:
            The keychain's name for people.

        Raises:
            KeychainOccupied: the account has another password, which stays.
            KeychainError: it is not stored.
        """
        if len(password) > MAX_SECRET_SIZE:
            raise KeychainUnavailable(reason=_("the password is longer than 4096 bytes"))
        answer = self._ask(Request("store", (account,), self.attended, password))
        if answer.state == "occupied":
            raise KeychainOccupied(account=account)
        return self._usable(answer).backend

    def forget(self, account: str) -> bool:
        """Remove an account's entry; whether there was one.

        Raises:
            KeychainError: it cannot be asked.
        """
        answer = self._ask(Request("forget", (account,), self.attended))
        return account in self._usable(answer).found

    @staticmethod
    def _usable(answer: Answer) -> Answer:
        if answer.state != "usable":
            _refuse(answer)
        return answer

    @property
    def _limit(self) -> float:
        if self.timeout_s is not None:
            return self.timeout_s
        return ATTENDED_SECONDS if self.attended else UNATTENDED_SECONDS

    def _ask(self, request: Request) -> Answer:
        message = request.encode()
        reply = bytearray()
        try:
            reply = self._exchange(message)
            return Answer.decode(reply)
        except ValueError:
            raise KeychainUnavailable(reason=_("it ended without an answer")) from None
        finally:
            for used in (message, reply):
                used[:] = bytes(len(used))

    def _exchange(self, message: bytearray) -> bytearray:
        """What a child answers to a message.

        Raises:
            KeychainTimeout: nothing in time.
            KeychainUnavailable: the child cannot be started.
        """
        deadline = time.monotonic() + self._limit
        try:
            # this very program, in a session of its own: it has no terminal to ask on
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "encvault.keychain.child"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise KeychainUnavailable(reason=system_reason(error)) from None
        with child:
            try:
                if child.stdin is None or child.stdout is None:
                    raise AssertionError("keychain: no pipes")
                with contextlib.suppress(BrokenPipeError):  # then it ends without an answer
                    os.write(child.stdin.fileno(), message)
                child.stdin.close()
                return self._read(child.stdout.fileno(), deadline)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

    def _read(self, fd: int, deadline: float) -> bytearray:
        buffer = bytearray(MAX_MESSAGE_SIZE)
        size = 0
        while size < len(buffer):
            ready, _w, _x = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                buffer[:] = bytes(len(buffer))
                raise KeychainTimeout(seconds=self._limit)
            count = os.readv(fd, [memoryview(buffer)[size:]])
            if count == 0:
                break
            size += count
        del buffer[size:]
        return buffer

    def _environment(self) -> dict[str, str]:
        chosen = {name: self.environ[name] for name in _VARIABLES if name in self.environ}
        # the child must find the same encvault and keyring as this process, whatever brought it
        return chosen | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LC_ALL": "C.UTF-8"}


def _refuse(answer: Answer) -> NoReturn:
    if answer.state == "locked":
        raise KeychainLocked
    if answer.state == "unsafe":
        raise KeychainUnsafe(backend=_(answer.backend))
    if answer.state == "forgetful":
        raise KeychainForgetful(backend=answer.backend)
    reason = _(answer.detail)
    if answer.cause:
        reason = _("{reason} ({cause})").format(reason=reason, cause=answer.cause)
    raise KeychainUnavailable(reason=reason)
