"""A service of systemd that watches drives while its user is logged in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault import services
from encvault.services import Change, TextFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "encvault-usb-watch.service"
_SYSTEMCTL = ("systemctl", "--user")


def service_text(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The text of the unit; systemd.service(5), systemd.exec(5).

    Args:
        command: what watches, and its arguments.
        environment: variables that it needs.

    Raises:
        InvalidRequest: a word cannot stand in a unit.
    """
    set_variables = "".join(
        f"Environment={services.quoted(f'{name}={value}')}\n" for name, value in environment.items()
    )
    return f"""\
[Unit]
Description=encvault: watch removable drives

[Service]
ExecStart={services.command_line(command)}
{set_variables}# without udev (69) or with a broken configuration (78) it would only fail again
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=69 78
SuccessExitStatus=130 143
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def install_service(text: str, folder: str) -> str:
    """Write the unit, durable on return, and have systemd begin it; its path.

    Args:
        text: see `unit`.
        folder: of the user's units.

    Raises:
        EncvaultError: it cannot be written.
        ServiceNotBegun: it is written, and systemd does not answer.
    """
    path = os.path.join(folder, NAME)
    after = (
        (*_SYSTEMCTL, "daemon-reload"),
        (*_SYSTEMCTL, "enable", NAME),
        # one that runs already, with other commands, has to begin anew
        (*_SYSTEMCTL, "restart", NAME),
    )
    services.carry_out(Change(files=(TextFile(path, text),), after=after))
    return path


def uninstall_service(folder: str) -> str | None:
    """End the service and remove its unit; the path of the unit, or None if there is none.

    Raises:
        EncvaultError: it cannot be removed.
        ServiceNotEnded: it is removed, and systemd goes on with it.
    """
    gone = services.existing([os.path.join(folder, NAME)])
    if not gone:
        return None
    services.carry_out(
        Change(
            before=((*_SYSTEMCTL, "disable", "--now", NAME),),
            gone=tuple(gone),
            after=((*_SYSTEMCTL, "daemon-reload"),),
        )
    )
    return gone[0].path
