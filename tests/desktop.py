"""A desktop session for tests: a private message bus, and a real GNOME Keyring on it.

Nothing of the machine's own session is touched. What is missing on the machine is a failure.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

from jeepney import DBusAddress, MessageType, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection

if TYPE_CHECKING:
    from pathlib import Path

    from jeepney import Message

PASSWORD = b"the password of the login"
SECRETS = "org.freedesktop.secrets"
SERVICE = DBusAddress("/org/freedesktop/secrets", SECRETS, "org.freedesktop.Secret.Service")
_PATIENCE = 30.0


class Desktop:
    """A private bus. Services are activated on it as on a real one.

    Args:
        folder: a new folder for the home of its user and the files of the session.
        service: what the bus starts as the keychain, or None for what is installed.
    """

    def __init__(self, folder: Path, *, service: str | None = None) -> None:
        folder.mkdir(mode=0o700)
        if service is not None:
            services = folder / "dbus-1" / "services"
            services.mkdir(parents=True)
            (services / f"{SECRETS}.service").write_text(
                f"[D-BUS Service]\nName={SECRETS}\nExec={service}\n"
            )
        # not what the tests' own environment says: a session knows no more than this
        self.environ = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": str(folder),
        }
        self._bus = self._start("dbus-daemon", "--session", "--nofork", "--print-address=1")
        assert self._bus.stdout is not None
        with self._bus.stdout as pipe:
            self.address = pipe.readline().decode().strip()
        self.environ["DBUS_SESSION_BUS_ADDRESS"] = self.address
        self._daemon: subprocess.Popen[bytes] | None = None

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environ,
        )

    def log_in(self) -> Self:
        """Start the keychain, unlocked by the password of the login, as PAM does."""
        self.start_keychain("--unlock")
        self._wait_for(lambda: self._default_collection() not in (None, "/"))
        return self

    def start_keychain(self, *options: str) -> None:
        """Start the keychain."""
        program = ("gnome-keyring-daemon", "--foreground", "--components=secrets")
        self._daemon = self._start(*program, *options)
        assert self._daemon.stdin is not None
        with self._daemon.stdin as pipe:
            pipe.write(PASSWORD)
        self._wait_for(lambda: self.call(message_bus.NameHasOwner(SECRETS)))

    def lock(self) -> None:
        """Lock it, as a screen saver may."""
        collection = self._default_collection()
        assert self.call(new_method_call(SERVICE, "Lock", "ao", ([collection],))) == [collection]

    def _default_collection(self) -> Any:
        return self.call(new_method_call(SERVICE, "ReadAlias", "s", ("default",)))

    def call(self, message: Message) -> Any:
        """The first value of the reply; None if there is none, or an error."""
        with contextlib.closing(open_dbus_connection(self.address)) as connection:
            reply = connection.send_and_get_reply(message, timeout=_PATIENCE)
        if reply.header.message_type is not MessageType.method_return or not reply.body:
            return None
        return reply.body[0]

    @staticmethod
    def _wait_for(condition: Any) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the keychain does not start"
            time.sleep(0.02)

    def log_out(self) -> None:
        """End the session."""
        for process in (self._daemon, self._bus):
            if process is not None:
                process.terminate()
                process.wait(_PATIENCE)
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.log_out()
