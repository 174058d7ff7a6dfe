"""Getting in touch with an SSH server that is known, by the keys of the user.

fsspec's own connection would take any key for the server's. Here the server must show one that
ssh knows already, in ``~/.ssh/known_hosts`` or the system's; an unknown one is never learned in
passing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from encvault.errors import HostChanged, HostUnknown, RemoteFailed
from encvault.i18n import _, system_reason
from encvault.jobs.remote.server import SSH_PORT

if TYPE_CHECKING:
    from encvault.jobs.remote.server import Address, Options

# its threads tell of lost connections by tracebacks, to standard error where nobody listens
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_SYSTEM_HOSTS = "/etc/ssh/ssh_known_hosts"


class _NoKey(paramiko.SSHException):  # type: ignore[misc]  # it has no types
    """The server shows a key that nobody has vouched for."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(fingerprint)
        self.fingerprint = fingerprint


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # it has no types
    def missing_host_key(self, _client: object, _hostname: str, key: Any) -> None:
        raise _NoKey(key.fingerprint)


class KnownServer(SFTPFileSystem):  # type: ignore[misc]  # it has no types
    """fsspec's file system, on a server that is known."""

    cachable = False  # a connection ends with who asked for it

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.set_missing_host_key_policy(_Refuse())
        try:
            with contextlib.suppress(FileNotFoundError):
                self.client.load_system_host_keys(_SYSTEM_HOSTS)
            self.client.load_system_host_keys()
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
        except BaseException:
            self.client.close()
            raise


def connect(address: Address, options: Options) -> KnownServer:
    """A connection, with ``client`` and ``ftp`` of paramiko; who asked for it closes it.

    Raises:
        HostUnknown, HostChanged: the server does not prove to be the one that is known.
        RemoteFailed: it cannot be reached, or does not let us in.
    """
    place = str(address)
    own = _user_config(address)
    host, port = own["hostname"], address.port or int(own.get("port", SSH_PORT))
    is_usual = port == SSH_PORT
    name, scan = (host, host) if is_usual else (f"[{host}]:{port}", f"-p {port} {host}")
    try:
        return KnownServer(
            host,
            port=port,
            username=address.user or own.get("user"),
            key_filename=own.get("identityfile"),
            timeout=options.connect_timeout,
            banner_timeout=options.connect_timeout,
            auth_timeout=options.connect_timeout,
            channel_timeout=options.connect_timeout,
        )
    except _NoKey as error:
        reason = _no_key(error.fingerprint)
        raise HostUnknown(place=place, reason=reason, scan=scan) from None
    except paramiko.BadHostKeyException as error:
        reason = _no_key(error.key.fingerprint)
        raise HostChanged(place=place, reason=reason, name=name, scan=scan) from None
    except paramiko.PasswordRequiredException:
        raise _failed(place, _("the ssh key has a passphrase, and no agent has it")) from None
    except paramiko.AuthenticationException:
        raise _failed(place, _("it takes none of the ssh keys of this user")) from None
    except paramiko.SSHException as error:
        if str(error) == "No authentication methods available":
            raise _failed(place, _("this user has no ssh key and no agent")) from None
        reason = _("it does not answer as SFTP servers do: {text}").format(text=error)
        raise _failed(place, reason) from None
    except (OSError, EOFError) as error:
        raise _failed(place, _network_reason(error)) from None


def _user_config(address: Address) -> dict[str, Any]:
    """What ``~/.ssh/config`` says: the names, ports, users and key files of hosts."""
    try:
        config = paramiko.SSHConfig.from_path(os.path.expanduser("~/.ssh/config"))
        return dict(config.lookup(address.host))
    except OSError:
        return {"hostname": address.host}
    except paramiko.SSHException as error:
        raise _failed(str(address), _("~/.ssh/config: {text}").format(text=error)) from None


def _failed(place: str, reason: str) -> RemoteFailed:
    return RemoteFailed(place=place, reason=reason)


def _no_key(fingerprint: str) -> str:
    return _("it shows the key {fingerprint}").format(fingerprint=fingerprint)


def _network_reason(error: OSError | EOFError) -> str:
    """Why a connection did not come about."""
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    if isinstance(error, TimeoutError):
        return _("no answer in time")
    if isinstance(error, socket.gaierror):
        return _("no machine of this name is known")
    if isinstance(error, OSError):
        return system_reason(error)
    return _("the connection was lost")
