"""Which back end of keyring may be used; runs in the process that asks the keychain.

keyring's own choice is not taken: with ``keyrings.alt`` installed and no desktop it is a file that
holds passwords in the clear, a chain of back ends may hide such a one, and an environment variable
or ``keyringrc.cfg`` may name any class or folder of code. Here a class is used only if it is one
of a short list; plug-ins are named, and never imported.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import closing
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from jeepney import DBusAddress, MessageType, Properties, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection
from keyring.backend import KeyringBackend

from encvault.i18n import N_
from encvault.keychain.messages import Answer

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

_SHOWN = "Secret Service"
_BUS_SECONDS = 2.0  # a bus that works answers in milliseconds
_SECRETS = "org.freedesktop.secrets"  # freedesktop.org Secret Service API, section "Introduction"
_SERVICE = DBusAddress("/org/freedesktop/secrets", _SECRETS, "org.freedesktop.Secret.Service")
_SESSION_COLLECTION = "/org/freedesktop/secrets/collection/session"
_COLLECTION = "org.freedesktop.Secret.Collection"


class Allowed(NamedTuple):
    """A back end that may be used.

    Attributes:
        module, name: the class.
        shown: its name for people.
        on_bus: whether it speaks to the Secret Service, which can be asked beforehand.
        asks: whether only trying tells if it is locked, by a dialogue.
    """

    module: str
    shown: str
    name: str = "Keyring"
    on_bus: bool = False
    asks: bool = False


_ALLOWED = {
    "darwin": (Allowed("keyring.backends.macOS", "macOS Keychain"),),
    "win32": (
        Allowed("keyring.backends.Windows", "Windows Credential Manager", "WinVaultKeyring"),
    ),
}
_ALLOWED_ELSEWHERE = (
    Allowed("keyring.backends.SecretService", _SHOWN, on_bus=True),
    Allowed("keyring.backends.libsecret", _SHOWN, on_bus=True),
    Allowed("keyring.backends.kwallet", "KWallet", "DBusKeyring", asks=True),
)


def choose(*, attended: bool) -> tuple[KeyringBackend | None, Answer]:
    """The back end to use, and what is known of it before it is used.

    Args:
        attended: whether a person is there for a dialogue. If not, nothing is done that may open
            one, and no service is started.

    Returns:
        None, and why, if there is none that may be used now.
    """
    refusals = []
    candidates = _ALLOWED.get(sys.platform, _ALLOWED_ELSEWHERE)
    bus_refusal = None
    if any(allowed.on_bus for allowed in candidates):
        bus_refusal = _bus_refusal(attended=attended)
    for allowed in candidates:
        refusal = bus_refusal if allowed.on_bus else _refusal(allowed, attended=attended)
        if refusal is None:
            try:
                return _instance(allowed), Answer("usable", allowed.shown)
            except Exception as error:  # noqa: BLE001 - back ends raise whatever they meet
                cause = type(error).__name__
                refusal = Answer("unavailable", allowed.shown, N_("it does not work"), cause)
        refusals.append(refusal)
    # the first one is the one that most desktops have; what is wrong with it is worth telling
    first = refusals[0]
    if first.state == "unavailable" and (others := _plugins()):
        return None, Answer("unsafe", ", ".join(others), first.detail)
    return None, first


def _refusal(allowed: Allowed, *, attended: bool) -> Answer | None:
    if allowed.asks and not attended:
        return Answer("unavailable", allowed.shown, N_("it may ask, and nobody is there to answer"))
    return None


def _instance(allowed: Allowed) -> KeyringBackend:
    found = getattr(importlib.import_module(allowed.module), allowed.name)
    if (found.__module__, found.__qualname__) != (allowed.module, allowed.name):
        raise TypeError("another class has its name")
    if not found.priority > 0:
        raise RuntimeError("it advises against itself")
    instance = found()
    if not isinstance(instance, KeyringBackend):
        raise TypeError("no back end")
    return instance


def _plugins() -> list[str]:
    """Back ends that others have installed, none of which is imported."""
    entries = metadata.entry_points(group="keyring.backends")
    return sorted(
        {entry.value for entry in entries if not entry.value.startswith("keyring.backends.")}
    )


# -- the session bus ------------------------------------------------------------------------


def _bus_refusal(*, attended: bool) -> Answer | None:
    """Why the Secret Service may not be used now, or None.

    Only the bus and properties are read: that starts no service and opens no dialogue.
    """
    try:
        connection = open_dbus_connection()
    except KeyError:
        return Answer("unavailable", _SHOWN, N_("there is no session bus"))
    except Exception as error:  # noqa: BLE001 - jeepney has no common class
        cause = type(error).__name__
        return Answer("unavailable", _SHOWN, N_("the session bus cannot be reached"), cause)
    with closing(connection):
        if _call(connection, message_bus.NameHasOwner(_SECRETS)):
            return _collection_refusal(connection, attended=attended)
        if attended and _SECRETS in _call(connection, message_bus.ListActivatableNames()):
            return None
    return Answer("unavailable", _SHOWN, N_("its service is not running"))


def _collection_refusal(connection: DBusConnection, *, attended: bool) -> Answer | None:
    alias = new_method_call(_SERVICE, "ReadAlias", "s", ("default",))
    collection = _call(connection, alias)
    if collection == _SESSION_COLLECTION:
        return Answer("unsafe", N_("one that forgets everything when the session ends"))
    if attended:
        return None
    if collection in (None, "/"):
        return Answer("unavailable", _SHOWN, N_("nobody has set it up yet"))
    address = DBusAddress(collection, _SECRETS, _COLLECTION)
    locked = _call(connection, Properties(address).get("Locked"))
    return None if locked == ("b", False) else Answer("locked", _SHOWN)


def _call(connection: DBusConnection, message: Any) -> Any:
    """The first value of the reply, or None if it is an error."""
    reply = connection.send_and_get_reply(message, timeout=_BUS_SECONDS)
    if reply.header.message_type is not MessageType.method_return:
        return None
    return reply.body[0]
